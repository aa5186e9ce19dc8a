/* SPDX-License-Identifier: MIT */
/* Views: random crops, flips and mixtures by counter. */
#include "kd/view.h"

#include "kd/options.h"
#include "kd/random.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF /* gcc does not contract under -std=c17 */
#endif

#define MAX_CROP  64
#define MAX_ALPHA 100
#define ONE       65536 /* lambda 1 */

/* -- text ------------------------------------------------------------------- */

static bool parse_crop(const char *text, uint32_t *crop)
{
    uint64_t value = 0;

    if (*crop != 0 || strlen(text) > 2 || !kd_parse_u64(text, 1, MAX_CROP, &value))
        return false;
    *crop = (uint32_t)value;
    return true;
}

/* A decimal in thousandths; `usual` where there is none. */
static bool parse_alpha(const char *text, uint32_t usual, uint32_t *alpha)
{
    double value = 0;

    if (*alpha != 0)
        return false;
    if (*text == '\0') {
        *alpha = usual;
        return true;
    }
    if (!kd_parse_f64(text, 0.001, MAX_ALPHA, &value))
        return false;
    *alpha = (uint32_t)(1000 * value + 0.5);
    return fabs(1000 * value - *alpha) < 1e-6;
}

/* "A:B", of which there are no more than a random number can tell apart. */
static bool parse_from(const char *text, struct kd_view_spec *spec)
{
    const char *colon = strchr(text, ':');
    char first[16] = "";

    if (spec->to != 0 || colon == NULL || (size_t)(colon - text) >= sizeof first)
        return false;
    memcpy(first, text, (size_t)(colon - text));
    return kd_parse_u64(first, 0, UINT32_MAX - 1, &spec->from) &&
           kd_parse_u64(colon + 1, spec->from + 1, UINT32_MAX, &spec->to);
}

/* One item of the list, of `length` bytes; false where it is unknown or twice. */
static bool parse_item(const char *item, size_t length, struct kd_view_spec *spec)
{
    char word[64] = "";

    if (length >= sizeof word)
        return false;
    memcpy(word, item, length);
    if (strcmp(word, "flip") == 0 && !spec->flip) {
        spec->flip = true;
        return true;
    }
    if (strncmp(word, "crop", 4) == 0)
        return parse_crop(word + 4, &spec->crop);
    if (strncmp(word, "mixup", 5) == 0)
        return parse_alpha(word + 5, 200, &spec->mixup);
    if (strncmp(word, "cutmix", 6) == 0)
        return parse_alpha(word + 6, 1000, &spec->cutmix);
    return strncmp(word, "from", 4) == 0 && parse_from(word + 4, spec);
}

enum kd_status kd_view_parse(const char *text, uint64_t seed, struct kd_view_spec *spec)
{
    *spec = (struct kd_view_spec){.seed = seed};
    if (strcmp(text, "none") == 0)
        return KD_OK;
    for (const char *item = text;; item++) {
        size_t length = strcspn(item, ",");
        if (!parse_item(item, length, spec))
            return kd_fail(KD_EUSAGE,
                           "'%s': not an augmentation: take none, or a list of cropN "
                           "(N 1 to %d), flip, mixupA and cutmixA (A 0.001 to %d) and "
                           "fromA:B, such as crop4,flip or crop4,flip,mixup0.2",
                           text, MAX_CROP, MAX_ALPHA);
        item += length;
        if (*item == '\0')
            break;
    }
    if (spec->to != 0 && !kd_view_mixes(spec))
        return kd_fail(KD_EUSAGE,
                       "'%s': from, without mixup or cutmix: nothing is "
                       "taken from there",
                       text);
    return KD_OK;
}

static void append(char text[64], const char *item)
{
    size_t length = strlen(text);

    snprintf(text + length, 64 - length, "%s%s", length > 0 ? "," : "", item);
}

/* "mixup0.2": as few digits as tell it from every other. */
static void append_alpha(char text[64], const char *word, uint32_t alpha)
{
    char item[32];
    int length = snprintf(item, sizeof item, "%s%" PRIu32 ".%03" PRIu32, word,
                          alpha / 1000, alpha % 1000);

    while (item[length - 1] == '0')
        item[--length] = '\0';
    if (item[length - 1] == '.')
        item[--length] = '\0';
    append(text, item);
}

void kd_view_text(const struct kd_view_spec *spec, char text[64])
{
    char item[64];

    text[0] = '\0';
    if (spec->crop > 0) {
        snprintf(item, sizeof item, "crop%" PRIu32, spec->crop);
        append(text, item);
    }
    if (spec->flip)
        append(text, "flip");
    if (spec->mixup > 0)
        append_alpha(text, "mixup", spec->mixup);
    if (spec->cutmix > 0)
        append_alpha(text, "cutmix", spec->cutmix);
    if (spec->to > 0) {
        snprintf(item, sizeof item, "from%" PRIu64 ":%" PRIu64, spec->from, spec->to);
        append(text, item);
    }
    if (text[0] == '\0')
        strcpy(text, "none");
}

