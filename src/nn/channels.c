/* SPDX-License-Identifier: MIT */
/*
 * Channels in another order: concatenation, slices, shuffles. Each is a table that
 * says where every channel of the output comes from.
 */
#include "nn/graph_internal.h"

#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

struct origin {
    size_t input, channel;
};

struct channels {
    struct origin *from; /* [channels of the output] */
};

/* The plane of a channel: its first element; the next one is `lanes` floats on. */
static float *plane_of(const struct kd_tensor *t, float *values, size_t sample,
                       size_t channel)
{
    const size_t area = t->height * t->width * t->lanes;

    return values + sample * (t->size / t->batch) + channel / t->lanes * area +
           channel % t->lanes;
}

/* Whether the block of the output that begins at channel c is one of an input. */
static bool is_block(const struct channels *s, const struct kd_tensor *y, size_t c)
{
    const struct origin *from = s->from + c;

    if (c % y->lanes != 0 || c + y->lanes > y->channels ||
        from->channel % y->lanes != 0)
        return false;
    for (size_t i = 1; i < y->lanes; i++)
        if (from[i].input != from->input || from[i].channel != from->channel + i)
            return false;
    return true;
}

static void copy_plane(const float *from, float *to, size_t plane, size_t lanes)
{
    for (size_t i = 0; i < plane; i++)
        to[i * lanes] = from[i * lanes];
}

/* A sample's values into the output, or (`back`) its gradient into the inputs'. */
static void move(const struct kd_layer *layer, size_t n, bool back, float *const *dx)
{
    const struct channels *s = layer->state;
    const struct kd_tensor *y = layer->output;
    const size_t plane = y->height * y->width, lanes = y->lanes;
    float *const out = back ? y->gradient : y->data;

    for (size_t c = 0; c < y->channels;) {
        const bool whole = is_block(s, y, c);
        const struct origin *from = &s->from[c];
        const struct kd_tensor *x = layer->input[from->input];
        float *const in = back ? dx[from->input] : x->data;
        float *const to = plane_of(y, out, n, c);
        float *const at = in != NULL ? plane_of(x, in, n, from->channel) : NULL;
        if (at != NULL && whole)
            memcpy(back ? at : to, back ? to : at, plane * lanes * sizeof *to);
        else if (at != NULL)
            copy_plane(back ? to : at, back ? at : to, plane, lanes);
        c += whole ? lanes : 1;
    }
}

static enum kd_status forward(struct kd_layer *layer)
{
    const struct kd_tensor *y = layer->output;

#pragma omp parallel for
    for (size_t n = 0; n < y->batch; n++) {
        if (y->channels % y->lanes != 0) /* the unused lanes of the last block */
            memset(plane_of(y, y->data, n, y->channels - y->channels % y->lanes), 0,
                   y->height * y->width * y->lanes * sizeof *y->data);
        move(layer, n, false, NULL);
    }
    return KD_OK;
}

static enum kd_status backward(struct kd_layer *layer)
{
    float *dx[KD_MAX_INPUTS] = {NULL};

    for (size_t k = 0; k < layer->num_inputs; k++) {
        dx[k] = kd_gradient_begin(layer->input[k]);
        if (dx[k] != NULL)
            memset(dx[k], 0, layer->input[k]->size * sizeof *dx[k]);
    }
#pragma omp parallel for
    for (size_t n = 0; n < layer->output->batch; n++)
        move(layer, n, true, dx);
    for (size_t k = 0; k < layer->num_inputs; k++)
        kd_gradient_end(layer->input[k], dx[k]);
    return KD_OK;
}

static void clear(struct kd_layer *layer)
{
    if (layer->state != NULL)
        free(((struct channels *)layer->state)->from);
}

/* A layer whose table is to be filled in; *s is NULL on failure. */
static struct kd_tensor *new_layer(struct kd_graph *graph, const char *kind,
                                   struct kd_tensor *a, struct kd_tensor *b,
                                   size_t channels, struct origin **from)
{
    struct kd_tensor *y =
        kd_graph_new_tensor(graph, channels, a->height, a->width, true);
    struct kd_layer *layer = kd_graph_new_layer(graph, kind, sizeof(struct channels));
    struct channels *s;

    if (y == NULL || layer == NULL)
        return NULL;
    s = layer->state;
    layer->forward = forward;
    layer->backward = backward;
    layer->clear = clear;
    if (KD_NEW(s->from, channels) != KD_OK)
        return kd_graph_failed(graph, KD_EMEMORY);
    *from = s->from;
    kd_layer_connect(layer, a, b, y, false);
    return y;
}

struct kd_tensor *kd_graph_concat(struct kd_graph *graph, struct kd_tensor *a,
                                  struct kd_tensor *b)
{
    struct origin *from = NULL;
    struct kd_tensor *y;

    if (!kd_graph_ready(graph, a) || b == NULL)
        return NULL;
    if (a == b || !a->blocked || !b->blocked || a->height != b->height ||
        a->width != b->width)
        return kd_graph_failed(graph,
                               kd_fail(KD_EBUG, "channels of two shapes side by side"));
    y = new_layer(graph, "concatenation", a, b, a->channels + b->channels, &from);
    for (size_t c = 0; y != NULL && c < y->channels; c++)
        from[c] = c < a->channels ? (struct origin){0, c}
                                  : (struct origin){1, c - a->channels};
    return y;
}

struct kd_tensor *kd_graph_slice(struct kd_graph *graph, struct kd_tensor *x,
                                 size_t first, size_t count)
{
    struct origin *from = NULL;
    struct kd_tensor *y;

    if (!kd_graph_ready(graph, x))
        return NULL;
    if (!x->blocked || first > x->channels || count > x->channels - first)
        return kd_graph_failed(graph, kd_fail(KD_EBUG, "channels %zu to %zu of %zu",
                                              first, first + count, x->channels));
    y = new_layer(graph, "slice", x, NULL, count, &from);
    for (size_t c = 0; y != NULL && c < count; c++)
        from[c] = (struct origin){0, first + c};
    return y;
}

struct kd_tensor *kd_graph_shuffle(struct kd_graph *graph, struct kd_tensor *x,
                                   size_t groups)
{
    struct origin *from = NULL;
    struct kd_tensor *y;

    if (!kd_graph_ready(graph, x))
        return NULL;
    if (!x->blocked || groups == 0 || x->channels % groups != 0)
        return kd_graph_failed(
            graph, kd_fail(KD_EBUG, "%zu channels in %zu groups", x->channels, groups));
    y = new_layer(graph, "channel shuffle", x, NULL, x->channels, &from);
    for (size_t c = 0; y != NULL && c < y->channels; c++)
        from[c] = (struct origin){0, c % groups * (x->channels / groups) + c / groups};
    return y;
}
