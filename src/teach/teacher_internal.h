/* SPDX-License-Identifier: MIT */
/* What a kind of teacher has to be able to do. */
#ifndef KD_TEACHER_INTERNAL_H
#define KD_TEACHER_INTERNAL_H

#include "kd/teacher.h"

/* What a teacher is opened for. */
struct kd_teacher_ask {
    const struct kd_teacher_options *options;
    const struct kd_dataset *data; /* NULL: not known yet */
    struct kd_resize size; /* set by the kind, if the data's images have different sizes
                              and it wants them to have this one */
};

/*
 * To add a kind: one file src/teach/teacher_KIND.c with these calls and a line in the
 * table of teacher.c. `state` is the kind's own.
 */
struct kd_teacher_calls {
    const char *prefix; /* "model": names begin with it and a colon */

    /* Opens what stands behind the colon; sets `facts`, but for `input_bytes`; `name`
     * is the base name of `rest` beforehand, and may stay so. On failure *state stays
     * NULL. */
    enum kd_status (*open)(const char *rest, struct kd_teacher_ask *ask,
                           struct kd_teacher_facts *facts, void **state);
    enum kd_status (*submit)(void *state, const void *input, size_t count,
                             float *logits);
    enum kd_status (*collect)(void *state);
    void (*close)(void *state); /* NULL is fine */
};

extern const struct kd_teacher_calls kd_teacher_model, kd_teacher_exec;

/* Whether it can read these samples, whatever their labels mean: KD_EDATA naming both
 * shapes. */
enum kd_status kd_teacher_takes(const struct kd_teacher *teacher,
                                const struct kd_dataset_facts *data) KD_CHECKED;

/* What is wrong with --other-classes, or the lack of it, where a dataset's labels and
 * somebody's (`who`) rows meet; KD_OK if nothing is. As kd_dataset_classes_fit. */
enum kd_status kd_teacher_check_classes(const struct kd_dataset_facts *data,
                                        const char *who, uint32_t classes,
                                        const struct kd_digest *map,
                                        bool other) KD_CHECKED;

/* A teacher's name as an identity can hold it. A file may be called anything, an
 * attribute may not; the digest tells teachers apart, so the name may be cut. */
void kd_teacher_copy_name(char *to, size_t size, const char *name);

#endif
