/* SPDX-License-Identifier: MIT */
/* A run's inputs, teams and buffers: opening, closing, and the way to a step. */
#include "peers/engine_internal.h"

#include "kd/memory.h"
#include "kd/random.h"
#include "kd/thread.h"

#include <stdlib.h>
#include <string.h>

#define MEASURE_BATCH 256

/* -- inputs ------------------------------------------------------------------- */

static enum kd_status open_inputs(struct kd_peers *p)
{
    struct kd_peers_private *own = p->private;
    const struct kd_recipe *r = &p->recipe->base;
    const struct kd_dataset_facts *facts;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_dataset_open(r->data, &own->data));
    if (r->test != NULL)
        KD_TRY(kd_dataset_open(r->test, &own->test));
    facts = kd_dataset_facts(own->data);
    p->sizes = (struct kd_sizes){facts->shape.channels, facts->shape.height,
                                 facts->shape.width, facts->num_classes};
    own->class_map = facts->class_map_digest;
    KD_TRY(kd_recipe_check_data(r, own->data, own->test, p->sizes.classes));
    KD_TRY(kd_normalize_measure(own->data, &own->normalize));
    status = KD_OK;
out:
    return status;
}

/* The first order is that of kd_train; members that have batches of their own are shown
 * the same samples in other orders. */
static enum kd_status make_orders(struct kd_peers *p)
{
    struct kd_peers_private *own = p->private;
    const struct kd_recipe *r = &p->recipe->base;
    const struct kd_method *m = p->recipe->chosen;
    const struct kd_dataset_facts *facts = kd_dataset_facts(own->data);
    const bool apart = m->own_batches != NULL && m->own_batches(p->settings);
    enum kd_status status = KD_EBUG;

    own->num_orders = apart ? p->recipe->count : 1;
    for (size_t k = 0; k < own->num_orders; k++) {
        struct kd_order *o = &own->order[k];
        struct kd_random turn = kd_random_at(r->seed, KD_RANDOM_SHUFFLE, k, 1);
        status = kd_order_init(o, r, facts->first, facts->end - facts->first);
        if (status != KD_OK) {
            kd_error_prefix("%s", facts->name);
            goto out;
        }
        if (k > 0)
            o->seed = (uint64_t)kd_random_u32(&turn) << 32 | kd_random_u32(&turn);
    }
    p->steps = own->order[0].count / r->batch;
    if (p->steps == 0) {
        status = kd_fail(KD_EUSAGE, "%s: has %lu samples, fewer than a batch of %llu",
                         facts->name, (unsigned long)own->order[0].count,
                         (unsigned long long)r->batch);
        goto out;
    }
    KD_TRY(
        kd_view_parse(r->augment != NULL ? r->augment : "none", r->seed, &own->views));
    KD_TRY(kd_order_settle_views(&own->order[0], facts, &own->views));
    status = KD_OK;
out:
    return status;
}

static enum kd_status describe(struct kd_peers *p)
{
    struct kd_peers_private *own = p->private;
    char *data = kd_recipe_data_text(own->data), *test = kd_recipe_data_text(own->test);

    if (data != NULL && test != NULL)
        own->text = kd_peers_text(p->recipe, data, test);
    free(data);
    free(test);
    for (size_t i = 0; i < p->learning->num_parts && own->text != NULL; i++) {
        const struct kd_part *part = p->learning->part[i];
        char *before = own->text;
        if (part->trained == NULL)
            continue;
        own->text = kd_format("%s%s: %s\n", before, part->name, part->digest.hex);
        free(before);
    }
    return own->text != NULL ? KD_OK : KD_EMEMORY;
}

/* -- batches ------------------------------------------------------------------ */

/* Reads, draws and normalises the samples of a step: a loader's `fill`. */
static enum kd_status fill(void *context, void *slot, uint64_t epoch, uint64_t step)
{
    const struct kd_peers *p = context;
    const struct kd_peers_private *own = p->private;
    const uint64_t first = kd_dataset_facts(own->data)->first;
    struct kd_peers_feed *feed = slot;
    enum kd_status status = KD_OK;

    for (size_t k = 0; k < own->num_orders && status == KD_OK; k++) {
        struct kd_batch *b = &feed->batch[k];
        b->size = b->capacity;
        for (size_t i = 0; i < b->size; i++) {
            b->id[i] = first + own->order[k].at[step * b->capacity + i];
            b->view[i] = (uint32_t)epoch;
        }
        status = kd_batch_fill(b, own->data, &own->views, &own->normalize);
    }
    return status;
}

