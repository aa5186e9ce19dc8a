/* SPDX-License-Identifier: MIT */
/*
 * Random mini-batches out of a cache in half precision, and what else reading costs:
 *
 *     bench_cache DIRECTORY ROWS CLASSES THREADS
 *
 * makes DIRECTORY, with a dense and a top-10 cache of random logits, and prints a line
 * `name rows/s` for each case, medians of 5 runs in alternation:
 *
 *     random checked      kd_cache_read of 256 rows at random, to float32, verified
 *     random unchecked    the same without the rows' checks
 *     memcpy              the same rows' stored logits, copied and nothing else
 *     soft                kd_soft_read of such rows, at the cache's temperature
 *     soft tempered       the same at another
 *     expand              kd_soft_read of top-10 rows: soft labels of all classes
 *
 * Threads wait as in the programs (kd_threads_share).
 */
#include "kd/cache_writer.h"
#include "kd/file.h"
#include "kd/h5.h"
#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/random.h"
#include "kd/soft.h"
#include "kd/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 256
#define RUNS  5
#define SHARD 8192
#define KEPT  10

static const double run_seconds = 0.3;

/* A cache and, for memcpy, where the logits of its shards are. */
struct source {
    struct kd_cache *cache;
    size_t row_bytes;
    struct kd_map *maps;    /* [shards] */
    const uint8_t **logits; /* [shards] */
};

struct bench {
    size_t rows, classes;
    struct source dense, top;
    uint64_t *order; /* [rows] ids, shuffled */
    uint32_t *views; /* [rows] zeros */
    float *values;   /* [BATCH][classes] */
    size_t at;       /* of the next batch in the order */
};

static void identify(uint64_t rows, uint32_t classes, enum kd_encoding encoding,
                     struct kd_identity *identity)
{
    struct kd_digest none;

    memset(none.hex, '0', 32);
    none.hex[32] = '\0';
    *identity = (struct kd_identity){.num_classes = classes,
                                     .temperature = 4,
                                     .codec = {.encoding = encoding,
                                               .dtype = KD_F16,
                                               .k = encoding == KD_TOP_K ? KEPT : 0},
                                     .class_map_digest = none,
                                     .dataset_digest = none,
                                     .num_samples = rows,
                                     .views = 1,
                                     .augment = "none",
                                     .teacher_name = "random",
                                     .teacher_digest = none,
                                     .bn_mode = "none"};
}

/* The same block of random logits again and again. */
static enum kd_status write_shard(const struct kd_identity *of,
                                  const struct kd_cache_part *part, const float *logits)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard_writer *writer = NULL;
    uint64_t id[BATCH];
    uint32_t view[BATCH] = {0};
    int32_t label[BATCH] = {0};
    struct kd_rows rows = {.id = id, .view = view, .label = label, .scaled = logits};

    KD_TRY(kd_shard_writer_open(part->path, of, part->rows, "random", &writer));
    for (uint64_t row = 0; row < part->rows; row += rows.count) {
        rows.count = part->rows - row < BATCH ? (size_t)(part->rows - row) : BATCH;
        for (size_t i = 0; i < rows.count; i++)
            id[i] = part->begin + row + i;
        KD_TRY(kd_shard_writer_add(writer, &rows));
    }
    status = kd_shard_writer_commit(writer);
    writer = NULL;
out:
    kd_shard_writer_abandon(writer);
    return status;
}

static enum kd_status make_cache(const char *directory, struct kd_identity *identity)
{
    enum kd_status status = KD_EBUG;
    struct kd_cache_writer *writer = NULL;
    const size_t values = BATCH * (size_t)identity->num_classes;
    struct kd_random random = kd_random_at(1, KD_RANDOM_TEST, 0, 0);
    float *logits = NULL;

