/* SPDX-License-Identifier: MIT */
/*
 * An import as a whole: the source is walked through once to learn where each row is;
 * then shards are made one after another in the order of ids, as a dump makes them.
 */
#include "kd/import.h"

#include "kd/cache_writer.h"
#include "kd/file.h"
#include "kd/log.h"
#include "kd/memory.h"
#include "kd/options.h"
#include "kd/progress.h"
#include "kd/thread.h"
#include "kd/version.h"
#include "kd/view.h"
#include "teach/import_internal.h"
#include "teach/teacher_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A batch has rows of about so many values in all; a thread takes at least some. */
#define BATCH_VALUES (1 << 20)
#define GRAIN_VALUES 16384

struct run {
    const struct kd_dataset *data;
    const struct kd_import_options *options;
    const char *directory;
    struct kd_import_source source;
    struct kd_import_index index;
    struct kd_import_rule rule;
    struct kd_identity identity;
    struct kd_cache_writer *writer;
    char *history;

    size_t width;    /* values of a row: C, or K of sparse ones */
    size_t capacity; /* rows of a batch */
    uint64_t *id;    /* [capacity], and so on */
    uint32_t *view;
    int32_t *label;
    float *scaled;    /* [capacity][width] */
    uint64_t *offset; /* sparse: [capacity+1] */
    uint32_t *class;  /* sparse: [capacity][width] */
    float *log_rest;  /* sparse: [capacity] */

    uint64_t first; /* slot of the batch's first row in the index */
    struct kd_progress progress;
    uint64_t rows_done;
    uint64_t labelled, agreeing; /* of the rows of this run */
};

/* -- identity --------------------------------------------------------------- */

/* How views are drawn, and the number of the first one where the source does not say
 * it. */
static enum kd_status choose_views(struct run *run, uint32_t *first_view)
{
    enum kd_status status = KD_EBUG;
    const struct kd_import_options *options = run->options;
    const bool several = run->source.num_views > 1 || run->source.kept > 0;
    const char *augment = options->augment;
    struct kd_view_spec spec;

    if (augment == NULL)
        augment = several ? KD_AUGMENT_FOREIGN : "none";
    if (strcmp(augment, KD_AUGMENT_FOREIGN) == 0) {
        snprintf(run->identity.augment, sizeof run->identity.augment, "%s", augment);
    } else {
        KD_TRY(kd_view_parse(augment, options->seed, &spec));
        KD_TRY(kd_view_settle(&spec, kd_dataset_facts(run->data)));
        KD_TRY(kd_view_check(&spec, kd_dataset_facts(run->data)));
        kd_view_text(&spec, run->identity.augment);
        if (kd_view_draws(&spec))
            run->identity.seed = options->seed;
    }
    *first_view = strcmp(augment, "none") != 0 && !options->clean ? 1 : 0;
    status = KD_OK;
out:
    if (status != KD_OK)
        kd_error_prefix("--augment");
    return status;
}

/* With the rows' own views known. */
static enum kd_status check_views(struct run *run)
{
    struct kd_identity *of = &run->identity;
    const bool clean = of->first_view == 0 && of->views == 1;

    if (!run->source.says_view || clean)
        return clean || strcmp(of->augment, "none") != 0
                   ? KD_OK
                   : kd_fail(KD_EUSAGE,
                             "%s: has %u views of a sample, which would all "
                             "be the same with --augment none",
                             run->source.name, (unsigned)of->views);
    if (run->options->augment == NULL)
        snprintf(of->augment, sizeof of->augment, "%s", KD_AUGMENT_FOREIGN);
    else if (strcmp(of->augment, "none") == 0)
        return kd_fail(KD_EUSAGE,
                       "%s: has views %u to %u, where --augment none has view 0 alone",
                       run->source.name, (unsigned)of->first_view,
                       (unsigned)(of->first_view + of->views - 1));
    return KD_OK;
}

/* Whether the values are of the dataset's classes. */
static enum kd_status choose_classes(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const struct kd_dataset_facts *data = kd_dataset_facts(run->data);
    struct kd_import_source *source = &run->source;
    struct kd_identity *of = &run->identity;

    if (source->classes == 0 && data->num_classes == 0)
        return kd_fail(KD_EDATA,
                       "%s: of how many classes? %s has neither labels nor "
                       "class names",
                       source->name, data->name);
    if (source->classes == 0)
        source->classes = data->num_classes;
    of->num_classes = source->classes;
    if (source->names != NULL)
        KD_TRY(
            kd_class_map_digest(source->names, source->classes, &of->class_map_digest));
    else if (source->classes == data->num_classes)
        of->class_map_digest = data->class_map_digest;
    else
        KD_TRY(kd_class_map_digest(NULL, source->classes, &of->class_map_digest));
    KD_TRY(kd_teacher_check_classes(data, source->name, source->classes,
                                    &of->class_map_digest,
                                    run->options->other_classes));
    if (source->kept > source->classes)
        return kd_fail(KD_EDATA, "%s: has %zu classes a row, the dataset has %u",
                       source->name, source->kept, (unsigned)source->classes);
    status = KD_OK;
out:
    return status;
}

