/* SPDX-License-Identifier: MIT */
/* Predictors: what a name stands for, and its log-probabilities. */
#include "distill/predictor_internal.h"

#include "kd/h5.h"
#include "kd/half.h"
#include "kd/memory.h"
#include "kd/model.h"
#include "kd/soft.h"
#include "kd/thread.h"
#include "kd/vector.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* -- opening ---------------------------------------------------------------- */

/* Whether a name stands for a network, and not for a cache: it says so, is a directory
 * with one in it, or a file that kd-train saved. */
static enum kd_status is_network(const char *name, bool *network)
{
    enum kd_status status = KD_EBUG;
    char *path = kd_model_path(name), *format = NULL;
    struct kd_h5 *file = NULL;
    struct stat facts;

    if (path == NULL)
        return KD_EMEMORY;
    *network = strcmp(path, name) != 0;
    free(path);
    if (*network || stat(name, &facts) != 0 || !S_ISREG(facts.st_mode))
        return KD_OK; /* of a directory or a pipe, errors are kd_cache_open's */
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

static enum kd_status open_network(struct kd_predictor *p, double temperature)
{
    enum kd_status status = KD_EMEMORY;
    const bool prefixed = strncmp(p->name, "model:", 6) == 0;
    char *teacher = kd_format("%s%s", prefixed ? "" : "model:", p->name);

