/* SPDX-License-Identifier: MIT */
/* Orders of samples: each once, near ones together where that is asked for, and what is
 * held out in none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kd/order.h"

#include <stdlib.h>
#include <string.h>

static void open_order(struct kd_order *order, const struct kd_recipe *recipe,
                       uint64_t samples)
{
    if (kd_order_init(order, recipe, 100, samples) != KD_OK)
        fail_msg("%s", kd_error());
}

static struct kd_recipe blocks_of(uint64_t block, uint64_t window)
{
    return (struct kd_recipe){.seed = 3,
                              .shuffle = KD_SHUFFLE_BLOCK,
                              .shuffle_block = block,
                              .shuffle_window = window};
}

/* Every sample of 0 .. samples-1 is in the order or held out, once. */
static void assert_all_once(const struct kd_order *o, uint32_t samples)
{
    uint8_t *seen = calloc(samples, 1);

    assert_int_equal(o->count + o->num_held, samples);
    for (uint32_t i = 0; i < o->count; i++) {
        assert_true(o->at[i] < samples);
        assert_int_equal(seen[o->at[i]]++, 0);
    }
    for (uint32_t i = 0; i < o->num_held; i++)
        assert_int_equal(seen[o->held[i]]++, 0);
    free(seen);
}

static void an_epoch_has_every_sample_once(void **state)
{
    static const uint32_t sizes[] = {1, 2, 7, 64, 65, 1000};
    static const uint64_t blocks[][2] = {{1, 1}, {8, 1}, {8, 3}, {64, 2}, {5000, 7}};

    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (size_t b = 0; b < sizeof blocks / sizeof blocks[0]; b++) {
            const struct kd_recipe block = blocks_of(blocks[b][0], blocks[b][1]);
            const struct kd_recipe full = {.seed = 3};
            struct kd_order o;
            open_order(&o, b == 0 ? &full : &block, sizes[s]);
            for (uint64_t epoch = 1; epoch <= 3; epoch++) {
                kd_order_draw(&o, epoch);
                assert_all_once(&o, sizes[s]);
            }
            kd_order_clear(&o);
        }
}

static void an_order_is_a_function_of_seed_and_epoch(void **state)
{
    struct kd_recipe recipe = blocks_of(16, 4);
    struct kd_order a, b;

    (void)state;
    open_order(&a, &recipe, 1000);
    open_order(&b, &recipe, 1000);
    kd_order_draw(&b, 1);
    kd_order_draw(&b, 2);
    kd_order_draw(&a, 2);
    assert_memory_equal(a.at, b.at, 1000 * sizeof *a.at);
    kd_order_draw(&b, 3);
    assert_memory_not_equal(a.at, b.at, 1000 * sizeof *a.at);
    kd_order_clear(&b);
    recipe.seed = 4;
    open_order(&b, &recipe, 1000);
    kd_order_draw(&b, 2);
    assert_memory_not_equal(a.at, b.at, 1000 * sizeof *a.at);
    kd_order_clear(&a);
    kd_order_clear(&b);
}

/* -- windows ------------------------------------------------------------------- */

struct visit {
    const struct kd_order *order;
    uint8_t *in; /* [samples] */
    uint32_t blocks, samples;
};

static void mark(void *context, uint32_t begin, uint32_t end)
{
    struct visit *v = context;

    for (uint32_t i = begin; i < end; i++)
        v->in[i] = 1;
    v->blocks++;
    v->samples += end - begin;
}

/* The samples of a window are those of its blocks, which are neighbours in the data. */
static void check_windows(uint32_t samples, uint64_t block, uint64_t window,
                          uint64_t epoch)
{
    const struct kd_recipe recipe = blocks_of(block, window);
    struct kd_order o;
    uint32_t n = 0;

    open_order(&o, &recipe, samples);
    kd_order_draw(&o, epoch);
    for (; kd_order_window(&o, n) < o.count; n++) {
        struct visit v = {.order = &o, .in = calloc(samples, 1)};
        const uint32_t begin = kd_order_window(&o, n), end = kd_order_window(&o, n + 1);
        kd_order_each_block(&o, n, mark, &v);
        assert_true(v.blocks >= 1 && v.blocks <= window);
        assert_int_equal(v.samples, end - begin);
        for (uint32_t i = begin; i < end; i++) {
            assert_true(v.in[o.at[i]]);
            assert_int_equal(kd_order_window_of(&o, i), n);
        }
        free(v.in);
    }
    assert_int_equal(n, (samples - 1) / block / window + 1);
    struct visit none = {.order = &o};
    kd_order_each_block(&o, n, mark, &none);
    assert_int_equal(none.blocks, 0);
    kd_order_clear(&o);
}

