/* SPDX-License-Identifier: MIT */
/* The virtual teacher behind a label source. */
#ifndef KD_LABELS_INTERNAL_H
#define KD_LABELS_INTERNAL_H

#include "kd/labels.h"

/* Soft labels of rows that have a label; teacher->temperature is set. Where a row has
 * none, to->found says so, or it is KD_EDATA. */
enum kd_status kd_virtual_read(const struct kd_virtual *teacher, size_t classes,
                               const struct kd_labels_rows *rows,
                               const struct kd_soft *to) KD_CHECKED;

#endif
