/* SPDX-License-Identifier: MIT */
/* What a policy is told: checked, and put into words. */
#include "merge/policy_internal.h"

#include "kd/hash.h"
#include "kd/memory.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const kd_confidence_names[] = {"max", "margin", NULL};
const char *const kd_agree_names[] = {"votes", "js", NULL};
const char *const kd_fallback_names[] = {"label", "uniform", NULL};

#define DEFAULT_ROUNDS 100
#define DEFAULT_DELTA  1e-5

static bool has(const struct kd_merge_plan *plan, unsigned traits)
{
    return (kd_policy_rule(plan->policy)->traits & traits) != 0;
}

void kd_merge_plan_clear(struct kd_merge_plan *plan)
{
    free(plan->class_weights);
    kd_route_free(plan->route);
    *plan = (struct kd_merge_plan){0};
}

bool kd_merge_plan_needs_fit(const struct kd_merge_plan *plan)
{
    const bool best = plan->policy == KD_POLICY_BEST_OVERALL;
    bool known = false;

    for (size_t m = 0; m < plan->teachers; m++)
        known |= plan->accuracy[m] > 0;
    return !plan->fitted &&
           (plan->calibrate || has(plan, KD_FITS_WEIGHTS) || (best && !known));
}

/* -- checking ------------------------------------------------------------------- */

static bool is_equal(const double *numbers, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (numbers[i] != numbers[0])
            return false;
    return true;
}

static enum kd_status check_weights(struct kd_merge_plan *plan)
{
    const size_t n = plan->teachers;
    const bool taken =
        has(plan, KD_TAKES_WEIGHTS) || (has(plan, KD_FITS_WEIGHTS) && plan->fitted);
    double sum = 0;

    for (size_t m = 0; m < n; m++) {
        if (!isfinite(plan->weights[m]) || plan->weights[m] < 0)
            return kd_fail(KD_EUSAGE, "weight %zu is %g: must be at least 0", m + 1,
                           plan->weights[m]);
        sum += plan->weights[m];
    }
    if (!isfinite(sum))
        return kd_fail(KD_EUSAGE, "the sum of the weights must be finite");
    if (!taken && !is_equal(plan->weights, n))
        return kd_fail(KD_EUSAGE, "--weights: %s takes none",
                       kd_policy_names[plan->policy]);
    if (!kd_policy_scale(plan->weights, n))
        for (size_t m = 0; m < n; m++)
            plan->weights[m] = 1.0 / (double)n;
    return KD_OK;
}

/* Options that belong to some policies only, and whether they say anything. */
static enum kd_status check_belonging(const struct kd_merge_plan *plan)
{
    const enum kd_policy policy = plan->policy;
    const bool noisy = policy == KD_POLICY_NOISY_VOTE;
    const struct {
        const char *option;
        bool given, belongs;
    } options[] = {
        {"weigh-at", plan->weigh_at != 0, has(plan, KD_MEASURES)},
        {"confidence", plan->confidence != KD_CONFIDENCE_MAX,
         policy == KD_POLICY_CONFIDENCE},
        {"agree", plan->agree != KD_AGREE_VOTES, policy == KD_POLICY_AGREEMENT},
        {"threshold", plan->threshold != 0, policy == KD_POLICY_AGREEMENT},
        {"threshold", plan->noise.threshold != 0, noisy},
        {"fallback", plan->fallback != KD_FALLBACK_LABEL, has(plan, KD_FALLS_BACK)},
        {"trim", plan->trim != 0, policy == KD_POLICY_TRIMMED_MEAN},
        {"seed", plan->seed != 0, has(plan, KD_DRAWS)},
        {"noise", plan->noise.kind != KD_NOISE_LNMAX, noisy},
        {"noise-scale", plan->noise.scale != 0, noisy},
        {"check-scale", plan->noise.check != 0, noisy},
        {"delta", plan->delta != 0, noisy},
        {"rounds", plan->rounds != 0, policy == KD_POLICY_GREEDY},
        {"route", plan->route != NULL, policy == KD_POLICY_ROUTE},
    };

    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (options[i].given && !options[i].belongs)
            return kd_fail(KD_EUSAGE, "--%s: --policy %s does not take it",
                           options[i].option, kd_policy_names[policy]);
    if (policy == KD_POLICY_ROUTE && plan->route == NULL)
        return kd_fail(KD_EUSAGE, "--policy route needs a table: give --route FILE");
    return KD_OK;
}

