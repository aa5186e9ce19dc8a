/* SPDX-License-Identifier: MIT */
/*
 * Rows on their way into a shard: a compute thread takes a share of them, a few at a
 * time, encodes them while they are in its cache, and writes their values.
 */
#include "kd/shard.h"

#include "cache/encode_internal.h"
#include "cache/shard_create_internal.h"
#include "cache/shard_write_internal.h"
#include "kd/memory.h"
#include "kd/thread.h"

#include <stdlib.h>
#include <string.h>

/* A thread's share has values enough to be worth waking it for, and few enough to be
 * in its cache still when they are written. */
#define LEAST_SHARE 16384
#define MOST_SHARE  65536

/* -- what may be added ------------------------------------------------------ */

static enum kd_status check_row(const struct kd_shard_writer *writer, uint64_t id,
                                uint32_t view, int32_t label)
{
    const struct kd_identity *of = &writer->identity;
    const char *wrong = NULL;

    if (id < of->first_id || id - of->first_id >= of->num_samples)
        wrong = "the id is none of the cache's";
    else if (view < of->first_view || view - of->first_view >= of->views)
        wrong = "the view is none of the cache's";
    else if (label < -1 || (label >= 0 && (uint32_t)label >= of->num_classes))
        wrong = "the label is none of the classes";
    else if (writer->written > 0 &&
             (id < writer->last_id ||
              (id == writer->last_id && view <= writer->last_view)))
        wrong = "ids and views must ascend";
    if (wrong == NULL)
        return KD_OK;
    return kd_fail(KD_EDATA, "sample %llu, view %u, label %d: %s",
                   (unsigned long long)id, (unsigned)view, (int)label, wrong);
}

/* Whether there is room for `count` rows, and they are of a kind that can be stored. */
static enum kd_status check_kind(const struct kd_shard_writer *writer, size_t count,
                                 bool sparse)
{
    const struct kd_codec *codec = &writer->identity.codec;

    if (count > writer->rows - writer->written)
        return kd_fail(KD_EDATA, "more rows than the %llu that were announced",
                       (unsigned long long)writer->rows);
    if (sparse && codec->encoding != KD_TOP_K && codec->encoding != KD_TOP_P)
        return kd_fail(KD_EUSAGE,
                       "rows of which only some classes are known can be stored top-k "
                       "or top-p, not %s",
                       kd_encoding_names[codec->encoding]);
    if (sparse && codec->also_temperatures[0] != '\0')
        return kd_fail(KD_EUSAGE, "rows of which only some classes are known can be "
                                  "used at no further temperature");
    return KD_OK;
}

/* Whether they belong behind those before; from now on they count. */
static enum kd_status check_rows(struct kd_shard_writer *writer,
                                 const struct kd_rows *rows)
{
    enum kd_status status = KD_EBUG;

    for (size_t i = 0; i < rows->count; i++) {
        KD_TRY(check_row(writer, rows->id[i], rows->view[i], rows->label[i]));
        writer->last_id = rows->id[i];
        writer->last_view = rows->view[i];
        writer->written++;
    }
    status = KD_OK;
out:
    return status;
}

/* -- columns ---------------------------------------------------------------- */

/* The most values that are kept of a row. */
static uint64_t most_kept(const struct kd_shard_writer *writer,
                          const struct kd_rows *rows, size_t row)
{
    const uint64_t k = writer->identity.codec.k;
    const uint64_t values = rows->offset != NULL
                                ? rows->offset[row + 1] - rows->offset[row]
                                : writer->identity.num_classes;

    return k < values ? k : values;
}

