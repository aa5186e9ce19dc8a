/* SPDX-License-Identifier: MIT */
/* A batch of rows of all C classes, those of sparse inputs spread: a few at a time, so
 * that they stay in the thread's cache on their way from the shards. */
#include "merge/batch_internal.h"

#include "kd/memory.h"
#include "kd/thread.h"
#include "merge/policy_internal.h"

#include <math.h>
#include <stdlib.h>

/* So many values of each teacher are merged at a time. */
#define FEW_VALUES 2048

/* A thread's share has at least so many values. */
#define SHARE_VALUES 16384

/* One thread's rows. */
struct kd_dense_worker {
    struct kd_merge_rows teacher[KD_MAX_TEACHERS]; /* [few] each */
    float *merged;                                 /* [few][C] */
};

/* Rows of the batch on their way: `at` and those behind it. */
struct few {
    struct kd_merge_batch *batch;
    const struct kd_merge_rows *teacher; /* [M] of [count] each */
    size_t at, count;
    float *out; /* [count][C] */
};

/* -- memory -------------------------------------------------------------------- */

static size_t few_rows(const struct kd_merge_batch *batch)
{
    return FEW_VALUES / batch->task.merged->num_classes + 1;
}

static enum kd_status open_rows(const struct kd_merge_batch *batch, size_t m,
                                struct kd_merge_rows *rows)
{
    enum kd_status status = KD_EBUG;
    const size_t few = few_rows(batch);

    KD_TRY(KD_NEW(rows->values, few * batch->task.merged->num_classes));
    KD_TRY(KD_NEW(rows->row_max, few));
    KD_TRY(KD_NEW(rows->log_z, few));
    KD_TRY(KD_NEW(rows->label, few));
    if (!batch->task.inputs[m].plain)
        KD_TRY(KD_NEW(rows->log_tail, few));
    if (batch->task.may_miss)
        KD_TRY(KD_NEW(rows->present, few));
out:
    return status;
}

static void close_worker(struct kd_dense_worker *worker)
{
    for (size_t m = 0; m < KD_MAX_TEACHERS; m++) {
        free(worker->teacher[m].values);
        free(worker->teacher[m].row_max);
        free(worker->teacher[m].log_z);
        free(worker->teacher[m].label);
        free(worker->teacher[m].log_tail);
        free(worker->teacher[m].present);
    }
    free(worker->merged);
    free(worker);
}

static enum kd_status open_worker(const struct kd_merge_batch *batch,
                                  struct kd_dense_worker **worker)
{
    enum kd_status status = KD_EBUG;
    struct kd_dense_worker *made = NULL;
    const size_t values = few_rows(batch) * batch->task.merged->num_classes;

    KD_TRY(KD_NEW(made, 1));
    KD_TRY(KD_NEW(made->merged, values));
    for (size_t m = 0; m < batch->task.plan->teachers && status == KD_OK; m++)
        status = open_rows(batch, m, &made->teacher[m]);
out:
    if (status == KD_OK)
        *worker = made;
    else if (made != NULL)
        close_worker(made);
    return status;
}

/* A worker for each thread that there is now. */
static enum kd_status open_workers(struct kd_merge_batch *batch)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_grow(&batch->workers, &batch->worker_capacity, kd_threads(),
                   sizeof(struct kd_dense_worker *)));
    while (batch->num_workers < kd_threads()) {
        KD_TRY(open_worker(batch, &batch->workers[batch->num_workers]));
        batch->num_workers++;
    }
out:
    return status;
}

void kd_merge_dense_close(struct kd_merge_batch *batch)
{
    for (size_t i = 0; i < batch->num_workers; i++)
        close_worker(batch->workers[i]);
    free(batch->workers);
}

/* -- reading ------------------------------------------------------------------- */

/* Rows of which some may be missing, one by one. */
static enum kd_status search_rows(const struct few *few, size_t m)
{
    enum kd_status status = KD_OK;
    const struct kd_merge_batch *batch = few->batch;
    const struct kd_merge_input *input = &batch->task.inputs[m];
    const size_t classes = batch->task.merged->num_classes;
    const struct kd_merge_rows *rows = &few->teacher[m];
    const struct kd_shard *shard = NULL;
    uint64_t at = 0;

