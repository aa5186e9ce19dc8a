/* SPDX-License-Identifier: MIT */
/* Views: the same pixels for the same key, and the right ones. */
#include "kd/view.h"

#include "data_fixture.h"
#include "kd/hash.h"
#include "kd/random.h"

#include <math.h>

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

#define LONGEST "crop64,flip,mixup99.999,cutmix99.999,from4294967294:4294967295"

static void texts_are_parsed_and_written_canonically(void **state)
{
    static const char *const texts[][2] = {{"none", "none"},
                                           {"crop4", "crop4"},
                                           {"flip", "flip"},
                                           {"crop64,flip", "crop64,flip"},
                                           {"flip,crop1", "crop1,flip"},
                                           {"mixup", "mixup0.2"},
                                           {"cutmix", "cutmix1"},
                                           {"mixup1.50", "mixup1.5"},
                                           {"mixup.007", "mixup0.007"},
                                           {"cutmix100", "cutmix100"},
                                           {"cutmix10,flip", "flip,cutmix10"},
                                           {"from3:9,mixup0.3", "mixup0.3,from3:9"},
                                           {LONGEST, LONGEST}};
    struct kd_view_spec spec;
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_ok(kd_view_parse(texts[i][0], 4, &spec));
        assert_int_equal(spec.seed, 4);
        kd_view_text(&spec, text);
        assert_string_equal(text, texts[i][1]);
        assert_int_equal(kd_view_mixes(&spec), strstr(text, "mix") != NULL);
        assert_int_equal(kd_view_draws(&spec), strcmp(text, "none") != 0);
    }
}

static void other_texts_are_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "crop",
        "crop0",
        "crop65",
        "crop-1",
        "crop4x",
        "flip,",
        "flip,flip",
        "crop4,none",
        ",flip",
        "flop",
        "crop2,crop2",
        "none,",
        "crop999",
        "crop 4",
        "crop4 flip",
        "mixup0",
        "mixup-1",
        "mixup101",
        "mixup0.0001",
        "mixup0.2x",
        "mixup0.2.3",
        "mixup,mixup",
        "cutmix1,cutmix2",
        "mixupnan",
        "cutmix0x1",
        "mix",
        "mixup,from",
        "mixup,from1",
        "mixup,from1:",
        "mixup,from:2",
        "mixup,from2:2",
        "mixup,from3:2",
        "mixup,from1:2,from1:2",
        "mixup,from-1:2",
        "mixup,from0:4294967296",
        "mixup,from00000000000000001:2",
        "mixup0.20000000000000000000000000000000000000000000000000000000000000000"};
    struct kd_view_spec spec;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (kd_view_parse(texts[i], 1, &spec) != KD_EUSAGE)
            fail_msg("'%s' was taken", texts[i]);
        assert_non_null(strstr(kd_error(), "crop4,flip"));
    }
    assert_int_equal(kd_view_parse("flip,from1:2", 1, &spec), KD_EUSAGE);
    assert_non_null(strstr(kd_error(), "without mixup or cutmix"));
}

static void assert_unfit(const char *text, struct kd_shape of, const char *message)
{
    const struct kd_dataset_facts data = {
        .name = "data", .shape = of, .type = KD_U8, .total = 20, .first = 5, .end = 10};
    struct kd_view_spec spec;

    assert_ok(kd_view_parse(text, 1, &spec));
    assert_int_equal(kd_view_check(&spec, &data), KD_EUSAGE);
    if (strstr(kd_error(), message) == NULL)
        fail_msg("'%s' is not in '%s'", message, kd_error());
}

static void assert_fit(const char *text, struct kd_shape of)
{
    const struct kd_dataset_facts data = {
        .name = "data", .shape = of, .type = KD_U8, .total = 20, .first = 5, .end = 10};
    struct kd_view_spec spec;

    assert_ok(kd_view_parse(text, 1, &spec));
    assert_ok(kd_view_check(&spec, &data));
}

