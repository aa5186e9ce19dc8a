/* SPDX-License-Identifier: MIT */
/*
 * Monitoring: the teacher watches the student. Row by row, what a student says is
 * compared with its soft labels and with the truth.
 *
 * With p the student's probabilities and q the teacher's, both at temperature T, and y
 * the label, a row is one of
 *
 *     both right   argmax p = y,  argmax q = y
 *     behind       argmax p != y, argmax q = y: the teacher knows what the student
 *                  has yet to learn
 *     outgrown     argmax p = y,  argmax q != y: the student knows better
 *     both wrong   argmax p != y, argmax q != y
 *
 * (among equals the lowest class counts; of a sample mixed from two the label with the
 * larger share), and of all rows
 *
 *     agreement    [argmax p = argmax q]
 *     fidelity     KL(q || p) = sum_c q_c log(q_c / p_c) in nats, and the total
 *                  variation sum_c |q_c - p_c| / 2: how well the student copies, right
 *                  or wrong (Stanton et al. 2021, arXiv 2106.05945)
 *
 * are means. Classes in the bucket of a sparse row (kd/soft.h) are one class; a
 * student's probability below 2e-38 counts as that. Soft labels that are logits
 * (distance mse) are compared at T = 1. Rows without soft labels are not compared.
 *
 * In training (`monitor:` in a recipe) the student's side is the logits that each step
 * computes anyway, in training mode, on the views that are trained on: nothing is run
 * twice. The lines of metrics.jsonl get `agreement`, `fidelity_kl`, `fidelity_tv`,
 * `both_right`, `behind`, `outgrown`, `both_wrong`. What comes of it is the recipe's
 * `monitor: {use: ...}`:
 *
 *   - report: nothing but that, and the record.
 *   - weigh: the soft loss of sample i is multiplied by w_i = g_i / mean(g), g_i the
 *     total variation when the sample was last compared, in an earlier epoch; 1 before
 *     that. The mean is over the samples that have been compared, so w is 1 in the
 *     mean. It is bounded where KL is not; a formula of our own, in the spirit of
 *     weighted soft labels (Zhou et al. 2021, arXiv 2102.00650), which take the ratio
 *     of the two cross-entropies. `from: EARLIER/monitor.h5` takes g from the record of
 *     an earlier run, the same in every epoch.
 *   - correct-only: where argmax q != y the soft label is dropped, and the row is
 *     trained on its label at weight hard + soft, as under the rule hard-label of rows
 *     that a cache lacks (kd/loss.h).
 *   - stop: a stage ends when `patience` epochs in a row have gained nothing. An epoch
 *     gains something if its share `behind` is below the least of the stage's epochs
 *     before it, and `outgrown` is not above `behind`: while the student catches up,
 *     and is not past its teacher. Epochs of the stage that are not trained are
 *     skipped: the next stage begins with the number that it would have had.
 *
 * A stage may say `monitor: stop` and `monitor-patience: 3` for itself; one without
 * soft labels is not watched.
 *
 * The record has one entry a sample, overwritten by each epoch, and counts of what
 * happened; monitor.h5 in the run's directory, when the run is done:
 *
 *     /id         u64 [N]  all samples of the data, held out or not
 *     /epoch      u32 [N]  when it was last compared; 0: never, all else is 0 then
 *     /flags      u8  [N]  enum kd_monitor_flags
 *     /student    f32 [N]  p(y), /teacher q(y); -1 without a label
 *     /loss       f32 [N]  -log p(y), at T; -1 without a label
 *     /kl         f32 [N]  KL(q || p), /gap their total variation
 *     /seen       u32 [N]  times it was compared, /right times that the student was
 *                          right, /behind times that it was behind
 *     /forgotten  u32 [N]  times that it was right, and wrong the next time (Toneva et
 *                          al. 2019, arXiv 1812.05159)
 *
 * with the attributes `format` "kdcache-monitor", `format_version` 1, `dataset_digest`,
 * `check` (XXH3-128 of the arrays), `history`.
 *
 * Of a student that is done:
 *
 *     struct kd_monitor_report *report = NULL;
 *     KD_TRY(kd_monitor("soft-labels", "student/model.h5", &options, &report));
 *     KD_TRY(kd_monitor_write(report, stdout));
 *     kd_monitor_free(report);
 */
#ifndef KD_MONITOR_H
#define KD_MONITOR_H

#include "kd/hash.h"
#include "kd/json.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define KD_RECORD_FORMAT "kdcache-monitor"

enum kd_monitor_use {
    KD_MONITOR_NONE,
    KD_MONITOR_REPORT,
    KD_MONITOR_WEIGH,
    KD_MONITOR_CORRECT_ONLY,
    KD_MONITOR_STOP
};

