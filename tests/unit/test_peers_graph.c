/* SPDX-License-Identifier: MIT */
/* What networks that learn together need of graphs: inputs with a gradient, tensors
 * that go from one graph to another, gradients that are scaled, trunks and branches. */
#include "nn_fixture.h"

#include "kd/network.h"
#include "kd/thread.h"

#include <stdio.h>

#define BATCH 3

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* -- inputs with a gradient -------------------------------------------------------- */

typedef struct kd_tensor *layer_call(struct kd_graph *g, struct kd_tensor *x);

static struct kd_tensor *conv(struct kd_graph *g, struct kd_tensor *x)
{
    return kd_graph_conv(g, x, "l", &(struct kd_conv){18, 3, 1, 1});
}

static struct kd_tensor *strided(struct kd_graph *g, struct kd_tensor *x)
{
    return kd_graph_biased_conv(g, x, "l", &(struct kd_conv){5, 3, 2, 1});
}

static struct kd_tensor *depthwise(struct kd_graph *g, struct kd_tensor *x)
{
    const size_t n = x->channels;

    return kd_graph_grouped_conv(g, x, "l", &(struct kd_conv){n, 3, 1, 1}, n);
}

static struct kd_tensor *narrow(struct kd_graph *g, struct kd_tensor *x)
{
    return kd_graph_conv(g, x, "l", &(struct kd_conv){4, 1, 1, 0});
}

static struct kd_tensor *norm(struct kd_graph *g, struct kd_tensor *x)
{
    return kd_graph_batch_norm(g, x, NULL, false, "l");
}

static struct kd_tensor *dense(struct kd_graph *g, struct kd_tensor *x)
{
    return kd_graph_dense(g, x, "l", 7);
}

static struct kd_tensor *tokens(struct kd_graph *g, struct kd_tensor *x)
{
    return kd_graph_gelu(g, kd_graph_pointwise(g, x, "l", 6));
}

static struct kd_tensor *pooled(struct kd_graph *g, struct kd_tensor *x)
{
    return kd_graph_dense(g, kd_graph_average_pool(g, x), "l", 4);
}

/* The sum of outputs times weights, at x + t * along. */
static double loss_at(struct kd_graph *g, struct kd_tensor *in, struct kd_tensor *out,
                      const float *x, const float *along, double t,
                      const float *weights)
{
    const size_t n = count_of(in);
    float *moved = floats(n), *y;
    double loss;

    for (size_t i = 0; i < n; i++)
        moved[i] = (float)((double)x[i] + t * (double)along[i]);
    kd_tensor_set(in, moved, BATCH);
    assert_int_equal(kd_graph_forward(g), KD_OK);
    y = values_of(out);
    loss = dot(y, weights, count_of(out));
    free(moved);
    free(y);
    return loss;
}

/* Gradients against differences along some directions. */
static void check_input(layer_call *layer, const char *what, size_t channels,
                        size_t side)
{
    struct kd_graph *g = NULL;
    struct kd_tensor *in, *out;
    const double h = 1e-2;

    assert_int_equal(kd_graph_new(BATCH, true, &g), KD_OK);
    in = kd_graph_gradient_input(g, channels, side, side);
    out = layer(g, in);
    kd_graph_output(g, out);
    assert_int_equal(kd_graph_plan(g), KD_OK);
    randomise(g);
    float *x = draw(count_of(in), 1), *weights = draw(count_of(out), 2);
    kd_tensor_set(in, x, BATCH);
    assert_int_equal(kd_graph_forward(g), KD_OK);
    kd_tensor_set_gradient(out, weights);
    assert_int_equal(kd_graph_backward(g), KD_OK);
    float *gradient = gradient_of(in);
    const double size = sqrt(dot(gradient, gradient, count_of(in)));
    for (uint64_t d = 0; d < 4; d++) {
        float *along = draw(count_of(in), 10 + d);
        const double got = dot(gradient, along, count_of(in));
        const double due = (loss_at(g, in, out, x, along, h, weights) -
                            loss_at(g, in, out, x, along, -h, weights)) /
                           (2 * h);
        if (!(fabs(got - due) <= 5e-3 * (size + fabs(due))))
            fail_msg("%s of %zu channels: %g along a line that climbs %g", what,
                     channels, got, due);
        free(along);
    }
    free(x);
    free(weights);
    free(gradient);
    kd_graph_free(g);
}

