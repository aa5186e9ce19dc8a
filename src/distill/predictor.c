/* SPDX-License-Identifier: MIT */
/* Predictors: what a name stands for, and its log-probabilities. */
#include "distill/predictor_internal.h"

#include "kd/h5.h"
#include "kd/memory.h"
#include "kd/model.h"
#include "kd/thread.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* -- opening ---------------------------------------------------------------- */

/* Whether a name is a file that kd-train saved. */
static enum kd_status is_network(const char *name, bool *network)
{
    enum kd_status status = KD_EBUG;
    struct kd_h5 *file = NULL;
    struct stat facts;
    char *format = NULL;

    *network = false;
    if (stat(name, &facts) != 0 || !S_ISREG(facts.st_mode))
        return KD_OK; /* a directory or a pipe, or an error that kd_cache_open tells */
    KD_TRY(kd_h5_open(name, &file));
    if (kd_h5_has_attribute(file, "format")) {
        KD_TRY(kd_h5_get_string(file, "format", &format));
        *network = strcmp(format, KD_MODEL_FORMAT) == 0;
    }
    status = KD_OK;
out:
    kd_h5_close(file);
    free(format);
    return status;
}

static enum kd_status open_network(struct kd_predictor *p, const char *name,
                                   double temperature)
{
    const enum kd_status status = kd_teacher_open(name, &p->teacher);

    if (status != KD_OK)
        return status;
    p->num_classes = kd_teacher_facts(p->teacher)->num_classes;
    p->class_map_digest = kd_teacher_facts(p->teacher)->class_map_digest;
    p->temperature = temperature > 0 ? temperature : 1;
    return KD_OK;
}

static enum kd_status open_cache(struct kd_predictor *p, double temperature)
{
    const enum kd_status status = kd_cache_open(p->name, &p->cache);
    const struct kd_identity *of = NULL;
    const struct kd_shard *last = NULL;

    if (status != KD_OK)
        return status;
    of = kd_cache_identity(p->cache);
    last = kd_cache_shard(p->cache, kd_cache_num_shards(p->cache) - 1);
    p->num_classes = of->num_classes;
    p->class_map_digest = of->class_map_digest;
    p->first_id = kd_shard_ids(kd_cache_shard(p->cache, 0))[0];
    p->end_id = kd_shard_ids(last)[kd_shard_rows(last) - 1] + 1;
    p->temperature = temperature > 0 ? temperature : of->temperature;
    if (p->temperature != of->temperature && of->value_kind != KD_VALUE_LOGITS)
        return kd_fail(KD_EDATA,
                       "%s: holds log-probabilities at temperature %g, which cannot "
                       "be taken to %g: evaluate it at its own",
                       p->name, of->temperature, temperature);
    return KD_OK;
}

enum kd_status kd_predictor_open(struct kd_predictor *predictor, const char *name,
                                 double temperature)
{
    enum kd_status status = KD_EBUG;
    char *teacher = NULL;
    bool network = false;

    *predictor = (struct kd_predictor){.name = name};
    if (strncmp(name, "model:", 6) == 0)
        return open_network(predictor, name, temperature);
    KD_TRY(is_network(name, &network));
    if (network) {
        teacher = kd_format("model:%s", name);
        KD_TRY(teacher != NULL ? KD_OK : KD_EMEMORY);
        KD_TRY(open_network(predictor, teacher, temperature));
    } else {
        KD_TRY(open_cache(predictor, temperature));
    }
    status = KD_OK;
out:
    free(teacher);
    return status;
}

void kd_predictor_clear(struct kd_predictor *predictor)
{
    kd_teacher_close(predictor->teacher);
    kd_cache_close(predictor->cache);
    kd_batch_clear(&predictor->batch);
    *predictor = (struct kd_predictor){0};
}

/* -- belonging -------------------------------------------------------------- */

static enum kd_status check_cache(const struct kd_predictor *p,
                                  const struct kd_dataset_facts *data)
{
    const struct kd_identity *of = kd_cache_identity(p->cache);

    if (!kd_digest_equal(&of->dataset_digest, &data->digest))
        return kd_fail(KD_EDATA,
                       "%s: was dumped over another dataset (digest %.8s) than %s "
                       "(%.8s)",
                       p->name, of->dataset_digest.hex, data->name, data->digest.hex);
    if (data->first < p->first_id || data->end > p->end_id)
        return kd_fail(KD_EDATA,
                       "%s: has ids %llu to %llu, %s has %llu to %llu: evaluate the "
                       "slice that both have, as DATASET@%llu:%llu",
                       p->name, (unsigned long long)p->first_id,
                       (unsigned long long)p->end_id - 1, data->name,
                       (unsigned long long)data->first,
                       (unsigned long long)data->end - 1,
                       (unsigned long long)p->first_id, (unsigned long long)p->end_id);
    return kd_dataset_classes_fit(data, p->name, p->num_classes, &p->class_map_digest);
}

