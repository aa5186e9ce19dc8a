/* SPDX-License-Identifier: MIT */
/* What a kind of teacher has to be able to do. */
#ifndef KD_TEACHER_INTERNAL_H
#define KD_TEACHER_INTERNAL_H

#include "kd/teacher.h"

/*
 * To add a kind: one file src/teach/teacher_KIND.c with these three calls and a line
 * in the table of teacher.c. `state` is the kind's own.
 */
struct kd_teacher_calls {
    const char *prefix; /* "model": names begin with it and a colon */

    /* Opens what stands behind the colon; sets `facts`, but for `name`, which is the
     * base name of `rest`. On failure *state stays NULL. */
    enum kd_status (*open)(const char *rest, struct kd_teacher_facts *facts,
                           void **state);
    enum kd_status (*run)(void *state, const float *input, size_t count, float *logits);
    void (*close)(void *state); /* NULL is fine */
};

extern const struct kd_teacher_calls kd_teacher_model;

#endif
