/* SPDX-License-Identifier: MIT */
/* The directory of a run: made where there is none, locked, and left as if nothing had
 * been where nothing came of it. */
#ifndef KD_PLACE_H
#define KD_PLACE_H

#include "kd/file.h"
#include "kd/status.h"

#include <stddef.h>

struct kd_place {
    struct kd_lock lock;
    char *path;  /* NULL: not open */
    size_t made; /* how many of the path's directories were not there before */
};

/* KD_EUSAGE for a directory that holds a cache. To be closed, also after a failure. */
enum kd_status kd_place_open(struct kd_place *place, const char *directory) KD_CHECKED;

/* Unlocks; removes the directories that it made and that are empty. */
void kd_place_close(struct kd_place *place);

#endif
