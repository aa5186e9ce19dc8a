/* SPDX-License-Identifier: MIT */
/*
 * Datasets: the grammar of their names, slices, and what all formats share.
 */
#include "kd/dataset.h"

#include "data/format_internal.h"
#include "kd/list.h"
#include "kd/memory.h"
#include "kd/options.h"
#include "kd/resize.h"
#include "kd/thread.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct kd_format *const formats[] = {
    &kd_format_cifar10, &kd_format_cifar100, &kd_format_idx,
    &kd_format_npy,     &kd_format_hdf5,     &kd_format_folder,
};
#define NUM_FORMATS (sizeof formats / sizeof *formats)

void kd_bytes_clear(struct kd_bytes *bytes)
{
    kd_map_close(&bytes->map);
    free(bytes->heap);
    *bytes = (struct kd_bytes){.data = NULL};
}

enum kd_status kd_dataset_misnamed(const struct kd_dataset *data)
{
    return kd_fail(KD_EUSAGE, "%s: name it as %s:%s", data->name, data->format->scheme,
                   data->format->usage);
}

enum kd_status kd_dataset_add_part(struct kd_dataset *data, struct kd_part *part)
{
    size_t capacity = data->num_parts;

    if (kd_grow(&data->part, &capacity, data->num_parts + 1, sizeof *data->part) !=
        KD_OK) {
        kd_bytes_clear(&part->bytes);
        return KD_EMEMORY;
    }
    part->first = data->facts.total;
    data->facts.total += part->count;
    data->part[data->num_parts++] = *part;
    part->bytes = (struct kd_bytes){.data = NULL};
    return KD_OK;
}

size_t kd_shape_size(struct kd_shape shape)
{
    return shape.channels * shape.height * shape.width;
}

/* "9" becomes "10": counting in text, as there may be millions of classes. */
static void count_up(char *number, size_t *length)
{
    size_t i = *length;

    while (i > 0 && number[i - 1] == '9')
        number[--i] = '0';
    if (i > 0) {
        number[i - 1]++;
        return;
    }
    number[0] = '1';
    number[*length] = '0';
    number[++*length] = '\0';
}

enum kd_status kd_class_map_digest(const char *const *names, uint32_t count,
                                   struct kd_digest *digest)
{
    struct kd_hash *hash = NULL;
    char number[16] = "0";
    size_t length = 1;

    if (kd_hash_new(&hash) != KD_OK)
        return KD_EMEMORY;
    for (uint32_t i = 0; i < count; i++) {
        kd_hash_add_string(hash, names != NULL ? names[i] : number);
        count_up(number, &length);
    }
    kd_hash_digest(hash, digest);
    kd_hash_free(hash);
    return KD_OK;
}

/* Labels without names may stop short of the last class: a test set need not have a
 * sample of each. */
static enum kd_status is_prefix(const struct kd_dataset_facts *data, uint32_t classes,
                                const struct kd_digest *map, bool *answer)
{
    struct kd_digest numbers;
    enum kd_status status;

    *answer = false;
    if (data->class_names != NULL || data->num_classes > classes)
        return KD_OK;
    status = kd_class_map_digest(NULL, classes, &numbers);
    *answer = kd_digest_equal(&numbers, map);
    return status;
}

enum kd_status kd_dataset_classes_fit(const struct kd_dataset_facts *data,
                                      const char *who, uint32_t classes,
                                      const struct kd_digest *map)
{
    bool prefix = false;
    enum kd_status status;

    if (data->num_classes == 0 || kd_digest_equal(map, &data->class_map_digest))
        return KD_OK;
    status = is_prefix(data, classes, map, &prefix);
    if (status != KD_OK || prefix)
        return status;
    if (classes < data->num_classes)
        return kd_fail(KD_EDATA,
                       "%s: has %u classes, %s has %u: its labels from %u on are none "
                       "of them",
                       who, classes, data->name, data->num_classes, classes);
    if (classes > data->num_classes)
        return kd_fail(KD_EDATA, "%s: has %u classes, %s has %u", who, classes,
                       data->name, data->num_classes);
    return kd_fail(
        KD_EDATA,
        "%s: its classes (digest %.8s) are not those of %s (%.8s), or not in "
        "the same order",
        who, map->hex, data->name, data->class_map_digest.hex);
}

/* A slice as it was written. */
struct slice {
    bool has_first, has_end;
    uint64_t first, end;
};

/* Cuts "@A:B" off `text`. What is not digits and a colon belongs to the name. */
static enum kd_status cut_slice(char *text, struct slice *slice)
{
    char *at = strrchr(text, '@');
    char *colon = at != NULL ? strchr(at, ':') : NULL;

