/* SPDX-License-Identifier: MIT */
/* Outputs do not take the place of other files. */
#include "kd/file.h"

#include <string.h>
#include <unistd.h>

static bool maps_equal(const struct kd_map *a, const struct kd_map *b)
{
    return a->size == b->size &&
           (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

enum kd_status kd_pending_check(const struct kd_pending *pending)
{
    enum kd_status status = KD_EBUG;
    struct kd_map old = {NULL, 0}, new = {NULL, 0};

    if (access(pending->path, F_OK) != 0)
        return KD_OK;
    KD_TRY(kd_map_open(&old, pending->path));
    KD_TRY(kd_map_open(&new, pending->temporary));
    if (!maps_equal(&old, &new))
        status = kd_fail(KD_EUSAGE,
                         "%s: is there already, made otherwise: remove it or say "
                         "another -o",
                         pending->path);
out:
    kd_map_close(&old);
    kd_map_close(&new);
    return status;
}
