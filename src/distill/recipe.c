/* SPDX-License-Identifier: MIT */
/* Recipes: their defaults, and what must hold between values. */
#include "distill/recipe_internal.h"

#include "kd/list.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

void kd_recipe_init(struct kd_recipe *recipe)
{
    *recipe = (struct kd_recipe){
        .tail = KD_TAIL_SPREAD,
        .verify = true,
        .tensorboard = true,
        .teacher = {.correct = 0.99},
        .merge = {.policy = {.policy = -1}},
        .scale = 1,
        .ramp = {.epochs = 80},
        .monitor_patience = 5,
        .epochs = 30,
        .batch = 128,
        .seed = 1,
        .shuffle_block = 1024,
        .shuffle_window = 16,
        .adam = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8},
        .sgd = {.momentum = 0.9, .nesterov = true, .weight_decay = 5e-4},
        .schedule = {.kind = KD_COSINE,
                     .lr = 0, /* none: it is the optimiser's */
                     .warmup = 1,
                     .gamma = 0.1,
                     .every = 30},
        .loss = {.hard = -1, /* none: it depends on the soft labels */
                 .soft = 0.9,
                 .temperature = 4,
                 .kind = KD_LOSS_KL,
                 .direction = KD_FORWARD,
                 .reduction = KD_BATCHMEAN,
                 .t_squared = true},
    };
}

/* However it was written, one augmentation has one text. */
static enum kd_status read_augment(struct kd_recipe *r)
{
    struct kd_view_spec spec;
    enum kd_status status;

    strcpy(r->views, "default");
    if (r->augment == NULL)
        return KD_OK;
    status = kd_view_parse(r->augment, r->seed, &spec);
    if (status == KD_OK)
        kd_view_text(&spec, r->views);
    else
        kd_error_prefix("augment");
    return status;
}

/* "0.1" or "45000:50000". */
static enum kd_status read_holdout(struct kd_recipe *r)
{
    struct kd_holdout *h = &r->holdout;
    const char *text = r->hold_out, *colon;
    char *first = NULL;
    bool good = false;

    *h = (struct kd_holdout){0};
    if (text == NULL)
        return KD_OK;
    colon = strchr(text, ':');
    if (colon == NULL) {
        good = kd_parse_f64(text, 0, 1, &h->share) && h->share > 0 && h->share < 1;
    } else {
        first = kd_copy_string(text);
        if (first == NULL)
            return KD_EMEMORY;
        first[colon - text] = '\0';
        good = kd_parse_u64(first, 0, UINT64_MAX, &h->first) &&
               kd_parse_u64(colon + 1, 0, UINT64_MAX, &h->end) && h->first < h->end;
        free(first);
    }
    if (!good)
        return kd_fail(KD_ERECIPE,
                       "holdout: '%s': must be a share between 0 and 1, or ids A:B",
                       text);
    return KD_OK;
}

static enum kd_status check_selection(const struct kd_recipe *r)
{
    if (r->patience > 0 && r->stage_list != NULL)
        return kd_fail(KD_ERECIPE,
                       "patience: means something without stages alone: each of them "
                       "has its epochs");
    if (r->select == KD_SELECT_TEST && r->test == NULL)
        return kd_fail(KD_ERECIPE, "select: test: there is no test set: give --test");
    if (r->patience > 0 && r->select == KD_SELECT_HOLDOUT && r->hold_out == NULL)
        return kd_fail(KD_ERECIPE,
                       "patience: there are no samples to judge epochs by: hold some "
                       "out (--holdout 0.1)");
    return KD_OK;
}

static enum kd_status fail_epochs(const struct kd_yaml *list, const char *what,
                                  size_t room)
{
    return kd_yaml_fail(list, "%s are a list of 1 to %zu epochs: [5, 30]", what, room);
}

static enum kd_status read_epoch(const struct kd_yaml *node, const char *what,
                                 uint64_t last, uint64_t *epochs, size_t *count)
{
    const enum kd_status status = kd_yaml_u64(node, 1, last, &epochs[*count]);

    if (status != KD_OK)
        return status;
    if (*count > 0 && epochs[*count] <= epochs[*count - 1])
        return kd_yaml_fail(node, "%s must ascend", what);
    (*count)++;
    return KD_OK;
}

