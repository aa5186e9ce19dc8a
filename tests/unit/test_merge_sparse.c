/* SPDX-License-Identifier: MIT */
/* Merging rows of some classes: against whole rows, within the bound that is given. */
#include "cache_fixture.h"

#include "kd/merge.h"
#include "kd/thread.h"

#include <math.h>

#define MOST 64

/* -- rows ---------------------------------------------------------------------- */

/* A row of M teachers, whole and in part. */
struct trial {
    size_t teachers, classes;
    double p[4][MOST]; /* whole */
    float scaled[4][MOST], values[4][MOST];
    uint32_t index[4][MOST];
    size_t kept[4];
    bool tops; /* the most probable classes are kept; else any */
    double weights[4];
};

static void soften(struct trial *t, size_t m, struct kd_random *r)
{
    const double sharp = kd_random_between(r, 0.2, 6);
    double sum = 0;

    for (size_t c = 0; c < t->classes; c++) {
        t->scaled[m][c] = (float)kd_random_between(r, -sharp, sharp);
        sum += exp((double)t->scaled[m][c]);
    }
    for (size_t c = 0; c < t->classes; c++)
        t->p[m][c] = exp((double)t->scaled[m][c]) / sum;
}

/* Puts the classes that are kept first: by probability, or by chance. */
static void order(struct trial *t, size_t m, struct kd_random *r)
{
    for (size_t c = 0; c < t->classes; c++)
        t->index[m][c] = (uint32_t)c;
    for (size_t i = 0; i < t->kept[m]; i++) {
        size_t best = i + (size_t)(kd_random_unit(r) * (double)(t->classes - i));

        for (size_t j = i; t->tops && j < t->classes; j++)
            if (t->p[m][t->index[m][j]] > t->p[m][t->index[m][best]])
                best = j;
        const uint32_t swap = t->index[m][i];
        t->index[m][i] = t->index[m][best];
        t->index[m][best] = swap;
    }
}

static struct trial make_trial(uint64_t number, bool tops)
{
    struct kd_random r = kd_random_at(5, KD_RANDOM_TEST, number, 0);
    struct trial t = {.tops = tops};
    double sum = 0;

    t.teachers = 1 + (size_t)(kd_random_unit(&r) * 4);
    t.classes = 2 + (size_t)(kd_random_unit(&r) * (MOST - 2));
    for (size_t m = 0; m < t.teachers; m++) {
        soften(&t, m, &r);
        t.kept[m] = 1 + (size_t)(kd_random_unit(&r) * (double)t.classes);
        if (number % 10 == 0)
            t.kept[m] = t.classes;
        order(&t, m, &r);
        t.weights[m] = kd_random_unit(&r) + 0.01;
        sum += t.weights[m];
    }
    for (size_t m = 0; m < t.teachers; m++)
        t.weights[m] /= sum;
    return t;
}

static double tail_of(const struct trial *t, size_t m)
{
    double tail = 0;

    for (size_t i = t->kept[m]; i < t->classes; i++)
        tail += t->p[m][t->index[m][i]];
    return tail;
}

static struct kd_sparse_rows rows_of(struct trial *t)
{
    struct kd_sparse_rows rows = {.classes = t->classes, .label = -1};

    for (size_t m = 0; m < t->teachers; m++) {
        double top = -INFINITY, sum = 0;

        for (size_t i = 0; i < t->kept[m]; i++)
            top = fmax(top, (double)t->scaled[m][t->index[m][i]]);
        for (size_t c = 0; c < t->classes; c++)
            sum += exp((double)t->scaled[m][c] - top);
        for (size_t i = 0; i < t->kept[m]; i++)
            t->values[m][i] = (float)((double)t->scaled[m][t->index[m][i]] - top);
        rows.teacher[m] = (struct kd_sparse_row){.size = t->kept[m],
                                                 .index = t->index[m],
                                                 .values = t->values[m],
                                                 .row_max = (float)top,
                                                 .log_z = (float)log(sum),
                                                 .log_tail = (float)log(tail_of(t, m)),
                                                 .keeps_top = t->tops};
    }
    return rows;
}

static struct kd_merge_plan plan_of(const struct trial *t, enum kd_policy policy)
{
    struct kd_merge_plan plan = {.policy = policy, .teachers = t->teachers};

