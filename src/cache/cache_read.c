/* SPDX-License-Identifier: MIT */
/*
 * Reading rows of a cache in any order. Where they lie is computed, not searched; and
 * since rows at random places come slowly from memory, they are fetched some rows
 * before they are needed.
 */
#include "kd/cache.h"

#include "cache/cache_internal.h"
#include "cache/shard_read_internal.h"
#include "kd/thread.h"

/* Whether a shard begins at (id, view) or before. */
static bool begins_by(const struct kd_cache_key *key, uint64_t id, uint32_t view)
{
    return key->id < id || (key->id == id && key->view <= view);
}

/* Whether (id, view) is in shard `i` if it is in any. */
static bool is_in(const struct kd_cache *cache, size_t i, uint64_t id, uint32_t view)
{
    return (i == 0 || begins_by(&cache->keys[i], id, view)) &&
           (i + 1 == cache->count || !begins_by(&cache->keys[i + 1], id, view));
}

static size_t search_shard(const struct kd_cache *cache, uint64_t id, uint32_t view)
{
    size_t low = 0, high = cache->count; /* the last shard that begins no later */

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (begins_by(&cache->keys[middle], id, view))
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Where it would be if all shards had as many samples, or beside that; else searched.
 */
static size_t find_shard(const struct kd_cache *cache, uint64_t id, uint32_t view)
{
    const size_t last = cache->count - 1;
    const double from_last = (double)id - (double)cache->keys[last].id;
    const double at = from_last * cache->shards_an_id + (double)last;
    const size_t i = at >= (double)last ? last : at > 0 ? (size_t)at : 0;

    if (is_in(cache, i, id, view))
        return i;
    if (i > 0 && is_in(cache, i - 1, id, view))
        return i - 1;
    if (i < last && is_in(cache, i + 1, id, view))
        return i + 1;
    return search_shard(cache, id, view);
}

bool kd_cache_find(const struct kd_cache *cache, uint64_t id, uint32_t view,
                   const struct kd_shard **shard, uint64_t *row)
{
    *shard = cache->shards[find_shard(cache, id, view)];
    *row = kd_shard_find(*shard, id, view);
    return *row != UINT64_MAX;
}

/* How many rows ahead a row's place is found and its facts are fetched, and how many
 * ahead its values: measured for rows of 200 and 2,000 bytes. */
#define AHEAD        16
#define VALUES_AHEAD 8

struct place {
    const struct kd_shard *shard; /* NULL: nowhere */
    uint64_t row;
};

static struct place find_place(const struct kd_cache_request *request, size_t i)
{
    struct place place;

    if (!kd_cache_find(request->cache, request->ids[i], request->views[i], &place.shard,
                       &place.row))
        place.shard = NULL;
    else
        kd_shard_fetch_facts(place.shard, place.row);
    return place;
}

enum kd_status kd_cache_walk(const struct kd_cache_request *request, size_t begin,
                             size_t end, kd_cache_visit *visit, void *context)
{
    enum kd_status status = KD_OK;
    const size_t count = end - begin;
    struct place places[AHEAD];

    for (size_t i = 0; i < count + AHEAD && status == KD_OK; i++) {
        struct place *place = &places[i % AHEAD];
        const size_t near = i - (AHEAD - VALUES_AHEAD);

        if (i >= AHEAD)
            status = visit(context, begin + i - AHEAD, place->shard, place->row);
        if (i < count)
            *place = find_place(request, begin + i);
        if (near < count && places[near % AHEAD].shard != NULL)
            kd_shard_fetch_values(places[near % AHEAD].shard, places[near % AHEAD].row);
    }
    return status;
}

enum kd_status kd_cache_fail_missing(const struct kd_cache_request *request, size_t i)
{
    return kd_fail(KD_EDATA, "%s: sample %llu, view %u is not in the cache",
                   request->cache->name, (unsigned long long)request->ids[i],
                   (unsigned)request->views[i]);
}

/* What the threads read, and the room that each has for sparse rows. */
struct reading {
    struct kd_cache_request request;
    size_t classes;
    float *values, *log_z;
};
struct reader {
    const struct reading *reading;
    struct kd_row room;
};

static enum kd_status read_one(void *context, size_t i, const struct kd_shard *shard,
                               uint64_t row)
{
    struct reader *reader = context;
    const struct reading *reading = reader->reading;

    if (shard == NULL)
        return kd_cache_fail_missing(&reading->request, i);
    if (reading->log_z != NULL)
        reading->log_z[i] = kd_shard_log_z(shard, row);
    return kd_shard_read_row(shard, row, &reader->room,
                             reading->values + i * reading->classes);
}

static enum kd_status read_range(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    const struct reading *reading = context;
    const struct kd_cache *cache = reading->request.cache;
    struct reader reader = {.reading = reading};

    if (kd_codec_is_sparse(&kd_cache_identity(cache)->codec))
        KD_TRY(kd_row_new(&reader.room, cache->kept, true));
    KD_TRY(kd_cache_walk(&reading->request, begin, end, read_one, &reader));
out:
    kd_row_free(&reader.room);
    return status;
}

enum kd_status kd_cache_read(const struct kd_cache *cache, const uint64_t *ids,
                             const uint32_t *views, size_t count, float *values,
                             float *log_z)
{
    const size_t classes = kd_cache_identity(cache)->num_classes;
    struct reading reading = {{cache, ids, views}, classes, values, log_z};

    /* What a row takes, in nanoseconds: measured. */
    const size_t grain = kd_threads_grain(40 + 0.3 * (double)classes);

    return kd_parallel(count, grain, read_range, &reading);
}

/* Calls hint for the rows of each shard that ids begin to end-1 have. */
static void advise(const struct kd_cache *cache, uint64_t begin, uint64_t end,
                   void (*hint)(const struct kd_shard *shard, uint64_t row,
                                uint64_t count))
{
    if (begin >= end)
        return;
    for (size_t i = find_shard(cache, begin, 0); i < cache->count; i++) {
        const struct kd_shard *shard = cache->shards[i];
        const uint64_t from = kd_shard_lower_bound(shard, begin, 0);
        const uint64_t to = kd_shard_lower_bound(shard, end, 0);

        if (cache->keys[i].id >= end)
            break;
        hint(shard, from, to - from);
    }
}

void kd_cache_prefetch(const struct kd_cache *cache, uint64_t begin, uint64_t end)
{
    advise(cache, begin, end, kd_shard_prefetch);
}

void kd_cache_forget(const struct kd_cache *cache, uint64_t begin, uint64_t end)
{
    advise(cache, begin, end, kd_shard_forget);
}
