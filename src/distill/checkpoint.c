/* SPDX-License-Identifier: MIT */
/* Checkpoints: all that a training run needs to go on as if nothing had happened. */
#include "distill/run_internal.h"

#include "kd/h5.h"
#include "kd/hash.h"
#include "kd/state.h"

#include <stdlib.h>
#include <string.h>

#define FORMAT  "kdcache-checkpoint"
#define VERSION 2

/* Whether the best epoch of each stage counts, not that of the run alone. */
static bool any_from_best(const struct kd_recipe *r)
{
    bool any = false;

    for (size_t i = 0; i < r->num_stages; i++)
        any |= r->stages[i].from_best;
    return any;
}

/* -- values beside the weights ------------------------------------------------ */

/* The optimiser's moments of one parameter. */
static enum kd_status move_moments(const struct kd_run *run, struct kd_h5 *file,
                                   size_t index, bool save)
{
    static const char *const groups[] = {"moments/1", "moments/2"};

    for (size_t m = 0; m < kd_optimizer_moments(run->optimizer); m++) {
        float *moment = kd_optimizer_moment(run->optimizer, index, m);
        enum kd_status status = KD_OK;
        if (moment != NULL)
            status =
                kd_state_move(file, groups[m],
                              kd_graph_parameter(run->net->graph, index), moment, save);
        if (status != KD_OK)
            return status;
    }
    return KD_OK;
}

static enum kd_status move_all_values(const struct kd_run *run, struct kd_h5 *file,
                                      bool save)
{
    enum kd_status status = KD_EBUG;

    for (size_t i = 0; i < kd_graph_num_parameters(run->net->graph); i++) {
        KD_TRY(move_moments(run, file, i, save));
        if (run->average != NULL)
            KD_TRY(kd_state_move(file, "average",
                                 kd_graph_parameter(run->net->graph, i),
                                 run->average[i], save));
    }
    status = KD_OK;
out:
    return status;
}

/* -- the checksum ------------------------------------------------------------- */

struct summing {
    struct kd_h5 *file;
    struct kd_hash *hash;
};

/* What was judged is kept under names of its own: "best_epoch", ... */
static void name_judgement(char name[32], const char *of, const char *value)
{
    snprintf(name, 32, "%s_%s", of, value);
}

static enum kd_status write_judgement(struct kd_h5 *file, const char *of,
                                      const struct kd_judgement *j)
{
    enum kd_status status = KD_EBUG;
    char name[32];

    name_judgement(name, of, "epoch");
    KD_TRY(kd_h5_set_u64(file, name, j->epoch));
    name_judgement(name, of, "accuracy");
    KD_TRY(kd_h5_set_f64(file, name, j->accuracy));
    name_judgement(name, of, "nll");
    KD_TRY(kd_h5_set_f64(file, name, j->nll));
    status = KD_OK;
out:
    return status;
}

static enum kd_status read_judgement(struct kd_h5 *file, const char *of,
                                     struct kd_judgement *j)
{
    enum kd_status status = KD_EBUG;
    char name[32];

    name_judgement(name, of, "epoch");
    KD_TRY(kd_h5_get_u64(file, name, &j->epoch));
    name_judgement(name, of, "accuracy");
    KD_TRY(kd_h5_get_f64(file, name, &j->accuracy));
    name_judgement(name, of, "nll");
    KD_TRY(kd_h5_get_f64(file, name, &j->nll));
    status = KD_OK;
out:
    return status;
}

static enum kd_status add_number(const struct summing *s, const char *name)
{
    double value = 0;
    const enum kd_status status = kd_h5_get_f64(s->file, name, &value);

    kd_hash_add_string(s->hash, name);
    kd_hash_add(s->hash, &value, sizeof value);
    return status;
}

static enum kd_status add_judgement(const struct summing *s, const char *of)
{
    static const char *const values[] = {"epoch", "accuracy", "nll"};
    enum kd_status status = KD_OK;
    char name[32];

    for (size_t i = 0; i < 3 && status == KD_OK; i++) {
        name_judgement(name, of, values[i]);
        status = add_number(s, name);
    }
    return status;
}

/* XXH3-128 of every array and attribute that is read again. */
static enum kd_status sum_up(struct kd_h5 *file, struct kd_digest *digest)
{
    enum kd_status status = KD_EBUG;
    struct summing s = {file, NULL};
    char *recipe = NULL;

