/* SPDX-License-Identifier: MIT */
/*
 * Formats: what stands behind a dataset. A format opens what is named behind
 * "scheme:" and leaves in the dataset its samples, labels and class names; all
 * that formats share (slices, digests, label counts, finiteness) is done in
 * dataset.c. To add a format: write its struct kd_format in a file of its own,
 * declare it below, and put it into the table in dataset.c.
 */
#ifndef KD_DATA_FORMAT_INTERNAL_H
#define KD_DATA_FORMAT_INTERNAL_H

#include "kd/dataset.h"
#include "kd/file.h"
#include "kd/hash.h"
#include "kd/status.h"
#include "kd/type.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Deflate makes nothing smaller than by this factor. */
#define KD_DEFLATE_RATIO 1032

/* Bytes of a file, mapped or on the heap. All zero: none. */
struct kd_bytes {
    const uint8_t *data;
    struct kd_map map;
    void *heap;
};
void kd_bytes_clear(struct kd_bytes *bytes);

/* Samples that lie at equal distances in memory; ids run on from part to part. */
struct kd_part {
    struct kd_bytes bytes;
    const uint8_t *samples; /* the first sample's elements; any alignment */
    size_t stride;          /* bytes from one sample to the next */
    uint64_t first, count;  /* ids; first is set by kd_dataset_add_part */
};

struct kd_dataset {
    /* By the format: shape, type, and num_classes where it is known; total where
     * there are no parts. The rest by dataset.c. */
    struct kd_dataset_facts facts;
    const struct kd_format *format;
    char *name;           /* as given, with the slice */
    size_t sample_bytes;  /* of one sample's elements */
    struct kd_part *part; /* [num_parts] */
    size_t num_parts;
    int32_t *label;    /* [facts.total] on the heap, NULL where there are none */
    char **class_name; /* [facts.num_classes] and NULL, or NULL */
    void *state;       /* the format's own */
};

struct kd_format {
    const char *scheme; /* "idx" */
    const char *usage;  /* what stands behind the colon: "IMAGES[,LABELS]" */

    enum kd_status (*open)(struct kd_dataset *data, const char *rest);

    /* For formats without parts; NULL for those with. `add_content` feeds what
     * the dataset's digest is made of, besides shape, type and labels. */
    enum kd_status (*read)(const struct kd_dataset *data, uint64_t id, void *pixels);
    enum kd_status (*add_content)(const struct kd_dataset *data, struct kd_hash *hash);

    /* kd_dataset_sizes_differ; NULL: they do not. */
    enum kd_status (*sizes_differ)(const struct kd_dataset *data, bool *differ);

    void (*close)(struct kd_dataset *data); /* frees state; may be NULL */
};

extern const struct kd_format kd_format_cifar10, kd_format_cifar100, kd_format_idx,
    kd_format_npy, kd_format_hdf5, kd_format_folder;

/* KD_EUSAGE, saying how datasets of this format are named. */
enum kd_status kd_dataset_misnamed(const struct kd_dataset *data) KD_CHECKED;

/* Takes over the part's bytes, also on failure. */
enum kd_status kd_dataset_add_part(struct kd_dataset *data,
                                   struct kd_part *part) KD_CHECKED;

/* array.c, for formats that hold arrays. `what` names the array in messages. */

/* Makes a part of an array of samples: checks type and shape, sets shape and type
 * of the dataset. Takes over `bytes`, also on failure. */
enum kd_status kd_array_samples(struct kd_dataset *data, const char *what,
                                const struct kd_array_info *info,
                                struct kd_bytes *bytes) KD_CHECKED;

/* Makes the labels of an array of integers, [N] or [N,1]; N must be that of the
 * samples, which are there already. `bytes` stays the caller's. */
enum kd_status kd_array_labels(struct kd_dataset *data, const char *what,
                               const struct kd_array_info *info,
                               const struct kd_bytes *bytes) KD_CHECKED;

/* Opens "SAMPLES[,LABELS]", two files that hold an array each; `open_array` says what
 * is in one and maps or reads it. */
typedef enum kd_status kd_array_opener(const char *path, struct kd_array_info *info,
                                       struct kd_bytes *bytes);
enum kd_status kd_array_open_pair(struct kd_dataset *data, const char *rest,
                                  kd_array_opener *open_array) KD_CHECKED;

/* png.c and jpeg.c, for folders. They read the header and say the image's size;
 * where that is what is wanted, they decode it to RGB into planes
 * [3][height][width]. `file` has the bytes, `path` is for messages. */
struct kd_image_size {
    size_t height, width;
};
#define KD_IMAGE_SIDE_LIMIT 16384
enum kd_status kd_png_read(const struct kd_map *file, const char *path,
                           struct kd_image_size wanted, uint8_t *planes,
                           struct kd_image_size *found) KD_CHECKED;
enum kd_status kd_jpeg_read(const struct kd_map *file, const char *path,
                            struct kd_image_size wanted, uint8_t *planes,
                            struct kd_image_size *found) KD_CHECKED;

#endif
