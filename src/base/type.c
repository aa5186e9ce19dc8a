/* SPDX-License-Identifier: MIT */
/* Element types: their names and sizes, and what an array of them measures. */
#include "kd/type.h"

#include <assert.h>

struct row {
    const char *name;
    size_t size;
};

#define ROW(symbol, text, bytes) [symbol] = {text, bytes},
static const struct row table[KD_TYPE_COUNT] = {KD_TYPE_TABLE(ROW)};
#undef ROW

const char *kd_type_name(enum kd_type type)
{
    assert((unsigned)type < KD_TYPE_COUNT);
    return table[type].name;
}

size_t kd_type_size(enum kd_type type)
{
    assert((unsigned)type < KD_TYPE_COUNT);
    return table[type].size;
}

bool kd_array_measure(struct kd_array_info *info)
{
    uint64_t bytes = kd_type_size(info->type); /* as if no dimension were 0 */
    bool empty = false;

    for (size_t i = 0; i < info->rank; i++) {
        uint64_t n = info->shape[i];

        if (n == 0) {
            empty = true;
            continue;
        }
        if (bytes > SIZE_MAX / n)
            return false;
        bytes *= n;
    }
    info->bytes = empty ? 0 : bytes;
    info->count = info->bytes / kd_type_size(info->type);
    return true;
}
