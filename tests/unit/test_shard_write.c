/* SPDX-License-Identifier: MIT */
/* Writing shards in every encoding: what lies in the file, and that nothing but the
 * rows decides about its bytes. */
#include "cache_fixture.h"

#include "kd/h5.h"
#include "kd/half.h"
#include "kd/thread.h"

#include <math.h>

#define CLASSES 300
#define SAMPLES 40

static const struct kd_codec codecs[] = {
    {.dtype = KD_BF16, .k = CLASSES},
    {.encoding = KD_TOP_K, .dtype = KD_F16, .k = 7},
    {.encoding = KD_TOP_K, .dtype = KD_BF16, .k = 3, .also_temperatures = "1,2,8"},
    {.encoding = KD_TOP_P, .dtype = KD_F16, .k = 299, .mass = 0.9},
    {.encoding = KD_TOP_P,
     .dtype = KD_F32,
     .k = 20,
     .mass = 0.99,
     .also_temperatures = "1"},
    {.encoding = KD_SAMPLED, .dtype = KD_F16, .k = 64, .also_temperatures = "16"},
    {.encoding = KD_SAMPLED, .dtype = KD_F32, .k = 5000},
};
#define NUM_CODECS (sizeof codecs / sizeof codecs[0])

static struct kd_identity identity_of(size_t codec)
{
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 2, KD_F16);

    of.codec = codecs[codec];
    return of;
}

static void *column(struct kd_h5 *file, const char *name, struct kd_array_info *info)
{
    void *data = NULL;

    if (kd_h5_info(file, name, info) != KD_OK)
        fail_msg("%s", kd_error());
    data = calloc(info->bytes + 1, 1);
    assert_int_equal(kd_h5_read(file, name, info, data), KD_OK);
    assert_true(info->offset != UINT64_MAX);
    return data;
}

static double stored(enum kd_type type, const void *data, size_t at)
{
    if (type == KD_F32)
        return (double)((const float *)data)[at];
    if (type == KD_F16)
        return (double)kd_half_to_float_one(((const uint16_t *)data)[at]);
    return (double)kd_bf16_to_float_one(((const uint16_t *)data)[at]);
}

/* One row's columns against the row it was made of. */
static void check_row(struct kd_h5 *file, const struct kd_identity *of, uint64_t at)
{
    struct kd_array_info info, list;
    const bool ragged = kd_codec_is_ragged(&of->codec);
    uint64_t *offset = ragged ? column(file, "offset", &info) : NULL;
    const uint64_t begin = ragged ? offset[at] : at * of->codec.k;
    const uint64_t end = ragged ? offset[at + 1] : begin + of->codec.k;
    void *logits = column(file, "logits", &info);
    uint16_t *index = column(file, "index", &list);
    float *row_max = column(file, "row_max", &list);
    float *log_tail = column(file, "log_tail", &list);
    double whole = 0, left = 0;
    float row[CLASSES];
    bool kept[CLASSES] = {false};

    fixture_row(5, at / 2, (uint32_t)(at % 2), CLASSES, row);
    for (uint64_t i = begin; i < end; i++) {
        assert_true(index[i] < CLASSES && !kept[index[i]]);
        kept[index[i]] = true;
        const double due = (double)(row[index[i]] - row_max[at]);
        assert_true(fabs(stored(info.type, logits, i) - due) <= fabs(due) * 0x1p-8);
    }
    for (size_t c = 0; c < CLASSES; c++) {
        whole += exp((double)row[c]);
        left += kept[c] ? 0 : exp((double)row[c]);
    }
    assert_true(row[index[begin]] == row_max[at] || of->codec.encoding == KD_SAMPLED);
    assert_true(fabs((double)log_tail[at] - log(left / whole)) < 1e-5);
    free(offset);
    free(logits);
    free(index);
    free(row_max);
    free(log_tail);
}