    for (size_t m = 0; m < t->teachers; m++) {
        plan.weights[m] = t->weights[m];
        plan.accuracy[m] = policy == KD_POLICY_BEST_OVERALL ? t->weights[m] : 0;
    }
    if (policy == KD_POLICY_BEST_OVERALL)
        memset(plan.weights, 0, sizeof plan.weights);
    if (policy == KD_POLICY_AGREEMENT) {
        plan.threshold = 0.6;
        plan.fallback = KD_FALLBACK_UNIFORM;
    }
    plan.left_out = t->teachers - 1;
    if (policy != KD_POLICY_LEAVE_ONE_OUT)
        plan.left_out = 0;
    assert_int_equal(kd_merge_plan_check(&plan), KD_OK);
    return plan;
}

/* The merge of whole rows, of which classes outside of S are taken together. */
static void merge_whole(struct trial *t, const struct kd_merge_plan *plan,
                        const struct kd_sparse_merge *merge, double *q)
{
    struct kd_policy_row row = {
        .outcomes = t->classes, .classes = t->classes, .label = -1};
    float out[MOST], values[4][MOST];
    bool answered = false;

    for (size_t m = 0; m < t->teachers; m++) {
        double top = -INFINITY, sum = 0;

        for (size_t c = 0; c < t->classes; c++)
            top = fmax(top, (double)t->scaled[m][c]);
        for (size_t c = 0; c < t->classes; c++) {
            values[m][c] = (float)((double)t->scaled[m][c] - top);
            sum += exp((double)values[m][c]);
        }
        row.values[m] = values[m];
        row.row_max[m] = (float)top;
        row.log_z[m] = (float)log(sum);
    }
    assert_int_equal(kd_merge_row(plan, &row, out, &answered), KD_OK);
    q[merge->outcomes - 1] = 0;
    for (size_t c = 0, i = 0; c < t->classes; c++) {
        if (i + 1 < merge->outcomes && merge->class_of[i] == c)
            q[i++] = exp((double)out[c]);
        else
            q[merge->outcomes - 1] += exp((double)out[c]);
    }
}

static double distance(const double *a, const float *log_b, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += fabs(a[i] - exp((double)log_b[i]));
    return sum / 2;
}

static bool keeps(const struct trial *t, size_t m, uint32_t class)
{
    for (size_t i = 0; i < t->kept[m]; i++)
        if (t->index[m][i] == class)
            return true;
    return false;
}

/* sum_m w_m min(t_m, |S \ S_m| l_m), by its definition. */
static double bound_of(const struct trial *t, const struct kd_sparse_merge *merge,
                       const double *weights)
{
    double bound = 0;

    for (size_t m = 0; m < t->teachers; m++) {
        double least = 1, filled = 0;

        for (size_t i = 0; i + 1 < merge->outcomes; i++) {
            if (keeps(t, m, merge->class_of[i]))
                least = fmin(least, t->p[m][merge->class_of[i]]);
            else
                filled++;
        }
        bound += weights[m] * (filled > 0 ? fmin(tail_of(t, m), filled * least) : 0);
    }
    return bound;
}

/* What a teacher says of the outcomes sums to 1, and what it fills in to its tail at
 * most. */
static void check_fills(const struct trial *t, const struct kd_sparse_rows *rows,
                        const struct kd_sparse_merge *merge)
{
    for (size_t m = 0; m < t->teachers; m++) {
        double all = 0, filled = 0;

        for (size_t i = 0; i < merge->outcomes; i++) {
            const double p = exp((double)merge->values[m * merge->outcomes + i] -
                                 (double)rows->teacher[m].log_z);
            all += p;
            if (merge->class_of[i] != KD_CLASS_REST && !keeps(t, m, merge->class_of[i]))
                filled += p;
        }
        assert_true(fabs(all - 1) < 1e-5);
        assert_true(filled <= tail_of(t, m) * (1 + 1e-5));
    }
}

