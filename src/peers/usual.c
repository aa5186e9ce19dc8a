/* SPDX-License-Identifier: MIT */
/* What several methods have in common: learning alone or from each other's logits, and
 * values of their recipes. */
#include "peers/method_internal.h"

enum kd_status kd_team_learn_alone(struct kd_peers *p)
{
    struct kd_team *team = p->learning;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_team_show(p, team));
    for (size_t k = 0; k < team->num_members; k++) {
        KD_TRY(kd_member_learn(p, &team->member[k], NULL, 0));
        KD_TRY(kd_part_improve(p, team->member[k].part));
    }
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_team_learn_mutually(struct kd_peers *p, double factor)
{
    struct kd_team *team = p->learning;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_team_show(p, team));
    for (size_t k = 0; k < team->num_members; k++) {
        kd_team_mean(p, team, k, p->target);
        KD_TRY(kd_member_learn(p, &team->member[k], p->target, factor));
    }
    for (size_t k = 0; k < team->num_members; k++)
        KD_TRY(kd_part_improve(p, team->member[k].part));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_peers_check_mutual(const struct kd_peers_recipe *recipe,
                                     const void *settings)
{
    (void)settings;
    if (recipe->count == 2 || recipe->base.loss.direction == KD_FORWARD)
        return KD_OK;
    return kd_fail(KD_ERECIPE,
                   "direction: reverse divergences from several networks are not that "
                   "from their mean, which %s takes: two networks, or forward",
                   recipe->chosen->name);
}

void kd_peers_ramped(struct kd_recipe *base)
{
    base->loss.temperature = 3;
    base->ramp = (struct kd_ramp){.kind = KD_RAMP_SIGMOID, .epochs = 80};
}
