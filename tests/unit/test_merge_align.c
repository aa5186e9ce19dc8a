/* SPDX-License-Identifier: MIT */
/* Teachers that do not line up: other temperatures, other classes, missing rows. */
#include "cache_fixture.h"

#include "kd/merge.h"
#include "kd/thread.h"

#include <float.h>
#include <math.h>

#define CLASSES 10

static enum kd_status merge_as(struct kd_merge_plan plan,
                               struct kd_merge_options options, size_t teachers,
                               const char *const *inputs, const char *to)
{
    plan.teachers = teachers;
    options.samples_a_shard = 16;
    options.codec.dtype = KD_F32;
    options.history = "a test of merging";
    return kd_merge_run(&plan, inputs, to, &options);
}

static struct kd_identity identity_of(int teacher)
{
    struct kd_identity of = fixture_identity(CLASSES, 50, 2, KD_F32);

    of.first_id = 10;
    snprintf(of.teacher_name, sizeof of.teacher_name, "t%d", teacher);
    fixture_digest(&of.teacher_digest, 100 + teacher);
    return of;
}

static const char *make(const char *name, int teacher, const struct kd_identity *of,
                        uint64_t size)
{
    fixture_cache(fixture_path(name), of, teacher, size);
    return fixture_path(name);
}

/* softmax of a teacher's stored row over t: its own temperature is 1. */
static void teacher_row(int teacher, uint64_t id, uint32_t view, size_t classes,
                        double t, double *p)
{
    float u[64];
    double sum = 0;

    fixture_row(teacher, id, view, classes, u);
    for (size_t c = 0; c < classes; c++)
        sum += exp((double)u[c] / t);
    for (size_t c = 0; c < classes; c++)
        p[c] = exp((double)u[c] / t) / sum;
}

static struct kd_cache *open_cache(const char *where)
{
    struct kd_cache *cache = NULL;

    assert_int_equal(kd_cache_open(where, &cache), KD_OK);
    assert_int_equal(kd_cache_whole(cache), KD_OK);
    return cache;
}

/* The row (id, view) of a merged cache is `due` [classes]. */
static void check_row(const char *where, uint64_t id, uint32_t view, size_t classes,
                      const double *due)
{
    struct kd_cache *cache = open_cache(where);
    float values[64], log_z = 0;

    assert_int_equal(kd_cache_identity(cache)->num_classes, classes);
    assert_int_equal(kd_cache_read(cache, &id, &view, 1, values, &log_z), KD_OK);
    for (size_t c = 0; c < classes; c++)
        assert_true(fabs(exp((double)values[c] - (double)log_z) - due[c]) < 1e-5);
    kd_cache_close(cache);
}

/* -- temperatures -------------------------------------------------------------- */

static void temperatures_are_converted(void **state)
{
    struct kd_identity warm = identity_of(1), cool = identity_of(2);
    const struct kd_merge_plan plan = {.policy = KD_POLICY_MEAN_PROB};
    const char *inputs[2];
    double p[2][CLASSES], due[CLASSES];

    (void)state;
    cool.temperature = 1;
    cool.value_kind = KD_VALUE_LOGPROBS;
    inputs[0] = make("ta", 1, &warm, 20); /* at 4 */
    inputs[1] = make("tb", 2, &cool, 50); /* at 1 */
    assert_int_equal(
        merge_as(plan, (struct kd_merge_options){0}, 2, inputs, fixture_path("t")),
        KD_EDATA);
    assert_says("tb: cannot be merged with ");
    assert_says("temperature is 1, not 4: give --temperature T");

    assert_int_equal(merge_as(plan, (struct kd_merge_options){.temperature = 2}, 2,
                              inputs, fixture_path("t")),
                     KD_OK);
    teacher_row(1, 33, 1, CLASSES, 0.5, p[0]);
    teacher_row(2, 33, 1, CLASSES, 2, p[1]);
    for (size_t c = 0; c < CLASSES; c++)
        due[c] = (p[0][c] + p[1][c]) / 2;
    check_row(fixture_path("t"), 33, 1, CLASSES, due);
    struct kd_cache *cache = open_cache(fixture_path("t"));
    assert_true(kd_cache_identity(cache)->temperature == 2);
    kd_cache_close(cache);

    /* what was pooled stays as it is */
    inputs[0] = fixture_path("t");
    assert_int_equal(merge_as(plan, (struct kd_merge_options){.temperature = 4}, 2,
                              inputs, fixture_path("tt")),
                     KD_EDATA);
    assert_says("merged as probabilities");
    assert_int_equal(merge_as(plan, (struct kd_merge_options){.temperature = 2}, 2,
                              inputs, fixture_path("tt")),
                     KD_OK);
}