static void inputs_have_the_gradients_that_differences_have(void **state)
{
    (void)state;
    for (size_t channels = 3; channels <= 20; channels += 17) {
        check_input(conv, "a convolution", channels, 6);
        check_input(strided, "a convolution with strides", channels, 7);
        check_input(depthwise, "a depthwise convolution", channels, 6);
        check_input(narrow, "a 1x1 convolution", channels, 5);
        check_input(norm, "a batch norm", channels, 4);
        check_input(dense, "a dense layer", channels, 3);
        check_input(tokens, "a layer of tokens", channels, 4);
        check_input(pooled, "a mean", channels, 4);
    }
}

static void in_inference_an_input_has_no_gradient(void **state)
{
    struct kd_graph *g = NULL;

    (void)state;
    assert_int_equal(kd_graph_new(BATCH, false, &g), KD_OK);
    assert_false(kd_graph_gradient_input(g, 20, 4, 4)->wants_gradient);
    assert_null(kd_graph_gradient_input(g, 0, 4, 4));
    kd_graph_free(g);
}

/* -- from graph to graph ------------------------------------------------- */

/* A convolution and, behind it, twice the same dense layer (two readers); in one graph,
 * or the dense layer in another graph of twice the batch. */
struct pair {
    struct kd_graph *first, *second;
    struct kd_tensor *x, *map, *in, *out;
};

static struct pair make_pair(bool apart)
{
    struct pair p = {0};

    assert_int_equal(kd_graph_new(BATCH, true, &p.first), KD_OK);
    p.x = kd_graph_input(p.first, 3, 6, 6);
    p.map = kd_graph_conv(p.first, p.x, "conv", &(struct kd_conv){20, 3, 1, 1});
    kd_graph_output(p.first, p.map);
    if (apart) {
        assert_int_equal(kd_graph_new(2 * BATCH, true, &p.second), KD_OK);
        p.in = kd_graph_gradient_input(p.second, 20, 6, 6);
        p.out = kd_graph_dense(p.second, p.in, "fc", 4);
        kd_graph_output(p.second, p.out);
        assert_int_equal(kd_graph_plan(p.second), KD_OK);
        assert_int_equal(kd_graph_initialise(p.second, 5), KD_OK);
    } else {
        p.out = kd_graph_dense(p.first, p.map, "fc", 4);
        kd_graph_output(p.first, p.out);
    }
    assert_int_equal(kd_graph_plan(p.first), KD_OK);
    assert_int_equal(kd_graph_initialise(p.first, 5), KD_OK);
    return p;
}

static void free_pair(struct pair *p)
{
    kd_graph_free(p->first);
    kd_graph_free(p->second);
}

/* The map goes into both halves of the other graph's batch; what comes back is the sum,
 * as if the one dense layer had been given the sum of both gradients, added to what the
 * map was given from elsewhere. */
