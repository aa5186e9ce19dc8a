/* SPDX-License-Identifier: MIT */
/* Exporting rows: batch by batch in the order of the cache, into a container. */
#include "kd/export.h"

#include "cache/export_internal.h"
#include "cache/shard_read_internal.h"
#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/thread.h"

#include <math.h>
#include <stdlib.h>

const char *const kd_container_names[] = {"npy", "safetensors", "csv", "tinyvit", NULL};
const char *const kd_values_names[] = {"logits", "logprobs", "probs", NULL};

/* A batch has rows of about so many values in all; a thread takes at least some. */
#define BATCH_VALUES (1 << 20)
#define GRAIN_VALUES 16384

/* What fits TinyViT's int16. */
#define MOST_CLASSES 32768

/* Where a row is. */
struct place {
    const struct kd_shard *shard;
    uint64_t row;
};

struct run {
    const struct kd_cache *cache;
    const struct kd_identity *identity;
    const struct kd_export_options *options;
    struct kd_export_plan plan;
    struct kd_soft_spec spec;
    struct kd_progress progress;
    uint64_t done;

    size_t capacity, count; /* rows of a batch, and those in it */
    struct place *places;   /* [capacity], and so on */
    uint64_t *id;
    uint32_t *view;
    int32_t *label;
    float *values; /* [capacity][classes] */
};

enum kd_values kd_export_natural(const struct kd_identity *identity)
{
    if (kd_codec_is_sparse(&identity->codec))
        return KD_PROBS;
    return identity->value_kind == KD_VALUE_LOGITS ? KD_LOGITS : KD_LOGPROBS;
}

/* -- what can be exported how ----------------------------------------------- */

static enum kd_status check_logits(const struct kd_identity *identity,
                                   const struct kd_export_options *options)
{
    if (identity->value_kind != KD_VALUE_LOGITS)
        return kd_fail(KD_EUSAGE,
                       "it holds log-probabilities, from which logits cannot "
                       "be had: give --values logprobs or probs");
    if (kd_codec_is_sparse(&identity->codec))
        return kd_fail(KD_EUSAGE,
                       "it holds the logits of some classes alone: give --values "
                       "logprobs or probs");
    if (options->temperature != 0)
        return kd_fail(KD_EUSAGE, "logits have no temperature: leave --temperature "
                                  "out, or give --values logprobs or probs");
    return KD_OK;
}

static enum kd_status plan_tinyvit(struct run *run)
{
    const struct kd_codec *codec = &run->identity->codec;
    struct kd_export_plan *plan = &run->plan;

    plan->k = run->options->k;
    if (plan->k == 0 && codec->encoding == KD_TOP_K)
        plan->k = codec->k;
    if (run->options->values != KD_PROBS)
        return kd_fail(KD_EUSAGE, "TinyViT's values are probabilities: give --values "
                                  "probs");
    if (plan->classes > MOST_CLASSES)
        return kd_fail(KD_EUSAGE, "has %zu classes; TinyViT's files can name %d",
                       plan->classes, MOST_CLASSES);
    if (plan->k == 0)
        return kd_fail(KD_EUSAGE, "how many classes a row? give --k K");
    if (plan->k > plan->classes)
        return kd_fail(KD_EUSAGE, "--k %u: it has %zu classes", (unsigned)plan->k,
                       plan->classes);
    return KD_OK;
}

static enum kd_status make_plan(struct run *run, const char *to)
{
    enum kd_status status = KD_EBUG;
    const struct kd_export_options *options = run->options;
    const struct kd_identity *identity = run->identity;

    run->spec.temperature =
        options->temperature != 0 ? options->temperature : identity->temperature;
    run->spec.tail = options->tail;
    run->plan = (struct kd_export_plan){.to = to,
                                        .values = options->values,
                                        .temperature = run->spec.temperature,
                                        .identity = identity,
                                        .rows = kd_cache_rows(run->cache),
                                        .classes = identity->num_classes};
    if (options->values == KD_LOGITS)
        KD_TRY(check_logits(identity, options));
    if (options->tail == KD_TAIL_BUCKET)
        return kd_fail(KD_EUSAGE, "a bucket is no class: give --tail spread or renorm");
    if (options->container == KD_TINYVIT)
        KD_TRY(plan_tinyvit(run));
    else if (options->k != 0)
        return kd_fail(KD_EUSAGE, "--k: only with --format tinyvit");
    KD_TRY(kd_soft_check(identity, &run->spec));
out:
    return status;
}

/* -- values ----------------------------------------------------------------- */

/* z = T (stored + maximum). */
static void make_logits(const struct run *run, const struct kd_row *row, float *to)
{
    for (size_t c = 0; c < row->size; c++)
        to[c] = (float)(run->identity->temperature *
                        ((double)row->values[c] + (double)row->row_max));
}

/* Of dense rows straight from the stored values, so that none is lost to a
 * probability too small for a float. */
static void make_logprobs(const struct run *run, const struct kd_row *row, float *to)
{
    const double scale = run->identity->temperature / run->spec.temperature;
    double log_z = (double)row->log_z, sum = 0;

    if (kd_codec_is_sparse(&run->identity->codec)) {
        (void)kd_soft_row(run->identity, &run->spec, row, to);
        for (size_t c = 0; c < run->plan.classes; c++)
            to[c] = logf(to[c]);
        return;
    }
    if (run->spec.temperature != run->identity->temperature) {
        for (size_t c = 0; c < row->size; c++)
            sum += exp(scale * (double)row->values[c]);
        log_z = log(sum);
    }
    for (size_t c = 0; c < row->size; c++)
        to[c] = (float)(scale * (double)row->values[c] - log_z);
}

