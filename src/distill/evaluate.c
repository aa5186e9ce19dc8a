/* SPDX-License-Identifier: MIT */
/*
 * An evaluation as a whole: all predictors step through the same samples, block by
 * block. Threads measure rows; sums are taken in the order of rows, so that they do
 * not depend on how many threads there are.
 */
#include "distill/evaluate_internal.h"

#include "distill/predictor_internal.h"
#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/thread.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A block holds about so many values of all predictors and pairs together. */
#define BLOCK_VALUES ((size_t)1 << 22)
#define BLOCK_ROWS   4096
#define NETWORK_ROWS 256 /* blocks are multiples of it where they can */

/* How far two predictors are apart in a row. */
struct distance {
    double variation, divergence;
};

struct run {
    const struct kd_evaluate_options *options;
    const struct kd_evaluate_visit *visit; /* NULL: nobody follows */
    struct kd_evaluation *evaluation;
    struct kd_dataset *data; /* NULL without options->data */
    size_t count, open;      /* predictors, and those of them that were opened */
    struct kd_predictor *predictors;
    const struct kd_predictor *first_cache; /* NULL if there is none */
    size_t classes;
    struct kd_view_spec spec;

    /* the block in hand */
    size_t capacity, rows;
    uint64_t *ids;               /* [capacity] */
    uint32_t *views;             /* [capacity] */
    int32_t *labels;             /* [capacity] */
    double *kept;                /* [capacity] of the predictor that is measured */
    float *p;                    /* [count][capacity][classes] */
    struct kd_metrics_row *each; /* [count][capacity] */
    struct distance *distances;  /* [count * (count - 1) / 2][capacity] */
    size_t current;              /* the predictor that is measured */
};

/* -- which samples ---------------------------------------------------------- */

/* All predictors must speak of the same classes. */
static enum kd_status check_classes(const struct run *run)
{
    const struct kd_predictor *a = &run->predictors[0];

    for (size_t i = 1; i < run->count; i++) {
        const struct kd_predictor *b = &run->predictors[i];

        if (a->num_classes != b->num_classes)
            return kd_fail(KD_EDATA, "%s: has %u classes, %s has %u", b->name,
                           (unsigned)b->num_classes, a->name, (unsigned)a->num_classes);
        if (!kd_digest_equal(&a->class_map_digest, &b->class_map_digest))
            return kd_fail(KD_EDATA,
                           "%s: its classes are not those of %s, or not in the same "
                           "order",
                           b->name, a->name);
    }
    return KD_OK;
}

/* The views that all caches have; the clean one alone if it is among them. */
static enum kd_status choose_views(struct run *run)
{
    struct kd_evaluation *e = run->evaluation;
    uint64_t first = 0, end = UINT64_MAX;

    for (size_t i = 0; i < run->count; i++) {
        const struct kd_identity *of;

        if (run->predictors[i].cache == NULL)
            continue;
        of = kd_cache_identity(run->predictors[i].cache);
        first = of->first_view > first ? of->first_view : first;
        if ((uint64_t)of->first_view + of->views < end)
            end = (uint64_t)of->first_view + of->views;
    }
    if (first >= end)
        return kd_fail(KD_EDATA, "the caches have no view in common");
    e->first_view = (uint32_t)first;
    e->views = first == 0 ? 1 : (uint32_t)(end - first);
    return KD_OK;
}

/* What views other than the clean one look like: to all caches the same. */
static enum kd_status choose_augment(struct run *run)
{
    struct kd_evaluation *e = run->evaluation;
    const struct kd_identity *like = NULL;

