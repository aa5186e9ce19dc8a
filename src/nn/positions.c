/* SPDX-License-Identifier: MIT */
/* A learned value for every place, added to every sample. */
#include "nn/graph_internal.h"

#include <string.h>

struct positions {
    struct kd_parameter *value; /* laid out as a sample */
};

static enum kd_status forward(struct kd_layer *layer)
{
    const float *p = ((struct positions *)layer->state)->value->value;
    const struct kd_tensor *x = layer->input[0], *y = layer->output;
    const size_t size = x->size / x->batch;

#pragma omp parallel for
    for (size_t n = 0; n < x->batch; n++)
        for (size_t i = 0; i < size; i++)
            y->data[n * size + i] = x->data[n * size + i] + p[i];
    return KD_OK;
}

static enum kd_status backward(struct kd_layer *layer)
{
    struct kd_parameter *p = ((struct positions *)layer->state)->value;
    struct kd_tensor *x = layer->input[0];
    const float *dy = layer->output->gradient;
    const size_t size = x->size / x->batch;
    float *dx = kd_gradient_begin(x);

#pragma omp parallel for
    for (size_t i = 0; i < size; i++) {
        float sum = 0;
        for (size_t n = 0; n < x->batch; n++)
            sum += dy[n * size + i];
        p->gradient[i] = sum;
    }
    p->private->gradient_written = true;
    if (dx != NULL)
        memcpy(dx, dy, x->size * sizeof *dx);
    kd_gradient_end(x, dx);
    return KD_OK;
}

struct kd_tensor *kd_graph_positions(struct kd_graph *graph, struct kd_tensor *x,
                                     const char *name)
{
    struct kd_tensor *y;
    struct kd_layer *layer;
    struct positions *s;

    if (!kd_graph_ready(graph, x))
        return NULL;
    y = kd_graph_new_tensor(graph, x->channels, x->height, x->width, x->blocked);
    layer = kd_graph_new_layer(graph, "positions", sizeof *s);
    if (y == NULL || layer == NULL)
        return NULL;
    s = layer->state;
    s->value = kd_graph_new_parameter(graph, NULL, name, 3,
                                      (size_t[]){1, x->height * x->width, x->channels},
                                      x->size / x->batch, true);
    if (s->value == NULL)
        return NULL;
    kd_parameter_is_places(s->value, x);
    layer->forward = forward;
    layer->backward = backward;
    kd_layer_connect(layer, x, NULL, y, true);
    return y;
}
