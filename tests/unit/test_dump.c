/* SPDX-License-Identifier: MIT */
/* Dumps: the right rows in the right shards, again and again the same, and never half
 * of one. */
#include "teach_fixture.h"

#include "kd/dump.h"
#include "kd/half.h"
#include "kd/progress.h"
#include "kd/thread.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>

static const char small[] = "{family: mlp, hidden: [16]}";

#define SAMPLES 29

/* Paths as they were reported. */
struct reported {
    size_t count;
    char path[64][8192];
};

static enum kd_status report(void *context, const char *path)
{
    struct reported *reported = context;

    assert_true(reported->count < 64);
    assert_int_equal(access(path, F_OK), 0);
    snprintf(reported->path[reported->count++], sizeof reported->path[0], "%s", path);
    return KD_OK;
}

static struct reported reported; /* of the last dump */

static struct kd_dump_options plain_options(void)
{
    reported.count = 0;
    return (struct kd_dump_options){.temperature = 4,
                                    .codec = {.dtype = KD_F32},
                                    .samples_a_shard = 8,
                                    .views = 1,
                                    .history = "a test",
                                    .finished = report,
                                    .context = &reported};
}

static struct kd_dump_options view_options(uint32_t first, uint32_t views)
{
    struct kd_dump_options options = plain_options();

    assert_int_equal(kd_view_parse("crop2,flip", 11, &options.augment), KD_OK);
    options.first_view = first;
    options.views = views;
    return options;
}

static const char *images(const char *slice)
{
    static char name[20000];

    snprintf(name, sizeof name, "%s%s", fixture_images("images", SAMPLES, 1), slice);
    return name;
}

static enum kd_status dump(const char *model, const char *data_name,
                           const char *directory, const struct kd_dump_options *options)
{
    struct kd_teacher *teacher = NULL;
    struct kd_dataset *data = NULL;
    enum kd_status status = KD_EBUG;

    if (kd_teacher_open(model, &teacher) != KD_OK ||
        kd_dataset_open(data_name, &data) != KD_OK)
        fail_msg("%s", kd_error());
    status = kd_dump_run(data, teacher, fixture_path(directory), options);
    kd_dataset_close(data);
    kd_teacher_close(teacher);
    return status;
}

static void assert_dumps(const char *model, const char *data, const char *directory,
                         const struct kd_dump_options *options)
{
    if (dump(model, data, directory, options) != KD_OK)
        fail_msg("%s", kd_error());
}

/* DIRECTORY/NAME in the test's own directory. */
static const char *inside(const char *directory, const char *name)
{
    char both[512];

    snprintf(both, sizeof both, "%s/%s", directory, name);
    return fixture_path(both);
}

static ino_t inode(const char *path)
{
    struct stat facts;

    assert_int_equal(stat(path, &facts), 0);
    return facts.st_ino;
}

/* -- what is in it ---------------------------------------------------------- */

/* z/T of one row by another way: one view drawn, normalised and run alone. */
static void reference_row(struct kd_teacher *teacher, const struct kd_dataset *data,
                          const struct kd_dump_options *options, uint64_t id,
                          uint32_t view, double row[FIXTURE_CLASSES])
{
    uint8_t pixels[FIXTURE_SAMPLE], drawn[FIXTURE_SAMPLE];
    float input[FIXTURE_SAMPLE], logits[FIXTURE_CLASSES];

    assert_int_equal(kd_dataset_read(data, id, pixels, NULL), KD_OK);
    kd_view_draw(&options->augment, kd_dataset_facts(data)->shape, KD_U8, id, view,
                 pixels, drawn);
    fixture_input(drawn, input);
    assert_int_equal(kd_teacher_run(teacher, input, 1, logits), KD_OK);
    for (size_t c = 0; c < FIXTURE_CLASSES; c++)
        row[c] = (double)logits[c] / options->temperature;
}

