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
 * kl's alone.
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

/* The names of the enums, ended by NULL. */
extern const char *const kd_loss_kinds[];
extern const char *const kd_directions[];
extern const char *const kd_reductions[];

struct kd_loss {
    double hard, soft;  /* weights, at least 0 */
    double temperature; /* T > 0 */
    int kind;           /* enum kd_loss_kind */
    int direction;      /* enum kd_direction */
    int reduction;      /* enum kd_reduction, of the soft part */
    bool t_squared;     /* s = T^2 */
};

/* Sums over rows, so that an epoch's mean is exact whatever its batches. */
struct kd_loss_sums {
    double hard;  /* CE, unweighted */
    double soft;  /* s * D, unweighted */
    double total; /* weighted */
    uint64_t rows;
    uint64_t labelled; /* rows with a label */
    uint64_t right;    /* of them, those whose largest logit is the label */
};

/*
 * Loss and gradient of a batch.
 *
 * logits    [rows][classes]
 * label     [rows], -1: no hard part for this row
 * soft      [rows][classes] probabilities at T (mse: logits); NULL: no soft part
 * gradient  [rows][classes] of the batch's mean loss with respect to logits
 * sums      added to; not finite where the loss is not
 */
void kd_loss_batch(const struct kd_loss *loss, size_t rows, size_t classes,
                   const float *logits, const int32_t *label, const float *soft,
                   float *gradient, struct kd_loss_sums *sums);

/* p[classes] = softmax(z / temperature), stable; returns log sum exp(z/temperature).
 * `p` may be `z`. */
double kd_softmax(const float *z, size_t classes, double temperature, float *p);

#endif
