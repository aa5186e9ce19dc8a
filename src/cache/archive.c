/* SPDX-License-Identifier: MIT */
/*
 * Archives of shards: their datasets packed, and with them the bytes of the file that
 * are no dataset's, which make it whole again.
 */
#include "kd/export.h"

#include "cache/archive_internal.h"
#include "cache/identity_internal.h"
#include "cache/shard_internal.h"
#include "kd/file.h"
#include "kd/h5.h"
#include "kd/hash.h"
#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/version.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GROUP       "contiguous/"
#define FRAME       GROUP "frame"
#define EXTENT      GROUP "extent"
#define DIGEST      "contiguous_xxh3_128"
#define CHUNK_BYTES ((uint64_t)1 << 19)

/* Beyond what the frame of a shard can be: its datasets begin at pages. */
#define FRAME_LIMIT ((uint64_t)1 << 26)

/* A dataset of the shard. */
struct piece {
    char *name;
    struct kd_array_info
        info; /* offset: in the contiguous file; 0 if it has no bytes */
};

struct extent {
    uint64_t offset, bytes;
};

/* A shard and its archive, whichever is made of the other. */
struct packing {
    const char *from;
    struct kd_h5 *in;
    struct piece *pieces; /* [count] in the order of their names */
    size_t count, capacity;
    uint64_t size;          /* of the contiguous file */
    struct extent *extents; /* [count] in the order of their offsets */
    uint64_t frame_size;
    uint8_t *frame; /* [frame_size] the bytes between the extents */
    void *slab;     /* [slab_size] rows on their way */
    size_t slab_size;
};

static void packing_clear(struct packing *p)
{
    for (size_t i = 0; i < p->count; i++)
        free(p->pieces[i].name);
    free(p->pieces);
    free(p->extents);
    free(p->frame);
    free(p->slab);
    kd_h5_close(p->in);
}

static enum kd_status add_piece(void *context, const char *name)
{
    enum kd_status status = KD_EBUG;
    struct packing *p = context;
    struct piece piece = {.name = NULL};

    if (strncmp(name, GROUP, strlen(GROUP)) == 0)
        return KD_OK;
    KD_TRY(kd_h5_info(p->in, name, &piece.info));
    KD_TRY(kd_grow(&p->pieces, &p->capacity, p->count + 1, sizeof *p->pieces));
    piece.name = kd_copy_string(name);
    if (piece.name == NULL)
        return KD_EMEMORY;
    p->pieces[p->count++] = piece;
out:
    return status;
}