static void a_window_has_the_samples_of_its_blocks(void **state)
{
    (void)state;
    for (uint64_t epoch = 1; epoch <= 12; epoch++) { /* the short block moves about */
        check_windows(1003, 16, 4, epoch);
        check_windows(64, 16, 2, epoch);
        check_windows(65, 16, 2, epoch);
        check_windows(5, 16, 2, epoch);
        check_windows(7, 1, 3, epoch);
    }
}

/* Of each sample: how often it was announced, and dropped. */
struct traffic {
    uint8_t *coming, *passed; /* [samples] */
};

static void note_coming(void *context, uint32_t begin, uint32_t end)
{
    for (uint32_t i = begin; i < end; i++)
        ((struct traffic *)context)->coming[i]++;
}

static void note_passed(void *context, uint32_t begin, uint32_t end)
{
    for (uint32_t i = begin; i < end; i++)
        ((struct traffic *)context)->passed[i]++;
}

/* Every sample is announced once, before it is read; dropped once, after; and no more
 * than three windows are between the two at any time. */
static void check_traffic(uint32_t samples, uint64_t block, uint64_t window,
                          uint32_t batch, uint64_t epoch)
{
    const struct kd_recipe recipe = blocks_of(block, window);
    struct traffic t = {calloc(samples, 1), calloc(samples, 1)};
    struct kd_order o;

    open_order(&o, &recipe, samples);
    kd_order_draw(&o, epoch);
    for (uint32_t begin = 0; begin + batch <= samples; begin += batch) {
        uint32_t held = 0;
        kd_order_coming(&o, begin, begin + batch, note_coming, &t);
        for (uint32_t i = 0; i < begin + batch; i++)
            assert_int_equal(t.coming[o.at[i]], 1);
        for (uint32_t i = begin; i < samples; i++)
            assert_int_equal(t.passed[o.at[i]], 0);
        kd_order_passed(&o, begin, begin + batch, note_passed, &t);
        for (uint32_t i = 0; i < samples; i++) {
            assert_true(t.coming[i] <= 1 && t.passed[i] <= t.coming[i]);
            held += t.coming[i] - t.passed[i];
        }
        assert_true(held <= 3 * block * window + batch);
    }
    for (uint32_t i = 0; i < samples && samples % batch == 0; i++)
        assert_int_equal(t.passed[i], 1);
    kd_order_clear(&o);
    free(t.coming);
    free(t.passed);
}

static void blocks_are_announced_before_they_are_read_and_dropped_after(void **state)
{
    (void)state;
    for (uint64_t epoch = 1; epoch <= 6; epoch++) {
        check_traffic(1003, 16, 4, 17, epoch); /* 17 divides it */
        check_traffic(1003, 16, 4, 50, epoch);
        check_traffic(96, 8, 1, 32, epoch); /* batches of several windows */
        check_traffic(64, 16, 2, 16, epoch);
        check_traffic(60, 100, 2, 20, epoch);
    }
}

static void a_window_is_mixed_and_so_are_the_blocks(void **state)
{
    const struct kd_recipe recipe = blocks_of(10, 10);
    struct kd_order o;
    uint32_t ascents = 0, near = 0;

    (void)state;
    open_order(&o, &recipe, 10000);
    kd_order_draw(&o, 1);
    for (uint32_t i = 0; i + 1 < 10000; i++) {
        ascents += o.at[i] < o.at[i + 1];
        near += o.at[i] / 10 == o.at[i + 1] / 10;
    }
    assert_true(ascents > 4700 && ascents < 5300);
    assert_true(near > 700 && near < 1100); /* one of ten neighbours, about */
    kd_order_clear(&o);
}

