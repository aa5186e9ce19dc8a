/* SPDX-License-Identifier: MIT */
/*
 * Networks: an architecture, written in YAML, built into a graph.
 *
 *     network: resnet20                    a name ...
 *     network: {family: resnet, depth: 20, width: 32}      ... or in full
 *
 *     mlp       {family: mlp, hidden: [256, 128], batch-norm: true}. Dense layers
 *               with batch norm and ReLU between; "mlp" alone is this one.
 *     plain     {family: plain, layers: 2|4|6|8|10, set: cifar10|cifar100}: the
 *               convolutional networks of Mirzadeh et al. 2020 (TAKD); "plain4".
 *               `set` is by default cifar10 for up to 10 classes.
 *     resnet    {family: resnet, depth: 6n+2, width: 16}: CIFAR residual networks of
 *               He et al. 2016 with 1x1 convolutions where the shape changes;
 *               "resnet8" to "resnet110". `stem`: channels of the first convolution,
 *               if not those of the first stage: "resnet8x4" and "resnet32x4" have
 *               width 64 and stem 32 (Tian et al. 2020, CRD).
 *     wrn       {family: wrn, depth: 6n+4, width: k}: wide residual networks of
 *               Zagoruyko and Komodakis 2016; "wrn-28-10".
 *     vgg       {family: vgg, depth: 8|11|13|16|19}: Simonyan and Zisserman 2015 with
 *               batch norm, for small images; "vgg8".
 *     mobilenetv2   {family: mobilenetv2, width: 0.5, expansion: 6}: Sandler et al.
 *               2018 for small images; "mobilenetv2" is this one.
 *     shufflenetv2  {family: shufflenetv2, width: 0.5|1|1.5|2}: Ma et al. 2018 for
 *               small images; "shufflenetv2" has width 1.
 *     densenet  {family: densenet, depth: 3n+4, growth: k}: Huang et al. 2017,
 *               without bottlenecks; "densenet-40-12".
 *     vit       {family: vit, patch: 4, width: 192, depth: 6, heads: 3}: transformers
 *               of Dosovitskiy et al. 2021 that end in the mean of their tokens.
 *
 * Parameters have the names that the usual PyTorch modules give them (kd/weights.h says
 * which, and loads theirs). To add a family: one file src/nn/family_NAME.c and a line
 * in the tables of arch.c.
 *
 *     struct kd_arch arch;
 *     KD_TRY(kd_arch_parse(yaml, &arch));
 *     struct kd_sizes sizes = {
 *         .channels = 3, .height = 32, .width = 32, .classes = 100};
 *     KD_TRY(kd_network_build(&arch, &sizes, 128, true, &net));
 *     KD_TRY(kd_graph_initialise(net->graph, seed));
 */
#ifndef KD_NETWORK_H
#define KD_NETWORK_H

#include "kd/graph.h"
#include "kd/status.h"
#include "kd/yaml.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kd_family {
    KD_FAMILY_MLP,
    KD_FAMILY_PLAIN,
    KD_FAMILY_RESNET,
    KD_FAMILY_WRN,
    KD_FAMILY_VGG,
    KD_FAMILY_MOBILENETV2,
    KD_FAMILY_SHUFFLENETV2,
    KD_FAMILY_DENSENET,
    KD_FAMILY_VIT
};

#define KD_MAX_HIDDEN 16

struct kd_arch {
    enum kd_family family;
    size_t depth;        /* layers, in the way of the family */
    size_t width;        /* resnet, vit: channels (of the first stage); wrn: times 16 */
    size_t stem;         /* resnet: channels before the first stage; 0: width */
    size_t growth;       /* densenet: channels that a layer adds */
    size_t expansion;    /* mobilenetv2: of a block's channels within it */
    size_t patch, heads; /* vit */
    double multiplier;   /* mobilenetv2, shufflenetv2: of all channels */
    int plain_set;       /* plain: 0 by the number of classes, 1 cifar10, 2 cifar100 */
    size_t hidden[KD_MAX_HIDDEN]; /* mlp */
    size_t num_hidden;
    bool batch_norm; /* mlp */
};

/* What goes in and comes out. */
struct kd_sizes {
    size_t channels, height, width, classes;
};

/* KD_ERECIPE with the place for what is not an architecture. */
enum kd_status kd_arch_parse(const struct kd_yaml *node,
                             struct kd_arch *arch) KD_CHECKED;

/* The canonical text: parsing it gives the same. `text` holds 256 bytes. */
void kd_arch_text(const struct kd_arch *arch, char text[256]);

struct kd_network {
    struct kd_graph *graph;
    struct kd_tensor *input; /* [batch][channels][height][width] */
    struct kd_tensor
        *features;            /* what the last layer reads, [batch][d][1][1] or a map */
    struct kd_tensor *logits; /* [batch][classes][1][1] */
    struct kd_arch arch;
    struct kd_sizes sizes;
};

/* Builds and plans a network in a graph of its own. */
enum kd_status kd_network_build(const struct kd_arch *arch,
                                const struct kd_sizes *sizes, size_t batch,
                                bool training, struct kd_network **network) KD_CHECKED;
void kd_network_free(struct kd_network *network); /* NULL is fine */

/* The batch that a network in inference is best built for, where there are `samples` to
 * run: sixteen a thread, whose values stay in its cache from layer to layer (a
 * ResNet-32 of twice the width runs a fifth faster than with 64). */
size_t kd_network_piece(size_t samples);

/* Adds a network's layers behind `input` to a graph that is being built; names begin
 * with `prefix` ("" for none). *features as above. Returns the logits. */
struct kd_tensor *kd_network_layers(struct kd_graph *graph, const struct kd_arch *arch,
                                    size_t classes, const char *prefix,
                                    struct kd_tensor *input,
                                    struct kd_tensor **features);

/* The same in two pieces, for networks that share a trunk and have branches of their
 * own, as ONE (Lan et al. 2018) and OKDDip (Chen et al. 2020) have it. A branch is
 *
 *     resnet        layer3        densenet      block3
 *     wrn           block3        mobilenetv2   from the stage of 160 channels on
 *     shufflenetv2  layer3        vgg           the last stage of convolutions
 *     mlp           the last hidden layer
 *     plain         the last convolutions that have no pooling between them
 *     vit           the last third of the blocks
 *
 * and what comes behind that. *features as above; *map is the last feature map, before
 * the pooling, NULL where there is none (mlp). kd_network_branch returns the logits. */
struct kd_tensor *kd_network_trunk(struct kd_graph *graph, const struct kd_arch *arch,
                                   size_t classes, const char *prefix,
                                   struct kd_tensor *input);
struct kd_tensor *kd_network_branch(struct kd_graph *graph, const struct kd_arch *arch,
                                    size_t classes, const char *prefix,
                                    struct kd_tensor *trunk,
                                    struct kd_tensor **features,
                                    struct kd_tensor **map);

/* Learned values, without the running statistics. */
size_t kd_network_count(const struct kd_network *network);

#endif