    for (size_t i = 0; i < few->count && status == KD_OK; i++) {
        const uint64_t id = batch->id[few->at + i];
        const uint32_t view = batch->view[few->at + i];
        const struct kd_merge_rows to = {
            .values = rows->values + i * classes,
            .row_max = rows->row_max + i,
            .log_z = rows->log_z + i,
            .label = rows->label + i,
            .log_tail = rows->log_tail != NULL ? rows->log_tail + i : NULL};

        rows->label[i] = -1;
        rows->present[i] = kd_merge_input_find(input, id, view, &shard, &at);
        if (rows->present[i])
            status = kd_merge_input_read(input, id, view, 1, &to);
    }
    return status;
}

static enum kd_status read_rows(const struct few *few)
{
    enum kd_status status = KD_OK;
    const struct kd_merge_task *task = &few->batch->task;

    for (size_t m = 0; m < task->plan->teachers && status == KD_OK; m++)
        status = task->may_miss
                     ? search_rows(few, m)
                     : kd_merge_input_read(&task->inputs[m], few->batch->id[few->at],
                                           few->batch->view[few->at], few->count,
                                           &few->teacher[m]);
    return status;
}

static enum kd_status find_labels(const struct few *few)
{
    enum kd_status status = KD_OK;

    for (size_t i = 0; i < few->count; i++) {
        size_t from = 0;

        few->batch->label[few->at + i] = -1;
        for (size_t m = 0; m < few->batch->task.plan->teachers && status == KD_OK; m++)
            status = kd_merge_label(few->batch, few->at + i, m,
                                    few->teacher[m].label[i], &from);
    }
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

/* What the policy is to see of the rows. */
static enum kd_status prepare_rows(const struct few *few)
{
    enum kd_status status = KD_EBUG;
    const struct kd_merge_task *task = &few->batch->task;

    KD_TRY(read_rows(few));
    KD_TRY(find_labels(few));
    for (size_t i = 0; i < few->count && few->batch->completes; i++)
        KD_TRY(kd_merge_complete(task->inputs, task->plan->teachers, task->weights,
                                 few->teacher, i));
    for (size_t m = 0; m < task->plan->teachers; m++)
        kd_calibrate_rows(task->plan->calibration[m], few->count,
                          task->merged->num_classes, few->teacher[m].values,
                          few->teacher[m].row_max, few->teacher[m].log_z);
out:
    return status;
}

/* -- merging ------------------------------------------------------------------- */

/* Row `i` of the teachers that have it, and the plan for them. */
static enum kd_status take_row(const struct few *few, size_t i,
                               struct kd_merge_plan *part, struct kd_policy_row *to,
                               double *bounds, bool *tops)
{
    const struct kd_merge_batch *batch = few->batch;
    const struct kd_merge_task *task = &batch->task;
    const size_t classes = task->merged->num_classes, row = few->at + i;
    bool have[KD_MAX_TEACHERS] = {false};
    size_t n = 0;

    *tops = true;
    *to = (struct kd_policy_row){.outcomes = classes,
                                 .classes = classes,
                                 .label = batch->label[row],
                                 .id = batch->id[row],
                                 .view = batch->view[row]};
    for (size_t m = 0; m < task->plan->teachers; m++) {
        const struct kd_merge_rows *rows = &few->teacher[m];

        have[m] = rows->present == NULL || rows->present[i];
        if (!have[m])
            continue;
        bounds[n] = rows->log_tail != NULL ? exp((double)rows->log_tail[i]) : 0;
        *tops &= !kd_merge_input_sparse(&task->inputs[m]) || task->inputs[m].keeps_top;
        to->values[n] = rows->values + i * classes;
        to->row_max[n] = rows->row_max[i];
        to->log_z[n++] = rows->log_z[i];
    }
    batch->partial[row] = n < task->plan->teachers;
    if (!batch->partial[row]) {
        *part = *task->plan;
        return KD_OK;
    }
    return kd_merge_plan_part(task->plan, have, part);
}

/* Merges one row, where some teachers lack it, or a bound is wanted. */
static enum kd_status merge_one(const struct few *few, size_t i)
{
    enum kd_status status = KD_EBUG;
    struct kd_merge_batch *batch = few->batch;
    const size_t row = few->at + i;
    struct kd_merge_plan part;
    struct kd_policy_row from;
    double bounds[KD_MAX_TEACHERS];
    bool tops = true;

