/* SPDX-License-Identifier: MIT */
/* Layer norm's loops over one place: blocks of channels that lie `apart` floats from
 * each other. Included once a width. */
#ifndef KD_WIDTH
#define KD_WIDTH 16
#endif
#include "nn/lanes_internal.h"

#include <math.h>

#ifndef KD_LAYER_NORM_KERNELS_INTERNAL_H
#define KD_LAYER_NORM_KERNELS_INTERNAL_H

#define KD_LAYER_NORM_EPSILON 1e-6

/* What all places share. */
struct places {
    size_t channels, blocks, apart;
    const float *weight, *bias; /* [blocks][lanes] zeros behind the last channel */
    const float *used;          /* [blocks][lanes] 1, behind the last channel 0 */
};

/* 1 / sqrt(variance + epsilon) */
static inline float inverse_deviation(float squares, size_t channels)
{
    return (float)(1 /
                   sqrt((double)squares / (double)channels + KD_LAYER_NORM_EPSILON));
}

struct layer_norm_kernels {
    void (*normalise)(const struct places *p, const float *x, float *mean,
                      float *inverse, float *y);
    void (*spread)(const struct places *p, const float *x, const float *dy, float mean,
                   float inverse, float *dx);
    void (*gather)(const struct places *p, const float *x, const float *dy, float mean,
                   float inverse, float *sum_dh, float *sum_d);
};

#endif

#define BLOCK(pointer, b)       KD_AT((pointer) + (b)*p->apart, 0)
#define CONST_BLOCK(pointer, b) KD_CONST_AT((pointer) + (b)*p->apart, 0)

/* y = (x - mean) * inverse * weight + bias */
KD_VECTOR
static void KD_WIDE(place_normalise)(const struct places *p, const float *x,
                                     float *mean, float *inverse, float *y)
{
    kd_lanes sums = {0}, distances = {0};
    float sum = 0, squares = 0;

    for (size_t b = 0; b < p->blocks; b++)
        sums += CONST_BLOCK(x, b);
    for (size_t i = 0; i < KD_WIDTH; i++)
        sum += sums[i];
    *mean = sum / (float)p->channels;
    for (size_t b = 0; b < p->blocks; b++) {
        const kd_lanes d = (CONST_BLOCK(x, b) - *mean) * KD_CONST_AT(p->used, b);
        distances += d * d;
    }
    for (size_t i = 0; i < KD_WIDTH; i++)
        squares += distances[i];
    *inverse = inverse_deviation(squares, p->channels);
    for (size_t b = 0; b < p->blocks; b++)
        BLOCK(y, b) =
            (CONST_BLOCK(x, b) - *mean) * *inverse * KD_CONST_AT(p->weight, b) +
            KD_CONST_AT(p->bias, b);
}

/* With g = dy * weight and h = (x - mean) * inverse:
 * dx = inverse * (g - mean(g) - h * mean(g * h)). */
KD_VECTOR
static void KD_WIDE(place_spread)(const struct places *p, const float *x,
                                  const float *dy, float mean, float inverse, float *dx)
{
    kd_lanes first = {0}, second = {0};
    float mean_g = 0, mean_gh = 0;

    for (size_t b = 0; b < p->blocks; b++) {
        const kd_lanes g = CONST_BLOCK(dy, b) * KD_CONST_AT(p->weight, b);
        first += g;
        second += g * (CONST_BLOCK(x, b) - mean) * inverse;
    }
    for (size_t i = 0; i < KD_WIDTH; i++) {
        mean_g += first[i];
        mean_gh += second[i];
    }
    mean_g /= (float)p->channels;
    mean_gh /= (float)p->channels;
    for (size_t b = 0; b < p->blocks; b++) {
        const kd_lanes g = CONST_BLOCK(dy, b) * KD_CONST_AT(p->weight, b);
        const kd_lanes h = (CONST_BLOCK(x, b) - mean) * inverse;
        BLOCK(dx, b) = (g - mean_g - h * mean_gh) * inverse * KD_CONST_AT(p->used, b);
    }
}

/* Adds dy * h and dy to the sums by channel. */
KD_VECTOR
static void KD_WIDE(place_gather)(const struct places *p, const float *x,
                                  const float *dy, float mean, float inverse,
                                  float *sum_dh, float *sum_d)
{
    for (size_t b = 0; b < p->blocks; b++) {
        const kd_lanes d = CONST_BLOCK(dy, b);
        KD_AT(sum_dh, b) += d * (CONST_BLOCK(x, b) - mean) * inverse;
        KD_AT(sum_d, b) += d;
    }
}

#undef BLOCK
#undef CONST_BLOCK

static const struct layer_norm_kernels KD_WIDE(layer_norm_kernels) = {
    KD_WIDE(place_normalise),
    KD_WIDE(place_spread),
    KD_WIDE(place_gather),
};