static void sparse_rows_have_some_temperatures(void **state)
{
    struct kd_identity of = identity_of(1);
    const struct kd_merge_plan plan = {.policy = KD_POLICY_MEAN_PROB};
    const char *inputs[1];
    double due[CLASSES], tail = 0;
    float u[CLASSES];

    (void)state;
    of.codec = (struct kd_codec){
        .encoding = KD_TOP_K, .dtype = KD_F32, .k = 4, .also_temperatures = "1,8"};
    inputs[0] = make("sa", 1, &of, 20);
    assert_int_equal(merge_as(plan, (struct kd_merge_options){.temperature = 2}, 1,
                              inputs, fixture_path("s")),
                     KD_EDATA);
    assert_says("sa: soft labels at temperature 2 are wanted");
    assert_says("--also-temperature 2");
    assert_int_equal(merge_as(plan, (struct kd_merge_options){.temperature = 8}, 1,
                              inputs, fixture_path("s")),
                     KD_OK);
    fixture_row(1, 33, 1, CLASSES, u);
    teacher_row(1, 33, 1, CLASSES, 2, due);
    bool kept[CLASSES];
    for (size_t c = 0; c < CLASSES; c++) {
        size_t before = 0;
        for (size_t d = 0; d < CLASSES; d++)
            before += u[d] > u[c];
        kept[c] = before < 4;
        tail += kept[c] ? 0 : due[c];
    }
    for (size_t c = 0; c < CLASSES; c++)
        due[c] = kept[c] ? due[c] : tail / 6;
    check_row(fixture_path("s"), 33, 1, CLASSES, due);
}

/* -- classes ------------------------------------------------------------------- */

static const char *write_text(const char *name, const char *text)
{
    assert_int_equal(kd_file_write(fixture_path(name), text, strlen(text)), KD_OK);
    return fixture_path(name);
}

static void completion_follows_the_rule(void **state)
{
    /* teacher 0 knows all of 4 classes, teacher 1 the last two, 3 to 1 */
    const bool last_two[4] = {false, false, true, true};
    const bool *known[2] = {NULL, last_two};
    float a[4], b[4];
    float *values[2] = {a, b};
    const double p[4] = {0.1, 0.3, 0.2, 0.4}, w[2] = {0.25, 0.75};
    static const double due[4] = {0.1, 0.3, 0.45, 0.15};
    float row_max[2] = {0, 0}, log_z[2] = {0, 0};

    (void)state;
    for (size_t c = 0; c < 4; c++) {
        a[c] = (float)log(p[c]);
        b[c] = -FLT_MAX;
    }
    b[2] = (float)log(0.75);
    b[3] = (float)log(0.25);
    assert_int_equal(kd_class_maps_complete(2, 4, known, w, values, row_max, log_z),
                     KD_OK);
    for (size_t c = 0; c < 4; c++) {
        assert_true(fabs(exp((double)a[c] - (double)log_z[0]) - p[c]) < 1e-6);
        assert_true(fabs(exp((double)b[c] - (double)log_z[1]) - due[c]) < 1e-6);
        assert_true(fabs((double)row_max[1] - log(0.45)) <
                    1e-6); /* the greatest log p */
    }
}

/* Who have no class in common keep what an even distribution gives them; who have
 * are linked by it: {0, 1} says 1 to 3, {1, 2} says 1 to 1. */
