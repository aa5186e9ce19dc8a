/* SPDX-License-Identifier: MIT */
/* Shards: what is written comes back; what is damaged does not. */
#include "cache_fixture.h"

#include "kd/h5.h"
#include "kd/half.h"
#include "kd/hash.h"
#include "kd/thread.h"

#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <sys/mman.h>
#include <sys/wait.h>

static double reference_log_z(const float *row, size_t classes, double top)
{
    long double sum = 0;

    for (size_t c = 0; c < classes; c++)
        sum += expl((long double)row[c] - (long double)top);
    return (double)logl(sum);
}

static void check_round_trip(enum kd_type dtype, size_t classes)
{
    struct kd_identity of = fixture_identity((uint32_t)classes, 30, 3, dtype);
    float *row = calloc(classes, sizeof *row), *read = calloc(classes, sizeof *read);
    struct kd_shard *shard = NULL;

    fixture_shard(fixture_path("trip.h5"), &of, 1, 5, 25);
    assert_int_equal(kd_shard_open(fixture_path("trip.h5"), &shard), KD_OK);
    assert_int_equal(kd_shard_rows(shard), 60);
    assert_int_equal(kd_identity_equal(kd_shard_identity(shard), &of), KD_OK);
    for (uint64_t i = 0; i < 60; i++) {
        uint64_t id = 5 + i / 3;
        float top = -FLT_MAX;

        assert_int_equal(kd_shard_ids(shard)[i], id);
        assert_int_equal(kd_shard_views(shard)[i], i % 3);
        assert_int_equal(kd_shard_label(shard, i), fixture_label(id, classes));
        assert_int_equal(kd_shard_find(shard, id, (uint32_t)(i % 3)), i);
        fixture_row(1, id, (uint32_t)(i % 3), classes, row);
        for (size_t c = 0; c < classes; c++)
            top = row[c] > top ? row[c] : top;
        assert_true(kd_shard_row_max(shard, i) == top);
        assert_true(fabs((double)kd_shard_log_z(shard, i) -
                         reference_log_z(row, classes, (double)top)) < 1e-6);
        assert_int_equal(kd_shard_read(shard, i, 1, read), KD_OK);
        for (size_t c = 0; c < classes; c++) {
            float stored = row[c] - top;

            if (dtype == KD_F16)
                stored = kd_half_to_float_one(kd_half_from_float_one(stored));
            assert_true(read[c] == stored);
        }
    }
    kd_shard_close(shard);
    free(row);
    free(read);
}

static void rows_come_back_as_floats(void **state)
{
    (void)state;
    check_round_trip(KD_F32, 10);
    check_round_trip(KD_F32, 1000);
}

static void rows_come_back_as_halves(void **state)
{
    (void)state;
    check_round_trip(KD_F16, 2);
    check_round_trip(KD_F16, 777);
}

/* Writes one row; gives what add said. */
static enum kd_status write_row(const char *path, enum kd_type dtype, const float *row)
{
    struct kd_identity of = fixture_identity(4, 100, 2, dtype);
    struct kd_shard_writer *writer = NULL;
    const uint64_t id = 17;
    const uint32_t view = 1;
    const int32_t label = 3;
    enum kd_status status = KD_EBUG;

    assert_int_equal(kd_shard_writer_open(path, &of, 1, "a test", &writer), KD_OK);
    status = kd_shard_writer_add(
        writer,
        &(struct kd_rows){
            .count = 1, .id = &id, .view = &view, .label = &label, .scaled = row});
    if (status == KD_OK)
        return kd_shard_writer_commit(writer);
    kd_shard_writer_abandon(writer);
    return status;
}

static void read_row(const char *path, float *row, float *row_max, float *log_z)
{
    struct kd_shard *shard = NULL;

    assert_int_equal(kd_shard_open(path, &shard), KD_OK);
    assert_int_equal(kd_shard_read(shard, 0, 1, row), KD_OK);
    *row_max = kd_shard_row_max(shard, 0);
    *log_z = kd_shard_log_z(shard, 0);
    kd_shard_close(shard);
}

