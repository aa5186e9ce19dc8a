/* SPDX-License-Identifier: MIT */
/* Exports: every container and kind of values against the formulas in double, and
 * archives, which must come back byte for byte. */
#include "cache_fixture.h"

#include "kd/export.h"
#include "kd/h5.h"
#include "kd/half.h"
#include "kd/npy.h"
#include "kd/safetensors.h"
#include "kd/thread.h"

#include <math.h>
#include <sys/wait.h>

#define C       12
#define SAMPLES 21
#define VIEWS   2
#define ROWS    (SAMPLES * VIEWS)

static struct kd_cache *dense; /* f32, logits */

static int open_all(void **state)
{
    struct kd_identity of = fixture_identity(C, SAMPLES, VIEWS, KD_F32);

    if (fixture_open(state) != 0)
        return -1;
    of.first_view = 1;
    fixture_cache(fixture_path("dense"), &of, 1, 8);
    return kd_cache_open(fixture_path("dense"), &dense) == KD_OK ? 0 : -1;
}

static int close_all(void **state)
{
    kd_cache_close(dense);
    return fixture_close(state);
}

/* Row r of the cache, in the order of ids and views, at temperature t. */
static void reference(size_t r, double t, double log_p[C])
{
    float row[C];
    double sum = 0;

    fixture_row(1, r / VIEWS, 1 + (uint32_t)(r % VIEWS), C, row);
    for (size_t c = 0; c < C; c++)
        sum += exp(4 * (double)row[c] / t);
    for (size_t c = 0; c < C; c++)
        log_p[c] = 4 * (double)row[c] / t - log(sum);
}

static void assert_exports(const struct kd_cache *cache, const char *to,
                           const struct kd_export_options *options)
{
    const enum kd_status status = kd_export_run(cache, fixture_path(to), options);

    if (status != KD_OK)
        fail_msg("%d: %s", (int)status, kd_error());
}

static void assert_refused(const struct kd_cache *cache,
                           const struct kd_export_options *options, enum kd_status why,
                           const char *says)
{
    assert_int_equal(kd_export_run(cache, fixture_path("refused"), options), why);
    assert_says(says);
    assert_int_not_equal(access(fixture_path("refused"), F_OK), 0);
}

/* An .npy of that type and rank, its data on the heap. */
static void *load(const char *name, enum kd_type type, size_t rank, uint64_t rows)
{
    struct kd_array_info info;
    struct kd_map map;
    void *copy = NULL;

    assert_int_equal(kd_npy_info(fixture_path(name), &info), KD_OK);
    assert_int_equal(info.type, type);
    assert_int_equal(info.rank, rank);
    assert_int_equal(info.shape[0], rows);
    assert_true(rank == 1 || info.shape[1] == C);
    assert_int_equal(kd_map_open(&map, fixture_path(name)), KD_OK);
    copy = malloc(info.bytes);
    assert_non_null(copy);
    memcpy(copy, map.data + info.offset, info.bytes);
    kd_map_close(&map);
    return copy;
}

static void assert_keys(const char *directory)
{
    char name[256];
    uint64_t *id = NULL;
    uint32_t *view = NULL;
    int32_t *label = NULL;

    snprintf(name, sizeof name, "%s/id.npy", directory);
    id = load(name, KD_U64, 1, ROWS);
    snprintf(name, sizeof name, "%s/view.npy", directory);
    view = load(name, KD_U32, 1, ROWS);
    snprintf(name, sizeof name, "%s/label.npy", directory);
    label = load(name, KD_I32, 1, ROWS);
    for (size_t r = 0; r < ROWS; r++) {
        assert_int_equal(id[r], r / VIEWS);
        assert_int_equal(view[r], 1 + r % VIEWS);
        assert_int_equal(label[r], fixture_label(id[r], C));
    }
    free(id);
    free(view);
    free(label);
}

static void logits_are_the_teachers_own(void **state)
{
    const struct kd_export_options options = {.container = KD_NPY, .values = KD_LOGITS};
    float *values = NULL, row[C];

    (void)state;
    assert_exports(dense, "logits", &options);
    assert_keys("logits");
    values = load("logits/logits.npy", KD_F32, 2, ROWS);
    for (size_t r = 0; r < ROWS; r++) {
        fixture_row(1, r / VIEWS, 1 + (uint32_t)(r % VIEWS), C, row);
        for (size_t c = 0; c < C; c++)
            assert_true(fabs((double)values[r * C + c] - 4 * (double)row[c]) < 1e-5);
    }
    free(values);
}

