/* SPDX-License-Identifier: MIT */
/* Orders of samples: of all, or block by block. */
#include "kd/order.h"

#include "kd/memory.h"
#include "kd/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -- what is held out -------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* Splits 0 .. samples-1: marks what is in `held` (ascending), keeps the rest. */
static enum kd_status keep_others(struct kd_order *o, uint32_t samples)
{
    const enum kd_status status = KD_NEW(o->kept, samples);
    uint32_t next = 0;

    if (status != KD_OK)
        return status;
    o->count = 0;
    for (uint32_t i = 0; i < samples; i++) {
        if (next < o->num_held && o->held[next] == i)
            next++;
        else
            o->kept[o->count++] = i;
    }
    return KD_OK;
}

/* Epoch 0 of the shuffle says which: there is no such epoch. */
static enum kd_status hold_share(struct kd_order *o, double share, uint32_t samples)
{
    enum kd_status status = KD_EBUG;

    o->num_held = (uint32_t)floor(share * samples + 0.5);
    if (o->num_held == 0 || o->num_held == samples)
        return kd_fail(KD_EUSAGE,
                       "holdout: %g of %lu samples leaves nothing to judge by, or "
                       "nothing to train on",
                       share, (unsigned long)samples);
    KD_TRY(KD_NEW(o->held, samples));
    kd_random_permutation(o->seed, 0, o->held, samples);
    qsort(o->held, o->num_held, sizeof *o->held, compare);
    KD_TRY(keep_others(o, samples));
    status = KD_OK;
out:
    return status;
}

static enum kd_status hold_ids(struct kd_order *o, const struct kd_holdout *h,
                               uint64_t first_id, uint32_t samples)
{
    enum kd_status status = KD_EBUG;

    if (h->first < first_id || h->end > first_id + samples ||
        h->end - h->first == samples)
        return kd_fail(
            KD_EUSAGE,
            "holdout: ids %llu to %llu are not a part of the training data's "
            "%llu to %llu",
            (unsigned long long)h->first, (unsigned long long)h->end - 1,
            (unsigned long long)first_id, (unsigned long long)first_id + samples - 1);
    o->num_held = (uint32_t)(h->end - h->first);
    KD_TRY(KD_NEW(o->held, o->num_held));
    for (uint32_t i = 0; i < o->num_held; i++)
        o->held[i] = (uint32_t)(h->first - first_id) + i;
    KD_TRY(keep_others(o, samples));
    status = KD_OK;
out:
    return status;
}

/* -- opening ----------------------------------------------------------------- */

enum kd_status kd_order_init(struct kd_order *order, const struct kd_recipe *recipe,
                             uint64_t first_id, uint64_t samples)
{
    enum kd_status status = KD_EBUG;
    const struct kd_holdout *h = &recipe->holdout;

    *order = (struct kd_order){.seed = recipe->seed,
                               .shuffle = recipe->shuffle,
                               .block = (uint32_t)recipe->shuffle_block,
                               .window = (uint32_t)recipe->shuffle_window,
                               .count = (uint32_t)samples};
    if (samples > UINT32_MAX)
        return kd_fail(KD_EDATA, "%llu samples: more than 2^32 - 1 are not supported",
                       (unsigned long long)samples);
    if (h->share > 0)
        KD_TRY(hold_share(order, h->share, (uint32_t)samples));
    else if (h->end > 0)
        KD_TRY(hold_ids(order, h, first_id, (uint32_t)samples));
    KD_TRY(KD_NEW(order->at, order->count));
    if (order->shuffle == KD_SHUFFLE_BLOCK) {
        order->num_blocks = (order->count - 1) / order->block + 1;
        KD_TRY(KD_NEW(order->blocks, order->num_blocks));
    }
    status = KD_OK;
out:
    return status;
}

void kd_order_clear(struct kd_order *order)
{
    free(order->kept);
    free(order->held);
    free(order->at);
    free(order->blocks);
    *order = (struct kd_order){0};
}

enum kd_status kd_order_settle_views(const struct kd_order *order,
                                     const struct kd_dataset_facts *data,
                                     struct kd_view_spec *views)
{
    const struct kd_order *o = order;

    if (kd_view_mixes(views) && views->to == 0 && o->kept != NULL &&
        o->kept[o->count - 1] - o->kept[0] + 1 == o->count) {
        views->from = data->first + o->kept[0];
        views->to = data->first + o->kept[o->count - 1] + 1;
    }
    const enum kd_status status = kd_view_settle(views, data);
    for (uint32_t i = 0; status == KD_OK && kd_view_mixes(views) && i < o->num_held;
         i++)
        if (data->first + o->held[i] >= views->from &&
            data->first + o->held[i] < views->to)
            return kd_fail(KD_EUSAGE,
                           "augment: sample %llu is held out, but might be mixed into "
                           "others: hold out the first or last ids (--holdout A:B)",
                           (unsigned long long)data->first + o->held[i]);
    return status;
}

