/* SPDX-License-Identifier: MIT */
/* HDF5 datasets: finding them by hard links alone, their facts, reading, writing. */
#include "kd/h5.h"

#include "base/h5_internal.h"
#include "kd/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_LIMIT  1024 /* bytes of a name, with its end */
#define DEPTH_LIMIT 32   /* groups in groups: a damaged file may have a circle */
#define COUNT_LIMIT 1000000

#define DEFLATE_LEVEL 6

enum link { LINK_NONE, LINK_HARD, LINK_OTHER, LINK_BROKEN };

/* What a name that ends in the last of its parts is linked by. */
static enum link look_at(hid_t file, const char *name)
{
    H5L_info_t info;
    htri_t exists = H5Lexists(file, name, H5P_DEFAULT);

    if (exists == 0)
        return LINK_NONE;
    if (exists < 0 || H5Lget_info(file, name, &info, H5P_DEFAULT) < 0)
        return LINK_BROKEN;
    return info.type == H5L_TYPE_HARD ? LINK_HARD : LINK_OTHER;
}

/* The end of the part of a name that begins at `part`. */
static size_t part_end(const char *name, size_t part)
{
    return part + strcspn(name + part, "/");
}

/* Copies a name without slashes at its ends, and doubled ones; false where
 * nothing is left or it is too long. */
static bool tidy_name(const char *name, char tidy[NAME_LIMIT])
{
    size_t used = 0;

    for (size_t at = 0; name[at] != '\0';) {
        size_t end = part_end(name, at), length = end - at;
        if (length > 0) {
            if (used + 1 + length >= NAME_LIMIT)
                return false;
            if (used > 0)
                tidy[used++] = '/';
            memcpy(tidy + used, name + at, length);
            used += length;
        }
        at = end + (name[end] == '/');
    }
    tidy[used] = '\0';
    return used > 0;
}

/* Goes through a tidy name part by part, and stops at one that is no hard link:
 * *length is then how much of the name leads up to and through it. */
static enum link follow(hid_t file, const char *name, size_t *length)
{
    char prefix[NAME_LIMIT];
    enum link link = LINK_HARD;
    size_t end = 0;

    for (size_t at = 0; link == LINK_HARD && name[at] != '\0';) {
        end = part_end(name, at);
        memcpy(prefix, name, end);
        prefix[end] = '\0';
        link = look_at(file, prefix);
        at = end + (name[end] == '/');
    }
    *length = end;
    return link;
}

/* The object of that name, for the caller to close with H5Oclose. */
static enum kd_status open_object(const struct kd_h5 *file, const char *name, hid_t *id)
{
    char tidy[NAME_LIMIT];
    size_t length = 0;

    kd_h5_quieten();
    *id = H5I_INVALID_HID;
    if (!tidy_name(name, tidy))
        return kd_fail(KD_EDATA, "%s: '%.64s': not a name of a dataset", file->path,
                       name);
    switch (follow(file->id, tidy, &length)) {
    case LINK_NONE:
        return kd_fail(KD_EDATA, "%s: no dataset '%s'", file->path, tidy);
    case LINK_OTHER:
        return kd_fail(KD_EDATA,
                       "%s: '%.*s': a soft or external link, which is not followed",
                       file->path, (int)length, tidy);
    case LINK_BROKEN:
        return kd_h5_fail(KD_EDATA, file, "'%s': cannot be found", tidy);
    case LINK_HARD:
        break;
    }
    *id = H5Oopen(file->id, tidy, H5P_DEFAULT);
    if (*id < 0)
        return kd_h5_fail(KD_EDATA, file, "'%s': cannot open", tidy);
    return KD_OK;
}

static enum kd_status open_dataset(const struct kd_h5 *file, const char *name,
                                   hid_t *id)
{
    enum kd_status status = open_object(file, name, id);

    if (status == KD_OK && H5Iget_type(*id) != H5I_DATASET) {
        H5Oclose(*id);
        *id = H5I_INVALID_HID;
        return kd_fail(KD_EDATA, "%s: '%s': not a dataset", file->path, name);
    }
    return status;
}

bool kd_h5_has(struct kd_h5 *file, const char *name)
{
    char tidy[NAME_LIMIT];
    size_t length = 0;
    hid_t id = H5I_INVALID_HID;

    kd_h5_quieten();
    if (tidy_name(name, tidy) && follow(file->id, tidy, &length) == LINK_HARD)
        id = H5Oopen(file->id, tidy, H5P_DEFAULT);
    if (id < 0)
        return false;
    H5I_type_t kind = H5Iget_type(id);
    H5Oclose(id);
    return kind == H5I_DATASET || kind == H5I_GROUP;
}

