/* SPDX-License-Identifier: MIT */
/*
 * The operations of convolutional networks beyond the plain ones, and of
 * transformers: values against naive ones in double, gradients against differences.
 */
#include "nn_fixture.h"

#include "kd/network.h"

/* Element [n][c][i] of a plain tensor. */
static double at(const struct kd_tensor *t, const float *values, size_t n, size_t c,
                 size_t i)
{
    return values[(n * t->channels + c) * t->height * t->width + i];
}

static void check_values(struct bench *b, const double *want, double tolerance,
                         const char *what)
{
    bench_forward(b);
    float *y = values_of(b->y);
    assert_near(y, want, count_of(b->y), tolerance, what);
    free(y);
}

/* -- convolutions ------------------------------------------------------------- */

struct case_of_conv {
    size_t in, height, width, groups;
    struct kd_conv conv;
    bool biased;
};

static const struct case_of_conv convs[] = {
    {20, 6, 5, 20, {20, 3, 1, 1}, false}, {24, 7, 7, 24, {24, 3, 2, 1}, false},
    {16, 8, 8, 16, {16, 5, 1, 2}, false}, {36, 2, 2, 36, {36, 3, 1, 1}, false},
    {40, 1, 2, 40, {40, 3, 2, 1}, false}, {32, 6, 6, 2, {64, 3, 1, 1}, false},
    {48, 5, 5, 3, {48, 1, 1, 0}, false},  {12, 6, 6, 1, {20, 3, 1, 1}, true},
    {40, 8, 8, 1, {33, 3, 1, 1}, true},   {19, 9, 1, 1, {37, 1, 1, 0}, true},
};
#define NUM_CONVS (sizeof convs / sizeof convs[0])

static void open_conv(struct bench *b, const struct case_of_conv *t, bool training)
{
    struct kd_tensor *x;

    bench_open(b, 2, training);
    b->places = 24;
    x = bench_input(b, t->in, t->height, t->width, !training);
    if (t->groups > 1)
        bench_plan(b, kd_graph_grouped_conv(b->graph, x, "conv", &t->conv, t->groups));
    else if (t->width == 1)
        bench_plan(b, kd_graph_pointwise(b->graph, x, "conv", t->conv.channels));
    else
        bench_plan(b, kd_graph_biased_conv(b->graph, x, "conv", &t->conv));
}

static double naive_conv(const struct bench *b, const struct case_of_conv *t,
                         const float *weight, const float *bias, size_t k)
{
    const struct kd_tensor *y = b->y, *x = b->input[0];
    const size_t width = y->width, plane = y->height * width, size = t->conv.kernel;
    const size_t n = k / plane / y->channels, o = k / plane % y->channels;
    const size_t ins = t->in / t->groups, first = o / (y->channels / t->groups) * ins;
    double sum = bias != NULL ? bias[o] : 0;

    for (size_t c = 0; c < ins; c++)
        for (size_t i = 0; i < size * size; i++) {
            const size_t row = k % plane / width * t->conv.stride + i / size,
                         column = k % width * t->conv.stride + i % size;
            if (row < t->conv.padding || row - t->conv.padding >= x->height ||
                column < t->conv.padding || column - t->conv.padding >= x->width)
                continue;
            sum += weight[(o * ins + c) * size * size + i] *
                   at(x, b->in[0], n, first + c,
                      (row - t->conv.padding) * x->width + column - t->conv.padding);
        }
    return sum;
}

static void grouped_and_biased_convolutions_are_naive_ones(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_CONVS; i++) {
        struct bench b;
        open_conv(&b, &convs[i], false);
        double *want = doubles(count_of(b.y));
        const struct kd_parameter *w = named(b.graph, "conv.weight");
        float *weight = plain_of(w, w->value), *bias = NULL;
        if (convs[i].biased)
            bias = plain_of(named(b.graph, "conv.bias"),
                            named(b.graph, "conv.bias")->value);
        assert_int_equal(w->count, convs[i].conv.channels * convs[i].in /
                                       convs[i].groups * convs[i].conv.kernel *
                                       convs[i].conv.kernel);
        for (size_t k = 0; k < count_of(b.y); k++)
            want[k] = naive_conv(&b, &convs[i], weight, bias, k);
        check_values(&b, want, 1e-6, "a convolution");
        free(want);
        free(weight);
        free(bias);
        bench_close(&b);
    }
}

