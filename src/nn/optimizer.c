/* SPDX-License-Identifier: MIT */
/* Optimisers: stochastic gradient descent, Adam, AdamW. */
#include "kd/optimizer.h"

#include "kd/memory.h"
#include "nn/graph_internal.h"

#include <math.h>
#include <stdlib.h>

#define MAX_MOMENTS 2

struct kd_optimizer {
    struct kd_graph *graph;
    bool is_adam;
    struct kd_sgd sgd;
    struct kd_adam adam;
    uint64_t steps;
    size_t num_moments;
    float **moments[MAX_MOMENTS]; /* [parameters] NULL for buffers */
};

static enum kd_status make(struct kd_graph *graph, const struct kd_optimizer *like,
                           struct kd_optimizer **optimizer)
{
    enum kd_status status = KD_EBUG;
    const size_t count = kd_graph_num_parameters(graph);
    struct kd_optimizer *o = NULL;

    KD_TRY(KD_NEW(o, 1));
    *o = *like;
    o->graph = graph;
    for (size_t m = 0; m < o->num_moments; m++) {
        KD_TRY(KD_NEW(o->moments[m], count));
        for (size_t i = 0; i < count; i++) {
            const struct kd_parameter *p = kd_graph_parameter(graph, i);
            if (p->gradient != NULL)
                KD_TRY(KD_NEW(o->moments[m][i], p->size));
        }
    }
    *optimizer = o;
    o = NULL;
    status = KD_OK;
out:
    kd_optimizer_free(o);
    return status;
}

enum kd_status kd_optimizer_new(struct kd_graph *graph, const struct kd_sgd *sgd,
                                struct kd_optimizer **optimizer)
{
    return make(graph, &(struct kd_optimizer){.sgd = *sgd, .num_moments = 1},
                optimizer);
}

enum kd_status kd_optimizer_new_adam(struct kd_graph *graph, const struct kd_adam *adam,
                                     struct kd_optimizer **optimizer)
{
    if (!(adam->beta1 >= 0 && adam->beta1 < 1 && adam->beta2 >= 0 && adam->beta2 < 1))
        return kd_fail(KD_EUSAGE, "Adam's betas are from 0 to below 1, not %g and %g",
                       adam->beta1, adam->beta2);
    return make(
        graph, &(struct kd_optimizer){.is_adam = true, .adam = *adam, .num_moments = 2},
        optimizer);
}

void kd_optimizer_free(struct kd_optimizer *optimizer)
{
    if (optimizer == NULL)
        return;
    for (size_t m = 0; m < optimizer->num_moments; m++) {
        for (size_t i = 0; optimizer->moments[m] != NULL &&
                           i < kd_graph_num_parameters(optimizer->graph);
             i++)
            free(optimizer->moments[m][i]);
        free(optimizer->moments[m]);
    }
    free(optimizer);
}

static void sgd_step(struct kd_parameter *p, float *restrict v,
                     const struct kd_sgd *sgd, float decay, float lr)
{
    float *restrict w = p->value;
    const float *restrict gradient = p->gradient;
    const float momentum = (float)sgd->momentum;
    const float plain = sgd->nesterov ? 1.0F : 0.0F;
    const float moving = sgd->nesterov ? momentum : 1.0F;
    const size_t size = p->size;

#pragma omp parallel for
    for (size_t i = 0; i < size; i++) {
        const float g = gradient[i] + decay * w[i];
        v[i] = momentum * v[i] + g;
        w[i] -= lr * (plain * g + moving * v[i]);
    }
}

static void adam_step(struct kd_parameter *p, float *restrict m, float *restrict v,
                      const struct kd_adam *adam, double decay, uint64_t step,
                      double lr)
{
    float *restrict w = p->value;
    const float *restrict gradient = p->gradient;
    const float shrink = adam->decoupled ? (float)(1 - lr * decay) : 1;
    const float pull = adam->decoupled ? 0 : (float)decay;
    const float rate = (float)(lr / (1 - pow(adam->beta1, (double)step)));
    const float widen = (float)(1 / sqrt(1 - pow(adam->beta2, (double)step)));
    const float beta1 = (float)adam->beta1, beta2 = (float)adam->beta2;
    const float rest1 = (float)(1 - adam->beta1), rest2 = (float)(1 - adam->beta2);
    const float epsilon = (float)adam->epsilon;
    const size_t size = p->size;

#pragma omp parallel for
    for (size_t i = 0; i < size; i++) {
        const float g = gradient[i] + pull * w[i];
        m[i] = beta1 * m[i] + rest1 * g;
        v[i] = beta2 * v[i] + rest2 * g * g;
        w[i] = shrink * w[i] - rate * m[i] / (sqrtf(v[i]) * widen + epsilon);
    }
}

static double decay_of(const struct kd_optimizer *o, const struct kd_parameter *p)
{
    const bool weights_only =
        o->is_adam ? o->adam.decay_weights_only : o->sgd.decay_weights_only;

    if (weights_only && p->is_bias_or_norm)
        return 0;
    return o->is_adam ? o->adam.weight_decay : o->sgd.weight_decay;
}

void kd_optimizer_step(struct kd_optimizer *o, double lr)
{
    o->steps++;
    for (size_t i = 0; i < kd_graph_num_parameters(o->graph); i++) {
        struct kd_parameter *p = kd_graph_parameter(o->graph, i);
        const double decay = decay_of(o, p);
        if (p->gradient == NULL || p->private->missed)
            continue;
        if (o->is_adam)
            adam_step(p, o->moments[0][i], o->moments[1][i], &o->adam, decay, o->steps,
                      lr);
        else
            sgd_step(p, o->moments[0][i], &o->sgd, (float)decay, (float)lr);
    }
    kd_graph_parameters_changed(o->graph);
}

size_t kd_optimizer_moments(const struct kd_optimizer *optimizer)
{
    return optimizer->num_moments;
}

float *kd_optimizer_moment(const struct kd_optimizer *optimizer, size_t index,
                           size_t which)
{
    return optimizer->moments[which][index];
}

float *kd_optimizer_state(const struct kd_optimizer *optimizer, size_t index)
{
    return kd_optimizer_moment(optimizer, index, 0);
}

uint64_t kd_optimizer_steps(const struct kd_optimizer *optimizer)
{
    return optimizer->steps;
}

void kd_optimizer_set_steps(struct kd_optimizer *optimizer, uint64_t steps)
{
    optimizer->steps = steps;
}
