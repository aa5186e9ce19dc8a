/* SPDX-License-Identifier: MIT */
/* Imports of text: a header line, then a row a line; a place is where its line is. */
#include "teach/import_internal.h"

#include "kd/memory.h"
#include "kd/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD_SIZE 128 /* bytes of a field, with its end */

struct csv {
    struct kd_map map; /* of the file, if it is one */
    const char *bytes; /* [size] */
    size_t size;
    char separator;
    bool has_view, has_label;
    char *header; /* the first line, cut up into names */
};

/* A line and what is left of it. */
struct line {
    const char *at, *end;
    char separator;
    size_t field; /* number of the field that was taken last, from 1 on */
    bool more;
};

static void csv_close(struct kd_import_source *source)
{
    struct csv *csv = source->inside;

    kd_map_close(&csv->map);
    free(csv->header);
    free(csv);
}

/* The line at `place`; *next is that of the one behind it, without empty ones. */
static struct line line_at(const struct csv *csv, uint64_t place, uint64_t *next)
{
    const char *end = csv->bytes + csv->size, *at = csv->bytes + place;
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    struct line line = {.at = at,
                        .end = stop != NULL ? stop : end,
                        .separator = csv->separator,
                        .more = true};
    const char *behind = line.end;

    while (behind < end && (*behind == '\n' || *behind == '\r'))
        behind++;
    if (line.end > line.at && line.end[-1] == '\r')
        line.end--;
    *next = (uint64_t)(behind - csv->bytes);
    return line;
}

/* Which line it is takes counting, so that is done for errors alone. */
static size_t line_number(const struct csv *csv, const char *at)
{
    size_t number = 1;

    for (const char *c = csv->bytes; c < at; c++)
        number += *c == '\n';
    return number;
}

/* The next field, without spaces around it. */
static enum kd_status take_field(struct line *line, char field[FIELD_SIZE])
{
    const char *begin = line->at;
    const char *end = NULL;

    if (!line->more)
        return kd_fail(KD_EDATA, "has %zu fields, where more are due", line->field);
    end = memchr(begin, line->separator, (size_t)(line->end - begin));
    line->more = end != NULL;
    if (end == NULL)
        end = line->end;
    line->at = end + line->more;
    line->field++;
    while (begin < end && *begin == ' ')
        begin++;
    while (end > begin && end[-1] == ' ')
        end--;
    if (end - begin >= FIELD_SIZE || memchr(begin, '\0', (size_t)(end - begin)) != NULL)
        return kd_fail(KD_EDATA, "field %zu is too long, or no text", line->field);
    memcpy(field, begin, (size_t)(end - begin));
    field[end - begin] = '\0';
    return KD_OK;
}

static enum kd_status take_whole(struct line *line, uint64_t most, uint64_t *value)
{
    char field[FIELD_SIZE];
    const enum kd_status status = take_field(line, field);

    if (status == KD_OK && !kd_parse_u64(field, 0, most, value))
        return kd_fail(KD_EDATA, "field %zu is '%.40s': must be a whole number",
                       line->field, field);
    return status;
}

static enum kd_status take_key(const struct csv *csv, struct line *line,
                               struct kd_import_key *key)
{
    enum kd_status status = KD_EBUG;
    char field[FIELD_SIZE];
    uint64_t value = 0;

    *key = (struct kd_import_key){.label = KD_LABEL_UNKNOWN};
    KD_TRY(take_whole(line, UINT64_MAX - 1, &key->id));
    if (csv->has_view) {
        KD_TRY(take_whole(line, UINT32_MAX - 1, &value));
        key->view = (uint32_t)value;
    }
    if (csv->has_label) {
        KD_TRY(take_field(line, field));
        if (kd_parse_u64(field, 0, INT32_MAX, &value))
            key->label = (int32_t)value;
        else if (strcmp(field, "-1") != 0 && field[0] != '\0')
            return kd_fail(KD_EDATA,
                           "its label is '%.40s': must be a "
                           "number, or -1",
                           field);
    }
    status = KD_OK;
out:
    return status;
}

static void csv_describe(const struct kd_import_source *source, uint64_t place,
                         char *text, size_t size)
{
    const struct csv *csv = source->inside;

    snprintf(text, size, "%s: line %zu", source->name,
             line_number(csv, csv->bytes + place));
}

static enum kd_status csv_walk(struct kd_import_source *source, uint64_t place,
                               struct kd_import_key *key, uint64_t *next)
{
    struct line line = line_at(source->inside, place, next);
    const enum kd_status status = take_key(source->inside, &line, key);
    char where[KD_IMPORT_PLACE];

    if (status != KD_OK) {
        csv_describe(source, place, where, sizeof where);
        kd_error_prefix("%s", where);
    }
    return status;
}

