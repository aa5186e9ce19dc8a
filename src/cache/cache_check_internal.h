/* SPDX-License-Identifier: MIT */
/* The parts of checking a cache: examining a shard, counting rows, repairing. */
#ifndef KD_CACHE_CHECK_INTERNAL_H
#define KD_CACHE_CHECK_INTERNAL_H

#include "kd/cache.h"
#include "kd/cache_check.h"
#include "kd/child.h"
#include "kd/hash.h"
#include "kd/progress.h"
#include "kd/shard.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* -- examining one shard (cache_check_shard.c) ------------------------------ */

/* Rows that a cache has are numbered by id, and by view within an id; a span is of
 * rows begin to end-1. */
struct kd_span {
    uint64_t begin, end;
};

/* What was found out about a shard. */
struct kd_examination {
    bool hashed;
    struct kd_digest digest; /* of the file */

    bool opened;   /* what follows is known */
    bool archived; /* but nothing of what is in the rows */
    struct kd_identity identity;
    struct kd_digest identity_digest;
    uint64_t rows, labelled, agreeing;
    uint64_t damaged; /* rows with something wrong */

    char *faults; /* what is wrong with the first of them, [faults_size] bytes: texts
                     each ended by a zero byte */
    size_t faults_size, faults_capacity;
    struct kd_span *spans; /* [num_spans] of rows that it has, ascending */
    size_t num_spans, spans_capacity;
};

/* Looks at a shard that was opened and, unless `quick`, reads its rows. Damaged rows
 * are a finding, not a failure. */
enum kd_status kd_shard_examine(const struct kd_shard *shard, bool quick,
                                struct kd_examination *exam) KD_CHECKED;

/* Hashes, opens and examines a shard, and sends home what comes of it. May crash: for
 * children. */
enum kd_status kd_examination_send(const char *path, bool quick,
                                   struct kd_child *child) KD_CHECKED;

/* Takes in what came from kd_examination_send, however far it got. */
enum kd_status kd_examination_receive(const void *data, size_t size,
                                      struct kd_examination *exam) KD_CHECKED;

void kd_examination_clear(struct kd_examination *exam);

/* A message about a file, without the path in front of it. */
const char *kd_without_path(const char *message, const char *path);

/* -- a check ---------------------------------------------------------------- */

struct kd_check_shard {
    char *path;
    const struct kd_cache_entry *entry; /* in cache.json; NULL: not listed */
    bool there, regular;                /* whether it is there, and a regular file */
    uint64_t bytes;
    struct kd_examination exam;
    enum kd_child_end end; /* these four as in struct kd_child_result */
    int signal;
    enum kd_status status;
    char *error;
    bool stranger; /* of another identity than the cache */
    bool bad;      /* must be made again: repair puts it aside */
};

struct kd_check {
    const char *where;
    const char *directory; /* NULL: a shard, or paths of shards */
    const struct kd_check_options *options;
    struct kd_check_report *report;

    char *list_path; /* DIRECTORY/cache.json */
    struct kd_cache_list list;
    bool list_there;
    bool list_read; /* and was fine to read */
    bool list_bad;  /* must be written anew */
    long writer;    /* the process that is writing there; 0: none */

    struct kd_check_shard *shards; /* [count], those in cache.json first */
    size_t count, capacity;
    char **leftovers; /* [num_leftovers] paths of temporary files */
    size_t num_leftovers, leftovers_capacity;

    const struct kd_identity *identity; /* of the cache; NULL: of no shard known */
    struct kd_progress progress;
    size_t examined; /* shards */
};

/* Adds a line to findings or repairs. */
enum kd_status kd_findings_add(struct kd_findings *findings, const char *path,
                               const char *format, ...) KD_PRINTF(3, 4) KD_CHECKED;

/* Finds rows that are missing or there twice (cache_check_rows.c). Of two shards that
 * share rows the one that is not listed is bad, or else the one behind. */
enum kd_status kd_check_rows(struct kd_check *check) KD_CHECKED;

/* Repairs what was found (cache_check_repair.c); *whole: the cache is, now. */
enum kd_status kd_check_repair(struct kd_check *check, bool *whole) KD_CHECKED;

#endif
