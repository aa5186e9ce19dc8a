/* SPDX-License-Identifier: MIT */
/* Resizing: weights of each output, then rows, then columns. Only what the crop keeps
 * is computed. */
#include "kd/resize.h"

#include "kd/memory.h"
#include "kd/options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF /* gcc does not contract under -std=c17 */
#endif

#define PLACES                                                                         \
    22 /* binary, of a weight: 8 bits of a byte and a sign go into 31 as well */

/* -- sizes ------------------------------------------------------------------ */

/* Of one direction: `in` elements are resized to `out`, and of these `count` kept from
 * `first` on. */
struct span {
    size_t in, out, first, count;
};

bool kd_resize_does(const struct kd_resize *how)
{
    return how->side > 0 || how->height > 0 || how->crop_height > 0;
}

static size_t half_to_even(size_t difference)
{
    const size_t half = difference / 2;

    return half + (difference % 2 == 1 && half % 2 == 1);
}

static enum kd_status measure(const struct kd_resize *how, struct kd_shape from,
                              struct span *rows, struct span *columns)
{
    const size_t shorter = from.height < from.width ? from.height : from.width;

    *rows = (struct span){.in = from.height, .out = from.height};
    *columns = (struct span){.in = from.width, .out = from.width};
    if (how->side > 0) {
        rows->out = how->side * from.height / shorter;
        columns->out = how->side * from.width / shorter;
    } else if (how->height > 0) {
        rows->out = how->height;
        columns->out = how->width;
    }
    rows->count = how->crop_height > 0 ? how->crop_height : rows->out;
    columns->count = how->crop_width > 0 ? how->crop_width : columns->out;
    if (rows->count > rows->out || columns->count > columns->out)
        return kd_fail(KD_EDATA,
                       "a crop of %zu x %zu (height x width) does not fit into %zu x "
                       "%zu: resize to more, or crop to less",
                       rows->count, columns->count, rows->out, columns->out);
    if (rows->count > KD_RESIZE_LIMIT || columns->count > KD_RESIZE_LIMIT)
        return kd_fail(KD_EDATA, "would become %zu x %zu (height x width): crop it",
                       rows->count, columns->count);
    rows->first = half_to_even(rows->out - rows->count);
    columns->first = half_to_even(columns->out - columns->count);
    return KD_OK;
}

enum kd_status kd_resize_shape(const struct kd_resize *how, struct kd_shape from,
                               struct kd_shape *to)
{
    struct span rows, columns;
    const enum kd_status status = measure(how, from, &rows, &columns);

    if (status == KD_OK)
        *to = (struct kd_shape){from.channels, rows.count, columns.count};
    return status;
}

/* -- weights ---------------------------------------------------------------- */

/* What each kept output is made of. */
struct taps {
    size_t count;
    size_t most;    /* inputs of an output, at most */
    size_t *first;  /* [count] the first of them */
    size_t *used;   /* [count] how many */
    double *weight; /* [count][most] */
    int32_t *fixed; /* [count][most] the same, times 2^PLACES */
};

static void clear_taps(struct taps *taps)
{
    free(taps->first);
    free(taps->used);
    free(taps->weight);
    free(taps->fixed);
}

static void weigh(const struct span *span, struct taps *taps, size_t i)
{
    const double ratio = (double)span->in / (double)span->out;
    const double support = ratio < 1 ? 1 : ratio;
    const double centre = ((double)(span->first + i) + 0.5) * ratio;
    const double begin = centre - support + 0.5, end = centre + support + 0.5;
    double *weight = taps->weight + i * taps->most, sum = 0;
    const size_t from = begin < 0 ? 0 : (size_t)begin;
    const size_t to = end > (double)span->in ? span->in : (size_t)end;

    taps->first[i] = from;
    taps->used[i] = to - from;
    for (size_t x = 0; x < to - from; x++) {
        const double away = fabs(((double)(x + from) - centre + 0.5) * (1.0 / support));
        weight[x] = away < 1 ? 1 - away : 0;
        sum += weight[x];
    }
    for (size_t x = 0; x < to - from; x++) {
        weight[x] /= sum;
        taps->fixed[i * taps->most + x] = (int32_t)(weight[x] * (1 << PLACES) + 0.5);
    }
}