/* "60, 120", or one epoch alone. */
static enum kd_status read_epoch_words(const struct kd_yaml *list, const char *what,
                                       uint64_t last, size_t room, uint64_t *epochs,
                                       size_t *count)
{
    char **words = NULL;
    size_t num_words = 0;
    enum kd_status status = kd_list_split(list->scalar, what, &words, &num_words);

    if (status == KD_EDATA)
        status =
            kd_yaml_fail(list, "%s: '%s': expected epochs: 5,30", what, list->scalar);
    KD_TRY(status);
    for (size_t i = 0; i < num_words && i < room; i++) {
        struct kd_yaml word = *list;
        word.scalar = words[i] + strspn(words[i], " ");
        KD_TRY(read_epoch(&word, what, last, epochs, count));
    }
    status = num_words <= room ? KD_OK : fail_epochs(list, what, room);
out:
    kd_list_free(words);
    return status;
}

enum kd_status kd_recipe_read_epochs(const struct kd_yaml *list, const char *what,
                                     uint64_t last, size_t room, uint64_t *epochs,
                                     size_t *count)
{
    enum kd_status status = KD_OK;

    *count = 0;
    if (list->kind == KD_YAML_SCALAR)
        return read_epoch_words(list, what, last, room, epochs, count);
    if (list->kind == KD_YAML_MAPPING || list->count == 0 || list->count > room)
        return fail_epochs(list, what, room);
    for (size_t i = 0; i < list->count && status == KD_OK; i++)
        status = read_epoch(list->items[i], what, last, epochs, count);
    return status;
}

/* "every 10": the number, else 0. */
static uint64_t read_every(const struct kd_yaml *node)
{
    static const char every[] = "every ";
    uint64_t epochs = 0;

    if (node->kind != KD_YAML_SCALAR ||
        strncmp(node->scalar, every, strlen(every)) != 0 ||
        !kd_parse_u64(node->scalar + strlen(every), 1, UINT64_MAX, &epochs))
        return 0;
    return epochs;
}

static enum kd_status read_footsteps(struct kd_recipe *r)
{
    const struct kd_yaml *list = r->keep_epochs;
    struct kd_footsteps *f = &r->footsteps;

    *f = (struct kd_footsteps){0};
    if (list == NULL)
        return KD_OK;
    f->every = read_every(list);
    if (f->every > r->all_epochs)
        return kd_yaml_fail(list, "keep-epochs: every %llu: the run has but %llu",
                            (unsigned long long)f->every,
                            (unsigned long long)r->all_epochs);
    if (f->every > 0)
        return KD_OK;
    if (list->kind == KD_YAML_SCALAR && strchr(list->scalar, ',') == NULL)
        return kd_yaml_fail(list, "keep-epochs: must be 'every N' or a list of epochs: "
                                  "1,5,30 or [5]"); /* 10 alone could mean either */
    return kd_recipe_read_epochs(list, "keep-epochs", r->all_epochs, KD_MAX_FOOTSTEPS,
                                 f->epochs, &f->count);
}

static void settle_optimizer(struct kd_recipe *r, const struct kd_program *program)
{
    r->adam.weight_decay = r->sgd.weight_decay;
    r->adam.decay_weights_only = r->sgd.decay_weights_only;
    r->adam.decoupled = r->optimizer == KD_ADAMW;
    if (!kd_program_given(program, "lr"))
        r->schedule.lr = r->optimizer == KD_SGD ? 0.1 : 0.001;
}

enum kd_status kd_recipe_check(struct kd_recipe *recipe,
                               const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;

    if (recipe->network == NULL)
        return kd_fail(KD_EUSAGE, "say which network to train: --network resnet8");
    if (recipe->data == NULL)
        return kd_fail(KD_EUSAGE, "say what to train on: --data cifar100:train.bin");
    KD_TRY(kd_arch_parse(recipe->network, &recipe->arch));
    KD_TRY(read_augment(recipe));
    KD_TRY(read_holdout(recipe));
    KD_TRY(check_selection(recipe));
    settle_optimizer(recipe, program);
    KD_TRY(kd_recipe_settle_stages(recipe, program));
    KD_TRY(read_footsteps(recipe));
    status = KD_OK;
out:
    return status;
}
