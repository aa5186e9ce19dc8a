/* SPDX-License-Identifier: MIT */
/*
 * Diaries: what a run writes down in its directory beside networks: metrics.jsonl for
 * the numbers, of which the same run gives the same bytes, run.jsonl for the times.
 */
#ifndef KD_DIARY_H
#define KD_DIARY_H

#include "kd/json.h"
#include "kd/status.h"

#include <stddef.h>
#include <stdint.h>

/* Writes DIRECTORY/NAME, whole or not at all. */
enum kd_status kd_diary_write(const char *directory, const char *name, const char *text,
                              size_t size) KD_CHECKED;

/* Adds a line to *metrics (NULL at first; on the heap) and writes metrics.jsonl. */
enum kd_status kd_diary_add(const char *directory, struct kd_json *line, char **metrics,
                            size_t *size) KD_CHECKED;

/* Adds an event to run.jsonl, with the time and the version. */
enum kd_status kd_diary_note(const char *directory, const char *event, uint64_t epoch,
                             double seconds) KD_CHECKED;

#endif
