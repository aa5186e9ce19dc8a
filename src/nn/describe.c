/* SPDX-License-Identifier: MIT */
/* What a graph's layers are, for people. */
#include "nn/graph_internal.h"

#include <stdio.h>
#include <string.h>

size_t kd_graph_num_layers(const struct kd_graph *graph)
{
    return graph->num_layers;
}

/* "layer1.0.conv1" of "layer1.0.conv1.weight". */
static void name_after(struct kd_layer_facts *facts, const char *parameter)
{
    const char *dot = strrchr(parameter, '.');
    const size_t length = dot != NULL ? (size_t)(dot - parameter) : strlen(parameter);

    snprintf(facts->name, sizeof facts->name, "%.*s", (int)length, parameter);
}

/* A matrix or a kernel is applied at every place of the output. */
static void add_parameter(struct kd_layer_facts *facts, const struct kd_parameter *p)
{
    const bool is_weight = p->rank == 2 || p->rank == 4;

    if (facts->name[0] == '\0')
        name_after(facts, p->name);
    if (!p->trained)
        return;
    facts->parameters += p->count;
    if (is_weight)
        facts->multiply_adds += (uint64_t)p->count * facts->height * facts->width;
}

void kd_graph_layer(const struct kd_graph *graph, size_t index,
                    struct kd_layer_facts *facts)
{
    const struct kd_layer *layer = graph->layers[index];
    const struct kd_tensor *y = layer->output;
    const uint64_t places = (uint64_t)y->height * y->width;

    *facts = (struct kd_layer_facts){.kind = layer->kind,
                                     .channels = y->channels,
                                     .height = y->height,
                                     .width = y->width};
    for (size_t i = 0; i < graph->num_parameters; i++)
        if (graph->parameters[i]->private->layer == layer)
            add_parameter(facts, graph->parameters[i]);
    /* queries with keys, and weights with values */
    if (strcmp(layer->kind, "attention") == 0)
        facts->multiply_adds = 2 * places * places * y->channels;
}
