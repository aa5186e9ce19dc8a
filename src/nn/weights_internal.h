/* SPDX-License-Identifier: MIT */
/* Named arrays in a file or a directory, whatever the container. */
#ifndef KD_WEIGHTS_INTERNAL_H
#define KD_WEIGHTS_INTERNAL_H

#include "kd/h5.h"
#include "kd/safetensors.h"
#include "kd/status.h"
#include "kd/type.h"

#include <stdbool.h>
#include <stddef.h>

struct kd_weights_array {
    char *name;  /* as a state_dict has it, renamed */
    char *place; /* what the container calls it */
    bool used;
};

struct kd_weights {
    const char *path;                /* as it was given */
    struct kd_h5 *h5;                /* one of these, */
    struct kd_safetensors *tensors;  /* or neither: a directory of .npy */
    struct kd_weights_array *arrays; /* [count] by name in ascending order */
    size_t count, capacity;
};

/* Opens a source of weights (kd/weights.h) and lists it; `path` must stay. To be closed
 * whatever is returned. KD_EDATA for two arrays of one name. */
enum kd_status kd_weights_open(const char *path, const char *renames,
                               struct kd_weights *weights) KD_CHECKED;
void kd_weights_close(struct kd_weights *weights);

/* The array of that name, or NULL. */
struct kd_weights_array *kd_weights_find(const struct kd_weights *weights,
                                         const char *name);

/* Reads an array of this shape into values [product], as float32. KD_EDATA where it has
 * another shape or no floating-point type, and for a value that is not finite. */
enum kd_status kd_weights_read(const struct kd_weights *weights,
                               const struct kd_weights_array *array, size_t rank,
                               const size_t *shape, float *values) KD_CHECKED;

#endif
