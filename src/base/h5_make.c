/* SPDX-License-Identifier: MIT */
/* Making HDF5 datasets and the groups that their names go through. */
#include "base/h5_internal.h"

#include <string.h>

#define DEFLATE_LEVEL 6

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
    char prefix[KD_H5_NAME_LIMIT];

    for (size_t at = 0; status == KD_OK;) {
        size_t end = kd_h5_part_end(name, at);
        if (name[end] == '\0')
            break;
        memcpy(prefix, name, end);
        prefix[end] = '\0';
        if (kd_h5_look_at(file->id, prefix) == KD_H5_LINK_NONE)
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

    KD_TRY(kd_h5_open_dataset(file, name, dataset));
    KD_TRY(kd_h5_dataset_info(file, *dataset, name, &there));
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
    char tidy[KD_H5_NAME_LIMIT];
    hid_t dataset = H5I_INVALID_HID;

    kd_h5_quieten();
    for (size_t i = 0; i < rank && rank <= KD_MAX_RANK; i++)
        wanted.shape[i] = shape[i];
    if (rank > KD_MAX_RANK || !kd_h5_tidy_name(name, tidy) ||
        !kd_array_measure(&wanted)) {
        status = kd_fail(KD_EBUG, "%s: '%.64s': a name or shape that cannot be written",
                         file->path, name);
        goto out;
    }
    if (kd_h5_look_at(file->id, tidy) == KD_H5_LINK_HARD)
        KD_TRY(reopen_dataset(file, tidy, &wanted, &dataset));
    else
        KD_TRY(make_dataset(file, tidy, &wanted, contiguous_list(), &dataset));
    if (data != NULL && wanted.count > 0)
        KD_TRY(kd_h5_transfer(file, tidy, dataset, H5S_ALL, type, wanted.count, NULL,
                              data));
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
    char tidy[KD_H5_NAME_LIMIT];
    hid_t dataset = H5I_INVALID_HID;

    kd_h5_quieten();
    if (!kd_h5_tidy_name(name, tidy) || info->count == 0 || chunk == 0 ||
        chunk > info->shape[0])
        return kd_fail(KD_EBUG, "%s: '%.64s': cannot be packed", file->path, name);
    KD_TRY(make_dataset(file, tidy, info, packed_list(info, chunk), &dataset));
out:
    if (dataset >= 0)
        H5Oclose(dataset);
    return status;
}
