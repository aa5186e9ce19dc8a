/* SPDX-License-Identifier: MIT */
/*
 * Shards: files of soft labels, format 1.
 *
 * A shard is one HDF5 file of N rows. A row is the C temperature-scaled logits
 * of one (id, view), found by id and view and never by its position in somebody's
 * batch. All datasets are contiguous, little-endian and unfiltered, so that
 * readers map them; bytes are a function of the content alone. How many logits of a
 * row are there is the codec's matter (kd/codec.h): K of each row, or in a ragged
 * encoding (top-p, sampled) some, M in all.
 *
 *     /id              u64 [N]        ascending
 *     /view            u32 [N]        ascending within an id
 *     /label           i32 [N]        -1 where unknown
 *     /offset          u64 [N+1]      ragged: row r has values offset[r] to
 *                                     offset[r+1]-1; offset[0] = 0, offset[N] = M
 *     /logits          f16|bf16|f32   z/T minus the row's maximum; dense [N,C], top-k
 *                                     [N,K], ragged [M]
 *     /index           u8|u16|u32     sparse: the class of each logit, shaped as
 *                                     /logits; most probable first, of equal ones the
 *                                     lower class first
 *     /draws           u16 [M]        sampled: how often the class was drawn
 *     /row_max         f32 [N]        max(z/T): adds back the absolute logit
 *     /log_z           f32 [N]        log sum exp of z/T minus the maximum, over all
 *                                     C, before rounding
 *     /log_tail        f32 [N]        sparse: log of the probability mass not kept,
 *                                     before rounding; at most 0, -inf for none
 *     /log_z_also      f32 [N,A]      at the A further temperatures t: log sum exp of
 *     /log_tail_also   f32 [N,A]      (z - max z)/t, and the log of the mass not kept
 *     /check           u32 [N]        low half of XXH3-64 over the row's bytes in the
 *                                     datasets above, in this order; of /offset, the
 *                                     row's number of values as u64
 *
 * so that softmax(z/T) = exp(logits - log_z) and z = T (logits + row_max); at another
 * temperature t it is exp(logits T/t - log_z_also). Root attributes are the fields of
 * struct kd_identity by their names, and `format` "kdcache", `format_version` 1,
 * `identity_digest` over the fields, `complete` 1 (set last), `history`. Logits below
 * the type's least finite value are stored as that value, so that rows are always
 * finite.
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
 * Reading: kd_shard_row for a row as it is stored, kd_shard_read for all C values;
 * kd/soft.h makes soft labels of them.
 *
 *     struct kd_shard *s = NULL;
 *     KD_TRY(kd_shard_open("out/shard-000000.h5", &s));
 *     KD_TRY(kd_shard_read(s, row, 1, values));
 *     kd_shard_close(s);
 */
#ifndef KD_SHARD_H
#define KD_SHARD_H

#include "kd/codec.h"
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
    struct kd_codec codec; /* attributes encoding, dtype, k; top-p: mass; sparse:
                              also_temperatures */
    uint32_t num_classes;  /* C, at least 2 */
    double temperature;    /* T > 0 */
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

/* The lines --temperature and --shard-samples of a table of options (kd/options.h) of a
 * program that makes or reads rows; `text` says what T does there. */
#define KD_TEMPERATURE_OPTION(variable, text)                                          \
    {                                                                                  \
        .name = "temperature", .letter = 'T', .type = KD_OPTION_F64,                   \
        .value = &(variable), .min = 0.001, .max = 1000000, .metavar = "T",            \
        .help = text                                                                   \
    }
#define KD_SHARD_SAMPLES_OPTION(variable, least, usual_size)                           \
    {                                                                                  \
        .name = "shard-samples", .type = KD_OPTION_U64, .value = &(variable),          \
        .min = (least), .max = 1099511627776.0, .metavar = "N",                        \
        .help = "samples a shard", .usual = (usual_size)                               \
    }

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

/*
 * Rows on their way in. Dense ones have all C values. Sparse ones (offset is not NULL)
 * are log-probabilities of some classes, and of the rest of them together: they can
 * become top-k or top-p rows that keep no more, but not dense or sampled ones, and the
 * codec must have no further temperatures.
 */
struct kd_rows {
    size_t count;
    const uint64_t *id;   /* [count] */
    const uint32_t *view; /* [count] */
    const int32_t *label; /* [count] */
    const float *scaled;  /* [count][C] z/T, absolute, or log-probabilities; sparse:
                             [offset[count]] log-probabilities */

