/* SPDX-License-Identifier: MIT */
/* kd-merge: several teachers' caches become one. */
#include "kd/memory.h"
#include "kd/merge.h"
#include "kd/options.h"
#include "kd/version.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const dtypes[] = {"f16", "f32", NULL};

static struct {
    int policy, dtype;
    char *weights;
    uint64_t shard_samples;
} args = {.policy = KD_POLICY_MEAN_PROB, .shard_samples = 8192};

static enum kd_status print_path(void *context, const char *path)
{
    (void)context;
    if (printf("%s\n", path) < 0 || fflush(stdout) != 0)
        return kd_fail_errno(KD_EIO, "stdout: cannot write");
    return KD_OK;
}

/* The command, but for what may vary between equal runs: where things lie. */
static char *describe(const struct kd_program *program)
{
    return kd_format("kd-merge %s: --policy %s --dtype %s --shard-samples %llu%s%s, "
                     "%zu caches",
                     kd_version(), kd_policy_names[args.policy], dtypes[args.dtype],
                     (unsigned long long)args.shard_samples,
                     args.weights != NULL ? " --weights " : "",
                     args.weights != NULL ? args.weights : "", program->num_operands);
}

static enum kd_status run(const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    struct kd_merge_plan plan = {.policy = (enum kd_policy)args.policy,
                                 .teachers = program->num_operands};
    struct kd_merge_options options = {.samples_a_shard = args.shard_samples,
                                       .dtype = args.dtype == 0 ? KD_F16 : KD_F32,
                                       .finished = print_path};
    char *history = NULL;

    if (program->output == NULL)
        return kd_fail(KD_EUSAGE, "where to? give -o DIRECTORY");
    if (args.weights != NULL)
        KD_TRY(kd_merge_parse_weights(&plan, args.weights));
    history = describe(program);
    if (history == NULL)
        return KD_EMEMORY;
    options.history = history;
    status = kd_merge_run(&plan, (const char *const *)program->operand, program->output,
                          &options);
out:
    free(history);
    return status;
}

static const struct kd_option options[] = {
    {.name = "policy",
     .type = KD_OPTION_CHOICE,
     .value = &args.policy,
     .choices = kd_policy_names,
     .metavar = "POLICY",
     .help = "how rows are combined: mean-prob averages the probabilities, mean-logit "
             "the logits"},
    {.name = "weights",
     .type = KD_OPTION_STRING,
     .value = &args.weights,
     .metavar = "LIST",
     .help = "one weight a cache, by commas, scaled to sum 1; equal by default"},
    {.name = "dtype",
     .type = KD_OPTION_CHOICE,
     .value = &args.dtype,
     .choices = dtypes,
     .metavar = "TYPE",
     .help = "how logits are stored"},
    {.name = "shard-samples",
     .type = KD_OPTION_U64,
     .value = &args.shard_samples,
     .min = 1,
     .max = 1099511627776.0,
     .metavar = "N",
     .help = "samples a shard"},
    {0}};

static const char notes[] =
    "A CACHE is a directory, a shard, a pipe of shard paths, or - for paths on stdin:\n"
    "  kd-merge -o merged teacher-a teacher-b\n"
    "  kd-merge -o merged <(kd-dump -o a ...) <(kd-dump -o b ...)\n"
    "Shards that an earlier run finished are kept.\n";

int main(int argc, char **argv)
{
    struct kd_program program = {
        .name = "kd-merge",
        .summary =
            "Combines the caches of several teachers into one, row by row, under "
            "an ensemble policy. Prints the path of each merged shard as soon as "
            "it is finished.",
        .operands = "CACHE...",
        .notes = notes,
        .min_operands = 1,
        .max_operands = KD_MAX_TEACHERS,
        .options = options,
        .common = KD_COMMON_CONFIG | KD_COMMON_THREADS | KD_COMMON_OUTPUT};
    enum kd_status status = kd_program_parse(&program, argc, argv);

    if (status == KD_OK && !program.done)
        status = run(&program);
    return kd_program_finish(&program, status);
}
