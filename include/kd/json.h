/* SPDX-License-Identifier: MIT */
/*
 * JSON out: lines of metrics, --json answers, cache.json. One writer, so that
 * the same values give the same bytes everywhere.
 *
 *     struct kd_json *json = NULL;
 *     KD_TRY(kd_json_new(&json));
 *     kd_json_begin(json, NULL, '{');
 *     kd_json_u64(json, "rows", 50000);
 *     kd_json_begin(json, "shards", '[');
 *     kd_json_string(json, NULL, "shard-000000.h5");
 *     kd_json_end(json);
 *     kd_json_end(json);
 *     KD_TRY(kd_json_write(json, stdout));      (the text and a newline)
 *     kd_json_free(json);
 *
 * `key` is NULL inside an array and for the outermost value. Failures to
 * allocate are remembered and come out of kd_json_write or kd_json_text. Numbers
 * are written with the fewest digits that read back the same; a NaN or infinity,
 * which JSON does not have, as null. Reading JSON is cJSON's work, in the
 * chapters that need it.
 */
#ifndef KD_JSON_H
#define KD_JSON_H

#include "kd/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct kd_json;

enum kd_status kd_json_new(struct kd_json **json) KD_CHECKED;
void kd_json_free(struct kd_json *json);

/* Opens '{' or '['; closes what was opened last. */
void kd_json_begin(struct kd_json *json, const char *key, char bracket);
void kd_json_end(struct kd_json *json);

void kd_json_string(struct kd_json *json, const char *key, const char *value);
void kd_json_u64(struct kd_json *json, const char *key, uint64_t value);
void kd_json_i64(struct kd_json *json, const char *key, int64_t value);
void kd_json_f64(struct kd_json *json, const char *key, double value);
void kd_json_bool(struct kd_json *json, const char *key, bool value);

/* Indents by two spaces a level; off, everything is in one line. Before the
 * first value. */
void kd_json_pretty(struct kd_json *json);

/* The text so far, owned by `json`. Everything must have been closed. */
enum kd_status kd_json_text(struct kd_json *json, const char **text) KD_CHECKED;
enum kd_status kd_json_write(struct kd_json *json, FILE *to) KD_CHECKED;

#endif
