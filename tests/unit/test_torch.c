/* SPDX-License-Identifier: MIT */
/* Networks against PyTorch's numbers: two in training, by make_torch_reference.py, and
 * one of every family in inference, by make_torch_families.py. */
#include "kd/graph.h"
#include "kd/h5.h"
#include "kd/memory.h"
#include "kd/network.h"
#include "kd/optimizer.h"
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

#define BATCH       8
#define CLASSES     10
#define TEMPERATURE 4.0
#define HARD        0.1
#define SOFT        0.9

static struct kd_h5 *file;

static int open_data(const char *name, struct kd_h5 **to)
{
    const char *directory = getenv("KD_TEST_DATA");
    char path[4096];

    snprintf(path, sizeof path, "%s/%s",
             directory != NULL ? directory : "tests/unit/data", name);
    if (kd_h5_open(path, to) == KD_OK)
        return 0;
    print_error("%s\n", kd_error());
    return -1;
}

static int open_reference(void **state)
{
    (void)state;
    return open_data("torch_resnet8.h5", &file);
}

static int close_reference(void **state)
{
    (void)state;
    kd_h5_close(file);
    return 0;
}

static void *read_array(const char *name, enum kd_type type, size_t count)
{
    struct kd_array_info info;
    void *data = NULL;

    if (kd_h5_info(file, name, &info) != KD_OK)
        fail_msg("%s", kd_error());
    assert_int_equal(info.type, type);
    assert_int_equal(info.count, count);
    data = kd_alloc(count, kd_type_size(type));
    assert_non_null(data);
    assert_int_equal(kd_h5_read(file, name, &info, data), KD_OK);
    return data;
}

/* What "GROUP/NAME" holds for a parameter; it has PyTorch's shape. */
static float *read_parameter(const char *group, const struct kd_parameter *p)
{
    struct kd_array_info info;
    char name[256];

    snprintf(name, sizeof name, "%s/%s", group, p->name);
    if (kd_h5_info(file, name, &info) != KD_OK)
        fail_msg("%s", kd_error());
    assert_int_equal(info.rank, p->rank);
    for (size_t i = 0; i < p->rank; i++)
        assert_int_equal(info.shape[i], p->shape[i]);
    return read_array(name, KD_F32, p->count);
}

static struct kd_network *load(const struct kd_arch *arch, const char *group)
{
    const struct kd_sizes sizes = {3, 16, 16, CLASSES};
    struct kd_network *net = NULL;
    float *input = read_array("input", KD_F32, (size_t)BATCH * 3 * 16 * 16);

    if (kd_network_build(arch, &sizes, BATCH, true, &net) != KD_OK)
        fail_msg("%s", kd_error());
    for (size_t i = 0; i < kd_graph_num_parameters(net->graph); i++) {
        struct kd_parameter *p = kd_graph_parameter(net->graph, i);
        float *plain = read_parameter(group, p);
        kd_parameter_set(p, plain, p->value);
        free(plain);
    }
    kd_graph_parameters_changed(net->graph);
    kd_tensor_set(net->input, input, BATCH);
    free(input);
    return net;
}

static struct kd_network *load_resnet(void)
{
    const struct kd_arch arch = {.family = KD_FAMILY_RESNET, .depth = 8, .width = 8};

    return load(&arch, "resnet8/initial");
}

static void forward(struct kd_network *net, float logits[BATCH * CLASSES])
{
    assert_int_equal(kd_graph_forward(net->graph), KD_OK);
    kd_tensor_get(net->logits, logits, BATCH);
}

static void compare_logits(struct kd_network *net, const char *name)
{
    float got[BATCH * CLASSES], *want = read_array(name, KD_F32, BATCH * CLASSES);

    forward(net, got);
    for (size_t i = 0; i < BATCH * CLASSES; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-4F))
            fail_msg("logit %zu is %g, not %g", i, (double)got[i], (double)want[i]);
    free(want);
}

/* log softmax(z / T) of one row. */
static void log_softmax(const float *z, double temperature, double *to)
{
    double most = z[0], sum = 0;

    for (size_t c = 1; c < CLASSES; c++)
        most = fmax(most, z[c]);
    for (size_t c = 0; c < CLASSES; c++)
        sum += exp((z[c] - most) / temperature);
    for (size_t c = 0; c < CLASSES; c++)
        to[c] = (z[c] - most) / temperature - log(sum);
}

