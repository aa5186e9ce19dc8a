/* SPDX-License-Identifier: MIT */
/*
 * A batch of rows. Where all inputs are sparse, a row is the classes that they keep,
 * and no memory is a matter of C; else it is all C classes, those of sparse inputs
 * spread. Either way every row is merged by itself.
 */
#include "merge/batch_internal.h"

#include "kd/half.h"
#include "kd/memory.h"
#include "kd/thread.h"
#include "merge/policy_internal.h"
#include "merge/row_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A batch holds about so many values of all teachers together. */
#define BATCH_VALUES ((size_t)1 << 20)
#define BATCH_ROWS   4096
#define GRAIN_VALUES 4096
#define CHUNK_ROWS   64

/* -- opening ------------------------------------------------------------------- */

static bool is_sparse(const struct kd_merge_input *input)
{
    return kd_codec_is_sparse(&input->identity.codec);
}

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

        any |= is_sparse(input);
        mapped |= input->map != NULL;
        batch->completes |= input->known != NULL;
        tops &= !is_sparse(input) || input->keeps_top;
        batch->sparse &= is_sparse(input) && input->map == NULL;
    }
    batch->sparse_output = batch->sparse && can_stay_sparse(codec);
    batch->bounded = any && !mapped && kd_merge_plan_is_bounded(task->plan, tops);
    if (batch->sparse_output && codec->also_temperatures[0] != '\0')
        return kd_fail(KD_EUSAGE, "--also-temperature: sparse caches can be merged at "
                                  "one temperature: give --temperature");
    return KD_OK;
}

static enum kd_status open_dense(struct kd_merge_batch *batch)
{
    enum kd_status status = KD_EBUG;
    const size_t values = batch->capacity * batch->task.merged->num_classes;

