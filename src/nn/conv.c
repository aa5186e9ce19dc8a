/* SPDX-License-Identifier: MIT */
/*
 * Convolutions, on oneDNN. Values stay in the blocked layout; weights are kept in
 * the one layout that the forward kernel reads (or plain oihw where that one is
 * private to the library), and copied where another kernel wants another.
 */
#include "nn/graph_internal.h"

#include "kd/log.h"
#include "kd/memory.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct weights_copy {
    struct kd_primitive reorder; /* between the kept layout and this one */
    float *data;                 /* NULL: the kept layout serves */
};

struct conv {
    struct kd_parameter *weight;
    dnnl_memory_desc_t source, kept, target; /* layouts */
    struct kd_primitive forward, backward_data, backward_weights;
    struct weights_copy for_forward, for_backward, from_backward;
    size_t version; /* of the parameters that for_forward was made from */
};

/* The blocked layout has fast kernels where there is AVX-512; elsewhere the library's
 * reference loops run, a thousand times slower. */
static void warn_if_slow(const struct kd_primitive *p)
{
    static atomic_bool warned;
    const char *kernel = kd_primitive_kernel(p);

    if (strncmp(kernel, "ref", 3) == 0 && !atomic_exchange(&warned, true))
        kd_log(KD_LOG_WARNING,
               "convolutions run on slow reference kernels (%s): this processor has no "
               "AVX-512",
               kernel);
}

static enum kd_status describe_as(struct kd_primitive *p, dnnl_convolution_desc_t *op,
                                  const struct kd_primitive *hint)
{
    enum kd_status status = KD_EBUG;
    bool supported = false;

    /* Winograd F(4x4,3x3) where there is a kernel: 1.2 to 2 times direct. */
    op->alg_kind = dnnl_convolution_winograd;
    KD_TRY(kd_primitive_describe(p, op, hint, &supported));
    if (!supported) {
        op->alg_kind = dnnl_convolution_direct;
        KD_TRY(kd_primitive_describe(p, op, hint, &supported));
    }
    if (!supported) {
        status = kd_fail(KD_EBUG, "oneDNN has no kernel for this convolution");
        goto out;
    }
    warn_if_slow(p);
    status = KD_OK;
out:
    return status;
}

/* Descriptions of the kernels; `any` lets each choose its layout of weights. */
static enum kd_status describe(struct conv *conv, const struct kd_conv *spec,
                               bool training, bool wants_gradient)
{
    enum kd_status status = KD_EBUG;
    const dnnl_dim_t k = (dnnl_dim_t)spec->kernel;
    const dnnl_dims_t dims = {conv->target.dims[1], conv->source.dims[1], k, k};
    const dnnl_dims_t strides = {(dnnl_dim_t)spec->stride, (dnnl_dim_t)spec->stride};
    const dnnl_dims_t pads = {(dnnl_dim_t)spec->padding, (dnnl_dim_t)spec->padding};
    const dnnl_alg_kind_t direct = dnnl_convolution_direct;
    dnnl_memory_desc_t any;
    dnnl_convolution_desc_t op;

    KD_TRY(kd_onednn_desc(&any, 4, dims, dnnl_format_tag_any));
    KD_TRY(kd_onednn_status(
        dnnl_convolution_forward_desc_init(
            &op, training ? dnnl_forward_training : dnnl_forward_inference, direct,
            &conv->source, &any, NULL, &conv->target, strides, pads, pads),
        "convolution"));
    KD_TRY(describe_as(&conv->forward, &op, NULL));
    conv->kept = *kd_primitive_layout(&conv->forward, dnnl_query_weights_md);
    if (conv->kept.format_kind != dnnl_blocked)
        KD_TRY(kd_onednn_desc(&conv->kept, 4, dims, dnnl_oihw));
    if (!training) {
        status = KD_OK;
        goto out;
    }
    KD_TRY(kd_onednn_status(
        dnnl_convolution_backward_weights_desc_init(
            &op, direct, &conv->source, &any, NULL, &conv->target, strides, pads, pads),
        "convolution, gradient of weights"));
    KD_TRY(describe_as(&conv->backward_weights, &op, &conv->forward));
    if (wants_gradient) {
        KD_TRY(kd_onednn_status(
            dnnl_convolution_backward_data_desc_init(
                &op, direct, &conv->source, &any, &conv->target, strides, pads, pads),
            "convolution, gradient of values"));
        KD_TRY(describe_as(&conv->backward_data, &op, &conv->forward));
    }
    status = KD_OK;
out:
    return status;
}

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

