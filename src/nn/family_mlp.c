/* SPDX-License-Identifier: MIT */
/* Multilayer perceptrons: dense layers with batch norm and ReLU between them. */
#include "nn/family_internal.h"

#include <stdio.h>
#include <string.h>

static void defaults(struct kd_arch *arch)
{
    arch->hidden[0] = 256;
    arch->hidden[1] = 128;
    arch->num_hidden = 2;
    arch->batch_norm = true;
}

static enum kd_status from_numbers(const struct kd_yaml *node, size_t which,
                                   const uint64_t *numbers, struct kd_arch *arch)
{
    (void)arch;
    if (which == 0)
        return KD_OK;
    return kd_yaml_fail(node, "write {family: mlp, hidden: [%llu]}, not mlp%llu",
                        (unsigned long long)numbers[0], (unsigned long long)numbers[0]);
}

static enum kd_status read_hidden(const struct kd_yaml *node, struct kd_arch *arch)
{
    if (node->kind != KD_YAML_SEQUENCE || node->count > KD_MAX_HIDDEN)
        return kd_yaml_fail(node, "hidden is a list of up to %d sizes", KD_MAX_HIDDEN);
    arch->num_hidden = node->count;
    for (size_t i = 0; i < node->count; i++) {
        uint64_t value = 0;
        const enum kd_status status = kd_yaml_u64(node->items[i], 1, 65536, &value);
        if (status != KD_OK)
            return status;
        arch->hidden[i] = (size_t)value;
    }
    return KD_OK;
}

static enum kd_status from_map(const struct kd_yaml *node, struct kd_arch *arch)
{
    static const char *const keys[] = {"family", "hidden", "batch-norm", NULL};
    const struct kd_yaml *hidden = kd_yaml_get(node, "hidden");
    const struct kd_yaml *norm = kd_yaml_get(node, "batch-norm");
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_yaml_only_keys(node, keys));
    if (hidden != NULL)
        KD_TRY(read_hidden(hidden, arch));
    if (norm != NULL)
        KD_TRY(kd_yaml_bool(norm, &arch->batch_norm));
    status = KD_OK;
out:
    return status;
}

static void text(const struct kd_arch *arch, char to[256])
{
    int at = snprintf(to, 256, "{family: mlp, hidden: [");

    for (size_t i = 0; i < arch->num_hidden; i++)
        at += snprintf(to + at, 256 - (size_t)at, "%s%zu", i > 0 ? ", " : "",
                       arch->hidden[i]);
    snprintf(to + at, 256 - (size_t)at, "], batch-norm: %s}",
             arch->batch_norm ? "true" : "false");
}

static struct kd_tensor *add_hidden(struct kd_build *b, struct kd_tensor *x, size_t i)
{
    x = kd_graph_dense(b->graph, x, kd_build_name(b, "fc%zu", i + 1),
                       b->arch->hidden[i]);
    if (b->arch->batch_norm)
        return kd_graph_batch_norm(b->graph, x, NULL, true,
                                   kd_build_name(b, "bn%zu", i + 1));
    return kd_graph_relu(b->graph, x);
}

static struct kd_tensor *trunk(struct kd_build *b, struct kd_tensor *x)
{
    for (size_t i = 0; i + 1 < b->arch->num_hidden; i++)
        x = add_hidden(b, x, i);
    return x;
}

static struct kd_tensor *branch(struct kd_build *b, struct kd_tensor *x)
{
    if (b->arch->num_hidden > 0)
        x = add_hidden(b, x, b->arch->num_hidden - 1);
    b->features = x;
    return kd_graph_dense(b->graph, x, kd_build_name(b, "fc"), b->classes);
}

const struct kd_family_calls kd_family_mlp = {
    .name = "mlp",
    .patterns = {"", "#"},
    .defaults = defaults,
    .from_numbers = from_numbers,
    .from_map = from_map,
    .text = text,
    .trunk = trunk,
    .branch = branch,
};
