/* SPDX-License-Identifier: MIT */
/* Reading .safetensors: the header is taken apart and checked, the data stay mapped. */
#include "kd/safetensors.h"

#include "base/safetensors_internal.h"
#include "kd/file.h"
#include "kd/memory.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

const char *const kd_safetensors_types[KD_TYPE_COUNT] = {
    [KD_U8] = "U8",   [KD_I8] = "I8",   [KD_U16] = "U16",   [KD_I16] = "I16",
    [KD_U32] = "U32", [KD_I32] = "I32", [KD_U64] = "U64",   [KD_I64] = "I64",
    [KD_F16] = "F16", [KD_F32] = "F32", [KD_BF16] = "BF16", [KD_F64] = "F64",
};

struct kd_safetensors {
    const char *name; /* the caller's, while the file is taken apart */
    struct kd_map map;
    const uint8_t *data; /* behind the header, [size] */
    size_t offset, size;
    cJSON *header; /* owns the names */
    const cJSON *metadata;
    struct kd_safetensor *tensors; /* [count] */
    size_t count;
};

static uint64_t read_u64(const uint8_t *bytes)
{
    uint64_t value = 0;

    for (int i = 0; i < 8; i++)
        value |= (uint64_t)bytes[i] << 8 * i;
    return value;
}

/* A whole number that a double holds exactly. */
static bool to_u64(const cJSON *number, uint64_t *value)
{
    if (!cJSON_IsNumber(number) || !(number->valuedouble >= 0) ||
        !(number->valuedouble <= 9007199254740992.0))
        return false;
    *value = (uint64_t)number->valuedouble;
    return (double)*value == number->valuedouble;
}

static enum kd_status fail_tensor(const struct kd_safetensors *file, const char *tensor,
                                  const char *why)
{
    return kd_fail(KD_EDATA, "%s: tensor '%.80s': %s", file->name, tensor, why);
}

static enum kd_status find_type(const struct kd_safetensors *file, const char *tensor,
                                const cJSON *dtype, enum kd_type *type)
{
    if (!cJSON_IsString(dtype))
        return fail_tensor(file, tensor, "its dtype is missing");
    if (strcmp(dtype->valuestring, "BOOL") == 0) {
        *type = KD_U8;
        return KD_OK;
    }
    for (int i = 0; i < KD_TYPE_COUNT; i++) {
        if (strcmp(dtype->valuestring, kd_safetensors_types[i]) == 0) {
            *type = (enum kd_type)i;
            return KD_OK;
        }
    }
    return kd_fail(KD_EDATA,
                   "%s: tensor '%.80s': elements of type '%.40s', which are not read: "
                   "save them as one of U8 to U64, I8 to I64, F16, BF16, F32, F64",
                   file->name, tensor, dtype->valuestring);
}

static enum kd_status find_shape(const struct kd_safetensors *file,
                                 struct kd_safetensor *tensor, const cJSON *shape)
{
    struct kd_array_info *info = &tensor->info;
    const cJSON *each = NULL;

    if (!cJSON_IsArray(shape))
        return fail_tensor(file, tensor->name, "its shape is missing");
    cJSON_ArrayForEach(each, shape)
    {
        if (info->rank == KD_MAX_RANK)
            return kd_fail(KD_EDATA, "%s: tensor '%.80s': more than %d dimensions",
                           file->name, tensor->name, KD_MAX_RANK);
        if (!to_u64(each, &info->shape[info->rank++]))
            return fail_tensor(file, tensor->name,
                               "its shape has something that is no dimension");
    }
    if (!kd_array_measure(info))
        return fail_tensor(file, tensor->name,
                           "its shape is too large for this machine");
    return KD_OK;
}