static enum kd_status prepare(struct kd_layer *layer)
{
    enum kd_status status = KD_EBUG;
    struct conv *c = layer->state;
    struct kd_tensor *x = layer->input[0], *y = layer->output;
    struct kd_graph *graph = y->private->graph;
    struct kd_parameter *w = c->weight;

    KD_TRY(make_copy(&c->for_forward, c,
                     kd_primitive_layout(&c->forward, dnnl_query_weights_md), w->value,
                     false));
    KD_TRY(bind(&c->forward, graph, DNNL_ARG_SRC, &c->source, x->data, DNNL_ARG_WEIGHTS,
                dnnl_query_weights_md,
                c->for_forward.data != NULL ? c->for_forward.data : w->value,
                DNNL_ARG_DST, &c->target, y->data));
    if (y->gradient == NULL) {
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

static enum kd_status forward(struct kd_layer *layer)
{
    struct conv *c = layer->state;
    const size_t version = layer->output->private->graph->version;

    if (c->for_forward.data != NULL && c->version != version) {
        const enum kd_status status = kd_primitive_run(&c->for_forward.reorder);
        if (status != KD_OK)
            return status;
        c->version = version;
    }
    return kd_primitive_run(&c->forward);
}

static enum kd_status backward(struct kd_layer *layer)
{
    enum kd_status status = KD_EBUG;
    struct conv *c = layer->state;
    float *dx;

    KD_TRY(kd_primitive_run(&c->backward_weights));
    if (c->from_backward.data != NULL)
        KD_TRY(kd_primitive_run(&c->from_backward.reorder));
    c->weight->private->gradient_written = true;
    dx = kd_gradient_begin(layer->input[0]);
    if (dx != NULL) {
        if (c->for_backward.data != NULL)
            KD_TRY(kd_primitive_run(&c->for_backward.reorder));
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
}

static bool fits(const struct kd_tensor *x, const struct kd_conv *spec)
{
    return spec->channels > 0 && spec->kernel > 0 && spec->stride > 0 &&
           x->height + 2 * spec->padding >= spec->kernel &&
           x->width + 2 * spec->padding >= spec->kernel;
}

static size_t out_size(size_t in, const struct kd_conv *spec)
{
    return (in + 2 * spec->padding - spec->kernel) / spec->stride + 1;
}

struct kd_tensor *kd_graph_conv(struct kd_graph *graph, struct kd_tensor *x,
                                const char *name, const struct kd_conv *spec)
{
    struct kd_tensor *y;
    struct kd_layer *layer;
    struct conv *c;
    enum kd_status status = KD_EBUG;

    if (!kd_graph_ready(graph, x))
        return NULL;
    if (!fits(x, spec))
        return kd_graph_failed(
            graph, kd_fail(KD_ERECIPE,
                           "%s: a %zu x %zu convolution does not fit %zu x %zu values",
                           name, spec->kernel, spec->kernel, x->height, x->width));
    y = kd_graph_new_tensor(graph, spec->channels, out_size(x->height, spec),
                            out_size(x->width, spec), true);
    layer = kd_graph_new_layer(graph, "convolution", sizeof *c);
    if (y == NULL || layer == NULL)
        return NULL;
    c = layer->state;
    layer->prepare = prepare;
    layer->forward = forward;
    layer->backward = backward;
    layer->clear = clear;
    kd_layer_connect(layer, x, NULL, y, true);
    KD_TRY(kd_tensor_desc(x, &c->source));
    KD_TRY(kd_tensor_desc(y, &c->target));
    KD_TRY(describe(c, spec, graph->training, x->wants_gradient));
    c->version = SIZE_MAX;
    c->weight = kd_graph_new_parameter(
        graph, name, "weight", 4,
        (size_t[]){spec->channels, x->channels, spec->kernel, spec->kernel},
        dnnl_memory_desc_get_size(&c->kept) / sizeof(float), true);
    if (c->weight == NULL)
        return NULL;
    kd_parameter_is_desc(c->weight, &c->kept);
    kd_graph_need_workspace(graph, kd_primitive_workspace(&c->forward));
    if (graph->training)
        kd_graph_need_workspace(graph, kd_primitive_workspace(&c->backward_weights));
    if (x->wants_gradient)
        kd_graph_need_workspace(graph, kd_primitive_workspace(&c->backward_data));
    status = KD_OK;
out:
    return status == KD_OK ? y : kd_graph_failed(graph, status);
}
