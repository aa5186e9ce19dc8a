/* SPDX-License-Identifier: MIT */
/* What every policy must stand: corner rows, rows in any order and batch, outcomes that
 * are not all classes; and the error of the single-precision mean. */
#include "policy_fixture.h"

static bool merge(const struct kd_merge_plan *plan, const struct kd_policy_row *row,
                  float *out)
{
    bool answered = false;

    assert_int_equal(kd_merge_row(plan, row, out, &answered), KD_OK);
    return answered;
}

/* Calls test(plan) with a plan of each policy over `teachers`. */
static void each_policy(size_t teachers, void (*test)(struct kd_merge_plan *plan))
{
    for (int policy = 0; kd_policy_names[policy] != NULL; policy++) {
        struct kd_merge_plan plan;

        if (policy == KD_POLICY_LEAVE_ONE_OUT && teachers < 2)
            continue;
        if (policy == KD_POLICY_TRIMMED_MEAN && teachers < 3)
            continue;
        plan = plan_of((enum kd_policy)policy, teachers);
        test(&plan);
        kd_merge_plan_clear(&plan);
    }
}

static bool is_one_hot(enum kd_policy policy)
{
    return policy == KD_POLICY_VOTE || policy == KD_POLICY_VOTE_SHARE ||
           policy == KD_POLICY_NOISY_VOTE;
}

/* Finite, and of sum 1 but for mean-logit. */
static void assert_sound(const struct kd_merge_plan *plan, const float *out)
{
    double u[C];

    for (size_t c = 0; c < C; c++) {
        if (!isfinite(out[c]))
            fail_msg("%s gives %g", kd_policy_names[plan->policy], (double)out[c]);
        u[c] = (double)out[c];
    }
    if (plan->policy != KD_POLICY_MEAN_LOGIT && fabs(log_sum_exp(u, C)) > 1e-5)
        fail_msg("%s gives rows of sum exp(%g)", kd_policy_names[plan->policy],
                 log_sum_exp(u, C));
}

/* The probabilities that out says. */
static void probabilities(const float *out, double *p)
{
    double u[C];

    for (size_t c = 0; c < C; c++)
        u[c] = (double)out[c];
    softmax(u, p);
}

static void assert_same_distribution(const struct kd_merge_plan *plan, const float *out,
                                     const double *u)
{
    double is[C], should[C];

    probabilities(out, is);
    softmax(u, should);
    for (size_t c = 0; c < C; c++)
        if (fabs(is[c] - should[c]) > 1e-6)
            fail_msg("%s: class %zu: %g, not %g", kd_policy_names[plan->policy], c,
                     is[c], should[c]);
}

/* -- corner rows --------------------------------------------------------- */

static void check_identical(struct kd_merge_plan *plan)
{
    struct teachers t = draw(4);
    struct kd_policy_row row;
    float out[C];

    for (size_t m = 1; m < M; m++)
        memcpy(t.u[m], t.u[0], sizeof t.u[0]);
    store(&t);
    row = row_of(&t);
    assert_true(merge(plan, &row, out));
    assert_sound(plan, out);
    if (!is_one_hot(plan->policy) && plan->policy != KD_POLICY_CLASS_WEIGHTS)
        assert_same_distribution(plan, out, t.u[0]);
}

static void identical_teachers_stay_as_they_are(void **state)
{
    (void)state;
    each_policy(1, check_identical);
    each_policy(2, check_identical);
    each_policy(M, check_identical);
}

static void check_ties(struct kd_merge_plan *plan)
{
    struct teachers t = {.label = 3};
    const double flat[C] = {0};
    struct kd_policy_row row;
    float out[C];

    store(&t);
    row = row_of(&t);
    assert_true(merge(plan, &row, out));
    assert_sound(plan, out);
    if (plan->policy == KD_POLICY_VOTE || plan->policy == KD_POLICY_VOTE_SHARE)
        assert_true(out[0] == 0); /* the first of equal ones */
    else if (!is_one_hot(plan->policy) && plan->policy != KD_POLICY_CLASS_WEIGHTS)
        assert_same_distribution(plan, out, flat);
}

static void rows_of_ties_are_fine(void **state)
{
    (void)state;
    each_policy(M, check_ties);
    each_policy(2, check_ties);
}

