/* SPDX-License-Identifier: MIT */
/*
 * Examining one shard, in a child process, and bringing home what was found: first the
 * digest, for which the file's structure does not matter, and then all the rest.
 */
#include "cache/cache_check_internal.h"

#include "cache/archive_internal.h"
#include "cache/identity_internal.h"
#include "cache/shard_internal.h"
#include "kd/h5.h"
#include "kd/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* So many damaged rows are told one by one. */
#define MAX_FAULTS 8

/* -- what is wrong with rows ------------------------------------------------ */

const char *kd_without_path(const char *message, const char *path)
{
    const size_t length = strlen(path);

    if (strncmp(message, path, length) == 0 && strncmp(message + length, ": ", 2) == 0)
        return message + length + 2;
    return message;
}

static enum kd_status add_fault(struct kd_examination *exam, const char *text)
{
    enum kd_status status = KD_EBUG;
    const size_t size = strlen(text) + 1;

    if (exam->damaged++ >= MAX_FAULTS)
        return KD_OK;
    KD_TRY(kd_grow(&exam->faults, &exam->faults_capacity, exam->faults_size + size, 1));
    memcpy(exam->faults + exam->faults_size, text, size);
    exam->faults_size += size;
out:
    return status;
}

/*
 * How far the probabilities of a row may be from a sum of 1: values v are rounded to a
 * relative error e, which makes p |v| e of a probability p, and the sum of p |v| is at
 * most log C.
 */
static double mass_tolerance(const struct kd_identity *identity)
{
    const double e = identity->codec.dtype == KD_F32   ? ldexp(1, -24)
                     : identity->codec.dtype == KD_F16 ? ldexp(1, -11)
                                                       : ldexp(1, -9);

    return 1e-3 + 2 * e * log((double)identity->num_classes);
}

/* Whether kept and left-out probabilities sum to 1; a row's check only says that it is
 * as it was written. */
static bool mass_is_one(const struct kd_identity *identity, const struct kd_row *row)
{
    double mass = exp((double)row->log_tail);

    for (size_t i = 0; i < row->size; i++)
        mass += exp((double)row->values[i] - (double)row->log_z);
    return fabs(mass - 1) <= mass_tolerance(identity);
}

/* The most probable class: of sparse rows the first one. */
static size_t best_class(const struct kd_codec *codec, const struct kd_row *row)
{
    size_t best = 0;

    if (kd_codec_is_sparse(codec))
        return row->index[0];
    for (size_t c = 1; c < row->size; c++)
        best = row->values[c] > row->values[best] ? c : best;
    return best;
}

static enum kd_status examine_row(const struct kd_shard *shard, uint64_t at,
                                  struct kd_row *row, struct kd_examination *exam)
{
    const struct kd_identity *of = kd_shard_identity(shard);
    enum kd_status status = kd_shard_row(shard, at, row);

    if (status == KD_OK && !mass_is_one(of, row))
        status = kd_fail(KD_EDATA,
                         "row %llu (sample %llu, view %u): its probabilities do not "
                         "sum to 1",
                         (unsigned long long)at, (unsigned long long)row->id,
                         (unsigned)row->view);
    if (status == KD_EDATA)
        return add_fault(exam, kd_without_path(kd_error(), kd_shard_path(shard)));
    if (status != KD_OK)
        return status;
    exam->labelled += row->label >= 0;
    exam->agreeing +=
        row->label >= 0 && (size_t)row->label == best_class(&of->codec, row);
    return KD_OK;
}

static enum kd_status examine_rows(const struct kd_shard *shard,
                                   struct kd_examination *exam)
{
    enum kd_status status = KD_EBUG;
    struct kd_row row = {0};

    KD_TRY(KD_NEW(row.values, kd_shard_kept(shard)));
    KD_TRY(KD_NEW(row.index, kd_shard_kept(shard)));
    for (uint64_t at = 0; at < exam->rows; at++)
        KD_TRY(examine_row(shard, at, &row, exam));
out:
    free(row.values);
    free(row.index);
    return status;
}

/* -- a shard ---------------------------------------------------------------- */

/* Rows are numbered here as the spans are; their ids and views are in their bounds. */
static enum kd_status find_spans(const uint64_t *ids, const uint32_t *views,
                                 struct kd_examination *exam)
{
    const struct kd_identity *of = &exam->identity;
    enum kd_status status = KD_OK;

    for (uint64_t row = 0; row < exam->rows && status == KD_OK; row++) {
        const uint64_t number =
            (ids[row] - of->first_id) * of->views + (views[row] - of->first_view);

        if (exam->num_spans > 0 && exam->spans[exam->num_spans - 1].end == number) {
            exam->spans[exam->num_spans - 1].end++;
            continue;
        }
        status = kd_grow(&exam->spans, &exam->spans_capacity, exam->num_spans + 1,
                         sizeof *exam->spans);
        if (status == KD_OK)
            exam->spans[exam->num_spans++] = (struct kd_span){number, number + 1};
    }
    return status;
}

enum kd_status kd_shard_examine(const struct kd_shard *shard, bool quick,
                                struct kd_examination *exam)
{
    enum kd_status status = KD_EBUG;

    exam->identity = *kd_shard_identity(shard);
    exam->rows = kd_shard_rows(shard);
    KD_TRY(kd_identity_digest(&exam->identity, &exam->identity_digest));
    KD_TRY(find_spans(kd_shard_ids(shard), kd_shard_views(shard), exam));
    if (!quick)
        KD_TRY(examine_rows(shard, exam));
    exam->opened = true;
    status = KD_OK;
out:
    return status;
}

/* -- an archived shard ------------------------------------------------------ */

