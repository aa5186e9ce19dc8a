/* SPDX-License-Identifier: MIT */
/* Recipes: defaults, the options and YAML that fill them in, what is refused, and the
 * text that stands for a run. */
#include "cache_fixture.h"

#include "kd/recipe.h"

#include "base/options_internal.h"

/* One parse: of a command line and, if there is one, a YAML file. */
struct parsed {
    struct kd_recipe recipe;
    struct kd_option options[KD_RECIPE_OPTIONS];
    struct kd_program program;
    enum kd_status status; /* of kd_program_parse, else of kd_recipe_check */
};

#define MAX_ARGUMENTS 20

/* `arguments` are ended by NULL. Close it with close_parsed. */
static void parse_all(struct parsed *p, const char *const *arguments)
{
    static char name[] = "kd-train", texts[MAX_ARGUMENTS][4224];
    static char *argv[MAX_ARGUMENTS + 2] = {name};
    int argc = 1;

    for (; arguments[argc - 1] != NULL; argc++) {
        assert_true(argc <= MAX_ARGUMENTS);
        argv[argc] = texts[argc - 1]; /* parsing writes into them */
        snprintf(argv[argc], sizeof texts[0], "%s", arguments[argc - 1]);
    }
    argv[argc] = NULL;
    *p = (struct parsed){.status = KD_EBUG};
    kd_recipe_init(&p->recipe);
    kd_recipe_options(&p->recipe, p->options);
    p->program = (struct kd_program){.name = "kd-train",
                                     .summary = "",
                                     .operands = "",
                                     .options = p->options,
                                     .common = KD_COMMON_ALL};
    p->status = kd_program_parse(&p->program, argc, argv);
    if (p->status == KD_OK)
        p->status = kd_recipe_check(&p->recipe, &p->program);
}

/* Not kd_program_finish, which closes stdout. */
static void close_parsed(struct parsed *p)
{
    kd_options_close(&p->program);
}

#define PARSE(p, ...) parse_all((p), (const char *const[]){__VA_ARGS__, NULL})
#define BASE          "--network", "resnet8", "--data", "npy:x.npy"

static void assert_parsed(const struct parsed *p)
{
    if (p->status != KD_OK)
        fail_msg("%s", kd_error());
}

static const char *write_yaml(const char *text)
{
    const char *path = fixture_path("recipe.yaml");

    assert_int_equal(kd_file_write(path, text, strlen(text)), KD_OK);
    return path;
}

/* -- defaults --------------------------------------------------------------- */

static void defaults_are_those_of_the_help(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, "--labels", "soft");
    assert_parsed(&p);
    assert_int_equal(p.recipe.epochs, 30);
    assert_int_equal(p.recipe.batch, 128);
    assert_int_equal(p.recipe.seed, 1);
    assert_null(p.recipe.test);
    assert_null(p.recipe.augment);
    assert_int_equal(p.recipe.labels_view, KD_LABELS_SAME_VIEW);
    assert_true(p.recipe.sgd.momentum == 0.9 && p.recipe.sgd.nesterov);
    assert_true(p.recipe.sgd.weight_decay == 5e-4 && !p.recipe.sgd.decay_weights_only);
    assert_int_equal(p.recipe.schedule.kind, KD_COSINE);
    assert_true(p.recipe.schedule.lr == 0.1 && p.recipe.schedule.warmup == 1);
    assert_true(p.recipe.loss.hard == 0.1 && p.recipe.loss.soft == 0.9);
    assert_true(p.recipe.loss.temperature == 4 && p.recipe.loss.t_squared);
    assert_int_equal(p.recipe.loss.kind, KD_LOSS_KL);
    assert_int_equal(p.recipe.loss.direction, KD_FORWARD);
    assert_int_equal(p.recipe.loss.reduction, KD_BATCHMEAN);
    assert_int_equal(p.recipe.loss.missing, KD_MISSING_ERROR);
    assert_true(p.recipe.loss.smoothing == 0);
    assert_int_equal(p.recipe.tail, KD_TAIL_SPREAD);
    assert_true(p.recipe.verify);
    assert_int_equal(p.recipe.shuffle, KD_SHUFFLE_FULL);
    assert_true(p.recipe.clip == 0 && p.recipe.ema == 0 && p.recipe.patience == 0);
    assert_true(p.recipe.holdout.share == 0 && p.recipe.holdout.end == 0);
    assert_int_equal(p.recipe.arch.family, KD_FAMILY_RESNET);
    assert_int_equal(p.recipe.arch.depth, 8);
    close_parsed(&p);
}

/* -- options and YAML ------------------------------------------------------- */

