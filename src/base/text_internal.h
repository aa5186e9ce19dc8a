/* SPDX-License-Identifier: MIT */
/* Texts: what the chapters that read and write them share. */
#ifndef KD_TEXT_INTERNAL_H
#define KD_TEXT_INTERNAL_H

#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Turns control characters into question marks and line ends into spaces: a
 * message is one line, and what a file holds must not steer a terminal. */
void kd_text_one_line(char *text);

/* The bytes of the UTF-8 character at `text` (1 to 4), and its code; 0 where
 * there is no whole and valid one. `text` ends with a zero byte. */
size_t kd_text_utf8(const char *text, uint32_t *code);

/* "a whole number from 1 to 10", "a number of at least 0": what was expected. */
#define KD_TEXT_RANGE 96
void kd_text_range_u64(uint64_t min, uint64_t max, char text[KD_TEXT_RANGE]);
void kd_text_range_f64(double min, double max, char text[KD_TEXT_RANGE]);

/* A text that grows. Zeroed at first; a failure to allocate is kept in status
 * and makes the later calls do nothing. `bytes` is freed with free(). */
struct kd_text {
    char *bytes; /* ended by a zero byte; NULL while empty */
    size_t length;
    size_t capacity;
    enum kd_status status;
};

void kd_text_add(struct kd_text *text, const char *bytes, size_t length);
void kd_text_put(struct kd_text *text, const char *string);
void kd_text_format(struct kd_text *text, const char *format, ...) KD_PRINTF(2, 3);

/* Writes it to a stream, or says why that could not be done (KD_EIO). */
enum kd_status kd_text_write(const struct kd_text *text, FILE *to) KD_CHECKED;

#endif
