/* SPDX-License-Identifier: MIT */
/* Options: values from a recipe and from the environment, and all of them written
 * as a recipe again. */
#include "base/options_internal.h"
#include "base/yaml_internal.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

/* Whether `path` is a mapping on the way to `key`: "a" and "a.b" to "a.b.c". */
static bool leads_to(const char *path, const char *key)
{
    size_t length = strlen(path);

    return strncmp(path, key, length) == 0 && key[length] == '.';
}

static size_t find_key(const struct kd_program_state *state, const char *path)
{
    size_t i = 0;

    while (i < state->num_settable &&
           strcmp(kd_option_key(&state->options[i]), path) != 0)
        i++;
    return i;
}

static size_t find_below(const struct kd_program_state *state, const char *path)
{
    size_t i = 0;

    while (i < state->num_settable &&
           !leads_to(path, kd_option_key(&state->options[i])))
        i++;
    return i;
}

struct words {
    char **list; /* [count + 1], ended by NULL */
    size_t count, room;
};

static enum kd_status add_word(struct words *words, const char *key, size_t length)
{
    enum kd_status status =
        kd_grow(&words->list, &words->room, words->count + 2, sizeof *words->list);

    if (status != KD_OK)
        return status;
    words->list[words->count] = kd_format("%.*s", (int)length, key);
    if (words->list[words->count] == NULL)
        return KD_EMEMORY;
    words->list[++words->count] = NULL;
    return KD_OK;
}

/* Every key, and every mapping on the way to one. */
static enum kd_status collect_words(const struct kd_program_state *state,
                                    struct words *words)
{
    enum kd_status status = KD_EBUG;

    for (size_t i = 0; i < state->num_settable; i++) {
        const char *key = kd_option_key(&state->options[i]);
        for (const char *dot = strchr(key, '.'); dot; dot = strchr(dot + 1, '.'))
            KD_TRY(add_word(words, key, (size_t)(dot - key)));
        KD_TRY(add_word(words, key, strlen(key)));
    }
    status = KD_OK;
out:
    return status;
}

static void free_words(struct words *words)
{
    for (size_t i = 0; i < words->count; i++)
        free(words->list[i]);
    free(words->list);
}

static const char *last_part(const char *key)
{
    const char *dot = strrchr(key, '.');

    return dot != NULL ? dot + 1 : key;
}

/* The key that is meant by somebody who knows the option, or the end of its key: "lr"
 * is to be found at "optimizer.lr", "temperature" at "loss.temperature", that option's
 * name, before "virtual.temperature". */
static const char *find_elsewhere(const struct kd_program_state *state,
                                  const char *path)
{
    const char *word = last_part(path);
    const size_t named = kd_options_find(state, word);

    if (named < state->num_settable)
        return kd_option_key(&state->options[named]);
    for (size_t i = 0; i < state->num_settable; i++)
        if (strcmp(last_part(kd_option_key(&state->options[i])), word) == 0)
            return kd_option_key(&state->options[i]);
    return NULL;
}

static enum kd_status fail_unknown(const struct kd_program_state *state,
                                   const struct kd_yaml *node, const char *path)
{
    enum kd_status status = KD_EBUG;
    struct words words = {0};
    struct kd_yaml place = *node;
    const char *nearest = NULL;

    place.line = node->key_line;
    place.column = node->key_column;
    KD_TRY(collect_words(state, &words));
    nearest = find_elsewhere(state, path);
    if (nearest == NULL)
        nearest = kd_nearest_word(path, (const char *const *)words.list);
    if (nearest != NULL)
        status =
            kd_yaml_fail(&place, "unknown key '%s'; did you mean '%s'?", path, nearest);
    else
        status = kd_yaml_fail(&place, "unknown key '%s'", path);
out:
    free_words(&words);
    return status;
}

static enum kd_status take_mapping(struct kd_program_state *state,
                                   const struct kd_yaml *map, const char *prefix);

static enum kd_status take_key(struct kd_program_state *state,
                               const struct kd_yaml *node, const char *path)
{
    size_t i = find_key(state, path);

    if (i < state->num_settable) {
        if (state->settings[i].source == KD_FROM_YAML)
            return kd_yaml_fail(node, "'%s' stands twice: it is in line %zu already",
                                path, state->settings[i].line);
        return kd_option_set_node(state, i, node);
    }
    i = find_below(state, path);
    if (i == state->num_settable)
        return fail_unknown(state, node, path);
    if (kd_yaml_is_null(node))
        return KD_OK;
    if (node->kind != KD_YAML_MAPPING)
        return kd_yaml_fail(node, "%s: expected a mapping, with keys like '%s'", path,
                            kd_option_key(&state->options[i]) + strlen(path) + 1);
    return take_mapping(state, node, path);
}

