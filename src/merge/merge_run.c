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
#include "merge/batch_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct run {
    struct kd_merge_plan plan;
    const struct kd_merge_options *options;
    const char *directory;
    struct kd_merge_input inputs[KD_MAX_TEACHERS];
    size_t open; /* inputs that were opened */
    struct kd_identity merged;
    uint64_t needed; /* ids below this are done */
    struct kd_cache_writer *writer;

    struct kd_merge_batch batch;
    double weights[KD_MAX_TEACHERS]; /* as they were given */
    struct kd_bound bound;           /* of the rows so far; mean: their sum */
    uint64_t bounded_rows;
    struct kd_progress progress;
    uint64_t rows_done, unanswered, partial, skipped;
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

/* Takes shards in until every teacher has the ids begin to end-1, or, where they may be
 * missing, has ended. */
static enum kd_status wait_for_ids(struct run *run, uint64_t begin, uint64_t end,
                                   bool may_miss)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(take_all(run));
    for (size_t m = 0; m < run->plan.teachers;) {
        const struct kd_merge_input *input = &run->inputs[m];

        if ((may_miss && input->ended) || kd_merge_input_covers(input, begin, end)) {
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
    KD_TRY(wait_for_ids(run, begin, end, false));
    KD_TRY(kd_merge_fit(&run->plan, run->weights, run->inputs));
out:
    return status;
}

/* Classes that no teacher knows. */
static enum kd_status warn_of_strangers(const struct run *run)
{
    enum kd_status status = KD_EBUG;
    const size_t classes = run->merged.num_classes;
    bool *unknown = NULL; /* [classes] */
    size_t count = 0, first = 0;

    KD_TRY(KD_NEW(unknown, classes));
    for (size_t c = classes; c-- > 0;) {
        unknown[c] = true;
        for (size_t m = 0; m < run->plan.teachers; m++)
            unknown[c] &= run->inputs[m].known != NULL && !run->inputs[m].known[c];
        count += unknown[c];
        first = unknown[c] ? c : first;
    }
    if (count > 0)
        kd_log(KD_LOG_WARNING,
               "no teacher has %zu of the %zu classes, the first of them %zu: they get "
               "no probability",
               count, classes, first);
out:
    free(unknown);
    return status;
}

/* The temperature of the merged rows, and how those of the inputs get there. */
static enum kd_status prepare(struct run *run,
                              const struct kd_identity *const *teachers,
                              const char *const *names)
{
    enum kd_status status = KD_EBUG;
    const struct kd_merge_options *options = run->options;

    run->plan.temperature =
        options->temperature > 0 ? options->temperature : teachers[0]->temperature;
    KD_TRY(kd_merge_check(&run->plan, options, teachers, names));
    memcpy(run->weights, run->plan.weights, sizeof run->weights);
    if (run->plan.policy == KD_POLICY_LEAVE_ONE_OUT)
        run->weights[run->plan.left_out] = 0;
    run->merged.num_classes = kd_merge_classes(&run->plan, options, teachers);
    for (size_t m = 0; m < run->plan.teachers; m++)
        KD_TRY(kd_merge_input_use(&run->inputs[m], run->plan.temperature,
                                  options->classes != NULL ? &options->classes->of[m]
                                                           : NULL,
                                  run->merged.num_classes));
    KD_TRY(warn_of_strangers(run));
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
    KD_TRY(prepare(run, teachers, names));
    if (kd_merge_plan_needs_fit(&run->plan))
        KD_TRY(fit(run));
    KD_TRY(kd_merge_identity(&run->plan, run->options, teachers, names, &run->merged));
    run->plan.keeps_logits = run->merged.value_kind == KD_VALUE_LOGITS;
out:
    return status;
}

static bool may_miss(const struct run *run)
{
    return run->options->missing != KD_MERGE_MISSING_ERROR;
}

static void count_rows(struct run *run, struct kd_bound *bound)
{
    const struct kd_merge_batch *batch = &run->batch;

    for (size_t i = 0; i < batch->count; i++) {
        run->unanswered += !batch->answered[i];
        run->partial += batch->partial[i];
        bound->mean += batch->bound[i];
        bound->max = fmax(bound->max, batch->bound[i]);
    }
    run->rows_done += batch->count;
    kd_progress_set(&run->progress, run->rows_done);
}

/* The rows of a shard, in order. */
struct cursor {
    uint64_t id;
    uint32_t view; /* from 0 */
};

/* Whether a row is to be merged: it may be one to skip. */
static bool is_wanted(const struct run *run, const struct cursor *at)
{
    const struct kd_shard *shard = NULL;
    uint64_t row = 0;

    if (run->options->missing != KD_MERGE_MISSING_SKIP)
        return true;
    for (size_t m = 0; m < run->plan.teachers; m++)
        if (!kd_merge_input_find(&run->inputs[m], at->id,
                                 run->merged.first_view + at->view, &shard, &row))
            return false;
    return true;
}

static void advance(const struct run *run, struct cursor *at)
{
    if (++at->view == run->merged.views) {
        at->view = 0;
        at->id++;
    }
}

static uint64_t count_wanted(const struct run *run, const struct kd_cache_part *part)
{
    uint64_t count = 0;

    if (run->options->missing != KD_MERGE_MISSING_SKIP)
        return part->rows;
    for (struct cursor at = {part->begin, 0}; at.id < part->end; advance(run, &at))
        count += is_wanted(run, &at);
    return count;
}

/* Merges the next `count` rows of a shard. */
static enum kd_status merge_batch(struct run *run, struct cursor *at, size_t count,
                                  struct kd_shard_writer *writer,
                                  struct kd_bound *bound)
{
    enum kd_status status = KD_EBUG;
    struct kd_merge_batch *batch = &run->batch;

    for (size_t i = 0; i < count; advance(run, at)) {
        if (!is_wanted(run, at))
            continue;
        batch->id[i] = at->id;
        batch->view[i++] = run->merged.first_view + at->view;
    }
    KD_TRY(kd_merge_batch_run(batch, count));
    KD_TRY(kd_merge_batch_write(batch, writer));
    count_rows(run, bound);
    if (kd_interrupted())
        status = kd_fail_interrupted("merging");
out:
    return status;
}

/* Adds a shard's bound to the others'. */
static void add_bound(struct run *run, struct kd_bound bound, uint64_t rows)
{
    run->bound.mean += bound.mean * (double)rows;
    run->bound.max = fmax(run->bound.max, bound.max);
    run->bounded_rows += rows;
}

static enum kd_status merge_shard(struct run *run, const struct kd_cache_part *part)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard_writer *writer = NULL;
    struct kd_bound bound = {0};
    struct cursor at = {part->begin, 0};
    const size_t most = kd_merge_batch_rows(&run->batch);
    size_t count = 0;

    KD_TRY(kd_shard_writer_open(part->path, &run->merged, part->rows,
                                run->options->history, &writer));
    for (uint64_t done = 0; done < part->rows; done += count) {
        const uint64_t left = part->rows - done;

        count = left < most ? (size_t)left : most;
        KD_TRY(merge_batch(run, &at, count, writer, &bound));
    }
    bound.mean /= (double)part->rows;
    if (run->batch.bounded) {
        kd_shard_writer_set_bound(writer, bound);
        add_bound(run, bound, part->rows);
    }
    status = kd_shard_writer_commit(writer);
    writer = NULL;
out:
    kd_shard_writer_abandon(writer);
    return status;
}

