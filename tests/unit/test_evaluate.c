/* SPDX-License-Identifier: MIT */
/* Evaluations: metrics by hand, and whole runs against a second way in double. */
#include "teach_fixture.h"

#include "kd/dump.h"
#include "kd/evaluate.h"
#include "kd/thread.h"

#include <cjson/cJSON.h>
#include <float.h>
#include <math.h>

static const char small[] = "{family: mlp, hidden: [16]}";

/* Spans a block of 4096 rows; the last batch of a network is not full. */
#define SAMPLES 4200

static bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance;
}

/* -- single samples --------------------------------------------------------- */

static void to_logs(const double *p, float *log_p, size_t classes)
{
    for (size_t c = 0; c < classes; c++)
        log_p[c] = p[c] > 0 ? (float)log(p[c]) : -FLT_MAX;
}

static void a_sample_gives_the_figures_worked_out_by_hand(void **state)
{
    const double p[3] = {0.5, 0.25, 0.25};
    struct kd_metrics_row row;
    float log_p[3], q[3];

    (void)state;
    to_logs(p, log_p, 3);
    kd_metrics_measure(log_p, 3, 1, q, &row);
    assert_int_equal(row.best, 0);
    assert_int_equal(row.rank, 1);
    assert_true(near(row.nll, 2 * log(2), 1e-6));
    assert_true(near(row.brier, 0.25 + 0.5625 + 0.0625, 1e-6));
    assert_true(near(row.entropy, 1.5 * log(2), 1e-6));
    assert_true(near(row.confidence, 0.5, 1e-6));
    assert_true(row.kept == 1);
    for (size_t c = 0; c < 3; c++)
        assert_true(near((double)q[c], p[c], 1e-7));
}

/* Random distributions of any length, of a few levels each, so that many are equal. */
static void draw(struct kd_random *r, size_t classes, double *p)
{
    double sum = 0;

    for (size_t c = 0; c < classes; c++)
        sum += p[c] = pow(10, -(double)kd_random_below(r, 8));
    for (size_t c = 0; c < classes; c++)
        p[c] /= sum;
}

#define MOST 70

static void random_samples_give_the_figures_of_the_formulas(void **state)
{
    struct kd_random r = kd_random_at(1, KD_RANDOM_TEST, 0, 0);
    double p[MOST];
    float log_p[MOST];

    (void)state;
    for (size_t classes = 2; classes <= MOST; classes++) {
        const size_t y = kd_random_below(&r, (uint32_t)classes);
        double entropy = 0, brier = 0;
        size_t best = 0, rank = 0;
        struct kd_metrics_row row;

        draw(&r, classes, p);
        to_logs(p, log_p, classes);
        for (size_t c = 0; c < classes; c++) {
            entropy -= p[c] * log(p[c]);
            brier += pow(p[c] - (c == y ? 1 : 0), 2);
            best = log_p[c] > log_p[best] ? c : best;
            rank += log_p[c] > log_p[y] || (log_p[c] == log_p[y] && c < y);
        }
        kd_metrics_measure(log_p, classes, (int32_t)y, log_p, &row);
        assert_int_equal(row.best, best);
        assert_int_equal(row.rank, rank);
        assert_true(near(row.nll, -log(p[y]), 1e-5));
        assert_true(near(row.entropy, entropy, 1e-5));
        assert_true(near(row.brier, brier, 1e-6));
        assert_true(near(row.confidence, p[best], 1e-6));
    }
}

static void among_equals_the_lowest_class_comes_first(void **state)
{
    const double p[4] = {0.1, 0.4, 0.4, 0.1};
    struct kd_metrics_row row;
    float log_p[4], q[4];

    (void)state;
    to_logs(p, log_p, 4);
    kd_metrics_measure(log_p, 4, 1, q, &row);
    assert_int_equal(row.best, 1);
    assert_int_equal(row.rank, 0);
    kd_metrics_measure(log_p, 4, 2, q, &row);
    assert_int_equal(row.rank, 1);
    kd_metrics_measure(log_p, 4, 3, q, &row);
    assert_int_equal(row.rank, 3);
}

static void a_label_without_probability_costs_infinity(void **state)
{
    const float log_p[2] = {0, -FLT_MAX}, little[2] = {0, -1000};
    struct kd_metrics metrics = {.num_bins = 1};
    struct kd_metrics_row row;
    struct kd_scores scores;
    float p[2];

    (void)state;
    kd_metrics_measure(little, 2, 1, p, &row);
    assert_true(row.nll == 1000);
    kd_metrics_add(&metrics, &row);
    assert_int_equal(metrics.impossible, 0);
    kd_metrics_measure(log_p, 2, 1, p, &row);
    kd_metrics_add(&metrics, &row);
    assert_true(row.brier == 2);
    assert_true(row.entropy == 0);
    assert_int_equal(metrics.impossible, 1);
    kd_metrics_scores(&metrics, &scores);
    assert_true(isinf(scores.nll) && scores.nll > 0);
}

