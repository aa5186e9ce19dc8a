/* SPDX-License-Identifier: MIT */
/*
 * Plans: what a cache will cost, before it is made.
 *
 *     struct kd_plan_ask ask = {.identity = identity, .samples_a_shard = 8192,
 *                               .history = "kd-dump ...", .kept = 10};
 *     struct kd_plan plan;
 *     KD_TRY(kd_plan_bytes(&ask, &plan));
 *     KD_TRY(kd_plan_time(teacher, data, &identity, 3, &speed));
 *
 * Bytes are exact where all rows are equally long: a shard is laid out without its
 * data, and its size read off. Time is what a teacher took for a short sample.
 *
 * Break-even. A student that trains for E epochs over N samples with its teachers in
 * the loop runs each of them E N times; a cache of V views runs each V N times, once
 * for all students. So it has paid for itself after V student epochs, whatever the
 * teachers' speed, and R runs save (R E - V) N samples' worth of teachers' time.
 */
#ifndef KD_PLAN_H
#define KD_PLAN_H

#include "kd/dataset.h"
#include "kd/shard.h"
#include "kd/status.h"
#include "kd/teacher.h"
#include "kd/view.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct kd_plan_ask {
    const struct kd_identity *identity; /* what the cache would call itself */
    uint64_t samples_a_shard;           /* S */
    const char *history; /* the line that the program would leave in the shards */
    double kept;         /* ragged encodings: mean number of values a row */
};

struct kd_plan {
    uint64_t rows, shards;
    uint64_t bytes; /* of all shards */
    bool exact;     /* false: ragged rows, by their mean length */
};

/* KD_EDATA or KD_EUSAGE where no such cache could be made. */
enum kd_status kd_plan_bytes(const struct kd_plan_ask *ask,
                             struct kd_plan *plan) KD_CHECKED;

/* A timed sample of a dump. */
struct kd_plan_speed {
    double rows_a_second; /* through views and teacher, on the compute threads */
    double kept;          /* mean number of values that the codec keeps of a row */
    uint64_t rows;        /* that were tried */
};

/* Runs the teacher for about `seconds` over samples spread over the dataset. The
 * identity says the temperature and codec. */
enum kd_status kd_plan_time(struct kd_teacher *teacher, const struct kd_dataset *data,
                            const struct kd_view_spec *augment,
                            const struct kd_identity *identity, double seconds,
                            struct kd_plan_speed *speed) KD_CHECKED;

/* Everything that is said of a plan. */
#define KD_PLAN_TEACHERS 64
struct kd_outlook {
    struct kd_plan plan; /* of one cache; a merged one is as large */
    uint64_t samples, views;
    uint64_t epochs, runs; /* of students */
    size_t teachers;       /* that were tried; 0: none */
    const char *name[KD_PLAN_TEACHERS];
    struct kd_plan_speed speed[KD_PLAN_TEACHERS];
};

/* Writes it as the members of the object that is open in `json`, or in words to `to`
 * where `json` is NULL. */
struct kd_json;
void kd_plan_report(const struct kd_outlook *outlook, struct kd_json *json, FILE *to);

#endif
