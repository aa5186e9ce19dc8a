/* SPDX-License-Identifier: MIT */
/* kd-train: trains a network from data, with or without soft labels. */
#include "kd/dataset.h"
#include "kd/options.h"
#include "kd/recipe.h"
#include "kd/train.h"

#include <stdio.h>
#include <stdlib.h>

static const char notes[] =
    "A recipe is a YAML file, given with --config: epochs: 30, loss: {hard: 0.1}. The\n"
    "directory keeps a checkpoint, renewed after each epoch: after an interruption\n"
    "the same command goes on.\n"
    "\n" KD_DATASET_NOTES "\n"
    "The loss is hard * CE(labels) + soft * T^2 * distance(soft labels), the distance\n"
    "KL(teacher || student) unless --distance, --direction or --reduction say else.\n"
    "The mass that a sparse cache has not kept (its tails) is spread over the classes\n"
    "not kept, or taken away by renormalising, or is one class, the bucket. Samples\n"
    "that the cache lacks (its gaps) are an error, learn from their label alone, or\n"
    "are skipped.\n"
    "\n"
    "With --holdout, a share of the samples or the ids A to B-1 are not trained on;\n"
    "best.h5 is the network after the epoch that was best on them, and --patience\n"
    "stops the run when none has been better for so many epochs. --shuffle block\n"
    "keeps neighbours near, for caches larger than memory.\n"
    "\n"
    "Soft labels may be of several caches, A,B: each teaches a batch in turn, or as\n"
    "--labels-order random draws them. With --policy they are one, merged as they are\n"
    "read, which trains the network that kd-merge -o merged A B with the same options\n"
    "and --labels merged would; kd-merge's own seed, holdout, missing and temperature\n"
    "are --merge-seed and so on here. --labels virtual is the teacher of Tf-KD: a\n"
    "function of the label, no file.\n"
    "\n"
    "--stages is a list of what differs from stage to stage, by the names of these\n"
    "options; each begins with the weights of the one before, a schedule of its own,\n"
    "and an optimizer without memory, unless it says optimizer: keep. --scale\n"
    "multiplies the teacher's logits, reached in --anneal equal steps; --ramp lets\n"
    "the weight of the soft labels climb. With start: best a stage begins with the\n"
    "weights of the best epoch of the stage before.\n"
    "\n"
    "--start begins with the weights, and the normalisation, of a saved network.\n"
    "\n"
    "With --monitor, what the student says is compared with its soft labels and the\n"
    "truth, row by row; metrics.jsonl has the shares, monitor.h5 each sample. weigh\n"
    "gives the soft labels of samples more weight the further the two are apart,\n"
    "correct-only drops those that are wrong, stop ends a stage when nothing more is\n"
    "gained from the teacher.\n"
    "\n"
    "--keep-epochs keeps the networks after some epochs, epoch-010.h5: a teacher's\n"
    "footsteps.\n"
    "\n"
    "Examples:\n"
    "  kd-train --network resnet20 --data cifar100:train.bin --augment crop4,flip \\\n"
    "           -o teachers/a\n"
    "  kd-train --config recipe.yaml --labels soft-labels --temperature 4 -o student\n"
    "  kd-merge -o merged a b c | kd-train --config recipe.yaml --labels - -o "
    "student\n"
    "  kd-train --config recipe.yaml --labels a,b,c --policy mean-prob -o student\n";

static bool dry_run, as_json;

static enum kd_status run(struct kd_recipe *recipe, const struct kd_program *program)
{
    char *model = NULL;
    enum kd_status status = kd_recipe_check(recipe, program);

    if (status == KD_OK && dry_run)
        return kd_train_rehearse(recipe, as_json, stdout);
    if (status == KD_OK && as_json)
        status = kd_fail(KD_EUSAGE, "--json is for --dry-run: a run prints a path");
    if (status == KD_OK && program->output == NULL)
        status = kd_fail(KD_EUSAGE, "say where the run shall live: -o DIRECTORY");
    if (status == KD_OK)
        status = kd_train(recipe, program->output, &model);
    if (status == KD_OK)
        puts(model);
    free(model);
    return status;
}

/* The recipe's options and the program's own. */
static void list_options(struct kd_recipe *recipe,
                         struct kd_option options[KD_RECIPE_OPTIONS + 3])
{
    size_t count = 0;

    kd_recipe_options(recipe, options);
    while (options[count].name != NULL)
        count++;
    options[count] = (struct kd_option){
        .name = "dry-run",
        .type = KD_OPTION_FLAG,
        .value = &dry_run,
        .help = "show the network and times, train nothing",
    };
    options[count + 1] = (struct kd_option){
        .name = "json",
        .type = KD_OPTION_FLAG,
        .value = &as_json,
        .help = "with --dry-run: answer in JSON",
    };
    options[count + 2] = (struct kd_option){
        .name = "tensorboard",
        .type = KD_OPTION_FLAG,
        .value = &recipe->tensorboard,
        .help = "leave the metrics for TensorBoard, too",
    };
    options[count + 3] = (struct kd_option){0};
}

int main(int argc, char **argv)
{
    struct kd_recipe recipe;
    struct kd_option options[KD_RECIPE_OPTIONS + 3];
    struct kd_program program = {
        .name = "kd-train",
        .summary = "Trains a network and prints the path of the file that it is saved "
                   "in.",
        .operands = "",
        .notes = notes,
        .options = options,
        .common = KD_COMMON_CONFIG | KD_COMMON_THREADS | KD_COMMON_OUTPUT,
        .output_help = "the run's directory (needed)",
    };
    enum kd_status status;

    kd_recipe_init(&recipe);
    list_options(&recipe, options);
    status = kd_program_parse(&program, argc, argv);
    if (status == KD_OK && !program.done)
        status = run(&recipe, &program);
    return kd_program_finish(&program, status);
}
