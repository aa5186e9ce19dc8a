/* SPDX-License-Identifier: MIT */
/* What the files of the options share: one table of all options of a program,
 * and what is known of the value of each. */
#ifndef KD_OPTIONS_INTERNAL_H
#define KD_OPTIONS_INTERNAL_H

#include "base/text_internal.h"
#include "kd/options.h"

enum kd_source {
    KD_FROM_DEFAULT,
    KD_FROM_YAML,
    KD_FROM_ENVIRONMENT,
    KD_FROM_COMMAND_LINE
};

struct kd_setting {
    enum kd_source source;
    size_t line;  /* KD_FROM_YAML: of the file */
    void *owned;  /* what parsing allocated for a string or tree; NULL */
    void *preset; /* the default of a string or tree, put back at the end */
};

struct kd_program_state {
    struct kd_option *options;   /* [num_options] own, common, then actions */
    struct kd_setting *settings; /* [num_options] */
    size_t num_options;
    size_t num_own;      /* the first: the program's own */
    size_t num_settable; /* the first: those that YAML and environment may set */
    char **operand;      /* [at most argc] */
    bool help, version, print_config;
};

/* Makes and frees program->state; the state is freed after a failure too. */
enum kd_status kd_options_open(struct kd_program *program) KD_CHECKED;
void kd_options_close(struct kd_program *program);

/* The index of a long name or a letter; num_options if there is none. */
size_t kd_options_find(const struct kd_program_state *state, const char *name);
size_t kd_options_find_letter(const struct kd_program_state *state, char letter);

/* The path of an option in YAML. */
const char *kd_option_key(const struct kd_option *option);

/* Sets a value from a text or from a node of a recipe. Failures name the place:
 * "--batch", "KD_BATCH" (KD_EUSAGE), "FILE:LINE:COLUMN" (KD_ERECIPE). */
enum kd_status kd_option_set_text(struct kd_program_state *state, size_t index,
                                  const char *text, enum kd_source source,
                                  const char *place) KD_CHECKED;
enum kd_status kd_option_set_node(struct kd_program_state *state, size_t index,
                                  const struct kd_yaml *node) KD_CHECKED;

/* Appends "key: value" behind its key's colon, as YAML; a null where unset. */
void kd_option_put_yaml(struct kd_text *text, const struct kd_option *option,
                        size_t indent, const char *comment);

/* Appends the value in one line, nothing where there is none to show. */
void kd_option_put_value(struct kd_text *text, const struct kd_option *option);

/* Whether an option has no value: then there is none to be shown. */
bool kd_option_is_unset(const struct kd_option *option);

/* "a, b, c" */
void kd_option_put_choices(struct kd_text *text, const char *const *choices);

/* KD_ and the name in capitals, into `name`; what is longer is cut. */
#define KD_ENVIRONMENT_NAME 80
void kd_option_environment(const struct kd_option *option,
                           char name[KD_ENVIRONMENT_NAME]);

/* The values of program->yaml, then those of the environment. */
enum kd_status kd_options_take_yaml(struct kd_program *program) KD_CHECKED;
enum kd_status kd_options_take_environment(struct kd_program *program) KD_CHECKED;

/* What --help says. */
enum kd_status kd_options_help(const struct kd_program *program,
                               struct kd_text *text) KD_CHECKED;

#endif