static enum kd_status make_taps(const struct span *span, struct taps *taps)
{
    enum kd_status status = KD_EBUG;
    const double ratio = (double)span->in / (double)span->out;
    size_t weights = 0;

    taps->count = span->count;
    taps->most = (size_t)ceil(ratio < 1 ? 1 : ratio) * 2 + 1;
    if (!kd_multiply(taps->count, taps->most, &weights))
        return kd_fail(KD_EMEMORY, "an image is too large to be resized");
    KD_TRY(KD_NEW(taps->first, taps->count));
    KD_TRY(KD_NEW(taps->used, taps->count));
    KD_TRY(KD_NEW(taps->weight, weights));
    KD_TRY(KD_NEW(taps->fixed, weights));
    for (size_t i = 0; i < taps->count; i++)
        weigh(span, taps, i);
    status = KD_OK;
out:
    return status;
}

/* -- sums ------------------------------------------------------------------- */

static uint8_t round_byte(uint32_t sum)
{
    const uint32_t value = sum >> PLACES;

    return value > 255 ? 255 : (uint8_t)value;
}

static void across_bytes(const struct taps *taps, const uint8_t *from, uint8_t *to)
{
    for (size_t i = 0; i < taps->count; i++) {
        const int32_t *weight = taps->fixed + i * taps->most;
        const uint8_t *at = from + taps->first[i];
        uint32_t sum = 1 << (PLACES - 1);

        for (size_t x = 0; x < taps->used[i]; x++)
            sum += (uint32_t)weight[x] * at[x];
        to[i] = round_byte(sum);
    }
}

static void across_floats(const struct taps *taps, const float *from, float *to)
{
    for (size_t i = 0; i < taps->count; i++) {
        const double *weight = taps->weight + i * taps->most;
        const float *at = from + taps->first[i];
        double sum = 0;

        for (size_t x = 0; x < taps->used[i]; x++)
            sum += (double)at[x] * weight[x];
        to[i] = (float)sum;
    }
}

/* Output row i of rows of `width`; from[0] is the first row that any output needs.
 * `sums` is space for one row. */
static void down_bytes(const struct taps *taps, size_t i, size_t width,
                       const uint8_t *from, uint32_t *sums, uint8_t *to)
{
    const uint8_t *at = from + (taps->first[i] - taps->first[0]) * width;

    for (size_t x = 0; x < width; x++)
        sums[x] = 1 << (PLACES - 1);
    for (size_t y = 0; y < taps->used[i]; y++) {
        const uint32_t weight = (uint32_t)taps->fixed[i * taps->most + y];
        for (size_t x = 0; x < width; x++)
            sums[x] += weight * at[y * width + x];
    }
    for (size_t x = 0; x < width; x++)
        to[x] = round_byte(sums[x]);
}

static void down_floats(const struct taps *taps, size_t i, size_t width,
                        const float *from, double *sums, float *to)
{
    const float *at = from + (taps->first[i] - taps->first[0]) * width;

    memset(sums, 0, width * sizeof *sums);
    for (size_t y = 0; y < taps->used[i]; y++) {
        const double weight = taps->weight[i * taps->most + y];
        for (size_t x = 0; x < width; x++)
            sums[x] += (double)at[y * width + x] * weight;
    }
    for (size_t x = 0; x < width; x++)
        to[x] = (float)sums[x];
}

/* One channel. `between` has the rows that are needed, of the kept columns. */
static void resize_plane(const struct taps *rows, const struct taps *columns,
                         enum kd_type type, size_t width, const uint8_t *from,
                         void *between, void *sums, uint8_t *to)
{
    const size_t size = kd_type_size(type), kept = columns->count;
    const size_t first = rows->first[0];
    const size_t end = rows->first[rows->count - 1] + rows->used[rows->count - 1];

    for (size_t y = first; y < end; y++) {
        const uint8_t *row = from + y * width * size;
        uint8_t *half = (uint8_t *)between + (y - first) * kept * size;

        if (type == KD_U8)
            across_bytes(columns, row, half);
        else
            across_floats(columns, (const void *)row, (void *)half);
    }
    for (size_t i = 0; i < rows->count; i++) {
        if (type == KD_U8)
            down_bytes(rows, i, kept, between, sums, to + i * kept);
        else
            down_floats(rows, i, kept, between, sums, (void *)(to + i * kept * size));
    }
}

