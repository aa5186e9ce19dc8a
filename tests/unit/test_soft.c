/* SPDX-License-Identifier: MIT */
/* Soft labels of every encoding, tail rule and temperature, against the probabilities
 * in double that the rows were made of. */
#include "cache_fixture.h"

#include "kd/soft.h"
#include "kd/thread.h"

#include <math.h>

#define TEACHER 6
#define SAMPLES 12
#define MOST    1000 /* classes */

static const struct {
    uint32_t classes;
    struct kd_codec codec;
} cases[] = {
    {2, {.dtype = KD_F16}},
    {10, {.dtype = KD_F32}},
    {300, {.dtype = KD_BF16}},
    {1000, {.dtype = KD_F16}},
    {2, {.encoding = KD_TOP_K, .dtype = KD_F16, .k = 1, .also_temperatures = "1,2"}},
    {10, {.encoding = KD_TOP_K, .dtype = KD_F32, .k = 9}},
    {300, {.encoding = KD_TOP_K, .dtype = KD_BF16, .k = 20, .also_temperatures = "20"}},
    {1000, {.encoding = KD_TOP_K, .dtype = KD_F16, .k = 200, .also_temperatures = "1"}},
    {300,
     {.encoding = KD_TOP_P,
      .dtype = KD_F16,
      .k = 100,
      .mass = 0.9,
      .also_temperatures = "1,8"}},
    {1000, {.encoding = KD_TOP_P, .dtype = KD_F32, .k = 999, .mass = 0.999}},
    {10,
     {.encoding = KD_SAMPLED, .dtype = KD_F32, .k = 50, .also_temperatures = "2,6"}},
    {300,
     {.encoding = KD_SAMPLED, .dtype = KD_F16, .k = 400, .also_temperatures = "5"}},
};
#define NUM_CASES (sizeof cases / sizeof cases[0])

static struct kd_identity identity_of(size_t i)
{
    struct kd_identity of =
        fixture_identity(cases[i].classes, SAMPLES, 2, cases[i].codec.dtype);

    of.codec = cases[i].codec;
    assert_int_equal(kd_codec_check(&of.codec, of.num_classes), KD_OK);
    return of;
}

/* The cache of a case, in shards of 5 samples. */
static struct kd_cache *open_case(size_t i)
{
    const struct kd_identity of = identity_of(i);
    const char *directory = fixture_path("soft");
    struct kd_cache *cache = NULL;

    fixture_remove(directory);
    fixture_cache(directory, &of, TEACHER, 5);
    if (kd_cache_open(directory, &cache) != KD_OK)
        fail_msg("%s", kd_error());
    return cache;
}

/* The probabilities of a row at temperature t, as the teacher has them. */
static void true_row(const struct kd_identity *of, uint64_t id, uint32_t view, double t,
                     double *p)
{
    float row[MOST];
    double sum = 0;

    fixture_row(TEACHER, id, view, of->num_classes, row);
    for (size_t c = 0; c < of->num_classes; c++)
        sum += p[c] = exp((double)row[c] * of->temperature / t);
    for (size_t c = 0; c < of->num_classes; c++)
        p[c] /= sum;
}

/* How far a probability may be off: what its logit loses by rounding, times T/t. */
static double slack(const struct kd_identity *of, double t, double p)
{
    const double bits = of->codec.dtype == KD_F16    ? 0x1p-11
                        : of->codec.dtype == KD_BF16 ? 0x1p-8
                                                     : 0x1p-23;
    const double logit = 20 * of->temperature / t;

    return p * (exp(logit * bits) - 1 + 1e-5) + 1e-30;
}

static void assert_near(double is, double due, double off)
{
    if (!(fabs(is - due) <= off))
        fail_msg("%.9g, not %.9g", is, due);
}

/* The row as it is stored: which classes were kept is the writer's to decide. */
static void stored_row(const struct kd_cache *cache, uint64_t id, uint32_t view,
                       struct kd_row *row)
{
    const struct kd_shard *shard = NULL;
    uint64_t at = 0;

    assert_true(kd_cache_find(cache, id, view, &shard, &at));
    assert_int_equal(kd_shard_row(shard, at, row), KD_OK);
}

static void check_sampled(const struct kd_identity *of, const struct kd_row *row,
                          const double *own, const double *due, double t,
                          const float *p)
{
    double share[MOST] = {0}, sum = 0;

    for (size_t i = 0; i < row->size; i++)
        share[row->index[i]] = (double)row->draws[i] / of->codec.k;
    for (size_t c = 0; c < of->num_classes; c++) {
        const double estimate = share[c] == 0 ? 0 : due[c] / own[c] * share[c];

        assert_near((double)p[c], estimate,
                    slack(of, t, estimate) + slack(of, of->temperature, estimate));
        sum += (double)p[c];
    }
    if (t == of->temperature)
        assert_near(sum, 1, 1e-5);
}

