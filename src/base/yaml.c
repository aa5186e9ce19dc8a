/* SPDX-License-Identifier: MIT */
/* YAML: the tree in memory; finding, copying, and typed reading of its nodes. */
#include "kd/yaml.h"

#include "base/yaml_internal.h"
#include "kd/memory.h"
#include "kd/options.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void kd_yaml_free_node(struct kd_yaml *node)
{
    if (node == NULL)
        return;
    for (size_t i = 0; i < node->count; i++) {
        kd_yaml_free_node(node->items[i]);
        if (node->keys != NULL)
            free(node->keys[i]);
    }
    free(node->items);
    free(node->keys);
    free(node->scalar);
    free(node);
}

void kd_yaml_free(struct kd_yaml *root)
{
    char *file = NULL;

    if (root == NULL)
        return;
    file = (char *)(uintptr_t)root->file; /* the root's, and not const to it */
    kd_yaml_free_node(root);
    free(file);
}

static enum kd_status copy_node(const struct kd_yaml *from, const char *file,
                                struct kd_yaml **to);

static enum kd_status copy_children(const struct kd_yaml *from, struct kd_yaml *to)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(KD_NEW(to->items, from->count));
    if (from->kind == KD_YAML_MAPPING)
        KD_TRY(KD_NEW(to->keys, from->count));
    to->count = from->count;
    for (size_t i = 0; i < from->count; i++) {
        KD_TRY(copy_node(from->items[i], to->file, &to->items[i]));
        if (to->keys != NULL && (to->keys[i] = kd_copy_string(from->keys[i])) == NULL) {
            status = KD_EMEMORY;
            goto out;
        }
    }
    status = KD_OK;
out:
    return status;
}

/* What was copied before a failure hangs in *to, for the root to be freed. */
static enum kd_status copy_node(const struct kd_yaml *from, const char *file,
                                struct kd_yaml **to)
{
    enum kd_status status = KD_EBUG;
    struct kd_yaml *node = NULL;

    KD_TRY(KD_NEW(node, 1));
    *to = node;
    *node = *from;
    node->file = file;
    node->scalar = NULL;
    node->items = NULL;
    node->keys = NULL;
    node->count = 0;
    if (from->kind != KD_YAML_SCALAR)
        KD_TRY(copy_children(from, node));
    else if ((node->scalar = kd_copy_string(from->scalar)) == NULL)
        return KD_EMEMORY;
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_yaml_copy(const struct kd_yaml *from, struct kd_yaml **to)
{
    enum kd_status status = KD_EBUG;
    char *file = NULL;

    *to = NULL;
    file = kd_copy_string(from->file);
    if (file == NULL)
        return KD_EMEMORY;
    KD_TRY(copy_node(from, file, to));
    file = NULL;
out:
    if (status != KD_OK) {
        kd_yaml_free_node(*to);
        *to = NULL;
    }
    free(file);
    return status;
}

static enum kd_status check_item(const struct kd_yaml *item)
{
    if (item->kind != KD_YAML_SCALAR || kd_yaml_is_null(item))
        return kd_yaml_fail(item, "expected one value for each item of the list");
    if (strchr(item->scalar, ',') != NULL)
        return kd_yaml_fail(item,
                            "'%s': an item of a list has no comma: its parts are "
                            "items of their own",
                            item->scalar);
    return KD_OK;
}

static void become_scalar(struct kd_yaml *node, char *scalar)
{
    for (size_t i = 0; i < node->count; i++)
        kd_yaml_free_node(node->items[i]);
    free(node->items);
    node->items = NULL;
    node->count = 0;
    node->kind = KD_YAML_SCALAR;
    node->scalar = scalar;
    node->quoted = true; /* whatever it reads, it is a text */
}

enum kd_status kd_yaml_join(struct kd_yaml *node)
{
    struct kd_text text = {0};
    enum kd_status status = KD_EBUG;

