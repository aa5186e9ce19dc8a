/* SPDX-License-Identifier: MIT */
/* Layer norm over the channels of every place. */
#include "nn/graph_internal.h"

#include "kd/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPSILON 1e-6

struct layer_norm {
    struct kd_parameter *weight, *bias;
    size_t places;  /* of a sample */
    float *mean;    /* [batch][places] of the last forward pass */
    float *inverse; /* the same, 1 / sqrt(variance + epsilon) */
    float *sums;    /* [batch][2][channels] of a sample's gradients */
};

/* Where channel c of a place lies behind the place's first. */
static size_t offset(const struct kd_tensor *t, size_t c)
{
    return c / t->lanes * (t->height * t->width * t->lanes) + c % t->lanes;
}

static const float *place(const struct kd_tensor *t, const float *values, size_t n,
                          size_t i)
{
    return values + n * (t->size / t->batch) + i * t->lanes;
}

static void normalise(const struct layer_norm *s, const struct kd_tensor *t,
                      const float *x, size_t at, float *y)
{
    double sum = 0, squares = 0;

    for (size_t c = 0; c < t->channels; c++)
        sum += x[offset(t, c)];
    const double mean = sum / (double)t->channels;
    for (size_t c = 0; c < t->channels; c++) {
        const double d = x[offset(t, c)] - mean;
        squares += d * d;
    }
    s->mean[at] = (float)mean;
    s->inverse[at] = (float)(1 / sqrt(squares / (double)t->channels + EPSILON));
    for (size_t c = 0; c < t->channels; c++)
        y[offset(t, c)] =
            (x[offset(t, c)] - s->mean[at]) * s->inverse[at] * s->weight->value[c] +
            s->bias->value[c];
}

static enum kd_status forward(struct kd_layer *layer)
{
    const struct layer_norm *s = layer->state;
    const struct kd_tensor *x = layer->input[0], *y = layer->output;

#pragma omp parallel for
    for (size_t n = 0; n < x->batch; n++) {
        const size_t size = y->size / y->batch;
        memset(y->data + n * size, 0, size * sizeof *y->data);
        for (size_t i = 0; i < s->places; i++)
            normalise(s, x, place(x, x->data, n, i), n * s->places + i,
                      y->data + n * size + i * y->lanes);
    }
    return KD_OK;
}

/* With g = dy * weight and h = (x - mean) * inverse:
 * dx = inverse * (g - mean(g) - h * mean(g * h)). */
static void spread(const struct layer_norm *s, const struct kd_tensor *t,
                   const float *x, const float *dy, size_t at, float *dx)
{
    double sum_g = 0, sum_gh = 0;

    for (size_t c = 0; c < t->channels; c++) {
        const size_t o = offset(t, c);
        const double g = (double)dy[o] * s->weight->value[c];
        sum_g += g;
        sum_gh += g * (x[o] - s->mean[at]) * s->inverse[at];
    }
    const float mean_g = (float)(sum_g / (double)t->channels),
                mean_gh = (float)(sum_gh / (double)t->channels);
    for (size_t c = 0; c < t->channels; c++) {
        const size_t o = offset(t, c);
        const float h = (x[o] - s->mean[at]) * s->inverse[at];
        dx[o] = s->inverse[at] * (dy[o] * s->weight->value[c] - mean_g - h * mean_gh);
    }
}

/* A sample's sums of dy * h and of dy, for the parameters. */
static void gather(const struct layer_norm *s, const struct kd_tensor *x,
                   const float *gradient, size_t n)
{
    const size_t channels = x->channels;
    float *to = s->sums + n * 2 * channels;

    memset(to, 0, 2 * channels * sizeof *to);
    for (size_t i = 0; i < s->places; i++) {
        const size_t at = n * s->places + i;
        const float *v = place(x, x->data, n, i), *d = place(x, gradient, n, i);
        for (size_t c = 0; c < channels; c++) {
            const size_t o = offset(x, c);
            to[c] += d[o] * (v[o] - s->mean[at]) * s->inverse[at];
            to[channels + c] += d[o];
        }
    }
}

static void reduce(const struct layer_norm *s, size_t batch)
{
    const size_t channels = s->weight->count;

    for (size_t c = 0; c < channels; c++) {
        double weight = 0, bias = 0;
        for (size_t n = 0; n < batch; n++) {
            weight += s->sums[n * 2 * channels + c];
            bias += s->sums[n * 2 * channels + channels + c];
        }
        s->weight->gradient[c] = (float)weight;
        s->bias->gradient[c] = (float)bias;
    }
    s->weight->private->gradient_written = true;
    s->bias->private->gradient_written = true;
}

static enum kd_status backward(struct kd_layer *layer)
{
    const struct layer_norm *s = layer->state;
    struct kd_tensor *x = layer->input[0];
    const float *dy = layer->output->gradient;
    const size_t size = x->size / x->batch;
    float *dx = kd_gradient_begin(x);

#pragma omp parallel for
    for (size_t n = 0; n < x->batch; n++) {
        gather(s, x, dy, n);
        if (dx == NULL)
            continue;
        memset(dx + n * size, 0, size * sizeof *dx);
        for (size_t i = 0; i < s->places; i++)
            spread(s, x, place(x, x->data, n, i), place(x, dy, n, i), n * s->places + i,
                   dx + n * size + i * x->lanes);
    }
    reduce(s, x->batch);
    kd_gradient_end(x, dx);
    return KD_OK;
}

static void clear(struct kd_layer *layer)
{
    struct layer_norm *s = layer->state;

    if (s == NULL)
        return;
    free(s->mean);
    free(s->inverse);
    free(s->sums);
}

static enum kd_status make_state(struct kd_graph *graph, struct layer_norm *s,
                                 const char *name, const struct kd_tensor *x)
{
    enum kd_status status = KD_EBUG;
    const size_t channels = x->channels;

    s->places = x->height * x->width;
    s->weight =
        kd_graph_new_parameter(graph, name, "weight", 1, &channels, channels, true);
    s->bias = kd_graph_new_parameter(graph, name, "bias", 1, &channels, channels, true);
    if (graph->failed != KD_OK)
        return graph->failed;
    KD_TRY(KD_NEW(s->mean, x->batch * s->places));
    KD_TRY(KD_NEW(s->inverse, x->batch * s->places));
    KD_TRY(KD_NEW(s->sums, x->batch * 2 * channels));
    graph->memory += 2 * x->batch * (s->places + channels) * sizeof(float);
    status = KD_OK;
out:
    return status;
}

struct kd_tensor *kd_graph_layer_norm(struct kd_graph *graph, struct kd_tensor *x,
                                      const char *name)
{
    struct kd_tensor *y;
    struct kd_layer *layer;
    enum kd_status status;

    if (!kd_graph_ready(graph, x))
        return NULL;
    y = kd_graph_new_tensor(graph, x->channels, x->height, x->width, x->blocked);
    layer = kd_graph_new_layer(graph, "layer norm", sizeof(struct layer_norm));
    if (y == NULL || layer == NULL)
        return NULL;
    layer->forward = forward;
    layer->backward = backward;
    layer->clear = clear;
    kd_layer_connect(layer, x, NULL, y, true);
    status = make_state(graph, layer->state, name, x);
    return status == KD_OK ? y : kd_graph_failed(graph, status);
}
