/* SPDX-License-Identifier: MIT */
/*
 * Optimisers: from gradients to new parameters.
 *
 * SGD as PyTorch writes it (momentum of Sutskever et al. 2013 without dampening):
 *
 *     g = gradient + weight_decay * w
 *     v = momentum * v + g, from v = 0
 *     w = w - lr * (nesterov ? g + momentum * v : v)
 *
 * Adam (Kingma and Ba 2015), in step t = 1, 2, ...:
 *
 *     g = gradient + weight_decay * w
 *     m = beta1 * m + (1 - beta1) * g
 *     v = beta2 * v + (1 - beta2) * g^2, both from 0
 *     w = w - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
 *
 * AdamW (Loshchilov and Hutter 2019) is Adam whose decay is decoupled: g is the
 * gradient alone, and w is first multiplied by 1 - lr * weight_decay.
 *
 *     struct kd_optimizer *o = NULL;
 *     KD_TRY(kd_optimizer_new(graph, &(struct kd_sgd){.momentum = 0.9}, &o));
 *     loop: backward; kd_optimizer_step(o, lr);
 *     kd_optimizer_free(o);
 */
#ifndef KD_OPTIMIZER_H
#define KD_OPTIMIZER_H

#include "kd/graph.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kd_sgd {
    double momentum; /* 0: none */
    bool nesterov;
    double weight_decay;     /* on all parameters ... */
    bool decay_weights_only; /* ... or not on biases and norms */
};

struct kd_adam {
    double beta1, beta2, epsilon; /* 0.9, 0.999 and 1e-8 are usual */
    double weight_decay;          /* on all parameters ... */
    bool decay_weights_only;      /* ... or not on biases and norms */
    bool decoupled;               /* AdamW */
};

struct kd_optimizer;

/* Several may work on one graph: each step is over all parameters that the last backward
 * pass reached, those that another one has just stepped among them; each keeps moments of
 * its own. KD_EUSAGE for betas outside 0 to 1. */
enum kd_status kd_optimizer_new(struct kd_graph *graph, const struct kd_sgd *sgd,
                                struct kd_optimizer **optimizer) KD_CHECKED;
enum kd_status kd_optimizer_new_adam(struct kd_graph *graph, const struct kd_adam *adam,
                                     struct kd_optimizer **optimizer) KD_CHECKED;
void kd_optimizer_free(struct kd_optimizer *optimizer); /* NULL is fine */

/* One step with the gradients of the last backward pass. Parameters that it did not
 * reach stay as they are, without decay, as those without a gradient do in PyTorch. */
void kd_optimizer_step(struct kd_optimizer *optimizer, double lr);

/* -- for checkpoints ------------------------------------------------------- */

/* How many moments are kept of a parameter: 1 (the velocity), or with Adam 2. */
size_t kd_optimizer_moments(const struct kd_optimizer *optimizer);

/* The moment `which` of a parameter of the graph, by its index, in the layer's layout;
 * NULL for buffers. kd_optimizer_state is the first. */
float *kd_optimizer_moment(const struct kd_optimizer *optimizer, size_t index,
                           size_t which);
float *kd_optimizer_state(const struct kd_optimizer *optimizer, size_t index);

/* Steps done so far, on which Adam depends. */
uint64_t kd_optimizer_steps(const struct kd_optimizer *optimizer);
void kd_optimizer_set_steps(struct kd_optimizer *optimizer, uint64_t steps);

#endif