static void specialists_are_linked_by_what_they_share(void **state)
{
    const bool sets[2][2][4] = {{{1, 1, 0, 0}, {0, 0, 1, 1}},
                                {{1, 1, 0, 0}, {0, 1, 1, 0}}};
    static const double due[2][4] = {{0.125, 0.375, 0.25, 0.25},
                                     {1.0 / 7, 3.0 / 7, 3.0 / 7, 0}};
    const double w[2] = {0.5, 0.5};

    (void)state;
    for (int i = 0; i < 2; i++) {
        const bool *known[2] = {sets[i][0], sets[i][1]};
        float rows[2][4], row_max[2] = {0}, log_z[2] = {0};
        float *values[2] = {rows[0], rows[1]};

        for (size_t c = 0; c < 4; c++) {
            rows[0][c] = c == 0   ? (float)log(0.25)
                         : c == 1 ? (float)log(0.75)
                                  : -FLT_MAX;
            rows[1][c] = known[1][c] ? (float)log(0.5) : -FLT_MAX;
        }
        assert_int_equal(kd_class_maps_complete(2, 4, known, w, values, row_max, log_z),
                         KD_OK);
        for (size_t m = 0; m < 2; m++)
            for (size_t c = 0; c < 4; c++)
                assert_true(fabs(exp((double)rows[m][c] - (double)log_z[m]) -
                                 due[i][c]) < 1e-6);
    }
}

/* Teacher 1 knows all 10 classes, teacher 2 has three of its own: its first two are
 * class 4, its last is class 9. */
static void tables_map_classes(void **state)
{
    struct kd_identity three = identity_of(2), ten = identity_of(1);
    struct kd_class_maps maps;
    struct kd_merge_options options = {.classes = &maps};
    const struct kd_merge_plan plan = {.policy = KD_POLICY_MEAN_PROB,
                                       .weights = {1, 3}};
    struct kd_class_map_args args = {0};
    const char *inputs[2];
    double p[2][CLASSES];

    (void)state;
    three.num_classes = three.codec.k = 3;
    fixture_digest(&three.class_map_digest, 9);
    inputs[0] = make("ma", 1, &ten, 20);
    inputs[1] = make("mb", 2, &three, 50);
    args.table = (char *)(uintptr_t)write_text(
        "map.csv", "teacher,class,to\n2,0,4\n# both\n2,1,4\r\n2,2,9\n");
    assert_int_equal(kd_class_maps_load(&args, 2, &maps), KD_OK);

    /* its labels are those of three classes, which nobody else has */
    assert_int_equal(merge_as(plan, options, 2, inputs, fixture_path("m")), KD_EDATA);
    assert_says("they are not of the same data");

    for (uint64_t id = 0; id < 3; id++) { /* whose labels are 0 in both */
        struct kd_identity one = identity_of(1), other = three;

        one.first_id = other.first_id = id * 30;
        one.num_samples = other.num_samples = 1;
        const char *names[3][3] = {
            {"m0", "n0", "o0"}, {"m1", "n1", "o1"}, {"m2", "n2", "o2"}};
        inputs[0] = make(names[id][0], 1, &one, 50);
        inputs[1] = make(names[id][1], 2, &other, 50);
        assert_int_equal(merge_as(plan, options, 2, inputs, fixture_path(names[id][2])),
                         KD_OK);
        teacher_row(1, id * 30, 1, CLASSES, 1, p[0]);
        teacher_row(2, id * 30, 1, 3, 1, p[1]);
        const double mass = p[0][4] + p[0][9];
        p[0][4] = p[0][4] / 4 + 0.75 * mass * (p[1][0] + p[1][1]);
        p[0][9] = p[0][9] / 4 + 0.75 * mass * p[1][2];
        check_row(fixture_path(names[id][2]), id * 30, 1, CLASSES, p[0]);
    }
    struct kd_merge_plan logits = {.policy = KD_POLICY_MEAN_LOGIT};
    assert_int_equal(merge_as(logits, options, 2, inputs, fixture_path("no")),
                     KD_EDATA);
    assert_says("mean-logit needs the logits of each");
    kd_class_maps_clear(&maps);
}

