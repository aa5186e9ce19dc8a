/* SPDX-License-Identifier: MIT */
/* A run that is monitored: each step's rows are compared with their soft labels before
 * they are learned from, and what the recipe wants of it happens. */
#include "distill/monitor_internal.h"
#include "distill/run_internal.h"

#include "kd/file.h"
#include "kd/log.h"
#include "kd/loss.h"
#include "kd/memory.h"
#include "kd/thread.h"

#include <stdlib.h>
#include <string.h>

/* More than any share: the first epoch of a stage gains something. */
#define NO_SHARE 2

struct kd_watch {
    struct kd_record record;
    struct kd_record earlier;    /* of an earlier run, to weigh by; count 0: none */
    float *weights;              /* [record.count] of the epoch */
    float *weight;               /* [batch] */
    bool *dropped;               /* [batch] */
    struct kd_monitor_row *rows; /* [batch] */
    struct kd_monitor_sums sums; /* of the epoch */
    double least;                /* share behind, of the stage's epochs so far */
    uint64_t stale;              /* epochs in a row that have gained nothing */
};

static bool watches(const struct kd_run *run)
{
    return run->watch != NULL && run->labels != NULL &&
           run->stage->monitor != KD_MONITOR_NONE;
}

/* -- opening ------------------------------------------------------------------ */

/* Whether there is a stage with soft labels that the teacher watches. */
static bool any_watched(const struct kd_recipe *r)
{
    bool any = false;

    for (size_t i = 0; i < r->num_stages; i++)
        any |= r->stages[i].labels != NULL && r->stages[i].monitor != KD_MONITOR_NONE;
    return any;
}

/* What the run is called by depends on what it weighs by. */
static enum kd_status open_earlier(struct kd_run *run, const char *path)
{
    enum kd_status status = KD_EBUG;
    struct kd_watch *w = run->watch;
    const struct kd_record *mine = &w->record, *theirs = &w->earlier;
    struct kd_digest digest;
    char *text = NULL;

    KD_TRY(kd_record_load(path, &w->earlier));
    KD_TRY(kd_hash_file(path, &digest, NULL));
    text = kd_format("%smonitor-from: %s\n", run->text, digest.hex);
    KD_TRY(text != NULL ? KD_OK : KD_EMEMORY);
    free(run->text);
    run->text = text;
    if (!kd_digest_equal(&mine->dataset, &theirs->dataset))
        status = kd_fail(KD_EDATA,
                         "%s: is of another dataset (digest %.8s) than the one to "
                         "train on (%.8s)",
                         path, theirs->dataset.hex, mine->dataset.hex);
    else if (theirs->first >= mine->first + mine->count ||
             mine->first >= theirs->first + theirs->count)
        status = kd_fail(KD_EDATA, "%s: has none of the samples to train on", path);
    else
        status = KD_OK;
out:
    return status;
}

enum kd_status kd_watch_open(struct kd_run *run)
{
    enum kd_status status = KD_EBUG;
    const struct kd_dataset_facts *data = kd_dataset_facts(run->data);
    const size_t batch = (size_t)run->recipe->batch;
    struct kd_watch *w = NULL;

    if (!any_watched(run->recipe))
        return KD_OK;
    KD_TRY(KD_NEW(w, 1));
    run->watch = w;
    w->record.dataset = data->digest;
    w->record.first = data->first;
    w->record.count = (size_t)(data->end - data->first);
    w->least = NO_SHARE;
    KD_TRY(kd_record_init(&w->record));
    if (run->recipe->monitor_from != NULL)
        KD_TRY(open_earlier(run, run->recipe->monitor_from));
    KD_TRY(KD_NEW(w->weights, w->record.count));
    KD_TRY(KD_NEW(w->weight, batch));
    KD_TRY(KD_NEW(w->dropped, batch));
    KD_TRY(KD_NEW(w->rows, batch));
    status = KD_OK;
out:
    return status;
}

void kd_watch_close(struct kd_watch *watch)
{
    if (watch == NULL)
        return;
    kd_record_clear(&watch->record);
    kd_record_clear(&watch->earlier);
    free(watch->weights);
    free(watch->weight);
    free(watch->dropped);
    free(watch->rows);
    free(watch);
}

/* -- epochs -------------------------------------------------------------------- */

void kd_watch_begin_stage(struct kd_run *run)
{
    if (run->watch == NULL)
        return;
    run->watch->least = NO_SHARE;
    run->watch->stale = 0;
}

void kd_watch_begin_epoch(struct kd_run *run)
{
    struct kd_watch *w = run->watch;

    if (!watches(run))
        return;
    w->sums = (struct kd_monitor_sums){0};
    if (run->stage->monitor == KD_MONITOR_WEIGH)
        kd_record_weights(w->earlier.count > 0 ? &w->earlier : &w->record,
                          w->record.first, w->record.count, w->weights);
}

/* An epoch gains something while the student catches up, and is not past its teacher.
 */
static void judge(struct kd_run *run)
{
    struct kd_watch *w = run->watch;
    const double behind = (double)w->sums.behind / (double)w->sums.labelled;
    const bool gains = behind < w->least && w->sums.outgrown <= w->sums.behind;

    w->least = behind < w->least ? behind : w->least;
    w->stale = gains ? 0 : w->stale + 1;
    if (w->stale >= run->stage->monitor_patience)
        kd_log(KD_LOG_INFO,
               "%s: epoch %llu: nothing was gained from the teacher for %llu epochs: "
               "the stage ends",
               run->directory, (unsigned long long)run->epoch,
               (unsigned long long)w->stale);
}

