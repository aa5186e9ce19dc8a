/* SPDX-License-Identifier: MIT */
/* What oneDNN has only a slow kernel for: the weights' gradient of a depthwise
 * convolution over a small plane. */
#include "nn/conv_internal.h"

#define KD_WIDTH 16
#include "nn/depthwise_kernels_internal.h"
#undef KD_WIDTH
#define KD_WIDTH 8
#include "nn/depthwise_kernels_internal.h"

bool kd_depthwise_is_ours(const struct conv *c)
{
    const dnnl_format_tag_t tag =
        kd_onednn_lanes() == 16 ? dnnl_Goihw16g : dnnl_Goihw8g;
    const char *kernel = kd_primitive_kernel(&c->backward_weights);
    dnnl_memory_desc_t blocked;

    return kd_conv_is_depthwise(c) && strncmp(kernel, "ref", 3) == 0 &&
           kd_onednn_desc(&blocked, c->kept.ndims, c->kept.dims, tag) == KD_OK &&
           dnnl_memory_desc_equal(&blocked, &c->kept);
}

void kd_depthwise_backward_weights(const struct kd_layer *layer)
{
    const struct conv *c = layer->state;
    const struct kd_tensor *x = layer->input[0], *y = layer->output;
    const size_t blocks = kd_tensor_blocks(x), lanes = x->lanes;
    const size_t in = x->height * x->width * lanes, out = y->height * y->width * lanes;
    const size_t size = c->spec.kernel * c->spec.kernel * lanes;
    const struct taps taps = {x->height,      x->width,       y->height,      y->width,
                              c->spec.kernel, c->spec.stride, c->spec.padding};

#pragma omp parallel for
    for (size_t b = 0; b < blocks; b++) {
        float *gradient = c->weight->gradient + b * size;
        memset(gradient, 0, size * sizeof *gradient);
        for (size_t n = 0; n < x->batch; n++)
            (lanes == 16 ? image_taps_16 : image_taps_8)(
                x->data + (n * blocks + b) * in, y->gradient + (n * blocks + b) * out,
                &taps, gradient);
    }
}
