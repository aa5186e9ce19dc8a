/* SPDX-License-Identifier: MIT */
/*
 * Attention between several voices on one sample, where the batch is the samples of the
 * first voice, those of the second, ...: sample n of voice a is row a * samples + n.
 * Scores, from which a softmax makes weights; what is heard with them; and what is
 * heard if all weigh the same.
 */
#include "nn/graph_internal.h"

#include <string.h>

struct voices {
    size_t count;
};

/* Floats of a row; as the tensors are vectors, its channels lie side by side. */
static size_t stride_of(const struct kd_tensor *t)
{
    return t->size / t->batch;
}

static float dot(const float *a, const float *b, size_t n)
{
    float sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* to += factor * from */
static void add_to(float *to, float factor, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] += factor * from[i];
}

/* The row of a voice for the sample of another row. */
static size_t row_of(const struct kd_layer *layer, size_t row, size_t voice)
{
    const struct voices *s = layer->state;
    const size_t samples = layer->output->batch / s->count;

    return voice * samples + row % samples;
}

/* y[i][b] = l[i] . r[row of voice b] */
static enum kd_status scores_forward(struct kd_layer *layer)
{
    const struct voices *s = layer->state;
    const struct kd_tensor *l = layer->input[0], *r = layer->input[1],
                           *y = layer->output;
    const size_t stride = stride_of(l);

    memset(y->data, 0, y->size * sizeof *y->data);
#pragma omp parallel for
    for (size_t i = 0; i < y->batch; i++)
        for (size_t b = 0; b < s->count; b++)
            y->data[i * stride_of(y) + b] = dot(
                l->data + i * stride, r->data + row_of(layer, i, b) * stride, stride);
    return KD_OK;
}

/* What a row gets is gathered by itself: rows of the other side that it met. */
static enum kd_status scores_backward(struct kd_layer *layer)
{
    const struct voices *s = layer->state;
    struct kd_tensor *l = layer->input[0], *r = layer->input[1];
    const struct kd_tensor *y = layer->output;
    const size_t stride = stride_of(l), samples = y->batch / s->count;
    float *dl = kd_gradient_begin(l), *dr = kd_gradient_begin(r);

    if (dl != NULL)
        memset(dl, 0, l->size * sizeof *dl);
    if (dr != NULL)
        memset(dr, 0, r->size * sizeof *dr);
#pragma omp parallel for
    for (size_t i = 0; i < y->batch; i++)
        for (size_t b = 0; b < s->count; b++) {
            const size_t other = row_of(layer, i, b);
            if (dl != NULL)
                add_to(dl + i * stride, y->gradient[i * stride_of(y) + b],
                       r->data + other * stride, stride);
            if (dr != NULL)
                add_to(dr + i * stride, y->gradient[other * stride_of(y) + i / samples],
                       l->data + other * stride, stride);
        }
    kd_gradient_end(l, dl);
    kd_gradient_end(r, dr);
    return KD_OK;
}

/* y[i] = sum over b of w[i][b] v[row of voice b] */
static enum kd_status hear_forward(struct kd_layer *layer)
{
    const struct voices *s = layer->state;
    const struct kd_tensor *w = layer->input[0], *v = layer->input[1],
                           *y = layer->output;
    const size_t stride = stride_of(v);

    memset(y->data, 0, y->size * sizeof *y->data);
#pragma omp parallel for
    for (size_t i = 0; i < y->batch; i++)
        for (size_t b = 0; b < s->count; b++)
            add_to(y->data + i * stride, w->data[i * stride_of(w) + b],
                   v->data + row_of(layer, i, b) * stride, stride);
    return KD_OK;
}

static enum kd_status hear_backward(struct kd_layer *layer)
{
    const struct voices *s = layer->state;
    struct kd_tensor *w = layer->input[0], *v = layer->input[1];
    const struct kd_tensor *y = layer->output;
    const size_t stride = stride_of(v), samples = y->batch / s->count;
    float *dw = kd_gradient_begin(w), *dv = kd_gradient_begin(v);

