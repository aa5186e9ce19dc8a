/* SPDX-License-Identifier: MIT */
/* Softmax, gates, attention between voices, dense layers without bias: values against
 * naive ones in double, gradients against differences. */
#include "nn_fixture.h"

static void check_values(struct bench *b, const double *want, const char *what)
{
    bench_forward(b);
    float *y = values_of(b->y);
    assert_near(y, want, count_of(b->y), 1e-6, what);
    free(y);
}

/* y[rows][n] = softmax(x / t) */
static void naive_softmax(const float *x, size_t rows, size_t n, double t, double *y)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += y[i] = exp((double)x[i] / t);
        for (size_t i = 0; i < n; i++)
            y[i] /= sum;
    }
}

static void softmax_at_a_temperature(void **state)
{
    static const size_t sizes[] = {1, 3, 16, 37};

    (void)state;
    for (size_t i = 0; i < 4; i++)
        for (int hot = 0; hot < 2; hot++) {
            struct bench b;
            bench_open(&b, 4, true);
            bench_plan(&b,
                       kd_graph_softmax(b.graph, bench_input(&b, sizes[i], 1, 1, false),
                                        hot ? 3 : 1));
            double *want = doubles(4 * sizes[i]);
            naive_softmax(b.in[0], 4, sizes[i], hot ? 3 : 1, want);
            check_values(&b, want, "softmax");
            check_slopes(&b, 1e-2F);
            free(want);
            bench_close(&b);
        }
}

/* A logit may be large. */
static void softmax_does_not_overflow(void **state)
{
    struct bench b;
    float *y;

    (void)state;
    bench_open(&b, 1, false);
    bench_plan(&b, kd_graph_softmax(b.graph, bench_input(&b, 5, 1, 1, true), 1));
    for (size_t c = 0; c < 5; c++)
        b.in[0][c] = c == 2 ? 3e4F : -3e4F;
    bench_forward(&b);
    y = values_of(b.y);
    for (size_t c = 0; c < 5; c++)
        assert_true(y[c] == (c == 2 ? 1 : 0));
    free(y);
    bench_close(&b);
}

static void a_gate_lets_a_share_through(void **state)
{
    static const size_t sizes[][3] = {{4, 1, 1}, {20, 3, 2}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const size_t channels = sizes[i][0],
                     each = channels * sizes[i][1] * sizes[i][2];
        struct bench b;
        bench_open(&b, 3, true);
        struct kd_tensor *x =
            bench_input(&b, channels, sizes[i][1], sizes[i][2], false);
        bench_plan(&b, kd_graph_weigh(b.graph, x, bench_input(&b, 5, 1, 1, false), 3));
        double *want = doubles(3 * each);
        for (size_t k = 0; k < 3 * each; k++)
            want[k] = (double)b.in[0][k] * (double)b.in[1][k / each * 5 + 3];
        check_values(&b, want, "a gate");
        check_slopes(&b, 1e-2F);
        free(want);
        bench_close(&b);
    }
}

#define VOICES  3
#define SAMPLES 2
#define ROWS    (VOICES * SAMPLES)

static void scores_are_products_with_all_voices(void **state)
{
    static const size_t sizes[] = {1, 7, 20};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const size_t n = sizes[i];
        double want[ROWS * VOICES] = {0};
        struct bench b;
        bench_open(&b, ROWS, true);
        struct kd_tensor *left = bench_input(&b, n, 1, 1, false);
        struct kd_tensor *right = bench_input(&b, n, 1, 1, false);
        bench_plan(&b, kd_graph_voice_scores(b.graph, left, right, VOICES));
        for (size_t row = 0; row < ROWS; row++)
            for (size_t v = 0; v < VOICES; v++)
                for (size_t k = 0; k < n; k++)
                    want[row * VOICES + v] +=
                        (double)b.in[0][row * n + k] *
                        (double)b.in[1][(v * SAMPLES + row % SAMPLES) * n + k];
        check_values(&b, want, "scores");
        check_slopes(&b, 1e-2F);
        bench_close(&b);
    }
}

