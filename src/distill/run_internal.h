/* SPDX-License-Identifier: MIT */
/*
 * A training run: what the loop, its checkpoints, its measurements and its diary
 * share.
 */
#ifndef KD_RUN_INTERNAL_H
#define KD_RUN_INTERNAL_H

#include "kd/batch.h"
#include "kd/dataset.h"
#include "kd/labels.h"
#include "kd/model.h"
#include "kd/optimizer.h"
#include "kd/recipe.h"

#include <stdio.h>

struct kd_run {
    const struct kd_recipe *recipe;
    const char *directory;
    char *text; /* kd_recipe_text: what decides the bits */

    struct kd_dataset *data, *test; /* test: NULL if there is none */
    struct kd_labels *labels;       /* NULL if there are none */
    struct kd_view_spec views;
    struct kd_normalize normalize;
    struct kd_batch batch;

    struct kd_network *net;
    struct kd_network *measured; /* the same for inference; NULL without test */
    struct kd_batch test_batch;
    struct kd_optimizer *optimizer;
    uint32_t *order; /* [samples] of the epoch */
    float *logits;   /* [batch][classes] */
    float *gradient; /* [batch][classes] */
    float *soft;     /* [batch][classes], NULL without labels */

    uint64_t samples, steps; /* of an epoch */
    uint64_t epoch;          /* finished */
    char *metrics;           /* metrics.jsonl so far */
    size_t metrics_size;
};

/* What was measured of an epoch. */
struct kd_epoch {
    struct kd_loss_sums sums;
    double lr; /* of its last step */
    double seconds;
    uint64_t tested; /* samples; 0: not tested */
    double test_accuracy, test_nll;
};

/* -- run.c ------------------------------------------------------------------ */

/* Opens what run->recipe names, checks that it fits together, and builds the networks
 * with their first weights. kd_run_close frees all of it, also of a run whose opening
 * failed. */
enum kd_status kd_run_open(struct kd_run *run) KD_CHECKED;
void kd_run_close(struct kd_run *run);

/* -- checkpoint.c ----------------------------------------------------------- */

/* Writes DIRECTORY/checkpoint.h5 for run->epoch. */
enum kd_status kd_checkpoint_save(const struct kd_run *run) KD_CHECKED;

/* Goes on from a checkpoint if there is one, else leaves the run at epoch 0. */
enum kd_status kd_checkpoint_load(struct kd_run *run) KD_CHECKED;

/* -- validate.c ------------------------------------------------------------- */

/* Accuracy and mean negative log-likelihood (at temperature 1) of run->net on the
 * test set. */
enum kd_status kd_run_validate(struct kd_run *run, struct kd_epoch *epoch) KD_CHECKED;

/* -- diary.c ---------------------------------------------------------------- */

/* Adds the epoch's line to run->metrics and writes metrics.jsonl. */
enum kd_status kd_diary_epoch(struct kd_run *run,
                              const struct kd_epoch *epoch) KD_CHECKED;

/* Writes metrics.jsonl as it was at the checkpoint, and recipe.txt. */
enum kd_status kd_diary_begin(const struct kd_run *run) KD_CHECKED;

/* Adds an event to run.jsonl. */
enum kd_status kd_diary_event(const struct kd_run *run, const char *event,
                              double seconds) KD_CHECKED;

#endif
