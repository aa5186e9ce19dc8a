/* SPDX-License-Identifier: MIT */
/* Normalisation: exact, whatever the slice and the number of threads. */
#include "kd/dataset.h"

#include "data_fixture.h"
#include "kd/random.h"
#include "kd/thread.h"

#include <math.h>

/* Mean and deviation of a channel of samples [first, end), in two plain passes. */
static void naive(const uint8_t *x, struct kd_shape shape, size_t channel, size_t first,
                  size_t end, double *mean, double *deviation)
{
    size_t plane = shape.height * shape.width, count = (end - first) * plane;
    double sum = 0, square = 0;

    for (size_t id = first; id < end; id++)
        for (size_t i = 0; i < plane; i++)
            sum += x[(id * shape.channels + channel) * plane + i] / 255.0;
    *mean = sum / (double)count;
    for (size_t id = first; id < end; id++)
        for (size_t i = 0; i < plane; i++) {
            double d = x[(id * shape.channels + channel) * plane + i] / 255.0 - *mean;
            square += d * d;
        }
    *deviation = sqrt(square / (double)count);
}

static void bytes_are_measured_over_the_slice(void **state)
{
    const struct kd_shape shape = {3, 5, 4};
    uint8_t *x = write_random_bytes("x.npy", 300, shape);
    struct kd_dataset *data = open_dataset("npy:x.npy@50:270");
    struct kd_normalize n;
    double mean = 0, deviation = 0;

    (void)state;
    assert_ok(kd_normalize_measure(data, &n));
    assert_int_equal(n.count, 3);
    for (size_t c = 0; c < 3; c++) {
        naive(x, shape, c, 50, 270, &mean, &deviation);
        assert_true(fabs(n.mean[c] - mean) < 1e-13);
        assert_true(fabs(n.deviation[c] - deviation) < 1e-13);
    }
    kd_dataset_close(data);
    free(x);
}

/* Three bytes whose moments are known by hand: mean 100, deviation sqrt(200/3). */
static void bytes_give_exact_values(void **state)
{
    static const uint8_t x[3] = {90, 100, 110};
    struct kd_normalize n;

    (void)state;
    assert_ok(kd_npy_write("e.npy", KD_U8, 2, (const uint64_t[]){3, 1}, x));
    struct kd_dataset *data = open_dataset("npy:e.npy");
    assert_ok(kd_normalize_measure(data, &n));
    assert_true(n.mean[0] == 100 / 255.0);
    assert_true(n.deviation[0] == sqrt(200 / 3.0) / 255);
    kd_dataset_close(data);
}

static void write_floats(const char *path, size_t count, size_t features, double offset)
{
    float *x = malloc(count * features * sizeof *x);
    struct kd_random r = kd_random_at(1, KD_RANDOM_TEST, 0, 0);

    assert_non_null(x);
    for (size_t i = 0; i < count * features; i++)
        x[i] = (float)(offset + 3 * kd_random_normal(&r));
    assert_ok(kd_npy_write(path, KD_F32, 2, (const uint64_t[]){count, features}, x));
    free(x);
}

/* A naive sum of squares minus the squared mean would lose everything here. */
static void floats_far_from_zero_keep_their_deviation(void **state)
{
    struct kd_normalize n;

    (void)state;
    write_floats("f.npy", 5000, 2, 10000);
    struct kd_dataset *data = open_dataset("npy:f.npy");
    assert_ok(kd_normalize_measure(data, &n));
    assert_int_equal(n.count, 2);
    for (size_t c = 0; c < 2; c++) {
        assert_true(fabs(n.mean[c] - 10000) < 0.2);
        assert_true(fabs(n.deviation[c] - 3) < 0.1);
    }
    kd_dataset_close(data);
}

static void threads_do_not_change_a_bit(void **state)
{
    static const char *const names[] = {"npy:t.npy", "npy:t.npy@3:700", "npy:b.npy"};
    struct kd_normalize one, many;

    (void)state;
    write_floats("t.npy", 1500, 3, 0.3);
    free(write_random_bytes("b.npy", 900, (struct kd_shape){2, 3, 3}));
    for (size_t i = 0; i < 3; i++) {
        struct kd_dataset *data = open_dataset(names[i]);
        kd_threads_set(1);
        assert_ok(kd_normalize_measure(data, &one));
        for (size_t threads = 2; threads < 6; threads++) {
            kd_threads_set(threads);
            assert_ok(kd_normalize_measure(data, &many));
            assert_memory_equal(&one, &many, sizeof one);
        }
        kd_dataset_close(data);
    }
    kd_threads_set(0);
}

