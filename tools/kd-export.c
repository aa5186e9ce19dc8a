/* SPDX-License-Identifier: MIT */
/* kd-export: a cache's rows for other programs, or the cache packed for shipping. */
#include "kd/export.h"
#include "kd/options.h"

#include <stdio.h>
#include <stdlib.h>

enum layout { LAYOUT_ARCHIVE, LAYOUT_CONTIGUOUS };
static const char *const layouts[] = {"archive", "contiguous", NULL};

/* Whom a cache can be written for as it is. */
static const char *const readers[] = {"torch", NULL};

/* Of enum kd_tail, those that give each class something of its own. */
static const char *const tails[] = {"spread", "renorm", NULL};

static struct {
    int container, values, tail, layout, reader;
    double temperature;
    uint64_t k;
} args = {.container = -1, .values = -1, .layout = -1, .reader = -1};

/* What is said of rows has no meaning where they are written as they are stored. */
static enum kd_status check_unchanged(const struct kd_program *program, const char *how)
{
    static const char *const others[] = {"format", "values", "temperature", "tail",
                                         "k"};

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (kd_program_given(program, others[i]))
            return kd_fail(KD_EUSAGE, "--%s: not with --%s, which changes no row",
                           others[i], how);
    return KD_OK;
}

/* The columns of its shards, in one file. */
static enum kd_status join(const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    struct kd_cache *cache = NULL;

    KD_TRY(check_unchanged(program, "for"));
    KD_TRY(kd_cache_open(program->operand[0], &cache));
    KD_TRY(kd_export_for_torch(cache, program->output));
    KD_TRY(kd_print_path(NULL, program->output));
out:
    kd_cache_close(cache);
    return status;
}

/* The cache in another layout, in which everything is as it was. */
static enum kd_status convert(const struct kd_program *program)
{
    const enum kd_status status = check_unchanged(program, "layout");

    if (status != KD_OK)
        return status;
    if (args.layout == LAYOUT_ARCHIVE)
        return kd_archive_pack(program->operand[0], program->output, kd_print_path,
                               NULL);
    return kd_archive_unpack(program->operand[0], program->output, kd_print_path, NULL);
}

static enum kd_status export(const struct kd_program *program) {
    enum kd_status status = KD_EBUG;
    struct kd_export_options options = {.container = (enum kd_container)args.container,
                                        .values = (enum kd_values)args.values,
                                        .temperature = args.temperature,
                                        .tail = (enum kd_tail)args.tail,
                                        .k = (uint32_t)args.k,
                                        .finished = kd_print_path};
    struct kd_cache *cache = NULL;

    KD_TRY(kd_cache_open(program->operand[0], &cache));
    if (args.values < 0)
        options.values = args.container == KD_TINYVIT
                             ? KD_PROBS
                             : kd_export_natural(kd_cache_identity(cache));
    KD_TRY(kd_export_run(cache, program->output, &options));
    out : kd_cache_close(cache);
    return status;
}

static enum kd_status run(const struct kd_program *program)
{
    if (program->output == NULL)
        return kd_fail(KD_EUSAGE, "where to? give -o PATH");
    if (args.layout < 0 && args.container < 0 && args.reader < 0)
        return kd_fail(KD_EUSAGE, "as what? give --format, --for or --layout");
    if (args.reader >= 0 && args.layout >= 0)
        return kd_fail(KD_EUSAGE, "--for and --layout: give one of them");
    if (args.reader >= 0)
        return join(program);
    return args.layout >= 0 ? convert(program) : export(program);
}

static const struct kd_option options[] = {
    {.name = "format",
     .type = KD_OPTION_CHOICE,
     .value = &args.container,
     .choices = kd_container_names,
     .metavar = "FORMAT",
     .help = "what to write the rows as"},
    {.name = "values",
     .type = KD_OPTION_CHOICE,
     .value = &args.values,
     .choices = kd_values_names,
     .metavar = "KIND",
     .help = "what to write of a row; without it what the cache holds, probs of "
             "sparse rows"},
    KD_TEMPERATURE_OPTION(args.temperature,
                          "of logprobs and probs; without it, the cache's own"),
    {.name = "tail",
     .type = KD_OPTION_CHOICE,
     .value = &args.tail,
     .choices = tails,
     .metavar = "RULE",
     .help = "sparse rows: what the classes that were not kept get"},
    {.name = "k",
     .letter = 'k',
     .type = KD_OPTION_U64,
     .value = &args.k,
     .min = 0,
     .max = 32768,
     .metavar = "K",
     .help = "tinyvit: classes a row",
     .usual = "as many as top-k rows have"},
    {.name = "for",
     .type = KD_OPTION_CHOICE,
     .value = &args.reader,
     .choices = readers,
     .metavar = "READER",
     .help = "write all rows as they are stored, in one .safetensors file to map"},
    {.name = "layout",
     .type = KD_OPTION_CHOICE,
     .value = &args.layout,
     .choices = layouts,
     .metavar = "LAYOUT",
     .help = "pack a cache for shipping, or unpack it again"},
    {0}};

static const char notes[] =
    "Formats:\n"
    "  npy          a directory: logits.npy [N,C] (or logprobs, probs), id.npy,\n"
    "               view.npy, label.npy\n"
    "  safetensors  a file with the same four tensors\n"
    "  csv          a file: id,view,label,c0,c1,...\n"
    "  tinyvit      a directory for each view: rank0-keys.txt, rank0-values.bin\n"
    "\n"
    "kd-import reads each of them. What is unpacked is byte for byte what was packed.\n"
    "Files that are there already are left alone, unless they are the very same.\n"
    "\n"
    "--for torch writes what SoftLabels of pipelines/pytorch_dataset.py reads beside\n"
    "caches themselves, without HDF5: tensors id, view, label [N]; scaled [N,C], the\n"
    "stored z/T minus the row's maximum, such that exp(scaled - log_z) are the\n"
    "probabilities; row_max, log_z [N]; of sparse rows scaled [N,K], index [N,K] and\n"
    "log_tail [N]; of top-p ones scaled [M], index [M] and offset [N+1]. Types are\n"
    "the cache's, and each value has its very bits; the metadata say what it is of\n"
    "(include/kd/export.h). Sampled rows are refused.\n"
    "\n"
    "Examples:\n"
    "  kd-export soft-labels --format safetensors --values probs -o probs.safetensors\n"
    "  kd-export soft-labels --for torch -o soft-labels.safetensors\n"
    "  kd-export soft-labels --layout archive -o packed\n"
    "  kd-export packed --layout contiguous -o soft-labels\n";

int main(int argc, char **argv)
{
    struct kd_program program = {
        .name = "kd-export",
        .summary = "Writes the rows of a cache for other programs, or packs a cache "
                   "for shipping. Prints the path of what it has written.",
        .operands = "CACHE",
        .notes = notes,
        .min_operands = 1,
        .max_operands = 1,
        .options = options,
        .common = KD_COMMON_CONFIG | KD_COMMON_THREADS | KD_COMMON_OUTPUT,
        .output_help = "the file or directory to write (needed)"};
    enum kd_status status = kd_program_parse(&program, argc, argv);

    if (status == KD_OK && !program.done)
        status = run(&program);
    return kd_program_finish(&program, status);
}
