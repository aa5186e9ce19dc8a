/* SPDX-License-Identifier: MIT */
/* Renyi accounting; include/kd/privacy.h derives the formulas. */
#include "kd/privacy.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

const char *const kd_noise_names[] = {"lnmax", "gnmax", "confident-gnmax", NULL};

enum kd_status kd_noise_check(const struct kd_noise *noise)
{
    const bool confident = noise->kind == KD_NOISE_CONFIDENT_GNMAX;

    if (!(noise->scale > 0) || !isfinite(noise->scale))
        return kd_fail(KD_EUSAGE, "noisy-vote needs --noise-scale, in votes, above 0");
    if (confident && !(noise->check > 0 && isfinite(noise->check)))
        return kd_fail(KD_EUSAGE, "confident-gnmax needs --check-scale, above 0");
    if (confident && !(noise->threshold > 0 && isfinite(noise->threshold)))
        return kd_fail(KD_EUSAGE, "confident-gnmax needs --threshold, in votes");
    if (!confident && (noise->check != 0 || noise->threshold != 0))
        return kd_fail(KD_EUSAGE,
                       "--check-scale and --threshold are for --noise "
                       "confident-gnmax, not %s",
                       kd_noise_names[noise->kind]);
    return KD_OK;
}

/* The Renyi cost of a Laplace mechanism of sensitivity 1, the greater term taken out of
 * the sum. */
static double laplace(double scale, double a)
{
    const double stay = log(a / (2 * a - 1)) + (a - 1) / scale;
    const double go = log((a - 1) / (2 * a - 1)) - a / scale;

    return (stay + log1p(exp(go - stay))) / (a - 1);
}

double kd_privacy_renyi(const struct kd_noise *noise, uint64_t asked, uint64_t answered,
                        double order)
{
    double cost = 0;

    if (noise->kind == KD_NOISE_LNMAX)
        return 2 * laplace(noise->scale, order) * (double)answered;
    cost = (double)answered * order / (noise->scale * noise->scale);
    if (noise->kind == KD_NOISE_CONFIDENT_GNMAX)
        cost += (double)asked * order / (2 * noise->check * noise->check);
    return cost;
}

/* The (epsilon, delta) that order 1 + e^x gives. Every x gives a bound that holds. */
static double epsilon_at(const struct kd_noise *noise, uint64_t asked,
                         uint64_t answered, double delta, double x)
{
    return kd_privacy_renyi(noise, asked, answered, 1 + exp(x)) - log(delta) * exp(-x);
}

/* The least is looked for on a grid, then between its neighbours by golden section. */
static double best_order(const struct kd_noise *noise, uint64_t asked,
                         uint64_t answered, double delta)
{
    const double low = -12, high = 24, step = 0.125, golden = 0.6180339887498949;
    double best = low, a = 0, b = 0;

    for (double x = low; x <= high; x += step)
        if (epsilon_at(noise, asked, answered, delta, x) <
            epsilon_at(noise, asked, answered, delta, best))
            best = x;
    a = best - step;
    b = best + step;
    while (b - a > 1e-9) {
        const double c = b - golden * (b - a), d = a + golden * (b - a);

        if (epsilon_at(noise, asked, answered, delta, c) <
            epsilon_at(noise, asked, answered, delta, d))
            b = d;
        else
            a = c;
    }
    return (a + b) / 2;
}

struct kd_privacy kd_privacy_cost(const struct kd_noise *noise, uint64_t asked,
                                  uint64_t answered, double delta)
{
    struct kd_privacy cost = {INFINITY, INFINITY};
    double x = 0, epsilon = 0;

    if (asked == 0 && answered == 0)
        return (struct kd_privacy){0, INFINITY};
    if (noise->kind == KD_NOISE_LNMAX)
        cost.epsilon = 2 * (double)answered / noise->scale;
    if (!(delta > 0))
        return cost;
    x = best_order(noise, asked, answered, delta);
    epsilon = epsilon_at(noise, asked, answered, delta, x);
    if (epsilon < cost.epsilon)
        cost = (struct kd_privacy){epsilon, 1 + exp(x)};
    return cost;
}
