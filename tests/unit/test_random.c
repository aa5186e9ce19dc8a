/* SPDX-License-Identifier: MIT */
/* Random numbers: the published answers, the distributions, and pinned streams. */
#include "kd/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Known answers of philox4x32 with 10 rounds, from the authors' Random123. */
static void philox_gives_the_published_answers(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], answer[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    uint32_t out[4];

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        kd_philox(known[i].counter, known[i].key, out);
        assert_memory_equal(out, known[i].answer, sizeof out);
    }
}

static void a_stream_is_the_blocks_of_its_counter(void **state)
{
    struct kd_random r = kd_random_at(7, KD_RANDOM_VIEW, 0x500000009, 3);
    uint32_t counter[4] = {0, 3, 9, 5}, block[4];

    (void)state;
    for (uint32_t n = 0; n < 3; n++) {
        counter[0] = n;
        kd_philox(counter, r.key, block);
        for (int i = 0; i < 4; i++)
            assert_int_equal(kd_random_u32(&r), block[i]);
    }
}

/* The numbers are part of the shard format: a change here is a new format. */
static void the_streams_never_change(void **state)
{
    static const uint32_t view[4] = {0x7117fee8, 0x56af767b, 0xc2df42b7, 0x6c02ee3a};
    static const uint32_t order[10] = {7, 8, 5, 2, 0, 9, 4, 3, 1, 6};
    struct kd_random r = kd_random_at(1, KD_RANDOM_VIEW, 2, 3);
    uint32_t mine[10];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(kd_random_u32(&r), view[i]);
    assert_int_equal(kd_random_below(&r, 1000), 23);
    assert_true(kd_random_unit(&r) == 0x1.780a2d4ee6208p-1);
    assert_true(kd_random_between(&r, -2, 5) == 0x1.50a9dab2a796cp+1);
    assert_true(kd_random_normal(&r) == -0x1.459d991f8e927p+0);
    assert_true(kd_random_normal(&r) == -0x1.8aeceb721d4a1p-2);
    assert_true(kd_random_beta(&r, 0.2, 0.2) == 0x1.8ecc985b03fd8p-8);
    assert_true(kd_random_beta(&r, 8, 3) == 0x1.41eca5975bad1p-1);
    kd_random_permutation(1, 2, mine, 10);
    assert_memory_equal(mine, order, sizeof order);
}

static void every_part_of_the_name_makes_another_stream(void **state)
{
    struct kd_random streams[] = {
        kd_random_at(1, KD_RANDOM_VIEW, 1, 1),
        kd_random_at(2, KD_RANDOM_VIEW, 1, 1),
        kd_random_at(UINT64_C(1) << 40 | 1, KD_RANDOM_VIEW, 1, 1),
        kd_random_at(1, KD_RANDOM_GLYPH, 1, 1),
        kd_random_at(1, KD_RANDOM_VIEW, 2, 1),
        kd_random_at(1, KD_RANDOM_VIEW, UINT64_C(1) << 32 | 1, 1),
        kd_random_at(1, KD_RANDOM_VIEW, 1, 2),
    };
    enum { COUNT = sizeof streams / sizeof *streams };
    uint32_t first[COUNT];

    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        first[i] = kd_random_u32(&streams[i]);
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(first[i], first[j]);
    }
}

static void below_is_uniform(void **state)
{
    struct kd_random r = kd_random_at(3, KD_RANDOM_TEST, 0, 0);
    enum { BINS = 13, DRAWS = 130000 };
    int count[BINS] = {0};
    double chi2 = 0;

    (void)state;
    for (int i = 0; i < DRAWS; i++) {
        uint32_t x = kd_random_below(&r, BINS);
        assert_in_range(x, 0, BINS - 1);
        count[x]++;
    }
    for (int i = 0; i < BINS; i++)
        chi2 += pow(count[i] - DRAWS / BINS, 2) / (DRAWS / BINS);
    assert_true(chi2 < 36.5); /* 12 degrees of freedom: 99.97 % */
}

