/* SPDX-License-Identifier: MIT */
/* kd-dump: a teacher's soft labels of a dataset, into a cache. */
#include "kd/dataset.h"
#include "kd/dump.h"
#include "kd/options.h"

#include <stdlib.h>

static struct {
    char *teacher, *data;
    struct kd_dump_args dump;
    uint64_t jobs;
    double timeout;
} args = {.dump = KD_DUMP_DEFAULTS, .jobs = 1, .timeout = 300};

static enum kd_status run(const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    const struct kd_teacher_options how = {(size_t)args.jobs, args.timeout};
    struct kd_dump_options options;
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
    KD_TRY(kd_dump_from_args(&args.dump, data, teacher, &options));
    history = kd_dump_history(teacher, &options);
    KD_TRY(history != NULL ? KD_OK : KD_EMEMORY);
    options.history = history;
    options.finished = kd_print_path;
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
     .help = "who labels: model:FILE or model:DIR, a network of kd-train or kd-peers, "
             "or exec:COMMAND, a program of any kind"},
    KD_DATA_OPTION(args.data, "the samples; NAME@A:B takes ids A to B-1"),
    KD_DUMP_OPTIONS(args.dump),
    KD_OTHER_CLASSES_OPTION(args.dump.other_classes),
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
     .min = 0.001,
     .max = 1e6,
     .metavar = "SECONDS",
     .help = "exec: how long COMMAND may take to start, and for a batch"},
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
    "\n" KD_DATASET_NOTES "\n"
    "Examples:\n"
    "  kd-dump --teacher model:a.h5 --data cifar100:train.bin@0:18000 -o soft-labels\n"
    "  kd-dump --teacher model:a.h5 --data folder:photos --augment crop4,flip \\\n"
    "          --views 8 --clean -o soft-labels\n"
    "  kd-dump --teacher 'exec:python3 teacher_torch.py net.pt' --jobs 2 \\\n"
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
        .common = KD_COMMON_CONFIG | KD_COMMON_THREADS | KD_COMMON_OUTPUT,
        .output_help = "the cache's directory (needed)"};
    enum kd_status status = kd_program_parse(&program, argc, argv);

    if (status == KD_OK && !program.done)
        status = run(&program);
    return kd_program_finish(&program, status);
}
