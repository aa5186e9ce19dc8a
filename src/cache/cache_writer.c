/* SPDX-License-Identifier: MIT */
/* A cache that is being filled: its shards, and those that are there already. */
#include "kd/cache_writer.h"

#include "cache/cache_commit_internal.h"
#include "cache/cache_json_internal.h"
#include "cache/shard_write_internal.h"
#include "kd/cache.h"
#include "kd/file.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <unistd.h>

/* What a shard takes at most, if its size is left to us: opening it takes as long as
 * reading a megabyte, so it should be much more; but it is also what a killed run
 * loses. */
#define SHARD_BYTES  33554432.0
#define MOST_SAMPLES (UINT64_C(1) << 20)
#define ROW_BYTES    32.0 /* of the columns that do not hold values */

struct kd_cache_writer {
    char *directory;
    struct kd_identity identity;
    struct kd_lock lock;
    struct kd_cache_part *parts; /* [count] */
    size_t count;
    uint64_t kept_rows;
    bool partial; /* shards may have fewer rows */
    struct kd_cache_commit commit;
    struct kd_cache_part *committed; /* that is under way; NULL: none */
};

/* Whether a shard from an earlier run is the one that would be made now. */
static enum kd_status check_kept(const struct kd_cache_writer *w,
                                 const struct kd_cache_part *part,
                                 const struct kd_shard *shard)
{
    const uint64_t *ids = kd_shard_ids(shard);
    const uint64_t rows = kd_shard_rows(shard), last = ids[rows - 1];
    const bool within = ids[0] >= part->begin && last < part->end;

    if (kd_identity_equal(kd_shard_identity(shard), &w->identity) != KD_OK)
        return kd_fail(KD_EDATA, "%s: %s; choose another directory or remove it",
                       part->path, kd_error());
    if (w->partial ? !within : !within || rows != part->rows)
        return kd_fail(KD_EDATA,
                       "%s: has %llu rows of samples %llu to %llu, not %llu of %llu to "
                       "%llu; choose another directory, or as many samples a shard as "
                       "before",
                       part->path, (unsigned long long)rows, (unsigned long long)ids[0],
                       (unsigned long long)last, (unsigned long long)part->rows,
                       (unsigned long long)part->begin,
                       (unsigned long long)(part->end - 1));
    return KD_OK;
}

static enum kd_status look_for(struct kd_cache_writer *w, struct kd_cache_part *part)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard *shard = NULL;

    if (access(part->path, F_OK) != 0)
        return KD_OK;
    status = kd_shard_open(part->path, &shard);
    if (status != KD_OK)
        return kd_fail(status, "%s; remove it to have it made again", kd_error());
    KD_TRY(check_kept(w, part, shard));
    part->kept = true;
    part->rows = kd_shard_rows(shard);
    w->kept_rows += part->rows;
    status = KD_OK;
out:
    kd_shard_close(shard);
    return status;
}

uint64_t kd_cache_samples_a_shard(const struct kd_identity *identity)
{
    const struct kd_codec *codec = &identity->codec;
    const uint64_t value =
        kd_type_size(codec->dtype) + (kd_codec_is_sparse(codec) ? sizeof(uint32_t) : 0);
    const double row = ROW_BYTES + (double)codec->k * (double)value;
    uint64_t samples = 1;

    while (samples < MOST_SAMPLES &&
           2 * (double)samples * (double)identity->views * row <= SHARD_BYTES)
        samples *= 2;
    return samples;
}

static enum kd_status plan(struct kd_cache_writer *w, uint64_t size)
{
    enum kd_status status = KD_EBUG;
    const struct kd_identity *of = &w->identity;
    const uint64_t end = of->first_id + of->num_samples;
    const uint64_t first = of->first_id / size, last = (end - 1) / size;

    if (last - first >= SIZE_MAX / sizeof *w->parts)
        return kd_fail(KD_EUSAGE, "%s: too many shards: give them more samples",
                       w->directory);
    KD_TRY(KD_NEW(w->parts, (size_t)(last - first) + 1));
    for (uint64_t n = first; n <= last; n++) {
        struct kd_cache_part *part = &w->parts[w->count++];
        part->begin = n == first ? of->first_id : n * size;
        part->end = n == last ? end : (n + 1) * size;
        part->rows = (part->end - part->begin) * of->views;
        part->path = kd_cache_shard_path(w->directory, n);
        KD_TRY(part->path != NULL ? KD_OK : KD_EMEMORY);
        KD_TRY(look_for(w, part));
    }
    status = KD_OK;
out:
    return status;
}

