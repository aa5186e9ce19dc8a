/* SPDX-License-Identifier: MIT */
/* The layout of a shard: its datasets, and the check of a row. */
#include "cache/shard_internal.h"

#include "kd/hash.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "shards are mapped as they are: little-endian machines only");

/* How a column is shaped: an element a row, one more than rows, an element a value
 * (which top-k and dense rows have as a second dimension), or one a temperature. */
enum shape { PER_ROW, PER_ROW_AND_ONE, PER_VALUE, PER_TEMPERATURE };

static const struct {
    enum kd_type type; /* of /logits and /index the codec says */
    enum shape shape;
} columns[KD_COLUMN_COUNT] = {
    [KD_COLUMN_ID] = {KD_U64, PER_ROW},
    [KD_COLUMN_VIEW] = {KD_U32, PER_ROW},
    [KD_COLUMN_LABEL] = {KD_I32, PER_ROW},
    [KD_COLUMN_OFFSET] = {KD_U64, PER_ROW_AND_ONE},
    [KD_COLUMN_LOGITS] = {KD_F32, PER_VALUE},
    [KD_COLUMN_INDEX] = {KD_U32, PER_VALUE},
    [KD_COLUMN_DRAWS] = {KD_U16, PER_VALUE},
    [KD_COLUMN_ROW_MAX] = {KD_F32, PER_ROW},
    [KD_COLUMN_LOG_Z] = {KD_F32, PER_ROW},
    [KD_COLUMN_LOG_TAIL] = {KD_F32, PER_ROW},
    [KD_COLUMN_LOG_Z_ALSO] = {KD_F32, PER_TEMPERATURE},
    [KD_COLUMN_LOG_TAIL_ALSO] = {KD_F32, PER_TEMPERATURE},
    [KD_COLUMN_CHECK] = {KD_U32, PER_ROW},
};

const char *const kd_column_names[KD_COLUMN_COUNT] = {
    "id",      "view",  "label",    "offset",     "logits",        "index", "draws",
    "row_max", "log_z", "log_tail", "log_z_also", "log_tail_also", "check"};

bool kd_column_present(const struct kd_identity *identity, enum kd_column column)
{
    const struct kd_codec *codec = &identity->codec;

    switch (column) {
    case KD_COLUMN_OFFSET:
        return kd_codec_is_ragged(codec);
    case KD_COLUMN_INDEX:
    case KD_COLUMN_LOG_TAIL:
        return kd_codec_is_sparse(codec);
    case KD_COLUMN_DRAWS:
        return codec->encoding == KD_SAMPLED;
    case KD_COLUMN_LOG_Z_ALSO:
    case KD_COLUMN_LOG_TAIL_ALSO:
        return codec->also_temperatures[0] != '\0';
    default:
        return true;
    }
}

static enum kd_type type_of(const struct kd_identity *identity, enum kd_column column)
{
    if (column == KD_COLUMN_LOGITS)
        return identity->codec.dtype;
    if (column == KD_COLUMN_INDEX)
        return kd_codec_index_type(identity->num_classes);
    return columns[column].type;
}

enum kd_status kd_column_layout(const struct kd_identity *identity,
                                enum kd_column column, uint64_t rows, uint64_t values,
                                struct kd_array_info *info)
{
    const enum shape shape = columns[column].shape;
    const bool ragged = kd_codec_is_ragged(&identity->codec);
    double also[KD_MAX_ALSO];

    *info = (struct kd_array_info){
        .type = type_of(identity, column), .rank = 1, .shape = {rows}};
    if (shape == PER_ROW_AND_ONE) {
        info->shape[0] += rows < UINT64_MAX;
    } else if (shape == PER_VALUE && ragged) {
        info->shape[0] = values;
    } else if (shape == PER_VALUE || shape == PER_TEMPERATURE) {
        info->rank = 2;
        info->shape[1] = shape == PER_VALUE ? identity->codec.k
                                            : kd_codec_also(&identity->codec, also);
    }
    if (!kd_array_measure(info))
        return kd_fail(KD_EDATA, "%llu rows of %u classes are too many for one shard",
                       (unsigned long long)rows, (unsigned)identity->num_classes);
    return KD_OK;
}

/* Rows of up to so many bytes are put together first, which is faster than to hash
 * them in parts. */
#define WHOLE 4608

static unsigned char *append(unsigned char *to, const void *data, size_t size)
{
    if (size > 0)
        memcpy(to, data, size);
    return to + size;
}

uint32_t kd_row_check(const struct kd_codec *codec, uint32_t classes, size_t also,
                      const struct kd_row_bytes *row)
{
    const bool sparse = kd_codec_is_sparse(codec);
    const uint64_t size = row->size;
    unsigned char head[24], tail[12], whole[WHOLE], *end = whole;
    const size_t head_size = kd_codec_is_ragged(codec) ? 24 : 16;
    const size_t tail_size = sparse ? 12 : 8, also_size = also * sizeof(float);
    const size_t logits_size = size * kd_type_size(codec->dtype);
    const size_t index_size =
        sparse ? size * kd_type_size(kd_codec_index_type(classes)) : 0;
    const size_t draws_size = codec->encoding == KD_SAMPLED ? size * 2 : 0;

    memcpy(head, &row->id, 8);
    memcpy(head + 8, &row->view, 4);
    memcpy(head + 12, &row->label, 4);
    memcpy(head + 16, &size, 8);
    memcpy(tail, &row->row_max, 4);
    memcpy(tail + 4, &row->log_z, 4);
    memcpy(tail + 8, &row->log_tail, 4);
    if (logits_size + index_size + draws_size + 2 * also_size > WHOLE - 36) {
        const void *const parts[] = {
            head, row->logits,     row->index,        row->draws,
            tail, row->log_z_also, row->log_tail_also};
        const size_t sizes[] = {head_size, logits_size, index_size, draws_size,
                                tail_size, also_size,   also_size};

        return kd_hash_check_parts(parts, sizes, sizeof parts / sizeof parts[0]);
    }
    end = append(end, head, head_size);
    end = append(end, row->logits, logits_size);
    end = append(end, row->index, index_size);
    end = append(end, row->draws, draws_size);
    end = append(end, tail, tail_size);
    end = append(end, row->log_z_also, also_size);
    end = append(end, row->log_tail_also, also_size);
    return (uint32_t)kd_hash_u64(whole, (size_t)(end - whole));
}
