/* SPDX-License-Identifier: MIT */
/* Glyphs: the same bytes everywhere, balanced, and legible. */
#include "kd/glyph.h"

#include "data_fixture.h"
#include "kd/hash.h"
#include "kd/thread.h"

static const struct kd_glyph_spec usual = {.seed = 1, .size = 20, .difficulty = 1};

/* Every machine and compiler must get these bytes. */
static void samples_are_pinned(void **state)
{
    static const struct {
        struct kd_glyph_spec spec;
        uint64_t digest;
    } cases[] = {{{1, 20, 1}, 0x0017892e92f4f313},
                 {{2, 33, 1.7}, 0xb9ad8d4d9ff45348},
                 {{3, 64, 2}, 0x8107667701b57601}};
    static uint8_t pixels[100][64 * 64];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        size_t area = (size_t)cases[i].spec.size * cases[i].spec.size;
        for (uint64_t id = 0; id < 100; id++)
            (void)kd_glyph_draw(&cases[i].spec, id, (uint8_t *)pixels + id * area);
        assert_int_equal(kd_hash_u64(pixels, 100 * area), cases[i].digest);
    }
}

static void classes_are_balanced_to_within_one(void **state)
{
    struct kd_glyph_spec spec = usual;
    int orders[2][36], counts[36] = {0};
    uint8_t pixels[400];

    (void)state;
    for (uint64_t id = 0; id < 36 * 20; id++) {
        int32_t label = kd_glyph_draw(&spec, id, pixels);
        assert_in_range(label, 0, 35);
        counts[label]++;
        assert_in_range(counts[label], id / 36 + 1, id / 36 + 1);
        if (id < 72)
            orders[id / 36][id % 36] = label;
    }
    assert_memory_not_equal(orders[0], orders[1], sizeof orders[0]);
    spec.seed = 2;
    for (uint64_t id = 0; id < 36; id++)
        orders[1][id] = kd_glyph_draw(&spec, id, pixels);
    assert_memory_not_equal(orders[0], orders[1], sizeof orders[0]);
}

/* Nothing is drawn outside of the sample's own bytes, at any size. */
static void every_size_and_difficulty_can_be_drawn(void **state)
{
    uint8_t pixels[64 * 64 + 1];

    (void)state;
    for (uint32_t size = 12; size <= 64; size++)
        for (int d = 0; d <= 4; d++) {
            struct kd_glyph_spec spec = {size, size, d / 2.0};
            pixels[size * size] = 99;
            for (uint64_t id = 0; id < 10; id++)
                (void)kd_glyph_draw(&spec, UINT64_MAX - id, pixels);
            assert_int_equal(pixels[size * size], 99);
        }
}

static int distance(const uint8_t *a, const uint8_t *b, size_t count)
{
    int sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += abs(a[i] - b[i]);
    return sum;
}

/* At difficulty 0 a class has one form, and any two differ in at least the ink of
 * some pixels: no two classes are drawn alike. */
static void clean_classes_are_fixed_and_distinct(void **state)
{
    const struct kd_glyph_spec clean = {.seed = 4, .size = 20, .difficulty = 0};
    static uint8_t first[36][400];
    uint8_t pixels[400];

    (void)state;
    for (uint64_t id = 0; id < 36; id++) {
        int32_t label = kd_glyph_draw(&clean, id, pixels);
        memcpy(first[label], pixels, sizeof pixels);
    }
    for (uint64_t id = 36; id < 108; id++) {
        int32_t label = kd_glyph_draw(&clean, id, pixels);
        assert_memory_equal(first[label], pixels, sizeof pixels);
    }
    for (int a = 0; a < 36; a++)
        for (int b = 0; b < a; b++)
            if (distance(first[a], first[b], 400) < 5 * 255)
                fail_msg("%s and %s differ by %d", kd_glyph_names[a], kd_glyph_names[b],
                         distance(first[a], first[b], 400));
}

static void difficult_samples_vary(void **state)
{
    uint8_t a[400], b[400];

    (void)state;
    for (uint64_t id = 0; id < 200; id++) {
        (void)kd_glyph_draw(&usual, id, a);
        (void)kd_glyph_draw(&usual, id + 36, b);
        assert_true(distance(a, b, 400) > 2000);
    }
}

static void a_file_has_the_samples_and_the_names(void **state)
{
    uint8_t drawn[400], pixels[400];
    int32_t label = -1;

    (void)state;
    assert_ok(kd_glyph_write(&usual, 1000, 5000, "g.h5"));
    struct kd_dataset *data = open_dataset("hdf5:g.h5:/x,/y");
    const struct kd_dataset_facts *facts = kd_dataset_facts(data);
    assert_int_equal(facts->total, 5000);
    assert_int_equal(facts->num_classes, 36);
    assert_string_equal(facts->class_names[0], "0");
    assert_string_equal(facts->class_names[35], "Z");
    assert_int_equal(facts->shape.channels, 1);
    assert_int_equal(facts->shape.height, 20);
    for (uint64_t id = 0; id < 5000; id += 97) {
        int32_t wanted = kd_glyph_draw(&usual, 1000 + id, drawn);
        assert_ok(kd_dataset_read(data, id, pixels, &label));
        assert_int_equal(label, wanted);
        assert_memory_equal(pixels, drawn, sizeof drawn);
    }
    kd_dataset_close(data);
    assert_int_not_equal(access("g.h5.part", F_OK), 0);
}

static void equal_arguments_give_equal_files(void **state)
{
    struct kd_digest a, b;

    (void)state;
    kd_threads_set(1);
    assert_ok(kd_glyph_write(&usual, 0, 4500, "one.h5"));
    kd_threads_set(3);
    assert_ok(kd_glyph_write(&usual, 0, 4500, "many.h5"));
    kd_threads_set(0);
    assert_ok(kd_hash_file("one.h5", &a, NULL));
    assert_ok(kd_hash_file("many.h5", &b, NULL));
    assert_true(kd_digest_equal(&a, &b));
}

static void a_file_that_cannot_be_made_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(kd_glyph_write(&usual, 0, 1, "missing/g.h5"), KD_ECREATE);
    assert_non_null(strstr(kd_error(), "missing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_are_pinned),
        cmocka_unit_test(classes_are_balanced_to_within_one),
        cmocka_unit_test(every_size_and_difficulty_can_be_drawn),
        cmocka_unit_test(clean_classes_are_fixed_and_distinct),
        cmocka_unit_test(difficult_samples_vary),
        cmocka_unit_test(a_file_has_the_samples_and_the_names),
        cmocka_unit_test(equal_arguments_give_equal_files),
        cmocka_unit_test(a_file_that_cannot_be_made_is_an_error),
    };

    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
