/* SPDX-License-Identifier: MIT */
/* JPEG, decoded to RGB by libjpeg; gray becomes RGB, CMYK is refused. */
#include "data/format_internal.h"
#include "kd/memory.h"

#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs it */
#include <stdlib.h>

#include <jerror.h>
#include <jpeglib.h>

/* All that outlives a jump out of libjpeg. `errors` first: libjpeg gives back a
 * pointer to it. */
struct decoder {
    struct jpeg_error_mgr errors;
    jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
    struct jpeg_decompress_struct jpeg;
    uint8_t *row; /* [width][3] */
};

static void fail(j_common_ptr jpeg)
{
    struct decoder *decoder = (struct decoder *)jpeg->err;

    jpeg->err->format_message(jpeg, decoder->message);
    longjmp(decoder->jump, 1);
}

/* A warning (level -1) is about damaged or missing data, which libjpeg makes up;
 * only superfluous bytes are harmless. Traces are not of interest. */
static void judge(j_common_ptr jpeg, int level)
{
    if (level < 0 && jpeg->err->msg_code != JWRN_EXTRANEOUS_DATA)
        fail(jpeg);
}

static bool try_head(struct decoder *decoder, const struct kd_map *file,
                     struct kd_image_size *found)
{
    if (setjmp(decoder->jump) != 0)
        return false;
    jpeg_create_decompress(&decoder->jpeg);
    jpeg_mem_src(&decoder->jpeg, file->data, file->size);
    jpeg_read_header(&decoder->jpeg, TRUE);
    found->height = decoder->jpeg.image_height;
    found->width = decoder->jpeg.image_width;
    return true;
}

/* The slow integer transform has the same bits with and without vector units. */
static bool try_pixels(struct decoder *decoder, uint8_t *planes)
{
    struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    size_t plane = (size_t)jpeg->image_width * jpeg->image_height;

    if (setjmp(decoder->jump) != 0)
        return false;
    jpeg->out_color_space = JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg_start_decompress(jpeg);
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *to = planes + (size_t)jpeg->output_scanline * jpeg->output_width;
        jpeg_read_scanlines(jpeg, &decoder->row, 1);
        for (size_t x = 0; x < jpeg->output_width; x++)
            for (size_t c = 0; c < 3; c++)
                to[c * plane + x] = decoder->row[3 * x + c];
    }
    jpeg_finish_decompress(jpeg);
    return true;
}

static enum kd_status check_head(const struct decoder *decoder, const char *path,
                                 struct kd_image_size size)
{
    J_COLOR_SPACE space = decoder->jpeg.jpeg_color_space;

    if (space == JCS_CMYK || space == JCS_YCCK)
        return kd_fail(KD_EDATA, "%s: a CMYK image; convert it to RGB", path);
    if (size.height > KD_IMAGE_SIDE_LIMIT || size.width > KD_IMAGE_SIDE_LIMIT)
        return kd_fail(KD_EDATA, "%s: %zu x %zu pixels, over %d a side", path,
                       size.height, size.width, KD_IMAGE_SIDE_LIMIT);
    return KD_OK;
}

enum kd_status kd_jpeg_read(const struct kd_map *file, const char *path,
                            struct kd_image_size wanted, uint8_t *planes,
                            struct kd_image_size *found)
{
    enum kd_status status = KD_EBUG;
    struct decoder decoder = {.row = NULL};

    decoder.jpeg.err = jpeg_std_error(&decoder.errors);
    decoder.errors.error_exit = fail;
    decoder.errors.emit_message = judge;
    if (!try_head(&decoder, file, found)) {
        status =
            kd_fail(KD_EDATA, "%s: not a readable JPEG: %s", path, decoder.message);
        goto out;
    }
    KD_TRY(check_head(&decoder, path, *found));
    if (found->height == wanted.height && found->width == wanted.width) {
        KD_TRY(KD_NEW(decoder.row, 3 * found->width));
        if (!try_pixels(&decoder, planes)) {
            status = kd_fail(KD_EDATA, "%s: damaged JPEG: %s", path, decoder.message);
            goto out;
        }
    }
    status = KD_OK;
out:
    free(decoder.row);
    jpeg_destroy_decompress(&decoder.jpeg);
    return status;
}
