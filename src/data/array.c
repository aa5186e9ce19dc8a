/* SPDX-License-Identifier: MIT */
/* Arrays of samples and of labels: what .npy and HDF5 files have in common. */
#include "data/format_internal.h"
#include "kd/list.h"
#include "kd/memory.h"

#include <inttypes.h>
#include <string.h>

/* Samples with their channels last, as Keras and Pillow make them. */
static bool looks_channels_last(const struct kd_array_info *info)
{
    const uint64_t *shape = info->shape;

    return info->rank == 4 && (shape[3] == 1 || shape[3] == 3) &&
           shape[2] != shape[3] && shape[1] != 1 && shape[1] != 3;
}

static enum kd_status check_samples(const char *what, const struct kd_array_info *info)
{
    if (info->type != KD_U8 && info->type != KD_F32)
        return kd_fail(KD_EDATA,
                       "%s: samples must be uint8 or float32, not %s; convert with "
                       "x.astype('float32')",
                       what, kd_type_name(info->type));
    if (info->rank < 2 || info->rank > 4)
        return kd_fail(KD_EDATA,
                       "%s: samples must be [N,F], [N,H,W] or [N,C,H,W], but it has "
                       "%zu dimensions",
                       what, info->rank);
    if (info->count == 0)
        return kd_fail(KD_EDATA, "%s: it has no samples, or empty ones", what);
    if (info->type == KD_U8 && looks_channels_last(info))
        return kd_fail(KD_EDATA,
                       "%s: samples must be [N,C,H,W]; transpose with "
                       "x.transpose(0,3,1,2)",
                       what);
    return KD_OK;
}

/* [N,F], [N,H,W] or [N,C,H,W] */
static struct kd_shape shape_of(const struct kd_array_info *info)
{
    const uint64_t *shape = info->shape;

    if (info->rank == 2)
        return (struct kd_shape){(size_t)shape[1], 1, 1};
    if (info->rank == 3)
        return (struct kd_shape){1, (size_t)shape[1], (size_t)shape[2]};
    return (struct kd_shape){(size_t)shape[1], (size_t)shape[2], (size_t)shape[3]};
}

enum kd_status kd_array_samples(struct kd_dataset *data, const char *what,
                                const struct kd_array_info *info,
                                struct kd_bytes *bytes)
{
    enum kd_status status = check_samples(what, info);

    if (status != KD_OK) {
        kd_bytes_clear(bytes);
        return status;
    }
    data->facts.shape = shape_of(info);
    data->facts.type = info->type;
    struct kd_part part = {.bytes = *bytes,
                           .samples = bytes->data,
                           .stride = (size_t)(info->bytes / info->shape[0]),
                           .count = info->shape[0]};
    *bytes = (struct kd_bytes){.data = NULL};
    return kd_dataset_add_part(data, &part);
}

/* One integer of any type and alignment; what is too large for int64 is made its
 * largest value. False for a type that is none of integers. */
static bool integer_at(enum kd_type type, const uint8_t *at, int64_t *value)
{
    union {
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
    } x;

    memcpy(&x, at, kd_type_size(type));
    switch (type) {
    case KD_U8:
        *value = at[0];
        return true;
    case KD_I8:
        *value = x.i8;
        return true;
    case KD_U16:
        *value = x.u16;
        return true;
    case KD_I16:
        *value = x.i16;
        return true;
    case KD_U32:
        *value = x.u32;
        return true;
    case KD_I32:
        *value = x.i32;
        return true;
    case KD_U64:
        *value = x.u64 > INT64_MAX ? INT64_MAX : (int64_t)x.u64;
        return true;
    case KD_I64:
        memcpy(value, at, sizeof *value);
        return true;
    default:
        return false;
    }
}

static enum kd_status check_labels(const struct kd_dataset *data, const char *what,
                                   const struct kd_array_info *info)
{
    uint64_t total = data->facts.total;

    if (info->rank < 1 || info->rank > 2 || (info->rank == 2 && info->shape[1] != 1))
        return kd_fail(KD_EDATA,
                       "%s: labels must be [N]; of one-hot rows take "
                       "y.argmax(1)",
                       what);
    if (info->shape[0] != total)
        return kd_fail(KD_EDATA, "%s: %" PRIu64 " labels for %" PRIu64 " samples", what,
                       info->shape[0], total);
    if (info->type >= KD_F16)
        return kd_fail(KD_EDATA,
                       "%s: labels must be integers, not %s; convert with "
                       "y.astype('int32')",
                       what, kd_type_name(info->type));
    return KD_OK;
}

enum kd_status kd_array_labels(struct kd_dataset *data, const char *what,
                               const struct kd_array_info *info,
                               const struct kd_bytes *bytes)
{
    enum kd_status status = KD_EBUG;
    size_t size = kd_type_size(info->type);

    KD_TRY(check_labels(data, what, info));
    KD_TRY(KD_NEW(data->label, (size_t)info->count));
    for (size_t i = 0; i < info->count; i++) {
        int64_t value = -2;
        if (!integer_at(info->type, bytes->data + i * size, &value) || value < -1 ||
            value >= KD_MAX_CLASSES) {
            status = kd_fail(KD_EDATA,
                             "%s: sample %zu has label %" PRId64
                             ", which is not -1 (none) to %d",
                             what, i, value, KD_MAX_CLASSES - 1);
            goto out;
        }
        data->label[i] = (int32_t)value;
    }
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_array_open_pair(struct kd_dataset *data, const char *rest,
                                  kd_array_opener *open_array)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info info;
    struct kd_bytes bytes = {.data = NULL};
    char **paths = NULL;
    size_t count = 0;

    if (rest[0] == '\0')
        return kd_dataset_misnamed(data);
    KD_TRY(kd_list_split(rest, data->name, &paths, &count));
    if (count > 2) {
        status = kd_dataset_misnamed(data);
        goto out;
    }
    KD_TRY(open_array(paths[0], &info, &bytes));
    KD_TRY(kd_array_samples(data, paths[0], &info, &bytes));
    if (count == 2) {
        KD_TRY(open_array(paths[1], &info, &bytes));
        KD_TRY(kd_array_labels(data, paths[1], &info, &bytes));
    }
    status = KD_OK;
out:
    kd_bytes_clear(&bytes);
    kd_list_free(paths);
    return status;
}
