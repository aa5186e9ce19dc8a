/* SPDX-License-Identifier: MIT */
/*
 * Feature-map-level online adversarial distillation, AFD: Chung, Park, Kim, Kwak, ICML
 * 2020 (arXiv 2002.01775). Networks learn from each other's logits, as in deep mutual
 * learning at T = 3, and each from the distribution of the next one's feature maps, the
 * last one's from the first's: a critic D_k tells maps of network k+1 from those of k,
 * and network k learns to be taken for its neighbour.
 *
 *     L_k  = CE(y, p_k) + T^2 KL(mean of the others' p || p_k)
 *     L_Dk = (1 - D_k(T_k+1(G_k+1(x))))^2 + D_k(T_k(G_k(x)))^2, G and T constant
 *     L_Gk = (1 - D_k(T_k(G_k(x))))^2, D constant
 *
 * G_k is the network up to its last feature map; T_k a 1x1 convolution with batch norm,
 * where maps differ in their channels, else nothing. For each batch
 *
 *     all networks step on L_k, of one forward pass
 *     all networks see the batch again
 *     all critics step on L_Dk, all networks and transfer layers on L_Gk
 *
 * L_Gk has an optimiser of its own, as the paper says: Adam at a much smaller rate. The
 * second forward pass is our reading: the paper lets one pass serve both steps, whose
 * maps would then be those of weights that are gone. The critic (two convolutions with
 * batch norm and leaky ReLU, the mean over places, one dense layer, a sigmoid) and the
 * numbers of the second optimiser are not from the paper itself either.
 */
#include "peers/method_internal.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>

struct settings {
    bool adversarial;
    double feature_lr, feature_decay;
};

static const struct settings paper = {
    .adversarial = true, .feature_lr = 2e-5, .feature_decay = 0.1};

static const struct kd_method_option options[] = {
    {offsetof(struct settings, adversarial),
     {.name = "adversarial",
      .type = KD_OPTION_FLAG,
      .help = "afd: learn from the others' feature maps too"}},
    {offsetof(struct settings, feature_lr),
     {.name = "feature-lr",
      .type = KD_OPTION_F64,
      .min = 0,
      .max = 1,
      .metavar = "X",
      .help = "afd: learning rate of the feature losses and the critics"}},
    {offsetof(struct settings, feature_decay),
     {.name = "feature-decay",
      .type = KD_OPTION_F64,
      .min = 0,
      .max = 1,
      .metavar = "X",
      .help = "afd: weight decay of the feature losses and the critics"}},
    {0}};

static void defaults(struct kd_recipe *base)
{
    base->loss.temperature = 3;
}

/* -- the parts: members, transfer layers, critics ------------------------------- */

static struct kd_part *transfer_of(const struct kd_team *team, size_t k)
{
    return team->part[team->num_members + k];
}

static struct kd_part *critic_of(const struct kd_team *team, size_t k)
{
    return team->part[2 * team->num_members + k];
}

static size_t neighbour(const struct kd_team *team, size_t k)
{
    return (k + 1) % team->num_members;
}

/* The rule of feature losses: the run's schedule from another rate on. */
static struct kd_rule feature_rule(const struct kd_peers *p)
{
    const struct settings *s = p->settings;
    struct kd_rule rule = {.optimizer = KD_ADAM,
                           .adam = {.beta1 = 0.9,
                                    .beta2 = 0.999,
                                    .epsilon = 1e-8,
                                    .weight_decay = s->feature_decay},
                           .schedule = p->recipe->base.schedule,
                           .clip = p->recipe->base.clip};

    rule.schedule.lr = s->feature_lr;
    return rule;
}

static size_t most_channels(const struct kd_team *team)
{
    size_t most = 0;

    for (size_t k = 0; k < team->num_members; k++)
        if (team->member[k].map->channels > most)
            most = team->member[k].map->channels;
    return most;
}

