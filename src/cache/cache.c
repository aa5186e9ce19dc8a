/* SPDX-License-Identifier: MIT */
/* Caches: shards opened together. */
#include "kd/cache.h"

#include "cache/cache_internal.h"
#include "kd/file.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static enum kd_status add_shard(struct kd_cache *cache, const char *path)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard *shard = NULL;

    KD_TRY(kd_grow(&cache->shards, &cache->capacity, cache->count + 1, sizeof shard));
    KD_TRY(kd_shard_open(path, &shard));
    cache->shards[cache->count++] = shard;
    cache->rows += kd_shard_rows(shard);
    if (kd_shard_kept(shard) > cache->kept)
        cache->kept = kd_shard_kept(shard);
out:
    return status;
}

/* Whether the shard that was just added is what cache.json says it is. */
static enum kd_status check_entry(const struct kd_cache *cache,
                                  const struct kd_cache_entry *entry,
                                  const struct kd_digest *identity)
{
    enum kd_status status = KD_EBUG;
    const struct kd_shard *shard = cache->shards[cache->count - 1];
    const char *path = kd_shard_path(shard), *wrong = NULL;
    struct kd_digest digest;
    struct stat facts;

    KD_TRY(kd_identity_digest(kd_shard_identity(shard), &digest));
    if (kd_shard_rows(shard) != entry->rows)
        wrong = "has another number of rows";
    else if (stat(path, &facts) != 0 || (uint64_t)facts.st_size != entry->bytes)
        wrong = "is of another size";
    else if (!kd_digest_equal(&digest, identity))
        wrong = "is of another identity";
    if (wrong != NULL)
        status =
            kd_fail(KD_EDATA, "%s: it %s than cache.json beside it says", path, wrong);
out:
    return status;
}

static enum kd_status add_entry(struct kd_cache *cache, const char *directory,
                                const struct kd_cache_entry *entry,
                                const struct kd_digest *identity)
{
    enum kd_status status = KD_EBUG;
    char *path = kd_path_join(directory, entry->name);

    if (path == NULL)
        return KD_EMEMORY;
    KD_TRY(add_shard(cache, path));
    KD_TRY(check_entry(cache, entry, identity));
out:
    free(path);
    return status;
}

static enum kd_status add_directory(struct kd_cache *cache, const char *directory)
{
    enum kd_status status = KD_EBUG;
    struct kd_cache_list list = {0};

    KD_TRY(kd_cache_list_read(&list, directory));
    for (size_t i = 0; i < list.count; i++)
        KD_TRY(add_entry(cache, directory, &list.entries[i], &list.identity));
out:
    kd_cache_list_clear(&list);
    return status;
}

static enum kd_status add_stream(struct kd_cache *cache, const char *where)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard_stream *stream = NULL;
    const char *path = NULL;

    KD_TRY(kd_shard_stream_open(where, &stream));
    KD_TRY(kd_shard_stream_next(stream, &path));
    if (path == NULL) {
        status = kd_fail(KD_EDATA,
                         "%s: no shard came: its producer failed, or had "
                         "nothing to do",
                         where);
        goto out;
    }
    while (path != NULL) {
        KD_TRY(add_shard(cache, path));
        KD_TRY(kd_shard_stream_next(stream, &path));
    }
out:
    kd_shard_stream_close(stream);
    return status;
}

static int compare_keys(uint64_t id_a, uint32_t view_a, uint64_t id_b, uint32_t view_b)
{
    if (id_a != id_b)
        return id_a < id_b ? -1 : 1;
    return view_a < view_b ? -1 : view_a > view_b;
}

static int compare_shards(const void *a, const void *b)
{
    const struct kd_shard *const *x = a, *const *y = b;

    return compare_keys(kd_shard_ids(*x)[0], kd_shard_views(*x)[0], kd_shard_ids(*y)[0],
                        kd_shard_views(*y)[0]);
}

/* Whether `next` is of the same cache as `shard` and lies wholly behind it. */
static enum kd_status check_neighbours(const struct kd_shard *shard,
                                       const struct kd_shard *next)
{
    enum kd_status status = KD_EBUG;
    uint64_t last = kd_shard_rows(shard) - 1;

    status = kd_identity_equal(kd_shard_identity(next), kd_shard_identity(shard));
    if (status != KD_OK) {
        kd_error_prefix("%s: not of the cache of %s", kd_shard_path(next),
                        kd_shard_path(shard));
        return status;
    }
    if (compare_keys(kd_shard_ids(shard)[last], kd_shard_views(shard)[last],
                     kd_shard_ids(next)[0], kd_shard_views(next)[0]) >= 0)
        return kd_fail(KD_EDATA, "%s: holds rows that %s holds too: sample %llu",
                       kd_shard_path(next), kd_shard_path(shard),
                       (unsigned long long)kd_shard_ids(next)[0]);
    return KD_OK;
}

static enum kd_status check_shards(struct kd_cache *cache)
{
    enum kd_status status = KD_OK;

