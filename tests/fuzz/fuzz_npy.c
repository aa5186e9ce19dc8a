/* SPDX-License-Identifier: MIT */
/* Headers of .npy: what is accepted has a size that fits. */
#include "fuzz.h"

#include "kd/npy.h"

#include <string.h>

static void add(enum kd_type type, size_t rank, const uint64_t *shape)
{
    char header[256];
    const size_t size = kd_npy_header(type, rank, shape, header);

    kd_fuzz_seed(header, size);
}

void kd_fuzz_seeds(void)
{
    static const char old[] = "\x93NUMPY\x02\x00\x46\x00\x00\x00"
                              "{'descr': '|u1', 'fortran_order': True, 'shape': (3,), }"
                              "             \n";

    add(KD_F32, 2, (const uint64_t[]){100, 10});
    add(KD_U8, 4, (const uint64_t[]){1, 2, 3, 4});
    add(KD_I64, 1, (const uint64_t[]){UINT64_MAX});
    add(KD_F16, 0, NULL);
    kd_fuzz_seed(old, sizeof old - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kd_array_info info;
    size_t header = 0;

    if (kd_npy_parse(data, size, "input", &info) == KD_OK) {
        kd_fuzz_expect(info.rank <= KD_MAX_RANK, "the rank");
        kd_fuzz_expect(info.offset <= size, "the offset");
        kd_fuzz_expect(info.bytes == info.count * kd_type_size(info.type), "the size");
    }
    if (size >= KD_NPY_PREFIX && kd_npy_header_size(data, "input", &header) == KD_OK)
        kd_fuzz_expect(header >= KD_NPY_PREFIX, "the header's size");
    return 0;
}
