/* SPDX-License-Identifier: MIT */
/*
 * OKDDip, online distillation with diverse peers: Chen, Mei, Wang, Feng, Chen, AAAI
 * 2020 (arXiv 1912.00350). Of m networks m - 1 are peers, and the last is their leader,
 * the one to be deployed. Each peer a learns from a mixture of all peers, itself among
 * them, that is its own, sample by sample; the leader from their plain mean. With h_a
 * the features that the last layer of a reads, and q_a = softmax(z_a / T), T = 3:
 *
 *     alpha_ab = softmax over b of (W_L h_a) . (W_E h_b)
 *     t_a      = sum over b of alpha_ab q_b
 *     t_m      = mean over b of q_b
 *     L        = sum over all a of [CE(y, p_a) + w T^2 KL(t_a || q_a)]
 *
 * W_L and W_E are shared by all peers, an eighth as many rows as features, without
 * bias. They learn through t_a alone: a target that were all constant would leave them
 * as they were drawn. `okddip-detach` says what of the targets is constant:
 *
 *     predictions   the q_b, as in all distillation; the alpha are not
 *     nothing       as in the authors' code: peers are also drawn to those that learn
 *                   from them, and to the leader
 *     targets       all: the control with projections at random
 *
 * `okddip-mix logits` mixes z and then takes the softmax, for t_a and t_m, as the
 * authors' code does; the 1e-7 that it adds within logarithms is left out.
 * `okddip-weights mean` has t_m as target of all, the control without attention. A peer
 * that listens to itself alone, alpha_aa = 1, has nothing to learn from the others, and
 * its loss is then least: "alpha_self" among the figures of an epoch is the mean of the
 * alpha_aa.
 *
 * The networks are whole, or with `okddip-branches` branches of one trunk. w climbs as
 * the recipe's ramp does, over 80 epochs. The authors have three peers and a leader,
 * and train with Nesterov's form and a weight decay of 5e-4, which are the recipe's to
 * say.
 */
#include "peers/method_internal.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum detach { PREDICTIONS, NOTHING, TARGETS };
static const char *const detaches[] = {"predictions", "nothing", "targets", NULL};
enum mix { PROBABILITIES, LOGITS };
static const char *const mixes[] = {"probabilities", "logits", NULL};
enum weights { ATTENTION, MEAN };
static const char *const weights[] = {"attention", "mean", NULL};

struct settings {
    bool branches;
    int detach;  /* enum detach */
    int mix;     /* enum mix */
    int weights; /* enum weights */
};
static const struct settings paper = {.detach = PREDICTIONS};

static const struct kd_method_option options[] = {
    {offsetof(struct settings, branches),
     {.name = "okddip-branches",
      .type = KD_OPTION_FLAG,
      .help = "okddip: branches of one trunk, not whole networks"}},
    {offsetof(struct settings, detach),
     {.name = "okddip-detach",
      .type = KD_OPTION_CHOICE,
      .choices = detaches,
      .metavar = "WHAT",
      .help = "okddip: what of the targets lets no gradient through"}},
    {offsetof(struct settings, mix),
     {.name = "okddip-mix",
      .type = KD_OPTION_CHOICE,
      .choices = mixes,
      .metavar = "WHAT",
      .help = "okddip: what of the peers is mixed"}},
    {offsetof(struct settings, weights),
     {.name = "okddip-weights",
      .type = KD_OPTION_CHOICE,
      .choices = weights,
      .metavar = "HOW",
      .help = "okddip: how peers weigh each other"}},
    {0, {0}}};

/* Whether a gradient goes through the targets. */
static bool targets_learn(const struct settings *s)
{
    return s->detach == NOTHING ||
           (s->detach == PREDICTIONS && s->weights == ATTENTION);
}

static enum kd_status check(const struct kd_peers_recipe *recipe, const void *settings)
{
    const struct settings *s = settings;

    if (s->branches && !kd_peers_alike(recipe))
        return kd_fail(
            KD_ERECIPE,
            "okddip-branches: the networks differ, and share no trunk: leave it out");
    if (recipe->base.loss.direction == KD_REVERSE && targets_learn(s))
        return kd_fail(KD_ERECIPE,
                       "direction: with `reverse` no gradient goes through okddip's "
                       "targets: say okddip-detach: targets");
    return KD_OK;
}

static void name_member(size_t k, size_t count, char name[24])
{
    if (k + 1 < count)
        snprintf(name, 24, "peer%u", (unsigned)k + 1);
    else
        snprintf(name, 24, "leader");
}

static size_t peers_of(const struct kd_team *team)
{
    return team->num_members - 1;
}

/* The module that makes targets is the last part. Its batch is that of the first peer,
 * that of the second, ...: `in` are the h, NULL without attention, `out` the t_a. */
