/* SPDX-License-Identifier: MIT */
/* Comparisons of caches with a reference, against sums written down anew. */
#include "cache_fixture.h"

#include "kd/evaluate.h"
#include "kd/thread.h"

#include <math.h>

/* Waiting for the disk is for power cuts, which are not tested here. */
int fsync(int fd)
{
    (void)fd;
    return 0;
}

#define CLASSES 12
#define SAMPLES 90
#define KEPT    4

static struct kd_identity identity(enum kd_encoding encoding)
{
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 2, KD_F32);

    of.codec.encoding = encoding;
    if (encoding != KD_DENSE)
        of.codec.k = KEPT;
    return of;
}

static int open_all(void **state)
{
    if (fixture_open(state) != 0)
        return -1;
    struct kd_identity of = identity(KD_DENSE);
    fixture_cache(fixture_path("reference"), &of, 1, 40);
    fixture_cache(fixture_path("other"), &of, 2, 30);
    of = identity(KD_TOP_K);
    fixture_cache(fixture_path("top"), &of, 1, 25);
    fixture_cache(fixture_path("other-top"), &of, 2, 25);
    return 0;
}

static void softmax(uint64_t id, uint32_t view, int teacher, double t, double *p)
{
    float row[CLASSES];
    double sum = 0;

    fixture_row(teacher, id, view, CLASSES, row);
    for (size_t c = 0; c < CLASSES; c++)
        sum += p[c] = exp((double)row[c] * 4 / t);
    for (size_t c = 0; c < CLASSES; c++)
        p[c] /= sum;
}

static bool is_kept(const double *p, size_t class)
{
    size_t above = 0;

    for (size_t c = 0; c < CLASSES; c++)
        above += p[c] > p[class];
    return above < KEPT;
}

/* What a top-k row says under a rule; *tail the bucket's mass. */
static void keep_top(double *q, int rule, double *tail)
{
    double p[CLASSES], rest = 0;

    memcpy(p, q, sizeof p);
    for (size_t c = 0; c < CLASSES; c++)
        rest += is_kept(p, c) ? 0 : p[c];
    for (size_t c = 0; c < CLASSES; c++) {
        if (is_kept(p, c))
            q[c] = rule == KD_TAIL_RENORM ? p[c] / (1 - rest) : p[c];
        else
            q[c] = rule == KD_TAIL_SPREAD ? rest / (CLASSES - KEPT) : 0;
    }
    *tail = rest;
}

/* The sums over all rows of teacher 1 and what is compared with it. */
static struct kd_comparison expected(int teacher, int rule, double t)
{
    struct kd_comparison e = {.rows = SAMPLES * 2};

    for (uint64_t row = 0; row < SAMPLES * 2; row++) {
        double r[CLASSES], q[CLASSES], tail = 0, kl = 0, variation = 0, rest = 0;
        size_t best_r = 0, best_q = 0;
        softmax(row / 2, (uint32_t)(row % 2), 1, t, r);
        softmax(row / 2, (uint32_t)(row % 2), teacher, t, q);
        if (rule >= 0)
            keep_top(q, rule, &tail);
        for (size_t c = 0; c < CLASSES; c++) {
            best_r = r[c] > r[best_r] ? c : best_r;
            best_q = q[c] > q[best_q] ? c : best_q;
            if (rule == KD_TAIL_BUCKET && q[c] == 0) {
                rest += r[c];
                continue;
            }
            kl += r[c] * log(r[c] / q[c]);
            variation += fabs(r[c] - q[c]) / 2;
        }
        if (rule == KD_TAIL_BUCKET) {
            kl += rest * log(rest / tail);
            variation += fabs(rest - tail) / 2;
        }
        e.kl += kl;
        e.variation += variation;
        e.worst_kl = fmax(e.worst_kl, kl);
        e.worst_variation = fmax(e.worst_variation, variation);
        e.agreeing += best_r == best_q;
    }
    return e;
}

static struct kd_comparison *compare(const char *name,
                                     const struct kd_compare_options *options)
{
    const char *const names[] = {fixture_path(name)};
    struct kd_comparison *list = NULL;

    if (kd_compare(fixture_path("reference"), names, 1, options, &list) != KD_OK)
        fail_msg("%s", kd_error());
    return list;
}

static void assert_near(double is, double due)
{
    if (isinf(due) ? is != due : !(fabs(is - due) <= 1e-5 * (1 + fabs(due))))
        fail_msg("%.9g is not %.9g", is, due);
}

static void check(const char *name, int teacher, int rule, double t)
{
    const struct kd_compare_options options = {
        t == 4 ? 0 : t, rule >= 0 ? (enum kd_tail)rule : KD_TAIL_SPREAD};
    const struct kd_comparison due = expected(teacher, rule, t);
    struct kd_comparison *is = compare(name, &options);

    assert_string_equal(is->name, fixture_path(name));
    assert_true(is->temperature == t);
    assert_int_equal(is->rows, due.rows);
    assert_int_equal(is->agreeing, due.agreeing);
    assert_near(is->kl, due.kl);
    assert_near(is->variation, due.variation);
    assert_near(is->worst_kl, due.worst_kl);
    assert_near(is->worst_variation, due.worst_variation);
    assert_true(is->bytes > 0);
    kd_comparisons_free(is, 1);
}

