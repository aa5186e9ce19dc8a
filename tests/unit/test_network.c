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
    assert_text("resnet32x4", "{family: resnet, depth: 32, width: 64, stem: 32}");
    assert_text("wrn-28-10", "{family: wrn, depth: 28, width: 10}");
    assert_text("{depth: 16, family: wrn}", "{family: wrn, depth: 16, width: 1}");
    assert_text("vgg19", "{family: vgg, depth: 19}");
    assert_text("mobilenetv2", "{family: mobilenetv2, width: 0.5, expansion: 6}");
    assert_text("{family: mobilenetv2, width: 1.25, expansion: 4}",
                "{family: mobilenetv2, width: 1.25, expansion: 4}");
    assert_text("shufflenetv2", "{family: shufflenetv2, width: 1}");
    assert_text("{family: shufflenetv2, width: 0.2}",
                "{family: shufflenetv2, width: 0.2}");
    assert_text("densenet-40-12", "{family: densenet, depth: 40, growth: 12}");
    assert_text("vit", "{family: vit, patch: 4, width: 192, depth: 6, heads: 3}");
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
    refuse("wrn-28-65", "width is 1 to 64, not 65");
    refuse("wrn-27-2", "6n+4");
    refuse("{family: wrn, width: 2}", "a wrn needs its depth");
    refuse("vgg12", "8, 11, 13, 16 or 19, not 12");
    refuse("resnet8x1", "2 to 64 times as wide");
    refuse("densenet-41-12", "3n+4");
    refuse("{family: shufflenetv2, width: 0.7}", "not 0.7");
    refuse("{family: mobilenetv2, width: 0}", "net.yaml:1:30");
    refuse("{family: vit, width: 192, heads: 5}", "192 for 5");
    refuse("{family: vit, heads: 0}", "net.yaml:1:22");
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
    refuse("{depth: 20}", "needs its family: mlp, plain, resnet");
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
 * over the plain networks' list of layers with convolutions without bias; published
 * ones of Tian et al. 2020 (CRD) and Huang et al. 2017 (1.0M); a transformer's over
 * torch.nn.TransformerEncoder and what stands before and behind it. */
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
        {"resnet8x4", 100, 1233540},
        {"resnet32x4", 100, 7433860},
        {"wrn-16-2", 100, 703284},
        {"wrn-40-1", 100, 569780},
        {"wrn-40-2", 100, 2255156},
        {"vgg8", 100, 3965028},
        {"vgg13", 100, 9462180},
        {"mobilenetv2", 100, 812836},
        {"shufflenetv2", 100, 1355528},
        {"densenet-40-12", 10, 1019722},
        {"vit", 100, 2710564},
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
    assert_names("{family: vit, width: 16, depth: 1, heads: 1}",
                 "patch_embed.proj.weight patch_embed.proj.bias pos_embed "
                 "blocks.0.norm1.weight blocks.0.norm1.bias "
                 "blocks.0.attn.qkv.weight blocks.0.attn.qkv.bias "
                 "blocks.0.attn.proj.weight blocks.0.attn.proj.bias "
                 "blocks.0.norm2.weight blocks.0.norm2.bias "
                 "blocks.0.mlp.fc1.weight blocks.0.mlp.fc1.bias "
                 "blocks.0.mlp.fc2.weight blocks.0.mlp.fc2.bias "
                 "norm.weight norm.bias head.weight head.bias ");
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

/* Batch norms away from 1 and 0, so that they do something. */
static void move_statistics(struct kd_graph *graph)
{
    for (size_t i = 0; i < kd_graph_num_parameters(graph); i++) {
        struct kd_parameter *p = kd_graph_parameter(graph, i);
        if (p->rank != 1)
            continue;
        for (size_t k = 0; k < p->count; k++)
            p->value[k] += 0.01F * (float)((k * 7 + i) % 13);
    }
    kd_graph_parameters_changed(graph);
}

#define TOTAL 24
#define PIXEL (3 * 12 * 12)

static struct kd_network *build_to_place(const char *yaml, size_t batch)
{
    const struct kd_arch arch = parse(yaml);
    const struct kd_sizes sizes = {3, 12, 12, 10};
    struct kd_network *net = NULL;

    if (kd_network_build(&arch, &sizes, batch, false, &net) != KD_OK)
        fail_msg("%s: %s", yaml, kd_error());
    assert_int_equal(kd_graph_initialise(net->graph, 4), KD_OK);
    move_statistics(net->graph);
    return net;
}

/* Logits of TOTAL samples, in batches that begin at `first` and go round. */
static void run_rotated(struct kd_network *net, size_t first, const float *in,
                        float *logits)
{
    const size_t batch = net->input->batch;
    float *x = kd_alloc(batch * PIXEL, sizeof *x), *y = kd_alloc(batch * 10, sizeof *y);

    assert_non_null(x);
    assert_non_null(y);
    for (size_t done = 0; done < TOTAL; done += batch) {
        for (size_t n = 0; n < batch; n++)
            memcpy(x + n * PIXEL, in + (first + done + n) % TOTAL * PIXEL,
                   PIXEL * sizeof *x);
        kd_tensor_set(net->input, x, batch);
        assert_int_equal(kd_graph_forward(net->graph), KD_OK);
        kd_tensor_get(net->logits, y, batch);
        for (size_t n = 0; n < batch; n++)
            memcpy(logits + (first + done + n) % TOTAL * 10, y + n * 10,
                   10 * sizeof *y);
    }
    free(x);
    free(y);
}

