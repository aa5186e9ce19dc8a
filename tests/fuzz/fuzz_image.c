/* SPDX-License-Identifier: MIT */
/* PNG and JPEG, as in folders of images: a byte that says which, and the file. */
#include "fuzz.h"

#include "data/format_internal.h"

#include <jpeglib.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIDE 8

/* Larger images are not decoded: it would only take longer. */
#define MAX_SIDE 256

static void add(uint8_t kind, const void *file, size_t size)
{
    uint8_t input[8192] = {kind};

    kd_fuzz_expect(size < sizeof input, "a small seed");
    memcpy(input + 1, file, size);
    kd_fuzz_seed(input, size + 1);
}

static void add_png(png_uint_32 format, const uint8_t *pixels)
{
    png_image image = {
        .version = PNG_IMAGE_VERSION, .width = SIDE, .height = SIDE, .format = format};
    uint8_t file[4096];
    png_alloc_size_t size = sizeof file;

    kd_fuzz_expect(png_image_write_to_memory(&image, file, &size, 0, pixels, 0, NULL) !=
                       0,
                   image.message);
    add(0, file, size);
}

static void add_jpeg(int components, J_COLOR_SPACE space, bool progressive,
                     uint8_t *pixels)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *file = NULL;
    unsigned long size = 0;

    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &file, &size);
    jpeg.image_width = jpeg.image_height = SIDE;
    jpeg.input_components = components;
    jpeg.in_color_space = space;
    jpeg_set_defaults(&jpeg);
    if (progressive)
        jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < SIDE) {
        JSAMPROW row = pixels + jpeg.next_scanline * SIDE * (unsigned)components;
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    add(1, file, size);
    free(file);
}

void kd_fuzz_seeds(void)
{
    uint8_t pixels[SIDE * SIDE * 8];

    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * 37);
    add_png(PNG_FORMAT_RGB, pixels);
    add_png(PNG_FORMAT_RGBA, pixels);
    add_png(PNG_FORMAT_GRAY, pixels);
    add_png(PNG_FORMAT_GA, pixels);
    add_jpeg(3, JCS_RGB, false, pixels);
    add_jpeg(3, JCS_RGB, true, pixels);
    add_jpeg(1, JCS_GRAYSCALE, false, pixels);
    add_jpeg(4, JCS_CMYK, false, pixels);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum kd_status (*read)(const struct kd_map *, const char *, struct kd_image_size,
                           uint8_t *, struct kd_image_size *) = NULL;
    struct kd_image_size found = {0, 0};
    uint8_t *planes = NULL;

    if (size == 0)
        return 0;
    const struct kd_map file = {data + 1, size - 1};
    read = data[0] % 2 == 0 ? kd_png_read : kd_jpeg_read;
    if (read(&file, "input", found, NULL, &found) == KD_OK && found.height > 0 &&
        found.width > 0 && found.height <= MAX_SIDE && found.width <= MAX_SIDE) {
        planes = malloc(3 * found.height * found.width);
        kd_fuzz_expect(planes != NULL, "memory");
        (void)!read(&file, "input", found, planes, &found);
        free(planes);
    }
    return 0;
}
