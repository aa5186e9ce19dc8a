/* SPDX-License-Identifier: MIT */
/*
 * VGG, Simonyan and Zisserman 2015, with batch norm, for images of 32 x 32: four
 * poolings, the mean of what is left, and a single dense layer, as Tian et al. 2020
 * (CRD) have it. Convolutions keep their biases.
 */
#include "nn/family_internal.h"

#include <stddef.h>

#define STAGES 5

static const struct {
    size_t depth, counts[STAGES]; /* convolutions of each stage */
} plans[] = {
    {8, {1, 1, 1, 1, 1}},  {11, {1, 1, 2, 2, 2}}, {13, {2, 2, 2, 2, 2}},
    {16, {2, 2, 3, 3, 3}}, {19, {2, 2, 4, 4, 4}},
};
static const size_t channels[STAGES] = {64, 128, 256, 512, 512};

static const size_t *plan_of(size_t depth)
{
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++)
        if (plans[i].depth == depth)
            return plans[i].counts;
    return NULL;
}

static void defaults(struct kd_arch *arch)
{
    (void)arch;
}

static enum kd_status check(const struct kd_yaml *node, const struct kd_arch *arch)
{
    if (plan_of(arch->depth) == NULL)
        return kd_yaml_fail(node, "a vgg's depth is 8, 11, 13, 16 or 19, not %zu",
                            arch->depth);
    return KD_OK;
}

/* The names count a stage's convolutions, norms and ReLUs: 0, 1, (2,) 3, 4, ... */
static struct kd_tensor *add_stage(struct kd_build *b, struct kd_tensor *x,
                                   size_t stage)
{
    const size_t count = plan_of(b->arch->depth)[stage];

    for (size_t i = 0; i < count; i++) {
        x = kd_graph_biased_conv(b->graph, x,
                                 kd_build_name(b, "block%zu.%zu", stage, 3 * i),
                                 &(struct kd_conv){channels[stage], 3, 1, 1});
        x = kd_graph_batch_norm(b->graph, x, NULL, true,
                                kd_build_name(b, "block%zu.%zu", stage, 3 * i + 1));
    }
    return x;
}

static struct kd_tensor *trunk(struct kd_build *b, struct kd_tensor *x)
{
    for (size_t stage = 0; stage < STAGES - 1; stage++) {
        x = add_stage(b, x, stage);
        if (stage < 3 || (x != NULL && x->height > 4))
            x = kd_graph_max_pool(b->graph, x, 2);
    }
    return x;
}

static struct kd_tensor *branch(struct kd_build *b, struct kd_tensor *x)
{
    return kd_build_head(b, add_stage(b, x, STAGES - 1), "classifier");
}

const struct kd_family_calls kd_family_vgg = {
    .name = "vgg",
    .patterns = {"#"},
    .keys = {{"depth", offsetof(struct kd_arch, depth), 1, 1000, false, false}},
    .defaults = defaults,
    .check = check,
    .trunk = trunk,
    .branch = branch,
};
