/* SPDX-License-Identifier: MIT */
/* kd-synth: the built-in dataset, drawn into a file. */
#include "kd/glyph.h"
#include "kd/options.h"

#include <stdio.h>

static struct {
    uint64_t count, size, first_id;
    struct kd_glyph_spec spec;
} args = {.count = 4000, .size = 20, .spec = {.seed = 1, .difficulty = 1}};

static enum kd_status run(const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;

    if (program->output == NULL)
        return kd_fail(KD_EUSAGE, "where to? give -o FILE.h5");
    args.spec.size = (uint32_t)args.size;
    KD_TRY(kd_glyph_write(&args.spec, args.first_id, args.count, program->output));
    if (printf("%s\n", program->output) < 0)
        status = kd_fail_errno(KD_EIO, "stdout: cannot write");
out:
    return status;
}

static const struct kd_option options[] = {
    {.name = "count",
     .letter = 'n',
     .type = KD_OPTION_U64,
     .value = &args.count,
     .min = 1,
     .max = 1073741824,
     .metavar = "N",
     .help = "how many samples to draw"},
    {.name = "size",
     .type = KD_OPTION_U64,
     .value = &args.size,
     .min = 12,
     .max = 64,
     .metavar = "PIXELS",
     .help = "their height and width"},
    {.name = "seed",
     .type = KD_OPTION_U64,
     .value = &args.spec.seed,
     .metavar = "S",
     .help = "which of the datasets to draw"},
    {.name = "first-id",
     .type = KD_OPTION_U64,
     .value = &args.first_id,
     .min = 0,
     .max = 1099511627776.0,
     .metavar = "ID",
     .help =
         "the first sample to draw; test samples are those behind the training ones"},
    {.name = "difficulty",
     .type = KD_OPTION_F64,
     .value = &args.spec.difficulty,
     .min = 0,
     .max = 2,
     .metavar = "D",
     .help = "from 0 (upright and clean) over 1 to 2 (hardly legible)"},
    {0}};

static const char notes[] =
    "Training and test samples that do not overlap:\n"
    "  kd-synth -n 4000 -o train.h5\n"
    "  kd-synth -n 1000 --first-id 4000 -o test.h5\n"
    "They are datasets of the names hdf5:train.h5:/x,/y and hdf5:test.h5:/x,/y.\n"
    "A file that is there already is left alone, unless it is the very same.\n";

int main(int argc, char **argv)
{
    struct kd_program program = {
        .name = "kd-synth",
        .summary = "Draws the built-in dataset, digits and capital letters in 36 "
                   "classes, into an HDF5 file, and prints its path.",
        .operands = "",
        .notes = notes,
        .options = options,
        .common = KD_COMMON_CONFIG | KD_COMMON_THREADS | KD_COMMON_OUTPUT,
        .output_help = "the file to write (needed)"};
    enum kd_status status = kd_program_parse(&program, argc, argv);

    if (status == KD_OK && !program.done)
        status = run(&program);
    return kd_program_finish(&program, status);
}
