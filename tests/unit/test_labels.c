/* SPDX-License-Identifier: MIT */
/* Label sources: a cache's rows as a student takes them, and the caches refused. */
#include "cache_fixture.h"

#include "kd/h5.h"
#include "kd/labels.h"
#include "kd/thread.h"

#include <math.h>

/* Waiting for the disk is for power cuts, which are not tested here. */
int fsync(int fd)
{
    (void)fd;
    return 0;
}

#define CLASSES 10
#define SAMPLES 60

/* A dataset as far as labels look at it: fixture_identity's own. */
static struct kd_dataset_facts facts_of(uint64_t first, uint64_t end)
{
    struct kd_dataset_facts facts = {.name = "npy:x.npy",
                                     .type = KD_U8,
                                     .total = SAMPLES,
                                     .first = first,
                                     .end = end,
                                     .num_classes = CLASSES};

    fixture_digest(&facts.class_map_digest, 1);
    fixture_digest(&facts.digest, 2);
    return facts;
}

static const uint64_t some_ids[6] = {59, 0, 31, 30, 7, 0};

/* softmax(z/T) and z/T of a row of teacher 1. */
static void expected_row(uint64_t id, uint32_t view, double p[CLASSES],
                         double scaled[CLASSES])
{
    float row[CLASSES];
    double sum = 0;

    fixture_row(1, id, view, CLASSES, row);
    for (size_t c = 0; c < CLASSES; c++) {
        scaled[c] = (double)row[c];
        sum += p[c] = exp(scaled[c]);
    }
    for (size_t c = 0; c < CLASSES; c++)
        p[c] /= sum;
}

static struct kd_labels *open_labels(const char *where,
                                     const struct kd_labels_want *want)
{
    struct kd_labels *labels = NULL;
    enum kd_status status = kd_labels_open(where, want, &labels);

    if (status != KD_OK)
        fail_msg("%s", kd_error());
    return labels;
}

static enum kd_status read_labels(const struct kd_labels *labels, const uint64_t *ids,
                                  const uint32_t *views, size_t count, float *soft)
{
    const struct kd_labels_rows rows = {
        .count = count, .id = ids, .view = views, .scale = 1};

    return kd_labels_read(labels, &rows, &(struct kd_soft){.p = soft});
}

static void check_probabilities(enum kd_type dtype, double error)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 4};
    const struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 2, dtype);
    const char *where = fixture_path(dtype == KD_F16 ? "p16" : "p32");
    const uint32_t views[6] = {1, 0, 1, 0, 0, 1};
    float soft[6 * CLASSES];

    fixture_cache(where, &of, 1, 25);
    struct kd_labels *labels = open_labels(where, &want);
    assert_int_equal(kd_labels_identity(labels)->num_classes, CLASSES);
    assert_int_equal(read_labels(labels, some_ids, views, 6, soft), KD_OK);
    for (size_t i = 0; i < 6; i++) {
        double p[CLASSES], scaled[CLASSES], sum = 0;
        expected_row(some_ids[i], views[i], p, scaled);
        for (size_t c = 0; c < CLASSES; c++) {
            assert_true(fabs((double)soft[i * CLASSES + c] - p[c]) < error);
            sum += (double)soft[i * CLASSES + c];
        }
        assert_true(fabs(sum - 1) < 2 * error);
    }
    kd_labels_close(labels);
}

static void soft_labels_are_the_softmax_of_the_cached_rows(void **state)
{
    (void)state;
    check_probabilities(KD_F32, 1e-6);
    check_probabilities(KD_F16, 3e-4); /* |x| exp(x) / 2^11 at most, and rounding */
}

/* Far more rows than one thread takes: each goes to its own place. */
static void a_batch_of_many_rows_is_read_on_all_threads(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 4};
    const struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F32);
    static uint64_t ids[600];
    static uint32_t views[600];
    static float soft[600 * CLASSES];

    (void)state;
    kd_threads_set(3);
    fixture_cache(fixture_path("many"), &of, 1, 100);
    struct kd_labels *labels = open_labels(fixture_path("many"), &want);
    for (size_t i = 0; i < 600; i++)
        ids[i] = i * 37 % SAMPLES;
    assert_int_equal(read_labels(labels, ids, views, 600, soft), KD_OK);
    for (size_t i = 0; i < 600; i++) {
        double p[CLASSES], scaled[CLASSES];
        expected_row(ids[i], 0, p, scaled);
        for (size_t c = 0; c < CLASSES; c++)
            assert_true(fabs((double)soft[i * CLASSES + c] - p[c]) < 1e-6);
    }
    kd_labels_close(labels);
    kd_threads_set(0);
}

