/* SPDX-License-Identifier: MIT */
/* Learning rates at steps worked out by hand. */
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

static void names_are_in_the_order_of_the_enum(void **state)
{
    (void)state;
    assert_string_equal(kd_schedule_kinds[KD_CONSTANT], "constant");
    assert_string_equal(kd_schedule_kinds[KD_STEP], "step");
    assert_string_equal(kd_schedule_kinds[KD_MULTISTEP], "multistep");
    assert_string_equal(kd_schedule_kinds[KD_COSINE], "cosine");
    assert_null(kd_schedule_kinds[4]);
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
        cmocka_unit_test(names_are_in_the_order_of_the_enum),
    };

    return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
