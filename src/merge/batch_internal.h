/* SPDX-License-Identifier: MIT */
/* Rows on their way from the teachers to a merged shard, a batch at a time. */
#ifndef KD_MERGE_BATCH_INTERNAL_H
#define KD_MERGE_BATCH_INTERNAL_H

#include "kd/merge.h"
#include "merge/input_internal.h"

/* What is merged, and how: set before the batch is opened. */
struct kd_merge_task {
    const struct kd_merge_plan *plan; /* checked and fitted */
    const double *weights;            /* [M] as they were given, for completion */
    const struct kd_merge_input *inputs;
    const struct kd_identity *merged;
    bool may_miss; /* rows of some teachers may be missing */
};

/* Classes and values of a few rows, one after another. */
struct kd_merge_chunk {
    uint32_t *index;
    float *values;
    size_t used, index_capacity, value_capacity;
};

struct kd_merge_batch {
    struct kd_merge_task task;
    bool sparse; /* all inputs are: only the classes that are kept are looked at */
    bool sparse_output; /* and only those are written */
    bool bounded;       /* rows have bounds */
    bool completes;     /* a teacher knows only some of the classes */
    size_t capacity, count;
    uint64_t *id;   /* [capacity] */
    uint32_t *view; /* [capacity] */
    int32_t *label; /* [capacity] */
    bool *answered; /* [capacity] */
    bool *partial;  /* [capacity] a teacher lacks it */
    double *bound;  /* [capacity] 0 where there is none */
    float
        *merged; /* [count][C] of kd_merge_batch_run; NULL where the output is sparse */
    size_t merged_capacity;

    /* dense: a few rows of each compute thread */
    struct kd_dense_worker **workers; /* [num_workers] */
    size_t num_workers, worker_capacity;

    /* sparse output */
    struct kd_merge_chunk *chunks; /* [chunks of capacity] */
    uint64_t *offset;              /* [capacity+1] */
    float *log_rest;               /* [capacity] */
    struct kd_merge_chunk all;     /* of all rows */
};

/* Memory for batches. KD_EUSAGE where the merged cache cannot be written so. */
enum kd_status kd_merge_batch_open(struct kd_merge_batch *batch,
                                   const struct kd_merge_task *task) KD_CHECKED;
void kd_merge_batch_close(struct kd_merge_batch *batch); /* a zeroed one is fine */

/* How many rows should be taken at a time, for the shards that are open. */
size_t kd_merge_batch_rows(const struct kd_merge_batch *batch);

/* Reads and merges `count` rows, of the id and view that are set, on the compute
 * threads, for kd_merge_batch_merged. They are consecutive ones unless the task's rows
 * may be missing, where any do. */
enum kd_status kd_merge_batch_run(struct kd_merge_batch *batch,
                                  size_t count) KD_CHECKED;
struct kd_rows kd_merge_batch_merged(const struct kd_merge_batch *batch);

/* The same straight into a shard; dense rows are nowhere as a whole. */
enum kd_status kd_merge_batch_write(struct kd_merge_batch *batch, size_t count,
                                    struct kd_shard_writer *writer) KD_CHECKED;

/* -- the two ways ----------------------------------------------------------------- */

static inline bool kd_merge_input_sparse(const struct kd_merge_input *input)
{
    return kd_codec_is_sparse(&input->identity.codec);
}

/* The label that the teachers agree on; who does not know it yields. *from is whose
 * label row `row` has, teacher m's is `other`. */
enum kd_status kd_merge_label(struct kd_merge_batch *batch, size_t row, size_t m,
                              int32_t other, size_t *from) KD_CHECKED;

/* Puts the row's id and view before the message; returns the status. */
enum kd_status kd_merge_fail_row(const struct kd_merge_batch *batch, size_t row,
                                 enum kd_status status);

/* merge_batch_sparse.c: into `merged`, or `all` and `offset`. */
enum kd_status kd_merge_sparse_open(struct kd_merge_batch *batch) KD_CHECKED;
void kd_merge_sparse_close(struct kd_merge_batch *batch);
enum kd_status kd_merge_sparse_run(struct kd_merge_batch *batch) KD_CHECKED;

/* merge_batch_dense.c: into `merged`, or a shard. */
void kd_merge_dense_close(struct kd_merge_batch *batch);
enum kd_status kd_merge_dense_run(struct kd_merge_batch *batch) KD_CHECKED;
enum kd_status kd_merge_dense_write(struct kd_merge_batch *batch,
                                    struct kd_shard_writer *writer) KD_CHECKED;

#endif
