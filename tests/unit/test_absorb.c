/* SPDX-License-Identifier: MIT */
/*
 * Inference with batch norm folded into the layers before it: the same values as the
 * same layers one by one (which marking what lies between as outputs makes of them),
 * where sums may be done in place and where not.
 */
#include "nn_fixture.h"

#include "kd/network.h"

/* Marks what lies between a layer and its norm, so that it stays, or does nothing. */
typedef struct kd_tensor *keep(struct kd_graph *g, struct kd_tensor *t);

static struct kd_tensor *apart(struct kd_graph *g, struct kd_tensor *t)
{
    kd_graph_output(g, t);
    return t;
}

static struct kd_tensor *together(struct kd_graph *g, struct kd_tensor *t)
{
    (void)g;
    return t;
}

static const struct kd_conv three = {20, 3, 1, 1}, wide = {40, 3, 1, 1},
                            half = {40, 3, 2, 1}, match = {40, 1, 2, 0};

static struct kd_tensor *norm_alone(struct kd_graph *g, struct kd_tensor *x, keep *k)
{
    x = kd_graph_batch_norm(g, k(g, kd_graph_conv(g, x, "c1", &three)), NULL, false,
                            "b1");
    return kd_graph_batch_norm(g, k(g, kd_graph_conv(g, x, "c2", &half)), NULL, true,
                               "b2");
}

/* By Winograd where there is such a kernel. */
static struct kd_tensor *wide_ones(struct kd_graph *g, struct kd_tensor *x, keep *k)
{
    struct kd_tensor *y;

    x = kd_graph_batch_norm(g, k(g, kd_graph_conv(g, x, "c1", &wide)), NULL, true,
                            "b1");
    y = kd_graph_batch_norm(g, k(g, kd_graph_conv(g, x, "c2", &wide)), NULL, true,
                            "b2");
    return kd_graph_batch_norm(g, k(g, kd_graph_conv(g, y, "c3", &wide)), x, true,
                               "b3");
}

static struct kd_tensor *residual_blocks(struct kd_graph *g, struct kd_tensor *x,
                                         keep *k)
{
    struct kd_tensor *y, *shortcut;

    x = kd_graph_batch_norm(g, k(g, kd_graph_conv(g, x, "c1", &three)), NULL, true,
                            "b1");
    y = kd_graph_batch_norm(g, k(g, kd_graph_conv(g, x, "c2", &three)), NULL, true,
                            "b2");
    x = kd_graph_batch_norm(g, k(g, kd_graph_conv(g, y, "c3", &three)), x, true, "b3");
    y = kd_graph_conv(g, x, "c4", &half);
    shortcut = kd_graph_conv(g, x, "cs", &match);
    shortcut = kd_graph_batch_norm(g, k(g, shortcut), NULL, false, "bs");
    return kd_graph_batch_norm(g, k(g, y), shortcut, true, "b4");
}

/* What is added is read again, so nothing may be written over it. */
static struct kd_tensor *residual_read_later(struct kd_graph *g, struct kd_tensor *x,
                                             keep *k)
{
    struct kd_tensor *y, *z;

    x = kd_graph_relu(g, kd_graph_conv(g, x, "c1", &three));
    y = kd_graph_batch_norm(g, k(g, kd_graph_conv(g, x, "c2", &three)), x, true, "b2");
    z = kd_graph_batch_norm(g, k(g, kd_graph_conv(g, y, "c3", &three)), x, false, "b3");
    return kd_graph_batch_norm(g, k(g, kd_graph_conv(g, z, "c4", &three)), y, true,
                               "b4");
}

/* What is added is the graph's input, and later a detached view. */
static struct kd_tensor *residual_of_others(struct kd_graph *g, struct kd_tensor *x,
                                            keep *k)
{
    struct kd_tensor *y;

    y = kd_graph_batch_norm(g, k(g, kd_graph_conv(g, x, "c1", &three)), x, true, "b1");
    x = kd_graph_detach(g, y);
    return kd_graph_batch_norm(g, k(g, kd_graph_conv(g, y, "c2", &three)), x, true,
                               "b2");
}

/* Two norms read one convolution. */
static struct kd_tensor *read_twice(struct kd_graph *g, struct kd_tensor *x, keep *k)
{
    struct kd_tensor *y = k(g, kd_graph_conv(g, x, "c1", &three));

