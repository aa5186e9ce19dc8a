/* SPDX-License-Identifier: MIT */
/* Parameters: names, shapes, layouts and first values. */
#include "nn/graph_internal.h"

#include "kd/hash.h"
#include "kd/memory.h"
#include "kd/random.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_taken(const struct kd_graph *graph, const char *name)
{
    for (size_t i = 0; i < graph->num_parameters; i++)
        if (strcmp(graph->parameters[i]->name, name) == 0)
            return true;
    return false;
}

struct kd_parameter *kd_graph_new_parameter(struct kd_graph *graph, const char *layer,
                                            const char *name, size_t rank,
                                            const size_t *shape, size_t size,
                                            bool trained)
{
    struct kd_parameter *p = NULL;

    if (kd_grow(&graph->parameters, &graph->cap_parameters, graph->num_parameters + 1,
                sizeof *graph->parameters) != KD_OK ||
        KD_NEW(p, 1) != KD_OK)
        return kd_graph_failed(graph, KD_EMEMORY);
    graph->parameters[graph->num_parameters++] = p;
    p->name = layer != NULL ? kd_format("%s.%s", layer, name) : kd_copy_string(name);
    if (p->name == NULL || KD_NEW(p->private, 1) != KD_OK)
        return kd_graph_failed(graph, KD_EMEMORY);
    graph->num_parameters--; /* not yet among those to compare with */
    if (is_taken(graph, p->name)) {
        graph->num_parameters++;
        return kd_graph_failed(
            graph, kd_fail(KD_EBUG, "two parameters are named %s", p->name));
    }
    graph->num_parameters++;
    p->rank = rank;
    p->count = 1;
    for (size_t i = 0; i < 4; i++) {
        p->shape[i] = i < rank ? shape[i] : 1;
        p->count *= p->shape[i];
    }
    p->size = size;
    p->trained = trained;
    p->is_bias_or_norm = rank == 1;
    p->private->graph = graph;
    p->private->layer =
        graph->num_layers > 0 ? graph->layers[graph->num_layers - 1] : NULL;
    return p;
}

void kd_parameter_is_desc(struct kd_parameter *p, const dnnl_memory_desc_t *desc)
{
    p->private->desc = *desc;
}

void kd_parameter_is_blocked_dense(struct kd_parameter *p, const struct kd_tensor *x)
{
    p->private->in_channels = x->channels;
    p->private->in_plane = x->height * x->width;
    p->private->in_lanes = x->lanes;
}

void kd_parameter_is_places(struct kd_parameter *p, const struct kd_tensor *x)
{
    kd_parameter_is_blocked_dense(p, x);
    p->private->by_place = true;
}

size_t kd_graph_num_parameters(const struct kd_graph *graph)
{
    return graph->num_parameters;
}

struct kd_parameter *kd_graph_parameter(const struct kd_graph *graph, size_t index)
{
    assert(index < graph->num_parameters);
    return graph->parameters[index];
}

/* Where element `index` of plain convolution weights lies in the layer's layout. */
static size_t weight_offset(const struct kd_parameter *p, size_t index)
{
    const dnnl_memory_desc_t *d = &p->private->desc;
    const dnnl_blocking_desc_t *b = &d->format_desc.blocking;
    const size_t rank = (size_t)d->ndims;
    size_t position[5];
    size_t offset = 0, inner = 1;

    /* Plain weights of groups, [groups * out][in][k][k], are [groups][out][in][k][k];
     * a depthwise convolution's dimensions are its plain ones, padding apart. */
    for (size_t i = rank; i-- > 0;) {
        const size_t size =
            i + 3 < rank ? (size_t)d->dims[i] : p->shape[4 - (rank - i)];
        position[i] = i > 0 ? index % size : index;
        index /= size;
    }
    for (int i = b->inner_nblks; i-- > 0;) {
        const size_t dim = (size_t)b->inner_idxs[i];
        const size_t block = (size_t)b->inner_blks[i];
        offset += (position[dim] % block) * inner;
        position[dim] /= block;
        inner *= block;
    }
    for (size_t i = 0; i < rank; i++)
        offset += position[i] * (size_t)b->strides[i];
    return offset;
}

/* Where element `index` of plain [plane][C] lies in [cb][plane][lanes]. */
static size_t place_offset(const struct kd_parameter *p, size_t index)
{
    const size_t lanes = p->private->in_lanes;
    const size_t i = index / p->private->in_channels,
                 c = index % p->private->in_channels;

    return ((c / lanes) * p->private->in_plane + i) * lanes + c % lanes;
}

/* Where element `index` of a plain [..][C*plane] matrix lies in one over the
 * blocked order [..][cb][plane][lanes]. */
static size_t dense_offset(const struct kd_parameter *p, size_t index)
{
    const size_t plane = p->private->in_plane, lanes = p->private->in_lanes;
    const size_t columns = p->private->in_channels * plane;
    const size_t width = p->size / p->shape[0];
    const size_t row = index / columns, c = index % columns / plane, i = index % plane;

    return row * width + ((c / lanes) * plane + i) * lanes + c % lanes;
}

static size_t offset_of(const struct kd_parameter *p, size_t index)
{
    if (p->private->desc.ndims > 0)
        return weight_offset(p, index);
    if (p->private->by_place)
        return place_offset(p, index);
    if (p->private->in_channels > 0)
        return dense_offset(p, index);
    return index;
}

