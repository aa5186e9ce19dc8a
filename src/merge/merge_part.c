/* SPDX-License-Identifier: MIT */
/* The plan for a row that some teachers lack. */
#include "kd/merge.h"

#include "merge/policy_internal.h"

enum kd_status kd_merge_plan_part(const struct kd_merge_plan *plan,
                                  const bool present[KD_MAX_TEACHERS],
                                  struct kd_merge_plan *part)
{
    size_t n = 0;

    *part = *plan;
    for (size_t m = 0; m < plan->teachers; m++) {
        const bool left_out =
            plan->policy == KD_POLICY_LEAVE_ONE_OUT && m == plan->left_out;

        if (!present[m])
            continue;
        part->weights[n] = left_out ? 0 : plan->weights[m];
        part->calibration[n] = plan->calibration[m];
        part->accuracy[n] = plan->accuracy[m];
        n++;
    }
    part->teachers = n;
    if (plan->policy == KD_POLICY_LEAVE_ONE_OUT)
        part->policy = KD_POLICY_MEAN_PROB;
    if (n == 0)
        return kd_fail(KD_EDATA, "no teacher has it");
    if (!kd_policy_scale(part->weights, n))
        return kd_fail(KD_EDATA, "no teacher has it that has a weight");
    if (plan->policy == KD_POLICY_TRIMMED_MEAN && 2 * plan->trim >= n)
        return kd_fail(KD_EDATA,
                       "%zu teachers have it, too few to leave out %llu at "
                       "either end",
                       n, (unsigned long long)plan->trim);
    return KD_OK;
}
