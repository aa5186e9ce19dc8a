/* SPDX-License-Identifier: MIT */
/* The matrix product of dense layers, whose rows do not depend on their batch. */
#ifndef KD_DENSE_INTERNAL_H
#define KD_DENSE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

/* Weights [out][in] as the product reads them: [ceil(out/16)][in][16], zeros in the
 * lanes behind `out`. */
void kd_dense_pack(const float *weight, size_t out, size_t in, float *packed);

/* Floats of packed weights. */
size_t kd_dense_packed_size(size_t out, size_t in);

/* Multiplies all weights of an output by its number in scale [out]. */
void kd_dense_scale(float *packed, size_t out, size_t in, const float *scale);

/* y = [relu](x W' + b), of x [batch][in], packed weights and bias [out]; y is
 * [batch][stride], with zeros behind `out`. A row of y is a function of its row of x
 * alone, to the bit. */
void kd_dense_forward(const float *x, size_t batch, size_t in, const float *packed,
                      const float *bias, size_t out, bool relu, float *y,
                      size_t stride);

#endif