static void an_mse_loss_gets_logits_at_temperature_one_from_any_cache(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {
        .data = &facts, .temperature = 1, .logits = true};
    const struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 2, KD_F32);
    const uint32_t views[6] = {1, 0, 1, 0, 0, 1};
    float soft[6 * CLASSES];

    (void)state;
    fixture_cache(fixture_path("logits"), &of, 1, 25);
    struct kd_labels *labels = open_labels(fixture_path("logits"), &want);
    assert_int_equal(read_labels(labels, some_ids, views, 6, soft), KD_OK);
    for (size_t i = 0; i < 6; i++) {
        double p[CLASSES], scaled[CLASSES];
        expected_row(some_ids[i], views[i], p, scaled);
        for (size_t c = 0; c < CLASSES; c++)
            assert_true(fabs((double)soft[i * CLASSES + c] - 4 * scaled[c]) < 2e-5);
    }
    kd_labels_close(labels);
}

static void the_views_of_a_cache_are_taken_in_turn(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 4};
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 3, KD_F16);
    const uint32_t turn[7] = {5, 6, 7, 5, 6, 7, 5};

    (void)state;
    of.first_view = 5;
    fixture_cache(fixture_path("turn"), &of, 1, 100);
    struct kd_labels *labels = open_labels(fixture_path("turn"), &want);
    for (uint64_t epoch = 1; epoch <= 7; epoch++)
        assert_int_equal(kd_labels_view(labels, epoch), turn[epoch - 1]);
    assert_int_equal(kd_labels_view(labels, 3000000003), 7);
    kd_labels_close(labels);
}

static void the_clean_view_stands_for_every_view_where_it_is_asked_for(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 2, KD_F32);
    const uint32_t views[6] = {1, 0, 4000000000, 9, 1, 2}, clean[6] = {0};
    float soft[6 * CLASSES], again[6 * CLASSES];

    (void)state;
    fixture_cache(fixture_path("clean"), &of, 1, 25);
    for (unsigned logits = 0; logits < 2; logits++) {
        struct kd_labels_want want = {.data = &facts,
                                      .temperature = 4,
                                      .logits = logits == 1,
                                      .clean_view = true};
        struct kd_labels *labels = open_labels(fixture_path("clean"), &want);
        assert_int_equal(read_labels(labels, some_ids, views, 6, soft), KD_OK);
        kd_labels_close(labels);
        want.clean_view = false;
        labels = open_labels(fixture_path("clean"), &want);
        assert_int_equal(read_labels(labels, some_ids, clean, 6, again), KD_OK);
        assert_memory_equal(soft, again, sizeof soft);
        kd_labels_close(labels);
    }
}

static void a_view_that_was_not_cached_is_named(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 4};
    const struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 2, KD_F16);
    const uint64_t id = 12;
    const uint32_t view = 2;
    float soft[CLASSES];

    (void)state;
    fixture_cache(fixture_path("unseen"), &of, 1, 100);
    struct kd_labels *labels = open_labels(fixture_path("unseen"), &want);
    assert_int_equal(read_labels(labels, &id, &view, 1, soft), KD_EDATA);
    assert_says("sample 12, view 2");
    kd_labels_close(labels);
}

/* -- sparse caches ------------------------------------------------------------ */

static const struct kd_codec top3 = {.encoding = KD_TOP_K, .dtype = KD_F32, .k = 3};

/* Whether a class is among the three most probable. */
static bool is_top(const double p[CLASSES], size_t class)
{
    size_t above = 0;

    for (size_t c = 0; c < CLASSES; c++)
        above += p[c] > p[class];
    return above < 3;
}