/* Brings a map to `channels`; where it has them, it passes as it is. */
static enum kd_status add_transfer(struct kd_peers *p, struct kd_team *team, size_t k,
                                   size_t channels)
{
    const struct kd_tensor *map = team->member[k].map;
    struct kd_part *part = NULL;
    enum kd_status status = KD_EBUG;
    char name[32];

    snprintf(name, sizeof name, "transfer %zu", k + 1);
    KD_TRY(kd_team_add(p, team, name, team->batch, &part));
    part->rule[0] = feature_rule(p);
    part->in = part->out = kd_part_input_like(part, map);
    if (map->channels != channels) {
        part->out = kd_graph_conv(part->graph, part->in, "conv",
                                  &(struct kd_conv){channels, 1, 1, 0});
        part->out = kd_graph_batch_norm(part->graph, part->out, NULL, false, "bn");
    }
    kd_graph_output(part->graph, part->out);
    status = KD_OK;
out:
    return status;
}

static struct kd_tensor *critic_layer(struct kd_graph *g, struct kd_tensor *x,
                                      size_t channels, const char *conv,
                                      const char *norm)
{
    x = kd_graph_conv(g, x, conv, &(struct kd_conv){channels, 3, 1, 1});
    return kd_graph_leaky_relu(g, kd_graph_batch_norm(g, x, NULL, false, norm), 0.2);
}

/* Sees a batch of the neighbour's maps and behind them one of the member's own. */
static enum kd_status add_critic(struct kd_peers *p, struct kd_team *team, size_t k,
                                 size_t channels)
{
    struct kd_part *part = NULL;
    struct kd_tensor *x;
    enum kd_status status = KD_EBUG;
    char name[32];

    snprintf(name, sizeof name, "critic %zu", k + 1);
    KD_TRY(kd_team_add(p, team, name, 2 * team->batch, &part));
    part->rule[0] = feature_rule(p);
    part->in = kd_part_input_like(part, transfer_of(team, k)->out);
    x = critic_layer(part->graph, part->in, channels, "conv1", "bn1");
    x = critic_layer(part->graph, x, channels, "conv2", "bn2");
    part->out =
        kd_graph_dense(part->graph, kd_graph_average_pool(part->graph, x), "fc", 1);
    kd_graph_output(part->graph, part->out);
    status = KD_OK;
out:
    return status;
}

static enum kd_status check_maps(const struct kd_team *team)
{
    const struct kd_tensor *first = team->member[0].map;

    for (size_t k = 0; k < team->num_members; k++) {
        const struct kd_tensor *map = team->member[k].map;
        if (team->member[k].logits == NULL) /* its graph knows why */
            return kd_graph_plan(team->member[k].part->graph);
        if (map == NULL)
            return kd_fail(KD_ERECIPE, "%s has no feature map for afd to compare",
                           team->member[k].name);
        if (map->height != first->height || map->width != first->width)
            return kd_fail(KD_ERECIPE,
                           "afd: the last feature maps of %s are %zux%zu, those of %s "
                           "%zux%zu: choose networks whose maps are of one size",
                           team->member[k].name, map->height, map->width,
                           team->member[0].name, first->height, first->width);
    }
    return KD_OK;
}

static bool uses_maps(const struct kd_peers *p)
{
    return p->exchange && ((const struct settings *)p->settings)->adversarial;
}

static enum kd_status build(struct kd_peers *p, struct kd_team *team)
{
    enum kd_status status = KD_EBUG;
    size_t channels;

    KD_TRY(kd_team_networks(p, team));
    if (!uses_maps(p))
        return KD_OK;
    KD_TRY(check_maps(team));
    channels = most_channels(team);
    for (size_t k = 0; k < team->num_members; k++) {
        struct kd_part *part = team->member[k].part;
        part->rule[part->num_rules] = feature_rule(p);
        part->num_rules += team->learning;
        KD_TRY(add_transfer(p, team, k, channels));
    }
    for (size_t k = 0; k < team->num_members; k++)
        KD_TRY(add_critic(p, team, k, channels));
    status = KD_OK;
out:
    return status;
}

/* -- a step --------------------------------------------------------------------- */

/* Of samples first to end-1 of a critic's scores s, D = sigmoid(s): the mean of
 * (aim - D)^2, whose gradient with respect to s goes into `gradient`. */
