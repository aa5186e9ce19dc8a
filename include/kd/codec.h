/* SPDX-License-Identifier: MIT */
/*
 * Codecs: how a row of C scaled logits is stored.
 *
 *     dense      all C of them
 *     top-k      the k most probable classes
 *     top-p      the fewest most probable classes that carry the mass P, at most k:
 *                rows of varying length
 *     sampled    the distinct ones of k classes drawn with replacement from the row's
 *                own distribution, and how often each was drawn: rows of varying
 *                length. draws/k is an unbiased estimate of each probability, which
 *                no truncation is (Anshumann et al. 2025, random-sampling distillation)
 *
 * Of equal logits the class with the lower number goes first. A sparse row keeps the
 * exact logarithm of the probability mass that it leaves out, and where it was asked
 * for, the normaliser at further temperatures, so that it can be used at each of them.
 * All of that is computed in double from the whole row, before anything is rounded.
 *
 *     struct kd_codec codec = {.encoding = KD_TOP_K, .dtype = KD_F16, .k = 10};
 *     KD_TRY(kd_codec_check(&codec, classes));
 *
 * Programs that write caches declare the options --encoding, --dtype, --k, --mass and
 * --also-temperature with KD_CODEC_OPTIONS and read them with kd_codec_from_args.
 */
#ifndef KD_CODEC_H
#define KD_CODEC_H

#include "kd/options.h"
#include "kd/status.h"
#include "kd/type.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kd_encoding { KD_DENSE, KD_TOP_K, KD_TOP_P, KD_SAMPLED };

/* "dense", "top-k", "top-p", "sampled", ended by NULL. */
extern const char *const kd_encoding_names[];

/* The most temperatures that a row's normaliser is kept for besides its own. */
#define KD_MAX_ALSO  8
#define KD_ALSO_SIZE 128

struct kd_codec {
    enum kd_encoding encoding;
    enum kd_type dtype; /* of the stored logits: KD_F16, KD_BF16 or KD_F32 */
    uint32_t k;         /* dense: C; top-k: kept; top-p: at most; sampled: draws */
    double mass;        /* top-p: P, above 0 and below 1; else 0 */
    char also_temperatures[KD_ALSO_SIZE]; /* "1,2,8": ascending, shortest digits */
};

/* Fills in k of a dense codec, and of a top-p one where it is 0 (C-1: no limit); else
 * k must be 1 to C-1 (sampled: 1 to 65535). KD_EUSAGE where a field is out of its range
 * or does not belong to the encoding. */
enum kd_status kd_codec_check(struct kd_codec *codec, uint32_t classes) KD_CHECKED;

/* The further temperatures, parsed: returns how many. The codec was checked. */
size_t kd_codec_also(const struct kd_codec *codec, double also[KD_MAX_ALSO]);

/* The type of a class number among C: KD_U8 up to 256 classes, KD_U16 up to 65536,
 * else KD_U32. */
enum kd_type kd_codec_index_type(uint32_t classes);

/* Whether rows differ in length, and whether they keep fewer than all classes. */
bool kd_codec_is_ragged(const struct kd_codec *codec);
bool kd_codec_is_sparse(const struct kd_codec *codec);

/* What the command line says. */
struct kd_codec_args {
    int encoding, dtype; /* as in kd_encoding_names, kd_codec_dtypes */
    uint64_t k;          /* 0: not given */
    double mass;         /* 0: not given */
    char *also;          /* NULL: none */
};

/* "f16", "bf16", "f32", ended by NULL. */
extern const char *const kd_codec_dtypes[];

/* KD_EUSAGE where options contradict each other: "--k 10: only with --encoding ...".
 * Where the classes are not known yet they are 0, and kd_codec_check is to be called
 * once they are. */
enum kd_status kd_codec_from_args(const struct kd_codec_args *args, uint32_t classes,
                                  struct kd_codec *codec) KD_CHECKED;

/* The options as they would be given again, for history lines: "--encoding top-k --k
 * 10 --dtype f16". On the heap. */
char *kd_codec_text(const struct kd_codec *codec) KD_CHECKED;

/* Lines of a table of options, for `args` of type struct kd_codec_args; `usual_encoding`
 * is what --help shows as the default, NULL: dense. */
#define KD_CODEC_OPTIONS(args, usual_encoding)                                         \
    {.name = "encoding",                                                               \
     .type = KD_OPTION_CHOICE,                                                         \
     .value = &(args).encoding,                                                        \
     .choices = kd_encoding_names,                                                     \
     .metavar = "HOW",                                                                 \
     .help = "which logits of a row are stored: all, the most probable, or sampled",   \
     .usual = (usual_encoding)},                                                       \
        {.name = "dtype",                                                              \
         .type = KD_OPTION_CHOICE,                                                     \
         .value = &(args).dtype,                                                       \
         .choices = kd_codec_dtypes,                                                   \
         .metavar = "TYPE",                                                            \
         .help = "how a logit is stored"},                                             \
        {.name = "k",                                                                  \
         .letter = 'k',                                                                \
         .type = KD_OPTION_U64,                                                        \
         .value = &(args).k,                                                           \
         .min = 1,                                                                     \
         .max = UINT32_MAX,                                                            \
         .metavar = "K",                                                               \
         .help = "top-k: classes a row; top-p: at most so many; sampled: draws"},      \
        {.name = "mass",                                                               \
         .type = KD_OPTION_F64,                                                        \
         .value = &(args).mass,                                                        \
         .min = 1e-6,                                                                  \
         .max = 1,                                                                     \
         .metavar = "P",                                                               \
         .help = "top-p: the probability mass to keep"},                               \
    {                                                                                  \
        .name = "also-temperature", .type = KD_OPTION_STRING, .value = &(args).also,   \
        .metavar = "T,...",                                                            \
        .help = "sparse rows: temperatures that they can be used at as well"           \
    }

#endif