static void a_full_shuffle_is_one_window(void **state)
{
    const struct kd_recipe recipe = {.seed = 1};
    struct kd_order o;

    (void)state;
    open_order(&o, &recipe, 50);
    assert_int_equal(kd_order_window(&o, 0), 0);
    assert_int_equal(kd_order_window(&o, 1), 50);
    assert_int_equal(kd_order_window_of(&o, 49), 0);
    kd_order_clear(&o);
}

/* -- what is held out ----------------------------------------------------------- */

static void a_share_is_held_out_the_same_in_every_epoch(void **state)
{
    struct kd_recipe recipe = blocks_of(16, 4);
    struct kd_order a, b;

    (void)state;
    recipe.holdout.share = 0.1;
    open_order(&a, &recipe, 1003);
    assert_int_equal(a.num_held, 100);
    assert_int_equal(a.count, 903);
    for (uint32_t i = 1; i < a.num_held; i++)
        assert_true(a.held[i - 1] < a.held[i]);
    assert_true(a.held[0] < 100 && a.held[99] > 900); /* from everywhere */
    for (uint64_t epoch = 1; epoch <= 3; epoch++) {
        kd_order_draw(&a, epoch);
        assert_all_once(&a, 1003);
    }
    open_order(&b, &recipe, 1003);
    assert_memory_equal(a.held, b.held, 100 * sizeof *a.held);
    kd_order_clear(&b);
    recipe.seed = 9;
    open_order(&b, &recipe, 1003);
    assert_memory_not_equal(a.held, b.held, 100 * sizeof *a.held);
    kd_order_clear(&a);
    kd_order_clear(&b);
}

static void ids_are_held_out_by_name(void **state)
{
    struct kd_recipe recipe = {.seed = 1, .holdout = {.first = 120, .end = 130}};
    struct kd_order o;

    (void)state;
    open_order(&o, &recipe, 50); /* ids 100 to 149 */
    assert_int_equal(o.num_held, 10);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(o.held[i], 20 + i);
    kd_order_draw(&o, 1);
    assert_all_once(&o, 50);
    kd_order_clear(&o);
}

static void assert_not_held(const struct kd_holdout *holdout, uint64_t samples)
{
    const struct kd_recipe recipe = {.seed = 1, .holdout = *holdout};
    struct kd_order o;

    assert_int_equal(kd_order_init(&o, &recipe, 100, samples), KD_EUSAGE);
    assert_non_null(strstr(kd_error(), "holdout: "));
    kd_order_clear(&o);
}

static void a_holdout_leaves_both_parts_something(void **state)
{
    (void)state;
    assert_not_held(&(struct kd_holdout){.share = 0.001}, 50);
    assert_not_held(&(struct kd_holdout){.share = 0.999}, 50);
    assert_not_held(&(struct kd_holdout){.first = 99, .end = 110}, 50);
    assert_not_held(&(struct kd_holdout){.first = 140, .end = 151}, 50);
    assert_not_held(&(struct kd_holdout){.first = 100, .end = 150}, 50);
    assert_not_held(&(struct kd_holdout){.first = 0, .end = UINT64_MAX}, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_epoch_has_every_sample_once),
        cmocka_unit_test(an_order_is_a_function_of_seed_and_epoch),
        cmocka_unit_test(a_window_has_the_samples_of_its_blocks),
        cmocka_unit_test(blocks_are_announced_before_they_are_read_and_dropped_after),
        cmocka_unit_test(a_window_is_mixed_and_so_are_the_blocks),
        cmocka_unit_test(a_full_shuffle_is_one_window),
        cmocka_unit_test(a_share_is_held_out_the_same_in_every_epoch),
        cmocka_unit_test(ids_are_held_out_by_name),
        cmocka_unit_test(a_holdout_leaves_both_parts_something),
    };

    return cmocka_run_group_tests_name("order", tests, NULL, NULL);
}
