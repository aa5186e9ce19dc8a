/* SPDX-License-Identifier: MIT */
/*
 * Batch normalisation with the residual sum and the ReLU behind it in one pass.
 *
 * Sums run per image and block of sixteen channels, then over images in a fixed
 * order in double: the result does not depend on the number of threads.
 */
#include "nn/graph_internal.h"
#include "nn/lanes_internal.h"

#include "kd/memory.h"

#include <math.h>
#include <stdlib.h>

#define MOMENTUM 0.1
#define EPSILON  1e-5

struct batch_norm {
    struct kd_parameter *weight, *bias, *mean, *variance;
    bool relu;
    size_t blocks, plane; /* of a tensor: [batch][blocks][plane][16] */
    float *first;         /* [batch][blocks][16] sums of an image */
    float *second;        /* the same */
    float *batch_mean;    /* [blocks][16] of the last forward pass */
    float *inverse;       /* [blocks][16] 1 / sqrt(variance + epsilon) */
    float *scale;         /* [blocks][16] of the pass that runs */
    float *shift;         /* [blocks][16] */
    float *slope;         /* [blocks][16] backward only */
};

/* Mean and sum of squared distances from it, of one image's block. */
KD_VECTOR
static void image_moments(const float *x, size_t plane, float *mean, float *distance)
{
    kd_lanes sum = {0}, squares = {0}, centre;

    for (size_t i = 0; i < plane; i++)
        sum += KD_CONST_AT(x, i);
    centre = sum / (float)plane;
    for (size_t i = 0; i < plane; i++) {
        const kd_lanes d = KD_CONST_AT(x, i) - centre;
        squares += d * d;
    }
    KD_AT(mean, 0) = centre;
    KD_AT(distance, 0) = squares;
}

/* y = [relu](x * scale + shift [+ residual]) */
KD_VECTOR
static void image_apply(const float *x, const float *residual, size_t plane,
                        const float *scale, const float *shift, bool relu, float *y)
{
    const kd_lanes a = KD_CONST_AT(scale, 0), b = KD_CONST_AT(shift, 0);

    for (size_t i = 0; i < plane; i++) {
        kd_lanes v = KD_CONST_AT(x, i) * a + b;
        if (residual != NULL)
            v += KD_CONST_AT(residual, i);
        if (relu)
            v = KD_WHERE(~(v <= 0), v); /* a NaN stays one */
        KD_AT(y, i) = v;
    }
}

/* d = dy where y > 0; the sums of d and of d * (x - mean) / deviation. */
KD_VECTOR
static void image_gather(const float *dy, const float *y, const float *x, size_t plane,
                         const float *mean, const float *inverse, bool relu, float *d,
                         float *sum_d, float *sum_dx)
{
    const kd_lanes centre = KD_CONST_AT(mean, 0);
    kd_lanes first = {0}, second = {0};

    for (size_t i = 0; i < plane; i++) {
        kd_lanes v = KD_CONST_AT(dy, i);
        if (relu)
            v = KD_WHERE(KD_CONST_AT(y, i) > 0, v);
        KD_AT(d, i) = v;
        first += v;
        second += v * (KD_CONST_AT(x, i) - centre);
    }
    KD_AT(sum_d, 0) = first;
    KD_AT(sum_dx, 0) = second * KD_CONST_AT(inverse, 0);
}

/* dx = d * scale + x * slope + shift */
KD_VECTOR
static void image_spread(const float *d, const float *x, size_t plane,
                         const float *scale, const float *slope, const float *shift,
                         float *dx)
{
    const kd_lanes a = KD_CONST_AT(scale, 0), b = KD_CONST_AT(slope, 0),
                   c = KD_CONST_AT(shift, 0);

    for (size_t i = 0; i < plane; i++)
        KD_AT(dx, i) = KD_CONST_AT(d, i) * a + KD_CONST_AT(x, i) * b + c;
}

/* Moments of the whole batch (Chan et al. 1979), and the running ones. */
static void batch_moments(const struct batch_norm *s, size_t batch, size_t channel)
{
    const size_t stride = s->blocks * KD_LANES;
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
        image_moments(x->data + i * s->plane * KD_LANES, s->plane,
                      s->first + i * KD_LANES, s->second + i * KD_LANES);
    for (size_t c = 0; c < s->blocks * KD_LANES; c++)
        batch_moments(s, x->batch, c);
}

static enum kd_status forward(struct kd_layer *layer)
{
    const struct batch_norm *s = layer->state;
    const struct kd_tensor *x = layer->input[0], *residual = layer->input[1];
    const bool training = x->private->graph->training;
    const size_t items = x->batch * s->blocks;

    if (training)
        measure(layer);
    for (size_t c = 0; c < s->mean->count; c++) {
        const float mean = training ? s->batch_mean[c] : s->mean->value[c];
        const float inverse =
            training ? s->inverse[c]
                     : (float)(1.0 / sqrt((double)s->variance->value[c] + EPSILON));
        s->scale[c] = s->weight->value[c] * inverse;
        s->shift[c] = s->bias->value[c] - mean * s->scale[c];
    }
#pragma omp parallel for
    for (size_t i = 0; i < items; i++) {
        const size_t at = i * s->plane * KD_LANES, block = i % s->blocks * KD_LANES;
        image_apply(x->data + at, residual != NULL ? residual->data + at : NULL,
                    s->plane, s->scale + block, s->shift + block, s->relu,
                    layer->output->data + at);
    }
    return KD_OK;
}

/* Sums of d and d * xhat over the batch: gradients of bias and weight, and with them
 * dx = weight / deviation * (d - mean(d) - xhat * mean(d * xhat)). */
static void reduce(const struct batch_norm *s, size_t batch)
{
    const size_t stride = s->blocks * KD_LANES;
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
    const size_t items = x->batch * s->blocks, area = s->plane * KD_LANES;
    float *d = residual != NULL ? kd_gradient_begin(residual) : NULL;
    float *const masked = d != NULL ? d : y->gradient;
    float *dx;

#pragma omp parallel for
    for (size_t i = 0; i < items; i++) {
        const size_t block = i % s->blocks * KD_LANES;
        image_gather(y->gradient + i * area, y->data + i * area, x->data + i * area,
                     s->plane, s->batch_mean + block, s->inverse + block, s->relu,
                     masked + i * area, s->first + i * KD_LANES,
                     s->second + i * KD_LANES);
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
            const size_t block = i % s->blocks * KD_LANES;
            image_spread(masked + i * area, x->data + i * area, s->plane,
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

    s->blocks = kd_channel_blocks(x->channels);
    s->plane = x->height * x->width;
    lanes = s->blocks * KD_LANES;
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
