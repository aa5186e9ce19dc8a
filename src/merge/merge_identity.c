/* SPDX-License-Identifier: MIT */
/* Which caches may be merged, and what the merged one calls itself. */
#include "kd/merge.h"

#include "kd/hash.h"
#include "kd/log.h"

#include <stdio.h>
#include <string.h>

/* Caches may differ in who made them, and in how they store it; in nothing else. */
static void clear_provenance(struct kd_identity *identity)
{
    identity->kind = KD_KIND_TEACHER;
    identity->value_kind = KD_VALUE_LOGITS;
    memset(&identity->codec, 0, sizeof identity->codec);
    memset(&identity->teacher_digest, 0, sizeof identity->teacher_digest);
    memset(identity->normalize, 0, sizeof identity->normalize);
    memset(identity->teacher_name, 0, sizeof identity->teacher_name);
    memset(identity->bn_mode, 0, sizeof identity->bn_mode);
    memset(identity->policy, 0, sizeof identity->policy);
    memset(identity->policy_parameters, 0, sizeof identity->policy_parameters);
    memset(identity->parents, 0, sizeof identity->parents);
}

static enum kd_status check_alike(const struct kd_identity *first,
                                  const struct kd_identity *other, const char *name,
                                  const char *first_name)
{
    struct kd_identity a = *other, b = *first;
    enum kd_status status = KD_EBUG;

    clear_provenance(&a);
    clear_provenance(&b);
    status = kd_identity_equal(&a, &b);
    if (status != KD_OK)
        return kd_fail(status, "%s: cannot be merged with %s: %s", name, first_name,
                       kd_error());
    return KD_OK;
}

enum kd_status kd_merge_check(const struct kd_merge_plan *plan,
                              const struct kd_identity *const *teachers,
                              const char *const *names)
{
    enum kd_status status = KD_EBUG;

    for (size_t m = 0; m < plan->teachers; m++) {
        KD_TRY(kd_identity_check(teachers[m]));
        KD_TRY(check_alike(teachers[0], teachers[m], names[m], names[0]));
        if (kd_policy_needs_logits(plan->policy) &&
            teachers[m]->value_kind != KD_VALUE_LOGITS)
            return kd_fail(KD_EDATA,
                           "%s: holds log-probabilities, but %s needs logits: use "
                           "mean-prob, or merge the teachers' own caches",
                           names[m], kd_policy_names[plan->policy]);
    }
out:
    return status;
}

static void warn_of_twins(const struct kd_merge_plan *plan,
                          const struct kd_identity *const *teachers,
                          const char *const *names)
{
    for (size_t a = 0; a < plan->teachers; a++) {
        for (size_t b = 0; b < a; b++) {
            if (!kd_digest_equal(&teachers[a]->teacher_digest,
                                 &teachers[b]->teacher_digest))
                continue;
            kd_log(KD_LOG_WARNING, "%s: the same teacher as %s: it counts twice",
                   names[a], names[b]);
            break;
        }
    }
}

/* Appends to a text field; false where it does not fit. */
static bool append(char *text, size_t size, const char *separator, const char *more)
{
    size_t length = strlen(text);
    const char *between = length > 0 ? separator : "";
    int written = snprintf(text + length, size - length, "%s%s", between, more);

    return written >= 0 && (size_t)written < size - length;
}

/* The parents' names with plus signs; how many they are, where that is too long. */
static void name_merged(const struct kd_merge_plan *plan,
                        const struct kd_identity *const *teachers,
                        struct kd_identity *merged)
{
    bool fits = true;

    merged->teacher_name[0] = '\0';
    for (size_t m = 0; m < plan->teachers && fits; m++)
        fits = append(merged->teacher_name, sizeof merged->teacher_name, "+",
                      teachers[m]->teacher_name);
    if (!fits)
        snprintf(merged->teacher_name, sizeof merged->teacher_name, "%zu teachers",
                 plan->teachers);
}

/* What all parents agree on stays as the first has it. */
static void keep_if_alike(const struct kd_merge_plan *plan,
                          const struct kd_identity *const *teachers,
                          struct kd_identity *merged)
{
    for (size_t m = 1; m < plan->teachers; m++) {
        if (strcmp(teachers[m]->normalize, teachers[0]->normalize) != 0)
            snprintf(merged->normalize, sizeof merged->normalize, "mixed");
        if (strcmp(teachers[m]->bn_mode, teachers[0]->bn_mode) != 0)
            snprintf(merged->bn_mode, sizeof merged->bn_mode, "mixed");
    }
}

static bool all_have_logits(const struct kd_merge_plan *plan,
                            const struct kd_identity *const *teachers)
{
    for (size_t m = 0; m < plan->teachers; m++)
        if (teachers[m]->value_kind != KD_VALUE_LOGITS)
            return false;
    return true;
}

static enum kd_status list_parents(const struct kd_merge_plan *plan,
                                   const struct kd_identity *const *teachers,
                                   struct kd_identity *merged)
{
    merged->parents[0] = '\0';
    for (size_t m = 0; m < plan->teachers; m++) {
        const struct kd_identity *from = teachers[m];

        if (!append(merged->parents, sizeof merged->parents, ",",
                    from->kind == KD_KIND_MERGED ? from->parents
                                                 : from->teacher_digest.hex))
            return kd_fail(KD_EDATA, "more teachers in all than a shard can name (%zu)",
                           sizeof merged->parents / 33);
    }
    return KD_OK;
}

/* Names the content: other weights, parents or parents' encodings give another. */
static enum kd_status digest_merged(const struct kd_merge_plan *plan,
                                    const struct kd_identity *const *teachers,
                                    struct kd_identity *merged)
{
    enum kd_status status = KD_EBUG;
    struct kd_hash *hash = NULL;
    struct kd_digest digest;

    KD_TRY(kd_hash_new(&hash));
    kd_hash_add_string(hash, merged->policy);
    kd_hash_add_string(hash, merged->policy_parameters);
    for (size_t m = 0; m < plan->teachers; m++) {
        KD_TRY(kd_identity_digest(teachers[m], &digest));
        kd_hash_add_string(hash, digest.hex);
    }
    kd_hash_digest(hash, &merged->teacher_digest);
    status = KD_OK;
out:
    kd_hash_free(hash);
    return status;
}

enum kd_status kd_merge_identity(const struct kd_merge_plan *plan,
                                 const struct kd_identity *const *teachers,
                                 const char *const *names, const struct kd_codec *codec,
                                 struct kd_identity *merged)
{
    enum kd_status status = KD_EBUG;
    const bool logits = all_have_logits(plan, teachers);

    KD_TRY(kd_merge_check(plan, teachers, names));
    warn_of_twins(plan, teachers, names);
    *merged = *teachers[0];
    merged->kind = KD_KIND_MERGED;
    merged->value_kind = kd_policy_gives_logits(plan->policy, logits)
                             ? KD_VALUE_LOGITS
                             : KD_VALUE_LOGPROBS;
    merged->codec = *codec;
    KD_TRY(kd_codec_check(&merged->codec, merged->num_classes));
    snprintf(merged->policy, sizeof merged->policy, "%s",
             kd_policy_names[plan->policy]);
    name_merged(plan, teachers, merged);
    keep_if_alike(plan, teachers, merged);
    KD_TRY(kd_merge_plan_text(plan, merged->num_samples * merged->views,
                              merged->num_classes, merged->policy_parameters,
                              sizeof merged->policy_parameters));
    KD_TRY(list_parents(plan, teachers, merged));
    KD_TRY(digest_merged(plan, teachers, merged));
    KD_TRY(kd_identity_check(merged));
out:
    return status;
}
