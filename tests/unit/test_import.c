/* SPDX-License-Identifier: MIT */
/* Imports: rows of every container against the formulas in double, and all that is
 * refused by name. */
#include "teach_fixture.h"

#include "kd/h5.h"
#include "kd/half.h"
#include "kd/import.h"
#include "kd/safetensors.h"
#include "kd/thread.h"
#include "teach/import_internal.h"

#include <math.h>

#define SAMPLES 20
#define C       FIXTURE_CLASSES

static struct kd_dataset *data;
static char dataset_name[16384 + 16];

static int open_all(void **state)
{
    if (fixture_open(state) != 0)
        return -1;
    snprintf(dataset_name, sizeof dataset_name, "%s", fixture_images("a", SAMPLES, 1));
    return kd_dataset_open(dataset_name, &data) == KD_OK ? 0 : -1;
}

static int close_all(void **state)
{
    kd_dataset_close(data);
    return fixture_close(state);
}

/* Logit c of sample `id` in view v: what all the files below hold. */
static double logit(uint64_t id, uint32_t view, size_t c)
{
    struct kd_random r = kd_random_at(7, KD_RANDOM_TEST, id, view);
    double value = 0;

    for (size_t i = 0; i <= c; i++)
        value = kd_random_between(&r, -4, 6);
    return (double)(float)value;
}

static double log_softmax(uint64_t id, uint32_t view, size_t c, double t)
{
    double sum = 0;

    for (size_t i = 0; i < C; i++)
        sum += exp(logit(id, view, i) / t);
    return logit(id, view, c) / t - log(sum);
}

static struct kd_import_options plain(const char *from, enum kd_container container)
{
    return (struct kd_import_options){.from = fixture_path(from),
                                      .container = container,
                                      .values = KD_LOGITS,
                                      .temperature = 4,
                                      .codec = {.encoding = -1, .dtype = 2}, /* f32 */
                                      .samples_a_shard = 8};
}

static void assert_imports(const struct kd_import_options *options, const char *to)
{
    const enum kd_status status = kd_import_run(data, fixture_path(to), options);

    if (status != KD_OK)
        fail_msg("%d: %s", (int)status, kd_error());
}

static void assert_refused(const struct kd_import_options *options, enum kd_status why,
                           const char *says)
{
    fixture_remove(fixture_path("refused"));
    assert_int_equal(kd_import_run(data, fixture_path("refused"), options), why);
    assert_says(says);
    assert_int_not_equal(access(fixture_path("refused/cache.json"), F_OK), 0);
}

static struct kd_cache *open_cache(const char *name)
{
    struct kd_cache *cache = NULL;
    const enum kd_status status = kd_cache_open(fixture_path(name), &cache);

    if (status != KD_OK)
        fail_msg("%d: %s", (int)status, kd_error());
    assert_int_equal(kd_cache_whole(cache), KD_OK);
    return cache;
}

/* That a dense cache has the distribution softmax(z/4) in every row, and with `level`
 * the logits themselves. */
static void assert_rows(const char *name, bool level, double tolerance)
{
    struct kd_cache *cache = open_cache(name);
    const struct kd_identity *of = kd_cache_identity(cache);
    const struct kd_shard *shard = NULL;
    float values[C];
    uint64_t at = 0;

    for (uint64_t id = of->first_id; id < of->first_id + of->num_samples; id++) {
        for (uint32_t view = of->first_view; view < of->first_view + of->views;
             view++) {
            assert_true(kd_cache_find(cache, id, view, &shard, &at));
            assert_int_equal(kd_shard_label(shard, at), fixture_label(id, C));
            assert_int_equal(kd_shard_read(shard, at, 1, values), KD_OK);
            for (size_t c = 0; c < C; c++) {
                const double log_p =
                    (double)values[c] - (double)kd_shard_log_z(shard, at);
                const double z =
                    4 * ((double)values[c] + (double)kd_shard_row_max(shard, at));
                assert_true(fabs(log_p - log_softmax(id, view, c, 4)) < tolerance);
                assert_true(!level || fabs(z - logit(id, view, c)) < tolerance);
            }
        }
    }
    kd_cache_close(cache);
}

/* -- arrays ----------------------------------------------------------------- */

/* Values of rows in the order of `ids` (NULL: of ids), `views` of each from view
 * `first` on; of the type. On the heap. */
static void *values_of(enum kd_values kind, enum kd_type type, const int64_t *ids,
                       size_t rows, uint32_t first, uint32_t views)
{
    const size_t count = rows * views * C;
    double *exact = calloc(count, sizeof *exact);
    float *singles = calloc(count, sizeof *singles);
    uint16_t *halves = calloc(count, sizeof *halves);

    for (size_t i = 0; i < count; i++) {
        const uint64_t id = ids != NULL ? (uint64_t)ids[i / C / views] : i / C / views;
        const uint32_t view = first + (uint32_t)(i / C % views);

        exact[i] = kind == KD_LOGITS ? logit(id, view, i % C)
                                     : log_softmax(id, view, i % C, 4);
        if (kind == KD_PROBS)
            exact[i] = exp(exact[i]);
        singles[i] = (float)exact[i];
    }
    if (type == KD_F16)
        kd_half_from_float(singles, halves, count);
    else if (type == KD_BF16)
        kd_bf16_from_float(singles, halves, count);
    if (type != KD_F64)
        free(exact);
    if (type != KD_F32)
        free(singles);
    if (type == KD_F64 || type == KD_F32)
        free(halves);
    if (type == KD_F64)
        return exact;
    return type == KD_F32 ? (void *)singles : halves;
}

static void write_values(const char *name, enum kd_values kind, enum kd_type type,
                         const int64_t *ids, size_t rows)
{
    void *values = values_of(kind, type, ids, rows, 0, 1);

    assert_int_equal(
        kd_npy_write(fixture_path(name), type, 2, (const uint64_t[]){rows, C}, values),
        KD_OK);
    free(values);
}

static void logits_of_every_type_become_rows(void **state)
{
    static const struct {
        enum kd_type type;
        double tolerance;
    } cases[] = {{KD_F32, 2e-6}, {KD_F64, 2e-6}, {KD_F16, 4e-3}};
    struct kd_import_options options = plain("z.npy", KD_NPY);
    char to[32];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        write_values("z.npy", KD_LOGITS, cases[i].type, NULL, SAMPLES);
        snprintf(to, sizeof to, "types-%zu", i);
        assert_imports(&options, to);
        assert_rows(to, true, cases[i].tolerance);
    }
}

