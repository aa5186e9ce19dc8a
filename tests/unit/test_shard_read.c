/* SPDX-License-Identifier: MIT */
/* Reading shards in every encoding, whole and damaged. */
#include "cache_fixture.h"

#include "kd/h5.h"
#include "kd/half.h"

#include <fcntl.h>
#include <math.h>

#define TEACHER 3
#define CLASSES 300
#define SAMPLES 20

static const struct kd_codec codecs[] = {
    {.dtype = KD_F16},
    {.dtype = KD_BF16},
    {.dtype = KD_F32},
    {.encoding = KD_TOP_K, .dtype = KD_F16, .k = 7, .also_temperatures = "1,2,8"},
    {.encoding = KD_TOP_K, .dtype = KD_BF16, .k = 299},
    {.encoding = KD_TOP_P, .dtype = KD_F32, .k = 50, .mass = 0.9},
    {.encoding = KD_SAMPLED, .dtype = KD_F16, .k = 1000, .also_temperatures = "2"},
    {.encoding = KD_SAMPLED, .dtype = KD_BF16, .k = 1},
};
#define NUM_CODECS (sizeof codecs / sizeof codecs[0])

static struct kd_identity identity_of(const struct kd_codec *codec, uint32_t classes)
{
    struct kd_identity of = fixture_identity(classes, SAMPLES, 2, KD_F16);

    of.codec = *codec;
    assert_int_equal(kd_codec_check(&of.codec, classes), KD_OK);
    return of;
}

static struct kd_shard *open_shard(const char *path)
{
    struct kd_shard *shard = NULL;

    if (kd_shard_open(path, &shard) != KD_OK)
        fail_msg("%s", kd_error());
    return shard;
}

static float rounded(enum kd_type type, float value)
{
    if (type == KD_F16)
        return kd_half_to_float_one(kd_half_from_float_one(value));
    if (type == KD_BF16)
        return kd_bf16_to_float_one(kd_bf16_from_float_one(value));
    return value;
}

/* log sum exp of scale * (row - top) over the classes that are kept, or over those that
 * are not. */
static double log_sum(const float *row, float top, double scale, const bool *kept,
                      bool which)
{
    double sum = 0;

    for (size_t c = 0; c < CLASSES; c++)
        sum += kept[c] == which ? exp(scale * ((double)row[c] - (double)top)) : 0;
    return log(sum);
}

static void assert_log(double is, double due)
{
    if (!(is == due || fabs(is - due) <= 1e-5 * (1 + fabs(due))))
        fail_msg("%.9g, not %.9g", is, due);
}

/* A row as it is stored against the row it was made of. */
static void check_row(const struct kd_identity *of, const struct kd_row *is)
{
    const bool sparse = kd_codec_is_sparse(&of->codec), none[CLASSES] = {false};
    double also[KD_MAX_ALSO];
    const size_t num_also = kd_codec_also(&of->codec, also);
    float row[CLASSES], top = -100;
    bool kept[CLASSES] = {false};
    uint64_t draws = 0;

    fixture_row(TEACHER, is->id, is->view, CLASSES, row);
    for (size_t c = 0; c < CLASSES; c++)
        top = row[c] > top ? row[c] : top;
    assert_int_equal(is->label, fixture_label(is->id, CLASSES));
    assert_true(is->row_max == top);
    for (size_t i = 0; i < is->size; i++) {
        const size_t c = sparse ? is->index[i] : i;

        assert_true(c < CLASSES && !kept[c]);
        kept[c] = true;
        assert_true(is->values[i] == rounded(of->codec.dtype, row[c] - top));
        draws += is->draws != NULL ? is->draws[i] : 0;
    }
    const double log_z = log_sum(row, top, 1, none, false);
    assert_log((double)is->log_z, log_z);
    assert_log((double)is->log_tail,
               sparse ? log_sum(row, top, 1, kept, false) - log_z : -INFINITY);
    for (size_t a = 0; a < num_also; a++) {
        const double scale = of->temperature / also[a];
        const double log_z_also = log_sum(row, top, scale, none, false);

        assert_log((double)is->log_z_also[a], log_z_also);
        assert_log((double)is->log_tail_also[a],
                   log_sum(row, top, scale, kept, false) - log_z_also);
    }
    assert_int_equal(draws, of->codec.encoding == KD_SAMPLED ? of->codec.k : 0);
    assert_true((is->draws != NULL) == (of->codec.encoding == KD_SAMPLED));
    assert_true((is->log_z_also != NULL) == (num_also > 0));
}

