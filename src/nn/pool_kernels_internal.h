/* SPDX-License-Identifier: MIT */
/* Pooling's loops over one image's block of channels. Included once a width. */
#ifndef KD_WIDTH
#define KD_WIDTH 16
#endif
#include "nn/lanes_internal.h"

#ifndef KD_POOL_KERNELS_INTERNAL_H
#define KD_POOL_KERNELS_INTERNAL_H

/* Windows of high x wide, `stride` apart, over `padding` more on every side. */
struct windows {
    size_t height, width, out_height, out_width, high, wide, stride, padding;
};

struct pool_kernels {
    void (*max)(const float *x, const struct windows *w, float *y);
    void (*max_back)(const float *x, const float *y, const float *dy,
                     const struct windows *w, float *dx);
    void (*mean)(const float *x, const struct windows *w, float *y);
    void (*mean_back)(const float *dy, const struct windows *w, float *dx);
};

/* Rows or columns of window `i` that lie within the image, of `extent`. */
static inline size_t kd_window_begin(const struct windows *w, size_t i)
{
    return i * w->stride > w->padding ? i * w->stride - w->padding : 0;
}

static inline size_t kd_window_end(const struct windows *w, size_t i, size_t size,
                                   size_t extent)
{
    const size_t end = i * w->stride + size - w->padding;

    return end < extent ? end : extent;
}

/* Visits the elements of every window, `at` in the image and `to` in the output. */
#define KD_EACH_WINDOW(w, to)                                                          \
    for (size_t i = 0; i < (w)->out_height; i++)                                       \
        for (size_t j = 0, to = i * (w)->out_width; j < (w)->out_width; j++, to++)
#define KD_EACH_ELEMENT(w, at)                                                         \
    for (size_t row = kd_window_begin(w, i),                                           \
                bottom = kd_window_end(w, i, (w)->high, (w)->height),                  \
                left = kd_window_begin(w, j),                                          \
                right = kd_window_end(w, j, (w)->wide, (w)->width);                    \
         row < bottom; row++)                                                          \
        for (size_t at = row * (w)->width + left; at < row * (w)->width + right; at++)

#endif

KD_VECTOR
static void KD_WIDE(image_max)(const float *x, const struct windows *w, float *y)
{
    KD_EACH_WINDOW(w, to)
    {
        kd_lanes best =
            KD_CONST_AT(x, kd_window_begin(w, i) * w->width + kd_window_begin(w, j));
        kd_lanes nan = {
            0}; /* apart: GCC 12 makes no vectors of two masks joined by | */
        KD_EACH_ELEMENT(w, at)
        {
            const kd_lanes v = KD_CONST_AT(x, at);
            const kd_lane_mask kept = best >= v;
            best = KD_WHERE(kept, best) + KD_WHERE(~kept, v);
            nan += KD_WHERE(v != v, v);
        }
        KD_AT(y, to) = best + nan;
    }
}

/* The gradient goes to the first of a window's largest values. */
KD_VECTOR
static void KD_WIDE(image_max_back)(const float *x, const float *y, const float *dy,
                                    const struct windows *w, float *dx)
{
    memset(dx, 0, w->height * w->width * KD_WIDTH * sizeof *dx);
    KD_EACH_WINDOW(w, to)
    {
        const kd_lanes best = KD_CONST_AT(y, to), d = KD_CONST_AT(dy, to);
        kd_lane_mask open = {0};
        open = ~open;
        KD_EACH_ELEMENT(w, at)
        {
            const kd_lane_mask here = (KD_CONST_AT(x, at) == best) & open;
            KD_AT(dx, at) += KD_WHERE(here, d);
            open &= ~here;
        }
    }
}

KD_VECTOR
static void KD_WIDE(image_mean)(const float *x, const struct windows *w, float *y)
{
    const float count = (float)(w->high * w->wide);

    KD_EACH_WINDOW(w, to)
    {
        kd_lanes sum = {0};
        KD_EACH_ELEMENT(w, at)
        sum += KD_CONST_AT(x, at);
        KD_AT(y, to) = sum / count;
    }
}

KD_VECTOR
static void KD_WIDE(image_mean_back)(const float *dy, const struct windows *w,
                                     float *dx)
{
    const float count = (float)(w->high * w->wide);

    memset(dx, 0, w->height * w->width * KD_WIDTH * sizeof *dx);
    KD_EACH_WINDOW(w, to)
    {
        const kd_lanes d = KD_CONST_AT(dy, to) / count;
        KD_EACH_ELEMENT(w, at)
        KD_AT(dx, at) += d;
    }
}

static const struct pool_kernels KD_WIDE(pool_kernels) = {
    KD_WIDE(image_max),
    KD_WIDE(image_max_back),
    KD_WIDE(image_mean),
    KD_WIDE(image_mean_back),
};