static void probabilities_and_their_logarithms_become_rows(void **state)
{
    static const struct {
        enum kd_values values;
        enum kd_type type;
        double tolerance;
    } cases[] = {{KD_PROBS, KD_F32, 2e-6},
                 {KD_PROBS, KD_F16, 2e-3},
                 {KD_LOGPROBS, KD_F64, 2e-6},
                 {KD_LOGPROBS, KD_F16, 4e-3}};
    struct kd_cache *cache = NULL;
    char to[32];

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct kd_import_options options = plain("p.npy", KD_NPY);

        options.values = cases[i].values;
        write_values("p.npy", cases[i].values, cases[i].type, NULL, SAMPLES);
        snprintf(to, sizeof to, "kinds-%zu", i);
        assert_imports(&options, to);
        assert_rows(to, false, cases[i].tolerance);
        cache = open_cache(to);
        assert_int_equal(kd_cache_identity(cache)->value_kind, KD_VALUE_LOGPROBS);
        /* Log-probabilities of sum 1: the maximum and the normaliser cancel. */
        assert_true(fabsf(kd_shard_row_max(kd_cache_shard(cache, 0), 0) +
                          kd_shard_log_z(kd_cache_shard(cache, 0), 0)) < 1e-5F);
        kd_cache_close(cache);
    }
}

static void an_import_says_what_it_is_of(void **state)
{
    struct kd_import_options options = plain("who.npy", KD_NPY);
    const struct kd_identity *of = NULL;
    struct kd_cache *cache = NULL;

    (void)state;
    write_values("who.npy", KD_LOGITS, KD_F32, NULL, SAMPLES);
    assert_imports(&options, "who");
    cache = open_cache("who");
    of = kd_cache_identity(cache);
    assert_int_equal(of->kind, KD_KIND_TEACHER);
    assert_int_equal(of->value_kind, KD_VALUE_LOGITS);
    assert_string_equal(of->teacher_name, "who.npy");
    assert_string_equal(of->augment, "none");
    assert_true(kd_digest_equal(&of->dataset_digest, &kd_dataset_facts(data)->digest));
    assert_true(of->temperature == 4 && of->views == 1 && of->first_view == 0);
    kd_cache_close(cache);
    options.name = "resnet \xc3\xa9";
    assert_imports(&options, "who-named");
    cache = open_cache("who-named");
    assert_string_equal(kd_cache_identity(cache)->teacher_name, "resnet ??");
    kd_cache_close(cache);
}

static void ids_may_come_in_any_order(void **state)
{
    struct kd_import_options options = plain("mixed.npy", KD_NPY);
    int64_t ids[SAMPLES];
    int32_t narrow[SAMPLES];

    (void)state;
    for (int i = 0; i < SAMPLES; i++)
        narrow[i] = (int32_t)(ids[i] = (i * 7 + 3) % SAMPLES);
    write_values("mixed.npy", KD_LOGITS, KD_F32, ids, SAMPLES);
    assert_int_equal(kd_npy_write(fixture_path("ids.npy"), KD_I64, 1,
                                  (const uint64_t[]){SAMPLES}, ids),
                     KD_OK);
    options.ids = fixture_path("ids.npy");
    assert_imports(&options, "mixed");
    assert_rows("mixed", true, 2e-6);
    assert_int_equal(kd_npy_write(fixture_path("ids.npy"), KD_I32, 1,
                                  (const uint64_t[]){SAMPLES}, narrow),
                     KD_OK);
    assert_imports(&options, "mixed-narrow");
    assert_rows("mixed-narrow", true, 2e-6);
}

/* Rows of the slice alone, or of the whole dataset: both can stand for a slice. */
static void a_slice_takes_its_rows(void **state)
{
    struct kd_import_options options = plain("slice.npy", KD_NPY);
    struct kd_dataset *whole = data;
    int64_t ids[6] = {9, 10, 11, 12, 13, 14};
    char name[16384 + 32];

    (void)state;
    snprintf(name, sizeof name, "%s@9:15", dataset_name);
    assert_int_equal(kd_dataset_open(name, &data), KD_OK);
    write_values("slice.npy", KD_LOGITS, KD_F32, ids, 6);
    assert_imports(&options, "slice");
    assert_rows("slice", true, 2e-6);
    write_values("slice.npy", KD_LOGITS, KD_F32, NULL, SAMPLES);
    assert_imports(&options, "slice-of-all");
    assert_rows("slice-of-all", true, 2e-6);
    kd_dataset_close(data);
    data = whole;
}

static void views_are_a_dimension(void **state)
{
    struct kd_import_options options = plain("views.npy", KD_NPY);
    const struct kd_identity *of = NULL;
    struct kd_cache *cache = NULL;
    void *values = values_of(KD_LOGITS, KD_F32, NULL, SAMPLES, 1, 3);

    (void)state;
    assert_int_equal(kd_npy_write(fixture_path("views.npy"), KD_F32, 3,
                                  (const uint64_t[]){SAMPLES, 3, C}, values),
                     KD_OK);
    free(values);
    assert_imports(&options, "views");
    assert_rows("views", true, 2e-6);
    cache = open_cache("views");
    of = kd_cache_identity(cache);
    assert_true(of->first_view == 1 && of->views == 3);
    assert_string_equal(of->augment, KD_AUGMENT_FOREIGN);
    kd_cache_close(cache);

    options.augment = "flip,crop2";
    options.seed = 5;
    assert_imports(&options, "views-drawn");
    cache = open_cache("views-drawn");
    of = kd_cache_identity(cache);
    assert_true(of->first_view == 1 && of->seed == 5);
    assert_string_equal(of->augment, "crop2,flip");
    kd_cache_close(cache);
    options.clean = true;
    assert_imports(&options, "views-clean");
    cache = open_cache("views-clean");
    assert_int_equal(kd_cache_identity(cache)->first_view, 0);
    kd_cache_close(cache);

    options.augment = "none";
    assert_refused(&options, KD_EUSAGE, "has 3 views of a sample, which would all");
    options.augment = "sideways";
    assert_refused(&options, KD_EUSAGE, "--augment: ");
}

/* -- what values must be ---------------------------------------------------- */

/* One row of two thirds and shares, with one value replaced. */
static enum kd_status convert(enum kd_values kind, enum kd_type type, double first,
                              double second, float out[3])
{
    const struct kd_import_rule rule = {kind, 2, type};
    double values[3] = {first, second, kind == KD_PROBS ? 0.25 : log(0.25)};

    return kd_import_convert(&rule, values, NULL, 3, out, NULL);
}

