/* SPDX-License-Identifier: MIT */
/* Learning rates, ramps and annealing at steps worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kd/schedule.h"

#include <math.h>

static void assert_rate(const struct kd_schedule *schedule, uint64_t step,
                        uint64_t steps, uint64_t epochs, double expected)
{
    double rate = kd_schedule_rate(schedule, step, steps, epochs);

    if (!(fabs(rate - expected) <= 1e-14 * fabs(expected)))
        fail_msg("step %llu: %.17g is not %.17g", (unsigned long long)step, rate,
                 expected);
}

static void constant_is_constant(void **state)
{
    const struct kd_schedule s = {.kind = KD_CONSTANT, .lr = 0.3};

    (void)state;
    assert_rate(&s, 0, 5, 2, 0.3);
    assert_rate(&s, 9, 5, 2, 0.3);
}

/* MultiStepLR(milestones=[2, 4], gamma=0.1), stepped at the end of each epoch: epochs
 * 0 and 1 of the loop have lr, 2 and 3 a tenth, from 4 on a hundredth. */
static void multistep_falls_behind_its_milestones_as_pytorch_does(void **state)
{
    const struct kd_schedule s = {.kind = KD_MULTISTEP,
                                  .lr = 0.1,
                                  .gamma = 0.1,
                                  .milestones = {2, 4},
                                  .num_milestones = 2};

    (void)state;
    assert_rate(&s, 0, 3, 6, 0.1);
    assert_rate(&s, 5, 3, 6, 0.1);
    assert_rate(&s, 6, 3, 6, 0.1 * 0.1);
    assert_rate(&s, 11, 3, 6, 0.1 * 0.1);
    assert_rate(&s, 12, 3, 6, 0.1 * 0.1 * 0.1);
    assert_rate(&s, 17, 3, 6, 0.1 * 0.1 * 0.1);
}

static void multistep_counts_epochs_from_the_start_of_the_run(void **state)
{
    const struct kd_schedule s = {.kind = KD_MULTISTEP,
                                  .lr = 1,
                                  .warmup = 2,
                                  .gamma = 0.5,
                                  .milestones = {1, 3},
                                  .num_milestones = 2};

    (void)state;
    assert_rate(&s, 3, 2, 5, 4.0 / 5); /* the warm-up's own way */
    assert_rate(&s, 4, 2, 5, 0.5);     /* milestone 1 passed meanwhile */
    assert_rate(&s, 5, 2, 5, 0.5);
    assert_rate(&s, 6, 2, 5, 0.25);
}

static void milestones_and_gamma_are_of_multistep_alone(void **state)
{
    struct kd_schedule s = {.kind = KD_CONSTANT,
                            .lr = 1,
                            .gamma = 0.1,
                            .milestones = {1},
                            .num_milestones = 1};

    (void)state;
    assert_rate(&s, 2, 2, 2, 1);
    s.kind = KD_COSINE;
    assert_rate(&s, 2, 2, 2, 0.5);
}

/* As PyTorch's StepLR: every epoch that is a multiple. */
static void step_falls_every_so_many_epochs(void **state)
{
    const struct kd_schedule s = {.kind = KD_STEP, .lr = 0.8, .gamma = 0.5, .every = 2};

    (void)state;
    assert_rate(&s, 0, 3, 7, 0.8);
    assert_rate(&s, 5, 3, 7, 0.8);
    assert_rate(&s, 6, 3, 7, 0.4);
    assert_rate(&s, 11, 3, 7, 0.4);
    assert_rate(&s, 12, 3, 7, 0.2);
    assert_rate(&s, 20, 3, 7, 0.1);
}

static void cosine_falls_from_lr_over_half_of_it_towards_zero(void **state)
{
    const struct kd_schedule s = {.kind = KD_COSINE, .lr = 0.8};

    (void)state;
    assert_rate(&s, 0, 4, 3, 0.8);
    assert_rate(&s, 2, 4, 3, 0.8 * (1 + sqrt(3) / 2) / 2); /* cos 30 degrees */
    assert_rate(&s, 3, 4, 3, 0.8 * (1 + sqrt(0.5)) / 2);
    assert_rate(&s, 6, 4, 3, 0.4);
    assert_rate(&s, 8, 4, 3, 0.2);
    assert_rate(&s, 11, 4, 3, 0.8 * (1 - cos(acos(-1) / 12)) / 2); /* the last one */
}