static void without_a_label_only_the_sample_itself_counts(void **state)
{
    const double p[2] = {0.75, 0.25};
    struct kd_metrics metrics = {.num_bins = KD_CALIBRATION_BINS};
    struct kd_metrics_row row;
    struct kd_scores scores;
    float log_p[2], q[2];

    (void)state;
    to_logs(p, log_p, 2);
    kd_metrics_measure(log_p, 2, -1, q, &row);
    kd_metrics_add(&metrics, &row);
    kd_metrics_scores(&metrics, &scores);
    assert_int_equal(metrics.samples, 1);
    assert_int_equal(metrics.labelled, 0);
    assert_true(near(scores.confidence, 0.75, 1e-6));
    assert_true(scores.kept == 1);
    assert_true(isnan(scores.accuracy) && isnan(scores.nll) && isnan(scores.ece) &&
                isnan(scores.brier) && isnan(scores.top5));
    kd_metrics_measure(log_p, 2, 0, q, &row);
    kd_metrics_add(&metrics, &row);
    kd_metrics_scores(&metrics, &scores);
    assert_true(scores.accuracy == 1); /* of the one that has a label */
}

static void add(struct kd_metrics *metrics, double confidence, bool right)
{
    kd_metrics_add(metrics, &(struct kd_metrics_row){.label = 0,
                                                     .rank = right ? 0 : 5,
                                                     .confidence = confidence});
}

/* A bin ends with its upper edge; 2/15 and 0.4 belong to bins 1 and 5. */
static void calibration_is_over_bins_of_confidence(void **state)
{
    struct kd_metrics metrics = {.num_bins = 15}, four = {.num_bins = 4};
    struct kd_scores scores;

    (void)state;
    add(&metrics, 2.0 / 15, false);
    add(&metrics, 0.4, true);
    add(&metrics, 0.97, true);
    add(&metrics, 0.99, false);
    add(&metrics, 1, true);
    assert_int_equal(metrics.bins[1].samples, 1);
    assert_int_equal(metrics.bins[5].samples, 1);
    assert_int_equal(metrics.bins[14].samples, 3);
    assert_int_equal(metrics.bins[14].right, 2);
    kd_metrics_scores(&metrics, &scores);
    assert_true(near(scores.ece, (2.0 / 15 + 0.6 + (2.96 - 2)) / 5, 1e-12));
    assert_true(near(scores.accuracy, 0.6, 1e-12));
    assert_true(near(scores.top5, 0.6, 1e-12)); /* rank 5 is the sixth */

    add(&four, 0.25, true); /* bin 0 */
    add(&four, 0.26, false);
    add(&four, 0.5, true); /* bin 1, as the one before */
    kd_metrics_scores(&four, &scores);
    assert_int_equal(four.bins[1].samples, 2);
    assert_true(near(scores.ece, (0.75 + 0.24) / 3, 1e-12));
}

/* -- pairs ------------------------------------------------------------------ */

static double reference_divergence(const double *p, const double *q, size_t classes)
{
    double sum = 0;

    for (size_t c = 0; c < classes; c++) {
        const double m = (p[c] + q[c]) / 2;

        sum += p[c] > 0 ? p[c] * log(p[c] / m) / 2 : 0;
        sum += q[c] > 0 ? q[c] * log(q[c] / m) / 2 : 0;
    }
    return sum;
}

struct side {
    double p[MOST]; /* as floats have it */
    float row[MOST];
    struct kd_metrics_row measured;
};

static void make_side(struct side *side, const double *p, size_t classes)
{
    float log_p[MOST];

    to_logs(p, log_p, classes);
    kd_metrics_measure(log_p, classes, -1, side->row, &side->measured);
    for (size_t c = 0; c < classes; c++)
        side->p[c] = (double)side->row[c];
}

static void measure_pair(const struct side *a, const struct side *b, size_t classes,
                         double *variation, double *divergence)
{
    kd_pair_measure(a->row, a->measured.entropy, b->row, b->measured.entropy, classes,
                    variation, divergence);
}

static void random_pairs_give_the_distances_of_the_formulas(void **state)
{
    struct kd_random r = kd_random_at(2, KD_RANDOM_TEST, 0, 0);
    double p[MOST], variation = 0, divergence = 0, back[2];
    struct side a, b;

    (void)state;
    for (size_t classes = 2; classes <= MOST; classes++) {
        double apart = 0;

        draw(&r, classes, p);
        make_side(&a, p, classes);
        draw(&r, classes, p);
        make_side(&b, p, classes);
        for (size_t c = 0; c < classes; c++)
            apart += fabs(a.p[c] - b.p[c]) / 2;
        measure_pair(&a, &b, classes, &variation, &divergence);
        assert_true(near(variation, apart, 1e-14));
        assert_true(near(divergence, reference_divergence(a.p, b.p, classes), 1e-14));
        measure_pair(&b, &a, classes, &back[0], &back[1]);
        assert_true(back[0] == variation && back[1] == divergence);
        measure_pair(&b, &b, classes, &variation, &divergence);
        assert_true(variation == 0 && divergence == 0);
    }
}

