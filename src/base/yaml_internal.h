/* SPDX-License-Identifier: MIT */
/* What the reader and the writer of YAML share with the options. */
#ifndef KD_YAML_INTERNAL_H
#define KD_YAML_INTERNAL_H

#include "base/text_internal.h"
#include "kd/yaml.h"

#define KD_YAML_MAX_DEPTH 64
#define KD_YAML_MAX_NODES 200000
#define KD_YAML_MAX_BYTES ((size_t)16 << 20)

/* So that a key, its escapes counted, stays under libyaml's 1024. */
#define KD_YAML_MAX_KEY 160

/* The nodes below, and the node: all of a tree but its file name. */
void kd_yaml_free_node(struct kd_yaml *node);

/* Appends a scalar as it is written in both block and flow style; `quoted` says
 * that it is a text even if it looks like a number. */
void kd_yaml_put_scalar(struct kd_text *text, const char *scalar, bool quoted);

/* Appends the value behind "key:" that stands `indent` columns in: " text\n", or
 * a line end and an indented block. `comment` goes behind the first line; NULL. */
void kd_yaml_put_value(struct kd_text *text, const struct kd_yaml *node, size_t indent,
                       const char *comment);

/* Whether a plain scalar would be read as a number, a boolean or null. */
bool kd_yaml_looks_typed(const char *scalar);

#endif
