/* SPDX-License-Identifier: MIT */
/* Layers on the bench: inputs, the layers under test, and differences of a loss. */
#ifndef NN_FIXTURE_H
#define NN_FIXTURE_H

#include "kd/graph.h"
#include "kd/memory.h"
#include "kd/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static inline float *floats(size_t n)
{
    float *new = kd_alloc(n, sizeof *new);

    assert_non_null(new);
    return new;
}

static inline double *doubles(size_t n)
{
    double *new = kd_alloc(n, sizeof *new);

    assert_non_null(new);
    return new;
}

/* Normal numbers, the same for the same stream. */
static inline float *draw(size_t n, uint64_t stream)
{
    struct kd_random r = kd_random_at(1, KD_RANDOM_TEST, stream, 0);
    float *x = floats(n);

    for (size_t i = 0; i < n; i++)
        x[i] = (float)kd_random_normal(&r);
    return x;
}

static inline size_t count_of(const struct kd_tensor *t)
{
    return t->batch * t->channels * t->height * t->width;
}

static inline float *values_of(const struct kd_tensor *t)
{
    float *plain = floats(count_of(t));

    kd_tensor_get(t, plain, t->batch);
    return plain;
}

static inline float *gradient_of(const struct kd_tensor *t)
{
    float *plain = floats(count_of(t));

    assert_non_null(t->gradient);
    kd_tensor_get_gradient(t, plain);
    return plain;
}

static inline struct kd_parameter *named(const struct kd_graph *graph, const char *name)
{
    for (size_t i = 0; i < kd_graph_num_parameters(graph); i++)
        if (strcmp(kd_graph_parameter(graph, i)->name, name) == 0)
            return kd_graph_parameter(graph, i);
    fail_msg("there is no parameter %s", name);
    return NULL;
}

/* A parameter's value, or its gradient, in plain order. */
static inline float *plain_of(const struct kd_parameter *p, const float *from)
{
    float *plain = floats(p->count);

    assert_non_null(from);
    kd_parameter_get(p, from, plain);
    return plain;
}

static inline void set_named(struct kd_graph *graph, const char *name,
                             const float *plain)
{
    struct kd_parameter *p = named(graph, name);

    kd_parameter_set(p, plain, p->value);
    kd_graph_parameters_changed(graph);
}

/* Every trained vector and buffer away from 1 and 0, variances positive. */
static inline void randomise(struct kd_graph *graph)
{
    assert_int_equal(kd_graph_initialise(graph, 3), KD_OK);
    for (size_t i = 0; i < kd_graph_num_parameters(graph); i++) {
        struct kd_parameter *p = kd_graph_parameter(graph, i);
        float *plain = NULL;
        if (p->rank != 1)
            continue;
        plain = draw(p->count, 1000 + i);
        for (size_t k = 0; k < p->count; k++)
            plain[k] = strstr(p->name, "var") != NULL ? 0.5F + plain[k] * plain[k]
                                                      : plain[k] * 0.5F + 0.1F;
        kd_parameter_set(p, plain, p->value);
        free(plain);
    }
    kd_graph_parameters_changed(graph);
}

