/* SPDX-License-Identifier: MIT */
/* Writing .safetensors: the header first, then each tensor's bytes as they come. */
#include "kd/safetensors.h"

#include "base/file_internal.h"
#include "base/safetensors_internal.h"
#include "kd/json.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One tensor: what it is, where its bytes lie, how many have come. */
struct place {
    const char *name;
    struct kd_array_info info; /* offset: behind the header */
    uint64_t written;
    size_t index; /* as it was announced */
};

struct kd_safetensors_writer {
    struct kd_pending pending;
    int fd;
    size_t offset;        /* of the data in the file */
    struct place *places; /* [count] in the order of the file, then as announced */
    size_t count;
};

static int compare_in_file(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    size_t wide = kd_type_size(x->info.type), other = kd_type_size(y->info.type);

    if (wide != other)
        return wide > other ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int compare_announced(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    return (x->index > y->index) - (x->index < y->index);
}

/* Takes the tensors over and gives each its place. */
static enum kd_status plan(struct kd_safetensors_writer *w,
                           const struct kd_safetensor *tensors)
{
    uint64_t end = 0;

    for (size_t i = 0; i < w->count; i++) {
        struct place *place = &w->places[i];

        *place = (struct place){tensors[i].name, tensors[i].info, 0, i};
        if (place->info.rank > KD_MAX_RANK || !kd_array_measure(&place->info))
            return kd_fail(KD_EUSAGE, "%s: tensor '%.80s': cannot have such a shape",
                           w->pending.path, place->name);
        for (size_t other = 0; other < i; other++)
            if (strcmp(tensors[other].name, place->name) == 0)
                return kd_fail(KD_EUSAGE, "%s: tensor '%.80s' is there twice",
                               w->pending.path, place->name);
        if (strcmp(place->name, KD_SAFETENSORS_METADATA) == 0)
            return kd_fail(KD_EUSAGE, "%s: no tensor can be named '%s'",
                           w->pending.path, place->name);
    }
    qsort(w->places, w->count, sizeof *w->places, compare_in_file);
    for (size_t i = 0; i < w->count; i++) {
        w->places[i].info.offset = end;
        if (w->places[i].info.bytes > (uint64_t)INT64_MAX / 2 - end)
            return kd_fail(KD_EUSAGE, "%s: too large for a file", w->pending.path);
        end += w->places[i].info.bytes;
    }
    return KD_OK;
}

static void describe_tensor(const struct place *place, struct kd_json *json)
{
    const struct kd_array_info *info = &place->info;

    kd_json_begin(json, place->name, '{');
    kd_json_string(json, "dtype", kd_safetensors_types[info->type]);
    kd_json_begin(json, "shape", '[');
    for (size_t i = 0; i < info->rank; i++)
        kd_json_u64(json, NULL, info->shape[i]);
    kd_json_end(json);
    kd_json_begin(json, "data_offsets", '[');
    kd_json_u64(json, NULL, info->offset);
    kd_json_u64(json, NULL, info->offset + info->bytes);
    kd_json_end(json);
    kd_json_end(json);
}

static enum kd_status describe(const struct kd_safetensors_writer *w,
                               const char *const *metadata, struct kd_json *json,
                               const char **text)
{
    kd_json_begin(json, NULL, '{');
    if (metadata != NULL && metadata[0] != NULL) {
        kd_json_begin(json, KD_SAFETENSORS_METADATA, '{');
        for (size_t i = 0; metadata[i] != NULL; i += 2)
            kd_json_string(json, metadata[i], metadata[i + 1]);
        kd_json_end(json);
    }
    for (size_t i = 0; i < w->count; i++)
        describe_tensor(&w->places[i], json);
    kd_json_end(json);
    return kd_json_text(json, text);
}

/* The header, filled up with spaces so that the data begin at a multiple of 8. */
static enum kd_status write_header(struct kd_safetensors_writer *w,
                                   const char *const *metadata)
{
    enum kd_status status = KD_EBUG;
    struct kd_json *json = NULL;
    const char *text = NULL;
    char prefix[KD_SAFETENSORS_PREFIX];
    size_t length = 0, padded = 0;

    KD_TRY(kd_json_new(&json));
    KD_TRY(describe(w, metadata, json, &text));
    length = strlen(text);
    padded = (length + 7) / 8 * 8;
    if (padded > KD_SAFETENSORS_LIMIT) {
        status = kd_fail(KD_EUSAGE, "%s: a header of %zu bytes, where %d are allowed",
                         w->pending.path, padded, KD_SAFETENSORS_LIMIT);
        goto out;
    }
    for (int i = 0; i < KD_SAFETENSORS_PREFIX; i++)
        prefix[i] = (char)(padded >> 8 * i & 0xff);
    w->offset = sizeof prefix + padded;
    KD_TRY(kd_write_all(w->fd, w->pending.temporary, prefix, sizeof prefix));
    KD_TRY(kd_write_all(w->fd, w->pending.temporary, text, length));
    KD_TRY(kd_write_all(w->fd, w->pending.temporary, "        ", padded - length));
out:
    kd_json_free(json);
    return status;
}

enum kd_status kd_safetensors_create(const char *path,
                                     const struct kd_safetensor *tensors, size_t count,
                                     const char *const *metadata,
                                     struct kd_safetensors_writer **writer)
{
    enum kd_status status = KD_EBUG;
    struct kd_safetensors_writer *w = NULL;

    *writer = NULL;
    KD_TRY(KD_NEW(w, 1));
    w->fd = -1;
    w->count = count;
    KD_TRY(KD_NEW(w->places, count));
    KD_TRY(kd_pending_open(&w->pending, path));
    KD_TRY(plan(w, tensors));
    KD_TRY(kd_pending_create(&w->pending, &w->fd));
    KD_TRY(write_header(w, metadata));
    qsort(w->places, w->count, sizeof *w->places, compare_announced);
    *writer = w;
    w = NULL;
out:
    kd_safetensors_abandon(w);
    return status;
}

enum kd_status kd_safetensors_append(struct kd_safetensors_writer *writer, size_t index,
                                     const void *data, size_t bytes)
{
    struct place *place = &writer->places[index];
    const uint64_t to = writer->offset + place->info.offset + place->written;
    enum kd_status status = KD_EBUG;

    if (bytes > place->info.bytes - place->written)
        return kd_fail(KD_EBUG, "%s: tensor '%.80s': more bytes than were announced",
                       writer->pending.path, place->name);
    status = kd_write_at(writer->fd, writer->pending.temporary, data, bytes, to);
    place->written += bytes;
    return status;
}

static enum kd_status check_full(const struct kd_safetensors_writer *w)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->places[i].written != w->places[i].info.bytes)
            return kd_fail(KD_EBUG,
                           "%s: tensor '%.80s': %llu bytes came of %llu announced",
                           w->pending.path, w->places[i].name,
                           (unsigned long long)w->places[i].written,
                           (unsigned long long)w->places[i].info.bytes);
    return KD_OK;
}

enum kd_status kd_safetensors_commit(struct kd_safetensors_writer *writer)
{
    enum kd_status status = KD_EBUG;
    int fd = writer->fd;

    KD_TRY(check_full(writer));
    writer->fd = -1;
    if (close(fd) != 0) {
        status = kd_fail_errno(KD_EIO, "%s: cannot write", writer->pending.temporary);
        goto out;
    }
    KD_TRY(kd_pending_check(&writer->pending));
    KD_TRY(kd_pending_commit(&writer->pending));
out:
    kd_safetensors_abandon(writer);
    return status;
}

void kd_safetensors_abandon(struct kd_safetensors_writer *writer)
{
    if (writer == NULL)
        return;
    if (writer->fd >= 0)
        close(writer->fd);
    kd_pending_abandon(&writer->pending);
    free(writer->places);
    free(writer);
}
