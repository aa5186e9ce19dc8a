/* SPDX-License-Identifier: MIT */
/* Soft labels out of a cache. */
#include "kd/labels.h"

#include "kd/memory.h"
#include "kd/thread.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct kd_labels {
    struct kd_cache *cache;
    const struct kd_identity *identity;
    double temperature;
    bool logits, clean_view;
};

static enum kd_status check_dataset(const char *where, const struct kd_identity *id,
                                    const struct kd_dataset_facts *data)
{
    if (!kd_digest_equal(&id->dataset_digest, &data->digest))
        return kd_fail(KD_EDATA,
                       "%s: was dumped over another dataset (digest %.8s) than %s "
                       "(%.8s): its rows would not belong to your samples",
                       where, id->dataset_digest.hex, data->name, data->digest.hex);
    if (data->first < id->first_id || data->end > id->first_id + id->num_samples)
        return kd_fail(
            KD_EDATA,
            "%s: covers ids %llu to %llu, %s has %llu to %llu: dump the rest "
            "or train on a slice",
            where, (unsigned long long)id->first_id,
            (unsigned long long)(id->first_id + id->num_samples - 1), data->name,
            (unsigned long long)data->first, (unsigned long long)(data->end - 1));
    return kd_dataset_classes_fit(data, where, id->num_classes, &id->class_map_digest);
}

static enum kd_status check_want(const char *where, const struct kd_identity *id,
                                 const struct kd_labels_want *want)
{
    if (want->logits && id->value_kind != KD_VALUE_LOGITS)
        return kd_fail(KD_EDATA,
                       "%s: holds log-probabilities, which an mse loss on "
                       "logits cannot use: merge with --policy mean-logit",
                       where);
    if (!want->logits && id->temperature != want->temperature)
        return kd_fail(
            KD_EDATA,
            "%s: its temperature is %g, the recipe's is %g: give --temperature "
            "%g or dump again",
            where, id->temperature, want->temperature, id->temperature);
    if (want->clean_view && id->first_view != 0)
        return kd_fail(KD_EDATA, "%s: has no clean view: dump it with --clean", where);
    return KD_OK;
}

enum kd_status kd_labels_open(const char *where, const struct kd_labels_want *want,
                              struct kd_labels **labels)
{
    enum kd_status status = KD_EBUG;
    struct kd_labels *l = NULL;

    KD_TRY(KD_NEW(l, 1));
    KD_TRY(kd_cache_open(where, &l->cache));
    l->identity = kd_cache_identity(l->cache);
    l->temperature = want->temperature;
    l->logits = want->logits;
    l->clean_view = want->clean_view;
    KD_TRY(check_dataset(where, l->identity, want->data));
    KD_TRY(check_want(where, l->identity, want));
    KD_TRY(kd_cache_whole(l->cache));
    *labels = l;
    l = NULL;
    status = KD_OK;
out:
    kd_labels_close(l);
    return status;
}

void kd_labels_close(struct kd_labels *labels)
{
    if (labels == NULL)
        return;
    kd_cache_close(labels->cache);
    free(labels);
}

const struct kd_identity *kd_labels_identity(const struct kd_labels *labels)
{
    return labels->identity;
}

uint32_t kd_labels_view(const struct kd_labels *labels, uint64_t epoch)
{
    const struct kd_identity *id = labels->identity;

    return id->first_view + (uint32_t)((epoch - 1) % id->views);
}

struct decode {
    const struct kd_labels *labels;
    const float *log_z; /* [count] */
    float *soft;        /* [count][classes] */
    const uint64_t *ids;
    const uint32_t *views;
};

static void to_probabilities(float *row, size_t classes, float log_z)
{
    for (size_t c = 0; c < classes; c++)
        row[c] = expf(row[c] - log_z);
}

/* z = T (logits + row_max) */
static void to_logits(const struct kd_labels *labels, uint64_t id, uint32_t view,
                      float *row, size_t classes)
{
    const double t = labels->identity->temperature;
    const struct kd_shard *shard = NULL;
    uint64_t at = 0;

    if (!kd_cache_find(labels->cache, id, view, &shard, &at))
        return; /* kd_cache_read has found it */
    const double max = kd_shard_row_max(shard, at);
    for (size_t c = 0; c < classes; c++)
        row[c] = (float)(t * (row[c] + max));
}

static enum kd_status decode_rows(void *context, size_t begin, size_t end)
{
    const struct decode *d = context;
    const size_t classes = d->labels->identity->num_classes;

    for (size_t i = begin; i < end; i++) {
        float *row = d->soft + i * classes;
        if (d->labels->logits)
            to_logits(d->labels, d->ids[i], d->views[i], row, classes);
        else
            to_probabilities(row, classes, d->log_z[i]);
    }
    return KD_OK;
}

enum kd_status kd_labels_read(const struct kd_labels *labels, const uint64_t *ids,
                              const uint32_t *views, size_t count, float *soft)
{
    enum kd_status status = KD_EBUG;
    struct decode d = {.labels = labels, .soft = soft, .ids = ids, .views = views};
    float *log_z = NULL;
    uint32_t *clean = NULL;

    KD_TRY(KD_NEW(log_z, count));
    if (labels->clean_view) {
        KD_TRY(KD_NEW(clean, count));
        d.views = clean;
    }
    d.log_z = log_z;
    KD_TRY(kd_cache_read(labels->cache, ids, d.views, count, soft, log_z));
    KD_TRY(kd_parallel(count, 64, decode_rows, &d));
    status = KD_OK;
out:
    free(log_z);
    free(clean);
    return status;
}