static enum kd_status reserve(struct kd_shard_writer *writer,
                              const struct kd_rows *rows)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info info;

    KD_TRY(kd_grow(&writer->slot, &writer->slot_capacity, rows->count + 1,
                   sizeof *writer->slot));
    KD_TRY(kd_grow(&writer->size, &writer->size_capacity, rows->count,
                   sizeof *writer->size));
    writer->slot[0] = 0;
    for (size_t i = 0; i < rows->count; i++)
        writer->slot[i + 1] = writer->slot[i] + most_kept(writer, rows, i);
    for (int i = 0; i < KD_COLUMN_COUNT; i++) {
        struct kd_column_buffer *buffer = &writer->buffers[i];

        if (!kd_column_present(&writer->identity, (enum kd_column)i))
            continue;
        KD_TRY(kd_column_layout(&writer->identity, (enum kd_column)i, rows->count,
                                writer->slot[rows->count], &info));
        KD_TRY(kd_grow(&buffer->data, &buffer->capacity, info.bytes, 1));
    }
out:
    return status;
}

/* Where element `at` of a column in hand is; NULL if there is no such column. */
static void *element(const struct kd_shard_writer *writer, enum kd_column column,
                     size_t at, size_t width)
{
    char *data = writer->buffers[column].data;

    return data != NULL ? data + at * width : NULL;
}

static void put_float(const struct kd_shard_writer *writer, enum kd_column column,
                      size_t row, const float *values, size_t count)
{
    void *to = element(writer, column, row * count, sizeof *values);

    if (to != NULL)
        memcpy(to, values, count * sizeof *values);
}

/* Puts an encoded row, of which `rows` has the facts, into the columns. */
static void store(const struct kd_shard_writer *writer, const struct kd_rows *rows,
                  size_t row, size_t to, size_t also, const struct kd_encoded *encoded)
{
    const struct kd_identity *of = &writer->identity;
    const enum kd_type index_type = kd_codec_index_type(of->num_classes);
    const size_t at = (size_t)writer->slot[to], n = encoded->size;
    void *logits = element(writer, KD_COLUMN_LOGITS, at, kd_type_size(of->codec.dtype));
    void *index = element(writer, KD_COLUMN_INDEX, at, kd_type_size(index_type));
    void *draws = element(writer, KD_COLUMN_DRAWS, at, sizeof *encoded->draws);
    uint32_t *check = writer->buffers[KD_COLUMN_CHECK].data;

    kd_encoded_logits(encoded, of->codec.dtype, logits);
    if (index != NULL)
        kd_encoded_index(encoded, index_type, index);
    if (draws != NULL)
        memcpy(draws, encoded->draws, n * sizeof *encoded->draws);
    put_float(writer, KD_COLUMN_ROW_MAX, to, &encoded->row_max, 1);
    put_float(writer, KD_COLUMN_LOG_Z, to, &encoded->log_z, 1);
    put_float(writer, KD_COLUMN_LOG_TAIL, to, &encoded->log_tail, 1);
    put_float(writer, KD_COLUMN_LOG_Z_ALSO, to, encoded->log_z_also, also);
    put_float(writer, KD_COLUMN_LOG_TAIL_ALSO, to, encoded->log_tail_also, also);
    writer->size[to] = n;
    check[to] = kd_row_check(
        &of->codec, of->num_classes, also,
        &(struct kd_row_bytes){rows->id[row], rows->view[row], rows->label[row], n,
                               logits, index, draws, encoded->row_max, encoded->log_z,
                               encoded->log_tail, encoded->log_z_also,
                               encoded->log_tail_also});
}

/* Moves the values of ragged rows together, and notes where each row's end. */
static void close_gaps(struct kd_shard_writer *writer, size_t count)
{
    const struct kd_identity *of = &writer->identity;
    const size_t widths[KD_COLUMN_COUNT] = {
        [KD_COLUMN_LOGITS] = kd_type_size(of->codec.dtype),
        [KD_COLUMN_INDEX] = kd_type_size(kd_codec_index_type(of->num_classes)),
        [KD_COLUMN_DRAWS] = sizeof(uint16_t)};
    uint64_t *ends = writer->buffers[KD_COLUMN_OFFSET].data;

    for (size_t row = 0, to = 0; row < count; to += (size_t)writer->size[row++])
        for (int i = 0; i < KD_COLUMN_COUNT; i++)
            if (writer->spool[i] >= 0)
                memmove(element(writer, (enum kd_column)i, to, widths[i]),
                        element(writer, (enum kd_column)i, (size_t)writer->slot[row],
                                widths[i]),
                        (size_t)writer->size[row] * widths[i]);
    for (size_t row = 0; row < count; row++) {
        writer->values += writer->size[row];
        if (ends != NULL)
            ends[row] = writer->values;
    }
}

