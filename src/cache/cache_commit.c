/* SPDX-License-Identifier: MIT */
/* Finishing a shard while the next one is made: what waits for the disk. */
#include "cache/cache_commit_internal.h"

#include "cache/shard_write_internal.h"
#include "kd/memory.h"

#include <signal.h>
#include <stdlib.h>

static void publish(struct kd_cache_commit *commit)
{
    commit->status = kd_shard_writer_publish(commit->shard, commit->digest);
    if (commit->status != KD_OK)
        commit->message = kd_copy_string(kd_error());
}

static void *run_thread(void *commit)
{
    publish(commit);
    return NULL;
}

void kd_cache_commit_begin(struct kd_cache_commit *commit,
                           struct kd_shard_writer *shard, struct kd_digest *digest)
{
    sigset_t all, before;

    *commit = (struct kd_cache_commit){.shard = shard, .digest = digest};
    sigfillset(&all); /* signals are the other threads' business */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    commit->threaded = pthread_create(&commit->thread, NULL, run_thread, commit) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!commit->threaded)
        publish(commit);
}

/* Waits for the thread; what it leaves behind is read then. */
static void join(struct kd_cache_commit *commit)
{
    if (commit->threaded)
        pthread_join(commit->thread, NULL);
    commit->threaded = false;
}

enum kd_status kd_cache_commit_end(struct kd_cache_commit *commit)
{
    enum kd_status status = KD_OK;

    join(commit);
    status = commit->status;
    if (status != KD_OK && commit->message != NULL)
        status = kd_fail(status, "%s", commit->message);
    kd_cache_commit_drop(commit);
    return status;
}

void kd_cache_commit_drop(struct kd_cache_commit *commit)
{
    join(commit);
    free(commit->message);
    *commit = (struct kd_cache_commit){0};
}
