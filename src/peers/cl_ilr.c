/* SPDX-License-Identifier: MIT */
/*
 * CL-ILR, collaborative learning with shared intermediate layers: Song, Chai, NeurIPS
 * 2018 (arXiv 1805.11761). H heads on one trunk; head h learns from the labels and from
 * what the others think on average,
 *
 *     L_h = CE(y, p_h) + w T^2 KL(q_h || p_h),
 *     q_h = softmax(1 / (H - 1) sum over j != h of z_j / T), constant
 *
 * and the gradient that each head sends into the trunk is divided by H, so that the
 * trunk learns at the pace of a network with one head. T = 3 and the ramp w over 80
 * epochs are those of the comparison by Chen et al. 2020, who ran it beside OKDDip.
 */
#include "peers/method_internal.h"

static enum kd_status build(struct kd_peers *p, struct kd_team *team)
{
    struct kd_tensor *trunk = NULL;

    if (!p->exchange)
        return kd_team_networks(p, team);
    return kd_team_branches(p, team, 1.0 / (double)p->recipe->count, &trunk);
}

static enum kd_status step(struct kd_peers *p)
{
    struct kd_team *team = p->learning;
    enum kd_status status = KD_EBUG;

    if (!p->exchange)
        return kd_team_learn_alone(p);
    KD_TRY(kd_team_show(p, team));
    for (size_t h = 0; h < team->num_members; h++) {
        kd_team_mean_logits(p, team, h, p->target);
        kd_peers_soften(p, p->target, p->loss.temperature, p->target);
        KD_TRY(kd_member_learn(p, &team->member[h], p->target, 1));
    }
    KD_TRY(kd_part_improve(p, team->part[0]));
    status = KD_OK;
out:
    return status;
}

const struct kd_method kd_method_cl_ilr = {
    .name = "cl-ilr",
    .help = "heads that learn from the others' mean logits (Song, Chai 2018)",
    .least = 2,
    .most = KD_MAX_PEERS,
    .usual = 4,
    .one_network = true,
    .defaults = kd_peers_ramped,
    .build = build,
    .step = step,
};