/* Whether the threads write a column themselves: where a row's values are in the file
 * follows from the row. */
static bool is_direct(const struct kd_shard_writer *writer, enum kd_column column)
{
    return (column == KD_COLUMN_LOGITS || column == KD_COLUMN_INDEX) &&
           !kd_column_is_late(&writer->identity, column);
}

/* Writes the values of rows begin to end-1 of those in hand. */
static enum kd_status write_direct(const struct kd_shard_writer *writer,
                                   enum kd_column column, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info before, row;
    const void *data = NULL;

    if (writer->buffers[column].data == NULL)
        return KD_OK;
    KD_TRY(kd_column_layout(&writer->identity, column, 1, 0, &row));
    KD_TRY(kd_column_layout(&writer->identity, column, writer->settled + begin, 0,
                            &before));
    data = element(writer, column, (size_t)writer->slot[begin], kd_type_size(row.type));
    KD_TRY(kd_write_at(writer->fd, NULL, data, (end - begin) * row.bytes,
                       writer->place[column] + before.bytes));
out:
    return status;
}

static enum kd_status write_column(const struct kd_shard_writer *writer,
                                   enum kd_column column, const void *data,
                                   uint64_t values_before)
{
    enum kd_status status = KD_EBUG;
    const int spool = writer->spool[column];
    struct kd_array_info before, now;

    KD_TRY(kd_column_layout(&writer->identity, column, writer->settled, values_before,
                            &before));
    KD_TRY(kd_column_layout(&writer->identity, column, writer->written, writer->values,
                            &now));
    KD_TRY(kd_write_at(spool >= 0 ? spool : writer->fd, NULL, data,
                       now.bytes - before.bytes,
                       (spool >= 0 ? 0 : writer->place[column]) + before.bytes));
out:
    return status;
}

/* The columns that the threads have not written. */
static enum kd_status write_columns(struct kd_shard_writer *writer,
                                    const struct kd_rows *rows)
{
    enum kd_status status = KD_EBUG;
    const uint64_t values = writer->values;

    close_gaps(writer, rows->count);
    for (int i = 0; i < KD_COLUMN_COUNT; i++) {
        const void *data = writer->buffers[i].data;

        if (!kd_column_present(&writer->identity, (enum kd_column)i) ||
            is_direct(writer, (enum kd_column)i))
            continue;
        if (i == KD_COLUMN_ID)
            data = rows->id;
        else if (i == KD_COLUMN_VIEW)
            data = rows->view;
        else if (i == KD_COLUMN_LABEL)
            data = rows->label;
        KD_TRY(write_column(writer, (enum kd_column)i, data, values));
    }
    status = KD_OK;
out:
    return status;
}

/* -- encoding --------------------------------------------------------------- */

/* What the threads do. */
struct filling {
    struct kd_shard_writer *writer;
    struct kd_rows rows;              /* `scaled` is NULL where they are made */
    const struct kd_row_maker *maker; /* NULL: they are there */
    struct kd_encoder *encoders;      /* [threads] */
    size_t threads;
};

/* Rows begin to end-1; they are made first, if they have to be. */
static enum kd_status take(const struct filling *filling, size_t worker, size_t begin,
                           size_t end, struct kd_rows *part)
{
    const struct kd_rows *rows = &filling->rows;

    *part = (struct kd_rows){.count = end - begin,
                             .id = rows->id + begin,
                             .view = rows->view + begin,
                             .label = rows->label + begin,
                             .index = rows->index};
    if (filling->maker != NULL)
        return filling->maker->make(filling->maker->context, worker, begin, end,
                                    &part->scaled);
    part->scaled = rows->scaled;
    if (rows->offset != NULL) {
        part->offset = rows->offset + begin;
        part->log_rest = rows->log_rest + begin;
    } else {
        part->scaled += begin * filling->writer->identity.num_classes;
    }
    return KD_OK;
}

