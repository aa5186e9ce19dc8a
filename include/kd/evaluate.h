/* SPDX-License-Identifier: MIT */
/*
 * Evaluation: how good, how sure and how much of one mind predictors are. A predictor
 * is a network, run over a dataset, or a cache of soft labels.
 *
 *     const char *const names[] = {"model:a.h5", "soft-labels"};
 *     struct kd_evaluation *evaluation = NULL;
 *     KD_TRY(kd_evaluate(names, 2, &options, &evaluation));
 *     KD_TRY(kd_evaluation_write(evaluation, stdout));
 *     kd_evaluation_free(evaluation);
 *
 * With p(c) the probability of class c and y the label, means over samples of
 *
 *     accuracy    [argmax p = y]; among equals the lowest class counts
 *     top-5       [y is among the five most probable]
 *     NLL         -log p(y), in nats
 *     Brier       sum_c (p(c) - [c = y])^2, from 0 to 2 (Brier 1950)
 *     entropy     -sum_c p(c) log p(c), in nats
 *     confidence  max_c p(c)
 *
 * and, over 15 bins of confidence, ((m-1)/15, m/15] (Guo et al. 2017),
 *
 *     ECE         sum_m n_m/n |accuracy_m - confidence_m|
 *
 * Entropy and confidence are of all samples, the others of those with a label. Of
 * pairs: agreement, the share with the same argmax; churn = 1 - agreement (Milani
 * Fard et al. 2016); and the mean total variation distance sum_c |p_a(c) - p_b(c)|/2.
 */
#ifndef KD_EVALUATE_H
#define KD_EVALUATE_H

#include "kd/json.h"
#include "kd/soft.h"
#include "kd/status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define KD_CALIBRATION_BINS 15
#define KD_MAX_PREDICTORS   64

/* One bin of the reliability table: sums over its samples. */
struct kd_calibration_bin {
    uint64_t samples, right;
    double confidence;
};

/* Sums over samples; all 0 at first. */
struct kd_metrics {
    uint64_t samples, labelled;
    uint64_t right, right5; /* of the labelled ones, as the next two */
    double nll, brier;
    double entropy, confidence;
    struct kd_calibration_bin bins[KD_CALIBRATION_BINS]; /* labelled ones */
};

/* What a single sample adds to them. */
struct kd_metrics_row {
    int32_t label;
    uint32_t best; /* the most probable class */
    uint32_t rank; /* classes before the label; 0 without one, as the next two */
    double nll, brier;
    double entropy, confidence;
};

/* Measures log-probabilities log_p[classes]; label -1: unknown. */
void kd_metrics_measure(const float *log_p, size_t classes, int32_t label,
                        struct kd_metrics_row *row);
void kd_metrics_add(struct kd_metrics *metrics, const struct kd_metrics_row *row);

/* Means; NaN where there is no sample to take them of. */
struct kd_scores {
    double accuracy, top5, nll, brier, ece, entropy, confidence;
};
void kd_metrics_scores(const struct kd_metrics *metrics, struct kd_scores *scores);

/* Two predictors over the same samples; sums. */
struct kd_pair_metrics {
    uint64_t agreeing;
    double variation;
};

struct kd_evaluate_options {
    const char *data;   /* a DATASET; NULL: the samples of the caches */
    double temperature; /* of all predictors; 0: networks 1, caches their own */
};

struct kd_predictor_metrics {
    char *name; /* as it was given */
    double temperature;
    struct kd_metrics metrics;
};

struct kd_evaluation {
    size_t count;
    struct kd_predictor_metrics *predictors; /* [count] */
    struct kd_pair_metrics *pairs;           /* [count][count], symmetric */
    uint64_t samples;                        /* ids times views */
    uint64_t first_id, num_ids;
    uint32_t first_view, views;
    char augment[64]; /* of the views, kd_view_text */
};

/*
 * Evaluates predictors `names` [count] over the same samples, block by block, so that
 * memory does not grow with their number. A name is model:FILE, a network's FILE, or
 * a cache. Samples are the ids of options->data or, without it, those that all caches
 * have; of them view 0 if all caches have it, else the views that all have. Labels
 * are the dataset's or else the first cache's.
 *
 * KD_EUSAGE for a network without options->data; KD_EDATA where the predictors are
 * not of the same dataset and classes, or a cache lacks samples of options->data;
 * KD_EINTERRUPTED if a signal asks to stop. *evaluation is freed by the caller.
 */
enum kd_status kd_evaluate(const char *const *names, size_t count,
                           const struct kd_evaluate_options *options,
                           struct kd_evaluation **evaluation) KD_CHECKED;
void kd_evaluation_free(struct kd_evaluation *evaluation); /* NULL is fine */

/* A table for people, a line a predictor; with several also the matrices of agreement
 * and of total variation. */
enum kd_status kd_evaluation_write(const struct kd_evaluation *evaluation,
                                   FILE *to) KD_CHECKED;

/* The same and the reliability tables, as one JSON object. */
void kd_evaluation_json(const struct kd_evaluation *evaluation, struct kd_json *json);

/*
 * Comparisons: how far the soft labels of caches are from those of a reference, row by
 * row, as an encoding makes them another. With r the reference's probabilities and q
 * the cache's, in nats and as shares:
 *
 *     KL          sum_c r_c log(r_c / q_c), infinite where q lacks a class of r
 *     variation   sum_c |r_c - q_c| / 2
 *     agreement   [argmax r = argmax q]; among equals the lowest class counts
 *
 * Under the tail rule `bucket` the classes that a row of the cache has not kept are one
 * class in both.
 */
struct kd_compare_options {
    double temperature; /* of both; 0: the reference's own */
    enum kd_tail tail;  /* of the caches' rows; the reference's are spread */
};

struct kd_comparison {
    char *name; /* as it was given */
    double temperature;
    uint64_t rows, agreeing;
    uint64_t bytes;   /* of the cache's shards */
    double kl;        /* sum over rows */
    double variation; /* sum over rows */
    double worst_kl, worst_variation;
};

/* Compares every row of the caches `names` [count] with the same row of `reference`;
 * lists [count], which the caller frees with kd_comparisons_free. KD_EDATA where one is
 * not of the reference's dataset, classes and views, has a row that the reference
 * lacks, or cannot be used at the temperature. */
enum kd_status kd_compare(const char *reference, const char *const *names, size_t count,
                          const struct kd_compare_options *options,
                          struct kd_comparison **comparisons) KD_CHECKED;
void kd_comparisons_free(struct kd_comparison *comparisons, size_t count);

/* A table for people, a line a cache; one JSON object. */
enum kd_status kd_comparisons_write(const struct kd_comparison *comparisons,
                                    size_t count, FILE *to) KD_CHECKED;
void kd_comparisons_json(const struct kd_comparison *comparisons, size_t count,
                         struct kd_json *json);

#endif
