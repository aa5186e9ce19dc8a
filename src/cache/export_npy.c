/* SPDX-License-Identifier: MIT */
/* Exports as arrays: a directory of .npy files, or one .safetensors. */
#include "cache/export_internal.h"

#include "kd/memory.h"
#include "kd/npy.h"
#include "kd/options.h"
#include "kd/safetensors.h"

#include <stdlib.h>
#include <unistd.h>

enum part { PART_ID, PART_VIEW, PART_LABEL, PART_VALUES, PART_COUNT };

/* -- .npy ------------------------------------------------------------------- */

struct npy {
    const struct kd_export_plan *plan;
    struct kd_lock lock;
    char *values_name; /* "logits.npy" */
    struct kd_out out[PART_COUNT];
};

static void npy_close(void *inside)
{
    struct npy *npy = inside;

    for (int i = 0; i < PART_COUNT; i++)
        kd_out_close(&npy->out[i]);
    kd_lock_close(&npy->lock);
    free(npy->values_name);
    free(npy);
}

static enum kd_status npy_add(void *inside, const struct kd_export_rows *rows)
{
    enum kd_status status = KD_EBUG;
    struct npy *npy = inside;
    const size_t values = rows->count * npy->plan->classes;

    KD_TRY(kd_out_write(&npy->out[PART_ID], rows->id, rows->count * sizeof *rows->id));
    KD_TRY(kd_out_write(&npy->out[PART_VIEW], rows->view,
                        rows->count * sizeof *rows->view));
    KD_TRY(kd_out_write(&npy->out[PART_LABEL], rows->label,
                        rows->count * sizeof *rows->label));
    KD_TRY(kd_out_write(&npy->out[PART_VALUES], rows->values, values * sizeof(float)));
out:
    return status;
}

/* The values come last: where they are, the others are too, and belong to them. */
static enum kd_status npy_commit(void *inside, char **made)
{
    enum kd_status status = KD_EBUG;
    struct npy *npy = inside;

    for (int i = 0; i < PART_COUNT; i++)
        KD_TRY(kd_out_check(&npy->out[i]));
    for (int i = 0; i < PART_COUNT; i++)
        KD_TRY(kd_out_commit(&npy->out[i]));
    *made = kd_copy_string(npy->plan->to);
    status = *made != NULL ? KD_OK : KD_EMEMORY;
out:
    return status;
}

/* Values of another kind, which these ids would not belong to. */
static enum kd_status check_others(const struct kd_export_plan *plan)
{
    enum kd_status status = KD_OK;

    for (int i = 0; kd_values_names[i] != NULL && status == KD_OK; i++) {
        char *path = kd_format("%s/%s.npy", plan->to, kd_values_names[i]);

        if (path == NULL)
            status = KD_EMEMORY;
        else if (i != (int)plan->values && access(path, F_OK) == 0)
            status = kd_fail(KD_ECREATE,
                             "%s: is there from another export: choose "
                             "another directory or remove it",
                             path);
        free(path);
    }
    return status;
}

static enum kd_status npy_open_part(struct npy *npy, enum part part, const char *name,
                                    enum kd_type type)
{
    enum kd_status status = KD_EBUG;
    const uint64_t shape[] = {npy->plan->rows, npy->plan->classes};
    char header[256];
    const size_t size = kd_npy_header(type, part == PART_VALUES ? 2 : 1, shape, header);

    KD_TRY(kd_out_open(&npy->out[part], npy->plan->to, name));
    KD_TRY(kd_out_write(&npy->out[part], header, size));
out:
    return status;
}

enum kd_status kd_export_to_npy(const struct kd_export_plan *plan, struct kd_sink *sink)
{
    enum kd_status status = KD_EBUG;
    struct npy *npy = NULL;

