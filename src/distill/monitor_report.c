/* SPDX-License-Identifier: MIT */
/* A finished student beside its teacher: the comparison, as tables and as JSON. */
#include "kd/monitor.h"

#include "distill/evaluate_internal.h"

#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

/* Classes in the table: those with the largest share behind. */
#define WORST 10

/* -- comparing ------------------------------------------------------------------ */

/* Whether a row is to be looked at before another; rows come by id and view. */
static bool comes_first(const struct kd_monitor_entry *entry, double loss)
{
    return entry->row.loss >= loss;
}

/* Keeps the rows with the largest losses, in order. */
static void list_row(struct kd_monitor_report *report,
                     const struct kd_monitor_entry *entry)
{
    size_t from = 0, to = report->listed;

    while (from < to) {
        const size_t middle = (from + to) / 2;
        if (comes_first(&report->entries[middle], entry->row.loss))
            from = middle + 1;
        else
            to = middle;
    }
    if (from == report->limit)
        return;
    if (report->listed < report->limit)
        report->listed++;
    memmove(report->entries + from + 1, report->entries + from,
            (report->listed - from - 1) * sizeof *report->entries);
    report->entries[from] = *entry;
}

static enum kd_status see_row(void *context, const struct kd_evaluated *at)
{
    struct kd_monitor_report *report = context;
    struct kd_monitor_entry entry = {.id = at->id, .view = at->view};

    if (report->each == NULL) {
        report->classes = at->classes;
        if (KD_NEW(report->each, at->classes) != KD_OK)
            return KD_EMEMORY;
    }
    kd_monitor_compare(at->p + at->stride, at->p, 0, at->classes, at->label,
                       &entry.row);
    kd_monitor_add(&report->all, &entry.row);
    if (at->label < 0)
        return KD_OK;
    kd_monitor_add(&report->each[at->label], &entry.row);
    if ((entry.row.flags & KD_MONITOR_TEACHER_RIGHT) &&
        !(entry.row.flags & KD_MONITOR_STUDENT_RIGHT))
        list_row(report, &entry);
    return KD_OK;
}

enum kd_status kd_monitor(const char *reference, const char *student,
                          const struct kd_monitor_options *options,
                          struct kd_monitor_report **report)
{
    enum kd_status status = KD_EBUG;
    const char *const names[] = {reference, student};
    const struct kd_evaluate_options how = {options->data, options->temperature, 0};
    struct kd_evaluation *evaluation = NULL;
    struct kd_monitor_report *made = NULL;

    KD_TRY(KD_NEW(made, 1));
    made->limit = options->limit;
    KD_TRY(KD_NEW(made->entries, options->limit));
    made->student = kd_copy_string(student);
    made->reference = kd_copy_string(reference);
    KD_TRY(made->student != NULL && made->reference != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_evaluate_each(
        names, 2, &how, &(struct kd_evaluate_visit){see_row, made, true}, &evaluation));
    made->temperature = evaluation->predictors[0].temperature;
    *report = made;
    made = NULL;
    status = KD_OK;
out:
    kd_evaluation_free(evaluation);
    kd_monitor_free(made);
    return status;
}

void kd_monitor_free(struct kd_monitor_report *report)
{
    if (report == NULL)
        return;
    free(report->student);
    free(report->reference);
    free(report->each);
    free(report->entries);
    free(report);
}

/* -- telling -------------------------------------------------------------------- */

static double share_behind(const struct kd_monitor_sums *sums)
{
    return sums->labelled > 0 ? (double)sums->behind / (double)sums->labelled : 0;
}

/* The classes that are behind in anything, worst first; returns how many of `most`. */
static size_t find_worst(const struct kd_monitor_report *report, size_t *worst,
                         size_t most)
{
    size_t count = 0;

    for (size_t c = 0; c < report->classes; c++) {
        const double share = share_behind(&report->each[c]);
        size_t at = count;
        while (at > 0 && share > share_behind(&report->each[worst[at - 1]]))
            at--;
        if (share <= 0 || at == most)
            continue;
        count += count < most;
        memmove(worst + at + 1, worst + at, (count - at - 1) * sizeof *worst);
        worst[at] = c;
    }
    return count;
}

