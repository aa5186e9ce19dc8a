/* SPDX-License-Identifier: MIT */
/*
 * NumPy's .npy, versions 1 to 3: one array, its type and shape in front.
 *
 *     struct kd_array_info info;
 *     KD_TRY(kd_npy_info("x.npy", &info));
 *     KD_TRY(kd_map_open(&map, "x.npy"));
 *     const float *x = (const void *)(map.data + info.offset);
 *
 * Object arrays (they would be Python's pickles), Fortran order, big-endian and
 * structured types are refused with the remedy. Format:
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 */
#ifndef KD_NPY_H
#define KD_NPY_H

#include "kd/status.h"
#include "kd/type.h"

#include <stddef.h>
#include <stdint.h>

/* Reads and checks the header; the file's size must agree with it. info->offset
 * is always valid, a multiple of 16 in files that NumPy wrote. */
enum kd_status kd_npy_info(const char *path, struct kd_array_info *info) KD_CHECKED;

/* The same from bytes in memory, of which `size` are there: the head of a frame
 * on a pipe. `name` is for messages. info->offset is the length of the header;
 * the data need not be there. */
enum kd_status kd_npy_parse(const void *data, size_t size, const char *name,
                            struct kd_array_info *info) KD_CHECKED;

/* How long the whole header is, from its first KD_NPY_PREFIX bytes: for who reads
 * a frame from a pipe and must not read too far. At least KD_NPY_PREFIX. */
#define KD_NPY_PREFIX 12
enum kd_status kd_npy_header_size(const void *data, const char *name,
                                  size_t *size) KD_CHECKED;

/* Writes a header of version 1 into `header` (not for KD_BF16); returns its length, a
 * multiple of
 * 64. 256 bytes are enough for every shape of KD_MAX_RANK. */
size_t kd_npy_header(enum kd_type type, size_t rank, const uint64_t *shape,
                     char header[256]);

/* Writes a whole file, through kd_pending. */
enum kd_status kd_npy_write(const char *path, enum kd_type type, size_t rank,
                            const uint64_t *shape, const void *data) KD_CHECKED;

#endif