static struct kd_part *module_of(const struct kd_team *team)
{
    return team->part[team->num_parts - 1];
}
enum { Z, ALPHA, LEADERS }; /* tensors of the module: z_a; alpha; t_m, in every row */

/* -- building ------------------------------------------------------------------ */

/* [peers * batch][peers] */
static struct kd_tensor *attend(struct kd_graph *g, struct kd_tensor *h, size_t peers)
{
    const size_t features = h != NULL ? h->channels * h->height * h->width : 0;
    const size_t rows = features >= 8 ? features / 8 : 1;
    struct kd_tensor *left = kd_graph_unbiased_dense(g, h, "left", rows);
    struct kd_tensor *right = kd_graph_unbiased_dense(g, h, "right", rows);

    return kd_graph_softmax(g, kd_graph_voice_scores(g, left, right, peers), 1);
}

static void make_targets(const struct kd_peers *p, struct kd_part *module, size_t peers)
{
    const struct settings *s = p->settings;
    const double temperature = p->recipe->base.loss.temperature;
    struct kd_graph *g = module->graph;
    struct kd_tensor *v = module->tensor[Z], *mean, *mixture;

    if (s->detach != NOTHING)
        v = kd_graph_detach(g, v);
    if (s->mix == PROBABILITIES)
        v = kd_graph_softmax(g, v, temperature);
    mean = kd_graph_mean_voice(g, v, peers);
    if (s->weights == MEAN) {
        mixture = kd_graph_mean_voice(g, v, peers);
    } else {
        module->tensor[ALPHA] = attend(g, module->in, peers);
        mixture = kd_graph_voices(g, module->tensor[ALPHA], v);
        kd_graph_output(g, module->tensor[ALPHA]);
    }
    if (s->mix == LOGITS) {
        mixture = kd_graph_softmax(g, mixture, temperature);
        mean = kd_graph_softmax(g, mean, temperature);
    }
    module->out = mixture;
    module->tensor[LEADERS] = mean;
    kd_graph_output(g, mixture);
    kd_graph_output(g, mean);
}

/* W_L and W_E are shared. */
static enum kd_status check_features(const struct kd_team *team)
{
    const struct kd_tensor *first = team->member[0].features;

    if (!first->blocked)
        return kd_fail(KD_ERECIPE,
                       "networks: peer1 has no hidden layer, whose features "
                       "okddip's attention could compare");
    for (size_t a = 1; a < peers_of(team); a++) {
        const struct kd_tensor *h = team->member[a].features;
        if (h->channels != first->channels || h->height != first->height ||
            h->width != first->width)
            return kd_fail(KD_ERECIPE,
                           "networks: %s has features of %zu x %zu x %zu, peer1 of "
                           "%zu x %zu x %zu: only okddip's leader may be unlike its "
                           "peers in that",
                           team->member[a].name, h->channels, h->height, h->width,
                           first->channels, first->height, first->width);
    }
    return KD_OK;
}

static enum kd_status add_module(struct kd_peers *p, struct kd_team *team)
{
    const struct settings *s = p->settings;
    const size_t peers = peers_of(team);
    struct kd_part *module = NULL;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_team_add(p, team, "attention", peers * team->batch, &module));
    if (s->weights == ATTENTION) {
        KD_TRY(check_features(team));
        module->in = kd_part_input_like(module, team->member[0].features);
    }
    module->tensor[Z] = kd_part_input_like(module, team->member[0].logits);
    make_targets(p, module, peers);
    status = KD_OK;
out:
    return status;
}

static enum kd_status build(struct kd_peers *p, struct kd_team *team)
{
    const struct settings *s = p->settings;
    struct kd_tensor *trunk = NULL;
    enum kd_status status = KD_EBUG;

    if (s->branches && p->exchange)
        KD_TRY(kd_team_branches(p, team, 1, &trunk));
    else
        KD_TRY(kd_team_networks(p, team));
    for (size_t k = 0; k < team->num_members; k++)
        if (team->member[k].logits == NULL)
            return KD_OK; /* its graph knows why */
    if (p->exchange)
        KD_TRY(add_module(p, team));
    status = KD_OK;
out:
    return status;
}

/* -- a step -------------------------------------------------------------------- */

static void note_alpha(struct kd_peers *p, const struct kd_part *module)
{
    const struct kd_tensor *alpha = module->tensor[ALPHA];
    const size_t batch = p->learning->batch, stride = alpha->size / alpha->batch;
    double sum = 0;

    for (size_t i = 0; i < alpha->batch; i++) /* a vector's channels lie side by side */
        sum += alpha->data[i * stride + i / batch];
    kd_peers_note(p, "alpha_self", sum / (double)alpha->batch);
}

