/* SPDX-License-Identifier: MIT */
/* Files that exports write from front to end. */
#include "cache/export_internal.h"

#include <stdlib.h>

enum kd_status kd_out_open(struct kd_out *out, const char *directory, const char *name)
{
    enum kd_status status = KD_EBUG;
    char *path = kd_path_join(directory, name);

    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_pending_open(&out->pending, path));
    out->file = fopen(out->pending.temporary, "wb");
    if (out->file == NULL)
        status = kd_fail_errno(KD_ECREATE, "%s: cannot create", out->pending.temporary);
out:
    free(path);
    return status;
}

enum kd_status kd_out_write(struct kd_out *out, const void *data, size_t size)
{
    if (fwrite(data, 1, size, out->file) != size)
        return kd_fail_errno(KD_EIO, "%s: cannot write", out->pending.temporary);
    return KD_OK;
}

enum kd_status kd_out_check(struct kd_out *out)
{
    FILE *file = out->file;

    if (file == NULL)
        return KD_OK;
    out->file = NULL;
    if (fclose(file) != 0)
        return kd_fail_errno(KD_EIO, "%s: cannot write", out->pending.temporary);
    return kd_pending_check(&out->pending);
}

enum kd_status kd_out_commit(struct kd_out *out)
{
    const enum kd_status status = kd_out_check(out);

    return status == KD_OK ? kd_pending_commit(&out->pending) : status;
}

void kd_out_close(struct kd_out *out)
{
    if (out->file != NULL)
        fclose(out->file);
    out->file = NULL;
    kd_pending_abandon(&out->pending);
}
