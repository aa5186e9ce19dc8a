/* SPDX-License-Identifier: MIT */
/* kd-import: logits that another program made, into a cache. */
#include "kd/dataset.h"
#include "kd/dump.h"
#include "kd/import.h"
#include "kd/options.h"

#include <stdio.h>
#include <stdlib.h>

static struct {
    char *from, *data, *name, *ids, *tensor, *keys, *classes, *augment;
    int container, values;
    double temperature;
    struct kd_codec_args codec;
    uint64_t shard_samples, seed;
    bool clean, other_classes;
} args = {.container = -1, .values = -1, .codec.encoding = -1, .shard_samples = 8192};

/* What has no default. */
static enum kd_status check_args(const struct kd_program *program)
{
    if (args.from == NULL)
        return kd_fail(KD_EUSAGE, "what? give --from FILE or a directory");
    if (args.data == NULL)
        return kd_fail(KD_EUSAGE, "of which samples? give --data DATASET");
    if (args.values < 0)
        return kd_fail(KD_EUSAGE,
                       "what are the values? give --values logits, logprobs or probs");
    if (args.temperature == 0)
        return kd_fail(KD_EUSAGE,
                       "which temperature is the cache to have? give --temperature T");
    if (program->output == NULL)
        return kd_fail(KD_EUSAGE, "where to? give -o DIRECTORY");
    return KD_OK;
}

static enum kd_status run(const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    struct kd_import_options options = {.from = args.from,
                                        .container = (enum kd_container)args.container,
                                        .tensor = args.tensor,
                                        .ids = args.ids,
                                        .keys = args.keys,
                                        .classes = args.classes,
                                        .values = (enum kd_values)args.values,
                                        .temperature = args.temperature,
                                        .name = args.name,
                                        .codec = args.codec,
                                        .augment = args.augment,
                                        .seed = args.seed,
                                        .clean = args.clean,
                                        .other_classes = args.other_classes,
                                        .samples_a_shard = args.shard_samples,
                                        .finished = kd_print_path};
    struct kd_dataset *data = NULL;

    KD_TRY(check_args(program));
    if (args.container < 0)
        KD_TRY(kd_import_recognize(args.from, &options.container));
    KD_TRY(kd_dataset_open(args.data, &data));
    KD_TRY(kd_import_run(data, program->output, &options));
    status = KD_OK;
out:
    kd_dataset_close(data);
    return status;
}

static const struct kd_option options[] = {
    {.name = "from",
     .type = KD_OPTION_STRING,
     .value = &args.from,
     .metavar = "PATH",
     .help = "what to import: a file, or a directory"},
    {.name = "format",
     .type = KD_OPTION_CHOICE,
     .value = &args.container,
     .choices = kd_container_names,
     .metavar = "FORMAT",
     .help = "what it is; without this option, by its name"},
    KD_DATA_OPTION(args.data, "the samples; NAME@A:B takes ids A to B-1"),
    {.name = "values",
     .type = KD_OPTION_CHOICE,
     .value = &args.values,
     .choices = kd_values_names,
     .metavar = "KIND",
     .help = "what the values are"},
    KD_TEMPERATURE_OPTION(args.temperature,
                          "logits are divided by T; logprobs and probs are at T"),
    {.name = "name",
     .type = KD_OPTION_STRING,
     .value = &args.name,
     .metavar = "NAME",
     .help = "the teacher's name; without it, the file's"},
    {.name = "ids",
     .type = KD_OPTION_STRING,
     .value = &args.ids,
     .metavar = "FILE",
     .help = "npy: the id of each row, integers [N]; without it, rows are in order"},
    {.name = "tensor",
     .type = KD_OPTION_STRING,
     .value = &args.tensor,
     .metavar = "NAME",
     .help = "safetensors: the tensor of values; without it, that named as their kind"},
    {.name = "keys",
     .type = KD_OPTION_STRING,
     .value = &args.keys,
     .metavar = "FILE",
     .help = "tinyvit: a key a line, line n (from 0) being id n; without it, keys are "
             "ids"},
    {.name = "classes",
     .type = KD_OPTION_STRING,
     .value = &args.classes,
     .metavar = "FILE",
     .help = "class names, a line each, in the order of the values: must be the "
             "dataset's, but for --other-classes"},
    {.name = "augment",
     .type = KD_OPTION_STRING,
     .value = &args.augment,
     .metavar = "LIST",
     .help =
         "views: how this suite drew them; else none for one view, foreign for more"},
    {.name = "seed",
     .type = KD_OPTION_U64,
     .value = &args.seed,
     .metavar = "N",
     .help = "seed of the views, with --augment"},
    {.name = "clean",
     .type = KD_OPTION_FLAG,
     .value = &args.clean,
     .help = "the first of several views is the clean view 0, else it is view 1"},
    KD_OTHER_CLASSES_OPTION(args.other_classes),
    KD_CODEC_OPTIONS(args.codec, NULL),
    KD_SHARD_SAMPLES_OPTION(args.shard_samples, 1, NULL),
    {0}};

static const char notes[] =
    "Formats:\n"
    "  npy          float16, float32 or float64 [N,C], or [N,V,C] of V views; or a\n"
    "               directory from kd-export\n"
    "  safetensors  tensors logits (logprobs, probs) and, if there, id, view, label\n"
    "  csv          header id[,view][,label],c0,c1,...; commas or tabs\n"
    "  tinyvit      rank*-keys.txt and rank*-values.bin, or directories of them, one\n"
    "               an epoch; probabilities of K classes a row, stored as top-k\n"
    "\n"
    "Every id of the dataset must have a row; where only a part has, name that part\n"
    "with --data DATASET@A:B. Probabilities must have the sum 1 within 0.001; one\n"
    "of 0 is taken as the least positive number of the file's type. Shards that an\n"
    "earlier run finished are kept.\n"
    "\n" KD_DATASET_NOTES "\n"
    "Examples:\n"
    "  kd-import --from z.npy --data cifar100:train.bin --values logits -T 4 -o a\n"
    "  kd-import --from logits_top100 --keys keys.txt --data folder:train \\\n"
    "            --values probs -T 1 -o b\n";

int main(int argc, char **argv)
{
    struct kd_program program = {
        .name = "kd-import",
        .summary = "Makes a cache of logits or probabilities that another program "
                   "has written. Prints the path of each shard as soon as it is "
                   "finished.",
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
