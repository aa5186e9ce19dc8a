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

#include "kd/half.h"
#include "kd/memory.h"
#include "kd/random.h"
#include "kd/vector.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A row on its way in: values by place, in the order of classes. */
struct source {
    const float *values;     /* [count] */
    const uint32_t *classes; /* [count]; NULL: the place is the class */
    size_t count;
    double log_rest; /* log of the mass of all other classes; -inf for none */
    float top;       /* the largest value */
};

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

/* e^x for x <= 0 to within 2 units in the last place; 0 below -708, where results would
 * be denormal. x = n ln 2 + r (ln 2 in two parts, as in fdlibm), and the series of e^r
 * up to r^13/13!, which leaves 4e-18. */
KD_VECTOR_INLINE double exponential(double x)
{
    const double round = 0x1.8p52; /* adding it drops the fraction */
    const double y = x < -708 ? -708 : x;
    const double shifted = y * 0x1.71547652b82fep0 + round, n = shifted - round;
    const double r = (y - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
    double p = 1.0 / 6227020800;
    uint64_t power, bits;

    p = p * r + 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r * r + r + 1;
    memcpy(&power, &shifted, sizeof power);
    memcpy(&bits, &p, sizeof bits);
    bits += power << 52; /* n, onto the exponent */
    memcpy(&p, &bits, sizeof p);
    return x < -708 ? 0 : p;
}

KD_VECTOR static void exponentiate(const float *values, size_t count, double pivot,
                                   double scale, double *mass)
{
    for (size_t i = 0; i < count; i++)
        mass[i] = exponential(scale * ((double)values[i] - pivot));
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

/* -- keys ------------------------------------------------------------------- */

/* A value and its place in 64 bits that compare like them: the larger value first, of
 * equal ones the earlier place. */
static uint64_t key_of(float value, size_t place)
{
    const float plain = value + 0.0F; /* -0 and 0 are equal */
    uint32_t bits = 0;

    memcpy(&bits, &plain, sizeof bits);
    bits = bits >> 31 ? ~bits : bits | 0x80000000;
    return (uint64_t)bits << 32 | (uint32_t) ~(uint32_t)place;
}

static size_t place_of(uint64_t key)
{
    return (uint32_t) ~(uint32_t)key;
}

static float value_of(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);
    float value = 0;

    bits = bits >> 31 ? bits & 0x7fffffff : ~bits;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Moves the key at `at` down a heap whose least one is on top. */
static void sift(uint64_t *heap, size_t count, size_t at)
{
    const uint64_t key = heap[at];

    for (size_t below = 2 * at + 1; below < count; below = 2 * at + 1) {
        if (below + 1 < count && heap[below + 1] < heap[below])
            below++;
        if (heap[below] >= key)
            break;
        heap[at] = heap[below];
        at = below;
    }
    heap[at] = key;
}

static void make_heap(uint64_t *keys, size_t count)
{
    for (size_t i = count / 2; i-- > 0;)
        sift(keys, count, i);
}

/* Makes a heap one of descending keys. */
static void sort_heap(uint64_t *heap, size_t count)
{
    for (size_t left = count; left > 1; left--) {
        const uint64_t least = heap[0];

        heap[0] = heap[left - 1];
        heap[left - 1] = least;
        sift(heap, left - 1, 0);
    }
}

/* The `count` most probable places, most probable first. Few values pass the
 * least of those that were found so far, so most cost one comparison. */
static void select_top(const struct source *from, size_t count, uint64_t *keys)
{
    float least = 0;

    for (size_t i = 0; i < count; i++)
        keys[i] = key_of(from->values[i], i);
    make_heap(keys, count);
    least = value_of(keys[0]);
    for (size_t i = count; i < from->count; i++) {
        if (!(from->values[i] > least)) /* equal ones come later: they lose */
            continue;
        keys[0] = key_of(from->values[i], i);
        sift(keys, count, 0);
        least = value_of(keys[0]);
    }
    sort_heap(keys, count);
}

/* -- which values are kept -------------------------------------------------- */

/* How many of the first `count` keys it takes to reach `mass`; count+1 if they do
 * not. */
static size_t reach(const struct kd_encoder *encoder, size_t count, double mass)
{
    double sum = 0;
    size_t i = 0;

    while (i < count && sum < mass)
        sum += encoder->mass[place_of(encoder->keys[i++])];
    return sum < mass ? count + 1 : i;
}

/* Most rows reach the mass with few classes, so few are looked for at first. */
static size_t keep_top_p(struct kd_encoder *encoder, const struct source *from,
                         double whole)
{
    const size_t k = encoder->identity->codec.k;
    const size_t most = k < from->count ? k : from->count;
    const double mass = encoder->identity->codec.mass * whole;

    for (size_t tried = 32;; tried *= 4) {
        const size_t count = tried < most ? tried : most;

        select_top(from, count, encoder->keys);
        const size_t kept = reach(encoder, count, mass);
        if (kept <= count || count == most)
            return kept < most ? kept : most;
    }
}

/* The first place whose cumulative mass is above `mark`. */
static size_t locate(const double *cumulative, size_t count, double mark)
{
    size_t low = 0, high = count - 1;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (cumulative[middle] > mark)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Draws k times with replacement from the row's distribution. */
static size_t keep_sampled(struct kd_encoder *encoder, const struct source *from,
                           uint64_t id, uint32_t view)
{
    const struct kd_identity *of = encoder->identity;
    struct kd_random random = kd_random_at(of->seed, KD_RANDOM_SAMPLE, id, view);
    double sum = 0;
    size_t kept = 0;

    for (size_t i = 0; i < from->count; i++) {
        sum += encoder->mass[i];
        encoder->cumulative[i] = sum;
    }
    for (uint32_t i = 0; i < of->codec.k; i++) {
        const double mark = kd_random_unit(&random) * sum;
        const size_t place = locate(encoder->cumulative, from->count, mark);

        if (encoder->drawn[place]++ == 0)
            encoder->keys[kept++] = key_of(from->values[place], place);
    }
    make_heap(encoder->keys, kept);
    sort_heap(encoder->keys, kept);
    for (size_t i = 0; i < kept; i++) {
        const size_t place = place_of(encoder->keys[i]);

        encoder->draws[i] = encoder->drawn[place];
        encoder->drawn[place] = 0;
    }
    return kept;
}

/* The mass that is not kept. */
static double sum_tail(struct kd_encoder *encoder, size_t count, size_t kept)
{
    for (size_t i = 0; i < kept; i++)
        encoder->mass[place_of(encoder->keys[i])] = 0;
    return total(encoder->mass, count);
}

/* -- rows ------------------------------------------------------------------- */

static enum kd_status fail_value(const struct kd_rows *rows, size_t row,
                                 const struct source *from)
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
                                  struct source *from)
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
    *from =
        (struct source){encoder->sorted, encoder->classes, count, (double)log_rest, 0};
    return sort_classes(encoder, rows, row);
}

static enum kd_status take_row(struct kd_encoder *encoder, const struct kd_rows *rows,
                               size_t row, struct source *from)
{
    enum kd_status status = KD_EBUG;
    const size_t classes = encoder->identity->num_classes;

    *from = (struct source){rows->scaled + row * classes, NULL, classes,
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

/* The classes to keep, into encoder->keys; returns how many. */
static size_t choose(struct kd_encoder *encoder, const struct source *from,
                     double whole, uint64_t id, uint32_t view)
{
    const struct kd_codec *codec = &encoder->identity->codec;

    switch (codec->encoding) {
    case KD_TOP_K:
        select_top(from, codec->k, encoder->keys);
        return codec->k;
    case KD_TOP_P:
        return keep_top_p(encoder, from, whole);
    case KD_SAMPLED:
        return keep_sampled(encoder, from, id, view);
    case KD_DENSE:
        break;
    }
    return from->count;
}

/* The normaliser and the tail at the further temperatures. */
static void encode_also(struct kd_encoder *encoder, const struct source *from,
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
    struct source from;

    KD_TRY(take_row(encoder, rows, row, &from));
    /* The rest of a sparse row may weigh more than any class that it names. */
    const double top = (double)from.top;
    const double pivot = from.log_rest > top ? from.log_rest : top;
    const double rest = exp(from.log_rest - pivot);
    const double whole =
        exponentials(from.values, from.count, pivot, 1, encoder->mass) + rest;

    *to = (struct kd_encoded){
        .size = choose(encoder, &from, whole, rows->id[row], rows->view[row]),
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
            part[j] = scaled != NULL ? scaled[i + j] : value_of(encoded->keys[i + j]);
        for (size_t j = 0; j < n; j++)
            part[j] = part[j] - top < least ? least : part[j] - top;
        pack(part, n, dtype, (char *)to + i * width);
    }
}

void kd_encoded_index(const struct kd_encoded *encoded, enum kd_type type, void *to)
{
    for (size_t i = 0; i < encoded->size; i++) {
        const size_t place = place_of(encoded->keys[i]);
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
