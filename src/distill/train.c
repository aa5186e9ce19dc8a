/* SPDX-License-Identifier: MIT */
/* The training loop. */
#include "kd/train.h"

#include "distill/run_internal.h"

#include "kd/file.h"
#include "kd/log.h"
#include "kd/memory.h"
#include "kd/place.h"
#include "kd/progress.h"

#include <stdlib.h>

/* -- the loop --------------------------------------------------------------- */

static enum kd_status run_epoch(struct kd_run *run, struct kd_epoch *e)
{
    const uint64_t epoch = run->epoch + 1;
    struct kd_progress progress;
    const double started = kd_seconds();
    enum kd_status status = KD_EBUG;
    void *feed = NULL;

    kd_order_draw(&run->order, epoch);
    kd_loader_begin(run->loader, epoch, run->steps);
    kd_progress_open(&progress, "training", "samples", run->steps * run->recipe->batch);
    for (uint64_t step = 0; step < run->steps; step++) {
        if (kd_interrupted()) {
            status = kd_fail_interrupted("training");
            goto out;
        }
        KD_TRY(kd_loader_next(run->loader, &feed));
        KD_TRY(kd_run_step(run, feed, step, e));
        kd_progress_set(&progress, (step + 1) * run->recipe->batch);
    }
    e->seconds = kd_seconds() - started;
    status = KD_OK;
    if (e->sums.rows == 0)
        status = kd_fail(KD_EDATA,
                         "epoch %llu: %s has soft labels of none of its "
                         "samples: nothing was learned",
                         (unsigned long long)epoch, run->stage->labels);
out:
    kd_progress_close(&progress);
    return status;
}

static enum kd_status run_epochs(struct kd_run *run)
{
    enum kd_status status = KD_EBUG;

    while (!kd_run_finished(run)) {
        struct kd_epoch e = {0};
        KD_TRY(kd_stages_begin_epoch(run));
        KD_TRY(run_epoch(run, &e));
        run->epoch++;
        kd_watch_end_epoch(run);
        KD_TRY(kd_run_validate(run, &e));
        KD_TRY(kd_keep_epoch(run, &e));
        KD_TRY(kd_diary_epoch(run, &e));
        KD_TRY(kd_checkpoint_save(run));
    }
    if (run->epoch < run->recipe->all_epochs && !kd_watch_stopped(run))
        kd_log(KD_LOG_INFO,
               "%s: stopped early: no epoch since %llu was better than its %.2f %%",
               run->directory, (unsigned long long)run->best.epoch,
               100 * run->best.accuracy);
    status = KD_OK;
out:
    return status;
}

/* -- the run ---------------------------------------------------------------- */

static enum kd_status go_on(struct kd_run *run)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_diary_begin(run));
    KD_TRY(kd_diary_event(run, run->epoch > 0 ? "resume" : "start", 0));
    if (run->epoch > 0)
        kd_log(KD_LOG_INFO, "%s: goes on behind epoch %llu", run->directory,
               (unsigned long long)run->epoch);
    KD_TRY(run_epochs(run));
    KD_TRY(kd_watch_save(run));
    KD_TRY(kd_keep_network(run, "model.h5"));
    KD_TRY(kd_diary_event(run, "done", 0));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_train(const struct kd_recipe *recipe, const char *directory,
                        char **model)
{
    struct kd_run run = {.recipe = recipe, .directory = directory};
    struct kd_place place = {0};
    char *path = kd_path_join(directory, "model.h5");
    struct kd_model there;
    enum kd_status status = KD_EBUG;

    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_place_open(&place, directory));
    KD_TRY(kd_run_open(&run));
    KD_TRY(kd_checkpoint_load(&run));
    /* A finished run is left as it is. */
    if (!kd_run_finished(&run) || kd_model_open(path, &there) != KD_OK)
        KD_TRY(go_on(&run));
    *model = path;
    path = NULL;
    status = KD_OK;
out:
    kd_run_close(&run);
    kd_place_close(&place);
    free(path);
    return status;
}
