/* SPDX-License-Identifier: MIT */
/*
 * Imports of TinyViT's saved logits (Wu et al., "TinyViT", ECCV 2022): for each epoch
 * a directory, in it for each rank of the run a list of keys and as many records
 *
 *     int32 seed of the augmentation, int16 class [K], float16 probability [K]
 *
 * K is not written down; it follows from the sizes. A place is the number of a file,
 * above that of a record in it.
 */
#include "teach/import_internal.h"

#include "kd/half.h"
#include "kd/memory.h"
#include "kd/options.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLACE_BITS    40 /* of a record's number */
#define VALUES_SUFFIX "-values.bin"
#define KEYS_SUFFIX   "-keys.txt"
#define MAX_K         32768

/* What a rank has left of an epoch. */
struct rank {
    char *keys_path, *values_path;
    uint64_t epoch;
    struct kd_map keys, values;
    uint64_t records;
};

/* A line of the file of keys. */
struct known {
    uint64_t hash;
    uint64_t id; /* its number, from 0 on */
    const char *key;
    size_t length;
};

struct tinyvit {
    struct rank *ranks; /* [count] in the order of epochs, and of names within one */
    size_t count, capacity;
    struct kd_map keys;  /* of the file that says which key is which id */
    struct known *known; /* [num_known] by hash; NULL: keys are ids */
    size_t num_known;
    size_t at; /* in the keys of the rank that is walked through */
};

static void tinyvit_close(struct kd_import_source *source)
{
    struct tinyvit *in = source->inside;

    for (size_t i = 0; i < in->count; i++) {
        kd_map_close(&in->ranks[i].keys);
        kd_map_close(&in->ranks[i].values);
        free(in->ranks[i].keys_path);
        free(in->ranks[i].values_path);
    }
    free(in->ranks);
    free(in->known);
    kd_map_close(&in->keys);
    free(in);
}

/* -- keys ------------------------------------------------------------------- */

/* The line at *at of a text, which it is moved behind; false at the end. */
static bool take_line(const struct kd_map *text, size_t *at, const char **line,
                      size_t *length)
{
    const char *begin = (const char *)text->data + *at, *end = NULL;

    if (*at >= text->size)
        return false;
    end = memchr(begin, '\n', text->size - *at);
    *line = begin;
    *length = end != NULL ? (size_t)(end - begin) : text->size - *at;
    *at += *length + (end != NULL);
    if (*length > 0 && begin[*length - 1] == '\r')
        --*length;
    return true;
}

static uint64_t count_lines(const struct kd_map *text)
{
    const char *line = NULL;
    size_t at = 0, length = 0;
    uint64_t count = 0;

    while (take_line(text, &at, &line, &length))
        count++;
    return count;
}

static int compare_known(const void *a, const void *b)
{
    const struct known *x = a, *y = b;

    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    if (x->length != y->length)
        return x->length < y->length ? -1 : 1;
    return memcmp(x->key, y->key, x->length);
}

static enum kd_status load_known(struct kd_import_source *source, const char *path)
{
    enum kd_status status = KD_EBUG;
    struct tinyvit *in = source->inside;
    const char *key = NULL;
    size_t at = 0, length = 0;

    KD_TRY(kd_map_open(&in->keys, path));
    KD_TRY(kd_import_hash(source, path));
    in->num_known = (size_t)count_lines(&in->keys);
    KD_TRY(KD_NEW(in->known, in->num_known));
    for (size_t i = 0; take_line(&in->keys, &at, &key, &length); i++)
        in->known[i] = (struct known){kd_hash_u64(key, length), i, key, length};
    if (in->num_known > 0)
        qsort(in->known, in->num_known, sizeof *in->known, compare_known);
    for (size_t i = 1; i < in->num_known; i++)
        if (compare_known(&in->known[i - 1], &in->known[i]) == 0)
            return kd_fail(KD_EDATA, "%s: the key '%.*s' is there twice", path,
                           (int)(in->known[i].length < 80 ? in->known[i].length : 80),
                           in->known[i].key);
    status = KD_OK;
out:
    return status;
}

static bool find_id(const struct tinyvit *in, const char *key, size_t length,
                    uint64_t *id)
{
    const struct known wanted = {
        .hash = kd_hash_u64(key, length), .key = key, .length = length};
    const struct known *found = NULL;
    char text[32];

    if (in->known == NULL) {
        if (length >= sizeof text)
            return false;
        memcpy(text, key, length);
        text[length] = '\0';
        return strlen(text) == length && kd_parse_u64(text, 0, UINT64_MAX - 1, id);
    }
    if (in->num_known > 0)
        found =
            bsearch(&wanted, in->known, in->num_known, sizeof wanted, compare_known);
    if (found != NULL)
        *id = found->id;
    return found != NULL;
}

