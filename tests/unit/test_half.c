/* SPDX-License-Identifier: MIT */
/* Half precision and bfloat16: every pattern both ways, every rounding, and vector
 * instructions against plain C. */
#include "kd/half.h"

#include "kd/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HALVES 65536

static uint32_t bits_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* What a half is, by the definition of IEEE 754. */
static double value_of(uint16_t half)
{
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double sign = half & 0x8000 ? -1 : 1;

    if (exponent == 31)
        return fraction != 0 ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(fraction, -24);
    return sign * ldexp(1024 + fraction, exponent - 25);
}

static void every_half_has_the_value_of_its_definition(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < HALVES; h++) {
        double value = value_of((uint16_t)h);
        float mine = kd_half_to_float_one((uint16_t)h);
        if (isnan(value)) {
            uint32_t expected = (h & 0x8000) << 16 | 0x7fc00000 | (h & 0x3ff) << 13;
            assert_int_equal(bits_of(mine), expected);
        } else {
            assert_true((double)mine == value);
            assert_true(!signbit(mine) == !(h & 0x8000));
        }
    }
}

static void every_half_comes_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < HALVES; h++) {
        uint16_t half = (uint16_t)h;
        uint16_t back = kd_half_from_float_one(kd_half_to_float_one(half));
        uint16_t quiet = isnan(value_of(half)) ? 0x200 : 0;
        assert_int_equal(back, half | quiet);
    }
}

/* Between two neighbours: the nearer one, and of two as near the even one. */
static void rounds_to_the_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        double low = value_of((uint16_t)h);
        double high = h == 0x7bff ? 65536 : value_of((uint16_t)(h + 1));
        float middle = (float)((low + high) / 2); /* exact */
        uint16_t even = (uint16_t)(h + (h & 1));

        assert_int_equal(kd_half_from_float_one(middle), even);
        assert_int_equal(kd_half_from_float_one(nextafterf(middle, 0)), h);
        assert_int_equal(kd_half_from_float_one(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(kd_half_from_float_one(-middle), even | 0x8000);
    }
}

static void the_ends_are_as_ieee_says(void **state)
{
    static const struct {
        float from;
        uint16_t to;
    } cases[] = {
        {0.0F, 0},
        {-0.0F, 0x8000},
        {KD_HALF_MAX, 0x7bff},
        {65519.996F, 0x7bff},
        {65520.0F, 0x7c00},
        {-1e30F, 0xfc00},
        {INFINITY, 0x7c00},
        {-INFINITY, 0xfc00},
        {0x1p-24F, 1},
        {0x1p-25F, 0},
        {0x1.000002p-25F, 1},
        {0x1p-149F, 0},
        {0x1p-14F, 0x0400},
        {0x1.ff8p-15F, 0x03ff},
        {1.52492667e-05F, 0x0100},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(kd_half_from_float_one(cases[i].from), cases[i].to);
    assert_int_equal(kd_half_from_float_one(float_of(0x7f800001)), 0x7e00);
    assert_int_equal(kd_half_from_float_one(float_of(0xffabc000)), 0xff5e);
}

enum { BLOCK = 4099 }; /* not a multiple of 8 */

/* Random patterns, with the exponents that halves have made common. */
static void draw(struct kd_random *r, float *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = kd_random_u32(r);
        if (i % 2 == 0)
            bits = (bits & 0x807fffff) | (100 + kd_random_below(r, 45)) << 23;
        to[i] = float_of(bits);
    }
}

static void arrays_have_the_bits_of_plain_c(void **state)
{
    struct kd_random r = kd_random_at(1, KD_RANDOM_TEST, 0, 0);
    static float from[BLOCK];
    static uint16_t to[BLOCK];

    (void)state;
    for (int round = 0; round < 1000; round++) {
        draw(&r, from, BLOCK);
        kd_half_from_float(from, to, BLOCK);
        for (size_t i = 0; i < BLOCK; i++)
            if (to[i] != kd_half_from_float_one(from[i]))
                fail_msg("%08x gives %04x", bits_of(from[i]), to[i]);
    }
}

static void arrays_of_all_halves_have_the_bits_of_plain_c(void **state)
{
    static uint16_t from[HALVES];
    static float to[HALVES];

    (void)state;
    for (uint32_t h = 0; h < HALVES; h++)
        from[h] = (uint16_t)h;
    kd_half_to_float(from, to, HALVES);
    for (uint32_t h = 0; h < HALVES; h++)
        assert_int_equal(bits_of(to[h]), bits_of(kd_half_to_float_one((uint16_t)h)));
}

/* All lengths around a vector's, at all alignments; exactly so many are written. */
static void check_lengths(void (*narrow)(const float *, uint16_t *, size_t),
                          void (*widen)(const uint16_t *, float *, size_t))
{
    float from[40], back[40];
    uint16_t to[40];

    for (size_t i = 0; i < 40; i++)
        from[i] = (float)i;
    for (size_t start = 0; start < 9; start++)
        for (size_t n = 0; n < 30; n++) {
            memset(to, 0xff, sizeof to);
            memset(back, 0xff, sizeof back);
            narrow(from + start, to + start, n);
            widen(to + start, back + start, n);
            for (size_t i = 0; i < 40; i++) {
                int inside = i >= start && i < start + n;
                assert_int_equal(to[i] != 0xffff, inside);
                assert_int_equal(!isnan(back[i]), inside);
                assert_true(!inside || back[i] == from[i]);
            }
        }
}

