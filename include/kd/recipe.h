/* SPDX-License-Identifier: MIT */
/*
 * Recipes: everything that says how a network is trained.
 *
 *     # recipe.yaml
 *     network: resnet8
 *     data: cifar100:train.bin
 *     test: cifar100:test.bin
 *     labels: soft-labels
 *     epochs: 30
 *     optimizer: {lr: 0.1, weight-decay: 5e-4}
 *     schedule: {kind: cosine, warmup: 1}
 *     loss: {hard: 0.1, soft: 0.9, temperature: 4}
 *
 * Every key is an option of kd-train too (`--lr 0.1`); `kd-train --help` lists them
 * with their defaults.
 *
 *     struct kd_recipe recipe;
 *     struct kd_option options[KD_RECIPE_OPTIONS];
 *     kd_recipe_init(&recipe);
 *     kd_recipe_options(&recipe, options);
 *     ... kd_program_parse with these options ...
 *     KD_TRY(kd_recipe_check(&recipe, &program));
 */
#ifndef KD_RECIPE_H
#define KD_RECIPE_H

#include "kd/loss.h"
#include "kd/network.h"
#include "kd/optimizer.h"
#include "kd/options.h"
#include "kd/schedule.h"
#include "kd/soft.h"
#include "kd/status.h"
#include "kd/view.h"
#include "kd/yaml.h"

#include <stdbool.h>
#include <stdint.h>

/* Which view's soft labels a student learns from. */
enum kd_labels_view { KD_LABELS_SAME_VIEW, KD_LABELS_CLEAN_VIEW };

/* The order of an epoch: any of all, or the blocks of consecutive ids in any order and
 * within a window of some blocks the samples in any order, so that a cache that is
 * larger than memory is read in large pieces. */
enum kd_shuffle { KD_SHUFFLE_FULL, KD_SHUFFLE_BLOCK };

enum kd_optimizer_kind { KD_SGD, KD_ADAM, KD_ADAMW };

/* By which samples the best epoch is chosen. */
enum kd_select { KD_SELECT_HOLDOUT, KD_SELECT_TEST };

/* The samples that are held out of the training data: a share of them, drawn by the
 * seed, or ids; none where both are 0. */
struct kd_holdout {
    double share;
    uint64_t first, end; /* ids first to end-1 */
};

struct kd_recipe {
    /* as parsed; strings and trees are the program's */
    struct kd_yaml *network;
    char *data;      /* DATASET to train on */
    char *test;      /* DATASET to measure on after each epoch, or NULL */
    char *labels;    /* CACHE, or NULL */
    int labels_view; /* enum kd_labels_view */
    char *augment;   /* as kd_view_parse; NULL: the cache's, or none */
    int tail;        /* enum kd_tail: what becomes of a sparse cache's tails */
    bool verify;     /* each row of the soft labels when it is read */
    uint64_t epochs, batch, seed;
    int shuffle;                            /* enum kd_shuffle */
    uint64_t shuffle_block, shuffle_window; /* samples, blocks */
    char *hold_out;                         /* "0.1", "45000:50000", or NULL */
    int select;                             /* enum kd_select */
    uint64_t patience;   /* epochs without a better one to stop after; 0: all are run */
    int optimizer;       /* enum kd_optimizer_kind */
    struct kd_sgd sgd;   /* its decay is Adam's too */
    struct kd_adam adam; /* completed by kd_recipe_check */
    double clip;         /* the largest norm of all gradients together; 0: any */
    double ema;          /* decay of the average of the weights; 0: none is kept */
    struct kd_schedule schedule;
    struct kd_yaml *milestones;
    struct kd_loss loss;

    /* set by kd_recipe_check */
    struct kd_arch arch;
    struct kd_holdout holdout;
    char views[64]; /* kd_view_text of augment, "default" where it is NULL */
};

#define KD_RECIPE_OPTIONS 64

/* Fills in the defaults. */
void kd_recipe_init(struct kd_recipe *recipe);

/* Writes the options that set `recipe`, ended by a NULL name. */
void kd_recipe_options(struct kd_recipe *recipe,
                       struct kd_option options[KD_RECIPE_OPTIONS]);

/* Checks what no single option can: KD_ERECIPE or KD_EUSAGE. An option of another
 * schedule, optimiser or shuffle is refused. Fills in `arch`, `adam`, `holdout` and the
 * milestones; Adam's learning rate is 0.001 unless it was given. Without soft labels
 * the loss is the cross-entropy, at weight 1 unless `hard` was given. */
enum kd_status kd_recipe_check(struct kd_recipe *recipe,
                               const struct kd_program *program) KD_CHECKED;

/* The values that decide the trained network's bits, one a line, "key: value", but for
 * the inputs' content, which `data`, `test` and `labels` digests stand for ("none").
 * The caller frees it; NULL with a message on failure. */
char *kd_recipe_text(const struct kd_recipe *recipe, const char *data, const char *test,
                     const char *labels) KD_CHECKED;

#endif
