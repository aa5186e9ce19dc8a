/* SPDX-License-Identifier: MIT */
/* Pooling: the largest of a window, the mean of a plane. */
#include "nn/graph_internal.h"
#include "nn/lanes_internal.h"

struct max_pool {
    size_t size;
};

/* The geometry of one image's block of sixteen channels. */
struct plane {
    size_t width, out_height, out_width, size;
};

KD_VECTOR
static void image_max(const float *x, const struct plane *p, float *y)
{
    for (size_t i = 0; i < p->out_height; i++)
        for (size_t j = 0; j < p->out_width; j++) {
            const size_t corner = i * p->size * p->width + j * p->size;
            kd_lanes best = KD_CONST_AT(x, corner);
            for (size_t k = 1; k < p->size * p->size; k++) {
                const size_t at = corner + k / p->size * p->width + k % p->size;
                const kd_lanes v = KD_CONST_AT(x, at);
                const kd_lane_mask larger = (v > best) | (v != v); /* or a NaN */
                best = KD_WHERE(larger, v) + KD_WHERE(~larger, best);
            }
            KD_AT(y, i * p->out_width + j) = best;
        }
}

/* The gradient goes to the first of a window's largest values. */
KD_VECTOR
static void image_max_back(const float *x, const float *y, const float *dy,
                           const struct plane *p, float *dx)
{
    for (size_t i = 0; i < p->out_height; i++)
        for (size_t j = 0; j < p->out_width; j++) {
            const size_t corner = i * p->size * p->width + j * p->size;
            const kd_lanes best = KD_CONST_AT(y, i * p->out_width + j);
            const kd_lanes d = KD_CONST_AT(dy, i * p->out_width + j);
            kd_lane_mask open = {0};
            open = ~open;
            for (size_t k = 0; k < p->size * p->size; k++) {
                const size_t at = corner + k / p->size * p->width + k % p->size;
                const kd_lane_mask here = (KD_CONST_AT(x, at) == best) & open;
                KD_AT(dx, at) = KD_WHERE(here, d);
                open &= ~here;
            }
        }
}

static struct plane geometry(const struct kd_layer *layer)
{
    const struct max_pool *s = layer->state;

    return (struct plane){layer->input[0]->width, layer->output->height,
                          layer->output->width, s->size};
}

static enum kd_status max_forward(struct kd_layer *layer)
{
    const struct kd_tensor *x = layer->input[0], *y = layer->output;
    const struct plane p = geometry(layer);
    const size_t items = x->batch * kd_channel_blocks(x->channels);
    const size_t in = x->height * x->width * KD_LANES,
                 out = y->height * y->width * KD_LANES;

#pragma omp parallel for
    for (size_t i = 0; i < items; i++)
        image_max(x->data + i * in, &p, y->data + i * out);
    return KD_OK;
}

static enum kd_status max_backward(struct kd_layer *layer)
{
    struct kd_tensor *x = layer->input[0], *y = layer->output;
    const struct plane p = geometry(layer);
    const size_t items = x->batch * kd_channel_blocks(x->channels);
    const size_t in = x->height * x->width * KD_LANES,
                 out = y->height * y->width * KD_LANES;
    const bool covers =
        y->height * p.size == x->height && y->width * p.size == x->width;
    float *dx = kd_gradient_begin(x);

    if (dx == NULL)
        return KD_OK;
#pragma omp parallel for
    for (size_t i = 0; i < items; i++) {
        if (!covers)
            memset(dx + i * in, 0, in * sizeof *dx);
        image_max_back(x->data + i * in, y->data + i * out, y->gradient + i * out, &p,
                       dx + i * in);
    }
    kd_gradient_end(x, dx);
    return KD_OK;
}

struct kd_tensor *kd_graph_max_pool(struct kd_graph *graph, struct kd_tensor *x,
                                    size_t size)
{
    struct kd_tensor *y;
    struct kd_layer *layer;

    if (!kd_graph_ready(graph, x))
        return NULL;
    if (!x->blocked)
        return kd_graph_failed(graph, kd_fail(KD_EBUG, "pooling of a plain tensor"));
    if (size == 0 || x->height < size || x->width < size)
        return kd_graph_failed(
            graph, kd_fail(KD_ERECIPE, "%zu x %zu values cannot be pooled by %zu",
                           x->height, x->width, size));
    y = kd_graph_new_tensor(graph, x->channels, x->height / size, x->width / size,
                            true);
    layer = kd_graph_new_layer(graph, "max pool", sizeof(struct max_pool));
    if (y == NULL || layer == NULL)
        return NULL;
    ((struct max_pool *)layer->state)->size = size;
    layer->forward = max_forward;
    layer->backward = max_backward;
    kd_layer_connect(layer, x, NULL, y, false);
    return y;
}

KD_VECTOR
static void image_mean(const float *x, size_t plane, float *y)
{
    kd_lanes sum = {0};

    for (size_t i = 0; i < plane; i++)
        sum += KD_CONST_AT(x, i);
    KD_AT(y, 0) = sum / (float)plane;
}

KD_VECTOR
static void image_mean_back(const float *dy, size_t plane, float *dx)
{
    const kd_lanes d = KD_CONST_AT(dy, 0) / (float)plane;

    for (size_t i = 0; i < plane; i++)
        KD_AT(dx, i) = d;
}

static enum kd_status average_forward(struct kd_layer *layer)
{
    const struct kd_tensor *x = layer->input[0];
    const size_t plane = x->height * x->width,
                 items = x->batch * kd_channel_blocks(x->channels);

#pragma omp parallel for
    for (size_t i = 0; i < items; i++)
        image_mean(x->data + i * plane * KD_LANES, plane,
                   layer->output->data + i * KD_LANES);
    return KD_OK;
}

static enum kd_status average_backward(struct kd_layer *layer)
{
    struct kd_tensor *x = layer->input[0];
    const size_t plane = x->height * x->width,
                 items = x->batch * kd_channel_blocks(x->channels);
    float *dx = kd_gradient_begin(x);

    if (dx == NULL)
        return KD_OK;
#pragma omp parallel for
    for (size_t i = 0; i < items; i++)
        image_mean_back(layer->output->gradient + i * KD_LANES, plane,
                        dx + i * plane * KD_LANES);
    kd_gradient_end(x, dx);
    return KD_OK;
}

struct kd_tensor *kd_graph_average_pool(struct kd_graph *graph, struct kd_tensor *x)
{
    struct kd_tensor *y;
    struct kd_layer *layer;

    if (!kd_graph_ready(graph, x))
        return NULL;
    if (!x->blocked)
        return kd_graph_failed(graph, kd_fail(KD_EBUG, "pooling of a plain tensor"));
    y = kd_graph_new_tensor(graph, x->channels, 1, 1, true);
    layer = kd_graph_new_layer(graph, "average pool", 0);
    if (y == NULL || layer == NULL)
        return NULL;
    layer->forward = average_forward;
    layer->backward = average_backward;
    kd_layer_connect(layer, x, NULL, y, false);
    return y;
}