static int compare_extents(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* Orders the pieces' extents and measures what is between them. */
static enum kd_status order_extents(struct packing *p)
{
    enum kd_status status = KD_EBUG;
    uint64_t end = 0;

    KD_TRY(KD_NEW(p->extents, p->count));
    p->frame_size = p->size;
    for (size_t i = 0; i < p->count; i++)
        p->extents[i] =
            (struct extent){p->pieces[i].info.offset, p->pieces[i].info.bytes};
    if (p->count > 0)
        qsort(p->extents, p->count, sizeof *p->extents, compare_extents);
    for (size_t i = 0; i < p->count; i++) {
        const struct extent *extent = &p->extents[i];

        if (extent->bytes > 0 && extent->offset < end)
            return kd_fail(KD_EDATA, "%s: damaged: its datasets overlap", p->from);
        if (extent->offset > p->size || extent->bytes > p->size - extent->offset)
            return kd_fail(KD_EDATA, "%s: damaged: a dataset reaches beyond the file",
                           p->from);
        p->frame_size -= extent->bytes;
        if (extent->bytes > 0)
            end = extent->offset + extent->bytes;
    }
    if (p->frame_size == 0 || p->frame_size > FRAME_LIMIT)
        return kd_fail(KD_EDATA,
                       "%s: damaged: %" PRIu64 " of its bytes are no "
                       "dataset's",
                       p->from, p->frame_size);
    KD_TRY(KD_NEW(p->frame, (size_t)p->frame_size));
out:
    return status;
}

/* Rows a chunk, and a slab, of such an array. */
static uint64_t chunk_rows(const struct kd_array_info *info)
{
    const uint64_t row = info->bytes / info->shape[0];
    const uint64_t rows = row < CHUNK_BYTES ? CHUNK_BYTES / row : 1;

    return rows < info->shape[0] ? rows : info->shape[0];
}

/* Makes room for a chunk of rows. */
static enum kd_status reserve(struct packing *p, const struct kd_array_info *info)
{
    const uint64_t bytes = chunk_rows(info) * (info->bytes / info->shape[0]);

    return kd_grow(&p->slab, &p->slab_size, (size_t)bytes, 1);
}

/* -- packing ---------------------------------------------------------------- */

/* The shard's datasets, all in one piece, and the frame around them. */
static enum kd_status look_at_shard(struct packing *p)
{
    enum kd_status status = KD_EBUG;
    struct kd_map map = {NULL, 0};
    uint64_t at = 0, filled = 0;

    KD_TRY(kd_h5_open(p->from, &p->in));
    KD_TRY(kd_h5_each(p->in, add_piece, p));
    for (size_t i = 0; i < p->count; i++) {
        struct kd_array_info *info = &p->pieces[i].info;

        if (info->bytes > 0 && (info->offset == UINT64_MAX || info->rank == 0)) {
            status = kd_fail(KD_EDATA, "%s: /%s does not lie in one piece", p->from,
                             p->pieces[i].name);
            goto out;
        }
        if (info->bytes == 0)
            info->offset = 0;
    }
    KD_TRY(kd_map_open(&map, p->from));
    p->size = map.size;
    KD_TRY(order_extents(p));
    for (size_t i = 0; i <= p->count; i++) {
        const uint64_t end = i < p->count ? p->extents[i].offset : p->size;

        if (end > at) {
            memcpy(p->frame + filled, map.data + at, (size_t)(end - at));
            filled += end - at;
        }
        if (i < p->count && p->extents[i].bytes > 0)
            at = end + p->extents[i].bytes;
    }
out:
    kd_map_close(&map);
    return status;
}

static enum kd_status pack_dataset(struct packing *p, const struct piece *piece,
                                   struct kd_h5 *out)
{
    enum kd_status status = KD_EBUG;
    const struct kd_array_info *info = &piece->info;
    uint64_t rows = 0;

    if (info->bytes == 0)
        return kd_h5_write(out, piece->name, info->type, info->rank, info->shape, NULL,
                           NULL);
    rows = chunk_rows(info);
    KD_TRY(reserve(p, info));
    KD_TRY(kd_h5_make_packed(out, piece->name, info, rows));
    for (uint64_t row = 0, n = 0; row < info->shape[0]; row += n) {
        n = info->shape[0] - row < rows ? info->shape[0] - row : rows;
        if (kd_interrupted()) {
            status = kd_fail_interrupted(p->from);
            goto out;
        }
        KD_TRY(kd_h5_read_rows(p->in, piece->name, info, row, n, p->slab));
        KD_TRY(kd_h5_write_rows(out, piece->name, info, row, n, p->slab));
    }
out:
    return status;
}

/* What makes the file whole again. */
static enum kd_status pack_frame(const struct packing *p, struct kd_h5 *out)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info frame = {.type = KD_U8, .rank = 1, .shape = {p->frame_size}};
    uint64_t *extents = NULL;

    KD_TRY(KD_NEW(extents, 2 * p->count));
    for (size_t i = 0; i < p->count; i++) {
        extents[2 * i] = p->pieces[i].info.offset;
        extents[2 * i + 1] = p->pieces[i].info.bytes;
    }
    KD_TRY(kd_h5_write(out, EXTENT, KD_U64, 2, (const uint64_t[]){p->count, 2}, extents,
                       NULL));
    if (!kd_array_measure(&frame))
        return kd_fail(KD_EBUG, "%s: a frame that is too large", p->from);
    KD_TRY(kd_h5_make_packed(out, FRAME, &frame, chunk_rows(&frame)));
    KD_TRY(kd_h5_write_rows(out, FRAME, &frame, 0, p->frame_size, p->frame));
out:
    free(extents);
    return status;
}

