/* SPDX-License-Identifier: MIT */
/* How good the network is after each epoch: on the samples held out, on the test set.
 */
#include "distill/run_internal.h"

#include "kd/loss.h"
#include "kd/memory.h"
#include "kd/samples.h"

#include <math.h>
#include <stdlib.h>

/* A set of samples, and what is known of it so far. */
struct measuring {
    struct kd_run *run;
    float *logits, *unused; /* [batch][classes] */
    struct kd_loss_sums sums;
};

/* Adds a batch's right answers and negative log-likelihoods; loss and accuracy come
 * out of the training loss with a hard weight alone. */
static enum kd_status measure_batch(void *context, const struct kd_batch *b)
{
    static const struct kd_loss hard = {.hard = 1, .temperature = 1};
    struct measuring *m = context;
    struct kd_network *net = m->run->measured;
    enum kd_status status = KD_EBUG;

    kd_tensor_set(net->input, b->input, b->size);
    KD_TRY(kd_graph_forward(net->graph));
    kd_tensor_get(net->logits, m->logits, b->size);
    KD_TRY(kd_loss_batch(&hard, b->size, net->sizes.classes, m->logits,
                         &(struct kd_targets){.label = b->label}, m->unused, &m->sums));
    status = KD_OK;
out:
    return status;
}

/* Accuracy and mean negative log-likelihood (at temperature 1). */
static enum kd_status measure(struct kd_run *run, const struct kd_samples *samples,
                              const char *name, struct kd_measure *measure)
{
    enum kd_status status = KD_EBUG;
    const size_t capacity = kd_graph_batch(run->measured->graph);
    const size_t size = capacity * run->measured->sizes.classes;
    struct measuring m = {.run = run};

    KD_TRY(KD_NEW(m.logits, size));
    KD_TRY(KD_NEW(m.unused, size));
    KD_TRY(kd_samples_each(samples, &run->normalize, capacity, measure_batch, &m));
    if (!isfinite(m.sums.hard)) {
        status = kd_fail(KD_EDATA,
                         "epoch %llu: the loss on %s is not a finite number: lower the "
                         "learning rate (%g)",
                         (unsigned long long)run->epoch, name, run->stage->schedule.lr);
        goto out;
    }
    if (m.sums.labelled > 0)
        *measure = (struct kd_measure){m.sums.labelled,
                                       (double)m.sums.right / (double)m.sums.labelled,
                                       m.sums.hard / (double)m.sums.labelled};
    status = KD_OK;
out:
    free(m.logits);
    free(m.unused);
    return status;
}

enum kd_status kd_run_validate(struct kd_run *run, struct kd_epoch *epoch)
{
    enum kd_status status = KD_EBUG;
    const struct kd_dataset_facts *facts;

    if (run->measured == NULL)
        return KD_OK;
    kd_average_swap(run);
    status = kd_graph_copy_parameters(run->measured->graph, run->net->graph);
    kd_average_swap(run);
    KD_TRY(status);
    if (run->order.num_held > 0) {
        facts = kd_dataset_facts(run->data);
        KD_TRY(measure(run,
                       &(struct kd_samples){run->data, facts->first,
                                            run->order.num_held, run->order.held},
                       "what is held out", &epoch->holdout));
    }
    if (run->test != NULL) {
        facts = kd_dataset_facts(run->test);
        KD_TRY(measure(run,
                       &(struct kd_samples){run->test, facts->first,
                                            facts->end - facts->first, NULL},
                       "the test set", &epoch->test));
    }
    status = KD_OK;
out:
    return status;
}
