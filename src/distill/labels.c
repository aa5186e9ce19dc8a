/* SPDX-License-Identifier: MIT */
/* Soft labels out of a cache, or of a virtual teacher. */
#define _DEFAULT_SOURCE /* _SC_PHYS_PAGES */
#include "distill/labels_internal.h"

#include "kd/memory.h"
#include "kd/thread.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GRAIN_VALUES 4096

struct kd_labels {
    struct kd_cache *cache; /* NULL: the teacher is a virtual one */
    const struct kd_identity *identity;
    struct kd_virtual virtual; /* its temperature is set */
    size_t classes;
    struct kd_soft_spec spec;
    bool logits, clean_view, has_tails;
    bool too_large;         /* to stay in memory */
    bool lasts;             /* it is no pipe */
    struct kd_labels *next; /* of several caches */
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

static enum kd_status open_one(const char *where, const struct kd_labels_want *want,
                               struct kd_labels **labels)
{
    struct stat facts;
    enum kd_status status = KD_EBUG;
    struct kd_labels *l = NULL;

    KD_TRY(KD_NEW(l, 1));
    KD_TRY(kd_cache_open(where, &l->cache));
    kd_cache_set_verify(l->cache, !want->unverified);
    l->identity = kd_cache_identity(l->cache);
    l->classes = l->identity->num_classes;
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
    l->lasts =
        stat(where, &facts) == 0 && (S_ISDIR(facts.st_mode) || S_ISREG(facts.st_mode));
    *labels = l;
    l = NULL;
    status = KD_OK;
out:
    kd_labels_close(l);
    return status;
}

/* What serves the batch's turn must be the same whosever turn it is. */
static enum kd_status check_same(const char *where, const struct kd_labels *a,
                                 const struct kd_labels *b)
{
    const struct kd_identity *x = a->identity, *y = b->identity;

    if (x->num_classes != y->num_classes ||
        !kd_digest_equal(&x->class_map_digest, &y->class_map_digest))
        return kd_fail(KD_EDATA, "%s: the classes of %s are not those of %s", where,
                       kd_cache_name(b->cache), kd_cache_name(a->cache));
    if (!a->clean_view && (x->first_view != y->first_view || x->views != y->views ||
                           x->seed != y->seed || strcmp(x->augment, y->augment) != 0))
        return kd_fail(KD_EDATA,
                       "%s: the views of %s are not those of %s: dump them alike, or "
                       "set labels-view: clean",
                       where, kd_cache_name(b->cache), kd_cache_name(a->cache));
    return KD_OK;
}

/* "a,b,c", cut in place. */
static enum kd_status open_list(const char *where, char *list,
                                const struct kd_labels_want *want,
                                struct kd_labels **labels)
{
    enum kd_status status = KD_EBUG;
    struct kd_labels *first = NULL, **end = &first;

    for (char *comma = list; comma != NULL; list = comma + 1) {
        comma = strchr(list, ',');
        if (comma != NULL)
            *comma = '\0';
        KD_TRY(open_one(list, want, end));
        KD_TRY(check_same(where, first, *end));
        end = &(*end)->next;
        if (comma == NULL)
            break;
    }
    *labels = first;
    first = NULL;
    status = KD_OK;
out:
    kd_labels_close(first);
    return status;
}

enum kd_status kd_labels_open(const char *where, const struct kd_labels_want *want,
                              struct kd_labels **labels)
{
    char *list = NULL;
    enum kd_status status;

    if (strchr(where, ',') == NULL || access(where, F_OK) == 0)
        return open_one(where, want, labels);
    list = kd_copy_string(where);
    status = list != NULL ? open_list(where, list, want, labels) : KD_EMEMORY;
    free(list);
    return status;
}

enum kd_status kd_labels_open_virtual(const struct kd_virtual *teacher,
                                      const struct kd_labels_want *want,
                                      struct kd_labels **labels)
{
    enum kd_status status = KD_EBUG;
    struct kd_labels *l = NULL;

    if (want->data->num_classes == 0)
        return kd_fail(KD_EDATA,
                       "%s: has no labels, of which a virtual teacher is a function",
                       want->data->name);
    if (want->logits)
        return kd_fail(KD_EDATA, "a virtual teacher has probabilities, an mse loss "
                                 "needs logits: take distance kl or ce");
    KD_TRY(KD_NEW(l, 1));
    l->classes = want->classes > 0 ? want->classes : want->data->num_classes;
    l->spec = (struct kd_soft_spec){want->temperature, want->tail};
    l->virtual = *teacher;
    if (l->virtual.temperature == 0)
        l->virtual.temperature = want->temperature;
    *labels = l;
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_labels_check_scale(const struct kd_labels *labels, double scale)
{
    const struct kd_soft_spec spec = {labels->spec.temperature / scale,
                                      labels->spec.tail};

    if (labels->cache == NULL || labels->logits)
        return KD_OK;
    for (const struct kd_labels *l = labels; l != NULL; l = l->next)
        if (kd_soft_check(l->identity, &spec) != KD_OK)
            return kd_fail(KD_EDATA, "%s: logits times %g, which is temperature %g: %s",
                           kd_cache_name(l->cache), scale, spec.temperature,
                           kd_error());
    return KD_OK;
}

void kd_labels_close(struct kd_labels *labels)
{
    while (labels != NULL) {
        struct kd_labels *next = labels->next;
        kd_cache_close(labels->cache);
        free(labels);
        labels = next;
    }
}

size_t kd_labels_count(const struct kd_labels *labels)
{
    size_t count = 0;

    for (const struct kd_labels *l = labels; l != NULL; l = l->next)
        count++;
    return count;
}

enum kd_status kd_labels_describe(const struct kd_labels *labels, char **text)
{
    enum kd_status status = KD_EBUG;
    char *all = NULL;

