/* SPDX-License-Identifier: MIT */
/* What a step is made of: forward, losses, backward, updates; targets and figures. */
#include "peers/engine_internal.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* -- forward ------------------------------------------------------------------ */

enum kd_status kd_part_show(struct kd_peers *p, struct kd_team *team,
                            struct kd_part *part)
{
    const struct kd_batch *b = p->shown;
    enum kd_status status;

    kd_tensor_set(part->samples, b->input, b->size);
    status = kd_graph_forward(part->graph);
    if (status != KD_OK) {
        kd_error_prefix("%s", part->name);
        return status;
    }
    for (size_t k = 0; k < team->num_members; k++)
        if (team->member[k].part == part)
            kd_tensor_get(team->member[k].logits, team->member[k].z, b->size);
    return KD_OK;
}

enum kd_status kd_team_show(struct kd_peers *p, struct kd_team *team)
{
    p->shown = p->batch[0];
    for (size_t i = 0; i < team->num_parts; i++) {
        enum kd_status status = KD_OK;
        if (team->part[i]->samples != NULL && !team->part[i]->still)
            status = kd_part_show(p, team, team->part[i]);
        if (status != KD_OK)
            return status;
    }
    return KD_OK;
}

/* -- losses ------------------------------------------------------------------- */

static enum kd_status fail_loss(const struct kd_peers *p, const char *what)
{
    const uint64_t done = p->private->done;
    enum kd_status status =
        kd_fail(KD_EDATA,
                "epoch %llu, step %llu: %s is not a finite number: lower the learning "
                "rate (%g)",
                (unsigned long long)p->epoch, (unsigned long long)p->step + 1, what,
                p->recipe->base.schedule.lr);

    if (done > 0)
        status = kd_fail(status,
                         "%s; the last good checkpoint is %s/checkpoint.h5, of epoch "
                         "%llu",
                         kd_error(), p->private->directory, (unsigned long long)done);
    return status;
}

static enum kd_status loss_of(struct kd_peers *p, const char *name,
                              const struct kd_batch *b, const struct kd_loss *loss,
                              const float *logits, const float *target, float *gradient,
                              struct kd_loss_sums *sums)
{
    const bool mixes = kd_view_mixes(&p->private->views);
    const struct kd_targets targets = {.label = b->label,
                                       .partner = mixes ? b->partner_label : NULL,
                                       .ratio = mixes ? b->ratio : NULL,
                                       .soft = target};
    const enum kd_status status = kd_loss_batch(loss, b->size, p->sizes.classes, logits,
                                                &targets, gradient, sums);
    char what[64];

    if (status != KD_OK || isfinite(sums->total))
        return status;
    snprintf(what, sizeof what, "the loss of %s", name);
    return fail_loss(p, what);
}

enum kd_status kd_member_learn(struct kd_peers *p, struct kd_member *member,
                               const float *target, double factor)
{
    struct kd_loss loss = p->loss;

    if (!p->exchange)
        target = NULL;
    loss.soft *= target != NULL ? factor : 0;
    const enum kd_status status =
        loss_of(p, member->name, p->batch[member->index], &loss, member->z, target,
                member->gradient, &p->private->now.sums[member->index]);
    if (status == KD_OK)
        kd_tensor_set_gradient(member->logits, member->gradient);
    return status;
}

enum kd_status kd_peers_loss(struct kd_peers *p, const char *name,
                             const struct kd_loss *loss, const float *logits,
                             const float *target, float *gradient)
{
    struct kd_loss_sums sums = {0};
    const enum kd_status status =
        loss_of(p, name, p->batch[0], loss, logits, target, gradient, &sums);
    char note[40];

    snprintf(note, sizeof note, "%.24s_loss", name);
    if (status == KD_OK && sums.rows > 0)
        kd_peers_note(p, note, sums.total / (double)sums.rows);
    return status;
}

/* -- backward ----------------------------------------------------------------- */

enum kd_status kd_part_backward(struct kd_peers *p, struct kd_part *part)
{
    const enum kd_status status = kd_graph_backward(part->graph);
    char what[64];