static void values_that_cannot_be_are_refused(void **state)
{
    float out[3];

    (void)state;
    assert_int_equal(convert(KD_LOGITS, KD_F32, NAN, 1, out), KD_EDATA);
    assert_says("the value of class 0 is nan");
    assert_int_equal(convert(KD_LOGITS, KD_F64, 1, 1e300, out), KD_EDATA);
    assert_says("the value of class 1 is 1e+300");
    assert_int_equal(convert(KD_PROBS, KD_F32, 0.75, -0.001, out), KD_EDATA);
    assert_says("the value of class 1 is -0.001: must be a probability");
    assert_int_equal(convert(KD_PROBS, KD_F32, NAN, 0.5, out), KD_EDATA);
    assert_int_equal(convert(KD_PROBS, KD_F32, INFINITY, 0.5, out), KD_EDATA);
    assert_int_equal(convert(KD_PROBS, KD_F32, 0.25, 0.5021, out), KD_EDATA);
    assert_says("have the sum 1.0021, not 1");
    assert_int_equal(convert(KD_PROBS, KD_F32, 0.25, 0.4979, out), KD_EDATA);
    assert_int_equal(convert(KD_LOGPROBS, KD_F32, 2, 0, out), KD_EDATA);
    assert_says("must be a log-probability, at most 0");
    assert_int_equal(convert(KD_LOGPROBS, KD_F32, NAN, 0, out), KD_EDATA);
    assert_int_equal(convert(KD_LOGPROBS, KD_F32, INFINITY, 0, out), KD_EDATA);
    assert_int_equal(convert(KD_LOGPROBS, KD_F32, log(0.5), log(0.3), out), KD_EDATA);
}

static void small_faults_of_rounding_are_made_good(void **state)
{
    float out[3];

    (void)state;
    assert_int_equal(convert(KD_PROBS, KD_F32, 0.25, 0.5009, out), KD_OK);
    assert_true(fabs(exp((double)out[0]) - 0.25 / 1.0009) < 1e-7);
    /* Half precision's own rounding comes on top: 2^-11 of the sum. */
    assert_int_equal(convert(KD_PROBS, KD_F16, 0.25, 0.50145, out), KD_OK);
    assert_int_equal(convert(KD_PROBS, KD_F32, 0.25, 0.50145, out), KD_EDATA);
    /* A probability of 0 is the least that the type has. */
    assert_int_equal(convert(KD_PROBS, KD_F16, 0.75, 0, out), KD_OK);
    assert_true(fabs((double)out[1] - log(0x1p-24)) < 1e-5);
    assert_int_equal(convert(KD_PROBS, KD_F32, 0.75, 0, out), KD_OK);
    assert_true(fabs((double)out[1] - log(0x1p-149)) < 1e-5);
    assert_int_equal(convert(KD_LOGPROBS, KD_BF16, log(0.75), -INFINITY, out), KD_OK);
    assert_true(fabs((double)out[1] - log(0x1p-133)) < 1e-5);
    /* A logarithm below any probability stays what it is. */
    assert_int_equal(convert(KD_LOGPROBS, KD_F32, log(0.75), -1000, out), KD_OK);
    assert_true(fabs((double)out[1] + 1000) < 1e-4);
}

static void the_rest_of_sparse_probabilities_is_kept(void **state)
{
    const struct kd_import_rule rule = {KD_PROBS, 1, KD_F16};
    const uint32_t classes[2] = {7, 3};
    double some[2] = {0.5, 0.25}, over[2] = {0.75, 0.2505}, far[2] = {0.75, 0.26},
           bad[2] = {0.5, -1};
    float out[2], rest = 0;

    (void)state;
    assert_int_equal(kd_import_convert(&rule, some, classes, 2, out, &rest), KD_OK);
    assert_true(fabs(exp((double)out[1]) - 0.25) < 1e-7);
    assert_true(fabs(exp((double)rest) - 0.25) < 1e-7);
    /* Rounded up beyond 1: nothing is left, and never less than nothing. */
    assert_int_equal(kd_import_convert(&rule, over, classes, 2, out, &rest), KD_OK);
    assert_true(isinf(rest) && rest < 0);
    assert_true(fabs(exp((double)out[0]) + exp((double)out[1]) - 1) < 1e-6);
    assert_int_equal(kd_import_convert(&rule, far, classes, 2, out, &rest), KD_EDATA);
    assert_int_equal(kd_import_convert(&rule, bad, classes, 2, out, &rest), KD_EDATA);
    assert_says("the value of class 3 is -1");
}

static void a_bad_value_is_named_by_its_row(void **state)
{
    struct kd_import_options options = plain("bad.npy", KD_NPY);
    float *values = values_of(KD_LOGITS, KD_F32, NULL, SAMPLES, 0, 1);

    (void)state;
    values[5 * C + 3] = INFINITY;
    assert_int_equal(kd_npy_write(fixture_path("bad.npy"), KD_F32, 2,
                                  (const uint64_t[]){SAMPLES, C}, values),
                     KD_OK);
    free(values);
    assert_refused(&options, KD_EDATA,
                   "bad.npy: row 5: sample 5, view 0: the value of class 3 is inf");
    options.values = KD_PROBS;
    assert_refused(&options, KD_EDATA, "bad.npy: row 0: sample 0, view 0: ");
}

/* -- which rows there must be ----------------------------------------------- */

static void holes_and_repetitions_are_named(void **state)
{
    struct kd_import_options options = plain("holes.npy", KD_NPY);
    int64_t ids[SAMPLES];
    int16_t narrow[SAMPLES];

    (void)state;
    options.ids = fixture_path("hole-ids.npy");
    for (int i = 0; i < SAMPLES; i++)
        ids[i] = i;
    ids[4] = 11;
    write_values("holes.npy", KD_LOGITS, KD_F32, NULL, SAMPLES);
    assert_int_equal(
        kd_npy_write(options.ids, KD_I64, 1, (const uint64_t[]){SAMPLES}, ids), KD_OK);
    assert_refused(&options, KD_EDATA,
                   "holes.npy: row 11: sample 11, view 0: is there already: ");
    assert_says("holes.npy: row 4");
    ids[4] = 20;
    assert_int_equal(
        kd_npy_write(options.ids, KD_I64, 1, (const uint64_t[]){SAMPLES}, ids), KD_OK);
    assert_refused(&options, KD_EDATA,
                   "row 4: sample 20, view 0: the dataset has ids "
                   "0 to 19");
    ids[4] = -1;
    assert_int_equal(
        kd_npy_write(options.ids, KD_I64, 1, (const uint64_t[]){SAMPLES}, ids), KD_OK);
    assert_refused(&options, KD_EDATA, "hole-ids.npy: element 4 is -1: must be from 0");
    for (int i = 0; i < SAMPLES; i++)
        narrow[i] = (int16_t)(i - 2 * (i == 4) * 5);
    assert_int_equal(
        kd_npy_write(options.ids, KD_I16, 1, (const uint64_t[]){SAMPLES}, narrow),
        KD_OK);
    assert_refused(&options, KD_EDATA, "hole-ids.npy: element 4 is -6: must be from 0");

    /* Rows of all but samples 4 and 9. */
    for (int i = 0, n = 0; i < SAMPLES; i++)
        if (i != 4 && i != 9)
            ids[n++] = i;
    write_values("holes.npy", KD_LOGITS, KD_F32, ids, SAMPLES - 2);
    assert_int_equal(
        kd_npy_write(options.ids, KD_I64, 1, (const uint64_t[]){SAMPLES - 2}, ids),
        KD_OK);
    assert_refused(&options, KD_EDATA,
                   "there is no row of sample 4, view 0, and 1 more are missing");
    assert_says("--data ...@A:B");
    write_values("holes.npy", KD_LOGITS, KD_F32, ids, 2);
    assert_int_equal(kd_npy_write(options.ids, KD_I64, 1, (const uint64_t[]){2}, ids),
                     KD_OK);
    assert_refused(&options, KD_EDATA, "has 2 rows, where 20 samples of views 0 to 0");
}

