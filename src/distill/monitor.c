/* SPDX-License-Identifier: MIT */
/* What the teacher sees of the student: a row, sums of rows, the record of samples. */
#include "kd/monitor.h"

#include "kd/memory.h"

#include <assert.h>
#include <math.h>

#define TINY 2e-38 /* as in the losses: below this nothing is told apart from 0 */

const char *const kd_monitor_uses[] = {"none",         "report", "weigh",
                                       "correct-only", "stop",   NULL};

/* -- a row -------------------------------------------------------------------- */

static size_t find_best(const float *p, size_t classes)
{
    size_t best = 0;

    for (size_t c = 1; c < classes; c++)
        best = p[c] > p[best] ? c : best;
    return best;
}

static double divergence(double q, double p)
{
    return q > 0 ? q * log(q / fmax(p, TINY)) : 0;
}

/* KL(q || p) and total variation, the bucket as one class. */
static void measure(const float *p, const float *q, double tail, size_t classes,
                    struct kd_monitor_row *row)
{
    double kl = 0, apart = 0, rest = 0;

    for (size_t c = 0; c < classes; c++) {
        if (q[c] < 0) {
            rest += (double)p[c];
            continue;
        }
        kl += divergence((double)q[c], (double)p[c]);
        apart += fabs((double)q[c] - (double)p[c]);
    }
    row->kl = kl + divergence(tail, rest);
    row->variation = (apart + fabs(tail - rest)) / 2;
}

void kd_monitor_compare(const float *p, const float *q, double tail, size_t classes,
                        int32_t label, struct kd_monitor_row *row)
{
    const size_t student = find_best(p, classes), teacher = find_best(q, classes);

    *row = (struct kd_monitor_row){.label = label,
                                   .student_best = (uint32_t)student,
                                   .teacher_best = (uint32_t)teacher,
                                   .flags = student == teacher ? KD_MONITOR_AGREES : 0,
                                   .student = -1,
                                   .teacher = -1,
                                   .loss = -1};
    measure(p, q, tail, classes, row);
    if (label < 0)
        return;
    row->flags |= KD_MONITOR_LABELLED;
    if (student == (size_t)label)
        row->flags |= KD_MONITOR_STUDENT_RIGHT;
    if (teacher == (size_t)label)
        row->flags |= KD_MONITOR_TEACHER_RIGHT;
    row->student = (double)p[label];
    row->teacher = fmax((double)q[label], 0);
    row->loss = 0 - log(fmax(row->student, TINY));
}

static bool is_behind(unsigned flags)
{
    return (flags & KD_MONITOR_TEACHER_RIGHT) && !(flags & KD_MONITOR_STUDENT_RIGHT);
}

/* -- sums --------------------------------------------------------------------- */

void kd_monitor_add(struct kd_monitor_sums *sums, const struct kd_monitor_row *row)
{
    const bool student = row->flags & KD_MONITOR_STUDENT_RIGHT;
    const bool teacher = row->flags & KD_MONITOR_TEACHER_RIGHT;

    sums->rows++;
    sums->agreeing += (row->flags & KD_MONITOR_AGREES) != 0;
    sums->kl += row->kl;
    sums->variation += row->variation;
    if (!(row->flags & KD_MONITOR_LABELLED))
        return;
    sums->labelled++;
    sums->both_right += student && teacher;
    sums->behind += !student && teacher;
    sums->outgrown += student && !teacher;
    sums->both_wrong += !student && !teacher;
}

void kd_monitor_sums_json(const struct kd_monitor_sums *sums, struct kd_json *json)
{
    const double rows = (double)sums->rows, labelled = (double)sums->labelled;

    if (sums->rows == 0)
        return;
    kd_json_f64(json, "agreement", (double)sums->agreeing / rows);
    kd_json_f64(json, "fidelity_kl", sums->kl / rows);
    kd_json_f64(json, "fidelity_tv", sums->variation / rows);
    if (sums->labelled == 0)
        return;
    kd_json_f64(json, "both_right", (double)sums->both_right / labelled);
    kd_json_f64(json, "behind", (double)sums->behind / labelled);
    kd_json_f64(json, "outgrown", (double)sums->outgrown / labelled);
    kd_json_f64(json, "both_wrong", (double)sums->both_wrong / labelled);
}

/* -- the record ---------------------------------------------------------------- */

void kd_record_add(struct kd_record *record, uint64_t id, uint64_t epoch,
                   const struct kd_monitor_row *row)
{
    const size_t i = (size_t)(id - record->first);
    const bool right = row->flags & KD_MONITOR_STUDENT_RIGHT;

    assert(id >= record->first && i < record->count);
    if (!right && (record->flags[i] & KD_MONITOR_STUDENT_RIGHT))
        record->forgotten[i]++;
    record->seen[i]++;
    record->right[i] += right;
    record->behind[i] += is_behind(row->flags);
    record->epoch[i] = (uint32_t)epoch;
    record->flags[i] = row->flags;
    record->student[i] = (float)row->student;
    record->teacher[i] = (float)row->teacher;
    record->loss[i] = (float)row->loss;
    record->kl[i] = (float)row->kl;
    record->gap[i] = (float)row->variation;
}

/* The gap of a sample; -1 where it was never compared. */
static double gap_of(const struct kd_record *r, uint64_t id)
{
    const uint64_t i = id - r->first;

    return id >= r->first && i < r->count && r->epoch[i] > 0 ? (double)r->gap[i] : -1;
}

void kd_record_weights(const struct kd_record *record, uint64_t first, size_t count,
                       float *weights)
{
    double sum = 0;
    size_t compared = 0;

    for (size_t i = 0; i < count; i++) {
        const double gap = gap_of(record, first + i);
        sum += fmax(gap, 0);
        compared += gap >= 0;
    }
    for (size_t i = 0; i < count; i++) {
        const double gap = gap_of(record, first + i);
        const bool weighed = gap >= 0 && sum > 0;
        weights[i] = weighed ? (float)(gap * (double)compared / sum) : 1;
    }
}
