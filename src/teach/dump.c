/* SPDX-License-Identifier: MIT */
/*
 * A dump as a whole. Shards are made one after another in the order of ids; a batch
 * holds rows of one shard, all views of a sample beside each other, so that what a
 * row's neighbours are does not depend on where an earlier run was stopped. While the
 * teacher works on some batches the next ones are prepared, beyond a shard's end too.
 */
#include "kd/dump.h"

#include "kd/batch.h"
#include "kd/cache.h"
#include "kd/cache_writer.h"
#include "kd/file.h"
#include "kd/log.h"
#include "kd/memory.h"
#include "kd/progress.h"
#include "teach/teacher_internal.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A batch on its way through the teacher. */
struct flight {
    struct kd_batch batch;
    void *input;   /* as the teacher wants it */
    float *logits; /* [batch][classes] */
    bool last;     /* of its shard */
};

/* Rows of the shards that are to be made, in order. */
struct place {
    size_t part;  /* of the cache writer's */
    uint64_t row; /* in it */
};

struct run {
    const struct kd_dataset *data;
    struct kd_teacher *teacher;
    const struct kd_dump_options *options;
    const char *directory;
    struct kd_identity identity;
    struct kd_cache_writer *writer;

    struct flight *flights; /* [num_flights], a ring */
    size_t num_flights;
    uint64_t asked, answered;              /* batches so far */
    struct place next;                     /* what is to be asked next */
    size_t part;                           /* the shard whose rows are answered next */
    struct kd_shard_writer *shard;         /* it, if it is open */
    const struct kd_cache_part *committed; /* on its way to the disk; NULL: none */
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

/* "mean=0.507,0.487,0.441 deviation=0.267,0.256,0.276", or "none"; in front of it what
 * else is done with samples, as "resize256,crop224 nhwc uint8". */
static void describe_input(const struct kd_input *input, char *text, size_t size)
{
    const struct kd_normalize *normalize = &input->normalize;
    char words[KD_RESIZE_TEXT];

    kd_resize_text(&input->resize, words);
    text[0] = '\0';
    append(text, size, "%s%s", words, words[0] != '\0' ? " " : "");
    append(text, size, "%s%s", input->channels_last ? "nhwc " : "",
           input->type == KD_U8 ? "uint8 " : "");
    append(text, size, normalize->count == 0 ? "none" : "mean=");
    for (size_t i = 0; i < normalize->count; i++)
        append(text, size, "%s%.3g", i > 0 ? "," : "", normalize->mean[i]);
    for (size_t i = 0; i < normalize->count; i++)
        append(text, size, "%s%.3g",
               i > 0 ? "," : " deviation=", normalize->deviation[i]);
}

void kd_teacher_copy_name(char *to, size_t size, const char *name)
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
                                     .codec = options->codec,
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
    describe_input(&by->input, identity->normalize, sizeof identity->normalize);
    kd_teacher_copy_name(identity->teacher_name, sizeof identity->teacher_name,
                         by->name);
    snprintf(identity->bn_mode, sizeof identity->bn_mode, "%s", by->bn_mode);
    KD_TRY(check_options(options, identity->augment));
    KD_TRY(kd_teacher_takes(teacher, from));
    KD_TRY(kd_teacher_check_classes(from, by->name, by->num_classes,
                                    &by->class_map_digest, options->other_classes));
    KD_TRY(kd_codec_check(&identity->codec, identity->num_classes));
    KD_TRY(kd_identity_check(identity));
    status = KD_OK;
out:
    return status;
}

/* -- rows ------------------------------------------------------------------- */

/* Names the rows of a batch: `count` of them from row `first` of a shard that begins
 * with sample `begin`. */
static void name_rows(const struct run *run, uint64_t begin, uint64_t first,
                      size_t count, struct kd_batch *batch)
{
    const uint32_t views = run->identity.views;

    batch->size = count;
    for (size_t i = 0; i < count; i++) {
        batch->id[i] = begin + (first + i) / views;
        batch->view[i] = run->identity.first_view + (uint32_t)((first + i) % views);
    }
}

/* The shard of the rows that are to be asked next; NULL if there are no more. */
static const struct kd_cache_part *find_next(struct run *run)
{
    const struct kd_cache_part *part = NULL;

    for (; run->next.part < kd_cache_writer_count(run->writer); run->next.part++) {
        part = kd_cache_writer_part(run->writer, run->next.part);
        if (!part->kept && run->next.row < part->rows)
            return part;
        run->next.row = 0;
    }
    return NULL;
}

