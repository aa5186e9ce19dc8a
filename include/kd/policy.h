/* SPDX-License-Identifier: MIT */
/*
 * Policies: how one row of each of several teachers becomes one row.
 *
 * Notation: teachers m = 1..M, scaled logits u_m = z_m/T, p_m = softmax(u_m), weights
 * w_m >= 0 of sum 1, y the label, C classes.
 *
 * Pools of all teachers. Where they say w_m, static weights may be given.
 *
 *     mean-prob     p = sum_m w_m p_m. The linear pool: as sum_m w_m KL(p_m || q) =
 *                   KL(p || q) + constant, training on it is training on the weighted
 *                   mean of the teachers' KL losses, at this T. Hinton et al. 2015.
 *     mean-logit    u = sum_m w_m u_m. The log pool: the geometric mean of the
 *                   probabilities, renormalised. Hinton et al. 2015.
 *     median        the median over m of p_m(c), class by class, renormalised; of even
 *                   M the mean of the two in the middle.
 *     trimmed-mean  the mean over m of p_m(c) without the `trim` least and the `trim`
 *                   greatest, class by class, renormalised. Both are the coordinatewise
 *                   rules of robust aggregation (Yin et al. 2018, arXiv 1803.01498).
 *     leave-one-out mean-prob of all teachers but `left_out`, its weights scaled to
 *                   sum 1; kd-merge makes one cache for each that is left out
 *
 * Weights that follow from the row, times the static ones, scaled to sum 1; then as
 * mean-prob. Where all come out as 0 the static ones stay.
 *
 *     entropy           1 - H(p_m) / sum_j H(p_j)  (Kwon et al. 2020, EBKD)
 *     label-confidence  1 - exp(L_m) / sum_j exp(L_j), L_m = -log softmax(z_m)(y), at
 *                       temperature 1  (Zhang et al. 2022, CA-MKD)
 *     confidence        max_c p_m(c), or the margin: greatest less second greatest
 *     correct           p_m(y)  (after Wu et al. 2022, arXiv 2204.00548)
 *
 * One teacher's row as it is.
 *
 *     best-by-label  the m of the least -log softmax(z_m)(y), at temperature 1; of
 *                    equal ones the first
 *     best-overall   the m of the greatest accuracy, given or measured on held-out ids
 *                    (kd/fit.h); of equal ones the first
 *     random         m with probability w_m, drawn by counter from (seed, id, view), so
 *                    that a row's teacher is the same in any order of merging
 *                    (Fukuda et al. 2017; MEAL V2)
 *     route          the m that a table names for the id or the label (kd_route_load)
 *
 * Votes. A teacher's vote is its most probable class; of equal ones the first.
 *
 *     vote           all probability on the class of the greatest sum of w_m; of equal
 *                    ones that of the greatest sum_m w_m p_m(c), then the first
 *     vote-share     p(c) = the sum of w_m over the teachers that vote for c
 *     agreement      mean-prob where the teachers agree, else the fallback. They agree
 *                    if the winner's share of the votes is at least `threshold`, or if
 *                    their Jensen-Shannon divergence, sum_m w_m KL(p_m || sum_j w_j
 *                    p_j) in nats, is at most that
 *     noisy-vote     all probability on the winner of a vote with noise, drawn from
 *                    (seed, id, view); kd/privacy.h has the three kinds and what they
 *                    cost. A question without an answer gets the fallback
 *
 * Learned on held-out ids, then frozen (kd/fit.h).
 *
 *     stacked        mean-prob with the weights of the least NLL (Wolpert 1992)
 *     greedy         mean-prob with weights k_m/k: how often each of k selections with
 *                    replacement took teacher m (Caruana et al. 2004)
 *     class-weights  p(c) proportional to sum_m w_m(c) p_m(c), with sum_m w_m(c) = 1
 *                    for each c (Kuncheva 2004, class-conscious combination)
 *
 * Teachers can be calibrated before any of them: u_m/t_m in place of u_m. Weights from
 * the row (entropy, confidence, correct) and the choice of best-by-label are measured
 * at the temperature named above, T where none is; `weigh_at` overrules that.
 *
 * The fallback is the label itself, all probability on y (FerKD's hard label; a row
 * whose label is unknown is an error then), or the uniform distribution. It never looks
 * at the teachers, who have refused the row: in a private vote it must not.
 *
 * Values are log-probabilities, but for mean-logit, and for one teacher's row as it is
 * where all teachers have logits. A probability of 0 is the logarithm -FLT_MAX.
 *
 * A policy sees n outcomes. In a dense row they are the C classes. A sparse one has the
 * classes that any teacher kept, and one outcome for the rest of them together, which
 * takes part in sums, means and entropies but gets no vote and is nobody's maximum;
 * temperatures other than T treat it as one class. The label must be among the
 * outcomes. noisy-vote needs all classes, since each gets its noise.
 *
 *     struct kd_merge_plan plan = {.policy = KD_POLICY_MEAN_PROB, .teachers = 3};
 *     KD_TRY(kd_merge_plan_check(&plan));
 *     KD_TRY(kd_merge_rows(&plan, &rows, out, NULL));
 *     kd_merge_plan_clear(&plan);
 *
 * To add a policy: a constant here, and in src/merge/policy.c a line of the table with
 * its function.
 */
