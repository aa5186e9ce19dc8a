/* SPDX-License-Identifier: MIT */
/* A training run's inputs, networks and buffers: opening, checking, closing. */
#include "distill/run_internal.h"

#include "kd/memory.h"
#include "kd/thread.h"

#include <stdlib.h>
#include <string.h>

#define MEASURE_BATCH 256

/* -- views ------------------------------------------------------------------ */

/* What is held out must not be seen in mixtures either: where the rest is in one piece,
 * that is what partners are taken from, unless the recipe or the cache says whence. */
static enum kd_status settle_partners(struct kd_run *run)
{
    const struct kd_order *o = &run->order;
    const uint64_t first = kd_dataset_facts(run->data)->first;
    struct kd_view_spec *v = &run->views;

    if (kd_view_mixes(v) && v->to == 0 && o->kept != NULL &&
        o->kept[o->count - 1] - o->kept[0] + 1 == o->count) {
        v->from = first + o->kept[0];
        v->to = first + o->kept[o->count - 1] + 1;
    }
    const enum kd_status status = kd_view_settle(v, kd_dataset_facts(run->data));
    for (uint32_t i = 0; status == KD_OK && kd_view_mixes(v) && i < o->num_held; i++)
        if (first + o->held[i] >= v->from && first + o->held[i] < v->to)
            return kd_fail(KD_EUSAGE,
                           "augment: sample %llu is held out, but might be mixed into "
                           "others: hold out the first or last ids (--holdout A:B)",
                           (unsigned long long)first + o->held[i]);
    return status;
}

/* The student sees what the teacher saw. */
static enum kd_status check_cached_views(const struct kd_run *run)
{
    const char *cached = kd_labels_identity(run->labels)->augment;
    char text[64];

    kd_view_text(&run->views, text);
    if (strcmp(text, cached) == 0)
        return KD_OK;
    return kd_fail(KD_EUSAGE,
                   "%s: its views are '%s', the recipe's augmentation is '%s': the "
                   "student would not see the teacher's pixels; leave augment out, "
                   "dump again, or set labels-view: clean",
                   run->recipe->labels, cached, text);
}

static enum kd_status choose_views(struct kd_run *run)
{
    enum kd_status status = KD_EBUG;
    const struct kd_recipe *r = run->recipe;
    const bool cached = run->labels != NULL && r->labels_view == KD_LABELS_SAME_VIEW;
    const struct kd_identity *id = cached ? kd_labels_identity(run->labels) : NULL;
    const char *augment = r->augment;

    if (augment == NULL)
        augment = cached ? id->augment : "none";
    KD_TRY(kd_view_parse(augment, cached ? id->seed : r->seed, &run->views));
    KD_TRY(settle_partners(run));
    if (cached)
        KD_TRY(check_cached_views(run));
    status = KD_OK;
out:
    return status;
}

/* -- inputs ----------------------------------------------------------------- */

static enum kd_status open_inputs(struct kd_run *run)
{
    const struct kd_recipe *r = run->recipe;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_dataset_open(r->data, &run->data));
    if (r->test != NULL)
        KD_TRY(kd_dataset_open(r->test, &run->test));
    if (r->labels != NULL) {
        const struct kd_labels_want want = {
            .data = kd_dataset_facts(run->data),
            .temperature = r->loss.temperature,
            .tail = (enum kd_tail)r->tail,
            .missing = (enum kd_missing)r->loss.missing,
            .unverified = !r->verify,
            .logits = r->loss.kind == KD_LOSS_MSE,
            .clean_view = r->labels_view == KD_LABELS_CLEAN_VIEW,
        };
        KD_TRY(kd_labels_open(r->labels, &want, &run->labels));
    }
    status = KD_OK;
out:
    return status;
}

static size_t num_classes(const struct kd_run *run)
{
    return run->labels != NULL ? kd_labels_identity(run->labels)->num_classes
                               : kd_dataset_facts(run->data)->num_classes;
}

static enum kd_status check_inputs(const struct kd_run *run)
{
    const struct kd_dataset_facts *data = kd_dataset_facts(run->data);
    const struct kd_dataset_facts *test =
        run->test != NULL ? kd_dataset_facts(run->test) : NULL;

    if (num_classes(run) < 2)
        return kd_fail(KD_EDATA, "%s: has fewer than two classes", data->name);
    if (run->recipe->loss.hard > 0 && data->num_classes == 0)
        return kd_fail(KD_EDATA,
                       "%s: has no labels: set loss.hard to 0 to learn from "
                       "soft labels alone",
                       data->name);
    if (run->recipe->hold_out != NULL && data->num_classes == 0)
        return kd_fail(KD_EDATA, "%s: has no labels to judge what is held out by",
                       data->name);
    if (test != NULL && (memcmp(&test->shape, &data->shape, sizeof test->shape) != 0 ||
                         test->num_classes > num_classes(run)))
        return kd_fail(KD_EDATA, "%s: its samples or classes are not those of %s",
                       test->name, data->name);
    return KD_OK;
}

