/* SPDX-License-Identifier: MIT */
/* What one teacher says of a row, in double. */
#include "merge/measure_internal.h"

#include "merge/policy_internal.h"

#include <math.h>

double kd_measure_sharpen(const struct kd_merge_plan *plan)
{
    const bool at_one =
        (kd_policy_rule(plan->policy)->traits & KD_MEASURES_AT_ONE) != 0;

    if (plan->weigh_at > 0)
        return plan->temperature / plan->weigh_at;
    return at_one ? plan->temperature : 1;
}

/* log sum_d exp(s v(d)); at T it is stored, of all classes, before rounding. */
static double log_sum(const struct kd_policy_row *row, size_t m, double sharpen)
{
    double sum = 0;

    if (sharpen == 1)
        return (double)row->log_z[m];
    for (size_t c = 0; c < row->outcomes; c++)
        sum += exp(sharpen * (double)row->values[m][c]);
    return log(sum);
}

double kd_measure_log_p(const struct kd_policy_row *row, size_t m, double sharpen,
                        size_t outcome)
{
    return sharpen * (double)row->values[m][outcome] - log_sum(row, m, sharpen);
}

double kd_measure_entropy(const struct kd_policy_row *row, size_t m, double sharpen)
{
    const double norm = log_sum(row, m, sharpen);
    double sum = 0;

    for (size_t c = 0; c < row->outcomes; c++) {
        const double log_p = sharpen * (double)row->values[m][c] - norm;
        sum -= exp(log_p) * log_p;
    }
    return fmax(sum, 0);
}

size_t kd_measure_vote(const struct kd_policy_row *row, size_t m)
{
    size_t best = row->outcomes;

    for (size_t c = 0; c < row->outcomes; c++)
        if (kd_policy_class(row, c) != KD_CLASS_REST &&
            (best == row->outcomes || row->values[m][c] > row->values[m][best]))
            best = c;
    return best;
}

double kd_measure_confidence(const struct kd_policy_row *row, size_t m, double sharpen,
                             enum kd_confidence kind)
{
    const double norm = log_sum(row, m, sharpen);
    const size_t best = kd_measure_vote(row, m);
    double second = -INFINITY, p = exp(sharpen * (double)row->values[m][best] - norm);

    if (kind == KD_CONFIDENCE_MAX)
        return p;
    for (size_t c = 0; c < row->outcomes; c++)
        if (c != best && kd_policy_class(row, c) != KD_CLASS_REST)
            second = fmax(second, (double)row->values[m][c]);
    return p - exp(sharpen * second - norm);
}
