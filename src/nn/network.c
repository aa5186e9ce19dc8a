/* SPDX-License-Identifier: MIT */
/* Networks: building an architecture. */
#include "kd/network.h"

#include "nn/family_internal.h"

#include "kd/memory.h"
#include "kd/thread.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

struct kd_tensor *kd_build_conv_norm(struct kd_build *build, struct kd_tensor *x,
                                     const char *conv_name, const char *norm_name,
                                     const struct kd_conv *conv, size_t groups,
                                     bool relu)
{
    x = kd_graph_grouped_conv(build->graph, x, conv_name, conv, groups);
    return kd_graph_batch_norm(build->graph, x, NULL, relu, norm_name);
}

struct kd_tensor *kd_build_head(struct kd_build *build, struct kd_tensor *map,
                                const char *name)
{
    build->map = map;
    build->features = kd_graph_average_pool(build->graph, map);
    return kd_graph_dense(build->graph, build->features,
                          kd_build_name(build, "%s", name), build->classes);
}

struct kd_tensor *kd_network_trunk(struct kd_graph *graph, const struct kd_arch *arch,
                                   size_t classes, const char *prefix,
                                   struct kd_tensor *input)
{
    struct kd_build build = {
        .graph = graph, .arch = arch, .classes = classes, .prefix = prefix};

    return kd_family_of(arch)->trunk(&build, input);
}

struct kd_tensor *kd_network_branch(struct kd_graph *graph, const struct kd_arch *arch,
                                    size_t classes, const char *prefix,
                                    struct kd_tensor *trunk,
                                    struct kd_tensor **features, struct kd_tensor **map)
{
    struct kd_build build = {
        .graph = graph, .arch = arch, .classes = classes, .prefix = prefix};
    struct kd_tensor *logits = kd_family_of(arch)->branch(&build, trunk);

    *features = build.features;
    *map = build.map;
    return logits;
}

struct kd_tensor *kd_network_layers(struct kd_graph *graph, const struct kd_arch *arch,
                                    size_t classes, const char *prefix,
                                    struct kd_tensor *input,
                                    struct kd_tensor **features)
{
    struct kd_tensor *trunk = kd_network_trunk(graph, arch, classes, prefix, input),
                     *map;

    return kd_network_branch(graph, arch, classes, prefix, trunk, features, &map);
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

size_t kd_network_piece(size_t samples)
{
    const size_t piece = 16 * kd_threads();

    return samples < piece ? samples : piece;
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