static void extreme_logits_stay_finite(void **state)
{
    const float huge[4] = {1e30F, 1e30F, -1e30F, 0};
    const float widest[4] = {FLT_MAX, -FLT_MAX, 0, 1};
    float row[4], row_max = 0, log_z = 0;

    (void)state;
    assert_int_equal(write_row(fixture_path("huge.h5"), KD_F16, huge), KD_OK);
    read_row(fixture_path("huge.h5"), row, &row_max, &log_z);
    assert_true(row[0] == 0 && row[1] == 0 && row[2] == -65504 && row[3] == -65504);
    assert_true(row_max == 1e30F && fabsf(log_z - logf(2)) < 1e-6F);
    assert_int_equal(write_row(fixture_path("huge.h5"), KD_F32, widest), KD_OK);
    read_row(fixture_path("huge.h5"), row, &row_max, &log_z);
    assert_true(row[0] == 0 && row[1] == -FLT_MAX && row[2] == -FLT_MAX);
    assert_true(row_max == FLT_MAX && log_z == 0);
}

static void small_differences_survive_as_halves(void **state)
{
    const float close[4] = {0, -1e-4F, -6e-8F, -1e-9F};
    float row[4], row_max = 0, log_z = 0;

    (void)state;
    assert_int_equal(write_row(fixture_path("small.h5"), KD_F16, close), KD_OK);
    read_row(fixture_path("small.h5"), row, &row_max, &log_z);
    assert_true(fabsf(row[1] + 1e-4F) < 1e-7F && fabsf(row[2] + 6e-8F) < 1e-9F);
    assert_true(row[3] == 0 && fabsf(log_z - logf(4)) < 1e-4F);
}

static void not_finite_logits_are_refused_by_name(void **state)
{
    const float bad[3] = {NAN, INFINITY, -INFINITY};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        float row[4] = {1, 2, 3, 4};

        row[2] = bad[i];
        assert_int_equal(write_row(fixture_path("nan.h5"), KD_F16, row), KD_EDATA);
        assert_says("nan.h5");
        assert_says("sample 17, view 1");
        assert_says("class 2");
        assert_int_equal(access(fixture_path("nan.h5"), F_OK), -1);
        assert_int_equal(access(fixture_path("nan.h5.part"), F_OK), -1);
    }
}

static void rows_out_of_order_or_bounds_are_refused(void **state)
{
    static const struct {
        uint64_t id[2];
        uint32_t view[2];
        int32_t label;
        const char *words;
    } cases[] = {
        {{5, 4}, {0, 0}, 0, "must ascend"},
        {{5, 5}, {1, 1}, 0, "must ascend"},
        {{5, 5}, {1, 0}, 0, "must ascend"},
        {{5, 100}, {0, 0}, 0, "none of the cache's"},
        {{5, 6}, {0, 2}, 0, "the view is"},
        {{5, 6}, {0, 0}, 4, "the label is"},
        {{5, 6}, {0, 0}, -2, "the label is"},
    };
    struct kd_identity of = fixture_identity(4, 100, 2, KD_F32);
    const float scaled[8] = {0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kd_shard_writer *writer = NULL;
        const int32_t label[2] = {0, cases[i].label};

        assert_int_equal(
            kd_shard_writer_open(fixture_path("order.h5"), &of, 2, "", &writer), KD_OK);
        assert_int_equal(
            kd_shard_writer_add(writer, &(struct kd_rows){.count = 2,
                                                          .id = cases[i].id,
                                                          .view = cases[i].view,
                                                          .label = label,
                                                          .scaled = scaled}),
            KD_EDATA);
        assert_says(cases[i].words);
        kd_shard_writer_abandon(writer);
    }
}

