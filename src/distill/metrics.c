/* SPDX-License-Identifier: MIT */
/* Metrics of soft predictions: a sample's share, their sums, their means. */
#include "kd/evaluate.h"

#include "kd/vector.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

/* -- vectors ---------------------------------------------------------------- */

/* Sums are taken in so many parts, then of the parts in order. */
#define LANES 16

/* Makes v = values + i of length LANES, the last ones filled up with zeros, which add
 * nothing to any of the sums here. */
KD_VECTOR_INLINE void load(float v[LANES], const float *values, size_t i, size_t n)
{
    if (n - i >= LANES) {
        memcpy(v, values + i, LANES * sizeof *v);
        return;
    }
    memset(v, 0, LANES * sizeof *v);
    memcpy(v, values + i, (n - i) * sizeof *v);
}

static double add_up(const double parts[LANES])
{
    double sum = 0;

    for (size_t j = 0; j < LANES; j++)
        sum += parts[j];
    return sum;
}

/* x log x for x = 0 and from DBL_MIN on: the logarithm of 0 comes out finite. */
KD_VECTOR_INLINE double x_log_x(double x)
{
    return x * kd_vector_log64(x);
}

KD_VECTOR static void exp_row(const float *log_p, size_t n, float *p)
{
    for (size_t c = 0; c < n; c++)
        p[c] = kd_vector_exp(log_p[c]);
}

KD_VECTOR_INLINE void mix_block(const float p[LANES], const float q[LANES],
                                double mixed[LANES], double apart[LANES])
{
    for (size_t j = 0; j < LANES; j++) {
        mixed[j] += x_log_x(((double)p[j] + (double)q[j]) / 2);
        apart[j] += fabs((double)p[j] - (double)q[j]);
    }
}

/* H((p + q)/2), and in *variation the sum of |p - q| / 2. */
KD_VECTOR static double mix(const float *p, const float *q, size_t n, double *variation)
{
    double mixed[LANES] = {0}, apart[LANES] = {0};
    float a[LANES], b[LANES];

    for (size_t i = 0; i < n; i += LANES) {
        load(a, p, i, n);
        load(b, q, i, n);
        mix_block(a, b, mixed, apart);
    }
    *variation = add_up(apart) / 2;
    return 0 - add_up(mixed);
}

KD_VECTOR_INLINE void square_block(const float p[LANES], double squares[LANES])
{
    for (size_t j = 0; j < LANES; j++)
        squares[j] += (double)p[j] * (double)p[j];
}

KD_VECTOR static double square(const float *p, size_t n)
{
    double squares[LANES] = {0};
    float a[LANES];

    for (size_t i = 0; i < n; i += LANES) {
        load(a, p, i, n);
        square_block(a, squares);
    }
    return add_up(squares);
}

/* -- a sample --------------------------------------------------------------- */

static uint32_t find_best(const float *log_p, size_t classes)
{
    size_t best = 0;

    for (size_t c = 1; c < classes; c++)
        best = log_p[c] > log_p[best] ? c : best;
    return (uint32_t)best;
}

/* Among equals the lowest class comes first, as in find_best. */
static uint32_t find_rank(const float *log_p, size_t classes, size_t label)
{
    const float at = log_p[label];
    uint32_t before = 0;

    for (size_t c = 0; c < label; c++)
        before += log_p[c] >= at;
    for (size_t c = label + 1; c < classes; c++)
        before += log_p[c] > at;
    return before;
}

void kd_metrics_measure(const float *log_p, size_t classes, int32_t label, float *p,
                        struct kd_metrics_row *row)
{
    double variation = 0;

    *row = (struct kd_metrics_row){
        .label = label, .best = find_best(log_p, classes), .kept = 1};
    row->confidence = fmin(exp((double)log_p[row->best]), 1);
    if (label >= 0) {
        row->rank = find_rank(log_p, classes, (size_t)label);
        row->nll = log_p[label] > -FLT_MAX ? 0 - (double)log_p[label] : INFINITY;
    }
    exp_row(log_p, classes, p);
    row->entropy = mix(p, p, classes, &variation);
    if (label >= 0) {
        const double of_label = (double)p[label];
        row->brier =
            square(p, classes) - of_label * of_label + (1 - of_label) * (1 - of_label);
    }
}

void kd_pair_measure(const float *p, double entropy_p, const float *q, double entropy_q,
                     size_t classes, double *variation, double *divergence)
{
    const double mixed = mix(p, q, classes, variation);

    *divergence = fmax(mixed - (entropy_p + entropy_q) / 2, 0);
}

/* -- sums and means --------------------------------------------------------- */

/* The bin ((m-1)/N, m/N] of a confidence above 0, from 0. */
static size_t bin_of(double confidence, size_t bins)
{
    const double place = ceil(confidence * (double)bins) - 1;

    return place > 0 ? (size_t)place : 0;
}

void kd_metrics_add(struct kd_metrics *metrics, const struct kd_metrics_row *row)
{
    assert(metrics->num_bins >= 1 && metrics->num_bins <= KD_MAX_CALIBRATION_BINS);
    metrics->samples++;
    metrics->entropy += row->entropy;
    metrics->confidence += row->confidence;
    metrics->kept += row->kept;
    if (row->label < 0)
        return;

    struct kd_calibration_bin *bin =
        &metrics->bins[bin_of(row->confidence, metrics->num_bins)];
    metrics->labelled++;
    metrics->right += row->rank == 0;
    metrics->right5 += row->rank < 5;
    metrics->impossible += isinf(row->nll) != 0;
    metrics->nll += row->nll;
    metrics->brier += row->brier;
    bin->samples++;
    bin->right += row->rank == 0;
    bin->confidence += row->confidence;
}

void kd_metrics_scores(const struct kd_metrics *metrics, struct kd_scores *scores)
{
    const double samples = (double)metrics->samples;
    const double labelled = (double)metrics->labelled;
    double gaps = 0;

    for (size_t i = 0; i < metrics->num_bins; i++)
        gaps += fabs((double)metrics->bins[i].right - metrics->bins[i].confidence);
    *scores = (struct kd_scores){.accuracy = (double)metrics->right / labelled,
                                 .top5 = (double)metrics->right5 / labelled,
                                 .nll = metrics->nll / labelled,
                                 .brier = metrics->brier / labelled,
                                 .ece = gaps / labelled,
                                 .entropy = metrics->entropy / samples,
                                 .confidence = metrics->confidence / samples,
                                 .kept = metrics->kept / samples};
}
