/* SPDX-License-Identifier: MIT */
/* What a run writes down of an epoch. */
#include "kd/diary.h"

#include "peers/engine_internal.h"

#include "kd/log.h"

#include <stdio.h>
#include <stdlib.h>

static void write_measures(struct kd_json *json, const struct kd_peers_epoch *e,
                           size_t index)
{
    const struct kd_peers_measure *held = &e->holdout[index], *test = &e->test[index];

    if (held->samples > 0) {
        kd_json_f64(json, "holdout_accuracy", held->accuracy);
        kd_json_f64(json, "holdout_nll", held->nll);
    }
    if (test->samples > 0) {
        kd_json_f64(json, "test_accuracy", test->accuracy);
        kd_json_f64(json, "test_nll", test->nll);
    }
}

static void write_member(struct kd_json *json, const struct kd_peers *p, size_t k)
{
    const struct kd_peers_epoch *e = &p->private->now;
    const struct kd_loss_sums *s = &e->sums[k];

    kd_json_begin(json, p->recipe->name[k], '{');
    if (s->rows > 0)
        kd_json_f64(json, "loss", s->total / (double)s->rows);
    if (s->labelled > 0) {
        kd_json_f64(json, "hard_loss", s->hard / (double)s->labelled);
        kd_json_f64(json, "train_accuracy", (double)s->right / (double)s->labelled);
    }
    if (s->softened > 0)
        kd_json_f64(json, "soft_loss", s->soft / (double)s->softened);
    write_measures(json, e, k);
    kd_json_end(json);
}

static double last_rate(const struct kd_peers *p)
{
    const struct kd_recipe *r = &p->recipe->base;

    return kd_schedule_rate(&r->schedule, p->private->done * p->steps - 1, p->steps,
                            r->all_epochs);
}

static void write_epoch(struct kd_json *json, const struct kd_peers *p)
{
    const struct kd_peers_epoch *e = &p->private->now;
    const struct kd_method *m = p->recipe->chosen;
    const size_t count = p->recipe->count;

    kd_json_begin(json, NULL, '{');
    kd_json_u64(json, "epoch", p->private->done);
    kd_json_f64(json, "lr", last_rate(p));
    if (p->exchange)
        kd_json_f64(json, "soft_weight", p->loss.soft);
    for (size_t k = 0; k < count; k++)
        write_member(json, p, k);
    if (p->measuring != NULL) {
        kd_json_begin(json, "ensemble", '{');
        write_measures(json, e, count);
        kd_json_end(json);
    }
    if (p->measuring != NULL && m->ensemble != NULL && p->exchange) {
        kd_json_begin(json, m->ensemble_name, '{');
        write_measures(json, e, count + 1);
        kd_json_end(json);
    }
    for (size_t i = 0; i < e->num_notes; i++)
        kd_json_f64(json, e->note[i].name, e->note[i].sum / (double)e->note[i].count);
    kd_json_end(json);
}

/* " peer1 51.20 %, peer2 50.90 %, ensemble 53.44 %" of what is measured, the test set
 * before what is held out; else the losses. */
static void tell(const struct kd_peers *p)
{
    const struct kd_peers_epoch *e = &p->private->now;
    const struct kd_peers_measure *m = e->test[0].samples > 0 ? e->test : e->holdout;
    const size_t count = p->recipe->count;
    const bool measured = m[0].samples > 0;
    const double samples = (double)(p->steps * p->recipe->base.batch);
    char text[512];
    int at = 0;

    for (size_t k = 0; k < count + (measured ? 1 : 0); k++) {
        const struct kd_loss_sums *s = &e->sums[k < count ? k : 0];
        const char *name = k < count ? p->recipe->name[k] : "ensemble";
        at +=
            snprintf(text + at, sizeof text - (size_t)at,
                     measured ? "%s %s %.2f %%" : "%s %s loss %.4f", k > 0 ? "," : "",
                     name, measured ? 100 * m[k].accuracy : s->total / (double)s->rows);
    }
    kd_log(KD_LOG_INFO, "epoch %llu of %llu:%s%s, %.1f s, %.0f samples/s",
           (unsigned long long)p->private->done,
           (unsigned long long)p->recipe->base.all_epochs, text,
           !measured      ? ""
           : m == e->test ? " of the test set"
                          : " of what is held out",
           e->seconds, samples / e->seconds);
}

enum kd_status kd_peers_tell(struct kd_peers *p)
{
    struct kd_peers_private *own = p->private;
    enum kd_status status = KD_EBUG;
    struct kd_json *json = NULL;

    KD_TRY(kd_json_new(&json));
    write_epoch(json, p);
    KD_TRY(kd_diary_add(own->directory, json, &own->metrics, &own->metrics_size));
    KD_TRY(kd_diary_note(own->directory, "epoch", own->done, own->now.seconds));
    tell(p);
    status = KD_OK;
out:
    kd_json_free(json);
    return status;
}
