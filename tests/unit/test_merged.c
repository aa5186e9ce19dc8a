/* SPDX-License-Identifier: MIT */
/* Merges that are not written: what a student gets of them is, bit by bit, what it gets
 * of the cache that the merge would have made. */
#include "cache_fixture.h"

#include "kd/labels.h"
#include "kd/merge.h"
#include "kd/merged.h"
#include "kd/thread.h"

#include <math.h>

/* Waiting for the disk is for power cuts, which are not tested here. */
int fsync(int fd)
{
    (void)fd;
    return 0;
}

#define CLASSES  36
#define SAMPLES  60
#define VIEWS    2
#define TEACHERS 3
#define ROWS     100

/* -- caches ------------------------------------------------------------------ */

static const struct kd_codec f16 = {.dtype = KD_F16, .k = CLASSES};
static const struct kd_codec f32 = {.dtype = KD_F32, .k = CLASSES};
static const struct kd_codec top_k = {.encoding = KD_TOP_K, .dtype = KD_F16, .k = 4};
static const struct kd_codec top_p = {
    .encoding = KD_TOP_P, .dtype = KD_F32, .k = CLASSES - 1, .mass = 0.9};
static const struct kd_codec sampled = {
    .encoding = KD_SAMPLED, .dtype = KD_F32, .k = 12};

static struct kd_identity teacher(int n, const struct kd_codec *codec)
{
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, VIEWS, KD_F16);

    of.codec = *codec;
    snprintf(of.teacher_name, sizeof of.teacher_name, "t%d", n);
    fixture_digest(&of.teacher_digest, 100 + n);
    return of;
}

/* The caches of a test, as kd-train and kd-merge name them. */
struct caches {
    const char *name; /* of the set */
    char list[3 * 8192];
    char paths[TEACHERS][8192]; /* fixture_path's own are used again */
};

static void name_caches(struct caches *caches)
{
    char name[64];
    size_t used = 0;

    for (size_t m = 0; m < TEACHERS; m++) {
        snprintf(name, sizeof name, "%s-%zu", caches->name, m);
        snprintf(caches->paths[m], sizeof caches->paths[m], "%s", fixture_path(name));
        used += (size_t)snprintf(caches->list + used, sizeof caches->list - used,
                                 "%s%s", m > 0 ? "," : "", caches->paths[m]);
    }
}

static struct caches make_caches(const char *name, const struct kd_codec *a,
                                 const struct kd_codec *b, const struct kd_codec *c)
{
    const struct kd_codec *const codecs[TEACHERS] = {a, b, c};
    struct caches caches = {.name = name};

    name_caches(&caches);
    for (int m = 0; m < TEACHERS; m++) {
        const struct kd_identity of = teacher(m, codecs[m]);
        fixture_cache(caches.paths[m], &of, m, 25);
    }
    return caches;
}

/* The first lacks nothing, the second ids from 40 on, the third 20 to 29. */
static struct caches make_gaps(const char *name, const struct kd_codec *codec)
{
    struct kd_identity of = teacher(0, codec);
    struct caches caches = {.name = name};
    char *paths[2];

    name_caches(&caches);
    fixture_cache(caches.paths[0], &of, 0, 25);
    of = teacher(1, codec);
    of.num_samples = 40;
    fixture_cache(caches.paths[1], &of, 1, 25);
    of = teacher(2, codec);
    assert_int_equal(kd_make_directory(caches.paths[2]), KD_OK);
    for (size_t i = 0; i < 2; i++)
        paths[i] = kd_cache_shard_path(caches.paths[2], i);
    fixture_shard(paths[0], &of, 2, 0, 20);
    fixture_shard(paths[1], &of, 2, 30, SAMPLES);
    assert_int_equal(kd_cache_seal(caches.paths[2], paths, 2), KD_OK);
    free(paths[0]);
    free(paths[1]);
    return caches;
}

/* -- merges ------------------------------------------------------------------ */

