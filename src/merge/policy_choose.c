/* SPDX-License-Identifier: MIT */
/* Choosing one teacher for a row: all weight on it. */
#include "merge/policy_internal.h"

#include "kd/random.h"
#include "merge/measure_internal.h"

#include <math.h>

static enum kd_status choose(const struct kd_merge_plan *plan, size_t teacher,
                             double *weights)
{
    for (size_t m = 0; m < plan->teachers; m++)
        weights[m] = m == teacher ? 1 : 0;
    return KD_OK;
}

enum kd_status kd_choose_by_label(const struct kd_merge_plan *plan,
                                  const struct kd_policy_row *row, double *weights)
{
    const double sharpen = kd_measure_sharpen(plan);
    const size_t label = kd_policy_label(row);
    double best = -INFINITY;
    size_t chosen = 0;

    for (size_t m = 0; m < plan->teachers; m++) {
        const double log_p = kd_measure_log_p(row, m, sharpen, label);

        if (log_p > best) {
            best = log_p;
            chosen = m;
        }
    }
    return choose(plan, chosen, weights);
}

enum kd_status kd_choose_best(const struct kd_merge_plan *plan,
                              const struct kd_policy_row *row, double *weights)
{
    size_t chosen = 0;

    (void)row;
    for (size_t m = 1; m < plan->teachers; m++)
        if (plan->accuracy[m] > plan->accuracy[chosen])
            chosen = m;
    return choose(plan, chosen, weights);
}

/* Where rounding leaves the draw beyond the sum, it is the last one that counts. */
enum kd_status kd_choose_random(const struct kd_merge_plan *plan,
                                const struct kd_policy_row *row, double *weights)
{
    struct kd_random r =
        kd_random_at(plan->seed, KD_RANDOM_TEACHER, row->id, row->view);
    double left = kd_random_unit(&r);
    size_t chosen = 0;

    for (size_t m = 0; m < plan->teachers && left >= 0; m++) {
        if (!(weights[m] > 0))
            continue;
        chosen = m;
        left -= weights[m];
    }
    return choose(plan, chosen, weights);
}

enum kd_status kd_choose_route(const struct kd_merge_plan *plan,
                               const struct kd_policy_row *row, double *weights)
{
    const bool by_label = kd_route_by_label(plan->route);
    size_t teacher = SIZE_MAX;

    if (!by_label || row->label >= 0)
        teacher = kd_route_find(plan->route, by_label ? (uint64_t)row->label : row->id);
    else /* "*" is for it, too */
        teacher = kd_route_find(plan->route, UINT64_MAX);
    if (teacher == SIZE_MAX)
        return kd_policy_fail(row, by_label ? "the table of routes has no line for its "
                                              "label: add one, or one for *"
                                            : "the table of routes has no line for "
                                              "it: add one, or one for *");
    return choose(plan, teacher, weights);
}
