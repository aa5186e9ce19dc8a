/* SPDX-License-Identifier: MIT */
/* The layout of a shard: its datasets, and the check of a row. */
#include "cache/shard_internal.h"

#include "kd/hash.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "shards are mapped as they are: little-endian machines only");

const char *const kd_column_names[KD_COLUMN_COUNT] = {
    "id", "view", "label", "logits", "row_max", "log_z", "check"};

static const enum kd_type types[KD_COLUMN_COUNT] = {KD_U64, KD_U32, KD_I32, KD_F32,
                                                    KD_F32, KD_F32, KD_U32};

enum kd_status kd_column_layout(const struct kd_identity *identity,
                                enum kd_column column, uint64_t rows,
                                struct kd_array_info *info)
{
    *info = (struct kd_array_info){.type = types[column], .rank = 1, .shape = {rows}};
    if (column == KD_COLUMN_LOGITS) {
        info->type = identity->dtype;
        info->rank = 2;
        info->shape[1] = identity->num_classes;
    }
    if (!kd_array_measure(info))
        return kd_fail(KD_EDATA, "%llu rows of %u classes are too many for one shard",
                       (unsigned long long)rows, (unsigned)identity->num_classes);
    return KD_OK;
}

uint32_t kd_row_check(const struct kd_row *row)
{
    unsigned char head[16], tail[8];
    const void *const parts[] = {head, row->logits, tail};
    const size_t sizes[] = {sizeof head, row->bytes, sizeof tail};

    memcpy(head, &row->id, 8);
    memcpy(head + 8, &row->view, 4);
    memcpy(head + 12, &row->label, 4);
    memcpy(tail, &row->row_max, 4);
    memcpy(tail + 4, &row->log_z, 4);
    return kd_hash_check_parts(parts, sizes, 3);
}