static void a_shard_with_rows_missing_is_not_committed(void **state)
{
    struct kd_identity of = fixture_identity(4, 100, 1, KD_F16);
    struct kd_shard_writer *writer = NULL;

    (void)state;
    assert_int_equal(
        kd_shard_writer_open(fixture_path("short.h5"), &of, 10, "", &writer), KD_OK);
    assert_int_equal(fixture_add(writer, &of, 1, 0, 9, 4), KD_OK);
    assert_int_equal(kd_shard_writer_commit(writer), KD_EDATA);
    assert_says("10 rows were announced and 9 came");
    assert_int_equal(access(fixture_path("short.h5"), F_OK), -1);
    assert_int_equal(access(fixture_path("short.h5.part"), F_OK), -1);
}

static void more_rows_than_announced_are_refused(void **state)
{
    struct kd_identity of = fixture_identity(4, 100, 1, KD_F16);
    struct kd_shard_writer *writer = NULL;

    (void)state;
    assert_int_equal(
        kd_shard_writer_open(fixture_path("long.h5"), &of, 10, "", &writer), KD_OK);
    assert_int_equal(fixture_add(writer, &of, 1, 0, 11, 4), KD_EDATA);
    assert_says("more rows than the 10");
    kd_shard_writer_abandon(writer);
}

static void identities_out_of_range_are_refused(void **state)
{
    struct kd_identity good = fixture_identity(4, 100, 2, KD_F16), bad = good;

    (void)state;
    assert_int_equal(kd_identity_check(&good), KD_OK);
#define REFUSED(change, words)                                                         \
    do {                                                                               \
        bad = good;                                                                    \
        change;                                                                        \
        assert_int_equal(kd_identity_check(&bad), KD_EDATA);                           \
        assert_says(words);                                                            \
    } while (0)
    REFUSED(bad.num_classes = 1, "num_classes");
    REFUSED(bad.temperature = 0, "temperature");
    REFUSED(bad.temperature = NAN, "temperature");
    REFUSED(bad.num_samples = 0, "num_samples");
    REFUSED(bad.first_id = UINT64_MAX - 50, "num_samples");
    REFUSED(bad.views = 0, "views");
    REFUSED(bad.first_view = UINT32_MAX, "views");
    REFUSED(bad.codec.dtype = KD_F64, "dtype");
    REFUSED(bad.dataset_digest.hex[3] = 'x', "dataset_digest");
    REFUSED(bad.teacher_digest.hex[0] = '\0', "teacher_digest");
    REFUSED(bad.augment[0] = '\n', "augment");
    REFUSED(memset(bad.augment, 'a', sizeof bad.augment), "augment");
    REFUSED(bad.bn_mode[0] = 'x', "bn_mode");
    REFUSED(memcpy(bad.policy, "mean-prob", 10), "policy");
    REFUSED(bad.kind = KD_KIND_MERGED, "policy");
#undef REFUSED
}

static void identities_that_differ_are_told_apart(void **state)
{
    struct kd_identity a = fixture_identity(4, 100, 2, KD_F16), b = a;
    struct kd_digest x, y;

    (void)state;
    assert_int_equal(kd_identity_equal(&a, &b), KD_OK);
    b.temperature = 2;
    assert_int_equal(kd_identity_equal(&a, &b), KD_EDATA);
    assert_string_equal(kd_error(), "temperature is 4, not 2");
    assert_int_equal(kd_identity_digest(&a, &x), KD_OK);
    assert_int_equal(kd_identity_digest(&b, &y), KD_OK);
    assert_false(kd_digest_equal(&x, &y));
    b = a;
    snprintf(b.augment, sizeof b.augment, "none");
    assert_int_equal(kd_identity_equal(&a, &b), KD_EDATA);
    assert_says("augment is 'crop4,flip', not 'none'");
    b = a;
    b.seed--;
    assert_int_equal(kd_identity_equal(&a, &b), KD_EDATA);
    assert_says("seed is 18446744073709551615, not 18446744073709551614");
}

