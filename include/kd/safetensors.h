/* SPDX-License-Identifier: MIT */
/*
 * .safetensors: named tensors in one file, the container of most networks' weights
 * today. Eight bytes say how long the header is; it is JSON, with the type, shape and
 * place of each tensor; behind it lie the bytes, without gaps.
 *
 *     struct kd_safetensors *file = NULL;
 *     KD_TRY(kd_safetensors_open("logits.safetensors", &file));
 *     const struct kd_safetensor *z = kd_safetensors_find(file, "logits");
 *     ... check z->info.type, rank and shape; its bytes are at z->data ...
 *     kd_safetensors_close(file);
 *
 * Format: https://github.com/huggingface/safetensors. As there, a header is at most
 * 100 MB, and tensors neither overlap nor leave bytes of the file unused, so that two
 * readers cannot see two things in one file.
 */
#ifndef KD_SAFETENSORS_H
#define KD_SAFETENSORS_H

#include "kd/status.h"
#include "kd/type.h"

#include <stddef.h>
#include <stdint.h>

/* Element types are U8 to F64 and BF16; BOOL is read as KD_U8, 0 or 1. */
struct kd_safetensor {
    const char *name;
    struct kd_array_info info; /* offset: of its first byte in the file */
    const void *data;          /* [info.bytes] in the file's map. Who writes files may
                                  leave them unaligned: copy what is used */
};

struct kd_safetensors;

/* Maps and checks a file. KD_EDATA naming the tensor and what is wrong with it. */
enum kd_status kd_safetensors_open(const char *path,
                                   struct kd_safetensors **file) KD_CHECKED;

/* The same of a file's bytes in memory, which must stay; `name` is for messages. */
enum kd_status kd_safetensors_parse(const void *data, size_t size, const char *name,
                                    struct kd_safetensors **file) KD_CHECKED;
void kd_safetensors_close(struct kd_safetensors *file); /* NULL is fine */

/* The tensors, by name in ascending order of bytes; the one of that name, or NULL. */
size_t kd_safetensors_count(const struct kd_safetensors *file);
const struct kd_safetensor *kd_safetensors_at(const struct kd_safetensors *file,
                                              size_t index);
const struct kd_safetensor *kd_safetensors_find(const struct kd_safetensors *file,
                                                const char *name);

/* The text under a key of "__metadata__", NULL where there is none. */
const char *kd_safetensors_metadata(const struct kd_safetensors *file, const char *key);

/*
 * Writing: the tensors are announced, then filled from their beginnings, in any number
 * of pieces and in turns, so that none needs to be in memory as a whole.
 *
 *     const struct kd_safetensor tensors[] = {
 *         {.name = "logits",
 *          .info = {.type = KD_F32, .rank = 2, .shape = {rows, classes}}}};
 *     const char *const notes[] = {"temperature", "4", NULL};
 *     KD_TRY(kd_safetensors_create("x.safetensors", tensors, 1, notes, &writer));
 *     KD_TRY(kd_safetensors_append(writer, 0, z, bytes));
 *     KD_TRY(kd_safetensors_commit(writer));     (or kd_safetensors_abandon)
 *
 * The same tensors give the same bytes: wider types lie first, then the order is that
 * of names, so that each is aligned to its type.
 */
struct kd_safetensors_writer;

/* Of `tensors`, the name and the info's type, rank and shape are looked at. `metadata`
 * is NULL, or keys and values in turn, ended by NULL. KD_EUSAGE for a name that is
 * there twice or "__metadata__". */
enum kd_status kd_safetensors_create(const char *path,
                                     const struct kd_safetensor *tensors, size_t count,
                                     const char *const *metadata,
                                     struct kd_safetensors_writer **writer) KD_CHECKED;

/* Puts bytes behind those that tensor `index` has already. KD_EBUG for too many. */
enum kd_status kd_safetensors_append(struct kd_safetensors_writer *writer, size_t index,
                                     const void *data, size_t bytes) KD_CHECKED;

/* Commit refuses a file whose tensors are not all full, and KD_EUSAGE to replace
 * another one (kd_pending_check). Both free the writer. */
enum kd_status kd_safetensors_commit(struct kd_safetensors_writer *writer) KD_CHECKED;
void kd_safetensors_abandon(struct kd_safetensors_writer *writer); /* NULL is fine */

#endif
