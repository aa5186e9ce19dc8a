/* SPDX-License-Identifier: MIT */
/*
 * The table of policies, and a row's way through one: weigh the teachers, then pool
 * their rows. include/kd/policy.h has the formulas.
 */
#include "merge/policy_internal.h"

#include <float.h>
#include <math.h>

#define MEAN kd_pool_mean_prob
#define KEEP KD_KEEPS_ROWS

#define RULES(X)                                                                       \
    X(MEAN_PROB, "mean-prob", KD_TAKES_WEIGHTS, NULL, MEAN)                            \
    X(MEAN_LOGIT, "mean-logit", KD_TAKES_WEIGHTS | KD_NEEDS_LOGITS, NULL,              \
      kd_pool_mean_logit)                                                              \
    X(MEDIAN, "median", 0, NULL, kd_pool_median)                                       \
    X(TRIMMED_MEAN, "trimmed-mean", 0, NULL, kd_pool_trimmed_mean)                     \
    X(LEAVE_ONE_OUT, "leave-one-out", KD_TAKES_WEIGHTS, kd_weigh_all_but_one, MEAN)    \
    X(ENTROPY, "entropy", KD_TAKES_WEIGHTS | KD_MEASURES, kd_weigh_entropy, MEAN)      \
    X(LABEL_CONFIDENCE, "label-confidence",                                            \
      KD_TAKES_WEIGHTS | KD_MEASURES | KD_MEASURES_AT_ONE | KD_NEEDS_LABEL,            \
      kd_weigh_label_confidence, MEAN)                                                 \
    X(CONFIDENCE, "confidence", KD_TAKES_WEIGHTS | KD_MEASURES, kd_weigh_confidence,   \
      MEAN)                                                                            \
    X(CORRECT, "correct", KD_TAKES_WEIGHTS | KD_MEASURES | KD_NEEDS_LABEL,             \
      kd_weigh_correct, MEAN)                                                          \
    X(BEST_BY_LABEL, "best-by-label",                                                  \
      KEEP | KD_MEASURES | KD_MEASURES_AT_ONE | KD_NEEDS_LABEL, kd_choose_by_label,    \
      kd_pool_keep)                                                                    \
    X(BEST_OVERALL, "best-overall", KEEP, kd_choose_best, kd_pool_keep)                \
    X(RANDOM, "random", KEEP | KD_TAKES_WEIGHTS | KD_DRAWS, kd_choose_random,          \
      kd_pool_keep)                                                                    \
    X(ROUTE, "route", KEEP, kd_choose_route, kd_pool_keep)                             \
    X(VOTE, "vote", KD_TAKES_WEIGHTS, NULL, kd_pool_vote)                              \
    X(VOTE_SHARE, "vote-share", KD_TAKES_WEIGHTS, NULL, kd_pool_vote_share)            \
    X(AGREEMENT, "agreement", KD_TAKES_WEIGHTS | KD_FALLS_BACK, NULL,                  \
      kd_pool_agreement)                                                               \
    X(NOISY_VOTE, "noisy-vote", KD_DRAWS | KD_FALLS_BACK | KD_NEEDS_ALL_CLASSES, NULL, \
      kd_pool_noisy_vote)                                                              \
    X(STACKED, "stacked", KD_FITS_WEIGHTS, NULL, MEAN)                                 \
    X(GREEDY, "greedy", KD_FITS_WEIGHTS, NULL, MEAN)                                   \
    X(CLASS_WEIGHTS, "class-weights", KD_FITS_WEIGHTS | KD_FITS_MORE, NULL,            \
      kd_pool_class_weights)

#define RULE(id, name, traits, weigh, pool) [KD_POLICY_##id] = {traits, weigh, pool},
#define NAME(id, name, traits, weigh, pool) [KD_POLICY_##id] = name,
static const struct kd_policy_rule rules[] = {RULES(RULE)};
const char *const kd_policy_names[] = {RULES(NAME) NULL};

const struct kd_policy_rule *kd_policy_rule(enum kd_policy policy)
{
    return &rules[policy];
}

bool kd_policy_needs_logits(enum kd_policy policy)
{
    return (rules[policy].traits & KD_NEEDS_LOGITS) != 0;
}

bool kd_policy_needs_all_classes(enum kd_policy policy)
{
    return (rules[policy].traits & KD_NEEDS_ALL_CLASSES) != 0;
}

bool kd_policy_gives_logits(enum kd_policy policy, bool teachers_have_logits)
{
    return teachers_have_logits &&
           (rules[policy].traits & (KD_NEEDS_LOGITS | KD_KEEPS_ROWS)) != 0;
}

/* -- what policies share ------------------------------------------------------ */

size_t kd_policy_label(const struct kd_policy_row *row)
{
    const uint32_t label = (uint32_t)row->label;
    size_t c = 0;

    if (row->label < 0)
        return row->outcomes;
    if (row->class_of == NULL)
        return label < row->outcomes ? label : row->outcomes;
    while (c < row->outcomes && row->class_of[c] != label)
        c++;
    return c;
}