static void the_same_rows_give_the_same_bytes(void **state)
{
    struct kd_identity of = fixture_identity(100, 3000, 2, KD_F16);
    struct kd_shard_writer *writer = NULL;
    const size_t batches[] = {1000, 6000, 7};
    char name[3][16];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        kd_threads_set(i + 1);
        snprintf(name[i], sizeof name[i], "same-%zu.h5", i);
        assert_int_equal(
            kd_shard_writer_open(fixture_path(name[i]), &of, 6000, "line", &writer),
            KD_OK);
        assert_int_equal(fixture_add(writer, &of, 9, 0, 3000, batches[i]), KD_OK);
        assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
    }
    kd_threads_set(1);
    assert_same_file(fixture_path(name[0]), fixture_path(name[1]));
    assert_same_file(fixture_path(name[0]), fixture_path(name[2]));
}

static void rows_with_holes_are_found(void **state)
{
    struct kd_identity of = fixture_identity(4, 100, 4, KD_F32);
    const uint64_t id[5] = {3, 3, 50, 51, 99};
    const uint32_t view[5] = {1, 3, 0, 2, 3};
    const int32_t label[5] = {-1, -1, -1, 0, 3};
    const float scaled[20] = {0};
    struct kd_shard_writer *writer = NULL;
    struct kd_shard *shard = NULL;

    (void)state;
    assert_int_equal(
        kd_shard_writer_open(fixture_path("holes.h5"), &of, 5, "", &writer), KD_OK);
    assert_int_equal(kd_shard_writer_add(writer, &(struct kd_rows){.count = 5,
                                                                   .id = id,
                                                                   .view = view,
                                                                   .label = label,
                                                                   .scaled = scaled}),
                     KD_OK);
    assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
    assert_int_equal(kd_shard_open(fixture_path("holes.h5"), &shard), KD_OK);
    for (uint64_t i = 0; i < 5; i++)
        assert_int_equal(kd_shard_find(shard, id[i], view[i]), i);
    assert_true(kd_shard_find(shard, 3, 0) == UINT64_MAX);
    assert_true(kd_shard_find(shard, 3, 2) == UINT64_MAX);
    assert_true(kd_shard_find(shard, 49, 0) == UINT64_MAX);
    assert_true(kd_shard_find(shard, 99, 4) == UINT64_MAX);
    assert_true(kd_shard_find(shard, UINT64_MAX, 0) == UINT64_MAX);
    kd_shard_close(shard);
}

static void rows_behind_the_end_cannot_be_read(void **state)
{
    struct kd_identity of = fixture_identity(4, 10, 1, KD_F16);
    struct kd_shard *shard = NULL;
    float values[8];

    (void)state;
    fixture_shard(fixture_path("end.h5"), &of, 1, 0, 10);
    assert_int_equal(kd_shard_open(fixture_path("end.h5"), &shard), KD_OK);
    assert_int_equal(kd_shard_read(shard, 8, 2, values), KD_OK);
    assert_int_equal(kd_shard_read(shard, 9, 2, values), KD_EBUG);
    assert_int_equal(kd_shard_read(shard, UINT64_MAX, 2, values), KD_EBUG);
    kd_shard_close(shard);
}

static void an_unfinished_shard_is_refused(void **state)
{
    struct kd_identity of = fixture_identity(4, 10, 1, KD_F16);
    struct kd_h5 *file = NULL;
    struct kd_shard *shard = NULL;
    const char *path = fixture_path("unfinished.h5");

    (void)state;
    fixture_shard(path, &of, 1, 0, 10);
    assert_int_equal(kd_h5_open_rw(path, &file), KD_OK);
    assert_int_equal(kd_h5_set_u64(file, "complete", 0), KD_OK);
    assert_int_equal(kd_h5_finish(file), KD_OK);
    assert_int_equal(kd_shard_open(path, &shard), KD_EDATA);
    assert_null(shard);
    assert_says("unfinished.h5");
    assert_says("complete is 0");
}