    qsort(cache->shards, cache->count, sizeof *cache->shards, compare_shards);
    for (size_t i = 1; i < cache->count && status == KD_OK; i++)
        status = check_neighbours(cache->shards[i - 1], cache->shards[i]);
    return status;
}

/* What finding the shard of an id needs, in one piece. The first shard and the last may
 * be smaller than the others. */
static enum kd_status index_shards(struct kd_cache *cache)
{
    enum kd_status status = KD_EBUG;
    const size_t first = cache->count > 2 ? 1 : 0, last = cache->count - 1;

    KD_TRY(KD_NEW(cache->keys, cache->count));
    for (size_t i = 0; i < cache->count; i++)
        cache->keys[i] = (struct kd_cache_key){kd_shard_ids(cache->shards[i])[0],
                                               kd_shard_views(cache->shards[i])[0]};
    const uint64_t ids = cache->keys[last].id - cache->keys[first].id;
    if (ids > 0)
        cache->shards_an_id = (double)(last - first) / (double)ids;
out:
    return status;
}

static bool is_directory(const char *where)
{
    struct stat facts;

    return strcmp(where, "-") != 0 && stat(where, &facts) == 0 &&
           S_ISDIR(facts.st_mode);
}

enum kd_status kd_cache_open(const char *where, struct kd_cache **cache)
{
    enum kd_status status = KD_EBUG;
    struct kd_cache *made = NULL;

    *cache = NULL;
    KD_TRY(KD_NEW(made, 1));
    if (is_directory(where))
        KD_TRY(add_directory(made, where));
    else
        KD_TRY(add_stream(made, where));
    made->name = kd_cache_title(where, kd_shard_path(made->shards[0]));
    KD_TRY(made->name != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(check_shards(made));
    KD_TRY(index_shards(made));
    *cache = made;
    made = NULL;
out:
    kd_cache_close(made);
    return status;
}

void kd_cache_close(struct kd_cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; i < cache->count; i++)
        kd_shard_close(cache->shards[i]);
    free(cache->shards);
    free(cache->keys);
    free(cache->name);
    free(cache);
}

const struct kd_identity *kd_cache_identity(const struct kd_cache *cache)
{
    return kd_shard_identity(cache->shards[0]);
}

bool kd_cache_lasts(const char *where)
{
    struct stat facts;

    return strcmp(where, "-") != 0 && stat(where, &facts) == 0 &&
           (S_ISREG(facts.st_mode) || S_ISDIR(facts.st_mode));
}

char *kd_cache_title(const char *where, const char *shard)
{
    const ptrdiff_t directory = kd_path_base(shard) - shard - 1;

    if (kd_cache_lasts(where))
        return kd_copy_string(where);
    return directory > 0 ? kd_format("%.*s (of %s)", (int)directory, shard, where)
                         : kd_format("%s (of %s)", shard, where);
}

const char *kd_cache_name(const struct kd_cache *cache)
{
    return cache->name;
}

uint64_t kd_cache_rows(const struct kd_cache *cache)
{
    return cache->rows;
}

size_t kd_cache_num_shards(const struct kd_cache *cache)
{
    return cache->count;
}

const struct kd_shard *kd_cache_shard(const struct kd_cache *cache, size_t index)
{
    return cache->shards[index];
}

size_t kd_cache_kept(const struct kd_cache *cache)
{
    return cache->kept;
}

void kd_cache_set_verify(struct kd_cache *cache, bool verify)
{
    for (size_t i = 0; i < cache->count; i++)
        kd_shard_set_verify(cache->shards[i], verify);
}

/* The first row that the identity promises and that is not there. */
static void find_hole(const struct kd_cache *cache, uint64_t *id, uint32_t *view)
{
    const struct kd_identity *of = kd_cache_identity(cache);
    uint32_t end_view = of->first_view + of->views;

    *id = of->first_id;
    *view = of->first_view;
    for (size_t s = 0; s < cache->count; s++) {
        const uint64_t *ids = kd_shard_ids(cache->shards[s]);
        const uint32_t *views = kd_shard_views(cache->shards[s]);

        for (uint64_t row = 0; row < kd_shard_rows(cache->shards[s]); row++) {
            if (ids[row] != *id || views[row] != *view)
                return;
            if (++*view == end_view) {
                *view = of->first_view;
                ++*id;
            }
        }
    }
}

enum kd_status kd_cache_whole(const struct kd_cache *cache)
{
    const struct kd_identity *of = kd_cache_identity(cache);
    uint64_t promised = of->num_samples * of->views;
    uint64_t id = 0;
    uint32_t view = 0;

    /* Rows are in the promised bounds, and none is there twice. */
    if (cache->rows == promised)
        return KD_OK;
    find_hole(cache, &id, &view);
    return kd_fail(KD_EDATA,
                   "%s: %llu of %llu rows are missing, the first of them sample %llu, "
                   "view %u",
                   cache->name, (unsigned long long)(promised - cache->rows),
                   (unsigned long long)promised, (unsigned long long)id,
                   (unsigned)view);
}
