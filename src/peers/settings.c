/* SPDX-License-Identifier: MIT */
/* The recipe of several networks: its options, what must hold between them, its text.
 */
#include "peers/engine_internal.h"

#include "kd/list.h"
#include "kd/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What of kd/recipe.h makes sense for networks that teach each other. */
/* clang-format off */
static const char *const chosen[] = {
    "network", "data", "test", "augment", "holdout", "select", "epochs", "batch", "seed",
    "shuffle", "shuffle-block", "shuffle-window",
    "optimizer", "lr", "momentum", "nesterov", "beta1", "beta2", "epsilon",
    "weight-decay", "decay-weights-only", "clip",
    "schedule", "warmup", "milestones", "gamma", "every",
    "hard", "soft", "temperature", "direction", "reduction", "t-squared",
    "label-smoothing", "ramp", "ramp-epochs", NULL};
/* clang-format on */

/* -- defaults and options ------------------------------------------------------ */

/* Below their least, values are none. */
static void unset(struct kd_recipe *base)
{
    base->loss.hard = -1;
    base->loss.soft = -1;
    base->loss.temperature = 0;
    base->ramp = (struct kd_ramp){.kind = -1, .epochs = 0};
}

void kd_peers_recipe_init(struct kd_peers_recipe *recipe)
{
    *recipe = (struct kd_peers_recipe){0};
    kd_recipe_init(&recipe->base);
    unset(&recipe->base);
    for (size_t m = 0; kd_methods[m] != NULL; m++) {
        recipe->methods[m] = kd_methods[m]->name;
        assert(kd_methods[m]->settings_size <= KD_PEERS_SETTINGS);
        if (kd_methods[m]->settings_size > 0)
            memcpy(recipe->settings[m].bytes, kd_methods[m]->settings,
                   kd_methods[m]->settings_size);
    }
}

static bool is_chosen(const char *name)
{
    for (size_t i = 0; chosen[i] != NULL; i++)
        if (strcmp(chosen[i], name) == 0)
            return true;
    return false;
}

static size_t base_options(struct kd_recipe *base, struct kd_option *options)
{
    struct kd_option all[KD_RECIPE_OPTIONS];
    size_t count = 0;

    kd_recipe_options(base, all);
    for (size_t i = 0; all[i].name != NULL; i++) {
        if (!is_chosen(all[i].name))
            continue;
        if (strcmp(all[i].name, "augment") == 0) /* there is no cache that has one */
            all[i].help = "crop4,flip,mixup, ... or none";
        if (strcmp(all[i].name, "hard") == 0)
            all[i].help = "weight of the labels";
        options[count++] = all[i];
    }
    return count;
}

static size_t own_options(struct kd_peers_recipe *r, struct kd_option *options)
{
    const struct kd_option own[] = {
        {.name = "method",
         .letter = 'm',
         .type = KD_OPTION_CHOICE,
         .value = &r->method,
         .choices = r->methods,
         .metavar = "METHOD",
         .help = "how they learn together"},
        {.name = "networks",
         .type = KD_OPTION_YAML,
         .value = &r->networks,
         .metavar = "LIST",
         .help = "the members: resnet8,resnet14"},
        {.name = "peers",
         .type = KD_OPTION_U64,
         .value = &r->peers,
         .min = 1,
         .max = KD_MAX_PEERS,
         .metavar = "N",
         .help = "so many of --network; else as many as the method usually has"},
        {.name = "independent",
         .type = KD_OPTION_FLAG,
         .value = &r->independent,
         .help = "no exchange between members: the control"},
    };

    memcpy(options, own, sizeof own);
    return sizeof own / sizeof own[0];
}

/* An option of a method, with its place in the recipe. */
static struct kd_option method_option(struct kd_peers_recipe *r, size_t method,
                                      const struct kd_method_option *from)
{
    struct kd_option option = from->option;

    option.value = r->settings[method].bytes + from->at;
    return option;
}

void kd_peers_recipe_options(struct kd_peers_recipe *recipe,
                             struct kd_option options[KD_PEERS_OPTIONS])
{
    size_t count = own_options(recipe, options);

