/* SPDX-License-Identifier: MIT */
/*
 * Class maps: teachers whose label spaces differ, on their way into one merge.
 *
 * A cache keeps only a digest of its classes' names, so nothing is matched unasked.
 * Either a table says which class of a teacher is which class of the merged cache,
 *
 *     teacher,class,to
 *     2,0,5
 *     2,1,7
 *
 * with teachers from 1 in the order of the caches, classes from 0, and for `to` a
 * number or, where the merged classes have names, a name. A teacher without a line has
 * the merged classes as they are; of the others, classes without a line are dropped,
 * and what several classes of one teacher have is summed where they go to the same.
 * Or the names are compared: one file of names a cache, a name a line in the order of
 * its classes, checked against the cache's digest, and one for the merged cache.
 *
 * The merged classes are those of the file of names; without one, those of the teachers
 * that have no line; if there is none, the numbers up to the greatest `to`.
 *
 * A teacher that has every merged class but for their order keeps its values. Else its
 * row is p_m over the classes K_m it has in the merged cache, scaled to sum 1: what it
 * would say if it had to be one of these. A policy needs whole rows, so it is completed
 * by what all teachers say together,
 *
 *     p~_m(c) = q(K_m) p_m(c)  in K_m,    q(c)  elsewhere
 *     q(c) = sum_{m: c in K_m} w_m q(K_m) p_m(c) / sum_{m: c in K_m} w_m
 *
 * of sum 1, with w_m the weights that were given (else equal ones). So p_m is read as q
 * under the condition that the class is in K_m, as in Vongkulbhisal, Vinayavekhin and
 * Visentini-Scarzanella 2019 (Unifying Heterogeneous Classifiers with Distillation).
 * Inside K_m the teacher says how the mass is shared out, never how much of it there
 * is, and outside it has no say. If all others know all classes, q(K_m) is the mass
 * that their mean puts on K_m. mean-prob with the same weights gives q itself. It would
 * be wrong to add up p_m as they are: one that knows 2 of 100 classes would put half of
 * its weight on each, whatever the others see. q is found by going over q(K_m) again
 * and again, from an even q on; sets of classes that no chain of teachers links keep
 * the shares they had in that. A class that no teacher knows gets 0, with a warning.
 *
 * A teacher that leave-one-out leaves out has no say in q. noisy-vote takes no teachers
 * that were completed: each would vote for the others, too, whose privacy that costs.
 *
 * Labels are the dataset's and are taken to be of the merged classes. Mapped rows are
 * dense on their way.
 *
 *     struct kd_class_maps maps = {0};
 *     KD_TRY(kd_class_maps_load(&args, 3, &maps));
 *     ... .classes = &maps in struct kd_merge_options ...
 *     kd_class_maps_clear(&maps);
 */
#ifndef KD_CLASS_MAP_H
#define KD_CLASS_MAP_H

#include "kd/hash.h"
#include "kd/policy.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the command line says; NULL: not given. */
struct kd_class_map_args {
    char *table;   /* a path */
    char *names;   /* the merged cache's, a path */
    char *sources; /* the teachers' names: paths by commas, one a cache */
};

/* "class `class` of a teacher is class `to`". */
struct kd_class_pair {
    uint32_t class, to;
};

/* One teacher's. */
struct kd_class_map {
    struct kd_class_pair *pairs; /* [count] by class; none: as the merged cache's */
    size_t count, capacity;
    bool given;             /* it has pairs, be they none */
    uint32_t num_classes;   /* by name: of the teacher's file; else 0 */
    struct kd_digest names; /* by name: of the teacher's file */
};

struct kd_class_maps {
    size_t teachers;
    uint32_t num_classes;    /* C of the merged cache; 0: not known without teachers */
    struct kd_digest digest; /* of its names, where C is known */
    struct kd_class_map of[KD_MAX_TEACHERS];
};

/* Reads the tables. KD_EUSAGE where arguments contradict each other; KD_EDATA naming
 * file and line. */
enum kd_status kd_class_maps_load(const struct kd_class_map_args *args, size_t teachers,
                                  struct kd_class_maps *maps) KD_CHECKED;
void kd_class_maps_clear(struct kd_class_maps *maps);

/* A digest of all pairs. */
enum kd_status kd_class_maps_digest(const struct kd_class_maps *maps,
                                    struct kd_digest *digest) KD_CHECKED;

/* Which of the `classes` merged ones teacher m has, into known [classes]; returns how
 * many. All, without a map. */
size_t kd_class_map_known(const struct kd_class_map *map, size_t classes, bool *known);

/* Whether it only brings classes into another order, of `own` into `classes`. */
bool kd_class_map_renames(const struct kd_class_map *map, size_t own, size_t classes);

/* A row `from` of values less their maximum as one `to` [classes] over the merged
 * classes; -FLT_MAX for those the teacher has not. Where it only renames, *row_max and
 * *log_z stay as they are; else values become log-probabilities, with *row_max and
 * *log_z to match. */
void kd_class_map_row(const struct kd_class_map *map, bool renames, size_t classes,
                      const float *from, float *to, float *row_max, float *log_z);

/* Completes mapped rows of `count` teachers, in place: values[i] [classes] with row_max
 * and log_z, which knows known[i] [classes] (NULL: all) and has weight weights[i],
 * not all 0. */
enum kd_status kd_class_maps_complete(size_t count, size_t classes,
                                      const bool *const *known, const double *weights,
                                      float *const *values, float *row_max,
                                      float *log_z) KD_CHECKED;

#endif