static enum kd_status choose_codec(struct run *run)
{
    enum kd_status status = KD_EBUG;
    struct kd_codec_args args = run->options->codec;
    const struct kd_import_source *source = &run->source;

    if (args.encoding < 0) {
        args.encoding = source->kept > 0 ? KD_TOP_K : KD_DENSE;
        if (source->kept > 0 && args.k == 0)
            args.k = source->kept < source->classes ? source->kept : source->kept - 1;
    }
    KD_TRY(kd_codec_from_args(&args, source->classes, &run->identity.codec));
    if (source->kept == 0)
        goto out;
    if (args.encoding != KD_TOP_K && args.encoding != KD_TOP_P)
        return kd_fail(KD_EUSAGE,
                       "%s: has %zu classes a row: give --encoding top-k or top-p",
                       source->name, source->kept);
    if (run->identity.codec.k > source->kept)
        return kd_fail(KD_EUSAGE, "%s: has %zu classes a row: give --k %zu or less",
                       source->name, source->kept, source->kept);
    if (args.also != NULL)
        return kd_fail(KD_EUSAGE,
                       "%s: has %zu classes a row, which cannot be used at another "
                       "temperature: leave --also-temperature out",
                       source->name, source->kept);
out:
    return status;
}

static char *describe(const struct run *run)
{
    const struct kd_import_options *options = run->options;
    char temperature[KD_TEXT_F64];
    char *codec = kd_codec_text(&run->identity.codec), *text = NULL;

    kd_text_f64(options->temperature, temperature);
    if (codec != NULL)
        text = kd_format(
            "kd-import %s: --from %s --format %s --values %s --temperature "
            "%s %s --shard-samples %llu",
            kd_version(), kd_path_base(run->source.name),
            kd_container_names[options->container], kd_values_names[options->values],
            temperature, codec, (unsigned long long)options->samples_a_shard);
    free(codec);
    return text;
}

/* Opens the source and says what the cache will be. */
static enum kd_status prepare(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const struct kd_import_options *options = run->options;
    const struct kd_dataset_facts *data = kd_dataset_facts(run->data);
    struct kd_identity *of = &run->identity;
    uint32_t first_view = 0;

    KD_TRY(kd_import_open(options, data, &run->source));
    *of = (struct kd_identity){.kind = KD_KIND_TEACHER,
                               .value_kind = options->values == KD_LOGITS
                                                 ? KD_VALUE_LOGITS
                                                 : KD_VALUE_LOGPROBS,
                               .temperature = options->temperature,
                               .dataset_digest = data->digest,
                               .bn_mode = "none"};
    kd_teacher_copy_name(of->teacher_name, sizeof of->teacher_name,
                         options->name != NULL ? options->name
                                               : kd_path_base(run->source.name));
    kd_hash_digest(run->source.hash, &of->teacher_digest);
    KD_TRY(choose_classes(run));
    KD_TRY(choose_codec(run));
    KD_TRY(choose_views(run, &first_view));
    KD_TRY(kd_import_index_make(&run->source, run->data, first_view, &run->index));
    of->first_id = run->index.first_id;
    of->num_samples = run->index.samples;
    of->first_view = run->index.first_view;
    of->views = run->index.views;
    KD_TRY(check_views(run));
    KD_TRY(kd_identity_check(of));
    run->rule = (struct kd_import_rule){options->values, options->temperature,
                                        run->source.type};
    run->history = describe(run);
    status = run->history != NULL ? KD_OK : KD_EMEMORY;
out:
    return status;
}

/* -- rows ------------------------------------------------------------------- */

