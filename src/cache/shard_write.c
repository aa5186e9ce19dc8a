/* SPDX-License-Identifier: MIT */
/*
 * Writing shards. HDF5 lays out the file; the rows are encoded on the compute threads
 * and written to where the layout says; `complete` is set last. How many values ragged
 * rows have is known at the end: until then they are kept in temporary files beside the
 * shard, where a full disk is met as early as it would be by the shard itself.
 */
#include "kd/shard.h"

#include "cache/encode_internal.h"
#include "cache/shard_create_internal.h"
#include "cache/shard_internal.h"
#include "kd/file.h"
#include "kd/memory.h"
#include "kd/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A thread gets rows of at least so many values in all. */
#define GRAIN_VALUES 16384

/* What lies in temporary files is copied in pieces of so many bytes. */
#define COPY_BYTES ((size_t)1 << 20)

/* Encoded rows of one column. */
struct buffer {
    void *data;
    size_t capacity; /* bytes */
};

struct kd_shard_writer {
    struct kd_identity identity;
    struct kd_pending pending;
    int fd;
    int spool[KD_COLUMN_COUNT]; /* temporary file of a late column, else -1 */
    uint64_t place[KD_COLUMN_COUNT];
    struct kd_bound bound;
    bool has_bound;
    uint64_t rows;            /* announced */
    uint64_t written, values; /* rows and values so far */
    uint64_t last_id;         /* of the row before; valid if written > 0 */
    uint32_t last_view;

    /* the rows that are being added */
    struct buffer buffers[KD_COLUMN_COUNT];
    uint64_t *slot; /* [count+1] where a row's values are put before their number is
                       known */
    uint64_t *size; /* [count] their number */
    size_t slot_capacity, size_capacity;
};

/* -- opening and closing ---------------------------------------------------- */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void writer_free(struct kd_shard_writer *writer)
{
    if (writer == NULL)
        return;
    close_fd(&writer->fd);
    kd_pending_abandon(&writer->pending);
    for (int i = 0; i < KD_COLUMN_COUNT; i++) {
        close_fd(&writer->spool[i]);
        free(writer->buffers[i].data);
    }
    free(writer->slot);
    free(writer->size);
    free(writer);
}

static enum kd_status check_plan(const char *path, const struct kd_identity *identity,
                                 uint64_t rows)
{
    enum kd_status status = kd_identity_check(identity);

    if (status != KD_OK)
        kd_error_prefix("%s", path);
    else if (rows == 0)
        status = kd_fail(KD_EDATA, "%s: a shard must have rows", path);
    return status;
}

/* A file without a name, in the directory of the shard. */
static enum kd_status open_spool(struct kd_shard_writer *writer, enum kd_column column)
{
    enum kd_status status = KD_OK;
    char *path = kd_format("%s.%s", writer->pending.temporary, kd_column_names[column]);
    int fd = -1;

    if (path == NULL)
        return KD_EMEMORY;
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || unlink(path) != 0)
        status = kd_fail_errno(KD_ECREATE, "%s: cannot create", path);
    writer->spool[column] = fd;
    free(path);
    return status;
}

/* Opens what rows are written to. */
static enum kd_status open_files(struct kd_shard_writer *writer)
{
    enum kd_status status = KD_EBUG;
    const uint64_t zero = 0;

    writer->fd = open(writer->pending.temporary, O_WRONLY | O_CLOEXEC);
    if (writer->fd < 0)
        return kd_fail_errno(KD_EIO, "%s: cannot open", writer->pending.temporary);
    for (int i = 0; i < KD_COLUMN_COUNT; i++)
        if (kd_column_present(&writer->identity, (enum kd_column)i) &&
            kd_column_is_late(&writer->identity, (enum kd_column)i))
            KD_TRY(open_spool(writer, (enum kd_column)i));
    status = KD_OK;
    if (kd_column_present(&writer->identity, KD_COLUMN_OFFSET))
        status = kd_write_at(writer->fd, NULL, &zero, sizeof zero,
                             writer->place[KD_COLUMN_OFFSET]);
    if (status != KD_OK)
        kd_error_prefix("%s", writer->pending.path);
out:
    return status;
}

enum kd_status kd_shard_writer_open(const char *path,
                                    const struct kd_identity *identity, uint64_t rows,
                                    const char *history,
                                    struct kd_shard_writer **writer)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard_writer *made = NULL;

    *writer = NULL;
    KD_TRY(check_plan(path, identity, rows));
    KD_TRY(KD_NEW(made, 1));
    made->identity = *identity;
    made->rows = rows;
    made->fd = -1;
    for (int i = 0; i < KD_COLUMN_COUNT; i++)
        made->spool[i] = -1;
    KD_TRY(kd_pending_open(&made->pending, path));
    KD_TRY(
        kd_shard_create(made->pending.temporary, identity, rows, history, made->place));
    KD_TRY(open_files(made));
    *writer = made;
    made = NULL;
    status = KD_OK;