    if (teacher != NULL)
        status = kd_teacher_open(teacher, &p->teacher);
    free(teacher);
    if (status != KD_OK)
        return status;
    p->num_classes = kd_teacher_facts(p->teacher)->num_classes;
    p->class_map_digest = kd_teacher_facts(p->teacher)->class_map_digest;
    p->temperature = temperature > 0 ? temperature : 1;
    return KD_OK;
}

/* Which of the further temperatures of its rows; -1: their own, or any if dense. */
static int find_also(const struct kd_identity *of, double temperature)
{
    double also[KD_MAX_ALSO];
    const size_t count = kd_codec_also(&of->codec, also);

    for (size_t i = 0; i < count && temperature != of->temperature; i++)
        if (also[i] == temperature)
            return (int)i;
    return -1;
}

static enum kd_status open_cache(struct kd_predictor *p, double temperature)
{
    enum kd_status status = kd_cache_open(p->name, &p->cache);
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
    p->also = find_also(of, p->temperature);
    status = kd_soft_check(of, &(struct kd_soft_spec){p->temperature, KD_TAIL_SPREAD});
    if (status != KD_OK)
        kd_error_prefix("%s", p->name);
    return status;
}

enum kd_status kd_predictor_open(struct kd_predictor *predictor, const char *name,
                                 double temperature)
{
    bool network = false;
    enum kd_status status = is_network(name, &network);

    *predictor = (struct kd_predictor){.name = name};
    if (status != KD_OK)
        return status;
    return network ? open_network(predictor, temperature)
                   : open_cache(predictor, temperature);
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
    const char *name = kd_cache_name(p->cache);

    if (!kd_digest_equal(&of->dataset_digest, &data->digest))
        return kd_fail(KD_EDATA,
                       "%s: was dumped over another dataset (digest %.8s) than %s "
                       "(%.8s)",
                       name, of->dataset_digest.hex, data->name, data->digest.hex);
    return kd_dataset_classes_fit(data, name, p->num_classes, &p->class_map_digest);
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

/* -- probabilities ---------------------------------------------------------- */

/* What is so far below a row's maximum has no probability: half precision ends here. */
#define NOTHING (-KD_HALF_MAX)

/* x, or -FLT_MAX where there is nothing. */
KD_VECTOR_INLINE float keep_if(uint32_t mask, float x)
{
    return kd_vector_float((kd_vector_bits(x) & mask) |
                           (kd_vector_bits(-FLT_MAX) & ~mask));
}

/* z = factor (z - top) */
KD_VECTOR static void scale_row(float *z, size_t n, float top, float factor)
{
    for (size_t c = 0; c < n; c++) {
        const float below = z[c] - top;
        z[c] = keep_if(KD_VECTOR_MASK(below > NOTHING), below * factor);
    }
}

/* z = z - by */
KD_VECTOR static void shift_row(float *z, size_t n, float by)
{
    for (size_t c = 0; c < n; c++)
        z[c] = keep_if(KD_VECTOR_MASK(z[c] > -FLT_MAX), z[c] - by);
}

/* Sums are taken in so many parts, then of the parts in order. */
#define LANES 16

KD_VECTOR_INLINE void exp_block(const float *z, double sums[LANES])
{
    for (size_t i = 0; i < LANES; i++)
        sums[i] += (double)kd_vector_exp(z[i]);
}

KD_VECTOR static double sum_exp(const float *z, size_t n)
{
    double sums[LANES] = {0}, total = 0;

    for (; n >= LANES; z += LANES, n -= LANES)
        exp_block(z, sums);
    for (size_t i = 0; i < n; i++)
        sums[i] += (double)kd_vector_exp(z[i]);
    for (size_t i = 0; i < LANES; i++)
        total += sums[i];
    return total;
}

/* z = log softmax(factor z) */
static void soften_row(float *z, size_t n, float factor)
{
    float top = z[0];

    for (size_t c = 1; c < n; c++)
        top = z[c] > top ? z[c] : top;
    scale_row(z, n, top, factor);
    shift_row(z, n, (float)log(sum_exp(z, n)));
}

/* -- reading ---------------------------------------------------------------- */

/* What the threads read and turn into log-probabilities. */
struct reading {
    const struct kd_predictor *predictor;
    const uint64_t *ids;   /* [count] */
    const uint32_t *views; /* [count] */
    float *rows;           /* [count][classes] */
    double *kept;          /* [count] */
};

static enum kd_status check_logits(const struct kd_predictor *p, uint64_t id,
                                   const float *z)
{
    for (size_t c = 0; c < p->num_classes; c++)
        if (!isfinite(z[c]))
            return kd_fail(KD_EDATA, "%s: sample %llu: the logit of class %zu is %g",
                           p->name, (unsigned long long)id, c, (double)z[c]);
    return KD_OK;
}

static enum kd_status soften_network(void *context, size_t begin, size_t end)
{
    const struct reading *r = context;
    const struct kd_predictor *p = r->predictor;
    enum kd_status status = KD_OK;

    for (size_t i = begin; i < end && status == KD_OK; i++) {
        float *z = r->rows + i * p->num_classes;

        status = check_logits(p, r->ids[i], z);
        if (status == KD_OK)
            soften_row(z, p->num_classes, (float)(1 / p->temperature));
        r->kept[i] = 1;
    }
    return status;
}

/* All classes of a sparse row into z, scaled; returns the mass that it has kept. */
static double spread_row(const struct kd_predictor *p, const struct kd_row *row,
                         float factor, float *z)
{
    const size_t others = p->num_classes - row->size;
    const float log_z = p->also < 0 ? row->log_z : row->log_z_also[p->also];
    const float log_tail = p->also < 0 ? row->log_tail : row->log_tail_also[p->also];
    const double share = (double)log_tail + (double)log_z - log((double)others);

    for (size_t c = 0; c < p->num_classes; c++)
        z[c] = others > 0 && isfinite(log_tail) ? (float)share : -FLT_MAX;
    for (size_t i = 0; i < row->size; i++)
        z[row->index[i]] =
            row->values[i] > NOTHING ? row->values[i] * factor : -FLT_MAX;
    return -expm1((double)log_tail);
}

static enum kd_status read_row(const struct reading *r, size_t i, struct kd_row *room)
{
    enum kd_status status = KD_EBUG;
    const struct kd_predictor *p = r->predictor;
    const float factor =
        (float)(kd_cache_identity(p->cache)->temperature / p->temperature);
    const bool sparse = room->index != NULL;
    float *z = r->rows + i * p->num_classes;
    const struct kd_shard *shard = NULL;
    uint64_t at = 0;

    if (!kd_cache_find(p->cache, r->ids[i], r->views[i], &shard, &at))
        return kd_fail(KD_EDATA, "%s: sample %llu, view %u is not in the cache",
                       p->name, (unsigned long long)r->ids[i], (unsigned)r->views[i]);
    if (!sparse)
        room->values = z;
    KD_TRY(kd_shard_row(shard, at, room));
    r->kept[i] = sparse ? spread_row(p, room, factor, z) : 1;
    soften_row(z, p->num_classes, sparse ? 1 : factor);
out:
    return status;
}

static enum kd_status read_cache(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_EBUG;
    const struct reading *r = context;
    const struct kd_cache *cache = r->predictor->cache;
    const bool sparse = kd_codec_is_sparse(&kd_cache_identity(cache)->codec);
    struct kd_row room = {0};

    if (sparse) {
        KD_TRY(KD_NEW(room.values, kd_cache_kept(cache)));
        KD_TRY(KD_NEW(room.index, kd_cache_kept(cache)));
    }
    for (size_t i = begin; i < end; i++)
        KD_TRY(read_row(r, i, &room));
    status = KD_OK;
out:
    if (sparse) {
        free(room.values);
        free(room.index);
    }
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
                                 const uint32_t *views, size_t count, float *log_p,
                                 double *kept)
{
    enum kd_status status = KD_EBUG;
    struct reading reading = {predictor, ids, views, log_p, kept};

    /* What a row takes, in nanoseconds, roughly: an exponential a class. */
    const size_t grain = kd_threads_grain(100 + 2.0 * predictor->num_classes);

    if (predictor->cache != NULL)
        return kd_parallel(count, grain, read_cache, &reading);
    KD_TRY(read_network(predictor, spec, ids, views, count, log_p));
    KD_TRY(kd_parallel(count, grain, soften_network, &reading));
    status = KD_OK;
out:
    return status;
}
