/* SPDX-License-Identifier: MIT */
/*
 * A merge as a whole. The merged cache's shards are made one after another in the
 * order of ids, each as soon as every teacher has its ids; what pipes deliver meanwhile
 * is taken in and kept open until it is needed. While a shard goes to the disk, the
 * next one is made.
 */
#include "kd/merge.h"

#include "kd/cache_writer.h"
#include "kd/log.h"
#include "kd/memory.h"
#include "kd/progress.h"
#include "merge/batch_internal.h"
#include "merge/open_internal.h"

#include <math.h>
#include <stdlib.h>

struct run {
    struct kd_merge_opened opened;
    const struct kd_merge_options *options;
    const char *directory;
    struct kd_cache_writer *writer;
    const struct kd_cache_part *unsaid; /* its path was not told yet; NULL: none */

    struct kd_merge_batch batch;
    struct kd_bound bound; /* of the rows so far; mean: their sum */
    uint64_t bounded_rows;
    struct kd_progress progress;
    uint64_t rows_done, unanswered, partial, skipped;
};

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
    for (size_t m = 0; m < run->opened.plan.teachers; m++)
        if (!kd_merge_input_find(&run->opened.inputs[m], at->id,
                                 run->opened.merged.first_view + at->view, &shard,
                                 &row))
            return false;
    return true;
}

static void advance(const struct run *run, struct cursor *at)
{
    if (++at->view == run->opened.merged.views) {
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
        batch->view[i++] = run->opened.merged.first_view + at->view;
    }
    KD_TRY(kd_merge_batch_write(batch, count, writer));
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

/* Merges a shard's rows into a writer, which is the caller's then. */
static enum kd_status merge_shard(struct run *run, const struct kd_cache_part *part,
                                  struct kd_shard_writer **shard)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard_writer *writer = NULL;
    struct kd_bound bound = {0};
    struct cursor at = {part->begin, 0};
    const size_t most = kd_merge_batch_rows(&run->batch);
    size_t count = 0;

    KD_TRY(kd_shard_writer_open(part->path, &run->opened.merged, part->rows,
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
    *shard = writer;
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

static enum kd_status tell(const struct run *run, const struct kd_cache_part *part)
{
    if (run->options->finished == NULL || part->rows == 0)
        return KD_OK;
    return run->options->finished(run->options->context, part->path);
}

/* Waits for the shard that was committed last, and tells its path. */
static enum kd_status settle(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const struct kd_cache_part *part = run->unsaid;

    run->unsaid = NULL;
    KD_TRY(kd_cache_writer_wait(run->writer));
    if (part != NULL)
        KD_TRY(tell(run, part));
out:
    return status;
}

/* Takes shards in until every teacher has the part's ids, or, where they may be
 * missing, has ended. */
static enum kd_status wait_for_ids(struct run *run, const struct kd_cache_part *part)
{
    enum kd_status status = KD_EBUG;
    bool there = false;

    for (;;) {
        KD_TRY(kd_merge_opened_take(&run->opened, part->begin, part->end, may_miss(run),
                                    &there));
        if (there)
            break;
        KD_TRY(settle(run)); /* somebody may be waiting for it */
        KD_TRY(kd_merge_opened_more(&run->opened));
    }
out:
    return status;
}

/* Makes a shard, but does not wait until it is on the disk. */
static enum kd_status make_shard(struct run *run, size_t index)
{
    enum kd_status status = KD_EBUG;
    const struct kd_cache_part *part = kd_cache_writer_part(run->writer, index);
    const uint64_t all = part->rows;
    const struct kd_cache_part *before = NULL;
    struct kd_shard_writer *shard = NULL;

    KD_TRY(wait_for_ids(run, part));
    kd_cache_writer_set_rows(run->writer, index, count_wanted(run, part));
    run->skipped += all - part->rows;
    if (part->rows == 0)
        return KD_OK;
    KD_TRY(merge_shard(run, part, &shard));
    KD_TRY(kd_cache_writer_commit(run->writer, index, shard));
    before = run->unsaid;
    run->unsaid = part;
    if (before != NULL)
        KD_TRY(tell(run, before));
out:
    return status;
}

static enum kd_status finish_shard(struct run *run, size_t index)
{
    enum kd_status status = KD_EBUG;
    const struct kd_cache_part *part = kd_cache_writer_part(run->writer, index);

    if (part->kept) {
        KD_TRY(take_bound(run, part));
        KD_TRY(settle(run));
        KD_TRY(tell(run, part));
    } else {
        KD_TRY(make_shard(run, index));
    }
    run->opened.needed = part->end;
    for (size_t m = 0; m < run->opened.plan.teachers; m++)
        kd_merge_input_release(&run->opened.inputs[m], part->end);
out:
    return status;
}

static enum kd_status merge_shards(struct run *run)
{
    enum kd_status status = KD_OK;

    kd_progress_open(&run->progress, "merging", "rows",
                     run->opened.merged.num_samples * run->opened.merged.views);
    kd_progress_resume(&run->progress, run->rows_done);
    for (size_t i = 0; i < kd_cache_writer_count(run->writer) && status == KD_OK; i++)
        status = finish_shard(run, i);
    if (status == KD_OK)
        status = settle(run);
    kd_progress_close(&run->progress);
    return status;
}

static bool any_sparse(const struct run *run)
{
    for (size_t m = 0; m < run->opened.plan.teachers; m++)
        if (kd_codec_is_sparse(&run->opened.inputs[m].identity.codec))
            return true;
    return false;
}

/* What policies that may refuse a row did, and what sparse rows may have cost. */
static void report(const struct run *run)
{
    const struct kd_merge_plan *plan = &run->opened.plan;
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
    kd_cache_writer_close(run->writer);
    kd_merge_batch_close(&run->batch);
    kd_merge_opened_close(&run->opened);
}

static enum kd_status open_writer(struct run *run)
{
    const uint64_t asked = run->options->samples_a_shard;
    const uint64_t size =
        asked > 0 ? asked : kd_cache_samples_a_shard(&run->opened.merged);

    if (run->options->missing == KD_MERGE_MISSING_SKIP)
        return kd_cache_writer_open_partial(run->directory, &run->opened.merged, size,
                                            &run->writer);
    return kd_cache_writer_open(run->directory, &run->opened.merged, size,
                                &run->writer);
}

static enum kd_status run_all(struct run *run, const struct kd_merge_plan *plan,
                              const char *const *inputs)
{
    enum kd_status status = KD_EBUG;
    struct kd_merge_opened *opened = &run->opened;

    KD_TRY(kd_merge_opened_start(opened, plan, inputs, run->options, run->directory));
    KD_TRY(open_writer(run));
    run->rows_done = kd_cache_writer_kept_rows(run->writer);
    KD_TRY(kd_merge_batch_open(&run->batch,
                               &(struct kd_merge_task){.plan = &opened->plan,
                                                       .weights = opened->weights,
                                                       .inputs = opened->inputs,
                                                       .merged = &opened->merged,
                                                       .may_miss = may_miss(run)}));
    KD_TRY(merge_shards(run));
    KD_TRY(kd_merge_opened_drain(opened));
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
    run->options = options;
    run->directory = directory;
    status = run_all(run, plan, inputs);
    run_clear(run);
    free(run);
out:
    return status;
}
