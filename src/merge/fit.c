/* SPDX-License-Identifier: MIT */
/* Fits of a weight a teacher, and of a plan as a whole. */
#include "kd/fit.h"

#include "kd/memory.h"
#include "kd/thread.h"
#include "merge/fit_internal.h"
#include "merge/policy_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACKED_GAP   1e-7
#define STACKED_STEPS 50000
#define LEAST_SHARE   1e-300

double kd_fit_accuracy(const struct kd_fit_rows *rows, size_t m)
{
    size_t right = 0;

    for (size_t i = 0; i < rows->count; i++) {
        const float *row = rows->values[m] + i * rows->classes;
        size_t best = 0;

        for (size_t c = 1; c < rows->classes; c++)
            if (row[c] > row[best])
                best = c;
        right += best == (size_t)rows->label[i];
    }
    return (double)right / (double)rows->count;
}

/* p_m(y) [count][M] over the greatest of the row, which changes NLLs by a constant. On
 * the heap. */
static double *shares(const double *log_p, size_t count, size_t teachers)
{
    double *share = kd_alloc(count * teachers, sizeof *share);

    for (size_t i = 0; i < count && share != NULL; i++) {
        const double *from = log_p + i * teachers;
        double top = -INFINITY;

        for (size_t m = 0; m < teachers; m++)
            top = fmax(top, from[m]);
        for (size_t m = 0; m < teachers; m++)
            share[i * teachers + m] = fmax(exp(from[m] - top), LEAST_SHARE);
    }
    return share;
}

/* One step of expectation-maximisation; returns max_m g_m - 1 of the old weights. */
static double step(const double *share, size_t count, size_t teachers, double *weights)
{
    double gain[KD_MAX_TEACHERS] = {0}, most = 0;

    for (size_t i = 0; i < count; i++, share += teachers) {
        double mixed = 0;

        for (size_t m = 0; m < teachers; m++)
            mixed += weights[m] * share[m];
        for (size_t m = 0; m < teachers; m++)
            gain[m] += share[m] / mixed;
    }
    for (size_t m = 0; m < teachers; m++) {
        weights[m] *= gain[m] / (double)count;
        most = fmax(most, gain[m] / (double)count);
    }
    (void)kd_policy_scale(weights, teachers); /* of rounding; it is 1 already */
    return most - 1;
}

enum kd_status kd_fit_stacked(const double *log_p, size_t count, size_t teachers,
                              double *weights)
{
    double *share = shares(log_p, count, teachers);

    if (share == NULL)
        return KD_EMEMORY;
    for (size_t m = 0; m < teachers; m++)
        weights[m] = 1.0 / (double)teachers;
    for (size_t i = 0; i < STACKED_STEPS; i++)
        if (step(share, count, teachers, weights) <= STACKED_GAP)
            break;
    free(share);
    return KD_OK;
}

/* The NLL, up to a constant, of the sum so far and one more of teacher m. */
static double nll_with(const double *sum, const double *share, size_t count,
                       size_t teachers, size_t m)
{
    double nll = 0;

    for (size_t i = 0; i < count; i++)
        nll -= log(sum[i] + share[i * teachers + m]);
    return nll / (double)count;
}

/* The teacher whose selection gives the least NLL, which *nll gets. */
static size_t select_next(const double *sum, const double *share, size_t count,
                          size_t teachers, double *nll)
{
    size_t chosen = 0;

    *nll = INFINITY;
    for (size_t m = 0; m < teachers; m++) {
        const double with = nll_with(sum, share, count, teachers, m);

        if (with < *nll) {
            *nll = with;
            chosen = m;
        }
    }
    return chosen;
}

enum kd_status kd_fit_greedy(const double *log_p, size_t count, size_t teachers,
                             uint64_t rounds, double *weights)
{
    enum kd_status status = KD_EBUG;
    double *share = shares(log_p, count, teachers), *sum = NULL;
    double taken[KD_MAX_TEACHERS] = {0}, nll = 0, best = INFINITY;

    if (share == NULL)
        return KD_EMEMORY;
    KD_TRY(KD_NEW(sum, count));
    for (uint64_t k = 1; k <= rounds; k++) {
        const size_t m = select_next(sum, share, count, teachers, &nll);

        taken[m]++;
        for (size_t i = 0; i < count; i++)
            sum[i] += share[i * teachers + m];
        nll += log((double)k); /* of the mean, not of the sum */
        if (!(nll < best))
            continue;
        best = nll;
        for (size_t j = 0; j < teachers; j++)
            weights[j] = taken[j] / (double)k;
    }
    status = KD_OK;
out:
    free(share);
    free(sum);
    return status;
}