static enum kd_status check_threshold(const struct kd_merge_plan *plan)
{
    const bool votes = plan->agree == KD_AGREE_VOTES;
    const double most = votes ? 1 : log((double)plan->teachers);

    if (plan->policy != KD_POLICY_AGREEMENT || plan->teachers == 1)
        return KD_OK;
    if (plan->threshold > 0 && plan->threshold <= most)
        return KD_OK;
    return kd_fail(KD_EUSAGE,
                   "--policy agreement: --threshold is %g: must be above 0 and at "
                   "most %g%s",
                   plan->threshold, most, votes ? ", the share of votes" : ", in nats");
}

static enum kd_status check_numbers(const struct kd_merge_plan *plan)
{
    const enum kd_policy policy = plan->policy;
    const size_t n = plan->teachers;

    if (!isfinite(plan->temperature) || plan->temperature < 0 ||
        !isfinite(plan->weigh_at) || plan->weigh_at < 0)
        return kd_fail(KD_EUSAGE, "temperatures must be at least 0 and finite");
    if (policy == KD_POLICY_TRIMMED_MEAN && plan->trim >= (n + 1) / 2)
        return kd_fail(KD_EUSAGE,
                       "--trim %llu leaves none of %zu teachers: trimmed-mean needs "
                       "more than %llu",
                       (unsigned long long)plan->trim, n,
                       (unsigned long long)plan->trim * 2);
    if (policy == KD_POLICY_LEAVE_ONE_OUT && n < 2)
        return kd_fail(KD_EUSAGE, "leave-one-out needs at least 2 teachers");
    if (policy == KD_POLICY_LEAVE_ONE_OUT &&
        (plan->left_out >= n || !(1 - plan->weights[plan->left_out] > 1e-12)))
        return kd_fail(KD_EUSAGE,
                       "leave-one-out: without teacher %zu there is none "
                       "that counts",
                       plan->left_out + 1);
    if (!(plan->delta >= 0 && plan->delta < 1))
        return kd_fail(KD_EUSAGE, "--delta is %g: must be at least 0 and below 1",
                       plan->delta);
    for (size_t m = 0; m < n; m++)
        if (!(plan->calibration[m] > 0) || !isfinite(plan->calibration[m]) ||
            !(plan->accuracy[m] >= 0 && plan->accuracy[m] <= 1))
            return kd_fail(KD_EUSAGE,
                           "cache %zu: its accuracy must be from 0 to 1, "
                           "its calibration above 0",
                           m + 1);
    return KD_OK;
}

static enum kd_status check_fit(const struct kd_merge_plan *plan)
{
    const bool given = plan->holdout_begin != 0 || plan->holdout_end != 0;

    if (given && plan->holdout_begin >= plan->holdout_end)
        return kd_fail(KD_EUSAGE, "--holdout: from %llu to %llu there are no ids",
                       (unsigned long long)plan->holdout_begin,
                       (unsigned long long)plan->holdout_end);
    if (kd_merge_plan_needs_fit(plan) && !given)
        return kd_fail(KD_EUSAGE, "%s is fitted on held-out ids: give --holdout A:B%s",
                       plan->calibrate ? "--calibrate" : kd_policy_names[plan->policy],
                       plan->policy == KD_POLICY_BEST_OVERALL ? " or --accuracies"
                                                              : "");
    if (!kd_merge_plan_needs_fit(plan) && !plan->fitted && given)
        return kd_fail(KD_EUSAGE, "--holdout: nothing is fitted: %s learns nothing",
                       kd_policy_names[plan->policy]);
    return KD_OK;
}