static void check_shapes(struct kd_h5 *file, const struct kd_identity *of)
{
    const bool ragged = kd_codec_is_ragged(&of->codec);
    double also[KD_MAX_ALSO];
    const size_t num_also = kd_codec_also(&of->codec, also);
    struct kd_array_info logits, info;

    assert_int_equal(kd_h5_info(file, "logits", &logits), KD_OK);
    assert_int_equal(logits.type, of->codec.dtype);
    assert_int_equal(logits.rank, ragged ? 1 : 2);
    assert_int_equal(kd_h5_info(file, "index", &info), KD_OK);
    assert_int_equal(info.type, KD_U16);
    assert_int_equal(info.count, logits.count);
    assert_int_equal(kd_h5_has(file, "draws"), of->codec.encoding == KD_SAMPLED);
    assert_int_equal(kd_h5_has(file, "offset"), ragged);
    assert_int_equal(kd_h5_has(file, "log_z_also"), num_also > 0);
    assert_int_equal(kd_h5_has(file, "log_tail_also"), num_also > 0);
    if (num_also > 0) {
        assert_int_equal(kd_h5_info(file, "log_z_also", &info), KD_OK);
        assert_true(info.rank == 2 && info.shape[0] == 2 * SAMPLES &&
                    info.shape[1] == num_also && info.type == KD_F32);
    }
    if (ragged) {
        uint64_t *offset = column(file, "offset", &info);
        assert_true(info.type == KD_U64 && info.count == 2 * SAMPLES + 1);
        assert_true(offset[0] == 0 && offset[2 * SAMPLES] == logits.count);
        for (size_t i = 0; i < 2 * SAMPLES; i++)
            assert_true(offset[i] < offset[i + 1]);
        free(offset);
    } else {
        assert_int_equal(logits.shape[0], 2 * SAMPLES);
        assert_int_equal(logits.shape[1], of->codec.k);
    }
}

static void every_encoding_has_its_datasets(void **state)
{
    const char *path = fixture_path("columns.h5");

    (void)state;
    for (size_t i = 1; i < NUM_CODECS; i++) {
        const struct kd_identity of = identity_of(i);
        struct kd_h5 *file = NULL;

        fixture_shard(path, &of, 5, 0, SAMPLES);
        assert_int_equal(kd_h5_open(path, &file), KD_OK);
        check_shapes(file, &of);
        for (uint64_t row = 0; row < 2 * SAMPLES; row += 13)
            check_row(file, &of, row);
        kd_h5_close(file);
    }
}

static void draws_of_a_row_are_as_many_as_asked_for(void **state)
{
    const char *path = fixture_path("draws.h5");

    (void)state;
    for (size_t i = 5; i < NUM_CODECS; i++) {
        const struct kd_identity of = identity_of(i);
        struct kd_h5 *file = NULL;
        struct kd_array_info info;

        fixture_shard(path, &of, 5, 0, SAMPLES);
        assert_int_equal(kd_h5_open(path, &file), KD_OK);
        uint64_t *offset = column(file, "offset", &info);
        uint16_t *draws = column(file, "draws", &info);
        assert_int_equal(info.type, KD_U16);
        for (size_t row = 0; row < 2 * SAMPLES; row++) {
            size_t sum = 0;

            for (uint64_t j = offset[row]; j < offset[row + 1]; j++)
                sum += draws[j];
            assert_int_equal(sum, codecs[i].k);
        }
        free(offset);
        free(draws);
        kd_h5_close(file);
    }
}

static void the_same_rows_give_the_same_bytes_in_every_encoding(void **state)
{
    static const size_t batches[] = {80, 1, 7};

    (void)state;
    for (size_t i = 0; i < NUM_CODECS; i++) {
        const struct kd_identity of = identity_of(i);
        const char *path[3];

        for (size_t b = 0; b < 3; b++) {
            struct kd_shard_writer *writer = NULL;
            char name[32];

            snprintf(name, sizeof name, "bytes-%zu-%zu.h5", i, b);
            path[b] = fixture_path(name);
            kd_threads_set(b + 1);
            assert_int_equal(
                kd_shard_writer_open(path[b], &of, 2 * SAMPLES, "line", &writer),
                KD_OK);
            assert_int_equal(fixture_add(writer, &of, 5, 0, SAMPLES, batches[b]),
                             KD_OK);
            assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
        }
        kd_threads_set(1);
        assert_same_file(path[0], path[1]);
        assert_same_file(path[0], path[2]);
    }
}

/* Makes the fixture's rows; of one sample the row fails or has a foreign label. */
struct making {
    uint64_t id[2 * SAMPLES];
    uint32_t view[2 * SAMPLES];
    int32_t label[2 * SAMPLES];
    float rows[3][7 * CLASSES]; /* by worker */
    size_t most;                /* rows that were asked for at a time */
    uint64_t fails, strange;    /* ids; UINT64_MAX: none */
};

static enum kd_status make_few(void *context, size_t worker, size_t begin, size_t end,
                               const float **scaled)
{
    struct making *making = context;
    float *row = making->rows[worker];

    assert_true(worker < 3 && end - begin <= making->most);
    *scaled = row;
    for (size_t i = begin; i < end; i++, row += CLASSES) {
        fixture_row(5, making->id[i], making->view[i], CLASSES, row);
        making->label[i] = making->id[i] == making->strange
                               ? CLASSES
                               : fixture_label(making->id[i], CLASSES);
        if (making->id[i] == making->fails)
            return kd_fail(KD_EIO, "row %zu", i);
    }
    return KD_OK;
}

