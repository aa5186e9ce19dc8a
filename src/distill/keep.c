/* SPDX-License-Identifier: MIT */
/* The networks that a run keeps: the last one, the best, the best of a stage that the
 * next one begins from, and a teacher's footsteps. */
#include "distill/run_internal.h"

#include "kd/file.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

enum kd_status kd_keep_network(struct kd_run *run, const char *name)
{
    struct kd_model model = {
        .arch = run->net->arch,
        .sizes = run->net->sizes,
        .class_map_digest = run->class_map,
        .num_normalize = run->normalize.count,
        .epoch = run->epoch,
    };
    char *history = kd_run_history(run);
    char *path = kd_path_join(run->directory, name);
    enum kd_status status = KD_EMEMORY;

    memcpy(model.mean, run->normalize.mean, sizeof model.mean);
    memcpy(model.deviation, run->normalize.deviation, sizeof model.deviation);
    kd_average_swap(run);
    if (history != NULL && path != NULL)
        status = kd_model_save(path, &model, run->net->graph, history);
    kd_average_swap(run);
    free(history);
    free(path);
    return status;
}

/* -- the best ----------------------------------------------------------------- */

/* Whether the epoch is better than the best before it, which it then takes the place
 * of. */
static bool is_better(struct kd_judgement *best, const struct kd_measure *m,
                      uint64_t epoch)
{
    if (best->epoch > 0 && (m->accuracy < best->accuracy ||
                            (m->accuracy == best->accuracy && m->nll >= best->nll)))
        return false;
    *best = (struct kd_judgement){epoch, m->accuracy, m->nll};
    return true;
}

/* "stage-2.h5": the best of a stage, by its index. */
static void name_stage(char name[32], size_t index)
{
    snprintf(name, 32, "stage-%zu.h5", index + 1);
}

static enum kd_status keep_best(struct kd_run *run, const struct kd_epoch *e)
{
    const struct kd_recipe *r = run->recipe;
    const struct kd_measure *m = r->select == KD_SELECT_TEST ? &e->test : &e->holdout;
    const size_t next = kd_recipe_stage(r, run->epoch) + 1;
    enum kd_status status = KD_EBUG;
    char name[32];

    if (m->samples == 0)
        return KD_OK;
    if (is_better(&run->best, m, run->epoch))
        KD_TRY(kd_keep_network(run, "best.h5"));
    if (next < r->num_stages && r->stages[next].from_best &&
        is_better(&run->stage_best, m, run->epoch)) {
        name_stage(name, next - 1);
        KD_TRY(kd_keep_network(run, name));
    }
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_keep_start(struct kd_run *run, size_t index)
{
    enum kd_status status = KD_EBUG;
    struct kd_model model;
    char name[32], *path = NULL;

    name_stage(name, index - 1);
    path = kd_path_join(run->directory, name);
    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    if (run->stage_best.epoch == 0) {
        status = kd_fail(KD_EDATA,
                         "stage %zu: there is no best epoch of the stage before to "
                         "begin from: none of the samples to judge by has a label",
                         index + 1);
        goto out;
    }
    KD_TRY(kd_model_open(path, &model));
    if (model.epoch != run->stage_best.epoch) {
        status = kd_fail(KD_EDATA,
                         "%s: is of epoch %llu, the best of its stage was %llu: it is "
                         "not what this run has left there",
                         path, (unsigned long long)model.epoch,
                         (unsigned long long)run->stage_best.epoch);
        goto out;
    }
    KD_TRY(kd_model_load(path, run->net->graph));
    kd_average_restart(run);
    status = KD_OK;
out:
    free(path);
    return status;
}

/* -- the epoch's --------------------------------------------------------------- */

static bool is_footstep(const struct kd_footsteps *f, uint64_t epoch)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->epochs[i] == epoch)
            return true;
    return f->every > 0 && epoch % f->every == 0;
}

enum kd_status kd_keep_epoch(struct kd_run *run, const struct kd_epoch *e)
{
    enum kd_status status = KD_EBUG;
    char name[32];

    KD_TRY(keep_best(run, e));
    if (is_footstep(&run->recipe->footsteps, run->epoch)) {
        KD_TRY(kd_checkpoint_check(run));
        snprintf(name, sizeof name, "epoch-%03llu.h5", (unsigned long long)run->epoch);
        KD_TRY(kd_keep_network(run, name));
    }
    status = KD_OK;
out:
    return status;
}
