/* SPDX-License-Identifier: MIT */
/* Tensors: copies between plain and blocked layouts, and sums. */
#include "nn/graph_internal.h"

#include <assert.h>
#include <string.h>

size_t kd_tensor_blocks(const struct kd_tensor *tensor)
{
    return (tensor->channels + tensor->lanes - 1) / tensor->lanes;
}

static void to_plain(const struct kd_tensor *t, const float *from, float *plain,
                     size_t samples)
{
    const size_t plane = t->height * t->width, lanes = t->lanes;
    const size_t stride = t->size / t->batch;

    for (size_t n = 0; n < samples; n++)
        for (size_t c = 0; c < t->channels; c++)
            for (size_t i = 0; i < plane; i++)
                plain[(n * t->channels + c) * plane + i] =
                    from[n * stride + ((c / lanes) * plane + i) * lanes + c % lanes];
}

static void to_blocked(const struct kd_tensor *t, const float *plain, float *to,
                       size_t samples)
{
    const size_t plane = t->height * t->width, lanes = t->lanes;
    const size_t stride = t->size / t->batch;

    for (size_t n = 0; n < samples; n++)
        for (size_t c = 0; c < t->channels; c++)
            for (size_t i = 0; i < plane; i++)
                to[n * stride + ((c / lanes) * plane + i) * lanes + c % lanes] =
                    plain[(n * t->channels + c) * plane + i];
}

static void read_out(const struct kd_tensor *t, const float *from, float *plain,
                     size_t samples)
{
    assert(samples <= t->batch);
    if (t->blocked)
        to_plain(t, from, plain, samples);
    else
        memcpy(plain, from, samples * (t->size / t->batch) * sizeof *plain);
}

void kd_tensor_set(struct kd_tensor *tensor, const float *values, size_t samples)
{
    assert(samples <= tensor->batch);
    if (tensor->blocked)
        to_blocked(tensor, values, tensor->data, samples);
    else
        memcpy(tensor->data, values,
               samples * (tensor->size / tensor->batch) * sizeof *values);
}

void kd_tensor_get(const struct kd_tensor *tensor, float *values, size_t samples)
{
    read_out(tensor, tensor->data, values, samples);
}

void kd_tensor_set_gradient(struct kd_tensor *tensor, const float *values)
{
    assert(tensor->private->is_output);
    if (tensor->gradient == NULL)
        return; /* nothing behind it learns */
    memset(tensor->gradient, 0, tensor->size * sizeof *tensor->gradient);
    to_blocked(tensor, values, tensor->gradient, tensor->batch);
    tensor->private->gradient_written = true;
}

void kd_tensor_get_gradient(const struct kd_tensor *tensor, float *values)
{
    assert(tensor->gradient != NULL);
    read_out(tensor, tensor->gradient, values, tensor->batch);
}

/* Both in the same layout. */
static bool alike(const struct kd_tensor *a, const struct kd_tensor *b)
{
    return a->blocked && b->blocked && a->lanes == b->lanes &&
           a->channels == b->channels && a->height == b->height && a->width == b->width;
}

void kd_tensor_copy(struct kd_tensor *to, size_t first, const struct kd_tensor *from)
{
    const size_t sample = to->size / to->batch;

    assert(alike(to, from) && first + from->batch <= to->batch);
    memcpy(to->data + first * sample, from->data, from->size * sizeof *from->data);
}

void kd_tensor_add_gradient(struct kd_tensor *to, const struct kd_tensor *from,
                            size_t first)
{
    const size_t sample = to->size / to->batch;
    const float *gradient = from->gradient + first * sample;

    assert(alike(to, from) && first + to->batch <= from->batch);
    assert(to->private->is_output && from->private->producer == NULL);
    if (to->gradient == NULL)
        return; /* nothing behind it learns */
    if (to->private->gradient_written)
        kd_add(to->gradient, gradient, to->size);
    else
        memcpy(to->gradient, gradient, to->size * sizeof *gradient);
    to->private->gradient_written = true;
}

void kd_add(float *to, const float *from, size_t n)
{
#pragma omp parallel for
    for (size_t i = 0; i < n; i++)
        to[i] += from[i];
}

enum kd_status kd_tensor_desc(const struct kd_tensor *tensor, dnnl_memory_desc_t *desc)
{
    /* The unused lanes are declared as channels: there is no fast kernel for less
     * than a block, and their zeros, and those of the weights, stay zeros. */
    const size_t channels = kd_tensor_blocks(tensor) * tensor->lanes;
    const dnnl_dims_t dims = {(dnnl_dim_t)tensor->batch, (dnnl_dim_t)channels,
                              (dnnl_dim_t)tensor->height, (dnnl_dim_t)tensor->width};

    return kd_onednn_desc(desc, 4, dims,
                          !tensor->blocked      ? dnnl_nchw
                          : tensor->lanes == 16 ? dnnl_nChw16c
                                                : dnnl_nChw8c);
}
