/* SPDX-License-Identifier: MIT */
/* Layer norm over the channels of every place. */
#include "nn/graph_internal.h"

#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

#define KD_WIDTH 16
#include "nn/layer_norm_kernels_internal.h"
#undef KD_WIDTH
#define KD_WIDTH 8
#include "nn/layer_norm_kernels_internal.h"

struct layer_norm {
    struct kd_parameter *weight, *bias;
    const struct layer_norm_kernels *kernels;
    size_t places, lanes; /* of a sample, of a block */
    struct places shared;
    float *rows;    /* [3][blocks][lanes] shared's weight, bias and used */
    float *mean;    /* [batch][places] of the last forward pass */
    float *inverse; /* the same, 1 / sqrt(variance + epsilon) */
    float *sums;    /* [batch][2][blocks][lanes] of a sample's gradients */
};

static enum kd_status forward(struct kd_layer *layer)
{
    const struct layer_norm *s = layer->state;
    const struct kd_tensor *x = layer->input[0], *y = layer->output;
    const size_t size = y->size / y->batch, bytes = s->weight->count * sizeof(float);

    memcpy(s->rows, s->weight->value, bytes);
    memcpy(s->rows + s->shared.blocks * s->lanes, s->bias->value, bytes);
#pragma omp parallel for
    for (size_t n = 0; n < x->batch; n++)
        for (size_t i = 0; i < s->places; i++) {
            const size_t at = n * s->places + i, first = n * size + i * s->lanes;
            s->kernels->normalise(&s->shared, x->data + first, &s->mean[at],
                                  &s->inverse[at], y->data + first);
        }
    return KD_OK;
}

static void reduce(const struct layer_norm *s, size_t batch)
{
    const size_t channels = s->weight->count, lanes = s->shared.blocks * s->lanes;

    for (size_t c = 0; c < channels; c++) {
        double weight = 0, bias = 0;
        for (size_t n = 0; n < batch; n++) {
            weight += s->sums[n * 2 * lanes + c];
            bias += s->sums[n * 2 * lanes + lanes + c];
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
    const size_t size = x->size / x->batch, lanes = s->shared.blocks * s->lanes;
    float *dx = kd_gradient_begin(x);

#pragma omp parallel for
    for (size_t n = 0; n < x->batch; n++) {
        float *sums = s->sums + n * 2 * lanes;
        memset(sums, 0, 2 * lanes * sizeof *sums);
        for (size_t i = 0; i < s->places; i++) {
            const size_t at = n * s->places + i, first = n * size + i * s->lanes;
            s->kernels->gather(&s->shared, x->data + first, dy + first, s->mean[at],
                               s->inverse[at], sums, sums + lanes);
            if (dx != NULL)
                s->kernels->spread(&s->shared, x->data + first, dy + first, s->mean[at],
                                   s->inverse[at], dx + first);
        }
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
    free(s->rows);
    free(s->mean);
    free(s->inverse);
    free(s->sums);
}

static enum kd_status make_state(struct kd_graph *graph, struct layer_norm *s,
                                 const char *name, const struct kd_tensor *x)
{
    enum kd_status status = KD_EBUG;
    const size_t channels = x->channels, blocks = kd_tensor_blocks(x),
                 lanes = blocks * x->lanes;

    s->kernels = x->lanes == 16 ? &layer_norm_kernels_16 : &layer_norm_kernels_8;
    s->lanes = x->lanes;
    s->places = x->height * x->width;
    s->weight =
        kd_graph_new_parameter(graph, name, "weight", 1, &channels, channels, true);
    s->bias = kd_graph_new_parameter(graph, name, "bias", 1, &channels, channels, true);
    if (graph->failed != KD_OK)
        return graph->failed;
    KD_TRY(KD_NEW(s->rows, 3 * lanes));
    KD_TRY(KD_NEW(s->mean, x->batch * s->places));
    KD_TRY(KD_NEW(s->inverse, x->batch * s->places));
    KD_TRY(KD_NEW(s->sums, x->batch * 2 * lanes));
    for (size_t c = 0; c < channels; c++)
        s->rows[2 * lanes + c] = 1;
    s->shared = (struct places){.channels = channels,
                                .blocks = blocks,
                                .apart = s->places * x->lanes,
                                .weight = s->rows,
                                .bias = s->rows + lanes,
                                .used = s->rows + 2 * lanes};
    graph->memory += (2 * x->batch * (s->places + lanes) + 3 * lanes) * sizeof(float);
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
    if (!x->blocked)
        return kd_graph_failed(graph,
                               kd_fail(KD_EBUG, "%s: layer norm of pixels", name));
    y = kd_graph_new_tensor(graph, x->channels, x->height, x->width, true);
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
