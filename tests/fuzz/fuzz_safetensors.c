/* SPDX-License-Identifier: MIT */
/* Headers of .safetensors: every byte of each tensor can be read. */
#include "fuzz.h"

#include "kd/safetensors.h"

#include <string.h>

static const struct {
    const char *header;
    size_t bytes;
} files[] = {
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}", 16},
    {"{\"__metadata__\":{\"temperature\":\"4\"},\"b\":{\"dtype\":\"U8\",\"shape\":[3],"
     "\"data_offsets\":[8,11]},\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":"
     "[0,8]}}",
     11},
    {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[0,9],\"data_offsets\":[0,0]}}", 0},
    {"{}", 0}};

void kd_fuzz_seeds(void)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        uint8_t bytes[512] = {0};
        const size_t length = strlen(files[i].header);

        bytes[0] = (uint8_t)length;
        memcpy(bytes + 8, files[i].header, length);
        kd_fuzz_seed(bytes, 8 + length + files[i].bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kd_safetensors *file = NULL;
    uint64_t sum = 0;

    if (kd_safetensors_parse(data, size, "input", &file) == KD_OK)
        for (size_t i = 0; i < kd_safetensors_count(file); i++) {
            const struct kd_safetensor *tensor = kd_safetensors_at(file, i);

            for (size_t j = 0; j < tensor->info.bytes; j++)
                sum += ((const uint8_t *)tensor->data)[j];
            kd_fuzz_expect(kd_safetensors_find(file, tensor->name) == tensor,
                           "a tensor is found by its name");
        }
    kd_fuzz_expect(sum <= 255 * (uint64_t)size, "no byte is in two tensors");
    kd_safetensors_close(file);
    return 0;
}