static void every_option_reaches_the_recipe(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, "-e7", "-b", "32", "--seed=9", "--lr=0.5", "--no-nesterov",
          "--momentum=0", "--decay-weights-only", "--labels=c", "--direction=reverse",
          "--reduction=elemmean", "--no-t-squared", "-T2");
    assert_parsed(&p);
    assert_int_equal(p.recipe.epochs, 7);
    assert_int_equal(p.recipe.batch, 32);
    assert_int_equal(p.recipe.seed, 9);
    assert_true(p.recipe.schedule.lr == 0.5);
    assert_true(!p.recipe.sgd.nesterov && p.recipe.sgd.momentum == 0);
    assert_true(p.recipe.sgd.decay_weights_only);
    assert_string_equal(p.recipe.labels, "c");
    assert_int_equal(p.recipe.loss.direction, KD_REVERSE);
    assert_int_equal(p.recipe.loss.reduction, KD_ELEMMEAN);
    assert_true(!p.recipe.loss.t_squared && p.recipe.loss.temperature == 2);
    close_parsed(&p);
    PARSE(&p, BASE, "--labels=c", "--tail=bucket", "--missing=hard-label",
          "--no-verify", "--shuffle=block", "--shuffle-block=64", "--shuffle-window=3",
          "--holdout=0.25", "--patience=4", "--clip=5", "--ema=0.99",
          "--label-smoothing=0.1", "--schedule=step", "--every=7", "--gamma=0.3");
    assert_parsed(&p);
    assert_int_equal(p.recipe.tail, KD_TAIL_BUCKET);
    assert_int_equal(p.recipe.loss.missing, KD_MISSING_HARD_LABEL);
    assert_false(p.recipe.verify);
    assert_int_equal(p.recipe.shuffle, KD_SHUFFLE_BLOCK);
    assert_int_equal(p.recipe.shuffle_block, 64);
    assert_int_equal(p.recipe.shuffle_window, 3);
    assert_true(p.recipe.holdout.share == 0.25);
    assert_int_equal(p.recipe.patience, 4);
    assert_true(p.recipe.clip == 5 && p.recipe.ema == 0.99);
    assert_true(p.recipe.loss.smoothing == 0.1);
    assert_int_equal(p.recipe.schedule.kind, KD_STEP);
    assert_int_equal(p.recipe.schedule.every, 7);
    close_parsed(&p);
    PARSE(&p, BASE, "--optimizer=adamw", "--beta1=0.8", "--beta2=0.95",
          "--epsilon=1e-6", "--weight-decay=0.02", "--decay-weights-only");
    assert_parsed(&p);
    assert_int_equal(p.recipe.optimizer, KD_ADAMW);
    assert_true(p.recipe.adam.beta1 == 0.8 && p.recipe.adam.beta2 == 0.95);
    assert_true(p.recipe.adam.epsilon == 1e-6 && p.recipe.adam.weight_decay == 0.02);
    assert_true(p.recipe.adam.decay_weights_only && p.recipe.adam.decoupled);
    assert_true(p.recipe.schedule.lr == 0.001);
    close_parsed(&p);
    PARSE(&p, BASE, "--optimizer=adam", "--lr=0.01");
    assert_parsed(&p);
    assert_true(p.recipe.schedule.lr == 0.01 && !p.recipe.adam.decoupled);
    assert_true(p.recipe.adam.beta1 == 0.9 && p.recipe.adam.beta2 == 0.999);
    close_parsed(&p);
    PARSE(&p, BASE, "--test", "npy:t.npy", "--labels=c", "--labels-view=clean",
          "--augment", "crop4,flip", "--weight-decay", "0", "--schedule=multistep",
          "--milestones=[3, 5]", "--gamma=0.2", "--warmup=0", "--distance=mse");
    assert_parsed(&p);
    assert_string_equal(p.recipe.data, "npy:x.npy");
    assert_string_equal(p.recipe.test, "npy:t.npy");
    assert_int_equal(p.recipe.labels_view, KD_LABELS_CLEAN_VIEW);
    assert_string_equal(p.recipe.augment, "crop4,flip");
    assert_true(p.recipe.sgd.weight_decay == 0);
    assert_int_equal(p.recipe.schedule.kind, KD_MULTISTEP);
    assert_int_equal(p.recipe.schedule.num_milestones, 2);
    assert_int_equal(p.recipe.schedule.milestones[0], 3);
    assert_int_equal(p.recipe.schedule.milestones[1], 5);
    assert_true(p.recipe.schedule.gamma == 0.2 && p.recipe.schedule.warmup == 0);
    assert_int_equal(p.recipe.loss.kind, KD_LOSS_MSE);
    close_parsed(&p);
}

static const char whole_recipe[] =
    "network: {family: mlp, hidden: [32, 16], batch-norm: false}\n"
    "data: npy:x.npy,y.npy\n"
    "test: npy:x.npy,y.npy@0:10\n"
    "labels: soft-labels\n"
    "labels-view: clean\n"
    "augment: flip\n"
    "holdout: 0.25\n"
    "epochs: 12\n"
    "batch: 64\n"
    "seed: 5\n"
    "optimizer: {lr: 0.05, momentum: 0.8, nesterov: false, weight-decay: 1e-4,\n"
    "            decay-weights-only: true}\n"
    "schedule: {kind: multistep, warmup: 0.5, milestones: [6, 9], gamma: 0.25}\n"
    "loss: {hard: 0.5, soft: 2, temperature: 3, distance: kl, direction: reverse,\n"
    "       reduction: elemmean, t-squared: false}\n";

