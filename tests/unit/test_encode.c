/* SPDX-License-Identifier: MIT */
/* Encoding rows, against a naive reference: all classes sorted, sums in long double. */
#include "cache_fixture.h"

#include "cache/encode_internal.h"
#include "kd/half.h"

#include <float.h>
#include <math.h>

#define MOST 70000

static const uint32_t class_counts[] = {2, 10, 100, 1000, MOST};
#define NUM_COUNTS (sizeof class_counts / sizeof class_counts[0])

static struct kd_identity identity_of(uint32_t classes, struct kd_codec codec)
{
    struct kd_identity of = fixture_identity(classes, 1000000, 1, KD_F16);

    assert_int_equal(kd_codec_check(&codec, classes), KD_OK);
    of.codec = codec;
    return of;
}

/* Encodes one dense row with its own encoder; the caller clears that. */
static void encode_row(struct kd_encoder *encoder, const struct kd_identity *of,
                       const float *row, uint64_t id, struct kd_encoded *to)
{
    const uint32_t view = 0;
    const int32_t label = -1;
    const struct kd_rows rows = {
        .count = 1, .id = &id, .view = &view, .label = &label, .scaled = row};

    assert_int_equal(kd_encoder_init(encoder, of, &rows), KD_OK);
    assert_int_equal(kd_encode_row(encoder, &rows, 0, to), KD_OK);
}

/* -- the reference ---------------------------------------------------------- */

static const float *sorting;

static int more_probable(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    if (sorting[*x] != sorting[*y])
        return sorting[*x] > sorting[*y] ? -1 : 1;
    return (*x > *y) - (*x < *y);
}

static void sort_reference(const float *row, size_t classes, uint32_t *order)
{
    for (size_t c = 0; c < classes; c++)
        order[c] = (uint32_t)c;
    sorting = row;
    qsort(order, classes, sizeof *order, more_probable);
}

/* The sum of exp(scale (u - top)) over order[begin .. end-1], the least first. */
static long double sum_of(const float *row, const uint32_t *order, size_t begin,
                          size_t end, double scale)
{
    const long double top = (long double)row[order[0]];
    long double sum = 0;

    while (end > begin)
        sum += expl((long double)scale * ((long double)row[order[--end]] - top));
    return sum;
}

static void assert_near(float got, long double due)
{
    const long double error = fabsl((long double)got - due);

    if (isinf((double)due) ? (double)got != (double)due
                           : !(error <= 1e-6L * fmaxl(1, fabsl(due))))
        fail_msg("%.9g, not %.9Lg", (double)got, due);
}

/* That `encoded` keeps the first `size` of `order`, and says what is left. */
static void check_kept(const struct kd_identity *of, const struct kd_encoded *encoded,
                       const float *row, const uint32_t *order, size_t size)
{
    const size_t classes = of->num_classes;
    const long double whole = sum_of(row, order, 0, classes, 1);
    static uint32_t index[MOST];
    static float logits[MOST];
    double also[KD_MAX_ALSO];

    assert_int_equal(encoded->size, size);
    kd_encoded_index(encoded, KD_U32, index);
    kd_encoded_logits(encoded, KD_F32, logits);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(index[i], order[i]);
        assert_true(logits[i] == row[order[i]] - row[order[0]]);
    }
    assert_true(encoded->row_max == row[order[0]]);
    assert_near(encoded->log_z, logl(whole));
    assert_near(encoded->log_tail, logl(sum_of(row, order, size, classes, 1) / whole));
    assert_true(encoded->log_z >= 0 && encoded->log_tail <= 0);
    for (size_t a = 0; a < kd_codec_also(&of->codec, also); a++) {
        const double scale = of->temperature / also[a];
        const long double all = sum_of(row, order, 0, classes, scale);

        assert_near(encoded->log_z_also[a], logl(all));
        assert_near(encoded->log_tail_also[a],
                    logl(sum_of(row, order, size, classes, scale) / all));
    }
}

static void draw_row(struct kd_random *r, size_t classes, float *row)
{
    for (size_t c = 0; c < classes; c++)
        row[c] = (float)(3 * kd_random_normal(r) + 100);
}

