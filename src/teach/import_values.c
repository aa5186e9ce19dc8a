/* SPDX-License-Identifier: MIT */
/* What imported values mean: logits, log-probabilities and probabilities. */
#include "teach/import_internal.h"

#include <float.h>
#include <math.h>

/* How far the sum of a row's probabilities may be from 1, besides rounding. */
#define TOLERANCE 1e-3

/* The relative error that rounding to a type makes at most, and the type's least
 * positive number. */
static double unit_of(enum kd_type type)
{
    switch (type) {
    case KD_F16:
        return 0x1p-11;
    case KD_BF16:
        return 0x1p-8;
    case KD_F64:
        return 0x1p-53;
    default:
        return 0x1p-24;
    }
}

static double least_of(enum kd_type type)
{
    switch (type) {
    case KD_F16:
        return 0x1p-24;
    case KD_BF16:
        return 0x1p-133;
    case KD_F64:
        return 0x1p-1074;
    default:
        return 0x1p-149;
    }
}

static enum kd_status fail_class(const uint32_t *index, size_t i, double value,
                                 const char *due)
{
    const unsigned long c = index != NULL ? index[i] : i;

    return kd_fail(KD_EDATA, "the value of class %lu is %g: must be %s", c, value, due);
}

static enum kd_status convert_logits(const struct kd_import_rule *rule,
                                     const double *values, size_t count, float *scaled)
{
    for (size_t c = 0; c < count; c++) {
        scaled[c] = (float)(values[c] / rule->temperature);
        if (!isfinite(scaled[c]))
            return fail_class(NULL, c, values[c], "a finite float32 over T");
    }
    return KD_OK;
}

/* The probabilities of a row. */
struct sums {
    double given; /* as they came */
    double total; /* with those of 0 lifted to the least number */
    double slack; /* how far rounding may have moved `given` */
};

/* Turns each value into its logarithm, and sums up. */
static enum kd_status take_logs(const struct kd_import_rule *rule, double *values,
                                const uint32_t *index, size_t count, struct sums *sums)
{
    const double unit = unit_of(rule->type), least = least_of(rule->type);
    const bool probs = rule->values == KD_PROBS;

    *sums = (struct sums){0};
    for (size_t i = 0; i < count; i++) {
        const double value = values[i];
        const bool none = probs ? value == 0 : value < -DBL_MAX;
        const double p = probs ? value : exp(value);

        if (probs && (!(value >= 0) || isinf(value)))
            return fail_class(index, i, value, "a probability, from 0 to 1");
        if (!probs && (isnan(value) || value > 1))
            return fail_class(index, i, value, "a log-probability, at most 0");
        if (none)
            values[i] = log(least);
        else if (probs)
            values[i] = log(value);
        sums->given += p;
        sums->total += none ? least : p;
        sums->slack += probs ? p * unit + least / 2 : p * fabs(values[i]) * unit;
    }
    return KD_OK;
}

enum kd_status kd_import_convert(const struct kd_import_rule *rule, double *values,
                                 const uint32_t *index, size_t count, float *scaled,
                                 float *log_rest)
{
    enum kd_status status = KD_EBUG;
    struct sums sums;
    double off = 0, scale = 0;

    if (rule->values == KD_LOGITS)
        return convert_logits(rule, values, count, scaled);
    KD_TRY(take_logs(rule, values, index, count, &sums));
    off = sums.given - 1;
    if (log_rest == NULL)
        off = fabs(off);
    if (off > TOLERANCE + sums.slack)
        return kd_fail(KD_EDATA,
                       "its probabilities have the sum %.6g, not 1: is the kind of "
                       "values another one",
                       sums.given);
    if (log_rest == NULL || sums.total > 1)
        scale = log(sums.total);
    for (size_t i = 0; i < count; i++)
        scaled[i] = (float)(values[i] - scale);
    if (log_rest != NULL)
        *log_rest = sums.total < 1 ? (float)log1p(-sums.total) : -INFINITY;
out:
    return status;
}
