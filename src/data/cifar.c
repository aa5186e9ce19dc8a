/* SPDX-License-Identifier: MIT */
/*
 * CIFAR-10 and CIFAR-100, binary versions: records of one or two label bytes and
 * 3 x 32 x 32 pixels. https://www.cs.toronto.edu/~kriz/cifar.html
 */
#include "data/format_internal.h"
#include "kd/list.h"
#include "kd/memory.h"

#include <inttypes.h>

#define PIXELS 3072

/* The two kinds of records. */
struct layout {
    const char *scheme;
    size_t labels;     /* bytes of labels in front; the last one is used */
    uint8_t limits[2]; /* of those bytes */
};
static const struct layout cifar10 = {"cifar10", 1, {10, 0}};
static const struct layout cifar100 = {"cifar100", 2, {20, 100}};

static enum kd_status check_size(const struct layout *layout, const char *path,
                                 size_t size)
{
    const struct layout *other = layout == &cifar10 ? &cifar100 : &cifar10;
    size_t record = layout->labels + PIXELS;

    if (size > 0 && size % record == 0)
        return KD_OK;
    if (size > 0 && size % (other->labels + PIXELS) == 0)
        return kd_fail(KD_EDATA, "%s: not of %s: it has the record size of %s", path,
                       layout->scheme, other->scheme);
    return kd_fail(KD_EDATA,
                   "%s: %zu bytes are not one or more records of %zu bytes: truncated, "
                   "or not the binary version of %s",
                   path, size, record, layout->scheme);
}

/* Checks the labels of a whole file. */
static enum kd_status check_labels(const struct layout *layout, const char *path,
                                   const struct kd_map *map)
{
    size_t record = layout->labels + PIXELS;

    for (size_t i = 0; i < map->size / record; i++)
        for (size_t j = 0; j < layout->labels; j++)
            if (map->data[i * record + j] >= layout->limits[j])
                return kd_fail(KD_EDATA,
                               "%s: record %zu has label %d, which is not below %d: "
                               "damaged, or not the binary version of %s",
                               path, i, map->data[i * record + j], layout->limits[j],
                               layout->scheme);
    return KD_OK;
}

static enum kd_status add_file(struct kd_dataset *data, const struct layout *layout,
                               const char *path)
{
    enum kd_status status = KD_EBUG;
    struct kd_part part = {.stride = layout->labels + PIXELS};

    KD_TRY(kd_map_open(&part.bytes.map, path));
    KD_TRY(check_size(layout, path, part.bytes.map.size));
    KD_TRY(check_labels(layout, path, &part.bytes.map));
    part.bytes.data = part.bytes.map.data;
    part.samples = part.bytes.data + layout->labels;
    part.count = part.bytes.map.size / part.stride;
    KD_TRY(kd_dataset_add_part(data, &part));
    status = KD_OK;
out:
    kd_bytes_clear(&part.bytes);
    return status;
}

/* The label is the byte in front of the pixels. */
static enum kd_status copy_labels(struct kd_dataset *data)
{
    enum kd_status status = KD_NEW(data->label, (size_t)data->facts.total);

    if (status != KD_OK)
        return status;
    for (size_t p = 0; p < data->num_parts; p++) {
        const struct kd_part *part = &data->part[p];
        for (size_t i = 0; i < part->count; i++)
            data->label[part->first + i] = (part->samples + i * part->stride)[-1];
    }
    return KD_OK;
}

static enum kd_status open_files(struct kd_dataset *data, const struct layout *layout,
                                 const char *rest)
{
    enum kd_status status = KD_EBUG;
    char **paths = NULL;
    size_t count = 0;

    if (rest[0] == '\0')
        return kd_dataset_misnamed(data);
    KD_TRY(kd_list_split(rest, data->name, &paths, &count));
    data->facts.shape = (struct kd_shape){3, 32, 32};
    data->facts.type = KD_U8;
    data->facts.num_classes = layout->limits[layout->labels - 1];
    for (size_t i = 0; i < count; i++)
        KD_TRY(add_file(data, layout, paths[i]));
    KD_TRY(copy_labels(data));
    status = KD_OK;
out:
    kd_list_free(paths);
    return status;
}

static enum kd_status open_cifar10(struct kd_dataset *data, const char *rest)
{
    return open_files(data, &cifar10, rest);
}

static enum kd_status open_cifar100(struct kd_dataset *data, const char *rest)
{
    return open_files(data, &cifar100, rest);
}

const struct kd_format kd_format_cifar10 = {
    .scheme = "cifar10", .usage = "FILE,...", .open = open_cifar10};
const struct kd_format kd_format_cifar100 = {
    .scheme = "cifar100", .usage = "FILE,...", .open = open_cifar100};