/* -- a plan -------------------------------------------------------------- */

double kd_fit_log_sum(const float *values, size_t classes, double sharpen)
{
    double top = -INFINITY, sum = 0;

    for (size_t c = 0; c < classes; c++)
        top = fmax(top, (double)values[c]);
    for (size_t c = 0; c < classes; c++)
        sum += exp(sharpen * ((double)values[c] - top));
    return sharpen * top + log(sum);
}

struct labels {
    const struct kd_fit_rows *rows;
    const double *calibration;
    double *log_p; /* [count][M] */
};

static enum kd_status log_p_of_labels(void *context, size_t begin, size_t end)
{
    const struct labels *to = context;
    const struct kd_fit_rows *rows = to->rows;

    for (size_t i = begin; i < end; i++)
        for (size_t m = 0; m < rows->teachers; m++) {
            const float *row = rows->values[m] + i * rows->classes;
            const double sharpen = rows->temperature / to->calibration[m];

            to->log_p[i * rows->teachers + m] =
                sharpen * (double)row[rows->label[i]] -
                kd_fit_log_sum(row, rows->classes, sharpen);
        }
    return KD_OK;
}

static enum kd_status fit_weights(struct kd_merge_plan *plan,
                                  const struct kd_fit_rows *rows)
{
    enum kd_status status = KD_EBUG;
    struct labels labels = {.rows = rows, .calibration = plan->calibration};

    KD_TRY(KD_NEW(labels.log_p, rows->count * rows->teachers));
    KD_TRY(kd_parallel(rows->count, 64, log_p_of_labels, &labels));
    if (plan->policy == KD_POLICY_GREEDY)
        KD_TRY(kd_fit_greedy(labels.log_p, rows->count, rows->teachers, plan->rounds,
                             plan->weights));
    else
        KD_TRY(
            kd_fit_stacked(labels.log_p, rows->count, rows->teachers, plan->weights));
out:
    free(labels.log_p);
    return status;
}

struct calibrations {
    const struct kd_fit_rows *rows;
    double *temperature; /* [M] */
};

/* To six digits, so that what is written down is what was used. */
static enum kd_status calibrate_range(void *context, size_t begin, size_t end)
{
    const struct calibrations *to = context;
    char text[32];

    for (size_t m = begin; m < end; m++) {
        snprintf(text, sizeof text, "%.6g", kd_fit_temperature(to->rows, m));
        to->temperature[m] = strtod(text, NULL);
    }
    return KD_OK;
}

static enum kd_status check_rows(const struct kd_fit_rows *rows)
{
    if (rows->count == 0)
        return kd_fail(KD_EDATA, "there are no held-out rows to fit on");
    for (size_t i = 0; i < rows->count; i++)
        if (rows->label[i] < 0 || (size_t)rows->label[i] >= rows->classes)
            return kd_fail(KD_EDATA,
                           "held-out row %zu has the label %d: must be 0 to "
                           "%zu",
                           i, (int)rows->label[i], rows->classes - 1);
    return KD_OK;
}

enum kd_status kd_fit_plan(struct kd_merge_plan *plan, const struct kd_fit_rows *rows)
{
    enum kd_status status = KD_EBUG;
    const unsigned traits = kd_policy_rule(plan->policy)->traits;
    struct calibrations calibrations = {rows, plan->calibration};

    KD_TRY(check_rows(rows));
    if (plan->calibrate)
        KD_TRY(kd_parallel(rows->teachers, 1, calibrate_range, &calibrations));
    if (plan->policy == KD_POLICY_BEST_OVERALL && kd_merge_plan_needs_fit(plan))
        for (size_t m = 0; m < rows->teachers; m++)
            plan->accuracy[m] = kd_fit_accuracy(rows, m);
    if ((traits & KD_FITS_WEIGHTS) != 0)
        KD_TRY(fit_weights(plan, rows));
    plan->fitted = true;
    KD_TRY(kd_merge_plan_check(plan));
    if ((traits & KD_FITS_MORE) != 0) {
        KD_TRY(KD_NEW(plan->class_weights, rows->teachers * rows->classes));
        KD_TRY(kd_fit_class_weights(rows, plan->calibration, plan->weights,
                                    plan->class_weights));
    }
out:
    return status;
}