static void their_gradients_are_slopes_of_the_loss(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_CONVS; i++) {
        struct bench b;
        open_conv(&b, &convs[i], true);
        check_slopes(&b, 0.1F);
        bench_close(&b);
    }
}

static void groups_that_blocks_do_not_fit_are_refused(void **state)
{
    const struct kd_conv conv = {40, 3, 1, 1};
    struct kd_graph *g = NULL;

    (void)state;
    assert_int_equal(kd_graph_new(1, true, &g), KD_OK);
    kd_graph_grouped_conv(g, kd_graph_input(g, 20, 4, 4), "conv", &conv, 4);
    assert_int_equal(kd_graph_plan(g), KD_ERECIPE);
    assert_non_null(strstr(kd_error(), "4 groups"));
    kd_graph_free(g);
}

/* -- pooling -------------------------------------------------------------------- */

static const struct kd_pool pools[] = {
    {2, 2, 0, true},  {3, 2, 1, true},  {3, 1, 1, true},  {5, 3, 2, true},
    {2, 2, 0, false}, {3, 2, 1, false}, {3, 1, 1, false}, {3, 1, 0, false},
};
#define NUM_POOLS (sizeof pools / sizeof pools[0])

static void open_pool(struct bench *b, const struct kd_pool *pool, bool training)
{
    bench_open(b, 2, training);
    bench_plan(b, kd_graph_pool(b->graph, bench_input(b, 20, 7, 6, false), pool));
}

static double naive_pool(const struct bench *b, const struct kd_pool *pool, size_t k)
{
    const struct kd_tensor *y = b->y, *x = b->input[0];
    const size_t plane = y->height * y->width;
    double sum = 0, best = -INFINITY;

    for (size_t i = 0; i < pool->size * pool->size; i++) {
        const size_t row = k % plane / y->width * pool->stride + i / pool->size,
                     column = k % y->width * pool->stride + i % pool->size;
        if (row < pool->padding || row - pool->padding >= x->height ||
            column < pool->padding || column - pool->padding >= x->width)
            continue;
        const double v =
            at(x, b->in[0], k / plane / y->channels, k / plane % y->channels,
               (row - pool->padding) * x->width + column - pool->padding);
        sum += v;
        best = v > best ? v : best;
    }
    return pool->mean ? sum / (double)(pool->size * pool->size) : best;
}

static void pooling_takes_the_mean_or_the_largest_of_windows(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_POOLS; i++) {
        struct bench b;
        open_pool(&b, &pools[i], false);
        double *want = doubles(count_of(b.y));
        for (size_t k = 0; k < count_of(b.y); k++)
            want[k] = naive_pool(&b, &pools[i], k);
        check_values(&b, want, 1e-6, "pooling");
        free(want);
        bench_close(&b);
    }
}

static void pooling_has_its_gradient(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_POOLS; i++) {
        struct bench b;
        open_pool(&b, &pools[i], true);
        /* Values further apart than a step: no window changes its mind. */
        for (size_t k = 0; k < count_of(b.input[0]); k++)
            b.in[0][k] = (float)(k * 37 % 1009) * 0.01F;
        check_slopes(&b, 0.001F);
        bench_close(&b);
    }
}

/* -- sums and channels ------------------------------------------------------------ */

static void sums_and_their_gradients(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b, 2, true);
    struct kd_tensor *x = bench_input(&b, 20, 3, 4, false),
                     *y = bench_input(&b, 20, 3, 4, false);
    x = kd_graph_add(b.graph, x, y);
    bench_plan(&b, kd_graph_add(b.graph, x, x));
    double *want = doubles(count_of(b.y));
    for (size_t k = 0; k < count_of(b.y); k++)
        want[k] = 2 * ((double)b.in[0][k] + b.in[1][k]);
    check_values(&b, want, 1e-6, "a sum");
    check_slopes(&b, 0.1F);
    free(want);
    bench_close(&b);
}

