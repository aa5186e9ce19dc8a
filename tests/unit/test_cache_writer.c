/* SPDX-License-Identifier: MIT */
/* Caches that are being filled: shards committed beside, and the size they have. */
#include "cache_fixture.h"

#include "kd/cache_writer.h"

#define SAMPLES 50

static struct kd_cache_writer *open_cache(const char *name, uint64_t size)
{
    const struct kd_identity of = fixture_identity(10, SAMPLES, 2, KD_F16);
    struct kd_cache_writer *cache = NULL;

    if (kd_cache_writer_open(fixture_path(name), &of, size, &cache) != KD_OK)
        fail_msg("%s", kd_error());
    return cache;
}

/* A writer of the part's rows, which lacks the last sample's if `lacks`. */
static struct kd_shard_writer *fill(const struct kd_cache_part *part, bool lacks)
{
    const struct kd_identity of = fixture_identity(10, SAMPLES, 2, KD_F16);
    struct kd_shard_writer *shard = NULL;

    assert_int_equal(kd_shard_writer_open(part->path, &of, part->rows, "line", &shard),
                     KD_OK);
    assert_int_equal(fixture_add(shard, &of, 1, part->begin, part->end - lacks, 7),
                     KD_OK);
    return shard;
}

static void commit_all(struct kd_cache_writer *cache, bool beside)
{
    for (size_t i = 0; i < kd_cache_writer_count(cache); i++) {
        const struct kd_cache_part *part = kd_cache_writer_part(cache, i);

        if (beside)
            assert_int_equal(kd_cache_writer_commit(cache, i, fill(part, false)),
                             KD_OK);
        else
            assert_int_equal(kd_shard_writer_commit(fill(part, false)), KD_OK);
    }
}

static void committing_beside_gives_the_same_cache(void **state)
{
    struct kd_cache_writer *one = open_cache("one", 20), *other = open_cache("two", 20);

    (void)state;
    commit_all(one, false);
    commit_all(other, true);
    assert_int_equal(kd_cache_writer_seal(one), KD_OK);
    assert_int_equal(kd_cache_writer_seal(other), KD_OK); /* waits for the last */
    for (size_t i = 0; i < 3; i++) {
        assert_same_file(kd_cache_writer_part(one, i)->path,
                         kd_cache_writer_part(other, i)->path);
        assert_true(kd_cache_writer_part(other, i)->hashed);
    }
    kd_cache_writer_close(one);
    kd_cache_writer_close(other);
    assert_same_file(fixture_path("one/cache.json"), fixture_path("two/cache.json"));
}

static void a_shard_has_its_name_after_the_wait(void **state)
{
    struct kd_cache_writer *cache = open_cache("wait", 20);
    const struct kd_cache_part *part = kd_cache_writer_part(cache, 1);

    (void)state;
    assert_int_equal(kd_cache_writer_wait(cache), KD_OK); /* for nothing */
    assert_int_equal(kd_cache_writer_commit(cache, 1, fill(part, false)), KD_OK);
    assert_int_equal(kd_cache_writer_wait(cache), KD_OK);
    assert_int_equal(access(part->path, F_OK), 0);
    assert_int_equal(
        kd_cache_writer_commit(cache, 2, fill(kd_cache_writer_part(cache, 2), false)),
        KD_OK);
    kd_cache_writer_close(cache); /* waits as well */
    assert_int_equal(access(fixture_path("wait/shard-000002.h5"), F_OK), 0);
    assert_int_not_equal(access(fixture_path("wait/shard-000000.h5"), F_OK), 0);
}

static void a_shard_that_lacks_rows_is_not_committed(void **state)
{
    struct kd_cache_writer *cache = open_cache("lacks", 20);
    const struct kd_cache_part *part = kd_cache_writer_part(cache, 0);

    (void)state;
    assert_int_equal(kd_cache_writer_commit(cache, 0, fill(part, true)), KD_EDATA);
    assert_says("40 rows were announced and 38 came");
    assert_int_equal(kd_cache_writer_wait(cache), KD_OK);
    assert_int_not_equal(access(part->path, F_OK), 0);
    kd_cache_writer_close(cache);
}

/* Its name is taken by a directory meanwhile. */
static void a_failure_beside_is_told_later(void **state)
{
    struct kd_cache_writer *cache = open_cache("fails", 20);
    const struct kd_cache_part *part = kd_cache_writer_part(cache, 0);
    struct kd_shard_writer *shard = fill(part, false);

    (void)state;
    assert_int_equal(mkdir(part->path, 0777), 0);
    assert_int_equal(kd_cache_writer_commit(cache, 0, shard), KD_OK);
    shard = fill(kd_cache_writer_part(cache, 1), false);
    assert_int_equal(kd_cache_writer_commit(cache, 1, shard), KD_ECREATE);
    assert_says("shard-000000.h5: cannot rename");
    assert_int_equal(kd_cache_writer_wait(cache), KD_OK); /* it is told once */
    assert_int_not_equal(access(fixture_path("fails/shard-000000.h5.part"), F_OK), 0);
    assert_int_not_equal(access(fixture_path("fails/shard-000001.h5.part"), F_OK), 0);
    assert_int_not_equal(access(fixture_path("fails/shard-000001.h5"), F_OK), 0);
    kd_cache_writer_close(cache);
}

static void shards_are_some_32_megabytes(void **state)
{
    static const struct {
        struct kd_codec codec;
        uint32_t classes, views;
        uint64_t samples;
    } cases[] = {
        {{.dtype = KD_F16, .k = 100}, 100, 1, 131072},
        {{.dtype = KD_F16, .k = 100}, 100, 20, 4096},
        {{.dtype = KD_F16, .k = 1000}, 1000, 1, 16384},
        {{.dtype = KD_F32, .k = 1000}, 1000, 1, 8192},
        {{.encoding = KD_TOP_K, .dtype = KD_F16, .k = 10}, 100000, 1, 262144},
        {{.dtype = KD_F32, .k = 16000000}, 16000000, 5, 1},
        {{.encoding = KD_TOP_K, .dtype = KD_F16, .k = 1}, 2, 1, 524288},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kd_identity of =
            fixture_identity(cases[i].classes, 1, cases[i].views, cases[i].codec.dtype);

        of.codec = cases[i].codec;
        assert_int_equal(kd_cache_samples_a_shard(&of), cases[i].samples);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(committing_beside_gives_the_same_cache),
        cmocka_unit_test(a_shard_has_its_name_after_the_wait),
        cmocka_unit_test(a_shard_that_lacks_rows_is_not_committed),
        cmocka_unit_test(a_failure_beside_is_told_later),
        cmocka_unit_test(shards_are_some_32_megabytes),
    };

    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
