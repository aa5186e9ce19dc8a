/* SPDX-License-Identifier: MIT */
/* One teacher's shards, which may come in any order and be cut in any way. */
#include "merge/input_internal.h"
#include "merge/row_internal.h"

#include "kd/memory.h"
#include "kd/merge.h"
#include "kd/progress.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* How often a wait looks whether it should stop. */
#define WAIT_MS 200

enum kd_status kd_merge_input_open(struct kd_merge_input *input, const char *name)
{
    *input = (struct kd_merge_input){.name = kd_copy_string(name),
                                     .lasts = kd_cache_lasts(name),
                                     .temper = 1,
                                     .plain = true};
    return input->name != NULL ? kd_shard_stream_open(name, &input->stream)
                               : KD_EMEMORY;
}

enum kd_status kd_merge_input_use(struct kd_merge_input *input, double temperature,
                                  const struct kd_class_map *map, size_t classes)
{
    enum kd_status status = KD_OK;
    const struct kd_identity *of = &input->identity;
    const bool sparse = kd_codec_is_sparse(&of->codec);
    double also[KD_MAX_ALSO];
    const size_t count = kd_codec_also(&of->codec, also);

    input->temper = temperature / of->temperature;
    for (size_t a = 0; a < count; a++)
        if (also[a] == temperature)
            input->also = (int)a;
    input->keeps_top = of->codec.encoding != KD_SAMPLED && of->kind == KD_KIND_TEACHER;
    input->map = map != NULL && map->given ? map : NULL;
    input->plain = !sparse && input->map == NULL;
    input->classes = classes;
    if (input->map == NULL)
        return KD_OK;
    input->renames = kd_class_map_renames(map, of->num_classes, classes);
    KD_TRY(KD_NEW(input->known, classes));
    if (kd_class_map_known(map, classes, input->known) == classes) {
        free(input->known);
        input->known = NULL;
    }
out:
    return status;
}

void kd_merge_input_clear(struct kd_merge_input *input)
{
    for (size_t i = 0; i < input->count; i++)
        kd_shard_close(input->parts[i].shard);
    free(input->parts);
    free(input->known);
    kd_shard_stream_close(input->stream);
    free(input->name);
    *input = (struct kd_merge_input){0};
}

/* Whether all of part `a` is before the row (id, view). */
static bool is_before(const struct kd_merge_part *a, uint64_t id, uint32_t view)
{
    return a->last_id < id || (a->last_id == id && a->last_view < view);
}

/* The index of the first part that is not wholly before the row (id, view). */
static size_t find_part(const struct kd_merge_input *input, uint64_t id, uint32_t view)
{
    size_t low = 0, high = input->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (is_before(&input->parts[middle], id, view))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct kd_merge_part describe(struct kd_shard *shard)
{
    uint64_t last = kd_shard_rows(shard) - 1;

    return (struct kd_merge_part){.first_id = kd_shard_ids(shard)[0],
                                  .first_view = kd_shard_views(shard)[0],
                                  .last_id = kd_shard_ids(shard)[last],
                                  .last_view = kd_shard_views(shard)[last],
                                  .shard = shard};
}

/* Puts a shard into its place; it belongs to the input if that succeeds. */
static enum kd_status insert(struct kd_merge_input *input, struct kd_shard *shard)
{
    enum kd_status status = KD_EBUG;
    struct kd_merge_part part = describe(shard);
    size_t at = find_part(input, part.first_id, part.first_view);

    if (at < input->count &&
        !is_before(&part, input->parts[at].first_id, input->parts[at].first_view))
        return kd_fail(KD_EDATA,
                       "%s: its ids overlap those of another shard of %s: did two "
                       "programs write there",
                       kd_shard_path(shard), input->name);
    KD_TRY(kd_grow(&input->parts, &input->capacity, input->count + 1, sizeof part));
    memmove(input->parts + at + 1, input->parts + at,
            (input->count - at) * sizeof part);
    input->parts[at] = part;
    input->count++;
out:
    return status;
}

/* What the cache is, as its first shard says. */
static enum kd_status meet(struct kd_merge_input *input, const struct kd_shard *shard)
{
    char *title = kd_cache_title(input->name, kd_shard_path(shard));

    if (title == NULL)
        return KD_EMEMORY;
    free(input->name);
    input->name = title;
    input->identity = *kd_shard_identity(shard);
    return KD_OK;
}

static enum kd_status take_shard(struct kd_merge_input *input, const char *path)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard *shard = NULL;

    KD_TRY(kd_shard_open(path, &shard));
    if (input->count == 0)
        KD_TRY(meet(input, shard));
    status = kd_identity_equal(kd_shard_identity(shard), &input->identity);
    if (status != KD_OK) {
        kd_error_prefix("%s: not of the cache of the shards before it", path);
        goto out;
    }
    KD_TRY(insert(input, shard));
    shard = NULL;
out:
    kd_shard_close(shard);
    return status;
}

