/* SPDX-License-Identifier: MIT */
/*
 * Inside a graph: what a layer is made of. A layer is one file of this folder: its
 * building call makes a struct kd_layer, whose functions the graph calls in order.
 */
#ifndef KD_GRAPH_INTERNAL_H
#define KD_GRAPH_INTERNAL_H

#include "kd/graph.h"
#include "nn/onednn_internal.h"

#define KD_MAX_INPUTS 2

/* Whether a layer can do the batch norm behind it, and a residual sum with it: then
 * input[1] is what is added, and lies where the output is to be. */
enum kd_absorbs { KD_ABSORBS_NOTHING, KD_ABSORBS_NORM, KD_ABSORBS_RESIDUAL };

struct kd_layer {
    const char *kind; /* "conv": for messages */
    struct kd_tensor *input[KD_MAX_INPUTS];
    size_t num_inputs;
    struct kd_tensor *output;
    void *state; /* the layer's own, freed by `clear` and free() */

    /* Inference: the batch norm that this layer does as well, and whether another
     * layer does this one. */
    struct kd_layer *norm;
    bool absorbed;
    enum kd_absorbs absorbs;

    double seconds[KD_NUM_PASSES]; /* of the last run */

    /* When all layers are known, before any memory is laid out. */
    enum kd_status (*describe)(struct kd_layer *layer);
    /* After tensors and parameters have their memory, before the first run. */
    enum kd_status (*prepare)(struct kd_layer *layer);
    enum kd_status (*forward)(struct kd_layer *layer);
    /* Reads output->gradient (and may overwrite it); writes the inputs' through
     * kd_gradient_begin and _end, and the parameters'. */
    enum kd_status (*backward)(struct kd_layer *layer);
    void (*clear)(struct kd_layer *layer);
};

struct kd_tensor_private {
    struct kd_graph *graph;
    struct kd_layer *producer; /* NULL for inputs */
    bool is_output;
    struct kd_tensor *alias; /* whose data it shares (detach), or NULL */
    size_t consumers;        /* layers that read it; used up by planning */
    bool gradient_written;   /* in this backward pass */
};

struct kd_parameter_private {
    struct kd_graph *graph;
    const struct kd_layer *layer; /* whose it is: the last one when it was made */
    bool gradient_written;        /* in this backward pass */
    bool missed;                  /* by the last one: optimisers leave it as it is */
    /* How plain and layer's layout correspond; one of the two: */
    dnnl_memory_desc_t desc; /* convolution weights, if desc.ndims > 0 */
    size_t in_channels, in_plane,
        in_lanes;  /* dense over a blocked tensor: [out][cb][plane][lanes] */
    bool by_place; /* plain is [plane][C] of those, instead of [out][C][plane] */
};

struct kd_graph {
    size_t batch;
    bool training;
    bool planned;
    size_t lanes;   /* of blocked tensors: what the processor's kernels read */
    size_t version; /* grows when parameters change */
    bool finite;    /* all parameters are, at finite_version */
    size_t finite_version;
    enum kd_status failed; /* of a building call; the message is below */
    char *message;

    struct kd_tensor **tensors;
    size_t num_tensors, cap_tensors;
    struct kd_layer **layers; /* in the order of building: inputs before users */
    size_t num_layers, cap_layers;
    struct kd_parameter **parameters;
    size_t num_parameters, cap_parameters;

    float *scratch[KD_MAX_INPUTS]; /* a tensor's second gradient, before it is added */
    size_t scratch_used;           /* of them, by the layer that is running */
    size_t scratch_size;
    void *workspace; /* shared by all oneDNN primitives */
    size_t workspace_bytes;

    float **buffers; /* [num_buffers] planned memory behind tensors */
    size_t num_buffers, cap_buffers;
    size_t memory; /* bytes in all */
};

/* A new tensor of the graph; NULL (and the graph failed) on bad sizes. */
struct kd_tensor *kd_graph_new_tensor(struct kd_graph *graph, size_t channels,
                                      size_t height, size_t width, bool blocked);

/* A new layer with its `state` of state_size zeroed bytes; NULL on failure. */
struct kd_layer *kd_graph_new_layer(struct kd_graph *graph, const char *kind,
                                    size_t state_size);

/* Joins a layer to its inputs (`second` may be NULL) and output. `learns`: it has
 * trained parameters, so its output wants a gradient even if its inputs do not. */
void kd_layer_connect(struct kd_layer *layer, struct kd_tensor *x,
                      struct kd_tensor *second, struct kd_tensor *output, bool learns);

/* A new parameter LAYER.NAME (or NAME alone, if `layer` is NULL); its memory (of
 * `size` floats) comes with planning. */
struct kd_parameter *kd_graph_new_parameter(struct kd_graph *graph, const char *layer,
                                            const char *name, size_t rank,
                                            const size_t *shape, size_t size,
                                            bool trained);

/* Remembers a failure; returns NULL for `return kd_graph_failed(...)`. The message is
 * the one that kd_fail set. */
void *kd_graph_failed(struct kd_graph *graph, enum kd_status status);

/* Whether building may go on: nothing has failed and no input is NULL. */
bool kd_graph_ready(const struct kd_graph *graph, const struct kd_tensor *x);

/* Asks for at least so much shared space. */
void kd_graph_need_workspace(struct kd_graph *graph, size_t bytes);

/* Where to write a tensor's gradient: the tensor's own if it is the first in this
 * pass, else scratch space, which _end adds to it. NULL if nothing wants it. */
float *kd_gradient_begin(struct kd_tensor *tensor);
void kd_gradient_end(struct kd_tensor *tensor, const float *written);

/* Batch norm in inference: y = [relu](x * scale + shift), by [channels]. */
bool kd_layer_is_batch_norm(const struct kd_layer *layer);
bool kd_batch_norm_has_relu(const struct kd_layer *norm);
void kd_batch_norm_affine(const struct kd_layer *norm, float *scale, float *shift);

/* Inference: gives batch norms to the layers before them, where nothing else reads
 * what lies between. */
void kd_graph_absorb(struct kd_graph *graph);

/* After a forward pass: NaN for all outputs of a sample that went in with what is no
 * finite number, or of all samples where a parameter is none. */
void kd_graph_spoil(struct kd_graph *graph);

/* Books the seconds since *started on a part of the layer's run, and starts anew. What
 * a layer does not book itself is its pass forward or back. */
void kd_layer_lap(struct kd_layer *layer, enum kd_pass pass, double *started);

/* to[i] += from[i], on the compute threads. */
void kd_add(float *to, const float *from, size_t n);

/* ceil(channels / lanes) */
size_t kd_tensor_blocks(const struct kd_tensor *tensor);

/* Parameters in the layouts that are not plain. */
void kd_parameter_is_desc(struct kd_parameter *p, const dnnl_memory_desc_t *desc);
void kd_parameter_is_blocked_dense(struct kd_parameter *p, const struct kd_tensor *x);
void kd_parameter_is_places(struct kd_parameter *p, const struct kd_tensor *x);

/* oneDNN's description of a tensor's layout. */
enum kd_status kd_tensor_desc(const struct kd_tensor *tensor,
                              dnnl_memory_desc_t *desc) KD_CHECKED;

#endif
