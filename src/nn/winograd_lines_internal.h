/* SPDX-License-Identifier: MIT */
/*
 * One dimension of each of Winograd's transforms, for 16 channels at a time: from
 * values, gradients and weights to the six points, and back from these to results and
 * kernels.
 */
#ifndef KD_WINOGRAD_LINES_INTERNAL_H
#define KD_WINOGRAD_LINES_INTERNAL_H

#define KD_WIDTH 16
#include "nn/lanes_internal.h"

/* A product and its sum in one instruction. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=fast")
#endif

#if defined(__x86_64__)
#define WIDE __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,fma")))
#else
#define WIDE
#endif
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

#define LANES  16
#define SIDE   6             /* of a tile of values, and of its points */
#define POINTS (SIDE * SIDE) /* of a tile */
#define STEP   4             /* of a tile of results: the tiles' distance */

/* The points 0, A, -A, B, -B and infinity. */
#define A  0.625F
#define B  1.5F
#define A2 (A * A)
#define B2 (B * B)

/* One over the product of a point's distances from all the others. */
#define AT_0 (1 / (A2 * B2))
#define AT_A (1 / (2 * A2 * (A2 - B2)))
#define AT_B (1 / (2 * B2 * (B2 - A2)))

/* Vectors come from `from`, so many apart, and go to `to`. */

/* B': six values at the points. */
INLINE WIDE void values_line(const kd_lanes *from, size_t apart, kd_lanes *to,
                             size_t to_apart)
{
    const kd_lanes d0 = from[0], d1 = from[apart], d2 = from[2 * apart],
                   d3 = from[3 * apart], d4 = from[4 * apart], d5 = from[5 * apart];
    const kd_lanes even_a = d4 - B2 * d2, odd_a = d3 - B2 * d1;
    const kd_lanes even_b = d4 - A2 * d2, odd_b = d3 - A2 * d1;

    to[0] = d4 - (A2 + B2) * d2 + A2 * B2 * d0;
    to[to_apart] = even_a + A * odd_a;
    to[2 * to_apart] = even_a - A * odd_a;
    to[3 * to_apart] = even_b + B * odd_b;
    to[4 * to_apart] = even_b - B * odd_b;
    to[5 * to_apart] = d5 - (A2 + B2) * d3 + A2 * B2 * d1;
}

/* A': four results from six points. */
INLINE WIDE void results_line(const kd_lanes *from, size_t apart, kd_lanes *to,
                              size_t to_apart)
{
    const kd_lanes sum_a = from[apart] + from[2 * apart],
                   sum_b = from[3 * apart] + from[4 * apart];
    const kd_lanes odd_a = from[apart] - from[2 * apart],
                   odd_b = from[3 * apart] - from[4 * apart];

    to[0] = from[0] + sum_a + sum_b;
    to[to_apart] = A * odd_a + B * odd_b;
    to[2 * to_apart] = A2 * sum_a + B2 * sum_b;
    to[3 * to_apart] = from[5 * apart] + A * A2 * odd_a + B * B2 * odd_b;
}

/* A: four gradients of results at the points. */
INLINE WIDE void gradients_line(const kd_lanes *from, size_t apart, kd_lanes *to,
                                size_t to_apart)
{
    const kd_lanes e0 = from[0], e1 = from[apart], e2 = from[2 * apart],
                   e3 = from[3 * apart];
    const kd_lanes even_a = e0 + A2 * e2, odd_a = e1 + A2 * e3;
    const kd_lanes even_b = e0 + B2 * e2, odd_b = e1 + B2 * e3;

    to[0] = e0;
    to[to_apart] = even_a + A * odd_a;
    to[2 * to_apart] = even_a - A * odd_a;
    to[3 * to_apart] = even_b + B * odd_b;
    to[4 * to_apart] = even_b - B * odd_b;
    to[5 * to_apart] = e3;
}

/* G: three weights at the points. */
INLINE WIDE void weights_line(const kd_lanes *from, size_t apart, kd_lanes *to,
                              size_t to_apart)
{
    const kd_lanes w0 = from[0], w1 = from[apart], w2 = from[2 * apart];
    const kd_lanes even_a = AT_A * w0 + AT_A * A2 * w2,
                   even_b = AT_B * w0 + AT_B * B2 * w2;

    to[0] = AT_0 * w0;
    to[to_apart] = even_a + AT_A * A * w1;
    to[2 * to_apart] = even_a - AT_A * A * w1;
    to[3 * to_apart] = even_b + AT_B * B * w1;
    to[4 * to_apart] = even_b - AT_B * B * w1;
    to[5 * to_apart] = w2;
}

/* G': three gradients of weights from six points. */
INLINE WIDE void kernel_line(const kd_lanes *from, size_t apart, kd_lanes *to,
                             size_t to_apart)
{
    const kd_lanes sum_a = AT_A * (from[apart] + from[2 * apart]),
                   sum_b = AT_B * (from[3 * apart] + from[4 * apart]);
    const kd_lanes odd_a = AT_A * (from[apart] - from[2 * apart]),
                   odd_b = AT_B * (from[3 * apart] - from[4 * apart]);

    to[0] = AT_0 * from[0] + sum_a + sum_b;
    to[to_apart] = A * odd_a + B * odd_b;
    to[2 * to_apart] = from[5 * apart] + A2 * sum_a + B2 * sum_b;
}

#endif