static void the_bound_holds(void **state)
{
    struct kd_sparse_merge merge = {0};
    double nearest = 0;
    size_t exact = 0;

    (void)state;
    for (uint64_t number = 0; number < 3000; number++) {
        struct trial t = make_trial(number, true);
        const struct kd_sparse_rows rows = rows_of(&t);
        const struct kd_merge_plan plan = plan_of(&t, KD_POLICY_MEAN_PROB);
        double q[MOST + 1];

        assert_int_equal(kd_sparse_merge_row(&merge, &plan, &rows), KD_OK);
        merge_whole(&t, &plan, &merge, q);
        const double is = distance(q, merge.merged, merge.outcomes);

        assert_true(is <= merge.bound + 1e-6);
        assert_true(fabs(merge.bound - bound_of(&t, &merge, t.weights)) < 1e-5);
        check_fills(&t, &rows, &merge);
        nearest = merge.bound > 1e-3 ? fmax(nearest, is / merge.bound) : nearest;
        if (number % 10 != 0)
            continue;
        assert_true(merge.bound == 0 && is < 1e-6); /* all supports are full */
        exact++;
    }
    assert_int_equal(exact, 300);
    assert_true(nearest > 0.4); /* it says something */
    kd_sparse_merge_clear(&merge);
}

static void any_classes_may_be_kept(void **state)
{
    struct kd_sparse_merge merge = {0};

    (void)state;
    for (uint64_t number = 0; number < 1000; number++) {
        struct trial t = make_trial(number, false);
        const struct kd_sparse_rows rows = rows_of(&t);
        const struct kd_merge_plan plan = plan_of(&t, KD_POLICY_MEAN_PROB);
        double q[MOST + 1];

        assert_int_equal(kd_sparse_merge_row(&merge, &plan, &rows), KD_OK);
        merge_whole(&t, &plan, &merge, q);
        assert_true(distance(q, merge.merged, merge.outcomes) <= merge.bound + 1e-6);
        check_fills(&t, &rows, &merge);
    }
    kd_sparse_merge_clear(&merge);
}

static void other_policies_keep_to_the_bound(void **state)
{
    static const enum kd_policy policies[] = {
        KD_POLICY_LEAVE_ONE_OUT, KD_POLICY_BEST_OVERALL, KD_POLICY_RANDOM,
        KD_POLICY_VOTE_SHARE,    KD_POLICY_AGREEMENT,    KD_POLICY_CONFIDENCE};
    struct kd_sparse_merge merge = {0};
    size_t distant = 0;

    (void)state;
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        for (uint64_t number = 1; number < 500; number++) {
            struct trial t = make_trial(number, true);
            const struct kd_sparse_rows rows = rows_of(&t);
            double q[MOST + 1];

            if (t.teachers == 1)
                continue;
            const struct kd_merge_plan plan = plan_of(&t, policies[i]);
            assert_int_equal(kd_sparse_merge_row(&merge, &plan, &rows), KD_OK);
            merge_whole(&t, &plan, &merge, q);
            const double is = distance(q, merge.merged, merge.outcomes);
            assert_true(is <= merge.bound + 1e-5);
            distant += is > 1e-3;
            if (policies[i] == KD_POLICY_VOTE_SHARE)
                assert_true(merge.bound == 0);
        }
    }
    assert_true(distant > 100);
    kd_sparse_merge_clear(&merge);
}

static void some_policies_have_no_bound(void **state)
{
    static const enum kd_policy policies[] = {KD_POLICY_MEAN_LOGIT, KD_POLICY_ENTROPY,
                                              KD_POLICY_VOTE, KD_POLICY_MEDIAN};
    struct kd_sparse_merge merge = {0};
    struct trial t = make_trial(7, true);
    struct kd_sparse_rows rows = rows_of(&t);

    (void)state;
    memset(t.weights, 0, sizeof t.weights);
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        const struct kd_merge_plan plan = plan_of(&t, policies[i]);
        assert_int_equal(kd_sparse_merge_row(&merge, &plan, &rows), KD_OK);
        assert_true(isnan(merge.bound));
    }
    struct kd_merge_plan plan = plan_of(&t, KD_POLICY_MEAN_PROB);
    plan.calibration[0] = 2;
    assert_int_equal(kd_sparse_merge_row(&merge, &plan, &rows), KD_OK);
    assert_true(isnan(merge.bound));
    plan = plan_of(&t, KD_POLICY_VOTE_SHARE);
    rows.teacher[0].keeps_top = false; /* its vote is not known */
    assert_int_equal(kd_sparse_merge_row(&merge, &plan, &rows), KD_OK);
    assert_true(isnan(merge.bound));
    kd_sparse_merge_clear(&merge);
}

