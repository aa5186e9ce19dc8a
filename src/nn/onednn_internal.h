/* SPDX-License-Identifier: MIT */
/*
 * oneDNN in small: the engine and stream of the process, primitives with their
 * arguments, and its status as ours.
 */
#ifndef KD_ONEDNN_INTERNAL_H
#define KD_ONEDNN_INTERNAL_H

#include "kd/status.h"

#include <dnnl.h>

#include <stdbool.h>
#include <stddef.h>

/* The CPU engine and its stream, made at the first call. */
enum kd_status kd_onednn(dnnl_engine_t *engine, dnnl_stream_t *stream) KD_CHECKED;

/* Channels of a block in the layout that the fast kernels of this processor read: 16
 * with AVX-512, else 8. */
size_t kd_onednn_lanes(void);

/* KD_OK, or KD_EBUG with "oneDNN: WHAT failed (status N)". */
enum kd_status kd_onednn_status(dnnl_status_t status, const char *what) KD_CHECKED;

/* A description from dimensions and a format tag. */
enum kd_status kd_onednn_desc(dnnl_memory_desc_t *desc, int rank,
                              const dnnl_dim_t *dims, dnnl_format_tag_t tag) KD_CHECKED;

/* A primitive with its argument list. The scratchpad is the caller's. */
#define KD_MAX_ARGS 6
struct kd_primitive {
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[KD_MAX_ARGS];
    int num_args;
};

/* What is asked of a kernel. */
struct kd_wish {
    const struct kd_primitive *hint; /* the forward one, for backward */
    bool sum, relu; /* y = [relu](what it computes [+ y]), of a NaN 0 */
};

/* Makes the description of an operation, by the first kernel of the library's list that
 * can do it. *supported is false, and the status KD_OK, where there is none. */
enum kd_status kd_primitive_describe(struct kd_primitive *p, const_dnnl_op_desc_t op,
                                     const struct kd_wish *wish,
                                     bool *supported) KD_CHECKED;

/* Creates the described primitive. */
enum kd_status kd_primitive_create(struct kd_primitive *p) KD_CHECKED;

/* A reorder between two layouts, described and created. */
enum kd_status kd_primitive_reorder(struct kd_primitive *p,
                                    const dnnl_memory_desc_t *from,
                                    const dnnl_memory_desc_t *to) KD_CHECKED;

/* The layout that the primitive wants for an argument. */
const dnnl_memory_desc_t *kd_primitive_layout(const struct kd_primitive *p,
                                              dnnl_query_t what);

/* What the library calls the kernel: "jit_wino_4x3:avx512_core". */
const char *kd_primitive_kernel(const struct kd_primitive *p);

size_t kd_primitive_workspace(const struct kd_primitive *p);

/* Adds an argument over `data`, laid out as `desc` says. */
enum kd_status kd_primitive_bind(struct kd_primitive *p, int argument,
                                 const dnnl_memory_desc_t *desc, void *data) KD_CHECKED;

/* Points an argument at other memory. */
void kd_primitive_rebind(struct kd_primitive *p, int argument, void *data);

enum kd_status kd_primitive_run(const struct kd_primitive *p) KD_CHECKED;
void kd_primitive_clear(struct kd_primitive *p);

#endif
