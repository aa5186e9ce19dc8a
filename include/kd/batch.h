/* SPDX-License-Identifier: MIT */
/*
 * Batches: samples drawn, normalised and laid out for a network.
 *
 *     struct kd_batch batch = {0};
 *     KD_TRY(kd_batch_init(&batch, data, 128));
 *     for (...) {
 *         batch.size = n;          (and batch.id, batch.view of 0 .. n-1)
 *         KD_TRY(kd_batch_fill(&batch, data, &spec, &normalize));
 *         ... batch.input, batch.label ...
 *     }
 *     kd_batch_clear(&batch);
 */
#ifndef KD_BATCH_H
#define KD_BATCH_H

#include "kd/dataset.h"
#include "kd/resize.h"
#include "kd/view.h"

#include <stdbool.h>

/* How a network wants its samples. All zero but for type: as they are. */
struct kd_input {
    enum kd_type type;       /* KD_F32, normalised; or KD_U8, the bytes as they are */
    bool channels_last;      /* [height][width][channels]; else channels come first */
    struct kd_resize resize; /* after views are drawn */
    struct kd_normalize normalize; /* of floats */
};

struct kd_batch {
    size_t capacity;
    size_t size;    /* samples in it; set by the caller */
    uint64_t *id;   /* [capacity] set by the caller */
    uint32_t *view; /* [capacity] set by the caller */
    int32_t *label; /* [capacity] */
    float *input;   /* [capacity][channels][height][width], by kd_batch_fill */

    /* What views that mix add (kd/view.h): the partner's label, and the share of the
     * sample's own. The sample's label and 1 where nothing is mixed in. */
    int32_t *partner_label; /* [capacity] */
    float *ratio;           /* [capacity] */

    /* Partners may be samples that the data's slice leaves out; set by the caller. A
     * teacher may look at them, a student would train on what was held out. */
    bool beyond_slice;

    uint8_t *pixels;  /* private: scratch space */
    uint8_t *partner; /* private: more of it, once views mix */
};

enum kd_status kd_batch_init(struct kd_batch *batch, const struct kd_dataset *data,
                             size_t capacity) KD_CHECKED;
void kd_batch_clear(struct kd_batch *batch);

/* Reads, draws and normalises the samples named by id and view, on the compute
 * threads. What lies behind batch->size in `input` is left as it is. KD_EUSAGE where
 * the views do not fit the samples, or mix in what they may not. */
enum kd_status kd_batch_fill(struct kd_batch *batch, const struct kd_dataset *data,
                             const struct kd_view_spec *spec,
                             const struct kd_normalize *normalize) KD_CHECKED;

/* The same, but resized, typed and laid out as `input` says, into `to`, which has room
 * for batch->size samples as kd_input_shape says. batch->input is not touched. KD_EDATA
 * where bytes are wanted of samples that are floats. */
enum kd_status kd_batch_fill_as(struct kd_batch *batch, const struct kd_dataset *data,
                                const struct kd_view_spec *spec,
                                const struct kd_input *input, void *to) KD_CHECKED;

/* The shape of a sample as the network wants it (channels, height, width, whatever the
 * layout), and its bytes, of samples of `shape`. */
enum kd_status kd_input_shape(const struct kd_input *input, struct kd_shape shape,
                              struct kd_shape *wanted, size_t *bytes) KD_CHECKED;

#endif
