/* SPDX-License-Identifier: MIT */
/* Options: what --help says, all of it made from the tables. */
#include "base/options_internal.h"

#include <stdlib.h>
#include <string.h>

#define LINE_WIDTH  79
#define HELP_COLUMN 30

/* Appends words from `column` on, broken into lines that begin at `indent`. */
static void put_wrapped(struct kd_text *text, const char *words, size_t column,
                        size_t indent)
{
    bool first = true;

    for (;;) {
        size_t length = 0;
        words += strspn(words, " \n");
        length = strcspn(words, " \n");
        if (length == 0)
            break;
        if (!first && column + 1 + length > LINE_WIDTH) {
            kd_text_format(text, "\n%*s", (int)indent, "");
            column = indent;
        } else if (!first) {
            kd_text_put(text, " ");
            column++;
        }
        kd_text_add(text, words, length);
        column += length;
        words += length;
        first = false;
    }
    kd_text_put(text, "\n");
}

static const char *metavar_of(const struct kd_option *option)
{
    static const char *const by_type[] = {
        [KD_OPTION_FLAG] = NULL,     [KD_OPTION_STRING] = "TEXT",
        [KD_OPTION_U64] = "N",       [KD_OPTION_F64] = "X",
        [KD_OPTION_CHOICE] = "NAME", [KD_OPTION_YAML] = "YAML"};

    if (option->type == KD_OPTION_FLAG || option->metavar != NULL)
        return option->metavar;
    return by_type[option->type];
}

/* "  -T, --temperature T"; a flag that is true unless refused shows that it can
 * be: "--[no-]shuffle". */
static void put_names(struct kd_text *text, const struct kd_option *option,
                      bool settable)
{
    const char *metavar = metavar_of(option);
    bool is_on = settable && option->type == KD_OPTION_FLAG && *(bool *)option->value;

    if (option->letter != 0)
        kd_text_format(text, "  -%c, ", option->letter);
    else
        kd_text_put(text, "      ");
    kd_text_format(text, "--%s%s", is_on ? "[no-]" : "", option->name);
    if (option->type != KD_OPTION_FLAG)
        kd_text_format(text, " %s", metavar);
}

static bool shows_default(const struct kd_option *option)
{
    if (option->usual != NULL)
        return option->usual[0] != '\0';
    if (option->type == KD_OPTION_FLAG)
        return *(bool *)option->value;
    return !kd_option_is_unset(option);
}

static bool has_own_key(const struct kd_option *option)
{
    return strcmp(kd_option_key(option), option->name) != 0;
}

/* "divide logits by T (default: 4) [loss.temperature]" */
static void put_meaning(struct kd_text *text, const struct kd_option *option,
                        bool settable)
{
    kd_text_put(text, option->help != NULL ? option->help : "");
    if (option->type == KD_OPTION_CHOICE) {
        kd_text_put(text, ": ");
        kd_option_put_choices(text, option->choices);
    }
    if (settable && shows_default(option)) {
        kd_text_put(text, " (default: ");
        if (option->usual != NULL)
            kd_text_put(text, option->usual);
        else
            kd_option_put_value(text, option);
        kd_text_put(text, ")");
    }
    if (has_own_key(option))
        kd_text_format(text, " [%s]", kd_option_key(option));
}

/* What is not settable, --help itself for one, has no default to be shown. */
static void put_option(struct kd_text *text, const struct kd_program_state *state,
                       size_t index)
{
    struct kd_text names = {0}, meaning = {0};
    size_t column = 0;

    put_names(&names, &state->options[index], index < state->num_settable);
    put_meaning(&meaning, &state->options[index], index < state->num_settable);
    if (names.status == KD_OK && meaning.status == KD_OK) {
        column = names.length;
        kd_text_put(text, names.bytes);
        if (column + 2 > HELP_COLUMN) {
            kd_text_put(text, "\n");
            column = 0;
        }
        kd_text_format(text, "%*s", (int)(HELP_COLUMN - column), "");
        put_wrapped(text, meaning.bytes, HELP_COLUMN, HELP_COLUMN);
    } else {
        text->status = KD_EMEMORY;
    }
    free(names.bytes);
    free(meaning.bytes);
}

/* The first option with a dash in its name, which shows most; else the first. */
static const struct kd_option *example_of(const struct kd_program_state *state)
{
    for (size_t i = 0; i < state->num_settable; i++)
        if (strchr(state->options[i].name, '-') != NULL)
            return &state->options[i];
    return &state->options[0];
}

/* Where values come from. */
static void put_order(struct kd_text *text, const struct kd_program *program)
{
    const struct kd_program_state *state = program->state;
    const bool config = program->common & KD_COMMON_CONFIG;
    const struct kd_option *example = example_of(state);
    struct kd_text words = {0};
    char name[KD_ENVIRONMENT_NAME];
    bool own_keys = false;

    kd_option_environment(example, name);
    kd_text_format(&words,
                   "A value is the first of: the command line's, the environment's "
                   "(%s for --%s), %sthe default.",
                   name, example->name, config ? "that of the --config file, " : "");
    for (size_t i = 0; i < state->num_settable; i++)
        own_keys |= has_own_key(&state->options[i]);
    if (config)
        kd_text_format(&words, " The file is YAML; its keys are the options' names%s.",
                       own_keys ? "; where there is a key in brackets, that one: [a.b] "
                                  "is b in the mapping a"
                                : "");
    if (words.status == KD_OK)
        put_wrapped(text, words.bytes, 0, 0);
    else
        text->status = words.status;
    free(words.bytes);
}

static void put_options(struct kd_text *text, const struct kd_program *program)
{
    const struct kd_program_state *state = program->state;

    if (state->num_own > 0)
        kd_text_put(text, "\nOptions:\n");
    for (size_t i = 0; i < state->num_own; i++)
        put_option(text, state, i);
    kd_text_put(text, "\nCommon options:\n");
    for (size_t i = state->num_own; i < state->num_options; i++)
        put_option(text, state, i);
    kd_text_put(text, "\n");
    put_order(text, program);
}

static void put_exit_codes(struct kd_text *text)
{
    kd_text_put(text, "\nExit status:\n");
#define PUT_CODE(name, value, words) kd_text_format(text, "  %2d  %s\n", value, words);
    KD_STATUS_TABLE(PUT_CODE)
#undef PUT_CODE
}

enum kd_status kd_options_help(const struct kd_program *program, struct kd_text *text)
{
    bool operands = program->operands != NULL && *program->operands != '\0';

    kd_text_format(text, "Usage: %s [OPTION]...%s%s\n", program->name,
                   operands ? " " : "", operands ? program->operands : "");
    if (program->summary != NULL)
        put_wrapped(text, program->summary, 0, 0);
    put_options(text, program);
    put_exit_codes(text);
    if (program->notes != NULL) {
        size_t length = strlen(program->notes);
        kd_text_format(text, "\n%s", program->notes);
        if (length > 0 && program->notes[length - 1] != '\n')
            kd_text_put(text, "\n");
    }
    return text->status;
}
