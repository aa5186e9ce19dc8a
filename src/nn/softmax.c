/* SPDX-License-Identifier: MIT */
/* Softmax over the channels of a vector. */
#include "nn/graph_internal.h"

#include <math.h>

struct softmax {
    float temperature;
};

static void softmax_row(const float *x, size_t channels, float temperature, float *y)
{
    float most = x[0], sum = 0;

    for (size_t c = 1; c < channels; c++)
        most = x[c] > most ? x[c] : most;
    for (size_t c = 0; c < channels; c++) {
        y[c] = expf((x[c] - most) / temperature);
        sum += y[c];
    }
    for (size_t c = 0; c < channels; c++)
        y[c] /= sum;
}

static enum kd_status forward(struct kd_layer *layer)
{
    const struct softmax *s = layer->state;
    const struct kd_tensor *x = layer->input[0], *y = layer->output;
    const size_t stride = y->size / y->batch;

#pragma omp parallel for
    for (size_t n = 0; n < y->batch; n++) {
        float *row = y->data + n * stride;
        softmax_row(x->data + n * stride, y->channels, s->temperature, row);
        for (size_t c = y->channels; c < stride; c++)
            row[c] = 0;
    }
    return KD_OK;
}

/* dx = y (dy - sum_c y_c dy_c) / T */
static enum kd_status backward(struct kd_layer *layer)
{
    const struct softmax *s = layer->state;
    const struct kd_tensor *y = layer->output;
    const size_t stride = y->size / y->batch;
    float *dx = kd_gradient_begin(layer->input[0]);

    if (dx == NULL)
        return KD_OK;
#pragma omp parallel for
    for (size_t n = 0; n < y->batch; n++) {
        const float *p = y->data + n * stride, *dp = y->gradient + n * stride;
        float sum = 0;
        for (size_t c = 0; c < y->channels; c++)
            sum += p[c] * dp[c];
        for (size_t c = 0; c < stride; c++)
            dx[n * stride + c] = p[c] * (dp[c] - sum) / s->temperature;
    }
    kd_gradient_end(layer->input[0], dx);
    return KD_OK;
}

struct kd_tensor *kd_graph_softmax(struct kd_graph *graph, struct kd_tensor *x,
                                   double temperature)
{
    struct kd_tensor *y;
    struct kd_layer *layer;

    if (!kd_graph_ready(graph, x))
        return NULL;
    if (!x->blocked || x->height != 1 || x->width != 1)
        return kd_graph_failed(graph, kd_fail(KD_EBUG, "softmax is over a vector"));
    y = kd_graph_new_tensor(graph, x->channels, 1, 1, true);
    layer = kd_graph_new_layer(graph, "softmax", sizeof(struct softmax));
    if (y == NULL || layer == NULL)
        return NULL;
    ((struct softmax *)layer->state)->temperature = (float)temperature;
    layer->forward = forward;
    layer->backward = backward;
    kd_layer_connect(layer, x, NULL, y, false);
    return y;
}
