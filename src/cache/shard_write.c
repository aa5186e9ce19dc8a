/* SPDX-License-Identifier: MIT */
/*
 * Writing shards. HDF5 lays out the file; the rows are encoded on the compute
 * threads and written to where the layout says; `complete` is set last.
 */
#include "kd/shard.h"

#include "cache/identity_internal.h"
#include "cache/shard_internal.h"
#include "kd/file.h"
#include "kd/h5.h"
#include "kd/half.h"
#include "kd/memory.h"
#include "kd/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A thread gets rows of at least so many values in all. */
#define GRAIN_VALUES 16384

struct kd_shard_writer {
    struct kd_identity identity;
    struct kd_pending pending;
    int fd;
    uint64_t rows, written;
    uint64_t last_id; /* of the row before; valid if written > 0 */
    uint32_t last_view;
    uint64_t offset[KD_COLUMN_COUNT];

    /* the rows that are being added, encoded */
    char *logits; /* [capacity][C] of the identity's dtype */
    float *row_max, *log_z;
    uint32_t *check;
    size_t logits_capacity, row_max_capacity, log_z_capacity, check_capacity;
};

static void writer_free(struct kd_shard_writer *writer)
{
    if (writer == NULL)
        return;
    if (writer->fd >= 0)
        close(writer->fd);
    kd_pending_abandon(&writer->pending);
    free(writer->logits);
    free(writer->row_max);
    free(writer->log_z);
    free(writer->check);
    free(writer);
}

static enum kd_status set_attributes(const struct kd_shard_writer *writer,
                                     const char *history, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_h5_set_string(file, "format", KD_SHARD_FORMAT));
    KD_TRY(kd_h5_set_u64(file, "format_version", KD_SHARD_VERSION));
    KD_TRY(kd_h5_set_u64(file, "complete", 0));
    KD_TRY(kd_h5_set_string(file, "encoding", KD_SHARD_ENCODING));
    KD_TRY(kd_h5_set_u64(file, "k", writer->identity.num_classes));
    KD_TRY(kd_identity_save(&writer->identity, file));
    KD_TRY(kd_h5_set_history(file, history));
out:
    return status;
}

static enum kd_status make_column(struct kd_shard_writer *writer, struct kd_h5 *file,
                                  enum kd_column column)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info info;
    const char *name = kd_column_names[column];

    KD_TRY(kd_column_layout(&writer->identity, column, writer->rows, &info));
    KD_TRY(kd_h5_write(file, name, info.type, info.rank, info.shape, NULL,
                       &writer->offset[column]));
    if (writer->offset[column] > (uint64_t)INT64_MAX - info.bytes)
        return kd_fail(KD_EBUG, "%s: %s has no place in the file", writer->pending.path,
                       name);
out:
    return status;
}

static enum kd_status lay_out(struct kd_shard_writer *writer, const char *history)
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;

    KD_TRY(kd_h5_create(writer->pending.temporary, &file));
    KD_TRY(set_attributes(writer, history, file));
    for (int i = 0; i < KD_COLUMN_COUNT; i++)
        KD_TRY(make_column(writer, file, (enum kd_column)i));
    status = kd_h5_finish(file);
    file = NULL;
out:
    kd_h5_close(file);
    return status;
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
    KD_TRY(kd_pending_open(&made->pending, path));
    KD_TRY(lay_out(made, history));
    made->fd = open(made->pending.temporary, O_WRONLY | O_CLOEXEC);
    if (made->fd < 0) {
        status = kd_fail_errno(KD_EIO, "%s: cannot open", made->pending.temporary);
        goto out;
    }
    *writer = made;
    made = NULL;
    status = KD_OK;
out:
    writer_free(made);
    return status;
}

/* What the threads encode. */
struct encoding {
    struct kd_shard_writer *writer;
    const struct kd_rows *rows;
};

/* The first value that is not finite; `classes` if there is none. */
static size_t find_not_finite(const float *values, size_t classes)
{
    size_t i = 0;

    while (i < classes && isfinite(values[i]))
        i++;
    return i;
}

static float maximum(const float *values, size_t classes)
{
    float top = values[0];

    for (size_t i = 1; i < classes; i++)
        top = values[i] > top ? values[i] : top;
    return top;
}

/* log sum exp of values - top, in double, in the order of the classes. */
static float log_sum_exp(const float *values, size_t classes, float top)
{
    double sum = 0;

    for (size_t i = 0; i < classes; i++)
        sum += exp((double)values[i] - (double)top);
    return (float)log(sum);
}

/* values - top as it is stored: no lower than the least finite value of the type. */
static void encode_values(const float *values, size_t classes, float top,
                          enum kd_type dtype, char *to)
{
    const float least = dtype == KD_F16 ? -KD_HALF_MAX : -FLT_MAX;
    float part[256];
    size_t n = 0;

    for (size_t i = 0; i < classes; i += n) {
        n = classes - i < 256 ? classes - i : 256;
        for (size_t j = 0; j < n; j++) {
            float value = values[i + j] - top;
            part[j] = value < least ? least : value;
        }
        if (dtype == KD_F16)
            kd_half_from_float(part, (uint16_t *)(void *)to + i, n);
        else
            memcpy(to + i * sizeof *part, part, n * sizeof *part);
    }
}

