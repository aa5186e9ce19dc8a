/* SPDX-License-Identifier: MIT */
/*
 * Samples: some of a dataset, batch by batch, clean and in order, to measure on.
 *
 *     struct kd_samples held = {data, facts->first, order.num_held, order.held};
 *     KD_TRY(kd_samples_each(&held, &normalize, 256, measure_batch, run));
 */
#ifndef KD_SAMPLES_H
#define KD_SAMPLES_H

#include "kd/batch.h"
#include "kd/dataset.h"
#include "kd/status.h"

#include <stddef.h>
#include <stdint.h>

/* `count` ids of a dataset from `first` on, or at the positions `at` behind it. */
struct kd_samples {
    const struct kd_dataset *data;
    uint64_t first, count;
    const uint32_t *at; /* [count] or NULL */
};

/* What is called with each batch of view 0, the last one maybe smaller. */
typedef enum kd_status kd_samples_call(void *context, const struct kd_batch *batch);

enum kd_status kd_samples_each(const struct kd_samples *samples,
                               const struct kd_normalize *normalize, size_t capacity,
                               kd_samples_call *call, void *context) KD_CHECKED;

#endif
