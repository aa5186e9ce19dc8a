/* SPDX-License-Identifier: MIT */
/* The loop of networks that learn together. */
#include "peers/engine_internal.h"

#include "kd/diary.h"
#include "kd/log.h"
#include "kd/memory.h"
#include "kd/place.h"
#include "kd/progress.h"

#include <stdlib.h>
#include <string.h>

/* -- the loop ------------------------------------------------------------------ */

static enum kd_status run_epoch(struct kd_peers *p)
{
    const uint64_t batch = p->recipe->base.batch;
    struct kd_peers_private *own = p->private;
    struct kd_progress progress;
    const double started = kd_seconds();
    enum kd_status status = KD_EBUG;

    kd_peers_begin_epoch(p);
    kd_progress_open(&progress, "training", "samples", p->steps * batch);
    for (uint64_t step = 0; step < p->steps; step++) {
        if (kd_interrupted()) {
            status = kd_fail_interrupted("training");
            goto out;
        }
        KD_TRY(kd_peers_begin_step(p, step));
        KD_TRY(p->recipe->chosen->step(p));
        kd_progress_set(&progress, (step + 1) * batch);
    }
    own->done++;
    own->now.seconds = kd_seconds() - started;
    status = KD_OK;
out:
    kd_progress_close(&progress);
    return status;
}

static enum kd_status run_epochs(struct kd_peers *p)
{
    enum kd_status status = KD_EBUG;

    while (p->private->done < p->recipe->base.all_epochs) {
        KD_TRY(run_epoch(p));
        KD_TRY(kd_peers_measure(p));
        KD_TRY(kd_peers_keep_best(p));
        KD_TRY(kd_peers_tell(p));
        KD_TRY(kd_peers_save(p));
    }
    status = KD_OK;
out:
    return status;
}

/* -- the run ------------------------------------------------------------------- */

/* Says what is to come, and leaves the teams as they are before the first step, or as
 * the checkpoint has them. */
static enum kd_status look_ahead(struct kd_peers *p)
{
    enum kd_status status = KD_EBUG;
    char *text = NULL;

    if (!kd_log_enabled(KD_LOG_INFO) || p->private->done == p->recipe->base.all_epochs)
        return KD_OK;
    KD_TRY(kd_peers_forecast(p, &text));
    kd_log(KD_LOG_INFO, "%s", text);
    KD_TRY(kd_peers_renew(p));
    KD_TRY(kd_peers_load(p));
    status = KD_OK;
out:
    free(text);
    return status;
}

static enum kd_status begin(struct kd_peers *p)
{
    struct kd_peers_private *own = p->private;
    const char *metrics = own->metrics != NULL ? own->metrics : "";
    enum kd_status status = KD_EBUG;

    KD_TRY(look_ahead(p));
    if (own->done == 0 && p->recipe->chosen->begin != NULL)
        KD_TRY(p->recipe->chosen->begin(p));
    KD_TRY(kd_diary_write(own->directory, "metrics.jsonl", metrics, own->metrics_size));
    KD_TRY(kd_diary_write(own->directory, "recipe.txt", own->text, strlen(own->text)));
    KD_TRY(kd_diary_note(own->directory, own->done > 0 ? "resume" : "start", own->done,
                         0));
    if (own->done > 0)
        kd_log(KD_LOG_INFO, "%s: goes on behind epoch %llu", own->directory,
               (unsigned long long)own->done);
    status = KD_OK;
out:
    return status;
}

/* Whether every member's file is there and whole. */
static bool is_complete(const struct kd_peers *p)
{
    bool complete = p->private->done == p->recipe->base.all_epochs;

    for (size_t k = 0; k < p->recipe->count && complete; k++) {
        char *path = kd_peers_path(p, &p->learning->member[k], "");
        struct kd_model there;
        complete = path != NULL && kd_model_open(path, &there) == KD_OK;
        free(path);
    }
    return complete;
}

static enum kd_status go_on(struct kd_peers *p)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(begin(p));
    KD_TRY(run_epochs(p));
    for (size_t k = 0; k < p->recipe->count; k++)
        KD_TRY(kd_peers_keep(p, &p->learning->member[k], ""));
    KD_TRY(kd_diary_note(p->private->directory, "done", p->private->done, 0));
    status = KD_OK;
out:
    return status;
}

static enum kd_status report_all(const struct kd_peers *p, kd_peers_report *report,
                                 void *context)
{
    enum kd_status status = KD_OK;

    for (size_t k = 0; k < p->recipe->count && status == KD_OK; k++) {
        char *path = kd_peers_path(p, &p->learning->member[k], "");
        status = path != NULL ? report(context, path) : KD_EMEMORY;
        free(path);
    }
    return status;
}

enum kd_status kd_peers_train(const struct kd_peers_recipe *recipe,
                              const char *directory, kd_peers_report *report,
                              void *context)
{
    struct kd_peers_private own = {.directory = directory};
    struct kd_peers p = {.recipe = recipe, .private = &own};
    struct kd_place place = {0};
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_place_open(&place, directory));
    KD_TRY(kd_peers_open(&p));
    KD_TRY(kd_peers_load(&p));
    if (!is_complete(&p)) /* a finished run is left as it is */
        KD_TRY(go_on(&p));
    KD_TRY(report_all(&p, report, context));
    status = KD_OK;
out:
    kd_peers_close(&p);
    kd_place_close(&place);
    return status;
}
