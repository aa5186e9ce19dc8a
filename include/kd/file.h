/* SPDX-License-Identifier: MIT */
/*
 * Files that exist only when they are whole.
 *
 * A file is written under a temporary name beside its final one; commit
 * flushes it to disk, renames it and flushes the directory, so that after a
 * crash at any moment the final name has either nothing, the old file or the
 * whole new one.
 *
 *     struct kd_pending pending;
 *     KD_TRY(kd_pending_open(&pending, "cache/shard-000001.h5"));
 *     ... write to pending.temporary, by any means ...
 *     KD_TRY(kd_pending_commit(&pending));   (or kd_pending_abandon)
 *
 * The temporary name is the final name with ".part" behind it: one process
 * writes one file, which a kd_lock on the directory sees to, so that what a
 * killed process left is simply overwritten by the next.
 */
#ifndef KD_FILE_H
#define KD_FILE_H

#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct kd_pending {
    char *path;      /* the final name; NULL when there is nothing pending */
    char *temporary; /* the name to write to */
};

/* KD_ECREATE if `path` is there and is a directory, device or pipe. */
enum kd_status kd_pending_open(struct kd_pending *pending, const char *path) KD_CHECKED;

/* On failure the temporary file is removed. Either way `pending` is cleared. */
enum kd_status kd_pending_commit(struct kd_pending *pending) KD_CHECKED;

/* The rule for outputs that are one file: what is there already under the final name is
 * left alone. KD_EUSAGE if it is another file than the temporary one, which must be
 * whole; the same bytes are fine, for then the same command was run before. */
enum kd_status kd_pending_check(const struct kd_pending *pending) KD_CHECKED;

/* Removes the temporary file; for error paths, keeps the message. A pending
 * that was committed, or zeroed, is left alone. */
void kd_pending_abandon(struct kd_pending *pending);

/* Writes a small file whole, through the calls above. */
enum kd_status kd_file_write(const char *path, const void *data,
                             size_t size) KD_CHECKED;

/* Writes all of it at an offset of an open file, whatever interrupts; `path` is for the
 * message, NULL where the caller names the file itself. KD_EIO. */
enum kd_status kd_write_at(int fd, const char *path, const void *data, size_t size,
                           uint64_t offset) KD_CHECKED;

/* Reads a small file whole; the bytes are followed by a 0 that is not counted.
 * Files over `limit` bytes are refused. The caller frees *data. */
enum kd_status kd_file_read(const char *path, size_t limit, char **data,
                            size_t *size) KD_CHECKED;

/* Makes a directory and its parents; one that exists is fine. KD_ECREATE. */
enum kd_status kd_make_directory(const char *path) KD_CHECKED;

/* Whether `path` is a directory, or a link to one. */
bool kd_is_directory(const char *path);

/* "dir/name" on the heap, "name" where dir is NULL or "."; NULL with a message. */
char *kd_path_join(const char *directory, const char *name) KD_CHECKED;

/* The part behind the last slash, into `path`. */
const char *kd_path_base(const char *path);

/* A lock on a directory that is being written: DIRECTORY/.lock. It goes with
 * the process, however it ends. KD_ECREATE, naming the other process, if it is
 * taken. */
struct kd_lock {
    int fd;     /* -1: none */
    char *path; /* NULL: none */
};
enum kd_status kd_lock_open(struct kd_lock *lock, const char *directory) KD_CHECKED;
void kd_lock_close(struct kd_lock *lock);

/* The process that holds the lock of a directory; 0 if none does, or it is this one. */
long kd_lock_holder(const char *directory);

/* A file mapped for reading. An empty file maps to size 0 and data NULL. */
struct kd_map {
    const uint8_t *data;
    size_t size;
};
enum kd_status kd_map_open(struct kd_map *map, const char *path) KD_CHECKED;
void kd_map_close(struct kd_map *map);

/* Tells the system that `bytes` bytes from `from` on are needed soon: it starts to
 * read the pages that they touch. Or that they are not needed for a while: the pages
 * that lie wholly within no longer count as the process's memory. Hints; bytes that
 * the map does not have are left out. */
void kd_map_prefetch(const struct kd_map *map, uint64_t from, uint64_t bytes);
void kd_map_forget(const struct kd_map *map, uint64_t from, uint64_t bytes);

#endif
