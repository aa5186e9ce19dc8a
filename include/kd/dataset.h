/* SPDX-License-Identifier: MIT */
/*
 * Datasets: samples with stable ids, from the files people have.
 *
 *     struct kd_dataset *data = NULL;
 *     KD_TRY(kd_dataset_open("cifar100:train.bin@0:18000", &data));
 *     const struct kd_dataset_facts *facts = kd_dataset_facts(data);
 *     for (id = facts->first; id < facts->end; id++)
 *         KD_TRY(kd_dataset_read(data, id, pixels, &label));
 *     kd_dataset_close(data);
 *
 * The grammar of a dataset's name:
 *
 *     cifar10:FILE,...          3073-byte records: label, 1024 red, green, blue
 *     cifar100:FILE,...         3074-byte records: coarse and fine label (the fine
 *                               one is used), then the same
 *     idx:IMAGES[,LABELS]       MNIST's format, gzip or not
 *     npy:X.npy[,Y.npy]         uint8 or float32; [N,F], [N,H,W] or [N,C,H,W]
 *     hdf5:FILE:/x[,/y]         the same, datasets of an HDF5 file; its root
 *                               attribute class_names ("cat,dog"), if it has one,
 *                               names the classes
 *     folder:DIR[,WORD...]      DIR/CLASS/NAME.png, .jpg or .jpeg; classes are the
 *                               sorted folder names; gray and palette images become
 *                               RGB. Without a word every image has the size of the
 *                               first. Words: resizeS (the shorter side becomes S) or
 *                               resizeHxW, then cropS or cropHxW (the centre), see
 *                               kd/resize.h; and unlabeled: folders are no classes, and
 *                               images may lie in DIR itself. How a camera was held
 *                               (EXIF) is not looked at
 *     ...@A:B                   ids A to B-1 of it; either may be left out
 *
 * An id is the sample's position in the whole dataset, whatever the slice.
 * Labels are 0 to num_classes-1, or -1 where there are none. Everything is
 * checked when it is opened (folder: when it is read): sizes, types, label
 * ranges, finiteness; a truncated, foreign or empty file gives KD_EDATA with
 * the file's name.
 */
#ifndef KD_DATASET_H
#define KD_DATASET_H

#include "kd/hash.h"
#include "kd/status.h"
#include "kd/type.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kd_dataset;

/* A label from here on is refused, as one that is none: an id, say, or a hash. */
#define KD_MAX_CLASSES (1 << 24)

/* A sample's shape: channels x height x width elements, that order. Rows of
 * features are channels x 1 x 1. */
struct kd_shape {
    size_t channels, height, width;
};

struct kd_dataset_facts {
    const char *name;      /* as it was given */
    struct kd_shape shape; /* of every sample */
    enum kd_type type;     /* of an element: KD_U8 or KD_F32 */
    uint64_t total;        /* samples in the whole dataset */
    uint64_t first, end;   /* the slice: ids first to end-1; all but empty */
    uint32_t num_classes;  /* 0 where there are neither labels nor class names. Of
                              the whole dataset: 10, 100, class names, or the
                              largest label + 1 */
    const char *const *class_names; /* [num_classes], or NULL */

    /* Of the whole dataset's content, whatever the slice: shape, type, number,
     * every sample (folder: each file's name, size and first 4 KiB, and the words that
     * resize and crop) and label. The same samples compressed or in another container
     * are the same dataset. */
    struct kd_digest digest;

    /* Of the class names in order; of the numbers "0", "1", ... where there are
     * none. Caches are merged only where it is equal. */
    struct kd_digest class_map_digest;
};

enum kd_status kd_dataset_open(const char *name, struct kd_dataset **data) KD_CHECKED;

/* The same in short, for the notes of a program's --help. */
#define KD_DATASET_NOTES                                                               \
    "A DATASET is one of\n"                                                            \
    "  cifar10:FILE,...         or cifar100:FILE,...: CIFAR's binary files\n"          \
    "  idx:IMAGES[,LABELS]      MNIST's format, gzip or not\n"                         \
    "  npy:X.npy[,Y.npy]        arrays [N,F], [N,H,W] or [N,C,H,W]\n"                  \
    "  hdf5:FILE:/x[,/y]        the same, datasets of an HDF5 file\n"                  \
    "  folder:DIR[,WORD...]     PNG and JPEG, DIR/CLASS/NAME.png; words: resizeS or\n" \
    "                           resizeHxW, then cropS or cropHxW; unlabeled\n"         \
    "and @A:B behind any of them takes ids A to B-1.\n"

