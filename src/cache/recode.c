/* SPDX-License-Identifier: MIT */
/* Rows as they would be read back from a shard: the writer's arithmetic, then the
 * reader's. */
#include "kd/shard.h"

#include "cache/decode_internal.h"
#include "cache/encode_internal.h"
#include "kd/memory.h"

#include <stdlib.h>

struct kd_recoder {
    struct kd_encoder encoder;
    const struct kd_rows *rows;
    struct kd_encoded encoded;
    char *stored; /* logits of the codec's dtype */
    float *values;
    uint32_t *index;
    size_t stored_capacity, value_capacity, index_capacity; /* bytes, values, classes */
};

enum kd_status kd_recoder_new(const struct kd_identity *identity,
                              const struct kd_rows *rows, struct kd_recoder **recoder)
{
    enum kd_status status = KD_EBUG;
    struct kd_recoder *r = NULL;

    KD_TRY(KD_NEW(r, 1));
    r->rows = rows;
    KD_TRY(kd_encoder_init(&r->encoder, identity, rows));
    *recoder = r;
    r = NULL;
out:
    kd_recoder_free(r);
    return status;
}

void kd_recoder_free(struct kd_recoder *recoder)
{
    if (recoder == NULL)
        return;
    kd_encoder_clear(&recoder->encoder);
    free(recoder->stored);
    free(recoder->values);
    free(recoder->index);
    free(recoder);
}

/* The values and classes that would be stored. */
static enum kd_status round_values(struct kd_recoder *r, size_t at)
{
    enum kd_status status = KD_EBUG;
    const struct kd_codec *codec = &r->encoder.identity->codec;
    const size_t n = r->encoded.size;
    const char *fault = NULL;

    KD_TRY(kd_grow(&r->stored, &r->stored_capacity, n * kd_type_size(codec->dtype), 1));
    KD_TRY(kd_grow(&r->values, &r->value_capacity, n, sizeof *r->values));
    kd_encoded_logits(&r->encoded, codec->dtype, r->stored);
    fault = kd_decode_values(codec->dtype, r->stored, n, codec->encoding != KD_SAMPLED,
                             r->values);
    if (fault != NULL)
        return kd_fail(KD_EBUG, "sample %llu, view %u: %s",
                       (unsigned long long)r->rows->id[at], (unsigned)r->rows->view[at],
                       fault);
    if (kd_codec_is_sparse(codec)) {
        KD_TRY(kd_grow(&r->index, &r->index_capacity, n, sizeof *r->index));
        kd_encoded_index(&r->encoded, KD_U32, r->index);
    }
out:
    return status;
}

enum kd_status kd_recode_row(struct kd_recoder *recoder, size_t at, struct kd_row *row)
{
    enum kd_status status = KD_EBUG;
    const struct kd_encoded *encoded = &recoder->encoded;
    const bool further = recoder->encoder.num_also > 0;

    KD_TRY(kd_encode_row(&recoder->encoder, recoder->rows, at, &recoder->encoded));
    KD_TRY(round_values(recoder, at));
    *row = (struct kd_row){.id = recoder->rows->id[at],
                           .view = recoder->rows->view[at],
                           .label = recoder->rows->label[at],
                           .size = encoded->size,
                           .values = recoder->values,
                           .index = recoder->index,
                           .draws = encoded->draws,
                           .row_max = encoded->row_max,
                           .log_z = encoded->log_z,
                           .log_tail = encoded->log_tail,
                           .log_z_also = further ? encoded->log_z_also : NULL,
                           .log_tail_also = further ? encoded->log_tail_also : NULL};
out:
    return status;
}
