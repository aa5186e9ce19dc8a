/* SPDX-License-Identifier: MIT */
/*
 * From a row on its way in to a row as it is stored.
 *
 *     struct kd_encoder encoder;
 *     KD_TRY(kd_encoder_init(&encoder, &identity, rows));
 *     for (size_t row = 0; row < rows->count; row++) {
 *         KD_TRY(kd_encode_row(&encoder, rows, row, &encoded));
 *         kd_encoded_logits(&encoded, identity.codec.dtype, logits);
 *         kd_encoded_index(&encoded, index_type, index);
 *     }
 *     kd_encoder_clear(&encoder);
 *
 * An encoder is one thread's scratch memory; all arithmetic is in double.
 */
#ifndef KD_CACHE_ENCODE_INTERNAL_H
#define KD_CACHE_ENCODE_INTERNAL_H

#include "kd/shard.h"

#include <stddef.h>
#include <stdint.h>

struct kd_encoder {
    const struct kd_identity *identity;
    double also[KD_MAX_ALSO];
    size_t num_also;

    /* n: the most values that a row on its way in has */
    double *mass;       /* [n] exp(u - pivot); sparse: 0 for what is kept */
    double *cumulative; /* [n] sampled */
    uint16_t *drawn;    /* [n] sampled: times drawn, 0 between rows */
    float *sorted;      /* [n] sparse rows on their way in, by class */
    uint32_t *classes;  /* [n] */
    uint64_t *order;    /* [n] */
    uint64_t *keys;     /* [min(k, n)] */
    uint16_t *draws;    /* [min(k, n)] sampled */
};

enum kd_status kd_encoder_init(struct kd_encoder *encoder,
                               const struct kd_identity *identity,
                               const struct kd_rows *rows) KD_CHECKED;
void kd_encoder_clear(struct kd_encoder *encoder); /* a zeroed one is fine */

/* What is stored of a row; the pointers hold until the next row is encoded. */
struct kd_encoded {
    size_t size;             /* values that are kept */
    const float *scaled;     /* dense: the whole row, else NULL */
    const uint64_t *keys;    /* [size] value and place, most probable first */
    const uint32_t *classes; /* by place; NULL: the place is the class */
    const uint16_t *draws;   /* [size]; NULL where there are none */
    float row_max, log_z, log_tail;
    float log_z_also[KD_MAX_ALSO], log_tail_also[KD_MAX_ALSO];
};

/* KD_EDATA naming sample, view and class where a value is not finite, and of sparse
 * rows also where a class is none or there twice, or where they are too few. */
enum kd_status kd_encode_row(struct kd_encoder *encoder, const struct kd_rows *rows,
                             size_t row, struct kd_encoded *encoded) KD_CHECKED;

/* Writes [size] values of `dtype`: u minus the row's maximum, no lower than the type's
 * least finite value; and [size] classes of `type`. */
void kd_encoded_logits(const struct kd_encoded *encoded, enum kd_type dtype, void *to);
void kd_encoded_index(const struct kd_encoded *encoded, enum kd_type type, void *to);

#endif
