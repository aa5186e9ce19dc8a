/* SPDX-License-Identifier: MIT */
/*
 * Vision transformers, Dosovitskiy et al. 2021, for small images: blocks of attention
 * and a perceptron with layer norms before them, and the mean of all tokens at the
 * end instead of one token of its own. The places of a tensor are the tokens.
 */
#include "nn/family_internal.h"

#include <stddef.h>

static void defaults(struct kd_arch *arch)
{
    arch->patch = 4;
    arch->width = 192;
    arch->depth = 6;
    arch->heads = 3;
}

static enum kd_status check(const struct kd_yaml *node, const struct kd_arch *arch)
{
    if (arch->width % 16 != 0 || arch->width % arch->heads != 0)
        return kd_yaml_fail(
            node, "a vit's width is a multiple of 16 and of its heads: not %zu for %zu",
            arch->width, arch->heads);
    return KD_OK;
}

static struct kd_tensor *block(struct kd_build *b, struct kd_tensor *x, size_t index)
{
    struct kd_graph *g = b->graph;
    const size_t width = b->arch->width;
    struct kd_tensor *y;

    y = kd_graph_layer_norm(g, x, kd_build_name(b, "blocks.%zu.norm1", index));
    y = kd_graph_pointwise(g, y, kd_build_name(b, "blocks.%zu.attn.qkv", index),
                           3 * width);
    y = kd_graph_attention(g, y, b->arch->heads);
    y = kd_graph_pointwise(g, y, kd_build_name(b, "blocks.%zu.attn.proj", index),
                           width);
    x = kd_graph_add(g, x, y);
    y = kd_graph_layer_norm(g, x, kd_build_name(b, "blocks.%zu.norm2", index));
    y = kd_graph_pointwise(g, y, kd_build_name(b, "blocks.%zu.mlp.fc1", index),
                           4 * width);
    y = kd_graph_gelu(g, y);
    y = kd_graph_pointwise(g, y, kd_build_name(b, "blocks.%zu.mlp.fc2", index), width);
    return kd_graph_add(g, x, y);
}

/* Blocks of the trunk. */
static size_t trunk_blocks(const struct kd_build *b)
{
    return b->arch->depth - (b->arch->depth + 2) / 3;
}

static struct kd_tensor *trunk(struct kd_build *b, struct kd_tensor *x)
{
    const size_t patch = b->arch->patch;

    x = kd_graph_biased_conv(b->graph, x, kd_build_name(b, "patch_embed.proj"),
                             &(struct kd_conv){b->arch->width, patch, patch, 0});
    x = kd_graph_positions(b->graph, x, kd_build_name(b, "pos_embed"));
    for (size_t i = 0; i < trunk_blocks(b); i++)
        x = block(b, x, i);
    return x;
}

static struct kd_tensor *branch(struct kd_build *b, struct kd_tensor *x)
{
    for (size_t i = trunk_blocks(b); i < b->arch->depth; i++)
        x = block(b, x, i);
    x = kd_graph_layer_norm(b->graph, x, kd_build_name(b, "norm"));
    return kd_build_head(b, x, "head");
}

const struct kd_family_calls kd_family_vit = {
    .name = "vit",
    .patterns = {""},
    .keys = {{"patch", offsetof(struct kd_arch, patch), 1, 64, false, false},
             {"width", offsetof(struct kd_arch, width), 1, 4096, false, false},
             {"depth", offsetof(struct kd_arch, depth), 1, 100, false, false},
             {"heads", offsetof(struct kd_arch, heads), 1, 64, false, false}},
    .defaults = defaults,
    .check = check,
    .trunk = trunk,
    .branch = branch,
};
