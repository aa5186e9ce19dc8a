/* SPDX-License-Identifier: MIT */
/*
 * Reports on caches: identity, encoding, provenance, and figures over the rows, as
 * kd-info prints them.
 */
#ifndef KD_CACHE_REPORT_H
#define KD_CACHE_REPORT_H

#include "kd/json.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stdio.h>

/* Says what a cache (see kd_cache_open) is: lines of text to `to`, or if `json` is not
 * NULL the members of an object that the caller has begun. `statistics` reads and
 * verifies every row, for the figures over all of them. */
enum kd_status kd_cache_report(const char *where, bool statistics, struct kd_json *json,
                               FILE *to) KD_CHECKED;

#endif
