/* SPDX-License-Identifier: MIT */
/* The record of samples: its columns, in memory and in files. */
#include "distill/monitor_internal.h"

#include "kd/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 1

static const struct column {
    const char *name;
    enum kd_type type;
    size_t at;
} columns[] = {
    {"epoch", KD_U32, offsetof(struct kd_record, epoch)},
    {"flags", KD_U8, offsetof(struct kd_record, flags)},
    {"student", KD_F32, offsetof(struct kd_record, student)},
    {"teacher", KD_F32, offsetof(struct kd_record, teacher)},
    {"loss", KD_F32, offsetof(struct kd_record, loss)},
    {"kl", KD_F32, offsetof(struct kd_record, kl)},
    {"gap", KD_F32, offsetof(struct kd_record, gap)},
    {"seen", KD_U32, offsetof(struct kd_record, seen)},
    {"right", KD_U32, offsetof(struct kd_record, right)},
    {"behind", KD_U32, offsetof(struct kd_record, behind)},
    {"forgotten", KD_U32, offsetof(struct kd_record, forgotten)},
};

#define COLUMNS (sizeof columns / sizeof columns[0])

/* The array of a column. Members of whatever type are read and written as bytes: a
 * pointer to an array is no void * to the compiler's eyes. */
static void *get(const struct kd_record *record, const struct column *column)
{
    void *array = NULL;

    memcpy(&array, (const char *)record + column->at, sizeof array);
    return array;
}

static void set(struct kd_record *record, const struct column *column, void *array)
{
    memcpy((char *)record + column->at, &array, sizeof array);
}

/* -- in memory ------------------------------------------------------------------ */

enum kd_status kd_record_init(struct kd_record *record)
{
    for (size_t i = 0; i < COLUMNS; i++) {
        void *array = kd_alloc(record->count, kd_type_size(columns[i].type));
        if (array == NULL)
            return KD_EMEMORY;
        set(record, &columns[i], array);
    }
    return KD_OK;
}

void kd_record_clear(struct kd_record *record)
{
    for (size_t i = 0; i < COLUMNS; i++)
        free(get(record, &columns[i]));
    *record = (struct kd_record){0};
}

/* -- columns in a file ------------------------------------------------------------ */

static char *name_column(const char *group, const struct column *column)
{
    return kd_format("%s%s%s", group, group[0] != '\0' ? "/" : "", column->name);
}

static enum kd_status write_column(const struct kd_record *record, struct kd_h5 *file,
                                   const char *group, const struct column *column)
{
    const uint64_t shape[1] = {record->count};
    char *name = name_column(group, column);
    enum kd_status status = KD_EMEMORY;

    if (name != NULL)
        status =
            kd_h5_write(file, name, column->type, 1, shape, get(record, column), NULL);
    free(name);
    return status;
}

static enum kd_status read_column(const struct kd_record *record, struct kd_h5 *file,
                                  const char *group, const struct column *column)
{
    enum kd_status status = KD_EBUG;
    char *name = name_column(group, column);
    struct kd_array_info info;

    KD_TRY(name != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_h5_info(file, name, &info));
    if (info.type != column->type || info.rank != 1 || info.count != record->count) {
        status = kd_fail(KD_EDATA, "%s: %s: must have %zu values of its type",
                         kd_h5_path(file), name, record->count);
        goto out;
    }
    KD_TRY(kd_h5_read(file, name, &info, get(record, column)));
    status = KD_OK;
out:
    free(name);
    return status;
}

enum kd_status kd_record_write(const struct kd_record *record, struct kd_h5 *file,
                               const char *group)
{
    enum kd_status status = KD_OK;

    for (size_t i = 0; i < COLUMNS && status == KD_OK; i++)
        status = write_column(record, file, group, &columns[i]);
    return status;
}

enum kd_status kd_record_read(struct kd_record *record, struct kd_h5 *file,
                              const char *group)
{
    enum kd_status status = KD_OK;

    for (size_t i = 0; i < COLUMNS && status == KD_OK; i++)
        status = read_column(record, file, group, &columns[i]);
    return status;
}

/* -- a file of its own ------------------------------------------------------------ */

static enum kd_status sum_up(const struct kd_record *r, struct kd_digest *digest)
{
    struct kd_hash *hash = NULL;
    const enum kd_status status = kd_hash_new(&hash);

