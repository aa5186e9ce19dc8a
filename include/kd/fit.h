/* SPDX-License-Identifier: MIT */
/*
 * Fitting: what a merge learns from held-out rows whose labels are known, before it
 * merges any. The teachers must not have been trained on them: of what a network has
 * seen it is surer than it has reason to be, and weights fitted there favour whoever
 * overfits most.
 *
 * All fits minimise the mean negative log-likelihood (NLL) of labels, or count right
 * answers, at temperature 1: p_m = softmax(z_m/t_m), where t_m is the teacher's
 * calibration, 1 without. A cache at T has T u_m = z_m but for a constant a row.
 *
 *     struct kd_fit_rows rows = {.count = n, .teachers = 3, .classes = 100,
 *                                .temperature = 4, .values = values, .label = label};
 *     KD_TRY(kd_fit_plan(&plan, &rows));      (plan.weights and so on, as it needs)
 *
 * Results do not depend on threads.
 */
#ifndef KD_FIT_H
#define KD_FIT_H

#include "kd/policy.h"
#include "kd/status.h"

#include <stddef.h>
#include <stdint.h>

struct kd_fit_rows {
    size_t count, teachers, classes;
    double temperature; /* T */
    const float *const
        *values;          /* [M] of [count][classes] u_m, up to a constant a row */
    const int32_t *label; /* [count] 0 to classes-1 */
};

/* Fits all that a checked plan needs, in this order: calibration, then what its policy
 * learns. It is checked again with what was fitted. KD_EDATA where there are no rows or
 * a label is none. */
enum kd_status kd_fit_plan(struct kd_merge_plan *plan,
                           const struct kd_fit_rows *rows) KD_CHECKED;

/* The t in [0.01, 100] of the least NLL of softmax(z/t), to a relative 1e-6, of teacher
 * m: temperature scaling, Guo et al. 2017, arXiv 1706.04599. As the NLL is convex in
 * b = 1/t, t is where its slope, the mean of E_p[z] - z_y, is 0; found by Newton steps
 * in log b that bisection keeps within the bracket. At an end of the range where there
 * is no such point: a teacher that is always right, or no better than chance. */
double kd_fit_temperature(const struct kd_fit_rows *rows, size_t m);

/* The share of rows whose most probable class is the label; of equal ones the first. */
double kd_fit_accuracy(const struct kd_fit_rows *rows, size_t m);

/* The weights [M] of the least NLL of sum_m w_m p_m; log_p [count][M] is log p_m(y).
 * Wolpert 1992; Breiman 1996 for convex ones. By expectation-maximisation, w_m *= g_m
 * with g_m = mean of p_m(y) / sum_j w_j p_j(y). As the NLL is convex, it is within
 * max_m g_m - 1 of the least one, and steps go on until that is 1e-7 nats (or 50,000
 * are made). KD_EMEMORY. */
enum kd_status kd_fit_stacked(const double *log_p, size_t count, size_t teachers,
                              double *weights) KD_CHECKED;

/* Weights [M] by selection with replacement (Caruana et al. 2004): up to `rounds` times
 * the teacher that gives the mean of those taken so far the least NLL is taken once
 * more, of equal ones the first; the weights are the shares in the best of these means.
 * KD_EMEMORY. */
enum kd_status kd_fit_greedy(const double *log_p, size_t count, size_t teachers,
                             uint64_t rounds, double *weights) KD_CHECKED;

/* Weights [M][C] of the least NLL of p(c) = sum_m w_m(c) p_m(c) / S, S the sum over the
 * classes, sum_m w_m(c) = 1. To each class belongs one example more, made up, that
 * draws its weights to the stacked ones, `prior` [M]:
 *
 *     sum_i NLL_i - sum_c sum_m prior_m log w_m(c)
 *
 * Each step minimises a bound from above that touches there: Jensen's for -log sum_m
 * w_m(y) p_m(y), the tangent for log S. That is, per class, w_m = R_m / (D_m + mu),
 * with R_m = prior_m + sum over rows of the class of w_m p_m(y) / sum_j w_j p_j(y), D_m
 * = sum over all rows of p_m(c)/S, and mu such that they sum to 1. The objective never
 * rises; it need not be convex, so the result is a local minimum near the stacked
 * weights. Ends when a step gains less than 1e-8 a row, after 500 at most. KD_EMEMORY.
 */
enum kd_status kd_fit_class_weights(const struct kd_fit_rows *rows,
                                    const double *calibration, const double *prior,
                                    double *class_weights) KD_CHECKED;

#endif
