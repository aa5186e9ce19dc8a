/* SPDX-License-Identifier: MIT */
/* Copies of members that only predict: in eval mode, or as the members once were. */
#include "peers/method_internal.h"

enum kd_status kd_team_add_copy(struct kd_peers *p, struct kd_team *team, size_t index,
                                const char *name)
{
    struct kd_tensor *x, *features = NULL, *map = NULL;
    const struct kd_arch *arch = &p->recipe->arch[index];
    struct kd_part *part = NULL;
    const enum kd_status status = kd_team_add_still(p, team, name, team->batch, &part);

    if (status != KD_OK)
        return status;
    x = kd_part_samples(p, part);
    x = kd_network_trunk(part->graph, arch, p->sizes.classes, "", x);
    part->logits =
        kd_network_branch(part->graph, arch, p->sizes.classes, "", x, &features, &map);
    kd_graph_output(part->graph, part->logits);
    return KD_OK;
}

enum kd_status kd_part_renew(struct kd_part *copy, const struct kd_part *of)
{
    return kd_graph_copy_parameters(copy->graph, of->graph);
}

enum kd_status kd_part_predict(struct kd_peers *p, struct kd_part *copy, float *z)
{
    const enum kd_status status = kd_part_show(p, p->learning, copy);

    if (status == KD_OK)
        kd_tensor_get(copy->logits, z, p->shown->size);
    return status;
}