/* Makes, encodes and writes rows begin to end-1; runs on the compute threads. */
static enum kd_status fill_share(void *context, size_t worker, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    const struct filling *filling = context;
    struct kd_encoder *encoder = &filling->encoders[worker];
    const size_t few = filling->maker != NULL ? filling->maker->few : end - begin;
    struct kd_encoded encoded;
    struct kd_rows part;

    for (size_t at = begin; at < end; at += part.count) {
        KD_TRY(take(filling, worker, at, end - at < few ? end : at + few, &part));
        for (size_t i = 0; i < part.count; i++) {
            KD_TRY(kd_encode_row(encoder, &part, i, &encoded));
            store(filling->writer, &part, i, at + i, encoder->num_also, &encoded);
        }
    }
    for (int i = 0; i < KD_COLUMN_COUNT; i++)
        if (is_direct(filling->writer, (enum kd_column)i))
            KD_TRY(write_direct(filling->writer, (enum kd_column)i, begin, end));
    status = KD_OK;
out:
    return status;
}

static enum kd_status open_encoders(struct filling *filling)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(KD_NEW(filling->encoders, filling->threads));
    for (size_t i = 0; i < filling->threads; i++)
        KD_TRY(kd_encoder_init(&filling->encoders[i], &filling->writer->identity,
                               &filling->rows));
out:
    return status;
}

static void close_encoders(struct filling *filling)
{
    for (size_t i = 0; filling->encoders != NULL && i < filling->threads; i++)
        kd_encoder_clear(&filling->encoders[i]);
    free(filling->encoders);
}

/* How many rows a thread takes at a time: an eighth of what it will do in all. */
static size_t choose_share(const struct filling *filling)
{
    const size_t classes = filling->writer->identity.num_classes;
    const size_t least = LEAST_SHARE / classes + 1, most = MOST_SHARE / classes + 1;
    const size_t eighth = filling->rows.count / (8 * filling->threads);

    return eighth < least ? least : eighth < most ? eighth : most;
}

static enum kd_status fill(struct filling *filling)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(reserve(filling->writer, &filling->rows));
    KD_TRY(open_encoders(filling));
    KD_TRY(kd_parallel_shares(filling->rows.count, choose_share(filling), fill_share,
                              filling));
out:
    close_encoders(filling);
    return status;
}

enum kd_status kd_shard_writer_add(struct kd_shard_writer *writer,
                                   const struct kd_rows *rows)
{
    enum kd_status status = KD_EBUG;
    struct filling filling = {.writer = writer, .rows = *rows, .threads = kd_threads()};

    if (rows->count == 0)
        return KD_OK;
    writer->settled = writer->written;
    KD_TRY(check_kind(writer, rows->count, rows->offset != NULL));
    KD_TRY(check_rows(writer, rows));
    KD_TRY(fill(&filling));
    KD_TRY(write_columns(writer, rows));
out:
    if (status != KD_OK)
        kd_error_prefix("%s", writer->pending.path);
    return status;
}

enum kd_status kd_shard_writer_make(struct kd_shard_writer *writer,
                                    const struct kd_row_maker *maker)
{
    enum kd_status status = KD_EBUG;
    struct filling filling = {.writer = writer,
                              .rows = {.count = maker->count,
                                       .id = maker->id,
                                       .view = maker->view,
                                       .label = maker->label},
                              .maker = maker,
                              .threads = kd_threads()};

    if (maker->count == 0)
        return KD_OK;
    writer->settled = writer->written;
    KD_TRY(check_kind(writer, maker->count, false));
    KD_TRY(fill(&filling));
    KD_TRY(check_rows(writer, &filling.rows)); /* labels are known now */
    KD_TRY(write_columns(writer, &filling.rows));
out:
    if (status != KD_OK)
        kd_error_prefix("%s", writer->pending.path);
    return status;
}
