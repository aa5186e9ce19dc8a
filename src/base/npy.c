/* SPDX-License-Identifier: MIT */
/* NumPy's .npy: its header is a Python dictionary, read by a small parser here. */
#include "kd/npy.h"

#include "base/file_internal.h"
#include "kd/file.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char magic[] = "\x93NUMPY";
#define MAGIC_SIZE   6
#define HEADER_LIMIT ((size_t)1 << 20) /* versions 2 and 3 could say 4 GiB */

/* NumPy's letters for the element types, without the byte order; NULL for bfloat16,
 * which it does not have. */
static const char *const letters[KD_TYPE_COUNT] = {
    [KD_U8] = "u1",  [KD_I8] = "i1",  [KD_U16] = "u2", [KD_I16] = "i2",
    [KD_U32] = "u4", [KD_I32] = "i4", [KD_U64] = "u8", [KD_I64] = "i8",
    [KD_F16] = "f2", [KD_F32] = "f4", [KD_F64] = "f8",
};

static size_t little_endian(const unsigned char *bytes, size_t count)
{
    size_t value = 0;

    for (size_t i = 0; i < count; i++)
        value |= (size_t)bytes[i] << 8 * i;
    return value;
}

/* Bytes in front of the dictionary: magic, version and the header's length. */
static size_t prefix_size(const unsigned char *bytes)
{
    return bytes[MAGIC_SIZE] == 1 ? 10 : 12;
}

enum kd_status kd_npy_header_size(const void *data, const char *name, size_t *size)
{
    const unsigned char *bytes = data;
    size_t prefix = 0, length = 0;

    if (memcmp(bytes, magic, MAGIC_SIZE) != 0)
        return kd_fail(KD_EDATA, "%s: not an .npy file", name);
    if (bytes[MAGIC_SIZE] < 1 || bytes[MAGIC_SIZE] > 3 || bytes[MAGIC_SIZE + 1] != 0)
        return kd_fail(KD_EDATA, "%s: .npy version %d.%d, where 1.0 to 3.0 are known",
                       name, bytes[MAGIC_SIZE], bytes[MAGIC_SIZE + 1]);
    prefix = prefix_size(bytes);
    length = little_endian(bytes + 8, prefix - 8);
    if (length < 2 || length > HEADER_LIMIT)
        return kd_fail(KD_EDATA, "%s: an .npy header of %zu bytes, not 2 to %zu", name,
                       length, HEADER_LIMIT);
    *size = prefix + length;
    return KD_OK;
}

/* What is left of the dictionary, and what was found in it. */
struct reader {
    const char *at;
    const char *end;
    const char *name; /* of the file */
    bool have_type, have_order, have_shape;
    struct kd_array_info *info;
};

static enum kd_status fail_header(const struct reader *reader, const char *why)
{
    return kd_fail(KD_EDATA, "%s: bad .npy header: %s", reader->name, why);
}

static void skip_space(struct reader *reader)
{
    while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) != NULL &&
           *reader->at != '\0')
        reader->at++;
}

/* Whether the next sign is `sign`, which is then taken. */
static bool take(struct reader *reader, char sign)
{
    skip_space(reader);
    if (reader->at == reader->end || *reader->at != sign)
        return false;
    reader->at++;
    return true;
}

/* Whether the next letters are `word`, which are then taken. */
static bool take_word(struct reader *reader, const char *word)
{
    size_t length = strlen(word);

    skip_space(reader);
    if ((size_t)(reader->end - reader->at) < length ||
        memcmp(reader->at, word, length) != 0)
        return false;
    reader->at += length;
    return true;
}

/* A short string in single or double quotes. */
static enum kd_status take_string(struct reader *reader, char text[32])
{
    size_t length = 0;

    skip_space(reader);
    if (reader->at == reader->end || (*reader->at != '\'' && *reader->at != '"'))
        return fail_header(reader, "a string is missing");
    char quote = *reader->at++;
    for (; reader->at < reader->end && *reader->at != quote; reader->at++) {
        if (length == 31 || *reader->at < ' ' || *reader->at > '~')
            return fail_header(reader, "a string is too long or not plain");
        text[length++] = *reader->at;
    }
    text[length] = '\0';
    return take(reader, quote) ? KD_OK : fail_header(reader, "a string has no end");
}

