/* SPDX-License-Identifier: MIT */
/* Memory: zeroed and aligned, products checked, failures with words. */
#include "kd/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void what_is_allocated_is_zeroed_and_aligned(void **state)
{
    (void)state;
    for (size_t count = 0; count < 300; count += 13) {
        unsigned char *bytes = kd_alloc(count, 1);
        assert_non_null(bytes);
        assert_int_equal((uintptr_t)bytes % 64, 0);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(bytes[i], 0);
        memset(bytes, 0xff, count);
        free(bytes);
    }
}

static void nothing_can_be_allocated_too(void **state)
{
    double *numbers = NULL;

    (void)state;
    assert_int_equal(KD_NEW(numbers, 0), KD_OK);
    assert_non_null(numbers);
    free(numbers);
}

static void a_product_that_overflows_is_refused(void **state)
{
    double *numbers = NULL;

    (void)state;
    assert_int_equal(KD_NEW(numbers, SIZE_MAX / 8 + 2), KD_EMEMORY);
    assert_null(numbers);
    assert_non_null(strstr(kd_error(), "out of memory"));
    assert_null(kd_alloc(SIZE_MAX, 1));
}

static void products_are_checked(void **state)
{
    size_t product = 7;

    (void)state;
    assert_true(kd_multiply(6, 7, &product));
    assert_int_equal(product, 42);
    assert_true(kd_multiply(SIZE_MAX, 1, &product));
    assert_true(product == SIZE_MAX);
    assert_true(kd_multiply(SIZE_MAX, 0, &product));
    assert_int_equal(product, 0);
    product = 7;
    assert_false(kd_multiply(SIZE_MAX / 2 + 1, 2, &product));
    assert_int_equal(product, 7);
}

static void an_array_grows_and_keeps_what_it_holds(void **state)
{
    uint32_t *numbers = NULL;
    size_t capacity = 0, moves = 0;

    (void)state;
    for (uint32_t i = 0; i < 5000; i++) {
        size_t before = capacity;
        assert_int_equal(kd_grow(&numbers, &capacity, i + 1, sizeof *numbers), KD_OK);
        assert_true(capacity > i);
        moves += capacity != before;
        numbers[i] = i * 3;
    }
    assert_true(moves < 15); /* each is a copy of all there is */
    for (uint32_t i = 0; i < 5000; i++)
        assert_int_equal(numbers[i], i * 3);
    free(numbers);
}

static void an_array_that_cannot_grow_is_left_as_it_was(void **state)
{
    uint32_t *numbers = NULL, *before = NULL;
    size_t capacity = 0;

    (void)state;
    assert_int_equal(kd_grow(&numbers, &capacity, 10, sizeof *numbers), KD_OK);
    before = numbers;
    size_t room = capacity;
    assert_int_equal(kd_grow(&numbers, &capacity, SIZE_MAX / 2, sizeof *numbers),
                     KD_EMEMORY);
    assert_int_equal(kd_grow(&numbers, &capacity, SIZE_MAX, 1), KD_EMEMORY);
    assert_ptr_equal(numbers, before);
    assert_int_equal(capacity, room);
    assert_non_null(strstr(kd_error(), "out of memory"));
    free(numbers);
}

static void texts_are_formatted_and_copied(void **state)
{
    char *text = kd_format("%s-%06d.h5", "shard", 12);

    (void)state;
    assert_string_equal(text, "shard-000012.h5");
    char *copy = kd_copy_string(text);
    free(text);
    assert_string_equal(copy, "shard-000012.h5");
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_allocated_is_zeroed_and_aligned),
        cmocka_unit_test(nothing_can_be_allocated_too),
        cmocka_unit_test(a_product_that_overflows_is_refused),
        cmocka_unit_test(products_are_checked),
        cmocka_unit_test(an_array_grows_and_keeps_what_it_holds),
        cmocka_unit_test(an_array_that_cannot_grow_is_left_as_it_was),
        cmocka_unit_test(texts_are_formatted_and_copied),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
