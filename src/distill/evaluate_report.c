/* SPDX-License-Identifier: MIT */
/* What an evaluation found: as tables, and as JSON. */
#include "kd/evaluate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* -- names and numbers ------------------------------------------------------ */

/* Columns that a name takes at most, and at least: those of the longest heading. */
#define MOST_NAME  32
#define LEAST_NAME ((int)sizeof "exactly right" - 1)

/* Characters of UTF-8, each of which is taken to be one column wide. */
static size_t length_of(const char *text)
{
    size_t length = 0;

    for (; *text != '\0'; text++)
        length += ((unsigned char)*text & 0xc0) != 0x80;
    return length;
}

static int name_width(const struct kd_evaluation *e)
{
    int width = LEAST_NAME;

    for (size_t i = 0; i < e->count; i++) {
        const size_t length = length_of(e->predictors[i].name);

        if (length > MOST_NAME)
            return MOST_NAME;
        width = (int)length > width ? (int)length : width;
    }
    return width;
}

/* " 3 name": the number is that of the matrices' columns. Of names that are paths the
 * end says more than the beginning. */
static void write_name(FILE *to, const struct kd_evaluation *e, size_t i, int width)
{
    const char *name = e->predictors[i].name, *mark = "";
    size_t length = length_of(name);

    if (length > MOST_NAME) {
        mark = "...";
        for (; length > MOST_NAME - strlen("..."); length--)
            do
                name++;
            while (((unsigned char)*name & 0xc0) == 0x80);
    }
    const int columns = (int)(length + strlen(mark));
    fprintf(to, "%2zu %s%s%*s", i + 1, mark, name,
            width > columns ? width - columns : 0, "");
}

/* "   0.7631", two digits of what is less than four decimals can say, or a dash where
 * there is nothing to say. */
static void write_number(FILE *to, double value)
{
    const double size = fabs(value);

    if (isnan(value))
        fprintf(to, " %8s", "-");
    else if ((size > 0 && size < 0.001) || size >= 1000)
        fprintf(to, " %8.2g", value);
    else
        fprintf(to, " %8.4f", value);
}

static double agreement(const struct kd_evaluation *e, size_t a, size_t b)
{
    return (double)e->pairs[a * e->count + b].agreeing / (double)e->samples;
}

static double variation(const struct kd_evaluation *e, size_t a, size_t b)
{
    return e->pairs[a * e->count + b].variation / (double)e->samples;
}

static double divergence(const struct kd_evaluation *e, size_t a, size_t b)
{
    return e->pairs[a * e->count + b].divergence / (double)e->samples;
}

static double share_right(const struct kd_evaluation *e, size_t m)
{
    return (double)e->right[m] / (double)e->labelled;
}

/* -- tables ----------------------------------------------------------------- */

/* Whether there is anything to say about the mass that was kept. */
static bool any_sparse(const struct kd_evaluation *e)
{
    bool sparse = false;

    for (size_t i = 0; i < e->count; i++)
        sparse = sparse || e->predictors[i].sparse;
    return sparse;
}

static void write_samples(FILE *to, const struct kd_evaluation *e)
{
    fprintf(to, "%llu samples of ids %llu to %llu", (unsigned long long)e->samples,
            (unsigned long long)e->first_id,
            (unsigned long long)(e->first_id + e->num_ids - 1));
    if (e->first_view > 0)
        fprintf(to, " in views %u to %u", (unsigned)e->first_view,
                (unsigned)(e->first_view + e->views - 1));
    fprintf(to, ", %llu labelled", (unsigned long long)e->labelled);
    if (e->left_out > 0)
        fprintf(to, "; %llu left out that not all have",
                (unsigned long long)e->left_out);
    if (any_sparse(e))
        fputs("; mass that is not kept is spread evenly", to);
    fputc('\n', to);
}

static void write_scores(FILE *to, const struct kd_evaluation *e, size_t i, int width)
{
    const struct kd_predictor_metrics *predictor = &e->predictors[i];
    struct kd_scores s;

    kd_metrics_scores(&predictor->metrics, &s);
    write_name(to, e, i, width);
    fprintf(to, " %6g", predictor->temperature);
    const double values[] = {s.accuracy, s.top5, s.nll, s.brier, s.ece, s.entropy};
    for (size_t k = 0; k < sizeof values / sizeof values[0]; k++)
        write_number(to, values[k]);
    if (any_sparse(e))
        write_number(to, s.kept);
    fputc('\n', to);
}

static void write_matrix(FILE *to, const struct kd_evaluation *e, const char *heading,
                         int width,
                         double (*value)(const struct kd_evaluation *e, size_t a,
                                         size_t b))
{
    fprintf(to, "\n   %-*s", width, heading);
    for (size_t b = 0; b < e->count; b++)
        fprintf(to, " %8zu", b + 1);
    fputc('\n', to);
    for (size_t a = 0; a < e->count; a++) {
        write_name(to, e, a, width);
        for (size_t b = 0; b < e->count; b++)
            write_number(to, value(e, a, b));
        fputc('\n', to);
    }
}