    x = kd_graph_batch_norm(g, y, NULL, true, "b1");
    return kd_graph_batch_norm(g, y, x, false, "b2");
}

static struct kd_tensor *dense_ones(struct kd_graph *g, struct kd_tensor *x, keep *k)
{
    x = kd_graph_batch_norm(g, k(g, kd_graph_dense(g, x, "c1", 37)), NULL, true, "b1");
    x = kd_graph_batch_norm(g, k(g, kd_graph_dense(g, x, "c2", 37)), NULL, false, "b2");
    return kd_graph_batch_norm(g, k(g, kd_graph_dense(g, x, "c3", 37)), x, true, "b3");
}

static struct kd_tensor *depthwise(struct kd_graph *g, struct kd_tensor *x, keep *k)
{
    const struct kd_conv one = {20, 1, 1, 0};

    x = kd_graph_grouped_conv(g, x, "c1", &three, 20);
    x = kd_graph_batch_norm(g, k(g, x), NULL, true, "b1");
    return kd_graph_batch_norm(g, k(g, kd_graph_conv(g, x, "c2", &one)), NULL, true,
                               "b2");
}

typedef struct kd_tensor *layers(struct kd_graph *g, struct kd_tensor *x, keep *k);

static layers *const cases[] = {
    norm_alone,         wide_ones,  residual_blocks, residual_read_later,
    residual_of_others, read_twice, dense_ones,      depthwise};

static void open_case(struct bench *b, layers *build, keep *k)
{
    struct kd_tensor *x;

    bench_open(b, 3, false);
    x = bench_input(b, 20, 8, 8, true);
    bench_plan(b, build(b->graph, x, k));
}

static void folded_norms_give_the_values_of_single_layers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench one, many;
        open_case(&one, cases[i], together);
        open_case(&many, cases[i], apart);
        for (int again = 0; again < 2; again++) {
            bench_forward(&one);
            bench_forward(&many);
            float *got = values_of(one.y), *want = values_of(many.y);
            assert_near_float(got, want, count_of(one.y), 2e-6, "folded");
            free(got);
            free(want);
        }
        bench_close(&one);
        bench_close(&many);
    }
}

static void changed_parameters_are_folded_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench one, many;
        open_case(&one, cases[i], together);
        open_case(&many, cases[i], apart);
        bench_forward(&one);
        assert_int_equal(kd_graph_initialise(many.graph, 77), KD_OK);
        struct kd_parameter *variance = named(many.graph, "b2.running_var");
        variance->value[1] = 7;
        kd_graph_parameters_changed(many.graph);
        assert_int_equal(kd_graph_copy_parameters(one.graph, many.graph), KD_OK);
        bench_forward(&one);
        bench_forward(&many);
        float *got = values_of(one.y), *want = values_of(many.y);
        assert_near_float(got, want, count_of(one.y), 2e-6, "folded again");
        free(got);
        free(want);
        bench_close(&one);
        bench_close(&many);
    }
}

/* A ReLU that a convolution does makes a 0 of a NaN: outputs must be NaN all the same.
 */
static void what_is_no_number_spoils_its_sample_and_a_parameter_all(void **state)
{
    const float bad[] = {NAN, INFINITY, -INFINITY};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t k = 0; k < 3; k++) {
            struct bench b;
            open_case(&b, cases[i], together);
            const size_t each = count_of(b.y) / 3;
            b.in[0][count_of(b.input[0]) / 3 + 5] = bad[k];
            bench_forward(&b);
            float *y = values_of(b.y);
            for (size_t n = 0; n < 3 * each; n++)
                assert_true(isnan(y[n]) == (n / each == 1));
            free(y);
            b.in[0][count_of(b.input[0]) / 3 + 5] = 0;
            named(b.graph, "b2.running_var")->value[3] = bad[k];
            kd_graph_parameters_changed(b.graph);
            bench_forward(&b);
            y = values_of(b.y);
            for (size_t n = 0; n < 3 * each; n++)
                assert_true(isnan(y[n]));
            free(y);
            bench_close(&b);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folded_norms_give_the_values_of_single_layers),
        cmocka_unit_test(changed_parameters_are_folded_again),
        cmocka_unit_test(what_is_no_number_spoils_its_sample_and_a_parameter_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