static enum kd_status choose_samples(struct kd_run *run)
{
    const struct kd_dataset_facts *data = kd_dataset_facts(run->data);
    const enum kd_status status =
        kd_order_init(&run->order, run->recipe, data->first, data->end - data->first);

    if (status != KD_OK) {
        kd_error_prefix("%s", data->name);
        return status;
    }
    run->steps = run->order.count / run->recipe->batch;
    if (run->steps == 0)
        return kd_fail(KD_EUSAGE, "%s: has %lu samples, fewer than a batch of %llu",
                       data->name, (unsigned long)run->order.count,
                       (unsigned long long)run->recipe->batch);
    return KD_OK;
}

static char *describe_data(struct kd_dataset *data)
{
    const struct kd_dataset_facts *facts;

    if (data == NULL)
        return kd_copy_string("none");
    facts = kd_dataset_facts(data);
    return kd_format("%s ids %llu to %llu", facts->digest.hex,
                     (unsigned long long)facts->first,
                     (unsigned long long)facts->end - 1);
}

static enum kd_status describe(struct kd_run *run)
{
    enum kd_status status = KD_EBUG;
    char *data = describe_data(run->data), *test = describe_data(run->test);
    struct kd_digest labels = {"none"};

    KD_TRY(data != NULL && test != NULL ? KD_OK : KD_EMEMORY);
    if (run->labels != NULL)
        KD_TRY(kd_identity_digest(kd_labels_identity(run->labels), &labels));
    run->text = kd_recipe_text(run->recipe, data, test, labels.hex);
    status = run->text != NULL ? KD_OK : KD_EMEMORY;
out:
    free(data);
    free(test);
    return status;
}

/* -- networks and buffers ---------------------------------------------------- */

static enum kd_status build(struct kd_run *run)
{
    const struct kd_recipe *r = run->recipe;
    const struct kd_shape shape = kd_dataset_facts(run->data)->shape;
    const struct kd_sizes sizes = {shape.channels, shape.height, shape.width,
                                   num_classes(run)};
    const size_t logits = (size_t)r->batch * sizes.classes;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_network_build(&r->arch, &sizes, (size_t)r->batch, true, &run->net));
    KD_TRY(kd_graph_initialise(run->net->graph, r->seed));
    KD_TRY(kd_average_init(run));
    if (r->optimizer == KD_SGD)
        KD_TRY(kd_optimizer_new(run->net->graph, &r->sgd, &run->optimizer));
    else
        KD_TRY(kd_optimizer_new_adam(run->net->graph, &r->adam, &run->optimizer));
    if (run->test != NULL || run->order.num_held > 0)
        KD_TRY(
            kd_network_build(&r->arch, &sizes, MEASURE_BATCH, false, &run->measured));
    KD_TRY(kd_normalize_measure(run->data, &run->normalize));
    KD_TRY(KD_NEW(run->logits, logits));
    KD_TRY(KD_NEW(run->gradient, logits));
    status = KD_OK;
out:
    return status;
}

/* With one compute thread there is no other. */
static enum kd_status build_feeds(struct kd_run *run)
{
    const struct kd_loader_spec spec = {
        kd_feed_fill, run, {&run->feed[0], &run->feed[1]}, kd_threads() > 1};
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_feed_init(&run->feed[0], run));
    KD_TRY(kd_feed_init(&run->feed[1], run));
    KD_TRY(kd_loader_open(&spec, &run->loader));
    status = KD_OK;
out:
    return status;
}

void kd_run_close(struct kd_run *run)
{
    kd_loader_close(run->loader);
    kd_feed_clear(&run->feed[0]);
    kd_feed_clear(&run->feed[1]);
    kd_optimizer_free(run->optimizer);
    kd_average_clear(run);
    kd_network_free(run->net);
    kd_network_free(run->measured);
    kd_order_clear(&run->order);
    kd_labels_close(run->labels);
    kd_dataset_close(run->data);
    kd_dataset_close(run->test);
    free(run->logits);
    free(run->gradient);
    free(run->metrics);
    free(run->text);
}

enum kd_status kd_run_open(struct kd_run *run)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(open_inputs(run));
    KD_TRY(check_inputs(run));
    KD_TRY(choose_samples(run));
    KD_TRY(choose_views(run));
    KD_TRY(describe(run));
    KD_TRY(build(run));
    KD_TRY(build_feeds(run));
    status = KD_OK;
out:
    return status;
}

bool kd_run_finished(const struct kd_run *run)
{
    const uint64_t patience = run->recipe->patience;

    return run->epoch >= run->recipe->epochs ||
           (patience > 0 && run->best.epoch > 0 &&
            run->epoch - run->best.epoch >= patience);
}
