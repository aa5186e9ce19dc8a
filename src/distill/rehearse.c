/* SPDX-License-Identifier: MIT */
/* A rehearsal: what a run would be, and how long it would take, from a few steps. */
#include "kd/train.h"

#include "distill/run_internal.h"

#include "kd/json.h"
#include "kd/memory.h"
#include "kd/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Steps are timed until so many seconds are over, or so many of them; the first ones,
 * which fill caches and make kernels, do not count. */
#define SECONDS 2.0
#define STEPS   50
#define WARM_UP 2
#define MEGA    1048576.0

/* -- the network -------------------------------------------------------- */

static void shape_text(const struct kd_layer_facts *facts, char text[64])
{
    if (facts->height == 1 && facts->width == 1)
        snprintf(text, 64, "%zu", facts->channels);
    else
        snprintf(text, 64, "%zu x %zu x %zu", facts->channels, facts->height,
                 facts->width);
}

static void write_network(const struct kd_run *run, FILE *to)
{
    const struct kd_graph *graph = run->net->graph;
    struct kd_layer_facts all = {.kind = "in all"};
    char shape[64], arch[256];

    kd_arch_text(&run->net->arch, arch);
    fprintf(to, "%s\n\n%-14s %-28s %-16s %12s %14s\n", arch, "layer", "name", "output",
            "parameters", "multiply-adds");
    for (size_t i = 0; i < kd_graph_num_layers(graph); i++) {
        struct kd_layer_facts facts;
        kd_graph_layer(graph, i, &facts);
        shape_text(&facts, shape);
        fprintf(to, "%-14s %-28s %-16s %12zu %14llu\n", facts.kind, facts.name, shape,
                facts.parameters, (unsigned long long)facts.multiply_adds);
        all.parameters += facts.parameters;
        all.multiply_adds += facts.multiply_adds;
    }
    fprintf(to, "%-14s %-28s %-16s %12zu %14llu\n\n", all.kind, "", "", all.parameters,
            (unsigned long long)all.multiply_adds);
}

/* -- the time ----------------------------------------------------------- */

struct timing {
    uint64_t steps;
    double seconds;
};

/* Trains on the first batches of the first epoch; what is learned is thrown away. */
static enum kd_status time_steps(struct kd_run *run, struct timing *timing)
{
    const uint64_t most = run->steps < STEPS ? run->steps : STEPS;
    const uint64_t warm_up = most > WARM_UP ? WARM_UP : 0;
    enum kd_status status = KD_EBUG;
    struct kd_epoch unused = {0};
    double started = kd_seconds();
    void *feed = NULL;

    KD_TRY(kd_stages_begin_epoch(run));
    kd_order_draw(&run->order, 1);
    kd_loader_begin(run->loader, 1, run->steps);
    for (uint64_t step = 0; step < most && timing->seconds < SECONDS; step++) {
        if (kd_interrupted()) {
            status = kd_fail_interrupted("timing");
            goto out;
        }
        if (step == warm_up)
            started = kd_seconds();
        KD_TRY(kd_loader_next(run->loader, &feed));
        KD_TRY(kd_run_step(run, feed, step, &unused));
        if (step < warm_up)
            continue;
        timing->steps++;
        timing->seconds = kd_seconds() - started;
    }
    status = KD_OK;
out:
    return status;
}

struct estimate {
    double step, epoch, all; /* seconds */
};

static struct estimate estimate_of(const struct kd_run *run,
                                   const struct timing *timing)
{
    struct estimate e;

    e.step = timing->seconds / (double)timing->steps;
    e.epoch = e.step * (double)run->steps;
    e.all = e.epoch * (double)run->recipe->all_epochs;
    return e;
}

static void write_estimate(const struct kd_run *run, const struct timing *timing,
                           FILE *to)
{
    const struct kd_recipe *r = run->recipe;
    const struct estimate e = estimate_of(run, timing);
    char one[32], all[32];

    kd_duration_text(e.epoch, one);
    kd_duration_text(e.all, all);
    fprintf(to, "%-16s %lu of an epoch, %u held out\n", "samples",
            (unsigned long)run->order.count, (unsigned)run->order.num_held);
    fprintf(to, "%-16s %llu of %llu samples\n", "steps of an epoch",
            (unsigned long long)run->steps, (unsigned long long)r->batch);
    for (size_t i = 0; i < r->num_stages && r->stage_list != NULL; i++) {
        const struct kd_stage *s = &r->stages[i];
        char stage[32];
        snprintf(stage, sizeof stage, "stage %zu", i + 1);
        fprintf(to, "%-16s %llu epochs, soft labels: %s\n", stage,
                (unsigned long long)s->epochs,
                s->labels != NULL ? s->labels : KD_LABELS_NONE);
    }
    fprintf(to, "%-16s %.1f MiB\n", "network's memory",
            (double)kd_graph_memory(run->net->graph) / MEGA);
    fprintf(to, "%-16s %.0f samples/s, over %llu steps\n", "speed",
            (double)r->batch / e.step, (unsigned long long)timing->steps);
    fprintf(to, "%-16s %s\n", "an epoch", one);
    fprintf(to, "%-16s %s, without measuring\n", "all epochs", all);
}

