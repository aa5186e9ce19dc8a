/* SPDX-License-Identifier: MIT */
/* Predictors: networks and caches, alike to whoever wants their probabilities. */
#ifndef KD_PREDICTOR_INTERNAL_H
#define KD_PREDICTOR_INTERNAL_H

#include "kd/batch.h"
#include "kd/cache.h"
#include "kd/dataset.h"
#include "kd/teacher.h"
#include "kd/view.h"

struct kd_predictor {
    const char *name;           /* as it was given; kept, not copied */
    struct kd_teacher *teacher; /* a network, or ... */
    struct kd_cache *cache;     /* ... a cache: one of them is NULL */
    uint32_t num_classes;
    struct kd_digest class_map_digest;
    double temperature; /* of its probabilities */

    /* cache */
    uint64_t first_id, end_id; /* the ids that it has are among these */
    int also; /* which of the further temperatures it is taken at; -1: its own */

    /* network: its samples on their way; made by kd_predictor_ready */
    const struct kd_dataset *data;
    struct kd_batch batch;
};

/* Opens what a name stands for; `temperature` 0 stands for 1 or the cache's own. */
enum kd_status kd_predictor_open(struct kd_predictor *predictor, const char *name,
                                 double temperature) KD_CHECKED;
void kd_predictor_clear(struct kd_predictor *predictor);

/* Checks that the predictor belongs to a dataset and readies a network to run over
 * it. */
enum kd_status kd_predictor_ready(struct kd_predictor *predictor,
                                  const struct kd_dataset *data) KD_CHECKED;

/* log_p [count][num_classes] of samples in views drawn by `spec`, -FLT_MAX for a
 * probability of 0, and in kept [count] the mass of the classes that the row of a cache
 * has stored; of the others even shares of what is left. KD_EDATA for a network's logit
 * that is not finite, and a cache's row that is missing or damaged. */
enum kd_status kd_predictor_read(struct kd_predictor *predictor,
                                 const struct kd_view_spec *spec, const uint64_t *ids,
                                 const uint32_t *views, size_t count, float *log_p,
                                 double *kept) KD_CHECKED;

#endif
