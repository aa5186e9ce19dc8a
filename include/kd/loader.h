/* SPDX-License-Identifier: MIT */
/*
 * Loaders: the next batch is made ready while the present one is in use.
 *
 *     struct kd_loader_spec spec = {fill, run, {&a, &b}, true};
 *     KD_TRY(kd_loader_open(&spec, &loader));
 *     for each epoch:
 *         kd_loader_begin(loader, epoch, steps);
 *         for (step = 0; step < steps; step++)
 *             KD_TRY(kd_loader_next(loader, &slot));    (filled for that step)
 *     kd_loader_close(loader);
 *
 * There is one thread beside the compute threads and two slots in turn: what `fill`
 * puts into them is the same with and without the thread.
 */
#ifndef KD_LOADER_H
#define KD_LOADER_H

#include "kd/status.h"

#include <stdbool.h>
#include <stdint.h>

struct kd_loader_spec {
    /* Fills a slot for a step (from 0); steps of an epoch come in order. */
    enum kd_status (*fill)(void *context, void *slot, uint64_t epoch, uint64_t step);
    void *context;
    void *slot[2]; /* the caller's; not NULL */
    bool threaded; /* false: kd_loader_next does the work itself */
};

struct kd_loader;

/* KD_EIO where the system has no thread to give. */
enum kd_status kd_loader_open(const struct kd_loader_spec *spec,
                              struct kd_loader **loader) KD_CHECKED;

/* Waits for the thread to finish the batch in hand, if there is one. NULL is fine. */
void kd_loader_close(struct kd_loader *loader);

/* Begins an epoch of so many steps; what is left of the one before is dropped. */
void kd_loader_begin(struct kd_loader *loader, uint64_t epoch, uint64_t steps);

/* The slot of the next step, until the next call; a failure of `fill` for it, with its
 * message, after which the epoch is over. */
enum kd_status kd_loader_next(struct kd_loader *loader, void **slot) KD_CHECKED;

#endif
