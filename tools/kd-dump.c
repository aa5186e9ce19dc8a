/* SPDX-License-Identifier: MIT */
/* kd-dump: a teacher's soft labels of a dataset, into a cache. */
#include "kd/dump.h"
#include "kd/options.h"

#include <stdio.h>
#include <stdlib.h>

static char no_augment[] = "none";

static struct {
    char *teacher, *data, *augment;
    double temperature;
    struct kd_codec_args codec;
    uint64_t shard_samples, views, seed, jobs;
    double timeout;
    bool clean;
} args = {.augment = no_augment,
          .temperature = 4,
          .shard_samples = 8192,
          .views = 1,
          .jobs = 1,
          .timeout = 300};

static enum kd_status print_path(void *context, const char *path)
{
    (void)context;
    if (printf("%s\n", path) < 0 || fflush(stdout) != 0)
        return kd_fail_errno(KD_EIO, "stdout: cannot write");
    return KD_OK;
}

static enum kd_status set_options(const struct kd_teacher *teacher,
                                  const struct kd_dataset *data,
                                  struct kd_dump_options *to, char **history)
{
    enum kd_status status = kd_view_parse(args.augment, args.seed, &to->augment);

    if (status == KD_OK)
        status = kd_view_settle(&to->augment, kd_dataset_facts(data));
    if (status != KD_OK) {
        kd_error_prefix("--augment");
        return status;
    }
    status = kd_codec_from_args(&args.codec, kd_teacher_facts(teacher)->num_classes,
                                &to->codec);
    if (status != KD_OK)
        return status;
    to->temperature = args.temperature;
    to->samples_a_shard = args.shard_samples;
    kd_dump_set_views(to, (uint32_t)args.views, args.clean);
    to->finished = print_path;
    *history = kd_dump_history(teacher, to);
    to->history = *history;
    return *history != NULL ? KD_OK : KD_EMEMORY;
}

static enum kd_status run(const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    const struct kd_teacher_options how = {(size_t)args.jobs, args.timeout};
    struct kd_dump_options options = {0};
    struct kd_dataset *data = NULL;
    struct kd_teacher *teacher = NULL;
    char *history = NULL;

    if (args.teacher == NULL)
        return kd_fail(KD_EUSAGE, "whose soft labels? give --teacher model:FILE, or "
                                  "--teacher 'exec:COMMAND'");
    if (args.data == NULL)
        return kd_fail(KD_EUSAGE, "of which samples? give --data DATASET");
    if (program->output == NULL)
        return kd_fail(KD_EUSAGE, "where to? give -o DIRECTORY");
    KD_TRY(kd_dataset_open(args.data, &data));
    KD_TRY(kd_teacher_open_over(args.teacher, &how, &data, &teacher));
    KD_TRY(set_options(teacher, data, &options, &history));
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
     .help = "who labels: model:FILE, a network saved by kd-train, or exec:COMMAND, a "
             "program of any kind"},
    {.name = "jobs",
     .type = KD_OPTION_U64,
     .value = &args.jobs,
     .min = 1,
     .max = 1024,
     .metavar = "N",
     .help = "exec: so many processes of COMMAND"},
    {.name = "teacher-timeout",
     .type = KD_OPTION_F64,
     .value = &args.timeout,
     .min = 0.1,
     .max = 1000000,
     .metavar = "SECONDS",
     .help = "exec: how long COMMAND may take to start, and for a batch"},
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
    KD_CODEC_OPTIONS(args.codec),
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
     .help =
         "how views are drawn: none, or cropN, flip, mixupA and cutmixA, by commas"},
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
    "mixupA and cutmixA (A of Beta(A, A), as mixup0.2,cutmix1) mix each view with\n"
    "that of another sample of the slice that DATASET names, or of ids A to B-1 with\n"
    "fromA:B: where slices are dumped apart it keeps the views those of the whole.\n"
    "\n"
    "exec:COMMAND is started by /bin/sh -c, gets batches at its standard input and\n"
    "answers with logits at its standard output; its stderr is shown. The protocol,\n"
    "and adapters for PyTorch, scikit-learn, NumPy and ONNX, are in\n"
    "pipelines/teachers. Images of any size are resized as the teacher wants, or as\n"
    "DATASET says: folder:DIR,resize256,crop224.\n"
    "\n"
    "Examples:\n"
    "  kd-dump --teacher model:a.h5 --data cifar100:train.bin@0:18000 -o soft-labels\n"
    "  kd-dump --teacher model:a.h5 --data folder:photos --augment crop4,flip \\\n"
    "          --views 8 --clean -o soft-labels\n"
    "  kd-dump --teacher 'exec:python3 teacher_torch.py resnet18' --jobs 2 \\\n"
    "          --data folder:photos -o soft-labels\n";

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