/* -- rows ------------------------------------------------------------------- */

static enum kd_status tinyvit_walk(struct kd_import_source *source, uint64_t place,
                                   struct kd_import_key *key, uint64_t *next)
{
    struct tinyvit *in = source->inside;
    const uint64_t file = place >> PLACE_BITS;
    const uint64_t record = place & ((UINT64_C(1) << PLACE_BITS) - 1);
    const struct rank *rank = &in->ranks[file];
    const char *line = NULL;
    size_t length = 0;

    if (record == 0)
        in->at = 0;
    *key = (struct kd_import_key){.view = (uint32_t)(rank->epoch - in->ranks[0].epoch),
                                  .label = KD_LABEL_UNKNOWN};
    *next = record + 1 < rank->records ? place + 1 : (file + 1) << PLACE_BITS;
    take_line(&rank->keys, &in->at, &line, &length);
    if (!find_id(in, line, length, &key->id))
        return kd_fail(KD_EDATA, "%s: line %llu: the key '%.*s' is no %s",
                       rank->keys_path, (unsigned long long)record + 1,
                       (int)(length < 80 ? length : 80), line,
                       in->known != NULL ? "line of the file of keys"
                                         : "id: give the file of keys, --keys FILE");
    return KD_OK;
}

static enum kd_status tinyvit_read(const struct kd_import_source *source,
                                   uint64_t place, double *values, uint32_t *index)
{
    const struct tinyvit *in = source->inside;
    const struct rank *rank = &in->ranks[place >> PLACE_BITS];
    const uint64_t record = place & ((UINT64_C(1) << PLACE_BITS) - 1);
    const size_t kept = source->kept;
    const uint8_t *at = rank->values.data + record * (4 + 4 * kept) + 4;

    for (size_t i = 0; i < kept; i++) {
        uint16_t class = 0, half = 0;

        memcpy(&class, at + 2 * i, 2);
        memcpy(&half, at + 2 * (kept + i), 2);
        index[i] = class;
        values[i] = kd_half_to_float_one(half);
        if (class >= source->classes)
            return kd_fail(KD_EDATA, "class %u is none of %u", class, source->classes);
        for (size_t other = 0; other < i; other++)
            if (index[other] == class)
                return kd_fail(KD_EDATA, "class %u is there twice", class);
    }
    return KD_OK;
}

static void tinyvit_describe(const struct kd_import_source *source, uint64_t place,
                             char *text, size_t size)
{
    const struct tinyvit *in = source->inside;
    const uint64_t record = place & ((UINT64_C(1) << PLACE_BITS) - 1);

    snprintf(text, size, "%s: record %llu", in->ranks[place >> PLACE_BITS].values_path,
             (unsigned long long)record);
}

/* -- finding the files ------------------------------------------------------ */

static bool ends_in(const char *text, const char *suffix)
{
    const size_t length = strlen(text), end = strlen(suffix);

    return length >= end && strcmp(text + length - end, suffix) == 0;
}

static enum kd_status add_rank(struct tinyvit *in, const char *directory,
                               const char *name, uint64_t epoch)
{
    const int length = (int)(strlen(name) - strlen(VALUES_SUFFIX));
    struct rank *rank = NULL;
    char *keys = NULL;

    if (kd_grow(&in->ranks, &in->capacity, in->count + 1, sizeof *in->ranks) != KD_OK)
        return KD_EMEMORY;
    rank = &in->ranks[in->count++];
    *rank = (struct rank){.epoch = epoch};
    rank->values_path = kd_path_join(directory, name);
    keys = kd_format("%.*s" KEYS_SUFFIX, length, name);
    if (keys != NULL)
        rank->keys_path = kd_path_join(directory, keys);
    free(keys);
    return rank->values_path != NULL && rank->keys_path != NULL ? KD_OK : KD_EMEMORY;
}

/* The ranks of one epoch. */
static enum kd_status look_into(struct tinyvit *in, const char *directory,
                                uint64_t epoch)
{
    enum kd_status status = KD_OK;
    const struct dirent *entry = NULL;
    DIR *listing = opendir(directory);

    if (listing == NULL)
        return kd_fail_errno(KD_ENOINPUT, "%s: cannot open", directory);
    while (status == KD_OK && (entry = readdir(listing)) != NULL)
        if (strncmp(entry->d_name, "rank", 4) == 0 &&
            ends_in(entry->d_name, VALUES_SUFFIX))
            status = add_rank(in, directory, entry->d_name, epoch);
    closedir(listing);
    return status;
}

