/* SPDX-License-Identifier: MIT */
/*
 * Reading shards. HDF5 is asked for facts alone; the rows come from a map of the
 * file, each verified against its check when it is read.
 */
#include "kd/shard.h"

#include "cache/identity_internal.h"
#include "cache/shard_internal.h"
#include "kd/file.h"
#include "kd/h5.h"
#include "kd/half.h"
#include "kd/memory.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct kd_shard {
    struct kd_identity identity;
    char *path;
    struct kd_map map;
    uint64_t rows;
    size_t row_bytes; /* of the stored logits of a row */
    bool regular;     /* every id has all its views, and none is left out */

    /* in the map, [rows] */
    const uint64_t *id;
    const uint32_t *view;
    const int32_t *label;
    const char *logits; /* [rows][C] of the identity's dtype */
    const float *row_max, *log_z;
    const uint32_t *check;
};

static enum kd_status check_u64(struct kd_h5 *file, const char *name, uint64_t wanted,
                                const char *why)
{
    enum kd_status status = KD_EBUG;
    uint64_t value = 0;

    KD_TRY(kd_h5_get_u64(file, name, &value));
    if (value != wanted)
        status =
            kd_fail(KD_EDATA, "%s: %s is %llu, not %llu: %s", kd_h5_path(file), name,
                    (unsigned long long)value, (unsigned long long)wanted, why);
out:
    return status;
}

static enum kd_status check_string(struct kd_h5 *file, const char *name,
                                   const char *wanted, const char *why)
{
    enum kd_status status = KD_EBUG;
    char *value = NULL;

    KD_TRY(kd_h5_get_string(file, name, &value));
    if (strcmp(value, wanted) != 0)
        status = kd_fail(KD_EDATA, "%s: %s is '%.80s', not '%s': %s", kd_h5_path(file),
                         name, value, wanted, why);
out:
    free(value);
    return status;
}

static enum kd_status read_attributes(struct kd_shard *shard, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_h5_expect_format(file, KD_SHARD_FORMAT, KD_SHARD_VERSION, "a shard"));
    KD_TRY(check_u64(file, "complete", 1,
                     "unfinished: run the program that was writing it again"));
    KD_TRY(check_string(file, "encoding", KD_SHARD_ENCODING,
                        "made by another version of the programs"));
    KD_TRY(kd_identity_load(&shard->identity, file));
    KD_TRY(check_u64(file, "k", shard->identity.num_classes, "damaged"));
out:
    return status;
}

/* Whether `info` is the column that belongs there, for the shard's rows. */
static enum kd_status check_column(const struct kd_shard *shard, enum kd_column column,
                                   const struct kd_array_info *info)
{
    enum kd_status status = KD_EBUG;
    const char *name = kd_column_names[column], *wrong = NULL;
    struct kd_array_info wanted;

    status = kd_column_layout(&shard->identity, column, shard->rows, &wanted);
    if (status != KD_OK) {
        kd_error_prefix("%s", shard->path);
        return status;
    }
    if (info->type != wanted.type)
        wrong = "is of another type than it should be";
    else if (info->rank != wanted.rank || info->shape[0] != wanted.shape[0] ||
             (info->rank == 2 && info->shape[1] != wanted.shape[1]))
        wrong = "is of another shape than it should be";
    else if (info->offset == UINT64_MAX)
        wrong = "does not lie in one piece: was the file repacked";
    else if (info->offset % kd_type_size(info->type) != 0)
        wrong = "is not aligned";
    else if (info->offset > shard->map.size ||
             wanted.bytes > shard->map.size - info->offset)
        wrong = "reaches beyond the end of the file: truncated";
    if (wrong != NULL)
        return kd_fail(KD_EDATA, "%s: /%s %s", shard->path, name, wrong);
    return KD_OK;
}

static enum kd_status check_overlaps(const struct kd_shard *shard,
                                     const struct kd_array_info *infos)
{
    for (int a = 0; a < KD_COLUMN_COUNT; a++)
        for (int b = 0; b < a; b++)
            if (infos[a].offset < infos[b].offset + infos[b].bytes &&
                infos[b].offset < infos[a].offset + infos[a].bytes)
                return kd_fail(KD_EDATA, "%s: damaged: /%s and /%s overlap",
                               shard->path, kd_column_names[a], kd_column_names[b]);
    return KD_OK;
}

