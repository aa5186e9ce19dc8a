/* SPDX-License-Identifier: MIT */
/*
 * Views: deterministic augmentation.
 *
 * View 0 of a sample is the sample. View v > 0 is drawn from the random stream
 * (seed, KD_RANDOM_VIEW, id, v) alone: every program, thread and machine gets
 * the same pixels, so a teacher's logits for (id, v) belong to exactly what the
 * student sees. Drawing is done on the raw elements, before normalisation, which
 * each network does in its own way.
 *
 *     struct kd_view_spec spec;
 *     KD_TRY(kd_view_parse("crop4,flip", seed, &spec));
 *     kd_view_draw(&spec, shape, KD_U8, id, view, pixels, drawn);
 *
 * The order of draws is part of the cache format: crop row, crop column, flip.
 */
#ifndef KD_VIEW_H
#define KD_VIEW_H

#include "kd/dataset.h"
#include "kd/status.h"
#include "kd/type.h"

#include <stdbool.h>
#include <stdint.h>

struct kd_view_spec {
    uint64_t seed;
    uint32_t crop; /* pad by so many zeros at each side, crop at random; 0: not */
    bool flip;     /* mirror left to right, in half of the views */
};

/* Parses "none" or a comma-separated list of cropN (1 to 64) and flip. */
enum kd_status kd_view_parse(const char *text, uint64_t seed,
                             struct kd_view_spec *spec) KD_CHECKED;

/* The canonical text of a spec: "none", "crop4,flip". `text` holds 64 bytes. */
void kd_view_text(const struct kd_view_spec *spec, char text[64]);

/* KD_EUSAGE where views of such samples make no sense: a crop as wide as the
 * sample, a flip of single elements. kd_batch_fill checks it as well. */
enum kd_status kd_view_check(const struct kd_view_spec *spec,
                             struct kd_shape shape) KD_CHECKED;

/* Draws one view of `sample` into `drawn` (both [channels][height][width] of
 * `type`; they must not overlap). */
void kd_view_draw(const struct kd_view_spec *spec, struct kd_shape shape,
                  enum kd_type type, uint64_t id, uint32_t view, const void *sample,
                  void *drawn);

#endif