/* With n just over 2^31, taking the top bits without rejection would make half
 * of the numbers twice as likely. */
static void below_has_no_bias_for_large_n(void **state)
{
    struct kd_random r = kd_random_at(4, KD_RANDOM_TEST, 0, 0);
    const uint32_t n = UINT32_C(0xC0000000);
    int thirds[3] = {0};

    (void)state;
    for (int i = 0; i < 90000; i++)
        thirds[kd_random_below(&r, n) % 3]++;
    for (int i = 0; i < 3; i++)
        assert_in_range(thirds[i], 30000 - 700, 30000 + 700);
    assert_int_equal(kd_random_below(&r, 1), 0);
}

static void unit_is_uniform_and_stays_under_one(void **state)
{
    struct kd_random r = kd_random_at(5, KD_RANDOM_TEST, 0, 0);
    enum { DRAWS = 200000 };
    double sum = 0, squares = 0;

    (void)state;
    for (int i = 0; i < DRAWS; i++) {
        double x = kd_random_unit(&r);
        assert_true(x >= 0 && x < 1);
        sum += x;
        squares += x * x;
    }
    assert_true(fabs(sum / DRAWS - 0.5) < 0.003);
    assert_true(fabs(squares / DRAWS - 1.0 / 3) < 0.003);
}