void kd_parameter_get(const struct kd_parameter *parameter, const float *from,
                      float *plain)
{
    for (size_t i = 0; i < parameter->count; i++)
        plain[i] = from[offset_of(parameter, i)];
}

void kd_parameter_set(const struct kd_parameter *parameter, const float *plain,
                      float *to)
{
    memset(to, 0, parameter->size * sizeof *to);
    for (size_t i = 0; i < parameter->count; i++)
        to[offset_of(parameter, i)] = plain[i];
}

static void draw_plain(const struct kd_parameter *p, uint64_t seed, float *plain)
{
    struct kd_random r =
        kd_random_at(seed, KD_RANDOM_WEIGHTS, kd_hash_u64(p->name, strlen(p->name)), 0);
    const double fan_in = p->rank > 1 ? (double)(p->count / p->shape[0]) : 1;

    for (size_t i = 0; i < p->count; i++) {
        if (p->rank == 3) {
            plain[i] = (float)(kd_random_normal(&r) * 0.02);
        } else if (p->rank == 4) {
            const double fan_out = (double)(p->shape[0] * p->shape[2] * p->shape[3]);
            plain[i] = (float)(kd_random_normal(&r) * sqrt(2.0 / fan_out));
        } else {
            const double bound = 1.0 / sqrt(fan_in);
            plain[i] = (float)kd_random_between(&r, -bound, bound);
        }
    }
}

static bool ends_with(const char *text, const char *end)
{
    const size_t a = strlen(text), b = strlen(end);

    return a >= b && strcmp(text + a - b, end) == 0;
}

/* The matrix [out][in] that a bias belongs to has the same name before the dot. */
static const struct kd_parameter *matrix_of(const struct kd_graph *graph,
                                            const struct kd_parameter *bias)
{
    const size_t stem = strlen(bias->name) - strlen("bias");

    for (size_t i = 0; i < graph->num_parameters; i++) {
        const struct kd_parameter *p = graph->parameters[i];
        if (p->rank == 2 && strncmp(p->name, bias->name, stem) == 0 &&
            strcmp(p->name + stem, "weight") == 0)
            return p;
    }
    return NULL;
}

/* Vectors: a dense layer's bias as its matrix, batch norm 1 and 0. */
static void draw_vector(const struct kd_graph *graph, const struct kd_parameter *p,
                        uint64_t seed, float *plain)
{
    const bool ones =
        ends_with(p->name, ".weight") || ends_with(p->name, "running_var");
    const struct kd_parameter *matrix =
        ends_with(p->name, ".bias") ? matrix_of(graph, p) : NULL;

    if (matrix != NULL) {
        const float scale = 1.0F / sqrtf((float)matrix->shape[1]);
        draw_plain(p, seed, plain); /* within -1 and 1 */
        for (size_t i = 0; i < p->count; i++)
            plain[i] *= scale;
        return;
    }
    for (size_t i = 0; i < p->count; i++)
        plain[i] = ones ? 1.0F : 0.0F;
}

enum kd_status kd_graph_initialise(struct kd_graph *graph, uint64_t seed)
{
    for (size_t i = 0; i < graph->num_parameters; i++) {
        struct kd_parameter *p = graph->parameters[i];
        float *plain = NULL;
        if (KD_NEW(plain, p->count) != KD_OK)
            return KD_EMEMORY;
        if (p->rank > 1)
            draw_plain(p, seed, plain);
        else
            draw_vector(graph, p, seed, plain);
        kd_parameter_set(p, plain, p->value);
        free(plain);
    }
    kd_graph_parameters_changed(graph);
    return KD_OK;
}

/* -- all gradients together ---------------------------------------------------- */

static double gradient_norm(const struct kd_graph *graph)
{
    double sum = 0;

    for (size_t i = 0; i < graph->num_parameters; i++) {
        const struct kd_parameter *p = graph->parameters[i];
        for (size_t j = 0; p->gradient != NULL && j < p->size; j++)
            sum += (double)p->gradient[j] * (double)p->gradient[j];
    }
    return sqrt(sum);
}

double kd_graph_clip(struct kd_graph *graph, double most)
{
    const double norm = gradient_norm(graph);
    const float factor = (float)(most / norm);

    if (!(norm > most) || !isfinite(norm))
        return norm;
    for (size_t i = 0; i < graph->num_parameters; i++) {
        struct kd_parameter *p = graph->parameters[i];
        for (size_t j = 0; p->gradient != NULL && j < p->size; j++)
            p->gradient[j] *= factor;
    }
    return norm;
}

enum kd_status kd_graph_copy_parameters(struct kd_graph *to,
                                        const struct kd_graph *from)
{
    if (to->num_parameters != from->num_parameters)
        return kd_fail(KD_EBUG, "networks of %zu and %zu parameters are not the same",
                       to->num_parameters, from->num_parameters);
    for (size_t i = 0; i < to->num_parameters; i++) {
        struct kd_parameter *a = to->parameters[i];
        const struct kd_parameter *b = from->parameters[i];
        float *plain = NULL;
        if (strcmp(a->name, b->name) != 0 || a->count != b->count)
            return kd_fail(KD_EBUG, "parameter %s is %s elsewhere", a->name, b->name);
        if (KD_NEW(plain, a->count) != KD_OK)
            return KD_EMEMORY;
        kd_parameter_get(b, b->value, plain);
        kd_parameter_set(a, plain, a->value);
        free(plain);
    }
    kd_graph_parameters_changed(to);
    return KD_OK;
}
