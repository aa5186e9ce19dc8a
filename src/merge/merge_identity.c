/* SPDX-License-Identifier: MIT */
/* Which caches may be merged, and what the merged one calls itself. */
#include "kd/merge.h"

#include "kd/hash.h"
#include "kd/log.h"
#include "kd/soft.h"

#include <stdio.h>
#include <string.h>

const char *const kd_merge_missing_names[] = {"error", "renorm", "skip", NULL};

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

/* The classes of the merged cache. */
static void find_classes(const struct kd_merge_plan *plan,
                         const struct kd_merge_options *options,
                         const struct kd_identity *const *teachers,
                         struct kd_identity *merged)
{
    const struct kd_class_maps *maps = options->classes;
    size_t m = 0;

    while (maps != NULL && m + 1 < plan->teachers && maps->of[m].given)
        m++;
    merged->num_classes = teachers[m]->num_classes;
    merged->class_map_digest = teachers[m]->class_map_digest;
    if (maps != NULL && maps->num_classes > 0) {
        merged->num_classes = maps->num_classes;
        merged->class_map_digest = maps->digest;
    }
}

uint32_t kd_merge_classes(const struct kd_merge_plan *plan,
                          const struct kd_merge_options *options,
                          const struct kd_identity *const *teachers)
{
    struct kd_identity merged;

    find_classes(plan, options, teachers, &merged);
    return merged.num_classes;
}

static enum kd_status check_map(const struct kd_class_map *map,
                                const struct kd_identity *teacher,
                                const struct kd_identity *merged, const char *name)
{
    if (map->num_classes > 0 &&
        !kd_digest_equal(&map->names, &teacher->class_map_digest))
        return kd_fail(KD_EDATA,
                       "%s: its %u classes (digest %.8s) are not those of its file of "
                       "names (%u, %.8s), or not in the same order",
                       name, (unsigned)teacher->num_classes,
                       teacher->class_map_digest.hex, (unsigned)map->num_classes,
                       map->names.hex);
    for (size_t i = 0; i < map->count; i++) {
        const struct kd_class_pair *pair = &map->pairs[i];

        if (pair->class >= teacher->num_classes)
            return kd_fail(KD_EDATA,
                           "%s: has %u classes, but the table of classes has a line "
                           "for its class %u",
                           name, (unsigned)teacher->num_classes, (unsigned)pair->class);
        if (pair->to >= merged->num_classes)
            return kd_fail(KD_EDATA,
                           "%s: its class %u is to be class %u, but the merged cache "
                           "has %u",
                           name, (unsigned)pair->class, (unsigned)pair->to,
                           (unsigned)merged->num_classes);
    }
    return KD_OK;
}

static const struct kd_class_map *map_of(const struct kd_merge_options *options,
                                         size_t m)
{
    const struct kd_class_maps *maps = options->classes;

    return maps != NULL && maps->of[m].given ? &maps->of[m] : NULL;
}

static enum kd_status check_temperature(const struct kd_merge_plan *plan,
                                        const struct kd_merge_options *options,
                                        const struct kd_identity *first,
                                        const struct kd_identity *other,
                                        const char *name, const char *first_name)
{
    const struct kd_soft_spec spec = {plan->temperature, KD_TAIL_SPREAD};
    enum kd_status status = KD_OK;

    if (options->temperature == 0 && other->temperature != first->temperature)
        return kd_fail(KD_EDATA,
                       "%s: cannot be merged with %s: temperature is %g, not %g: give "
                       "--temperature T, to which those are converted that can be",
                       name, first_name, other->temperature, first->temperature);
    status = kd_soft_check(other, &spec);
    if (status != KD_OK)
        kd_error_prefix("%s", name);
    return status;
}

static enum kd_status check_alike(const struct kd_merge_options *options,
                                  const struct kd_identity *merged,
                                  const struct kd_identity *other, const char *name,
                                  const char *first_name)
{
    struct kd_identity a = *other, b = *merged;
    enum kd_status status = KD_EBUG;

    clear_provenance(&a);
    clear_provenance(&b);
    a.temperature = b.temperature;
    if (options->missing != KD_MERGE_MISSING_ERROR) {
        a.first_id = b.first_id;
        a.num_samples = b.num_samples;
    }
    status = kd_identity_equal(&a, &b);
    if (status != KD_OK)
        return kd_fail(status, "%s: cannot be merged with %s: %s", name, first_name,
                       kd_error());
    return KD_OK;
}