static void a_whole_recipe_is_read_from_yaml(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, "--config", write_yaml(whole_recipe));
    assert_parsed(&p);
    assert_int_equal(p.recipe.arch.family, KD_FAMILY_MLP);
    assert_int_equal(p.recipe.arch.hidden[1], 16);
    assert_false(p.recipe.arch.batch_norm);
    assert_string_equal(p.recipe.test, "npy:x.npy,y.npy@0:10");
    assert_int_equal(p.recipe.labels_view, KD_LABELS_CLEAN_VIEW);
    assert_int_equal(p.recipe.epochs, 12);
    assert_true(p.recipe.schedule.lr == 0.05 && p.recipe.sgd.momentum == 0.8);
    assert_true(!p.recipe.sgd.nesterov && p.recipe.sgd.decay_weights_only);
    assert_int_equal(p.recipe.schedule.milestones[1], 9);
    assert_true(p.recipe.loss.hard == 0.5 && p.recipe.loss.soft == 2);
    assert_true(p.recipe.loss.temperature == 3 && !p.recipe.loss.t_squared);
    assert_int_equal(p.recipe.loss.direction, KD_REVERSE);
    close_parsed(&p);
}

static void the_command_line_beats_the_recipe(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, "--lr=1", "--config", write_yaml(whole_recipe), "--network=plain4");
    assert_parsed(&p);
    assert_true(p.recipe.schedule.lr == 1 && p.recipe.sgd.momentum == 0.8);
    assert_int_equal(p.recipe.arch.family, KD_FAMILY_PLAIN);
    close_parsed(&p);
}

static void assert_refused(struct parsed *p, enum kd_status status, const char *words)
{
    if (p->status != status)
        fail_msg("status %d, '%s'", p->status, kd_error());
    assert_says(words);
    close_parsed(p);
}

static void an_unknown_key_is_refused_with_its_place_and_the_nearest(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, "--config", write_yaml("epochs: 3\nloss: {temprature: 4}\n"));
    assert_refused(&p, KD_ERECIPE, "recipe.yaml:2:8");
    assert_says("temperature");
    PARSE(&p, BASE, "--config", write_yaml("loss: {distance: klo}\n"));
    assert_refused(&p, KD_ERECIPE, "kl, ce, mse");
}

static void values_out_of_range_are_refused(void **state)
{
    static const char *const bad[] = {
        "--epochs=0",    "--batch=0",     "--batch=65537",   "--lr=0",
        "--lr=nan",      "--momentum=1",  "--gamma=0",       "--gamma=1.5",
        "--hard=-1",     "--soft=inf",    "--temperature=0", "--warmup=-1",
        "--distance=l1", "--epochs=many", "--labels-view=2"};
    struct parsed p;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char name[32];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(bad[i], "="), bad[i]);
        PARSE(&p, BASE, bad[i]);
        assert_refused(&p, KD_EUSAGE, name);
    }
}

static void network_and_data_must_be_given(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, "--data", "npy:x.npy");
    assert_refused(&p, KD_EUSAGE, "--network");
    PARSE(&p, "--network", "mlp");
    assert_refused(&p, KD_EUSAGE, "--data");
}

static void a_network_that_is_none_is_refused_with_its_place(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, "--data=npy:x", "--config", write_yaml("epochs: 2\nnetwork: resnet9\n"));
    assert_refused(&p, KD_ERECIPE, "recipe.yaml:2:10");
    PARSE(&p, "--data=npy:x", "--network", "lenet5");
    assert_refused(&p, KD_ERECIPE, "--network");
    assert_says("lenet5");
}

/* -- milestones ------------------------------------------------------------- */

static void milestones_that_make_no_sense_are_refused_with_their_place(void **state)
{
    char many[512] = "schedule: {kind: multistep, milestones: [1";
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, "--config",
          write_yaml("schedule:\n  kind: multistep\n  milestones: [60, 30]\n"));
    assert_refused(&p, KD_ERECIPE, "recipe.yaml:3:20: milestones must ascend");
    PARSE(&p, BASE, "--config",
          write_yaml("schedule: {kind: multistep, milestones: [5, 5]}\n"));
    assert_refused(&p, KD_ERECIPE, "must ascend");
    PARSE(&p, BASE, "--config",
          write_yaml("schedule: {kind: multistep, milestones: {a: 60}}\n"));
    assert_refused(&p, KD_ERECIPE, "recipe.yaml:1:41: milestones are a list");
    PARSE(&p, BASE, "--schedule=multistep", "--milestones=60,,70");
    assert_refused(&p, KD_ERECIPE, "--milestones:1:1: milestones: '60,,70': expected");
    PARSE(&p, BASE, "--schedule=multistep", "--milestones=60,sixty");
    assert_refused(&p, KD_ERECIPE, "--milestones:1:1: 'sixty'");
    PARSE(&p, BASE, "--schedule=multistep", "--milestones=60,50");
    assert_refused(&p, KD_ERECIPE, "milestones must ascend");
    PARSE(&p, BASE, "--config",
          write_yaml("schedule: {kind: multistep, milestones: [3, many]}\n"));
    assert_refused(&p, KD_ERECIPE, "recipe.yaml:1:45: 'many'");
    PARSE(&p, BASE, "--config",
          write_yaml("schedule: {kind: multistep, milestones: [0]}\n"));
    assert_refused(&p, KD_ERECIPE, "recipe.yaml:1:42: '0'");
    for (size_t i = 2; i <= KD_MAX_MILESTONES + 1; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), ", %zu", i);
    snprintf(many + strlen(many), sizeof many - strlen(many), "]}\n");
    PARSE(&p, BASE, "--config", write_yaml(many));
    assert_refused(&p, KD_ERECIPE, "1 to 32");
    PARSE(&p, BASE, "--schedule=multistep", "--milestones=[2, 1]");
    assert_refused(&p, KD_ERECIPE, "--milestones:1:5: milestones must ascend");
}

