/* SPDX-License-Identifier: MIT */
/* Churn: how far retrains of one recipe are apart, pair by pair and in the mean. */
#include "kd/evaluate.h"

#include <math.h>
#include <stdio.h>

/* -- figures ---------------------------------------------------------------- */

struct kd_churn kd_churn_of_pair(const struct kd_evaluation *evaluation, size_t a,
                                 size_t b)
{
    const struct kd_evaluation *e = evaluation;
    const struct kd_pair_metrics *pair = &e->pairs[a * e->count + b];
    const double samples = (double)e->samples;

    return (struct kd_churn){1 - (double)pair->agreeing / samples,
                             pair->variation / samples};
}

struct kd_churn kd_churn_mean(const struct kd_evaluation *evaluation)
{
    const size_t count = evaluation->count;
    const double pairs = (double)count * (double)(count - 1) / 2;
    struct kd_churn mean = {0};

    for (size_t a = 0; a < count; a++)
        for (size_t b = a + 1; b < count; b++) {
            const struct kd_churn pair = kd_churn_of_pair(evaluation, a, b);
            mean.disagreement += pair.disagreement / pairs;
            mean.difference += pair.difference / pairs;
        }
    return mean;
}

/* Mean and deviation (of a sample of runs: n - 1) of the accuracies. */
static void find_accuracy(const struct kd_evaluation *e, double *mean,
                          double *deviation)
{
    struct kd_scores scores;
    double sum = 0, squares = 0;

    for (size_t i = 0; i < e->count; i++) {
        kd_metrics_scores(&e->predictors[i].metrics, &scores);
        sum += scores.accuracy;
    }
    *mean = sum / (double)e->count;
    for (size_t i = 0; i < e->count; i++) {
        kd_metrics_scores(&e->predictors[i].metrics, &scores);
        squares += (scores.accuracy - *mean) * (scores.accuracy - *mean);
    }
    *deviation = sqrt(squares / (double)(e->count - 1));
}

/* -- telling ------------------------------------------------------------------ */

static void write_churn(FILE *to, const struct kd_churn *churn)
{
    fprintf(to, " %10.4f %10.4f\n", churn->disagreement, churn->difference);
}

enum kd_status kd_churn_write(const struct kd_evaluation *evaluation, FILE *to)
{
    const struct kd_evaluation *e = evaluation;
    const struct kd_churn mean = kd_churn_mean(e);
    double accuracy = 0, deviation = 0;

    find_accuracy(e, &accuracy, &deviation);
    for (size_t i = 0; i < e->count; i++)
        fprintf(to, "%2zu %s\n", i + 1, e->predictors[i].name);
    fprintf(to, "\n%-7s %10s %10s\n", "pair", "churn", "difference");
    for (size_t a = 0; a < e->count; a++)
        for (size_t b = a + 1; b < e->count; b++) {
            const struct kd_churn pair = kd_churn_of_pair(e, a, b);
            fprintf(to, "%2zu, %2zu ", a + 1, b + 1);
            write_churn(to, &pair);
        }
    fprintf(to, "%-7s", "mean");
    write_churn(to, &mean);
    fprintf(to, "\n%llu samples", (unsigned long long)e->samples);
    if (e->left_out > 0)
        fprintf(to, ", %llu left out that not all have",
                (unsigned long long)e->left_out);
    if (e->labelled > 0)
        fprintf(to, "; accuracy %.4f, deviation %.4f", accuracy, deviation);
    fputc('\n', to);
    return ferror(to) ? kd_fail_errno(KD_EIO, "cannot write the table") : KD_OK;
}

void kd_churn_json(const struct kd_evaluation *evaluation, struct kd_json *json)
{
    const struct kd_evaluation *e = evaluation;
    const struct kd_churn mean = kd_churn_mean(e);
    double accuracy = 0, deviation = 0;

    find_accuracy(e, &accuracy, &deviation);
    kd_json_begin(json, NULL, '{');
    kd_json_u64(json, "samples", e->samples);
    kd_json_u64(json, "labelled", e->labelled);
    kd_json_u64(json, "left_out", e->left_out);
    kd_json_begin(json, "pairs", '[');
    for (size_t a = 0; a < e->count; a++)
        for (size_t b = a + 1; b < e->count; b++) {
            const struct kd_churn pair = kd_churn_of_pair(e, a, b);
            kd_json_begin(json, NULL, '{');
            kd_json_string(json, "a", e->predictors[a].name);
            kd_json_string(json, "b", e->predictors[b].name);
            kd_json_f64(json, "churn", pair.disagreement);
            kd_json_f64(json, "difference", pair.difference);
            kd_json_end(json);
        }
    kd_json_end(json);
    kd_json_f64(json, "churn_mean", mean.disagreement);
    kd_json_f64(json, "difference_mean", mean.difference);
    kd_json_f64(json, "accuracy_mean", accuracy);
    kd_json_f64(json, "accuracy_deviation", deviation);
    kd_json_end(json);
}