static void tails_are_spread_or_scaled_away_or_in_buckets(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F32);
    const uint32_t views[6] = {0};

    (void)state;
    of.codec = top3;
    fixture_cache(fixture_path("sparse"), &of, 1, 25);
    for (int tail = KD_TAIL_SPREAD; tail <= KD_TAIL_BUCKET; tail++) {
        const struct kd_labels_want want = {
            .data = &facts, .temperature = 4, .tail = (enum kd_tail)tail};
        float soft[6 * CLASSES], masses[6] = {0};
        const struct kd_soft to = {.p = soft, .tail = masses};
        struct kd_labels *labels = open_labels(fixture_path("sparse"), &want);
        assert_int_equal(kd_labels_have_tails(labels), tail == KD_TAIL_BUCKET);
        const struct kd_labels_rows rows = {
            .count = 6, .id = some_ids, .view = views, .scale = 1};
        assert_int_equal(kd_labels_read(labels, &rows, &to), KD_OK);
        for (size_t i = 0; i < 6; i++) {
            double p[CLASSES], scaled[CLASSES], rest = 0;
            expected_row(some_ids[i], 0, p, scaled);
            for (size_t c = 0; c < CLASSES; c++)
                rest += is_top(p, c) ? 0 : p[c];
            for (size_t c = 0; c < CLASSES; c++) {
                const double other = tail == KD_TAIL_SPREAD   ? rest / (CLASSES - 3)
                                     : tail == KD_TAIL_RENORM ? 0
                                                              : -1;
                const double own = tail == KD_TAIL_RENORM ? p[c] / (1 - rest) : p[c];
                assert_true(fabs((double)soft[i * CLASSES + c] -
                                 (is_top(p, c) ? own : other)) < 1e-6);
            }
            assert_true(fabs((double)masses[i] - (tail == KD_TAIL_BUCKET ? rest : 0)) <
                        1e-6);
        }
        kd_labels_close(labels);
    }
}

/* -- missing and damaged rows --------------------------------------------------- */

static void missing_rows_are_told_where_they_may_be(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    struct kd_identity of = fixture_identity(CLASSES, 20, 1, KD_F32);
    const uint64_t ids[4] = {19, 20, 39, 40};
    const uint32_t views[4] = {0};

    (void)state;
    of.first_id = 20;
    fixture_cache(fixture_path("hole"), &of, 1, 100);
    for (unsigned i = 0; i < 4; i++) {
        const struct kd_labels_want want = {.data = &facts,
                                            .temperature = 4,
                                            .logits = i % 2 == 1,
                                            .missing = i < 2 ? KD_MISSING_SKIP
                                                             : KD_MISSING_HARD_LABEL};
        float soft[4 * CLASSES];
        bool found[4] = {true, false, false, true};
        const struct kd_soft to = {.p = soft, .found = found};
        struct kd_labels *labels = open_labels(fixture_path("hole"), &want);
        const struct kd_labels_rows rows = {
            .count = 4, .id = ids, .view = views, .scale = 1};
        assert_int_equal(kd_labels_read(labels, &rows, &to), KD_OK);
        assert_true(!found[0] && found[1] && found[2] && !found[3]);
        kd_labels_close(labels);
    }
}

static void damage_is_noticed_unless_nobody_looks(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    struct kd_labels_want want = {.data = &facts, .temperature = 4};
    const struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F32);
    const char *path = fixture_path("damaged.h5");
    const uint32_t views[6] = {0};
    struct kd_h5 *file = NULL;
    struct kd_array_info info;
    float values[SAMPLES * CLASSES], soft[6 * CLASSES];

    (void)state;
    fixture_shard(path, &of, 1, 0, SAMPLES);
    assert_int_equal(kd_h5_open_rw(path, &file), KD_OK);
    assert_int_equal(kd_h5_info(file, "logits", &info), KD_OK);
    assert_int_equal(kd_h5_read(file, "logits", &info, values), KD_OK);
    values[31 * CLASSES + 4] -= 0.5F;
    assert_int_equal(
        kd_h5_write(file, "logits", KD_F32, info.rank, info.shape, values, NULL),
        KD_OK);
    assert_int_equal(kd_h5_finish(file), KD_OK);
    struct kd_labels *labels = open_labels(path, &want);
    assert_int_equal(read_labels(labels, some_ids, views, 6, soft), KD_EDATA);
    assert_says("damaged.h5");
    kd_labels_close(labels);
    want.unverified = true;
    labels = open_labels(path, &want);
    assert_int_equal(read_labels(labels, some_ids, views, 6, soft), KD_OK);
    kd_labels_close(labels);
}

/* -- refusals --------------------------------------------------------------- */

