/* SPDX-License-Identifier: MIT */
/* GELU, on oneDNN. */
#include "nn/graph_internal.h"

struct gelu {
    struct kd_primitive forward, backward;
};

static enum kd_status describe(struct kd_layer *layer)
{
    struct gelu *s = layer->state;
    const bool training = layer->output->private->graph->training;
    const struct kd_wish none = {0}, behind = {.hint = &s->forward};
    dnnl_memory_desc_t desc;
    dnnl_eltwise_desc_t op;
    bool supported = false;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_tensor_desc(layer->output, &desc));
    KD_TRY(kd_onednn_status(
        dnnl_eltwise_forward_desc_init(
            &op, training ? dnnl_forward_training : dnnl_forward_inference,
            dnnl_eltwise_gelu_erf, &desc, 0, 0),
        "GELU"));
    KD_TRY(kd_primitive_describe(&s->forward, &op, &none, &supported));
    if (training && supported) {
        KD_TRY(kd_onednn_status(dnnl_eltwise_backward_desc_init(
                                    &op, dnnl_eltwise_gelu_erf, &desc, &desc, 0, 0),
                                "GELU, gradient"));
        KD_TRY(kd_primitive_describe(&s->backward, &op, &behind, &supported));
    }
    status = supported ? KD_OK : kd_fail(KD_EBUG, "oneDNN has no kernel for GELU");
out:
    return status;
}

static enum kd_status prepare(struct kd_layer *layer)
{
    struct gelu *s = layer->state;
    struct kd_tensor *x = layer->input[0], *y = layer->output;
    dnnl_memory_desc_t desc;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_tensor_desc(y, &desc));
    KD_TRY(kd_primitive_create(&s->forward));
    KD_TRY(kd_primitive_bind(&s->forward, DNNL_ARG_SRC, &desc, x->data));
    KD_TRY(kd_primitive_bind(&s->forward, DNNL_ARG_DST, &desc, y->data));
    if (y->gradient != NULL) {
        KD_TRY(kd_primitive_create(&s->backward));
        KD_TRY(kd_primitive_bind(&s->backward, DNNL_ARG_SRC, &desc, x->data));
        KD_TRY(kd_primitive_bind(&s->backward, DNNL_ARG_DIFF_DST, &desc, y->gradient));
        KD_TRY(kd_primitive_bind(&s->backward, DNNL_ARG_DIFF_SRC, &desc, x->gradient));
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status forward(struct kd_layer *layer)
{
    return kd_primitive_run(&((struct gelu *)layer->state)->forward);
}

static enum kd_status backward(struct kd_layer *layer)
{
    struct gelu *s = layer->state;
    float *dx = kd_gradient_begin(layer->input[0]);
    enum kd_status status = KD_EBUG;

    if (dx == NULL)
        return KD_OK;
    kd_primitive_rebind(&s->backward, DNNL_ARG_DIFF_SRC, dx);
    KD_TRY(kd_primitive_run(&s->backward));
    kd_gradient_end(layer->input[0], dx);
    status = KD_OK;
out:
    return status;
}

static void clear(struct kd_layer *layer)
{
    struct gelu *s = layer->state;

    if (s == NULL)
        return;
    kd_primitive_clear(&s->backward);
    kd_primitive_clear(&s->forward);
}

struct kd_tensor *kd_graph_gelu(struct kd_graph *graph, struct kd_tensor *x)
{
    struct kd_tensor *y;
    struct kd_layer *layer;

    if (!kd_graph_ready(graph, x))
        return NULL;
    y = kd_graph_new_tensor(graph, x->channels, x->height, x->width, x->blocked);
    layer = kd_graph_new_layer(graph, "gelu", sizeof(struct gelu));
    if (y == NULL || layer == NULL)
        return NULL;
    layer->describe = describe;
    layer->prepare = prepare;
    layer->forward = forward;
    layer->backward = backward;
    layer->clear = clear;
    kd_layer_connect(layer, x, NULL, y, false);
    return y;
}