static void views_that_do_not_fit_are_refused(void **state)
{
    static const struct kd_shape row = {64, 1, 1}, line = {1, 1, 9}, column = {1, 9, 1};

    (void)state;
    assert_unfit("crop7", shape, "7 x 9");
    assert_fit("crop6,flip", shape);
    assert_unfit("crop6,flip", row, "1 x 1");
    assert_unfit("flip", row, "one element wide");
    assert_fit("none", row);
    assert_unfit("cutmix,from0:2", line, "1 x 9");
    assert_unfit("cutmix,from0:2", column, "9 x 1");
    assert_fit("mixup,from0:20", row);
    assert_unfit("mixup,from0:21", row, "no more than 20");
    assert_unfit("mixup", shape, "which samples");
}

static void partners_are_of_the_slice_unless_it_is_said(void **state)
{
    struct kd_dataset_facts data = {
        .name = "data", .shape = shape, .total = 20, .first = 5, .end = 10};
    struct kd_view_spec spec;
    char text[64];

    (void)state;
    assert_ok(kd_view_parse("flip,mixup", 1, &spec));
    assert_ok(kd_view_settle(&spec, &data));
    assert_ok(kd_view_settle(&spec, &data));
    kd_view_text(&spec, text);
    assert_string_equal(text, "flip,mixup0.2,from5:10");
    assert_ok(kd_view_parse("mixup,from0:20", 1, &spec));
    assert_ok(kd_view_settle(&spec, &data));
    kd_view_text(&spec, text);
    assert_string_equal(text, "mixup0.2,from0:20");
    assert_ok(kd_view_parse("flip", 1, &spec));
    assert_ok(kd_view_settle(&spec, &data));
    assert_int_equal(spec.to, 0);
    assert_ok(kd_view_parse("crop7", 1, &spec));
    assert_int_equal(kd_view_settle(&spec, &data), KD_EUSAGE);
    data.total = data.end = UINT64_C(1) << 32;
    assert_ok(kd_view_parse("mixup", 1, &spec));
    assert_int_equal(kd_view_settle(&spec, &data), KD_EUSAGE);
    assert_non_null(strstr(kd_error(), "from0:"));
}

/* What a view mixes in, straight from the definition. */
struct naive_mix {
    bool cut;
    uint64_t partner;
    uint32_t lambda; /* in 65536ths */
    int y, x;
};

static struct naive_mix naive_draws(const struct kd_view_spec *spec, uint64_t id,
                                    uint32_t view)
{
    struct kd_random r = kd_random_at(spec->seed, KD_RANDOM_VIEW, id, view);
    struct naive_mix mix = {.cut = spec->mixup == 0};
    double alpha;

    for (int i = 0; i < (spec->crop > 0 ? 2 : 0); i++)
        (void)kd_random_below(&r, 2 * spec->crop + 1);
    if (spec->flip)
        (void)kd_random_below(&r, 2);
    if (spec->mixup > 0 && spec->cutmix > 0)
        mix.cut = kd_random_below(&r, 2) == 1;
    mix.partner = spec->from + kd_random_below(&r, (uint32_t)(spec->to - spec->from));
    alpha = (mix.cut ? spec->cutmix : spec->mixup) / 1000.0;
    mix.lambda = (uint32_t)lround(65536 * kd_random_beta(&r, alpha, alpha));
    if (mix.cut) {
        mix.y = (int)kd_random_below(&r, (uint32_t)shape.height);
        mix.x = (int)kd_random_below(&r, (uint32_t)shape.width);
    }
    return mix;
}

/* Whether an element is in the box: by its distance from the centre. */
static bool in_box(const struct naive_mix *mix, int y, int x)
{
    const double side = sqrt(1 - mix->lambda / 65536.0);
    const int rows = (int)floor((double)shape.height * side);
    const int columns = (int)floor((double)shape.width * side);
    const int down = y - mix->y + rows / 2, right = x - mix->x + columns / 2;

    return down >= 0 && down < rows && right >= 0 && right < columns;
}