/* Of a cache `of` for a student that wants `want`; the message names the cache. */
static void assert_refused(const char *name, const struct kd_identity *of,
                           const struct kd_labels_want *want, const char *words)
{
    struct kd_labels *labels = NULL;

    fixture_cache(fixture_path(name), of, 1, 100);
    assert_int_equal(kd_labels_open(fixture_path(name), want, &labels), KD_EDATA);
    assert_null(labels);
    assert_says(fixture_path(name));
    assert_says(words);
}

static void a_cache_of_another_dataset_is_refused(void **state)
{
    struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 4};
    const struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F16);

    (void)state;
    fixture_digest(&facts.digest, 99);
    assert_refused("dataset", &of, &want, "dumped over another dataset");
    assert_says("npy:x.npy");
}

static void a_cache_of_other_classes_is_refused(void **state)
{
    struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 4};
    static const char *const names[CLASSES] = {"zero", "one"};
    const struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F16);

    (void)state;
    fixture_digest(&facts.class_map_digest, 99);
    facts.class_names = names;
    assert_refused("order", &of, &want, "not in the same order");
    facts.num_classes = 11;
    assert_refused("number", &of, &want, "has 10 classes, npy:x.npy has 11");
}

/* A slice of the data, or a small set, may lack samples of the last classes. */
static void numbered_data_may_have_fewer_classes_than_the_cache(void **state)
{
    struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 4};
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F16);

    (void)state;
    facts.num_classes = CLASSES - 2;
    assert_int_equal(kd_class_map_digest(NULL, CLASSES, &of.class_map_digest), KD_OK);
    assert_int_equal(kd_class_map_digest(NULL, CLASSES - 2, &facts.class_map_digest),
                     KD_OK);
    fixture_cache(fixture_path("fewer"), &of, 1, 100);
    kd_labels_close(open_labels(fixture_path("fewer"), &want));
}

/* It says nothing of classes, so there is nothing to differ in. */
static void data_without_labels_takes_the_classes_of_the_cache(void **state)
{
    struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 4};
    const struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F16);

    (void)state;
    facts.num_classes = 0;
    assert_int_equal(kd_class_map_digest(NULL, 0, &facts.class_map_digest), KD_OK);
    fixture_cache(fixture_path("unlabelled"), &of, 1, 100);
    kd_labels_close(open_labels(fixture_path("unlabelled"), &want));
}

/* Logits serve any temperature; log-probabilities of a merge theirs alone. */
static void a_cache_is_refused_at_temperatures_that_it_cannot_serve(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 2.5};
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F16);

    (void)state;
    of.codec = (struct kd_codec){.encoding = KD_TOP_K, .dtype = KD_F16, .k = 3};
    assert_refused("temperature", &of, &want, "2.5");
    assert_says("--also-temperature 2.5");
    assert_says("or train at --temperature 4");
}

static void a_dense_cache_serves_other_temperatures(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 2};
    const struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F32);
    const uint32_t views[6] = {0};
    float soft[6 * CLASSES];

    (void)state;
    fixture_cache(fixture_path("tempered"), &of, 1, 25);
    struct kd_labels *labels = open_labels(fixture_path("tempered"), &want);
    assert_int_equal(read_labels(labels, some_ids, views, 6, soft), KD_OK);
    for (size_t i = 0; i < 6; i++) {
        double p[CLASSES], scaled[CLASSES], sum = 0;
        expected_row(some_ids[i], 0, p, scaled);
        for (size_t c = 0; c < CLASSES; c++)
            sum += exp(scaled[c] * 4 / 2);
        for (size_t c = 0; c < CLASSES; c++)
            assert_true(fabs((double)soft[i * CLASSES + c] -
                             exp(scaled[c] * 4 / 2) / sum) < 1e-6);
    }
    kd_labels_close(labels);
}

static void a_cache_that_lacks_samples_of_the_slice_is_refused(void **state)
{
    struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 4};
    struct kd_identity of = fixture_identity(CLASSES, 20, 1, KD_F16);

    (void)state;
    of.first_id = 20; /* it has 20 to 39 */
    assert_refused("less", &of, &want, "covers ids 20 to 39, npy:x.npy has 0 to 59");
    facts = facts_of(19, 40);
    assert_refused("low", &of, &want, "npy:x.npy has 19 to 39");
    facts = facts_of(20, 41);
    assert_refused("high", &of, &want, "npy:x.npy has 20 to 40");
    facts = facts_of(20, 40);
    kd_labels_close(open_labels(fixture_path("high"), &want));
    facts = facts_of(25, 26);
    kd_labels_close(open_labels(fixture_path("high"), &want));
}

