/* SPDX-License-Identifier: MIT */
/* kd-dump: a teacher's soft labels of a dataset, into a cache. */
#include "kd/dump.h"
#include "kd/memory.h"
#include "kd/options.h"
#include "kd/version.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const dtypes[] = {"f16", "f32", NULL};

static char no_augment[] = "none";

static struct {
    char *teacher, *data, *augment;
    double temperature;
    int dtype;
    uint64_t shard_samples, views, seed;
    bool clean;
} args = {.augment = no_augment, .temperature = 4, .shard_samples = 8192, .views = 1};

static enum kd_status print_path(void *context, const char *path)
{
    (void)context;
    if (printf("%s\n", path) < 0 || fflush(stdout) != 0)
        return kd_fail_errno(KD_EIO, "stdout: cannot write");
    return KD_OK;
}

/* The command, but for what may vary between equal runs: where things lie. */
static char *describe(const struct kd_teacher *teacher, const char *augment)
{
    char temperature[32];

    kd_number_text(args.temperature, temperature);
    return kd_format("kd-dump %s: --teacher %s --temperature %s --dtype %s "
                     "--shard-samples %llu --views %llu --augment %s --seed %llu%s",
                     kd_version(), kd_teacher_facts(teacher)->name, temperature,
                     dtypes[args.dtype], (unsigned long long)args.shard_samples,
                     (unsigned long long)args.views, augment,
                     (unsigned long long)args.seed, args.clean ? " --clean" : "");
}

/* Views 1 to V are drawn, view 0 is the clean one; without an augmentation there is
 * only that. */
static enum kd_status set_options(const struct kd_teacher *teacher,
                                  struct kd_dump_options *to, char **history)
{
    char augment[64];
    const enum kd_status status = kd_view_parse(args.augment, args.seed, &to->augment);
    const bool drawn = to->augment.crop > 0 || to->augment.flip;

    if (status != KD_OK) {
        kd_error_prefix("--augment");
        return status;
    }
    to->temperature = args.temperature;
    to->dtype = args.dtype == 0 ? KD_F16 : KD_F32;
    to->samples_a_shard = args.shard_samples;
    to->first_view = drawn && !args.clean ? 1 : 0;
    to->views = (uint32_t)args.views + (drawn && args.clean ? 1 : 0);
    to->finished = print_path;
    kd_view_text(&to->augment, augment);
    *history = describe(teacher, augment);
    to->history = *history;
    return *history != NULL ? KD_OK : KD_EMEMORY;
}

static enum kd_status run(const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    struct kd_dump_options options = {0};
    struct kd_dataset *data = NULL;
    struct kd_teacher *teacher = NULL;
    char *history = NULL;

    if (args.teacher == NULL)
        return kd_fail(KD_EUSAGE, "whose soft labels? give --teacher model:FILE");
    if (args.data == NULL)
        return kd_fail(KD_EUSAGE, "of which samples? give --data DATASET");
    if (program->output == NULL)
        return kd_fail(KD_EUSAGE, "where to? give -o DIRECTORY");
    KD_TRY(kd_teacher_open(args.teacher, &teacher));
    KD_TRY(set_options(teacher, &options, &history));
    KD_TRY(kd_dataset_open(args.data, &data));
    KD_TRY(kd_dump_run(data, teacher, program->output, &options));
    status = KD_OK;
out:
    free(history);
    kd_dataset_close(data);
    kd_teacher_close(teacher);
    return status;
}

static const struct kd_option options[] = {
    {.name = "teacher",
     .type = KD_OPTION_STRING,
     .value = &args.teacher,
     .metavar = "TEACHER",
     .help = "who labels: model:FILE, a network saved by kd-train"},
    {.name = "data",
     .type = KD_OPTION_STRING,
     .value = &args.data,
     .metavar = "DATASET",
     .help = "the samples; NAME@A:B takes ids A to B-1"},
    {.name = "temperature",
     .letter = 'T',
     .type = KD_OPTION_F64,
     .value = &args.temperature,
     .min = 0.001,
     .max = 1000000,
     .metavar = "T",
     .help = "divide logits by T"},
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
    {.name = "augment",
     .type = KD_OPTION_STRING,
     .value = &args.augment,
     .metavar = "LIST",
     .help = "how views are drawn: none, or cropN and flip, by commas"},
    {.name = "views",
     .type = KD_OPTION_U64,
     .value = &args.views,
     .min = 1,
     .max = 1000000,
     .metavar = "V",
     .help = "views a sample: with --augment the drawn views 1 to V"},
    {.name = "clean",
     .type = KD_OPTION_FLAG,
     .value = &args.clean,
     .help = "with --augment the clean view 0 as well"},
    {.name = "seed",
     .type = KD_OPTION_U64,
     .value = &args.seed,
     .metavar = "N",
     .help = "seed of the drawn views"},
    {0}};

static const char notes[] =
    "Shards that an earlier run finished are kept: after an interruption the same\n"
    "command goes on.\n"
    "\n"
    "Examples:\n"
    "  kd-dump --teacher model:a.h5 --data cifar100:train.bin@0:18000 -o soft-labels\n"
    "  kd-dump --teacher model:a.h5 --data folder:photos --augment crop4,flip \\\n"
    "          --views 8 --clean -o soft-labels\n";

int main(int argc, char **argv)
{
    struct kd_program program = {
        .name = "kd-dump",
        .summary = "Runs a teacher once over a dataset and its views, and keeps its "
                   "temperature-scaled logits in a cache. Prints the path of each "
                   "shard as soon as it is finished.",
        .operands = "",
        .notes = notes,
        .options = options,
        .common = KD_COMMON_CONFIG | KD_COMMON_THREADS | KD_COMMON_OUTPUT};
    enum kd_status status = kd_program_parse(&program, argc, argv);

    if (status == KD_OK && !program.done)
        status = run(&program);
    return kd_program_finish(&program, status);
}