    KD_TRY(KD_NEW(logits, values));
    for (size_t i = 0; i < values; i++)
        logits[i] = (float)kd_random_normal(&random) * 2;
    KD_TRY(kd_codec_check(&identity->codec, identity->num_classes));
    KD_TRY(kd_cache_writer_open(directory, identity, SHARD, &writer));
    for (size_t i = 0; i < kd_cache_writer_count(writer); i++)
        KD_TRY(write_shard(identity, kd_cache_writer_part(writer, i), logits));
    KD_TRY(kd_cache_writer_seal(writer));
    status = KD_OK;
out:
    kd_cache_writer_close(writer);
    free(logits);
    return status;
}

/* Where the logits of a shard are in its file. */
static enum kd_status map_logits(const char *path, struct kd_map *map,
                                 const uint8_t **logits)
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;
    struct kd_array_info info;

    KD_TRY(kd_h5_open(path, &file));
    KD_TRY(kd_h5_info(file, "logits", &info));
    KD_TRY(kd_map_open(map, path));
    *logits = map->data + info.offset;
out:
    kd_h5_close(file);
    return status;
}

static enum kd_status open_source(const char *parent, const char *name, size_t rows,
                                  size_t classes, struct source *source)
{
    enum kd_status status = KD_EBUG;
    struct kd_identity identity;
    char *directory = kd_path_join(parent, name);

    if (directory == NULL)
        return KD_EMEMORY;
    identify(rows, (uint32_t)classes, name[0] == 't' ? KD_TOP_K : KD_DENSE, &identity);
    KD_TRY(make_cache(directory, &identity));
    KD_TRY(kd_cache_open(directory, &source->cache));
    source->row_bytes = identity.codec.k * kd_type_size(identity.codec.dtype);
    KD_TRY(KD_NEW(source->maps, kd_cache_num_shards(source->cache)));
    KD_TRY(KD_NEW(source->logits, kd_cache_num_shards(source->cache)));
    for (size_t i = 0; i < kd_cache_num_shards(source->cache); i++)
        KD_TRY(map_logits(kd_shard_path(kd_cache_shard(source->cache, i)),
                          &source->maps[i], &source->logits[i]));
out:
    free(directory);
    return status;
}

static void close_source(struct source *source)
{
    if (source->maps != NULL)
        for (size_t i = 0; i < kd_cache_num_shards(source->cache); i++)
            kd_map_close(&source->maps[i]);
    free(source->maps);
    free(source->logits);
    kd_cache_close(source->cache);
}

static enum kd_status read_dense(struct bench *bench, const uint64_t *ids)
{
    return kd_cache_read(bench->dense.cache, ids, bench->views, BATCH, bench->values,
                         NULL);
}

static enum kd_status read_checked(struct bench *bench, const uint64_t *ids)
{
    kd_cache_set_verify(bench->dense.cache, true);
    return read_dense(bench, ids);
}

static enum kd_status read_unchecked(struct bench *bench, const uint64_t *ids)
{
    enum kd_status status = KD_OK;

    kd_cache_set_verify(bench->dense.cache, false);
    status = read_dense(bench, ids);
    kd_cache_set_verify(bench->dense.cache, true);
    return status;
}

struct copying {
    const struct bench *bench;
    const uint64_t *ids;
};

static enum kd_status copy_range(void *context, size_t begin, size_t end)
{
    const struct copying *copying = context;
    const struct source *from = &copying->bench->dense;
    uint8_t *to = (uint8_t *)copying->bench->values;

    for (size_t i = begin; i < end; i++)
        memcpy(to + i * from->row_bytes,
               from->logits[copying->ids[i] / SHARD] +
                   copying->ids[i] % SHARD * from->row_bytes,
               from->row_bytes);
    return KD_OK;
}

static enum kd_status copy(struct bench *bench, const uint64_t *ids)
{
    struct copying copying = {bench, ids};

    return kd_parallel(BATCH, kd_threads_grain(0.1 * (double)bench->dense.row_bytes),
                       copy_range, &copying);
}

static enum kd_status read_soft(struct bench *bench, const struct kd_cache *cache,
                                double temperature, const uint64_t *ids)
{
    const struct kd_soft_spec spec = {temperature, KD_TAIL_SPREAD};

    return kd_soft_read(cache, &spec, ids, bench->views, BATCH,
                        &(struct kd_soft){.p = bench->values});
}

