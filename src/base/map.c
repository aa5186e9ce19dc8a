/* SPDX-License-Identifier: MIT */
/* Files mapped for reading. */
#define _DEFAULT_SOURCE /* madvise: posix_madvise does nothing to forget */
#include "kd/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static enum kd_status map_all(struct kd_map *map, int fd, const char *path)
{
    struct stat facts;

    if (fstat(fd, &facts) != 0)
        return kd_fail_errno(KD_EIO, "%s: cannot ask for its size", path);
    if (!S_ISREG(facts.st_mode))
        return kd_fail(KD_EDATA, "%s: not a regular file", path);
    if ((uintmax_t)facts.st_size > SIZE_MAX)
        return kd_fail(KD_EDATA, "%s: too large for this machine", path);
    if (facts.st_size == 0)
        return KD_OK;

    void *data = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return kd_fail_errno(KD_EIO, "%s: cannot map", path);
    map->data = data;
    map->size = (size_t)facts.st_size;
    return KD_OK;
}

enum kd_status kd_map_open(struct kd_map *map, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    *map = (struct kd_map){NULL, 0};
    if (fd < 0)
        return kd_fail_errno(KD_ENOINPUT, "%s: cannot open", path);

    enum kd_status status = map_all(map, fd, path);
    close(fd);
    return status;
}

void kd_map_close(struct kd_map *map)
{
    if (map->data != NULL)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (struct kd_map){NULL, 0};
}

/* Advice about the pages of bytes begin to end-1 of a map. */
static void advise(const struct kd_map *map, uint64_t begin, uint64_t end, int advice)
{
    /* Hints: a system that does not take them is only slower. */
    if (begin < end)
        (void)madvise((void *)(uintptr_t)(map->data + begin), (size_t)(end - begin),
                      advice);
}

static uint64_t page_size(void)
{
    const long size = sysconf(_SC_PAGESIZE);

    return size > 0 ? (uint64_t)size : 4096;
}

/* Where the bytes end that the map has. */
static uint64_t end_of(const struct kd_map *map, uint64_t from, uint64_t bytes)
{
    return bytes < map->size - from ? from + bytes : map->size;
}

void kd_map_prefetch(const struct kd_map *map, uint64_t from, uint64_t bytes)
{
    if (from < map->size)
        advise(map, from - from % page_size(), end_of(map, from, bytes), MADV_WILLNEED);
}

void kd_map_forget(const struct kd_map *map, uint64_t from, uint64_t bytes)
{
    const uint64_t page = page_size();

    if (from >= map->size)
        return;
    const uint64_t end = end_of(map, from, bytes), more = (page - from % page) % page;
    advise(map, from + more, end - end % page, MADV_DONTNEED);
}
