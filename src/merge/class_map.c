/* SPDX-License-Identifier: MIT */
/* Tables of classes, and rows over other classes. include/kd/class_map.h has the rule.
 */
#include "kd/class_map.h"

#include "kd/file.h"
#include "kd/memory.h"
#include "kd/options.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGEST ((size_t)1 << 30)

void kd_class_maps_clear(struct kd_class_maps *maps)
{
    for (size_t m = 0; m < KD_MAX_TEACHERS; m++)
        free(maps->of[m].pairs);
    *maps = (struct kd_class_maps){0};
}

/* -- names --------------------------------------------------------------------- */

/* A name and its class, sorted by name. */
struct name {
    const char *text;
    uint32_t class;
};

struct names {
    char *file; /* whose lines they are */
    struct name *sorted;
    size_t count, capacity;
    struct kd_digest digest;
};

static void names_clear(struct names *names)
{
    free(names->file);
    free(names->sorted);
    *names = (struct names){0};
}

static int compare_names(const void *a, const void *b)
{
    const struct name *x = a, *y = b;

    return strcmp(x->text, y->text);
}

/* Ends the line that begins at `text`; returns the next one's beginning. */
static char *cut_line(char *text)
{
    char *end = text + strcspn(text, "\n"), *next = end + (*end == '\n');

    *end = '\0';
    if (end > text && end[-1] == '\r')
        end[-1] = '\0';
    return next;
}

static enum kd_status read_text(const char *path, char **text)
{
    size_t size = 0;
    enum kd_status status = kd_file_read(path, LARGEST, text, &size);

    if (status == KD_OK && strlen(*text) != size)
        status = kd_fail(KD_EDATA, "%s: is no text", path);
    return status;
}

static enum kd_status names_read(struct names *names, const char *path)
{
    enum kd_status status = KD_EBUG;
    struct kd_hash *hash = NULL;

    KD_TRY(read_text(path, &names->file));
    KD_TRY(kd_hash_new(&hash));
    for (char *line = names->file, *next = NULL; *line != '\0'; line = next) {
        next = cut_line(line);
        KD_TRY(kd_grow(&names->sorted, &names->capacity, names->count + 1,
                       sizeof *names->sorted));
        names->sorted[names->count] = (struct name){line, (uint32_t)names->count};
        names->count++;
        kd_hash_add_string(hash, line);
    }
    kd_hash_digest(hash, &names->digest);
    if (names->count > 0)
        qsort(names->sorted, names->count, sizeof *names->sorted, compare_names);
    for (size_t i = 1; i < names->count; i++)
        if (strcmp(names->sorted[i].text, names->sorted[i - 1].text) == 0)
            status = kd_fail(KD_EDATA, "%s: the class '%.60s' is there twice", path,
                             names->sorted[i].text);
    if (names->count < 2 || names->count > INT32_MAX)
        status = kd_fail(KD_EDATA, "%s: %zu names of classes, one a line", path,
                         names->count);
out:
    kd_hash_free(hash);
    return status;
}

/* The class of a name; UINT32_MAX if it is none. */
static uint32_t names_find(const struct names *names, const char *text)
{
    const struct name key = {text, 0};
    const struct name *found = names->count > 0
                                   ? bsearch(&key, names->sorted, names->count,
                                             sizeof *names->sorted, compare_names)
                                   : NULL;

    return found != NULL ? found->class : UINT32_MAX;
}

/* -- tables -------------------------------------------------------------------- */

static enum kd_status add_pair(struct kd_class_map *map, uint32_t class, uint32_t to)
{
    enum kd_status status =
        kd_grow(&map->pairs, &map->capacity, map->count + 1, sizeof *map->pairs);

    map->given = true;
    if (status == KD_OK)
        map->pairs[map->count++] = (struct kd_class_pair){class, to};
    return status;
}

static int compare_pairs(const void *a, const void *b)
{
    const struct kd_class_pair *x = a, *y = b;

    return (x->class > y->class) - (x->class < y->class);
}