static void lengths_and_alignments_do_not_matter(void **state)
{
    (void)state;
    check_lengths(kd_half_from_float, kd_half_to_float);
    check_lengths(kd_bf16_from_float, kd_bf16_to_float);
}

/* -- bfloat16 --------------------------------------------------------------- */

/* What a bfloat16 is: 8 bits of exponent, 7 of fraction. */
static double bf16_value_of(uint16_t pattern)
{
    int exponent = pattern >> 7 & 255, fraction = pattern & 127;
    double sign = pattern & 0x8000 ? -1 : 1;

    if (exponent == 255)
        return fraction != 0 ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(fraction, -133);
    return sign * ldexp(128 + fraction, exponent - 134);
}

static void every_bf16_has_the_value_of_its_definition(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < HALVES; h++) {
        double value = bf16_value_of((uint16_t)h);
        float mine = kd_bf16_to_float_one((uint16_t)h);
        uint32_t quiet = isnan(value) ? 0x40 : 0;

        assert_int_equal(bits_of(mine), (h | quiet) << 16);
        assert_true(isnan(value) || (double)mine == value);
        assert_int_equal(kd_bf16_from_float_one(mine), h | quiet);
    }
}

static void bf16_rounds_to_the_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7f80; h++) {
        double low = bf16_value_of((uint16_t)h);
        double high = h == 0x7f7f ? 0x1p128 : bf16_value_of((uint16_t)(h + 1));
        float middle = (float)((low + high) / 2); /* exact */
        uint16_t even = (uint16_t)(h + (h & 1));

        assert_int_equal(kd_bf16_from_float_one(middle), even);
        assert_int_equal(kd_bf16_from_float_one(nextafterf(middle, 0)), h);
        assert_int_equal(kd_bf16_from_float_one(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(kd_bf16_from_float_one(-middle), even | 0x8000);
    }
    assert_int_equal(kd_bf16_from_float_one(KD_BF16_MAX), 0x7f7f);
    assert_int_equal(kd_bf16_from_float_one(-INFINITY), 0xff80);
    assert_int_equal(kd_bf16_from_float_one(float_of(0x7f800001)), 0x7fc0);
    assert_int_equal(kd_bf16_from_float_one(float_of(0xffffffff)), 0xffff);
}

/* The nearest of the two neighbours, by their distances in double. */
static uint16_t nearest_bf16(float value)
{
    uint16_t low = (uint16_t)(bits_of(value) >> 16);
    double x = fabs((double)value), below = fabs(bf16_value_of(low));
    double above =
        (low & 0x7fff) == 0x7f7f ? 0x1p128 : fabs(bf16_value_of((uint16_t)(low + 1)));

    if (x - below == above - x)
        return (uint16_t)(low + (low & 1));
    return (uint16_t)(low + (x - below > above - x));
}

static void bf16_arrays_have_the_nearest_values(void **state)
{
    struct kd_random r = kd_random_at(2, KD_RANDOM_TEST, 0, 0);
    static float from[BLOCK], back[BLOCK];
    static uint16_t to[BLOCK];

    (void)state;
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < BLOCK; i++)
            from[i] = float_of(kd_random_u32(&r) & (i % 3 == 0 ? 0xffff8000 : ~0U));
        kd_bf16_from_float(from, to, BLOCK);
        kd_bf16_to_float(to, back, BLOCK);
        for (size_t i = 0; i < BLOCK; i++) {
            if (isfinite(from[i]) ? to[i] != nearest_bf16(from[i])
                                  : to[i] != kd_bf16_from_float_one(from[i]))
                fail_msg("%08x gives %04x", bits_of(from[i]), to[i]);
            assert_int_equal(bits_of(back[i]), (uint32_t)to[i] << 16);
        }
    }
}

static void bf16_arrays_of_all_patterns_have_the_bits_of_plain_c(void **state)
{
    static uint16_t from[HALVES];
    static float to[HALVES];

    (void)state;
    for (uint32_t h = 0; h < HALVES; h++)
        from[h] = (uint16_t)h;
    kd_bf16_to_float(from, to, HALVES);
    for (uint32_t h = 0; h < HALVES; h++)
        assert_int_equal(bits_of(to[h]), bits_of(kd_bf16_to_float_one((uint16_t)h)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_has_the_value_of_its_definition),
        cmocka_unit_test(every_half_comes_back),
        cmocka_unit_test(rounds_to_the_nearest_even),
        cmocka_unit_test(the_ends_are_as_ieee_says),
        cmocka_unit_test(arrays_have_the_bits_of_plain_c),
        cmocka_unit_test(arrays_of_all_halves_have_the_bits_of_plain_c),
        cmocka_unit_test(lengths_and_alignments_do_not_matter),
        cmocka_unit_test(every_bf16_has_the_value_of_its_definition),
        cmocka_unit_test(bf16_rounds_to_the_nearest_even),
        cmocka_unit_test(bf16_arrays_have_the_nearest_values),
        cmocka_unit_test(bf16_arrays_of_all_patterns_have_the_bits_of_plain_c),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
