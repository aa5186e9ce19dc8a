/* SPDX-License-Identifier: MIT */
/*
 * Knowledge distillation, Hinton, Vinyals and Dean 2015, with the teachers run in every
 * step: for each student by itself
 *
 *     q = the mean over the teachers of softmax(z_teacher / T), in eval mode, of the
 *         student's own batch
 *     loss = hard * CE(y, p) + soft * T^2 KL(q || p_T), p_T = softmax(z / T)
 *
 * It is what a merged cache of as many views as there are epochs stands for: kd-train
 * --labels learns the same from rows that were made once. Here they are made anew for
 * every student; there are no soft labels to be kept, and none to be rounded.
 */
#include "peers/method_internal.h"

#include "kd/list.h"

#include <stddef.h>
#include <stdio.h>

#define MAX_TEACHERS 8

struct settings {
    char *teachers;
};

static const struct settings paper = {.teachers = NULL};

static const struct kd_method_option options[] = {
    {offsetof(struct settings, teachers),
     {.name = "teachers",
      .type = KD_OPTION_STRING,
      .metavar = "FILE,...",
      .help = "hinton: trained networks, run in every step"}},
    {0}};

static void defaults(struct kd_recipe *base)
{
    base->loss.hard = 0.1;
    base->loss.soft = 0.9;
    base->loss.temperature = 4;
}

static enum kd_status check(const struct kd_peers_recipe *recipe, const void *settings)
{
    const struct settings *s = settings;

    (void)recipe;
    if (s->teachers != NULL)
        return KD_OK;
    return kd_fail(KD_ERECIPE, "teachers: say which trained networks teach: --teachers "
                               "a/model.h5,b/model.h5");
}

static void name_member(size_t k, size_t count, char name[24])
{
    if (count == 1)
        snprintf(name, 24, "student");
    else
        snprintf(name, 24, "student%u", (unsigned)k + 1);
}

/* Parts: the students' in their order, then the teachers. */
static enum kd_status build(struct kd_peers *p, struct kd_team *team)
{
    const struct settings *s = p->settings;
    enum kd_status status = KD_EBUG;
    char **path = NULL, name[32];
    size_t count = 0;

    KD_TRY(kd_team_networks(p, team));
    if (team->learning && p->exchange)
        KD_TRY(kd_list_paths(s->teachers, "teachers", &path, &count));
    if (count > MAX_TEACHERS) {
        status = kd_fail(KD_ERECIPE, "teachers: at most %d", MAX_TEACHERS);
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "teacher %zu", i + 1);
        KD_TRY(kd_team_add_trained(p, team, path[i], name));
    }
    status = KD_OK;
out:
    kd_list_free(path);
    return status;
}

static enum kd_status step(struct kd_peers *p)
{
    struct kd_team *team = p->learning;
    const size_t first = team->num_members, teachers = team->num_parts - first;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_team_show(p, team));
    if (p->exchange)
        KD_TRY(kd_parts_mean(p, team->part + first, teachers, p->target));
    for (size_t k = 0; k < team->num_members; k++) {
        KD_TRY(kd_member_learn(p, &team->member[k], p->target, 1));
        KD_TRY(kd_part_improve(p, team->member[k].part));
    }
    status = KD_OK;
out:
    return status;
}

const struct kd_method kd_method_hinton = {
    .name = "hinton",
    .help = "trained teachers, run in every step (Hinton et al. 2015)",
    .least = 1,
    .most = KD_MAX_PEERS,
    .usual = 1,
    .settings = &paper,
    .settings_size = sizeof paper,
    .options = options,
    .defaults = defaults,
    .name_member = name_member,
    .check = check,
    .build = build,
    .step = step,
};
