/* SPDX-License-Identifier: MIT */
/* A shard that is open for reading, and the parts of reading it. */
#ifndef KD_CACHE_SHARD_READ_INTERNAL_H
#define KD_CACHE_SHARD_READ_INTERNAL_H

#include "cache/shard_internal.h"
#include "kd/file.h"

struct kd_shard {
    struct kd_identity identity;
    char *path;
    struct kd_map map;
    uint64_t rows;
    uint64_t values;               /* of all rows */
    size_t kept;                   /* the most values of a row */
    size_t also;                   /* A */
    size_t value_size, index_size; /* bytes of a stored logit and class */
    bool sparse, ragged;
    bool has_bound;
    struct kd_bound bound;
    bool regular; /* every id from the first to the last has all its views */
    bool verify;
    uint64_t first_id;
    struct kd_array_info infos[KD_COLUMN_COUNT]; /* of columns that are there */
    void *copies[KD_COLUMN_COUNT]; /* of columns that are not aligned; else NULL */

    /* in the map, or copies; NULL where the codec has no such column */
    const uint64_t *id;      /* [rows] */
    const uint32_t *view;    /* [rows] */
    const int32_t *label;    /* [rows] */
    const uint64_t *offset;  /* [rows+1] */
    const char *logits;      /* [values] of the codec's dtype */
    const char *index;       /* [values] of the type that C has */
    const uint16_t *draws;   /* [values] */
    const float *row_max;    /* [rows] */
    const float *log_z;      /* [rows] */
    const float *log_tail;   /* [rows] */
    const float *log_z_also; /* [rows][A] */
    const float *log_tail_also;
    const uint32_t *check; /* [rows] */
};

/* "FILE: row 7 (sample 3, view 1): why" */
enum kd_status kd_shard_fail_row(const struct kd_shard *shard, uint64_t row,
                                 const char *why);

/* The first row that is not before (id, view). */
uint64_t kd_shard_lower_bound(const struct kd_shard *shard, uint64_t id, uint32_t view);

/* Verifies row `at` and decodes its C values as kd_shard_read does; of a sparse shard
 * through `room`, which has its values and index set as for kd_shard_row. */
enum kd_status kd_shard_read_row(const struct kd_shard *shard, uint64_t at,
                                 struct kd_row *room, float *values) KD_CHECKED;

/* Room for kd_shard_row of rows of up to `kept` values; `index` for sparse ones. */
enum kd_status kd_row_new(struct kd_row *room, size_t kept, bool sparse) KD_CHECKED;
void kd_row_free(struct kd_row *room);

/* Fetches a row into the processor's cache, in two steps: the second needs what the
 * first has fetched to know where the row's values are. */
void kd_shard_fetch_facts(const struct kd_shard *shard, uint64_t row);
void kd_shard_fetch_values(const struct kd_shard *shard, uint64_t row);

#endif
