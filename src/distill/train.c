/* SPDX-License-Identifier: MIT */
/* The training loop. */
#include "kd/train.h"

#include "distill/run_internal.h"

#include "kd/file.h"
#include "kd/log.h"
#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/random.h"
#include "kd/version.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -- the loop --------------------------------------------------------------- */

static enum kd_status fill_batch(struct kd_run *run, uint64_t epoch, uint64_t step)
{
    struct kd_batch *b = &run->batch;
    const uint64_t first = kd_dataset_facts(run->data)->first;
    const uint32_t view =
        run->labels != NULL && run->recipe->labels_view == KD_LABELS_SAME_VIEW
            ? kd_labels_view(run->labels, epoch)
            : (uint32_t)epoch;

    b->size = b->capacity;
    for (size_t i = 0; i < b->size; i++) {
        b->id[i] = first + run->order[step * b->size + i];
        b->view[i] = view;
    }
    return kd_batch_fill(b, run->data, &run->views, &run->normalize);
}

static enum kd_status take_step(struct kd_run *run, uint64_t epoch, uint64_t step,
                                struct kd_epoch *e)
{
    const struct kd_recipe *r = run->recipe;
    struct kd_batch *b = &run->batch;
    enum kd_status status = KD_EBUG;

    KD_TRY(fill_batch(run, epoch, step));
    if (run->labels != NULL)
        KD_TRY(kd_labels_read(run->labels, b->id, b->view, b->size, run->soft));
    kd_tensor_set(run->net->input, b->input, b->size);
    KD_TRY(kd_graph_forward(run->net->graph));
    kd_tensor_get(run->net->logits, run->logits, b->size);
    kd_loss_batch(&r->loss, b->size, run->net->sizes.classes, run->logits, b->label,
                  run->soft, run->gradient, &e->sums);
    if (!isfinite(e->sums.total)) {
        status =
            kd_fail(KD_EDATA,
                    "epoch %llu, step %llu: the loss is not a finite number: lower "
                    "the learning rate (%g); the last checkpoint is of epoch %llu",
                    (unsigned long long)epoch, (unsigned long long)step + 1,
                    r->schedule.lr, (unsigned long long)run->epoch);
        goto out;
    }
    kd_tensor_set_gradient(run->net->logits, run->gradient);
    KD_TRY(kd_graph_backward(run->net->graph));
    e->lr = kd_schedule_rate(&r->schedule, run->epoch * run->steps + step, run->steps,
                             r->epochs);
    kd_optimizer_step(run->optimizer, e->lr);
    status = KD_OK;
out:
    return status;
}

static enum kd_status run_epoch(struct kd_run *run, struct kd_epoch *e)
{
    const uint64_t epoch = run->epoch + 1;
    struct kd_progress progress;
    const double started = kd_seconds();
    enum kd_status status = KD_EBUG;

    kd_random_permutation(run->recipe->seed, epoch, run->order, (uint32_t)run->samples);
    kd_progress_open(&progress, "training", "samples",
                     run->steps * run->batch.capacity);
    for (uint64_t step = 0; step < run->steps; step++) {
        if (kd_interrupted()) {
            status = kd_fail_interrupted("training");
            goto out;
        }
        KD_TRY(take_step(run, epoch, step, e));
        kd_progress_set(&progress, (step + 1) * run->batch.capacity);
    }
    e->seconds = kd_seconds() - started;
    status = KD_OK;
out:
    kd_progress_close(&progress);
    return status;
}

static enum kd_status run_epochs(struct kd_run *run)
{
    enum kd_status status = KD_EBUG;

    while (run->epoch < run->recipe->epochs) {
        struct kd_epoch e = {0};
        KD_TRY(run_epoch(run, &e));
        run->epoch++;
        KD_TRY(kd_run_validate(run, &e));
        KD_TRY(kd_diary_epoch(run, &e));
        KD_TRY(kd_checkpoint_save(run));
    }
    status = KD_OK;
out:
    return status;
}

/* -- the end ---------------------------------------------------------------- */

static enum kd_status save(const struct kd_run *run, const char *path)
{
    const struct kd_dataset_facts *data = kd_dataset_facts(run->data);
    struct kd_model model = {
        .arch = run->net->arch,
        .sizes = run->net->sizes,
        .class_map_digest = data->class_map_digest,
        .num_normalize = run->normalize.count,
        .epoch = run->epoch,
    };
    char *history = kd_format("kd-train %s\n%s", kd_version(), run->text);
    enum kd_status status = KD_EMEMORY;

    if (run->labels != NULL)
        model.class_map_digest = kd_labels_identity(run->labels)->class_map_digest;
    memcpy(model.mean, run->normalize.mean, sizeof model.mean);
    memcpy(model.deviation, run->normalize.deviation, sizeof model.deviation);
    if (history != NULL)
        status = kd_model_save(path, &model, run->net->graph, history);
    free(history);
    return status;
}

static enum kd_status go_on(struct kd_run *run, const char *path)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_diary_begin(run));
    KD_TRY(kd_diary_event(run, run->epoch > 0 ? "resume" : "start", 0));
    if (run->epoch > 0)
        kd_log(KD_LOG_INFO, "%s: goes on behind epoch %llu", run->directory,
               (unsigned long long)run->epoch);
    KD_TRY(run_epochs(run));
    KD_TRY(save(run, path));
    KD_TRY(kd_diary_event(run, "done", 0));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_train(const struct kd_recipe *recipe, const char *directory,
                        char **model)
{
    struct kd_run run = {.recipe = recipe, .directory = directory};
    struct kd_lock lock = {.fd = -1};
    char *path = kd_path_join(directory, "model.h5");
    struct kd_model there;
    enum kd_status status = KD_EBUG;

    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_make_directory(directory));
    KD_TRY(kd_lock_open(&lock, directory));
    KD_TRY(kd_run_open(&run));
    KD_TRY(kd_checkpoint_load(&run));
    /* A finished run is left as it is. */
    if (run.epoch < recipe->epochs || kd_model_open(path, &there) != KD_OK)
        KD_TRY(go_on(&run, path));
    *model = path;
    path = NULL;
    status = KD_OK;
out:
    kd_run_close(&run);
    kd_lock_close(&lock);
    free(path);
    return status;
}