/* -- dense ------------------------------------------------------------------ */

static void dense_rows_are_whole(void **state)
{
    static float row[MOST], logits[MOST];
    static uint32_t order[MOST];
    static uint16_t halves[MOST];
    struct kd_random r = kd_random_at(1, KD_RANDOM_TEST, 0, 0);

    (void)state;
    for (size_t n = 0; n < NUM_COUNTS; n++) {
        const uint32_t classes = class_counts[n];
        const struct kd_identity of =
            identity_of(classes, (struct kd_codec){.dtype = KD_BF16});
        struct kd_encoder encoder;
        struct kd_encoded encoded;

        draw_row(&r, classes, row);
        sort_reference(row, classes, order);
        encode_row(&encoder, &of, row, n, &encoded);
        assert_int_equal(encoded.size, classes);
        assert_true(encoded.row_max == row[order[0]]);
        assert_near(encoded.log_z, logl(sum_of(row, order, 0, classes, 1)));
        assert_true(isinf(encoded.log_tail) && encoded.log_tail < 0);
        kd_encoded_logits(&encoded, KD_F32, logits);
        kd_encoded_logits(&encoded, KD_BF16, halves);
        for (size_t c = 0; c < classes; c++) {
            assert_true(logits[c] == row[c] - row[order[0]]);
            assert_int_equal(halves[c], kd_bf16_from_float_one(logits[c]));
        }
        kd_encoder_clear(&encoder);
    }
}

static void values_stay_finite_in_every_type(void **state)
{
    const float row[4] = {3e38F, 3e38F, -3e38F, 0};
    const struct kd_identity of = identity_of(4, (struct kd_codec){.dtype = KD_F16});
    struct kd_encoder encoder;
    struct kd_encoded encoded;
    uint16_t halves[4];
    float floats[4];

    (void)state;
    encode_row(&encoder, &of, row, 0, &encoded);
    kd_encoded_logits(&encoded, KD_F16, halves);
    kd_half_to_float(halves, floats, 4);
    assert_true(floats[1] == 0 && floats[2] == -KD_HALF_MAX && floats[3] == -65504);
    kd_encoded_logits(&encoded, KD_BF16, halves);
    kd_bf16_to_float(halves, floats, 4);
    assert_true(floats[1] == 0 && floats[2] == -KD_BF16_MAX);
    kd_encoded_logits(&encoded, KD_F32, floats);
    assert_true(floats[1] == 0 && floats[2] == -FLT_MAX && floats[3] == -3e38F);
    kd_encoder_clear(&encoder);
}

/* -- top-k and top-p -------------------------------------------------------- */

static void check_top_k(uint32_t classes, uint32_t k, const float *row)
{
    static uint32_t order[MOST];
    const struct kd_identity of =
        identity_of(classes, (struct kd_codec){.encoding = KD_TOP_K,
                                               .dtype = KD_F16,
                                               .k = k,
                                               .also_temperatures = "1,2,8,1000"});
    struct kd_encoder encoder;
    struct kd_encoded encoded;

    sort_reference(row, classes, order);
    encode_row(&encoder, &of, row, k, &encoded);
    check_kept(&of, &encoded, row, order, k);
    kd_encoder_clear(&encoder);
}

static void top_k_keeps_the_most_probable(void **state)
{
    static float row[MOST];
    struct kd_random r = kd_random_at(2, KD_RANDOM_TEST, 0, 0);

    (void)state;
    for (size_t n = 0; n < NUM_COUNTS; n++) {
        const uint32_t classes = class_counts[n];

        for (int round = 0; round < (classes < 1000 ? 50 : 2); round++) {
            draw_row(&r, classes, row);
            check_top_k(classes, 1, row);
            check_top_k(classes, classes - 1, row);
            check_top_k(classes, 1 + kd_random_below(&r, classes - 1), row);
            check_top_k(classes, classes > 10 ? 10 : 1, row);
        }
    }
}

