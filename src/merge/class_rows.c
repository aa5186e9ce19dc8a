/* SPDX-License-Identifier: MIT */
/* Rows over other classes than their teacher's, and their completion. */
#include "kd/class_map.h"

#include "kd/memory.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

/* How often the masses are gone over, at most, and what they may change by at last. */
#define MOST_ROUNDS  1000
#define LEAST_CHANGE 1e-12

size_t kd_class_map_known(const struct kd_class_map *map, size_t classes, bool *known)
{
    size_t count = 0;

    for (size_t c = 0; c < classes; c++)
        known[c] = !map->given;
    for (size_t i = 0; i < map->count; i++)
        known[map->pairs[i].to] = true;
    for (size_t c = 0; c < classes; c++)
        count += known[c];
    return count;
}

bool kd_class_map_renames(const struct kd_class_map *map, size_t own, size_t classes)
{
    bool *known = NULL, renames = false;

    if (own != classes || !map->given)
        return own == classes;
    if (map->count == classes && KD_NEW(known, classes) == KD_OK)
        renames = kd_class_map_known(map, classes, known) == classes;
    free(known);
    return renames;
}

/* Makes logarithms [classes] of shares a row of log-probabilities. */
static void settle(float *values, size_t classes, float *row_max, float *log_z)
{
    double top = -FLT_MAX, sum = 0;

    for (size_t c = 0; c < classes; c++)
        top = fmax(top, (double)values[c]);
    for (size_t c = 0; c < classes; c++) {
        values[c] = (float)fmax((double)values[c] - top, -FLT_MAX);
        sum += exp((double)values[c]);
    }
    *log_z = (float)log(sum);
    *row_max = -*log_z;
}

void kd_class_map_row(const struct kd_class_map *map, bool renames, size_t classes,
                      const float *from, float *to, float *row_max, float *log_z)
{
    for (size_t c = 0; c < classes; c++)
        to[c] = -FLT_MAX;
    for (size_t i = 0; i < map->count; i++) {
        const struct kd_class_pair *pair = &map->pairs[i];
        const double a = (double)to[pair->to], b = (double)from[pair->class];

        /* log(exp a + exp b): several may go to one */
        to[pair->to] = renames ? from[pair->class]
                               : (float)(fmax(a, b) + log1p(exp(-fabs(a - b))));
    }
    if (!renames)
        settle(to, classes, row_max, log_z);
}

/* -- completion ---------------------------------------------------------------- */

/* A row of some teachers, and what they say together. */
struct completion {
    size_t count, classes;
    const bool *const *known;
    const double *weights;
    double *p;                    /* [count][classes] p_m(c), 0 where it is not known */
    double *total;                /* [classes] the weights of those who know it */
    double *q;                    /* [classes] */
    double mass[KD_MAX_TEACHERS]; /* q(K_m) */
};

static bool knows(const struct completion *of, size_t m, size_t c)
{
    return of->known[m] == NULL || of->known[m][c];
}

/* Each p_m of sum 1 in double: what floats leave of that would grow with every round.
 */
static void take_rows(struct completion *of, float *const *values, const float *log_z)
{
    for (size_t m = 0; m < of->count; m++) {
        double *p = of->p + m * of->classes, sum = 0;

        for (size_t c = 0; c < of->classes; c++) {
            if (!knows(of, m, c))
                continue;
            p[c] = exp((double)values[m][c] - (double)log_z[m]);
            of->total[c] += of->weights[m];
            sum += p[c];
        }
        for (size_t c = 0; c < of->classes; c++)
            p[c] /= sum;
    }
}

/* q(K_m) to begin with: of an even q over what is known. */
static void begin_even(struct completion *of)
{
    double there = 0;

    for (size_t c = 0; c < of->classes; c++)
        there += of->total[c] > 0;
    for (size_t m = 0; m < of->count; m++) {
        of->mass[m] = 0;
        for (size_t c = 0; c < of->classes; c++)
            of->mass[m] += knows(of, m, c) && of->total[c] > 0;
        of->mass[m] /= there;
    }
}

/* next[m][j]: how much of q(K_m) comes of q(K_j). */
static void link(const struct completion *of,
                 double next[KD_MAX_TEACHERS][KD_MAX_TEACHERS])
{
    for (size_t m = 0; m < of->count; m++)
        for (size_t j = 0; j < of->count; j++) {
            next[m][j] = 0;
            for (size_t c = 0; c < of->classes; c++)
                if (of->total[c] > 0 && knows(of, m, c))
                    next[m][j] +=
                        of->weights[j] * of->p[j * of->classes + c] / of->total[c];
        }
}

/* The weights are a left eigenvector of `next` of value 1, so that no step loses or
 * makes mass; its diagonal is positive, so that steps do not go round. */
static void find_masses(struct completion *of)
{
    double next[KD_MAX_TEACHERS][KD_MAX_TEACHERS], change = 1;

    begin_even(of);
    link(of, next);
    for (size_t round = 0; round < MOST_ROUNDS && change > LEAST_CHANGE; round++) {
        double after[KD_MAX_TEACHERS] = {0};

        change = 0;
        for (size_t m = 0; m < of->count; m++) {
            for (size_t j = 0; j < of->count; j++)
                after[m] += next[m][j] * of->mass[j];
            change = fmax(change, fabs(after[m] - of->mass[m]));
        }
        for (size_t m = 0; m < of->count; m++)
            of->mass[m] = after[m];
    }
}

/* q out of the masses, of sum 1, and then what it has in each K_m. */
static void find_q(struct completion *of)
{
    double sum = 0;

    for (size_t c = 0; c < of->classes; c++) {
        for (size_t m = 0; m < of->count && of->total[c] > 0; m++)
            of->q[c] += of->weights[m] * of->mass[m] * of->p[m * of->classes + c] /
                        of->total[c];
        sum += of->q[c];
    }
    for (size_t c = 0; c < of->classes; c++)
        of->q[c] /= sum;
    for (size_t m = 0; m < of->count; m++) {
        of->mass[m] = 0;
        for (size_t c = 0; c < of->classes; c++)
            of->mass[m] += knows(of, m, c) ? of->q[c] : 0;
    }
}

enum kd_status kd_class_maps_complete(size_t count, size_t classes,
                                      const bool *const *known, const double *weights,
                                      float *const *values, float *row_max,
                                      float *log_z)
{
    enum kd_status status = KD_EBUG;
    struct completion of = {
        .count = count, .classes = classes, .known = known, .weights = weights};
    size_t all = 0;

    if (!kd_multiply(count, classes, &all))
        return kd_fail(KD_EMEMORY, "rows of %zu classes are too long", classes);
    KD_TRY(KD_NEW(of.p, all));
    KD_TRY(KD_NEW(of.total, classes));
    KD_TRY(KD_NEW(of.q, classes));
    take_rows(&of, values, log_z);
    find_masses(&of);
    find_q(&of);
    for (size_t m = 0; m < count; m++) {
        if (known[m] == NULL)
            continue;
        for (size_t c = 0; c < classes; c++) {
            const double p = known[m][c] ? of.mass[m] * of.p[m * classes + c] : of.q[c];
            values[m][c] = (float)fmax(log(p), -FLT_MAX);
        }
        settle(values[m], classes, &row_max[m], &log_z[m]);
    }
    status = KD_OK;
out:
    free(of.p);
    free(of.total);
    free(of.q);
    return status;
}
