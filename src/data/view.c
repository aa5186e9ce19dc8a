/* SPDX-License-Identifier: MIT */
/* Views: random crops and flips by counter. */
#include "kd/view.h"

#include "kd/options.h"
#include "kd/random.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MAX_CROP 64

/* One item of the list, of `length` bytes; false where it is unknown or twice. */
static bool parse_item(const char *item, size_t length, struct kd_view_spec *spec)
{
    char number[8] = "";
    uint64_t crop = 0;

    if (length == 4 && memcmp(item, "flip", 4) == 0 && !spec->flip) {
        spec->flip = true;
        return true;
    }
    if (length < 5 || length > 6 || memcmp(item, "crop", 4) != 0 || spec->crop != 0)
        return false;
    memcpy(number, item + 4, length - 4);
    if (!kd_parse_u64(number, 1, MAX_CROP, &crop))
        return false;
    spec->crop = (uint32_t)crop;
    return true;
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
                           "(N 1 to %d) and flip, such as crop4,flip",
                           text, MAX_CROP);
        item += length;
        if (*item == '\0')
            return KD_OK;
    }
}

void kd_view_text(const struct kd_view_spec *spec, char text[64])
{
    char crop[16] = "";

    if (spec->crop > 0)
        snprintf(crop, sizeof crop, "crop%" PRIu32, spec->crop);
    snprintf(text, 64, "%s%s%s", crop, spec->crop > 0 && spec->flip ? "," : "",
             spec->flip ? "flip" : "");
    if (text[0] == '\0')
        strcpy(text, "none");
}

enum kd_status kd_view_check(const struct kd_view_spec *spec, struct kd_shape shape)
{
    size_t side = shape.height < shape.width ? shape.height : shape.width;

    if (spec->crop > 0 && spec->crop >= side)
        return kd_fail(KD_EUSAGE,
                       "crop%" PRIu32 ": too much for samples of %zu x %zu: a view "
                       "could be empty",
                       spec->crop, shape.height, shape.width);
    if (spec->flip && shape.width < 2)
        return kd_fail(KD_EUSAGE, "flip: the samples are only one element wide");
    return KD_OK;
}

/* Where a view lies: its element (y, x), before the flip, is the sample's
 * (y + down, x + right), or 0 outside. */
struct offset {
    ptrdiff_t down, right;
};

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
    struct offset offset = {0, 0};
    uint32_t crop = view > 0 ? spec->crop : 0;

    if (crop > 0) {
        offset.down = (ptrdiff_t)kd_random_below(&r, 2 * crop + 1) - (ptrdiff_t)crop;
        offset.right = (ptrdiff_t)kd_random_below(&r, 2 * crop + 1) - (ptrdiff_t)crop;
    }
    for (size_t c = 0; c < shape.channels; c++)
        shift_plane((const uint8_t *)sample + c * plane, (uint8_t *)drawn + c * plane,
                    shape, offset, size);
    if (view > 0 && spec->flip && kd_random_below(&r, 2) == 1)
        flip_rows(drawn, shape.channels * shape.height, shape.width, type);
}
