/* SPDX-License-Identifier: MIT */
/*
 * YAML: a recipe or configuration as a tree whose every node knows its place.
 *
 *     struct kd_yaml *root = NULL;
 *     KD_TRY(kd_yaml_load("recipe.yaml", &root));
 *     KD_TRY(kd_yaml_only_keys(root, keys, num_keys));
 *     const struct kd_yaml *lr = kd_yaml_get(root, "lr");
 *     if (lr != NULL)
 *         KD_TRY(kd_yaml_f64(lr, 0, 100, &rate));
 *     ...
 *     kd_yaml_free(root);
 *
 * Errors are KD_ERECIPE and read "FILE:LINE:COLUMN: ...". Anchors, aliases,
 * tags and several documents in one file are refused: a recipe is data. A key
 * that stands twice in one mapping is refused too; so are keys over 160 bytes,
 * nesting over 64 levels, more than 200,000 nodes or 16 MiB.
 */
#ifndef KD_YAML_H
#define KD_YAML_H

#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum kd_yaml_kind { KD_YAML_SCALAR, KD_YAML_SEQUENCE, KD_YAML_MAPPING };

struct kd_yaml {
    enum kd_yaml_kind kind;
    const char *file;            /* shared by the tree, for messages */
    size_t line;                 /* from 1 */
    size_t column;               /* from 1 */
    size_t key_line, key_column; /* where the key of this value stands; else 0 */
    char *scalar; /* KD_YAML_SCALAR: its text; "null" for nothing, ~ and null */
    bool quoted;  /* it stood in quotes or in a block: a text, whatever it reads */
    size_t count; /* children of a sequence or mapping */
    struct kd_yaml **items; /* [count] values */
    char **keys;            /* [count] of a mapping, in the order of the file */
};

/* Reads a file, or a text that stands for one (`name` is used in messages:
 * "--network"). The caller frees *root with kd_yaml_free, which takes roots only
 * (and NULL). An empty file gives an empty mapping. KD_ENOINPUT where there is no
 * such file. */
enum kd_status kd_yaml_load(const char *path, struct kd_yaml **root) KD_CHECKED;
enum kd_status kd_yaml_parse(const char *text, const char *name,
                             struct kd_yaml **root) KD_CHECKED;
void kd_yaml_free(struct kd_yaml *root);

/* A deep copy, owned by the caller. */
enum kd_status kd_yaml_copy(const struct kd_yaml *from, struct kd_yaml **to) KD_CHECKED;

/* Makes one scalar of a list of scalars, "a,b,c" of [a, b, c]; a scalar stays as it is.
 * Refuses a mapping, an empty list, and an item that is a list, is null or has a comma
 * itself. */
enum kd_status kd_yaml_join(struct kd_yaml *node) KD_CHECKED;

/* Whether it is nothing, ~ or null: a key without a value. */
bool kd_yaml_is_null(const struct kd_yaml *node);

/* The value of a key; NULL where `map` is NULL, no mapping, or lacks it.
 * kd_yaml_find takes a dotted path: "optimizer.lr". */
const struct kd_yaml *kd_yaml_get(const struct kd_yaml *map, const char *key);
const struct kd_yaml *kd_yaml_find(const struct kd_yaml *map, const char *path);

/* Typed reading, with bounds that include both ends. Integers may be written
 * 50000 or 50_000; floats must be finite; booleans are true and false only. A
 * string is any scalar but null, and lives as long as the tree. */
enum kd_status kd_yaml_u64(const struct kd_yaml *node, uint64_t min, uint64_t max,
                           uint64_t *value) KD_CHECKED;
enum kd_status kd_yaml_f64(const struct kd_yaml *node, double min, double max,
                           double *value) KD_CHECKED;
enum kd_status kd_yaml_bool(const struct kd_yaml *node, bool *value) KD_CHECKED;
enum kd_status kd_yaml_string(const struct kd_yaml *node,
                              const char **value) KD_CHECKED;

/* The index of the scalar among `choices` (ended by NULL). */
enum kd_status kd_yaml_choice(const struct kd_yaml *node, const char *const *choices,
                              int *value) KD_CHECKED;

/* Refuses any key of `map` that is not among `keys` (ended by NULL), naming the
 * nearest that is; refuses a node that is no mapping. */
enum kd_status kd_yaml_only_keys(const struct kd_yaml *map,
                                 const char *const *keys) KD_CHECKED;

/* KD_ERECIPE with "FILE:LINE:COLUMN: " in front of the message. */
enum kd_status kd_yaml_fail(const struct kd_yaml *node, const char *format, ...)
    KD_PRINTF(2, 3);

/* Writes the tree as block YAML, keys in their order; the same tree gives the
 * same bytes, and reading them the same tree. kd_yaml_text is the same in one
 * line of flow style, on the heap; NULL with a message set on failure. */
enum kd_status kd_yaml_write(const struct kd_yaml *node, FILE *to) KD_CHECKED;
char *kd_yaml_text(const struct kd_yaml *node) KD_CHECKED;

#endif
