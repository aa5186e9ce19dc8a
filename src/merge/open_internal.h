/* SPDX-License-Identifier: MIT */
/* The inputs of a merge, and what follows from them. */
#ifndef KD_MERGE_OPEN_INTERNAL_H
#define KD_MERGE_OPEN_INTERNAL_H

#include "kd/merge.h"
#include "merge/input_internal.h"

struct kd_merge_opened {
    struct kd_merge_plan plan;       /* checked and fitted; its table of routes and
                                        class weights are the caller's */
    double weights[KD_MAX_TEACHERS]; /* as they were given, for completion */
    struct kd_merge_input inputs[KD_MAX_TEACHERS]; /* [plan.teachers] */
    struct kd_identity merged;

    const struct kd_merge_options *options;
    double *class_weights; /* those of the plan that was given */
    size_t open;           /* inputs that were opened */
    uint64_t needed;       /* ids below this are done: their shards are closed */
};

/* Opens the caches named by `inputs` [plan->teachers] as far as is needed, checks that
 * they can be merged so, fits the plan where it must be, and says what the merged cache
 * is. `directory`, unless NULL, is made before anybody is waited for. Plan and options
 * must stay. The caller closes it, also after a failure. */
enum kd_status kd_merge_opened_start(struct kd_merge_opened *opened,
                                     const struct kd_merge_plan *plan,
                                     const char *const *inputs,
                                     const struct kd_merge_options *options,
                                     const char *directory) KD_CHECKED;
void kd_merge_opened_close(struct kd_merge_opened *opened); /* a zeroed one is fine */

/* Takes shards in; *there: every teacher has the ids begin to end-1 or, where they may
 * be missing, has ended. If not, kd_merge_opened_more waits a moment, or for the next.
 */
enum kd_status kd_merge_opened_take(struct kd_merge_opened *opened, uint64_t begin,
                                    uint64_t end, bool may_miss,
                                    bool *there) KD_CHECKED;
enum kd_status kd_merge_opened_more(struct kd_merge_opened *opened) KD_CHECKED;

/* Takes what is still to come, so that no producer writes to a closed pipe, and a
 * shard that does not belong is seen. */
enum kd_status kd_merge_opened_drain(struct kd_merge_opened *opened) KD_CHECKED;

/* The first and the last of these, for rows in any order: all that kd_merge_run does
 * before it writes, with the same errors. The caller clears the inputs. */
enum kd_status kd_merge_open(const struct kd_merge_plan *plan,
                             const char *const *inputs,
                             const struct kd_merge_options *options,
                             struct kd_merge_opened *to) KD_CHECKED;

#endif
