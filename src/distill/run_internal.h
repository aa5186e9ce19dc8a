/* SPDX-License-Identifier: MIT */
/*
 * A training run: what the loop, its loader, its checkpoints, its measurements and its
 * diary share.
 */
#ifndef KD_RUN_INTERNAL_H
#define KD_RUN_INTERNAL_H

#include "kd/batch.h"
#include "kd/dataset.h"
#include "kd/h5.h"
#include "kd/json.h"
#include "kd/labels.h"
#include "kd/loader.h"
#include "kd/model.h"
#include "kd/optimizer.h"
#include "kd/order.h"
#include "kd/recipe.h"

#include <stdio.h>

/* What a step needs of the data: made ready by the loader. */
struct kd_feed {
    struct kd_batch batch;
    struct kd_soft soft; /* p NULL without labels; found NULL where none may lack */
};

/* How good the network was, by the samples that it is judged by. */
struct kd_judgement {
    uint64_t epoch; /* 0: not yet */
    double accuracy, nll;
};

struct kd_run {
    const struct kd_recipe *recipe;
    const char *directory;
    char *text; /* kd_recipe_text: what decides the bits */

    struct kd_dataset *data, *test; /* test: NULL if there is none */
    size_t classes;
    struct kd_digest class_map;
    struct kd_model start; /* whose weights it begins with, if recipe->start is there */
    char *start_path;      /* its file */
    struct kd_normalize normalize;
    struct kd_order order;
    struct kd_feed feed[2];
    struct kd_loader *loader; /* NULL until the first epoch */

    /* of the stage that is trained */
    const struct kd_stage *stage; /* NULL before the first epoch */
    struct kd_labels *labels;     /* NULL if there are none */
    struct kd_view_spec views;

    /* of each stage */
    struct kd_labels *opened[KD_MAX_STAGES]; /* for later; NULL: not open */
    char *label_digests[KD_MAX_STAGES];      /* as kd_recipe_text has them */

    /* of the epoch that is trained */
    struct kd_count count;
    struct kd_loss loss;
    double scale;

    struct kd_network *net;
    struct kd_network *measured; /* the same for inference; NULL: nothing is measured */
    struct kd_optimizer *optimizer;
    float **average; /* [parameters] of the weights, in their layout; NULL: none */
    float *logits;   /* [batch][classes] */
    float *gradient; /* [batch][classes] */
    struct kd_watch *watch; /* NULL: the recipe monitors nothing */

    uint64_t steps; /* of an epoch */
    uint64_t epoch; /* finished */
    struct kd_judgement best;
    struct kd_judgement stage_best; /* of the stage, where the next begins from it */
    char *metrics;                  /* metrics.jsonl so far */
    size_t metrics_size;
};

/* What was measured on a set of samples. */
struct kd_measure {
    uint64_t samples; /* labelled ones; 0: not measured */
    double accuracy, nll;
};

/* What was measured of an epoch. */
struct kd_epoch {
    struct kd_loss_sums sums;
    double lr; /* of its last step */
    double seconds;
    struct kd_measure holdout, test;
};

/* -- run.c ------------------------------------------------------------------ */

/* Opens what run->recipe names, checks that it fits together, and builds the networks
 * with their first weights. kd_run_close frees all of it, also of a run whose opening
 * failed. */
enum kd_status kd_run_open(struct kd_run *run) KD_CHECKED;
void kd_run_close(struct kd_run *run);

/* Whether the last epoch is done, or so many went by without a better one. */
bool kd_run_finished(const struct kd_run *run);

/* What made the files of a run, for people; on the heap, NULL with a message. */
char *kd_run_history(const struct kd_run *run) KD_CHECKED;

/* Makes an optimiser that has no memory, in place of the one that there may be. */
enum kd_status kd_run_renew_optimizer(struct kd_run *run) KD_CHECKED;

/* -- stages.c --------------------------------------------------------------- */

/* Checks the soft labels and views of every stage before the first step; fills in
 * `classes`, `class_map` and the digests. Those that can be opened again when their
 * stage begins are closed. */
enum kd_status kd_stages_check(struct kd_run *run) KD_CHECKED;
void kd_stages_close(struct kd_run *run);

/* Makes the run ready for the epoch behind run->epoch: enters its stage if it is
 * another. The loader must have no batch in hand. */
