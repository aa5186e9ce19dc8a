/* SPDX-License-Identifier: MIT */
/* Batch norm's loops over one image's block of channels. Included once a width. */
#ifndef KD_WIDTH
#define KD_WIDTH 16
#endif
#include "nn/lanes_internal.h"

#include <stdbool.h>

#ifndef KD_NORM_KERNELS_INTERNAL_H
#define KD_NORM_KERNELS_INTERNAL_H

struct norm_kernels {
    void (*moments)(const float *x, size_t plane, float *mean, float *distance);
    void (*apply)(const float *x, const float *residual, size_t plane,
                  const float *scale, const float *shift, bool relu, float *y);
    void (*gather)(const float *dy, const float *y, const float *x, size_t plane,
                   const float *mean, const float *inverse, bool relu, float *d,
                   float *sum_d, float *sum_dx);
    void (*spread)(const float *d, const float *x, size_t plane, const float *scale,
                   const float *slope, const float *shift, float *dx);
};

#endif

/* Mean and sum of squared distances from it, of one image's block. */
KD_VECTOR
static void KD_WIDE(image_moments)(const float *x, size_t plane, float *mean,
                                   float *distance)
{
    kd_lanes sum = {0}, squares = {0}, centre;

    for (size_t i = 0; i < plane; i++)
        sum += KD_CONST_AT(x, i);
    centre = sum / (float)plane;
    for (size_t i = 0; i < plane; i++) {
        const kd_lanes d = KD_CONST_AT(x, i) - centre;
        squares += d * d;
    }
    KD_AT(mean, 0) = centre;
    KD_AT(distance, 0) = squares;
}

/* y = [relu](x * scale + shift [+ residual]) */
KD_VECTOR
static void KD_WIDE(image_apply)(const float *x, const float *residual, size_t plane,
                                 const float *scale, const float *shift, bool relu,
                                 float *y)
{
    const kd_lanes a = KD_CONST_AT(scale, 0), b = KD_CONST_AT(shift, 0);

    for (size_t i = 0; i < plane; i++) {
        kd_lanes v = KD_CONST_AT(x, i) * a + b;
        if (residual != NULL)
            v += KD_CONST_AT(residual, i);
        if (relu)
            v = KD_WHERE(~(v <= 0), v); /* a NaN stays one */
        KD_AT(y, i) = v;
    }
}

/* d = dy where y > 0; the sums of d and of d * (x - mean) / deviation. */
KD_VECTOR
static void KD_WIDE(image_gather)(const float *dy, const float *y, const float *x,
                                  size_t plane, const float *mean, const float *inverse,
                                  bool relu, float *d, float *sum_d, float *sum_dx)
{
    const kd_lanes centre = KD_CONST_AT(mean, 0);
    kd_lanes first = {0}, second = {0};

    for (size_t i = 0; i < plane; i++) {
        kd_lanes v = KD_CONST_AT(dy, i);
        if (relu)
            v = KD_WHERE(KD_CONST_AT(y, i) > 0, v);
        KD_AT(d, i) = v;
        first += v;
        second += v * (KD_CONST_AT(x, i) - centre);
    }
    KD_AT(sum_d, 0) = first;
    KD_AT(sum_dx, 0) = second * KD_CONST_AT(inverse, 0);
}

/* dx = d * scale + x * slope + shift */
KD_VECTOR
static void KD_WIDE(image_spread)(const float *d, const float *x, size_t plane,
                                  const float *scale, const float *slope,
                                  const float *shift, float *dx)
{
    const kd_lanes a = KD_CONST_AT(scale, 0), b = KD_CONST_AT(slope, 0),
                   c = KD_CONST_AT(shift, 0);

    for (size_t i = 0; i < plane; i++)
        KD_AT(dx, i) = KD_CONST_AT(d, i) * a + KD_CONST_AT(x, i) * b + c;
}

static const struct norm_kernels KD_WIDE(norm_kernels) = {
    KD_WIDE(image_moments),
    KD_WIDE(image_apply),
    KD_WIDE(image_gather),
    KD_WIDE(image_spread),
};
