/* SPDX-License-Identifier: MIT */
/*
 * A family of networks is one file: how its architecture is read from YAML, what its
 * text is, and its layers.
 */
#ifndef KD_FAMILY_INTERNAL_H
#define KD_FAMILY_INTERNAL_H

#include "kd/network.h"

struct kd_build {
    struct kd_graph *graph;
    const struct kd_arch *arch;
    size_t classes;
    const char *prefix;
    struct kd_tensor *features; /* set by `layers` */
};

struct kd_family_calls {
    const char *name; /* "resnet" */

    /* Fills in what `{family: NAME}` alone means. */
    void (*defaults)(struct kd_arch *arch);
    /* From "resnet20" the 20; from a mapping its keys. Checks the values. */
    enum kd_status (*from_number)(const struct kd_yaml *node, uint64_t number,
                                  struct kd_arch *arch);
    enum kd_status (*from_map)(const struct kd_yaml *node, struct kd_arch *arch);
    void (*text)(const struct kd_arch *arch, char text[256]);
    struct kd_tensor *(*layers)(struct kd_build *build, struct kd_tensor *x);
};

extern const struct kd_family_calls kd_family_mlp, kd_family_plain, kd_family_resnet;

/* prefix + a formatted name; valid until the build's next name but 3. */
const char *kd_build_name(struct kd_build *build, const char *format, ...)
    KD_PRINTF(2, 3);

#endif
