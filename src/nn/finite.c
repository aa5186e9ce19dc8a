/* SPDX-License-Identifier: MIT */
/*
 * Inference: what is no finite number comes out as NaN. The ReLUs that oneDNN does
 * while a convolution writes turn a NaN into 0, so that a broken sample or network
 * would look like a sound one; what goes in is looked at instead.
 */
#include "nn/graph_internal.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

static bool all_finite(const float *x, size_t n)
{
    const uint32_t exponent = 0x7f800000U;
    uint32_t broken = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        broken |= (bits & exponent) == exponent;
    }
    return broken == 0;
}

const struct kd_parameter *kd_graph_not_finite(const struct kd_graph *graph)
{
    for (size_t i = 0; i < graph->num_parameters; i++)
        if (!all_finite(graph->parameters[i]->value, graph->parameters[i]->size))
            return graph->parameters[i];
    return NULL;
}

static void spoil(const struct kd_graph *graph, size_t sample)
{
    for (size_t i = 0; i < graph->num_tensors; i++) {
        const struct kd_tensor *t = graph->tensors[i];
        const size_t size = t->size / t->batch;
        if (!t->private->is_output || t->private->producer == NULL)
            continue;
        for (size_t k = 0; k < size; k++)
            t->data[sample * size + k] = NAN;
    }
}

static bool sample_is_finite(const struct kd_graph *graph, size_t sample)
{
    for (size_t i = 0; i < graph->num_tensors; i++) {
        const struct kd_tensor *t = graph->tensors[i];
        const size_t size = t->size / t->batch;
        if (t->private->producer == NULL && !all_finite(t->data + sample * size, size))
            return false;
    }
    return true;
}

void kd_graph_spoil(struct kd_graph *graph)
{
    if (graph->finite_version != graph->version) {
        graph->finite = kd_graph_not_finite(graph) == NULL;
        graph->finite_version = graph->version;
    }
#pragma omp parallel for
    for (size_t n = 0; n < graph->batch; n++)
        if (!graph->finite || !sample_is_finite(graph, n))
            spoil(graph, n);
}
