/* SPDX-License-Identifier: MIT */
/* oneDNN's engine, primitives and errors, for the layers that run on it. */
#include "nn/onednn_internal.h"

#include <pthread.h>
#include <string.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static dnnl_engine_t the_engine;
static dnnl_stream_t the_stream;
static dnnl_status_t start_status;

static void start(void)
{
    start_status = dnnl_engine_create(&the_engine, dnnl_cpu, 0);
    if (start_status == dnnl_success)
        start_status =
            dnnl_stream_create(&the_stream, the_engine, dnnl_stream_default_flags);
}

enum kd_status kd_onednn_status(dnnl_status_t result, const char *what)
{
    if (result == dnnl_success)
        return KD_OK;
    if (result == dnnl_out_of_memory)
        return kd_fail(KD_EMEMORY, "oneDNN: %s: out of memory", what);
    return kd_fail(KD_EBUG, "oneDNN: %s failed (status %d)", what, (int)result);
}

enum kd_status kd_onednn(dnnl_engine_t *engine, dnnl_stream_t *stream)
{
    pthread_once(&once, start);
    if (engine != NULL)
        *engine = the_engine;
    if (stream != NULL)
        *stream = the_stream;
    return kd_onednn_status(start_status, "starting the CPU engine");
}

size_t kd_onednn_lanes(void)
{
    const unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();

    return (isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core ? 16 : 8;
}

enum kd_status kd_onednn_desc(dnnl_memory_desc_t *desc, int rank,
                              const dnnl_dim_t *dims, dnnl_format_tag_t tag)
{
    return kd_onednn_status(
        dnnl_memory_desc_init_by_tag(desc, rank, dims, dnnl_f32, tag),
        "describing a tensor");
}

static enum kd_status set_post_ops(dnnl_primitive_attr_t attributes,
                                   const struct kd_wish *wish)
{
    enum kd_status status = KD_EBUG;
    dnnl_post_ops_t ops = NULL;

    KD_TRY(kd_onednn_status(dnnl_post_ops_create(&ops), "attributes"));
    if (wish->sum)
        KD_TRY(kd_onednn_status(dnnl_post_ops_append_sum(ops, 1), "attributes"));
    if (wish->relu)
        KD_TRY(kd_onednn_status(
            dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_relu, 0, 0),
            "attributes"));
    KD_TRY(kd_onednn_status(dnnl_primitive_attr_set_post_ops(attributes, ops),
                            "attributes"));
    status = KD_OK;
out:
    dnnl_post_ops_destroy(ops);
    return status;
}

enum kd_status kd_primitive_describe(struct kd_primitive *p, const_dnnl_op_desc_t op,
                                     const struct kd_wish *wish, bool *supported)
{
    enum kd_status status = KD_EBUG;
    dnnl_engine_t engine = NULL;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_iterator_t all = NULL;
    dnnl_status_t result;

    KD_TRY(kd_onednn(&engine, NULL));
    KD_TRY(kd_onednn_status(dnnl_primitive_attr_create(&attributes), "attributes"));
    KD_TRY(kd_onednn_status(
        dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user),
        "attributes"));
    KD_TRY(set_post_ops(attributes, wish));
    result = dnnl_primitive_desc_iterator_create(
        &all, op, attributes, engine, wish->hint != NULL ? wish->hint->desc : NULL);
    if (result == dnnl_success) {
        p->desc = dnnl_primitive_desc_iterator_fetch(all);
        result = p->desc != NULL ? dnnl_success : dnnl_out_of_memory;
    }
    *supported = result == dnnl_success;
    if (result == dnnl_unimplemented)
        result = dnnl_success;
    KD_TRY(kd_onednn_status(result, "describing a layer"));
    status = KD_OK;
out:
    dnnl_primitive_desc_iterator_destroy(all);
    dnnl_primitive_attr_destroy(attributes);
    return status;
}

enum kd_status kd_primitive_create(struct kd_primitive *p)
{
    return kd_onednn_status(dnnl_primitive_create(&p->primitive, p->desc),
                            "making a kernel");
}

enum kd_status kd_primitive_reorder(struct kd_primitive *p,
                                    const dnnl_memory_desc_t *from,
                                    const dnnl_memory_desc_t *to)
{
    enum kd_status status = KD_EBUG;
    dnnl_engine_t engine = NULL;

    KD_TRY(kd_onednn(&engine, NULL));
    KD_TRY(kd_onednn_status(
        dnnl_reorder_primitive_desc_create(&p->desc, from, engine, to, engine, NULL),
        "describing a reorder"));
    KD_TRY(kd_primitive_create(p));
    status = KD_OK;
out:
    return status;
}

const dnnl_memory_desc_t *kd_primitive_layout(const struct kd_primitive *p,
                                              dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(p->desc, what, 0);
}

const char *kd_primitive_kernel(const struct kd_primitive *p)
{
    const char *name = NULL;

    if (dnnl_primitive_desc_query(p->desc, dnnl_query_impl_info_str, 0, &name) !=
        dnnl_success)
        return "";
    return name;
}

size_t kd_primitive_workspace(const struct kd_primitive *p)
{
    const dnnl_memory_desc_t *desc =
        dnnl_primitive_desc_query_md(p->desc, dnnl_query_scratchpad_md, 0);

    return desc != NULL ? dnnl_memory_desc_get_size(desc) : 0;
}

enum kd_status kd_primitive_bind(struct kd_primitive *p, int argument,
                                 const dnnl_memory_desc_t *desc, void *data)
{
    enum kd_status status = KD_EBUG;
    dnnl_engine_t engine = NULL;
    dnnl_memory_t memory = NULL;

    KD_TRY(kd_onednn(&engine, NULL));
    KD_TRY(kd_onednn_status(dnnl_memory_create(&memory, desc, engine, data),
                            "binding memory"));
    p->args[p->num_args].arg = argument;
    p->args[p->num_args].memory = memory;
    p->num_args++;
    status = KD_OK;
out:
    return status;
}

void kd_primitive_rebind(struct kd_primitive *p, int argument, void *data)
{
    for (int i = 0; i < p->num_args; i++)
        if (p->args[i].arg == argument)
            dnnl_memory_set_data_handle(p->args[i].memory, data);
}

enum kd_status kd_primitive_run(const struct kd_primitive *p)
{
    enum kd_status status = KD_EBUG;
    dnnl_stream_t stream = NULL;

    KD_TRY(kd_onednn(NULL, &stream));
    KD_TRY(kd_onednn_status(
        dnnl_primitive_execute(p->primitive, stream, p->num_args, p->args),
        "running a layer"));
    KD_TRY(kd_onednn_status(dnnl_stream_wait(stream), "waiting for a layer"));
    status = KD_OK;
out:
    return status;
}

void kd_primitive_clear(struct kd_primitive *p)
{
    for (int i = 0; i < p->num_args; i++)
        dnnl_memory_destroy(p->args[i].memory);
    dnnl_primitive_destroy(p->primitive);
    dnnl_primitive_desc_destroy(p->desc);
    memset(p, 0, sizeof *p);
}
