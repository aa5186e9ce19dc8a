/* SPDX-License-Identifier: MIT */
/*
 * Layers: values and gradients against naive ones in double, and against central
 * differences of the loss sum(y * r) with fixed random r; and what graphs promise.
 */
#include "nn_fixture.h"

#include "kd/memory.h"
#include "kd/network.h"
#include "kd/optimizer.h"
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

#define LANES (y[0]->lanes)

/* -- convolutions ---------------------------------------------------------- */

struct conv_case {
    size_t batch, in, height, width, out, kernel, stride, padding;
    bool bare; /* reads the graph's input as it lies */
};

/* Every combination of an output, an input and a weight that meet. */
static void naive_conv(const struct conv_case *t, const struct kd_tensor *to,
                       const float *x, const float *w, const float *dy, double *y,
                       double *dx, double *dw)
{
    const size_t k = t->kernel;
    size_t at = 0;

    for (size_t n = 0; n < t->batch; n++)
        for (size_t o = 0; o < t->out; o++)
            for (size_t p = 0; p < to->height * to->width; p++, at++)
                for (size_t c = 0; c < t->in; c++)
                    for (size_t q = 0; q < k * k; q++) {
                        const size_t i = p / to->width * t->stride + q / k;
                        const size_t j = p % to->width * t->stride + q % k;
                        if (i < t->padding || i - t->padding >= t->height ||
                            j < t->padding || j - t->padding >= t->width)
                            continue;
                        const size_t from =
                            ((n * t->in + c) * t->height + i - t->padding) * t->width +
                            j - t->padding;
                        const size_t by = (o * t->in + c) * k * k + q;
                        y[at] += (double)x[from] * w[by];
                        dx[from] += (double)dy[at] * w[by];
                        dw[by] += (double)dy[at] * x[from];
                    }
}

static void open_conv(struct bench *b, const struct conv_case *t, bool training)
{
    const struct kd_conv conv = {t->out, t->kernel, t->stride, t->padding};
    struct kd_tensor *x;

    bench_open(b, t->batch, training);
    x = bench_input(b, t->in, t->height, t->width, t->bare);
    bench_plan(b, kd_graph_conv(b->graph, x, "conv", &conv));
}

/* Winograd's transforms cost a digit or so. */
#define CONV_TOLERANCE 1e-5

static void check_conv(const struct conv_case *t)
{
    struct bench b, inference;
    open_conv(&b, t, true);
    open_conv(&inference, t, false);
    const struct kd_parameter *p = named(b.graph, "conv.weight");
    const size_t out = count_of(b.y), in = count_of(b.x[0]);
    double *y = doubles(out), *dx = doubles(in), *dw = doubles(p->count);
    float *w = plain_of(p, p->value), *got;

    naive_conv(t, b.y, b.in[0], w, b.r, y, dx, dw);
    bench_backward(&b);
    got = values_of(b.y);
    assert_near(got, y, out, CONV_TOLERANCE, "a convolution");
    free(got);
    got = plain_of(p, p->gradient);
    assert_near(got, dw, p->count, CONV_TOLERANCE, "its weights' gradient");
    free(got);
    if (!t->bare) {
        got = gradient_of(b.x[0]);
        assert_near(got, dx, in, CONV_TOLERANCE, "its input's gradient");
        free(got);
    }
    assert_int_equal(kd_graph_copy_parameters(inference.graph, b.graph), KD_OK);
    bench_forward(&inference);
    got = values_of(inference.y);
    assert_near(got, y, out, CONV_TOLERANCE, "a convolution in inference");
    free(got);
    free(w);
    free(y);
    free(dx);
    free(dw);
    bench_close(&inference);
    bench_close(&b);
}

static const struct conv_case convs[] = {
    {4, 3, 12, 12, 16, 3, 1, 1, true},    /* first ones, over plain inputs */
    {3, 1, 9, 10, 8, 3, 1, 1, true},      /* one channel, not square */
    {2, 2, 8, 8, 20, 5, 2, 2, true},      /* larger, with a stride */
    {2, 3, 8, 8, 16, 3, 1, 1, false},     /* 3 channels, blocked */
    {5, 16, 8, 8, 16, 3, 1, 1, false},    /* an odd batch */
    {1, 16, 8, 8, 32, 3, 2, 1, false},    /* a stage's first: stride 2 */
    {4, 16, 9, 7, 32, 3, 2, 1, false},    /* stride 2, odd sizes */
    {4, 16, 8, 8, 32, 1, 2, 0, false},    /* a shortcut */
    {4, 32, 7, 7, 48, 1, 1, 0, false},    /* 1x1 */
    {4, 20, 8, 8, 24, 3, 1, 1, false},    /* not multiples of 16 */
    {4, 17, 8, 8, 33, 3, 2, 1, false},    /* one too many */
    {3, 5, 6, 6, 7, 3, 1, 0, false},      /* few, no padding */
    {2, 8, 8, 8, 16, 2, 2, 0, false},     /* an even kernel */
    {2, 16, 3, 3, 16, 3, 1, 0, false},    /* one value is left */
    {4, 32, 8, 8, 32, 3, 1, 1, false},    /* Winograd, where there is a kernel */
    {2, 64, 16, 16, 64, 3, 1, 1, false},  /* Winograd */
    {2, 32, 15, 13, 48, 3, 1, 1, false},  /* sizes that tiles of 4 do not fill */
    {2, 128, 4, 4, 128, 3, 1, 1, false},  /* many channels, one tile */
    {2, 16, 11, 11, 100, 3, 1, 1, false}, /* out not a multiple of 16 */
};
#define NUM_CONVS (sizeof convs / sizeof convs[0])

static void convolutions_are_those_of_a_naive_one_in_double(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_CONVS; i++)
        check_conv(&convs[i]);
}

static void gradients_of_convolutions_are_slopes_of_the_loss(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_CONVS; i++) {
        struct bench b;
        open_conv(&b, &convs[i], true);
        b.places = 5;
        check_slopes(&b, 0.25F); /* linear: a long step loses nothing */
        bench_close(&b);
    }
}

/* -- batch norm ------------------------------------------------------------ */

struct norm_case {
    size_t batch, channels, height, width;
    bool residual, relu;
};

static const struct norm_case norms[] = {
    {4, 16, 6, 6, false, false}, {4, 16, 6, 6, false, true}, {4, 16, 6, 6, true, false},
    {4, 16, 6, 6, true, true},   {3, 20, 5, 7, true, true},  {2, 33, 4, 4, false, true},
    {1, 7, 8, 8, true, true}, /* the statistics of one sample's plane */
};
#define NUM_NORMS (sizeof norms / sizeof norms[0])

