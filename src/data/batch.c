/* SPDX-License-Identifier: MIT */
/* Batches: samples read, drawn and normalised on the compute threads. */
#include "kd/batch.h"

#include "kd/memory.h"
#include "kd/thread.h"

#include <stdlib.h>

/* Bytes of one sample, rounded up so that each of a batch is aligned. */
static size_t scratch_bytes(const struct kd_dataset_facts *facts)
{
    return (kd_shape_size(facts->shape) * kd_type_size(facts->type) + 63) / 64 * 64;
}

enum kd_status kd_batch_init(struct kd_batch *batch, const struct kd_dataset *data,
                             size_t capacity)
{
    enum kd_status status = KD_EBUG;
    const struct kd_dataset_facts *facts = kd_dataset_facts(data);
    size_t size = kd_shape_size(facts->shape), elements = 0, scratch = 0;

    *batch = (struct kd_batch){.capacity = capacity};
    if (!kd_multiply(capacity, size, &elements) ||
        !kd_multiply(capacity, 2 * scratch_bytes(facts), &scratch)) {
        status = kd_fail(KD_EMEMORY, "%zu samples of %zu elements: too large a batch",
                         capacity, size);
        goto out;
    }
    KD_TRY(KD_NEW(batch->id, capacity));
    KD_TRY(KD_NEW(batch->view, capacity));
    KD_TRY(KD_NEW(batch->label, capacity));
    KD_TRY(KD_NEW(batch->input, elements));
    KD_TRY(KD_NEW(batch->pixels, scratch));
    status = KD_OK;
out:
    if (status != KD_OK)
        kd_batch_clear(batch);
    return status;
}

void kd_batch_clear(struct kd_batch *batch)
{
    free(batch->id);
    free(batch->view);
    free(batch->label);
    free(batch->input);
    free(batch->pixels);
    *batch = (struct kd_batch){.capacity = 0};
}

struct filling {
    struct kd_batch *batch;
    const struct kd_dataset *data;
    const struct kd_view_spec *spec;
    const struct kd_normalize *normalize;
};

static enum kd_status fill_one(const struct filling *filling, size_t i)
{
    const struct kd_dataset_facts *facts = kd_dataset_facts(filling->data);
    struct kd_batch *batch = filling->batch;
    size_t bytes = scratch_bytes(facts);
    uint8_t *sample = batch->pixels + i * 2 * bytes, *drawn = sample;

    enum kd_status status =
        kd_dataset_read(filling->data, batch->id[i], sample, &batch->label[i]);
    if (status != KD_OK)
        return status;
    if (batch->view[i] > 0) {
        drawn = sample + bytes;
        kd_view_draw(filling->spec, facts->shape, facts->type, batch->id[i],
                     batch->view[i], sample, drawn);
    }
    kd_normalize_apply(filling->normalize, facts->shape, facts->type, drawn,
                       batch->input + i * kd_shape_size(facts->shape));
    return KD_OK;
}

static enum kd_status fill_range(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_OK;

    for (size_t i = begin; i < end && status == KD_OK; i++)
        status = fill_one(context, i);
    return status;
}

enum kd_status kd_batch_fill(struct kd_batch *batch, const struct kd_dataset *data,
                             const struct kd_view_spec *spec,
                             const struct kd_normalize *normalize)
{
    struct filling filling = {batch, data, spec, normalize};
    enum kd_status status = kd_view_check(spec, kd_dataset_facts(data)->shape);

    if (status != KD_OK)
        return status;
    if (batch->size > batch->capacity)
        return kd_fail(KD_EBUG, "a batch of %zu samples has room for %zu", batch->size,
                       batch->capacity);
    return kd_parallel(batch->size, 8, fill_range, &filling);
}