static void compare_row(const struct kd_cache *cache, uint64_t id, uint32_t view,
                        const double *wanted, double tolerance)
{
    float values[FIXTURE_CLASSES], log_z = 0;
    const struct kd_shard *shard = NULL;
    uint64_t row = 0;
    double sum = 0;

    if (!kd_cache_find(cache, id, view, &shard, &row))
        fail_msg("sample %d, view %d is missing", (int)id, (int)view);
    assert_int_equal(kd_shard_label(shard, row), fixture_label(id, FIXTURE_CLASSES));
    assert_int_equal(kd_cache_read(cache, &id, &view, 1, values, &log_z), KD_OK);
    for (size_t c = 0; c < FIXTURE_CLASSES; c++) {
        const double max = (double)kd_shard_row_max(shard, row);

        assert_true(fabs((double)values[c] + max - wanted[c]) < tolerance);
        sum += exp(wanted[c] - max);
    }
    assert_true(fabs((double)log_z - log(sum)) < 1e-5);
}

/* Every row that is promised, against the reference. */
static void check_rows(const char *model, const char *data_name, const char *directory,
                       const struct kd_dump_options *options, double tolerance)
{
    struct kd_teacher *teacher = NULL;
    struct kd_dataset *data = NULL;
    struct kd_cache *cache = NULL;
    double row[FIXTURE_CLASSES];

    assert_int_equal(kd_teacher_open(model, &teacher), KD_OK);
    assert_int_equal(kd_dataset_open(data_name, &data), KD_OK);
    assert_int_equal(kd_cache_open(fixture_path(directory), &cache), KD_OK);
    assert_int_equal(kd_cache_whole(cache), KD_OK);
    for (uint64_t id = kd_dataset_facts(data)->first; id < kd_dataset_facts(data)->end;
         id++) {
        for (uint32_t v = 0; v < options->views; v++) {
            reference_row(teacher, data, options, id, options->first_view + v, row);
            compare_row(cache, id, options->first_view + v, row, tolerance);
        }
    }
    kd_cache_close(cache);
    kd_dataset_close(data);
    kd_teacher_close(teacher);
}

static void rows_are_the_teachers_logits_over_the_temperature(void **state)
{
    const char *model = fixture_model("rows.h5", small, FIXTURE_CLASSES, 1);
    struct kd_dump_options options = plain_options();

    (void)state;
    assert_dumps(model, images(""), "rows", &options);
    check_rows(model, images(""), "rows", &options, 1e-5);
    options.codec.dtype = KD_F16;
    assert_dumps(model, images(""), "rows-f16", &options);
    check_rows(model, images(""), "rows-f16", &options, 2e-3);
}

/* 29 samples in 12 views do not fit one batch, nor shards a number of batches. */
static void drawn_views_are_those_of_the_generator(void **state)
{
    const char *model = fixture_model("views.h5", small, FIXTURE_CLASSES, 2);
    struct kd_dump_options options = view_options(1, 12);

    (void)state;
    options.samples_a_shard = 27;
    assert_dumps(model, images(""), "views", &options);
    check_rows(model, images(""), "views", &options, 1e-5);
    options = view_options(0, 3);
    assert_dumps(model, images(""), "views-clean", &options);
    check_rows(model, images(""), "views-clean", &options, 1e-5);
}

static void convolutional_teachers_are_dumped_alike(void **state)
{
    const char *model = fixture_model("conv.h5", "plain2", FIXTURE_CLASSES, 2);
    struct kd_dump_options options = view_options(1, 2);

    (void)state;
    assert_dumps(model, images("@0:9"), "conv", &options);
    check_rows(model, images("@0:9"), "conv", &options, 1e-4);
}

static void check_shard(const char *name, uint64_t first, uint64_t last)
{
    struct kd_shard *shard = NULL;

    assert_int_equal(kd_shard_open(inside("slice", name), &shard), KD_OK);
    assert_int_equal(kd_shard_ids(shard)[0], first);
    assert_int_equal(kd_shard_ids(shard)[kd_shard_rows(shard) - 1], last);
    kd_shard_close(shard);
}