/* All teachers sure of class 2, the rest as low as half precision goes. */
static void check_one_hot(struct kd_merge_plan *plan)
{
    struct teachers t = {.label = 2};
    struct kd_policy_row row;
    float out[C];

    for (size_t m = 0; m < M; m++)
        for (size_t c = 0; c < C; c++)
            t.u[m][c] = c == 2 ? 7 : -65497;
    store(&t);
    row = row_of(&t);
    assert_true(t.values[0][0] == -65504);
    assert_true(merge(plan, &row, out));
    assert_sound(plan, out);
    for (size_t c = 0; c < C; c++)
        assert_true(c == 2 || out[c] < out[2] - 60000);
}

static void sure_teachers_stay_sure(void **state)
{
    (void)state;
    each_policy(1, check_one_hot);
    each_policy(M, check_one_hot);
}

/* Each teacher sure of another class, which is not the label. */
static void check_wrong(struct kd_merge_plan *plan)
{
    struct teachers t = {.label = 6};
    struct kd_policy_row row;
    float out[C];

    for (size_t m = 0; m < M; m++)
        for (size_t c = 0; c < C; c++)
            t.u[m][c] = c == m ? 0 : -(double)FLT_MAX;
    store(&t);
    row = row_of(&t);
    (void)merge(plan, &row, out);
    assert_sound(plan, out);
    if (plan->policy == KD_POLICY_LABEL_CONFIDENCE) /* all equally wrong */
        for (size_t m = 0; m < M; m++)
            assert_true(fabs(exp((double)out[m]) - plan->weights[m]) < 1e-6);
}

static void teachers_that_are_all_wrong_are_fine(void **state)
{
    (void)state;
    each_policy(M, check_wrong);
}

static void check_large(struct kd_merge_plan *plan)
{
    struct teachers t = draw(8);
    struct kd_policy_row row;
    float out[C];

    for (size_t m = 0; m < M; m++) {
        t.values[m][2] = m == 0 ? -FLT_MAX : -65504;
        t.row_max[m] = m == 0 ? 1e30F : -FLT_MAX;
    }
    row = row_of(&t);
    (void)merge(plan, &row, out);
    for (size_t c = 0; c < C; c++)
        assert_true(isfinite(out[c]));
}

static void levels_at_the_end_of_the_range_stay_finite(void **state)
{
    (void)state;
    each_policy(M, check_large);
}

static void check_label(struct kd_merge_plan *plan)
{
    const bool needs = plan->policy == KD_POLICY_CORRECT ||
                       plan->policy == KD_POLICY_BEST_BY_LABEL ||
                       plan->policy == KD_POLICY_LABEL_CONFIDENCE;
    struct teachers t = draw(6);
    struct kd_policy_row row;
    bool answered = false;
    float out[C];

    t.label = -1;
    t.id = 77;
    row = row_of(&t);
    assert_int_equal(kd_merge_row(plan, &row, out, &answered),
                     needs ? KD_EDATA : KD_OK);
    if (needs)
        assert_says("sample 77, view 0: it has no label");
}

static void policies_that_need_a_label_say_so(void **state)
{
    (void)state;
    each_policy(M, check_label);
}

static void a_route_that_is_not_there_is_named(void **state)
{
    struct kd_merge_plan plan = plan_of(KD_POLICY_ROUTE, M);
    struct teachers t = draw(6);
    struct kd_policy_row row;
    bool answered = false;
    float out[C];

    (void)state;
    kd_route_free(plan.route);
    assert_int_equal(
        kd_route_load(fixture_text("r.csv", "label,teacher\n0,1\n"), M, &plan.route),
        KD_OK);
    for (t.label = -1; t.label < 2; t.label++) {
        row = row_of(&t);
        assert_int_equal(kd_merge_row(&plan, &row, out, &answered),
                         t.label == 0 ? KD_OK : KD_EDATA);
    }
    assert_says("sample 6, view 0: the table of routes has no line");
    kd_merge_plan_clear(&plan);
}

/* -- logits -------------------------------------------------------------- */