static enum kd_status open_loader(struct kd_peers *p)
{
    struct kd_peers_private *own = p->private;
    const struct kd_loader_spec spec = {
        fill, p, {&own->feed[0], &own->feed[1]}, kd_threads() > 1};
    const size_t batch = (size_t)p->recipe->base.batch;

    for (size_t f = 0; f < 2; f++)
        for (size_t k = 0; k < own->num_orders; k++) {
            const enum kd_status status =
                kd_batch_init(&own->feed[f].batch[k], own->data, batch);
            if (status != KD_OK)
                return status;
        }
    return kd_loader_open(&spec, &own->loader);
}

/* -- the run ------------------------------------------------------------------ */

enum kd_status kd_peers_renew(struct kd_peers *p)
{
    struct kd_peers_private *own = p->private;
    const size_t batch = (size_t)p->recipe->base.batch;
    enum kd_status status = KD_EBUG;

    kd_team_free(p->learning);
    kd_team_free(p->measuring);
    p->learning = p->measuring = NULL;
    memset(p->memory, 0, sizeof p->memory);
    own->now = (struct kd_peers_epoch){0};
    KD_TRY(kd_team_new(p, true, batch, &p->learning));
    if (own->test != NULL || own->order[0].num_held > 0)
        KD_TRY(kd_team_new(p, false, MEASURE_BATCH, &p->measuring));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_peers_open(struct kd_peers *p)
{
    struct kd_peers_private *own = p->private;
    enum kd_status status = KD_EBUG;
    size_t rows;

    p->settings = p->recipe->settings[p->recipe->method].bytes;
    p->exchange = !p->recipe->independent;
    KD_TRY(open_inputs(p));
    KD_TRY(make_orders(p));
    KD_TRY(kd_peers_renew(p));
    KD_TRY(describe(p));
    KD_TRY(open_loader(p));
    rows = (size_t)p->recipe->base.batch;
    rows = rows > MEASURE_BATCH ? rows : MEASURE_BATCH;
    KD_TRY(KD_NEW(p->target, rows * p->sizes.classes));
    KD_TRY(KD_NEW(p->spare, rows * p->sizes.classes));
    KD_TRY(KD_NEW(p->targets, p->recipe->count * rows * p->sizes.classes));
    KD_TRY(KD_NEW(p->gradients, p->recipe->count * rows * p->sizes.classes));
    KD_TRY(KD_NEW(own->scratch, rows * p->sizes.classes));
    status = KD_OK;
out:
    return status;
}

void kd_peers_close(struct kd_peers *p)
{
    struct kd_peers_private *own = p->private;

    kd_loader_close(own->loader);
    for (size_t k = 0; k < own->num_orders; k++) {
        kd_batch_clear(&own->feed[0].batch[k]);
        kd_batch_clear(&own->feed[1].batch[k]);
        kd_order_clear(&own->order[k]);
    }
    kd_team_free(p->learning);
    kd_team_free(p->measuring);
    kd_dataset_close(own->data);
    kd_dataset_close(own->test);
    free(p->target);
    free(p->spare);
    free(p->targets);
    free(p->gradients);
    free(own->scratch);
    free(own->metrics);
    free(own->text);
}

void kd_peers_begin_epoch(struct kd_peers *p)
{
    struct kd_peers_private *own = p->private;
    const struct kd_recipe *r = &p->recipe->base;

    p->epoch = own->done + 1;
    own->now = (struct kd_peers_epoch){0};
    p->loss = r->loss;
    p->loss.soft = p->exchange ? r->loss.soft * kd_ramp_weight(&r->ramp, own->done) : 0;
    kd_loader_begin(own->loader, p->epoch, 0); /* no thread reads the orders now */
    for (size_t k = 0; k < own->num_orders; k++)
        kd_order_draw(&own->order[k], p->epoch);
    kd_loader_begin(own->loader, p->epoch, p->steps);
}

enum kd_status kd_peers_begin_step(struct kd_peers *p, uint64_t step)
{
    struct kd_peers_private *own = p->private;
    void *slot = NULL;
    const enum kd_status status = kd_loader_next(own->loader, &slot);
    struct kd_peers_feed *feed = slot;

    if (status != KD_OK)
        return status;
    p->step = step;
    p->steps_done = (p->epoch - 1) * p->steps + step;
    for (size_t k = 0; k < p->recipe->count; k++)
        p->batch[k] = &feed->batch[own->num_orders > 1 ? k : 0];
    p->shown = p->batch[0];
    return KD_OK;
}
