/* SPDX-License-Identifier: MIT */
/*
 * Dense layers: forward on a product of our own, backward on OpenBLAS. The input is
 * read as it lies, blocked or plain; the weights' columns are kept in the same order.
 */
#include "nn/dense_internal.h"
#include "nn/graph_internal.h"

#include "kd/memory.h"

#include <cblas.h>

#include <stdlib.h>
#include <string.h>

struct dense {
    struct kd_parameter *weight; /* [out][in], columns in the input's order */
    struct kd_parameter *bias;   /* [out]; NULL: none */
    float *packed;               /* a copy of the weights, as the product reads them */
    size_t version;              /* of the parameters that it was made from */
    float *shift;                /* [out] the bias, or zeros, ... */
    float *scale;                /* [out] ... with a batch norm folded in */
};

/* The weights for the product; with a batch norm, (w * scale) x + b * scale + shift. */
static void pack(const struct kd_layer *layer)
{
    const struct dense *s = layer->state;
    const size_t in = layer->input[0]->size / layer->input[0]->batch,
                 out = layer->output->channels;

    kd_dense_pack(s->weight->value, out, in, s->packed);
    if (layer->norm == NULL)
        return;
    kd_batch_norm_affine(layer->norm, s->scale, s->shift);
    kd_dense_scale(s->packed, out, in, s->scale);
    for (size_t o = 0; s->bias != NULL && o < out; o++)
        s->shift[o] += s->bias->value[o] * s->scale[o];
}

static enum kd_status forward(struct kd_layer *layer)
{
    struct dense *s = layer->state;
    const struct kd_tensor *x = layer->input[0], *y = layer->output;
    const size_t in = x->size / x->batch;

    if (s->version != y->private->graph->version) {
        pack(layer);
        s->version = y->private->graph->version;
    }
    kd_dense_forward(x->data, x->batch, in, s->packed,
                     s->shift != NULL ? s->shift : s->bias->value, y->channels,
                     layer->norm != NULL && kd_batch_norm_has_relu(layer->norm),
                     y->data, y->size / y->batch);
    return KD_OK;
}

static void bias_backward(const struct kd_layer *layer, struct kd_parameter *bias)
{
    const struct kd_tensor *y = layer->output;
    const size_t lanes = y->size / y->batch;

    memset(bias->gradient, 0, bias->count * sizeof(float));
    for (size_t n = 0; n < y->batch; n++)
        for (size_t c = 0; c < bias->count; c++)
            bias->gradient[c] += y->gradient[n * lanes + c];
    bias->private->gradient_written = true;
}

static enum kd_status backward(struct kd_layer *layer)
{
    const struct dense *s = layer->state;
    struct kd_tensor *x = layer->input[0], *y = layer->output;
    const int batch = (int)x->batch, out = (int)y->channels;
    const int in = (int)(x->size / x->batch), lanes = (int)(y->size / y->batch);
    float *dx = kd_gradient_begin(x);

    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, out, in, batch, 1, y->gradient,
                lanes, x->data, in, 0, s->weight->gradient, in);
    s->weight->private->gradient_written = true;
    if (s->bias != NULL)
        bias_backward(layer, s->bias);
    if (dx != NULL)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, batch, in, out, 1,
                    y->gradient, lanes, s->weight->value, in, 0, dx, in);
    kd_gradient_end(x, dx);
    return KD_OK;
}

static enum kd_status prepare(struct kd_layer *layer)
{
    enum kd_status status = KD_EBUG;
    struct dense *s = layer->state;
    const struct kd_tensor *x = layer->input[0], *y = layer->output;
    const size_t size = kd_dense_packed_size(y->channels, x->size / x->batch);

    KD_TRY(KD_NEW(s->packed, size));
    y->private->graph->memory += size * sizeof *s->packed;
    if (layer->norm != NULL || s->bias == NULL)
        KD_TRY(KD_NEW(s->shift, y->channels));
    if (layer->norm != NULL)
        KD_TRY(KD_NEW(s->scale, y->channels));
    status = KD_OK;
out:
    return status;
}

static void clear(struct kd_layer *layer)
{
    struct dense *s = layer->state;

    if (s == NULL)
        return;
    free(s->packed);
    free(s->shift);
    free(s->scale);
}

static struct kd_tensor *add_dense(struct kd_graph *graph, struct kd_tensor *x,
                                   const char *name, size_t out, bool biased)
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
    s->version = SIZE_MAX;
    s->weight = kd_graph_new_parameter(
        graph, name, "weight", 2, (size_t[]){out, x->channels * x->height * x->width},
        out * (x->size / x->batch), true);
    if (biased)
        s->bias =
            kd_graph_new_parameter(graph, name, "bias", 1, (size_t[]){out}, out, true);
    if (s->weight == NULL || (biased && s->bias == NULL))
        return NULL;
    if (x->blocked)
        kd_parameter_is_blocked_dense(s->weight, x);
    layer->prepare = prepare;
    layer->forward = forward;
    layer->backward = backward;
    layer->clear = clear;
    layer->absorbs = KD_ABSORBS_NORM;
    kd_layer_connect(layer, x, NULL, y, true);
    return y;
}

struct kd_tensor *kd_graph_dense(struct kd_graph *graph, struct kd_tensor *x,
                                 const char *name, size_t out)
{
    return add_dense(graph, x, name, out, true);
}

struct kd_tensor *kd_graph_unbiased_dense(struct kd_graph *graph, struct kd_tensor *x,
                                          const char *name, size_t out)
{
    return add_dense(graph, x, name, out, false);
}
