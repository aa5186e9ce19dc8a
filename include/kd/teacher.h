/* SPDX-License-Identifier: MIT */
/*
 * Teachers: anything that turns samples into logits.
 *
 *     struct kd_teacher *teacher = NULL;
 *     KD_TRY(kd_teacher_open("model:a.h5", &teacher));
 *     const struct kd_teacher_facts *facts = kd_teacher_facts(teacher);
 *     ... check facts->channels and so on against the dataset ...
 *     KD_TRY(kd_teacher_run(teacher, input, n, logits));
 *     kd_teacher_close(teacher);
 *
 * The grammar of a teacher's name: `model:FILE`, a network saved by kd-train.
 */
#ifndef KD_TEACHER_H
#define KD_TEACHER_H

#include "kd/dataset.h"
#include "kd/hash.h"
#include "kd/status.h"

#include <stddef.h>
#include <stdint.h>

struct kd_teacher;

struct kd_teacher_facts {
    const char *name;      /* "a.h5": for people */
    struct kd_shape shape; /* of a sample */
    uint32_t num_classes;
    size_t batch;                  /* samples that it likes at a time */
    struct kd_normalize normalize; /* to be applied to its input */
    struct kd_digest digest;       /* of what it is: its file */
    struct kd_digest class_map_digest;
    const char *bn_mode; /* "eval" */
};

enum kd_status kd_teacher_open(const char *name,
                               struct kd_teacher **teacher) KD_CHECKED;
void kd_teacher_close(struct kd_teacher *teacher); /* NULL is fine */
const struct kd_teacher_facts *kd_teacher_facts(const struct kd_teacher *teacher);

/* Whether it can read these samples: KD_EDATA naming both shapes, or both class maps
 * where the dataset has labels. */
enum kd_status kd_teacher_fits(const struct kd_teacher *teacher,
                               const struct kd_dataset_facts *data) KD_CHECKED;

/* Logits [count][num_classes] of normalised samples input [count][C][H][W]; count up
 * to facts->batch. A row's logits do not depend on the rows beside it. */
enum kd_status kd_teacher_run(struct kd_teacher *teacher, const float *input,
                              size_t count, float *logits) KD_CHECKED;

#endif
