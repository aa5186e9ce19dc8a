/* SPDX-License-Identifier: MIT */
/* Graphs: building them, and running their layers forward and backward. */
#include "nn/graph_internal.h"

#include "kd/memory.h"
#include "kd/progress.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kd_status kd_graph_new(size_t batch, bool training, struct kd_graph **graph)
{
    struct kd_graph *g = NULL;

    if (batch == 0)
        return kd_fail(KD_EUSAGE, "a batch must have at least one sample");
    if (KD_NEW(g, 1) != KD_OK)
        return KD_EMEMORY;
    g->batch = batch;
    g->training = training;
    g->lanes = kd_onednn_lanes();
    g->finite_version = SIZE_MAX;
    *graph = g;
    return KD_OK;
}

static void free_layer(struct kd_layer *layer)
{
    if (layer->clear != NULL)
        layer->clear(layer);
    free(layer->state);
    free(layer);
}

static void free_parameter(struct kd_parameter *p)
{
    free(p->name);
    free(p->value);
    free(p->gradient);
    free(p->private);
    free(p);
}

void kd_graph_free(struct kd_graph *graph)
{
    if (graph == NULL)
        return;
    for (size_t i = 0; i < graph->num_layers; i++)
        free_layer(graph->layers[i]);
    for (size_t i = 0; i < graph->num_tensors; i++) {
        free(graph->tensors[i]->private);
        free(graph->tensors[i]);
    }
    for (size_t i = 0; i < graph->num_parameters; i++)
        free_parameter(graph->parameters[i]);
    for (size_t i = 0; i < graph->num_buffers; i++)
        free(graph->buffers[i]);
    for (size_t i = 0; i < KD_MAX_INPUTS; i++)
        free(graph->scratch[i]);
    free(graph->workspace);
    free(graph->tensors);
    free(graph->layers);
    free(graph->parameters);
    free(graph->buffers);
    free(graph->message);
    free(graph);
}

size_t kd_graph_batch(const struct kd_graph *graph)
{
    return graph->batch;
}

size_t kd_graph_memory(const struct kd_graph *graph)
{
    return graph->memory;
}

void *kd_graph_failed(struct kd_graph *graph, enum kd_status status)
{
    if (graph->failed == KD_OK) {
        graph->failed = status;
        graph->message = kd_copy_string(kd_error());
    }
    return NULL;
}

bool kd_graph_ready(const struct kd_graph *graph, const struct kd_tensor *x)
{
    assert(!graph->planned);
    return graph->failed == KD_OK && x != NULL;
}

void kd_graph_parameters_changed(struct kd_graph *graph)
{
    graph->version++;
}

void kd_graph_need_workspace(struct kd_graph *graph, size_t bytes)
{
    if (bytes > graph->workspace_bytes)
        graph->workspace_bytes = bytes;
}

struct kd_tensor *kd_graph_new_tensor(struct kd_graph *graph, size_t channels,
                                      size_t height, size_t width, bool blocked)
{
    struct kd_tensor *t = NULL;
    const size_t lanes = blocked ? graph->lanes : 1;
    size_t size = 0;

    if (channels == 0 || height == 0 || width == 0 || channels > SIZE_MAX - lanes ||
        !kd_multiply(graph->batch, (channels + lanes - 1) / lanes * lanes, &size) ||
        !kd_multiply(size, height, &size) || !kd_multiply(size, width, &size))
        return kd_graph_failed(graph, kd_fail(KD_EDATA,
                                              "a layer of %zu x %zu x %zu "
                                              "is not possible",
                                              channels, height, width));
    if (kd_grow(&graph->tensors, &graph->cap_tensors, graph->num_tensors + 1,
                sizeof *graph->tensors) != KD_OK ||
        KD_NEW(t, 1) != KD_OK || KD_NEW(t->private, 1) != KD_OK) {
        free(t);
        return kd_graph_failed(graph, KD_EMEMORY);
    }
    t->batch = graph->batch;
    t->channels = channels;
    t->height = height;
    t->width = width;
    t->blocked = blocked;
    t->lanes = lanes;
    t->size = size;
    t->private->graph = graph;
    graph->tensors[graph->num_tensors++] = t;
    return t;
}

struct kd_layer *kd_graph_new_layer(struct kd_graph *graph, const char *kind,
                                    size_t state_size)
{
    struct kd_layer *layer = NULL;

    if (kd_grow(&graph->layers, &graph->cap_layers, graph->num_layers + 1,
                sizeof *graph->layers) != KD_OK ||
        KD_NEW(layer, 1) != KD_OK)
        return kd_graph_failed(graph, KD_EMEMORY);
    layer->kind = kind;
    graph->layers[graph->num_layers++] = layer;
    if (state_size > 0) {
        layer->state = kd_alloc(1, state_size);
        if (layer->state == NULL)
            return kd_graph_failed(graph, KD_EMEMORY);
    }
    return layer;
}

/* Joins a layer to its tensors; its output wants a gradient if anything before it
 * has something to learn. */
