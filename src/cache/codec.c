/* SPDX-License-Identifier: MIT */
/* Codecs: which make sense, and how the command line names them. */
#include "kd/codec.h"

#include "kd/memory.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const kd_encoding_names[] = {"dense", "top-k", "top-p", "sampled", NULL};

const char *const kd_codec_dtypes[] = {"f16", "bf16", "f32", NULL};
static const enum kd_type dtypes[] = {KD_F16, KD_BF16, KD_F32};
#define NUM_DTYPES (sizeof dtypes / sizeof dtypes[0])

#define LEAST_ALSO 0.001
#define MOST_ALSO  1000000.0

/* How many draws of a class fit a u16. */
#define MOST_DRAWS UINT16_MAX

bool kd_codec_is_sparse(const struct kd_codec *codec)
{
    return codec->encoding != KD_DENSE;
}

bool kd_codec_is_ragged(const struct kd_codec *codec)
{
    return codec->encoding == KD_TOP_P || codec->encoding == KD_SAMPLED;
}

enum kd_type kd_codec_index_type(uint32_t classes)
{
    if (classes <= UINT8_MAX + 1)
        return KD_U8;
    return classes <= UINT16_MAX + 1 ? KD_U16 : KD_U32;
}

/* Parses numbers by commas; false if there are more than KD_MAX_ALSO or one is none
 * or out of range. */
static bool parse_also(const char *text, double also[KD_MAX_ALSO], size_t *count)
{
    char copy[KD_ALSO_SIZE];
    const size_t length = strlen(text);

    *count = 0;
    if (length == 0)
        return true;
    if (length >= sizeof copy)
        return false;
    memcpy(copy, text, length + 1);
    for (char *at = copy, *end = NULL; at != NULL; at = end) {
        end = strchr(at, ',');
        if (end != NULL)
            *end++ = '\0';
        if (*count == KD_MAX_ALSO ||
            !kd_parse_f64(at, LEAST_ALSO, MOST_ALSO, &also[*count]))
            return false;
        ++*count;
    }
    return true;
}

/* The text that stands for them; false if it does not fit. */
static bool print_also(const double *also, size_t count, char text[KD_ALSO_SIZE])
{
    size_t length = 0;

    memset(text, 0, KD_ALSO_SIZE);
    for (size_t i = 0; i < count && length < KD_ALSO_SIZE; i++) {
        char number[KD_TEXT_F64];

        kd_text_f64(also[i], number);
        length += (size_t)snprintf(text + length, KD_ALSO_SIZE - length, "%s%s",
                                   i > 0 ? "," : "", number);
    }
    return length < KD_ALSO_SIZE;
}

size_t kd_codec_also(const struct kd_codec *codec, double also[KD_MAX_ALSO])
{
    size_t count = 0;

    return parse_also(codec->also_temperatures, also, &count) ? count : 0;
}

static enum kd_status check_also(const struct kd_codec *codec)
{
    double also[KD_MAX_ALSO];
    char text[KD_ALSO_SIZE];
    size_t count = 0;
    bool good = memchr(codec->also_temperatures, 0, KD_ALSO_SIZE) != NULL;

    if (good && codec->also_temperatures[0] == '\0')
        return KD_OK;
    if (!kd_codec_is_sparse(codec))
        return kd_fail(KD_EUSAGE, "also_temperatures: dense rows can be used at every "
                                  "temperature");
    good = good && parse_also(codec->also_temperatures, also, &count);
    for (size_t i = 1; i < count; i++)
        good = good && also[i] > also[i - 1];
    good = good && print_also(also, count, text) &&
           strcmp(text, codec->also_temperatures) == 0;
    if (!good)
        return kd_fail(
            KD_EUSAGE,
            "also_temperatures is '%.*s': must be at most %d numbers from %g "
            "to %g, ascending, by commas",
            KD_ALSO_SIZE, codec->also_temperatures, KD_MAX_ALSO, LEAST_ALSO, MOST_ALSO);
    return KD_OK;
}

static enum kd_status check_mass(const struct kd_codec *codec)
{
    const double mass = codec->mass;

    if (codec->encoding == KD_TOP_P ? !(mass > 0 && mass < 1) : mass != 0)
        return kd_fail(KD_EUSAGE, "mass is %g: must be %s with encoding %s", mass,
                       codec->encoding == KD_TOP_P ? "between 0 and 1" : "0",
                       kd_encoding_names[codec->encoding]);
    return KD_OK;
}

static enum kd_status check_k(struct kd_codec *codec, uint32_t classes)
{
    uint32_t least = 1, most = classes - 1;

    if (codec->encoding == KD_DENSE)
        least = most = classes;
    if (codec->encoding == KD_SAMPLED)
        most = MOST_DRAWS;
    if (codec->k == 0 && (codec->encoding == KD_DENSE || codec->encoding == KD_TOP_P))
        codec->k = most;
    if (codec->k < least || codec->k > most)
        return kd_fail(KD_EUSAGE,
                       "k is %u: must be %u to %u with encoding %s and %u "
                       "classes",
                       (unsigned)codec->k, (unsigned)least, (unsigned)most,
                       kd_encoding_names[codec->encoding], (unsigned)classes);
    return KD_OK;
}