static void an_mse_loss_refuses_log_probabilities(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {
        .data = &facts, .temperature = 4, .logits = true};
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F16);

    (void)state;
    of.value_kind = KD_VALUE_LOGPROBS;
    assert_refused("logprobs", &of, &want, "holds log-probabilities");
    assert_says("mean-logit");
}

static void an_mse_loss_refuses_sparse_rows(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {
        .data = &facts, .temperature = 4, .logits = true};
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F16);

    (void)state;
    of.codec = top3;
    assert_refused("some", &of, &want, "top-k");
    assert_says("--encoding dense");
}

static void a_cache_without_the_clean_view_is_refused_where_it_is_wanted(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {
        .data = &facts, .temperature = 4, .clean_view = true};
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 2, KD_F16);

    (void)state;
    of.first_view = 1;
    assert_refused("drawn", &of, &want, "no clean view");
}

static void a_cache_with_rows_missing_is_refused(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 4};
    const struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F16);
    struct kd_labels *labels = NULL;

    (void)state;
    fixture_shard(fixture_path("part.h5"), &of, 1, 0, 50);
    assert_int_equal(kd_labels_open(fixture_path("part.h5"), &want, &labels), KD_EDATA);
    assert_says("10 of 60 rows are missing");
    assert_says("--missing hard-label or skip");
    assert_int_equal(kd_labels_open(fixture_path("none"), &want, &labels), KD_ENOINPUT);
    assert_null(labels);
    kd_labels_close(NULL);
}

/* -- logits times a factor ---------------------------------------------------- */

/* softmax(s z / T), z/T being the cached row, and s z for an mse loss. */
static void logits_are_multiplied_by_the_scale(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F32);
    const uint32_t views[6] = {0};
    const double scales[3] = {0.1, 0.7, 1.5};
    float soft[6 * CLASSES];

    (void)state;
    fixture_cache(fixture_path("scaled"), &of, 1, 25);
    for (unsigned i = 0; i < 6; i++) {
        const struct kd_labels_rows rows = {
            .count = 6, .id = some_ids, .view = views, .scale = scales[i / 2]};
        const struct kd_labels_want want = {
            .data = &facts, .temperature = 4, .logits = i % 2 == 1};
        struct kd_labels *labels = open_labels(fixture_path("scaled"), &want);
        assert_int_equal(kd_labels_check_scale(labels, rows.scale), KD_OK);
        assert_int_equal(kd_labels_read(labels, &rows, &(struct kd_soft){.p = soft}),
                         KD_OK);
        for (size_t k = 0; k < 6; k++) {
            double p[CLASSES], scaled[CLASSES], sum = 0;
            expected_row(some_ids[k], 0, p, scaled);
            for (size_t c = 0; c < CLASSES; c++)
                sum += exp(rows.scale * scaled[c]);
            for (size_t c = 0; c < CLASSES; c++) {
                double due = want.logits ? 4 * rows.scale * scaled[c]
                                         : exp(rows.scale * scaled[c]) / sum;
                assert_true(fabs((double)soft[k * CLASSES + c] - due) < 3e-5);
            }
        }
        kd_labels_close(labels);
    }
}

static void a_sparse_cache_is_scaled_to_temperatures_that_it_has(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 4};
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F32);

    (void)state;
    of.codec = (struct kd_codec){.encoding = KD_TOP_K, .dtype = KD_F32, .k = 3};
    fixture_cache(fixture_path("sparse-scaled"), &of, 1, 25);
    struct kd_labels *labels = open_labels(fixture_path("sparse-scaled"), &want);
    assert_int_equal(kd_labels_check_scale(labels, 1), KD_OK);
    assert_int_equal(kd_labels_check_scale(labels, 0.5), KD_EDATA);
    assert_says("logits times 0.5, which is temperature 8");
    kd_labels_close(labels);
}

/* -- virtual teachers ---------------------------------------------------------- */

/* By the definition, in double. */
static void expected_virtual(const struct kd_virtual *t, double temperature,
                             int32_t label, double p[CLASSES])
{
    double sum = 0;

    for (int32_t c = 0; c < CLASSES; c++) {
        double a = c == label ? t->correct : (1 - t->correct) / (CLASSES - 1);
        p[c] = t->soften == KD_SOFTEN_SOFTMAX ? exp(a / temperature)
                                              : pow(a, 1 / temperature);
        sum += p[c];
    }
    for (size_t c = 0; c < CLASSES; c++)
        p[c] /= sum;
}