static enum kd_status take_mapping(struct kd_program_state *state,
                                   const struct kd_yaml *map, const char *prefix)
{
    enum kd_status status = KD_OK;

    for (size_t i = 0; i < map->count && status == KD_OK; i++) {
        char *path =
            kd_format("%s%s%s", prefix, *prefix != '\0' ? "." : "", map->keys[i]);
        if (path == NULL)
            return KD_EMEMORY;
        status = take_key(state, map->items[i], path);
        free(path);
    }
    return status;
}

enum kd_status kd_options_take_yaml(struct kd_program *program)
{
    if (program->yaml->kind != KD_YAML_MAPPING)
        return kd_yaml_fail(program->yaml, "expected a mapping of options");
    return take_mapping(program->state, program->yaml, "");
}

enum kd_status kd_options_take_environment(struct kd_program *program)
{
    enum kd_status status = KD_OK;

    for (size_t i = 0; i < program->state->num_settable && status == KD_OK; i++) {
        char name[KD_ENVIRONMENT_NAME];
        const char *text = NULL;
        kd_option_environment(&program->state->options[i], name);
        text = getenv(name);
        if (text != NULL && *text != '\0')
            status =
                kd_option_set_text(program->state, i, text, KD_FROM_ENVIRONMENT, name);
    }
    return status;
}

/* Where a value comes from, on the heap; NULL with a message. */
static char *describe_origin(const struct kd_program *program, size_t index)
{
    const struct kd_setting *setting = &program->state->settings[index];
    char name[KD_ENVIRONMENT_NAME];
    char *text = NULL;

    kd_option_environment(&program->state->options[index], name);
    if (setting->source == KD_FROM_COMMAND_LINE)
        text = kd_copy_string("from command line");
    else if (setting->source == KD_FROM_ENVIRONMENT)
        text = kd_format("from %s", name);
    else if (setting->source == KD_FROM_YAML)
        text = kd_format("from %s:%zu", program->config, setting->line);
    else
        text = kd_copy_string("default");
    if (text != NULL)
        kd_text_one_line(text);
    return text;
}

static void put_setting(struct kd_text *text, const struct kd_program *program,
                        size_t index, size_t indent)
{
    char *origin = describe_origin(program, index);

    if (origin == NULL) {
        text->status = KD_EMEMORY;
        return;
    }
    kd_option_put_yaml(text, &program->state->options[index], indent, origin);
    free(origin);
}

/* Whether an option was given whose key begins with the first `length` bytes of `key`:
 * the option's itself, or one of the group's. */
static bool any_given(const struct kd_program_state *state, const char *key,
                      size_t length)
{
    for (size_t i = 0; i < state->num_settable; i++) {
        const char *other = kd_option_key(&state->options[i]);
        if (state->settings[i].source != KD_FROM_DEFAULT &&
            strncmp(other, key, length) == 0 &&
            (other[length] == '\0' || other[length] == '.'))
            return true;
    }
    return false;
}

/* Whether a key before `index` begins with its first `length` bytes and a dot:
 * then the group is written already. */
static bool is_written(const struct kd_program_state *state, size_t index,
                       size_t length)
{
    const char *key = kd_option_key(&state->options[index]);

    for (size_t i = 0; i < index; i++)
        if (strncmp(kd_option_key(&state->options[i]), key, length + 1) == 0)
            return true;
    return false;
}

/* The options whose keys begin with the first `length` bytes of `prefix`, which
 * end in a dot, nested by the parts of their keys. */
static void put_group(struct kd_text *text, const struct kd_program *program,
                      const char *prefix, size_t length, size_t indent)
{
    const struct kd_program_state *state = program->state;

    for (size_t i = 0; i < state->num_settable; i++) {
        const char *key = kd_option_key(&state->options[i]);
        size_t part = 0;
        if (strncmp(key, prefix, length) != 0)
            continue;
        part = strcspn(key + length, ".");
        if (key[length + part] == '.' && is_written(state, i, length + part))
            continue;
        kd_text_format(text, "%*s%s%.*s:", (int)indent, "",
                       any_given(state, key, length + part) ? "" : "# ", (int)part,
                       key + length);
        if (key[length + part] == '\0') {
            put_setting(text, program, i, indent);
        } else {
            kd_text_put(text, "\n");
            put_group(text, program, key, length + part + 1, indent + 2);
        }
    }
}

enum kd_status kd_program_write_config(const struct kd_program *program, FILE *to)
{
    struct kd_text text = {0};
    enum kd_status status = KD_EBUG;

    put_group(&text, program, "", 0, 0);
    KD_TRY(kd_text_write(&text, to));
out:
    free(text.bytes);
    return status;
}
