/* SPDX-License-Identifier: MIT */
/*
 * A lock on a directory. It is a POSIX record lock: the system drops it with the
 * process, it works on network file systems, and it says who holds it. The file
 * is removed at the end, so whoever gets the lock checks that the name still
 * stands for the file that he locked.
 */
#include "kd/file.h"
#include "kd/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static enum kd_status fail_taken(int fd, const char *directory)
{
    struct flock other = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_GETLK, &other) == 0 && other.l_type != F_UNLCK)
        return kd_fail(KD_ECREATE,
                       "%s: process %ld is writing there: wait for it, or end it",
                       directory, (long)other.l_pid);
    return kd_fail(KD_ECREATE, "%s: another process is writing there: try again",
                   directory);
}

static bool still_named(int fd, const char *path)
{
    struct stat held, named;

    return fstat(fd, &held) == 0 && stat(path, &named) == 0 &&
           held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

/* One try: *fd stays -1 where the file was removed in the meantime. */
static enum kd_status try_lock(const char *directory, const char *path, int *fd)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    enum kd_status status = KD_OK;
    int opened = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

    if (opened < 0)
        return kd_fail_errno(KD_ECREATE, "%s: cannot open", path);
    if (fcntl(opened, F_SETLK, &all) != 0) {
        if (errno == EACCES || errno == EAGAIN)
            status = fail_taken(opened, directory);
        else
            status = kd_fail_errno(KD_ECREATE, "%s: cannot lock", path);
    } else if (still_named(opened, path)) {
        *fd = opened;
        return KD_OK;
    }
    close(opened);
    return status;
}

enum kd_status kd_lock_open(struct kd_lock *lock, const char *directory)
{
    enum kd_status status = KD_EBUG;
    char *path = kd_path_join(directory, ".lock");

    *lock = (struct kd_lock){-1, NULL};
    if (path == NULL)
        return KD_EMEMORY;
    while (lock->fd < 0)
        KD_TRY(try_lock(directory, path, &lock->fd));
    lock->path = path;
    path = NULL;
out:
    free(path);
    return status;
}

long kd_lock_holder(const char *directory)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char *path = kd_path_join(directory, ".lock");
    const int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    long holder = 0;

    if (fd >= 0 && fcntl(fd, F_GETLK, &all) == 0 && all.l_type != F_UNLCK)
        holder = (long)all.l_pid;
    if (fd >= 0)
        close(fd);
    free(path);
    return holder;
}

void kd_lock_close(struct kd_lock *lock)
{
    if (lock->path != NULL && lock->fd >= 0) {
        unlink(lock->path);
        close(lock->fd);
    }
    free(lock->path);
    *lock = (struct kd_lock){-1, NULL};
}
