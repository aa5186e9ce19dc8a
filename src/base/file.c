/* SPDX-License-Identifier: MIT */
/* Files that exist only when they are whole; small files, directories, names. */
#include "kd/file.h"

#include "base/file_internal.h"
#include "kd/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void pending_clear(struct kd_pending *pending)
{
    free(pending->path);
    free(pending->temporary);
    *pending = (struct kd_pending){NULL, NULL};
}

enum kd_status kd_pending_open(struct kd_pending *pending, const char *path)
{
    struct stat there;

    *pending = (struct kd_pending){NULL, NULL};
    /* Renaming would put a file in the place of a device or pipe. */
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode))
        return kd_fail(KD_ECREATE, "%s: exists and is not a regular file", path);
    pending->path = kd_copy_string(path);
    pending->temporary = kd_format("%s.part", path);
    if (pending->path == NULL || pending->temporary == NULL) {
        pending_clear(pending);
        return KD_EMEMORY;
    }
    return KD_OK;
}

/* Waits until the file is on the disk. */
static enum kd_status sync_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return kd_fail_errno(KD_EIO, "%s: cannot open to finish it", path);
    if (fsync(fd) != 0) {
        enum kd_status status = kd_fail_errno(KD_EIO, "%s: cannot flush", path);
        close(fd);
        return status;
    }
    close(fd);
    return KD_OK;
}

/* Waits until the directory that holds `path` is on the disk. */
static enum kd_status sync_parent(const char *path)
{
    enum kd_status status = KD_OK;
    size_t length = (size_t)(kd_path_base(path) - path);
    char *parent = length > 0 ? kd_format("%.*s", (int)length, path) : kd_format(".");
    int fd = -1;

    if (parent == NULL)
        return KD_EMEMORY;
    fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Some file systems cannot flush a directory, and say EINVAL. */
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL))
        status = kd_fail_errno(KD_EIO, "%s: cannot flush the directory", parent);
    if (fd >= 0)
        close(fd);
    free(parent);
    return status;
}

enum kd_status kd_pending_commit(struct kd_pending *pending)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(sync_file(pending->temporary));
    if (rename(pending->temporary, pending->path) != 0) {
        status = kd_fail_errno(KD_ECREATE, "%s: cannot rename %s to it", pending->path,
                               kd_path_base(pending->temporary));
        goto out;
    }
    status = sync_parent(pending->path);
    pending_clear(pending);
out:
    kd_pending_abandon(pending);
    return status;
}

void kd_pending_abandon(struct kd_pending *pending)
{
    if (pending->temporary != NULL)
        unlink(pending->temporary);
    pending_clear(pending);
}

enum kd_status kd_pending_create(const struct kd_pending *pending, int *fd)
{
    *fd = open(pending->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (*fd < 0)
        return kd_fail_errno(KD_ECREATE, "%s: cannot create", pending->temporary);
    return KD_OK;
}

enum kd_status kd_write_all(int fd, const char *path, const void *data, size_t size)
{
    const char *at = data;

    while (size > 0) {
        ssize_t done = write(fd, at, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return kd_fail_errno(KD_EIO, "%s: cannot write", path);
        at += done;
        size -= (size_t)done;
    }
    return KD_OK;
}

enum kd_status kd_write_at(int fd, const char *path, const void *data, size_t size,
                           uint64_t offset)
{
    const char *at = data;

    while (size > 0) {
        ssize_t done = pwrite(fd, at, size, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0 && path == NULL)
            return kd_fail_errno(KD_EIO, "cannot write");
        if (done <= 0)
            return kd_fail_errno(KD_EIO, "%s: cannot write", path);
        at += done;
        size -= (size_t)done;
        offset += (uint64_t)done;
    }
    return KD_OK;
}

enum kd_status kd_file_write(const char *path, const void *data, size_t size)
{
    enum kd_status status = KD_EBUG;
    struct kd_pending pending = {NULL, NULL};
    int fd = -1;

    KD_TRY(kd_pending_open(&pending, path));
    KD_TRY(kd_pending_create(&pending, &fd));
    KD_TRY(kd_write_all(fd, pending.temporary, data, size));
    KD_TRY(kd_pending_commit(&pending));
out:
    if (fd >= 0)
        close(fd);
    kd_pending_abandon(&pending);
    return status;
}

/* Reads to the end of `fd`; the buffer always has room for one 0 more. */
static enum kd_status read_all(int fd, const char *path, size_t limit, char **data,
                               size_t *size)
{
    size_t capacity = 0;

    for (;;) {
        if (kd_grow(data, &capacity, *size + 4096, 1) != KD_OK)
            return KD_EMEMORY;
        ssize_t got = read(fd, *data + *size, capacity - *size - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return kd_fail_errno(KD_EIO, "%s: cannot read", path);
        if (got == 0)
            break;
        *size += (size_t)got;
        if (*size > limit)
            return kd_fail(KD_EDATA, "%s: too large: more than %zu bytes", path, limit);
    }
    (*data)[*size] = '\0';
    return KD_OK;
}

enum kd_status kd_file_read(const char *path, size_t limit, char **data, size_t *size)
{
    enum kd_status status = KD_EBUG;
    char *bytes = NULL;
    size_t length = 0;
    int fd = -1;

    *data = NULL;
    *size = 0;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        status = kd_fail_errno(KD_ENOINPUT, "%s: cannot open", path);
        goto out;
    }
    KD_TRY(read_all(fd, path, limit, &bytes, &length));
    *data = bytes;
    *size = length;
    bytes = NULL;
out:
    free(bytes);
    if (fd >= 0)
        close(fd);
    return status;
}

bool kd_is_directory(const char *path)
{
    struct stat facts;

    return stat(path, &facts) == 0 && S_ISDIR(facts.st_mode);
}

/* mkdir() that is content with what is there, whatever mkdir() said of it: on a
 * read-only or automounted parent that need not be EEXIST. */
static enum kd_status make_one(const char *path)
{
    if (mkdir(path, 0777) == 0)
        return KD_OK;

    int cause = errno;
    if (kd_is_directory(path))
        return KD_OK;
    errno = cause;
    return kd_fail_errno(KD_ECREATE, "%s: cannot make the directory", path);
}

enum kd_status kd_make_directory(const char *path)
{
    enum kd_status status = KD_EBUG;
    char *prefix = kd_copy_string(path);

    if (prefix == NULL)
        return KD_EMEMORY;
    for (size_t i = 1; i < strlen(path); i++) {
        if (path[i] != '/')
            continue;
        prefix[i] = '\0';
        KD_TRY(make_one(prefix));
        prefix[i] = '/';
    }
    KD_TRY(make_one(path));
out:
    free(prefix);
    return status;
}

char *kd_path_join(const char *directory, const char *name)
{
    size_t length = directory != NULL ? strlen(directory) : 0;

    if (length == 0 || strcmp(directory, ".") == 0)
        return kd_copy_string(name);
    return kd_format("%s%s%s", directory, directory[length - 1] == '/' ? "" : "/",
                     name);
}

const char *kd_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}
