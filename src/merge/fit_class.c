/* SPDX-License-Identifier: MIT */
/* Weights a class and teacher. */
#include "kd/fit.h"

#include "kd/memory.h"
#include "merge/fit_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STEPS 500
#define GAIN  1e-8

struct fit {
    const struct kd_fit_rows *rows;
    const double *prior;       /* [M] */
    double *w;                 /* [M][C] */
    float *p[KD_MAX_TEACHERS]; /* [M] of [count][C] probabilities */
    double *taken, *spread;    /* [M][C] R and D */
    double *mixed;             /* [C] sum_m w_m(c) p_m(c) of a row */
};

static enum kd_status fit_init(struct fit *fit, const double *calibration)
{
    enum kd_status status = KD_EBUG;
    const struct kd_fit_rows *rows = fit->rows;
    const size_t classes = rows->classes, table = rows->teachers * classes;
    size_t values = 0;

    if (!kd_multiply(rows->count, classes, &values))
        return kd_fail(KD_EMEMORY, "the held-out rows do not fit into memory");
    KD_TRY(KD_NEW(fit->taken, table));
    KD_TRY(KD_NEW(fit->spread, table));
    KD_TRY(KD_NEW(fit->mixed, classes));
    for (size_t m = 0; m < rows->teachers; m++) {
        const double sharpen = rows->temperature / calibration[m];

        KD_TRY(KD_NEW(fit->p[m], values));
        for (size_t i = 0; i < rows->count; i++) {
            const float *from = rows->values[m] + i * classes;
            const double norm = kd_fit_log_sum(from, classes, sharpen);

            for (size_t c = 0; c < classes; c++)
                fit->p[m][i * classes + c] =
                    (float)exp(sharpen * (double)from[c] - norm);
        }
    }
out:
    return status;
}

static void fit_clear(struct fit *fit)
{
    free(fit->taken);
    free(fit->spread);
    free(fit->mixed);
    for (size_t m = 0; m < fit->rows->teachers; m++)
        free(fit->p[m]);
}

/* Adds row i to R and D; returns its NLL. No probability counts as less than TINY. */
#define TINY 1e-300
static double add_row(struct fit *fit, size_t i)
{
    const size_t classes = fit->rows->classes, teachers = fit->rows->teachers;
    const size_t label = (size_t)fit->rows->label[i];
    double all = 0, own = 0;

    memset(fit->mixed, 0, classes * sizeof fit->mixed[0]);
    for (size_t m = 0; m < teachers; m++)
        for (size_t c = 0; c < classes; c++)
            fit->mixed[c] +=
                fit->w[m * classes + c] * (double)fit->p[m][i * classes + c];
    for (size_t c = 0; c < classes; c++)
        all += fit->mixed[c];
    own = fmax(fit->mixed[label], TINY);
    for (size_t m = 0; m < teachers; m++) {
        const float *p = fit->p[m] + i * classes;
        double *spread = fit->spread + m * classes;

        for (size_t c = 0; c < classes; c++)
            spread[c] += (double)p[c] / all;
        fit->taken[m * classes + label] +=
            fit->w[m * classes + label] * (double)p[label] / own;
    }
    return log(all) - log(own);
}

/* R and D under the weights there are; returns the objective. */
static double add_rows(struct fit *fit)
{
    const size_t classes = fit->rows->classes, teachers = fit->rows->teachers;
    double objective = 0;

    memset(fit->spread, 0, teachers * classes * sizeof fit->spread[0]);
    for (size_t m = 0; m < teachers; m++)
        for (size_t c = 0; c < classes; c++) {
            fit->taken[m * classes + c] = fit->prior[m];
            if (fit->prior[m] > 0)
                objective -= fit->prior[m] * log(fit->w[m * classes + c]);
        }
    for (size_t i = 0; i < fit->rows->count; i++)
        objective += add_row(fit, i);
    return objective;
}

/* sum_m R_m / (D_m + mu) */
static double total(const struct fit *fit, size_t c, double mu)
{
    const size_t classes = fit->rows->classes;
    double sum = 0;

    for (size_t m = 0; m < fit->rows->teachers; m++)
        if (fit->taken[m * classes + c] > 0)
            sum += fit->taken[m * classes + c] / (fit->spread[m * classes + c] + mu);
    return sum;
}

/* The new weights of class c. The total falls from infinity, at mu = -min D, and is at
 * most 1 where mu = sum of R - min D. */
static void solve(struct fit *fit, size_t c)
{
    const size_t classes = fit->rows->classes;
    double least = INFINITY, sum = 0, low = 0, high = 0;

    for (size_t m = 0; m < fit->rows->teachers; m++) {
        if (!(fit->taken[m * classes + c] > 0))
            continue;
        least = fmin(least, fit->spread[m * classes + c]);
        sum += fit->taken[m * classes + c];
    }
    low = -least;
    high = sum - least;
    for (int i = 0; i < 100; i++) {
        const double middle = low + (high - low) / 2;

        if (total(fit, c, middle) > 1)
            low = middle;
        else
            high = middle;
    }
    for (size_t m = 0; m < fit->rows->teachers; m++) {
        double *w = &fit->w[m * classes + c];
        const double taken = fit->taken[m * classes + c];

        *w = taken > 0 ? taken / (fit->spread[m * classes + c] + high) : 0;
    }
}

/* What is left of rounding. */
static void scale(struct fit *fit, size_t c)
{
    const size_t classes = fit->rows->classes;
    double sum = 0;

    for (size_t m = 0; m < fit->rows->teachers; m++)
        sum += fit->w[m * classes + c];
    for (size_t m = 0; m < fit->rows->teachers; m++)
        fit->w[m * classes + c] /= sum;
}

enum kd_status kd_fit_class_weights(const struct kd_fit_rows *rows,
                                    const double *calibration, const double *prior,
                                    double *class_weights)
{
    enum kd_status status = KD_EBUG;
    struct fit fit = {.rows = rows, .prior = prior, .w = class_weights};
    double before = INFINITY;

    for (size_t m = 0; m < rows->teachers; m++)
        for (size_t c = 0; c < rows->classes; c++)
            class_weights[m * rows->classes + c] = prior[m];
    KD_TRY(fit_init(&fit, calibration));
    for (int i = 0; i < STEPS; i++) {
        const double objective = add_rows(&fit);

        if (before - objective < GAIN * (double)rows->count)
            break;
        before = objective;
        for (size_t c = 0; c < rows->classes; c++) {
            solve(&fit, c);
            scale(&fit, c);
        }
    }
    status = KD_OK;
out:
    fit_clear(&fit);
    return status;
}