    for (size_t m = 0; kd_methods[m] != NULL; m++) {
        const struct kd_method_option *o = kd_methods[m]->options;
        for (; o != NULL && o->option.name != NULL; o++)
            options[count++] = method_option(recipe, m, o);
    }
    count += base_options(&recipe->base, options + count);
    assert(count < KD_PEERS_OPTIONS);
    options[count] = (struct kd_option){0};
}

/* The recipe of who says nothing. */
static void take_usual(const struct kd_method *method, struct kd_recipe *usual)
{
    kd_recipe_init(usual);
    usual->loss.hard = usual->loss.soft = usual->loss.temperature = 1;
    if (method->defaults != NULL)
        method->defaults(usual);
}

/* What the method has other values for than those that most have. */
static void write_usual(FILE *to, const struct kd_method *method)
{
    const char *before = "\n             ";
    struct kd_recipe usual;

    take_usual(method, &usual);
    if (usual.loss.hard != 1 || usual.loss.soft != 1) {
        fprintf(to, "%shard %g, soft %g", before, usual.loss.hard, usual.loss.soft);
        before = ", ";
    }
    if (usual.loss.temperature != 1) {
        fprintf(to, "%stemperature %g", before, usual.loss.temperature);
        before = ", ";
    }
    if (usual.ramp.kind != KD_RAMP_NONE)
        fprintf(to, "%sramp %s over %llu epochs", before,
                kd_ramp_kinds[usual.ramp.kind], (unsigned long long)usual.ramp.epochs);
}

char *kd_peers_methods_text(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);

    if (to != NULL)
        for (size_t m = 0; kd_methods[m] != NULL; m++) {
            fprintf(to, "  %-10s %s", kd_methods[m]->name, kd_methods[m]->help);
            write_usual(to, kd_methods[m]);
            fputc('\n', to);
        }
    if (to != NULL && fclose(to) == 0)
        return text;
    free(text);
    (void)kd_fail(KD_EMEMORY, "out of memory");
    return NULL;
}

/* -- the method's own values ----------------------------------------------------- */

static size_t size_of(enum kd_option_type type)
{
    switch (type) {
    case KD_OPTION_FLAG:
        return sizeof(bool);
    case KD_OPTION_U64:
        return sizeof(uint64_t);
    case KD_OPTION_F64:
        return sizeof(double);
    case KD_OPTION_CHOICE:
        return sizeof(int);
    case KD_OPTION_STRING:
    case KD_OPTION_YAML:
        return sizeof(void *);
    }
    return 0;
}

/* What was not given is as the method has it. */
static void settle(struct kd_peers_recipe *r, const struct kd_program *program)
{
    struct kd_option ours[KD_RECIPE_OPTIONS], theirs[KD_RECIPE_OPTIONS];
    struct kd_recipe usual;
    size_t count;

    take_usual(r->chosen, &usual);
    if (r->independent) /* whatever share of the loss the others leave the labels */
        usual.loss.hard = 1;
    count = base_options(&r->base, ours);
    base_options(&usual, theirs);
    for (size_t i = 0; i < count; i++)
        if (!kd_program_given(program, ours[i].name))
            memcpy(ours[i].value, theirs[i].value, size_of(ours[i].type));
}

static enum kd_status refuse_others(const struct kd_peers_recipe *r,
                                    const struct kd_program *program)
{
    for (size_t m = 0; kd_methods[m] != NULL; m++) {
        const struct kd_method_option *o = kd_methods[m]->options;
        if (kd_methods[m] == r->chosen)
            continue;
        for (; o != NULL && o->option.name != NULL; o++)
            if (kd_program_given(program, o->option.name))
                return kd_fail(KD_ERECIPE, "%s: an option of method %s, not of %s",
                               o->option.name, kd_methods[m]->name, r->chosen->name);
    }
    return KD_OK;
}

/* -- members --------------------------------------------------------------------- */

