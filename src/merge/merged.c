/* SPDX-License-Identifier: MIT */
/* Rows of a merged cache that is not there: merged, encoded and decoded when they are
 * asked for. */
#include "kd/merged.h"

#include "kd/cache.h"
#include "kd/list.h"
#include "kd/memory.h"
#include "kd/thread.h"
#include "merge/batch_internal.h"
#include "merge/open_internal.h"

#include <stdlib.h>
#include <string.h>

#define GRAIN_VALUES 4096

struct kd_merged {
    char *name;   /* the caches' titles with commas between them */
    char **names; /* of the caches */
    size_t teachers;
    struct kd_merge_plan plan; /* as the arguments say */
    struct kd_class_maps classes;
    struct kd_merge_options options;
    struct kd_merge_opened opened;
    struct kd_merge_batch batch;
    size_t *wanted; /* [capacity of the batch] which of the rows asked for it is */
};

/* -- opening -------------------------------------------------------------------- */

/* As kd-merge's own defaults are. */
static enum kd_status choose_options(struct kd_merged *merged,
                                     const struct kd_merge_args *args)
{
    enum kd_status status = KD_EBUG;

    merged->options = (struct kd_merge_options){.encode_as_inputs = true};
    KD_TRY(kd_codec_from_args(&(struct kd_codec_args){0}, 0, &merged->options.codec));
    KD_TRY(kd_merge_from_args(args, merged->teachers, &merged->plan, &merged->classes,
                              &merged->options));
out:
    return status;
}

static enum kd_status join_names(struct kd_merged *merged)
{
    for (size_t m = 0; m < merged->teachers; m++) {
        const char *name = merged->opened.inputs[m].name;
        char *all =
            m == 0 ? kd_copy_string(name) : kd_format("%s,%s", merged->name, name);

        if (all == NULL)
            return KD_EMEMORY;
        free(merged->name);
        merged->name = all;
    }
    return KD_OK;
}

/* Under --missing error a merge ends at the first row that a teacher lacks. */
static enum kd_status check_covered(const struct kd_merged *merged)
{
    const struct kd_identity *of = &merged->opened.merged;
    const uint64_t end = of->first_id + of->num_samples;

    if (merged->options.missing != KD_MERGE_MISSING_ERROR)
        return KD_OK;
    for (size_t m = 0; m < merged->teachers; m++)
        if (!kd_merge_input_covers(&merged->opened.inputs[m], of->first_id, end))
            return kd_merge_input_fail(&merged->opened.inputs[m], of->first_id);
    return KD_OK;
}

static enum kd_status open_batch(struct kd_merged *merged)
{
    enum kd_status status = KD_EBUG;
    const struct kd_merge_task task = {.plan = &merged->opened.plan,
                                       .weights = merged->opened.weights,
                                       .inputs = merged->opened.inputs,
                                       .merged = &merged->opened.merged,
                                       .may_miss = true}; /* rows come in any order */

    KD_TRY(kd_merge_batch_open(&merged->batch, &task));
    KD_TRY(KD_NEW(merged->wanted, merged->batch.capacity));
out:
    return status;
}

enum kd_status kd_merged_open(const char *caches, const struct kd_merge_args *args,
                              size_t left_out, struct kd_merged **merged)
{
    enum kd_status status = KD_EMEMORY;
    struct kd_merged *made = NULL;

    KD_TRY(KD_NEW(made, 1));
    KD_TRY(kd_list_paths(caches, "labels", &made->names, &made->teachers));
    if (made->teachers > KD_MAX_TEACHERS) {
        status = kd_fail(KD_EUSAGE, "%s: more than %d caches", caches, KD_MAX_TEACHERS);
        goto out;
    }
    KD_TRY(choose_options(made, args));
    made->plan.left_out = left_out;
    KD_TRY(kd_merge_open(&made->plan, (const char *const *)made->names, &made->options,
                         &made->opened));
    KD_TRY(join_names(made));
    KD_TRY(check_covered(made));
    KD_TRY(open_batch(made));
    *merged = made;
    made = NULL;
out:
    kd_merged_close(made);
    return status;
}

void kd_merged_close(struct kd_merged *merged)
{
    if (merged == NULL)
        return;
    kd_merge_batch_close(&merged->batch);
    kd_merge_opened_close(&merged->opened);
    kd_merge_plan_clear(&merged->plan);
    kd_class_maps_clear(&merged->classes);
    free(merged->wanted);
    free(merged->name);
    kd_list_free(merged->names);
    free(merged);
}

/* -- facts ------------------------------------------------------------------------ */

const struct kd_identity *kd_merged_identity(const struct kd_merged *merged)
{
    return &merged->opened.merged;
}

const char *kd_merged_name(const struct kd_merged *merged)
{
    return merged->name;
}

size_t kd_merged_teachers(const struct kd_merged *merged)
{
    return merged->teachers;
}

uint64_t kd_merged_bytes(const struct kd_merged *merged)
{
    uint64_t bytes = 0;

    for (size_t m = 0; m < merged->teachers; m++)
        for (size_t i = 0; i < merged->opened.inputs[m].count; i++)
            bytes += kd_shard_bytes(merged->opened.inputs[m].parts[i].shard);
    return bytes;
}