    KD_TRY(KD_NEW(npy, 1));
    npy->plan = plan;
    npy->lock.fd = -1;
    *sink = (struct kd_sink){npy, npy_add, npy_commit, npy_close};
    npy->values_name = kd_format("%s.npy", kd_values_names[plan->values]);
    KD_TRY(npy->values_name != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_make_directory(plan->to));
    KD_TRY(kd_lock_open(&npy->lock, plan->to));
    KD_TRY(check_others(plan));
    KD_TRY(npy_open_part(npy, PART_ID, "id.npy", KD_U64));
    KD_TRY(npy_open_part(npy, PART_VIEW, "view.npy", KD_U32));
    KD_TRY(npy_open_part(npy, PART_LABEL, "label.npy", KD_I32));
    KD_TRY(npy_open_part(npy, PART_VALUES, npy->values_name, KD_F32));
out:
    return status;
}

/* -- .safetensors ----------------------------------------------------------- */

struct tensors {
    const struct kd_export_plan *plan;
    struct kd_safetensors_writer *writer;
    int64_t *integers; /* [capacity] ids and views, as programs know them */
    size_t capacity;
};

static void tensors_close(void *inside)
{
    struct tensors *tensors = inside;

    kd_safetensors_abandon(tensors->writer);
    free(tensors->integers);
    free(tensors);
}

static enum kd_status tensors_add(void *inside, const struct kd_export_rows *rows)
{
    enum kd_status status = KD_EBUG;
    struct tensors *t = inside;
    const size_t values = rows->count * t->plan->classes;

    KD_TRY(kd_grow(&t->integers, &t->capacity, rows->count, sizeof *t->integers));
    for (size_t i = 0; i < rows->count; i++)
        t->integers[i] = (int64_t)rows->id[i];
    KD_TRY(kd_safetensors_append(t->writer, PART_ID, t->integers,
                                 rows->count * sizeof *t->integers));
    for (size_t i = 0; i < rows->count; i++)
        t->integers[i] = (int64_t)rows->view[i];
    KD_TRY(kd_safetensors_append(t->writer, PART_VIEW, t->integers,
                                 rows->count * sizeof *t->integers));
    KD_TRY(kd_safetensors_append(t->writer, PART_LABEL, rows->label,
                                 rows->count * sizeof *rows->label));
    KD_TRY(kd_safetensors_append(t->writer, PART_VALUES, rows->values,
                                 values * sizeof(float)));
out:
    return status;
}

static enum kd_status tensors_commit(void *inside, char **made)
{
    struct tensors *t = inside;
    const enum kd_status status = kd_safetensors_commit(t->writer);

    t->writer = NULL;
    if (status != KD_OK)
        return status;
    *made = kd_copy_string(t->plan->to);
    return *made != NULL ? KD_OK : KD_EMEMORY;
}

enum kd_status kd_export_to_safetensors(const struct kd_export_plan *plan,
                                        struct kd_sink *sink)
{
    enum kd_status status = KD_EBUG;
    struct tensors *t = NULL;
    char temperature[KD_TEXT_F64];
    const char *values = kd_values_names[plan->values];
    const uint64_t rows = plan->rows, classes = plan->classes;
    const struct kd_safetensor parts[PART_COUNT] = {
        {"id", {.type = KD_I64, .rank = 1, .shape = {rows}}, NULL},
        {"view", {.type = KD_I64, .rank = 1, .shape = {rows}}, NULL},
        {"label", {.type = KD_I32, .rank = 1, .shape = {rows}}, NULL},
        {values, {.type = KD_F32, .rank = 2, .shape = {rows, classes}}, NULL}};
    const char *metadata[] = {"augment",
                              plan->identity->augment,
                              "dataset_digest",
                              plan->identity->dataset_digest.hex,
                              "format",
                              "kdcache-export",
                              "teacher_name",
                              plan->identity->teacher_name,
                              "values",
                              values,
                              "temperature",
                              temperature,
                              NULL};

    kd_text_f64(plan->temperature, temperature);
    if (plan->values == KD_LOGITS) /* which have none */
        metadata[sizeof metadata / sizeof metadata[0] - 3] = NULL;
    KD_TRY(KD_NEW(t, 1));
    t->plan = plan;
    *sink = (struct kd_sink){t, tensors_add, tensors_commit, tensors_close};
    KD_TRY(kd_safetensors_create(plan->to, parts, PART_COUNT, metadata, &t->writer));
out:
    return status;
}
