/* SPDX-License-Identifier: MIT */
/* Options: the command line. It is read in two steps, first which options are
 * given, then their values: --help must show defaults, and the recipe, which
 * --config names, comes before what the command line says. */
#include "kd/options.h"

#include "base/options_internal.h"
#include "kd/log.h"
#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/thread.h"
#include "kd/version.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct given {
    size_t option;
    const char *text;
};

struct command_line {
    const struct kd_program *program;
    int argc, next; /* `next` is the index of the argument to come */
    char **argv;
    struct given *given; /* [num_given] in their order */
    size_t num_given, room;
    size_t num_operands;
};

static enum kd_status add_given(struct command_line *line, size_t option,
                                const char *text)
{
    enum kd_status status =
        kd_grow(&line->given, &line->room, line->num_given + 1, sizeof *line->given);

    if (status == KD_OK)
        line->given[line->num_given++] = (struct given){option, text};
    return status;
}

/* The nearest long option's name; NULL. */
static const char *nearest_option(const struct kd_program_state *state,
                                  const char *name)
{
    const char **names = NULL; /* ended by NULL */
    const char *nearest = NULL;

    if (KD_NEW(names, state->num_options + 1) != KD_OK)
        return NULL;
    for (size_t i = 0; i < state->num_options; i++)
        names[i] = state->options[i].name;
    nearest = kd_nearest_word(name, names);
    free(names);
    return nearest;
}

static enum kd_status fail_unknown(const struct kd_program_state *state,
                                   const char *dashes, const char *name)
{
    const char *nearest = nearest_option(state, name);

    if (nearest == NULL)
        return kd_fail(KD_EUSAGE, "unknown option %s%s", dashes, name);
    return kd_fail(KD_EUSAGE, "unknown option %s%s; did you mean --%s?", dashes, name,
                   nearest);
}

/* The argument behind an option, whatever it looks like. */
static enum kd_status take_argument(struct command_line *line, size_t option)
{
    const struct kd_option *found = &line->program->state->options[option];

    if (line->next == line->argc)
        return kd_fail(KD_EUSAGE, "--%s: a value is missing", found->name);
    return add_given(line, option, line->argv[line->next++]);
}

/* "--no-shuffle": the flag's index, or num_options. */
static size_t find_negated(const struct kd_program_state *state, const char *name)
{
    size_t i = state->num_options;

    if (strncmp(name, "no-", 3) == 0)
        i = kd_options_find(state, name + 3);
    if (i < state->num_settable && state->options[i].type == KD_OPTION_FLAG)
        return i;
    return state->num_options;
}

static enum kd_status take_long(struct command_line *line, char *name)
{
    const struct kd_program_state *state = line->program->state;
    enum kd_status status = KD_EBUG;
    char *equals = strchr(name, '=');
    size_t option = 0, negated = 0;

    if (equals != NULL)
        *equals = '\0'; /* put back below: the name is looked up without it */
    option = kd_options_find(state, name);
    negated = find_negated(state, name);
    if (option == state->num_options && negated == state->num_options)
        status = fail_unknown(state, "--", name);
    else if (option == state->num_options)
        status = equals == NULL ? add_given(line, negated, "false")
                                : kd_fail(KD_EUSAGE, "--%s: takes no value", name);
    else if (equals != NULL)
        status = add_given(line, option, equals + 1);
    else if (state->options[option].type == KD_OPTION_FLAG)
        status = add_given(line, option, "true");
    else
        status = take_argument(line, option);
    if (equals != NULL)
        *equals = '=';
    return status;
}

/* "-qv", "-oFILE", "-o FILE". */
static enum kd_status take_letters(struct command_line *line, const char *letters)
{
    const struct kd_program_state *state = line->program->state;
    enum kd_status status = KD_OK;

    for (const char *c = letters; *c != '\0' && status == KD_OK; c++) {
        const char letter[] = {*c, '\0'};
        size_t option = kd_options_find_letter(state, *c);
        if (option == state->num_options)
            return fail_unknown(state, "-", c == letters ? letters : letter);
        if (state->options[option].type == KD_OPTION_FLAG) {
            status = add_given(line, option, "true");
            continue;
        }
        if (c[1] == '\0')
            return take_argument(line, option);
        return add_given(line, option, c + 1);
    }
    return status;
}

static enum kd_status read_command_line(struct command_line *line)
{
    enum kd_status status = KD_OK;
    bool options_end = false;

    while (line->next < line->argc && status == KD_OK) {
        char *text = line->argv[line->next++];
        if (options_end || text[0] != '-' || text[1] == '\0')
            line->program->state->operand[line->num_operands++] = text;
        else if (text[1] != '-')
            status = take_letters(line, text + 1);
        else if (text[2] == '\0')
            options_end = true;
        else
            status = take_long(line, text + 2);
    }
    return status;
}

/* Sets those options that the command line alone may set, or the others. */
static enum kd_status apply_given(const struct command_line *line, bool actions)
{
    struct kd_program_state *state = line->program->state;
    enum kd_status status = KD_OK;