static void a_cache_is_not_far_from_itself(void **state)
{
    (void)state;
    check("reference", 1, -1, 4);
}

static void another_teacher_is_as_far_as_the_formulas_say(void **state)
{
    (void)state;
    check("other", 2, -1, 4);
    check("other", 2, -1, 8);
}

static void each_tail_rule_has_its_distance(void **state)
{
    (void)state;
    check("top", 1, KD_TAIL_SPREAD, 4);
    check("top", 1, KD_TAIL_BUCKET, 4);
    check("top", 1, KD_TAIL_RENORM, 4); /* an infinite divergence */
    check("other-top", 2, KD_TAIL_SPREAD, 4);
    check("other-top", 2, KD_TAIL_BUCKET, 4);
}

static void several_caches_are_compared_at_once_on_any_number_of_threads(void **state)
{
    const char *const names[] = {fixture_path("top"), fixture_path("other")};
    const struct kd_compare_options options = {0, KD_TAIL_SPREAD};
    struct kd_comparison *one = NULL, *three = NULL;

    (void)state;
    kd_threads_set(1);
    assert_int_equal(kd_compare(fixture_path("reference"), names, 2, &options, &one),
                     KD_OK);
    kd_threads_set(3);
    assert_int_equal(kd_compare(fixture_path("reference"), names, 2, &options, &three),
                     KD_OK);
    for (size_t i = 0; i < 2; i++) {
        assert_true(one[i].kl == three[i].kl);
        assert_true(one[i].variation == three[i].variation);
        assert_int_equal(one[i].agreeing, three[i].agreeing);
    }
    kd_threads_set(0);
    kd_comparisons_free(one, 2);
    kd_comparisons_free(three, 2);
}

static void assert_refused(const char *name, const struct kd_identity *of,
                           double temperature, const char *words)
{
    const char *const names[] = {fixture_path(name)};
    const struct kd_compare_options options = {temperature, KD_TAIL_SPREAD};
    struct kd_comparison *list = NULL;

    fixture_cache(fixture_path(name), of, 1, 100);
    assert_int_equal(kd_compare(fixture_path("reference"), names, 1, &options, &list),
                     KD_EDATA);
    assert_null(list);
    assert_says(words);
}

static void caches_that_cannot_be_compared_are_refused(void **state)
{
    struct kd_identity of = identity(KD_DENSE);

    (void)state;
    fixture_digest(&of.dataset_digest, 9);
    assert_refused("dataset", &of, 0, "in its dataset");
    of = identity(KD_DENSE);
    fixture_digest(&of.class_map_digest, 9);
    assert_refused("classes", &of, 0, "in its classes");
    of = identity(KD_DENSE);
    of.seed = 5;
    assert_refused("views", &of, 0, "in its views");
    of = identity(KD_TOP_K);
    assert_refused("temperature", &of, 3, "--also-temperature 3");
    of = identity(KD_DENSE);
    of.num_samples = SAMPLES + 1;
    assert_refused("more", &of, 0, "sample 90");
}

static void the_table_and_the_json_have_the_numbers(void **state)
{
    const struct kd_compare_options options = {0, KD_TAIL_BUCKET};
    struct kd_comparison *c = compare("top", &options);
    struct kd_json *json = NULL;
    const char *text = NULL;
    char *table = NULL, number[64];
    size_t size = 0;
    FILE *to = open_memstream(&table, &size);

    (void)state;
    assert_int_equal(kd_comparisons_write(c, 1, to), KD_OK);
    fclose(to);
    assert_non_null(strstr(table, fixture_path("top")));
    snprintf(number, sizeof number, "%.3e", c->kl / (SAMPLES * 2));
    assert_non_null(strstr(table, number));
    assert_int_equal(kd_json_new(&json), KD_OK);
    kd_comparisons_json(c, 1, json);
    assert_int_equal(kd_json_text(json, &text), KD_OK);
    assert_non_null(strstr(text, "\"rows\":180"));
    assert_non_null(strstr(text, "\"kl_mean\":"));
    kd_json_free(json);
    free(table);
    kd_comparisons_free(c, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cache_is_not_far_from_itself),
        cmocka_unit_test(another_teacher_is_as_far_as_the_formulas_say),
        cmocka_unit_test(each_tail_rule_has_its_distance),
        cmocka_unit_test(several_caches_are_compared_at_once_on_any_number_of_threads),
        cmocka_unit_test(caches_that_cannot_be_compared_are_refused),
        cmocka_unit_test(the_table_and_the_json_have_the_numbers),
    };

    return cmocka_run_group_tests_name("compare", tests, open_all, fixture_close);
}