/* The first row of a shard whose id is at least `id`. */
static uint64_t first_row(const struct kd_shard *shard, uint64_t id)
{
    const uint64_t *ids = kd_shard_ids(shard);
    uint64_t low = 0, high = kd_shard_rows(shard);

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Rows are within the identity's views and none is there twice, so counting them
 * is enough. */
bool kd_merge_input_covers(const struct kd_merge_input *input, uint64_t begin,
                           uint64_t end)
{
    uint64_t rows = 0;

    if (end - begin > input->identity.num_samples)
        return false;
    for (size_t i = find_part(input, begin, 0);
         i < input->count && input->parts[i].first_id < end; i++)
        rows += first_row(input->parts[i].shard, end) -
                first_row(input->parts[i].shard, begin);
    return rows == (end - begin) * input->identity.views;
}

/* Whether a finished cache has been opened far enough. */
static bool is_enough(const struct kd_merge_input *input, uint64_t begin, uint64_t end)
{
    return input->lasts && input->count > 0 && kd_merge_input_covers(input, begin, end);
}

enum kd_status kd_merge_input_take(struct kd_merge_input *input, uint64_t needed,
                                   uint64_t begin, uint64_t end)
{
    enum kd_status status = KD_OK;
    const char *path = NULL;

    while (!input->ended && kd_shard_stream_fd(input->stream) < 0 &&
           !is_enough(input, begin, end)) {
        if (kd_interrupted())
            return kd_fail_interrupted("merging");
        KD_TRY(kd_shard_stream_next(input->stream, &path));
        if (path == NULL)
            input->ended = true;
        else
            KD_TRY(take_shard(input, path));
    }
    if (input->ended && input->count == 0)
        return kd_fail(KD_EDATA,
                       "%s: no shard came: its producer failed, or had "
                       "nothing to do",
                       input->name);
    kd_merge_input_release(input, needed);
out:
    return status;
}

enum kd_status kd_merge_inputs_wait(struct kd_merge_input *inputs, size_t count)
{
    enum kd_status status = KD_OK;
    struct pollfd waits[KD_MAX_TEACHERS];

    for (size_t m = 0; m < count; m++) {
        int fd = inputs[m].ended ? -1 : kd_shard_stream_fd(inputs[m].stream);

        waits[m] = (struct pollfd){.fd = fd, .events = POLLIN}; /* -1 is skipped */
    }
    if (kd_interrupted())
        return kd_fail_interrupted("merging");
    if (poll(waits, (nfds_t)count, WAIT_MS) <= 0)
        return KD_OK;
    for (size_t m = 0; m < count && status == KD_OK; m++)
        if (waits[m].revents != 0)
            status = kd_shard_stream_pump(inputs[m].stream);
    return status;
}

/* Moves (*id, *view) behind a shard's rows from `begin` on; false at the first that is
 * not the expected one. */
static bool follow(const struct kd_shard *shard, uint64_t begin, uint64_t *id,
                   uint32_t *view)
{
    const struct kd_identity *of = kd_shard_identity(shard);

    for (uint64_t row = first_row(shard, begin); row < kd_shard_rows(shard); row++) {
        if (kd_shard_ids(shard)[row] != *id || kd_shard_views(shard)[row] != *view)
            return false;
        if (++*view - of->first_view == of->views) {
            *view = of->first_view;
            ++*id;
        }
    }
    return true;
}

enum kd_status kd_merge_input_fail(const struct kd_merge_input *input, uint64_t begin)
{
    uint32_t view = input->identity.first_view;
    uint64_t id = begin;
    size_t i = find_part(input, begin, 0);

    while (i < input->count && follow(input->parts[i].shard, begin, &id, &view))
        i++;
    return kd_fail(KD_EDATA,
                   "%s: it ended before sample %llu, view %u came: did its producer "
                   "fail",
                   input->name, (unsigned long long)id, (unsigned)view);
}

void kd_merge_input_release(struct kd_merge_input *input, uint64_t needed)
{
    for (size_t i = find_part(input, needed, 0); i > 0; i--) {
        if (input->parts[i - 1].shard == NULL)
            continue;
        kd_shard_close(input->parts[i - 1].shard);
        input->parts[i - 1].shard = NULL;
    }
}

/* Reads rows row .. row+count-1 of one shard to the places from `at` on. */
static enum kd_status read_part(const struct kd_shard *shard, uint64_t row,
                                size_t count, const struct kd_merge_rows *to, size_t at)
{
    size_t classes = kd_shard_identity(shard)->num_classes;

    for (size_t i = 0; i < count; i++) {
        to->row_max[at + i] = kd_shard_row_max(shard, row + i);
        to->log_z[at + i] = kd_shard_log_z(shard, row + i);
        to->label[at + i] = kd_shard_label(shard, row + i);
    }
    return kd_shard_read(shard, row, count, to->values + at * classes);
}

/* The part and row where (id, view) is; false where it has not come. */
static bool locate(const struct kd_merge_input *input, uint64_t id, uint32_t view,
                   size_t *part, uint64_t *row)
{
    *part = find_part(input, id, view);
    if (*part == input->count || input->parts[*part].shard == NULL)
        return false;
    *row = kd_shard_find(input->parts[*part].shard, id, view);
    return *row != UINT64_MAX;
}

bool kd_merge_input_find(const struct kd_merge_input *input, uint64_t id, uint32_t view,
                         const struct kd_shard **shard, uint64_t *at)
{
    size_t part = 0;
    const bool found = locate(input, id, view, &part, at);

    *shard = found ? input->parts[part].shard : NULL;
    return found;
}

void kd_merge_input_advise(const struct kd_merge_input *input, uint64_t begin,
                           uint64_t end,
                           void (*hint)(const struct kd_shard *shard, uint64_t row,
                                        uint64_t count))
{
    for (size_t i = find_part(input, begin, 0);
         i < input->count && input->parts[i].first_id < end; i++) {
        const struct kd_shard *shard = input->parts[i].shard;
        const uint64_t row = first_row(shard, begin);

        hint(shard, row, first_row(shard, end) - row);
    }
}

size_t kd_merge_input_kept(const struct kd_merge_input *input)
{
    size_t most = 1;

    for (size_t i = 0; i < input->count; i++)
        if (input->parts[i].shard != NULL &&
            kd_shard_kept(input->parts[i].shard) > most)
            most = kd_shard_kept(input->parts[i].shard);
    return most;
}

/* As read_part, of rows that are not simply copied. */
static enum kd_status convert_part(struct kd_merge_reader *reader,
                                   const struct kd_merge_input *input,
                                   const struct kd_shard *shard, uint64_t row,
                                   size_t count, const struct kd_merge_rows *to,
                                   size_t at)
{
    enum kd_status status = KD_OK;
    float log_tail = 0;

    for (size_t i = 0; i < count && status == KD_OK; i++)
        status = kd_merge_read_dense(reader, input, shard, row + i, to, at + i,
                                     to->log_tail != NULL ? &to->log_tail[at + i]
                                                          : &log_tail);
    return status;
}

enum kd_status kd_merge_input_read(const struct kd_merge_input *input, uint64_t id,
                                   uint32_t view, size_t count,
                                   const struct kd_merge_rows *to)
{
    enum kd_status status = KD_OK;
    struct kd_merge_reader reader = {0};
    size_t part = 0, done = 0;
    uint64_t row = 0;

    if (!locate(input, id, view, &part, &row))
        return kd_fail(KD_EBUG, "%s: sample %llu, view %u is not covered", input->name,
                       (unsigned long long)id, (unsigned)view);
    while (done < count && status == KD_OK) {
        const struct kd_shard *shard = input->parts[part++].shard;
        uint64_t there = kd_shard_rows(shard) - row;
        size_t n = there < count - done ? (size_t)there : count - done;

        status = input->plain ? read_part(shard, row, n, to, done)
                              : convert_part(&reader, input, shard, row, n, to, done);
        done += n;
        row = 0;
    }
    if (status == KD_OK && input->plain)
        kd_calibrate_rows(input->temper, count, input->classes, to->values, to->row_max,
                          to->log_z);
    kd_merge_reader_clear(&reader);
    return status;
}
