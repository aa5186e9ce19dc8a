/* SPDX-License-Identifier: MIT */
/* One teacher's rows, from its shards into what is merged: at the temperature that is
 * wanted, and over the classes of the merged cache. */
#include "merge/row_internal.h"

#include "kd/half.h"
#include "kd/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void kd_merge_reader_clear(struct kd_merge_reader *reader)
{
    free(reader->row.values);
    free(reader->row.index);
    free(reader->own);
    *reader = (struct kd_merge_reader){0};
}

static enum kd_status reserve(struct kd_merge_reader *reader,
                              const struct kd_shard *shard)
{
    enum kd_status status = KD_EBUG;
    const size_t kept = kd_shard_kept(shard);

    KD_TRY(kd_grow(&reader->row.values, &reader->value_capacity, kept,
                   sizeof *reader->row.values));
    KD_TRY(kd_grow(&reader->row.index, &reader->index_capacity, kept,
                   sizeof *reader->row.index));
out:
    return status;
}

/* The stored normaliser and tail of another temperature. */
static void temper(const struct kd_merge_input *input, struct kd_row *row)
{
    const double scale = 1 / input->temper;

    if (input->temper == 1)
        return;
    for (size_t i = 0; i < row->size; i++)
        row->values[i] = (float)((double)row->values[i] * scale);
    row->row_max = (float)((double)row->row_max * scale);
    row->log_z = row->log_z_also[input->also];
    row->log_tail = row->log_tail_also[input->also];
}

enum kd_status kd_merge_read_sparse(struct kd_merge_reader *reader,
                                    const struct kd_merge_input *input,
                                    const struct kd_shard *shard, uint64_t at,
                                    struct kd_sparse_row *to)
{
    enum kd_status status = KD_EBUG;
    struct kd_row *row = &reader->row;

    KD_TRY(reserve(reader, shard));
    KD_TRY(kd_shard_row(shard, at, row));
    temper(input, row);
    *to = (struct kd_sparse_row){.size = row->size,
                                 .index = row->index,
                                 .values = row->values,
                                 .row_max = row->row_max,
                                 .log_z = row->log_z,
                                 .log_tail = row->log_tail,
                                 .keeps_top = input->keeps_top};
out:
    return status;
}

/* Even shares of the tail for all classes that are not kept. */
static void spread(const struct kd_sparse_row *row, size_t classes, float *values)
{
    const double others = (double)(classes - row->size);
    double each = -KD_HALF_MAX;

    if (others > 0)
        each = (double)row->log_tail + (double)row->log_z - log(others);
    for (size_t c = 0; c < classes; c++)
        values[c] = (float)fmax(each, -KD_HALF_MAX);
    for (size_t i = 0; i < row->size; i++)
        values[row->index[i]] = row->values[i];
}

/* A row over the teacher's own classes. */
static enum kd_status read_own(struct kd_merge_reader *reader,
                               const struct kd_merge_input *input,
                               const struct kd_shard *shard, uint64_t at, float *values,
                               struct kd_sparse_row *row)
{
    enum kd_status status = KD_EBUG;
    const size_t own = input->identity.num_classes;

    if (kd_codec_is_sparse(&input->identity.codec)) {
        KD_TRY(kd_merge_read_sparse(reader, input, shard, at, row));
        spread(row, own, values);
        return KD_OK;
    }
    KD_TRY(kd_shard_read(shard, at, 1, values));
    row->row_max = kd_shard_row_max(shard, at);
    row->log_z = kd_shard_log_z(shard, at);
    row->log_tail = -INFINITY;
    kd_calibrate_rows(input->temper, 1, own, values, &row->row_max, &row->log_z);
out:
    return status;
}

enum kd_status kd_merge_read_dense(struct kd_merge_reader *reader,
                                   const struct kd_merge_input *input,
                                   const struct kd_shard *shard, uint64_t at,
                                   const struct kd_merge_rows *to, size_t i,
                                   float *log_tail)
{
    enum kd_status status = KD_EBUG;
    const size_t own = input->identity.num_classes;
    float *values = to->values + i * input->classes;
    struct kd_sparse_row row;

    if (input->map != NULL) {
        KD_TRY(kd_grow(&reader->own, &reader->own_capacity, own, sizeof *reader->own));
        values = reader->own;
    }
    KD_TRY(read_own(reader, input, shard, at, values, &row));
    if (input->map != NULL)
        kd_class_map_row(input->map, input->renames, input->classes, values,
                         to->values + i * input->classes, &row.row_max, &row.log_z);
    to->row_max[i] = row.row_max;
    to->log_z[i] = row.log_z;
    to->label[i] = kd_shard_label(shard, at);
    *log_tail = row.log_tail;
out:
    return status;
}