/* The classes of a teacher in another order, by name. */
static void names_map_classes(void **state)
{
    static const char forward[] = "ant\nbee\ncat\ndog\nemu\nfox\ngnu\nhen\nibis\njay\n";
    static const char backward[] = "jay\nibis\nhen\ngnu\nfox\nemu\ndog\ncat\nbee\nant";
    struct kd_identity one = identity_of(1), two = identity_of(2);
    struct kd_class_maps maps;
    struct kd_merge_options options = {.classes = &maps};
    const struct kd_merge_plan plan = {.policy = KD_POLICY_MEAN_LOGIT};
    struct kd_class_map_args args = {0};
    const char *inputs[2];
    double p[CLASSES], sum = 0;
    float u[2][CLASSES];

    (void)state;
    args.names = (char *)(uintptr_t)write_text("forward", forward);
    args.sources = kd_format("%s,%s", args.names, write_text("backward", backward));
    assert_int_equal(kd_class_maps_load(&args, 2, &maps), KD_OK);
    inputs[0] = make("na", 1, &one, 20);
    inputs[1] = make("nb", 2, &two, 50);
    assert_int_equal(merge_as(plan, options, 2, inputs, fixture_path("n")), KD_EDATA);
    assert_says("na: its 10 classes (digest 00000000) are not those of its file");

    one.class_map_digest = maps.of[0].names;
    two.class_map_digest = maps.of[1].names;
    assert_true(kd_digest_equal(&maps.digest, &maps.of[0].names));
    inputs[0] = make("nc", 1, &one, 20);
    inputs[1] = make("nd", 2, &two, 50);
    assert_int_equal(merge_as(plan, options, 2, inputs, fixture_path("n")), KD_OK);
    fixture_row(1, 20, 1, CLASSES, u[0]);
    fixture_row(2, 20, 1, CLASSES, u[1]);
    for (size_t c = 0; c < CLASSES; c++) {
        p[c] = exp(((double)u[0][c] + (double)u[1][9 - c]) / 2);
        sum += p[c];
    }
    for (size_t c = 0; c < CLASSES; c++)
        p[c] /= sum;
    check_row(fixture_path("n"), 20, 1, CLASSES, p);
    struct kd_cache *cache = open_cache(fixture_path("n"));
    assert_true(strstr(kd_cache_identity(cache)->policy_parameters, " class-map=") !=
                NULL);
    assert_true(
        kd_digest_equal(&kd_cache_identity(cache)->class_map_digest, &maps.digest));
    kd_cache_close(cache);
    free(args.sources);
    kd_class_maps_clear(&maps);
}

static void check_table(const char *text, const char *words)
{
    struct kd_class_map_args args = {0};
    struct kd_class_maps maps;

    args.table = (char *)(uintptr_t)write_text("bad.csv", text);
    assert_int_equal(kd_class_maps_load(&args, 2, &maps), KD_EDATA);
    assert_says("bad.csv");
    assert_says(words);
}

static void bad_tables_are_named(void **state)
{
    struct kd_class_map_args args = {0};
    struct kd_class_maps maps;

    (void)state;
    check_table("", "is empty");
    check_table("class,to\n", "line 1: must begin with a line teacher,class,to");
    check_table("teacher,class,to\n\n3,0,0\n", "line 3: '3' is no teacher");
    check_table("teacher,class,to\n1,0\n", "line 2: '1,0' is no teacher, class");
    check_table("teacher,class,to\n1,x,0\n", "'x' is no number of a class");
    check_table("teacher,class,to\n1,0,cat\n", "'cat' is none of the merged classes");
    check_table("teacher,class,to\n1,2,0\n1,2,1\n", "class 2 of teacher 1 is there");
    args.sources = (char *)(uintptr_t) "a,b";
    assert_int_equal(kd_class_maps_load(&args, 2, &maps), KD_EUSAGE);
    assert_says("--classes");
    args.names = (char *)(uintptr_t)write_text("twice", "ant\nbee\nant\n");
    assert_int_equal(kd_class_maps_load(&args, 2, &maps), KD_EDATA);
    assert_says("the class 'ant' is there twice");
}