/* "2,0,5": a line of the table. */
static enum kd_status add_line(struct kd_class_maps *maps, const struct names *merged,
                               char *line)
{
    const uint64_t most = merged->count > 0 ? merged->count - 1 : INT32_MAX - 1;
    char *own = strchr(line, ','), *to = own != NULL ? strchr(own + 1, ',') : NULL;
    uint64_t teacher = 0, from = 0, target = 0;

    if (to == NULL)
        return kd_fail(KD_EDATA, "'%.60s' is no teacher, class and class", line);
    *own++ = '\0';
    *to++ = '\0';
    if (!kd_parse_u64(line, 1, maps->teachers, &teacher))
        return kd_fail(KD_EDATA, "'%.60s' is no teacher: they are 1 to %zu", line,
                       maps->teachers);
    if (!kd_parse_u64(own, 0, INT32_MAX - 1, &from))
        return kd_fail(KD_EDATA, "'%.60s' is no number of a class", own);
    target = names_find(merged, to);
    if (target == UINT32_MAX && !kd_parse_u64(to, 0, most, &target))
        return kd_fail(KD_EDATA, "'%.60s' is none of the merged classes%s", to,
                       merged->count > 0 ? ""
                                         : ", which have no names: give --classes");
    return add_pair(&maps->of[teacher - 1], (uint32_t)from, (uint32_t)target);
}

static enum kd_status read_table(struct kd_class_maps *maps, const struct names *merged,
                                 const char *path)
{
    enum kd_status status = KD_EBUG;
    char *text = NULL;
    size_t number = 0;
    bool begun = false;

    KD_TRY(read_text(path, &text));
    for (char *line = text, *next = NULL; *line != '\0' && status == KD_OK;
         line = next) {
        next = cut_line(line);
        number++;
        if (*line == '\0' || *line == '#')
            continue;
        if (begun)
            status = add_line(maps, merged, line);
        else if (strcmp(line, "teacher,class,to") != 0)
            status = kd_fail(KD_EDATA, "must begin with a line teacher,class,to");
        begun = true;
    }
    if (status != KD_OK)
        kd_error_prefix("%s: line %zu", path, number);
    else if (!begun)
        status = kd_fail(KD_EDATA, "%s: is empty", path);
out:
    free(text);
    return status;
}

static enum kd_status sort_pairs(struct kd_class_maps *maps, const char *path)
{
    for (size_t m = 0; m < maps->teachers; m++) {
        struct kd_class_map *map = &maps->of[m];

        if (map->count > 0)
            qsort(map->pairs, map->count, sizeof *map->pairs, compare_pairs);
        for (size_t i = 1; i < map->count; i++)
            if (map->pairs[i].class == map->pairs[i - 1].class)
                return kd_fail(KD_EDATA, "%s: class %u of teacher %zu is there twice",
                               path, (unsigned)map->pairs[i].class, m + 1);
    }
    return KD_OK;
}

/* -- by name ------------------------------------------------------------------- */

static enum kd_status match_names(struct kd_class_map *map, const struct names *merged,
                                  const char *path)
{
    enum kd_status status = KD_EBUG;
    struct names own = {0};

    KD_TRY(names_read(&own, path));
    map->given = true;
    map->num_classes = (uint32_t)own.count;
    map->names = own.digest;
    for (size_t i = 0; i < own.count; i++) {
        const uint32_t to = names_find(merged, own.sorted[i].text);

        if (to != UINT32_MAX)
            KD_TRY(add_pair(map, own.sorted[i].class, to));
    }
    if (map->count == 0)
        status =
            kd_fail(KD_EDATA, "%s: none of its names is that of a merged class", path);
out:
    names_clear(&own);
    return status;
}