/* targets = t_a, target = t_m, of what the team was shown. */
static enum kd_status show_module(struct kd_peers *p, struct kd_part *module)
{
    const struct kd_team *team = p->learning;
    const size_t batch = team->batch;
    enum kd_status status;

    for (size_t a = 0; a < peers_of(team); a++) {
        if (module->in != NULL)
            kd_tensor_copy(module->in, a * batch, team->member[a].features);
        kd_tensor_copy(module->tensor[Z], a * batch, team->member[a].logits);
    }
    status = kd_graph_forward(module->graph);
    if (status != KD_OK)
        return status;
    kd_tensor_get(module->out, p->targets, peers_of(team) * batch);
    kd_tensor_get(module->tensor[LEADERS], p->target, batch);
    if (module->tensor[ALPHA] != NULL)
        note_alpha(p, module);
    return KD_OK;
}

/* gradient [batch][classes] of the mean of soft T^2 KL(t || q), q = softmax(z / T),
 * with respect to t: that is log(t / q) + 1, but whatever made t made it sum to 1, so
 * that a constant makes no difference. */
static void gradient_of_target(const struct kd_peers *p, const float *t, const float *z,
                               float *gradient)
{
    const size_t rows = p->shown->size, classes = p->sizes.classes;
    const struct kd_loss *loss = &p->loss;
    const double temperature = loss->temperature;
    double weight = loss->soft / (double)rows;

    if (loss->t_squared)
        weight *= temperature * temperature;
    if (loss->reduction == KD_ELEMMEAN)
        weight /= (double)classes;
#pragma omp parallel for
    for (size_t i = 0; i < rows; i++) {
        float *to = gradient + i * classes;
        const double log_sum = kd_softmax(z + i * classes, classes, temperature, to);
        for (size_t c = 0; c < classes; c++) {
            const double log_q = z[i * classes + c] / temperature - log_sum;
            const double log_t = log(fmaxf(t[i * classes + c], FLT_MIN));
            to[c] = (float)(weight * (log_t - log_q));
        }
    }
}

/* From the losses through the targets into the projections, the peers' features and,
 * where they are not constant, their logits. */
static enum kd_status learn_targets(struct kd_peers *p, struct kd_part *module)
{
    const struct settings *s = p->settings;
    struct kd_team *team = p->learning;
    const size_t peers = peers_of(team), n = team->batch * p->sizes.classes;
    enum kd_status status = KD_EBUG;

    for (size_t a = 0; a < peers; a++)
        gradient_of_target(p, p->targets + a * n, team->member[a].z,
                           p->gradients + a * n);
    kd_tensor_set_gradient(module->out, p->gradients);
    if (s->detach == NOTHING) {
        memset(p->gradients, 0, peers * n * sizeof *p->gradients);
        gradient_of_target(p, p->target, team->member[peers].z, p->gradients);
        kd_tensor_set_gradient(module->tensor[LEADERS], p->gradients);
    }
    KD_TRY(kd_part_backward(p, module));
    for (size_t a = 0; a < peers; a++) {
        if (module->in != NULL)
            kd_tensor_add_gradient(team->member[a].features, module->in,
                                   a * team->batch);
        if (s->detach == NOTHING)
            kd_tensor_add_gradient(team->member[a].logits, module->tensor[Z],
                                   a * team->batch);
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status step(struct kd_peers *p)
{
    const struct settings *s = p->settings;
    struct kd_team *team = p->learning;
    struct kd_part *module = module_of(team);
    const size_t peers = peers_of(team), n = team->batch * p->sizes.classes;
    enum kd_status status = KD_EBUG;

    if (!p->exchange)
        return kd_team_learn_alone(p);
    KD_TRY(kd_team_show(p, team));
    KD_TRY(show_module(p, module));
    for (size_t a = 0; a < peers; a++)
        KD_TRY(kd_member_learn(p, &team->member[a], p->targets + a * n, 1));
    KD_TRY(kd_member_learn(p, &team->member[peers], p->target, 1));
    if (targets_learn(s))
        KD_TRY(learn_targets(p, module));
    for (size_t i = 0; i + 1 < team->num_parts; i++)
        KD_TRY(kd_part_improve(p, team->part[i]));
    if (targets_learn(s))
        kd_part_update(p, module, 0);
    status = KD_OK;
out:
    return status;
}

const struct kd_method kd_method_okddip = {
    .name = "okddip",
    .help = "diverse peers by attention, and their leader (Chen et al. 2020)",
    .least = 3,
    .most = KD_MAX_PEERS,
    .usual = 4,
    .settings = &paper,
    .settings_size = sizeof paper,
    .options = options,
    .defaults = kd_peers_ramped,
    .name_member = name_member,
    .check = check,
    .build = build,
    .step = step,
};
