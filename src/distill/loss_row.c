/* SPDX-License-Identifier: MIT */
/*
 * One row of a loss. Each loop runs over blocks of 16 classes, with 16 partial sums, so
 * that the compiler makes vectors of them.
 */
#include "distill/loss_internal.h"

#include "kd/vector.h"

#include <math.h>
#include <string.h>

#define LANES 16
#define TINY  2e-38F /* a probability that may have been rounded to 0; not denormal */

/* A float and its bits, of which bounds and choices are taken here: of comparisons of
 * floats the compiler makes branches, and no vectors of loops with branches. */
union bits {
    float value;
    int32_t bits;
};

/* log x; that of TINY for what is less. */
KD_VECTOR_INLINE float log_of(float x)
{
    const union bits tiny = {.value = TINY}, any = {.value = x};
    const union bits whole = {.bits = any.bits > tiny.bits ? any.bits : tiny.bits};

    return kd_vector_log(whole.value);
}

/* `yes` where q has a minus, as the -1 of a class of the bucket, else `no`. */
KD_VECTOR_INLINE float choose(float q, float yes, float no)
{
    const union bits sign = {.value = q}, a = {.value = yes}, b = {.value = no};
    const int32_t mask = sign.bits >> 31;
    const union bits chosen = {.bits = (a.bits & mask) | (b.bits & ~mask)};

    return chosen.value;
}

KD_VECTOR_INLINE double sum_lanes(const float lanes[LANES])
{
    double sum = 0;

    for (size_t l = 0; l < LANES; l++)
        sum += (double)lanes[l];
    return sum;
}

KD_VECTOR_INLINE float max_lanes(const float lanes[LANES])
{
    float max = lanes[0];

    for (size_t l = 1; l < LANES; l++)
        max = lanes[l] > max ? lanes[l] : max;
    return max;
}

/* Calls block(..., n) for every LANES classes, and for the rest: where n is a constant,
 * the block becomes vectors. */
#define BLOCKS(classes, call)                                                          \
    do {                                                                               \
        size_t at = 0;                                                                 \
        for (; at + LANES <= (classes); at += LANES) {                                 \
            enum { n = LANES };                                                        \
            call;                                                                      \
        }                                                                              \
        if (at < (classes)) {                                                          \
            const size_t n = (classes)-at;                                             \
            call;                                                                      \
        }                                                                              \
    } while (0)

/* -- what is known of the logits before any exp ------------------------------ */

struct scan {
    float max, bucket_max; /* -inf: there is no bucket */
    double mean;
    bool finite;
};

struct scan_lanes {
    float max[LANES], bucket[LANES], sum[LANES], bad[LANES];
};

KD_VECTOR_INLINE void scan_block(struct scan_lanes *s, const float *z, const float *q,
                                 size_t n)
{
    for (size_t l = 0; l < n; l++) {
        s->max[l] = z[l] > s->max[l] ? z[l] : s->max[l];
        s->sum[l] += z[l];
        s->bad[l] += z[l] * 0.0F; /* NaN for what is not finite */
    }
    for (size_t l = 0; q != NULL && l < n; l++) {
        const float in = choose(q[l], z[l], -INFINITY);
        s->bucket[l] = in > s->bucket[l] ? in : s->bucket[l];
    }
}

KD_VECTOR static void scan_row(const float *z, const float *q, size_t classes,
                               struct scan *scan)
{
    struct scan_lanes s = {0};

    for (size_t l = 0; l < LANES; l++)
        s.max[l] = s.bucket[l] = -INFINITY;
    if (q != NULL)
        BLOCKS(classes, scan_block(&s, z + at, q + at, n));
    else
        BLOCKS(classes, scan_block(&s, z + at, NULL, n));
    scan->max = max_lanes(s.max);
    scan->bucket_max = max_lanes(s.bucket);
    scan->mean = sum_lanes(s.sum) / (double)classes;
    scan->finite = sum_lanes(s.bad) == 0;
}

/* -- exponentials ------------------------------------------------------------ */

/* A softmax on its way: e[c] = exp((z[c] - max) / T), for classes of the bucket with
 * the bucket's own maximum, so that p_c / p_B is exact however small p_B is. */
struct softmax {
    float *e;            /* [classes] */
    double kept, bucket; /* sums of e */
    double lift;         /* what the bucket's are to be multiplied by */
    double log_lift;
    double total; /* kept + lift * bucket */
};

KD_VECTOR_INLINE void exp_block(const float *z, float max, float inverse, float *e,
                                float sum[LANES], size_t n)
{
    for (size_t l = 0; l < n; l++) {
        e[l] = kd_vector_exp((z[l] - max) * inverse);
        sum[l] += e[l];
    }
}

