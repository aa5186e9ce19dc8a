/* SPDX-License-Identifier: MIT */
/*
 * Merging: several teachers' caches become one under a policy (kd/policy.h).
 *
 *     struct kd_merge_plan plan = {.policy = KD_POLICY_MEAN_PROB, .teachers = 3};
 *     struct kd_merge_options options = {.encode_as_inputs = true};
 *     KD_TRY(kd_merge_run(&plan, inputs, "merged", &options));
 *
 * SPARSE ROWS. Teacher m keeps the classes S_m of a row, with their probabilities, and
 * the mass t_m of the n_m = C - |S_m| others together; l_m is its least kept
 * probability. The outcomes of the merged row are S, the union of all S_m (with the
 * label, where the policy needs it, and with the lowest classes that make up for the k
 * of a top-k row), and the rest as one. Of a class in S that it does not keep, m says
 *
 *     f_m = t_m / n_m
 *
 * its even share of the tail, which is what kd_shard_read says of it, too. The fills
 * sum to |S \ S_m| f_m <= t_m, as |S \ S_m| <= n_m, and the rest keeps
 * t_m (C - |S|) / n_m >= 0. In rows that keep the most probable classes every other one
 * has at most l_m, so that t_m <= n_m l_m, and f_m <= l_m as well.
 *
 * How far is that from merging whole rows, of which the classes outside of S are then
 * taken together? Let P be m's whole row and F what is said for it, both over S and the
 * rest. They agree on S_m, and both have t_m on what is outside of it. Their distance
 * in total variation is the greatest |F(E) - P(E)| over sets E of outcomes; a set and
 * its complement have the same difference, so it is enough to look at sets without the
 * rest, and as S_m does not count, at E within S \ S_m. There both F(E) and P(E) are
 * between 0 and the lesser of t_m and |S \ S_m| l_m, hence
 *
 *     TV(F, P) <= b_m = min(t_m, |S \ S_m| l_m)
 *
 * and b_m = 0 where S = S_m. Total variation is convex: a linear pool whose weights w_m
 * do not depend on what is filled in is within sum_m w_m b_m of the merge of whole
 * rows. This is the bound of a row; its mean and maximum are attributes of each shard
 * and of the log's last line. Sampled rows may lack classes that are more probable than
 * those they have, as may merged ones: there b_m = t_m. It speaks of what the inputs
 * store: rounding, and what a merged input's own merge has cost, come on top. An output
 * that keeps fewer classes than S takes outcomes together, which brings no two rows
 * further apart.
 *
 * It holds for mean-prob, leave-one-out, best-overall, random, route, stacked and
 * greedy. Where all rows keep their most probable class it also holds for confidence by
 * its maximum, for agreement by votes, whose decisions are then those of whole rows,
 * and vote-share is exact. Others have no bound: their weights follow from entropies or
 * probabilities that were filled in, or they take logarithms of them (mean-logit,
 * of log f_m), or sort them; nor do calibrated teachers have one. A calibrated tail is
 * an even one.
 *
 * Where a teacher is dense, S has all C classes. Rows are written as top-k or top-p
 * ones of S; dense and sampled ones have the rest spread evenly over the classes that
 * are not in S.
 *
 * TEMPERATURES are converted to that of the merge where it is exact: dense rows of
 * logits or of one teacher's log-probabilities, sparse ones at the further temperatures
 * that they have. Others are refused: the probabilities of several teachers, once
 * pooled, cannot be tempered (kd/soft.h).
 *
 * LABEL SPACES that differ need a table of classes (kd/class_map.h), which also says
 * what becomes of a teacher that knows only some of the classes.
 *
 * MISSING ROWS are an error; or renorm: the row is merged from the teachers that
 * have it, with their weights scaled to sum 1, as if there were no others; or skip: the
 * merged cache lacks it, too, which kd-check will find. Caches may then cover other
 * ids: the merged one has those of any, from the first to the last, or where rows are
 * skipped those of all. Shards that are there stay, even if more rows have come since.
 */
#ifndef KD_MERGE_H
#define KD_MERGE_H

#include "kd/class_map.h"
#include "kd/policy.h"
#include "kd/shard.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* -- sparse rows ---------------------------------------------------------------- */