#ifndef KD_POLICY_H
#define KD_POLICY_H

#include "kd/options.h"
#include "kd/privacy.h"
#include "kd/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kd_policy {
    KD_POLICY_MEAN_PROB,
    KD_POLICY_MEAN_LOGIT,
    KD_POLICY_MEDIAN,
    KD_POLICY_TRIMMED_MEAN,
    KD_POLICY_LEAVE_ONE_OUT,
    KD_POLICY_ENTROPY,
    KD_POLICY_LABEL_CONFIDENCE,
    KD_POLICY_CONFIDENCE,
    KD_POLICY_CORRECT,
    KD_POLICY_BEST_BY_LABEL,
    KD_POLICY_BEST_OVERALL,
    KD_POLICY_RANDOM,
    KD_POLICY_ROUTE,
    KD_POLICY_VOTE,
    KD_POLICY_VOTE_SHARE,
    KD_POLICY_AGREEMENT,
    KD_POLICY_NOISY_VOTE,
    KD_POLICY_STACKED,
    KD_POLICY_GREEDY,
    KD_POLICY_CLASS_WEIGHTS
};

/* The names, ended by NULL, in the order of the enum. */
extern const char *const kd_policy_names[];

enum kd_confidence { KD_CONFIDENCE_MAX, KD_CONFIDENCE_MARGIN };
enum kd_agree { KD_AGREE_VOTES, KD_AGREE_JS };
enum kd_fallback { KD_FALLBACK_LABEL, KD_FALLBACK_UNIFORM };

#define KD_MAX_TEACHERS 64

struct kd_route;

/* What a policy is told; fields of other policies stay 0. */
struct kd_merge_plan {
    enum kd_policy policy;
    size_t teachers;                 /* M, 1 to KD_MAX_TEACHERS */
    double weights[KD_MAX_TEACHERS]; /* all 0: equal; scaled to sum 1 by check */
    double temperature;              /* T of the rows; 0: 1 */
    double weigh_at;                 /* where weights are measured; 0: see above */
    enum kd_confidence confidence;
    enum kd_agree agree;
    double threshold; /* agreement: votes above 0 to 1, JS 0 to ln M */
    enum kd_fallback fallback;
    uint64_t trim; /* trimmed-mean: from each end, 2 trim < M; 0: 1 */
    uint64_t seed; /* random, noisy-vote */
    struct kd_noise noise;
    double delta;      /* noisy-vote: what its cost is given for; 0: 1e-5 */
    size_t left_out;   /* leave-one-out: 0 to M-1 */
    bool keeps_logits; /* one teacher's row as it is: absolute u, not log p; all
                          teachers must have logits */
    bool calibrate;    /* to be fitted: calibration */
    uint64_t
        holdout_begin; /* held-out ids holdout_begin to holdout_end-1; both 0: none */
    uint64_t holdout_end;
    uint64_t rounds; /* greedy: at most so many selections; 0: 100 */

