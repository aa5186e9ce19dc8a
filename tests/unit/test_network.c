/* SPDX-License-Identifier: MIT */
/* Networks: what YAML may say of them, and what is built from it. */
#include "kd/network.h"

#include "kd/memory.h"
#include "kd/thread.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static enum kd_status try_parse(const char *text, struct kd_arch *arch)
{
    struct kd_yaml *node = NULL;
    enum kd_status status;

    if (kd_yaml_parse(text, "net.yaml", &node) != KD_OK)
        fail_msg("%s", kd_error());
    status = kd_arch_parse(node, arch);
    kd_yaml_free(node);
    return status;
}

static struct kd_arch parse(const char *text)
{
    struct kd_arch arch;

    if (try_parse(text, &arch) != KD_OK)
        fail_msg("%s", kd_error());
    return arch;
}

/* The text of an architecture parses to the same text again. */
static void assert_text(const char *yaml, const char *want)
{
    struct kd_arch arch = parse(yaml), again;
    char text[256], second[256];

    kd_arch_text(&arch, text);
    assert_string_equal(text, want);
    again = parse(text);
    kd_arch_text(&again, second);
    assert_string_equal(second, want);
    assert_memory_equal(&arch, &again, sizeof arch);
}

static void a_name_stands_for_an_architecture(void **state)
{
    struct kd_arch arch = parse("resnet20");

    (void)state;
    assert_int_equal(arch.family, KD_FAMILY_RESNET);
    assert_int_equal(arch.depth, 20);
    assert_int_equal(arch.width, 16);
    arch = parse("plain4");
    assert_int_equal(arch.family, KD_FAMILY_PLAIN);
    assert_int_equal(arch.depth, 4);
    assert_int_equal(arch.plain_set, 0);
    arch = parse("mlp");
    assert_int_equal(arch.family, KD_FAMILY_MLP);
    assert_int_equal(arch.num_hidden, 2);
    assert_int_equal(arch.hidden[0], 256);
    assert_int_equal(arch.hidden[1], 128);
    assert_true(arch.batch_norm);
}

static void a_mapping_says_it_in_full(void **state)
{
    struct kd_arch arch = parse("family: resnet\ndepth: 20\nwidth: 32\n");

    (void)state;
    assert_int_equal(arch.family, KD_FAMILY_RESNET);
    assert_int_equal(arch.depth, 20);
    assert_int_equal(arch.width, 32);
    arch = parse("{family: plain, layers: 10, set: cifar100}");
    assert_int_equal(arch.depth, 10);
    assert_int_equal(arch.plain_set, 2);
    arch = parse("{family: mlp, hidden: [50], batch-norm: false}");
    assert_int_equal(arch.num_hidden, 1);
    assert_int_equal(arch.hidden[0], 50);
    assert_false(arch.batch_norm);
    arch = parse("{family: mlp, hidden: []}"); /* logistic regression */
    assert_int_equal(arch.num_hidden, 0);
}

static void the_text_of_an_architecture_is_canonical(void **state)
{
    (void)state;
    assert_text("resnet20", "{family: resnet, depth: 20, width: 16}");
    assert_text("{width: 8, depth: 110, family: resnet}",
                "{family: resnet, depth: 110, width: 8}");
    assert_text("plain8", "{family: plain, layers: 8, set: auto}");
    assert_text("{family: plain, layers: 2, set: cifar10}",
                "{family: plain, layers: 2, set: cifar10}");
    assert_text("mlp", "{family: mlp, hidden: [256, 128], batch-norm: true}");
    assert_text("{family: mlp, batch-norm: false, hidden: [1, 65536]}",
                "{family: mlp, hidden: [1, 65536], batch-norm: false}");
    assert_text("{family: mlp, hidden: []}",
                "{family: mlp, hidden: [], batch-norm: true}");
    assert_text(
        "{family: mlp, hidden: [65536, 65536, 65536, 65536, 65536, 65536, "
        "65536, 65536, 65536, 65536, 65536, 65536, 65536, 65536, 65536, 65536]}",
        "{family: mlp, hidden: [65536, 65536, 65536, 65536, 65536, 65536, "
        "65536, 65536, 65536, 65536, 65536, 65536, 65536, 65536, 65536, 65536], "
        "batch-norm: true}");
}