static void what_has_no_class_in_common_is_as_far_apart_as_can_be(void **state)
{
    const double one[3] = {1, 0, 0}, rest[3] = {0, 0.5, 0.5};
    double variation = 0, divergence = 0;
    struct side a, b;

    (void)state;
    make_side(&a, one, 3);
    make_side(&b, rest, 3);
    measure_pair(&a, &b, 3, &variation, &divergence);
    assert_true(variation == 1);
    assert_true(near(divergence, log(2), 1e-15));
    assert_true(a.measured.entropy == 0);
}

/* -- whole runs ------------------------------------------------------------- */

static const char *images(const char *slice)
{
    static char name[20000];

    snprintf(name, sizeof name, "%s%s", fixture_images("images", SAMPLES, 1), slice);
    return name;
}

/* Opens and evaluates; must work. The caller frees. */
static struct kd_evaluation *evaluate(const char *const *names, size_t count,
                                      const char *data, double temperature)
{
    const struct kd_evaluate_options options = {data, temperature, 0};
    struct kd_evaluation *evaluation = NULL;

    if (kd_evaluate(names, count, &options, &evaluation) != KD_OK)
        fail_msg("%s", kd_error());
    return evaluation;
}

static void make_cache(const char *model, const char *data_name, const char *directory,
                       double temperature, uint32_t first_view, uint32_t views)
{
    struct kd_dump_options options = {.temperature = temperature,
                                      .codec = {.dtype = KD_F32},
                                      .samples_a_shard = 1000,
                                      .first_view = first_view,
                                      .views = views,
                                      .history = "a test"};
    struct kd_teacher *teacher = NULL;
    struct kd_dataset *data = NULL;

    if (first_view + views > 1)
        assert_int_equal(kd_view_parse("crop1,flip", 3, &options.augment), KD_OK);
    if (kd_teacher_open(model, &teacher) != KD_OK ||
        kd_dataset_open(data_name, &data) != KD_OK ||
        kd_dump_run(data, teacher, fixture_path(directory), &options) != KD_OK)
        fail_msg("%s", kd_error());
    kd_dataset_close(data);
    kd_teacher_close(teacher);
}

/* All probabilities of a network, [SAMPLES][FIXTURE_CLASSES], one sample at a time
 * and in double. */
static double *reference(const char *model, double temperature)
{
    double *p = calloc(SAMPLES * FIXTURE_CLASSES, sizeof *p);
    struct kd_network *network = NULL;
    struct kd_dataset *data = NULL;
    float input[FIXTURE_SAMPLE], logits[FIXTURE_CLASSES];
    uint8_t pixels[FIXTURE_SAMPLE];

    network = fixture_build(small, FIXTURE_CLASSES, 0, 1);
    assert_int_equal(kd_model_load(model + strlen("model:"), network->graph), KD_OK);
    assert_int_equal(kd_dataset_open(images(""), &data), KD_OK);
    for (uint64_t id = 0; id < SAMPLES; id++) {
        double sum = 0;

        assert_int_equal(kd_dataset_read(data, id, pixels, NULL), KD_OK);
        fixture_input(pixels, input);
        kd_tensor_set(network->input, input, 1);
        assert_int_equal(kd_graph_forward(network->graph), KD_OK);
        kd_tensor_get(network->logits, logits, 1);
        for (size_t c = 0; c < FIXTURE_CLASSES; c++)
            sum += exp((double)logits[c] / temperature);
        for (size_t c = 0; c < FIXTURE_CLASSES; c++)
            p[id * FIXTURE_CLASSES + c] = exp((double)logits[c] / temperature) / sum;
    }
    kd_dataset_close(data);
    kd_network_free(network);
    return p;
}

static size_t best_of(const double *p)
{
    size_t best = 0;

    for (size_t c = 1; c < FIXTURE_CLASSES; c++)
        best = p[c] > p[best] ? c : best;
    return best;
}

