/* SPDX-License-Identifier: MIT */
/* Glyphs drawn into an HDF5 file, a block at a time. */
#include "kd/file.h"
#include "kd/glyph.h"
#include "kd/h5.h"
#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 4096 /* samples drawn before they are written */

/* Where the arrays lie in the file. */
struct place {
    uint64_t x, y;
};

/* "0,1,...,Z" */
static void join_names(char text[2 * KD_GLYPH_CLASSES])
{
    for (size_t i = 0; i < KD_GLYPH_CLASSES; i++) {
        text[2 * i] = kd_glyph_names[i][0];
        text[2 * i + 1] = i + 1 < KD_GLYPH_CLASSES ? ',' : '\0';
    }
}

/* All of the file but the samples. */
static enum kd_status make_file(const struct kd_glyph_spec *spec, uint64_t first,
                                uint64_t count, const char *path, struct place *place)
{
    enum kd_status status = KD_EBUG;
    const uint64_t shape[4] = {count, 1, spec->size, spec->size};
    char names[2 * KD_GLYPH_CLASSES];
    struct kd_h5 *file = NULL;

    join_names(names);
    KD_TRY(kd_h5_create(path, &file));
    KD_TRY(kd_h5_write(file, "x", KD_U8, 4, shape, NULL, &place->x));
    KD_TRY(kd_h5_write(file, "y", KD_U8, 1, shape, NULL, &place->y));
    KD_TRY(kd_h5_set_string(file, "class_names", names));
    KD_TRY(kd_h5_set_u64(file, "glyph_seed", spec->seed));
    KD_TRY(kd_h5_set_u64(file, "glyph_first_id", first));
    KD_TRY(kd_h5_set_f64(file, "glyph_difficulty", spec->difficulty));
    status = kd_h5_finish(file);
    file = NULL;
out:
    kd_h5_close(file);
    return status;
}

/* A block of samples that is being drawn. */
struct block {
    const struct kd_glyph_spec *spec;
    uint64_t first;
    uint8_t *pixels; /* [BLOCK][size][size] */
    uint8_t *labels; /* [BLOCK] */
};

static enum kd_status draw_range(void *context, size_t begin, size_t end)
{
    const struct block *block = context;
    size_t area = (size_t)block->spec->size * block->spec->size;

    for (size_t i = begin; i < end; i++)
        block->labels[i] = (uint8_t)kd_glyph_draw(block->spec, block->first + i,
                                                  block->pixels + i * area);
    return KD_OK;
}

static enum kd_status write_at(int fd, const char *path, const uint8_t *bytes,
                               size_t size, uint64_t offset)
{
    while (size > 0) {
        ssize_t written = pwrite(fd, bytes, size, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return kd_fail_errno(KD_EIO, "%s: cannot write", path);
        bytes += written;
        size -= (size_t)written;
        offset += (uint64_t)written;
    }
    return KD_OK;
}

static enum kd_status write_block(struct block *block, size_t samples, uint64_t done,
                                  int fd, const char *path, const struct place *place)
{
    enum kd_status status = KD_EBUG;
    size_t area = (size_t)block->spec->size * block->spec->size;

    KD_TRY(kd_parallel(samples, 64, draw_range, block));
    KD_TRY(write_at(fd, path, block->pixels, samples * area, place->x + done * area));
    KD_TRY(write_at(fd, path, block->labels, samples, place->y + done));
    status = kd_interrupted() ? kd_fail_interrupted("drawing") : KD_OK;
out:
    return status;
}

static enum kd_status write_samples(const struct kd_glyph_spec *spec, uint64_t first,
                                    uint64_t count, const char *path,
                                    const struct place *place)
{
    enum kd_status status = KD_EBUG;
    struct block block = {.spec = spec};
    struct kd_progress progress;
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    kd_progress_open(&progress, "drawing", "samples", count);
    if (fd < 0) {
        status = kd_fail_errno(KD_EIO, "%s: cannot open to write", path);
        goto out;
    }
    KD_TRY(KD_NEW(block.pixels, (size_t)BLOCK * spec->size * spec->size));
    KD_TRY(KD_NEW(block.labels, BLOCK));
    for (uint64_t done = 0; done < count; done += BLOCK) {
        size_t samples = count - done < BLOCK ? (size_t)(count - done) : BLOCK;
        block.first = first + done;
        KD_TRY(write_block(&block, samples, done, fd, path, place));
        kd_progress_set(&progress, done + samples);
    }
    status = KD_OK;
out:
    kd_progress_close(&progress);
    if (fd >= 0 && close(fd) != 0 && status == KD_OK)
        status = kd_fail_errno(KD_EIO, "%s: cannot write", path);
    free(block.pixels);
    free(block.labels);
    return status;
}

enum kd_status kd_glyph_write(const struct kd_glyph_spec *spec, uint64_t first,
                              uint64_t count, const char *path)
{
    enum kd_status status = KD_EBUG;
    struct kd_pending pending = {.path = NULL};
    struct place place = {0, 0};

    KD_TRY(kd_pending_open(&pending, path));
    KD_TRY(make_file(spec, first, count, pending.temporary, &place));
    KD_TRY(write_samples(spec, first, count, pending.temporary, &place));
    KD_TRY(kd_pending_check(&pending));
    status = kd_pending_commit(&pending);
out:
    kd_pending_abandon(&pending);
    return status;
}