/* The place of a type among kd_codec_dtypes; NUM_DTYPES for another one. */
static size_t find_dtype(enum kd_type type)
{
    size_t i = 0;

    while (i < NUM_DTYPES && dtypes[i] != type)
        i++;
    return i;
}

enum kd_status kd_codec_check(struct kd_codec *codec, uint32_t classes)
{
    enum kd_status status = KD_EBUG;

    if ((unsigned)codec->encoding > KD_SAMPLED)
        return kd_fail(KD_EUSAGE, "encoding is none that is known");
    if (find_dtype(codec->dtype) == NUM_DTYPES)
        return kd_fail(KD_EUSAGE, "dtype must be float16, bfloat16 or float32");
    KD_TRY(check_mass(codec));
    KD_TRY(check_also(codec));
    KD_TRY(check_k(codec, classes));
out:
    return status;
}

static int compare_doubles(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* In whatever order they were given. */
static enum kd_status take_also(const char *text, struct kd_codec *codec)
{
    double also[KD_MAX_ALSO];
    size_t count = 0;

    if (!parse_also(text, also, &count) || count == 0)
        return kd_fail(KD_EUSAGE,
                       "--also-temperature: '%s' is no list of at most %d numbers from "
                       "%g to %g, by commas",
                       text, KD_MAX_ALSO, LEAST_ALSO, MOST_ALSO);
    qsort(also, count, sizeof also[0], compare_doubles);
    for (size_t i = 1; i < count; i++)
        if (also[i] == also[i - 1])
            return kd_fail(KD_EUSAGE, "--also-temperature: %g is there twice", also[i]);
    if (!print_also(also, count, codec->also_temperatures))
        return kd_fail(KD_EUSAGE, "--also-temperature: '%s' has too many digits", text);
    return KD_OK;
}

/* An option that another one needs, or that does not belong to the encoding. */
static enum kd_status check_args(const struct kd_codec_args *args)
{
    const char *name = kd_encoding_names[args->encoding];

    switch ((enum kd_encoding)args->encoding) {
    case KD_DENSE:
        if (args->k != 0)
            return kd_fail(KD_EUSAGE,
                           "--k %llu: only with --encoding top-k, top-p or "
                           "sampled; dense rows keep all classes",
                           (unsigned long long)args->k);
        if (args->also != NULL)
            return kd_fail(
                KD_EUSAGE,
                "--also-temperature %s: only with --encoding top-k, top-p or "
                "sampled; dense rows can be used at every temperature",
                args->also);
        break;
    case KD_TOP_K:
    case KD_SAMPLED:
        if (args->k == 0)
            return kd_fail(KD_EUSAGE, "--encoding %s: of how many %s? give --k K", name,
                           args->encoding == KD_TOP_K ? "classes" : "draws");
        break;
    case KD_TOP_P:
        if (args->mass == 0)
            return kd_fail(KD_EUSAGE, "--encoding %s: of which mass? give --mass P",
                           name);
        break;
    }
    if (args->mass != 0 && args->encoding != KD_TOP_P)
        return kd_fail(KD_EUSAGE, "--mass %g: only with --encoding top-p", args->mass);
    return KD_OK;
}

enum kd_status kd_codec_from_args(const struct kd_codec_args *args, uint32_t classes,
                                  struct kd_codec *codec)
{
    enum kd_status status = KD_EBUG;

    *codec = (struct kd_codec){.encoding = (enum kd_encoding)args->encoding,
                               .dtype = dtypes[args->dtype],
                               .k = (uint32_t)args->k,
                               .mass = args->mass};
    KD_TRY(check_args(args));
    if (args->also != NULL)
        KD_TRY(take_also(args->also, codec));
    if (classes > 0)
        KD_TRY(kd_codec_check(codec, classes));
out:
    return status;
}

char *kd_codec_text(const struct kd_codec *codec)
{
    char k[32] = "", mass[KD_TEXT_F64 + 16] = "", number[KD_TEXT_F64];
    const char *also = codec->also_temperatures;

    if (kd_codec_is_sparse(codec) && codec->k != 0)
        snprintf(k, sizeof k, " --k %u", (unsigned)codec->k);
    if (codec->encoding == KD_TOP_P) {
        kd_text_f64(codec->mass, number);
        snprintf(mass, sizeof mass, " --mass %s", number);
    }
    return kd_format("--encoding %s%s%s --dtype %s%s%s",
                     kd_encoding_names[codec->encoding], k, mass,
                     kd_codec_dtypes[find_dtype(codec->dtype)],
                     also[0] != '\0' ? " --also-temperature " : "", also);
}