/* One teacher's row of some classes. */
struct kd_sparse_row {
    size_t size;           /* |S_m|, at least 1 */
    const uint32_t *index; /* [size] classes, none twice */
    const float *values;   /* [size] u_m less its greatest value */
    float row_max, log_z;  /* that value; log sum exp of the values, over all C */
    float log_tail;        /* log t_m, -inf for none */
    bool keeps_top;        /* no other class is more probable than one of these */
};

struct kd_sparse_rows {
    struct kd_sparse_row teacher[KD_MAX_TEACHERS]; /* [M] */
    size_t classes;                                /* C */
    size_t at_least;  /* classes that are to be among the outcomes; at most C */
    bool needs_label; /* the label's class is to be one of them, if it is known */
    int32_t label;
    uint64_t id;
    uint32_t view;
};

struct kd_sparse_entry;

/* A merged row, and the memory for it, which grows: zeroed at first. */
struct kd_sparse_merge {
    size_t outcomes;    /* n, the last of which is the rest */
    uint32_t *class_of; /* [n] classes, ascending, then KD_CLASS_REST */
    float *merged;      /* [n] as of kd_merge_row */
    float *values;      /* [M][n] what each teacher says */
    double bound;       /* NAN where there is none */
    bool answered;

    struct kd_sparse_entry *entries;
    size_t class_capacity, merged_capacity, value_capacity, entry_capacity;
};
void kd_sparse_merge_clear(struct kd_sparse_merge *merge);

/* Merges one row of each teacher. The plan was checked and fitted, and its policy can
 * do without all classes; errors are kd_merge_row's. */
enum kd_status kd_sparse_merge_row(struct kd_sparse_merge *merge,
                                   const struct kd_merge_plan *plan,
                                   const struct kd_sparse_rows *rows) KD_CHECKED;

/* b_m of a row where `filled` classes of S are not its own. */
double kd_sparse_bound(const struct kd_sparse_row *row, size_t filled);

/* The bound of a row that was merged under the plan, from each teacher's own; NAN where
 * there is none. `keep_tops` as below. */
enum kd_status kd_merge_bound(const struct kd_merge_plan *plan,
                              const struct kd_policy_row *row, bool answered,
                              bool keep_tops, const double *each,
                              double *bound) KD_CHECKED;

/* Whether a bound holds under the plan; `keep_tops`: of rows that all keep their most
 * probable class. */
bool kd_merge_plan_is_bounded(const struct kd_merge_plan *plan, bool keep_tops);

/* Divides a row, of which `values` are the values, by a teacher's calibration; the
 * classes that it does not keep have even shares. 1 does nothing. */
void kd_sparse_calibrate(double by, size_t classes, float *values,
                         struct kd_sparse_row *row);

/* -- merges --------------------------------------------------------------------- */

enum kd_merge_missing {
    KD_MERGE_MISSING_ERROR,
    KD_MERGE_MISSING_RENORMALISE,
    KD_MERGE_MISSING_SKIP
};

/* "error", "renorm", "skip", ended by NULL. */
extern const char *const kd_merge_missing_names[];

/* How kd_merge_run works. */
struct kd_merge_options {
    uint64_t samples_a_shard; /* S of the merged cache; 0: about 32 MiB's worth */
    struct kd_codec codec;    /* how its rows are stored */
    bool encode_as_inputs;    /* as the inputs', but for the dtype, if they are all
                                 top-k or all top-p with the same k and mass */
    double temperature;       /* of the merged rows; 0: that of the inputs */
    enum kd_merge_missing missing;
    const struct kd_class_maps *classes; /* NULL: all inputs have the same */
    const char *history;                 /* the command line, for the shards */
    /* Called with each finished shard's path, in the order of ids; may be NULL. */
    enum kd_status (*finished)(void *context, const char *path);
    void *context;
};

/* What the command line says of a merge, but for how its rows are stored. */
struct kd_merge_args {
    struct kd_policy_args policy;
    struct kd_class_map_args classes;
    double temperature; /* 0: not given */
    int missing;        /* enum kd_merge_missing */
};

/* A plan for `teachers` caches out of `args`, and the temperature, the rule for missing
 * rows and the class maps of `options`; other options stay as they are. `classes` is
 * what options->classes points to where there are maps. KD_EUSAGE where options are
 * missing or contradict each other; KD_EDATA naming file and line. The caller clears
 * plan and classes, also after a failure. */
enum kd_status kd_merge_from_args(const struct kd_merge_args *args, size_t teachers,
                                  struct kd_merge_plan *plan,
                                  struct kd_class_maps *classes,
                                  struct kd_merge_options *options) KD_CHECKED;

