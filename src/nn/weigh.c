/* SPDX-License-Identifier: MIT */
/* A sample's values times a weight that another layer gives the sample. */
#include "nn/graph_internal.h"

#include <string.h>

struct weigh {
    size_t channel; /* of the weights */
};

/* The sample's weight among `values`, the weights or their gradient. */
static float *weight_of(const struct kd_layer *layer, float *values, size_t n)
{
    const struct kd_tensor *w = layer->input[1];

    return values + n * (w->size / w->batch) + ((struct weigh *)layer->state)->channel;
}

static enum kd_status forward(struct kd_layer *layer)
{
    const struct kd_tensor *x = layer->input[0], *y = layer->output;
    const size_t each = y->size / y->batch;

#pragma omp parallel for
    for (size_t n = 0; n < y->batch; n++) {
        const float weight = *weight_of(layer, layer->input[1]->data, n);
        for (size_t i = n * each; i < (n + 1) * each; i++)
            y->data[i] = weight * x->data[i];
    }
    return KD_OK;
}

static enum kd_status backward(struct kd_layer *layer)
{
    struct kd_tensor *x = layer->input[0], *w = layer->input[1];
    const struct kd_tensor *y = layer->output;
    const size_t each = y->size / y->batch;
    float *dx = kd_gradient_begin(x), *dw = kd_gradient_begin(w);

    if (dw != NULL)
        memset(dw, 0, w->size * sizeof *dw);
#pragma omp parallel for
    for (size_t n = 0; n < y->batch; n++) {
        const float weight = *weight_of(layer, w->data, n);
        float sum = 0;
        for (size_t i = n * each; i < (n + 1) * each; i++) {
            sum += y->gradient[i] * x->data[i];
            if (dx != NULL)
                dx[i] = weight * y->gradient[i];
        }
        if (dw != NULL)
            *weight_of(layer, dw, n) = sum;
    }
    kd_gradient_end(x, dx);
    kd_gradient_end(w, dw);
    return KD_OK;
}

struct kd_tensor *kd_graph_weigh(struct kd_graph *graph, struct kd_tensor *x,
                                 struct kd_tensor *weights, size_t channel)
{
    struct kd_tensor *y;
    struct kd_layer *layer;

    if (!kd_graph_ready(graph, x) || weights == NULL)
        return NULL;
    if (x == weights || !weights->blocked || weights->height != 1 ||
        weights->width != 1 || channel >= weights->channels)
        return kd_graph_failed(graph,
                               kd_fail(KD_EBUG, "no weight %zu for samples", channel));
    y = kd_graph_new_tensor(graph, x->channels, x->height, x->width, x->blocked);
    layer = kd_graph_new_layer(graph, "weigh", sizeof(struct weigh));
    if (y == NULL || layer == NULL)
        return NULL;
    ((struct weigh *)layer->state)->channel = channel;
    layer->forward = forward;
    layer->backward = backward;
    kd_layer_connect(layer, x, weights, y, false);
    return y;
}
