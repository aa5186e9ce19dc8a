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
    float floats[COUNT * 90];
    uint8_t *bytes = write_random_bytes("x.npy", COUNT, shape);

    for (size_t i = 0; i < COUNT * 90; i++)
        floats[i] = (float)bytes[i] / 77 - 1.5f;
    free(bytes);
    if (kd_npy_write("f.npy", KD_F32, 4, (const uint64_t[]){COUNT, 3, 6, 5}, floats) !=
        KD_OK)
        return -1;
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
        if (many.input != NULL)
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
    name_samples(&batch, 3);
    assert_ok(kd_batch_fill(&batch, data, &spec, NULL));
    for (size_t i = 0; i < 4 * 90; i++)
        batch.input[i] = 77;
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

/* -- views that mix --------------------------------------------------------- */

static void settle(const char *text, const struct kd_dataset *data,
                   struct kd_view_spec *spec)
{
    assert_ok(kd_view_parse(text, 5, spec));
    assert_ok(kd_view_settle(spec, kd_dataset_facts(data)));
}

/* One sample of a batch, by the steps that kd/view.h gives. */
static void draw_one(const struct kd_dataset *data, const struct kd_view_spec *spec,
                     uint64_t id, uint32_t view, float *input, int32_t *partner_label,
                     float *ratio)
{
    const enum kd_type type = kd_dataset_facts(data)->type;
    const struct kd_view_mix mix = kd_view_partner(spec, shape, id, view);
    float sample[90], drawn[90], partner[90]; /* large enough for bytes too */

    assert_ok(kd_dataset_read_any(data, mix.partner, sample, partner_label));
    kd_view_draw(spec, shape, type, mix.partner, view, sample, partner);
    assert_ok(kd_dataset_read(data, id, sample, NULL));
    kd_view_draw(spec, shape, type, id, view, sample, drawn);
    if (mix.ratio < 1)
        kd_view_blend(&mix, shape, type, partner, drawn);
    kd_normalize_apply(&normalize, shape, type, drawn, input);
    *ratio = mix.ratio;
}

static void assert_mixed_one_by_one(const char *name, const char *text)
{
    struct kd_dataset *data = open_dataset(name);
    struct kd_batch batch = {0};
    struct kd_view_spec spec;
    float input[90], ratio = 0;
    int32_t label = 0;
    int mixed = 0;

    settle(text, data, &spec);
    assert_ok(kd_batch_init(&batch, data, 64));
    name_samples(&batch, 61);
    assert_ok(kd_batch_fill(&batch, data, &spec, &normalize));
    for (size_t i = 0; i < batch.size; i++) {
        draw_one(data, &spec, batch.id[i], batch.view[i], input, &label, &ratio);
        assert_memory_equal(batch.input + i * 90, input, sizeof input);
        assert_int_equal(batch.label[i], kd_dataset_label(data, batch.id[i]));
        assert_int_equal(batch.partner_label[i], label);
        assert_true(batch.ratio[i] == ratio);
        if (batch.view[i] == 0)
            assert_true(ratio == 1 && label == batch.label[i]);
        mixed += ratio < 1;
    }
    assert_in_range(mixed, 20, 46); /* of 46 views that are not 0 */
    kd_batch_clear(&batch);
    kd_dataset_close(data);
}

static void mixtures_are_their_samples_one_by_one(void **state)
{
    (void)state;
    assert_mixed_one_by_one("npy:x.npy,y.npy", "crop2,flip,mixup1");
    assert_mixed_one_by_one("npy:x.npy,y.npy", "flip,cutmix1");
    assert_mixed_one_by_one("npy:x.npy,y.npy", "crop1,flip,mixup0.5,cutmix1");
    assert_mixed_one_by_one("npy:f.npy,y.npy", "crop1,flip,mixup0.5,cutmix1");
    assert_mixed_one_by_one("npy:x.npy", "mixup1,from3:5");
}

static void without_partners_the_ratio_is_1(void **state)
{
    struct kd_dataset *data = open_dataset("npy:x.npy,y.npy");
    struct kd_batch batch = {0};
    struct kd_view_spec spec;

    (void)state;
    assert_ok(kd_view_parse("crop2,flip", 5, &spec));
    assert_ok(kd_batch_init(&batch, data, 40));
    name_samples(&batch, 40);
    assert_ok(kd_batch_fill(&batch, data, &spec, NULL));
    for (size_t i = 0; i < batch.size; i++) {
        assert_true(batch.ratio[i] == 1);
        assert_int_equal(batch.partner_label[i], batch.label[i]);
    }
    kd_batch_clear(&batch);
    kd_dataset_close(data);
}

/* What the teacher saw: all views of each sample in turn, in batches of 7, in one
 * thread. inputs: [COUNT][VIEWS][90]. */
#define VIEWS 4
static void fill_in_turn(const char *name, const struct kd_view_spec *spec,
                         float *inputs)
{
    struct kd_dataset *data = open_dataset(name);
    struct kd_batch batch = {0};

    kd_threads_set(1);
    assert_ok(kd_batch_init(&batch, data, 7));
    for (size_t row = 0; row < COUNT * VIEWS; row += batch.size) {
        batch.size = COUNT * VIEWS - row < 7 ? COUNT * VIEWS - row : 7;
        for (size_t i = 0; i < batch.size; i++) {
            batch.id[i] = (row + i) / VIEWS;
            batch.view[i] = (uint32_t)((row + i) % VIEWS);
        }
        assert_ok(kd_batch_fill(&batch, data, spec, &normalize));
        memcpy(inputs + row * 90, batch.input, batch.size * 90 * sizeof(float));
    }
    kd_batch_clear(&batch);
    kd_dataset_close(data);
}

