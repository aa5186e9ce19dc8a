/* SPDX-License-Identifier: MIT */
/* Exports as TinyViT's saved logits: a directory for one view, as of one rank. */
#include "cache/export_internal.h"

#include "kd/half.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

struct tinyvit {
    const struct kd_export_plan *plan;
    char *directory;
    struct kd_lock lock;
    struct kd_out keys, values;
    uint32_t *best;  /* [k] the most probable classes of a row */
    uint8_t *record; /* [4 + 4 k] */
};

static void tinyvit_close(void *inside)
{
    struct tinyvit *t = inside;

    kd_out_close(&t->keys);
    kd_out_close(&t->values);
    kd_lock_close(&t->lock);
    free(t->directory);
    free(t->best);
    free(t->record);
    free(t);
}

/* The k greatest of p, the greatest first, of equal ones the lower class first. */
static void find_best(const float *p, size_t classes, size_t k, uint32_t *best)
{
    size_t found = 0;

    for (size_t c = 0; c < classes; c++) {
        size_t at = found;

        if (found == k && !(p[c] > p[best[k - 1]]))
            continue;
        if (found == k)
            at--;
        else
            found++;
        for (; at > 0 && p[c] > p[best[at - 1]]; at--)
            best[at] = best[at - 1];
        best[at] = (uint32_t)c;
    }
}

static enum kd_status write_record(struct tinyvit *t, const float *p)
{
    const size_t k = t->plan->k;

    memset(t->record, 0, 4); /* the seed of an augmentation that was not theirs */
    find_best(p, t->plan->classes, k, t->best);
    for (size_t i = 0; i < k; i++) {
        const uint16_t class = (uint16_t)t->best[i];
        const uint16_t half = kd_half_from_float_one(p[t->best[i]]);

        memcpy(t->record + 4 + 2 * i, &class, 2);
        memcpy(t->record + 4 + 2 * (k + i), &half, 2);
    }
    return kd_out_write(&t->values, t->record, 4 + 4 * k);
}

static enum kd_status tinyvit_add(void *inside, const struct kd_export_rows *rows)
{
    enum kd_status status = KD_OK;
    struct tinyvit *t = inside;
    char key[32];
    int length = 0;

    for (size_t i = 0; i < rows->count; i++) {
        length = snprintf(key, sizeof key, "%llu\n", (unsigned long long)rows->id[i]);
        KD_TRY(kd_out_write(&t->keys, key, (size_t)length));
        KD_TRY(write_record(t, rows->values + i * t->plan->classes));
    }
out:
    return status;
}

static enum kd_status tinyvit_commit(void *inside, char **made)
{
    enum kd_status status = KD_EBUG;
    struct tinyvit *t = inside;

    KD_TRY(kd_out_check(&t->keys));
    KD_TRY(kd_out_check(&t->values));
    KD_TRY(kd_out_commit(&t->keys));
    KD_TRY(kd_out_commit(&t->values));
    *made = t->directory;
    t->directory = NULL;
out:
    return status;
}

enum kd_status kd_export_to_tinyvit(const struct kd_export_plan *plan,
                                    struct kd_sink *sink)
{
    enum kd_status status = KD_EBUG;
    struct tinyvit *t = NULL;

    KD_TRY(KD_NEW(t, 1));
    t->plan = plan;
    t->lock.fd = -1;
    *sink = (struct kd_sink){t, tinyvit_add, tinyvit_commit, tinyvit_close};
    KD_TRY(KD_NEW(t->best, plan->k));
    KD_TRY(KD_NEW(t->record, 4 + 4 * (size_t)plan->k));
    t->directory = kd_format("%s/logits_top%u_epoch%u", plan->to, (unsigned)plan->k,
                             (unsigned)plan->epoch);
    KD_TRY(t->directory != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_make_directory(t->directory));
    KD_TRY(kd_lock_open(&t->lock, t->directory));
    KD_TRY(kd_out_open(&t->keys, t->directory, "rank0-keys.txt"));
    KD_TRY(kd_out_open(&t->values, t->directory, "rank0-values.bin"));
out:
    return status;
}