/* kd-merge's options for a policy, with whatever it cannot do without. */
static struct kd_merge_args args_of(enum kd_policy policy)
{
    static char weights[] = "1,2,3", accuracies[] = "0.2,0.5,0.4", slice[] = "3:17";
    static char table[] = "label,teacher\n0:5,1\n5,2\n*,3\n", *path;
    struct kd_merge_args args = {.policy = {.policy = (int)policy}};
    struct kd_policy_args *p = &args.policy;

    switch (policy) {
    case KD_POLICY_MEAN_PROB:
    case KD_POLICY_MEAN_LOGIT:
    case KD_POLICY_VOTE:
        p->weights = weights;
        break;
    case KD_POLICY_RANDOM:
        p->seed = 9;
        break;
    case KD_POLICY_ROUTE:
        free(path);
        path = kd_copy_string(fixture_path("routes.csv"));
        assert_int_equal(kd_file_write(path, table, strlen(table)), KD_OK);
        p->route = path;
        break;
    case KD_POLICY_AGREEMENT:
        p->threshold = 0.5;
        break;
    case KD_POLICY_NOISY_VOTE:
        p->noise = KD_NOISE_GNMAX;
        p->noise_scale = 1;
        p->seed = 4;
        break;
    case KD_POLICY_BEST_OVERALL:
        p->accuracies = accuracies;
        break;
    case KD_POLICY_STACKED:
    case KD_POLICY_GREEDY:
    case KD_POLICY_CLASS_WEIGHTS:
        p->holdout = slice;
        break;
    default:
        break;
    }
    return args;
}

/* What kd-merge does without options of its own. */
static enum kd_status write_merge(const struct caches *caches,
                                  const struct kd_merge_args *args, size_t left_out,
                                  const char *to)
{
    enum kd_status status = KD_EBUG;
    const char *const inputs[TEACHERS] = {caches->paths[0], caches->paths[1],
                                          caches->paths[2]};
    struct kd_merge_plan plan = {0};
    struct kd_class_maps classes = {0};
    struct kd_merge_options how = {.samples_a_shard = 8192,
                                   .encode_as_inputs = true,
                                   .codec = {.dtype = KD_F16},
                                   .history = "a test of merges"};

    KD_TRY(kd_merge_from_args(args, TEACHERS, &plan, &classes, &how));
    plan.left_out = left_out;
    KD_TRY(kd_merge_run(&plan, inputs, to, &how));
out:
    kd_merge_plan_clear(&plan);
    kd_class_maps_clear(&classes);
    return status;
}

/* -- a student's view of both --------------------------------------------------- */

static struct kd_dataset_facts data_facts(void)
{
    struct kd_dataset_facts facts = {.name = "npy:x.npy",
                                     .type = KD_U8,
                                     .total = SAMPLES,
                                     .end = SAMPLES,
                                     .num_classes = CLASSES};

    fixture_digest(&facts.class_map_digest, 1);
    fixture_digest(&facts.digest, 2);
    return facts;
}

static struct kd_labels *open_labels(const char *where,
                                     const struct kd_labels_want *want)
{
    struct kd_labels *labels = NULL;

    if (kd_labels_open(where, want, &labels) != KD_OK)
        fail_msg("%s", kd_error());
    return labels;
}

/* What a student reads: some rows twice, none in order. */
struct read {
    float p[ROWS * CLASSES], tail[ROWS];
    bool found[ROWS];
    enum kd_status status;
    char error[512];
};

static uint64_t id_of(size_t i)
{
    return i * 37 % SAMPLES;
}

static void read_all(const struct kd_labels *labels, size_t which, double scale,
                     struct read *to)
{
    uint64_t ids[ROWS];
    uint32_t views[ROWS];

    for (size_t i = 0; i < ROWS; i++) {
        ids[i] = id_of(i);
        views[i] = (uint32_t)(i * 5 / 3 % VIEWS);
    }
    *to = (struct read){.error = ""};
    to->status = kd_labels_read(
        labels,
        &(struct kd_labels_rows){
            .count = ROWS, .id = ids, .view = views, .scale = scale, .cache = which},
        &(struct kd_soft){.p = to->p, .tail = to->tail, .found = to->found});
    if (to->status != KD_OK)
        snprintf(to->error, sizeof to->error, "%s", kd_error());
}

