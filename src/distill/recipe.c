/* SPDX-License-Identifier: MIT */
/* Recipes: their defaults, and what must hold between values. */
#include "distill/recipe_internal.h"

#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

void kd_recipe_init(struct kd_recipe *recipe)
{
    *recipe = (struct kd_recipe){
        .tail = KD_TAIL_SPREAD,
        .verify = true,
        .teacher = {.correct = 0.99},
        .scale = 1,
        .ramp = {.epochs = 80},
        .epochs = 30,
        .batch = 128,
        .seed = 1,
        .shuffle_block = 1024,
        .shuffle_window = 16,
        .adam = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8},
        .sgd = {.momentum = 0.9, .nesterov = true, .weight_decay = 5e-4},
        .schedule =
            {.kind = KD_COSINE, .lr = 0.1, .warmup = 1, .gamma = 0.1, .every = 30},
        .loss = {.hard = 0.1,
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

static void complete_adam(struct kd_recipe *r, const struct kd_program *program)
{
    if (r->optimizer == KD_SGD)
        return;
    r->adam.weight_decay = r->sgd.weight_decay;
    r->adam.decay_weights_only = r->sgd.decay_weights_only;
    r->adam.decoupled = r->optimizer == KD_ADAMW;
    if (!kd_program_given(program, "lr"))
        r->schedule.lr = 0.001;
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
    complete_adam(recipe, program);
    KD_TRY(kd_recipe_settle_stages(recipe, program));
    status = KD_OK;
out:
    return status;
}
