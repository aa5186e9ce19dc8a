/* SPDX-License-Identifier: MIT */
/*
 * A merge as a whole. The merged cache's shards are made one after another in the
 * order of ids, each as soon as every teacher has its ids; what the inputs deliver
 * meanwhile is taken in and kept open until it is needed.
 */
#include "kd/merge.h"

#include "kd/cache_writer.h"
#include "kd/file.h"
#include "kd/log.h"
#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/thread.h"
#include "merge/input_internal.h"

#include <stdlib.h>
#include <string.h>

/* A batch holds about so many values of all teachers together. */
#define BATCH_VALUES ((size_t)1 << 20)
#define BATCH_ROWS   4096
#define GRAIN_VALUES 4096

/* Rows on their way from the teachers to the merged shard. */
struct batch {
    size_t capacity, count;
    uint64_t *id;                                  /* [capacity] */
    uint32_t *view;                                /* [capacity] */
    int32_t *label;                                /* [capacity] */
    float *merged;                                 /* [capacity][C] */
    bool *answered;                                /* [capacity] */
    struct kd_merge_rows teacher[KD_MAX_TEACHERS]; /* [capacity] each */
};

struct run {
    struct kd_merge_plan plan;
    const struct kd_merge_options *options;
    const char *directory;
    struct kd_merge_input inputs[KD_MAX_TEACHERS];
    size_t open; /* inputs that were opened */
    struct kd_identity merged;
    uint64_t needed; /* ids below this are done */
    struct kd_cache_writer *writer;

    struct batch batch;
    struct kd_progress progress;
    uint64_t rows_done, unanswered;
};

static enum kd_status check_options(const struct run *run, const char *const *inputs)
{
    size_t stdins = 0;

    for (size_t m = 0; m < run->plan.teachers; m++)
        stdins += strcmp(inputs[m], "-") == 0;
    if (stdins > 1)
        return kd_fail(KD_EUSAGE, "-: only one cache can come from stdin");
    if (run->options->samples_a_shard < 1)
        return kd_fail(KD_EUSAGE, "a shard must have at least 1 sample");
    return KD_OK;
}

static enum kd_status take_all(struct run *run)
{
    enum kd_status status = KD_OK;

    for (size_t m = 0; m < run->plan.teachers && status == KD_OK; m++)
        status = kd_merge_input_take(&run->inputs[m], run->needed);
    return status;
}

/* Waits for paths on any pipe, and takes in what has come on all: one that is left
 * full would be found ready at once for ever. */
static enum kd_status take_more(struct run *run)
{
    const enum kd_status status = kd_merge_inputs_wait(run->inputs, run->plan.teachers);

    return status == KD_OK ? take_all(run) : status;
}

/* Opens the inputs and waits until each has said what it is. */
static enum kd_status open_inputs(struct run *run, const char *const *names)
{
    enum kd_status status = KD_EBUG;
    bool known = false;

    for (; run->open < run->plan.teachers; run->open++)
        KD_TRY(kd_merge_input_open(&run->inputs[run->open], names[run->open]));
    KD_TRY(take_all(run));
    for (;;) {
        known = true;
        for (size_t m = 0; m < run->plan.teachers; m++)
            known &= run->inputs[m].count > 0;
        if (known)
            break;
        KD_TRY(take_more(run));
    }
out:
    return status;
}

