/* SPDX-License-Identifier: MIT */
/*
 * Schedules: the learning rate of every step.
 *
 *     constant    lr
 *     step        lr * gamma^k, k times `every` epochs passed
 *     multistep   lr * gamma^k, k milestones (in epochs) passed
 *     cosine      lr * (1 + cos(pi * t)) / 2, t the share of the run that is over,
 *                 counted from the end of the warm-up (Loshchilov and Hutter 2017)
 *
 * During the first `warmup` epochs the rate climbs from 0 to lr linearly, step by
 * step.
 */
#ifndef KD_SCHEDULE_H
#define KD_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

enum kd_schedule_kind { KD_CONSTANT, KD_STEP, KD_MULTISTEP, KD_COSINE };
extern const char *const kd_schedule_kinds[]; /* ended by NULL */

#define KD_MAX_MILESTONES 32

struct kd_schedule {
    int kind; /* enum kd_schedule_kind */
    double lr;
    double warmup; /* epochs */
    double gamma;
    uint64_t every;                         /* epochs, at least 1 */
    uint64_t milestones[KD_MAX_MILESTONES]; /* epochs since the start, ascending */
    size_t num_milestones;
};

/* The rate of step `step` (from 0) of a run of `epochs` epochs of `steps` steps. */
double kd_schedule_rate(const struct kd_schedule *schedule, uint64_t step,
                        uint64_t steps, uint64_t epochs);

#endif
