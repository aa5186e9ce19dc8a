/* SPDX-License-Identifier: MIT */
/*
 * Merging: several teachers' caches become one under a policy.
 *
 * Notation: teachers m = 1..M, scaled logits u_m = z_m/T, p_m = softmax(u_m),
 * weights w_m >= 0 with sum 1.
 *
 *     mean-prob    p = sum_m w_m p_m. The linear pool: since
 *                  sum_m w_m KL(p_m || q) = KL(p || q) + constant, training on it
 *                  is training on the weighted mean of the teachers' KL losses, at
 *                  this T. Values are log p, kind logprobs.
 *     mean-logit   u = sum_m w_m u_m. The log pool (geometric mean of the
 *                  probabilities, renormalised). Values are logits.
 *
 * Hinton, Vinyals, Dean 2015 name both means; why they differ is shown in
 * tests/unit/test_policy.c. To add a policy: a function in src/merge/policy.c and a
 * line in its table.
 *
 *     struct kd_merge_plan plan = {.policy = KD_POLICY_MEAN_PROB, .teachers = 3};
 *     KD_TRY(kd_merge_plan_check(&plan));
 *     kd_merge_rows(&plan, u, rows, classes, out);
 */
#ifndef KD_MERGE_H
#define KD_MERGE_H

#include "kd/shard.h"
#include "kd/status.h"

#include <stddef.h>
#include <stdint.h>

enum kd_policy { KD_POLICY_MEAN_PROB, KD_POLICY_MEAN_LOGIT };

/* The names, ended by NULL, in the order of the enum. */
extern const char *const kd_policy_names[];

#define KD_MAX_TEACHERS 64

struct kd_merge_plan {
    enum kd_policy policy;
    size_t teachers;                 /* M, 1 to KD_MAX_TEACHERS */
    double weights[KD_MAX_TEACHERS]; /* all 0: equal; scaled to sum 1 by check */
};

/* Parses "0.5,0.3,0.2" into weights, as many as there are teachers; not all 0.
 * KD_EUSAGE. */
enum kd_status kd_merge_parse_weights(struct kd_merge_plan *plan,
                                      const char *text) KD_CHECKED;

/* KD_EUSAGE where the teachers are none or too many, or a weight is not finite and
 * at least 0. Scales the weights. */
enum kd_status kd_merge_plan_check(struct kd_merge_plan *plan) KD_CHECKED;

/* The identity of the merged cache with rows of `dtype`, from its teachers' [M];
 * names [M] are for messages. KD_EDATA where they may not be merged: other dataset,
 * class map, samples, views, temperature, or logprobs under a policy that needs
 * logits; the message names what differs and where. A teacher that is there twice is
 * a warning. The plan must have been checked. */
enum kd_status kd_merge_identity(const struct kd_merge_plan *plan,
                                 const struct kd_identity *const *teachers,
                                 const char *const *names, enum kd_type dtype,
                                 struct kd_identity *merged) KD_CHECKED;

/* Merges rows: values[m] is [rows][classes] u_m minus its row's maximum, row_max[m]
 * and log_z[m] are [rows]; out [rows][classes] gets absolute log p or u. Sums are in
 * a fixed order, in double over the teachers, so results do not depend on threads.
 * The plan must have been checked. */
void kd_merge_rows(const struct kd_merge_plan *plan, const float *const *values,
                   const float *const *row_max, const float *const *log_z, size_t rows,
                   size_t classes, float *out);

/* How kd_merge_run works. */
struct kd_merge_options {
    uint64_t samples_a_shard; /* S of the merged cache */
    enum kd_type dtype;       /* KD_F16 or KD_F32 */
    const char *history;      /* the command line, for the shards */
    /* Called with each finished shard's path, in the order of ids; may be NULL. */
    enum kd_status (*finished)(void *context, const char *path);
    void *context;
};

/* Merges the caches named by `inputs` [plan->teachers] into `directory`. Shards that
 * are there already and belong to this merge are kept. A range of ids is merged as
 * soon as every teacher has it; inputs that are pipes are read meanwhile. Memory is
 * bounded by the batch of rows, not by the caches. An input that ends before all its
 * promised rows are there is KD_EDATA. The bytes written depend on the rows alone,
 * not on how the inputs are cut into shards, when they come, or on threads. Checks
 * the plan; KD_EINTERRUPTED if a signal asks to stop: finished shards stay. */
enum kd_status kd_merge_run(const struct kd_merge_plan *plan, const char *const *inputs,
                            const char *directory,
                            const struct kd_merge_options *options) KD_CHECKED;

#endif
