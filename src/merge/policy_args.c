/* SPDX-License-Identifier: MIT */
/* From options to a plan. */
#include "merge/policy_internal.h"

#include "kd/file.h"
#include "kd/memory.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kd_status kd_merge_parse_numbers(const char *option, const char *text,
                                      size_t teachers, double *numbers)
{
    size_t count = 0;
    double sum = 0;
    char number[64];

    for (;; text++) {
        size_t length = strcspn(text, ",");

        if (count == teachers || count == KD_MAX_TEACHERS)
            return kd_fail(KD_EUSAGE, "--%s: more numbers than the %zu teachers",
                           option, teachers);
        if (length < sizeof number) {
            memcpy(number, text, length);
            number[length] = '\0';
        }
        if (length >= sizeof number ||
            !kd_parse_f64(number, 0, DBL_MAX, &numbers[count]))
            return kd_fail(KD_EUSAGE, "--%s: '%.*s' is no number of at least 0", option,
                           length < 60 ? (int)length : 60, text);
        sum += numbers[count++];
        text += length;
        if (*text == '\0')
            break;
    }
    if (count != teachers)
        return kd_fail(KD_EUSAGE, "--%s: %zu numbers for %zu teachers", option, count,
                       teachers);
    if (!(sum > 0) || !isfinite(sum))
        return kd_fail(KD_EUSAGE, "--%s: their sum must be above 0 and finite", option);
    return KD_OK;
}

bool kd_merge_parse_range(const char *text, uint64_t *begin, uint64_t *end)
{
    const char *colon = strchr(text, ':');
    char first[32];

    if (colon == NULL || (size_t)(colon - text) >= sizeof first)
        return false;
    memcpy(first, text, (size_t)(colon - text));
    first[colon - text] = '\0';
    return kd_parse_u64(first, 0, UINT64_MAX, begin) &&
           kd_parse_u64(colon + 1, 0, UINT64_MAX, end) && *begin < *end;
}

static enum kd_status parse_lists(const struct kd_policy_args *args,
                                  struct kd_merge_plan *plan)
{
    enum kd_status status = KD_OK;

    if (args->weights != NULL)
        KD_TRY(kd_merge_parse_numbers("weights", args->weights, plan->teachers,
                                      plan->weights));
    if (args->accuracies != NULL && plan->policy != KD_POLICY_BEST_OVERALL)
        return kd_fail(KD_EUSAGE,
                       "--accuracies: only --policy best-overall takes them");
    if (args->accuracies != NULL)
        KD_TRY(kd_merge_parse_numbers("accuracies", args->accuracies, plan->teachers,
                                      plan->accuracy));
    if (args->holdout != NULL &&
        !kd_merge_parse_range(args->holdout, &plan->holdout_begin, &plan->holdout_end))
        return kd_fail(KD_EUSAGE,
                       "--holdout: '%.60s' is no range A:B of ids, A below B",
                       args->holdout);
    if (args->route != NULL)
        KD_TRY(kd_route_load(args->route, plan->teachers, &plan->route));
out:
    return status;
}

enum kd_status kd_merge_plan_from_args(const struct kd_policy_args *args,
                                       size_t teachers, struct kd_merge_plan *plan)
{
    enum kd_status status = KD_EBUG;
    const bool noisy = args->policy == KD_POLICY_NOISY_VOTE;

    *plan = (struct kd_merge_plan){
        .policy = (enum kd_policy)args->policy,
        .teachers = teachers,
        .weigh_at = args->weigh_at,
        .confidence = (enum kd_confidence)args->confidence,
        .agree = (enum kd_agree)args->agree,
        .threshold = noisy ? 0 : args->threshold,
        .fallback = (enum kd_fallback)args->fallback,
        .trim = args->trim,
        .seed = args->seed,
        .noise = {.kind = (enum kd_noise_kind)args->noise,
                  .scale = args->noise_scale,
                  .check = args->check_scale,
                  .threshold = noisy ? args->threshold : 0},
        .delta = args->delta,
        .calibrate = args->calibrate,
        .rounds = args->rounds,
    };
    KD_TRY(parse_lists(args, plan));
    KD_TRY(kd_merge_plan_check(plan));
out:
    if (status != KD_OK)
        kd_merge_plan_clear(plan);
    return status;
}

/* -- for history lines --------------------------------------------------- */

static void add(char **text, const char *option, const char *value)
{
    char *longer = NULL;

    if (*text != NULL)
        longer =
            kd_format("%s --%s%s%s", *text, option, value[0] != '\0' ? " " : "", value);
    free(*text);
    *text = longer;
}

static void add_text(char **text, const char *option, const char *value)
{
    if (value != NULL)
        add(text, option, value);
}

static void add_number(char **text, const char *option, double value)
{
    char number[KD_TEXT_F64];

    kd_text_f64(value, number);
    if (value != 0)
        add(text, option, number);
}

static void add_whole(char **text, const char *option, uint64_t value)
{
    char number[32];

    snprintf(number, sizeof number, "%llu", (unsigned long long)value);
    if (value != 0)
        add(text, option, number);
}

static void add_choice(char **text, const char *option, int value,
                       const char *const *names)
{
    if (value != 0)
        add(text, option, names[value]);
}

char *kd_policy_args_text(const struct kd_policy_args *args)
{
    char *text = kd_format("--policy %s", kd_policy_names[args->policy]);

    add_text(&text, "weights", args->weights);
    add_number(&text, "weigh-at", args->weigh_at);
    add_choice(&text, "confidence", args->confidence, kd_confidence_names);
    add_choice(&text, "agree", args->agree, kd_agree_names);
    add_number(&text, "threshold", args->threshold);
    add_choice(&text, "fallback", args->fallback, kd_fallback_names);
    add_whole(&text, "trim", args->trim);
    add_whole(&text, "seed", args->seed);
    add_choice(&text, "noise", args->noise, kd_noise_names);
    add_number(&text, "noise-scale", args->noise_scale);
    add_number(&text, "check-scale", args->check_scale);
    add_number(&text, "delta", args->delta);
    add_text(&text, "route", args->route != NULL ? kd_path_base(args->route) : NULL);
    add_text(&text, "accuracies", args->accuracies);
    add_text(&text, "holdout", args->holdout);
    add_whole(&text, "rounds", args->rounds);
    if (args->calibrate)
        add(&text, "calibrate", "");
    return text;
}
