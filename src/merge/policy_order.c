/* SPDX-License-Identifier: MIT */
/*
 * Order statistics, class by class, of the teachers' probabilities. They are taken of
 * logarithms, which have the same order, so that a class with tiny probabilities in all
 * teachers does not become 0.
 */
#include "merge/policy_internal.h"

#include <float.h>
#include <math.h>

/* Sorts a few numbers, ascending. */
static void sort(double *x, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const double value = x[i];
        size_t at = i;

        for (; at > 0 && x[at - 1] > value; at--)
            x[at] = x[at - 1];
        x[at] = value;
    }
}

/* log of the mean of exp(x), x ascending. */
static double log_mean(const double *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - x[n - 1]);
    return x[n - 1] + log(sum / (double)n);
}

static void trimmed(const struct kd_policy_row *row, size_t teachers, size_t trim,
                    float *out)
{
    for (size_t c = 0; c < row->outcomes; c++) {
        double x[KD_MAX_TEACHERS];

        for (size_t m = 0; m < teachers; m++)
            x[m] = kd_policy_log_p(row, m, c);
        sort(x, teachers);
        out[c] = (float)fmax(log_mean(x + trim, teachers - 2 * trim), -FLT_MAX);
    }
    kd_policy_normalize(out, row->outcomes);
}

enum kd_status kd_pool_median(const struct kd_merge_plan *plan,
                              const struct kd_policy_row *row, const double *weights,
                              float *out, bool *answered)
{
    (void)weights;
    (void)answered;
    trimmed(row, plan->teachers, (plan->teachers - 1) / 2, out);
    return KD_OK;
}

enum kd_status kd_pool_trimmed_mean(const struct kd_merge_plan *plan,
                                    const struct kd_policy_row *row,
                                    const double *weights, float *out, bool *answered)
{
    (void)weights;
    (void)answered;
    trimmed(row, plan->teachers, (size_t)plan->trim, out);
    return KD_OK;
}
