/* SPDX-License-Identifier: MIT */
/* Batches: samples read, drawn and normalised on the compute threads. */
#include "kd/batch.h"

#include "kd/memory.h"
#include "kd/thread.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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
    size_t size = kd_shape_size(facts->shape), scratch = 0;

    *batch = (struct kd_batch){.capacity = capacity};
    if (!kd_multiply(capacity, 2 * scratch_bytes(facts), &scratch)) {
        status = kd_fail(KD_EMEMORY, "%zu samples of %zu elements: too large a batch",
                         capacity, size);
        goto out;
    }
    KD_TRY(KD_NEW(batch->id, capacity));
    KD_TRY(KD_NEW(batch->view, capacity));
    KD_TRY(KD_NEW(batch->label, capacity));
    KD_TRY(KD_NEW(batch->partner_label, capacity));
    KD_TRY(KD_NEW(batch->ratio, capacity));
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
    free(batch->partner_label);
    free(batch->ratio);
    free(batch->input);
    free(batch->pixels);
    free(batch->partner);
    *batch = (struct kd_batch){.capacity = 0};
}

struct filling {
    struct kd_batch *batch;
    const struct kd_dataset *data;
    const struct kd_view_spec *spec;
    const struct kd_input *input;
    struct kd_shape wanted; /* as kd_input_shape says, and bytes */
    size_t bytes;
    uint8_t *to;
};

/* Reads and draws the partner of a view, and mixes it into `drawn`; `sample` is space
 * for it. */
static enum kd_status mix_in(const struct filling *filling, size_t i, uint8_t *sample,
                             uint8_t *drawn)
{
    const struct kd_dataset_facts *facts = kd_dataset_facts(filling->data);
    struct kd_batch *batch = filling->batch;
    const struct kd_view_mix mix =
        kd_view_partner(filling->spec, facts->shape, batch->id[i], batch->view[i]);
    uint8_t *partner = batch->partner + i * scratch_bytes(facts);

    if (mix.ratio >= 1)
        return KD_OK;
    enum kd_status status = kd_dataset_read_any(filling->data, mix.partner, sample,
                                                &batch->partner_label[i]);
    if (status != KD_OK)
        return status;
    batch->ratio[i] = mix.ratio;
    kd_view_draw(filling->spec, facts->shape, facts->type, mix.partner, batch->view[i],
                 sample, partner);
    kd_view_blend(&mix, facts->shape, facts->type, partner, drawn);
    return KD_OK;
}

/* From [channels][plane] to [plane][channels]. */
static void put_channels_last(struct kd_shape shape, size_t size, const uint8_t *from,
                              uint8_t *to)
{
    const size_t plane = shape.height * shape.width;

    for (size_t c = 0; c < shape.channels; c++)
        for (size_t i = 0; i < plane; i++)
            memcpy(to + (i * shape.channels + c) * size, from + (c * plane + i) * size,
                   size);
}

/* A drawn view as the network wants it. `work` has room for it twice. */
static enum kd_status present(const struct filling *filling, const uint8_t *drawn,
                              uint8_t *work, uint8_t *to)
{
    enum kd_status status = KD_EBUG;
    const struct kd_dataset_facts *facts = kd_dataset_facts(filling->data);
    const struct kd_input *input = filling->input;
    uint8_t *planes = input->channels_last ? work + filling->bytes : to;

    if (kd_resize_does(&input->resize)) {
        KD_TRY(kd_resize_apply(&input->resize, facts->type, facts->shape, drawn, work));
        drawn = work;
    }
    if (input->type == KD_F32)
        kd_normalize_apply(&input->normalize, filling->wanted, facts->type, drawn,
                           (float *)(void *)planes);
    else if (input->channels_last)
        planes = (uint8_t *)drawn;
    else
        memcpy(planes, drawn, filling->bytes);
    if (input->channels_last)
        put_channels_last(filling->wanted, kd_type_size(input->type), planes, to);
    status = KD_OK;
out:
    return status;
}

static enum kd_status fill_one(const struct filling *filling, size_t i, uint8_t *work)
{
    const struct kd_dataset_facts *facts = kd_dataset_facts(filling->data);
    struct kd_batch *batch = filling->batch;
    size_t bytes = scratch_bytes(facts);
    uint8_t *sample = batch->pixels + i * 2 * bytes, *drawn = sample;
    enum kd_status status =
        kd_dataset_read(filling->data, batch->id[i], sample, &batch->label[i]);

