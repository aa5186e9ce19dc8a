/* SPDX-License-Identifier: MIT */
/* The directory of a run. */
#include "kd/place.h"

#include "kd/memory.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Cuts the last name off; false where there is but one. */
static bool cut(char *path)
{
    char *slash;
    size_t length = strlen(path);

    while (length > 1 && path[length - 1] == '/')
        path[--length] = '\0';
    slash = strrchr(path, '/');
    if (slash == NULL || slash == path)
        return false;
    *slash = '\0';
    return true;
}

/* How many directories of the path are missing. */
static enum kd_status count_missing(const char *path, size_t *count)
{
    char *part = kd_copy_string(path);

    if (part == NULL)
        return KD_EMEMORY;
    for (*count = 0; access(part, F_OK) != 0; (*count)++)
        if (!cut(part)) {
            (*count)++;
            break;
        }
    free(part);
    return KD_OK;
}

static bool is_of_cache(const char *name)
{
    const size_t length = strlen(name);

    return strcmp(name, "cache.json") == 0 ||
           (strncmp(name, "shard-", 6) == 0 && length > 9 &&
            strcmp(name + length - 3, ".h5") == 0);
}

static enum kd_status check_no_cache(const char *directory)
{
    DIR *listing = opendir(directory);
    struct dirent *entry;
    enum kd_status status = KD_OK;

    while (listing != NULL && status == KD_OK && (entry = readdir(listing)) != NULL)
        if (is_of_cache(entry->d_name))
            status = kd_fail(KD_EUSAGE,
                             "%s: holds a cache (%s): choose another directory for the "
                             "run",
                             directory, entry->d_name);
    if (listing != NULL)
        closedir(listing);
    return status;
}

enum kd_status kd_place_open(struct kd_place *place, const char *directory)
{
    enum kd_status status = KD_EBUG;

    *place = (struct kd_place){.lock = {.fd = -1}};
    place->path = kd_copy_string(directory);
    KD_TRY(place->path != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(check_no_cache(directory));
    KD_TRY(count_missing(directory, &place->made));
    KD_TRY(kd_make_directory(directory));
    KD_TRY(kd_lock_open(&place->lock, directory));
    status = KD_OK;
out:
    return status;
}

void kd_place_close(struct kd_place *place)
{
    if (place->path == NULL)
        return;
    kd_lock_close(&place->lock);
    for (size_t i = 0; i < place->made; i++)
        if (rmdir(place->path) != 0 || !cut(place->path))
            break;
    free(place->path);
    *place = (struct kd_place){.lock = {.fd = -1}};
}
