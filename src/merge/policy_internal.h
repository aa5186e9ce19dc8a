/* SPDX-License-Identifier: MIT */
/* What a policy is. */
#ifndef KD_MERGE_POLICY_INTERNAL_H
#define KD_MERGE_POLICY_INTERNAL_H

#include "kd/merge.h"

#include <stdbool.h>

/* One row of each teacher whose weight is not 0. */
struct kd_policy_row {
    size_t teachers;                      /* M, at least 1 */
    const float *values[KD_MAX_TEACHERS]; /* [M][classes] u_m minus its maximum */
    double weights[KD_MAX_TEACHERS];      /* [M] above 0, of sum 1 */
    float row_max[KD_MAX_TEACHERS];       /* [M] */
    float log_z[KD_MAX_TEACHERS];         /* [M] */
};

struct kd_policy_rule {
    const char *name;
    bool needs_logits; /* log-probabilities will not do */
    enum kd_value_kind gives;
    void (*merge)(const struct kd_policy_row *row, size_t classes, float *out);
};

const struct kd_policy_rule *kd_policy_rule(enum kd_policy policy);

#endif
