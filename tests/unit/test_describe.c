/* SPDX-License-Identifier: MIT */
/* What a graph says of its layers, against sums done by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kd/network.h"
#include "kd/progress.h"

#include <string.h>

static struct kd_network *build(const char *text, size_t side, size_t classes)
{
    const struct kd_sizes sizes = {3, side, side, classes};
    struct kd_network *net = NULL;
    struct kd_yaml *yaml = NULL;
    struct kd_arch arch;

    assert_int_equal(kd_yaml_parse(text, "test", &yaml), KD_OK);
    assert_int_equal(kd_arch_parse(yaml, &arch), KD_OK);
    kd_yaml_free(yaml);
    assert_int_equal(kd_network_build(&arch, &sizes, 2, true, &net), KD_OK);
    return net;
}

/* The layer whose parameters have a name. */
static struct kd_layer_facts find(const struct kd_network *net, const char *name)
{
    struct kd_layer_facts facts = {.kind = NULL};

    for (size_t i = 0; i < kd_graph_num_layers(net->graph); i++) {
        kd_graph_layer(net->graph, i, &facts);
        if (strcmp(facts.name, name) == 0)
            return facts;
    }
    fail_msg("no layer %s", name);
    return facts;
}

static void convolutions_and_dense_layers_are_counted(void **state)
{
    struct kd_network *net = build("resnet8", 32, 100);
    struct kd_layer_facts f = find(net, "conv1");

    (void)state;
    assert_string_equal(f.kind, "convolution");
    assert_int_equal(f.channels, 16);
    assert_int_equal(f.height, 32);
    assert_int_equal(f.width, 32);
    assert_int_equal(f.parameters, 3 * 16 * 9);
    assert_int_equal(f.multiply_adds, 3 * 16 * 9 * 32 * 32);
    f = find(net, "layer2.0.conv1"); /* of stride 2 */
    assert_int_equal(f.parameters, 16 * 32 * 9);
    assert_int_equal(f.multiply_adds, 16 * 32 * 9 * 16 * 16);
    f = find(net, "bn1");
    assert_int_equal(f.parameters, 2 * 16);
    assert_int_equal(f.multiply_adds, 0);
    f = find(net, "fc");
    assert_int_equal(f.parameters, 64 * 100 + 100);
    assert_int_equal(f.multiply_adds, 64 * 100);
    kd_network_free(net);
}

static void layers_have_all_parameters_between_them(void **state)
{
    static const char *const names[] = {"mlp", "plain4", "resnet8", "resnet20"};

    (void)state;
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        struct kd_network *net = build(names[n], 32, 10);
        size_t parameters = 0;
        for (size_t i = 0; i < kd_graph_num_layers(net->graph); i++) {
            struct kd_layer_facts facts;
            kd_graph_layer(net->graph, i, &facts);
            parameters += facts.parameters;
        }
        assert_int_equal(parameters, kd_network_count(net));
        kd_network_free(net);
    }
}

/* 12.5 million, as is said of a ResNet-8. */
static void the_multiply_adds_of_a_network_are_those_known(void **state)
{
    struct kd_network *net = build("resnet8", 32, 100);
    uint64_t sum = 0;

    (void)state;
    for (size_t i = 0; i < kd_graph_num_layers(net->graph); i++) {
        struct kd_layer_facts facts;
        kd_graph_layer(net->graph, i, &facts);
        sum += facts.multiply_adds;
    }
    assert_int_equal(sum, 12507392);
    kd_network_free(net);
}

/* Seconds of a run are booked where they went, and those of the run before are gone. */
static void seconds_are_those_of_the_last_run(void **state)
{
    struct kd_network *net = build("resnet8", 32, 10);
    struct kd_layer_facts first;
    double all = 0;

    (void)state;
    kd_graph_layer(net->graph, 0, &first);
    assert_string_equal(first.kind, "convolution");
    assert_true(kd_graph_seconds(net->graph, 0, KD_PASS_FORWARD) == 0);
    for (int run = 0; run < 20; run++)
        assert_int_equal(kd_graph_forward(net->graph), KD_OK);
    const double started = kd_seconds();
    assert_int_equal(kd_graph_forward(net->graph), KD_OK);
    const double taken = kd_seconds() - started;
    for (size_t i = 0; i < kd_graph_num_layers(net->graph); i++)
        for (int pass = 0; pass < KD_NUM_PASSES; pass++)
            all += kd_graph_seconds(net->graph, i, (enum kd_pass)pass);
    assert_true(kd_graph_seconds(net->graph, 0, KD_PASS_FORWARD) > 0);
    assert_true(kd_graph_seconds(net->graph, 0, KD_PASS_BACKWARD) == 0);
    assert_true(all > 0 && all <= taken);
    kd_network_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_and_dense_layers_are_counted),
        cmocka_unit_test(layers_have_all_parameters_between_them),
        cmocka_unit_test(the_multiply_adds_of_a_network_are_those_known),
        cmocka_unit_test(seconds_are_those_of_the_last_run),
    };

    return cmocka_run_group_tests_name("describe", tests, NULL, NULL);
}
