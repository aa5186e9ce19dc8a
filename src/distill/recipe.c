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
        .tail = KD_TAIL_SPREAD,
        .verify = true,
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
    if (r->select == KD_SELECT_TEST && r->test == NULL)
        return kd_fail(KD_ERECIPE, "select: test: there is no test set: give --test");
    if (r->patience > 0 && r->select == KD_SELECT_HOLDOUT && r->hold_out == NULL)
        return kd_fail(KD_ERECIPE,
                       "patience: there are no samples to judge epochs by: hold some "
                       "out (--holdout 0.1)");
    return KD_OK;
}

/* An option that only recipes of a kind heed. What is about soft labels is heeded by
 * none without them: a student's recipe is its baseline's too. */
struct bound {
    const char *option;
    bool heeded;
    const char *where;
};

static enum kd_status check_heeded(const struct kd_recipe *r,
                                   const struct kd_program *program)
{
    const int schedule = r->schedule.kind;
    const bool sgd = r->optimizer == KD_SGD;
    const struct bound table[] = {
        {"momentum", sgd, "with optimizer sgd"},
        {"nesterov", sgd, "with optimizer sgd"},
        {"beta1", !sgd, "with optimizer adam or adamw"},
        {"beta2", !sgd, "with optimizer adam or adamw"},
        {"epsilon", !sgd, "with optimizer adam or adamw"},
        {"milestones", schedule == KD_MULTISTEP, "with schedule multistep"},
        {"gamma", schedule == KD_MULTISTEP || schedule == KD_STEP,
         "with schedule step or multistep"},
        {"every", schedule == KD_STEP, "with schedule step"},
        {"shuffle-block", r->shuffle == KD_SHUFFLE_BLOCK, "with shuffle block"},
        {"shuffle-window", r->shuffle == KD_SHUFFLE_BLOCK, "with shuffle block"},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (!table[i].heeded && kd_program_given(program, table[i].option))
            return kd_fail(KD_ERECIPE, "%s: means something %s alone", table[i].option,
                           table[i].where);
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
    KD_TRY(read_milestones(recipe));
    KD_TRY(read_augment(recipe));
    KD_TRY(read_holdout(recipe));
    KD_TRY(check_selection(recipe));
    KD_TRY(check_heeded(recipe, program));
    complete_adam(recipe, program);
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

static void write_optimizer(FILE *to, const struct kd_recipe *r)
{
    if (r->optimizer == KD_SGD)
        fprintf(to, "optimizer: sgd momentum %.17g nesterov %d", r->sgd.momentum,
                r->sgd.nesterov);
    else
        fprintf(to, "optimizer: %s betas %.17g %.17g epsilon %.17g",
                r->optimizer == KD_ADAM ? "adam" : "adamw", r->adam.beta1,
                r->adam.beta2, r->adam.epsilon);
    fprintf(to, " weight-decay %.17g%s clip %.17g ema %.17g\n", r->sgd.weight_decay,
            r->sgd.decay_weights_only ? " weights only" : "", r->clip, r->ema);
}

static void write_schedule(FILE *to, const struct kd_schedule *s)
{
    fprintf(to, "schedule: %s lr %.17g warmup %.17g", kd_schedule_kinds[s->kind], s->lr,
            s->warmup);
    if (s->kind == KD_STEP || s->kind == KD_MULTISTEP)
        fprintf(to, " gamma %.17g", s->gamma);
    if (s->kind == KD_STEP)
        fprintf(to, " every %llu", (unsigned long long)s->every);
    for (size_t i = 0; i < s->num_milestones; i++)
        fprintf(to, " %llu", (unsigned long long)s->milestones[i]);
    fputc('\n', to);
}

static void write_samples(FILE *to, const struct kd_recipe *r)
{
    const struct kd_holdout *h = &r->holdout;

    fprintf(to, "epochs: %llu\nbatch: %llu\nseed: %llu\n",
            (unsigned long long)r->epochs, (unsigned long long)r->batch,
            (unsigned long long)r->seed);
    if (r->shuffle == KD_SHUFFLE_BLOCK)
        fprintf(to, "shuffle: block %llu window %llu\n",
                (unsigned long long)r->shuffle_block,
                (unsigned long long)r->shuffle_window);
    else
        fprintf(to, "shuffle: full\n");
    if (r->hold_out == NULL)
        fprintf(to, "holdout: none");
    else if (h->share > 0)
        fprintf(to, "holdout: %.17g", h->share);
    else
        fprintf(to, "holdout: ids %llu to %llu", (unsigned long long)h->first,
                (unsigned long long)h->end - 1);
    fprintf(to, " select %s patience %llu\n",
            r->select == KD_SELECT_TEST ? "test" : "holdout",
            (unsigned long long)r->patience);
}

static void write_loss(FILE *to, const struct kd_loss *l)
{
    fprintf(to, "loss: hard %.17g soft %.17g temperature %.17g %s %s %s%s", l->hard,
            l->soft, l->temperature, kd_loss_kinds[l->kind],
            kd_directions[l->direction], kd_reductions[l->reduction],
            l->t_squared ? " t-squared" : "");
    fprintf(to, " smoothing %.17g\n", l->smoothing);
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
    fprintf(to, "labels-view: %s tail %s missing %s\naugment: %s\n",
            r->labels_view == KD_LABELS_CLEAN_VIEW ? "clean" : "same",
            kd_tail_names[r->tail], kd_missing_names[r->loss.missing], r->views);
    write_samples(to, r);
    write_optimizer(to, r);
    write_schedule(to, &r->schedule);
    write_loss(to, &r->loss);
    if (fclose(to) == 0)
        return text;
    free(text);
fail:
    (void)kd_fail(KD_EMEMORY, "out of memory");
    return NULL;
}