    snprintf(e->augment, sizeof e->augment, "none");
    if (e->first_view == 0)
        return kd_view_parse("none", 0, &run->spec);
    like = kd_cache_identity(run->first_cache->cache);
    snprintf(e->augment, sizeof e->augment, "%s", like->augment);
    for (size_t i = 0; i < run->count; i++) {
        const struct kd_predictor *p = &run->predictors[i];
        const struct kd_identity *of =
            p->cache != NULL ? kd_cache_identity(p->cache) : like;

        if (strcmp(of->augment, like->augment) != 0 || of->seed != like->seed)
            return kd_fail(KD_EDATA,
                           "%s: its views (%s, seed %llu) are not those of %s "
                           "(%s, seed %llu)",
                           p->name, of->augment, (unsigned long long)of->seed,
                           run->first_cache->name, like->augment,
                           (unsigned long long)like->seed);
    }
    return kd_view_parse(like->augment, like->seed, &run->spec);
}

static enum kd_status fail_disjoint(void)
{
    return kd_fail(KD_EDATA, "the predictors have no sample in common");
}

/* Without options->data: the caches must be of one dataset. */
static enum kd_status check_datasets(const struct run *run)
{
    const struct kd_identity *like = kd_cache_identity(run->first_cache->cache);

    for (size_t i = 0; i < run->count; i++) {
        const struct kd_predictor *p = &run->predictors[i];

        if (!kd_digest_equal(&kd_cache_identity(p->cache)->dataset_digest,
                             &like->dataset_digest))
            return kd_fail(KD_EDATA, "%s: was dumped over another dataset than %s",
                           p->name, run->first_cache->name);
    }
    return KD_OK;
}

/* From the first id that all may have to the last. */
static enum kd_status choose_ids(struct run *run)
{
    enum kd_status status = KD_EBUG;
    struct kd_evaluation *e = run->evaluation;
    uint64_t first = 0, end = UINT64_MAX;

    for (size_t i = 0; i < run->count; i++)
        KD_TRY(kd_predictor_ready(&run->predictors[i], run->data));
    if (run->data != NULL) {
        first = kd_dataset_facts(run->data)->first;
        end = kd_dataset_facts(run->data)->end;
    } else {
        KD_TRY(check_datasets(run));
    }
    for (size_t i = 0; i < run->count; i++) {
        const struct kd_predictor *p = &run->predictors[i];

        if (p->cache == NULL)
            continue;
        first = p->first_id > first ? p->first_id : first;
        end = p->end_id < end ? p->end_id : end;
    }
    if (first >= end)
        return fail_disjoint();
    e->first_id = first;
    e->num_ids = end - first;
    status = KD_OK;
out:
    return status;
}

static enum kd_status choose_samples(struct run *run)
{
    enum kd_status status = KD_EBUG;
    struct kd_evaluation *e = run->evaluation;

    KD_TRY(check_classes(run));
    KD_TRY(choose_views(run));
    KD_TRY(choose_augment(run));
    KD_TRY(choose_ids(run));
    if (e->num_ids > UINT64_MAX / e->views)
        return kd_fail(KD_EDATA, "ids times views do not fit 64 bits");
    status = KD_OK;
out:
    return status;
}

/* -- blocks ----------------------------------------------------------------- */

/* Rows a block, so that values and distances of all of them stay in bounds. */
static size_t choose_rows(size_t count, size_t classes)
{
    size_t rows = BLOCK_VALUES / (count * (classes + 2 * count));

    if (rows > BLOCK_ROWS)
        rows = BLOCK_ROWS;
    if (rows > NETWORK_ROWS)
        rows -= rows % NETWORK_ROWS;
    return rows > 0 ? rows : 1;
}

static enum kd_status block_init(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const size_t pairs = run->count * (run->count - 1) / 2;

    run->classes = run->predictors[0].num_classes;
    run->capacity = choose_rows(run->count, run->classes);
    KD_TRY(KD_NEW(run->ids, run->capacity));
    KD_TRY(KD_NEW(run->views, run->capacity));
    KD_TRY(KD_NEW(run->labels, run->capacity));
    KD_TRY(KD_NEW(run->kept, run->capacity));
    KD_TRY(KD_NEW(run->p, run->count * run->capacity * run->classes));
    KD_TRY(KD_NEW(run->each, run->count * run->capacity));
    KD_TRY(KD_NEW(run->distances, pairs * run->capacity));
    status = KD_OK;
out:
    return status;
}

