/* SPDX-License-Identifier: MIT */
/*
 * Writing shards. HDF5 lays out the file; the rows are written to where the layout says
 * (shard_rows.c); `complete` is set last. How many values ragged rows have is known at
 * the end: until then they are kept in temporary files beside the shard, where a full
 * disk is met as early as it would be by the shard itself.
 */
#include "kd/shard.h"

#include "cache/shard_create_internal.h"
#include "cache/shard_write_internal.h"
#include "kd/file.h"
#include "kd/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What lies in temporary files is copied in pieces of so many bytes. */
#define COPY_BYTES ((size_t)1 << 20)

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

enum kd_status kd_shard_writer_complete(struct kd_shard_writer *writer)
{
    enum kd_status status = KD_EBUG;

    if (writer->written != writer->rows)
        return kd_fail(KD_EDATA, "%s: %llu rows were announced and %llu came",
                       writer->pending.path, (unsigned long long)writer->rows,
                       (unsigned long long)writer->written);
    status = place_late(writer);
    if (status == KD_OK)
        status = close_rows(writer);
    if (status != KD_OK) {
        kd_error_prefix("%s", writer->pending.path);
        return status;
    }
    return kd_shard_set_complete(writer->pending.temporary,
                                 writer->has_bound ? &writer->bound : NULL);
}

enum kd_status kd_shard_writer_publish(struct kd_shard_writer *writer,
                                       struct kd_digest *digest)
{
    enum kd_status status = KD_OK;

    if (digest != NULL)
        status = kd_hash_file(writer->pending.temporary, digest, NULL);
    if (status == KD_OK)
        status = kd_pending_commit(&writer->pending);
    writer_free(writer);
    return status;
}

enum kd_status kd_shard_writer_commit(struct kd_shard_writer *writer)
{
    const enum kd_status status = kd_shard_writer_complete(writer);

    if (status == KD_OK)
        return kd_shard_writer_publish(writer, NULL);
    writer_free(writer);
    return status;
}
