/* SPDX-License-Identifier: MIT */
/* Learning rates. */
#include "kd/schedule.h"

#include <math.h>

const char *const kd_schedule_kinds[] = {"constant", "step", "multistep", "cosine",
                                         NULL};

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
