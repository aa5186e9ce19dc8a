/* SPDX-License-Identifier: MIT */
/* Learning rates, weights that climb, logits that are annealed. */
#include "kd/schedule.h"

#include <math.h>

const char *const kd_schedule_kinds[] = {"constant", "step", "multistep", "cosine",
                                         NULL};

const char *const kd_ramp_kinds[] = {"none", "linear", "sigmoid", NULL};

static const double pi = 3.14159265358979323846;

double kd_schedule_rate(const struct kd_schedule *schedule, uint64_t step,
                        uint64_t steps, uint64_t epochs)
{
    const double first = schedule->warmup * (double)steps; /* steps of warm-up */
    const double total = (double)steps * (double)epochs;
    double rate = schedule->lr;

    if ((double)step < first)
        return rate * ((double)step + 1) / (first + 1);
    if (schedule->kind == KD_COSINE)
        rate *= (1 + cos(pi * ((double)step - first) / (total - first))) / 2;
    if (schedule->kind == KD_STEP)
        rate *= pow(schedule->gamma, (double)(step / steps / schedule->every));
    if (schedule->kind == KD_MULTISTEP)
        for (size_t i = 0; i < schedule->num_milestones; i++)
            if (step / steps >= schedule->milestones[i])
                rate *= schedule->gamma;
    return rate;
}

double kd_ramp_weight(const struct kd_ramp *ramp, uint64_t epoch)
{
    if (ramp->kind == KD_RAMP_NONE || epoch >= ramp->epochs)
        return 1;
    const double t = (double)epoch / (double)ramp->epochs;
    return ramp->kind == KD_RAMP_LINEAR ? t : exp(-5 * (1 - t) * (1 - t));
}

double kd_anneal_factor(uint64_t k, uint64_t steps)
{
    return steps == 0 ? 1 : (double)k / (double)steps;
}

uint64_t kd_anneal_step(uint64_t epoch, uint64_t epochs, uint64_t steps)
{
    const uint64_t k = steps == 0 ? 0 : epoch / (epochs / steps) + 1;

    return k < steps ? k : steps;
}
