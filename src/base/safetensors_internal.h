/* SPDX-License-Identifier: MIT */
/* What reading and writing .safetensors share. */
#ifndef KD_SAFETENSORS_INTERNAL_H
#define KD_SAFETENSORS_INTERNAL_H

#include "kd/safetensors.h"

#define KD_SAFETENSORS_PREFIX   8         /* bytes of the header's length */
#define KD_SAFETENSORS_LIMIT    100000000 /* the most bytes of a header */
#define KD_SAFETENSORS_METADATA "__metadata__"

/* The format's names of the element types. */
extern const char *const kd_safetensors_types[KD_TYPE_COUNT];

#endif
