/* SPDX-License-Identifier: MIT */
/*
 * Hashes: XXH3, for identity and for noticing damage. They guard against
 * accidents, not against forgers.
 *
 *     struct kd_hash *h = NULL;
 *     KD_TRY(kd_hash_new(&h));
 *     kd_hash_add(h, data, size);
 *     kd_hash_digest(h, &digest);
 *     kd_hash_free(h);
 */
#ifndef KD_HASH_H
#define KD_HASH_H

#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* XXH3-128 as 32 lower-case hexadecimal digits. */
struct kd_digest {
    char hex[33];
};

struct kd_hash;

enum kd_status kd_hash_new(struct kd_hash **hash) KD_CHECKED;
void kd_hash_free(struct kd_hash *hash);
void kd_hash_reset(struct kd_hash *hash);
void kd_hash_add(struct kd_hash *hash, const void *data, size_t size);

/* A string with its end, so that ("ab","c") and ("a","bc") differ. */
void kd_hash_add_string(struct kd_hash *hash, const char *text);

/* A number in little-endian order. */
void kd_hash_add_u64(struct kd_hash *hash, uint64_t value);

void kd_hash_digest(const struct kd_hash *hash, struct kd_digest *digest);

/* The low 32 bits of XXH3-64 of what was added: the check of a row. */
uint32_t kd_hash_check(const struct kd_hash *hash);

/* The same of parts end to end, in one call and without a state to carry, which
 * is faster for short rows. parts[i] has sizes[i] bytes. */
uint32_t kd_hash_check_parts(const void *const *parts, const size_t *sizes,
                             size_t count);

/* XXH3-64 of a block. */
uint64_t kd_hash_u64(const void *data, size_t size);

/* Digest of a file's bytes and, if `bytes` is not NULL, its size. */
enum kd_status kd_hash_file(const char *path, struct kd_digest *digest,
                            uint64_t *bytes) KD_CHECKED;

bool kd_digest_equal(const struct kd_digest *a, const struct kd_digest *b);

#endif
