/* SPDX-License-Identifier: MIT */
/* How good members and ensembles are after each epoch. */
#include "peers/engine_internal.h"

#include "kd/memory.h"
#include "kd/samples.h"

#include <math.h>
#include <stdlib.h>

/* A set of samples, and what is known of it so far. */
struct measuring {
    struct kd_peers *p;
    float *logits, *unused; /* [batch][classes] */
    struct kd_loss_sums sums[KD_MAX_MEASURED];
};

static enum kd_status measure_logits(struct measuring *m, const float *logits,
                                     size_t index)
{
    static const struct kd_loss hard = {.hard = 1, .temperature = 1};
    const struct kd_batch *b = m->p->shown;

    return kd_loss_batch(&hard, b->size, m->p->sizes.classes, logits,
                         &(struct kd_targets){.label = b->label}, m->unused,
                         &m->sums[index]);
}

/* Logits of the mean probabilities. */
static void mean_logits(struct measuring *m)
{
    const size_t n = m->p->shown->size * m->p->sizes.classes;

    kd_team_mean_at(m->p, m->p->measuring, m->p->recipe->count, 1, m->logits);
    for (size_t i = 0; i < n; i++)
        m->logits[i] = logf(fmaxf(m->logits[i], 1e-37F));
}

static enum kd_status measure_batch(void *context, const struct kd_batch *batch)
{
    struct measuring *m = context;
    struct kd_peers *p = m->p;
    const struct kd_method *method = p->recipe->chosen;
    const size_t count = p->recipe->count;
    enum kd_status status = KD_EBUG;

    p->batch[0] = batch;
    KD_TRY(kd_team_show(p, p->measuring));
    for (size_t k = 0; k < count; k++)
        KD_TRY(measure_logits(m, p->measuring->member[k].z, k));
    mean_logits(m);
    KD_TRY(measure_logits(m, m->logits, count));
    if (method->ensemble != NULL && p->exchange) {
        KD_TRY(method->ensemble(p, p->measuring, m->logits));
        KD_TRY(measure_logits(m, m->logits, count + 1));
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status measure(struct kd_peers *p, const struct kd_samples *samples,
                              const char *name, struct kd_peers_measure *measures)
{
    enum kd_status status = KD_EBUG;
    const size_t size = p->measuring->batch * p->sizes.classes;
    struct measuring m = {.p = p};

    KD_TRY(KD_NEW(m.logits, size));
    KD_TRY(KD_NEW(m.unused, size));
    KD_TRY(kd_samples_each(samples, &p->private->normalize, p->measuring->batch,
                           measure_batch, &m));
    for (size_t k = 0; k < KD_MAX_MEASURED; k++) {
        const struct kd_loss_sums *s = &m.sums[k];
        if (!isfinite(s->hard)) {
            status = kd_fail(KD_EDATA,
                             "epoch %llu: the loss of %s on %s is not a finite number: "
                             "lower the learning rate (%g)",
                             (unsigned long long)p->epoch,
                             k < p->recipe->count ? p->recipe->name[k] : "the ensemble",
                             name, p->recipe->base.schedule.lr);
            goto out;
        }
        if (s->labelled > 0)
            measures[k] = (struct kd_peers_measure){
                s->labelled, (double)s->right / (double)s->labelled,
                s->hard / (double)s->labelled};
    }
    status = KD_OK;
out:
    free(m.logits);
    free(m.unused);
    return status;
}

enum kd_status kd_peers_measure(struct kd_peers *p)
{
    struct kd_peers_private *own = p->private;
    const struct kd_order *order = &own->order[0];
    const struct kd_dataset_facts *facts = kd_dataset_facts(own->data);
    enum kd_status status = KD_EBUG;

    if (p->measuring == NULL)
        return KD_OK;
    KD_TRY(kd_team_refresh(p));
    if (order->num_held > 0)
        KD_TRY(measure(
            p,
            &(struct kd_samples){own->data, facts->first, order->num_held, order->held},
            "what is held out", own->now.holdout));
    if (own->test != NULL) {
        facts = kd_dataset_facts(own->test);
        KD_TRY(measure(p,
                       &(struct kd_samples){own->test, facts->first,
                                            facts->end - facts->first, NULL},
                       "the test set", own->now.test));
    }
    status = KD_OK;
out:
    p->batch[0] = p->shown = NULL; /* what was measured is gone */
    return status;
}