static void arrays_of_other_shapes_are_refused(void **state)
{
    struct kd_import_options options = plain("shape.npy", KD_NPY);
    int32_t integers[SAMPLES * C] = {0};

    (void)state;
    write_values("shape.npy", KD_LOGITS, KD_F32, NULL, 7);
    assert_refused(&options, KD_EDATA, "has 7 rows, ");
    assert_says("give the rows' ids, or the slice");
    assert_int_equal(kd_npy_write(fixture_path("shape.npy"), KD_I32, 2,
                                  (const uint64_t[]){SAMPLES, C}, integers),
                     KD_OK);
    assert_refused(&options, KD_EDATA, "is of int32: must be floats");
    write_values("shape.npy", KD_LOGITS, KD_F32, NULL, SAMPLES);
    options.ids = fixture_path("shape.npy");
    assert_refused(&options, KD_EDATA, "is of float32: must be integers");
    assert_int_equal(kd_npy_write(fixture_path("few.npy"), KD_I32, 1,
                                  (const uint64_t[]){3}, integers),
                     KD_OK);
    options.ids = fixture_path("few.npy");
    assert_refused(&options, KD_EDATA, "must be one integer for each of the 20 rows");
    options.ids = NULL;
    assert_int_equal(kd_npy_write(fixture_path("shape.npy"), KD_F32, 1,
                                  (const uint64_t[]){SAMPLES}, integers),
                     KD_OK);
    assert_refused(&options, KD_EDATA, "must be [N,C]");
    assert_int_equal(kd_npy_write(fixture_path("shape.npy"), KD_F32, 2,
                                  (const uint64_t[]){SAMPLES, 5}, integers),
                     KD_OK);
    assert_refused(&options, KD_EDATA, "shape.npy: ");
    options.from = fixture_path("nothing.npy");
    assert_refused(&options, KD_ENOINPUT, "nothing.npy: cannot open");
}

/* -- safetensors ------------------------------------------------------------ */

/* One file of values, ids, views and labels, rows back to front. */
static void write_tensors(const char *name, enum kd_type type,
                          const char *const *metadata, int32_t wrong_label)
{
    const struct kd_safetensor parts[] = {
        {"logits", {.type = type, .rank = 2, .shape = {SAMPLES, C}}, NULL},
        {"id", {.type = KD_U16, .rank = 1, .shape = {SAMPLES}}, NULL},
        {"view", {.type = KD_U8, .rank = 1, .shape = {SAMPLES}}, NULL},
        {"label", {.type = KD_I32, .rank = 1, .shape = {SAMPLES}}, NULL}};
    struct kd_safetensors_writer *writer = NULL;
    uint8_t views[SAMPLES] = {0};
    uint16_t ids[SAMPLES];
    int32_t labels[SAMPLES];
    int64_t wide[SAMPLES];
    void *values = NULL;

    for (int i = 0; i < SAMPLES; i++) {
        wide[i] = SAMPLES - 1 - i;
        ids[i] = (uint16_t)wide[i];
        labels[i] = i % 3 == 0 ? -1 : fixture_label((uint64_t)wide[i], C);
    }
    if (wrong_label >= 0)
        labels[4] = wrong_label;
    values = values_of(KD_LOGITS, type, wide, SAMPLES, 0, 1);
    unlink(fixture_path(name));
    assert_int_equal(
        kd_safetensors_create(fixture_path(name), parts, 4, metadata, &writer), KD_OK);
    assert_int_equal(
        kd_safetensors_append(writer, 0, values, SAMPLES * C * kd_type_size(type)),
        KD_OK);
    assert_int_equal(kd_safetensors_append(writer, 1, ids, sizeof ids), KD_OK);
    assert_int_equal(kd_safetensors_append(writer, 2, views, sizeof views), KD_OK);
    assert_int_equal(kd_safetensors_append(writer, 3, labels, sizeof labels), KD_OK);
    assert_int_equal(kd_safetensors_commit(writer), KD_OK);
    free(values);
}

static void tensors_become_rows(void **state)
{
    struct kd_import_options options = plain("t.safetensors", KD_SAFETENSORS);

    (void)state;
    write_tensors("t.safetensors", KD_F32, NULL, -1);
    assert_imports(&options, "tensors");
    assert_rows("tensors", true, 2e-6);
    write_tensors("t.safetensors", KD_BF16, NULL, -1);
    assert_imports(&options, "tensors-bf16");
    assert_rows("tensors-bf16", true, 0.04);
    options.tensor = "logits";
    assert_imports(&options, "tensors-named");
    options.tensor = "z";
    assert_refused(&options, KD_EDATA, "has no tensor 'z'");
}

static void labels_that_differ_show_rows_of_other_samples(void **state)
{
    struct kd_import_options options = plain("l.safetensors", KD_SAFETENSORS);

    (void)state;
    write_tensors("l.safetensors", KD_F32, NULL, 2);
    assert_int_not_equal(fixture_label(SAMPLES - 5, C), 2);
    assert_refused(&options, KD_EDATA,
                   "row 4: sample 15, view 0: its label is 2, the dataset's is 1");
}

