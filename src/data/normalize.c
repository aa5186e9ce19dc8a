/* SPDX-License-Identifier: MIT */
/*
 * Normalisation: means and deviations of a dataset, with the same bits for every
 * number of threads, and applying them.
 */
#include "kd/dataset.h"

#include "kd/memory.h"
#include "kd/thread.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF /* gcc does not contract under -std=c17 */
#endif

#define BLOCK 256 /* samples whose moments are summed up in one go */

/* Channels are measured one by one, or together where there are too many. */
struct layout {
    size_t channels, plane; /* elements of a channel in a sample */
};

static struct layout layout_of(struct kd_shape shape)
{
    size_t size = kd_shape_size(shape);

    if (shape.channels > KD_MAX_CHANNELS)
        return (struct layout){1, size};
    return (struct layout){shape.channels, shape.height * shape.width};
}

/* Number, mean and sum of squared deviations from the mean. */
struct moments {
    double count, mean, square;
};

/* Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing
 * sample variances", 1979. */
static void join_moments(struct moments *a, const struct moments *b)
{
    double count = a->count + b->count, delta = b->mean - a->mean;

    if (count == 0)
        return;
    a->mean += delta * (b->count / count);
    a->square += b->square + delta * delta * (a->count * b->count / count);
    a->count = count;
}

static struct moments moments_of_floats(const float *x, size_t count)
{
    struct moments m = {.count = (double)count};
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += (double)x[i];
    m.mean = sum / m.count;
    for (size_t i = 0; i < count; i++)
        m.square += ((double)x[i] - m.mean) * ((double)x[i] - m.mean);
    return m;
}

/* Moments of a histogram: the counts are exact, whatever the order. */
static struct moments moments_of_counts(const uint64_t counts[256])
{
    struct moments m = {.count = 0};
    double sum = 0;

    for (int v = 0; v < 256; v++) {
        m.count += (double)counts[v];
        sum += (double)counts[v] * v;
    }
    m.mean = sum / m.count;
    for (int v = 0; v < 256; v++)
        m.square += (double)counts[v] * (v - m.mean) * (v - m.mean);
    return m;
}

struct measuring {
    const struct kd_dataset *data;
    const struct kd_dataset_facts *facts;
    struct layout layout;
    uint64_t (*counts)[256]; /* [channels], uint8 */
    struct moments *blocks;  /* [blocks][channels], float32 */
};

static void count_sample(const struct layout *layout, const uint8_t *pixels,
                         uint64_t (*counts)[256])
{
    for (size_t c = 0; c < layout->channels; c++)
        for (size_t i = 0; i < layout->plane; i++)
            counts[c][pixels[c * layout->plane + i]]++;
}

static enum kd_status count_range(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    const struct measuring *m = context;
    size_t cells = m->layout.channels * 256;
    uint64_t(*counts)[256] = NULL;
    uint8_t *pixels = NULL;

    KD_TRY(KD_NEW(pixels, kd_shape_size(m->facts->shape)));
    KD_TRY(KD_NEW(counts, m->layout.channels));
    for (size_t i = begin; i < end; i++) {
        KD_TRY(kd_dataset_read(m->data, m->facts->first + i, pixels, NULL));
        count_sample(&m->layout, pixels, counts);
    }
#pragma omp critical(kd_normalize_counts)
    for (size_t i = 0; i < cells; i++)
        m->counts[i / 256][i % 256] += counts[i / 256][i % 256];
    status = KD_OK;
out:
    free(pixels);
    free(counts);
    return status;
}

/* A block's moments: its samples in order, whoever does it. */
static enum kd_status measure_block(const struct measuring *m, size_t block,
                                    float *pixels)
{
    uint64_t first = m->facts->first + (uint64_t)block * BLOCK;
    struct moments *moments = m->blocks + block * m->layout.channels;

    for (uint64_t id = first; id < first + BLOCK && id < m->facts->end; id++) {
        enum kd_status status = kd_dataset_read(m->data, id, pixels, NULL);
        if (status != KD_OK)
            return status;
        for (size_t c = 0; c < m->layout.channels; c++) {
            struct moments one =
                moments_of_floats(pixels + c * m->layout.plane, m->layout.plane);
            join_moments(&moments[c], &one);
        }
    }
    return KD_OK;
}