static enum kd_status add_member(struct kd_peers_recipe *r, const struct kd_yaml *node)
{
    if (r->count == r->chosen->most)
        return kd_fail(KD_ERECIPE, "networks: %s has at most %zu", r->chosen->name,
                       r->chosen->most);
    return kd_arch_parse(node, &r->arch[r->count++]);
}

/* "resnet8,resnet14" */
static enum kd_status add_words(struct kd_peers_recipe *r, const struct kd_yaml *node)
{
    enum kd_status status = KD_EBUG;
    char **words = NULL;
    size_t count = 0;

    KD_TRY(kd_list_split(node->scalar, "networks", &words, &count));
    for (size_t i = 0; i < count; i++) {
        struct kd_yaml word = *node;
        word.scalar = words[i] + strspn(words[i], " ");
        KD_TRY(add_member(r, &word));
    }
    status = KD_OK;
out:
    kd_list_free(words);
    return status;
}

static enum kd_status add_list(struct kd_peers_recipe *r)
{
    enum kd_status status = KD_OK;

    if (r->networks->kind == KD_YAML_SCALAR)
        return add_words(r, r->networks);
    if (r->networks->kind == KD_YAML_MAPPING)
        return kd_yaml_fail(r->networks, "networks are a list: [resnet8, resnet14]");
    for (size_t i = 0; i < r->networks->count && status == KD_OK; i++)
        status = add_member(r, r->networks->items[i]);
    return status;
}

static enum kd_status add_copies(struct kd_peers_recipe *r)
{
    const size_t peers = r->peers > 0 ? (size_t)r->peers : r->chosen->usual;
    enum kd_status status = KD_OK;

    for (size_t k = 0; k < peers && status == KD_OK; k++)
        status = add_member(r, r->base.network);
    return status;
}

bool kd_peers_alike(const struct kd_peers_recipe *recipe)
{
    char first[256], other[256];

    kd_arch_text(&recipe->arch[0], first);
    for (size_t k = 1; k < recipe->count; k++) {
        kd_arch_text(&recipe->arch[k], other);
        if (strcmp(first, other) != 0)
            return false;
    }
    return true;
}

static enum kd_status check_alike(const struct kd_peers_recipe *r)
{
    if (!r->chosen->one_network || kd_peers_alike(r))
        return KD_OK;
    return kd_fail(KD_ERECIPE,
                   "networks: the members of %s are branches of one network: say "
                   "--network and --peers",
                   r->chosen->name);
}

static enum kd_status choose_members(struct kd_peers_recipe *r)
{
    enum kd_status status = KD_EBUG;

    r->count = 0;
    if (r->networks == NULL && r->base.network == NULL)
        return kd_fail(KD_EUSAGE,
                       "say which networks to train: --networks resnet8,resnet14, or "
                       "--network resnet8 --peers 2");
    if (r->networks != NULL && (r->base.network != NULL || r->peers > 0))
        return kd_fail(KD_EUSAGE, "say either --networks, or --network and --peers");
    KD_TRY(r->networks != NULL ? add_list(r) : add_copies(r));
    if (r->count < r->chosen->least) {
        status = kd_fail(KD_ERECIPE, "networks: %s needs at least %zu, not %zu",
                         r->chosen->name, r->chosen->least, r->count);
        goto out;
    }
    KD_TRY(check_alike(r));
    for (size_t k = 0; k < r->count; k++) {
        if (r->chosen->name_member != NULL)
            r->chosen->name_member(k, r->count, r->name[k]);
        else
            snprintf(r->name[k], sizeof r->name[k], "peer%u", (unsigned)k + 1);
    }
    status = KD_OK;
out:
    return status;
}

/* To the recipe of one network the others are soft labels that are in no file. */
static enum kd_status check_base(struct kd_recipe *base,
                                 const struct kd_program *program,
                                 struct kd_yaml *first)
{
    static char labels[] = KD_LABELS_VIRTUAL;
    struct kd_yaml *network = base->network;
    enum kd_status status;

