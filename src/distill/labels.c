/* SPDX-License-Identifier: MIT */
/* Soft labels out of a cache, of a merge of several, or of a virtual teacher: which of
 * them a student may have. */
#define _DEFAULT_SOURCE /* _SC_PHYS_PAGES */
#include "distill/labels_internal.h"

#include "kd/list.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -- what is refused -------------------------------------------------------- */

static enum kd_status check_dataset(const struct kd_labels *l,
                                    const struct kd_dataset_facts *data)
{
    const struct kd_identity *id = l->identity;

    if (!kd_digest_equal(&id->dataset_digest, &data->digest))
        return kd_fail(KD_EDATA,
                       "%s: was dumped over another dataset (digest %.8s) than %s "
                       "(%.8s): its rows would not belong to your samples",
                       l->name, id->dataset_digest.hex, data->name, data->digest.hex);
    return kd_dataset_classes_fit(data, l->name, id->num_classes,
                                  &id->class_map_digest);
}

/* Every sample in every view. */
static enum kd_status check_whole(const struct kd_labels *l,
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
            l->name, (unsigned long long)id->first_id,
            (unsigned long long)(id->first_id + id->num_samples - 1), data->name,
            (unsigned long long)data->first, (unsigned long long)(data->end - 1),
            remedy);
    status = l->merged != NULL ? kd_merged_whole(l->merged) : kd_cache_whole(l->cache);
    return status == KD_EDATA ? kd_fail(status, "%s: %s", kd_error(), remedy) : status;
}

static enum kd_status check_want(const struct kd_labels *l,
                                 const struct kd_labels_want *want)
{
    const struct kd_identity *id = l->identity;

    if (want->logits && id->value_kind != KD_VALUE_LOGITS)
        return kd_fail(KD_EDATA,
                       "%s: holds log-probabilities, which an mse loss on "
                       "logits cannot use: merge with --policy mean-logit",
                       l->name);
    if (want->logits && kd_codec_is_sparse(&id->codec))
        return kd_fail(KD_EDATA,
                       "%s: holds some logits of a row (%s), an mse loss needs all: "
                       "take distance kl or ce, or dump with --encoding dense",
                       l->name, kd_encoding_names[id->codec.encoding]);
    if (want->clean_view && id->first_view != 0)
        return kd_fail(KD_EDATA, "%s: has no clean view: dump it with --clean",
                       l->name);
    if (want->logits || kd_soft_check(id, &l->spec) == KD_OK)
        return KD_OK;
    return kd_fail(KD_EDATA, "%s: %s; or train at --temperature %g", l->name,
                   kd_error(), id->temperature);
}

/* -- opening ---------------------------------------------------------------- */

/* Whether caches take more than half of the machine's memory: then what was read will
 * not be there any more when it is wanted again. */
static bool is_too_large(uint64_t bytes)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

    return pages > 0 && page > 0 && (double)bytes > (double)pages * (double)page / 2;
}

static uint64_t count_bytes(const struct kd_cache *cache)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < kd_cache_num_shards(cache); i++)
        bytes += kd_shard_bytes(kd_cache_shard(cache, i));
    return bytes;
}

/* What is common to caches and merges of some, once they are open. */
static enum kd_status settle(struct kd_labels *l, const struct kd_labels_want *want)
{
    enum kd_status status = KD_EBUG;

    l->classes = l->identity->num_classes;
    l->spec = (struct kd_soft_spec){want->temperature, want->tail};
    l->logits = want->logits;
    l->clean_view = want->clean_view;
    l->has_tails = want->tail == KD_TAIL_BUCKET && !want->logits &&
                   kd_codec_is_sparse(&l->identity->codec) &&
                   l->identity->codec.encoding != KD_SAMPLED;
    KD_TRY(check_dataset(l, want->data));
    KD_TRY(check_want(l, want));
    if (want->missing == KD_MISSING_ERROR)
        KD_TRY(check_whole(l, want->data));
    status = KD_OK;
out:
    return status;
}

static enum kd_status open_one(const char *where, const struct kd_labels_want *want,
                               struct kd_labels **labels)
{
    enum kd_status status = KD_EBUG;
    struct kd_labels *l = NULL;

    KD_TRY(KD_NEW(l, 1));
    KD_TRY(kd_cache_open(where, &l->cache));
    kd_cache_set_verify(l->cache, !want->unverified);
    l->name = kd_cache_name(l->cache);
    l->identity = kd_cache_identity(l->cache);
    l->too_large = is_too_large(count_bytes(l->cache));
    l->lasts = kd_cache_lasts(where);
    KD_TRY(settle(l, want));
    *labels = l;
    l = NULL;
    status = KD_OK;
out:
    kd_labels_close(l);
    return status;
}

