/* SPDX-License-Identifier: MIT */
/*
 * The plain convolutional networks of "Improved Knowledge Distillation via Teacher
 * Assistant" (Mirzadeh et al., AAAI 2020): 3x3 convolutions with batch norm and ReLU,
 * 2x2 max pooling, dense layers behind them.
 */
#include "nn/family_internal.h"

#include <stdio.h>
#include <string.h>

/* Channels of the convolutions, 0 for a pooling; the hidden dense layer behind them,
 * 0 where there is none. */
struct plan {
    size_t layers;
    const char *set;
    size_t channels[20];
    size_t count;
    size_t hidden;
};

static const struct plan plans[] = {
    {2, "cifar10", {16, 0, 16, 0}, 4, 0},
    {4, "cifar10", {16, 16, 0, 32, 32, 0}, 6, 0},
    {6, "cifar10", {16, 16, 0, 32, 32, 0, 64, 64, 0}, 9, 0},
    {8, "cifar10", {16, 16, 0, 32, 32, 0, 64, 64, 0, 128, 128, 0}, 12, 64},
    {10,
     "cifar10",
     {32, 32, 0, 64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0},
     14,
     128},
    {2, "cifar100", {32, 0, 32, 0}, 4, 0},
    {4, "cifar100", {32, 32, 0, 64, 64, 0}, 6, 0},
    {6, "cifar100", {32, 32, 0, 64, 64, 0, 128, 128}, 8, 0},
    {8, "cifar100", {32, 32, 0, 64, 64, 0, 128, 128, 0, 256, 256, 0}, 12, 64},
    {10,
     "cifar100",
     {32, 32, 0, 64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0},
     14,
     512},
};

static const char *const sets[] = {"auto", "cifar10", "cifar100", NULL};

static void defaults(struct kd_arch *arch)
{
    arch->plain_set = 0;
}

static enum kd_status check(const struct kd_yaml *node, const struct kd_arch *arch)
{
    if (arch->depth < 2 || arch->depth > 10 || arch->depth % 2 != 0)
        return kd_yaml_fail(
            node, "a plain network has 2, 4, 6, 8 or 10 layers, not %zu", arch->depth);
    return KD_OK;
}

static enum kd_status from_numbers(const struct kd_yaml *node, size_t which,
                                   const uint64_t *numbers, struct kd_arch *arch)
{
    (void)node;
    (void)which;
    arch->depth = (size_t)numbers[0];
    return KD_OK;
}

static enum kd_status from_map(const struct kd_yaml *node, struct kd_arch *arch)
{
    static const char *const keys[] = {"family", "layers", "set", NULL};
    const struct kd_yaml *count = kd_yaml_get(node, "layers");
    const struct kd_yaml *set = kd_yaml_get(node, "set");
    enum kd_status status = KD_EBUG;
    uint64_t value;

    KD_TRY(kd_yaml_only_keys(node, keys));
    if (count == NULL) {
        status = kd_yaml_fail(node, "a plain network needs its number of layers");
        goto out;
    }
    KD_TRY(kd_yaml_u64(count, 1, 1000, &value));
    arch->depth = (size_t)value;
    if (set != NULL)
        KD_TRY(kd_yaml_choice(set, sets, &arch->plain_set));
    status = check(count, arch);
out:
    return status;
}

static void text(const struct kd_arch *arch, char to[256])
{
    snprintf(to, 256, "{family: plain, layers: %zu, set: %s}", arch->depth,
             sets[arch->plain_set]);
}

static const struct plan *find(const struct kd_build *b)
{
    const int set =
        b->arch->plain_set != 0 ? b->arch->plain_set : (b->classes <= 10 ? 1 : 2);
    const size_t count = sizeof plans / sizeof plans[0];

    for (size_t i = 0; i < count; i++)
        if (plans[i].layers == b->arch->depth && strcmp(plans[i].set, sets[set]) == 0)
            return &plans[i];
    return NULL;
}

/* Where the last convolutions begin: behind the last pooling that has any behind it. */
static size_t last_group(const struct plan *plan)
{
    size_t i = plan->count - 1;

    while (i > 0 && plan->channels[i] == 0)
        i--;
    while (i > 0 && plan->channels[i - 1] != 0)
        i--;
    return i;
}

/* Convolutions and poolings begin to end-1 of the plan. */
static struct kd_tensor *add_steps(struct kd_build *b, struct kd_tensor *x,
                                   const struct plan *plan, size_t begin, size_t end)
{
    size_t conv = 0;

    for (size_t i = 0; i < end; i++) {
        conv += plan->channels[i] != 0;
        if (i < begin)
            continue;
        if (plan->channels[i] == 0) {
            x = kd_graph_max_pool(b->graph, x, 2);
            continue;
        }
        x = kd_graph_conv(b->graph, x, kd_build_name(b, "conv%zu", conv),
                          &(struct kd_conv){plan->channels[i], 3, 1, 1});
        x = kd_graph_batch_norm(b->graph, x, NULL, true,
                                kd_build_name(b, "bn%zu", conv));
    }
    return x;
}

static struct kd_tensor *trunk(struct kd_build *b, struct kd_tensor *x)
{
    const struct plan *plan = find(b);

    return add_steps(b, x, plan, 0, last_group(plan));
}

static struct kd_tensor *branch(struct kd_build *b, struct kd_tensor *x)
{
    const struct plan *plan = find(b);

    x = add_steps(b, x, plan, last_group(plan), plan->count);
    b->map = x;
    if (plan->hidden > 0) {
        x = kd_graph_dense(b->graph, x, kd_build_name(b, "fc1"), plan->hidden);
        x = kd_graph_relu(b->graph, x);
    }
    b->features = x;
    return kd_graph_dense(b->graph, x, kd_build_name(b, "fc"), b->classes);
}

const struct kd_family_calls kd_family_plain = {
    .name = "plain",
    .patterns = {"#"},
    .defaults = defaults,
    .from_numbers = from_numbers,
    .check = check,
    .from_map = from_map,
    .text = text,
    .trunk = trunk,
    .branch = branch,
};