static void epochs_may_have_commas_between_them(void **state)
{
    char many[256] = "--milestones=1";
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, "--schedule=multistep", "--milestones=60, 120",
          "--keep-epochs=1,2,30");
    assert_parsed(&p);
    assert_int_equal(p.recipe.schedule.num_milestones, 2);
    assert_int_equal(p.recipe.schedule.milestones[0], 60);
    assert_int_equal(p.recipe.schedule.milestones[1], 120);
    assert_int_equal(p.recipe.footsteps.count, 3);
    assert_int_equal(p.recipe.footsteps.epochs[2], 30);
    close_parsed(&p);
    PARSE(&p, BASE, "--config",
          write_yaml("keep-epochs: [7]\nstages:\n"
                     "  - {schedule: multistep, milestones: '3,5'}\n"));
    assert_parsed(&p);
    assert_int_equal(p.recipe.footsteps.count, 1);
    assert_int_equal(p.recipe.footsteps.epochs[0], 7);
    assert_int_equal(p.recipe.stages[0].schedule.milestones[1], 5);
    close_parsed(&p);
    PARSE(&p, BASE, "--keep-epochs=5,31");
    assert_refused(&p, KD_ERECIPE, "'31'");
    PARSE(&p, BASE, "--keep-epochs=evry 10");
    assert_refused(&p, KD_ERECIPE, "must be 'every N' or a list of epochs");
    for (size_t i = 2; i <= KD_MAX_MILESTONES + 1; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), ",%zu", i);
    PARSE(&p, BASE, "--schedule=multistep", many);
    assert_refused(&p, KD_ERECIPE, "1 to 32");
}

static void multistep_needs_milestones(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, "--schedule=multistep");
    assert_refused(&p, KD_ERECIPE, "multistep needs its milestones");
}

/* -- what belongs together ---------------------------------------------------- */

static void options_that_would_make_no_difference_are_refused(void **state)
{
    static const char *const bad[][2] = {{"--beta1=0.8", "adam or adamw"},
                                         {"--epsilon=1e-7", "adam or adamw"},
                                         {"--milestones=[3, 5]", "multistep"},
                                         {"--gamma=0.5", "step or multistep"},
                                         {"--every=3", "schedule step"},
                                         {"--shuffle-block=16", "shuffle block"},
                                         {"--shuffle-window=16", "shuffle block"}};
    struct parsed p;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        PARSE(&p, BASE, bad[i][0]);
        assert_refused(&p, KD_ERECIPE, bad[i][1]);
    }
    PARSE(&p, BASE, "--optimizer=adam", "--momentum=0.5");
    assert_refused(&p, KD_ERECIPE, "momentum: means something with optimizer sgd");
    PARSE(&p, BASE, "--config", write_yaml("schedule: {gamma: 0.5}\n"));
    assert_refused(&p, KD_ERECIPE, "gamma: means something with schedule step");
}

static void epochs_are_judged_by_samples_that_are_there(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, "--patience=3");
    assert_refused(&p, KD_ERECIPE, "--holdout 0.1");
    PARSE(&p, BASE, "--patience=3", "--test=npy:t.npy"); /* not by the test set */
    assert_refused(&p, KD_ERECIPE, "--holdout 0.1");
    PARSE(&p, BASE, "--select=test");
    assert_refused(&p, KD_ERECIPE, "no test set");
    PARSE(&p, BASE, "--patience=3", "--test=npy:t.npy", "--select=test");
    assert_parsed(&p);
    close_parsed(&p);
}

static void a_holdout_is_a_share_or_ids(void **state)
{
    static const char *const bad[] = {"0",   "1",  "1.5", "-1",    "many", "5:5",
                                      "6:5", ":5", "5:",  "1:2:3", ":"};
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, "--holdout=40:50");
    assert_parsed(&p);
    assert_true(p.recipe.holdout.share == 0);
    assert_int_equal(p.recipe.holdout.first, 40);
    assert_int_equal(p.recipe.holdout.end, 50);
    close_parsed(&p);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char option[32];
        snprintf(option, sizeof option, "--holdout=%s", bad[i]);
        PARSE(&p, BASE, option);
        assert_refused(&p, KD_ERECIPE, "must be a share between 0 and 1, or ids A:B");
    }
}

/* -- weights ---------------------------------------------------------------- */

static void without_soft_labels_the_loss_is_the_cross_entropy(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, BASE);
    assert_parsed(&p);
    assert_true(p.recipe.loss.hard == 1 && p.recipe.loss.soft == 0);
    close_parsed(&p);
    PARSE(&p, BASE, "--hard=0.5", "--soft=3");
    assert_parsed(&p);
    assert_true(p.recipe.loss.hard == 0.5 && p.recipe.loss.soft == 0);
    close_parsed(&p);
    PARSE(&p, BASE, "--config", write_yaml("loss: {hard: 0.25}\n"));
    assert_parsed(&p);
    assert_true(p.recipe.loss.hard == 0.25);
    close_parsed(&p);
    PARSE(&p, BASE, "--labels=c", "--stages=[{labels: none}, {}, {hard: 0.5}]");
    assert_parsed(&p);
    assert_true(p.recipe.stages[0].loss.hard == 1);
    assert_true(p.recipe.stages[1].loss.hard == 0.1);
    assert_true(p.recipe.stages[2].loss.hard == 0.5);
    close_parsed(&p);
}

