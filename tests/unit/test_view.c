/* SPDX-License-Identifier: MIT */
/* Views: the same pixels for the same key, and the right ones. */
#include "kd/view.h"

#include "data_fixture.h"
#include "kd/hash.h"
#include "kd/random.h"

static const struct kd_shape shape = {3, 7, 9};
#define SIZE 189

static void fill(uint8_t *sample)
{
    for (int i = 0; i < SIZE; i++)
        sample[i] = (uint8_t)(i + 1);
}

/* A pixel of a view, straight from the definition. */
static uint8_t naive(const uint8_t *sample, size_t c, int y, int x, int down, int right,
                     bool flip)
{
    int width = (int)shape.width, height = (int)shape.height;
    int column = (flip ? width - 1 - x : x) + right, row = y + down;

    if (row < 0 || row >= height || column < 0 || column >= width)
        return 0;
    return sample[(c * shape.height + (size_t)row) * shape.width + (size_t)column];
}

/* The draws of a view, in the order that the format fixes. */
static void draws(const struct kd_view_spec *spec, uint64_t id, uint32_t view,
                  int *down, int *right, bool *flip)
{
    struct kd_random r = kd_random_at(spec->seed, KD_RANDOM_VIEW, id, view);

    *down = *right = 0;
    if (spec->crop > 0) {
        *down = (int)kd_random_below(&r, 2 * spec->crop + 1) - (int)spec->crop;
        *right = (int)kd_random_below(&r, 2 * spec->crop + 1) - (int)spec->crop;
    }
    *flip = spec->flip && kd_random_below(&r, 2) == 1;
}

static void assert_as_naive(const char *text)
{
    struct kd_view_spec spec;
    uint8_t sample[SIZE], drawn[SIZE];

    fill(sample);
    assert_ok(kd_view_parse(text, 11, &spec));
    for (uint32_t view = 1; view < 200; view++) {
        int down, right;
        bool flip;
        draws(&spec, 5, view, &down, &right, &flip);
        kd_view_draw(&spec, shape, KD_U8, 5, view, sample, drawn);
        for (size_t i = 0; i < SIZE; i++) {
            size_t c = i / 63, y = i / 9 % 7, x = i % 9;
            assert_int_equal(drawn[i],
                             naive(sample, c, (int)y, (int)x, down, right, flip));
        }
    }
}

static void views_are_crops_and_flips_of_the_sample(void **state)
{
    (void)state;
    assert_as_naive("crop2,flip");
    assert_as_naive("crop3");
    assert_as_naive("flip");
    assert_as_naive("none");
    assert_as_naive("crop64,flip"); /* most of them empty */
}

static void view_0_is_the_sample(void **state)
{
    struct kd_view_spec spec;
    uint8_t sample[SIZE], drawn[SIZE];

    (void)state;
    fill(sample);
    assert_ok(kd_view_parse("crop4,flip", 1, &spec));
    for (uint64_t id = 0; id < 50; id++) {
        memset(drawn, 0, sizeof drawn);
        kd_view_draw(&spec, shape, KD_U8, id, 0, sample, drawn);
        assert_memory_equal(drawn, sample, SIZE);
    }
}

static void floats_move_like_bytes(void **state)
{
    struct kd_view_spec spec;
    uint8_t sample[SIZE], drawn[SIZE];
    float floats[SIZE], moved[SIZE];

    (void)state;
    fill(sample);
    for (int i = 0; i < SIZE; i++)
        floats[i] = sample[i];
    assert_ok(kd_view_parse("crop2,flip", 3, &spec));
    for (uint32_t view = 0; view < 50; view++) {
        kd_view_draw(&spec, shape, KD_U8, 9, view, sample, drawn);
        kd_view_draw(&spec, shape, KD_F32, 9, view, floats, moved);
        for (int i = 0; i < SIZE; i++)
            assert_true(moved[i] == (float)drawn[i]);
    }
}

/* Caches depend on these: they must never change. */
static void pixels_are_pinned(void **state)
{
    struct kd_view_spec spec;
    uint8_t sample[SIZE], drawn[10][SIZE];

    (void)state;
    fill(sample);
    assert_ok(kd_view_parse("crop4,flip", UINT64_C(0x123456789abcdef), &spec));
    for (uint32_t i = 0; i < 10; i++)
        kd_view_draw(&spec, shape, KD_U8, UINT64_C(40000000000) + i / 5, 1 + i % 5,
                     sample, drawn[i]);
    assert_int_equal(kd_hash_u64(drawn, sizeof drawn), UINT64_C(0x5d46c0a20b1c49ab));
}

