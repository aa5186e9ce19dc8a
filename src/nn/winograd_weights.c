/* SPDX-License-Identifier: MIT */
/* Weights at the points of Winograd's convolutions. */
#include "nn/winograd_internal.h"

#include "nn/winograd_lines_internal.h"

#include <string.h>

/* The kernels from one channel in to a block of channels out. Going back, the array's
 * channels change places, and its kernels are turned round. */
static void read_kernels(const struct winograd *w, const float *blocks, bool back,
                         size_t b, size_t channel, float *to)
{
    const size_t area = LANES * LANES;

    if (!back) {
        const float *from = blocks +
                            (b * (w->in / LANES) + channel / LANES) * 9 * area +
                            channel % LANES * LANES;
        for (size_t i = 0; i < 9; i++)
            memcpy(to + i * LANES, from + i * area, LANES * sizeof *to);
        return;
    }
    const float *from =
        blocks + (channel / LANES * (w->out / LANES) + b) * 9 * area + channel % LANES;
    for (size_t i = 0; i < 9; i++)
        for (size_t lane = 0; lane < LANES; lane++)
            to[i * LANES + lane] = from[(8 - i) * area + lane * LANES];
}

WIDE static void kernels_at_points(const struct winograd *w, const float *blocks,
                                   bool back, size_t b, size_t channel, float *points)
{
    const size_t apart = w->out / LANES * w->in;
    kd_lanes kernel[9], middle[3 * SIDE];
    kd_lanes *to = &KD_AT(points, b * w->in + channel);

    read_kernels(w, blocks, back, b, channel, (float *)kernel);
    UNROLL for (size_t i = 0; i < 3; i++)
        weights_line(kernel + i * 3, 1, middle + i * SIDE, 1);
    UNROLL for (size_t j = 0; j < SIDE; j++)
        weights_line(middle + j, SIDE, to + j * apart, SIDE * apart);
}

void kd_winograd_weights(const struct winograd *w, const float *blocks, bool back,
                         float *points)
{
#pragma omp parallel for collapse(2) num_threads((int)w->threads)
    for (size_t b = 0; b < w->out / LANES; b++)
        for (size_t c = 0; c < w->in; c++)
            kernels_at_points(w, blocks, back, b, c, points);
}
