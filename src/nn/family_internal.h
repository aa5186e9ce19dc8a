/* SPDX-License-Identifier: MIT */
/*
 * A family of networks is one file: how its architecture is written in YAML and as a
 * name, and its layers.
 */
#ifndef KD_FAMILY_INTERNAL_H
#define KD_FAMILY_INTERNAL_H

#include "kd/network.h"

struct kd_build {
    struct kd_graph *graph;
    const struct kd_arch *arch;
    size_t classes;
    const char *prefix;
    struct kd_tensor *features; /* set by `branch` */
    struct kd_tensor *map; /* the same, before the pooling; NULL if there is none */
};

/* A key of a family's mapping: a size_t of struct kd_arch, or (`real`) a double. */
struct kd_family_key {
    const char *name;
    size_t offset;
    uint64_t min, max; /* of a size */
    bool real;         /* from 0.01 to max */
    bool optional;     /* 0 means the usual, and is not written */
};

#define KD_MAX_KEYS     5
#define KD_MAX_PATTERNS 2

struct kd_family_calls {
    const char *name;
    /* What may follow the family's name in a short one, with # for a number:
     * "resnet8x4" has "#x#". Without `from_numbers` they are the first keys'. */
    const char *patterns[KD_MAX_PATTERNS];
    struct kd_family_key keys[KD_MAX_KEYS]; /* a name of NULL ends them */

    /* Fills in what `{family: NAME}` alone means; what stays 0 must be given. */
    void (*defaults)(struct kd_arch *arch);
    /* The numbers of pattern `which`. */
    enum kd_status (*from_numbers)(const struct kd_yaml *node, size_t which,
                                   const uint64_t *numbers, struct kd_arch *arch);
    /* Whether the values make a network; `node` is the place to name. NULL: always. */
    enum kd_status (*check)(const struct kd_yaml *node, const struct kd_arch *arch);
    /* The layers that networks may share, and the rest, which gives the logits. */
    struct kd_tensor *(*trunk)(struct kd_build *build, struct kd_tensor *x);
    struct kd_tensor *(*branch)(struct kd_build *build, struct kd_tensor *x);

    /* Instead of the keys, where they are not all numbers. */
    enum kd_status (*from_map)(const struct kd_yaml *node, struct kd_arch *arch);
    void (*text)(const struct kd_arch *arch, char text[256]);
};

extern const struct kd_family_calls kd_family_mlp, kd_family_plain, kd_family_resnet,
    kd_family_wrn, kd_family_vgg, kd_family_mobilenetv2, kd_family_shufflenetv2,
    kd_family_densenet, kd_family_vit;

const struct kd_family_calls *kd_family_of(const struct kd_arch *arch);

/* prefix + a formatted name; valid until the build's next name but 3. */
const char *kd_build_name(struct kd_build *build, const char *format, ...)
    KD_PRINTF(2, 3);

/* A convolution and its batch norm, of the names given (by kd_build_name), with a ReLU
 * behind it. */
struct kd_tensor *kd_build_conv_norm(struct kd_build *build, struct kd_tensor *x,
                                     const char *conv_name, const char *norm_name,
                                     const struct kd_conv *conv, size_t groups,
                                     bool relu);

/* The mean over the map's places, and a dense layer NAME over it: a branch's end. */
struct kd_tensor *kd_build_head(struct kd_build *build, struct kd_tensor *map,
                                const char *name);

#endif
