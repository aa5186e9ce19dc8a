/* SPDX-License-Identifier: MIT */
/* What the files of a recipe share. */
#ifndef KD_RECIPE_INTERNAL_H
#define KD_RECIPE_INTERNAL_H

#include "kd/recipe.h"

/* Fills in the stages, with their milestones and weights, and refuses options that no
 * stage heeds. */
enum kd_status kd_recipe_settle_stages(struct kd_recipe *recipe,
                                       const struct kd_program *program) KD_CHECKED;

/* Ascending epochs from 1 to `last`, of [60, 120] or "60,120", into epochs[room].
 * KD_ERECIPE with the place; `what` names the option. */
enum kd_status kd_recipe_read_epochs(const struct kd_yaml *list, const char *what,
                                     uint64_t last, size_t room, uint64_t *epochs,
                                     size_t *count) KD_CHECKED;

/* The name of one of kd-merge's options among a recipe's: the same, unless that is a
 * trainer's own. */
const char *kd_merging_name(const char *option);

/* kd-merge's options by those names, for `args`, without an end; returns how many. */
#define KD_MERGING_OPTIONS 32
size_t kd_merging_options(struct kd_merge_args *args,
                          struct kd_option options[KD_MERGING_OPTIONS]);

#endif
