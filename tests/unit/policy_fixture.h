/* SPDX-License-Identifier: MIT */
/* What the tests of policies share: rows of teachers as shards hold them, and a plan of
 * each policy. */
#ifndef KD_TESTS_POLICY_FIXTURE_H
#define KD_TESTS_POLICY_FIXTURE_H

#include "cache_fixture.h"

#include "kd/policy.h"

#include <float.h>
#include <math.h>

enum { M = 5, C = 7 };

/* One row of M teachers. */
struct teachers {
    double u[M][C]; /* scaled logits */
    float values[M][C];
    float row_max[M], log_z[M];
    int32_t label;
    uint64_t id;
    uint32_t view;
};

static inline double log_sum_exp(const double *u, size_t n)
{
    double top = u[0], sum = 0;

    for (size_t c = 1; c < n; c++)
        top = u[c] > top ? u[c] : top;
    for (size_t c = 0; c < n; c++)
        sum += exp(u[c] - top);
    return top + log(sum);
}

static inline void softmax(const double *u, double *p)
{
    for (size_t c = 0; c < C; c++)
        p[c] = exp(u[c] - log_sum_exp(u, C));
}

/* Splits the scaled logits into what a shard stores of them. */
static inline void store(struct teachers *t)
{
    for (size_t m = 0; m < M; m++) {
        double top = t->u[m][0];

        for (size_t c = 1; c < C; c++)
            top = t->u[m][c] > top ? t->u[m][c] : top;
        t->row_max[m] = (float)top;
        t->log_z[m] = (float)(log_sum_exp(t->u[m], C) - top);
        for (size_t c = 0; c < C; c++)
            t->values[m][c] = (float)(t->u[m][c] - top);
    }
}

/* Row `id`: half of them with a class that all teachers lean to. */
static inline struct teachers draw(uint64_t id)
{
    struct kd_random r = kd_random_at(5, KD_RANDOM_TEST, id, 0);
    struct teachers t = {.id = id, .view = (uint32_t)(id % 3)};
    const uint32_t liked = kd_random_below(&r, C);

    t.label = (int32_t)kd_random_below(&r, C);
    for (size_t m = 0; m < M; m++) {
        for (size_t c = 0; c < C; c++)
            t.u[m][c] = kd_random_between(&r, -3, 3) + (double)m;
        t.u[m][liked] += id % 2 == 0 ? 3 : 0;
    }
    store(&t);
    return t;
}

static inline struct kd_policy_row row_of(const struct teachers *t)
{
    struct kd_policy_row row = {
        .outcomes = C, .classes = C, .label = t->label, .id = t->id, .view = t->view};

    for (size_t m = 0; m < M; m++) {
        row.values[m] = t->values[m];
        row.row_max[m] = t->row_max[m];
        row.log_z[m] = t->log_z[m];
    }
    return row;
}

/* A file in the directory. */
static inline const char *fixture_text(const char *name, const char *text)
{
    assert_int_equal(kd_file_write(fixture_path(name), text, strlen(text)), KD_OK);
    return fixture_path(name);
}

/* A checked plan of any policy over the first `teachers`, with unequal weights where it
 * takes some. */
static inline struct kd_merge_plan plan_of(enum kd_policy policy, size_t teachers)
{
    static const double weights[M] = {1, 2, 3, 1.5, 2.5};
    struct kd_merge_plan plan = {
        .policy = policy, .teachers = teachers, .temperature = 4};
    struct kd_merge_plan bare = plan;

    memcpy(bare.weights, weights, teachers * sizeof weights[0]);
    bare.fitted = true;
    bare.threshold = policy == KD_POLICY_AGREEMENT ? 0.5 : 0;
    if (policy == KD_POLICY_ROUTE)
        assert_int_equal(
            kd_route_load(fixture_text("route.csv", "label,teacher\n*,1\n"), teachers,
                          &bare.route),
            KD_OK);
    if (policy == KD_POLICY_NOISY_VOTE)
        bare.noise = (struct kd_noise){KD_NOISE_GNMAX, .scale = 1e-3};
    plan = bare;
    if (kd_merge_plan_check(&plan) != KD_OK) { /* it takes no weights */
        plan = bare;
        memset(plan.weights, 0, sizeof plan.weights);
        assert_int_equal(kd_merge_plan_check(&plan), KD_OK);
    }
    if (policy == KD_POLICY_BEST_OVERALL)
        plan.accuracy[teachers - 1] = 0.75;
    if (policy == KD_POLICY_CLASS_WEIGHTS) {
        plan.class_weights = calloc(teachers * C, sizeof plan.class_weights[0]);
        for (size_t m = 0; m < teachers; m++)
            for (size_t c = 0; c < C; c++)
                plan.class_weights[m * C + c] = plan.weights[(m + c) % teachers];
    }
    return plan;
}

#endif
