/* SPDX-License-Identifier: MIT */
/*
 * Reading rows of shards: found by id and view, verified against their checks and
 * decoded, straight from the map.
 */
#include "kd/shard.h"

#include "cache/decode_internal.h"
#include "cache/shard_read_internal.h"
#include "kd/half.h"
#include "kd/memory.h"

#include <math.h>
#include <stdlib.h>

/* The values of a row: where they begin among all, and how many there are. */
struct extent {
    uint64_t begin;
    size_t size;
};

static struct extent extent_of(const struct kd_shard *shard, uint64_t at)
{
    if (shard->ragged)
        return (struct extent){shard->offset[at],
                               (size_t)(shard->offset[at + 1] - shard->offset[at])};
    return (struct extent){at * shard->kept, shard->kept};
}

/* In a regular shard ids and views follow from the place, which saves looking. */
static void key_of(const struct kd_shard *shard, uint64_t at, uint64_t *id,
                   uint32_t *view)
{
    const uint32_t views = shard->identity.views;

    *id = shard->regular ? shard->first_id + at / views : shard->id[at];
    *view = shard->regular ? shard->identity.first_view + (uint32_t)(at % views)
                           : shard->view[at];
}

static const float *also_at(const struct kd_shard *shard, const float *column,
                            uint64_t at)
{
    return shard->also > 0 ? column + at * shard->also : NULL;
}

/* Everything of a row but what has to be decoded. */
static void take_facts(const struct kd_shard *shard, uint64_t at, struct extent extent,
                       struct kd_row *row)
{
    key_of(shard, at, &row->id, &row->view);
    row->label = shard->label[at];
    row->size = extent.size;
    row->draws = shard->draws != NULL ? shard->draws + extent.begin : NULL;
    row->row_max = shard->row_max[at];
    row->log_z = shard->log_z[at];
    row->log_tail = shard->log_tail != NULL ? shard->log_tail[at] : -INFINITY;
    row->log_z_also = also_at(shard, shard->log_z_also, at);
    row->log_tail_also = also_at(shard, shard->log_tail_also, at);
}

static uint32_t check_of(const struct kd_shard *shard, const struct kd_row *row,
                         const void *logits, const void *index)
{
    const struct kd_row_bytes bytes = {.id = row->id,
                                       .view = row->view,
                                       .label = row->label,
                                       .size = row->size,
                                       .logits = logits,
                                       .index = index,
                                       .draws = row->draws,
                                       .row_max = row->row_max,
                                       .log_z = row->log_z,
                                       .log_tail = row->log_tail,
                                       .log_z_also = row->log_z_also,
                                       .log_tail_also = row->log_tail_also};

    return kd_row_check(&shard->identity.codec, shard->identity.num_classes,
                        shard->also, &bytes);
}

static bool draws_add_up(const uint16_t *draws, size_t n, uint32_t k)
{
    uint64_t sum = 0;
    bool fine = true;

    for (size_t i = 0; i < n; i++) {
        sum += draws[i];
        fine &= draws[i] > 0;
    }
    return fine && sum == k;
}

/* Decodes the values of a sparse row and their classes; what is wrong, or NULL. */
static const char *decode_sparse(const struct kd_shard *shard, const void *logits,
                                 const void *index, struct kd_row *row)
{
    const struct kd_codec *codec = &shard->identity.codec;
    const uint32_t classes = shard->identity.num_classes;
    const char *fault = kd_decode_values(codec->dtype, logits, row->size,
                                         codec->encoding != KD_SAMPLED, row->values);

    if (fault == NULL)
        fault = kd_decode_index(kd_codec_index_type(classes), index, row->size, classes,
                                row->index);
    if (fault == NULL && row->draws != NULL &&
        !draws_add_up(row->draws, row->size, codec->k))
        fault = "its draws do not add up to k";
    return fault;
}

