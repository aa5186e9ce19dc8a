/* SPDX-License-Identifier: MIT */
/*
 * Sixteen channels at a time: the blocked layout's innermost dimension as one
 * value. The compiler makes one AVX-512, two AVX or four SSE instructions of it;
 * KD_VECTOR asks for one version of a function for each and picks at load time.
 */
#ifndef KD_LANES_INTERNAL_H
#define KD_LANES_INTERNAL_H

#include <stdint.h>
#include <string.h>

typedef float kd_lanes __attribute__((vector_size(64)));
typedef int32_t kd_lane_mask __attribute__((vector_size(64)));

/* The loaders that pick a version run before the sanitizers are up. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                 \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define KD_VECTOR                                                                      \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define KD_VECTOR
#endif

/* Vectors go in and out of memory through macros, since functions that pass them
 * by value would differ between those versions. */
#define KD_ALL(value)           ((kd_lanes){0} + (value))
#define KD_AT(pointer, i)       (((kd_lanes *)(void *)(pointer))[i])
#define KD_CONST_AT(pointer, i) (((const kd_lanes *)(const void *)(pointer))[i])

/* x where mask is set (all ones), else 0. */
#define KD_WHERE(mask, x) ((kd_lanes)((mask) & (kd_lane_mask)(x)))

#endif
