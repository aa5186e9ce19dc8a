/* SPDX-License-Identifier: MIT */
/* Options: a line of arguments, ended by newlines, or where the first byte is a colon,
 * a recipe. */
#include "fuzz.h"

#include "base/options_internal.h"
#include "kd/options.h"
#include "kd/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ARGUMENTS 64

static const char *const inputs[] = {
    "--name\ntext\n--count=5\n-x\n--no-flag\noperand\n-\n--\n--more",
    "-fxc7\n--rate\n1e-3\n--kind=second\n--tree\n{a: [1, 2]}",
    "--nmae\n--count\n-1",
    "--help",
    "--print-config\n--threads=3\n--json\n-o\nout",
    ":name: text\ncount: 7\nnested: {rate: 0.5}\ntree: {a: [1]}\nkind: first\n",
    ":nmae: text\n",
    ":count: -1\nflag: yes\n"};

void kd_fuzz_seeds(void)
{
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        kd_fuzz_seed(inputs[i], strlen(inputs[i]));
}

static const char *const kinds[] = {"first", "second", NULL};

static struct {
    bool flag;
    char *name;
    uint64_t count;
    double rate;
    int kind;
    struct kd_yaml *tree;
} args;

static const struct kd_option options[] = {
    {.name = "flag", .letter = 'f', .type = KD_OPTION_FLAG, .value = &args.flag},
    {.name = "name", .type = KD_OPTION_STRING, .value = &args.name, .metavar = "NAME"},
    {.name = "count",
     .letter = 'c',
     .type = KD_OPTION_U64,
     .value = &args.count,
     .min = 1,
     .max = 9,
     .metavar = "N"},
    {.name = "rate",
     .key = "nested.rate",
     .letter = 'x',
     .type = KD_OPTION_F64,
     .value = &args.rate,
     .max = 1,
     .metavar = "R"},
    {.name = "kind",
     .type = KD_OPTION_CHOICE,
     .value = &args.kind,
     .choices = kinds,
     .metavar = "KIND"},
    {.name = "tree", .type = KD_OPTION_YAML, .value = &args.tree, .metavar = "TREE"},
    {0}};

static struct kd_program new_program(void)
{
    memset(&args, 0, sizeof args);
    args.count = 1;
    return (struct kd_program){.name = "fuzz",
                               .summary = "Is fuzzed.",
                               .operands = "WORD...",
                               .max_operands = 4,
                               .options = options,
                               /* No --config: it would read files of all names. */
                               .common = KD_COMMON_THREADS | KD_COMMON_JSON |
                                         KD_COMMON_OUTPUT};
}

static void check_bounds(enum kd_status status)
{
    if (status != KD_OK)
        return;
    kd_fuzz_expect(args.count >= 1 && args.count <= 9, "count");
    kd_fuzz_expect(args.rate >= 0 && args.rate <= 1, "rate");
    kd_fuzz_expect(args.kind == 0 || args.kind == 1, "kind");
}

static void try_arguments(char *text)
{
    struct kd_program program = new_program();
    char name[] = "fuzz";
    char *argv[MAX_ARGUMENTS + 2] = {name};
    int argc = 1;

    for (char *at = text; at != NULL && argc <= MAX_ARGUMENTS;) {
        char *end = strchr(at, '\n');

        if (end != NULL)
            *end++ = '\0';
        argv[argc++] = at;
        at = end;
    }
    check_bounds(kd_program_parse(&program, argc, argv));
    kd_options_close(&program);
}

static void try_recipe(const char *text)
{
    struct kd_program program = new_program();

    if (kd_options_open(&program) == KD_OK &&
        kd_yaml_parse(text, "recipe", &program.yaml) == KD_OK)
        check_bounds(kd_options_take_yaml(&program));
    kd_options_close(&program);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FILE *silent; /* --help and --print-config write to stdout */
    char *text = malloc(size + 1);

    if (silent == NULL)
        silent = freopen("/dev/null", "w", stdout);
    kd_fuzz_expect(text != NULL && silent != NULL, "memory");
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    if (text[0] == ':')
        try_recipe(text + 1);
    else
        try_arguments(text);
    free(text);
    return 0;
}
