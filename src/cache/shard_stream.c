/* SPDX-License-Identifier: MIT */
/* Paths of shards as they come: from a finished cache, or line by line of a pipe. */
#include "kd/cache.h"

#include "kd/file.h"
#include "kd/memory.h"
#include "kd/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LINE 65536

/* How often a wait looks whether it should stop. */
#define WAIT_MS 200

struct kd_shard_stream {
    char *where;
    char *path; /* what kd_shard_stream_next gave out last */

    /* shards that are all there already; taken from `next` on */
    char **paths;
    size_t count, next;

    /* a pipe; -1 where there is none, or at its end */
    int fd;
    char *text; /* what came, from `start` to `length` not given out yet */
    size_t start, length, capacity;
};

static const char *find_line_end(const struct kd_shard_stream *stream)
{
    if (stream->length == stream->start)
        return NULL;
    return memchr(stream->text + stream->start, '\n', stream->length - stream->start);
}

static enum kd_status take_path(struct kd_shard_stream *stream, char *path)
{
    if (path == NULL)
        return KD_EMEMORY;
    stream->paths[stream->count++] = path;
    return KD_OK;
}

static enum kd_status open_directory(struct kd_shard_stream *stream)
{
    enum kd_status status = KD_EBUG;
    struct kd_cache_list list = {0};

    KD_TRY(kd_cache_list_read(&list, stream->where));
    KD_TRY(KD_NEW(stream->paths, list.count));
    for (size_t i = 0; i < list.count; i++)
        KD_TRY(take_path(stream, kd_path_join(stream->where, list.entries[i].name)));
out:
    kd_cache_list_clear(&list);
    return status;
}

static enum kd_status open_shard(struct kd_shard_stream *stream)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(KD_NEW(stream->paths, 1));
    KD_TRY(take_path(stream, kd_copy_string(stream->where)));
out:
    return status;
}

static enum kd_status open_any(struct kd_shard_stream *stream)
{
    struct stat facts;

    if (strcmp(stream->where, "-") == 0) {
        stream->fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        if (stream->fd < 0)
            return kd_fail_errno(KD_ENOINPUT, "-: cannot read stdin");
        return KD_OK;
    }
    if (stat(stream->where, &facts) != 0)
        return kd_fail_errno(KD_ENOINPUT, "%s: cannot open", stream->where);
    if (S_ISDIR(facts.st_mode))
        return open_directory(stream);
    if (S_ISREG(facts.st_mode))
        return open_shard(stream);
    stream->fd = open(stream->where, O_RDONLY | O_CLOEXEC);
    if (stream->fd < 0)
        return kd_fail_errno(KD_ENOINPUT, "%s: cannot open", stream->where);
    return KD_OK;
}

enum kd_status kd_shard_stream_open(const char *where, struct kd_shard_stream **stream)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard_stream *made = NULL;

    *stream = NULL;
    KD_TRY(KD_NEW(made, 1));
    made->fd = -1;
    made->where = kd_copy_string(where);
    if (made->where == NULL) {
        status = KD_EMEMORY;
        goto out;
    }
    KD_TRY(open_any(made));
    *stream = made;
    made = NULL;
out:
    kd_shard_stream_close(made);
    return status;
}

void kd_shard_stream_close(struct kd_shard_stream *stream)
{
    if (stream == NULL)
        return;
    if (stream->fd >= 0)
        close(stream->fd);
    for (size_t i = 0; i < stream->count; i++)
        free(stream->paths[i]);
    free(stream->paths);
    free(stream->text);
    free(stream->path);
    free(stream->where);
    free(stream);
}

int kd_shard_stream_fd(const struct kd_shard_stream *stream)
{
    return find_line_end(stream) != NULL ? -1 : stream->fd;
}

enum kd_status kd_shard_stream_pump(struct kd_shard_stream *stream)
{
    ssize_t got = 0;

    if (stream->fd < 0)
        return KD_OK;
    if (stream->start > 0) {
        stream->length -= stream->start;
        memmove(stream->text, stream->text + stream->start, stream->length);
        stream->start = 0;
    }
    if (kd_grow(&stream->text, &stream->capacity, stream->length + 4096, 1) != KD_OK)
        return KD_EMEMORY;
    got = read(stream->fd, stream->text + stream->length, 4096);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return KD_OK;
    if (got < 0)
        return kd_fail_errno(KD_EIO, "%s: cannot read", stream->where);
    if (got == 0) {
        close(stream->fd);
        stream->fd = -1;
    }
    stream->length += (size_t)got;
    if (stream->length > MAX_LINE && find_line_end(stream) == NULL)
        return kd_fail(KD_EDATA, "%s: not a list of shards: a line is too long",
                       stream->where);
    return KD_OK;
}

/* Waits until there is a line, or the end. */
static enum kd_status wait_for_line(struct kd_shard_stream *stream)
{
    enum kd_status status = KD_OK;

    while (status == KD_OK && kd_shard_stream_fd(stream) >= 0) {
        struct pollfd wait = {.fd = stream->fd, .events = POLLIN};

        if (kd_interrupted())
            return kd_fail_interrupted(stream->where);
        if (poll(&wait, 1, WAIT_MS) > 0)
            status = kd_shard_stream_pump(stream);
    }
    return status;
}

/* Takes one line, or what is left at the end; NULL where there is nothing. */
static enum kd_status take_line(struct kd_shard_stream *stream, const char **path)
{
    const char *from = stream->text + stream->start;
    const char *end = find_line_end(stream);
    size_t size = end != NULL ? (size_t)(end - from) : stream->length - stream->start;

    stream->start += end != NULL ? size + 1 : size;
    if (memchr(from, '\0', size) != NULL)
        return kd_fail(KD_EDATA, "%s: not a list of shards, but something binary",
                       stream->where);
    free(stream->path);
    stream->path = kd_format("%.*s", (int)size, from);
    *path = stream->path;
    return stream->path != NULL ? KD_OK : KD_EMEMORY;
}

enum kd_status kd_shard_stream_next(struct kd_shard_stream *stream, const char **path)
{
    enum kd_status status = KD_OK;

    *path = NULL;
    if (stream->next < stream->count) {
        *path = stream->paths[stream->next++];
        return KD_OK;
    }
    while (status == KD_OK && (*path == NULL || **path == '\0')) {
        *path = NULL;
        status = wait_for_line(stream);
        if (status == KD_OK && stream->start == stream->length)
            return KD_OK;
        if (status == KD_OK)
            status = take_line(stream, path);
    }
    return status;
}
