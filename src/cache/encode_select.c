/* SPDX-License-Identifier: MIT */
/* Which classes of a row are kept: the most probable ones, as many as reach a mass, or
 * those that are drawn. */
#include "cache/encode_select_internal.h"

#include "kd/random.h"

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
static void select_top(const struct kd_encode_source *from, size_t count,
                       uint64_t *keys)
{
    float least = 0;

    for (size_t i = 0; i < count; i++)
        keys[i] = key_of(from->values[i], i);
    make_heap(keys, count);
    least = kd_key_value(keys[0]);
    for (size_t i = count; i < from->count; i++) {
        if (!(from->values[i] > least)) /* equal ones come later: they lose */
            continue;
        keys[0] = key_of(from->values[i], i);
        sift(keys, count, 0);
        least = kd_key_value(keys[0]);
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
        sum += encoder->mass[kd_key_place(encoder->keys[i++])];
    return sum < mass ? count + 1 : i;
}

/* Most rows reach the mass with few classes, so few are looked for at first. */
static size_t keep_top_p(struct kd_encoder *encoder,
                         const struct kd_encode_source *from, double whole)
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
static size_t keep_sampled(struct kd_encoder *encoder,
                           const struct kd_encode_source *from, uint64_t id,
                           uint32_t view)
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
        const size_t place = kd_key_place(encoder->keys[i]);

        encoder->draws[i] = encoder->drawn[place];
        encoder->drawn[place] = 0;
    }
    return kept;
}

size_t kd_encode_choose(struct kd_encoder *encoder, const struct kd_encode_source *from,
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
