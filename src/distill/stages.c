/* SPDX-License-Identifier: MIT */
/* The stages of a run: their soft labels and views, checked before the first step,
 * opened when they begin; and what an epoch of a stage is trained with. */
#include "distill/run_internal.h"

#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

/* -- views ------------------------------------------------------------------ */

/* The student sees what the teacher saw. */
static enum kd_status check_cached_views(const struct kd_run *run)
{
    const struct kd_identity *id = kd_labels_identity(run->labels);
    char text[64];

    kd_view_text(&run->views, text);
    if (strcmp(text, id->augment) == 0)
        return KD_OK;
    return kd_fail(KD_EUSAGE,
                   "%s: its views are '%s', the recipe's augmentation is '%s': the "
                   "student would not see the teacher's pixels; leave augment out, "
                   "dump again, or %sset labels-view: clean",
                   run->stage->labels, id->augment, text,
                   id->first_view == 0 ? "" : "dump it with --clean and ");
}

static enum kd_status choose_views(struct kd_run *run)
{
    enum kd_status status = KD_EBUG;
    const struct kd_recipe *r = run->recipe;
    const struct kd_identity *id =
        run->labels != NULL ? kd_labels_identity(run->labels) : NULL;
    const bool cached = id != NULL && run->stage->labels_view == KD_LABELS_SAME_VIEW;
    const char *augment = r->augment;

    if (augment == NULL)
        augment = cached ? id->augment : "none";
    KD_TRY(kd_view_parse(augment, cached ? id->seed : r->seed, &run->views));
    KD_TRY(
        kd_order_settle_views(&run->order, kd_dataset_facts(run->data), &run->views));
    if (cached)
        KD_TRY(check_cached_views(run));
    status = KD_OK;
out:
    return status;
}

/* -- soft labels --------------------------------------------------------------- */

static enum kd_status open_labels(const struct kd_run *run, const struct kd_stage *s,
                                  struct kd_labels **labels)
{
    const struct kd_labels_want want = {
        .data = kd_dataset_facts(run->data),
        .temperature = s->loss.temperature,
        .tail = (enum kd_tail)s->tail,
        .missing = (enum kd_missing)s->loss.missing,
        .unverified = !run->recipe->verify,
        .logits = s->loss.kind == KD_LOSS_MSE,
        .clean_view = s->labels_view == KD_LABELS_CLEAN_VIEW,
        .classes = run->classes,
        .merge = kd_stage_merges(s) ? &s->merge : NULL,
    };

    *labels = NULL;
    if (s->labels == NULL)
        return KD_OK;
    if (strcmp(s->labels, KD_LABELS_VIRTUAL) == 0)
        return kd_labels_open_virtual(&s->teacher, &want, labels);
    return kd_labels_open(s->labels, &want, labels);
}

/* Of no soft labels too, on the heap. */
static enum kd_status describe_labels(const struct kd_stage *s,
                                      const struct kd_labels *labels, char **text)
{
    enum kd_status status = KD_EBUG;
    char *caches = NULL;

    if (labels != NULL)
        KD_TRY(kd_labels_describe(labels, &caches));
    if (labels != NULL && kd_labels_count(labels) > 1)
        *text =
            kd_format("%s %s", caches,
                      s->labels_order == KD_LABELS_RANDOM ? "random" : "sequential");
    else
        *text = kd_copy_string(labels != NULL ? caches : KD_LABELS_NONE);
    status = *text != NULL ? KD_OK : KD_EMEMORY;
out:
    free(caches);
    return status;
}

/* -- before the first step ------------------------------------------------------- */

/* The network has the classes of all caches; a virtual teacher has the network's. */
static enum kd_status check_classes(struct kd_run *run)
{
    const struct kd_identity *id = kd_labels_identity(run->labels);

    if (id == NULL)
        return KD_OK;
    if (run->classes == 0) {
        run->classes = id->num_classes;
        run->class_map = id->class_map_digest;
    }
    if (id->num_classes == run->classes &&
        kd_digest_equal(&id->class_map_digest, &run->class_map))
        return KD_OK;
    return kd_fail(KD_EDATA,
                   "%s: its classes are not those of the soft labels of the stages "
                   "before",
                   run->stage->labels);
}

/* Of a virtual teacher: every sample that it shall teach. */
static enum kd_status check_labelled(const struct kd_run *run)
{
    const struct kd_dataset_facts *data = kd_dataset_facts(run->data);

    if (kd_labels_identity(run->labels) != NULL ||
        run->stage->loss.missing != KD_MISSING_ERROR)
        return KD_OK;
    for (uint64_t id = data->first; id < data->end; id++)
        if (kd_dataset_label(run->data, id) < 0)
            return kd_fail(KD_EDATA,
                           "%s: sample %llu has no label, of which a virtual teacher "
                           "is a function: leave it out, or say --missing skip",
                           data->name, (unsigned long long)id);
    return KD_OK;
}

static enum kd_status check_scales(const struct kd_run *run)
{
    const struct kd_stage *s = run->stage;
    const uint64_t last = s->anneal > 0 ? s->anneal : 1;
    enum kd_status status = KD_OK;