bool kd_policy_scale(double *weights, size_t n)
{
    double sum = 0;

    for (size_t m = 0; m < n; m++)
        sum += weights[m];
    for (size_t m = 0; m < n && sum > 0; m++)
        weights[m] /= sum;
    return sum > 0;
}

void kd_policy_normalize(float *out, size_t n)
{
    double top = -DBL_MAX, sum = 0;

    for (size_t c = 0; c < n; c++)
        top = fmax(top, (double)out[c]);
    for (size_t c = 0; c < n; c++)
        sum += exp((double)out[c] - top);
    for (size_t c = 0; c < n; c++)
        out[c] = (float)fmax((double)out[c] - top - log(sum), -FLT_MAX);
}

void kd_policy_one_hot(float *out, size_t n, size_t outcome)
{
    for (size_t c = 0; c < n; c++)
        out[c] = c == outcome ? 0 : -FLT_MAX;
}

enum kd_status kd_policy_fail(const struct kd_policy_row *row, const char *what)
{
    return kd_fail(KD_EDATA, "sample %llu, view %u: %s", (unsigned long long)row->id,
                   (unsigned)row->view, what);
}

/* -- a row's way --------------------------------------------------------------- */

/* The same share for every class: the rest has that of all it stands for. */
static void uniform(const struct kd_policy_row *row, float *out)
{
    const double each = -log((double)row->classes);
    const size_t rest = row->classes - (row->outcomes - 1);

    for (size_t c = 0; c < row->outcomes; c++)
        out[c] = (float)(kd_policy_class(row, c) != KD_CLASS_REST ? each
                         : rest > 0 ? each + log((double)rest)
                                    : -(double)FLT_MAX);
}

static enum kd_status fall_back(const struct kd_merge_plan *plan,
                                const struct kd_policy_row *row, float *out)
{
    const size_t label = kd_policy_label(row);

    if (plan->fallback == KD_FALLBACK_UNIFORM)
        uniform(row, out);
    else if (label < row->outcomes)
        kd_policy_one_hot(out, row->outcomes, label);
    else
        return kd_policy_fail(row, "the teachers give no answer, and there is no label "
                                   "to fall back to: use --fallback uniform");
    return KD_OK;
}

enum kd_status kd_merge_row(const struct kd_merge_plan *plan,
                            const struct kd_policy_row *row, float *out, bool *answered)
{
    enum kd_status status = KD_EBUG;
    const struct kd_policy_rule *rule = kd_policy_rule(plan->policy);
    double weights[KD_MAX_TEACHERS];

    if ((rule->traits & KD_NEEDS_LABEL) != 0 && kd_policy_label(row) == row->outcomes)
        return kd_policy_fail(row, "it has no label, which the policy weighs teachers "
                                   "by: use entropy or confidence");
    for (size_t m = 0; m < plan->teachers; m++)
        weights[m] = plan->weights[m];
    *answered = true;
    if (rule->weigh != NULL)
        KD_TRY(rule->weigh(plan, row, weights));
    KD_TRY(rule->pool(plan, row, weights, out, answered));
    if (!*answered)
        KD_TRY(fall_back(plan, row, out));
out:
    return status;
}

enum kd_status kd_merge_rows(const struct kd_merge_plan *plan,
                             const struct kd_policy_rows *rows, float *out,
                             bool *answered)
{
    enum kd_status status = KD_OK;
    struct kd_policy_row row = {.outcomes = rows->classes, .classes = rows->classes};
    bool there = false;

    for (size_t i = 0; i < rows->count && status == KD_OK; i++) {
        for (size_t m = 0; m < plan->teachers; m++) {
            row.values[m] = rows->values[m] + i * rows->classes;
            row.row_max[m] = rows->row_max[m][i];
            row.log_z[m] = rows->log_z[m][i];
        }
        row.label = rows->label[i];
        row.id = rows->id[i];
        row.view = rows->view[i];
        status = kd_merge_row(plan, &row, out + i * rows->classes, &there);
        if (answered != NULL)
            answered[i] = there;
    }
    return status;
}

/* Divides one row; returns its new log_z. */
static float calibrate_row(double by, size_t classes, float *values)
{
    double sum = 0;

    for (size_t c = 0; c < classes; c++) {
        values[c] = (float)fmax((double)values[c] / by, -FLT_MAX);
        sum += exp((double)values[c]);
    }
    return (float)log(sum);
}

void kd_calibrate_rows(double by, size_t count, size_t classes, float *values,
                       float *row_max, float *log_z)
{
    if (by == 1)
        return;
    for (size_t i = 0; i < count; i++) {
        log_z[i] = calibrate_row(by, classes, values + i * classes);
        row_max[i] = (float)fmax(fmin((double)row_max[i] / by, FLT_MAX), -FLT_MAX);
    }
}
