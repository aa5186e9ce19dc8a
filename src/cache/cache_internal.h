/* SPDX-License-Identifier: MIT */
/* An open cache, and the walk over rows that were asked for. */
#ifndef KD_CACHE_CACHE_INTERNAL_H
#define KD_CACHE_CACHE_INTERNAL_H

#include "kd/cache.h"

/* Where a shard begins. */
struct kd_cache_key {
    uint64_t id;
    uint32_t view;
};

struct kd_cache {
    char *name;
    struct kd_shard **shards; /* by ids, ascending */
    size_t count, capacity;
    uint64_t rows;
    size_t kept; /* the most values of a row */

    struct kd_cache_key *keys; /* [count] of the shards' first rows */
    double shards_an_id;       /* 1 / the samples of a shard, if all have as many */
};

/* Rows in any order. */
struct kd_cache_request {
    const struct kd_cache *cache;
    const uint64_t *ids;
    const uint32_t *views;
};

/* Row `row` of `shard` is request i; a shard of NULL: it is not in the cache. */
typedef enum kd_status kd_cache_visit(void *context, size_t i,
                                      const struct kd_shard *shard, uint64_t row);

/* Calls visit for the requests begin to end-1 in order, while those ahead are on their
 * way from memory. Stops at the first failure and returns it. */
enum kd_status kd_cache_walk(const struct kd_cache_request *request, size_t begin,
                             size_t end, kd_cache_visit *visit,
                             void *context) KD_CHECKED;

/* KD_EDATA: request i is not in the cache. */
enum kd_status kd_cache_fail_missing(const struct kd_cache_request *request, size_t i);

#endif
