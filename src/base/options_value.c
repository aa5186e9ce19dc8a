/* SPDX-License-Identifier: MIT */
/* Options: one value, from a text or a node of a recipe, and back into a text. */
#include "base/options_internal.h"
#include "base/yaml_internal.h"
#include "kd/memory.h"

#include <ctype.h>
#include <float.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static enum kd_status fail_expected(const char *place, const char *text,
                                    const char *expected)
{
    return kd_fail(KD_EUSAGE, "%s: '%s': expected %s", place, text, expected);
}

static enum kd_status set_flag(const struct kd_option *option, const char *text,
                               const char *place)
{
    bool yes = strcmp(text, "true") == 0;

    if (!yes && strcmp(text, "false") != 0)
        return fail_expected(place, text, "true or false");
    *(bool *)option->value = yes;
    return KD_OK;
}

/* Both 0: no bounds; an upper one below the lower: a lower bound only. */
static bool has_upper(const struct kd_option *option)
{
    return option->max >= option->min && (option->min != 0 || option->max != 0);
}

static bool has_lower(const struct kd_option *option)
{
    return option->min != 0 || option->max != 0;
}

static uint64_t to_u64(double bound)
{
    if (!(bound > 0))
        return 0;
    return bound >= 0x1p64 ? UINT64_MAX : (uint64_t)bound;
}

static enum kd_status set_u64(const struct kd_option *option, const char *text,
                              const char *place)
{
    uint64_t min = has_lower(option) ? to_u64(option->min) : 0;
    uint64_t max = has_upper(option) ? to_u64(option->max) : UINT64_MAX;
    char expected[KD_TEXT_RANGE];

    if (kd_parse_u64(text, min, max, option->value))
        return KD_OK;
    kd_text_range_u64(min, max, expected);
    return fail_expected(place, text, expected);
}

static enum kd_status set_f64(const struct kd_option *option, const char *text,
                              const char *place)
{
    double min = has_lower(option) ? option->min : -DBL_MAX;
    double max = has_upper(option) ? option->max : DBL_MAX;
    char expected[KD_TEXT_RANGE];

    if (kd_parse_f64(text, min, max, option->value))
        return KD_OK;
    kd_text_range_f64(min, max, expected);
    return fail_expected(place, text, expected);
}

void kd_option_put_choices(struct kd_text *text, const char *const *choices)
{
    for (size_t i = 0; choices[i] != NULL; i++)
        kd_text_format(text, "%s%s", i == 0 ? "" : ", ", choices[i]);
}

static enum kd_status set_choice(const struct kd_option *option, const char *text,
                                 const char *place)
{
    enum kd_status status = KD_EBUG;
    struct kd_text expected = {0};
    const char *nearest = NULL;

    for (int i = 0; option->choices[i] != NULL; i++)
        if (strcmp(option->choices[i], text) == 0) {
            *(int *)option->value = i;
            return KD_OK;
        }
    kd_text_put(&expected, "one of ");
    kd_option_put_choices(&expected, option->choices);
    nearest = kd_nearest_word(text, option->choices);
    if (nearest != NULL)
        kd_text_format(&expected, "; did you mean %s?", nearest);
    KD_TRY(expected.status);
    status = fail_expected(place, text, expected.bytes);
out:
    free(expected.bytes);
    return status;
}

/* Puts what parsing allocated in place of what it had allocated before. */
static void own_value(const struct kd_option *option, struct kd_setting *setting,
                      void *value)
{
    if (option->type == KD_OPTION_YAML)
        kd_yaml_free(setting->owned);
    else
        free(setting->owned);
    setting->owned = value;
    memcpy(option->value, &value, sizeof value);
}

static enum kd_status set_string(const struct kd_option *option,
                                 struct kd_setting *setting, const char *text)
{
    char *copy = kd_copy_string(text);

    if (copy == NULL)
        return KD_EMEMORY;
    own_value(option, setting, copy);
    return KD_OK;
}

static enum kd_status set_tree(const struct kd_option *option,
                               struct kd_setting *setting, const char *text,
                               const char *place)
{
    struct kd_yaml *tree = NULL;
    enum kd_status status = kd_yaml_parse(text, place, &tree);

    if (status == KD_ERECIPE) /* it is the command line that is wrong */
        return KD_EUSAGE;
    if (status == KD_OK)
        own_value(option, setting, tree);
    return status;
}

static enum kd_status set_any(const struct kd_option *option,
                              struct kd_setting *setting, const char *text,
                              const char *place)
{
    switch (option->type) {
    case KD_OPTION_FLAG:
        return set_flag(option, text, place);
    case KD_OPTION_STRING:
        return set_string(option, setting, text);
    case KD_OPTION_U64:
        return set_u64(option, text, place);
    case KD_OPTION_F64:
        return set_f64(option, text, place);
    case KD_OPTION_CHOICE:
        return set_choice(option, text, place);
    case KD_OPTION_YAML:
        return set_tree(option, setting, text, place);
    }
    return kd_fail(KD_EBUG, "%s: an option of no known type", place);
}

enum kd_status kd_option_set_text(struct kd_program_state *state, size_t index,
                                  const char *text, enum kd_source source,
                                  const char *place)
{
    struct kd_setting *setting = &state->settings[index];
    enum kd_status status = set_any(&state->options[index], setting, text, place);

    if (status == KD_OK)
        setting->source = source;
    return status;
}

