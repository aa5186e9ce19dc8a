/* SPDX-License-Identifier: MIT */
/* The pieces that checkpoints are made of. */
#include "kd/state.h"

#include "kd/file.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -- the file ----------------------------------------------------------------- */

static char *path_in(const char *directory)
{
    return kd_path_join(directory, "checkpoint.h5");
}

enum kd_status kd_state_save(const char *directory, kd_h5_writer *write,
                             const void *context)
{
    char *path = path_in(directory);
    const enum kd_status status =
        path != NULL ? kd_h5_save(path, write, context) : KD_EMEMORY;

    free(path);
    return status;
}

enum kd_status kd_state_load(const char *directory,
                             enum kd_status (*read)(void *context, struct kd_h5 *file),
                             void *context)
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;
    char *path = path_in(directory);

    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    if (access(path, F_OK) == 0) {
        KD_TRY(kd_h5_open(path, &file));
        KD_TRY(read(context, file));
    }
    status = KD_OK;
out:
    kd_h5_close(file);
    free(path);
    return status;
}

/* -- values ------------------------------------------------------------------- */

enum kd_status kd_state_move(struct kd_h5 *file, const char *group,
                             const struct kd_parameter *parameter, float *values,
                             bool save)
{
    enum kd_status status = KD_EBUG;
    char *name = kd_format("%s/%s", group, parameter->name);
    const uint64_t shape[1] = {parameter->count};
    struct kd_array_info info;
    float *plain = NULL;

    KD_TRY(name != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(KD_NEW(plain, parameter->count));
    if (save) {
        kd_parameter_get(parameter, values, plain);
        KD_TRY(kd_h5_write(file, name, KD_F32, 1, shape, plain, NULL));
    } else {
        KD_TRY(kd_h5_info(file, name, &info));
        if (info.type != KD_F32 || info.count != parameter->count) {
            status = kd_fail(KD_EDATA, "%s: %s: not of this network", kd_h5_path(file),
                             name);
            goto out;
        }
        KD_TRY(kd_h5_read(file, name, &info, plain));
        KD_TRY(kd_h5_check_finite(file, name, plain, parameter->count));
        kd_parameter_set(parameter, plain, values);
    }
    status = KD_OK;
out:
    free(name);
    free(plain);
    return status;
}

/* -- the checksum ------------------------------------------------------------- */

struct hashing {
    struct kd_h5 *file;
    struct kd_hash *hash;
};

static enum kd_status add_array(void *context, const char *name)
{
    enum kd_status status = KD_EBUG;
    const struct hashing *h = context;
    struct kd_array_info info;
    uint8_t *bytes = NULL;

    KD_TRY(kd_h5_info(h->file, name, &info));
    KD_TRY(KD_NEW(bytes, (size_t)info.bytes));
    KD_TRY(kd_h5_read(h->file, name, &info, bytes));
    kd_hash_add_string(h->hash, name);
    kd_hash_add_u64(h->hash, info.bytes);
    kd_hash_add(h->hash, bytes, (size_t)info.bytes);
    status = KD_OK;
out:
    free(bytes);
    return status;
}

enum kd_status kd_state_hash_arrays(struct kd_h5 *file, struct kd_hash *hash)
{
    struct hashing h = {file, hash};

    return kd_h5_each(file, add_array, &h);
}

enum kd_status kd_state_check_sum(struct kd_h5 *file, const struct kd_digest *digest)
{
    enum kd_status status = KD_EBUG;
    char *kept = NULL;

    KD_TRY(kd_h5_get_string(file, "check", &kept));
    if (strcmp(kept, digest->hex) != 0) {
        status = kd_fail(KD_EDATA,
                         "%s: damaged: its checksum is another: remove the run's "
                         "directory and begin again",
                         kd_h5_path(file));
        goto out;
    }
    status = KD_OK;
out:
    free(kept);
    return status;
}

/* -- texts -------------------------------------------------------------------- */

/* The first line in which two texts differ, cut out of them in place. */
static void first_difference(char **a, char **b)
{
    for (;;) {
        const size_t n = strcspn(*a, "\n"), m = strcspn(*b, "\n");
        const bool same = n == m && strncmp(*a, *b, n) == 0;
        if (!same || (*a)[n] == '\0' || (*b)[m] == '\0') {
            (*a)[n] = '\0';
            (*b)[m] = '\0';
            return;
        }
        *a += n + 1;
        *b += m + 1;
    }
}

enum kd_status kd_state_check_recipe(struct kd_h5 *file, const char *ours)
{
    enum kd_status status = KD_EBUG;
    char *theirs = NULL, *copy = NULL;

    KD_TRY(kd_h5_get_string(file, "recipe", &theirs));
    copy = kd_copy_string(ours);
    KD_TRY(copy != NULL ? KD_OK : KD_EMEMORY);
    if (strcmp(theirs, copy) != 0) {
        char *a = theirs, *b = copy;
        first_difference(&a, &b);
        status = kd_fail(KD_EUSAGE,
                         "%s: belongs to another run: '%s' there, '%s' here; choose "
                         "another directory or remove that one",
                         kd_h5_path(file), a, b);
        goto out;
    }
    status = KD_OK;
out:
    free(theirs);
    free(copy);
    return status;
}

enum kd_status kd_state_read_metrics(struct kd_h5 *file, char **text, size_t *size)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info info;
    char *read = NULL;

    KD_TRY(kd_h5_info(file, "metrics", &info));
    if (info.type != KD_U8 || info.rank != 1 || info.count > (1U << 30)) {
        status = kd_fail(KD_EDATA, "%s: metrics: damaged", kd_h5_path(file));
        goto out;
    }
    KD_TRY(KD_NEW(read, (size_t)info.count + 1));
    KD_TRY(kd_h5_read(file, "metrics", &info, read));
    free(*text);
    *text = read;
    *size = (size_t)info.count;
    read = NULL;
    status = KD_OK;
out:
    free(read);
    return status;
}
