/* SPDX-License-Identifier: MIT */
/* The stages of a recipe: each is a copy of it with some values of its own. */
#include "distill/recipe_internal.h"

#include "kd/log.h"
#include "kd/monitor.h"

#include <string.h>

/* The options that a stage may have. */
/* clang-format off */
static const char *const stage_keys[] = {
    "labels", "labels-view", "labels-order", "tail", "missing",
    "virtual-correct", "virtual-temperature", "virtual-soften",
    "epochs", "start", "optimizer", "clip", "lr", "schedule", "warmup", "milestones", "gamma", "every",
    "hard", "soft", "temperature", "distance", "direction", "reduction", "t-squared",
    "label-smoothing", "scale", "anneal", "ramp", "ramp-epochs",
    "monitor", "monitor-patience"};
/* clang-format on */

static const char *const begins[] = {"keep", "reset", NULL};
static const char *const starts[] = {"last", "best", NULL};

/* A stage in the making. */
struct making {
    const struct kd_program *program;
    struct kd_yaml *node; /* NULL: the recipe has no stages */
    struct kd_recipe own; /* the recipe with the stage's values in it */
    bool reset, from_best;
    bool lacks_epochs; /* of a stage so far: the recipe's epochs are heeded */
    double alone; /* weight of labels that are learned without the soft ones that the
                     recipe's weights speak of; 0: of none */
};

/* -- an option's value ---------------------------------------------------------- */

static enum kd_status take_u64(const struct kd_option *o, const struct kd_yaml *node)
{
    const uint64_t max = o->max > o->min ? (uint64_t)o->max : UINT64_MAX;

    return kd_yaml_u64(node, (uint64_t)o->min, max, o->value);
}

/* The text lives in the tree. */
static enum kd_status take_text(const struct kd_option *o, struct kd_yaml *node)
{
    const char *text = NULL;
    enum kd_status status = kd_yaml_join(node);

    if (status == KD_OK)
        status = kd_yaml_string(node, &text);
    if (status == KD_OK)
        *(char **)o->value = node->scalar;
    return status;
}

static enum kd_status take_value(const struct kd_option *o, struct kd_yaml *node)
{
    switch (o->type) {
    case KD_OPTION_FLAG:
        return kd_yaml_bool(node, o->value);
    case KD_OPTION_STRING:
        return take_text(o, node);
    case KD_OPTION_U64:
        return take_u64(o, node);
    case KD_OPTION_F64:
        return kd_yaml_f64(node, o->min, o->max, o->value);
    case KD_OPTION_CHOICE:
        return kd_yaml_choice(node, o->choices, o->value);
    case KD_OPTION_YAML:
        *(struct kd_yaml **)o->value = node;
        return KD_OK;
    }
    return kd_yaml_fail(node, "%s: an option of no known type", o->name);
}

static enum kd_status take_key(struct making *m, const struct kd_option *options,
                               const char *key, struct kd_yaml *node)
{
    int begin = 0;

    if (kd_yaml_is_null(node))
        return KD_OK;
    if (strcmp(key, "optimizer") == 0) { /* the recipe's own says its kind */
        const enum kd_status status = kd_yaml_choice(node, begins, &begin);
        m->reset = begin == 1;
        return status;
    }
    if (strcmp(key, "start") == 0) {
        const enum kd_status status = kd_yaml_choice(node, starts, &begin);
        m->from_best = begin == 1;
        return status;
    }
    while (strcmp(options->name, key) != 0)
        options++;
    return take_value(options, node);
}

/* Whether the option's key is "group.key". */
static bool is_in_group(const struct kd_option *o, const char *group, const char *key)
{
    const size_t length = strlen(group);

    return o->key != NULL && strncmp(o->key, group, length) == 0 &&
           o->key[length] == '.' && strcmp(o->key + length + 1, key) == 0;
}

/* Of an option's own name: `optimizer` is another one in a stage, which says whether
 * its memory is kept. */
