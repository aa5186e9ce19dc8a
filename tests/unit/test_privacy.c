/* SPDX-License-Identifier: MIT */
/* What noisy votes cost, against formulas by hand and integrals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kd/privacy.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static bool near(double is, double should, double relative)
{
    return fabs(is - should) <= relative * fabs(should);
}

static const struct kd_noise gauss = {KD_NOISE_GNMAX, .scale = 40};
static const struct kd_noise laplace = {KD_NOISE_LNMAX, .scale = 20};
static const struct kd_noise confident = {KD_NOISE_CONFIDENT_GNMAX, .scale = 40,
                                          .check = 150, .threshold = 200};

static void renyi_costs_add_up(void **state)
{
    (void)state;
    assert_true(near(kd_privacy_renyi(&gauss, 1, 1, 8), 8.0 / 1600, 1e-12));
    assert_true(near(kd_privacy_renyi(&gauss, 1000, 1000, 8), 5, 1e-12));
    /* 8/(2 * 22500) a question and 8/1600 an answer */
    assert_true(
        near(kd_privacy_renyi(&confident, 1000, 300, 8), 8.0 / 45 + 1.5, 1e-12));
}

/* The densities of Laplace noise around 0 and 1, by the trapezium rule:
 * log(integral of f0^a f1^(1-a)) / (a - 1). */
static double laplace_by_integral(double b, double a)
{
    const double h = 1e-3;
    double sum = 0;

    for (double x = -60 * b; x < 60 * b; x += h)
        sum += h * exp(-a * fabs(x) / b - (1 - a) * fabs(x - 1) / b) / (2 * b);
    return log(sum) / (a - 1);
}

static void the_cost_of_laplace_noise_is_its_renyi_divergence(void **state)
{
    static const double scales[] = {0.5, 1, 3}, orders[] = {1.5, 2, 7};

    (void)state;
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 3; j++) {
            const struct kd_noise noise = {KD_NOISE_LNMAX, .scale = scales[i]};

            assert_true(near(kd_privacy_renyi(&noise, 1, 1, orders[j]),
                             2 * laplace_by_integral(scales[i], orders[j]), 1e-4));
        }
}

static void laplace_noise_is_at_most_its_pure_cost(void **state)
{
    double before = 0;

    (void)state;
    for (double a = 1.01; a < 1e7; a *= 1.5) {
        const double cost = kd_privacy_renyi(&laplace, 1, 1, a);

        assert_true(cost >= before && cost <= 2.0 / 20);
        before = cost;
    }
    assert_true(near(before, 2.0 / 20, 1e-4));
}

/* With e(a) = n a / s^2 the least is at a = 1 + s sqrt(ln(1/delta) / n), and is
 * n/s^2 + 2 sqrt(n ln(1/delta)) / s. */
static void the_best_order_is_found(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 1000000; n *= 7) {
        const double l = log(1e5), x = (double)n;
        const struct kd_privacy cost = kd_privacy_cost(&gauss, n, n, 1e-5);

        assert_true(near(cost.epsilon, x / 1600 + 2 * sqrt(x * l) / 40, 1e-9));
        assert_true(near(cost.order, 1 + 40 * sqrt(l / x), 1e-3));
    }
    /* by hand: 1000/1600 + 2 sqrt(1000 * 11.512925) / 40 = 0.625 + 5.364915 */
    assert_true(
        near(kd_privacy_cost(&gauss, 1000, 1000, 1e-5).epsilon, 5.989915, 1e-6));
    /* 2000/45000 + 500/1600 is 1/s^2 of one such answer: 0.356944 + 2 sqrt(0.356944 *
     * 18.420681) = 5.485359 */
    assert_true(
        near(kd_privacy_cost(&confident, 2000, 500, 1e-8).epsilon, 5.485359, 1e-6));
}

static void few_laplace_answers_are_purely_private(void **state)
{
    struct kd_privacy cost = kd_privacy_cost(&laplace, 3, 3, 1e-6);

    (void)state;
    assert_true(cost.epsilon == 0.3 && isinf(cost.order));
    cost = kd_privacy_cost(&laplace, 3000, 3000, 0);
    assert_true(near(cost.epsilon, 300, 1e-12) && isinf(cost.order));
    cost = kd_privacy_cost(&laplace, 3000, 3000, 1e-6); /* n 2/b^2 ... beats n 2/b */
    assert_true(cost.epsilon < 40 && isfinite(cost.order));
    assert_true(isinf(kd_privacy_cost(&gauss, 1, 1, 0).epsilon));
    assert_true(kd_privacy_cost(&gauss, 0, 0, 1e-5).epsilon == 0);
}

/* No order that can be tried gives less. */
static void no_order_gives_less(void **state)
{
    const struct kd_noise noises[] = {gauss, laplace, confident};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const double least = kd_privacy_cost(&noises[i], 700, 200, 1e-7).epsilon;

        for (double a = 1.0005; a < 1e6; a = 1 + (a - 1) * 1.01)
            assert_true(kd_privacy_renyi(&noises[i], 700, 200, a) +
                            log(1e7) / (a - 1) >=
                        least * (1 - 1e-12));
    }
}

static void noise_that_is_none_is_refused(void **state)
{
    static const struct {
        struct kd_noise noise;
        const char *says;
    } wrong[] = {
        {{KD_NOISE_GNMAX, .scale = 0}, "--noise-scale"},
        {{KD_NOISE_GNMAX, .scale = NAN}, "--noise-scale"},
        {{KD_NOISE_LNMAX, .scale = 1, .threshold = 3}, "not lnmax"},
        {{KD_NOISE_GNMAX, .scale = 1, .check = 3}, "not gnmax"},
        {{KD_NOISE_CONFIDENT_GNMAX, .scale = 1, .threshold = 3}, "--check-scale"},
        {{KD_NOISE_CONFIDENT_GNMAX, .scale = 1, .check = 3}, "--threshold"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(kd_noise_check(&wrong[i].noise), KD_EUSAGE);
        assert_non_null(strstr(kd_error(), wrong[i].says));
    }
    assert_int_equal(kd_noise_check(&gauss), KD_OK);
    assert_int_equal(kd_noise_check(&laplace), KD_OK);
    assert_int_equal(kd_noise_check(&confident), KD_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renyi_costs_add_up),
        cmocka_unit_test(the_cost_of_laplace_noise_is_its_renyi_divergence),
        cmocka_unit_test(laplace_noise_is_at_most_its_pure_cost),
        cmocka_unit_test(the_best_order_is_found),
        cmocka_unit_test(few_laplace_answers_are_purely_private),
        cmocka_unit_test(no_order_gives_less),
        cmocka_unit_test(noise_that_is_none_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
