/* SPDX-License-Identifier: MIT */
/*
 * hdf5:FILE:/x[,/y], datasets of an HDF5 file. They are mapped where they lie in
 * one piece, and read into memory where they are chunked or compressed.
 */
#include "data/format_internal.h"
#include "kd/h5.h"
#include "kd/list.h"
#include "kd/memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The parts of "FILE:/x,/y". */
struct names {
    char *path, *x, *y; /* y NULL where there are no labels; into `text` */
    char *text;
};

static enum kd_status split_names(const struct kd_dataset *data, const char *rest,
                                  struct names *names)
{
    names->text = kd_copy_string(rest);
    if (names->text == NULL)
        return KD_EMEMORY;
    for (char *at = strstr(names->text, ":/"); at != NULL; at = strstr(at + 1, ":/"))
        names->x = at + 1; /* the last one */
    if (names->x == NULL || names->x - 1 == names->text)
        return kd_dataset_misnamed(data);
    names->path = names->text;
    names->x[-1] = '\0';
    names->y = strstr(names->x, ",/");
    if (names->y != NULL)
        *names->y++ = '\0';
    return KD_OK;
}

static enum kd_status map_array(const char *path, const struct kd_array_info *info,
                                struct kd_bytes *bytes)
{
    enum kd_status status = kd_map_open(&bytes->map, path);

    if (status != KD_OK)
        return status;
    if (info->offset > bytes->map.size || info->bytes > bytes->map.size - info->offset)
        return kd_fail(KD_EDATA, "%s: truncated", path);
    bytes->data = bytes->map.data + info->offset;
    return KD_OK;
}

/* That a file is large enough for an array to come out of it, before memory is
 * taken for one that is empty space. */
static enum kd_status check_plausible(const char *path, const char *name,
                                      const struct kd_array_info *info)
{
    struct kd_map map;
    enum kd_status status = kd_map_open(&map, path);
    size_t size = map.size;

    if (status != KD_OK)
        return status;
    kd_map_close(&map);
    if (info->bytes / KD_DEFLATE_RATIO > size)
        return kd_fail(KD_EDATA,
                       "%s: '%s': %" PRIu64 " bytes cannot come out of a file of %zu: "
                       "most of it was never written",
                       path, name, info->bytes, size);
    return KD_OK;
}

static enum kd_status open_array(struct kd_h5 *file, const char *name,
                                 struct kd_array_info *info, struct kd_bytes *bytes)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_h5_info(file, name, info));
    if (info->offset != UINT64_MAX)
        return map_array(kd_h5_path(file), info, bytes);
    KD_TRY(check_plausible(kd_h5_path(file), name, info));
    bytes->heap = kd_alloc((size_t)info->bytes, 1);
    if (bytes->heap == NULL) {
        status = KD_EMEMORY;
        goto out;
    }
    KD_TRY(kd_h5_read(file, name, info, bytes->heap));
    bytes->data = bytes->heap;
    status = KD_OK;
out:
    return status;
}

/* "airplane,automobile,...": the class map, where the file has one. */
static enum kd_status read_class_names(struct kd_dataset *data, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    char *text = NULL;
    size_t count = 0;

    if (!kd_h5_has_attribute(file, "class_names"))
        return KD_OK;
    KD_TRY(kd_h5_get_string(file, "class_names", &text));
    KD_TRY(kd_list_split(text, "its class_names", &data->class_name, &count));
    data->facts.num_classes = (uint32_t)count;
    status = KD_OK;
out:
    if (status != KD_OK)
        kd_error_prefix("%s: ", kd_h5_path(file));
    free(text);
    return status;
}

static enum kd_status add_array(struct kd_dataset *data, struct kd_h5 *file,
                                const char *name, bool labels)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info info;
    struct kd_bytes bytes = {.data = NULL};
    char *what = kd_format("%s: '%s'", kd_h5_path(file), name);

    if (what == NULL)
        return KD_EMEMORY;
    KD_TRY(open_array(file, name, &info, &bytes));
    if (labels)
        KD_TRY(kd_array_labels(data, what, &info, &bytes));
    else
        KD_TRY(kd_array_samples(data, what, &info, &bytes));
    status = KD_OK;
out:
    kd_bytes_clear(&bytes);
    free(what);
    return status;
}

static enum kd_status open_hdf5(struct kd_dataset *data, const char *rest)
{
    enum kd_status status = KD_EBUG;
    struct names names = {.text = NULL};
    struct kd_h5 *file = NULL;

    KD_TRY(split_names(data, rest, &names));
    KD_TRY(kd_h5_open(names.path, &file));
    KD_TRY(add_array(data, file, names.x, false));
    if (names.y != NULL)
        KD_TRY(add_array(data, file, names.y, true));
    KD_TRY(read_class_names(data, file));
    status = KD_OK;
out:
    kd_h5_close(file);
    free(names.text);
    return status;
}

const struct kd_format kd_format_hdf5 = {
    .scheme = "hdf5", .usage = "FILE:/x[,/y]", .open = open_hdf5};
