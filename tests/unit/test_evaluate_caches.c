/* SPDX-License-Identifier: MIT */
/* Evaluations of caches: every figure against sums in double, written down anew. */
#include "cache_fixture.h"

#include "kd/evaluate.h"
#include "kd/thread.h"

#include <float.h>
#include <math.h>

/* Waiting for the disk is for power cuts, which are not tested here. */
int fsync(int fd)
{
    (void)fd;
    return 0;
}

#define CLASSES  11
#define SAMPLES  2500 /* in two views they are more than a block */
#define VIEWS    2
#define TEACHERS 3

/* -- caches that lack rows and labels ----------------------------------------- */

/* How a cache is made: its rows, labels, and which rows it lacks. */
struct making {
    void (*row)(int teacher, uint64_t id, uint32_t view, float *scaled);
    int32_t (*label)(uint64_t id);
    bool (*has)(int teacher, uint64_t id, uint32_t view);
};

/* Right now and then: the label's class is raised by as much as the teacher knows. */
static void some_row(int teacher, uint64_t id, uint32_t view, float *scaled)
{
    fixture_row(teacher, id, view, CLASSES, scaled);
    scaled[fixture_label(id, CLASSES)] += (float)(4 * (teacher + 1));
}

static int32_t some_label(uint64_t id)
{
    return id % 7 == 3 ? -1 : fixture_label(id, CLASSES);
}

static int32_t every_label(uint64_t id)
{
    return fixture_label(id, CLASSES);
}

static int32_t no_label(uint64_t id)
{
    (void)id;
    return -1;
}

static bool has_most(int teacher, uint64_t id, uint32_t view)
{
    return (id * 13 + view * 3 + (uint64_t)teacher * 5) % 17 != 0;
}

static bool has_all(int teacher, uint64_t id, uint32_t view)
{
    (void)teacher;
    (void)id;
    (void)view;
    return true;
}

static const struct making some = {some_row, some_label, has_most};

struct rows {
    size_t count;
    uint64_t id[256];
    uint32_t view[256];
    int32_t label[256];
    float scaled[256][CLASSES];
};

static void gather(struct rows *rows, const struct making *how, int teacher,
                   const struct kd_identity *of, uint64_t begin, uint64_t end)
{
    rows->count = 0;
    for (uint64_t id = begin; id < end; id++)
        for (uint32_t v = of->first_view; v < of->first_view + of->views; v++) {
            const size_t n = rows->count;

            if (!how->has(teacher, id, v))
                continue;
            rows->id[n] = id;
            rows->view[n] = v;
            rows->label[n] = how->label(id);
            how->row(teacher, id, v, rows->scaled[n]);
            rows->count++;
        }
}

static void write_rows(const char *path, const struct kd_identity *of,
                       const struct rows *rows)
{
    struct kd_shard_writer *writer = NULL;

    if (kd_shard_writer_open(path, of, rows->count, "a test", &writer) != KD_OK ||
        kd_shard_writer_add(writer, &(struct kd_rows){.count = rows->count,
                                                      .id = rows->id,
                                                      .view = rows->view,
                                                      .label = rows->label,
                                                      .scaled = rows->scaled[0]}) !=
            KD_OK ||
        kd_shard_writer_commit(writer) != KD_OK)
        fail_msg("%s", kd_error());
}

/* A cache of ids from of->first_id on, in shards of 100; returns its path. */
static const char *make(const char *name, const struct kd_identity *of, int teacher,
                        const struct making *how)
{
    const char *directory = fixture_path(name);
    const uint64_t end = of->first_id + of->num_samples;
    struct rows *rows = calloc(1, sizeof *rows);
    char *paths[32];
    size_t count = 0;

    assert_int_equal(kd_make_directory(directory), KD_OK);
    for (uint64_t n = of->first_id / 100; n * 100 < end; n++, count++) {
        const uint64_t to = (n + 1) * 100 < end ? (n + 1) * 100 : end;

        gather(rows, how, teacher, of, n * 100 > of->first_id ? n * 100 : of->first_id,
               to);
        paths[count] = kd_cache_shard_path(directory, n);
        write_rows(paths[count], of, rows);
    }
    assert_int_equal(kd_cache_seal(directory, paths, count), KD_OK);
    for (size_t i = 0; i < count; i++)
        free(paths[i]);
    free(rows);
    return directory;
}