/* How many rows were found. */
static size_t assert_same(const struct kd_labels *written,
                          const struct kd_labels *merged, size_t which, double scale)
{
    static struct read a, b;
    size_t found = 0;

    read_all(written, 0, scale, &a);
    read_all(merged, which, scale, &b);
    if (a.status != KD_OK || b.status != KD_OK)
        fail_msg("'%s', '%s'", a.error, b.error);
    assert_memory_equal(a.found, b.found, sizeof a.found);
    assert_memory_equal(a.p, b.p, sizeof a.p);
    assert_memory_equal(a.tail, b.tail, sizeof a.tail);
    for (size_t i = 0; i < ROWS; i++)
        found += a.found[i];
    return found;
}

/* Merges both ways, and compares; how many rows were there. */
static size_t check_same(const struct caches *caches, const struct kd_merge_args *args,
                         struct kd_labels_want want)
{
    const struct kd_dataset_facts facts = data_facts();
    const char *name = kd_policy_names[args->policy.policy];
    const char *to = fixture_path("written");
    struct kd_digest written_digest, merged_digest;
    size_t found = 0;

    want.data = &facts;
    if (write_merge(caches, args, 0, to) != KD_OK)
        fail_msg("%s, %s: %s", caches->name, name, kd_error());
    struct kd_labels *written = open_labels(to, &want);
    want.merge = args;
    struct kd_labels *merged = open_labels(caches->list, &want);
    assert_int_equal(kd_labels_count(merged), 1);
    assert_int_equal(kd_identity_digest(kd_labels_identity(written), &written_digest),
                     KD_OK);
    assert_int_equal(kd_identity_digest(kd_labels_identity(merged), &merged_digest),
                     KD_OK);
    assert_true(kd_digest_equal(&written_digest, &merged_digest));
    found = assert_same(written, merged, 0, 1);
    kd_labels_close(written);
    kd_labels_close(merged);
    fixture_remove(to);
    return found;
}

static void check_policies(const struct caches *caches)
{
    const struct kd_labels_want want = {.temperature = 4, .tail = KD_TAIL_BUCKET};

    for (int i = 0; kd_policy_names[i] != NULL; i++) {
        const struct kd_merge_args args = args_of((enum kd_policy)i);
        if (i != KD_POLICY_LEAVE_ONE_OUT)
            assert_int_equal(check_same(caches, &args, want), ROWS);
    }
}

static void every_policy_is_the_written_one_on_dense_rows(void **state)
{
    const struct caches halves = make_caches("f16", &f16, &f16, &f16);
    const struct caches floats = make_caches("f32", &f32, &f32, &f32);

    (void)state;
    check_policies(&halves);
    check_policies(&floats);
}

static void every_policy_is_the_written_one_on_sparse_rows(void **state)
{
    const struct caches tops = make_caches("top-k", &top_k, &top_k, &top_k);
    const struct caches ragged = make_caches("top-p", &top_p, &top_p, &top_p);

    (void)state;
    check_policies(&tops);
    check_policies(&ragged);
}

static void encodings_that_differ_are_merged_as_dense_ones(void **state)
{
    const struct caches mixed = make_caches("mixed", &f32, &top_k, &sampled);

    (void)state;
    check_policies(&mixed);
}