/* Few distinct values, both zeros among them, rising and falling. */
static void of_equal_logits_the_lower_class_goes_first(void **state)
{
    static float row[1000];
    struct kd_random r = kd_random_at(3, KD_RANDOM_TEST, 0, 0);
    static const float values[] = {-1.5F, -0.0F, 0.0F, 2};

    (void)state;
    for (int round = 0; round < 50; round++) {
        for (size_t c = 0; c < 1000; c++)
            row[c] = values[kd_random_below(&r, round < 25 ? 3 : 4)];
        check_top_k(1000, 1 + kd_random_below(&r, 999), row);
    }
    for (size_t c = 0; c < 1000; c++)
        row[c] = 7;
    check_top_k(1000, 10, row);
    for (size_t c = 0; c < 1000; c++)
        row[c] = (float)(c / 3);
    check_top_k(1000, 10, row);
    for (size_t c = 0; c < 1000; c++)
        row[c] = -(float)(c / 3);
    check_top_k(1000, 10, row);
}

/* Rows of which one class has nearly everything: by how much is a matter of exponents
 * that 1 minus something cannot tell. */
static void the_tail_of_a_confident_row_is_exact(void **state)
{
    struct kd_random r = kd_random_at(4, KD_RANDOM_TEST, 0, 0);
    float row[100];

    (void)state;
    for (int round = 0; round < 10000; round++) {
        const uint32_t classes = 2 + kd_random_below(&r, 99);
        const double lead = kd_random_between(&r, 0, 120);

        for (size_t c = 0; c < classes; c++)
            row[c] = (float)kd_random_normal(&r);
        row[kd_random_below(&r, classes)] = (float)lead;
        check_top_k(classes, 1 + kd_random_below(&r, classes - 1), row);
    }
}

static void nothing_left_is_minus_infinity(void **state)
{
    const float row[5] = {-65504, 0, -65504, -1e6F, -1e30F};
    const struct kd_identity of = identity_of(
        5, (struct kd_codec){.encoding = KD_TOP_K, .dtype = KD_F16, .k = 3});
    struct kd_encoder encoder;
    struct kd_encoded encoded;
    uint16_t halves[3];
    uint8_t index[3];

    (void)state;
    encode_row(&encoder, &of, row, 0, &encoded);
    assert_true(encoded.log_tail == -INFINITY && encoded.log_z == 0);
    kd_encoded_logits(&encoded, KD_F16, halves);
    kd_encoded_index(&encoded, KD_U8, index);
    assert_int_equal(halves[0], 0);
    assert_int_equal(halves[1], 0xfbff);
    assert_int_equal(halves[2], 0xfbff);
    assert_true(index[0] == 1 && index[1] == 0 && index[2] == 2);
    kd_encoder_clear(&encoder);
}

/* How many classes it takes; at most k. */
static size_t reference_length(const float *row, const uint32_t *order, size_t classes,
                               double mass, size_t k)
{
    const long double whole = sum_of(row, order, 0, classes, 1);
    size_t n = 1;

    while (n < k && sum_of(row, order, 0, n, 1) < (long double)mass * whole)
        n++;
    return n;
}

static void check_top_p(uint32_t classes, double mass, uint32_t k, const float *row)
{
    static uint32_t order[MOST];
    const struct kd_identity of =
        identity_of(classes, (struct kd_codec){.encoding = KD_TOP_P,
                                               .dtype = KD_F16,
                                               .k = k,
                                               .mass = mass,
                                               .also_temperatures = "2"});
    struct kd_encoder encoder;
    struct kd_encoded encoded;

    sort_reference(row, classes, order);
    encode_row(&encoder, &of, row, k, &encoded);
    check_kept(&of, &encoded, row, order,
               reference_length(row, order, classes, mass, of.codec.k));
    kd_encoder_clear(&encoder);
}

static void top_p_keeps_as_few_as_carry_the_mass(void **state)
{
    static const double masses[] = {1e-9, 0.1, 0.5, 0.9, 0.99, 0.9999, 0.999999999};
    struct kd_random r = kd_random_at(5, KD_RANDOM_TEST, 0, 0);
    static float row[1000];

    (void)state;
    for (size_t n = 0; n < NUM_COUNTS && class_counts[n] <= 1000; n++) {
        const uint32_t classes = class_counts[n];

        for (size_t m = 0; m < sizeof masses / sizeof masses[0]; m++) {
            draw_row(&r, classes, row);
            check_top_p(classes, masses[m], 0, row);
            check_top_p(classes, masses[m], 1 + kd_random_below(&r, classes - 1), row);
        }
    }
}