static void refuse(const char *yaml, const char *words)
{
    struct kd_arch arch;

    assert_int_equal(try_parse(yaml, &arch), KD_ERECIPE);
    if (strncmp(kd_error(), "net.yaml:", strlen("net.yaml:")) != 0 ||
        strstr(kd_error(), words) == NULL)
        fail_msg("'%s' gives '%s', without '%s'", yaml, kd_error(), words);
}

static void what_is_no_architecture_is_refused_with_its_place(void **state)
{
    (void)state;
    refuse("resnet21", "net.yaml:1:1: a resnet's depth is 6n+2");
    refuse("family: resnet\ndepth: 21", "net.yaml:2:8: a resnet's depth is 6n+2");
    refuse("{family: resnet}", "needs its depth");
    refuse("{family: resnet, depth: 2}", "6n+2");
    refuse("{family: resnet, depth: 20, width: 0}", "net.yaml:1:36");
    refuse("{family: resnet, depth: twenty}", "twenty");
    refuse("{family: resnet, depth: [20]}", "net.yaml:1:25");
    refuse("plain5", "2, 4, 6, 8 or 10 layers, not 5");
    refuse("plain12", "not 12");
    refuse("{family: plain}", "number of layers");
    refuse("{family: plain, layers: 4, set: imagenet}", "cifar100");
    refuse("mlp3", "{family: mlp, hidden: [3]}");
    refuse("{family: mlp, hidden: 3}", "hidden is a list");
    refuse("{family: mlp, hidden: [0]}", "net.yaml:1:24");
    refuse("{family: mlp, hidden: [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}", "up to 16");
    refuse("{family: mlp, batch-norm: maybe}", "maybe");
    refuse("[resnet20]", "a network is a name or a mapping");
}

static void unknown_families_and_keys_get_a_hint(void **state)
{
    (void)state;
    refuse("resnext50", "no network is called 'resnext50': try resnet20");
    refuse("resnet", "'resnet'");
    refuse("resnet20x", "'resnet20x'");
    refuse("resnet-20", "'resnet-20'");
    refuse("resnet99999999999999999999", "no network is called");
    refuse("''", "no network is called ''");
    refuse("{depth: 20}", "needs its family: mlp, plain or resnet");
    refuse("{family: resnext, depth: 20}", "mlp, plain, resnet");
    refuse("{family: resnet, depth: 20, widht: 32}", "width");
    refuse("{family: mlp, batch_norm: true}", "batch-norm");
    refuse("{family: plain, depth: 4}", "depth");
}

static struct kd_network *build(const char *yaml, const struct kd_sizes *sizes)
{
    const struct kd_arch arch = parse(yaml);
    struct kd_network *net = NULL;

    if (kd_network_build(&arch, sizes, 2, false, &net) != KD_OK)
        fail_msg("%s: %s", yaml, kd_error());
    return net;
}

/* Counted by PyTorch over the modules of make_torch_reference.py (1x1 shortcuts), and
 * over the plain networks' list of layers with convolutions without bias. */
static void networks_have_pytorchs_number_of_parameters(void **state)
{
    static const struct {
        const char *yaml;
        size_t classes, count;
    } cases[] = {
        {"resnet8", 10, 78042},
        {"{family: resnet, depth: 8, width: 8}", 100, 22924},
        {"resnet20", 10, 272474},
        {"resnet20", 100, 278324},
        {"{family: resnet, depth: 20, width: 32}", 100, 1096196},
        {"resnet110", 10, 1730714},
        {"plain2", 10, 13050},
        {"plain4", 10, 37242},
        {"plain6", 10, 82554},
        {"plain8", 10, 327482},
        {"plain10", 10, 2486378},
        {"plain2", 100, 215108},
        {"plain4", 100, 475460},
        {"plain6", 100, 1106756},
        {"plain8", 100, 1245316},
        {"plain10", 100, 2929988},
        {"{family: mlp, hidden: [], batch-norm: true}", 10, 30730},
        {"{family: mlp, hidden: [100], batch-norm: false}", 10, 308310},
        {"{family: mlp, hidden: [100]}", 10, 308510},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct kd_sizes sizes = {3, 32, 32, cases[i].classes};
        struct kd_network *net = build(cases[i].yaml, &sizes);
        if (kd_network_count(net) != cases[i].count)
            fail_msg("%s has %zu parameters, not %zu", cases[i].yaml,
                     kd_network_count(net), cases[i].count);
        kd_network_free(net);
    }
}

