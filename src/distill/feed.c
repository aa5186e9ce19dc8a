/* SPDX-License-Identifier: MIT */
/* What a step is fed: the samples of a batch and their soft labels. */
#include "distill/run_internal.h"

#include "kd/memory.h"
#include "kd/random.h"

#include <stdlib.h>

enum kd_status kd_feed_init(struct kd_feed *feed, const struct kd_run *run)
{
    enum kd_status status = KD_EBUG;
    const size_t batch = (size_t)run->recipe->batch;

    KD_TRY(kd_batch_init(&feed->batch, run->data, batch));
    if (run->labels != NULL) {
        KD_TRY(KD_NEW(feed->soft.p, batch * run->classes));
        if (kd_labels_have_tails(run->labels))
            KD_TRY(KD_NEW(feed->soft.tail, batch));
        if (run->stage->loss.missing != KD_MISSING_ERROR)
            KD_TRY(KD_NEW(feed->soft.found, batch));
    }
    status = KD_OK;
out:
    return status;
}

void kd_feed_clear(struct kd_feed *feed)
{
    kd_batch_clear(&feed->batch);
    free(feed->soft.p);
    free(feed->soft.tail);
    free(feed->soft.found);
    feed->soft = (struct kd_soft){0};
}

/* -- what the cache is told ---------------------------------------------------- */

static void want_block(void *context, uint32_t begin, uint32_t end)
{
    const struct kd_run *run = context;
    const uint64_t first = kd_dataset_facts(run->data)->first;

    kd_labels_ahead(run->labels, first + begin, first + end);
}

static void drop_block(void *context, uint32_t begin, uint32_t end)
{
    const struct kd_run *run = context;
    const uint64_t first = kd_dataset_facts(run->data)->first;

    kd_labels_behind(run->labels, first + begin, first + end);
}

/* -- a batch ----------------------------------------------------------------- */

static uint32_t choose_view(const struct kd_run *run, uint64_t epoch)
{
    if (run->labels != NULL && run->stage->labels_view == KD_LABELS_SAME_VIEW)
        return kd_labels_view(run->labels, epoch);
    return (uint32_t)epoch;
}

/* Whose turn it is, of several caches. */
static size_t choose_cache(const struct kd_run *run, uint64_t epoch, uint64_t step)
{
    const size_t count = kd_labels_count(run->labels);

    if (run->stage->labels_order == KD_LABELS_SEQUENTIAL)
        return (size_t)(((epoch - 1) * run->steps + step) % count);
    struct kd_random r =
        kd_random_at(run->recipe->seed, KD_RANDOM_TURN, epoch, (uint32_t)step);
    return kd_random_below(&r, (uint32_t)count);
}

static enum kd_status read_labels(const struct kd_run *run, const struct kd_feed *feed,
                                  size_t cache)
{
    const struct kd_batch *b = &feed->batch;
    const bool mixes = kd_view_mixes(&run->views);
    const struct kd_labels_rows rows = {.count = b->size,
                                        .id = b->id,
                                        .view = b->view,
                                        .label = b->label,
                                        .partner = mixes ? b->partner_label : NULL,
                                        .ratio = mixes ? b->ratio : NULL,
                                        .scale = run->scale,
                                        .cache = cache};

    return kd_labels_read(run->labels, &rows, &feed->soft);
}

enum kd_status kd_feed_fill(void *context, void *slot, uint64_t epoch, uint64_t step)
{
    enum kd_status status = KD_EBUG;
    struct kd_run *run = context;
    struct kd_feed *feed = slot;
    struct kd_batch *b = &feed->batch;
    const uint64_t first = kd_dataset_facts(run->data)->first;
    const uint32_t view = choose_view(run, epoch);
    const uint32_t begin = (uint32_t)(step * b->capacity);
    const uint32_t end = begin + (uint32_t)b->capacity;

    b->size = b->capacity;
    for (size_t i = 0; i < b->size; i++) {
        b->id[i] = first + run->order.at[begin + i];
        b->view[i] = view;
    }
    if (run->labels != NULL && run->order.shuffle == KD_SHUFFLE_BLOCK)
        kd_order_coming(&run->order, begin, end, want_block, run);
    KD_TRY(kd_batch_fill(b, run->data, &run->views, &run->normalize));
    if (run->labels != NULL)
        KD_TRY(read_labels(run, feed, choose_cache(run, epoch, step)));
    if (run->labels != NULL && run->order.shuffle == KD_SHUFFLE_BLOCK)
        kd_order_passed(&run->order, begin, end, drop_block, run);
    status = KD_OK;
out:
    return status;
}