void kd_layer_connect(struct kd_layer *layer, struct kd_tensor *x,
                      struct kd_tensor *second, struct kd_tensor *output, bool learns)
{
    layer->input[0] = x;
    layer->input[1] = second;
    layer->num_inputs = second != NULL ? 2 : 1;
    layer->output = output;
    output->private->producer = layer;
    output->wants_gradient = learns;
    for (size_t i = 0; i < layer->num_inputs; i++) {
        layer->input[i]->private->consumers++;
        if (layer->input[i]->wants_gradient)
            output->wants_gradient = true;
    }
    if (!output->private->graph->training)
        output->wants_gradient = false;
}

struct kd_tensor *kd_graph_input(struct kd_graph *graph, size_t channels, size_t height,
                                 size_t width)
{
    if (graph->failed != KD_OK)
        return NULL;
    /* oneDNN's first convolutions read up to 3 plain channels. */
    return kd_graph_new_tensor(graph, channels, height, width, channels > 3);
}

struct kd_tensor *kd_graph_gradient_input(struct kd_graph *graph, size_t channels,
                                          size_t height, size_t width)
{
    struct kd_tensor *t = NULL;

    if (graph->failed == KD_OK)
        t = kd_graph_new_tensor(graph, channels, height, width, true);
    if (t != NULL)
        t->wants_gradient = graph->training;
    return t;
}

void kd_graph_output(struct kd_graph *graph, struct kd_tensor *tensor)
{
    if (kd_graph_ready(graph, tensor))
        tensor->private->is_output = true;
}

void kd_layer_lap(struct kd_layer *layer, enum kd_pass pass, double *started)
{
    const double now = kd_seconds();

    layer->seconds[pass] += now - *started;
    *started = now;
}

double kd_graph_seconds(const struct kd_graph *graph, size_t index, enum kd_pass pass)
{
    return graph->layers[index]->seconds[pass];
}

static double booked(const struct kd_layer *layer)
{
    double sum = 0;

    for (int i = 0; i < KD_NUM_PASSES; i++)
        sum += layer->seconds[i];
    return sum;
}

/* Runs a layer, and books on `pass` what it does not book itself. */
static enum kd_status run_layer(struct kd_layer *layer,
                                enum kd_status (*run)(struct kd_layer *layer),
                                enum kd_pass pass)
{
    const double started = kd_seconds() - booked(layer);
    const enum kd_status status = run(layer);

    layer->seconds[pass] += kd_seconds() - started - booked(layer);
    return status;
}

static enum kd_status run_forward(struct kd_layer *layer)
{
    memset(layer->seconds, 0, sizeof layer->seconds);
    const enum kd_status status = run_layer(layer, layer->forward, KD_PASS_FORWARD);

    if (status != KD_OK)
        kd_error_prefix("%s: ", layer->kind);
    return status;
}

enum kd_status kd_graph_forward(struct kd_graph *graph)
{
    assert(graph->planned);
    for (size_t i = 0; i < graph->num_layers; i++) {
        const enum kd_status status =
            graph->layers[i]->absorbed ? KD_OK : run_forward(graph->layers[i]);
        if (status != KD_OK)
            return status;
    }
    if (!graph->training)
        kd_graph_spoil(graph);
    return KD_OK;
}

/* Parameters that no gradient reached in this pass get zeros. */
static void clear_untouched(struct kd_graph *graph)
{
    for (size_t i = 0; i < graph->num_parameters; i++) {
        struct kd_parameter *p = graph->parameters[i];
        if (p->gradient != NULL && !p->private->gradient_written)
            memset(p->gradient, 0, p->size * sizeof *p->gradient);
        p->private->missed = !p->private->gradient_written;
        p->private->gradient_written = false;
    }
    for (size_t i = 0; i < graph->num_tensors; i++)
        graph->tensors[i]->private->gradient_written = false;
}

enum kd_status kd_graph_backward(struct kd_graph *graph)
{
    assert(graph->planned && graph->training);
    for (size_t i = graph->num_layers; i-- > 0;) {
        struct kd_layer *layer = graph->layers[i];
        if (!layer->output->private->gradient_written || layer->backward == NULL)
            continue;
        graph->scratch_used = 0;
        const enum kd_status status =
            run_layer(layer, layer->backward, KD_PASS_BACKWARD);
        if (status != KD_OK) {
            kd_error_prefix("%s, backward: ", layer->kind);
            return status;
        }
    }
    clear_untouched(graph);
    return KD_OK;
}

float *kd_gradient_begin(struct kd_tensor *tensor)
{
    struct kd_graph *graph = tensor->private->graph;

    if (!tensor->wants_gradient)
        return NULL;
    if (!tensor->private->gradient_written)
        return tensor->gradient;
    assert(graph->scratch_used < KD_MAX_INPUTS);
    return graph->scratch[graph->scratch_used++];
}

void kd_gradient_end(struct kd_tensor *tensor, const float *written)
{
    if (written == NULL)
        return;
    if (written != tensor->gradient)
        kd_add(tensor->gradient, written, tensor->size);
    tensor->private->gradient_written = true;
}