static void a_loss_without_any_weight_is_refused(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, "--hard=0");
    assert_refused(&p, KD_ERECIPE, "nothing to learn");
    PARSE(&p, BASE, "--labels=c", "--hard=0", "--soft=0");
    assert_refused(&p, KD_ERECIPE, "nothing to learn");
    PARSE(&p, BASE, "--labels=c", "--hard=0");
    assert_parsed(&p);
    close_parsed(&p);
}

/* -- the text --------------------------------------------------------------- */

static const char *const digests[KD_MAX_STAGES] = {"LABELS", "MORE", "LAST"};

/* The text that a run is known by: a change here makes runs that were begun with an
 * earlier version ones of another recipe. */
static void the_text_of_a_recipe_is_this(void **state)
{
    static const char expected[] =
        "network: {family: mlp, hidden: [32, 16], batch-norm: false}\n"
        "data: DATA\n"
        "test: TEST\n"
        "labels: LABELS\n"
        "labels-view: clean tail spread missing error\n"
        "augment: flip\n"
        "epochs: 12\n"
        "batch: 64\n"
        "seed: 5\n"
        "shuffle: full\n"
        "holdout: 0.25 select holdout patience 0\n"
        "optimizer: sgd momentum 0.80000000000000004 nesterov 0 weight-decay "
        "0.0001 weights only clip 0 ema 0\n"
        "schedule: multistep lr 0.050000000000000003 warmup 0.5 gamma 0.25 6 9\n"
        "loss: hard 0.5 soft 2 temperature 3 kl reverse elemmean smoothing 0\n";
    struct parsed p;
    char *text = NULL;

    (void)state;
    PARSE(&p, "--config", write_yaml(whole_recipe));
    assert_parsed(&p);
    text = kd_recipe_text(&p.recipe, "DATA", "TEST", digests);
    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
    close_parsed(&p);
}

/* The text of a recipe with one more option. */
static char *text_with(const char *option)
{
    struct parsed p;
    char *text = NULL;

    PARSE(&p, "--config", write_yaml(whole_recipe), option);
    assert_parsed(&p);
    text = kd_recipe_text(&p.recipe, "DATA", "TEST", digests);
    assert_non_null(text);
    close_parsed(&p);
    return text;
}

static void every_value_that_decides_is_in_the_text(void **state)
{
    static const char *const options[] = {"--network=mlp",
                                          "--labels-view=same",
                                          "--augment=none",
                                          "--epochs=13",
                                          "--batch=65",
                                          "--seed=6",
                                          "--lr=0.050000000000001",
                                          "--momentum=0.7",
                                          "--nesterov",
                                          "--weight-decay=0",
                                          "--tail=renorm",
                                          "--missing=skip",
                                          "--shuffle=block",
                                          "--holdout=0.1",
                                          "--holdout=5:10",
                                          "--select=test",
                                          "--patience=3",
                                          "--clip=1",
                                          "--ema=0.9",
                                          "--label-smoothing=0.1",
                                          "--no-decay-weights-only",
                                          "--warmup=0",
                                          "--milestones=[6]",
                                          "--gamma=0.5",
                                          "--hard=0.25",
                                          "--soft=1",
                                          "--temperature=4",
                                          "--distance=ce",
                                          "--t-squared",
                                          "--direction=forward",
                                          "--reduction=batchmean",
                                          "--scale=0.5",
                                          "--anneal=4",
                                          "--ramp=sigmoid",
                                          "--labels=virtual",
                                          "--stages=[{}]"};
    char *same = text_with("--lr=0.05");

    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        char *text = text_with(options[i]);
        if (strcmp(text, same) == 0)
            fail_msg("%s makes no difference", options[i]);
        free(text);
    }
    free(same);
}

static void names_of_inputs_are_not_in_the_text(void **state)
{
    char *a = text_with("--data=npy:elsewhere.npy"), *b = text_with("--labels=other");
    char *c = text_with("--no-verify");

    (void)state;
    assert_string_equal(a, b);
    assert_string_equal(a, c);
    free(a);
    free(b);
    free(c);
}

/* -- stages -------------------------------------------------------------------- */

static const char staged_recipe[] =
    "network: mlp\n"
    "data: npy:x.npy\n"
    "labels: all\n"
    "epochs: 5\n"
    "optimizer: {lr: 0.2}\n"
    "schedule: {kind: step, every: 2}\n"
    "loss: {hard: 0.3, temperature: 2}\n"
    "stages:\n"
    "  - {labels: first, epochs: 7, temperature: 3, scale: 0.5, anneal: 7}\n"
    "  - {schedule: multistep, milestones: [2, 4], optimizer: keep, distance: mse,\n"
    "     hard: 0, ramp: sigmoid, ramp-epochs: 3, labels-view: clean}\n"
    "  - {labels: virtual, epochs: 1, virtual-correct: 0.9, virtual-temperature: 20,\n"
    "     virtual-soften: softmax-of-prob, reduction: elemmean, t-squared: false}\n"
    "  - {labels: none, epochs: 2, lr: 0.01, schedule: constant, warmup: ~}\n";