/* Means over samples, by the formulas of the header. */
static void reference_scores(const double *p, struct kd_scores *s)
{
    double confident[15] = {0}, right[15] = {0};

    *s = (struct kd_scores){0};
    for (size_t n = 0; n < SAMPLES; n++, p += FIXTURE_CLASSES) {
        const size_t y = (size_t)fixture_label(n, FIXTURE_CLASSES), best = best_of(p);
        size_t above = 0, bin = 0;

        while (p[best] > (double)(bin + 1) / 15)
            bin++;
        confident[bin] += p[best] / SAMPLES;
        right[bin] += (best == y ? 1.0 : 0.0) / SAMPLES;
        s->accuracy += (best == y ? 1.0 : 0.0) / SAMPLES;
        s->nll -= log(p[y]) / SAMPLES;
        s->confidence += p[best] / SAMPLES;
        for (size_t c = 0; c < FIXTURE_CLASSES; c++) {
            above += p[c] > p[y];
            s->brier += pow(p[c] - (c == y ? 1 : 0), 2) / SAMPLES;
            s->entropy -= p[c] * log(p[c]) / SAMPLES;
        }
        s->top5 += (above < 5 ? 1.0 : 0.0) / SAMPLES;
    }
    for (size_t b = 0; b < 15; b++)
        s->ece += fabs(confident[b] - right[b]);
}

/* A sample at the edge of a bin, or between two classes, may fall on either side. */
static void assert_scores(const struct kd_metrics *metrics, const struct kd_scores *b)
{
    struct kd_scores a;

    kd_metrics_scores(metrics, &a);
    assert_int_equal(metrics->samples, SAMPLES);
    assert_int_equal(metrics->labelled, SAMPLES);
    assert_true(near(a.accuracy, b->accuracy, 1.5 / SAMPLES));
    assert_true(near(a.top5, b->top5, 1.5 / SAMPLES));
    assert_true(near(a.ece, b->ece, 3.0 / SAMPLES));
    assert_true(near(a.nll, b->nll, 1e-5));
    assert_true(near(a.brier, b->brier, 1e-5));
    assert_true(near(a.entropy, b->entropy, 1e-5));
    assert_true(near(a.confidence, b->confidence, 1e-5));
}

static void networks_get_the_scores_of_the_formulas(void **state)
{
    const char *a = fixture_model("a.h5", small, FIXTURE_CLASSES, 1);
    double *p = reference(a, 1), *half = reference(a, 0.5);
    struct kd_evaluation *evaluation = NULL;
    struct kd_scores wanted;

    (void)state;
    evaluation = evaluate(&a, 1, images(""), 0);
    assert_true(evaluation->predictors[0].temperature == 1);
    reference_scores(p, &wanted);
    assert_scores(&evaluation->predictors[0].metrics, &wanted);
    kd_evaluation_free(evaluation);

    evaluation = evaluate(&a, 1, images(""), 0.5);
    assert_true(evaluation->predictors[0].temperature == 0.5);
    reference_scores(half, &wanted);
    assert_scores(&evaluation->predictors[0].metrics, &wanted);
    kd_evaluation_free(evaluation);
    free(p);
    free(half);
}

static void reference_pair(const double *p, const double *q, double *agreeing,
                           double *variation)
{
    *agreeing = *variation = 0;
    for (size_t n = 0; n < SAMPLES; n++, p += FIXTURE_CLASSES, q += FIXTURE_CLASSES) {
        *agreeing += best_of(p) == best_of(q) ? 1 : 0;
        for (size_t c = 0; c < FIXTURE_CLASSES; c++)
            *variation += fabs(p[c] - q[c]) / 2;
    }
}

static void pairs_get_the_agreement_and_variation_of_the_formulas(void **state)
{
    const char *const names[] = {fixture_model("p0.h5", small, FIXTURE_CLASSES, 1),
                                 fixture_model("p1.h5", small, FIXTURE_CLASSES, 2),
                                 fixture_model("p2.h5", small, FIXTURE_CLASSES, 3)};
    struct kd_evaluation *e = evaluate(names, 3, images(""), 0);
    double *p[3], agreeing = 0, variation = 0;

    (void)state;
    for (size_t i = 0; i < 3; i++)
        p[i] = reference(names[i], 1);
    for (size_t a = 0; a < 3; a++) {
        assert_int_equal(e->pairs[a * 3 + a].agreeing, SAMPLES);
        assert_true(e->pairs[a * 3 + a].variation == 0);
        for (size_t b = 0; b < 3; b++) {
            reference_pair(p[a], p[b], &agreeing, &variation);
            assert_true(near((double)e->pairs[a * 3 + b].agreeing, agreeing, 2));
            assert_true(near(e->pairs[a * 3 + b].variation, variation, 1e-2));
        }
    }
    assert_true(e->pairs[1].agreeing < SAMPLES && e->pairs[1].variation > 100);
    for (size_t i = 0; i < 3; i++)
        free(p[i]);
    kd_evaluation_free(e);
}