static bool is_in_stages(const char *name)
{
    for (size_t i = 0; i < sizeof stage_keys / sizeof stage_keys[0]; i++)
        if (strcmp(stage_keys[i], name) == 0)
            return strcmp(name, "optimizer") != 0;
    return false;
}

/* A group of the recipe has its options by their names in a stage. */
static enum kd_status check_flat(const struct making *m,
                                 const struct kd_option *options)
{
    for (size_t i = 0; m->node->kind == KD_YAML_MAPPING && i < m->node->count; i++) {
        const struct kd_yaml *item = m->node->items[i];
        const struct kd_option *o = options;
        const char *group = m->node->keys[i];
        if (item->kind != KD_YAML_MAPPING || item->count == 0)
            continue;
        while (o->name != NULL && !is_in_group(o, group, item->keys[0]))
            o++;
        if (o->name != NULL && !is_in_stages(o->name))
            return kd_yaml_fail(item, "a stage has no %s of its own", o->key);
        if (o->name != NULL)
            return kd_yaml_fail(item,
                                "a stage's keys are flat, the names of options: %s, "
                                "not %s: {%s: ...}",
                                o->name, group, item->keys[0]);
    }
    return KD_OK;
}

/* Those of the stages, and kd-merge's. */
static enum kd_status check_keys(struct making *m)
{
    const size_t own = sizeof stage_keys / sizeof stage_keys[0];
    const char *keys[sizeof stage_keys / sizeof stage_keys[0] + KD_MERGING_OPTIONS + 1];
    struct kd_option merging[KD_MERGING_OPTIONS];
    const size_t count = kd_merging_options(&m->own.merge, merging);

    for (size_t i = 0; i < own; i++)
        keys[i] = stage_keys[i];
    for (size_t i = 0; i < count; i++)
        keys[own + i] = merging[i].name;
    keys[own + count] = NULL;
    return kd_yaml_only_keys(m->node, keys);
}

static enum kd_status take_keys(struct making *m)
{
    struct kd_option options[KD_RECIPE_OPTIONS];
    enum kd_status status = KD_EBUG;

    kd_recipe_options(&m->own, options);
    KD_TRY(check_flat(m, options));
    KD_TRY(check_keys(m));
    for (size_t i = 0; i < m->node->count; i++)
        KD_TRY(take_key(m, options, m->node->keys[i], m->node->items[i]));
    status = KD_OK;
out:
    return status;
}

/* -- what must hold -------------------------------------------------------------- */

static const struct kd_yaml *find_given(const struct making *m, const char *option)
{
    const struct kd_yaml *node = kd_yaml_get(m->node, option);

    return node != NULL && !kd_yaml_is_null(node) ? node : NULL;
}

static enum kd_status read_milestones(struct kd_recipe *r)
{
    const struct kd_yaml *list = r->milestones;

    r->schedule.num_milestones = 0;
    if (r->schedule.kind != KD_MULTISTEP)
        return KD_OK;
    if (list == NULL)
        return kd_fail(KD_ERECIPE, "schedule: multistep needs its milestones");
    return kd_recipe_read_epochs(list, "milestones", 1000000, KD_MAX_MILESTONES,
                                 r->schedule.milestones, &r->schedule.num_milestones);
}

/* A failure of one stage, with its place where there are several. */
static enum kd_status fail_stage(const struct making *m, const char *message)
{
    return m->node != NULL ? kd_yaml_fail(m->node, "%s", message)
                           : kd_fail(KD_ERECIPE, "%s", message);
}

static bool is_given(const struct making *m, const char *option)
{
    return find_given(m, option) != NULL || kd_program_given(m->program, option);
}

static enum kd_status settle_loss(struct making *m)
{
    struct kd_recipe *own = &m->own;