/* All C values: those that are kept as they are, even shares of the rest. */
static void check_spread(const struct kd_row *row, bool sparse, const float *values)
{
    double sum = 0, share = 0;
    size_t others = 0;
    bool kept[CLASSES] = {false};

    for (size_t i = 0; i < row->size; i++) {
        const size_t c = sparse ? row->index[i] : i;

        kept[c] = true;
        assert_true(values[c] == row->values[i]);
    }
    for (size_t c = 0; c < CLASSES; c++) {
        sum += exp((double)values[c] - (double)row->log_z);
        if (kept[c])
            continue;
        assert_true(others++ == 0 || (double)values[c] == share);
        share = (double)values[c];
    }
    assert_true(fabs(sum - 1) < 0.02); /* bfloat16 has 8 bits */
    if (others > 0)
        assert_log(share - (double)row->log_z + log((double)others),
                   (double)row->log_tail);
}

static void every_encoding_is_read(void **state)
{
    const char *path = fixture_path("read.h5");
    float values[CLASSES], all[CLASSES];
    uint32_t index[CLASSES];

    (void)state;
    for (size_t i = 0; i < NUM_CODECS; i++) {
        const struct kd_identity of = identity_of(&codecs[i], CLASSES);
        const bool sparse = kd_codec_is_sparse(&of.codec);
        struct kd_row row = {.values = values, .index = index};
        struct kd_shard *shard = NULL;
        uint64_t total = 0;
        size_t longest = 0;

        fixture_shard(path, &of, TEACHER, 2, SAMPLES);
        shard = open_shard(path);
        for (uint64_t at = 0; at < kd_shard_rows(shard); at++) {
            assert_int_equal(kd_shard_row(shard, at, &row), KD_OK);
            assert_true(row.id == 2 + at / 2 && row.view == at % 2);
            check_row(&of, &row);
            assert_int_equal(kd_shard_read(shard, at, 1, all), KD_OK);
            check_spread(&row, sparse, all);
            total += row.size;
            longest = row.size > longest ? row.size : longest;
        }
        assert_int_equal(kd_shard_kept(shard), longest);
        assert_int_equal(kd_shard_values(shard), total);
        assert_int_equal(kd_shard_row(shard, kd_shard_rows(shard), &row), KD_EBUG);
        kd_shard_close(shard);
    }
}

/* HDF5 puts small datasets end to end, so that columns begin at odd places. */
static void shards_of_any_size_are_read(void **state)
{
    static const struct kd_codec small[] = {
        {.dtype = KD_F16},
        {.encoding = KD_TOP_K, .dtype = KD_F32, .k = 1},
        {.encoding = KD_TOP_P, .dtype = KD_F16, .k = 3, .mass = 0.7},
        {.encoding = KD_SAMPLED, .dtype = KD_BF16, .k = 5, .also_temperatures = "1"}};
    const char *path = fixture_path("small.h5");
    float values[7 * 2 * 7];

    (void)state;
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++) {
        for (uint32_t classes = 5; classes <= 7; classes++) {
            const struct kd_identity of = identity_of(&small[i], classes);

            for (uint64_t samples = 1; samples <= 7; samples += 2) {
                struct kd_shard *shard = NULL;

                fixture_shard(path, &of, TEACHER, 0, samples);
                shard = open_shard(path);
                if (kd_shard_read(shard, 0, (size_t)samples * 2, values) != KD_OK)
                    fail_msg("%s", kd_error());
                kd_shard_close(shard);
            }
        }
    }
}

/* Writes bytes into a column. */
static void overwrite(const char *path, const char *column, size_t at, const void *data,
                      size_t size)
{
    struct kd_h5 *file = NULL;
    struct kd_array_info info;
    int fd = open(path, O_WRONLY);

    assert_int_equal(kd_h5_open(path, &file), KD_OK);
    assert_int_equal(kd_h5_info(file, column, &info), KD_OK);
    kd_h5_close(file);
    assert_true(at + size <= info.bytes);
    assert_int_equal(pwrite(fd, data, size, (off_t)(info.offset + at)), (ssize_t)size);
    close(fd);
}

/* Opens a shard and reads its first row, whose check is not verified. */
static enum kd_status read_first(const char *path, bool verify)
{
    enum kd_status status = KD_EBUG;
    float values[CLASSES];
    struct kd_shard *shard = NULL;

    KD_TRY(kd_shard_open(path, &shard));
    kd_shard_set_verify(shard, verify);
    KD_TRY(kd_shard_read(shard, 0, 1, values));
out:
    kd_shard_close(shard);
    return status;
}

static const uint16_t half_nan = 0x7e00, half_inf = 0xfc00, half_one = 0x3c00,
                      half_minus_one = 0xbc00, bf16_nan = 0xffff, class_300 = 300;
