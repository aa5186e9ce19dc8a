/* SPDX-License-Identifier: MIT */
/* Sources of weights: what the arrays are called, and their values in float32. */
#include "nn/weights_internal.h"

#include "kd/file.h"
#include "kd/half.h"
#include "kd/memory.h"
#include "kd/npy.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -- names ------------------------------------------------------------------ */

static bool ends_with(const char *text, const char *end)
{
    const size_t a = strlen(text), b = strlen(end);

    return a >= b && strcmp(text + a - b, end) == 0;
}

/* Where `name` goes on behind `stem` [length] and a dot ("" at its end), NULL where it
 * does not begin with these. */
static const char *behind(const char *name, const char *stem, size_t length)
{
    if (strncmp(name, stem, length) != 0)
        return NULL;
    if (name[length] == '\0')
        return name + length;
    return name[length] == '.' ? name + length + 1 : NULL;
}

/* The name with the first of the renames that fits; on the heap. */
static char *rename_array(const char *name, const char *renames)
{
    for (const char *at = renames; at != NULL && *at != '\0';) {
        const size_t size = strcspn(at, ","), from = strcspn(at, "=");
        const char *to = at + from + 1;
        const int to_size = (int)(size - from - 1);
        const char *rest = behind(name, at, from);
        if (rest != NULL)
            return kd_format("%.*s%s%s", to_size, to,
                             to_size > 0 && *rest != '\0' ? "." : "", rest);
        at += size + (at[size] != '\0');
    }
    return kd_copy_string(name);
}

static enum kd_status check_renames(const char *renames)
{
    for (const char *at = renames; at != NULL && *at != '\0';) {
        const size_t size = strcspn(at, ","), from = strcspn(at, "=");
        if (from == 0 || from >= size)
            return kd_fail(KD_EUSAGE, "'%.*s' does not rename: write FROM=TO,...",
                           (int)size, at);
        at += size + (at[size] != '\0');
    }
    return KD_OK;
}

/* Lists the array at `place`, whose own name is `raw`. */
static enum kd_status add_array(struct kd_weights *w, const char *raw,
                                const char *place, const char *renames)
{
    const char *bare = behind(raw, "module", strlen("module"));
    struct kd_weights_array *array;

    if (bare == NULL || *bare == '\0')
        bare = raw;
    if (ends_with(bare, "num_batches_tracked"))
        return KD_OK;
    if (kd_grow(&w->arrays, &w->capacity, w->count + 1, sizeof *w->arrays) != KD_OK)
        return KD_EMEMORY;
    array = &w->arrays[w->count++];
    *array = (struct kd_weights_array){.name = rename_array(bare, renames),
                                       .place = kd_copy_string(place)};
    return array->name != NULL && array->place != NULL ? KD_OK : KD_EMEMORY;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct kd_weights_array *)a)->name,
                  ((const struct kd_weights_array *)b)->name);
}

static enum kd_status sort(struct kd_weights *w)
{
    if (w->count == 0)
        return kd_fail(KD_EDATA, "%s: there are no arrays in it", w->path);
    qsort(w->arrays, w->count, sizeof *w->arrays, by_name);
    for (size_t i = 1; i < w->count; i++)
        if (strcmp(w->arrays[i - 1].name, w->arrays[i].name) == 0)
            return kd_fail(KD_EDATA, "%s: %s and %s are both the array %s", w->path,
                           w->arrays[i - 1].place, w->arrays[i].place,
                           w->arrays[i].name);
    return KD_OK;
}

static int to_name(const void *name, const void *array)
{
    return strcmp(name, ((const struct kd_weights_array *)array)->name);
}

struct kd_weights_array *kd_weights_find(const struct kd_weights *weights,
                                         const char *name)
{
    return bsearch(name, weights->arrays, weights->count, sizeof *weights->arrays,
                   to_name);
}

/* -- containers --------------------------------------------------------------- */

static enum kd_status list_directory(struct kd_weights *w, const char *renames)
{
    enum kd_status status = KD_EBUG;
    const struct dirent *entry;
    char *name = NULL;
    DIR *directory = opendir(w->path);