/* The bound of a shard that was there already. */
static enum kd_status take_bound(struct run *run, const struct kd_cache_part *part)
{
    enum kd_status status = KD_OK;
    struct kd_shard *shard = NULL;

    if (!run->batch.bounded)
        return KD_OK;
    status = kd_shard_open(part->path, &shard);
    if (status == KD_OK && kd_shard_bound(shard) != NULL)
        add_bound(run, *kd_shard_bound(shard), part->rows);
    kd_shard_close(shard);
    return status;
}

static enum kd_status finish_shard(struct run *run, size_t index)
{
    enum kd_status status = KD_EBUG;
    const struct kd_cache_part *part = kd_cache_writer_part(run->writer, index);
    const uint64_t all = part->rows;

    if (part->kept) {
        KD_TRY(take_bound(run, part));
    } else {
        KD_TRY(wait_for_ids(run, part->begin, part->end, may_miss(run)));
        kd_cache_writer_set_rows(run->writer, index, count_wanted(run, part));
        run->skipped += all - part->rows;
        if (part->rows > 0)
            KD_TRY(merge_shard(run, part));
    }
    run->needed = part->end;
    for (size_t m = 0; m < run->plan.teachers; m++)
        kd_merge_input_release(&run->inputs[m], part->end);
    if (run->options->finished != NULL && part->rows > 0)
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
        status = finish_shard(run, i);
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

static bool any_sparse(const struct run *run)
{
    for (size_t m = 0; m < run->plan.teachers; m++)
        if (kd_codec_is_sparse(&run->inputs[m].identity.codec))
            return true;
    return false;
}

/* What policies that may refuse a row did, and what sparse rows may have cost. */
static void report(const struct run *run)
{
    const struct kd_merge_plan *plan = &run->plan;
    const uint64_t asked = run->rows_done - kd_cache_writer_kept_rows(run->writer);

    if (run->unanswered > 0)
        kd_log(KD_LOG_INFO, "%llu of %llu rows had no answer and fell back to the %s",
               (unsigned long long)run->unanswered, (unsigned long long)asked,
               kd_fallback_names[plan->fallback]);
    if (run->partial > 0)
        kd_log(KD_LOG_WARNING, "%llu of %llu rows lack a teacher",
               (unsigned long long)run->partial, (unsigned long long)asked);
    if (run->skipped > 0)
        kd_log(KD_LOG_WARNING, "%llu rows are skipped, which not all teachers have",
               (unsigned long long)run->skipped);
    if (run->bounded_rows > 0)
        kd_log(KD_LOG_INFO,
               "sparse rows: at most %.6g in total variation from the merge of whole "
               "ones, %.6g in the mean",
               run->bound.max, run->bound.mean / (double)run->bounded_rows);
    else if (any_sparse(run))
        kd_log(KD_LOG_INFO,
               "sparse rows: how far they are from the merge of whole ones is not "
               "bounded under %s%s",
               kd_policy_names[plan->policy],
               run->options->classes != NULL ? " with a class map" : "");
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
    kd_merge_batch_close(&run->batch);
    kd_cache_writer_close(run->writer);
}

static enum kd_status open_writer(struct run *run)
{
    const uint64_t size = run->options->samples_a_shard;

    if (run->options->missing == KD_MERGE_MISSING_SKIP)
        return kd_cache_writer_open_partial(run->directory, &run->merged, size,
                                            &run->writer);
    return kd_cache_writer_open(run->directory, &run->merged, size, &run->writer);
}

static enum kd_status run_all(struct run *run, const char *const *inputs)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_merge_plan_check(&run->plan));
    KD_TRY(check_options(run, inputs));
    KD_TRY(kd_make_directory(run->directory)); /* before anybody waits for it */
    KD_TRY(open_inputs(run, inputs));
    KD_TRY(identify(run));
    KD_TRY(open_writer(run));
    run->rows_done = kd_cache_writer_kept_rows(run->writer);
    KD_TRY(kd_merge_batch_open(&run->batch,
                               &(struct kd_merge_task){.plan = &run->plan,
                                                       .weights = run->weights,
                                                       .inputs = run->inputs,
                                                       .merged = &run->merged,
                                                       .may_miss = may_miss(run)}));
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