    for (uint64_t k = 1; k <= last && status == KD_OK; k++)
        status = kd_labels_check_scale(run->labels,
                                       s->scale * kd_anneal_factor(k, s->anneal));
    return status;
}

static enum kd_status check_stage(struct kd_run *run, size_t index)
{
    enum kd_status status = KD_EBUG;

    run->stage = &run->recipe->stages[index];
    KD_TRY(open_labels(run, run->stage, &run->labels));
    if (run->labels != NULL) {
        KD_TRY(check_classes(run));
        KD_TRY(check_labelled(run));
        KD_TRY(check_scales(run));
    }
    KD_TRY(choose_views(run));
    KD_TRY(describe_labels(run->stage, run->labels, &run->label_digests[index]));
    if (run->labels != NULL && kd_labels_identity(run->labels) != NULL &&
        (index == 0 || !kd_labels_last(run->labels))) {
        run->opened[index] = run->labels;
        run->labels = NULL;
    }
    status = KD_OK;
out:
    kd_labels_close(run->labels);
    run->labels = NULL;
    if (status != KD_OK && run->recipe->num_stages > 1)
        kd_error_prefix("stage %zu", index + 1);
    run->stage = NULL;
    return status;
}

enum kd_status kd_stages_check(struct kd_run *run)
{
    const struct kd_dataset_facts *data = kd_dataset_facts(run->data);
    enum kd_status status = KD_OK;

    run->class_map = data->class_map_digest;
    for (size_t i = 0; i < run->recipe->num_stages && status == KD_OK; i++)
        status = check_stage(run, i);
    if (run->classes == 0)
        run->classes = data->num_classes;
    return status;
}

void kd_stages_close(struct kd_run *run)
{
    for (size_t i = 0; i < run->recipe->num_stages; i++) {
        kd_labels_close(run->opened[i]);
        free(run->label_digests[i]);
    }
    kd_labels_close(run->labels);
}

/* -- on the way ------------------------------------------------------------------ */

/* The labels that were checked, opened again. */
static enum kd_status open_again(struct kd_run *run, size_t index)
{
    enum kd_status status = KD_EBUG;
    char *digest = NULL;

    KD_TRY(open_labels(run, run->stage, &run->labels));
    KD_TRY(describe_labels(run->stage, run->labels, &digest));
    if (strcmp(digest, run->label_digests[index]) != 0) {
        status = kd_fail(KD_EDATA,
                         "%s: is another cache than the one that the run began with",
                         run->stage->labels);
        goto out;
    }
    status = KD_OK;
out:
    free(digest);
    return status;
}

static enum kd_status enter(struct kd_run *run, size_t index)
{
    enum kd_status status = KD_EBUG;

    kd_labels_close(run->labels);
    run->labels = run->opened[index];
    run->opened[index] = NULL;
    run->stage = &run->recipe->stages[index];
    if (run->labels == NULL)
        KD_TRY(open_again(run, index));
    KD_TRY(choose_views(run));
    for (size_t i = 0; i < 2; i++) {
        kd_feed_clear(&run->feed[i]);
        KD_TRY(kd_feed_init(&run->feed[i], run));
    }
    status = KD_OK;
out:
    return status;
}

/* What a stage begins with, before its first epoch. */
static enum kd_status begin(struct kd_run *run, size_t index)
{
    enum kd_status status = KD_EBUG;

    if (run->stage->from_best)
        KD_TRY(kd_keep_start(run, index));
    if (index > 0 && run->stage->reset)
        KD_TRY(kd_run_renew_optimizer(run));
    run->stage_best = (struct kd_judgement){0};
    kd_watch_begin_stage(run);
    status = KD_OK;
out:
    return status;
}

/* The epochs of a stage that was stopped count as gone by: what comes behind them has
 * the numbers, views and orders that it would have had. */
static void skip_rest(struct kd_run *run)
{
    const struct kd_recipe *r = run->recipe;
    const struct kd_stage *s = &r->stages[kd_recipe_stage(r, run->epoch)];

    run->epoch = s->before + s->epochs;
}

enum kd_status kd_stages_begin_epoch(struct kd_run *run)
{
    const struct kd_recipe *r = run->recipe;
    enum kd_status status = KD_EBUG;

    if (kd_watch_stopped(run))
        skip_rest(run);
    const uint64_t epoch = run->epoch + 1;
    const size_t index = kd_recipe_stage(r, epoch);
    const struct kd_stage *s = &r->stages[index];
    if (run->stage != s)
        KD_TRY(enter(run, index));
    if (epoch == s->before + 1)
        KD_TRY(begin(run, index));
    run->count = kd_recipe_count(r, s, epoch);
    run->loss = s->loss;
    run->loss.soft *= kd_ramp_weight(&s->ramp, run->count.now);
    run->scale = s->scale * kd_anneal_factor(kd_anneal_step(run->count.now,
                                                            run->count.all, s->anneal),
                                             s->anneal);
    kd_watch_begin_epoch(run);
    status = KD_OK;
out:
    return status;
}
