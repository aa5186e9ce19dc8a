/* SPDX-License-Identifier: MIT */
/*
 * Losses: what a student is trained on.
 *
 *     loss = hard * CE(y, p) + soft * s * D(q, p_T)
 *
 * with student logits z, p = softmax(z), p_T = softmax(z/T), soft labels q at the same
 * T, and s = T^2 (Hinton, Vinyals, Dean 2015: it keeps the size of the gradient as T
 * changes) or 1. D is one of
 *
 *     kl, forward    sum_c q_c log(q_c / p_T,c)     dL/dz = (p_T - q) / T
 *     kl, reverse    sum_c p_T,c log(p_T,c / q_c)   p_T,i (log(p_T,i/q_i) - D) / T
 *     ce             -sum_c q_c log p_T,c           (p_T - q) / T
 *     mse            mean_c (z_c - u_c)^2           2 (z - u) / C, against logits u
 *
 * averaged over the batch; `elemmean` divides by the number of classes too, which is
 * what nn.KLDivLoss() does by default, and what the code of TAKD and Tf-KD relied on.
 * For mse there is no T and no s, and `reduction` makes no difference; `direction` is
 * kl's alone. Where q does not sum to 1 (a sampled row), p_T in the gradient is
 * multiplied by its sum.
 *
 * Under the tail rule `bucket` (kd/soft.h) q has the classes of a set S, and of all
 * others, B, the mass q_B alone. To D they are one class, of which the student's
 * probability is p_B, the sum of its own over B. As d log p_B / dz_i is p_i / p_B - p_i
 * for i in B and -p_i for others (over T, for p_T), what the bucket is pulled by goes
 * to its classes in the shares p_i / p_B:
 *
 *     forward, ce    i in S: (p_i - q_i) / T
 *                    i in B: (p_i - q_B p_i / p_B) / T
 *     reverse        i in S: p_i (log(p_i / q_i) - D) / T
 *                    i in B: p_i (log(p_B / q_B) - D) / T
 *
 * The hard part: label smoothing e takes (1 - e) of the label and spreads e evenly over
 * all classes (Szegedy et al. 2016). A sample mixed from two (mixup, cutmix) has the
 * labels of both in the shares ratio and 1 - ratio.
 */
#ifndef KD_LOSS_H
#define KD_LOSS_H

#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kd_loss_kind { KD_LOSS_KL, KD_LOSS_CE, KD_LOSS_MSE };
enum kd_direction { KD_FORWARD, KD_REVERSE };
enum kd_reduction { KD_BATCHMEAN, KD_ELEMMEAN };

/* What becomes of a row that has no soft labels where others have: it is trained on its
 * label alone, at weight hard + soft; or it counts for nothing, as does one that has no
 * label either. */
enum kd_missing { KD_MISSING_ERROR, KD_MISSING_HARD_LABEL, KD_MISSING_SKIP };

/* The names of the enums, ended by NULL. */
extern const char *const kd_loss_kinds[];
extern const char *const kd_directions[];
extern const char *const kd_reductions[];
extern const char *const kd_missing_names[];

struct kd_loss {
    double hard, soft;  /* weights, at least 0 */
    double temperature; /* T > 0 */
    int kind;           /* enum kd_loss_kind */
    int direction;      /* enum kd_direction */
    int reduction;      /* enum kd_reduction, of the soft part */
    bool t_squared;     /* s = T^2 */
    double smoothing;   /* e, 0 to 1 */
    int missing;        /* enum kd_missing; ERROR: there are no such rows */
};

/* What a batch shall learn. */
struct kd_targets {
    const int32_t *label;   /* [rows], -1: no hard part for this row */
    const int32_t *partner; /* [rows] of mixed samples, -1 as above; NULL: none are */
    const float *ratio;     /* [rows] the share of `label`, with `partner` */
    const float *soft;      /* [rows][classes] probabilities at T, -1 for classes of the
                               bucket (mse: logits); NULL: no soft part */
    const float *tail;      /* [rows] masses of buckets; NULL: there are none */
    const bool *found;      /* [rows] whether the row has soft labels; NULL: all have */
    const bool *dropped;    /* [rows] trained on the label alone, at weight hard + soft,
                               though it has soft labels; NULL: none is */
    const float *weight;    /* [rows] what the soft part is multiplied by; NULL: 1 */
};

/* Sums over rows, so that an epoch's mean is exact whatever its batches. */
struct kd_loss_sums {
    double hard;       /* CE, unweighted */
    double soft;       /* s * D, unweighted */
    double total;      /* weighted */
    uint64_t rows;     /* that count */
    uint64_t labelled; /* of them, those with a hard part */
    uint64_t softened; /* of them, those with a soft part */
    uint64_t right;    /* of the labelled ones, those whose largest logit is the label;
                          of a mixed one the label with the larger share counts */
};

/*
 * Loss and gradient of a batch, on the compute threads, in float within a row and in
 * double over rows; the result does not depend on how many threads there are.
 *
 * logits    [rows][classes]
 * gradient  [rows][classes] of the mean loss of the rows that count, with respect to
 *           logits
 * sums      added to; not finite where a logit is not
 */
enum kd_status kd_loss_batch(const struct kd_loss *loss, size_t rows, size_t classes,
                             const float *logits, const struct kd_targets *targets,
                             float *gradient, struct kd_loss_sums *sums) KD_CHECKED;

/* p[classes] = softmax(z / temperature), stable; returns log sum exp(z/temperature).
 * `p` may be `z`. */
double kd_softmax(const float *z, size_t classes, double temperature, float *p);

#endif