    for (size_t i = 0; i < line->num_given && status == KD_OK; i++) {
        size_t option = line->given[i].option;
        char place[KD_ENVIRONMENT_NAME];
        if ((option >= state->num_settable) != actions)
            continue;
        snprintf(place, sizeof place, "--%s", state->options[option].name);
        status = kd_option_set_text(state, option, line->given[i].text,
                                    KD_FROM_COMMAND_LINE, place);
    }
    return status;
}

static enum kd_status print_help(struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    struct kd_text text = {0};

    program->state->help = false; /* or it would show as a default */
    KD_TRY(kd_options_help(program, &text));
    KD_TRY(kd_text_write(&text, stdout));
    program->done = true;
out:
    free(text.bytes);
    return status;
}

static enum kd_status print_version(struct kd_program *program)
{
    program->done = true;
    if (printf("%s (kdcache) %s\n", program->name, kd_version()) < 0)
        return kd_fail_errno(KD_EIO, "standard output: cannot write");
    return KD_OK;
}

static enum kd_status check_operands(const struct kd_program *program)
{
    const char *expected = program->operands != NULL ? program->operands : "";
    size_t count = program->num_operands;

    if (count < program->min_operands)
        return kd_fail(KD_EUSAGE, "an operand is missing: expected %s", expected);
    if (count <= program->max_operands)
        return KD_OK;
    if (program->max_operands == 0)
        return kd_fail(KD_EUSAGE, "'%s': expected no operand", program->operand[0]);
    return kd_fail(KD_EUSAGE, "'%s': one operand too many: expected %s",
                   program->operand[program->max_operands], expected);
}

static void set_up(const struct kd_program *program)
{
    enum kd_log_level level = program->verbose ? KD_LOG_DETAIL : KD_LOG_INFO;

    kd_log_open(program->name, program->quiet ? KD_LOG_ERROR : level);
    kd_threads_set((size_t)program->threads);
}

static enum kd_status parse(struct kd_program *program, struct command_line *line)
{
    enum kd_status status = KD_EBUG;
    struct kd_program_state *state = program->state;

    KD_TRY(KD_NEW(state->operand, (size_t)line->argc + 1));
    KD_TRY(read_command_line(line));
    KD_TRY(apply_given(line, true));
    if (state->help)
        return print_help(program);
    if (state->version)
        return print_version(program);
    if (program->config != NULL) {
        KD_TRY(kd_yaml_load(program->config, &program->yaml));
        KD_TRY(kd_options_take_yaml(program));
    }
    KD_TRY(kd_options_take_environment(program));
    KD_TRY(apply_given(line, false));
    program->operand = state->operand;
    program->num_operands = line->num_operands;
    if (state->print_config) {
        program->done = true;
        return kd_program_write_config(program, stdout);
    }
    KD_TRY(check_operands(program));
    set_up(program);
    status = KD_OK;
out:
    return status;
}

/* A program started with a standard stream closed would open its first file as
 * that stream, and write messages into it. Reading and writing fail instead. */
static void keep_standard_streams(void)
{
    static const int wrong_way[] = {O_WRONLY, O_RDONLY, O_RDONLY};

    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", wrong_way[fd]); /* takes the lowest: fd */
}

enum kd_status kd_program_parse(struct kd_program *program, int argc, char **argv)
{
    enum kd_status status = KD_EBUG;
    struct command_line line = {
        .program = program, .argc = argc, .argv = argv, .next = argc > 0 ? 1 : 0};

    kd_threads_share(argv);
    keep_standard_streams();
    kd_log_open(program->name, KD_LOG_INFO);
    kd_catch_signals();
    KD_TRY(kd_options_open(program));
    KD_TRY(parse(program, &line));
out:
    free(line.given);
    return status;
}

enum kd_status kd_print_path(void *context, const char *path)
{
    (void)context;
    errno = 0;
    if (printf("%s\n", path) < 0 || fflush(stdout) != 0)
        return kd_fail_errno(KD_EIO, "standard output: cannot write");
    return KD_OK;
}

/* Buffered output that could not be written is found out here, if not before. */
static enum kd_status close_stdout(void)
{
    bool failed = ferror(stdout) != 0;

    errno = 0;
    if (fclose(stdout) == 0 && !failed)
        return KD_OK;
    if (errno == 0)
        return kd_fail(KD_EIO, "standard output: cannot write");
    return kd_fail_errno(KD_EIO, "standard output: cannot write");
}

int kd_program_finish(struct kd_program *program, enum kd_status status)
{
    if (status != KD_OK)
        kd_log(KD_LOG_ERROR, "%s",
               *kd_error() != '\0' ? kd_error() : kd_status_text(status));
    if (status == KD_EUSAGE)
        kd_log(KD_LOG_ERROR, "try --help");
    /* What was told as KD_EIO may be this very failure. */
    if (close_stdout() != KD_OK && status != KD_EIO) {
        kd_log(KD_LOG_ERROR, "%s", kd_error());
        if (status == KD_OK || status == KD_WANTING)
            status = KD_EIO;
    }
    kd_options_close(program);
    return (int)status;
}
