/* SPDX-License-Identifier: MIT */
/*
 * Comparisons of caches with a reference, row by row. Threads compare rows; sums are
 * taken in the order of rows, so that they do not depend on how many threads there are.
 */
#include "kd/evaluate.h"

#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/thread.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A block holds about so many values of both. */
#define BLOCK_VALUES ((size_t)1 << 21)
#define BLOCK_ROWS   4096
#define GRAIN_VALUES 4096

/* How a row differs. */
struct difference {
    double kl, variation;
    bool agrees;
};

struct comparing {
    const struct kd_cache *reference, *cache;
    struct kd_soft_spec spec, reference_spec;
    size_t classes, capacity;
    float *r, *q, *tail;      /* [capacity][classes], [capacity] */
    struct difference *each;  /* [capacity] */
    struct kd_comparison *to; /* the sums */
};

/* -- one row ------------------------------------------------------------------ */

static double divergence(double r, double q)
{
    return r > 0 ? r * log(r / q) : 0;
}

static void compare_row(const float *r, const float *q, double tail, size_t classes,
                        struct difference *to)
{
    double kl = 0, variation = 0, rest = 0;
    size_t best_r = 0, best_q = 0;

    for (size_t c = 0; c < classes; c++) {
        best_r = r[c] > r[best_r] ? c : best_r;
        best_q = q[c] > q[best_q] ? c : best_q;
        if (q[c] < 0) {
            rest += (double)r[c];
            continue;
        }
        kl += divergence((double)r[c], (double)q[c]);
        variation += fabs((double)r[c] - (double)q[c]);
    }
    kl += divergence(rest, tail);
    variation += fabs(rest - tail);
    *to = (struct difference){fmax(kl, 0), variation / 2, best_r == best_q};
}

static enum kd_status compare_rows(void *context, size_t begin, size_t end)
{
    const struct comparing *c = context;

    for (size_t i = begin; i < end; i++)
        compare_row(c->r + i * c->classes, c->q + i * c->classes, (double)c->tail[i],
                    c->classes, &c->each[i]);
    return KD_OK;
}

/* -- all rows of a cache ------------------------------------------------------ */

static enum kd_status compare_block(struct comparing *c, const uint64_t *ids,
                                    const uint32_t *views, size_t count)
{
    enum kd_status status = KD_EBUG;
    struct kd_comparison *to = c->to;

    memset(c->tail, 0, count * sizeof *c->tail);
    KD_TRY(kd_soft_read(c->reference, &c->reference_spec, ids, views, count,
                        &(struct kd_soft){.p = c->r}));
    KD_TRY(kd_soft_read(c->cache, &c->spec, ids, views, count,
                        &(struct kd_soft){.p = c->q, .tail = c->tail}));
    KD_TRY(kd_parallel(count, GRAIN_VALUES / c->classes + 1, compare_rows, c));
    for (size_t i = 0; i < count; i++) {
        const struct difference *d = &c->each[i];
        to->kl += d->kl;
        to->variation += d->variation;
        to->worst_kl = fmax(to->worst_kl, d->kl);
        to->worst_variation = fmax(to->worst_variation, d->variation);
        to->agreeing += d->agrees;
    }
    to->rows += count;
    status = KD_OK;
out:
    return status;
}

static enum kd_status compare_shard(struct comparing *c, const struct kd_shard *shard,
                                    struct kd_progress *progress)
{
    const uint64_t rows = kd_shard_rows(shard);
    size_t count = 0;

    for (uint64_t row = 0; row < rows; row += count) {
        count = rows - row < c->capacity ? (size_t)(rows - row) : c->capacity;
        if (kd_interrupted())
            return kd_fail_interrupted("comparing");
        const enum kd_status status = compare_block(c, kd_shard_ids(shard) + row,
                                                    kd_shard_views(shard) + row, count);
        if (status != KD_OK)
            return status;
        kd_progress_set(progress, c->to->rows);
    }
    return KD_OK;
}

static enum kd_status compare_shards(struct comparing *c)
{
    enum kd_status status = KD_OK;
    struct kd_progress progress;

    kd_progress_open(&progress, "comparing", "rows", kd_cache_rows(c->cache));
    for (size_t i = 0; i < kd_cache_num_shards(c->cache) && status == KD_OK; i++) {
        const struct kd_shard *shard = kd_cache_shard(c->cache, i);
        struct stat facts;
        if (stat(kd_shard_path(shard), &facts) == 0)
            c->to->bytes += (uint64_t)facts.st_size;
        status = compare_shard(c, shard, &progress);
    }
    kd_progress_close(&progress);
    return status;
}

/* -- opening ------------------------------------------------------------------ */

static enum kd_status check_kin(const struct kd_cache *reference,
                                const struct kd_cache *cache)
{
    const struct kd_identity *a = kd_cache_identity(reference);
    const struct kd_identity *b = kd_cache_identity(cache);
    const char *what = NULL;

    if (!kd_digest_equal(&a->dataset_digest, &b->dataset_digest))
        what = "dataset";
    else if (a->num_classes != b->num_classes ||
             !kd_digest_equal(&a->class_map_digest, &b->class_map_digest))
        what = "classes";
    else if (strcmp(a->augment, b->augment) != 0 || a->seed != b->seed)
        what = "views";
    if (what == NULL)
        return KD_OK;
    return kd_fail(KD_EDATA, "%s: differs from %s in its %s", kd_cache_name(cache),
                   kd_cache_name(reference), what);
}

