/* SPDX-License-Identifier: MIT */
/*
 * Wide residual networks, Zagoruyko and Komodakis 2016: three stages of n blocks whose
 * batch norms and ReLUs stand before the convolutions, k times as wide.
 */
#include "nn/family_internal.h"

#include <stddef.h>

static void defaults(struct kd_arch *arch)
{
    arch->width = 1;
}

static enum kd_status check(const struct kd_yaml *node, const struct kd_arch *arch)
{
    if (arch->depth < 10 || arch->depth % 6 != 4)
        return kd_yaml_fail(node,
                            "a wrn's depth is 6n+4: 10, 16, 22, 28, 40, ..., not %zu",
                            arch->depth);
    return KD_OK;
}

static struct kd_tensor *block(struct kd_build *b, struct kd_tensor *x, int stage,
                               size_t index, size_t channels, size_t stride)
{
    struct kd_graph *g = b->graph;
    struct kd_tensor *y, *shortcut = x;

    y = kd_graph_batch_norm(g, x, NULL, true,
                            kd_build_name(b, "block%d.layer.%zu.bn1", stage, index));
    if (x != NULL && x->channels != channels)
        shortcut = kd_graph_conv(
            g, y, kd_build_name(b, "block%d.layer.%zu.convShortcut", stage, index),
            &(struct kd_conv){channels, 1, stride, 0});
    y = kd_graph_conv(g, y, kd_build_name(b, "block%d.layer.%zu.conv1", stage, index),
                      &(struct kd_conv){channels, 3, stride, 1});
    y = kd_graph_batch_norm(g, y, NULL, true,
                            kd_build_name(b, "block%d.layer.%zu.bn2", stage, index));
    y = kd_graph_conv(g, y, kd_build_name(b, "block%d.layer.%zu.conv2", stage, index),
                      &(struct kd_conv){channels, 3, 1, 1});
    return kd_graph_add(g, shortcut, y);
}

static struct kd_tensor *add_stage(struct kd_build *b, struct kd_tensor *x, int stage)
{
    const size_t n = (b->arch->depth - 4) / 6;

    for (size_t i = 0; i < n; i++)
        x = block(b, x, stage, i, (size_t)16 * b->arch->width << (stage - 1),
                  i == 0 && stage > 1 ? 2 : 1);
    return x;
}

static struct kd_tensor *trunk(struct kd_build *b, struct kd_tensor *x)
{
    x = kd_graph_conv(b->graph, x, kd_build_name(b, "conv1"),
                      &(struct kd_conv){16, 3, 1, 1});
    return add_stage(b, add_stage(b, x, 1), 2);
}

static struct kd_tensor *branch(struct kd_build *b, struct kd_tensor *x)
{
    x = add_stage(b, x, 3);
    x = kd_graph_batch_norm(b->graph, x, NULL, true, kd_build_name(b, "bn1"));
    return kd_build_head(b, x, "fc");
}

const struct kd_family_calls kd_family_wrn = {
    .name = "wrn",
    .patterns = {"-#-#"},
    .keys = {{"depth", offsetof(struct kd_arch, depth), 1, 1000, false, false},
             {"width", offsetof(struct kd_arch, width), 1, 64, false, false}},
    .defaults = defaults,
    .check = check,
    .trunk = trunk,
    .branch = branch,
};
