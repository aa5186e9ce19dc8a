/* SPDX-License-Identifier: MIT */
/*
 * Log: the talk of a program, on stderr, in one place.
 *
 * The library may say something in passing (a warning, a note); where it goes
 * is the program's business: until kd_log_open is called, nothing is printed.
 * Every line reads "program: text", so that the stages of a pipeline can be
 * told apart when they share a terminal.
 */
#ifndef KD_LOG_H
#define KD_LOG_H

#include "kd/status.h"

#include <stdbool.h>

enum kd_log_level {
    KD_LOG_ERROR,   /* always printed */
    KD_LOG_WARNING, /* not with -q */
    KD_LOG_INFO,    /* not with -q */
    KD_LOG_DETAIL   /* with -v only */
};

/* From now on, lines up to `level` go to stderr behind "program: ". `program`
 * is kept, not copied. */
void kd_log_open(const char *program, enum kd_log_level level);

/* One line; a bar of progress on the same terminal is cleared first. */
void kd_log(enum kd_log_level level, const char *format, ...) KD_PRINTF(2, 3);

/* Whether lines of `level` are printed. */
bool kd_log_enabled(enum kd_log_level level);

#endif
