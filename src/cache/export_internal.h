/* SPDX-License-Identifier: MIT */
/* Where exported rows go: a sink for each container. */
#ifndef KD_CACHE_EXPORT_INTERNAL_H
#define KD_CACHE_EXPORT_INTERNAL_H

#include "kd/export.h"
#include "kd/file.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What is written, and where. */
struct kd_export_plan {
    const char *to;
    enum kd_values values;
    double temperature;
    const struct kd_identity *identity;
    uint64_t rows;
    size_t classes;
    uint32_t k;     /* tinyvit */
    uint32_t epoch; /* tinyvit: which of the views */
};

struct kd_export_rows {
    size_t count;
    const uint64_t *id;
    const uint32_t *view;
    const int32_t *label;
    const float *values; /* [count][classes] */
};

struct kd_sink {
    void *inside;
    enum kd_status (*add)(void *inside, const struct kd_export_rows *rows);
    enum kd_status (*commit)(void *inside, char **made); /* path of it, on the heap */
    void (*close)(void *inside); /* what was not committed is removed */
};

/* The plan must stay until the sink is closed. */
enum kd_status kd_export_to_npy(const struct kd_export_plan *plan,
                                struct kd_sink *sink) KD_CHECKED;
enum kd_status kd_export_to_safetensors(const struct kd_export_plan *plan,
                                        struct kd_sink *sink) KD_CHECKED;
enum kd_status kd_export_to_csv(const struct kd_export_plan *plan,
                                struct kd_sink *sink) KD_CHECKED;
enum kd_status kd_export_to_tinyvit(const struct kd_export_plan *plan,
                                    struct kd_sink *sink) KD_CHECKED;

/* A file that gets its name when it is whole, written from front to end. */
struct kd_out {
    struct kd_pending pending;
    FILE *file;
};
enum kd_status kd_out_open(struct kd_out *out, const char *directory,
                           const char *name) KD_CHECKED;
enum kd_status kd_out_write(struct kd_out *out, const void *data,
                            size_t size) KD_CHECKED;

/* Ends the writing; KD_EUSAGE if another file has the name (kd_pending_check). Commit
 * does both; of several files, all are checked before the first is committed. */
enum kd_status kd_out_check(struct kd_out *out) KD_CHECKED;
enum kd_status kd_out_commit(struct kd_out *out) KD_CHECKED;
void kd_out_close(struct kd_out *out); /* one that is zero, or committed, is fine */

#endif
