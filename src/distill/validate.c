/* SPDX-License-Identifier: MIT */
/* How good the network is on the test set, after each epoch. */
#include "distill/run_internal.h"

#include "kd/loss.h"
#include "kd/memory.h"

#include <math.h>
#include <stdlib.h>

/* Adds a batch's right answers and negative log-likelihoods; loss and accuracy come
 * out of the training loss with a hard weight alone. */
static enum kd_status measure_batch(struct kd_run *run, float *logits, float *unused,
                                    struct kd_loss_sums *sums)
{
    static const struct kd_view_spec clean = {0};
    static const struct kd_loss hard = {.hard = 1, .temperature = 1};
    struct kd_network *net = run->measured;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_batch_fill(&run->test_batch, run->test, &clean, &run->normalize));
    kd_tensor_set(net->input, run->test_batch.input, run->test_batch.size);
    KD_TRY(kd_graph_forward(net->graph));
    kd_tensor_get(net->logits, logits, run->test_batch.size);
    kd_loss_batch(&hard, run->test_batch.size, net->sizes.classes, logits,
                  run->test_batch.label, NULL, unused, sums);
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_run_validate(struct kd_run *run, struct kd_epoch *epoch)
{
    enum kd_status status = KD_EBUG;
    struct kd_loss_sums sums = {0};
    float *logits = NULL, *unused = NULL;
    const struct kd_dataset_facts *facts;

    if (run->test == NULL)
        return KD_OK;
    facts = kd_dataset_facts(run->test);
    KD_TRY(kd_graph_copy_parameters(run->measured->graph, run->net->graph));
    KD_TRY(KD_NEW(logits, run->test_batch.capacity * run->measured->sizes.classes));
    KD_TRY(KD_NEW(unused, run->test_batch.capacity * run->measured->sizes.classes));
    for (uint64_t id = facts->first; id < facts->end; id += run->test_batch.size) {
        const uint64_t left = facts->end - id;
        run->test_batch.size =
            left < run->test_batch.capacity ? (size_t)left : run->test_batch.capacity;
        for (size_t i = 0; i < run->test_batch.size; i++) {
            run->test_batch.id[i] = id + i;
            run->test_batch.view[i] = 0;
        }
        KD_TRY(measure_batch(run, logits, unused, &sums));
    }
    if (!isfinite(sums.hard)) {
        status = kd_fail(KD_EDATA,
                         "epoch %llu: the loss on the test set is not a finite number: "
                         "lower the learning rate (%g)",
                         (unsigned long long)run->epoch, run->recipe->schedule.lr);
        goto out;
    }
    if (sums.labelled > 0) {
        epoch->tested = sums.labelled;
        epoch->test_accuracy = (double)sums.right / (double)sums.labelled;
        epoch->test_nll = sums.hard / (double)sums.labelled;
    }
    status = KD_OK;
out:
    free(logits);
    free(unused);
    return status;
}