enum kd_status kd_stages_begin_epoch(struct kd_run *run) KD_CHECKED;

/* -- feed.c ----------------------------------------------------------------- */

/* For batches of the stage that is trained. */
enum kd_status kd_feed_init(struct kd_feed *feed, const struct kd_run *run) KD_CHECKED;
void kd_feed_clear(struct kd_feed *feed);

/* Reads, draws and normalises the samples of a step, and their soft labels: a loader's
 * `fill`, of a run and a feed. */
enum kd_status kd_feed_fill(void *run, void *feed, uint64_t epoch,
                            uint64_t step) KD_CHECKED;

/* -- step.c ----------------------------------------------------------------- */

/* Trains on one batch. */
enum kd_status kd_run_step(struct kd_run *run, const struct kd_feed *feed,
                           uint64_t step, struct kd_epoch *epoch) KD_CHECKED;

/* -- keep.c ----------------------------------------------------------------- */

/* Saves the network as it is, or its average, in the run's directory. */
enum kd_status kd_keep_network(struct kd_run *run, const char *name) KD_CHECKED;

/* Keeps the network of the epoch that has passed if it is the best so far, of the run
 * or of a stage whose best the next one begins from, or one of the footsteps that the
 * recipe asks for. */
enum kd_status kd_keep_epoch(struct kd_run *run,
                             const struct kd_epoch *epoch) KD_CHECKED;

/* Puts the weights of the best epoch of the stage before in the network's place, and
 * in its average's. */
enum kd_status kd_keep_start(struct kd_run *run, size_t index) KD_CHECKED;

/* -- monitor_train.c --------------------------------------------------------- */

/* Makes run->watch if a stage of the recipe is monitored; run->text is there. In all
 * that follows a run that is not monitored is left alone. */
enum kd_status kd_watch_open(struct kd_run *run) KD_CHECKED;
void kd_watch_close(struct kd_watch *watch);

/* Before the first epoch of a stage, before and after each. */
void kd_watch_begin_stage(struct kd_run *run);
void kd_watch_begin_epoch(struct kd_run *run);
void kd_watch_end_epoch(struct kd_run *run);

/* Whether the stage of run->epoch is over, before its last epoch, as nothing more is
 * gained in it. */
bool kd_watch_stopped(const struct kd_run *run);

/* Compares run->logits with the targets of a step, and adds what comes of it. */
enum kd_status kd_watch_step(struct kd_run *run, const struct kd_feed *feed,
                             struct kd_targets *targets) KD_CHECKED;

/* Adds the epoch's figures to its line. */
void kd_watch_json(const struct kd_run *run, struct kd_json *json);

/* To a checkpoint, and from it; to monitor.h5. */
enum kd_status kd_watch_checkpoint(const struct kd_run *run,
                                   struct kd_h5 *file) KD_CHECKED;
enum kd_status kd_watch_go_on(struct kd_run *run, struct kd_h5 *file) KD_CHECKED;
enum kd_status kd_watch_save(const struct kd_run *run) KD_CHECKED;

/* -- average.c -------------------------------------------------------------- */

/* Begins an average of the weights and buffers as they are, if the recipe asks for
 * one. */
enum kd_status kd_average_init(struct kd_run *run) KD_CHECKED;
void kd_average_clear(struct kd_run *run);

/* Makes it the weights and buffers as they are now; nothing where there is none. */
void kd_average_restart(struct kd_run *run);

/* average = decay * average + (1 - decay) * value */
void kd_average_step(struct kd_run *run);

/* Puts the average in the network's place, or back; nothing where there is none. */
void kd_average_swap(struct kd_run *run);

/* -- checkpoint.c ----------------------------------------------------------- */

/* What has diverged is nothing to go on from: KD_EDATA for a weight that is not finite.
 */
enum kd_status kd_checkpoint_check(const struct kd_run *run) KD_CHECKED;

/* Writes DIRECTORY/checkpoint.h5 for run->epoch. */
enum kd_status kd_checkpoint_save(const struct kd_run *run) KD_CHECKED;

/* Goes on from a checkpoint if there is one, else leaves the run at epoch 0. */
enum kd_status kd_checkpoint_load(struct kd_run *run) KD_CHECKED;

/* -- validate.c ------------------------------------------------------------- */

/* Measures the network (its average, if there is one) on the samples held out and on
 * the test set. */
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