static void constant_channels_get_deviation_1(void **state)
{
    static const uint8_t bytes[4] = {7, 7, 7, 7};
    static const float floats[4] = {0.1f, 0.1f, 0.1f, 0.1f};
    struct kd_normalize n;

    (void)state;
    assert_ok(kd_npy_write("c8.npy", KD_U8, 2, (const uint64_t[]){4, 1}, bytes));
    assert_ok(kd_npy_write("c32.npy", KD_F32, 2, (const uint64_t[]){4, 1}, floats));
    struct kd_dataset *data = open_dataset("npy:c8.npy");
    assert_ok(kd_normalize_measure(data, &n));
    assert_true(n.mean[0] == 7 / 255.0 && n.deviation[0] == 1);
    kd_dataset_close(data);
    data = open_dataset("npy:c32.npy");
    assert_ok(kd_normalize_measure(data, &n));
    assert_true(n.mean[0] == (double)0.1f && n.deviation[0] == 1);
    kd_dataset_close(data);
}

static void many_channels_share_one_mean(void **state)
{
    struct kd_normalize n;
    uint8_t pixels[20],
        *x = write_random_bytes("m.npy", 40, (struct kd_shape){20, 1, 1});
    struct kd_dataset *data = open_dataset("npy:m.npy");
    double mean = 0, deviation = 0;
    float input[20];

    (void)state;
    assert_ok(kd_normalize_measure(data, &n));
    assert_int_equal(n.count, 1);
    naive(x, (struct kd_shape){1, 20, 1}, 0, 0, 40, &mean, &deviation);
    assert_true(fabs(n.mean[0] - mean) < 1e-13);
    assert_true(fabs(n.deviation[0] - deviation) < 1e-13);

    assert_ok(kd_dataset_read(data, 39, pixels, NULL));
    kd_normalize_apply(&n, kd_dataset_facts(data)->shape, KD_U8, pixels, input);
    for (size_t i = 0; i < 20; i++)
        assert_true(fabs(input[i] - (pixels[i] / 255.0 - mean) / deviation) < 1e-5);
    kd_dataset_close(data);
    free(x);
}

static void it_is_applied_by_its_formula(void **state)
{
    static const struct kd_shape shape = {3, 2, 2};
    const struct kd_normalize n = {
        .count = 3, .mean = {0.5, 0.25, -1}, .deviation = {0.25, 2, 0.125}};
    uint8_t bytes[12];
    float floats[12], input[12];

    (void)state;
    for (int i = 0; i < 12; i++) {
        bytes[i] = (uint8_t)(23 * i);
        floats[i] = (float)i / 7 - 1;
    }
    kd_normalize_apply(&n, shape, KD_U8, bytes, input);
    for (int i = 0; i < 12; i++) {
        double wanted = (bytes[i] / 255.0 - n.mean[i / 4]) / n.deviation[i / 4];
        assert_true(fabs(input[i] - wanted) < 1e-5);
    }
    kd_normalize_apply(&n, shape, KD_F32, floats, input);
    for (int i = 0; i < 12; i++) {
        double wanted = ((double)floats[i] - n.mean[i / 4]) / n.deviation[i / 4];
        assert_true(fabs(input[i] - wanted) < 1e-5);
    }
}

static void without_it_only_the_scale_is_applied(void **state)
{
    static const uint8_t bytes[3] = {0, 51, 255};
    static const float floats[3] = {-2, 0.5f, 1e30f};
    const struct kd_normalize none = {.count = 0};
    float input[3];

    (void)state;
    kd_normalize_apply(NULL, (struct kd_shape){3, 1, 1}, KD_U8, bytes, input);
    assert_true(input[0] == 0 && fabsf(input[1] - 0.2f) < 1e-7f);
    assert_true(fabsf(input[2] - 1) < 1e-6f);
    kd_normalize_apply(&none, (struct kd_shape){3, 1, 1}, KD_F32, floats, input);
    assert_memory_equal(input, floats, sizeof input);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_measured_over_the_slice),
        cmocka_unit_test(bytes_give_exact_values),
        cmocka_unit_test(floats_far_from_zero_keep_their_deviation),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(constant_channels_get_deviation_1),
        cmocka_unit_test(many_channels_share_one_mean),
        cmocka_unit_test(it_is_applied_by_its_formula),
        cmocka_unit_test(without_it_only_the_scale_is_applied),
    };

    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
