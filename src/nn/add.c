/* SPDX-License-Identifier: MIT */
/* The sum of two tensors. */
#include "nn/graph_internal.h"

#include <string.h>

static enum kd_status forward(struct kd_layer *layer)
{
    const float *a = layer->input[0]->data, *b = layer->input[1]->data;
    float *y = layer->output->data;
    const size_t n = layer->output->size;

#pragma omp parallel for
    for (size_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
    return KD_OK;
}

static enum kd_status backward(struct kd_layer *layer)
{
    for (size_t k = 0; k < 2; k++) {
        float *dx = kd_gradient_begin(layer->input[k]);
        if (dx != NULL)
            memcpy(dx, layer->output->gradient, layer->output->size * sizeof *dx);
        kd_gradient_end(layer->input[k], dx);
    }
    return KD_OK;
}

struct kd_tensor *kd_graph_add(struct kd_graph *graph, struct kd_tensor *a,
                               struct kd_tensor *b)
{
    struct kd_tensor *y;
    struct kd_layer *layer;

    if (!kd_graph_ready(graph, a) || b == NULL)
        return NULL;
    if (a->channels != b->channels || a->height != b->height || a->width != b->width ||
        a->lanes != b->lanes)
        return kd_graph_failed(graph, kd_fail(KD_EBUG, "a sum of two shapes"));
    y = kd_graph_new_tensor(graph, a->channels, a->height, a->width, a->blocked);
    layer = kd_graph_new_layer(graph, "sum", 0);
    if (y == NULL || layer == NULL)
        return NULL;
    layer->forward = forward;
    layer->backward = backward;
    kd_layer_connect(layer, a, b, y, false);
    return y;
}
