/* SPDX-License-Identifier: MIT */
/* CIFAR residual networks, He et al. 2016: three stages of n basic blocks. */
#include "nn/family_internal.h"

#include <stdio.h>

static void defaults(struct kd_arch *arch)
{
    arch->width = 16;
}

static enum kd_status check(const struct kd_yaml *node, const struct kd_arch *arch)
{
    if (arch->depth < 8 || arch->depth > 1202 || arch->depth % 6 != 2)
        return kd_yaml_fail(node,
                            "a resnet's depth is 6n+2: 8, 14, 20, 26, 32, ..., not "
                            "%zu",
                            arch->depth);
    return KD_OK;
}

static enum kd_status from_number(const struct kd_yaml *node, uint64_t number,
                                  struct kd_arch *arch)
{
    arch->depth = (size_t)number;
    return check(node, arch);
}

static enum kd_status from_map(const struct kd_yaml *node, struct kd_arch *arch)
{
    static const char *const keys[] = {"family", "depth", "width", NULL};
    const struct kd_yaml *depth = kd_yaml_get(node, "depth");
    const struct kd_yaml *width = kd_yaml_get(node, "width");
    enum kd_status status = KD_EBUG;
    uint64_t value;

    KD_TRY(kd_yaml_only_keys(node, keys));
    if (depth == NULL) {
        status = kd_yaml_fail(node, "a resnet needs its depth");
        goto out;
    }
    KD_TRY(kd_yaml_u64(depth, 1, 10000, &value));
    arch->depth = (size_t)value;
    if (width != NULL) {
        KD_TRY(kd_yaml_u64(width, 1, 4096, &value));
        arch->width = (size_t)value;
    }
    status = check(depth, arch);
out:
    return status;
}

static void text(const struct kd_arch *arch, char to[256])
{
    snprintf(to, 256, "{family: resnet, depth: %zu, width: %zu}", arch->depth,
             arch->width);
}

static struct kd_tensor *block(struct kd_build *b, struct kd_tensor *x, int stage,
                               size_t index, size_t channels, size_t stride)
{
    const struct kd_conv first = {channels, 3, stride, 1}, second = {channels, 3, 1, 1},
                         match = {channels, 1, stride, 0};
    struct kd_graph *g = b->graph;
    struct kd_tensor *shortcut = x, *y;

    y = kd_graph_conv(g, x, kd_build_name(b, "layer%d.%zu.conv1", stage, index),
                      &first);
    y = kd_graph_batch_norm(g, y, NULL, true,
                            kd_build_name(b, "layer%d.%zu.bn1", stage, index));
    y = kd_graph_conv(g, y, kd_build_name(b, "layer%d.%zu.conv2", stage, index),
                      &second);
    if (y != NULL && x != NULL && (stride != 1 || x->channels != channels)) {
        shortcut = kd_graph_conv(
            g, x, kd_build_name(b, "layer%d.%zu.downsample.0", stage, index), &match);
        shortcut = kd_graph_batch_norm(
            g, shortcut, NULL, false,
            kd_build_name(b, "layer%d.%zu.downsample.1", stage, index));
    }
    return kd_graph_batch_norm(g, y, shortcut, true,
                               kd_build_name(b, "layer%d.%zu.bn2", stage, index));
}

static struct kd_tensor *layers(struct kd_build *b, struct kd_tensor *x)
{
    const size_t n = (b->arch->depth - 2) / 6, width = b->arch->width;

    x = kd_graph_conv(b->graph, x, kd_build_name(b, "conv1"),
                      &(struct kd_conv){width, 3, 1, 1});
    x = kd_graph_batch_norm(b->graph, x, NULL, true, kd_build_name(b, "bn1"));
    for (int stage = 1; stage <= 3; stage++)
        for (size_t i = 0; i < n; i++)
            x = block(b, x, stage, i, width << (stage - 1),
                      i == 0 && stage > 1 ? 2 : 1);
    b->features = kd_graph_average_pool(b->graph, x);
    return kd_graph_dense(b->graph, b->features, kd_build_name(b, "fc"), b->classes);
}

const struct kd_family_calls kd_family_resnet = {
    "resnet", defaults, from_number, from_map, text, layers,
};
