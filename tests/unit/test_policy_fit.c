/* SPDX-License-Identifier: MIT */
/* Fits against brute force on small problems, and against what made the rows. */
#include "policy_fixture.h"

#include "kd/fit.h"

enum { ROWS = 400, T = 4 };

/* Rows of M teachers whose labels are drawn from softmax(z): teacher m says
 * sharpness[m] z and its own mistakes. */
static struct {
    float values[M][ROWS * C]; /* z/T */
    int32_t label[ROWS];
    double log_p[ROWS * M]; /* at temperature 1, of labels */
} held;

static const double sharpness[M] = {1, 2, 0.5, 1, 3};
static const double mistakes[M] = {0.5, 1, 0.3, 3, 0.5};

static int32_t draw_label(struct kd_random *r, const double *z)
{
    double left = kd_random_unit(r), p[C];
    int32_t label = 0;

    softmax(z, p);
    while (label < C - 1 && (left -= p[label]) >= 0)
        label++;
    return label;
}

static void hold_out(void)
{
    for (size_t i = 0; i < ROWS; i++) {
        struct kd_random r = kd_random_at(3, KD_RANDOM_TEST, i, 0);
        double z[C], said[C];

        for (size_t c = 0; c < C; c++)
            z[c] = 2 * kd_random_normal(&r);
        held.label[i] = draw_label(&r, z);
        for (size_t m = 0; m < M; m++) {
            for (size_t c = 0; c < C; c++) {
                said[c] = sharpness[m] * (z[c] + mistakes[m] * kd_random_normal(&r));
                held.values[m][i * C + c] = (float)(said[c] / T);
                said[c] = T * (double)held.values[m][i * C + c];
            }
            held.log_p[i * M + m] = said[held.label[i]] - log_sum_exp(said, C);
        }
    }
}

static struct kd_fit_rows rows_of(const float *values[M], size_t teachers)
{
    for (size_t m = 0; m < M; m++)
        values[m] = held.values[m];
    return (struct kd_fit_rows){.count = ROWS,
                                .teachers = teachers,
                                .classes = C,
                                .temperature = T,
                                .values = values,
                                .label = held.label};
}

static double mixture_nll(const double *weights, size_t teachers)
{
    double nll = 0;

    for (size_t i = 0; i < ROWS; i++) {
        double p = 0;

        for (size_t m = 0; m < teachers; m++)
            p += weights[m] * exp(held.log_p[i * M + m]);
        nll -= log(p) / ROWS;
    }
    return nll;
}

/* log_p of the first teachers only. */
static void first_of(size_t teachers, double *log_p)
{
    for (size_t i = 0; i < ROWS; i++)
        memcpy(log_p + i * teachers, held.log_p + i * M, teachers * sizeof log_p[0]);
}

static void stacked_weights_are_the_best_of_a_grid(void **state)
{
    static double log_p[ROWS * M];
    double weights[M] = {0}, least = INFINITY;

    (void)state;
    first_of(3, log_p);
    assert_int_equal(kd_fit_stacked(log_p, ROWS, 3, weights), KD_OK);
    for (double a = 0; a <= 1; a += 0.01)
        for (double b = 0; a + b <= 1; b += 0.01)
            least = fmin(least, mixture_nll((double[]){a, b, 1 - a - b}, 3));
    assert_true(mixture_nll(weights, 3) <= least + 1e-7);
    assert_true(fabs(weights[0] + weights[1] + weights[2] - 1) < 1e-12);
}

static void stacked_weights_of_extremes(void **state)
{
    static double log_p[ROWS * 2];
    double weights[2];

    (void)state;
    for (size_t i = 0; i < ROWS; i++) { /* the second is hopeless */
        log_p[2 * i] = -0.1;
        log_p[2 * i + 1] = -65504;
    }
    assert_int_equal(kd_fit_stacked(log_p, ROWS, 2, weights), KD_OK);
    assert_true(weights[0] > 1 - 1e-6 && weights[1] >= 0);
    for (size_t i = 0; i < ROWS; i++) /* each knows a half */
        log_p[2 * i + i % 2] = -1e30;
    assert_int_equal(kd_fit_stacked(log_p, ROWS, 2, weights), KD_OK);
    assert_true(weights[0] < 0.52 && weights[0] > 0.48);
    for (size_t i = 0; i < ROWS; i++)
        log_p[2 * i] = log_p[2 * i + 1] = -2;
    assert_int_equal(kd_fit_stacked(log_p, ROWS, 2, weights), KD_OK);
    assert_true(weights[0] == 0.5 && weights[1] == 0.5);
    assert_int_equal(kd_fit_stacked(log_p, ROWS, 1, weights), KD_OK);
    assert_true(weights[0] == 1);
}

