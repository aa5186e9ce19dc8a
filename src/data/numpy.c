/* SPDX-License-Identifier: MIT */
/* npy:X.npy[,Y.npy], arrays that NumPy saved; they are mapped. */
#include "kd/npy.h"

#include "data/format_internal.h"

static enum kd_status open_array(const char *path, struct kd_array_info *info,
                                 struct kd_bytes *bytes)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_npy_info(path, info));
    KD_TRY(kd_map_open(&bytes->map, path));
    if (info->offset > bytes->map.size ||
        info->bytes > bytes->map.size - info->offset) {
        status = kd_fail(KD_EDATA, "%s: it became shorter while it was opened", path);
        goto out;
    }
    bytes->data = bytes->map.data + info->offset;
    status = KD_OK;
out:
    return status;
}

static enum kd_status open_npy(struct kd_dataset *data, const char *rest)
{
    return kd_array_open_pair(data, rest, open_array);
}

const struct kd_format kd_format_npy = {
    .scheme = "npy", .usage = "X.npy[,Y.npy]", .open = open_npy};