static const int32_t some_labels[4] = {3, 0, 9, 3};

static void check_virtual(const struct kd_virtual *t, double student, double scale)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = student};
    const struct kd_labels_rows rows = {
        .count = 4, .id = some_ids, .label = some_labels, .scale = scale};
    const double temperature = t->temperature > 0 ? t->temperature : student;
    struct kd_labels *labels = NULL;
    float soft[4 * CLASSES];

    assert_int_equal(kd_labels_open_virtual(t, &want, &labels), KD_OK);
    assert_null(kd_labels_identity(labels));
    assert_int_equal(kd_labels_classes(labels), CLASSES);
    assert_int_equal(kd_labels_view(labels, 7), 7);
    assert_int_equal(kd_labels_check_scale(labels, scale), KD_OK);
    assert_int_equal(kd_labels_read(labels, &rows, &(struct kd_soft){.p = soft}),
                     KD_OK);
    for (size_t i = 0; i < 4; i++) {
        double p[CLASSES];
        expected_virtual(t, temperature / scale, some_labels[i], p);
        for (size_t c = 0; c < CLASSES; c++)
            assert_true(fabs((double)soft[i * CLASSES + c] - p[c]) < 1e-7);
    }
    kd_labels_close(labels);
}

static void a_virtual_teacher_is_a_function_of_the_label(void **state)
{
    struct kd_virtual t = {.correct = 0.99};

    (void)state;
    for (t.soften = KD_SOFTEN_POWER; t.soften <= KD_SOFTEN_SOFTMAX; t.soften++)
        for (t.correct = 0.05; t.correct < 1; t.correct += 0.094) {
            t.temperature = 0;
            check_virtual(&t, 20, 1);
            check_virtual(&t, 1, 0.5);
            check_virtual(&t, 0.01, 1);
            t.temperature = 20;
            check_virtual(&t, 1, 1);
            check_virtual(&t, 4, 2);
        }
}

/* The two readings at 10 classes, 0.99 and 20: of the figure, and of the code. */
static void virtual_teachers_have_the_published_probabilities(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 1};
    const struct kd_labels_rows rows = {
        .count = 1, .id = some_ids, .label = some_labels, .scale = 1};
    const double due[2][2] = {{0.135, 0.096}, {0.1045, 0.0995}};
    float p[CLASSES];

    (void)state;
    for (int soften = 0; soften < 2; soften++) {
        const struct kd_virtual t = {0.99, 20, soften};
        struct kd_labels *labels = NULL;
        assert_int_equal(kd_labels_open_virtual(&t, &want, &labels), KD_OK);
        assert_int_equal(kd_labels_read(labels, &rows, &(struct kd_soft){.p = p}),
                         KD_OK);
        assert_true(fabs((double)p[3] - due[soften][0]) < (soften == 0 ? 5e-4 : 5e-5));
        assert_true(fabs((double)p[0] - due[soften][1]) < (soften == 0 ? 5e-4 : 5e-5));
        kd_labels_close(labels);
    }
}

static void a_mixed_sample_has_the_virtual_labels_of_both(void **state)
{
    const struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    const struct kd_labels_want want = {.data = &facts, .temperature = 2};
    const int32_t partners[4] = {5, 0, -1, 3};
    const float ratios[4] = {0.25F, 0.5F, 1, 0.75F};
    const struct kd_labels_rows rows = {.count = 4,
                                        .id = some_ids,
                                        .label = some_labels,
                                        .partner = partners,
                                        .ratio = ratios,
                                        .scale = 1};
    const struct kd_virtual t = {.correct = 0.9};
    struct kd_labels *labels = NULL;
    float soft[4 * CLASSES];

    (void)state;
    assert_int_equal(kd_labels_open_virtual(&t, &want, &labels), KD_OK);
    assert_int_equal(kd_labels_read(labels, &rows, &(struct kd_soft){.p = soft}),
                     KD_OK);
    for (size_t i = 0; i < 4; i++) {
        double p[CLASSES], q[CLASSES] = {0}, ratio = (double)ratios[i];
        expected_virtual(&t, 2, some_labels[i], p);
        if (ratio < 1)
            expected_virtual(&t, 2, partners[i], q);
        for (size_t c = 0; c < CLASSES; c++)
            assert_true(fabs((double)soft[i * CLASSES + c] -
                             (ratio * p[c] + (1 - ratio) * q[c])) < 1e-7);
    }
    kd_labels_close(labels);
}