/* The row is in the shard. */
static enum kd_status read_row(const struct kd_shard *shard, uint64_t at,
                               struct kd_row *row)
{
    const struct extent extent = extent_of(shard, at);
    const char *logits = shard->logits + extent.begin * shard->value_size;
    const char *index = NULL, *fault = NULL;

    /* Checked when the shard was opened, but room for the row hangs on it. */
    if (extent.size > shard->kept || extent.begin > shard->values - extent.size)
        return kd_shard_fail_row(shard, at, "damaged: its offsets have changed");
    if (shard->sparse)
        index = shard->index + extent.begin * shard->index_size;
    take_facts(shard, at, extent, row);
    if (shard->verify && check_of(shard, row, logits, index) != shard->check[at])
        fault = "damaged: its check differs; make the shard again";
    else if (shard->sparse)
        fault = decode_sparse(shard, logits, index, row);
    else
        fault = kd_decode_values(shard->identity.codec.dtype, logits, row->size, true,
                                 row->values);
    return fault == NULL ? KD_OK : kd_shard_fail_row(shard, at, fault);
}

static enum kd_status check_there(const struct kd_shard *shard, uint64_t row,
                                  size_t count)
{
    if (row <= shard->rows && count <= shard->rows - row)
        return KD_OK;
    return kd_fail(KD_EBUG, "%s: rows %llu to %llu of %llu were asked for", shard->path,
                   (unsigned long long)row, (unsigned long long)row + count,
                   (unsigned long long)shard->rows);
}

enum kd_status kd_shard_row(const struct kd_shard *shard, uint64_t at,
                            struct kd_row *row)
{
    enum kd_status status = check_there(shard, at, 1);

    return status == KD_OK ? read_row(shard, at, row) : status;
}

/* All C values of a sparse row. A value of no mass at all is as low as a half goes, so
 * that values are finite whatever they are multiplied with. */
static void spread_row(const struct kd_row *row, size_t classes, float *values)
{
    const size_t others = classes - row->size;
    float share = -KD_HALF_MAX;

    if (others > 0)
        share =
            (float)((double)row->log_tail + (double)row->log_z - log((double)others));
    share = share > -KD_HALF_MAX ? share : -KD_HALF_MAX;
    for (size_t c = 0; c < classes; c++)
        values[c] = share;
    for (size_t i = 0; i < row->size; i++)
        values[row->index[i]] = row->values[i];
}

enum kd_status kd_shard_read_row(const struct kd_shard *shard, uint64_t at,
                                 struct kd_row *room, float *values)
{
    enum kd_status status = KD_EBUG;

    if (!shard->sparse)
        return read_row(shard, at, &(struct kd_row){.values = values});
    status = read_row(shard, at, room);
    if (status == KD_OK)
        spread_row(room, shard->identity.num_classes, values);
    return status;
}

enum kd_status kd_row_new(struct kd_row *room, size_t kept, bool sparse)
{
    enum kd_status status = KD_EBUG;

    *room = (struct kd_row){0};
    KD_TRY(KD_NEW(room->values, kept));
    if (sparse)
        KD_TRY(KD_NEW(room->index, kept));
out:
    return status;
}

void kd_row_free(struct kd_row *room)
{
    free(room->values);
    free(room->index);
}

enum kd_status kd_shard_read(const struct kd_shard *shard, uint64_t row, size_t count,
                             float *values)
{
    enum kd_status status = KD_EBUG;
    const size_t classes = shard->identity.num_classes;
    struct kd_row room = {0};

    KD_TRY(check_there(shard, row, count));
    if (shard->sparse)
        KD_TRY(kd_row_new(&room, shard->kept, true));
    for (size_t i = 0; i < count; i++)
        KD_TRY(kd_shard_read_row(shard, row + i, &room, values + i * classes));
out:
    kd_row_free(&room);
    return status;
}