static enum kd_status take_row(struct run *run, size_t i, struct kd_row *row)
{
    const struct place *place = &run->places[i];
    float *to = run->values + i * run->plan.classes;
    enum kd_status status = kd_shard_row(place->shard, place->row, row);

    if (status != KD_OK)
        return status;
    run->id[i] = row->id;
    run->view[i] = row->view;
    run->label[i] = row->label;
    if (run->plan.values == KD_LOGITS)
        make_logits(run, row, to);
    else if (run->plan.values == KD_LOGPROBS)
        make_logprobs(run, row, to);
    else
        (void)kd_soft_row(run->identity, &run->spec, row, to);
    return KD_OK;
}

static enum kd_status take_range(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    struct run *run = context;
    struct kd_row row = {0};
    size_t kept = 0;

    for (size_t i = begin; i < end; i++)
        if (kd_shard_kept(run->places[i].shard) > kept)
            kept = kd_shard_kept(run->places[i].shard);
    KD_TRY(kd_row_new(&row, kept, true));
    for (size_t i = begin; i < end; i++)
        KD_TRY(take_row(run, i, &row));
out:
    kd_row_free(&row);
    return status;
}

/* -- the run ---------------------------------------------------------------- */

static enum kd_status flush(struct run *run, struct kd_sink *sink)
{
    enum kd_status status = KD_EBUG;
    const struct kd_export_rows rows = {run->count, run->id, run->view, run->label,
                                        run->values};

    if (kd_interrupted())
        return kd_fail_interrupted(run->plan.to);
    KD_TRY(
        kd_parallel(run->count, GRAIN_VALUES / run->plan.classes + 1, take_range, run));
    KD_TRY(sink->add(sink->inside, &rows));
    run->done += run->count;
    run->count = 0;
    kd_progress_set(&run->progress, run->done);
out:
    return status;
}

/* Rows of all views or, with `only`, of one. */
static enum kd_status send_rows(struct run *run, struct kd_sink *sink,
                                const uint32_t *only)
{
    enum kd_status status = KD_EBUG;

    for (size_t s = 0; s < kd_cache_num_shards(run->cache); s++) {
        const struct kd_shard *shard = kd_cache_shard(run->cache, s);
        const uint32_t *views = kd_shard_views(shard);

        for (uint64_t row = 0; row < kd_shard_rows(shard); row++) {
            if (only != NULL && views[row] != *only)
                continue;
            run->places[run->count++] = (struct place){shard, row};
            if (run->count == run->capacity)
                KD_TRY(flush(run, sink));
        }
        if (run->count > 0)
            KD_TRY(flush(run, sink));
        kd_shard_forget(shard, 0, kd_shard_rows(shard));
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status open_sink(const struct run *run, struct kd_sink *sink)
{
    switch (run->options->container) {
    case KD_SAFETENSORS:
        return kd_export_to_safetensors(&run->plan, sink);
    case KD_CSV:
        return kd_export_to_csv(&run->plan, sink);
    case KD_TINYVIT:
        return kd_export_to_tinyvit(&run->plan, sink);
    case KD_NPY:
    default:
        return kd_export_to_npy(&run->plan, sink);
    }
}

/* Everything, or one view, into one file or directory. */
static enum kd_status export_one(struct run *run, const uint32_t *only)
{
    enum kd_status status = KD_EBUG;
    struct kd_sink sink = {0};
    char *made = NULL;

    KD_TRY(open_sink(run, &sink));
    KD_TRY(send_rows(run, &sink, only));
    KD_TRY(sink.commit(sink.inside, &made));
    if (run->options->finished != NULL)
        KD_TRY(run->options->finished(run->options->context, made));
out:
    if (sink.close != NULL)
        sink.close(sink.inside);
    free(made);
    return status;
}

static enum kd_status export_all(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const struct kd_identity *identity = run->identity;

    if (run->options->container != KD_TINYVIT)
        return export_one(run, NULL);
    for (uint32_t i = 0; i < identity->views; i++) {
        const uint32_t view = identity->first_view + i;

        run->plan.epoch = i;
        KD_TRY(export_one(run, &view));
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status reserve(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const size_t classes = run->plan.classes;

    run->capacity = classes < BATCH_VALUES ? BATCH_VALUES / classes : 1;
    KD_TRY(KD_NEW(run->places, run->capacity));
    KD_TRY(KD_NEW(run->id, run->capacity));
    KD_TRY(KD_NEW(run->view, run->capacity));
    KD_TRY(KD_NEW(run->label, run->capacity));
    KD_TRY(KD_NEW(run->values, run->capacity * classes));
out:
    return status;
}

enum kd_status kd_export_run(const struct kd_cache *cache, const char *to,
                             const struct kd_export_options *options)
{
    enum kd_status status = KD_EBUG;
    struct run run = {
        .cache = cache, .identity = kd_cache_identity(cache), .options = options};

    status = make_plan(&run, to);
    if (status != KD_OK) {
        kd_error_prefix("%s", kd_cache_name(cache));
        return status;
    }
    KD_TRY(reserve(&run));
    kd_progress_open(&run.progress, "exporting", "rows", run.plan.rows);
    status = export_all(&run);
    kd_progress_close(&run.progress);
out:
    free(run.places);
    free(run.id);
    free(run.view);
    free(run.label);
    free(run.values);
    return status;
}