/* [a, b] is "a,b". */
static enum kd_status set_list(const struct kd_option *option,
                               struct kd_setting *setting, const struct kd_yaml *list)
{
    struct kd_yaml *joined = NULL;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_yaml_copy(list, &joined));
    KD_TRY(kd_yaml_join(joined));
    KD_TRY(set_string(option, setting, joined->scalar));
out:
    kd_yaml_free(joined);
    return status;
}

static enum kd_status set_scalar(const struct kd_option *option,
                                 struct kd_setting *setting, const struct kd_yaml *node)
{
    enum kd_status status = KD_EBUG;
    char *place = NULL;

    if (option->type == KD_OPTION_STRING && node->kind == KD_YAML_SEQUENCE)
        return set_list(option, setting, node);
    if (node->kind != KD_YAML_SCALAR)
        return kd_yaml_fail(node, "%s: expected one value, not a %s",
                            kd_option_key(option),
                            node->kind == KD_YAML_MAPPING ? "mapping" : "list");
    place = kd_format("%s:%zu:%zu: %s", node->file, node->line, node->column,
                      kd_option_key(option));
    if (place == NULL)
        return KD_EMEMORY;
    status = set_any(option, setting, node->scalar, place);
    free(place);
    return status == KD_EUSAGE ? KD_ERECIPE : status;
}

enum kd_status kd_option_set_node(struct kd_program_state *state, size_t index,
                                  const struct kd_yaml *node)
{
    enum kd_status status = KD_EBUG;
    const struct kd_option *option = &state->options[index];
    struct kd_setting *setting = &state->settings[index];

    if (kd_yaml_is_null(node)) /* "key:" and nothing: as if it did not stand there */
        return KD_OK;
    if (option->type == KD_OPTION_YAML) {
        struct kd_yaml *tree = NULL;
        KD_TRY(kd_yaml_copy(node, &tree));
        own_value(option, setting, tree);
    } else {
        KD_TRY(set_scalar(option, setting, node));
    }
    setting->source = KD_FROM_YAML;
    setting->line = node->line;
    status = KD_OK;
out:
    return status;
}

void kd_option_put_value(struct kd_text *text, const struct kd_option *option)
{
    char number[KD_TEXT_F64];
    const char *string = NULL;
    char *tree = NULL;

    switch (option->type) {
    case KD_OPTION_FLAG:
        kd_text_put(text, *(bool *)option->value ? "true" : "false");
        break;
    case KD_OPTION_STRING:
        string = *(char **)option->value;
        kd_text_put(text, string != NULL ? string : "");
        break;
    case KD_OPTION_U64:
        kd_text_format(text, "%" PRIu64, *(uint64_t *)option->value);
        break;
    case KD_OPTION_F64:
        kd_text_f64(*(double *)option->value, number);
        kd_text_put(text, number);
        break;
    case KD_OPTION_CHOICE:
        kd_text_put(text, option->choices[*(int *)option->value]);
        break;
    case KD_OPTION_YAML:
        if (*(struct kd_yaml **)option->value == NULL)
            break;
        tree = kd_yaml_text(*(struct kd_yaml **)option->value);
        if (tree != NULL)
            kd_text_put(text, tree);
        else
            text->status = KD_EMEMORY;
        free(tree);
        break;
    }
}

bool kd_option_is_unset(const struct kd_option *option)
{
    switch (option->type) {
    case KD_OPTION_STRING:
    case KD_OPTION_YAML:
        return *(void **)option->value == NULL;
    case KD_OPTION_CHOICE:
        return *(int *)option->value < 0;
    case KD_OPTION_U64:
        return (double)*(uint64_t *)option->value < option->min;
    case KD_OPTION_F64:
        return *(double *)option->value < option->min && option->max != 0;
    default:
        return false;
    }
}

void kd_option_put_yaml(struct kd_text *text, const struct kd_option *option,
                        size_t indent, const char *comment)
{
    struct kd_text value = {0};
    struct kd_yaml node = {.kind = KD_YAML_SCALAR};
    bool is_text = option->type == KD_OPTION_STRING || option->type == KD_OPTION_CHOICE;

    if (option->type == KD_OPTION_YAML && !kd_option_is_unset(option)) {
        kd_yaml_put_value(text, *(struct kd_yaml **)option->value, indent, comment);
        return;
    }
    kd_text_put(&value, ""); /* so that there are bytes */
    if (kd_option_is_unset(option))
        kd_text_put(&value, "null");
    else
        kd_option_put_value(&value, option);
    if (value.status == KD_OK) {
        node.scalar = value.bytes;
        node.quoted =
            !kd_option_is_unset(option) && is_text && kd_yaml_looks_typed(value.bytes);
        kd_yaml_put_value(text, &node, indent, comment);
    } else {
        text->status = value.status;
    }
    free(value.bytes);
}

void kd_option_environment(const struct kd_option *option,
                           char name[KD_ENVIRONMENT_NAME])
{
    size_t length = 3;

    memcpy(name, "KD_", 3);
    for (const char *c = option->name; *c != '\0' && length < KD_ENVIRONMENT_NAME - 1;
         c++)
        name[length++] = (char)(*c == '-' ? '_' : toupper((unsigned char)*c));
    name[length] = '\0';
}
