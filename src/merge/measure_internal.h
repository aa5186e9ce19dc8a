/* SPDX-License-Identifier: MIT */
/*
 * What one teacher says of a row, at a temperature t of its own: p(c) = exp(s v(c)) /
 * sum_d exp(s v(d)), where v are the row's values at T and s = T/t sharpens them.
 */
#ifndef KD_MERGE_MEASURE_INTERNAL_H
#define KD_MERGE_MEASURE_INTERNAL_H

#include "kd/policy.h"

/* s of the plan's policy. */
double kd_measure_sharpen(const struct kd_merge_plan *plan);

double kd_measure_log_p(const struct kd_policy_row *row, size_t m, double sharpen,
                        size_t outcome);
double kd_measure_entropy(const struct kd_policy_row *row, size_t m, double sharpen);
double kd_measure_confidence(const struct kd_policy_row *row, size_t m, double sharpen,
                             enum kd_confidence kind);

/* The most probable class's outcome, of equal ones the first. */
size_t kd_measure_vote(const struct kd_policy_row *row, size_t m);

#endif