static void check_shift(struct kd_merge_plan *plan)
{
    struct teachers plain = draw(2), shifted = plain;
    struct kd_policy_row a, b;
    double p[C], q[C];
    float x[C], y[C];

    for (size_t m = 0; m < M; m++)
        for (size_t c = 0; c < C; c++)
            shifted.u[m][c] += 100 * (double)(m + 1);
    store(&shifted);
    a = row_of(&plain);
    b = row_of(&shifted);
    (void)merge(plan, &a, x);
    (void)merge(plan, &b, y);
    probabilities(x, p);
    probabilities(y, q);
    for (size_t c = 0; c < C; c++)
        assert_true(fabs(p[c] - q[c]) < 1e-4);
}

static void shifting_a_teachers_logits_changes_no_probability(void **state)
{
    (void)state;
    each_policy(M, check_shift);
}

static void check_levels(struct kd_merge_plan *plan)
{
    const struct teachers t = draw(3);
    const struct kd_policy_row row = row_of(&t);
    bool level = false;
    float out[C];

    if (!kd_policy_gives_logits(plan->policy, true) ||
        plan->policy == KD_POLICY_MEAN_LOGIT)
        return;
    assert_false(kd_policy_gives_logits(plan->policy, false));
    plan->keeps_logits = true;
    (void)merge(plan, &row, out);
    for (size_t m = 0; m < M; m++)
        level |= fabs((double)out[1] - t.u[m][1]) < 1e-5;
    assert_true(level);
}

static void a_row_that_is_kept_can_keep_its_level(void **state)
{
    (void)state;
    each_policy(M, check_levels);
}

/* -- weights and batches ------------------------------------------------- */

static void check_zero(struct kd_merge_plan *plan)
{
    const double weights[M] = {1, 0, 3, 2, 0};
    const struct teachers t = draw(12);
    struct teachers without = t;
    struct kd_policy_row row;
    float out[C], again[C];

    if (plan->weights[0] == plan->weights[1]) /* it takes none */
        return;
    memcpy(plan->weights, weights, sizeof weights);
    assert_int_equal(kd_merge_plan_check(plan), KD_OK);
    row = row_of(&t);
    (void)merge(plan, &row, out);
    for (size_t c = 0; c < C; c++)
        without.values[1][c] = without.values[4][c] = c == 5 ? 0 : -65504;
    row = row_of(&without);
    if (plan->policy == KD_POLICY_CLASS_WEIGHTS)
        return;
    (void)merge(plan, &row, again);
    if (memcmp(out, again, sizeof out) != 0)
        fail_msg("%s", kd_policy_names[plan->policy]);
}

static void a_teacher_of_weight_0_does_not_count(void **state)
{
    (void)state;
    each_policy(M, check_zero);
}

enum { ROWS = 13 };

static struct {
    float values[M][ROWS * C], row_max[M][ROWS], log_z[M][ROWS];
    int32_t label[ROWS];
    uint64_t id[ROWS];
    uint32_t view[ROWS];
} batch;

static enum kd_status merge_part(const struct kd_merge_plan *plan, size_t first,
                                 size_t count, float *out, bool *answered)
{
    const float *values[M], *row_max[M], *log_z[M];

    for (size_t m = 0; m < M; m++) {
        values[m] = batch.values[m] + first * C;
        row_max[m] = batch.row_max[m] + first;
        log_z[m] = batch.log_z[m] + first;
    }
    return kd_merge_rows(plan,
                         &(struct kd_policy_rows){count, C, values, row_max, log_z,
                                                  batch.label + first, batch.id + first,
                                                  batch.view + first},
                         out + first * C, answered + first);
}

static void check_batches(struct kd_merge_plan *plan)
{
    float whole[ROWS * C], parts[ROWS * C];
    bool answered[ROWS], again[ROWS];

    assert_int_equal(merge_part(plan, 0, ROWS, whole, answered), KD_OK);
    for (size_t first = 0; first < ROWS; first += 3)
        assert_int_equal(
            merge_part(plan, first, first + 3 < ROWS ? 3 : ROWS - first, parts, again),
            KD_OK);
    assert_memory_equal(whole, parts, sizeof whole);
    assert_memory_equal(answered, again, sizeof answered);
}

static void batches_do_not_matter(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        const struct teachers t = draw(i);

        for (size_t m = 0; m < M; m++) {
            memcpy(batch.values[m] + i * C, t.values[m], sizeof t.values[m]);
            batch.row_max[m][i] = t.row_max[m];
            batch.log_z[m][i] = t.log_z[m];
        }
        batch.label[i] = t.label;
        batch.id[i] = t.id;
        batch.view[i] = t.view;
    }
    each_policy(M, check_batches);
}

