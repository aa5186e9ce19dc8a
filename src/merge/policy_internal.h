/* SPDX-License-Identifier: MIT */
/* What a policy is made of: a function that weighs the teachers of a row, and one that
 * pools their rows. */
#ifndef KD_MERGE_POLICY_INTERNAL_H
#define KD_MERGE_POLICY_INTERNAL_H

#include "kd/hash.h"
#include "kd/policy.h"

#include <stdbool.h>
#include <stddef.h>

enum kd_policy_trait {
    KD_NEEDS_LOGITS = 1,      /* log-probabilities will not do */
    KD_NEEDS_LABEL = 2,       /* of every row */
    KD_NEEDS_ALL_CLASSES = 4, /* dense rows */
    KD_TAKES_WEIGHTS = 8,     /* static ones */
    KD_KEEPS_ROWS = 16,       /* gives one teacher's row as it is */
    KD_MEASURES = 32,         /* weighs by what the row says, at a temperature ... */
    KD_MEASURES_AT_ONE = 64,  /* ... which is 1 */
    KD_FALLS_BACK = 128,      /* where teachers give no answer */
    KD_DRAWS = 256,           /* from the seed */
    KD_FITS_WEIGHTS = 512,    /* on held-out ids */
    KD_FITS_MORE = 1024       /* on held-out ids */
};

/* weights [M] are the static ones, of sum 1; what the row says goes into them. */
typedef enum kd_status kd_policy_weigh(const struct kd_merge_plan *plan,
                                       const struct kd_policy_row *row,
                                       double *weights);

/* Pools the teachers whose weight is not 0 into out [n]; *answered is true before. */
typedef enum kd_status kd_policy_pool(const struct kd_merge_plan *plan,
                                      const struct kd_policy_row *row,
                                      const double *weights, float *out,
                                      bool *answered);

struct kd_policy_rule {
    unsigned traits;        /* enum kd_policy_trait, or-ed */
    kd_policy_weigh *weigh; /* NULL: static weights */
    kd_policy_pool *pool;
};

const struct kd_policy_rule *kd_policy_rule(enum kd_policy policy);

/* policy_weigh.c, policy_choose.c */
kd_policy_weigh kd_weigh_entropy, kd_weigh_label_confidence, kd_weigh_confidence,
    kd_weigh_correct, kd_weigh_all_but_one;
kd_policy_weigh kd_choose_by_label, kd_choose_best, kd_choose_random, kd_choose_route;

/* policy_mean.c, policy_order.c, policy_vote.c */
kd_policy_pool kd_pool_mean_prob, kd_pool_mean_logit, kd_pool_class_weights,
    kd_pool_keep;
kd_policy_pool kd_pool_median, kd_pool_trimmed_mean;
kd_policy_pool kd_pool_vote, kd_pool_vote_share, kd_pool_agreement, kd_pool_noisy_vote;

/* The class of an outcome: KD_CLASS_REST for the rest. */
static inline uint32_t kd_policy_class(const struct kd_policy_row *row, size_t outcome)
{
    return row->class_of == NULL ? (uint32_t)outcome : row->class_of[outcome];
}

/* The outcome of the label, or n where it is unknown or not among them. */
size_t kd_policy_label(const struct kd_policy_row *row);

/* log p_m(c) at T. */
static inline double kd_policy_log_p(const struct kd_policy_row *row, size_t m,
                                     size_t outcome)
{
    return (double)row->values[m][outcome] - (double)row->log_z[m];
}

/* Scales weights [n] to sum 1; false where they are all 0. */
bool kd_policy_scale(double *weights, size_t n);

/* Makes `out` [n] log-probabilities of sum 1. */
void kd_policy_normalize(float *out, size_t n);

/* All probability on one outcome. */
void kd_policy_one_hot(float *out, size_t n, size_t outcome);

/* "A:B" as the numbers A and B, A < B; false if it is none. */
bool kd_merge_parse_range(const char *text, uint64_t *begin, uint64_t *end);

/* The content of a table of routes. */
enum kd_status kd_route_digest(const struct kd_route *route,
                               struct kd_digest *digest) KD_CHECKED;

/* KD_EDATA, "sample 3, view 0: what". */
enum kd_status kd_policy_fail(const struct kd_policy_row *row, const char *what);

#endif
