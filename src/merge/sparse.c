/* SPDX-License-Identifier: MIT */
/* Sparse rows: the union of what the teachers keep, what each says of the classes that
 * it does not, and how far the merged row may be from that of whole rows. */
#include "kd/merge.h"

#include "kd/half.h"
#include "kd/memory.h"
#include "merge/policy_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A class that is among the outcomes because of nobody. */
#define NOBODY UINT32_MAX

/* What one teacher keeps of one class. */
struct kd_sparse_entry {
    uint32_t class, teacher;
    float value;
};

void kd_sparse_merge_clear(struct kd_sparse_merge *merge)
{
    free(merge->class_of);
    free(merge->merged);
    free(merge->values);
    free(merge->entries);
    *merge = (struct kd_sparse_merge){0};
}

/* -- which classes are outcomes ------------------------------------------------ */

static int compare(const void *a, const void *b)
{
    const struct kd_sparse_entry *x = a, *y = b;

    return x->class != y->class ? (x->class > y->class) - (x->class < y->class)
                                : (x->teacher > y->teacher) - (x->teacher < y->teacher);
}

static void sort(struct kd_sparse_entry *entries, size_t count)
{
    if (count > 1)
        qsort(entries, count, sizeof *entries, compare);
}

/* How many classes sorted entries are of. */
static size_t count_classes(const struct kd_sparse_entry *entries, size_t count)
{
    size_t classes = count > 0;

    for (size_t i = 1; i < count; i++)
        classes += entries[i].class != entries[i - 1].class;
    return classes;
}

/* Appends the `wanted` lowest classes that the sorted entries lack. */
static size_t pad(struct kd_sparse_entry *entries, size_t count, size_t wanted)
{
    const size_t there = count;
    size_t i = 0;

    for (uint32_t next = 0; wanted > 0; next++) {
        while (i < there && entries[i].class < next)
            i++;
        if (i < there && entries[i].class == next)
            continue;
        entries[count++] = (struct kd_sparse_entry){next, NOBODY, 0};
        wanted--;
    }
    return count;
}

static enum kd_status collect(struct kd_sparse_merge *merge, size_t teachers,
                              const struct kd_sparse_rows *rows, size_t *count)
{
    enum kd_status status = KD_EBUG;
    size_t most = 1 + rows->at_least, n = 0, there = 0;

    for (size_t m = 0; m < teachers; m++)
        most += rows->teacher[m].size;
    KD_TRY(
        kd_grow(&merge->entries, &merge->entry_capacity, most, sizeof *merge->entries));
    for (size_t m = 0; m < teachers; m++)
        for (size_t i = 0; i < rows->teacher[m].size; i++)
            merge->entries[n++] = (struct kd_sparse_entry){
                rows->teacher[m].index[i], (uint32_t)m, rows->teacher[m].values[i]};
    if (rows->needs_label && rows->label >= 0)
        merge->entries[n++] =
            (struct kd_sparse_entry){(uint32_t)rows->label, NOBODY, 0};
    sort(merge->entries, n);
    there = count_classes(merge->entries, n);
    if (there < rows->at_least) {
        n = pad(merge->entries, n, rows->at_least - there);
        sort(merge->entries, n);
        there = rows->at_least;
    }
    merge->outcomes = there + 1;
    *count = n;
out:
    return status;
}

/* -- what each teacher says of them -------------------------------------------- */

/* log of `mass` of the tail, as a value of the row; not lower than halves go, as in
 * kd_shard_read. */
static float share(const struct kd_sparse_row *row, double classes, double of)
{
    double value = -KD_HALF_MAX;

    if (classes > 0)
        value = (double)row->log_tail + (double)row->log_z + log(classes / of);
    return (float)fmax(value, -KD_HALF_MAX);
}

/* Every teacher's values for all outcomes. */
static void fill(struct kd_sparse_merge *merge, size_t teachers,
                 const struct kd_sparse_rows *rows, size_t count)
{
    const size_t n = merge->outcomes, rest = rows->classes - (n - 1);
    size_t at = 0;

    for (size_t m = 0; m < teachers; m++) {
        const struct kd_sparse_row *row = &rows->teacher[m];
        const double others = (double)(rows->classes - row->size);
        const float each = share(row, others > 0, others);
        float *values = merge->values + m * n;

        for (size_t c = 0; c + 1 < n; c++)
            values[c] = each;
        values[n - 1] = share(row, (double)rest, others);
    }
    for (size_t i = 0; i < count; i++) {
        const struct kd_sparse_entry *entry = &merge->entries[i];

        at += i > 0 && entry->class != entry[-1].class;
        merge->class_of[at] = entry->class;
        if (entry->teacher != NOBODY)
            merge->values[entry->teacher * n + at] = entry->value;
    }
    merge->class_of[n - 1] = KD_CLASS_REST;
}

/* -- how far from whole rows --------------------------------------------------- */

/* Whether the most probable class is known of every row, and so the votes are. */
static bool tops_are_kept(size_t teachers, const struct kd_sparse_rows *rows)
{
    for (size_t m = 0; m < teachers; m++)
        if (!rows->teacher[m].keeps_top)
            return false;
    return true;
}

