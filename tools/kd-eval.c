/* SPDX-License-Identifier: MIT */
/* kd-eval: how good networks and caches are, how sure, and how much of one mind. */
#include "kd/evaluate.h"
#include "kd/options.h"

#include <stdlib.h>

static struct kd_evaluate_options args;
static char *data;

static enum kd_status write_json(const struct kd_evaluation *evaluation)
{
    enum kd_status status = KD_EBUG;
    struct kd_json *json = NULL;

    KD_TRY(kd_json_new(&json));
    kd_json_pretty(json);
    kd_evaluation_json(evaluation, json);
    KD_TRY(kd_json_write(json, stdout));
    status = KD_OK;
out:
    kd_json_free(json);
    return status;
}

static enum kd_status run(const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    struct kd_evaluation *evaluation = NULL;

    args.data = data;
    KD_TRY(kd_evaluate((const char *const *)program->operand, program->num_operands,
                       &args, &evaluation));
    if (program->json)
        KD_TRY(write_json(evaluation));
    else
        KD_TRY(kd_evaluation_write(evaluation, stdout));
    status = KD_OK;
out:
    kd_evaluation_free(evaluation);
    return status;
}

static const struct kd_option options[] = {
    {.name = "data",
     .type = KD_OPTION_STRING,
     .value = &data,
     .metavar = "DATASET",
     .help = "the samples, with their labels; caches alone can do without"},
    {.name = "temperature",
     .letter = 'T',
     .type = KD_OPTION_F64,
     .value = &args.temperature,
     .max = 1000000,
     .metavar = "T",
     .help = "take all predictors at T; 0: networks at 1, caches at their own"},
    {0}};

static const char notes[] =
    "A PREDICTOR is model:FILE or FILE, a network saved by kd-train, or a cache: a\n"
    "directory, a shard, a pipe of shard paths, or - for paths on stdin. Of caches\n"
    "the clean view is evaluated, or if they lack it, the views that they have.\n"
    "\n"
    "NLL and entropy are in nats. ECE is over 15 bins of equal width; --json gives\n"
    "them too. Of several predictors, agreement is the share of samples with the\n"
    "same most probable class (1 - churn), variation the mean total variation\n"
    "distance of the probabilities.\n"
    "\n"
    "Examples:\n"
    "  kd-eval --data cifar100:test.bin a/model.h5 b/model.h5\n"
    "  kd-eval --temperature 1 --json soft-labels\n";

int main(int argc, char **argv)
{
    struct kd_program program = {
        .name = "kd-eval",
        .summary = "Measures accuracy, calibration and agreement of networks and of "
                   "caches, over the same samples.",
        .operands = "PREDICTOR...",
        .notes = notes,
        .min_operands = 1,
        .max_operands = KD_MAX_PREDICTORS,
        .options = options,
        .common = KD_COMMON_CONFIG | KD_COMMON_THREADS | KD_COMMON_JSON};
    enum kd_status status = kd_program_parse(&program, argc, argv);

    if (status == KD_OK && !program.done)
        status = run(&program);
    return kd_program_finish(&program, status);
}