static void top_p_of_equal_classes_is_their_share(void **state)
{
    static float row[1000];
    static const struct {
        double mass;
        size_t size;
    } cases[] = {{0.5, 500}, {0.0005, 1}, {0.001, 1}, {0.0011, 2}, {0.9995, 999}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct kd_identity of = identity_of(
            1000, (struct kd_codec){
                      .encoding = KD_TOP_P, .dtype = KD_F32, .mass = cases[i].mass});
        struct kd_encoder encoder;
        struct kd_encoded encoded;

        encode_row(&encoder, &of, row, 0, &encoded);
        assert_int_equal(encoded.size, cases[i].size);
        assert_near(encoded.log_tail, logl(1 - (long double)cases[i].size / 1000));
        kd_encoder_clear(&encoder);
    }
}

/* -- sampled ---------------------------------------------------------------- */

static struct kd_identity sampled_identity(uint32_t classes, uint32_t k)
{
    return identity_of(classes, (struct kd_codec){.encoding = KD_SAMPLED,
                                                  .dtype = KD_F16,
                                                  .k = k,
                                                  .also_temperatures = "1,8"});
}

static void sampled_rows_say_what_they_drew(void **state)
{
    struct kd_random r = kd_random_at(6, KD_RANDOM_TEST, 0, 0);
    static float row[MOST];
    static uint32_t order[MOST], index[MOST];

    (void)state;
    for (size_t n = 0; n < NUM_COUNTS; n++) {
        const uint32_t classes = class_counts[n], k = n == 2 ? 65535 : 50;
        const struct kd_identity of = sampled_identity(classes, k);
        struct kd_encoder encoder;
        struct kd_encoded encoded;
        size_t drawn = 0;

        draw_row(&r, classes, row);
        encode_row(&encoder, &of, row, n, &encoded);
        assert_true(encoded.size >= 1 && encoded.size <= k && encoded.size <= classes);
        kd_encoded_index(&encoded, KD_U32, index);
        for (size_t i = 0; i < encoded.size; i++) {
            drawn += encoded.draws[i];
            assert_true(encoded.draws[i] > 0 && index[i] < classes);
            assert_true(i == 0 || row[index[i]] <= row[index[i - 1]]);
        }
        assert_int_equal(drawn, k);

        /* In the order "kept, then the others" the tail is the others'. */
        memset(order, 0xff, sizeof order);
        for (size_t i = 0; i < encoded.size; i++)
            order[index[i]] = (uint32_t)i;
        long double tail = 0, whole = 0;
        for (size_t c = 0; c < classes; c++) {
            const long double p = expl((long double)row[c] - 100);
            whole += p;
            tail += order[c] == UINT32_MAX ? p : 0;
        }
        assert_near(encoded.log_tail, logl(tail / whole));
        assert_true(encoded.log_tail_also[0] <= 0 && encoded.log_tail_also[1] <= 0);
        kd_encoder_clear(&encoder);
    }
}

/* The mean of draws/k over many rows of one distribution is that distribution. */
static void sampling_is_unbiased(void **state)
{
    enum { CLASSES = 20, DRAWS = 8, ROWS = 20000 };
    const struct kd_identity of = sampled_identity(CLASSES, DRAWS);
    struct kd_random r = kd_random_at(7, KD_RANDOM_TEST, 0, 0);
    float row[CLASSES];
    double count[CLASSES] = {0}, whole = 0;

    (void)state;
    for (size_t c = 0; c < CLASSES; c++) {
        row[c] = (float)(2 * kd_random_normal(&r));
        whole += exp((double)row[c]);
    }
    for (uint64_t id = 0; id < ROWS; id++) {
        struct kd_encoder encoder;
        struct kd_encoded encoded;
        uint32_t index[CLASSES];

        encode_row(&encoder, &of, row, id, &encoded);
        kd_encoded_index(&encoded, KD_U32, index);
        for (size_t i = 0; i < encoded.size; i++)
            count[index[i]] += encoded.draws[i];
        kd_encoder_clear(&encoder);
    }
    for (size_t c = 0; c < CLASSES; c++) {
        const double p = exp((double)row[c]) / whole, n = (double)ROWS * DRAWS;

        if (!(fabs(count[c] / n - p) <= 5 * sqrt(p * (1 - p) / n)))
            fail_msg("class %zu: %g drawn, not %g", c, count[c] / n, p);
    }
}

