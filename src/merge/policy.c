/* SPDX-License-Identifier: MIT */
/*
 * Ensemble policies. A policy is a function over one row of each teacher and a line
 * in the table; include/kd/merge.h has the formulas.
 */
#include "kd/merge.h"

#include "kd/options.h"
#include "merge/policy_internal.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * log sum_m w_m p_m(c), in log space, so that nothing underflows: the terms are
 * log w_m + log p_m(c) = (log w_m - log_z_m) + value_m(c).
 */
static void mean_prob(const struct kd_policy_row *row, size_t classes, float *out)
{
    double shift[KD_MAX_TEACHERS], term[KD_MAX_TEACHERS];

    for (size_t m = 0; m < row->teachers; m++)
        shift[m] = log(row->weights[m]) - (double)row->log_z[m];
    for (size_t c = 0; c < classes; c++) {
        double top = -DBL_MAX, sum = 0;

        for (size_t m = 0; m < row->teachers; m++) {
            term[m] = shift[m] + (double)row->values[m][c];
            top = term[m] > top ? term[m] : top;
        }
        for (size_t m = 0; m < row->teachers; m++)
            sum += exp(term[m] - top);
        out[c] = (float)fmax(top + log(sum), -FLT_MAX);
    }
}

/* sum_m w_m u_m(c), u_m(c) = value_m(c) + row_max_m. */
static void mean_logit(const struct kd_policy_row *row, size_t classes, float *out)
{
    for (size_t c = 0; c < classes; c++) {
        double sum = 0;

        for (size_t m = 0; m < row->teachers; m++)
            sum +=
                row->weights[m] * ((double)row->values[m][c] + (double)row->row_max[m]);
        out[c] = (float)fmax(fmin(sum, FLT_MAX), -FLT_MAX);
    }
}

static const struct kd_policy_rule rules[] = {
    [KD_POLICY_MEAN_PROB] = {"mean-prob", false, KD_VALUE_LOGPROBS, mean_prob},
    [KD_POLICY_MEAN_LOGIT] = {"mean-logit", true, KD_VALUE_LOGITS, mean_logit},
};

const char *const kd_policy_names[] = {"mean-prob", "mean-logit", NULL};

const struct kd_policy_rule *kd_policy_rule(enum kd_policy policy)
{
    return &rules[policy];
}

enum kd_status kd_merge_parse_weights(struct kd_merge_plan *plan, const char *text)
{
    size_t count = 0;
    double sum = 0;
    char number[64];

    for (;; text++) {
        size_t length = strcspn(text, ",");

        if (count == plan->teachers || count == KD_MAX_TEACHERS)
            return kd_fail(KD_EUSAGE, "--weights: more weights than the %zu teachers",
                           plan->teachers);
        if (length < sizeof number) {
            memcpy(number, text, length);
            number[length] = '\0';
        }
        if (length >= sizeof number ||
            !kd_parse_f64(number, 0, DBL_MAX, &plan->weights[count]))
            return kd_fail(KD_EUSAGE, "--weights: '%.*s' is no number of at least 0",
                           length < 60 ? (int)length : 60, text);
        sum += plan->weights[count++];
        text += length;
        if (*text == '\0')
            break;
    }
    if (count != plan->teachers)
        return kd_fail(KD_EUSAGE, "--weights: %zu weights for %zu teachers", count,
                       plan->teachers);
    if (!(sum > 0) || !isfinite(sum))
        return kd_fail(KD_EUSAGE, "--weights: their sum must be above 0 and finite");
    return KD_OK;
}

enum kd_status kd_merge_plan_check(struct kd_merge_plan *plan)
{
    double sum = 0;

    if (plan->teachers < 1 || plan->teachers > KD_MAX_TEACHERS)
        return kd_fail(KD_EUSAGE, "%zu caches to merge: must be 1 to %d",
                       plan->teachers, KD_MAX_TEACHERS);
    for (size_t m = 0; m < plan->teachers; m++) {
        if (!isfinite(plan->weights[m]) || plan->weights[m] < 0)
            return kd_fail(KD_EUSAGE, "weight %zu is %g: must be at least 0", m + 1,
                           plan->weights[m]);
        sum += plan->weights[m];
    }
    if (!isfinite(sum))
        return kd_fail(KD_EUSAGE, "the sum of the weights must be finite");
    for (size_t m = 0; m < plan->teachers; m++)
        plan->weights[m] =
            sum > 0 ? plan->weights[m] / sum : 1.0 / (double)plan->teachers;
    return KD_OK;
}

/* A row's view of the teachers, those of weight 0 left out. */
static void point_at(struct kd_policy_row *to, const struct kd_merge_plan *plan,
                     const float *const *values, const float *const *row_max,
                     const float *const *log_z, size_t row, size_t classes)
{
    to->teachers = 0;
    for (size_t m = 0; m < plan->teachers; m++) {
        if (!(plan->weights[m] > 0))
            continue;
        to->values[to->teachers] = values[m] + row * classes;
        to->weights[to->teachers] = plan->weights[m];
        to->row_max[to->teachers] = row_max[m][row];
        to->log_z[to->teachers] = log_z[m][row];
        to->teachers++;
    }
}

void kd_merge_rows(const struct kd_merge_plan *plan, const float *const *values,
                   const float *const *row_max, const float *const *log_z, size_t rows,
                   size_t classes, float *out)
{
    const struct kd_policy_rule *rule = kd_policy_rule(plan->policy);
    struct kd_policy_row row;

    for (size_t i = 0; i < rows; i++) {
        point_at(&row, plan, values, row_max, log_z, i, classes);
        rule->merge(&row, classes, out + i * classes);
    }
}
