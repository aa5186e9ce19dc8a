/* SPDX-License-Identifier: MIT */
/* A training run's inputs, networks and buffers: opening, checking, closing. */
#include "distill/run_internal.h"

#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

#define TEST_BATCH 256

/* With cached soft labels the student sees what the teacher saw. */
static enum kd_status choose_views(struct kd_run *run)
{
    const struct kd_recipe *r = run->recipe;
    const char *augment = r->augment;
    uint64_t seed = r->seed;
    char text[64];

    if (run->labels != NULL && r->labels_view == KD_LABELS_SAME_VIEW) {
        const struct kd_identity *id = kd_labels_identity(run->labels);
        seed = id->seed;
        if (augment == NULL)
            augment = id->augment;
    }
    const enum kd_status status =
        kd_view_parse(augment != NULL ? augment : "none", seed, &run->views);
    if (status != KD_OK || run->labels == NULL || r->labels_view != KD_LABELS_SAME_VIEW)
        return status;
    kd_view_text(&run->views, text);
    if (strcmp(text, kd_labels_identity(run->labels)->augment) != 0)
        return kd_fail(KD_EUSAGE,
                       "%s: its views are '%s', the recipe's augmentation is '%s': the "
                       "student would not see the teacher's pixels; leave augment out, "
                       "dump again, or set labels-view: clean",
                       r->labels, kd_labels_identity(run->labels)->augment, text);
    return KD_OK;
}

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
            .logits = r->loss.kind == KD_LOSS_MSE,
            .clean_view = r->labels_view == KD_LABELS_CLEAN_VIEW,
        };
        KD_TRY(kd_labels_open(r->labels, &want, &run->labels));
    }
    KD_TRY(choose_views(run));
    status = KD_OK;
out:
    return status;
}

static size_t num_classes(const struct kd_run *run)
{
    return run->labels != NULL ? kd_labels_identity(run->labels)->num_classes
                               : kd_dataset_facts(run->data)->num_classes;
}

static enum kd_status check_inputs(struct kd_run *run)
{
    const struct kd_dataset_facts *data = kd_dataset_facts(run->data);
    const struct kd_dataset_facts *test =
        run->test != NULL ? kd_dataset_facts(run->test) : NULL;

    run->samples = data->end - data->first;
    run->steps = run->samples / run->recipe->batch;
    if (run->samples > UINT32_MAX)
        return kd_fail(KD_EDATA, "%s: has more than 2^32 samples", data->name);
    if (run->steps == 0)
        return kd_fail(KD_EUSAGE, "%s: has %llu samples, fewer than a batch of %llu",
                       data->name, (unsigned long long)run->samples,
                       (unsigned long long)run->recipe->batch);
    if (num_classes(run) < 2)
        return kd_fail(KD_EDATA, "%s: has fewer than two classes", data->name);
    if (run->recipe->loss.hard > 0 && data->num_classes == 0)
        return kd_fail(KD_EDATA,
                       "%s: has no labels: set loss.hard to 0 to learn from "
                       "soft labels alone",
                       data->name);
    if (test != NULL && (memcmp(&test->shape, &data->shape, sizeof test->shape) != 0 ||
                         test->num_classes > num_classes(run)))
        return kd_fail(KD_EDATA, "%s: its samples or classes are not those of %s",
                       test->name, data->name);
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
    KD_TRY(kd_optimizer_new(run->net->graph, &r->sgd, &run->optimizer));
    KD_TRY(kd_batch_init(&run->batch, run->data, (size_t)r->batch));
    if (run->test != NULL) {
        KD_TRY(kd_network_build(&r->arch, &sizes, TEST_BATCH, false, &run->measured));
        KD_TRY(kd_batch_init(&run->test_batch, run->test, TEST_BATCH));
    }
    KD_TRY(kd_normalize_measure(run->data, &run->normalize));
    KD_TRY(KD_NEW(run->order, (size_t)run->samples));
    KD_TRY(KD_NEW(run->logits, logits));
    KD_TRY(KD_NEW(run->gradient, logits));
    if (run->labels != NULL)
        KD_TRY(KD_NEW(run->soft, logits));
    status = KD_OK;
out:
    return status;
}

void kd_run_close(struct kd_run *run)
{
    kd_optimizer_free(run->optimizer);
    kd_network_free(run->net);
    kd_network_free(run->measured);
    kd_batch_clear(&run->batch);
    kd_batch_clear(&run->test_batch);
    kd_labels_close(run->labels);
    kd_dataset_close(run->data);
    kd_dataset_close(run->test);
    free(run->order);
    free(run->logits);
    free(run->gradient);
    free(run->soft);
    free(run->metrics);
    free(run->text);
}

enum kd_status kd_run_open(struct kd_run *run)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(open_inputs(run));
    KD_TRY(check_inputs(run));
    KD_TRY(describe(run));
    KD_TRY(build(run));
    status = KD_OK;
out:
    return status;
}
