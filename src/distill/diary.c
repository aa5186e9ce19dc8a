/* SPDX-License-Identifier: MIT */
/* What a run writes down: metrics.jsonl for the numbers, run.jsonl for the times. */
#include "kd/diary.h"

#include "distill/run_internal.h"
#include "distill/tensorboard_internal.h"

#include "kd/file.h"
#include "kd/json.h"
#include "kd/log.h"
#include "kd/memory.h"
#include "kd/version.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum kd_status kd_diary_write(const char *directory, const char *name, const char *text,
                              size_t size)
{
    char *path = kd_path_join(directory, name);
    enum kd_status status;

    if (path == NULL)
        return KD_EMEMORY;
    status = kd_file_write(path, text, size);
    free(path);
    return status;
}

enum kd_status kd_diary_begin(const struct kd_run *run)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_diary_write(run->directory, "metrics.jsonl",
                          run->metrics != NULL ? run->metrics : "", run->metrics_size));
    if (run->recipe->tensorboard)
        KD_TRY(kd_tensorboard_begin(run->directory, run->metrics));
    KD_TRY(kd_diary_write(run->directory, "recipe.txt", run->text, strlen(run->text)));
    status = KD_OK;
out:
    return status;
}

static void write_metrics(struct kd_json *json, const struct kd_run *run,
                          const struct kd_epoch *e)
{
    const double rows = (double)e->sums.rows;
    const struct kd_stage *stage = run->stage;

    kd_json_begin(json, NULL, '{');
    kd_json_u64(json, "epoch", run->epoch);
    if (run->recipe->stage_list != NULL)
        kd_json_u64(json, "stage", (uint64_t)(stage - run->recipe->stages) + 1);
    kd_json_f64(json, "lr", e->lr);
    kd_json_f64(json, "loss", e->sums.total / rows);
    if (e->sums.labelled > 0) {
        kd_json_f64(json, "hard_loss", e->sums.hard / (double)e->sums.labelled);
        kd_json_f64(json, "train_accuracy",
                    (double)e->sums.right / (double)e->sums.labelled);
    }
    if (e->sums.softened > 0)
        kd_json_f64(json, "soft_loss", e->sums.soft / (double)e->sums.softened);
    if (run->labels != NULL && stage->ramp.kind != KD_RAMP_NONE)
        kd_json_f64(json, "soft_weight", run->loss.soft);
    if (run->labels != NULL && stage->anneal > 0)
        kd_json_f64(json, "scale", run->scale);
    if (stage->loss.missing != KD_MISSING_ERROR) {
        kd_json_u64(json, "rows", e->sums.rows);
        kd_json_u64(json, "soft_rows", e->sums.softened);
    }
    kd_watch_json(run, json);
    if (e->holdout.samples > 0) {
        kd_json_f64(json, "holdout_accuracy", e->holdout.accuracy);
        kd_json_f64(json, "holdout_nll", e->holdout.nll);
    }
    if (e->test.samples > 0) {
        kd_json_f64(json, "test_accuracy", e->test.accuracy);
        kd_json_f64(json, "test_nll", e->test.nll);
    }
    kd_json_end(json);
}

static void tell(const struct kd_run *run, const struct kd_epoch *e)
{
    char held[64] = "", tested[64] = "";

    if (e->holdout.samples > 0)
        snprintf(held, sizeof held, ", held out %.2f %%", 100 * e->holdout.accuracy);
    if (e->test.samples > 0)
        snprintf(tested, sizeof tested, ", test accuracy %.2f %%",
                 100 * e->test.accuracy);
    kd_log(KD_LOG_INFO, "epoch %llu of %llu: loss %.4f%s%s, %.1f s, %.0f samples/s",
           (unsigned long long)run->epoch, (unsigned long long)run->recipe->all_epochs,
           e->sums.total / (double)e->sums.rows, held, tested, e->seconds,
           (double)e->sums.rows / e->seconds);
}

enum kd_status kd_diary_add(const char *directory, struct kd_json *line, char **metrics,
                            size_t *size)
{
    enum kd_status status = KD_EBUG;
    const char *text = NULL;
    char *all = NULL;

    KD_TRY(kd_json_text(line, &text));
    all = kd_format("%s%s\n", *metrics != NULL ? *metrics : "", text);
    KD_TRY(all != NULL ? KD_OK : KD_EMEMORY);
    free(*metrics);
    *metrics = all;
    *size = strlen(all);
    KD_TRY(kd_diary_write(directory, "metrics.jsonl", *metrics, *size));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_diary_epoch(struct kd_run *run, const struct kd_epoch *epoch)
{
    enum kd_status status = KD_EBUG;
    struct kd_json *json = NULL;
    const char *line = NULL;

    KD_TRY(kd_json_new(&json));
    write_metrics(json, run, epoch);
    KD_TRY(kd_diary_add(run->directory, json, &run->metrics, &run->metrics_size));
    KD_TRY(kd_json_text(json, &line));
    if (run->recipe->tensorboard)
        KD_TRY(kd_tensorboard_add(run->directory, line));
    KD_TRY(kd_diary_event(run, "epoch", epoch->seconds));
    tell(run, epoch);
    status = KD_OK;
out:
    kd_json_free(json);
    return status;
}

static enum kd_status append(const char *path, struct kd_json *json)
{
    enum kd_status status;
    FILE *to = fopen(path, "a");

    if (to == NULL)
        return kd_fail_errno(KD_ECREATE, "%s: cannot open", path);
    status = kd_json_write(json, to);
    if (fclose(to) != 0 && status == KD_OK)
        status = kd_fail_errno(KD_EIO, "%s: cannot write", path);
    return status;
}

enum kd_status kd_diary_note(const char *directory, const char *event, uint64_t epoch,
                             double seconds)
{
    enum kd_status status = KD_EBUG;
    struct kd_json *json = NULL;
    char *path = kd_path_join(directory, "run.jsonl");

    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_json_new(&json));
    kd_json_begin(json, NULL, '{');
    kd_json_string(json, "event", event);
    kd_json_u64(json, "epoch", epoch);
    kd_json_f64(json, "seconds", seconds);
    kd_json_u64(json, "time", (uint64_t)time(NULL));
    kd_json_string(json, "version", kd_version());
    kd_json_end(json);
    KD_TRY(append(path, json));
    status = KD_OK;
out:
    kd_json_free(json);
    free(path);
    return status;
}

enum kd_status kd_diary_event(const struct kd_run *run, const char *event,
                              double seconds)
{
    return kd_diary_note(run->directory, event, run->epoch, seconds);
}
