/* SPDX-License-Identifier: MIT */
/* Resizing: sizes, the filter against its formula, crops, words. */
#include "kd/resize.h"

#include "kd/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct kd_resize parse(const char *const *words, size_t count)
{
    struct kd_resize how = {.side = 0};

    for (size_t i = 0; i < count; i++) {
        bool known = false;
        assert_int_equal(kd_resize_word(words[i], &how, &known), KD_OK);
        assert_true(known);
    }
    return how;
}

/* -- sizes ---------------------------------------------------------------- */

static void assert_shape(struct kd_resize how, size_t height, size_t width,
                         size_t wanted_height, size_t wanted_width)
{
    struct kd_shape shape;

    assert_int_equal(kd_resize_shape(&how, (struct kd_shape){3, height, width}, &shape),
                     KD_OK);
    assert_int_equal(shape.channels, 3);
    assert_int_equal(shape.height, wanted_height);
    assert_int_equal(shape.width, wanted_width);
}

static void the_shorter_side_is_given_and_the_longer_follows(void **state)
{
    const struct kd_resize side = {.side = 256}, exact = {.height = 5, .width = 900};

    (void)state;
    assert_shape(side, 375, 500, 256, 341); /* 341.33 */
    assert_shape(side, 500, 375, 341, 256);
    assert_shape(side, 256, 256, 256, 256);
    assert_shape(side, 10, 19, 256, 486); /* 486.4 */
    assert_shape(exact, 375, 500, 5, 900);
    assert_shape((struct kd_resize){0}, 375, 500, 375, 500);
    assert_shape((struct kd_resize){.side = 256, .crop_height = 224, .crop_width = 200},
                 375, 500, 224, 200);
}

static void crops_that_do_not_fit_are_refused(void **state)
{
    struct kd_resize how = {.side = 200, .crop_height = 224, .crop_width = 224};
    struct kd_shape shape;

    (void)state;
    assert_int_equal(kd_resize_shape(&how, (struct kd_shape){3, 300, 900}, &shape),
                     KD_EDATA);
    assert_non_null(strstr(kd_error(), "a crop of 224 x 224"));
    assert_non_null(strstr(kd_error(), "200 x 600"));
    how = (struct kd_resize){.side = 200};
    assert_int_equal(kd_resize_shape(&how, (struct kd_shape){3, 1, 9000}, &shape),
                     KD_EDATA);
    assert_non_null(strstr(kd_error(), "1800000"));
}

/* -- the filter ----------------------------------------------------------- */

/* One output of one direction by the formula of kd/resize.h; `at(i)` is from[i*step].
 */
static double tap(const double *from, size_t step, size_t in, size_t out, size_t x)
{
    const double r = (double)in / (double)out, s = fmax(r, 1),
                 c = ((double)x + 0.5) * r;
    double sum = 0, weights = 0;

    for (size_t i = 0; i < in; i++) {
        const double w = fmax(0, 1 - fabs((double)i + 0.5 - c) / s);
        sum += w * from[i * step];
        weights += w;
    }
    return sum / weights;
}

/* The whole of it in double, one channel; `round_at` rounds after each direction. */
static void reference(const double *image, size_t height, size_t width, size_t out_h,
                      size_t out_w, bool round_at, double *to)
{
    double *half = calloc(height * out_w, sizeof *half);

    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < out_w; x++) {
            const double v = tap(image + y * width, 1, width, out_w, x);
            half[y * out_w + x] = round_at ? floor(v + 0.5) : v;
        }
    for (size_t y = 0; y < out_h; y++)
        for (size_t x = 0; x < out_w; x++) {
            const double v = tap(half + x, out_w, height, out_h, y);
            to[y * out_w + x] = round_at ? floor(v + 0.5) : v;
        }
    free(half);
}

static void check(size_t height, size_t width, size_t out_h, size_t out_w)
{
    const size_t in = height * width, out = out_h * out_w;
    const struct kd_shape shape = {2, height, width};
    const struct kd_resize how = {.height = out_h, .width = out_w};
    struct kd_random r = kd_random_at(1, KD_RANDOM_TEST, height, (uint32_t)out_w);
    uint8_t *bytes = calloc(2, in), *small = calloc(2, out);
    float *floats = calloc(2 * in, sizeof *floats),
          *fine = calloc(2 * out, sizeof *fine);
    double *image = calloc(2 * in, sizeof *image), *due = calloc(out, sizeof *due);

    for (size_t i = 0; i < 2 * in; i++) {
        bytes[i] = (uint8_t)kd_random_below(&r, 256);
        floats[i] = (float)bytes[i];
        image[i] = bytes[i];
    }
    assert_int_equal(kd_resize_apply(&how, KD_U8, shape, bytes, small), KD_OK);
    assert_int_equal(kd_resize_apply(&how, KD_F32, shape, floats, fine), KD_OK);
    for (size_t c = 0; c < 2; c++) {
        reference(image + c * in, height, width, out_h, out_w, true, due);
        for (size_t i = 0; i < out; i++) /* a weight's last place may tip a half */
            assert_true(fabs(due[i] - small[c * out + i]) <= 1);
        reference(image + c * in, height, width, out_h, out_w, false, due);
        for (size_t i = 0; i < out; i++)
            assert_true(fabs(due[i] - (double)fine[c * out + i]) < 1e-4);
    }
    free(bytes);
    free(small);
    free(floats);
    free(fine);
    free(image);
    free(due);
}