static void a_file_that_says_otherwise_is_believed(void **state)
{
    static const char *const probs[] = {"values", "probs", NULL};
    static const char *const warm[] = {"values", "logits", "temperature", "3", NULL};
    struct kd_import_options options = plain("s.safetensors", KD_SAFETENSORS);

    (void)state;
    write_tensors("s.safetensors", KD_F32, probs, -1);
    assert_refused(&options, KD_EDATA, "says that it holds probs, not logits");
    write_tensors("s.safetensors", KD_F32, warm, -1);
    assert_imports(&options, "says"); /* logits have no temperature */
    assert_refused(&(struct kd_import_options){.from = options.from,
                                               .container = KD_SAFETENSORS,
                                               .values = KD_PROBS,
                                               .temperature = 4,
                                               .codec = {.encoding = -1},
                                               .samples_a_shard = 8},
                   KD_EDATA, "says that it holds logits, not probs");
}

/* -- text ------------------------------------------------------------------- */

/* A table with rows in the order of `ids`. */
static void write_table(const char *name, const char *header, const char *separator,
                        const char *end, const char *last)
{
    FILE *file = fopen(fixture_path(name), "wb");

    assert_non_null(file);
    fprintf(file, "%s%s", header, end);
    for (int i = 0; i < SAMPLES; i++) {
        const uint64_t id = (uint64_t)(i * 3 % SAMPLES);

        fprintf(file, "%d", (int)id);
        for (size_t c = 0; c < C; c++)
            fprintf(file, "%s%.9g", separator, logit(id, 0, c));
        fputs(i + 1 < SAMPLES ? end : last, file);
    }
    assert_int_equal(fclose(file), 0);
}

static void tables_become_rows(void **state)
{
    struct kd_import_options options = plain("t.csv", KD_CSV);

    (void)state;
    write_table("t.csv", "id,c0,c1,c2,c3,c4,c5,c6,c7", ",", "\n", "\n");
    assert_imports(&options, "table");
    assert_rows("table", true, 2e-6);
    write_table("t.csv", "\xef\xbb\xbfid\tc0\tc1\tc2\tc3\tc4\tc5\tc6\tc7", "\t ",
                "\r\n", "\r\n\r\n\n");
    assert_imports(&options, "table-tabs");
    assert_rows("table-tabs", true, 2e-6);
    write_table("t.csv", "id, c0,c1, c2,c3,c4,c5,c6,c7", ", ", "\n\n", "");
    assert_imports(&options, "table-cut");
    assert_rows("table-cut", true, 2e-6);
}

static void assert_table_refused(const char *text, const char *says)
{
    struct kd_import_options options = plain("bad.csv", KD_CSV);
    FILE *file = fopen(fixture_path("bad.csv"), "wb");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_refused(&options, KD_EDATA, says);
}

static void tables_that_are_none_are_refused(void **state)
{
    (void)state;
    assert_table_refused("", "it is empty");
    assert_table_refused("c0,c1\n", "its first line must name the columns: id, then");
    assert_table_refused("id,c0\n0,1\n", "names 1 classes, where at least 2 are due");
    assert_table_refused("id,c0,c1,c2,c3,c4,c5,c6,c7\n", "has no row of ids 0 to 19");
    assert_table_refused("id,c0,c1,c2,c3,c4,c5,c6,c7\n1.5,1,1,1,1,1,1,1,1\n",
                         "line 2: field 1 is '1.5': must be a whole number");
    assert_table_refused("id,view,c0,c1,c2,c3,c4,c5,c6,c7\n\n0\n",
                         "line 3: has 1 fields, where more are due");
    assert_table_refused("id,label,c0,c1,c2,c3,c4,c5,c6,c7\n0,cat,1,1,1,1,1,1,1,1\n",
                         "line 2: its label is 'cat'");
    /* Eight columns by names that the dataset does not have. */
    assert_table_refused("id,a,b,c,d,e,f,g,h\n0,1,1,1,1,1,1,1,1\n", "bad.csv: ");
}

/* Rows of two samples: the index is content, the values are not. */
static void values_of_tables_are_named_by_line_and_field(void **state)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"1,1,1,1,1,1,1,x,1",
         "line 3: sample 1, view 0: field 8 is 'x': must be a number"},
        {"1,1,1,1,1,1,1,,1",
         "line 3: sample 1, view 0: field 8 is '': must be a number"},
        {"1,1,1,1,1,1,1,1",
         "line 3: sample 1, view 0: has 8 fields, where more are due"},
        {"1,1,1,1,1,1,1,1,1,1", "line 3: sample 1, view 0: has more than 9 fields"},
        {"1,1,1,nan,1,1,1,1,1", "line 3: sample 1, view 0: the value of"}};
    struct kd_dataset *whole = data;
    char name[16384 + 32], text[256];

    (void)state;
    snprintf(name, sizeof name, "%s@0:2", dataset_name);
    assert_int_equal(kd_dataset_open(name, &data), KD_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(text, sizeof text,
                 "id,c0,c1,c2,c3,c4,c5,c6,c7\n0,1,1,1,1,1,1,1,1\n%s\n", cases[i].line);
        assert_table_refused(text, cases[i].says);
    }
    kd_dataset_close(data);
    data = whole;
}

static void mutated_tables_do_no_harm(void **state)
{
    static const char table[] = "id,view,label,c0,c1\n0,0,-1,1.5,2e3\n1,0,1,-inf,"
                                "0x1p3\n2,7,,nan,1\r\n\n3,0,0,1,1";
    const size_t size = sizeof table - 1;
    struct kd_import_key key;
    double values[16];
    uint32_t x = 12345;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct kd_import_source source = {.name = kd_copy_string("x.csv")};
        char *copy = malloc(size), where[KD_IMPORT_PLACE];
        enum kd_status status = KD_OK;

        assert_non_null(copy);
        memcpy(copy, table, size);
        for (int edits = 0; edits < 3; edits++) {
            x = x * 1664525 + 1013904223;
            copy[(x >> 8) % size] = (char)(x >> 24);
        }
        status = kd_import_parse_csv(copy, size, &source);
        for (uint64_t at = source.begin, next = 0;
             status == KD_OK && at < source.end && source.classes <= 16; at = next) {
            status = source.walk(&source, at, &key, &next);
            assert_true(next > at);
            if (status == KD_OK && source.read(&source, at, values, NULL) != KD_OK)
                source.describe(&source, at, where, sizeof where);
        }
        kd_import_close(&source);
        free(copy);
    }
}

/* -- TinyViT ---------------------------------------------------------------- */

#define K 3

