/* SPDX-License-Identifier: MIT */
/*
 * Checking caches: is one whole and unaltered, and if not, what is wrong with it.
 *
 * Looked at are cache.json, and of each shard its size, the digest of its bytes, its
 * structure, its identity, and every row's check and values (but not those of archived
 * shards, which unpacking proves); whether every row that
 * the identity promises is there, and none twice; and what killed runs left behind.
 * Shards are opened in child processes (kd/child.h): one that makes HDF5 crash is
 * found damaged like any other.
 *
 *     struct kd_check_report report;
 *     enum kd_status status = kd_cache_check(where, &options, &report);
 *     if (status == KD_OK || status == KD_WANTING)
 *         kd_check_report_write(&report, stdout);
 *     kd_check_report_clear(&report);
 *
 * Repair makes a cache one that its program can go on with: shards with something
 * wrong are put aside under another name, and cache.json is removed, so that running
 * the program again makes just what is missing. Where nothing is missing, cache.json
 * is written anew.
 */
#ifndef KD_CACHE_CHECK_H
#define KD_CACHE_CHECK_H

#include "kd/json.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct kd_check_options {
    bool quick;  /* neither hash the files nor read the rows */
    bool repair; /* of directories */
};

/* Something that is wrong, or that was done about it: "PATH: WHAT". */
struct kd_finding {
    char *path;
    char *what;
};

struct kd_findings {
    struct kd_finding *all; /* [count] */
    size_t count, capacity;
};

struct kd_check_report {
    char *where; /* as it was given */
    bool quick;
    struct kd_findings findings;
    struct kd_findings repairs; /* what was done, and what is to be done next */

    /* of the shards that could be opened */
    size_t shards;
    size_t archived; /* of them; their rows are not read */
    uint64_t rows;
    uint64_t promised; /* rows, by the identity */
    uint64_t bytes;
    uint64_t labelled; /* rows whose label is known; 0 if quick */
    uint64_t agreeing; /* of those, where the most probable class is the label */
};

/* Checks a cache (see kd_cache_open: a directory, a shard, paths of shards), several
 * shards at a time as there are compute threads. KD_OK if all is well, or is so after
 * the repair; KD_WANTING if not, with `findings` saying why. Otherwise the check itself
 * failed: KD_ENOINPUT, KD_EDATA for a directory that is no cache at all, KD_ECREATE for
 * the repair of one that is being written, KD_EINTERRUPTED. The report is to be cleared
 * whatever is returned. */
enum kd_status kd_cache_check(const char *where, const struct kd_check_options *options,
                              struct kd_check_report *report) KD_CHECKED;

/* A line for each finding and repair; where there is no finding, one that sums up,
 * with how often the most probable class is the label: of a teacher that is any good,
 * most of the time, and hardly ever if rows and samples got out of step. */
void kd_check_report_write(const struct kd_check_report *report, FILE *to);

/* The same as members of the object that is open in `json`. */
void kd_check_report_json(const struct kd_check_report *report, struct kd_json *json);

void kd_check_report_clear(struct kd_check_report *report);

#endif
