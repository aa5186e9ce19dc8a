/* SPDX-License-Identifier: MIT */
/* Convolutions that winograd.c does, in place of oneDNN. */
#include "nn/conv_internal.h"

#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/thread.h"

/* Planes cut into tiles that reach beyond them waste products: at a half of them, what
 * is left is about what the direct kernel needs. */
static bool fills_tiles(const dnnl_memory_desc_t *plane)
{
    const dnnl_dim_t down = (plane->dims[2] + 3) / 4, across = (plane->dims[3] + 3) / 4;

    return plane->dims[2] * plane->dims[3] > 8 * down * across;
}

bool kd_conv_is_winograd(const struct kd_layer *layer)
{
    const struct conv *c = layer->state;

    return layer->input[0]->lanes == 16 && c->groups == 1 && c->spec.kernel == 3 &&
           c->spec.stride == 1 && c->spec.padding == 1 && fills_tiles(&c->target);
}

enum kd_status kd_conv_winograd_describe(struct kd_layer *layer)
{
    struct conv *c = layer->state;
    struct kd_graph *graph = layer->output->private->graph;
    const size_t in = (size_t)c->source.dims[1], out = (size_t)c->target.dims[1];
    const dnnl_dims_t dims = {(dnnl_dim_t)out, (dnnl_dim_t)in, 3, 3};
    size_t floats;

    c->winograd = true;
    c->there = (struct winograd){
        graph->batch,         in,           out, layer->output->height,
        layer->output->width, kd_threads(),
    };
    c->back = c->there;
    c->back.in = out;
    c->back.out = in;
    floats = kd_winograd_points(&c->there) + kd_winograd_space(&c->there);
    kd_graph_need_workspace(graph, floats * sizeof(float));
    return kd_onednn_desc(&c->blocks, 4, dims, dnnl_OIhw16i16o);
}

/* In training weights change from step to step: where the points lie is shared. */
enum kd_status kd_conv_winograd_prepare(struct kd_layer *layer)
{
    struct conv *c = layer->state;
    struct kd_graph *graph = layer->output->private->graph;
    const size_t size = kd_winograd_points(&c->there);
    enum kd_status status = KD_EBUG;

    c->space = graph->workspace;
    if (graph->training) {
        c->points = c->space;
        c->space += size;
        return KD_OK;
    }
    KD_TRY(KD_NEW(c->kept_points, size));
    c->points = c->kept_points;
    graph->memory += size * sizeof *c->points;
    status = KD_OK;
out:
    return status;
}

void kd_conv_winograd_points(const struct kd_layer *layer)
{
    const struct conv *c = layer->state;
    const float *weights = layer->norm != NULL ? c->folded : c->weight->value;

    kd_winograd_weights(&c->there,
                        c->for_forward.data != NULL ? c->for_forward.data : weights,
                        false, c->points);
}

void kd_conv_winograd_forward(struct kd_layer *layer)
{
    const struct conv *c = layer->state;
    const struct kd_layer *norm = layer->norm;
    const struct winograd_end end = {
        .bias = norm != NULL      ? c->shift
                : c->bias != NULL ? c->bias->value
                                  : NULL,
        .sum = norm != NULL && layer->num_inputs > 1,
        .relu = norm != NULL && kd_batch_norm_has_relu(norm),
    };

    if (layer->output->private->graph->training) {
        double started = kd_seconds();
        kd_conv_winograd_points(layer);
        kd_layer_lap(layer, KD_PASS_COPIES, &started);
    }
    kd_winograd_values(&c->there, layer->input[0]->data, c->points, &end,
                       layer->output->data, c->space);
}

/* The sums of dy by channel: of a plane in float, of planes in double. */
static void bias_gradient(const struct kd_layer *layer)
{
    const struct conv *c = layer->state;
    const struct kd_tensor *y = layer->output;
    const size_t plane = y->height * y->width, lanes = y->lanes,
                 blocks = kd_tensor_blocks(y);

#pragma omp parallel for
    for (size_t i = 0; i < blocks * lanes; i++) {
        const float *from = y->gradient + i / lanes * plane * lanes + i % lanes;
        double sum = 0;
        for (size_t n = 0; n < y->batch; n++, from += blocks * plane * lanes) {
            float part = 0;
            for (size_t k = 0; k < plane; k++)
                part += from[k * lanes];
            sum += part;
        }
        c->bias->gradient[i] = (float)sum;
    }
}

void kd_conv_winograd_backward_weights(const struct kd_layer *layer)
{
    const struct conv *c = layer->state;

    kd_winograd_gradient(&c->there, layer->input[0]->data, layer->output->gradient,
                         c->weight->gradient, c->space);
    if (c->bias != NULL)
        bias_gradient(layer);
}

void kd_conv_winograd_backward_values(struct kd_layer *layer)
{
    const struct conv *c = layer->state;
    struct kd_tensor *x = layer->input[0];
    const struct winograd_end end = {.sum = x->private->gradient_written};
    double started = kd_seconds();

    if (!x->wants_gradient)
        return;
    kd_winograd_weights(&c->back, c->weight->value, true, c->points);
    kd_layer_lap(layer, KD_PASS_COPIES, &started);
    kd_winograd_values(&c->back, layer->output->gradient, c->points, &end, x->gradient,
                       c->space);
    x->private->gradient_written = true;
}
