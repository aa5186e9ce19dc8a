/* SPDX-License-Identifier: MIT */
/*
 * Merges that are not written: several caches read as the one that kd-merge would make
 * of them, a row at a time and in any order.
 *
 *     struct kd_merged *merged = NULL;
 *     KD_TRY(kd_merged_open("a,b,c", &args, 0, &merged));
 *     KD_TRY(kd_merged_read(merged, ids, views, n, take_row, &rows));
 *     kd_merged_close(merged);
 *
 * Rows are, bit by bit, those of
 *
 *     kd-merge OPTIONS -o merged a b c
 *
 * with the OPTIONS that struct kd_merge_args stands for and none about how rows are
 * stored, which would be --dtype f16, and the inputs' encoding where all are top-k or
 * all top-p alike, else dense. A merged row is encoded and rounded so before anybody
 * sees it. What must be fitted is fitted when the merge is opened, on the same held-out
 * rows, hence to the same numbers; a noisy vote has the same noise however often a row
 * is read, and costs no more privacy than the merged cache.
 *
 * Each reading of a row costs a row of every input, the policy's arithmetic and an
 * encoding. A student of many epochs learns faster from a merged cache; a merge that is
 * not written saves its room and the wait for it, and is for trying policies.
 */
#ifndef KD_MERGED_H
#define KD_MERGED_H

#include "kd/merge.h"
#include "kd/shard.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kd_merged;

/* Opens `caches`, names with commas between them (a path that is there as it stands is
 * one), and pipes to their ends. `args` are kd-merge's options; `left_out` is whom
 * leave-one-out leaves out, from 0. Errors are those of kd_merge_run; a row that is
 * missing under --missing error is one already here. */
enum kd_status kd_merged_open(const char *caches, const struct kd_merge_args *args,
                              size_t left_out, struct kd_merged **merged) KD_CHECKED;
void kd_merged_close(struct kd_merged *merged); /* NULL is fine */

/* What the merged cache calls itself. */
const struct kd_identity *kd_merged_identity(const struct kd_merged *merged);

const char *kd_merged_name(const struct kd_merged *merged); /* for messages */
size_t kd_merged_teachers(const struct kd_merged *merged);  /* how many caches */
uint64_t kd_merged_bytes(const struct kd_merged *merged);   /* of all their shards */

/* Whether all caches can be opened again: no pipes. */
bool kd_merged_lasts(const struct kd_merged *merged);

/* Whether the merged cache would have every row that its identity promises; KD_EDATA
 * names the first missing one and how many are missing. */
enum kd_status kd_merged_whole(const struct kd_merged *merged) KD_CHECKED;

/* Whether reading verifies the checks of the inputs' rows; it does unless told
 * otherwise. */
void kd_merged_set_verify(struct kd_merged *merged, bool verify);

/* Takes row `i` of those that were asked for, which lives until it returns; NULL: the
 * merged cache would not have it. Called on the compute threads. */
typedef enum kd_status kd_merged_visit(void *context, size_t i,
                                       const struct kd_row *row);

/* Merges rows in any order. By one thread at a time. KD_EDATA naming file, sample and
 * view where an input is damaged, or a row cannot be merged. */
enum kd_status kd_merged_read(struct kd_merged *merged, const uint64_t *ids,
                              const uint32_t *views, size_t count,
                              kd_merged_visit *visit, void *context) KD_CHECKED;

/* As kd_cache_prefetch and kd_cache_forget, for all inputs. */
void kd_merged_prefetch(const struct kd_merged *merged, uint64_t begin, uint64_t end);
void kd_merged_forget(const struct kd_merged *merged, uint64_t begin, uint64_t end);

#endif