static void shards_hold_the_ids_of_their_number_and_come_in_order(void **state)
{
    struct kd_dump_options options = plain_options();

    (void)state;
    assert_dumps(fixture_model("slice.h5", small, FIXTURE_CLASSES, 1), images("@11:26"),
                 "slice", &options);
    assert_int_equal(reported.count, 3);
    assert_string_equal(reported.path[0], inside("slice", "shard-000001.h5"));
    assert_string_equal(reported.path[2], inside("slice", "shard-000003.h5"));
    check_shard("shard-000001.h5", 11, 15);
    check_shard("shard-000002.h5", 16, 23);
    check_shard("shard-000003.h5", 24, 25);
    assert_int_not_equal(access(inside("slice", "shard-000000.h5"), F_OK), 0);
}

static void a_cache_says_who_made_it_of_what(void **state)
{
    const char *model = fixture_model("who.h5", small, FIXTURE_CLASSES, 1);
    struct kd_dump_options options = view_options(1, 2);
    const struct kd_identity *of = NULL;
    struct kd_dataset *data = NULL;
    struct kd_cache *cache = NULL;
    struct kd_digest digest;

    (void)state;
    assert_dumps(model, images("@8:20"), "who", &options);
    assert_int_equal(kd_cache_open(fixture_path("who"), &cache), KD_OK);
    of = kd_cache_identity(cache);
    assert_string_equal(of->teacher_name, "who.h5");
    assert_string_equal(of->augment, "crop2,flip");
    assert_int_equal(of->seed, 11);
    assert_string_equal(of->normalize, "mean=0.4,0.5,0.6 deviation=0.25,0.3,0.2");
    assert_string_equal(of->bn_mode, "eval");
    assert_int_equal(of->first_id, 8);
    assert_int_equal(of->num_samples, 12);
    assert_int_equal(of->num_classes, FIXTURE_CLASSES);
    assert_int_equal(kd_hash_file(fixture_path("who.h5"), &digest, NULL), KD_OK);
    assert_string_equal(of->teacher_digest.hex, digest.hex);
    assert_int_equal(kd_dataset_open(images(""), &data), KD_OK);
    assert_string_equal(of->dataset_digest.hex, kd_dataset_facts(data)->digest.hex);
    assert_string_equal(of->class_map_digest.hex,
                        kd_dataset_facts(data)->class_map_digest.hex);
    kd_dataset_close(data);
    kd_cache_close(cache);
}

static void assert_named(const char *cache_name, const char *name)
{
    struct kd_cache *cache = NULL;

    assert_int_equal(kd_cache_open(fixture_path(cache_name), &cache), KD_OK);
    assert_string_equal(kd_cache_identity(cache)->teacher_name, name);
    kd_cache_close(cache);
}

static void the_network_of_a_directory_is_named_by_it(void **state)
{
    struct kd_dump_options options = plain_options();
    char *teacher = NULL, moved[8192];

    (void)state;
    assert_int_equal(mkdir(fixture_path("teacher-a"), 0777), 0);
    fixture_model("teacher-a/model.h5", small, FIXTURE_CLASSES, 1);
    teacher = kd_format("model:%s/.", fixture_path("teacher-a"));
    assert_non_null(teacher);
    assert_dumps(teacher, images(""), "by-a", &options);
    free(teacher);
    assert_named("by-a", "teacher-a");

    /* Under another name it is the same teacher, and the cache is gone on with. */
    snprintf(moved, sizeof moved, "%s", fixture_path("teacher-b"));
    assert_int_equal(rename(fixture_path("teacher-a"), moved), 0);
    assert_int_equal(unlink(inside("by-a", "shard-000000.h5")), 0);
    teacher = kd_format("model:%s/model.h5", moved);
    assert_non_null(teacher);
    assert_dumps(teacher, images(""), "by-a", &options);
    assert_named("by-a", "teacher-a");
    assert_dumps(teacher, images(""), "by-b", &options);
    assert_named("by-b", "teacher-b");
    free(teacher);
}

