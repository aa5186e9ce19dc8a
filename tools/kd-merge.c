/* SPDX-License-Identifier: MIT */
/* kd-merge: several teachers' caches become one. */
#include "kd/cache.h"
#include "kd/memory.h"
#include "kd/merge.h"
#include "kd/options.h"
#include "kd/version.h"

#include <stdio.h>
#include <stdlib.h>

static struct {
    struct kd_merge_args merge;
    struct kd_codec_args codec;
    uint64_t shard_samples;
} args;

/* How rows are stored, where that does not follow from the inputs. */
static char *describe_codec(const struct kd_merge_options *how)
{
    if (how->encode_as_inputs)
        return kd_format("--dtype %s", kd_codec_dtypes[args.codec.dtype]);
    return kd_codec_text(&how->codec);
}

/* The command, but for what may vary between equal runs: where things lie. */
static char *describe(const struct kd_program *program,
                      const struct kd_merge_options *how)
{
    char *policy = kd_policy_args_text(&args.merge.policy),
         *stored = describe_codec(how);
    char temperature[KD_TEXT_F64] = "", *text = NULL;
    const char *missing = kd_merge_missing_names[how->missing];

    if (how->temperature > 0)
        kd_text_f64(how->temperature, temperature);
    if (policy != NULL && stored != NULL)
        text = kd_format(
            "kd-merge %s: %s %s%s%s%s%s%s --shard-samples %llu, %zu caches",
            kd_version(), policy, stored, how->temperature > 0 ? " --temperature " : "",
            temperature, how->missing != KD_MERGE_MISSING_ERROR ? " --missing " : "",
            how->missing != KD_MERGE_MISSING_ERROR ? missing : "",
            how->classes != NULL ? " with a class map" : "",
            (unsigned long long)args.shard_samples, program->num_operands);
    free(policy);
    free(stored);
    return text;
}

/* A merge for each teacher, without it: DIRECTORY/without-1 and so on. */
static enum kd_status leave_out(const struct kd_program *program,
                                struct kd_merge_plan *plan,
                                const struct kd_merge_options *how)
{
    enum kd_status status = KD_EBUG;
    char *to = NULL;

    for (size_t m = 0; m < plan->teachers; m++)
        if (!kd_cache_lasts(program->operand[m]))
            return kd_fail(KD_EUSAGE,
                           "%s: leave-one-out reads its caches more than once: give "
                           "finished ones, not pipes",
                           program->operand[m]);
    for (size_t m = 0; m < plan->teachers; m++) {
        free(to);
        to = kd_format("%s/without-%zu", program->output, m + 1);
        if (to == NULL)
            return KD_EMEMORY;
        plan->left_out = m;
        KD_TRY(kd_merge_run(plan, (const char *const *)program->operand, to, how));
    }
out:
    free(to);
    return status;
}

static enum kd_status merge(const struct kd_program *program,
                            struct kd_merge_plan *plan, struct kd_merge_options *how)
{
    enum kd_status status = KD_EMEMORY;
    char *history = describe(program, how);

    how->history = history;
    if (history != NULL && plan->policy == KD_POLICY_LEAVE_ONE_OUT)
        status = leave_out(program, plan, how);
    else if (history != NULL)
        status = kd_merge_run(plan, (const char *const *)program->operand,
                              program->output, how);
    free(history);
    return status;
}

static enum kd_status run(const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    struct kd_merge_plan plan = {0};
    struct kd_class_maps classes = {0};
    struct kd_merge_options how = {.samples_a_shard = args.shard_samples,
                                   .encode_as_inputs =
                                       !kd_program_given(program, "encoding"),
                                   .finished = kd_print_path};

    if (program->output == NULL)
        return kd_fail(KD_EUSAGE, "where to? give -o DIRECTORY");
    KD_TRY(
        kd_merge_from_args(&args.merge, program->num_operands, &plan, &classes, &how));
    KD_TRY(kd_codec_from_args(&args.codec, 0, &how.codec)); /* 0: not known yet */
    KD_TRY(merge(program, &plan, &how));
out:
    kd_class_maps_clear(&classes);
    kd_merge_plan_clear(&plan);
    return status;
}

static const struct kd_option options[] = {
    KD_MERGE_OPTIONS(args.merge),
    KD_CODEC_OPTIONS(args.codec, "that of the caches if all are alike, else dense"),
    KD_SHARD_SAMPLES_OPTION(args.shard_samples, 0, "as many as take about 32 MiB"),
    {0}};

static const char notes[] =
    "A CACHE is a directory, a shard, a pipe of shard paths, or - for paths on stdin:\n"
    "  kd-merge -o merged teacher-a teacher-b\n"
    "  kd-merge -o merged <(kd-dump -o a ...) <(kd-dump -o b ...)\n"
    "  kd-merge --policy stacked --holdout 45000:50000 -o merged a b c\n"
    "Caches that are all top-k, or all top-p, alike, give another one, unless\n"
    "--encoding says otherwise; others give a dense one.\n"
    "Shards that an earlier run finished are kept. leave-one-out makes a cache for\n"
    "each teacher, -o DIRECTORY/without-1 and so on.\n";

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
        .common = KD_COMMON_CONFIG | KD_COMMON_THREADS | KD_COMMON_OUTPUT,
        .output_help = "the merged cache's directory (needed)"};
    enum kd_status status = kd_program_parse(&program, argc, argv);

    if (status == KD_OK && !program.done)
        status = run(&program);
    return kd_program_finish(&program, status);
}
