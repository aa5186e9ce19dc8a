/* SPDX-License-Identifier: MIT */
/* Losses of a batch: which rows count for what, and their sums. */
#include "distill/loss_internal.h"

#include "kd/memory.h"
#include "kd/thread.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* So many values are worth a thread. */
#define GRAIN_VALUES 32768

const char *const kd_loss_kinds[] = {"kl", "ce", "mse", NULL};
const char *const kd_directions[] = {"forward", "reverse", NULL};
const char *const kd_reductions[] = {"batchmean", "elemmean", NULL};
const char *const kd_missing_names[] = {"error", "hard-label", "skip", NULL};

double kd_softmax(const float *z, size_t classes, double temperature, float *p)
{
    double max = (double)z[0], sum = 0;

    for (size_t c = 1; c < classes; c++)
        max = fmax(max, (double)z[c]);
    for (size_t c = 0; c < classes; c++)
        sum += exp(((double)z[c] - max) / temperature);
    const double norm = max / temperature + log(sum);
    for (size_t c = 0; c < classes; c++)
        p[c] = (float)exp((double)z[c] / temperature - norm);
    return norm;
}

/* What stands before D in the loss of one row. */
static double soft_scale(const struct kd_loss *loss, size_t classes)
{
    double scale = 1;

    if (loss->kind == KD_LOSS_MSE)
        return 1;
    if (loss->t_squared)
        scale *= loss->temperature * loss->temperature;
    if (loss->reduction == KD_ELEMMEAN)
        scale /= (double)classes;
    return scale;
}

/* -- one row ---------------------------------------------------------------- */

/* How a row is trained. */
enum part { NOTHING, HARD_ALONE, AS_WEIGHTED };

struct batch {
    const struct kd_loss *loss;
    const struct kd_targets *targets;
    size_t classes;
    const float *logits;
    float *gradient;
    double scale;              /* soft_scale */
    double share;              /* of one row in the mean */
    struct kd_loss_sums *rows; /* [rows] what each adds to the sums */
};

static enum part part_of(const struct kd_loss *loss, const struct kd_targets *targets,
                         size_t r)
{
    if (targets->soft != NULL && targets->dropped != NULL && targets->dropped[r])
        return HARD_ALONE;
    if (targets->soft == NULL || targets->found == NULL || targets->found[r])
        return AS_WEIGHTED;
    if (loss->missing == KD_MISSING_HARD_LABEL && targets->label[r] >= 0)
        return HARD_ALONE;
    return NOTHING;
}

/* Of equal logits the first one is the answer; a NaN answers nothing. */
static bool is_right(const float *z, size_t classes, size_t label)
{
    for (size_t c = 0; c < classes; c++)
        if (c != label && !(z[c] < z[label] || (z[c] == z[label] && c > label)))
            return false;
    return true;
}

/* Which labels, and how much of each; a mixed sample needs both to have any. */
static void choose_labels(const struct kd_targets *t, size_t r, struct kd_loss_row *row)
{
    row->label[0] = t->label[r];
    row->label[1] = -1;
    row->label_share[0] = 1;
    row->label_share[1] = 0;
    if (t->partner == NULL || t->ratio[r] >= 1 || row->label[0] < 0)
        return;
    if (t->partner[r] < 0) {
        row->label[0] = -1;
        return;
    }
    row->label[1] = t->partner[r];
    row->label_share[0] = (double)t->ratio[r];
    row->label_share[1] = 1 - (double)t->ratio[r];
}

static void run_row(const struct batch *b, size_t r, float *scratch)
{
    const enum part part = part_of(b->loss, b->targets, r);
    const bool soft =
        part == AS_WEIGHTED && b->targets->soft != NULL && b->loss->soft > 0;
    const double weight = b->loss->hard + (part == HARD_ALONE ? b->loss->soft : 0);
    const double soft_weight =
        b->loss->soft *
        (b->targets->weight != NULL ? (double)b->targets->weight[r] : 1);
    struct kd_loss_sums *sums = &b->rows[r];
    struct kd_loss_values values = {0};
    struct kd_loss_row row = {
        .loss = b->loss,
        .classes = b->classes,
        .z = b->logits + r * b->classes,
        .q = soft ? b->targets->soft + r * b->classes : NULL,
        .tail = soft && b->targets->tail != NULL ? (double)b->targets->tail[r] : 0,
        .hard = weight * b->share,
        .soft = soft_weight * b->scale * b->share,
        .g = b->gradient + r * b->classes,
        .scratch = scratch,
    };

    if (part == NOTHING) {
        memset(row.g, 0, b->classes * sizeof *row.g);
        return;
    }
    choose_labels(b->targets, r, &row);
    kd_loss_run_row(&row, &values);
    sums->rows = 1;
    sums->hard = values.hard;
    sums->soft = b->scale * values.soft;
    sums->total = weight * sums->hard + soft_weight * sums->soft;
    sums->softened = soft;
    if (row.label[0] >= 0) {
        const size_t larger = row.label_share[1] > row.label_share[0];
        sums->labelled = 1;
        sums->right = is_right(row.z, b->classes, (size_t)row.label[larger]);
    }
}

static enum kd_status run_rows(void *context, size_t begin, size_t end)
{
    const struct batch *b = context;
    float *scratch = NULL;
    const enum kd_status status = KD_NEW(scratch, 2 * kd_loss_scratch(b->classes));

    for (size_t r = begin; r < end && status == KD_OK; r++)
        run_row(b, r, scratch);
    free(scratch);
    return status;
}

/* -- a batch ---------------------------------------------------------------- */

static void add_row(struct kd_loss_sums *sums, const struct kd_loss_sums *row)
{
    sums->hard += row->hard;
    sums->soft += row->soft;
    sums->total += row->total;
    sums->rows += row->rows;
    sums->labelled += row->labelled;
    sums->softened += row->softened;
    sums->right += row->right;
}

enum kd_status kd_loss_batch(const struct kd_loss *loss, size_t rows, size_t classes,
                             const float *logits, const struct kd_targets *targets,
                             float *gradient, struct kd_loss_sums *sums)
{
    enum kd_status status = KD_EBUG;
    struct batch b = {.loss = loss,
                      .targets = targets,
                      .classes = classes,
                      .logits = logits,
                      .gradient = gradient,
                      .scale = soft_scale(loss, classes)};
    size_t counting = 0;

    for (size_t r = 0; r < rows; r++)
        counting += part_of(loss, targets, r) != NOTHING;
    b.share = counting > 0 ? 1.0 / (double)counting : 0;
    KD_TRY(KD_NEW(b.rows, rows));
    KD_TRY(kd_parallel(rows, GRAIN_VALUES / classes + 1, run_rows, &b));
    for (size_t r = 0; r < rows; r++)
        add_row(sums, &b.rows[r]);
    status = KD_OK;
out:
    free(b.rows);
    return status;
}