static void point(struct kd_shard *shard, const struct kd_array_info *infos)
{
    const void *at[KD_COLUMN_COUNT];

    for (int i = 0; i < KD_COLUMN_COUNT; i++)
        at[i] = shard->map.data + infos[i].offset;
    shard->id = at[KD_COLUMN_ID];
    shard->view = at[KD_COLUMN_VIEW];
    shard->label = at[KD_COLUMN_LABEL];
    shard->logits = at[KD_COLUMN_LOGITS];
    shard->row_max = at[KD_COLUMN_ROW_MAX];
    shard->log_z = at[KD_COLUMN_LOG_Z];
    shard->check = at[KD_COLUMN_CHECK];
}

static enum kd_status map_columns(struct kd_shard *shard, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info infos[KD_COLUMN_COUNT];

    for (int i = 0; i < KD_COLUMN_COUNT; i++)
        KD_TRY(kd_h5_info(file, kd_column_names[i], &infos[i]));
    shard->rows = infos[KD_COLUMN_ID].rank == 1 ? infos[KD_COLUMN_ID].shape[0] : 0;
    if (shard->rows == 0)
        return kd_fail(KD_EDATA, "%s: it has no rows", shard->path);
    KD_TRY(kd_map_open(&shard->map, shard->path));
    for (int i = 0; i < KD_COLUMN_COUNT; i++)
        KD_TRY(check_column(shard, (enum kd_column)i, &infos[i]));
    KD_TRY(check_overlaps(shard, infos));
    shard->row_bytes =
        shard->identity.num_classes * kd_type_size(shard->identity.dtype);
    point(shard, infos);
out:
    return status;
}

/* What is wrong with the small columns of a row, NULL if nothing is. */
static const char *find_fault(const struct kd_shard *shard, uint64_t row)
{
    const struct kd_identity *of = &shard->identity;
    uint64_t id = shard->id[row];
    uint32_t view = shard->view[row];
    int32_t label = shard->label[row];

    if (id < of->first_id || id - of->first_id >= of->num_samples ||
        view < of->first_view || view - of->first_view >= of->views)
        return "the id or view is none of the cache's";
    if (row > 0 && (id < shard->id[row - 1] ||
                    (id == shard->id[row - 1] && view <= shard->view[row - 1])))
        return "ids and views do not ascend";
    if (label < -1 || (label >= 0 && (uint32_t)label >= of->num_classes))
        return "the label is none of the classes";
    if (!isfinite(shard->row_max[row]) || !(shard->log_z[row] >= 0) ||
        !isfinite(shard->log_z[row]))
        return "row_max or log_z is out of range";
    return NULL;
}

static enum kd_status fail_row(const struct kd_shard *shard, uint64_t row,
                               const char *why)
{
    return kd_fail(KD_EDATA, "%s: row %llu (sample %llu, view %u): %s", shard->path,
                   (unsigned long long)row, (unsigned long long)shard->id[row],
                   (unsigned)shard->view[row], why);
}

static enum kd_status check_rows(struct kd_shard *shard)
{
    uint64_t id = shard->id[0];
    uint32_t view = 0, views = shard->identity.views;
    uint32_t first_view = shard->identity.first_view;

    shard->regular = true;
    for (uint64_t row = 0; row < shard->rows; row++) {
        const char *fault = find_fault(shard, row);

        if (fault != NULL)
            return fail_row(shard, row, fault);
        if (shard->id[row] != id || shard->view[row] != first_view + view)
            shard->regular = false;
        if (++view == views) {
            view = 0;
            id++;
        }
    }
    return KD_OK;
}

enum kd_status kd_shard_open(const char *path, struct kd_shard **shard)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard *made = NULL;
    struct kd_h5 *file = NULL;

    *shard = NULL;
    KD_TRY(KD_NEW(made, 1));
    made->path = kd_copy_string(path);
    if (made->path == NULL) {
        status = KD_EMEMORY;
        goto out;
    }
    KD_TRY(kd_h5_open(path, &file));
    KD_TRY(read_attributes(made, file));
    KD_TRY(map_columns(made, file));
    KD_TRY(check_rows(made));
    *shard = made;
    made = NULL;
out:
    kd_h5_close(file);
    kd_shard_close(made);
    return status;
}

void kd_shard_close(struct kd_shard *shard)
{
    if (shard == NULL)
        return;
    kd_map_close(&shard->map);
    free(shard->path);
    free(shard);
}

const struct kd_identity *kd_shard_identity(const struct kd_shard *shard)
{
    return &shard->identity;
}