    *slice = (struct slice){.has_first = false};
    if (colon == NULL || at + 1 + strspn(at + 1, "0123456789") != colon ||
        colon[1 + strspn(colon + 1, "0123456789")] != '\0')
        return KD_OK;
    *colon = '\0';
    slice->has_first = at[1] != '\0';
    slice->has_end = colon[1] != '\0';
    if ((slice->has_first && !kd_parse_u64(at + 1, 0, UINT64_MAX, &slice->first)) ||
        (slice->has_end && !kd_parse_u64(colon + 1, 0, UINT64_MAX, &slice->end)))
        return kd_fail(KD_EUSAGE, "%s:%s: a number too large for an id", text,
                       colon + 1);
    *at = '\0';
    return KD_OK;
}

static enum kd_status set_slice(struct kd_dataset *data, const struct slice *slice)
{
    struct kd_dataset_facts *facts = &data->facts;

    facts->first = slice->has_first ? slice->first : 0;
    facts->end = slice->has_end ? slice->end : facts->total;
    if (facts->end > facts->total || facts->first > facts->total)
        return kd_fail(KD_EUSAGE,
                       "%s: the slice goes beyond the dataset, which has %" PRIu64
                       " samples",
                       data->name, facts->total);
    if (facts->first >= facts->end)
        return kd_fail(KD_EUSAGE,
                       "%s: the slice is empty; @A:B takes ids A to B-1 of %" PRIu64,
                       data->name, facts->total);
    return KD_OK;
}

/* The format that a name begins with, and what stands behind the colon. */
static enum kd_status find_format(const char *name, const struct kd_format **format,
                                  const char **rest)
{
    char known[256] = "";
    size_t used = 0;

    for (size_t i = 0; i < NUM_FORMATS; i++) {
        size_t length = strlen(formats[i]->scheme);
        if (strncmp(name, formats[i]->scheme, length) == 0 && name[length] == ':') {
            *format = formats[i];
            *rest = name + length + 1;
            return KD_OK;
        }
        used += (size_t)snprintf(known + used, sizeof known - used, " %s:%s",
                                 formats[i]->scheme, formats[i]->usage);
    }
    return kd_fail(KD_EUSAGE, "%s: not the name of a dataset; known are%s", name,
                   known);
}

/* Labels against the number of classes, which they give where it is not known. */
static enum kd_status count_classes(struct kd_dataset *data)
{
    uint32_t limit = data->facts.num_classes;
    int32_t largest = -1;

    for (uint64_t id = 0; data->label != NULL && id < data->facts.total; id++) {
        int32_t label = data->label[id];
        if (limit > 0 && label >= 0 && (uint32_t)label >= limit)
            return kd_fail(KD_EDATA,
                           "%s: sample %" PRIu64 " has label %" PRId32
                           ", but there are %" PRIu32 " class names",
                           data->name, id, label, limit);
        if (label > largest)
            largest = label;
    }
    if (limit == 0)
        data->facts.num_classes = (uint32_t)(largest + 1);
    return KD_OK;
}

static const uint8_t *find_sample(const struct kd_dataset *data, uint64_t id)
{
    const struct kd_part *part = data->part;

    while (id - part->first >= part->count)
        part++;
    return part->samples + (size_t)(id - part->first) * part->stride;
}

/* Whether `count` floats, at any alignment, are all finite. */
static bool all_finite(const uint8_t *bytes, size_t count)
{
    const uint32_t exponent = UINT32_C(0x7f800000);
    uint32_t bad = 0;

    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, bytes + 4 * i, sizeof bits);
        bad |= (bits & exponent) == exponent;
    }
    return bad == 0;
}

static enum kd_status check_finite(void *context, size_t begin, size_t end)
{
    const struct kd_dataset *data = context;

    for (size_t id = begin; id < end; id++)
        if (!all_finite(find_sample(data, id), data->sample_bytes / 4))
            return kd_fail(KD_EDATA, "%s: sample %zu has a NaN or infinite element",
                           data->name, id);
    return KD_OK;
}

static void add_parts(const struct kd_dataset *data, struct kd_hash *hash)
{
    for (size_t p = 0; p < data->num_parts; p++) {
        const struct kd_part *part = &data->part[p];
        if (part->stride == data->sample_bytes) {
            kd_hash_add(hash, part->samples, (size_t)part->count * part->stride);
            continue;
        }
        for (uint64_t i = 0; i < part->count; i++)
            kd_hash_add(hash, part->samples + (size_t)i * part->stride,
                        data->sample_bytes);
    }
}

/* The digest is of content, not of files: the same samples in another container,
 * or compressed, are the same dataset. */
static enum kd_status digest_content(struct kd_dataset *data)
{
    enum kd_status status = KD_EBUG;
    const struct kd_dataset_facts *facts = &data->facts;
    struct kd_hash *hash = NULL;

    KD_TRY(kd_hash_new(&hash));
    kd_hash_add_u64(hash, facts->shape.channels);
    kd_hash_add_u64(hash, facts->shape.height);
    kd_hash_add_u64(hash, facts->shape.width);
    kd_hash_add_string(hash, kd_type_name(facts->type));
    kd_hash_add_u64(hash, facts->total);
    add_parts(data, hash);
    if (data->format->add_content != NULL)
        KD_TRY(data->format->add_content(data, hash));
    if (data->label != NULL)
        kd_hash_add(hash, data->label, (size_t)facts->total * sizeof *data->label);
    kd_hash_digest(hash, &data->facts.digest);
    status = KD_OK;
out:
    kd_hash_free(hash);
    return status;
}

