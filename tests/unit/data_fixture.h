/* SPDX-License-Identifier: MIT */
/* What the tests of datasets share: a directory of their own, and small files. */
#ifndef KD_TESTS_DATA_FIXTURE_H
#define KD_TESTS_DATA_FIXTURE_H

#include "kd/dataset.h"
#include "kd/npy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char fixture_directory[] = "/tmp/kd-test-data-XXXXXX";

static inline int enter_directory(void **state)
{
    (void)state;
    return mkdtemp(fixture_directory) != NULL && chdir(fixture_directory) == 0 ? 0 : -1;
}

static inline int leave_directory(void **state)
{
    char command[64];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", fixture_directory);
    return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

static inline void write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static inline void assert_ok(enum kd_status status)
{
    if (status != KD_OK)
        fail_msg("%d: %s", (int)status, kd_error());
}

static inline struct kd_dataset *open_dataset(const char *name)
{
    struct kd_dataset *data = NULL;

    assert_ok(kd_dataset_open(name, &data));
    assert_non_null(data);
    return data;
}

/* That a dataset is refused, with all of up to two texts in the message. */
static inline void assert_refused(const char *name, enum kd_status why,
                                  const char *first, const char *second)
{
    struct kd_dataset *data = NULL;
    enum kd_status status = kd_dataset_open(name, &data);

    assert_null(data);
    assert_int_equal(status, why);
    if (strstr(kd_error(), first) == NULL || strstr(kd_error(), second) == NULL)
        fail_msg("'%s' lacks '%s' or '%s'", kd_error(), first, second);
}

/* An .npy file of uint8 samples [count][channels][height][width], all random. */
static inline uint8_t *write_random_bytes(const char *path, size_t count,
                                          struct kd_shape shape)
{
    const uint64_t sizes[4] = {count, shape.channels, shape.height, shape.width};
    size_t bytes = count * kd_shape_size(shape);
    uint8_t *values = malloc(bytes);
    uint32_t x = 12345;

    assert_non_null(values);
    for (size_t i = 0; i < bytes; i++) {
        x = x * UINT32_C(1664525) + UINT32_C(1013904223);
        values[i] = (uint8_t)(x >> 24);
    }
    assert_ok(kd_npy_write(path, KD_U8, 4, sizes, values));
    return values;
}

#endif
