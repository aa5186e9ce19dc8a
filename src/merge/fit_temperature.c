/* SPDX-License-Identifier: MIT */
/* Calibration: the temperature of the least NLL. */
#include "kd/fit.h"

#include "merge/fit_internal.h"

#include <math.h>

#define LEAST 0.01
#define MOST  100.0

/* The slope of the mean NLL of softmax(b z) in b, and the slope of that: the means of
 * E_p[z] - z_y and of Var_p[z]. */
static double slope(const struct kd_fit_rows *rows, size_t m, double b, double *curve)
{
    const double T = rows->temperature;
    double sum = 0, curves = 0;

    for (size_t i = 0; i < rows->count; i++) {
        const float *row = rows->values[m] + i * rows->classes;
        const double own = (double)row[rows->label[i]];
        const double norm = kd_fit_log_sum(row, rows->classes, b * T);
        double first = 0, second = 0; /* moments of z - z_y */

        for (size_t c = 0; c < rows->classes; c++) {
            const double z = T * ((double)row[c] - own);
            const double p = exp(b * T * (double)row[c] - norm);

            first += p * z;
            second += p * z * z;
        }
        sum += first;
        curves += second - first * first;
    }
    *curve = curves / (double)rows->count;
    return sum / (double)rows->count;
}

double kd_fit_temperature(const struct kd_fit_rows *rows, size_t m)
{
    double low = -log(MOST), high = -log(LEAST), x = 0, curve = 0;

    if (slope(rows, m, exp(low), &curve) >= 0)
        return MOST;
    if (slope(rows, m, exp(high), &curve) <= 0)
        return LEAST;
    while (high - low > 1e-7) {
        const double at = slope(rows, m, exp(x), &curve);
        const double next = x - at / (curve * exp(x));

        if (at < 0)
            low = x;
        else
            high = x;
        if (fabs(next - x) < 1e-8)
            break;
        x = next > low && next < high ? next : (low + high) / 2;
    }
    return exp(-x);
}
