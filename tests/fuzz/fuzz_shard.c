/* SPDX-License-Identifier: MIT */
/* Shards, through the child process that kd-check opens them in: HDF5 itself crashes
 * on some files, and this process must not. */
#include "fuzz.h"

#include "kd/cache_check.h"
#include "kd/file.h"
#include "kd/random.h"
#include "kd/shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS    4
#define CLASSES 5

static void make_identity(const struct kd_codec *codec, struct kd_identity *identity)
{
    *identity = (struct kd_identity){.codec = *codec,
                                     .num_classes = CLASSES,
                                     .temperature = 4,
                                     .num_samples = ROWS,
                                     .views = 1,
                                     .augment = "none",
                                     .teacher_name = "model:a.h5",
                                     .bn_mode = "eval"};
    snprintf(identity->class_map_digest.hex, 33, "%032d", 1);
    snprintf(identity->dataset_digest.hex, 33, "%032d", 2);
    snprintf(identity->teacher_digest.hex, 33, "%032d", 3);
}

static void add(const struct kd_codec *codec)
{
    const uint64_t ids[ROWS] = {0, 1, 2, 3};
    const uint32_t views[ROWS] = {0};
    const int32_t labels[ROWS] = {0, 1, 2, -1};
    float scaled[ROWS * CLASSES];
    const struct kd_rows rows = {
        .count = ROWS, .id = ids, .view = views, .label = labels, .scaled = scaled};
    struct kd_random r = kd_random_at(1, KD_RANDOM_TEST, 0, 0);
    struct kd_identity identity;
    struct kd_shard_writer *writer = NULL;
    const char *path = kd_fuzz_path("seed.h5");
    char *bytes = NULL;
    size_t size = 0;

    for (size_t i = 0; i < ROWS * CLASSES; i++)
        scaled[i] = (float)kd_random_between(&r, -4, 4);
    make_identity(codec, &identity);
    kd_fuzz_expect(kd_shard_writer_open(path, &identity, ROWS, "", &writer) == KD_OK &&
                       kd_shard_writer_add(writer, &rows) == KD_OK &&
                       kd_shard_writer_commit(writer) == KD_OK &&
                       kd_file_read(path, 1 << 20, &bytes, &size) == KD_OK,
                   kd_error());
    kd_fuzz_seed(bytes, size);
    free(bytes);
}

void kd_fuzz_seeds(void)
{
    add(&(struct kd_codec){KD_DENSE, KD_F16, CLASSES, 0, ""});
    add(&(struct kd_codec){KD_TOP_K, KD_F32, 2, 0, "1,2"});
    add(&(struct kd_codec){KD_TOP_P, KD_BF16, 4, 0.9, ""});
    add(&(struct kd_codec){KD_SAMPLED, KD_F16, 6, 0, ""});
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct kd_check_options options = {0};
    struct kd_check_report report;
    const char *path = kd_fuzz_file("shard.h5", data, size);
    const enum kd_status status = kd_cache_check(path, &options, &report);

    kd_fuzz_expect(status == KD_OK || status == KD_WANTING, kd_error());
    kd_check_report_clear(&report);
    return 0;
}