/* -- what a spec needs ------------------------------------------------------ */

bool kd_view_mixes(const struct kd_view_spec *spec)
{
    return spec->mixup > 0 || spec->cutmix > 0;
}

bool kd_view_draws(const struct kd_view_spec *spec)
{
    return spec->crop > 0 || spec->flip || kd_view_mixes(spec);
}

enum kd_status kd_view_settle(struct kd_view_spec *spec,
                              const struct kd_dataset_facts *data)
{
    if (kd_view_mixes(spec) && spec->to == 0) {
        if (data->end > UINT32_MAX)
            return kd_fail(KD_EUSAGE,
                           "%s: partners can be taken from the first 2^32 samples "
                           "alone: say which, as from0:1000000",
                           data->name);
        spec->from = data->first;
        spec->to = data->end;
    }
    return kd_view_check(spec, data);
}

static enum kd_status check_mix(const struct kd_view_spec *spec,
                                const struct kd_dataset_facts *data)
{
    if (spec->cutmix > 0 && (data->shape.height < 2 || data->shape.width < 2))
        return kd_fail(
            KD_EUSAGE,
            "cutmix: samples of %zu x %zu have no room for a box: take mixup",
            data->shape.height, data->shape.width);
    if (spec->to == 0)
        return kd_fail(KD_EUSAGE, "mixup and cutmix: mixed with which samples? say "
                                  "it, as from0:1000");
    if (spec->to > data->total)
        return kd_fail(KD_EUSAGE,
                       "from%" PRIu64 ":%" PRIu64 ": %s has no more than %" PRIu64
                       " samples",
                       spec->from, spec->to, data->name, data->total);
    return KD_OK;
}

enum kd_status kd_view_check(const struct kd_view_spec *spec,
                             const struct kd_dataset_facts *data)
{
    struct kd_shape shape = data->shape;
    size_t side = shape.height < shape.width ? shape.height : shape.width;

    if (spec->crop > 0 && spec->crop >= side)
        return kd_fail(KD_EUSAGE,
                       "crop%" PRIu32 ": too much for samples of %zu x %zu: a view "
                       "could be empty",
                       spec->crop, shape.height, shape.width);
    if (spec->flip && shape.width < 2)
        return kd_fail(KD_EUSAGE, "flip: the samples are only one element wide");
    return kd_view_mixes(spec) ? check_mix(spec, data) : KD_OK;
}

/* -- one sample ------------------------------------------------------------- */

/* Where a view lies: its element (y, x), before the flip, is the sample's
 * (y + down, x + right), or 0 outside. */
struct offset {
    ptrdiff_t down, right;
    bool flip;
};

/* The draws of a view that it has without a partner. */
static struct offset draw_offset(const struct kd_view_spec *spec, struct kd_random *r)
{
    struct offset offset = {0, 0, false};
    uint32_t crop = spec->crop;

    if (crop > 0) {
        offset.down = (ptrdiff_t)kd_random_below(r, 2 * crop + 1) - (ptrdiff_t)crop;
        offset.right = (ptrdiff_t)kd_random_below(r, 2 * crop + 1) - (ptrdiff_t)crop;
    }
    if (spec->flip)
        offset.flip = kd_random_below(r, 2) == 1;
    return offset;
}

/* Copies one plane of elements of `size` bytes, shifted, with zeros around. */
static void shift_plane(const uint8_t *from, uint8_t *to, struct kd_shape shape,
                        struct offset offset, size_t size)
{
    ptrdiff_t height = (ptrdiff_t)shape.height, width = (ptrdiff_t)shape.width;
    ptrdiff_t begin = offset.right < 0 ? -offset.right : 0; /* columns of `to` */
    ptrdiff_t end = offset.right > 0 ? width - offset.right : width;
    size_t row = shape.width * size;

    memset(to, 0, shape.height * row);
    if (begin >= end)
        return;
    for (ptrdiff_t y = 0; y < height; y++) {
        ptrdiff_t source = y + offset.down;
        if (source >= 0 && source < height)
            memcpy(to + (size_t)y * row + (size_t)begin * size,
                   from + (size_t)source * row + (size_t)(begin + offset.right) * size,
                   (size_t)(end - begin) * size);
    }
}

static void flip_bytes(uint8_t *row, size_t width)
{
    for (size_t i = 0, j = width - 1; i < j; i++, j--) {
        uint8_t kept = row[i];
        row[i] = row[j];
        row[j] = kept;
    }
}

static void flip_floats(float *row, size_t width)
{
    for (size_t i = 0, j = width - 1; i < j; i++, j--) {
        float kept = row[i];
        row[i] = row[j];
        row[j] = kept;
    }
}

