/* SPDX-License-Identifier: MIT */
/* YAML in: libyaml's events into a tree. Files are not trusted: their size, their
 * depth and the number of their nodes are bounded, and what is no plain data
 * (anchors, aliases, tags, further documents) is refused. */
#include "base/yaml_internal.h"
#include "kd/file.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct loader {
    yaml_parser_t parser;
    yaml_event_t event; /* the one that is looked at */
    bool has_event;
    const char *file;
    size_t nodes;
};

static enum kd_status fail_at(const struct loader *loader, yaml_mark_t mark,
                              const char *what)
{
    return kd_fail(KD_ERECIPE, "%s:%zu:%zu: %s", loader->file, mark.line + 1,
                   mark.column + 1, what);
}

static enum kd_status fail_here(const struct loader *loader, const char *what)
{
    return fail_at(loader, loader->event.start_mark, what);
}

/* What libyaml says, with a place: it knows none for bytes that are no text. */
static enum kd_status fail_syntax(const struct loader *loader)
{
    const yaml_parser_t *parser = &loader->parser;

    if (parser->error == YAML_MEMORY_ERROR)
        return kd_fail(KD_EMEMORY, "%s: out of memory", loader->file);
    if (parser->error == YAML_READER_ERROR)
        return kd_fail(KD_ERECIPE, "%s:%zu:%zu: byte %zu: %s: not a text in UTF-8",
                       loader->file, parser->mark.line + 1, parser->mark.column + 1,
                       parser->problem_offset, parser->problem);
    if (parser->context == NULL)
        return fail_at(loader, parser->problem_mark, parser->problem);
    return kd_fail(KD_ERECIPE, "%s:%zu:%zu: no YAML: %s (%s from line %zu)",
                   loader->file, parser->problem_mark.line + 1,
                   parser->problem_mark.column + 1, parser->problem, parser->context,
                   parser->context_mark.line + 1);
}

static enum kd_status next_event(struct loader *loader)
{
    if (loader->has_event)
        yaml_event_delete(&loader->event);
    loader->has_event = false;
    if (!yaml_parser_parse(&loader->parser, &loader->event))
        return fail_syntax(loader);
    loader->has_event = true;
    return KD_OK;
}

/* Anchors and tags stand at the beginning of the three kinds of nodes. */
static enum kd_status refuse_more_than_data(const struct loader *loader)
{
    const yaml_event_t *event = &loader->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;

    if (event->type == YAML_ALIAS_EVENT)
        return fail_here(loader, "an alias: write the value out");
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (anchor != NULL)
        return fail_here(loader, "an anchor: write the value out where it is used");
    if (tag != NULL)
        return fail_here(loader, "a tag: leave it out, types come from the context");
    return KD_OK;
}

static enum kd_status new_node(struct loader *loader, enum kd_yaml_kind kind,
                               struct kd_yaml **node)
{
    if (++loader->nodes > KD_YAML_MAX_NODES)
        return fail_here(loader, "too many values: this is no recipe");
    if (KD_NEW(*node, 1) != KD_OK)
        return KD_EMEMORY;
    (*node)->kind = kind;
    (*node)->file = loader->file;
    (*node)->line = loader->event.start_mark.line + 1;
    (*node)->column = loader->event.start_mark.column + 1;
    return KD_OK;
}

static bool reads_as_null(const char *text)
{
    return *text == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0 ||
           strcmp(text, "Null") == 0 || strcmp(text, "NULL") == 0;
}

static enum kd_status load_scalar(struct loader *loader, struct kd_yaml *node)
{
    const char *text = (const char *)loader->event.data.scalar.value;

    if (strlen(text) != loader->event.data.scalar.length)
        return fail_here(loader, "a zero byte in a text");
    node->quoted = loader->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (!node->quoted && reads_as_null(text))
        text = "null";
    node->scalar = kd_copy_string(text);
    return node->scalar != NULL ? KD_OK : KD_EMEMORY;
}