static void open_norm(struct bench *b, const struct norm_case *t, bool training)
{
    struct kd_tensor *x, *residual = NULL;

    bench_open(b, t->batch, training);
    x = bench_input(b, t->channels, t->height, t->width, false);
    if (t->residual)
        residual = bench_input(b, t->channels, t->height, t->width, false);
    for (size_t i = 0; i < count_of(x); i++)
        b->in[0][i] = 3 + 0.5F * b->in[0][i]; /* a mean worth subtracting */
    bench_plan(b, kd_graph_batch_norm(b->graph, x, residual, t->relu, "bn"));
}

/* One channel of the reference: its values are those at index(k), k < count. */
struct channel {
    const struct norm_case *t;
    size_t c, count;
    double mean, deviation;
};

static size_t index_of(const struct channel *a, size_t k)
{
    const size_t plane = a->t->height * a->t->width;

    return (k / plane * a->t->channels + a->c) * plane + k % plane;
}

static struct channel measure(const struct norm_case *t, size_t c, const float *x,
                              double *unbiased)
{
    struct channel a = {t, c, t->batch * t->height * t->width, 0, 0};
    double sum = 0, squares = 0;

    for (size_t k = 0; k < a.count; k++)
        sum += x[index_of(&a, k)];
    a.mean = sum / (double)a.count;
    for (size_t k = 0; k < a.count; k++)
        squares += pow(x[index_of(&a, k)] - a.mean, 2);
    a.deviation = sqrt(squares / (double)a.count + 1e-5);
    *unbiased = squares / ((double)a.count - 1);
    return a;
}

struct norm_want {
    double *y, *dx, *dresidual, *dweight, *dbias;
};

/* The three-term formula, e.g. of the appendix of Ioffe and Szegedy 2015. */
static void naive_norm(const struct channel *a, const struct bench *b, double weight,
                       double bias, struct norm_want *want)
{
    double sum = 0, sum_hat = 0;

    for (size_t k = 0; k < a->count; k++) {
        const size_t i = index_of(a, k);
        const double hat = (b->in[0][i] - a->mean) / a->deviation;
        const double y =
            weight * hat + bias + (a->t->residual ? (double)b->in[1][i] : 0);
        const bool open = !a->t->relu || y > 0;
        assert_true(fabs(y) > 1e-5); /* else the sign is rounding's */
        want->y[i] = open ? y : 0;
        want->dresidual[i] = open ? (double)b->r[i] : 0;
        sum += want->dresidual[i];
        sum_hat += want->dresidual[i] * hat;
    }
    for (size_t k = 0; k < a->count; k++) {
        const size_t i = index_of(a, k);
        const double hat = (b->in[0][i] - a->mean) / a->deviation;
        want->dx[i] = weight / a->deviation *
                      (want->dresidual[i] - (sum + hat * sum_hat) / (double)a->count);
    }
    want->dbias[a->c] = sum;
    want->dweight[a->c] = sum_hat;
}

static void compare_norm(struct bench *b, const struct norm_case *t,
                         const struct norm_want *want)
{
    const struct kd_parameter *weight = named(b->graph, "bn.weight"),
                              *bias = named(b->graph, "bn.bias");
    const size_t n = count_of(b->y);
    float *y = values_of(b->y), *dx = gradient_of(b->x[0]),
          *dweight = plain_of(weight, weight->gradient),
          *dbias = plain_of(bias, bias->gradient);

    assert_near(y, want->y, n, 1e-6, "batch norm");
    assert_near(dx, want->dx, n, 1e-5, "its input's gradient");
    assert_near(dweight, want->dweight, t->channels, 1e-5, "its weight's gradient");
    assert_near(dbias, want->dbias, t->channels, 1e-5, "its bias's gradient");
    if (t->residual) {
        float *dresidual = gradient_of(b->x[1]);
        assert_near(dresidual, want->dresidual, n, 1e-6, "its residual's gradient");
        free(dresidual);
    }
    free(y);
    free(dx);
    free(dweight);
    free(dbias);
}

static void check_norm(const struct norm_case *t)
{
    struct bench b;
    open_norm(&b, t, true);
    const size_t n = count_of(b.y);
    struct norm_want want = {doubles(n), doubles(n), doubles(n), doubles(t->channels),
                             doubles(t->channels)};
    const struct kd_parameter *p = named(b.graph, "bn.weight");
    float *weight = plain_of(p, p->value);
    p = named(b.graph, "bn.bias");
    float *bias = plain_of(p, p->value);

    for (size_t c = 0; c < t->channels; c++) {
        double unbiased;
        const struct channel a = measure(t, c, b.in[0], &unbiased);
        naive_norm(&a, &b, weight[c], bias[c], &want);
    }
    bench_backward(&b);
    compare_norm(&b, t, &want);
    free(weight);
    free(bias);
    free(want.y);
    free(want.dx);
    free(want.dresidual);
    free(want.dweight);
    free(want.dbias);
    bench_close(&b);
}

static void batch_norm_is_that_of_a_naive_one_in_double(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_NORMS; i++)
        check_norm(&norms[i]);
}

/* Channels so far above or below the ReLU's kink that none of them crosses it. */
static void move_from_kink(struct bench *b, const char *bias, float by)
{
    const struct kd_parameter *p = named(b->graph, bias);
    float *plain = floats(p->count);

    for (size_t i = 0; i < p->count; i++)
        plain[i] = i % 3 == 0 ? -by : by;
    set_named(b->graph, bias, plain);
    free(plain);
}

static void gradients_of_batch_norm_are_slopes_of_the_loss(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_NORMS; i++) {
        struct bench b;
        open_norm(&b, &norms[i], true);
        if (norms[i].relu)
            move_from_kink(&b, "bn.bias", 20);
        check_slopes(&b, 0.02F);
        bench_close(&b);
    }
}

static void batch_norm_behind_a_dense_layer_has_its_gradient(void **state)
{
    struct bench b;
    struct kd_tensor *x;

    (void)state;
    bench_open(&b, 12, true);
    x = bench_input(&b, 20, 1, 1, false);
    x = kd_graph_dense(b.graph, x, "fc", 18);
    x = kd_graph_batch_norm(b.graph, x, NULL, true, "bn");
    bench_plan(&b, kd_graph_dense(b.graph, x, "last", 5));
    move_from_kink(&b, "bn.bias", 6);
    /* A bias before batch norm changes nothing: its gradient is none, and no slope
     * can be told from rounding. */
    bench_backward(&b);
    const struct kd_parameter *bias = named(b.graph, "fc.bias"),
                              *weight = named(b.graph, "fc.weight");
    for (size_t i = 0; i < bias->count; i++)
        assert_true(fabsf(bias->gradient[i]) < 1e-5F);
    float *values = plain_of(weight, weight->value),
          *gradient = plain_of(weight, weight->gradient);
    compare_slopes(&b, named(b.graph, "fc.weight"), values, gradient, weight->count,
                   0.01F);
    bench_backward(&b);
    float *dx = gradient_of(b.x[0]);
    compare_slopes(&b, NULL, b.in[0], dx, count_of(b.x[0]), 0.01F);
    free(values);
    free(gradient);
    free(dx);
    bench_close(&b);
}