static void distributions_are_at_the_wanted_temperature(void **state)
{
    static const double temperatures[] = {0, 1, 7};
    double due[C];
    char to[64], name[128];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        for (int kind = KD_LOGPROBS; kind <= KD_PROBS; kind++) {
            const struct kd_export_options options = {.values = (enum kd_values)kind,
                                                      .temperature = temperatures[i]};
            float *values = NULL;

            snprintf(to, sizeof to, "soft-%d-%zu", kind, i);
            assert_exports(dense, to, &options);
            snprintf(name, sizeof name, "%s/%s.npy", to, kd_values_names[kind]);
            values = load(name, KD_F32, 2, ROWS);
            for (size_t r = 0; r < ROWS; r++) {
                reference(r, temperatures[i] == 0 ? 4 : temperatures[i], due);
                for (size_t c = 0; c < C; c++) {
                    const double got = (double)values[r * C + c];
                    const double wanted = kind == KD_PROBS ? exp(due[c]) : due[c];
                    assert_true(fabs(got - wanted) < 2e-5);
                }
            }
            free(values);
        }
    }
}

static void tensors_are_the_same_arrays(void **state)
{
    const struct kd_export_options options = {.container = KD_SAFETENSORS,
                                              .values = KD_PROBS};
    const struct kd_export_options arrays = {.container = KD_NPY, .values = KD_PROBS};
    struct kd_safetensors *file = NULL;
    const struct kd_safetensor *values = NULL, *id = NULL, *view = NULL, *label = NULL;
    float *due = NULL;

    (void)state;
    assert_exports(dense, "p.safetensors", &options);
    assert_exports(dense, "p", &arrays);
    due = load("p/probs.npy", KD_F32, 2, ROWS);
    assert_int_equal(kd_safetensors_open(fixture_path("p.safetensors"), &file), KD_OK);
    assert_int_equal(kd_safetensors_count(file), 4);
    values = kd_safetensors_find(file, "probs");
    id = kd_safetensors_find(file, "id");
    view = kd_safetensors_find(file, "view");
    label = kd_safetensors_find(file, "label");
    assert_true(values != NULL && id != NULL && view != NULL && label != NULL);
    assert_true(values->info.rank == 2 && values->info.shape[1] == C);
    assert_memory_equal(values->data, due, values->info.bytes);
    assert_true(id->info.type == KD_I64 && view->info.type == KD_I64);
    for (size_t r = 0; r < ROWS; r++) {
        assert_int_equal(((const int64_t *)id->data)[r], r / VIEWS);
        assert_int_equal(((const int64_t *)view->data)[r], 1 + r % VIEWS);
        assert_int_equal(((const int32_t *)label->data)[r],
                         fixture_label(r / VIEWS, C));
    }
    assert_string_equal(kd_safetensors_metadata(file, "values"), "probs");
    assert_string_equal(kd_safetensors_metadata(file, "temperature"), "4");
    kd_safetensors_close(file);
    free(due);
}

/* Numbers of the table read back as the very floats. */
static void a_table_has_a_line_a_row(void **state)
{
    const struct kd_export_options options = {.container = KD_CSV, .values = KD_LOGITS};
    const struct kd_export_options arrays = {.container = KD_NPY, .values = KD_LOGITS};
    float *due = NULL;
    char *text = NULL, *at = NULL, line[64];
    size_t size = 0;

    (void)state;
    assert_exports(dense, "z.csv", &options);
    assert_exports(dense, "z", &arrays);
    due = load("z/logits.npy", KD_F32, 2, ROWS);
    text = fixture_bytes(fixture_path("z.csv"), &size);
    at = text + strcspn(text, "\n");
    assert_int_equal(*at, '\n');
    *at++ = '\0';
    assert_string_equal(text, "id,view,label,c0,c1,c2,c3,c4,c5,c6,c7,c8,c9,c10,c11");
    for (size_t r = 0; r < ROWS; r++) {
        const int length = snprintf(line, sizeof line, "%zu,%zu,%d", r / VIEWS,
                                    1 + r % VIEWS, (int)fixture_label(r / VIEWS, C));
        assert_memory_equal(at, line, (size_t)length);
        at += length;
        for (size_t c = 0; c < C; c++) {
            assert_int_equal(*at, ',');
            assert_true(strtof(at + 1, &at) == due[r * C + c]);
        }
        assert_int_equal(*at++, '\n');
    }
    assert_int_equal(*at, '\0');
    free(text);
    free(due);
}