/* They are of other classes than the teacher's. */
static void forget_labels(struct kd_batch *batch)
{
    for (size_t i = 0; i < batch->size; i++)
        batch->label[i] = batch->partner_label[i] = -1;
}

/* Sample -> view -> teacher. */
static enum kd_status ask(struct run *run, const struct kd_cache_part *part)
{
    enum kd_status status = KD_EBUG;
    const struct kd_teacher_facts *by = kd_teacher_facts(run->teacher);
    struct flight *flight = &run->flights[run->asked % run->num_flights];
    struct kd_batch *batch = &flight->batch;
    const uint64_t left = part->rows - run->next.row;

    name_rows(run, part->begin, run->next.row,
              left < batch->capacity ? (size_t)left : batch->capacity, batch);
    KD_TRY(kd_batch_fill_as(batch, run->data, &run->options->augment, &by->input,
                            flight->input));
    if (run->options->other_classes)
        forget_labels(batch);
    KD_TRY(kd_teacher_submit(run->teacher, flight->input, batch->size, flight->logits));
    run->next.row += batch->size;
    run->asked++;
    flight->last = run->next.row == part->rows;
    status = KD_OK;
out:
    return status;
}

/* How often the teacher is right: shows at a glance that rows and labels match. Of a
 * mixture the right one is the label of the larger share. */
static void count_agreeing(struct run *run, const struct flight *flight)
{
    const size_t classes = run->identity.num_classes;
    const struct kd_batch *batch = &flight->batch;

    for (size_t i = 0; i < batch->size; i++) {
        const float *row = flight->logits + i * classes;
        const int32_t label =
            batch->ratio[i] < 0.5f ? batch->partner_label[i] : batch->label[i];
        size_t best = 0;

        for (size_t c = 1; c < classes; c++)
            best = row[c] > row[best] ? c : best;
        run->labelled += label >= 0;
        run->agreeing += label == (int32_t)best;
    }
}

static enum kd_status write_rows(struct run *run, const struct flight *flight)
{
    const struct kd_batch *batch = &flight->batch;
    const struct kd_rows rows = {.count = batch->size,
                                 .id = batch->id,
                                 .view = batch->view,
                                 .label = batch->label,
                                 .scaled = flight->logits};
    const enum kd_status status = kd_shard_writer_add(run->shard, &rows);

    if (status != KD_OK)
        return status;
    count_agreeing(run, flight);
    run->rows_done += batch->size;
    kd_progress_set(&run->progress,
                    kd_cache_writer_kept_rows(run->writer) + run->rows_done);
    return KD_OK;
}

/* Teacher -> logits / T. */
static enum kd_status collect(struct run *run, const struct flight *flight)
{
    const struct kd_batch *batch = &flight->batch;
    const size_t values = batch->size * run->identity.num_classes;
    const enum kd_status status = kd_teacher_collect(run->teacher);

    if (status == KD_EDATA || status == KD_EIO)
        kd_error_prefix("samples %llu to %llu", (unsigned long long)batch->id[0],
                        (unsigned long long)batch->id[batch->size - 1]);
    if (status != KD_OK)
        return status;
    for (size_t i = 0; i < values; i++)
        flight->logits[i] =
            (float)((double)flight->logits[i] / run->identity.temperature);
    return KD_OK;
}

/* -- shards ----------------------------------------------------------------- */

static enum kd_status tell(const struct run *run, const struct kd_cache_part *part)
{
    const struct kd_dump_options *options = run->options;

    return options->finished != NULL ? options->finished(options->context, part->path)
                                     : KD_OK;
}

/* Waits for the shard that was committed last. */
static enum kd_status settle(struct run *run)
{
    const struct kd_cache_part *part = run->committed;
    enum kd_status status = KD_EBUG;

    if (part == NULL)
        return KD_OK;
    run->committed = NULL;
    KD_TRY(kd_cache_writer_wait(run->writer));
    KD_TRY(tell(run, part));
out:
    return status;
}

/* Goes on to the next shard that is to be made, past those that are there. */
static enum kd_status pass_kept(struct run *run)
{
    enum kd_status status = KD_OK;

    for (; run->part < kd_cache_writer_count(run->writer); run->part++) {
        const struct kd_cache_part *part = kd_cache_writer_part(run->writer, run->part);

        if (!part->kept)
            break;
        KD_TRY(settle(run));
        KD_TRY(tell(run, part));
    }
out:
    return status;
}

/* Leaves the shard whose rows are all there to the disk, which has the time that the
 * teacher takes for the next batch: whoever waits for its path does not wait long. */
