/* SPDX-License-Identifier: MIT */
/* What the writers of files in this chapter share. */
#ifndef KD_FILE_INTERNAL_H
#define KD_FILE_INTERNAL_H

#include "kd/file.h"

/* Makes or empties the temporary file of `pending`. KD_ECREATE. */
enum kd_status kd_pending_create(const struct kd_pending *pending, int *fd) KD_CHECKED;

/* Writes all of it, whatever interrupts; `path` is for the message. KD_EIO. */
enum kd_status kd_write_all(int fd, const char *path, const void *data,
                            size_t size) KD_CHECKED;

#endif
