/* SPDX-License-Identifier: MIT */
/* What a run will be: its members, memory, and time, from a few steps that are thrown
 * away. */
#include "peers/engine_internal.h"

#include "kd/json.h"
#include "kd/memory.h"
#include "kd/progress.h"

#include <stdio.h>
#include <stdlib.h>

/* Steps are timed until so many seconds are over, or so many of them; the first ones,
 * which fill caches and make kernels, do not count. */
#define SECONDS 1.0
#define STEPS   20
#define WARM_UP 2
#define MEGA    1048576.0

/* Seconds of a step. */
static enum kd_status time_steps(struct kd_peers *p, double *seconds)
{
    const uint64_t most = p->steps < STEPS ? p->steps : STEPS;
    const uint64_t warm_up = most > WARM_UP ? WARM_UP : 0;
    enum kd_status status = KD_EBUG;
    double started = kd_seconds(), taken = 0;
    uint64_t step = 0;

    kd_peers_begin_epoch(p);
    if (p->recipe->chosen->begin != NULL)
        KD_TRY(p->recipe->chosen->begin(p));
    for (; step < most && taken < SECONDS; step++) {
        if (kd_interrupted()) {
            status = kd_fail_interrupted("timing");
            goto out;
        }
        if (step == warm_up)
            started = kd_seconds();
        KD_TRY(kd_peers_begin_step(p, step));
        KD_TRY(p->recipe->chosen->step(p));
        if (step >= warm_up)
            taken = kd_seconds() - started;
    }
    *seconds = taken / (double)(step - warm_up);
    status = KD_OK;
out:
    return status;
}

static size_t bytes_of(const struct kd_peers *p)
{
    return kd_team_memory(p->learning) + kd_team_memory(p->measuring);
}

static double memory_of(const struct kd_peers *p)
{
    return (double)bytes_of(p) / MEGA;
}

enum kd_status kd_peers_forecast(struct kd_peers *p, char **text)
{
    const double left = (double)(p->recipe->base.all_epochs - p->private->done);
    char one[32], all[32];
    double step = 0;
    const enum kd_status status = time_steps(p, &step);

    if (status != KD_OK)
        return status;
    kd_duration_text(step * (double)p->steps, one);
    kd_duration_text(step * (double)p->steps * left, all);
    *text =
        kd_format("%s, %zu network%s: %.1f MiB, some %s an epoch, %s for the %.0f to "
                  "come, without measuring",
                  p->recipe->chosen->name, p->recipe->count,
                  p->recipe->count == 1 ? "" : "s", memory_of(p), one, all, left);
    return *text != NULL ? KD_OK : KD_EMEMORY;
}

/* -- the table ----------------------------------------------------------------- */

static size_t count_parameters(const struct kd_graph *graph)
{
    size_t count = 0;

    for (size_t i = 0; i < kd_graph_num_parameters(graph); i++)
        if (kd_graph_parameter(graph, i)->trained)
            count += kd_graph_parameter(graph, i)->count;
    return count;
}

static void write_team(const struct kd_peers *p, FILE *to)
{
    char arch[256];

    fprintf(to, "%-16s %s: %s\n", "method", p->recipe->chosen->name,
            p->recipe->chosen->help);
    for (size_t k = 0; k < p->recipe->count; k++) {
        kd_arch_text(&p->recipe->arch[k], arch);
        fprintf(to, "%-16s %s\n", p->recipe->name[k], arch);
    }
    fprintf(to, "\n%-24s %8s %12s %10s\n", "part", "batch", "parameters", "memory");
    for (size_t i = 0; i < p->learning->num_parts; i++) {
        const struct kd_part *part = p->learning->part[i];
        fprintf(to, "%-24s %8zu %12zu %6.1f MiB\n", part->name,
                kd_graph_batch(part->graph), count_parameters(part->graph),
                (double)kd_graph_memory(part->graph) / MEGA);
    }
}

