/* SPDX-License-Identifier: MIT */
/*
 * Dense layers: their values against a naive product in double, and what no general
 * matrix product promises: a sample's values are the same bits wherever it stands in
 * a batch of whatever size.
 */
#include "kd/graph.h"

#include "kd/memory.h"
#include "kd/random.h"
#include "kd/thread.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static float *draw(size_t n, uint64_t stream)
{
    struct kd_random r = kd_random_at(2, KD_RANDOM_TEST, stream, 0);
    float *x = kd_alloc(n, sizeof *x);

    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)kd_random_normal(&r);
    return x;
}

/* A dense layer of its own, with the first weights of a seed. */
struct bench {
    struct kd_graph *graph;
    struct kd_tensor *x, *y;
};

static void bench_open(struct bench *b, size_t batch, size_t in, size_t out)
{
    assert_int_equal(kd_graph_new(batch, false, &b->graph), KD_OK);
    b->x = kd_graph_input(b->graph, 1, 1, in);
    b->y = kd_graph_dense(b->graph, b->x, "fc", out);
    kd_graph_output(b->graph, b->y);
    assert_int_equal(kd_graph_plan(b->graph), KD_OK);
    assert_int_equal(kd_graph_initialise(b->graph, 5), KD_OK);
}

/* The values of samples first, first + 1, ... of `total`, in rotation. */
static float *run(struct bench *b, const float *in, size_t first, size_t total)
{
    const size_t batch = b->x->batch, width = b->x->width, out = b->y->channels;
    float *x = kd_alloc(batch * width, sizeof *x),
          *y = kd_alloc(batch * out, sizeof *y);

    assert_non_null(x);
    assert_non_null(y);
    for (size_t n = 0; n < batch; n++)
        memcpy(x + n * width, in + (first + n) % total * width, width * sizeof *x);
    kd_tensor_set(b->x, x, batch);
    assert_int_equal(kd_graph_forward(b->graph), KD_OK);
    kd_tensor_get(b->y, y, batch);
    free(x);
    return y;
}

static const size_t ins[] = {1, 17, 64, 768, 3072}, outs[] = {1, 10, 100, 1000};

static void check_values(size_t batch, size_t in, size_t out)
{
    float *x = draw(batch * in, 1), *weight, *bias, *y;
    struct bench b;

    bench_open(&b, batch, in, out);
    y = run(&b, x, 0, batch);
    const struct kd_parameter *w = kd_graph_parameter(b.graph, 0),
                              *c = kd_graph_parameter(b.graph, 1);
    weight = draw(w->count, 0);
    bias = draw(c->count, 0);
    kd_parameter_get(w, w->value, weight);
    kd_parameter_get(c, c->value, bias);
    for (size_t n = 0; n < batch; n++)
        for (size_t o = 0; o < out; o++) {
            double sum = bias[o], size = fabs(sum);
            for (size_t k = 0; k < in; k++) {
                const double term = (double)x[n * in + k] * weight[o * in + k];
                sum += term;
                size += fabs(term);
            }
            if (!(fabs(y[n * out + o] - sum) <= 1e-6 * size))
                fail_msg("%zu x %zu x %zu: y[%zu][%zu] is %.9g, not %.9g", batch, in,
                         out, n, o, (double)y[n * out + o], sum);
        }
    kd_graph_free(b.graph);
    free(x);
    free(y);
    free(weight);
    free(bias);
}

static void values_are_those_of_a_naive_product_in_double(void **state)
{
    static const size_t batches[] = {1, 2, 7, 8, 13};

    (void)state;
    for (size_t i = 0; i < 5; i++)
        for (size_t o = 0; o < 4; o++)
            check_values(batches[(i + o) % 5], ins[i], outs[o]);
}

/* Samples by twos and threes on in batches of every size against one at a time. */
static void check_place(size_t in, size_t out, size_t batch, const float *x,
                        size_t total, const float *alone)
{
    struct bench b;

    bench_open(&b, batch, in, out);
    for (size_t first = 0; first < total; first += batch / 2 + 1) {
        float *y = run(&b, x, first, total);
        for (size_t n = 0; n < batch; n++)
            if (memcmp(y + n * out, alone + (first + n) % total * out,
                       out * sizeof *y) != 0)
                fail_msg("%zu inputs, %zu outputs: sample %zu differs at place %zu of "
                         "a batch of %zu",
                         in, out, (first + n) % total, n, batch);
        free(y);
    }
    kd_graph_free(b.graph);
}

static void check_places(size_t in, size_t out)
{
    const size_t total = in * out > 1000000 ? 11 : 50;
    float *x = draw(total * in, 2), *alone = draw(total * out, 3);
    struct bench b;

    bench_open(&b, 1, in, out);
    for (size_t n = 0; n < total; n++) {
        float *y = run(&b, x, n, total);
        memcpy(alone + n * out, y, out * sizeof *y);
        free(y);
    }
    kd_graph_free(b.graph);
    for (size_t batch = 2; batch <= total; batch += 1 + batch / 8)
        check_place(in, out, batch, x, total, alone);
    check_place(in, out, 256, x, total, alone);
    free(x);
    free(alone);
}

static void a_samples_values_do_not_depend_on_its_batch(void **state)
{
    (void)state;
    for (size_t threads = 1; threads <= 3; threads += 2) {
        kd_threads_set(threads);
        for (size_t i = 0; i < 5; i++)
            for (size_t o = 0; o < 3; o++)
                if (threads == 1 || ins[i] * outs[o] <= 76800)
                    check_places(ins[i], outs[o]);
    }
    check_places(64, 1000);
    kd_threads_set(0);
}

static void values_do_not_depend_on_the_number_of_threads(void **state)
{
    const size_t batch = 37, in = 300, out = 90;
    float *x = draw(batch * in, 4), *y[3];
    struct bench b;

    (void)state;
    bench_open(&b, batch, in, out);
    for (size_t threads = 1; threads <= 3; threads++) {
        kd_threads_set(threads);
        y[threads - 1] = run(&b, x, 0, batch);
    }
    kd_threads_set(0);
    assert_memory_equal(y[0], y[1], batch * out * sizeof *y[0]);
    assert_memory_equal(y[0], y[2], batch * out * sizeof *y[0]);
    for (size_t i = 0; i < 3; i++)
        free(y[i]);
    kd_graph_free(b.graph);
    free(x);
}

static void weights_that_changed_are_used(void **state)
{
    const float x[] = {1, 2, 3}, once[] = {1, 0, 0, 0, 1, 0},
                then[] = {0, 0, 1, 1, 1, 1};
    struct kd_parameter *w;
    struct bench b;
    float *y;

    (void)state;
    bench_open(&b, 1, 3, 2);
    w = kd_graph_parameter(b.graph, 0);
    memset(kd_graph_parameter(b.graph, 1)->value, 0, 2 * sizeof(float));
    kd_parameter_set(w, once, w->value);
    kd_graph_parameters_changed(b.graph);
    y = run(&b, x, 0, 1);
    assert_true(y[0] == 1 && y[1] == 2);
    free(y);
    kd_parameter_set(w, then, w->value);
    kd_graph_parameters_changed(b.graph);
    y = run(&b, x, 0, 1);
    assert_true(y[0] == 3 && y[1] == 6);
    free(y);
    kd_graph_free(b.graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_those_of_a_naive_product_in_double),
        cmocka_unit_test(a_samples_values_do_not_depend_on_its_batch),
        cmocka_unit_test(values_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(weights_that_changed_are_used),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
