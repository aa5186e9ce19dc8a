/* SPDX-License-Identifier: MIT */
/*
 * Attention between the places of a sample. Each head of each sample is three small
 * matrices, copied out of the blocked layout; a sample is one thread's.
 */
#include "nn/graph_internal.h"

#include "kd/memory.h"
#include "kd/vector.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct attention {
    size_t heads, places, each; /* channels of a head */
    float *weights;             /* [batch][heads][places][places] after the softmax */
    float *scratch;             /* [batch][size of a head's work] */
    size_t work;                /* floats of it */
};

/* Channels first..first+each-1 of every place, to or from [places][each]: as many at a
 * time as lie side by side. */
static void move(const struct kd_tensor *t, float *sample, size_t first, size_t each,
                 float *plain, bool out)
{
    const size_t places = t->height * t->width, lanes = t->lanes;

    for (size_t k = 0, run; k < each; k += run) {
        const size_t c = first + k, left = lanes - c % lanes;
        float *block = sample + c / lanes * places * lanes + c % lanes;
        run = each - k < left ? each - k : left;
        for (size_t i = 0; i < places; i++) {
            float *blocked = block + i * lanes, *row = plain + i * each + k;
            memcpy(out ? row : blocked, out ? blocked : row, run * sizeof *row);
        }
    }
}

static void take(const struct kd_tensor *t, const float *sample, size_t first,
                 size_t each, float *plain)
{
    move(t, (float *)sample, first, each, plain, true);
}

static void put(const struct kd_tensor *t, float *sample, size_t first, size_t each,
                const float *plain)
{
    move(t, sample, first, each, (float *)plain, false);
}

/* c = scale * a b, row major; a' or b' where told. [m][k] [k][n] */
static void multiply(bool turn_a, bool turn_b, size_t m, size_t n, size_t k,
                     float scale, const float *a, const float *b, float *c)
{
    cblas_sgemm(CblasRowMajor, turn_a ? CblasTrans : CblasNoTrans,
                turn_b ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, scale, a,
                (int)(turn_a ? m : k), b, (int)(turn_b ? k : n), 0, c, (int)n);
}

/* Of every LANES-th value; what a NaN is compared with stays. */
#define LANES 16
KD_VECTOR
static float largest(const float *row, size_t n)
{
    float most[LANES], result = row[0];
    size_t i = 0;

    for (size_t k = 0; k < LANES; k++)
        most[k] = row[0];
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            most[k] = row[i + k] > most[k] ? row[i + k] : most[k];
    for (; i < n; i++)
        result = row[i] > result ? row[i] : result;
    for (size_t k = 0; k < LANES; k++)
        result = most[k] > result ? most[k] : result;
    return result;
}

/* row = exp(row - max); returns their sum. */
KD_VECTOR
static float exponentials(float *row, size_t n, float max)
{
    float sums[LANES] = {0}, result = 0;
    size_t i = 0;

    for (size_t k = 0; k < n; k++)
        row[k] = kd_vector_exp(row[k] - max);
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            sums[k] += row[i + k];
    for (; i < n; i++)
        result += row[i];
    for (size_t k = 0; k < LANES; k++)
        result += sums[k];
    return result;
}

/* A NaN anywhere makes a row of them. */
static void softmax(float *row, size_t n)
{
    const float sum = exponentials(row, n, largest(row, n));

    for (size_t i = 0; i < n; i++)
        row[i] /= sum;
}

/* The parts of a head's work, [places][each] each. */
struct parts {
    float *q, *k, *v, *y;
};

static struct parts parts_of(const struct attention *s, float *work)
{
    const size_t size = s->places * s->each;

    return (struct parts){work, work + size, work + 2 * size, work + 3 * size};
}

static void take_qkv(const struct kd_layer *layer, size_t n, size_t head,
                     const struct parts *p)
{
    const struct attention *s = layer->state;
    const struct kd_tensor *x = layer->input[0];
    const float *sample = x->data + n * (x->size / x->batch);
    const size_t third = x->channels / 3, at = head * s->each;

    take(x, sample, at, s->each, p->q);
    take(x, sample, third + at, s->each, p->k);
    take(x, sample, 2 * third + at, s->each, p->v);
}

static float *weights_of(const struct attention *s, size_t n, size_t head)
{
    return s->weights + (n * s->heads + head) * s->places * s->places;
}

static void head_forward(const struct kd_layer *layer, size_t n, size_t head)
{
    const struct attention *s = layer->state;
    const struct kd_tensor *y = layer->output;
    const struct parts p = parts_of(s, s->scratch + n * s->work);
    float *w = weights_of(s, n, head);

    take_qkv(layer, n, head, &p);
    multiply(false, true, s->places, s->places, s->each, 1 / sqrtf((float)s->each), p.q,
             p.k, w);
    for (size_t i = 0; i < s->places; i++)
        softmax(w + i * s->places, s->places);
    multiply(false, false, s->places, s->each, s->places, 1, w, p.v, p.y);
    put(y, y->data + n * (y->size / y->batch), head * s->each, s->each, p.y);
}