out:
    writer_free(made);
    return status;
}

void kd_shard_writer_set_bound(struct kd_shard_writer *writer, struct kd_bound bound)
{
    writer->bound = bound;
    writer->has_bound = true;
}

void kd_shard_writer_abandon(struct kd_shard_writer *writer)
{
    writer_free(writer);
}

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

static enum kd_status check_rows(struct kd_shard_writer *writer,
                                 const struct kd_rows *rows)
{
    enum kd_status status = KD_EBUG;
    const enum kd_encoding encoding = writer->identity.codec.encoding;

    if (rows->count > writer->rows - writer->written)
        return kd_fail(KD_EDATA, "more rows than the %llu that were announced",
                       (unsigned long long)writer->rows);
    if (rows->offset != NULL && encoding != KD_TOP_K && encoding != KD_TOP_P)
        return kd_fail(KD_EUSAGE,
                       "rows of which only some classes are known can be stored top-k "
                       "or top-p, not %s",
                       kd_encoding_names[encoding]);
    if (rows->offset != NULL && writer->identity.codec.also_temperatures[0] != '\0')
        return kd_fail(KD_EUSAGE, "rows of which only some classes are known can be "
                                  "used at no further temperature");
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

/* -- encoding --------------------------------------------------------------- */

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
        struct buffer *buffer = &writer->buffers[i];

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

/* Puts an encoded row into the columns. */
static void store(const struct kd_shard_writer *writer, const struct kd_rows *rows,
                  size_t row, size_t also, const struct kd_encoded *encoded)
{
    const struct kd_identity *of = &writer->identity;
    const enum kd_type index_type = kd_codec_index_type(of->num_classes);
    const size_t at = (size_t)writer->slot[row], n = encoded->size;
    void *logits = element(writer, KD_COLUMN_LOGITS, at, kd_type_size(of->codec.dtype));
    void *index = element(writer, KD_COLUMN_INDEX, at, kd_type_size(index_type));
    void *draws = element(writer, KD_COLUMN_DRAWS, at, sizeof *encoded->draws);
    uint32_t *check = writer->buffers[KD_COLUMN_CHECK].data;

    kd_encoded_logits(encoded, of->codec.dtype, logits);
    if (index != NULL)
        kd_encoded_index(encoded, index_type, index);
    if (draws != NULL)
        memcpy(draws, encoded->draws, n * sizeof *encoded->draws);
    put_float(writer, KD_COLUMN_ROW_MAX, row, &encoded->row_max, 1);
    put_float(writer, KD_COLUMN_LOG_Z, row, &encoded->log_z, 1);
    put_float(writer, KD_COLUMN_LOG_TAIL, row, &encoded->log_tail, 1);
    put_float(writer, KD_COLUMN_LOG_Z_ALSO, row, encoded->log_z_also, also);
    put_float(writer, KD_COLUMN_LOG_TAIL_ALSO, row, encoded->log_tail_also, also);
    writer->size[row] = n;
    check[row] = kd_row_check(
        &of->codec, of->num_classes, also,
        &(struct kd_row_bytes){rows->id[row], rows->view[row], rows->label[row], n,
                               logits, index, draws, encoded->row_max, encoded->log_z,
                               encoded->log_tail, encoded->log_z_also,
                               encoded->log_tail_also});
}

/* What the threads encode. */
struct encoding {
    struct kd_shard_writer *writer;
    const struct kd_rows *rows;
};

static enum kd_status encode_range(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    const struct encoding *encoding = context;
    struct kd_encoder encoder = {0};
    struct kd_encoded encoded;

    KD_TRY(kd_encoder_init(&encoder, &encoding->writer->identity, encoding->rows));
    for (size_t row = begin; row < end; row++) {
        KD_TRY(kd_encode_row(&encoder, encoding->rows, row, &encoded));
        store(encoding->writer, encoding->rows, row, encoder.num_also, &encoded);
    }
    status = KD_OK;
out:
    kd_encoder_clear(&encoder);
    return status;
}

/* -- writing ---------------------------------------------------------------- */

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

static enum kd_status write_column(const struct kd_shard_writer *writer,
                                   enum kd_column column, const void *data,
                                   uint64_t rows_before, uint64_t values_before)
{
    enum kd_status status = KD_EBUG;
    const int spool = writer->spool[column];
    struct kd_array_info before, now;

    KD_TRY(kd_column_layout(&writer->identity, column, rows_before, values_before,
                            &before));
    KD_TRY(kd_column_layout(&writer->identity, column, writer->written, writer->values,
                            &now));
    KD_TRY(kd_write_at(spool >= 0 ? spool : writer->fd, NULL, data,
                       now.bytes - before.bytes,
                       (spool >= 0 ? 0 : writer->place[column]) + before.bytes));
out:
    return status;
}

enum kd_status kd_shard_writer_add(struct kd_shard_writer *writer,
                                   const struct kd_rows *rows)
{
    enum kd_status status = KD_EBUG;
    struct encoding encoding = {writer, rows};
    const uint64_t written = writer->written, values = writer->values;

    if (rows->count == 0)
        return KD_OK;
    KD_TRY(check_rows(writer, rows));
    KD_TRY(reserve(writer, rows));
    KD_TRY(kd_parallel(rows->count, GRAIN_VALUES / writer->identity.num_classes + 1,
                       encode_range, &encoding));
    close_gaps(writer, rows->count);
    for (int i = 0; i < KD_COLUMN_COUNT; i++) {
        const void *data = writer->buffers[i].data;

        if (!kd_column_present(&writer->identity, (enum kd_column)i))
            continue;
        if (i == KD_COLUMN_ID)
            data = rows->id;
        else if (i == KD_COLUMN_VIEW)
            data = rows->view;
        else if (i == KD_COLUMN_LABEL)
            data = rows->label;
        KD_TRY(write_column(writer, (enum kd_column)i, data, written, values));
    }
    status = KD_OK;
out:
    if (status != KD_OK)
        kd_error_prefix("%s", writer->pending.path);
    return status;
}

/* -- finishing -------------------------------------------------------------- */

/* Copies `bytes` from the beginning of one file to `offset` in another. */
static enum kd_status copy(int from, int to, uint64_t bytes, uint64_t offset)
{
    enum kd_status status = KD_OK;
    char *piece = kd_alloc(COPY_BYTES, 1);
    uint64_t done = 0;

    if (piece == NULL)
        return KD_EMEMORY;
    while (done < bytes && status == KD_OK) {
        const uint64_t left = bytes - done;
        const ssize_t got = pread(
            from, piece, left < COPY_BYTES ? (size_t)left : COPY_BYTES, (off_t)done);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            status = kd_fail_errno(KD_EIO, "cannot read what was kept for it");
            break;
        }
        status = kd_write_at(to, NULL, piece, (size_t)got, offset + done);
        done += (uint64_t)got;
    }
    free(piece);
    return status;
}

