/* SPDX-License-Identifier: MIT */
/* HDF5 files that have their name only when they are whole. */
#include "kd/h5.h"

#include "kd/file.h"

enum kd_status kd_h5_save(const char *path, kd_h5_writer *write, const void *context)
{
    enum kd_status status = KD_EBUG;
    struct kd_pending pending = {0};
    struct kd_h5 *file = NULL;

    KD_TRY(kd_pending_open(&pending, path));
    KD_TRY(kd_h5_create(pending.temporary, &file));
    KD_TRY(write(context, file));
    status = kd_h5_finish(file);
    file = NULL;
    KD_TRY(status);
    KD_TRY(kd_pending_commit(&pending));
    status = KD_OK;
out:
    kd_h5_close(file);
    kd_pending_abandon(&pending);
    return status;
}
