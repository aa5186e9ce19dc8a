/* SPDX-License-Identifier: MIT */
/*
 * Graphs: layers over explicit tensors, forward and backward.
 *
 * A graph is built once for a fixed batch, then run as often as one likes: all
 * memory is laid out by kd_graph_plan, none is allocated in the loop. Several
 * networks may live in one graph; a tensor may feed any number of layers; a
 * gradient stops where kd_graph_detach says.
 *
 *     struct kd_graph *g = NULL;
 *     KD_TRY(kd_graph_new(128, true, &g));
 *     struct kd_tensor *x = kd_graph_input(g, 3, 32, 32);
 *     struct kd_conv conv = {.channels = 16, .kernel = 3, .stride = 1, .padding = 1};
 *     struct kd_tensor *y = kd_graph_conv(g, x, "conv1", &conv);
 *     y = kd_graph_batch_norm(g, y, NULL, true, "bn1");
 *     y = kd_graph_average_pool(g, y);
 *     y = kd_graph_dense(g, y, "fc", 100);
 *     kd_graph_output(g, y);
 *     KD_TRY(kd_graph_plan(g));
 *     loop:
 *         kd_tensor_set(x, pixels);
 *         KD_TRY(kd_graph_forward(g));
 *         kd_tensor_get(y, logits);
 *         ... loss ...
 *         kd_tensor_set_gradient(y, gradient);
 *         KD_TRY(kd_graph_backward(g));
 *     kd_graph_free(g);
 *
 * Building calls return NULL on failure, take NULL for a tensor whose own layer
 * failed, and leave the first error to kd_graph_plan: a network is written down
 * without a check a line.
 *
 * Layout. Inputs of up to 3 channels are plain [N][C][H][W]. All else is blocked,
 * [N][ceil(C/16)][H][W][16], with zeros in the unused lanes: one layer's output is
 * the next one's input as it lies, from the first convolution to the last pooling.
 * (The 16 is an 8 on processors without AVX-512.) With AVX-512, 3x3 convolutions
 * of stride 1 are done by Winograd's minimal filtering, with a quarter of the products;
 * other convolutions run on oneDNN, the gradients of dense layers on OpenBLAS, the rest
 * is ours.
 *
 * In inference a batch norm behind a convolution that nothing else reads costs
 * nothing: it is folded into the weights, and its residual sum and ReLU are done
 * while the convolution writes. A sample's values are the same bits whatever else is
 * in its batch, and however large that is; what goes in as no finite number comes out
 * as NaN.
 * kd_tensor_get and _set speak plain [N][C][H][W] always.
 */
#ifndef KD_GRAPH_H
#define KD_GRAPH_H

#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kd_graph;

/* The value of a layer for the whole batch. Owned by its graph. */
struct kd_tensor {
    size_t batch, channels, height, width;
    bool blocked; /* false: an input, plain */
    size_t lanes; /* innermost channels: 16 or 8, or 1 where plain */
    bool wants_gradient;
    size_t size;     /* floats in data, padding included */
    float *data;     /* valid after kd_graph_plan */
    float *gradient; /* shared with others once it has been used up */
    struct kd_tensor_private *private;
};

/* A learned array, with PyTorch's name and shape. Owned by its graph. */
struct kd_parameter {
    char *name; /* "layer1.0.conv1.weight" */
    size_t rank;
    size_t shape[4];      /* as in PyTorch: [out][in][kh][kw], [out][in], [channels] */
    size_t count;         /* product of the shape */
    bool trained;         /* false: a buffer, as running_mean */
    bool is_bias_or_norm; /* where weight decay may be left out */
    size_t size;          /* floats in value, padding included */
    float *value;         /* in the layout of the layer */
    float *gradient;      /* the same; NULL for buffers and in inference */
    struct kd_parameter_private *private;
};

/* A graph for `batch` samples at a time; `training` false leaves out everything
 * that backward needs, and batch norm uses its running statistics. */
enum kd_status kd_graph_new(size_t batch, bool training,
                            struct kd_graph **graph) KD_CHECKED;
void kd_graph_free(struct kd_graph *graph); /* NULL is fine */

