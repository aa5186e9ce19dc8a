/* SPDX-License-Identifier: MIT */
/* The options of a recipe: one table for kd-train's flags and a recipe's keys. */
#include "distill/recipe_internal.h"

#include "kd/monitor.h"

#include <stddef.h>
#include <string.h>

static const char *const label_views[] = {"same", "clean", NULL};
static const char *const optimizers[] = {"sgd", "adam", "adamw", NULL};
static const char *const shuffles[] = {"full", "block", NULL};
static const char *const label_orders[] = {"sequential", "random", NULL};
static const char *const overs[] = {"stage", "run", NULL};
static const char *const selects[] = {"holdout", "test", NULL};

/* An option, and where in the recipe its value is. */
struct entry {
    size_t at;
    struct kd_option option;
};

#define AT(field) offsetof(struct kd_recipe, field)

/* clang-format off */
static const struct entry table[] = {
    {AT(network), {.name = "network", .type = KD_OPTION_YAML, .metavar = "NET",
     .help = "resnet20, plain4, mlp, or {family: ...} in full"}},
    {AT(data), {.name = "data", .type = KD_OPTION_STRING, .metavar = "DATASET",
     .help = "what to train on"}},
    {AT(test), {.name = "test", .type = KD_OPTION_STRING, .metavar = "DATASET",
     .help = "what to measure on after each epoch"}},
    {AT(labels), {.name = "labels", .type = KD_OPTION_STRING, .metavar = "CACHE",
     .help = "soft labels: a cache (directory, shard, or - for paths on stdin), several "
             "(A,B), virtual or none"}},
    {AT(labels_view), {.name = "labels-view", .type = KD_OPTION_CHOICE, .metavar = "VIEW",
     .choices = label_views,
     .help = "soft labels' view"}},
    {AT(labels_order), {.name = "labels-order", .type = KD_OPTION_CHOICE,
     .choices = label_orders, .metavar = "HOW",
     .help = "of several caches: whose batch it is"}},
    {AT(tail), {.name = "tail", .key = "loss.tail", .type = KD_OPTION_CHOICE,
     .choices = kd_tail_names, .metavar = "RULE",
     .help = "the mass of the classes that a sparse row lacks"}},
    {AT(loss.missing), {.name = "missing", .type = KD_OPTION_CHOICE,
     .choices = kd_missing_names, .metavar = "RULE",
     .help = "samples that the cache lacks"}},
    {AT(verify), {.name = "verify", .type = KD_OPTION_FLAG,
     .help = "check rows as they are read"}},
    {AT(teacher.correct), {.name = "virtual-correct", .key = "virtual.correct",
     .type = KD_OPTION_F64, .min = 1e-6, .max = 0.999999, .metavar = "P",
     .help = "virtual: probability of the right class"}},
    {AT(teacher.temperature), {.name = "virtual-temperature",
     .key = "virtual.temperature", .type = KD_OPTION_F64, .min = 1e-3, .max = 1e4,
     .metavar = "T", .help = "virtual: its temperature; else the student's"}},
    {AT(teacher.soften), {.name = "virtual-soften", .key = "virtual.soften",
     .type = KD_OPTION_CHOICE, .choices = kd_soften_names, .metavar = "HOW",
     .help = "virtual: how it is softened"}},
    {AT(stage_list), {.name = "stages", .type = KD_OPTION_YAML, .metavar = "LIST",
     .help = "[{labels: a, epochs: 9, lr: 0.1}, ...]: one by one"}},
    {AT(augment), {.name = "augment", .type = KD_OPTION_STRING, .metavar = "LIST",
     .help = "crop4,flip,mixup, ... or none; else the cache's"}},
    {AT(start), {.name = "start", .type = KD_OPTION_STRING, .metavar = "MODEL",
     .help = "begin with the weights of a saved network"}},
    {AT(hold_out), {.name = "holdout", .type = KD_OPTION_STRING, .metavar = "PART",
     .help = "samples to judge by, not train on: 0.1 or A:B"}},
    {AT(select), {.name = "select", .type = KD_OPTION_CHOICE, .choices = selects,
     .metavar = "SET", .help = "best epoch by"}},
    {AT(keep_epochs), {.name = "keep-epochs", .type = KD_OPTION_YAML, .metavar = "LIST",
     .help = "keep networks of 1,5,30, or every 10"}},
    {AT(patience), {.name = "patience", .type = KD_OPTION_U64, .metavar = "EPOCHS",
     .help = "epochs without a better one", .usual = "all"}},
    {AT(epochs), {.name = "epochs", .letter = 'e', .type = KD_OPTION_U64,
     .min = 1, .max = 1e6, .metavar = "N", .help = "passes over the data"}},
    {AT(batch), {.name = "batch", .letter = 'b', .type = KD_OPTION_U64,
     .min = 1, .max = 65536, .metavar = "N", .help = "samples a step"}},
    {AT(seed), {.name = "seed", .type = KD_OPTION_U64, .metavar = "N",
     .help = "seed of weights, order and views"}},
    {AT(shuffle), {.name = "shuffle", .type = KD_OPTION_CHOICE, .choices = shuffles,
     .metavar = "HOW", .help = "order of samples"}},
    {AT(shuffle_block), {.name = "shuffle-block", .type = KD_OPTION_U64, .min = 1,
     .max = 4294967295.0, .metavar = "N", .help = "samples a block"}},
    {AT(shuffle_window), {.name = "shuffle-window", .type = KD_OPTION_U64, .min = 1,
     .max = 1e6, .metavar = "N", .help = "blocks whose samples are mixed"}},

    {AT(optimizer), {.name = "optimizer", .key = "optimizer.kind",
     .type = KD_OPTION_CHOICE, .choices = optimizers, .metavar = "KIND",
     .help = "the optimizer"}},
    {AT(schedule.lr), {.name = "lr", .key = "optimizer.lr", .type = KD_OPTION_F64,
     .min = 1e-9, .max = 1e3, .metavar = "X",
     .help = "learning rate: 0.1, with adam and adamw 0.001"}},
    {AT(sgd.momentum), {.name = "momentum", .key = "optimizer.momentum",
     .type = KD_OPTION_F64, .min = 0, .max = 0.9999, .metavar = "X",
     .help = "momentum of SGD"}},
    {AT(sgd.nesterov), {.name = "nesterov", .key = "optimizer.nesterov",
     .type = KD_OPTION_FLAG, .help = "look ahead along the momentum"}},
    {AT(adam.beta1), {.name = "beta1", .key = "optimizer.beta1",
     .type = KD_OPTION_F64, .min = 0, .max = 0.9999, .metavar = "X",
     .help = "Adam: decay of the mean gradient"}},
    {AT(adam.beta2), {.name = "beta2", .key = "optimizer.beta2",
     .type = KD_OPTION_F64, .min = 0, .max = 0.999999, .metavar = "X",
     .help = "Adam: decay of the mean square"}},
    {AT(adam.epsilon), {.name = "epsilon", .key = "optimizer.epsilon",
     .type = KD_OPTION_F64, .min = 1e-20, .max = 1, .metavar = "X",
     .help = "Adam: added to the root"}},
    {AT(sgd.weight_decay), {.name = "weight-decay", .key = "optimizer.weight-decay",
     .type = KD_OPTION_F64, .min = 0, .max = 10, .metavar = "X",
     .help = "pull of the weights to zero"}},
    {AT(sgd.decay_weights_only), {.name = "decay-weights-only",
     .key = "optimizer.decay-weights-only", .type = KD_OPTION_FLAG,
     .help = "no weight decay on biases and batch norm"}},
    {AT(clip), {.name = "clip", .key = "optimizer.clip", .type = KD_OPTION_F64,
     .min = 0, .max = 1e9, .metavar = "X",
     .help = "largest norm of gradients", .usual = "any"}},
    {AT(ema), {.name = "ema", .key = "optimizer.ema", .type = KD_OPTION_F64,
     .min = 0, .max = 0.999999, .metavar = "X",
     .help = "decay of averaged weights", .usual = "none"}},

    {AT(schedule.kind), {.name = "schedule", .key = "schedule.kind",
     .type = KD_OPTION_CHOICE, .choices = kd_schedule_kinds, .metavar = "KIND",
     .help = "how the learning rate falls"}},
    {AT(schedule.warmup), {.name = "warmup", .key = "schedule.warmup",
     .type = KD_OPTION_F64, .min = 0, .max = 1e5, .metavar = "EPOCHS",
     .help = "epochs in which the rate climbs"}},
    {AT(milestones), {.name = "milestones", .key = "schedule.milestones",
     .type = KD_OPTION_YAML, .metavar = "LIST",
     .help = "multistep: epochs to fall after: 60,120"}},
    {AT(schedule.gamma), {.name = "gamma", .key = "schedule.gamma",
     .type = KD_OPTION_F64, .min = 1e-6, .max = 1, .metavar = "X",
     .help = "step, multistep: by what factor"}},
    {AT(schedule.every), {.name = "every", .key = "schedule.every",
     .type = KD_OPTION_U64, .min = 1, .max = 1e6, .metavar = "EPOCHS",
     .help = "step: after how many epochs"}},
    {AT(over), {.name = "schedule-over", .key = "schedule.over",
     .type = KD_OPTION_CHOICE, .choices = overs, .metavar = "WHAT",
     .help = "stages: epochs are counted over"}},

    {AT(loss.hard), {.name = "hard", .key = "loss.hard", .type = KD_OPTION_F64,
     .min = 0, .max = 1e6, .metavar = "W",
     .help = "weight of the labels: 0.1 beside soft labels, 1 without"}},
    {AT(loss.soft), {.name = "soft", .key = "loss.soft", .type = KD_OPTION_F64,
     .min = 0, .max = 1e6, .metavar = "W",
     .help = "weight of the soft labels"}},
    {AT(loss.temperature), {.name = "temperature", .letter = 'T',
     .key = "loss.temperature", .type = KD_OPTION_F64, .min = 1e-3, .max = 1e4,
     .metavar = "T", .help = "temperature of the soft labels"}},
    {AT(loss.kind), {.name = "distance", .key = "loss.distance",
     .type = KD_OPTION_CHOICE, .choices = kd_loss_kinds, .metavar = "KIND",
     .help = "from the soft labels"}},
    {AT(loss.direction), {.name = "direction", .key = "loss.direction",
     .type = KD_OPTION_CHOICE, .choices = kd_directions, .metavar = "WAY",
     .help = "kl's way"}},
    {AT(loss.reduction), {.name = "reduction", .key = "loss.reduction",
     .type = KD_OPTION_CHOICE, .choices = kd_reductions, .metavar = "KIND",
     .help = "mean"}},
    {AT(loss.t_squared), {.name = "t-squared", .key = "loss.t-squared",
     .type = KD_OPTION_FLAG, .help = "multiply distances by T squared"}},
    {AT(loss.smoothing), {.name = "label-smoothing", .key = "loss.label-smoothing",
     .type = KD_OPTION_F64, .min = 0, .max = 0.9999, .metavar = "X",
     .help = "share of labels spread to all"}},
    {AT(scale), {.name = "scale", .key = "loss.scale", .type = KD_OPTION_F64,
     .min = 1e-3, .max = 1e3, .metavar = "X",
     .help = "multiply the teacher's logits"}},
    {AT(anneal), {.name = "anneal", .key = "loss.anneal", .type = KD_OPTION_U64,
     .min = 0, .max = 1e6, .metavar = "N",
     .help = "steps in which the scale is reached", .usual = "at once"}},
    {AT(ramp.kind), {.name = "ramp", .key = "loss.ramp", .type = KD_OPTION_CHOICE,
     .choices = kd_ramp_kinds, .metavar = "KIND",
     .help = "how the soft weight climbs"}},
    {AT(ramp.epochs), {.name = "ramp-epochs", .key = "loss.ramp-epochs",
     .type = KD_OPTION_U64, .min = 1, .max = 1e6, .metavar = "N",
     .help = "epochs in which it climbs"}},
    {AT(monitor), {.name = "monitor", .key = "monitor.use", .type = KD_OPTION_CHOICE,
     .choices = kd_monitor_uses, .metavar = "USE",
     .help = "compare with soft labels and truth, row by row"}},
    {AT(monitor_patience), {.name = "monitor-patience", .key = "monitor.patience",
     .type = KD_OPTION_U64, .min = 1, .max = 1e6, .metavar = "EPOCHS",
     .help = "stop: epochs that gain nothing"}},
    {AT(monitor_from), {.name = "monitor-from", .key = "monitor.from",
     .type = KD_OPTION_STRING, .metavar = "FILE",
     .help = "weigh: by the monitor.h5 of an earlier run"}},
};
/* clang-format on */

