/* SPDX-License-Identifier: MIT */
/*
 * Loops for wide vector instructions, on any x86-64: KD_VECTOR before a function asks
 * for one version of it for AVX-512, one for AVX2 and one for SSE2; the loader picks.
 *
 *     KD_VECTOR static void exponentials(const float *x, size_t n, float *y)
 *     {
 *         for (size_t i = 0; i < n; i++)
 *             y[i] = kd_vector_exp(x[i]);
 *     }
 *
 * Their results are the same to the bit, since nothing is contracted or reordered; so
 * they do not depend on where in a loop a value stands.
 */
#ifndef KD_VECTOR_H
#define KD_VECTOR_H

#include <float.h>
#include <stdint.h>
#include <string.h>

/* The loaders that pick a version run before the sanitizers are up. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                 \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define KD_VECTOR                                                                      \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define KD_VECTOR
#endif

/* For functions of one value that KD_VECTOR's loops are made of. */
#define KD_VECTOR_INLINE static inline __attribute__((always_inline))

/* e^x to within 1 unit in the last place. 0 below -86, where results would become
 * denormal and slow; infinity where e^x is above FLT_MAX; NaN for NaN. Reduction and
 * polynomial: Moshier, Cephes library, expf. */
KD_VECTOR_INLINE float kd_vector_exp(float x)
{
    const float round = 12582912.0F; /* 1.5 * 2^23: adding it drops the fraction */
    const float low = x < -86.0F ? -86.0F : x, y = low > 89.0F ? 89.0F : low;
    const float shifted = y * 1.44269504F + round, n = shifted - round;
    const float r = (y - n * 0.693359375F) - n * -2.12194440e-4F;
    float p = 1.9875691500e-4F, power;
    uint32_t bits;

    p = p * r + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits - (0x4b400000U - 126U)) << 23; /* of 2^(n-1): n may be 128 */
    memcpy(&power, &bits, sizeof power);
    p = (p * r * r + r + 1.0F) * power * 2.0F;
    return x < -86.0F ? 0.0F : p;
}

/* ln x to within 1 unit in the last place; that of FLT_MIN for what is less, so that it
 * is always finite; NaN for NaN and infinity. Source: the same, logf. */
KD_VECTOR_INLINE float kd_vector_log(float x)
{
    const float y = x < FLT_MIN ? FLT_MIN : x;
    float m, e, p = 7.0376836292e-2F;
    uint32_t bits;
    int32_t exponent;

    memcpy(&bits, &y, sizeof bits);
    exponent = (int32_t)(bits - 0x3f3504f3U) >> 23; /* m is in [sqrt 1/2, sqrt 2) */
    bits -= (uint32_t)exponent << 23;
    memcpy(&m, &bits, sizeof m);
    m -= 1.0F;
    e = (float)exponent;
    p = p * m - 1.1514610310e-1F;
    p = p * m + 1.1676998740e-1F;
    p = p * m - 1.2420140846e-1F;
    p = p * m + 1.4249322787e-1F;
    p = p * m - 1.6668057665e-1F;
    p = p * m + 2.0000714765e-1F;
    p = p * m - 2.4999993993e-1F;
    p = p * m + 3.3333331174e-1F;
    p = p * m * m * m + e * -2.12194440e-4F - 0.5F * m * m;
    return (m + p) + e * 0.693359375F + (x - x);
}

#endif