    if (node->kind == KD_YAML_SCALAR)
        return KD_OK;
    if (node->kind == KD_YAML_MAPPING)
        return kd_yaml_fail(node,
                            "expected one value or a list of them, not a mapping");
    if (node->count == 0)
        return kd_yaml_fail(node, "the list is empty");
    for (size_t i = 0; i < node->count; i++) {
        KD_TRY(check_item(node->items[i]));
        kd_text_format(&text, "%s%s", i == 0 ? "" : ",", node->items[i]->scalar);
    }
    KD_TRY(text.status);
    become_scalar(node, text.bytes);
    text.bytes = NULL;
    status = KD_OK;
out:
    free(text.bytes);
    return status;
}

bool kd_yaml_is_null(const struct kd_yaml *node)
{
    return node->kind == KD_YAML_SCALAR && !node->quoted &&
           strcmp(node->scalar, "null") == 0;
}

/* The value of a key that is given by its first `length` bytes. */
static const struct kd_yaml *get_part(const struct kd_yaml *map, const char *key,
                                      size_t length)
{
    if (map == NULL || map->kind != KD_YAML_MAPPING)
        return NULL;
    for (size_t i = 0; i < map->count; i++)
        if (strncmp(map->keys[i], key, length) == 0 && map->keys[i][length] == '\0')
            return map->items[i];
    return NULL;
}

const struct kd_yaml *kd_yaml_get(const struct kd_yaml *map, const char *key)
{
    return get_part(map, key, strlen(key));
}

const struct kd_yaml *kd_yaml_find(const struct kd_yaml *map, const char *path)
{
    for (;;) {
        size_t length = strcspn(path, ".");
        map = get_part(map, path, length);
        if (path[length] == '\0')
            return map;
        path += length + 1;
    }
}

enum kd_status kd_yaml_fail(const struct kd_yaml *node, const char *format, ...)
{
    char text[4096];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return kd_fail(KD_ERECIPE, "%s:%zu:%zu: %s", node->file, node->line, node->column,
                   text);
}

/* What stands there instead of what was expected. */
static enum kd_status fail_expected(const struct kd_yaml *node, const char *expected)
{
    if (node->kind == KD_YAML_SEQUENCE)
        return kd_yaml_fail(node, "a list: expected %s", expected);
    if (node->kind == KD_YAML_MAPPING)
        return kd_yaml_fail(node, "a mapping: expected %s", expected);
    if (kd_yaml_is_null(node))
        return kd_yaml_fail(node, "no value: expected %s", expected);
    return kd_yaml_fail(node, "'%s': expected %s", node->scalar, expected);
}

enum kd_status kd_yaml_u64(const struct kd_yaml *node, uint64_t min, uint64_t max,
                           uint64_t *value)
{
    char expected[KD_TEXT_RANGE];

    if (node->kind == KD_YAML_SCALAR && kd_parse_u64(node->scalar, min, max, value))
        return KD_OK;
    kd_text_range_u64(min, max, expected);
    return fail_expected(node, expected);
}

enum kd_status kd_yaml_f64(const struct kd_yaml *node, double min, double max,
                           double *value)
{
    char expected[KD_TEXT_RANGE];

    if (node->kind == KD_YAML_SCALAR && kd_parse_f64(node->scalar, min, max, value))
        return KD_OK;
    kd_text_range_f64(min, max, expected);
    return fail_expected(node, expected);
}

enum kd_status kd_yaml_bool(const struct kd_yaml *node, bool *value)
{
    bool yes = node->kind == KD_YAML_SCALAR && strcmp(node->scalar, "true") == 0;
    bool no = node->kind == KD_YAML_SCALAR && strcmp(node->scalar, "false") == 0;

    if (!yes && !no)
        return fail_expected(node, "true or false");
    *value = yes;
    return KD_OK;
}

enum kd_status kd_yaml_string(const struct kd_yaml *node, const char **value)
{
    if (node->kind != KD_YAML_SCALAR || kd_yaml_is_null(node))
        return fail_expected(node, "a text");
    *value = node->scalar;
    return KD_OK;
}

enum kd_status kd_yaml_choice(const struct kd_yaml *node, const char *const *choices,
                              int *value)
{
    enum kd_status status = KD_EBUG;
    struct kd_text expected = {0};

    for (int i = 0; node->kind == KD_YAML_SCALAR && choices[i] != NULL; i++)
        if (strcmp(node->scalar, choices[i]) == 0) {
            *value = i;
            return KD_OK;
        }
    kd_text_put(&expected, "one of");
    for (int i = 0; choices[i] != NULL; i++)
        kd_text_format(&expected, "%s %s", i == 0 ? "" : ",", choices[i]);
    KD_TRY(expected.status);
    status = fail_expected(node, expected.bytes);
out:
    free(expected.bytes);
    return status;
}

static bool has_word(const char *const *words, const char *word)
{
    for (; *words != NULL; words++)
        if (strcmp(*words, word) == 0)
            return true;
    return false;
}

enum kd_status kd_yaml_only_keys(const struct kd_yaml *map, const char *const *keys)
{
    if (map->kind != KD_YAML_MAPPING)
        return fail_expected(map, "a mapping");
    for (size_t i = 0; i < map->count; i++) {
        struct kd_yaml place = *map->items[i];
        const char *nearest = NULL;
        if (has_word(keys, map->keys[i]))
            continue;
        place.line = place.key_line;
        place.column = place.key_column;
        nearest = kd_nearest_word(map->keys[i], keys);
        if (nearest == NULL)
            return kd_yaml_fail(&place, "unknown key '%s'", map->keys[i]);
        return kd_yaml_fail(&place, "unknown key '%s'; did you mean '%s'?",
                            map->keys[i], nearest);
    }
    return KD_OK;
}
