/* SPDX-License-Identifier: MIT */
/*
 * ShuffleNetV2, Ma et al. 2018, for images of 32 x 32: half of the channels go through
 * a block, the others past it, and a shuffle mixes them.
 */
#include "nn/family_internal.h"

#include <stddef.h>

struct plan {
    double width;
    size_t channels[4]; /* of three stages, and before the dense layer */
    size_t repeats[3];
};
static const struct plan plans[] = {
    {0.2, {40, 80, 160, 512}, {3, 3, 3}},    {0.3, {40, 80, 160, 512}, {3, 7, 3}},
    {0.5, {48, 96, 192, 1024}, {3, 7, 3}},   {1, {116, 232, 464, 1024}, {3, 7, 3}},
    {1.5, {176, 352, 704, 1024}, {3, 7, 3}}, {2, {224, 488, 976, 2048}, {3, 7, 3}},
};

static const struct plan *plan_of(double width)
{
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++)
        if (plans[i].width >= width && plans[i].width <= width)
            return &plans[i];
    return NULL;
}

static void defaults(struct kd_arch *arch)
{
    arch->multiplier = 1;
}

static enum kd_status check(const struct kd_yaml *node, const struct kd_arch *arch)
{
    if (plan_of(arch->multiplier) == NULL)
        return kd_yaml_fail(
            node, "a shufflenetv2's width is 0.2, 0.3, 0.5, 1, 1.5 or 2, not %g",
            arch->multiplier);
    return KD_OK;
}

/* Convolution and batch norm NUMBER of a block. */
static struct kd_tensor *part(struct kd_build *b, struct kd_tensor *x, int stage,
                              size_t index, int number, const struct kd_conv *conv,
                              size_t groups, bool relu)
{
    return kd_build_conv_norm(
        b, x, kd_build_name(b, "layer%d.%zu.conv%d", stage, index, number),
        kd_build_name(b, "layer%d.%zu.bn%d", stage, index, number), conv, groups, relu);
}

/* Half as high and wide, both branches through convolutions. */
static struct kd_tensor *down(struct kd_build *b, struct kd_tensor *x, int stage,
                              size_t out)
{
    const size_t in = x != NULL ? x->channels : 1, half = out / 2;
    const struct kd_conv one = {half, 1, 1, 0};
    struct kd_tensor *left, *right;

    left = part(b, x, stage, 0, 1, &(struct kd_conv){in, 3, 2, 1}, in, false);
    left = part(b, left, stage, 0, 2, &one, 1, true);
    right = part(b, x, stage, 0, 3, &one, 1, true);
    right = part(b, right, stage, 0, 4, &(struct kd_conv){half, 3, 2, 1}, half, false);
    right = part(b, right, stage, 0, 5, &one, 1, true);
    return kd_graph_shuffle(b->graph, kd_graph_concat(b->graph, left, right), 2);
}

static struct kd_tensor *block(struct kd_build *b, struct kd_tensor *x, int stage,
                               size_t index)
{
    const size_t half = x != NULL ? x->channels / 2 : 1;
    const struct kd_conv one = {half, 1, 1, 0}, three = {half, 3, 1, 1};
    struct kd_tensor *past = kd_graph_slice(b->graph, x, 0, half);
    struct kd_tensor *y = kd_graph_slice(b->graph, x, half, half);

    y = part(b, y, stage, index, 1, &one, 1, true);
    y = part(b, y, stage, index, 2, &three, half, false);
    y = part(b, y, stage, index, 3, &one, 1, true);
    return kd_graph_shuffle(b->graph, kd_graph_concat(b->graph, past, y), 2);
}

static struct kd_tensor *add_stage(struct kd_build *b, struct kd_tensor *x, int stage)
{
    const struct plan *plan = plan_of(b->arch->multiplier);

    x = down(b, x, stage, plan->channels[stage - 1]);
    for (size_t i = 1; i <= plan->repeats[stage - 1]; i++)
        x = block(b, x, stage, i);
    return x;
}

static struct kd_tensor *trunk(struct kd_build *b, struct kd_tensor *x)
{
    x = kd_build_conv_norm(b, x, kd_build_name(b, "conv1"), kd_build_name(b, "bn1"),
                           &(struct kd_conv){24, 1, 1, 0}, 1, true);
    return add_stage(b, add_stage(b, x, 1), 2);
}

static struct kd_tensor *branch(struct kd_build *b, struct kd_tensor *x)
{
    const struct plan *plan = plan_of(b->arch->multiplier);

    x = add_stage(b, x, 3);
    x = kd_build_conv_norm(b, x, kd_build_name(b, "conv2"), kd_build_name(b, "bn2"),
                           &(struct kd_conv){plan->channels[3], 1, 1, 0}, 1, true);
    return kd_build_head(b, x, "linear");
}

const struct kd_family_calls kd_family_shufflenetv2 = {
    .name = "shufflenetv2",
    .patterns = {""},
    .keys = {{"width", offsetof(struct kd_arch, multiplier), 0, 10, true, false}},
    .defaults = defaults,
    .check = check,
    .trunk = trunk,
    .branch = branch,
};