/* A record with the K most probable classes of a row at temperature 1. */
static void write_record(FILE *file, uint64_t id, uint32_t view)
{
    uint16_t best[K], halves[K];
    bool taken[C] = {false};
    const int32_t seed = -5;

    for (int i = 0; i < K; i++) {
        size_t top = C;

        for (size_t c = 0; c < C; c++)
            if (!taken[c] && (top == C || logit(id, view, c) > logit(id, view, top)))
                top = c;
        taken[top] = true;
        best[i] = (uint16_t)top;
        halves[i] = kd_half_from_float_one((float)exp(log_softmax(id, view, top, 1)));
    }
    fwrite(&seed, 4, 1, file);
    fwrite(best, 2, K, file);
    fwrite(halves, 2, K, file);
}

/* The rank's part of an epoch: ids of its parity. `key` prints an id. */
static void write_rank(const char *directory, int rank, uint32_t view, const char *key)
{
    char path[256];
    FILE *keys = NULL, *values = NULL;

    assert_int_equal(kd_make_directory(fixture_path(directory)), KD_OK);
    snprintf(path, sizeof path, "%s/rank%d-keys.txt", directory, rank);
    keys = fopen(fixture_path(path), "wb");
    snprintf(path, sizeof path, "%s/rank%d-values.bin", directory, rank);
    values = fopen(fixture_path(path), "wb");
    assert_true(keys != NULL && values != NULL);
    for (int id = SAMPLES - 2 + rank; id >= 0; id -= 2) {
        char line[64];

        snprintf(line, sizeof line, "%s%d\n", key, id);
        fputs(line, keys);
        write_record(values, (uint64_t)id, view);
    }
    assert_true(fclose(keys) == 0 && fclose(values) == 0);
}

static struct kd_import_options tinyvit(const char *from)
{
    struct kd_import_options options = plain(from, KD_TINYVIT);

    options.values = KD_PROBS;
    options.temperature = 1;
    return options;
}

static void write_epochs(const char *directory, const char *key)
{
    char path[64];

    for (uint32_t epoch = 0; epoch < 2; epoch++)
        for (int rank = 0; rank < 2; rank++) {
            snprintf(path, sizeof path, "%s/logits_top%d_epoch%u", directory, K,
                     (unsigned)epoch + 9);
            write_rank(path, rank, epoch + 1, key);
        }
}

static void assert_sparse_rows(const char *name)
{
    struct kd_cache *cache = open_cache(name);
    const struct kd_identity *of = kd_cache_identity(cache);
    float values[C];
    uint32_t index[C];
    struct kd_row row = {.values = values, .index = index};
    const struct kd_shard *shard = NULL;
    uint64_t at = 0;

    assert_int_equal(of->codec.encoding, KD_TOP_K);
    assert_int_equal(of->codec.k, K);
    assert_true(of->views == 2 && of->first_view == 1);
    for (uint64_t id = 0; id < SAMPLES; id++) {
        for (uint32_t view = 1; view <= 2; view++) {
            double kept = 0;

            assert_true(kd_cache_find(cache, id, view, &shard, &at));
            assert_int_equal(kd_shard_row(shard, at, &row), KD_OK);
            assert_int_equal(row.size, K);
            for (size_t i = 0; i < K; i++) {
                const double p = exp((double)values[i] - (double)row.log_z);
                const double due = exp(log_softmax(id, view, index[i], 1));

                assert_true(fabs(p - due) < 1e-3);
                kept += p;
            }
            assert_true(fabs(kept + exp((double)row.log_tail) - 1) < 1e-5);
        }
    }
    kd_cache_close(cache);
}

static void epochs_become_views(void **state)
{
    struct kd_import_options options = tinyvit("tv");
    struct kd_cache *cache = NULL;

    (void)state;
    write_epochs("tv", "");
    assert_imports(&options, "epochs");
    assert_sparse_rows("epochs");
    cache = open_cache("epochs");
    assert_string_equal(kd_cache_identity(cache)->augment, KD_AUGMENT_FOREIGN);
    kd_cache_close(cache);
    options.from = fixture_path("tv/logits_top3_epoch9"); /* one alone */
    assert_imports(&options, "one-epoch");
}

static void keys_are_looked_up(void **state)
{
    struct kd_import_options options = tinyvit("named");
    FILE *file = fopen(fixture_path("keys.txt"), "wb");

    (void)state;
    assert_non_null(file);
    for (int id = 0; id < SAMPLES; id++)
        fprintf(file, "n01440764/%d\r\n", id);
    assert_int_equal(fclose(file), 0);
    write_epochs("named", "n01440764/");
    assert_refused(&options, KD_EDATA,
                   "rank0-keys.txt: line 1: the key 'n01440764/18' is no id: give");
    options.keys = fixture_path("keys.txt");
    assert_imports(&options, "keys");
    assert_sparse_rows("keys");
    file = fopen(fixture_path("keys.txt"), "ab");
    fputs("n01440764/7\n", file);
    assert_int_equal(fclose(file), 0);
    assert_refused(&options, KD_EDATA, "the key 'n01440764/7' is there twice");
    file = fopen(fixture_path("keys.txt"), "wb");
    fputs("something else\n", file);
    assert_int_equal(fclose(file), 0);
    assert_refused(&options, KD_EDATA, "'n01440764/18' is no line of the file of keys");
}

