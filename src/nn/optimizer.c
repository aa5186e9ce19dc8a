/* SPDX-License-Identifier: MIT */
/* Stochastic gradient descent. */
#include "kd/optimizer.h"

#include "kd/memory.h"

#include <stdlib.h>

struct kd_optimizer {
    struct kd_graph *graph;
    struct kd_sgd sgd;
    float **velocity; /* [parameters] NULL for buffers */
};

enum kd_status kd_optimizer_new(struct kd_graph *graph, const struct kd_sgd *sgd,
                                struct kd_optimizer **optimizer)
{
    enum kd_status status = KD_EBUG;
    const size_t count = kd_graph_num_parameters(graph);
    struct kd_optimizer *o = NULL;

    KD_TRY(KD_NEW(o, 1));
    o->graph = graph;
    o->sgd = *sgd;
    KD_TRY(KD_NEW(o->velocity, count));
    for (size_t i = 0; i < count; i++) {
        const struct kd_parameter *p = kd_graph_parameter(graph, i);
        if (p->gradient != NULL)
            KD_TRY(KD_NEW(o->velocity[i], p->size));
    }
    *optimizer = o;
    o = NULL;
    status = KD_OK;
out:
    kd_optimizer_free(o);
    return status;
}

void kd_optimizer_free(struct kd_optimizer *optimizer)
{
    if (optimizer == NULL)
        return;
    for (size_t i = 0;
         optimizer->velocity != NULL && i < kd_graph_num_parameters(optimizer->graph);
         i++)
        free(optimizer->velocity[i]);
    free(optimizer->velocity);
    free(optimizer);
}

static void step(struct kd_parameter *p, float *v, const struct kd_sgd *sgd,
                 float decay, float momentum, float lr)
{
    float *restrict w = p->value;
    const float *restrict gradient = p->gradient;
    const float look = sgd->nesterov ? momentum : 0.0F;
    const float plain = sgd->nesterov ? 1.0F : 0.0F;
    const float moving = sgd->nesterov ? look : 1.0F;

    for (size_t i = 0; i < p->size; i++) {
        const float g = gradient[i] + decay * w[i];
        v[i] = momentum * v[i] + g;
        w[i] -= lr * (plain * g + moving * v[i]);
    }
}

void kd_optimizer_step(struct kd_optimizer *optimizer, double lr)
{
    const struct kd_sgd *sgd = &optimizer->sgd;

    for (size_t i = 0; i < kd_graph_num_parameters(optimizer->graph); i++) {
        struct kd_parameter *p = kd_graph_parameter(optimizer->graph, i);
        const bool spared = sgd->decay_weights_only && p->is_bias_or_norm;
        if (p->gradient != NULL)
            step(p, optimizer->velocity[i], sgd,
                 spared ? 0.0F : (float)sgd->weight_decay, (float)sgd->momentum,
                 (float)lr);
    }
    kd_graph_parameters_changed(optimizer->graph);
}

float *kd_optimizer_state(const struct kd_optimizer *optimizer, size_t index)
{
    return optimizer->velocity[index];
}
