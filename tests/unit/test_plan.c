/* SPDX-License-Identifier: MIT */
/* Plans: sizes are those of the files that are then made. */
#include "kd/plan.h"

#include "kd/cache_writer.h"
#include "kd/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define CLASSES 7

static char directory[] = "/tmp/kd-test-plan-XXXXXX";

static struct kd_identity identity_of(enum kd_encoding encoding, uint32_t k)
{
    struct kd_identity identity = {
        .num_classes = CLASSES,
        .codec = {.encoding = encoding, .dtype = KD_F16, .k = k},
        .temperature = 2,
        .first_id = 5,
        .num_samples = 23,
        .first_view = 1,
        .views = 3,
        .augment = "flip",
        .teacher_name = "nobody",
        .bn_mode = "none"};

    memset(identity.class_map_digest.hex, 'a', 32);
    memset(identity.dataset_digest.hex, 'b', 32);
    memset(identity.teacher_digest.hex, 'c', 32);
    if (encoding == KD_TOP_P)
        identity.codec.mass = 0.7;
    assert_int_equal(kd_codec_check(&identity.codec, CLASSES), KD_OK);
    return identity;
}

/* Fills a shard with rows of which each keeps as many classes as the others. */
static void fill(const struct kd_cache_part *part, const struct kd_identity *of)
{
    static const float logits[CLASSES] = {4, 4, 4, 4, -9, -9, -9};
    struct kd_shard_writer *writer = NULL;

    assert_int_equal(
        kd_shard_writer_open(part->path, of, part->rows, "a line", &writer), KD_OK);
    for (uint64_t row = 0; row < part->rows; row++) {
        const uint64_t id = part->begin + row / of->views;
        const uint32_t view = of->first_view + (uint32_t)(row % of->views);
        const int32_t label = -1;

        assert_int_equal(
            kd_shard_writer_add(writer, &(struct kd_rows){.count = 1,
                                                          .id = &id,
                                                          .view = &view,
                                                          .label = &label,
                                                          .scaled = logits}),
            KD_OK);
    }
    assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
}

/* Makes the cache; its bytes and shards. */
static uint64_t make(const struct kd_identity *of, uint64_t samples_a_shard,
                     size_t *shards)
{
    struct kd_cache_writer *cache = NULL;
    struct stat facts;
    uint64_t bytes = 0;

    assert_int_equal(kd_cache_writer_open(directory, of, samples_a_shard, &cache),
                     KD_OK);
    *shards = kd_cache_writer_count(cache);
    for (size_t i = 0; i < *shards; i++) {
        const struct kd_cache_part *part = kd_cache_writer_part(cache, i);

        fill(part, of);
        assert_int_equal(stat(part->path, &facts), 0);
        bytes += (uint64_t)facts.st_size;
        unlink(part->path);
    }
    kd_cache_writer_close(cache);
    return bytes;
}

static void compare(const struct kd_identity *of, uint64_t samples_a_shard, double kept)
{
    struct kd_plan plan;
    size_t shards = 0;
    const uint64_t bytes = make(of, samples_a_shard, &shards);

    assert_int_equal(
        kd_plan_bytes(&(struct kd_plan_ask){.identity = of,
                                            .samples_a_shard = samples_a_shard,
                                            .history = "a line",
                                            .kept = kept},
                      &plan),
        KD_OK);
    assert_int_equal(plan.bytes, bytes);
    assert_int_equal(plan.shards, shards);
    assert_int_equal(plan.rows, of->num_samples * of->views);
    assert_int_equal(plan.exact, !kd_codec_is_ragged(&of->codec));
}

/* Samples 5 to 27: a first shard that is not full, full ones, and a last one. */
static void bytes_are_exact(void **state)
{
    static const uint64_t sizes[] = {1, 4, 5, 7, 23, 28, 1000};
    const struct kd_identity dense = identity_of(KD_DENSE, 0);
    const struct kd_identity top = identity_of(KD_TOP_K, 2);
    const struct kd_identity ragged = identity_of(KD_TOP_P, 5);

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        compare(&dense, sizes[i], 0);
        compare(&top, sizes[i], 0);
        compare(&ragged, sizes[i], 3); /* three of four quarters reach it */
    }
}

static void nonsense_is_refused(void **state)
{
    struct kd_identity none = identity_of(KD_DENSE, 0);
    struct kd_plan plan;

    (void)state;
    assert_int_equal(
        kd_plan_bytes(&(struct kd_plan_ask){.identity = &none, .history = ""}, &plan),
        KD_EUSAGE);
    none.num_samples = 0;
    assert_int_equal(kd_plan_bytes(&(struct kd_plan_ask){.identity = &none,
                                                         .samples_a_shard = 1,
                                                         .history = ""},
                                   &plan),
                     KD_EDATA);
    none.num_samples = (uint64_t)1 << 62;
    none.views = 1;
    assert_int_not_equal(
        kd_plan_bytes(&(struct kd_plan_ask){.identity = &none,
                                            .samples_a_shard = (uint64_t)1 << 62,
                                            .history = ""},
                      &plan),
        KD_OK);
}

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int remove_directory(void **state)
{
    char path[64];

    (void)state;
    snprintf(path, sizeof path, "%s/.lock", directory);
    unlink(path);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bytes_are_exact),
                                       cmocka_unit_test(nonsense_is_refused)};

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
