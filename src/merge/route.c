/* SPDX-License-Identifier: MIT */
/* Tables of routes: ranges of keys, sorted, none in two of them. */
#include "merge/policy_internal.h"

#include "kd/file.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

#define LARGEST ((size_t)1 << 30)

struct range {
    uint64_t begin, end; /* keys begin to end-1 */
    size_t teacher;
};

struct kd_route {
    bool by_label;
    size_t otherwise; /* the teacher of "*", or SIZE_MAX */
    struct range *ranges;
    size_t count, capacity;
};

void kd_route_free(struct kd_route *route)
{
    if (route != NULL)
        free(route->ranges);
    free(route);
}

bool kd_route_by_label(const struct kd_route *route)
{
    return route->by_label;
}

size_t kd_route_find(const struct kd_route *route, uint64_t key)
{
    size_t low = 0, high = route->count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (route->ranges[middle].end <= key)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < route->count && route->ranges[low].begin <= key)
        return route->ranges[low].teacher;
    return route->otherwise;
}

enum kd_status kd_route_digest(const struct kd_route *route, struct kd_digest *digest)
{
    enum kd_status status = KD_EBUG;
    struct kd_hash *hash = NULL;

    KD_TRY(kd_hash_new(&hash));
    kd_hash_add_u64(hash, route->by_label);
    kd_hash_add_u64(hash, route->otherwise);
    for (size_t i = 0; i < route->count; i++) {
        kd_hash_add_u64(hash, route->ranges[i].begin);
        kd_hash_add_u64(hash, route->ranges[i].end);
        kd_hash_add_u64(hash, route->ranges[i].teacher);
    }
    kd_hash_digest(hash, digest);
    status = KD_OK;
out:
    kd_hash_free(hash);
    return status;
}

static enum kd_status add_line(struct kd_route *route, char *line, size_t teachers)
{
    enum kd_status status = KD_EBUG;
    char *comma = strchr(line, ',');
    struct range range = {0};
    uint64_t teacher = 0;

    if (comma == NULL)
        return kd_fail(KD_EDATA, "'%.60s' is no key and teacher", line);
    *comma = '\0';
    if (!kd_parse_u64(comma + 1, 1, teachers, &teacher))
        return kd_fail(KD_EDATA, "'%.60s' is no teacher: they are 1 to %zu", comma + 1,
                       teachers);
    range.teacher = (size_t)teacher - 1;
    if (strcmp(line, "*") == 0) {
        if (route->otherwise != SIZE_MAX)
            return kd_fail(KD_EDATA, "* is there twice");
        route->otherwise = range.teacher;
        return KD_OK;
    }
    if (kd_parse_u64(line, 0, UINT64_MAX - 1, &range.begin))
        range.end = range.begin + 1;
    else if (!kd_merge_parse_range(line, &range.begin, &range.end))
        return kd_fail(KD_EDATA, "'%.60s' is no number, range A:B or *", line);
    KD_TRY(kd_grow(&route->ranges, &route->capacity, route->count + 1, sizeof range));
    route->ranges[route->count++] = range;
out:
    return status;
}

static enum kd_status set_key(struct kd_route *route, const char *line)
{
    route->by_label = strcmp(line, "label,teacher") == 0;
    if (!route->by_label && strcmp(line, "id,teacher") != 0)
        return kd_fail(KD_EDATA, "must begin with a line id,teacher or label,teacher");
    return KD_OK;
}

/* Cuts the text into lines, which it overwrites. */
static enum kd_status parse(struct kd_route *route, const char *path, char *text,
                            size_t teachers)
{
    enum kd_status status = KD_OK;
    bool begun = false;
    size_t number = 0;

    while (*text != '\0' && status == KD_OK) {
        char *end = text + strcspn(text, "\n"), *next = end + (*end == '\n');

        number++;
        *end = '\0';
        if (end > text && end[-1] == '\r')
            end[-1] = '\0';
        if (*text != '\0' && *text != '#') {
            status = begun ? add_line(route, text, teachers) : set_key(route, text);
            begun = true;
        }
        text = next;
    }
    if (status == KD_OK && !begun)
        return kd_fail(KD_EDATA, "%s: is empty", path);
    if (status != KD_OK)
        kd_error_prefix("%s: line %zu", path, number);
    return status;
}

static int compare(const void *a, const void *b)
{
    const struct range *x = a, *y = b;

    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static enum kd_status sort(struct kd_route *route, const char *path)
{
    if (route->count > 0)
        qsort(route->ranges, route->count, sizeof route->ranges[0], compare);
    for (size_t i = 1; i < route->count; i++)
        if (route->ranges[i].begin < route->ranges[i - 1].end)
            return kd_fail(KD_EDATA, "%s: %s %llu is there twice", path,
                           route->by_label ? "label" : "id",
                           (unsigned long long)route->ranges[i].begin);
    return KD_OK;
}

enum kd_status kd_route_load(const char *path, size_t teachers, struct kd_route **route)
{
    enum kd_status status = KD_EBUG;
    struct kd_route *read = NULL;
    char *text = NULL;
    size_t size = 0;

    KD_TRY(kd_file_read(path, LARGEST, &text, &size));
    if (strlen(text) != size) {
        status = kd_fail(KD_EDATA, "%s: is no text", path);
        goto out;
    }
    KD_TRY(KD_NEW(read, 1));
    read->otherwise = SIZE_MAX;
    KD_TRY(parse(read, path, text, teachers));
    KD_TRY(sort(read, path));
    *route = read;
    read = NULL;
out:
    kd_route_free(read);
    free(text);
    return status;
}
