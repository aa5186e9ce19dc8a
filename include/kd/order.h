/* SPDX-License-Identifier: MIT */
/*
 * Orders: which samples an epoch shows, and when.
 *
 * Samples are positions in the training data, from 0. Those that are held out are in
 * no order. An order is a function of (seed, epoch) and of the settings; every sample
 * that is not held out is in it once.
 */
#ifndef KD_ORDER_H
#define KD_ORDER_H

#include "kd/dataset.h"
#include "kd/recipe.h"
#include "kd/status.h"
#include "kd/view.h"

#include <stdint.h>

struct kd_order {
    uint64_t seed;
    int shuffle;            /* enum kd_shuffle */
    uint32_t block, window; /* samples, blocks */
    uint32_t count;         /* samples of an epoch */
    uint32_t *kept;         /* [count] them, ascending; NULL: 0 to count-1 */
    uint32_t *held;         /* [num_held] the others, ascending */
    uint32_t num_held;
    uint32_t *at;     /* [count] the epoch's order */
    uint32_t *blocks; /* [num_blocks] block: the epoch's order of them */
    uint32_t num_blocks;
    uint32_t last_at; /* where the last block of the data is in it */
};

/* Takes the settings of a recipe for the ids first_id to first_id+samples-1; on failure
 * too it is to be cleared. KD_EUSAGE where the holdout leaves nothing to train on, or
 * nothing to judge by. */
enum kd_status kd_order_init(struct kd_order *order, const struct kd_recipe *recipe,
                             uint64_t first_id, uint64_t samples) KD_CHECKED;
void kd_order_clear(struct kd_order *order);

/* Settles views (kd/view.h) of the data that the order is of: what is held out must not
 * be seen in mixtures either. Where the rest is in one piece, that is what partners are
 * taken from, unless the views say whence; KD_EUSAGE where what is held out might be.
 */
enum kd_status kd_order_settle_views(const struct kd_order *order,
                                     const struct kd_dataset_facts *data,
                                     struct kd_view_spec *views) KD_CHECKED;

/* Draws the order of an epoch (from 1) into order->at. */
void kd_order_draw(struct kd_order *order, uint64_t epoch);

/* Where window `n` begins in order->at: `count` behind the last. Of a full shuffle
 * there is one window. */
uint32_t kd_order_window(const struct kd_order *order, uint32_t n);

/* The window that order->at[at] is in. */
uint32_t kd_order_window_of(const struct kd_order *order, uint32_t at);

/* What is called with the positions begin to end-1 of a block. */
typedef void kd_order_call(void *context, uint32_t begin, uint32_t end);

/* Calls `call` for each block of a window; of a full shuffle there are none. */
void kd_order_each_block(const struct kd_order *order, uint32_t window,
                         kd_order_call *call, void *context);

/* An epoch's samples are read in order, so many at a time. Before order->at[begin] to
 * [end-1] are: `call` for the blocks that are wanted soon, those of the window behind
 * one that is come to, and of the first. After: for those that were read to their end.
 */
void kd_order_coming(const struct kd_order *order, uint32_t begin, uint32_t end,
                     kd_order_call *call, void *context);
void kd_order_passed(const struct kd_order *order, uint32_t begin, uint32_t end,
                     kd_order_call *call, void *context);

#endif
