/* SPDX-License-Identifier: MIT */
/* What a saved network is, in words or as JSON. */
#include "kd/model.h"

static void write_text(const char *path, const struct kd_model *m, size_t count,
                       FILE *to)
{
    char arch[256];

    kd_arch_text(&m->arch, arch);
    fprintf(to, "%s: a network\n", path);
    fprintf(to, "  %-18s %s\n", "architecture", arch);
    fprintf(to, "  %-18s %zu x %zu x %zu\n", "input", m->sizes.channels,
            m->sizes.height, m->sizes.width);
    fprintf(to, "  %-18s %zu\n", "num_classes", m->sizes.classes);
    fprintf(to, "  %-18s %zu\n", "parameters", count);
    fprintf(to, "  %-18s %llu\n", "epochs", (unsigned long long)m->epoch);
    for (size_t i = 0; i < m->num_normalize; i++)
        fprintf(to, "  %-18s mean %.6g deviation %.6g\n", "normalize", m->mean[i],
                m->deviation[i]);
    fprintf(to, "  %-18s %s\n", "class_map_digest", m->class_map_digest.hex);
    fprintf(to, "  %-18s %s\n", "digest", m->digest.hex);
}

static void numbers(struct kd_json *json, const char *key, const double *values,
                    size_t count)
{
    kd_json_begin(json, key, '[');
    for (size_t i = 0; i < count; i++)
        kd_json_f64(json, NULL, values[i]);
    kd_json_end(json);
}

static void write_json(const char *path, const struct kd_model *m, size_t count,
                       struct kd_json *json)
{
    char arch[256];

    kd_arch_text(&m->arch, arch);
    kd_json_string(json, "format", KD_MODEL_FORMAT);
    kd_json_string(json, "name", path);
    kd_json_string(json, "architecture", arch);
    kd_json_u64(json, "channels", m->sizes.channels);
    kd_json_u64(json, "height", m->sizes.height);
    kd_json_u64(json, "width", m->sizes.width);
    kd_json_u64(json, "num_classes", m->sizes.classes);
    kd_json_u64(json, "parameters", count);
    kd_json_u64(json, "epochs", m->epoch);
    numbers(json, "normalize_mean", m->mean, m->num_normalize);
    numbers(json, "normalize_deviation", m->deviation, m->num_normalize);
    kd_json_string(json, "class_map_digest", m->class_map_digest.hex);
    kd_json_string(json, "digest", m->digest.hex);
}

enum kd_status kd_model_report(const char *path, struct kd_json *json, FILE *to)
{
    enum kd_status status = KD_EBUG;
    struct kd_network *net = NULL;
    struct kd_model model;

    KD_TRY(kd_model_open(path, &model));
    KD_TRY(kd_network_build(&model.arch, &model.sizes, 1, false, &net));
    KD_TRY(kd_model_load(path, net->graph));
    if (json != NULL)
        write_json(path, &model, kd_network_count(net), json);
    else
        write_text(path, &model, kd_network_count(net), to);
    status = kd_h5_tell_history(path, json, to);
out:
    kd_network_free(net);
    return status;
}