static void records_have_the_most_probable_classes(void **state)
{
    const struct kd_export_options options = {
        .container = KD_TINYVIT, .values = KD_PROBS, .k = 3, .temperature = 1};
    char name[128], *keys = NULL, *records = NULL, *at = NULL;
    size_t size = 0;
    double due[C];

    (void)state;
    assert_exports(dense, "tv", &options);
    for (uint32_t epoch = 0; epoch < VIEWS; epoch++) {
        snprintf(name, sizeof name, "tv/logits_top3_epoch%u/rank0-keys.txt",
                 (unsigned)epoch);
        at = keys = fixture_bytes(fixture_path(name), &size);
        snprintf(name, sizeof name, "tv/logits_top3_epoch%u/rank0-values.bin",
                 (unsigned)epoch);
        records = fixture_bytes(fixture_path(name), &size);
        assert_int_equal(size, SAMPLES * (4 + 4 * 3));
        for (size_t id = 0; id < SAMPLES; id++) {
            const char *record = records + id * 16;
            uint16_t class[3], half[3];

            assert_int_equal(strtoul(at, &at, 10), id);
            assert_int_equal(*at++, '\n');
            memcpy(class, record + 4, 6);
            memcpy(half, record + 10, 6);
            reference(id * VIEWS + epoch, 1, due);
            for (int i = 0; i < 3; i++) {
                const double p = (double)kd_half_to_float_one(half[i]);
                size_t above = 0;

                assert_true(fabs(p - exp(due[class[i]])) < 1e-3);
                for (size_t c = 0; c < C; c++)
                    above += due[c] > due[class[i]];
                assert_int_equal(above, i);
            }
        }
        assert_int_equal(*at, '\0');
        free(keys);
        free(records);
    }
}

/* -- sparse caches ---------------------------------------------------------- */

static struct kd_identity sparse_identity(enum kd_encoding encoding, const char *also)
{
    struct kd_identity of = fixture_identity(C, SAMPLES, VIEWS, KD_F32);

    of.first_view = 1;
    of.codec = (struct kd_codec){.encoding = encoding, .dtype = KD_F32, .k = 4};
    of.codec.mass = encoding == KD_TOP_P ? 0.9 : 0;
    snprintf(of.codec.also_temperatures, sizeof of.codec.also_temperatures, "%s", also);
    return of;
}

static struct kd_cache *open_sparse(const char *name, enum kd_encoding encoding,
                                    const char *also)
{
    const struct kd_identity of = sparse_identity(encoding, also);
    struct kd_cache *cache = NULL;

    fixture_cache(fixture_path(name), &of, 1, 8);
    assert_int_equal(kd_cache_open(fixture_path(name), &cache), KD_OK);
    return cache;
}

static void the_tail_of_sparse_rows_has_a_rule(void **state)
{
    struct kd_export_options options = {.values = KD_PROBS, .tail = KD_TAIL_SPREAD};
    struct kd_cache *cache = open_sparse("top", KD_TOP_K, "1");
    float *spread = NULL, *renorm = NULL, *logs = NULL;
    double due[C];

    (void)state;
    assert_int_equal(kd_export_natural(kd_cache_identity(cache)), KD_PROBS);
    assert_int_equal(kd_export_natural(kd_cache_identity(dense)), KD_LOGITS);
    options.temperature = 1;
    assert_exports(cache, "spread", &options);
    options.tail = KD_TAIL_RENORM;
    assert_exports(cache, "renorm", &options);
    options.values = KD_LOGPROBS;
    assert_exports(cache, "logs", &options);
    spread = load("spread/probs.npy", KD_F32, 2, ROWS);
    renorm = load("renorm/probs.npy", KD_F32, 2, ROWS);
    logs = load("logs/logprobs.npy", KD_F32, 2, ROWS);
    for (size_t r = 0; r < ROWS; r++) {
        double kept = 0;

        reference(r, 1, due);
        for (size_t c = 0; c < C; c++)
            kept += renorm[r * C + c] > 0 ? exp(due[c]) : 0;
        for (size_t c = 0; c < C; c++) {
            const bool in = renorm[r * C + c] > 0;
            const double p = exp(due[c]), rest = (1 - kept) / (C - 4);

            assert_true(fabs((double)spread[r * C + c] - (in ? p : rest)) < 2e-6);
            assert_true(fabs((double)renorm[r * C + c] - (in ? p / kept : 0)) < 2e-6);
            assert_true(in ? fabs((double)logs[r * C + c] - log(p / kept)) < 1e-4
                           : isinf(logs[r * C + c]) && logs[r * C + c] < 0);
        }
    }
    free(spread);
    free(renorm);
    free(logs);
    kd_cache_close(cache);
}