/* HARD * CE + SOFT * T^2 * KL(target || student), means over the batch. */
static double loss_of(const float *z, const int32_t *label, const float *target,
                      float *gradient)
{
    double loss = 0, p[CLASSES], q[CLASSES];

    for (size_t n = 0; n < BATCH; n++) {
        const float *t = target + n * CLASSES;
        double mass = 0;
        log_softmax(z + n * CLASSES, 1, p);
        log_softmax(z + n * CLASSES, TEMPERATURE, q);
        loss -= HARD * p[label[n]];
        for (size_t c = 0; c < CLASSES; c++) {
            mass += t[c];
            loss += SOFT * TEMPERATURE * TEMPERATURE * t[c] * (log(t[c]) - q[c]);
        }
        for (size_t c = 0; c < CLASSES; c++) {
            const double hard = exp(p[c]) - ((size_t)label[n] == c);
            const double soft = TEMPERATURE * (exp(q[c]) * mass - t[c]);
            gradient[n * CLASSES + c] = (float)((HARD * hard + SOFT * soft) / BATCH);
        }
    }
    return loss / BATCH;
}

/* Forward, loss and backward; returns the loss. */
static double backward(struct kd_network *net)
{
    float logits[BATCH * CLASSES], gradient[BATCH * CLASSES];
    int32_t *label = read_array("label", KD_I32, BATCH);
    float *target = read_array("target", KD_F32, BATCH * CLASSES);
    double loss;

    forward(net, logits);
    loss = loss_of(logits, label, target, gradient);
    kd_tensor_set_gradient(net->logits, gradient);
    assert_int_equal(kd_graph_backward(net->graph), KD_OK);
    free(label);
    free(target);
    return loss;
}

/* |got - want| <= tolerance * |want - from|; `from` may be NULL for zeros. */
static void compare(const struct kd_parameter *p, const float *layout,
                    const float *want, const float *from, double tolerance,
                    const char *what)
{
    float *got = kd_alloc(p->count, sizeof *got);
    double error = 0, norm = 0;

    assert_non_null(got);
    kd_parameter_get(p, layout, got);
    for (size_t i = 0; i < p->count; i++) {
        error += pow((double)got[i] - want[i], 2);
        norm += pow((double)want[i] - (from != NULL ? (double)from[i] : 0), 2);
    }
    free(got);
    if (!(norm > 0) || !(sqrt(error / norm) <= tolerance))
        fail_msg("%s of %s: off by %g of %g", what, p->name, sqrt(error), sqrt(norm));
}

static void logits_of_a_resnet_are_pytorchs(void **state)
{
    struct kd_network *net = load_resnet();

    (void)state;
    compare_logits(net, "resnet8/logits");
    kd_network_free(net);
}

static void logits_of_a_plain_network_are_pytorchs(void **state)
{
    const struct kd_arch arch = {.family = KD_FAMILY_PLAIN, .depth = 4};
    struct kd_network *net = load(&arch, "plain4/initial");

    (void)state;
    compare_logits(net, "plain4/logits");
    kd_network_free(net);
}