/* Two teachers of one class each, as one can follow it by hand. */
static void outcomes_are_the_union(void **state)
{
    const uint32_t index[2] = {7, 3};
    const float zero = 0;
    struct kd_sparse_rows rows = {.classes = 10, .label = 5};
    struct kd_sparse_merge merge = {0};
    struct kd_merge_plan plan = {.teachers = 2};

    (void)state;
    for (size_t m = 0; m < 2; m++) /* p = 0.55 and 9 times 0.05 */
        rows.teacher[m] = (struct kd_sparse_row){.size = 1,
                                                 .index = &index[m],
                                                 .values = &zero,
                                                 .log_z = -(float)log(0.55),
                                                 .log_tail = (float)log(0.45),
                                                 .keeps_top = true};
    assert_int_equal(kd_merge_plan_check(&plan), KD_OK);
    assert_int_equal(kd_sparse_merge_row(&merge, &plan, &rows), KD_OK);
    assert_int_equal(merge.outcomes, 3);
    assert_int_equal(merge.class_of[0], 3);
    assert_int_equal(merge.class_of[1], 7);
    assert_int_equal(merge.class_of[2], KD_CLASS_REST);
    assert_true(fabs(exp((double)merge.merged[0]) - 0.3) < 1e-6);
    assert_true(fabs(exp((double)merge.merged[1]) - 0.3) < 1e-6);
    assert_true(fabs(exp((double)merge.merged[2]) - 0.4) < 1e-6);
    assert_true(fabs(merge.bound - 0.45) < 1e-6);

    rows.needs_label = true;
    rows.at_least = 6;
    assert_int_equal(kd_sparse_merge_row(&merge, &plan, &rows), KD_OK);
    assert_int_equal(merge.outcomes, 7);
    static const uint32_t due[] = {0, 1, 2, 3, 5, 7, KD_CLASS_REST};
    assert_memory_equal(merge.class_of, due, sizeof due);
    assert_true(fabs(exp((double)merge.merged[4]) - 0.05) < 1e-6);
    assert_true(fabs(exp((double)merge.merged[6]) - 0.2) < 1e-6);
    rows.at_least = 10;
    assert_int_equal(kd_sparse_merge_row(&merge, &plan, &rows), KD_OK);
    assert_int_equal(merge.outcomes, 11);
    assert_true(exp((double)merge.merged[10]) < 1e-30);
    kd_sparse_merge_clear(&merge);
}

/* -- caches -------------------------------------------------------------------- */

static const char *make_teacher(const char *name, int teacher, uint64_t size,
                                struct kd_codec codec)
{
    struct kd_identity of = fixture_identity(20, 50, 2, codec.dtype);

    of.codec = codec;
    fixture_digest(&of.teacher_digest, 100 + teacher);
    fixture_cache(fixture_path(name), &of, teacher, size);
    return fixture_path(name);
}

static const struct kd_codec top_5 = {.encoding = KD_TOP_K, .dtype = KD_F32, .k = 5};
static const struct kd_codec dense = {.encoding = KD_DENSE, .dtype = KD_F32, .k = 20};

static enum kd_status merge(enum kd_policy policy, const char *const *inputs,
                            const char *to, const struct kd_codec *codec)
{
    const struct kd_merge_plan plan = {.policy = policy, .teachers = 2};
    struct kd_merge_options options = {.samples_a_shard = 16,
                                       .codec = {.dtype = KD_F32},
                                       .encode_as_inputs = codec == NULL,
                                       .history = "a test of merging"};

    if (codec != NULL)
        options.codec = *codec;
    return kd_merge_run(&plan, inputs, to, &options);
}

static struct kd_cache *open_cache(const char *where)
{
    struct kd_cache *cache = NULL;