static void foreign_files_are_refused(void **state)
{
    struct kd_h5 *file = NULL;
    struct kd_shard *shard = NULL;
    const char *path = fixture_path("foreign.h5");

    (void)state;
    assert_int_equal(kd_shard_open(fixture_path("nowhere.h5"), &shard), KD_ENOINPUT);
    assert_int_equal(kd_file_write(path, "not HDF5 at all", 15), KD_OK);
    assert_int_equal(kd_shard_open(path, &shard), KD_EDATA);
    assert_int_equal(kd_h5_create(path, &file), KD_OK);
    assert_int_equal(kd_h5_finish(file), KD_OK);
    assert_int_equal(kd_shard_open(path, &shard), KD_EDATA);
    assert_says("no attribute 'format'");
    assert_int_equal(kd_h5_open_rw(path, &file), KD_OK);
    assert_int_equal(kd_h5_set_string(file, "format", "kdcache-network"), KD_OK);
    assert_int_equal(kd_h5_finish(file), KD_OK);
    assert_int_equal(kd_shard_open(path, &shard), KD_EDATA);
    assert_says("not a shard: its format is 'kdcache-network'");
}

static void altered_attributes_are_noticed(void **state)
{
    struct kd_identity of = fixture_identity(4, 10, 1, KD_F16);
    struct kd_h5 *file = NULL;
    struct kd_shard *shard = NULL;
    const char *path = fixture_path("altered.h5");

    (void)state;
    fixture_shard(path, &of, 1, 0, 10);
    assert_int_equal(kd_h5_open_rw(path, &file), KD_OK);
    assert_int_equal(kd_h5_set_f64(file, "temperature", 5), KD_OK);
    assert_int_equal(kd_h5_finish(file), KD_OK);
    assert_int_equal(kd_shard_open(path, &shard), KD_EDATA);
    assert_says("damaged");
    assert_int_equal(kd_h5_open_rw(path, &file), KD_OK);
    assert_int_equal(kd_h5_set_u64(file, "num_classes", UINT64_C(1) << 32), KD_OK);
    assert_int_equal(kd_h5_finish(file), KD_OK);
    assert_int_equal(kd_shard_open(path, &shard), KD_EDATA);
    assert_says("num_classes");
}

static void hash_row(struct kd_hash *hash, const struct kd_row *row, size_t also)
{
    kd_hash_add_u64(hash, row->id);
    kd_hash_add_u64(hash, row->view);
    kd_hash_add_u64(hash, (uint64_t)row->label);
    kd_hash_add_u64(hash, row->size);
    kd_hash_add(hash, row->values, row->size * sizeof *row->values);
    if (row->index != NULL)
        kd_hash_add(hash, row->index, row->size * sizeof *row->index);
    if (row->draws != NULL)
        kd_hash_add(hash, row->draws, row->size * sizeof *row->draws);
    kd_hash_add(hash, &row->row_max, sizeof row->row_max);
    kd_hash_add(hash, &row->log_z, sizeof row->log_z);
    kd_hash_add(hash, &row->log_tail, sizeof row->log_tail);
    kd_hash_add(hash, row->log_z_also, also * sizeof *row->log_z_also);
    kd_hash_add(hash, row->log_tail_also, also * sizeof *row->log_tail_also);
}

/* Opens a shard and reads all of its rows. */
static enum kd_status read_all(const char *path, struct kd_hash *hash)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard *shard = NULL;
    float values[4096];
    uint32_t index[4096];
    double also[KD_MAX_ALSO];

    KD_TRY(kd_shard_open(path, &shard));
    const struct kd_codec *codec = &kd_shard_identity(shard)->codec;
    struct kd_row row = {.values = values,
                         .index = kd_codec_is_sparse(codec) ? index : NULL};
    assert_true(kd_shard_kept(shard) <= 4096);
    for (uint64_t at = 0; at < kd_shard_rows(shard); at++) {
        KD_TRY(kd_shard_row(shard, at, &row));
        hash_row(hash, &row, kd_codec_also(codec, also));
    }
    struct kd_digest identity;
    KD_TRY(kd_identity_digest(kd_shard_identity(shard), &identity));
    kd_hash_add_string(hash, identity.hex);
out:
    kd_shard_close(shard);
    return status;
}

static enum kd_status digest_all(const char *path, struct kd_digest *digest)
{
    enum kd_status status = KD_EBUG;
    struct kd_hash *hash = NULL;