static void write_estimate(const struct kd_peers *p, double step, FILE *to)
{
    const struct kd_recipe *r = &p->recipe->base;
    const struct kd_order *order = &p->private->order[0];
    const double epoch = step * (double)p->steps;
    char one[32], all[32];

    kd_duration_text(epoch, one);
    kd_duration_text(epoch * (double)r->all_epochs, all);
    fprintf(to, "\n%-16s %lu of an epoch, %u held out\n", "samples",
            (unsigned long)order->count, (unsigned)order->num_held);
    fprintf(to, "%-16s %llu of %llu samples\n", "steps of an epoch",
            (unsigned long long)p->steps, (unsigned long long)r->batch);
    fprintf(to, "%-16s %.1f MiB, with moments and what is measured\n", "memory",
            memory_of(p));
    fprintf(to, "%-16s %.0f samples/s\n", "speed", (double)r->batch / step);
    fprintf(to, "%-16s %s\n", "an epoch", one);
    fprintf(to, "%-16s %s, without measuring\n", "all epochs", all);
}

static enum kd_status write_tables(const struct kd_peers *p, double step, FILE *to)
{
    write_team(p, to);
    write_estimate(p, step, to);
    return ferror(to) ? kd_fail_errno(KD_EIO, "cannot write the table") : KD_OK;
}

/* -- the same as JSON ------------------------------------------------------------ */

static void json_team(const struct kd_peers *p, struct kd_json *json)
{
    char arch[256];

    kd_json_string(json, "method", p->recipe->chosen->name);
    kd_json_begin(json, "networks", '{');
    for (size_t k = 0; k < p->recipe->count; k++) {
        kd_arch_text(&p->recipe->arch[k], arch);
        kd_json_string(json, p->recipe->name[k], arch);
    }
    kd_json_end(json);
    kd_json_begin(json, "parts", '[');
    for (size_t i = 0; i < p->learning->num_parts; i++) {
        const struct kd_part *part = p->learning->part[i];
        kd_json_begin(json, NULL, '{');
        kd_json_string(json, "name", part->name);
        kd_json_u64(json, "batch", kd_graph_batch(part->graph));
        kd_json_u64(json, "parameters", count_parameters(part->graph));
        kd_json_u64(json, "bytes", kd_graph_memory(part->graph));
        kd_json_end(json);
    }
    kd_json_end(json);
}

static enum kd_status write_json(const struct kd_peers *p, double step, FILE *to)
{
    const struct kd_recipe *r = &p->recipe->base;
    const struct kd_order *order = &p->private->order[0];
    const double epoch = step * (double)p->steps;
    struct kd_json *json = NULL;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_json_new(&json));
    kd_json_pretty(json);
    kd_json_begin(json, NULL, '{');
    json_team(p, json);
    kd_json_u64(json, "samples", order->count);
    kd_json_u64(json, "held_out", order->num_held);
    kd_json_u64(json, "steps", p->steps);
    kd_json_u64(json, "batch", r->batch);
    kd_json_u64(json, "epochs", r->all_epochs);
    kd_json_u64(json, "memory_bytes", bytes_of(p));
    kd_json_f64(json, "samples_per_second", (double)r->batch / step);
    kd_json_f64(json, "epoch_seconds", epoch);
    kd_json_f64(json, "all_seconds", epoch * (double)r->all_epochs);
    kd_json_end(json);
    KD_TRY(kd_json_write(json, to));
    status = KD_OK;
out:
    kd_json_free(json);
    return status;
}

enum kd_status kd_peers_rehearse(const struct kd_peers_recipe *recipe, bool json,
                                 FILE *to)
{
    struct kd_peers_private own = {.directory = ""};
    struct kd_peers p = {.recipe = recipe, .private = &own};
    enum kd_status status = KD_EBUG;
    double step = 0;

    KD_TRY(kd_peers_open(&p));
    KD_TRY(time_steps(&p, &step));
    KD_TRY(json ? write_json(&p, step, to) : write_tables(&p, step, to));
    status = KD_OK;
out:
    kd_peers_close(&p);
    return status;
}
