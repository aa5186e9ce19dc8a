/* SPDX-License-Identifier: MIT */
/*
 * Schedules: what changes while a run goes on. The learning rate, step by step:
 *
 *     constant    lr
 *     step        lr * gamma^k, k times `every` epochs passed
 *     multistep   lr * gamma^k, k milestones (in epochs) passed
 *     cosine      lr * (1 + cos(pi * t)) / 2, t the share of the run that is over,
 *                 counted from the end of the warm-up (Loshchilov and Hutter 2017)
 *
 * During the first `warmup` epochs the rate climbs from 0 to lr linearly, step by
 * step.
 *
 * The weight of the soft labels, epoch by epoch, e from 0, climbing over R epochs with
 * t = min(e, R) / R:
 *
 *     none        1
 *     linear      t
 *     sigmoid     exp(-5 (1 - t)^2), as ONE, FFL and OKDDip have it, with R = 80
 *
 * The teacher's logits are multiplied by a factor that climbs to 1 in n equal steps
 * over E epochs, k / n in step k = 1, ..., n (Annealing-KD, Jafari et al. 2021, has
 * T / Tmax; its paper writes 1 - (tau - 1) / n with tau = n - k + 1, the same). A step
 * is E / n epochs, rounded down; the last one takes what is left.
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

enum kd_ramp_kind { KD_RAMP_NONE, KD_RAMP_LINEAR, KD_RAMP_SIGMOID };
extern const char *const kd_ramp_kinds[]; /* ended by NULL */

struct kd_ramp {
    int kind;        /* enum kd_ramp_kind */
    uint64_t epochs; /* R, at least 1 */
};

/* The rate of step `step` (from 0) of a run of `epochs` epochs of `steps` steps. */
double kd_schedule_rate(const struct kd_schedule *schedule, uint64_t step,
                        uint64_t steps, uint64_t epochs);

/* What the weight of the soft labels is multiplied by in epoch `epoch` (from 0). */
double kd_ramp_weight(const struct kd_ramp *ramp, uint64_t epoch);

/* The factor of step k of `steps`, 1 where there are none; and which step epoch `epoch`
 * (from 0) of `epochs` is in: epochs >= steps. */
double kd_anneal_factor(uint64_t k, uint64_t steps);
uint64_t kd_anneal_step(uint64_t epoch, uint64_t epochs, uint64_t steps);

#endif