size_t kd_graph_batch(const struct kd_graph *graph);

/* -- building ------------------------------------------------------------- */

struct kd_tensor *kd_graph_input(struct kd_graph *graph, size_t channels, size_t height,
                                 size_t width);

/* An input that wants a gradient: what comes out of another graph, and goes on from
 * there when this one's backward pass is done (kd_tensor_copy, kd_tensor_add_gradient).
 * It is blocked, however few its channels. */
struct kd_tensor *kd_graph_gradient_input(struct kd_graph *graph, size_t channels,
                                          size_t height, size_t width);

/* A square convolution without bias; weights NAME.weight [out][in][k][k]. */
struct kd_conv {
    size_t channels; /* out */
    size_t kernel, stride, padding;
};
struct kd_tensor *kd_graph_conv(struct kd_graph *graph, struct kd_tensor *x,
                                const char *name, const struct kd_conv *conv);

/* The same plus NAME.bias [out]. */
struct kd_tensor *kd_graph_biased_conv(struct kd_graph *graph, struct kd_tensor *x,
                                       const char *name, const struct kd_conv *conv);

/* A dense layer over the channels of every place by itself (a token's, where the
 * height counts tokens); NAME.weight [out][in], NAME.bias [out]. */
struct kd_tensor *kd_graph_pointwise(struct kd_graph *graph, struct kd_tensor *x,
                                     const char *name, size_t out);

/* The same within groups of channels; weights NAME.weight [out][in / groups][k][k]. A
 * group is a single channel (a depthwise convolution, as many out as in) or a multiple
 * of 16 channels, both in and out. */
struct kd_tensor *kd_graph_grouped_conv(struct kd_graph *graph, struct kd_tensor *x,
                                        const char *name, const struct kd_conv *conv,
                                        size_t groups);

/* y = [relu]( batch_norm(x) [+ residual] ): momentum 0.1, epsilon 1e-5, biased
 * variance to normalise, unbiased for the running one, as PyTorch. Ioffe and
 * Szegedy 2015. Parameters NAME.weight, .bias, .running_mean, .running_var, all
 * [channels]. `residual` may be NULL. */
struct kd_tensor *kd_graph_batch_norm(struct kd_graph *graph, struct kd_tensor *x,
                                      struct kd_tensor *residual, bool relu,
                                      const char *name);

struct kd_tensor *kd_graph_relu(struct kd_graph *graph, struct kd_tensor *x);

/* x where it is positive, else slope * x, 0 < slope < 1 (Maas, Hannun, Ng 2013). */
struct kd_tensor *kd_graph_leaky_relu(struct kd_graph *graph, struct kd_tensor *x,
                                      double slope);

/* x * Phi(x), with the normal distribution's Phi itself (Hendrycks, Gimpel 2016). */
struct kd_tensor *kd_graph_gelu(struct kd_graph *graph, struct kd_tensor *x);

/* a + b, of one shape. */
struct kd_tensor *kd_graph_add(struct kd_graph *graph, struct kd_tensor *a,
                               struct kd_tensor *b);

/* Channels: those of a and behind them those of b; `count` from `first` on; or, with
 * the channels in rows of a group each, column by column (ShuffleNet's shuffle, Zhang
 * et al. 2018). */
struct kd_tensor *kd_graph_concat(struct kd_graph *graph, struct kd_tensor *a,
                                  struct kd_tensor *b);
struct kd_tensor *kd_graph_slice(struct kd_graph *graph, struct kd_tensor *x,
                                 size_t first, size_t count);
struct kd_tensor *kd_graph_shuffle(struct kd_graph *graph, struct kd_tensor *x,
                                   size_t groups);

/* Every place by itself: (x - mean) / sqrt(variance + 1e-6) over its channels, times
 * NAME.weight plus NAME.bias, both [channels] (Ba, Kiros, Hinton 2016; the
 * epsilon is that of transformers, Dosovitskiy et al. 2021; PyTorch's own is 1e-5). */
struct kd_tensor *kd_graph_layer_norm(struct kd_graph *graph, struct kd_tensor *x,
                                      const char *name);

