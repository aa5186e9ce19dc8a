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
#include "kd/status.h"
#include "kd/view.h"
#include "kd/yaml.h"

#include <stdbool.h>
#include <stdint.h>

/* Which view's soft labels a student learns from. */
enum kd_labels_view { KD_LABELS_SAME_VIEW, KD_LABELS_CLEAN_VIEW };

struct kd_recipe {
    /* as parsed; strings and trees are the program's */
    struct kd_yaml *network;
    char *data;      /* DATASET to train on */
    char *test;      /* DATASET to measure on after each epoch, or NULL */
    char *labels;    /* CACHE, or NULL */
    int labels_view; /* enum kd_labels_view */
    char *augment;   /* as kd_view_parse; NULL: the cache's, or none */
    uint64_t epochs, batch, seed;
    struct kd_sgd sgd;
    struct kd_schedule schedule;
    struct kd_yaml *milestones;
    struct kd_loss loss;

    /* set by kd_recipe_check */
    struct kd_arch arch;
    char views[64]; /* kd_view_text of augment, "default" where it is NULL */
};

#define KD_RECIPE_OPTIONS 32

/* Fills in the defaults. */
void kd_recipe_init(struct kd_recipe *recipe);

/* Writes the options that set `recipe`, ended by a NULL name. */
void kd_recipe_options(struct kd_recipe *recipe,
                       struct kd_option options[KD_RECIPE_OPTIONS]);

/* Checks what no single option can: KD_ERECIPE or KD_EUSAGE. Fills in `arch` and the
 * milestones. Without soft labels the loss is the cross-entropy, at weight 1 unless
 * `hard` was given. */
enum kd_status kd_recipe_check(struct kd_recipe *recipe,
                               const struct kd_program *program) KD_CHECKED;

/* The values that decide the trained network's bits, one a line, "key: value", but for
 * the inputs' content, which `data`, `test` and `labels` digests stand for ("none").
 * The caller frees it; NULL with a message on failure. */
char *kd_recipe_text(const struct kd_recipe *recipe, const char *data, const char *test,
                     const char *labels) KD_CHECKED;

#endif