    batch->partner_label[i] = batch->label[i];
    batch->ratio[i] = 1;
    if (status == KD_OK && batch->view[i] > 0) {
        drawn = sample + bytes;
        kd_view_draw(filling->spec, facts->shape, facts->type, batch->id[i],
                     batch->view[i], sample, drawn);
        if (kd_view_mixes(filling->spec))
            status = mix_in(filling, i, sample, drawn);
    }
    if (status == KD_OK)
        status = present(filling, drawn, work, filling->to + i * filling->bytes);
    return status;
}

static enum kd_status fill_range(void *context, size_t begin, size_t end)
{
    const struct filling *filling = context;
    uint8_t *work = NULL;
    enum kd_status status = KD_NEW(work, 2 * filling->bytes);

    for (size_t i = begin; i < end && status == KD_OK; i++)
        status = fill_one(filling, i, work);
    free(work);
    return status;
}

/* What only views that mix need. */
static enum kd_status prepare_mixing(struct kd_batch *batch,
                                     const struct kd_dataset_facts *facts,
                                     const struct kd_view_spec *spec)
{
    if (!batch->beyond_slice && (spec->from < facts->first || spec->to > facts->end))
        return kd_fail(KD_EUSAGE,
                       "%s: leaves out samples that its views mix in (%" PRIu64
                       " to %" PRIu64 "): take those too, or views of this slice",
                       facts->name, spec->from, spec->to - 1);
    if (batch->partner != NULL)
        return KD_OK;
    return KD_NEW(batch->partner, batch->capacity * scratch_bytes(facts));
}

enum kd_status kd_input_shape(const struct kd_input *input, struct kd_shape shape,
                              struct kd_shape *wanted, size_t *bytes)
{
    enum kd_status status = kd_resize_shape(&input->resize, shape, wanted);

    if (status != KD_OK)
        return status;
    if (!kd_multiply(wanted->height * wanted->width, wanted->channels, bytes) ||
        !kd_multiply(*bytes, kd_type_size(input->type), bytes))
        return kd_fail(KD_EMEMORY, "samples of %zu x %zu x %zu are too large",
                       wanted->channels, wanted->height, wanted->width);
    return KD_OK;
}

enum kd_status kd_batch_fill_as(struct kd_batch *batch, const struct kd_dataset *data,
                                const struct kd_view_spec *spec,
                                const struct kd_input *input, void *to)
{
    enum kd_status status = KD_EBUG;
    const struct kd_dataset_facts *facts = kd_dataset_facts(data);
    struct filling filling = {
        .batch = batch, .data = data, .spec = spec, .input = input, .to = to};

    KD_TRY(kd_view_check(spec, facts));
    KD_TRY(kd_input_shape(input, facts->shape, &filling.wanted, &filling.bytes));
    if (input->type == KD_U8 && facts->type != KD_U8)
        return kd_fail(KD_EDATA, "%s: its samples are %s, which are not made uint8",
                       facts->name, kd_type_name(facts->type));
    if (batch->size > batch->capacity)
        return kd_fail(KD_EBUG, "a batch of %zu samples has room for %zu", batch->size,
                       batch->capacity);
    if (kd_view_mixes(spec))
        KD_TRY(prepare_mixing(batch, facts, spec));
    KD_TRY(kd_parallel(batch->size, 8, fill_range, &filling));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_batch_fill(struct kd_batch *batch, const struct kd_dataset *data,
                             const struct kd_view_spec *spec,
                             const struct kd_normalize *normalize)
{
    enum kd_status status = KD_EBUG;
    const size_t sample = kd_shape_size(kd_dataset_facts(data)->shape);
    struct kd_input input = {.type = KD_F32};
    size_t elements = 0;

    if (normalize != NULL)
        input.normalize = *normalize;
    if (batch->input == NULL) {
        if (!kd_multiply(batch->capacity, sample, &elements))
            return kd_fail(KD_EMEMORY, "%zu samples of %zu elements: too large a batch",
                           batch->capacity, sample);
        KD_TRY(KD_NEW(batch->input, elements));
    }
    KD_TRY(kd_batch_fill_as(batch, data, spec, &input, batch->input));
    status = KD_OK;
out:
    return status;
}