    bool fitted; /* what follows is there; else kd/fit.h fills it in */
    double calibration[KD_MAX_TEACHERS]; /* t_m; 1 where not calibrated */
    double accuracy[KD_MAX_TEACHERS];    /* best-overall; may be given */
    double *class_weights;               /* [M][C]. Owned */
    struct kd_route *route;              /* route. Owned */
};

/* KD_EUSAGE where a field is out of its range, is missing, or belongs to another
 * policy; messages name it as kd-merge's options do. Scales the weights, fills in
 * defaults. */
enum kd_status kd_merge_plan_check(struct kd_merge_plan *plan) KD_CHECKED;
void kd_merge_plan_clear(struct kd_merge_plan *plan);

/* Parses one number a teacher, "0.5,0.3,0.2", not all 0; `option` is for messages.
 * KD_EUSAGE. */
enum kd_status kd_merge_parse_numbers(const char *option, const char *text,
                                      size_t teachers, double *numbers) KD_CHECKED;

/* Whether held-out ids must be read (kd/fit.h) before rows can be merged. */
bool kd_merge_plan_needs_fit(const struct kd_merge_plan *plan);

/* What the policy cannot do without: logits, where log-probabilities will not do; all
 * classes of a row, n = C. */
bool kd_policy_needs_logits(enum kd_policy policy);
bool kd_policy_needs_all_classes(enum kd_policy policy);

/* Whether merged values are logits, where all teachers' are, or are not. */
bool kd_policy_gives_logits(enum kd_policy policy, bool teachers_have_logits);

/* All that the merged rows depend on but for the teachers, in one line of ASCII:
 * "weights=0.5,0.5 threshold=0.5". `rows` is how many will be asked for, which a
 * private vote's cost grows with. KD_EUSAGE where `size` is too small. The plan was
 * checked and, where it must be, fitted. */
enum kd_status kd_merge_plan_text(const struct kd_merge_plan *plan, uint64_t rows,
                                  size_t classes, char *text, size_t size) KD_CHECKED;

/* The outcome that stands for all classes which are not among the others. */
#define KD_CLASS_REST UINT32_MAX

/* One row of each teacher over n outcomes. */
struct kd_policy_row {
    size_t outcomes;          /* n */
    size_t classes;           /* C */
    const uint32_t *class_of; /* [n] each once; NULL: outcome c is class c */
    const float *values[KD_MAX_TEACHERS]; /* [M][n] u_m less its greatest value */
    float row_max[KD_MAX_TEACHERS];       /* [M] that value */
    float log_z[KD_MAX_TEACHERS];         /* [M] log sum exp of the values */
    int32_t label;                        /* -1: unknown */
    uint64_t id;
    uint32_t view;
};

/* Merges a row into out [n]. *answered says whether the teachers made it, rather than
 * the fallback. KD_EDATA naming sample and view where the row lacks a label that the
 * policy needs, or a place in the table of routes. The plan was checked and fitted. */
enum kd_status kd_merge_row(const struct kd_merge_plan *plan,
                            const struct kd_policy_row *row, float *out,
                            bool *answered) KD_CHECKED;

/* Dense rows of all teachers. */
struct kd_policy_rows {
    size_t count, classes;
    const float *const *values;  /* [M] of [count][classes] */
    const float *const *row_max; /* [M] of [count] */
    const float *const *log_z;   /* [M] of [count] */
    const int32_t *label;        /* [count] */
    const uint64_t *id;          /* [count] */
    const uint32_t *view;        /* [count] */
};

/* Merges them into out [count][classes]; answered is [count] or NULL. Every row is
 * merged by itself, in a fixed order of arithmetic, so that results do not depend on
 * batches or threads. mean-prob, in single precision with exp and log of kd/vector.h,
 * is within (4e-7 + 6e-8 M) (1 + |log p|) of the exact log p; mean-logit is summed in
 * double. */
enum kd_status kd_merge_rows(const struct kd_merge_plan *plan,
                             const struct kd_policy_rows *rows, float *out,
                             bool *answered) KD_CHECKED;