static enum kd_status make_rows(const char *path, const struct kd_identity *of,
                                struct making *making)
{
    struct kd_row_maker maker = {.count = 2 * SAMPLES,
                                 .few = making->most,
                                 .id = making->id,
                                 .view = making->view,
                                 .label = making->label,
                                 .make = make_few,
                                 .context = making};
    struct kd_shard_writer *writer = NULL;
    enum kd_status status = KD_OK;

    for (size_t i = 0; i < 2 * SAMPLES; i++) {
        making->id[i] = i / 2;
        making->view[i] = (uint32_t)(i % 2);
    }
    assert_int_equal(kd_shard_writer_open(path, of, 2 * SAMPLES, "line", &writer),
                     KD_OK);
    status = kd_shard_writer_make(writer, &maker);
    if (status == KD_OK)
        return kd_shard_writer_commit(writer);
    kd_shard_writer_abandon(writer);
    return status;
}

static void rows_that_are_made_give_the_same_bytes(void **state)
{
    static struct making making = {.fails = UINT64_MAX, .strange = UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < NUM_CODECS; i++) {
        const struct kd_identity of = identity_of(i);
        const char *added = fixture_path("added.h5"), *made = fixture_path("made.h5");
        struct kd_shard_writer *writer = NULL;

        assert_int_equal(kd_shard_writer_open(added, &of, 2 * SAMPLES, "line", &writer),
                         KD_OK);
        assert_int_equal(fixture_add(writer, &of, 5, 0, SAMPLES, 80), KD_OK);
        assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
        for (size_t threads = 1; threads <= 3; threads++) {
            kd_threads_set(threads);
            making.most = 7 - 3 * (threads - 1); /* 7, 4, 1 */
            assert_int_equal(make_rows(made, &of, &making), KD_OK);
            assert_same_file(added, made);
        }
        kd_threads_set(1);
    }
}

static void rows_that_cannot_be_made_stop_the_shard(void **state)
{
    static struct making making = {.most = 7, .fails = 33, .strange = UINT64_MAX};
    const struct kd_identity of = identity_of(0);
    const char *path = fixture_path("failed.h5");

    (void)state;
    kd_threads_set(3);
    assert_int_equal(make_rows(path, &of, &making), KD_EIO);
    assert_says("failed.h5: row 66");
    making.fails = UINT64_MAX;
    making.strange = 12;
    assert_int_equal(make_rows(path, &of, &making), KD_EDATA);
    assert_says("failed.h5: sample 12, view 0, label 300: the label is none of");
    assert_int_not_equal(access(path, F_OK), 0);
    kd_threads_set(1);
}

/* Names in the directory, but for those it has itself. */
static size_t count_files(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry = NULL;
    size_t count = 0;

    assert_non_null(directory);
    while ((entry = readdir(directory)) != NULL)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

static void what_ragged_rows_are_kept_in_has_no_name(void **state)
{
    const struct kd_identity of = identity_of(3);
    const char *where = fixture_path("alone"), *path = fixture_path("alone/a.h5");
    struct kd_shard_writer *writer = NULL;

    (void)state;
    assert_int_equal(kd_make_directory(where), KD_OK);
    assert_int_equal(kd_shard_writer_open(path, &of, 2 * SAMPLES, "line", &writer),
                     KD_OK);
    assert_int_equal(fixture_add(writer, &of, 5, 0, SAMPLES / 2, 16), KD_OK);
    assert_int_equal(count_files(where), 1);
    kd_shard_writer_abandon(writer);
    assert_int_equal(count_files(where), 0);
    fixture_shard(path, &of, 5, 0, SAMPLES);
    assert_int_equal(count_files(where), 1);
}

static void a_shard_is_as_large_as_was_measured(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_CODECS; i++) {
        const struct kd_identity of = identity_of(i);
        const char *path = fixture_path("size.h5"),
                   *line = "a test: its line of history";
        struct kd_h5 *file = NULL;
        struct kd_array_info info;
        struct stat facts;
        uint64_t bytes = 0;

        fixture_shard(path, &of, 5, 0, SAMPLES);
        assert_int_equal(kd_h5_open(path, &file), KD_OK);
        assert_int_equal(kd_h5_info(file, "logits", &info), KD_OK);
        kd_h5_close(file);
        assert_int_equal(kd_shard_measure(&of, 2 * SAMPLES, info.count, line, &bytes),
                         KD_OK);
        assert_int_equal(stat(path, &facts), 0);
        assert_int_equal(bytes, facts.st_size);
    }
}