/* Lines of a table of options, for `args` of type struct kd_merge_args. */
#define KD_MERGE_OPTIONS(args)                                                         \
    KD_POLICY_OPTIONS((args).policy),                                                  \
        {.name = "temperature",                                                        \
         .letter = 'T',                                                                \
         .type = KD_OPTION_F64,                                                        \
         .value = &(args).temperature,                                                 \
         .min = 0,                                                                     \
         .max = 1e6,                                                                   \
         .metavar = "T",                                                               \
         .help = "the temperature of the merged rows, to which those of the caches "   \
                 "are converted where that is exact",                                  \
         .usual = "theirs, which must be the same"},                                   \
        {.name = "missing",                                                            \
         .type = KD_OPTION_CHOICE,                                                     \
         .value = &(args).missing,                                                     \
         .choices = kd_merge_missing_names,                                            \
         .metavar = "RULE",                                                            \
         .help = "what a row becomes that a teacher lacks: an error, what the others " \
                 "say, or skipped"},                                                   \
        {.name = "class-map",                                                          \
         .type = KD_OPTION_STRING,                                                     \
         .value = &(args).classes.table,                                               \
         .metavar = "FILE",                                                            \
         .help = "CSV of teacher,class,to: which of a teacher's classes is which of "  \
                 "the merged ones; include/kd/class_map.h has the rule for those it "  \
                 "lacks"},                                                             \
        {.name = "classes",                                                            \
         .type = KD_OPTION_STRING,                                                     \
         .value = &(args).classes.names,                                               \
         .metavar = "FILE",                                                            \
         .help = "names of the merged classes, one a line"},                           \
    {                                                                                  \
        .name = "class-names", .type = KD_OPTION_STRING,                               \
        .value = &(args).classes.sources, .metavar = "FILE,...",                       \
        .help = "names of each cache's classes, a file a cache: classes of equal "     \
                "names are the same"                                                   \
    }

/* Whether teachers [M] may be merged; names [M] are for messages. KD_EDATA where not:
 * other dataset, class map, samples, views; a temperature that cannot be converted;
 * logprobs under a policy that needs logits. The message names what differs and where.
 * KD_EUSAGE where the policy cannot do with missing rows. The plan was checked and its
 * temperature is that of the merged rows. */
enum kd_status kd_merge_check(const struct kd_merge_plan *plan,
                              const struct kd_merge_options *options,
                              const struct kd_identity *const *teachers,
                              const char *const *names) KD_CHECKED;

/* C of the merged cache. */
uint32_t kd_merge_classes(const struct kd_merge_plan *plan,
                          const struct kd_merge_options *options,
                          const struct kd_identity *const *teachers);

/* The identity of the merged cache, from its teachers'. KD_EDATA as above. A teacher
 * that is there twice is a warning. The plan was checked and, where it must be,
 * fitted. */
enum kd_status kd_merge_identity(const struct kd_merge_plan *plan,
                                 const struct kd_merge_options *options,
                                 const struct kd_identity *const *teachers,
                                 const char *const *names,
                                 struct kd_identity *merged) KD_CHECKED;

/* The plan for a row that only some teachers have; what it points to stays the
 * plan's. KD_EDATA where none of them counts, or they are too few. */
enum kd_status kd_merge_plan_part(const struct kd_merge_plan *plan,
                                  const bool present[KD_MAX_TEACHERS],
                                  struct kd_merge_plan *part) KD_CHECKED;

/* Merges the caches named by `inputs` [plan->teachers] into `directory`. Shards that
 * are there already and belong to this merge are kept. A range of ids is merged as
 * soon as every teacher has it, or has ended where rows may be missing; inputs that are
 * pipes are read meanwhile. Where the plan must be fitted, that is done first, as soon
 * as every teacher has the held-out ids, in memory for all their rows. Otherwise memory
 * is bounded by the batch of rows, not by the caches, nor, where all inputs and the
 * output are sparse, by C. An input that ends before all its promised rows are there is
 * KD_EDATA, unless they may be missing. The bytes written depend on the rows alone, not
 * on how the inputs are cut into shards, when they come, or on threads. Checks the
 * plan; KD_EINTERRUPTED if a signal asks to stop: finished shards stay. */
enum kd_status kd_merge_run(const struct kd_merge_plan *plan, const char *const *inputs,
                            const char *directory,
                            const struct kd_merge_options *options) KD_CHECKED;

#endif
