/* SPDX-License-Identifier: MIT */
/* A training run's inputs, networks and buffers: opening, checking, closing. */
#include "distill/run_internal.h"

#include "kd/memory.h"
#include "kd/thread.h"

#include <stdlib.h>
#include <string.h>

#define MEASURE_BATCH 256

/* -- inputs ----------------------------------------------------------------- */

static enum kd_status open_inputs(struct kd_run *run)
{
    const struct kd_recipe *r = run->recipe;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_dataset_open(r->data, &run->data));
    if (r->test != NULL)
        KD_TRY(kd_dataset_open(r->test, &run->test));
    status = KD_OK;
out:
    return status;
}

static enum kd_status check_inputs(const struct kd_run *run)
{
    const struct kd_dataset_facts *data = kd_dataset_facts(run->data);
    const struct kd_dataset_facts *test =
        run->test != NULL ? kd_dataset_facts(run->test) : NULL;

    if (run->classes < 2)
        return kd_fail(KD_EDATA, "%s: has fewer than two classes", data->name);
    for (size_t i = 0; i < run->recipe->num_stages; i++)
        if (run->recipe->stages[i].loss.hard > 0 && data->num_classes == 0)
            return kd_fail(KD_EDATA,
                           "%s: has no labels: set loss.hard to 0 to learn from "
                           "soft labels alone",
                           data->name);
    if (run->recipe->hold_out != NULL && data->num_classes == 0)
        return kd_fail(KD_EDATA, "%s: has no labels to judge what is held out by",
                       data->name);
    if (test != NULL && (memcmp(&test->shape, &data->shape, sizeof test->shape) != 0 ||
                         test->num_classes > run->classes))
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

    KD_TRY(data != NULL && test != NULL ? KD_OK : KD_EMEMORY);
    run->text = kd_recipe_text(run->recipe, data, test,
                               (const char *const *)run->label_digests);
    status = run->text != NULL ? KD_OK : KD_EMEMORY;
out:
    free(data);
    free(test);
    return status;
}

/* -- networks and buffers ---------------------------------------------------- */

enum kd_status kd_run_renew_optimizer(struct kd_run *run)
{
    const struct kd_recipe *r = run->recipe;

    kd_optimizer_free(run->optimizer);
    run->optimizer = NULL;
    if (r->optimizer == KD_SGD)
        return kd_optimizer_new(run->net->graph, &r->sgd, &run->optimizer);
    return kd_optimizer_new_adam(run->net->graph, &r->adam, &run->optimizer);
}

static enum kd_status build(struct kd_run *run)
{
    const struct kd_recipe *r = run->recipe;
    const struct kd_shape shape = kd_dataset_facts(run->data)->shape;
    const struct kd_sizes sizes = {shape.channels, shape.height, shape.width,
                                   run->classes};
    const size_t logits = (size_t)r->batch * sizes.classes;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_network_build(&r->arch, &sizes, (size_t)r->batch, true, &run->net));
    KD_TRY(kd_graph_initialise(run->net->graph, r->seed));
    KD_TRY(kd_average_init(run));
    KD_TRY(kd_run_renew_optimizer(run));
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

/* With one compute thread there is no other. What it fills is there when a stage
 * begins. */
static enum kd_status open_loader(struct kd_run *run)
{
    const struct kd_loader_spec spec = {
        kd_feed_fill, run, {&run->feed[0], &run->feed[1]}, kd_threads() > 1};

    return kd_loader_open(&spec, &run->loader);
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
    kd_stages_close(run);
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
    KD_TRY(choose_samples(run));
    KD_TRY(kd_stages_check(run));
    KD_TRY(check_inputs(run));
    KD_TRY(describe(run));
    KD_TRY(build(run));
    KD_TRY(open_loader(run));
    status = KD_OK;
out:
    return status;
}

bool kd_run_finished(const struct kd_run *run)
{
    const uint64_t patience = run->recipe->patience;

    return run->epoch >= run->recipe->all_epochs ||
           (patience > 0 && run->best.epoch > 0 &&
            run->epoch - run->best.epoch >= patience);
}