static void a_stage_is_the_recipe_but_for_what_it_says(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, "--config", write_yaml(staged_recipe));
    assert_parsed(&p);
    assert_int_equal(p.recipe.num_stages, 4);
    assert_int_equal(p.recipe.all_epochs, 15);
    const struct kd_stage *s = p.recipe.stages;
    assert_string_equal(s[0].labels, "first");
    assert_true(s[0].epochs == 7 && s[0].before == 0 && s[0].reset);
    assert_true(s[0].loss.hard == 0.3 && s[0].loss.soft == 0.9);
    assert_true(s[0].loss.temperature == 3 && s[0].scale == 0.5 && s[0].anneal == 7);
    assert_true(s[0].schedule.kind == KD_STEP && s[0].schedule.every == 2);
    assert_string_equal(s[1].labels, "all");
    assert_true(s[1].epochs == 5 && s[1].before == 7 && !s[1].reset);
    assert_true(s[1].schedule.kind == KD_MULTISTEP && s[1].schedule.milestones[1] == 4);
    assert_true(s[1].loss.hard == 0 && s[1].loss.temperature == 2);
    assert_int_equal(s[1].loss.kind, KD_LOSS_MSE);
    assert_true(s[1].ramp.kind == KD_RAMP_SIGMOID && s[1].ramp.epochs == 3);
    assert_int_equal(s[1].labels_view, KD_LABELS_CLEAN_VIEW);
    assert_true(s[1].scale == 1 && s[1].anneal == 0);
    assert_string_equal(s[2].labels, "virtual");
    assert_true(s[2].teacher.correct == 0.9 && s[2].teacher.temperature == 20);
    assert_int_equal(s[2].teacher.soften, KD_SOFTEN_SOFTMAX);
    assert_true(s[2].loss.reduction == KD_ELEMMEAN && !s[2].loss.t_squared);
    assert_true(s[2].loss.kind == KD_LOSS_KL && s[2].schedule.lr == 0.2);
    assert_null(s[3].labels);
    assert_true(s[3].loss.hard == 0.3 && s[3].loss.soft == 0 && s[3].before == 13);
    assert_true(s[3].schedule.kind == KD_CONSTANT && s[3].schedule.lr == 0.01);
    assert_true(s[3].schedule.warmup == 1); /* a null is nothing said */
    close_parsed(&p);
}

static void a_recipe_without_stages_is_one(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, "--labels=c", "--epochs=9", "--anneal=9");
    assert_parsed(&p);
    assert_int_equal(p.recipe.num_stages, 1);
    assert_int_equal(p.recipe.all_epochs, 9);
    assert_string_equal(p.recipe.stages[0].labels, "c");
    assert_int_equal(p.recipe.stages[0].anneal, 9);
    assert_int_equal(kd_recipe_stage(&p.recipe, 9), 0);
    close_parsed(&p);
    PARSE(&p, BASE, "--labels=none", "--hard=0.05"); /* the control of Tf-KD */
    assert_parsed(&p);
    assert_null(p.recipe.stages[0].labels);
    assert_true(p.recipe.loss.hard == 0.05 && p.recipe.loss.soft == 0);
    close_parsed(&p);
}

static void a_stages_epochs_are_counted_from_its_first_or_the_runs(void **state)
{
    const size_t stage_of[15] = {0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 3, 3};
    struct parsed p;

    (void)state;
    for (int over = KD_OVER_STAGE; over <= KD_OVER_RUN; over++) {
        PARSE(&p, "--config", write_yaml(staged_recipe), "--schedule-over",
              over == KD_OVER_RUN ? "run" : "stage");
        assert_parsed(&p);
        assert_int_equal(p.recipe.over, over);
        for (uint64_t epoch = 1; epoch <= 15; epoch++) {
            const size_t i = kd_recipe_stage(&p.recipe, epoch);
            const struct kd_stage *s = &p.recipe.stages[i];
            const struct kd_count count = kd_recipe_count(&p.recipe, s, epoch);
            assert_int_equal(i, stage_of[epoch - 1]);
            assert_int_equal(count.now, epoch - 1 - (over ? 0 : s->before));
            assert_int_equal(count.all, over ? 15 : s->epochs);
        }
        close_parsed(&p);
    }
}

