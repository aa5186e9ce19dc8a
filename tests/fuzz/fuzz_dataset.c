/* SPDX-License-Identifier: MIT */
/* Datasets of one or two files. The input is a byte that says of which format, one
 * that says how large the labels' file is, that file, and the samples'. */
#include "fuzz.h"

#include "kd/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
    "idx:%s",     "idx:%s,%s",   "npy:%s",    "npy:%s,%s",
    "cifar10:%s", "cifar100:%s", "idx:%s@1:", "cifar10:%s@:1",
};

#define NUM_NAMES (sizeof names / sizeof *names)

static void add(uint8_t format, const void *labels, uint8_t num_labels,
                const void *samples, size_t size)
{
    uint8_t input[8192] = {format, num_labels};

    if (num_labels > 0)
        memcpy(input + 2, labels, num_labels);
    memcpy(input + 2 + num_labels, samples, size);
    kd_fuzz_seed(input, 2 + num_labels + size);
}

void kd_fuzz_seeds(void)
{
    static const uint8_t images[] = "\x00\x00\x08\x03\x00\x00\x00\x02\x00\x00\x00\x02"
                                    "\x00\x00\x00\x02pixels!";
    static const uint8_t labels[] = "\x00\x00\x08\x01\x00\x00\x00\x02\x01";
    static const uint8_t packed[] =
        "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x63\x60\x60"
        "\xe0\x60\x60\x60\x60\x60\x62\x00\x00";
    static const uint8_t records[2 * 3074] = {3, 7};
    static const char array[] =
        "\x93NUMPY\x01\x00\x46\x00{'descr': '|u1', 'fortran_order': False, 'shape': "
        "(2, 3), }         \nabcdef";

    add(0, NULL, 0, images, sizeof images);
    add(1, labels, sizeof labels, images, sizeof images);
    add(0, NULL, 0, packed, sizeof packed);
    add(2, NULL, 0, array, sizeof array - 1);
    add(4, NULL, 0, records, 2 * 3073);
    add(5, NULL, 0, records, 2 * 3074);
    add(6, NULL, 0, images, sizeof images);
}

static void read_ends(const struct kd_dataset *data)
{
    const struct kd_dataset_facts *facts = kd_dataset_facts(data);
    const size_t count =
        facts->shape.channels * facts->shape.height * facts->shape.width;
    void *pixels = malloc(count * kd_type_size(facts->type));
    int32_t label = 0;

    kd_fuzz_expect(pixels != NULL, "memory");
    kd_fuzz_expect(facts->first < facts->end && facts->end <= facts->total,
                   "the slice");
    kd_fuzz_expect(kd_dataset_read(data, facts->first, pixels, &label) == KD_OK &&
                       kd_dataset_read(data, facts->end - 1, pixels, &label) == KD_OK,
                   kd_error());
    free(pixels);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kd_dataset *set = NULL;
    char name[8192];

    if (size < 2 || (size_t)data[1] + 2 > size)
        return 0;
    const char *labels = kd_fuzz_file("labels", data + 2, data[1]);
    const char *samples =
        kd_fuzz_file("samples", data + 2 + data[1], size - 2 - data[1]);
    /* Formats for one file take no second one. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
    snprintf(name, sizeof name, names[data[0] % NUM_NAMES], samples, labels);
#pragma GCC diagnostic pop
    if (kd_dataset_open(name, &set) == KD_OK)
        read_ends(set);
    kd_dataset_close(set);
    return 0;
}