static void draws_are_a_function_of_seed_id_and_view(void **state)
{
    static float row[1000];
    struct kd_identity of = sampled_identity(1000, 100);
    struct kd_encoder a, b;
    struct kd_encoded x, y;

    (void)state;
    encode_row(&a, &of, row, 5, &x);
    encode_row(&b, &of, row, 5, &y);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.keys, y.keys, x.size * sizeof *x.keys);
    assert_memory_equal(x.draws, y.draws, x.size * sizeof *x.draws);
    kd_encoder_clear(&b);
    encode_row(&b, &of, row, 6, &y);
    assert_true(x.size != y.size || memcmp(x.keys, y.keys, x.size * 8) != 0);
    kd_encoder_clear(&b);
    of.seed--;
    encode_row(&b, &of, row, 5, &y);
    assert_true(x.size != y.size || memcmp(x.keys, y.keys, x.size * 8) != 0);
    kd_encoder_clear(&b);
    kd_encoder_clear(&a);
}

/* What an encoder did before leaves no trace. */
static void rows_do_not_depend_on_those_before(void **state)
{
    enum { ROWS = 50, CLASSES = 40 };
    static const struct kd_codec kinds[] = {
        {.encoding = KD_TOP_K, .dtype = KD_F16, .k = 9, .also_temperatures = "1"},
        {.encoding = KD_TOP_P, .dtype = KD_F16, .mass = 0.9},
        {.encoding = KD_SAMPLED, .dtype = KD_F16, .k = 30}};
    struct kd_random r = kd_random_at(9, KD_RANDOM_TEST, 0, 0);
    static float scaled[ROWS * CLASSES];
    uint64_t id[ROWS];
    const uint32_t view[ROWS] = {0};
    const int32_t label[ROWS] = {0};
    const struct kd_rows rows = {
        .count = ROWS, .id = id, .view = view, .label = label, .scaled = scaled};

    (void)state;
    draw_row(&r, sizeof scaled / sizeof scaled[0], scaled);
    for (size_t kind = 0; kind < 3; kind++) {
        const struct kd_identity of = identity_of(CLASSES, kinds[kind]);
        struct kd_encoder encoder, fresh;
        struct kd_encoded encoded, due;

        assert_int_equal(kd_encoder_init(&encoder, &of, &rows), KD_OK);
        for (size_t row = 0; row < ROWS; row++) {
            id[row] = row;
            assert_int_equal(kd_encode_row(&encoder, &rows, row, &encoded), KD_OK);
            encode_row(&fresh, &of, scaled + row * CLASSES, row, &due);
            assert_int_equal(encoded.size, due.size);
            assert_memory_equal(encoded.keys, due.keys, due.size * sizeof *due.keys);
            if (kinds[kind].encoding == KD_SAMPLED)
                assert_memory_equal(encoded.draws, due.draws,
                                    due.size * sizeof *due.draws);
            assert_true(encoded.log_z == due.log_z && encoded.log_tail == due.log_tail);
            kd_encoder_clear(&fresh);
        }
        kd_encoder_clear(&encoder);
    }
}

/* A class without probability is never drawn, wherever it stands. */
static void impossible_classes_are_not_drawn(void **state)
{
    static float row[100];
    const struct kd_identity of = sampled_identity(100, 65535);
    struct kd_encoder encoder;
    struct kd_encoded encoded;
    uint8_t index[100];

    (void)state;
    for (size_t c = 0; c < 100; c++)
        row[c] = c % 10 == 5 ? 0 : -2000;
    encode_row(&encoder, &of, row, 0, &encoded);
    assert_int_equal(encoded.size, 10);
    kd_encoded_index(&encoded, KD_U8, index);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(index[i], 10 * i + 5);
    assert_true(encoded.log_tail == -INFINITY);
    kd_encoder_clear(&encoder);
}