static void write_shares(const struct kd_monitor_sums *sums, FILE *to)
{
    const double labelled = (double)sums->labelled;

    fprintf(to, " %9llu %10.4f %10.4f %10.4f %10.4f\n",
            (unsigned long long)sums->labelled, (double)sums->both_right / labelled,
            (double)sums->behind / labelled, (double)sums->outgrown / labelled,
            (double)sums->both_wrong / labelled);
}

static void write_classes(const struct kd_monitor_report *report, FILE *to)
{
    size_t worst[WORST];
    const size_t count = find_worst(report, worst, WORST);

    fprintf(to, "\n%-6s %9s %10s %10s %10s %10s\n", "class", "labelled", "both right",
            "behind", "outgrown", "both wrong");
    fprintf(to, "%-6s", "all");
    write_shares(&report->all, to);
    for (size_t i = 0; i < count; i++) {
        fprintf(to, "%-6zu", worst[i]);
        write_shares(&report->each[worst[i]], to);
    }
}

static void write_entries(const struct kd_monitor_report *report, FILE *to)
{
    fprintf(to, "\n%-12s %6s %7s %7s %7s %9s %9s %9s\n", "behind: id", "view", "label",
            "student", "teacher", "p(label)", "q(label)", "loss");
    for (size_t i = 0; i < report->listed; i++) {
        const struct kd_monitor_entry *e = &report->entries[i];
        fprintf(to, "%-12llu %6u %7d %7u %7u %9.4f %9.4f %9.4f\n",
                (unsigned long long)e->id, (unsigned)e->view, (int)e->row.label,
                (unsigned)e->row.student_best, (unsigned)e->row.teacher_best,
                e->row.student, e->row.teacher, e->row.loss);
    }
}

enum kd_status kd_monitor_write(const struct kd_monitor_report *report, FILE *to)
{
    const struct kd_monitor_sums *all = &report->all;
    const double rows = (double)all->rows;

    fprintf(to, "%s, compared with %s: %llu rows at temperature %g\n\n",
            report->student, report->reference, (unsigned long long)all->rows,
            report->temperature);
    fprintf(to, "%-24s %10.4f\n%-24s %10.4f\n%-24s %10.4f\n", "agreement",
            (double)all->agreeing / rows, "KL(teacher || student)", all->kl / rows,
            "total variation", all->variation / rows);
    if (all->labelled > 0)
        write_classes(report, to);
    if (report->listed > 0)
        write_entries(report, to);
    return ferror(to) ? kd_fail_errno(KD_EIO, "cannot write the table") : KD_OK;
}

static void json_class(const struct kd_monitor_report *report, size_t c,
                       struct kd_json *json)
{
    kd_json_begin(json, NULL, '{');
    kd_json_u64(json, "class", c);
    kd_json_u64(json, "labelled", report->each[c].labelled);
    kd_monitor_sums_json(&report->each[c], json);
    kd_json_end(json);
}

static void json_entry(const struct kd_monitor_entry *e, struct kd_json *json)
{
    kd_json_begin(json, NULL, '{');
    kd_json_u64(json, "id", e->id);
    kd_json_u64(json, "view", e->view);
    kd_json_i64(json, "label", e->row.label);
    kd_json_u64(json, "student_class", e->row.student_best);
    kd_json_u64(json, "teacher_class", e->row.teacher_best);
    kd_json_f64(json, "student", e->row.student);
    kd_json_f64(json, "teacher", e->row.teacher);
    kd_json_f64(json, "loss", e->row.loss);
    kd_json_f64(json, "kl", e->row.kl);
    kd_json_f64(json, "total_variation", e->row.variation);
    kd_json_end(json);
}

void kd_monitor_json(const struct kd_monitor_report *report, struct kd_json *json)
{
    kd_json_begin(json, NULL, '{');
    kd_json_string(json, "student", report->student);
    kd_json_string(json, "reference", report->reference);
    kd_json_f64(json, "temperature", report->temperature);
    kd_json_u64(json, "rows", report->all.rows);
    kd_json_u64(json, "labelled", report->all.labelled);
    kd_monitor_sums_json(&report->all, json);
    kd_json_begin(json, "classes", '[');
    for (size_t c = 0; c < report->classes; c++)
        json_class(report, c, json);
    kd_json_end(json);
    kd_json_begin(json, "behind_rows", '[');
    for (size_t i = 0; i < report->listed; i++)
        json_entry(&report->entries[i], json);
    kd_json_end(json);
    kd_json_end(json);
}
