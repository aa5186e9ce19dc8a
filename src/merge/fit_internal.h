/* SPDX-License-Identifier: MIT */
/* What fits share. */
#ifndef KD_MERGE_FIT_INTERNAL_H
#define KD_MERGE_FIT_INTERNAL_H

#include <stddef.h>

/* log sum_c exp(sharpen values[c]) */
double kd_fit_log_sum(const float *values, size_t classes, double sharpen);

#endif
