/* SPDX-License-Identifier: MIT */
/* What is behind a label source. */
#ifndef KD_LABELS_INTERNAL_H
#define KD_LABELS_INTERNAL_H

#include "kd/labels.h"
#include "kd/merged.h"

struct kd_labels {
    struct kd_cache *cache;             /* one of these two ... */
    struct kd_merged *merged;           /* ... or none: a virtual teacher */
    const char *name;                   /* for messages; NULL of a virtual one */
    const struct kd_identity *identity; /* NULL of a virtual one */
    struct kd_virtual virtual;          /* its temperature is set */
    size_t classes;
    struct kd_soft_spec spec;
    bool logits, clean_view, has_tails;
    bool too_large;         /* to stay in memory */
    bool lasts;             /* it is no pipe */
    struct kd_labels *next; /* of several, a batch each */
};

/* Soft labels of rows that have a label; teacher->temperature is set. Where a row has
 * none, to->found says so, or it is KD_EDATA. */
enum kd_status kd_virtual_read(const struct kd_virtual *teacher, size_t classes,
                               const struct kd_labels_rows *rows,
                               const struct kd_soft *to) KD_CHECKED;

/* The error as it is, with kd-merge's options by the names that they have here
 * (kd_merging_name). */
enum kd_status kd_fail_renamed(enum kd_status status) KD_CHECKED;

#endif
