/* SPDX-License-Identifier: MIT */
/* kd-eval: how good networks and caches are, how sure, and how much of one mind. */
#include "kd/dataset.h"
#include "kd/evaluate.h"
#include "kd/monitor.h"
#include "kd/options.h"

#include <stdlib.h>

static struct {
    char *data, *reference;
    double temperature;
    uint64_t bins;
    uint64_t limit;
    bool reliability, churn, monitor;
    int tail;
} args = {.bins = KD_CALIBRATION_BINS, .tail = KD_TAIL_SPREAD, .limit = 20};

static enum kd_status evaluate(const struct kd_program *program, struct kd_json *json)
{
    enum kd_status status = KD_EBUG;
    const struct kd_evaluate_options how = {args.data, args.temperature,
                                            (size_t)args.bins};
    struct kd_evaluation *evaluation = NULL;

    KD_TRY(kd_evaluate((const char *const *)program->operand, program->num_operands,
                       &how, &evaluation));
    if (program->json && args.churn)
        kd_churn_json(evaluation, json);
    else if (program->json)
        kd_evaluation_json(evaluation, json);
    else if (args.churn)
        KD_TRY(kd_churn_write(evaluation, stdout));
    else
        KD_TRY(kd_evaluation_write(evaluation, stdout));
    if (args.reliability && !program->json)
        KD_TRY(kd_evaluation_write_reliability(evaluation, stdout));
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

static enum kd_status monitor(const struct kd_program *program, struct kd_json *json)
{
    enum kd_status status = KD_EBUG;
    const struct kd_monitor_options how = {args.data, args.temperature,
                                           (size_t)args.limit};
    struct kd_monitor_report *report = NULL;

