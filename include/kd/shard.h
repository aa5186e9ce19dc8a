/* SPDX-License-Identifier: MIT */
/*
 * Shards: files of soft labels, format 1.
 *
 * A shard is one HDF5 file of N rows. A row is the C temperature-scaled logits
 * of one (id, view), found by id and view and never by its position in somebody's
 * batch. All datasets are contiguous, little-endian and unfiltered, so that
 * readers map them; bytes are a function of the content alone.
 *
 *     /id       u64 [N]        ascending
 *     /view     u32 [N]        ascending within an id
 *     /label    i32 [N]        -1 where unknown
 *     /logits   f16|f32 [N,C]  z/T minus the row's maximum
 *     /row_max  f32 [N]        max(z/T): adds back the absolute logit
 *     /log_z    f32 [N]        log sum exp of z/T minus the maximum, before rounding
 *     /check    u32 [N]        low half of XXH3-64 over the row's bytes in the
 *                              datasets above, in this order
 *
 * so that softmax(z/T) = exp(logits - log_z) and z = T (logits + row_max). Root
 * attributes are the fields of struct kd_identity by their names, and `format`
 * "kdcache", `format_version` 1, `encoding` "dense", `k` (= C), `identity_digest`
 * over the fields, `complete` 1 (set last), `history`. Logits below the type's
 * least finite value are stored as that value, so that rows are always finite.
 *
 * Writing:
 *
 *     struct kd_shard_writer *w = NULL;
 *     KD_TRY(kd_shard_writer_open("out/shard-000000.h5", &identity, rows,
 *                                 "kd-dump 1.0: --teacher model:a.h5", &w));
 *     while (...)
 *         KD_TRY(kd_shard_writer_add(w, &some_rows));
 *     KD_TRY(kd_shard_writer_commit(w));      (or kd_shard_writer_abandon)
 *
 * Reading:
 *
 *     struct kd_shard *s = NULL;
 *     KD_TRY(kd_shard_open("out/shard-000000.h5", &s));
 *     KD_TRY(kd_shard_read(s, row, 1, values));
 *     kd_shard_close(s);
 */
#ifndef KD_SHARD_H
#define KD_SHARD_H

#include "kd/hash.h"
#include "kd/status.h"
#include "kd/type.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kd_cache_kind { KD_KIND_TEACHER, KD_KIND_MERGED };

/* What the values are. Logits keep the network's absolute level, so that they can
 * be used at another temperature; logprobs are normalised at theirs. */
enum kd_value_kind { KD_VALUE_LOGITS, KD_VALUE_LOGPROBS };

/* Who produced the rows and of what: equal in all shards of a cache. Text fields
 * are ASCII, without control characters. */
struct kd_identity {
    enum kd_cache_kind kind;
    enum kd_value_kind value_kind;
    enum kd_type dtype;   /* KD_F16 or KD_F32 */
    uint32_t num_classes; /* C, at least 2 */
    double temperature;   /* T > 0 */
    struct kd_digest class_map_digest;
    struct kd_digest dataset_digest;
    uint64_t first_id;    /* the cache, once finished, holds ids first_id to */
    uint64_t num_samples; /* first_id + num_samples - 1, each in views ... */
    uint32_t first_view;  /* first_view to first_view + views - 1 */
    uint32_t views;
    uint64_t seed;       /* of the views */
    char augment[64];    /* kd_view_text */
    char normalize[256]; /* how the teacher normalised, for people; "" unknown */
    char teacher_name[128];
    struct kd_digest teacher_digest; /* of the teacher's file; of a merged cache, of
                                        policy, parameters and parents' identities */
    char bn_mode[8];                 /* "eval", "train", "none"; merged: "mixed" */

    /* merged caches only, "" in others */
    char policy[32];
    char policy_parameters[2048]; /* "weights=0.5,0.3,0.2" */
    char parents[4096]; /* teacher digests of the caches, in order, by commas; of
                           merged parents their own parents */
};

/* Whether every field is in its range: KD_EDATA, "num_classes is 1: must be ...".
 * Writers and readers of shards see to it themselves. */