static void names_that_no_attribute_can_hold_are_made_fit(void **state)
{
    struct kd_dump_options options = plain_options();
    struct kd_cache *cache = NULL;

    (void)state;
    assert_dumps(fixture_model("l\xc3\xa4mpel.h5", small, FIXTURE_CLASSES, 1),
                 images("@0:3"), "named", &options);
    assert_int_equal(kd_cache_open(fixture_path("named"), &cache), KD_OK);
    assert_string_equal(kd_cache_identity(cache)->teacher_name, "l??mpel.h5");
    kd_cache_close(cache);
}

/* Nothing is drawn, so the seed is no fact of the cache. */
static void without_views_the_seed_does_not_matter(void **state)
{
    const char *model = fixture_model("seed.h5", small, FIXTURE_CLASSES, 1);
    struct kd_dump_options options = plain_options();

    (void)state;
    assert_dumps(model, images("@0:3"), "seed", &options);
    options.augment.seed = 99;
    assert_dumps(model, images("@0:3"), "seed", &options);
}

/* -- again ------------------------------------------------------------------ */

static const char *const files[] = {"shard-000000.h5", "shard-000001.h5",
                                    "shard-000002.h5", "shard-000003.h5", "cache.json"};

static void assert_same_cache(const char *a, const char *b)
{
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        assert_same_file(inside(a, files[i]), inside(b, files[i]));
}

static void the_same_dump_gives_the_same_bytes(void **state)
{
    const char *model = fixture_model("same.h5", "resnet8", FIXTURE_CLASSES, 1);
    struct kd_dump_options options = view_options(1, 3);

    (void)state;
    assert_dumps(model, images(""), "same-a", &options);
    assert_dumps(model, images(""), "same-b", &options);
    assert_same_cache("same-a", "same-b");
}

static void a_missing_shard_alone_is_made_again(void **state)
{
    const char *model = fixture_model("again.h5", small, FIXTURE_CLASSES, 1);
    struct kd_dump_options options = view_options(0, 2);
    ino_t before[5];

    (void)state;
    assert_dumps(model, images(""), "again", &options);
    assert_dumps(model, images(""), "again-whole", &options);
    for (size_t i = 0; i < 5; i++)
        before[i] = inode(inside("again", files[i]));
    /* The unlinked file stays open, so that its inode is not given out again. */
    FILE *held = fopen(inside("again", files[1]), "rb");
    assert_non_null(held);
    assert_int_equal(unlink(inside("again", files[1])), 0);
    reported.count = 0;
    assert_dumps(model, images(""), "again", &options);
    fclose(held);
    assert_int_equal(reported.count, 4);
    assert_string_equal(reported.path[1], inside("again", files[1]));
    for (size_t i = 0; i < 4; i++)
        assert_true((inode(inside("again", files[i])) == before[i]) == (i != 1));
    assert_same_cache("again", "again-whole");
}

static void a_finished_dump_is_left_as_it_is(void **state)
{
    const char *model = fixture_model("done.h5", small, FIXTURE_CLASSES, 1);
    struct kd_dump_options options = plain_options();
    ino_t before[5];

    (void)state;
    assert_dumps(model, images(""), "done", &options);
    for (size_t i = 0; i < 5; i++)
        before[i] = inode(inside("done", files[i]));
    reported.count = 0;
    assert_dumps(model, images(""), "done", &options);
    assert_int_equal(reported.count, 4);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(inode(inside("done", files[i])), before[i]);
}

static void what_a_killed_run_left_is_written_over(void **state)
{
    const char *model = fixture_model("part.h5", small, FIXTURE_CLASSES, 1);
    struct kd_dump_options options = plain_options();

    (void)state;
    assert_int_equal(kd_make_directory(fixture_path("part")), KD_OK);
    assert_int_equal(
        kd_file_write(inside("part", "shard-000001.h5.part"), "rubbish", 7), KD_OK);
    assert_dumps(model, images(""), "part", &options);
    assert_int_not_equal(access(inside("part", "shard-000001.h5.part"), F_OK), 0);
    assert_dumps(model, images(""), "part-clean", &options);
    assert_same_cache("part", "part-clean");
}