    if (directory == NULL)
        return kd_fail_errno(KD_ENOINPUT, "%s: cannot open", w->path);
    while (errno = 0, (entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.' || !ends_with(entry->d_name, ".npy"))
            continue;
        free(name);
        name = kd_copy_string(entry->d_name);
        KD_TRY(name != NULL ? KD_OK : KD_EMEMORY);
        name[strlen(name) - strlen(".npy")] = '\0';
        KD_TRY(add_array(w, name, entry->d_name, renames));
    }
    status = errno == 0 ? KD_OK : kd_fail_errno(KD_EIO, "%s: cannot list", w->path);
out:
    free(name);
    closedir(directory);
    return status;
}

static enum kd_status list_tensors(struct kd_weights *w, const char *renames)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_safetensors_open(w->path, &w->tensors));
    for (size_t i = 0; i < kd_safetensors_count(w->tensors); i++) {
        const char *name = kd_safetensors_at(w->tensors, i)->name;
        KD_TRY(add_array(w, name, name, renames));
    }
    status = KD_OK;
out:
    return status;
}

struct group {
    struct kd_weights *weights;
    const char *name; /* without slashes around it; "" is the root */
    const char *renames;
};

static enum kd_status visit_dataset(void *context, const char *place)
{
    const struct group *group = context;
    const size_t length = strlen(group->name);
    const char *below = place + strspn(place, "/");
    char *name;
    enum kd_status status;

    if (length > 0 &&
        (strncmp(below, group->name, length) != 0 || below[length] != '/'))
        return KD_OK;
    name = kd_copy_string(below + length + (length > 0));
    if (name == NULL)
        return KD_EMEMORY;
    for (char *at = name; *at != '\0'; at++)
        if (*at == '/')
            *at = '.';
    status = add_array(group->weights, name, place, group->renames);
    free(name);
    return status;
}

static enum kd_status list_h5(struct kd_weights *w, const char *file, const char *name,
                              const char *renames)
{
    enum kd_status status = KD_EBUG;
    struct group group = {w, name, renames};

    KD_TRY(kd_h5_open(file, &w->h5));
    if (name[0] == '\0' && kd_h5_has(w->h5, "state_dict")) {
        group.name = "state_dict";
    } else if (name[0] != '\0' && !kd_h5_has(w->h5, name)) {
        status = kd_fail(KD_EDATA, "%s: there is no group /%s", file, name);
        goto out;
    }
    status = kd_h5_each(w->h5, visit_dataset, &group);
out:
    return status;
}

enum kind { HDF5, SAFETENSORS };

/* By its first bytes: names of files say little here. */
static enum kd_status recognize(const char *path, enum kind *kind)
{
    static const unsigned char h5[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    unsigned char head[9] = {0};
    FILE *file = fopen(path, "rb");
    size_t size;

    if (file == NULL)
        return kd_fail_errno(KD_ENOINPUT, "%s: cannot open", path);
    size = fread(head, 1, sizeof head, file);
    fclose(file);
    if (size >= sizeof h5 && memcmp(head, h5, sizeof h5) == 0)
        *kind = HDF5;
    else if (ends_with(path, ".safetensors") || (size == sizeof head && head[8] == '{'))
        *kind = SAFETENSORS;
    else if (head[0] == 0x80 ||
             (memcmp(head, "PK\3\4", 4) == 0 && !ends_with(path, ".npz")))
        return kd_fail(KD_EDATA,
                       "%s: a Python pickle, which would run code: save the state_dict "
                       "as .safetensors, HDF5 or a directory of .npy",
                       path);
    else
        return kd_fail(KD_EDATA,
                       "%s: neither .safetensors nor HDF5 nor a directory of .npy",
                       path);
    return KD_OK;
}

static enum kd_status list_file(struct kd_weights *w, const char *renames)
{
    enum kd_status status = KD_EBUG;
    char *file = kd_copy_string(w->path), *group = NULL;
    enum kind kind = HDF5;

    KD_TRY(file != NULL ? KD_OK : KD_EMEMORY);
    if (access(file, F_OK) != 0 && (group = strstr(file, ":/")) != NULL)
        *group = '\0';
    KD_TRY(recognize(file, &kind));
    if (kind == HDF5) {
        group =
            group != NULL ? group + 1 + strspn(group + 1, "/") : file + strlen(file);
        while (*group != '\0' && group[strlen(group) - 1] == '/')
            group[strlen(group) - 1] = '\0';
        status = list_h5(w, file, group, renames);
    } else if (group != NULL) {
        status = kd_fail(KD_EDATA, "%s: has no groups: it is no HDF5 file", file);
    } else {
        status = list_tensors(w, renames);
    }
out:
    free(file);
    return status;
}

enum kd_status kd_weights_open(const char *path, const char *renames,
                               struct kd_weights *weights)
{
    enum kd_status status = KD_EBUG;

