/* SPDX-License-Identifier: MIT */
/*
 * FFL, feature fusion for online mutual distillation: Kim, Hyun, Chung, Kwak, ICPR 2020
 * (arXiv 1904.09058). A module fuses the last feature maps F_k of all networks and
 * classifies what comes of it,
 *
 *     F   = F_1, ..., F_K side by side
 *     z_f = fc(avgpool(relu(bn(conv1x1(relu(bn(depthwise3x3(F))))))))
 *
 * and networks and module teach each other. With p_e = softmax(mean of the z_k / T),
 * T = 3, all targets constant:
 *
 *     L = sum over k of [CE(y, p_k) + w T^2 KL(p_f || p_k)]
 *         + CE(y, p_f) + w T^2 KL(p_e || p_f)
 *
 * The maps are not constant: what the module learns from goes back through them into
 * the networks. The module has a weight decay of its own. w climbs as the recipe's ramp
 * does, over 80 epochs.
 *
 * Networks of one architecture are branches of one trunk, as in the authors' code, or,
 * with `ffl-separate`, whole; others are always whole. How the paper fits maps of
 * unlike networks together could not be had: here larger maps are averaged down to the
 * smallest size, and channels are as many as they are. Fused, they are as many as the
 * first network's.
 *
 * Without exchange there is no module, and networks are whole.
 */
#include "peers/method_internal.h"

#include <stddef.h>

struct settings {
    bool separate;
    double fusion_decay;
};
static const struct settings paper = {.fusion_decay = 1e-5};

static const struct kd_method_option options[] = {
    {offsetof(struct settings, separate),
     {.name = "ffl-separate",
      .type = KD_OPTION_FLAG,
      .help = "ffl: whole networks, where branches of one trunk would be possible"}},
    {offsetof(struct settings, fusion_decay),
     {.name = "ffl-fusion-decay",
      .type = KD_OPTION_F64,
      .min = 0,
      .max = 1,
      .metavar = "X",
      .help = "ffl: weight decay of the module that fuses"}},
    {0, {0}}};

static enum kd_status check(const struct kd_peers_recipe *recipe, const void *settings)
{
    (void)settings;
    for (size_t k = 0; k < recipe->count; k++)
        if (recipe->arch[k].family == KD_FAMILY_MLP)
            return kd_fail(KD_ERECIPE,
                           "networks: %s is an mlp, which has no feature map for ffl "
                           "to fuse",
                           recipe->name[k]);
    return KD_OK;
}

/* The module is the last part. */
static struct kd_part *module_of(const struct kd_team *team)
{
    return team->part[team->num_parts - 1];
}

/* -- building ------------------------------------------------------------------ */

/* x averaged down to the height and width of `smallest`. */
static struct kd_tensor *fit(struct kd_graph *graph, struct kd_tensor *x,
                             const struct kd_tensor *smallest)
{
    const size_t times = x->height / smallest->height;

    if (times == 1)
        return x;
    return kd_graph_pool(
        graph, x, &(struct kd_pool){.size = times, .stride = times, .mean = true});
}

static enum kd_status find_smallest(const struct kd_team *team,
                                    const struct kd_tensor **smallest)
{
    const struct kd_tensor *least = team->member[0].map;

    for (size_t k = 1; k < team->num_members; k++)
        if (team->member[k].map->height < least->height)
            least = team->member[k].map;
    for (size_t k = 0; k < team->num_members; k++) {
        const struct kd_tensor *map = team->member[k].map;
        const size_t times = map->height / least->height;
        if (map->height != times * least->height || map->width != times * least->width)
            return kd_fail(KD_ERECIPE,
                           "networks: ffl cannot bring feature maps of %zu x %zu (%s) "
                           "to %zu x %zu: take networks with alike or whole multiples",
                           map->height, map->width, team->member[k].name, least->height,
                           least->width);
    }
    *smallest = least;
    return KD_OK;
}

/* z_f, behind inputs for the maps. */
static struct kd_tensor *fuse(struct kd_part *part, const struct kd_team *team,
                              const struct kd_tensor *smallest, size_t classes)
{
    struct kd_graph *g = part->graph;
    struct kd_tensor *x, *y = NULL;
    struct kd_conv depthwise = {.kernel = 3, .stride = 1, .padding = 1},
                   pointwise = {team->member[0].map->channels, 1, 1, 0};

    _Static_assert(KD_MAX_PEERS <= KD_MAX_TENSORS, "a tensor for each member's map");
    for (size_t k = 0; k < team->num_members; k++) {
        part->tensor[k] = kd_part_input_like(part, team->member[k].map);
        depthwise.channels += team->member[k].map->channels;
        x = part->tensor[k] != NULL ? fit(g, part->tensor[k], smallest) : NULL;
        y = k == 0 ? x : kd_graph_concat(g, y, x);
    }
    y = kd_graph_grouped_conv(g, y, "depthwise", &depthwise, depthwise.channels);
    y = kd_graph_batch_norm(g, y, NULL, true, "bn1");
    y = kd_graph_conv(g, y, "pointwise", &pointwise);
    y = kd_graph_batch_norm(g, y, NULL, true, "bn2");
    return kd_graph_dense(g, kd_graph_average_pool(g, y), "fc", classes);
}

