/* SPDX-License-Identifier: MIT */
/* Teams: the parts of a run and the members in them, built for learning or measuring.
 */
#include "peers/engine_internal.h"

#include "kd/hash.h"
#include "kd/memory.h"
#include "kd/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- parts -------------------------------------------------------------------- */

static enum kd_status add_part(struct kd_team *team, const char *name, size_t batch,
                               bool training, struct kd_part **part)
{
    enum kd_status status = KD_EBUG;
    struct kd_part *new = NULL;

    if (team->num_parts == KD_MAX_PARTS)
        return kd_fail(KD_EBUG, "%s: more than %d parts", name, KD_MAX_PARTS);
    KD_TRY(KD_NEW(new, 1));
    snprintf(new->name, sizeof new->name, "%s", name);
    KD_TRY(kd_graph_new(batch, training, &new->graph));
    team->part[team->num_parts++] = new;
    *part = new;
    new = NULL;
    status = KD_OK;
out:
    free(new);
    return status;
}

enum kd_status kd_team_add(struct kd_peers *p, struct kd_team *team, const char *name,
                           size_t batch, struct kd_part **part)
{
    const struct kd_recipe *r = &p->recipe->base;
    const enum kd_status status = add_part(team, name, batch, team->learning, part);

    if (status != KD_OK || !team->learning)
        return status;
    (*part)->num_rules = 1;
    (*part)->rule[0] = (struct kd_rule){.optimizer = r->optimizer,
                                        .sgd = r->sgd,
                                        .adam = r->adam,
                                        .schedule = r->schedule,
                                        .clip = r->clip};
    return KD_OK;
}

enum kd_status kd_team_add_still(struct kd_peers *p, struct kd_team *team,
                                 const char *name, size_t batch, struct kd_part **part)
{
    const enum kd_status status = add_part(team, name, batch, false, part);

    (void)p;
    if (status == KD_OK)
        (*part)->still = true;
    return status;
}

struct kd_tensor *kd_part_samples(const struct kd_peers *p, struct kd_part *part)
{
    part->samples =
        kd_graph_input(part->graph, p->sizes.channels, p->sizes.height, p->sizes.width);
    return part->samples;
}

struct kd_tensor *kd_part_input_like(struct kd_part *part, const struct kd_tensor *from)
{
    if (from == NULL) /* whose graph keeps the reason */
        return NULL;
    return kd_graph_gradient_input(part->graph, from->channels, from->height,
                                   from->width);
}

/* -- members ------------------------------------------------------------------ */

struct kd_member *kd_team_member(struct kd_peers *p, struct kd_team *team,
                                 struct kd_part *part, const char *prefix,
                                 struct kd_tensor *logits, struct kd_tensor *features,
                                 struct kd_tensor *map)
{
    struct kd_member *m = &team->member[team->num_members];

    *m = (struct kd_member){.name = p->recipe->name[team->num_members],
                            .index = team->num_members,
                            .part = part,
                            .logits = logits,
                            .features = features,
                            .map = map};
    snprintf(m->prefix, sizeof m->prefix, "%s", prefix);
    kd_graph_output(part->graph, logits);
    kd_graph_output(part->graph, features);
    kd_graph_output(part->graph, map);
    team->num_members++;
    return m;
}

/* A member's whole network. */
static void add_network(struct kd_peers *p, struct kd_team *team, struct kd_part *part,
                        const struct kd_arch *arch)
{
    const size_t classes = p->sizes.classes;
    struct kd_tensor *x = kd_part_samples(p, part), *features = NULL, *map = NULL;

    x = kd_network_trunk(part->graph, arch, classes, "", x);
    x = kd_network_branch(part->graph, arch, classes, "", x, &features, &map);
    kd_team_member(p, team, part, "", x, features, map);
}

enum kd_status kd_team_networks(struct kd_peers *p, struct kd_team *team)
{
    for (size_t k = 0; k < p->recipe->count; k++) {
        struct kd_part *part = NULL;
        const enum kd_status status =
            kd_team_add(p, team, p->recipe->name[k], team->batch, &part);
        if (status != KD_OK)
            return status;
        add_network(p, team, part, &p->recipe->arch[k]);
    }
    return KD_OK;
}

static void add_branch(struct kd_peers *p, struct kd_team *team, struct kd_part *part,
                       struct kd_tensor *trunk, double scale)
{
    const size_t k = team->num_members;
    struct kd_tensor *x = trunk, *features = NULL, *map = NULL;
    char prefix[32];

    snprintf(prefix, sizeof prefix, "%s.", p->recipe->name[k]);
    if (scale != 1)
        x = kd_graph_scale_gradient(part->graph, x, scale);
    x = kd_network_branch(part->graph, &p->recipe->arch[k], p->sizes.classes, prefix, x,
                          &features, &map);
    kd_team_member(p, team, part, prefix, x, features, map);
}

