/* SPDX-License-Identifier: MIT */
/*
 * Options: one grammar for every program.
 *
 * A program declares its options once, as a table that points into a struct of
 * its own; whatever that struct holds beforehand is the default and is shown by
 * --help; a NULL string, a choice of -1 and a number below its least are none.
 * Parsing takes GNU long options (`--name value`, `--name=value`,
 * `--no-name` for a flag), single letters, and operands, mixed as one likes; `--`
 * ends the options, `-` is an operand. Of an option given twice the last wins.
 * The value of an option is the first of: the command line, the environment
 * (`KD_` + name in capitals, dashes as underscores: KD_WEIGHT_DECAY), the YAML
 * file given by --config, the default. An empty variable, and a YAML key whose
 * value is nothing or null, count as not given. In YAML a list of texts is one with
 * commas: [a, b] is "a,b". --print-config shows the result, as YAML with the origin of
 * each value behind it, and does nothing else.
 *
 *     struct args args = {.temperature = 4};
 *     const struct kd_option options[] = {
 *         {.name = "temperature", .letter = 'T', .type = KD_OPTION_F64,
 *          .value = &args.temperature, .min = 0.01, .max = 1000,
 *          .metavar = "T", .help = "divide logits by T"},
 *         {0}};
 *     struct kd_program program = {
 *         .name = "kd-dump", .summary = "...", .operands = "",
 *         .options = options, .common = KD_COMMON_ALL};
 *     enum kd_status status = kd_program_parse(&program, argc, argv);
 *     if (status == KD_OK && !program.done)
 *         status = run(&args, &program);
 *     return kd_program_finish(&program, status);
 *
 * Every program has --help, --version, --config FILE, --print-config,
 * --threads N, --json, -q/--quiet, -v/--verbose and -o/--output PATH (but for
 * those that .common leaves out). An unknown option or key is an error that
 * names the place and the nearest known one.
 */
#ifndef KD_OPTIONS_H
#define KD_OPTIONS_H

#include "kd/status.h"
#include "kd/yaml.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kd_option_type {
    KD_OPTION_FLAG,   /* bool */
    KD_OPTION_STRING, /* char *: freed by kd_program_finish when it was parsed */
    KD_OPTION_U64,    /* uint64_t, min to max */
    KD_OPTION_F64,    /* double, min to max, finite */
    KD_OPTION_CHOICE, /* int: index into choices */
    KD_OPTION_YAML    /* struct kd_yaml *: a nested value; on the command line and
                         in the environment it is written in YAML itself */
};

struct kd_option {
    const char *name; /* "weight-decay"; a table ends with a NULL name */
    const char *key;  /* dotted path in YAML, "optimizer.lr", which --help shows in
                         brackets; NULL: the name */
    char letter;      /* 0: none */
    enum kd_option_type type;
    void *value;     /* of the C type above */
    double min, max; /* numbers: both ends allowed; both 0: no bounds; a max below
                        min: no upper bound */
    const char *const *choices; /* KD_OPTION_CHOICE: ended by NULL */
    const char *metavar;        /* "FILE"; NULL for flags */
    const char *help;           /* one sentence without a full stop */
    const char *usual; /* what --help shows as the default; "": none; NULL: the value */
};

/* Which of the common options a program takes. */
enum kd_common {
    KD_COMMON_CONFIG = 1,
    KD_COMMON_THREADS = 2,
    KD_COMMON_JSON = 4,
    KD_COMMON_OUTPUT = 8,
    KD_COMMON_ALL = 15
};

struct kd_program {
    /* set by the program */
    const char *name;
    const char *summary;  /* what it does, one to three sentences */
    const char *operands; /* as in the usage line: "CACHE...", "" for none */
    const char *notes;    /* examples and the like, behind the options; NULL */
    size_t min_operands, max_operands;
    const struct kd_option *options; /* [..] ended by a NULL name */
    unsigned common;                 /* enum kd_common, or-ed */
    const char *output_help;         /* of -o; NULL: "write to PATH" */

    /* set by kd_program_parse */
    bool done; /* --help, --version or --print-config was served */
    bool json;
    bool quiet, verbose;
    uint64_t threads; /* 0: all processors that the process may use */
    char *output;     /* NULL where not given */
    char *config;     /* path of the YAML file, NULL where not given */
    char **operand;   /* [num_operands], into argv */
    size_t num_operands;
    struct kd_yaml *yaml;           /* the YAML file, NULL where not given */
    struct kd_program_state *state; /* private: origins, strings to free */
};

/* Parses, opens the log, installs the signal handlers, sets the thread count.
 * Whatever it returns, kd_program_finish is to be called. KD_EUSAGE for the
 * command line and the environment, KD_ERECIPE for the YAML file. */
enum kd_status kd_program_parse(struct kd_program *program, int argc,
                                char **argv) KD_CHECKED;

/* Prints the message of a failed status, checks that stdout could be written
 * (a full disk is KD_EIO), frees what parsing allocated; gives the exit code. */
int kd_program_finish(struct kd_program *program, enum kd_status status);

/* Writes the values as they were resolved, as YAML with the origin of each in a
 * comment; those that nobody gave are comments themselves, so that the text is a recipe
 * of the same run. What --print-config prints. */
enum kd_status kd_program_write_config(const struct kd_program *program,
                                       FILE *to) KD_CHECKED;

/* Prints a path on stdout, at once, so that the next program of a pipeline can begin: a
 * callback for whoever reports finished files. `context` is not looked at. KD_EIO. */
enum kd_status kd_print_path(void *context, const char *path) KD_CHECKED;

/* Whether an option was given anywhere, i.e. does not hold its default. */
bool kd_program_given(const struct kd_program *program, const char *option);

/* Whether the command line or the environment gave it: for this very run, whatever the
 * --config file says. */
bool kd_program_overrides(const struct kd_program *program, const char *option);

/* The nearest of `words` (ended by NULL) to a mistyped one, for "did you mean";
 * NULL if none is near. Damerau-Levenshtein distance. */
const char *kd_nearest_word(const char *word, const char *const *words);

/* Whole-string numbers, within bounds; false if it is no number or outside. */
bool kd_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *value);
bool kd_parse_f64(const char *text, double min, double max, double *value);

/* The fewest digits that read back as the same finite double; whole numbers below
 * 1e15 without an exponent. */
#define KD_TEXT_F64 32
void kd_text_f64(double value, char text[KD_TEXT_F64]);

#endif
