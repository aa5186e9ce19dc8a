/* SPDX-License-Identifier: MIT */
/* HDF5 datasets: their facts, reading, writing of rows. */
#include "base/h5_internal.h"

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

enum kd_status kd_h5_dataset_info(const struct kd_h5 *file, hid_t dataset,
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

    KD_TRY(kd_h5_open_dataset(file, name, &dataset));
    KD_TRY(kd_h5_dataset_info(file, dataset, name, info));
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

enum kd_status kd_h5_transfer(const struct kd_h5 *file, const char *name, hid_t dataset,
                              hid_t where, enum kd_type type, uint64_t count, void *to,
                              const void *from)
{
    enum kd_status status = KD_EBUG;
    hid_t memory = flat_space(count), plain = kd_h5_type(type);

    /* A call of the library clears its errors, so they are asked for first. */
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

    KD_TRY(kd_h5_open_dataset(file, name, &dataset));
    if (info->count > 0)
        KD_TRY(kd_h5_transfer(file, name, dataset, H5S_ALL, info->type, info->count,
                              data, NULL));
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
    KD_TRY(kd_h5_open_dataset(file, name, &dataset));
    if (count > 0 && info->count > 0) {
        KD_TRY(select_rows(file, name, info, dataset, first, count, &rows));
        KD_TRY(kd_h5_transfer(file, name, dataset, rows, info->type,
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
