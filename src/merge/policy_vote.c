/* SPDX-License-Identifier: MIT */
/* Votes: of a teacher, its most probable class. */
#include "merge/policy_internal.h"

#include "kd/random.h"
#include "merge/measure_internal.h"

#include <float.h>
#include <math.h>

/* Shares of votes and means are sums of rounded numbers: what differs by less is equal.
 */
#define SLACK 1e-9

/* The outcomes that got votes, M at most. */
struct votes {
    size_t count;
    size_t outcome[KD_MAX_TEACHERS];
    double share[KD_MAX_TEACHERS];
};

static void count_votes(const struct kd_merge_plan *plan,
                        const struct kd_policy_row *row, const double *weights,
                        struct votes *votes)
{
    votes->count = 0;
    for (size_t m = 0; m < plan->teachers; m++) {
        size_t i = 0, vote = 0;

        if (!(weights[m] > 0))
            continue;
        vote = kd_measure_vote(row, m);
        while (i < votes->count && votes->outcome[i] != vote)
            i++;
        if (i == votes->count) {
            votes->outcome[i] = vote;
            votes->share[i] = 0;
            votes->count++;
        }
        votes->share[i] += weights[m];
    }
}

static double mean_of(const struct kd_merge_plan *plan, const struct kd_policy_row *row,
                      const double *weights, size_t outcome)
{
    double sum = 0;

    for (size_t m = 0; m < plan->teachers; m++)
        if (weights[m] > 0)
            sum += weights[m] * exp(kd_policy_log_p(row, m, outcome));
    return sum;
}

/* The index of the winner: by votes, then by mean probability, then the first. */
static size_t winner(const struct kd_merge_plan *plan, const struct kd_policy_row *row,
                     const double *weights, const struct votes *votes)
{
    size_t best = 0;

    for (size_t i = 1; i < votes->count; i++) {
        double more = votes->share[i] - votes->share[best];

        if (fabs(more) <= SLACK)
            more = mean_of(plan, row, weights, votes->outcome[i]) -
                   mean_of(plan, row, weights, votes->outcome[best]);
        if (more > SLACK ||
            (more >= -SLACK && votes->outcome[i] < votes->outcome[best]))
            best = i;
    }
    return best;
}

enum kd_status kd_pool_vote(const struct kd_merge_plan *plan,
                            const struct kd_policy_row *row, const double *weights,
                            float *out, bool *answered)
{
    struct votes votes;

    (void)answered;
    count_votes(plan, row, weights, &votes);
    kd_policy_one_hot(out, row->outcomes,
                      votes.outcome[winner(plan, row, weights, &votes)]);
    return KD_OK;
}

enum kd_status kd_pool_vote_share(const struct kd_merge_plan *plan,
                                  const struct kd_policy_row *row,
                                  const double *weights, float *out, bool *answered)
{
    struct votes votes;

    (void)answered;
    count_votes(plan, row, weights, &votes);
    kd_policy_one_hot(out, row->outcomes, row->outcomes);
    for (size_t i = 0; i < votes.count; i++)
        out[votes.outcome[i]] = (float)log(votes.share[i]);
    return KD_OK;
}

/* sum_m w_m KL(p_m || p), `log_p` [n] being log p of the weighted mean. */
static double divergence(const struct kd_merge_plan *plan,
                         const struct kd_policy_row *row, const double *weights,
                         const float *log_p)
{
    double sum = 0;

    for (size_t m = 0; m < plan->teachers; m++) {
        double kl = 0;

        if (!(weights[m] > 0))
            continue;
        for (size_t c = 0; c < row->outcomes; c++) {
            const double own = kd_policy_log_p(row, m, c);
            kl += exp(own) * (own - (double)log_p[c]);
        }
        sum += weights[m] * kl;
    }
    return sum;
}

enum kd_status kd_pool_agreement(const struct kd_merge_plan *plan,
                                 const struct kd_policy_row *row, const double *weights,
                                 float *out, bool *answered)
{
    enum kd_status status = kd_pool_mean_prob(plan, row, weights, out, answered);
    struct votes votes;

    if (plan->agree == KD_AGREE_JS) {
        *answered = divergence(plan, row, weights, out) <= plan->threshold;
        return status;
    }
    count_votes(plan, row, weights, &votes);
    *answered =
        votes.share[winner(plan, row, weights, &votes)] >= plan->threshold - SLACK;
    return status;
}

/* -- with noise ------------------------------------------------------------------ */

/* By the inverse of the distribution function; |u| < 1/2. */
static double laplace(struct kd_random *r, double scale)
{
    const double u = kd_random_unit(r) - 0.5, most = 0.5 - 0x1p-54;
    const double size = -scale * log1p(-2 * fmin(fabs(u), most));

    return u < 0 ? -size : size;
}

static double draw_noise(const struct kd_noise *noise, struct kd_random *r)
{
    return noise->kind == KD_NOISE_LNMAX ? laplace(r, noise->scale)
                                         : noise->scale * kd_random_normal(r);
}

/* Every class gets its noise in the order of classes, with votes or without. */
enum kd_status kd_pool_noisy_vote(const struct kd_merge_plan *plan,
                                  const struct kd_policy_row *row,
                                  const double *weights, float *out, bool *answered)
{
    struct kd_random r = kd_random_at(plan->seed, KD_RANDOM_NOISE, row->id, row->view);
    const struct kd_noise *noise = &plan->noise;
    double most = 0, best = -INFINITY;
    size_t chosen = 0;

    (void)weights; /* one teacher, one vote: the cost counts on it */
    for (size_t c = 0; c < row->outcomes; c++)
        out[c] = 0;
    for (size_t m = 0; m < plan->teachers; m++) {
        const size_t vote = kd_measure_vote(row, m);

        out[vote] += 1;
        most = fmax(most, (double)out[vote]);
    }
    if (noise->kind == KD_NOISE_CONFIDENT_GNMAX)
        *answered = most + noise->check * kd_random_normal(&r) >= noise->threshold;
    for (size_t c = 0; c < row->outcomes && *answered; c++) {
        const double count = (double)out[c] + draw_noise(noise, &r);

        if (count > best) {
            best = count;
            chosen = c;
        }
    }
    kd_policy_one_hot(out, row->outcomes, chosen);
    return KD_OK;
}
