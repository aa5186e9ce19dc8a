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
 * Every key is an option of kd-train too; `kd-train --help` lists them with their
 * defaults, and has the keys that are not the options' names in brackets: `--lr 0.1`
 * [optimizer.lr], `--schedule cosine` [schedule.kind], `--hard 0.1` [loss.hard].
 *
 * A run may go through stages, each with soft labels of its own, that go on with the
 * weights of the one before:
 *
 *     # Annealing-KD: logits of a teacher in ten steps, then the labels alone
 *     schedule: {kind: multistep, milestones: [100, 150], warmup: 0}
 *     loss: {distance: mse, soft: 1}
 *     stages:
 *       - {labels: soft-labels, epochs: 200, hard: 0, anneal: 10}
 *       - {labels: none, epochs: 100, hard: 1, milestones: [50, 75]}
 *
 * The keys of a stage are names of options, without groups; what a stage does not say
 * is as the recipe says it, `epochs` too. A stage begins as a run does, but for the
 * weights: its schedule, ramp and annealing count their epochs from its first one,
 * unless `schedule.over: run` has them counted over the whole run, and its optimiser
 * has no memory, unless the stage says `optimizer: keep`. Views, order and the average
 * of the weights go on. Without `stages` a run is one stage.
 *
 * A stage that says `start: best` begins with the weights of the best epoch of the
 * stage before, not of its last one, as the second phase of Annealing-KD does (the
 * example above lacks it, and a `holdout` to judge by): the best by the samples held
 * out, or by the test set with `select: test`, as the code of Annealing-KD chooses.
 * With an average of the weights it is the average that was judged, and both go on from
 * it.
 *
 * A run leaves its teacher's footsteps, for students that walk through them (Pro-KD,
 * RCO), with `keep-epochs: every 10` or `keep-epochs: [1, 5, 30]`: the network after
 * each of these epochs of the run is kept as epoch-001.h5, epoch-005.h5, ...
 *
 * The teacher may watch the student, `monitor: {use: report}`, and what it sees weigh
 * samples, drop soft labels that are wrong, or end a stage (kd/monitor.h).
 *
 * A run may begin with the weights of another one's network: `start: round-1/model.h5`.
 * It takes over how the input is normalised too, and nothing else: epochs, views, order
 * and schedule are its own. So networks that teach each other train in rounds, with
 * soft labels that are dumped anew between them.
 *
 * Several caches, `labels: a,b,c`, teach in turn, one batch each, or as `labels-order:
 * random` draws them: the teachers share the samples of an epoch, where a merged cache
 * has all of them for each. (The policy random of kd-merge draws a teacher for each row
 * once and for all.)
 *
 * With a `policy` the caches are one, merged as they are read:
 *
 *     labels: a,b,c
 *     policy: mean-prob
 *     weights: 2,1,1
 *
 * trains the same network, bit by bit, as `labels: merged` after `kd-merge --policy
 * mean-prob --weights 2,1,1 -o merged a b c` (kd/merged.h). Options of kd-merge have
 * their names, but for those that are a trainer's own: its seed, holdout, missing and
 * temperature are `merge-seed` and so on. leave-one-out makes one cache for each
 * teacher, which teach in turn.
 *
 * Soft labels may be `virtual` (kd/labels.h), and `none`, which is what a stage says
 * that learns from the labels alone. A cross-entropy times 0.05, the control of Tf-KD,
 * is `labels: none, hard: 0.05`. A teacher's temperature other than the student's is a
 * `scale`: at temperature T and scale s the teacher's is T / s.
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

#include "kd/labels.h"
#include "kd/loss.h"
#include "kd/merge.h"
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

/* Of several caches, which a batch learns from: each in turn, batch by batch, or one
 * that is drawn for the batch by seed, epoch and step. */
enum kd_labels_order { KD_LABELS_SEQUENTIAL, KD_LABELS_RANDOM };

/* The order of an epoch: any of all, or the blocks of consecutive ids in any order and
 * within a window of some blocks the samples in any order, so that a cache that is
 * larger than memory is read in large pieces. */
enum kd_shuffle { KD_SHUFFLE_FULL, KD_SHUFFLE_BLOCK };

/* What schedules, ramps and annealing are counted over. */
enum kd_over { KD_OVER_STAGE, KD_OVER_RUN };

/* Names of soft labels that are no cache. */
#define KD_LABELS_NONE    "none"
#define KD_LABELS_VIRTUAL "virtual"

enum kd_optimizer_kind { KD_SGD, KD_ADAM, KD_ADAMW };

/* By which samples the best epoch is chosen. */
enum kd_select { KD_SELECT_HOLDOUT, KD_SELECT_TEST };

/* The samples that are held out of the training data: a share of them, drawn by the
 * seed, or ids; none where both are 0. */
struct kd_holdout {
    double share;
    uint64_t first, end; /* ids first to end-1 */
};

/* Epochs in a row that are trained alike. */
struct kd_stage {
    uint64_t before; /* epochs of the stages before */
    uint64_t epochs;
    bool reset;         /* the optimiser begins anew */
    bool from_best;     /* from the weights of the best epoch of the stage before */
    const char *labels; /* CACHE[,CACHE...], "virtual", or NULL */
    int labels_view;    /* enum kd_labels_view */
    int labels_order;   /* enum kd_labels_order */
    int tail;           /* enum kd_tail */
    struct kd_virtual teacher;
    struct kd_merge_args merge; /* policy -1: caches are not merged */
    double scale;               /* of the teacher's logits ... */
    uint64_t anneal; /* ... reached in so many steps; 0: from the first epoch on */
    struct kd_ramp ramp;
    struct kd_schedule schedule;
    struct kd_loss loss;
    double clip; /* as the recipe's */
    int monitor; /* enum kd_monitor_use */
    uint64_t monitor_patience;
};