    assert_int_equal(kd_hash_new(&hash), KD_OK);
    status = read_all(path, hash);
    kd_hash_digest(hash, digest);
    kd_hash_free(hash);
    return status;
}

static void a_truncated_shard_is_refused_at_any_length(void **state)
{
    struct kd_identity of = fixture_identity(4, 6, 1, KD_F16);
    const char *path = fixture_path("cut.h5");
    struct kd_digest digest;
    size_t size = 0;
    char *bytes = NULL;

    (void)state;
    fixture_shard(path, &of, 1, 0, 6);
    bytes = fixture_bytes(path, &size);
    for (size_t cut = 1; cut < size; cut += cut < 64 ? 1 : 997) {
        assert_int_equal(truncate(path, (off_t)(size - cut)), 0);
        assert_int_equal(digest_all(path, &digest), KD_EDATA);
        assert_says("cut.h5");
        free(bytes);
        fixture_shard(path, &of, 1, 0, 6);
        bytes = fixture_bytes(path, &size);
    }
    free(bytes);
}

/* What became of a flipped byte. */
enum verdict { UNTRIED, DETECTED, HARMLESS, WRONG };

/*
 * Flips bytes from `first` on, one after another, in a child, since the library
 * below may not survive all of them; says where it got to.
 */
static size_t flip_in_child(const char *path, const char *bytes, const size_t *where,
                            size_t first, size_t count, const struct kd_digest *right,
                            volatile unsigned char *verdicts)
{
    pid_t child = fork();

    if (child == 0) {
        FILE *file = fopen(path, "r+b");

        alarm(20);
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(1);
        for (size_t i = first; i < count && file != NULL; i++) {
            struct kd_digest digest;
            enum kd_status status = KD_EBUG;

            fseek(file, (long)where[i], SEEK_SET);
            fputc(bytes[where[i]] ^ 0x15, file);
            fflush(file);
            status = digest_all(path, &digest);
            verdicts[i] = status == KD_EDATA                ? DETECTED
                          : status != KD_OK                 ? WRONG
                          : kd_digest_equal(&digest, right) ? HARMLESS
                                                            : WRONG;
            fseek(file, (long)where[i], SEEK_SET);
            fputc(bytes[where[i]], file);
            fflush(file);
        }
        _exit(0);
    }
    waitpid(child, NULL, 0);
    while (first < count && verdicts[first] != UNTRIED)
        first++;
    return first;
}

/* Which bytes are tried: all but the padding between datasets, of that a sample; beside
 * rows, one of `step`. */
static size_t choose_bytes(const char *path, size_t size, size_t step, size_t *where,
                           bool *in_rows)
{
    static const char *const names[] = {
        "id",      "view",  "label",    "offset",     "logits",        "index", "draws",
        "row_max", "log_z", "log_tail", "log_z_also", "log_tail_also", "check"};
    struct kd_h5 *file = NULL;
    struct kd_array_info info;
    size_t count = 0;
    char *bytes = fixture_bytes(path, &size);
    bool *rows = calloc(size, sizeof *rows);

    assert_int_equal(kd_h5_open(path, &file), KD_OK);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!kd_h5_has(file, names[i]))
            continue;
        assert_int_equal(kd_h5_info(file, names[i], &info), KD_OK);
        for (size_t j = 0; j < info.bytes; j++)
            rows[info.offset + j] = true;
    }
    kd_h5_close(file);
    for (size_t i = 0; i < size; i++) {
        if (!rows[i] && ((bytes[i] == 0 && i % 23 != 0) || i % step != 0))
            continue;
        where[count] = i;
        in_rows[count++] = rows[i];
    }
    free(bytes);
    free(rows);
    return count;
}

/*
 * Every byte of the rows and of their checks is covered by a check. Of the rest,
 * flips are noticed or change nothing: harmless are padding, unused space and
 * version fields of HDF5's own structures, and the history, which no program reads.
 */
