/* SPDX-License-Identifier: MIT */
/* HDF5 objects by name: by hard links alone. */
#include "base/h5_internal.h"

#include <string.h>

enum kd_h5_link kd_h5_look_at(hid_t file, const char *name)
{
    H5L_info_t info;
    htri_t exists = H5Lexists(file, name, H5P_DEFAULT);

    if (exists == 0)
        return KD_H5_LINK_NONE;
    if (exists < 0 || H5Lget_info(file, name, &info, H5P_DEFAULT) < 0)
        return KD_H5_LINK_BROKEN;
    return info.type == H5L_TYPE_HARD ? KD_H5_LINK_HARD : KD_H5_LINK_OTHER;
}

size_t kd_h5_part_end(const char *name, size_t part)
{
    return part + strcspn(name + part, "/");
}

bool kd_h5_tidy_name(const char *name, char tidy[KD_H5_NAME_LIMIT])
{
    size_t used = 0;

    for (size_t at = 0; name[at] != '\0';) {
        size_t end = kd_h5_part_end(name, at), length = end - at;
        if (length > 0) {
            if (used + 1 + length >= KD_H5_NAME_LIMIT)
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
static enum kd_h5_link follow(hid_t file, const char *name, size_t *length)
{
    char prefix[KD_H5_NAME_LIMIT];
    enum kd_h5_link link = KD_H5_LINK_HARD;
    size_t end = 0;

    for (size_t at = 0; link == KD_H5_LINK_HARD && name[at] != '\0';) {
        end = kd_h5_part_end(name, at);
        memcpy(prefix, name, end);
        prefix[end] = '\0';
        link = kd_h5_look_at(file, prefix);
        at = end + (name[end] == '/');
    }
    *length = end;
    return link;
}

/* The object of that name, for the caller to close with H5Oclose. */
static enum kd_status open_object(const struct kd_h5 *file, const char *name, hid_t *id)
{
    char tidy[KD_H5_NAME_LIMIT];
    size_t length = 0;

    kd_h5_quieten();
    *id = H5I_INVALID_HID;
    if (!kd_h5_tidy_name(name, tidy))
        return kd_fail(KD_EDATA, "%s: '%.64s': not a name of a dataset", file->path,
                       name);
    switch (follow(file->id, tidy, &length)) {
    case KD_H5_LINK_NONE:
        return kd_fail(KD_EDATA, "%s: no dataset '%s'", file->path, tidy);
    case KD_H5_LINK_OTHER:
        return kd_fail(KD_EDATA,
                       "%s: '%.*s': a soft or external link, which is not followed",
                       file->path, (int)length, tidy);
    case KD_H5_LINK_BROKEN:
        return kd_h5_fail(KD_EDATA, file, "'%s': cannot be found", tidy);
    case KD_H5_LINK_HARD:
        break;
    }
    *id = H5Oopen(file->id, tidy, H5P_DEFAULT);
    if (*id < 0)
        return kd_h5_fail(KD_EDATA, file, "'%s': cannot open", tidy);
    return KD_OK;
}

enum kd_status kd_h5_open_dataset(const struct kd_h5 *file, const char *name, hid_t *id)
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
    char tidy[KD_H5_NAME_LIMIT];
    size_t length = 0;
    hid_t id = H5I_INVALID_HID;

    kd_h5_quieten();
    if (kd_h5_tidy_name(name, tidy) &&
        follow(file->id, tidy, &length) == KD_H5_LINK_HARD)
        id = H5Oopen(file->id, tidy, H5P_DEFAULT);
    if (id < 0)
        return false;
    H5I_type_t kind = H5Iget_type(id);
    H5Oclose(id);
    return kind == H5I_DATASET || kind == H5I_GROUP;
}
