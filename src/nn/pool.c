/* SPDX-License-Identifier: MIT */
/* Pooling: the largest or the mean of windows; the mean of a plane. */
#include "nn/graph_internal.h"

#define KD_WIDTH 16
#include "nn/pool_kernels_internal.h"
#undef KD_WIDTH
#define KD_WIDTH 8
#include "nn/pool_kernels_internal.h"

struct pool {
    const struct pool_kernels *kernels;
    struct windows windows;
};

/* Blocks of a batch, and floats from one to the next. */
struct extent {
    size_t items, in, out;
};

static struct extent extent_of(const struct kd_layer *layer)
{
    const struct kd_tensor *x = layer->input[0], *y = layer->output;

    return (struct extent){x->batch * kd_tensor_blocks(x),
                           x->height * x->width * x->lanes,
                           y->height * y->width * y->lanes};
}

static enum kd_status max_forward(struct kd_layer *layer)
{
    const struct pool *s = layer->state;
    const struct extent e = extent_of(layer);

#pragma omp parallel for
    for (size_t i = 0; i < e.items; i++)
        s->kernels->max(layer->input[0]->data + i * e.in, &s->windows,
                        layer->output->data + i * e.out);
    return KD_OK;
}

static enum kd_status max_backward(struct kd_layer *layer)
{
    const struct pool *s = layer->state;
    const struct extent e = extent_of(layer);
    const struct kd_tensor *x = layer->input[0], *y = layer->output;
    float *dx = kd_gradient_begin(layer->input[0]);

    if (dx == NULL)
        return KD_OK;
#pragma omp parallel for
    for (size_t i = 0; i < e.items; i++)
        s->kernels->max_back(x->data + i * e.in, y->data + i * e.out,
                             y->gradient + i * e.out, &s->windows, dx + i * e.in);
    kd_gradient_end(layer->input[0], dx);
    return KD_OK;
}

static enum kd_status mean_forward(struct kd_layer *layer)
{
    const struct pool *s = layer->state;
    const struct extent e = extent_of(layer);

#pragma omp parallel for
    for (size_t i = 0; i < e.items; i++)
        s->kernels->mean(layer->input[0]->data + i * e.in, &s->windows,
                         layer->output->data + i * e.out);
    return KD_OK;
}

static enum kd_status mean_backward(struct kd_layer *layer)
{
    const struct pool *s = layer->state;
    const struct extent e = extent_of(layer);
    float *dx = kd_gradient_begin(layer->input[0]);

    if (dx == NULL)
        return KD_OK;
#pragma omp parallel for
    for (size_t i = 0; i < e.items; i++)
        s->kernels->mean_back(layer->output->gradient + i * e.out, &s->windows,
                              dx + i * e.in);
    kd_gradient_end(layer->input[0], dx);
    return KD_OK;
}

static bool fits(const struct kd_tensor *x, const struct kd_pool *spec)
{
    return spec->size > 0 && spec->stride > 0 && spec->padding <= spec->size / 2 &&
           x->height + 2 * spec->padding >= spec->size &&
           x->width + 2 * spec->padding >= spec->size;
}

/* The layer over `windows`, whose output size is set. */
static struct kd_tensor *pool(struct kd_graph *graph, struct kd_tensor *x,
                              const struct windows *windows, bool mean)
{
    struct kd_tensor *y = kd_graph_new_tensor(graph, x->channels, windows->out_height,
                                              windows->out_width, true);
    struct kd_layer *layer = kd_graph_new_layer(
        graph, mean ? "average pool" : "max pool", sizeof(struct pool));
    struct pool *s;

    if (y == NULL || layer == NULL)
        return NULL;
    s = layer->state;
    s->windows = *windows;
    s->kernels = x->lanes == 16 ? &pool_kernels_16 : &pool_kernels_8;
    layer->forward = mean ? mean_forward : max_forward;
    layer->backward = mean ? mean_backward : max_backward;
    kd_layer_connect(layer, x, NULL, y, false);
    return y;
}

struct kd_tensor *kd_graph_pool(struct kd_graph *graph, struct kd_tensor *x,
                                const struct kd_pool *spec)
{
    struct windows w;

    if (!kd_graph_ready(graph, x))
        return NULL;
    if (!x->blocked)
        return kd_graph_failed(graph, kd_fail(KD_EBUG, "pooling of a plain tensor"));
    if (!fits(x, spec))
        return kd_graph_failed(
            graph, kd_fail(KD_ERECIPE, "%zu x %zu values cannot be pooled by %zu",
                           x->height, x->width, spec->size));
    w = (struct windows){
        .height = x->height,
        .width = x->width,
        .out_height = (x->height + 2 * spec->padding - spec->size) / spec->stride + 1,
        .out_width = (x->width + 2 * spec->padding - spec->size) / spec->stride + 1,
        .high = spec->size,
        .wide = spec->size,
        .stride = spec->stride,
        .padding = spec->padding};
    return pool(graph, x, &w, spec->mean);
}

struct kd_tensor *kd_graph_max_pool(struct kd_graph *graph, struct kd_tensor *x,
                                    size_t size)
{
    return kd_graph_pool(graph, x, &(struct kd_pool){.size = size, .stride = size});
}

struct kd_tensor *kd_graph_average_pool(struct kd_graph *graph, struct kd_tensor *x)
{
    if (!kd_graph_ready(graph, x))
        return NULL;
    if (!x->blocked)
        return kd_graph_failed(graph, kd_fail(KD_EBUG, "pooling of a plain tensor"));
    return pool(graph, x,
                &(struct windows){.height = x->height,
                                  .width = x->width,
                                  .out_height = 1,
                                  .out_width = 1,
                                  .high = x->height,
                                  .wide = x->width,
                                  .stride = 1},
                true);
}