static void running_statistics_follow_those_of_the_batches(void **state)
{
    const struct norm_case t = {4, 20, 5, 5, false, false};
    struct bench b;
    double mean[20], variance[20];

    (void)state;
    open_norm(&b, &t, true);
    const struct kd_parameter *m = named(b.graph, "bn.running_mean"),
                              *v = named(b.graph, "bn.running_var");
    float *got_mean = plain_of(m, m->value), *got_variance = plain_of(v, v->value);
    for (size_t c = 0; c < t.channels; c++) {
        mean[c] = got_mean[c];
        variance[c] = got_variance[c];
    }
    for (int step = 0; step < 3; step++) {
        for (size_t i = 0; i < count_of(b.x[0]); i++)
            b.in[0][i] = b.in[0][i] * 1.5F + 1;
        bench_forward(&b);
        for (size_t c = 0; c < t.channels; c++) {
            double unbiased;
            const struct channel a = measure(&t, c, b.in[0], &unbiased);
            mean[c] = 0.9 * mean[c] + 0.1 * a.mean;
            variance[c] = 0.9 * variance[c] + 0.1 * unbiased;
        }
    }
    kd_parameter_get(m, m->value, got_mean);
    kd_parameter_get(v, v->value, got_variance);
    assert_near(got_mean, mean, t.channels, 1e-6, "running mean");
    assert_near(got_variance, variance, t.channels, 1e-6, "running variance");
    free(got_mean);
    free(got_variance);
    bench_close(&b);
}

static void inference_normalises_by_the_running_statistics(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_NORMS; i++) {
        const struct norm_case *t = &norms[i];
        const size_t plane = t->height * t->width;
        struct bench b;
        open_norm(&b, t, false);
        double *want = doubles(count_of(b.y));
        const float *weight = named(b.graph, "bn.weight")->value,
                    *bias = named(b.graph, "bn.bias")->value,
                    *mean = named(b.graph, "bn.running_mean")->value,
                    *variance = named(b.graph, "bn.running_var")->value;
        for (size_t k = 0; k < count_of(b.y); k++) {
            const size_t c = k / plane % t->channels;
            want[k] =
                (b.in[0][k] - mean[c]) / sqrt(variance[c] + 1e-5) * weight[c] + bias[c];
            if (t->residual)
                want[k] += b.in[1][k];
            if (t->relu && want[k] < 0)
                want[k] = 0;
        }
        bench_forward(&b);
        float *y = values_of(b.y);
        assert_near(y, want, count_of(b.y), 1e-6, "batch norm in inference");
        free(y);
        free(want);
        bench_close(&b);
    }
}

/* -- the other layers -------------------------------------------------------- */

static void relu_lets_through_what_is_above_zero(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b, 3, true);
    bench_plan(&b, kd_graph_relu(b.graph, bench_input(&b, 20, 5, 5, false)));
    b.in[0][0] = 0; /* where PyTorch's gradient is none */
    bench_backward(&b);
    float *y = values_of(b.y), *dx = gradient_of(b.x[0]);
    for (size_t i = 0; i < count_of(b.y); i++) {
        assert_true(y[i] == (b.in[0][i] > 0 ? b.in[0][i] : 0));
        assert_true(dx[i] == (b.in[0][i] > 0 ? b.r[i] : 0));
    }
    free(y);
    free(dx);
    bench_close(&b);
}

static void relu_has_its_gradient(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b, 3, true);
    bench_plan(&b, kd_graph_relu(b.graph, bench_input(&b, 20, 5, 5, false)));
    for (size_t i = 0; i < count_of(b.x[0]); i++)
        b.in[0][i] += b.in[0][i] > 0 ? 0.3F : -0.3F;
    check_slopes(&b, 0.1F);
    bench_close(&b);
}

static void relu_reads_plain_inputs(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b, 2, true);
    bench_plan(&b, kd_graph_dense(
                       b.graph, kd_graph_relu(b.graph, bench_input(&b, 3, 4, 4, true)),
                       "fc", 4));
    check_slopes(&b, 0.25F);
    bench_close(&b);
}

struct pool_case {
    size_t channels, height, width, size;
};

static const struct pool_case pools[] = {
    {16, 8, 8, 2}, {20, 7, 9, 2}, {7, 8, 8, 3}, {16, 5, 5, 5}, {16, 4, 6, 1},
};
#define NUM_POOLS (sizeof pools / sizeof pools[0])

static void open_pool(struct bench *b, const struct pool_case *t)
{
    struct kd_tensor *x;
    uint32_t *order;

    bench_open(b, 3, true);
    x = bench_input(b, t->channels, t->height, t->width, false);
    bench_plan(b, kd_graph_max_pool(b->graph, x, t->size));
    order = kd_alloc(count_of(x), sizeof *order);
    assert_non_null(order);
    kd_random_permutation(1, 1, order, (uint32_t)count_of(x));
    for (size_t i = 0; i < count_of(x); i++)
        b->in[0][i] = (float)order[i] / 16 - 20; /* no two are nearer than 1/16 */
    free(order);
}

/* Where the largest value of output k's window lies, the first of equals. */
static size_t largest_of(const struct bench *b, const struct pool_case *t, size_t k)
{
    const size_t area = b->y->height * b->y->width;
    const float *plane = b->in[0] + k / area * t->height * t->width;
    const size_t i = k % area / b->y->width * t->size, j = k % b->y->width * t->size;
    size_t best = i * t->width + j;

    for (size_t q = 0; q < t->size * t->size; q++) {
        const size_t at = (i + q / t->size) * t->width + j + q % t->size;
        if (plane[at] > plane[best])
            best = at;
    }
    return (size_t)(plane - b->in[0]) + best;
}

static void compare_pool(struct bench *b, const struct pool_case *t)
{
    double *y = doubles(count_of(b->y)), *dx = doubles(count_of(b->x[0]));

    for (size_t k = 0; k < count_of(b->y); k++) {
        const size_t best = largest_of(b, t, k);
        y[k] = b->in[0][best];
        dx[best] += b->r[k];
    }
    bench_backward(b);
    float *got_y = values_of(b->y), *got_dx = gradient_of(b->x[0]);
    assert_near(got_y, y, count_of(b->y), 0, "max pooling");
    assert_near(got_dx, dx, count_of(b->x[0]), 0, "its gradient");
    free(got_y);
    free(got_dx);
    free(y);
    free(dx);
}