/* Takes shards in until every teacher has the ids begin to end-1. */
static enum kd_status wait_for_ids(struct run *run, uint64_t begin, uint64_t end)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(take_all(run));
    for (size_t m = 0; m < run->plan.teachers;) {
        const struct kd_merge_input *input = &run->inputs[m];

        if (kd_merge_input_covers(input, begin, end)) {
            m++;
            continue;
        }
        if (input->ended)
            return kd_merge_input_fail(input, begin);
        KD_TRY(take_more(run));
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status fit(struct run *run)
{
    const struct kd_identity *of = &run->inputs[0].identity;
    const uint64_t begin = run->plan.holdout_begin, end = run->plan.holdout_end;
    enum kd_status status = KD_EBUG;

    if (begin < of->first_id || end > of->first_id + of->num_samples)
        return kd_fail(KD_EUSAGE, "--holdout: the caches have the ids %llu to %llu",
                       (unsigned long long)of->first_id,
                       (unsigned long long)(of->first_id + of->num_samples - 1));
    KD_TRY(wait_for_ids(run, begin, end));
    KD_TRY(kd_merge_fit(&run->plan, run->inputs));
out:
    return status;
}

/* Finds out what the merged cache is: of which teachers, and with what was fitted. */
static enum kd_status identify(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const struct kd_identity *teachers[KD_MAX_TEACHERS];
    const char *names[KD_MAX_TEACHERS];

    for (size_t m = 0; m < run->plan.teachers; m++) {
        teachers[m] = &run->inputs[m].identity;
        names[m] = run->inputs[m].name;
    }
    run->plan.temperature = teachers[0]->temperature;
    KD_TRY(kd_merge_check(&run->plan, teachers, names));
    if (kd_merge_plan_needs_fit(&run->plan))
        KD_TRY(fit(run));
    KD_TRY(kd_merge_identity(&run->plan, teachers, names, &run->options->codec,
                             &run->merged));
    run->plan.keeps_logits = run->merged.value_kind == KD_VALUE_LOGITS;
out:
    return status;
}

static enum kd_status batch_init(struct run *run)
{
    enum kd_status status = KD_EBUG;
    struct batch *batch = &run->batch;
    size_t classes = run->merged.num_classes, values = 0;
    size_t rows = BATCH_VALUES / classes / (run->plan.teachers + 1) + 1;

    batch->capacity = rows < BATCH_ROWS ? rows : BATCH_ROWS;
    values = batch->capacity * classes; /* at most BATCH_VALUES + classes */
    KD_TRY(KD_NEW(batch->id, batch->capacity));
    KD_TRY(KD_NEW(batch->view, batch->capacity));
    KD_TRY(KD_NEW(batch->label, batch->capacity));
    KD_TRY(KD_NEW(batch->merged, values));
    KD_TRY(KD_NEW(batch->answered, batch->capacity));
    for (size_t m = 0; m < run->plan.teachers; m++) {
        KD_TRY(KD_NEW(batch->teacher[m].values, values));
        KD_TRY(KD_NEW(batch->teacher[m].row_max, batch->capacity));
        KD_TRY(KD_NEW(batch->teacher[m].log_z, batch->capacity));
        KD_TRY(KD_NEW(batch->teacher[m].label, batch->capacity));
    }
out:
    return status;
}

static void batch_clear(struct batch *batch)
{
    free(batch->id);
    free(batch->view);
    free(batch->label);
    free(batch->merged);
    free(batch->answered);
    for (size_t m = 0; m < KD_MAX_TEACHERS; m++) {
        free(batch->teacher[m].values);
        free(batch->teacher[m].row_max);
        free(batch->teacher[m].log_z);
        free(batch->teacher[m].label);
    }
}

/* The label that the teachers agree on; who does not know it yields. */
static enum kd_status merge_label(struct run *run, size_t row)
{
    struct batch *batch = &run->batch;
    int32_t label = -1;
    size_t from = 0;

    for (size_t m = 0; m < run->plan.teachers; m++) {
        int32_t other = batch->teacher[m].label[row];

        if (label >= 0 && other >= 0 && other != label)
            return kd_fail(KD_EDATA,
                           "sample %llu has the label %d in %s and %d in %s: they are "
                           "not of the same data",
                           (unsigned long long)batch->id[row], (int)label,
                           run->inputs[from].name, (int)other, run->inputs[m].name);
        if (label < 0 && other >= 0) {
            label = other;
            from = m;
        }
    }
    batch->label[row] = label;
    return KD_OK;
}

/* Reads and merges the batch's rows begin .. end-1; runs on the compute threads. */
static enum kd_status merge_range(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    struct run *run = context;
    struct batch *batch = &run->batch;
    size_t classes = run->merged.num_classes;
    const float *values[KD_MAX_TEACHERS], *row_max[KD_MAX_TEACHERS];
    const float *log_z[KD_MAX_TEACHERS];

    for (size_t m = 0; m < run->plan.teachers; m++) {
        const struct kd_merge_rows to = {batch->teacher[m].values + begin * classes,
                                         batch->teacher[m].row_max + begin,
                                         batch->teacher[m].log_z + begin,
                                         batch->teacher[m].label + begin};

        KD_TRY(kd_merge_input_read(&run->inputs[m], batch->id[begin],
                                   batch->view[begin], end - begin, &to));
        kd_calibrate_rows(run->plan.calibration[m], end - begin, classes, to.values,
                          to.row_max, to.log_z);
        values[m] = to.values;
        row_max[m] = to.row_max;
        log_z[m] = to.log_z;
    }
    for (size_t i = begin; i < end; i++)
        KD_TRY(merge_label(run, i));
    KD_TRY(kd_merge_rows(&run->plan,
                         &(struct kd_policy_rows){.count = end - begin,
                                                  .classes = classes,
                                                  .values = values,
                                                  .row_max = row_max,
                                                  .log_z = log_z,
                                                  .label = batch->label + begin,
                                                  .id = batch->id + begin,
                                                  .view = batch->view + begin},
                         batch->merged + begin * classes, batch->answered + begin));
out:
    return status;
}

/* Merges `count` rows from the `first`-th of a shard. */
static enum kd_status merge_batch(struct run *run, const struct kd_cache_part *part,
                                  uint64_t first, size_t count,
                                  struct kd_shard_writer *writer)
{
    enum kd_status status = KD_EBUG;
    struct batch *batch = &run->batch;
    const struct kd_identity *of = &run->merged;

    for (size_t i = 0; i < count; i++) {
        batch->id[i] = part->begin + (first + i) / of->views;
        batch->view[i] = of->first_view + (uint32_t)((first + i) % of->views);
    }
    KD_TRY(kd_parallel(count, GRAIN_VALUES / of->num_classes + 1, merge_range, run));
    for (size_t i = 0; i < count; i++)
        run->unanswered += !batch->answered[i];
    KD_TRY(kd_shard_writer_add(writer, &(struct kd_rows){.count = count,
                                                         .id = batch->id,
                                                         .view = batch->view,
                                                         .label = batch->label,
                                                         .scaled = batch->merged}));
    run->rows_done += count;
    kd_progress_set(&run->progress, run->rows_done);
    if (kd_interrupted())
        status = kd_fail_interrupted("merging");
out:
    return status;
}

static enum kd_status merge_shard(struct run *run, const struct kd_cache_part *part)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard_writer *writer = NULL;
    size_t count = 0;

    KD_TRY(kd_shard_writer_open(part->path, &run->merged, part->rows,
                                run->options->history, &writer));
    for (uint64_t done = 0; done < part->rows; done += count) {
        const uint64_t left = part->rows - done;

        count = left < run->batch.capacity ? (size_t)left : run->batch.capacity;
        KD_TRY(merge_batch(run, part, done, count, writer));
    }
    status = kd_shard_writer_commit(writer);
    writer = NULL;
out:
    kd_shard_writer_abandon(writer);
    return status;
}

