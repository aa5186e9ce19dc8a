/* SPDX-License-Identifier: MIT */
/* Weights that follow from what the teachers say of a row. */
#include "merge/policy_internal.h"

#include "merge/measure_internal.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* weights[m] *= factor[m], scaled; where all come out as 0 they stay as they are. */
static void multiply(const struct kd_merge_plan *plan, const double *factor,
                     double *weights)
{
    double product[KD_MAX_TEACHERS];

    for (size_t m = 0; m < plan->teachers; m++)
        product[m] = weights[m] > 0 ? weights[m] * factor[m] : 0;
    if (kd_policy_scale(product, plan->teachers))
        memcpy(weights, product, plan->teachers * sizeof product[0]);
}

enum kd_status kd_weigh_entropy(const struct kd_merge_plan *plan,
                                const struct kd_policy_row *row, double *weights)
{
    const double sharpen = kd_measure_sharpen(plan);
    double factor[KD_MAX_TEACHERS], sum = 0;

    for (size_t m = 0; m < plan->teachers; m++) {
        factor[m] = weights[m] > 0 ? kd_measure_entropy(row, m, sharpen) : 0;
        sum += factor[m];
    }
    for (size_t m = 0; m < plan->teachers; m++)
        factor[m] = sum > 0 ? 1 - factor[m] / sum : 1;
    multiply(plan, factor, weights);
    return KD_OK;
}

/* exp(x) over those that count, taken out of x's greatest. */
static void exponentials(const struct kd_merge_plan *plan, const double *weights,
                         double *x)
{
    double top = -INFINITY;

    for (size_t m = 0; m < plan->teachers; m++)
        top = weights[m] > 0 ? fmax(top, x[m]) : top;
    for (size_t m = 0; m < plan->teachers; m++)
        x[m] = weights[m] > 0 ? exp(x[m] - top) : 0;
}

enum kd_status kd_weigh_label_confidence(const struct kd_merge_plan *plan,
                                         const struct kd_policy_row *row,
                                         double *weights)
{
    const double sharpen = kd_measure_sharpen(plan);
    const size_t label = kd_policy_label(row);
    double factor[KD_MAX_TEACHERS];

    for (size_t m = 0; m < plan->teachers; m++)
        factor[m] = -kd_measure_log_p(row, m, sharpen, label);
    exponentials(plan, weights, factor);
    (void)kd_policy_scale(factor, plan->teachers); /* the greatest is 1 */
    for (size_t m = 0; m < plan->teachers; m++)
        factor[m] = 1 - factor[m];
    multiply(plan, factor, weights);
    return KD_OK;
}

enum kd_status kd_weigh_correct(const struct kd_merge_plan *plan,
                                const struct kd_policy_row *row, double *weights)
{
    const double sharpen = kd_measure_sharpen(plan);
    const size_t label = kd_policy_label(row);
    double factor[KD_MAX_TEACHERS];

    for (size_t m = 0; m < plan->teachers; m++)
        factor[m] = kd_measure_log_p(row, m, sharpen, label);
    exponentials(plan, weights, factor);
    multiply(plan, factor, weights);
    return KD_OK;
}

enum kd_status kd_weigh_confidence(const struct kd_merge_plan *plan,
                                   const struct kd_policy_row *row, double *weights)
{
    const double sharpen = kd_measure_sharpen(plan);
    double factor[KD_MAX_TEACHERS];

    for (size_t m = 0; m < plan->teachers; m++)
        factor[m] = kd_measure_confidence(row, m, sharpen, plan->confidence);
    multiply(plan, factor, weights);
    return KD_OK;
}

enum kd_status kd_weigh_all_but_one(const struct kd_merge_plan *plan,
                                    const struct kd_policy_row *row, double *weights)
{
    (void)row;
    weights[plan->left_out] = 0;
    (void)kd_policy_scale(weights,
                          plan->teachers); /* the check of the plan saw to it */
    return KD_OK;
}
