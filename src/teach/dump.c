/* SPDX-License-Identifier: MIT */
/*
 * A dump as a whole. Shards are made one after another in the order of ids; a batch
 * holds rows of one shard, all views of a sample beside each other, so that what a
 * row's neighbours are does not depend on where an earlier run was stopped.
 */
#include "kd/dump.h"

#include "kd/batch.h"
#include "kd/cache_writer.h"
#include "kd/file.h"
#include "kd/log.h"
#include "kd/memory.h"
#include "kd/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct run {
    const struct kd_dataset *data;
    struct kd_teacher *teacher;
    const struct kd_dump_options *options;
    const char *directory;
    struct kd_identity identity;
    struct kd_cache_writer *writer;

    struct kd_batch batch;
    float *logits; /* [batch][classes] */
    struct kd_progress progress;
    uint64_t rows_done;
    uint64_t labelled, agreeing; /* of the rows of this run */
};

/* -- identity --------------------------------------------------------------- */

static enum kd_status check_options(const struct kd_dump_options *options,
                                    const char *augment)
{
    if (strcmp(augment, "none") == 0 && (options->first_view > 0 || options->views > 1))
        return kd_fail(KD_EUSAGE, "without an augmentation all views of a sample are "
                                  "the same: give one, as crop4,flip, or one view");
    return KD_OK;
}

/* Appends to a text of `size` bytes; what does not fit is left out. */
static void append(char *text, size_t size, const char *format, ...) KD_PRINTF(3, 4);

static void append(char *text, size_t size, const char *format, ...)
{
    size_t length = strlen(text);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text + length, size - length, format, arguments);
    va_end(arguments);
}

/* "mean=0.507,0.487,0.441 deviation=0.267,0.256,0.276", or "none". */
static void describe_normalize(const struct kd_normalize *normalize, char *text,
                               size_t size)
{
    text[0] = '\0';
    append(text, size, normalize->count == 0 ? "none" : "mean=");
    for (size_t i = 0; i < normalize->count; i++)
        append(text, size, "%s%.3g", i > 0 ? "," : "", normalize->mean[i]);
    for (size_t i = 0; i < normalize->count; i++)
        append(text, size, "%s%.3g",
               i > 0 ? "," : " deviation=", normalize->deviation[i]);
}

/* A file may be called anything; an attribute may not. The digest tells teachers
 * apart, so the name may be cut. */
static void copy_name(char *to, size_t size, const char *name)
{
    snprintf(to, size, "%s", name);
    for (; *to != '\0'; to++)
        if (*to < ' ' || *to > '~')
            *to = '?';
}

enum kd_status kd_dump_identity(const struct kd_dataset *data,
                                const struct kd_teacher *teacher,
                                const struct kd_dump_options *options,
                                struct kd_identity *identity)
{
    enum kd_status status = KD_EBUG;
    const struct kd_dataset_facts *from = kd_dataset_facts(data);
    const struct kd_teacher_facts *by = kd_teacher_facts(teacher);

    *identity = (struct kd_identity){.kind = KD_KIND_TEACHER,
                                     .value_kind = KD_VALUE_LOGITS,
                                     .dtype = options->dtype,
                                     .num_classes = by->num_classes,
                                     .temperature = options->temperature,
                                     .class_map_digest = by->class_map_digest,
                                     .dataset_digest = from->digest,
                                     .first_id = from->first,
                                     .num_samples = from->end - from->first,
                                     .first_view = options->first_view,
                                     .views = options->views,
                                     .seed = options->augment.seed,
                                     .teacher_digest = by->digest};
    kd_view_text(&options->augment, identity->augment);
    if (strcmp(identity->augment, "none") == 0)
        identity->seed = 0; /* nothing is drawn: caches of any seed are alike */
    describe_normalize(&by->normalize, identity->normalize, sizeof identity->normalize);
    copy_name(identity->teacher_name, sizeof identity->teacher_name, by->name);
    snprintf(identity->bn_mode, sizeof identity->bn_mode, "%s", by->bn_mode);
    KD_TRY(check_options(options, identity->augment));
    KD_TRY(kd_teacher_fits(teacher, from));
    KD_TRY(kd_identity_check(identity));
    status = KD_OK;
out:
    return status;
}

/* -- rows ------------------------------------------------------------------- */

/* Names the batch's rows: `count` of them from row `first` of a shard that begins
 * with sample `begin`. */
static void name_rows(struct run *run, uint64_t begin, uint64_t first, size_t count)
{
    const uint32_t views = run->identity.views;
    struct kd_batch *batch = &run->batch;

    batch->size = count;
    for (size_t i = 0; i < count; i++) {
        batch->id[i] = begin + (first + i) / views;
        batch->view[i] = run->identity.first_view + (uint32_t)((first + i) % views);
    }
}