/* Top-k and top-p rows; dense ones keep all classes. */
static void check_kept(const struct kd_identity *of, const struct kd_row *row,
                       const double *due, const struct kd_soft_spec *spec,
                       const float *p, float tail)
{
    const size_t classes = of->num_classes;
    const bool sparse = kd_codec_is_sparse(&of->codec);
    const bool bucket = sparse && spec->tail == KD_TAIL_BUCKET;
    const bool renorm = sparse && spec->tail == KD_TAIL_RENORM;
    const double t = spec->temperature;
    double left = 0, sum = (double)tail;
    bool kept[MOST] = {false};

    for (size_t i = 0; i < row->size; i++)
        kept[sparse ? row->index[i] : i] = true;
    for (size_t c = 0; c < classes; c++)
        left += kept[c] ? 0 : due[c];
    for (size_t c = 0; c < classes; c++) {
        const double share = renorm ? 0 : left / (double)(classes - row->size);
        const double wanted = renorm ? due[c] / (1 - left) : due[c];

        if (!kept[c] && bucket)
            assert_true(p[c] == -1);
        else
            assert_near((double)p[c], kept[c] ? wanted : share,
                        slack(of, t, kept[c] ? wanted : share));
        sum += p[c] == -1 ? 0 : (double)p[c];
    }
    assert_near((double)tail, bucket ? left : 0, 1e-5 * left);
    assert_near(sum, 1, renorm ? 1e-5 : slack(of, t, 1));
}

static void check_case(size_t i, const struct kd_soft_spec *spec)
{
    const struct kd_identity of = identity_of(i);
    struct kd_cache *cache = open_case(i);
    const size_t classes = of.num_classes;
    const uint64_t ids[6] = {11, 4, 5, 0, 4, 9};
    const uint32_t views[6] = {1, 0, 0, 1, 1, 0};
    float *p = calloc(6 * classes, sizeof *p), tail[6];
    struct kd_row row = {.values = calloc(classes, sizeof(float)),
                         .index = calloc(classes, sizeof(uint32_t))};
    double due[MOST], own[MOST];

    assert_int_equal(kd_soft_check(&of, spec), KD_OK);
    assert_int_equal(kd_soft_read(cache, spec, ids, views, 6,
                                  &(struct kd_soft){.p = p, .tail = tail}),
                     KD_OK);
    for (size_t r = 0; r < 6; r++) {
        stored_row(cache, ids[r], views[r], &row);
        true_row(&of, ids[r], views[r], spec->temperature, due);
        true_row(&of, ids[r], views[r], of.temperature, own);
        if (of.codec.encoding == KD_SAMPLED)
            check_sampled(&of, &row, own, due, spec->temperature, p + r * classes);
        else
            check_kept(&of, &row, due, spec, p + r * classes, tail[r]);
    }
    free(p);
    free(row.values);
    free(row.index);
    kd_cache_close(cache);
}

static void check_temperature(double t)
{
    struct kd_soft_spec spec = {.temperature = t};

    for (size_t i = 0; i < NUM_CASES; i++) {
        const struct kd_identity of = identity_of(i);
        const bool kept =
            of.codec.encoding == KD_TOP_K || of.codec.encoding == KD_TOP_P;

        for (int tail = 0; kd_tail_names[tail] != NULL && (tail == 0 || kept); tail++) {
            spec.tail = (enum kd_tail)tail;
            if (kd_soft_check(&of, &spec) == KD_OK)
                check_case(i, &spec);
        }
    }
}

static void labels_at_the_cache_s_temperature_are_right(void **state)
{
    (void)state;
    check_temperature(4);
}

static void labels_at_other_temperatures_are_right(void **state)
{
    static const double all[] = {1, 2, 5, 6, 8, 20};

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        check_temperature(all[i]);
}

/* Many rows of the same logits, each with draws of its own: the mean of what they say
 * about a class is its probability at any temperature, within 5 standard errors. */
