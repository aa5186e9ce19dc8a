/* SPDX-License-Identifier: MIT */
/* PNG, decoded to RGB of 8 bits by libpng. */
#include "data/format_internal.h"

#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kd/memory.h"

/* All that outlives a jump out of libpng. */
struct decoder {
    const struct kd_map *file;
    size_t used; /* of the file */
    jmp_buf jump;
    char message[256];
    png_structp png;
    png_infop info;
    uint8_t *rows; /* [height][width][3] */
};

static void fail(png_structp png, png_const_charp message)
{
    struct decoder *decoder = png_get_error_ptr(png);

    snprintf(decoder->message, sizeof decoder->message, "%s", message);
    longjmp(decoder->jump, 1);
}

static void ignore(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void read_bytes(png_structp png, png_bytep to, size_t size)
{
    struct decoder *decoder = png_get_io_ptr(png);

    if (size > decoder->file->size - decoder->used)
        png_error(png, "truncated");
    memcpy(to, decoder->file->data + decoder->used, size);
    decoder->used += size;
}

/* Reads up to the pixels; the decoder's jump has been set. */
static void read_head(struct decoder *decoder, struct kd_image_size *found)
{
    png_set_user_limits(decoder->png, KD_IMAGE_SIDE_LIMIT, KD_IMAGE_SIDE_LIMIT);
    png_set_read_fn(decoder->png, decoder, read_bytes);
    png_read_info(decoder->png, decoder->info);
    found->height = png_get_image_height(decoder->png, decoder->info);
    found->width = png_get_image_width(decoder->png, decoder->info);
}

/* Everything becomes RGB, 8 bits; alpha is dropped. */
static void read_pixels(struct decoder *decoder, struct kd_image_size size)
{
    png_structp png = decoder->png;

    png_set_expand(png);
    png_set_scale_16(png);
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, decoder->info);
    if (png_get_rowbytes(png, decoder->info) != 3 * size.width)
        png_error(png, "cannot be made RGB");
    for (int pass = 0; pass < passes; pass++)
        for (size_t y = 0; y < size.height; y++)
            png_read_row(png, decoder->rows + y * 3 * size.width, NULL);
    png_read_end(png, NULL);
}

/* False where libpng jumped out; then decoder->message says why. */
static bool try_head(struct decoder *decoder, struct kd_image_size *found)
{
    if (setjmp(decoder->jump) != 0)
        return false;
    read_head(decoder, found);
    return true;
}

static bool try_pixels(struct decoder *decoder, struct kd_image_size size)
{
    if (setjmp(decoder->jump) != 0)
        return false;
    read_pixels(decoder, size);
    return true;
}

static void split_planes(const uint8_t *rows, uint8_t *planes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++)
            planes[c * count + i] = rows[3 * i + c];
}

static bool start(struct decoder *decoder)
{
    decoder->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, decoder, fail, ignore);
    if (decoder->png != NULL)
        decoder->info = png_create_info_struct(decoder->png);
    return decoder->info != NULL;
}

enum kd_status kd_png_read(const struct kd_map *file, const char *path,
                           struct kd_image_size wanted, uint8_t *planes,
                           struct kd_image_size *found)
{
    enum kd_status status = KD_EBUG;
    struct decoder decoder = {.file = file};

    if (!start(&decoder)) {
        status = kd_fail(KD_EMEMORY, "%s: out of memory", path);
        goto out;
    }
    if (!try_head(&decoder, found)) {
        status = kd_fail(KD_EDATA, "%s: not a readable PNG: %s", path, decoder.message);
        goto out;
    }
    if (found->height == wanted.height && found->width == wanted.width) {
        KD_TRY(KD_NEW(decoder.rows, 3 * found->height * found->width));
        if (!try_pixels(&decoder, *found)) {
            status = kd_fail(KD_EDATA, "%s: damaged PNG: %s", path, decoder.message);
            goto out;
        }
        split_planes(decoder.rows, planes, found->height * found->width);
    }
    status = KD_OK;
out:
    free(decoder.rows);
    png_destroy_read_struct(&decoder.png, &decoder.info, NULL);
    return status;
}
