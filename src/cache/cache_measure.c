/* SPDX-License-Identifier: MIT */
/*
 * Figures of a cache. Rows are summed in blocks of a fixed size, and blocks in
 * order, so that the result is the same for any number of threads.
 */
#include "kd/cache.h"

#include "cache/shard_read_internal.h"
#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/thread.h"

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

#define BLOCK_ROWS  64
#define PART_BLOCKS 256 /* between two looks at the progress and the signals */

struct block {
    uint64_t labelled, agreeing, values;
    double max_prob, entropy, kept;
};

/* What the threads measure: blocks from `first_block` of a shard on. */
struct measuring {
    const struct kd_shard *shard;
    uint64_t first_block;
    struct block blocks[PART_BLOCKS];
};

/* Entropy of a row; of what is not kept as if it were spread evenly. */
static double entropy_of(const struct kd_row *row, size_t classes)
{
    const double log_z = (double)row->log_z, log_tail = (double)row->log_tail;
    double entropy = 0;

    for (size_t i = 0; i < row->size; i++) {
        double log_p = (double)row->values[i] - log_z;
        entropy -= exp(log_p) * log_p;
    }
    if (isfinite(log_tail) && row->size < classes)
        entropy -= exp(log_tail) * (log_tail - log((double)(classes - row->size)));
    return entropy;
}

/* Values are z/T - max, so that the greatest probability is exp(0 - log_z), whether or
 * not its class was sampled. */
static void measure_row(const struct kd_row *row, size_t classes, struct block *block)
{
    size_t best = 0;

    for (size_t i = 1; i < row->size; i++)
        best = row->values[i] > row->values[best] ? i : best;
    if (row->index != NULL)
        best = row->index[best];
    block->values += row->size;
    block->kept += -expm1((double)row->log_tail);
    block->entropy += entropy_of(row, classes);
    block->max_prob += exp(-(double)row->log_z);
    block->labelled += row->label >= 0;
    block->agreeing += row->label >= 0 && (size_t)row->label == best;
}

static enum kd_status measure_block(const struct measuring *measuring, size_t index,
                                    struct kd_row *room, struct block *block)
{
    enum kd_status status = KD_OK;
    size_t classes = kd_shard_identity(measuring->shard)->num_classes;
    uint64_t row = (measuring->first_block + index) * BLOCK_ROWS;
    uint64_t end = row + BLOCK_ROWS, rows = kd_shard_rows(measuring->shard);

    *block = (struct block){0};
    for (; row < end && row < rows && status == KD_OK; row++) {
        status = kd_shard_row(measuring->shard, row, room);
        if (status == KD_OK)
            measure_row(room, classes, block);
    }
    return status;
}

static enum kd_status measure_range(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    struct measuring *measuring = context;
    struct kd_row room = {0};

    KD_TRY(kd_row_new(&room, kd_shard_kept(measuring->shard),
                      kd_codec_is_sparse(&kd_shard_identity(measuring->shard)->codec)));
    for (size_t i = begin; i < end; i++)
        KD_TRY(measure_block(measuring, i, &room, &measuring->blocks[i]));
out:
    kd_row_free(&room);
    return status;
}

static void add_blocks(const struct block *blocks, size_t count,
                       struct kd_cache_stats *stats)
{
    for (size_t i = 0; i < count; i++) {
        stats->labelled += blocks[i].labelled;
        stats->agreeing += blocks[i].agreeing;
        stats->max_prob += blocks[i].max_prob;
        stats->entropy += blocks[i].entropy;
        stats->values += blocks[i].values;
        stats->kept_mass += blocks[i].kept;
    }
}

static enum kd_status measure_shard(struct measuring *measuring,
                                    struct kd_cache_stats *stats,
                                    struct kd_progress *progress)
{
    enum kd_status status = KD_EBUG;
    uint64_t rows = kd_shard_rows(measuring->shard);
    uint64_t blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    struct stat facts;
    size_t n = 0;

    for (uint64_t at = 0; at < blocks; at += n) {
        n = blocks - at < PART_BLOCKS ? (size_t)(blocks - at) : PART_BLOCKS;
        measuring->first_block = at;
        KD_TRY(kd_parallel(n, 1, measure_range, measuring));
        add_blocks(measuring->blocks, n, stats);
        kd_progress_set(progress, stats->rows + at * BLOCK_ROWS);
        if (kd_interrupted())
            return kd_fail_interrupted("measuring");
    }
    stats->rows += rows;
    if (stat(kd_shard_path(measuring->shard), &facts) == 0)
        stats->bytes += (uint64_t)facts.st_size;
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_cache_measure(const struct kd_cache *cache,
                                struct kd_cache_stats *stats)
{
    enum kd_status status = KD_OK;
    struct measuring *measuring = NULL;
    struct kd_progress progress;

    *stats = (struct kd_cache_stats){0};
    if (KD_NEW(measuring, 1) != KD_OK)
        return KD_EMEMORY;
    kd_progress_open(&progress, "measuring", "rows", kd_cache_rows(cache));
    for (size_t i = 0; i < kd_cache_num_shards(cache) && status == KD_OK; i++) {
        measuring->shard = kd_cache_shard(cache, i);
        status = measure_shard(measuring, stats, &progress);
    }
    kd_progress_close(&progress);
    stats->max_prob /= (double)kd_cache_rows(cache);
    stats->entropy /= (double)kd_cache_rows(cache);
    stats->kept_mass /= (double)kd_cache_rows(cache);
    free(measuring);
    return status;
}
