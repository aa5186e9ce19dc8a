/* SPDX-License-Identifier: MIT */
/* kd-peers: trains several networks together, each the others' teacher. */
#include "kd/dataset.h"
#include "kd/memory.h"
#include "kd/options.h"
#include "kd/peers.h"

#include <stdio.h>
#include <stdlib.h>

static const char notes[] =
    "A recipe is a YAML file, given with --config: epochs: 30, loss: {hard: 1}. The\n"
    "directory keeps a checkpoint, renewed after each epoch: after an interruption\n"
    "the same command goes on. Each network is saved as NAME.h5, after its best\n"
    "epoch (with --holdout or --select test) as NAME-best.h5; metrics.jsonl has a\n"
    "line an epoch, with every network and their ensemble.\n"
    "\n" KD_DATASET_NOTES "\n"
    "The loss of each network is hard * CE(labels) + soft * T^2 * KL(what the others\n"
    "know || network). Unless they are given, hard, soft and temperature are 1\n"
    "without a ramp, or what stands below the method; how many networks there are is\n"
    "its own, too. With --independent the networks do not learn from each other, and\n"
    "hard is 1.\n"
    "\n"
    "Methods:\n"
    "%s\n"
    "Examples:\n"
    "  kd-peers --method dml --networks resnet8,resnet14 --data cifar100:train.bin \\\n"
    "           --test cifar100:test.bin --augment crop4,flip -o peers\n"
    "  kd-peers --network resnet8 --peers 3 --update simultaneous \\\n"
    "           --config data.yaml -o three\n"
    "  kd-dump --teacher model:peers/peer1.h5 --data cifar100:train.bin -o cache\n";

static bool dry_run, as_json;

static enum kd_status run(struct kd_peers_recipe *recipe,
                          const struct kd_program *program)
{
    enum kd_status status = kd_peers_recipe_check(recipe, program);

    if (status != KD_OK)
        return status;
    if (dry_run)
        return kd_peers_rehearse(recipe, as_json, stdout);
    if (as_json)
        return kd_fail(KD_EUSAGE, "--json is for --dry-run: a run prints paths");
    if (program->output == NULL)
        return kd_fail(KD_EUSAGE, "say where the run shall live: -o DIRECTORY");
    return kd_peers_train(recipe, program->output, kd_print_path, NULL);
}

/* The recipe's options and the program's own. */
static void list_options(struct kd_peers_recipe *recipe,
                         struct kd_option options[KD_PEERS_OPTIONS + 2])
{
    size_t count = 0;

    kd_peers_recipe_options(recipe, options);
    while (options[count].name != NULL)
        count++;
    options[count] = (struct kd_option){
        .name = "dry-run",
        .type = KD_OPTION_FLAG,
        .value = &dry_run,
        .help = "show networks, memory and times, train nothing",
    };
    options[count + 1] = (struct kd_option){
        .name = "json",
        .type = KD_OPTION_FLAG,
        .value = &as_json,
        .help = "with --dry-run: answer in JSON",
    };
    options[count + 2] = (struct kd_option){0};
}

int main(int argc, char **argv)
{
    static struct kd_peers_recipe recipe;
    struct kd_option options[KD_PEERS_OPTIONS + 2];
    struct kd_program program = {
        .name = "kd-peers",
        .summary = "Trains several networks together, each the others' teacher, and "
                   "prints the paths of the files that they are saved in.",
        .operands = "",
        .options = options,
        .common = KD_COMMON_CONFIG | KD_COMMON_THREADS | KD_COMMON_OUTPUT,
        .output_help = "the run's directory (needed)",
    };
    char *methods = kd_peers_methods_text(), *text = NULL;
    enum kd_status status;
    int code;

    if (methods != NULL)
        text = kd_format(notes, methods);
    program.notes = text;
    kd_peers_recipe_init(&recipe);
    list_options(&recipe, options);
    status = kd_program_parse(&program, argc, argv);
    if (status == KD_OK && !program.done)
        status = run(&recipe, &program);
    code = kd_program_finish(&program, status);
    free(methods);
    free(text);
    return code;
}