static enum kd_status check_use(const struct kd_cache *cache,
                                const struct kd_soft_spec *spec)
{
    const enum kd_status status = kd_soft_check(kd_cache_identity(cache), spec);

    if (status != KD_OK)
        kd_error_prefix("%s", kd_cache_name(cache));
    return status;
}

static enum kd_status comparing_init(struct comparing *c)
{
    enum kd_status status = KD_EBUG;
    const size_t rows = BLOCK_VALUES / 2 / c->classes + 1;

    c->capacity = rows < BLOCK_ROWS ? rows : BLOCK_ROWS;
    KD_TRY(KD_NEW(c->r, c->capacity * c->classes));
    KD_TRY(KD_NEW(c->q, c->capacity * c->classes));
    KD_TRY(KD_NEW(c->tail, c->capacity));
    KD_TRY(KD_NEW(c->each, c->capacity));
    status = KD_OK;
out:
    return status;
}

static enum kd_status compare_one(struct comparing *c, const char *name)
{
    enum kd_status status = KD_EBUG;
    struct kd_cache *cache = NULL;

    KD_TRY(kd_cache_open(name, &cache));
    KD_TRY(check_kin(c->reference, cache));
    KD_TRY(check_use(cache, &c->spec));
    c->cache = cache;
    KD_TRY(compare_shards(c));
    status = KD_OK;
out:
    kd_cache_close(cache);
    return status;
}

enum kd_status kd_compare(const char *reference, const char *const *names, size_t count,
                          const struct kd_compare_options *options,
                          struct kd_comparison **comparisons)
{
    enum kd_status status = KD_EBUG;
    struct comparing c = {.spec = {options->temperature, options->tail}};
    struct kd_cache *cache = NULL;
    struct kd_comparison *made = NULL;

    KD_TRY(kd_cache_open(reference, &cache));
    if (c.spec.temperature == 0)
        c.spec.temperature = kd_cache_identity(cache)->temperature;
    c.reference_spec = (struct kd_soft_spec){c.spec.temperature, KD_TAIL_SPREAD};
    c.reference = cache;
    c.classes = kd_cache_identity(cache)->num_classes;
    KD_TRY(check_use(cache, &c.reference_spec));
    KD_TRY(comparing_init(&c));
    KD_TRY(KD_NEW(made, count));
    for (size_t i = 0; i < count; i++) {
        made[i].name = kd_copy_string(names[i]);
        KD_TRY(made[i].name != NULL ? KD_OK : KD_EMEMORY);
        made[i].temperature = c.spec.temperature;
        c.to = &made[i];
        KD_TRY(compare_one(&c, names[i]));
    }
    *comparisons = made;
    made = NULL;
    status = KD_OK;
out:
    kd_comparisons_free(made, count);
    kd_cache_close(cache);
    free(c.r);
    free(c.q);
    free(c.tail);
    free(c.each);
    return status;
}

void kd_comparisons_free(struct kd_comparison *comparisons, size_t count)
{
    for (size_t i = 0; comparisons != NULL && i < count; i++)
        free(comparisons[i].name);
    free(comparisons);
}

/* -- telling ------------------------------------------------------------------ */

enum kd_status kd_comparisons_write(const struct kd_comparison *comparisons,
                                    size_t count, FILE *to)
{
    size_t width = 4;

    for (size_t i = 0; i < count; i++)
        if (strlen(comparisons[i].name) > width)
            width = strlen(comparisons[i].name);
    fprintf(to, "%-*s %9s %6s %9s %10s %10s %10s %10s %9s\n", (int)width, "name",
            "rows", "T", "bytes/row", "KL", "worst KL", "variation", "worst",
            "agreement");
    for (size_t i = 0; i < count; i++) {
        const struct kd_comparison *c = &comparisons[i];
        const double rows = (double)c->rows;
        fprintf(to, "%-*s %9llu %6g %9.1f %10.3e %10.3e %10.3e %10.3e %9.4f\n",
                (int)width, c->name, (unsigned long long)c->rows, c->temperature,
                (double)c->bytes / rows, c->kl / rows, c->worst_kl, c->variation / rows,
                c->worst_variation, (double)c->agreeing / rows);
    }
    if (ferror(to))
        return kd_fail_errno(KD_EIO, "cannot write the table");
    return KD_OK;
}

void kd_comparisons_json(const struct kd_comparison *comparisons, size_t count,
                         struct kd_json *json)
{
    kd_json_begin(json, NULL, '{');
    kd_json_begin(json, "comparisons", '[');
    for (size_t i = 0; i < count; i++) {
        const struct kd_comparison *c = &comparisons[i];
        const double rows = (double)c->rows;
        kd_json_begin(json, NULL, '{');
        kd_json_string(json, "name", c->name);
        kd_json_u64(json, "rows", c->rows);
        kd_json_f64(json, "temperature", c->temperature);
        kd_json_u64(json, "bytes", c->bytes);
        kd_json_f64(json, "kl_mean", c->kl / rows);
        kd_json_f64(json, "kl_worst", c->worst_kl);
        kd_json_f64(json, "total_variation_mean", c->variation / rows);
        kd_json_f64(json, "total_variation_worst", c->worst_variation);
        kd_json_f64(json, "agreement", (double)c->agreeing / rows);
        kd_json_end(json);
    }
    kd_json_end(json);
    kd_json_end(json);
}
