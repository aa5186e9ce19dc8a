/* SPDX-License-Identifier: MIT */
/*
 * Which kernels do a convolution: Winograd's of our own where the shape is theirs, else
 * the direct ones of oneDNN.
 *
 * The choice is a function of the shape and the processor alone. One that was timed on
 * the machine could fall differently in the next run, and with it the rounding of every
 * value; so could the library's own, by the size of the batch or the number of threads.
 */
#include "nn/conv_internal.h"

#include "kd/log.h"

#include <stdatomic.h>
#include <string.h>

/* The library's loops for every machine are a thousand times slower. */
static void warn_if_slow(const struct kd_primitive *p)
{
    static atomic_bool warned;
    const char *kernel = kd_primitive_kernel(p);

    if (strncmp(kernel, "ref", 3) == 0 && !atomic_exchange(&warned, true))
        kd_log(KD_LOG_WARNING,
               "a convolution runs on slow reference kernels (%s): there is no other "
               "for its shape on this processor",
               kernel);
}

/* Describes one pass by the first direct kernel of the library's list. */
static enum kd_status describe_direct(struct kd_primitive *p,
                                      dnnl_convolution_desc_t *op,
                                      const struct kd_wish *wish)
{
    enum kd_status status = KD_EBUG;
    bool supported = false;

    KD_TRY(kd_primitive_describe(p, op, wish, &supported));
    if (!supported) {
        status = kd_fail(KD_EBUG, "oneDNN has no kernel for this convolution");
        goto out;
    }
    status = KD_OK;
out:
    return status;
}

/* The weights' dimensions, [out][in][k][k] or [groups][out][in][k][k] with padded
 * channels; returns the rank. */
static int weight_dims(const struct conv *c, dnnl_dims_t dims)
{
    const dnnl_dim_t k = (dnnl_dim_t)c->spec.kernel;
    const dnnl_dim_t out = c->target.dims[1], in = c->source.dims[1];
    /* A depthwise convolution has a group a channel, padding included. */
    const dnnl_dim_t groups = kd_conv_is_depthwise(c) ? out : (dnnl_dim_t)c->groups;
    int rank = 0;

    if (groups > 1)
        dims[rank++] = groups;
    dims[rank++] = groups > 1 ? out / groups : out;
    dims[rank++] = groups > 1 ? in / groups : in;
    dims[rank++] = k;
    dims[rank++] = k;
    return rank;
}

struct geometry {
    dnnl_dims_t strides, pads;
    dnnl_memory_desc_t any; /* lets each kernel choose its layout of weights */
};

static enum kd_status describe_forward(struct kd_layer *layer, const struct geometry *g)
{
    struct conv *c = layer->state;
    const bool training = layer->output->private->graph->training;
    const struct kd_wish wish = {.sum = layer->norm != NULL && layer->num_inputs > 1,
                                 .relu = layer->norm != NULL &&
                                         kd_batch_norm_has_relu(layer->norm)};
    dnnl_convolution_desc_t op;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_onednn_status(
        dnnl_convolution_forward_desc_init(
            &op, training ? dnnl_forward_training : dnnl_forward_inference,
            dnnl_convolution_direct, &c->source, &g->any,
            layer->norm != NULL || c->bias != NULL ? &c->bias_desc : NULL, &c->target,
            g->strides, g->pads, g->pads),
        "convolution"));
    KD_TRY(describe_direct(&c->forward, &op, &wish));
    warn_if_slow(&c->forward);
    kd_graph_need_workspace(layer->output->private->graph,
                            kd_primitive_workspace(&c->forward));
    status = KD_OK;
out:
    return status;
}

static enum kd_status describe_backward(struct kd_layer *layer,
                                        const struct geometry *g)
{
    struct conv *c = layer->state;
    struct kd_graph *graph = layer->output->private->graph;
    const struct kd_wish wish = {.hint = &c->forward};
    const dnnl_alg_kind_t direct = dnnl_convolution_direct;
    dnnl_convolution_desc_t op;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_onednn_status(dnnl_convolution_backward_weights_desc_init(
                                &op, direct, &c->source, &g->any,
                                c->bias != NULL ? &c->bias_desc : NULL, &c->target,
                                g->strides, g->pads, g->pads),
                            "convolution, gradient of weights"));
    KD_TRY(describe_direct(&c->backward_weights, &op, &wish));
    kd_graph_need_workspace(graph, kd_primitive_workspace(&c->backward_weights));
    if (layer->input[0]->wants_gradient) {
        KD_TRY(kd_onednn_status(dnnl_convolution_backward_data_desc_init(
                                    &op, direct, &c->source, &g->any, &c->target,
                                    g->strides, g->pads, g->pads),
                                "convolution, gradient of values"));
        KD_TRY(describe_direct(&c->backward_data, &op, &wish));
        warn_if_slow(&c->backward_data);
        kd_graph_need_workspace(graph, kd_primitive_workspace(&c->backward_data));
    }
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_conv_describe(struct kd_layer *layer)
{
    struct conv *c = layer->state;
    const bool training = layer->output->private->graph->training;
    const dnnl_dim_t stride = (dnnl_dim_t)c->spec.stride,
                     padding = (dnnl_dim_t)c->spec.padding;
    struct geometry g = {.strides = {stride, stride}, .pads = {padding, padding}};
    enum kd_status status = KD_EBUG;
    dnnl_dims_t dims;
    int rank;

    KD_TRY(kd_tensor_desc(layer->input[0], &c->source));
    KD_TRY(kd_tensor_desc(layer->output, &c->target));
    KD_TRY(kd_onednn_desc(&c->bias_desc, 1, &c->target.dims[1], dnnl_x));
    rank = weight_dims(c, dims);
    KD_TRY(kd_onednn_desc(&g.any, rank, dims, dnnl_format_tag_any));
    if (kd_conv_is_winograd(layer)) {
        KD_TRY(kd_conv_winograd_describe(layer));
        c->kept = c->blocks;
    } else {
        KD_TRY(describe_forward(layer, &g));
        if (training)
            KD_TRY(describe_backward(layer, &g));
        c->kept = *kd_primitive_layout(&c->forward, dnnl_query_weights_md);
    }
    if (!training || c->kept.format_kind != dnnl_blocked)
        KD_TRY(
            kd_onednn_desc(&c->kept, rank, dims, rank == 5 ? dnnl_goihw : dnnl_oihw));
    c->weight->size = dnnl_memory_desc_get_size(&c->kept) / sizeof(float);
    kd_parameter_is_desc(c->weight, &c->kept);
    c->own_weights = training && !c->winograd && kd_depthwise_is_ours(c);
    if (training && !c->winograd && !c->own_weights)
        warn_if_slow(&c->backward_weights);
    status = KD_OK;
out:
    return status;
}
