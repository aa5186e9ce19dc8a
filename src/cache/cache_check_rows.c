/* SPDX-License-Identifier: MIT */
/* Which rows of a cache are missing, and which are there twice. */
#include "cache/cache_check_internal.h"

#include "kd/memory.h"

#include <stdlib.h>

/* So many gaps are told one by one. */
#define MAX_TOLD 8

/* The rows of all shards that belong to the cache. */
struct place {
    struct kd_span span;
    struct kd_check_shard *shard;
};

static bool counts(const struct kd_check_shard *shard)
{
    return shard->exam.opened && !shard->stranger;
}

static int compare(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (x->span.begin != y->span.begin)
        return x->span.begin < y->span.begin ? -1 : 1;
    /* Of equal ones that which cache.json lists goes first, then by name: the order
     * that the shards lie in. */
    return x->shard < y->shard ? -1 : x->shard > y->shard;
}

static enum kd_status collect(struct kd_check *check, struct place **places, size_t *n)
{
    enum kd_status status = KD_EBUG;
    size_t count = 0;

    for (size_t i = 0; i < check->count; i++)
        count += counts(&check->shards[i]) ? check->shards[i].exam.num_spans : 0;
    KD_TRY(KD_NEW(*places, count));
    for (size_t i = 0; i < check->count; i++) {
        struct kd_check_shard *shard = &check->shards[i];

        for (size_t j = 0; counts(shard) && j < shard->exam.num_spans; j++)
            (*places)[(*n)++] = (struct place){shard->exam.spans[j], shard};
    }
    if (count > 0)
        qsort(*places, count, sizeof **places, compare);
out:
    return status;
}

/* "samples 30 to 59", "sample 7, view 2", "sample 7, view 2 to sample 9, view 0". */
static void describe(const struct kd_identity *of, struct kd_span span, char text[128])
{
    const uint64_t first = of->first_id + span.begin / of->views;
    const uint64_t last = of->first_id + (span.end - 1) / of->views;
    const uint64_t from = of->first_view + span.begin % of->views;
    const uint64_t to = of->first_view + (span.end - 1) % of->views;

    if (span.begin % of->views == 0 && span.end % of->views == 0 && first == last)
        snprintf(text, 128, "sample %llu", (unsigned long long)first);
    else if (span.begin % of->views == 0 && span.end % of->views == 0)
        snprintf(text, 128, "samples %llu to %llu", (unsigned long long)first,
                 (unsigned long long)last);
    else if (span.end - span.begin == 1)
        snprintf(text, 128, "sample %llu, view %llu", (unsigned long long)first,
                 (unsigned long long)from);
    else
        snprintf(text, 128, "sample %llu, view %llu to sample %llu, view %llu",
                 (unsigned long long)first, (unsigned long long)from,
                 (unsigned long long)last, (unsigned long long)to);
}

/* What has been told of gaps. */
struct gaps {
    size_t told, more;
    uint64_t more_rows;
};

static enum kd_status add_gap(struct kd_check *check, struct kd_span gap,
                              struct gaps *gaps)
{
    char text[128];

    if (gap.begin >= gap.end)
        return KD_OK;
    if (gaps->told == MAX_TOLD) {
        gaps->more++;
        gaps->more_rows += gap.end - gap.begin;
        return KD_OK;
    }
    gaps->told++;
    describe(check->identity, gap, text);
    return kd_findings_add(&check->report->findings, check->where,
                           "rows are missing: %s (%llu rows)", text,
                           (unsigned long long)(gap.end - gap.begin));
}

static enum kd_status tell_gaps(struct kd_check *check, const struct place *places,
                                size_t n)
{
    enum kd_status status = KD_OK;
    const uint64_t promised = check->identity->num_samples * check->identity->views;
    struct gaps gaps = {0};
    uint64_t at = 0; /* rows before are there, or told */

    for (size_t i = 0; i < n; i++) {
        KD_TRY(add_gap(check, (struct kd_span){at, places[i].span.begin}, &gaps));
        at = places[i].span.end > at ? places[i].span.end : at;
    }
    KD_TRY(add_gap(check, (struct kd_span){at, promised}, &gaps));
    if (gaps.more > 0)
        status = kd_findings_add(&check->report->findings, check->where,
                                 "rows are missing: %llu more, in %zu places",
                                 (unsigned long long)gaps.more_rows, gaps.more);
out:
    return status;
}

/* Of two shards that share rows, which is to blame: the one that cache.json does not
 * list, or else the one behind. */
static const struct place *blame(const struct place *before, const struct place *behind)
{
    return before->shard->entry == NULL && behind->shard->entry != NULL ? before
                                                                        : behind;
}

static enum kd_status tell_double(struct kd_check *check, const struct place *before,
                                  const struct place *behind)
{
    const struct place *wrong = blame(before, behind);
    const struct place *right = wrong == before ? behind : before;
    struct kd_span shared = {behind->span.begin, behind->span.end};
    char text[128];

    if (before->span.end < shared.end)
        shared.end = before->span.end;
    wrong->shard->bad = true;
    describe(check->identity, shared, text);
    return kd_findings_add(&check->report->findings, wrong->shard->path,
                           "holds rows that %s holds too: %s", right->shard->path,
                           text);
}

static enum kd_status tell_doubles(struct kd_check *check, const struct place *places,
                                   size_t n)
{
    enum kd_status status = KD_OK;
    const struct place *reach = NULL; /* that which reaches farthest so far */

    for (size_t i = 0; i < n && status == KD_OK; i++) {
        const struct place *at = &places[i];

        if (at->shard->bad)
            continue;
        if (reach != NULL && at->span.begin < reach->span.end)
            status = tell_double(check, reach, at);
        if (!at->shard->bad &&
            (reach == NULL || reach->shard->bad || at->span.end > reach->span.end))
            reach = at;
    }
    return status;
}

enum kd_status kd_check_rows(struct kd_check *check)
{
    enum kd_status status = KD_EBUG;
    struct place *places = NULL;
    size_t n = 0;

    if (check->identity == NULL)
        return KD_OK;
    KD_TRY(collect(check, &places, &n));
    KD_TRY(tell_doubles(check, places, n));
    /* Without the others a shard is a part of a cache, and may be. */
    if (check->directory != NULL)
        KD_TRY(tell_gaps(check, places, n));
out:
    free(places);
    return status;
}
