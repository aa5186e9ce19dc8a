/* SPDX-License-Identifier: MIT */
/*
 * Training: a network from a recipe, with or without soft labels.
 *
 * A run lives in a directory:
 *
 *     recipe.txt      every value that decides the result, as it was resolved
 *     metrics.jsonl   one line an epoch; the same run gives the same bytes
 *     events.out.tfevents.kd   the same numbers for TensorBoard, unless the recipe says
 *                     no; where it has a time of day, this has the epoch
 *     run.jsonl       the run's diary: starts, interruptions, seconds an epoch
 *     checkpoint.h5   everything that is needed to go on, after each epoch, under a
 *                     checksum
 *     best.h5         the network after the best epoch so far, by the samples held out,
 *                     or by the test set if the recipe says so; where there are any
 *     stage-1.h5      the same of a stage, where the next one begins from its best
 *     epoch-010.h5    the network after that epoch, if the recipe keeps it; where an
 *                     average of the weights is made, it is the average in all of these
 *     monitor.h5      what the teacher saw of each sample, if the recipe is monitored
 *                     (kd/monitor.h), when the last epoch is done
 *     model.h5        the network, when the last epoch is done (kd/model.h)
 *
 * A run that was interrupted, in whatever way, goes on from its checkpoint and ends
 * with the bytes that it would have had; a finished one is left as it is. Epochs are
 * numbered from 1; epoch e trains on view e of each sample, or on the views that its
 * soft labels were cached for, in turn, in an order that is a function of seed and e.
 * The samples that do not fill the last batch are left out of that epoch.
 *
 * Of a recipe in stages (kd/recipe.h) the soft labels of all are checked before the
 * first step; those of later stages are opened when these begin, but for what comes
 * through a pipe, which is read to its end at once. The lines of metrics.jsonl then say
 * `stage`, from 1.
 *
 * While a step computes, another thread makes the next batch ready, unless there is
 * but one compute thread. Same recipe, same number of threads: same bits.
 */
#ifndef KD_TRAIN_H
#define KD_TRAIN_H

#include "kd/recipe.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stdio.h>

/* Trains in `directory`, which is made, or goes on there; *model is the path of the
 * network, on the heap. KD_EINTERRUPTED after a signal; KD_EUSAGE where the directory
 * holds a cache, or a run of another recipe, naming the first value that differs. A run
 * that is refused leaves no directory behind that was not there. */
enum kd_status kd_train(const struct kd_recipe *recipe, const char *directory,
                        char **model) KD_CHECKED;

/* Writes what a run would be, without beginning one: the network layer by layer, and
 * the time of an epoch, from a few steps that are thrown away. A table, or as JSON. */
enum kd_status kd_train_rehearse(const struct kd_recipe *recipe, bool json,
                                 FILE *to) KD_CHECKED;

#endif
