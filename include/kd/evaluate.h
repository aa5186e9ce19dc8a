/* SPDX-License-Identifier: MIT */
/*
 * Evaluation: how good, how sure and how much of one mind predictors are. A predictor
 * is a network, run over a dataset, or a cache of soft labels, of a teacher or merged.
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
 *     NLL         -log p(y), in nats; infinite where p(y) = 0
 *     Brier       sum_c (p(c) - [c = y])^2, from 0 to 2 (Brier 1950, Monthly Weather
 *                 Review 78)
 *     entropy     -sum_c p(c) log p(c), in nats
 *     confidence  max_c p(c)
 *     kept mass   what the stored classes of a row have of it; 1 if that is all of them
 *
 * and over N bins of confidence, ((m-1)/N, m/N], with n_m of the n samples in bin m,
 *
 *     ECE         sum_m n_m/n |accuracy_m - confidence_m|  (Guo et al. 2017,
 *                 arXiv 1706.04599, equation 3)
 *
 * Of pairs with probabilities p and q, H the entropy:
 *
 *     agreement   [argmax p = argmax q]
 *     variation   sum_c |p(c) - q(c)| / 2, the total variation distance
 *     divergence  H((p + q)/2) - (H(p) + H(q))/2, of Jensen and Shannon, in nats: from
 *                 0 to ln 2 (Lin 1991, IEEE Transactions on Information Theory 37, 4.1)
 *
 * Of all together: the share of samples that exactly m of the M predictors are right
 * about, m = 0..M, and the accuracy of an oracle that knows whom to ask: 1 less the
 * share of m = 0.
 *
 * Samples without a label count where none is needed: for entropy, confidence, kept
 * mass and pairs.
 *
 * Rows of sparse caches (top-k, top-p and sampled) are read by the rule `spread` of
 * kd/soft.h: the classes that a row has not kept share the mass that is left evenly.
 * All rows are then scaled to sum 1, which halves do to three digits. A stored value of
 * -65504 or less, half precision's least, is a probability of 0.
 */
#ifndef KD_EVALUATE_H
#define KD_EVALUATE_H

#include "kd/json.h"
#include "kd/soft.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define KD_CALIBRATION_BINS     15 /* unless told otherwise */
#define KD_MAX_CALIBRATION_BINS 1000
#define KD_MAX_PREDICTORS       64

/* One bin of the reliability table: sums over its samples. */
struct kd_calibration_bin {
    uint64_t samples, right;
    double confidence;
};

/* Sums over samples; all 0 at first, but for num_bins, which is at least 1. */
struct kd_metrics {
    uint64_t samples, labelled;
    uint64_t right, right5; /* of the labelled ones, as the next three */
    uint64_t impossible;    /* whose label has the probability 0 */
    double nll, brier;
    double entropy, confidence, kept;
    size_t num_bins;
    struct kd_calibration_bin bins[KD_MAX_CALIBRATION_BINS]; /* labelled ones */
};

/* What a single sample adds to them. */
struct kd_metrics_row {
    int32_t label;
    uint32_t best; /* the most probable class */
    uint32_t rank; /* classes before the label; 0 without one, as the next two */
    double nll, brier;
    double entropy, confidence;
    double kept; /* 1, for the caller to set */
};

/* Measures log-probabilities log_p [classes], -FLT_MAX for a probability of 0, and
 * leaves the probabilities in p [classes], which may be log_p. Label -1: unknown. */
void kd_metrics_measure(const float *log_p, size_t classes, int32_t label, float *p,
                        struct kd_metrics_row *row);
void kd_metrics_add(struct kd_metrics *metrics, const struct kd_metrics_row *row);

/* Means; NaN where there is no sample to take them of. */
struct kd_scores {
    double accuracy, top5, nll, brier, ece, entropy, confidence, kept;
};
void kd_metrics_scores(const struct kd_metrics *metrics, struct kd_scores *scores);

/* Two predictors over the same samples; sums. */
struct kd_pair_metrics {
    uint64_t agreeing;
    double variation, divergence;
};

/* Variation and divergence of probabilities p and q [classes], whose entropies were
 * measured. Exactly 0 where p and q are the same, and the same of q and p. */
