/* SPDX-License-Identifier: MIT */
/* Soft labels out of stored rows: each encoding's own arithmetic. */
#include "kd/soft.h"

#include "cache/cache_internal.h"
#include "cache/shard_read_internal.h"
#include "kd/options.h"
#include "kd/thread.h"
#include "kd/vector.h"

#include <math.h>
#include <string.h>

const char *const kd_tail_names[] = {"spread", "renorm", "bucket", NULL};

/* The temperature among those that rows have a normaliser for. */
#define OWN     (-1) /* the dump's; those that follow are 0 to A-1 */
#define UNKNOWN (-2)

static int find_temperature(const struct kd_identity *identity, double temperature)
{
    double also[KD_MAX_ALSO];
    size_t count = 0;

    if (temperature == identity->temperature)
        return OWN;
    count = kd_codec_also(&identity->codec, also);
    for (size_t a = 0; a < count; a++)
        if (also[a] == temperature)
            return (int)a;
    return UNKNOWN;
}

static enum kd_status fail_tempered(const struct kd_identity *identity, double wanted)
{
    char text[KD_TEXT_F64], own[KD_TEXT_F64];

    kd_text_f64(wanted, text);
    kd_text_f64(identity->temperature, own);
    return kd_fail(
        KD_EDATA,
        "soft labels at temperature %s are wanted, but rows that were merged "
        "as probabilities are good at theirs alone, which is %s: merge the "
        "teachers' logits (mean-logit), or caches made at temperature %s",
        text, own, text);
}

static enum kd_status fail_unknown(const struct kd_identity *identity, double wanted)
{
    const struct kd_codec *codec = &identity->codec;
    char text[KD_TEXT_F64], own[KD_TEXT_F64];

    kd_text_f64(wanted, text);
    kd_text_f64(identity->temperature, own);
    return kd_fail(KD_EDATA,
                   "soft labels at temperature %s are wanted, but these %s rows have "
                   "normalisers for %s%s%s alone: dump them again with "
                   "--also-temperature %s",
                   text, kd_encoding_names[codec->encoding], own,
                   codec->also_temperatures[0] != '\0' ? "," : "",
                   codec->also_temperatures, text);
}

enum kd_status kd_soft_check(const struct kd_identity *identity,
                             const struct kd_soft_spec *spec)
{
    const double t = spec->temperature;

    if (!isfinite(t) || t <= 0)
        return kd_fail(KD_EUSAGE,
                       "the temperature of soft labels is %g: must be above 0", t);
    if (t == identity->temperature)
        return KD_OK;
    if (identity->kind == KD_KIND_MERGED && identity->value_kind == KD_VALUE_LOGPROBS)
        return fail_tempered(identity, t);
    if (kd_codec_is_sparse(&identity->codec) &&
        find_temperature(identity, t) == UNKNOWN)
        return fail_unknown(identity, t);
    return KD_OK;
}

/* A spec, worked out for a cache. */
struct plan {
    enum kd_encoding encoding;
    enum kd_tail tail;
    size_t classes;
    float draws;     /* of sampled rows */
    float scale;     /* T/t: what takes stored values to the wanted temperature */
    int temperature; /* OWN, or which of the further ones; UNKNOWN in dense rows */
};

static struct plan make_plan(const struct kd_identity *identity,
                             const struct kd_soft_spec *spec)
{
    return (struct plan){.encoding = identity->codec.encoding,
                         .tail = spec->tail,
                         .classes = identity->num_classes,
                         .draws = (float)identity->codec.k,
                         .scale = (float)(identity->temperature / spec->temperature),
                         .temperature = find_temperature(identity, spec->temperature)};
}

/* Blocks of so many values; their sums are taken in floats for PART of them, then in
 * double. */
#define LANES 16
#define PART  32

/* x[i] = exp(scale * x[i] - shift), of a block, added to its sums. */
KD_VECTOR_INLINE void exp_block(float x[LANES], float scale, float shift,
                                float sums[LANES])
{
    for (size_t i = 0; i < LANES; i++) {
        x[i] = kd_vector_exp(x[i] * scale - shift);
        sums[i] += x[i];
    }
}

/* p[i] = exp(scale * v[i] - shift); returns the sum. `p` may be `v`. */
KD_VECTOR static double exp_row(const float *v, size_t n, float scale, float shift,
                                float *p)
{
    float x[LANES];
    double total = 0;

    while (n >= LANES) {
        float sums[LANES] = {0};

        for (size_t part = 0; part < PART && n >= LANES; part++) {
            memcpy(x, v, sizeof x);
            exp_block(x, scale, shift, sums);
            memcpy(p, x, sizeof x);
            v += LANES, p += LANES, n -= LANES;
        }
        for (size_t i = 0; i < LANES; i++)
            total += (double)sums[i];
    }
    float rest[LANES] = {0};

    memset(x, 0, sizeof x);
    memcpy(x, v, n * sizeof *x);
    exp_block(x, scale, shift, rest);
    for (size_t i = 0; i < n; i++)
        total += (double)rest[i];
    memcpy(p, x, n * sizeof *x);
    return total;
}

KD_VECTOR static void scale_row(float *p, size_t n, float by)
{
    for (size_t i = 0; i < n; i++)
        p[i] *= by;
}

KD_VECTOR static void fill_row(float *p, size_t n, float value)
{
    for (size_t i = 0; i < n; i++)
        p[i] = value;
}

/* Normalised by its own sum, also where log_z is stored: that is of the values before
 * they were rounded, with which the float16 rows of a ResNet-14 were 180 times further
 * from float32 in divergence (pipelines/encodings.sh). */
