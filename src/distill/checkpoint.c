/* SPDX-License-Identifier: MIT */
/* Checkpoints: all that a training run needs to go on as if nothing had happened. */
#include "distill/run_internal.h"

#include "kd/file.h"
#include "kd/h5.h"
#include "kd/hash.h"
#include "kd/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORMAT  "kdcache-checkpoint"
#define VERSION 2

static char *path_of(const struct kd_run *run)
{
    return kd_path_join(run->directory, "checkpoint.h5");
}

static enum kd_status check_finite(const struct kd_h5 *file, const char *name,
                                   const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return kd_fail(KD_EDATA, "%s: %s: element %zu is not a finite number",
                           kd_h5_path(file), name, i);
    return KD_OK;
}

/* -- values beside the weights ------------------------------------------------ */

/* Values of one parameter, in its layout, to the file or from it. */
static enum kd_status move_values(const struct kd_run *run, struct kd_h5 *file,
                                  const char *group, size_t index, float *values,
                                  bool save)
{
    enum kd_status status = KD_EBUG;
    const struct kd_parameter *p = kd_graph_parameter(run->net->graph, index);
    char *name = kd_format("%s/%s", group, p->name);
    const uint64_t shape[1] = {p->count};
    struct kd_array_info info;
    float *plain = NULL;

    KD_TRY(name != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(KD_NEW(plain, p->count));
    if (save) {
        kd_parameter_get(p, values, plain);
        KD_TRY(kd_h5_write(file, name, KD_F32, 1, shape, plain, NULL));
    } else {
        KD_TRY(kd_h5_info(file, name, &info));
        if (info.type != KD_F32 || info.count != p->count) {
            status = kd_fail(KD_EDATA, "%s: %s: not of this network", kd_h5_path(file),
                             name);
            goto out;
        }
        KD_TRY(kd_h5_read(file, name, &info, plain));
        KD_TRY(check_finite(file, name, plain, p->count));
        kd_parameter_set(p, plain, values);
    }
    status = KD_OK;
out:
    free(name);
    free(plain);
    return status;
}

/* The optimiser's moments of one parameter. */
static enum kd_status move_moments(const struct kd_run *run, struct kd_h5 *file,
                                   size_t index, bool save)
{
    static const char *const groups[] = {"moments/1", "moments/2"};

    for (size_t m = 0; m < kd_optimizer_moments(run->optimizer); m++) {
        float *moment = kd_optimizer_moment(run->optimizer, index, m);
        enum kd_status status = KD_OK;
        if (moment != NULL)
            status = move_values(run, file, groups[m], index, moment, save);
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
            KD_TRY(move_values(run, file, "average", i, run->average[i], save));
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

static enum kd_status add_array(void *context, const char *name)
{
    enum kd_status status = KD_EBUG;
    const struct summing *s = context;
    struct kd_array_info info;
    uint8_t *bytes = NULL;

    KD_TRY(kd_h5_info(s->file, name, &info));
    KD_TRY(KD_NEW(bytes, (size_t)info.bytes));
    KD_TRY(kd_h5_read(s->file, name, &info, bytes));
    kd_hash_add_string(s->hash, name);
    kd_hash_add_u64(s->hash, info.bytes);
    kd_hash_add(s->hash, bytes, (size_t)info.bytes);
    status = KD_OK;
out:
    free(bytes);
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
    KD_TRY(add_number(&s, "best_epoch"));
    KD_TRY(add_number(&s, "best_accuracy"));
    KD_TRY(add_number(&s, "best_nll"));
    KD_TRY(kd_h5_each(file, add_array, &s));
    kd_hash_digest(s.hash, digest);
    status = KD_OK;
out:
    kd_hash_free(s.hash);
    free(recipe);
    return status;
}

static enum kd_status check_sum(struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    struct kd_digest digest;
    char *kept = NULL;

    KD_TRY(kd_h5_get_string(file, "check", &kept));
    KD_TRY(sum_up(file, &digest));
    if (strcmp(kept, digest.hex) != 0) {
        status = kd_fail(KD_EDATA,
                         "%s: damaged: its checksum is another: remove the run's "
                         "directory and begin again",
                         kd_h5_path(file));
        goto out;
    }
    status = KD_OK;
out:
    free(kept);
    return status;
}

/* -- writing ------------------------------------------------------------------ */

static enum kd_status write_all(const struct kd_run *run, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    const uint64_t shape[1] = {run->metrics_size};
    struct kd_digest digest;

    KD_TRY(kd_h5_set_string(file, "format", FORMAT));
    KD_TRY(kd_h5_set_u64(file, "format_version", VERSION));
    KD_TRY(kd_h5_set_string(file, "recipe", run->text));
    KD_TRY(kd_h5_set_u64(file, "epoch", run->epoch));
    KD_TRY(kd_h5_set_u64(file, "optimizer_steps", kd_optimizer_steps(run->optimizer)));
    KD_TRY(kd_h5_set_u64(file, "best_epoch", run->best.epoch));
    KD_TRY(kd_h5_set_f64(file, "best_accuracy", run->best.accuracy));
    KD_TRY(kd_h5_set_f64(file, "best_nll", run->best.nll));
    KD_TRY(kd_h5_write(file, "metrics", KD_U8, 1, shape, run->metrics, NULL));
    KD_TRY(kd_model_write_parameters(file, "state_dict", run->net->graph));
    KD_TRY(move_all_values(run, file, true));
    KD_TRY(sum_up(file, &digest));
    KD_TRY(kd_h5_set_string(file, "check", digest.hex));
    status = KD_OK;
out:
    return status;
}

/* What has diverged is nothing to go on from. */
static enum kd_status check_parameters(const struct kd_run *run)
{
    for (size_t i = 0; i < kd_graph_num_parameters(run->net->graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(run->net->graph, i);
        for (size_t j = 0; j < p->size; j++)
            if (!isfinite(p->value[j]))
                return kd_fail(KD_EDATA,
                               "epoch %llu: %s is not finite: lower the learning rate "
                               "(%g)",
                               (unsigned long long)run->epoch, p->name,
                               run->stage->schedule.lr);
    }
    return KD_OK;
}

enum kd_status kd_checkpoint_save(const struct kd_run *run)
{
    enum kd_status status = KD_EBUG;
    struct kd_pending pending = {0};
    struct kd_h5 *file = NULL;
    char *path = path_of(run);

    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(check_parameters(run));
    KD_TRY(kd_pending_open(&pending, path));
    KD_TRY(kd_h5_create(pending.temporary, &file));
    KD_TRY(write_all(run, file));
    status = kd_h5_finish(file);
    file = NULL;
    KD_TRY(status);
    KD_TRY(kd_pending_commit(&pending));
    status = KD_OK;
out:
    kd_h5_close(file);
    kd_pending_abandon(&pending);
    free(path);
    return status;
}

/* -- reading ------------------------------------------------------------------ */

/* The first line in which two texts differ, cut out of them in place. */
static void first_difference(char **a, char **b)
{
    for (;;) {
        const size_t n = strcspn(*a, "\n"), m = strcspn(*b, "\n");
        const bool same = n == m && strncmp(*a, *b, n) == 0;
        if (!same || (*a)[n] == '\0' || (*b)[m] == '\0') {
            (*a)[n] = '\0';
            (*b)[m] = '\0';
            return;
        }
        *a += n + 1;
        *b += m + 1;
    }
}

static enum kd_status check_recipe(const struct kd_run *run, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    char *theirs = NULL, *ours = NULL;

    KD_TRY(kd_h5_get_string(file, "recipe", &theirs));
    ours = kd_copy_string(run->text);
    KD_TRY(ours != NULL ? KD_OK : KD_EMEMORY);
    if (strcmp(theirs, ours) != 0) {
        char *a = theirs, *b = ours;
        first_difference(&a, &b);
        status = kd_fail(KD_EUSAGE,
                         "%s: belongs to another run: '%s' there, '%s' here; choose "
                         "another directory or remove that one",
                         kd_h5_path(file), a, b);
        goto out;
    }
    status = KD_OK;
out:
    free(theirs);
    free(ours);
    return status;
}

static enum kd_status read_metrics(struct kd_run *run, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info info;
    char *text = NULL;

    KD_TRY(kd_h5_info(file, "metrics", &info));
    if (info.type != KD_U8 || info.rank != 1 || info.count > (1U << 30)) {
        status = kd_fail(KD_EDATA, "%s: metrics: damaged", kd_h5_path(file));
        goto out;
    }
    KD_TRY(KD_NEW(text, (size_t)info.count + 1));
    KD_TRY(kd_h5_read(file, "metrics", &info, text));
    free(run->metrics);
    run->metrics = text;
    run->metrics_size = (size_t)info.count;
    text = NULL;
    status = KD_OK;
out:
    free(text);
    return status;
}

static enum kd_status read_all(struct kd_run *run, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    uint64_t steps = 0;

    KD_TRY(kd_h5_expect_format(file, FORMAT, VERSION, "a checkpoint of this version"));
    KD_TRY(check_recipe(run, file));
    KD_TRY(check_sum(file));
    KD_TRY(kd_h5_get_u64(file, "epoch", &run->epoch));
    KD_TRY(kd_h5_get_u64(file, "optimizer_steps", &steps));
    kd_optimizer_set_steps(run->optimizer, steps);
    KD_TRY(kd_h5_get_u64(file, "best_epoch", &run->best.epoch));
    KD_TRY(kd_h5_get_f64(file, "best_accuracy", &run->best.accuracy));
    KD_TRY(kd_h5_get_f64(file, "best_nll", &run->best.nll));
    if (run->epoch > run->recipe->all_epochs || run->best.epoch > run->epoch) {
        status = kd_fail(KD_EDATA, "%s: damaged: it is of epoch %llu", kd_h5_path(file),
                         (unsigned long long)run->epoch);
        goto out;
    }
    KD_TRY(read_metrics(run, file));
    KD_TRY(kd_model_read_parameters(file, "state_dict", run->net->graph));
    KD_TRY(move_all_values(run, file, false));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_checkpoint_load(struct kd_run *run)
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;
    char *path = path_of(run);

    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    if (access(path, F_OK) == 0) {
        KD_TRY(kd_h5_open(path, &file));
        KD_TRY(read_all(run, file));
    }
    status = KD_OK;
out:
    kd_h5_close(file);
    free(path);
    return status;
}