/* Heads of softmax(q k' / sqrt(d)) v between all places of a sample (Vaswani et al.
 * 2017): the channels of x are those of q, k and v, a third each, and each third is
 * that of the heads, d each. */
struct kd_tensor *kd_graph_attention(struct kd_graph *graph, struct kd_tensor *x,
                                     size_t heads);

/* A learned value for every place and channel, the same for all samples, added to x:
 * NAME [1][places][channels], at first normal with deviation 0.02. */
struct kd_tensor *kd_graph_positions(struct kd_graph *graph, struct kd_tensor *x,
                                     const char *name);

/* Square windows, `stride` apart; what does not fill one is left out. The largest
 * value, or the mean, for which the padding counts as zeros (PyTorch's
 * count_include_pad). */
struct kd_pool {
    size_t size, stride, padding; /* padding: at most size / 2 */
    bool mean;
};
struct kd_tensor *kd_graph_pool(struct kd_graph *graph, struct kd_tensor *x,
                                const struct kd_pool *pool);

/* The largest of windows of `size`, as far apart. */
struct kd_tensor *kd_graph_max_pool(struct kd_graph *graph, struct kd_tensor *x,
                                    size_t size);

/* The mean over height and width: [N][C][1][1]. */
struct kd_tensor *kd_graph_average_pool(struct kd_graph *graph, struct kd_tensor *x);

/* y = W x + b over everything in a sample, in PyTorch's flattened order; weights
 * NAME.weight [out][C*H*W], NAME.bias [out]. */
struct kd_tensor *kd_graph_dense(struct kd_graph *graph, struct kd_tensor *x,
                                 const char *name, size_t out);

/* The same without b. */
struct kd_tensor *kd_graph_unbiased_dense(struct kd_graph *graph, struct kd_tensor *x,
                                          const char *name, size_t out);

/* softmax(x / temperature) over the channels of a vector, [N][C][1][1]. */
struct kd_tensor *kd_graph_softmax(struct kd_graph *graph, struct kd_tensor *x,
                                   double temperature);

/* x times the sample's number in a channel of `weights` [N][C][1][1]: what a gate lets
 * through. */
struct kd_tensor *kd_graph_weigh(struct kd_graph *graph, struct kd_tensor *x,
                                 struct kd_tensor *weights, size_t channel);

/* Attention between K voices on one sample: the batch is the samples of voice 1, then
 * those of voice 2, ..., so that sample n of voice a is row a * N / K + n. All tensors
 * are vectors. With a softmax between them,
 *
 *     scores   [N][K]  of sample n, voice a for voice b: left[a, n] . right[b, n]
 *     voices   [N][C]  sum over b of weights[a, n][b] * values[b, n]
 *     mean     [N][C]  the same for all a: the mean over b of values[b, n]
 */
struct kd_tensor *kd_graph_voice_scores(struct kd_graph *graph, struct kd_tensor *left,
                                        struct kd_tensor *right, size_t voices);
struct kd_tensor *kd_graph_voices(struct kd_graph *graph, struct kd_tensor *weights,
                                  struct kd_tensor *values);
struct kd_tensor *kd_graph_mean_voice(struct kd_graph *graph, struct kd_tensor *values,
                                      size_t voices);

/* The same values, through which no gradient goes; or `factor` times the gradient. */
struct kd_tensor *kd_graph_detach(struct kd_graph *graph, struct kd_tensor *x);
struct kd_tensor *kd_graph_scale_gradient(struct kd_graph *graph, struct kd_tensor *x,
                                          double factor);

/* Marks a tensor that will be read or given a gradient from outside. */
void kd_graph_output(struct kd_graph *graph, struct kd_tensor *tensor);

/* Lays out memory and reports the first failure of the building calls. */
enum kd_status kd_graph_plan(struct kd_graph *graph) KD_CHECKED;

/* Bytes of tensors, gradients, parameters and scratch space, after planning. */
size_t kd_graph_memory(const struct kd_graph *graph);

