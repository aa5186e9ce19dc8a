/* SPDX-License-Identifier: MIT */
/*
 * States: the pieces that checkpoints are made of, whatever run they are of: values
 * beside a network's weights, the recipe that they belong to, metrics, a checksum.
 */
#ifndef KD_STATE_H
#define KD_STATE_H

#include "kd/graph.h"
#include "kd/h5.h"
#include "kd/hash.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>

/* DIRECTORY/checkpoint.h5: written by `write`, whole or not at all; read by `read`, if
 * it is there. */
enum kd_status kd_state_save(const char *directory, kd_h5_writer *write,
                             const void *context) KD_CHECKED;
enum kd_status kd_state_load(const char *directory,
                             enum kd_status (*read)(void *context, struct kd_h5 *file),
                             void *context) KD_CHECKED;

/* Values in the layout of a parameter (its own, moments of an optimiser, an average),
 * to GROUP/NAME or from it. KD_EDATA where what is there is of another size or not
 * finite. */
enum kd_status kd_state_move(struct kd_h5 *file, const char *group,
                             const struct kd_parameter *parameter, float *values,
                             bool save) KD_CHECKED;

/* Adds every array of a file to a hash: names, sizes and bytes. */
enum kd_status kd_state_hash_arrays(struct kd_h5 *file,
                                    struct kd_hash *hash) KD_CHECKED;

/* Compares the attribute `recipe` with a text: KD_EUSAGE, with the first line that
 * differs. */
enum kd_status kd_state_check_recipe(struct kd_h5 *file, const char *ours) KD_CHECKED;

/* Compares the attribute `check` with a digest: KD_EDATA. */
enum kd_status kd_state_check_sum(struct kd_h5 *file,
                                  const struct kd_digest *digest) KD_CHECKED;

/* The text in the array `metrics`, in place of the one that *text holds. */
enum kd_status kd_state_read_metrics(struct kd_h5 *file, char **text,
                                     size_t *size) KD_CHECKED;

#endif
