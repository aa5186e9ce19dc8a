/* SPDX-License-Identifier: MIT */
/* kd-train: trains a network from data, with or without soft labels. */
#include "kd/options.h"
#include "kd/recipe.h"
#include "kd/train.h"

#include <stdio.h>
#include <stdlib.h>

static const char notes[] =
    "A recipe is a YAML file whose keys are these options; give it with --config.\n"
    "The directory keeps a checkpoint of every epoch: after an interruption the same\n"
    "command goes on.\n"
    "\n"
    "Examples:\n"
    "  kd-train --network resnet20 --data cifar100:train.bin --augment crop4,flip \\\n"
    "           -o teachers/a\n"
    "  kd-train --config recipe.yaml --labels soft-labels --temperature 4 -o student\n"
    "  kd-merge -o merged a b c | kd-train --config recipe.yaml --labels - -o "
    "student\n";

static enum kd_status run(struct kd_recipe *recipe, const struct kd_program *program)
{
    char *model = NULL;
    enum kd_status status = kd_recipe_check(recipe, program);

    if (status == KD_OK && program->output == NULL)
        status = kd_fail(KD_EUSAGE, "say where the run shall live: -o DIRECTORY");
    if (status == KD_OK)
        status = kd_train(recipe, program->output, &model);
    if (status == KD_OK)
        puts(model);
    free(model);
    return status;
}

int main(int argc, char **argv)
{
    struct kd_recipe recipe;
    struct kd_option options[KD_RECIPE_OPTIONS];
    struct kd_program program = {
        .name = "kd-train",
        .summary = "Trains a network and prints the path of the file that it is saved "
                   "in.",
        .operands = "",
        .notes = notes,
        .options = options,
        .common = KD_COMMON_CONFIG | KD_COMMON_THREADS | KD_COMMON_OUTPUT,
    };
    enum kd_status status;

    kd_recipe_init(&recipe);
    kd_recipe_options(&recipe, options);
    status = kd_program_parse(&program, argc, argv);
    if (status == KD_OK && !program.done)
        status = run(&recipe, &program);
    return kd_program_finish(&program, status);
}