static void max_pooling_takes_the_largest_and_leaves_out_what_is_over(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_POOLS; i++) {
        struct bench b;
        open_pool(&b, &pools[i]);
        assert_int_equal(b.y->height, pools[i].height / pools[i].size);
        compare_pool(&b, &pools[i]);
        check_slopes(&b, 1.0F / 64);
        bench_close(&b);
    }
}

static void max_pooling_sends_the_gradient_to_the_first_of_equals(void **state)
{
    struct bench b;

    (void)state;
    open_pool(&b, &pools[0]);
    for (size_t i = 0; i < count_of(b.x[0]); i++)
        b.in[0][i] = (float)(i * 7 % 3);
    compare_pool(&b, &pools[0]);
    bench_close(&b);
}

static void max_pooling_keeps_what_is_no_number(void **state)
{
    struct bench b;

    (void)state;
    for (size_t corner = 0; corner < 4; corner++) {
        open_pool(&b, &pools[0]);
        b.in[0][corner / 2 * 8 + corner % 2] = NAN;
        bench_forward(&b);
        float *y = values_of(b.y);
        assert_true(isnan(y[0]) && !isnan(y[1]));
        free(y);
        bench_close(&b);
    }
}

static void average_pooling_is_the_mean_of_a_plane(void **state)
{
    static const size_t shapes[][3] = {{16, 8, 8}, {20, 7, 5}, {3, 1, 1}};

    (void)state;
    for (size_t s = 0; s < 3; s++) {
        const size_t plane = shapes[s][1] * shapes[s][2];
        struct bench b;
        bench_open(&b, 4, true);
        bench_plan(&b, kd_graph_average_pool(b.graph,
                                             bench_input(&b, shapes[s][0], shapes[s][1],
                                                         shapes[s][2], false)));
        double *want = doubles(count_of(b.y));
        for (size_t i = 0; i < count_of(b.x[0]); i++)
            want[i / plane] += b.in[0][i] / (double)plane;
        bench_forward(&b);
        float *y = values_of(b.y);
        assert_near(y, want, count_of(b.y), 1e-6, "average pooling");
        check_slopes(&b, 0.25F);
        free(y);
        free(want);
        bench_close(&b);
    }
}

struct dense_case {
    size_t channels, height, width, out;
    bool bare;
};

static void check_dense(const struct dense_case *t)
{
    const size_t in = t->channels * t->height * t->width;
    struct bench b;
    bench_open(&b, 5, true);
    bench_plan(
        &b, kd_graph_dense(b.graph,
                           bench_input(&b, t->channels, t->height, t->width, t->bare),
                           "fc", t->out));
    const struct kd_parameter *p = named(b.graph, "fc.weight"),
                              *q = named(b.graph, "fc.bias");
    float *w = plain_of(p, p->value), *bias = plain_of(q, q->value);
    double *y = doubles(5 * t->out), *dw = doubles(p->count), *db = doubles(t->out);

    for (size_t k = 0; k < 5 * t->out; k++) {
        const size_t n = k / t->out, o = k % t->out;
        y[k] = bias[o];
        db[o] += b.r[k];
        for (size_t i = 0; i < in; i++) {
            y[k] += (double)w[o * in + i] * b.in[0][n * in + i];
            dw[o * in + i] += (double)b.r[k] * b.in[0][n * in + i];
        }
    }
    bench_backward(&b);
    float *got_y = values_of(b.y), *got_dw = plain_of(p, p->gradient),
          *got_db = plain_of(q, q->gradient);
    assert_near(got_y, y, 5 * t->out, 1e-6, "a dense layer");
    assert_near(got_dw, dw, p->count, 1e-6, "its weights' gradient");
    assert_near(got_db, db, t->out, 1e-6, "its bias's gradient");
    check_slopes(&b, 0.25F);
    free(w);
    free(bias);
    free(y);
    free(dw);
    free(db);
    free(got_y);
    free(got_dw);
    free(got_db);
    bench_close(&b);
}

