/* SPDX-License-Identifier: MIT */
/* Some samples of a dataset, batch by batch. */
#include "kd/samples.h"

static void name_samples(struct kd_batch *b, const struct kd_samples *samples,
                         uint64_t from)
{
    const uint64_t left = samples->count - from;

    b->size = left < b->capacity ? (size_t)left : b->capacity;
    for (size_t i = 0; i < b->size; i++) {
        b->id[i] =
            samples->first + (samples->at != NULL ? samples->at[from + i] : from + i);
        b->view[i] = 0;
    }
}

enum kd_status kd_samples_each(const struct kd_samples *samples,
                               const struct kd_normalize *normalize, size_t capacity,
                               kd_samples_call *call, void *context)
{
    static const struct kd_view_spec clean = {0};
    enum kd_status status = KD_EBUG;
    struct kd_batch b = {0};

    KD_TRY(kd_batch_init(&b, samples->data, capacity));
    for (uint64_t at = 0; at < samples->count; at += b.size) {
        name_samples(&b, samples, at);
        KD_TRY(kd_batch_fill(&b, samples->data, &clean, normalize));
        KD_TRY(call(context, &b));
    }
    status = KD_OK;
out:
    kd_batch_clear(&b);
    return status;
}
