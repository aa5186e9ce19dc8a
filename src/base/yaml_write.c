/* SPDX-License-Identifier: MIT */
/* YAML out: a tree as block or flow style, quoted where a reader would see
 * something else in it. */
#include "base/yaml_internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Characters that YAML lets stand as they are; line ends and others are escaped. */
static bool stands_as_it_is(uint32_t code)
{
    if (code < 0x80)
        return code >= ' ' && code < 0x7f;
    return code >= 0xa0 && code != 0x2028 && code != 0x2029 && code != 0xfeff &&
           code != 0xfffe && code != 0xffff;
}

static bool all_stand_as_they_are(const char *scalar)
{
    while (*scalar != '\0') {
        uint32_t code = 0;
        size_t length = kd_text_utf8(scalar, &code);
        if (length == 0 || !stands_as_it_is(code))
            return false;
        scalar += length;
    }
    return true;
}

/* A little stricter than YAML, so that it holds in flow style and as a key. */
static bool may_be_plain(const char *scalar)
{
    size_t length = strlen(scalar);
    bool dash = scalar[0] == '-' && isalnum((unsigned char)scalar[1]);

    if (length == 0 || (strchr("-?:!&*|>'\"%@`# ~", scalar[0]) != NULL && !dash))
        return false;
    if (scalar[length - 1] == ' ' || scalar[length - 1] == ':')
        return false;
    if (strncmp(scalar, "...", 3) == 0 || strpbrk(scalar, ",[]{}?") != NULL)
        return false;
    return strstr(scalar, ": ") == NULL && strstr(scalar, " #") == NULL;
}

static void put_single_quoted(struct kd_text *text, const char *scalar)
{
    kd_text_put(text, "'");
    for (; *scalar != '\0'; scalar++)
        kd_text_add(text, *scalar == '\'' ? "''" : scalar, *scalar == '\'' ? 2 : 1);
    kd_text_put(text, "'");
}

/* Bytes that are no UTF-8, which only a command line can bring, become the
 * characters of their number: YAML has no bytes. */
static void put_double_quoted(struct kd_text *text, const char *scalar)
{
    kd_text_put(text, "\"");
    while (*scalar != '\0') {
        uint32_t code = 0;
        size_t length = kd_text_utf8(scalar, &code);
        if (length == 0)
            kd_text_format(text, "\\x%02X", (unsigned)(unsigned char)*scalar);
        else if (code == '"' || code == '\\')
            kd_text_format(text, "\\%c", *scalar);
        else if (code == '\n')
            kd_text_put(text, "\\n");
        else if (!stands_as_it_is(code))
            kd_text_format(text, "\\u%04" PRIX32, code);
        else
            kd_text_add(text, scalar, length);
        scalar += length == 0 ? 1 : length;
    }
    kd_text_put(text, "\"");
}

void kd_yaml_put_scalar(struct kd_text *text, const char *scalar, bool quoted)
{
    if (!all_stand_as_they_are(scalar))
        put_double_quoted(text, scalar);
    else if (quoted || !may_be_plain(scalar))
        put_single_quoted(text, scalar);
    else
        kd_text_put(text, scalar);
}

bool kd_yaml_looks_typed(const char *scalar)
{
    static const char *const words[] = {"true", "false", "null", "yes", "no", "on",
                                        "off",  "y",     "n",    "~",   ""};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t length = strlen(words[i]), same = 0;
        while (same < length && tolower((unsigned char)scalar[same]) == words[i][same])
            same++;
        if (same == length && scalar[length] == '\0')
            return true;
    }
    /* all that could be a number, a date or a time to some reader */
    return strchr("0123456789+-.", scalar[0]) != NULL &&
           scalar[strspn(scalar, "0123456789abcdefABCDEFxo_+-.: ")] == '\0';
}

static void put_indent(struct kd_text *text, size_t indent)
{
    for (size_t i = 0; i < indent; i++)
        kd_text_put(text, " ");
}

static void put_comment(struct kd_text *text, const char *comment)
{
    if (comment != NULL)
        kd_text_format(text, "  # %s", comment);
    kd_text_put(text, "\n");
}

static const char *empty_text(const struct kd_yaml *node)
{
    return node->kind == KD_YAML_MAPPING ? "{}" : "[]";
}

/* The lines of a mapping or sequence that is not empty; `inline_first` where the
 * cursor already stands at the first line's place, behind "- ". */
static void put_block(struct kd_text *text, const struct kd_yaml *node, size_t indent,
                      bool inline_first);

static void put_item(struct kd_text *text, const struct kd_yaml *item, size_t indent)
{
    kd_text_put(text, "-");
    if (item->kind == KD_YAML_SCALAR || item->count == 0) {
        kd_yaml_put_value(text, item, indent, NULL);
    } else {
        kd_text_put(text, " ");
        put_block(text, item, indent + 2, true);
    }
}

static void put_block(struct kd_text *text, const struct kd_yaml *node, size_t indent,
                      bool inline_first)
{
    for (size_t i = 0; i < node->count; i++) {
        if (i > 0 || !inline_first)
            put_indent(text, indent);
        if (node->kind == KD_YAML_SEQUENCE) {
            put_item(text, node->items[i], indent);
        } else {
            kd_yaml_put_scalar(text, node->keys[i], false);
            kd_text_put(text, ":");
            kd_yaml_put_value(text, node->items[i], indent, NULL);
        }
    }
}

void kd_yaml_put_value(struct kd_text *text, const struct kd_yaml *node, size_t indent,
                       const char *comment)
{
    if (node->kind == KD_YAML_SCALAR) {
        kd_text_put(text, " ");
        kd_yaml_put_scalar(text, node->scalar, node->quoted);
        put_comment(text, comment);
    } else if (node->count == 0) {
        kd_text_format(text, " %s", empty_text(node));
        put_comment(text, comment);
    } else {
        put_comment(text, comment);
        put_block(text, node, indent + 2, false);
    }
}

static void put_flow(struct kd_text *text, const struct kd_yaml *node)
{
    if (node->kind == KD_YAML_SCALAR) {
        kd_yaml_put_scalar(text, node->scalar, node->quoted);
        return;
    }
    kd_text_put(text, node->kind == KD_YAML_MAPPING ? "{" : "[");
    for (size_t i = 0; i < node->count; i++) {
        kd_text_put(text, i == 0 ? "" : ", ");
        if (node->kind == KD_YAML_MAPPING) {
            kd_yaml_put_scalar(text, node->keys[i], false);
            kd_text_put(text, ": ");
        }
        put_flow(text, node->items[i]);
    }
    kd_text_put(text, node->kind == KD_YAML_MAPPING ? "}" : "]");
}

enum kd_status kd_yaml_write(const struct kd_yaml *node, FILE *to)
{
    enum kd_status status = KD_EBUG;
    struct kd_text text = {0};

    if (node->kind == KD_YAML_SCALAR || node->count == 0) {
        put_flow(&text, node);
        kd_text_put(&text, "\n");
    } else {
        put_block(&text, node, 0, false);
    }
    KD_TRY(kd_text_write(&text, to));
out:
    free(text.bytes);
    return status;
}

char *kd_yaml_text(const struct kd_yaml *node)
{
    struct kd_text text = {0};

    put_flow(&text, node);
    if (text.status != KD_OK) {
        free(text.bytes);
        return NULL;
    }
    return text.bytes;
}
