/* SPDX-License-Identifier: MIT */
/* A convolution: its layouts, the kernels that do it, and the choice of them. */
#ifndef KD_CONV_INTERNAL_H
#define KD_CONV_INTERNAL_H

#include "nn/graph_internal.h"

struct weights_copy {
    struct kd_primitive reorder; /* between the kept layout and this one */
    float *data;                 /* NULL: the kept layout serves */
};

struct conv {
    struct kd_conv spec;
    size_t groups;
    struct kd_parameter *weight, *bias;                 /* bias: or NULL */
    dnnl_memory_desc_t source, kept, target, bias_desc; /* layouts */
    struct kd_primitive forward, backward_data, backward_weights;
    struct weights_copy for_forward, for_backward, from_backward;
    bool own_weights; /* depthwise.c computes the weights' gradient */
    size_t version;   /* of the parameters that for_forward was made from */

    /* In inference, with a batch norm folded in: */
    float *folded; /* the weights times its scale, as kept */
    float *shift;  /* [out, padded] */
    float *scale;  /* [out, padded] */
};

/* Each channel by itself. */
bool kd_conv_is_depthwise(const struct conv *c);

/* Whether the weights' gradient is better computed here than by oneDNN; after the
 * kernels and the kept layout are known. */
bool kd_depthwise_is_ours(const struct conv *c);
void kd_depthwise_backward_weights(const struct kd_layer *layer);

/* Describes the kernels of a layer, and the layout in which its weights are kept. */
enum kd_status kd_conv_describe(struct kd_layer *layer) KD_CHECKED;

#endif