static enum kd_status set_attributes(struct kd_h5 *out,
                                     const struct kd_identity *identity,
                                     const struct kd_digest *digest)
{
    enum kd_status status = KD_EBUG;
    char history[128];

    snprintf(history, sizeof history, "kd-export %s: --layout archive", kd_version());
    KD_TRY(kd_h5_set_string(out, "format", KD_SHARD_FORMAT));
    KD_TRY(kd_h5_set_u64(out, "format_version", KD_SHARD_VERSION));
    KD_TRY(kd_h5_set_u64(out, "complete", 1));
    KD_TRY(kd_h5_set_string(out, KD_LAYOUT, KD_LAYOUT_ARCHIVE));
    KD_TRY(kd_h5_set_string(out, DIGEST, digest->hex));
    KD_TRY(kd_identity_save(identity, out));
    KD_TRY(kd_h5_set_history(out, history));
out:
    return status;
}

enum kd_status kd_archive_pack_shard(const char *from,
                                     const struct kd_identity *identity,
                                     const struct kd_digest *digest, const char *to)
{
    enum kd_status status = KD_EBUG;
    struct packing p = {.from = from};
    struct kd_pending pending = {NULL, NULL};
    struct kd_h5 *out = NULL;

    KD_TRY(look_at_shard(&p));
    KD_TRY(kd_pending_open(&pending, to));
    KD_TRY(kd_h5_create(pending.temporary, &out));
    KD_TRY(set_attributes(out, identity, digest));
    for (size_t i = 0; i < p.count; i++)
        KD_TRY(pack_dataset(&p, &p.pieces[i], out));
    KD_TRY(pack_frame(&p, out));
    status = kd_h5_finish(out);
    out = NULL;
    KD_TRY(status);
    KD_TRY(kd_pending_commit(&pending));
out:
    kd_h5_close(out);
    kd_pending_abandon(&pending);
    packing_clear(&p);
    return status;
}

/* -- unpacking -------------------------------------------------------------- */

enum kd_status kd_archive_digest(const char *path, struct kd_digest *digest)
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;
    char *layout = NULL, *text = NULL;

    KD_TRY(kd_h5_open(path, &file));
    KD_TRY(kd_h5_expect_format(file, KD_SHARD_FORMAT, KD_SHARD_VERSION, "a shard"));
    if (!kd_h5_has_attribute(file, KD_LAYOUT)) {
        status = kd_fail(KD_EDATA, "%s: is no archive: it is contiguous already", path);
        goto out;
    }
    KD_TRY(kd_h5_get_string(file, KD_LAYOUT, &layout));
    KD_TRY(kd_h5_get_string(file, DIGEST, &text));
    if (strcmp(layout, KD_LAYOUT_ARCHIVE) != 0 || strlen(text) != 32) {
        status = kd_fail(KD_EDATA, "%s: is of layout '%.40s', which is not known", path,
                         layout);
        goto out;
    }
    memcpy(digest->hex, text, sizeof digest->hex);
out:
    free(layout);
    free(text);
    kd_h5_close(file);
    return status;
}

/* Reads the frame, and where the archive's datasets belong. */
static enum kd_status look_at_archive(struct packing *p)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info extent, frame;
    uint64_t *extents = NULL;

    KD_TRY(kd_h5_open(p->from, &p->in));
    KD_TRY(kd_h5_each(p->in, add_piece, p));
    KD_TRY(kd_h5_info(p->in, EXTENT, &extent));
    KD_TRY(kd_h5_info(p->in, FRAME, &frame));
    if (extent.type != KD_U64 || extent.rank != 2 || extent.shape[0] != p->count ||
        extent.shape[1] != 2 || frame.type != KD_U8 || frame.rank != 1) {
        status = kd_fail(
            KD_EDATA, "%s: damaged: /" EXTENT " or /" FRAME " is not what it should be",
            p->from);
        goto out;
    }
    KD_TRY(KD_NEW(extents, 2 * p->count));
    KD_TRY(kd_h5_read(p->in, EXTENT, &extent, extents));
    p->size = frame.bytes;
    for (size_t i = 0; i < p->count; i++) {
        struct kd_array_info *info = &p->pieces[i].info;

        if (extents[2 * i + 1] != info->bytes || (info->bytes > 0 && info->rank == 0) ||
            info->bytes > (uint64_t)INT64_MAX / 2 - p->size) {
            status = kd_fail(KD_EDATA, "%s: damaged: /%s has another size than it had",
                             p->from, p->pieces[i].name);
            goto out;
        }
        info->offset = info->bytes > 0 ? extents[2 * i] : 0;
        p->size += info->bytes;
    }
    KD_TRY(order_extents(p));
    KD_TRY(kd_h5_read(p->in, FRAME, &frame, p->frame));
