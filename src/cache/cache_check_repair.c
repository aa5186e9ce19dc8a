/* SPDX-License-Identifier: MIT */
/*
 * Repairing a cache: no row is made here and none is lost. What is wrong is put aside,
 * so that the program that made the cache makes it again.
 */
#include "cache/cache_check_internal.h"
#include "cache/cache_json_internal.h"
#include "kd/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DID(check, path, ...)                                                          \
    kd_findings_add(&(check)->report->repairs, path, __VA_ARGS__)

static enum kd_status remove_file(struct kd_check *check, const char *path)
{
    if (unlink(path) != 0)
        return kd_fail_errno(KD_EIO, "%s: cannot remove", path);
    return DID(check, path, "removed");
}

/* "SHARD.damaged", or with a number behind it where there is such a file already. */
static char *free_name(const char *path)
{
    char *name = kd_format("%s.damaged", path);

    for (unsigned n = 2; name != NULL && access(name, F_OK) == 0; n++) {
        free(name);
        name = kd_format("%s.damaged-%u", path, n);
    }
    return name;
}

static enum kd_status put_aside(struct kd_check *check, const char *path)
{
    enum kd_status status = KD_EBUG;
    char *name = free_name(path);

    if (name == NULL)
        return KD_EMEMORY;
    if (rename(path, name) != 0)
        status = kd_fail_errno(KD_ECREATE, "%s: cannot rename %s to it", name, path);
    else
        status = DID(check, path, "put aside as %s", name);
    free(name);
    return status;
}

/* -- cache.json ------------------------------------------------------------- */

static bool is_kept(const struct kd_check_shard *shard)
{
    return shard->exam.opened && !shard->bad && !shard->stranger;
}

/* Whether cache.json, as it is, stands for the shards that are kept. */
static bool list_stands(const struct kd_check *check)
{
    bool stands = check->list_read && !check->list_bad;

    for (size_t i = 0; i < check->count; i++)
        stands =
            stands && (check->shards[i].entry != NULL) == is_kept(&check->shards[i]);
    return stands;
}

/* Whether the shards that are kept have all rows; none has a row of another. */
static bool is_complete(const struct kd_check *check)
{
    uint64_t rows = 0;

    for (size_t i = 0; i < check->count; i++) {
        if (check->shards[i].stranger && !check->shards[i].bad)
            return false; /* who knows which of them belong here */
        rows += is_kept(&check->shards[i]) ? check->shards[i].exam.rows : 0;
    }
    return check->identity != NULL &&
           rows == check->identity->num_samples * check->identity->views;
}

static int compare_rows(const void *a, const void *b)
{
    const struct kd_check_shard *const *x = a, *const *y = b;
    const uint64_t at = (*x)->exam.spans[0].begin, other = (*y)->exam.spans[0].begin;

    return at < other ? -1 : at > other;
}

/* Writes cache.json of the shards that are kept, in the order of their rows. */
static enum kd_status rebuild_list(struct kd_check *check)
{
    enum kd_status status = KD_EBUG;
    const struct kd_check_shard **kept = NULL;
    char **paths = NULL;
    size_t n = 0;

    KD_TRY(KD_NEW(kept, check->count));
    KD_TRY(KD_NEW(paths, check->count));
    for (size_t i = 0; i < check->count; i++)
        if (is_kept(&check->shards[i]))
            kept[n++] = &check->shards[i];
    qsort(kept, n, sizeof *kept, compare_rows);
    for (size_t i = 0; i < n; i++)
        paths[i] = kept[i]->path;
    KD_TRY(kd_cache_seal(check->directory, paths, n));
    status = DID(check, check->list_path, "written anew");
out:
    free(kept);
    free(paths);
    return status;
}

static enum kd_status advise(struct kd_check *check)
{
    const struct kd_identity *of = check->identity;

    for (size_t i = 0; i < check->count; i++)
        if (check->shards[i].stranger && !check->shards[i].bad)
            return DID(check, check->directory,
                       "has shards of different caches: take out those that do not "
                       "belong there");
    return DID(check, check->directory,
               "to have what is missing made, run the %s command that made it again",
               of == NULL                   ? "kd-dump or kd-merge"
               : of->kind == KD_KIND_MERGED ? "kd-merge"
                                            : "kd-dump");
}

enum kd_status kd_check_repair(struct kd_check *check, bool *whole)
{
    enum kd_status status = KD_EBUG;
    const bool complete = is_complete(check), stands = list_stands(check);

    for (size_t i = 0; i < check->num_leftovers; i++)
        KD_TRY(remove_file(check, check->leftovers[i]));
    for (size_t i = 0; i < check->count; i++)
        if (check->shards[i].bad)
            KD_TRY(put_aside(check, check->shards[i].path));
    /* Not before: by its digests alone it may be known what was altered. */
    if (check->list_there && !(complete && stands))
        KD_TRY(remove_file(check, check->list_path));
    if (!complete)
        KD_TRY(advise(check));
    else if (!stands)
        KD_TRY(rebuild_list(check));
    *whole = complete;
    status = KD_OK;
out:
    return status;
}
