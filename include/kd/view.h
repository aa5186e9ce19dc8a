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
 *     KD_TRY(kd_view_parse("crop4,flip,mixup0.2", seed, &spec));
 *     KD_TRY(kd_view_settle(&spec, kd_dataset_facts(data)));
 *     kd_view_draw(&spec, shape, KD_U8, id, view, pixels, drawn);
 *     mix = kd_view_partner(&spec, shape, id, view);
 *     if (mix.ratio < 1) {
 *         kd_view_draw(&spec, shape, KD_U8, mix.partner, view, others, partner);
 *         kd_view_blend(&mix, shape, KD_U8, partner, drawn);
 *     }
 *
 * which is what kd_batch_fill does (kd/batch.h), reading the partner too.
 *
 * The words of an augmentation, at most one of each, in any order:
 *
 *     cropN      pad by N zeros at each side (N 1 to 64), crop at random
 *     flip       mirror left to right, in half of the views
 *     mixupA     lambda * sample + (1 - lambda) * partner, lambda ~ Beta(A, A)
 *                (Zhang, Cisse, Dauphin, Lopez-Paz, "mixup", ICLR 2018)
 *     cutmixA    a box of the partner, of 1 - lambda of the area, in the sample
 *                (Yun, Han, Oh, Chun, Choe, Yoo, "CutMix", ICCV 2019)
 *     fromA:B    partners are ids A to B-1; by default those of the dataset's slice
 *
 * A is 0.001 to 100, in steps of 0.001; `mixup` alone is mixup0.2, `cutmix` alone
 * cutmix1, the papers' values for ImageNet. With both, a view takes one of them, by a
 * fair coin. Only samples of the slice are mixed in, lest what was held out is trained
 * on; so the slice is part of the augmentation, and where slices of one dataset are
 * dumped apart, to be one cache, the whole they are slices of is given with `from`.
 *
 * What is drawn, and in which order, is part of the cache format:
 *
 *     1. cropN: the row, then the column, each below(2N + 1) - N
 *     2. flip: if below(2) is 1
 *     3. mixup and cutmix: below(2), 0 for mixup, 1 for cutmix
 *     4. mixup or cutmix: the partner, of n ids from the first: first + below(n); it
 *        may be the sample itself
 *     5. lambda = floor(65536 beta(A, A) + 1/2) / 65536
 *     6. cutmix: the box's centre, row below(height), column below(width)
 *
 * in terms of kd/random.h, whose numbers have the same bits on every machine. Rounding
 * lambda to 65536ths moves a mixture of bytes by 0.002 of a level at most, and makes it
 * and 1 - lambda exact as floats and as integers. The partner is cropped and flipped by
 * steps 1 and 2 of its own stream (seed, KD_RANDOM_VIEW, partner, v), and not mixed.
 *
 * mixup, of bytes: (65536 lambda a + 65536 (1 - lambda) b + 32768) / 65536 in integers,
 * i.e. the nearest level, halves up; of floats: the sum, rounded, of the two products,
 * each rounded before, and never fused.
 *
 * cutmix: with s = sqrt(1 - lambda) in double, the box has h = floor(s height) rows
 * from row y - floor(h/2) and w = floor(s width) columns from column x - floor(w/2),
 * where (y, x) is its centre; what goes beyond the border is cut off. The ratio is then
 * 1 - (elements pasted) / (height width), not lambda.
 */
#ifndef KD_VIEW_H
#define KD_VIEW_H

#include "kd/dataset.h"
#include "kd/status.h"
#include "kd/type.h"

#include <stdbool.h>
#include <stdint.h>

/* All zero but for the seed: none. */
struct kd_view_spec {
    uint64_t seed;
    uint32_t crop; /* 0: not */
    bool flip;
    uint32_t mixup, cutmix; /* alpha in thousandths; 0: not */
    uint64_t from, to;      /* partners are ids from .. to-1; both 0: to be settled */
};

/* Parses "none" or a comma-separated list of the words above. */
enum kd_status kd_view_parse(const char *text, uint64_t seed,
                             struct kd_view_spec *spec) KD_CHECKED;

/* The canonical text of a spec: "none", "crop4,flip",
 * "flip,mixup0.2,cutmix1,from0:50000". `text` holds 64 bytes. */
void kd_view_text(const struct kd_view_spec *spec, char text[64]);

/* Whether views differ from the clean one. */
bool kd_view_draws(const struct kd_view_spec *spec);

/* Whether views have partners: their hard label is then
 * ratio * CE(label) + (1 - ratio) * CE(partner's label). */
bool kd_view_mixes(const struct kd_view_spec *spec);

/* Takes the partners from the data's slice where a spec that mixes does not say
 * whence; to be done before its text is kept or compared. Then kd_view_check. */
enum kd_status kd_view_settle(struct kd_view_spec *spec,
                              const struct kd_dataset_facts *data) KD_CHECKED;

/* KD_EUSAGE where views of such samples make no sense: a crop as wide as the
 * sample, a flip of single elements, partners that there are not. kd_batch_fill
 * checks it as well. */
enum kd_status kd_view_check(const struct kd_view_spec *spec,
                             const struct kd_dataset_facts *data) KD_CHECKED;

/* Draws one view of `sample` into `drawn` (both [channels][height][width] of
 * `type`; they must not overlap): crop and flip, without the partner. */
void kd_view_draw(const struct kd_view_spec *spec, struct kd_shape shape,
                  enum kd_type type, uint64_t id, uint32_t view, const void *sample,
                  void *drawn);

/* What a view mixes in. */
struct kd_view_mix {
    float ratio;      /* the sample's own share: 0 to 1; at 1 nothing is mixed in */
    uint64_t partner; /* id of the other; the sample's own at ratio 1 */

    /* private */
    uint32_t weight;                 /* mixup: 65536 lambda; cutmix: 65536 */
    size_t top, bottom, left, right; /* cutmix: rows top .. bottom-1, columns ... */
};

/* The partner of a view, and its share. The spec is settled, or does not mix. */
struct kd_view_mix kd_view_partner(const struct kd_view_spec *spec,
                                   struct kd_shape shape, uint64_t id, uint32_t view);

/* Mixes `partner`, the partner's drawn view, into `drawn`, the sample's own. */
void kd_view_blend(const struct kd_view_mix *mix, struct kd_shape shape,
                   enum kd_type type, const void *partner, void *drawn);

#endif