static void what_a_cache_cannot_give_is_refused(void **state)
{
    struct kd_cache *cache = open_sparse("some", KD_TOP_K, "");
    struct kd_identity merged = fixture_identity(C, 3, 1, KD_F32);
    struct kd_cache *probs = NULL;

    (void)state;
    merged.kind = KD_KIND_MERGED;
    merged.value_kind = KD_VALUE_LOGPROBS;
    snprintf(merged.policy, sizeof merged.policy, "mean-prob");
    snprintf(merged.parents, sizeof merged.parents, "%032x", 3U);
    fixture_cache(fixture_path("merged"), &merged, 1, 8);
    assert_int_equal(kd_cache_open(fixture_path("merged"), &probs), KD_OK);
    assert_int_equal(kd_export_natural(kd_cache_identity(probs)), KD_LOGPROBS);

    assert_refused(cache, &(struct kd_export_options){.values = KD_LOGITS}, KD_EUSAGE,
                   "some: it holds the logits of some classes alone");
    assert_refused(probs, &(struct kd_export_options){.values = KD_LOGITS}, KD_EUSAGE,
                   "merged: it holds log-probabilities");
    assert_refused(dense,
                   &(struct kd_export_options){.values = KD_LOGITS, .temperature = 1},
                   KD_EUSAGE, "logits have no temperature");
    assert_refused(cache,
                   &(struct kd_export_options){.values = KD_PROBS, .temperature = 2},
                   KD_EDATA, "some: ");
    assert_refused(probs,
                   &(struct kd_export_options){.values = KD_PROBS, .temperature = 2},
                   KD_EDATA, "merged: ");
    assert_refused(
        cache, &(struct kd_export_options){.values = KD_PROBS, .tail = KD_TAIL_BUCKET},
        KD_EUSAGE, "a bucket is no class");
    assert_refused(dense, &(struct kd_export_options){.values = KD_PROBS, .k = 3},
                   KD_EUSAGE, "--k: only with --format tinyvit");
    assert_refused(
        dense, &(struct kd_export_options){.container = KD_TINYVIT, .values = KD_PROBS},
        KD_EUSAGE, "how many classes a row");
    assert_refused(dense,
                   &(struct kd_export_options){
                       .container = KD_TINYVIT, .values = KD_PROBS, .k = C + 1},
                   KD_EUSAGE, "--k 13: it has 12 classes");
    assert_refused(dense,
                   &(struct kd_export_options){
                       .container = KD_TINYVIT, .values = KD_LOGPROBS, .k = 3},
                   KD_EUSAGE, "values are probabilities");
    kd_cache_close(probs);
    kd_cache_close(cache);
}

static void a_damaged_row_ends_the_export(void **state)
{
    const struct kd_identity of = fixture_identity(C, SAMPLES, VIEWS, KD_F32);
    struct kd_cache *cache = NULL;
    struct kd_h5 *file = NULL;
    struct kd_array_info info;
    FILE *shard = NULL;

    (void)state;
    fixture_cache(fixture_path("hurt"), &of, 1, 8);
    assert_int_equal(kd_h5_open(fixture_path("hurt/shard-000001.h5"), &file), KD_OK);
    assert_int_equal(kd_h5_info(file, "logits", &info), KD_OK);
    kd_h5_close(file);
    shard = fopen(fixture_path("hurt/shard-000001.h5"), "r+b");
    assert_non_null(shard);
    assert_int_equal(fseek(shard, (long)info.offset + 5 * C * 4, SEEK_SET), 0);
    assert_int_equal(fputc(0x55, shard), 0x55);
    assert_int_equal(fclose(shard), 0);
    assert_int_equal(kd_cache_open(fixture_path("hurt"), &cache), KD_OK);
    assert_int_equal(kd_export_run(cache, fixture_path("hurt.csv"),
                                   &(struct kd_export_options){.container = KD_CSV}),
                     KD_EDATA);
    assert_says("shard-000001.h5: row 5 (sample 10, view 1): damaged");
    assert_int_not_equal(access(fixture_path("hurt.csv"), F_OK), 0);
    assert_int_not_equal(access(fixture_path("hurt.csv.part"), F_OK), 0);
    assert_int_equal(kd_export_for_torch(cache, fixture_path("hurt.safetensors")),
                     KD_EDATA);
    assert_says("shard-000001.h5: row 5 (sample 10, view 1): damaged");
    assert_int_not_equal(access(fixture_path("hurt.safetensors"), F_OK), 0);
    kd_cache_close(cache);
    assert_int_equal(
        kd_archive_pack(fixture_path("hurt"), fixture_path("hurt-packed"), NULL, NULL),
        KD_EDATA);
    assert_says("shard-000001.h5: row 5 (sample 10, view 1): damaged");
    assert_int_not_equal(access(fixture_path("hurt-packed/cache.json"), F_OK), 0);
    assert_int_not_equal(access(fixture_path("hurt-packed/shard-000001.h5"), F_OK), 0);
}