/* -- missing rows -------------------------------------------------------------- */

static void missing_rows_are_left_to_the_others(void **state)
{
    struct kd_identity one = identity_of(1), two = identity_of(2),
                       three = identity_of(3);
    const struct kd_merge_plan plan = {.policy = KD_POLICY_MEAN_PROB,
                                       .weights = {1, 2, 1}};
    struct kd_merge_options options = {.missing = KD_MERGE_MISSING_RENORMALISE};
    const char *inputs[3] = {NULL};
    double p[3][CLASSES], due[CLASSES];

    (void)state;
    two.first_id = 30; /* to 49 */
    two.num_samples = 20;
    three.num_samples = 60; /* to 69 */
    inputs[0] = make("xa", 1, &one, 20);
    inputs[1] = make("xb", 2, &two, 7);
    inputs[2] = make("xc", 3, &three, 9);
    assert_int_equal(
        merge_as(plan, (struct kd_merge_options){0}, 3, inputs, fixture_path("x")),
        KD_EDATA);
    assert_says("xb: cannot be merged with ");
    assert_says("first_id is 30, not 10");
    assert_int_equal(merge_as(plan, options, 3, inputs, fixture_path("x")), KD_OK);
    for (int m = 0; m < 3; m++)
        teacher_row(m + 1, 40, 1, CLASSES, 1, p[m]);
    for (size_t c = 0; c < CLASSES; c++)
        due[c] = p[0][c] / 4 + p[1][c] / 2 + p[2][c] / 4;
    check_row(fixture_path("x"), 40, 1, CLASSES, due);
    teacher_row(1, 20, 1, CLASSES, 1, p[0]);
    teacher_row(3, 20, 1, CLASSES, 1, p[2]);
    for (size_t c = 0; c < CLASSES; c++)
        due[c] = p[0][c] / 2 + p[2][c] / 2;
    check_row(fixture_path("x"), 20, 1, CLASSES, due);
    teacher_row(3, 65, 0, CLASSES, 1, p[2]);
    check_row(fixture_path("x"), 65, 0, CLASSES, p[2]);
    struct kd_cache *cache = open_cache(fixture_path("x"));
    assert_int_equal(kd_cache_identity(cache)->first_id, 10);
    assert_int_equal(kd_cache_identity(cache)->num_samples, 60);
    assert_string_equal(kd_cache_identity(cache)->policy_parameters,
                        "weights=0.25,0.5,0.25 missing=renorm");
    kd_cache_close(cache);

    /* nobody has 60 to 69 */
    assert_int_equal(merge_as(plan, options, 2, inputs, fixture_path("x2")), KD_OK);
    inputs[0] = make("xd", 1, &two, 7);
    one.first_id = 60;
    one.num_samples = 5;
    inputs[1] = make("xe", 2, &one, 7);
    assert_int_equal(merge_as(plan, options, 2, inputs, fixture_path("x3")), KD_EDATA);
    assert_says("sample 50, view 0: no teacher has it");
    assert_int_equal(access(fixture_path("x3/shard-000000.h5"), F_OK), -1);
}

static void assert_same_shards(const char *a, const char *b)
{
    for (uint64_t i = 0; i < 4; i++) {
        char *x = kd_cache_shard_path(a, i), *y = kd_cache_shard_path(b, i);

        assert_same_file(x, y);
        free(x);
        free(y);
    }
}