    if (own->labels != NULL && strcmp(own->labels, KD_LABELS_NONE) == 0)
        own->labels = NULL;
    if (own->loss.hard < 0)
        own->loss.hard = own->labels != NULL ? 0.1 : 1;
    if (own->labels == NULL) {
        own->loss.soft = 0;
        if (m->alone <= 0 && (own->loss.hard != 1 || is_given(m, "soft")))
            m->alone = own->loss.hard;
    }
    if (own->loss.hard + own->loss.soft <= 0)
        return fail_stage(m, "loss: hard and soft are both 0: nothing to learn");
    if (own->ramp.kind == KD_RAMP_LINEAR && own->loss.hard <= 0)
        return fail_stage(m, "ramp: a linear one begins at 0, and hard is 0: the first "
                             "epoch would learn nothing");
    return KD_OK;
}

/* The weights of the best epoch need a stage that has one, and samples to judge it
 * by; what an optimiser remembers is of the last one's. */
static enum kd_status check_start(const struct making *m)
{
    const struct kd_recipe *own = &m->own;

    if (!m->from_best)
        return KD_OK;
    if (own->num_stages == 0)
        return fail_stage(m, "start: best: there is no stage before the first");
    if (own->select == KD_SELECT_HOLDOUT && own->hold_out == NULL)
        return fail_stage(m, "start: best: there are no samples to judge epochs by: "
                             "hold some out (--holdout 0.1)");
    if (!m->reset)
        return fail_stage(m, "start: best: optimizer: keep: what it remembers is of "
                             "the last epoch's weights: leave one of them out");
    return KD_OK;
}

/* -- options that make no difference ----------------------------------------------- */

/* What the options of a recipe are heeded by: of a stage, or of all together. */
struct traits {
    bool multistep, step, ramp, stops, weighs;
    bool caches, turns, merges, virtual_teacher; /* where soft labels come from */
    bool monitored;
};

static void add_traits(struct traits *t, const struct kd_stage *s)
{
    const bool is_virtual =
        s->labels != NULL && strcmp(s->labels, KD_LABELS_VIRTUAL) == 0;

    t->multistep |= s->schedule.kind == KD_MULTISTEP;
    t->step |= s->schedule.kind == KD_STEP;
    t->ramp |= s->ramp.kind != KD_RAMP_NONE;
    t->monitored |= s->monitor != KD_MONITOR_NONE;
    t->stops |= s->monitor == KD_MONITOR_STOP;
    t->weighs |= s->monitor == KD_MONITOR_WEIGH;
    t->caches |= s->labels != NULL && !is_virtual;
    t->turns |=
        s->labels != NULL && strchr(s->labels, ',') != NULL &&
        (!kd_stage_merges(s) || s->merge.policy.policy == KD_POLICY_LEAVE_ONE_OUT);
    t->merges |= s->labels != NULL && !is_virtual && kd_stage_merges(s);
    t->virtual_teacher |= is_virtual;
}

/* An option that means something elsewhere alone, and is given here. */
static enum kd_status refuse_option(const struct making *m, const char *option,
                                    const char *where)
{
    const struct kd_yaml *node = find_given(m, option);

    if (node != NULL)
        return kd_yaml_fail(node, "%s: means something %s alone", option, where);
    if (m->node == NULL && kd_program_given(m->program, option))
        return kd_fail(KD_ERECIPE, "%s: means something %s alone", option, where);
    return KD_OK;
}

/* The options of a merge: which of them a policy heeds is told when it begins. */
static enum kd_status check_merging(const struct making *m, const struct traits *t)
{
    struct kd_merge_args args = {0};
    struct kd_option options[KD_MERGING_OPTIONS];
    const size_t count = kd_merging_options(&args, options);
    enum kd_status status = KD_OK;

    for (size_t i = 0; i < count && status == KD_OK; i++)
        if (strcmp(options[i].name, "policy") != 0 && t->caches && !t->merges)
            status = refuse_option(m, options[i].name, "with a policy");
    return status;
}

/* An option that only recipes of a kind heed. What is about soft labels is heeded by
 * none without them: a student's recipe is its baseline's too. */
