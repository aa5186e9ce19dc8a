/* SPDX-License-Identifier: MIT */
/* HDF5 attributes of the root: numbers, plain strings, and the history. */
#include "kd/h5.h"

#include "base/h5_internal.h"
#include "kd/half.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

#define STRING_LIMIT ((size_t)1 << 20)
#define WRITE_LIMIT  64000 /* an attribute lies in an object header, under 64 KiB */

/* Printable ASCII and newlines: nothing that upsets a terminal or a reader. */
static bool is_plain(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if ((text[i] < ' ' || text[i] > '~') && text[i] != '\n')
            return false;
    return true;
}

/* Whether an open attribute is of this type and as many values. */
static bool fits(hid_t attribute, hid_t type, hid_t space)
{
    hid_t its_type = H5Aget_type(attribute), its_space = H5Aget_space(attribute);
    bool same = its_type >= 0 && its_space >= 0 && H5Tequal(its_type, type) > 0 &&
                H5Sextent_equal(its_space, space) > 0;

    if (its_type >= 0)
        H5Tclose(its_type);
    if (its_space >= 0)
        H5Sclose(its_space);
    return same;
}

/* The attribute to write to: the one that is there if it fits, else a new one
 * in its place. */
static hid_t open_or_make(const struct kd_h5 *file, const char *name, hid_t type,
                          hid_t space)
{
    hid_t attribute = H5I_INVALID_HID;

    if (H5Aexists(file->id, name) > 0) {
        attribute = H5Aopen(file->id, name, H5P_DEFAULT);
        if (attribute < 0 || fits(attribute, type, space))
            return attribute;
        H5Aclose(attribute);
        if (H5Adelete(file->id, name) < 0)
            return H5I_INVALID_HID;
    }
    return H5Acreate2(file->id, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
}

/* Takes over both handles. */
static enum kd_status set(struct kd_h5 *file, const char *name, hid_t type, hid_t space,
                          const void *data)
{
    enum kd_status status = KD_EBUG;
    hid_t attribute = H5I_INVALID_HID;

    if (type >= 0 && space >= 0)
        attribute = open_or_make(file, name, type, space);
    if (attribute < 0 || H5Awrite(attribute, type, data) < 0) {
        status = kd_h5_fail(KD_EIO, file, "attribute '%s': cannot write", name);
        goto out;
    }
    status = KD_OK;
out:
    if (attribute >= 0)
        H5Aclose(attribute);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    return status;
}

enum kd_status kd_h5_set_u64(struct kd_h5 *file, const char *name, uint64_t value)
{
    kd_h5_quieten();
    return set(file, name, H5Tcopy(H5T_NATIVE_UINT64), H5Screate(H5S_SCALAR), &value);
}

enum kd_status kd_h5_set_f64(struct kd_h5 *file, const char *name, double value)
{
    kd_h5_quieten();
    return set(file, name, H5Tcopy(H5T_NATIVE_DOUBLE), H5Screate(H5S_SCALAR), &value);
}

enum kd_status kd_h5_set_f64s(struct kd_h5 *file, const char *name,
                              const double *values, size_t count)
{
    hsize_t extent = count;

    kd_h5_quieten();
    if (count > WRITE_LIMIT / sizeof *values)
        return kd_fail(KD_EDATA, "%s: attribute '%s': %zu values are more than fit",
                       file->path, name, count);
    return set(file, name, H5Tcopy(H5T_NATIVE_DOUBLE),
               H5Screate_simple(1, &extent, NULL), values);
}

/* A string type of `size` bytes or H5T_VARIABLE; -1 on failure. */
static hid_t string_type(size_t size, H5T_str_t padding, H5T_cset_t characters)
{
    hid_t type = H5Tcopy(H5T_C_S1);

    if (type >= 0 && (H5Tset_size(type, size) < 0 || H5Tset_strpad(type, padding) < 0 ||
                      H5Tset_cset(type, characters) < 0)) {
        H5Tclose(type);
        return H5I_INVALID_HID;
    }
    return type;
}

enum kd_status kd_h5_set_string(struct kd_h5 *file, const char *name, const char *value)
{
    size_t length = strlen(value);

    kd_h5_quieten();
    if (!is_plain(value, length))
        return kd_fail(KD_EDATA,
                       "%s: attribute '%s': only printable ASCII characters and "
                       "newlines can be stored in it",
                       file->path, name);
    if (length > WRITE_LIMIT)
        return kd_fail(KD_EDATA,
                       "%s: attribute '%s': %zu characters are more than the %d that "
                       "fit",
                       file->path, name, length, WRITE_LIMIT);
    return set(file, name,
               string_type(length > 0 ? length : 1, H5T_STR_NULLPAD, H5T_CSET_ASCII),
               H5Screate(H5S_SCALAR), value);
}

enum kd_status kd_h5_set_history(struct kd_h5 *file, const char *text)
{
    kd_h5_quieten();
    return set(file, "history",
               string_type(H5T_VARIABLE, H5T_STR_NULLTERM, H5T_CSET_UTF8),
               H5Screate(H5S_SCALAR), &text);
}

bool kd_h5_has_attribute(struct kd_h5 *file, const char *name)
{
    kd_h5_quieten();
    return H5Aexists(file->id, name) > 0;
}

/* An attribute open for reading, with its facts. */
struct reading {
    hid_t id;
    hid_t type;
    uint64_t count; /* values */
};

static void close_reading(struct reading *reading)
{
    if (reading->type >= 0)
        H5Tclose(reading->type);
    if (reading->id >= 0)
        H5Aclose(reading->id);
}

static enum kd_status open_reading(struct kd_h5 *file, const char *name,
                                   struct reading *reading)
{
    kd_h5_quieten();
    *reading = (struct reading){.id = H5I_INVALID_HID, .type = H5I_INVALID_HID};
    if (H5Aexists(file->id, name) == 0)
        return kd_fail(KD_EDATA, "%s: no attribute '%s'", file->path, name);
    reading->id = H5Aopen(file->id, name, H5P_DEFAULT);
    if (reading->id >= 0)
        reading->type = H5Aget_type(reading->id);
    hid_t space = reading->id >= 0 ? H5Aget_space(reading->id) : H5I_INVALID_HID;
    hssize_t count = space >= 0 ? H5Sget_simple_extent_npoints(space) : -1;
    enum kd_status status = KD_OK;
    if (count < 0 || reading->type < 0)
        status = kd_h5_fail(KD_EDATA, file, "attribute '%s': cannot read", name);
    if (space >= 0)
        H5Sclose(space);
    if (status != KD_OK)
        return status;
    reading->count = (uint64_t)count;
    return KD_OK;
}

struct number {
    enum { WHOLE, NEGATIVE, REAL } kind;
    uint64_t whole; /* WHOLE */
    int64_t below;  /* NEGATIVE */
    double real;    /* REAL */
};

static struct number whole(uint64_t value)
{
    return (struct number){.kind = WHOLE, .whole = value};
}

static struct number integer(int64_t value)
{
    if (value >= 0)
        return whole((uint64_t)value);
    return (struct number){.kind = NEGATIVE, .below = value};
}

static struct number real(double value)
{
    return (struct number){.kind = REAL, .real = value};
}

/* An element in the machine's own byte order. */
static struct number decode(enum kd_type type, const void *bytes)
{
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
        float f32;
        double f64;
    } v = {.u64 = 0};

    memcpy(&v, bytes, kd_type_size(type));
    switch (type) {
    case KD_U8:
        return whole(v.u8);
    case KD_I8:
        return integer(v.i8);
    case KD_U16:
        return whole(v.u16);
    case KD_I16:
        return integer(v.i16);
    case KD_U32:
        return whole(v.u32);
    case KD_I32:
        return integer(v.i32);
    case KD_U64:
        return whole(v.u64);
    case KD_I64:
        return integer(v.i64);
    case KD_F16:
        return real((double)kd_half_to_float_one(v.u16));
    case KD_BF16:
        return real((double)kd_bf16_to_float_one(v.u16));
    case KD_F32:
        return real((double)v.f32);
    case KD_F64:
    case KD_TYPE_COUNT:
        break;
    }
    return real(v.f64);
}

