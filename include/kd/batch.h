/* SPDX-License-Identifier: MIT */
/*
 * Batches: samples drawn, normalised and laid out for a network.
 *
 *     struct kd_batch batch = {0};
 *     KD_TRY(kd_batch_init(&batch, data, 128));
 *     for (...) {
 *         batch.size = n;          (and batch.id, batch.view of 0 .. n-1)
 *         KD_TRY(kd_batch_fill(&batch, data, &spec, &normalize));
 *         ... batch.input, batch.label ...
 *     }
 *     kd_batch_clear(&batch);
 */
#ifndef KD_BATCH_H
#define KD_BATCH_H

#include "kd/dataset.h"
#include "kd/view.h"

struct kd_batch {
    size_t capacity;
    size_t size;     /* samples in it; set by the caller */
    uint64_t *id;    /* [capacity] set by the caller */
    uint32_t *view;  /* [capacity] set by the caller */
    int32_t *label;  /* [capacity] */
    float *input;    /* [capacity][channels][height][width] */
    uint8_t *pixels; /* private: scratch space */
};

enum kd_status kd_batch_init(struct kd_batch *batch, const struct kd_dataset *data,
                             size_t capacity) KD_CHECKED;
void kd_batch_clear(struct kd_batch *batch);

/* Reads, draws and normalises the samples named by id and view, on the compute
 * threads. What lies behind batch->size in `input` is left as it is. */
enum kd_status kd_batch_fill(struct kd_batch *batch, const struct kd_dataset *data,
                             const struct kd_view_spec *spec,
                             const struct kd_normalize *normalize) KD_CHECKED;

#endif