/* All of it at once, however rows are cut and threaded. */
static void bytes_do_not_depend_on_the_way(void **state)
{
    struct kd_identity one = identity_of(1), two = identity_of(2);
    struct kd_class_map_args args = {0};
    struct kd_class_maps maps;
    struct kd_merge_options options = {
        .missing = KD_MERGE_MISSING_RENORMALISE, .temperature = 2, .classes = &maps};
    struct kd_merge_plan plan = {
        .policy = KD_POLICY_STACKED, .holdout_begin = 20, .holdout_end = 30};
    const char *coarse[2], *fine[2];

    (void)state;
    args.table = (char *)(uintptr_t)write_text(
        "b.csv", "teacher,class,to\n2,3,0\n2,0,1\n2,7,2\n2,8,2\n");
    assert_int_equal(kd_class_maps_load(&args, 2, &maps), KD_OK);
    two.num_samples = 25;
    coarse[0] = make("ba", 1, &one, 20);
    coarse[1] = make("bb", 2, &two, 50);
    fine[0] = make("bc", 1, &one, 1);
    fine[1] = make("bd", 2, &two, 7);
    assert_int_equal(merge_as(plan, options, 2, coarse, fixture_path("b1")), KD_OK);
    kd_threads_set(3);
    assert_int_equal(merge_as(plan, options, 2, fine, fixture_path("b2")), KD_OK);
    kd_threads_set(1);
    assert_same_shards(fixture_path("b1"), fixture_path("b2"));

    plan = (struct kd_merge_plan){.policy = KD_POLICY_NOISY_VOTE,
                                  .noise = {KD_NOISE_GNMAX, .scale = 2}};
    assert_int_equal(merge_as(plan, options, 2, coarse, fixture_path("b3")), KD_EDATA);
    assert_says("each teacher of a noisy-vote must vote by itself");
    kd_class_maps_clear(&maps);
}

/* A cache of some stretches of ids, a shard each. */
static const char *make_parts(const char *name, int teacher,
                              const struct kd_identity *of, size_t count,
                              const uint64_t parts[][2])
{
    char *paths[8];

    assert_int_equal(kd_make_directory(fixture_path(name)), KD_OK);
    for (size_t i = 0; i < count; i++) {
        paths[i] = kd_cache_shard_path(fixture_path(name), i);
        fixture_shard(paths[i], of, teacher, parts[i][0], parts[i][1]);
    }
    assert_int_equal(kd_cache_seal(fixture_path(name), paths, count), KD_OK);
    for (size_t i = 0; i < count; i++)
        free(paths[i]);
    return fixture_path(name);
}

static bool has_row(const struct kd_cache *cache, uint64_t id, uint32_t view)
{
    const struct kd_shard *shard = NULL;
    uint64_t row = 0;

    return kd_cache_find(cache, id, view, &shard, &row);
}

static void missing_rows_are_skipped(void **state)
{
    static const uint64_t parts[3][2] = {{10, 16}, {32, 40}, {44, 70}};
    struct kd_identity one = identity_of(1), two = identity_of(2);
    const struct kd_merge_plan plan = {.policy = KD_POLICY_MEAN_PROB};
    const struct kd_merge_options options = {.missing = KD_MERGE_MISSING_SKIP};
    const char *inputs[2] = {make("za", 1, &one, 20), NULL}; /* 10 to 59 */
    struct kd_cache *cache = NULL;
    double p[2][CLASSES];
    float values[CLASSES], log_z = 0;
    const uint64_t id = 47;
    const uint32_t view = 1;

    (void)state;
    two.num_samples = 60;
    inputs[1] = make_parts("zb", 2, &two, 3, parts);
    for (int again = 0; again < 3; again++) {
        assert_int_equal(merge_as(plan, options, 2, inputs, fixture_path("z")), KD_OK);
        assert_int_equal(kd_cache_open(fixture_path("z"), &cache), KD_OK);
        assert_int_equal(kd_cache_rows(cache), 2 * (6 + 8 + 16));
        for (uint64_t i = 0; i < 80; i++)
            for (uint32_t v = 0; v < 2; v++)
                assert_int_equal(has_row(cache, i, v), (i >= 10 && i < 16) ||
                                                           (i >= 32 && i < 40) ||
                                                           (i >= 44 && i < 60));
        assert_int_equal(kd_cache_read(cache, &id, &view, 1, values, &log_z), KD_OK);
        kd_cache_close(cache);
        if (again == 1) /* a finished one is left alone; one that lost a shard is not */
            assert_int_equal(remove(fixture_path("z/shard-000002.h5")), 0);
    }
    teacher_row(1, id, view, CLASSES, 1, p[0]);
    teacher_row(2, id, view, CLASSES, 1, p[1]);
    for (size_t c = 0; c < CLASSES; c++)
        assert_true(fabs(exp((double)values[c] - (double)log_z) -
                         (p[0][c] + p[1][c]) / 2) < 1e-5);
    assert_int_equal(access(fixture_path("z/shard-000001.h5"), F_OK), -1);

    two.first_id = 60;
    inputs[1] = make("zc", 2, &two, 20);
    assert_int_equal(merge_as(plan, options, 2, inputs, fixture_path("z2")), KD_EDATA);
    assert_says("no sample is in all caches");
}