static enum kd_status encode_row(const struct encoding *encoding, size_t row)
{
    struct kd_shard_writer *writer = encoding->writer;
    const struct kd_rows *rows = encoding->rows;
    size_t classes = writer->identity.num_classes;
    size_t bytes = classes * kd_type_size(writer->identity.dtype);
    const float *values = rows->scaled + row * classes;
    char *logits = writer->logits + row * bytes;
    size_t bad = find_not_finite(values, classes);

    if (bad < classes)
        return kd_fail(KD_EDATA, "sample %llu, view %u: the logit of class %zu is %g",
                       (unsigned long long)rows->id[row], (unsigned)rows->view[row],
                       bad, (double)values[bad]);

    float top = maximum(values, classes);
    float log_z = log_sum_exp(values, classes, top);
    encode_values(values, classes, top, writer->identity.dtype, logits);
    writer->row_max[row] = top;
    writer->log_z[row] = log_z;
    writer->check[row] = kd_row_check(&(struct kd_row){
        rows->id[row], rows->view[row], rows->label[row], logits, bytes, top, log_z});
    return KD_OK;
}

static enum kd_status encode_range(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_OK;

    for (size_t row = begin; row < end && status == KD_OK; row++)
        status = encode_row(context, row);
    return status;
}

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

    if (rows->count > writer->rows - writer->written)
        return kd_fail(KD_EDATA, "more rows than the %llu that were announced",
                       (unsigned long long)writer->rows);
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

static enum kd_status reserve(struct kd_shard_writer *writer, size_t count)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info info;

    KD_TRY(kd_column_layout(&writer->identity, KD_COLUMN_LOGITS, count, &info));
    KD_TRY(kd_grow(&writer->logits, &writer->logits_capacity, info.bytes, 1));
    KD_TRY(kd_grow(&writer->row_max, &writer->row_max_capacity, count, sizeof(float)));
    KD_TRY(kd_grow(&writer->log_z, &writer->log_z_capacity, count, sizeof(float)));
    KD_TRY(kd_grow(&writer->check, &writer->check_capacity, count, sizeof(uint32_t)));
out:
    return status;
}

static enum kd_status write_at(const struct kd_shard_writer *writer, const void *data,
                               size_t size, uint64_t offset)
{
    const char *at = data;

    while (size > 0) {
        ssize_t done = pwrite(writer->fd, at, size, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return kd_fail_errno(KD_EIO, "cannot write");
        at += done;
        size -= (size_t)done;
        offset += (uint64_t)done;
    }
    return KD_OK;
}

/* Writes the rows in hand behind the first `before` ones. */
static enum kd_status write_rows(const struct kd_shard_writer *writer,
                                 const struct kd_rows *rows, uint64_t before)
{
    enum kd_status status = KD_EBUG;
    const void *const data[KD_COLUMN_COUNT] = {
        rows->id,        rows->view,    rows->label,  writer->logits,
        writer->row_max, writer->log_z, writer->check};
    struct kd_array_info one;

    for (int i = 0; i < KD_COLUMN_COUNT; i++) {
        KD_TRY(kd_column_layout(&writer->identity, (enum kd_column)i, 1, &one));
        KD_TRY(write_at(writer, data[i], rows->count * one.bytes,
                        writer->offset[i] + before * one.bytes));
    }
out:
    return status;
}

enum kd_status kd_shard_writer_add(struct kd_shard_writer *writer,
                                   const struct kd_rows *rows)
{
    enum kd_status status = KD_EBUG;
    struct encoding encoding = {writer, rows};
    uint64_t before = writer->written;

    if (rows->count == 0)
        return KD_OK;
    KD_TRY(check_rows(writer, rows));
    KD_TRY(reserve(writer, rows->count));
    KD_TRY(kd_parallel(rows->count, GRAIN_VALUES / writer->identity.num_classes + 1,
                       encode_range, &encoding));
    KD_TRY(write_rows(writer, rows, before));
out:
    if (status != KD_OK)
        kd_error_prefix("%s", writer->pending.path);
    return status;
}

static enum kd_status set_complete(const char *path)
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;

    KD_TRY(kd_h5_open_rw(path, &file));
    KD_TRY(kd_h5_set_u64(file, "complete", 1));
    status = kd_h5_finish(file);
    file = NULL;
out:
    kd_h5_close(file);
    return status;
}

static enum kd_status close_rows(struct kd_shard_writer *writer)
{
    int fd = writer->fd;

    writer->fd = -1;
    if (close(fd) != 0)
        return kd_fail_errno(KD_EIO, "%s: cannot write", writer->pending.temporary);
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
    KD_TRY(close_rows(writer));
    KD_TRY(set_complete(writer->pending.temporary));
    KD_TRY(kd_pending_commit(&writer->pending));
out:
    writer_free(writer);
    return status;
}

void kd_shard_writer_abandon(struct kd_shard_writer *writer)
{
    writer_free(writer);
}
