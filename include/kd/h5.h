/* SPDX-License-Identifier: MIT */
/*
 * HDF5, as far as this suite uses it. This is the only chapter that includes
 * the library; what it says in a stack of errors comes out as one sentence.
 *
 * Reading a file from outside:
 *
 *     struct kd_h5 *file = NULL;
 *     struct kd_array_info info;
 *     KD_TRY(kd_h5_open(path, &file));
 *     KD_TRY(kd_h5_info(file, "logits", &info));
 *     ... check info.type, rank and shape ...
 *     KD_TRY(kd_h5_read(file, "logits", &info, buffer));
 *     kd_h5_close(file);
 *
 * Writing: kd_h5_create on the temporary name of a kd_pending, datasets and
 * attributes, kd_h5_finish, kd_pending_commit.
 *
 * The memory type of every transfer is the file's own (little-endian) type: the
 * library never converts; its conversion from float to half is wrong for small
 * numbers (1.10.8). External storage, virtual datasets, links out of the file,
 * compound and reference types, ranks over KD_MAX_RANK and plugins are refused:
 * a file must not make the program open others or load code.
 *
 * Names may have slashes ("layer1/0/weight"). Not for several threads at once.
 */
#ifndef KD_H5_H
#define KD_H5_H

#include "kd/json.h"
#include "kd/status.h"
#include "kd/type.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct kd_h5;

/* Opens for reading, without file locks. KD_ENOINPUT where there is no file,
 * KD_EDATA where it is no HDF5 file, truncated or damaged, KD_EIO where the storage
 * fails. */
enum kd_status kd_h5_open(const char *path, struct kd_h5 **file) KD_CHECKED;

/* Creates or truncates; objects carry no times, so the same calls give the same
 * bytes. Datasets of 4 KiB and more lie on 4 KiB boundaries; smaller ones may
 * lie at any offset, odd ones too. */
enum kd_status kd_h5_create(const char *path, struct kd_h5 **file) KD_CHECKED;

/* Opens an existing file to set attributes or overwrite data in place. */
enum kd_status kd_h5_open_rw(const char *path, struct kd_h5 **file) KD_CHECKED;

/* Closes; kd_h5_finish also flushes and reports what went wrong in writing.
 * Both free `file`; NULL is fine for kd_h5_close. */
enum kd_status kd_h5_finish(struct kd_h5 *file) KD_CHECKED;
void kd_h5_close(struct kd_h5 *file);

/* What writes the content of a file. */
typedef enum kd_status kd_h5_writer(const void *context, struct kd_h5 *file);

/* Makes a file, or replaces it, whole or not at all: `write` fills a temporary one. */
enum kd_status kd_h5_save(const char *path, kd_h5_writer *write,
                          const void *context) KD_CHECKED;

/* KD_EDATA, naming the element, where one of `count` values that were read from the
 * dataset `name` is no finite number. */
enum kd_status kd_h5_check_finite(const struct kd_h5 *file, const char *name,
                                  const float *values, size_t count) KD_CHECKED;

/* The path it was opened under, for messages. */
const char *kd_h5_path(const struct kd_h5 *file);

/* Whether there is a dataset or group of that name. */
bool kd_h5_has(struct kd_h5 *file, const char *name);

/* What a dataset is. KD_EDATA if it is missing, or of a refused kind. */
enum kd_status kd_h5_info(struct kd_h5 *file, const char *name,
                          struct kd_array_info *info) KD_CHECKED;

/* Reads a whole dataset into `data` of info->bytes; `info` as from kd_h5_info. */
enum kd_status kd_h5_read(struct kd_h5 *file, const char *name,
                          const struct kd_array_info *info, void *data) KD_CHECKED;

/* Reads `count` rows (slices of the first dimension) from row `first` on. KD_EBUG
 * where the array does not have them. */
enum kd_status kd_h5_read_rows(struct kd_h5 *file, const char *name,
                               const struct kd_array_info *info, uint64_t first,
                               uint64_t count, void *data) KD_CHECKED;

/* Makes a contiguous, early allocated, never filled dataset; groups on the way
 * are made. With `data` it is written at once; without, `offset` (may be NULL)
 * says where in the file its bytes belong, to be written by pwrite after
 * kd_h5_finish; it is UINT64_MAX for an array without elements. A rank of 0 makes
 * a scalar. A dataset that is there already is written over if it has the same
 * type and shape; KD_EDATA if not. */