    assert_int_equal(kd_cache_open(where, &cache), KD_OK);
    assert_int_equal(kd_cache_whole(cache), KD_OK);
    return cache;
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

static void caches_stay_as_sparse_as_they_are(void **state)
{
    const char *inputs[2] = {make_teacher("ka", 1, 20, top_5),
                             make_teacher("kb", 2, 50, top_5)};
    const char *again[2] = {make_teacher("kc", 1, 3, top_5),
                            make_teacher("kd", 2, 7, top_5)};
    const struct kd_bound *bound = NULL;

    (void)state;
    assert_int_equal(merge(KD_POLICY_MEAN_PROB, inputs, fixture_path("k1"), NULL),
                     KD_OK);
    struct kd_cache *cache = open_cache(fixture_path("k1"));
    const struct kd_identity *of = kd_cache_identity(cache);
    assert_int_equal(of->codec.encoding, KD_TOP_K);
    assert_int_equal(of->codec.k, 5);
    bound = kd_shard_bound(kd_cache_shard(cache, 1));
    assert_non_null(bound);
    assert_true(bound->max > 0 && bound->mean > 0 && bound->mean <= bound->max);
    kd_cache_close(cache);

    kd_threads_set(3);
    assert_int_equal(merge(KD_POLICY_MEAN_PROB, again, fixture_path("k2"), NULL),
                     KD_OK);
    kd_threads_set(1);
    assert_same_shards(fixture_path("k1"), fixture_path("k2"));
    assert_int_equal(remove(fixture_path("k2/shard-000001.h5")), 0);
    assert_int_equal(merge(KD_POLICY_MEAN_PROB, again, fixture_path("k2"), NULL),
                     KD_OK);
    assert_same_shards(fixture_path("k1"), fixture_path("k2"));
}

/* The class with the greatest p that merging by hand finds, and its p. */
static void assert_merged_top(const char *where, uint64_t id, uint32_t view)
{
    struct kd_cache *cache = open_cache(where);
    double p[2][20], mean[20];
    float values[20], log_z = 0;
    size_t best = 0;

    for (int m = 0; m < 2; m++) {
        float u[20];
        double sum = 0;

        fixture_row(m + 1, id, view, 20, u);
        for (size_t c = 0; c < 20; c++)
            sum += exp((double)u[c]);
        for (size_t c = 0; c < 20; c++)
            p[m][c] = exp((double)u[c]) / sum;
    }
    for (size_t c = 0; c < 20; c++) {
        mean[c] = (p[0][c] + p[1][c]) / 2;
        best = mean[c] > mean[best] ? c : best;
    }
    assert_int_equal(kd_cache_read(cache, &id, &view, 1, values, &log_z), KD_OK);
    assert_true(fabs(exp((double)values[best] - (double)log_z) - mean[best]) < 0.01);
    kd_cache_close(cache);
}

static void every_encoding_can_be_written(void **state)
{
    const struct kd_codec codecs[] = {
        dense,
        {.encoding = KD_TOP_P, .dtype = KD_F32, .mass = 0.9},
        {.encoding = KD_TOP_K, .dtype = KD_F32, .k = 15}, /* more than are kept */
        {.encoding = KD_SAMPLED, .dtype = KD_F32, .k = 500}};
    const char *inputs[2] = {make_teacher("ea", 1, 20, top_5),
                             make_teacher("eb", 2, 50, top_5)};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        char name[16];

        snprintf(name, sizeof name, "e%zu", i);
        assert_int_equal(
            merge(KD_POLICY_MEAN_PROB, inputs, fixture_path(name), &codecs[i]), KD_OK);
        assert_merged_top(fixture_path(name), 21, 1);
    }
}

static void dense_and_sparse_can_be_mixed(void **state)
{
    const struct kd_codec sampled = {.encoding = KD_SAMPLED, .dtype = KD_F32, .k = 400};
    const char *inputs[2] = {make_teacher("ma", 1, 20, dense),
                             make_teacher("mb", 2, 50, top_5)};
    const char *others[2] = {inputs[1], make_teacher("mc", 1, 50, sampled)};

    (void)state;
    assert_int_equal(merge(KD_POLICY_MEAN_PROB, inputs, fixture_path("m1"), NULL),
                     KD_OK);
    assert_merged_top(fixture_path("m1"), 30, 0);
    struct kd_cache *cache = open_cache(fixture_path("m1"));
    assert_int_equal(kd_cache_identity(cache)->codec.encoding, KD_DENSE);
    assert_true(kd_shard_bound(kd_cache_shard(cache, 0))->max > 0);
    kd_cache_close(cache);
    assert_int_equal(merge(KD_POLICY_MEAN_PROB, others, fixture_path("m2"), &top_5),
                     KD_OK);
    assert_merged_top(fixture_path("m2"), 30, 0);
}