static enum kd_status open_merge(const char *where, const struct kd_labels_want *want,
                                 size_t left_out, struct kd_labels **labels)
{
    enum kd_status status = KD_EBUG;
    struct kd_labels *l = NULL;

    KD_TRY(KD_NEW(l, 1));
    status = kd_merged_open(where, want->merge, left_out, &l->merged);
    if (status != KD_OK) {
        status = kd_fail_renamed(status);
        goto out;
    }
    kd_merged_set_verify(l->merged, !want->unverified);
    l->name = kd_merged_name(l->merged);
    l->identity = kd_merged_identity(l->merged);
    l->too_large = is_too_large(kd_merged_bytes(l->merged));
    l->lasts = kd_merged_lasts(l->merged);
    KD_TRY(settle(l, want));
    *labels = l;
    l = NULL;
    status = KD_OK;
out:
    kd_labels_close(l);
    return status;
}

/* One merge; of leave-one-out one for each cache, without it. */
static enum kd_status open_merges(const char *where, const struct kd_labels_want *want,
                                  struct kd_labels **labels)
{
    enum kd_status status = KD_EBUG;
    struct kd_labels *first = NULL, **end = &first;
    size_t count = 1;

    for (size_t m = 0; m < count; m++, end = &(*end)->next) {
        KD_TRY(open_merge(where, want, m, end));
        if (want->merge->policy.policy != KD_POLICY_LEAVE_ONE_OUT)
            continue;
        count = kd_merged_teachers(first->merged);
        if (!first->lasts) {
            status = kd_fail(KD_EUSAGE,
                             "%s: leave-one-out reads its caches more than once: give "
                             "finished ones, not pipes",
                             where);
            goto out;
        }
    }
    *labels = first;
    first = NULL;
    status = KD_OK;
out:
    kd_labels_close(first);
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
                       b->name, a->name);
    if (!a->clean_view && (x->first_view != y->first_view || x->views != y->views ||
                           x->seed != y->seed || strcmp(x->augment, y->augment) != 0))
        return kd_fail(KD_EDATA,
                       "%s: the views of %s are not those of %s: dump them alike, or "
                       "%sset labels-view: clean",
                       where, b->name, a->name,
                       x->first_view == 0 && y->first_view == 0 ? ""
                                                                : "with --clean and ");
    return KD_OK;
}

static enum kd_status open_list(const char *where, char *const *list,
                                const struct kd_labels_want *want,
                                struct kd_labels **labels)
{
    enum kd_status status = KD_EBUG;
    struct kd_labels *first = NULL, **end = &first;

    for (size_t i = 0; list[i] != NULL; i++) {
        KD_TRY(open_one(list[i], want, end));
        KD_TRY(check_same(where, first, *end));
        end = &(*end)->next;
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
    enum kd_status status = KD_EBUG;
    char **list = NULL;
    size_t count;

    if (want->merge != NULL)
        return open_merges(where, want, labels);
    KD_TRY(kd_list_paths(where, "labels", &list, &count));
    KD_TRY(open_list(where, list, want, labels));
    status = KD_OK;
out:
    kd_list_free(list);
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

    if (labels->identity == NULL || labels->logits)
        return KD_OK;
    for (const struct kd_labels *l = labels; l != NULL; l = l->next)
        if (kd_soft_check(l->identity, &spec) != KD_OK)
            return kd_fail(KD_EDATA, "%s: logits times %g, which is temperature %g: %s",
                           l->name, scale, spec.temperature, kd_error());
    return KD_OK;
}

void kd_labels_close(struct kd_labels *labels)
{
    while (labels != NULL) {
        struct kd_labels *next = labels->next;
        kd_cache_close(labels->cache);
        kd_merged_close(labels->merged);
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

/* "DIGEST", and of a merged cache " by POLICY PARAMETERS of PARENT,PARENT", be it
 * written or not: both train the same network. */
static enum kd_status describe_one(const struct kd_identity *id, char **text)
{
    enum kd_status status = KD_EBUG;
    const bool plain = id->policy_parameters[0] == '\0';
    struct kd_digest digest;

    KD_TRY(kd_identity_digest(id, &digest));
    *text = id->kind == KD_KIND_MERGED
                ? kd_format("%s by %s%s%s of %s", digest.hex, id->policy,
                            plain ? "" : " ", id->policy_parameters, id->parents)
                : kd_copy_string(digest.hex);
    status = *text != NULL ? KD_OK : KD_EMEMORY;
out:
    return status;
}

enum kd_status kd_labels_describe(const struct kd_labels *labels, char **text)
{
    enum kd_status status = KD_EBUG;
    char *all = NULL, *one = NULL;

    if (labels->identity == NULL) {
        *text = kd_copy_string("virtual");
        return *text != NULL ? KD_OK : KD_EMEMORY;
    }
    for (const struct kd_labels *l = labels; l != NULL; l = l->next) {
        KD_TRY(describe_one(l->identity, &one));
        char *more =
            kd_format("%s%s%s", all != NULL ? all : "", all != NULL ? "," : "", one);
        KD_TRY(more != NULL ? KD_OK : KD_EMEMORY);
        free(all);
        free(one);
        all = more;
        one = NULL;
    }
    *text = all;
    all = NULL;
    status = KD_OK;
out:
    free(all);
    free(one);
    return status;
}

bool kd_labels_last(const struct kd_labels *labels)
{
    for (const struct kd_labels *l = labels; l != NULL; l = l->next)
        if (l->identity != NULL && !l->lasts)
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