    KD_TRY(kd_hash_new(&s.hash));
    KD_TRY(kd_h5_get_string(file, "recipe", &recipe));
    kd_hash_add_string(s.hash, recipe);
    KD_TRY(add_number(&s, "epoch"));
    KD_TRY(add_number(&s, "optimizer_steps"));
    KD_TRY(add_judgement(&s, "best"));
    if (kd_h5_has_attribute(file, "stage_best_epoch"))
        KD_TRY(add_judgement(&s, "stage_best"));
    if (kd_h5_has_attribute(file, "monitor_stale")) {
        KD_TRY(add_number(&s, "monitor_least"));
        KD_TRY(add_number(&s, "monitor_stale"));
    }
    KD_TRY(kd_state_hash_arrays(file, s.hash));
    kd_hash_digest(s.hash, digest);
    status = KD_OK;
out:
    kd_hash_free(s.hash);
    free(recipe);
    return status;
}

static enum kd_status check_sum(struct kd_h5 *file)
{
    struct kd_digest digest;
    const enum kd_status status = sum_up(file, &digest);

    return status == KD_OK ? kd_state_check_sum(file, &digest) : status;
}

/* -- writing ------------------------------------------------------------------ */

static enum kd_status write_all(const void *context, struct kd_h5 *file)
{
    const struct kd_run *run = context;
    enum kd_status status = KD_EBUG;
    const uint64_t shape[1] = {run->metrics_size};
    struct kd_digest digest;

    KD_TRY(kd_h5_set_string(file, "format", FORMAT));
    KD_TRY(kd_h5_set_u64(file, "format_version", VERSION));
    KD_TRY(kd_h5_set_string(file, "recipe", run->text));
    KD_TRY(kd_h5_set_u64(file, "epoch", run->epoch));
    KD_TRY(kd_h5_set_u64(file, "optimizer_steps", kd_optimizer_steps(run->optimizer)));
    KD_TRY(write_judgement(file, "best", &run->best));
    if (any_from_best(run->recipe))
        KD_TRY(write_judgement(file, "stage_best", &run->stage_best));
    KD_TRY(kd_h5_write(file, "metrics", KD_U8, 1, shape, run->metrics, NULL));
    KD_TRY(kd_model_write_parameters(file, "state_dict", run->net->graph));
    KD_TRY(move_all_values(run, file, true));
    KD_TRY(kd_watch_checkpoint(run, file));
    KD_TRY(sum_up(file, &digest));
    KD_TRY(kd_h5_set_string(file, "check", digest.hex));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_checkpoint_check(const struct kd_run *run)
{
    const struct kd_parameter *p = kd_graph_not_finite(run->net->graph);

    if (p == NULL)
        return KD_OK;
    return kd_fail(KD_EDATA,
                   "epoch %llu: %s is not finite: lower the learning rate (%g)",
                   (unsigned long long)run->epoch, p->name, run->stage->schedule.lr);
}

enum kd_status kd_checkpoint_save(const struct kd_run *run)
{
    const enum kd_status status = kd_checkpoint_check(run);

    return status == KD_OK ? kd_state_save(run->directory, write_all, run) : status;
}

/* -- reading ------------------------------------------------------------------ */

static enum kd_status read_all(void *context, struct kd_h5 *file)
{
    struct kd_run *run = context;
    enum kd_status status = KD_EBUG;
    uint64_t steps = 0;

    KD_TRY(kd_h5_expect_format(file, FORMAT, VERSION, "a checkpoint of this version"));
    KD_TRY(kd_state_check_recipe(file, run->text));
    KD_TRY(check_sum(file));
    KD_TRY(kd_h5_get_u64(file, "epoch", &run->epoch));
    KD_TRY(kd_h5_get_u64(file, "optimizer_steps", &steps));
    kd_optimizer_set_steps(run->optimizer, steps);
    KD_TRY(read_judgement(file, "best", &run->best));
    if (any_from_best(run->recipe))
        KD_TRY(read_judgement(file, "stage_best", &run->stage_best));
    if (run->epoch > run->recipe->all_epochs || run->best.epoch > run->epoch ||
        run->stage_best.epoch > run->epoch) {
        status = kd_fail(KD_EDATA, "%s: damaged: it is of epoch %llu", kd_h5_path(file),
                         (unsigned long long)run->epoch);
        goto out;
    }
    KD_TRY(kd_state_read_metrics(file, &run->metrics, &run->metrics_size));
    KD_TRY(kd_model_read_parameters(file, "state_dict", run->net->graph));
    KD_TRY(move_all_values(run, file, false));
    KD_TRY(kd_watch_go_on(run, file));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_checkpoint_load(struct kd_run *run)
{
    return kd_state_load(run->directory, read_all, run);
}