static void stages_that_make_no_sense_are_refused_with_their_place(void **state)
{
    static const char *const bad[][2] = {
        {"[]", "recipe.yaml:1:9: stages are a list of 1 to 64"},
        {"{epochs: 3}", "a list of 1 to 64"},
        {"[3]", "recipe.yaml:1:10"},
        {"[{epochs: 1, epoch: 2}]", "did you mean 'epochs'?"},
        {"[{batch: 4}]", "recipe.yaml:1:11: unknown key 'batch'"},
        {"[{epochs: 0}]", "recipe.yaml:1:19: '0'"},
        {"[{lr: 2000}]", "'2000'"},
        {"[{optimizer: sgd}]", "keep, reset"},
        {"[{distance: l1}]", "kl, ce, mse"},
        {"[{t-squared: 2}]", "true or false"},
        {"[{labels: [a, [b]]}]", "recipe.yaml:1:23: expected one value for each"},
        {"[{labels: {a: b}}]", "recipe.yaml:1:19"},
        {"[{loss: {hard: 0.5}}]",
         "recipe.yaml:1:17: a stage's keys are flat, the names "
         "of options: hard, not loss: {hard: ...}"},
        {"[{optimizer: {lr: 0.5}}]", "flat, the names of options: lr, not optimizer"},
        {"[{schedule: {kind: step}}]", "of options: schedule, not schedule: {kind:"},
        {"[{optimizer: {ema: 0.9}}]", "a stage has no optimizer.ema of its own"},
        {"[{optimizer: {kind: adam}}]", "a stage has no optimizer.kind of its own"},
        {"[{loss: 3}]", "unknown key 'loss'"},
        {"[{}, {schedule: multistep}]", "multistep needs its milestones"},
        {"[{schedule: multistep, milestones: [3, 2]}]", "milestones must ascend"},
        {"[{}, {gamma: 0.5}]", "recipe.yaml:1:22: gamma: means something with"},
        {"[{ramp-epochs: 5}]", "ramp-epochs: means something with a ramp alone"},
        {"[{labels: c, virtual-correct: 0.9}]", "with labels virtual alone"},
        {"[{labels: c, ramp: linear, hard: 0}]", "the first epoch would learn nothing"},
        {"[{labels: none, hard: 0}]", "recipe.yaml:1:10: loss: hard and soft"},
        {"[{labels: c, anneal: 31}]", "31 steps do not fit in 30 epochs"},
        {"[{labels: '-'}, {labels: '-'}]", "stdin can be read once"},
        {"[{labels: 'a,-,-'}]", "'-' twice"},
        {"[{labels: c, labels-order: random}]", "with several caches in turn alone"},
        {"[{labels: 'a,b', policy: vote, labels-order: random}]",
         "labels-order: means something with several caches in turn alone"},
        {"[{labels: 'a,b', policy: mean}]", "mean-prob, mean-logit"},
        {"[{labels: 'a,b', weights: '1,2'}]", "weights: means something with a policy"},
        {"[{labels: virtual, policy: vote}]", "policy: means something with caches"},
        {"[{labels: 'a,b', policy: vote, merge-holdou: x}]", "'merge-holdout'?"}};
    struct parsed p;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[128];
        snprintf(text, sizeof text, "stages: %s\n", bad[i][0]);
        PARSE(&p, BASE, "--config", write_yaml(text));
        assert_refused(&p, KD_ERECIPE, bad[i][1]);
    }
    PARSE(&p, BASE, "--stages=[{}]", "--patience=3", "--holdout=0.1");
    assert_refused(&p, KD_ERECIPE, "patience: means something without stages");
    PARSE(&p, BASE, "--schedule-over=run");
    assert_refused(&p, KD_ERECIPE, "schedule-over: means something with stages alone");
}

static void the_caches_of_a_stage_may_be_a_list(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, "--config",
          write_yaml("labels: [a, b]\nstages: [{}, {labels: [c, d,"
                     " e], labels-order: random}]\n"));
    assert_parsed(&p);
    assert_string_equal(p.recipe.stages[0].labels, "a,b");
    assert_string_equal(p.recipe.stages[1].labels, "c,d,e");
    close_parsed(&p);
}

/* --epochs that no stage would heed, unless it tells what the stages have. */
static void epochs_that_no_stage_heeds_are_refused(void **state)
{
    static const char stages[] = "--stages=[{epochs: 2}, {epochs: 3}]";
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, stages, "--epochs=4");
    assert_refused(&p, KD_ERECIPE, "epochs: 4: each stage has epochs of its own, 5 in");
    PARSE(&p, BASE, stages, "--epochs=5");
    assert_parsed(&p);
    close_parsed(&p);
    PARSE(&p, BASE, "--stages=[{epochs: 1}, {epochs: 1}]", "--epochs=1");
    assert_parsed(&p);
    close_parsed(&p);
    PARSE(&p, BASE, stages, "--config", write_yaml("epochs: 4\n"));
    assert_parsed(&p);
    close_parsed(&p);
    PARSE(&p, BASE, "--stages=[{epochs: 2}, {}]", "--epochs=4");
    assert_parsed(&p);
    assert_int_equal(p.recipe.all_epochs, 6);
    close_parsed(&p);
}

static void a_monitor_needs_soft_labels_somewhere(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, "--monitor=report");
    assert_refused(&p, KD_ERECIPE, "monitor: there are no soft labels to compare with");
    PARSE(&p, BASE, "--stages=[{}, {monitor: stop}]");
    assert_refused(&p, KD_ERECIPE, "monitor: there are no soft labels to compare with");
    PARSE(&p, BASE, "--stages=[{labels: none}, {labels: a}]", "--monitor=report");
    assert_parsed(&p);
    close_parsed(&p);
    PARSE(&p, BASE, "--labels=virtual", "--monitor=report");
    assert_parsed(&p);
    close_parsed(&p);
}

/* What the recipe says for a stage that heeds it is heeded. */
static void an_option_of_the_recipe_needs_one_stage_that_heeds_it(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, "--gamma=0.5", "--stages=[{}, {schedule: step}]");
    assert_parsed(&p);
    assert_true(p.recipe.stages[1].schedule.gamma == 0.5);
    close_parsed(&p);
    PARSE(&p, BASE, "--gamma=0.5", "--stages=[{}, {}]");
    assert_refused(&p, KD_ERECIPE, "gamma: means something with");
    PARSE(&p, BASE, "--virtual-correct=0.9", "--stages=[{labels: a}, {labels: b}]");
    assert_refused(&p, KD_ERECIPE, "with labels virtual alone");
}