static void warmup_climbs_step_by_step_and_ends_at_lr(void **state)
{
    struct kd_schedule s = {.lr = 1, .warmup = 1, .gamma = 0.5, .every = 9};

    (void)state;
    for (s.kind = KD_CONSTANT; s.kind <= KD_COSINE; s.kind++) {
        assert_rate(&s, 0, 4, 3, 0.2);
        assert_rate(&s, 1, 4, 3, 0.4);
        assert_rate(&s, 2, 4, 3, 0.6);
        assert_rate(&s, 3, 4, 3, 0.8);
        assert_rate(&s, 4, 4, 3, 1);
    }
    s.kind = KD_COSINE; /* over the 8 steps behind the warm-up */
    assert_rate(&s, 8, 4, 3, 0.5);
}

static void warmup_may_be_a_part_of_an_epoch(void **state)
{
    struct kd_schedule s = {.kind = KD_CONSTANT, .lr = 0.9, .warmup = 0.5};

    (void)state;
    assert_rate(&s, 0, 4, 1, 0.3);
    assert_rate(&s, 1, 4, 1, 0.6);
    assert_rate(&s, 2, 4, 1, 0.9);
    s.warmup = 0.3; /* 1.2 steps */
    assert_rate(&s, 0, 4, 1, 0.9 / 2.2);
    assert_rate(&s, 1, 4, 1, 0.9 * 2 / 2.2);
    assert_rate(&s, 2, 4, 1, 0.9);
}

static void warmup_longer_than_the_run_just_climbs(void **state)
{
    struct kd_schedule s = {.kind = KD_COSINE, .lr = 1, .warmup = 3};

    (void)state;
    assert_rate(&s, 0, 2, 2, 1.0 / 7);
    assert_rate(&s, 3, 2, 2, 4.0 / 7);
    s.warmup = 2; /* exactly as long */
    assert_rate(&s, 3, 2, 2, 0.8);
}

static void rates_are_above_zero_and_never_above_lr(void **state)
{
    struct kd_schedule s = {.lr = 0.1,
                            .gamma = 0.2,
                            .milestones = {3, 6, 8},
                            .num_milestones = 3,
                            .every = 4};

    (void)state;
    for (s.kind = KD_CONSTANT; s.kind <= KD_COSINE; s.kind++)
        for (s.warmup = 0; s.warmup < 12; s.warmup += 0.7)
            for (uint64_t step = 0; step < 70; step++) {
                double rate = kd_schedule_rate(&s, step, 7, 10);
                assert_true(rate > 0 && rate <= 0.1);
            }
}

static void a_run_of_one_step_has_a_rate(void **state)
{
    struct kd_schedule s = {.kind = KD_COSINE, .lr = 0.1};

    (void)state;
    assert_rate(&s, 0, 1, 1, 0.1);
    s.warmup = 1;
    assert_rate(&s, 0, 1, 1, 0.05);
}

/* -- the weight of the soft labels -------------------------------------------- */

static void assert_weight(const struct kd_ramp *ramp, uint64_t epoch, double expected,
                          double error)
{
    double weight = kd_ramp_weight(ramp, epoch);

    if (!(fabs(weight - expected) <= error))
        fail_msg("epoch %llu: %.17g is not %.17g", (unsigned long long)epoch, weight,
                 expected);
}

/* The published table: w(0) = 0.0067, w(20) = 0.060, w(40) = 0.287, w(60) = 0.732 and
 * 1 from 80 on. */
static void a_sigmoid_ramp_has_the_published_values(void **state)
{
    const struct kd_ramp ramp = {KD_RAMP_SIGMOID, 80};

    (void)state;
    assert_weight(&ramp, 0, 0.0067, 5e-5);
    assert_weight(&ramp, 20, 0.060, 5e-4);
    assert_weight(&ramp, 40, 0.287, 5e-4);
    assert_weight(&ramp, 60, 0.732, 5e-4);
    assert_weight(&ramp, 79, exp(-5.0 / 6400), 1e-15);
    assert_weight(&ramp, 80, 1, 0);
    assert_weight(&ramp, 1000, 1, 0);
}

