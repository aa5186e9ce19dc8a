/* SPDX-License-Identifier: MIT */
/*
 * 3x3 convolutions of stride 1 and padding 1 by Winograd's minimal filtering F(4x4,3x3)
 * (Winograd 1980; Lavin, Gray 2016), for processors with AVX-512.
 *
 * A plane is cut into tiles of 4x4 results, each of which reads 6x6 values. Values and
 * weights are evaluated at 6x6 points, multiplied point by point, which takes 36
 * products where there were 144, and interpolated back:
 *
 *     y  = A' [ (G w G') . (B' x B) ] A           summed over input channels
 *     dw = G' [ (B' x B) . (A dy A') ] G          summed over tiles
 *
 * The gradient of the values is the first with the weights' channels exchanged and
 * their kernels turned round. The six points are 0, +-5/8, +-3/2 and infinity: with
 * float and 64 channels the deviation from the exact result is 7e-7 of the result's
 * own, with 0, +-1, +-2 it is 18e-7.
 *
 * Tiles go through all three stages in groups that stay in the second-level cache. What
 * is summed for a tile, and in what order, is the same in every group and whatever the
 * number of threads; only dw is summed by thread.
 */
#ifndef KD_WINOGRAD_INTERNAL_H
#define KD_WINOGRAD_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

struct winograd {
    size_t batch, in, out; /* channels: multiples of 16 */
    size_t height, width;
    size_t threads;
};

/* Floats of work space, for all threads. */
size_t kd_winograd_space(const struct winograd *w);

/* Floats of the weights at the points. */
size_t kd_winograd_points(const struct winograd *w);

/* Weights at the points, from blocks [out/16][in/16][3][3][16 in][16 out]. `back`: for
 * the gradient of values, `w` being that pass, whose `in` is this array's out. */
void kd_winograd_weights(const struct winograd *w, const float *blocks, bool back,
                         float *points);

/* What becomes of a result before it is written. */
struct winograd_end {
    const float *bias; /* [out], or NULL */
    bool sum, relu;    /* y = [relu](result [+ y]) */
};

/* y [batch][out/16][height][width][16] from x [batch][in/16][height][width][16]. */
void kd_winograd_values(const struct winograd *w, const float *x, const float *points,
                        const struct winograd_end *end, float *y, float *space);

/* The gradient of the weights, in blocks as above. */
void kd_winograd_gradient(const struct winograd *w, const float *x, const float *dy,
                          float *blocks, float *space);

#endif