static void caches_are_taken_at_their_own_temperature_or_at_another(void **state)
{
    const char *model = fixture_model("c.h5", small, FIXTURE_CLASSES, 4);
    const char *cache = fixture_path("cache");
    double *own = reference(model, 4), *one = reference(model, 1);
    struct kd_evaluation *e = NULL;
    struct kd_scores wanted;

    (void)state;
    make_cache(model, images(""), "cache", 4, 0, 1);
    e = evaluate(&cache, 1, NULL, 0); /* labels of the cache */
    assert_true(e->predictors[0].temperature == 4);
    reference_scores(own, &wanted);
    assert_scores(&e->predictors[0].metrics, &wanted);
    kd_evaluation_free(e);

    e = evaluate((const char *const[]){cache, model}, 2, images(""), 1);
    reference_scores(one, &wanted);
    assert_scores(&e->predictors[0].metrics, &wanted);
    assert_int_equal(e->pairs[1].agreeing, SAMPLES);
    assert_true(e->pairs[1].variation / SAMPLES < 1e-5);
    kd_evaluation_free(e);
    free(own);
    free(one);
}

static void a_networks_file_needs_no_prefix_and_a_shard_is_a_cache(void **state)
{
    const char *model = fixture_model("plain.h5", small, FIXTURE_CLASSES, 4);
    const char *const names[] = {fixture_path("plain.h5"),
                                 fixture_path("shards/shard-000001.h5")};
    struct kd_evaluation *e = NULL;

    (void)state;
    make_cache(model, images(""), "shards", 1, 0, 1);
    e = evaluate(names, 2, images("@1000:2000"), 0);
    assert_string_equal(e->predictors[0].name, names[0]);
    assert_int_equal(e->samples, 1000);
    assert_int_equal(e->first_id, 1000);
    assert_int_equal(e->pairs[1].agreeing, 1000);
    kd_evaluation_free(e);
    e = evaluate(&names[1], 1, NULL, 0);
    assert_int_equal(e->samples, 1000);
    kd_evaluation_free(e);
}

static void without_a_dataset_caches_are_compared_where_they_overlap(void **state)
{
    const char *const names[] = {fixture_path("low"), fixture_path("high")};
    const char *model = fixture_model("overlap.h5", small, FIXTURE_CLASSES, 4);
    struct kd_evaluation *e = NULL;

    (void)state;
    make_cache(model, images("@0:50"), "low", 4, 0, 1);
    make_cache(model, images("@30:90"), "high", 4, 0, 1);
    e = evaluate(names, 2, NULL, 0);
    assert_int_equal(e->first_id, 30);
    assert_int_equal(e->samples, 20);
    assert_int_equal(e->pairs[1].agreeing, 20);
    kd_evaluation_free(e);
}

/* The network draws the views itself; were they others, it would not agree. */
static void a_cache_without_a_clean_view_is_compared_on_its_views(void **state)
{
    const char *model = fixture_model("views.h5", small, FIXTURE_CLASSES, 4);
    const char *const names[] = {model, fixture_path("drawn")};
    struct kd_evaluation *e = NULL;

    (void)state;
    make_cache(model, images("@5:25"), "drawn", 1, 1, 3);
    e = evaluate(names, 2, images("@5:25"), 0);
    assert_int_equal(e->samples, 60);
    assert_int_equal(e->first_view, 1);
    assert_int_equal(e->views, 3);
    assert_string_equal(e->augment, "crop1,flip");
    assert_int_equal(e->pairs[1].agreeing, 60);
    assert_true(e->pairs[1].variation / 60 < 1e-5);
    kd_evaluation_free(e);
}

static void of_a_cache_with_a_clean_view_that_one_counts(void **state)
{
    const char *model = fixture_model("clean.h5", small, FIXTURE_CLASSES, 4);
    const char *const names[] = {fixture_path("clean"), model};
    struct kd_evaluation *e = NULL;

    (void)state;
    make_cache(model, images("@5:25"), "clean", 1, 0, 3);
    e = evaluate(names, 2, images("@5:25"), 0);
    assert_int_equal(e->samples, 20);
    assert_int_equal(e->views, 1);
    assert_string_equal(e->augment, "none");
    assert_int_equal(e->pairs[1].agreeing, 20);
    kd_evaluation_free(e);
}

static void results_do_not_depend_on_the_number_of_threads(void **state)
{
    const char *const names[] = {fixture_path("threads-a"), fixture_path("threads-b")};
    struct kd_evaluation *one = NULL, *three = NULL;

    (void)state;
    make_cache(fixture_model("t0.h5", small, FIXTURE_CLASSES, 1), images(""),
               "threads-a", 2, 0, 1);
    make_cache(fixture_model("t1.h5", small, FIXTURE_CLASSES, 2), images(""),
               "threads-b", 4, 0, 1);
    kd_threads_set(1);
    one = evaluate(names, 2, NULL, 0);
    kd_threads_set(3);
    three = evaluate(names, 2, NULL, 0);
    kd_threads_set(1);
    for (size_t i = 0; i < 2; i++)
        assert_memory_equal(&one->predictors[i].metrics, &three->predictors[i].metrics,
                            sizeof one->predictors[i].metrics);
    assert_memory_equal(one->pairs, three->pairs, 4 * sizeof *one->pairs);
    assert_memory_equal(one->right, three->right, 3 * sizeof *one->right);
    kd_evaluation_free(one);
    kd_evaluation_free(three);
}