    if (status != KD_OK)
        return status;
    kd_hash_add_string(hash, r->dataset.hex);
    kd_hash_add_u64(hash, r->first);
    for (size_t i = 0; i < COLUMNS; i++)
        kd_hash_add(hash, get(r, &columns[i]),
                    r->count * kd_type_size(columns[i].type));
    kd_hash_digest(hash, digest);
    kd_hash_free(hash);
    return KD_OK;
}

static enum kd_status write_ids(const struct kd_record *r, struct kd_h5 *file)
{
    const uint64_t shape[1] = {r->count};
    uint64_t *ids = NULL;
    enum kd_status status = KD_NEW(ids, r->count);

    for (size_t i = 0; status == KD_OK && i < r->count; i++)
        ids[i] = r->first + i;
    if (status == KD_OK)
        status = kd_h5_write(file, "id", KD_U64, 1, shape, ids, NULL);
    free(ids);
    return status;
}

struct saving {
    const struct kd_record *record;
    const char *history;
};

static enum kd_status write_all(const void *context, struct kd_h5 *file)
{
    const struct saving *s = context;
    const struct kd_record *r = s->record;
    enum kd_status status = KD_EBUG;
    struct kd_digest digest;

    KD_TRY(kd_h5_set_string(file, "format", KD_RECORD_FORMAT));
    KD_TRY(kd_h5_set_u64(file, "format_version", VERSION));
    KD_TRY(kd_h5_set_string(file, "dataset_digest", r->dataset.hex));
    KD_TRY(sum_up(r, &digest));
    KD_TRY(kd_h5_set_string(file, "check", digest.hex));
    KD_TRY(kd_h5_set_history(file, s->history));
    KD_TRY(write_ids(r, file));
    KD_TRY(kd_record_write(r, file, ""));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_record_save(const struct kd_record *record, const char *path,
                              const char *history)
{
    return kd_h5_save(path, write_all, &(struct saving){record, history});
}

/* Ids are consecutive. */
static enum kd_status read_ids(struct kd_record *r, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info info;
    uint64_t *ids = NULL;

    KD_TRY(kd_h5_info(file, "id", &info));
    if (info.type != KD_U64 || info.rank != 1 || info.count == 0) {
        status = kd_fail(KD_EDATA, "%s: id: not the ids of samples", kd_h5_path(file));
        goto out;
    }
    KD_TRY(KD_NEW(ids, (size_t)info.count));
    KD_TRY(kd_h5_read(file, "id", &info, ids));
    r->first = ids[0];
    r->count = (size_t)info.count;
    for (size_t i = 0; i < r->count; i++)
        if (ids[i] != r->first + i) {
            status = kd_fail(KD_EDATA, "%s: id: sample %zu is out of turn",
                             kd_h5_path(file), i);
            goto out;
        }
    status = KD_OK;
out:
    free(ids);
    return status;
}

static enum kd_status check(const struct kd_record *r, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    struct kd_digest digest;
    char *kept = NULL;

    KD_TRY(kd_h5_get_string(file, "check", &kept));
    KD_TRY(sum_up(r, &digest));
    if (strcmp(kept, digest.hex) != 0) {
        status =
            kd_fail(KD_EDATA, "%s: damaged: its checksum is another", kd_h5_path(file));
        goto out;
    }
    for (size_t i = 0; i < r->count; i++)
        if (!(r->gap[i] >= 0 && isfinite(r->gap[i]))) {
            status = kd_fail(KD_EDATA, "%s: gap: sample %llu has %g", kd_h5_path(file),
                             (unsigned long long)r->first + i, (double)r->gap[i]);
            goto out;
        }
    status = KD_OK;
out:
    free(kept);
    return status;
}

enum kd_status kd_record_load(const char *path, struct kd_record *record)
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;
    char *digest = NULL;

    *record = (struct kd_record){0};
    KD_TRY(kd_h5_open(path, &file));
    KD_TRY(kd_h5_expect_format(file, KD_RECORD_FORMAT, VERSION,
                               "a record of kd-train --monitor"));
    KD_TRY(kd_h5_get_string(file, "dataset_digest", &digest));
    snprintf(record->dataset.hex, sizeof record->dataset.hex, "%s", digest);
    KD_TRY(read_ids(record, file));
    KD_TRY(kd_record_init(record));
    KD_TRY(kd_record_read(record, file, ""));
    KD_TRY(check(record, file));
    status = KD_OK;
out:
    kd_h5_close(file);
    free(digest);
    if (status != KD_OK)
        kd_record_clear(record);
    return status;
}
