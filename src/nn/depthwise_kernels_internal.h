/* SPDX-License-Identifier: MIT */
/* The weights' gradient of a depthwise convolution. Included once a width. */
#ifndef KD_WIDTH
#define KD_WIDTH 16
#endif
#include "nn/lanes_internal.h"

#ifndef KD_DEPTHWISE_KERNELS_INTERNAL_H
#define KD_DEPTHWISE_KERNELS_INTERNAL_H

struct taps {
    size_t height, width, out_height, out_width, kernel, stride, padding;
};

#endif

/* Adds one image's block to the gradient [kernel][kernel][lanes]. */
KD_VECTOR
static void KD_WIDE(image_taps)(const float *x, const float *dy, const struct taps *t,
                                float *gradient)
{
    for (size_t k = 0; k < t->kernel * t->kernel; k++) {
        kd_lanes sum = {0};
        for (size_t i = 0; i < t->out_height; i++) {
            const size_t row = i * t->stride + k / t->kernel;
            if (row < t->padding || row - t->padding >= t->height)
                continue;
            for (size_t j = 0; j < t->out_width; j++) {
                const size_t column = j * t->stride + k % t->kernel;
                if (column < t->padding || column - t->padding >= t->width)
                    continue;
                sum += KD_CONST_AT(x, (row - t->padding) * t->width + column -
                                          t->padding) *
                       KD_CONST_AT(dy, i * t->out_width + j);
            }
        }
        KD_AT(gradient, k) += sum;
    }
}
