/* SPDX-License-Identifier: MIT */
/*
 * Makes a cache of random logits, for measuring.
 *
 *     make_cache DIRECTORY ROWS|DATASET CLASSES VIEWS SEED
 *
 * With a DATASET the cache claims to be of its samples, so that kd-train takes it.
 */
#include "kd/cache_writer.h"
#include "kd/dataset.h"
#include "kd/memory.h"
#include "kd/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 256

struct making {
    struct kd_identity identity;
    uint64_t id[BLOCK];
    uint32_t view[BLOCK];
    int32_t label[BLOCK];
    float *logits; /* [BLOCK][C] */
};

static enum kd_status identify(const char *of, uint32_t classes, uint32_t views,
                               uint64_t seed, struct kd_identity *identity)
{
    enum kd_status status = KD_EBUG;
    struct kd_dataset *data = NULL;
    struct kd_digest none;

    memset(none.hex, '0', 32);
    none.hex[32] = '\0';
    *identity = (struct kd_identity){.num_classes = classes,
                                     .temperature = 4,
                                     .codec = {.dtype = KD_F16},
                                     .class_map_digest = none,
                                     .dataset_digest = none,
                                     .num_samples = strtoull(of, NULL, 10),
                                     .first_view = views > 1 ? 1 : 0,
                                     .views = views,
                                     .augment = "none",
                                     .teacher_name = "random",
                                     .teacher_digest = none,
                                     .bn_mode = "none"};
    snprintf(identity->teacher_digest.hex, sizeof none.hex, "%032llx",
             (unsigned long long)seed);
    if (strchr(of, ':') != NULL) {
        KD_TRY(kd_dataset_open(of, &data));
        const struct kd_dataset_facts *facts = kd_dataset_facts(data);
        identity->dataset_digest = facts->digest;
        identity->class_map_digest = facts->class_map_digest;
        identity->num_samples = facts->end - facts->first;
        strcpy(identity->augment, "crop4,flip");
    }
    KD_TRY(kd_codec_check(&identity->codec, classes));
    status = KD_OK;
out:
    kd_dataset_close(data);
    return status;
}

static enum kd_status write_shard(struct making *making,
                                  const struct kd_cache_part *part)
{
    enum kd_status status = KD_EBUG;
    const struct kd_identity *of = &making->identity;
    struct kd_shard_writer *writer = NULL;
    struct kd_rows rows = {.id = making->id,
                           .view = making->view,
                           .label = making->label,
                           .scaled = making->logits};

    KD_TRY(kd_shard_writer_open(part->path, of, part->rows, "random", &writer));
    for (uint64_t row = 0; row < part->rows; row += rows.count) {
        rows.count = part->rows - row < BLOCK ? (size_t)(part->rows - row) : BLOCK;
        for (size_t i = 0; i < rows.count; i++) {
            making->id[i] = part->begin + (row + i) / of->views;
            making->view[i] = of->first_view + (uint32_t)((row + i) % of->views);
            making->label[i] = (int32_t)(making->id[i] % of->num_classes);
        }
        KD_TRY(kd_shard_writer_add(writer, &rows));
    }
    status = kd_shard_writer_commit(writer);
    writer = NULL;
out:
    kd_shard_writer_abandon(writer);
    return status;
}

static enum kd_status make(struct making *making, const char *directory, uint64_t seed)
{
    enum kd_status status = KD_EBUG;
    struct kd_cache_writer *cache = NULL;
    const size_t values = BLOCK * (size_t)making->identity.num_classes;
    struct kd_random random = kd_random_at(seed, KD_RANDOM_VIEW, 0, 0);

    KD_TRY(KD_NEW(making->logits, values));
    for (size_t i = 0; i < values; i++)
        making->logits[i] = (float)kd_random_below(&random, 65536) / 8192;
    KD_TRY(kd_cache_writer_open(directory, &making->identity,
                                kd_cache_samples_a_shard(&making->identity), &cache));
    for (size_t i = 0; i < kd_cache_writer_count(cache); i++)
        KD_TRY(write_shard(making, kd_cache_writer_part(cache, i)));
    KD_TRY(kd_cache_writer_seal(cache));
    status = KD_OK;
out:
    kd_cache_writer_close(cache);
    free(making->logits);
    return status;
}

int main(int argc, char **argv)
{
    static struct making making;
    uint64_t seed = argc == 6 ? strtoull(argv[5], NULL, 10) : 0;
    enum kd_status status;

    if (argc != 6) {
        fprintf(stderr,
                "usage: make_cache DIRECTORY ROWS|DATASET CLASSES VIEWS SEED\n");
        return 64;
    }
    status = identify(argv[2], (uint32_t)strtoul(argv[3], NULL, 10),
                      (uint32_t)strtoul(argv[4], NULL, 10), seed, &making.identity);
    if (status == KD_OK)
        status = make(&making, argv[1], seed);
    if (status != KD_OK)
        fprintf(stderr, "make_cache: %s\n", kd_error());
    return status == KD_OK ? 0 : 1;
}
