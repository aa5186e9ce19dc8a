/* SPDX-License-Identifier: MIT */
/*
 * A batch of rows. Where all inputs are sparse, a row is the classes that they keep,
 * and no memory is a matter of C (merge_batch_sparse.c); else it is all C classes
 * (merge_batch_dense.c). Either way every row is merged by itself.
 */
#include "merge/batch_internal.h"

#include "kd/memory.h"
#include "merge/policy_internal.h"

#include <stdlib.h>

/* A batch holds about so many merged values, or, of sparse rows, values of all teachers
 * together. */
#define BATCH_VALUES ((size_t)1 << 20)
#define BATCH_ROWS   16384

/* -- opening ------------------------------------------------------------------- */

/* Whether a sparse row can be written as one. */
static bool can_stay_sparse(const struct kd_codec *codec)
{
    return codec->encoding == KD_TOP_K || codec->encoding == KD_TOP_P;
}

/* Which way rows go. */
static enum kd_status choose_way(struct kd_merge_batch *batch)
{
    const struct kd_merge_task *task = &batch->task;
    const struct kd_codec *codec = &task->merged->codec;
    bool any = false, tops = true, mapped = false;

    batch->sparse = !kd_policy_needs_all_classes(task->plan->policy);
    for (size_t m = 0; m < task->plan->teachers; m++) {
        const struct kd_merge_input *input = &task->inputs[m];

        any |= kd_merge_input_sparse(input);
        mapped |= input->map != NULL;
        batch->completes |= input->known != NULL;
        tops &= !kd_merge_input_sparse(input) || input->keeps_top;
        batch->sparse &= kd_merge_input_sparse(input) && input->map == NULL;
    }
    batch->sparse_output = batch->sparse && can_stay_sparse(codec);
    batch->bounded = any && !mapped && kd_merge_plan_is_bounded(task->plan, tops);
    if (batch->sparse_output && codec->also_temperatures[0] != '\0')
        return kd_fail(KD_EUSAGE, "--also-temperature: sparse caches can be merged at "
                                  "one temperature: give --temperature");
    return KD_OK;
}

enum kd_status kd_merge_batch_open(struct kd_merge_batch *batch,
                                   const struct kd_merge_task *task)
{
    enum kd_status status = KD_EBUG;
    size_t rows = BATCH_ROWS;

    *batch = (struct kd_merge_batch){.task = *task};
    KD_TRY(choose_way(batch));
    if (!batch->sparse_output)
        rows = BATCH_VALUES / task->merged->num_classes + 1;
    batch->capacity = rows < BATCH_ROWS ? rows : BATCH_ROWS;
    KD_TRY(KD_NEW(batch->id, batch->capacity));
    KD_TRY(KD_NEW(batch->view, batch->capacity));
    KD_TRY(KD_NEW(batch->label, batch->capacity));
    KD_TRY(KD_NEW(batch->answered, batch->capacity));
    KD_TRY(KD_NEW(batch->partial, batch->capacity));
    KD_TRY(KD_NEW(batch->bound, batch->capacity));
    KD_TRY(kd_merge_sparse_open(batch));
out:
    return status;
}

void kd_merge_batch_close(struct kd_merge_batch *batch)
{
    free(batch->id);
    free(batch->view);
    free(batch->label);
    free(batch->answered);
    free(batch->partial);
    free(batch->bound);
    free(batch->merged);
    kd_merge_sparse_close(batch);
    kd_merge_dense_close(batch);
}

size_t kd_merge_batch_rows(const struct kd_merge_batch *batch)
{
    size_t values = batch->task.merged->codec.k, rows = 0;

    if (!batch->sparse_output)
        return batch->capacity;
    if (batch->task.merged->codec.encoding == KD_TOP_P)
        values = 1;
    for (size_t m = 0; m < batch->task.plan->teachers; m++)
        values += kd_merge_input_kept(&batch->task.inputs[m]);
    rows = BATCH_VALUES / values + 1;
    return rows < batch->capacity ? rows : batch->capacity;
}

/* -- what both ways share ------------------------------------------------------ */

enum kd_status kd_merge_label(struct kd_merge_batch *batch, size_t row, size_t m,
                              int32_t other, size_t *from)
{
    const int32_t label = batch->label[row];

    if (label >= 0 && other >= 0 && other != label)
        return kd_fail(KD_EDATA,
                       "sample %llu has the label %d in %s and %d in %s: they are "
                       "not of the same data",
                       (unsigned long long)batch->id[row], (int)label,
                       batch->task.inputs[*from].name, (int)other,
                       batch->task.inputs[m].name);
    if (label < 0 && other >= 0) {
        batch->label[row] = other;
        *from = m;
    }
    return KD_OK;
}

enum kd_status kd_merge_fail_row(const struct kd_merge_batch *batch, size_t row,
                                 enum kd_status status)
{
    kd_error_prefix("sample %llu, view %u", (unsigned long long)batch->id[row],
                    (unsigned)batch->view[row]);
    return status;
}

/* -- batches ------------------------------------------------------------------- */

enum kd_status kd_merge_batch_run(struct kd_merge_batch *batch, size_t count)
{
    enum kd_status status = KD_EBUG;

    batch->count = count;
    if (!batch->sparse_output)
        KD_TRY(kd_grow(&batch->merged, &batch->merged_capacity,
                       count * batch->task.merged->num_classes, sizeof(float)));
    status = batch->sparse ? kd_merge_sparse_run(batch) : kd_merge_dense_run(batch);
out:
    return status;
}

struct kd_rows kd_merge_batch_merged(const struct kd_merge_batch *batch)
{
    struct kd_rows rows = {.count = batch->count,
                           .id = batch->id,
                           .view = batch->view,
                           .label = batch->label,
                           .scaled = batch->merged};

    if (batch->sparse_output) {
        rows.scaled = batch->all.values;
        rows.index = batch->all.index;
        rows.offset = batch->offset;
        rows.log_rest = batch->log_rest;
    }
    return rows;
}

enum kd_status kd_merge_batch_write(struct kd_merge_batch *batch, size_t count,
                                    struct kd_shard_writer *writer)
{
    enum kd_status status = KD_EBUG;
    struct kd_rows rows;

    batch->count = count;
    if (!batch->sparse)
        return kd_merge_dense_write(batch, writer);
    KD_TRY(kd_merge_batch_run(batch, count));
    rows = kd_merge_batch_merged(batch);
    KD_TRY(kd_shard_writer_add(writer, &rows));
out:
    return status;
}
