/* SPDX-License-Identifier: MIT */
/*
 * Batch normalisation with the residual sum and the ReLU behind it in one pass.
 *
 * Sums run per image and block of channels, then over images in a fixed
 * order in double: the result does not depend on the number of threads.
 */
#include "nn/graph_internal.h"

#include "kd/memory.h"

#include <math.h>
#include <stdlib.h>

#define KD_WIDTH 16
#include "nn/norm_kernels_internal.h"
#undef KD_WIDTH
#define KD_WIDTH 8
#include "nn/norm_kernels_internal.h"

#define MOMENTUM 0.1
#define EPSILON  1e-5

struct batch_norm {
    struct kd_parameter *weight, *bias, *mean, *variance;
    const struct norm_kernels *kernels;
    bool relu;
    size_t blocks, plane, lanes; /* of a tensor: [batch][blocks][plane][lanes] */
    float *first;                /* [batch][blocks][lanes] sums of an image */
    float *second;               /* the same */
    float *batch_mean;           /* [blocks][lanes] of the last forward pass */
    float *inverse;              /* [blocks][lanes] 1 / sqrt(variance + epsilon) */
    float *scale;                /* [blocks][lanes] of the pass that runs */
    float *shift;                /* [blocks][lanes] */
    float *slope;                /* [blocks][lanes] backward only */
};

/* Moments of the whole batch (Chan et al. 1979), and the running ones. */
static void batch_moments(const struct batch_norm *s, size_t batch, size_t channel)
{
    const size_t stride = s->blocks * s->lanes;
    const double plane = (double)s->plane, count = plane * (double)batch;
    double sum = 0, distance = 0;
    double mean, variance;

    for (size_t n = 0; n < batch; n++)
        sum += s->first[n * stride + channel];
    mean = sum / (double)batch;
    for (size_t n = 0; n < batch; n++) {
        const double d = s->first[n * stride + channel] - mean;
        distance += s->second[n * stride + channel] + plane * d * d;
    }
    variance = distance / count;
    s->batch_mean[channel] = (float)mean;
    s->inverse[channel] = (float)(1.0 / sqrt(variance + EPSILON));
    if (channel >= s->mean->count)
        return; /* a lane that is not used */
    const double unbiased = count > 1 ? distance / (count - 1) : variance;
    s->mean->value[channel] =
        (float)((1 - MOMENTUM) * s->mean->value[channel] + MOMENTUM * mean);
    s->variance->value[channel] =
        (float)((1 - MOMENTUM) * s->variance->value[channel] + MOMENTUM * unbiased);
}

static void measure(const struct kd_layer *layer)
{
    const struct batch_norm *s = layer->state;
    const struct kd_tensor *x = layer->input[0];
    const size_t items = x->batch * s->blocks;

#pragma omp parallel for
    for (size_t i = 0; i < items; i++)
        s->kernels->moments(x->data + i * s->plane * s->lanes, s->plane,
                            s->first + i * s->lanes, s->second + i * s->lanes);
    for (size_t c = 0; c < s->blocks * s->lanes; c++)
        batch_moments(s, x->batch, c);
}

bool kd_batch_norm_has_relu(const struct kd_layer *norm)
{
    return ((const struct batch_norm *)norm->state)->relu;
}

void kd_batch_norm_affine(const struct kd_layer *norm, float *scale, float *shift)
{
    const struct batch_norm *s = norm->state;

    for (size_t c = 0; c < s->mean->count; c++) {
        const double a = s->weight->value[c] / sqrt(s->variance->value[c] + EPSILON);
        scale[c] = (float)a;
        shift[c] = (float)(s->bias->value[c] - s->mean->value[c] * a);
    }
}

static enum kd_status forward(struct kd_layer *layer)
{
    const struct batch_norm *s = layer->state;
    const struct kd_tensor *x = layer->input[0], *residual = layer->input[1];
    const size_t items = x->batch * s->blocks;

    if (x->private->graph->training) {
        measure(layer);
        for (size_t c = 0; c < s->mean->count; c++) {
            s->scale[c] = s->weight->value[c] * s->inverse[c];
            s->shift[c] = s->bias->value[c] - s->batch_mean[c] * s->scale[c];
        }
    } else {
        kd_batch_norm_affine(layer, s->scale, s->shift);
    }
#pragma omp parallel for
    for (size_t i = 0; i < items; i++) {
        const size_t at = i * s->plane * s->lanes, block = i % s->blocks * s->lanes;
        s->kernels->apply(x->data + at, residual != NULL ? residual->data + at : NULL,
                          s->plane, s->scale + block, s->shift + block, s->relu,
                          layer->output->data + at);
    }
    return KD_OK;
}

bool kd_layer_is_batch_norm(const struct kd_layer *layer)
{
    return layer->forward == forward;
}

/* Sums of d and d * xhat over the batch: gradients of bias and weight, and with them
 * dx = weight / deviation * (d - mean(d) - xhat * mean(d * xhat)). */