static enum kd_status forward(struct kd_layer *layer)
{
    const struct attention *s = layer->state;

#pragma omp parallel for
    for (size_t n = 0; n < layer->output->batch; n++)
        for (size_t head = 0; head < s->heads; head++)
            head_forward(layer, n, head);
    return KD_OK;
}

/* The gradient of what went into a softmax: w * (dw - sum(dw * w)). */
static void softmax_back(const float *w, float *dw, size_t n)
{
    float sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += dw[i] * w[i];
    for (size_t i = 0; i < n; i++)
        dw[i] = w[i] * (dw[i] - sum);
}

static void head_backward(const struct kd_layer *layer, size_t n, size_t head,
                          float *dx)
{
    const struct attention *s = layer->state;
    const struct kd_tensor *x = layer->input[0], *y = layer->output;
    const struct parts p = parts_of(s, s->scratch + n * s->work);
    const size_t third = x->channels / 3, at = head * s->each;
    const float scale = 1 / sqrtf((float)s->each);
    const float *w = weights_of(s, n, head);
    float *back = p.y + s->places * s->each, *dw = back + s->places * s->each;
    float *sample = dx + n * (x->size / x->batch);

    take_qkv(layer, n, head, &p);
    take(y, y->gradient + n * (y->size / y->batch), at, s->each, p.y);
    multiply(true, false, s->places, s->each, s->places, 1, w, p.y, back);
    put(x, sample, 2 * third + at, s->each, back);
    multiply(false, true, s->places, s->places, s->each, 1, p.y, p.v, dw);
    for (size_t i = 0; i < s->places; i++)
        softmax_back(w + i * s->places, dw + i * s->places, s->places);
    multiply(false, false, s->places, s->each, s->places, scale, dw, p.k, back);
    put(x, sample, at, s->each, back);
    multiply(true, false, s->places, s->each, s->places, scale, dw, p.q, back);
    put(x, sample, third + at, s->each, back);
}

static enum kd_status backward(struct kd_layer *layer)
{
    const struct attention *s = layer->state;
    float *dx = kd_gradient_begin(layer->input[0]);

    if (dx == NULL)
        return KD_OK;
#pragma omp parallel for
    for (size_t n = 0; n < layer->output->batch; n++)
        for (size_t head = 0; head < s->heads; head++)
            head_backward(layer, n, head, dx);
    kd_gradient_end(layer->input[0], dx);
    return KD_OK;
}

static void clear(struct kd_layer *layer)
{
    struct attention *s = layer->state;

    if (s == NULL)
        return;
    free(s->weights);
    free(s->scratch);
}

static enum kd_status make_state(struct kd_graph *graph, struct attention *s,
                                 const struct kd_tensor *x, size_t heads)
{
    enum kd_status status = KD_EBUG;

    s->heads = heads;
    s->places = x->height * x->width;
    s->each = x->channels / 3 / heads;
    s->work = 5 * s->places * s->each + s->places * s->places;
    KD_TRY(KD_NEW(s->weights, x->batch * heads * s->places * s->places));
    KD_TRY(KD_NEW(s->scratch, x->batch * s->work));
    graph->memory +=
        x->batch * (heads * s->places * s->places + s->work) * sizeof(float);
    status = KD_OK;
out:
    return status;
}

struct kd_tensor *kd_graph_attention(struct kd_graph *graph, struct kd_tensor *x,
                                     size_t heads)
{
    struct kd_tensor *y;
    struct kd_layer *layer;
    enum kd_status status;

    if (!kd_graph_ready(graph, x))
        return NULL;
    /* Whole blocks, so that no lane of the output or of a gradient stays unwritten. */
    if (!x->blocked || heads == 0 || x->channels % (3 * heads) != 0 ||
        x->channels / 3 % x->lanes != 0)
        return kd_graph_failed(
            graph, kd_fail(KD_ERECIPE, "attention of %zu heads over %zu channels",
                           heads, x->channels));
    y = kd_graph_new_tensor(graph, x->channels / 3, x->height, x->width, true);
    layer = kd_graph_new_layer(graph, "attention", sizeof(struct attention));
    if (y == NULL || layer == NULL)
        return NULL;
    layer->forward = forward;
    layer->backward = backward;
    layer->clear = clear;
    kd_layer_connect(layer, x, NULL, y, false);
    status = make_state(graph, layer->state, x, heads);
    return status == KD_OK ? y : kd_graph_failed(graph, status);
}
