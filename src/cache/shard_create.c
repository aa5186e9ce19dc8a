/* SPDX-License-Identifier: MIT */
/* Laying shards out in HDF5. */
#include "cache/shard_create_internal.h"

#include "cache/identity_internal.h"
#include "kd/h5.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

bool kd_column_is_late(const struct kd_identity *identity, enum kd_column column)
{
    return kd_codec_is_ragged(&identity->codec) &&
           (column == KD_COLUMN_LOGITS || column == KD_COLUMN_INDEX ||
            column == KD_COLUMN_DRAWS);
}

static enum kd_status set_attributes(struct kd_h5 *file,
                                     const struct kd_identity *identity,
                                     const char *history)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_h5_set_string(file, "format", KD_SHARD_FORMAT));
    KD_TRY(kd_h5_set_u64(file, "format_version", KD_SHARD_VERSION));
    KD_TRY(kd_h5_set_u64(file, "complete", 0));
    KD_TRY(kd_identity_save(identity, file));
    KD_TRY(kd_h5_set_history(file, history));
out:
    return status;
}

static enum kd_status make_column(struct kd_h5 *file,
                                  const struct kd_identity *identity,
                                  enum kd_column column, uint64_t rows, uint64_t values,
                                  uint64_t *place)
{
    enum kd_status status = KD_EBUG;
    const char *name = kd_column_names[column];
    struct kd_array_info info;

    KD_TRY(kd_column_layout(identity, column, rows, values, &info));
    KD_TRY(kd_h5_write(file, name, info.type, info.rank, info.shape, NULL, place));
    if (*place > (uint64_t)INT64_MAX - info.bytes)
        return kd_fail(KD_EBUG, "%s: %s has no place in the file", kd_h5_path(file),
                       name);
out:
    return status;
}

/* The columns that are late, or those that are not. */
static enum kd_status make_columns(struct kd_h5 *file,
                                   const struct kd_identity *identity, bool late,
                                   uint64_t rows, uint64_t values, uint64_t *place)
{
    enum kd_status status = KD_OK;

    for (int i = 0; i < KD_COLUMN_COUNT && status == KD_OK; i++) {
        const enum kd_column column = (enum kd_column)i;

        if (kd_column_present(identity, column) &&
            kd_column_is_late(identity, column) == late)
            status = make_column(file, identity, column, rows, values, &place[i]);
    }
    return status;
}

enum kd_status kd_shard_create(const char *path, const struct kd_identity *identity,
                               uint64_t rows, const char *history,
                               uint64_t place[KD_COLUMN_COUNT])
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;

    KD_TRY(kd_h5_create(path, &file));
    KD_TRY(set_attributes(file, identity, history));
    KD_TRY(make_columns(file, identity, false, rows, 0, place));
    status = kd_h5_finish(file);
    file = NULL;
out:
    kd_h5_close(file);
    return status;
}

enum kd_status kd_shard_create_late(const char *path,
                                    const struct kd_identity *identity, uint64_t rows,
                                    uint64_t values, uint64_t place[KD_COLUMN_COUNT])
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;

    if (!kd_codec_is_ragged(&identity->codec))
        return KD_OK;
    KD_TRY(kd_h5_open_rw(path, &file));
    KD_TRY(make_columns(file, identity, true, rows, values, place));
    status = kd_h5_finish(file);
    file = NULL;
out:
    kd_h5_close(file);
    return status;
}

enum kd_status kd_shard_set_complete(const char *path, const struct kd_bound *bound)
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;

    KD_TRY(kd_h5_open_rw(path, &file));
    if (bound != NULL) {
        KD_TRY(kd_h5_set_f64(file, "bound_mean", bound->mean));
        KD_TRY(kd_h5_set_f64(file, "bound_max", bound->max));
    }
    KD_TRY(kd_h5_set_u64(file, "complete", 1));
    status = kd_h5_finish(file);
    file = NULL;
out:
    kd_h5_close(file);
    return status;
}

/* An empty file that is nobody else's; its path is on the heap. */
static enum kd_status make_scratch(char **path)
{
    const char *directory = getenv("TMPDIR");
    int fd = -1;

    *path = kd_format("%s/kdcache-XXXXXX", directory != NULL ? directory : "/tmp");
    if (*path == NULL)
        return KD_EMEMORY;
    fd = mkstemp(*path);
    if (fd < 0) {
        const enum kd_status status =
            kd_fail_errno(KD_ECREATE, "%s: cannot create", *path);
        free(*path);
        *path = NULL;
        return status;
    }
    close(fd);
    return KD_OK;
}

enum kd_status kd_shard_measure(const struct kd_identity *identity, uint64_t rows,
                                uint64_t values, const char *history, uint64_t *bytes)
{
    enum kd_status status = KD_EBUG;
    uint64_t place[KD_COLUMN_COUNT];
    struct stat facts;
    char *path = NULL;

    KD_TRY(kd_identity_check(identity));
    if (rows == 0 || (kd_codec_is_ragged(&identity->codec) && values == 0))
        return kd_fail(KD_EDATA, "a shard must have rows");
    KD_TRY(make_scratch(&path));
    KD_TRY(kd_shard_create(path, identity, rows, history, place));
    KD_TRY(kd_shard_create_late(path, identity, rows, values, place));
    KD_TRY(kd_shard_set_complete(path, NULL));
    if (stat(path, &facts) != 0) {
        status = kd_fail_errno(KD_EIO, "%s: cannot look at it", path);
        goto out;
    }
    *bytes = (uint64_t)facts.st_size;
out:
    if (path != NULL)
        unlink(path);
    free(path);
    return status;
}
