/* SPDX-License-Identifier: MIT */
/* Policies against references in plain double arithmetic, and what tells them apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kd/merge.h"
#include "kd/random.h"
#include "kd/status.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define M    3
#define C    7
#define ROWS 5

/* Rows of M teachers, as shards hold them. */
struct teachers {
    double u[M][ROWS][C]; /* scaled logits */
    float values[M][ROWS * C];
    float row_max[M][ROWS], log_z[M][ROWS];
};

static double log_sum_exp(const double *u)
{
    double top = u[0], sum = 0;

    for (size_t c = 1; c < C; c++)
        top = u[c] > top ? u[c] : top;
    for (size_t c = 0; c < C; c++)
        sum += exp(u[c] - top);
    return top + log(sum);
}

static void softmax(const double *u, double *p)
{
    for (size_t c = 0; c < C; c++)
        p[c] = exp(u[c] - log_sum_exp(u));
}

/* Splits teacher m's row into what a shard stores of it. */
static void store(struct teachers *t, size_t m, size_t row)
{
    double top = t->u[m][row][0];

    for (size_t c = 1; c < C; c++)
        top = t->u[m][row][c] > top ? t->u[m][row][c] : top;
    t->row_max[m][row] = (float)top;
    t->log_z[m][row] = (float)(log_sum_exp(t->u[m][row]) - top);
    for (size_t c = 0; c < C; c++)
        t->values[m][row * C + c] = (float)(t->u[m][row][c] - top);
}

static void draw(struct teachers *t, double shift)
{
    for (size_t m = 0; m < M; m++) {
        struct kd_random r = kd_random_at(5, KD_RANDOM_TEST, m, 0);

        for (size_t row = 0; row < ROWS; row++) {
            for (size_t c = 0; c < C; c++)
                t->u[m][row][c] =
                    kd_random_between(&r, -6, 6) + shift * (double)(m + row);
            store(t, m, row);
        }
    }
}

static void merge(struct kd_merge_plan *plan, const struct teachers *t, float *out)
{
    const float *values[M], *row_max[M], *log_z[M];

    for (size_t m = 0; m < M; m++) {
        values[m] = t->values[m];
        row_max[m] = t->row_max[m];
        log_z[m] = t->log_z[m];
    }
    assert_int_equal(kd_merge_plan_check(plan), KD_OK);
    kd_merge_rows(plan, values, row_max, log_z, ROWS, C, out);
}

static void mean_prob_is_the_weighted_mean_of_probabilities(void **state)
{
    struct kd_merge_plan plan = {KD_POLICY_MEAN_PROB, M, {1, 2, 5}};
    struct teachers t;
    float out[ROWS * C];

    (void)state;
    draw(&t, 0);
    merge(&plan, &t, out);
    for (size_t row = 0; row < ROWS; row++) {
        double p[M][C];

        for (size_t m = 0; m < M; m++)
            softmax(t.u[m][row], p[m]);
        for (size_t c = 0; c < C; c++) {
            double mean = (p[0][c] + 2 * p[1][c] + 5 * p[2][c]) / 8;
            assert_true(fabs((double)out[row * C + c] - log(mean)) < 1e-5);
        }
    }
}

static void mean_logit_is_the_weighted_mean_of_logits(void **state)
{
    struct kd_merge_plan plan = {KD_POLICY_MEAN_LOGIT, M, {1, 2, 5}};
    struct teachers t;
    float out[ROWS * C];

    (void)state;
    draw(&t, 0);
    merge(&plan, &t, out);
    for (size_t row = 0; row < ROWS; row++)
        for (size_t c = 0; c < C; c++) {
            double mean =
                (t.u[0][row][c] + 2 * t.u[1][row][c] + 5 * t.u[2][row][c]) / 8;
            assert_true(fabs((double)out[row * C + c] - mean) < 1e-5);
        }
}

static void mean_logit_is_the_renormalised_geometric_mean(void **state)
{
    struct kd_merge_plan plan = {.policy = KD_POLICY_MEAN_LOGIT, .teachers = M};
    struct teachers t;
    float out[ROWS * C];

    (void)state;
    draw(&t, 0);
    merge(&plan, &t, out);
    for (size_t row = 0; row < ROWS; row++) {
        double p[M][C], geometric[C], merged[C], u[C], sum = 0;

        for (size_t m = 0; m < M; m++)
            softmax(t.u[m][row], p[m]);
        for (size_t c = 0; c < C; c++) {
            geometric[c] = cbrt(p[0][c] * p[1][c] * p[2][c]);
            sum += geometric[c];
            u[c] = (double)out[row * C + c];
        }
        softmax(u, merged);
        for (size_t c = 0; c < C; c++)
            assert_true(fabs(merged[c] - geometric[c] / sum) < 1e-6);
    }
}