/* The line --data of a table of options (kd/options.h); `text` says what the samples
 * are for. */
#define KD_DATA_OPTION(variable, text)                                                 \
    {                                                                                  \
        .name = "data", .type = KD_OPTION_STRING, .value = &(variable),                \
        .metavar = "DATASET", .help = text                                             \
    }
void kd_dataset_close(struct kd_dataset *data); /* NULL is fine */

/* Owned by the dataset. */
const struct kd_dataset_facts *kd_dataset_facts(const struct kd_dataset *data);

/* Whether its images have different sizes, and no word in its name makes them one: then
 * only those of the first one's size can be read. Looks at every image of a folder. */
enum kd_status kd_dataset_sizes_differ(const struct kd_dataset *data,
                                       bool *differ) KD_CHECKED;

/* Opens the same with the words of `how` added to its name; for folders. */
struct kd_resize;
enum kd_status kd_dataset_open_sized(const struct kd_dataset *data,
                                     const struct kd_resize *how,
                                     struct kd_dataset **sized) KD_CHECKED;

/* Elements of a sample: channels * height * width. */
size_t kd_shape_size(struct kd_shape shape);

/* The class map's digest of `count` names, or of numbers where names is NULL. */
enum kd_status kd_class_map_digest(const char *const *names, uint32_t count,
                                   struct kd_digest *digest) KD_CHECKED;

/* Whether the labels of `data` mean what somebody (`who`, for the message: a teacher, a
 * cache) means who knows `classes` classes of the class map `map`: one map; or, where
 * the data's classes have no names, numbers among theirs; or no labels at all. Else
 * KD_EDATA saying what differs. */
enum kd_status kd_dataset_classes_fit(const struct kd_dataset_facts *data,
                                      const char *who, uint32_t classes,
                                      const struct kd_digest *map) KD_CHECKED;

/* Reads a sample: `pixels` takes kd_shape_size elements of facts->type; `label`
 * may be NULL. May be called by several threads at once. KD_EDATA for an id that
 * is not in the slice, so that nobody trains on what was held out. */
enum kd_status kd_dataset_read(const struct kd_dataset *data, uint64_t id, void *pixels,
                               int32_t *label) KD_CHECKED;

/* The same of any sample of the whole dataset: for views that mix samples, where it
 * was said from which. */
enum kd_status kd_dataset_read_any(const struct kd_dataset *data, uint64_t id,
                                   void *pixels, int32_t *label) KD_CHECKED;

/* The label alone, without decoding the sample; -1 outside the slice. */
int32_t kd_dataset_label(const struct kd_dataset *data, uint64_t id);

/*
 * Normalisation: input = (pixel / scale - mean) / deviation, with scale 255 for
 * uint8 and 1 for float32. One mean and deviation a channel, or one for all where
 * there are more than KD_MAX_CHANNELS. It belongs to a network (it is saved with
 * it), not to a dataset or a cache.
 */
#define KD_MAX_CHANNELS 16
struct kd_normalize {
    size_t count; /* 0: none; 1: one for all; else one a channel */
    double mean[KD_MAX_CHANNELS];
    double deviation[KD_MAX_CHANNELS]; /* never 0 */
};

/* Measures it over the slice: means and population deviations, exact for uint8. A
 * constant channel gets deviation 1. */
enum kd_status kd_normalize_measure(const struct kd_dataset *data,
                                    struct kd_normalize *normalize) KD_CHECKED;

/* Applies it. pixels: [channels][height][width] of `type`; input: the same in
 * float. `normalize` NULL or count 0: scaling alone. */
void kd_normalize_apply(const struct kd_normalize *normalize, struct kd_shape shape,
                        enum kd_type type, const void *pixels, float *input);

#endif
