/* SPDX-License-Identifier: MIT */
/*
 * Element types of arrays in files: one list for HDF5, .npy and .safetensors.
 */
#ifndef KD_TYPE_H
#define KD_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KD_TYPE_TABLE(X)                                                               \
    X(KD_U8, "uint8", 1)                                                               \
    X(KD_I8, "int8", 1)                                                                \
    X(KD_U16, "uint16", 2)                                                             \
    X(KD_I16, "int16", 2)                                                              \
    X(KD_U32, "uint32", 4)                                                             \
    X(KD_I32, "int32", 4)                                                              \
    X(KD_U64, "uint64", 8)                                                             \
    X(KD_I64, "int64", 8)                                                              \
    X(KD_F16, "float16", 2)                                                            \
    X(KD_BF16, "bfloat16", 2)                                                          \
    X(KD_F32, "float32", 4)                                                            \
    X(KD_F64, "float64", 8)

#define KD_TYPE_ENUM(name, text, size) name,
enum kd_type { KD_TYPE_TABLE(KD_TYPE_ENUM) KD_TYPE_COUNT };
#undef KD_TYPE_ENUM

/* "float16"; bytes of one element. */
const char *kd_type_name(enum kd_type type);
size_t kd_type_size(enum kd_type type);

#define KD_MAX_RANK 8

/* An array in a file: what it holds and, if it lies there in one piece, where. */
struct kd_array_info {
    enum kd_type type;
    size_t rank;
    uint64_t shape[KD_MAX_RANK];
    uint64_t count;  /* product of the shape */
    uint64_t bytes;  /* count times the size of an element */
    uint64_t offset; /* of the first byte in the file; UINT64_MAX if the array is
                        chunked, filtered, big-endian or not yet allocated */
};

/* Sets count and bytes from type, rank and shape. False if the product does not
 * fit a size_t, where a dimension of 0 counts as 1: so the product of any of
 * the dimensions fits, even in an empty array. */
bool kd_array_measure(struct kd_array_info *info);

#endif