    *weights = (struct kd_weights){.path = path};
    KD_TRY(check_renames(renames));
    KD_TRY(kd_is_directory(path) ? list_directory(weights, renames)
                                 : list_file(weights, renames));
    KD_TRY(sort(weights));
    status = KD_OK;
out:
    return status;
}

void kd_weights_close(struct kd_weights *weights)
{
    for (size_t i = 0; i < weights->count; i++) {
        free(weights->arrays[i].name);
        free(weights->arrays[i].place);
    }
    free(weights->arrays);
    kd_h5_close(weights->h5);
    kd_safetensors_close(weights->tensors);
}

/* -- values -------------------------------------------------------------------- */

/* "[64][3][3][3]" */
static const char *shape_text(char text[160], size_t rank, const uint64_t *shape)
{
    int at = snprintf(text, 160, "%s", rank == 0 ? "a single value" : "");

    for (size_t i = 0; i < rank; i++)
        at += snprintf(text + at, 160 - (size_t)at, "[%llu]",
                       (unsigned long long)shape[i]);
    return text;
}

static enum kd_status check_info(const struct kd_weights *w, const char *name,
                                 const struct kd_array_info *info, size_t rank,
                                 const size_t *shape)
{
    bool same = info->rank == rank;
    uint64_t want[KD_MAX_RANK];
    char is[160], due[160];

    for (size_t i = 0; i < rank; i++) {
        want[i] = shape[i];
        same = same && info->shape[i] == shape[i];
    }
    if (info->type != KD_F16 && info->type != KD_BF16 && info->type != KD_F32 &&
        info->type != KD_F64)
        return kd_fail(KD_EDATA, "%s: %s is %s, not floating-point", w->path, name,
                       kd_type_name(info->type));
    if (!same)
        return kd_fail(KD_EDATA, "%s: %s is %s, in the network it is %s", w->path, name,
                       shape_text(is, info->rank, info->shape),
                       shape_text(due, rank, want));
    return KD_OK;
}

static void convert(enum kd_type type, const void *raw, size_t count, float *values)
{
    if (type == KD_F16)
        kd_half_to_float(raw, values, count);
    else if (type == KD_BF16)
        kd_bf16_to_float(raw, values, count);
    else if (type == KD_F32)
        memcpy(values, raw, count * sizeof *values);
    else
        for (size_t i = 0; i < count; i++)
            values[i] = (float)((const double *)raw)[i];
}

/* What get_array does, from DIRECTORY/place. */
static enum kd_status get_npy(const char *directory, const char *place,
                              struct kd_array_info *info, void *raw)
{
    enum kd_status status = KD_EBUG;
    char *path = kd_path_join(directory, place);
    struct kd_map map = {0};

    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    if (raw == NULL) {
        status = kd_npy_info(path, info);
        goto out;
    }
    KD_TRY(kd_map_open(&map, path));
    if (map.size < info->offset || map.size - info->offset < info->bytes) {
        status = kd_fail(KD_EIO, "%s: became shorter while it was read", path);
        goto out;
    }
    memcpy(raw, map.data + info->offset, info->bytes);
    status = KD_OK;
out:
    kd_map_close(&map);
    free(path);
    return status;
}

/* Where raw is NULL sets *info to an array's type and shape; else reads its bytes into
 * raw [info->bytes]. */
static enum kd_status get_array(const struct kd_weights *w, const char *place,
                                struct kd_array_info *info, void *raw)
{
    const struct kd_safetensor *tensor;

    if (w->h5 != NULL)
        return raw == NULL ? kd_h5_info(w->h5, place, info)
                           : kd_h5_read(w->h5, place, info, raw);
    if (w->tensors == NULL)
        return get_npy(w->path, place, info, raw);
    tensor = kd_safetensors_find(w->tensors, place);
    *info = tensor->info;
    if (raw != NULL)
        memcpy(raw, tensor->data, info->bytes);
    return KD_OK;
}

enum kd_status kd_weights_read(const struct kd_weights *weights,
                               const struct kd_weights_array *array, size_t rank,
                               const size_t *shape, float *values)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info info;
    char *raw = NULL;

    KD_TRY(get_array(weights, array->place, &info, NULL));
    KD_TRY(check_info(weights, array->name, &info, rank, shape));
    KD_TRY(KD_NEW(raw, info.bytes));
    KD_TRY(get_array(weights, array->place, &info, raw));
    convert(info.type, raw, info.count, values);
    for (size_t i = 0; i < info.count; i++)
        if (!isfinite(values[i])) {
            status = kd_fail(KD_EDATA, "%s: %s: element %zu is not a finite float32",
                             weights->path, array->name, i);
            goto out;
        }
    status = KD_OK;
out:
    free(raw);
    return status;
}