/* d/dz_i of sum_m w_m KL(p_m || softmax(z)) = q_i - sum_m w_m p_m,i: the gradient of
 * the mean of losses, by finite differences of the losses themselves. */
static double mean_kl(const struct teachers *t, size_t row, const double *z)
{
    double loss = 0, lse = log_sum_exp(z), p[C];

    for (size_t m = 0; m < M; m++) {
        softmax(t->u[m][row], p);
        for (size_t c = 0; c < C; c++)
            loss += p[c] * (log(p[c]) - (z[c] - lse)) / M;
    }
    return loss;
}

/* The largest difference between the gradients of the mean of KL losses and of one
 * KL loss to the merged row. */
static double gradient_gap(const struct teachers *t, size_t row, const float *merged)
{
    double z[C], q[C], p[C], u[C], gap = 0;
    const double h = 1e-5;

    for (size_t c = 0; c < C; c++) {
        z[c] = sin((double)(3 * c + row));
        u[c] = (double)merged[c];
    }
    softmax(z, q);
    softmax(u, p);
    for (size_t c = 0; c < C; c++) {
        double at = z[c], up = 0, down = 0, slope = 0;

        z[c] = at + h;
        up = mean_kl(t, row, z);
        z[c] = at - h;
        down = mean_kl(t, row, z);
        z[c] = at;
        slope = (up - down) / (2 * h);
        gap = fmax(gap, fabs(slope - (q[c] - p[c])));
    }
    return gap;
}

static void training_on_mean_prob_is_training_on_the_mean_of_losses(void **state)
{
    struct kd_merge_plan plan = {.policy = KD_POLICY_MEAN_PROB, .teachers = M};
    struct teachers t;
    float out[ROWS * C];

    (void)state;
    draw(&t, 0);
    merge(&plan, &t, out);
    for (size_t row = 0; row < ROWS; row++)
        assert_true(gradient_gap(&t, row, out + row * C) < 1e-6);
}

static void training_on_mean_logit_is_something_else(void **state)
{
    struct kd_merge_plan plan = {.policy = KD_POLICY_MEAN_LOGIT, .teachers = M};
    struct teachers t;
    float out[ROWS * C];

    (void)state;
    draw(&t, 0);
    merge(&plan, &t, out);
    for (size_t row = 0; row < ROWS; row++)
        assert_true(gradient_gap(&t, row, out + row * C) > 1e-2);
}

static void one_teacher_stays_as_it_is(void **state)
{
    struct teachers t;
    float out[ROWS * C];

    (void)state;
    draw(&t, 1);
    for (int policy = 0; kd_policy_names[policy] != NULL; policy++) {
        struct kd_merge_plan plan = {(enum kd_policy)policy, 1, {0}};

        merge(&plan, &t, out);
        for (size_t i = 0; i < ROWS * C; i++) {
            size_t row = i / C;
            double off = policy == KD_POLICY_MEAN_PROB ? -(double)t.log_z[0][row]
                                                       : (double)t.row_max[0][row];
            assert_true(out[i] == (float)((double)t.values[0][i] + off));
        }
    }
}

static void equal_teachers_stay_as_they_are(void **state)
{
    struct kd_merge_plan plan = {KD_POLICY_MEAN_PROB, M, {0.2, 0.3, 0.5}};
    struct teachers t;
    float out[ROWS * C];

    (void)state;
    draw(&t, 0);
    for (size_t m = 1; m < M; m++)
        for (size_t row = 0; row < ROWS; row++) {
            memcpy(t.u[m][row], t.u[0][row], sizeof t.u[m][row]);
            store(&t, m, row);
        }
    merge(&plan, &t, out);
    for (size_t i = 0; i < ROWS * C; i++)
        assert_true(fabsf(out[i] - (t.values[0][i] - t.log_z[0][i / C])) < 1e-6F);
}

static void a_teacher_of_weight_0_does_not_count(void **state)
{
    struct kd_merge_plan plan = {KD_POLICY_MEAN_PROB, M, {1, 0, 3}};
    struct teachers t;
    float out[ROWS * C], again[ROWS * C];

    (void)state;
    draw(&t, 0);
    merge(&plan, &t, out);
    for (size_t i = 0; i < ROWS * C; i++)
        t.values[1][i] = -65504;
    merge(&plan, &t, again);
    assert_memory_equal(out, again, sizeof out);
}