enum kd_status kd_team_branches(struct kd_peers *p, struct kd_team *team, double scale,
                                struct kd_tensor **trunk)
{
    struct kd_part *part = NULL;
    const enum kd_status status = kd_team_add(p, team, "branches", team->batch, &part);

    if (status != KD_OK)
        return status;
    *trunk = kd_network_trunk(part->graph, &p->recipe->arch[0], p->sizes.classes, "",
                              kd_part_samples(p, part));
    if (*trunk == part->samples && *trunk != NULL)
        return kd_fail(KD_ERECIPE,
                       "network: too shallow for a trunk: all of it would be "
                       "branches");
    for (size_t k = 0; k < p->recipe->count; k++)
        add_branch(p, team, part, *trunk, scale);
    return KD_OK;
}

/* -- teams -------------------------------------------------------------------- */

/* The first part begins as kd_train's network does; the others, whose parameters may
 * have the same names, elsewhere. */
static uint64_t first_seed(const struct kd_peers *p, size_t index, const char *name)
{
    const uint64_t seed = p->recipe->base.seed;
    struct kd_random r;

    if (index == 0)
        return seed;
    r = kd_random_at(seed, KD_RANDOM_WEIGHTS, kd_hash_u64(name, strlen(name)), 1);
    return (uint64_t)kd_random_u32(&r) << 32 | kd_random_u32(&r);
}

static enum kd_status make_optimizers(struct kd_part *part)
{
    enum kd_status status = KD_EBUG;

    for (size_t i = 0; i < part->num_rules; i++) {
        const struct kd_rule *rule = &part->rule[i];
        if (rule->optimizer == KD_SGD)
            KD_TRY(kd_optimizer_new(part->graph, &rule->sgd, &part->optimizer[i]));
        else
            KD_TRY(
                kd_optimizer_new_adam(part->graph, &rule->adam, &part->optimizer[i]));
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status finish_part(const struct kd_peers *p, struct kd_part *part,
                                  size_t index)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_graph_plan(part->graph));
    if (part->trained != NULL)
        KD_TRY(kd_model_load(part->trained, part->graph));
    else
        KD_TRY(kd_graph_initialise(part->graph, first_seed(p, index, part->name)));
    KD_TRY(make_optimizers(part));
    status = KD_OK;
out:
    if (status != KD_OK)
        kd_error_prefix("%s", part->name);
    return status;
}

enum kd_status kd_team_new(struct kd_peers *p, bool learning, size_t batch,
                           struct kd_team **team)
{
    enum kd_status status = KD_EBUG;
    struct kd_team *t = NULL;

    KD_TRY(KD_NEW(t, 1));
    t->learning = learning;
    t->batch = batch;
    KD_TRY(p->recipe->chosen->build(p, t));
    for (size_t i = 0; i < t->num_parts; i++)
        KD_TRY(finish_part(p, t->part[i], i));
    for (size_t k = 0; k < t->num_members; k++) {
        KD_TRY(KD_NEW(t->member[k].z, batch * p->sizes.classes));
        KD_TRY(KD_NEW(t->member[k].gradient, batch * p->sizes.classes));
    }
    *team = t;
    t = NULL;
    status = KD_OK;
out:
    kd_team_free(t);
    return status;
}

void kd_team_free(struct kd_team *team)
{
    if (team == NULL)
        return;
    for (size_t k = 0; k < team->num_members; k++) {
        free(team->member[k].z);
        free(team->member[k].gradient);
    }
    for (size_t i = 0; i < team->num_parts; i++) {
        for (size_t o = 0; o < KD_MAX_RULES; o++)
            kd_optimizer_free(team->part[i]->optimizer[o]);
        kd_graph_free(team->part[i]->graph);
        free(team->part[i]->trained);
        free(team->part[i]);
    }
    free(team);
}

/* Still parts are the learning team's alone. */
enum kd_status kd_team_refresh(struct kd_peers *p)
{
    size_t at = 0;

    for (size_t i = 0; i < p->learning->num_parts; i++) {
        const struct kd_part *part = p->learning->part[i];
        if (part->still)
            continue;
        const enum kd_status status =
            kd_graph_copy_parameters(p->measuring->part[at++]->graph, part->graph);
        if (status != KD_OK)
            return status;
    }
    return KD_OK;
}

size_t kd_team_memory(const struct kd_team *team)
{
    size_t bytes = 0;

    if (team == NULL)
        return 0;
    for (size_t i = 0; i < team->num_parts; i++) {
        const struct kd_part *part = team->part[i];
        bytes += kd_graph_memory(part->graph);
        for (size_t o = 0; o < part->num_rules; o++)
            for (size_t j = 0; j < kd_graph_num_parameters(part->graph); j++)
                if (kd_graph_parameter(part->graph, j)->gradient != NULL)
                    bytes += kd_optimizer_moments(part->optimizer[o]) *
                             kd_graph_parameter(part->graph, j)->size * sizeof(float);
    }
    return bytes;
}
