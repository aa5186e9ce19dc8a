/* SPDX-License-Identifier: MIT */
/*
 * Caches: the shards of one producer.
 *
 * On disk a cache is a directory of shard-NNNNNN.h5 and, once it is finished,
 * cache.json, which lists them. Shard n holds the ids n*S to (n+1)*S-1 that the
 * cache covers, S being the samples a shard, so that the same ids are in the same
 * shard whoever writes it.
 *
 *     struct kd_cache *cache = NULL;
 *     KD_TRY(kd_cache_open("soft-labels", &cache));
 *     KD_TRY(kd_cache_read(cache, ids, views, n, values));   ([n][C])
 *     kd_cache_close(cache);
 *
 * In a pipeline, programs hand on the paths of shards, one a line, since HDF5
 * cannot flow through a pipe; struct kd_shard_stream takes either form.
 */
#ifndef KD_CACHE_H
#define KD_CACHE_H

#include "kd/shard.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kd_cache;

/* Opens a cache for random reading: a directory with its cache.json (one without
 * is unfinished, which the message says), a single shard, a pipe (/dev/fd/63) or
 * "-" for paths on stdin, which is read to its end. Shards must be of one
 * identity and not overlap. */
enum kd_status kd_cache_open(const char *where, struct kd_cache **cache) KD_CHECKED;
void kd_cache_close(struct kd_cache *cache); /* NULL is fine */

/* Whether what is named so can be opened again: a directory or a shard, no pipe. */
bool kd_cache_lasts(const char *where);

const struct kd_identity *kd_cache_identity(const struct kd_cache *cache);
const char *kd_cache_name(const struct kd_cache *cache); /* as it was given */
uint64_t kd_cache_rows(const struct kd_cache *cache);
size_t kd_cache_num_shards(const struct kd_cache *cache);
const struct kd_shard *kd_cache_shard(const struct kd_cache *cache, size_t index);

/* The most values that a row of the cache has: see kd_shard_kept. */
size_t kd_cache_kept(const struct kd_cache *cache);

/* Whether every row that the identity promises is there; KD_EDATA names the first
 * missing one and how many are missing. */
enum kd_status kd_cache_whole(const struct kd_cache *cache) KD_CHECKED;

/* The shard and row of (id, view); false where it is missing. Constant time where
 * shards have the same number of samples each and every id all its views, as those of
 * kd-dump do; else a binary search. */
bool kd_cache_find(const struct kd_cache *cache, uint64_t id, uint32_t view,
                   const struct kd_shard **shard, uint64_t *row);

/* Reads rows in any order into values [count][C] (z/T minus the row's maximum; of
 * sparse rows see kd_shard_read) and, where it is not NULL, log_z [count]; on the
 * compute threads, each row verified.
 * A missing row is KD_EDATA naming its id and view. */
enum kd_status kd_cache_read(const struct kd_cache *cache, const uint64_t *ids,
                             const uint32_t *views, size_t count, float *values,
                             float *log_z) KD_CHECKED;

/* Whether reading verifies the checks of rows; it does unless told otherwise. Not while
 * other threads read. */
void kd_cache_set_verify(struct kd_cache *cache, bool verify);

/* Tells the system that the rows of ids begin to end-1 are needed soon, or no more for
 * a while: who reads a cache that is larger than memory in blocks of ids has each read
 * once, in order. Hints. */
void kd_cache_prefetch(const struct kd_cache *cache, uint64_t begin, uint64_t end);
void kd_cache_forget(const struct kd_cache *cache, uint64_t begin, uint64_t end);

/* What messages call the cache `where`, with this shard: "DIRECTORY (of /dev/fd/63)" of
 * a pipe or stdin, whose names tell nothing; else `where`. On the heap. */
char *kd_cache_title(const char *where, const char *shard) KD_CHECKED;

/* "DIRECTORY/shard-000042.h5" on the heap. */
char *kd_cache_shard_path(const char *directory, uint64_t index) KD_CHECKED;

/* Writes cache.json: what the cache is, and name, rows, bytes and XXH3-128 of each
 * shard (all in `directory`, of one identity), in order. Keys sorted; the same
 * shards give the same bytes. A cache.json that already says so is left untouched;
 * shards older than it are not hashed again. */
enum kd_status kd_cache_seal(const char *directory, char *const *paths,
                             size_t count) KD_CHECKED;

/* What cache.json says. */
struct kd_cache_entry {
    char *name; /* in the directory: no slash, not ".." */
    uint64_t rows, bytes;
    struct kd_digest digest; /* of the file */
};
struct kd_cache_list {
    struct kd_digest identity; /* kd_identity_digest */
    struct kd_cache_entry *entries;
    size_t count;
};

/* Reads and checks DIRECTORY/cache.json. KD_EDATA where there is none: the cache is
 * unfinished, or if there is no shard either, it is none. The shards themselves are not
 * looked at. */
enum kd_status kd_cache_list_read(struct kd_cache_list *list,
                                  const char *directory) KD_CHECKED;
void kd_cache_list_clear(struct kd_cache_list *list);

/* Figures over all rows. */
struct kd_cache_stats {
    uint64_t rows;
    uint64_t labelled; /* rows whose label is known */
    uint64_t agreeing; /* of those, where the most probable class is the label */
    double max_prob;   /* mean of the greatest probability of a row */
    double entropy;    /* mean of -sum p log p, in nats; of sparse rows, with the tail
                          spread evenly */
    double kept_mass;  /* mean probability mass of the classes that are kept */
    uint64_t values;   /* logits that are stored */
    uint64_t bytes;    /* of the shard files */
};

/* Reads and verifies every row, on the compute threads; the result does not depend
 * on how many. KD_EINTERRUPTED if a signal asks to stop. */
enum kd_status kd_cache_measure(const struct kd_cache *cache,
                                struct kd_cache_stats *stats) KD_CHECKED;

/*
 * Shards as they come: from a directory or shard that is there (all at once) or
 * from a pipe (as their producer finishes them).
 */
struct kd_shard_stream;
enum kd_status kd_shard_stream_open(const char *where,
                                    struct kd_shard_stream **stream) KD_CHECKED;
void kd_shard_stream_close(struct kd_shard_stream *stream); /* NULL is fine */

/* The next path, owned by the stream until the next call; NULL at the end. Waits
 * for it on a pipe; KD_EINTERRUPTED if a signal asks to stop meanwhile. */
enum kd_status kd_shard_stream_next(struct kd_shard_stream *stream,
                                    const char **path) KD_CHECKED;

/* The descriptor to poll() for more; -1 where kd_shard_stream_next would not wait.
 * When poll() says that it is readable, kd_shard_stream_pump takes in what is there,
 * so that whoever reads several streams waits for all of them at once. */
int kd_shard_stream_fd(const struct kd_shard_stream *stream);
enum kd_status kd_shard_stream_pump(struct kd_shard_stream *stream) KD_CHECKED;

#endif
