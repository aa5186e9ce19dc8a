/* SPDX-License-Identifier: MIT */
/*
 * Training: a network from a recipe, with or without soft labels.
 *
 * A run lives in a directory:
 *
 *     recipe.txt      every value that decides the result, as it was resolved
 *     metrics.jsonl   one line an epoch; the same run gives the same bytes
 *     run.jsonl       the run's diary: starts, interruptions, seconds an epoch
 *     checkpoint.h5   everything that is needed to go on, after each epoch
 *     model.h5        the network, when the last epoch is done (kd/model.h)
 *
 * A run that was interrupted, in whatever way, goes on from its checkpoint and ends
 * with the bytes that it would have had; a finished one is left as it is. Epochs are
 * numbered from 1; epoch e trains on view e of each sample, or on the views that its
 * soft labels were cached for, in turn, in an order that is a function of seed and e.
 * The samples that do not fill the last batch are left out of that epoch.
 *
 * Same recipe, same number of threads: same bits.
 */
#ifndef KD_TRAIN_H
#define KD_TRAIN_H

#include "kd/recipe.h"
#include "kd/status.h"

/* Trains in `directory`, which is made, or goes on there; *model is the path of the
 * network, on the heap. KD_EINTERRUPTED after a signal; KD_EUSAGE where the directory
 * holds a run of another recipe, naming the first value that differs. */
enum kd_status kd_train(const struct kd_recipe *recipe, const char *directory,
                        char **model) KD_CHECKED;

#endif