/* Whether all caches have a row. Its label: the dataset's, or the first known one. */
static bool find_row(const struct run *run, uint64_t id, uint32_t view, int32_t *label)
{
    *label = run->data != NULL ? kd_dataset_label(run->data, id) : -1;
    for (size_t i = 0; i < run->count; i++) {
        const struct kd_cache *cache = run->predictors[i].cache;
        const struct kd_shard *shard = NULL;
        uint64_t row = 0;

        if (cache == NULL)
            continue;
        if (!kd_cache_find(cache, id, view, &shard, &row))
            return false;
        if (run->data == NULL && *label < 0)
            *label = kd_shard_label(shard, row);
    }
    return true;
}

/* Fills the block with rows that all have, from the candidate at *next on. */
static void name_rows(struct run *run, uint64_t *next)
{
    struct kd_evaluation *e = run->evaluation;
    const uint64_t candidates = e->num_ids * e->views;
    size_t n = 0;

    for (; *next < candidates && n < run->capacity; ++*next) {
        const uint64_t id = e->first_id + *next / e->views;
        const uint32_t view = e->first_view + (uint32_t)(*next % e->views);

        if (!find_row(run, id, view, &run->labels[n])) {
            e->left_out++;
            continue;
        }
        run->ids[n] = id;
        run->views[n++] = view;
    }
    run->rows = n;
}

/* Measures rows of one predictor and leaves probabilities in place of their logs. */
static enum kd_status measure_rows(void *context, size_t begin, size_t end)
{
    struct run *run = context;
    const size_t at = run->current * run->capacity;

    for (size_t i = begin; i < end; i++) {
        float *row = run->p + (at + i) * run->classes;

        kd_metrics_measure(row, run->classes, run->labels[i], row, &run->each[at + i]);
        run->each[at + i].kept = run->kept[i];
    }
    return KD_OK;
}

static void compare_pair(struct run *run, size_t a, size_t b, size_t i,
                         struct distance *to)
{
    const size_t row_a = a * run->capacity + i, row_b = b * run->capacity + i;

    kd_pair_measure(run->p + row_a * run->classes, run->each[row_a].entropy,
                    run->p + row_b * run->classes, run->each[row_b].entropy,
                    run->classes, &to->variation, &to->divergence);
}

static enum kd_status compare_rows(void *context, size_t begin, size_t end)
{
    struct run *run = context;

    for (size_t i = begin; i < end; i++) {
        size_t pair = 0;

        for (size_t a = 0; a < run->count; a++)
            for (size_t b = 0; b < a; b++, pair++)
                compare_pair(run, a, b, i, &run->distances[pair * run->capacity + i]);
    }
    return KD_OK;
}

static void add_pair(struct run *run, size_t a, size_t b, size_t pair)
{
    struct kd_pair_metrics *sums = &run->evaluation->pairs[a * run->count + b];

    for (size_t i = 0; i < run->rows; i++) {
        const struct distance *distance = &run->distances[pair * run->capacity + i];

        sums->agreeing += run->each[a * run->capacity + i].best ==
                          run->each[b * run->capacity + i].best;
        sums->variation += distance->variation;
        sums->divergence += distance->divergence;
    }
    run->evaluation->pairs[b * run->count + a] = *sums;
}

/* How many predictors are right about each labelled row. */
static void add_right(struct run *run)
{
    struct kd_evaluation *e = run->evaluation;

    for (size_t i = 0; i < run->rows; i++) {
        size_t right = 0;

        if (run->labels[i] < 0)
            continue;
        for (size_t a = 0; a < run->count; a++)
            right += run->each[a * run->capacity + i].rank == 0;
        e->right[right]++;
        e->labelled++;
    }
}

