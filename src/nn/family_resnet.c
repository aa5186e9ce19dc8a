/* SPDX-License-Identifier: MIT */
/* CIFAR residual networks, He et al. 2016: three stages of n basic blocks; as
 * resnet8x4 and resnet32x4 those of Tian et al. 2020 (CRD), with a narrower stem. */
#include "nn/family_internal.h"

#include <stddef.h>

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

/* "resnet8x4": stages four times as wide, behind a stem twice as wide. */
static enum kd_status from_numbers(const struct kd_yaml *node, size_t which,
                                   const uint64_t *numbers, struct kd_arch *arch)
{
    arch->depth = (size_t)numbers[0];
    if (which == 0)
        return KD_OK;
    if (numbers[1] < 2 || numbers[1] > 64)
        return kd_yaml_fail(node, "a resnet is 2 to 64 times as wide, not %llu",
                            (unsigned long long)numbers[1]);
    arch->width = 16 * (size_t)numbers[1];
    arch->stem = 8 * (size_t)numbers[1];
    return KD_OK;
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

static struct kd_tensor *add_stage(struct kd_build *b, struct kd_tensor *x, int stage)
{
    const size_t n = (b->arch->depth - 2) / 6;

    for (size_t i = 0; i < n; i++)
        x = block(b, x, stage, i, b->arch->width << (stage - 1),
                  i == 0 && stage > 1 ? 2 : 1);
    return x;
}

static struct kd_tensor *trunk(struct kd_build *b, struct kd_tensor *x)
{
    const size_t stem = b->arch->stem > 0 ? b->arch->stem : b->arch->width;

    x = kd_graph_conv(b->graph, x, kd_build_name(b, "conv1"),
                      &(struct kd_conv){stem, 3, 1, 1});
    x = kd_graph_batch_norm(b->graph, x, NULL, true, kd_build_name(b, "bn1"));
    return add_stage(b, add_stage(b, x, 1), 2);
}

static struct kd_tensor *branch(struct kd_build *b, struct kd_tensor *x)
{
    return kd_build_head(b, add_stage(b, x, 3), "fc");
}

const struct kd_family_calls kd_family_resnet = {
    .name = "resnet",
    .patterns = {"#", "#x#"},
    .keys = {{"depth", offsetof(struct kd_arch, depth), 1, 10000, false, false},
             {"width", offsetof(struct kd_arch, width), 1, 4096, false, false},
             {"stem", offsetof(struct kd_arch, stem), 1, 4096, false, true}},
    .defaults = defaults,
    .from_numbers = from_numbers,
    .check = check,
    .trunk = trunk,
    .branch = branch,
};