static enum kd_status csv_read(const struct kd_import_source *source, uint64_t place,
                               double *values, uint32_t *index)
{
    enum kd_status status = KD_EBUG;
    struct kd_import_key key;
    char field[FIELD_SIZE];
    uint64_t next = 0;
    struct line line = line_at(source->inside, place, &next);

    (void)index;
    KD_TRY(take_key(source->inside, &line, &key));
    for (uint32_t c = 0; c < source->classes; c++) {
        char *end = NULL;

        KD_TRY(take_field(&line, field));
        values[c] = strtod(field, &end);
        if (field[0] == '\0' || *end != '\0')
            return kd_fail(KD_EDATA, "field %zu is '%.40s': must be a number",
                           line.field, field);
    }
    if (line.more)
        return kd_fail(KD_EDATA, "has more than %zu fields", line.field);
    status = KD_OK;
out:
    return status;
}

/* -- the header ------------------------------------------------------------- */

/* Cuts `text` at its separators: *names points to the parts, of which there are
 * *count. */
static enum kd_status cut(char *text, char separator, const char ***names,
                          size_t *count)
{
    size_t parts = 1;

    for (const char *c = text; *c != '\0'; c++)
        parts += *c == separator;
    if (KD_NEW(*names, parts) != KD_OK)
        return KD_EMEMORY;
    *count = 0;
    for (char *at = text, *end = NULL; at != NULL; at = end) {
        end = strchr(at, separator);
        if (end != NULL)
            *end++ = '\0';
        while (*at == ' ')
            at++;
        (*names)[(*count)++] = at;
        for (char *last = at + strlen(at); last > at && last[-1] == ' ';)
            *--last = '\0';
    }
    return KD_OK;
}

/* Whether the columns are called c0, c1, ...: then they have no names. */
static bool are_numbered(const char *const *names, size_t count)
{
    char due[32];

    for (size_t c = 0; c < count; c++) {
        snprintf(due, sizeof due, "c%zu", c);
        if (strcmp(names[c], due) != 0)
            return false;
    }
    return true;
}

static enum kd_status take_names(struct kd_import_source *source)
{
    enum kd_status status = KD_EBUG;
    struct csv *csv = source->inside;
    size_t count = 0, used = 0;

    KD_TRY(cut(csv->header, csv->separator, &source->names, &count));
    if (strcmp(source->names[0], "id") != 0)
        return kd_fail(KD_EDATA,
                       "%s: its first line must name the columns: id, then view and "
                       "label if they are there, then c0, c1, ... or class names",
                       source->name);
    used = 1;
    csv->has_view = used < count && strcmp(source->names[used], "view") == 0;
    used += csv->has_view;
    csv->has_label = used < count && strcmp(source->names[used], "label") == 0;
    used += csv->has_label;
    count -= used;
    if (count < 2 || count > INT32_MAX)
        return kd_fail(KD_EDATA, "%s: names %zu classes, where at least 2 are due",
                       source->name, count);
    source->classes = (uint32_t)count;
    memmove(source->names, source->names + used, count * sizeof *source->names);
    if (are_numbered(source->names, count)) {
        free(source->names);
        source->names = NULL;
    }
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_import_parse_csv(const char *bytes, size_t size,
                                   struct kd_import_source *source)
{
    static const char mark[] = "\xef\xbb\xbf"; /* which spreadsheets put in front */
    enum kd_status status = KD_EBUG;
    struct csv *csv = NULL;
    struct line line;
    size_t length = 0;

    KD_TRY(KD_NEW(csv, 1));
    source->inside = csv;
    source->close = csv_close;
    csv->bytes = bytes;
    csv->size = size;
    if (size == 0)
        return kd_fail(KD_EDATA, "%s: it is empty", source->name);
    if (size > 3 && memcmp(bytes, mark, 3) == 0)
        source->begin = 3;
    line = line_at(csv, source->begin, &source->begin);
    length = (size_t)(line.end - line.at);
    if (memchr(line.at, '\0', length) != NULL)
        return kd_fail(KD_EDATA, "%s: not a text", source->name);
    KD_TRY(KD_NEW(csv->header, length + 1));
    memcpy(csv->header, line.at, length);
    csv->separator = strchr(csv->header, '\t') != NULL ? '\t' : ',';
    KD_TRY(take_names(source));
    source->end = size;
    source->type = KD_F32;
    source->says_view = csv->has_view;
    source->num_views = 1;
    source->walk = csv_walk;
    source->read = csv_read;
    source->describe = csv_describe;
out:
    return status;
}

enum kd_status kd_import_open_csv(const struct kd_import_options *options,
                                  struct kd_import_source *source)
{
    enum kd_status status = KD_EBUG;
    struct kd_map map;

    KD_TRY(kd_map_open(&map, options->from));
    status = kd_import_parse_csv((const char *)map.data, map.size, source);
    if (source->inside != NULL)
        ((struct csv *)source->inside)->map = map;
    else
        kd_map_close(&map);
    KD_TRY(status);
    KD_TRY(kd_import_hash(source, options->from));
out:
    return status;
}
