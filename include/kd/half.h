/* SPDX-License-Identifier: MIT */
/*
 * Numbers of 16 bits, in arrays of uint16_t, rounded to nearest even.
 *
 * Half precision is IEEE 754's binary16: F16C where the processor has it, the same
 * bits in plain C elsewhere. bfloat16 is the upper half of a float32: its range, with
 * 8 bits of precision instead of 24. Both are checked over all 65,536 patterns and
 * every rounding case in tests/unit.
 */
#ifndef KD_HALF_H
#define KD_HALF_H

#include <stddef.h>
#include <stdint.h>

/* Finite values beyond +-65504 become infinities, as IEEE says; who must keep
 * them finite clamps first. */
void kd_half_from_float(const float *from, uint16_t *to, size_t n);
void kd_half_to_float(const uint16_t *from, float *to, size_t n);

/* The plain C versions, kept as the tests' reference. */
uint16_t kd_half_from_float_one(float value);
float kd_half_to_float_one(uint16_t value);

#define KD_HALF_MAX 65504.0F

/* The same for bfloat16; finite values beyond +-KD_BF16_MAX round to it or to
 * infinity. NaNs are made quiet, with their upper payload kept. */
void kd_bf16_from_float(const float *from, uint16_t *to, size_t n);
void kd_bf16_to_float(const uint16_t *from, float *to, size_t n);
uint16_t kd_bf16_from_float_one(float value);
float kd_bf16_to_float_one(uint16_t value);

#define KD_BF16_MAX 0x1.fep127F

#endif