/* Log-probabilities of ten classes and the mass of the others, in two rows. */
static enum kd_status add_sparse(const struct kd_codec *codec, const char *path)
{
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F16);
    const uint64_t id[2] = {3, 4}, offset[3] = {0, 10, 16};
    const uint32_t view[2] = {0, 0};
    const int32_t label[2] = {-1, 5};
    const float log_rest[2] = {-1, -INFINITY};
    float scaled[16];
    uint32_t index[16];
    struct kd_shard_writer *writer = NULL;
    enum kd_status status = KD_EBUG;

    for (size_t i = 0; i < 16; i++) {
        scaled[i] = -(float)(i % 7) - 2;
        index[i] = (uint32_t)(299 - i * 3);
    }
    of.codec = *codec;
    assert_int_equal(kd_shard_writer_open(path, &of, 2, "line", &writer), KD_OK);
    status = kd_shard_writer_add(
        writer, &(struct kd_rows){2, id, view, label, scaled, offset, index, log_rest});
    if (status == KD_OK)
        return kd_shard_writer_commit(writer);
    kd_shard_writer_abandon(writer);
    return status;
}

static void sparse_rows_become_sparse_rows(void **state)
{
    static const struct kd_codec codec = {
        .encoding = KD_TOP_P, .dtype = KD_F32, .k = 299, .mass = 0.99};
    const char *path = fixture_path("sparse.h5");
    struct kd_h5 *file = NULL;
    struct kd_array_info info;

    (void)state;
    assert_int_equal(add_sparse(&codec, path), KD_OK);
    assert_int_equal(kd_h5_open(path, &file), KD_OK);
    uint64_t *offset = column(file, "offset", &info);
    uint16_t *index = column(file, "index", &info);
    float *log_tail = column(file, "log_tail", &info);
    assert_int_equal(offset[1], 10); /* the rest outweighs 1 - 0.99: all are kept */
    assert_true(offset[2] > 10 && offset[2] <= 16);
    assert_int_equal(index[0], 278); /* of the equal 299 and 278 the lower one */
    assert_int_equal(index[1], 299);
    assert_true(log_tail[0] < -0.3F && log_tail[1] < -4);
    free(offset);
    free(index);
    free(log_tail);
    kd_h5_close(file);
}

static void sparse_rows_become_nothing_else(void **state)
{
    static const struct {
        struct kd_codec codec;
        const char *words;
    } cases[] = {
        {{.dtype = KD_F16, .k = CLASSES}, "not dense"},
        {{.encoding = KD_SAMPLED, .dtype = KD_F16, .k = 5}, "not sampled"},
        {{.encoding = KD_TOP_K, .dtype = KD_F16, .k = 5, .also_temperatures = "1"},
         "no further temperature"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(add_sparse(&cases[i].codec, fixture_path("other.h5")),
                         KD_EUSAGE);
        assert_says("other.h5");
        assert_says(cases[i].words);
    }
}

/* A codec that was not filled in is a mistake of the program's. */
static void codecs_that_make_no_sense_are_refused(void **state)
{
    struct kd_identity of = identity_of(1);
    struct kd_shard_writer *writer = NULL;

    (void)state;
    of.codec.k = 0;
    assert_int_equal(kd_shard_writer_open(fixture_path("k.h5"), &of, 1, "", &writer),
                     KD_EDATA);
    assert_says("k is 0");
    of = fixture_identity(CLASSES, SAMPLES, 1, KD_F16);
    of.codec.k = 0;
    assert_int_equal(kd_shard_writer_open(fixture_path("k.h5"), &of, 1, "", &writer),
                     KD_EDATA);
    assert_says("k is 0: must be 300");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_encoding_has_its_datasets),
        cmocka_unit_test(draws_of_a_row_are_as_many_as_asked_for),
        cmocka_unit_test(the_same_rows_give_the_same_bytes_in_every_encoding),
        cmocka_unit_test(rows_that_are_made_give_the_same_bytes),
        cmocka_unit_test(rows_that_cannot_be_made_stop_the_shard),
        cmocka_unit_test(what_ragged_rows_are_kept_in_has_no_name),
        cmocka_unit_test(a_shard_is_as_large_as_was_measured),
        cmocka_unit_test(sparse_rows_become_sparse_rows),
        cmocka_unit_test(sparse_rows_become_nothing_else),
        cmocka_unit_test(codecs_that_make_no_sense_are_refused),
    };

    kd_threads_set(1);
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