enum kd_status kd_predictor_ready(struct kd_predictor *predictor,
                                  const struct kd_dataset *data)
{
    enum kd_status status = KD_EBUG;
    struct kd_predictor *p = predictor;

    if (p->cache != NULL)
        return data != NULL ? check_cache(p, kd_dataset_facts(data)) : KD_OK;
    if (data == NULL)
        return kd_fail(KD_EUSAGE,
                       "%s: a network needs samples to run over: give --data DATASET",
                       p->name);
    KD_TRY(kd_teacher_fits(p->teacher, kd_dataset_facts(data)));
    KD_TRY(kd_batch_init(&p->batch, data, kd_teacher_facts(p->teacher)->batch));
    p->data = data;
    status = KD_OK;
out:
    return status;
}

/* -- reading ---------------------------------------------------------------- */

/* What the threads turn into log-probabilities. */
struct softening {
    const struct kd_predictor *predictor;
    const uint64_t *ids; /* [count] */
    float *rows;         /* [count][classes] */
    double factor;       /* what logits are multiplied by */
};

/* z = log softmax(factor z) */
static enum kd_status soften_row(const struct softening *s, uint64_t id, float *z)
{
    const size_t classes = s->predictor->num_classes;
    double top = -INFINITY, sum = 0, norm = 0;

    for (size_t c = 0; c < classes; c++) {
        if (!isfinite(z[c]))
            return kd_fail(KD_EDATA, "%s: sample %llu: the logit of class %zu is %g",
                           s->predictor->name, (unsigned long long)id, c, (double)z[c]);
        top = fmax(top, (double)z[c] * s->factor);
    }
    for (size_t c = 0; c < classes; c++)
        sum += exp((double)z[c] * s->factor - top);
    norm = top + log(sum);
    for (size_t c = 0; c < classes; c++)
        z[c] = (float)fmax((double)z[c] * s->factor - norm, -FLT_MAX);
    return KD_OK;
}

static enum kd_status soften_rows(void *context, size_t begin, size_t end)
{
    const struct softening *s = context;
    enum kd_status status = KD_OK;

    for (size_t i = begin; i < end && status == KD_OK; i++)
        status = soften_row(s, s->ids[i], s->rows + i * s->predictor->num_classes);
    return status;
}

static enum kd_status read_network(struct kd_predictor *p,
                                   const struct kd_view_spec *spec, const uint64_t *ids,
                                   const uint32_t *views, size_t count, float *logits)
{
    enum kd_status status = KD_EBUG;
    const struct kd_teacher_facts *facts = kd_teacher_facts(p->teacher);
    struct kd_batch *batch = &p->batch;

    for (size_t at = 0; at < count; at += batch->size) {
        batch->size = count - at < batch->capacity ? count - at : batch->capacity;
        memcpy(batch->id, ids + at, batch->size * sizeof *ids);
        memcpy(batch->view, views + at, batch->size * sizeof *views);
        KD_TRY(kd_batch_fill(batch, p->data, spec, &facts->input.normalize));
        KD_TRY(kd_teacher_run(p->teacher, batch->input, batch->size,
                              logits + at * p->num_classes));
    }
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_predictor_read(struct kd_predictor *predictor,
                                 const struct kd_view_spec *spec, const uint64_t *ids,
                                 const uint32_t *views, size_t count, float *log_p)
{
    enum kd_status status = KD_EBUG;
    struct softening softening = {.predictor = predictor, .ids = ids, .rows = log_p};

    if (predictor->cache != NULL) {
        KD_TRY(kd_cache_read(predictor->cache, ids, views, count, log_p, NULL));
        softening.factor =
            kd_cache_identity(predictor->cache)->temperature / predictor->temperature;
    } else {
        KD_TRY(read_network(predictor, spec, ids, views, count, log_p));
        softening.factor = 1 / predictor->temperature;
    }
    KD_TRY(kd_parallel(count, 64, soften_rows, &softening));
    status = KD_OK;
out:
    return status;
}
