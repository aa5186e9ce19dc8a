/* SPDX-License-Identifier: MIT */
/*
 * The lines of metrics.jsonl once more, for TensorBoard:
 * DIRECTORY/events.out.tfevents.kd has an event an epoch with all its numbers under
 * their names.
 *
 * Equal runs leave equal bytes: where other programs put the time of day there is the
 * epoch, so that TensorBoard's relative time counts epochs.
 *
 *     KD_TRY(kd_tensorboard_begin(directory, metrics));  a run starts, or goes on
 *     loop:
 *         KD_TRY(kd_tensorboard_add(directory, line));   an epoch
 *
 * Format: records of TFRecord (length, data, each with a masked CRC-32C) of the
 * protocol buffer tensorflow.Event, of which these fields are used: wall_time 1, step
 * 2, file_version 3, summary 5; of Summary value 1; of its Value tag 1, simple_value 2.
 */
#ifndef KD_TENSORBOARD_INTERNAL_H
#define KD_TENSORBOARD_INTERNAL_H

#include "kd/status.h"

#define KD_TENSORBOARD_FILE "events.out.tfevents.kd"

/* Writes the file anew, for the lines so far; NULL: none. What a run that was stopped
 * wrote behind its checkpoint goes. KD_EDATA for what is no such lines; KD_EIO. */
enum kd_status kd_tensorboard_begin(const char *directory,
                                    const char *metrics) KD_CHECKED;

/* Adds the event of one more line at the end, where a TensorBoard that is watching the
 * file finds it. */
enum kd_status kd_tensorboard_add(const char *directory, const char *line) KD_CHECKED;

#endif
