/* SPDX-License-Identifier: MIT */
/*
 * Label sources: soft labels for the samples of a batch, from a cache.
 *
 *     struct kd_labels *labels = NULL;
 *     KD_TRY(kd_labels_open("soft-labels", &want, &labels));
 *     struct kd_soft to = {.p = p, .tail = tail, .found = found};
 *     KD_TRY(kd_labels_read(labels, batch.id, batch.view, batch.size, &to));
 *     kd_labels_close(labels);
 *
 * Opening refuses a cache that does not belong to the student's data: another dataset,
 * class map, a temperature that it cannot be used at, samples that it lacks; the
 * message says what differs, and which setting would allow it.
 */
#ifndef KD_LABELS_H
#define KD_LABELS_H

#include "kd/cache.h"
#include "kd/dataset.h"
#include "kd/loss.h"
#include "kd/soft.h"
#include "kd/status.h"
#include "kd/view.h"

#include <stdbool.h>

struct kd_labels;

/* What the student needs. */
struct kd_labels_want {
    const struct kd_dataset_facts *data;
    double temperature;
    enum kd_tail tail;       /* what becomes of a sparse cache's tails */
    enum kd_missing missing; /* ERROR: every sample must be in the cache */
    bool logits;             /* for an mse loss: logits instead of probabilities */
    bool clean_view;         /* the clean view's labels for every view */
    bool unverified;         /* the checks of rows are not looked at */
};

enum kd_status kd_labels_open(const char *where, const struct kd_labels_want *want,
                              struct kd_labels **labels) KD_CHECKED;
void kd_labels_close(struct kd_labels *labels); /* NULL is fine */

const struct kd_identity *kd_labels_identity(const struct kd_labels *labels);

/* The view that epoch `epoch` (from 1) trains on, so that teacher and student see the
 * same pixels: the cache's views in turn. */
uint32_t kd_labels_view(const struct kd_labels *labels, uint64_t epoch);

/* Whether rows have buckets, so that what is read has tails. */
bool kd_labels_have_tails(const struct kd_labels *labels);

/* Soft labels at the temperature (or logits, in to->p) of each id and view; to->found
 * and to->tail as kd/soft.h says, NULL where they are not wanted. */
enum kd_status kd_labels_read(const struct kd_labels *labels, const uint64_t *ids,
                              const uint32_t *views, size_t count,
                              const struct kd_soft *to) KD_CHECKED;

/* The labels of ids begin to end-1 are wanted soon; no more for a while. Hints: the
 * latter counts only where the cache is too large to stay in memory. */
void kd_labels_ahead(const struct kd_labels *labels, uint64_t begin, uint64_t end);
void kd_labels_behind(const struct kd_labels *labels, uint64_t begin, uint64_t end);

#endif