static enum kd_status load_node(struct loader *loader, size_t depth,
                                struct kd_yaml **node);

/* `room` counts what items and keys have been grown to. */
static enum kd_status grow_children(struct kd_yaml *node, size_t room[2])
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_grow(&node->items, &room[0], node->count + 1, sizeof *node->items));
    node->items[node->count] = NULL;
    if (node->kind == KD_YAML_MAPPING) {
        KD_TRY(kd_grow(&node->keys, &room[1], node->count + 1, sizeof *node->keys));
        node->keys[node->count] = NULL;
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status load_sequence(struct loader *loader, size_t depth,
                                    struct kd_yaml *node)
{
    enum kd_status status = KD_EBUG;
    size_t room[2] = {0};

    for (;;) {
        KD_TRY(next_event(loader));
        if (loader->event.type == YAML_SEQUENCE_END_EVENT)
            break;
        KD_TRY(grow_children(node, room));
        node->count++;
        KD_TRY(load_node(loader, depth + 1, &node->items[node->count - 1]));
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status load_key(struct loader *loader, char **key)
{
    const char *text = NULL;

    if (loader->event.type == YAML_SEQUENCE_START_EVENT ||
        loader->event.type == YAML_MAPPING_START_EVENT)
        return fail_here(loader, "a key that is no text");
    if (refuse_more_than_data(loader) != KD_OK)
        return KD_ERECIPE;
    text = (const char *)loader->event.data.scalar.value;
    if (strlen(text) != loader->event.data.scalar.length)
        return fail_here(loader, "a zero byte in a key");
    if (*text == '\0')
        return fail_here(loader, "a value without a key");
    if (strlen(text) > KD_YAML_MAX_KEY)
        return fail_here(loader, "a key that is too long");
    *key = kd_copy_string(text);
    return *key != NULL ? KD_OK : KD_EMEMORY;
}

struct key_place {
    const char *key;
    const struct kd_yaml *value;
};

static bool stands_before(const struct kd_yaml *a, const struct kd_yaml *b)
{
    return a->key_line < b->key_line ||
           (a->key_line == b->key_line && a->key_column < b->key_column);
}

static int compare_keys(const void *a, const void *b)
{
    const struct key_place *left = a, *right = b;
    int order = strcmp(left->key, right->key);

    if (order != 0)
        return order;
    return stands_before(left->value, right->value) ? -1 : 1;
}

static enum kd_status fail_duplicate(const struct key_place *first,
                                     const struct key_place *second)
{
    struct kd_yaml place = *second->value;

    place.line = place.key_line;
    place.column = place.key_column;
    return kd_yaml_fail(&place, "key '%s' stands twice: it is in line %zu already",
                        second->key, first->value->key_line);
}

static enum kd_status refuse_duplicates(const struct kd_yaml *map)
{
    enum kd_status status = KD_EBUG;
    struct key_place *places = NULL; /* [map->count] */

    KD_TRY(KD_NEW(places, map->count));
    for (size_t i = 0; i < map->count; i++)
        places[i] = (struct key_place){map->keys[i], map->items[i]};
    qsort(places, map->count, sizeof *places, compare_keys);
    for (size_t i = 1; i < map->count; i++)
        if (strcmp(places[i - 1].key, places[i].key) == 0) {
            status = fail_duplicate(&places[i - 1], &places[i]);
            goto out;
        }
    status = KD_OK;
out:
    free(places);
    return status;
}

static enum kd_status load_mapping(struct loader *loader, size_t depth,
                                   struct kd_yaml *node)
{
    enum kd_status status = KD_EBUG;
    size_t room[2] = {0};

    for (;;) {
        yaml_mark_t mark;
        struct kd_yaml **item = NULL;

        KD_TRY(next_event(loader));
        if (loader->event.type == YAML_MAPPING_END_EVENT)
            break;
        mark = loader->event.start_mark;
        KD_TRY(grow_children(node, room));
        node->count++;
        item = &node->items[node->count - 1];
        KD_TRY(load_key(loader, &node->keys[node->count - 1]));
        KD_TRY(next_event(loader));
        KD_TRY(load_node(loader, depth + 1, item));
        (*item)->key_line = mark.line + 1;
        (*item)->key_column = mark.column + 1;
    }
    KD_TRY(refuse_duplicates(node));
    status = KD_OK;
out:
    return status;
}

/* What was built before a failure hangs in *node, for the root to be freed. */
static enum kd_status load_node(struct loader *loader, size_t depth,
                                struct kd_yaml **node)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(refuse_more_than_data(loader));
    if (depth > KD_YAML_MAX_DEPTH)
        return fail_here(loader, "nested too deep");
    if (loader->event.type == YAML_SCALAR_EVENT) {
        KD_TRY(new_node(loader, KD_YAML_SCALAR, node));
        KD_TRY(load_scalar(loader, *node));
    } else if (loader->event.type == YAML_SEQUENCE_START_EVENT) {
        KD_TRY(new_node(loader, KD_YAML_SEQUENCE, node));
        KD_TRY(load_sequence(loader, depth, *node));
    } else {
        KD_TRY(new_node(loader, KD_YAML_MAPPING, node));
        KD_TRY(load_mapping(loader, depth, *node));
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status load_stream(struct loader *loader, struct kd_yaml **root)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(next_event(loader)); /* the stream starts */
    KD_TRY(next_event(loader));
    if (loader->event.type == YAML_STREAM_END_EVENT)
        return new_node(loader, KD_YAML_MAPPING, root);
    KD_TRY(next_event(loader)); /* the document has started */
    KD_TRY(load_node(loader, 1, root));
    KD_TRY(next_event(loader)); /* the document ends */
    KD_TRY(next_event(loader));
    if (loader->event.type != YAML_STREAM_END_EVENT)
        return fail_here(loader, "a second document in one file");
    status = KD_OK;
out:
    return status;
}

/* A document without anything in it ("---", or comments only) is empty too. */
static void empty_to_mapping(struct kd_yaml *root)
{
    if (!kd_yaml_is_null(root))
        return;
    free(root->scalar);
    root->scalar = NULL;
    root->kind = KD_YAML_MAPPING;
}

static enum kd_status load_bytes(const char *bytes, size_t size, const char *name,
                                 struct kd_yaml **root)
{
    enum kd_status status = KD_EBUG;
    struct loader loader = {0};
    char *file = NULL;

    *root = NULL;
    file = kd_copy_string(name);
    if (file == NULL)
        return KD_EMEMORY;
    loader.file = file;
    if (!yaml_parser_initialize(&loader.parser)) {
        free(file);
        return kd_fail(KD_EMEMORY, "%s: out of memory", name);
    }
    yaml_parser_set_encoding(&loader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&loader.parser, (const unsigned char *)bytes, size);
    KD_TRY(load_stream(&loader, root));
    empty_to_mapping(*root);
    file = NULL;
out:
    if (status != KD_OK) {
        kd_yaml_free_node(*root);
        *root = NULL;
    }
    if (loader.has_event)
        yaml_event_delete(&loader.event);
    yaml_parser_delete(&loader.parser);
    free(file);
    return status;
}

enum kd_status kd_yaml_load(const char *path, struct kd_yaml **root)
{
    enum kd_status status = KD_EBUG;
    char *bytes = NULL;
    size_t size = 0;

    *root = NULL;
    KD_TRY(kd_file_read(path, KD_YAML_MAX_BYTES, &bytes, &size));
    KD_TRY(load_bytes(bytes, size, path, root));
out:
    free(bytes);
    return status;
}

enum kd_status kd_yaml_parse(const char *text, const char *name, struct kd_yaml **root)
{
    return load_bytes(text, strlen(text), name, root);
}
