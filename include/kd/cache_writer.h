/* SPDX-License-Identifier: MIT */
/*
 * Writing a cache: which shards it has, which of them are there already.
 *
 * Whoever fills a cache (a dump, a merge) goes through its shards in the order of ids,
 * makes those that are missing, and seals it:
 *
 *     struct kd_cache_writer *w = NULL;
 *     KD_TRY(kd_cache_writer_open("out", &identity, 8192, &w));
 *     for (i = 0; i < kd_cache_writer_count(w); i++) {
 *         const struct kd_cache_part *part = kd_cache_writer_part(w, i);
 *         if (!part->kept)
 *             ... write part->path, with samples part->begin to part->end-1 ...
 *     }
 *     KD_TRY(kd_cache_writer_seal(w));
 *     kd_cache_writer_close(w);
 *
 * A shard that an earlier run finished is kept if it is the one that would be made
 * now; else opening fails, and says what differs. The directory is locked until it is
 * closed.
 */
#ifndef KD_CACHE_WRITER_H
#define KD_CACHE_WRITER_H

#include "kd/shard.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One shard of the cache. */
struct kd_cache_part {
    char *path;
    uint64_t begin, end; /* its samples: begin to end-1 */
    uint64_t rows;       /* samples times views */
    bool kept;           /* there already */
    bool hashed;         /* `digest` is that of its file, which this run has made */
    struct kd_digest digest;
};

struct kd_cache_writer;

/* How many samples of that identity are about 32 MiB, a power of two: for who need
 * not fear for much work that is lost with a shard. */
uint64_t kd_cache_samples_a_shard(const struct kd_identity *identity);

/* Makes and locks `directory`, and looks at what is in it; KD_EUSAGE where that is a
 * training run. Shard n holds the ids n * samples_a_shard and up that the identity
 * promises. */
enum kd_status kd_cache_writer_open(const char *directory,
                                    const struct kd_identity *identity,
                                    uint64_t samples_a_shard,
                                    struct kd_cache_writer **writer) KD_CHECKED;

/* The same for a cache that may lack rows: shards that are there may have fewer. */
enum kd_status kd_cache_writer_open_partial(const char *directory,
                                            const struct kd_identity *identity,
                                            uint64_t samples_a_shard,
                                            struct kd_cache_writer **writer) KD_CHECKED;
void kd_cache_writer_close(struct kd_cache_writer *writer); /* NULL is fine */

/* The shards, in the order of ids. */
size_t kd_cache_writer_count(const struct kd_cache_writer *writer);
const struct kd_cache_part *kd_cache_writer_part(const struct kd_cache_writer *writer,
                                                 size_t index);

/* How many rows a shard of such a cache gets; of 0, it is none of the cache's. */
void kd_cache_writer_set_rows(struct kd_cache_writer *writer, size_t index,
                              uint64_t rows);

/* Rows of the shards that were there already. */
uint64_t kd_cache_writer_kept_rows(const struct kd_cache_writer *writer);

/* Commits the shard of that index, whose rows are all there (kd/shard.h), but leaves
 * what waits for the disk to a thread beside: the shard has its name when
 * kd_cache_writer_wait has returned, or this for another one, and a failure may be told
 * then. `shard` is freed. */
enum kd_status kd_cache_writer_commit(struct kd_cache_writer *writer, size_t index,
                                      struct kd_shard_writer *shard) KD_CHECKED;
enum kd_status kd_cache_writer_wait(struct kd_cache_writer *writer) KD_CHECKED;

/* Writes cache.json, once every shard is there. KD_EDATA where none is. */
enum kd_status kd_cache_writer_seal(struct kd_cache_writer *writer) KD_CHECKED;

#endif