static void sampled_labels_are_unbiased(void **state)
{
    enum { ROWS = 4000, CLASSES = 12 };
    static const double all[] = {4, 2, 7};
    struct kd_identity of = fixture_identity(CLASSES, ROWS, 1, KD_F32);
    static float scaled[ROWS * CLASSES], p[ROWS * CLASSES];
    static uint64_t id[ROWS];
    static uint32_t view[ROWS];
    static int32_t label[ROWS];
    struct kd_shard_writer *writer = NULL;
    struct kd_cache *cache = NULL;
    const char *path = fixture_path("sampled.h5");

    (void)state;
    of.codec = (struct kd_codec){
        .encoding = KD_SAMPLED, .dtype = KD_F32, .k = 6, .also_temperatures = "2,7"};
    for (size_t r = 0; r < ROWS; r++) {
        id[r] = r;
        for (size_t c = 0; c < CLASSES; c++)
            scaled[r * CLASSES + c] = (float)(c * c) * 0.02F;
    }
    assert_int_equal(kd_shard_writer_open(path, &of, ROWS, "", &writer), KD_OK);
    assert_int_equal(kd_shard_writer_add(writer, &(struct kd_rows){.count = ROWS,
                                                                   .id = id,
                                                                   .view = view,
                                                                   .label = label,
                                                                   .scaled = scaled}),
                     KD_OK);
    assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
    assert_int_equal(kd_cache_open(path, &cache), KD_OK);
    for (size_t i = 0; i < 3; i++) {
        const struct kd_soft_spec spec = {.temperature = all[i]};
        double norm = 0;

        assert_int_equal(
            kd_soft_read(cache, &spec, id, view, ROWS, &(struct kd_soft){.p = p}),
            KD_OK);
        for (size_t c = 0; c < CLASSES; c++)
            norm += exp((double)scaled[c] * 4 / all[i]);
        for (size_t c = 0; c < CLASSES; c++) {
            const double due = exp((double)scaled[c] * 4 / all[i]) / norm;
            double sum = 0, squares = 0;

            for (size_t r = 0; r < ROWS; r++) {
                sum += (double)p[r * CLASSES + c];
                squares += (double)p[r * CLASSES + c] * (double)p[r * CLASSES + c];
            }
            sum /= ROWS;
            assert_near(sum, due, 5 * sqrt((squares / ROWS - sum * sum) / ROWS));
        }
    }
    kd_cache_close(cache);
}

static void one_row_is_as_in_a_batch(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_CASES; i++) {
        const struct kd_identity of = identity_of(i);
        const struct kd_soft_spec spec = {4, KD_TAIL_BUCKET};
        struct kd_cache *cache = open_case(i);
        const uint64_t id = 7;
        const uint32_t view = 1;
        float batch[MOST], single[MOST], values[MOST], tail = 0;
        uint32_t index[MOST];
        struct kd_row row = {.values = values, .index = index};

        stored_row(cache, id, view, &row);
        assert_int_equal(kd_soft_read(cache, &spec, &id, &view, 1,
                                      &(struct kd_soft){.p = batch, .tail = &tail}),
                         KD_OK);
        assert_true(kd_soft_row(&of, &spec, &row, single) == tail);
        assert_memory_equal(batch, single, of.num_classes * sizeof *batch);
        kd_cache_close(cache);
    }
}

static void threads_change_nothing(void **state)
{
    enum { COUNT = 2000 };
    const struct kd_soft_spec spec = {4, KD_TAIL_SPREAD};
    struct kd_cache *cache = open_case(8);
    float *one = calloc(COUNT * 300, sizeof *one), *three = calloc(COUNT * 300, 4);
    uint64_t ids[COUNT];
    uint32_t views[COUNT];

    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        ids[i] = i * 7 % SAMPLES;
        views[i] = i % 5 % 2;
    }
    assert_int_equal(
        kd_soft_read(cache, &spec, ids, views, COUNT, &(struct kd_soft){.p = one}),
        KD_OK);
    kd_threads_set(3);
    assert_int_equal(
        kd_soft_read(cache, &spec, ids, views, COUNT, &(struct kd_soft){.p = three}),
        KD_OK);
    kd_threads_set(1);
    assert_memory_equal(one, three, COUNT * 300 * sizeof *one);
    free(one);
    free(three);
    kd_cache_close(cache);
}

static void missing_rows_are_said_or_named(void **state)
{
    const struct kd_soft_spec spec = {4, KD_TAIL_SPREAD};
    const uint64_t ids[4] = {3, 12, 5, UINT64_MAX};
    const uint32_t views[4] = {1, 0, 2, 0};
    bool found[4] = {false, true, true, true};
    float p[40], tail[4];

    (void)state;
    for (size_t i = 1; i < NUM_CASES; i++) {
        struct kd_cache *cache = NULL;

        if (cases[i].classes != 10)
            continue;
        cache = open_case(i);
        for (size_t c = 0; c < 40; c++)
            p[c] = 7;
        assert_int_equal(kd_soft_read(cache, &spec, ids, views, 4,
                                      &(struct kd_soft){p, tail, found}),
                         KD_OK);
        assert_true(found[0] && !found[1] && !found[2] && !found[3]);
        assert_true(p[0] < 1 && p[9] < 1);
        for (size_t c = 10; c < 40; c++)
            assert_true(p[c] == 7);
        assert_int_equal(
            kd_soft_read(cache, &spec, ids, views, 4, &(struct kd_soft){.p = p}),
            KD_EDATA);
        assert_says("sample 12, view 0 is not in the cache");
        kd_cache_close(cache);
    }
}