static void logits_keep_their_level(void **state)
{
    const struct kd_codec most = {.encoding = KD_TOP_K, .dtype = KD_F32, .k = 19};
    const char *inputs[2] = {make_teacher("la", 1, 20, most),
                             make_teacher("lb", 2, 50, most)};
    struct kd_cache *cache = NULL;
    const struct kd_shard *shard = NULL;
    float u[2][20];
    double top = -INFINITY;
    uint64_t at = 0;

    (void)state;
    assert_int_equal(merge(KD_POLICY_MEAN_LOGIT, inputs, fixture_path("l"), NULL),
                     KD_OK);
    cache = open_cache(fixture_path("l"));
    assert_int_equal(kd_cache_identity(cache)->value_kind, KD_VALUE_LOGITS);
    assert_null(kd_shard_bound(kd_cache_shard(cache, 0)));
    assert_true(kd_cache_find(cache, 12, 1, &shard, &at));
    fixture_row(1, 12, 1, 20, u[0]);
    fixture_row(2, 12, 1, 20, u[1]);
    for (size_t c = 0; c < 20; c++)
        top = fmax(top, ((double)u[0][c] + (double)u[1][c]) / 2);
    assert_true(fabs((double)kd_shard_row_max(shard, at) - top) < 1e-5);
    kd_cache_close(cache);
}

/* Every policy that can do with some classes. */
static void policies_merge_sparse_caches(void **state)
{
    const char *inputs[2] = {make_teacher("pa", 1, 20, top_5),
                             make_teacher("pb", 2, 50, top_5)};

    (void)state;
    for (int policy = 0; kd_policy_names[policy] != NULL; policy++) {
        struct kd_merge_plan plan = {.policy = (enum kd_policy)policy, .teachers = 2};
        struct kd_merge_options options = {.samples_a_shard = 64,
                                           .codec = {.dtype = KD_F16},
                                           .encode_as_inputs = true,
                                           .history = ""};
        char name[32];

        if (policy == KD_POLICY_ROUTE || policy == KD_POLICY_TRIMMED_MEAN ||
            policy == KD_POLICY_NOISY_VOTE)
            continue;
        if (policy == KD_POLICY_AGREEMENT)
            plan.threshold = 1;
        plan.weights[0] = plan.weights[1] = 0.5;
        if (kd_merge_plan_needs_fit(&plan))
            plan.holdout_end = 20;
        snprintf(name, sizeof name, "p-%s", kd_policy_names[policy]);
        assert_int_equal(kd_merge_run(&plan, inputs, fixture_path(name), &options),
                         KD_OK);
        kd_cache_close(open_cache(fixture_path(name)));
    }
}

/* As sums of evenly spread tails, which whole rows would be. */
static void calibrated_tails_are_even(void **state)
{
    float values[3] = {0, -1, -2};
    const uint32_t index[3] = {0, 1, 2};
    const double tail = exp(-2.5) * 7, sum = 1 + exp(-1) + exp(-2) + tail;
    const double hot = 1 + exp(-0.5) + exp(-1) + 7 * exp(-1.25);
    struct kd_sparse_row row = {.size = 3,
                                .index = index,
                                .values = values,
                                .row_max = 6,
                                .log_z = (float)log(sum),
                                .log_tail = (float)log(tail / sum)};

    (void)state;
    kd_sparse_calibrate(2, 10, values, &row);
    assert_true(fabs((double)values[2] + 1) < 1e-6 && row.row_max == 3);
    assert_true(fabs((double)row.log_z - log(hot)) < 1e-6);
    assert_true(fabs((double)row.log_tail - log(7 * exp(-1.25) / hot)) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bound_holds),
        cmocka_unit_test(any_classes_may_be_kept),
        cmocka_unit_test(other_policies_keep_to_the_bound),
        cmocka_unit_test(some_policies_have_no_bound),
        cmocka_unit_test(outcomes_are_the_union),
        cmocka_unit_test(caches_stay_as_sparse_as_they_are),
        cmocka_unit_test(every_encoding_can_be_written),
        cmocka_unit_test(dense_and_sparse_can_be_mixed),
        cmocka_unit_test(logits_keep_their_level),
        cmocka_unit_test(policies_merge_sparse_caches),
        cmocka_unit_test(calibrated_tails_are_even),
    };

    kd_threads_set(1);
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