/* A sample's logits are the same bits wherever it stands in a batch of any size. */
static void check_places(const char *yaml)
{
    static const size_t batches[] = {1, 3, 8, 50};
    static float in[TOTAL * PIXEL], want[TOTAL * 10], logits[TOTAL * 10];

    for (size_t i = 0; i < sizeof in / sizeof in[0]; i++)
        in[i] = (float)sin(0.37 * (double)i + 1e-4 * (double)(i * i));
    for (size_t i = 0; i < 4; i++) {
        struct kd_network *net = build_to_place(yaml, batches[i]);
        for (size_t first = 0; first < TOTAL; first += 13) {
            run_rotated(net, first, in, logits);
            if (i == 0 && first == 0)
                memcpy(want, logits, sizeof want);
            if (memcmp(logits, want, sizeof want) != 0)
                fail_msg("%s: logits differ in batches of %zu from sample %zu", yaml,
                         batches[i], first);
        }
        kd_network_free(net);
    }
}

static void logits_do_not_depend_on_the_batch(void **state)
{
    (void)state;
    for (size_t threads = 1; threads <= 2; threads++) {
        kd_threads_set(threads);
        check_places("resnet8");
        check_places("{family: resnet, depth: 8, width: 32}"); /* by Winograd */
        check_places("plain4");
        check_places("mlp");
        check_places("{family: mlp, hidden: [33], batch-norm: false}");
        check_places("{family: wrn, depth: 10, width: 2}");
        check_places("{family: mobilenetv2, width: 0.3, expansion: 2}");
        check_places("{family: densenet, depth: 7, growth: 12}");
        check_places("{family: vit, width: 48, depth: 1, heads: 3}");
    }
    kd_threads_set(0);
}

/* The mean cross-entropy of 8 samples, whose gradient is set. */
static double loss_of(struct kd_network *net, const float *in)
{
    float z[8 * 4], gradient[8 * 4];
    double loss = 0;

    kd_tensor_set(net->input, in, 8);
    assert_int_equal(kd_graph_forward(net->graph), KD_OK);
    kd_tensor_get(net->logits, z, 8);
    for (size_t n = 0; n < 8; n++) {
        double sum = 0;
        for (size_t c = 0; c < 4; c++)
            sum += exp(z[n * 4 + c]);
        for (size_t c = 0; c < 4; c++)
            gradient[n * 4 + c] =
                (float)((exp(z[n * 4 + c]) / sum - (n % 4 == c ? 1 : 0)) / 8);
        loss += (log(sum) - z[n * 4 + n % 4]) / 8;
    }
    kd_tensor_set_gradient(net->logits, gradient);
    return loss;
}

/* Values and gradients of all layers work together: against the gradient, the loss
 * falls by about the square of its length, times the step. */
static void the_loss_of_every_family_falls_along_its_gradient(void **state)
{
    static const char *const cases[] = {
        "{family: mlp, hidden: [20]}",
        "{family: plain, layers: 2}",
        "{family: resnet, depth: 8, width: 8, stem: 4}",
        "wrn-10-1",
        "vgg8",
        "{family: mobilenetv2, width: 0.3, expansion: 2}",
        "{family: shufflenetv2, width: 0.2}",
        "densenet-10-5",
        "{family: vit, width: 32, depth: 2, heads: 2}",
    };
    const struct kd_sizes sizes = {3, 16, 16, 4};
    float in[8 * 3 * 16 * 16];

    (void)state;
    for (size_t i = 0; i < sizeof in / sizeof in[0]; i++)
        in[i] = (float)sin(0.7 * (double)i + 1e-4 * (double)(i * i));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct kd_arch arch = parse(cases[i]);
        struct kd_network *net = NULL;
        double length = 0;
        if (kd_network_build(&arch, &sizes, 8, true, &net) != KD_OK)
            fail_msg("%s: %s", cases[i], kd_error());
        assert_int_equal(kd_graph_initialise(net->graph, 2), KD_OK);
        const double before = loss_of(net, in);
        assert_int_equal(kd_graph_backward(net->graph), KD_OK);
        for (size_t k = 0; k < kd_graph_num_parameters(net->graph); k++) {
            const struct kd_parameter *p = kd_graph_parameter(net->graph, k);
            for (size_t j = 0; p->gradient != NULL && j < p->size; j++)
                length += (double)p->gradient[j] * p->gradient[j];
        }
        const double step = 1e-3 / length; /* for a loss smaller by 1e-3 */
        for (size_t k = 0; k < kd_graph_num_parameters(net->graph); k++) {
            struct kd_parameter *p = kd_graph_parameter(net->graph, k);
            for (size_t j = 0; p->gradient != NULL && j < p->size; j++)
                p->value[j] -= (float)(step * p->gradient[j]);
        }
        kd_graph_parameters_changed(net->graph);
        const double fall = before - loss_of(net, in);
        if (!(fabs(fall - 1e-3) < 1e-4))
            fail_msg("%s: the loss falls by %g, not 0.001", cases[i], fall);
        kd_network_free(net);
    }
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
        cmocka_unit_test(logits_do_not_depend_on_the_batch),
        cmocka_unit_test(the_loss_of_every_family_falls_along_its_gradient),
    };

    kd_threads_set(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
