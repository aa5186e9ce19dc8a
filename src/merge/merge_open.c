/* SPDX-License-Identifier: MIT */
/* The inputs of a merge together: opened, waited for, and found out about. */
#include "merge/open_internal.h"

#include "kd/file.h"
#include "kd/log.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

static enum kd_status check_options(const struct kd_merge_opened *o,
                                    const char *const *inputs)
{
    size_t stdins = 0;

    for (size_t m = 0; m < o->plan.teachers; m++)
        stdins += strcmp(inputs[m], "-") == 0;
    if (stdins > 1)
        return kd_fail(KD_EUSAGE, "-: only one cache can come from stdin");
    return KD_OK;
}

/* -- shards that come ------------------------------------------------------------ */

static enum kd_status take_all(struct kd_merge_opened *o, uint64_t begin, uint64_t end)
{
    enum kd_status status = KD_OK;

    for (size_t m = 0; m < o->plan.teachers && status == KD_OK; m++)
        status = kd_merge_input_take(&o->inputs[m], o->needed, begin, end);
    return status;
}

enum kd_status kd_merge_opened_more(struct kd_merge_opened *o)
{
    return kd_merge_inputs_wait(o->inputs, o->plan.teachers);
}

enum kd_status kd_merge_opened_take(struct kd_merge_opened *o, uint64_t begin,
                                    uint64_t end, bool may_miss, bool *there)
{
    enum kd_status status = KD_EBUG;

    *there = false;
    KD_TRY(take_all(o, begin, end));
    for (size_t m = 0; m < o->plan.teachers; m++) {
        const struct kd_merge_input *input = &o->inputs[m];

        if ((may_miss && input->ended) || kd_merge_input_covers(input, begin, end))
            continue;
        return input->ended ? kd_merge_input_fail(input, begin) : KD_OK;
    }
    *there = true;
out:
    return status;
}

enum kd_status kd_merge_opened_drain(struct kd_merge_opened *o)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(take_all(o, 0, UINT64_MAX));
    for (size_t m = 0; m < o->plan.teachers;) {
        if (o->inputs[m].ended) {
            m++;
            continue;
        }
        KD_TRY(kd_merge_opened_more(o));
        KD_TRY(take_all(o, 0, UINT64_MAX));
    }
    status = KD_OK;
out:
    return status;
}

/* Opens the inputs and waits until each has said what it is. */
static enum kd_status open_inputs(struct kd_merge_opened *o, const char *const *names)
{
    enum kd_status status = KD_EBUG;

    for (; o->open < o->plan.teachers; o->open++)
        KD_TRY(kd_merge_input_open(&o->inputs[o->open], names[o->open]));
    KD_TRY(take_all(o, 0, 0));
    for (size_t m = 0; m < o->plan.teachers;) {
        if (o->inputs[m].count > 0) {
            m++;
            continue;
        }
        KD_TRY(kd_merge_opened_more(o));
        KD_TRY(take_all(o, 0, 0));
    }
    status = KD_OK;
out:
    return status;
}

/* -- what is merged -------------------------------------------------------------- */

static enum kd_status wait_for_ids(struct kd_merge_opened *o, uint64_t begin,
                                   uint64_t end)
{
    enum kd_status status = KD_EBUG;
    bool there = false;

    KD_TRY(kd_merge_opened_take(o, begin, end, false, &there));
    while (!there) {
        KD_TRY(kd_merge_opened_more(o));
        KD_TRY(kd_merge_opened_take(o, begin, end, false, &there));
    }
out:
    return status;
}

static enum kd_status fit(struct kd_merge_opened *o)
{
    const struct kd_identity *of = &o->inputs[0].identity;
    const uint64_t begin = o->plan.holdout_begin, end = o->plan.holdout_end;
    enum kd_status status = KD_EBUG;

    if (begin < of->first_id || end > of->first_id + of->num_samples)
        return kd_fail(KD_EUSAGE, "--holdout: the caches have the ids %llu to %llu",
                       (unsigned long long)of->first_id,
                       (unsigned long long)(of->first_id + of->num_samples - 1));
    KD_TRY(wait_for_ids(o, begin, end));
    KD_TRY(kd_merge_fit(&o->plan, o->weights, o->inputs));
out:
    return status;
}

