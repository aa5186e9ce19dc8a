/* SPDX-License-Identifier: MIT */
/* What the files of the HDF5 chapter share. */
#ifndef KD_H5_INTERNAL_H
#define KD_H5_INTERNAL_H

#include "kd/h5.h"

#include <hdf5.h>

struct kd_h5 {
    char *path;
    hid_t id;
    uint64_t size; /* of a file opened for reading; UINT64_MAX of others */
};

/* Keeps the library of this thread from printing its errors; called before any
 * other call on behalf of the user. */
void kd_h5_quieten(void);

/* kd_fail with the innermost cause on the library's stack behind the message:
 * "PATH: what: cause". To be called before anything else clears the stack. */
enum kd_status kd_h5_fail(enum kd_status status, const struct kd_h5 *file,
                          const char *format, ...) KD_PRINTF(3, 4);

/* A new handle to the file's type of that element: little-endian always. */
hid_t kd_h5_type(enum kd_type type);

/* Which element type a type of a file is, and in which byte order; false if it is
 * none. What is recognised can be read without harm: of a damaged type, the
 * library's conversions read beyond their buffers. */
bool kd_h5_recognize(hid_t stored, enum kd_type *type, bool *little);

/* -- names: parts with slashes between them ------------------------------ */

#define KD_H5_NAME_LIMIT 1024 /* bytes of a name, with its end */

/* Copies a name without slashes at its ends, and doubled ones; false where
 * nothing is left or it is too long. */
bool kd_h5_tidy_name(const char *name, char tidy[KD_H5_NAME_LIMIT]);

/* The end of the part of a tidy name that begins at `part`. */
size_t kd_h5_part_end(const char *name, size_t part);

enum kd_h5_link {
    KD_H5_LINK_NONE,
    KD_H5_LINK_HARD,
    KD_H5_LINK_OTHER,
    KD_H5_LINK_BROKEN
};

/* What the last part of a tidy name is linked by; its group must be there. */
enum kd_h5_link kd_h5_look_at(hid_t file, const char *name);

/* The dataset of that name, for the caller to close with H5Oclose; H5I_INVALID_HID on
 * failure. Links that are not hard ones are refused: they may lead to other files. */
enum kd_status kd_h5_open_dataset(const struct kd_h5 *file, const char *name,
                                  hid_t *id) KD_CHECKED;

/* -- open datasets; `name` is for messages ------------------------------- */

enum kd_status kd_h5_dataset_info(const struct kd_h5 *file, hid_t dataset,
                                  const char *name,
                                  struct kd_array_info *info) KD_CHECKED;

/* Reads the `count` elements of `where` in a dataset to memory or, where `to` is
 * NULL, writes them from there. That `where` selects as many is the library's check. */
enum kd_status kd_h5_transfer(const struct kd_h5 *file, const char *name, hid_t dataset,
                              hid_t where, enum kd_type type, uint64_t count, void *to,
                              const void *from) KD_CHECKED;

#endif
