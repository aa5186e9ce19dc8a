/* SPDX-License-Identifier: MIT */
/* A shard that is being written. */
#ifndef KD_CACHE_SHARD_WRITE_INTERNAL_H
#define KD_CACHE_SHARD_WRITE_INTERNAL_H

#include "cache/shard_internal.h"
#include "kd/file.h"

/* Encoded rows of one column. */
struct kd_column_buffer {
    void *data;
    size_t capacity; /* bytes */
};

struct kd_shard_writer {
    struct kd_identity identity;
    struct kd_pending pending;
    int fd;
    int spool[KD_COLUMN_COUNT]; /* temporary file of a late column, else -1 */
    uint64_t place[KD_COLUMN_COUNT];
    struct kd_bound bound;
    bool has_bound;
    uint64_t rows;            /* announced */
    uint64_t written, values; /* rows and values so far */
    uint64_t last_id;         /* of the row before; valid if written > 0 */
    uint32_t last_view;

    /* the rows that are being added */
    uint64_t settled; /* rows before them */
    struct kd_column_buffer buffers[KD_COLUMN_COUNT];
    uint64_t *slot; /* [count+1] where a row's values are put before their number is
                       known */
    uint64_t *size; /* [count] their number */
    size_t slot_capacity, size_capacity;
};

/* A commit in two steps. The first one makes the file complete; the second takes the
 * digest of its bytes (unless NULL), flushes it to the disk and gives it its name. That
 * takes its time, but neither HDF5 nor the compute threads: any thread may do it. Only
 * the second frees the writer. */
enum kd_status kd_shard_writer_complete(struct kd_shard_writer *writer) KD_CHECKED;
enum kd_status kd_shard_writer_publish(struct kd_shard_writer *writer,
                                       struct kd_digest *digest) KD_CHECKED;

#endif