/* The number behind the last "epoch" of a name. */
static bool epoch_of(const char *name, uint64_t *epoch)
{
    const char *at = NULL;

    for (const char *c = strstr(name, "epoch"); c != NULL; c = strstr(c + 1, "epoch"))
        at = c + strlen("epoch");
    return at != NULL && kd_parse_u64(at, 0, UINT32_MAX / 2, epoch);
}

static enum kd_status look_below(struct tinyvit *in, const char *from)
{
    enum kd_status status = KD_OK;
    const struct dirent *entry = NULL;
    DIR *listing = opendir(from);
    uint64_t epoch = 0;

    if (listing == NULL)
        return kd_fail_errno(KD_ENOINPUT, "%s: cannot open", from);
    while (status == KD_OK && (entry = readdir(listing)) != NULL) {
        char *path = kd_path_join(from, entry->d_name);

        if (path == NULL)
            status = KD_EMEMORY;
        else if (epoch_of(entry->d_name, &epoch) && kd_is_directory(path))
            status = look_into(in, path, epoch);
        free(path);
    }
    closedir(listing);
    return status;
}

static int compare_ranks(const void *a, const void *b)
{
    const struct rank *x = a, *y = b;

    if (x->epoch != y->epoch)
        return x->epoch < y->epoch ? -1 : 1;
    return strcmp(x->values_path, y->values_path);
}

static enum kd_status find_ranks(const char *from, struct tinyvit *in)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(look_into(in, from, 0));
    if (in->count == 0)
        KD_TRY(look_below(in, from));
    if (in->count == 0)
        return kd_fail(KD_EDATA,
                       "%s: has neither rank*" VALUES_SUFFIX " nor directories of "
                       "them, one an epoch, named ...epoch0, ...epoch1",
                       from);
    qsort(in->ranks, in->count, sizeof *in->ranks, compare_ranks);
    for (size_t i = 1; i < in->count; i++)
        if (in->ranks[i].epoch > in->ranks[i - 1].epoch + 1)
            return kd_fail(KD_EDATA,
                           "%s: epoch %llu is missing: there are %llu and "
                           "%llu",
                           from, (unsigned long long)in->ranks[i - 1].epoch + 1,
                           (unsigned long long)in->ranks[i - 1].epoch,
                           (unsigned long long)in->ranks[i].epoch);
    status = KD_OK;
out:
    return status;
}

/* Maps a rank's files; K is what the records' size says. */
static enum kd_status load_rank(struct kd_import_source *source, struct rank *rank)
{
    enum kd_status status = KD_EBUG;
    uint64_t record = 0;

    KD_TRY(kd_map_open(&rank->keys, rank->keys_path));
    KD_TRY(kd_map_open(&rank->values, rank->values_path));
    KD_TRY(kd_import_hash(source, rank->keys_path));
    KD_TRY(kd_import_hash(source, rank->values_path));
    rank->records = count_lines(&rank->keys);
    if (rank->records > 0 && rank->values.size % rank->records == 0)
        record = rank->values.size / rank->records;
    if (record < 8 || record % 4 != 0 || record > 4 + 4 * (uint64_t)MAX_K)
        return kd_fail(KD_EDATA,
                       "%s: %zu bytes for the %llu keys of %s, which are no records of "
                       "4 + 4 K bytes: truncated",
                       rank->values_path, rank->values.size,
                       (unsigned long long)rank->records,
                       kd_path_base(rank->keys_path));
    if (source->kept != 0 && source->kept != record / 4 - 1)
        return kd_fail(KD_EDATA, "%s: has %llu classes a record, others have %zu",
                       rank->values_path, (unsigned long long)record / 4 - 1,
                       source->kept);
    source->kept = (size_t)record / 4 - 1;
out:
    return status;
}

enum kd_status kd_import_open_tinyvit(const struct kd_import_options *options,
                                      struct kd_import_source *source)
{
    enum kd_status status = KD_EBUG;
    struct tinyvit *in = NULL;

    if (options->values != KD_PROBS)
        return kd_fail(KD_EUSAGE,
                       "%s: TinyViT's values are probabilities: give "
                       "--values probs",
                       options->from);
    KD_TRY(KD_NEW(in, 1));
    source->inside = in;
    source->close = tinyvit_close;
    KD_TRY(find_ranks(options->from, in));
    if (options->keys != NULL)
        KD_TRY(load_known(source, options->keys));
    for (size_t i = 0; i < in->count; i++)
        KD_TRY(load_rank(source, &in->ranks[i]));
    source->end = (uint64_t)in->count << PLACE_BITS;
    source->type = KD_F16;
    source->num_views =
        (uint32_t)(in->ranks[in->count - 1].epoch - in->ranks[0].epoch + 1);
    source->walk = tinyvit_walk;
    source->read = tinyvit_read;
    source->describe = tinyvit_describe;
out:
    return status;
}
