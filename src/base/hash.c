/* SPDX-License-Identifier: MIT */
/* Hashes: XXH3 by xxHash, compiled in, so that a state can lie on the stack. */
#include "kd/hash.h"

#include "kd/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* XXH3's 64-bit and 128-bit digests share one state. */
struct kd_hash {
    XXH3_state_t state;
};

enum kd_status kd_hash_new(struct kd_hash **hash)
{
    struct kd_hash *made = kd_alloc(1, sizeof *made);

    *hash = made;
    if (made == NULL)
        return KD_EMEMORY;
    kd_hash_reset(made);
    return KD_OK;
}

void kd_hash_free(struct kd_hash *hash)
{
    free(hash);
}

void kd_hash_reset(struct kd_hash *hash)
{
    XXH3_128bits_reset(&hash->state);
}

void kd_hash_add(struct kd_hash *hash, const void *data, size_t size)
{
    if (size > 0)
        XXH3_128bits_update(&hash->state, data, size);
}

void kd_hash_add_string(struct kd_hash *hash, const char *text)
{
    kd_hash_add(hash, text, strlen(text) + 1);
}

void kd_hash_add_u64(struct kd_hash *hash, uint64_t value)
{
    unsigned char bytes[8];

    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(value >> 8 * i);
    kd_hash_add(hash, bytes, sizeof bytes);
}

void kd_hash_digest(const struct kd_hash *hash, struct kd_digest *digest)
{
    XXH128_hash_t sum = XXH3_128bits_digest(&hash->state);

    snprintf(digest->hex, sizeof digest->hex, "%016llx%016llx",
             (unsigned long long)sum.high64, (unsigned long long)sum.low64);
}

uint32_t kd_hash_check(const struct kd_hash *hash)
{
    return (uint32_t)XXH3_64bits_digest(&hash->state);
}

uint32_t kd_hash_check_parts(const void *const *parts, const size_t *sizes,
                             size_t count)
{
    unsigned char row[1024]; /* copying is cheaper than streaming up to here */
    XXH3_state_t state;
    size_t used = 0, i = 0;

    for (; i < count && sizes[i] <= sizeof row - used; i++) {
        if (sizes[i] > 0)
            memcpy(row + used, parts[i], sizes[i]);
        used += sizes[i];
    }
    if (i == count)
        return (uint32_t)XXH3_64bits(row, used);

    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, row, used);
    for (; i < count; i++)
        if (sizes[i] > 0)
            XXH3_64bits_update(&state, parts[i], sizes[i]);
    return (uint32_t)XXH3_64bits_digest(&state);
}

uint64_t kd_hash_u64(const void *data, size_t size)
{
    return size > 0 ? XXH3_64bits(data, size) : XXH3_64bits("", 0);
}

/* Adds what is left to read of `fd`. */
static enum kd_status add_all(struct kd_hash *hash, int fd, const char *path,
                              uint64_t *total)
{
    static const size_t chunk = 1 << 18;
    char *buffer = kd_alloc(chunk, 1);
    ssize_t got = 1;

    if (buffer == NULL)
        return KD_EMEMORY;
    *total = 0;
    while (got > 0 || (got < 0 && errno == EINTR)) {
        got = read(fd, buffer, chunk);
        if (got > 0) {
            kd_hash_add(hash, buffer, (size_t)got);
            *total += (uint64_t)got;
        }
    }
    free(buffer);
    return got == 0 ? KD_OK : kd_fail_errno(KD_EIO, "%s: cannot read", path);
}

enum kd_status kd_hash_file(const char *path, struct kd_digest *digest, uint64_t *bytes)
{
    enum kd_status status = KD_EBUG;
    struct kd_hash *hash = NULL;
    uint64_t total = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        status = kd_fail_errno(KD_ENOINPUT, "%s: cannot open", path);
        goto out;
    }
    KD_TRY(kd_hash_new(&hash));
    KD_TRY(add_all(hash, fd, path, &total));
    kd_hash_digest(hash, digest);
    if (bytes != NULL)
        *bytes = total;
    status = KD_OK;
out:
    kd_hash_free(hash);
    if (fd >= 0)
        close(fd);
    return status;
}

bool kd_digest_equal(const struct kd_digest *a, const struct kd_digest *b)
{
    return strcmp(a->hex, b->hex) == 0;
}