static void pixels_are_those_of_the_formula(void **state)
{
    (void)state;
    check(37, 53, 16, 16);
    check(32, 32, 224, 97);
    check(1, 1, 7, 3);
    check(100, 3, 1, 1);
    check(64, 48, 32, 24);
    check(5, 900, 6, 13);
}

/* Pillow 9.4: Image.fromarray(a).resize((4, 3), BILINEAR), a[y][x] = (37y + 11x) % 256.
 */
static void bytes_are_those_of_pillow(void **state)
{
    static const uint8_t due[12] = {87,  121, 147, 161, 145, 132,
                                    109, 108, 107, 135, 163, 151};
    uint8_t image[12 * 14], small[12];
    const struct kd_resize how = {.height = 3, .width = 4};

    (void)state;
    for (size_t y = 0; y < 12; y++)
        for (size_t x = 0; x < 14; x++)
            image[y * 14 + x] = (uint8_t)((37 * y + 11 * x) % 256);
    assert_int_equal(
        kd_resize_apply(&how, KD_U8, (struct kd_shape){1, 12, 14}, image, small),
        KD_OK);
    assert_memory_equal(small, due, sizeof due);
}

static void samples_of_the_size_stay_as_they_are(void **state)
{
    uint8_t image[2 * 6 * 5], same[2 * 6 * 5];
    const struct kd_shape shape = {2, 6, 5};

    (void)state;
    for (size_t i = 0; i < sizeof image; i++)
        image[i] = (uint8_t)(i * 41);
    assert_int_equal(
        kd_resize_apply(&(struct kd_resize){.side = 5}, KD_U8, shape, image, same),
        KD_OK);
    assert_memory_equal(image, same, sizeof image);
}

/* A crop is the middle of what there would be without it; halves go to the even one. */
static void assert_crop(size_t height, size_t top, size_t left)
{
    static uint8_t image[70 * 80], whole[40 * 60], part[40 * 60];
    struct kd_resize how = {.height = 31, .width = 42};
    const struct kd_shape shape = {1, 70, 80};

    for (size_t i = 0; i < sizeof image; i++)
        image[i] = (uint8_t)(i * i / 7);
    assert_int_equal(kd_resize_apply(&how, KD_U8, shape, image, whole), KD_OK);
    how.crop_height = height;
    how.crop_width = 35;
    assert_int_equal(kd_resize_apply(&how, KD_U8, shape, image, part), KD_OK);
    for (size_t y = 0; y < height; y++)
        assert_memory_equal(part + y * 35, whole + (top + y) * 42 + left, 35);
}

static void crops_are_the_middle(void **state)
{
    (void)state;
    assert_crop(31, 0, 4); /* 7 columns too many: 3.5, which goes to 4 */
    assert_crop(30, 0, 4); /* one row: 0.5 goes to 0 */
    assert_crop(28, 2, 4); /* 1.5 goes to 2 */
    assert_crop(1, 15, 4);
}

/* -- words ---------------------------------------------------------------- */

static void words_and_back(void **state)
{
    static const char *const words[] = {"crop224", "resize256"};
    static const char *const more[] = {"crop10x20", "resize30x40"};
    char text[KD_RESIZE_TEXT];
    struct kd_resize how = parse(words, 2);

    (void)state;
    assert_int_equal(how.side, 256);
    assert_int_equal(how.crop_height, 224);
    assert_int_equal(how.crop_width, 224);
    kd_resize_text(&how, text);
    assert_string_equal(text, "resize256,crop224");
    how = parse(more, 2);
    assert_int_equal(how.side, 0);
    assert_int_equal(how.height, 30);
    assert_int_equal(how.width, 40);
    kd_resize_text(&how, text);
    assert_string_equal(text, "resize30x40,crop10x20");
    kd_resize_text(&(struct kd_resize){0}, text);
    assert_string_equal(text, "");
    assert_false(kd_resize_does(&(struct kd_resize){0}));
    assert_true(kd_resize_does(&how));
}

static void words_that_are_none(void **state)
{
    static const char *const wrong[] = {"resize0", "crop",      "resize20x",
                                        "cropx3",  "crop99999", "resize3x4x5"};
    struct kd_resize how = {.side = 0};
    bool known = true;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const enum kd_status status = kd_resize_word(wrong[i], &how, &known);
        assert_true(!known || status == KD_EUSAGE);
        assert_int_equal(known, strcmp(wrong[i], "crop") != 0);
    }
    assert_int_equal(kd_resize_word("resized", &how, &known), KD_OK);
    assert_false(known);
    how.side = 3;
    assert_int_equal(kd_resize_word("resize4", &how, &known), KD_EUSAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shorter_side_is_given_and_the_longer_follows),
        cmocka_unit_test(crops_that_do_not_fit_are_refused),
        cmocka_unit_test(pixels_are_those_of_the_formula),
        cmocka_unit_test(bytes_are_those_of_pillow),
        cmocka_unit_test(samples_of_the_size_stay_as_they_are),
        cmocka_unit_test(crops_are_the_middle),
        cmocka_unit_test(words_and_back),
        cmocka_unit_test(words_that_are_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
