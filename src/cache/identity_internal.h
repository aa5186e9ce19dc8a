/* SPDX-License-Identifier: MIT */
/* An identity as root attributes of a shard. */
#ifndef KD_CACHE_IDENTITY_INTERNAL_H
#define KD_CACHE_IDENTITY_INTERNAL_H

#include "kd/h5.h"
#include "kd/shard.h"

/* Sets every field and `identity_digest`; the identity must have been checked. */
enum kd_status kd_identity_save(const struct kd_identity *identity,
                                struct kd_h5 *file) KD_CHECKED;

/* Reads and checks every field, and that their digest is the one in the file. */
enum kd_status kd_identity_load(struct kd_identity *identity,
                                struct kd_h5 *file) KD_CHECKED;

#endif