static void every_rule_for_missing_rows_is_the_written_one(void **state)
{
    static const struct kd_labels_want want = {.temperature = 4,
                                               .missing = KD_MISSING_SKIP};
    const struct caches sets[] = {make_gaps("gaps", &f16), make_gaps("holes", &top_k)};
    size_t rows_of_all = 0;

    (void)state;
    for (size_t i = 0; i < ROWS; i++)
        rows_of_all += id_of(i) < 20 || (id_of(i) >= 30 && id_of(i) < 40);
    for (size_t s = 0; s < 2; s++) {
        for (int i = 0; kd_policy_names[i] != NULL; i++) {
            struct kd_merge_args args = args_of((enum kd_policy)i);
            if (i == KD_POLICY_LEAVE_ONE_OUT)
                continue;
            args.missing = KD_MERGE_MISSING_SKIP;
            assert_int_equal(check_same(&sets[s], &args, want), rows_of_all);
            args.missing = KD_MERGE_MISSING_RENORMALISE;
            if (i != KD_POLICY_ROUTE && i != KD_POLICY_CLASS_WEIGHTS &&
                i != KD_POLICY_TRIMMED_MEAN) /* two are too few for it */
                assert_int_equal(check_same(&sets[s], &args, want), ROWS);
        }
    }
}

static void calibration_is_fitted_to_the_same_numbers(void **state)
{
    const struct caches caches = make_caches("cal", &f16, &f16, &f16);
    struct kd_merge_args args = args_of(KD_POLICY_STACKED);

    (void)state;
    args.policy.calibrate = true;
    assert_int_equal(
        check_same(&caches, &args, (struct kd_labels_want){.temperature = 4}), ROWS);
}

static void logits_and_other_temperatures_are_the_written_ones(void **state)
{
    const struct caches caches = make_caches("logits", &f16, &f16, &f16);
    struct kd_merge_args args = args_of(KD_POLICY_MEAN_LOGIT);
    const struct kd_labels_want mse = {.temperature = 1, .logits = true};

    (void)state;
    assert_int_equal(check_same(&caches, &args, mse), ROWS);
    assert_int_equal(
        check_same(&caches, &args, (struct kd_labels_want){.temperature = 2.5}), ROWS);
    args.temperature = 3; /* of the merged rows */
    assert_int_equal(
        check_same(&caches, &args, (struct kd_labels_want){.temperature = 3}), ROWS);
}

static void the_clean_view_is_the_written_one(void **state)
{
    const struct caches caches = make_caches("clean", &f16, &f16, &f16);
    const struct kd_merge_args args = args_of(KD_POLICY_MEAN_PROB);
    const struct kd_labels_want want = {.temperature = 4, .clean_view = true};

    (void)state;
    assert_int_equal(check_same(&caches, &args, want), ROWS);
}

static void class_maps_are_those_of_kd_merge(void **state)
{
    const struct caches caches = make_caches("maps", &f16, &f16, &f16);
    struct kd_merge_args args = args_of(KD_POLICY_MEAN_PROB);
    char table[] = "teacher,class,to\n2,0,1\n2,1,0\n2,2,2\n2,3,3\n2,4,4\n", path[8192];

    (void)state;
    snprintf(path, sizeof path, "%s", fixture_path("classes.csv"));
    assert_int_equal(kd_file_write(path, table, strlen(table)), KD_OK);
    args.classes.table = path;
    assert_int_equal(
        check_same(&caches, &args, (struct kd_labels_want){.temperature = 4}), ROWS);
}

static void leave_one_out_is_a_cache_for_each_teacher_in_turn(void **state)
{
    const struct kd_dataset_facts facts = data_facts();
    const struct caches caches = make_caches("loo", &f16, &f16, &f16);
    const struct kd_merge_args args = args_of(KD_POLICY_LEAVE_ONE_OUT);
    struct kd_labels_want want = {.data = &facts, .temperature = 4};

    (void)state;
    want.merge = &args;
    struct kd_labels *merged = open_labels(caches.list, &want);
    assert_int_equal(kd_labels_count(merged), TEACHERS);
    want.merge = NULL;
    for (size_t m = 0; m < TEACHERS; m++) {
        const char *to = fixture_path("without");
        assert_int_equal(write_merge(&caches, &args, m, to), KD_OK);
        struct kd_labels *written = open_labels(to, &want);
        assert_int_equal(assert_same(written, merged, m, 1), ROWS);
        kd_labels_close(written);
        fixture_remove(to);
    }
    kd_labels_close(merged);
}