static void gradients_come_back_from_another_graph(void **state)
{
    struct pair one = make_pair(false), two = make_pair(true);
    float *x = draw(count_of(one.x), 1), *dy = draw(2 * BATCH * 4, 2);
    float *elsewhere = draw(count_of(one.map), 3), *sum = floats(BATCH * 4);

    (void)state;
    for (size_t i = 0; i < BATCH * 4; i++)
        sum[i] = dy[i] + dy[BATCH * 4 + i];
    kd_tensor_set(one.x, x, BATCH);
    kd_tensor_set(two.x, x, BATCH);
    assert_int_equal(kd_graph_forward(one.first), KD_OK);
    kd_tensor_set_gradient(one.map, elsewhere);
    kd_tensor_set_gradient(one.out, sum);
    assert_int_equal(kd_graph_backward(one.first), KD_OK);

    for (int turn = 0; turn < 2; turn++) { /* nothing is left of the first turn */
        assert_int_equal(kd_graph_forward(two.first), KD_OK);
        kd_tensor_copy(two.in, 0, two.map);
        kd_tensor_copy(two.in, BATCH, two.map);
        assert_int_equal(kd_graph_forward(two.second), KD_OK);
        kd_tensor_set_gradient(two.out, dy);
        assert_int_equal(kd_graph_backward(two.second), KD_OK);
        kd_tensor_add_gradient(two.map, two.in, 0);
        kd_tensor_add_gradient(two.map, two.in, BATCH);
        float *back = gradient_of(two.map), *given = floats(count_of(two.map));
        for (size_t i = 0; i < count_of(two.map); i++)
            given[i] = back[i] + elsewhere[i];
        kd_tensor_set_gradient(two.map, given);
        assert_int_equal(kd_graph_backward(two.first), KD_OK);
        free(back);
        free(given);
    }
    const struct kd_parameter *a = named(one.first, "conv.weight");
    const struct kd_parameter *b = named(two.first, "conv.weight");
    float *due = plain_of(a, a->gradient), *got = plain_of(b, b->gradient);
    assert_near_float(got, due, a->count, 1e-5, "the convolution's gradient");
    free(due);
    free(got);
    free(x);
    free(dy);
    free(elsewhere);
    free(sum);
    free_pair(&one);
    free_pair(&two);
}

/* -- scaled gradients ---------------------------------------------------- */

static void a_scaled_gradient_reaches_what_is_before_it(void **state)
{
    static const double factors[] = {1, 0.25, 0};
    float *gradients[3];
    float *x = draw(BATCH * 3 * 36, 1), *dy = draw(BATCH * 4, 2);
    size_t count = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct kd_graph *g = NULL;
        assert_int_equal(kd_graph_new(BATCH, true, &g), KD_OK);
        struct kd_tensor *in = kd_graph_input(g, 3, 6, 6), *y;
        y = kd_graph_conv(g, in, "conv", &(struct kd_conv){20, 3, 1, 1});
        y = kd_graph_scale_gradient(g, y, factors[i]);
        y = kd_graph_dense(g, y, "fc", 4);
        kd_graph_output(g, y);
        assert_int_equal(kd_graph_plan(g), KD_OK);
        assert_int_equal(kd_graph_initialise(g, 5), KD_OK);
        kd_tensor_set(in, x, BATCH);
        assert_int_equal(kd_graph_forward(g), KD_OK);
        kd_tensor_set_gradient(y, dy);
        assert_int_equal(kd_graph_backward(g), KD_OK);
        const struct kd_parameter *p = named(g, "conv.weight");
        count = p->count;
        gradients[i] = plain_of(p, p->gradient);
        kd_graph_free(g);
    }
    for (size_t i = 0; i < count; i++) {
        assert_true(fabsf(gradients[1][i] - 0.25F * gradients[0][i]) <=
                    1e-6F * (1 + fabsf(gradients[0][i])));
        assert_true(gradients[2][i] == 0);
    }
    for (int i = 0; i < 3; i++)
        free(gradients[i]);
    free(x);
    free(dy);
}

static void clipped_gradients_have_the_norm_that_is_allowed(void **state)
{
    struct pair p = make_pair(false);
    float *x = draw(count_of(p.x), 1), *dy = draw(BATCH * 4, 2);

    (void)state;
    kd_tensor_set(p.x, x, BATCH);
    assert_int_equal(kd_graph_forward(p.first), KD_OK);
    kd_tensor_set_gradient(p.out, dy);
    assert_int_equal(kd_graph_backward(p.first), KD_OK);
    const double norm = kd_graph_clip(p.first, 1e9);
    assert_true(norm > 1);
    assert_true(fabs(kd_graph_clip(p.first, 0.5) - norm) < 1e-9 * norm);
    assert_true(fabs(kd_graph_clip(p.first, 1e9) - 0.5) < 1e-5);
    free(x);
    free(dy);
    free_pair(&p);
}

/* -- trunks and branches ------------------------------------------------- */

static void read_arch(const char *text, struct kd_arch *arch)
{
    struct kd_yaml *node = NULL;

    assert_int_equal(kd_yaml_parse(text, "test", &node), KD_OK);
    assert_int_equal(kd_arch_parse(node, arch), KD_OK);
    kd_yaml_free(node);
}