static void seed_id_and_view_each_make_another_view(void **state)
{
    struct kd_view_spec spec, other;
    int same[3] = {0};
    uint8_t sample[SIZE], a[SIZE], b[SIZE];

    (void)state;
    fill(sample);
    assert_ok(kd_view_parse("crop3,flip", 1, &spec));
    assert_ok(kd_view_parse("crop3,flip", 2, &other));
    for (uint32_t i = 1; i <= 100; i++) {
        kd_view_draw(&spec, shape, KD_U8, i, i, sample, a);
        kd_view_draw(&other, shape, KD_U8, i, i, sample, b);
        same[0] += memcmp(a, b, SIZE) == 0;
        kd_view_draw(&spec, shape, KD_U8, i + 1, i, sample, b);
        same[1] += memcmp(a, b, SIZE) == 0;
        kd_view_draw(&spec, shape, KD_U8, i, i + 1, sample, b);
        same[2] += memcmp(a, b, SIZE) == 0;
    }
    for (int i = 0; i < 3; i++)
        assert_in_range(same[i], 0, 8); /* 1 in 98 by chance */
}

/* Chi-squared of 9 x 9 x 2 equally likely places, 161 degrees of freedom: between
 * 105 and 230 but for one seed in some thousands. */
static void offsets_and_flips_are_uniform(void **state)
{
    enum { DRAWS = 16200 };
    static const struct kd_shape wide = {1, 9, 19};
    struct kd_view_spec spec;
    uint8_t sample[171] = {0}, drawn[171];
    int counts[162] = {0};
    double square = 0;

    (void)state;
    assert_ok(kd_view_parse("crop4,flip", 77, &spec));
    sample[4 * 19 + 9] = 1; /* the middle, and what is right of it */
    sample[4 * 19 + 10] = 2;
    for (uint64_t id = 0; id < DRAWS; id++) {
        kd_view_draw(&spec, wide, KD_U8, id, 1, sample, drawn);
        const uint8_t *at = memchr(drawn, 1, sizeof drawn);
        assert_non_null(at);
        size_t place = (size_t)(at - drawn), y = place / 19, x = place % 19;
        bool flip = at[-1] == 2;
        assert_in_range(x, 5, 13);
        counts[(y * 9 + x - 5) * 2 + flip]++;
    }
    for (int i = 0; i < 162; i++)
        square += (counts[i] - 100.0) * (counts[i] - 100.0) / 100;
    assert_true(square > 105 && square < 230);
}

static void texts_are_parsed_and_written_canonically(void **state)
{
    static const char *const texts[][2] = {{"none", "none"},
                                           {"crop4", "crop4"},
                                           {"flip", "flip"},
                                           {"crop64,flip", "crop64,flip"},
                                           {"flip,crop1", "crop1,flip"}};
    struct kd_view_spec spec;
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_ok(kd_view_parse(texts[i][0], 4, &spec));
        assert_int_equal(spec.seed, 4);
        kd_view_text(&spec, text);
        assert_string_equal(text, texts[i][1]);
    }
}

static void other_texts_are_refused(void **state)
{
    static const char *const texts[] = {
        "",      "crop",      "crop0",      "crop65",    "crop-1", "crop4x",
        "flip,", "flip,flip", "crop4,none", ",flip",     "flop",   "crop2,crop2",
        "none,", "crop999",   "crop 4",     "crop4 flip"};
    struct kd_view_spec spec;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (kd_view_parse(texts[i], 1, &spec) != KD_EUSAGE)
            fail_msg("'%s' was taken", texts[i]);
        assert_non_null(strstr(kd_error(), "crop4,flip"));
    }
}

static void views_of_samples_too_small_are_refused(void **state)
{
    struct kd_view_spec spec;

    (void)state;
    assert_ok(kd_view_parse("crop7", 1, &spec));
    assert_int_equal(kd_view_check(&spec, shape), KD_EUSAGE);
    assert_non_null(strstr(kd_error(), "7 x 9"));
    assert_ok(kd_view_parse("crop6,flip", 1, &spec));
    assert_ok(kd_view_check(&spec, shape));
    assert_int_equal(kd_view_check(&spec, (struct kd_shape){64, 1, 1}), KD_EUSAGE);
    assert_ok(kd_view_parse("flip", 1, &spec));
    assert_int_equal(kd_view_check(&spec, (struct kd_shape){64, 1, 1}), KD_EUSAGE);
    assert_ok(kd_view_parse("none", 1, &spec));
    assert_ok(kd_view_check(&spec, (struct kd_shape){64, 1, 1}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views_are_crops_and_flips_of_the_sample),
        cmocka_unit_test(view_0_is_the_sample),
        cmocka_unit_test(floats_move_like_bytes),
        cmocka_unit_test(pixels_are_pinned),
        cmocka_unit_test(seed_id_and_view_each_make_another_view),
        cmocka_unit_test(offsets_and_flips_are_uniform),
        cmocka_unit_test(texts_are_parsed_and_written_canonically),
        cmocka_unit_test(other_texts_are_refused),
        cmocka_unit_test(views_of_samples_too_small_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