/* Where its bytes are: [begin, end) behind the header. */
static enum kd_status find_place(const struct kd_safetensors *file,
                                 struct kd_safetensor *tensor, const cJSON *offsets)
{
    uint64_t begin = 0, end = 0;

    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !to_u64(cJSON_GetArrayItem(offsets, 0), &begin) ||
        !to_u64(cJSON_GetArrayItem(offsets, 1), &end) || end < begin)
        return fail_tensor(file, tensor->name,
                           "its data_offsets are not a beginning and an end");
    if (end > file->size)
        return kd_fail(KD_EDATA,
                       "%s: truncated: tensor '%.80s' ends at byte %llu of %zu bytes "
                       "behind the header",
                       file->name, tensor->name, (unsigned long long)end, file->size);
    if (end - begin != tensor->info.bytes)
        return kd_fail(KD_EDATA,
                       "%s: tensor '%.80s': takes %llu bytes by its shape, %llu by its "
                       "data_offsets",
                       file->name, tensor->name, (unsigned long long)tensor->info.bytes,
                       (unsigned long long)(end - begin));
    tensor->info.offset = file->offset + begin;
    tensor->data = file->data + begin;
    return KD_OK;
}

static enum kd_status take_tensor(struct kd_safetensors *file, const cJSON *entry)
{
    enum kd_status status = KD_EBUG;
    struct kd_safetensor *tensor = &file->tensors[file->count++];

    tensor->name = entry->string;
    if (!cJSON_IsObject(entry))
        return fail_tensor(file, tensor->name, "its entry is no object");
    KD_TRY(find_type(file, tensor->name,
                     cJSON_GetObjectItemCaseSensitive(entry, "dtype"),
                     &tensor->info.type));
    KD_TRY(find_shape(file, tensor, cJSON_GetObjectItemCaseSensitive(entry, "shape")));
    KD_TRY(find_place(file, tensor,
                      cJSON_GetObjectItemCaseSensitive(entry, "data_offsets")));
out:
    return status;
}

static enum kd_status take_metadata(struct kd_safetensors *file, const cJSON *entry)
{
    const cJSON *each = NULL;

    if (file->metadata != NULL || !cJSON_IsObject(entry))
        return kd_fail(KD_EDATA,
                       "%s: its " KD_SAFETENSORS_METADATA
                       " is there twice, or no object",
                       file->name);
    cJSON_ArrayForEach(each, entry)
    {
        if (!cJSON_IsString(each))
            return kd_fail(KD_EDATA,
                           "%s: '%.80s' in its " KD_SAFETENSORS_METADATA " is no text",
                           file->name, each->string);
    }
    file->metadata = entry;
    return KD_OK;
}

static int compare_places(const void *a, const void *b)
{
    const struct kd_array_info *x = &((const struct kd_safetensor *)a)->info,
                               *y = &((const struct kd_safetensor *)b)->info;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct kd_safetensor *)a)->name,
                  ((const struct kd_safetensor *)b)->name);
}

/* That the tensors, end to end, are all of the data. */
static enum kd_status check_places(struct kd_safetensors *file)
{
    uint64_t end = file->offset;

    qsort(file->tensors, file->count, sizeof *file->tensors, compare_places);
    for (size_t i = 0; i < file->count; i++) {
        const struct kd_safetensor *tensor = &file->tensors[i];

        if (tensor->info.offset < end)
            return fail_tensor(file, tensor->name, "its data overlap those of another");
        if (tensor->info.offset > end)
            return fail_tensor(file, tensor->name,
                               "there are bytes in front of it that are no tensor's");
        end += tensor->info.bytes;
    }
    if (end != file->offset + file->size)
        return kd_fail(KD_EDATA, "%s: too long: its last %llu bytes are no tensor's",
                       file->name,
                       (unsigned long long)(file->offset + file->size - end));
    return KD_OK;
}

static enum kd_status check_names(struct kd_safetensors *file)
{
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_names);
    for (size_t i = 1; i < file->count; i++)
        if (strcmp(file->tensors[i - 1].name, file->tensors[i].name) == 0)
            return fail_tensor(file, file->tensors[i].name, "is there twice");
    return KD_OK;
}