static void dense_layers_read_samples_in_pytorchs_order(void **state)
{
    static const struct dense_case cases[] = {
        {3, 4, 5, 7, true},    {1, 9, 9, 10, true},   {20, 3, 3, 10, false},
        {16, 4, 4, 33, false}, {40, 1, 1, 16, false}, {24, 1, 1, 1, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_dense(&cases[i]);
}

/* -- graphs ------------------------------------------------------------------ */

/* Four readers of one tensor: two convolutions, and batch norm both ways. */
static void a_tensor_that_feeds_several_layers_gets_the_sum_of_gradients(void **state)
{
    const struct kd_conv three = {20, 3, 1, 1}, one = {20, 1, 1, 0};
    struct bench b;
    struct kd_tensor *x, *y, *z;

    (void)state;
    bench_open(&b, 3, true);
    x = bench_input(&b, 20, 6, 6, false);
    y = kd_graph_conv(b.graph, x, "conv1", &three);
    y = kd_graph_batch_norm(b.graph, y, x, false, "bn1");
    z = kd_graph_conv(b.graph, x, "conv2", &one);
    y = kd_graph_batch_norm(b.graph, z, y, false, "bn2");
    bench_plan(&b, kd_graph_batch_norm(b.graph, x, y, false, "bn3"));
    check_slopes(&b, 0.05F);
    bench_close(&b);
}

static void batch_norm_may_read_one_tensor_twice(void **state)
{
    struct bench b;
    struct kd_tensor *x;

    (void)state;
    bench_open(&b, 3, true);
    x = bench_input(&b, 20, 4, 4, false);
    bench_plan(&b, kd_graph_batch_norm(b.graph, x, x, false, "bn"));
    check_slopes(&b, 0.02F);
    bench_close(&b);
}

static void a_chain_of_residual_blocks_has_its_gradients(void **state)
{
    const struct kd_conv same = {16, 3, 1, 1}, half = {32, 3, 2, 1},
                         last = {32, 3, 1, 1}, shortcut = {32, 1, 2, 0};
    static const char *const scales[] = {"b1.weight", "b2.weight", "b3.weight",
                                         "b4.weight", "bs.weight"};
    static const char *const shifts[] = {"b1.bias", "b2.bias", "b3.bias", "b4.bias"};
    float scale[32];
    struct bench b;
    struct kd_tensor *x, *y;

    (void)state;
    bench_open(&b, 4, true);
    b.places = 24;
    x = bench_input(&b, 16, 8, 8, false);
    y = kd_graph_batch_norm(b.graph, kd_graph_conv(b.graph, x, "a1", &same), NULL, true,
                            "b1");
    x = kd_graph_batch_norm(b.graph, kd_graph_conv(b.graph, y, "a2", &same), x, true,
                            "b2");
    y = kd_graph_batch_norm(b.graph, kd_graph_conv(b.graph, x, "a3", &half), NULL, true,
                            "b3");
    x = kd_graph_batch_norm(b.graph, kd_graph_conv(b.graph, x, "s", &shortcut), NULL,
                            false, "bs");
    x = kd_graph_batch_norm(b.graph, kd_graph_conv(b.graph, y, "a4", &last), x, true,
                            "b4");
    bench_plan(&b, kd_graph_dense(b.graph, x, "fc", 5));
    for (size_t i = 0; i < 32; i++)
        scale[i] = 0.25F + 0.01F * (float)(i % 7);
    for (size_t i = 0; i < 5; i++)
        set_named(b.graph, scales[i], scale);
    for (size_t i = 0; i < 4; i++)
        move_from_kink(&b, shifts[i], 3);
    for (size_t i = 0; i < count_of(b.input[0]); i++)
        b.in[0][i] *= 0.25F;
    check_slopes(&b, 0.03F);
    bench_close(&b);
}

/* y = bn1(conv1(x)) + detach(conv2(x)) */
static void no_gradient_goes_through_detach(void **state)
{
    const struct kd_conv conv = {16, 3, 1, 1};
    struct bench with, without;

    (void)state;
    for (int detached = 0; detached < 2; detached++) {
        struct bench *b = detached ? &with : &without;
        struct kd_tensor *x, *y, *z;
        bench_open(b, 3, true);
        x = bench_input(b, 16, 6, 6, false);
        y = kd_graph_conv(b->graph, x, "conv1", &conv);
        z = kd_graph_conv(b->graph, x, "conv2", &conv);
        if (detached)
            z = kd_graph_detach(b->graph, z);
        bench_plan(b,
                   kd_graph_batch_norm(b->graph, y, detached ? z : NULL, false, "bn"));
        bench_backward(b);
    }
    assert_false(with.y->private == NULL);
    float *a = gradient_of(with.x[0]), *b = gradient_of(without.x[0]);
    assert_near_float(a, b, count_of(with.x[0]), 1e-6, "gradient beside a detach");
    const struct kd_parameter *p = named(with.graph, "conv2.weight");
    for (size_t i = 0; i < p->size; i++)
        assert_true(p->gradient[i] == 0);
    float *y = values_of(with.y), *z = values_of(without.y);
    assert_true(memcmp(y, z, count_of(with.y) * sizeof *y) != 0); /* it is added */
    free(a);
    free(b);
    free(y);
    free(z);
    bench_close(&with);
    bench_close(&without);
}

/* A detached tensor shares memory with what others go on reading, and is itself
 * read when they no longer are. */
static void a_detached_tensors_memory_outlives_its_readers(void **state)
{
    static const char *const names[] = {"fc0", "fc1", "fc2", "fc3"};
    float got[2][4 * 32];

    (void)state;
    for (int training = 0; training < 2; training++) {
        const struct kd_conv conv = {16, 1, 1, 0};
        struct bench b;
        struct kd_tensor *in, *x, *early, *late, *y[4];
        bench_open(&b, 2, training);
        in = bench_input(&b, 16, 4, 4, true);
        x = kd_graph_relu(b.graph, kd_graph_detach(b.graph, in));
        early = kd_graph_relu(b.graph, kd_graph_detach(b.graph, x));
        late = kd_graph_detach(b.graph, x);
        y[0] = kd_graph_conv(b.graph, early, "conv0", &conv);
        y[1] = kd_graph_conv(b.graph, x, "conv1", &conv);
        for (size_t i = 0; i < 2; i++)
            y[i] = kd_graph_relu(b.graph, kd_graph_relu(b.graph, y[i]));
        y[2] = late;
        y[3] = in;
        for (size_t i = 0; i < 4; i++) {
            y[i] = kd_graph_dense(b.graph, y[i], names[i], 16);
            kd_graph_output(b.graph, y[i]);
        }
        bench_plan(&b, y[0]);
        bench_forward(&b);
        for (size_t i = 0; i < 4; i++)
            kd_tensor_get(y[i], got[training] + i * 32, 2);
        bench_close(&b);
    }
    assert_near_float(got[0], got[1], 4 * 32, 1e-5, "inference with detached tensors");
}

static void outputs_keep_their_values_behind_their_last_reader(void **state)
{
    static const char *const names[] = {"conv0", "conv1", "conv2", "conv3", "conv4"};
    float got[2][5 * 2 * 16 * 16];

    (void)state;
    for (int training = 0; training < 2; training++) {
        struct bench b;
        struct kd_tensor *y[6];
        bench_open(&b, 2, training);
        y[0] = bench_input(&b, 16, 4, 4, true);
        for (size_t i = 0; i < 5; i++) {
            y[i + 1] =
                kd_graph_conv(b.graph, y[i], names[i], &(struct kd_conv){16, 3, 1, 1});
            kd_graph_output(b.graph, y[i + 1]);
        }
        bench_plan(&b, y[5]);
        bench_forward(&b);
        for (size_t i = 0; i < 5; i++)
            kd_tensor_get(y[i + 1], got[training] + i * 2 * 16 * 16, 2);
        bench_close(&b);
    }
    assert_near_float(got[0], got[1], (size_t)5 * 2 * 16 * 16, 1e-5,
                      "outputs in inference");
}

static void gradients_of_two_outputs_are_added_and_of_none_are_zero(void **state)
{
    struct bench b;
    struct kd_tensor *x, *y, *z;

    (void)state;
    bench_open(&b, 2, true);
    x = bench_input(&b, 8, 1, 1, false);
    y = kd_graph_dense(b.graph, x, "left", 6);
    z = kd_graph_dense(b.graph, x, "right", 6);
    kd_graph_output(b.graph, z);
    bench_plan(&b, y);
    const struct kd_parameter *right = named(b.graph, "right.weight");
    bench_backward(&b); /* y alone */
    float *dy = gradient_of(b.x[0]);
    for (size_t i = 0; i < right->size; i++)
        assert_true(right->gradient[i] == 0);
    kd_tensor_set_gradient(z, b.r); /* z alone */
    assert_int_equal(kd_graph_backward(b.graph), KD_OK);
    float *dz = gradient_of(b.x[0]);
    kd_tensor_set_gradient(y, b.r);
    kd_tensor_set_gradient(z, b.r);
    assert_int_equal(kd_graph_backward(b.graph), KD_OK);
    float *both = gradient_of(b.x[0]);
    for (size_t i = 0; i < count_of(b.x[0]); i++)
        dy[i] += dz[i];
    assert_near_float(both, dy, count_of(b.x[0]), 1e-6, "the sum of two gradients");
    assert_int_equal(kd_graph_backward(b.graph), KD_OK); /* nothing set */
    for (size_t i = 0; i < right->size; i++)
        assert_true(right->gradient[i] == 0);
    free(dy);
    free(dz);
    free(both);
    bench_close(&b);
}

/* -- whole networks -------------------------------------------------------- */

static const struct kd_arch resnet8 = {
    .family = KD_FAMILY_RESNET, .depth = 8, .width = 12};
static const struct kd_arch plain4 = {.family = KD_FAMILY_PLAIN, .depth = 4};
static const struct kd_arch mlp = {
    .family = KD_FAMILY_MLP, .hidden = {20, 40}, .num_hidden = 2, .batch_norm = true};
static const struct kd_sizes sizes = {3, 16, 16, 10};

static struct kd_network *build(const struct kd_arch *arch, size_t batch, bool training)
{
    struct kd_network *net = NULL;

    if (kd_network_build(arch, &sizes, batch, training, &net) != KD_OK)
        fail_msg("%s", kd_error());
    assert_int_equal(kd_graph_initialise(net->graph, 5), KD_OK);
    return net;
}

static void run(struct kd_network *net, const float *in)
{
    kd_tensor_set(net->input, in, kd_graph_batch(net->graph));
    assert_int_equal(kd_graph_forward(net->graph), KD_OK);
}

/* A few steps of descent on sum(logits * r). */
static void train(struct kd_network *net, int steps)
{
    const struct kd_sgd sgd = {.momentum = 0.9, .weight_decay = 1e-4};
    struct kd_optimizer *optimizer = NULL;
    float *in = draw(count_of(net->input), 1), *r = draw(count_of(net->logits), 2);

    for (size_t i = 0; i < count_of(net->logits); i++)
        r[i] /= 64;
    assert_int_equal(kd_optimizer_new(net->graph, &sgd, &optimizer), KD_OK);
    for (int i = 0; i < steps; i++) {
        run(net, in);
        kd_tensor_set_gradient(net->logits, r);
        assert_int_equal(kd_graph_backward(net->graph), KD_OK);
        kd_optimizer_step(optimizer, 0.05);
    }
    kd_optimizer_free(optimizer);
    free(in);
    free(r);
}

static void repeated_runs_give_the_same_bits(void **state)
{
    struct kd_network *a, *b;

    (void)state;
    kd_threads_set(2);
    a = build(&resnet8, 8, true);
    b = build(&resnet8, 8, true);
    train(a, 1);
    train(b, 1);
    kd_threads_set(1);
    for (size_t i = 0; i < kd_graph_num_parameters(a->graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(a->graph, i),
                                  *q = kd_graph_parameter(b->graph, i);
        assert_memory_equal(p->value, q->value, p->size * sizeof *p->value);
        if (p->gradient != NULL)
            assert_memory_equal(p->gradient, q->gradient, p->size * sizeof(float));
    }
    kd_network_free(a);
    kd_network_free(b);
}

static void one_and_two_threads_agree(void **state)
{
    struct kd_network *net[2];

    (void)state;
    for (size_t threads = 1; threads <= 2; threads++) {
        kd_threads_set(threads);
        net[threads - 1] = build(&resnet8, 8, true);
        train(net[threads - 1], 1);
    }
    kd_threads_set(1);
    for (size_t i = 0; i < kd_graph_num_parameters(net[0]->graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(net[0]->graph, i),
                                  *q = kd_graph_parameter(net[1]->graph, i);
        assert_near_float(p->value, q->value, p->size, 1e-4, p->name);
        if (p->gradient != NULL)
            assert_near_float(p->gradient, q->gradient, p->size, 1e-4, p->name);
    }
    kd_network_free(net[0]);
    kd_network_free(net[1]);
}

/* With running statistics set to those of the batch (which training leaves as its
 * 0.1-fold, with the unbiased variance), inference gives what training gave. */
static void inference_agrees_with_training_on_the_same_statistics(void **state)
{
    const size_t batch = 6, count = 6 * 10 * 10;
    struct kd_graph *graph[2];
    struct kd_tensor *in[2], *out[2];
    float *x = draw(6 * 3 * 10 * 10, 1), got[2][6 * 7];

    (void)state;
    for (int training = 0; training < 2; training++) {
        struct kd_graph *g = NULL;
        assert_int_equal(kd_graph_new(batch, training, &g), KD_OK);
        struct kd_tensor *y = in[training] = kd_graph_input(g, 3, 10, 10);
        y = kd_graph_conv(g, y, "conv", &(struct kd_conv){20, 3, 1, 1});
        y = kd_graph_batch_norm(g, y, NULL, true, "bn");
        y = kd_graph_dense(g, kd_graph_max_pool(g, y, 3), "fc", 7);
        kd_graph_output(g, out[training] = y);
        assert_int_equal(kd_graph_plan(g), KD_OK);
        randomise(graph[training] = g);
    }
    const float zeros[20] = {0};
    set_named(graph[1], "bn.running_mean", zeros);
    set_named(graph[1], "bn.running_var", zeros);
    kd_tensor_set(in[1], x, batch);
    assert_int_equal(kd_graph_forward(graph[1]), KD_OK);
    kd_tensor_get(out[1], got[1], batch);
    struct kd_parameter *mean = named(graph[1], "bn.running_mean"),
                        *variance = named(graph[1], "bn.running_var");
    for (size_t c = 0; c < 20; c++) {
        mean->value[c] *= 10;
        variance->value[c] *= 10.0F * (float)(count - 1) / (float)count;
    }
    assert_int_equal(kd_graph_copy_parameters(graph[0], graph[1]), KD_OK);
    kd_tensor_set(in[0], x, batch);
    assert_int_equal(kd_graph_forward(graph[0]), KD_OK);
    kd_tensor_get(out[0], got[0], batch);
    assert_near_float(got[0], got[1], 6 * 7, 1e-5, "inference");
    kd_graph_free(graph[0]);
    kd_graph_free(graph[1]);
    free(x);
}

static void parameters_go_in_and_out_without_loss(void **state)
{
    const struct kd_arch *const archs[] = {&resnet8, &plain4, &mlp};

    (void)state;
    for (size_t a = 0; a < 6; a++) {
        struct kd_network *net = build(archs[a / 2], 4, a % 2 == 0);
        for (size_t i = 0; i < kd_graph_num_parameters(net->graph); i++) {
            struct kd_parameter *p = kd_graph_parameter(net->graph, i);
            float *plain = draw(p->count, i), *back;
            size_t used = 0;
            memset(p->value, 0xFF, p->size * sizeof *p->value);
            kd_parameter_set(p, plain, p->value);
            back = plain_of(p, p->value);
            assert_memory_equal(plain, back, p->count * sizeof *plain);
            for (size_t k = 0; k < p->size; k++)
                used += p->value[k] != 0;
            assert_int_equal(used, p->count); /* and zeros in between */
            free(plain);
            free(back);
        }
        kd_network_free(net);
    }
}

static void copied_parameters_give_the_same_outputs(void **state)
{
    const struct kd_arch *const archs[] = {&resnet8, &plain4, &mlp};

    (void)state;
    for (size_t a = 0; a < 3; a++) {
        struct kd_network *from = build(archs[a], 8, true),
                          *to = build(archs[a], 8, false),
                          *small = build(archs[a], 3, false);
        float *in = draw(count_of(to->input), 9), want[80], got[80];
        train(from, 3);
        run(small, in); /* with other values, which must not be remembered */
        assert_int_equal(kd_graph_copy_parameters(to->graph, from->graph), KD_OK);
        assert_int_equal(kd_graph_copy_parameters(small->graph, to->graph), KD_OK);
        run(to, in);
        run(small, in);
        kd_tensor_get(to->logits, want, 8);
        kd_tensor_get(small->logits, got, 3);
        assert_near_float(got, want, 30, 1e-5, "a smaller batch");
        free(in);
        kd_network_free(from);
        kd_network_free(to);
        kd_network_free(small);
    }
}

static void parameters_of_another_network_are_refused(void **state)
{
    struct kd_arch wider = resnet8;
    wider.width = 16;
    struct kd_network *a = build(&resnet8, 2, false), *b = build(&wider, 2, false),
                      *c = build(&plain4, 2, false);

    (void)state;
    assert_int_not_equal(kd_graph_copy_parameters(b->graph, a->graph), KD_OK);
    assert_non_null(strstr(kd_error(), "conv1.weight"));
    assert_int_not_equal(kd_graph_copy_parameters(c->graph, a->graph), KD_OK);
    assert_non_null(strstr(kd_error(), "not the same"));
    kd_network_free(a);
    kd_network_free(b);
    kd_network_free(c);
}

static void part_of_a_batch_can_be_set_and_read(void **state)
{
    struct kd_network *net = build(&resnet8, 8, false);
    float *in = draw(count_of(net->input), 1), all[80], some[30];

    (void)state;
    run(net, in);
    kd_tensor_get(net->logits, all, 8);
    kd_tensor_set(net->input, in, 3);
    assert_int_equal(kd_graph_forward(net->graph), KD_OK);
    kd_tensor_get(net->logits, some, 3);
    assert_memory_equal(all, some, sizeof some);
    free(in);
    kd_network_free(net);
}

static void inference_takes_less_memory_than_training(void **state)
{
    struct kd_network *a = build(&resnet8, 16, true), *b = build(&resnet8, 16, false);

    (void)state;
    assert_true(kd_graph_memory(b->graph) > 0);
    assert_true(kd_graph_memory(b->graph) < kd_graph_memory(a->graph));
    kd_network_free(a);
    kd_network_free(b);
}

/* Memory is handed on between tensors of many sizes; the contract is zeros. */
static void unused_lanes_hold_zeros(void **state)
{
    struct kd_graph *g = NULL;
    struct kd_tensor *x, *y[4];
    float *in = draw((size_t)4 * 3 * 8 * 8, 1);

    (void)state;
    assert_int_equal(kd_graph_new(4, false, &g), KD_OK);
    struct kd_tensor *input = x = kd_graph_input(g, 3, 8, 8);
    x = kd_graph_conv(g, x, "conv1", &(struct kd_conv){16, 3, 1, 1});
    x = y[0] = kd_graph_conv(g, x, "conv2", &(struct kd_conv){7, 3, 1, 1});
    x = kd_graph_relu(g, kd_graph_dense(g, x, "fc1", 20));
    x = kd_graph_dense(g, x, "fc2", 100);
    x = y[1] = kd_graph_relu(g, kd_graph_dense(g, x, "fc3", 33));
    x = y[2] = kd_graph_batch_norm(g, x, NULL, false, "bn");
    x = y[3] = kd_graph_dense(g, x, "fc4", 5);
    kd_graph_output(g, x);
    assert_int_equal(kd_graph_plan(g), KD_OK);
    randomise(g);
    for (int again = 0; again < 2; again++) {
        kd_tensor_set(input, in, 4);
        assert_int_equal(kd_graph_forward(g), KD_OK);
    }
    /* y[3] is an output, and what it reads, y[2], was the last to take memory. */
    for (size_t k = 2; k < 4; k++)
        for (size_t i = 0; i < y[k]->size; i++) {
            const size_t blocks = y[k]->size / y[k]->batch / LANES;
            const size_t channel = i / LANES % blocks * LANES + i % LANES;
            if (channel >= y[k]->channels)
                assert_true(y[k]->data[i] == 0);
        }
    kd_graph_free(g);
    free(in);
}

/* A broken teacher must not look like a sure one. */
static void values_that_are_no_numbers_come_out(void **state)
{
    const struct kd_arch *const archs[] = {&resnet8, &plain4, &mlp};
    struct kd_arch bare = mlp;

    (void)state;
    bare.batch_norm = false;
    for (size_t a = 0; a < 4; a++) {
        struct kd_network *net = build(a < 3 ? archs[a] : &bare, 2, false);
        float *in = draw(count_of(net->input), 1), logits[20];
        in[100] = NAN;
        run(net, in);
        kd_tensor_get(net->logits, logits, 2);
        for (size_t c = 0; c < 10; c++) {
            assert_true(isnan(logits[c]));
            assert_true(isfinite(logits[10 + c])); /* the other sample's */
        }
        free(in);
        kd_network_free(net);
    }
}

static double deviation_of(const struct kd_parameter *p)
{
    float *plain = plain_of(p, p->value);
    double sum = 0;

    for (size_t i = 0; i < p->count; i++)
        sum += (double)plain[i] * plain[i];
    free(plain);
    return sqrt(sum / (double)p->count);
}

static void initial_values_have_the_published_spread(void **state)
{
    struct kd_network *net = build(&resnet8, 2, false),
                      *other = build(&resnet8, 5, true);
    const struct kd_parameter *conv = named(net->graph, "layer3.0.conv2.weight"),
                              *fc = named(net->graph, "fc.weight"),
                              *bias = named(net->graph, "fc.bias"),
                              *norm = named(net->graph, "bn1.weight");
    float *a = plain_of(conv, conv->value), *b;

    (void)state;
    assert_true(fabs(deviation_of(conv) / sqrt(2.0 / (48 * 9)) - 1) < 0.03);
    assert_true(fabs(deviation_of(fc) / sqrt(1.0 / (3 * 48)) - 1) < 0.1);
    for (size_t i = 0; i < bias->count; i++)
        assert_true(fabsf(bias->value[i]) <= 1 / sqrtf(48) && bias->value[i] != 0);
    for (size_t i = 0; i < norm->count; i++)
        assert_true(norm->value[i] == 1);
    conv = named(other->graph, "layer3.0.conv2.weight");
    b = plain_of(conv, conv->value);
    assert_memory_equal(a, b, conv->count * sizeof *a); /* whatever batch and mode */
    assert_int_equal(kd_graph_initialise(other->graph, 6), KD_OK);
    kd_parameter_get(conv, conv->value, b);
    assert_true(a[0] != b[0] && a[1] != b[1]);
    free(a);
    free(b);
    kd_network_free(net);
    kd_network_free(other);
}

/* -- what cannot be built ---------------------------------------------------- */

/* Builds on a 16-channel 4x4 tensor and expects planning to fail with `words`. */
static void refuse(struct kd_tensor *(*layer)(struct kd_graph *g, struct kd_tensor *x),
                   enum kd_status want, const char *words)
{
    struct kd_graph *g = NULL;
    struct kd_tensor *x;

    assert_int_equal(kd_graph_new(2, true, &g), KD_OK);
    x = kd_graph_input(g, 16, 4, 4);
    x = layer(g, kd_graph_relu(g, x));
    assert_null(x);
    assert_null(kd_graph_relu(g, x)); /* and so is all behind it */
    assert_null(kd_graph_dense(g, x, "fc", 3));
    kd_graph_output(g, x);
    assert_int_equal(kd_graph_plan(g), want);
    if (strstr(kd_error(), words) == NULL)
        fail_msg("'%s' does not say '%s'", kd_error(), words);
    kd_graph_free(g);
}

static struct kd_tensor *pool_by_five(struct kd_graph *g, struct kd_tensor *x)
{
    return kd_graph_max_pool(g, x, 5);
}

static struct kd_tensor *pool_by_zero(struct kd_graph *g, struct kd_tensor *x)
{
    return kd_graph_max_pool(g, x, 0);
}

static struct kd_tensor *kernel_of_seven(struct kd_graph *g, struct kd_tensor *x)
{
    return kd_graph_conv(g, x, "stem", &(struct kd_conv){16, 7, 1, 1});
}

static struct kd_tensor *no_channels(struct kd_graph *g, struct kd_tensor *x)
{
    return kd_graph_dense(g, x, "fc", 0);
}

static struct kd_tensor *same_name(struct kd_graph *g, struct kd_tensor *x)
{
    return kd_graph_dense(g, kd_graph_dense(g, x, "twin", 4), "twin", 4);
}

static struct kd_tensor *other_shape(struct kd_graph *g, struct kd_tensor *x)
{
    return kd_graph_batch_norm(g, x, kd_graph_max_pool(g, x, 2), true, "bn");
}

static void what_cannot_be_built_is_said_when_planning(void **state)
{
    (void)state;
    refuse(pool_by_five, KD_ERECIPE, "4 x 4 values cannot be pooled by 5");
    refuse(pool_by_zero, KD_ERECIPE, "pooled by 0");
    refuse(kernel_of_seven, KD_ERECIPE, "stem: a 7 x 7 convolution does not fit 4 x 4");
    refuse(no_channels, KD_EDATA, "0 x 1 x 1 is not possible");
    refuse(same_name, KD_EBUG, "twin.weight");
    refuse(other_shape, KD_EBUG, "bn: batch norm of tensors of two shapes");
}

static void an_empty_batch_is_refused(void **state)
{
    struct kd_graph *g = NULL;

    (void)state;
    assert_int_equal(kd_graph_new(0, true, &g), KD_EUSAGE);
    assert_non_null(strstr(kd_error(), "at least one sample"));
    kd_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_are_those_of_a_naive_one_in_double),
        cmocka_unit_test(gradients_of_convolutions_are_slopes_of_the_loss),
        cmocka_unit_test(batch_norm_is_that_of_a_naive_one_in_double),
        cmocka_unit_test(gradients_of_batch_norm_are_slopes_of_the_loss),
        cmocka_unit_test(batch_norm_behind_a_dense_layer_has_its_gradient),
        cmocka_unit_test(running_statistics_follow_those_of_the_batches),
        cmocka_unit_test(inference_normalises_by_the_running_statistics),
        cmocka_unit_test(relu_lets_through_what_is_above_zero),
        cmocka_unit_test(relu_has_its_gradient),
        cmocka_unit_test(relu_reads_plain_inputs),
        cmocka_unit_test(max_pooling_takes_the_largest_and_leaves_out_what_is_over),
        cmocka_unit_test(max_pooling_sends_the_gradient_to_the_first_of_equals),
        cmocka_unit_test(max_pooling_keeps_what_is_no_number),
        cmocka_unit_test(average_pooling_is_the_mean_of_a_plane),
        cmocka_unit_test(dense_layers_read_samples_in_pytorchs_order),
        cmocka_unit_test(a_tensor_that_feeds_several_layers_gets_the_sum_of_gradients),
        cmocka_unit_test(batch_norm_may_read_one_tensor_twice),
        cmocka_unit_test(a_chain_of_residual_blocks_has_its_gradients),
        cmocka_unit_test(no_gradient_goes_through_detach),
        cmocka_unit_test(a_detached_tensors_memory_outlives_its_readers),
        cmocka_unit_test(outputs_keep_their_values_behind_their_last_reader),
        cmocka_unit_test(gradients_of_two_outputs_are_added_and_of_none_are_zero),
        cmocka_unit_test(repeated_runs_give_the_same_bits),
        cmocka_unit_test(one_and_two_threads_agree),
        cmocka_unit_test(inference_agrees_with_training_on_the_same_statistics),
        cmocka_unit_test(parameters_go_in_and_out_without_loss),
        cmocka_unit_test(copied_parameters_give_the_same_outputs),
        cmocka_unit_test(parameters_of_another_network_are_refused),
        cmocka_unit_test(part_of_a_batch_can_be_set_and_read),
        cmocka_unit_test(inference_takes_less_memory_than_training),
        cmocka_unit_test(unused_lanes_hold_zeros),
        cmocka_unit_test(values_that_are_no_numbers_come_out),
        cmocka_unit_test(initial_values_have_the_published_spread),
        cmocka_unit_test(what_cannot_be_built_is_said_when_planning),
        cmocka_unit_test(an_empty_batch_is_refused),
    };

    kd_threads_set(1); /* in tests with many small runs two lose by waiting */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
