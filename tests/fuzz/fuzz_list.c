/* SPDX-License-Identifier: MIT */
/* cache.json. */
#include "fuzz.h"

#include "kd/cache.h"

#include <string.h>

static const char *const texts[] = {
    "{\"format\":\"kdcache-list\",\"format_version\":1,\"identity_digest\":"
    "\"0123456789abcdef0123456789abcdef\",\"rows\":6,\"shards\":[{\"bytes\":10424,"
    "\"name\":\"shard-000000.h5\",\"rows\":6,\"xxh3_128\":"
    "\"00000000000000000000000000000000\"}]}",
    "{\"format\":\"kdcache-list\",\"format_version\":1,\"identity_digest\":"
    "\"0123456789abcdef0123456789abcdef\",\"shards\":[{\"name\":\"../a\",\"bytes\":1e3,"
    "\"rows\":-1},[],{},null]}",
    "[[[[1]]]]", "{}", ""};

void kd_fuzz_seeds(void)
{
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        kd_fuzz_seed(texts[i], strlen(texts[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kd_cache_list list;
    enum kd_status status = KD_EBUG;

    kd_fuzz_file("cache.json", data, size);
    status = kd_cache_list_read(&list, kd_fuzz_path(""));
    kd_fuzz_expect(status == KD_OK || status == KD_EDATA, kd_error());
    for (size_t i = 0; i < list.count; i++) {
        const char *name = list.entries[i].name;

        kd_fuzz_expect(strchr(name, '/') == NULL && strcmp(name, "..") != 0 &&
                           strcmp(name, ".") != 0 && name[0] != '\0',
                       "names that stay in the directory");
        kd_fuzz_expect(strlen(list.entries[i].digest.hex) == 32, "a whole digest");
    }
    kd_cache_list_clear(&list);
    return 0;
}
