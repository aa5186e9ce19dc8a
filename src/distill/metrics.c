/* SPDX-License-Identifier: MIT */
/* Metrics of soft predictions: a sample's share, their sums, their means. */
#include "kd/evaluate.h"

#include <math.h>
#include <string.h>

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
    uint32_t before = 0;

    for (size_t c = 0; c < classes; c++)
        before += log_p[c] > log_p[label] || (log_p[c] == log_p[label] && c < label);
    return before;
}

void kd_metrics_measure(const float *log_p, size_t classes, int32_t label,
                        struct kd_metrics_row *row)
{
    *row = (struct kd_metrics_row){.label = label, .best = find_best(log_p, classes)};
    for (size_t c = 0; c < classes; c++) {
        const double p = exp((double)log_p[c]);
        const double missing = p - (label >= 0 && c == (size_t)label ? 1 : 0);

        row->entropy -= p * (double)log_p[c];
        row->brier += missing * missing;
    }
    row->confidence = fmin(exp((double)log_p[row->best]), 1);
    if (label < 0) {
        row->brier = 0;
        return;
    }
    row->rank = find_rank(log_p, classes, (size_t)label);
    row->nll = -(double)log_p[label];
}

/* The bin ((m-1)/15, m/15] of a confidence above 0. */
static size_t bin_of(double confidence)
{
    const double place = ceil(confidence * KD_CALIBRATION_BINS) - 1;

    return place > 0 ? (size_t)place : 0;
}

void kd_metrics_add(struct kd_metrics *metrics, const struct kd_metrics_row *row)
{
    metrics->samples++;
    metrics->entropy += row->entropy;
    metrics->confidence += row->confidence;
    if (row->label < 0)
        return;

    struct kd_calibration_bin *bin = &metrics->bins[bin_of(row->confidence)];
    metrics->labelled++;
    metrics->right += row->rank == 0;
    metrics->right5 += row->rank < 5;
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

    for (size_t i = 0; i < KD_CALIBRATION_BINS; i++)
        gaps += fabs((double)metrics->bins[i].right - metrics->bins[i].confidence);
    *scores = (struct kd_scores){.accuracy = (double)metrics->right / labelled,
                                 .top5 = (double)metrics->right5 / labelled,
                                 .nll = metrics->nll / labelled,
                                 .brier = metrics->brier / labelled,
                                 .ece = gaps / labelled,
                                 .entropy = metrics->entropy / samples,
                                 .confidence = metrics->confidence / samples};
}