/* Reads the numbers of an attribute, at most `most` of them; *count of them come
 * in a new array. The library swaps bytes at most; see kd_h5_recognize. */
static enum kd_status read_numbers(struct kd_h5 *file, const char *name, size_t most,
                                   struct number **numbers, size_t *count)
{
    enum kd_status status = KD_EBUG;
    struct reading reading;
    enum kd_type type = KD_U8;
    hid_t plain = H5I_INVALID_HID;
    unsigned char *raw = NULL; /* [count][size] */
    bool little = false;

    *numbers = NULL;
    KD_TRY(open_reading(file, name, &reading));
    if (!kd_h5_recognize(reading.type, &type, &little)) {
        status =
            kd_fail(KD_EDATA, "%s: attribute '%s': not a number", file->path, name);
        goto out;
    }
    if (reading.count > most) {
        status = kd_fail(KD_EDATA, "%s: attribute '%s': %llu values where %zu fit",
                         file->path, name, (unsigned long long)reading.count, most);
        goto out;
    }
    *count = (size_t)reading.count;
    KD_TRY(KD_NEW(*numbers, *count));
    KD_TRY(KD_NEW(raw, *count * 8));
    plain = kd_h5_type(type);
    if (*count > 0 && H5Aread(reading.id, plain, raw) < 0) {
        status = kd_h5_fail(KD_EDATA, file, "attribute '%s': cannot read", name);
        goto out;
    }
    for (size_t i = 0; i < *count; i++)
        (*numbers)[i] = decode(type, raw + i * kd_type_size(type));
out:
    if (plain >= 0)
        H5Tclose(plain);
    free(raw);
    close_reading(&reading);
    return status;
}

/* The one number of an attribute. */
static enum kd_status read_number(struct kd_h5 *file, const char *name,
                                  struct number *number)
{
    struct number *numbers = NULL;
    size_t count = 0;
    enum kd_status status = read_numbers(file, name, 1, &numbers, &count);

