/* SPDX-License-Identifier: MIT */
/* A batch of sparse rows: each is the classes that the teachers keep, and no memory is
 * a matter of C unless the merged rows are dense. */
#include "merge/batch_internal.h"

#include "kd/half.h"
#include "kd/memory.h"
#include "kd/thread.h"
#include "merge/policy_internal.h"
#include "merge/row_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_ROWS 64

static void free_chunk(struct kd_merge_chunk *chunk)
{
    free(chunk->index);
    free(chunk->values);
}

/* One thread's memory. */
struct worker {
    struct kd_merge_reader reader[KD_MAX_TEACHERS];
    struct kd_sparse_merge merge;
};

static void worker_clear(struct worker *worker)
{
    for (size_t m = 0; m < KD_MAX_TEACHERS; m++)
        kd_merge_reader_clear(&worker->reader[m]);
    kd_sparse_merge_clear(&worker->merge);
}

/* The teachers' rows, and the plan for those that have one. */
static enum kd_status take_sparse(struct kd_merge_batch *batch, struct worker *worker,
                                  size_t row, struct kd_merge_plan *part,
                                  struct kd_sparse_rows *rows)
{
    enum kd_status status = KD_EBUG;
    const struct kd_merge_task *task = &batch->task;
    bool have[KD_MAX_TEACHERS] = {false};
    size_t n = 0, from = 0;

    batch->label[row] = -1;
    for (size_t m = 0; m < task->plan->teachers; m++) {
        const struct kd_shard *shard = NULL;
        uint64_t at = 0;

        have[m] = kd_merge_input_find(&task->inputs[m], batch->id[row],
                                      batch->view[row], &shard, &at);
        if (!have[m])
            continue;
        KD_TRY(kd_merge_read_sparse(&worker->reader[m], &task->inputs[m], shard, at,
                                    &rows->teacher[n]));
        kd_sparse_calibrate(task->plan->calibration[m], task->merged->num_classes,
                            worker->reader[m].row.values, &rows->teacher[n]);
        KD_TRY(kd_merge_label(batch, row, m, kd_shard_label(shard, at), &from));
        n++;
    }
    *part = *task->plan;
    batch->partial[row] = n < task->plan->teachers;
    status = batch->partial[row] ? kd_merge_plan_part(task->plan, have, part) : KD_OK;
    if (status != KD_OK)
        return kd_merge_fail_row(batch, row, status);
    rows->label = batch->label[row];
out:
    return status;
}

/* A merged row of all classes: the rest evenly over those that are not outcomes. */
static void spread(const struct kd_sparse_merge *merge, size_t classes, float *to)
{
    const size_t n = merge->outcomes, rest = classes - (n - 1);
    double each = -(double)KD_HALF_MAX;

    if (rest > 0)
        each = (double)merge->merged[n - 1] - log((double)rest);
    for (size_t c = 0; c < classes; c++)
        to[c] = (float)fmax(each, -(double)KD_HALF_MAX);
    for (size_t i = 0; i + 1 < n; i++)
        to[merge->class_of[i]] = merge->merged[i];
}

/* Puts a merged row behind those of its chunk. */
static enum kd_status keep(struct kd_merge_batch *batch,
                           const struct kd_sparse_merge *merge, size_t row)
{
    enum kd_status status = KD_EBUG;
    struct kd_merge_chunk *chunk = &batch->chunks[row / CHUNK_ROWS];
    const size_t n = merge->outcomes - 1;

    KD_TRY(kd_grow(&chunk->index, &chunk->index_capacity, chunk->used + n,
                   sizeof *chunk->index));
    KD_TRY(kd_grow(&chunk->values, &chunk->value_capacity, chunk->used + n,
                   sizeof *chunk->values));
    memcpy(chunk->index + chunk->used, merge->class_of, n * sizeof *chunk->index);
    memcpy(chunk->values + chunk->used, merge->merged, n * sizeof *chunk->values);
    chunk->used += n;
    batch->offset[row + 1] = n; /* a length, until all are known */
    batch->log_rest[row] = merge->merged[n];
out:
    return status;
}

