/* SPDX-License-Identifier: MIT */
/* What the writer and the reader of shards agree on. */
#ifndef KD_CACHE_SHARD_INTERNAL_H
#define KD_CACHE_SHARD_INTERNAL_H

#include "kd/shard.h"
#include "kd/type.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KD_SHARD_FORMAT  "kdcache"
#define KD_SHARD_VERSION 1

/* The datasets, in the order in which a row's check takes them. Which of them a shard
 * has depends on its codec. */
enum kd_column {
    KD_COLUMN_ID,
    KD_COLUMN_VIEW,
    KD_COLUMN_LABEL,
    KD_COLUMN_OFFSET,
    KD_COLUMN_LOGITS,
    KD_COLUMN_INDEX,
    KD_COLUMN_DRAWS,
    KD_COLUMN_ROW_MAX,
    KD_COLUMN_LOG_Z,
    KD_COLUMN_LOG_TAIL,
    KD_COLUMN_LOG_Z_ALSO,
    KD_COLUMN_LOG_TAIL_ALSO,
    KD_COLUMN_CHECK,
    KD_COLUMN_COUNT
};

extern const char *const kd_column_names[KD_COLUMN_COUNT];

/* Whether shards of that identity have the column. */
bool kd_column_present(const struct kd_identity *identity, enum kd_column column);

/* Type, shape and bytes of a column of `rows` rows with `values` values in all (of
 * ragged encodings; else it is not looked at). KD_EDATA where it is more than this
 * machine can address. */
enum kd_status kd_column_layout(const struct kd_identity *identity,
                                enum kd_column column, uint64_t rows, uint64_t values,
                                struct kd_array_info *info) KD_CHECKED;

/* A row's bytes as they are stored, for its check. */
struct kd_row_bytes {
    uint64_t id;
    uint32_t view;
    int32_t label;
    uint64_t size;      /* values; hashed in ragged encodings alone */
    const void *logits; /* [size] of the dtype */
    const void *index;  /* [size]; NULL in dense ones */
    const void *draws;  /* [size] u16; NULL where there are none */
    float row_max, log_z, log_tail;
    const float *log_z_also, *log_tail_also; /* [A] */
};
uint32_t kd_row_check(const struct kd_codec *codec, uint32_t classes, size_t also,
                      const struct kd_row_bytes *row);

#endif