/* Samples of a small world: any function of id and element does. */
static uint8_t level(uint64_t id, size_t i)
{
    return (uint8_t)((id * 77 + i * 131 + i * i * id) % 256);
}

static float real(uint64_t id, size_t i)
{
    return (float)level(id, i) / 37 - 3;
}

/* An element of a view before mixing; 0 beyond the sample. */
static bool source(const struct kd_view_spec *spec, uint64_t id, uint32_t view,
                   size_t i, size_t *at)
{
    size_t c = i / 63;
    int down, right, y = (int)(i / 9 % 7), x = (int)(i % 9);
    bool flip;

    draws(spec, id, view, &down, &right, &flip);
    y += down;
    x = (flip ? 8 - x : x) + right;
    *at = c * 63 + (size_t)(y * 9 + x);
    return y >= 0 && y < 7 && x >= 0 && x < 9;
}

static uint8_t naive_level(const struct kd_view_spec *spec, uint64_t id, uint32_t view,
                           const struct naive_mix *mix, size_t i)
{
    size_t at;
    const int own = source(spec, id, view, i, &at) ? level(id, at) : 0;
    const int other =
        source(spec, mix->partner, view, i, &at) ? level(mix->partner, at) : 0;
    const double lambda = mix->lambda / 65536.0;

    if (mix->cut)
        return (uint8_t)(in_box(mix, (int)(i / 9 % 7), (int)(i % 9)) ? other : own);
    return (uint8_t)floor(lambda * own + (1 - lambda) * other + 0.5);
}

static double naive_real(const struct kd_view_spec *spec, uint64_t id, uint32_t view,
                         const struct naive_mix *mix, size_t i)
{
    size_t at;
    const double own = source(spec, id, view, i, &at) ? real(id, at) : 0;
    const double other =
        source(spec, mix->partner, view, i, &at) ? real(mix->partner, at) : 0;
    const double lambda = mix->lambda / 65536.0;

    if (mix->cut)
        return in_box(mix, (int)(i / 9 % 7), (int)(i % 9)) ? other : own;
    return (double)((float)(lambda * own) + (float)((1 - lambda) * other));
}

static void draw_mixed(const struct kd_view_spec *spec, enum kd_type type, uint64_t id,
                       uint32_t view, void *drawn)
{
    const struct kd_view_mix mix = kd_view_partner(spec, shape, id, view);
    float sample[SIZE], partner[SIZE]; /* large enough for bytes too */
    const uint64_t ids[2] = {mix.partner, id};
    void *const to[2] = {partner, drawn};

    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < SIZE; i++)
            if (type == KD_U8)
                ((uint8_t *)sample)[i] = level(ids[k], i);
            else
                sample[i] = real(ids[k], i);
        kd_view_draw(spec, shape, type, ids[k], view, sample, to[k]);
    }
    if (mix.ratio < 1)
        kd_view_blend(&mix, shape, type, partner, drawn);
}

static float naive_ratio(const struct naive_mix *mix)
{
    int pasted = 0;

    if (!mix->cut)
        return (float)(mix->lambda / 65536.0);
    for (int i = 0; i < 63; i++)
        pasted += in_box(mix, i / 9, i % 9);
    return (float)(1 - pasted / 63.0);
}

