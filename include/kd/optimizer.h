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

struct kd_sgd {
    double momentum; /* 0: none */
    bool nesterov;
    double weight_decay;     /* on all parameters ... */
    bool decay_weights_only; /* ... or not on biases and norms */
};

struct kd_optimizer;

enum kd_status kd_optimizer_new(struct kd_graph *graph, const struct kd_sgd *sgd,
                                struct kd_optimizer **optimizer) KD_CHECKED;
void kd_optimizer_free(struct kd_optimizer *optimizer); /* NULL is fine */

/* One step with the gradients of the last backward pass. */
void kd_optimizer_step(struct kd_optimizer *optimizer, double lr);

/* The state (velocity) of a parameter of the graph, by its index, in the layer's
 * layout; NULL for buffers. For checkpoints. */
float *kd_optimizer_state(const struct kd_optimizer *optimizer, size_t index);

#endif