/* |got - want| / |want| */
static inline double distance(const float *got, const double *want, size_t n)
{
    double error = 0, norm = 0;

    for (size_t i = 0; i < n; i++) {
        error += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return norm > 0 ? sqrt(error / norm) : sqrt(error);
}

static inline void assert_near(const float *got, const double *want, size_t n,
                               double tolerance, const char *what)
{
    const double d = distance(got, want, n);

    if (!(d <= tolerance))
        fail_msg("%s is off by %g, more than %g", what, d, tolerance);
}

static inline void assert_near_float(const float *got, const float *want, size_t n,
                                     double tolerance, const char *what)
{
    double *wide = doubles(n);

    for (size_t i = 0; i < n; i++)
        wide[i] = want[i];
    assert_near(got, wide, n, tolerance, what);
    free(wide);
}

/* -- a layer on the bench ---------------------------------------------------- */

/*
 * Up to two inputs, each behind a 1x1 convolution with identity weights: what it
 * gives out is what came in, and has a gradient. Then the layers under test, and
 * the loss sum(y * r).
 */
struct bench {
    struct kd_graph *graph;
    size_t num_inputs;
    struct kd_tensor *input[2];
    struct kd_tensor *x[2]; /* what the layers under test read */
    float *in[2];           /* [N][C][H][W] */
    struct kd_tensor *y;
    float *r;      /* the shape of y */
    size_t places; /* of an array where slopes are measured, about */
};

static inline void bench_open(struct bench *b, size_t batch, bool training)
{
    memset(b, 0, sizeof *b);
    b->places = 64;
    assert_int_equal(kd_graph_new(batch, training, &b->graph), KD_OK);
}

/* `bare`: without the convolution, the graph's input itself. */
static inline struct kd_tensor *bench_input(struct bench *b, size_t channels,
                                            size_t height, size_t width, bool bare)
{
    static const char *const names[] = {"identity0", "identity1"};
    const size_t i = b->num_inputs++;

    b->input[i] = kd_graph_input(b->graph, channels, height, width);
    b->x[i] = bare ? b->input[i]
                   : kd_graph_conv(b->graph, b->input[i], names[i],
                                   &(struct kd_conv){channels, 1, 1, 0});
    assert_non_null(b->x[i]);
    b->in[i] = draw(count_of(b->input[i]), i);
    return b->x[i];
}

static inline bool is_identity(const struct kd_parameter *p)
{
    return strncmp(p->name, "identity", strlen("identity")) == 0;
}

static inline void set_identities(struct kd_graph *graph)
{
    for (size_t i = 0; i < kd_graph_num_parameters(graph); i++) {
        struct kd_parameter *p = kd_graph_parameter(graph, i);
        float *plain = NULL;
        if (!is_identity(p))
            continue;
        plain = floats(p->count);
        for (size_t k = 0; k < p->shape[0]; k++)
            plain[k * p->shape[1] + k] = 1;
        kd_parameter_set(p, plain, p->value);
        free(plain);
    }
    kd_graph_parameters_changed(graph);
}

static inline void bench_plan(struct bench *b, struct kd_tensor *y)
{
    b->y = y;
    kd_graph_output(b->graph, y);
    if (kd_graph_plan(b->graph) != KD_OK)
        fail_msg("%s", kd_error());
    b->r = draw(count_of(y), 7);
    randomise(b->graph);
    set_identities(b->graph);
}

static inline void bench_close(struct bench *b)
{
    kd_graph_free(b->graph);
    free(b->in[0]);
    free(b->in[1]);
    free(b->r);
}

static inline void bench_forward(struct bench *b)
{
    for (size_t i = 0; i < b->num_inputs; i++)
        kd_tensor_set(b->input[i], b->in[i], b->input[i]->batch);
    assert_int_equal(kd_graph_forward(b->graph), KD_OK);
}

/* What is left over from before must not matter. */
static inline void soil(float *gradient, size_t size)
{
    for (size_t i = 0; gradient != NULL && i < size; i++)
        gradient[i] = 77;
}

/* An optimiser works on the whole array: what is between the values stays zero. */
static inline void check_padding(const struct kd_parameter *p)
{
    float *plain = plain_of(p, p->gradient), *again = floats(p->size);

    kd_parameter_set(p, plain, again);
    for (size_t i = 0; i < p->size; i++)
        if (p->gradient[i] != again[i])
            fail_msg("gradient of %s: %g between its values", p->name,
                     (double)p->gradient[i]);
    free(plain);
    free(again);
}

static inline void bench_backward(struct bench *b)
{
    bench_forward(b);
    for (size_t i = 0; i < b->num_inputs; i++)
        soil(b->x[i]->gradient, b->x[i]->size);
    soil(b->y->gradient, b->y->size);
    kd_tensor_set_gradient(b->y, b->r);
    assert_int_equal(kd_graph_backward(b->graph), KD_OK);
    for (size_t i = 0; i < kd_graph_num_parameters(b->graph); i++)
        if (kd_graph_parameter(b->graph, i)->trained)
            check_padding(kd_graph_parameter(b->graph, i));
}

static inline double bench_loss(struct bench *b)
{
    float *y = NULL;
    double sum = 0;

    bench_forward(b);
    y = values_of(b->y);
    for (size_t i = 0; i < count_of(b->y); i++)
        sum += (double)y[i] * b->r[i];
    free(y);
    return sum;
}

/* The slope between values[i] moved up and down by `step`; `p` is NULL for the
 * values of an input. */
static inline double secant(struct bench *b, struct kd_parameter *p, float *values,
                            size_t i, float step)
{
    const float kept = values[i];
    double loss[2], at[2];

    for (int up = 0; up < 2; up++) {
        values[i] = kept + (up ? step : -step);
        at[up] = values[i];
        if (p != NULL)
            kd_parameter_set(p, values, p->value);
        kd_graph_parameters_changed(b->graph);
        loss[up] = bench_loss(b);
    }
    values[i] = kept;
    if (p != NULL)
        kd_parameter_set(p, values, p->value);
    kd_graph_parameters_changed(b->graph);
    return (loss[1] - loss[0]) / (at[1] - at[0]);
}

/* A central difference without its error of second order. */
static inline double slope_of(struct bench *b, struct kd_parameter *p, float *values,
                              size_t i, float step)
{
    return (4 * secant(b, p, values, i, step) - secant(b, p, values, i, 2 * step)) / 3;
}

/* What rounding in the layers makes of a slope. */
static inline double noise_of(const struct bench *b, float step)
{
    float *y = values_of(b->y);
    double squares = 0;

    for (size_t i = 0; i < count_of(b->y); i++)
        squares += pow((double)y[i] * b->r[i], 2);
    free(y);
    return 1e-7 * sqrt(squares) / step;
}

/* Compares a gradient with slopes. */
static inline void compare_slopes(struct bench *b, struct kd_parameter *p,
                                  float *values, const float *gradient, size_t count,
                                  float step)
{
    const size_t stride = count / b->places + 1;
    const double noise = noise_of(b, step);
    double error = 0, norm = 0, worst = 0, largest = 0, floor = 0;

    for (size_t i = 0; i < count; i += stride) {
        const double slope = slope_of(b, p, values, i, step);
        const double off = fabs(slope - gradient[i]);
        error += off * off;
        norm += slope * slope;
        floor += noise * noise;
        worst = off > worst ? off : worst;
        largest = fabs(slope) > largest ? fabs(slope) : largest;
    }
    if (!(sqrt(error) <= 2e-3 * sqrt(norm) + sqrt(floor)) ||
        !(worst <= 1e-2 * largest + 2 * noise))
        fail_msg("gradient of %s: off by %g of %g in all, %g of %g at worst",
                 p != NULL ? p->name : "the input", sqrt(error), sqrt(norm), worst,
                 largest);
}

/* The gradients of what the layers read and learn, by differences. */
static inline void check_slopes(struct bench *b, float step)
{
    bench_backward(b);
    for (size_t i = 0; i < b->num_inputs; i++) {
        if (!b->x[i]->wants_gradient)
            continue;
        bench_backward(b);
        float *gradient = gradient_of(b->x[i]);
        compare_slopes(b, NULL, b->in[i], gradient, count_of(b->x[i]), step);
        free(gradient);
    }
    for (size_t i = 0; i < kd_graph_num_parameters(b->graph); i++) {
        struct kd_parameter *p = kd_graph_parameter(b->graph, i);
        if (!p->trained || is_identity(p))
            continue;
        bench_backward(b);
        float *values = plain_of(p, p->value), *gradient = plain_of(p, p->gradient);
        compare_slopes(b, p, values, gradient, p->count, step);
        free(values);
        free(gradient);
    }
}

#endif
