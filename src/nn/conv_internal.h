/* SPDX-License-Identifier: MIT */
/* A convolution: its layouts, the kernels that do it, and the choice of them. */
#ifndef KD_CONV_INTERNAL_H
#define KD_CONV_INTERNAL_H

#include "nn/graph_internal.h"
#include "nn/winograd_internal.h"

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

    bool winograd; /* conv_winograd.c does all passes, ... */
    struct winograd there, back;
    dnnl_memory_desc_t blocks; /* ... with weights in this layout */
    float *points, *space; /* the weights at the points, and work space: shared, ... */
    float *kept_points;    /* ... but in inference the points */

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

/* -- conv_winograd.c ---------------------------------------------------- */

/* Whether a layer is one of those; after source and target are known. */
bool kd_conv_is_winograd(const struct kd_layer *layer);

enum kd_status kd_conv_winograd_describe(struct kd_layer *layer) KD_CHECKED;
enum kd_status kd_conv_winograd_prepare(struct kd_layer *layer) KD_CHECKED;

/* Inference: brings the weights to the points, after they have changed. */
void kd_conv_winograd_points(const struct kd_layer *layer);
void kd_conv_winograd_forward(struct kd_layer *layer);
void kd_conv_winograd_backward_weights(const struct kd_layer *layer);
void kd_conv_winograd_backward_values(struct kd_layer *layer);

/* -- conv_kernels.c ----------------------------------------------------- */

/* Describes the kernels of a layer, and the layout in which its weights are kept. */
enum kd_status kd_conv_describe(struct kd_layer *layer) KD_CHECKED;

#endif
