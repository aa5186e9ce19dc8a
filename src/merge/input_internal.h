/* SPDX-License-Identifier: MIT */
/* One teacher's shards on their way into a merge. */
#ifndef KD_MERGE_INPUT_INTERNAL_H
#define KD_MERGE_INPUT_INTERNAL_H

#include "kd/cache.h"
#include "kd/policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A shard that came. */
struct kd_merge_part {
    uint64_t first_id, last_id;
    uint32_t first_view, last_view;
    struct kd_shard *shard; /* NULL once its rows are no longer needed */
};

struct kd_merge_input {
    const char *name; /* as it was given; kept, not copied */
    struct kd_shard_stream *stream;
    bool ended;                  /* no more shards will come */
    struct kd_identity identity; /* valid once a shard has come */
    struct kd_merge_part *parts; /* by ids, ascending; they never overlap */
    size_t count, capacity;
};

enum kd_status kd_merge_input_open(struct kd_merge_input *input,
                                   const char *name) KD_CHECKED;
void kd_merge_input_clear(struct kd_merge_input *input);

/* Opens all shards that can be had without waiting; of those whose ids are all
 * below `needed`, only the facts are kept. */
enum kd_status kd_merge_input_take(struct kd_merge_input *input,
                                   uint64_t needed) KD_CHECKED;

/* Waits a moment, or until an input that has not ended has something to take. */
enum kd_status kd_merge_inputs_wait(struct kd_merge_input *inputs,
                                    size_t count) KD_CHECKED;

/* Whether all views of the ids begin to end-1 are there. */
bool kd_merge_input_covers(const struct kd_merge_input *input, uint64_t begin,
                           uint64_t end);

/* KD_EDATA, for an input that has ended and does not cover begin to end-1. */
enum kd_status kd_merge_input_fail(const struct kd_merge_input *input,
                                   uint64_t begin) KD_CHECKED;

/* Closes the shards whose ids are all below `needed`. */
void kd_merge_input_release(struct kd_merge_input *input, uint64_t needed);

/* Where rows go. */
struct kd_merge_rows {
    float *values;          /* [count][C] */
    float *row_max, *log_z; /* [count] */
    int32_t *label;         /* [count] */
};

/* Reads `count` rows from (id, view) on, in order; they must be covered. May be
 * called by several threads at once. */
enum kd_status kd_merge_input_read(const struct kd_merge_input *input, uint64_t id,
                                   uint32_t view, size_t count,
                                   const struct kd_merge_rows *to) KD_CHECKED;

/* Fits the plan on its held-out ids, which all inputs [plan->teachers] must cover. */
enum kd_status kd_merge_fit(struct kd_merge_plan *plan,
                            const struct kd_merge_input *inputs) KD_CHECKED;

#endif
