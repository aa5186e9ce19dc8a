/* SPDX-License-Identifier: MIT */
/* Scalars for TensorBoard. */
#include "distill/tensorboard_internal.h"

#include "kd/file.h"
#include "kd/memory.h"

#include <cjson/cJSON.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes that grow; the first failure is kept. */
struct bytes {
    uint8_t *data;
    size_t size, capacity;
    enum kd_status status;
};

static void put(struct bytes *b, const void *data, size_t size)
{
    if (b->status == KD_OK)
        b->status = kd_grow(&b->data, &b->capacity, b->size + size, 1);
    if (b->status != KD_OK || size == 0)
        return;
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

/* The `count` low bytes of a number, the lowest first. */
static void put_number(struct bytes *b, uint64_t value, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put(b, &(uint8_t){(uint8_t)(value >> (8 * i))}, 1);
}

/* -- protocol buffers --------------------------------------------------- */

enum wire { VARINT = 0, EIGHT_BYTES = 1, LENGTH = 2, FOUR_BYTES = 5 };

static void put_varint(struct bytes *b, uint64_t value)
{
    for (; value > 0x7f; value >>= 7)
        put_number(b, (value & 0x7f) | 0x80, 1);
    put_number(b, value, 1);
}

static void put_key(struct bytes *b, unsigned field, enum wire wire)
{
    put_varint(b, (uint64_t)field << 3 | (uint64_t)wire);
}

static void put_double(struct bytes *b, unsigned field, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    put_key(b, field, EIGHT_BYTES);
    put_number(b, bits, 8);
}

static void put_float(struct bytes *b, unsigned field, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    put_key(b, field, FOUR_BYTES);
    put_number(b, bits, 4);
}

/* A string, or a message within a message. */
static void put_field(struct bytes *b, unsigned field, const void *data, size_t size)
{
    put_key(b, field, LENGTH);
    put_varint(b, size);
    put(b, data, size);
}

static void put_message(struct bytes *b, unsigned field, struct bytes *message)
{
    put_field(b, field, message->data, message->size);
    if (b->status == KD_OK)
        b->status = message->status;
    free(message->data);
}

/* -- records ------------------------------------------------------------ */

/* CRC-32C (Castagnoli) of RFC 3720, turned and shifted as TFRecord has it. */
static uint32_t masked_crc(const uint8_t *data, size_t size)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0x82f63b78U & (0U - (crc & 1U)));
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

static void put_record(struct bytes *b, struct bytes *event)
{
    uint8_t length[8];

    for (size_t i = 0; i < sizeof length; i++)
        length[i] = (uint8_t)((uint64_t)event->size >> (8 * i));
    put(b, length, sizeof length);
    put_number(b, masked_crc(length, sizeof length), 4);
    put(b, event->data, event->size);
    put_number(b, masked_crc(event->data, event->size), 4);
    if (b->status == KD_OK)
        b->status = event->status;
    free(event->data);
}

/* -- events ------------------------------------------------------------- */

static void put_version(struct bytes *b)
{
    static const char version[] = "brain.Event:2";
    struct bytes event = {0};

    put_double(&event, 1, 0);
    put_field(&event, 3, version, sizeof version - 1);
    put_record(b, &event);
}

static void put_line(struct bytes *b, const cJSON *line, double epoch)
{
    struct bytes event = {0}, summary = {0};
    const cJSON *member;

    cJSON_ArrayForEach(member, line)
    {
        struct bytes value = {0};
        if (!cJSON_IsNumber(member) || strcmp(member->string, "epoch") == 0)
            continue;
        put_field(&value, 1, member->string, strlen(member->string));
        put_float(&value, 2, (float)member->valuedouble);
        put_message(&summary, 1, &value);
    }
    put_double(&event, 1, epoch);
    put_key(&event, 2, VARINT);
    put_varint(&event, (uint64_t)epoch);
    put_message(&event, 5, &summary);
    put_record(b, &event);
}

/* The events of lines of JSON, as many as there are. */
static enum kd_status put_lines(struct bytes *b, const char *text)
{
    while (*text != '\0' && b->status == KD_OK) {
        const char *end = NULL;
        cJSON *line = cJSON_ParseWithOpts(text, &end, false);
        const cJSON *epoch = cJSON_GetObjectItemCaseSensitive(line, "epoch");
        const bool sound = cJSON_IsNumber(epoch) && epoch->valuedouble >= 0;
        if (sound)
            put_line(b, line, epoch->valuedouble);
        cJSON_Delete(line);
        if (!sound)
            return kd_fail(KD_EDATA, "a line of metrics is no object with an epoch");
        text = end + strspn(end, "\n");
    }
    return b->status;
}

/* -- the file ----------------------------------------------------------- */

enum kd_status kd_tensorboard_begin(const char *directory, const char *metrics)
{
    char *path = kd_path_join(directory, KD_TENSORBOARD_FILE);
    enum kd_status status = KD_EMEMORY;
    struct bytes all = {0};

    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    put_version(&all);
    KD_TRY(put_lines(&all, metrics != NULL ? metrics : ""));
    KD_TRY(kd_file_write(path, all.data, all.size));
    status = KD_OK;
out:
    free(all.data);
    free(path);
    return status;
}

static enum kd_status append(const char *path, const struct bytes *events)
{
    FILE *to = fopen(path, "ab");
    size_t written;

    if (to == NULL)
        return kd_fail_errno(KD_ECREATE, "%s: cannot open", path);
    written = fwrite(events->data, 1, events->size, to);
    if (fclose(to) != 0 || written < events->size)
        return kd_fail_errno(KD_EIO, "%s: cannot write", path);
    return KD_OK;
}

enum kd_status kd_tensorboard_add(const char *directory, const char *line)
{
    char *path = kd_path_join(directory, KD_TENSORBOARD_FILE);
    enum kd_status status = KD_EMEMORY;
    struct bytes events = {0};

    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(put_lines(&events, line));
    KD_TRY(append(path, &events));
    status = KD_OK;
out:
    free(events.data);
    free(path);
    return status;
}
