/* SPDX-License-Identifier: MIT */
/* A virtual teacher: soft labels that are a function of the label. */
#include "distill/labels_internal.h"

#include <math.h>

const char *const kd_soften_names[] = {"power", "softmax-of-prob", NULL};

/* The probabilities of the right class and of each other one. */
struct pair {
    double right, other;
};

static struct pair soften(const struct kd_virtual *t, size_t classes, double scale)
{
    const double others = (double)(classes - 1), factor = scale / t->temperature;
    const double right = t->correct, other = (1 - t->correct) / others;
    const double lead =
        t->soften == KD_SOFTEN_SOFTMAX ? right - other : log(right) - log(other);
    /* against the larger of the two, so that nothing overflows */
    const double e = exp(-fabs(lead) * factor);
    const double sum = lead > 0 ? 1 + others * e : e + others;

    return lead > 0 ? (struct pair){1 / sum, e / sum} : (struct pair){e / sum, 1 / sum};
}

static void write_row(const struct pair *q, size_t classes,
                      const struct kd_labels_rows *rows, size_t i, float *p)
{
    const bool mixed = rows->partner != NULL && rows->ratio[i] < 1;
    const double share = mixed ? (double)rows->ratio[i] : 1;
    const double lead = q->right - q->other;

    for (size_t c = 0; c < classes; c++)
        p[c] = (float)q->other;
    if (mixed && rows->partner[i] == rows->label[i]) {
        p[rows->label[i]] = (float)q->right;
        return;
    }
    p[rows->label[i]] = (float)(q->other + share * lead);
    if (mixed)
        p[rows->partner[i]] = (float)(q->other + (1 - share) * lead);
}

enum kd_status kd_virtual_read(const struct kd_virtual *teacher, size_t classes,
                               const struct kd_labels_rows *rows,
                               const struct kd_soft *to)
{
    const struct pair q = soften(teacher, classes, rows->scale);

    for (size_t i = 0; i < rows->count; i++) {
        const bool mixed = rows->partner != NULL && rows->ratio[i] < 1;
        const bool known = rows->label[i] >= 0 && (!mixed || rows->partner[i] >= 0);
        if (to->found != NULL)
            to->found[i] = known;
        else if (!known)
            return kd_fail(KD_EDATA,
                           "sample %llu has no label, of which a virtual teacher is a "
                           "function: leave it out, or say --missing skip",
                           (unsigned long long)rows->id[i]);
        if (to->tail != NULL)
            to->tail[i] = 0;
        if (known)
            write_row(&q, classes, rows, i, to->p + i * classes);
    }
    return KD_OK;
}