static void reduce(const struct batch_norm *s, size_t batch)
{
    const size_t stride = s->blocks * s->lanes;
    const double count = (double)(s->plane * batch);

    for (size_t c = 0; c < s->weight->count; c++) {
        double sum_d = 0, sum_dx = 0;
        for (size_t n = 0; n < batch; n++) {
            sum_d += s->first[n * stride + c];
            sum_dx += s->second[n * stride + c];
        }
        s->bias->gradient[c] = (float)sum_d;
        s->weight->gradient[c] = (float)sum_dx;
        const double scale = (double)s->weight->value[c] * s->inverse[c];
        const double slope = -scale * s->inverse[c] * sum_dx / count;
        s->scale[c] = (float)scale;
        s->slope[c] = (float)slope;
        s->shift[c] = (float)(-scale * sum_d / count - slope * s->batch_mean[c]);
    }
}

static enum kd_status backward(struct kd_layer *layer)
{
    const struct batch_norm *s = layer->state;
    struct kd_tensor *x = layer->input[0], *residual = layer->input[1],
                     *y = layer->output;
    const size_t items = x->batch * s->blocks, area = s->plane * s->lanes;
    float *d = residual != NULL ? kd_gradient_begin(residual) : NULL;
    float *const masked = d != NULL ? d : y->gradient;
    float *dx;

#pragma omp parallel for
    for (size_t i = 0; i < items; i++) {
        const size_t block = i % s->blocks * s->lanes;
        s->kernels->gather(y->gradient + i * area, y->data + i * area,
                           x->data + i * area, s->plane, s->batch_mean + block,
                           s->inverse + block, s->relu, masked + i * area,
                           s->first + i * s->lanes, s->second + i * s->lanes);
    }
    reduce(s, x->batch);
    s->weight->private->gradient_written = true;
    s->bias->private->gradient_written = true;
    if (residual != NULL)
        kd_gradient_end(residual, d); /* before x's begins: they may be one tensor */
    dx = kd_gradient_begin(x);
    if (dx != NULL) {
#pragma omp parallel for
        for (size_t i = 0; i < items; i++) {
            const size_t block = i % s->blocks * s->lanes;
            s->kernels->spread(masked + i * area, x->data + i * area, s->plane,
                               s->scale + block, s->slope + block, s->shift + block,
                               dx + i * area);
        }
    }
    kd_gradient_end(x, dx);
    return KD_OK;
}

static void clear(struct kd_layer *layer)
{
    struct batch_norm *s = layer->state;

    if (s == NULL)
        return;
    free(s->first);
    free(s->second);
    free(s->batch_mean);
}

static enum kd_status make_state(struct kd_graph *graph, struct batch_norm *s,
                                 const char *name, const struct kd_tensor *x)
{
    const size_t shape[1] = {x->channels};
    enum kd_status status = KD_EBUG;
    size_t lanes;

    s->kernels = x->lanes == 16 ? &norm_kernels_16 : &norm_kernels_8;
    s->lanes = x->lanes;
    s->blocks = kd_tensor_blocks(x);
    s->plane = x->height * x->width;
    lanes = s->blocks * s->lanes;
    s->weight = kd_graph_new_parameter(graph, name, "weight", 1, shape, lanes, true);
    s->bias = kd_graph_new_parameter(graph, name, "bias", 1, shape, lanes, true);
    s->mean =
        kd_graph_new_parameter(graph, name, "running_mean", 1, shape, lanes, false);
    s->variance =
        kd_graph_new_parameter(graph, name, "running_var", 1, shape, lanes, false);
    if (graph->failed != KD_OK)
        return graph->failed;
    KD_TRY(KD_NEW(s->first, x->batch * lanes));
    KD_TRY(KD_NEW(s->second, x->batch * lanes));
    KD_TRY(KD_NEW(s->batch_mean, 5 * lanes));
    s->inverse = s->batch_mean + lanes;
    s->scale = s->inverse + lanes;
    s->shift = s->scale + lanes;
    s->slope = s->shift + lanes;
    graph->memory += (2 * x->batch + 5) * lanes * sizeof(float);
    status = KD_OK;
out:
    return status;
}

static bool same_shape(const struct kd_tensor *a, const struct kd_tensor *b)
{
    return a->channels == b->channels && a->height == b->height &&
           a->width == b->width && b->blocked;
}

struct kd_tensor *kd_graph_batch_norm(struct kd_graph *graph, struct kd_tensor *x,
                                      struct kd_tensor *residual, bool relu,
                                      const char *name)
{
    struct kd_tensor *y;
    struct kd_layer *layer;
    struct batch_norm *s;
    enum kd_status status;

    if (!kd_graph_ready(graph, x))
        return NULL;
    if (!x->blocked || (residual != NULL && !same_shape(x, residual)))
        return kd_graph_failed(
            graph, kd_fail(KD_EBUG, "%s: batch norm of tensors of two shapes", name));
    y = kd_graph_new_tensor(graph, x->channels, x->height, x->width, true);
    layer = kd_graph_new_layer(graph, "batch norm", sizeof *s);
    if (y == NULL || layer == NULL)
        return NULL;
    s = layer->state;
    s->relu = relu;
    layer->forward = forward;
    layer->backward = backward;
    layer->clear = clear;
    kd_layer_connect(layer, x, residual, y, true);
    status = make_state(graph, s, name, x);
    return status == KD_OK ? y : kd_graph_failed(graph, status);
}
