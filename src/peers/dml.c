/* SPDX-License-Identifier: MIT */
/*
 * Deep mutual learning: Zhang, Xiang, Hospedales, Lu, CVPR 2018 (arXiv 1706.00384).
 * Network k of K learns from the labels and from what each of the others thinks:
 *
 *     L_k = CE(y, p_k) + 1 / (K - 1) sum over l != k of KL(p_l || p_k), p_l constant
 *
 * at T = 1. As the mean of KL(p_l || p_k) over l has the gradient of KL(q || p_k), q
 * the mean of the p_l, that is what is computed: one target for each network.
 *
 * When the p_l are taken, `update`:
 *
 *     gauss-seidel   Algorithm 1 of the paper: of one batch, network after network; one
 *                    that has been updated is asked again before the next one learns
 *                    (and its batch norms see the batch a second time)
 *     simultaneous   of one batch, all before any of them is updated
 *     alternating    each network has batches of its own, drawn in an order of its own,
 *                    to which the others answer with the weights they have by then: what
 *                    the authors' code does. K networks cost K^2 forward passes
 *
 * Small networks that are fresh and taught by each other at a high learning rate may
 * agree on knowing nothing: equal, even answers, a loss of log(classes) and hardly any
 * divergence. A lower --lr helps, or a --ramp.
 *
 * `sum-peers` leaves out the 1 / (K - 1), as the authors' code does. What else their
 * code does is the recipe's: --optimizer adam --beta1 0.5 --lr 2e-4 --weight-decay 0
 * --label-smoothing 0.1.
 */
#include "peers/method_internal.h"

#include <stddef.h>

enum update { GAUSS_SEIDEL, SIMULTANEOUS, ALTERNATING };
static const char *const updates[] = {"gauss-seidel", "simultaneous", "alternating",
                                      NULL};

struct settings {
    int update; /* enum update */
    bool sum_peers;
};
static const struct settings paper = {.update = GAUSS_SEIDEL};

static const struct kd_method_option options[] = {
    {offsetof(struct settings, update),
     {.name = "update",
      .type = KD_OPTION_CHOICE,
      .choices = updates,
      .metavar = "ORDER",
      .help = "dml: when predictions are taken"}},
    {offsetof(struct settings, sum_peers),
     {.name = "sum-peers",
      .type = KD_OPTION_FLAG,
      .help = "dml: sum of the divergences from others, not their mean"}},
    {0, {0}},
};

static bool own_batches(const void *settings)
{
    return ((const struct settings *)settings)->update == ALTERNATING;
}

static enum kd_status build(struct kd_peers *p, struct kd_team *team)
{
    return kd_team_networks(p, team);
}

/* What the divergence from the others' mean is multiplied by. */
static double factor(const struct kd_peers *p)
{
    const struct settings *s = p->settings;

    return s->sum_peers ? (double)(p->learning->num_members - 1) : 1;
}

static enum kd_status improve(struct kd_peers *p, struct kd_member *member)
{
    enum kd_status status = KD_EBUG;

    kd_team_mean(p, p->learning, member->index, p->target);
    KD_TRY(kd_member_learn(p, member, p->target, factor(p)));
    KD_TRY(kd_part_improve(p, member->part));
    status = KD_OK;
out:
    return status;
}

static enum kd_status step_in_turn(struct kd_peers *p)
{
    struct kd_team *team = p->learning;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_team_show(p, team));
    for (size_t k = 0; k < team->num_members; k++) {
        KD_TRY(improve(p, &team->member[k]));
        if (k + 1 < team->num_members)
            KD_TRY(kd_part_show(p, team, team->member[k].part));
    }
    status = KD_OK;
out:
    return status;
}

/* Without exchange the others need not look at a member's batch. */
static enum kd_status step_apart(struct kd_peers *p)
{
    struct kd_team *team = p->learning;
    enum kd_status status = KD_EBUG;

    for (size_t k = 0; k < team->num_members; k++) {
        p->shown = p->batch[k];
        for (size_t l = 0; l < team->num_members; l++)
            if (p->exchange || l == k)
                KD_TRY(kd_part_show(p, team, team->member[l].part));
        KD_TRY(improve(p, &team->member[k]));
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status step(struct kd_peers *p)
{
    const struct settings *s = p->settings;

    if (s->update == ALTERNATING)
        return step_apart(p);
    if (s->update == SIMULTANEOUS || !p->exchange)
        return kd_team_learn_mutually(p, factor(p));
    return step_in_turn(p);
}

const struct kd_method kd_method_dml = {
    .name = "dml",
    .help = "deep mutual learning (Zhang et al. 2018)",
    .least = 2,
    .most = KD_MAX_PEERS,
    .usual = 2,
    .settings = &paper,
    .settings_size = sizeof paper,
    .options = options,
    .check = kd_peers_check_mutual,
    .own_batches = own_batches,
    .build = build,
    .step = step,
};