uint64_t kd_shard_lower_bound(const struct kd_shard *shard, uint64_t id, uint32_t view)
{
    uint64_t low = 0, high = shard->rows;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (shard->id[middle] < id ||
            (shard->id[middle] == id && shard->view[middle] < view))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint64_t kd_shard_find(const struct kd_shard *shard, uint64_t id, uint32_t view)
{
    const struct kd_identity *of = &shard->identity;
    uint64_t row = 0;

    if (id < shard->first_id || view < of->first_view ||
        view - of->first_view >= of->views)
        return UINT64_MAX;
    if (shard->regular) { /* no overflow: ids and views are the identity's */
        if (id - shard->first_id >= of->num_samples)
            return UINT64_MAX;
        row = (id - shard->first_id) * of->views + (view - of->first_view);
        return row < shard->rows ? row : UINT64_MAX;
    }
    row = kd_shard_lower_bound(shard, id, view);
    if (row == shard->rows || shard->id[row] != id || shard->view[row] != view)
        return UINT64_MAX;
    return row;
}

#define LINE 64

static void fetch(const char *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += LINE)
        __builtin_prefetch(from + i);
    if (bytes > 0)
        __builtin_prefetch(from + bytes - 1);
}

void kd_shard_fetch_facts(const struct kd_shard *shard, uint64_t row)
{
    if (!shard->regular) {
        __builtin_prefetch(&shard->id[row]);
        __builtin_prefetch(&shard->view[row]);
    }
    __builtin_prefetch(&shard->label[row]);
    __builtin_prefetch(&shard->row_max[row]);
    __builtin_prefetch(&shard->log_z[row]);
    __builtin_prefetch(&shard->check[row]);
    if (shard->sparse)
        __builtin_prefetch(&shard->log_tail[row]);
    if (shard->ragged)
        __builtin_prefetch(&shard->offset[row]);
}

void kd_shard_fetch_values(const struct kd_shard *shard, uint64_t row)
{
    const struct extent extent = extent_of(shard, row);

    fetch(shard->logits + extent.begin * shard->value_size,
          extent.size * shard->value_size);
    if (shard->sparse)
        fetch(shard->index + extent.begin * shard->index_size,
              extent.size * shard->index_size);
    if (shard->draws != NULL)
        fetch((const char *)(shard->draws + extent.begin),
              extent.size * sizeof *shard->draws);
    if (shard->also > 0) {
        __builtin_prefetch(shard->log_z_also + row * shard->also);
        __builtin_prefetch(shard->log_tail_also + row * shard->also);
    }
}

/* The bytes of a column that rows row .. row+count-1 have, in the file. */
static void rows_in_file(const struct kd_shard *shard, enum kd_column column,
                         uint64_t row, uint64_t count, uint64_t *from, uint64_t *bytes)
{
    const struct kd_array_info *info = &shard->infos[column];
    const uint64_t size = info->bytes / info->shape[0];
    const bool of_values = column == KD_COLUMN_LOGITS || column == KD_COLUMN_INDEX ||
                           column == KD_COLUMN_DRAWS;

    if (shard->ragged && of_values) {
        count = shard->offset[row + count] - shard->offset[row];
        row = shard->offset[row];
    }
    *from = info->offset + row * size;
    *bytes = count * size;
}

static void advise(const struct kd_shard *shard, uint64_t row, uint64_t count,
                   void (*hint)(const struct kd_map *map, uint64_t from,
                                uint64_t bytes))
{
    uint64_t from = 0, bytes = 0;

    if (row >= shard->rows)
        return;
    if (count > shard->rows - row)
        count = shard->rows - row;
    for (int i = 0; i < KD_COLUMN_COUNT; i++) {
        if (!kd_column_present(&shard->identity, (enum kd_column)i))
            continue;
        rows_in_file(shard, (enum kd_column)i, row, count, &from, &bytes);
        hint(&shard->map, from, bytes);
    }
}

void kd_shard_prefetch(const struct kd_shard *shard, uint64_t row, uint64_t count)
{
    advise(shard, row, count, kd_map_prefetch);
}

void kd_shard_forget(const struct kd_shard *shard, uint64_t row, uint64_t count)
{
    advise(shard, row, count, kd_map_forget);
}