static void the_set_of_a_plain_network_goes_by_its_classes_or_by_name(void **state)
{
    const struct kd_sizes ten = {3, 32, 32, 10}, eleven = {3, 32, 32, 11};
    struct kd_network *a = build("plain2", &ten), *b = build("plain2", &eleven),
                      *c = build("{family: plain, layers: 2, set: cifar100}", &ten);

    (void)state;
    assert_int_equal(kd_graph_parameter(a->graph, 0)->shape[0], 16);
    assert_int_equal(kd_graph_parameter(b->graph, 0)->shape[0], 32);
    assert_int_equal(kd_graph_parameter(c->graph, 0)->shape[0], 32);
    kd_network_free(a);
    kd_network_free(b);
    kd_network_free(c);
}

static void assert_names(const char *yaml, const char *want)
{
    const struct kd_sizes sizes = {3, 8, 8, 4};
    struct kd_network *net = build(yaml, &sizes);
    char names[2000] = "";
    size_t at = 0;

    for (size_t i = 0; i < kd_graph_num_parameters(net->graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(net->graph, i);
        at += (size_t)snprintf(names + at, sizeof names - at, "%s ", p->name);
        assert_true(at < sizeof names);
    }
    assert_string_equal(names, want);
    kd_network_free(net);
}

#define NORM(name)                                                                     \
    name ".weight " name ".bias " name ".running_mean " name ".running_var "

static void parameters_have_the_names_of_the_usual_modules(void **state)
{
    (void)state;
    assert_names("plain2", "conv1.weight " NORM("bn1") "conv2.weight " NORM(
                               "bn2") "fc.weight fc.bias ");
    assert_names("{family: mlp, hidden: [5, 6]}",
                 "fc1.weight fc1.bias " NORM("bn1") "fc2.weight fc2.bias " NORM(
                     "bn2") "fc.weight fc.bias ");
    assert_names("{family: mlp, hidden: [5], batch-norm: false}",
                 "fc1.weight fc1.bias fc.weight fc.bias ");
    assert_names(
        "{family: resnet, depth: 8, width: 2}", "conv1.weight " NORM("bn1")       /* */
        "layer1.0.conv1.weight " NORM("layer1.0.bn1")                             /* */
        "layer1.0.conv2.weight " NORM("layer1.0.bn2")                             /* */
        "layer2.0.conv1.weight " NORM("layer2.0.bn1")                             /* */
        "layer2.0.conv2.weight layer2.0.downsample.0.weight "                     /* */
        NORM("layer2.0.downsample.1") NORM("layer2.0.bn2")                        /* */
        "layer3.0.conv1.weight " NORM("layer3.0.bn1")                             /* */
        "layer3.0.conv2.weight layer3.0.downsample.0.weight "                     /* */
        NORM("layer3.0.downsample.1") NORM("layer3.0.bn2") "fc.weight fc.bias "); /* */
}

static void a_network_says_its_sizes(void **state)
{
    const struct kd_sizes sizes = {3, 32, 24, 100};
    struct kd_network *net = build("{family: resnet, depth: 14, width: 4}", &sizes);

    (void)state;
    assert_int_equal(net->input->channels, 3);
    assert_int_equal(net->input->height, 32);
    assert_int_equal(net->input->width, 24);
    assert_int_equal(net->features->channels, 16);
    assert_int_equal(net->features->height * net->features->width, 1);
    assert_int_equal(net->logits->channels, 100);
    assert_int_equal(net->logits->batch, 2);
    assert_int_equal(kd_graph_batch(net->graph), 2);
    assert_int_equal(net->sizes.width, 24);
    assert_int_equal(net->arch.depth, 14);
    kd_network_free(net);
    kd_network_free(NULL);
}

static void pictures_too_small_to_pool_are_refused(void **state)
{
    const struct kd_arch arch = parse("plain8");
    const struct kd_sizes sizes = {3, 8, 8, 10}, none = {3, 32, 32, 0};
    struct kd_network *net = NULL;

    (void)state;
    assert_int_equal(kd_network_build(&arch, &sizes, 2, true, &net), KD_ERECIPE);
    assert_non_null(strstr(kd_error(), "1 x 1 values cannot be pooled by 2"));
    assert_null(net);
    assert_int_equal(kd_network_build(&arch, &none, 2, true, &net), KD_EDATA);
    assert_non_null(strstr(kd_error(), "not possible"));
    assert_int_equal(kd_network_build(&arch, &sizes, 0, true, &net), KD_EUSAGE);
}

/* For several students in one step: prefixes keep their parameters apart, and each
 * computes what it computes alone. */
static void two_networks_live_in_one_graph(void **state)
{
    const struct kd_sizes sizes = {3, 8, 8, 4};
    const struct kd_arch arch = parse("{family: resnet, depth: 8, width: 4}");
    struct kd_graph *g = NULL;
    struct kd_tensor *input, *y[2], *features;
    struct kd_network *alone = build("{family: resnet, depth: 8, width: 4}", &sizes);
    float x[2 * 3 * 8 * 8], got[8], want[8];

    (void)state;
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
        x[i] = sinf((float)(i * i % 1000));
    assert_int_equal(kd_graph_new(2, false, &g), KD_OK);
    input = kd_graph_input(g, 3, 8, 8);
    y[0] = kd_network_layers(g, &arch, 4, "a.", input, &features);
    y[1] = kd_network_layers(g, &arch, 4, "b.", input, &features);
    kd_graph_output(g, y[0]);
    kd_graph_output(g, y[1]);
    assert_int_equal(kd_graph_plan(g), KD_OK);
    assert_int_equal(kd_graph_initialise(g, 1), KD_OK);
    kd_tensor_set(input, x, 2);
    assert_int_equal(kd_graph_forward(g), KD_OK);
    kd_tensor_set(alone->input, x, 2);
    const size_t count = kd_graph_num_parameters(alone->graph);
    assert_int_equal(kd_graph_num_parameters(g), 2 * count);
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < count; i++) {
            const struct kd_parameter *from = kd_graph_parameter(g, k * count + i);
            struct kd_parameter *to = kd_graph_parameter(alone->graph, i);
            assert_string_equal(from->name + 2, to->name);
            assert_int_equal(from->name[0], k == 0 ? 'a' : 'b');
            memcpy(to->value, from->value, to->size * sizeof *to->value);
        }
        kd_graph_parameters_changed(alone->graph);
        assert_int_equal(kd_graph_forward(alone->graph), KD_OK);
        kd_tensor_get(y[k], got, 2);
        kd_tensor_get(alone->logits, want, 2);
        assert_memory_equal(got, want, sizeof got);
    }
    kd_tensor_get(y[0], want, 2);
    assert_memory_not_equal(got, want, sizeof got); /* other names, other values */
    kd_graph_free(g);
    kd_network_free(alone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_stands_for_an_architecture),
        cmocka_unit_test(a_mapping_says_it_in_full),
        cmocka_unit_test(the_text_of_an_architecture_is_canonical),
        cmocka_unit_test(what_is_no_architecture_is_refused_with_its_place),
        cmocka_unit_test(unknown_families_and_keys_get_a_hint),
        cmocka_unit_test(networks_have_pytorchs_number_of_parameters),
        cmocka_unit_test(the_set_of_a_plain_network_goes_by_its_classes_or_by_name),
        cmocka_unit_test(parameters_have_the_names_of_the_usual_modules),
        cmocka_unit_test(a_network_says_its_sizes),
        cmocka_unit_test(pictures_too_small_to_pool_are_refused),
        cmocka_unit_test(two_networks_live_in_one_graph),
    };

    kd_threads_set(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