/* What the student sees: one view an epoch, shuffled, in batches of 50, by three
 * threads; the views as the cache's text and seed give them. */
static void assert_seen_again(const char *name, const struct kd_view_spec *dumped,
                              const float *inputs)
{
    struct kd_dataset *data = open_dataset(name);
    struct kd_batch batch = {0};
    struct kd_view_spec spec;
    char text[64];

    kd_view_text(dumped, text);
    assert_ok(kd_view_parse(text, dumped->seed, &spec));
    kd_threads_set(3);
    assert_ok(kd_batch_init(&batch, data, 50));
    for (uint32_t view = 0; view < VIEWS; view++)
        for (uint64_t first = 0; first < COUNT; first += 50) {
            batch.size = 50;
            for (size_t i = 0; i < batch.size; i++) {
                batch.id[i] = (13 + 37 * (first + i)) % COUNT;
                batch.view[i] = view;
            }
            assert_ok(kd_batch_fill(&batch, data, &spec, &normalize));
            for (size_t i = 0; i < batch.size; i++)
                assert_memory_equal(batch.input + i * 90,
                                    inputs + (batch.id[i] * VIEWS + view) * 90,
                                    90 * sizeof(float));
        }
    kd_threads_set(0);
    kd_batch_clear(&batch);
    kd_dataset_close(data);
}

static void the_student_sees_the_teachers_pixels(void **state)
{
    static const char *const names[] = {"npy:x.npy,y.npy", "npy:f.npy,y.npy"};
    static const char *const texts[] = {"crop2,flip", "mixup", "crop2,flip,cutmix",
                                        "crop2,flip,mixup1,cutmix1", "cutmix,from9:20"};
    float *inputs = malloc(sizeof(float) * COUNT * VIEWS * 90);

    (void)state;
    assert_non_null(inputs);
    for (size_t n = 0; n < 2; n++)
        for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) {
            struct kd_dataset *data = open_dataset(names[n]);
            struct kd_view_spec spec;
            settle(texts[t], data, &spec);
            kd_dataset_close(data);
            fill_in_turn(names[n], &spec, inputs);
            assert_seen_again(names[n], &spec, inputs);
        }
    free(inputs);
}

/* Slices dumped apart with the same `from` are the whole. */
static void slices_mix_like_the_whole(void **state)
{
    struct kd_dataset *whole = open_dataset("npy:x.npy,y.npy@20:60");
    struct kd_dataset *slice = open_dataset("npy:x.npy,y.npy@30:40");
    struct kd_batch a = {.capacity = 0}, b = {.capacity = 0};
    struct kd_view_spec spec;

    (void)state;
    settle("flip,mixup1", whole, &spec);
    assert_ok(kd_batch_init(&a, whole, 10));
    assert_ok(kd_batch_init(&b, slice, 10));
    a.size = b.size = 10;
    for (size_t i = 0; i < 10; i++) {
        a.id[i] = b.id[i] = 30 + i;
        a.view[i] = b.view[i] = 2;
    }
    assert_ok(kd_batch_fill(&a, whole, &spec, &normalize));
    assert_int_equal(kd_batch_fill(&b, slice, &spec, &normalize), KD_EUSAGE);
    assert_non_null(strstr(kd_error(), "leaves out samples that its views mix in (20 "
                                       "to 59)"));
    b.beyond_slice = true;
    assert_ok(kd_batch_fill(&b, slice, &spec, &normalize));
    assert_memory_equal(a.input, b.input, 10 * 90 * sizeof(float));
    assert_memory_equal(a.partner_label, b.partner_label, 10 * sizeof(int32_t));
    assert_memory_equal(a.ratio, b.ratio, 10 * sizeof(float));
    kd_batch_clear(&a);
    kd_batch_clear(&b);
    kd_dataset_close(whole);
    kd_dataset_close(slice);
}

/* By default nothing of what was held out is mixed in. */
static void a_slice_mixes_its_own(void **state)
{
    struct kd_dataset *data = open_dataset("npy:x.npy,y.npy@30:40");
    struct kd_view_spec spec;

    (void)state;
    settle("mixup1", data, &spec);
    for (uint64_t id = 30; id < 40; id++)
        for (uint32_t view = 1; view < 30; view++)
            assert_in_range(kd_view_partner(&spec, shape, id, view).partner, 30, 39);
    kd_dataset_close(data);
}

static void unsettled_mixtures_are_refused(void **state)
{
    struct kd_dataset *data = open_dataset("npy:x.npy");
    struct kd_batch batch = {0};
    struct kd_view_spec spec;

    (void)state;
    assert_ok(kd_view_parse("mixup", 0, &spec));
    assert_ok(kd_batch_init(&batch, data, 2));
    batch.size = 1;
    assert_int_equal(kd_batch_fill(&batch, data, &spec, NULL), KD_EUSAGE);
    assert_non_null(strstr(kd_error(), "from0:1000"));
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
        cmocka_unit_test(mixtures_are_their_samples_one_by_one),
        cmocka_unit_test(without_partners_the_ratio_is_1),
        cmocka_unit_test(the_student_sees_the_teachers_pixels),
        cmocka_unit_test(slices_mix_like_the_whole),
        cmocka_unit_test(a_slice_mixes_its_own),
        cmocka_unit_test(unsettled_mixtures_are_refused),
        cmocka_unit_test(batches_too_large_are_refused),
    };

    return cmocka_run_group_tests(tests, make_data, leave_directory);
}