static void soften_dense(const struct plan *plan, const struct kd_row *row, float *p)
{
    const double sum = exp_row(row->values, row->size, plan->scale, 0, p);

    scale_row(p, row->size, (float)(1 / sum));
}

#define CLASSES 64 /* that are taken at a time */

/* p[c] = exp(scale * v - shift) for the classes that are kept; returns their sum. */
static double scatter(const struct kd_row *row, float scale, float shift, float *p)
{
    float part[CLASSES];
    double sum = 0;
    size_t n = 0;

    for (size_t i = 0; i < row->size; i += n) {
        n = row->size - i < CLASSES ? row->size - i : CLASSES;
        sum += exp_row(row->values + i, n, scale, shift, part);
        for (size_t j = 0; j < n; j++)
            p[row->index[i + j]] = part[j];
    }
    return sum;
}

/* Top-k and top-p rows. */
static float soften_kept(const struct plan *plan, const struct kd_row *row, float *p)
{
    const bool own = plan->temperature == OWN;
    const float log_z = own ? row->log_z : row->log_z_also[plan->temperature];
    const float tail =
        expf(own ? row->log_tail : row->log_tail_also[plan->temperature]);
    double sum = 0;

    if (plan->tail == KD_TAIL_SPREAD) {
        fill_row(p, plan->classes, tail / (float)(plan->classes - row->size));
        (void)scatter(row, plan->scale, log_z, p);
        return 0;
    }
    if (plan->tail == KD_TAIL_BUCKET) {
        fill_row(p, plan->classes, -1);
        (void)scatter(row, plan->scale, log_z, p);
        return tail;
    }
    fill_row(p, plan->classes, 0);
    sum = scatter(row, plan->scale, 0, p); /* of which (1 - tail) is the normaliser */
    for (size_t i = 0; i < row->size; i++)
        p[row->index[i]] *= (float)(1 / sum);
    return 0;
}

/* Each class c that was drawn: p_c(t) / p_c(T) times its share of the draws. */
static void soften_sampled(const struct plan *plan, const struct kd_row *row, float *p)
{
    fill_row(p, plan->classes, 0);
    if (plan->temperature == OWN) {
        for (size_t i = 0; i < row->size; i++)
            p[row->index[i]] = (float)row->draws[i] / plan->draws;
        return;
    }
    (void)scatter(row, plan->scale - 1, row->log_z_also[plan->temperature] - row->log_z,
                  p);
    for (size_t i = 0; i < row->size; i++)
        p[row->index[i]] *= (float)row->draws[i] / plan->draws;
}

static float soften(const struct plan *plan, const struct kd_row *row, float *p)
{
    if (plan->encoding == KD_TOP_K || plan->encoding == KD_TOP_P)
        return soften_kept(plan, row, p);
    if (plan->encoding == KD_SAMPLED)
        soften_sampled(plan, row, p);
    else
        soften_dense(plan, row, p);
    return 0;
}

float kd_soft_row(const struct kd_identity *identity, const struct kd_soft_spec *spec,
                  const struct kd_row *row, float *p)
{
    const struct plan plan = make_plan(identity, spec);

    return soften(&plan, row, p);
}

/* What the threads read, and the room that each has for sparse rows. */
struct reading {
    struct kd_cache_request request;
    struct plan plan;
    const struct kd_soft *soft;
};
struct reader {
    const struct reading *reading;
    struct kd_row room;
};

static enum kd_status read_one(void *context, size_t i, const struct kd_shard *shard,
                               uint64_t at)
{
    struct reader *reader = context;
    const struct reading *reading = reader->reading;
    const struct kd_soft *soft = reading->soft;
    float *p = soft->p + i * reading->plan.classes, tail = 0;
    enum kd_status status = KD_OK;

    if (soft->found != NULL)
        soft->found[i] = shard != NULL;
    if (shard == NULL)
        return soft->found != NULL ? KD_OK
                                   : kd_cache_fail_missing(&reading->request, i);
    if (reading->plan.encoding == KD_DENSE)
        reader->room.values = p; /* which it is decoded into, and then softened */
    status = kd_shard_row(shard, at, &reader->room);
    if (status == KD_OK)
        tail = soften(&reading->plan, &reader->room, p);
    if (soft->tail != NULL)
        soft->tail[i] = tail;
    return status;
}

static enum kd_status read_range(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    const struct reading *reading = context;
    struct reader reader = {.reading = reading};

    if (reading->plan.encoding == KD_DENSE)
        return kd_cache_walk(&reading->request, begin, end, read_one, &reader);
    KD_TRY(kd_row_new(&reader.room, reading->request.cache->kept, true));
    KD_TRY(kd_cache_walk(&reading->request, begin, end, read_one, &reader));
out:
    kd_row_free(&reader.room);
    return status;
}

enum kd_status kd_soft_read(const struct kd_cache *cache,
                            const struct kd_soft_spec *spec, const uint64_t *ids,
                            const uint32_t *views, size_t count,
                            const struct kd_soft *soft)
{
    const struct kd_identity *identity = kd_cache_identity(cache);
    struct reading reading = {{cache, ids, views}, make_plan(identity, spec), soft};

    /* What a row takes, in nanoseconds: measured; exponentials cost most. */
    const double values = kd_codec_is_sparse(&identity->codec)
                              ? 0.05 * identity->num_classes + 3.0 * (double)cache->kept
                              : 0.6 * identity->num_classes;

    return kd_parallel(count, kd_threads_grain(50 + values), read_range, &reading);
}
