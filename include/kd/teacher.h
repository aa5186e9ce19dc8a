/* SPDX-License-Identifier: MIT */
/*
 * Teachers: anything that turns samples into logits.
 *
 *     struct kd_teacher *teacher = NULL;
 *     struct kd_dataset *data = NULL;
 *     KD_TRY(kd_dataset_open("cifar100:train.bin", &data));
 *     KD_TRY(kd_teacher_open_over("exec:python3 teacher.py", NULL, &data, &teacher));
 *     const struct kd_teacher_facts *facts = kd_teacher_facts(teacher);
 *     ... kd_batch_fill_as(&batch, data, &spec, &facts->input, input) ...
 *     KD_TRY(kd_teacher_run(teacher, input, n, logits));
 *     kd_teacher_close(teacher);
 *
 * The grammar of a teacher's name:
 *
 *     model:FILE      a network saved by kd-train, or the directory that it is in
 *     exec:COMMAND    a child process, which /bin/sh -c COMMAND starts: it gets batches
 *                     at its standard input and answers at its standard output, as
 *                     pipelines/teachers/PROTOCOL.md says
 *
 * So that a child computes while this process prepares what comes next, batches may be
 * in flight: up to facts->in_flight are submitted before the first is collected.
 *
 *     for (...) {
 *         ... while fewer than facts->in_flight are out: fill another input ...
 *         KD_TRY(kd_teacher_submit(teacher, input[i], n, logits[i]));
 *         ...
 *         KD_TRY(kd_teacher_collect(teacher));      (the oldest: its logits are there)
 *     }
 */
#ifndef KD_TEACHER_H
#define KD_TEACHER_H

#include "kd/batch.h"
#include "kd/dataset.h"
#include "kd/hash.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kd_teacher;

struct kd_teacher_facts {
    const char *name;      /* "a.h5", or "a" of a/model.h5: for people */
    struct kd_shape shape; /* of a sample as the dataset has it */
    uint32_t num_classes;
    struct kd_input input;   /* how samples are to be given to it */
    size_t input_bytes;      /* of one of them then */
    size_t batch;            /* samples that it takes at a time, at most */
    size_t in_flight;        /* batches that it takes before the first is collected */
    struct kd_digest digest; /* of what it is: its file; of a child, what it says of
                                itself */
    struct kd_digest class_map_digest;
    const char *bn_mode; /* "eval"; "none" where it is not known */
};

/* How to deal with children; NULL stands for the defaults. */
struct kd_teacher_options {
    size_t jobs;    /* so many children; 0: one */
    double timeout; /* seconds for a batch, and for the greeting; 0: 300 */
};

enum kd_status kd_teacher_open(const char *name,
                               struct kd_teacher **teacher) KD_CHECKED;

/* The same for the samples of a dataset, which a child is told about. Where they are
 * images of different sizes and the teacher names one, *data is closed and opened again
 * with that size, so that views are drawn on it (kd_dataset_open_sized). KD_EIO where a
 * child dies or hangs, KD_EDATA where it says what cannot be understood; the message
 * has the last that it wrote to stderr. */
enum kd_status kd_teacher_open_over(const char *name,
                                    const struct kd_teacher_options *options,
                                    struct kd_dataset **data,
                                    struct kd_teacher **teacher) KD_CHECKED;

/* Ends children too, kindly if they have answered all that they were asked. */
void kd_teacher_close(struct kd_teacher *teacher); /* NULL is fine */
const struct kd_teacher_facts *kd_teacher_facts(const struct kd_teacher *teacher);

/* Whether it can read these samples: KD_EDATA naming both shapes, or both class maps
 * where the dataset has labels. */
enum kd_status kd_teacher_fits(const struct kd_teacher *teacher,
                               const struct kd_dataset_facts *data) KD_CHECKED;

/* Logits [count][num_classes] of samples input [count], each as facts->input says;
 * count up to facts->batch. A row's logits do not depend on the rows beside it. */
enum kd_status kd_teacher_run(struct kd_teacher *teacher, const void *input,
                              size_t count, float *logits) KD_CHECKED;

/* The two halves of it. `input` must stay as it is, and `logits` where it is, until the
 * batch has been collected. Batches are collected in the order in which they were
 * submitted, however many children there are; a failure comes out when the batch is
 * collected that suffers from it, and all later ones fail as well. */
enum kd_status kd_teacher_submit(struct kd_teacher *teacher, const void *input,
                                 size_t count, float *logits) KD_CHECKED;
enum kd_status kd_teacher_collect(struct kd_teacher *teacher) KD_CHECKED;

#endif