static void a_linear_ramp_climbs_from_0_to_1(void **state)
{
    const struct kd_ramp ramp = {KD_RAMP_LINEAR, 4}, at_once = {KD_RAMP_NONE, 4};

    (void)state;
    for (uint64_t epoch = 0; epoch < 9; epoch++) {
        assert_weight(&ramp, epoch, epoch < 4 ? 0.25 * (double)epoch : 1, 0);
        assert_weight(&at_once, epoch, 1, 0);
    }
}

/* -- annealing ------------------------------------------------------------------ */

/* As the code walks: T from 1 to Tmax, one more every int(epochs / Tmax) epochs, and
 * the factor T / Tmax; as the paper writes it: tau from Tmax down to 1, and
 * 1 - (tau - 1) / Tmax. */
static void annealing_is_the_same_in_both_ways_to_write_it(void **state)
{
    const uint64_t epochs[] = {200, 160, 10, 17, 29, 11};

    (void)state;
    for (size_t i = 0; i < sizeof epochs / sizeof epochs[0]; i++)
        for (uint64_t epoch = 0, t = 1, since = 0; epoch < epochs[i]; epoch++) {
            if (since++ == epochs[i] / 10 && t < 10) {
                t++;
                since = 1;
            }
            const uint64_t k = kd_anneal_step(epoch, epochs[i], 10), tau = 10 - k + 1;
            assert_int_equal(k, t);
            assert_true(fabs(kd_anneal_factor(k, 10) - (1 - (double)(tau - 1) / 10)) <
                        1e-15);
        }
}

static void annealing_ends_at_1_and_is_1_without_steps(void **state)
{
    (void)state;
    assert_true(kd_anneal_factor(kd_anneal_step(0, 30, 3), 3) == 1.0 / 3);
    assert_true(kd_anneal_factor(kd_anneal_step(29, 30, 3), 3) == 1);
    assert_true(kd_anneal_factor(kd_anneal_step(6, 7, 7), 7) == 1);
    for (uint64_t epoch = 0; epoch < 5; epoch++)
        assert_true(kd_anneal_factor(kd_anneal_step(epoch, 5, 0), 0) == 1);
}

static void names_are_in_the_order_of_the_enum(void **state)
{
    (void)state;
    assert_string_equal(kd_schedule_kinds[KD_CONSTANT], "constant");
    assert_string_equal(kd_schedule_kinds[KD_STEP], "step");
    assert_string_equal(kd_schedule_kinds[KD_MULTISTEP], "multistep");
    assert_string_equal(kd_schedule_kinds[KD_COSINE], "cosine");
    assert_null(kd_schedule_kinds[4]);
    assert_string_equal(kd_ramp_kinds[KD_RAMP_NONE], "none");
    assert_string_equal(kd_ramp_kinds[KD_RAMP_LINEAR], "linear");
    assert_string_equal(kd_ramp_kinds[KD_RAMP_SIGMOID], "sigmoid");
    assert_null(kd_ramp_kinds[3]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constant_is_constant),
        cmocka_unit_test(multistep_falls_behind_its_milestones_as_pytorch_does),
        cmocka_unit_test(multistep_counts_epochs_from_the_start_of_the_run),
        cmocka_unit_test(milestones_and_gamma_are_of_multistep_alone),
        cmocka_unit_test(step_falls_every_so_many_epochs),
        cmocka_unit_test(cosine_falls_from_lr_over_half_of_it_towards_zero),
        cmocka_unit_test(warmup_climbs_step_by_step_and_ends_at_lr),
        cmocka_unit_test(warmup_may_be_a_part_of_an_epoch),
        cmocka_unit_test(warmup_longer_than_the_run_just_climbs),
        cmocka_unit_test(rates_are_above_zero_and_never_above_lr),
        cmocka_unit_test(a_run_of_one_step_has_a_rate),
        cmocka_unit_test(a_sigmoid_ramp_has_the_published_values),
        cmocka_unit_test(a_linear_ramp_climbs_from_0_to_1),
        cmocka_unit_test(annealing_is_the_same_in_both_ways_to_write_it),
        cmocka_unit_test(annealing_ends_at_1_and_is_1_without_steps),
        cmocka_unit_test(names_are_in_the_order_of_the_enum),
    };

    return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
