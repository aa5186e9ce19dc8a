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

#endif