static void a_stage_may_merge_its_caches(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, BASE, "--labels=a,b", "--policy=random", "--merge-seed=3", "--seed=2",
          "--stages=[{policy: leave-one-out, labels-order: random}, {merge-seed: 5},"
          " {labels: none}]");
    assert_parsed(&p);
    for (size_t i = 0; i < 3; i++)
        assert_true(kd_stage_merges(&p.recipe.stages[i]));
    assert_int_equal(p.recipe.stages[0].merge.policy.policy, KD_POLICY_LEAVE_ONE_OUT);
    assert_int_equal(p.recipe.stages[1].merge.policy.policy, KD_POLICY_RANDOM);
    assert_int_equal(p.recipe.stages[0].merge.policy.seed, 3);
    assert_int_equal(p.recipe.stages[1].merge.policy.seed, 5);
    assert_int_equal(p.recipe.seed, 2);
    close_parsed(&p);
    PARSE(&p, BASE, "--labels=a,b");
    assert_parsed(&p);
    assert_false(kd_stage_merges(&p.recipe.stages[0]));
    close_parsed(&p);
    PARSE(&p, BASE, "--labels=a,b", "--merge-missing=skip");
    assert_refused(&p, KD_ERECIPE,
                   "merge-missing: means something with a policy alone");
}

static void the_text_of_stages_is_this(void **state)
{
    static const char expected[] =
        "schedule-over: stage\n"
        "stage 1 epochs: 2 optimizer reset\n"
        "stage 1 labels: LABELS\n"
        "stage 1 labels-view: same tail spread missing error\n"
        "stage 1 schedule: constant lr 0.5 warmup 0\n"
        "stage 1 loss: hard 1 soft 0.5 temperature 2 mse forward batchmean t-squared "
        "smoothing 0 scale 0.5 anneal 2\n"
        "stage 2 epochs: 3 optimizer keep\n"
        "stage 2 labels: MORE correct 0.75 temperature 20 power\n"
        "stage 2 labels-view: same tail bucket missing skip\n"
        "stage 2 schedule: constant lr 0.25 warmup 0\n"
        "stage 2 loss: hard 1 soft 0.5 temperature 4 kl forward batchmean t-squared "
        "smoothing 0 ramp linear 2\n";
    struct parsed p;
    char *text = NULL;

    (void)state;
    PARSE(&p, BASE, "--lr=0.5", "--schedule=constant", "--warmup=0", "--hard=1",
          "--soft=0.5", "--epochs=2",
          "--stages=[{labels: a, temperature: 2, distance: mse, scale: 0.5, anneal: 2},"
          " {labels: virtual, epochs: 3, optimizer: keep, virtual-correct: 0.75,"
          " virtual-temperature: 20, tail: bucket, missing: skip, lr: 0.25,"
          " ramp: linear, ramp-epochs: 2}]");
    assert_parsed(&p);
    text = kd_recipe_text(&p.recipe, "DATA", "TEST", digests);
    assert_non_null(text);
    assert_non_null(strstr(text, "\nepochs: 5\n"));
    const char *stages = strstr(text, "schedule-over");
    assert_non_null(stages);
    assert_string_equal(stages, expected);
    free(text);
    close_parsed(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_help),
        cmocka_unit_test(every_option_reaches_the_recipe),
        cmocka_unit_test(a_whole_recipe_is_read_from_yaml),
        cmocka_unit_test(the_command_line_beats_the_recipe),
        cmocka_unit_test(an_unknown_key_is_refused_with_its_place_and_the_nearest),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(network_and_data_must_be_given),
        cmocka_unit_test(a_network_that_is_none_is_refused_with_its_place),
        cmocka_unit_test(milestones_that_make_no_sense_are_refused_with_their_place),
        cmocka_unit_test(epochs_may_have_commas_between_them),
        cmocka_unit_test(multistep_needs_milestones),
        cmocka_unit_test(options_that_would_make_no_difference_are_refused),
        cmocka_unit_test(epochs_are_judged_by_samples_that_are_there),
        cmocka_unit_test(a_holdout_is_a_share_or_ids),
        cmocka_unit_test(without_soft_labels_the_loss_is_the_cross_entropy),
        cmocka_unit_test(a_loss_without_any_weight_is_refused),
        cmocka_unit_test(the_text_of_a_recipe_is_this),
        cmocka_unit_test(every_value_that_decides_is_in_the_text),
        cmocka_unit_test(names_of_inputs_are_not_in_the_text),
        cmocka_unit_test(a_stage_is_the_recipe_but_for_what_it_says),
        cmocka_unit_test(a_recipe_without_stages_is_one),
        cmocka_unit_test(a_stages_epochs_are_counted_from_its_first_or_the_runs),
        cmocka_unit_test(stages_that_make_no_sense_are_refused_with_their_place),
        cmocka_unit_test(the_caches_of_a_stage_may_be_a_list),
        cmocka_unit_test(epochs_that_no_stage_heeds_are_refused),
        cmocka_unit_test(a_monitor_needs_soft_labels_somewhere),
        cmocka_unit_test(an_option_of_the_recipe_needs_one_stage_that_heeds_it),
        cmocka_unit_test(a_stage_may_merge_its_caches),
        cmocka_unit_test(the_text_of_stages_is_this),
    };

    return cmocka_run_group_tests_name("recipe", tests, fixture_open, fixture_close);
}
