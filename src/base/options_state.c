/* SPDX-License-Identifier: MIT */
/* Options: the one table of what a program takes, its own options and the common
 * ones, from the making to the freeing. */
#include "base/options_internal.h"

#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

#define NUM_COMMON 9

size_t kd_options_find(const struct kd_program_state *state, const char *name)
{
    size_t i = 0;

    while (i < state->num_options && strcmp(state->options[i].name, name) != 0)
        i++;
    return i;
}

size_t kd_options_find_letter(const struct kd_program_state *state, char letter)
{
    size_t i = 0;

    while (i < state->num_options && state->options[i].letter != letter)
        i++;
    return i;
}

const char *kd_option_key(const struct kd_option *option)
{
    return option->key != NULL ? option->key : option->name;
}

/* An option of the program's own goes before a common one of its name or letter. */
static void add_common(struct kd_program_state *state, struct kd_option option)
{
    if (kd_options_find(state, option.name) < state->num_options)
        return;
    if (option.letter != 0 &&
        kd_options_find_letter(state, option.letter) < state->num_options)
        option.letter = 0;
    state->options[state->num_options++] = option;
}

static void add_settable(struct kd_program *program)
{
    struct kd_program_state *state = program->state;

    if (program->common & KD_COMMON_OUTPUT)
        add_common(state, (struct kd_option){.name = "output",
                                             .letter = 'o',
                                             .type = KD_OPTION_STRING,
                                             .value = &program->output,
                                             .metavar = "PATH",
                                             .help = program->output_help != NULL
                                                         ? program->output_help
                                                         : "write to PATH"});
    if (program->common & KD_COMMON_THREADS)
        add_common(state, (struct kd_option){.name = "threads",
                                             .type = KD_OPTION_U64,
                                             .value = &program->threads,
                                             .max = 4096,
                                             .metavar = "N",
                                             .help = "compute on N threads",
                                             .usual = "every processor"});
    if (program->common & KD_COMMON_JSON)
        add_common(state, (struct kd_option){.name = "json",
                                             .type = KD_OPTION_FLAG,
                                             .value = &program->json,
                                             .help = "answer in JSON"});
    add_common(state, (struct kd_option){.name = "quiet",
                                         .letter = 'q',
                                         .type = KD_OPTION_FLAG,
                                         .value = &program->quiet,
                                         .help = "say nothing but errors"});
    add_common(state, (struct kd_option){.name = "verbose",
                                         .letter = 'v',
                                         .type = KD_OPTION_FLAG,
                                         .value = &program->verbose,
                                         .help = "say more"});
}

static void add_actions(struct kd_program *program)
{
    struct kd_program_state *state = program->state;

    if (program->common & KD_COMMON_CONFIG)
        add_common(state, (struct kd_option){.name = "config",
                                             .type = KD_OPTION_STRING,
                                             .value = &program->config,
                                             .metavar = "FILE",
                                             .help = "take values from a YAML file"});
    add_common(state, (struct kd_option){.name = "print-config",
                                         .type = KD_OPTION_FLAG,
                                         .value = &state->print_config,
                                         .help = "print every value and where it "
                                                 "comes from, and do nothing"});
    add_common(state, (struct kd_option){.name = "help",
                                         .letter = 'h',
                                         .type = KD_OPTION_FLAG,
                                         .value = &state->help,
                                         .help = "print this help"});
    add_common(state, (struct kd_option){.name = "version",
                                         .type = KD_OPTION_FLAG,
                                         .value = &state->version,
                                         .help = "print the version"});
}

static bool holds_pointer(const struct kd_option *option)
{
    return option->type == KD_OPTION_STRING || option->type == KD_OPTION_YAML;
}

enum kd_status kd_options_open(struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    struct kd_program_state *state = NULL;
    size_t own = 0;

    program->state = NULL;
    KD_TRY(KD_NEW(state, 1));
    program->state = state;
    while (program->options != NULL && program->options[own].name != NULL)
        own++;
    KD_TRY(KD_NEW(state->options, own + NUM_COMMON));
    KD_TRY(KD_NEW(state->settings, own + NUM_COMMON));
    if (own > 0)
        memcpy(state->options, program->options, own * sizeof *state->options);
    state->num_own = own;
    state->num_options = own;
    add_settable(program);
    state->num_settable = state->num_options;
    add_actions(program);
    for (size_t i = 0; i < state->num_options; i++)
        if (holds_pointer(&state->options[i]))
            memcpy(&state->settings[i].preset, state->options[i].value, sizeof(void *));
    status = KD_OK;
out:
    return status;
}

static void free_value(const struct kd_option *option, void *owned)
{
    if (option->type == KD_OPTION_YAML)
        kd_yaml_free(owned);
    else
        free(owned);
}

void kd_options_close(struct kd_program *program)
{
    struct kd_program_state *state = program->state;

    if (state == NULL)
        return;
    for (size_t i = 0; i < state->num_options; i++) {
        struct kd_setting *setting = &state->settings[i];
        if (setting->owned == NULL)
            continue;
        free_value(&state->options[i], setting->owned);
        memcpy(state->options[i].value, &setting->preset, sizeof(void *));
    }
    free(state->operand);
    free(state->settings);
    free(state->options);
    free(state);
    kd_yaml_free(program->yaml);
    program->yaml = NULL;
    program->operand = NULL;
    program->num_operands = 0;
    program->state = NULL;
}

static enum kd_source source_of(const struct kd_program *program, const char *option)
{
    size_t i = kd_options_find(program->state, option);

    return i < program->state->num_options ? program->state->settings[i].source
                                           : KD_FROM_DEFAULT;
}

bool kd_program_given(const struct kd_program *program, const char *option)
{
    return source_of(program, option) != KD_FROM_DEFAULT;
}

bool kd_program_overrides(const struct kd_program *program, const char *option)
{
    const enum kd_source source = source_of(program, option);

    return source == KD_FROM_ENVIRONMENT || source == KD_FROM_COMMAND_LINE;
}
