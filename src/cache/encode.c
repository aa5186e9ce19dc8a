/* SPDX-License-Identifier: MIT */
/*
 * Encoding rows: which classes are kept, and the logarithms that go with them.
 *
 * With u the scaled logits and e_c = exp(u_c - max u), a row's normaliser is Z, the sum
 * of all e_c, and its tail the sum of those that are not kept over Z. The tail is
 * summed for itself: 1 minus what is kept has no digits left where a teacher is sure of
 * itself.
 */
#include "cache/encode_internal.h"
#include "cache/encode_select_internal.h"

#include "kd/half.h"
#include "kd/memory.h"
#include "kd/vector.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* -- scratch ---------------------------------------------------------------- */

/* The most values that a row of `rows` has. */
static size_t longest(const struct kd_identity *identity, const struct kd_rows *rows)
{
    uint64_t most = 1;

    if (rows->offset == NULL)
        return identity->num_classes;
    for (size_t i = 0; i < rows->count; i++) {
        const uint64_t length = rows->offset[i + 1] - rows->offset[i];
        most = length > most ? length : most;
    }
    return (size_t)most;
}

enum kd_status kd_encoder_init(struct kd_encoder *encoder,
                               const struct kd_identity *identity,
                               const struct kd_rows *rows)
{
    enum kd_status status = KD_EBUG;
    const struct kd_codec *codec = &identity->codec;
    const size_t n = longest(identity, rows), kept = codec->k < n ? codec->k : n;

    *encoder = (struct kd_encoder){.identity = identity};
    encoder->num_also = kd_codec_also(codec, encoder->also);
    KD_TRY(KD_NEW(encoder->mass, n));
    if (kd_codec_is_sparse(codec))
        KD_TRY(KD_NEW(encoder->keys, kept));
    if (codec->encoding == KD_SAMPLED) {
        KD_TRY(KD_NEW(encoder->cumulative, n));
        KD_TRY(KD_NEW(encoder->drawn, n));
        KD_TRY(KD_NEW(encoder->draws, kept));
    }
    if (rows->offset != NULL) {
        KD_TRY(KD_NEW(encoder->sorted, n));
        KD_TRY(KD_NEW(encoder->classes, n));
        KD_TRY(KD_NEW(encoder->order, n));
    }
    status = KD_OK;
out:
    return status;
}

void kd_encoder_clear(struct kd_encoder *encoder)
{
    free(encoder->mass);
    free(encoder->cumulative);
    free(encoder->drawn);
    free(encoder->sorted);
    free(encoder->classes);
    free(encoder->order);
    free(encoder->keys);
    free(encoder->draws);
}

/* -- values ----------------------------------------------------------------- */

/* Sums and maxima are kept in so many lanes, which compilers turn into vectors. The
 * result depends on the number of values alone. */
#define LANES 16

KD_VECTOR static bool all_finite(const float *values, size_t count)
{
    unsigned bad = 0;

    for (size_t i = 0; i < count; i++)
        bad |= !(fabsf(values[i]) <= FLT_MAX);
    return bad == 0;
}