/* The header's bytes as JSON; spaces may stand behind it. */
static enum kd_status parse_header(struct kd_safetensors *file, const char *text,
                                   size_t size)
{
    const char *end = NULL;

    if (size == 0 || text[0] != '{' || memchr(text, '\0', size) != NULL)
        return kd_fail(KD_EDATA,
                       "%s: not a .safetensors file: its header is no JSON "
                       "object",
                       file->name);
    file->header = cJSON_ParseWithLengthOpts(text, size, &end, false);
    if (file->header == NULL)
        return kd_fail(KD_EDATA, "%s: its header is not JSON: at byte %zu of it",
                       file->name, end != NULL ? (size_t)(end - text) : 0);
    while (end < text + size && *end == ' ')
        end++;
    if (end != text + size)
        return kd_fail(KD_EDATA, "%s: something stands behind its header's JSON",
                       file->name);
    return KD_OK;
}

static enum kd_status take_apart(struct kd_safetensors *file, const uint8_t *bytes,
                                 size_t size)
{
    enum kd_status status = KD_EBUG;
    const cJSON *each = NULL;
    uint64_t length = 0;

    if (size < KD_SAFETENSORS_PREFIX)
        return kd_fail(KD_EDATA, "%s: too short for a .safetensors file", file->name);
    length = read_u64(bytes);
    if (length > KD_SAFETENSORS_LIMIT)
        return kd_fail(KD_EDATA,
                       "%s: not a .safetensors file: a header of %llu bytes, where %d "
                       "are allowed",
                       file->name, (unsigned long long)length, KD_SAFETENSORS_LIMIT);
    if (length > size - KD_SAFETENSORS_PREFIX)
        return kd_fail(KD_EDATA, "%s: truncated: a header of %llu bytes has %zu",
                       file->name, (unsigned long long)length,
                       size - KD_SAFETENSORS_PREFIX);
    file->offset = KD_SAFETENSORS_PREFIX + (size_t)length;
    file->data = bytes + file->offset;
    file->size = size - file->offset;
    KD_TRY(parse_header(file, (const char *)bytes + KD_SAFETENSORS_PREFIX,
                        (size_t)length));
    KD_TRY(KD_NEW(file->tensors, (size_t)cJSON_GetArraySize(file->header)));
    cJSON_ArrayForEach(each, file->header)
    {
        if (strcmp(each->string, KD_SAFETENSORS_METADATA) == 0)
            KD_TRY(take_metadata(file, each));
        else
            KD_TRY(take_tensor(file, each));
    }
    KD_TRY(check_places(file));
    KD_TRY(check_names(file));
out:
    return status;
}

enum kd_status kd_safetensors_parse(const void *data, size_t size, const char *name,
                                    struct kd_safetensors **file)
{
    enum kd_status status = KD_EBUG;
    struct kd_safetensors *made = NULL;

    *file = NULL;
    KD_TRY(KD_NEW(made, 1));
    made->name = name;
    KD_TRY(take_apart(made, data, size));
    made->name = NULL;
    *file = made;
    made = NULL;
out:
    kd_safetensors_close(made);
    return status;
}

enum kd_status kd_safetensors_open(const char *path, struct kd_safetensors **file)
{
    enum kd_status status = KD_EBUG;
    struct kd_map map;

    *file = NULL;
    KD_TRY(kd_map_open(&map, path));
    status = kd_safetensors_parse(map.data, map.size, path, file);
    if (status == KD_OK)
        (*file)->map = map;
    else
        kd_map_close(&map);
out:
    return status;
}

void kd_safetensors_close(struct kd_safetensors *file)
{
    if (file == NULL)
        return;
    kd_map_close(&file->map);
    cJSON_Delete(file->header);
    free(file->tensors);
    free(file);
}

size_t kd_safetensors_count(const struct kd_safetensors *file)
{
    return file->count;
}

const struct kd_safetensor *kd_safetensors_at(const struct kd_safetensors *file,
                                              size_t index)
{
    return &file->tensors[index];
}

const struct kd_safetensor *kd_safetensors_find(const struct kd_safetensors *file,
                                                const char *name)
{
    const struct kd_safetensor wanted = {.name = name};

    if (file->count == 0)
        return NULL;
    return bsearch(&wanted, file->tensors, file->count, sizeof wanted, compare_names);
}

const char *kd_safetensors_metadata(const struct kd_safetensors *file, const char *key)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(file->metadata, key);

    return found != NULL ? found->valuestring : NULL;
}
