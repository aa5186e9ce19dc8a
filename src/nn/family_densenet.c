/* SPDX-License-Identifier: MIT */
/*
 * DenseNet, Huang et al. 2017, without bottlenecks and compression: every layer of a
 * block reads what all before it in the block have made.
 */
#include "nn/family_internal.h"

#include <stddef.h>

static void defaults(struct kd_arch *arch)
{
    arch->growth = 12;
}

static enum kd_status check(const struct kd_yaml *node, const struct kd_arch *arch)
{
    if (arch->depth < 7 || arch->depth % 3 != 1)
        return kd_yaml_fail(node,
                            "a densenet's depth is 3n+4: 7, 10, ..., 40, ..., not %zu",
                            arch->depth);
    return KD_OK;
}

static struct kd_tensor *add_layer(struct kd_build *b, struct kd_tensor *x, int block,
                                   size_t index)
{
    struct kd_tensor *y =
        kd_graph_batch_norm(b->graph, x, NULL, true,
                            kd_build_name(b, "block%d.layer.%zu.bn1", block, index));

    y = kd_graph_conv(b->graph, y,
                      kd_build_name(b, "block%d.layer.%zu.conv1", block, index),
                      &(struct kd_conv){b->arch->growth, 3, 1, 1});
    return kd_graph_concat(b->graph, x, y);
}

static struct kd_tensor *transition(struct kd_build *b, struct kd_tensor *x, int number)
{
    const size_t channels = x != NULL ? x->channels : 1;

    x = kd_graph_batch_norm(b->graph, x, NULL, true,
                            kd_build_name(b, "trans%d.bn1", number));
    x = kd_graph_conv(b->graph, x, kd_build_name(b, "trans%d.conv1", number),
                      &(struct kd_conv){channels, 1, 1, 0});
    return kd_graph_pool(b->graph, x,
                         &(struct kd_pool){.size = 2, .stride = 2, .mean = true});
}

static struct kd_tensor *add_block(struct kd_build *b, struct kd_tensor *x, int block)
{
    const size_t n = (b->arch->depth - 4) / 3;

    for (size_t i = 0; i < n; i++)
        x = add_layer(b, x, block, i);
    return x;
}

static struct kd_tensor *trunk(struct kd_build *b, struct kd_tensor *x)
{
    x = kd_graph_conv(b->graph, x, kd_build_name(b, "conv1"),
                      &(struct kd_conv){16, 3, 1, 1});
    for (int block = 1; block <= 2; block++)
        x = transition(b, add_block(b, x, block), block);
    return x;
}

static struct kd_tensor *branch(struct kd_build *b, struct kd_tensor *x)
{
    x = add_block(b, x, 3);
    x = kd_graph_batch_norm(b->graph, x, NULL, true, kd_build_name(b, "bn1"));
    return kd_build_head(b, x, "fc");
}

const struct kd_family_calls kd_family_densenet = {
    .name = "densenet",
    .patterns = {"-#-#"},
    .keys = {{"depth", offsetof(struct kd_arch, depth), 1, 1000, false, false},
             {"growth", offsetof(struct kd_arch, growth), 1, 256, false, false}},
    .defaults = defaults,
    .check = check,
    .trunk = trunk,
    .branch = branch,
};
