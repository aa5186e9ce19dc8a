/* SPDX-License-Identifier: MIT */
/* Networks: reading an architecture, and building it. */
#include "kd/network.h"

#include "nn/family_internal.h"

#include "kd/memory.h"
#include "kd/options.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the order of enum kd_family. */
static const struct kd_family_calls *const families[] = {
    &kd_family_mlp,
    &kd_family_plain,
    &kd_family_resnet,
};
static const char *const family_names[] = {"mlp", "plain", "resnet", NULL};

static enum kd_status parse_map(const struct kd_yaml *node, struct kd_arch *arch)
{
    const struct kd_yaml *name = kd_yaml_get(node, "family");
    int family = 0;

    if (name == NULL)
        return kd_yaml_fail(node, "a network needs its family: mlp, plain or resnet");
    const enum kd_status status = kd_yaml_choice(name, family_names, &family);
    if (status != KD_OK)
        return status;
    arch->family = (enum kd_family)family;
    families[family]->defaults(arch);
    return families[family]->from_map(node, arch);
}

/* "resnet20": a family and a number. */
static enum kd_status parse_name(const struct kd_yaml *node, struct kd_arch *arch)
{
    const size_t letters = strcspn(node->scalar, "0123456789");
    uint64_t number = 0;

    for (size_t i = 0; family_names[i] != NULL; i++) {
        if (strlen(family_names[i]) != letters ||
            strncmp(node->scalar, family_names[i], letters) != 0)
            continue;
        arch->family = (enum kd_family)i;
        families[i]->defaults(arch);
        if (node->scalar[letters] == '\0' && arch->family == KD_FAMILY_MLP)
            return KD_OK;
        if (kd_parse_u64(node->scalar + letters, 1, 100000, &number))
            return families[i]->from_number(node, number, arch);
    }
    return kd_yaml_fail(node,
                        "no network is called '%s': try resnet20, plain4, mlp or "
                        "{family: ...}",
                        node->scalar);
}

enum kd_status kd_arch_parse(const struct kd_yaml *node, struct kd_arch *arch)
{
    memset(arch, 0, sizeof *arch);
    if (node->kind == KD_YAML_SCALAR)
        return parse_name(node, arch);
    if (node->kind == KD_YAML_MAPPING)
        return parse_map(node, arch);
    return kd_yaml_fail(node, "a network is a name or a mapping");
}

void kd_arch_text(const struct kd_arch *arch, char text[256])
{
    families[arch->family]->text(arch, text);
}

const char *kd_build_name(struct kd_build *build, const char *format, ...)
{
    static _Thread_local char names[4][160];
    static _Thread_local unsigned next;
    char *name = names[next++ % 4];
    va_list args;
    int at = snprintf(name, sizeof names[0], "%s", build->prefix);

    va_start(args, format);
    vsnprintf(name + at, sizeof names[0] - (size_t)at, format, args);
    va_end(args);
    return name;
}

struct kd_tensor *kd_network_layers(struct kd_graph *graph, const struct kd_arch *arch,
                                    size_t classes, const char *prefix,
                                    struct kd_tensor *input,
                                    struct kd_tensor **features)
{
    struct kd_build build = {
        .graph = graph, .arch = arch, .classes = classes, .prefix = prefix};
    struct kd_tensor *logits = families[arch->family]->layers(&build, input);

    *features = build.features;
    return logits;
}

enum kd_status kd_network_build(const struct kd_arch *arch,
                                const struct kd_sizes *sizes, size_t batch,
                                bool training, struct kd_network **network)
{
    enum kd_status status = KD_EBUG;
    struct kd_network *net = NULL;

    KD_TRY(KD_NEW(net, 1));
    net->arch = *arch;
    net->sizes = *sizes;
    KD_TRY(kd_graph_new(batch, training, &net->graph));
    net->input =
        kd_graph_input(net->graph, sizes->channels, sizes->height, sizes->width);
    net->logits = kd_network_layers(net->graph, arch, sizes->classes, "", net->input,
                                    &net->features);
    kd_graph_output(net->graph, net->logits);
    if (!training) /* to be read, too */
        kd_graph_output(net->graph, net->features);
    KD_TRY(kd_graph_plan(net->graph));
    *network = net;
    net = NULL;
    status = KD_OK;
out:
    kd_network_free(net);
    return status;
}

void kd_network_free(struct kd_network *network)
{
    if (network == NULL)
        return;
    kd_graph_free(network->graph);
    free(network);
}

size_t kd_network_count(const struct kd_network *network)
{
    size_t count = 0;

    for (size_t i = 0; i < kd_graph_num_parameters(network->graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(network->graph, i);
        if (p->trained)
            count += p->count;
    }
    return count;
}
