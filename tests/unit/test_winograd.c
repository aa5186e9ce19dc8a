/* SPDX-License-Identifier: MIT */
/* Convolutions by Winograd's filtering against naive ones in double. */
#include "nn/onednn_internal.h"
#include "nn/winograd_internal.h"

#include "kd/memory.h"
#include "kd/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOLERANCE 1e-5 /* of the size of what is summed */

/* Groups of tiles are 64 tiles, or 32 of many channels: fewer, more, and parts; planes
 * that tiles do not fill; blocks of channels in pairs and alone. */
static const struct winograd shapes[] = {
    {1, 16, 16, 4, 4, 1},  {3, 16, 32, 8, 8, 1},   {2, 32, 16, 7, 5, 2},
    {5, 48, 48, 6, 9, 3},  {3, 16, 16, 32, 32, 2}, {70, 16, 16, 4, 4, 2},
    {2, 64, 80, 12, 8, 2}, {9, 288, 272, 8, 8, 2},
};
#define NUM_SHAPES (sizeof shapes / sizeof shapes[0])

struct fixture {
    struct winograd there, back;
    float *x, *y, *weights, *points, *space;
    uint32_t stream;
};

static float *draw(struct fixture *f, size_t count)
{
    struct kd_random r = kd_random_at(3, KD_RANDOM_TEST, count, f->stream++);
    float *values = NULL;

    assert_int_equal(KD_NEW(values, count), KD_OK);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)kd_random_normal(&r);
    return values;
}

static void open_fixture(struct fixture *f, const struct winograd *shape)
{
    const size_t places = shape->batch * shape->height * shape->width;

    *f = (struct fixture){.there = *shape, .back = *shape};
    f->back.in = shape->out;
    f->back.out = shape->in;
    f->x = draw(f, places * shape->in);
    f->y = draw(f, places * shape->out);
    f->weights = draw(f, 9 * shape->in * shape->out);
    f->points = draw(f, kd_winograd_points(shape));
    f->space = draw(f, kd_winograd_space(shape));
}

static void close_fixture(struct fixture *f)
{
    free(f->x);
    free(f->y);
    free(f->weights);
    free(f->points);
    free(f->space);
}

/* Element of a blocked tensor with so many channels; 0 outside the plane. */
static double at(const struct winograd *w, size_t channels, const float *values,
                 size_t n, size_t c, ptrdiff_t row, ptrdiff_t column)
{
    if (row < 0 || column < 0 || row >= (ptrdiff_t)w->height ||
        column >= (ptrdiff_t)w->width)
        return 0;
    const size_t place = (size_t)row * w->width + (size_t)column;
    return values[((n * channels + c / 16 * 16) * w->height * w->width) + place * 16 +
                  c % 16];
}

static size_t weight_at(const struct winograd *w, size_t out, size_t in, size_t k)
{
    return ((out / 16 * (w->in / 16) + in / 16) * 9 + k) * 256 + in % 16 * 16 +
           out % 16;
}

/* A result of the convolution; `back`: of the gradient of its values. */
static double naive(const struct fixture *f, bool back, size_t n, size_t c, size_t row,
                    size_t column)
{
    const struct winograd *w = &f->there;
    const size_t ins = back ? w->out : w->in;
    double sum = 0;

    for (size_t i = 0; i < ins; i++)
        for (size_t k = 0; k < 9; k++) {
            const ptrdiff_t dy = (ptrdiff_t)(k / 3) - 1, dx = (ptrdiff_t)(k % 3) - 1;
            const size_t at_weight =
                back ? weight_at(w, i, c, 8 - k) : weight_at(w, c, i, k);
            sum +=
                f->weights[at_weight] * at(w, ins, back ? f->y : f->x, n, i,
                                           (ptrdiff_t)row + dy, (ptrdiff_t)column + dx);
        }
    return sum;
}

static double naive_gradient(const struct fixture *f, size_t out, size_t in, size_t k)
{
    const struct winograd *w = &f->there;
    double sum = 0;

    for (size_t n = 0; n < w->batch; n++)
        for (size_t i = 0; i < w->height * w->width; i++) {
            const ptrdiff_t row = (ptrdiff_t)(i / w->width),
                            column = (ptrdiff_t)(i % w->width);
            sum += at(w, w->out, f->y, n, out, row, column) *
                   at(w, w->in, f->x, n, in, row + (ptrdiff_t)(k / 3) - 1,
                      column + (ptrdiff_t)(k % 3) - 1);
        }
    return sum;
}

/* Some of the results, drawn, and always the last. */
#define SAMPLES 100
static size_t sample(struct kd_random *r, size_t i, size_t count)
{
    return i == 0 ? count - 1 : kd_random_below(r, (uint32_t)count);
}

static void check_values(const struct fixture *f, bool back, const float *got)
{
    const struct winograd *w = back ? &f->back : &f->there;
    struct kd_random r = kd_random_at(4, KD_RANDOM_TEST, w->in, 0);

    for (size_t i = 0; i < SAMPLES; i++) {
        const size_t n = sample(&r, i, w->batch), c = sample(&r, i, w->out),
                     row = sample(&r, i, w->height), column = sample(&r, i, w->width);
        const double found =
            at(w, w->out, got, n, c, (ptrdiff_t)row, (ptrdiff_t)column);
        const double wanted = naive(f, back, n, c, row, column);
        if (fabs(found - wanted) > TOLERANCE * 3 * sqrt((double)w->in))
            fail_msg("%zu to %zu channels: %g instead of %g", w->in, w->out, found,
                     wanted);
    }
}

