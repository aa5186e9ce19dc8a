/* SPDX-License-Identifier: MIT */
/*
 * Opening shards. HDF5 is asked for facts alone; the rows stay in a map of the file.
 * What one look at the small columns can find out is checked here, once.
 */
#include "kd/shard.h"

#include "cache/archive_internal.h"
#include "cache/identity_internal.h"
#include "cache/shard_read_internal.h"
#include "kd/h5.h"
#include "kd/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* HDF5 packs datasets under 4 KiB, so that one may lie at an odd offset; we copy
 * those. Larger ones are only there if another program wrote the file anew. */
#define MAX_COPY 65536

static enum kd_status check_complete(struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    uint64_t complete = 0;

    KD_TRY(kd_h5_get_u64(file, "complete", &complete));
    if (complete != 1)
        status = kd_fail(KD_EDATA,
                         "%s: complete is %llu, not 1: unfinished: run the program "
                         "that was writing it again",
                         kd_h5_path(file), (unsigned long long)complete);
out:
    return status;
}

static enum kd_status read_attributes(struct kd_shard *shard, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    const struct kd_identity *of = &shard->identity;
    double also[KD_MAX_ALSO];

    KD_TRY(kd_h5_expect_format(file, KD_SHARD_FORMAT, KD_SHARD_VERSION, "a shard"));
    if (kd_h5_has_attribute(file, KD_LAYOUT))
        return kd_fail(KD_EDATA,
                       "%s: archived: unpack it with kd-export --layout "
                       "contiguous",
                       kd_h5_path(file));
    KD_TRY(check_complete(file));
    KD_TRY(kd_identity_load(&shard->identity, file));
    shard->has_bound = kd_h5_has_attribute(file, "bound_mean");
    if (shard->has_bound) {
        KD_TRY(kd_h5_get_f64(file, "bound_mean", &shard->bound.mean));
        KD_TRY(kd_h5_get_f64(file, "bound_max", &shard->bound.max));
    }
    shard->sparse = kd_codec_is_sparse(&of->codec);
    shard->ragged = kd_codec_is_ragged(&of->codec);
    shard->also = kd_codec_also(&of->codec, also);
    shard->value_size = kd_type_size(of->codec.dtype);
    shard->index_size = kd_type_size(kd_codec_index_type(of->num_classes));
out:
    return status;
}

/* How many rows, and values in all, the columns have. */
static enum kd_status count_rows(struct kd_shard *shard)
{
    const struct kd_array_info *id = &shard->infos[KD_COLUMN_ID];
    const struct kd_array_info *logits = &shard->infos[KD_COLUMN_LOGITS];

    shard->rows = id->rank == 1 ? id->shape[0] : 0;
    shard->values = logits->count;
    if (shard->rows == 0)
        return kd_fail(KD_EDATA, "%s: it has no rows", shard->path);
    return KD_OK;
}

/* Whether what is there is the column that belongs there, for the shard's rows. */
static enum kd_status check_column(const struct kd_shard *shard, enum kd_column column)
{
    enum kd_status status = KD_EBUG;
    const struct kd_array_info *info = &shard->infos[column];
    const char *wrong = NULL;
    struct kd_array_info wanted;

    status =
        kd_column_layout(&shard->identity, column, shard->rows, shard->values, &wanted);
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
    else if (info->offset > shard->map.size ||
             wanted.bytes > shard->map.size - info->offset)
        wrong = "reaches beyond the end of the file: truncated";
    else if (info->offset % kd_type_size(info->type) != 0 && wanted.bytes > MAX_COPY)
        wrong = "is not aligned: was the file repacked";
    if (wrong != NULL)
        return kd_fail(KD_EDATA, "%s: /%s %s", shard->path, kd_column_names[column],
                       wrong);
    return KD_OK;
}

/* Columns that are not there have no bytes. */
static enum kd_status check_overlaps(const struct kd_shard *shard)
{
    const struct kd_array_info *infos = shard->infos;

    for (int a = 0; a < KD_COLUMN_COUNT; a++)
        for (int b = 0; b < a; b++)
            if (infos[a].offset < infos[b].offset + infos[b].bytes &&
                infos[b].offset < infos[a].offset + infos[a].bytes)
                return kd_fail(KD_EDATA, "%s: damaged: /%s and /%s overlap",
                               shard->path, kd_column_names[a], kd_column_names[b]);
    return KD_OK;
}

/* Where to read a column: in the map or, if it is not aligned there, in a copy. */
static enum kd_status find_column(struct kd_shard *shard, enum kd_column column,
                                  const void **at)
{
    const struct kd_array_info *info = &shard->infos[column];

    *at = NULL;
    if (!kd_column_present(&shard->identity, column))
        return KD_OK;
    *at = shard->map.data + info->offset;
    if (info->offset % kd_type_size(info->type) == 0)
        return KD_OK;
    shard->copies[column] = kd_alloc(info->bytes, 1);
    if (shard->copies[column] == NULL)
        return KD_EMEMORY;
    *at = memcpy(shard->copies[column], *at, info->bytes);
    return KD_OK;
}

static enum kd_status find_columns(struct kd_shard *shard)
{
    enum kd_status status = KD_EBUG;
    const void *at[KD_COLUMN_COUNT];

    for (int i = 0; i < KD_COLUMN_COUNT; i++)
        KD_TRY(find_column(shard, (enum kd_column)i, &at[i]));
    shard->id = at[KD_COLUMN_ID];
    shard->view = at[KD_COLUMN_VIEW];
    shard->label = at[KD_COLUMN_LABEL];
    shard->offset = at[KD_COLUMN_OFFSET];
    shard->logits = at[KD_COLUMN_LOGITS];
    shard->index = at[KD_COLUMN_INDEX];
    shard->draws = at[KD_COLUMN_DRAWS];
    shard->row_max = at[KD_COLUMN_ROW_MAX];
    shard->log_z = at[KD_COLUMN_LOG_Z];
    shard->log_tail = at[KD_COLUMN_LOG_TAIL];
    shard->log_z_also = at[KD_COLUMN_LOG_Z_ALSO];
    shard->log_tail_also = at[KD_COLUMN_LOG_TAIL_ALSO];
    shard->check = at[KD_COLUMN_CHECK];
out:
    return status;
}

