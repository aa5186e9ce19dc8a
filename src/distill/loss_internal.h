/* SPDX-License-Identifier: MIT */
/* The arithmetic of one row of a loss, in vectors of floats. */
#ifndef KD_LOSS_INTERNAL_H
#define KD_LOSS_INTERNAL_H

#include "kd/loss.h"

/* One row on its way. */
struct kd_loss_row {
    const struct kd_loss *loss;
    size_t classes;
    const float *z; /* [classes] */
    const float *q; /* [classes], NULL: no soft part */
    double tail;    /* the mass of q's bucket */
    double label_share[2];
    int32_t label[2];  /* of the hard part, [1] may be -1; [0] -1: there is none */
    double hard, soft; /* what the gradients of CE and of D are multiplied by */
    float *g;          /* [classes] the row's gradient, written */
    float *scratch;    /* [2][kd_loss_scratch(classes)] */
};

/* What came out of it. Not finite where a logit is not. */
struct kd_loss_values {
    double hard; /* CE */
    double soft; /* D */
};

/* Floats of each scratch array of a row. */
size_t kd_loss_scratch(size_t classes);

void kd_loss_run_row(const struct kd_loss_row *row, struct kd_loss_values *values);

#endif