/* -- refusals --------------------------------------------------------------- */

static void assert_refused(const char *const *names, size_t count, const char *data,
                           double temperature, enum kd_status status, const char *words)
{
    const struct kd_evaluate_options options = {data, temperature, 0};
    struct kd_evaluation *evaluation = NULL;

    assert_int_equal(kd_evaluate(names, count, &options, &evaluation), status);
    assert_null(evaluation);
    assert_says(words);
}

static void what_cannot_be_compared_is_refused(void **state)
{
    const char *model = fixture_model("r.h5", small, FIXTURE_CLASSES, 1);
    const char *seven = fixture_model("seven.h5", small, FIXTURE_CLASSES - 1, 1);
    const char *const cache = fixture_path("r-cache");
    const char *const other = fixture_path("r-other");
    const char *const nowhere = fixture_path("nowhere");
    char others[20000];

    (void)state;
    snprintf(others, sizeof others, "%s", fixture_images("others", 40, 2));
    make_cache(model, images("@10:30"), "r-cache", 4, 0, 1);
    make_cache(model, others, "r-other", 4, 0, 1);
    assert_refused(&model, 1, NULL, 0, KD_EUSAGE, "give --data DATASET");
    assert_refused(&model, 1, images(""), 1e-9, KD_EUSAGE, "temperature");
    assert_refused((const char *const[]){model, seven}, 2, images(""), 0, KD_EDATA,
                   "has 7 classes");
    assert_refused(&seven, 1, images(""), 0, KD_EDATA, "seven.h5: has 7 classes");
    assert_refused((const char *const[]){cache, other}, 2, NULL, 0, KD_EDATA,
                   "r-other: was dumped over another dataset");
    assert_refused(&other, 1, images(""), 0, KD_EDATA, "over another dataset");
    assert_refused(&cache, 1, images("@30:40"), 0, KD_EDATA,
                   "the predictors have no sample in common");
    assert_refused(&nowhere, 1, NULL, 0, KD_ENOINPUT, "nowhere");
    assert_refused(&model, 0, images(""), 0, KD_EUSAGE, "0 predictors");
    assert_int_equal(kd_evaluate(&model, 1,
                                 &(struct kd_evaluate_options){
                                     images(""), 0, KD_MAX_CALIBRATION_BINS + 1},
                                 &(struct kd_evaluation *){NULL}),
                     KD_EUSAGE);
    assert_says("1001 bins: must be 1 to 1000");
}

/* Those of several teachers; of one alone they are as good as its logits. */
static void merged_probabilities_stay_at_their_temperature(void **state)
{
    struct kd_identity of = fixture_identity(5, 20, 1, KD_F32);
    const char *const names[] = {fixture_path("one"), fixture_path("logprobs")};

    (void)state;
    of.value_kind = KD_VALUE_LOGPROBS;
    fixture_cache(names[0], &of, 1, 8);
    of.kind = KD_KIND_MERGED;
    snprintf(of.policy, sizeof of.policy, "mean-prob");
    snprintf(of.parents, sizeof of.parents, "%s", of.teacher_digest.hex);
    fixture_cache(names[1], &of, 1, 8);
    kd_evaluation_free(evaluate(names, 2, NULL, 0));
    kd_evaluation_free(evaluate(names, 2, NULL, 4));
    kd_evaluation_free(evaluate(names, 1, NULL, 1));
    assert_refused(names, 2, NULL, 1, KD_EDATA,
                   "logprobs: soft labels at temperature 1 are wanted");
}

static void caches_of_other_views_are_refused(void **state)
{
    struct kd_identity of = fixture_identity(5, 20, 2, KD_F32);
    const char *const names[] = {fixture_path("v-a"), fixture_path("v-b")};
    const char *const far[] = {fixture_path("v-a"), fixture_path("v-c")};

    (void)state;
    of.first_view = 1;
    fixture_cache(names[0], &of, 1, 8);
    of.seed = 7;
    fixture_cache(names[1], &of, 2, 8);
    assert_refused(names, 2, NULL, 0, KD_EDATA, "v-b: its views (crop4,flip, seed 7)");
    of.first_view = 3;
    fixture_cache(far[1], &of, 2, 8);
    assert_refused(far, 2, NULL, 0, KD_EDATA, "no view in common");
}

/* -- reports ---------------------------------------------------------------- */