static enum kd_status map_columns(struct kd_shard *shard, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    const struct kd_identity *of = &shard->identity;

    for (int i = 0; i < KD_COLUMN_COUNT; i++)
        if (kd_column_present(of, (enum kd_column)i))
            KD_TRY(kd_h5_info(file, kd_column_names[i], &shard->infos[i]));
    KD_TRY(count_rows(shard));
    /* Without advice: MADV_RANDOM, which takes read-ahead away, makes a first pass over
     * a cold cache ten times as slow; and huge pages gain too little to read two
     * megabytes for a row. */
    KD_TRY(kd_map_open(&shard->map, shard->path));
    for (int i = 0; i < KD_COLUMN_COUNT; i++)
        if (kd_column_present(of, (enum kd_column)i))
            KD_TRY(check_column(shard, (enum kd_column)i));
    KD_TRY(check_overlaps(shard));
    KD_TRY(find_columns(shard));
out:
    return status;
}

/* Whether a normaliser and the tail that goes with it are in range. */
static bool norm_in_range(float log_z, const float *log_tail)
{
    return log_z >= 0 && isfinite(log_z) && (log_tail == NULL || *log_tail <= 0);
}

static bool norms_in_range(const struct kd_shard *shard, uint64_t row)
{
    const float *log_tail = shard->log_tail;
    bool fine = norm_in_range(shard->log_z[row], log_tail ? log_tail + row : NULL);

    for (size_t a = 0; a < shard->also; a++) {
        const uint64_t at = row * shard->also + a;

        fine &= norm_in_range(shard->log_z_also[at], &shard->log_tail_also[at]);
    }
    return fine;
}

static bool offset_in_range(const struct kd_shard *shard, uint64_t row)
{
    const uint64_t begin = shard->offset[row], end = shard->offset[row + 1];

    return (row > 0 || begin == 0) && begin < end && end <= shard->values &&
           end - begin <= shard->identity.codec.k &&
           (row + 1 < shard->rows || end == shard->values);
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
    if (!isfinite(shard->row_max[row]))
        return "row_max is not finite";
    if (!norms_in_range(shard, row))
        return "log_z or log_tail is out of range";
    if (shard->ragged && !offset_in_range(shard, row))
        return "its offsets do not ascend by 1 to k values";
    return NULL;
}

enum kd_status kd_shard_fail_row(const struct kd_shard *shard, uint64_t row,
                                 const char *why)
{
    return kd_fail(KD_EDATA, "%s: row %llu (sample %llu, view %u): %s", shard->path,
                   (unsigned long long)row, (unsigned long long)shard->id[row],
                   (unsigned)shard->view[row], why);
}

/* Rows were checked when they were written: it must have happened since. */
static enum kd_status fail_damaged(const struct kd_shard *shard, uint64_t row,
                                   const char *fault)
{
    char why[128];

    snprintf(why, sizeof why, "damaged: %s; make the shard again", fault);
    return kd_shard_fail_row(shard, row, why);
}

static enum kd_status check_rows(struct kd_shard *shard)
{
    uint64_t id = shard->id[0];
    uint32_t view = 0, views = shard->identity.views;
    uint32_t first_view = shard->identity.first_view;

    shard->first_id = id;
    shard->regular = true;
    shard->kept = shard->ragged ? 0 : shard->identity.codec.k;
    for (uint64_t row = 0; row < shard->rows; row++) {
        const char *fault = find_fault(shard, row);

        if (fault != NULL)
            return fail_damaged(shard, row, fault);
        if (shard->id[row] != id || shard->view[row] != first_view + view)
            shard->regular = false;
        if (shard->ragged && shard->offset[row + 1] - shard->offset[row] > shard->kept)
            shard->kept = (size_t)(shard->offset[row + 1] - shard->offset[row]);
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
    made->verify = true;
    made->path = kd_copy_string(path);
    if (made->path == NULL) {
        status = KD_EMEMORY;
        goto out;
    }
    KD_TRY(kd_h5_open(path, &file));
    KD_TRY(read_attributes(made, file));
    KD_TRY(map_columns(made, file));
    KD_TRY(check_rows(made));
    kd_map_forget(&made->map, 0, made->map.size); /* not all shards are read at once */
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
    for (int i = 0; i < KD_COLUMN_COUNT; i++)
        free(shard->copies[i]);
    free(shard->path);
    free(shard);
}

const struct kd_identity *kd_shard_identity(const struct kd_shard *shard)
{
    return &shard->identity;
}

uint64_t kd_shard_bytes(const struct kd_shard *shard)
{
    return shard->map.size;
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

const struct kd_bound *kd_shard_bound(const struct kd_shard *shard)
{
    return shard->has_bound ? &shard->bound : NULL;
}

float kd_shard_row_max(const struct kd_shard *shard, uint64_t row)
{
    return shard->row_max[row];
}

float kd_shard_log_z(const struct kd_shard *shard, uint64_t row)
{
    return shard->log_z[row];
}

uint64_t kd_shard_values(const struct kd_shard *shard)
{
    return shard->values;
}

size_t kd_shard_kept(const struct kd_shard *shard)
{
    return shard->kept;
}

void kd_shard_set_verify(struct kd_shard *shard, bool verify)
{
    shard->verify = verify;
}
