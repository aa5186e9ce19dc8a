/* SPDX-License-Identifier: MIT */
/* One step of training. */
#include "distill/run_internal.h"

#include "kd/loss.h"

#include <math.h>

static enum kd_status check_finite(const struct kd_run *run, uint64_t step,
                                   const char *what, double value)
{
    enum kd_status status;

    if (isfinite(value))
        return KD_OK;
    status = kd_fail(KD_EDATA,
                     "epoch %llu, step %llu: %s is not a finite number: lower the "
                     "learning rate (%g)",
                     (unsigned long long)run->epoch + 1, (unsigned long long)step + 1,
                     what, run->stage->schedule.lr);
    if (run->epoch > 0)
        status = kd_fail(status,
                         "%s; the last good checkpoint is %s/checkpoint.h5, of epoch "
                         "%llu",
                         kd_error(), run->directory, (unsigned long long)run->epoch);
    return status;
}

static enum kd_status clip(const struct kd_run *run, uint64_t step)
{
    if (run->stage->clip == 0)
        return KD_OK;
    return check_finite(run, step, "the gradient's norm",
                        kd_graph_clip(run->net->graph, run->stage->clip));
}

enum kd_status kd_run_step(struct kd_run *run, const struct kd_feed *feed,
                           uint64_t step, struct kd_epoch *epoch)
{
    const struct kd_batch *b = &feed->batch;
    const bool mixes = kd_view_mixes(&run->views);
    struct kd_targets targets = {.label = b->label,
                                 .partner = mixes ? b->partner_label : NULL,
                                 .ratio = mixes ? b->ratio : NULL,
                                 .soft = feed->soft.p,
                                 .tail = feed->soft.tail,
                                 .found = feed->soft.found};
    enum kd_status status = KD_EBUG;

    kd_tensor_set(run->net->input, b->input, b->size);
    KD_TRY(kd_graph_forward(run->net->graph));
    kd_tensor_get(run->net->logits, run->logits, b->size);
    KD_TRY(kd_watch_step(run, feed, &targets));
    KD_TRY(kd_loss_batch(&run->loss, b->size, run->net->sizes.classes, run->logits,
                         &targets, run->gradient, &epoch->sums));
    KD_TRY(check_finite(run, step, "the loss", epoch->sums.total));
    kd_tensor_set_gradient(run->net->logits, run->gradient);
    KD_TRY(kd_graph_backward(run->net->graph));
    KD_TRY(clip(run, step));
    epoch->lr =
        kd_schedule_rate(&run->stage->schedule, run->count.now * run->steps + step,
                         run->steps, run->count.all);
    kd_optimizer_step(run->optimizer, epoch->lr);
    kd_average_step(run);
    status = KD_OK;
out:
    return status;
}
