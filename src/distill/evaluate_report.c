/* SPDX-License-Identifier: MIT */
/* What an evaluation found: as tables, and as JSON. */
#include "kd/evaluate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* -- tables ----------------------------------------------------------------- */

/* Columns that the longest name takes, at least those of its heading. */
static int name_width(const struct kd_evaluation *evaluation)
{
    size_t width = strlen("agreement");

    for (size_t i = 0; i < evaluation->count; i++) {
        const size_t length = strlen(evaluation->predictors[i].name);
        width = length > width ? length : width;
    }
    return width < 80 ? (int)width : 80;
}

/* " 0.7631", or a dash where there is nothing to say. */
static void write_number(FILE *to, double value)
{
    if (isnan(value))
        fprintf(to, " %8s", "-");
    else
        fprintf(to, " %8.4f", value);
}

static void write_scores(FILE *to, const struct kd_predictor_metrics *predictor,
                         int width)
{
    struct kd_scores s;

    kd_metrics_scores(&predictor->metrics, &s);
    fprintf(to, "%-*s %9llu %6g", width, predictor->name,
            (unsigned long long)predictor->metrics.samples, predictor->temperature);
    const double values[] = {s.accuracy, s.top5, s.nll, s.brier, s.ece, s.entropy};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        write_number(to, values[i]);
    fputc('\n', to);
}

static double agreement(const struct kd_evaluation *e, size_t a, size_t b)
{
    return (double)e->pairs[a * e->count + b].agreeing / (double)e->samples;
}

static double variation(const struct kd_evaluation *e, size_t a, size_t b)
{
    return e->pairs[a * e->count + b].variation / (double)e->samples;
}

static void write_matrix(FILE *to, const struct kd_evaluation *e, const char *heading,
                         int width,
                         double (*value)(const struct kd_evaluation *e, size_t a,
                                         size_t b))
{
    fprintf(to, "\n%-*s", width, heading);
    for (size_t b = 0; b < e->count; b++)
        fprintf(to, " %8zu", b + 1);
    fputc('\n', to);
    for (size_t a = 0; a < e->count; a++) {
        fprintf(to, "%-*s", width, e->predictors[a].name);
        for (size_t b = 0; b < e->count; b++)
            write_number(to, value(e, a, b));
        fputc('\n', to);
    }
}

enum kd_status kd_evaluation_write(const struct kd_evaluation *evaluation, FILE *to)
{
    const int width = name_width(evaluation);

    fprintf(to, "%-*s %9s %6s %8s %8s %8s %8s %8s %8s\n", width, "name", "samples", "T",
            "accuracy", "top5", "NLL", "Brier", "ECE", "entropy");
    for (size_t i = 0; i < evaluation->count; i++)
        write_scores(to, &evaluation->predictors[i], width);
    if (evaluation->count > 1) {
        write_matrix(to, evaluation, "agreement", width, agreement);
        write_matrix(to, evaluation, "variation", width, variation);
    }
    if (ferror(to))
        return kd_fail_errno(KD_EIO, "cannot write the table");
    return KD_OK;
}

/* -- JSON ------------------------------------------------------------------- */

static void json_bins(const struct kd_metrics *metrics, struct kd_json *json)
{
    kd_json_begin(json, "reliability", '[');
    for (size_t i = 0; i < KD_CALIBRATION_BINS; i++) {
        const struct kd_calibration_bin *bin = &metrics->bins[i];
        const double samples = (double)bin->samples;

        kd_json_begin(json, NULL, '{');
        kd_json_f64(json, "from", (double)i / KD_CALIBRATION_BINS);
        kd_json_f64(json, "to", (double)(i + 1) / KD_CALIBRATION_BINS);
        kd_json_u64(json, "samples", bin->samples);
        kd_json_f64(json, "accuracy", (double)bin->right / samples);
        kd_json_f64(json, "confidence", bin->confidence / samples);
        kd_json_end(json);
    }
    kd_json_end(json);
}

static void json_predictor(const struct kd_predictor_metrics *predictor,
                           struct kd_json *json)
{
    struct kd_scores scores;

    kd_metrics_scores(&predictor->metrics, &scores);
    kd_json_begin(json, NULL, '{');
    kd_json_string(json, "name", predictor->name);
    kd_json_u64(json, "samples", predictor->metrics.samples);
    kd_json_u64(json, "labelled", predictor->metrics.labelled);
    kd_json_f64(json, "temperature", predictor->temperature);
    kd_json_f64(json, "accuracy", scores.accuracy);
    kd_json_f64(json, "top5", scores.top5);
    kd_json_f64(json, "nll", scores.nll);
    kd_json_f64(json, "brier", scores.brier);
    kd_json_f64(json, "ece", scores.ece);
    kd_json_f64(json, "entropy", scores.entropy);
    kd_json_f64(json, "confidence", scores.confidence);
    json_bins(&predictor->metrics, json);
    kd_json_end(json);
}

static void json_pair(const struct kd_evaluation *e, size_t a, size_t b,
                      struct kd_json *json)
{
    kd_json_begin(json, NULL, '{');
    kd_json_string(json, "a", e->predictors[a].name);
    kd_json_string(json, "b", e->predictors[b].name);
    kd_json_f64(json, "agreement", agreement(e, a, b));
    kd_json_f64(json, "churn", 1 - agreement(e, a, b));
    kd_json_f64(json, "total_variation", variation(e, a, b));
    kd_json_end(json);
}

void kd_evaluation_json(const struct kd_evaluation *evaluation, struct kd_json *json)
{
    const struct kd_evaluation *e = evaluation;

    kd_json_begin(json, NULL, '{');
    kd_json_u64(json, "samples", e->samples);
    kd_json_u64(json, "first_id", e->first_id);
    kd_json_u64(json, "ids", e->num_ids);
    kd_json_u64(json, "first_view", e->first_view);
    kd_json_u64(json, "views", e->views);
    kd_json_string(json, "augment", e->augment);
    kd_json_begin(json, "predictors", '[');
    for (size_t i = 0; i < e->count; i++)
        json_predictor(&e->predictors[i], json);
    kd_json_end(json);
    kd_json_begin(json, "pairs", '[');
    for (size_t a = 0; a < e->count; a++)
        for (size_t b = a + 1; b < e->count; b++)
            json_pair(e, a, b, json);
    kd_json_end(json);
    kd_json_end(json);
}
