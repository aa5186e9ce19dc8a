/* SPDX-License-Identifier: MIT */
/* What the writer and the reader of shards agree on. */
#ifndef KD_CACHE_SHARD_INTERNAL_H
#define KD_CACHE_SHARD_INTERNAL_H

#include "kd/shard.h"
#include "kd/type.h"

#include <stddef.h>
#include <stdint.h>

#define KD_SHARD_FORMAT   "kdcache"
#define KD_SHARD_VERSION  1
#define KD_SHARD_ENCODING "dense"

/* The datasets, in the order in which they lie in the file. */
enum kd_column {
    KD_COLUMN_ID,
    KD_COLUMN_VIEW,
    KD_COLUMN_LABEL,
    KD_COLUMN_LOGITS,
    KD_COLUMN_ROW_MAX,
    KD_COLUMN_LOG_Z,
    KD_COLUMN_CHECK,
    KD_COLUMN_COUNT
};

extern const char *const kd_column_names[KD_COLUMN_COUNT];

/* Type, shape and bytes of a column of `rows` rows. KD_EDATA where it is more than
 * this machine can address. */
enum kd_status kd_column_layout(const struct kd_identity *identity,
                                enum kd_column column, uint64_t rows,
                                struct kd_array_info *info) KD_CHECKED;

/* The check of a row; logits as they are stored. */
struct kd_row {
    uint64_t id;
    uint32_t view;
    int32_t label;
    const void *logits;
    size_t bytes;
    float row_max, log_z;
};
uint32_t kd_row_check(const struct kd_row *row);

#endif
