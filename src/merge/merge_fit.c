/* SPDX-License-Identifier: MIT */
/* Held-out rows on their way into a fit. */
#include "kd/fit.h"
#include "kd/log.h"
#include "kd/memory.h"
#include "kd/thread.h"
#include "merge/input_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* The rows of all teachers. */
struct slice {
    const struct kd_merge_input *inputs; /* [teachers] */
    const double *weights;               /* [teachers] as they were given */
    size_t teachers, count, classes;
    uint64_t begin;                                /* the first id */
    struct kd_merge_rows teacher[KD_MAX_TEACHERS]; /* [count] each */
};

static enum kd_status slice_init(struct slice *slice, const struct kd_merge_plan *plan)
{
    enum kd_status status = KD_EBUG;
    const struct kd_identity *of = &slice->inputs[0].identity;
    size_t values = 0;

    slice->teachers = plan->teachers;
    slice->begin = plan->holdout_begin;
    slice->classes = slice->inputs[0].classes;
    if (!kd_multiply((size_t)(plan->holdout_end - plan->holdout_begin), of->views,
                     &slice->count) ||
        !kd_multiply(slice->count, slice->classes, &values))
        return kd_fail(KD_EMEMORY, "the held-out rows do not fit into memory");
    for (size_t m = 0; m < slice->teachers; m++) {
        KD_TRY(KD_NEW(slice->teacher[m].values, values));
        KD_TRY(KD_NEW(slice->teacher[m].row_max, slice->count));
        KD_TRY(KD_NEW(slice->teacher[m].log_z, slice->count));
        KD_TRY(KD_NEW(slice->teacher[m].label, slice->count));
    }
out:
    return status;
}

static void slice_clear(struct slice *slice)
{
    for (size_t m = 0; m < slice->teachers; m++) {
        free(slice->teacher[m].values);
        free(slice->teacher[m].row_max);
        free(slice->teacher[m].log_z);
        free(slice->teacher[m].label);
    }
}

/* Reads the slice's rows first .. end-1; runs on the compute threads. */
static enum kd_status read_range(void *context, size_t first, size_t end)
{
    enum kd_status status = KD_EBUG;
    struct slice *slice = context;
    const struct kd_identity *of = &slice->inputs[0].identity;
    const uint64_t id = slice->begin + first / of->views;
    const uint32_t view = of->first_view + (uint32_t)(first % of->views);

    for (size_t m = 0; m < slice->teachers; m++) {
        const struct kd_merge_rows *all = &slice->teacher[m];
        const struct kd_merge_rows to = {all->values + first * slice->classes,
                                         all->row_max + first,
                                         all->log_z + first,
                                         all->label + first,
                                         NULL,
                                         NULL};

        KD_TRY(kd_merge_input_read(&slice->inputs[m], id, view, end - first, &to));
    }
    for (size_t i = first; i < end; i++)
        KD_TRY(kd_merge_complete(slice->inputs, slice->teachers, slice->weights,
                                 slice->teacher, i));
    status = KD_OK;
out:
    return status;
}

/* Every held-out row has a label: the first teacher's, or of who knows it. */
static enum kd_status find_labels(struct slice *slice)
{
    int32_t *label = slice->teacher[0].label;

    for (size_t i = 0; i < slice->count; i++) {
        for (size_t m = 1; m < slice->teachers && label[i] < 0; m++)
            label[i] = slice->teacher[m].label[i];
        if (label[i] < 0)
            return kd_fail(KD_EDATA,
                           "--holdout: sample %llu has no label, which fits need",
                           (unsigned long long)(slice->begin +
                                                i / slice->inputs[0].identity.views));
    }
    return KD_OK;
}

/* A line for people; the shards hold it, too. */
static enum kd_status report(const struct kd_merge_plan *plan, size_t rows,
                             size_t classes)
{
    char text[sizeof((struct kd_identity *)NULL)->policy_parameters];
    enum kd_status status = kd_merge_plan_text(plan, 0, classes, text, sizeof text);

    if (status == KD_OK)
        kd_log(KD_LOG_INFO, "fitted on %zu rows: %s", rows, text);
    return status;
}

enum kd_status kd_merge_fit(struct kd_merge_plan *plan, const double *weights,
                            const struct kd_merge_input *inputs)
{
    enum kd_status status = KD_EBUG;
    struct slice slice = {.inputs = inputs, .weights = weights};
    const float *values[KD_MAX_TEACHERS];

    KD_TRY(slice_init(&slice, plan));
    KD_TRY(kd_parallel(slice.count, 8, read_range, &slice));
    KD_TRY(find_labels(&slice));
    for (size_t m = 0; m < slice.teachers; m++)
        values[m] = slice.teacher[m].values;
    KD_TRY(kd_fit_plan(plan, &(struct kd_fit_rows){.count = slice.count,
                                                   .teachers = slice.teachers,
                                                   .classes = slice.classes,
                                                   .temperature = plan->temperature,
                                                   .values = values,
                                                   .label = slice.teacher[0].label}));
    KD_TRY(report(plan, slice.count, slice.classes));
out:
    slice_clear(&slice);
    return status;
}
