/* SPDX-License-Identifier: MIT */
/* An evaluation that others follow row by row. */
#ifndef KD_EVALUATE_INTERNAL_H
#define KD_EVALUATE_INTERNAL_H

#include "kd/evaluate.h"

/* A row that all predictors have, and their probabilities p [count][classes]: those of
 * predictor i begin at p + i * stride. */
struct kd_evaluated {
    uint64_t id;
    uint32_t view;
    int32_t label;
    size_t classes, stride;
    const float *p;
};

struct kd_evaluate_visit {
    enum kd_status (*row)(void *context, const struct kd_evaluated *row);
    void *context;
    bool like_first; /* at temperature 0 all are taken at the first one's own */
};

/* kd_evaluate, with each row shown in the order of ids and views; a failure ends it. */
enum kd_status kd_evaluate_each(const char *const *names, size_t count,
                                const struct kd_evaluate_options *options,
                                const struct kd_evaluate_visit *visit,
                                struct kd_evaluation **evaluation) KD_CHECKED;

#endif