/* Returns how many views were mixed. */
static int assert_mixed_as_naive(const char *text)
{
    struct kd_view_spec spec;
    uint8_t bytes[SIZE];
    float floats[SIZE];
    int mixed = 0;

    assert_ok(kd_view_parse(text, 12, &spec));
    for (uint32_t view = 1; view < 300; view++) {
        const uint64_t id = view % 40;
        const struct naive_mix naive_one = naive_draws(&spec, id, view);
        const struct kd_view_mix mix = kd_view_partner(&spec, shape, id, view);
        assert_float_equal(mix.ratio, naive_ratio(&naive_one), 1e-7);
        assert_int_equal(mix.partner, mix.ratio < 1 ? naive_one.partner : id);
        mixed += mix.ratio < 1;
        draw_mixed(&spec, KD_U8, id, view, bytes);
        draw_mixed(&spec, KD_F32, id, view, floats);
        for (size_t i = 0; i < SIZE; i++) {
            assert_int_equal(bytes[i], naive_level(&spec, id, view, &naive_one, i));
            assert_true(floats[i] == (float)naive_real(&spec, id, view, &naive_one, i));
        }
    }
    return mixed;
}

static void mixtures_are_as_defined(void **state)
{
    (void)state;
    assert_in_range(assert_mixed_as_naive("crop2,flip,mixup1,from10:50"), 290, 299);
    assert_in_range(assert_mixed_as_naive("mixup0.02,from0:3"), 100, 270);
    assert_in_range(assert_mixed_as_naive("crop2,flip,cutmix1,from0:50"), 250, 299);
    assert_in_range(assert_mixed_as_naive("flip,cutmix0.1,from7:8"), 100, 270);
    assert_in_range(assert_mixed_as_naive("crop1,mixup,cutmix,from0:9"), 200, 299);
}

static void view_0_and_views_without_partners_are_not_mixed(void **state)
{
    struct kd_view_spec spec;
    struct kd_view_mix mix;

    (void)state;
    assert_ok(kd_view_parse("mixup100,from0:9", 1, &spec));
    mix = kd_view_partner(&spec, shape, 5, 0);
    assert_true(mix.ratio == 1 && mix.partner == 5);
    assert_ok(kd_view_parse("crop4,flip", 1, &spec));
    mix = kd_view_partner(&spec, shape, 5, 3);
    assert_true(mix.ratio == 1 && mix.partner == 5);
}

/* Mixing must not move crop and flip, for the partner is drawn by them alone. */
static void mixing_leaves_crop_and_flip(void **state)
{
    struct kd_view_spec plain, mixing;
    uint8_t sample[SIZE], a[SIZE], b[SIZE];

    (void)state;
    fill(sample);
    assert_ok(kd_view_parse("crop4,flip", 9, &plain));
    assert_ok(kd_view_parse("crop4,flip,mixup,cutmix,from0:99", 9, &mixing));
    for (uint32_t i = 0; i < 50; i++) {
        kd_view_draw(&plain, shape, KD_U8, i, i, sample, a);
        kd_view_draw(&mixing, shape, KD_U8, i, i, sample, b);
        assert_memory_equal(a, b, SIZE);
    }
}

/* Caches depend on these: they must never change. */
static void mixtures_are_pinned(void **state)
{
    struct kd_view_spec spec;
    uint8_t bytes[20][SIZE];
    float floats[20][SIZE];

    (void)state;
    assert_ok(kd_view_parse("crop4,flip,mixup0.2,cutmix1,from100:50000",
                            UINT64_C(0x123456789abcdef), &spec));
    for (uint32_t i = 0; i < 20; i++) {
        draw_mixed(&spec, KD_U8, 1000 + i / 5, 1 + i % 5, bytes[i]);
        draw_mixed(&spec, KD_F32, 1000 + i / 5, 1 + i % 5, floats[i]);
    }
    assert_int_equal(kd_hash_u64(bytes, sizeof bytes), UINT64_C(0xd51128c2a777f3e6));
    assert_int_equal(kd_hash_u64(floats, sizeof floats), UINT64_C(0x14d0d84a9d82ea46));
}

