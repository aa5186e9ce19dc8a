/* SPDX-License-Identifier: MIT */
/*
 * Resizing: images of any size become samples of one.
 *
 *     const struct kd_resize how = {
 *         .side = 256, .crop_height = 224, .crop_width = 224};
 *     KD_TRY(kd_resize_shape(&how, image, &shape));
 *     KD_TRY(kd_resize_apply(&how, KD_U8, image, pixels, sample));
 *
 * The filter is bilinear and antialiased, that of Pillow's Image.resize(BILINEAR) and
 * of torchvision's Resize on Pillow images, bit by bit. With r = in/out of a side and
 * s = max(r, 1), output x is the mean of the inputs i, weighted by
 *
 *     w(i) = max(0, 1 - |i + 1/2 - c| / s),   c = (x + 1/2) r,
 *
 * for i from floor(c - s + 1/2) to floor(c + s + 1/2) - 1, as far as there are inputs;
 * the weights are divided by their sum. Rows first, then columns. Of bytes: weights are
 * rounded to 22 binary places, and the sum after each direction to a byte, halves up;
 * of floats: sums are double, rounded to float after each direction.
 *
 * A shorter side that becomes S takes the longer one to floor(S longer / shorter). A
 * centre crop of h rows leaves out round((H - h) / 2) rows above, halves to even, and
 * columns likewise: torchvision's CenterCrop. An image that a crop does not fit into is
 * refused.
 */
#ifndef KD_RESIZE_H
#define KD_RESIZE_H

#include "kd/dataset.h"
#include "kd/status.h"
#include "kd/type.h"

#include <stdbool.h>
#include <stddef.h>

/* At most this a side. */
#define KD_RESIZE_LIMIT 16384

/* All zero: nothing is done. */
struct kd_resize {
    size_t side;          /* the shorter side becomes so long; or ... */
    size_t height, width; /* ... the image so large, whatever its proportions */
    size_t crop_height, crop_width; /* and then its centre is taken */
};

bool kd_resize_does(const struct kd_resize *how);

/* What an image of `from` becomes. KD_EDATA where the crop is larger. */
enum kd_status kd_resize_shape(const struct kd_resize *how, struct kd_shape from,
                               struct kd_shape *to) KD_CHECKED;

/* Resizes `image`, [channels][height][width] of `shape`, into `to`, which has the size
 * that kd_resize_shape says. `type` is KD_U8 or KD_F32. */
enum kd_status kd_resize_apply(const struct kd_resize *how, enum kd_type type,
                               struct kd_shape shape, const void *image,
                               void *to) KD_CHECKED;

/* Takes one word: "resize256", "resize200x300" (height x width), "crop224",
 * "crop224x192". *known: it is one; KD_EUSAGE where it is there already, or its numbers
 * are none. */
enum kd_status kd_resize_word(const char *word, struct kd_resize *how,
                              bool *known) KD_CHECKED;

/* The words of it, "resize256,crop224", "" for nothing. */
#define KD_RESIZE_TEXT 96
void kd_resize_text(const struct kd_resize *how, char text[KD_RESIZE_TEXT]);

#endif