/* Divides a teacher's rows [count][classes] by its calibration, before they are merged.
 * row_max and log_z [count] follow; values stay less their row's maximum. 1 does
 * nothing. */
void kd_calibrate_rows(double by, size_t count, size_t classes, float *values,
                       float *row_max, float *log_z);

/*
 * Tables of routes, as CSV: a line "id,teacher" or "label,teacher", then a key and the
 * number of a teacher, from 1 in the order of the caches, a line. A key is a number, a
 * range "A:B" for A to B-1, or "*" for all that no other line names. Lines that are
 * empty or begin with "#" are skipped.
 *
 *     label,teacher
 *     0:50,1
 *     50:100,2
 *     *,3
 */
enum kd_status kd_route_load(const char *path, size_t teachers,
                             struct kd_route **route) KD_CHECKED;
void kd_route_free(struct kd_route *route); /* NULL is fine */

/* Whether keys are labels, not ids. */
bool kd_route_by_label(const struct kd_route *route);

/* The teacher (from 0) of a key, or SIZE_MAX. */
size_t kd_route_find(const struct kd_route *route, uint64_t key);

/* What the command line says. */
struct kd_policy_args {
    int policy, confidence, agree, fallback, noise;
    char *weights, *accuracies, *route, *holdout; /* NULL: not given */
    double weigh_at, threshold, noise_scale, check_scale, delta;
    uint64_t trim, seed, rounds;
    bool calibrate;
};

/* "max", "margin"; "votes", "js"; "label", "uniform"; ended by NULL. */
extern const char *const kd_confidence_names[];
extern const char *const kd_agree_names[];
extern const char *const kd_fallback_names[];

/* A plan for `teachers` caches out of `args`, checked; the table of routes is read.
 * KD_EUSAGE where options are missing, contradict each other or belong to another
 * policy. */
enum kd_status kd_merge_plan_from_args(const struct kd_policy_args *args,
                                       size_t teachers,
                                       struct kd_merge_plan *plan) KD_CHECKED;

/* The options as they would be given again, for history lines: "--policy vote". On the
 * heap. */
char *kd_policy_args_text(const struct kd_policy_args *args) KD_CHECKED;