static void exports_of_two_kinds_are_not_mixed(void **state)
{
    (void)state;
    assert_exports(dense, "two", &(struct kd_export_options){.values = KD_PROBS});
    assert_exports(dense, "two", &(struct kd_export_options){.values = KD_PROBS});
    assert_int_equal(kd_export_run(dense, fixture_path("two"),
                                   &(struct kd_export_options){.values = KD_LOGITS}),
                     KD_ECREATE);
    assert_says("two/probs.npy: is there from another export");
    assert_int_not_equal(access(fixture_path("two/logits.npy"), F_OK), 0);
}

/* -- for PyTorch ------------------------------------------------------------ */

/* A tensor's elements, which the writer has aligned. */
static const void *tensor(const struct kd_safetensors *file, const char *name,
                          enum kd_type type, uint64_t count)
{
    const struct kd_safetensor *found = kd_safetensors_find(file, name);

    assert_non_null(found);
    assert_int_equal(found->info.type, type);
    assert_int_equal(found->info.count, count);
    return found->data;
}

/* Every row of the file is the cache's, in order, float32 for float32; `index_type` is
 * KD_F32 where there is no index. */
static void assert_columns(const struct kd_cache *cache, const char *name,
                           enum kd_type index_type)
{
    struct kd_safetensors *file = NULL;
    const uint64_t rows = kd_cache_rows(cache);
    const size_t kept = kd_cache_kept(cache);
    const bool sparse = index_type != KD_F32;
    struct kd_row row = {.values = malloc(kept * sizeof(float)),
                         .index = malloc(kept * sizeof(uint32_t))};
    uint64_t values = 0, at = 0, first = 0;

    unlink(fixture_path(name));
    assert_int_equal(kd_export_for_torch(cache, fixture_path(name)), KD_OK);
    assert_int_equal(kd_safetensors_open(fixture_path(name), &file), KD_OK);
    for (size_t s = 0; s < kd_cache_num_shards(cache); s++)
        values += kd_shard_values(kd_cache_shard(cache, s));
    const int64_t *id = tensor(file, "id", KD_I64, rows);
    const int32_t *view = tensor(file, "view", KD_I32, rows);
    const int32_t *label = tensor(file, "label", KD_I32, rows);
    const float *row_max = tensor(file, "row_max", KD_F32, rows);
    const float *log_z = tensor(file, "log_z", KD_F32, rows);
    const float *scaled = tensor(file, "scaled", KD_F32, values);
    const float *log_tail = sparse ? tensor(file, "log_tail", KD_F32, rows) : NULL;
    const char *index = sparse ? tensor(file, "index", index_type, values) : NULL;
    const bool ragged = kd_safetensors_find(file, "offset") != NULL;
    const int64_t *offset =
        ragged ? tensor(file, "offset", KD_I64, rows + 1) : (const int64_t *)NULL;

    assert_int_equal(ragged, kd_codec_is_ragged(&kd_cache_identity(cache)->codec));
    for (size_t s = 0; s < kd_cache_num_shards(cache); s++) {
        const struct kd_shard *shard = kd_cache_shard(cache, s);

        for (uint64_t r = 0; r < kd_shard_rows(shard); r++, at++) {
            assert_int_equal(kd_shard_row(shard, r, &row), KD_OK);
            assert_true(id[at] == (int64_t)row.id && view[at] == (int32_t)row.view);
            assert_true(label[at] == row.label && row_max[at] == row.row_max &&
                        log_z[at] == row.log_z);
            assert_true(!ragged || offset[at] == (int64_t)first);
            assert_memory_equal(scaled + first, row.values, row.size * sizeof(float));
            for (size_t i = 0; i < row.size && sparse; i++) {
                uint32_t class = 0; /* little-endian, as the file is */

                memcpy(&class, index + (first + i) * kd_type_size(index_type),
                       kd_type_size(index_type));
                assert_int_equal(class, row.index[i]);
            }
            assert_true(!sparse || log_tail[at] == row.log_tail);
            first += row.size;
        }
    }
    assert_int_equal(at, rows);
    assert_true(!ragged || offset[rows] == (int64_t)values);
    assert_string_equal(kd_safetensors_metadata(file, "format"), "kdcache-torch");
    assert_non_null(strstr(kd_safetensors_metadata(file, "identity"), "\"dtype\""));
    kd_safetensors_close(file);
    free(row.values);
    free(row.index);
}

