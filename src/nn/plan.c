/* SPDX-License-Identifier: MIT */
/*
 * Planning: which memory each tensor and gradient of a graph lives in.
 *
 * In training every value is kept for the backward pass, while gradients hand
 * their memory on as soon as their layer has used them up; in inference values do.
 */
#include "nn/graph_internal.h"

#include "kd/memory.h"

#include <assert.h>
#include <stdlib.h>

/* Buffers of a graph, some of them free at a given moment of the walk. */
struct pool {
    struct kd_graph *graph;
    size_t *sizes; /* [num] floats */
    bool *taken;   /* [num] */
    size_t num, cap_sizes, cap_taken;
};

static enum kd_status new_buffer(struct pool *pool, size_t size, size_t *index)
{
    struct kd_graph *graph = pool->graph;
    enum kd_status status = KD_EBUG;
    float *memory = NULL;

    KD_TRY(kd_grow(&pool->sizes, &pool->cap_sizes, pool->num + 1, sizeof *pool->sizes));
    KD_TRY(kd_grow(&pool->taken, &pool->cap_taken, pool->num + 1, sizeof *pool->taken));
    KD_TRY(kd_grow(&graph->buffers, &graph->cap_buffers, graph->num_buffers + 1,
                   sizeof *graph->buffers));
    KD_TRY(KD_NEW(memory, size));
    graph->buffers[graph->num_buffers++] = memory;
    graph->memory += size * sizeof(float);
    *index = pool->num++;
    pool->sizes[*index] = size;
    status = KD_OK;
out:
    return status;
}

/* The smallest free buffer that is large enough, or a new one. */
static enum kd_status take(struct pool *pool, size_t size, float **memory)
{
    const size_t first = pool->graph->num_buffers - pool->num;
    size_t best = pool->num;

    for (size_t i = 0; i < pool->num; i++)
        if (!pool->taken[i] && pool->sizes[i] >= size &&
            (best == pool->num || pool->sizes[i] < pool->sizes[best]))
            best = i;
    if (best == pool->num) {
        const enum kd_status status = new_buffer(pool, size, &best);
        if (status != KD_OK)
            return status;
    }
    pool->taken[best] = true;
    *memory = pool->graph->buffers[first + best];
    return KD_OK;
}

static void give_back(struct pool *pool, const float *memory)
{
    const size_t first = pool->graph->num_buffers - pool->num;

    for (size_t i = 0; i < pool->num; i++)
        if (pool->graph->buffers[first + i] == memory)
            pool->taken[i] = false;
}

static void clear_pool(struct pool *pool)
{
    free(pool->sizes);
    free(pool->taken);
}

/* The value's memory is its own and may be reused behind its last reader. */
static bool reusable(const struct kd_graph *graph, const struct kd_tensor *t)
{
    return !graph->training && !t->private->is_output && t->private->producer != NULL &&
           t->private->alias == NULL;
}

static enum kd_status plan_values(struct kd_graph *graph)
{
    enum kd_status status = KD_EBUG;
    struct pool pool = {.graph = graph};

    for (size_t i = 0; i < graph->num_tensors; i++)
        if (graph->tensors[i]->private->producer == NULL)
            KD_TRY(take(&pool, graph->tensors[i]->size, &graph->tensors[i]->data));
    for (size_t i = 0; i < graph->num_layers; i++) {
        struct kd_layer *layer = graph->layers[i];
        const bool over_residual = layer->norm != NULL && layer->num_inputs > 1;
        if (layer->absorbed)
            continue;
        if (layer->output->private->alias != NULL)
            layer->output->data = layer->output->private->alias->data;
        else if (over_residual)
            layer->output->data = layer->input[1]->data;
        else
            KD_TRY(take(&pool, layer->output->size, &layer->output->data));
        for (size_t k = 0; k < layer->num_inputs; k++) {
            struct kd_tensor *x = layer->input[k];
            if (--x->private->consumers == 0 && reusable(graph, x) &&
                x->data != layer->output->data)
                give_back(&pool, x->data);
        }
    }
    status = KD_OK;
out:
    clear_pool(&pool);
    return status;
}

static enum kd_status plan_gradients(struct kd_graph *graph)
{
    enum kd_status status = KD_EBUG;
    struct pool pool = {.graph = graph};

    for (size_t i = 0; i < graph->num_tensors; i++) {
        struct kd_tensor *t = graph->tensors[i];
        if (t->private->is_output && t->wants_gradient)
            KD_TRY(take(&pool, t->size, &t->gradient));
    }
    for (size_t i = graph->num_layers; i-- > 0;) {
        struct kd_layer *layer = graph->layers[i];
        if (layer->output->gradient == NULL)
            continue; /* nothing that counts reads it */
        for (size_t k = 0; k < layer->num_inputs; k++) {
            struct kd_tensor *x = layer->input[k];
            if (x->wants_gradient && x->gradient == NULL && layer->backward != NULL)
                KD_TRY(take(&pool, x->size, &x->gradient));
        }
        give_back(&pool, layer->output->gradient);
    }
    status = KD_OK;
out:
    clear_pool(&pool);
    return status;
}

static enum kd_status plan_parameters(struct kd_graph *graph)
{
    enum kd_status status = KD_EBUG;

    for (size_t i = 0; i < graph->num_parameters; i++) {
        struct kd_parameter *p = graph->parameters[i];
        KD_TRY(KD_NEW(p->value, p->size));
        graph->memory += p->size * sizeof(float);
        if (!p->trained || !graph->training)
            continue;
        KD_TRY(KD_NEW(p->gradient, p->size));
        graph->memory += p->size * sizeof(float);
    }
    status = KD_OK;
out:
    return status;
}

/* Space for the second and later gradients of a tensor, and for oneDNN. */
static enum kd_status plan_shared(struct kd_graph *graph)
{
    enum kd_status status = KD_EBUG;

    for (size_t i = 0; i < graph->num_tensors; i++) {
        const struct kd_tensor *t = graph->tensors[i];
        if (t->wants_gradient && t->size > graph->scratch_size)
            graph->scratch_size = t->size;
    }
    for (size_t i = 0; i < KD_MAX_INPUTS && graph->training; i++) {
        KD_TRY(KD_NEW(graph->scratch[i], graph->scratch_size));
        graph->memory += graph->scratch_size * sizeof(float);
    }
    KD_TRY((graph->workspace = kd_alloc(1, graph->workspace_bytes)) != NULL
               ? KD_OK
               : KD_EMEMORY);
    graph->memory += graph->workspace_bytes;
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_graph_plan(struct kd_graph *graph)
{
    enum kd_status status = KD_EBUG;

    assert(!graph->planned);
    if (graph->failed != KD_OK)
        return kd_fail(graph->failed, "%s",
                       graph->message != NULL ? graph->message : "out of memory");
    if (!graph->training)
        kd_graph_absorb(graph);
    for (size_t i = 0; i < graph->num_layers; i++)
        if (graph->layers[i]->describe != NULL && !graph->layers[i]->absorbed)
            KD_TRY(graph->layers[i]->describe(graph->layers[i]));
    KD_TRY(plan_parameters(graph));
    KD_TRY(plan_values(graph));
    if (graph->training)
        KD_TRY(plan_gradients(graph));
    KD_TRY(plan_shared(graph));
    graph->planned = true;
    for (size_t i = 0; i < graph->num_layers; i++)
        if (graph->layers[i]->prepare != NULL)
            KD_TRY(graph->layers[i]->prepare(graph->layers[i]));
    status = KD_OK;
out:
    return status;
}
