/* SPDX-License-Identifier: MIT */
/* Batches: the same as reading, drawing and normalising one by one. */
#include "kd/batch.h"

#include "data_fixture.h"
#include "kd/thread.h"

#define COUNT 100
static const struct kd_shape shape = {3, 6, 5};
static const struct kd_normalize normalize = {
    .count = 3, .mean = {0.4, 0.5, 0.6}, .deviation = {0.2, 0.3, 0.4}};

static int make_data(void **state)
{
    int64_t labels[COUNT];

    if (enter_directory(state) != 0)
        return -1;
    free(write_random_bytes("x.npy", COUNT, shape));
    for (int i = 0; i < COUNT; i++)
        labels[i] = i % 7 - 1;
    return kd_npy_write("y.npy", KD_I64, 1, (const uint64_t[]){COUNT}, labels) == KD_OK
               ? 0
               : -1;
}

/* Some ids in no order, some views 0. */
static void name_samples(struct kd_batch *batch, size_t size)
{
    batch->size = size;
    for (size_t i = 0; i < size; i++) {
        batch->id[i] = (i * 37 + 11) % COUNT;
        batch->view[i] = (uint32_t)(i % 4);
    }
}

static void a_batch_is_its_samples_one_by_one(void **state)
{
    struct kd_dataset *data = open_dataset("npy:x.npy,y.npy");
    struct kd_batch batch = {0};
    struct kd_view_spec spec;
    uint8_t sample[90], drawn[90];
    float input[90];
    int32_t label = 0;

    (void)state;
    assert_ok(kd_view_parse("crop2,flip", 5, &spec));
    assert_ok(kd_batch_init(&batch, data, 64));
    assert_int_equal(batch.capacity, 64);
    name_samples(&batch, 61);
    assert_ok(kd_batch_fill(&batch, data, &spec, &normalize));
    for (size_t i = 0; i < batch.size; i++) {
        assert_ok(kd_dataset_read(data, batch.id[i], sample, &label));
        kd_view_draw(&spec, shape, KD_U8, batch.id[i], batch.view[i], sample, drawn);
        kd_normalize_apply(&normalize, shape, KD_U8, drawn, input);
        assert_int_equal(batch.label[i], label);
        assert_memory_equal(batch.input + i * 90, input, sizeof input);
    }
    kd_batch_clear(&batch);
    kd_dataset_close(data);
}

static void threads_do_not_change_it(void **state)
{
    struct kd_dataset *data = open_dataset("npy:x.npy,y.npy");
    struct kd_batch one = {0}, many = {0};
    struct kd_view_spec spec;

    (void)state;
    assert_ok(kd_view_parse("crop2,flip", 6, &spec));
    assert_ok(kd_batch_init(&one, data, 100));
    assert_ok(kd_batch_init(&many, data, 100));
    name_samples(&one, 97);
    kd_threads_set(1);
    assert_ok(kd_batch_fill(&one, data, &spec, &normalize));
    for (size_t threads = 2; threads < 8; threads++) {
        kd_threads_set(threads);
        name_samples(&many, 97);
        memset(many.input, 0xff, 97 * 90 * sizeof(float));
        assert_ok(kd_batch_fill(&many, data, &spec, &normalize));
        assert_memory_equal(one.input, many.input, 97 * 90 * sizeof(float));
        assert_memory_equal(one.label, many.label, 97 * sizeof(int32_t));
    }
    kd_threads_set(0);
    kd_batch_clear(&one);
    kd_batch_clear(&many);
    kd_dataset_close(data);
}

static void what_lies_behind_the_samples_is_left_alone(void **state)
{
    struct kd_dataset *data = open_dataset("npy:x.npy");
    struct kd_batch batch = {0};
    struct kd_view_spec spec;

    (void)state;
    assert_ok(kd_view_parse("none", 0, &spec));
    assert_ok(kd_batch_init(&batch, data, 4));
    for (size_t i = 0; i < 4 * 90; i++)
        batch.input[i] = 77;
    name_samples(&batch, 3);
    assert_ok(kd_batch_fill(&batch, data, &spec, NULL));
    assert_int_equal(batch.label[0], -1);
    for (size_t i = 0; i < 90; i++) {
        assert_true(batch.input[2 * 90 + i] <= 1.001f);
        assert_true(batch.input[3 * 90 + i] == 77);
    }
    batch.size = 0;
    assert_ok(kd_batch_fill(&batch, data, &spec, NULL));
    kd_batch_clear(&batch);
    assert_null(batch.input);
    kd_dataset_close(data);
}

static void ids_outside_the_slice_are_refused(void **state)
{
    struct kd_dataset *data = open_dataset("npy:x.npy@10:20");
    struct kd_batch batch = {0};
    struct kd_view_spec spec;

    (void)state;
    assert_ok(kd_view_parse("none", 0, &spec));
    assert_ok(kd_batch_init(&batch, data, 2));
    batch.size = 2;
    batch.id[0] = 19;
    batch.id[1] = 20;
    assert_int_equal(kd_batch_fill(&batch, data, &spec, NULL), KD_EDATA);
    assert_non_null(strstr(kd_error(), "no sample 20 in it, but 10 to 19"));
    kd_batch_clear(&batch);
    kd_dataset_close(data);
}

static void views_that_do_not_fit_are_refused(void **state)
{
    struct kd_dataset *data = open_dataset("npy:x.npy");
    struct kd_batch batch = {0};
    struct kd_view_spec spec;

    (void)state;
    assert_ok(kd_view_parse("crop5", 0, &spec));
    assert_ok(kd_batch_init(&batch, data, 2));
    batch.size = 1;
    assert_int_equal(kd_batch_fill(&batch, data, &spec, NULL), KD_EUSAGE);
    assert_non_null(strstr(kd_error(), "crop5"));
    kd_batch_clear(&batch);
    kd_dataset_close(data);
}

static void batches_too_large_are_refused(void **state)
{
    struct kd_dataset *data = open_dataset("npy:x.npy");
    struct kd_batch batch = {0};

    (void)state;
    assert_int_equal(kd_batch_init(&batch, data, SIZE_MAX / 100), KD_EMEMORY);
    assert_null(batch.id);
    kd_dataset_close(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_its_samples_one_by_one),
        cmocka_unit_test(threads_do_not_change_it),
        cmocka_unit_test(what_lies_behind_the_samples_is_left_alone),
        cmocka_unit_test(ids_outside_the_slice_are_refused),
        cmocka_unit_test(views_that_do_not_fit_are_refused),
        cmocka_unit_test(batches_too_large_are_refused),
    };

    return cmocka_run_group_tests(tests, make_data, leave_directory);
}
