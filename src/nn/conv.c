/* SPDX-License-Identifier: MIT */
/*
 * Convolutions, on oneDNN or on winograd.c. Values stay in the blocked layout; weights
 * are kept in the one layout that the forward kernel reads (or plain oihw where that
 * one is private to the library), and copied where another kernel wants another.
 */
#include "nn/conv_internal.h"

#include "kd/memory.h"
#include "kd/progress.h"

#include <stdlib.h>

/* A copy of the weights for a kernel whose layout is not the kept one. `into_kept`:
 * the copy is written by the kernel and read back. */
static enum kd_status make_copy(struct weights_copy *copy, const struct conv *conv,
                                const dnnl_memory_desc_t *layout, float *kept,
                                bool into_kept)
{
    enum kd_status status = KD_EBUG;

    if (dnnl_memory_desc_equal(layout, &conv->kept))
        return KD_OK;
    KD_TRY(KD_NEW(copy->data, dnnl_memory_desc_get_size(layout) / sizeof(float)));
    KD_TRY(kd_primitive_reorder(&copy->reorder, into_kept ? layout : &conv->kept,
                                into_kept ? &conv->kept : layout));
    KD_TRY(kd_primitive_bind(&copy->reorder, DNNL_ARG_FROM,
                             into_kept ? layout : &conv->kept,
                             into_kept ? copy->data : kept));
    KD_TRY(kd_primitive_bind(&copy->reorder, DNNL_ARG_TO,
                             into_kept ? &conv->kept : layout,
                             into_kept ? kept : copy->data));
    status = KD_OK;
out:
    return status;
}

static enum kd_status bind(struct kd_primitive *p, struct kd_graph *graph, int in,
                           const dnnl_memory_desc_t *in_desc, float *in_data,
                           int weights, dnnl_query_t query, float *weights_data,
                           int out, const dnnl_memory_desc_t *out_desc, float *out_data)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_primitive_create(p));
    KD_TRY(kd_primitive_bind(p, in, in_desc, in_data));
    KD_TRY(kd_primitive_bind(p, weights, kd_primitive_layout(p, query), weights_data));
    KD_TRY(kd_primitive_bind(p, out, out_desc, out_data));
    KD_TRY(kd_primitive_bind(p, DNNL_ARG_SCRATCHPAD,
                             kd_primitive_layout(p, dnnl_query_scratchpad_md),
                             graph->workspace));
    status = KD_OK;
out:
    return status;
}

/* Space for the folded weights, and where the forward kernel finds its own. */
static enum kd_status prepare_forward(struct kd_layer *layer)
{
    struct conv *c = layer->state;
    struct kd_tensor *x = layer->input[0], *y = layer->output;
    struct kd_graph *graph = y->private->graph;
    const dnnl_memory_desc_t *layout =
        c->winograd ? &c->blocks
                    : kd_primitive_layout(&c->forward, dnnl_query_weights_md);
    const size_t out = (size_t)c->target.dims[1];
    float *kept = c->weight->value;
    enum kd_status status = KD_EBUG;

    if (layer->norm != NULL) {
        KD_TRY(KD_NEW(c->folded, c->weight->size));
        KD_TRY(KD_NEW(c->shift, out));
        KD_TRY(KD_NEW(c->scale, out));
        graph->memory += (c->weight->size + 2 * out) * sizeof(float);
        kept = c->folded;
    }
    KD_TRY(make_copy(&c->for_forward, c, layout, kept, false));
    if (c->for_forward.data != NULL)
        graph->memory += dnnl_memory_desc_get_size(layout);
    if (c->winograd)
        return kd_conv_winograd_prepare(layer);
    KD_TRY(bind(&c->forward, graph, DNNL_ARG_SRC, &c->source, x->data, DNNL_ARG_WEIGHTS,
                dnnl_query_weights_md,
                c->for_forward.data != NULL ? c->for_forward.data : kept, DNNL_ARG_DST,
                &c->target, y->data));
    if (layer->norm != NULL || c->bias != NULL)
        KD_TRY(kd_primitive_bind(&c->forward, DNNL_ARG_BIAS, &c->bias_desc,
                                 layer->norm != NULL ? c->shift : c->bias->value));
    status = KD_OK;
out:
    return status;
}

static enum kd_status prepare(struct kd_layer *layer)
{
    enum kd_status status = KD_EBUG;
    struct conv *c = layer->state;
    struct kd_tensor *x = layer->input[0], *y = layer->output;
    struct kd_graph *graph = y->private->graph;
    struct kd_parameter *w = c->weight;