/* With weights, or with an even share of each. */
static void check_voices(size_t n, bool even)
{
    double *want = doubles(ROWS * n);
    struct bench b;

    bench_open(&b, ROWS, true);
    struct kd_tensor *v = bench_input(&b, n, 1, 1, false);
    bench_plan(
        &b, even ? kd_graph_mean_voice(b.graph, v, VOICES)
                 : kd_graph_voices(b.graph, bench_input(&b, VOICES, 1, 1, false), v));
    for (size_t row = 0; row < ROWS; row++)
        for (size_t o = 0; o < VOICES; o++)
            for (size_t k = 0; k < n; k++)
                want[row * n + k] +=
                    (even ? 1.0 / VOICES : (double)b.in[1][row * VOICES + o]) *
                    (double)b.in[0][(o * SAMPLES + row % SAMPLES) * n + k];
    check_values(&b, want, "voices");
    check_slopes(&b, 1e-2F);
    bench_close(&b);
    free(want);
}

static void voices_are_heard_by_their_weights(void **state)
{
    (void)state;
    check_voices(1, false);
    check_voices(21, false);
    check_voices(1, true);
    check_voices(21, true);
}

static void dense_without_a_bias(void **state)
{
    for (int map = 0; map < 2; map++) {
        const size_t side = map ? 2 : 1, in = 20 * side * side, out = 5;
        double want[4 * 5] = {0};
        struct bench b;
        (void)state;
        bench_open(&b, 4, true);
        bench_plan(&b, kd_graph_unbiased_dense(
                           b.graph, bench_input(&b, 20, side, side, false), "w", out));
        assert_int_equal(kd_graph_num_parameters(b.graph), 2); /* and the identity */
        const struct kd_parameter *p = named(b.graph, "w.weight");
        float *w = plain_of(p, p->value);
        for (size_t n = 0; n < 4; n++)
            for (size_t o = 0; o < out; o++)
                for (size_t i = 0; i < in; i++)
                    want[n * out + o] +=
                        (double)w[o * in + i] * (double)b.in[0][n * in + i];
        check_values(&b, want, "a dense layer without bias");
        check_slopes(&b, 1e-2F);
        free(w);
        bench_close(&b);
    }
}

/* In inference the batch norm behind it is folded into it. */
static void dense_without_a_bias_takes_in_a_batch_norm(void **state)
{
    float *y[2];

    (void)state;
    for (int apart = 0; apart < 2; apart++) {
        struct bench b;
        bench_open(&b, 4, false);
        struct kd_tensor *x =
            kd_graph_unbiased_dense(b.graph, bench_input(&b, 20, 1, 1, true), "w", 6);
        if (apart)
            kd_graph_output(b.graph, x); /* somebody reads it: nothing is folded */
        bench_plan(&b, kd_graph_batch_norm(b.graph, x, NULL, true, "bn"));
        bench_forward(&b);
        y[apart] = values_of(b.y);
        bench_close(&b);
    }
    assert_near_float(y[0], y[1], 4 * 6, 1e-6, "a folded batch norm");
    free(y[0]);
    free(y[1]);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct kd_graph *g = NULL;
        assert_int_equal(kd_graph_new(6, true, &g), KD_OK);
        struct kd_tensor *map = kd_graph_gradient_input(g, 4, 2, 2);
        struct kd_tensor *a = kd_graph_gradient_input(g, 4, 1, 1);
        struct kd_tensor *b = kd_graph_gradient_input(g, 5, 1, 1);
        assert_null(i == 0   ? kd_graph_softmax(g, map, 1)
                    : i == 1 ? kd_graph_weigh(g, map, a, 4)
                    : i == 2 ? kd_graph_voice_scores(g, a, b, 3)
                    : i == 3 ? kd_graph_voices(g, a, b) /* 6 rows, 4 voices */
                             : kd_graph_mean_voice(g, map, 3));
        assert_int_equal(kd_graph_plan(g), KD_EBUG);
        kd_graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_at_a_temperature),
        cmocka_unit_test(softmax_does_not_overflow),
        cmocka_unit_test(a_gate_lets_a_share_through),
        cmocka_unit_test(scores_are_products_with_all_voices),
        cmocka_unit_test(voices_are_heard_by_their_weights),
        cmocka_unit_test(dense_without_a_bias),
        cmocka_unit_test(dense_without_a_bias_takes_in_a_batch_norm),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
