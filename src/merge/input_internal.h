/* SPDX-License-Identifier: MIT */
/* One teacher's shards on their way into a merge. */
#ifndef KD_MERGE_INPUT_INTERNAL_H
#define KD_MERGE_INPUT_INTERNAL_H

#include "kd/cache.h"
#include "kd/class_map.h"
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
    char *name; /* as it was given, then as kd_cache_title has it */
    struct kd_shard_stream *stream;
    bool lasts; /* a finished cache: shards come when they are asked for */
    bool ended; /* no more shards will come */
    struct kd_identity identity; /* valid once a shard has come */
    struct kd_merge_part *parts; /* by ids, ascending; they never overlap */
    size_t count, capacity;

    /* how its rows are used, set by kd_merge_input_use */
    double temper;                  /* what logits are divided by */
    int also;                       /* which of the further temperatures that is */
    bool keeps_top;                 /* sparse: see struct kd_sparse_row */
    bool plain;                     /* dense rows without a map */
    const struct kd_class_map *map; /* NULL: none */
    bool renames;                   /* that is all that the map does */
    bool *known;                    /* [classes] which it has; NULL: all. Owned */
    size_t classes;                 /* of the merged cache */
};

enum kd_status kd_merge_input_open(struct kd_merge_input *input,
                                   const char *name) KD_CHECKED;
void kd_merge_input_clear(struct kd_merge_input *input);

/* Rows are wanted at this temperature, which is exact for them, and over `classes`. */
enum kd_status kd_merge_input_use(struct kd_merge_input *input, double temperature,
                                  const struct kd_class_map *map,
                                  size_t classes) KD_CHECKED;

/* Opens all shards that can be had without waiting; of a finished cache only as many as
 * give it the ids begin to end-1, but one at least. Of those whose ids are all below
 * `needed`, only the facts are kept. */
enum kd_status kd_merge_input_take(struct kd_merge_input *input, uint64_t needed,
                                   uint64_t begin, uint64_t end) KD_CHECKED;

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
    float *log_tail;        /* [count] of rows that are not plain; may be NULL */
    bool *present;          /* [count] NULL where all are */
};

/* Reads `count` rows from (id, view) on, in order; they must be covered. May be
 * called by several threads at once. */
enum kd_status kd_merge_input_read(const struct kd_merge_input *input, uint64_t id,
                                   uint32_t view, size_t count,
                                   const struct kd_merge_rows *to) KD_CHECKED;

/* The shard and row of (id, view); false where it has not come. */
bool kd_merge_input_find(const struct kd_merge_input *input, uint64_t id, uint32_t view,
                         const struct kd_shard **shard, uint64_t *at);

/* Calls hint for the rows of each open shard that ids begin to end-1 have. */
void kd_merge_input_advise(const struct kd_merge_input *input, uint64_t begin,
                           uint64_t end,
                           void (*hint)(const struct kd_shard *shard, uint64_t row,
                                        uint64_t count));

/* The most values of a row in the shards that are open. */
size_t kd_merge_input_kept(const struct kd_merge_input *input);

/* Completes row `row` of the `rows` of all teachers, of whom some may know only some of
 * the classes (kd/class_map.h), in place. */
enum kd_status kd_merge_complete(const struct kd_merge_input *inputs, size_t teachers,
                                 const double *weights,
                                 const struct kd_merge_rows *rows,
                                 size_t row) KD_CHECKED;

/* Fits the plan on its held-out ids, completed with the weights, which all inputs
 * [plan->teachers] must cover. */
enum kd_status kd_merge_fit(struct kd_merge_plan *plan, const double *weights,
                            const struct kd_merge_input *inputs) KD_CHECKED;

#endif