/* Classes that no teacher knows. */
static enum kd_status warn_of_strangers(const struct kd_merge_opened *o)
{
    enum kd_status status = KD_EBUG;
    const size_t classes = o->merged.num_classes;
    bool *unknown = NULL; /* [classes] */
    size_t count = 0, first = 0;

    KD_TRY(KD_NEW(unknown, classes));
    for (size_t c = classes; c-- > 0;) {
        unknown[c] = true;
        for (size_t m = 0; m < o->plan.teachers; m++)
            unknown[c] &= o->inputs[m].known != NULL && !o->inputs[m].known[c];
        count += unknown[c];
        first = unknown[c] ? c : first;
    }
    if (count > 0)
        kd_log(KD_LOG_WARNING,
               "no teacher has %zu of the %zu classes, the first of them %zu: they get "
               "no probability",
               count, classes, first);
out:
    free(unknown);
    return status;
}

/* The temperature of the merged rows, and how those of the inputs get there. */
static enum kd_status prepare(struct kd_merge_opened *o,
                              const struct kd_identity *const *teachers,
                              const char *const *names)
{
    enum kd_status status = KD_EBUG;
    const struct kd_merge_options *options = o->options;

    o->plan.temperature =
        options->temperature > 0 ? options->temperature : teachers[0]->temperature;
    KD_TRY(kd_merge_check(&o->plan, options, teachers, names));
    memcpy(o->weights, o->plan.weights, sizeof o->weights);
    if (o->plan.policy == KD_POLICY_LEAVE_ONE_OUT)
        o->weights[o->plan.left_out] = 0;
    o->merged.num_classes = kd_merge_classes(&o->plan, options, teachers);
    for (size_t m = 0; m < o->plan.teachers; m++)
        KD_TRY(kd_merge_input_use(&o->inputs[m], o->plan.temperature,
                                  options->classes != NULL ? &options->classes->of[m]
                                                           : NULL,
                                  o->merged.num_classes));
    KD_TRY(warn_of_strangers(o));
out:
    return status;
}

/* Finds out what the merged cache is: of which teachers, and with what was fitted. */
static enum kd_status identify(struct kd_merge_opened *o)
{
    enum kd_status status = KD_EBUG;
    const struct kd_identity *teachers[KD_MAX_TEACHERS];
    const char *names[KD_MAX_TEACHERS];

    for (size_t m = 0; m < o->plan.teachers; m++) {
        teachers[m] = &o->inputs[m].identity;
        names[m] = o->inputs[m].name;
    }
    KD_TRY(prepare(o, teachers, names));
    if (kd_merge_plan_needs_fit(&o->plan))
        KD_TRY(fit(o));
    KD_TRY(kd_merge_identity(&o->plan, o->options, teachers, names, &o->merged));
    o->plan.keeps_logits = o->merged.value_kind == KD_VALUE_LOGITS;
out:
    return status;
}

/* -- opening --------------------------------------------------------------------- */

enum kd_status kd_merge_opened_start(struct kd_merge_opened *o,
                                     const struct kd_merge_plan *plan,
                                     const char *const *inputs,
                                     const struct kd_merge_options *options,
                                     const char *directory)
{
    enum kd_status status = KD_EBUG;

    *o = (struct kd_merge_opened){
        .plan = *plan, .options = options, .class_weights = plan->class_weights};
    KD_TRY(kd_merge_plan_check(&o->plan));
    KD_TRY(check_options(o, inputs));
    if (directory != NULL)
        KD_TRY(kd_make_directory(directory));
    KD_TRY(open_inputs(o, inputs));
    KD_TRY(identify(o));
out:
    return status;
}

void kd_merge_opened_close(struct kd_merge_opened *o)
{
    for (size_t m = 0; m < o->open; m++)
        kd_merge_input_clear(&o->inputs[m]);
    if (o->plan.class_weights != o->class_weights)
        free(o->plan.class_weights);
}

enum kd_status kd_merge_open(const struct kd_merge_plan *plan,
                             const char *const *inputs,
                             const struct kd_merge_options *options,
                             struct kd_merge_opened *to)
{
    enum kd_status status = KD_EBUG;
    struct kd_merge_opened *o = NULL;

    KD_TRY(KD_NEW(o, 1));
    KD_TRY(kd_merge_opened_start(o, plan, inputs, options, NULL));
    KD_TRY(kd_merge_opened_drain(o));
    *to = *o;
out:
    if (status != KD_OK && o != NULL)
        kd_merge_opened_close(o);
    free(o);
    return status;
}
