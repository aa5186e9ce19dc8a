/* SPDX-License-Identifier: MIT */
/*
 * Random numbers by counter. Only IEEE arithmetic and square roots are used, no
 * logarithm or cosine of a C library, so that normal deviates too have the same
 * bits on every machine.
 */
#include "kd/random.h"

#include <assert.h>
#include <math.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF /* gcc does not contract under -std=c17 */
#endif

/* One step of the generator's ten: two products, high and low halves crossed. */
static void philox_round(uint32_t c[4], const uint32_t k[2])
{
    uint64_t a = UINT64_C(0xD2511F53) * c[0];
    uint64_t b = UINT64_C(0xCD9E8D57) * c[2];
    uint32_t c1 = c[1], c3 = c[3];

    c[0] = (uint32_t)(b >> 32) ^ c1 ^ k[0];
    c[1] = (uint32_t)b;
    c[2] = (uint32_t)(a >> 32) ^ c3 ^ k[1];
    c[3] = (uint32_t)a;
}

void kd_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
    uint32_t k[2] = {key[0], key[1]};

    for (int i = 0; i < 10; i++) {
        philox_round(c, k);
        k[0] += UINT32_C(0x9E3779B9);
        k[1] += UINT32_C(0xBB67AE85);
    }
    for (int i = 0; i < 4; i++)
        out[i] = c[i];
}

/* A bijection that scatters near numbers (the finalizer of SplitMix64). */
static uint64_t scatter(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

struct kd_random kd_random_at(uint64_t seed, enum kd_random_purpose purpose,
                              uint64_t id, uint32_t view)
{
    uint64_t key = scatter(scatter(seed) + (uint64_t)purpose);

    return (struct kd_random){
        .key = {(uint32_t)key, (uint32_t)(key >> 32)},
        .counter = {0, view, (uint32_t)id, (uint32_t)(id >> 32)},
    };
}

uint32_t kd_random_u32(struct kd_random *r)
{
    if (r->left == 0) {
        kd_philox(r->counter, r->key, r->block);
        r->counter[0]++;
        r->left = 4;
    }
    return r->block[4 - r->left--];
}

uint32_t kd_random_below(struct kd_random *r, uint32_t n)
{
    assert(n > 0);
    uint64_t product = (uint64_t)kd_random_u32(r) * n;

    if ((uint32_t)product < n) {
        uint32_t least = (uint32_t)-n % n; /* 2^32 mod n */
        while ((uint32_t)product < least)
            product = (uint64_t)kd_random_u32(r) * n;
    }
    return (uint32_t)(product >> 32);
}

double kd_random_unit(struct kd_random *r)
{
    uint32_t high = kd_random_u32(r) >> 5; /* 27 bits */
    uint32_t low = kd_random_u32(r) >> 6;  /* 26 bits */

    return (high * 0x1p26 + low) * 0x1p-53;
}

double kd_random_between(struct kd_random *r, double low, double high)
{
    double value = low + (high - low) * kd_random_unit(r);

    /* The sum may round up to the bound that is not included. */
    return value < high ? value : nextafter(high, low);
}

/* ln x for x > 0: a power of two, and 2 atanh((m-1)/(m+1)) of the rest. */
static double natural_log(double x)
{
    int exponent = 0;
    double m = frexp(x, &exponent), sum = 0;

    if (m < 0x1.6a09e667f3bcdp-1) { /* the root of 1/2: keeps |t| under 0.172 */
        m *= 2;
        exponent--;
    }
    double t = (m - 1) / (m + 1), t2 = t * t;
    for (int k = 23; k >= 1; k -= 2)
        sum = sum * t2 + 1.0 / k;
    return 2 * t * sum + exponent * 0x1.62e42fefa39efp-1;
}

/* cos(2 pi u) for u in [0, 1]: folded into an octant, then Taylor's series. */
static double cosine_of_turns(double u)
{
    double x = u < 0.5 ? u : 1 - u;
    double sign = x <= 0.25 ? 1 : -1;
    double sum = 1;

    if (x > 0.25)
        x = 0.5 - x;
    int odd = x > 0.125; /* the sine of the complement */
    double a = (odd ? 0.25 - x : x) * 0x1.921fb54442d18p+2, a2 = a * a;
    for (int k = 18 + odd; k >= 2; k -= 2)
        sum = 1 - sum * a2 / (k * (k - 1));
    return sign * (odd ? a * sum : sum);
}

double kd_random_normal(struct kd_random *r)
{
    double radius = sqrt(-2 * natural_log(1 - kd_random_unit(r)));

    return radius * cosine_of_turns(kd_random_unit(r));
}

/* e^x for |x| <= 700: a power of two, and Taylor's series of the rest. */
static double exponential(double x)
{
    double turns = floor(x * 0x1.71547652b82fep+0 + 0.5); /* x / ln 2 */
    double rest = x - turns * 0x1.62e42fefa39efp-1, sum = 1;

    for (int k = 16; k >= 1; k--)
        sum = 1 + sum * rest / k;
    return ldexp(sum, (int)turns);
}

/* The logarithm of a gamma deviate of shape `a`; below 1 it is one of shape a + 1 times
 * u^(1/a). */
static double log_gamma_deviate(struct kd_random *r, double a)
{
    double boost = a < 1 ? natural_log(1 - kd_random_unit(r)) / a : 0;
    double d = (a < 1 ? a + 1 : a) - 1.0 / 3, c = 1 / sqrt(9 * d);

    for (;;) {
        double x = kd_random_normal(r), v = 1 + c * x;
        if (v <= 0)
            continue;
        double log_v = 3 * natural_log(v), log_u = natural_log(1 - kd_random_unit(r));
        if (log_u < x * x / 2 + d - d * (v * v * v) + d * log_v)
            return natural_log(d) + log_v + boost;
    }
}

double kd_random_beta(struct kd_random *r, double a, double b)
{
    double x = log_gamma_deviate(r, a), y = log_gamma_deviate(r, b);

    if (y - x > 700)
        return 0;
    return x - y > 700 ? 1 : 1 / (1 + exponential(y - x));
}

void kd_random_permutation(uint64_t seed, uint64_t epoch, uint32_t *order, uint32_t n)
{
    struct kd_random r = kd_random_at(seed, KD_RANDOM_SHUFFLE, epoch, 0);

    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = kd_random_below(&r, i);
        uint32_t last = order[i - 1];
        order[i - 1] = order[j];
        order[j] = last;
    }
}
