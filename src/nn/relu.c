/* SPDX-License-Identifier: MIT */
/* ReLU on its own, where no batch norm stands before it; and layers that let values
 * pass as they are. */
#include "nn/graph_internal.h"

static enum kd_status relu_forward(struct kd_layer *layer)
{
    const float *x = layer->input[0]->data;
    float *y = layer->output->data;
    const size_t n = layer->output->size;

#pragma omp parallel for
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] <= 0 ? 0 : x[i]; /* a NaN stays one */
    return KD_OK;
}

static enum kd_status relu_backward(struct kd_layer *layer)
{
    const float *y = layer->output->data, *dy = layer->output->gradient;
    float *dx = kd_gradient_begin(layer->input[0]);
    const size_t n = layer->output->size;

    if (dx == NULL)
        return KD_OK;
#pragma omp parallel for
    for (size_t i = 0; i < n; i++)
        dx[i] = y[i] > 0 ? dy[i] : 0;
    kd_gradient_end(layer->input[0], dx);
    return KD_OK;
}

struct kd_tensor *kd_graph_relu(struct kd_graph *graph, struct kd_tensor *x)
{
    struct kd_tensor *y;
    struct kd_layer *layer;

    if (!kd_graph_ready(graph, x))
        return NULL;
    y = kd_graph_new_tensor(graph, x->channels, x->height, x->width, x->blocked);
    layer = kd_graph_new_layer(graph, "relu", 0);
    if (y == NULL || layer == NULL)
        return NULL;
    layer->forward = relu_forward;
    layer->backward = relu_backward;
    kd_layer_connect(layer, x, NULL, y, false);
    return y;
}

static enum kd_status nothing(struct kd_layer *layer)
{
    (void)layer; /* the data is shared */
    return KD_OK;
}

/* A layer whose output is its input: the new layer is the output's producer. */
static struct kd_tensor *add_alias(struct kd_graph *graph, struct kd_tensor *x,
                                   const char *kind, size_t state_size)
{
    struct kd_tensor *y;
    struct kd_layer *layer;

    if (!kd_graph_ready(graph, x))
        return NULL;
    y = kd_graph_new_tensor(graph, x->channels, x->height, x->width, x->blocked);
    layer = kd_graph_new_layer(graph, kind, state_size);
    if (y == NULL || layer == NULL)
        return NULL;
    layer->forward = nothing;
    kd_layer_connect(layer, x, NULL, y, false);
    y->private->alias = x;
    x->private->is_output = true; /* its memory must outlive its other readers */
    return y;
}

struct kd_tensor *kd_graph_detach(struct kd_graph *graph, struct kd_tensor *x)
{
    struct kd_tensor *y = add_alias(graph, x, "detach", 0);

    if (y != NULL)
        y->wants_gradient = false;
    return y;
}

static enum kd_status scale_backward(struct kd_layer *layer)
{
    const float *factor = layer->state, *dy = layer->output->gradient;
    float *dx = kd_gradient_begin(layer->input[0]);
    const size_t n = layer->output->size;

    if (dx == NULL)
        return KD_OK;
#pragma omp parallel for
    for (size_t i = 0; i < n; i++)
        dx[i] = *factor * dy[i];
    kd_gradient_end(layer->input[0], dx);
    return KD_OK;
}

struct kd_tensor *kd_graph_scale_gradient(struct kd_graph *graph, struct kd_tensor *x,
                                          double factor)
{
    struct kd_tensor *y = add_alias(graph, x, "scale gradient", sizeof(float));

    if (y != NULL) {
        *(float *)y->private->producer->state = (float)factor;
        y->private->producer->backward = scale_backward;
    }
    return y;
}