/* Which element type a dataset has, and in which byte order. */
static enum kd_status find_type(const struct kd_h5 *file, hid_t dataset,
                                const char *name, enum kd_type *type, bool *little)
{
    hid_t stored = H5Dget_type(dataset);

    if (stored < 0)
        return kd_h5_fail(KD_EDATA, file, "'%s': cannot read its type", name);
    bool known = kd_h5_recognize(stored, type, little);
    H5Tclose(stored);
    if (!known)
        return kd_fail(KD_EDATA,
                       "%s: '%s': not of plain numbers: integers of 8 to 64 bits and "
                       "floats of 16 to 64 are read",
                       file->path, name);
    return KD_OK;
}

static enum kd_status find_shape(const struct kd_h5 *file, hid_t dataset,
                                 const char *name, struct kd_array_info *info)
{
    enum kd_status status = KD_EBUG;
    hsize_t shape[H5S_MAX_RANK] = {0};
    hid_t space = H5Dget_space(dataset);
    int rank = space >= 0 ? H5Sget_simple_extent_ndims(space) : -1;

    if (rank < 0 || H5Sget_simple_extent_dims(space, shape, NULL) < 0) {
        status = kd_h5_fail(KD_EDATA, file, "'%s': cannot read its shape", name);
        goto out;
    }
    if (rank > KD_MAX_RANK || H5Sget_simple_extent_type(space) == H5S_NULL) {
        status = kd_fail(KD_EDATA, "%s: '%s': has %d dimensions, not 0 to %d, or none",
                         file->path, name, rank, KD_MAX_RANK);
        goto out;
    }
    info->rank = (size_t)rank;
    for (size_t i = 0; i < info->rank; i++)
        info->shape[i] = shape[i];
    if (!kd_array_measure(info)) {
        status = kd_fail(KD_EDATA, "%s: '%s': its shape is too large for this machine",
                         file->path, name);
        goto out;
    }
    status = KD_OK;
out:
    if (space >= 0)
        H5Sclose(space);
    return status;
}

/* Where the bytes lie, if they do in one piece as they are. */
static enum kd_status find_offset(const struct kd_h5 *file, hid_t dataset,
                                  const char *name, bool little,
                                  struct kd_array_info *info)
{
    hid_t creation = H5Dget_create_plist(dataset);

    info->offset = UINT64_MAX;
    if (creation < 0)
        return kd_h5_fail(KD_EDATA, file, "'%s': cannot read how it is stored", name);
    H5D_layout_t layout = H5Pget_layout(creation);
    int externals = layout == H5D_CONTIGUOUS ? H5Pget_external_count(creation) : 0;
    H5Pclose(creation);

    if (externals != 0 || layout == H5D_VIRTUAL)
        return kd_fail(KD_EDATA,
                       "%s: '%s': its data lie in other files, which are not read: "
                       "copy them into one, for example with h5repack",
                       file->path, name);
    if (layout != H5D_CONTIGUOUS || info->bytes == 0)
        return KD_OK;
    haddr_t offset = H5Dget_offset(dataset);
    if (offset == HADDR_UNDEF)
        return KD_OK;
    if (offset > file->size || info->bytes > file->size - offset)
        return kd_fail(KD_EDATA,
                       "%s: '%s': truncated: its %llu bytes from %llu on do not fit "
                       "into the file's %llu",
                       file->path, name, (unsigned long long)info->bytes,
                       (unsigned long long)offset, (unsigned long long)file->size);
    if (little)
        info->offset = offset;
    return KD_OK;
}

static enum kd_status dataset_info(const struct kd_h5 *file, hid_t dataset,
                                   const char *name, struct kd_array_info *info)
{
    enum kd_status status = KD_EBUG;
    bool little = false;

    *info = (struct kd_array_info){.type = KD_U8, .offset = UINT64_MAX};
    KD_TRY(find_type(file, dataset, name, &info->type, &little));
    KD_TRY(find_shape(file, dataset, name, info));
    KD_TRY(find_offset(file, dataset, name, little, info));
out:
    return status;
}

enum kd_status kd_h5_info(struct kd_h5 *file, const char *name,
                          struct kd_array_info *info)
{
    enum kd_status status = KD_EBUG;
    hid_t dataset = H5I_INVALID_HID;

    KD_TRY(open_dataset(file, name, &dataset));
    KD_TRY(dataset_info(file, dataset, name, info));
out:
    if (dataset >= 0)
        H5Oclose(dataset);
    return status;
}

