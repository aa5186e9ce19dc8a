/* SPDX-License-Identifier: MIT */
/* Stored values and classes as floats and numbers, checked on the way. */
#ifndef KD_CACHE_DECODE_INTERNAL_H
#define KD_CACHE_DECODE_INTERNAL_H

#include "kd/type.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* n stored logits (KD_F16, KD_BF16 or KD_F32) into `to`; what is wrong with them, NULL
 * if nothing: each must be finite and at most 0, and if `has_top`, one must be 0. */
const char *kd_decode_values(enum kd_type dtype, const void *from, size_t n,
                             bool has_top, float *to);

/* n stored classes (KD_U8, KD_U16 or KD_U32) into `to`; what is wrong with them, NULL
 * if nothing: each must be below `classes`, and none there twice. */
const char *kd_decode_index(enum kd_type type, const void *from, size_t n,
                            uint32_t classes, uint32_t *to);

#endif