static enum kd_status measure_blocks(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    const struct measuring *m = context;
    float *pixels = NULL;

    KD_TRY(KD_NEW(pixels, kd_shape_size(m->facts->shape)));
    for (size_t block = begin; block < end; block++)
        KD_TRY(measure_block(m, block, pixels));
    status = KD_OK;
out:
    free(pixels);
    return status;
}

static enum kd_status measure_bytes(struct measuring *m, struct moments *moments)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(KD_NEW(m->counts, m->layout.channels));
    KD_TRY(kd_parallel((size_t)(m->facts->end - m->facts->first), 64, count_range, m));
    for (size_t c = 0; c < m->layout.channels; c++)
        moments[c] = moments_of_counts(m->counts[c]);
    status = KD_OK;
out:
    free(m->counts);
    return status;
}

static enum kd_status measure_floats(struct measuring *m, struct moments *moments)
{
    enum kd_status status = KD_EBUG;
    size_t samples = (size_t)(m->facts->end - m->facts->first);
    size_t blocks = samples / BLOCK + (samples % BLOCK != 0);

    KD_TRY(KD_NEW(m->blocks, blocks * m->layout.channels));
    KD_TRY(kd_parallel(blocks, 1, measure_blocks, m));
    for (size_t i = 0; i < blocks * m->layout.channels; i++)
        join_moments(&moments[i % m->layout.channels], &m->blocks[i]);
    status = KD_OK;
out:
    free(m->blocks);
    return status;
}

enum kd_status kd_normalize_measure(const struct kd_dataset *data,
                                    struct kd_normalize *normalize)
{
    enum kd_status status = KD_EBUG;
    const struct kd_dataset_facts *facts = kd_dataset_facts(data);
    struct measuring m = {data, facts, layout_of(facts->shape), NULL, NULL};
    struct moments moments[KD_MAX_CHANNELS] = {{.count = 0}};
    double scale = facts->type == KD_U8 ? 255 : 1;

    *normalize = (struct kd_normalize){.count = 0};
    if (facts->type == KD_U8)
        KD_TRY(measure_bytes(&m, moments));
    else
        KD_TRY(measure_floats(&m, moments));
    normalize->count = m.layout.channels;
    for (size_t c = 0; c < normalize->count; c++) {
        double deviation = sqrt(moments[c].square / moments[c].count) / scale;
        normalize->mean[c] = moments[c].mean / scale;
        normalize->deviation[c] = deviation > 0 ? deviation : 1;
    }
    status = KD_OK;
out:
    return status;
}

/* to[i] = (from[i] - shift) * factor */
static void apply_plane(enum kd_type type, const void *from, float *to, size_t count,
                        float shift, float factor)
{
    const uint8_t *bytes = from;
    const float *floats = from;

    if (type == KD_U8)
        for (size_t i = 0; i < count; i++)
            to[i] = ((float)bytes[i] - shift) * factor;
    else
        for (size_t i = 0; i < count; i++)
            to[i] = (floats[i] - shift) * factor;
}

void kd_normalize_apply(const struct kd_normalize *normalize, struct kd_shape shape,
                        enum kd_type type, const void *pixels, float *input)
{
    size_t plane = shape.height * shape.width, size = kd_type_size(type);
    size_t count = normalize != NULL ? normalize->count : 0;
    double scale = type == KD_U8 ? 255 : 1;

    for (size_t c = 0; c < shape.channels; c++) {
        size_t which = count == shape.channels ? c : 0;
        double mean = count > 0 ? normalize->mean[which] : 0;
        double deviation = count > 0 ? normalize->deviation[which] : 1;
        apply_plane(type, (const uint8_t *)pixels + c * plane * size, input + c * plane,
                    plane, (float)(mean * scale), (float)(1 / (deviation * scale)));
    }
}