static void check_flips(const struct kd_codec *codec, size_t step)
{
    struct kd_identity of = fixture_identity(3, 6, 2, KD_F16);
    const char *path = fixture_path("flip.h5");
    struct kd_digest right;
    size_t size = 0, count = 0, harmless = 0, crashed = 0;
    char *bytes = NULL;

    of.codec = *codec;
    assert_int_equal(kd_codec_check(&of.codec, of.num_classes), KD_OK);
    fixture_shard(path, &of, 1, 1, 4);
    assert_int_equal(digest_all(path, &right), KD_OK);
    bytes = fixture_bytes(path, &size);
    size_t *where = calloc(size, sizeof *where);
    bool *in_rows = calloc(size, sizeof *in_rows);
    count = choose_bytes(path, size, step, where, in_rows);
    int shared = open(fixture_path("verdicts"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(ftruncate(shared, (off_t)count), 0);
    unsigned char *verdicts =
        mmap(NULL, count, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
    assert_true(verdicts != MAP_FAILED);
    close(shared);

    for (size_t i = 0; i < count;) {
        i = flip_in_child(path, bytes, where, i, count, &right, verdicts);
        if (i < count) {
            crashed++;
            verdicts[i++] = DETECTED;
            assert_int_equal(kd_file_write(path, bytes, size), KD_OK);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (verdicts[i] == WRONG)
            fail_msg("byte %zu flipped: read wrongly, without an error", where[i]);
        if (in_rows[i] && verdicts[i] != DETECTED)
            fail_msg("byte %zu of the rows flipped: not noticed", where[i]);
        harmless += verdicts[i] == HARMLESS;
    }
    assert_true(crashed * 50 < count);
    print_message("%s: %zu bytes flipped, %zu harmless, %zu ended HDF5 itself\n",
                  kd_encoding_names[codec->encoding], count, harmless, crashed);
    munmap(verdicts, count);
    free(where);
    free(in_rows);
    free(bytes);
}

static void a_flipped_byte_is_noticed_or_harmless(void **state)
{
    (void)state;
    check_flips(&(struct kd_codec){.dtype = KD_F16}, 1);
}

static void a_flipped_byte_of_a_sparse_shard_is_noticed(void **state)
{
    (void)state;
    check_flips(
        &(struct kd_codec){
            .encoding = KD_TOP_K, .dtype = KD_BF16, .k = 2, .also_temperatures = "1"},
        11);
    check_flips(
        &(struct kd_codec){.encoding = KD_TOP_P, .dtype = KD_F32, .k = 2, .mass = 0.9},
        11);
    check_flips(&(struct kd_codec){.encoding = KD_SAMPLED,
                                   .dtype = KD_F16,
                                   .k = 4,
                                   .also_temperatures = "1,2"},
                11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back_as_floats),
        cmocka_unit_test(rows_come_back_as_halves),
        cmocka_unit_test(extreme_logits_stay_finite),
        cmocka_unit_test(small_differences_survive_as_halves),
        cmocka_unit_test(not_finite_logits_are_refused_by_name),
        cmocka_unit_test(rows_out_of_order_or_bounds_are_refused),
        cmocka_unit_test(a_shard_with_rows_missing_is_not_committed),
        cmocka_unit_test(more_rows_than_announced_are_refused),
        cmocka_unit_test(identities_out_of_range_are_refused),
        cmocka_unit_test(identities_that_differ_are_told_apart),
        cmocka_unit_test(the_same_rows_give_the_same_bytes),
        cmocka_unit_test(rows_with_holes_are_found),
        cmocka_unit_test(rows_behind_the_end_cannot_be_read),
        cmocka_unit_test(an_unfinished_shard_is_refused),
        cmocka_unit_test(foreign_files_are_refused),
        cmocka_unit_test(altered_attributes_are_noticed),
        cmocka_unit_test(a_truncated_shard_is_refused_at_any_length),
        cmocka_unit_test(a_flipped_byte_is_noticed_or_harmless),
        cmocka_unit_test(a_flipped_byte_of_a_sparse_shard_is_noticed),
    };

    kd_threads_set(1);
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