static double number(const cJSON *object, const char *name)
{
    return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static void the_report_says_what_was_found(void **state)
{
    const char *const names[] = {fixture_model("j0.h5", small, FIXTURE_CLASSES, 1),
                                 fixture_model("j1.h5", small, FIXTURE_CLASSES, 2)};
    struct kd_evaluation *e = evaluate(names, 2, images("@0:100"), 0);
    const char *text = NULL;
    struct kd_json *json = NULL;
    struct kd_scores scores;
    cJSON *root = NULL, *first = NULL, *pair = NULL, *right = NULL;
    cJSON *bins = NULL, *bin = NULL;
    double samples = 0;

    (void)state;
    assert_int_equal(kd_json_new(&json), KD_OK);
    kd_evaluation_json(e, json);
    assert_int_equal(kd_json_text(json, &text), KD_OK);
    root = cJSON_Parse(text);
    first = cJSON_GetArrayItem(cJSON_GetObjectItem(root, "predictors"), 0);
    pair = cJSON_GetArrayItem(cJSON_GetObjectItem(root, "pairs"), 0);
    right = cJSON_GetObjectItem(root, "exactly_right");
    bins = cJSON_GetObjectItem(first, "reliability");
    kd_metrics_scores(&e->predictors[0].metrics, &scores);
    assert_true(number(root, "samples") == 100);
    assert_true(number(first, "accuracy") == scores.accuracy);
    assert_true(number(first, "ece") == scores.ece);
    assert_true(number(first, "kept_mass") == 1);
    assert_true(number(first, "impossible") == 0);
    assert_true(number(root, "labelled") == 100);
    assert_true(number(root, "left_out") == 0);
    assert_true(number(pair, "js_divergence") == e->pairs[1].divergence / 100);
    assert_int_equal(cJSON_GetArraySize(right), 3);
    for (int m = 0; m < 3; m++)
        assert_true(cJSON_GetNumberValue(cJSON_GetArrayItem(right, m)) ==
                    (double)e->right[m] / 100);
    assert_true(number(root, "oracle_accuracy") == 1 - (double)e->right[0] / 100);
    assert_true(near(number(pair, "agreement") + number(pair, "churn"), 1, 1e-12));
    assert_int_equal(cJSON_GetArraySize(bins), KD_CALIBRATION_BINS);
    cJSON_ArrayForEach(bin, bins) samples += number(bin, "samples");
    assert_true(samples == 100);
    cJSON_Delete(root);
    kd_json_free(json);
    kd_evaluation_free(e);
}

/* Two predictors of four samples; all of it is filled in by hand. */
struct hand_made {
    struct kd_predictor_metrics predictors[2];
    struct kd_pair_metrics pairs[4];
    uint64_t right[3];
    struct kd_evaluation evaluation;
};

static struct hand_made *make_by_hand(const char *a, const char *b)
{
    struct hand_made *h = calloc(1, sizeof *h);

    h->predictors[0] = (struct kd_predictor_metrics){.name = kd_copy_string(a),
                                                     .temperature = 1,
                                                     .metrics = {.samples = 4,
                                                                 .labelled = 4,
                                                                 .right = 3,
                                                                 .right5 = 4,
                                                                 .nll = 2,
                                                                 .brier = 1,
                                                                 .entropy = 6,
                                                                 .kept = 4,
                                                                 .num_bins = 2}};
    h->predictors[0].metrics.bins[1] = (struct kd_calibration_bin){4, 3, 3.5};
    h->predictors[1] = (struct kd_predictor_metrics){
        .name = kd_copy_string(b),
        .metrics = {.samples = 4, .kept = 2, .num_bins = 2}}; /* none labelled */
    memcpy(h->pairs,
           (struct kd_pair_metrics[]){
               {4, 0, 0}, {3, 1, 0.0008}, {3, 1, 0.0008}, {4, 0, 0}},
           sizeof h->pairs);
    h->right[0] = h->right[1] = 1;
    h->right[2] = 2;
    h->evaluation = (struct kd_evaluation){.count = 2,
                                           .predictors = h->predictors,
                                           .pairs = h->pairs,
                                           .right = h->right,
                                           .samples = 4,
                                           .labelled = 4,
                                           .first_id = 10,
                                           .num_ids = 4};
    return h;
}

static void free_hand_made(struct hand_made *h)
{
    free(h->predictors[0].name);
    free(h->predictors[1].name);
    free(h);
}

static void assert_written(const struct hand_made *h,
                           enum kd_status (*write)(const struct kd_evaluation *e,
                                                   FILE *to),
                           const char *due)
{
    char text[4096] = "";
    FILE *to = fmemopen(text, sizeof text, "w");

    assert_non_null(to);
    assert_int_equal(write(&h->evaluation, to), KD_OK);
    fclose(to);
    assert_string_equal(text, due);
}

static void the_table_has_a_line_a_predictor_and_matrices(void **state)
{
    struct hand_made *h = make_by_hand("a.h5", "b");

    (void)state;
    assert_written(h, kd_evaluation_write,
                   "4 samples of ids 10 to 13, 4 labelled\n"
                   "\n"
                   "   name               T accuracy     top5      NLL    Brier      "
                   "ECE  entropy\n"
                   " 1 a.h5               1   0.7500   1.0000   0.5000   0.2500   "
                   "0.1250   1.5000\n"
                   " 2 b                  0        -        -        -        -        "
                   "-   0.0000\n"
                   "\n"
                   "   agreement            1        2\n"
                   " 1 a.h5            1.0000   0.7500\n"
                   " 2 b               0.7500   1.0000\n"
                   "\n"
                   "   divergence           1        2\n"
                   " 1 a.h5            0.0000   0.0002\n"
                   " 2 b               0.0002   0.0000\n"
                   "\n"
                   "   variation            1        2\n"
                   " 1 a.h5            0.0000   0.2500\n"
                   " 2 b               0.2500   0.0000\n"
                   "\n"
                   "   exactly right        0        1        2   oracle\n"
                   "   share           0.2500   0.2500   0.5000   0.7500\n");
    free_hand_made(h);
}

/* 40 characters, of which the two-byte ones take a column each, as others. */
static void of_long_names_the_end_is_shown_and_of_sparse_caches_the_mass(void **state)
{
    struct hand_made *h =
        make_by_hand("somewhere/far/away/r\xc3\xa9seaux/0123456789012",
                     "somewhere/far/away/r\xc3\xa9s");

    (void)state;
    h->evaluation.count = 1;
    h->evaluation.first_view = 1;
    h->evaluation.views = 3;
    h->evaluation.left_out = 8;
    h->predictors[0].sparse = true;
    h->predictors[0].metrics.nll = INFINITY;
    h->predictors[0].metrics.kept = 3.5;
    assert_written(h, kd_evaluation_write,
                   "4 samples of ids 10 to 13 in views 1 to 3, 4 labelled; 8 left out "
                   "that not all have; mass that is not kept is spread evenly\n"
                   "\n"
                   "   name                                  T accuracy     top5      "
                   "NLL    Brier      ECE  entropy     kept\n"
                   " 1 ...ar/away/r\xc3\xa9seaux/0123456789012      1   0.7500   1.0000"
                   "      inf   0.2500   0.1250   1.5000   0.8750\n");
    free_hand_made(h);
}

static void the_reliability_table_has_a_line_a_bin(void **state)
{
    struct hand_made *h = make_by_hand("a.h5", "b");

    (void)state;
    h->evaluation.count = 1;
    assert_written(h, kd_evaluation_write_reliability,
                   "\n"
                   "reliability of  1 a.h5\n"
                   "      above       to   samples accuracy  confid.      gap\n"
                   "     0.0000   0.5000         0        -        -        -\n"
                   "     0.5000   1.0000         4   0.7500   0.8750   0.1250\n");
    free_hand_made(h);
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sample_gives_the_figures_worked_out_by_hand),
        cmocka_unit_test(random_samples_give_the_figures_of_the_formulas),
        cmocka_unit_test(random_pairs_give_the_distances_of_the_formulas),
        cmocka_unit_test(what_has_no_class_in_common_is_as_far_apart_as_can_be),
        cmocka_unit_test(among_equals_the_lowest_class_comes_first),
        cmocka_unit_test(a_label_without_probability_costs_infinity),
        cmocka_unit_test(without_a_label_only_the_sample_itself_counts),
        cmocka_unit_test(calibration_is_over_bins_of_confidence),
        cmocka_unit_test(networks_get_the_scores_of_the_formulas),
        cmocka_unit_test(pairs_get_the_agreement_and_variation_of_the_formulas),
        cmocka_unit_test(caches_are_taken_at_their_own_temperature_or_at_another),
        cmocka_unit_test(a_networks_file_needs_no_prefix_and_a_shard_is_a_cache),
        cmocka_unit_test(without_a_dataset_caches_are_compared_where_they_overlap),
        cmocka_unit_test(a_cache_without_a_clean_view_is_compared_on_its_views),
        cmocka_unit_test(of_a_cache_with_a_clean_view_that_one_counts),
        cmocka_unit_test(results_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(what_cannot_be_compared_is_refused),
        cmocka_unit_test(merged_probabilities_stay_at_their_temperature),
        cmocka_unit_test(caches_of_other_views_are_refused),
        cmocka_unit_test(the_report_says_what_was_found),
        cmocka_unit_test(the_table_has_a_line_a_predictor_and_matrices),
        cmocka_unit_test(of_long_names_the_end_is_shown_and_of_sparse_caches_the_mass),
        cmocka_unit_test(the_reliability_table_has_a_line_a_bin),
    };

    kd_threads_set(1); /* small work: threads would wait for each other */
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