    KD_TRY(kd_monitor(args.reference, program->operand[0], &how, &report));
    if (program->json)
        kd_monitor_json(report, json);
    else
        KD_TRY(kd_monitor_write(report, stdout));
    status = KD_OK;
out:
    kd_monitor_free(report);
    return status;
}

/* The ways to use the program. */
static enum way { EVALUATE, COMPARE, CHURN, MONITOR } choose_way(void)
{
    if (args.monitor)
        return MONITOR;
    if (args.churn)
        return CHURN;
    return args.reference != NULL ? COMPARE : EVALUATE;
}

/* Options of one way are none of another's. */
static enum kd_status check_options(const struct kd_program *program, enum way way)
{
    static const char *const names[] = {"without --reference, --churn or --monitor",
                                        "with --reference", "with --churn",
                                        "with --monitor"};
    static const struct {
        const char *option;
        bool heeded[4]; /* by enum way */
    } table[] = {
        {"data", {true, false, true, true}},
        {"bins", {true, false, false, false}},
        {"reliability", {true, false, false, false}},
        {"reference", {true, true, false, true}},
        {"tail", {false, true, false, false}},
        {"limit", {false, false, false, true}},
        {"churn", {true, true, true, false}},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (!table[i].heeded[way] && kd_program_given(program, table[i].option))
            return kd_fail(KD_EUSAGE, "--%s: is of no use %s", table[i].option,
                           names[way]);
    if (way == CHURN && program->num_operands < 2)
        return kd_fail(KD_EUSAGE, "--churn: is between two predictors at least");
    if (way == MONITOR && args.reference == NULL)
        return kd_fail(KD_EUSAGE, "--monitor: who watches? Give the teacher's soft "
                                  "labels: --reference CACHE");
    if (way == MONITOR && program->num_operands != 1)
        return kd_fail(KD_EUSAGE, "--monitor: one student at a time");
    return KD_OK;
}

static enum kd_status run(const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    const enum way way = choose_way();
    struct kd_json *json = NULL;

    KD_TRY(check_options(program, way));
    KD_TRY(kd_json_new(&json));
    kd_json_pretty(json);
    if (way == MONITOR)
        KD_TRY(monitor(program, json));
    else if (way == COMPARE)
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
     .help = "take all predictors at T",
     .usual = "1 of networks, their own of caches"},
    {.name = "bins",
     .type = KD_OPTION_U64,
     .value = &args.bins,
     .min = 1,
     .max = KD_MAX_CALIBRATION_BINS,
     .metavar = "N",
     .help = "of confidence, of equal width, for the ECE and the reliability table"},
    {.name = "reliability",
     .type = KD_OPTION_FLAG,
     .value = &args.reliability,
     .help = "print the reliability tables too; --json always has them"},
    {.name = "churn",
     .type = KD_OPTION_FLAG,
     .value = &args.churn,
     .help = "of retrains alone: how far each two are apart, and the mean"},
    {.name = "reference",
     .type = KD_OPTION_STRING,
     .value = &args.reference,
     .metavar = "CACHE",
     .help = "compare caches with this one, row by row, instead"},
    {.name = "monitor",
     .type = KD_OPTION_FLAG,
     .value = &args.monitor,
     .help = "with --reference: what a teacher sees of one student, and which samples "
             "to look at"},
    {.name = "limit",
     .type = KD_OPTION_U64,
     .value = &args.limit,
     .max = 100000,
     .metavar = "N",
     .help = "with --monitor: list so many samples"},
    {.name = "tail",
     .type = KD_OPTION_CHOICE,
     .value = &args.tail,
     .choices = kd_tail_names,
     .metavar = "RULE",
     .help = "with --reference: whose is the mass that a sparse cache has not kept"},
    {0}};

static const char notes[] =
    "A PREDICTOR is a network saved by kd-train (FILE, model:FILE, or the directory\n"
    "that has its model.h5), or a cache: a directory, a shard, a pipe of shard\n"
    "paths, or - for paths on stdin. Of caches\n"
    "the clean view is evaluated, or if they lack it, the views that they have; rows\n"
    "that not all caches have are left out. Classes that a sparse cache has not kept\n"
    "share the rest of a row's mass evenly.\n"
    "\n"
    "NLL and entropy are in nats. Of several predictors, agreement is the share of\n"
    "samples with the same most probable class (1 - churn), divergence the mean\n"
    "Jensen-Shannon divergence of the probabilities in nats (at most ln 2), variation\n"
    "their mean total variation distance; exactly right, the share of samples that so\n"
    "many of them are right about, and the oracle is right wherever one of them is.\n"
    "\n"
    "With --churn, of networks or caches that are retrains of one recipe: the share\n"
    "of samples whose most probable class is another one (churn), and the mean of\n"
    "|p - q|, half the L1 norm (difference), of each pair and over all pairs.\n"
    "\n"
    "With --reference, each CACHE's soft labels are compared with the reference's, at\n"
    "--temperature or its own: KL(reference || cache) and total variation, mean and\n"
    "worst, and the share of rows with the same most probable class.\n"
    "\n"
    "With --monitor, a student (a network with --data, or a cache) is compared with\n"
    "the soft labels of its teacher and the truth, at --temperature or the\n"
    "reference's own: agreement, fidelity, and the shares of samples that both are\n"
    "right about, that the student is wrong about and the teacher is not (behind),\n"
    "the other way round (outgrown), and that both are wrong about; the classes that\n"
    "are furthest behind, and the samples, those with the largest loss first.\n"
    "\n" KD_DATASET_NOTES "\n"
    "Examples:\n"
    "  kd-eval --data cifar100:test.bin a/model.h5 b/model.h5\n"
    "  kd-eval --temperature 1 --json soft-labels\n"
    "  kd-eval --bins 10 --reliability teacher-a teacher-b teacher-c merged\n"
    "  kd-eval --churn --data cifar100:test.bin run-*/model.h5\n"
    "  kd-eval --monitor --reference soft-labels --data cifar100:train.bin model.h5\n"
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
