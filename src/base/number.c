/* SPDX-License-Identifier: MIT */
/* Numbers: from whole strings and into short ones. */
#include "kd/options.h"

#include "base/text_internal.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Written by hand for the underscores, which strtoull does not know. */
bool kd_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
    uint64_t number = 0;

    if (!is_digit(*text))
        return false;
    for (; *text != '\0'; text++) {
        if (*text == '_' && is_digit(text[1])) /* behind a digit, by the rest */
            continue;
        if (!is_digit(*text))
            return false;
        uint64_t digit = (uint64_t)(*text - '0');
        if (number > (UINT64_MAX - digit) / 10)
            return false;
        number = number * 10 + digit;
    }
    if (number < min || number > max)
        return false;
    *value = number;
    return true;
}

bool kd_parse_f64(const char *text, double min, double max, double *value)
{
    char *end = NULL;
    double number = 0;

    /* strtod also takes blanks in front, hexadecimals, "inf" and "nan" */
    if (*text == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0')
        return false;
    number = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(number))
        return false;
    if (number < min || number > max)
        return false;
    *value = number;
    return true;
}

void kd_text_f64(double value, char text[KD_TEXT_F64])
{
    if (floor(value) == value && fabs(value) < 1e15) { /* 40, where %g has 4e+01 */
        snprintf(text, KD_TEXT_F64, "%.0f", value);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, KD_TEXT_F64, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            return;
    }
}

void kd_text_range_u64(uint64_t min, uint64_t max, char text[KD_TEXT_RANGE])
{
    if (max < UINT64_MAX)
        snprintf(text, KD_TEXT_RANGE, "a whole number from %" PRIu64 " to %" PRIu64,
                 min, max);
    else if (min > 0)
        snprintf(text, KD_TEXT_RANGE, "a whole number of at least %" PRIu64, min);
    else
        snprintf(text, KD_TEXT_RANGE, "a whole number");
}

void kd_text_range_f64(double min, double max, char text[KD_TEXT_RANGE])
{
    char low[KD_TEXT_F64], high[KD_TEXT_F64];
    bool has_low = min > -DBL_MAX, has_high = max < DBL_MAX;

    kd_text_f64(min, low);
    kd_text_f64(max, high);
    if (has_low && has_high)
        snprintf(text, KD_TEXT_RANGE, "a number from %s to %s", low, high);
    else if (has_low)
        snprintf(text, KD_TEXT_RANGE, "a number of at least %s", low);
    else if (has_high)
        snprintf(text, KD_TEXT_RANGE, "a number of at most %s", high);
    else
        snprintf(text, KD_TEXT_RANGE, "a number");
}