/* Lines of a table of options, for `args` of type struct kd_policy_args. */
#define KD_POLICY_OPTIONS(args)                                                        \
    {.name = "policy",                                                                 \
     .type = KD_OPTION_CHOICE,                                                         \
     .value = &(args).policy,                                                          \
     .choices = kd_policy_names,                                                       \
     .metavar = "POLICY",                                                              \
     .help = "how rows are combined: mean-prob averages the probabilities, "           \
             "mean-logit the logits; include/kd/policy.h has every formula"},          \
        {.name = "weights",                                                            \
         .type = KD_OPTION_STRING,                                                     \
         .value = &(args).weights,                                                     \
         .metavar = "LIST",                                                            \
         .help = "one weight a cache, by commas, scaled to sum 1; equal by default"},  \
        {.name = "weigh-at",                                                           \
         .type = KD_OPTION_F64,                                                        \
         .value = &(args).weigh_at,                                                    \
         .min = 0,                                                                     \
         .max = 1e6,                                                                   \
         .metavar = "T",                                                               \
         .help = "the temperature at which weights are measured",                      \
         .usual =                                                                      \
             "1 where they follow from the label's loss, else that of the caches"},    \
        {.name = "confidence",                                                         \
         .type = KD_OPTION_CHOICE,                                                     \
         .value = &(args).confidence,                                                  \
         .choices = kd_confidence_names,                                               \
         .metavar = "MEASURE",                                                         \
         .help = "confidence: the greatest probability, or its margin"},               \
        {.name = "agree",                                                              \
         .type = KD_OPTION_CHOICE,                                                     \
         .value = &(args).agree,                                                       \
         .choices = kd_agree_names,                                                    \
         .metavar = "MEASURE",                                                         \
         .help = "agreement: by votes or by Jensen-Shannon divergence"},               \
        {.name = "threshold",                                                          \
         .type = KD_OPTION_F64,                                                        \
         .value = &(args).threshold,                                                   \
         .metavar = "X",                                                               \
         .help = "agreement: the least share of votes, or the greatest divergence; "   \
                 "confident-gnmax: the votes to answer at",                            \
         .usual = ""},                                                                 \
        {.name = "fallback",                                                           \
         .type = KD_OPTION_CHOICE,                                                     \
         .value = &(args).fallback,                                                    \
         .choices = kd_fallback_names,                                                 \
         .metavar = "WHAT",                                                            \
         .help = "agreement, noisy-vote: what rows without an answer become"},         \
        {.name = "trim",                                                               \
         .type = KD_OPTION_U64,                                                        \
         .value = &(args).trim,                                                        \
         .min = 0,                                                                     \
         .max = KD_MAX_TEACHERS,                                                       \
         .metavar = "N",                                                               \
         .help = "trimmed-mean: teachers left out at either end",                      \
         .usual = "1"},                                                                \
        {.name = "seed",                                                               \
         .type = KD_OPTION_U64,                                                        \
         .value = &(args).seed,                                                        \
         .metavar = "N",                                                               \
         .help = "random, noisy-vote: what teachers and noise are drawn from"},        \
        {.name = "noise",                                                              \
         .type = KD_OPTION_CHOICE,                                                     \
         .value = &(args).noise,                                                       \
         .choices = kd_noise_names,                                                    \
         .metavar = "KIND",                                                            \
         .help = "noisy-vote: how noise is added to the votes"},                       \
        {.name = "noise-scale",                                                        \
         .type = KD_OPTION_F64,                                                        \
         .value = &(args).noise_scale,                                                 \
         .min = 0,                                                                     \
         .max = 1e9,                                                                   \
         .metavar = "S",                                                               \
         .help = "noisy-vote: scale of the Laplace noise, deviation of the Gaussian",  \
         .usual = ""},                                                                 \
        {.name = "check-scale",                                                        \
         .type = KD_OPTION_F64,                                                        \
         .value = &(args).check_scale,                                                 \
         .min = 0,                                                                     \
         .max = 1e9,                                                                   \
         .metavar = "S",                                                               \
         .help = "confident-gnmax: deviation of the noise of its check",               \
         .usual = ""},                                                                 \
        {.name = "delta",                                                              \
         .type = KD_OPTION_F64,                                                        \
         .value = &(args).delta,                                                       \
         .min = 0,                                                                     \
         .max = 0.5,                                                                   \
         .metavar = "D",                                                               \
         .help = "noisy-vote: the delta that its privacy cost is given for",           \
         .usual = "1e-5"},                                                             \
        {.name = "route",                                                              \
         .type = KD_OPTION_STRING,                                                     \
         .value = &(args).route,                                                       \
         .metavar = "FILE",                                                            \
         .help = "route: CSV of id,teacher or label,teacher"},                         \
        {.name = "accuracies",                                                         \
         .type = KD_OPTION_STRING,                                                     \
         .value = &(args).accuracies,                                                  \
         .metavar = "LIST",                                                            \
         .help = "best-overall: one accuracy a cache, by commas"},                     \
        {.name = "holdout",                                                            \
         .type = KD_OPTION_STRING,                                                     \
         .value = &(args).holdout,                                                     \
         .metavar = "A:B",                                                             \
         .help = "held-out ids A to B-1, which learned policies and --calibrate are "  \
                 "fitted on; no teacher should have been trained on them"},            \
        {.name = "rounds",                                                             \
         .type = KD_OPTION_U64,                                                        \
         .value = &(args).rounds,                                                      \
         .min = 0,                                                                     \
         .max = 1e6,                                                                   \
         .metavar = "N",                                                               \
         .help = "greedy: selections at most",                                         \
         .usual = "100"},                                                              \
    {                                                                                  \
        .name = "calibrate", .type = KD_OPTION_FLAG, .value = &(args).calibrate,       \
        .help = "divide each teacher's logits by the temperature of the least NLL "    \
                "on the held-out ids first"                                            \
    }

#endif