/* Whether a teacher's values are logits of the merged classes. */
static bool has_logits(const struct kd_merge_options *options,
                       const struct kd_identity *teacher, size_t m, uint32_t classes)
{
    const struct kd_class_map *map = map_of(options, m);

    return teacher->value_kind == KD_VALUE_LOGITS &&
           (map == NULL || kd_class_map_renames(map, teacher->num_classes, classes));
}

static enum kd_status check_teacher(const struct kd_merge_plan *plan,
                                    const struct kd_merge_options *options,
                                    const struct kd_identity *const *teachers,
                                    const char *const *names, size_t m)
{
    enum kd_status status = KD_EBUG;
    struct kd_identity merged = *teachers[0], own = *teachers[m];
    const struct kd_class_map *map = map_of(options, m);
    const bool needs_logits = kd_policy_needs_logits(plan->policy);

    KD_TRY(kd_identity_check(teachers[m]));
    find_classes(plan, options, teachers, &merged);
    if (map != NULL) {
        KD_TRY(check_map(map, teachers[m], &merged, names[m]));
        own.num_classes = merged.num_classes;
        own.class_map_digest = merged.class_map_digest;
    }
    KD_TRY(check_alike(options, &merged, &own, names[m], names[0]));
    KD_TRY(
        check_temperature(plan, options, teachers[0], teachers[m], names[m], names[0]));
    if (needs_logits && teachers[m]->value_kind != KD_VALUE_LOGITS)
        return kd_fail(KD_EDATA,
                       "%s: holds log-probabilities, but %s needs logits: use "
                       "mean-prob, or merge the teachers' own caches",
                       names[m], kd_policy_names[plan->policy]);
    if (plan->policy == KD_POLICY_NOISY_VOTE && map != NULL &&
        !kd_class_map_renames(map, teachers[m]->num_classes, merged.num_classes))
        return kd_fail(KD_EDATA,
                       "%s: has not all of the merged classes, or several for one, but "
                       "each teacher of a noisy-vote must vote by itself",
                       names[m]);
    if (needs_logits && !has_logits(options, teachers[m], m, merged.num_classes))
        return kd_fail(KD_EDATA,
                       "%s: has not all of the merged classes, or several for one, but "
                       "%s needs the logits of each: use mean-prob",
                       names[m], kd_policy_names[plan->policy]);
out:
    return status;
}

enum kd_status kd_merge_check(const struct kd_merge_plan *plan,
                              const struct kd_merge_options *options,
                              const struct kd_identity *const *teachers,
                              const char *const *names)
{
    enum kd_status status = KD_EBUG;

    if (options->missing == KD_MERGE_MISSING_RENORMALISE &&
        (plan->policy == KD_POLICY_ROUTE || plan->policy == KD_POLICY_CLASS_WEIGHTS))
        return kd_fail(KD_EUSAGE,
                       "--missing %s: %s has a place for every teacher: use --missing "
                       "error or skip",
                       kd_merge_missing_names[options->missing],
                       kd_policy_names[plan->policy]);
    for (size_t m = 0; m < plan->teachers; m++)
        KD_TRY(check_teacher(plan, options, teachers, names, m));
    status = KD_OK;
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
                            const struct kd_merge_options *options,
                            const struct kd_identity *const *teachers, uint32_t classes)
{
    for (size_t m = 0; m < plan->teachers; m++)
        if (!has_logits(options, teachers[m], m, classes))
            return false;
    return true;
}

/* All ids that a teacher covers, and those between. */
static void join_ids(const struct kd_merge_plan *plan,
                     const struct kd_identity *const *teachers,
                     struct kd_identity *merged)
{
    uint64_t begin = UINT64_MAX, end = 0;

    for (size_t m = 0; m < plan->teachers; m++) {
        const uint64_t own = teachers[m]->first_id + teachers[m]->num_samples;

        begin = teachers[m]->first_id < begin ? teachers[m]->first_id : begin;
        end = own > end ? own : end;
    }
    merged->first_id = begin;
    merged->num_samples = end - begin;
}