enum kd_status kd_resize_apply(const struct kd_resize *how, enum kd_type type,
                               struct kd_shape shape, const void *image, void *to)
{
    enum kd_status status = KD_EBUG;
    const size_t size = kd_type_size(type);
    struct span across, along;
    struct taps rows = {.count = 0}, columns = {.count = 0};
    float *between = NULL; /* [rows][kept columns] of either type */
    double *sums = NULL;   /* [kept columns] of either width */
    size_t elements = 0;

    KD_TRY(measure(how, shape, &along, &across));
    KD_TRY(make_taps(&along, &rows));
    KD_TRY(make_taps(&across, &columns));
    if (!kd_multiply(shape.height, columns.count, &elements)) {
        status = kd_fail(KD_EMEMORY, "an image is too large to be resized");
        goto out;
    }
    KD_TRY(KD_NEW(between, elements / (sizeof *between / size) + 1));
    KD_TRY(KD_NEW(sums, columns.count));
    for (size_t c = 0; c < shape.channels; c++)
        resize_plane(&rows, &columns, type, shape.width,
                     (const uint8_t *)image + c * shape.height * shape.width * size,
                     between, sums,
                     (uint8_t *)to + c * rows.count * columns.count * size);
    status = KD_OK;
out:
    clear_taps(&rows);
    clear_taps(&columns);
    free(between);
    free(sums);
    return status;
}

/* -- words ------------------------------------------------------------------ */

/* "224" or "224x192", behind `prefix`; *width is 0 for the former. */
static bool take_numbers(const char *text, size_t *height, size_t *width)
{
    char number[8] = "";
    const size_t digits = strspn(text, "0123456789");
    uint64_t value = 0;

    if (digits >= sizeof number)
        return false;
    memcpy(number, text, digits);
    if (!kd_parse_u64(number, 1, KD_RESIZE_LIMIT, &value))
        return false;
    *height = (size_t)value;
    *width = 0;
    if (text[digits] == '\0')
        return true;
    if (text[digits] != 'x' ||
        !kd_parse_u64(text + digits + 1, 1, KD_RESIZE_LIMIT, &value))
        return false;
    *width = (size_t)value;
    return true;
}

enum kd_status kd_resize_word(const char *word, struct kd_resize *how, bool *known)
{
    const bool crop = strncmp(word, "crop", 4) == 0;
    const char *numbers = word + (crop ? 4 : 6);
    size_t height = 0, width = 0;

    *known = (crop || strncmp(word, "resize", 6) == 0) && numbers[0] != '\0' &&
             numbers[strspn(numbers, "0123456789x")] == '\0';
    if (!*known)
        return KD_OK;
    if (crop ? how->crop_height > 0 : how->side > 0 || how->height > 0)
        return kd_fail(KD_EUSAGE, "'%s': another one stands behind it", word);
    if (!take_numbers(numbers, &height, &width))
        return kd_fail(
            KD_EUSAGE, "'%s': write %s224 or %s224x192 (height x width), up to %d",
            word, crop ? "crop" : "resize", crop ? "crop" : "resize", KD_RESIZE_LIMIT);
    if (crop) {
        how->crop_height = height;
        how->crop_width = width > 0 ? width : height;
    } else if (width > 0) {
        how->height = height;
        how->width = width;
    } else {
        how->side = height;
    }
    return KD_OK;
}

void kd_resize_text(const struct kd_resize *how, char text[KD_RESIZE_TEXT])
{
    const size_t half = KD_RESIZE_TEXT / 2; /* is enough for each word */
    char *at = text;
    const char *comma = "";

    text[0] = '\0';
    if (how->side > 0)
        at += snprintf(at, half, "resize%zu", how->side);
    else if (how->height > 0)
        at += snprintf(at, half, "resize%zux%zu", how->height, how->width);
    comma = at > text ? "," : "";
    if (how->crop_height > 0 && how->crop_height == how->crop_width)
        snprintf(at, half, "%scrop%zu", comma, how->crop_height);
    else if (how->crop_height > 0)
        snprintf(at, half, "%scrop%zux%zu", comma, how->crop_height, how->crop_width);
}
