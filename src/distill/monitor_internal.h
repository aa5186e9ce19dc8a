/* SPDX-License-Identifier: MIT */
/* The columns of a record, in whatever file they are. */
#ifndef KD_MONITOR_INTERNAL_H
#define KD_MONITOR_INTERNAL_H

#include "kd/h5.h"
#include "kd/monitor.h"

/* Writes the columns but for the ids as GROUP/epoch, ... (group "": /epoch), or reads
 * them into a record that was made; KD_EDATA where they are not `count` long. */
enum kd_status kd_record_write(const struct kd_record *record, struct kd_h5 *file,
                               const char *group) KD_CHECKED;
enum kd_status kd_record_read(struct kd_record *record, struct kd_h5 *file,
                              const char *group) KD_CHECKED;

#endif
