/* SPDX-License-Identifier: MIT */
/*
 * The moving average of a network's weights (Polyak and Juditsky 1992): what is
 * measured and saved in their place. The running statistics of batch norm are averaged
 * alike.
 */
#include "distill/run_internal.h"

#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

enum kd_status kd_average_init(struct kd_run *run)
{
    enum kd_status status = KD_EBUG;
    struct kd_graph *graph = run->net->graph;
    const size_t count = kd_graph_num_parameters(graph);

    if (run->recipe->ema == 0)
        return KD_OK;
    KD_TRY(KD_NEW(run->average, count));
    for (size_t i = 0; i < count; i++) {
        const struct kd_parameter *p = kd_graph_parameter(graph, i);
        KD_TRY(KD_NEW(run->average[i], p->size));
    }
    kd_average_restart(run);
    status = KD_OK;
out:
    return status;
}

void kd_average_clear(struct kd_run *run)
{
    for (size_t i = 0;
         run->average != NULL && i < kd_graph_num_parameters(run->net->graph); i++)
        free(run->average[i]);
    free(run->average);
    run->average = NULL;
}

void kd_average_restart(struct kd_run *run)
{
    for (size_t i = 0;
         run->average != NULL && i < kd_graph_num_parameters(run->net->graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(run->net->graph, i);
        memcpy(run->average[i], p->value, p->size * sizeof *p->value);
    }
}

void kd_average_step(struct kd_run *run)
{
    const float keep = (float)run->recipe->ema, take = (float)(1 - run->recipe->ema);

    for (size_t i = 0;
         run->average != NULL && i < kd_graph_num_parameters(run->net->graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(run->net->graph, i);
        const float *restrict value = p->value;
        float *restrict average = run->average[i];
        for (size_t j = 0; j < p->size; j++)
            average[j] = keep * average[j] + take * value[j];
    }
}

void kd_average_swap(struct kd_run *run)
{
    if (run->average == NULL)
        return;
    for (size_t i = 0; i < kd_graph_num_parameters(run->net->graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(run->net->graph, i);
        for (size_t j = 0; j < p->size; j++) {
            const float kept = p->value[j];
            p->value[j] = run->average[i][j];
            run->average[i][j] = kept;
        }
    }
    kd_graph_parameters_changed(run->net->graph);
}