static void shifting_a_teachers_logits_changes_no_probability(void **state)
{
    struct teachers plain, shifted;
    float a[ROWS * C], b[ROWS * C];

    (void)state;
    draw(&plain, 0);
    draw(&shifted, 100);
    for (int policy = 0; kd_policy_names[policy] != NULL; policy++) {
        struct kd_merge_plan plan = {(enum kd_policy)policy, M, {0}};

        merge(&plan, &plain, a);
        merge(&plan, &shifted, b);
        for (size_t row = 0; row < ROWS; row++) {
            double x[C], y[C], p[C], q[C];

            for (size_t c = 0; c < C; c++) {
                x[c] = (double)a[row * C + c];
                y[c] = (double)b[row * C + c];
            }
            softmax(x, p);
            softmax(y, q);
            for (size_t c = 0; c < C; c++)
                assert_true(fabs(p[c] - q[c]) < 1e-4);
        }
    }
}

static void logits_that_underflow_as_probabilities_stay_finite(void **state)
{
    struct teachers t;
    float out[ROWS * C];

    (void)state;
    draw(&t, 0);
    for (size_t m = 0; m < M; m++) {
        t.values[m][2] = m == 0 ? -FLT_MAX : -65504;
        t.values[m][3] = -FLT_MAX;
        t.row_max[m][0] = m == 0 ? 1e30F : -FLT_MAX;
    }
    for (int policy = 0; kd_policy_names[policy] != NULL; policy++) {
        struct kd_merge_plan plan = {(enum kd_policy)policy, M, {0}};

        merge(&plan, &t, out);
        for (size_t i = 0; i < ROWS * C; i++)
            assert_true(isfinite(out[i]));
        if (policy == KD_POLICY_MEAN_PROB)
            assert_true(out[2] < -65000 && out[2] > -66000);
    }
}

static void weights_are_parsed_and_scaled(void **state)
{
    struct kd_merge_plan plan = {.teachers = 3};

    (void)state;
    assert_int_equal(kd_merge_parse_weights(&plan, "1,2.5,0.5"), KD_OK);
    assert_int_equal(kd_merge_plan_check(&plan), KD_OK);
    assert_true(plan.weights[0] == 0.25 && plan.weights[1] == 0.625 &&
                plan.weights[2] == 0.125);
    memset(plan.weights, 0, sizeof plan.weights);
    assert_int_equal(kd_merge_plan_check(&plan), KD_OK);
    assert_true(plan.weights[0] == 1.0 / 3 && plan.weights[2] == 1.0 / 3);
}

static void wrong_weights_are_refused(void **state)
{
    static const char *const wrong[] = {"1,2",   "1,2,3,4", "1,2,x",   "1,-2,3",
                                        "1,,3",  "1,2,nan", "1,2,inf", "",
                                        "0,0,0", "1,2,3,"};
    struct kd_merge_plan plan = {.teachers = 3};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (kd_merge_parse_weights(&plan, wrong[i]) != KD_EUSAGE)
            fail_msg("'%s' was not refused", wrong[i]);
        assert_non_null(strstr(kd_error(), "--weights"));
    }
    plan = (struct kd_merge_plan){.teachers = 2, .weights = {1, NAN}};
    assert_int_equal(kd_merge_plan_check(&plan), KD_EUSAGE);
    plan = (struct kd_merge_plan){.teachers = 2, .weights = {1, -1}};
    assert_int_equal(kd_merge_plan_check(&plan), KD_EUSAGE);
    plan = (struct kd_merge_plan){.teachers = 0};
    assert_int_equal(kd_merge_plan_check(&plan), KD_EUSAGE);
    plan = (struct kd_merge_plan){.teachers = KD_MAX_TEACHERS + 1};
    assert_int_equal(kd_merge_plan_check(&plan), KD_EUSAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mean_prob_is_the_weighted_mean_of_probabilities),
        cmocka_unit_test(mean_logit_is_the_weighted_mean_of_logits),
        cmocka_unit_test(mean_logit_is_the_renormalised_geometric_mean),
        cmocka_unit_test(training_on_mean_prob_is_training_on_the_mean_of_losses),
        cmocka_unit_test(training_on_mean_logit_is_something_else),
        cmocka_unit_test(one_teacher_stays_as_it_is),
        cmocka_unit_test(equal_teachers_stay_as_they_are),
        cmocka_unit_test(a_teacher_of_weight_0_does_not_count),
        cmocka_unit_test(shifting_a_teachers_logits_changes_no_probability),
        cmocka_unit_test(logits_that_underflow_as_probabilities_stay_finite),
        cmocka_unit_test(weights_are_parsed_and_scaled),
        cmocka_unit_test(wrong_weights_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