enum kd_status kd_h5_write(struct kd_h5 *file, const char *name, enum kd_type type,
                           size_t rank, const uint64_t *shape, const void *data,
                           uint64_t *offset) KD_CHECKED;

/* Makes a dataset for shipping, not for reading at random: in chunks of `chunk` rows,
 * shuffled and deflated, which every HDF5 program reads. It is filled by
 * kd_h5_write_rows, best in whole chunks. Its rank is at least 1, and it has elements.
 * The same data give the same bytes. */
enum kd_status kd_h5_make_packed(struct kd_h5 *file, const char *name,
                                 const struct kd_array_info *info,
                                 uint64_t chunk) KD_CHECKED;

/* Writes `count` rows from row `first` on of a dataset that is there. KD_EBUG where the
 * array does not have them. */
enum kd_status kd_h5_write_rows(struct kd_h5 *file, const char *name,
                                const struct kd_array_info *info, uint64_t first,
                                uint64_t count, const void *data) KD_CHECKED;

/* Whether the root attributes `format` and `format_version` are these; else KD_EDATA:
 * "FILE: not WHAT", "a network saved by kd-train" for instance. */
enum kd_status kd_h5_expect_format(struct kd_h5 *file, const char *format,
                                   uint64_t version, const char *what) KD_CHECKED;

/* Calls `visit` for every dataset in the file that hard links lead to, by name in
 * ascending order (of bytes); stops at the first failure and returns it. KD_EDATA
 * for groups over 32 deep, as in a circle, and for over a million links. */
enum kd_status kd_h5_each(struct kd_h5 *file,
                          enum kd_status (*visit)(void *context, const char *name),
                          void *context) KD_CHECKED;

/*
 * Attributes of the root. Numbers are 64-bit; strings fixed-length ASCII, which
 * h5py shows as numpy.bytes_; only `history` is a variable-length UTF-8 string
 * (str in h5py), for people, which nothing but kd_h5_tell_history reads. Setting one
 * that exists replaces it (its size must not change in a finished file for bytes to
 * stay). KD_EDATA for a string that is not printable ASCII and newlines, and for more
 * than 64,000 bytes: an attribute lies in an object header.
 */
enum kd_status kd_h5_set_u64(struct kd_h5 *file, const char *name,
                             uint64_t value) KD_CHECKED;
enum kd_status kd_h5_set_f64(struct kd_h5 *file, const char *name,
                             double value) KD_CHECKED;
enum kd_status kd_h5_set_f64s(struct kd_h5 *file, const char *name,
                              const double *values, size_t count) KD_CHECKED;
enum kd_status kd_h5_set_string(struct kd_h5 *file, const char *name,
                                const char *value) KD_CHECKED;
enum kd_status kd_h5_set_history(struct kd_h5 *file, const char *text) KD_CHECKED;

/* Says the `history` of a file as kd-info prints it: lines of text to `to`, or if
 * `json` is not NULL a member of the object that the caller has begun; nothing where
 * there is none. A child process reads it (kd/child.h), for the library writes beyond
 * its memory where such a string is damaged; then it is said to be unreadable. */
enum kd_status kd_h5_tell_history(const char *path, struct kd_json *json,
                                  FILE *to) KD_CHECKED;

/* Reading: KD_EDATA if the attribute is missing or of another kind. Integers and
 * floats of any width are accepted, integers for a float too. A string of fixed
 * length is copied to the heap, without its padding; over 1 MiB, or with anything
 * but printable ASCII and newlines in it, it is refused. */
bool kd_h5_has_attribute(struct kd_h5 *file, const char *name);
enum kd_status kd_h5_get_u64(struct kd_h5 *file, const char *name,
                             uint64_t *value) KD_CHECKED;
enum kd_status kd_h5_get_f64(struct kd_h5 *file, const char *name,
                             double *value) KD_CHECKED;
/* *count values; KD_EDATA if there are more than `capacity`. */
enum kd_status kd_h5_get_f64s(struct kd_h5 *file, const char *name, double *values,
                              size_t capacity, size_t *count) KD_CHECKED;
enum kd_status kd_h5_get_string(struct kd_h5 *file, const char *name,
                                char **value) KD_CHECKED;

#endif