/* Moves the late columns to their places in the shard. */
static enum kd_status place_late(struct kd_shard_writer *writer)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info info;

    KD_TRY(kd_shard_create_late(writer->pending.temporary, &writer->identity,
                                writer->rows, writer->values, writer->place));
    for (int i = 0; i < KD_COLUMN_COUNT; i++) {
        if (writer->spool[i] < 0)
            continue;
        KD_TRY(kd_column_layout(&writer->identity, (enum kd_column)i, writer->rows,
                                writer->values, &info));
        KD_TRY(copy(writer->spool[i], writer->fd, info.bytes, writer->place[i]));
        close_fd(&writer->spool[i]);
    }
out:
    return status;
}

static enum kd_status close_rows(struct kd_shard_writer *writer)
{
    int fd = writer->fd;

    writer->fd = -1;
    if (close(fd) != 0)
        return kd_fail_errno(KD_EIO, "cannot write");
    return KD_OK;
}

enum kd_status kd_shard_writer_commit(struct kd_shard_writer *writer)
{
    enum kd_status status = KD_EBUG;

    if (writer->written != writer->rows) {
        status = kd_fail(KD_EDATA, "%s: %llu rows were announced and %llu came",
                         writer->pending.path, (unsigned long long)writer->rows,
                         (unsigned long long)writer->written);
        goto out;
    }
    status = place_late(writer);
    if (status == KD_OK)
        status = close_rows(writer);
    if (status != KD_OK) {
        kd_error_prefix("%s", writer->pending.path);
        goto out;
    }
    KD_TRY(kd_shard_set_complete(writer->pending.temporary,
                                 writer->has_bound ? &writer->bound : NULL));
    KD_TRY(kd_pending_commit(&writer->pending));
out:
    writer_free(writer);
    return status;
}