static void what_cannot_be_had_is_refused(void **state)
{
    struct kd_identity of = identity_of(8);
    struct kd_soft_spec spec = {.temperature = 2};

    (void)state;
    assert_int_equal(kd_soft_check(&of, &spec), KD_EDATA);
    assert_says("at temperature 2");
    assert_says("these top-p rows have normalisers for 4,1,8 alone");
    assert_says("--also-temperature 2");
    of = identity_of(9);
    assert_int_equal(kd_soft_check(&of, &spec), KD_EDATA);
    assert_says("normalisers for 4 alone");

    of = identity_of(1);
    assert_int_equal(kd_soft_check(&of, &spec), KD_OK);
    of.value_kind = KD_VALUE_LOGPROBS;
    assert_int_equal(kd_soft_check(&of, &spec), KD_OK);
    of.kind = KD_KIND_MERGED;
    assert_int_equal(kd_soft_check(&of, &spec), KD_EDATA);
    assert_says("merged as probabilities");
    assert_says("which is 4");
    spec.temperature = 4;
    assert_int_equal(kd_soft_check(&of, &spec), KD_OK);
    of.value_kind = KD_VALUE_LOGITS;
    spec.temperature = 2;
    assert_int_equal(kd_soft_check(&of, &spec), KD_OK);

    for (size_t i = 0; i < 3; i++) {
        spec.temperature = (const double[]){0, -1, NAN}[i];
        assert_int_equal(kd_soft_check(&of, &spec), KD_EUSAGE);
        assert_says("must be above 0");
    }
}

/* Rows that leave nothing over for the others, or nearly everything. */
static void extreme_rows_keep_their_sums(void **state)
{
    enum { CLASSES = 5 };
    const float rows[3][CLASSES] = {
        {3e4F, 0, -3e4F, -6e4F, 0}, {1, 1, 1, 1, 1}, {3e38F, -3e38F, 0, 3e38F, 1}};
    const struct kd_codec codecs[] = {{.dtype = KD_F16},
                                      {.dtype = KD_BF16},
                                      {.encoding = KD_TOP_K, .dtype = KD_F16, .k = 1},
                                      {.encoding = KD_TOP_K, .dtype = KD_F32, .k = 4}};
    const uint64_t id[3] = {0, 1, 2};
    const uint32_t view[3] = {0};
    const int32_t label[3] = {-1, -1, -1};
    const char *path = fixture_path("extreme.h5");

    (void)state;
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
        struct kd_identity of = fixture_identity(CLASSES, 3, 1, KD_F16);
        struct kd_shard_writer *writer = NULL;
        struct kd_cache *cache = NULL;

        of.codec = codecs[i];
        assert_int_equal(kd_codec_check(&of.codec, CLASSES), KD_OK);
        assert_int_equal(kd_shard_writer_open(path, &of, 3, "", &writer), KD_OK);
        assert_int_equal(
            kd_shard_writer_add(writer, &(struct kd_rows){.count = 3,
                                                          .id = id,
                                                          .view = view,
                                                          .label = label,
                                                          .scaled = rows[0]}),
            KD_OK);
        assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
        assert_int_equal(kd_cache_open(path, &cache), KD_OK);
        for (int tail = 0; tail < 3; tail++) {
            const struct kd_soft_spec spec = {4, (enum kd_tail)tail};
            float p[3 * CLASSES], mass[3];

            assert_int_equal(kd_soft_read(cache, &spec, id, view, 3,
                                          &(struct kd_soft){.p = p, .tail = mass}),
                             KD_OK);
            for (size_t r = 0; r < 3; r++) {
                double sum = (double)mass[r];

                for (size_t c = 0; c < CLASSES; c++)
                    sum += p[r * CLASSES + c] == -1 ? 0 : (double)p[r * CLASSES + c];
                assert_near(sum, 1, 1e-5);
            }
        }
        kd_cache_close(cache);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_at_the_cache_s_temperature_are_right),
        cmocka_unit_test(labels_at_other_temperatures_are_right),
        cmocka_unit_test(sampled_labels_are_unbiased),
        cmocka_unit_test(one_row_is_as_in_a_batch),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(missing_rows_are_said_or_named),
        cmocka_unit_test(what_cannot_be_had_is_refused),
        cmocka_unit_test(extreme_rows_keep_their_sums),
    };

    kd_threads_set(1);
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