/* What a layer is, for people: a graph's layers are in the order of running. */
struct kd_layer_facts {
    const char *kind; /* "convolution"; the graph's */
    char name[128];   /* of its parameters, "layer1.0.conv1"; "" without any */
    size_t channels, height, width; /* of its output */
    size_t parameters;              /* learned values */
    uint64_t multiply_adds; /* of a sample, forward; of products of matrices alone */
};
size_t kd_graph_num_layers(const struct kd_graph *graph);
void kd_graph_layer(const struct kd_graph *graph, size_t index,
                    struct kd_layer_facts *facts);

/* -- running -------------------------------------------------------------- */

enum kd_status kd_graph_forward(struct kd_graph *graph) KD_CHECKED;

/* Gradients of every trained parameter with respect to the sum over all outputs
 * of (output * its gradient as set); parameters that nothing reached get zeros. */
enum kd_status kd_graph_backward(struct kd_graph *graph) KD_CHECKED;

/* Copies from and to plain [N][C][H][W]; `samples` of the batch's N, from the
 * first. kd_tensor_set is for inputs, _set_gradient for outputs. */
void kd_tensor_set(struct kd_tensor *tensor, const float *values, size_t samples);
void kd_tensor_get(const struct kd_tensor *tensor, float *values, size_t samples);
void kd_tensor_set_gradient(struct kd_tensor *tensor, const float *values);
void kd_tensor_get_gradient(const struct kd_tensor *tensor, float *values);

/* From one graph to another, between tensors of equal channels, height and width, a
 * gradient input (or a blocked one) and an output. kd_tensor_copy: all samples of
 * `from` become those of the input `to` from `first` on. kd_tensor_add_gradient, when
 * the input's graph has gone backward: the output `to`, before its own graph does, is
 * given the gradient of the samples from `first` on of `from`, added to what it was
 * given before in this pass. */
void kd_tensor_copy(struct kd_tensor *to, size_t first, const struct kd_tensor *from);
void kd_tensor_add_gradient(struct kd_tensor *to, const struct kd_tensor *from,
                            size_t first);

/* Where the time of a layer goes: its values; backward the gradient of what it read,
 * and that of its weights if that is taken apart (convolutions); copies of weights in
 * the layout of a kernel. */
enum kd_pass {
    KD_PASS_FORWARD,
    KD_PASS_BACKWARD,
    KD_PASS_WEIGHTS,
    KD_PASS_COPIES,
    KD_NUM_PASSES
};

/* Seconds that the last kd_graph_forward, and the kd_graph_backward behind it, spent on
 * a layer. */
double kd_graph_seconds(const struct kd_graph *graph, size_t index, enum kd_pass pass);

/* -- parameters ----------------------------------------------------------- */

size_t kd_graph_num_parameters(const struct kd_graph *graph);
struct kd_parameter *kd_graph_parameter(const struct kd_graph *graph, size_t index);

/* Copies between an array in the layer's layout (parameter->value, ->gradient, or
 * an optimiser's state of parameter->size floats) and plain [shape]. Lossless. */
void kd_parameter_get(const struct kd_parameter *parameter, const float *from,
                      float *plain);
void kd_parameter_set(const struct kd_parameter *parameter, const float *plain,
                      float *to);

/* The Euclidean norm of all gradients together, as it was: where it is more than `most`
 * and finite they are then scaled down to that (Pascanu, Mikolov, Bengio 2013). */
double kd_graph_clip(struct kd_graph *graph, double most);

/* The first parameter or buffer with a value that is no finite number, or NULL. */
const struct kd_parameter *kd_graph_not_finite(const struct kd_graph *graph);

/* Says that values were written, so that what is derived from them (copies in
 * another layout) is made again before the next run. */
void kd_graph_parameters_changed(struct kd_graph *graph);

/* Initial values, a function of seed and each parameter's name: convolutions
 * normal with deviation sqrt(2 / (out * k * k)) (He et al. 2015), dense layers
 * uniform within 1/sqrt(in), batch norm 1 and 0. */
enum kd_status kd_graph_initialise(struct kd_graph *graph, uint64_t seed) KD_CHECKED;

/* Copies all parameters and buffers by name, between graphs of one architecture. */
enum kd_status kd_graph_copy_parameters(struct kd_graph *to,
                                        const struct kd_graph *from) KD_CHECKED;

#endif
