/* SPDX-License-Identifier: MIT */
/*
 * Inference: batch norms are done by the convolutions and dense layers before them,
 * which fold them into their weights.
 */
#include "nn/graph_internal.h"

/* Nothing but a layer's only reader sees the tensor. */
static bool is_between(const struct kd_tensor *t)
{
    return t->private->consumers == 1 && !t->private->is_output &&
           t->private->alias == NULL;
}

/* Whether layer `at` may write its output over what it adds: nobody reads that later,
 * and it is not the user's. */
static bool may_overwrite(const struct kd_graph *graph, size_t at,
                          const struct kd_tensor *residual)
{
    if (residual->private->producer == NULL || residual->private->is_output ||
        residual->private->alias != NULL)
        return false;
    for (size_t i = at + 1; i < graph->num_layers; i++)
        for (size_t k = 0; k < graph->layers[i]->num_inputs; k++)
            if (graph->layers[i]->input[k] == residual)
                return false;
    return true;
}

static bool can_absorb(const struct kd_graph *graph, size_t at,
                       const struct kd_layer *layer, const struct kd_layer *norm)
{
    const struct kd_tensor *x = norm->input[0], *residual = norm->input[1];

    if (layer == NULL || layer->norm != NULL || layer->absorbs == KD_ABSORBS_NOTHING ||
        !is_between(x))
        return false;
    return residual == NULL || (layer->absorbs == KD_ABSORBS_RESIDUAL &&
                                may_overwrite(graph, at, residual));
}

/* The layer runs in the norm's place, where the residual is known. */
static void absorb(struct kd_graph *graph, size_t at, struct kd_layer *layer)
{
    struct kd_layer *norm = graph->layers[at];
    size_t from = at;

    while (graph->layers[from] != layer)
        from--;
    graph->layers[from] = norm;
    graph->layers[at] = layer;
    norm->absorbed = true;
    layer->norm = norm;
    layer->input[1] = norm->input[1];
    layer->num_inputs = norm->num_inputs;
    layer->output = norm->output;
    layer->output->private->producer = layer;
}

void kd_graph_absorb(struct kd_graph *graph)
{
    for (size_t i = 0; i < graph->num_layers; i++) {
        struct kd_layer *norm = graph->layers[i];
        if (!norm->absorbed && kd_layer_is_batch_norm(norm) &&
            can_absorb(graph, i, norm->input[0]->private->producer, norm))
            absorb(graph, i, norm->input[0]->private->producer);
    }
}