enum kd_status kd_identity_check(const struct kd_identity *identity) KD_CHECKED;

/* KD_OK if rows of `a` and `b` may stand in one cache; else KD_EDATA with the
 * first fact that differs: "temperature is 4, not 2". */
enum kd_status kd_identity_equal(const struct kd_identity *a,
                                 const struct kd_identity *b) KD_CHECKED;

/* A digest of all of it, the name of the cache's content. */
enum kd_status kd_identity_digest(const struct kd_identity *identity,
                                  struct kd_digest *digest) KD_CHECKED;

/* For people: the name of field `index`, its value in `text`; NULL behind the last.
 * Fields that only merged caches have are left out of others. */
#define KD_FIELD_SIZE 4096
const char *kd_identity_field(const struct kd_identity *identity, size_t index,
                              char text[KD_FIELD_SIZE]);

/* The fields as members of the object that is open in `json`, keys sorted. */
struct kd_json;
void kd_identity_json(const struct kd_identity *identity, struct kd_json *json);

/* A number as identities write it: the fewest digits that read back the same. */
void kd_number_text(double value, char text[32]);

/* Rows on their way in. */
struct kd_rows {
    size_t count;
    const uint64_t *id;   /* [count] */
    const uint32_t *view; /* [count] */
    const int32_t *label; /* [count] */
    const float *scaled;  /* [count][C] z/T, absolute; or log-probabilities */
};

struct kd_shard_writer;

/* Lays out a shard of exactly `rows` rows (at least 1) beside its final name.
 * `history` is the line for people; equal runs must give equal text. */
enum kd_status kd_shard_writer_open(const char *path,
                                    const struct kd_identity *identity, uint64_t rows,
                                    const char *history,
                                    struct kd_shard_writer **writer) KD_CHECKED;

/* Encodes rows on the compute threads and writes them behind the ones before.
 * Ids and views must ascend and be the identity's. A NaN or infinite value is
 * KD_EDATA naming the id, view and class. After a failure, abandon. */
enum kd_status kd_shard_writer_add(struct kd_shard_writer *writer,
                                   const struct kd_rows *rows) KD_CHECKED;

/* Commit refuses a shard whose rows are not all there. Both free the writer. */
enum kd_status kd_shard_writer_commit(struct kd_shard_writer *writer) KD_CHECKED;
void kd_shard_writer_abandon(struct kd_shard_writer *writer); /* NULL is fine */

struct kd_shard;

/* Opens and maps a finished shard; checks format, completeness, layout, types,
 * extents and file size, that attributes are in range and unaltered, that ids and
 * views ascend within the cache's bounds, and that labels, row_max and log_z are in
 * range. Logits are checked when they are read. */
enum kd_status kd_shard_open(const char *path, struct kd_shard **shard) KD_CHECKED;
void kd_shard_close(struct kd_shard *shard); /* NULL is fine */

const struct kd_identity *kd_shard_identity(const struct kd_shard *shard);
const char *kd_shard_path(const struct kd_shard *shard);
uint64_t kd_shard_rows(const struct kd_shard *shard);
const uint64_t *kd_shard_ids(const struct kd_shard *shard);   /* [rows], mapped */
const uint32_t *kd_shard_views(const struct kd_shard *shard); /* [rows], mapped */
int32_t kd_shard_label(const struct kd_shard *shard, uint64_t row);
float kd_shard_row_max(const struct kd_shard *shard, uint64_t row);
float kd_shard_log_z(const struct kd_shard *shard, uint64_t row);

/* Decodes rows row .. row+count-1 into values [count][C]: z/T minus the row's
 * maximum. Each row's check is verified first: KD_EDATA naming file, row, id and
 * view. May be called by several threads at once. */
enum kd_status kd_shard_read(const struct kd_shard *shard, uint64_t row, size_t count,
                             float *values) KD_CHECKED;

/* The row of (id, view), or UINT64_MAX. Constant time where every id has all its
 * views, else a binary search. */
uint64_t kd_shard_find(const struct kd_shard *shard, uint64_t id, uint32_t view);

#endif