bool kd_merge_plan_is_bounded(const struct kd_merge_plan *plan, bool keep_tops)
{
    const bool own = plan->weigh_at == 0 || plan->weigh_at == plan->temperature;

    for (size_t m = 0; m < plan->teachers; m++)
        if (plan->calibration[m] != 1)
            return false;
    switch (plan->policy) {
    case KD_POLICY_MEAN_PROB:
    case KD_POLICY_LEAVE_ONE_OUT:
    case KD_POLICY_BEST_OVERALL:
    case KD_POLICY_RANDOM:
    case KD_POLICY_ROUTE:
    case KD_POLICY_STACKED:
    case KD_POLICY_GREEDY:
        return true;
    case KD_POLICY_VOTE_SHARE:
        return keep_tops;
    case KD_POLICY_AGREEMENT:
        return keep_tops && plan->agree == KD_AGREE_VOTES;
    case KD_POLICY_CONFIDENCE:
        return keep_tops && own && plan->confidence == KD_CONFIDENCE_MAX;
    default:
        return false;
    }
}

double kd_sparse_bound(const struct kd_sparse_row *row, size_t filled)
{
    const double tail = exp((double)row->log_tail);
    float least = 0;

    if (filled == 0)
        return 0;
    if (!row->keeps_top)
        return tail;
    for (size_t i = 0; i < row->size; i++)
        least = fminf(least, row->values[i]);
    return fmin(tail, (double)filled * exp((double)least - (double)row->log_z));
}

/* The mean of the teachers' bounds with the weights that the row gave them. */
enum kd_status kd_merge_bound(const struct kd_merge_plan *plan,
                              const struct kd_policy_row *row, bool answered,
                              bool keep_tops, const double *each, double *bound)
{
    enum kd_status status = KD_OK;
    const struct kd_policy_rule *rule = kd_policy_rule(plan->policy);
    double weights[KD_MAX_TEACHERS];

    *bound = NAN;
    if (!kd_merge_plan_is_bounded(plan, keep_tops))
        return KD_OK;
    *bound = 0;
    if (!answered || plan->policy == KD_POLICY_VOTE_SHARE)
        return KD_OK;
    memcpy(weights, plan->weights, sizeof weights);
    if (rule->weigh != NULL)
        KD_TRY(rule->weigh(plan, row, weights));
    for (size_t m = 0; m < plan->teachers; m++)
        *bound += weights[m] * each[m];
out:
    return status;
}

enum kd_status kd_sparse_merge_row(struct kd_sparse_merge *merge,
                                   const struct kd_merge_plan *plan,
                                   const struct kd_sparse_rows *rows)
{
    enum kd_status status = KD_EBUG;
    struct kd_policy_row row = {.classes = rows->classes,
                                .label = rows->label,
                                .id = rows->id,
                                .view = rows->view};
    double each[KD_MAX_TEACHERS];
    size_t count = 0, values = 0;

    KD_TRY(collect(merge, plan->teachers, rows, &count));
    if (!kd_multiply(merge->outcomes, plan->teachers, &values))
        return kd_fail(KD_EMEMORY, "rows of %zu classes are too long",
                       merge->outcomes - 1);
    KD_TRY(kd_grow(&merge->class_of, &merge->class_capacity, merge->outcomes,
                   sizeof *merge->class_of));
    KD_TRY(kd_grow(&merge->merged, &merge->merged_capacity, merge->outcomes,
                   sizeof *merge->merged));
    KD_TRY(
        kd_grow(&merge->values, &merge->value_capacity, values, sizeof *merge->values));
    fill(merge, plan->teachers, rows, count);
    row.outcomes = merge->outcomes;
    row.class_of = merge->class_of;
    for (size_t m = 0; m < plan->teachers; m++) {
        row.values[m] = merge->values + m * merge->outcomes;
        row.row_max[m] = rows->teacher[m].row_max;
        row.log_z[m] = rows->teacher[m].log_z;
        each[m] = kd_sparse_bound(&rows->teacher[m],
                                  merge->outcomes - 1 - rows->teacher[m].size);
    }
    KD_TRY(kd_merge_row(plan, &row, merge->merged, &merge->answered));
    KD_TRY(kd_merge_bound(plan, &row, merge->answered,
                          tops_are_kept(plan->teachers, rows), each, &merge->bound));
out:
    return status;
}

void kd_sparse_calibrate(double by, size_t classes, float *values,
                         struct kd_sparse_row *row)
{
    const double others = (double)(classes - row->size);
    double kept = 0, rest = 0;

    if (by == 1)
        return;
    for (size_t i = 0; i < row->size; i++) {
        values[i] = (float)((double)values[i] / by);
        kept += exp((double)values[i]);
    }
    if (others > 0)
        rest = others *
               exp(((double)row->log_tail + (double)row->log_z - log(others)) / by);
    row->row_max = (float)((double)row->row_max / by);
    row->log_z = (float)log(kept + rest);
    row->log_tail = (float)log(rest / (kept + rest));
}