/* More rows than one thread takes, of more values than a batch has. */
static void threads_do_not_matter(void **state)
{
    const struct kd_dataset_facts facts = data_facts();
    const struct caches caches = make_caches("threads", &top_k, &f16, &f16);
    const struct kd_merge_args args = args_of(KD_POLICY_MEAN_PROB);
    const struct kd_labels_want want = {
        .data = &facts, .temperature = 4, .merge = &args};
    static struct read one, three;
    struct kd_labels *labels = open_labels(caches.list, &want);

    (void)state;
    read_all(labels, 0, 1, &one);
    kd_threads_set(3);
    read_all(labels, 0, 1, &three);
    kd_threads_set(1);
    assert_memory_equal(&one, &three, sizeof one);
    kd_labels_ahead(labels, 10, 55); /* hints change nothing */
    kd_labels_behind(labels, 0, 20);
    read_all(labels, 0, 1, &three);
    assert_memory_equal(&one, &three, sizeof one);
    kd_labels_close(labels);
}

static void a_merge_says_what_it_is_of(void **state)
{
    const struct kd_dataset_facts facts = data_facts();
    const struct caches caches = make_caches("says", &f16, &f16, &f16);
    struct kd_merge_args args = args_of(KD_POLICY_VOTE);
    const struct kd_labels_want want = {
        .data = &facts, .temperature = 4, .merge = &args};
    char *vote = NULL, *mean = NULL, weights[] = "3,2,1";
    struct kd_labels *labels = open_labels(caches.list, &want);

    (void)state;
    assert_true(kd_labels_last(labels));
    assert_int_equal(kd_labels_describe(labels, &vote), KD_OK);
    assert_non_null(strstr(vote, " by vote weights=0.16666666666666666,"));
    assert_int_equal(strlen(strrchr(vote, ' ')), 1 + 3 * 32 + 2); /* the teachers' */
    kd_labels_close(labels);
    args.policy.weights = weights;
    labels = open_labels(caches.list, &want);
    assert_int_equal(kd_labels_describe(labels, &mean), KD_OK);
    assert_string_not_equal(vote, mean);
    kd_labels_close(labels);
    free(vote);
    free(mean);
}

/* A teacher whose shards come through a pipe. */
static void a_pipe_is_read_to_its_end(void **state)
{
    const struct kd_dataset_facts facts = data_facts();
    const struct caches caches = make_caches("pipe", &f16, &f16, &f16);
    struct kd_merge_args args = args_of(KD_POLICY_MEAN_PROB);
    struct kd_labels_want want = {.data = &facts, .temperature = 4, .merge = &args};
    struct kd_labels *labels = NULL, *from_pipe = NULL;
    char *list = NULL;
    int ends[2];

    (void)state;
    labels = open_labels(caches.list, &want);
    assert_int_equal(pipe(ends), 0);
    for (uint64_t i = 0; i < 3; i++) {
        char *path = kd_cache_shard_path(caches.paths[2], i);
        dprintf(ends[1], "%s\n", path);
        free(path);
    }
    close(ends[1]);
    list = kd_format("%s,%s,/dev/fd/%d", caches.paths[0], caches.paths[1], ends[0]);
    from_pipe = open_labels(list, &want);
    assert_false(kd_labels_last(from_pipe));
    assert_int_equal(assert_same(labels, from_pipe, 0, 1), ROWS);
    kd_labels_close(from_pipe);
    kd_labels_close(labels);
    free(list);
    close(ends[0]);
}

/* -- what is refused ---------------------------------------------------------- */

static void assert_refused(const char *list, const struct kd_merge_args *args,
                           enum kd_status status, const char *words)
{
    const struct kd_dataset_facts facts = data_facts();
    const struct kd_labels_want want = {
        .data = &facts, .temperature = 4, .merge = args};
    struct kd_labels *labels = NULL;

    assert_int_equal(kd_labels_open(list, &want, &labels), status);
    assert_null(labels);
    assert_says(words);
}

