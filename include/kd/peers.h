/* SPDX-License-Identifier: MIT */
/*
 * Peers: networks that teach each other while they learn.
 *
 * Where a target comes from the weights of this very step, or a gradient crosses from
 * one network into another, no cache can stand for the teacher: the networks are
 * trained in one process. What comes out is teachers like any other, files that
 * kd-dump and kd-eval take.
 *
 *     # peers.yaml
 *     method: dml
 *     networks: [resnet14, wrn-16-2]
 *     data: cifar100:train.bin
 *     test: cifar100:test.bin
 *     epochs: 30
 *
 *     struct kd_peers_recipe recipe;
 *     struct kd_option options[KD_PEERS_OPTIONS];
 *     struct kd_program program = {
 *         .name = "train-peers", .summary = "...", .operands = "", .options = options,
 *         .common = KD_COMMON_CONFIG | KD_COMMON_THREADS};
 *     kd_peers_recipe_init(&recipe);
 *     kd_peers_recipe_options(&recipe, options);
 *     KD_TRY(kd_program_parse(&program, argc, argv));
 *     if (!program.done) {
 *         KD_TRY(kd_peers_recipe_check(&recipe, &program));
 *         KD_TRY(kd_peers_train(&recipe, "run", kd_print_path, NULL));
 *     }
 * out:
 *     return kd_program_finish(&program, status);   (frees what the recipe points to)
 *
 * The loss of a member is that of kd/loss.h, its soft labels being what the method says
 * that the others know; data, views, order, batches, optimiser and schedule are those
 * of kd/recipe.h, by the same names. Members are called peer1, peer2, ..., unless their
 * method has names for them.
 *
 * A run lives in a directory:
 *
 *     recipe.txt       every value that decides the result, as it was resolved
 *     metrics.jsonl    one line an epoch; the same run gives the same bytes
 *     run.jsonl        the run's diary: starts, interruptions, seconds an epoch
 *     checkpoint.h5    everything that is needed to go on, after each epoch
 *     NAME-best.h5     each member after the epoch that was its best, by the samples
 *                      held out, or by the test set if the recipe says so
 *     NAME.h5          each member, when the last epoch is done (kd/model.h)
 *
 * A line of metrics.jsonl has, for each member by its name, the mean losses, the
 * accuracy on the batches it was trained on, and what was measured on the samples held
 * out and on the test set; `ensemble` is the mean of the members' probabilities, and a
 * method that has an ensemble of its own (a gate, a fused classifier) adds that by its
 * name.
 *
 * An interrupted run goes on from its checkpoint and ends with the bytes that it would
 * have had. Same recipe, same number of threads: same bits. Epochs, views and orders
 * are as in kd/train.h: `independent` makes the first member what kd_train makes of its
 * network, bit by bit.
 */
#ifndef KD_PEERS_H
#define KD_PEERS_H

#include "kd/network.h"
#include "kd/options.h"
#include "kd/recipe.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define KD_MAX_PEERS      8
#define KD_MAX_METHODS    16
#define KD_PEERS_OPTIONS  128
#define KD_PEERS_SETTINGS 256 /* bytes that a method's options may take */

struct kd_method; /* private: one file of src/peers */

struct kd_peers_recipe {
    struct kd_recipe base; /* what is trained on, and how */

    /* as parsed; trees are the program's */
    int method;               /* index of `methods` */
    struct kd_yaml *networks; /* a list, or "resnet8,resnet14" */
    uint64_t peers;           /* so many of base.network instead; 0: not given */
    bool independent;         /* no exchange: the control of every method */

    /* The values of each method's own options. */
    struct {
        _Alignas(16) unsigned char bytes[KD_PEERS_SETTINGS];
    } settings[KD_MAX_METHODS];
    const char *methods[KD_MAX_METHODS + 1]; /* names, ended by NULL */

    /* set by kd_peers_recipe_check */
    const struct kd_method *chosen;
    struct kd_arch arch[KD_MAX_PEERS];
    char name[KD_MAX_PEERS][24];
    size_t count; /* of members */
};

/* Fills in the defaults. */
void kd_peers_recipe_init(struct kd_peers_recipe *recipe);

/* Writes the options that set `recipe`, ended by a NULL name: those of kd/recipe.h that
 * make sense here, those of all methods, and `method`, `networks`, `peers` and
 * `independent`. What a method has a value of its own for (temperature, ramp, ...) is
 * unset until kd_peers_recipe_check. */
void kd_peers_recipe_options(struct kd_peers_recipe *recipe,
                             struct kd_option options[KD_PEERS_OPTIONS]);

/* The methods, a line each, for --help; the caller frees it. NULL on failure. */
char *kd_peers_methods_text(void) KD_CHECKED;

/* Takes the method's own values for what was not given, and checks what no single
 * option can: KD_ERECIPE or KD_EUSAGE. An option of another method is refused, as are
 * networks that the method cannot have. */
enum kd_status kd_peers_recipe_check(struct kd_peers_recipe *recipe,
                                     const struct kd_program *program) KD_CHECKED;

/* What is called with the path of each member when all are trained. */
typedef enum kd_status kd_peers_report(void *context, const char *path);

/* Trains in `directory`, which is made, or goes on there. KD_EINTERRUPTED after a
 * signal; KD_EUSAGE where the directory holds a cache, or a run of another recipe,
 * naming the first value that differs; KD_EDATA, naming member, epoch and step, where a
 * loss is no finite number. */
enum kd_status kd_peers_train(const struct kd_peers_recipe *recipe,
                              const char *directory, kd_peers_report *report,
                              void *context) KD_CHECKED;

/* Writes what a run would be, without beginning one: members, parts and their memory,
 * and the time of an epoch, from a few steps that are thrown away; as JSON, it has
 * bytes and seconds in the place of MiB and words. */
enum kd_status kd_peers_rehearse(const struct kd_peers_recipe *recipe, bool json,
                                 FILE *to) KD_CHECKED;

#endif