    status = take_row(few, i, &part, &from, bounds, &tops);
    if (status != KD_OK)
        return kd_merge_fail_row(batch, row, status);
    KD_TRY(kd_merge_row(&part, &from, few->out + i * batch->task.merged->num_classes,
                        &batch->answered[row]));
    if (batch->bounded)
        KD_TRY(kd_merge_bound(&part, &from, batch->answered[row], tops, bounds,
                              &batch->bound[row]));
out:
    return status;
}

/* Merges rows that all teachers have. */
static enum kd_status merge_all(const struct few *few)
{
    const struct kd_merge_batch *batch = few->batch;
    const float *values[KD_MAX_TEACHERS], *row_max[KD_MAX_TEACHERS];
    const float *log_z[KD_MAX_TEACHERS];

    for (size_t m = 0; m < batch->task.plan->teachers; m++) {
        values[m] = few->teacher[m].values;
        row_max[m] = few->teacher[m].row_max;
        log_z[m] = few->teacher[m].log_z;
    }
    return kd_merge_rows(
        batch->task.plan,
        &(struct kd_policy_rows){.count = few->count,
                                 .classes = batch->task.merged->num_classes,
                                 .values = values,
                                 .row_max = row_max,
                                 .log_z = log_z,
                                 .label = batch->label + few->at,
                                 .id = batch->id + few->at,
                                 .view = batch->view + few->at},
        few->out, batch->answered + few->at);
}

static enum kd_status merge_few(const struct few *few)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(prepare_rows(few));
    if (!few->batch->task.may_miss && !few->batch->bounded)
        return merge_all(few);
    for (size_t i = 0; i < few->count; i++)
        KD_TRY(merge_one(few, i));
    status = KD_OK;
out:
    return status;
}

/* -- a batch ------------------------------------------------------------------- */

/* Into batch->merged; runs on the compute threads. */
static enum kd_status keep_share(void *context, size_t worker, size_t begin, size_t end)
{
    enum kd_status status = KD_OK;
    struct kd_merge_batch *batch = context;
    const size_t most = few_rows(batch);
    struct few few = {.batch = batch, .teacher = batch->workers[worker]->teacher};

    for (few.at = begin; few.at < end && status == KD_OK; few.at += few.count) {
        few.count = end - few.at < most ? end - few.at : most;
        few.out = batch->merged + few.at * batch->task.merged->num_classes;
        status = merge_few(&few);
    }
    return status;
}

enum kd_status kd_merge_dense_run(struct kd_merge_batch *batch)
{
    enum kd_status status = KD_EBUG;
    const size_t share = SHARE_VALUES / batch->task.merged->num_classes + 1;

    KD_TRY(open_workers(batch));
    KD_TRY(kd_parallel_shares(batch->count, share, keep_share, batch));
out:
    return status;
}

/* For the writer, into the worker's own rows. */
static enum kd_status make_rows(void *context, size_t worker, size_t begin, size_t end,
                                const float **scaled)
{
    struct kd_merge_batch *batch = context;
    const struct kd_dense_worker *own = batch->workers[worker];
    const struct few few = {.batch = batch,
                            .teacher = own->teacher,
                            .at = begin,
                            .count = end - begin,
                            .out = own->merged};

    *scaled = own->merged;
    return merge_few(&few);
}

enum kd_status kd_merge_dense_write(struct kd_merge_batch *batch,
                                    struct kd_shard_writer *writer)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(open_workers(batch));
    KD_TRY(kd_shard_writer_make(writer, &(struct kd_row_maker){.count = batch->count,
                                                               .few = few_rows(batch),
                                                               .id = batch->id,
                                                               .view = batch->view,
                                                               .label = batch->label,
                                                               .make = make_rows,
                                                               .context = batch}));
out:
    return status;
}
