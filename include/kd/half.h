/* SPDX-License-Identifier: MIT */
/*
 * Half precision: IEEE 754 binary16 in arrays of uint16_t, rounded to nearest
 * even. F16C where the processor has it, the same bits in plain C elsewhere
 * (checked over all 65,536 halves and every rounding case in tests/unit).
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

#endif
