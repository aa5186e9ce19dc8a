/* SPDX-License-Identifier: MIT */
/* Models: networks to and from HDF5 files. */
#include "kd/model.h"

#include "kd/memory.h"
#include "kd/yaml.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -- parameters ------------------------------------------------------------- */

static char *dataset_name(const char *group, const struct kd_parameter *p)
{
    return kd_format("%s/%s", group, p->name);
}

static enum kd_status write_parameter(struct kd_h5 *file, const char *group,
                                      const struct kd_parameter *p)
{
    enum kd_status status = KD_EBUG;
    char *name = dataset_name(group, p);
    float *plain = NULL;
    uint64_t shape[4];

    KD_TRY(name != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(KD_NEW(plain, p->count));
    kd_parameter_get(p, p->value, plain);
    for (size_t i = 0; i < p->rank; i++)
        shape[i] = p->shape[i];
    KD_TRY(kd_h5_write(file, name, KD_F32, p->rank, shape, plain, NULL));
    status = KD_OK;
out:
    free(name);
    free(plain);
    return status;
}

enum kd_status kd_model_write_parameters(struct kd_h5 *file, const char *group,
                                         const struct kd_graph *graph)
{
    for (size_t i = 0; i < kd_graph_num_parameters(graph); i++) {
        const enum kd_status status =
            write_parameter(file, group, kd_graph_parameter(graph, i));
        if (status != KD_OK)
            return status;
    }
    return KD_OK;
}

static bool has_shape(const struct kd_array_info *info, const struct kd_parameter *p)
{
    if (info->type != KD_F32 || info->rank != p->rank)
        return false;
    for (size_t i = 0; i < p->rank; i++)
        if (info->shape[i] != p->shape[i])
            return false;
    return true;
}

static enum kd_status read_parameter(struct kd_h5 *file, const char *group,
                                     struct kd_parameter *p)
{
    enum kd_status status = KD_EBUG;
    char *name = dataset_name(group, p);
    float *plain = NULL;
    struct kd_array_info info;

    KD_TRY(name != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_h5_info(file, name, &info));
    if (!has_shape(&info, p)) {
        status = kd_fail(KD_EDATA,
                         "%s: %s: not the float32 array of %zu values that the "
                         "architecture needs",
                         kd_h5_path(file), name, p->count);
        goto out;
    }
    KD_TRY(KD_NEW(plain, p->count));
    KD_TRY(kd_h5_read(file, name, &info, plain));
    KD_TRY(kd_h5_check_finite(file, name, plain, p->count));
    kd_parameter_set(p, plain, p->value);
    status = KD_OK;
out:
    free(name);
    free(plain);
    return status;
}

enum kd_status kd_model_read_parameters(struct kd_h5 *file, const char *group,
                                        struct kd_graph *graph)
{
    for (size_t i = 0; i < kd_graph_num_parameters(graph); i++) {
        const enum kd_status status =
            read_parameter(file, group, kd_graph_parameter(graph, i));
        if (status != KD_OK)
            return status;
    }
    kd_graph_parameters_changed(graph);
    return KD_OK;
}

/* -- facts ------------------------------------------------------------------ */

static enum kd_status write_facts(struct kd_h5 *file, const struct kd_model *m,
                                  const char *history)
{
    enum kd_status status = KD_EBUG;
    char text[256];

    kd_arch_text(&m->arch, text);
    KD_TRY(kd_h5_set_string(file, "format", KD_MODEL_FORMAT));
    KD_TRY(kd_h5_set_u64(file, "format_version", 1));
    KD_TRY(kd_h5_set_string(file, "architecture", text));
    KD_TRY(kd_h5_set_u64(file, "channels", m->sizes.channels));
    KD_TRY(kd_h5_set_u64(file, "height", m->sizes.height));
    KD_TRY(kd_h5_set_u64(file, "width", m->sizes.width));
    KD_TRY(kd_h5_set_u64(file, "num_classes", m->sizes.classes));
    KD_TRY(kd_h5_set_string(file, "class_map_digest", m->class_map_digest.hex));
    if (m->num_normalize > 0) {
        KD_TRY(kd_h5_set_f64s(file, "normalize_mean", m->mean, m->num_normalize));
        KD_TRY(kd_h5_set_f64s(file, "normalize_deviation", m->deviation,
                              m->num_normalize));
    }
    KD_TRY(kd_h5_set_u64(file, "epoch", m->epoch));
    KD_TRY(kd_h5_set_history(file, history));
    status = KD_OK;
out:
    return status;
}

struct saving {
    const struct kd_model *model;
    const struct kd_graph *graph;
    const char *history;
};

static enum kd_status write_all(const void *context, struct kd_h5 *file)
{
    const struct saving *s = context;
    const enum kd_status status = write_facts(file, s->model, s->history);

    return status == KD_OK ? kd_model_write_parameters(file, "state_dict", s->graph)
                           : status;
}

enum kd_status kd_model_save(const char *path, const struct kd_model *model,
                             const struct kd_graph *graph, const char *history)
{
    return kd_h5_save(path, write_all, &(struct saving){model, graph, history});
}

static enum kd_status get_size(struct kd_h5 *file, const char *name, uint64_t max,
                               size_t *value)
{
    uint64_t number = 0;
    const enum kd_status status = kd_h5_get_u64(file, name, &number);

    if (status != KD_OK)
        return status;
    if (number == 0 || number > max)
        return kd_fail(KD_EDATA, "%s: %s is %llu, not 1 to %llu", kd_h5_path(file),
                       name, (unsigned long long)number, (unsigned long long)max);
    *value = (size_t)number;
    return KD_OK;
}

static enum kd_status read_arch(struct kd_h5 *file, struct kd_arch *arch)
{
    enum kd_status status = KD_EBUG;
    char *text = NULL;
    struct kd_yaml *yaml = NULL;

    KD_TRY(kd_h5_get_string(file, "architecture", &text));
    status = kd_yaml_parse(text, "architecture", &yaml);
    if (status == KD_OK)
        status = kd_arch_parse(yaml, arch);
    if (status != KD_OK) {
        kd_error_prefix("%s: ", kd_h5_path(file));
        status = KD_EDATA; /* the file's fault, not a recipe's */
        goto out;
    }
    status = KD_OK;
out:
    kd_yaml_free(yaml);
    free(text);
    return status;
}

static enum kd_status read_normalize(struct kd_h5 *file, struct kd_model *m)
{
    enum kd_status status = KD_EBUG;
    size_t count = 0;

    m->num_normalize = 0;
    if (!kd_h5_has_attribute(file, "normalize_mean"))
        return KD_OK;
    KD_TRY(kd_h5_get_f64s(file, "normalize_mean", m->mean, KD_MAX_NORMALIZE, &count));
    KD_TRY(kd_h5_get_f64s(file, "normalize_deviation", m->deviation, KD_MAX_NORMALIZE,
                          &m->num_normalize));
    status = kd_fail(KD_EDATA, "%s: normalize_mean and _deviation do not make sense",
                     kd_h5_path(file));
    if (count != m->num_normalize || (count != 1 && count != m->sizes.channels))
        goto out;
    for (size_t i = 0; i < count; i++)
        if (!isfinite(m->mean[i]) || !isfinite(m->deviation[i]) || m->deviation[i] <= 0)
            goto out;
    status = KD_OK;
out:
    return status;
}

static enum kd_status read_class_map(struct kd_h5 *file, struct kd_digest *digest)
{
    char *text = NULL;
    enum kd_status status = kd_h5_get_string(file, "class_map_digest", &text);

    if (status != KD_OK)
        return status;
    if (strlen(text) + 1 == sizeof digest->hex)
        memcpy(digest->hex, text, sizeof digest->hex);
    else
        status =
            kd_fail(KD_EDATA, "%s: class_map_digest is no digest", kd_h5_path(file));
    free(text);
    return status;
}

enum kd_status kd_model_open(const char *path, struct kd_model *model)
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;

    memset(model, 0, sizeof *model);
    KD_TRY(kd_h5_open(path, &file));
    KD_TRY(
        kd_h5_expect_format(file, KD_MODEL_FORMAT, 1, "a network saved by kd-train"));
    KD_TRY(read_arch(file, &model->arch));
    KD_TRY(get_size(file, "channels", 1U << 24, &model->sizes.channels));
    KD_TRY(get_size(file, "height", 1U << 16, &model->sizes.height));
    KD_TRY(get_size(file, "width", 1U << 16, &model->sizes.width));
    KD_TRY(get_size(file, "num_classes", 1U << 24, &model->sizes.classes));
    KD_TRY(read_class_map(file, &model->class_map_digest));
    KD_TRY(read_normalize(file, model));
    KD_TRY(kd_h5_get_u64(file, "epoch", &model->epoch));
    KD_TRY(kd_hash_file(path, &model->digest, NULL));
    status = KD_OK;
out:
    kd_h5_close(file);
    return status;
}

enum kd_status kd_model_load(const char *path, struct kd_graph *graph)
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;

    KD_TRY(kd_h5_open(path, &file));
    KD_TRY(kd_model_read_parameters(file, "state_dict", graph));
    status = KD_OK;
out:
    kd_h5_close(file);
    return status;
}
