/* SPDX-License-Identifier: MIT */
/* kd-eval: how good networks and caches are, how sure, and how much of one mind. */
#include "kd/evaluate.h"
#include "kd/options.h"

#include <stdlib.h>

static struct {
    char *data, *reference;
    double temperature;
    int tail;
} args = {.tail = KD_TAIL_SPREAD};

static enum kd_status evaluate(const struct kd_program *program, struct kd_json *json)
{
    enum kd_status status = KD_EBUG;
    const struct kd_evaluate_options how = {args.data, args.temperature};
    struct kd_evaluation *evaluation = NULL;

    KD_TRY(kd_evaluate((const char *const *)program->operand, program->num_operands,
                       &how, &evaluation));
    if (program->json)
        kd_evaluation_json(evaluation, json);
    else
        KD_TRY(kd_evaluation_write(evaluation, stdout));
    status = KD_OK;
out:
    kd_evaluation_free(evaluation);
    return status;
}

static enum kd_status compare(const struct kd_program *program, struct kd_json *json)
{
    enum kd_status status = KD_EBUG;
    const struct kd_compare_options how = {args.temperature, (enum kd_tail)args.tail};
    const size_t count = program->num_operands;
    struct kd_comparison *list = NULL;

    KD_TRY(kd_compare(args.reference, (const char *const *)program->operand, count,
                      &how, &list));
    if (program->json)
        kd_comparisons_json(list, count, json);
    else
        KD_TRY(kd_comparisons_write(list, count, stdout));
    status = KD_OK;
out:
    kd_comparisons_free(list, count);
    return status;
}

static enum kd_status run(const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    struct kd_json *json = NULL;

    if (args.reference != NULL && args.data != NULL)
        return kd_fail(KD_EUSAGE, "--data: is of no use with --reference");
    if (args.reference == NULL && kd_program_given(program, "tail"))
        return kd_fail(KD_EUSAGE, "--tail: is of no use without --reference");
    KD_TRY(kd_json_new(&json));
    kd_json_pretty(json);
    if (args.reference != NULL)
        KD_TRY(compare(program, json));
    else
        KD_TRY(evaluate(program, json));
    if (program->json)
        KD_TRY(kd_json_write(json, stdout));
    status = KD_OK;
out:
    kd_json_free(json);
    return status;
}

static const struct kd_option options[] = {
    {.name = "data",
     .type = KD_OPTION_STRING,
     .value = &args.data,
     .metavar = "DATASET",
     .help = "the samples, with their labels; caches alone can do without"},
    {.name = "temperature",
     .letter = 'T',
     .type = KD_OPTION_F64,
     .value = &args.temperature,
     .max = 1000000,
     .metavar = "T",
     .help = "take all predictors at T; 0: networks at 1, caches at their own"},
    {.name = "reference",
     .type = KD_OPTION_STRING,
     .value = &args.reference,
     .metavar = "CACHE",
     .help = "compare caches with this one, row by row, instead"},
    {.name = "tail",
     .type = KD_OPTION_CHOICE,
     .value = &args.tail,
     .choices = kd_tail_names,
     .metavar = "RULE",
     .help = "with --reference: whose is the mass that a sparse cache has not kept"},
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
    "With --reference, each CACHE's soft labels are compared with the reference's, at\n"
    "--temperature or its own: KL(reference || cache) and total variation, mean and\n"
    "worst, and the share of rows with the same most probable class.\n"
    "\n"
    "Examples:\n"
    "  kd-eval --data cifar100:test.bin a/model.h5 b/model.h5\n"
    "  kd-eval --temperature 1 --json soft-labels\n"
    "  kd-eval --reference dense --tail bucket top10 top25\n";

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