static enum kd_status finish_shard(struct run *run, const struct kd_cache_part *part)
{
    enum kd_status status = KD_EBUG;

    if (!part->kept) {
        KD_TRY(wait_for_ids(run, part->begin, part->end));
        KD_TRY(merge_shard(run, part));
    }
    run->needed = part->end;
    for (size_t m = 0; m < run->plan.teachers; m++)
        kd_merge_input_release(&run->inputs[m], part->end);
    if (run->options->finished != NULL)
        KD_TRY(run->options->finished(run->options->context, part->path));
    status = KD_OK;
out:
    return status;
}

static enum kd_status merge_shards(struct run *run)
{
    enum kd_status status = KD_OK;

    kd_progress_open(&run->progress, "merging", "rows",
                     run->merged.num_samples * run->merged.views);
    kd_progress_resume(&run->progress, run->rows_done);
    for (size_t i = 0; i < kd_cache_writer_count(run->writer) && status == KD_OK; i++)
        status = finish_shard(run, kd_cache_writer_part(run->writer, i));
    kd_progress_close(&run->progress);
    return status;
}

/* Takes what is still to come, so that no producer writes to a closed pipe, and a
 * shard that does not belong is seen. */
static enum kd_status drain(struct run *run)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(take_all(run));
    for (size_t m = 0; m < run->plan.teachers;) {
        if (run->inputs[m].ended)
            m++;
        else
            KD_TRY(take_more(run));
    }
    status = KD_OK;
out:
    return status;
}

/* What policies that may refuse a row did. */
static void report(const struct run *run)
{
    const struct kd_merge_plan *plan = &run->plan;
    const uint64_t asked = run->rows_done - kd_cache_writer_kept_rows(run->writer);

    if (run->unanswered > 0)
        kd_log(KD_LOG_INFO, "%llu of %llu rows had no answer and fell back to the %s",
               (unsigned long long)run->unanswered, (unsigned long long)asked,
               kd_fallback_names[plan->fallback]);
    if (plan->policy == KD_POLICY_NOISY_VOTE && asked > 0) {
        const struct kd_privacy cost =
            kd_privacy_cost(&plan->noise, asked, asked - run->unanswered, plan->delta);

        kd_log(KD_LOG_WARNING,
               "(%.4g, %g)-differentially private, as long as nobody sees the seed, "
               "which the shards hold: publish labels exported from them",
               cost.epsilon, plan->delta);
    }
}

static void run_clear(struct run *run)
{
    for (size_t m = 0; m < run->open; m++)
        kd_merge_input_clear(&run->inputs[m]);
    batch_clear(&run->batch);
    kd_cache_writer_close(run->writer);
}

static enum kd_status run_all(struct run *run, const char *const *inputs)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_merge_plan_check(&run->plan));
    KD_TRY(check_options(run, inputs));
    KD_TRY(kd_make_directory(run->directory)); /* before anybody waits for it */
    KD_TRY(open_inputs(run, inputs));
    KD_TRY(identify(run));
    KD_TRY(kd_cache_writer_open(run->directory, &run->merged,
                                run->options->samples_a_shard, &run->writer));
    run->rows_done = kd_cache_writer_kept_rows(run->writer);
    KD_TRY(batch_init(run));
    KD_TRY(merge_shards(run));
    KD_TRY(drain(run));
    KD_TRY(kd_cache_writer_seal(run->writer));
    report(run);
out:
    return status;
}

enum kd_status kd_merge_run(const struct kd_merge_plan *plan, const char *const *inputs,
                            const char *directory,
                            const struct kd_merge_options *options)
{
    enum kd_status status = KD_EBUG;
    struct run *run = NULL;

    KD_TRY(KD_NEW(run, 1));
    run->plan = *plan;
    run->options = options;
    run->directory = directory;
    status = run_all(run, inputs);
    if (run->plan.class_weights != plan->class_weights)
        free(run->plan.class_weights);
    run_clear(run);
    free(run);
out:
    return status;
}
