/* SPDX-License-Identifier: MIT */
/*
 * Label sources: soft labels for the samples of a batch, from a cache, from one of
 * several caches, from several at once under a policy, or from a virtual teacher.
 *
 *     struct kd_labels *labels = NULL;
 *     KD_TRY(kd_labels_open("soft-labels", &want, &labels));
 *     struct kd_labels_rows rows = {.count = batch.size, .id = batch.id,
 *                                   .view = batch.view, .scale = 1};
 *     struct kd_soft to = {.p = p, .tail = tail, .found = found};
 *     KD_TRY(kd_labels_read(labels, &rows, &to));
 *     kd_labels_close(labels);
 *
 * Opening refuses a cache that does not belong to the student's data: another dataset,
 * class map, a temperature that it cannot be used at, samples that it lacks; the
 * message says what differs, and which setting would allow it.
 *
 * A virtual teacher (Tf-KD_reg, Yuan et al. 2020) is a function of the label: of C
 * classes the right one has the probability a, each other one (1 - a) / (C - 1). Its
 * temperature T' is taken in two ways:
 *
 *     power             p^(1/T') / sum p^(1/T'), what a temperature is elsewhere, and
 *                       what the paper's figure shows
 *     softmax-of-prob   softmax(p / T'), of probabilities: what its code does
 *
 * Of 10 classes with a = 0.99 and T' = 20 the right one then has 0.135 or 0.1045. A
 * mixed sample has the soft labels of both its labels, in their shares.
 *
 * Its code softens the teacher alone, leaves T^2 out, and means over elements: distance
 * kl, temperature 1, t-squared false, reduction elemmean, and T' = 20 or 40. At its
 * hard 0.05 and soft 0.95 that is mostly a cross-entropy times 0.05, so the control to
 * run is that alone: no soft labels and hard 0.05.
 *
 * Any source's logits may be multiplied by a factor s as they are read (annealing):
 * probabilities are then softmax(s z / T), the teacher at the temperature T / s.
 */
#ifndef KD_LABELS_H
#define KD_LABELS_H

#include "kd/cache.h"
#include "kd/dataset.h"
#include "kd/loss.h"
#include "kd/merge.h"
#include "kd/soft.h"
#include "kd/status.h"
#include "kd/view.h"

#include <stdbool.h>

struct kd_labels;

enum kd_soften { KD_SOFTEN_POWER, KD_SOFTEN_SOFTMAX };

/* "power", "softmax-of-prob", ended by NULL. */
extern const char *const kd_soften_names[];

struct kd_virtual {
    double correct;     /* a, between 0 and 1 */
    double temperature; /* T'; 0: the student's */
    int soften;         /* enum kd_soften */
};

/* What the student needs. */
struct kd_labels_want {
    const struct kd_dataset_facts *data;
    double temperature;
    enum kd_tail tail;       /* what becomes of a sparse cache's tails */
    enum kd_missing missing; /* ERROR: every sample must be in the cache */
    bool logits;             /* for an mse loss: logits instead of probabilities */
    bool clean_view;         /* the clean view's labels for every view */
    bool unverified;         /* the checks of rows are not looked at */
    size_t classes;          /* of a virtual teacher; 0: the data's */
    const struct kd_merge_args *merge; /* how several caches are one; NULL: a batch
                                          learns from one of them */
};

/* `where` is a cache, or several with commas between them (a path that is there as it
 * stands is one): teachers of the same samples in the same views. Each batch learns
 * from one of them, or, with `merge`, from the cache that kd-merge would make of them
 * (kd/merged.h); of leave-one-out, which makes one for each teacher, from one of those,
 * in that order. KD_EDATA where their views or classes are not the same; further errors
 * are those of kd_merged_open. */
enum kd_status kd_labels_open(const char *where, const struct kd_labels_want *want,
                              struct kd_labels **labels) KD_CHECKED;

/* A virtual teacher. KD_EDATA where the data have no labels, or logits are wanted. */
enum kd_status kd_labels_open_virtual(const struct kd_virtual *teacher,
                                      const struct kd_labels_want *want,
                                      struct kd_labels **labels) KD_CHECKED;
void kd_labels_close(struct kd_labels *labels); /* NULL is fine */

/* How many there are to learn from in turn; 1 of a virtual teacher. */
size_t kd_labels_count(const struct kd_labels *labels);

/* What the caches are, as a text that tells them from others: their digests with commas
 * between them, or "virtual"; of merged ones, written or not, also the policy, its
 * parameters and the teachers' digests. On the heap. */
enum kd_status kd_labels_describe(const struct kd_labels *labels,
                                  char **text) KD_CHECKED;

/* Whether they can be opened again: directories and shards, no pipes. */
bool kd_labels_last(const struct kd_labels *labels);

/* What the cache is, be it merged as it is read, of several the first; NULL of a
 * virtual teacher. */
const struct kd_identity *kd_labels_identity(const struct kd_labels *labels);

size_t kd_labels_classes(const struct kd_labels *labels);

/* Whether logits can be multiplied by `scale`: KD_EDATA where the cache cannot be used
 * at the temperature that results. */
enum kd_status kd_labels_check_scale(const struct kd_labels *labels,
                                     double scale) KD_CHECKED;

/* The view that epoch `epoch` (from 1) trains on, so that teacher and student see the
 * same pixels: the cache's views in turn; of a virtual teacher view `epoch`. */
uint32_t kd_labels_view(const struct kd_labels *labels, uint64_t epoch);

/* Whether rows have buckets, so that what is read has tails. */
bool kd_labels_have_tails(const struct kd_labels *labels);

/* Whose soft labels are wanted. The labels are for a virtual teacher alone. */
struct kd_labels_rows {
    size_t count;
    const uint64_t *id;     /* [count] */
    const uint32_t *view;   /* [count] */
    const int32_t *label;   /* [count] -1: unknown */
    const int32_t *partner; /* [count] of mixed samples, as `label`; NULL: none are */
    const float *ratio;     /* [count] the share of `label`, with `partner` */
    double scale;           /* what logits are multiplied by: 1, or one checked */
    size_t cache;           /* which of several, from 0 */
};

/* By one thread at a time: soft labels at the temperature (or logits, in to->p) of each
 * row; to->found and
 * to->tail as kd/soft.h says, NULL where they are not wanted. For a virtual teacher a
 * row without a label is a missing one. */
enum kd_status kd_labels_read(const struct kd_labels *labels,
                              const struct kd_labels_rows *rows,
                              const struct kd_soft *to) KD_CHECKED;

/* The labels of ids begin to end-1 are wanted soon; no more for a while. Hints: the
 * latter counts only where the cache is too large to stay in memory. */
void kd_labels_ahead(const struct kd_labels *labels, uint64_t begin, uint64_t end);
void kd_labels_behind(const struct kd_labels *labels, uint64_t begin, uint64_t end);

#endif