/* -- the same as JSON --------------------------------------------------- */

static void json_network(const struct kd_run *run, struct kd_json *json)
{
    const struct kd_graph *graph = run->net->graph;
    uint64_t parameters = 0, multiply_adds = 0;
    char arch[256];

    kd_arch_text(&run->net->arch, arch);
    kd_json_string(json, "network", arch);
    kd_json_begin(json, "layers", '[');
    for (size_t i = 0; i < kd_graph_num_layers(graph); i++) {
        struct kd_layer_facts facts;
        kd_graph_layer(graph, i, &facts);
        kd_json_begin(json, NULL, '{');
        kd_json_string(json, "layer", facts.kind);
        kd_json_string(json, "name", facts.name);
        kd_json_begin(json, "output", '[');
        kd_json_u64(json, NULL, facts.channels);
        kd_json_u64(json, NULL, facts.height);
        kd_json_u64(json, NULL, facts.width);
        kd_json_end(json);
        kd_json_u64(json, "parameters", facts.parameters);
        kd_json_u64(json, "multiply_adds", facts.multiply_adds);
        kd_json_end(json);
        parameters += facts.parameters;
        multiply_adds += facts.multiply_adds;
    }
    kd_json_end(json);
    kd_json_u64(json, "parameters", parameters);
    kd_json_u64(json, "multiply_adds", multiply_adds);
}

static void json_stages(const struct kd_recipe *r, struct kd_json *json)
{
    if (r->stage_list == NULL)
        return;
    kd_json_begin(json, "stages", '[');
    for (size_t i = 0; i < r->num_stages; i++) {
        const struct kd_stage *s = &r->stages[i];
        kd_json_begin(json, NULL, '{');
        kd_json_u64(json, "epochs", s->epochs);
        kd_json_string(json, "labels", s->labels != NULL ? s->labels : KD_LABELS_NONE);
        kd_json_end(json);
    }
    kd_json_end(json);
}

static enum kd_status write_json(const struct kd_run *run, const struct timing *timing,
                                 FILE *to)
{
    const struct estimate e = estimate_of(run, timing);
    struct kd_json *json = NULL;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_json_new(&json));
    kd_json_pretty(json);
    kd_json_begin(json, NULL, '{');
    json_network(run, json);
    kd_json_u64(json, "samples", run->order.count);
    kd_json_u64(json, "held_out", run->order.num_held);
    kd_json_u64(json, "steps", run->steps);
    kd_json_u64(json, "batch", run->recipe->batch);
    kd_json_u64(json, "epochs", run->recipe->all_epochs);
    json_stages(run->recipe, json);
    kd_json_u64(json, "network_bytes", kd_graph_memory(run->net->graph));
    kd_json_u64(json, "timed_steps", timing->steps);
    kd_json_f64(json, "samples_per_second", (double)run->recipe->batch / e.step);
    kd_json_f64(json, "epoch_seconds", e.epoch);
    kd_json_f64(json, "all_seconds", e.all);
    kd_json_end(json);
    KD_TRY(kd_json_write(json, to));
    status = KD_OK;
out:
    kd_json_free(json);
    return status;
}

static enum kd_status write_tables(const struct kd_run *run,
                                   const struct timing *timing, FILE *to)
{
    write_network(run, to);
    write_estimate(run, timing, to);
    return ferror(to) ? kd_fail_errno(KD_EIO, "cannot write the table") : KD_OK;
}

enum kd_status kd_train_rehearse(const struct kd_recipe *recipe, bool json, FILE *to)
{
    enum kd_status status = KD_EBUG;
    struct kd_run run = {.recipe = recipe, .directory = ""};
    struct timing timing = {0};

    KD_TRY(kd_run_open(&run));
    KD_TRY(time_steps(&run, &timing));
    KD_TRY(json ? write_json(&run, &timing, to) : write_tables(&run, &timing, to));
    status = KD_OK;
out:
    kd_run_close(&run);
    return status;
}
