/* SPDX-License-Identifier: MIT */
/*
 * Memory: allocation with checked products and an error message.
 *
 *     float *z = NULL;
 *     KD_TRY(KD_NEW(z, rows * classes));     (zeroed, 64-byte aligned)
 *     ...
 *     free(z);
 *
 * What is allocated here is freed with free().
 */
#ifndef KD_MEMORY_H
#define KD_MEMORY_H

#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>

/* count * size zeroed bytes on a 64-byte boundary; NULL with a message set if
 * the product overflows or there is no memory. A count of 0 gives a pointer
 * that may be freed. */
void *kd_alloc(size_t count, size_t size) KD_CHECKED;

/* Allocates `count` elements of what `pointer` points to; an enum kd_status. */
#define KD_NEW(pointer, count)                                                         \
    (((pointer) = kd_alloc((count), sizeof *(pointer))) != NULL ? KD_OK : KD_EMEMORY)

/* Grows `*array` (of `*capacity` elements of `size` bytes; NULL and 0 at first)
 * so that it holds at least `needed`; on failure it is left as it was. What is
 * new is not zeroed. */
enum kd_status kd_grow(void *array, size_t *capacity, size_t needed,
                       size_t size) KD_CHECKED;

/* printf into a new string; NULL with a message set on failure. Caller frees. */
char *kd_format(const char *format, ...) KD_PRINTF(1, 2) KD_CHECKED;

/* A copy of `text`, NULL with a message set on failure. Caller frees. */
char *kd_copy_string(const char *text) KD_CHECKED;

/* *product = a * b; false if it does not fit. */
bool kd_multiply(size_t a, size_t b, size_t *product) KD_CHECKED;

#endif