static void add_block(struct run *run)
{
    size_t pair = 0;

    for (size_t a = 0; a < run->count; a++) {
        for (size_t i = 0; i < run->rows; i++)
            kd_metrics_add(&run->evaluation->predictors[a].metrics,
                           &run->each[a * run->capacity + i]);
        for (size_t b = 0; b < a; b++)
            add_pair(run, a, b, pair++);
        run->evaluation->pairs[a * run->count + a].agreeing += run->rows;
    }
    add_right(run);
    run->evaluation->samples += run->rows;
}

static enum kd_status show_rows(const struct run *run)
{
    enum kd_status status = KD_OK;

    for (size_t i = 0; i < run->rows && status == KD_OK; i++)
        status = run->visit->row(
            run->visit->context,
            &(struct kd_evaluated){.id = run->ids[i],
                                   .view = run->views[i],
                                   .label = run->labels[i],
                                   .classes = run->classes,
                                   .stride = run->capacity * run->classes,
                                   .p = run->p + i * run->classes});
    return status;
}

/* Blocks go by in the order of ids: what comes next is fetched, what has been read is
 * dropped, with the block before it for the sake of pages that both have parts of. */
static void advise(const struct run *run)
{
    const uint64_t first = run->ids[0], end = run->ids[run->rows - 1] + 1;
    const uint64_t span = end - first;

    for (size_t i = 0; i < run->count; i++) {
        const struct kd_cache *cache = run->predictors[i].cache;

        if (cache == NULL)
            continue;
        kd_cache_prefetch(cache, end, end + span);
        kd_cache_forget(cache, first > span ? first - span : 0, end);
    }
}

static enum kd_status run_block(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const size_t pairs = run->count * (run->count - 1) / 2;
    const double classes = (double)run->classes;

    for (run->current = 0; run->current < run->count; run->current++) {
        KD_TRY(kd_predictor_read(
            &run->predictors[run->current], &run->spec, run->ids, run->views, run->rows,
            run->p + run->current * run->capacity * run->classes, run->kept));
        KD_TRY(
            kd_parallel(run->rows, kd_threads_grain(4 * classes), measure_rows, run));
    }
    if (pairs > 0)
        KD_TRY(kd_parallel(run->rows, kd_threads_grain(2 * classes * (double)pairs),
                           compare_rows, run));
    add_block(run);
    if (run->visit != NULL)
        KD_TRY(show_rows(run));
    advise(run);
    status = KD_OK;
out:
    return status;
}

/* -- the run ---------------------------------------------------------------- */

static enum kd_status run_blocks(struct run *run)
{
    enum kd_status status = KD_EBUG;
    const uint64_t candidates = run->evaluation->num_ids * run->evaluation->views;
    struct kd_progress progress;
    uint64_t at = 0;

    kd_progress_open(&progress, "evaluating", "samples", candidates);
    while (at < candidates) {
        if (kd_interrupted()) {
            status = kd_fail_interrupted("evaluating");
            goto out;
        }
        name_rows(run, &at);
        if (run->rows > 0)
            KD_TRY(run_block(run));
        kd_progress_set(&progress, at);
    }
    status = run->evaluation->samples > 0 ? KD_OK : fail_disjoint();
out:
    kd_progress_close(&progress);
    return status;
}

static double choose_temperature(const struct run *run)
{
    const double temperature = run->options->temperature;

    if (temperature == 0 && run->open > 0 && run->visit != NULL &&
        run->visit->like_first)
        return run->predictors[0].temperature;
    return temperature;
}

static enum kd_status open_predictors(struct run *run, const char *const *names)
{
    enum kd_status status = KD_EBUG;
    struct kd_evaluation *e = run->evaluation;

