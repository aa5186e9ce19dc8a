/* SPDX-License-Identifier: MIT */
/* The text of a recipe: what decides the bits of a run. */
#include "kd/recipe.h"

#include "kd/monitor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void write_optimizer(FILE *to, const struct kd_recipe *r)
{
    if (r->optimizer == KD_SGD)
        fprintf(to, "optimizer: sgd momentum %.17g nesterov %d", r->sgd.momentum,
                r->sgd.nesterov);
    else
        fprintf(to, "optimizer: %s betas %.17g %.17g epsilon %.17g",
                r->optimizer == KD_ADAM ? "adam" : "adamw", r->adam.beta1,
                r->adam.beta2, r->adam.epsilon);
    fprintf(to, " weight-decay %.17g%s clip %.17g ema %.17g\n", r->sgd.weight_decay,
            r->sgd.decay_weights_only ? " weights only" : "", r->clip, r->ema);
}

static void write_schedule(FILE *to, const char *stage, const struct kd_schedule *s)
{
    fprintf(to, "%sschedule: %s lr %.17g warmup %.17g", stage,
            kd_schedule_kinds[s->kind], s->lr, s->warmup);
    if (s->kind == KD_STEP || s->kind == KD_MULTISTEP)
        fprintf(to, " gamma %.17g", s->gamma);
    if (s->kind == KD_STEP)
        fprintf(to, " every %llu", (unsigned long long)s->every);
    for (size_t i = 0; i < s->num_milestones; i++)
        fprintf(to, " %llu", (unsigned long long)s->milestones[i]);
    fputc('\n', to);
}

static void write_footsteps(FILE *to, const struct kd_footsteps *f)
{
    if (f->every == 0 && f->count == 0)
        return;
    fputs("keep-epochs:", to);
    if (f->every > 0)
        fprintf(to, " every %llu", (unsigned long long)f->every);
    for (size_t i = 0; i < f->count; i++)
        fprintf(to, " %llu", (unsigned long long)f->epochs[i]);
    fputc('\n', to);
}

static void write_samples(FILE *to, const struct kd_recipe *r)
{
    const struct kd_holdout *h = &r->holdout;

    fprintf(to, "epochs: %llu\nbatch: %llu\nseed: %llu\n",
            (unsigned long long)r->all_epochs, (unsigned long long)r->batch,
            (unsigned long long)r->seed);
    if (r->shuffle == KD_SHUFFLE_BLOCK)
        fprintf(to, "shuffle: block %llu window %llu\n",
                (unsigned long long)r->shuffle_block,
                (unsigned long long)r->shuffle_window);
    else
        fprintf(to, "shuffle: full\n");
    if (r->hold_out == NULL)
        fprintf(to, "holdout: none");
    else if (h->share > 0)
        fprintf(to, "holdout: %.17g", h->share);
    else
        fprintf(to, "holdout: ids %llu to %llu", (unsigned long long)h->first,
                (unsigned long long)h->end - 1);
    fprintf(to, " select %s patience %llu\n",
            r->select == KD_SELECT_TEST ? "test" : "holdout",
            (unsigned long long)r->patience);
    write_footsteps(to, &r->footsteps);
}

static void write_labels(FILE *to, const char *stage, const struct kd_stage *s,
                         const char *labels)
{
    fprintf(to, "%slabels: %s", stage, labels);
    if (s->labels != NULL && strcmp(s->labels, KD_LABELS_VIRTUAL) == 0)
        fprintf(to, " correct %.17g temperature %.17g %s", s->teacher.correct,
                s->teacher.temperature, kd_soften_names[s->teacher.soften]);
    fprintf(to, "\n%slabels-view: %s tail %s missing %s\n", stage,
            s->labels_view == KD_LABELS_CLEAN_VIEW ? "clean" : "same",
            kd_tail_names[s->tail], kd_missing_names[s->loss.missing]);
}

static void write_monitor(FILE *to, const char *stage, const struct kd_stage *s)
{
    if (s->monitor == KD_MONITOR_NONE || s->labels == NULL)
        return;
    fprintf(to, "%smonitor: %s", stage, kd_monitor_uses[s->monitor]);
    if (s->monitor == KD_MONITOR_STOP)
        fprintf(to, " patience %llu", (unsigned long long)s->monitor_patience);
    fputc('\n', to);
}

static void write_loss(FILE *to, const char *stage, const struct kd_stage *s)
{
    const struct kd_loss *l = &s->loss;

    fprintf(to, "%sloss: hard %.17g soft %.17g temperature %.17g %s %s %s%s", stage,
            l->hard, l->soft, l->temperature, kd_loss_kinds[l->kind],
            kd_directions[l->direction], kd_reductions[l->reduction],
            l->t_squared ? " t-squared" : "");
    fprintf(to, " smoothing %.17g", l->smoothing);
    if (s->scale != 1 || s->anneal > 0)
        fprintf(to, " scale %.17g anneal %llu", s->scale,
                (unsigned long long)s->anneal);
    if (s->ramp.kind != KD_RAMP_NONE)
        fprintf(to, " ramp %s %llu", kd_ramp_kinds[s->ramp.kind],
                (unsigned long long)s->ramp.epochs);
    fputc('\n', to);
    write_monitor(to, stage, s);
}

static void write_stages(FILE *to, const struct kd_recipe *r, const char *const *labels)
{
    fprintf(to, "schedule-over: %s\n", r->over == KD_OVER_RUN ? "run" : "stage");
    for (size_t i = 0; i < r->num_stages; i++) {
        const struct kd_stage *s = &r->stages[i];
        char stage[32];
        snprintf(stage, sizeof stage, "stage %zu ", i + 1);
        fprintf(to, "%sepochs: %llu optimizer %s%s\n", stage,
                (unsigned long long)s->epochs, s->reset ? "reset" : "keep",
                s->from_best ? " start best" : "");
        if (s->clip != r->clip)
            fprintf(to, "%sclip: %.17g\n", stage, s->clip);
        write_labels(to, stage, s, labels[i]);
        write_schedule(to, stage, &s->schedule);
        write_loss(to, stage, s);
    }
}

char *kd_recipe_text(const struct kd_recipe *r, const char *data, const char *test,
                     const char *const *labels)
{
    const bool staged = r->stage_list != NULL;
    char *text = NULL, arch[256];
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);

    if (to == NULL)
        goto fail;
    kd_arch_text(&r->arch, arch);
    fprintf(to, "network: %s\ndata: %s\ntest: %s\n", arch, data, test);
    if (!staged)
        write_labels(to, "", &r->stages[0], labels[0]);
    fprintf(to, "augment: %s\n", r->views);
    write_samples(to, r);
    write_optimizer(to, r);
    if (staged) {
        write_stages(to, r, labels);
    } else {
        write_schedule(to, "", &r->stages[0].schedule);
        write_loss(to, "", &r->stages[0]);
    }
    if (fclose(to) == 0)
        return text;
    free(text);
fail:
    (void)kd_fail(KD_EMEMORY, "out of memory");
    return NULL;
}
