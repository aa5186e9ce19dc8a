/* SPDX-License-Identifier: MIT */
/* Leaky ReLU: x where it is positive, else a small share of it (Maas, Hannun, Ng 2013).
 */
#include "nn/graph_internal.h"

#include "kd/vector.h"

/* The slope below 0, else 1; signs are as good as random, and branches would be too. */
KD_VECTOR_INLINE float factor(float x, float slope)
{
    const uint32_t below = KD_VECTOR_MASK(x < 0);

    return kd_vector_float((kd_vector_bits(slope) & below) |
                           (kd_vector_bits(1.0F) & ~below));
}

static enum kd_status forward(struct kd_layer *layer)
{
    const float slope = *(const float *)layer->state, *x = layer->input[0]->data;
    float *y = layer->output->data;
    const size_t n = layer->output->size;

#pragma omp parallel for
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * factor(x[i], slope);
    return KD_OK;
}

/* The slope is positive, so that y has the sign of x. */
static enum kd_status backward(struct kd_layer *layer)
{
    const float slope = *(const float *)layer->state, *y = layer->output->data;
    const float *dy = layer->output->gradient;
    float *dx = kd_gradient_begin(layer->input[0]);
    const size_t n = layer->output->size;

    if (dx == NULL)
        return KD_OK;
#pragma omp parallel for
    for (size_t i = 0; i < n; i++)
        dx[i] = dy[i] * factor(y[i], slope);
    kd_gradient_end(layer->input[0], dx);
    return KD_OK;
}

struct kd_tensor *kd_graph_leaky_relu(struct kd_graph *graph, struct kd_tensor *x,
                                      double slope)
{
    struct kd_tensor *y;
    struct kd_layer *layer;

    if (!kd_graph_ready(graph, x))
        return NULL;
    y = kd_graph_new_tensor(graph, x->channels, x->height, x->width, x->blocked);
    layer = kd_graph_new_layer(graph, "leaky relu", sizeof(float));
    if (y == NULL || layer == NULL)
        return NULL;
    *(float *)layer->state = (float)slope;
    layer->forward = forward;
    layer->backward = backward;
    kd_layer_connect(layer, x, NULL, y, false);
    return y;
}