/* -- refusals --------------------------------------------------------------- */

static void assert_refused(const char *model, const char *data, const char *directory,
                           const struct kd_dump_options *options, enum kd_status status,
                           const char *words)
{
    reported.count = 0;
    assert_int_equal(dump(model, data, directory, options), status);
    assert_int_equal(reported.count, 0);
    assert_says(words);
}

static void another_dump_in_the_directory_is_refused(void **state)
{
    const char *model = fixture_model("mine.h5", small, FIXTURE_CLASSES, 1);
    const char *theirs = fixture_model("theirs.h5", small, FIXTURE_CLASSES, 2);
    struct kd_dump_options options = plain_options();

    (void)state;
    assert_dumps(model, images(""), "mine", &options);
    assert_int_equal(unlink(inside("mine", "shard-000000.h5")), 0);
    options.temperature = 2;
    assert_refused(model, images(""), "mine", &options, KD_EDATA,
                   "shard-000001.h5: temperature is 4, not 2; choose another directory "
                   "or remove it");
    options = plain_options();
    options.codec.dtype = KD_F16;
    assert_refused(model, images(""), "mine", &options, KD_EDATA, "dtype is float32");
    options = plain_options();
    assert_refused(theirs, images(""), "mine", &options, KD_EDATA, "'theirs.h5'");
    assert_refused(model, images("@1:29"), "mine", &options, KD_EDATA, "first_id");
    options.samples_a_shard = 16;
    assert_refused(model, images(""), "mine", &options, KD_EDATA,
                   "has 8 rows of samples 8 to 15, not 13 of 16 to 28; choose another "
                   "directory, or as many samples a shard as before");
    assert_int_not_equal(access(inside("mine", "shard-000000.h5"), F_OK), 0);
}

static void a_damaged_shard_is_refused_with_the_remedy(void **state)
{
    const char *model = fixture_model("hurt.h5", small, FIXTURE_CLASSES, 1);
    struct kd_dump_options options = plain_options();

    (void)state;
    assert_dumps(model, images(""), "hurt", &options);
    assert_int_equal(truncate(inside("hurt", "shard-000002.h5"), 3000), 0);
    assert_refused(model, images(""), "hurt", &options, KD_EDATA, "shard-000002.h5");
    assert_says("remove it to have it made again");
    assert_int_equal(unlink(inside("hurt", "shard-000002.h5")), 0);
    assert_dumps(model, images(""), "hurt", &options);
}

/* Of the same identity and with the same ends, but without sample 3. */
static void a_shard_with_a_hole_is_refused(void **state)
{
    const char *model = fixture_model("hole.h5", small, FIXTURE_CLASSES, 1);
    struct kd_dump_options options = plain_options();
    struct kd_shard_writer *writer = NULL;
    struct kd_shard *shard = NULL;
    struct kd_identity of;

    (void)state;
    assert_dumps(model, images(""), "hole", &options);
    assert_int_equal(kd_shard_open(inside("hole", "shard-000000.h5"), &shard), KD_OK);
    of = *kd_shard_identity(shard);
    kd_shard_close(shard);
    assert_int_equal(kd_shard_writer_open(inside("hole", "shard-000000.h5"), &of, 7,
                                          "a test", &writer),
                     KD_OK);
    assert_int_equal(fixture_add(writer, &of, 1, 0, 3, 3), KD_OK);
    assert_int_equal(fixture_add(writer, &of, 1, 4, 8, 4), KD_OK);
    assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
    assert_refused(model, images(""), "hole", &options, KD_EDATA,
                   "shard-000000.h5: has 7 rows of samples 0 to 7, not 8 of 0 to 7");
}

