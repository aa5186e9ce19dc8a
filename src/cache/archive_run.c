/* SPDX-License-Identifier: MIT */
/* Packing and unpacking caches: shard by shard, then the list of them. */
#include "kd/export.h"

#include "cache/archive_internal.h"
#include "cache/cache_json_internal.h"
#include "cache/shard_read_internal.h"
#include "kd/file.h"
#include "kd/memory.h"
#include "kd/progress.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct run {
    const char *from, *to;
    bool pack;
    struct kd_lock lock;
    struct kd_cache_list list; /* of what is there */
    char **made;               /* [count] paths of what is made of it */
    size_t count;
    struct kd_progress progress;
    enum kd_status (*finished)(void *context, const char *path);
    void *context;
};

static enum kd_status check_places(const char *from, const char *to)
{
    struct stat a, b;

    if (!kd_is_directory(from))
        return kd_fail(access(from, F_OK) == 0 ? KD_EUSAGE : KD_ENOINPUT,
                       "%s: must be the directory of a cache", from);
    if (stat(from, &a) == 0 && stat(to, &b) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino)
        return kd_fail(KD_EUSAGE,
                       "%s: cannot be made of itself: give -o another "
                       "directory",
                       to);
    return KD_OK;
}

/* Reads every row of a shard once, which verifies it. */
static enum kd_status verify(const struct kd_shard *shard)
{
    enum kd_status status = KD_EBUG;
    struct kd_row row = {0};

    KD_TRY(kd_row_new(&row, kd_shard_kept(shard), true));
    for (uint64_t at = 0; at < kd_shard_rows(shard); at++) {
        if (at % 4096 == 0 && kd_interrupted()) {
            status = kd_fail_interrupted(kd_shard_path(shard));
            goto out;
        }
        KD_TRY(kd_shard_row(shard, at, &row));
    }
    status = KD_OK;
out:
    kd_row_free(&row);
    return status;
}

/* The digest of the contiguous file that stands in `to` already, in whichever layout;
 * *there is false where nothing does. */
static enum kd_status look_for(const struct run *run, const char *to,
                               struct kd_digest *digest, bool *there)
{
    *there = access(to, F_OK) == 0;
    if (*there && !run->pack)
        return kd_hash_file(to, digest, NULL);
    if (*there && kd_archive_digest(to, digest) != KD_OK)
        *digest = (struct kd_digest){""}; /* something else */
    return KD_OK;
}

static enum kd_status pack(const struct kd_cache_entry *entry, const char *from,
                           const char *to)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard *shard = NULL;
    struct kd_digest digest;

    KD_TRY(kd_shard_open(from, &shard));
    KD_TRY(verify(shard));
    KD_TRY(kd_hash_file(from, &digest, NULL));
    if (!kd_digest_equal(&digest, &entry->digest))
        status =
            kd_fail(KD_EDATA, "%s: is not the file that " KD_CACHE_LIST " lists", from);
    else
        status = kd_archive_pack_shard(from, kd_shard_identity(shard), &digest, to);
out:
    kd_shard_close(shard);
    return status;
}

static enum kd_status move_shard(struct run *run, const struct kd_cache_entry *entry,
                                 const char *to)
{
    enum kd_status status = KD_EBUG;
    struct kd_digest due = entry->digest, found = {""};
    char *from = kd_path_join(run->from, entry->name);
    bool there = false;

    KD_TRY(from != NULL ? KD_OK : KD_EMEMORY);
    if (!run->pack)
        KD_TRY(kd_archive_digest(from, &due));
    KD_TRY(look_for(run, to, &found, &there));
    if (there && kd_digest_equal(&found, &due))
        goto out;
    if (there)
        status = kd_fail(KD_EDATA,
                         "%s: is there with another content; choose another "
                         "directory or remove it",
                         to);
    else if (run->pack)
        status = pack(entry, from, to);
    else
        status = kd_archive_unpack_shard(from, &due, to);
out:
    free(from);
    return status;
}

/* The list of the archived shards: that of the cache, with the files that they are
 * now. */
static enum kd_status list_archives(struct run *run)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard *shard = NULL;
    char *first = kd_path_join(run->from, run->list.entries[0].name);
    char *path = kd_path_join(run->to, KD_CACHE_LIST), *text = NULL;

    KD_TRY(first != NULL && path != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_shard_open(first, &shard));
    for (size_t i = 0; i < run->list.count; i++)
        KD_TRY(kd_hash_file(run->made[i], &run->list.entries[i].digest,
                            &run->list.entries[i].bytes));
    KD_TRY(kd_cache_list_text(&run->list, kd_shard_identity(shard), &text));
    KD_TRY(kd_file_write(path, text, strlen(text)));
out:
    kd_shard_close(shard);
    free(first);
    free(path);
    free(text);
    return status;
}

static enum kd_status move_shards(struct run *run)
{
    enum kd_status status = KD_EBUG;

    for (size_t i = 0; i < run->list.count; i++) {
        run->made[i] = kd_path_join(run->to, run->list.entries[i].name);
        KD_TRY(run->made[i] != NULL ? KD_OK : KD_EMEMORY);
        run->count++;
        KD_TRY(move_shard(run, &run->list.entries[i], run->made[i]));
        kd_progress_set(&run->progress, i + 1);
        if (run->finished != NULL)
            KD_TRY(run->finished(run->context, run->made[i]));
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status move_cache(struct run *run)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(check_places(run->from, run->to));
    KD_TRY(kd_cache_list_read(&run->list, run->from));
    KD_TRY(KD_NEW(run->made, run->list.count));
    KD_TRY(kd_make_directory(run->to));
    KD_TRY(kd_lock_open(&run->lock, run->to));
    kd_progress_open(&run->progress, run->pack ? "packing" : "unpacking", "shards",
                     run->list.count);
    status = move_shards(run);
    kd_progress_close(&run->progress);
    KD_TRY(status);
    if (run->pack)
        KD_TRY(list_archives(run));
    else
        KD_TRY(kd_cache_seal(run->to, run->made, run->count));
out:
    for (size_t i = 0; i < run->count; i++)
        free(run->made[i]);
    free(run->made);
    kd_lock_close(&run->lock);
    kd_cache_list_clear(&run->list);
    return status;
}

enum kd_status kd_archive_pack(const char *from, const char *to,
                               enum kd_status (*finished)(void *context,
                                                          const char *path),
                               void *context)
{
    struct run run = {.from = from,
                      .to = to,
                      .pack = true,
                      .lock.fd = -1,
                      .finished = finished,
                      .context = context};

    return move_cache(&run);
}

enum kd_status kd_archive_unpack(const char *from, const char *to,
                                 enum kd_status (*finished)(void *context,
                                                            const char *path),
                                 void *context)
{
    struct run run = {.from = from,
                      .to = to,
                      .lock.fd = -1,
                      .finished = finished,
                      .context = context};

    return move_cache(&run);
}