static void what_kd_merge_refuses_is_refused(void **state)
{
    struct caches caches = make_caches("no", &f16, &f16, &f16);
    struct kd_merge_args args = args_of(KD_POLICY_MEAN_PROB);
    struct kd_identity other = teacher(7, &f16);
    char *list = NULL;

    (void)state;
    list = kd_format("%s,%s,%s", caches.paths[0], caches.paths[1], fixture_path("odd"));
    other.seed = 1;
    fixture_cache(fixture_path("odd"), &other, 7, 60);
    assert_refused(list, &args, KD_EDATA, "cannot be merged with");
    assert_says("seed");
    fixture_remove(fixture_path("odd"));
    other = teacher(7, &f16);
    other.temperature = 2;
    fixture_cache(fixture_path("odd"), &other, 7, 60);
    assert_refused(list, &args, KD_EDATA, "give --merge-temperature T");
    args.policy.calibrate = true;
    assert_refused(caches.list, &args, KD_EUSAGE, "--merge-holdout");
    args = args_of(KD_POLICY_ROUTE);
    args.missing = KD_MERGE_MISSING_RENORMALISE;
    assert_refused(caches.list, &args, KD_EUSAGE, "use --merge-missing error");
    args = args_of(KD_POLICY_MEAN_PROB);
    args.policy.trim = 1;
    assert_refused(caches.list, &args, KD_EUSAGE, "--trim");
    assert_refused("-,-", &args, KD_EUSAGE, "");
    free(list);
}

static void gaps_are_refused_unless_there_is_a_rule(void **state)
{
    struct kd_merge_args args = args_of(KD_POLICY_MEAN_PROB);
    const struct caches hole = make_gaps("hole", &f16);

    (void)state;
    assert_refused(hole.list, &args, KD_EDATA, "hole-1");
    args.missing = KD_MERGE_MISSING_SKIP;
    /* the student's own rule is another one */
    assert_refused(hole.list, &args, KD_EDATA, "covers ids 0 to 39");
    assert_says("--missing hard-label or skip");
}

static void a_hole_within_is_counted(void **state)
{
    struct kd_merge_args args = args_of(KD_POLICY_MEAN_PROB);
    const struct caches gaps = make_gaps("within", &f16);
    struct kd_merged *merged = NULL;

    (void)state;
    args.missing = KD_MERGE_MISSING_SKIP;
    assert_int_equal(kd_merged_open(gaps.list, &args, 0, &merged), KD_OK);
    assert_int_equal(kd_merged_whole(merged), KD_EDATA);
    assert_says("20 of 80 rows are missing, the first of them sample 20, view 0");
    kd_merged_close(merged);
    args.missing = KD_MERGE_MISSING_RENORMALISE;
    assert_int_equal(kd_merged_open(gaps.list, &args, 0, &merged), KD_OK);
    assert_int_equal(kd_merged_whole(merged), KD_OK);
    kd_merged_close(merged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_policy_is_the_written_one_on_dense_rows),
        cmocka_unit_test(every_policy_is_the_written_one_on_sparse_rows),
        cmocka_unit_test(encodings_that_differ_are_merged_as_dense_ones),
        cmocka_unit_test(every_rule_for_missing_rows_is_the_written_one),
        cmocka_unit_test(calibration_is_fitted_to_the_same_numbers),
        cmocka_unit_test(logits_and_other_temperatures_are_the_written_ones),
        cmocka_unit_test(the_clean_view_is_the_written_one),
        cmocka_unit_test(class_maps_are_those_of_kd_merge),
        cmocka_unit_test(leave_one_out_is_a_cache_for_each_teacher_in_turn),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(a_merge_says_what_it_is_of),
        cmocka_unit_test(a_pipe_is_read_to_its_end),
        cmocka_unit_test(what_kd_merge_refuses_is_refused),
        cmocka_unit_test(gaps_are_refused_unless_there_is_a_rule),
        cmocka_unit_test(a_hole_within_is_counted),
    };

    kd_threads_set(1);
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