/* Mean 1/2 and variance 1 / (4 (2 alpha + 1)); bounds are four deviations wide. */
static void assert_ratios_are_beta(const char *text, double alpha)
{
    enum { DRAWS = 20000 };
    struct kd_view_spec spec;
    double sum = 0, square = 0;
    const double variance = 1 / (4 * (2 * alpha + 1));

    assert_ok(kd_view_parse(text, 21, &spec));
    for (uint64_t id = 0; id < DRAWS; id++) {
        const struct kd_view_mix mix = kd_view_partner(&spec, shape, id, 1);
        assert_true(mix.ratio >= 0 && mix.ratio <= 1);
        assert_true(mix.ratio * 65536 == floorf(mix.ratio * 65536));
        sum += mix.ratio;
        square += (mix.ratio - 0.5) * (mix.ratio - 0.5);
    }
    assert_true(fabs(sum / DRAWS - 0.5) < 4 * sqrt(variance / DRAWS));
    assert_true(fabs(square / DRAWS - variance) < 4 * variance / sqrt(DRAWS));
}

static void ratios_of_mixup_are_beta(void **state)
{
    (void)state;
    assert_ratios_are_beta("mixup0.001,from0:10", 0.001);
    assert_ratios_are_beta("crop2,flip,mixup0.2,from0:10", 0.2);
    assert_ratios_are_beta("mixup1,from0:10", 1);
    assert_ratios_are_beta("flip,mixup8,from0:10", 8);
    assert_ratios_are_beta("mixup100,from0:10", 100);
}

/* A box that no border cuts has its share of the area but for rounding down; cut ones
 * less. With samples so large: the mean of lambda 1/2 against 1 - E[area]. */
static void boxes_have_their_share_of_the_area(void **state)
{
    enum { DRAWS = 20000, SIDE = 1000 };
    static const struct kd_shape large = {1, SIDE, SIDE};
    struct kd_view_spec spec;
    double sum = 0;

    (void)state;
    assert_ok(kd_view_parse("cutmix1,from0:10", 22, &spec));
    for (uint64_t id = 0; id < DRAWS; id++)
        sum += kd_view_partner(&spec, large, id, 1).ratio;
    /* A side s around a uniform centre keeps s - s^2/4 of it on average, s^2 being
     * uniform: E[(s - s^2/4)^2] = E[s^2 - s^3/2 + s^4/16] = 1/2 - 1/5 + 1/48. */
    assert_true(fabs(1 - sum / DRAWS - (0.5 - 0.2 + 1.0 / 48)) < 0.006);
}

/* Chi-squared of 50 partners of 2 kinds each, 99 degrees of freedom: between 55 and
 * 160 but for one seed in some thousands. */
static void partners_and_kinds_are_uniform(void **state)
{
    enum { DRAWS = 20000 };
    struct kd_view_spec spec;
    int counts[50][2] = {{0}};
    double square = 0;

    (void)state;
    assert_ok(kd_view_parse("crop2,flip,mixup50,cutmix50,from1000:1050", 23, &spec));
    for (uint64_t id = 0; id < DRAWS; id++) {
        const struct kd_view_mix mix = kd_view_partner(&spec, shape, id, 1);
        assert_true(mix.ratio < 1);
        assert_in_range(mix.partner, 1000, 1049);
        counts[mix.partner - 1000][mix.bottom > 0]++;
    }
    for (int i = 0; i < 100; i++)
        square += pow(counts[i / 2][i % 2] - DRAWS / 100.0, 2) / (DRAWS / 100.0);
    assert_true(square > 55 && square < 160);
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
        cmocka_unit_test(views_that_do_not_fit_are_refused),
        cmocka_unit_test(partners_are_of_the_slice_unless_it_is_said),
        cmocka_unit_test(mixtures_are_as_defined),
        cmocka_unit_test(view_0_and_views_without_partners_are_not_mixed),
        cmocka_unit_test(mixing_leaves_crop_and_flip),
        cmocka_unit_test(mixtures_are_pinned),
        cmocka_unit_test(ratios_of_mixup_are_beta),
        cmocka_unit_test(boxes_have_their_share_of_the_area),
        cmocka_unit_test(partners_and_kinds_are_uniform),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
