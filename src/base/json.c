/* SPDX-License-Identifier: MIT */
/* JSON out: a text that grows, and a stack of what is open. */
#include "kd/json.h"

#include "base/text_internal.h"
#include "kd/memory.h"
#include "kd/options.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Deeper than this nobody of us writes. */
#define MAX_DEPTH 64

struct kd_json {
    struct kd_text text;
    char closing[MAX_DEPTH]; /* [depth] the bracket that closes each level */
    size_t depth;
    bool pretty;
    bool first;    /* nothing stands yet behind the bracket opened last */
    bool finished; /* the outermost value is whole */
};

enum kd_status kd_json_new(struct kd_json **json)
{
    return KD_NEW(*json, 1);
}

void kd_json_free(struct kd_json *json)
{
    if (json != NULL)
        free(json->text.bytes);
    free(json);
}

void kd_json_pretty(struct kd_json *json)
{
    assert(json->text.length == 0);
    json->pretty = true;
}

static void new_line(struct kd_json *json)
{
    if (!json->pretty)
        return;
    kd_text_put(&json->text, "\n");
    for (size_t i = 0; i < json->depth; i++)
        kd_text_put(&json->text, "  ");
}

static void put_character(struct kd_text *text, const char *bytes, size_t length,
                          uint32_t code)
{
    static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt";

    if (length == 0) { /* no UTF-8: a path may be any bytes, a JSON text may not */
        kd_text_put(text, "\xef\xbf\xbd");
        return;
    }
    for (const char *name = named; *name != '\0'; name += 2)
        if (code == (unsigned char)*name) {
            kd_text_format(text, "\\%c", name[1]);
            return;
        }
    if (code < ' ' || code == 0x7f)
        kd_text_format(text, "\\u%04" PRIx32, code);
    else
        kd_text_add(text, bytes, length);
}

static void put_string(struct kd_text *text, const char *value)
{
    kd_text_put(text, "\"");
    while (*value != '\0') {
        uint32_t code = 0;
        size_t length = kd_text_utf8(value, &code);
        put_character(text, value, length, code);
        value += length == 0 ? 1 : length;
    }
    kd_text_put(text, "\"");
}

/* What stands in front of a value: a comma, its place, its key. */
static void begin_value(struct kd_json *json, const char *key)
{
    bool in_object = json->depth > 0 && json->closing[json->depth - 1] == '}';

    assert(!json->finished);
    assert(in_object == (key != NULL));
    if (json->depth > 0) {
        if (!json->first)
            kd_text_put(&json->text, ",");
        new_line(json);
    }
    json->first = false;
    if (in_object) {
        put_string(&json->text, key);
        kd_text_put(&json->text, json->pretty ? ": " : ":");
    }
}

static void end_value(struct kd_json *json)
{
    json->finished = json->depth == 0;
}

void kd_json_begin(struct kd_json *json, const char *key, char bracket)
{
    const char opening[] = {bracket, '\0'};

    assert(bracket == '{' || bracket == '[');
    assert(json->depth < MAX_DEPTH);
    begin_value(json, key);
    kd_text_put(&json->text, opening);
    json->closing[json->depth++] = bracket == '{' ? '}' : ']';
    json->first = true;
}

void kd_json_end(struct kd_json *json)
{
    bool empty = json->first;

    assert(json->depth > 0);
    json->depth--;
    if (!empty)
        new_line(json);
    kd_text_add(&json->text, &json->closing[json->depth], 1);
    json->first = false;
    end_value(json);
}

void kd_json_string(struct kd_json *json, const char *key, const char *value)
{
    begin_value(json, key);
    if (value == NULL)
        kd_text_put(&json->text, "null");
    else
        put_string(&json->text, value);
    end_value(json);
}

void kd_json_u64(struct kd_json *json, const char *key, uint64_t value)
{
    begin_value(json, key);
    kd_text_format(&json->text, "%" PRIu64, value);
    end_value(json);
}

void kd_json_i64(struct kd_json *json, const char *key, int64_t value)
{
    begin_value(json, key);
    kd_text_format(&json->text, "%" PRId64, value);
    end_value(json);
}

void kd_json_f64(struct kd_json *json, const char *key, double value)
{
    char text[KD_TEXT_F64] = "null";

    begin_value(json, key);
    if (isfinite(value))
        kd_text_f64(value, text);
    kd_text_put(&json->text, text);
    end_value(json);
}

void kd_json_bool(struct kd_json *json, const char *key, bool value)
{
    begin_value(json, key);
    kd_text_put(&json->text, value ? "true" : "false");
    end_value(json);
}

enum kd_status kd_json_text(struct kd_json *json, const char **text)
{
    *text = NULL;
    if (json->text.status != KD_OK)
        return json->text.status;
    if (!json->finished)
        return kd_fail(KD_EBUG, "a JSON text was not closed before it was used");
    *text = json->text.bytes;
    return KD_OK;
}

enum kd_status kd_json_write(struct kd_json *json, FILE *to)
{
    const char *text = NULL;
    enum kd_status status = kd_json_text(json, &text);

    if (status != KD_OK)
        return status;
    if (fputs(text, to) == EOF || fputc('\n', to) == EOF)
        return kd_fail_errno(KD_EIO, "cannot write JSON");
    return KD_OK;
}