/* Selection as the paper has it, of the whole bag each time. */
static double select_by_hand(size_t rounds, double *best_weights)
{
    size_t taken[M] = {0};
    double best = INFINITY;

    for (size_t k = 1; k <= rounds; k++) {
        double least = INFINITY, weights[M];
        size_t chosen = 0;

        for (size_t m = 0; m < M; m++) {
            for (size_t j = 0; j < M; j++)
                weights[j] = (double)(taken[j] + (j == m)) / (double)k;
            if (mixture_nll(weights, M) < least - 1e-13) {
                least = mixture_nll(weights, M);
                chosen = m;
            }
        }
        taken[chosen]++;
        for (size_t j = 0; j < M && least < best - 1e-13; j++)
            best_weights[j] = (double)taken[j] / (double)k;
        best = fmin(best, least);
    }
    return best;
}

static void greedy_selection_takes_the_best_each_time(void **state)
{
    double weights[M], by_hand[M], stacked[M];

    (void)state;
    for (size_t rounds = 1; rounds <= 16; rounds += 3) {
        const double nll = select_by_hand(rounds, by_hand);

        assert_int_equal(kd_fit_greedy(held.log_p, ROWS, M, rounds, weights), KD_OK);
        assert_true(fabs(mixture_nll(weights, M) - nll) < 1e-12);
        for (size_t m = 0; m < M; m++)
            assert_true(fabs(weights[m] - by_hand[m]) < 1e-12);
    }
    assert_int_equal(kd_fit_stacked(held.log_p, ROWS, M, stacked), KD_OK);
    assert_true(mixture_nll(stacked, M) <= mixture_nll(weights, M) + 1e-7);
    assert_true(mixture_nll(weights, M) < mixture_nll(stacked, M) + 1e-3);
}

/* The NLL of softmax(z/t). */
static double tempered_nll(size_t m, double t)
{
    double nll = 0;

    for (size_t i = 0; i < ROWS; i++) {
        double z[C];

        for (size_t c = 0; c < C; c++)
            z[c] = T * (double)held.values[m][i * C + c] / t;
        nll += (log_sum_exp(z, C) - z[held.label[i]]) / ROWS;
    }
    return nll;
}

static void calibration_is_the_best_of_a_grid(void **state)
{
    const float *values[M];
    const struct kd_fit_rows rows = rows_of(values, M);

    (void)state;
    for (size_t m = 0; m < M; m++) {
        const double t = kd_fit_temperature(&rows, m);

        for (double other = 0.1; other < 50; other *= 1.02)
            assert_true(tempered_nll(m, t) <= tempered_nll(m, other) + 1e-12);
        assert_true(tempered_nll(m, t) <= tempered_nll(m, t * 1.0001));
        assert_true(tempered_nll(m, t) <= tempered_nll(m, t / 1.0001));
    }
    /* the second is twice as sure as it should be, but for its mistakes */
    assert_true(kd_fit_temperature(&rows, 1) > 2);
    assert_true(kd_fit_temperature(&rows, 2) < 0.75);
}

static void calibration_ends_at_its_bounds(void **state)
{
    const float right[] = {0, -1, 0, -2, 0, -3}, wrong[] = {-1, 0, -2, 0, -3, 0};
    const float *values[] = {right, wrong};
    const int32_t label[] = {0, 0, 0};
    const struct kd_fit_rows rows = {.count = 3,
                                     .teachers = 2,
                                     .classes = 2,
                                     .temperature = 1,
                                     .values = values,
                                     .label = label};

    (void)state;
    assert_true(kd_fit_temperature(&rows, 0) == 0.01);
    assert_true(kd_fit_temperature(&rows, 1) == 100);
    assert_true(kd_fit_accuracy(&rows, 0) == 1);
    assert_true(kd_fit_accuracy(&rows, 1) == 0);
}