/* Copies what the plain network has under the same name, or behind `prefix`. */
static void give(struct kd_network *net, const struct kd_graph *graph,
                 const char *prefix)
{
    const size_t length = strlen(prefix);

    for (size_t i = 0; i < kd_graph_num_parameters(graph); i++) {
        const struct kd_parameter *from = kd_graph_parameter(graph, i);
        const bool own = strncmp(from->name, prefix, length) == 0;
        if (!own && (from->name[0] == 'a' || from->name[0] == 'b') &&
            from->name[1] == '.')
            continue; /* the other branch's */
        float *plain = plain_of(from, from->value);
        set_named(net->graph, from->name + (own ? length : 0), plain);
        free(plain);
    }
}

/* Two branches on a trunk give, each, what the network of the same weights gives: for
 * every family, where layers do their neighbours' work. */
static void branches_are_networks(const char *text, size_t side, bool has_map)
{
    const struct kd_sizes sizes = {3, side, side, 5};
    struct kd_graph *g = NULL;
    struct kd_tensor *z[2], *features = NULL, *map = NULL;
    struct kd_arch arch;

    read_arch(text, &arch);
    assert_int_equal(kd_graph_new(BATCH, false, &g), KD_OK);
    struct kd_tensor *x = kd_graph_input(g, 3, side, side);
    struct kd_tensor *trunk = kd_network_trunk(g, &arch, 5, "", x);
    for (int i = 0; i < 2; i++) {
        z[i] = kd_network_branch(g, &arch, 5, i == 0 ? "a." : "b.", trunk, &features,
                                 &map);
        kd_graph_output(g, z[i]);
        assert_non_null(features);
        assert_int_equal(map != NULL, has_map);
    }
    assert_int_equal(kd_graph_plan(g), KD_OK);
    randomise(g);
    float *pixels = draw(count_of(x), 4);
    kd_tensor_set(x, pixels, BATCH);
    assert_int_equal(kd_graph_forward(g), KD_OK);
    for (int i = 0; i < 2; i++) {
        struct kd_network *net = NULL;
        assert_int_equal(kd_network_build(&arch, &sizes, BATCH, false, &net), KD_OK);
        give(net, g, i == 0 ? "a." : "b.");
        kd_tensor_set(net->input, pixels, BATCH);
        assert_int_equal(kd_graph_forward(net->graph), KD_OK);
        float *due = values_of(net->logits), *got = values_of(z[i]);
        assert_near_float(got, due, BATCH * 5, 1e-5, text);
        free(due);
        free(got);
        kd_network_free(net);
    }
    free(pixels);
    kd_graph_free(g);
}

static void branches_of_every_family_are_networks(void **state)
{
    (void)state;
    branches_are_networks("resnet8", 16, true);
    branches_are_networks("resnet14", 16, true);
    branches_are_networks("wrn-16-1", 16, true);
    branches_are_networks("vgg8", 16, true);
    branches_are_networks("{family: densenet, depth: 10, growth: 8}", 16, true);
    branches_are_networks("{family: mobilenetv2, width: 0.1}", 16, true);
    branches_are_networks("{family: shufflenetv2, width: 0.2}", 16, true);
    branches_are_networks("plain2", 16, true);
    branches_are_networks("{family: plain, layers: 6, set: cifar100}", 16, true);
    branches_are_networks("{family: plain, layers: 8, set: cifar10}", 16, true);
    branches_are_networks("{family: mlp, hidden: [9, 7]}", 4, false);
    branches_are_networks("{family: mlp, hidden: []}", 4, false);
    branches_are_networks("{family: vit, width: 16, heads: 2, depth: 3}", 16, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_have_the_gradients_that_differences_have),
        cmocka_unit_test(in_inference_an_input_has_no_gradient),
        cmocka_unit_test(gradients_come_back_from_another_graph),
        cmocka_unit_test(a_scaled_gradient_reaches_what_is_before_it),
        cmocka_unit_test(clipped_gradients_have_the_norm_that_is_allowed),
        cmocka_unit_test(branches_of_every_family_are_networks),
    };

    kd_threads_set(1); /* what is computed is tiny */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
