/* SPDX-License-Identifier: MIT */
/* Exports for PyTorch: the columns of all shards behind each other, as they are stored,
 * in one .safetensors. */
#include "kd/export.h"

#include "cache/shard_internal.h"
#include "cache/shard_read_internal.h"
#include "kd/file.h"
#include "kd/json.h"
#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/safetensors.h"
#include "kd/thread.h"

#include <stdlib.h>

#define FORMAT  "kdcache-torch"
#define VERSION "1"

/* Values of rows that are worth a thread. */
#define GRAIN_VALUES 16384

struct run {
    const struct kd_cache *cache;
    const struct kd_identity *identity;
    struct kd_safetensors_writer *writer;
    enum kd_column columns[KD_COLUMN_COUNT];
    size_t count;     /* of columns */
    uint64_t values;  /* so far, of ragged rows */
    uint64_t *offset; /* [capacity] of a shard's rows, counted from the first */
    size_t offset_capacity;
    const struct kd_shard *shard; /* the one that is read */
};

/* What the reader of such files has no rule for. */
static enum kd_status check(const struct kd_cache *cache)
{
    const struct kd_identity *of = kd_cache_identity(cache);
    const uint64_t last_view = (uint64_t)of->first_view + of->views - 1;

    if (of->codec.encoding == KD_SAMPLED)
        return kd_fail(KD_EUSAGE,
                       "%s: sampled rows are not read there: give --format safetensors "
                       "or npy, which have probabilities",
                       kd_cache_name(cache));
    if (last_view > INT32_MAX)
        return kd_fail(KD_EUSAGE, "%s: its views, up to %u, do not fit an int32",
                       kd_cache_name(cache), (unsigned)last_view);
    return KD_OK;
}

/* PyTorch has few unsigned types: the same bytes, as a signed one that holds them. */
static enum kd_type signed_type(enum kd_type type, uint32_t classes)
{
    switch (type) {
    case KD_U16:
        return classes <= (uint32_t)INT16_MAX + 1 ? KD_I16 : KD_U16;
    case KD_U32:
        return KD_I32;
    case KD_U64:
        return KD_I64;
    default:
        return type;
    }
}

/* The columns but for the rows' checks, which are those of a shard. */
static enum kd_status announce(struct run *run, struct kd_safetensor *tensors)
{
    enum kd_status status = KD_OK;
    uint64_t values = 0;

    for (size_t s = 0; s < kd_cache_num_shards(run->cache); s++)
        values += kd_shard_values(kd_cache_shard(run->cache, s));
    for (int c = 0; c < KD_COLUMN_COUNT; c++) {
        struct kd_safetensor *tensor = &tensors[run->count];

        if (c == KD_COLUMN_CHECK ||
            !kd_column_present(run->identity, (enum kd_column)c))
            continue;
        KD_TRY(kd_column_layout(run->identity, (enum kd_column)c,
                                kd_cache_rows(run->cache), values, &tensor->info));
        tensor->name = c == KD_COLUMN_LOGITS ? "scaled" : kd_column_names[c];
        tensor->info.type = signed_type(tensor->info.type, run->identity->num_classes);
        run->columns[run->count++] = (enum kd_column)c;
    }
out:
    return status;
}

static enum kd_status create(struct run *run, const char *to)
{
    enum kd_status status = KD_EBUG;
    struct kd_safetensor tensors[KD_COLUMN_COUNT];
    struct kd_digest digest;
    struct kd_json *json = NULL;
    const char *metadata[] = {"format",          FORMAT,     "format_version",
                              VERSION,           "identity", NULL,
                              "identity_digest", digest.hex, NULL};

    KD_TRY(announce(run, tensors));
    KD_TRY(kd_identity_digest(run->identity, &digest));
    KD_TRY(kd_json_new(&json));
    kd_json_begin(json, NULL, '{');
    kd_identity_json(run->identity, json);
    kd_json_end(json);
    KD_TRY(kd_json_text(json, &metadata[5]));
    KD_TRY(kd_safetensors_create(to, tensors, run->count, metadata, &run->writer));
out:
    kd_json_free(json);
    return status;
}

static enum kd_status verify_range(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    const struct run *run = context;
    struct kd_row row = {0};

    KD_TRY(kd_row_new(&row, kd_shard_kept(run->shard), true));
    for (size_t at = begin; at < end; at++)
        KD_TRY(kd_shard_row(run->shard, at, &row));
out:
    kd_row_free(&row);
    return status;
}

/* A shard's offsets begin at 0; here they go on where those of the one before ended,
 * which is where the first of them stands already. */
static enum kd_status write_offsets(struct run *run, size_t tensor)
{
    enum kd_status status = KD_EBUG;
    const struct kd_shard *shard = run->shard;
    const size_t first = run->values == 0 ? 0 : 1, rows = (size_t)shard->rows;

    KD_TRY(kd_grow(&run->offset, &run->offset_capacity, rows + 1, sizeof *run->offset));
    for (size_t i = 0; i <= rows; i++)
        run->offset[i] = run->values + shard->offset[i];
    KD_TRY(kd_safetensors_append(run->writer, tensor, run->offset + first,
                                 (rows + 1 - first) * sizeof *run->offset));
out:
    return status;
}

static enum kd_status write_column(struct run *run, size_t tensor)
{
    const struct kd_shard *shard = run->shard;
    const enum kd_column column = run->columns[tensor];
    const struct kd_array_info *info = &shard->infos[column];
    const void *copy = shard->copies[column];

    if (column == KD_COLUMN_OFFSET)
        return write_offsets(run, tensor);
    return kd_safetensors_append(run->writer, tensor,
                                 copy != NULL ? copy : shard->map.data + info->offset,
                                 info->bytes);
}

static enum kd_status write_shards(struct run *run, const char *to)
{
    enum kd_status status = KD_EBUG;
    struct kd_progress progress;
    uint64_t done = 0;

    kd_progress_open(&progress, "exporting", "rows", kd_cache_rows(run->cache));
    for (size_t s = 0; s < kd_cache_num_shards(run->cache); s++) {
        const struct kd_shard *shard = run->shard = kd_cache_shard(run->cache, s);

        if (kd_interrupted()) {
            status = kd_fail_interrupted(to);
            goto out;
        }
        KD_TRY(kd_parallel((size_t)shard->rows, GRAIN_VALUES / shard->kept + 1,
                           verify_range, run));
        for (size_t t = 0; t < run->count; t++)
            KD_TRY(write_column(run, t));
        run->values += shard->values;
        done += shard->rows;
        kd_shard_forget(shard, 0, shard->rows);
        kd_progress_set(&progress, done);
    }
    status = KD_OK;
out:
    kd_progress_close(&progress);
    return status;
}

enum kd_status kd_export_for_torch(const struct kd_cache *cache, const char *to)
{
    enum kd_status status = KD_EBUG;
    struct run run = {.cache = cache, .identity = kd_cache_identity(cache)};

    KD_TRY(check(cache));
    KD_TRY(create(&run, to));
    KD_TRY(write_shards(&run, to));
    status = kd_safetensors_commit(run.writer);
    run.writer = NULL;
out:
    kd_safetensors_abandon(run.writer);
    free(run.offset);
    return status;
}