/* -- class weights ------------------------------------------------------- */

/* sum_i NLL_i - sum_c sum_m prior_m log w_m(c), over the first two teachers and
 * classes; w is that of the first teacher. */
static double class_objective(const struct kd_fit_rows *rows, const double *prior,
                              const double w[2])
{
    double sum = 0;

    for (size_t c = 0; c < 2; c++)
        sum -= prior[0] * log(w[c]) + prior[1] * log(1 - w[c]);
    for (size_t i = 0; i < rows->count; i++) {
        double s[2] = {0};

        for (size_t m = 0; m < 2; m++) {
            double z[2];

            for (size_t c = 0; c < 2; c++)
                z[c] = rows->temperature * (double)rows->values[m][2 * i + c];
            for (size_t c = 0; c < 2; c++)
                s[c] += (m == 0 ? w[c] : 1 - w[c]) * exp(z[c] - log_sum_exp(z, 2));
        }
        sum += log(s[0] + s[1]) - log(s[rows->label[i]]);
    }
    return sum;
}

/* Two classes; the first teacher is good at saying 0, the second at 1. */
static void class_weights_are_the_best_of_a_grid(void **state)
{
    static float said[2][2 * ROWS];
    static int32_t label[ROWS];
    const float *values[] = {said[0], said[1]};
    const struct kd_fit_rows rows = {ROWS, 2, 2, 2, values, label};
    const double ones[2] = {1, 1}, prior[2] = {0.6, 0.4};
    double weights[4], least = INFINITY, fitted = 0;

    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        struct kd_random r = kd_random_at(8, KD_RANDOM_TEST, i, 0);

        label[i] = (int32_t)kd_random_below(&r, 2);
        for (size_t m = 0; m < 2; m++) {
            const double own = 0.5 + 0.5 * kd_random_normal(&r);

            said[m][2 * i + (size_t)label[i]] =
                (float)((label[i] == (int32_t)m ? 1 : 0.2) * own);
        }
    }
    assert_int_equal(kd_fit_class_weights(&rows, ones, prior, weights), KD_OK);
    fitted = class_objective(&rows, prior, weights);
    for (double a = 0.005; a < 1; a += 0.005)
        for (double b = 0.005; b < 1; b += 0.005)
            least = fmin(least, class_objective(&rows, prior, (double[]){a, b}));
    assert_true(fitted <= least + 1e-4 * ROWS);
    for (size_t c = 0; c < 2; c++)
        assert_true(fabs(weights[c] + weights[2 + c] - 1) < 1e-12);
    assert_true(fabs(weights[0] - weights[1]) > 0.1);
}

static void classes_without_rows_keep_the_prior(void **state)
{
    const float said[] = {0, 0, 0, 0, 0, 0}, other[] = {0, 0, 0, 0, 0, 0};
    const float *values[] = {said, other};
    const int32_t label[] = {0, 1};
    const struct kd_fit_rows rows = {2, 2, 3, 1, values, label};
    const double ones[2] = {1, 1}, prior[2] = {0.7, 0.3};
    double weights[6];

    (void)state;
    assert_int_equal(kd_fit_class_weights(&rows, ones, prior, weights), KD_OK);
    for (size_t c = 0; c < 3; c++)
        assert_true(fabs(weights[c] - 0.7) < 1e-9);
}

static double accuracy_by_hand(size_t m)
{
    double right = 0;

    for (size_t i = 0; i < ROWS; i++) {
        const float *row = held.values[m] + i * C;
        bool most = true;

        for (size_t c = 0; c < C; c++)
            most &= row[held.label[i]] >= row[c];
        right += most;
    }
    return right / ROWS;
}

/* -- plans --------------------------------------------------------------- */

static struct kd_merge_plan fitted(struct kd_merge_plan plan)
{
    const float *values[M];
    const struct kd_fit_rows rows = rows_of(values, M);

