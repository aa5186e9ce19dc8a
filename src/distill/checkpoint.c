/* SPDX-License-Identifier: MIT */
/* Checkpoints: all that a training run needs to go on as if nothing had happened. */
#include "distill/run_internal.h"

#include "kd/file.h"
#include "kd/h5.h"
#include "kd/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORMAT "kdcache-checkpoint"

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

/* One parameter's velocity, to the file or from it. */
static enum kd_status move_velocity(const struct kd_run *run, struct kd_h5 *file,
                                    size_t index, bool save)
{
    enum kd_status status = KD_EBUG;
    const struct kd_parameter *p = kd_graph_parameter(run->net->graph, index);
    float *state = kd_optimizer_state(run->optimizer, index), *plain = NULL;
    char *name = kd_format("velocity/%s", p->name);
    const uint64_t shape[1] = {p->count};
    struct kd_array_info info;

    KD_TRY(name != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(KD_NEW(plain, p->count));
    if (save) {
        kd_parameter_get(p, state, plain);
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
        kd_parameter_set(p, plain, state);
    }
    status = KD_OK;
out:
    free(name);
    free(plain);
    return status;
}

static enum kd_status move_velocities(const struct kd_run *run, struct kd_h5 *file,
                                      bool save)
{
    for (size_t i = 0; i < kd_graph_num_parameters(run->net->graph); i++) {
        if (kd_optimizer_state(run->optimizer, i) == NULL)
            continue;
        const enum kd_status status = move_velocity(run, file, i, save);
        if (status != KD_OK)
            return status;
    }
    return KD_OK;
}

static enum kd_status write_all(const struct kd_run *run, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    const uint64_t shape[1] = {run->metrics_size};

    KD_TRY(kd_h5_set_string(file, "format", FORMAT));
    KD_TRY(kd_h5_set_u64(file, "format_version", 1));
    KD_TRY(kd_h5_set_string(file, "recipe", run->text));
    KD_TRY(kd_h5_set_u64(file, "epoch", run->epoch));
    KD_TRY(kd_h5_write(file, "metrics", KD_U8, 1, shape, run->metrics, NULL));
    KD_TRY(kd_model_write_parameters(file, "state_dict", run->net->graph));
    KD_TRY(move_velocities(run, file, true));
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
                               run->recipe->schedule.lr);
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

    KD_TRY(kd_h5_expect_format(file, FORMAT, 1, "a checkpoint"));
    KD_TRY(check_recipe(run, file));
    KD_TRY(kd_h5_get_u64(file, "epoch", &run->epoch));
    if (run->epoch > run->recipe->epochs) {
        status = kd_fail(KD_EDATA, "%s: damaged: it is of epoch %llu", kd_h5_path(file),
                         (unsigned long long)run->epoch);
        goto out;
    }
    KD_TRY(read_metrics(run, file));
    KD_TRY(kd_model_read_parameters(file, "state_dict", run->net->graph));
    KD_TRY(move_velocities(run, file, false));
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