static enum kd_status soften(struct bench *bench, const uint64_t *ids)
{
    return read_soft(bench, bench->dense.cache, 4, ids);
}

static enum kd_status temper(struct bench *bench, const uint64_t *ids)
{
    return read_soft(bench, bench->dense.cache, 2, ids);
}

static enum kd_status expand(struct bench *bench, const uint64_t *ids)
{
    return read_soft(bench, bench->top.cache, 4, ids);
}

static const struct {
    const char *name;
    enum kd_status (*batch)(struct bench *bench, const uint64_t *ids);
} cases[] = {{"random checked", read_checked},
             {"random unchecked", read_unchecked},
             {"memcpy", copy},
             {"soft", soften},
             {"soft tempered", temper},
             {"expand", expand}};

#define CASES (sizeof cases / sizeof cases[0])

/* Batches for a while, through all rows again and again. */
static enum kd_status measure(struct bench *bench, size_t which, double *rate)
{
    enum kd_status status = KD_EBUG;
    const double started = kd_seconds();
    double seconds = 0;
    size_t rows = 0;

    while (seconds < run_seconds) {
        for (size_t i = 0; i < 16; i++) {
            if (bench->rows - bench->at < BATCH)
                bench->at = 0;
            KD_TRY(cases[which].batch(bench, bench->order + bench->at));
            bench->at += BATCH;
            rows += BATCH;
        }
        seconds = kd_seconds() - started;
    }
    *rate = (double)rows / seconds;
    status = KD_OK;
out:
    return status;
}

static int ascending(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static enum kd_status measure_all(struct bench *bench)
{
    enum kd_status status = KD_EBUG;
    double rates[CASES][RUNS + 1];

    for (size_t run = 0; run <= RUNS;
         run++) /* the first warms up, and is overwritten */
        for (size_t i = 0; i < CASES; i++)
            KD_TRY(measure(bench, i, &rates[i][run > 0 ? run - 1 : 0]));
    for (size_t i = 0; i < CASES; i++) {
        qsort(rates[i], RUNS, sizeof rates[i][0], ascending);
        printf("%s %.0f\n", cases[i].name, rates[i][RUNS / 2]);
    }
out:
    return status;
}

static enum kd_status prepare(struct bench *bench, const char *directory)
{
    enum kd_status status = KD_EBUG;
    uint32_t *order = NULL;

    KD_TRY(kd_make_directory(directory));
    KD_TRY(open_source(directory, "dense", bench->rows, bench->classes, &bench->dense));
    KD_TRY(open_source(directory, "top", bench->rows, bench->classes, &bench->top));
    KD_TRY(KD_NEW(order, bench->rows));
    KD_TRY(KD_NEW(bench->order, bench->rows));
    KD_TRY(KD_NEW(bench->views, bench->rows));
    KD_TRY(KD_NEW(bench->values, BATCH * bench->classes));
    kd_random_permutation(1, 0, order, (uint32_t)bench->rows);
    for (size_t i = 0; i < bench->rows; i++)
        bench->order[i] = order[i];
out:
    free(order);
    return status;
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    enum kd_status status = KD_EBUG;

    kd_threads_share(argv);
    if (argc != 5) {
        fprintf(stderr, "usage: bench_cache DIRECTORY ROWS CLASSES THREADS\n");
        return KD_EUSAGE;
    }
    bench.rows = strtoul(argv[2], NULL, 10);
    bench.classes = strtoul(argv[3], NULL, 10);
    kd_threads_set(strtoul(argv[4], NULL, 10));
    if (bench.rows < BATCH || bench.classes <= KEPT) {
        fprintf(stderr, "bench_cache: at least %d rows and more than %d classes\n",
                BATCH, KEPT);
        return KD_EUSAGE;
    }
    KD_TRY(prepare(&bench, argv[1]));
    KD_TRY(measure_all(&bench));
out:
    if (status != KD_OK)
        fprintf(stderr, "bench_cache: %s\n", kd_error());
    close_source(&bench.dense);
    close_source(&bench.top);
    free(bench.order);
    free(bench.views);
    free(bench.values);
    return (int)status;
}
