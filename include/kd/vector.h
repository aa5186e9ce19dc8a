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
 * A loop is best a function of its own, with its length an argument: what is nested, or
 * of a length that it knows, the compiler may unroll before it looks for vectors.
 *
 * Their results are the same to the bit, since nothing is contracted or reordered; so
 * they do not depend on where in a loop a value stands.
 */
#ifndef KD_VECTOR_H
#define KD_VECTOR_H

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

/* The bits of a float, and the float of bits. */
KD_VECTOR_INLINE uint32_t kd_vector_bits(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

KD_VECTOR_INLINE float kd_vector_float(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* All ones if a condition holds, else 0. A choice that is made by such masks, and not
 * by ?:, does not become a branch, which would keep a loop from becoming vectors. */
#define KD_VECTOR_MASK(condition) (0U - (uint32_t)(condition))

/* e^x to within 1 unit in the last place. 0 below -86, where results would become
 * denormal and slow; infinity where e^x is above FLT_MAX; NaN for NaN. Reduction and
 * polynomial: Moshier, Cephes library, expf. */
KD_VECTOR_INLINE float kd_vector_exp(float x)
{
    const uint32_t low = KD_VECTOR_MASK(x < -86.0F), high = KD_VECTOR_MASK(x > 89.0F);
    const float round = 12582912.0F; /* 1.5 * 2^23: adding it drops the fraction */
    const float shifted = x * 1.44269504F + round, n = shifted - round;
    const float r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
    /* times 2^(n-1), for n may be 128, and 2 */
    const uint32_t power = (kd_vector_bits(shifted) - (0x4b400000U - 126U)) << 23;
    float p = 1.9875691500e-4F;

    p = p * r + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = (p * r * r + r + 1.0F) * kd_vector_float(power) * 2.0F;
    return kd_vector_float((kd_vector_bits(p) & ~(low | high)) | (0x7f800000U & high));
}

/* ln x to within 1 unit in the last place for x from FLT_MIN to FLT_MAX; from -88.03 to
 * -87.33 for what is less, down to 0, so that it is finite; without meaning below 0;
 * NaN for NaN and infinity. Source: the same, logf. */
KD_VECTOR_INLINE float kd_vector_log(float x)
{
    const uint32_t bits = kd_vector_bits(x);
    const int32_t exponent = (int32_t)(bits - 0x3f3504f3U) >> 23;
    const float m = kd_vector_float(bits - ((uint32_t)exponent << 23)) - 1.0F;
    const float e = (float)exponent;
    float p = 7.0376836292e-2F;

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

/* The same for doubles. */
KD_VECTOR_INLINE uint64_t kd_vector_bits64(double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

KD_VECTOR_INLINE double kd_vector_double(uint64_t bits)
{
    double x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* e^x for x <= 0 to within 2 units in the last place; 0 below -708, where results would
 * be denormal. x = n ln 2 + r (ln 2 in two parts, as in fdlibm), and the series of e^r
 * up to r^13/13!, which leaves 4e-18. */
KD_VECTOR_INLINE double kd_vector_exp64(double x)
{
    const double round = 0x1.8p52; /* adding it drops the fraction */
    const double y = x < -708 ? -708 : x;
    const double shifted = y * 0x1.71547652b82fep0 + round, n = shifted - round;
    const double r = (y - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
    double p = 1.0 / 6227020800;

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
    /* n, onto the exponent */
    p = kd_vector_double(kd_vector_bits64(p) + (kd_vector_bits64(shifted) << 52));
    return x < -708 ? 0 : p;
}

/* ln x for x from DBL_MIN to DBL_MAX, to some 1e-15 of what is greater, it or 1; finite
 * for 0. With x = 2^e m, m from sqrt(1/2) to sqrt(2), it is e ln 2 +
 * 2 artanh((m - 1)/(m + 1)), whose series in s^2 <= 0.0295 is cut off below 1e-16. */
KD_VECTOR_INLINE double kd_vector_log64(double x)
{
    const uint64_t one = UINT64_C(0x3ff0000000000000);
    const uint64_t half_root = UINT64_C(0x3fe6a09e667f3bcd);
    const uint64_t two_to_52 = UINT64_C(0x4330000000000000);
    const uint64_t biased =
        (kd_vector_bits64(x) + (one - half_root)) >> 52; /* e + 1023 */
    const double e =
        kd_vector_double(biased | two_to_52) - (4503599627370496.0 + 1023.0);
    const double m = kd_vector_double(kd_vector_bits64(x) + one - (biased << 52));
    const double s = (m - 1) / (m + 1), ss = s * s;
    double series = 1.0 / 19;

    series = series * ss + 1.0 / 17;
    series = series * ss + 1.0 / 15;
    series = series * ss + 1.0 / 13;
    series = series * ss + 1.0 / 11;
    series = series * ss + 1.0 / 9;
    series = series * ss + 1.0 / 7;
    series = series * ss + 1.0 / 5;
    series = series * ss + 1.0 / 3;
    series = series * ss + 1.0;
    return e * 0.693147180559945309 + 2 * s * series;
}

#endif
