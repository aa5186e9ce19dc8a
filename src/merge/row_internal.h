/* SPDX-License-Identifier: MIT */
/* Rows of the inputs at the temperature, and over the classes, of the merged cache. */
#ifndef KD_MERGE_ROW_INTERNAL_H
#define KD_MERGE_ROW_INTERNAL_H

#include "kd/merge.h"
#include "merge/input_internal.h"

/* One thread's memory for a row as it is stored; zeroed at first. */
struct kd_merge_reader {
    struct kd_row row;
    size_t value_capacity, index_capacity;
    float *own; /* values over the teacher's own classes, where they are mapped */
    size_t own_capacity;
};
void kd_merge_reader_clear(struct kd_merge_reader *reader);

/* A row of an input that is sparse; what *to points to is the reader's. */
enum kd_status kd_merge_read_sparse(struct kd_merge_reader *reader,
                                    const struct kd_merge_input *input,
                                    const struct kd_shard *shard, uint64_t at,
                                    struct kd_sparse_row *to) KD_CHECKED;

/* A row of any input into place `i` of `to`; *log_tail is the log of what a sparse row
 * does not keep, whose even shares are among the values; -inf of dense ones. */
enum kd_status kd_merge_read_dense(struct kd_merge_reader *reader,
                                   const struct kd_merge_input *input,
                                   const struct kd_shard *shard, uint64_t at,
                                   const struct kd_merge_rows *to, size_t i,
                                   float *log_tail) KD_CHECKED;

#endif