/* Reads a whole dataset of one dimension; the caller frees *data. */
static enum kd_status read_column(struct kd_h5 *file, const char *name,
                                  enum kd_type type, uint64_t *rows, void **data)
{
    enum kd_status status = KD_EBUG;
    struct kd_array_info info;

    KD_TRY(kd_h5_info(file, name, &info));
    if (info.type != type || info.rank != 1 || info.shape[0] == 0)
        return kd_fail(KD_EDATA, "%s: /%s is not what it should be", kd_h5_path(file),
                       name);
    *rows = info.shape[0];
    *data = kd_alloc(info.bytes, 1);
    status = *data != NULL ? kd_h5_read(file, name, &info, *data) : KD_EMEMORY;
out:
    return status;
}

static bool in_order(const uint64_t *ids, const uint32_t *views,
                     const struct kd_examination *exam)
{
    const struct kd_identity *of = &exam->identity;

    for (uint64_t row = 0; row < exam->rows; row++)
        if (ids[row] < of->first_id || ids[row] - of->first_id >= of->num_samples ||
            views[row] < of->first_view || views[row] - of->first_view >= of->views ||
            (row > 0 && (ids[row] < ids[row - 1] ||
                         (ids[row] == ids[row - 1] && views[row] <= views[row - 1]))))
            return false;
    return true;
}

/* Which rows it has; what is in them is proved when it is unpacked. */
static enum kd_status examine_archive(struct kd_h5 *file, struct kd_examination *exam)
{
    enum kd_status status = KD_EBUG;
    void *ids = NULL, *views = NULL;
    uint64_t rows = 0;

    KD_TRY(kd_identity_load(&exam->identity, file));
    KD_TRY(kd_identity_digest(&exam->identity, &exam->identity_digest));
    KD_TRY(read_column(file, "id", KD_U64, &exam->rows, &ids));
    KD_TRY(read_column(file, "view", KD_U32, &rows, &views));
    if (rows != exam->rows || !in_order(ids, views, exam)) {
        status = kd_fail(KD_EDATA, "%s: damaged: its ids and views are not in order",
                         kd_h5_path(file));
        goto out;
    }
    KD_TRY(find_spans(ids, views, exam));
    exam->archived = exam->opened = true;
    status = KD_OK;
out:
    free(ids);
    free(views);
    return status;
}

/* Examines an archive; leaves alone what is none. */
static enum kd_status try_archive(const char *path, struct kd_examination *exam)
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;

    KD_TRY(kd_h5_open(path, &file));
    KD_TRY(kd_h5_expect_format(file, KD_SHARD_FORMAT, KD_SHARD_VERSION, "a shard"));
    if (kd_h5_has_attribute(file, KD_LAYOUT))
        KD_TRY(examine_archive(file, exam));
    status = KD_OK;
out:
    kd_h5_close(file);
    return status;
}

void kd_examination_clear(struct kd_examination *exam)
{
    free(exam->faults);
    free(exam->spans);
    *exam = (struct kd_examination){0};
}

/* -- home ------------------------------------------------------------------- */

enum kd_status kd_examination_send(const char *path, bool quick, struct kd_child *child)
{
    enum kd_status status = KD_EBUG;
    struct kd_examination exam = {0};
    struct kd_shard *shard = NULL;

    if (!quick) {
        KD_TRY(kd_hash_file(path, &exam.digest, NULL));
        exam.hashed = true;
    }
    KD_TRY(kd_child_send(child, &exam, sizeof exam));
    KD_TRY(try_archive(path, &exam));
    if (!exam.archived) {
        KD_TRY(kd_shard_open(path, &shard));
        KD_TRY(kd_shard_examine(shard, quick, &exam));
    }
    KD_TRY(kd_child_send(child, &exam, sizeof exam));
    KD_TRY(kd_child_send(child, exam.faults, exam.faults_size));
    KD_TRY(kd_child_send(child, exam.spans, exam.num_spans * sizeof *exam.spans));
out:
    kd_shard_close(shard);
    kd_examination_clear(&exam);
    return status;
}

/* The texts and spans behind what has come; their sizes must be just what is left. */
static enum kd_status take_lists(const char *at, size_t left,
                                 const struct kd_examination *came,
                                 struct kd_examination *exam)
{
    enum kd_status status = KD_EBUG;
    size_t bytes = 0;

    if (!kd_multiply(came->num_spans, sizeof *came->spans, &bytes) || bytes > left ||
        came->faults_size != left - bytes)
        return kd_fail(KD_EBUG, "what was found came home in pieces");
    KD_TRY(KD_NEW(exam->faults, came->faults_size));
    KD_TRY(KD_NEW(exam->spans, came->num_spans));
    if (came->faults_size > 0)
        memcpy(exam->faults, at, came->faults_size);
    if (bytes > 0)
        memcpy(exam->spans, at + came->faults_size, bytes);
    exam->faults_size = came->faults_size;
    exam->num_spans = came->num_spans;
out:
    return status;
}

enum kd_status kd_examination_receive(const void *data, size_t size,
                                      struct kd_examination *exam)
{
    enum kd_status status = KD_OK;
    struct kd_examination came = {0};
    const size_t record = sizeof came;

    *exam = came;
    if (size >= record) {
        memcpy(&came, data, record);
        exam->hashed = came.hashed;
        exam->digest = came.digest;
    }
    if (size >= 2 * record) {
        memcpy(&came, (const char *)data + record, record);
        *exam = came;
        exam->faults = NULL;
        exam->spans = NULL;
        exam->faults_size = exam->num_spans = 0;
        status =
            take_lists((const char *)data + 2 * record, size - 2 * record, &came, exam);
    }
    if (status != KD_OK)
        kd_examination_clear(exam);
    return status;
}