static enum kd_status add_module(struct kd_peers *p, struct kd_team *team)
{
    const struct settings *s = p->settings;
    const struct kd_tensor *smallest = NULL;
    struct kd_part *part = NULL;
    enum kd_status status = KD_EBUG;

    KD_TRY(find_smallest(team, &smallest));
    KD_TRY(kd_team_add(p, team, "fusion", team->batch, &part));
    part->rule[0].sgd.weight_decay = s->fusion_decay;
    part->rule[0].adam.weight_decay = s->fusion_decay;
    part->out = fuse(part, team, smallest, p->sizes.classes);
    kd_graph_output(part->graph, part->out);
    status = KD_OK;
out:
    return status;
}

static bool share_trunk(const struct kd_peers *p)
{
    const struct settings *s = p->settings;

    return p->exchange && !s->separate && kd_peers_alike(p->recipe);
}

static enum kd_status build(struct kd_peers *p, struct kd_team *team)
{
    struct kd_tensor *trunk = NULL;
    enum kd_status status = KD_EBUG;

    if (share_trunk(p))
        KD_TRY(kd_team_branches(p, team, 1, &trunk));
    else
        KD_TRY(kd_team_networks(p, team));
    for (size_t k = 0; k < team->num_members; k++)
        if (team->member[k].map == NULL)
            return KD_OK; /* its graph knows why */
    if (p->exchange)
        KD_TRY(add_module(p, team));
    status = KD_OK;
out:
    return status;
}

/* -- a step -------------------------------------------------------------------- */

/* z = z_f of what the team was shown. */
static enum kd_status show_module(struct kd_peers *p, struct kd_team *team, float *z)
{
    struct kd_part *module = module_of(team);
    enum kd_status status;

    for (size_t k = 0; k < team->num_members; k++)
        kd_tensor_copy(module->tensor[k], 0, team->member[k].map);
    status = kd_graph_forward(module->graph);
    if (status == KD_OK)
        kd_tensor_get(module->out, z, p->shown->size);
    return status;
}

/* From the loss of z_f back to the maps. */
static enum kd_status learn_fused(struct kd_peers *p, const float *z)
{
    struct kd_team *team = p->learning;
    struct kd_part *module = module_of(team);
    enum kd_status status = KD_EBUG;

    kd_team_mean_logits(p, team, team->num_members, p->target);
    kd_peers_soften(p, p->target, p->loss.temperature, p->target);
    KD_TRY(kd_peers_loss(p, "fused", &p->loss, z, p->target, p->gradients));
    kd_tensor_set_gradient(module->out, p->gradients);
    KD_TRY(kd_part_backward(p, module));
    for (size_t k = 0; k < team->num_members; k++)
        kd_tensor_add_gradient(team->member[k].map, module->tensor[k], 0);
    status = KD_OK;
out:
    return status;
}

static enum kd_status step(struct kd_peers *p)
{
    struct kd_team *team = p->learning;
    enum kd_status status = KD_EBUG;

    if (!p->exchange)
        return kd_team_learn_alone(p);
    KD_TRY(kd_team_show(p, team));
    KD_TRY(show_module(p, team, p->spare));
    KD_TRY(learn_fused(p, p->spare));
    kd_peers_soften(p, p->spare, p->loss.temperature, p->target);
    for (size_t k = 0; k < team->num_members; k++)
        KD_TRY(kd_member_learn(p, &team->member[k], p->target, 1));
    for (size_t i = 0; i + 1 < team->num_parts; i++)
        KD_TRY(kd_part_improve(p, team->part[i]));
    kd_part_update(p, module_of(team), 0);
    status = KD_OK;
out:
    return status;
}

const struct kd_method kd_method_ffl = {
    .name = "ffl",
    .help = "a classifier of fused feature maps teaches too (Kim et al. 2020)",
    .least = 2,
    .most = KD_MAX_PEERS,
    .usual = 2,
    .settings = &paper,
    .settings_size = sizeof paper,
    .options = options,
    .defaults = kd_peers_ramped,
    .check = check,
    .build = build,
    .step = step,
    .ensemble_name = "fused",
    .ensemble = show_module,
};