static void between_never_gives_its_upper_bound(void **state)
{
    struct kd_random r = kd_random_at(6, KD_RANDOM_TEST, 0, 0);
    double high = nextafter(1, 2);

    (void)state;
    for (int i = 0; i < 1000; i++) /* half of the sums round to `high` */
        assert_true(kd_random_between(&r, 1, high) == 1);
    assert_true(kd_random_between(&r, 2, 2) == 2);
    for (int i = 0; i < 1000; i++) {
        double x = kd_random_between(&r, -3, -1);
        assert_true(x >= -3 && x < -1);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Kolmogorov and Smirnov's distance from the normal distribution. */
static void normal_is_normal(void **state)
{
    struct kd_random r = kd_random_at(7, KD_RANDOM_TEST, 0, 0);
    enum { DRAWS = 100000 };
    double *x = calloc(DRAWS, sizeof *x), worst = 0;

    (void)state;
    assert_non_null(x);
    for (int i = 0; i < DRAWS; i++)
        x[i] = kd_random_normal(&r);
    qsort(x, DRAWS, sizeof *x, by_value);
    for (int i = 0; i < DRAWS; i++) {
        double expected = 0.5 * erfc(-x[i] / sqrt(2));
        worst = fmax(worst, fabs(expected - (i + 0.5) / DRAWS));
    }
    free(x);
    assert_true(worst * sqrt(DRAWS) < 1.95); /* 99.9 % */
}

/* The same numbers by the C library's logarithm and cosine. */
static void normal_is_box_and_mullers(void **state)
{
    struct kd_random a = kd_random_at(8, KD_RANDOM_TEST, 0, 0), b = a;

    (void)state;
    for (int i = 0; i < 100000; i++) {
        double u = kd_random_unit(&b), v = kd_random_unit(&b);
        double expected = sqrt(-2 * log1p(-u)) * cos(2 * 3.14159265358979323846 * v);
        assert_true(fabs(kd_random_normal(&a) - expected) < 1e-14);
    }
}

/* A gamma deviate's logarithm, by Marsaglia and Tsang's paper and the C library. */
static double naive_log_gamma(struct kd_random *r, double a)
{
    double boost = a < 1 ? log(1 - kd_random_unit(r)) / a : 0;
    double d = a + (a < 1) - 1 / 3.0;

    for (;;) {
        double x = kd_random_normal(r), v = pow(1 + x / sqrt(9 * d), 3), u;
        if (v <= 0)
            continue;
        u = 1 - kd_random_unit(r);
        if (log(u) < 0.5 * x * x + d - d * v + d * log(v))
            return log(d * v) + boost;
    }
}

static const double shapes[][2] = {{0.001, 0.001}, {0.01, 0.03}, {0.2, 0.2},
                                   {0.5, 0.5},     {1, 1},       {2, 0.5},
                                   {8, 3},         {100, 100}};
#define NUM_SHAPES (sizeof shapes / sizeof *shapes)

static void beta_is_a_share_of_gammas(void **state)
{
    struct kd_random a = kd_random_at(11, KD_RANDOM_TEST, 0, 0), b = a;

    (void)state;
    for (size_t s = 0; s < NUM_SHAPES; s++)
        for (int i = 0; i < 5000; i++) {
            double x = naive_log_gamma(&b, shapes[s][0]);
            double y = naive_log_gamma(&b, shapes[s][1]);
            double mine = kd_random_beta(&a, shapes[s][0], shapes[s][1]);
            assert_true(mine >= 0 && mine <= 1);
            assert_true(fabs(mine - 1 / (1 + exp(y - x))) < 1e-12);
        }
}

/* Mean a / (a + b), variance a b / ((a + b)^2 (a + b + 1)); bounds of four deviations,
 * the variance's being at most that of a coin. */
static void beta_has_its_mean_and_variance(void **state)
{
    enum { DRAWS = 50000 };
    struct kd_random r = kd_random_at(12, KD_RANDOM_TEST, 0, 0);

    (void)state;
    for (size_t s = 0; s < NUM_SHAPES; s++) {
        const double a = shapes[s][0], b = shapes[s][1], mean = a / (a + b);
        const double variance = mean * (1 - mean) / (a + b + 1);
        double sum = 0, square = 0;
        for (int i = 0; i < DRAWS; i++) {
            double x = kd_random_beta(&r, a, b);
            sum += x;
            square += (x - mean) * (x - mean);
        }
        assert_true(fabs(sum / DRAWS - mean) < 4 * sqrt(variance / DRAWS));
        assert_true(fabs(square / DRAWS - variance) < 6 * variance / sqrt(DRAWS));
    }
}

static void a_permutation_has_each_number_once(void **state)
{
    enum { N = 1000 };
    uint32_t order[N], again[N];
    bool seen[N] = {false};
    int fixed = 0;

    (void)state;
    kd_random_permutation(9, 1, order, N);
    for (size_t i = 0; i < N; i++) {
        assert_in_range(order[i], 0, N - 1);
        assert_false(seen[order[i]]);
        seen[order[i]] = true;
        fixed += order[i] == i;
    }
    assert_true(fixed < 10);
    kd_random_permutation(9, 1, again, N);
    assert_memory_equal(order, again, sizeof order);
    kd_random_permutation(9, 2, again, N);
    assert_memory_not_equal(order, again, sizeof order);
    kd_random_permutation(9, 1, NULL, 0);
}

static void all_permutations_are_equally_likely(void **state)
{
    int count[27] = {0}, kinds = 0;
    uint32_t order[3];

    (void)state;
    for (uint64_t epoch = 0; epoch < 60000; epoch++) {
        kd_random_permutation(10, epoch, order, 3);
        count[order[0] * 9 + order[1] * 3 + order[2]]++;
    }
    for (int i = 0; i < 27; i++)
        if (count[i] > 0) {
            kinds++;
            assert_in_range(count[i], 10000 - 400, 10000 + 400);
        }
    assert_int_equal(kinds, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(a_stream_is_the_blocks_of_its_counter),
        cmocka_unit_test(the_streams_never_change),
        cmocka_unit_test(every_part_of_the_name_makes_another_stream),
        cmocka_unit_test(below_is_uniform),
        cmocka_unit_test(below_has_no_bias_for_large_n),
        cmocka_unit_test(unit_is_uniform_and_stays_under_one),
        cmocka_unit_test(between_never_gives_its_upper_bound),
        cmocka_unit_test(normal_is_normal),
        cmocka_unit_test(normal_is_box_and_mullers),
        cmocka_unit_test(beta_is_a_share_of_gammas),
        cmocka_unit_test(beta_has_its_mean_and_variance),
        cmocka_unit_test(a_permutation_has_each_number_once),
        cmocka_unit_test(all_permutations_are_equally_likely),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