/* -- sparse rows on their way in -------------------------------------------- */

/* Some classes of a row: log-probabilities, and the mass of the others. */
struct sparse {
    float values[64];
    uint32_t index[64];
    size_t count;
    float log_rest;
};

static enum kd_status encode_sparse(struct kd_encoder *encoder,
                                    const struct kd_identity *of,
                                    const struct sparse *row, struct kd_encoded *to)
{
    const uint64_t id = 9, offset[2] = {0, row->count};
    const uint32_t view = 0;
    const int32_t label = -1;
    const struct kd_rows rows = {1,           &id,    &view,      &label,
                                 row->values, offset, row->index, &row->log_rest};

    assert_int_equal(kd_encoder_init(encoder, of, &rows), KD_OK);
    return kd_encode_row(encoder, &rows, 0, to);
}

static void sparse_rows_keep_their_rest(void **state)
{
    const struct kd_identity of = identity_of(
        1000, (struct kd_codec){.encoding = KD_TOP_K, .dtype = KD_F32, .k = 2});
    const float p[4] = {0.01F, 0.3F, 0.02F, 0.05F};
    struct sparse row = {.index = {900, 7, 3, 555}, .count = 4};
    struct kd_encoder encoder;
    struct kd_encoded encoded;
    uint16_t index[2];
    float logits[2];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        row.values[i] = logf(p[i]);
    row.log_rest = logf(0.62F);
    assert_int_equal(encode_sparse(&encoder, &of, &row, &encoded), KD_OK);
    assert_int_equal(encoded.size, 2);
    kd_encoded_index(&encoded, KD_U16, index);
    kd_encoded_logits(&encoded, KD_F32, logits);
    assert_true(index[0] == 7 && index[1] == 555);
    assert_true(logits[0] == 0 && fabsf(logits[1] - logf(0.05F / 0.3F)) < 1e-6F);
    assert_true(fabsf(encoded.row_max - logf(0.3F)) < 1e-6F);
    assert_true(fabsf(encoded.log_z + logf(0.3F)) < 1e-6F);
    assert_true(fabsf(encoded.log_tail - logf(0.65F)) < 1e-6F);
    kd_encoder_clear(&encoder);

    row.log_rest = -INFINITY;
    assert_int_equal(encode_sparse(&encoder, &of, &row, &encoded), KD_OK);
    assert_true(fabsf(encoded.log_tail - logf(0.03F / 0.38F)) < 1e-6F);
    kd_encoder_clear(&encoder);
}

static void a_sparse_row_with_all_classes_is_a_dense_one(void **state)
{
    struct kd_random r = kd_random_at(8, KD_RANDOM_TEST, 0, 0);
    const struct kd_codec codecs[] = {
        {.encoding = KD_TOP_K, .dtype = KD_F16, .k = 7},
        {.encoding = KD_TOP_P, .dtype = KD_F16, .k = 40, .mass = 0.8}};

    (void)state;
    for (size_t i = 0; i < 200; i++) {
        const struct kd_identity of = identity_of(60, codecs[i % 2]);
        struct sparse row = {.count = 60, .log_rest = -INFINITY};
        struct kd_encoder encoder, other;
        struct kd_encoded encoded, due;
        float dense[60], x[60], y[60];
        uint32_t a[60], b[60];

        draw_row(&r, 60, dense);
        kd_random_permutation(8, i, row.index, 60);
        for (size_t j = 0; j < 60; j++) {
            dense[j] = j % 5 == 0 ? 100 : dense[j]; /* ties */
            row.index[j] = i % 3 == 0 ? (uint32_t)j : row.index[j];
        }
        for (size_t j = 0; j < 60; j++)
            row.values[j] = dense[row.index[j]];
        encode_row(&other, &of, dense, 9, &due);
        assert_int_equal(encode_sparse(&encoder, &of, &row, &encoded), KD_OK);
        assert_int_equal(encoded.size, due.size);
        kd_encoded_index(&encoded, KD_U32, a);
        kd_encoded_index(&due, KD_U32, b);
        kd_encoded_logits(&encoded, KD_F32, x);
        kd_encoded_logits(&due, KD_F32, y);
        assert_memory_equal(a, b, due.size * sizeof *a);
        assert_memory_equal(x, y, due.size * sizeof *x);
        assert_true(encoded.log_z == due.log_z && encoded.log_tail == due.log_tail &&
                    encoded.row_max == due.row_max);
        kd_encoder_clear(&encoder);
        kd_encoder_clear(&other);
    }
}