    base->labels = labels;
    base->network = first;
    status = kd_recipe_check(base, program);
    base->labels = NULL;
    base->network = network;
    base->stages[0].labels = NULL;
    return status;
}

static enum kd_status check_alone(const struct kd_peers_recipe *r)
{
    if (!r->independent || r->base.loss.hard > 0)
        return KD_OK;
    return kd_fail(KD_ERECIPE, "hard: 0 leaves independent networks nothing to learn "
                               "from");
}

/* A ramp is as long as it was published, for runs of hundreds of epochs. */
static void tell_ramp(const struct kd_peers_recipe *r)
{
    const struct kd_ramp *ramp = &r->base.ramp;
    const uint64_t epochs = r->base.epochs;

    if (!r->independent && ramp->kind != KD_RAMP_NONE && ramp->epochs > epochs)
        kd_log(
            KD_LOG_WARNING,
            "ramp-epochs: %llu, but the run ends after %llu, when what networks learn "
            "from each other has %.2f of its weight",
            (unsigned long long)ramp->epochs, (unsigned long long)epochs,
            kd_ramp_weight(ramp, epochs - 1));
}

enum kd_status kd_peers_recipe_check(struct kd_peers_recipe *recipe,
                                     const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    struct kd_yaml *first = NULL;
    char text[256];

    recipe->chosen = kd_methods[recipe->method];
    KD_TRY(refuse_others(recipe, program));
    settle(recipe, program);
    KD_TRY(choose_members(recipe));
    kd_arch_text(&recipe->arch[0], text);
    KD_TRY(kd_yaml_parse(text, "networks", &first));
    KD_TRY(check_base(&recipe->base, program, first));
    KD_TRY(check_alone(recipe));
    if (recipe->chosen->check != NULL && !recipe->independent)
        KD_TRY(recipe->chosen->check(recipe, recipe->settings[recipe->method].bytes));
    tell_ramp(recipe);
    status = KD_OK;
out:
    kd_yaml_free(first);
    return status;
}

/* -- the text -------------------------------------------------------------------- */

static void write_value(FILE *to, const struct kd_option *o)
{
    switch (o->type) {
    case KD_OPTION_FLAG:
        fprintf(to, " %s %d", o->name, *(const bool *)o->value);
        break;
    case KD_OPTION_U64:
        fprintf(to, " %s %llu", o->name,
                (unsigned long long)*(const uint64_t *)o->value);
        break;
    case KD_OPTION_F64:
        fprintf(to, " %s %.17g", o->name, *(const double *)o->value);
        break;
    case KD_OPTION_CHOICE:
        fprintf(to, " %s %s", o->name, o->choices[*(const int *)o->value]);
        break;
    case KD_OPTION_STRING: /* names of files, which are told by their digests */
    case KD_OPTION_YAML:
        break;
    }
}

static void write_method(FILE *to, const struct kd_peers_recipe *r)
{
    const struct kd_method_option *o = r->chosen->options;
    char arch[256];

    fprintf(to, "method: %s", r->chosen->name);
    for (; o != NULL && o->option.name != NULL; o++) {
        struct kd_option option = o->option;
        option.value = (void *)(r->settings[r->method].bytes + o->at);
        write_value(to, &option);
    }
    fprintf(to, "\nindependent: %d\n", r->independent);
    for (size_t k = 0; k < r->count; k++) {
        kd_arch_text(&r->arch[k], arch);
        fprintf(to, "network %s: %s\n", r->name[k], arch);
    }
}

char *kd_peers_text(const struct kd_peers_recipe *recipe, const char *data,
                    const char *test)
{
    static const char *const labels[] = {KD_LABELS_NONE};
    char *rest = kd_recipe_text(&recipe->base, data, test, labels), *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);

    if (to != NULL && rest != NULL) {
        write_method(to, recipe);
        fputs(strchr(rest, '\n') + 1, to); /* the networks stand above */
    }
    free(rest);
    if (to != NULL && fclose(to) == 0 && rest != NULL)
        return text;
    free(text);
    (void)kd_fail(KD_EMEMORY, "out of memory");
    return NULL;
}