void kd_pair_measure(const float *p, double entropy_p, const float *q, double entropy_q,
                     size_t classes, double *variation, double *divergence);

struct kd_evaluate_options {
    const char *data;   /* a DATASET; NULL: the samples of the caches */
    double temperature; /* of all predictors; 0: networks 1, caches their own */
    size_t bins;        /* of confidence; 0: KD_CALIBRATION_BINS */
};

struct kd_predictor_metrics {
    char *name; /* as it was given */
    double temperature;
    bool sparse; /* a cache whose rows have not kept all classes */
    struct kd_metrics metrics;
};

struct kd_evaluation {
    size_t count;                            /* M */
    struct kd_predictor_metrics *predictors; /* [M] */
    struct kd_pair_metrics *pairs;           /* [M][M], symmetric */
    uint64_t *right;                         /* [M+1] labelled samples that exactly m
                                                predictors are right about */
    uint64_t samples, labelled;              /* rows that were compared */
    uint64_t left_out;                       /* rows that a cache lacks */
    uint64_t first_id, num_ids;              /* where rows were looked for */
    uint32_t first_view, views;
    char augment[64]; /* of the views, kd_view_text */
};

/*
 * Evaluates predictors `names` [count] over the same samples, block by block, so that
 * memory does not grow with their number; the result does not depend on threads. A name
 * is model:FILE, a network's FILE, or a cache. Samples are the rows that all caches
 * have, of the ids of options->data if it is given; of them view 0 if all caches have
 * it, else the views that all have. Labels are the dataset's or else those of the first
 * cache that knows them.
 *
 * KD_EUSAGE for a network without options->data, and options out of range; KD_EDATA
 * where the predictors are not of the same dataset and classes or have no row in
 * common, or a cache cannot be used at the temperature; KD_EINTERRUPTED if a signal
 * asks to stop. *evaluation is freed by the caller.
 */
enum kd_status kd_evaluate(const char *const *names, size_t count,
                           const struct kd_evaluate_options *options,
                           struct kd_evaluation **evaluation) KD_CHECKED;
void kd_evaluation_free(struct kd_evaluation *evaluation); /* NULL is fine */

/* Tables for people: a line a predictor; with several, the matrices of agreement,
 * divergence and variation, and how many are right at once. Of long names the end. */
enum kd_status kd_evaluation_write(const struct kd_evaluation *evaluation,
                                   FILE *to) KD_CHECKED;

/* The reliability table of each predictor. */
enum kd_status kd_evaluation_write_reliability(const struct kd_evaluation *evaluation,
                                               FILE *to) KD_CHECKED;

/* All of that as one JSON object; an infinite NLL is null, and `impossible` says of how
 * many samples. */
void kd_evaluation_json(const struct kd_evaluation *evaluation, struct kd_json *json);

/*
 * Churn: what changes when a network is trained again, with another seed, from
 * predictors that are retrains of one recipe. Means over samples, of a pair:
 *
 *     churn       [argmax p != argmax q], the disagreement (Milani Fard et al. 2016,
 *                 "Launch and Iterate: Reducing Prediction Churn")
 *     difference  |p - q| as half the L1 norm, sum_c |p(c) - q(c)| / 2: from 0 to 1. Of
 *                 two classes that is the difference of the predicted probability of
 *                 one, by which codistillation was measured (Anil et al. 2018,
 *                 arXiv 1804.03235)
 *
 * and then means over pairs.
 */
struct kd_churn {
    double disagreement, difference;
};
struct kd_churn kd_churn_of_pair(const struct kd_evaluation *evaluation, size_t a,
                                 size_t b);

/* Over the pairs of the at least 2 predictors. */
struct kd_churn kd_churn_mean(const struct kd_evaluation *evaluation);

/* A table for people, a line a pair, and one JSON object; with mean and standard
 * deviation (n - 1) of the accuracies. */
enum kd_status kd_churn_write(const struct kd_evaluation *evaluation,
                              FILE *to) KD_CHECKED;
void kd_churn_json(const struct kd_evaluation *evaluation, struct kd_json *json);

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