static void concatenated_channels_stand_side_by_side(void **state)
{
    static const size_t counts[][2] = {{16, 32}, {20, 7}, {16, 5}, {32, 32}, {3, 40}};

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        struct bench b;
        bench_open(&b, 2, true);
        struct kd_tensor *x = bench_input(&b, counts[i][0], 3, 4, false),
                         *y = bench_input(&b, counts[i][1], 3, 4, false);
        bench_plan(&b, kd_graph_concat(b.graph, x, y));
        assert_int_equal(b.y->channels, counts[i][0] + counts[i][1]);
        double *want = doubles(count_of(b.y));
        for (size_t k = 0; k < count_of(b.y); k++) {
            const size_t n = k / 12 / b.y->channels, c = k / 12 % b.y->channels;
            want[k] = c < counts[i][0]
                          ? at(b.input[0], b.in[0], n, c, k % 12)
                          : at(b.input[1], b.in[1], n, c - counts[i][0], k % 12);
        }
        check_values(&b, want, 0, "channels side by side");
        check_slopes(&b, 0.1F);
        free(want);
        bench_close(&b);
    }
}

static void slices_and_shuffles_move_channels(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b, 2, true);
    struct kd_tensor *x = bench_input(&b, 60, 2, 3, false), *y;
    y = kd_graph_slice(b.graph, x, 16, 40); /* 16 to 55 */
    bench_plan(&b, kd_graph_shuffle(b.graph, y, 4));
    double *want = doubles(count_of(b.y));
    for (size_t k = 0; k < count_of(b.y); k++) {
        const size_t n = k / 6 / 40, c = k / 6 % 40;
        want[k] = at(b.input[0], b.in[0], n, 16 + c % 4 * 10 + c / 4, k % 6);
    }
    check_values(&b, want, 0, "channels");
    check_slopes(&b, 0.1F);
    free(want);
    bench_close(&b);
}

/* -- transformers ------------------------------------------------------------------ */

static void gelu_is_x_times_the_normal_distributions(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b, 2, true);
    bench_plan(&b, kd_graph_gelu(b.graph, bench_input(&b, 20, 3, 4, false)));
    double *want = doubles(count_of(b.y));
    for (size_t k = 0; k < count_of(b.y); k++) {
        const double x = b.in[0][k] = b.in[0][k] * 2;
        want[k] = 0.5 * x * (1 + erf(x / sqrt(2)));
    }
    check_values(&b, want, 2e-6, "GELU");
    check_slopes(&b, 0.02F);
    free(want);
    bench_close(&b);
}

static void leaky_relu_lets_a_share_of_the_negative_pass(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b, 2, true);
    bench_plan(&b, kd_graph_leaky_relu(b.graph, bench_input(&b, 20, 3, 4, false), 0.2));
    double *want = doubles(count_of(b.y));
    for (size_t k = 0; k < count_of(b.y); k++) {
        float *x = &b.in[0][k];
        *x += *x < 0 ? -0.2F : 0.2F; /* no slope is asked for across the bend */
        want[k] = *x < 0 ? 0.2 * *x : *x;
    }
    check_values(&b, want, 1e-7, "leaky ReLU");
    check_slopes(&b, 0.02F);
    free(want);
    bench_close(&b);
}

static void open_layer_norm(struct bench *b, bool training)
{
    bench_open(b, 2, training);
    b->places = 40;
    bench_plan(b,
               kd_graph_layer_norm(b->graph, bench_input(b, 20, 5, 1, false), "norm"));
}