out:
    free(extents);
    return status;
}

static enum kd_status unpack_dataset(struct packing *p, const struct piece *piece,
                                     int fd, const char *path)
{
    enum kd_status status = KD_OK;
    const struct kd_array_info *info = &piece->info;
    const uint64_t rows = info->bytes > 0 ? chunk_rows(info) : 0;
    const uint64_t row_bytes = info->bytes > 0 ? info->bytes / info->shape[0] : 0;

    if (info->bytes > 0)
        KD_TRY(reserve(p, info));
    for (uint64_t row = 0, n = 0; info->bytes > 0 && row < info->shape[0]; row += n) {
        n = info->shape[0] - row < rows ? info->shape[0] - row : rows;
        if (kd_interrupted()) {
            status = kd_fail_interrupted(p->from);
            goto out;
        }
        KD_TRY(kd_h5_read_rows(p->in, piece->name, info, row, n, p->slab));
        KD_TRY(kd_write_at(fd, path, p->slab, (size_t)(n * row_bytes),
                           info->offset + row * row_bytes));
    }
out:
    return status;
}

static enum kd_status unpack_frame(const struct packing *p, int fd, const char *path)
{
    enum kd_status status = KD_OK;
    uint64_t at = 0, used = 0;

    for (size_t i = 0; i <= p->count && status == KD_OK; i++) {
        const uint64_t end = i < p->count ? p->extents[i].offset : p->size;

        if (end > at) {
            status = kd_write_at(fd, path, p->frame + used, (size_t)(end - at), at);
            used += end - at;
        }
        if (i < p->count && p->extents[i].bytes > 0)
            at = end + p->extents[i].bytes;
    }
    return status;
}

/* Writes the whole file, and sees whether it is the one that was packed. */
static enum kd_status unpack_file(struct packing *p, const struct kd_digest *digest,
                                  const char *path)
{
    enum kd_status status = KD_EBUG;
    struct kd_digest found;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    if (fd < 0)
        return kd_fail_errno(KD_ECREATE, "%s: cannot create", path);
    KD_TRY(unpack_frame(p, fd, path));
    for (size_t i = 0; i < p->count; i++)
        KD_TRY(unpack_dataset(p, &p->pieces[i], fd, path));
    status = close(fd) == 0 ? KD_OK : kd_fail_errno(KD_EIO, "%s: cannot write", path);
    fd = -1;
    KD_TRY(status);
    KD_TRY(kd_hash_file(path, &found, NULL));
    if (!kd_digest_equal(&found, digest))
        status = kd_fail(KD_EDATA, "%s: damaged: what is in it is not what was packed",
                         p->from);
out:
    if (fd >= 0)
        close(fd);
    return status;
}

enum kd_status kd_archive_unpack_shard(const char *from, const struct kd_digest *digest,
                                       const char *to)
{
    enum kd_status status = KD_EBUG;
    struct packing p = {.from = from};
    struct kd_pending pending = {NULL, NULL};

    KD_TRY(look_at_archive(&p));
    KD_TRY(kd_pending_open(&pending, to));
    KD_TRY(unpack_file(&p, digest, pending.temporary));
    KD_TRY(kd_pending_commit(&pending));
out:
    kd_pending_abandon(&pending);
    packing_clear(&p);
    return status;
}
