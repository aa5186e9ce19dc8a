/* SPDX-License-Identifier: MIT */
/* exp and log against the C library's in double, over the whole range. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kd/vector.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define COUNT 1021 /* so that loops have a rest */

KD_VECTOR static void exponentials(const float *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = kd_vector_exp(x[i]);
}

KD_VECTOR static void logarithms(const float *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = kd_vector_log(x[i]);
}

static float from_bits(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Units in the last place between a result and what it should be. */
static double ulps(float is, double should)
{
    int exponent = 0;

    frexp(should, &exponent);
    return fabs((double)is - should) / ldexp(1, exponent - 24);
}

/* The next COUNT floats from `bits` on, `step` apart. */
static void ramp(uint32_t bits, uint32_t step, float *x)
{
    for (uint32_t i = 0; i < COUNT; i++)
        x[i] = from_bits(bits + i * step);
}

static void exp_is_good_to_one_unit(void **state)
{
    static float x[COUNT], y[COUNT];
    const uint32_t sign = UINT32_C(1) << 31, end = 0x42b17217; /* of 88.7228 */
    double worst = 0;

    (void)state;
    for (uint32_t begin = 0x30000000; begin < end; begin += COUNT * 331) {
        for (uint32_t negative = 0; negative < 2; negative++) {
            ramp(begin | negative * sign, 331, x);
            exponentials(x, COUNT, y);
            for (size_t i = 0; i < COUNT; i++)
                if (x[i] >= -86 && x[i] < 88.7228F)
                    worst = fmax(worst, ulps(y[i], exp((double)x[i])));
        }
    }
    print_message("exp: %.3f ulp\n", worst);
    assert_true(worst < 1);
}

static void exp_at_its_ends(void **state)
{
    static const float x[] = {0,         -0.0F,    -86.001F, -1e30F,   -INFINITY,
                              88.72284F, INFINITY, 89,       -FLT_MAX, NAN};
    float y[10];

    (void)state;
    exponentials(x, 10, y);
    assert_true(y[0] == 1 && y[1] == 1);
    assert_true(y[2] == 0 && y[3] == 0 && y[4] == 0 && y[8] == 0);
    assert_true(y[5] == INFINITY && y[6] == INFINITY && y[7] == INFINITY);
    assert_true(isnan(y[9]));
}

static void log_is_good_to_one_unit(void **state)
{
    static float x[COUNT], y[COUNT];
    double worst = 0;

    (void)state;
    for (uint32_t begin = 0x00800000; begin < 0x7f800000 - COUNT * 1709;
         begin += COUNT * 1709) {
        ramp(begin, 1709, x);
        logarithms(x, COUNT, y);
        for (size_t i = 0; i < COUNT; i++)
            worst = fmax(worst, ulps(y[i], log((double)x[i])));
    }
    for (uint32_t near = 0x3f800000 - 40 * COUNT; near < 0x3f800000 + 40 * COUNT;
         near += COUNT) {
        ramp(near, 1, x);
        logarithms(x, COUNT, y);
        for (size_t i = 0; i < COUNT; i++)
            worst = fmax(worst, x[i] == 1 ? fabs((double)y[i])
                                          : ulps(y[i], log((double)x[i])));
    }
    print_message("log: %.3f ulp\n", worst);
    assert_true(worst < 1);
}

static void log_at_its_ends(void **state)
{
    static const float x[] = {1, 0, FLT_MIN / 2, FLT_MIN, FLT_MAX, NAN, INFINITY};
    float y[7];

    (void)state;
    logarithms(x, 7, y);
    assert_true(y[0] == 0);
    assert_true(y[1] > -88.03F && y[1] <= y[2] && y[2] <= y[3]);
    assert_true(fabs((double)y[3] - log((double)FLT_MIN)) < 1e-5);
    assert_true(fabs((double)y[4] - log((double)FLT_MAX)) < 1e-5);
    assert_true(isnan(y[5]) && isnan(y[6]));
}

static void assert_same(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) /* of NaN there are many */
        if (memcmp(a + i, b + i, sizeof a[0]) != 0 && !(isnan(a[i]) && isnan(b[i])))
            fail_msg("%zu: %a, not %a", i, (double)a[i], (double)b[i]);
}

/* The same bits alone, in a vector, and in a rest, of every kind of number. */
static void the_place_in_a_loop_does_not_matter(void **state)
{
    static float x[COUNT], together[COUNT], alone[COUNT];

    (void)state;
    for (uint64_t begin = 0; begin + COUNT * 65521ULL < UINT32_MAX;
         begin += COUNT * 65521ULL) {
        ramp((uint32_t)begin, 65521, x);
        exponentials(x, COUNT, together);
        for (size_t i = 0; i < COUNT; i++)
            exponentials(x + i, 1, alone + i);
        assert_same(together, alone, COUNT);
        logarithms(x, COUNT, together);
        for (size_t i = 0; i < COUNT; i++)
            logarithms(x + i, 1, alone + i);
        assert_same(together, alone, COUNT);
    }
}

/* -- doubles ---------------------------------------------------------------------- */

KD_VECTOR static void exponentials64(const double *x, size_t n, double *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = kd_vector_exp64(x[i]);
}

KD_VECTOR static void logarithms64(const double *x, size_t n, double *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = kd_vector_log64(x[i]);
}

static void exp64_is_good_to_two_units(void **state)
{
    static double x[COUNT], y[COUNT];
    double worst = 0;

    (void)state;
    for (double low = -708; low < 0; low += 3) {
        for (size_t i = 0; i < COUNT; i++)
            x[i] = fmin(low + 3 * (double)i / COUNT, 0);
        exponentials64(x, COUNT, y);
        for (size_t i = 0; i < COUNT; i++)
            worst = fmax(worst, fabs(y[i] / exp(x[i]) - 1) / DBL_EPSILON);
    }
    print_message("exp64: %.3f epsilon\n", worst);
    assert_true(worst < 2);
    x[0] = 0, x[1] = -708.001, x[2] = -INFINITY;
    exponentials64(x, 3, y);
    assert_true(y[0] == 1 && y[1] == 0 && y[2] == 0);
}

static void log64_is_good(void **state)
{
    static double x[COUNT], y[COUNT];
    double worst = 0;

    (void)state;
    for (int exponent = -1022; exponent < 1024; exponent += 7) {
        for (size_t i = 0; i < COUNT; i++)
            x[i] = ldexp(1 + (double)i / COUNT, exponent);
        logarithms64(x, COUNT, y);
        for (size_t i = 0; i < COUNT; i++)
            worst = fmax(worst, fabs(y[i] - log(x[i])) / fmax(1, fabs(log(x[i]))));
    }
    print_message("log64: %.3g\n", worst);
    assert_true(worst < 1e-15);
    x[0] = 0, x[1] = 1;
    logarithms64(x, 2, y);
    assert_true(isfinite(y[0]) && y[0] < -700 && y[1] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_good_to_one_unit),
        cmocka_unit_test(exp_at_its_ends),
        cmocka_unit_test(log_is_good_to_one_unit),
        cmocka_unit_test(log_at_its_ends),
        cmocka_unit_test(the_place_in_a_loop_does_not_matter),
        cmocka_unit_test(exp64_is_good_to_two_units),
        cmocka_unit_test(log64_is_good),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