    if (dw != NULL)
        memset(dw, 0, w->size * sizeof *dw);
    if (dv != NULL)
        memset(dv, 0, v->size * sizeof *dv);
#pragma omp parallel for
    for (size_t i = 0; i < y->batch; i++)
        for (size_t b = 0; b < s->count; b++) {
            const size_t other = row_of(layer, i, b);
            if (dw != NULL)
                dw[i * stride_of(w) + b] =
                    dot(y->gradient + i * stride, v->data + other * stride, stride);
            if (dv != NULL)
                add_to(dv + i * stride, w->data[other * stride_of(w) + i / samples],
                       y->gradient + other * stride, stride);
        }
    kd_gradient_end(w, dw);
    kd_gradient_end(v, dv);
    return KD_OK;
}

/* to[i] = the mean of the rows of i's sample in `from`. */
static void average(const struct kd_layer *layer, const float *from, float *to)
{
    const struct voices *s = layer->state;
    const struct kd_tensor *y = layer->output;
    const size_t stride = stride_of(y);

    memset(to, 0, y->size * sizeof *to);
#pragma omp parallel for
    for (size_t i = 0; i < y->batch; i++)
        for (size_t b = 0; b < s->count; b++)
            add_to(to + i * stride, 1 / (float)s->count,
                   from + row_of(layer, i, b) * stride, stride);
}

static enum kd_status mean_forward(struct kd_layer *layer)
{
    average(layer, layer->input[0]->data, layer->output->data);
    return KD_OK;
}

/* The matrix of a mean is its own transpose. */
static enum kd_status mean_backward(struct kd_layer *layer)
{
    float *dx = kd_gradient_begin(layer->input[0]);

    if (dx != NULL)
        average(layer, layer->output->gradient, dx);
    kd_gradient_end(layer->input[0], dx);
    return KD_OK;
}

static bool is_vector(const struct kd_tensor *x)
{
    return x->blocked && x->height == 1 && x->width == 1;
}

static struct kd_tensor *add_layer(struct kd_graph *graph, const char *kind,
                                   struct kd_tensor *first, struct kd_tensor *second,
                                   size_t voices, size_t channels,
                                   struct kd_layer **layer)
{
    struct kd_tensor *y;

    if (first == second || !is_vector(first) ||
        (second != NULL && !is_vector(second)) || voices == 0 ||
        graph->batch % voices != 0)
        return kd_graph_failed(graph,
                               kd_fail(KD_EBUG, "%s: not %zu voices", kind, voices));
    y = kd_graph_new_tensor(graph, channels, 1, 1, true);
    *layer = kd_graph_new_layer(graph, kind, sizeof(struct voices));
    if (y == NULL || *layer == NULL)
        return NULL;
    ((struct voices *)(*layer)->state)->count = voices;
    kd_layer_connect(*layer, first, second, y, false);
    return y;
}

struct kd_tensor *kd_graph_voice_scores(struct kd_graph *graph, struct kd_tensor *left,
                                        struct kd_tensor *right, size_t voices)
{
    struct kd_layer *layer = NULL;
    struct kd_tensor *y;

    if (!kd_graph_ready(graph, left) || right == NULL)
        return NULL;
    if (left->channels != right->channels)
        return kd_graph_failed(graph, kd_fail(KD_EBUG, "scores of unlike vectors"));
    y = add_layer(graph, "scores", left, right, voices, voices, &layer);
    if (y != NULL) {
        layer->forward = scores_forward;
        layer->backward = scores_backward;
    }
    return y;
}

struct kd_tensor *kd_graph_voices(struct kd_graph *graph, struct kd_tensor *weights,
                                  struct kd_tensor *values)
{
    struct kd_layer *layer = NULL;
    struct kd_tensor *y;

    if (!kd_graph_ready(graph, weights) || values == NULL)
        return NULL;
    y = add_layer(graph, "voices", weights, values, weights->channels, values->channels,
                  &layer);
    if (y != NULL) {
        layer->forward = hear_forward;
        layer->backward = hear_backward;
    }
    return y;
}

struct kd_tensor *kd_graph_mean_voice(struct kd_graph *graph, struct kd_tensor *values,
                                      size_t voices)
{
    struct kd_layer *layer = NULL;
    struct kd_tensor *y;

    if (!kd_graph_ready(graph, values))
        return NULL;
    y = add_layer(graph, "mean voice", values, NULL, voices, values->channels, &layer);
    if (y != NULL) {
        layer->forward = mean_forward;
        layer->backward = mean_backward;
    }
    return y;
}
