/* SPDX-License-Identifier: MIT */
/* Decoding of stored rows; the loops are simple enough for the vectoriser. */
#include "cache/decode_internal.h"

#include "kd/half.h"
#include "kd/vector.h"

#include <float.h>
#include <string.h>

/* What was seen among values: a bit each. */
#define SEEN_BAD 1U
#define SEEN_TOP 2U

/* As signed numbers, halves in range are at most 0; as unsigned ones, at most 0xfbff,
 * which is -65504. A zero of either sign is the maximum. */
KD_VECTOR static unsigned look_at_halves(const uint16_t *values, size_t n)
{
    int16_t most_signed = INT16_MIN;
    uint16_t most = 0, least = UINT16_MAX;

    for (size_t i = 0; i < n; i++) {
        const int16_t with_sign = (int16_t)values[i];
        const uint16_t without = (uint16_t)(values[i] << 1);

        most_signed = with_sign > most_signed ? with_sign : most_signed;
        most = values[i] > most ? values[i] : most;
        least = without < least ? without : least;
    }
    return (most_signed > 0 || most > 0xfbff ? SEEN_BAD : 0) |
           (least == 0 ? SEEN_TOP : 0);
}

KD_VECTOR static unsigned look_at_floats(const float *values, size_t n)
{
    unsigned bad = 0, top = 0;

    for (size_t i = 0; i < n; i++) {
        bad |= !(values[i] <= 0) | !(values[i] >= -FLT_MAX);
        top |= values[i] == 0;
    }
    return (bad ? SEEN_BAD : 0) | (top ? SEEN_TOP : 0);
}

const char *kd_decode_values(enum kd_type dtype, const void *from, size_t n,
                             bool has_top, float *to)
{
    unsigned seen = 0;

    if (dtype == KD_F16) {
        kd_half_to_float(from, to, n);
        seen = look_at_halves(from, n);
    } else {
        if (dtype == KD_BF16)
            kd_bf16_to_float(from, to, n);
        else
            memcpy(to, from, n * sizeof *to);
        seen = look_at_floats(to, n);
    }
    if (seen & SEEN_BAD)
        return "a logit is not finite, or above the maximum";
    if (has_top && !(seen & SEEN_TOP))
        return "none of its logits is the maximum";
    return NULL;
}

static uint32_t widen_u8(const uint8_t *from, size_t n, uint32_t *to)
{
    uint32_t greatest = 0;

    for (size_t i = 0; i < n; i++) {
        to[i] = from[i];
        greatest = to[i] > greatest ? to[i] : greatest;
    }
    return greatest;
}

static uint32_t widen_u16(const uint16_t *from, size_t n, uint32_t *to)
{
    uint32_t greatest = 0;

    for (size_t i = 0; i < n; i++) {
        to[i] = from[i];
        greatest = to[i] > greatest ? to[i] : greatest;
    }
    return greatest;
}

static uint32_t widen_u32(const uint32_t *from, size_t n, uint32_t *to)
{
    uint32_t greatest = 0;

    for (size_t i = 0; i < n; i++) {
        to[i] = from[i];
        greatest = to[i] > greatest ? to[i] : greatest;
    }
    return greatest;
}

/* For few classes, every pair. */
static bool few_repeat(const uint32_t *index, size_t n)
{
    unsigned same = 0;

    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < i; j++)
            same |= index[i] == index[j];
    return same != 0;
}

#define FEW    16
#define WINDOW 65536 /* classes that a table of bits on the stack has room for */

/* A bit for each class; of more than WINDOW of them, so many at a time. */
static bool many_repeat(const uint32_t *index, size_t n, uint32_t classes)
{
    uint64_t bits[WINDOW / 64];
    uint64_t same = 0;

    for (uint32_t from = 0; from < classes; from += WINDOW) {
        const uint32_t width = classes - from < WINDOW ? classes - from : WINDOW;

        memset(bits, 0, (width + 63) / 64 * sizeof *bits);
        for (size_t i = 0; i < n; i++) {
            const uint32_t at = index[i] - from;

            if (at >= width)
                continue;
            same |= bits[at / 64] >> at % 64 & 1;
            bits[at / 64] |= UINT64_C(1) << at % 64;
        }
        if (classes - from <= WINDOW)
            break;
    }
    return same != 0;
}

const char *kd_decode_index(enum kd_type type, const void *from, size_t n,
                            uint32_t classes, uint32_t *to)
{
    const uint32_t greatest = type == KD_U8    ? widen_u8(from, n, to)
                              : type == KD_U16 ? widen_u16(from, n, to)
                                               : widen_u32(from, n, to);

    if (greatest >= classes)
        return "a class is none of the cache's";
    if (n <= FEW ? few_repeat(to, n) : many_repeat(to, n, classes))
        return "a class is there twice";
    return NULL;
}