static void options_that_make_no_sense_are_refused(void **state)
{
    const char *model = fixture_model("sense.h5", small, FIXTURE_CLASSES, 1);
    struct kd_dump_options options = plain_options();

    (void)state;
    options.views = 2;
    assert_refused(model, images(""), "sense", &options, KD_EUSAGE, "all views");
    options = plain_options();
    options.first_view = 1;
    assert_refused(model, images(""), "sense", &options, KD_EUSAGE, "all views");
    options = plain_options();
    options.samples_a_shard = 0;
    assert_refused(model, images(""), "sense", &options, KD_EUSAGE, "1 sample");
    options = plain_options();
    options.temperature = 0;
    assert_refused(model, images(""), "sense", &options, KD_EDATA, "temperature is 0");
    assert_int_not_equal(access(fixture_path("sense"), F_OK), 0);
}

static void samples_that_do_not_fit_are_refused_before_anything_is_made(void **state)
{
    struct kd_dump_options options = plain_options();

    (void)state;
    assert_refused(fixture_model("seven.h5", small, 7, 1), images(""), "seven",
                   &options, KD_EDATA, "seven.h5: has 7 classes");
    assert_int_not_equal(access(fixture_path("seven"), F_OK), 0);
}

/* A teacher that has the labels' classes cannot have others. */
static void rows_of_other_classes_have_no_labels(void **state)
{
    struct kd_dump_options options = plain_options();
    const char *seven = fixture_model("seven.h5", small, 7, 1);
    struct kd_cache *cache = NULL;

    (void)state;
    options.other_classes = true;
    assert_dumps(seven, images(""), "other", &options);
    assert_int_equal(kd_cache_open(fixture_path("other"), &cache), KD_OK);
    assert_true(kd_cache_rows(cache) > 0);
    assert_int_equal(kd_cache_identity(cache)->num_classes, 7);
    for (size_t s = 0; s < kd_cache_num_shards(cache); s++) {
        const struct kd_shard *shard = kd_cache_shard(cache, s);

        for (uint64_t row = 0; row < kd_shard_rows(shard); row++)
            assert_int_equal(kd_shard_label(shard, row), -1);
    }
    kd_cache_close(cache);
    assert_refused(fixture_model("same.h5", small, FIXTURE_CLASSES, 1), images(""),
                   "same", &options, KD_EUSAGE,
                   "--other-classes: same.h5 has those of");
}

static void logits_that_are_not_finite_are_refused_by_sample_and_class(void **state)
{
    struct kd_network *network = fixture_build(small, FIXTURE_CLASSES, 1, 1);
    struct kd_dump_options options = plain_options();
    char model[8192];

    (void)state;
    for (size_t i = 0; i < kd_graph_num_parameters(network->graph); i++) {
        struct kd_parameter *p = kd_graph_parameter(network->graph, i);
        for (size_t k = 0; k < p->size && p->trained; k++)
            p->value[k] *= 1e30F;
    }
    kd_graph_parameters_changed(network->graph);
    fixture_save(network, fixture_path("wild.h5"));
    kd_network_free(network);
    snprintf(model, sizeof model, "model:%s", fixture_path("wild.h5"));
    assert_refused(model, images("@16:29"), "wild", &options, KD_EDATA,
                   "shard-000002.h5: sample 16, view 0: the logit of class ");
    assert_int_not_equal(access(inside("wild", "shard-000002.h5"), F_OK), 0);
    assert_int_not_equal(access(inside("wild", "shard-000002.h5.part"), F_OK), 0);
    assert_int_not_equal(access(inside("wild", "cache.json"), F_OK), 0);
}

/* -- interruption ----------------------------------------------------------- */

static enum kd_status ask_to_stop(void *context, const char *path)
{
    (void)context;
    (void)path;
    return raise(SIGTERM) == 0 ? KD_OK : KD_EBUG;
}

/* What this program does when it is run as "test_dump interrupted MODEL DATA DIR": a
 * signal cannot be taken back, so it comes in a process of its own. */
