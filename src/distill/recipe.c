/* SPDX-License-Identifier: MIT */
/* Recipes: their defaults, what must hold between values, and their text. */
#include "kd/recipe.h"

#include "kd/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kd_recipe_init(struct kd_recipe *recipe)
{
    *recipe = (struct kd_recipe){
        .epochs = 30,
        .batch = 128,
        .seed = 1,
        .sgd = {.momentum = 0.9, .nesterov = true, .weight_decay = 5e-4},
        .schedule = {.kind = KD_COSINE, .lr = 0.1, .warmup = 1, .gamma = 0.1},
        .loss = {.hard = 0.1,
                 .soft = 0.9,
                 .temperature = 4,
                 .kind = KD_LOSS_KL,
                 .direction = KD_FORWARD,
                 .reduction = KD_BATCHMEAN,
                 .t_squared = true},
    };
}

static enum kd_status read_milestones(struct kd_recipe *r)
{
    const struct kd_yaml *list = r->milestones;

    r->schedule.num_milestones = 0;
    if (r->schedule.kind != KD_MULTISTEP)
        return KD_OK;
    if (list == NULL)
        return kd_fail(KD_ERECIPE, "schedule: multistep needs its milestones");
    if (list->kind != KD_YAML_SEQUENCE || list->count > KD_MAX_MILESTONES)
        return kd_yaml_fail(list, "milestones are a list of up to %d epochs",
                            KD_MAX_MILESTONES);
    for (size_t i = 0; i < list->count; i++) {
        uint64_t epoch = 0;
        const enum kd_status status = kd_yaml_u64(list->items[i], 1, 1000000, &epoch);
        if (status != KD_OK)
            return status;
        if (i > 0 && epoch <= r->schedule.milestones[i - 1])
            return kd_yaml_fail(list->items[i], "milestones must ascend");
        r->schedule.milestones[i] = epoch;
    }
    r->schedule.num_milestones = list->count;
    return KD_OK;
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

enum kd_status kd_recipe_check(struct kd_recipe *recipe,
                               const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;

    if (recipe->network == NULL)
        return kd_fail(KD_EUSAGE, "say which network to train: --network resnet8");
    if (recipe->data == NULL)
        return kd_fail(KD_EUSAGE, "say what to train on: --data cifar100:train.bin");
    KD_TRY(kd_arch_parse(recipe->network, &recipe->arch));
    KD_TRY(read_milestones(recipe));
    KD_TRY(read_augment(recipe));
    if (recipe->labels == NULL) {
        recipe->loss.soft = 0;
        if (!kd_program_given(program, "hard"))
            recipe->loss.hard = 1;
    }
    if (recipe->loss.hard + recipe->loss.soft <= 0) {
        status =
            kd_fail(KD_ERECIPE, "loss: hard and soft are both 0: nothing to learn");
        goto out;
    }
    status = KD_OK;
out:
    return status;
}

static void write_schedule(FILE *to, const struct kd_schedule *s)
{
    fprintf(to, "schedule: %s lr %.17g warmup %.17g gamma %.17g",
            kd_schedule_kinds[s->kind], s->lr, s->warmup, s->gamma);
    for (size_t i = 0; i < s->num_milestones; i++)
        fprintf(to, " %llu", (unsigned long long)s->milestones[i]);
    fputc('\n', to);
}

static void write_loss(FILE *to, const struct kd_loss *l)
{
    fprintf(to, "loss: hard %.17g soft %.17g temperature %.17g %s %s %s%s\n", l->hard,
            l->soft, l->temperature, kd_loss_kinds[l->kind],
            kd_directions[l->direction], kd_reductions[l->reduction],
            l->t_squared ? " t-squared" : "");
}

char *kd_recipe_text(const struct kd_recipe *r, const char *data, const char *test,
                     const char *labels)
{
    char *text = NULL, arch[256];
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);

    if (to == NULL)
        goto fail;
    kd_arch_text(&r->arch, arch);
    fprintf(to, "network: %s\ndata: %s\ntest: %s\nlabels: %s\n", arch, data, test,
            labels);
    fprintf(to, "labels-view: %s\naugment: %s\n",
            r->labels_view == KD_LABELS_CLEAN_VIEW ? "clean" : "same", r->views);
    fprintf(to, "epochs: %llu\nbatch: %llu\nseed: %llu\n",
            (unsigned long long)r->epochs, (unsigned long long)r->batch,
            (unsigned long long)r->seed);
    fprintf(to, "optimizer: sgd momentum %.17g nesterov %d weight-decay %.17g%s\n",
            r->sgd.momentum, r->sgd.nesterov, r->sgd.weight_decay,
            r->sgd.decay_weights_only ? " weights only" : "");
    write_schedule(to, &r->schedule);
    write_loss(to, &r->loss);
    if (fclose(to) == 0)
        return text;
    free(text);
fail:
    (void)kd_fail(KD_EMEMORY, "out of memory");
    return NULL;
}