static enum kd_status commit(struct run *run)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard_writer *shard = run->shard;

    run->shard = NULL;
    KD_TRY(kd_cache_writer_commit(run->writer, run->part, shard));
    run->committed = kd_cache_writer_part(run->writer, run->part);
    run->part++;
    KD_TRY(pass_kept(run));
out:
    return status;
}

/* Takes the oldest batch back, and stores its rows. */
static enum kd_status take(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const struct flight *flight = &run->flights[run->answered % run->num_flights];
    const struct kd_cache_part *part = kd_cache_writer_part(run->writer, run->part);

    KD_TRY(collect(run, flight));
    KD_TRY(settle(run));
    if (run->shard == NULL)
        KD_TRY(kd_shard_writer_open(part->path, &run->identity, part->rows,
                                    run->options->history, &run->shard));
    KD_TRY(write_rows(run, flight));
    run->answered++;
    if (flight->last)
        KD_TRY(commit(run));
    status = KD_OK;
out:
    return status;
}

/* -- the run ---------------------------------------------------------------- */

static enum kd_status dump_shards(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const struct kd_cache_part *part = NULL;

    KD_TRY(pass_kept(run));
    while (part = find_next(run), part != NULL || run->answered < run->asked) {
        if (kd_interrupted()) {
            status = kd_fail_interrupted(run->directory);
            goto out;
        }
        if (part != NULL && run->asked - run->answered < run->num_flights)
            KD_TRY(ask(run, part));
        else
            KD_TRY(take(run));
    }
    KD_TRY(settle(run));
    status = KD_OK;
out:
    return status;
}

/* The first shard of an earlier run, NULL if there is none. What cannot be opened the
 * writer will tell. */
static enum kd_status find_begun(const struct run *run, struct kd_shard **shard)
{
    const struct kd_identity *of = &run->identity;
    const uint64_t size = run->options->samples_a_shard;
    const uint64_t last = (of->first_id + of->num_samples - 1) / size;
    bool there = false;

    for (uint64_t n = of->first_id / size; !there && n <= last; n++) {
        char *path = kd_cache_shard_path(run->directory, n);

        if (path == NULL)
            return KD_EMEMORY;
        there = access(path, F_OK) == 0;
        if (there && kd_shard_open(path, shard) != KD_OK)
            *shard = NULL;
        free(path);
    }
    return KD_OK;
}

/* A cache keeps the name that its teacher had when it was begun, for a directory may
 * be moved; who the teacher is the digest says. */
static enum kd_status keep_name(struct run *run)
{
    struct kd_identity begun = run->identity;
    struct kd_shard *shard = NULL;
    const enum kd_status status = find_begun(run, &shard);

    if (status != KD_OK || shard == NULL)
        return status;
    memcpy(begun.teacher_name, kd_shard_identity(shard)->teacher_name,
           sizeof begun.teacher_name);
    if (kd_identity_equal(kd_shard_identity(shard), &begun) == KD_OK)
        run->identity = begun;
    kd_shard_close(shard);
    return KD_OK;
}

static enum kd_status run_init(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const struct kd_teacher_facts *by = kd_teacher_facts(run->teacher);
    size_t values = 0, bytes = 0;

    if (!kd_multiply(by->batch, by->num_classes, &values) ||
        !kd_multiply(by->batch, by->input_bytes, &bytes))
        return kd_fail(KD_EMEMORY, "%s: a batch is too large", by->name);
    KD_TRY(kd_dump_identity(run->data, run->teacher, run->options, &run->identity));
    if (run->options->samples_a_shard > 0) /* else the writer complains */
        KD_TRY(keep_name(run));
    KD_TRY(kd_cache_writer_open(run->directory, &run->identity,
                                run->options->samples_a_shard, &run->writer));
    KD_TRY(KD_NEW(run->flights, by->in_flight));
    run->num_flights = by->in_flight;
    for (size_t i = 0; i < run->num_flights; i++) {
        struct flight *flight = &run->flights[i];

        KD_TRY(kd_batch_init(&flight->batch, run->data, by->batch));
        flight->batch.beyond_slice = true;
        flight->input = kd_alloc(bytes, 1);
        KD_TRY(flight->input != NULL ? KD_OK : KD_EMEMORY);
        KD_TRY(KD_NEW(flight->logits, values));
    }
    status = KD_OK;
out:
    return status;
}

static void run_clear(struct run *run)
{
    kd_shard_writer_abandon(run->shard);
    for (size_t i = 0; i < run->num_flights; i++) {
        kd_batch_clear(&run->flights[i].batch);
        free(run->flights[i].input);
        free(run->flights[i].logits);
    }
    free(run->flights);
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
