/* SPDX-License-Identifier: MIT */
/*
 * Imports: logits that some other program made become a cache like any other.
 *
 *     struct kd_import_options options = {
 *         .from = "logits.npy", .container = KD_NPY, .values = KD_LOGITS,
 *         .temperature = 4, .codec = {.encoding = -1}, .samples_a_shard = 8192};
 *     KD_TRY(kd_import_run(data, "soft-labels", &options));
 *
 * What is read:
 *
 *     npy          a file [N,C], or [N,V,C] of V views a sample, of float16, float32
 *                  or float64. Row n is id n; or the file `ids`, integers [N], says
 *                  which. Or a directory as kd-export writes it
 *     safetensors  the tensor `logits`, `logprobs` or `probs` by what the values are
 *                  (or another by name), BF16 too, and if they are there `id` [N] and,
 *                  for [N,C], `view` [N] and `label` [N]
 *     csv          one header line: id, then view and label if they are there, then
 *                  c0, c1, ... or the dataset's class names; separated by commas or
 *                  tabs; numbers without quotes
 *     tinyvit      a directory of rank*-keys.txt and rank*-values.bin, or one with
 *                  such a directory an epoch, of names that end in "epoch" and a
 *                  number; each epoch is a view. Values are probabilities of K classes
 *                  a row; keys are ids, or lines of the file `keys`, line n being id
 *                  n. The records' augmentation seeds are not kept
 *
 * Every id of the dataset's slice must have one row a view; rows of ids outside the
 * slice are left out. Labels come from the dataset; where the source has some, they
 * must be the same, which shows rows that have lost their samples.
 *
 * Values are logits z, which are divided by T as kd-dump does; or log-probabilities
 * or probabilities, which are at temperature T already, and stored as
 * log-probabilities. (Log-probabilities at temperature 1 are logits but for a
 * constant, and may be imported as such, to be used at other temperatures.) A row of
 * probabilities must have the sum 1 within 0.001, plus what rounding to the values'
 * type accounts for; then it is scaled to 1. A probability of 0, which is what small
 * ones round to, is taken as the least positive number of the type (float16 6.0e-8,
 * float32 and CSV 1.4e-45). A negative one, a NaN or an infinity is refused.
 *
 * Views are those of this suite's generator if `augment` says so; else their pixels
 * cannot be drawn again here, and the cache's `augment` is "foreign".
 *
 * Memory is bounded by a batch of rows, besides 8 bytes a row that say where it is.
 */
#ifndef KD_IMPORT_H
#define KD_IMPORT_H

#include "kd/codec.h"
#include "kd/dataset.h"
#include "kd/export.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stdint.h>

#define KD_AUGMENT_FOREIGN "foreign"

struct kd_import_options {
    const char *from; /* file or directory */
    enum kd_container container;
    const char *tensor;  /* safetensors: its name; NULL: that of the values */
    const char *ids;     /* npy: file of ids; NULL: none */
    const char *keys;    /* tinyvit: file of keys; NULL: keys are ids */
    const char *classes; /* file of class names, a line each, in the order of the
                            values; must be the dataset's, unless other_classes; NULL:
                            that is taken for granted */

    enum kd_values values;
    double temperature;         /* T > 0 */
    const char *name;           /* of the teacher; NULL: the source's */
    struct kd_codec_args codec; /* encoding -1: dense; top-k with all K of tinyvit */
    const char *augment;        /* as kd_view_parse; NULL: none for one view, foreign
                                   for several and for tinyvit */
    uint64_t seed;              /* of the views */
    bool clean;                 /* the first view is 0, the clean one; else 1, where
                                   there is an augmentation */
    bool other_classes;         /* as in struct kd_dump_options */
    uint64_t samples_a_shard;
    /* Called with each finished shard's path, in the order of ids; may be NULL. */
    enum kd_status (*finished)(void *context, const char *path);
    void *context;
};

/* What a source is by its name: .npy, .safetensors, .csv and .tsv; a directory is npy
 * if it has an id.npy, as those of kd-export do, else tinyvit. KD_EUSAGE for another
 * one, KD_ENOINPUT where there is nothing. */
enum kd_status kd_import_recognize(const char *from,
                                   enum kd_container *container) KD_CHECKED;

/* Imports into `directory`, which is made if need be and locked meanwhile; finished
 * shards of the same import are kept. KD_EDATA names file, row, id and view: a value
 * that is out of range, an id that is there twice or missing, a label that differs.
 * KD_EINTERRUPTED between two batches if a signal asks to stop. */
enum kd_status kd_import_run(const struct kd_dataset *data, const char *directory,
                             const struct kd_import_options *options) KD_CHECKED;

#endif
