/* SPDX-License-Identifier: MIT */
/* Weights: the arrays of a state_dict to the parameters of a graph, by name. */
#include "kd/weights.h"

#include "nn/graph_internal.h"
#include "nn/weights_internal.h"

#include "kd/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct kd_parameter *find_parameter(const struct kd_graph *graph,
                                           const char *name, size_t length)
{
    for (size_t i = 0; i < graph->num_parameters; i++) {
        struct kd_parameter *p = graph->parameters[i];
        if (strncmp(p->name, name, length) == 0 && p->name[length] == '\0')
            return p;
    }
    return NULL;
}

/* -- biases before batch norms --------------------------------------------------- */

/* The batch norm that alone reads what a layer makes, done by it or not; else NULL. */
static const struct kd_layer *norm_behind(const struct kd_graph *graph,
                                          const struct kd_layer *layer)
{
    const struct kd_layer *reader = NULL;

    if (layer->norm != NULL)
        return layer->norm;
    for (size_t i = 0; i < graph->num_layers; i++) {
        const struct kd_layer *other = graph->layers[i];
        for (size_t k = 0; k < other->num_inputs; k++) {
            if (other->input[k] != layer->output)
                continue;
            if (reader != NULL || k > 0 || !kd_layer_is_batch_norm(other))
                return NULL;
            reader = other;
        }
    }
    return reader;
}

/* The running mean that takes NAME.bias, because the graph has a NAME.weight with a
 * batch norm behind it; NULL where it has not. */
static struct kd_parameter *mean_for(const struct kd_graph *graph, const char *bias)
{
    const struct kd_parameter *weight;
    const struct kd_layer *norm;
    const char *dot = strrchr(bias, '.');
    char name[256];
    int length;

    if (dot == NULL || strcmp(dot, ".bias") != 0)
        return NULL;
    length = snprintf(name, sizeof name, "%.*s.weight", (int)(dot - bias), bias);
    if (length < 0 || (size_t)length >= sizeof name)
        return NULL;
    weight = find_parameter(graph, name, (size_t)length);
    if (weight == NULL || weight->rank != 4)
        return NULL;
    norm = norm_behind(graph, weight->private->layer);
    for (size_t i = 0; norm != NULL && i < graph->num_parameters; i++) {
        struct kd_parameter *p = graph->parameters[i];
        if (p->private->layer == norm && strstr(p->name, ".running_mean") != NULL)
            return p;
    }
    return NULL;
}

static enum kd_status fold_bias(const struct kd_weights *w,
                                const struct kd_weights_array *array,
                                struct kd_parameter *mean)
{
    enum kd_status status = KD_EBUG;
    float *bias = NULL, *plain = NULL;

    KD_TRY(KD_NEW(bias, mean->count));
    KD_TRY(KD_NEW(plain, mean->count));
    KD_TRY(kd_weights_read(w, array, mean->rank, mean->shape, bias));
    kd_parameter_get(mean, mean->value, plain);
    for (size_t i = 0; i < mean->count; i++)
        plain[i] -= bias[i];
    kd_parameter_set(mean, plain, mean->value);
    status = KD_OK;
out:
    free(bias);
    free(plain);
    return status;
}

/* -- names ----------------------------------------------------------------------- */

/* Names for a message: the first of them, and how many there are. */
struct names {
    size_t count;
    char text[400];
};

#define SHOWN 4

static void note(struct names *names, const char *what, const char *name)
{
    const size_t at = strlen(names->text);

    if (names->count++ < SHOWN)
        snprintf(names->text + at, sizeof names->text - at, "%s %.80s",
                 at > 0 ? "," : what, name);
}

static void close_names(struct names *names)
{
    const size_t at = strlen(names->text);

    if (names->count > SHOWN)
        snprintf(names->text + at, sizeof names->text - at, " and %zu more",
                 names->count - SHOWN);
}

static enum kd_status check_names(const struct kd_weights *w,
                                  const struct kd_graph *graph)
{
    struct names missing = {0}, strange = {0};

    for (size_t i = 0; i < graph->num_parameters; i++) {
        struct kd_weights_array *array = kd_weights_find(w, graph->parameters[i]->name);
        if (array != NULL)
            array->used = true;
        else
            note(&missing, "missing", graph->parameters[i]->name);
    }
    for (size_t i = 0; i < w->count; i++)
        if (!w->arrays[i].used && mean_for(graph, w->arrays[i].name) == NULL)
            note(&strange, "unexpected", w->arrays[i].name);
    close_names(&missing);
    close_names(&strange);
    if (missing.count > 0 && strange.count > 0)
        return kd_fail(KD_EDATA,
                       "%s: not this network's weights: %s; %s (FROM=TO renames)",
                       w->path, missing.text, strange.text);
    if (missing.count > 0 || strange.count > 0)
        return kd_fail(KD_EDATA, "%s: not this network's weights: %s%s", w->path,
                       missing.text, strange.text);
    return KD_OK;
}

/* -- values ---------------------------------------------------------------------- */

static enum kd_status load_parameter(const struct kd_weights *w, struct kd_parameter *p)
{
    enum kd_status status = KD_EBUG;
    float *plain = NULL;

    KD_TRY(KD_NEW(plain, p->count));
    KD_TRY(kd_weights_read(w, kd_weights_find(w, p->name), p->rank, p->shape, plain));
    kd_parameter_set(p, plain, p->value);
    status = KD_OK;
out:
    free(plain);
    return status;
}

enum kd_status kd_weights_load(const char *path, const char *renames,
                               struct kd_graph *graph)
{
    enum kd_status status = KD_EBUG;
    struct kd_weights w = {0};

    KD_TRY(kd_weights_open(path, renames, &w));
    KD_TRY(check_names(&w, graph));
    for (size_t i = 0; i < graph->num_parameters; i++)
        KD_TRY(load_parameter(&w, graph->parameters[i]));
    for (size_t i = 0; i < w.count; i++)
        if (!w.arrays[i].used)
            KD_TRY(fold_bias(&w, &w.arrays[i], mean_for(graph, w.arrays[i].name)));
    kd_graph_parameters_changed(graph);
    status = KD_OK;
out:
    kd_weights_close(&w);
    return status;
}