/* A flat space of `count` elements in memory. */
static hid_t flat_space(uint64_t count)
{
    hsize_t extent = count;

    return H5Screate_simple(1, &extent, NULL);
}

/* Reads the `count` elements of `where` in a dataset to memory or, where `to` is
 * NULL, writes them from there. That `where` selects as many is the library's
 * check. A call of the library clears its errors, so they are asked for first. */
static enum kd_status transfer(const struct kd_h5 *file, const char *name,
                               hid_t dataset, hid_t where, enum kd_type type,
                               uint64_t count, void *to, const void *from)
{
    enum kd_status status = KD_EBUG;
    hid_t memory = flat_space(count), plain = kd_h5_type(type);

    if (to != NULL && H5Dread(dataset, plain, memory, where, H5P_DEFAULT, to) < 0)
        status = kd_h5_fail(KD_EDATA, file, "'%s': cannot read", name);
    else if (to == NULL &&
             H5Dwrite(dataset, plain, memory, where, H5P_DEFAULT, from) < 0)
        status = kd_h5_fail(KD_EIO, file, "'%s': cannot write", name);
    else
        status = KD_OK;
    if (memory >= 0)
        H5Sclose(memory);
    if (plain >= 0)
        H5Tclose(plain);
    return status;
}

enum kd_status kd_h5_read(struct kd_h5 *file, const char *name,
                          const struct kd_array_info *info, void *data)
{
    enum kd_status status = KD_EBUG;
    hid_t dataset = H5I_INVALID_HID;

    KD_TRY(open_dataset(file, name, &dataset));
    if (info->count > 0)
        KD_TRY(transfer(file, name, dataset, H5S_ALL, info->type, info->count, data,
                        NULL));
out:
    if (dataset >= 0)
        H5Oclose(dataset);
    return status;
}

/* The rows' place in the dataset. */
static enum kd_status select_rows(const struct kd_h5 *file, const char *name,
                                  const struct kd_array_info *info, hid_t dataset,
                                  uint64_t first, uint64_t count, hid_t *space)
{
    hsize_t start[KD_MAX_RANK] = {first}, extent[KD_MAX_RANK] = {count};

    for (size_t i = 1; i < info->rank; i++)
        extent[i] = info->shape[i];
    *space = H5Dget_space(dataset);
    if (*space < 0 || H5Sget_simple_extent_ndims(*space) != (int)info->rank ||
        H5Sselect_hyperslab(*space, H5S_SELECT_SET, start, NULL, extent, NULL) < 0)
        return kd_h5_fail(KD_EDATA, file, "'%s': cannot select rows", name);
    return KD_OK;
}

/* Reads rows to memory or, where `to` is NULL, writes them from there. */
static enum kd_status move_rows(struct kd_h5 *file, const char *name,
                                const struct kd_array_info *info, uint64_t first,
                                uint64_t count, void *to, const void *from)
{
    enum kd_status status = KD_EBUG;
    hid_t dataset = H5I_INVALID_HID, rows = H5I_INVALID_HID;

    if (info->rank == 0 || first > info->shape[0] || count > info->shape[0] - first)
        return kd_fail(KD_EBUG, "%s: '%s': has no %llu rows from %llu on", file->path,
                       name, (unsigned long long)count, (unsigned long long)first);
    KD_TRY(open_dataset(file, name, &dataset));
    if (count > 0 && info->count > 0) {
        KD_TRY(select_rows(file, name, info, dataset, first, count, &rows));
        KD_TRY(transfer(file, name, dataset, rows, info->type,
                        info->count / info->shape[0] * count, to, from));
    }
out:
    if (rows >= 0)
        H5Sclose(rows);
    if (dataset >= 0)
        H5Oclose(dataset);
    return status;
}

enum kd_status kd_h5_read_rows(struct kd_h5 *file, const char *name,
                               const struct kd_array_info *info, uint64_t first,
                               uint64_t count, void *data)
{
    return move_rows(file, name, info, first, count, data, NULL);
}

enum kd_status kd_h5_write_rows(struct kd_h5 *file, const char *name,
                                const struct kd_array_info *info, uint64_t first,
                                uint64_t count, const void *data)
{
    return move_rows(file, name, info, first, count, NULL, data);
}

static enum kd_status make_group(const struct kd_h5 *file, const char *name)
{
    hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
    hid_t group = H5I_INVALID_HID;

    if (H5Pset_obj_track_times(creation, false) >= 0)
        group = H5Gcreate2(file->id, name, H5P_DEFAULT, creation, H5P_DEFAULT);
    enum kd_status status =
        group >= 0 ? KD_OK : kd_h5_fail(KD_EIO, file, "'%s': cannot make", name);
    if (group >= 0)
        H5Gclose(group);
    H5Pclose(creation);
    return status;
}