/* The classes that are named may all be tiny beside the rest. */
static void a_heavy_rest_does_not_overflow(void **state)
{
    const struct kd_identity of = identity_of(
        1000, (struct kd_codec){.encoding = KD_TOP_K, .dtype = KD_F32, .k = 1});
    const struct sparse row = {
        .values = {-1e6F, -2000}, .index = {1, 2}, .count = 2, .log_rest = 0};
    struct kd_encoder encoder;
    struct kd_encoded encoded;

    (void)state;
    assert_int_equal(encode_sparse(&encoder, &of, &row, &encoded), KD_OK);
    assert_true(encoded.row_max == -2000 && encoded.log_z == 2000);
    assert_true(encoded.log_tail == 0);
    kd_encoder_clear(&encoder);
}

static void bad_sparse_rows_are_refused(void **state)
{
    static const struct {
        struct sparse row;
        const char *words;
    } cases[] = {
        {{{-1, -2, -3}, {1, 2, 1}, 3, -5}, "class 1 is there twice"},
        {{{-1, -2, -3}, {1, 2, 10}, 3, -5}, "class 10 of 10"},
        {{{-1}, {1}, 1, -5}, "1 classes, where 2 are to be kept"},
        {{{0}, {0}, 0, -5}, "0 classes, where 2 are to be kept"},
        {{{-1, NAN, -3}, {1, 4, 5}, 3, -5}, "the logit of class 4 is nan"},
        {{{-1, -2, -INFINITY}, {1, 4, 5}, 3, -5}, "the logit of class 5 is -inf"},
        {{{-1, -2, -3}, {1, 4, 5}, 3, NAN}, "all other classes is nan"},
        {{{-1, -2, -3}, {1, 4, 5}, 3, INFINITY}, "all other classes is inf"},
    };
    const struct kd_identity of = identity_of(
        10, (struct kd_codec){.encoding = KD_TOP_K, .dtype = KD_F16, .k = 2});

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kd_encoder encoder;
        struct kd_encoded encoded;

        assert_int_equal(encode_sparse(&encoder, &of, &cases[i].row, &encoded),
                         KD_EDATA);
        assert_says("sample 9, view 0");
        assert_says(cases[i].words);
        kd_encoder_clear(&encoder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_rows_are_whole),
        cmocka_unit_test(values_stay_finite_in_every_type),
        cmocka_unit_test(top_k_keeps_the_most_probable),
        cmocka_unit_test(of_equal_logits_the_lower_class_goes_first),
        cmocka_unit_test(the_tail_of_a_confident_row_is_exact),
        cmocka_unit_test(nothing_left_is_minus_infinity),
        cmocka_unit_test(top_p_keeps_as_few_as_carry_the_mass),
        cmocka_unit_test(top_p_of_equal_classes_is_their_share),
        cmocka_unit_test(sampled_rows_say_what_they_drew),
        cmocka_unit_test(sampling_is_unbiased),
        cmocka_unit_test(draws_are_a_function_of_seed_id_and_view),
        cmocka_unit_test(rows_do_not_depend_on_those_before),
        cmocka_unit_test(impossible_classes_are_not_drawn),
        cmocka_unit_test(sparse_rows_keep_their_rest),
        cmocka_unit_test(a_sparse_row_with_all_classes_is_a_dense_one),
        cmocka_unit_test(a_heavy_rest_does_not_overflow),
        cmocka_unit_test(bad_sparse_rows_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
