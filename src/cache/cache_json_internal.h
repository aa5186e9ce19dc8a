/* SPDX-License-Identifier: MIT */
/* The text of cache.json, for those who write it and those who check it. */
#ifndef KD_CACHE_CACHE_JSON_INTERNAL_H
#define KD_CACHE_CACHE_JSON_INTERNAL_H

#include "kd/cache.h"

#include <stddef.h>

#define KD_CACHE_LIST "cache.json"

/* Millions of shards: beyond any cache. */
#define KD_CACHE_LIST_MAX ((size_t)1 << 30)

/* What cache.json says of these shards, byte for byte; the caller frees *text. */
enum kd_status kd_cache_list_text(const struct kd_cache_list *list,
                                  const struct kd_identity *identity,
                                  char **text) KD_CHECKED;

/* kd_cache_seal where the digests of some shards are known: digests is [count], NULL
 * for those that are not. */
enum kd_status kd_cache_seal_hashed(const char *directory, char *const *paths,
                                    const struct kd_digest *const *digests,
                                    size_t count) KD_CHECKED;

#endif
