/* SPDX-License-Identifier: MIT */
/*
 * Exports: a cache's rows for other programs, and caches packed for shipping.
 *
 * Rows go out in the order of ids, and of views within an id:
 *
 *     npy          a directory of logits.npy float32 [N,C] (probs.npy, logprobs.npy by
 *                  what the values are), id.npy uint64 [N], view.npy uint32 [N] and
 *                  label.npy int32 [N], -1 where unknown
 *     safetensors  one file of the tensors `logits` (or probs, logprobs), `id` and
 *                  `view` as I64, and `label` as I32; its metadata say the temperature
 *     csv          one text: id,view,label,c0,c1,...; numbers have the fewest digits
 *                  that read back as the same float32
 *     tinyvit      a directory for each view, logits_top<K>_epoch<E>, of
 *                  rank0-keys.txt (ids, a line each) and rank0-values.bin (a record
 *                  each: int32 seed, always 0; K classes as int16, most probable
 *                  first; their K probabilities as float16). E is 0 for the first view
 *
 *     struct kd_export_options options = {.container = KD_NPY, .values = KD_PROBS};
 *     KD_TRY(kd_cache_open("soft-labels", &cache));
 *     KD_TRY(kd_export_run(cache, "out", &options));
 *
 * Values are the teacher's `logits` z, which have no temperature; or at temperature t
 * `logprobs` log softmax(z/t) or `probs` softmax(z/t), what kd/soft.h makes of a row.
 *
 * The same cache gives the same bytes. Files get their names when they are whole; one
 * of other bytes that is there already is left alone, KD_EUSAGE (kd_pending_check).
 * Memory stays bounded by some thousands of rows, whatever the cache's size.
 */
#ifndef KD_EXPORT_H
#define KD_EXPORT_H

#include "kd/cache.h"
#include "kd/soft.h"
#include "kd/status.h"

#include <stdint.h>

enum kd_container { KD_NPY, KD_SAFETENSORS, KD_CSV, KD_TINYVIT };
enum kd_values { KD_LOGITS, KD_LOGPROBS, KD_PROBS };

/* By these names, ended by NULL: "npy", "safetensors", "csv", "tinyvit"; "logits",
 * "logprobs", "probs". */
extern const char *const kd_container_names[];
extern const char *const kd_values_names[];

struct kd_export_options {
    enum kd_container container;
    enum kd_values values;
    double temperature; /* t; 0: the cache's own */
    enum kd_tail tail;  /* of sparse rows: KD_TAIL_SPREAD or KD_TAIL_RENORM */
    uint32_t k;         /* tinyvit: K; 0: that of a sparse cache */
    /* Called with each finished file's or directory's path; may be NULL. */
    enum kd_status (*finished)(void *context, const char *path);
    void *context;
};

/* What rows of such a cache are by nature: logits where those are kept, probabilities
 * of sparse rows, else log-probabilities. */
enum kd_values kd_export_natural(const struct kd_identity *identity);

/* Writes a file or directory. KD_EUSAGE where the options contradict each other or
 * the cache: logits of one that holds log-probabilities or does not hold all classes,
 * say. KD_EDATA for a damaged row. KD_EINTERRUPTED if a signal asks to stop; then
 * nothing is left. */
enum kd_status kd_export_run(const struct kd_cache *cache, const char *to,
                             const struct kd_export_options *options) KD_CHECKED;

/*
 * For PyTorch: a cache as one .safetensors file, whose tensors are the columns of its
 * shards (kd/shard.h) behind each other and as they are stored, for whoever maps the
 * file and wants nothing of HDF5, such as pipelines/pytorch_dataset.py:
 *
 *     id I64 [N], view I32 [N], label I32 [N]     rows by id, and view within an id
 *     scaled F16, BF16 or F32 [N,C]               z/T minus the row's maximum: the
 *                                                 column /logits
 *     row_max, log_z F32 [N]
 *
 * of sparse caches scaled [N,K] with index U8, I16 (over 32,768 classes U16) or I32
 * [N,K] and log_tail F32 [N], log_z_also and log_tail_also F32 [N,A]; of top-p ones
 * scaled [M] and index [M], with offset I64 [N+1]: row n has the values offset[n] to
 * offset[n+1]-1. The file's metadata have `format` "kdcache-torch", `format_version`,
 * `identity_digest`, and under `identity` the text of a JSON object, the one of
 * cache.json.
 */

/* Writes it. KD_EUSAGE for sampled rows, and for views from 2^31 on. KD_EDATA for a
 * damaged row. KD_EINTERRUPTED if a signal asks to stop. What was not finished leaves
 * nothing. */
enum kd_status kd_export_for_torch(const struct kd_cache *cache,
                                   const char *to) KD_CHECKED;

/*
 * The archive layout: the shards of a cache with the same datasets, but chunked
 * (blocks of whole rows, 256 KiB to 1 MiB), shuffled and deflated, and a root attribute
 * `layout` "archive". Any HDF5 program reads it; the programs of this suite do not,
 * since random rows of it are slow, and say so. Beside them lies a cache.json with
 * the same identity digest.
 *
 * The group /contiguous of an archived shard has what else the shard was: `frame`, the
 * bytes of the file that are no dataset's, `extent` [D][2], the offset and bytes of
 * each dataset in the order of their names, and the root attribute
 * `contiguous_xxh3_128`, the digest of the file; so that what is unpacked is the
 * shard that was packed, byte for byte, and can be proved to be.
 */

/* Packs or unpacks the cache in directory `from` into directory `to`, shard by shard,
 * with `finished` called for each in order. Shards that are there already are kept if
 * they are of the same content. Every row is verified on packing, every file on
 * unpacking. KD_EINTERRUPTED between two slabs if a signal asks to stop: finished
 * shards stay. */
enum kd_status kd_archive_pack(const char *from, const char *to,
                               enum kd_status (*finished)(void *context,
                                                          const char *path),
                               void *context) KD_CHECKED;
enum kd_status kd_archive_unpack(const char *from, const char *to,
                                 enum kd_status (*finished)(void *context,
                                                            const char *path),
                                 void *context) KD_CHECKED;

#endif