static void layer_norm_is_over_the_channels_of_a_place(void **state)
{
    struct bench b;

    (void)state;
    open_layer_norm(&b, false);
    double *want = doubles(count_of(b.y));
    const float *weight = named(b.graph, "norm.weight")->value,
                *bias = named(b.graph, "norm.bias")->value;
    for (size_t n = 0; n < 2; n++)
        for (size_t i = 0; i < 5; i++) {
            double mean = 0, variance = 0;
            for (size_t c = 0; c < 20; c++)
                mean += at(b.y, b.in[0], n, c, i) / 20;
            for (size_t c = 0; c < 20; c++)
                variance += pow(at(b.y, b.in[0], n, c, i) - mean, 2) / 20;
            for (size_t c = 0; c < 20; c++)
                want[(n * 20 + c) * 5 + i] = (at(b.y, b.in[0], n, c, i) - mean) /
                                                 sqrt(variance + 1e-6) * weight[c] +
                                             bias[c];
        }
    check_values(&b, want, 1e-6, "layer norm");
    free(want);
    bench_close(&b);
    open_layer_norm(&b, true);
    check_slopes(&b, 0.02F);
    bench_close(&b);
}

#define PLACES 7
#define WIDTH  48 /* of q, k and v each */

static void naive_attention(const struct bench *b, size_t heads, size_t n, size_t head,
                            double *want)
{
    const size_t each = WIDTH / heads, first = head * each;
    const struct kd_tensor *x = b->input[0];

    for (size_t i = 0; i < PLACES; i++) {
        double weight[PLACES], sum = 0;
        for (size_t j = 0; j < PLACES; j++) {
            double dot = 0;
            for (size_t c = 0; c < each; c++)
                dot += at(x, b->in[0], n, first + c, i) *
                       at(x, b->in[0], n, WIDTH + first + c, j);
            sum += weight[j] = exp(dot / sqrt((double)each));
        }
        for (size_t c = 0; c < each; c++) {
            double y = 0;
            for (size_t j = 0; j < PLACES; j++)
                y += weight[j] / sum * at(x, b->in[0], n, 2 * WIDTH + first + c, j);
            want[(n * WIDTH + first + c) * PLACES + i] = y;
        }
    }
}

static void attention_is_a_naive_ones(void **state)
{
    (void)state;
    for (size_t heads = 1; heads <= 4; heads++) {
        struct bench b;
        bench_open(&b, 2, true);
        struct kd_tensor *x = bench_input(&b, 3 * WIDTH, PLACES, 1, false);
        bench_plan(&b, kd_graph_attention(b.graph, x, heads));
        double *want = doubles(count_of(b.y));
        for (size_t n = 0; n < 2; n++)
            for (size_t head = 0; head < heads; head++)
                naive_attention(&b, heads, n, head, want);
        check_values(&b, want, 2e-6, "attention");
        check_slopes(&b, 0.05F);
        free(want);
        bench_close(&b);
    }
}

static void positions_are_added_to_every_sample(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b, 3, true);
    bench_plan(&b,
               kd_graph_positions(b.graph, bench_input(&b, 20, 5, 1, false), "pos"));
    const struct kd_parameter *p = named(b.graph, "pos");
    float *pos = plain_of(p, p->value); /* [1][5][20] */
    double *want = doubles(count_of(b.y));
    assert_true(p->rank == 3 && p->shape[1] == 5 && p->shape[2] == 20);
    for (size_t k = 0; k < count_of(b.y); k++)
        want[k] = (double)b.in[0][k] + pos[k % 5 * 20 + k / 5 % 20];
    check_values(&b, want, 1e-6, "positions");
    check_slopes(&b, 0.1F);
    free(want);
    free(pos);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grouped_and_biased_convolutions_are_naive_ones),
        cmocka_unit_test(their_gradients_are_slopes_of_the_loss),
        cmocka_unit_test(groups_that_blocks_do_not_fit_are_refused),
        cmocka_unit_test(pooling_takes_the_mean_or_the_largest_of_windows),
        cmocka_unit_test(pooling_has_its_gradient),
        cmocka_unit_test(sums_and_their_gradients),
        cmocka_unit_test(concatenated_channels_stand_side_by_side),
        cmocka_unit_test(slices_and_shuffles_move_channels),
        cmocka_unit_test(gelu_is_x_times_the_normal_distributions),
        cmocka_unit_test(leaky_relu_lets_a_share_of_the_negative_pass),
        cmocka_unit_test(layer_norm_is_over_the_channels_of_a_place),
        cmocka_unit_test(attention_is_a_naive_ones),
        cmocka_unit_test(positions_are_added_to_every_sample),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