static int dump_until_signal(char **argv)
{
    struct kd_dump_options options = plain_options();
    struct kd_teacher *teacher = NULL;
    struct kd_dataset *data = NULL;
    enum kd_status status = KD_EBUG;

    kd_catch_signals();
    options.finished = ask_to_stop;
    KD_TRY(kd_teacher_open(argv[2], &teacher));
    KD_TRY(kd_dataset_open(argv[3], &data));
    status = kd_dump_run(data, teacher, argv[4], &options);
out:
    kd_dataset_close(data);
    kd_teacher_close(teacher);
    return (int)status;
}

static int run_interrupted(const char *model, const char *data, const char *directory)
{
    const char *const words[] = {"test_dump", "interrupted", model, data, directory};
    char *arguments[6] = {NULL};
    int status = 0;
    pid_t child = -1;

    for (size_t i = 0; i < 5; i++)
        arguments[i] = kd_copy_string(words[i]);
    child = fork();
    if (child == 0) {
        execv("/proc/self/exe", arguments);
        _exit(127);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    for (size_t i = 0; i < 5; i++)
        free(arguments[i]);
    return WEXITSTATUS(status);
}

static void an_interrupted_dump_is_gone_on_with(void **state)
{
    const char *model = fixture_model("stop.h5", small, FIXTURE_CLASSES, 1);
    struct kd_dump_options options = plain_options();
    ino_t first = 0;

    (void)state;
    assert_int_equal(run_interrupted(model, images(""), fixture_path("stop")),
                     KD_EINTERRUPTED);
    first = inode(inside("stop", "shard-000000.h5"));
    /* The batch in which a shard's path is told may be the whole next shard. */
    assert_int_not_equal(access(inside("stop", "shard-000001.h5.part"), F_OK), 0);
    assert_int_not_equal(access(inside("stop", "shard-000002.h5"), F_OK), 0);
    assert_int_not_equal(access(inside("stop", "shard-000002.h5.part"), F_OK), 0);
    assert_int_not_equal(access(inside("stop", "cache.json"), F_OK), 0);
    assert_dumps(model, images(""), "stop", &options);
    assert_int_equal(inode(inside("stop", "shard-000000.h5")), first);
    assert_dumps(model, images(""), "stop-not", &options);
    assert_same_cache("stop", "stop-not");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_the_teachers_logits_over_the_temperature),
        cmocka_unit_test(drawn_views_are_those_of_the_generator),
        cmocka_unit_test(convolutional_teachers_are_dumped_alike),
        cmocka_unit_test(shards_hold_the_ids_of_their_number_and_come_in_order),
        cmocka_unit_test(a_cache_says_who_made_it_of_what),
        cmocka_unit_test(the_network_of_a_directory_is_named_by_it),
        cmocka_unit_test(names_that_no_attribute_can_hold_are_made_fit),
        cmocka_unit_test(without_views_the_seed_does_not_matter),
        cmocka_unit_test(the_same_dump_gives_the_same_bytes),
        cmocka_unit_test(a_missing_shard_alone_is_made_again),
        cmocka_unit_test(a_finished_dump_is_left_as_it_is),
        cmocka_unit_test(what_a_killed_run_left_is_written_over),
        cmocka_unit_test(another_dump_in_the_directory_is_refused),
        cmocka_unit_test(a_damaged_shard_is_refused_with_the_remedy),
        cmocka_unit_test(a_shard_with_a_hole_is_refused),
        cmocka_unit_test(options_that_make_no_sense_are_refused),
        cmocka_unit_test(samples_that_do_not_fit_are_refused_before_anything_is_made),
        cmocka_unit_test(rows_of_other_classes_have_no_labels),
        cmocka_unit_test(logits_that_are_not_finite_are_refused_by_sample_and_class),
        cmocka_unit_test(an_interrupted_dump_is_gone_on_with),
    };

    kd_threads_set(1); /* small work: threads would wait for each other */
    if (argc == 5 && strcmp(argv[1], "interrupted") == 0)
        return dump_until_signal(argv);
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
