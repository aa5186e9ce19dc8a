/* SPDX-License-Identifier: MIT */
/* Files mapped for reading. */
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
