/* SPDX-License-Identifier: MIT */
/* Soft labels out of a cache, of a merge of several, or of a virtual teacher, for the
 * rows of a batch. */
#include "distill/labels_internal.h"

#include "kd/memory.h"
#include "kd/thread.h"

#include <stdlib.h>
#include <string.h>

#define GRAIN_VALUES 4096

struct reading {
    const struct kd_labels *labels;
    const struct kd_labels_rows *rows;
    const uint32_t *views;
    const struct kd_soft *to;
    struct kd_soft_spec spec;
};

/* Notes whether row `i` is there; KD_EDATA where it is not and none may lack. */
static enum kd_status note_found(const struct reading *r, size_t i, bool found)
{
    if (r->to->found != NULL)
        r->to->found[i] = found;
    else if (!found)
        return kd_fail(KD_EDATA, "%s: sample %llu, view %u is not in the cache",
                       r->labels->name, (unsigned long long)r->rows->id[i],
                       (unsigned)r->views[i]);
    return KD_OK;
}

/* z = s T (values + row_max), in place */
static void make_logits(const struct reading *r, float row_max, float *row)
{
    const struct kd_labels *l = r->labels;
    const double scale = r->rows->scale * l->identity->temperature;

    for (size_t c = 0; c < l->classes; c++)
        row[c] = (float)(scale * ((double)row[c] + (double)row_max));
}

/* -- caches ----------------------------------------------------------------- */

static enum kd_status read_logits(const struct reading *r, size_t i)
{
    const struct kd_labels *l = r->labels;
    const struct kd_shard *shard = NULL;
    float *row = r->to->p + i * l->classes;
    uint64_t at = 0;
    const bool found =
        kd_cache_find(l->cache, r->rows->id[i], r->views[i], &shard, &at);
    enum kd_status status = note_found(r, i, found);

    if (!found || status != KD_OK)
        return status;
    status = kd_shard_read(shard, at, 1, row);
    if (status == KD_OK)
        make_logits(r, kd_shard_row_max(shard, at), row);
    return status;
}

static enum kd_status read_range(void *context, size_t begin, size_t end)
{
    enum kd_status status = KD_OK;

    for (size_t i = begin; i < end && status == KD_OK; i++)
        status = read_logits(context, i);
    return status;
}

static enum kd_status read_cache(struct reading *r)
{
    const struct kd_labels *l = r->labels;

    if (l->logits)
        return kd_parallel(r->rows->count, GRAIN_VALUES / l->classes + 1, read_range,
                           r);
    return kd_soft_read(l->cache, &r->spec, r->rows->id, r->views, r->rows->count,
                        r->to);
}

/* -- merges ----------------------------------------------------------------- */

static enum kd_status take_row(void *context, size_t i, const struct kd_row *row)
{
    const struct reading *r = context;
    const struct kd_labels *l = r->labels;
    float *p = r->to->p + i * l->classes, tail = 0;
    const enum kd_status status = note_found(r, i, row != NULL);

    if (row == NULL || status != KD_OK)
        return status;
    if (l->logits) { /* of dense rows, which others are refused for */
        memcpy(p, row->values, l->classes * sizeof *p);
        make_logits(r, row->row_max, p);
    } else {
        tail = kd_soft_row(l->identity, &r->spec, row, p);
    }
    if (r->to->tail != NULL)
        r->to->tail[i] = tail;
    return KD_OK;
}

/* -- any source ------------------------------------------------------------- */

static enum kd_status read_source(const struct kd_labels *labels,
                                  const struct kd_labels_rows *rows,
                                  const struct kd_soft *to)
{
    enum kd_status status = KD_EBUG;
    struct reading reading = {
        labels,
        rows,
        rows->view,
        to,
        {labels->spec.temperature / rows->scale, labels->spec.tail}};
    uint32_t *clean = NULL;

    if (labels->clean_view) {
        KD_TRY(KD_NEW(clean, rows->count));
        reading.views = clean;
    }
    if (labels->merged != NULL)
        KD_TRY(kd_merged_read(labels->merged, rows->id, reading.views, rows->count,
                              take_row, &reading));
    else
        KD_TRY(read_cache(&reading));
    status = KD_OK;
out:
    free(clean);
    return status;
}

enum kd_status kd_labels_read(const struct kd_labels *labels,
                              const struct kd_labels_rows *rows,
                              const struct kd_soft *to)
{
    if (labels->identity == NULL)
        return kd_virtual_read(&labels->virtual, labels->classes, rows, to);
    for (size_t i = 0; i < rows->cache; i++)
        labels = labels->next;
    return read_source(labels, rows, to);
}

void kd_labels_ahead(const struct kd_labels *labels, uint64_t begin, uint64_t end)
{
    for (const struct kd_labels *l = labels; l != NULL; l = l->next) {
        if (l->cache != NULL)
            kd_cache_prefetch(l->cache, begin, end);
        if (l->merged != NULL)
            kd_merged_prefetch(l->merged, begin, end);
    }
}

void kd_labels_behind(const struct kd_labels *labels, uint64_t begin, uint64_t end)
{
    for (const struct kd_labels *l = labels; l != NULL; l = l->next) {
        if (!l->too_large)
            continue;
        if (l->cache != NULL)
            kd_cache_forget(l->cache, begin, end);
        if (l->merged != NULL)
            kd_merged_forget(l->merged, begin, end);
    }
}
