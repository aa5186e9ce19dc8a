/* SPDX-License-Identifier: MIT */
/*
 * Label sources: soft labels for the samples of a batch, from a cache.
 *
 *     struct kd_labels *labels = NULL;
 *     KD_TRY(kd_labels_open("soft-labels", &want, &labels));
 *     KD_TRY(kd_labels_read(labels, batch.id, batch.view, batch.size, soft));
 *     kd_labels_close(labels);
 *
 * Opening refuses a cache that does not belong to the student's data: another dataset,
 * class map or temperature, samples that it lacks; the message says what differs.
 */
#ifndef KD_LABELS_H
#define KD_LABELS_H

#include "kd/cache.h"
#include "kd/dataset.h"
#include "kd/loss.h"
#include "kd/status.h"
#include "kd/view.h"

#include <stdbool.h>

struct kd_labels;

/* What the student needs. */
struct kd_labels_want {
    const struct kd_dataset_facts *data;
    double temperature;
    bool logits;     /* for an mse loss: logits instead of probabilities */
    bool clean_view; /* the clean view's labels for every view */
};

enum kd_status kd_labels_open(const char *where, const struct kd_labels_want *want,
                              struct kd_labels **labels) KD_CHECKED;
void kd_labels_close(struct kd_labels *labels); /* NULL is fine */

const struct kd_identity *kd_labels_identity(const struct kd_labels *labels);

/* The view that epoch `epoch` (from 1) trains on, so that teacher and student see the
 * same pixels: the cache's views in turn. */
uint32_t kd_labels_view(const struct kd_labels *labels, uint64_t epoch);

/* soft [count][classes]: probabilities at the temperature (or logits) of each id and
 * view. */
enum kd_status kd_labels_read(const struct kd_labels *labels, const uint64_t *ids,
                              const uint32_t *views, size_t count,
                              float *soft) KD_CHECKED;

#endif