const char *kd_shard_path(const struct kd_shard *shard)
{
    return shard->path;
}

uint64_t kd_shard_rows(const struct kd_shard *shard)
{
    return shard->rows;
}

const uint64_t *kd_shard_ids(const struct kd_shard *shard)
{
    return shard->id;
}

const uint32_t *kd_shard_views(const struct kd_shard *shard)
{
    return shard->view;
}

int32_t kd_shard_label(const struct kd_shard *shard, uint64_t row)
{
    return shard->label[row];
}

float kd_shard_row_max(const struct kd_shard *shard, uint64_t row)
{
    return shard->row_max[row];
}

float kd_shard_log_z(const struct kd_shard *shard, uint64_t row)
{
    return shard->log_z[row];
}

/*
 * Whether a value is finite and not above 0, as 0 or 1, without a branch. A half's
 * pattern with the sign bit set is in range up to 0xfbff, -65504; of those without
 * it only 0 is.
 */
static unsigned half_is_bad(uint16_t value)
{
    return (unsigned)((uint16_t)(value - 1) < 0x7fff) | (unsigned)(value > 0xfbff);
}

static unsigned float_is_bad(float value)
{
    return (unsigned)!(value <= 0) | (unsigned)!(value >= -FLT_MAX);
}

/* Blocks of a fixed size are what compilers turn into vector instructions. */
#define BLOCK 64

static bool halves_in_range(const uint16_t *values, size_t n)
{
    unsigned bad = 0;

    for (; n >= BLOCK; n -= BLOCK, values += BLOCK)
        for (size_t i = 0; i < BLOCK; i++)
            bad |= half_is_bad(values[i]);
    for (size_t i = 0; i < n; i++)
        bad |= half_is_bad(values[i]);
    return bad == 0;
}

static bool floats_in_range(const float *values, size_t n)
{
    unsigned bad = 0;

    for (; n >= BLOCK; n -= BLOCK, values += BLOCK)
        for (size_t i = 0; i < BLOCK; i++)
            bad |= float_is_bad(values[i]);
    for (size_t i = 0; i < n; i++)
        bad |= float_is_bad(values[i]);
    return bad == 0;
}

/* Verifies and decodes one row. */
static enum kd_status read_row(const struct kd_shard *shard, uint64_t row,
                               float *values)
{
    const char *logits = shard->logits + row * shard->row_bytes;
    size_t classes = shard->identity.num_classes;
    bool in_range = false;
    uint32_t check = kd_row_check(
        &(struct kd_row){shard->id[row], shard->view[row], shard->label[row], logits,
                         shard->row_bytes, shard->row_max[row], shard->log_z[row]});

    if (check != shard->check[row])
        return fail_row(shard, row, "damaged: its check differs; make the shard again");
    if (shard->identity.dtype == KD_F16) {
        const uint16_t *halves = (const uint16_t *)(const void *)logits;
        in_range = halves_in_range(halves, classes);
        kd_half_to_float(halves, values, classes);
    } else {
        in_range = floats_in_range((const float *)(const void *)logits, classes);
        memcpy(values, logits, shard->row_bytes);
    }
    if (!in_range)
        return fail_row(shard, row, "a logit is not finite, or above the maximum");
    return KD_OK;
}

enum kd_status kd_shard_read(const struct kd_shard *shard, uint64_t row, size_t count,
                             float *values)
{
    enum kd_status status = KD_OK;

    if (row > shard->rows || count > shard->rows - row)
        return kd_fail(KD_EBUG, "%s: rows %llu to %llu of %llu were asked for",
                       shard->path, (unsigned long long)row,
                       (unsigned long long)row + count,
                       (unsigned long long)shard->rows);
    for (size_t i = 0; i < count && status == KD_OK; i++)
        status = read_row(shard, row + i, values + i * shard->identity.num_classes);
    return status;
}

/* The first row that is not before (id, view). */
static uint64_t lower_bound(const struct kd_shard *shard, uint64_t id, uint32_t view)
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

    if (id < shard->id[0] || id > shard->id[shard->rows - 1] || view < of->first_view ||
        view - of->first_view >= of->views)
        return UINT64_MAX;
    if (shard->regular)
        row = (id - shard->id[0]) * of->views + (view - of->first_view);
    else
        row = lower_bound(shard, id, view);
    if (row >= shard->rows || shard->id[row] != id || shard->view[row] != view)
        return UINT64_MAX;
    return row;
}