static enum kd_status merge_sparse_row(struct kd_merge_batch *batch,
                                       struct worker *worker, size_t row)
{
    enum kd_status status = KD_EBUG;
    const struct kd_merge_task *task = &batch->task;
    const unsigned traits = kd_policy_rule(task->plan->policy)->traits;
    const size_t classes = task->merged->num_classes;
    const bool top_k = task->merged->codec.encoding == KD_TOP_K;
    struct kd_sparse_rows rows = {.classes = classes,
                                  .at_least = top_k ? task->merged->codec.k : 1,
                                  .needs_label =
                                      (traits & (KD_NEEDS_LABEL | KD_FALLS_BACK)) != 0,
                                  .id = batch->id[row],
                                  .view = batch->view[row]};
    struct kd_merge_plan part;

    KD_TRY(take_sparse(batch, worker, row, &part, &rows));
    KD_TRY(kd_sparse_merge_row(&worker->merge, &part, &rows));
    batch->answered[row] = worker->merge.answered;
    batch->bound[row] = batch->bounded ? worker->merge.bound : 0;
    if (batch->sparse_output)
        KD_TRY(keep(batch, &worker->merge, row));
    else
        spread(&worker->merge, classes, batch->merged + row * classes);
out:
    return status;
}

/* The rows of the chunks begin .. end-1; runs on the compute threads. */
static enum kd_status merge_chunks(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    struct kd_merge_batch *batch = context;
    struct worker *worker = NULL;

    KD_TRY(KD_NEW(worker, 1));
    for (size_t chunk = begin; chunk < end; chunk++) {
        const size_t first = chunk * CHUNK_ROWS, left = batch->count - first;
        const size_t n = left < CHUNK_ROWS ? left : CHUNK_ROWS;

        if (batch->sparse_output)
            batch->chunks[chunk].used = 0;
        for (size_t i = 0; i < n; i++)
            KD_TRY(merge_sparse_row(batch, worker, first + i));
    }
    status = KD_OK;
out:
    if (worker != NULL)
        worker_clear(worker);
    free(worker);
    return status;
}

/* Brings the chunks together. */
static enum kd_status join(struct kd_merge_batch *batch)
{
    enum kd_status status = KD_EBUG;
    struct kd_merge_chunk *all = &batch->all;

    for (size_t i = 0; i < batch->count; i++)
        batch->offset[i + 1] += batch->offset[i];
    KD_TRY(kd_grow(&all->index, &all->index_capacity,
                   (size_t)batch->offset[batch->count], sizeof *all->index));
    KD_TRY(kd_grow(&all->values, &all->value_capacity,
                   (size_t)batch->offset[batch->count], sizeof *all->values));
    for (size_t first = 0; first < batch->count; first += CHUNK_ROWS) {
        const struct kd_merge_chunk *chunk = &batch->chunks[first / CHUNK_ROWS];

        memcpy(all->index + batch->offset[first], chunk->index,
               chunk->used * sizeof *all->index);
        memcpy(all->values + batch->offset[first], chunk->values,
               chunk->used * sizeof *all->values);
    }
out:
    return status;
}

enum kd_status kd_merge_sparse_open(struct kd_merge_batch *batch)
{
    enum kd_status status = KD_OK;

    if (!batch->sparse_output)
        return KD_OK;
    KD_TRY(KD_NEW(batch->chunks, batch->capacity / CHUNK_ROWS + 1));
    KD_TRY(KD_NEW(batch->offset, batch->capacity + 1));
    KD_TRY(KD_NEW(batch->log_rest, batch->capacity));
out:
    return status;
}

void kd_merge_sparse_close(struct kd_merge_batch *batch)
{
    free(batch->offset);
    free(batch->log_rest);
    free_chunk(&batch->all);
    for (size_t i = 0; batch->chunks != NULL && i <= batch->capacity / CHUNK_ROWS; i++)
        free_chunk(&batch->chunks[i]);
    free(batch->chunks);
}

enum kd_status kd_merge_sparse_run(struct kd_merge_batch *batch)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_parallel((batch->count + CHUNK_ROWS - 1) / CHUNK_ROWS, 1, merge_chunks,
                       batch));
    if (batch->sparse_output)
        KD_TRY(join(batch));
out:
    return status;
}