    for (size_t m = 0; m < batch->task.plan->teachers; m++) {
        struct kd_merge_rows *rows = &batch->teacher[m];

        KD_TRY(KD_NEW(rows->values, values));
        KD_TRY(KD_NEW(rows->row_max, batch->capacity));
        KD_TRY(KD_NEW(rows->log_z, batch->capacity));
        KD_TRY(KD_NEW(rows->label, batch->capacity));
        if (!batch->task.inputs[m].plain)
            KD_TRY(KD_NEW(rows->log_tail, batch->capacity));
        if (batch->task.may_miss)
            KD_TRY(KD_NEW(rows->present, batch->capacity));
    }
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_merge_batch_open(struct kd_merge_batch *batch,
                                   const struct kd_merge_task *task)
{
    enum kd_status status = KD_EBUG;
    const size_t classes = task->merged->num_classes;
    size_t rows = BATCH_ROWS;

    *batch = (struct kd_merge_batch){.task = *task};
    KD_TRY(choose_way(batch));
    if (!batch->sparse_output)
        rows = BATCH_VALUES / classes / (task->plan->teachers + 1) + 1;
    batch->capacity = rows < BATCH_ROWS ? rows : BATCH_ROWS;
    KD_TRY(KD_NEW(batch->id, batch->capacity));
    KD_TRY(KD_NEW(batch->view, batch->capacity));
    KD_TRY(KD_NEW(batch->label, batch->capacity));
    KD_TRY(KD_NEW(batch->answered, batch->capacity));
    KD_TRY(KD_NEW(batch->partial, batch->capacity));
    KD_TRY(KD_NEW(batch->bound, batch->capacity));
    if (batch->sparse_output) {
        KD_TRY(KD_NEW(batch->chunks, batch->capacity / CHUNK_ROWS + 1));
        KD_TRY(KD_NEW(batch->offset, batch->capacity + 1));
        KD_TRY(KD_NEW(batch->log_rest, batch->capacity));
    } else { /* at most BATCH_VALUES + classes */
        KD_TRY(KD_NEW(batch->merged, batch->capacity * classes));
    }
    if (!batch->sparse)
        KD_TRY(open_dense(batch));
    status = KD_OK;
out:
    return status;
}

static void free_chunk(struct kd_merge_chunk *chunk)
{
    free(chunk->index);
    free(chunk->values);
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
    free(batch->offset);
    free(batch->log_rest);
    free_chunk(&batch->all);
    for (size_t i = 0; batch->chunks != NULL && i <= batch->capacity / CHUNK_ROWS; i++)
        free_chunk(&batch->chunks[i]);
    free(batch->chunks);
    for (size_t m = 0; m < KD_MAX_TEACHERS; m++) {
        free(batch->teacher[m].values);
        free(batch->teacher[m].row_max);
        free(batch->teacher[m].log_z);
        free(batch->teacher[m].label);
        free(batch->teacher[m].log_tail);
        free(batch->teacher[m].present);
    }
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

/* The label that the teachers agree on; who does not know it yields. */
static enum kd_status merge_label(struct kd_merge_batch *batch, size_t row, size_t m,
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

static enum kd_status fail_row(const struct kd_merge_batch *batch, size_t row,
                               enum kd_status status)
{
    kd_error_prefix("sample %llu, view %u", (unsigned long long)batch->id[row],
                    (unsigned)batch->view[row]);
    return status;
}

/* -- dense rows ---------------------------------------------------------------- */

static struct kd_merge_rows rows_from(const struct kd_merge_rows *rows, size_t at,
                                      size_t classes)
{
    return (struct kd_merge_rows){
        .values = rows->values + at * classes,
        .row_max = rows->row_max + at,
        .log_z = rows->log_z + at,
        .label = rows->label + at,
        .log_tail = rows->log_tail != NULL ? rows->log_tail + at : NULL,
        .present = rows->present != NULL ? rows->present + at : NULL};
}

/* Rows begin .. end-1 of teacher m. */
static enum kd_status read_rows(struct kd_merge_batch *batch, size_t m, size_t begin,
                                size_t end)
{
    enum kd_status status = KD_EBUG;
    const struct kd_merge_input *input = &batch->task.inputs[m];
    const size_t classes = batch->task.merged->num_classes;
    struct kd_merge_rows to = rows_from(&batch->teacher[m], begin, classes);
    const struct kd_shard *shard = NULL;
    uint64_t at = 0;

    if (!batch->task.may_miss)
        return kd_merge_input_read(input, batch->id[begin], batch->view[begin],
                                   end - begin, &to);
    for (size_t i = begin; i < end; i++) {
        to = rows_from(&batch->teacher[m], i, classes);
        to.label[0] = -1;
        to.present[0] =
            kd_merge_input_find(input, batch->id[i], batch->view[i], &shard, &at);
        if (to.present[0])
            KD_TRY(kd_merge_input_read(input, batch->id[i], batch->view[i], 1, &to));
    }
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_merge_complete(const struct kd_merge_input *inputs, size_t teachers,
                                 const double *weights,
                                 const struct kd_merge_rows *rows, size_t row)
{
    enum kd_status status = KD_EBUG;
    const size_t classes = inputs[0].classes;
    const bool *known[KD_MAX_TEACHERS];
    float *values[KD_MAX_TEACHERS], row_max[KD_MAX_TEACHERS], log_z[KD_MAX_TEACHERS];
    double own[KD_MAX_TEACHERS];
    size_t of[KD_MAX_TEACHERS], n = 0;
    bool partial = false;

    for (size_t m = 0; m < teachers; m++) {
        if (rows[m].present != NULL && !rows[m].present[row])
            continue;
        partial |= inputs[m].known != NULL;
        known[n] = inputs[m].known;
        values[n] = rows[m].values + row * classes;
        log_z[n] = rows[m].log_z[row];
        row_max[n] = rows[m].row_max[row];
        own[n] = weights[m];
        of[n++] = m;
    }
    if (!partial)
        return KD_OK;
    if (!kd_policy_scale(own, n))
        for (size_t i = 0; i < n; i++)
            own[i] = 1;
    KD_TRY(kd_class_maps_complete(n, classes, known, own, values, row_max, log_z));
    for (size_t i = 0; i < n; i++) {
        rows[of[i]].row_max[row] = row_max[i];
        rows[of[i]].log_z[row] = log_z[i];
    }
out:
    return status;
}

static bool present(const struct kd_merge_batch *batch, size_t m, size_t row)
{
    return batch->teacher[m].present == NULL || batch->teacher[m].present[row];
}

/* Row `row` of the teachers that have it, and the plan for them. */
static enum kd_status take_row(struct kd_merge_batch *batch, size_t row,
                               struct kd_merge_plan *part, struct kd_policy_row *to,
                               double *bounds, bool *tops)
{
    const struct kd_merge_task *task = &batch->task;
    const size_t classes = task->merged->num_classes;
    bool have[KD_MAX_TEACHERS] = {false};
    size_t n = 0;

    *tops = true;
    *to = (struct kd_policy_row){.outcomes = classes,
                                 .classes = classes,
                                 .label = batch->label[row],
                                 .id = batch->id[row],
                                 .view = batch->view[row]};
    for (size_t m = 0; m < task->plan->teachers; m++) {
        const struct kd_merge_rows *rows = &batch->teacher[m];

        have[m] = present(batch, m, row);
        if (!have[m])
            continue;
        bounds[n] = rows->log_tail != NULL ? exp((double)rows->log_tail[row]) : 0;
        *tops &= !is_sparse(&task->inputs[m]) || task->inputs[m].keeps_top;
        to->values[n] = rows->values + row * classes;
        to->row_max[n] = rows->row_max[row];
        to->log_z[n++] = rows->log_z[row];
    }
    batch->partial[row] = n < task->plan->teachers;
    if (!batch->partial[row]) {
        *part = *task->plan;
        return KD_OK;
    }
    return kd_merge_plan_part(task->plan, have, part);
}

/* Merges one row, where some teachers lack it, or a bound is wanted. */
static enum kd_status merge_one(struct kd_merge_batch *batch, size_t row)
{
    enum kd_status status = KD_EBUG;
    struct kd_merge_plan part;
    struct kd_policy_row from;
    double bounds[KD_MAX_TEACHERS];
    bool tops = true;

    status = take_row(batch, row, &part, &from, bounds, &tops);
    if (status != KD_OK)
        return fail_row(batch, row, status);
    KD_TRY(kd_merge_row(&part, &from,
                        batch->merged + row * batch->task.merged->num_classes,
                        &batch->answered[row]));
    if (batch->bounded)
        KD_TRY(kd_merge_bound(&part, &from, batch->answered[row], tops, bounds,
                              &batch->bound[row]));
out:
    return status;
}

/* Merges rows that all teachers have. */
static enum kd_status merge_all(struct kd_merge_batch *batch, size_t begin, size_t end)
{
    const size_t classes = batch->task.merged->num_classes;
    const float *values[KD_MAX_TEACHERS], *row_max[KD_MAX_TEACHERS];
    const float *log_z[KD_MAX_TEACHERS];

    for (size_t m = 0; m < batch->task.plan->teachers; m++) {
        values[m] = batch->teacher[m].values + begin * classes;
        row_max[m] = batch->teacher[m].row_max + begin;
        log_z[m] = batch->teacher[m].log_z + begin;
    }
    return kd_merge_rows(batch->task.plan,
                         &(struct kd_policy_rows){.count = end - begin,
                                                  .classes = classes,
                                                  .values = values,
                                                  .row_max = row_max,
                                                  .log_z = log_z,
                                                  .label = batch->label + begin,
                                                  .id = batch->id + begin,
                                                  .view = batch->view + begin},
                         batch->merged + begin * classes, batch->answered + begin);
}

static enum kd_status find_labels(struct kd_merge_batch *batch, size_t begin,
                                  size_t end)
{
    enum kd_status status = KD_OK;

    for (size_t i = begin; i < end; i++) {
        size_t from = 0;

        batch->label[i] = -1;
        for (size_t m = 0; m < batch->task.plan->teachers && status == KD_OK; m++)
            status = merge_label(batch, i, m, batch->teacher[m].label[i], &from);
    }
    return status;
}

/* Reads and merges the batch's rows begin .. end-1; runs on the compute threads. */
static enum kd_status merge_dense(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    struct kd_merge_batch *batch = context;
    const struct kd_merge_task *task = &batch->task;
    const size_t classes = task->merged->num_classes;

    for (size_t m = 0; m < task->plan->teachers; m++)
        KD_TRY(read_rows(batch, m, begin, end));
    KD_TRY(find_labels(batch, begin, end));
    for (size_t i = begin; i < end && batch->completes; i++)
        KD_TRY(kd_merge_complete(task->inputs, task->plan->teachers, task->weights,
                                 batch->teacher, i));
    for (size_t m = 0; m < task->plan->teachers; m++) {
        const struct kd_merge_rows rows = rows_from(&batch->teacher[m], begin, classes);

        kd_calibrate_rows(task->plan->calibration[m], end - begin, classes, rows.values,
                          rows.row_max, rows.log_z);
    }
    if (!task->may_miss && !batch->bounded)
        return merge_all(batch, begin, end);
    for (size_t i = begin; i < end; i++)
        KD_TRY(merge_one(batch, i));
    status = KD_OK;
out:
    return status;
}

/* -- sparse rows --------------------------------------------------------------- */

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
        KD_TRY(merge_label(batch, row, m, kd_shard_label(shard, at), &from));
        n++;
    }
    *part = *task->plan;
    batch->partial[row] = n < task->plan->teachers;
    status = batch->partial[row] ? kd_merge_plan_part(task->plan, have, part) : KD_OK;
    if (status != KD_OK)
        return fail_row(batch, row, status);
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

/* -- batches ------------------------------------------------------------------- */

enum kd_status kd_merge_batch_run(struct kd_merge_batch *batch, size_t count)
{
    enum kd_status status = KD_EBUG;
    const size_t grain = GRAIN_VALUES / batch->task.merged->num_classes + 1;

    batch->count = count;
    if (!batch->sparse)
        return kd_parallel(count, grain, merge_dense, batch);
    KD_TRY(kd_parallel((count + CHUNK_ROWS - 1) / CHUNK_ROWS, 1, merge_chunks, batch));
    if (batch->sparse_output)
        KD_TRY(join(batch));
out:
    return status;
}

enum kd_status kd_merge_batch_write(struct kd_merge_batch *batch,
                                    struct kd_shard_writer *writer)
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
    return kd_shard_writer_add(writer, &rows);
}