static void columns_for_torch_are_those_of_the_shards(void **state)
{
    struct kd_identity of = fixture_identity(300, 5, 1, KD_F32);
    struct kd_cache *cache = NULL;

    (void)state;
    assert_columns(dense, "dense.safetensors", KD_F32);
    cache = open_sparse("torch-k", KD_TOP_K, "1,8");
    assert_columns(cache, "k.safetensors", KD_U8);
    kd_cache_close(cache);
    cache = open_sparse("torch-p", KD_TOP_P, "");
    assert_columns(cache, "p.safetensors", KD_U8);
    kd_cache_close(cache);
    of.codec = (struct kd_codec){.encoding = KD_TOP_K, .dtype = KD_F32, .k = 7};
    fixture_cache(fixture_path("torch-wide"), &of, 1, 2);
    assert_int_equal(kd_cache_open(fixture_path("torch-wide"), &cache), KD_OK);
    assert_columns(cache, "wide.safetensors", KD_I16);
    kd_cache_close(cache);
}

static void what_torch_has_no_rule_for_is_refused(void **state)
{
    struct kd_cache *cache = open_sparse("torch-drawn", KD_SAMPLED, "");
    struct kd_identity of = fixture_identity(C, 3, 1, KD_F32);

    (void)state;
    assert_int_equal(kd_export_for_torch(cache, fixture_path("refused")), KD_EUSAGE);
    assert_says("torch-drawn: sampled rows");
    kd_cache_close(cache);
    of.first_view = (uint32_t)INT32_MAX + 1;
    fixture_cache(fixture_path("torch-late"), &of, 1, 8);
    assert_int_equal(kd_cache_open(fixture_path("torch-late"), &cache), KD_OK);
    assert_int_equal(kd_export_for_torch(cache, fixture_path("refused")), KD_EUSAGE);
    assert_says("torch-late: its views, up to 2147483648");
    kd_cache_close(cache);
    assert_int_not_equal(access(fixture_path("refused"), F_OK), 0);
}

/* -- archives --------------------------------------------------------------- */

static enum kd_status note(void *context, const char *path)
{
    char *list = context;

    strcat(list, kd_path_base(path));
    strcat(list, " ");
    return KD_OK;
}

static void assert_packs(const char *from, const char *to)
{
    const enum kd_status status =
        kd_archive_pack(fixture_path(from), fixture_path(to), NULL, NULL);

    if (status != KD_OK)
        fail_msg("%d: %s", (int)status, kd_error());
}

static void assert_unpacks(const char *from, const char *to)
{
    const enum kd_status status =
        kd_archive_unpack(fixture_path(from), fixture_path(to), NULL, NULL);

    if (status != KD_OK)
        fail_msg("%d: %s", (int)status, kd_error());
}

static void assert_same_directory(const char *a, const char *b)
{
    static const char *const names[] = {"shard-000000.h5", "shard-000001.h5",
                                        "shard-000002.h5", "cache.json"};
    char one[256], other[256];

    for (size_t i = 0; i < 4; i++) {
        snprintf(one, sizeof one, "%s/%s", a, names[i]);
        snprintf(other, sizeof other, "%s/%s", b, names[i]);
        assert_same_file(fixture_path(one), fixture_path(other));
    }
}

static void what_is_unpacked_is_what_was_packed(void **state)
{
    static const enum kd_encoding encodings[] = {KD_TOP_K, KD_TOP_P, KD_SAMPLED};
    char name[64], packed[64], back[64];

    (void)state;
    assert_packs("dense", "dense-packed");
    assert_unpacks("dense-packed", "dense-back");
    assert_same_directory("dense", "dense-back");
    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "sparse-%zu", i);
        snprintf(packed, sizeof packed, "sparse-%zu-packed", i);
        snprintf(back, sizeof back, "sparse-%zu-back", i);
        kd_cache_close(open_sparse(name, encodings[i], "1,8"));
        assert_packs(name, packed);
        assert_unpacks(packed, back);
        assert_same_directory(name, back);
    }
}

#define WIDE      3000
#define WIDE_ROWS 360