static struct kd_identity identity(uint64_t samples, uint32_t first_view)
{
    struct kd_identity of = fixture_identity(CLASSES, samples, VIEWS, KD_F32);

    of.first_view = first_view;
    of.views = first_view == 0 ? 1 : VIEWS;
    return of;
}

static struct kd_evaluation *evaluate(const char *const *names, size_t count,
                                      double temperature, size_t bins)
{
    struct kd_evaluation *evaluation = NULL;

    if (kd_evaluate(names, count,
                    &(struct kd_evaluate_options){NULL, temperature, bins},
                    &evaluation) != KD_OK)
        fail_msg("%s", kd_error());
    return evaluation;
}

/* -- the same in double ------------------------------------------------------- */

static bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance;
}

/* softmax(z / t), where scaled is z / 4. */
static void soften(const float *scaled, double t, double *p)
{
    double sum = 0;

    for (size_t c = 0; c < CLASSES; c++)
        sum += p[c] = exp((double)scaled[c] * 4 / t);
    for (size_t c = 0; c < CLASSES; c++)
        p[c] /= sum;
}

static size_t best_of(const double *p)
{
    size_t best = 0;

    for (size_t c = 1; c < CLASSES; c++)
        best = p[c] > p[best] ? c : best;
    return best;
}

/* Sums of all figures. */
struct sums {
    double samples, labelled, left_out;
    double right[TEACHERS], nll[TEACHERS], brier[TEACHERS], entropy[TEACHERS];
    double bin_right[TEACHERS][20], bin_confidence[TEACHERS][20];
    double agreeing[TEACHERS][TEACHERS], divergence[TEACHERS][TEACHERS];
    double exactly[TEACHERS + 1];
};

static void add_alone(struct sums *s, size_t m, const double *p, int32_t y, size_t bins)
{
    const size_t best = best_of(p);
    size_t bin = 0;

    for (size_t c = 0; c < CLASSES; c++)
        s->entropy[m] -= p[c] * log(p[c]);
    if (y < 0)
        return;
    while (p[best] > (double)(bin + 1) / (double)bins)
        bin++;
    s->bin_right[m][bin] += best == (size_t)y;
    s->bin_confidence[m][bin] += p[best];
    s->right[m] += best == (size_t)y;
    s->nll[m] -= log(p[y]);
    for (size_t c = 0; c < CLASSES; c++)
        s->brier[m] += pow(p[c] - (c == (size_t)y), 2);
}

static void add_pair(struct sums *s, size_t a, size_t b, const double *p,
                     const double *q)
{
    s->agreeing[a][b] += best_of(p) == best_of(q);
    for (size_t c = 0; c < CLASSES; c++) {
        const double m = (p[c] + q[c]) / 2;

        s->divergence[a][b] += (p[c] * log(p[c] / m) + q[c] * log(q[c] / m)) / 2;
    }
}

static void add_sample(struct sums *s, double p[TEACHERS][CLASSES], int32_t y,
                       size_t bins)
{
    size_t right = 0;

    s->samples++;
    s->labelled += y >= 0;
    for (size_t a = 0; a < TEACHERS; a++) {
        add_alone(s, a, p[a], y, bins);
        right += y >= 0 && best_of(p[a]) == (size_t)y;
        for (size_t b = 0; b < TEACHERS; b++)
            add_pair(s, a, b, p[a], p[b]);
    }
    s->exactly[right] += y >= 0;
}

static void add_all(struct sums *s, uint32_t first_view, size_t bins)
{
    float row[CLASSES];
    double p[TEACHERS][CLASSES];

    *s = (struct sums){0};
    for (uint64_t id = 0; id < SAMPLES; id++)
        for (uint32_t view = first_view; view < first_view + VIEWS; view++) {
            bool all = true;

            for (int m = 0; m < TEACHERS; m++) {
                some_row(m, id, view, row);
                soften(row, 4, p[m]);
                all = all && has_most(m, id, view);
            }
            if (all)
                add_sample(s, p, some_label(id), bins);
            else
                s->left_out++;
        }
}

static void assert_alone(const struct kd_evaluation *e, const struct sums *s, size_t m,
                         size_t bins)
{
    struct kd_scores got;
    double ece = 0;

    kd_metrics_scores(&e->predictors[m].metrics, &got);
    for (size_t b = 0; b < bins; b++)
        ece += fabs(s->bin_right[m][b] - s->bin_confidence[m][b]) / s->labelled;
    assert_true(near(got.accuracy, s->right[m] / s->labelled, 1e-12));
    assert_true(near(got.nll, s->nll[m] / s->labelled, 1e-5));
    assert_true(near(got.brier, s->brier[m] / s->labelled, 1e-6));
    assert_true(near(got.ece, ece, 1e-6));
    assert_true(near(got.entropy, s->entropy[m] / s->samples, 1e-6));
    assert_true(got.kept == 1);
}