static enum kd_status check_heeded(const struct making *m, const struct traits *t)
{
    const struct kd_recipe *r = &m->own;
    const bool sgd = r->optimizer == KD_SGD;
    const bool block = r->shuffle == KD_SHUFFLE_BLOCK;
    const bool virtual_teacher = t->virtual_teacher || !t->caches;
    enum kd_status status = KD_OK;
    const struct {
        const char *option;
        bool heeded;
        const char *where;
    } table[] = {
        {"momentum", sgd, "with optimizer sgd"},
        {"nesterov", sgd, "with optimizer sgd"},
        {"beta1", !sgd, "with optimizer adam or adamw"},
        {"beta2", !sgd, "with optimizer adam or adamw"},
        {"epsilon", !sgd, "with optimizer adam or adamw"},
        {"milestones", t->multistep, "with schedule multistep"},
        {"gamma", t->multistep || t->step, "with schedule step or multistep"},
        {"every", t->step, "with schedule step"},
        {"shuffle-block", block, "with shuffle block"},
        {"shuffle-window", block, "with shuffle block"},
        {"schedule-over", r->stage_list != NULL, "with stages"},
        {"labels-order", t->turns || !t->caches, "with several caches in turn"},
        {"policy", t->caches || !t->virtual_teacher, "with caches"},
        {"ramp-epochs", t->ramp, "with a ramp"},
        {"monitor-patience", t->stops, "with monitor stop"},
        {"monitor-from", t->weighs, "with monitor weigh"},
        {"virtual-correct", virtual_teacher, "with labels virtual"},
        {"virtual-temperature", virtual_teacher, "with labels virtual"},
        {"virtual-soften", virtual_teacher, "with labels virtual"},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0] && status == KD_OK; i++)
        if (!table[i].heeded)
            status = refuse_option(m, table[i].option, table[i].where);
    return status == KD_OK ? check_merging(m, t) : status;
}

/* -- the stages ------------------------------------------------------------------- */

static enum kd_status add_stage(struct kd_recipe *r, struct making *m)
{
    enum kd_status status = KD_EBUG;
    struct kd_stage *s = &r->stages[r->num_stages];
    struct traits traits = {0};

    if (m->node != NULL)
        KD_TRY(take_keys(m));
    KD_TRY(read_milestones(&m->own));
    KD_TRY(settle_loss(m));
    m->lacks_epochs |= find_given(m, "epochs") == NULL;
    KD_TRY(check_start(m));
    *s = (struct kd_stage){
        .before = r->all_epochs,
        .epochs = m->own.epochs,
        .reset = m->reset,
        .from_best = m->from_best,
        .labels = m->own.labels,
        .labels_view = m->own.labels_view,
        .labels_order = m->own.labels_order,
        .tail = m->own.tail,
        .teacher = m->own.teacher,
        .merge = m->own.merge,
        .scale = m->own.scale,
        .anneal = m->own.anneal,
        .ramp = m->own.ramp,
        .schedule = m->own.schedule,
        .loss = m->own.loss,
        .clip = m->own.clip,
        .monitor = m->own.monitor,
        .monitor_patience = m->own.monitor_patience,
    };
    add_traits(&traits, s);
    if (m->node != NULL)
        KD_TRY(check_heeded(m, &traits));
    r->num_stages++;
    r->all_epochs += s->epochs;
    status = KD_OK;
out:
    return status;
}

static enum kd_status add_stages(struct kd_recipe *r, struct making *m)
{
    const struct kd_yaml *list = r->stage_list;
    enum kd_status status = KD_OK;

    if (list->kind != KD_YAML_SEQUENCE || list->count == 0 ||
        list->count > KD_MAX_STAGES)
        return kd_yaml_fail(list, "stages are a list of 1 to %d mappings",
                            KD_MAX_STAGES);
    for (size_t i = 0; i < list->count && status == KD_OK; i++) {
        m->node = list->items[i];
        m->own = *r;
        m->reset = true;
        m->from_best = false;
        status = add_stage(r, m);
    }
    m->node = NULL;
    m->own = *r;
    return status;
}