#define KD_MAX_STAGES 64

/* Epochs whose networks are kept, as epoch-007.h5: every so many, or those of a list.
 */
#define KD_MAX_FOOTSTEPS 256
struct kd_footsteps {
    uint64_t every; /* 0: none but these */
    size_t count;
    uint64_t epochs[KD_MAX_FOOTSTEPS]; /* ascending */
};

struct kd_recipe {
    /* as parsed; strings and trees are the program's */
    struct kd_yaml *network;
    char *data;       /* DATASET to train on */
    char *test;       /* DATASET to measure on after each epoch, or NULL */
    char *labels;     /* CACHE[,CACHE...], "virtual", "none", or NULL */
    int labels_view;  /* enum kd_labels_view */
    int labels_order; /* enum kd_labels_order */
    char *augment;    /* as kd_view_parse; NULL: the cache's, or none */
    int tail;         /* enum kd_tail: what becomes of a sparse cache's tails */
    bool verify;      /* each row of the soft labels when it is read */
    struct kd_virtual teacher;  /* the virtual one */
    struct kd_merge_args merge; /* as in struct kd_stage */
    double scale;               /* as in struct kd_stage */
    uint64_t anneal;
    struct kd_ramp ramp;
    struct kd_yaml *stage_list;
    bool tensorboard; /* leave scalars for TensorBoard: decides nothing */
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
    int over;    /* enum kd_over */
    char *start; /* a saved network whose weights the run begins with, or NULL */
    struct kd_yaml *milestones;  /* [60, 120] or "60,120" */
    struct kd_yaml *keep_epochs; /* the same, or "every 10"; NULL: none */
    struct kd_loss loss;         /* a hard below 0 is none */
    int monitor;                 /* enum kd_monitor_use (kd/monitor.h) */
    uint64_t monitor_patience;   /* epochs that gain nothing */
    char *monitor_from;          /* monitor.h5 of an earlier run, or NULL */

    /* set by kd_recipe_check */
    struct kd_arch arch;
    struct kd_holdout holdout;
    struct kd_footsteps footsteps;
    char views[64]; /* kd_view_text of augment, "default" where it is NULL */
    struct kd_stage stages[KD_MAX_STAGES];
    size_t num_stages; /* at least 1 */
    uint64_t all_epochs;
};

#define KD_RECIPE_OPTIONS 112

/* Fills in the defaults. */
void kd_recipe_init(struct kd_recipe *recipe);

/* Writes the options that set `recipe`, ended by a NULL name. */
void kd_recipe_options(struct kd_recipe *recipe,
                       struct kd_option options[KD_RECIPE_OPTIONS]);

/* Checks what no single option can: KD_ERECIPE or KD_EUSAGE. An option of another
 * schedule, optimiser or shuffle is refused. Fills in `arch`, `adam`, `holdout` and the
 * stages; Adam's learning rate is 0.001 unless it was given, `hard` 0.1 beside soft
 * labels and 1 without. Without soft labels the loss is the cross-entropy; a weight
 * other than 1, or a `soft` that was given, is told in the log; a `monitor` is refused,
 * as are epochs of this very run (kd_program_overrides) where the stages' own are
 * others. Without stages, `schedule` and `loss` are those of the one. */
enum kd_status kd_recipe_check(struct kd_recipe *recipe,
                               const struct kd_program *program) KD_CHECKED;

/* Whether several caches are merged as they are read. */
bool kd_stage_merges(const struct kd_stage *stage);

/* The stage of an epoch (from 1) of the run, by its index. */
size_t kd_recipe_stage(const struct kd_recipe *recipe, uint64_t epoch);

/* What the schedule, the ramp and the annealing of a stage are counted over: epoch
 * `epoch` (from 1) of the run is their epoch `now` (from 0) of `all`. */
struct kd_count {
    uint64_t now, all;
};
struct kd_count kd_recipe_count(const struct kd_recipe *recipe,
                                const struct kd_stage *stage, uint64_t epoch);

/* Whether a recipe and its data fit together: at least two classes, labels where they
 * are learned from or judged by, a test set (or NULL) of the same samples. KD_EDATA. */
enum kd_status kd_recipe_check_data(const struct kd_recipe *recipe,
                                    const struct kd_dataset *data,
                                    const struct kd_dataset *test,
                                    size_t classes) KD_CHECKED;

/* What stands for a dataset's content in kd_recipe_text, "none" for NULL. The caller
 * frees it; NULL with a message on failure. */
char *kd_recipe_data_text(const struct kd_dataset *data) KD_CHECKED;

/* The values that decide the trained network's bits, one a line, "key: value", but for
 * the inputs' content, which `data`, `test` and `labels` [num_stages] digests stand for
 * ("none"). The caller frees it; NULL with a message on failure. */
char *kd_recipe_text(const struct kd_recipe *recipe, const char *data, const char *test,
                     const char *const *labels) KD_CHECKED;

#endif