/* A larger one: several chunks of logits, of whole rows. */
static void chunks_are_of_whole_rows(void **state)
{
    const struct kd_identity of = fixture_identity(WIDE, WIDE_ROWS, 1, KD_F16);
    struct kd_h5 *file = NULL;
    struct kd_array_info info;
    struct stat before, after;
    uint16_t rows[2][WIDE];

    (void)state;
    fixture_cache(fixture_path("wide"), &of, 1, WIDE_ROWS);
    assert_packs("wide", "wide-packed");
    assert_unpacks("wide-packed", "wide-back");
    assert_same_file(fixture_path("wide/shard-000000.h5"),
                     fixture_path("wide-back/shard-000000.h5"));
    assert_int_equal(stat(fixture_path("wide/shard-000000.h5"), &before), 0);
    assert_int_equal(stat(fixture_path("wide-packed/shard-000000.h5"), &after), 0);
    assert_true(after.st_size < before.st_size);

    /* Another program reads its datasets as they are. */
    for (int packed = 0; packed < 2; packed++) {
        assert_int_equal(kd_h5_open(fixture_path(packed ? "wide-packed/shard-000000.h5"
                                                        : "wide/shard-000000.h5"),
                                    &file),
                         KD_OK);
        assert_int_equal(kd_h5_info(file, "logits", &info), KD_OK);
        assert_true((info.offset == UINT64_MAX) == (packed != 0));
        assert_int_equal(info.shape[0], WIDE_ROWS);
        assert_int_equal(
            kd_h5_read_rows(file, "logits", &info, WIDE_ROWS - 1, 1, rows[packed]),
            KD_OK);
        kd_h5_close(file);
    }
    assert_memory_equal(rows[0], rows[1], sizeof rows[0]);
}

/* The same one, which is exported in several batches. */
static void a_shard_takes_several_batches(void **state)
{
    const uint64_t expected[] = {WIDE_ROWS, WIDE};
    const struct kd_export_options options = {.values = KD_LOGITS};
    struct kd_cache *cache = NULL;
    struct kd_array_info info;
    struct kd_map map;
    float row[WIDE];

    (void)state;
    assert_int_equal(kd_cache_open(fixture_path("wide"), &cache), KD_OK);
    assert_exports(cache, "wide-rows", &options);
    assert_int_equal(kd_npy_info(fixture_path("wide-rows/logits.npy"), &info), KD_OK);
    assert_memory_equal(info.shape, expected, sizeof expected);
    assert_int_equal(kd_map_open(&map, fixture_path("wide-rows/logits.npy")), KD_OK);
    for (size_t r = 0; r < WIDE_ROWS; r++) {
        const uint8_t *at = map.data + info.offset + r * sizeof row;
        float got = 0;

        fixture_row(1, r, 0, WIDE, row);
        memcpy(&got, at + (WIDE - 1) * sizeof got, sizeof got);
        assert_true(fabs((double)got - 4 * (double)row[WIDE - 1]) < 0.05);
    }
    kd_map_close(&map);
    kd_cache_close(cache);
}

static void an_archive_is_the_same_cache(void **state)
{
    char list[256] = "", *layout = NULL, *mine = NULL, *theirs = NULL;
    struct kd_cache_list packed, contiguous;
    struct kd_shard *shard = NULL;
    struct kd_h5 *file = NULL;

    (void)state;
    assert_int_equal(
        kd_archive_pack(fixture_path("dense"), fixture_path("once"), note, list),
        KD_OK);
    assert_string_equal(list, "shard-000000.h5 shard-000001.h5 shard-000002.h5 ");
    assert_packs("dense", "twice");
    assert_same_directory("once", "twice");
    assert_int_equal(kd_cache_list_read(&packed, fixture_path("once")), KD_OK);
    assert_int_equal(kd_cache_list_read(&contiguous, fixture_path("dense")), KD_OK);
    assert_true(kd_digest_equal(&packed.identity, &contiguous.identity));
    assert_int_equal(packed.count, 3);
    assert_false(
        kd_digest_equal(&packed.entries[0].digest, &contiguous.entries[0].digest));
    kd_cache_list_clear(&packed);
    kd_cache_list_clear(&contiguous);

    assert_int_equal(kd_h5_open(fixture_path("once/shard-000001.h5"), &file), KD_OK);
    assert_int_equal(kd_h5_get_string(file, "layout", &layout), KD_OK);
    assert_string_equal(layout, "archive");
    assert_int_equal(kd_h5_get_string(file, "identity_digest", &mine), KD_OK);
    kd_h5_close(file);
    assert_int_equal(kd_h5_open(fixture_path("dense/shard-000001.h5"), &file), KD_OK);
    assert_int_equal(kd_h5_get_string(file, "identity_digest", &theirs), KD_OK);
    assert_string_equal(mine, theirs);
    kd_h5_close(file);
    assert_int_equal(kd_shard_open(fixture_path("once/shard-000001.h5"), &shard),
                     KD_EDATA);
    assert_says("shard-000001.h5: archived: unpack it with kd-export --layout "
                "contiguous");
    free(layout);
    free(mine);
    free(theirs);
}

