/* SPDX-License-Identifier: MIT */
/* Memory: allocation whose products are checked and whose failures have words. */
#define _DEFAULT_SOURCE /* madvise */
#include "kd/memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Large objects begin where one of the processor's large pages can, of which fewer are
 * to be looked up. */
#define LARGE_PAGE ((size_t)1 << 21)

/* Where a cache line and a vector register begin. */
#define ALIGNMENT 64

bool kd_multiply(size_t a, size_t b, size_t *product)
{
    if (b != 0 && a > SIZE_MAX / b)
        return false;
    *product = a * b;
    return true;
}

/* No object may be larger than PTRDIFF_MAX; asking malloc for one is a bug that
 * some checkers abort on. */
static bool object_size(size_t count, size_t size, size_t *bytes)
{
    return kd_multiply(count, size, bytes) && *bytes <= PTRDIFF_MAX - ALIGNMENT;
}

static enum kd_status fail_memory(size_t count, size_t size)
{
    return kd_fail(KD_EMEMORY, "cannot allocate %zu times %zu bytes: out of memory",
                   count, size);
}

static void *allocate(size_t bytes)
{
    void *pointer = NULL;

    if (bytes < 2 * LARGE_PAGE)
        return aligned_alloc(ALIGNMENT, bytes);
    if (posix_memalign(&pointer, LARGE_PAGE, bytes) != 0)
        return NULL;
#ifdef MADV_HUGEPAGE
    (void)madvise(pointer, bytes, MADV_HUGEPAGE); /* or else it is only slower */
#endif
    return pointer;
}

void *kd_alloc(size_t count, size_t size)
{
    size_t bytes = 0;
    void *pointer = NULL;

    if (object_size(count, size, &bytes)) {
        bytes = (bytes / ALIGNMENT + 1) * ALIGNMENT;
        pointer = allocate(bytes);
    }
    if (pointer == NULL) {
        (void)fail_memory(count, size);
        return NULL;
    }
    return memset(pointer, 0, bytes);
}

enum kd_status kd_grow(void *array, size_t *capacity, size_t needed, size_t size)
{
    void *pointer = NULL;
    size_t count = *capacity < 8 ? 8 : *capacity;
    size_t bytes = 0;

    if (needed <= *capacity)
        return KD_OK;
    while (count < needed && count <= SIZE_MAX / 2)
        count *= 2;
    if (count < needed || !object_size(count, size, &bytes)) {
        count = needed; /* doubling asked for too much; the need itself may fit */
        if (!object_size(count, size, &bytes))
            return fail_memory(needed, size);
    }
    /* The caller's pointer has its own type, so it is copied, not cast. */
    memcpy(&pointer, array, sizeof pointer);
    pointer = realloc(pointer, bytes == 0 ? 1 : bytes);
    if (pointer == NULL)
        return fail_memory(count, size);
    memcpy(array, &pointer, sizeof pointer);
    *capacity = count;
    return KD_OK;
}

char *kd_format(const char *format, ...)
{
    va_list arguments;
    char *text = NULL;
    int length = 0;

    va_start(arguments, format);
    length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) {
        (void)kd_fail(KD_EBUG, "cannot format a text");
        return NULL;
    }
    text = malloc((size_t)length + 1);
    if (text == NULL) {
        (void)fail_memory((size_t)length + 1, 1);
        return NULL;
    }
    va_start(arguments, format);
    vsnprintf(text, (size_t)length + 1, format, arguments);
    va_end(arguments);
    return text;
}

char *kd_copy_string(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = malloc(size);

    if (copy == NULL) {
        (void)fail_memory(size, 1);
        return NULL;
    }
    return memcpy(copy, text, size);
}