/* The same of sparse rows, of a shard that is lost, whatever the policy. */
static void every_policy_can_do_with_fewer(void **state)
{
    struct kd_identity of[3] = {identity_of(1), identity_of(2), identity_of(3)};
    struct kd_merge_options options = {.missing = KD_MERGE_MISSING_RENORMALISE};
    const char *inputs[3], *whole[3] = {"ya", "yb", "yc"};

    (void)state;
    for (int sparse = 0; sparse < 2; sparse++) {
        for (int m = 0; m < 3; m++) {
            if (sparse)
                of[m].codec =
                    (struct kd_codec){.encoding = KD_TOP_K, .dtype = KD_F32, .k = 4};
            if (m == 1)
                of[m].num_samples = 17;
            fixture_remove(fixture_path(whole[m]));
            inputs[m] = make(whole[m], m + 1, &of[m], 20);
        }
        for (int policy = 0; kd_policy_names[policy] != NULL; policy++) {
            struct kd_merge_plan plan = {.policy = (enum kd_policy)policy};
            char name[64];

            plan.teachers = 3;
            if (policy == KD_POLICY_ROUTE || policy == KD_POLICY_NOISY_VOTE)
                continue;
            if (policy == KD_POLICY_AGREEMENT)
                plan.threshold = 1;
            plan.left_out = policy == KD_POLICY_LEAVE_ONE_OUT ? 2 : 0;
            plan.accuracy[1] = policy == KD_POLICY_BEST_OVERALL ? 1 : 0;
            plan.weights[0] = plan.weights[1] = plan.weights[2] = 0;
            if (kd_merge_plan_needs_fit(&plan)) {
                plan.holdout_begin = 10;
                plan.holdout_end = 20;
            }
            snprintf(name, sizeof name, "y%d-%s", sparse, kd_policy_names[policy]);
            const enum kd_status status =
                merge_as(plan, options, 3, inputs, fixture_path(name));
            if (policy == KD_POLICY_CLASS_WEIGHTS) {
                assert_int_equal(status, KD_EUSAGE);
                assert_says("class-weights has a place for every teacher");
            } else if (policy == KD_POLICY_TRIMMED_MEAN) {
                assert_int_equal(status, KD_EDATA);
                assert_says("sample 27, view 0: 2 teachers have it, too few");
            } else {
                assert_int_equal(status, KD_OK);
                kd_cache_close(open_cache(fixture_path(name)));
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(temperatures_are_converted),
        cmocka_unit_test(sparse_rows_have_some_temperatures),
        cmocka_unit_test(completion_follows_the_rule),
        cmocka_unit_test(specialists_are_linked_by_what_they_share),
        cmocka_unit_test(tables_map_classes),
        cmocka_unit_test(names_map_classes),
        cmocka_unit_test(bad_tables_are_named),
        cmocka_unit_test(missing_rows_are_left_to_the_others),
        cmocka_unit_test(bytes_do_not_depend_on_the_way),
        cmocka_unit_test(missing_rows_are_skipped),
        cmocka_unit_test(every_policy_can_do_with_fewer),
    };

    kd_threads_set(1);
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
