/* SPDX-License-Identifier: MIT */
/*
 * A block of channels at a time: the blocked layout's innermost dimension as one
 * value, of KD_WIDTH lanes, which whoever includes this has set to 16 or 8. The
 * compiler makes one AVX-512, one or two AVX or two to four SSE instructions of it;
 * KD_VECTOR asks for one version of a function for each and picks at load time.
 *
 * Kernels for both widths are a file that is included twice, once for each width;
 * KD_WIDE(name) is the name with the width behind it.
 */
#ifndef KD_LANES_INTERNAL_H
#define KD_LANES_INTERNAL_H

#include "kd/vector.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef float kd_lanes_16 __attribute__((vector_size(64)));
typedef int32_t kd_lane_mask_16 __attribute__((vector_size(64)));
typedef float kd_lanes_8 __attribute__((vector_size(32)));
typedef int32_t kd_lane_mask_8 __attribute__((vector_size(32)));

#define KD_PASTE(name, width) name##_##width
#define KD_WIDEN(name, width) KD_PASTE(name, width)
#define KD_WIDE(name)         KD_WIDEN(name, KD_WIDTH)
#define kd_lanes              KD_WIDE(kd_lanes)
#define kd_lane_mask          KD_WIDE(kd_lane_mask)

/* Vectors go in and out of memory through macros, since functions that pass them
 * by value would differ between those versions. */
#define KD_ALL(value)           ((kd_lanes){0} + (value))
#define KD_AT(pointer, i)       (((kd_lanes *)(void *)(pointer))[i])
#define KD_CONST_AT(pointer, i) (((const kd_lanes *)(const void *)(pointer))[i])

/* x where mask is set (all ones), else 0. */
#define KD_WHERE(mask, x) ((kd_lanes)((mask) & (kd_lane_mask)(x)))

#endif