KD_VECTOR static float maximum(const float *values, size_t count)
{
    float lane[LANES];
    size_t i = 0;

    for (size_t j = 0; j < LANES; j++)
        lane[j] = values[0];
    for (; i + LANES <= count; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lane[j] = values[i + j] > lane[j] ? values[i + j] : lane[j];
    for (; i < count; i++)
        lane[0] = values[i] > lane[0] ? values[i] : lane[0];
    for (size_t j = 1; j < LANES; j++)
        lane[0] = lane[j] > lane[0] ? lane[j] : lane[0];
    return lane[0];
}

KD_VECTOR static double total(const double *values, size_t count)
{
    double lane[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= count; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lane[j] += values[i + j];
    for (; i < count; i++)
        lane[0] += values[i];
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t j = 0; j < half; j++)
            lane[j] += lane[j + half];
    return lane[0];
}

KD_VECTOR static void exponentiate(const float *values, size_t count, double pivot,
                                   double scale, double *mass)
{
    for (size_t i = 0; i < count; i++)
        mass[i] = kd_vector_exp64(scale * ((double)values[i] - pivot));
}

/* mass = exp(scale (values - pivot)); returns their sum. */
static double exponentials(const float *values, size_t count, double pivot,
                           double scale, double *mass)
{
    exponentiate(values, count, pivot, scale, mass);
    return total(mass, count);
}

/* The logarithm of a part of a whole, never above 0: a sum of which some terms were
 * made 0 cannot round to more than the whole sum does. */
static float log_share(double part, double whole)
{
    return (float)log(part / whole);
}

/* -- rows ------------------------------------------------------------------- */

/* The mass that is not kept. */
static double sum_tail(struct kd_encoder *encoder, size_t count, size_t kept)
{
    for (size_t i = 0; i < kept; i++)
        encoder->mass[kd_key_place(encoder->keys[i])] = 0;
    return total(encoder->mass, count);
}

static enum kd_status fail_value(const struct kd_rows *rows, size_t row,
                                 const struct kd_encode_source *from)
{
    size_t i = 0;

    while (i + 1 < from->count && isfinite(from->values[i]))
        i++;
    return kd_fail(KD_EDATA, "sample %llu, view %u: the logit of class %zu is %g",
                   (unsigned long long)rows->id[row], (unsigned)rows->view[row],
                   from->classes != NULL ? from->classes[i] : i,
                   (double)from->values[i]);
}

static int compare_u64(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Brings a sparse row into the order of classes. */
static enum kd_status sort_classes(struct kd_encoder *encoder,
                                   const struct kd_rows *rows, size_t row)
{
    const uint64_t begin = rows->offset[row];
    const size_t count = (size_t)(rows->offset[row + 1] - begin);
    bool ascending = true;

    for (size_t i = 0; i < count; i++) {
        const uint32_t class = rows->index[begin + i];

        if (class >= encoder->identity->num_classes)
            return kd_fail(KD_EDATA, "sample %llu, view %u: class %u of %u",
                           (unsigned long long)rows->id[row], (unsigned)rows->view[row],
                           (unsigned)class, (unsigned)encoder->identity->num_classes);
        encoder->order[i] = (uint64_t) class << 32 | i;
        ascending = ascending && (i == 0 || class > encoder->order[i - 1] >> 32);
    }
    if (!ascending)
        qsort(encoder->order, count, sizeof encoder->order[0], compare_u64);
    for (size_t i = 0; i < count; i++) {
        encoder->classes[i] = (uint32_t)(encoder->order[i] >> 32);
        encoder->sorted[i] = rows->scaled[begin + (uint32_t)encoder->order[i]];
        if (i > 0 && encoder->classes[i] == encoder->classes[i - 1])
            return kd_fail(KD_EDATA, "sample %llu, view %u: class %u is there twice",
                           (unsigned long long)rows->id[row], (unsigned)rows->view[row],
                           (unsigned)encoder->classes[i]);
    }
    return KD_OK;
}

static enum kd_status take_sparse(struct kd_encoder *encoder,
                                  const struct kd_rows *rows, size_t row,
                                  struct kd_encode_source *from)
{
    const struct kd_codec *codec = &encoder->identity->codec;
    const size_t count = (size_t)(rows->offset[row + 1] - rows->offset[row]);
    const size_t least = codec->encoding == KD_TOP_K ? codec->k : 1;
    const float log_rest = rows->log_rest[row];

    if (count < least)
        return kd_fail(KD_EDATA,
                       "sample %llu, view %u: %zu classes, where %zu are to "
                       "be kept",
                       (unsigned long long)rows->id[row], (unsigned)rows->view[row],
                       count, least);
    if (!(log_rest <= FLT_MAX))
        return kd_fail(KD_EDATA,
                       "sample %llu, view %u: the logarithm of the mass of "
                       "all other classes is %g",
                       (unsigned long long)rows->id[row], (unsigned)rows->view[row],
                       (double)log_rest);
    *from = (struct kd_encode_source){encoder->sorted, encoder->classes, count,
                                      (double)log_rest, 0};
    return sort_classes(encoder, rows, row);
}

static enum kd_status take_row(struct kd_encoder *encoder, const struct kd_rows *rows,
                               size_t row, struct kd_encode_source *from)
{
    enum kd_status status = KD_EBUG;
    const size_t classes = encoder->identity->num_classes;

    *from = (struct kd_encode_source){rows->scaled + row * classes, NULL, classes,
                                      (double)-INFINITY, 0};
    if (rows->offset != NULL)
        KD_TRY(take_sparse(encoder, rows, row, from));
    if (!all_finite(from->values, from->count))
        return fail_value(rows, row, from);
    from->top = maximum(from->values, from->count);
    status = KD_OK;
out:
    return status;
}

/* The normaliser and the tail at the further temperatures. */
static void encode_also(struct kd_encoder *encoder, const struct kd_encode_source *from,
                        struct kd_encoded *to)
{
    for (size_t a = 0; a < encoder->num_also; a++) {
        const double scale = encoder->identity->temperature / encoder->also[a];
        const double whole = exponentials(from->values, from->count, (double)from->top,
                                          scale, encoder->mass);

        to->log_z_also[a] = (float)log(whole);
        to->log_tail_also[a] =
            log_share(sum_tail(encoder, from->count, to->size), whole);
    }
}

enum kd_status kd_encode_row(struct kd_encoder *encoder, const struct kd_rows *rows,
                             size_t row, struct kd_encoded *to)
{
    enum kd_status status = KD_EBUG;
    const bool sparse = kd_codec_is_sparse(&encoder->identity->codec);
    struct kd_encode_source from;

    KD_TRY(take_row(encoder, rows, row, &from));
    /* The rest of a sparse row may weigh more than any class that it names. */
    const double top = (double)from.top;
    const double pivot = from.log_rest > top ? from.log_rest : top;
    const double rest = exp(from.log_rest - pivot);
    const double whole =
        exponentials(from.values, from.count, pivot, 1, encoder->mass) + rest;

    *to = (struct kd_encoded){
        .size = kd_encode_choose(encoder, &from, whole, rows->id[row], rows->view[row]),
        .scaled = sparse ? NULL : from.values,
        .keys = encoder->keys,
        .classes = from.classes,
        .draws = encoder->draws,
        .row_max = from.top,
        .log_z = (float)(log(whole) + (pivot - top)),
        .log_tail = -INFINITY};
    if (sparse)
        to->log_tail = log_share(sum_tail(encoder, from.count, to->size) + rest, whole);
    encode_also(encoder, &from, to);
    status = KD_OK;
out:
    return status;
}

/* -- as it is stored -------------------------------------------------------- */

static float least_of(enum kd_type dtype)
{
    if (dtype == KD_F16)
        return -KD_HALF_MAX;
    return dtype == KD_BF16 ? -KD_BF16_MAX : -FLT_MAX;
}

static void pack(const float *values, size_t count, enum kd_type dtype, char *to)
{
    if (dtype == KD_F16)
        kd_half_from_float(values, (uint16_t *)(void *)to, count);
    else if (dtype == KD_BF16)
        kd_bf16_from_float(values, (uint16_t *)(void *)to, count);
    else
        memcpy(to, values, count * sizeof *values);
}

void kd_encoded_logits(const struct kd_encoded *encoded, enum kd_type dtype, void *to)
{
    const float least = least_of(dtype), top = encoded->row_max;
    const float *scaled = encoded->scaled;
    const size_t size = encoded->size, width = kd_type_size(dtype);
    float part[256];
    size_t n = 0;

    for (size_t i = 0; i < size; i += n) {
        n = size - i < 256 ? size - i : 256;
        for (size_t j = 0; j < n; j++)
            part[j] =
                scaled != NULL ? scaled[i + j] : kd_key_value(encoded->keys[i + j]);
        for (size_t j = 0; j < n; j++)
            part[j] = part[j] - top < least ? least : part[j] - top;
        pack(part, n, dtype, (char *)to + i * width);
    }
}

void kd_encoded_index(const struct kd_encoded *encoded, enum kd_type type, void *to)
{
    for (size_t i = 0; i < encoded->size; i++) {
        const size_t place = kd_key_place(encoded->keys[i]);
        const uint32_t class =
            encoded->classes != NULL ? encoded->classes[place] : (uint32_t)place;

        if (type == KD_U8)
            ((uint8_t *)to)[i] = (uint8_t) class;
        else if (type == KD_U16)
            ((uint16_t *)to)[i] = (uint16_t) class;
        else
            ((uint32_t *)to)[i] = class;
    }
}