bool kd_merged_lasts(const struct kd_merged *merged)
{
    for (size_t m = 0; m < merged->teachers; m++)
        if (!kd_cache_lasts(merged->names[m]))
            return false;
    return true;
}

/* Whether the merged cache would have a row: where any input has it, or where all do.
 */
static bool has_row(const struct kd_merged *merged, uint64_t id, uint32_t view)
{
    const bool any = merged->options.missing == KD_MERGE_MISSING_RENORMALISE;
    const struct kd_shard *shard = NULL;
    uint64_t at = 0;

    for (size_t m = 0; m < merged->teachers; m++)
        if (kd_merge_input_find(&merged->opened.inputs[m], id, view, &shard, &at) ==
            any)
            return any;
    return !any;
}

enum kd_status kd_merged_whole(const struct kd_merged *merged)
{
    const struct kd_identity *of = &merged->opened.merged;
    uint64_t missing = 0, first = 0;
    uint32_t first_view = 0;

    if (merged->options.missing == KD_MERGE_MISSING_ERROR)
        return KD_OK; /* which was checked when it was opened */
    for (uint64_t id = of->first_id; id < of->first_id + of->num_samples; id++) {
        for (uint32_t v = of->first_view; v < of->first_view + of->views; v++) {
            if (has_row(merged, id, v) || missing++ > 0)
                continue;
            first = id;
            first_view = v;
        }
    }
    if (missing == 0)
        return KD_OK;
    return kd_fail(KD_EDATA,
                   "%s: %llu of %llu rows are missing, the first of them sample %llu, "
                   "view %u",
                   merged->name, (unsigned long long)missing,
                   (unsigned long long)(of->num_samples * of->views),
                   (unsigned long long)first, (unsigned)first_view);
}

void kd_merged_set_verify(struct kd_merged *merged, bool verify)
{
    for (size_t m = 0; m < merged->teachers; m++)
        for (size_t i = 0; i < merged->opened.inputs[m].count; i++)
            kd_shard_set_verify(merged->opened.inputs[m].parts[i].shard, verify);
}

/* -- reading ---------------------------------------------------------------------- */

struct reading {
    const struct kd_merged *merged;
    struct kd_rows rows;
    kd_merged_visit *visit;
    void *context;
};

static enum kd_status visit_range(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    const struct reading *reading = context;
    struct kd_recoder *recoder = NULL;
    struct kd_row row;

    KD_TRY(kd_recoder_new(&reading->merged->opened.merged, &reading->rows, &recoder));
    for (size_t i = begin; i < end; i++) {
        KD_TRY(kd_recode_row(recoder, i, &row));
        KD_TRY(reading->visit(reading->context, reading->merged->wanted[i], &row));
    }
    status = KD_OK;
out:
    kd_recoder_free(recoder);
    return status;
}

/* The rows that were put into the batch. */
static enum kd_status read_batch(struct kd_merged *merged, size_t count,
                                 kd_merged_visit *visit, void *context)
{
    enum kd_status status = KD_EBUG;
    const size_t grain = GRAIN_VALUES / merged->opened.merged.num_classes + 1;
    struct reading reading = {.merged = merged, .visit = visit, .context = context};

    if (count == 0)
        return KD_OK;
    KD_TRY(kd_merge_batch_run(&merged->batch, count));
    reading.rows = kd_merge_batch_merged(&merged->batch);
    KD_TRY(kd_parallel(count, grain, visit_range, &reading));
out:
    return status;
}

enum kd_status kd_merged_read(struct kd_merged *merged, const uint64_t *ids,
                              const uint32_t *views, size_t count,
                              kd_merged_visit *visit, void *context)
{
    enum kd_status status = KD_EBUG;
    const size_t most = kd_merge_batch_rows(&merged->batch);
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        if (!has_row(merged, ids[i], views[i])) {
            KD_TRY(visit(context, i, NULL));
            continue;
        }
        merged->batch.id[n] = ids[i];
        merged->batch.view[n] = views[i];
        merged->wanted[n++] = i;
        if (n < most)
            continue;
        KD_TRY(read_batch(merged, n, visit, context));
        n = 0;
    }
    KD_TRY(read_batch(merged, n, visit, context));
out:
    return status;
}

static void advise(const struct kd_merged *merged, uint64_t begin, uint64_t end,
                   void (*hint)(const struct kd_shard *shard, uint64_t row,
                                uint64_t count))
{
    for (size_t m = 0; m < merged->teachers; m++)
        kd_merge_input_advise(&merged->opened.inputs[m], begin, end, hint);
}

void kd_merged_prefetch(const struct kd_merged *merged, uint64_t begin, uint64_t end)
{
    advise(merged, begin, end, kd_shard_prefetch);
}

void kd_merged_forget(const struct kd_merged *merged, uint64_t begin, uint64_t end)
{
    advise(merged, begin, end, kd_shard_forget);
}
