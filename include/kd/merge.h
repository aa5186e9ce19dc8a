/* SPDX-License-Identifier: MIT */
/*
 * Merging: several teachers' caches become one under a policy (kd/policy.h).
 *
 *     struct kd_merge_plan plan = {.policy = KD_POLICY_MEAN_PROB, .teachers = 3};
 *     KD_TRY(kd_merge_run(&plan, inputs, "merged", &options));
 */
#ifndef KD_MERGE_H
#define KD_MERGE_H

#include "kd/policy.h"
#include "kd/shard.h"
#include "kd/status.h"

#include <stddef.h>
#include <stdint.h>

/* Whether teachers [M] may be merged; names [M] are for messages. KD_EDATA where not:
 * other dataset, class map, samples, views, temperature, or logprobs under a policy
 * that needs logits; the message names what differs and where. The plan was checked. */
enum kd_status kd_merge_check(const struct kd_merge_plan *plan,
                              const struct kd_identity *const *teachers,
                              const char *const *names) KD_CHECKED;

/* The identity of the merged cache with rows as `codec` says, from its teachers'.
 * KD_EDATA as above. A teacher that is there twice is a warning. The plan was checked
 * and, where it must be, fitted; its temperature is the teachers'. */
enum kd_status kd_merge_identity(const struct kd_merge_plan *plan,
                                 const struct kd_identity *const *teachers,
                                 const char *const *names, const struct kd_codec *codec,
                                 struct kd_identity *merged) KD_CHECKED;

/* How kd_merge_run works. */
struct kd_merge_options {
    uint64_t samples_a_shard; /* S of the merged cache */
    struct kd_codec codec;    /* how its rows are stored */
    const char *history;      /* the command line, for the shards */
    /* Called with each finished shard's path, in the order of ids; may be NULL. */
    enum kd_status (*finished)(void *context, const char *path);
    void *context;
};

/* Merges the caches named by `inputs` [plan->teachers] into `directory`. Shards that
 * are there already and belong to this merge are kept. A range of ids is merged as
 * soon as every teacher has it; inputs that are pipes are read meanwhile. Where the
 * plan must be fitted, that is done first, as soon as every teacher has the held-out
 * ids, in memory for all their rows. Otherwise memory is bounded by the batch of rows,
 * not by the caches. An input that ends before all its
 * promised rows are there is KD_EDATA. The bytes written depend on the rows alone,
 * not on how the inputs are cut into shards, when they come, or on threads. Checks
 * the plan; KD_EINTERRUPTED if a signal asks to stop: finished shards stay. */
enum kd_status kd_merge_run(const struct kd_merge_plan *plan, const char *const *inputs,
                            const char *directory,
                            const struct kd_merge_options *options) KD_CHECKED;

#endif