/* "none", "report", "weigh", "correct-only", "stop", ended by NULL. */
extern const char *const kd_monitor_uses[];

/* -- rows --------------------------------------------------------------------- */

enum kd_monitor_flags {
    KD_MONITOR_LABELLED = 1,
    KD_MONITOR_STUDENT_RIGHT = 2,
    KD_MONITOR_TEACHER_RIGHT = 4,
    KD_MONITOR_AGREES = 8
};

/* One row, compared. */
struct kd_monitor_row {
    int32_t label;
    uint32_t student_best, teacher_best;
    uint8_t flags;
    double student, teacher; /* p(y), q(y); -1 without a label */
    double loss;             /* -log p(y); -1 without a label */
    double kl, variation;
};

/* Compares p with q [classes]; q is -1 for classes of a bucket, whose mass `tail` is.
 * Label -1: unknown. */
void kd_monitor_compare(const float *p, const float *q, double tail, size_t classes,
                        int32_t label, struct kd_monitor_row *row);

/* Sums over rows, all 0 at first. */
struct kd_monitor_sums {
    uint64_t rows, agreeing;
    uint64_t labelled; /* the four add up to it */
    uint64_t both_right, behind, outgrown, both_wrong;
    double kl, variation;
};
void kd_monitor_add(struct kd_monitor_sums *sums, const struct kd_monitor_row *row);

/* Agreement, fidelity and, where there are labelled rows, shares as members of an
 * object that the caller has begun; nothing without rows. */
void kd_monitor_sums_json(const struct kd_monitor_sums *sums, struct kd_json *json);

/* -- the record ---------------------------------------------------------------- */

/* Ids first to first+count-1 of a dataset; arrays [count] as in the file. */
struct kd_record {
    struct kd_digest dataset;
    uint64_t first;
    size_t count;
    uint32_t *epoch;
    uint8_t *flags;
    float *student, *teacher, *loss, *kl, *gap;
    uint32_t *seen, *right, *behind, *forgotten;
};

/* An empty record; `dataset`, `first` and `count` are set. To be cleared on failure
 * too. */
enum kd_status kd_record_init(struct kd_record *record) KD_CHECKED;
void kd_record_clear(struct kd_record *record);

/* Takes down what a row of sample `id` was in an epoch (from 1). */
void kd_record_add(struct kd_record *record, uint64_t id, uint64_t epoch,
                   const struct kd_monitor_row *row);

/* The weights w [count] of the ids from `first` on: g / mean(g), the mean over those of
 * them that the record has compared; 1 for the others, and for all if no g is above 0.
 */
void kd_record_weights(const struct kd_record *record, uint64_t first, size_t count,
                       float *weights);

/* Writes the file whole or not at all; `history` is for people. Reading checks it:
 * KD_EDATA where it is damaged or no record. */
enum kd_status kd_record_save(const struct kd_record *record, const char *path,
                              const char *history) KD_CHECKED;
enum kd_status kd_record_load(const char *path, struct kd_record *record) KD_CHECKED;

/* Says what a record's file has on the whole, as kd-info prints it: lines of text to
 * `to`, or if `json` is not NULL the members of an object that the caller has begun. */
enum kd_status kd_record_report(const char *path, struct kd_json *json,
                                FILE *to) KD_CHECKED;

/* -- a finished student ---------------------------------------------------------- */

struct kd_monitor_options {
    const char *data; /* a DATASET; NULL: two caches, and the samples that they have */
    double temperature; /* of both; 0: the reference's own */
    size_t limit;       /* of what is listed */
};

/* A row to look at. */
struct kd_monitor_entry {
    uint64_t id;
    uint32_t view;
    struct kd_monitor_row row;
};

struct kd_monitor_report {
    char *student, *reference; /* names as they were given */
    double temperature;
    size_t classes;
    struct kd_monitor_sums all;
    struct kd_monitor_sums *each; /* [classes] by label */
    size_t limit, listed;
    struct kd_monitor_entry *entries; /* [listed] rows that are behind, those with the
                                         largest loss first, then by id and view */
};

/* Compares a student, a network or a cache of its logits, with the cache `reference`,
 * over the samples and views that kd_evaluate would take for these two. KD_EUSAGE and
 * KD_EDATA as there. */
enum kd_status kd_monitor(const char *reference, const char *student,
                          const struct kd_monitor_options *options,
                          struct kd_monitor_report **report) KD_CHECKED;
void kd_monitor_free(struct kd_monitor_report *report); /* NULL is fine */

/* For people: the figures, the classes with the largest share behind, and the rows to
 * look at. All classes in one JSON object. */
enum kd_status kd_monitor_write(const struct kd_monitor_report *report,
                                FILE *to) KD_CHECKED;
void kd_monitor_json(const struct kd_monitor_report *report, struct kd_json *json);

#endif