static enum kd_status take_number(struct reader *reader, uint64_t *number)
{
    const char *begin = reader->at;
    uint64_t value = 0;

    for (; reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9';
         reader->at++) {
        unsigned digit = (unsigned)(*reader->at - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return fail_header(reader, "a dimension is too large");
        value = value * 10 + digit;
    }
    if (reader->at == begin)
        return fail_header(reader, "the shape has something that is no dimension");
    take(reader, 'L'); /* Python 2 wrote its long integers so */
    *number = value;
    return KD_OK;
}

static enum kd_status take_shape(struct reader *reader)
{
    struct kd_array_info *info = reader->info;
    enum kd_status status = KD_EBUG;
    bool more = true;

    if (!take(reader, '('))
        return fail_header(reader, "the shape is no tuple");
    while (!take(reader, ')')) {
        if (!more)
            return fail_header(reader, "the shape has no end");
        if (info->rank == KD_MAX_RANK)
            return kd_fail(KD_EDATA, "%s: more than %d dimensions", reader->name,
                           KD_MAX_RANK);
        KD_TRY(take_number(reader, &info->shape[info->rank]));
        info->rank++;
        more = take(reader, ',');
    }
    reader->have_shape = true;
    status = KD_OK;
out:
    return status;
}

static enum kd_status fail_type(const struct reader *reader, const char *type)
{
    if (strchr(type, 'O') != NULL)
        return kd_fail(KD_EDATA,
                       "%s: an array of Python objects, which is not read: save it "
                       "with a numeric dtype",
                       reader->name);
    if (type[0] == '>')
        return kd_fail(
            KD_EDATA, "%s: big-endian ('%s'): save x.astype(x.dtype.newbyteorder('<'))",
            reader->name, type);
    return kd_fail(KD_EDATA,
                   "%s: elements of type '%s': save it as one of uint8 to uint64, int8 "
                   "to int64, float16 to float64",
                   reader->name, type);
}

static enum kd_status take_type(struct reader *reader)
{
    char type[32] = "";

    skip_space(reader);
    if (reader->at < reader->end && *reader->at == '[')
        return kd_fail(KD_EDATA,
                       "%s: a structured array: save each of its fields on its own",
                       reader->name);
    enum kd_status status = take_string(reader, type);
    if (status != KD_OK)
        return status;
    for (int i = 0; i < KD_TYPE_COUNT; i++) {
        if (letters[i] == NULL)
            continue;
        bool ordered = type[0] == '<' || (type[0] == '|' && letters[i][1] == '1');
        if (ordered && strcmp(type + 1, letters[i]) == 0) {
            reader->info->type = (enum kd_type)i;
            reader->have_type = true;
            return KD_OK;
        }
    }
    return fail_type(reader, type);
}

static enum kd_status take_order(struct reader *reader)
{
    if (take_word(reader, "True"))
        return kd_fail(KD_EDATA,
                       "%s: in Fortran order: save numpy.ascontiguousarray(x)",
                       reader->name);
    if (!take_word(reader, "False"))
        return fail_header(reader, "fortran_order is neither True nor False");
    reader->have_order = true;
    return KD_OK;
}

/* One key and its value. */
static enum kd_status take_entry(struct reader *reader)
{
    char key[32] = "";
    enum kd_status status = take_string(reader, key);

    if (status != KD_OK)
        return status;
    if (!take(reader, ':'))
        return fail_header(reader, "a colon is missing");
    if (strcmp(key, "descr") == 0 && !reader->have_type)
        return take_type(reader);
    if (strcmp(key, "fortran_order") == 0 && !reader->have_order)
        return take_order(reader);
    if (strcmp(key, "shape") == 0 && !reader->have_shape)
        return take_shape(reader);
    return kd_fail(KD_EDATA, "%s: bad .npy header: key '%s' is unknown or there twice",
                   reader->name, key);
}

static enum kd_status take_dictionary(struct reader *reader)
{
    enum kd_status status = KD_EBUG;
    bool more = true;

    if (!take(reader, '{'))
        return fail_header(reader, "it is no dictionary");
    while (!take(reader, '}')) {
        if (!more)
            return fail_header(reader, "a comma or its end is missing");
        KD_TRY(take_entry(reader));
        more = take(reader, ',');
    }
    skip_space(reader);
    if (reader->at != reader->end)
        return fail_header(reader, "something stands behind the dictionary");
    if (!reader->have_type || !reader->have_order || !reader->have_shape)
        return fail_header(reader, "descr, fortran_order or shape is missing");
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_npy_parse(const void *data, size_t size, const char *name,
                            struct kd_array_info *info)
{
    enum kd_status status = KD_EBUG;
    size_t header = 0;

