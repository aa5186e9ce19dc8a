/* SPDX-License-Identifier: MIT */
/*
 * MobileNetV2, Sandler et al. 2018, for images of 32 x 32 as Tian et al. 2020 (CRD)
 * have it: fewer strides, and ReLU.
 */
#include "nn/family_internal.h"

#include <stddef.h>

static void defaults(struct kd_arch *arch)
{
    arch->multiplier = 0.5;
    arch->expansion = 6;
}

/* Stages: channels out, blocks, stride of the first block. */
static const size_t stages[][3] = {{16, 1, 1}, {24, 2, 1},  {32, 3, 2}, {64, 4, 2},
                                   {96, 3, 1}, {160, 3, 2}, {320, 1, 1}};

#define LAST_STAGE 5 /* the first that is not the trunk's */

/* Where a block's names begin. */
struct place {
    size_t stage, index;
};

/* Wider by `expansion`, a depthwise convolution, and narrow again without a ReLU. */
static struct kd_tensor *block(struct kd_build *b, struct kd_tensor *x, struct place at,
                               size_t out, size_t expansion, size_t stride)
{
    static const char form[] = "blocks.%zu.%zu.conv.%d";
    struct kd_tensor *y, *shortcut;
    size_t wide;

    if (x == NULL)
        return NULL;
    wide = x->channels * expansion;
    shortcut = stride == 1 && x->channels == out ? x : NULL;
    y = kd_build_conv_norm(b, x, kd_build_name(b, form, at.stage, at.index, 0),
                           kd_build_name(b, form, at.stage, at.index, 1),
                           &(struct kd_conv){wide, 1, 1, 0}, 1, true);
    y = kd_build_conv_norm(b, y, kd_build_name(b, form, at.stage, at.index, 3),
                           kd_build_name(b, form, at.stage, at.index, 4),
                           &(struct kd_conv){wide, 3, stride, 1}, wide, true);
    y = kd_graph_conv(b->graph, y, kd_build_name(b, form, at.stage, at.index, 6),
                      &(struct kd_conv){out, 1, 1, 0});
    return kd_graph_batch_norm(b->graph, y, shortcut, false,
                               kd_build_name(b, form, at.stage, at.index, 7));
}

static size_t scaled(const struct kd_build *b, size_t channels)
{
    const size_t many = (size_t)((double)channels * b->arch->multiplier);

    return many > 0 ? many : 1;
}

static struct kd_tensor *add_stage(struct kd_build *b, struct kd_tensor *x, size_t s)
{
    for (size_t i = 0; i < stages[s][1]; i++)
        x = block(b, x, (struct place){s, i}, scaled(b, stages[s][0]),
                  s == 0 ? 1 : b->arch->expansion, i == 0 ? stages[s][2] : 1);
    return x;
}

static struct kd_tensor *trunk(struct kd_build *b, struct kd_tensor *x)
{
    x = kd_build_conv_norm(b, x, kd_build_name(b, "conv1.0"),
                           kd_build_name(b, "conv1.1"),
                           &(struct kd_conv){scaled(b, 32), 3, 2, 1}, 1, true);
    for (size_t s = 0; s < LAST_STAGE; s++)
        x = add_stage(b, x, s);
    return x;
}

static struct kd_tensor *branch(struct kd_build *b, struct kd_tensor *x)
{
    const size_t last = b->arch->multiplier > 1 ? scaled(b, 1280) : 1280;

    for (size_t s = LAST_STAGE; s < sizeof stages / sizeof stages[0]; s++)
        x = add_stage(b, x, s);
    x = kd_build_conv_norm(b, x, kd_build_name(b, "conv2.0"),
                           kd_build_name(b, "conv2.1"),
                           &(struct kd_conv){last, 1, 1, 0}, 1, true);
    return kd_build_head(b, x, "classifier.0");
}

const struct kd_family_calls kd_family_mobilenetv2 = {
    .name = "mobilenetv2",
    .patterns = {""},
    .keys = {{"width", offsetof(struct kd_arch, multiplier), 0, 10, true, false},
             {"expansion", offsetof(struct kd_arch, expansion), 1, 64, false, false}},
    .defaults = defaults,
    .trunk = trunk,
    .branch = branch,
};