static enum kd_status match_all(struct kd_class_maps *maps, const struct names *merged,
                                const char *list)
{
    enum kd_status status = KD_EBUG;
    char *copy = kd_copy_string(list);
    size_t m = 0;

    if (copy == NULL)
        return KD_EMEMORY;
    for (char *at = copy, *end = NULL; at != NULL; at = end, m++) {
        end = strchr(at, ',');
        if (end != NULL)
            *end++ = '\0';
        if (m < maps->teachers)
            KD_TRY(match_names(&maps->of[m], merged, at));
    }
    status = KD_OK;
    if (m != maps->teachers)
        status = kd_fail(KD_EUSAGE, "--class-names: %zu files for %zu caches", m,
                         maps->teachers);
out:
    free(copy);
    return status;
}

/* Without names, the merged classes are those of a teacher that has them, or numbers:
 * "0", "1", .... */
static enum kd_status count_classes(struct kd_class_maps *maps)
{
    enum kd_status status = KD_EBUG;
    struct kd_hash *hash = NULL;
    char number[16];
    uint32_t most = 0;

    for (size_t m = 0; m < maps->teachers; m++) {
        if (!maps->of[m].given)
            return KD_OK;
        for (size_t i = 0; i < maps->of[m].count; i++)
            most = maps->of[m].pairs[i].to > most ? maps->of[m].pairs[i].to : most;
    }
    KD_TRY(kd_hash_new(&hash));
    maps->num_classes = most + 1;
    for (uint32_t i = 0; i <= most; i++) {
        snprintf(number, sizeof number, "%u", (unsigned)i);
        kd_hash_add_string(hash, number);
    }
    kd_hash_digest(hash, &maps->digest);
out:
    kd_hash_free(hash);
    return status;
}

static enum kd_status load(const struct kd_class_map_args *args, struct names *merged,
                           struct kd_class_maps *maps)
{
    enum kd_status status = KD_EBUG;

    if (args->table != NULL && args->sources != NULL)
        return kd_fail(KD_EUSAGE, "--class-map and --class-names: give one of them");
    if (args->sources != NULL && args->names == NULL)
        return kd_fail(KD_EUSAGE, "--class-names: which names has the merged cache? "
                                  "give --classes FILE");
    if (args->names != NULL && args->table == NULL && args->sources == NULL)
        return kd_fail(KD_EUSAGE, "--classes: which classes have the caches? give "
                                  "--class-names or --class-map");
    if (args->names != NULL)
        KD_TRY(names_read(merged, args->names));
    maps->num_classes = (uint32_t)merged->count;
    maps->digest = merged->digest;
    if (args->sources != NULL) {
        KD_TRY(match_all(maps, merged, args->sources));
        KD_TRY(sort_pairs(maps, args->names));
        return KD_OK;
    }
    KD_TRY(read_table(maps, merged, args->table));
    KD_TRY(sort_pairs(maps, args->table));
    if (maps->num_classes == 0)
        KD_TRY(count_classes(maps));
out:
    return status;
}

enum kd_status kd_class_maps_load(const struct kd_class_map_args *args, size_t teachers,
                                  struct kd_class_maps *maps)
{
    struct names merged = {0};
    enum kd_status status = KD_EBUG;

    *maps = (struct kd_class_maps){.teachers = teachers};
    status = load(args, &merged, maps);
    names_clear(&merged);
    if (status != KD_OK)
        kd_class_maps_clear(maps);
    return status;
}

enum kd_status kd_class_maps_digest(const struct kd_class_maps *maps,
                                    struct kd_digest *digest)
{
    enum kd_status status = KD_EBUG;
    struct kd_hash *hash = NULL;

    KD_TRY(kd_hash_new(&hash));
    for (size_t m = 0; m < maps->teachers; m++)
        for (size_t i = 0; i < maps->of[m].count; i++) {
            kd_hash_add_u64(hash, m);
            kd_hash_add_u64(hash, maps->of[m].pairs[i].class);
            kd_hash_add_u64(hash, maps->of[m].pairs[i].to);
        }
    kd_hash_digest(hash, digest);
    status = KD_OK;
out:
    kd_hash_free(hash);
    return status;
}
