/* SPDX-License-Identifier: MIT */
/*
 * Half precision and bfloat16. The plain C of halves does what the F16C instructions
 * do, to the bit: rounding to nearest even, and NaNs made quiet with their upper
 * payload kept.
 */
#include "kd/half.h"

#include "kd/vector.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#define HAVE_F16C 1
#include <cpuid.h>
#include <immintrin.h>
#else
#define HAVE_F16C 0
#endif

static uint32_t bits_of(float value)
{
    uint32_t bits = 0;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value = 0;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* bits * 2^-shift, rounded to nearest even; 0 < shift < 32. */
static uint32_t shift_rounding(uint32_t bits, uint32_t shift)
{
    uint32_t odd = bits >> shift & 1;

    return (bits + (UINT32_C(1) << (shift - 1)) - 1 + odd) >> shift;
}

uint16_t kd_half_from_float_one(float value)
{
    uint32_t all = bits_of(value);
    uint32_t sign = all >> 16 & 0x8000;
    uint32_t u = all & 0x7fffffff;
    uint32_t half = 0;

    if (u > 0x7f800000) /* NaN */
        half = 0x7e00 | (u >> 13 & 0x3ff);
    else if (u >= 0x47800000) /* 2^16 and more */
        half = 0x7c00;
    else if (u >= 0x38800000) /* 2^-14 and more: normal; may round up to infinity */
        half = shift_rounding(u - 0x38000000, 13);
    else if (u >= 0x33000000) /* 2^-25 and more: subnormal */
        half = shift_rounding((u & 0x7fffff) | 0x800000, 126 - (u >> 23));
    return (uint16_t)(sign | half);
}

float kd_half_to_float_one(uint16_t value)
{
    uint32_t sign = (uint32_t)(value & 0x8000) << 16;
    uint32_t exponent = value >> 10 & 0x1f;
    uint32_t fraction = value & 0x3ff;

    if (exponent == 31) {
        uint32_t quiet = fraction != 0 ? 0x400000 : 0;
        return float_of(sign | 0x7f800000 | quiet | fraction << 13);
    }
    if (exponent == 0) /* zero and subnormals, exact in a float */
        return float_of(sign | bits_of((float)fraction * 0x1p-24F));
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

#if HAVE_F16C

__attribute__((target("avx,f16c"))) static void from_float_f16c(const float *from,
                                                                uint16_t *to, size_t n)
{
    size_t i = 0;

    for (; n - i >= 8; i += 8)
        _mm_storeu_si128(
            (__m128i *)(void *)&to[i],
            _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        to[i] = _cvtss_sh(from[i], _MM_FROUND_TO_NEAREST_INT);
}

__attribute__((target("avx,f16c"))) static void to_float_f16c(const uint16_t *from,
                                                              float *to, size_t n)
{
    size_t i = 0;

    for (; n - i >= 8; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(
                                     (const __m128i *)(const void *)&from[i])));
    for (; i < n; i++)
        to[i] = _cvtsh_ss(from[i]);
}

/* Asked once: the instruction is slow under a hypervisor. That the system keeps
 * the wide registers is part of "avx". */
static bool have_f16c(void)
{
    static atomic_int answer; /* 0: not asked yet; 1: no; 2: yes */
    unsigned eax, ebx, ecx = 0, edx;

    if (atomic_load(&answer) == 0) {
        bool has = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C) != 0;
        atomic_store(&answer, has && __builtin_cpu_supports("avx") ? 2 : 1);
    }
    return atomic_load(&answer) == 2;
}

#endif

void kd_half_from_float(const float *from, uint16_t *to, size_t n)
{
#if HAVE_F16C
    if (have_f16c()) {
        from_float_f16c(from, to, n);
        return;
    }
#endif
    for (size_t i = 0; i < n; i++)
        to[i] = kd_half_from_float_one(from[i]);
}

void kd_half_to_float(const uint16_t *from, float *to, size_t n)
{
#if HAVE_F16C
    if (have_f16c()) {
        to_float_f16c(from, to, n);
        return;
    }
#endif
    for (size_t i = 0; i < n; i++)
        to[i] = kd_half_to_float_one(from[i]);
}

uint16_t kd_bf16_from_float_one(float value)
{
    uint32_t bits = bits_of(value);
    uint32_t odd = bits >> 16 & 1;

    if ((bits & 0x7fffffff) > 0x7f800000) /* NaN */
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + odd) >> 16);
}

float kd_bf16_to_float_one(uint16_t value)
{
    uint32_t quiet = (value & 0x7fff) > 0x7f80 ? 0x400000 : 0;

    return float_of((uint32_t)value << 16 | quiet);
}

KD_VECTOR void kd_bf16_from_float(const float *from, uint16_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = kd_bf16_from_float_one(from[i]);
}

KD_VECTOR void kd_bf16_to_float(const uint16_t *from, float *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = kd_bf16_to_float_one(from[i]);
}
