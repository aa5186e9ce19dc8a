/* SPDX-License-Identifier: MIT */
/* Which classes of a row are kept. */
#ifndef KD_CACHE_ENCODE_SELECT_INTERNAL_H
#define KD_CACHE_ENCODE_SELECT_INTERNAL_H

#include "cache/encode_internal.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A row on its way in: values by place, in the order of classes. */
struct kd_encode_source {
    const float *values;     /* [count] */
    const uint32_t *classes; /* [count]; NULL: the place is the class */
    size_t count;
    double log_rest; /* log of the mass of all other classes; -inf for none */
    float top;       /* the largest value */
};

/* The place and the value of a key (encode_select.c). */
static inline size_t kd_key_place(uint64_t key)
{
    return (uint32_t) ~(uint32_t)key;
}

static inline float kd_key_value(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);
    float value = 0;

    bits = bits >> 31 ? bits & 0x7fffffff : ~bits;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The classes to keep, as keys into encoder->keys, most probable first; returns how
 * many. encoder->mass has the values' exponentials, `whole` is their sum and the
 * rest's. */
size_t kd_encode_choose(struct kd_encoder *encoder, const struct kd_encode_source *from,
                        double whole, uint64_t id, uint32_t view);

#endif