/* -- drawing ----------------------------------------------------------------- */

/* Block `index` of the data holds those begin to end-1 of the samples kept. */
static void block_range(const struct kd_order *o, uint32_t index, uint32_t *begin,
                        uint32_t *end)
{
    *begin = index * o->block;
    *end = o->count - *begin < o->block ? o->count : *begin + o->block;
}

/* All blocks are full but for the data's last, wherever it is in the order. */
uint32_t kd_order_window(const struct kd_order *order, uint32_t n)
{
    const uint64_t blocks = (uint64_t)n * order->window;
    const uint64_t full = (uint64_t)order->num_blocks * order->block;

    if (n == 0)
        return 0;
    if (order->shuffle == KD_SHUFFLE_FULL || blocks >= order->num_blocks)
        return order->count;
    return (uint32_t)(blocks * order->block -
                      (blocks > order->last_at ? full - order->count : 0));
}

uint32_t kd_order_window_of(const struct kd_order *order, uint32_t at)
{
    if (order->shuffle == KD_SHUFFLE_FULL)
        return 0;
    const uint32_t n = (uint32_t)(at / ((uint64_t)order->window * order->block));
    return kd_order_window(order, n + 1) <= at ? n + 1 : n;
}

static void shuffle(struct kd_random *r, uint32_t *values, uint32_t count)
{
    for (uint32_t i = count; i > 1; i--) {
        const uint32_t j = kd_random_below(r, i), last = values[i - 1];
        values[i - 1] = values[j];
        values[j] = last;
    }
}

/* Lays the blocks out in their order, then mixes each window. Stream 0 of the epoch
 * orders the blocks, stream n + 1 window n. */
static void draw_blocks(struct kd_order *o, uint64_t epoch)
{
    uint32_t filled = 0, start = 0, windows = 0;

    kd_random_permutation(o->seed, epoch, o->blocks, o->num_blocks);
    for (uint32_t i = 0; i < o->num_blocks; i++) {
        uint32_t begin, end;
        block_range(o, o->blocks[i], &begin, &end);
        if (o->blocks[i] + 1 == o->num_blocks)
            o->last_at = i;
        for (uint32_t k = begin; k < end; k++)
            o->at[filled++] = k;
        if ((i + 1) % o->window != 0 && i + 1 < o->num_blocks)
            continue;
        struct kd_random r = kd_random_at(o->seed, KD_RANDOM_SHUFFLE, epoch, ++windows);
        shuffle(&r, o->at + start, filled - start);
        start = filled;
    }
}

void kd_order_draw(struct kd_order *order, uint64_t epoch)
{
    if (order->shuffle == KD_SHUFFLE_BLOCK)
        draw_blocks(order, epoch);
    else
        kd_random_permutation(order->seed, epoch, order->at, order->count);
    for (uint32_t i = 0; order->kept != NULL && i < order->count; i++)
        order->at[i] = order->kept[order->at[i]];
}

void kd_order_each_block(const struct kd_order *order, uint32_t window,
                         kd_order_call *call, void *context)
{
    const uint64_t from = (uint64_t)window * order->window;

    for (uint64_t i = from; i < from + order->window && i < order->num_blocks; i++) {
        uint32_t begin, end;
        block_range(order, order->blocks[i], &begin, &end);
        if (order->kept != NULL) {
            begin = order->kept[begin];
            end = order->kept[end - 1] + 1;
        }
        call(context, begin, end);
    }
}

void kd_order_coming(const struct kd_order *order, uint32_t begin, uint32_t end,
                     kd_order_call *call, void *context)
{
    const uint32_t last = kd_order_window_of(order, end - 1);

    if (begin == 0)
        kd_order_each_block(order, 0, call, context);
    for (uint32_t n = kd_order_window_of(order, begin); n <= last; n++)
        if (kd_order_window(order, n) >= begin)
            kd_order_each_block(order, n + 1, call, context);
}

void kd_order_passed(const struct kd_order *order, uint32_t begin, uint32_t end,
                     kd_order_call *call, void *context)
{
    uint32_t n = kd_order_window_of(order, begin);

    for (; kd_order_window(order, n) < end; n++)
        if (kd_order_window(order, n + 1) <= end)
            kd_order_each_block(order, n, call, context);
}