/* -- outcomes ------------------------------------------------------------ */

/* The classes in another order, and a rest without mass, make no difference. */
static void check_outcomes(struct kd_merge_plan *plan)
{
    static const uint32_t class_of[C + 1] = {3, 0, 6, 2, KD_CLASS_REST, 5, 1, 4};

    if (kd_policy_needs_all_classes(plan->policy))
        return;
    for (uint64_t id = 0; id < 100; id++) {
        const struct teachers t = draw(id);
        const struct kd_policy_row dense = row_of(&t);
        struct kd_policy_row sparse = dense;
        float values[M][C + 1], out[C], other[C + 1];
        const bool answered = merge(plan, &dense, out);

        sparse.outcomes = C + 1;
        sparse.class_of = class_of;
        for (size_t m = 0; m < M; m++) {
            for (size_t c = 0; c < C + 1; c++)
                values[m][c] =
                    class_of[c] == KD_CLASS_REST ? -FLT_MAX : t.values[m][class_of[c]];
            sparse.values[m] = values[m];
        }
        assert_int_equal(merge(plan, &sparse, other), answered);
        for (size_t c = 0; c < C + 1; c++)
            if (class_of[c] == KD_CLASS_REST)
                assert_true(plan->policy == KD_POLICY_MEAN_LOGIT || other[c] < -1e30F);
            else if (fabsf(other[c] - out[class_of[c]]) > 1e-5F)
                fail_msg("%s: %g, not %g", kd_policy_names[plan->policy],
                         (double)other[c], (double)out[class_of[c]]);
    }
}

static void the_order_of_outcomes_does_not_matter(void **state)
{
    (void)state;
    each_policy(M, check_outcomes);
}

/* With classes 4 to 6 in the rest, mean-prob gives the sum of what it gives to them. */
static void the_rest_is_their_sum(void **state)
{
    static const uint32_t class_of[] = {0, 1, 2, 3, KD_CLASS_REST};
    struct kd_merge_plan plan = plan_of(KD_POLICY_MEAN_PROB, M);
    const struct teachers t = draw(9);
    struct kd_policy_row row = row_of(&t);
    float values[M][5], out[C], sparse[5];

    (void)state;
    (void)merge(&plan, &row, out);
    row.outcomes = 5;
    row.class_of = class_of;
    for (size_t m = 0; m < M; m++) {
        const double rest[] = {(double)t.values[m][4], (double)t.values[m][5],
                               (double)t.values[m][6]};

        memcpy(values[m], t.values[m], 4 * sizeof values[m][0]);
        values[m][4] = (float)log_sum_exp(rest, 3);
        row.values[m] = values[m];
    }
    (void)merge(&plan, &row, sparse);
    const double rest[] = {(double)out[4], (double)out[5], (double)out[6]};
    assert_memory_equal(out, sparse, 4 * sizeof out[0]);
    assert_true(fabs((double)sparse[4] - log_sum_exp(rest, 3)) < 1e-6);
}

static void the_uniform_fallback_counts_classes(void **state)
{
    static const uint32_t class_of[] = {0, 1, 2, 3, KD_CLASS_REST};
    struct kd_merge_plan plan = plan_of(KD_POLICY_AGREEMENT, M);
    struct teachers t = {.label = -1};
    struct kd_policy_row row;
    float out[5];

    (void)state;
    plan.fallback = KD_FALLBACK_UNIFORM;
    for (size_t m = 0; m < M; m++)
        t.u[m][m % 4] = 1;
    store(&t);
    row = row_of(&t);
    row.outcomes = 5;
    row.class_of = class_of;
    assert_false(merge(&plan, &row, out));
    assert_true(fabs(exp((double)out[0]) - 1.0 / 7) < 1e-6);
    assert_true(fabs(exp((double)out[4]) - 3.0 / 7) < 1e-6);
}

/* -- the error of mean-prob ---------------------------------------------- */

enum { MOST_CLASSES = 67 };