/* The ids that all teachers cover. */
static enum kd_status share_ids(const struct kd_merge_plan *plan,
                                const struct kd_identity *const *teachers,
                                struct kd_identity *merged)
{
    uint64_t begin = 0, end = UINT64_MAX;

    for (size_t m = 0; m < plan->teachers; m++) {
        const uint64_t own = teachers[m]->first_id + teachers[m]->num_samples;

        begin = teachers[m]->first_id > begin ? teachers[m]->first_id : begin;
        end = own < end ? own : end;
    }
    if (begin >= end)
        return kd_fail(KD_EDATA, "--missing skip: no sample is in all caches");
    merged->first_id = begin;
    merged->num_samples = end - begin;
    return KD_OK;
}

/* The inputs' codec, if they have one that can be kept. */
static void choose_codec(const struct kd_merge_plan *plan,
                         const struct kd_merge_options *options,
                         const struct kd_identity *const *teachers,
                         struct kd_codec *codec)
{
    const struct kd_codec *first = &teachers[0]->codec;

    *codec = options->codec;
    if (!options->encode_as_inputs ||
        (first->encoding != KD_TOP_K && first->encoding != KD_TOP_P))
        return;
    for (size_t m = 1; m < plan->teachers; m++) {
        const struct kd_codec *other = &teachers[m]->codec;

        if (other->encoding != first->encoding || other->k != first->k ||
            other->mass != first->mass)
            return;
    }
    codec->encoding = first->encoding;
    codec->k = first->k;
    codec->mass = first->mass;
}

/* What the rows depend on besides the policy. */
static enum kd_status describe_rest(const struct kd_merge_options *options,
                                    struct kd_identity *merged)
{
    enum kd_status status = KD_OK;
    struct kd_digest digest;
    bool fits = true;
    char *text = merged->policy_parameters;

    if (options->missing != KD_MERGE_MISSING_ERROR) {
        fits = append(text, sizeof merged->policy_parameters, " ", "missing=") &&
               append(text, sizeof merged->policy_parameters, "",
                      kd_merge_missing_names[options->missing]);
    }
    if (options->classes != NULL) {
        KD_TRY(kd_class_maps_digest(options->classes, &digest));
        fits = fits &&
               append(text, sizeof merged->policy_parameters, " ", "class-map=") &&
               append(text, sizeof merged->policy_parameters, "", digest.hex);
    }
    if (!fits)
        return kd_fail(KD_EUSAGE, "the policy's parameters are too long: merge fewer "
                                  "teachers at a time");
out:
    return status;
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
                                 const struct kd_merge_options *options,
                                 const struct kd_identity *const *teachers,
                                 const char *const *names, struct kd_identity *merged)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_merge_check(plan, options, teachers, names));
    warn_of_twins(plan, teachers, names);
    *merged = *teachers[0];
    merged->kind = KD_KIND_MERGED;
    merged->temperature = plan->temperature;
    find_classes(plan, options, teachers, merged);
    join_ids(plan, teachers, merged);
    if (options->missing == KD_MERGE_MISSING_SKIP)
        KD_TRY(share_ids(plan, teachers, merged));
    merged->value_kind =
        kd_policy_gives_logits(
            plan->policy, all_have_logits(plan, options, teachers, merged->num_classes))
            ? KD_VALUE_LOGITS
            : KD_VALUE_LOGPROBS;
    choose_codec(plan, options, teachers, &merged->codec);
    KD_TRY(kd_codec_check(&merged->codec, merged->num_classes));
    snprintf(merged->policy, sizeof merged->policy, "%s",
             kd_policy_names[plan->policy]);
    name_merged(plan, teachers, merged);
    keep_if_alike(plan, teachers, merged);
    KD_TRY(kd_merge_plan_text(plan, merged->num_samples * merged->views,
                              merged->num_classes, merged->policy_parameters,
                              sizeof merged->policy_parameters));
    KD_TRY(describe_rest(options, merged));
    KD_TRY(list_parents(plan, teachers, merged));
    KD_TRY(digest_merged(plan, teachers, merged));
    KD_TRY(kd_identity_check(merged));
out:
    return status;
}