static void gradients_of_a_distillation_loss_are_pytorchs(void **state)
{
    struct kd_network *net = load_resnet();
    float *losses = read_array("loss", KD_F32, 4);

    (void)state;
    assert_true(fabs(backward(net) - losses[0]) < 1e-5);
    for (size_t i = 0; i < kd_graph_num_parameters(net->graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(net->graph, i);
        if (!p->trained)
            continue;
        float *want = read_parameter("resnet8/gradient", p);
        compare(p, p->gradient, want, NULL, 1e-3, "gradient");
        free(want);
    }
    free(losses);
    kd_network_free(net);
}

/* Parameters and running statistics, measured by how far they have come. */
static void compare_step(const struct kd_network *net, int step)
{
    char group[32];

    snprintf(group, sizeof group, "resnet8/step%d", step);
    for (size_t i = 0; i < kd_graph_num_parameters(net->graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(net->graph, i);
        float *from = read_parameter("resnet8/initial", p),
              *want = read_parameter(group, p);
        compare(p, p->value, want, from, 1e-3, group);
        free(from);
        free(want);
    }
}

static void three_steps_of_descent_are_pytorchs(void **state)
{
    const struct kd_sgd sgd = {.momentum = 0.9, .nesterov = true, .weight_decay = 5e-4};
    struct kd_network *net = load_resnet();
    struct kd_optimizer *optimizer = NULL;
    float *losses = read_array("loss", KD_F32, 4);

    (void)state;
    assert_int_equal(kd_optimizer_new(net->graph, &sgd, &optimizer), KD_OK);
    for (int step = 1; step <= 3; step++) {
        assert_true(fabs(backward(net) - losses[step - 1]) < 1e-5);
        kd_optimizer_step(optimizer, 0.05);
        compare_step(net, step);
    }
    assert_true(fabs(backward(net) - losses[3]) < 1e-5);
    free(losses);
    kd_optimizer_free(optimizer);
    kd_network_free(net);
}

/* -- a network of every family ------------------------------------------------ */

/* The numbers of torch_modules.py: from 0 to below 1, 24 bits each. */
static double *uniform(const char *name, size_t count)
{
    uint64_t seed = 0xcbf29ce484222325;
    double *u = kd_alloc(count, sizeof *u);

    assert_non_null(u);
    for (const char *at = name; *at != '\0'; at++)
        seed = (seed ^ (unsigned char)*at) * 0x100000001b3;
    for (size_t i = 0; i < count; i++) {
        uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        u[i] = (double)((z ^ (z >> 31)) >> 40) / 16777216;
    }
    return u;
}

static bool ends_with(const char *text, const char *end)
{
    return strlen(text) >= strlen(end) &&
           strcmp(text + strlen(text) - strlen(end), end) == 0;
}

static void fill_parameter(struct kd_parameter *p)
{
    const bool is_scale =
        ends_with(p->name, ".weight") || ends_with(p->name, "running_var");
    const double bound = sqrt(4 * (double)p->shape[0] / (double)p->count);
    double *u = uniform(p->name, p->count);
    float *plain = kd_alloc(p->count, sizeof *plain);

    assert_non_null(plain);
    for (size_t i = 0; i < p->count; i++) {
        if (p->rank == 3)
            plain[i] = (float)(u[i] - 0.5);
        else if (p->rank > 1)
            plain[i] = (float)((2 * u[i] - 1) * bound);
        else
            plain[i] = (float)(is_scale ? 0.5 + u[i] : 0.5 * u[i] - 0.25);
    }
    kd_parameter_set(p, plain, p->value);
    free(plain);
    free(u);
}

/* The largest difference between a network's logits and PyTorch's. */
static double family_is_off_by(struct kd_h5 *reference, const char *name)
{
    enum { SAMPLES = 2, SIZE = SAMPLES * 3 * 32 * 32 };
    const struct kd_sizes sizes = {3, 32, 32, CLASSES};
    struct kd_network *net = NULL;
    struct kd_yaml *yaml = NULL;
    struct kd_arch arch;
    struct kd_array_info info;
    float input[SIZE], got[SAMPLES * CLASSES], want[SAMPLES * CLASSES];
    double *u = uniform("input", SIZE), most = 0;

    for (size_t i = 0; i < SIZE; i++)
        input[i] = (float)(4 * u[i] - 2);
    free(u);
    assert_int_equal(kd_yaml_parse(name, "network", &yaml), KD_OK);
    assert_int_equal(kd_arch_parse(yaml, &arch), KD_OK);
    if (kd_network_build(&arch, &sizes, SAMPLES, false, &net) != KD_OK)
        fail_msg("%s", kd_error());
    for (size_t i = 0; i < kd_graph_num_parameters(net->graph); i++)
        fill_parameter(kd_graph_parameter(net->graph, i));
    kd_graph_parameters_changed(net->graph);
    kd_tensor_set(net->input, input, SAMPLES);
    assert_int_equal(kd_graph_forward(net->graph), KD_OK);
    kd_tensor_get(net->logits, got, SAMPLES);
    assert_int_equal(kd_h5_info(reference, name, &info), KD_OK);
    assert_int_equal(info.bytes, sizeof want);
    assert_int_equal(kd_h5_read(reference, name, &info, want), KD_OK);
    for (size_t i = 0; i < SAMPLES * CLASSES; i++)
        most = fmax(most, fabs((double)got[i] - (double)want[i]));
    kd_network_free(net);
    kd_yaml_free(yaml);
    return most;
}

static void logits_of_every_family_are_pytorchs(void **state)
{
    /* clang-format off */
    static const char *const names[] = {
        "mlp", "plain8", "resnet20", "resnet8x4", "wrn-16-1", "wrn-10-2", "vgg8",
        "vgg13", "mobilenetv2", "shufflenetv2", "{family: shufflenetv2, width: 0.2}",
        "densenet-40-12", "vit",
    };
    /* clang-format on */
    struct kd_h5 *reference = NULL;
    size_t wrong = 0;

    (void)state;
    assert_int_equal(open_data("torch_families.h5", &reference), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const double off = family_is_off_by(reference, names[i]);
        if (off <= 1e-4)
            continue;
        print_error("logits of %s are off by %g\n", names[i], off);
        wrong++;
    }
    kd_h5_close(reference);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_of_a_resnet_are_pytorchs),
        cmocka_unit_test(logits_of_a_plain_network_are_pytorchs),
        cmocka_unit_test(gradients_of_a_distillation_loss_are_pytorchs),
        cmocka_unit_test(three_steps_of_descent_are_pytorchs),
        cmocka_unit_test(logits_of_every_family_are_pytorchs),
    };

    kd_threads_set(1);
    return cmocka_run_group_tests(tests, open_reference, close_reference);
}
