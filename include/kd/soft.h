/* SPDX-License-Identifier: MIT */
/*
 * Soft labels: what a student is given, out of what a cache has stored.
 *
 * A dense row is a distribution at every temperature t: softmax(z/t). A sparse row
 * keeps the probabilities p_c of some classes S, exact at the temperatures it was made
 * for, and the mass `tail` of the others together. What becomes of the tail is a rule
 * by name:
 *
 *     spread   each of the C - |S| others gets tail / (C - |S|)
 *     renorm   p_c / (1 - tail) in S, 0 elsewhere: biased towards the top. 1 - tail is
 *              taken as the sum over S of what was stored, so that the result sums to 1
 *     bucket   the others are one class of mass tail; the student's own probabilities
 *              of them are summed before they are compared
 *
 * A sampled row needs no rule: with n draws, class c drawn n_c times, and r = p_c at
 * the wanted temperature over p_c at the dump's, its estimate is r n_c / n, whose
 * expectation is p_c for every class (importance sampling); its sum is 1 in the mean,
 * and exactly so at the dump's temperature.
 *
 *     struct kd_soft_spec spec = {.temperature = 4, .tail = KD_TAIL_SPREAD};
 *     KD_TRY(kd_soft_check(kd_cache_identity(cache), &spec));
 *     KD_TRY(kd_soft_read(cache, &spec, ids, views, n, &(struct kd_soft){.p = p}));
 */
#ifndef KD_SOFT_H
#define KD_SOFT_H

#include "kd/cache.h"
#include "kd/status.h"

#include <stddef.h>
#include <stdint.h>

enum kd_tail { KD_TAIL_SPREAD, KD_TAIL_RENORM, KD_TAIL_BUCKET };

/* "spread", "renorm", "bucket", ended by NULL. */
extern const char *const kd_tail_names[];

struct kd_soft_spec {
    double temperature; /* t > 0 */
    enum kd_tail tail;  /* of top-k and top-p rows */
};

/* Whether rows of such a cache can be used so. KD_EUSAGE: a temperature that is not
 * above 0. KD_EDATA: log-probabilities of a merged cache at another temperature than
 * theirs (tempering a mean is not the mean of the tempered), a sparse cache at a
 * temperature that it has no normaliser for; the message names the temperatures that
 * it can be used at. */
enum kd_status kd_soft_check(const struct kd_identity *identity,
                             const struct kd_soft_spec *spec) KD_CHECKED;

/* Where soft labels go. */
struct kd_soft {
    float *p;    /* [count][C] probabilities; under `bucket`, -1 for classes of the
                    bucket */
    float *tail; /* [count] under `bucket` the bucket's mass, 0 for rows that have
                    none; may be NULL under other rules */
    bool *found; /* [count] whether the row is in the cache, else its p is left as it
                    is; NULL: a missing row is KD_EDATA naming its id and view */
};

/* Soft labels of rows in any order, on the compute threads, each row verified. The
 * spec was checked. */
enum kd_status kd_soft_read(const struct kd_cache *cache,
                            const struct kd_soft_spec *spec, const uint64_t *ids,
                            const uint32_t *views, size_t count,
                            const struct kd_soft *soft) KD_CHECKED;

/* Soft labels of one decoded row into p [classes]; returns the bucket's mass (0 under
 * other rules). */
float kd_soft_row(const struct kd_identity *identity, const struct kd_soft_spec *spec,
                  const struct kd_row *row, float *p);

#endif
