/* SPDX-License-Identifier: MIT */
/*
 * Codistillation, Anil et al. 2018, in one process: every network learns from the mean
 * probabilities of the others as they were at the last exchange, every `exchange-every`
 * steps, in eval mode and on its own batch,
 *
 *     loss of k = CE(y, p_k) + KL(mean of the others' stale p || p_k), temperature 1,
 *
 * after `burn-in` epochs on the labels alone (a ramp counts from the run's begin). An exchange at every step is deep mutual
 * learning with targets in eval mode; pipelines/codistill.sh has the same in rounds,
 * through caches.
 */
#include "peers/method_internal.h"

#include <stddef.h>
#include <stdio.h>

struct settings {
    uint64_t every;
    uint64_t burn_in;
    bool own_batches;
};

/* The paper tells of exchanges every 50 steps or so, and of a burn-in without a length:
 * an epoch is ours. */
static const struct settings paper = {.every = 50, .burn_in = 1};

static const struct kd_method_option options[] = {
    {offsetof(struct settings, every),
     {.name = "exchange-every",
      .type = KD_OPTION_U64,
      .min = 1,
      .max = 1e9,
      .metavar = "STEPS",
      .help = "codistill: how often the others' weights are taken"}},
    {offsetof(struct settings, burn_in),
     {.name = "burn-in",
      .type = KD_OPTION_U64,
      .min = 0,
      .max = 1e6,
      .metavar = "EPOCHS",
      .help = "codistill: how long each learns from the labels alone"}},
    {offsetof(struct settings, own_batches),
     {.name = "own-batches",
      .type = KD_OPTION_FLAG,
      .help = "codistill: each network has batches of its own"}},
    {0}};

static enum kd_status check(const struct kd_peers_recipe *recipe, const void *settings)
{
    const struct settings *s = settings;

    if (s->burn_in < recipe->base.epochs)
        return KD_OK;
    return kd_fail(KD_ERECIPE,
                   "burn-in: %llu epochs on the labels alone leave none of %llu to "
                   "learn from each other in",
                   (unsigned long long)s->burn_in,
                   (unsigned long long)recipe->base.epochs);
}

static bool own_batches(const void *settings)
{
    return ((const struct settings *)settings)->own_batches;
}

/* Parts: the members' in their order, then their stale copies', if they exchange. */
static enum kd_status build(struct kd_peers *p, struct kd_team *team)
{
    const bool stale = team->learning && p->exchange;
    enum kd_status status = KD_EBUG;
    char name[32];

    KD_TRY(kd_team_networks(p, team));
    for (size_t k = 0; k < p->recipe->count && stale; k++) {
        snprintf(name, sizeof name, "stale %zu", k + 1);
        KD_TRY(kd_team_add_copy(p, team, k, name));
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status exchange(struct kd_team *team)
{
    const size_t count = team->num_members;
    enum kd_status status = KD_OK;

    for (size_t k = 0; k < count && status == KD_OK; k++)
        status = kd_part_renew(team->part[count + k], team->part[k]);
    return status;
}

/* targets = what the stale copies but `except` (num_members: all) predict of p->shown. */
static enum kd_status ask(struct kd_peers *p, size_t except)
{
    const struct kd_team *team = p->learning;
    const size_t count = team->num_members, n = p->shown->size * p->sizes.classes;

    for (size_t j = 0; j < count; j++) {
        float *q = p->targets + j * n;
        if (j == except)
            continue;
        const enum kd_status status = kd_part_predict(p, team->part[count + j], q);
        if (status != KD_OK)
            return status;
        kd_peers_soften(p, q, p->loss.temperature, q);
    }
    return KD_OK;
}

static enum kd_status step(struct kd_peers *p)
{
    const struct settings *s = p->settings;
    struct kd_team *team = p->learning;
    const size_t count = team->num_members;
    const bool learns = p->exchange && p->epoch > s->burn_in;
    enum kd_status status = KD_EBUG;

    if (learns && (p->steps_done - s->burn_in * p->steps) % s->every == 0)
        KD_TRY(exchange(team));
    if (learns && !s->own_batches)
        KD_TRY(ask(p, count));
    for (size_t k = 0; k < count; k++) {
        struct kd_member *member = &team->member[k];
        p->shown = p->batch[k];
        KD_TRY(kd_part_show(p, team, member->part));
        if (learns && s->own_batches)
            KD_TRY(ask(p, k));
        if (learns)
            kd_peers_mean(p, p->targets, count, k, p->target);
        KD_TRY(kd_member_learn(p, member, learns ? p->target : NULL, 1));
        KD_TRY(kd_part_improve(p, member->part));
    }
    status = KD_OK;
out:
    return status;
}

const struct kd_method kd_method_codistill = {
    .name = "codistill",
    .help = "each learns from what the others were before (Anil et al. 2018)",
    .least = 2,
    .most = KD_MAX_PEERS,
    .usual = 2,
    .settings = &paper,
    .settings_size = sizeof paper,
    .options = options,
    .check = check,
    .own_batches = own_batches,
    .build = build,
    .step = step,
};
