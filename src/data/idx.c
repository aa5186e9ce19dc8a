/* SPDX-License-Identifier: MIT */
/*
 * idx:IMAGES[,LABELS], the format of MNIST and its kin, gzip or not: two zeros,
 * a type, a rank, the dimensions (32 bits, big-endian), the elements.
 * http://yann.lecun.com/exdb/mnist
 */
#include "data/format_internal.h"
#include "kd/memory.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define TYPE_U8       8
#define INFLATE_LIMIT (UINT64_C(8) << 30)

static const struct {
    uint8_t code;
    const char *name;
} other_types[] = {
    {9, "int8"}, {11, "int16"}, {12, "int32"}, {13, "float32"}, {14, "float64"}};

/* Checks magic number, type and rank; `size` is what there is of the file. */
static enum kd_status check_head(const char *path, const uint8_t *head, size_t size)
{
    if (size < 4 || head[0] != 0 || head[1] != 0 || head[3] == 0)
        return kd_fail(KD_EDATA, "%s: not an IDX file, gzip or not", path);
    for (size_t i = 0; i < sizeof other_types / sizeof *other_types; i++)
        if (head[2] == other_types[i].code)
            return kd_fail(KD_EDATA,
                           "%s: its elements are %s; only uint8 is read: save others "
                           "as .npy",
                           path, other_types[i].name);
    if (head[2] != TYPE_U8)
        return kd_fail(KD_EDATA, "%s: not an IDX file: type %d", path, head[2]);
    if (head[3] > 4)
        return kd_fail(KD_EDATA, "%s: has %d dimensions, not 1 to 4", path, head[3]);
    if (size < 4 + 4 * (size_t)head[3])
        return kd_fail(KD_EDATA, "%s: truncated: its header is cut off", path);
    return KD_OK;
}

/* Reads the header; info->offset is its length. */
static enum kd_status parse_head(const char *path, const uint8_t *head, size_t size,
                                 struct kd_array_info *info)
{
    enum kd_status status = check_head(path, head, size);

    if (status != KD_OK)
        return status;
    *info = (struct kd_array_info){.type = KD_U8, .rank = head[3]};
    info->offset = 4 + 4 * info->rank;
    for (size_t i = 0; i < info->rank; i++) {
        const uint8_t *at = head + 4 + 4 * i;
        info->shape[i] = (uint64_t)at[0] << 24 | (uint64_t)at[1] << 16 |
                         (uint64_t)at[2] << 8 | at[3];
    }
    if (!kd_array_measure(info))
        return kd_fail(KD_EDATA, "%s: its shape is too large for this machine", path);
    return KD_OK;
}

/* Reads `size` bytes of what was compressed. */
static enum kd_status inflate_bytes(gzFile file, const char *path, uint8_t *to,
                                    uint64_t size)
{
    for (uint64_t have = 0; have < size;) {
        uint64_t want = size - have < INT_MAX ? size - have : INT_MAX;
        int got = gzread(file, to + have, (unsigned)want);
        if (got < 0) {
            int code = 0;
            return kd_fail(KD_EDATA, "%s: cannot be uncompressed: %s", path,
                           gzerror(file, &code));
        }
        if (got == 0)
            return kd_fail(KD_EDATA, "%s: truncated", path);
        have += (uint64_t)got;
    }
    return KD_OK;
}

/* That nothing follows; reading up to the end also checks the checksum. */
static enum kd_status check_end(gzFile file, const char *path)
{
    uint8_t byte = 0;
    int got = gzread(file, &byte, 1), code = 0;

    if (got > 0)
        return kd_fail(KD_EDATA, "%s: more data than its header says", path);
    gzerror(file, &code);
    if (got < 0 || code != Z_OK)
        return kd_fail(KD_EDATA, "%s: truncated, or its checksum is wrong", path);
    return KD_OK;
}

static enum kd_status check_inflated_size(const char *path, uint64_t bytes,
                                          size_t packed)
{
    if (bytes / KD_DEFLATE_RATIO > packed)
        return kd_fail(KD_EDATA,
                       "%s: %" PRIu64
                       " bytes cannot come out of %zu: truncated, or its "
                       "header is wrong",
                       path, bytes, packed);
    if (bytes > INFLATE_LIMIT)
        return kd_fail(KD_EDATA,
                       "%s: over 8 GiB when uncompressed: run gunzip on it and name "
                       "the result, which needs no memory",
                       path);
    return KD_OK;
}

/* A compressed file, which takes `packed` bytes. */
static enum kd_status inflate_array(const char *path, size_t packed,
                                    struct kd_array_info *info, struct kd_bytes *bytes)
{
    enum kd_status status = KD_EBUG;
    uint8_t head[4 + 4 * UINT8_MAX];
    gzFile file = gzopen(path, "rbe");

    if (file == NULL) {
        status = kd_fail_errno(KD_ENOINPUT, "%s: cannot open", path);
        goto out;
    }
    KD_TRY(inflate_bytes(file, path, head, 4));
    if (head[3] > 0 && head[3] <= 4)
        KD_TRY(inflate_bytes(file, path, head + 4, 4 * (uint64_t)head[3]));
    KD_TRY(parse_head(path, head, sizeof head, info));
    KD_TRY(check_inflated_size(path, info->bytes, packed));
    bytes->heap = kd_alloc((size_t)info->bytes, 1);
    if (bytes->heap == NULL) {
        status = KD_EMEMORY;
        goto out;
    }
    KD_TRY(inflate_bytes(file, path, bytes->heap, info->bytes));
    KD_TRY(check_end(file, path));
    bytes->data = bytes->heap;
    status = KD_OK;
out:
    if (file != NULL)
        gzclose(file);
    return status;
}

static enum kd_status map_array(const char *path, struct kd_array_info *info,
                                struct kd_bytes *bytes)
{
    size_t size = bytes->map.size;
    enum kd_status status = parse_head(path, bytes->map.data, size, info);

    if (status != KD_OK)
        return status;
    if (size - info->offset < info->bytes)
        return kd_fail(KD_EDATA,
                       "%s: truncated: %zu bytes, and its header says %" PRIu64, path,
                       size, info->offset + info->bytes);
    if (size - info->offset > info->bytes)
        return kd_fail(KD_EDATA, "%s: more data than its header says", path);
    bytes->data = bytes->map.data + info->offset;
    return KD_OK;
}

static enum kd_status open_array(const char *path, struct kd_array_info *info,
                                 struct kd_bytes *bytes)
{
    enum kd_status status = kd_map_open(&bytes->map, path);
    size_t size = bytes->map.size;

    if (status != KD_OK)
        return status;
    if (size < 2 || bytes->map.data[0] != 0x1f || bytes->map.data[1] != 0x8b)
        return map_array(path, info, bytes);
    kd_map_close(&bytes->map);
    return inflate_array(path, size, info, bytes);
}

static enum kd_status open_idx(struct kd_dataset *data, const char *rest)
{
    return kd_array_open_pair(data, rest, open_array);
}

const struct kd_format kd_format_idx = {
    .scheme = "idx", .usage = "IMAGES[,LABELS]", .open = open_idx};