    if (status == KD_OK && count == 0)
        status =
            kd_fail(KD_EDATA, "%s: attribute '%s': holds no value", file->path, name);
    if (status == KD_OK)
        *number = numbers[0];
    free(numbers);
    return status;
}

static double as_double(const struct number *number)
{
    if (number->kind == WHOLE)
        return (double)number->whole;
    return number->kind == NEGATIVE ? (double)number->below : number->real;
}

enum kd_status kd_h5_get_u64(struct kd_h5 *file, const char *name, uint64_t *value)
{
    enum kd_status status = KD_EBUG;
    struct number number = {.kind = WHOLE};

    KD_TRY(read_number(file, name, &number));
    if (number.kind == REAL)
        return kd_fail(KD_EDATA, "%s: attribute '%s': not an integer", file->path,
                       name);
    if (number.kind == NEGATIVE)
        return kd_fail(KD_EDATA, "%s: attribute '%s': %lld is negative", file->path,
                       name, (long long)number.below);
    *value = number.whole;
out:
    return status;
}

enum kd_status kd_h5_get_f64(struct kd_h5 *file, const char *name, double *value)
{
    struct number number = {.kind = WHOLE};
    enum kd_status status = read_number(file, name, &number);

    if (status == KD_OK)
        *value = as_double(&number);
    return status;
}

enum kd_status kd_h5_get_f64s(struct kd_h5 *file, const char *name, double *values,
                              size_t capacity, size_t *count)
{
    struct number *numbers = NULL;
    enum kd_status status = read_numbers(file, name, capacity, &numbers, count);

    for (size_t i = 0; status == KD_OK && i < *count; i++)
        values[i] = as_double(&numbers[i]);
    free(numbers);
    return status;
}

/* KD_OK if it is one string of a fixed and bearable length: *size bytes. */
static enum kd_status expect_string(const struct kd_h5 *file, const char *name,
                                    const struct reading *reading, size_t *size)
{
    *size = H5Tget_size(reading->type);
    if (H5Tget_class(reading->type) != H5T_STRING)
        return kd_fail(KD_EDATA, "%s: attribute '%s': not a string", file->path, name);
    if (H5Tis_variable_str(reading->type) != 0)
        return kd_fail(KD_EDATA,
                       "%s: attribute '%s': a string of variable length, which is not "
                       "read: write it with a fixed one (numpy.bytes_)",
                       file->path, name);
    if (reading->count != 1)
        return kd_fail(KD_EDATA, "%s: attribute '%s': %llu strings where one is due",
                       file->path, name, (unsigned long long)reading->count);
    if (*size > STRING_LIMIT)
        return kd_fail(KD_EDATA, "%s: attribute '%s': too long: %zu bytes", file->path,
                       name, *size);
    return KD_OK;
}

/* The length of the string in `size` bytes, by its kind of padding. */
static size_t unpadded(const char *text, size_t size, H5T_str_t padding)
{
    size_t length = strnlen(text, size);

    while (padding == H5T_STR_SPACEPAD && length > 0 && text[length - 1] == ' ')
        length--;
    return length;
}

enum kd_status kd_h5_get_string(struct kd_h5 *file, const char *name, char **value)
{
    enum kd_status status = KD_EBUG;
    struct reading reading;
    size_t size = 0;
    char *text = NULL;

    *value = NULL;
    KD_TRY(open_reading(file, name, &reading));
    KD_TRY(expect_string(file, name, &reading, &size));
    KD_TRY(KD_NEW(text, size + 1));
    if (H5Aread(reading.id, reading.type, text) < 0) {
        status = kd_h5_fail(KD_EDATA, file, "attribute '%s': cannot read", name);
        goto out;
    }
    size_t length = unpadded(text, size, H5Tget_strpad(reading.type));
    text[length] = '\0';
    if (!is_plain(text, length)) {
        status = kd_fail(KD_EDATA,
                         "%s: attribute '%s': holds characters other than printable "
                         "ASCII",
                         file->path, name);
        goto out;
    }
    *value = text;
    text = NULL;
out:
    free(text);
    close_reading(&reading);
    return status;
}

enum kd_status kd_h5_expect_format(struct kd_h5 *file, const char *format,
                                   uint64_t version, const char *what)
{
    enum kd_status status = KD_EBUG;
    char *found = NULL;
    uint64_t number = 0;

    if (!kd_h5_has_attribute(file, "format"))
        return kd_fail(KD_EDATA, "%s: not %s: it has no attribute 'format'",
                       kd_h5_path(file), what);
    KD_TRY(kd_h5_get_string(file, "format", &found));
    if (strcmp(found, format) != 0) {
        status = kd_fail(KD_EDATA, "%s: not %s: its format is '%.80s'",
                         kd_h5_path(file), what, found);
        goto out;
    }
    KD_TRY(kd_h5_get_u64(file, "format_version", &number));
    if (number != version) {
        status =
            kd_fail(KD_EDATA, "%s: %s of format version %llu, this program knows %llu",
                    kd_h5_path(file), what, (unsigned long long)number,
                    (unsigned long long)version);
        goto out;
    }
    status = KD_OK;
out:
    free(found);
    return status;
}