static void flip_rows(void *drawn, size_t rows, size_t width, enum kd_type type)
{
    for (size_t i = 0; i < rows; i++) {
        if (type == KD_U8)
            flip_bytes((uint8_t *)drawn + i * width, width);
        else
            flip_floats((float *)drawn + i * width, width);
    }
}

void kd_view_draw(const struct kd_view_spec *spec, struct kd_shape shape,
                  enum kd_type type, uint64_t id, uint32_t view, const void *sample,
                  void *drawn)
{
    size_t size = kd_type_size(type), plane = shape.height * shape.width * size;
    struct kd_random r = kd_random_at(spec->seed, KD_RANDOM_VIEW, id, view);
    struct offset offset = {0, 0, false};

    if (view > 0)
        offset = draw_offset(spec, &r);
    for (size_t c = 0; c < shape.channels; c++)
        shift_plane((const uint8_t *)sample + c * plane, (uint8_t *)drawn + c * plane,
                    shape, offset, size);
    if (offset.flip)
        flip_rows(drawn, shape.channels * shape.height, shape.width, type);
}

/* -- two samples ------------------------------------------------------------ */

/* One side of a box of `share` of a side of `size`, around `centre`. */
static void cut_side(double share, size_t size, size_t centre, size_t *begin,
                     size_t *end)
{
    size_t length = (size_t)((double)size * share), before = length / 2;

    *begin = centre > before ? centre - before : 0;
    *end = centre + length - before < size ? centre + length - before : size;
}

static void draw_box(struct kd_random *r, struct kd_shape shape, uint32_t weight,
                     struct kd_view_mix *mix)
{
    const double share = sqrt((ONE - weight) / (double)ONE);
    const size_t y = kd_random_below(r, (uint32_t)shape.height);
    const size_t x = kd_random_below(r, (uint32_t)shape.width);
    const size_t whole = shape.height * shape.width;

    cut_side(share, shape.height, y, &mix->top, &mix->bottom);
    cut_side(share, shape.width, x, &mix->left, &mix->right);
    const size_t pasted = (mix->bottom - mix->top) * (mix->right - mix->left);
    mix->ratio = (float)((double)(whole - pasted) / (double)whole);
}

struct kd_view_mix kd_view_partner(const struct kd_view_spec *spec,
                                   struct kd_shape shape, uint64_t id, uint32_t view)
{
    struct kd_random r = kd_random_at(spec->seed, KD_RANDOM_VIEW, id, view);
    struct kd_view_mix mix = {.ratio = 1, .partner = id, .weight = ONE};
    bool cut = spec->cutmix > 0;

    if (view == 0 || !kd_view_mixes(spec))
        return mix;
    (void)draw_offset(spec, &r);
    if (spec->mixup > 0 && spec->cutmix > 0)
        cut = kd_random_below(&r, 2) == 1;
    mix.partner = spec->from + kd_random_below(&r, (uint32_t)(spec->to - spec->from));
    const double alpha = (cut ? spec->cutmix : spec->mixup) / 1000.0;
    const uint32_t weight = (uint32_t)(ONE * kd_random_beta(&r, alpha, alpha) + 0.5);
    if (cut) {
        draw_box(&r, shape, weight, &mix);
    } else {
        mix.weight = weight;
        mix.ratio = (float)weight / ONE;
    }
    if (mix.ratio >= 1)
        mix.partner = id;
    return mix;
}

static void blend_bytes(uint32_t weight, size_t count, const uint8_t *from, uint8_t *to)
{
    for (size_t i = 0; i < count; i++)
        to[i] = (uint8_t)((weight * to[i] + (ONE - weight) * from[i] + ONE / 2) / ONE);
}

static void blend_floats(uint32_t weight, size_t count, const float *from, float *to)
{
    const float own = (float)weight / ONE, other = (float)(ONE - weight) / ONE;

    for (size_t i = 0; i < count; i++)
        to[i] = own * to[i] + other * from[i];
}

static void paste_box(const struct kd_view_mix *mix, struct kd_shape shape, size_t size,
                      const uint8_t *from, uint8_t *to)
{
    const size_t bytes = (mix->right - mix->left) * size;

    for (size_t c = 0; c < shape.channels; c++)
        for (size_t y = mix->top; y < mix->bottom; y++) {
            size_t at = ((c * shape.height + y) * shape.width + mix->left) * size;
            memcpy(to + at, from + at, bytes);
        }
}

void kd_view_blend(const struct kd_view_mix *mix, struct kd_shape shape,
                   enum kd_type type, const void *partner, void *drawn)
{
    if (mix->weight == ONE)
        paste_box(mix, shape, kd_type_size(type), partner, drawn);
    else if (type == KD_U8)
        blend_bytes(mix->weight, kd_shape_size(shape), partner, drawn);
    else
        blend_floats(mix->weight, kd_shape_size(shape), partner, drawn);
}