static void what_is_there_already_is_kept_or_refused(void **state)
{
    struct stat before, after;

    (void)state;
    assert_packs("dense", "keep");
    assert_int_equal(stat(fixture_path("keep/shard-000000.h5"), &before), 0);
    assert_int_equal(unlink(fixture_path("keep/shard-000001.h5")), 0);
    assert_packs("dense", "keep");
    assert_int_equal(stat(fixture_path("keep/shard-000000.h5"), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_unpacks("keep", "keep-back");
    assert_int_equal(unlink(fixture_path("keep-back/shard-000002.h5")), 0);
    assert_unpacks("keep", "keep-back");
    assert_same_directory("dense", "keep-back");

    assert_int_equal(
        kd_archive_pack(fixture_path("dense"), fixture_path("dense"), NULL, NULL),
        KD_EUSAGE);
    assert_says("cannot be made of itself");
    assert_int_equal(
        kd_archive_pack(fixture_path("dense"), fixture_path("keep-back"), NULL, NULL),
        KD_EDATA);
    assert_says("shard-000000.h5: is there with another content");
    assert_int_equal(
        kd_archive_unpack(fixture_path("dense"), fixture_path("x"), NULL, NULL),
        KD_EDATA);
    assert_says("is no archive: it is contiguous already");
    assert_int_equal(
        kd_archive_pack(fixture_path("keep"), fixture_path("x"), NULL, NULL), KD_EDATA);
    assert_says("archived: unpack it with");
    assert_int_equal(
        kd_archive_pack(fixture_path("none"), fixture_path("x"), NULL, NULL),
        KD_ENOINPUT);
}

enum outcome { WHOLE, REFUSED, WRONG };

static enum outcome unpack_damaged(void)
{
    size_t size = 0;
    char *bytes = NULL, *due = NULL;
    enum outcome outcome = REFUSED;

    if (kd_archive_unpack(fixture_path("flip"), fixture_path("flip-back"), NULL,
                          NULL) != KD_OK)
        return access(fixture_path("flip-back/shard-000001.h5"), F_OK) != 0 ? REFUSED
                                                                            : WRONG;
    bytes = fixture_bytes(fixture_path("flip-back/shard-000001.h5"), &size);
    due = fixture_bytes(fixture_path("dense/shard-000001.h5"), &size);
    outcome = memcmp(bytes, due, size) == 0 ? WHOLE : WRONG;
    free(bytes);
    free(due);
    return outcome;
}

/* Bytes of an archived shard in turn (some of them, to be quick): what comes out is
 * what was packed, or nothing does. Each in a process of its own, for what HDF5 does
 * with damaged files is not ours to answer for: it leaks, at least. */
static void a_damaged_archive_gives_nothing_wrong(void **state)
{
    size_t size = 0, counts[3] = {0};
    char *bytes = NULL;
    int status = 0;

    (void)state;
    assert_packs("dense", "flip");
    bytes = fixture_bytes(fixture_path("flip/shard-000001.h5"), &size);
    for (size_t at = 3; at < size; at += 311) {
        FILE *file = fopen(fixture_path("flip/shard-000001.h5"), "wb");
        pid_t child = -1;

        assert_non_null(file);
        bytes[at] = (char)(bytes[at] ^ 0x10);
        assert_int_equal(fwrite(bytes, 1, size, file), size);
        bytes[at] = (char)(bytes[at] ^ 0x10);
        assert_int_equal(fclose(file), 0);
        fixture_remove(fixture_path("flip-back"));
        child = fork();
        if (child == 0)
            _exit((int)unpack_damaged());
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) < WRONG);
        counts[WEXITSTATUS(status)]++;
    }
    assert_true(counts[WHOLE] > 10 && counts[REFUSED] > 10);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_the_teachers_own),
        cmocka_unit_test(distributions_are_at_the_wanted_temperature),
        cmocka_unit_test(tensors_are_the_same_arrays),
        cmocka_unit_test(a_table_has_a_line_a_row),
        cmocka_unit_test(records_have_the_most_probable_classes),
        cmocka_unit_test(the_tail_of_sparse_rows_has_a_rule),
        cmocka_unit_test(what_a_cache_cannot_give_is_refused),
        cmocka_unit_test(a_damaged_row_ends_the_export),
        cmocka_unit_test(exports_of_two_kinds_are_not_mixed),
        cmocka_unit_test(columns_for_torch_are_those_of_the_shards),
        cmocka_unit_test(what_torch_has_no_rule_for_is_refused),
        cmocka_unit_test(what_is_unpacked_is_what_was_packed),
        cmocka_unit_test(chunks_are_of_whole_rows),
        cmocka_unit_test(a_shard_takes_several_batches),
        cmocka_unit_test(an_archive_is_the_same_cache),
        cmocka_unit_test(what_is_there_already_is_kept_or_refused),
        cmocka_unit_test(a_damaged_archive_gives_nothing_wrong),
    };

    kd_threads_set(1); /* small work: threads would wait for each other */
    return cmocka_run_group_tests(tests, open_all, close_all);
}