/* Nothing of this runs on a processor without AVX-512. */
static void need_processor(void)
{
    if (kd_onednn_lanes() != 16)
        skip();
}

static void values_are_those_of_a_naive_convolution(void **state)
{
    (void)state;
    need_processor();
    for (size_t i = 0; i < NUM_SHAPES; i++) {
        const struct winograd_end plain = {0};
        struct fixture f;
        open_fixture(&f, &shapes[i]);
        float *got = draw(&f, f.there.batch * f.there.height * f.there.width *
                                  (f.there.in + f.there.out));
        kd_winograd_weights(&f.there, f.weights, false, f.points);
        kd_winograd_values(&f.there, f.x, f.points, &plain, got, f.space);
        check_values(&f, false, got);
        kd_winograd_weights(&f.back, f.weights, true, f.points);
        kd_winograd_values(&f.back, f.y, f.points, &plain, got, f.space);
        check_values(&f, true, got);
        free(got);
        close_fixture(&f);
    }
}

static void gradients_of_weights_are_those_of_a_naive_one(void **state)
{
    (void)state;
    need_processor();
    for (size_t i = 0; i < NUM_SHAPES; i++) {
        const struct winograd *w = &shapes[i];
        const double most =
            TOLERANCE * 3 * sqrt((double)(w->batch * w->height * w->width));
        struct kd_random r = kd_random_at(5, KD_RANDOM_TEST, i, 0);
        struct fixture f;
        open_fixture(&f, w);
        float *got = draw(&f, 9 * w->in * w->out);
        kd_winograd_gradient(w, f.x, f.y, got, f.space);
        for (size_t k = 0; k < SAMPLES; k++) {
            const size_t out = sample(&r, k, w->out), in = sample(&r, k, w->in),
                         place = sample(&r, k, 9);
            const double found = got[weight_at(w, out, in, place)];
            const double wanted = naive_gradient(&f, out, in, place);
            if (fabs(found - wanted) > most)
                fail_msg("%zu to %zu channels: %g instead of %g", w->in, w->out, found,
                         wanted);
        }
        free(got);
        close_fixture(&f);
    }
}

/* y = relu(result + bias + y); a NaN is not turned into 0. */
static void results_are_finished_as_they_are_written(void **state)
{
    (void)state;
    need_processor();
    const struct winograd shape = {2, 16, 32, 6, 7, 1};
    const size_t count = shape.batch * shape.out * shape.height * shape.width;
    struct fixture f;
    open_fixture(&f, &shape);
    float *bias = draw(&f, shape.out), *plain = draw(&f, count), *y = draw(&f, count),
          *before = draw(&f, count);
    const struct winograd_end end = {.bias = bias, .sum = true, .relu = true};

    memcpy(y, before, count * sizeof *y);
    y[5] = NAN;
    kd_winograd_weights(&f.there, f.weights, false, f.points);
    kd_winograd_values(&f.there, f.x, f.points, &(struct winograd_end){0}, plain,
                       f.space);
    kd_winograd_values(&f.there, f.x, f.points, &end, y, f.space);
    assert_true(isnan(y[5]));
    for (size_t i = 0; i < count; i++) {
        const size_t block = i / 16 / (shape.height * shape.width) % 2;
        const float sum = plain[i] + bias[block * 16 + i % 16] + before[i];
        if (i != 5)
            assert_true(fabsf(y[i] - fmaxf(sum, 0)) < 1e-5F);
    }
    free(bias);
    free(plain);
    free(y);
    free(before);
    close_fixture(&f);
}

/* The bits of a sample's values do not depend on its batch or on the threads. */
static void values_do_not_depend_on_the_batch_or_the_threads(void **state)
{
    (void)state;
    need_processor();
    const struct winograd whole = {7, 32, 48, 8, 8, 2};
    const size_t in = whole.in * 64, out = whole.out * 64;
    const struct winograd_end plain = {0};
    struct fixture f;
    open_fixture(&f, &whole);
    float *together = draw(&f, whole.batch * out), *alone = draw(&f, out);

    kd_winograd_weights(&whole, f.weights, false, f.points);
    kd_winograd_values(&whole, f.x, f.points, &plain, together, f.space);
    for (size_t n = 0; n < whole.batch; n++) {
        struct winograd one = whole;
        one.batch = 1;
        one.threads = 1 + n % 2;
        kd_winograd_values(&one, f.x + n * in, f.points, &plain, alone, f.space);
        assert_memory_equal(alone, together + n * out, out * sizeof *alone);
    }
    free(together);
    free(alone);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_those_of_a_naive_convolution),
        cmocka_unit_test(gradients_of_weights_are_those_of_a_naive_one),
        cmocka_unit_test(results_are_finished_as_they_are_written),
        cmocka_unit_test(values_do_not_depend_on_the_batch_or_the_threads),
    };

    return cmocka_run_group_tests_name("winograd", tests, NULL, NULL);
}