static void caches_get_the_figures_of_the_formulas(void **state)
{
    const struct kd_identity of = identity(SAMPLES, 1);
    const char *const names[] = {make("f0", &of, 0, &some), make("f1", &of, 1, &some),
                                 make("f2", &of, 2, &some)};
    struct sums *s = calloc(1, sizeof *s);

    (void)state;
    for (size_t bins = 1; bins <= 20; bins += 19) {
        struct kd_evaluation *e = evaluate(names, 3, 0, bins);

        add_all(s, 1, bins);
        assert_int_equal(e->samples, s->samples);
        assert_int_equal(e->labelled, s->labelled);
        assert_int_equal(e->left_out, s->left_out);
        assert_int_equal(e->num_ids, SAMPLES);
        for (size_t a = 0; a < 3; a++) {
            assert_alone(e, s, a, bins);
            for (size_t b = 0; b < 3; b++) {
                const struct kd_pair_metrics *pair = &e->pairs[a * 3 + b];

                assert_int_equal(pair->agreeing, s->agreeing[a][b]);
                assert_true(near(pair->divergence / s->samples,
                                 s->divergence[a][b] / s->samples, 1e-6));
            }
        }
        for (size_t m = 0; m <= 3; m++)
            assert_int_equal(e->right[m], s->exactly[m]);
        assert_true(e->right[0] > 100 && e->right[3] > 100);
        kd_evaluation_free(e);
    }
    free(s);
}

/* Holes make blocks that end anywhere. */
static void figures_do_not_depend_on_the_number_of_threads(void **state)
{
    const char *const names[] = {fixture_path("f0"), fixture_path("f1"),
                                 fixture_path("f2")};
    struct kd_evaluation *one = evaluate(names, 3, 0, 0), *many = NULL;

    (void)state;
    kd_threads_set(3);
    many = evaluate(names, 3, 0, 0);
    kd_threads_set(1);
    for (size_t i = 0; i < 3; i++)
        assert_memory_equal(&one->predictors[i].metrics, &many->predictors[i].metrics,
                            sizeof one->predictors[i].metrics);
    assert_memory_equal(one->pairs, many->pairs, 9 * sizeof *one->pairs);
    assert_memory_equal(one->right, many->right, 4 * sizeof *one->right);
    kd_evaluation_free(one);
    kd_evaluation_free(many);
}

/* -- predictors that are easy to foretell ------------------------------------- */

static void perfect_row(int teacher, uint64_t id, uint32_t view, float *scaled)
{
    (void)teacher;
    (void)view;
    for (size_t c = 0; c < CLASSES; c++)
        scaled[c] = c == (size_t)fixture_label(id, CLASSES) ? 0 : -FLT_MAX;
}

static void wrong_row(int teacher, uint64_t id, uint32_t view, float *scaled)
{
    perfect_row(teacher, id + 1, view, scaled);
}

static void constant_row(int teacher, uint64_t id, uint32_t view, float *scaled)
{
    (void)teacher;
    (void)id;
    (void)view;
    for (size_t c = 0; c < CLASSES; c++)
        scaled[c] = 3;
}