static enum kd_status reserve(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const size_t width = run->source.kept > 0 ? run->source.kept : run->source.classes;
    size_t values = 0;

    run->width = width;
    run->capacity = width < BATCH_VALUES ? BATCH_VALUES / width : 1;
    if (!kd_multiply(run->capacity, width, &values))
        return kd_fail(KD_EMEMORY, "%s: a batch of rows is too large",
                       run->source.name);
    KD_TRY(KD_NEW(run->id, run->capacity));
    KD_TRY(KD_NEW(run->view, run->capacity));
    KD_TRY(KD_NEW(run->label, run->capacity));
    KD_TRY(KD_NEW(run->scaled, values));
    if (run->source.kept > 0) {
        KD_TRY(KD_NEW(run->offset, run->capacity + 1));
        KD_TRY(KD_NEW(run->class, values));
        KD_TRY(KD_NEW(run->log_rest, run->capacity));
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status take_row(struct run *run, size_t i, double *values)
{
    const struct kd_import_source *source = &run->source;
    const uint64_t slot = run->first + i, place = run->index.place[slot];
    const bool sparse = source->kept > 0;
    uint32_t *index = sparse ? run->class + i * run->width : NULL;
    char where[KD_IMPORT_PLACE];
    enum kd_status status = KD_EBUG;

    run->id[i] = run->index.first_id + slot / run->index.views;
    run->view[i] = run->index.first_view + (uint32_t)(slot % run->index.views);
    run->label[i] =
        run->options->other_classes ? -1 : kd_dataset_label(run->data, run->id[i]);
    status = source->read(source, place, values, index);
    if (status == KD_OK)
        status = kd_import_convert(&run->rule, values, index, run->width,
                                   run->scaled + i * run->width,
                                   sparse ? &run->log_rest[i] : NULL);
    if (status != KD_OK) {
        source->describe(source, place, where, sizeof where);
        kd_error_prefix("%s: sample %llu, view %u", where,
                        (unsigned long long)run->id[i], (unsigned)run->view[i]);
    }
    return status;
}

static enum kd_status take_range(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    struct run *run = context;
    double *values = NULL;

    KD_TRY(KD_NEW(values, run->width));
    for (size_t i = begin; i < end; i++)
        KD_TRY(take_row(run, i, values));
out:
    free(values);
    return status;
}

/* How often the most probable class is the label: shows at a glance whether rows and
 * labels match. */
static void count_agreeing(struct run *run, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const float *row = run->scaled + i * run->width;
        size_t best = 0;

        for (size_t c = 1; c < run->width; c++)
            best = row[c] > row[best] ? c : best;
        if (run->class != NULL)
            best = run->class[i * run->width + best];
        run->labelled += run->label[i] >= 0;
        run->agreeing += run->label[i] == (int32_t)best;
    }
}

/* `count` rows from slot run->first on. */
static enum kd_status move_batch(struct run *run, size_t count,
                                 struct kd_shard_writer *writer)
{
    enum kd_status status = KD_EBUG;
    const struct kd_rows rows = {.count = count,
                                 .id = run->id,
                                 .view = run->view,
                                 .label = run->label,
                                 .scaled = run->scaled,
                                 .offset = run->offset,
                                 .index = run->class,
                                 .log_rest = run->log_rest};

    KD_TRY(kd_parallel(count, GRAIN_VALUES / run->width + 1, take_range, run));
    for (size_t i = 0; i <= count && run->offset != NULL; i++)
        run->offset[i] = i * run->width;
    KD_TRY(kd_shard_writer_add(writer, &rows));
    count_agreeing(run, count);
    run->rows_done += count;
    kd_progress_set(&run->progress,
                    kd_cache_writer_kept_rows(run->writer) + run->rows_done);
out:
    return status;
}

static enum kd_status make_shard(struct run *run, const struct kd_cache_part *part)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard_writer *writer = NULL;
    const uint64_t begin = (part->begin - run->index.first_id) * run->index.views;

    KD_TRY(kd_shard_writer_open(part->path, &run->identity, part->rows, run->history,
                                &writer));
    for (uint64_t row = 0, count = 0; row < part->rows; row += count) {
        count = part->rows - row < run->capacity ? part->rows - row : run->capacity;
        if (kd_interrupted()) {
            status = kd_fail_interrupted(run->directory);
            goto out;
        }
        run->first = begin + row;
        KD_TRY(move_batch(run, (size_t)count, writer));
    }
    status = kd_shard_writer_commit(writer);
    writer = NULL;
out:
    kd_shard_writer_abandon(writer);
    return status;
}

/* -- the run ---------------------------------------------------------------- */

static enum kd_status make_shards(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const struct kd_import_options *options = run->options;

    for (size_t i = 0; i < kd_cache_writer_count(run->writer); i++) {
        const struct kd_cache_part *part = kd_cache_writer_part(run->writer, i);

        if (!part->kept)
            KD_TRY(make_shard(run, part));
        if (options->finished != NULL)
            KD_TRY(options->finished(options->context, part->path));
    }
    status = KD_OK;
out:
    return status;
}

static void run_clear(struct run *run)
{
    kd_import_close(&run->source);
    kd_import_index_clear(&run->index);
    kd_cache_writer_close(run->writer);
    free(run->history);
    free(run->id);
    free(run->view);
    free(run->label);
    free(run->scaled);
    free(run->offset);
    free(run->class);
    free(run->log_rest);
    free(run);
}

enum kd_status kd_import_run(const struct kd_dataset *data, const char *directory,
                             const struct kd_import_options *options)
{
    enum kd_status status = KD_EBUG;
    struct run *run = NULL;

    KD_TRY(KD_NEW(run, 1));
    run->data = data;
    run->options = options;
    run->directory = directory;
    KD_TRY(prepare(run));
    KD_TRY(reserve(run));
    KD_TRY(kd_cache_writer_open(directory, &run->identity, options->samples_a_shard,
                                &run->writer));
    kd_progress_open(&run->progress, "importing", "rows",
                     run->identity.num_samples * run->identity.views);
    kd_progress_resume(&run->progress, kd_cache_writer_kept_rows(run->writer));
    status = make_shards(run);
    kd_progress_close(&run->progress);
    KD_TRY(status);
    KD_TRY(kd_cache_writer_seal(run->writer));
    if (run->labelled > 0)
        kd_log(KD_LOG_INFO,
               "%s: the most probable class is the label in %.2f %% of %llu rows",
               directory, 100 * (double)run->agreeing / (double)run->labelled,
               (unsigned long long)run->labelled);
out:
    if (run != NULL)
        run_clear(run);
    return status;
}