    plan.teachers = M;
    plan.holdout_end = ROWS;
    assert_int_equal(kd_merge_plan_check(&plan), KD_OK);
    assert_true(kd_merge_plan_needs_fit(&plan));
    assert_int_equal(kd_fit_plan(&plan, &rows), KD_OK);
    assert_false(kd_merge_plan_needs_fit(&plan));
    return plan;
}

static void plans_are_fitted(void **state)
{
    double weights[M], log_p[ROWS * M];
    struct kd_merge_plan plan =
        fitted((struct kd_merge_plan){.policy = KD_POLICY_STACKED});

    (void)state;
    assert_int_equal(kd_fit_stacked(held.log_p, ROWS, M, weights), KD_OK);
    for (size_t m = 0; m < M; m++)
        assert_true(fabs(plan.weights[m] - weights[m]) < 1e-6);

    plan = fitted((struct kd_merge_plan){.policy = KD_POLICY_GREEDY, .rounds = 16});
    assert_int_equal(kd_fit_greedy(held.log_p, ROWS, M, 16, weights), KD_OK);
    for (size_t m = 0; m < M; m++)
        assert_true(fabs(plan.weights[m] - weights[m]) < 1e-9);

    plan = fitted((struct kd_merge_plan){.policy = KD_POLICY_BEST_OVERALL});
    for (size_t m = 0; m < M; m++)
        assert_true(plan.accuracy[m] == accuracy_by_hand(m));

    /* calibrated first, then stacked */
    plan =
        fitted((struct kd_merge_plan){.policy = KD_POLICY_STACKED, .calibrate = true});
    for (size_t i = 0; i < ROWS; i++)
        for (size_t m = 0; m < M; m++) {
            double z[C];

            for (size_t c = 0; c < C; c++)
                z[c] = T * (double)held.values[m][i * C + c] / plan.calibration[m];
            log_p[i * M + m] = z[held.label[i]] - log_sum_exp(z, C);
        }
    assert_int_equal(kd_fit_stacked(log_p, ROWS, M, weights), KD_OK);
    for (size_t m = 0; m < M; m++)
        assert_true(fabs(plan.weights[m] - weights[m]) < 1e-6);

    plan = fitted((struct kd_merge_plan){.policy = KD_POLICY_CLASS_WEIGHTS});
    for (size_t c = 0; c < C; c++) {
        double sum = 0;

        for (size_t m = 0; m < M; m++)
            sum += plan.class_weights[m * C + c];
        assert_true(fabs(sum - 1) < 1e-9);
    }
    kd_merge_plan_clear(&plan);
}

static void rows_that_cannot_be_fitted_on_are_refused(void **state)
{
    const float *values[M];
    struct kd_fit_rows rows = rows_of(values, M);
    struct kd_merge_plan plan = {
        .policy = KD_POLICY_STACKED, .teachers = M, .holdout_end = ROWS};
    int32_t label[ROWS] = {0};

    (void)state;
    assert_int_equal(kd_merge_plan_check(&plan), KD_OK);
    rows.label = label;
    label[7] = C;
    assert_int_equal(kd_fit_plan(&plan, &rows), KD_EDATA);
    assert_says("row 7 has the label 7");
    label[7] = -1;
    assert_int_equal(kd_fit_plan(&plan, &rows), KD_EDATA);
    rows.count = 0;
    assert_int_equal(kd_fit_plan(&plan, &rows), KD_EDATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stacked_weights_are_the_best_of_a_grid),
        cmocka_unit_test(stacked_weights_of_extremes),
        cmocka_unit_test(greedy_selection_takes_the_best_each_time),
        cmocka_unit_test(calibration_is_the_best_of_a_grid),
        cmocka_unit_test(calibration_ends_at_its_bounds),
        cmocka_unit_test(class_weights_are_the_best_of_a_grid),
        cmocka_unit_test(classes_without_rows_keep_the_prior),
        cmocka_unit_test(plans_are_fitted),
        cmocka_unit_test(rows_that_cannot_be_fitted_on_are_refused),
    };

    hold_out();
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