static void fill_in(struct kd_merge_plan *plan)
{
    if (plan->temperature == 0)
        plan->temperature = 1;
    if (plan->policy == KD_POLICY_TRIMMED_MEAN && plan->trim == 0)
        plan->trim = 1;
    if (plan->policy == KD_POLICY_GREEDY && plan->rounds == 0)
        plan->rounds = DEFAULT_ROUNDS;
    if (plan->policy == KD_POLICY_NOISY_VOTE && plan->delta == 0)
        plan->delta = DEFAULT_DELTA;
    for (size_t m = 0; m < plan->teachers; m++)
        if (plan->calibration[m] == 0)
            plan->calibration[m] = 1;
}

enum kd_status kd_merge_plan_check(struct kd_merge_plan *plan)
{
    enum kd_status status = KD_EBUG;

    if (plan->teachers < 1 || plan->teachers > KD_MAX_TEACHERS)
        return kd_fail(KD_EUSAGE, "%zu caches to merge: must be 1 to %d",
                       plan->teachers, KD_MAX_TEACHERS);
    KD_TRY(check_weights(plan));
    KD_TRY(check_belonging(plan));
    fill_in(plan);
    KD_TRY(check_threshold(plan));
    KD_TRY(check_numbers(plan));
    if (plan->policy == KD_POLICY_NOISY_VOTE)
        KD_TRY(kd_noise_check(&plan->noise));
    KD_TRY(check_fit(plan));
out:
    return status;
}

/* -- in words --------------------------------------------------------------------- */

struct words {
    char *text;
    size_t size, length; /* a length of `size` says that it was too short */
};

static void KD_PRINTF(2, 3) say(struct words *words, const char *format, ...)
{
    va_list list;
    int written = 0;

    va_start(list, format);
    if (words->length < words->size)
        written = vsnprintf(words->text + words->length, words->size - words->length,
                            format, list);
    va_end(list);
    words->length += written > 0 ? (size_t)written : 0;
    if (written < 0 || words->length > words->size)
        words->length = words->size;
}

/* " key=" between words. */
static void say_key(struct words *words, const char *key)
{
    say(words, "%s%s=", words->length > 0 ? " " : "", key);
}

static void say_word(struct words *words, const char *key, const char *value)
{
    say_key(words, key);
    say(words, "%s", value);
}

static void say_numbers(struct words *words, const char *key, const double *numbers,
                        size_t n)
{
    char number[KD_TEXT_F64];

    say_key(words, key);
    for (size_t i = 0; i < n; i++) {
        kd_text_f64(numbers[i], number);
        say(words, "%s%s", i > 0 ? "," : "", number);
    }
}

static void say_whole(struct words *words, const char *key, uint64_t number)
{
    say_key(words, key);
    say(words, "%llu", (unsigned long long)number);
}

static void say_noise(struct words *words, const struct kd_merge_plan *plan,
                      uint64_t rows)
{
    const struct kd_noise *noise = &plan->noise;
    const struct kd_privacy cost = kd_privacy_cost(noise, rows, rows, plan->delta);
    const double epsilon = ceil(cost.epsilon * 1e6) / 1e6; /* a bound, and short */

    say_word(words, "noise", kd_noise_names[noise->kind]);
    say_numbers(words, "noise-scale", &noise->scale, 1);
    if (noise->kind == KD_NOISE_CONFIDENT_GNMAX) {
        say_numbers(words, "check-scale", &noise->check, 1);
        say_numbers(words, "threshold", &noise->threshold, 1);
    }
    say_whole(words, "questions", rows);
    say_numbers(words, "epsilon", &epsilon, 1);
    say_numbers(words, "delta", &plan->delta, 1);
}