    KD_TRY(prepare_forward(layer));
    if (y->gradient == NULL || c->winograd) {
        status = KD_OK;
        goto out;
    }
    KD_TRY(
        make_copy(&c->from_backward, c,
                  kd_primitive_layout(&c->backward_weights, dnnl_query_diff_weights_md),
                  w->gradient, true));
    KD_TRY(bind(&c->backward_weights, graph, DNNL_ARG_SRC, &c->source, x->data,
                DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md,
                c->from_backward.data != NULL ? c->from_backward.data : w->gradient,
                DNNL_ARG_DIFF_DST, &c->target, y->gradient));
    if (c->bias != NULL)
        KD_TRY(kd_primitive_bind(&c->backward_weights, DNNL_ARG_DIFF_BIAS,
                                 &c->bias_desc, c->bias->gradient));
    if (x->wants_gradient) {
        KD_TRY(make_copy(&c->for_backward, c,
                         kd_primitive_layout(&c->backward_data, dnnl_query_weights_md),
                         w->value, false));
        KD_TRY(bind(&c->backward_data, graph, DNNL_ARG_DIFF_DST, &c->target,
                    y->gradient, DNNL_ARG_WEIGHTS, dnnl_query_weights_md,
                    c->for_backward.data != NULL ? c->for_backward.data : w->value,
                    DNNL_ARG_DIFF_SRC, &c->source, x->gradient));
    }
    status = KD_OK;
out:
    return status;
}

/* y = (w * scale) x + shift does batch norm's work. In inference weights are kept as
 * plain [out][in / groups][k][k]. */
static void fold(const struct kd_layer *layer)
{
    const struct conv *c = layer->state;
    const size_t out = (size_t)c->target.dims[1], row = c->weight->size / out;

    kd_batch_norm_affine(layer->norm, c->scale, c->shift);
    for (size_t o = 0; c->bias != NULL && o < out; o++)
        c->shift[o] += c->bias->value[o] * c->scale[o];
    for (size_t o = 0; o < out; o++)
        for (size_t i = 0; i < row; i++)
            c->folded[o * row + i] = c->weight->value[o * row + i] * c->scale[o];
}

static enum kd_status forward(struct kd_layer *layer)
{
    struct conv *c = layer->state;
    const size_t version = layer->output->private->graph->version;

    if (c->version != version) {
        double started = kd_seconds();
        if (layer->norm != NULL)
            fold(layer);
        if (c->for_forward.data != NULL) {
            const enum kd_status status = kd_primitive_run(&c->for_forward.reorder);
            if (status != KD_OK)
                return status;
        }
        if (c->winograd && !layer->output->private->graph->training)
            kd_conv_winograd_points(layer);
        c->version = version;
        kd_layer_lap(layer, KD_PASS_COPIES, &started);
    }
    if (c->winograd) {
        kd_conv_winograd_forward(layer);
        return KD_OK;
    }
    return kd_primitive_run(&c->forward);
}

static enum kd_status backward_weights(struct kd_layer *layer)
{
    enum kd_status status = KD_EBUG;
    struct conv *c = layer->state;
    double started = kd_seconds();

    if (c->winograd)
        kd_conv_winograd_backward_weights(layer);
    else if (c->own_weights)
        kd_depthwise_backward_weights(layer);
    else
        KD_TRY(kd_primitive_run(&c->backward_weights));
    kd_layer_lap(layer, KD_PASS_WEIGHTS, &started);
    if (c->from_backward.data != NULL && !c->own_weights)
        KD_TRY(kd_primitive_run(&c->from_backward.reorder));
    kd_layer_lap(layer, KD_PASS_COPIES, &started);
    c->weight->private->gradient_written = true;
    if (c->bias != NULL)
        c->bias->private->gradient_written = true;
    status = KD_OK;
out:
    return status;
}

static enum kd_status backward(struct kd_layer *layer)
{
    enum kd_status status = KD_EBUG;
    struct conv *c = layer->state;
    double started;
    float *dx;

    KD_TRY(backward_weights(layer));
    if (c->winograd) {
        kd_conv_winograd_backward_values(layer);
        return KD_OK;
    }
    dx = kd_gradient_begin(layer->input[0]);
    if (dx != NULL) {
        started = kd_seconds();
        if (c->for_backward.data != NULL)
            KD_TRY(kd_primitive_run(&c->for_backward.reorder));
        kd_layer_lap(layer, KD_PASS_COPIES, &started);
        kd_primitive_rebind(&c->backward_data, DNNL_ARG_DIFF_SRC, dx);
        KD_TRY(kd_primitive_run(&c->backward_data));
        kd_gradient_end(layer->input[0], dx);
    }
    status = KD_OK;
out:
    return status;
}

static void clear_copy(struct weights_copy *copy)
{
    kd_primitive_clear(&copy->reorder);
    free(copy->data);
}

