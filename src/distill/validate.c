/* SPDX-License-Identifier: MIT */
/* How good the network is after each epoch: on the samples held out, on the test set.
 */
#include "distill/run_internal.h"

#include "kd/loss.h"
#include "kd/memory.h"

#include <math.h>
#include <stdlib.h>

/* The samples to measure on: `count` ids of a dataset from `first` on, or at the
 * positions `at` behind it. */
struct samples {
    const struct kd_dataset *data;
    const char *name;
    uint64_t first, count;
    const uint32_t *at; /* [count] or NULL */
};

/* Adds a batch's right answers and negative log-likelihoods; loss and accuracy come
 * out of the training loss with a hard weight alone. */
static enum kd_status measure_batch(struct kd_run *run, const struct samples *samples,
                                    struct kd_batch *b, float *logits, float *unused,
                                    struct kd_loss_sums *sums)
{
    static const struct kd_view_spec clean = {0};
    static const struct kd_loss hard = {.hard = 1, .temperature = 1};
    struct kd_network *net = run->measured;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_batch_fill(b, samples->data, &clean, &run->normalize));
    kd_tensor_set(net->input, b->input, b->size);
    KD_TRY(kd_graph_forward(net->graph));
    kd_tensor_get(net->logits, logits, b->size);
    KD_TRY(kd_loss_batch(&hard, b->size, net->sizes.classes, logits,
                         &(struct kd_targets){.label = b->label}, unused, sums));
    status = KD_OK;
out:
    return status;
}

static void name_samples(struct kd_batch *b, const struct samples *samples,
                         uint64_t from)
{
    const uint64_t left = samples->count - from;

    b->size = left < b->capacity ? (size_t)left : b->capacity;
    for (size_t i = 0; i < b->size; i++) {
        b->id[i] =
            samples->first + (samples->at != NULL ? samples->at[from + i] : from + i);
        b->view[i] = 0;
    }
}

/* Accuracy and mean negative log-likelihood (at temperature 1). */
static enum kd_status measure(struct kd_run *run, const struct samples *samples,
                              struct kd_measure *measure)
{
    enum kd_status status = KD_EBUG;
    const size_t capacity = kd_graph_batch(run->measured->graph);
    const size_t size = capacity * run->measured->sizes.classes;
    struct kd_batch b = {0};
    struct kd_loss_sums sums = {0};
    float *logits = NULL, *unused = NULL;

    KD_TRY(kd_batch_init(&b, samples->data, capacity));
    KD_TRY(KD_NEW(logits, size));
    KD_TRY(KD_NEW(unused, size));
    for (uint64_t at = 0; at < samples->count; at += b.size) {
        name_samples(&b, samples, at);
        KD_TRY(measure_batch(run, samples, &b, logits, unused, &sums));
    }
    if (!isfinite(sums.hard)) {
        status = kd_fail(KD_EDATA,
                         "epoch %llu: the loss on %s is not a finite number: lower the "
                         "learning rate (%g)",
                         (unsigned long long)run->epoch, samples->name,
                         run->stage->schedule.lr);
        goto out;
    }
    if (sums.labelled > 0)
        *measure = (struct kd_measure){sums.labelled,
                                       (double)sums.right / (double)sums.labelled,
                                       sums.hard / (double)sums.labelled};
    status = KD_OK;
out:
    kd_batch_clear(&b);
    free(logits);
    free(unused);
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
                       &(struct samples){run->data, "what is held out", facts->first,
                                         run->order.num_held, run->order.held},
                       &epoch->holdout));
    }
    if (run->test != NULL) {
        facts = kd_dataset_facts(run->test);
        KD_TRY(measure(run,
                       &(struct samples){run->test, "the test set", facts->first,
                                         facts->end - facts->first, NULL},
                       &epoch->test));
    }
    status = KD_OK;
out:
    return status;
}