KD_VECTOR_INLINE void bucket_block(const float *z, const float *q, float max,
                                   float bucket_max, float inverse, float *e,
                                   float kept[LANES], float bucket[LANES], size_t n)
{
    for (size_t l = 0; l < n; l++) {
        e[l] = kd_vector_exp((z[l] - choose(q[l], bucket_max, max)) * inverse);
        kept[l] += choose(q[l], 0.0F, e[l]);
        bucket[l] += choose(q[l], e[l], 0.0F);
    }
}

KD_VECTOR static void soften(const struct kd_loss_row *row, const float *q,
                             const struct scan *scan, double temperature,
                             struct softmax *s)
{
    const float inverse = (float)(1 / temperature), *z = row->z;
    float kept[LANES] = {0}, bucket[LANES] = {0};

    s->log_lift = s->lift = 0;
    if (q != NULL && scan->bucket_max > -INFINITY) {
        BLOCKS(row->classes, bucket_block(z + at, q + at, scan->max, scan->bucket_max,
                                          inverse, s->e + at, kept, bucket, n));
        s->log_lift = ((double)scan->bucket_max - (double)scan->max) / temperature;
        s->lift = exp(s->log_lift);
    } else {
        BLOCKS(row->classes, exp_block(z + at, scan->max, inverse, s->e + at, kept, n));
    }
    s->kept = sum_lanes(kept);
    s->bucket = sum_lanes(bucket);
    s->total = s->kept + s->lift * s->bucket;
}

/* -- the hard part ----------------------------------------------------------- */

KD_VECTOR_INLINE void hard_block(const float *e, float factor, float less, float *g,
                                 size_t n)
{
    for (size_t l = 0; l < n; l++)
        g[l] = factor * e[l] - less;
}

/* Writes the gradient, returns the cross-entropy. */
KD_VECTOR static double hard_part(const struct kd_loss_row *row,
                                  const struct scan *scan, const struct softmax *s)
{
    const double smoothing = row->loss->smoothing, sure = 1 - smoothing;
    const float factor = (float)(row->hard / s->total);
    const float less = (float)(row->hard * smoothing / (double)row->classes);
    double sum = log(s->total);

    BLOCKS(row->classes, hard_block(s->e + at, factor, less, row->g + at, n));
    if (smoothing > 0)
        sum -= smoothing * (scan->mean - (double)scan->max);
    for (size_t i = 0; i < 2 && row->label[i] >= 0; i++) {
        const double share = sure * row->label_share[i];
        sum -= share * ((double)row->z[row->label[i]] - (double)scan->max);
        row->g[row->label[i]] -= (float)(row->hard * share);
    }
    return sum;
}

/* -- the soft part ----------------------------------------------------------- */

/* What each class's part of D and of the gradient is made of. */
struct pulling {
    float max, inverse; /* (z - max) * inverse = z/T, less the maximum */
    float norm;         /* the logarithm of the softmax's total */
    float weight;       /* of the gradient, over T */
    float kept, bucket; /* what e is multiplied by in the gradient */
    float excess;       /* reverse: log(p_B / q_B) */
    float distance;     /* reverse: D */
};

KD_VECTOR_INLINE void forward_block(const struct pulling *p, bool kl, const float *z,
                                    const float *q, const float *e, float *g,
                                    float sum[LANES], size_t n)
{
    for (size_t l = 0; l < n; l++) {
        const float target = choose(q[l], 0.0F, q[l]);
        const float log_q = kl ? log_of(q[l]) : 0.0F;
        const float log_p = (z[l] - p->max) * p->inverse - p->norm;
        g[l] += choose(q[l], p->bucket, p->kept) * e[l] - p->weight * target;
        sum[l] += target * (log_q - log_p);
    }
}

KD_VECTOR_INLINE void sum_block(const float *q, float sum[LANES], size_t n)
{
    for (size_t l = 0; l < n; l++)
        sum[l] += choose(q[l], 0.0F, q[l]);
}

/* log p_B of the student */
static double log_bucket(const struct softmax *s)
{
    return log(s->bucket) + s->log_lift - log(s->total);
}

static double log_mass(double q)
{
    return log(q > (double)TINY ? q : (double)TINY);
}