const char *kd_merging_name(const char *option)
{
    static const char *const names[][2] = {{"temperature", "merge-temperature"},
                                           {"missing", "merge-missing"},
                                           {"seed", "merge-seed"},
                                           {"holdout", "merge-holdout"}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(option, names[i][0]) == 0)
            return names[i][1];
    return option;
}

size_t kd_merging_options(struct kd_merge_args *args,
                          struct kd_option options[KD_MERGING_OPTIONS])
{
    const struct kd_option merging[] = {KD_MERGE_OPTIONS(*args)};
    const size_t count = sizeof merging / sizeof merging[0];

    _Static_assert(sizeof merging / sizeof merging[0] <= KD_MERGING_OPTIONS,
                   "KD_MERGING_OPTIONS is too small");
    for (size_t i = 0; i < count; i++) {
        options[i] = merging[i];
        options[i].name = kd_merging_name(merging[i].name);
        options[i].letter = '\0';
    }
    return count;
}

void kd_recipe_options(struct kd_recipe *recipe,
                       struct kd_option options[KD_RECIPE_OPTIONS])
{
    size_t count = sizeof table / sizeof table[0];

    _Static_assert(sizeof table / sizeof table[0] + KD_MERGING_OPTIONS <
                       KD_RECIPE_OPTIONS,
                   "KD_RECIPE_OPTIONS is too small");
    for (size_t i = 0; i < count; i++) {
        options[i] = table[i].option;
        options[i].value = (char *)recipe + table[i].at;
    }
    count += kd_merging_options(&recipe->merge, options + count);
    options[count] = (struct kd_option){0};
}
