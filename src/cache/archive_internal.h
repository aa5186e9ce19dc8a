/* SPDX-License-Identifier: MIT */
/* Archives of single shards. */
#ifndef KD_CACHE_ARCHIVE_INTERNAL_H
#define KD_CACHE_ARCHIVE_INTERNAL_H

#include "kd/hash.h"
#include "kd/shard.h"
#include "kd/status.h"

/* The root attribute that only archives have, and its value. */
#define KD_LAYOUT         "layout"
#define KD_LAYOUT_ARCHIVE "archive"

/* Packs a shard of that identity, whose file has that digest. */
enum kd_status kd_archive_pack_shard(const char *from,
                                     const struct kd_identity *identity,
                                     const struct kd_digest *digest,
                                     const char *to) KD_CHECKED;

/* The digest of the file that an archive was made of. KD_EDATA for what is none. */
enum kd_status kd_archive_digest(const char *path, struct kd_digest *digest) KD_CHECKED;

/* Makes that file again. KD_EDATA where it does not come out as it was. */
enum kd_status kd_archive_unpack_shard(const char *from, const struct kd_digest *digest,
                                       const char *to) KD_CHECKED;

#endif