static void clear(struct kd_layer *layer)
{
    struct conv *c = layer->state;

    if (c == NULL)
        return;
    kd_primitive_clear(&c->forward);
    kd_primitive_clear(&c->backward_data);
    kd_primitive_clear(&c->backward_weights);
    clear_copy(&c->for_forward);
    clear_copy(&c->for_backward);
    clear_copy(&c->from_backward);
    free(c->kept_points);
    free(c->folded);
    free(c->shift);
    free(c->scale);
}

bool kd_conv_is_depthwise(const struct conv *c)
{
    return c->groups > 1 && c->groups == c->weight->shape[0] &&
           c->weight->shape[1] == 1;
}

static bool fits(const struct kd_tensor *x, const struct kd_conv *spec)
{
    return spec->channels > 0 && spec->kernel > 0 && spec->stride > 0 &&
           x->height + 2 * spec->padding >= spec->kernel &&
           x->width + 2 * spec->padding >= spec->kernel;
}

/* Groups are cut where blocks end, or are single channels. */
static bool groups_fit(const struct kd_tensor *x, const struct kd_conv *spec,
                       size_t groups)
{
    const size_t block = groups * x->lanes;

    if (groups == 1)
        return true;
    return x->blocked && groups > 0 &&
           ((x->channels == groups && spec->channels == groups) ||
            (x->channels % block == 0 && spec->channels % block == 0));
}

static enum kd_status check(const struct kd_tensor *x, const char *name,
                            const struct kd_conv *spec, size_t groups)
{
    if (!fits(x, spec))
        return kd_fail(KD_ERECIPE,
                       "%s: a %zu x %zu convolution does not fit %zu x %zu values",
                       name, spec->kernel, spec->kernel, x->height, x->width);
    if (!groups_fit(x, spec, groups))
        return kd_fail(KD_ERECIPE,
                       "%s: %zu groups do not divide %zu and %zu channels into "
                       "multiples of %zu",
                       name, groups, x->channels, spec->channels, x->lanes);
    return KD_OK;
}

static size_t out_size(size_t in, const struct kd_conv *spec)
{
    return (in + 2 * spec->padding - spec->kernel) / spec->stride + 1;
}

static struct kd_tensor *build(struct kd_graph *graph, struct kd_tensor *x,
                               const char *name, const struct kd_conv *spec,
                               size_t groups, bool biased)
{
    struct kd_tensor *y;
    struct kd_layer *layer;
    struct conv *c;

    if (!kd_graph_ready(graph, x))
        return NULL;
    if (check(x, name, spec, groups) != KD_OK)
        return kd_graph_failed(graph, KD_ERECIPE);
    y = kd_graph_new_tensor(graph, spec->channels, out_size(x->height, spec),
                            out_size(x->width, spec), true);
    layer = kd_graph_new_layer(graph, "convolution", sizeof *c);
    if (y == NULL || layer == NULL)
        return NULL;
    c = layer->state;
    c->spec = *spec;
    c->groups = groups;
    c->version = SIZE_MAX;
    layer->absorbs = KD_ABSORBS_RESIDUAL;
    layer->describe = kd_conv_describe;
    layer->prepare = prepare;
    layer->forward = forward;
    layer->backward = backward;
    layer->clear = clear;
    kd_layer_connect(layer, x, NULL, y, true);
    c->weight = kd_graph_new_parameter(
        graph, name, "weight", 4,
        (size_t[]){spec->channels, x->channels / groups, spec->kernel, spec->kernel}, 0,
        true);
    if (biased)
        c->bias = kd_graph_new_parameter(graph, name, "bias", 1, &spec->channels,
                                         kd_tensor_blocks(y) * y->lanes, true);
    return c->weight != NULL && (!biased || c->bias != NULL) ? y : NULL;
}

struct kd_tensor *kd_graph_conv(struct kd_graph *graph, struct kd_tensor *x,
                                const char *name, const struct kd_conv *conv)
{
    return build(graph, x, name, conv, 1, false);
}

struct kd_tensor *kd_graph_biased_conv(struct kd_graph *graph, struct kd_tensor *x,
                                       const char *name, const struct kd_conv *conv)
{
    return build(graph, x, name, conv, 1, true);
}

struct kd_tensor *kd_graph_grouped_conv(struct kd_graph *graph, struct kd_tensor *x,
                                        const char *name, const struct kd_conv *conv,
                                        size_t groups)
{
    return build(graph, x, name, conv, groups, false);
}

struct kd_tensor *kd_graph_pointwise(struct kd_graph *graph, struct kd_tensor *x,
                                     const char *name, size_t out)
{
    struct kd_tensor *y =
        build(graph, x, name, &(struct kd_conv){out, 1, 1, 0}, 1, true);

    if (y != NULL) /* its shape is a dense layer's; [2] and [3] stay 1 */
        ((struct conv *)y->private->producer->state)->weight->rank = 2;
    return y;
}
