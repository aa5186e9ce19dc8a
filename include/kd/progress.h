/* SPDX-License-Identifier: MIT */
/*
 * Progress and interruption: what a long run tells, and how it is stopped.
 *
 * On a terminal a bar with rate and time left is redrawn a few times a second;
 * elsewhere a line now and then (after 10 s, then every 30 s). Nothing with -q.
 *
 *     struct kd_progress progress;
 *     kd_progress_open(&progress, "dumping", "samples", total);
 *     for (...) {
 *         ...
 *         kd_progress_set(&progress, done);
 *         if (kd_interrupted()) {
 *             status = kd_fail_interrupted("dumping");
 *             goto out;
 *         }
 *     }
 *     kd_progress_close(&progress);
 */
#ifndef KD_PROGRESS_H
#define KD_PROGRESS_H

#include "kd/status.h"

#include <stdbool.h>
#include <stdint.h>

struct kd_progress {
    const char *what; /* kept, not copied */
    const char *unit;
    uint64_t total; /* 0: unknown */
    uint64_t first; /* the count when it was opened or resumed */
    uint64_t done;
    double started; /* seconds, of kd_seconds */
    double shown;
};

void kd_progress_open(struct kd_progress *progress, const char *what, const char *unit,
                      uint64_t total);

/* What was done before this run counts for the bar, not for the rate. */
void kd_progress_resume(struct kd_progress *progress, uint64_t done);
void kd_progress_set(struct kd_progress *progress, uint64_t done);

/* Clears the bar; says how many, how long and how fast, at detail level. */
void kd_progress_close(struct kd_progress *progress);

/* Seconds of a clock that only goes forward. */
double kd_seconds(void);

/* "1 h 02 min", "3 min 20 s", "4.1 s" */
#define KD_DURATION_TEXT 32
void kd_duration_text(double seconds, char text[KD_DURATION_TEXT]);

/* From now on SIGINT and SIGTERM set a flag instead of ending the process (a
 * second one ends it at once); SIGPIPE becomes an error of write(). A read of a pipe
 * that a signal finds waiting fails with EINTR: ask kd_interrupted() then. Signals
 * that are ignored stay so (nohup), and child processes start with the defaults. */
void kd_catch_signals(void);

/* Whether a signal has asked the program to stop. */
bool kd_interrupted(void);

/* KD_EINTERRUPTED, "WHAT: interrupted; run the same command again to go on". */
enum kd_status kd_fail_interrupted(const char *what);

#endif
