/* SPDX-License-Identifier: MIT */
/* The HDF5 side of a shard that is being written: attributes and empty datasets. */
#ifndef KD_CACHE_SHARD_CREATE_INTERNAL_H
#define KD_CACHE_SHARD_CREATE_INTERNAL_H

#include "cache/shard_internal.h"

#include <stdbool.h>
#include <stdint.h>

/* Whether a column's extent is known only when all rows are there: the values of
 * ragged rows. */
bool kd_column_is_late(const struct kd_identity *identity, enum kd_column column);

/* Makes the file, not complete, with all columns but the late ones; place[column] is
 * where its bytes belong. */
enum kd_status kd_shard_create(const char *path, const struct kd_identity *identity,
                               uint64_t rows, const char *history,
                               uint64_t place[KD_COLUMN_COUNT]) KD_CHECKED;

/* Adds the late columns, for `values` values; nothing where there are none. */
enum kd_status kd_shard_create_late(const char *path,
                                    const struct kd_identity *identity, uint64_t rows,
                                    uint64_t values,
                                    uint64_t place[KD_COLUMN_COUNT]) KD_CHECKED;

enum kd_status kd_shard_set_complete(const char *path,
                                     const struct kd_bound *bound) KD_CHECKED;

#endif