    if (status != KD_OK) {
        kd_error_prefix("%s", part->name);
        return status;
    }
    if (part->num_rules == 0 || part->rule[0].clip == 0 ||
        isfinite(kd_graph_clip(part->graph, part->rule[0].clip)))
        return KD_OK;
    snprintf(what, sizeof what, "the norm of the gradients of %s", part->name);
    return fail_loss(p, what);
}

void kd_part_update(struct kd_peers *p, struct kd_part *part, size_t rule)
{
    const uint64_t step = (p->epoch - 1) * p->steps + p->step;

    kd_optimizer_step(part->optimizer[rule],
                      kd_schedule_rate(&part->rule[rule].schedule, step, p->steps,
                                       p->recipe->base.all_epochs));
}

enum kd_status kd_part_improve(struct kd_peers *p, struct kd_part *part)
{
    const enum kd_status status = kd_part_backward(p, part);

    if (status == KD_OK)
        kd_part_update(p, part, 0);
    return status;
}

/* -- targets ------------------------------------------------------------------ */

void kd_peers_soften(const struct kd_peers *p, const float *z, double temperature,
                     float *q)
{
    const size_t rows = p->shown->size, classes = p->sizes.classes;

#pragma omp parallel for
    for (size_t i = 0; i < rows; i++)
        (void)kd_softmax(z + i * classes, classes, temperature, q + i * classes);
}

/* sum += values, or sum = values where there is nothing yet. */
static void add(float *sum, const float *values, size_t n, bool first)
{
#pragma omp parallel for
    for (size_t i = 0; i < n; i++)
        sum[i] = first ? values[i] : sum[i] + values[i];
}

static void divide(float *sum, size_t n, size_t count)
{
    const float by = (float)count;

#pragma omp parallel for
    for (size_t i = 0; i < n; i++)
        sum[i] /= by;
}

void kd_team_mean_at(const struct kd_peers *p, const struct kd_team *team,
                     size_t except, double temperature, float *q)
{
    const size_t n = p->shown->size * p->sizes.classes;
    size_t count = 0;

    for (size_t k = 0; k < team->num_members; k++) {
        if (k == except)
            continue;
        kd_peers_soften(p, team->member[k].z, temperature, p->private->scratch);
        add(q, p->private->scratch, n, count++ == 0);
    }
    divide(q, n, count);
}

void kd_team_mean(const struct kd_peers *p, const struct kd_team *team, size_t except,
                  float *q)
{
    kd_team_mean_at(p, team, except, p->loss.temperature, q);
}

void kd_peers_mean(const struct kd_peers *p, const float *all, size_t count,
                   size_t except, float *q)
{
    const size_t n = p->shown->size * p->sizes.classes;
    size_t added = 0;

    for (size_t j = 0; j < count; j++)
        if (j != except)
            add(q, all + j * n, n, added++ == 0);
    divide(q, n, added);
}

enum kd_status kd_parts_mean(struct kd_peers *p, struct kd_part *const *still,
                             size_t count, float *q)
{
    const size_t n = p->shown->size * p->sizes.classes;

    for (size_t j = 0; j < count; j++) {
        const enum kd_status status = kd_part_predict(p, still[j], p->spare);
        if (status != KD_OK)
            return status;
        kd_peers_soften(p, p->spare, p->loss.temperature, p->spare);
        add(q, p->spare, n, j == 0);
    }
    divide(q, n, count);
    return KD_OK;
}

void kd_team_mean_logits(const struct kd_peers *p, const struct kd_team *team,
                         size_t except, float *z)
{
    const size_t n = p->shown->size * p->sizes.classes;
    size_t count = 0;

    for (size_t k = 0; k < team->num_members; k++)
        if (k != except)
            add(z, team->member[k].z, n, count++ == 0);
    divide(z, n, count);
}

/* -- figures ------------------------------------------------------------------ */

void kd_peers_note(struct kd_peers *p, const char *name, double value)
{
    struct kd_peers_epoch *e = &p->private->now;
    size_t i = 0;

    while (i < e->num_notes && strcmp(e->note[i].name, name) != 0)
        i++;
    assert(i < KD_MAX_NOTES);
    if (i == e->num_notes)
        snprintf(e->note[e->num_notes++].name, sizeof e->note[0].name, "%s", name);
    e->note[i].sum += value;
    e->note[i].count++;
}