void kd_watch_end_epoch(struct kd_run *run)
{
    if (watches(run) && run->stage->monitor == KD_MONITOR_STOP &&
        run->watch->sums.labelled > 0)
        judge(run);
}

bool kd_watch_stopped(const struct kd_run *run)
{
    const struct kd_stage *s;

    if (run->watch == NULL || run->epoch == 0)
        return false;
    s = &run->recipe->stages[kd_recipe_stage(run->recipe, run->epoch)];
    return s->monitor == KD_MONITOR_STOP && run->watch->stale >= s->monitor_patience;
}

void kd_watch_json(const struct kd_run *run, struct kd_json *json)
{
    if (watches(run))
        kd_monitor_sums_json(&run->watch->sums, json);
}

/* -- steps ----------------------------------------------------------------------- */

struct comparing {
    const struct kd_run *run;
    const struct kd_targets *targets;
};

/* Of a mixed sample the label with the larger share; -1 unless both are known. */
static int32_t choose_label(const struct kd_targets *t, size_t r)
{
    if (t->partner == NULL || t->ratio[r] >= 1)
        return t->label[r];
    if (t->label[r] < 0 || t->partner[r] < 0)
        return -1;
    return t->ratio[r] >= 0.5F ? t->label[r] : t->partner[r];
}

static enum kd_status compare_rows(void *context, size_t begin, size_t end)
{
    const struct comparing *c = context;
    const struct kd_run *run = c->run;
    const struct kd_targets *t = c->targets;
    const bool logits = run->loss.kind == KD_LOSS_MSE;
    const double temperature = logits ? 1 : run->loss.temperature;
    const size_t classes = run->classes;
    enum kd_status status = KD_EBUG;
    float *p = NULL;

    KD_TRY(KD_NEW(p, 2 * classes));
    for (size_t r = begin; r < end; r++) {
        const float *q = t->soft + r * classes;
        if (t->found != NULL && !t->found[r])
            continue;
        (void)kd_softmax(run->logits + r * classes, classes, temperature, p);
        if (logits) {
            (void)kd_softmax(q, classes, 1, p + classes);
            q = p + classes;
        }
        kd_monitor_compare(p, q, t->tail != NULL ? (double)t->tail[r] : 0, classes,
                           choose_label(t, r), &run->watch->rows[r]);
    }
    status = KD_OK;
out:
    free(p);
    return status;
}

/* Takes the rows down, and says what they are trained with. */
static void take_down(struct kd_run *run, const struct kd_feed *feed,
                      const struct kd_targets *targets)
{
    struct kd_watch *w = run->watch;

    for (size_t r = 0; r < feed->batch.size; r++) {
        const struct kd_monitor_row *row = &w->rows[r];
        const uint64_t id = feed->batch.id[r];
        w->weight[r] = w->weights[id - w->record.first]; /* of WEIGH alone */
        w->dropped[r] = false;
        if (targets->found != NULL && !targets->found[r])
            continue;
        w->dropped[r] = row->label >= 0 && !(row->flags & KD_MONITOR_TEACHER_RIGHT);
        kd_monitor_add(&w->sums, row);
        kd_record_add(&w->record, id, run->epoch + 1, row);
    }
}

enum kd_status kd_watch_step(struct kd_run *run, const struct kd_feed *feed,
                             struct kd_targets *targets)
{
    enum kd_status status = KD_EBUG;
    struct comparing comparing = {run, targets};
    /* What a row takes: four exponentials a class, roughly. */
    const size_t grain = kd_threads_grain(100 + 40 * (double)run->classes);

    if (!watches(run))
        return KD_OK;
    KD_TRY(kd_parallel(feed->batch.size, grain, compare_rows, &comparing));
    take_down(run, feed, targets);
    if (run->stage->monitor == KD_MONITOR_WEIGH)
        targets->weight = run->watch->weight;
    if (run->stage->monitor == KD_MONITOR_CORRECT_ONLY)
        targets->dropped = run->watch->dropped;
    status = KD_OK;
out:
    return status;
}

/* -- files ------------------------------------------------------------------------ */

enum kd_status kd_watch_checkpoint(const struct kd_run *run, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;

    if (run->watch == NULL)
        return KD_OK;
    KD_TRY(kd_h5_set_f64(file, "monitor_least", run->watch->least));
    KD_TRY(kd_h5_set_u64(file, "monitor_stale", run->watch->stale));
    KD_TRY(kd_record_write(&run->watch->record, file, "monitor"));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_watch_go_on(struct kd_run *run, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;

    if (run->watch == NULL)
        return KD_OK;
    KD_TRY(kd_h5_get_f64(file, "monitor_least", &run->watch->least));
    KD_TRY(kd_h5_get_u64(file, "monitor_stale", &run->watch->stale));
    KD_TRY(kd_record_read(&run->watch->record, file, "monitor"));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_watch_save(const struct kd_run *run)
{
    char *path = NULL, *history = NULL;
    enum kd_status status = KD_OK;

    if (run->watch == NULL)
        return KD_OK;
    path = kd_path_join(run->directory, "monitor.h5");
    history = kd_run_history(run);
    status = KD_EMEMORY;
    if (path != NULL && history != NULL)
        status = kd_record_save(&run->watch->record, path, history);
    free(path);
    free(history);
    return status;
}