    for (; run->open < run->count; run->open++) {
        struct kd_predictor *p = &run->predictors[run->open];

        KD_TRY(kd_predictor_open(p, names[run->open], choose_temperature(run)));
        e->predictors[run->open].temperature = p->temperature;
        e->predictors[run->open].name = kd_copy_string(names[run->open]);
        KD_TRY(e->predictors[run->open].name != NULL ? KD_OK : KD_EMEMORY);
        if (p->cache == NULL)
            continue;
        e->predictors[run->open].sparse =
            kd_codec_is_sparse(&kd_cache_identity(p->cache)->codec);
        if (run->first_cache == NULL)
            run->first_cache = p;
    }
    if (run->options->data != NULL)
        KD_TRY(kd_dataset_open(run->options->data, &run->data));
    status = KD_OK;
out:
    return status;
}

static enum kd_status evaluation_new(size_t count, size_t bins,
                                     struct kd_evaluation **evaluation)
{
    enum kd_status status = KD_EBUG;
    struct kd_evaluation *made = NULL;

    KD_TRY(KD_NEW(made, 1));
    made->count = count;
    KD_TRY(KD_NEW(made->predictors, count));
    KD_TRY(KD_NEW(made->pairs, count * count));
    KD_TRY(KD_NEW(made->right, count + 1));
    for (size_t i = 0; i < count; i++)
        made->predictors[i].metrics.num_bins = bins > 0 ? bins : KD_CALIBRATION_BINS;
    *evaluation = made;
    made = NULL;
    status = KD_OK;
out:
    kd_evaluation_free(made);
    return status;
}

void kd_evaluation_free(struct kd_evaluation *evaluation)
{
    if (evaluation == NULL)
        return;
    for (size_t i = 0; i < evaluation->count && evaluation->predictors != NULL; i++)
        free(evaluation->predictors[i].name);
    free(evaluation->predictors);
    free(evaluation->pairs);
    free(evaluation->right);
    free(evaluation);
}

static void run_clear(struct run *run)
{
    /* The one that could not be opened may be half open. */
    for (size_t i = 0; i < run->count && i <= run->open && run->predictors; i++)
        kd_predictor_clear(&run->predictors[i]);
    free(run->predictors);
    kd_dataset_close(run->data);
    free(run->ids);
    free(run->views);
    free(run->labels);
    free(run->p);
    free(run->each);
    free(run->kept);
    free(run->distances);
}

enum kd_status kd_evaluate(const char *const *names, size_t count,
                           const struct kd_evaluate_options *options,
                           struct kd_evaluation **evaluation)
{
    return kd_evaluate_each(names, count, options, NULL, evaluation);
}

enum kd_status kd_evaluate_each(const char *const *names, size_t count,
                                const struct kd_evaluate_options *options,
                                const struct kd_evaluate_visit *visit,
                                struct kd_evaluation **evaluation)
{
    enum kd_status status = KD_EBUG;
    struct run run = {.options = options, .visit = visit, .count = count};

    *evaluation = NULL;
    if (count < 1 || count > KD_MAX_PREDICTORS)
        return kd_fail(KD_EUSAGE, "%zu predictors: must be 1 to %d", count,
                       KD_MAX_PREDICTORS);
    if (options->temperature != 0 &&
        !(options->temperature >= 0.001 && options->temperature <= 1e6))
        return kd_fail(KD_EUSAGE, "temperature is %g: must be 0.001 to 1000000",
                       options->temperature);
    if (options->bins > KD_MAX_CALIBRATION_BINS)
        return kd_fail(KD_EUSAGE, "%zu bins: must be 1 to %d", options->bins,
                       KD_MAX_CALIBRATION_BINS);
    KD_TRY(evaluation_new(count, options->bins, &run.evaluation));
    KD_TRY(KD_NEW(run.predictors, count));
    KD_TRY(open_predictors(&run, names));
    KD_TRY(choose_samples(&run));
    KD_TRY(block_init(&run));
    KD_TRY(run_blocks(&run));
    *evaluation = run.evaluation;
    run.evaluation = NULL;
    status = KD_OK;
out:
    kd_evaluation_free(run.evaluation);
    run_clear(&run);
    return status;
}