    /* sparse rows only */
    const uint64_t *offset; /* [count+1], from 0 */
    const uint32_t *index;  /* [offset[count]] classes, in any order, none twice */
    const float *log_rest;  /* [count] log of the mass of all others; -inf for none */
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

/* Rows that are made while they are written: a compute thread makes a few, encodes them
 * while they are in its cache, and makes the next. */
struct kd_row_maker {
    size_t count;         /* rows in all */
    size_t few;           /* rows to make at a time, at least 1 */
    const uint64_t *id;   /* [count] */
    const uint32_t *view; /* [count] */
    const int32_t *label; /* [count] `make` sets them */
    /* Makes rows begin to end-1, at most `few`: *scaled is [end-begin][C], and stays
     * until the same worker is asked again. Called by several threads at once, each
     * with a worker less than kd_threads() of its own. */
    enum kd_status (*make)(void *context, size_t worker, size_t begin, size_t end,
                           const float **scaled);
    void *context;
};

/* As kd_shard_writer_add, of dense rows. */
enum kd_status kd_shard_writer_make(struct kd_shard_writer *writer,
                                    const struct kd_row_maker *maker) KD_CHECKED;

/* How far rows that were merged from sparse ones may be from the merge of whole rows,
 * in total variation (kd/merge.h). Attributes `bound_mean` and `bound_max` of shards
 * where it is known. */
struct kd_bound {
    double mean, max;
};
void kd_shard_writer_set_bound(struct kd_shard_writer *writer, struct kd_bound bound);

/* Commit refuses a shard whose rows are not all there. Both free the writer. */
enum kd_status kd_shard_writer_commit(struct kd_shard_writer *writer) KD_CHECKED;
void kd_shard_writer_abandon(struct kd_shard_writer *writer); /* NULL is fine */

/* Bytes of a shard file, exactly, without making it: its layout is tried in a temporary
 * file without data. `values` counts in ragged encodings alone: M. */
enum kd_status kd_shard_measure(const struct kd_identity *identity, uint64_t rows,
                                uint64_t values, const char *history,
                                uint64_t *bytes) KD_CHECKED;

struct kd_shard;

/* Opens and maps a finished shard; checks format, completeness, layout, types,
 * extents and file size, that attributes are in range and unaltered, that ids and
 * views ascend within the cache's bounds, that offsets ascend by 1 to k, and that
 * labels, row_max, normalisers and tails are in range. Logits, classes and draws are
 * checked when they are read. */
enum kd_status kd_shard_open(const char *path, struct kd_shard **shard) KD_CHECKED;
void kd_shard_close(struct kd_shard *shard); /* NULL is fine */

const struct kd_identity *kd_shard_identity(const struct kd_shard *shard);
const char *kd_shard_path(const struct kd_shard *shard);
uint64_t kd_shard_rows(const struct kd_shard *shard);
uint64_t kd_shard_bytes(const struct kd_shard *shard);        /* of the file */
const uint64_t *kd_shard_ids(const struct kd_shard *shard);   /* [rows], mapped */
const uint32_t *kd_shard_views(const struct kd_shard *shard); /* [rows], mapped */
int32_t kd_shard_label(const struct kd_shard *shard, uint64_t row);
float kd_shard_row_max(const struct kd_shard *shard, uint64_t row);
float kd_shard_log_z(const struct kd_shard *shard, uint64_t row);

/* The bound of its rows, NULL where none is known. */
const struct kd_bound *kd_shard_bound(const struct kd_shard *shard);

/* Whether reading verifies each row's check; it does unless told otherwise. Not while
 * other threads read. */
void kd_shard_set_verify(struct kd_shard *shard, bool verify);

/* Values of all rows together: rows times C or k, or of a ragged one M. */
uint64_t kd_shard_values(const struct kd_shard *shard);

/* The most values that a row of the shard has: C, k, or of a ragged one what the
 * longest has. */
size_t kd_shard_kept(const struct kd_shard *shard);

/* A row as it is stored, decoded. */
struct kd_row {
    uint64_t id;
    uint32_t view;
    int32_t label;
    size_t size;           /* n values */
    float *values;         /* [n] z/T minus the row's maximum */
    uint32_t *index;       /* [n] classes; dense: untouched, 0 to C-1 is meant */
    const uint16_t *draws; /* [n] sampled: times drawn, in the map; else NULL */
    float row_max, log_z;
    float log_tail;                          /* dense: -inf */
    const float *log_z_also, *log_tail_also; /* [A], in the map; NULL if A is 0 */
};

/* Verifies and decodes one row. The caller sets row->values and row->index to room for
 * kd_shard_kept() elements (index may be NULL for dense shards). KD_EDATA naming file,
 * row, id and view where its check differs, a value or class is out of range, a class
 * is there twice, or draws do not add up to k; only the check can be left out. May be
 * called by several threads at once. */
enum kd_status kd_shard_row(const struct kd_shard *shard, uint64_t at,
                            struct kd_row *row) KD_CHECKED;

/* Rows as a shard would give them back, without one: encoded as the identity says,
 * rounded, and decoded, bit by bit what kd_shard_row has after kd_shard_writer_add. One
 * thread's memory, for rows like these. */
struct kd_recoder;
enum kd_status kd_recoder_new(const struct kd_identity *identity,
                              const struct kd_rows *rows,
                              struct kd_recoder **recoder) KD_CHECKED;
void kd_recoder_free(struct kd_recoder *recoder); /* NULL is fine */

/* Row `at` of those; what *row points to is the recoder's, until the next. KD_EDATA as
 * kd_shard_writer_add says. */
enum kd_status kd_recode_row(struct kd_recoder *recoder, size_t at,
                             struct kd_row *row) KD_CHECKED;

/* Verifies and decodes rows row .. row+count-1 into values [count][C]: z/T minus the
 * row's maximum, such that exp(values - log_z) are probabilities of sum 1. Of sparse
 * rows, the classes that are not kept get even shares of the tail; where nothing is
 * left for them, -65504, so that values are always finite. May be called by several
 * threads at once. */
enum kd_status kd_shard_read(const struct kd_shard *shard, uint64_t row, size_t count,
                             float *values) KD_CHECKED;

/* Tells the system that rows row .. row+count-1 are needed soon, or no more for a
 * while; a hint. */
void kd_shard_prefetch(const struct kd_shard *shard, uint64_t row, uint64_t count);
void kd_shard_forget(const struct kd_shard *shard, uint64_t row, uint64_t count);

/* The row of (id, view), or UINT64_MAX. Constant time where every id has all its
 * views, else a binary search. */
uint64_t kd_shard_find(const struct kd_shard *shard, uint64_t id, uint32_t view);

#endif