static void write_right(FILE *to, const struct kd_evaluation *e, int width)
{
    fprintf(to, "\n   %-*s", width, "exactly right");
    for (size_t m = 0; m <= e->count; m++)
        fprintf(to, " %8zu", m);
    fprintf(to, " %8s\n   %-*s", "oracle", width, "share");
    for (size_t m = 0; m <= e->count; m++)
        write_number(to, share_right(e, m));
    write_number(to, 1 - share_right(e, 0));
    fputc('\n', to);
}

static enum kd_status written(FILE *to)
{
    return ferror(to) ? kd_fail_errno(KD_EIO, "cannot write the table") : KD_OK;
}

enum kd_status kd_evaluation_write(const struct kd_evaluation *evaluation, FILE *to)
{
    const struct kd_evaluation *e = evaluation;
    const int width = name_width(e);

    write_samples(to, e);
    fprintf(to, "\n   %-*s %6s %8s %8s %8s %8s %8s %8s%s\n", width, "name", "T",
            "accuracy", "top5", "NLL", "Brier", "ECE", "entropy",
            any_sparse(e) ? "     kept" : "");
    for (size_t i = 0; i < e->count; i++)
        write_scores(to, e, i, width);
    if (e->count > 1) {
        write_matrix(to, e, "agreement", width, agreement);
        write_matrix(to, e, "divergence", width, divergence);
        write_matrix(to, e, "variation", width, variation);
        write_right(to, e, width);
    }
    return written(to);
}

static void write_bin(FILE *to, const struct kd_metrics *metrics, size_t i)
{
    const struct kd_calibration_bin *bin = &metrics->bins[i];
    const double samples = (double)bin->samples, bins = (double)metrics->num_bins;
    const double accuracy = (double)bin->right / samples;
    const double confidence = bin->confidence / samples;

    fprintf(to, "   %8.4f %8.4f %9llu", (double)i / bins, (double)(i + 1) / bins,
            (unsigned long long)bin->samples);
    write_number(to, accuracy);
    write_number(to, confidence);
    write_number(to, confidence - accuracy);
    fputc('\n', to);
}

enum kd_status kd_evaluation_write_reliability(const struct kd_evaluation *evaluation,
                                               FILE *to)
{
    for (size_t i = 0; i < evaluation->count; i++) {
        const struct kd_metrics *metrics = &evaluation->predictors[i].metrics;

        fputs("\nreliability of ", to);
        write_name(to, evaluation, i, 0);
        fprintf(to, "\n   %8s %8s %9s %8s %8s %8s\n", "above", "to", "samples",
                "accuracy", "confid.", "gap");
        for (size_t b = 0; b < metrics->num_bins; b++)
            write_bin(to, metrics, b);
    }
    return written(to);
}

/* -- JSON ------------------------------------------------------------------- */

static void json_bins(const struct kd_metrics *metrics, struct kd_json *json)
{
    kd_json_begin(json, "reliability", '[');
    for (size_t i = 0; i < metrics->num_bins; i++) {
        const struct kd_calibration_bin *bin = &metrics->bins[i];
        const double samples = (double)bin->samples, bins = (double)metrics->num_bins;

        kd_json_begin(json, NULL, '{');
        kd_json_f64(json, "from", (double)i / bins);
        kd_json_f64(json, "to", (double)(i + 1) / bins);
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
    kd_json_u64(json, "impossible", predictor->metrics.impossible);
    kd_json_f64(json, "brier", scores.brier);
    kd_json_f64(json, "ece", scores.ece);
    kd_json_f64(json, "entropy", scores.entropy);
    kd_json_f64(json, "confidence", scores.confidence);
    kd_json_f64(json, "kept_mass", scores.kept);
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
    kd_json_f64(json, "js_divergence", divergence(e, a, b));
    kd_json_f64(json, "total_variation", variation(e, a, b));
    kd_json_end(json);
}

void kd_evaluation_json(const struct kd_evaluation *evaluation, struct kd_json *json)
{
    const struct kd_evaluation *e = evaluation;

    kd_json_begin(json, NULL, '{');
    kd_json_u64(json, "samples", e->samples);
    kd_json_u64(json, "labelled", e->labelled);
    kd_json_u64(json, "left_out", e->left_out);
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
    kd_json_begin(json, "exactly_right", '[');
    for (size_t m = 0; m <= e->count; m++)
        kd_json_f64(json, NULL, share_right(e, m));
    kd_json_end(json);
    kd_json_f64(json, "oracle_accuracy", 1 - share_right(e, 0));
    kd_json_end(json);
}