static const uint16_t none_drawn = 0, twice[2] = {5, 5};
static const float not_a_number = NAN, infinite = INFINITY, above = 0.5F,
                   minus_infinite = -INFINITY;
static const int32_t label_300 = 300;
static const uint32_t far_view = 9999;
static const uint64_t far_id = 1000000;
static const uint64_t offset_1 = 1, offset_51 = 51, offset_far = UINT64_MAX;

static void what_is_out_of_range_is_refused(void **state)
{
    static const struct {
        size_t codec;
        const char *column;
        size_t at;
        const void *data;
        size_t size;
        const char *words;
    } wrong[] = {
        {0, "logits", 20, &half_nan, 2, "not finite, or above the maximum"},
        {0, "logits", 598, &half_inf, 2, "not finite, or above the maximum"},
        {0, "logits", 0, &half_one, 2, "not finite, or above the maximum"},
        {1, "logits", 20, &bf16_nan, 2, "not finite, or above the maximum"},
        {2, "logits", 40, &not_a_number, 4, "not finite, or above the maximum"},
        {2, "logits", 1196, &above, 4, "not finite, or above the maximum"},
        {2, "logits", 4, &minus_infinite, 4, "not finite, or above the maximum"},
        {3, "logits", 0, &half_minus_one, 2, "none of its logits is the maximum"},
        {3, "index", 4, &class_300, 2, "a class is none of the cache's"},
        {3, "index", 6, twice, 4, "a class is there twice"},
        {4, "index", 200, twice, 4, "a class is there twice"},
        {6, "draws", 0, &none_drawn, 2, "its draws do not add up to k"},
        {0, "id", 40, &far_id, 8,
         "damaged: the id or view is none of the cache's; make the shard again"},
        {0, "view", 4, &far_view, 4,
         "damaged: the id or view is none of the cache's; make the shard again"},
        {0, "label", 0, &label_300, 4,
         "damaged: the label is none of the classes; make the shard again"},
        {0, "row_max", 0, &infinite, 4,
         "damaged: row_max is not finite; make the shard again"},
        {0, "log_z", 0, &not_a_number, 4, "log_z or log_tail is out of range"},
        {3, "log_tail", 0, &not_a_number, 4, "log_z or log_tail is out of range"},
        {3, "log_tail", 0, &above, 4, "log_z or log_tail is out of range"},
        {3, "log_z_also", 8, &infinite, 4, "log_z or log_tail is out of range"},
        {3, "log_tail_also", 4, &above, 4, "log_z or log_tail is out of range"},
        {5, "offset", 0, &offset_1, 8, "its offsets do not ascend"},
        {5, "offset", 8, &offset_51, 8, "its offsets do not ascend"},
        {5, "offset", 8, &offset_far, 8, "its offsets do not ascend"},
        {5, "offset", 16, &offset_1, 8, "its offsets do not ascend"},
        {7, "offset", 320, &offset_51, 8, "its offsets do not ascend"},
    };
    const char *path = fixture_path("wrong.h5");

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const struct kd_identity of = identity_of(&codecs[wrong[i].codec], CLASSES);

        fixture_shard(path, &of, TEACHER, 0, SAMPLES);
        assert_int_equal(read_first(path, false), KD_OK);
        overwrite(path, wrong[i].column, wrong[i].at, wrong[i].data, wrong[i].size);
        if (read_first(path, false) != KD_EDATA)
            fail_msg("case %zu was not refused", i);
        assert_says(wrong[i].words);
        assert_says("wrong.h5: row ");
    }
}

static void values_that_no_row_has_are_refused(void **state)
{
    const struct kd_identity of = identity_of(&codecs[6], CLASSES);
    const char *path = fixture_path("left.h5");
    struct kd_shard *shard = NULL;
    uint64_t end = 0;

    (void)state;
    fixture_shard(path, &of, TEACHER, 0, SAMPLES);
    shard = open_shard(path);
    end = kd_shard_values(shard) - 1;
    kd_shard_close(shard);
    overwrite(path, "offset", 2 * SAMPLES * sizeof end, &end, sizeof end);
    assert_int_equal(read_first(path, false), KD_EDATA);
    assert_says(
        "left.h5: row 39 (sample 19, view 1): damaged: its offsets do not ascend");
}