/* The groups that a tidy name goes through. */
static enum kd_status make_groups(const struct kd_h5 *file, const char *name)
{
    enum kd_status status = KD_OK;
    char prefix[NAME_LIMIT];

    for (size_t at = 0; status == KD_OK;) {
        size_t end = part_end(name, at);
        if (name[end] == '\0')
            break;
        memcpy(prefix, name, end);
        prefix[end] = '\0';
        if (look_at(file->id, prefix) == LINK_NONE)
            status = make_group(file, prefix);
        at = end + 1;
    }
    return status;
}

/* Contiguous, early allocated, never filled, without times; -1 on failure. */
static hid_t contiguous_list(void)
{
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);

    if (list >= 0 && (H5Pset_layout(list, H5D_CONTIGUOUS) < 0 ||
                      H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY) < 0 ||
                      H5Pset_fill_time(list, H5D_FILL_TIME_NEVER) < 0 ||
                      H5Pset_obj_track_times(list, false) < 0)) {
        H5Pclose(list);
        return H5I_INVALID_HID;
    }
    return list;
}

/* In chunks, shuffled and deflated, without times. What a chunk has beyond the last
 * row is zeros, lest it is what memory held. */
static hid_t packed_list(const struct kd_array_info *info, uint64_t chunk)
{
    hsize_t shape[KD_MAX_RANK] = {chunk};
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);

    for (size_t i = 1; i < info->rank; i++)
        shape[i] = info->shape[i];
    if (list >= 0 &&
        (H5Pset_chunk(list, (int)info->rank, shape) < 0 ||
         H5Pset_fill_time(list, H5D_FILL_TIME_ALLOC) < 0 || H5Pset_shuffle(list) < 0 ||
         H5Pset_deflate(list, DEFLATE_LEVEL) < 0 ||
         H5Pset_obj_track_times(list, false) < 0)) {
        H5Pclose(list);
        return H5I_INVALID_HID;
    }
    return list;
}

/* `creation` is closed. */
static enum kd_status make_dataset(const struct kd_h5 *file, const char *name,
                                   const struct kd_array_info *wanted, hid_t creation,
                                   hid_t *dataset)
{
    hsize_t shape[KD_MAX_RANK] = {0};
    hid_t type = kd_h5_type(wanted->type), space;
    enum kd_status status = make_groups(file, name);

    for (size_t i = 0; i < wanted->rank; i++)
        shape[i] = wanted->shape[i];
    space = wanted->rank > 0 ? H5Screate_simple((int)wanted->rank, shape, NULL)
                             : H5Screate(H5S_SCALAR);
    if (status == KD_OK) {
        *dataset =
            H5Dcreate2(file->id, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
        if (*dataset < 0)
            status = kd_h5_fail(KD_EIO, file, "'%s': cannot make the dataset", name);
    }
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    if (creation >= 0)
        H5Pclose(creation);
    return status;
}

/* The dataset that is there already, if it has the type and shape wanted. */
static enum kd_status reopen_dataset(const struct kd_h5 *file, const char *name,
                                     const struct kd_array_info *wanted, hid_t *dataset)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info there;

    KD_TRY(open_dataset(file, name, dataset));
    KD_TRY(dataset_info(file, *dataset, name, &there));
    if (there.type != wanted->type || there.rank != wanted->rank ||
        memcmp(there.shape, wanted->shape, sizeof there.shape) != 0)
        status = kd_fail(KD_EDATA, "%s: '%s': is there with another type or shape",
                         file->path, name);
out:
    return status;
}

enum kd_status kd_h5_write(struct kd_h5 *file, const char *name, enum kd_type type,
                           size_t rank, const uint64_t *shape, const void *data,
                           uint64_t *offset)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info wanted = {.type = type, .rank = rank};
    char tidy[NAME_LIMIT];
    hid_t dataset = H5I_INVALID_HID;

    kd_h5_quieten();
    for (size_t i = 0; i < rank && rank <= KD_MAX_RANK; i++)
        wanted.shape[i] = shape[i];
    if (rank > KD_MAX_RANK || !tidy_name(name, tidy) || !kd_array_measure(&wanted)) {
        status = kd_fail(KD_EBUG, "%s: '%.64s': a name or shape that cannot be written",
                         file->path, name);
        goto out;
    }
    if (look_at(file->id, tidy) == LINK_HARD)
        KD_TRY(reopen_dataset(file, tidy, &wanted, &dataset));
    else
        KD_TRY(make_dataset(file, tidy, &wanted, contiguous_list(), &dataset));
    if (data != NULL && wanted.count > 0)
        KD_TRY(transfer(file, tidy, dataset, H5S_ALL, type, wanted.count, NULL, data));
    if (offset != NULL)
        *offset = wanted.count > 0 ? H5Dget_offset(dataset) : UINT64_MAX;
    status = KD_OK;