/* What kd-train keeps in its directories is not mixed with shards. */
static enum kd_status check_no_run(const char *directory)
{
    char *path = kd_path_join(directory, "recipe.txt");
    enum kd_status status = path != NULL ? KD_OK : KD_EMEMORY;

    if (path != NULL && access(path, F_OK) == 0)
        status = kd_fail(KD_EUSAGE,
                         "%s: holds a training run (recipe.txt): choose another "
                         "directory for the cache",
                         directory);
    free(path);
    return status;
}

static enum kd_status open_writer(const char *directory,
                                  const struct kd_identity *identity,
                                  uint64_t samples_a_shard, bool partial,
                                  struct kd_cache_writer **writer)
{
    enum kd_status status = KD_EBUG;
    struct kd_cache_writer *w = NULL;

    if (samples_a_shard == 0)
        return kd_fail(KD_EUSAGE, "a shard must have at least 1 sample");
    KD_TRY(kd_identity_check(identity));
    KD_TRY(KD_NEW(w, 1));
    w->identity = *identity;
    w->partial = partial;
    w->lock.fd = -1;
    w->directory = kd_copy_string(directory);
    KD_TRY(w->directory != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(check_no_run(directory));
    KD_TRY(kd_make_directory(directory));
    KD_TRY(kd_lock_open(&w->lock, directory));
    KD_TRY(plan(w, samples_a_shard));
    *writer = w;
    w = NULL;
    status = KD_OK;
out:
    kd_cache_writer_close(w);
    return status;
}

enum kd_status kd_cache_writer_open(const char *directory,
                                    const struct kd_identity *identity,
                                    uint64_t samples_a_shard,
                                    struct kd_cache_writer **writer)
{
    return open_writer(directory, identity, samples_a_shard, false, writer);
}

enum kd_status kd_cache_writer_open_partial(const char *directory,
                                            const struct kd_identity *identity,
                                            uint64_t samples_a_shard,
                                            struct kd_cache_writer **writer)
{
    return open_writer(directory, identity, samples_a_shard, true, writer);
}

void kd_cache_writer_close(struct kd_cache_writer *writer)
{
    if (writer == NULL)
        return;
    kd_cache_commit_drop(&writer->commit);
    for (size_t i = 0; i < writer->count; i++)
        free(writer->parts[i].path);
    free(writer->parts);
    kd_lock_close(&writer->lock);
    free(writer->directory);
    free(writer);
}

size_t kd_cache_writer_count(const struct kd_cache_writer *writer)
{
    return writer->count;
}

const struct kd_cache_part *kd_cache_writer_part(const struct kd_cache_writer *writer,
                                                 size_t index)
{
    return &writer->parts[index];
}

void kd_cache_writer_set_rows(struct kd_cache_writer *writer, size_t index,
                              uint64_t rows)
{
    writer->parts[index].rows = rows;
}

uint64_t kd_cache_writer_kept_rows(const struct kd_cache_writer *writer)
{
    return writer->kept_rows;
}

enum kd_status kd_cache_writer_wait(struct kd_cache_writer *writer)
{
    const enum kd_status status = kd_cache_commit_end(&writer->commit);

    if (writer->committed != NULL)
        writer->committed->hashed = status == KD_OK;
    writer->committed = NULL;
    return status;
}

enum kd_status kd_cache_writer_commit(struct kd_cache_writer *writer, size_t index,
                                      struct kd_shard_writer *shard)
{
    enum kd_status status = kd_shard_writer_complete(shard);

    if (status == KD_OK)
        status = kd_cache_writer_wait(writer);
    if (status != KD_OK) {
        kd_shard_writer_abandon(shard);
        return status;
    }
    writer->committed = &writer->parts[index];
    kd_cache_commit_begin(&writer->commit, shard, &writer->committed->digest);
    return KD_OK;
}

enum kd_status kd_cache_writer_seal(struct kd_cache_writer *writer)
{
    enum kd_status status = KD_EBUG;
    const struct kd_digest **digests = NULL;
    char **paths = NULL;
    size_t count = 0;

    KD_TRY(kd_cache_writer_wait(writer));
    KD_TRY(KD_NEW(paths, writer->count));
    KD_TRY(KD_NEW(digests, writer->count));
    for (size_t i = 0; i < writer->count; i++) {
        const struct kd_cache_part *part = &writer->parts[i];

        if (part->rows == 0)
            continue;
        digests[count] = part->hashed ? &part->digest : NULL;
        paths[count++] = part->path;
    }
    if (count == 0) {
        status = kd_fail(KD_EDATA, "%s: no row is left for it", writer->directory);
        goto out;
    }
    KD_TRY(kd_cache_seal_hashed(writer->directory, paths, digests, count));
out:
    free(paths);
    free(digests);
    return status;
}