/* A teacher so sure that nothing at all is left for the other classes. */
static void values_of_no_mass_are_finite(void **state)
{
    const struct kd_codec codec = {.encoding = KD_TOP_K, .dtype = KD_F16, .k = 1};
    const struct kd_identity of = identity_of(&codec, 4);
    const float scaled[4] = {-3e4F, 3e4F, -3e4F, 0};
    const uint64_t id = 0;
    const uint32_t view = 0;
    const int32_t label = -1;
    const char *path = fixture_path("sure.h5");
    struct kd_shard_writer *writer = NULL;
    struct kd_shard *shard = NULL;
    float values[4];

    (void)state;
    assert_int_equal(kd_shard_writer_open(path, &of, 1, "", &writer), KD_OK);
    assert_int_equal(kd_shard_writer_add(writer, &(struct kd_rows){.count = 1,
                                                                   .id = &id,
                                                                   .view = &view,
                                                                   .label = &label,
                                                                   .scaled = scaled}),
                     KD_OK);
    assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
    shard = open_shard(path);
    assert_int_equal(kd_shard_read(shard, 0, 1, values), KD_OK);
    assert_true(values[0] == -KD_HALF_MAX && values[1] == 0 &&
                values[2] == -KD_HALF_MAX && values[3] == -KD_HALF_MAX);
    kd_shard_close(shard);
}

static void checks_are_verified_unless_told_otherwise(void **state)
{
    const char *path = fixture_path("check.h5");

    (void)state;
    for (size_t i = 0; i < NUM_CODECS; i++) {
        const struct kd_identity of = identity_of(&codecs[i], CLASSES);
        const float other = 1;

        fixture_shard(path, &of, TEACHER, 0, SAMPLES);
        overwrite(path, "row_max", 0, &other, sizeof other);
        assert_int_equal(read_first(path, true), KD_EDATA);
        assert_says("check.h5: row 0 (sample 0, view 0): damaged: its check differs");
        assert_int_equal(read_first(path, false), KD_OK);
    }
}

/* The first of many classes and the last, which are looked for in parts of a table. */
static void a_class_that_is_there_twice_is_found_among_many(void **state)
{
    static const uint32_t pairs[][2] = {
        {0, 0}, {65535, 65535}, {65536, 65536}, {131072, 131072}, {149999, 149999}};
    enum { MANY = 150000, KEPT = 40 };
    const struct kd_codec codec = {.encoding = KD_TOP_K, .dtype = KD_F16, .k = KEPT};
    struct kd_identity of = fixture_identity(MANY, 1, 1, KD_F16);
    const char *path = fixture_path("many.h5");
    float values[KEPT];
    uint32_t index[KEPT];

    (void)state;
    of.codec = codec;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct kd_row row = {.values = values, .index = index};
        struct kd_shard *shard = NULL;

        fixture_shard(path, &of, TEACHER, 0, 1);
        overwrite(path, "index", 4 * (KEPT - 2), pairs[i], sizeof pairs[i]);
        shard = open_shard(path);
        kd_shard_set_verify(shard, false);
        assert_int_equal(kd_shard_row(shard, 0, &row), KD_EDATA);
        assert_says("a class is there twice");
        kd_shard_close(shard);
    }
}

static void hints_change_nothing(void **state)
{
    const char *path = fixture_path("hints.h5");
    static float before[2 * SAMPLES * CLASSES], after[2 * SAMPLES * CLASSES];

    (void)state;
    for (size_t i = 0; i < NUM_CODECS; i++) {
        const struct kd_identity of = identity_of(&codecs[i], CLASSES);
        struct kd_shard *shard = NULL;

        fixture_shard(path, &of, TEACHER, 0, SAMPLES);
        shard = open_shard(path);
        assert_int_equal(kd_shard_read(shard, 0, 2 * SAMPLES, before), KD_OK);
        kd_shard_prefetch(shard, 3, 10);
        kd_shard_forget(shard, 0, 2 * SAMPLES);
        kd_shard_forget(shard, 2 * SAMPLES - 1, UINT64_MAX);
        kd_shard_prefetch(shard, UINT64_MAX, UINT64_MAX);
        kd_shard_prefetch(shard, 0, 0);
        assert_int_equal(kd_shard_read(shard, 0, 2 * SAMPLES, after), KD_OK);
        assert_memory_equal(before, after, sizeof before);
        kd_shard_close(shard);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_encoding_is_read),
        cmocka_unit_test(shards_of_any_size_are_read),
        cmocka_unit_test(what_is_out_of_range_is_refused),
        cmocka_unit_test(values_that_no_row_has_are_refused),
        cmocka_unit_test(values_of_no_mass_are_finite),
        cmocka_unit_test(checks_are_verified_unless_told_otherwise),
        cmocka_unit_test(a_class_that_is_there_twice_is_found_among_many),
        cmocka_unit_test(hints_change_nothing),
    };

    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
