/* SPDX-License-Identifier: MIT */
/* The last steps of a shard, on a thread beside: hashed, flushed, named. */
#ifndef KD_CACHE_CACHE_COMMIT_INTERNAL_H
#define KD_CACHE_CACHE_COMMIT_INTERNAL_H

#include "kd/hash.h"
#include "kd/shard.h"

#include <pthread.h>
#include <stdbool.h>

struct kd_cache_commit {
    struct kd_shard_writer *shard; /* NULL: nothing is under way */
    struct kd_digest *digest;      /* where its file's goes */
    bool threaded;                 /* false: it was done at once */
    pthread_t thread;
    enum kd_status status;
    char *message; /* of a failure */
};

/* Begins; *digest is set when it is finished. The shard is complete, and freed here. */
void kd_cache_commit_begin(struct kd_cache_commit *commit,
                           struct kd_shard_writer *shard, struct kd_digest *digest);

/* Waits for the end; the shard's failure, or KD_OK where nothing was under way. */
enum kd_status kd_cache_commit_end(struct kd_cache_commit *commit) KD_CHECKED;

/* The same where nobody is told of it any more; keeps the message. */
void kd_cache_commit_drop(struct kd_cache_commit *commit);

#endif
