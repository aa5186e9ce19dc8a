/* SPDX-License-Identifier: MIT */
/* A training run's inputs, networks and buffers: opening, checking, closing. */
#include "distill/run_internal.h"

#include "kd/memory.h"
#include "kd/thread.h"
#include "kd/version.h"

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

/* The network that the run begins with must be one of its own kind. */
static enum kd_status check_start(struct kd_run *run)
{
    const struct kd_recipe *r = run->recipe;
    const struct kd_shape *shape = &kd_dataset_facts(run->data)->shape;
    const struct kd_sizes *sizes = &run->start.sizes;
    char theirs[256], ours[256];
    enum kd_status status = KD_EBUG;

    if (r->start == NULL)
        return KD_OK;
    run->start_path = kd_model_path(r->start);
    KD_TRY(run->start_path != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_model_open(run->start_path, &run->start));
    kd_arch_text(&run->start.arch, theirs);
    kd_arch_text(&r->arch, ours);
    if (strcmp(theirs, ours) != 0)
        status = kd_fail(KD_EDATA,
                         "%s: is %s, the recipe's network is %s: only one of the same "
                         "architecture can be gone on with",
                         r->start, theirs, ours);
    else if (sizes->channels != shape->channels || sizes->height != shape->height ||
             sizes->width != shape->width || sizes->classes != run->classes ||
             !kd_digest_equal(&run->start.class_map_digest, &run->class_map))
        status = kd_fail(KD_EDATA,
                         "%s: was trained for samples or classes other than those of "
                         "%s",
                         r->start, kd_dataset_facts(run->data)->name);
    else
        status = KD_OK;
out:
    return status;
}

static enum kd_status describe(struct kd_run *run)
{
    enum kd_status status = KD_EBUG;
    char *data = kd_recipe_data_text(run->data), *test = kd_recipe_data_text(run->test);
    char *text = NULL;

    KD_TRY(data != NULL && test != NULL ? KD_OK : KD_EMEMORY);
    text = kd_recipe_text(run->recipe, data, test,
                          (const char *const *)run->label_digests);
    KD_TRY(text != NULL ? KD_OK : KD_EMEMORY);
    if (run->recipe->start != NULL)
        run->text = kd_format("%sstart: %s\n", text, run->start.digest.hex);
    else
        run->text = kd_copy_string(text);
    status = run->text != NULL ? KD_OK : KD_EMEMORY;
out:
    free(data);
    free(test);
    free(text);
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

/* The first weights, and the normalisation that goes with them. */
static enum kd_status begin_network(struct kd_run *run)
{
    const struct kd_recipe *r = run->recipe;
    const struct kd_model *start = &run->start;
    enum kd_status status = KD_EBUG;

    if (r->start != NULL) {
        KD_TRY(kd_model_load(run->start_path, run->net->graph));
        run->normalize.count = start->num_normalize;
        memcpy(run->normalize.mean, start->mean, sizeof start->mean);
        memcpy(run->normalize.deviation, start->deviation, sizeof start->deviation);
    } else {
        KD_TRY(kd_graph_initialise(run->net->graph, r->seed));
        KD_TRY(kd_normalize_measure(run->data, &run->normalize));
    }
    status = KD_OK;
out:
    return status;
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
    KD_TRY(begin_network(run));
    KD_TRY(kd_average_init(run));
    KD_TRY(kd_run_renew_optimizer(run));
    if (run->test != NULL || run->order.num_held > 0)
        KD_TRY(kd_network_build(&r->arch, &sizes, kd_network_piece(MEASURE_BATCH),
                                false, &run->measured));
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
    kd_watch_close(run->watch);
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
    free(run->start_path);
    free(run->text);
}

enum kd_status kd_run_open(struct kd_run *run)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(open_inputs(run));
    KD_TRY(choose_samples(run));
    KD_TRY(kd_stages_check(run));
    KD_TRY(kd_recipe_check_data(run->recipe, run->data, run->test, run->classes));
    KD_TRY(check_start(run));
    KD_TRY(describe(run));
    KD_TRY(kd_watch_open(run));
    KD_TRY(build(run));
    KD_TRY(open_loader(run));
    status = KD_OK;
out:
    return status;
}

char *kd_run_history(const struct kd_run *run)
{
    return kd_format("kd-train %s\n%s", kd_version(), run->text);
}

bool kd_run_finished(const struct kd_run *run)
{
    const struct kd_recipe *r = run->recipe;
    const uint64_t patience = r->patience;
    const bool last = kd_recipe_stage(r, run->epoch) + 1 == r->num_stages;

    return run->epoch >= r->all_epochs || (last && kd_watch_stopped(run)) ||
           (patience > 0 && run->best.epoch > 0 &&
            run->epoch - run->best.epoch >= patience);
}
