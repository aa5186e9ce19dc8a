/* SPDX-License-Identifier: MIT */
/*
 * ONE, knowledge distillation by on-the-fly native ensemble: Lan, Zhu, Gong, NeurIPS
 * 2018 (arXiv 1806.04606). Branches of one trunk learn from their own ensemble, in
 * which a gate weighs them sample by sample:
 *
 *     g   = softmax(relu(bn(W avgpool(trunk) + b)))
 *     z_e = sum over i of g_i z_i
 *     L   = sum over i of [CE(y, p_i) + w T^2 KL(p_e || p_i)] + CE(y, p_e)
 *
 * p_e of the KL, at temperature T = 3, is constant; CE(y, p_e) goes back into the gate
 * and the branches. w climbs as the recipe's ramp does, over 80 epochs. The authors
 * have three branches, and train with SGD without Nesterov's form and with a weight
 * decay of 1e-4, which are the recipe's to say.
 *
 * Without exchange there is no trunk to share and no gate: whole networks, alone.
 */
#include "peers/method_internal.h"

/* z_e, behind the trunk and the branches. */
static struct kd_tensor *add_gate(struct kd_graph *graph, const struct kd_team *team,
                                  struct kd_tensor *trunk)
{
    struct kd_tensor *g = kd_graph_average_pool(graph, trunk), *ensemble = NULL;

    g = kd_graph_dense(graph, g, "gate.fc", team->num_members);
    g = kd_graph_batch_norm(graph, g, NULL, true, "gate.bn");
    g = kd_graph_softmax(graph, g, 1);
    for (size_t i = 0; i < team->num_members; i++) {
        struct kd_tensor *z = kd_graph_weigh(graph, team->member[i].logits, g, i);
        ensemble = i == 0 ? z : kd_graph_add(graph, ensemble, z);
    }
    return ensemble;
}

static enum kd_status build(struct kd_peers *p, struct kd_team *team)
{
    struct kd_tensor *trunk = NULL;
    struct kd_part *part;
    enum kd_status status = KD_EBUG;

    if (!p->exchange)
        return kd_team_networks(p, team);
    KD_TRY(kd_team_branches(p, team, 1, &trunk));
    part = team->part[0];
    part->out = add_gate(part->graph, team, trunk);
    kd_graph_output(part->graph, part->out);
    status = KD_OK;
out:
    return status;
}

static enum kd_status step(struct kd_peers *p)
{
    struct kd_team *team = p->learning;
    struct kd_part *part = team->part[0];
    enum kd_status status = KD_EBUG;

    if (!p->exchange)
        return kd_team_learn_alone(p);
    KD_TRY(kd_team_show(p, team));
    kd_tensor_get(part->out, p->target, p->shown->size);
    KD_TRY(kd_peers_loss(p, "gate", &p->loss, p->target, NULL, p->spare));
    kd_tensor_set_gradient(part->out, p->spare);
    kd_peers_soften(p, p->target, p->loss.temperature, p->target);
    for (size_t i = 0; i < team->num_members; i++)
        KD_TRY(kd_member_learn(p, &team->member[i], p->target, 1));
    KD_TRY(kd_part_improve(p, part));
    status = KD_OK;
out:
    return status;
}

static enum kd_status ensemble(struct kd_peers *p, struct kd_team *team, float *logits)
{
    kd_tensor_get(team->part[0]->out, logits, p->shown->size);
    return KD_OK;
}

const struct kd_method kd_method_one = {
    .name = "one",
    .help = "branches that learn from their gated ensemble (Lan et al. 2018)",
    .least = 2,
    .most = KD_MAX_PEERS,
    .usual = 3,
    .one_network = true,
    .defaults = kd_peers_ramped,
    .build = build,
    .step = step,
    .ensemble_name = "gate",
    .ensemble = ensemble,
};