/* Sample -> view -> teacher -> logits / T. */
static enum kd_status make_rows(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const struct kd_teacher_facts *by = kd_teacher_facts(run->teacher);
    struct kd_batch *batch = &run->batch;
    const size_t values = batch->size * run->identity.num_classes;

    KD_TRY(kd_batch_fill(batch, run->data, &run->options->augment, &by->normalize));
    KD_TRY(kd_teacher_run(run->teacher, batch->input, batch->size, run->logits));
    for (size_t i = 0; i < values; i++)
        run->logits[i] = (float)((double)run->logits[i] / run->identity.temperature);
    status = KD_OK;
out:
    return status;
}

/* How often the teacher is right: shows at a glance that rows and labels match. */
static void count_agreeing(struct run *run)
{
    const size_t classes = run->identity.num_classes;

    for (size_t i = 0; i < run->batch.size; i++) {
        const float *row = run->logits + i * classes;
        size_t best = 0;

        for (size_t c = 1; c < classes; c++)
            best = row[c] > row[best] ? c : best;
        run->labelled += run->batch.label[i] >= 0;
        run->agreeing += run->batch.label[i] == (int32_t)best;
    }
}

static enum kd_status write_rows(struct run *run, struct kd_shard_writer *writer)
{
    const struct kd_batch *batch = &run->batch;
    const struct kd_rows rows = {batch->size, batch->id, batch->view, batch->label,
                                 run->logits};
    const enum kd_status status = kd_shard_writer_add(writer, &rows);

    if (status != KD_OK)
        return status;
    count_agreeing(run);
    run->rows_done += batch->size;
    kd_progress_set(&run->progress,
                    kd_cache_writer_kept_rows(run->writer) + run->rows_done);
    return KD_OK;
}

static enum kd_status dump_shard(struct run *run, const struct kd_cache_part *part)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard_writer *writer = NULL;

    KD_TRY(kd_shard_writer_open(part->path, &run->identity, part->rows,
                                run->options->history, &writer));
    for (uint64_t row = 0; row < part->rows; row += run->batch.size) {
        const uint64_t left = part->rows - row;

        if (kd_interrupted()) {
            status = kd_fail_interrupted(run->directory);
            goto out;
        }
        name_rows(run, part->begin, row,
                  left < run->batch.capacity ? (size_t)left : run->batch.capacity);
        KD_TRY(make_rows(run));
        KD_TRY(write_rows(run, writer));
    }
    status = kd_shard_writer_commit(writer);
    writer = NULL;
out:
    kd_shard_writer_abandon(writer);
    return status;
}

/* -- the run ---------------------------------------------------------------- */

static enum kd_status dump_shards(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const struct kd_dump_options *options = run->options;

    for (size_t i = 0; i < kd_cache_writer_count(run->writer); i++) {
        const struct kd_cache_part *part = kd_cache_writer_part(run->writer, i);

        if (!part->kept)
            KD_TRY(dump_shard(run, part));
        if (options->finished != NULL)
            KD_TRY(options->finished(options->context, part->path));
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status run_init(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const struct kd_teacher_facts *by = kd_teacher_facts(run->teacher);
    size_t values = 0;

    if (!kd_multiply(by->batch, by->num_classes, &values))
        return kd_fail(KD_EMEMORY, "%s: a batch of logits is too large", by->name);
    KD_TRY(kd_dump_identity(run->data, run->teacher, run->options, &run->identity));
    KD_TRY(kd_cache_writer_open(run->directory, &run->identity,
                                run->options->samples_a_shard, &run->writer));
    KD_TRY(kd_batch_init(&run->batch, run->data, by->batch));
    KD_TRY(KD_NEW(run->logits, values));
    status = KD_OK;
out:
    return status;
}

static void run_clear(struct run *run)
{
    kd_batch_clear(&run->batch);
    free(run->logits);
    kd_cache_writer_close(run->writer);
}

static void say_what_was_done(const struct run *run)
{
    const uint64_t kept = kd_cache_writer_kept_rows(run->writer);

    if (kept > 0)
        kd_log(KD_LOG_DETAIL, "%s: %llu rows were there already", run->directory,
               (unsigned long long)kept);
    if (run->labelled > 0)
        kd_log(KD_LOG_INFO,
               "%s: the most probable class is the label in %.2f %% of "
               "%llu rows",
               run->directory, 100 * (double)run->agreeing / (double)run->labelled,
               (unsigned long long)run->labelled);
}

enum kd_status kd_dump_run(const struct kd_dataset *data, struct kd_teacher *teacher,
                           const char *directory, const struct kd_dump_options *options)
{
    enum kd_status status = KD_EBUG;
    struct run run = {
        .data = data, .teacher = teacher, .options = options, .directory = directory};

    KD_TRY(run_init(&run));
    kd_progress_open(&run.progress, "dumping", "rows",
                     run.identity.num_samples * run.identity.views);
    kd_progress_resume(&run.progress, kd_cache_writer_kept_rows(run.writer));
    status = dump_shards(&run);
    kd_progress_close(&run.progress);
    KD_TRY(status);
    KD_TRY(kd_cache_writer_seal(run.writer));
    say_what_was_done(&run);
    status = KD_OK;
out:
    run_clear(&run);
    return status;
}