out:
    if (dataset >= 0)
        H5Oclose(dataset);
    return status;
}

enum kd_status kd_h5_make_packed(struct kd_h5 *file, const char *name,
                                 const struct kd_array_info *info, uint64_t chunk)
{
    enum kd_status status = KD_EBUG;
    char tidy[NAME_LIMIT];
    hid_t dataset = H5I_INVALID_HID;

    kd_h5_quieten();
    if (!tidy_name(name, tidy) || info->count == 0 || chunk == 0 ||
        chunk > info->shape[0])
        return kd_fail(KD_EBUG, "%s: '%.64s': cannot be packed", file->path, name);
    KD_TRY(make_dataset(file, tidy, info, packed_list(info, chunk), &dataset));
out:
    if (dataset >= 0)
        H5Oclose(dataset);
    return status;
}

/* The names of all datasets, as they are found. */
struct listing {
    const struct kd_h5 *file;
    char **names; /* [count] */
    size_t count;
    size_t capacity;
    size_t seen; /* links, to bound the walk */
    size_t depth;
    char prefix[NAME_LIMIT]; /* the group we are in, "" or ending in a slash */
    enum kd_status status;
};

static enum kd_status list_name(struct listing *list, const char *name)
{
    if (kd_grow(&list->names, &list->capacity, list->count + 1, sizeof *list->names) !=
        KD_OK)
        return KD_EMEMORY;
    list->names[list->count] = kd_format("%s%s", list->prefix, name);
    if (list->names[list->count] == NULL)
        return KD_EMEMORY;
    list->count++;
    return KD_OK;
}

static enum kd_status list_group(struct listing *list, hid_t group);

/* Goes into a group and comes back. */
static enum kd_status list_below(struct listing *list, hid_t group, const char *name)
{
    size_t length = strlen(list->prefix);
    int added = snprintf(list->prefix + length, NAME_LIMIT - length, "%s/", name);

    if (added < 0 || (size_t)added >= NAME_LIMIT - length || list->depth >= DEPTH_LIMIT)
        return kd_fail(KD_EDATA, "%s: groups nested too deeply at '%.64s...'",
                       list->file->path, list->prefix);
    list->depth++;
    enum kd_status status = list_group(list, group);
    list->depth--;
    list->prefix[length] = '\0';
    return status;
}

static enum kd_status list_object(struct listing *list, hid_t group, const char *name)
{
    enum kd_status status = KD_OK;
    hid_t id = H5Oopen(group, name, H5P_DEFAULT);

    if (id < 0)
        return kd_h5_fail(KD_EDATA, list->file, "'%s%s': cannot open", list->prefix,
                          name);
    H5I_type_t kind = H5Iget_type(id);
    if (kind == H5I_DATASET)
        status = list_name(list, name);
    else if (kind == H5I_GROUP)
        status = list_below(list, id, name);
    H5Oclose(id);
    return status;
}

static herr_t list_link(hid_t group, const char *name, const H5L_info_t *info,
                        void *context)
{
    struct listing *list = context;

    if (++list->seen > COUNT_LIMIT)
        list->status = kd_fail(KD_EDATA, "%s: more than %d links in it",
                               list->file->path, COUNT_LIMIT);
    else if (info->type == H5L_TYPE_HARD)
        list->status = list_object(list, group, name);
    return list->status == KD_OK ? 0 : -1;
}

static enum kd_status list_group(struct listing *list, hid_t group)
{
    herr_t result =
        H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, list_link, list);

    if (result < 0 && list->status == KD_OK)
        list->status =
            kd_h5_fail(KD_EDATA, list->file, "'%s': cannot list", list->prefix);
    return list->status;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum kd_status kd_h5_each(struct kd_h5 *file,
                          enum kd_status (*visit)(void *context, const char *name),
                          void *context)
{
    enum kd_status status = KD_EBUG;
    struct listing list = {.file = file, .status = KD_OK};

    kd_h5_quieten();
    KD_TRY(list_group(&list, file->id));
    if (list.count > 0)
        qsort(list.names, list.count, sizeof *list.names, compare_names);
    for (size_t i = 0; i < list.count; i++)
        KD_TRY(visit(context, list.names[i]));
out:
    for (size_t i = 0; i < list.count; i++)
        free(list.names[i]);
    free(list.names);
    return status;
}