/* Labels are spread evenly over 220 ids; of equal classes the first is predicted. */
static void perfect_and_constant_predictors_get_what_is_due(void **state)
{
    struct kd_identity of = identity(220, 0), half = of;
    const double n = CLASSES;
    struct kd_evaluation *e = NULL;
    struct kd_scores perfect, constant, wrong;

    (void)state;
    half.codec.dtype = KD_F16;
    const char *const names[] = {
        make("perfect", &half, 0, &(struct making){perfect_row, every_label, has_all}),
        make("constant", &of, 0, &(struct making){constant_row, every_label, has_all}),
        make("wrong", &half, 0, &(struct making){wrong_row, every_label, has_all})};
    e = evaluate(names, 3, 0, 0);
    kd_metrics_scores(&e->predictors[0].metrics, &perfect);
    kd_metrics_scores(&e->predictors[1].metrics, &constant);
    kd_metrics_scores(&e->predictors[2].metrics, &wrong);
    assert_true(perfect.accuracy == 1 && perfect.nll == 0 && perfect.brier == 0 &&
                perfect.ece == 0 && perfect.entropy == 0);
    assert_true(constant.accuracy == 1 / n);
    assert_true(near(constant.top5, 5 / n, 1e-12));
    assert_true(near(constant.nll, log(n), 1e-6));
    assert_true(near(constant.brier, 1 - 1 / n, 1e-6));
    assert_true(near(constant.ece, 0, 1e-6)); /* it is as right as it is sure */
    assert_true(near(constant.entropy, log(n), 1e-6));
    assert_true(wrong.accuracy == 0 && wrong.brier == 2 && wrong.ece == 1);
    assert_true(isinf(wrong.nll));
    assert_int_equal(e->predictors[2].metrics.impossible, 220);
    assert_int_equal(e->predictors[0].metrics.impossible, 0);

    /* A sure one and an even one: H of the mixture less half of ln n. */
    const double top = (1 + 1 / n) / 2, rest = 1 / (2 * n);
    const double mixed = -top * log(top) - (n - 1) * rest * log(rest);
    assert_true(near(e->pairs[1].divergence / 220, mixed - log(n) / 2, 1e-6));
    assert_true(near(e->pairs[2].divergence / 220, log(2), 1e-12));
    assert_true(e->pairs[2].variation == 220 && e->pairs[2].agreeing == 0);
    assert_int_equal(e->right[0], 0);
    assert_int_equal(e->right[1], 200);
    assert_int_equal(e->right[2], 20);
    assert_int_equal(e->right[3], 0);
    kd_evaluation_free(e);
}

static void a_predictor_alone_is_its_own_oracle(void **state)
{
    const struct kd_identity of = identity(50, 0);
    const char *const name = make("alone", &of, 2, &some);
    struct kd_evaluation *e = evaluate(&name, 1, 0, 0);

    (void)state;
    assert_int_equal(e->right[1], e->predictors[0].metrics.right);
    assert_int_equal(e->right[0] + e->right[1], e->labelled);
    assert_int_equal(e->pairs[0].agreeing, e->samples);
    assert_true(e->pairs[0].divergence == 0);
    kd_evaluation_free(e);
}

/* -- labels and rows ---------------------------------------------------------- */

static void labels_are_those_of_the_first_cache_that_knows_them(void **state)
{
    const struct kd_identity of = identity(50, 0);
    const char *const names[] = {
        make("unknown", &of, 1, &(struct making){some_row, no_label, has_all}),
        make("known", &of, 1, &(struct making){some_row, some_label, has_all})};
    struct kd_evaluation *e = evaluate(names, 2, 0, 0);

    (void)state;
    assert_int_equal(e->samples, 50);
    assert_int_equal(e->labelled, 43);
    assert_int_equal(e->predictors[0].metrics.right, e->predictors[1].metrics.right);
    assert_true(e->pairs[1].divergence == 0 && e->pairs[1].variation == 0);
    kd_evaluation_free(e);
    e = evaluate((const char *const[]){names[1], names[0]}, 2, 0, 0);
    assert_int_equal(e->labelled, 43);
    kd_evaluation_free(e);
    e = evaluate(names, 1, 0, 0);
    assert_int_equal(e->labelled, 0);
    assert_int_equal(e->right[0] + e->right[1], 0);
    kd_evaluation_free(e);
}

static bool has_even(int teacher, uint64_t id, uint32_t view)
{
    (void)view;
    return id % 2 == (uint64_t)teacher;
}

static void caches_without_a_common_row_are_refused(void **state)
{
    const struct kd_identity of = identity(50, 0);
    const struct making halves = {some_row, some_label, has_even};
    const char *const names[] = {make("even", &of, 0, &halves),
                                 make("odd", &of, 1, &halves)};
    const struct kd_evaluate_options options = {NULL, 0, 0};
    struct kd_evaluation *e = NULL;

    (void)state;
    assert_int_equal(kd_evaluate(names, 2, &options, &e), KD_EDATA);
    assert_says("the predictors have no sample in common");
    assert_null(e);
}

/* -- sparse caches ------------------------------------------------------------ */

#define KEPT 3