    if (labels->cache == NULL) {
        *text = kd_copy_string("virtual");
        return *text != NULL ? KD_OK : KD_EMEMORY;
    }
    for (const struct kd_labels *l = labels; l != NULL; l = l->next) {
        struct kd_digest digest;
        KD_TRY(kd_identity_digest(l->identity, &digest));
        char *more = kd_format("%s%s%s", all != NULL ? all : "", all != NULL ? "," : "",
                               digest.hex);
        KD_TRY(more != NULL ? KD_OK : KD_EMEMORY);
        free(all);
        all = more;
    }
    *text = all;
    all = NULL;
    status = KD_OK;
out:
    free(all);
    return status;
}

bool kd_labels_last(const struct kd_labels *labels)
{
    for (const struct kd_labels *l = labels; l != NULL; l = l->next)
        if (l->cache != NULL && !l->lasts)
            return false;
    return true;
}

const struct kd_identity *kd_labels_identity(const struct kd_labels *labels)
{
    return labels->identity;
}

size_t kd_labels_classes(const struct kd_labels *labels)
{
    return labels->classes;
}

uint32_t kd_labels_view(const struct kd_labels *labels, uint64_t epoch)
{
    const struct kd_identity *id = labels->identity;

    if (id == NULL)
        return (uint32_t)epoch;
    return id->first_view + (uint32_t)((epoch - 1) % id->views);
}

bool kd_labels_have_tails(const struct kd_labels *labels)
{
    for (const struct kd_labels *l = labels; l != NULL; l = l->next)
        if (l->has_tails)
            return true;
    return false;
}

/* -- reading ---------------------------------------------------------------- */

struct reading {
    const struct kd_labels *labels;
    const struct kd_labels_rows *rows;
    const uint32_t *views;
    const struct kd_soft *to;
};

/* z = s T (values + row_max) */
static enum kd_status read_logits(const struct reading *r, size_t i)
{
    const struct kd_labels *l = r->labels;
    const double scale = r->rows->scale * l->identity->temperature;
    const uint64_t id = r->rows->id[i];
    const struct kd_shard *shard = NULL;
    float *row = r->to->p + i * l->classes;
    uint64_t at = 0;
    const bool found = kd_cache_find(l->cache, id, r->views[i], &shard, &at);

    if (r->to->found != NULL)
        r->to->found[i] = found;
    if (!found && r->to->found != NULL)
        return KD_OK;
    if (!found)
        return kd_fail(KD_EDATA, "%s: sample %llu, view %u is not in the cache",
                       kd_cache_name(l->cache), (unsigned long long)id,
                       (unsigned)r->views[i]);
    const enum kd_status status = kd_shard_read(shard, at, 1, row);
    const double max = (double)kd_shard_row_max(shard, at);
    for (size_t c = 0; c < l->classes && status == KD_OK; c++)
        row[c] = (float)(scale * ((double)row[c] + max));
    return status;
}

static enum kd_status read_rows(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_OK;

    for (size_t i = begin; i < end && status == KD_OK; i++)
        status = read_logits(context, i);
    return status;
}

static enum kd_status read_cache(const struct kd_labels *labels,
                                 const struct kd_labels_rows *rows,
                                 const struct kd_soft *to)
{
    enum kd_status status = KD_EBUG;
    struct reading reading = {labels, rows, rows->view, to};
    const struct kd_soft_spec spec = {labels->spec.temperature / rows->scale,
                                      labels->spec.tail};
    uint32_t *clean = NULL;

    if (labels->clean_view) {
        KD_TRY(KD_NEW(clean, rows->count));
        reading.views = clean;
    }
    if (labels->logits)
        KD_TRY(kd_parallel(rows->count, GRAIN_VALUES / labels->classes + 1, read_rows,
                           &reading));
    else
        KD_TRY(kd_soft_read(labels->cache, &spec, rows->id, reading.views, rows->count,
                            to));
    status = KD_OK;
out:
    free(clean);
    return status;
}

enum kd_status kd_labels_read(const struct kd_labels *labels,
                              const struct kd_labels_rows *rows,
                              const struct kd_soft *to)
{
    if (labels->cache == NULL)
        return kd_virtual_read(&labels->virtual, labels->classes, rows, to);
    for (size_t i = 0; i < rows->cache; i++)
        labels = labels->next;
    return read_cache(labels, rows, to);
}

void kd_labels_ahead(const struct kd_labels *labels, uint64_t begin, uint64_t end)
{
    for (const struct kd_labels *l = labels; l != NULL; l = l->next)
        if (l->cache != NULL)
            kd_cache_prefetch(l->cache, begin, end);
}

void kd_labels_behind(const struct kd_labels *labels, uint64_t begin, uint64_t end)
{
    for (const struct kd_labels *l = labels; l != NULL; l = l->next)
        if (l->too_large)
            kd_cache_forget(l->cache, begin, end);
}
