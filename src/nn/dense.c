/* SPDX-License-Identifier: MIT */
/*
 * Dense layers, on OpenBLAS. The input is read as it lies, blocked or plain; the
 * weights' columns are kept in the same order.
 */
#include "nn/graph_internal.h"

#include <cblas.h>

#include <string.h>

struct dense {
    struct kd_parameter *weight; /* [out][in], columns in the input's order */
    struct kd_parameter *bias;   /* [out] */
};

static enum kd_status forward(struct kd_layer *layer)
{
    const struct dense *s = layer->state;
    const struct kd_tensor *x = layer->input[0], *y = layer->output;
    const int batch = (int)x->batch, out = (int)s->bias->count;
    const int in = (int)(x->size / x->batch), lanes = (int)(y->size / y->batch);

    memset(y->data, 0, y->size * sizeof(float)); /* the lanes behind `out` too */
    for (int n = 0; n < batch; n++)
        memcpy(y->data + n * lanes, s->bias->value, (size_t)out * sizeof(float));
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, batch, out, in, 1, x->data, in,
                s->weight->value, in, 1, y->data, lanes);
    return KD_OK;
}

static enum kd_status backward(struct kd_layer *layer)
{
    const struct dense *s = layer->state;
    struct kd_tensor *x = layer->input[0], *y = layer->output;
    const int batch = (int)x->batch, out = (int)s->bias->count;
    const int in = (int)(x->size / x->batch), lanes = (int)(y->size / y->batch);
    float *dx = kd_gradient_begin(x);

    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, out, in, batch, 1, y->gradient,
                lanes, x->data, in, 0, s->weight->gradient, in);
    memset(s->bias->gradient, 0, (size_t)out * sizeof(float));
    for (int n = 0; n < batch; n++)
        for (int c = 0; c < out; c++)
            s->bias->gradient[c] += y->gradient[n * lanes + c];
    s->weight->private->gradient_written = true;
    s->bias->private->gradient_written = true;
    if (dx != NULL)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, batch, in, out, 1,
                    y->gradient, lanes, s->weight->value, in, 0, dx, in);
    kd_gradient_end(x, dx);
    return KD_OK;
}

struct kd_tensor *kd_graph_dense(struct kd_graph *graph, struct kd_tensor *x,
                                 const char *name, size_t out)
{
    struct kd_tensor *y;
    struct kd_layer *layer;
    struct dense *s;

    if (!kd_graph_ready(graph, x))
        return NULL;
    y = kd_graph_new_tensor(graph, out, 1, 1, true);
    layer = kd_graph_new_layer(graph, "dense", sizeof *s);
    if (y == NULL || layer == NULL)
        return NULL;
    s = layer->state;
    s->weight = kd_graph_new_parameter(
        graph, name, "weight", 2, (size_t[]){out, x->channels * x->height * x->width},
        out * (x->size / x->batch), true);
    s->bias =
        kd_graph_new_parameter(graph, name, "bias", 1, (size_t[]){out}, out, true);
    if (s->weight == NULL || s->bias == NULL)
        return NULL;
    if (x->blocked)
        kd_parameter_is_blocked_dense(s->weight, x->channels, x->height * x->width);
    layer->forward = forward;
    layer->backward = backward;
    kd_layer_connect(layer, x, NULL, y, true);
    return y;
}
