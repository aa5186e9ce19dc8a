/* SPDX-License-Identifier: MIT */
/* What the files of a recipe share. */
#ifndef KD_RECIPE_INTERNAL_H
#define KD_RECIPE_INTERNAL_H

#include "kd/recipe.h"

/* Fills in the stages, with their milestones and weights, and refuses options that no
 * stage heeds. */
enum kd_status kd_recipe_settle_stages(struct kd_recipe *recipe,
                                       const struct kd_program *program) KD_CHECKED;

#endif
