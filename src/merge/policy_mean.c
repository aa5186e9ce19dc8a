/* SPDX-License-Identifier: MIT */
/* Weighted means of rows. The first two are loops over stretches of outcomes that the
 * compiler makes vectors of. */
#include "merge/policy_internal.h"

#include "kd/vector.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define LANES   16
#define STRETCH (16 * LANES)

/* The teachers whose weight is not 0. */
struct pooled {
    size_t count;
    const float *values[KD_MAX_TEACHERS]; /* [n] */
    float shift[KD_MAX_TEACHERS];         /* mean-prob: log w_m - log_z_m */
    double weight[KD_MAX_TEACHERS], row_max[KD_MAX_TEACHERS];
};

static void gather(const struct kd_merge_plan *plan, const struct kd_policy_row *row,
                   const double *weights, struct pooled *pooled)
{
    pooled->count = 0;
    for (size_t m = 0; m < plan->teachers; m++) {
        const size_t to = pooled->count;

        if (!(weights[m] > 0))
            continue;
        pooled->values[to] = row->values[m];
        pooled->shift[to] = (float)(log(weights[m]) - (double)row->log_z[m]);
        pooled->weight[to] = weights[m];
        pooled->row_max[to] = (double)row->row_max[m];
        pooled->count++;
    }
}

/* Calls mean(from, at, n, out) for all outcomes. What is left of whole vectors begins
 * earlier, to be whole too: outcomes that are done twice get the same bits again. */
static void by_stretches(void (*mean)(const struct pooled *from, size_t at, size_t n,
                                      float *out),
                         const struct pooled *from, size_t outcomes, float *out)
{
    const size_t whole = outcomes - outcomes % LANES;

    for (size_t at = 0; at < whole; at += STRETCH)
        mean(from, at, whole - at < STRETCH ? whole - at : STRETCH, out);
    if (outcomes < LANES)
        mean(from, 0, outcomes, out);
    else if (whole < outcomes)
        mean(from, outcomes - LANES, LANES, out);
}

/* top = max(top, v + shift) */
KD_VECTOR static void lift(const float *restrict v, float shift, size_t n,
                           float *restrict top)
{
    for (size_t l = 0; l < n; l++)
        top[l] = v[l] + shift > top[l] ? v[l] + shift : top[l];
}

/* sum += exp(v + shift - top) */
KD_VECTOR static void add_terms(const float *restrict v, float shift,
                                const float *restrict top, size_t n,
                                float *restrict sum)
{
    for (size_t l = 0; l < n; l++)
        sum[l] += kd_vector_exp(v[l] + shift - top[l]);
}

/* out = top + log(sum) */
KD_VECTOR static void finish(const float *restrict top, const float *restrict sum,
                             size_t n, float *restrict out)
{
    for (size_t l = 0; l < n; l++) {
        const float log_p = top[l] + kd_vector_log(sum[l]);
        out[l] = log_p > -FLT_MAX ? log_p : -FLT_MAX;
    }
}

/* log sum_m w_m p_m(c) for `n` outcomes from `at` on. The greatest term is taken out of
 * the sum first: it is within [1, M] and nothing under- or overflows. */
static void mean_prob(const struct pooled *from, size_t at, size_t n, float *out)
{
    float top[STRETCH], sum[STRETCH];

    for (size_t l = 0; l < n; l++) {
        top[l] = -FLT_MAX;
        sum[l] = 0;
    }
    for (size_t m = 0; m < from->count; m++)
        lift(from->values[m] + at, from->shift[m], n, top);
    for (size_t m = 0; m < from->count; m++)
        add_terms(from->values[m] + at, from->shift[m], top, n, sum);
    finish(top, sum, n, out + at);
}

enum kd_status kd_pool_mean_prob(const struct kd_merge_plan *plan,
                                 const struct kd_policy_row *row, const double *weights,
                                 float *out, bool *answered)
{
    struct pooled pooled;

    (void)answered;
    gather(plan, row, weights, &pooled);
    by_stretches(mean_prob, &pooled, row->outcomes, out);
    return KD_OK;
}

/* sum_m w_m u_m(c), u_m(c) = value_m(c) + row_max_m, for `n` outcomes from `at` on. */
KD_VECTOR static void mean_logit(const struct pooled *from, size_t at, size_t n,
                                 float *out)
{
    double sum[STRETCH] = {0};

    for (size_t m = 0; m < from->count; m++)
        for (size_t l = 0; l < n; l++)
            sum[l] +=
                from->weight[m] * ((double)from->values[m][at + l] + from->row_max[m]);
    for (size_t l = 0; l < n; l++) {
        const double low = sum[l] > -FLT_MAX ? sum[l] : -FLT_MAX;
        out[at + l] = (float)(low < FLT_MAX ? low : FLT_MAX);
    }
}

enum kd_status kd_pool_mean_logit(const struct kd_merge_plan *plan,
                                  const struct kd_policy_row *row,
                                  const double *weights, float *out, bool *answered)
{
    struct pooled pooled;

    (void)answered;
    gather(plan, row, weights, &pooled);
    by_stretches(mean_logit, &pooled, row->outcomes, out);
    return KD_OK;
}

/* log sum_m w_m(c) p_m(c); the rest is weighted as a class on its own would be. */
enum kd_status kd_pool_class_weights(const struct kd_merge_plan *plan,
                                     const struct kd_policy_row *row,
                                     const double *weights, float *out, bool *answered)
{
    (void)answered;
    for (size_t c = 0; c < row->outcomes; c++) {
        const uint32_t class = kd_policy_class(row, c);
        double term[KD_MAX_TEACHERS], top = -DBL_MAX, sum = 0;

        for (size_t m = 0; m < plan->teachers; m++) {
            const double w = class == KD_CLASS_REST
                                 ? weights[m]
                                 : plan->class_weights[m * row->classes + class];
            term[m] = log(w) + kd_policy_log_p(row, m, c); /* -inf where w is 0 */
            top = fmax(top, term[m]);
        }
        for (size_t m = 0; m < plan->teachers; m++)
            sum += exp(term[m] - top);
        out[c] = (float)fmax(top + log(sum), -FLT_MAX);
    }
    kd_policy_normalize(out, row->outcomes);
    return KD_OK;
}

/* The row of the one teacher that was chosen. */
enum kd_status kd_pool_keep(const struct kd_merge_plan *plan,
                            const struct kd_policy_row *row, const double *weights,
                            float *out, bool *answered)
{
    size_t m = 0;
    double shift = 0;

    (void)answered;
    while (m + 1 < plan->teachers && !(weights[m] > 0))
        m++;
    shift = plan->keeps_logits ? (double)row->row_max[m] : -(double)row->log_z[m];
    for (size_t c = 0; c < row->outcomes; c++)
        out[c] = (float)fmax((double)row->values[m][c] + shift, -FLT_MAX);
    return KD_OK;
}