static void a_virtual_teacher_needs_labels(void **state)
{
    struct kd_dataset_facts facts = facts_of(0, SAMPLES);
    struct kd_labels_want want = {.data = &facts, .temperature = 2, .logits = true};
    const int32_t gaps[4] = {1, -1, 2, -1}, partners[4] = {-1, -1, 4, 4};
    const float ratios[4] = {0.5F, 1, 0.5F, 0.5F};
    struct kd_labels_rows rows = {.count = 4,
                                  .id = some_ids,
                                  .label = gaps,
                                  .partner = partners,
                                  .ratio = ratios,
                                  .scale = 1};
    const struct kd_virtual t = {.correct = 0.9};
    struct kd_labels *labels = NULL;
    float soft[4 * CLASSES];
    bool found[4] = {true, true, false, true};

    (void)state;
    assert_int_equal(kd_labels_open_virtual(&t, &want, &labels), KD_EDATA);
    assert_says("take distance kl or ce");
    want.logits = false;
    facts.num_classes = 0;
    assert_int_equal(kd_labels_open_virtual(&t, &want, &labels), KD_EDATA);
    assert_says("npy:x.npy: has no labels");
    facts.num_classes = CLASSES;
    assert_int_equal(kd_labels_open_virtual(&t, &want, &labels), KD_OK);
    assert_int_equal(
        kd_labels_read(labels, &rows, &(struct kd_soft){.p = soft, .found = found}),
        KD_OK);
    assert_true(!found[0] && !found[1] && found[2] && !found[3]);
    rows.partner = NULL;
    assert_int_equal(kd_labels_read(labels, &rows, &(struct kd_soft){.p = soft}),
                     KD_EDATA);
    assert_says("sample 0 has no label");
    kd_labels_close(labels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(soft_labels_are_the_softmax_of_the_cached_rows),
        cmocka_unit_test(a_batch_of_many_rows_is_read_on_all_threads),
        cmocka_unit_test(an_mse_loss_gets_logits_at_temperature_one_from_any_cache),
        cmocka_unit_test(the_views_of_a_cache_are_taken_in_turn),
        cmocka_unit_test(the_clean_view_stands_for_every_view_where_it_is_asked_for),
        cmocka_unit_test(a_view_that_was_not_cached_is_named),
        cmocka_unit_test(a_cache_of_another_dataset_is_refused),
        cmocka_unit_test(a_cache_of_other_classes_is_refused),
        cmocka_unit_test(numbered_data_may_have_fewer_classes_than_the_cache),
        cmocka_unit_test(data_without_labels_takes_the_classes_of_the_cache),
        cmocka_unit_test(a_cache_is_refused_at_temperatures_that_it_cannot_serve),
        cmocka_unit_test(a_dense_cache_serves_other_temperatures),
        cmocka_unit_test(tails_are_spread_or_scaled_away_or_in_buckets),
        cmocka_unit_test(an_mse_loss_refuses_sparse_rows),
        cmocka_unit_test(missing_rows_are_told_where_they_may_be),
        cmocka_unit_test(damage_is_noticed_unless_nobody_looks),
        cmocka_unit_test(a_cache_that_lacks_samples_of_the_slice_is_refused),
        cmocka_unit_test(an_mse_loss_refuses_log_probabilities),
        cmocka_unit_test(a_cache_without_the_clean_view_is_refused_where_it_is_wanted),
        cmocka_unit_test(a_cache_with_rows_missing_is_refused),
        cmocka_unit_test(logits_are_multiplied_by_the_scale),
        cmocka_unit_test(a_sparse_cache_is_scaled_to_temperatures_that_it_has),
        cmocka_unit_test(a_virtual_teacher_is_a_function_of_the_label),
        cmocka_unit_test(virtual_teachers_have_the_published_probabilities),
        cmocka_unit_test(a_mixed_sample_has_the_virtual_labels_of_both),
        cmocka_unit_test(a_virtual_teacher_needs_labels),
    };

    return cmocka_run_group_tests_name("labels", tests, fixture_open, fixture_close);
}