static enum kd_status say_class_weights(struct words *words,
                                        const struct kd_merge_plan *plan,
                                        size_t classes)
{
    enum kd_status status = KD_EBUG;
    struct kd_hash *hash = NULL;
    struct kd_digest digest;

    KD_TRY(kd_hash_new(&hash));
    kd_hash_add(hash, plan->class_weights,
                plan->teachers * classes * sizeof plan->class_weights[0]);
    kd_hash_digest(hash, &digest);
    say_word(words, "class-weights", digest.hex);
    status = KD_OK;
out:
    kd_hash_free(hash);
    return status;
}

static enum kd_status say_route(struct words *words, const struct kd_merge_plan *plan)
{
    struct kd_digest digest;
    enum kd_status status = kd_route_digest(plan->route, &digest);

    if (status == KD_OK) {
        say_word(words, "by", kd_route_by_label(plan->route) ? "label" : "id");
        say_word(words, "route", digest.hex);
    }
    return status;
}

static void say_measure(struct words *words, const struct kd_merge_plan *plan)
{
    const double own = has(plan, KD_MEASURES_AT_ONE) ? 1 : plan->temperature;
    const double at = plan->weigh_at > 0 ? plan->weigh_at : own;

    say_numbers(words, "weigh-at", &at, 1);
}

/* What only one policy has. */
static enum kd_status say_own(struct words *words, const struct kd_merge_plan *plan,
                              uint64_t rows, size_t classes)
{
    switch (plan->policy) {
    case KD_POLICY_TRIMMED_MEAN:
        say_whole(words, "trim", plan->trim);
        break;
    case KD_POLICY_CONFIDENCE:
        say_word(words, "confidence", kd_confidence_names[plan->confidence]);
        break;
    case KD_POLICY_AGREEMENT:
        say_word(words, "agree", kd_agree_names[plan->agree]);
        say_numbers(words, "threshold", &plan->threshold, 1);
        break;
    case KD_POLICY_BEST_OVERALL:
        say_numbers(words, "accuracies", plan->accuracy, plan->teachers);
        break;
    case KD_POLICY_LEAVE_ONE_OUT:
        say_whole(words, "left-out", plan->left_out + 1);
        break;
    case KD_POLICY_NOISY_VOTE:
        say_noise(words, plan, rows);
        break;
    case KD_POLICY_GREEDY:
        say_whole(words, "rounds", plan->rounds);
        break;
    case KD_POLICY_CLASS_WEIGHTS:
        return say_class_weights(words, plan, classes);
    case KD_POLICY_ROUTE:
        return say_route(words, plan);
    default:
        break;
    }
    return KD_OK;
}

enum kd_status kd_merge_plan_text(const struct kd_merge_plan *plan, uint64_t rows,
                                  size_t classes, char *text, size_t size)
{
    enum kd_status status = KD_EBUG;
    struct words words = {.text = text, .size = size};

    text[0] = '\0';
    if (has(plan, KD_TAKES_WEIGHTS | KD_FITS_WEIGHTS))
        say_numbers(&words, "weights", plan->weights, plan->teachers);
    if (has(plan, KD_MEASURES))
        say_measure(&words, plan);
    KD_TRY(say_own(&words, plan, rows, classes));
    if (has(plan, KD_FALLS_BACK))
        say_word(&words, "fallback", kd_fallback_names[plan->fallback]);
    if (has(plan, KD_DRAWS))
        say_whole(&words, "seed", plan->seed);
    if (plan->calibrate)
        say_numbers(&words, "calibration", plan->calibration, plan->teachers);
    if (plan->holdout_end > 0) {
        say_whole(&words, "holdout", plan->holdout_begin);
        say(&words, ":%llu", (unsigned long long)plan->holdout_end);
    }
    if (words.length >= size)
        return kd_fail(KD_EUSAGE,
                       "the policy's parameters are more than the %zu characters that "
                       "a shard has for them: merge fewer teachers at a time",
                       size - 1);
out:
    return status;
}
