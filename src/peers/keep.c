/* SPDX-License-Identifier: MIT */
/* Members in files of their own: each is a network like any other. */
#include "peers/engine_internal.h"

#include "kd/file.h"
#include "kd/memory.h"
#include "kd/version.h"

#include <stdlib.h>
#include <string.h>

static const struct kd_parameter *find(const struct kd_graph *graph, const char *prefix,
                                       const char *name)
{
    const size_t length = strlen(prefix);

    for (size_t i = 0; i < kd_graph_num_parameters(graph); i++) {
        const struct kd_parameter *q = kd_graph_parameter(graph, i);
        if (strncmp(q->name, prefix, length) == 0 &&
            strcmp(q->name + length, name) == 0)
            return q;
    }
    return NULL;
}

/* A member's parameter is its own, or the trunk's. */
static enum kd_status copy_parameter(const struct kd_member *member,
                                     struct kd_parameter *to)
{
    const struct kd_graph *graph = member->part->graph;
    const struct kd_parameter *from = find(graph, member->prefix, to->name);
    float *plain = NULL;

    if (from == NULL)
        from = find(graph, "", to->name);
    if (from == NULL || from->count != to->count)
        return kd_fail(KD_EBUG, "%s: has no parameter %s", member->name, to->name);
    if (KD_NEW(plain, to->count) != KD_OK)
        return KD_EMEMORY;
    kd_parameter_get(from, from->value, plain);
    kd_parameter_set(to, plain, to->value);
    free(plain);
    return KD_OK;
}

/* The member as a network by itself. */
static enum kd_status take_out(const struct kd_peers *p, const struct kd_member *member,
                               struct kd_network **network)
{
    enum kd_status status = KD_EBUG;
    struct kd_network *net = NULL;

    KD_TRY(
        kd_network_build(&p->recipe->arch[member->index], &p->sizes, 1, false, &net));
    for (size_t i = 0; i < kd_graph_num_parameters(net->graph); i++)
        KD_TRY(copy_parameter(member, kd_graph_parameter(net->graph, i)));
    *network = net;
    net = NULL;
    status = KD_OK;
out:
    kd_network_free(net);
    return status;
}

enum kd_status kd_peers_keep(const struct kd_peers *p, const struct kd_member *member,
                             const char *suffix)
{
    const struct kd_peers_private *own = p->private;
    struct kd_model model = {
        .arch = p->recipe->arch[member->index],
        .sizes = p->sizes,
        .class_map_digest = own->class_map,
        .num_normalize = own->normalize.count,
        .epoch = own->done,
    };
    struct kd_network *net = NULL;
    char *history =
        kd_format("kd-peers %s %s\n%s", kd_version(), member->name, own->text);
    char *path = kd_peers_path(p, member, suffix);
    enum kd_status status = KD_EMEMORY;

    memcpy(model.mean, own->normalize.mean, sizeof model.mean);
    memcpy(model.deviation, own->normalize.deviation, sizeof model.deviation);
    if (history == NULL || path == NULL)
        goto out;
    KD_TRY(take_out(p, member, &net));
    KD_TRY(kd_model_save(path, &model, net->graph, history));
out:
    kd_network_free(net);
    free(history);
    free(path);
    return status;
}

char *kd_peers_path(const struct kd_peers *p, const struct kd_member *member,
                    const char *suffix)
{
    char *name = kd_format("%s%s.h5", member->name, suffix), *path = NULL;

    if (name != NULL)
        path = kd_path_join(p->private->directory, name);
    free(name);
    return path;
}

enum kd_status kd_peers_keep_best(struct kd_peers *p)
{
    struct kd_peers_private *own = p->private;
    const bool by_test = p->recipe->base.select == KD_SELECT_TEST;

    for (size_t k = 0; k < p->recipe->count; k++) {
        const struct kd_peers_measure *m =
            by_test ? &own->now.test[k] : &own->now.holdout[k];
        struct kd_peers_best *best = &own->best[k];
        enum kd_status status;
        if (m->samples == 0 || (best->epoch > 0 && (m->accuracy < best->accuracy ||
                                                    (m->accuracy == best->accuracy &&
                                                     m->nll >= best->nll))))
            continue;
        *best = (struct kd_peers_best){own->done, m->accuracy, m->nll};
        status = kd_peers_keep(p, &p->learning->member[k], "-best");
        if (status != KD_OK)
            return status;
    }
    return KD_OK;
}