static double squares(const float *scores, size_t first, size_t end, double aim,
                      float *gradient)
{
    const double count = (double)(end - first);
    double sum = 0;

    for (size_t i = first; i < end; i++) {
        const double d = 1 / (1 + exp(-scores[i]));
        sum += (aim - d) * (aim - d);
        gradient[i] = (float)(-2 * (aim - d) * d * (1 - d) / count);
    }
    return sum / count;
}

/* Shows a critic the maps of both, and has it step on L_D, or leaves in its input the
 * gradient of L_G. */
static enum kd_status judge(struct kd_peers *p, size_t k, bool as_critic)
{
    struct kd_team *team = p->learning;
    struct kd_part *critic = critic_of(team, k);
    const size_t batch = team->batch;
    float *scores = p->target, *gradient = p->spare; /* classes >= 2: room */
    enum kd_status status = KD_EBUG;
    double loss;

    kd_tensor_copy(critic->in, 0, transfer_of(team, neighbour(team, k))->out);
    kd_tensor_copy(critic->in, batch, transfer_of(team, k)->out);
    KD_TRY(kd_graph_forward(critic->graph));
    kd_tensor_get(critic->out, scores, 2 * batch);
    for (size_t i = 0; i < batch; i++)
        gradient[i] = 0;
    loss = as_critic ? squares(scores, 0, batch, 1, gradient) : 0;
    loss += squares(scores, batch, 2 * batch, as_critic ? 0 : 1, gradient);
    kd_peers_note(p, as_critic ? "critic_loss" : "feature_loss", loss);
    kd_tensor_set_gradient(critic->out, gradient);
    KD_TRY(kd_part_backward(p, critic));
    if (as_critic)
        kd_part_update(p, critic, 0);
    status = KD_OK;
out:
    return status;
}

/* From the critic's input back through the transfer layer into the network. */
static enum kd_status learn_from_critic(struct kd_peers *p, size_t k)
{
    struct kd_team *team = p->learning;
    struct kd_member *member = &team->member[k];
    struct kd_part *transfer = transfer_of(team, k), *critic = critic_of(team, k);
    enum kd_status status = KD_EBUG;

    KD_TRY(judge(p, k, false));
    if (transfer->in == transfer->out) {
        kd_tensor_add_gradient(member->map, critic->in, team->batch);
    } else {
        kd_tensor_add_gradient(transfer->out, critic->in, team->batch);
        KD_TRY(kd_part_improve(p, transfer));
        kd_tensor_add_gradient(member->map, transfer->in, 0);
    }
    KD_TRY(kd_part_backward(p, member->part));
    kd_part_update(p, member->part, 1);
    status = KD_OK;
out:
    return status;
}

static enum kd_status learn_from_maps(struct kd_peers *p)
{
    struct kd_team *team = p->learning;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_team_show(p, team));
    for (size_t k = 0; k < team->num_members; k++) {
        struct kd_part *transfer = transfer_of(team, k);
        kd_tensor_copy(transfer->in, 0, team->member[k].map);
        KD_TRY(kd_graph_forward(transfer->graph));
    }
    for (size_t k = 0; k < team->num_members; k++)
        KD_TRY(judge(p, k, true));
    for (size_t k = 0; k < team->num_members; k++)
        KD_TRY(learn_from_critic(p, k));
    status = KD_OK;
out:
    return status;
}

static enum kd_status step(struct kd_peers *p)
{
    const enum kd_status status = kd_team_learn_mutually(p, 1);

    return status == KD_OK && uses_maps(p) ? learn_from_maps(p) : status;
}

const struct kd_method kd_method_afd = {
    .name = "afd",
    .help = "feature maps through critics, logits as in dml (Chung et al. 2020)",
    .least = 2,
    .most = KD_MAX_PEERS,
    .usual = 2,
    .settings = &paper,
    .settings_size = sizeof paper,
    .options = options,
    .defaults = defaults,
    .check = kd_peers_check_mutual,
    .build = build,
    .step = step,
};