/* Overwrites bytes of a file. */
static void patch(const char *name, long at, const void *bytes, size_t size)
{
    FILE *file = fopen(fixture_path(name), "r+b");

    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void records_that_cannot_be_are_refused(void **state)
{
    struct kd_import_options options = tinyvit("bad-tv");
    const uint16_t class = 8, same[2] = {1, 1}, one = 0x3c00;

    (void)state;
    write_rank("bad-tv", 0, 1, "");
    assert_refused(&options, KD_EDATA, "there is no row of sample 1, view 1, and 9");
    write_rank("bad-tv", 1, 1, "");
    patch("bad-tv/rank1-values.bin", 16 + 4, &class, 2);
    assert_refused(
        &options, KD_EDATA,
        "rank1-values.bin: record 1: sample 17, view 1: class 8 is none of 8");
    patch("bad-tv/rank1-values.bin", 16 + 4, same, 4);
    assert_refused(&options, KD_EDATA,
                   "record 1: sample 17, view 1: class 1 is there twice");
    write_rank("bad-tv", 1, 1, "");
    patch("bad-tv/rank1-values.bin", 10, &one, 2);
    patch("bad-tv/rank1-values.bin", 12, &one, 2);
    assert_refused(&options, KD_EDATA, "record 0: sample 19, view 1: its prob");
    write_rank("bad-tv", 1, 1, "");
    patch("bad-tv/rank1-keys.txt", 0, "18\n", 3);
    assert_refused(&options, KD_EDATA,
                   "rank1-values.bin: record 0: sample 18, view 1: is there already");
    assert_says("rank0-values.bin: record 0");
    assert_int_equal(truncate(fixture_path("bad-tv/rank1-values.bin"), 159), 0);
    assert_refused(&options, KD_EDATA, "159 bytes for the 10 keys of rank1-keys.txt");
    assert_int_equal(truncate(fixture_path("bad-tv/rank1-values.bin"), 120), 0);
    assert_refused(&options, KD_EDATA, "has 2 classes a record, others have 3");
    options.from = fixture_path("tv");
    options.values = KD_LOGITS;
    assert_refused(&options, KD_EUSAGE, "values are probabilities: give --values");
}

static void epochs_must_follow_each_other(void **state)
{
    struct kd_import_options options = tinyvit("gap");

    (void)state;
    assert_int_equal(kd_make_directory(fixture_path("gap")), KD_OK);
    assert_refused(&options, KD_EDATA, "has neither rank*-values.bin nor directories");
    write_rank("gap/epoch3", 0, 1, "");
    write_rank("gap/epoch5", 0, 1, "");
    assert_refused(&options, KD_EDATA, "epoch 4 is missing: there are 3 and 5");
}

static void sparse_rows_take_sparse_encodings(void **state)
{
    struct kd_import_options options = tinyvit("tv");
    char also[] = "2";

    (void)state;
    options.codec = (struct kd_codec_args){.encoding = KD_DENSE};
    assert_refused(&options, KD_EUSAGE, "has 3 classes a row: give --encoding top-k");
    options.codec = (struct kd_codec_args){.encoding = KD_TOP_K, .k = 4};
    assert_refused(&options, KD_EUSAGE, "give --k 3 or less");
    options.codec = (struct kd_codec_args){.encoding = KD_SAMPLED, .k = 3};
    assert_refused(&options, KD_EUSAGE, "give --encoding top-k");
    options.codec = (struct kd_codec_args){.encoding = KD_TOP_K, .k = 2, .also = also};
    assert_refused(&options, KD_EUSAGE, "leave --also-temperature out");
    options.codec = (struct kd_codec_args){.encoding = KD_TOP_K, .k = 2};
    assert_imports(&options, "two");
    options.codec = (struct kd_codec_args){.encoding = KD_TOP_P, .k = 3, .mass = 0.5};
    assert_imports(&options, "half");
}

/* -- classes ---------------------------------------------------------------- */

static void write_text(const char *name, const char *text)
{
    assert_int_equal(kd_file_write(fixture_path(name), text, strlen(text)), KD_OK);
}

/* A dataset whose classes have names. */
static struct kd_dataset *open_named(const char *names)
{
    const int64_t y[2] = {1, 0};
    struct kd_dataset *named = NULL;
    struct kd_h5 *file = NULL;
    char name[8300];

    assert_int_equal(kd_h5_create(fixture_path("named.h5"), &file), KD_OK);
    assert_int_equal(
        kd_h5_write(file, "x", KD_U8, 2, (const uint64_t[]){2, 4}, "abcdefgh", NULL),
        KD_OK);
    assert_int_equal(kd_h5_write(file, "y", KD_I64, 1, (const uint64_t[]){2}, y, NULL),
                     KD_OK);
    assert_int_equal(kd_h5_set_string(file, "class_names", names), KD_OK);
    assert_int_equal(kd_h5_finish(file), KD_OK);
    snprintf(name, sizeof name, "hdf5:%s:/x,/y", fixture_path("named.h5"));
    assert_int_equal(kd_dataset_open(name, &named), KD_OK);
    return named;
}

static void classes_are_compared_by_their_names(void **state)
{
    struct kd_import_options options = plain("named.csv", KD_CSV);
    struct kd_dataset *whole = data;

    (void)state;
    data = open_named("cat,dog,cow");
    write_text("named.csv", "id,cat,dog,cow\n0,1,2,3\n1,4,5,6\n");
    assert_imports(&options, "classes");
    write_text("named.csv", "id,cat,cow,dog\n0,1,2,3\n1,4,5,6\n");
    assert_refused(&options, KD_EDATA, "named.csv: ");
    write_text("named.csv", "id,c0,c1,c2\n0,1,2,3\n1,4,5,6\n");
    assert_imports(&options, "classes-by-number");
    write_text("names.txt", "cat\ndog\r\ncow");
    options.classes = fixture_path("names.txt");
    assert_imports(&options, "classes-of-a-file");
    write_text("names.txt", "cow\ndog\ncat\n");
    assert_refused(&options, KD_EDATA, "named.csv: ");
    write_text("names.txt", "cat\ndog\n");
    assert_refused(&options, KD_EDATA, "names.txt: has 2 names, ");
    kd_dataset_close(data);
    data = whole;
}

/* Rows so wide that a shard takes several batches of them. */
static void wide_rows_come_in_batches(void **state)
{
    const size_t classes = 60000;
    struct kd_import_options options = plain("wide.npy", KD_NPY);
    float *values = calloc(SAMPLES * classes, sizeof *values), stored = 0;
    uint32_t index = 0;
    struct kd_row row = {.values = &stored, .index = &index};
    struct kd_cache *cache = NULL;

    (void)state;
    assert_non_null(values);
    for (size_t id = 0; id < SAMPLES; id++)
        values[id * classes + id * 7919 % classes] = 3;
    assert_int_equal(kd_npy_write(options.from, KD_F32, 2,
                                  (const uint64_t[]){SAMPLES, classes}, values),
                     KD_OK);
    free(values);
    options.codec = (struct kd_codec_args){.encoding = KD_TOP_K, .k = 1};
    options.samples_a_shard = SAMPLES;
    assert_imports(&options, "wide");
    cache = open_cache("wide");
    assert_int_equal(kd_cache_num_shards(cache), 1);
    for (uint64_t id = 0; id < SAMPLES; id++) {
        assert_int_equal(kd_shard_row(kd_cache_shard(cache, 0), id, &row), KD_OK);
        assert_int_equal(row.id, id);
        assert_int_equal(index, id * 7919 % classes);
        assert_int_equal(row.label, fixture_label(id, C));
    }
    kd_cache_close(cache);
}

/* -- the run ---------------------------------------------------------------- */

static void dense_rows_take_every_encoding(void **state)
{
    struct kd_import_options options = plain("enc.npy", KD_NPY);
    char also[] = "1,8";

    (void)state;
    write_values("enc.npy", KD_LOGITS, KD_F32, NULL, SAMPLES);
    options.codec = (struct kd_codec_args){.encoding = KD_TOP_K, .k = 3, .also = also};
    assert_imports(&options, "enc-top");
    options.codec = (struct kd_codec_args){.encoding = KD_SAMPLED, .k = 50};
    assert_imports(&options, "enc-sampled");
    options.codec = (struct kd_codec_args){.encoding = KD_TOP_K};
    assert_refused(&options, KD_EUSAGE, "give --k K");
}

static void the_same_import_is_kept_and_another_refused(void **state)
{
    struct kd_import_options options = plain("again.npy", KD_NPY);
    struct stat before, after;

    (void)state;
    write_values("again.npy", KD_LOGITS, KD_F32, NULL, SAMPLES);
    assert_imports(&options, "again");
    assert_imports(&options, "again-2");
    for (int i = 0; i < 3; i++) {
        char a[64], b[64];

        snprintf(a, sizeof a, "again/shard-00000%d.h5", i);
        snprintf(b, sizeof b, "again-2/shard-00000%d.h5", i);
        assert_same_file(fixture_path(a), fixture_path(b));
    }
    assert_int_equal(unlink(fixture_path("again/shard-000001.h5")), 0);
    assert_int_equal(stat(fixture_path("again/shard-000000.h5"), &before), 0);
    assert_imports(&options, "again");
    assert_int_equal(stat(fixture_path("again/shard-000000.h5"), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_same_file(fixture_path("again/shard-000001.h5"),
                     fixture_path("again-2/shard-000001.h5"));
    options.temperature = 2;
    assert_int_equal(kd_import_run(data, fixture_path("again"), &options), KD_EDATA);
    assert_says("temperature is 4, not 2");
}

static void options_of_another_container_are_refused(void **state)
{
    struct kd_import_options options = plain("again.npy", KD_NPY);

    (void)state;
    options.tensor = "z";
    assert_refused(&options, KD_EUSAGE, "--tensor: only with --format safetensors");
    options = plain("again.npy", KD_NPY);
    options.keys = "k";
    assert_refused(&options, KD_EUSAGE, "--keys: only with --format tinyvit");
    options = plain("t.csv", KD_CSV);
    options.ids = "k";
    assert_refused(&options, KD_EUSAGE, "--ids: only with --format npy");
}

static void containers_are_known_by_their_names(void **state)
{
    enum kd_container container = KD_CSV;

    (void)state;
    assert_int_equal(kd_import_recognize(fixture_path("again.npy"), &container), KD_OK);
    assert_int_equal(container, KD_NPY);
    assert_int_equal(kd_import_recognize(fixture_path("t.safetensors"), &container),
                     KD_OK);
    assert_int_equal(container, KD_SAFETENSORS);
    assert_int_equal(kd_import_recognize(fixture_path("t.csv"), &container), KD_OK);
    assert_int_equal(container, KD_CSV);
    assert_int_equal(kd_import_recognize(fixture_path("tv"), &container), KD_OK);
    assert_int_equal(container, KD_TINYVIT);
    assert_int_equal(kd_import_recognize(fixture_path("keys.txt"), &container),
                     KD_EUSAGE);
    assert_says("give --format");
    assert_int_equal(kd_import_recognize(fixture_path("none"), &container),
                     KD_ENOINPUT);
}

/* -- there and back --------------------------------------------------------- */

static void what_was_exported_is_imported(void **state)
{
    static const struct {
        const char *to;
        enum kd_container container;
    } cases[] = {
        {"out", KD_NPY}, {"out.safetensors", KD_SAFETENSORS}, {"out.csv", KD_CSV}};
    struct kd_import_options options = plain("back.npy", KD_NPY);
    struct kd_cache *cache = NULL;
    char to[64];

    (void)state;
    write_values("back.npy", KD_LOGITS, KD_F32, NULL, SAMPLES);
    assert_imports(&options, "back");
    cache = open_cache("back");
    for (int values = KD_LOGITS; values <= KD_PROBS; values++) {
        for (size_t i = 0; i < 3; i++) {
            const struct kd_export_options exporting = {
                .container = cases[i].container, .values = (enum kd_values)values};

            fixture_remove(fixture_path(cases[i].to));
            assert_int_equal(
                kd_export_run(cache, fixture_path(cases[i].to), &exporting), KD_OK);
            options = plain(cases[i].to, cases[i].container);
            options.values = (enum kd_values)values;
            snprintf(to, sizeof to, "back-%d-%zu", values, i);
            assert_imports(&options, to);
            assert_rows(to, values == KD_LOGITS, 4e-6);
        }
    }
    kd_cache_close(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_of_every_type_become_rows),
        cmocka_unit_test(probabilities_and_their_logarithms_become_rows),
        cmocka_unit_test(an_import_says_what_it_is_of),
        cmocka_unit_test(ids_may_come_in_any_order),
        cmocka_unit_test(a_slice_takes_its_rows),
        cmocka_unit_test(views_are_a_dimension),
        cmocka_unit_test(values_that_cannot_be_are_refused),
        cmocka_unit_test(small_faults_of_rounding_are_made_good),
        cmocka_unit_test(the_rest_of_sparse_probabilities_is_kept),
        cmocka_unit_test(a_bad_value_is_named_by_its_row),
        cmocka_unit_test(holes_and_repetitions_are_named),
        cmocka_unit_test(arrays_of_other_shapes_are_refused),
        cmocka_unit_test(tensors_become_rows),
        cmocka_unit_test(labels_that_differ_show_rows_of_other_samples),
        cmocka_unit_test(a_file_that_says_otherwise_is_believed),
        cmocka_unit_test(tables_become_rows),
        cmocka_unit_test(tables_that_are_none_are_refused),
        cmocka_unit_test(values_of_tables_are_named_by_line_and_field),
        cmocka_unit_test(mutated_tables_do_no_harm),
        cmocka_unit_test(epochs_become_views),
        cmocka_unit_test(keys_are_looked_up),
        cmocka_unit_test(records_that_cannot_be_are_refused),
        cmocka_unit_test(epochs_must_follow_each_other),
        cmocka_unit_test(sparse_rows_take_sparse_encodings),
        cmocka_unit_test(classes_are_compared_by_their_names),
        cmocka_unit_test(wide_rows_come_in_batches),
        cmocka_unit_test(dense_rows_take_every_encoding),
        cmocka_unit_test(the_same_import_is_kept_and_another_refused),
        cmocka_unit_test(options_of_another_container_are_refused),
        cmocka_unit_test(containers_are_known_by_their_names),
        cmocka_unit_test(what_was_exported_is_imported),
    };

    kd_threads_set(1); /* small work: threads would wait for each other */
    return cmocka_run_group_tests(tests, open_all, close_all);
}