/* A row of log-probabilities from near 0 to far below what exp can say. */
static void draw_wide(struct kd_random *r, size_t n, float *values, float *log_z)
{
    const double reach = pow(10, kd_random_between(r, -2, 4.8));
    double sum = 0;

    for (size_t c = 0; c < n; c++)
        values[c] = (float)-kd_random_between(r, 0, reach);
    values[kd_random_below(r, (uint32_t)n)] = 0;
    for (size_t c = 0; c < n; c++)
        sum += exp((double)values[c]);
    *log_z = (float)log(sum);
}

/* |log p - exact| / (1 + |exact|), the worst of a row, by what it may be. */
static double mean_error(uint64_t id)
{
    static float values[KD_MAX_TEACHERS][MOST_CLASSES];
    struct kd_random r = kd_random_at(11, KD_RANDOM_TEST, id, 0);
    struct kd_merge_plan plan = {
        .teachers = 1 + kd_random_below(&r, id % 2 ? 4 : KD_MAX_TEACHERS)};
    const size_t n = 1 + kd_random_below(&r, MOST_CLASSES);
    struct kd_policy_row row = {.outcomes = n, .classes = n};
    float out[MOST_CLASSES];
    double worst = 0;

    for (size_t m = 0; m < plan.teachers; m++) {
        draw_wide(&r, n, values[m], &row.log_z[m]);
        row.values[m] = values[m];
        plan.weights[m] = pow(10, kd_random_between(&r, -12, 0));
    }
    assert_int_equal(kd_merge_plan_check(&plan), KD_OK);
    (void)merge(&plan, &row, out);
    for (size_t c = 0; c < n; c++) {
        double term[KD_MAX_TEACHERS] = {0}, exact = 0;

        for (size_t m = 0; m < plan.teachers; m++)
            term[m] =
                log(plan.weights[m]) + (double)values[m][c] - (double)row.log_z[m];
        exact = log_sum_exp(term, plan.teachers);
        worst = fmax(worst, fabs((double)out[c] - exact) / (1 + fabs(exact)));
    }
    return worst / (4e-7 + 6e-8 * (double)plan.teachers);
}

static void mean_prob_is_as_exact_as_it_says(void **state)
{
    double worst = 0;

    (void)state;
    for (uint64_t id = 0; id < 5000; id++)
        worst = fmax(worst, mean_error(id));
    print_message("mean-prob: %.2g of the error that it may have\n", worst);
    assert_true(worst < 1);
}

/* -- calibration --------------------------------------------------------- */

static void calibrated_rows_are_divided(void **state)
{
    struct teachers t = draw(21);
    double u[C];

    (void)state;
    kd_calibrate_rows(1.7, 1, C, t.values[2], &t.row_max[2], &t.log_z[2]);
    for (size_t c = 0; c < C; c++) {
        u[c] = t.u[2][c] / 1.7;
        assert_true(fabs((double)t.values[2][c] + (double)t.row_max[2] - u[c]) < 1e-6);
    }
    assert_true(fabs((double)t.log_z[2] + (double)t.row_max[2] - log_sum_exp(u, C)) <
                1e-6);
    float before = t.log_z[3];
    kd_calibrate_rows(1, 1, C, t.values[3], &t.row_max[3], &t.log_z[3]);
    assert_true(t.log_z[3] == before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identical_teachers_stay_as_they_are),
        cmocka_unit_test(rows_of_ties_are_fine),
        cmocka_unit_test(sure_teachers_stay_sure),
        cmocka_unit_test(teachers_that_are_all_wrong_are_fine),
        cmocka_unit_test(levels_at_the_end_of_the_range_stay_finite),
        cmocka_unit_test(policies_that_need_a_label_say_so),
        cmocka_unit_test(a_route_that_is_not_there_is_named),
        cmocka_unit_test(shifting_a_teachers_logits_changes_no_probability),
        cmocka_unit_test(a_row_that_is_kept_can_keep_its_level),
        cmocka_unit_test(a_teacher_of_weight_0_does_not_count),
        cmocka_unit_test(batches_do_not_matter),
        cmocka_unit_test(the_order_of_outcomes_does_not_matter),
        cmocka_unit_test(the_rest_is_their_sum),
        cmocka_unit_test(the_uniform_fallback_counts_classes),
        cmocka_unit_test(mean_prob_is_as_exact_as_it_says),
        cmocka_unit_test(calibrated_rows_are_divided),
    };

    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