/* softmax at t with all but the three best of the row levelled; returns their mass. */
static double level(const float *scaled, double t, double *p)
{
    double rest = 0;

    soften(scaled, t, p);
    for (int pass = 0; pass < 2; pass++)
        for (size_t c = 0; c < CLASSES; c++) {
            size_t above = 0;

            for (size_t d = 0; d < CLASSES; d++)
                above += scaled[d] > scaled[c];
            if (above < KEPT)
                continue;
            rest += pass == 0 ? p[c] : 0;
            p[c] = pass == 0 ? p[c] : rest / (CLASSES - KEPT);
        }
    return 1 - rest;
}

static void assert_sparse(const char *name, double t)
{
    struct kd_evaluation *e = evaluate(&name, 1, t == 4 ? 0 : t, 0);
    double nll = 0, brier = 0, kept = 0, entropy = 0, p[CLASSES];
    struct kd_scores got;
    float row[CLASSES];

    for (uint64_t id = 0; id < 200; id++) {
        const size_t y = (size_t)fixture_label(id, CLASSES);

        some_row(1, id, 0, row);
        kept += level(row, t, p) / 200;
        nll -= log(p[y]) / 200;
        for (size_t c = 0; c < CLASSES; c++) {
            brier += pow(p[c] - (c == y), 2) / 200;
            entropy -= p[c] * log(p[c]) / 200;
        }
    }
    kd_metrics_scores(&e->predictors[0].metrics, &got);
    assert_true(e->predictors[0].temperature == t && e->predictors[0].sparse);
    assert_true(near(got.nll, nll, 1e-5) && near(got.brier, brier, 1e-5));
    assert_true(near(got.kept, kept, 1e-5) && near(got.entropy, entropy, 1e-5));
    kd_evaluation_free(e);
}

static void rows_of_sparse_caches_are_spread_evenly(void **state)
{
    const struct making all = {some_row, every_label, has_all};
    struct kd_identity of = identity(200, 0);
    struct kd_evaluation *e = NULL;

    (void)state;
    of.codec = (struct kd_codec){.encoding = KD_TOP_K, .dtype = KD_F32, .k = KEPT};
    snprintf(of.codec.also_temperatures, sizeof of.codec.also_temperatures, "2,16");
    const char *const name = make("top", &of, 1, &all);
    assert_sparse(name, 4);
    assert_sparse(name, 2);
    assert_sparse(name, 16);
    assert_int_equal(
        kd_evaluate(&name, 1, &(struct kd_evaluate_options){NULL, 1, 0}, &e), KD_EDATA);
    assert_says("top: soft labels at temperature 1 are wanted");
}

/* Which classes a row has is its own affair: what the cache itself finds is right. */
static void ragged_caches_have_the_mass_and_entropy_that_they_say(void **state)
{
    const struct making all = {some_row, every_label, has_all};
    const struct kd_codec codecs[] = {
        {.encoding = KD_TOP_P, .dtype = KD_F32, .k = CLASSES - 1, .mass = 0.9},
        {.encoding = KD_SAMPLED, .dtype = KD_F32, .k = 6}};
    const char *const names[] = {"top-p", "sampled"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct kd_identity of = identity(200, 0);
        struct kd_evaluation *e = NULL;
        struct kd_cache *cache = NULL;
        struct kd_cache_stats stats;
        struct kd_scores got;

        of.codec = codecs[i];
        const char *const path = make(names[i], &of, 1, &all);
        assert_int_equal(kd_cache_open(path, &cache), KD_OK);
        assert_int_equal(kd_cache_measure(cache, &stats), KD_OK);
        kd_cache_close(cache);
        e = evaluate(&path, 1, 0, 0);
        kd_metrics_scores(&e->predictors[0].metrics, &got);
        assert_true(got.kept < 0.999 && near(got.kept, stats.kept_mass, 1e-6));
        assert_true(near(got.entropy, stats.entropy, 1e-5));
        kd_evaluation_free(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(caches_get_the_figures_of_the_formulas),
        cmocka_unit_test(figures_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(perfect_and_constant_predictors_get_what_is_due),
        cmocka_unit_test(a_predictor_alone_is_its_own_oracle),
        cmocka_unit_test(labels_are_those_of_the_first_cache_that_knows_them),
        cmocka_unit_test(caches_without_a_common_row_are_refused),
        cmocka_unit_test(rows_of_sparse_caches_are_spread_evenly),
        cmocka_unit_test(ragged_caches_have_the_mass_and_entropy_that_they_say),
    };

    kd_threads_set(1); /* small work: threads would wait for each other */
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