/* What is the same for all formats, once one has been opened. */
static enum kd_status complete_facts(struct kd_dataset *data, const struct slice *slice)
{
    enum kd_status status = KD_EBUG;
    struct kd_dataset_facts *facts = &data->facts;

    facts->name = data->name;
    facts->class_names = (const char *const *)data->class_name;
    data->sample_bytes = kd_shape_size(facts->shape) * kd_type_size(facts->type);
    if (facts->total == 0) {
        status = kd_fail(KD_EDATA, "%s: it has no samples", data->name);
        goto out;
    }
    KD_TRY(set_slice(data, slice));
    KD_TRY(count_classes(data));
    if (facts->type == KD_F32)
        KD_TRY(kd_parallel((size_t)facts->total, 64, check_finite, data));
    KD_TRY(digest_content(data));
    KD_TRY(kd_class_map_digest(facts->class_names, facts->num_classes,
                               &facts->class_map_digest));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_dataset_open(const char *name, struct kd_dataset **data)
{
    enum kd_status status = KD_EBUG;
    struct kd_dataset *made = NULL;
    struct slice slice;
    char *whole = NULL; /* the name without the slice */
    const char *rest = NULL;

    *data = NULL;
    KD_TRY(KD_NEW(made, 1));
    made->name = kd_copy_string(name);
    whole = kd_copy_string(name);
    if (made->name == NULL || whole == NULL) {
        status = KD_EMEMORY;
        goto out;
    }
    KD_TRY(cut_slice(whole, &slice));
    KD_TRY(find_format(whole, &made->format, &rest));
    KD_TRY(made->format->open(made, rest));
    KD_TRY(complete_facts(made, &slice));
    *data = made;
    made = NULL;
    status = KD_OK;
out:
    free(whole);
    kd_dataset_close(made);
    return status;
}

void kd_dataset_close(struct kd_dataset *data)
{
    if (data == NULL)
        return;
    if (data->format != NULL && data->format->close != NULL)
        data->format->close(data);
    for (size_t i = 0; i < data->num_parts; i++)
        kd_bytes_clear(&data->part[i].bytes);
    free(data->part);
    free(data->label);
    kd_list_free(data->class_name);
    free(data->name);
    free(data);
}

const struct kd_dataset_facts *kd_dataset_facts(const struct kd_dataset *data)
{
    return &data->facts;
}

enum kd_status kd_dataset_sizes_differ(const struct kd_dataset *data, bool *differ)
{
    *differ = false;
    return data->format->sizes_differ != NULL ? data->format->sizes_differ(data, differ)
                                              : KD_OK;
}

enum kd_status kd_dataset_open_sized(const struct kd_dataset *data,
                                     const struct kd_resize *how,
                                     struct kd_dataset **sized)
{
    enum kd_status status = KD_EBUG;
    char words[KD_RESIZE_TEXT], *whole = kd_copy_string(data->name), *name = NULL;
    struct slice slice;

    *sized = NULL;
    KD_TRY(whole != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(cut_slice(whole, &slice));
    kd_resize_text(how, words);
    name = kd_format("%s,%s%s", whole, words, data->name + strlen(whole));
    KD_TRY(name != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_dataset_open(name, sized));
out:
    free(whole);
    free(name);
    return status;
}

static bool in_slice(const struct kd_dataset *data, uint64_t id)
{
    return id >= data->facts.first && id < data->facts.end;
}

static enum kd_status no_such_sample(const struct kd_dataset *data, uint64_t id,
                                     uint64_t first, uint64_t end)
{
    return kd_fail(KD_EDATA,
                   "%s: there is no sample %" PRIu64 " in it, but %" PRIu64
                   " to %" PRIu64,
                   data->name, id, first, end - 1);
}

enum kd_status kd_dataset_read(const struct kd_dataset *data, uint64_t id, void *pixels,
                               int32_t *label)
{
    if (!in_slice(data, id))
        return no_such_sample(data, id, data->facts.first, data->facts.end);
    return kd_dataset_read_any(data, id, pixels, label);
}

enum kd_status kd_dataset_read_any(const struct kd_dataset *data, uint64_t id,
                                   void *pixels, int32_t *label)
{
    if (id >= data->facts.total)
        return no_such_sample(data, id, 0, data->facts.total);
    if (label != NULL)
        *label = data->label != NULL ? data->label[id] : -1;
    if (data->format->read != NULL)
        return data->format->read(data, id, pixels);
    memcpy(pixels, find_sample(data, id), data->sample_bytes);
    return KD_OK;
}

int32_t kd_dataset_label(const struct kd_dataset *data, uint64_t id)
{
    return data->label != NULL && in_slice(data, id) ? data->label[id] : -1;
}