KD_VECTOR static double forward_part(const struct kd_loss_row *row,
                                     const struct scan *scan, const struct softmax *s)
{
    const double t = row->loss->temperature, weight = row->soft / t;
    const bool kl = row->loss->kind == KD_LOSS_KL;
    const float *z = row->z, *q = row->q;
    float masses[LANES] = {0}, sum[LANES] = {0};

    BLOCKS(row->classes, sum_block(q + at, masses, n));
    const double mass = sum_lanes(masses) + row->tail;
    struct pulling p = {.max = scan->max,
                        .inverse = (float)(1 / t),
                        .norm = (float)log(s->total),
                        .weight = (float)weight,
                        .kept = (float)(weight * mass / s->total)};
    double rest = 0;
    if (s->bucket > 0) {
        p.bucket =
            (float)(weight * (mass * s->lift / s->total - row->tail / s->bucket));
        if (row->tail > 0)
            rest = row->tail * ((kl ? log_mass(row->tail) : 0) - log_bucket(s));
    }
    if (kl)
        BLOCKS(row->classes,
               forward_block(&p, true, z + at, q + at, s->e + at, row->g + at, sum, n));
    else
        BLOCKS(row->classes, forward_block(&p, false, z + at, q + at, s->e + at,
                                           row->g + at, sum, n));
    return sum_lanes(sum) + rest;
}

/* Adds to the gradient or, where that is NULL, to D. */
KD_VECTOR_INLINE void reverse_block(const struct pulling *p, const float *z,
                                    const float *q, const float *e, float *g,
                                    float sum[LANES], size_t n)
{
    for (size_t l = 0; l < n; l++) {
        const float log_p = (z[l] - p->max) * p->inverse - p->norm;
        const float excess = choose(q[l], p->excess, log_p - log_of(q[l]));
        const float share = choose(q[l], p->bucket, p->kept) * e[l];
        if (g != NULL)
            g[l] += p->weight * share * (excess - p->distance);
        else
            sum[l] += share * excess;
    }
}

KD_VECTOR static double reverse_part(const struct kd_loss_row *row,
                                     const struct scan *scan, const struct softmax *s)
{
    const double t = row->loss->temperature;
    const float *z = row->z, *q = row->q;
    float sum[LANES] = {0};
    struct pulling p = {.max = scan->max,
                        .inverse = (float)(1 / t),
                        .norm = (float)log(s->total),
                        .weight = (float)(row->soft / t),
                        .kept = (float)(1 / s->total),
                        .bucket = (float)(s->lift / s->total)};

    if (s->bucket > 0)
        p.excess = (float)(log_bucket(s) - log_mass(row->tail));
    BLOCKS(row->classes, reverse_block(&p, z + at, q + at, s->e + at, NULL, sum, n));
    const double distance = sum_lanes(sum);
    p.distance = (float)distance;
    BLOCKS(row->classes,
           reverse_block(&p, z + at, q + at, s->e + at, row->g + at, sum, n));
    return distance;
}

KD_VECTOR_INLINE void mse_block(const float *z, const float *u, float factor, float *g,
                                float sum[LANES], size_t n)
{
    for (size_t l = 0; l < n; l++) {
        const float d = z[l] - u[l];
        g[l] += factor * d;
        sum[l] += d * d;
    }
}

KD_VECTOR static double mse_part(const struct kd_loss_row *row)
{
    const double classes = (double)row->classes;
    const float factor = (float)(row->soft * 2 / classes);
    float sum[LANES] = {0};

    BLOCKS(row->classes,
           mse_block(row->z + at, row->q + at, factor, row->g + at, sum, n));
    return sum_lanes(sum) / classes;
}

/* -- the row ----------------------------------------------------------------- */

size_t kd_loss_scratch(size_t classes)
{
    return (classes + LANES - 1) / LANES * LANES;
}

void kd_loss_run_row(const struct kd_loss_row *row, struct kd_loss_values *values)
{
    const struct kd_loss *loss = row->loss;
    const bool soft = row->q != NULL, mse = loss->kind == KD_LOSS_MSE;
    struct softmax hard = {.e = row->scratch},
                   warm = {.e = row->scratch + kd_loss_scratch(row->classes)};
    struct scan scan;

    scan_row(row->z, mse ? NULL : row->q, row->classes, &scan);
    memset(row->g, 0, row->classes * sizeof *row->g);
    if (!scan.finite) {
        *values = (struct kd_loss_values){NAN, NAN};
        return;
    }
    if (row->label[0] >= 0) {
        soften(row, NULL, &scan, 1, &hard);
        values->hard = hard_part(row, &scan, &hard);
    }
    if (soft && mse)
        values->soft = mse_part(row);
    if (!soft || mse)
        return;
    if (loss->temperature == 1 && row->label[0] >= 0 && scan.bucket_max == -INFINITY)
        warm = hard; /* the same numbers */
    else
        soften(row, row->q, &scan, loss->temperature, &warm);
    if (loss->kind == KD_LOSS_KL && loss->direction == KD_REVERSE)
        values->soft = reverse_part(row, &scan, &warm);
    else
        values->soft = forward_part(row, &scan, &warm);
}