/* How many of "a,-,c" are stdin. */
static size_t count_pipes(const char *labels)
{
    size_t count = 0;

    for (const char *at = labels; at != NULL && *at != '\0'; at += *at == ',') {
        const size_t length = strcspn(at, ",");
        count += length == 1 && *at == '-';
        at += length;
    }
    return count;
}

/* What is counted over the run, or read from a pipe, is known with all stages. */
static enum kd_status check_stages(const struct kd_recipe *r)
{
    size_t pipes = 0;

    for (size_t i = 0; i < r->num_stages; i++) {
        const struct kd_stage *s = &r->stages[i];
        const uint64_t all = kd_recipe_count(r, s, s->before + 1).all;
        pipes += count_pipes(s->labels);
        if (s->anneal > all)
            return kd_fail(KD_ERECIPE, "anneal: %llu steps do not fit in %llu epochs",
                           (unsigned long long)s->anneal, (unsigned long long)all);
    }
    if (pipes > 1)
        return kd_fail(KD_ERECIPE,
                       "labels: '-' twice: stdin can be read once: give directories");
    return KD_OK;
}

/* Stages that all have epochs of their own leave none to --epochs, which may tell what
 * they have, one by one or in all. */
static enum kd_status check_epochs(const struct making *m, const struct kd_recipe *r)
{
    bool same = true;

    for (size_t i = 0; i < r->num_stages; i++)
        same &= r->stages[i].epochs == r->epochs;
    if (m->lacks_epochs || same || r->all_epochs == r->epochs ||
        !kd_program_overrides(m->program, "epochs"))
        return KD_OK;
    return kd_fail(
        KD_ERECIPE,
        "epochs: %llu: each stage has epochs of its own, %llu in all: change "
        "those, or leave --epochs out",
        (unsigned long long)r->epochs, (unsigned long long)r->all_epochs);
}

/* What is about soft labels where no stage has any. */
static enum kd_status check_taught(const struct making *m, const struct traits *t)
{
    if (t->caches || t->virtual_teacher)
        return KD_OK;
    if (t->monitored)
        return kd_fail(KD_ERECIPE,
                       "monitor: there are no soft labels to compare with: give some "
                       "(--labels CACHE), or leave it out (--monitor none)");
    if (m->alone > 0)
        kd_log(KD_LOG_INFO,
               "no soft labels: the labels alone are learned, at weight %g", m->alone);
    return KD_OK;
}

enum kd_status kd_recipe_settle_stages(struct kd_recipe *recipe,
                                       const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    struct making m = {.program = program, .own = *recipe, .reset = true};
    struct traits traits = {0};

    recipe->num_stages = 0;
    recipe->all_epochs = 0;
    if (recipe->stage_list != NULL)
        KD_TRY(add_stages(recipe, &m));
    else
        KD_TRY(add_stage(recipe, &m));
    for (size_t i = 0; i < recipe->num_stages; i++)
        add_traits(&traits, &recipe->stages[i]);
    KD_TRY(check_heeded(&m, &traits));
    KD_TRY(check_stages(recipe));
    KD_TRY(check_epochs(&m, recipe));
    KD_TRY(check_taught(&m, &traits));
    if (recipe->stage_list == NULL) {
        recipe->schedule = recipe->stages[0].schedule;
        recipe->loss = recipe->stages[0].loss;
    }
    status = KD_OK;
out:
    return status;
}

bool kd_stage_merges(const struct kd_stage *stage)
{
    return stage->merge.policy.policy >= 0;
}

size_t kd_recipe_stage(const struct kd_recipe *recipe, uint64_t epoch)
{
    size_t i = 0;

    while (i + 1 < recipe->num_stages && epoch > recipe->stages[i + 1].before)
        i++;
    return i;
}

struct kd_count kd_recipe_count(const struct kd_recipe *recipe,
                                const struct kd_stage *stage, uint64_t epoch)
{
    if (recipe->over == KD_OVER_RUN)
        return (struct kd_count){epoch - 1, recipe->all_epochs};
    return (struct kd_count){epoch - 1 - stage->before, stage->epochs};
}