    *info = (struct kd_array_info){.type = KD_U8};
    if (size < KD_NPY_PREFIX)
        return kd_fail(KD_EDATA, "%s: too short for an .npy file", name);
    KD_TRY(kd_npy_header_size(data, name, &header));
    if (size < header)
        return kd_fail(KD_EDATA, "%s: truncated: an .npy header of %zu bytes has %zu",
                       name, header, size);
    const char *text = data;
    struct reader reader = {.at = text + prefix_size(data),
                            .end = text + header,
                            .name = name,
                            .info = info};
    KD_TRY(take_dictionary(&reader));
    if (!kd_array_measure(info))
        return kd_fail(KD_EDATA, "%s: its shape is too large for this machine", name);
    info->offset = header;
out:
    return status;
}

enum kd_status kd_npy_info(const char *path, struct kd_array_info *info)
{
    enum kd_status status = KD_EBUG;
    struct kd_map map;

    KD_TRY(kd_map_open(&map, path));
    status = kd_npy_parse(map.data, map.size, path, info);
    if (status == KD_OK && map.size - info->offset != info->bytes)
        status = kd_fail(
            KD_EDATA,
            "%s: %s: %zu bytes behind the header, where its shape takes "
            "%" PRIu64,
            path, map.size - info->offset < info->bytes ? "truncated" : "too long",
            map.size - (size_t)info->offset, info->bytes);
    kd_map_close(&map);
out:
    return status;
}

/* Appends to the header; 256 bytes are known to be enough. */
static size_t add(char header[256], size_t used, const char *format, uint64_t value)
    __attribute__((format(printf, 3, 0)));

static size_t add(char header[256], size_t used, const char *format, uint64_t value)
{
    int written = snprintf(header + used, 256 - used, format, value);

    assert(written > 0 && (size_t)written < 256 - used);
    return used + (size_t)written;
}

size_t kd_npy_header(enum kd_type type, size_t rank, const uint64_t *shape,
                     char header[256])
{
    size_t used = 10, size;

    assert(rank <= KD_MAX_RANK && letters[type] != NULL);
    used += (size_t)snprintf(header + used, 256 - used,
                             "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                             kd_type_size(type) == 1 ? '|' : '<', letters[type]);
    for (size_t i = 0; i < rank; i++)
        used = add(header, used, i == 0 ? "%" PRIu64 : ", %" PRIu64, shape[i]);
    used += (size_t)snprintf(header + used, 256 - used, rank == 1 ? ",), }" : "), }");
    size = (used / 64 + 1) * 64; /* room for the newline */
    assert(size <= 256);
    memset(header + used, ' ', size - used);
    header[size - 1] = '\n';
    memcpy(header, magic, MAGIC_SIZE);
    header[6] = 1;
    header[7] = 0;
    header[8] = (char)(size - 10);
    header[9] = 0;
    return size;
}

enum kd_status kd_npy_write(const char *path, enum kd_type type, size_t rank,
                            const uint64_t *shape, const void *data)
{
    enum kd_status status = KD_EBUG;
    struct kd_pending pending = {NULL, NULL};
    struct kd_array_info info = {.type = type, .rank = rank};
    char header[256];
    int fd = -1;

    if (rank > KD_MAX_RANK)
        return kd_fail(KD_EDATA, "%s: more than %d dimensions", path, KD_MAX_RANK);
    if (rank > 0)
        memcpy(info.shape, shape, rank * sizeof *shape);
    if (!kd_array_measure(&info))
        return kd_fail(KD_EDATA, "%s: its shape is too large for this machine", path);
    KD_TRY(kd_pending_open(&pending, path));
    KD_TRY(kd_pending_create(&pending, &fd));
    KD_TRY(kd_write_all(fd, pending.temporary, header,
                        kd_npy_header(type, rank, shape, header)));
    KD_TRY(kd_write_all(fd, pending.temporary, data, (size_t)info.bytes));
    KD_TRY(kd_pending_commit(&pending));
out:
    if (fd >= 0)
        close(fd);
    kd_pending_abandon(&pending);
    return status;
}
