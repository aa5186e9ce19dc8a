/* SPDX-License-Identifier: MIT */
/* Soft labels out of a cache. */
#define _DEFAULT_SOURCE /* _SC_PHYS_PAGES */
#include "kd/labels.h"

#include "kd/memory.h"
#include "kd/thread.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GRAIN_VALUES 4096

struct kd_labels {
    struct kd_cache *cache;
    const struct kd_identity *identity;
    struct kd_soft_spec spec;
    bool logits, clean_view, has_tails;
    bool too_large; /* to stay in memory */
};

/* -- opening ---------------------------------------------------------------- */

static enum kd_status check_dataset(const char *where, const struct kd_identity *id,
                                    const struct kd_dataset_facts *data)
{
    if (!kd_digest_equal(&id->dataset_digest, &data->digest))
        return kd_fail(KD_EDATA,
                       "%s: was dumped over another dataset (digest %.8s) than %s "
                       "(%.8s): its rows would not belong to your samples",
                       where, id->dataset_digest.hex, data->name, data->digest.hex);
    return kd_dataset_classes_fit(data, where, id->num_classes, &id->class_map_digest);
}

/* Every sample in every view. */
static enum kd_status check_whole(const struct kd_labels *l, const char *where,
                                  const struct kd_dataset_facts *data)
{
    static const char remedy[] =
        "dump the rest, or say what becomes of them: --missing hard-label or skip";
    const struct kd_identity *id = l->identity;
    enum kd_status status;

    if (data->first < id->first_id || data->end > id->first_id + id->num_samples)
        return kd_fail(
            KD_EDATA,
            "%s: covers ids %llu to %llu, %s has %llu to %llu: train on a slice, %s",
            where, (unsigned long long)id->first_id,
            (unsigned long long)(id->first_id + id->num_samples - 1), data->name,
            (unsigned long long)data->first, (unsigned long long)(data->end - 1),
            remedy);
    status = kd_cache_whole(l->cache);
    return status == KD_EDATA ? kd_fail(status, "%s: %s", kd_error(), remedy) : status;
}

static enum kd_status check_want(const struct kd_labels *l, const char *where,
                                 const struct kd_labels_want *want)
{
    const struct kd_identity *id = l->identity;

    if (want->logits && id->value_kind != KD_VALUE_LOGITS)
        return kd_fail(KD_EDATA,
                       "%s: holds log-probabilities, which an mse loss on "
                       "logits cannot use: merge with --policy mean-logit",
                       where);
    if (want->logits && kd_codec_is_sparse(&id->codec))
        return kd_fail(KD_EDATA,
                       "%s: holds some logits of a row (%s), an mse loss needs all: "
                       "take distance kl or ce, or dump with --encoding dense",
                       where, kd_encoding_names[id->codec.encoding]);
    if (want->clean_view && id->first_view != 0)
        return kd_fail(KD_EDATA, "%s: has no clean view: dump it with --clean", where);
    if (want->logits || kd_soft_check(id, &l->spec) == KD_OK)
        return KD_OK;
    return kd_fail(KD_EDATA, "%s: %s; or train at --temperature %g", where, kd_error(),
                   id->temperature);
}

/* Whether the cache takes more than half of the machine's memory: then what was read
 * will not be there any more when it is wanted again. */
static bool is_too_large(const struct kd_cache *cache)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    double bytes = 0;

    for (size_t i = 0; i < kd_cache_num_shards(cache); i++) {
        struct stat facts;
        if (stat(kd_shard_path(kd_cache_shard(cache, i)), &facts) == 0)
            bytes += (double)facts.st_size;
    }
    return pages > 0 && page > 0 && bytes > (double)pages * (double)page / 2;
}

enum kd_status kd_labels_open(const char *where, const struct kd_labels_want *want,
                              struct kd_labels **labels)
{
    enum kd_status status = KD_EBUG;
    struct kd_labels *l = NULL;

    KD_TRY(KD_NEW(l, 1));
    KD_TRY(kd_cache_open(where, &l->cache));
    kd_cache_set_verify(l->cache, !want->unverified);
    l->identity = kd_cache_identity(l->cache);
    l->spec = (struct kd_soft_spec){want->temperature, want->tail};
    l->logits = want->logits;
    l->clean_view = want->clean_view;
    l->has_tails = want->tail == KD_TAIL_BUCKET && !want->logits &&
                   kd_codec_is_sparse(&l->identity->codec) &&
                   l->identity->codec.encoding != KD_SAMPLED;
    KD_TRY(check_dataset(where, l->identity, want->data));
    KD_TRY(check_want(l, where, want));
    if (want->missing == KD_MISSING_ERROR)
        KD_TRY(check_whole(l, where, want->data));
    l->too_large = is_too_large(l->cache);
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

bool kd_labels_have_tails(const struct kd_labels *labels)
{
    return labels->has_tails;
}

/* -- reading ---------------------------------------------------------------- */

struct reading {
    const struct kd_labels *labels;
    const uint64_t *ids;
    const uint32_t *views;
    const struct kd_soft *to;
};

/* z = T (values + row_max) */
static enum kd_status read_logits(const struct reading *r, size_t i)
{
    const struct kd_labels *l = r->labels;
    const size_t classes = l->identity->num_classes;
    const struct kd_shard *shard = NULL;
    float *row = r->to->p + i * classes;
    uint64_t at = 0;
    const bool found = kd_cache_find(l->cache, r->ids[i], r->views[i], &shard, &at);

    if (r->to->found != NULL)
        r->to->found[i] = found;
    if (!found && r->to->found != NULL)
        return KD_OK;
    if (!found)
        return kd_fail(KD_EDATA, "%s: sample %llu, view %u is not in the cache",
                       kd_cache_name(l->cache), (unsigned long long)r->ids[i],
                       (unsigned)r->views[i]);
    const enum kd_status status = kd_shard_read(shard, at, 1, row);
    const double max = (double)kd_shard_row_max(shard, at);
    for (size_t c = 0; c < classes && status == KD_OK; c++)
        row[c] = (float)(l->identity->temperature * ((double)row[c] + max));
    return status;
}

static enum kd_status read_rows(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_OK;

    for (size_t i = begin; i < end && status == KD_OK; i++)
        status = read_logits(context, i);
    return status;
}

enum kd_status kd_labels_read(const struct kd_labels *labels, const uint64_t *ids,
                              const uint32_t *views, size_t count,
                              const struct kd_soft *to)
{
    enum kd_status status = KD_EBUG;
    struct reading reading = {labels, ids, views, to};
    const size_t grain = GRAIN_VALUES / labels->identity->num_classes + 1;
    uint32_t *clean = NULL;

    if (labels->clean_view) {
        KD_TRY(KD_NEW(clean, count));
        reading.views = clean;
    }
    if (labels->logits)
        KD_TRY(kd_parallel(count, grain, read_rows, &reading));
    else
        KD_TRY(
            kd_soft_read(labels->cache, &labels->spec, ids, reading.views, count, to));
    status = KD_OK;
out:
    free(clean);
    return status;
}

void kd_labels_ahead(const struct kd_labels *labels, uint64_t begin, uint64_t end)
{
    kd_cache_prefetch(labels->cache, begin, end);
}

void kd_labels_behind(const struct kd_labels *labels, uint64_t begin, uint64_t end)
{
    if (labels->too_large)
        kd_cache_forget(labels->cache, begin, end);
}
