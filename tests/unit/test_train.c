/* SPDX-License-Identifier: MIT */
/* Training runs: their bytes, whatever happens to them on the way. */
#include "train_fixture.h"

/* -- the same run gives the same bytes --------------------------------------- */

static void the_same_run_gives_the_same_bytes(void **state)
{
    const char *const networks[] = {MLP, "--network=plain2", TINY_NORM};
    const char *data = data_name(true);

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char a[16], b[16];
        snprintf(a, sizeof a, "same-a%zu", i);
        snprintf(b, sizeof b, "same-b%zu", i);
        struct outcome first = TRAIN(a, NULL, networks[i], "--data", data, "--test",
                                     data, "--augment=crop1,flip", "--threads=1");
        struct outcome second = TRAIN(b, NULL, networks[i], "--data", data, "--test",
                                      data, "--augment=crop1,flip", "--threads=1");
        assert_done(&first);
        assert_done(&second);
        assert_same_run(a, b);
        assert_int_equal(count_lines(a), 3);
    }
}

/* Two steps alone: on a busy machine threads wait long for one another. */
static void the_same_number_of_threads_gives_the_same_bytes(void **state)
{
    (void)state;
    struct outcome a = TRAIN("threads-a", NULL, MLP, "--data", data_name(true),
                             "--threads=2", "--batch=32", "--epochs=1");
    struct outcome b = TRAIN("threads-b", NULL, MLP, "--data", data_name(true),
                             "--threads=2", "--batch=32", "--epochs=1");
    assert_done(&a);
    assert_done(&b);
    assert_same_run("threads-a", "threads-b");
}

static void data_in_another_container_give_the_same_network(void **state)
{
    char h5[16384];

    (void)state;
    snprintf(h5, sizeof h5, "hdf5:%s:/x,/y", fixture_path("xy.h5"));
    struct outcome a = TRAIN("npy", NULL, MLP, "--data", data_name(true));
    struct outcome b = TRAIN("hdf5", NULL, MLP, "--data", h5);
    assert_done(&a);
    assert_done(&b);
    assert_same_run("npy", "hdf5");
}

static void another_seed_gives_another_network(void **state)
{
    struct kd_model one, two;

    (void)state;
    struct outcome a = TRAIN("seed1", NULL, MLP, "--data", data_name(true));
    struct outcome b = TRAIN("seed2", NULL, MLP, "--data", data_name(true), "--seed=2");
    assert_done(&a);
    assert_done(&b);
    assert_int_equal(kd_model_open(in_run("seed1", "model.h5"), &one), KD_OK);
    assert_int_equal(kd_model_open(in_run("seed2", "model.h5"), &two), KD_OK);
    assert_false(kd_digest_equal(&one.digest, &two.digest));
    assert_true(metric("seed1", 1, "loss") != metric("seed2", 1, "loss"));
}

static void a_network_learns_the_classes(void **state)
{
    const char *data = data_name(true);
    struct kd_model model;

    (void)state;
    struct outcome run = TRAIN("learns", NULL, MLP, "--data", data, "--test", data,
                               "--epochs=8", "--lr=0.05");
    assert_done(&run);
    assert_true(metric("learns", 8, "loss") < 0.5 * metric("learns", 1, "loss"));
    assert_true(metric("learns", 8, "test_accuracy") > 0.95);
    assert_true(metric("learns", 8, "train_accuracy") > 0.95);
    assert_true(metric("learns", 8, "test_nll") < 0.5);
    assert_true(metric("learns", 8, "hard_loss") == metric("learns", 8, "loss"));
    assert_true(isnan(metric("learns", 8, "soft_loss")));
    assert_int_equal(kd_model_open(in_run("learns", "model.h5"), &model), KD_OK);
    assert_int_equal(model.epoch, 8);
    assert_int_equal(model.sizes.classes, CLASSES);
}

/* -- what a run trains on --------------------------------------------------- */

static void an_epoch_shows_every_sample_once(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run =
        TRAIN("every", NULL, FROZEN, "--data", data, "--test", data, "--batch=8");
    assert_done(&run);
    for (unsigned epoch = 1; epoch <= 3; epoch++) {
        assert_true(near(metric("every", epoch, "hard_loss"),
                         metric("every", epoch, "test_nll")));
        assert_true(near(metric("every", epoch, "train_accuracy"),
                         metric("every", epoch, "test_accuracy")));
    }
}

/* 40 of 64 samples, others each time. */
static void the_order_is_another_one_in_every_epoch(void **state)
{
    (void)state;
    struct outcome run =
        TRAIN("order", NULL, FROZEN, "--data", data_name(true), "--batch=40");
    assert_done(&run);
    assert_false(near(metric("order", 1, "loss"), metric("order", 2, "loss")));
    assert_false(near(metric("order", 2, "loss"), metric("order", 3, "loss")));
    assert_false(near(metric("order", 1, "loss"), metric("order", 3, "loss")));
}

static void an_epoch_trains_on_the_view_of_its_number(void **state)
{
    (void)state;
    struct outcome run =
        TRAIN("views", NULL, FROZEN, "--data", data_name(true), "--augment=crop2,flip");
    assert_done(&run);
    assert_false(near(metric("views", 1, "loss"), metric("views", 2, "loss")));
    assert_false(near(metric("views", 1, "loss"), metric("views", 3, "loss")));
}

static void cached_views_are_trained_on_in_turn(void **state)
{
    (void)state;
    struct outcome run = TRAIN("turns", NULL, FROZEN, "--data", data_name(true),
                               "--labels", fixture_path("soft"), "-T2");
    assert_done(&run);
    assert_false(
        near(metric("turns", 1, "hard_loss"), metric("turns", 2, "hard_loss")));
    assert_false(
        near(metric("turns", 1, "soft_loss"), metric("turns", 2, "soft_loss")));
    assert_true(near(metric("turns", 1, "hard_loss"), metric("turns", 3, "hard_loss")));
    assert_true(near(metric("turns", 1, "soft_loss"), metric("turns", 3, "soft_loss")));
}

/* -- interruptions ---------------------------------------------------------- */

/* Runs `name` into the trap, then to its end: with the bytes of the whole run. */
static void check_stopped(const char *name, const char *whole, const struct trap *at,
                          const char *network)
{
    const char *data = data_name(true);
    struct outcome run = TRAIN(name, at, network, "--data", data, "--test", data,
                               "--labels", fixture_path("soft"), "-T2");

    if (at->signal == SIGTERM)
        assert_outcome(&run, KD_EINTERRUPTED, "run the same command again");
    else
        assert_int_equal(run.status, -1);
    assert_false(there(name, "model.h5"));
    run = TRAIN(name, NULL, network, "--data", data, "--test", data, "--labels",
                fixture_path("soft"), "-T2");
    assert_done(&run);
    assert_same_run(name, whole);
}

/* With batch norm, momentum, soft labels of views and a test set: all that a run has
 * to remember. */
static void a_stopped_run_goes_on_to_the_same_bytes(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome whole = TRAIN("whole", NULL, TINY_NORM, "--data", data, "--test",
                                 data, "--labels", fixture_path("soft"), "-T2");
    assert_done(&whole);
    check_stopped("term", "whole", &(struct trap){"checkpoint.h5", 1, SIGTERM, false},
                  TINY_NORM);
}

/* With the thread that makes batches ready in the middle of one. */
static void a_run_on_two_threads_stops_and_goes_on(void **state)
{
    const struct trap at = {"checkpoint.h5", 1, SIGTERM, false};
    const char *data = data_name(true);

    (void)state;
    struct outcome whole = TRAIN("two", NULL, MLP, "--data", data, "--labels",
                                 fixture_path("soft"), "-T2", "--threads=2");
    assert_done(&whole);
    struct outcome run = TRAIN("two-term", &at, MLP, "--data", data, "--labels",
                               fixture_path("soft"), "-T2", "--threads=2");
    assert_outcome(&run, KD_EINTERRUPTED, "run the same command again");
    run = TRAIN("two-term", NULL, MLP, "--data", data, "--labels", fixture_path("soft"),
                "-T2", "--threads=2");
    assert_done(&run);
    assert_same_run("two-term", "two");
}

static void a_run_killed_at_any_file_goes_on_to_the_same_bytes(void **state)
{
    const struct trap traps[] = {
        {"recipe.txt", 1, SIGKILL, true},     {"metrics.jsonl", 2, SIGKILL, true},
        {"checkpoint.h5", 1, SIGKILL, true},  {"metrics.jsonl", 3, SIGKILL, false},
        {"checkpoint.h5", 2, SIGKILL, true},  {"checkpoint.h5", 3, SIGTERM, true},
        {"checkpoint.h5", 3, SIGKILL, false}, {"model.h5", 1, SIGKILL, true}};
    const char *data = data_name(true);

    (void)state;
    struct outcome whole = TRAIN("mlp-whole", NULL, MLP, "--data", data, "--test", data,
                                 "--labels", fixture_path("soft"), "-T2");
    assert_done(&whole);
    for (size_t i = 0; i < sizeof traps / sizeof traps[0]; i++) {
        char name[16];
        snprintf(name, sizeof name, "mlp-%zu", i);
        if (traps[i].signal == SIGKILL)
            check_stopped(name, "mlp-whole", &traps[i], MLP);
    }
}

/* Asked to stop when only the network is still to be saved, a run saves it. */
static void a_signal_behind_the_last_step_does_not_lose_the_network(void **state)
{
    const struct trap at = {"checkpoint.h5", 3, SIGTERM, true};

    (void)state;
    struct outcome run = TRAIN("late", &at, MLP, "--data", data_name(true));
    assert_done(&run);
    assert_true(there("late", "model.h5"));
}

static void an_interrupted_run_leaves_its_checkpoint_and_its_metrics(void **state)
{
    const struct trap at = {"checkpoint.h5", 2, SIGTERM, false};

    (void)state;
    struct outcome run = TRAIN("left", &at, MLP, "--data", data_name(true));
    assert_outcome(&run, KD_EINTERRUPTED, "training: interrupted");
    assert_int_equal(count_lines("left"), 2);
    assert_true(there("left", "checkpoint.h5"));
    assert_true(there("left", "recipe.txt"));
    assert_false(there("left", "model.h5"));
    assert_false(there("left", "model.h5.part"));
}

static void a_finished_run_is_left_as_it_is(void **state)
{
    static const char *const files[] = {"model.h5", "metrics.jsonl", "run.jsonl",
                                        "recipe.txt", "checkpoint.h5"};
    struct stat before[5], after;

    (void)state;
    struct outcome run = TRAIN("finished", NULL, MLP, "--data", data_name(true));
    assert_done(&run);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(stat(in_run("finished", files[i]), &before[i]), 0);
    run = TRAIN("finished", NULL, MLP, "--data", data_name(true));
    assert_done(&run);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(stat(in_run("finished", files[i]), &after), 0);
        assert_int_equal(after.st_ino, before[i].st_ino);
        assert_int_equal(after.st_size, before[i].st_size);
        assert_memory_equal(&after.st_mtim, &before[i].st_mtim, sizeof after.st_mtim);
    }
}

static void a_network_that_was_removed_is_saved_again(void **state)
{
    (void)state;
    struct outcome run = TRAIN("removed", NULL, MLP, "--data", data_name(true));
    assert_done(&run);
    assert_int_equal(renameat(AT_FDCWD, in_run("removed", "model.h5"), AT_FDCWD,
                              fixture_path("kept.h5")),
                     0);
    run = TRAIN("removed", NULL, MLP, "--data", data_name(true));
    assert_done(&run);
    assert_same_file(in_run("removed", "model.h5"), fixture_path("kept.h5"));
}

static void another_recipe_in_the_same_directory_is_refused(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run = TRAIN("taken", NULL, MLP, "--data", data);
    assert_done(&run);
    run = TRAIN("taken", NULL, MLP, "--data", data, "--batch=8", "--lr=0.5");
    assert_outcome(&run, KD_EUSAGE, "'batch: 16' there, 'batch: 8' here");
    assert_non_null(strstr(run.error, "taken/checkpoint.h5"));
    assert_non_null(strstr(run.error, "choose another directory"));
    run = TRAIN("taken", NULL, MLP, "--data", data, "--hard=0.5");
    assert_outcome(&run, KD_EUSAGE, "'loss: hard 1 ");
    char *slice = kd_format("%s@0:48", data);
    run = TRAIN("taken", NULL, MLP, "--data", slice);
    assert_outcome(&run, KD_EUSAGE, "ids 0 to 47' here");
    free(slice);
    run = TRAIN("taken", NULL, MLP, "--data", data);
    assert_done(&run);
}

/* -- what is held out, and the best epoch --------------------------------------- */

/* Held-out samples and the others together are all samples. */
static void what_is_held_out_is_not_trained_on(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run =
        TRAIN("held", NULL, FROZEN, "--data", data, "--test", data, "--holdout=0.25");
    assert_done(&run);
    for (unsigned epoch = 1; epoch <= 3; epoch++)
        assert_true(near(0.75 * metric("held", epoch, "hard_loss") +
                             0.25 * metric("held", epoch, "holdout_nll"),
                         metric("held", epoch, "test_nll")));
    run = TRAIN("held-ids", NULL, FROZEN, "--data", data, "--holdout=48:64");
    assert_done(&run);
    char *slice = kd_format("%s@48:64", data);
    run = TRAIN("held-rest", NULL, FROZEN, "--data", data, "--test", slice);
    assert_done(&run);
    assert_true(
        near(metric("held-ids", 1, "holdout_nll"), metric("held-rest", 1, "test_nll")));
    free(slice);
    run = TRAIN("held-none", NULL, MLP, "--data", data, "--holdout=60:70");
    assert_outcome(&run, KD_EUSAGE, "holdout: ids 60 to 69");
}

/* A network that does not change is best at first. */
static void a_run_stops_when_no_epoch_is_better_any_more(void **state)
{
    struct kd_model best, last;

    (void)state;
    for (unsigned i = 0; i < 2; i++) { /* the second time it is done already */
        struct outcome run =
            TRAIN("early", NULL, FROZEN, "--clip=1e-9", "--data", data_name(true),
                  "--holdout=0.25", "--epochs=10", "--patience=2");
        assert_done(&run);
        assert_int_equal(count_lines("early"), 3);
    }
    assert_int_equal(kd_model_open(in_run("early", "best.h5"), &best), KD_OK);
    assert_int_equal(kd_model_open(in_run("early", "model.h5"), &last), KD_OK);
    assert_int_equal(best.epoch, 1);
    assert_int_equal(last.epoch, 3);
}

static void the_best_epoch_is_that_of_the_samples_it_is_chosen_by(void **state)
{
    const char *data = data_name(true);

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const char *name = i == 0 ? "by-holdout" : "by-test";
        const char *key = i == 0 ? "holdout_accuracy" : "test_accuracy";
        struct kd_model best;
        struct outcome run = TRAIN(
            name, NULL, MLP, "--data", data, "--test", data, "--holdout=0.25",
            i == 0 ? "--select=holdout" : "--select=test", "--epochs=6", "--lr=0.02");
        assert_done(&run);
        assert_int_equal(kd_model_open(in_run(name, "best.h5"), &best), KD_OK);
        for (unsigned epoch = 1; epoch <= 6; epoch++)
            assert_true(metric(name, epoch, key) <=
                        metric(name, (unsigned)best.epoch, key));
    }
    struct outcome run =
        TRAIN("no-best", NULL, MLP, "--data", data, "--test", data, "--epochs=1");
    assert_done(&run);
    assert_false(there("no-best", "best.h5"));
}

/* -- steps ------------------------------------------------------------------------ */

/* The learned values of a saved network, one behind the other. */
static float *learned(const char *path, size_t *count)
{
    struct kd_model model;
    struct kd_network *net = NULL;
    float *values = NULL;

    assert_int_equal(kd_model_open(path, &model), KD_OK);
    assert_int_equal(kd_network_build(&model.arch, &model.sizes, 1, false, &net),
                     KD_OK);
    assert_int_equal(kd_model_load(path, net->graph), KD_OK);
    values = calloc(kd_network_count(net), sizeof *values);
    *count = 0;
    for (size_t i = 0; i < kd_graph_num_parameters(net->graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(net->graph, i);
        if (!p->trained)
            continue;
        kd_parameter_get(p, p->value, values + *count);
        *count += p->count;
    }
    kd_network_free(net);
    return values;
}

/* One step of plain gradient descent. */
#define ONE_STEP                                                                       \
    "--epochs=1", "--batch=64", "--momentum=0", "--no-nesterov", "--weight-decay=0",   \
        "--schedule=constant", "--warmup=0",                                           \
        "--network={family: mlp, hidden: [16], batch-norm: false}"

static void a_long_gradient_is_cut_to_its_length(void **state)
{
    const char *data = data_name(true);
    size_t count = 0;
    double squares = 0;

    (void)state;
    struct outcome run = TRAIN("start", NULL, ONE_STEP, "--data", data, "--lr=1e-9");
    assert_done(&run);
    run = TRAIN("cut", NULL, ONE_STEP, "--data", data, "--lr=1", "--clip=0.125");
    assert_done(&run);
    run = TRAIN("whole-step", NULL, ONE_STEP, "--data", data, "--lr=1");
    assert_done(&run);
    run = TRAIN("uncut", NULL, ONE_STEP, "--data", data, "--lr=1", "--clip=1000");
    assert_done(&run);
    float *before = learned(in_run("start", "model.h5"), &count);
    float *after = learned(in_run("cut", "model.h5"), &count);
    for (size_t i = 0; i < count; i++)
        squares += pow((double)after[i] - (double)before[i], 2);
    assert_true(fabs(sqrt(squares) - 0.125) < 1e-5);
    free(after);
    after = learned(in_run("whole-step", "model.h5"), &count);
    float *same = learned(in_run("uncut", "model.h5"), &count);
    assert_memory_equal(after, same, count * sizeof *after);
    free(before);
    free(after);
    free(same);
}

static void the_average_of_the_weights_is_saved(void **state)
{
    const char *data = data_name(true);
    size_t count = 0;

    (void)state;
    struct outcome run = TRAIN("first", NULL, ONE_STEP, "--data", data, "--lr=1e-9");
    assert_done(&run);
    run = TRAIN("moved", NULL, ONE_STEP, "--data", data, "--lr=0.5");
    assert_done(&run);
    run = TRAIN("mean", NULL, ONE_STEP, "--data", data, "--lr=0.5", "--ema=0.75");
    assert_done(&run);
    float *a = learned(in_run("first", "model.h5"), &count);
    float *b = learned(in_run("moved", "model.h5"), &count);
    float *mean = learned(in_run("mean", "model.h5"), &count);
    for (size_t i = 0; i < count; i++)
        assert_true(
            fabs((double)mean[i] - (0.75 * (double)a[i] + 0.25 * (double)b[i])) < 1e-6);
    free(a);
    free(b);
    free(mean);
}

static void smoothed_labels_make_the_loss_of_a_frozen_network_even(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run = TRAIN("sharp", NULL, FROZEN, "--data", data);
    assert_done(&run);
    run = TRAIN("smooth", NULL, FROZEN, "--data", data, "--label-smoothing=0.9999");
    assert_done(&run);
    /* the mean over all classes is above log C, whatever the labels are */
    assert_true(metric("smooth", 1, "hard_loss") > log(CLASSES));
    assert_false(
        near(metric("sharp", 1, "hard_loss"), metric("smooth", 1, "hard_loss")));
}

static void samples_in_blocks_are_all_shown(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run =
        TRAIN("blocks", NULL, FROZEN, "--data", data, "--test", data, "--labels",
              fixture_path("sparse"), "-T2", "--shuffle=block", "--shuffle-block=5",
              "--shuffle-window=2", "--threads=2");
    assert_done(&run);
    for (unsigned epoch = 1; epoch <= 3; epoch++)
        assert_true(near(metric("blocks", epoch, "hard_loss"),
                         metric("blocks", epoch, "test_nll")));
}

static void views_that_mix_samples_train(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run =
        TRAIN("mixed", NULL, MLP, "--data", data, "--augment=mixup", "--holdout=48:64");
    assert_done(&run);
    assert_true(metric("mixed", 3, "loss") < metric("mixed", 1, "loss"));
    run = TRAIN("mixed-held", NULL, MLP, "--data", data, "--augment=mixup",
                "--holdout=0.25");
    assert_outcome(&run, KD_EUSAGE, "is held out, but might be mixed into others");
}

/* -- interruptions of all that there is ---------------------------------- */

#define EVERYTHING                                                                     \
    "--holdout=0.25", "--patience=2", "--clip=0.5", "--ema=0.9",                       \
        "--label-smoothing=0.1", "--shuffle=block", "--shuffle-block=4",               \
        "--shuffle-window=3"

static void every_optimizer_trains_and_goes_on_to_the_same_bytes(void **state)
{
    static const char *const kinds[] = {"--optimizer=adam", "--optimizer=adamw"};
    const struct trap at = {"checkpoint.h5", 2, SIGKILL, false};
    const char *data = data_name(true);

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char whole[16], stopped[16];
        snprintf(whole, sizeof whole, "adam-%zu", i);
        snprintf(stopped, sizeof stopped, "adam-stop-%zu", i);
        struct outcome run =
            TRAIN(whole, NULL, MLP, "--data", data, kinds[i], "--lr=0.01");
        assert_done(&run);
        assert_true(metric(whole, 3, "loss") < 0.8 * metric(whole, 1, "loss"));
        run = TRAIN(stopped, &at, MLP, "--data", data, kinds[i], "--lr=0.01");
        assert_int_equal(run.status, -1);
        run = TRAIN(stopped, NULL, MLP, "--data", data, kinds[i], "--lr=0.01");
        assert_done(&run);
        assert_same_run(stopped, whole);
    }
}

static void a_run_with_everything_goes_on_to_the_same_bytes(void **state)
{
    const struct trap traps[] = {{"best.h5", 1, SIGKILL, false},
                                 {"checkpoint.h5", 1, SIGKILL, false},
                                 {"checkpoint.h5", 2, SIGTERM, false}};
    const char *data = data_name(true);

    (void)state;
    struct outcome whole = TRAIN("all", NULL, TINY_NORM, "--data", data, EVERYTHING,
                                 "--labels", fixture_path("soft"), "-T2");
    assert_done(&whole);
    for (size_t i = 0; i < sizeof traps / sizeof traps[0]; i++) {
        char name[16];
        snprintf(name, sizeof name, "all-%zu", i);
        struct outcome run = TRAIN(name, &traps[i], TINY_NORM, "--data", data,
                                   EVERYTHING, "--labels", fixture_path("soft"), "-T2");
        assert_true(run.status == -1 || run.status == KD_EINTERRUPTED);
        run = TRAIN(name, NULL, TINY_NORM, "--data", data, EVERYTHING, "--labels",
                    fixture_path("soft"), "-T2");
        assert_done(&run);
        assert_same_run(name, "all");
        assert_same_file(in_run(name, "best.h5"), in_run("all", "best.h5"));
    }
}

/* -- soft labels ------------------------------------------------------------ */

static void soft_labels_train_beside_hard_ones(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run = TRAIN("both", NULL, MLP, "--data", data, "--test", data,
                               "--labels", fixture_path("soft"), "-T2", "--epochs=8");
    assert_done(&run);
    assert_true(metric("both", 8, "soft_loss") < 0.5 * metric("both", 1, "soft_loss"));
    assert_true(metric("both", 8, "test_accuracy") > 0.9);
    double total =
        0.1 * metric("both", 3, "hard_loss") + 0.9 * metric("both", 3, "soft_loss");
    assert_true(fabs(metric("both", 3, "loss") - total) < 1e-9);
}

/* Losses and accuracy are means over those that have a label. */
static void labelled_and_unlabelled_samples_train_together(void **state)
{
    const uint64_t shape[1] = {SAMPLES};
    int32_t y[SAMPLES];
    char data[16384];

    (void)state;
    for (int32_t i = 0; i < SAMPLES; i++)
        y[i] = i % 3 == 0 ? -1 : i % CLASSES;
    assert_int_equal(kd_npy_write(fixture_path("some.npy"), KD_I32, 1, shape, y),
                     KD_OK);
    snprintf(data, sizeof data, "npy:%s,%s", fixture_path("x.npy"),
             fixture_path("some.npy"));
    struct outcome run = TRAIN("some", NULL, FROZEN, "--data", data, "--test", data);
    assert_done(&run);
    assert_true(near(metric("some", 1, "hard_loss"), metric("some", 1, "test_nll")));
    assert_true(
        near(metric("some", 1, "train_accuracy"), metric("some", 1, "test_accuracy")));
    assert_true(metric("some", 1, "loss") < 0.7 * metric("some", 1, "hard_loss"));
}

static void soft_labels_alone_train_on_data_without_labels(void **state)
{
    (void)state;
    struct outcome run = TRAIN("alone", NULL, MLP, "--data", data_name(false), "--test",
                               data_name(true), "--hard=0", "--soft=1", "--epochs=8",
                               "--labels", fixture_path("soft-unlabelled"), "-T2");
    assert_done(&run);
    assert_true(metric("alone", 8, "loss") < 0.5 * metric("alone", 1, "loss"));
    assert_true(metric("alone", 8, "loss") == metric("alone", 8, "soft_loss"));
    assert_true(isnan(metric("alone", 8, "hard_loss")));
    assert_true(metric("alone", 8, "test_accuracy") > 0.9);
}

static void every_distance_trains(void **state)
{
    static const char *const kinds[][2] = {
        {"kl", "reverse"}, {"ce", "forward"}, {"mse", "forward"}};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char name[16], kind[32], direction[32];
        snprintf(name, sizeof name, "by-%s", kinds[i][0]);
        snprintf(kind, sizeof kind, "--distance=%s", kinds[i][0]);
        snprintf(direction, sizeof direction, "--direction=%s", kinds[i][1]);
        struct outcome run =
            TRAIN(name, NULL, MLP, "--data", data_name(true), "--hard=0", "-T2",
                  "--labels", fixture_path("soft"), kind, direction, "--epochs=5");
        assert_done(&run);
        assert_true(metric(name, 5, "soft_loss") < 0.95 * metric(name, 1, "soft_loss"));
    }
}

static void the_student_must_see_the_teachers_pixels(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run = TRAIN("pixels", NULL, MLP, "--data", data, "--labels",
                               fixture_path("soft"), "-T2", "--augment=crop2,flip");
    assert_outcome(&run, KD_EUSAGE, "its views are 'crop1'");
    assert_non_null(strstr(run.error, "augmentation is 'crop2,flip'"));
    run = TRAIN("pixels", NULL, MLP, "--data", data, "--labels", fixture_path("soft"),
                "-T2", "--labels-view=clean");
    assert_outcome(&run, KD_EDATA, "no clean view");
    run = TRAIN("pixels", NULL, MLP, "--data", data_name(false), "--labels",
                fixture_path("soft-unlabelled"), "-T2", "--labels-view=clean",
                "--augment=crop2,flip", "--hard=0");
    assert_done(&run);
}

static void a_sparse_cache_trains_under_every_rule(void **state)
{
    static const char *const rules[] = {"--tail=spread", "--tail=renorm",
                                        "--tail=bucket"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct outcome run =
            TRAIN(rules[i] + 2, NULL, MLP, "--data", data_name(true), "--hard=0", "-T2",
                  "--labels", fixture_path("sparse"), rules[i], "--epochs=5");
        assert_done(&run);
        assert_true(metric(rules[i] + 2, 5, "soft_loss") <
                    0.9 * metric(rules[i] + 2, 1, "soft_loss"));
    }
    struct outcome run = TRAIN("no-mse", NULL, MLP, "--data", data_name(true), "-T2",
                               "--labels", fixture_path("sparse"), "--distance=mse");
    assert_outcome(&run, KD_EDATA, "--encoding dense");
}

static void samples_without_soft_labels_follow_their_rule(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run = TRAIN("lacking", NULL, MLP, "--data", data, "--labels",
                               fixture_path("half"), "-T2");
    assert_outcome(&run, KD_EDATA, "--missing hard-label or skip");
    run = TRAIN("skipped", NULL, FROZEN, "--data", data, "--labels",
                fixture_path("half"), "-T2", "--missing=skip");
    assert_done(&run);
    assert_true(metric("skipped", 1, "rows") == SAMPLES / 2);
    assert_true(metric("skipped", 1, "soft_rows") == SAMPLES / 2);
    char *slice = kd_format("%s@0:32", data);
    run = TRAIN("sliced", NULL, FROZEN, "--data", slice, "--labels",
                fixture_path("half"), "-T2");
    assert_done(&run);
    free(slice);
    for (unsigned i = 0; i < 2; i++) {
        const char *key = i == 0 ? "hard_loss" : "soft_loss";
        assert_true(fabs(metric("skipped", 1, key) - metric("sliced", 1, key)) < 0.02);
    }
    run = TRAIN("labelled", NULL, FROZEN, "--data", data, "--test", data, "--labels",
                fixture_path("half"), "-T2", "--missing=hard-label");
    assert_done(&run);
    assert_true(metric("labelled", 1, "rows") == SAMPLES);
    assert_true(metric("labelled", 1, "soft_rows") == SAMPLES / 2);
    assert_true(
        near(metric("labelled", 1, "hard_loss"), metric("labelled", 1, "test_nll")));
    slice = kd_format("%s@32:64", data);
    run = TRAIN("nothing", NULL, MLP, "--data", slice, "--labels", fixture_path("half"),
                "-T2", "--missing=skip");
    assert_outcome(&run, KD_EDATA, "soft labels of none of its samples");
    free(slice);
}

/* -- what cannot be trained on ---------------------------------------------- */

static void data_that_do_not_fit_are_refused(void **state)
{
    const char *data = data_name(true);
    char wide[16384];
    const uint64_t shape[2] = {4, 9};

    (void)state;
    struct outcome run = TRAIN("misfit", NULL, MLP, "--data", data, "--batch=65");
    assert_outcome(&run, KD_EUSAGE, "64 samples, fewer than a batch of 65");
    run = TRAIN("misfit", NULL, MLP, "--data", data_name(false), "--hard=1", "-T2",
                "--labels", fixture_path("soft-unlabelled"));
    assert_outcome(&run, KD_EDATA, "set loss.hard to 0");
    run = TRAIN("misfit", NULL, MLP, "--data", data_name(false));
    assert_outcome(&run, KD_EDATA, "x.npy");
    assert_int_equal(kd_npy_write(fixture_path("wide.npy"), KD_U8, 2, shape,
                                  "123456789"
                                  "123456789123456789123456789"),
                     KD_OK);
    snprintf(wide, sizeof wide, "npy:%s", fixture_path("wide.npy"));
    run = TRAIN("misfit", NULL, MLP, "--data", data, "--test", wide);
    assert_outcome(&run, KD_EDATA, "wide.npy: its samples or classes");
    run = TRAIN("misfit", NULL, MLP, "--data=npy:/no/such.npy");
    assert_outcome(&run, KD_ENOINPUT, "/no/such.npy");
    assert_int_not_equal(access(fixture_path("misfit"), F_OK), 0);
}

static void a_run_that_is_refused_leaves_no_directory(void **state)
{
    (void)state;
    struct outcome run = TRAIN("deep/down/run", NULL, MLP, "--data=npy:/no/such.npy");
    assert_outcome(&run, KD_ENOINPUT, "/no/such.npy");
    assert_int_not_equal(access(fixture_path("deep"), F_OK), 0);
    assert_int_equal(kd_make_directory(fixture_path("deep/down")), KD_OK);
    run = TRAIN("deep/down/run", NULL, MLP, "--data=npy:/no/such.npy");
    assert_outcome(&run, KD_ENOINPUT, "/no/such.npy");
    assert_int_not_equal(access(fixture_path("deep/down/run"), F_OK), 0);
    assert_int_equal(access(fixture_path("deep/down"), F_OK), 0);
}

static void a_directory_that_holds_a_cache_is_no_place_for_a_run(void **state)
{
    const struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F32);
    struct kd_cache_writer *writer = NULL;

    (void)state;
    struct outcome run = TRAIN("soft", NULL, MLP, "--data", data_name(true));
    assert_outcome(&run, KD_EUSAGE, "soft: holds a cache");
    assert_false(there("soft", "recipe.txt"));
    assert_false(there("soft", ".lock"));
    run = TRAIN("a-run", NULL, MLP, "--data", data_name(true), "--epochs=1");
    assert_done(&run);
    assert_int_equal(kd_cache_writer_open(fixture_path("a-run"), &of, 10, &writer),
                     KD_EUSAGE);
    assert_says("a-run: holds a training run");
}

/* -- divergence ------------------------------------------------------------- */

/* Weights grow a thousandfold a step. */
#define DIVERGING                                                                      \
    "--lr=1000", "--warmup=0", "--schedule=constant", "--momentum=0", "--no-nesterov", \
        "--weight-decay=1"
#define PLAIN_MLP "--network={family: mlp, hidden: [16], batch-norm: false}"

static void assert_finite_network(const char *path)
{
    struct kd_model model;
    struct kd_network *net = NULL;

    assert_int_equal(kd_model_open(path, &model), KD_OK);
    assert_int_equal(kd_network_build(&model.arch, &model.sizes, 1, false, &net),
                     KD_OK);
    assert_int_equal(kd_model_load(path, net->graph), KD_OK);
    kd_network_free(net);
}

static void a_run_that_diverges_stops_and_says_where(void **state)
{
    (void)state;
    struct outcome run = TRAIN("diverges", NULL, DIVERGING, PLAIN_MLP, "--data",
                               data_name(true), "--epochs=20");
    assert_outcome(&run, KD_EDATA, "the loss is not a finite number");
    assert_non_null(strstr(run.error, "epoch "));
    assert_non_null(strstr(run.error, ", step "));
    assert_non_null(strstr(run.error, "lower the learning rate (1000)"));
    assert_non_null(strstr(run.error, "the last good checkpoint is "));
    assert_non_null(strstr(run.error, in_run("diverges", "checkpoint.h5")));
    assert_false(there("diverges", "model.h5"));
}

/* The step after which nothing is finite any more may be an epoch's or a run's last:
 * that must not leave a network that nobody can use. With an epoch a step, each of the
 * steps around the one that overflows is the last of a run. */
static void check_last_step(const char *name, unsigned epochs, const char *network,
                            bool tested)
{
    const char *data = data_name(true);
    char option[16];

    snprintf(option, sizeof option, "--epochs=%u", epochs);
    struct outcome run =
        TRAIN(name, NULL, DIVERGING, network, "--data", data, "--batch=64", option,
              tested ? "--test" : "--seed", tested ? data : "1");
    if (run.status == KD_OK && tested)
        assert_true(isfinite(metric(name, epochs, "test_nll")));
    if (run.status == KD_OK)
        assert_finite_network(in_run(name, "model.h5"));
    else
        assert_outcome(&run, KD_EDATA, "lower the learning rate");
    assert_int_equal(there(name, "model.h5"), run.status == KD_OK);
}

static void a_network_that_diverged_in_its_last_step_is_not_saved(void **state)
{
    (void)state;
    for (unsigned epochs = 5; epochs <= 8; epochs++) {
        char name[16];
        snprintf(name, sizeof name, "last-%u", epochs);
        check_last_step(name, epochs, PLAIN_MLP, true);
        snprintf(name, sizeof name, "untested-%u", epochs);
        check_last_step(name, epochs + 6, "--network={family: mlp, hidden: []}", false);
    }
}

/* -- damage ----------------------------------------------------------------- */

static const char *damaged_run(const char *name)
{
    const struct trap at = {"checkpoint.h5", 1, SIGTERM, false};
    struct outcome run = TRAIN(name, &at, MLP, "--data", data_name(true));

    assert_outcome(&run, KD_EINTERRUPTED, "");
    return in_run(name, "checkpoint.h5");
}

/* One line, naming the file; and nothing is begun anew over it. */
static void assert_damaged(const char *name, const char *words)
{
    struct outcome run = TRAIN(name, NULL, MLP, "--data", data_name(true));

    assert_outcome(&run, KD_EDATA, words);
    assert_non_null(strstr(run.error, in_run(name, "checkpoint.h5")));
    assert_false(there(name, "model.h5"));
}

static void a_damaged_checkpoint_gives_one_clear_error(void **state)
{
    const char *path = damaged_run("damaged");
    size_t size = 0;
    char *bytes = fixture_bytes(path, &size);

    (void)state;
    assert_int_equal(kd_file_write(path, bytes, size / 2), KD_OK);
    assert_damaged("damaged", "");
    assert_int_equal(kd_file_write(path, bytes, 0), KD_OK);
    assert_damaged("damaged", "");
    assert_int_equal(kd_file_write(path, "no HDF5 file at all", 19), KD_OK);
    assert_damaged("damaged", "");
    assert_int_equal(kd_file_write(path, bytes, size), KD_OK);
    struct outcome run = TRAIN("damaged", NULL, MLP, "--data", data_name(true));
    assert_done(&run);
    free(bytes);
}

/* Each byte of a weight, of the optimiser's state and of what was measured counts. */
static void a_checkpoint_that_was_altered_is_refused(void **state)
{
    static const char *const arrays[] = {"state_dict/fc1.weight",
                                         "moments/1/fc1.weight", "metrics"};

    (void)state;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        char name[16];
        struct kd_h5 *file = NULL;
        struct kd_array_info info;
        uint8_t *bytes = NULL;
        snprintf(name, sizeof name, "altered-%zu", i);
        assert_int_equal(kd_h5_open_rw(damaged_run(name), &file), KD_OK);
        assert_int_equal(kd_h5_info(file, arrays[i], &info), KD_OK);
        assert_int_equal(KD_NEW(bytes, (size_t)info.bytes), KD_OK);
        assert_int_equal(kd_h5_read(file, arrays[i], &info, bytes), KD_OK);
        bytes[info.bytes - 2] ^= 1;
        assert_int_equal(
            kd_h5_write(file, arrays[i], info.type, info.rank, info.shape, bytes, NULL),
            KD_OK);
        assert_int_equal(kd_h5_finish(file), KD_OK);
        assert_damaged(name, "its checksum is another");
        free(bytes);
    }
}

static void a_checkpoint_of_another_epoch_than_it_was_is_refused(void **state)
{
    struct kd_h5 *file = NULL;

    (void)state;
    assert_int_equal(kd_h5_open_rw(damaged_run("beyond"), &file), KD_OK);
    assert_int_equal(kd_h5_set_u64(file, "epoch", 2), KD_OK);
    assert_int_equal(kd_h5_finish(file), KD_OK);
    assert_damaged("beyond", "its checksum is another");
}

static void another_kind_of_file_is_no_checkpoint(void **state)
{
    const char *path = damaged_run("kind");
    size_t size = 0;

    (void)state;
    struct outcome run = TRAIN("kind-of", NULL, MLP, "--data", data_name(true));
    assert_done(&run);
    char *bytes = fixture_bytes(in_run("kind-of", "model.h5"), &size);
    assert_int_equal(kd_file_write(path, bytes, size), KD_OK);
    assert_damaged("kind", "not a checkpoint");
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_run_gives_the_same_bytes),
        cmocka_unit_test(the_same_number_of_threads_gives_the_same_bytes),
        cmocka_unit_test(data_in_another_container_give_the_same_network),
        cmocka_unit_test(another_seed_gives_another_network),
        cmocka_unit_test(a_network_learns_the_classes),
        cmocka_unit_test(an_epoch_shows_every_sample_once),
        cmocka_unit_test(the_order_is_another_one_in_every_epoch),
        cmocka_unit_test(an_epoch_trains_on_the_view_of_its_number),
        cmocka_unit_test(cached_views_are_trained_on_in_turn),
        cmocka_unit_test(a_stopped_run_goes_on_to_the_same_bytes),
        cmocka_unit_test(a_run_on_two_threads_stops_and_goes_on),
        cmocka_unit_test(a_run_killed_at_any_file_goes_on_to_the_same_bytes),
        cmocka_unit_test(a_signal_behind_the_last_step_does_not_lose_the_network),
        cmocka_unit_test(an_interrupted_run_leaves_its_checkpoint_and_its_metrics),
        cmocka_unit_test(a_finished_run_is_left_as_it_is),
        cmocka_unit_test(a_network_that_was_removed_is_saved_again),
        cmocka_unit_test(another_recipe_in_the_same_directory_is_refused),
        cmocka_unit_test(what_is_held_out_is_not_trained_on),
        cmocka_unit_test(a_run_stops_when_no_epoch_is_better_any_more),
        cmocka_unit_test(the_best_epoch_is_that_of_the_samples_it_is_chosen_by),
        cmocka_unit_test(a_long_gradient_is_cut_to_its_length),
        cmocka_unit_test(the_average_of_the_weights_is_saved),
        cmocka_unit_test(smoothed_labels_make_the_loss_of_a_frozen_network_even),
        cmocka_unit_test(samples_in_blocks_are_all_shown),
        cmocka_unit_test(views_that_mix_samples_train),
        cmocka_unit_test(every_optimizer_trains_and_goes_on_to_the_same_bytes),
        cmocka_unit_test(a_run_with_everything_goes_on_to_the_same_bytes),
        cmocka_unit_test(soft_labels_train_beside_hard_ones),
        cmocka_unit_test(labelled_and_unlabelled_samples_train_together),
        cmocka_unit_test(soft_labels_alone_train_on_data_without_labels),
        cmocka_unit_test(every_distance_trains),
        cmocka_unit_test(a_sparse_cache_trains_under_every_rule),
        cmocka_unit_test(samples_without_soft_labels_follow_their_rule),
        cmocka_unit_test(the_student_must_see_the_teachers_pixels),
        cmocka_unit_test(data_that_do_not_fit_are_refused),
        cmocka_unit_test(a_run_that_is_refused_leaves_no_directory),
        cmocka_unit_test(a_directory_that_holds_a_cache_is_no_place_for_a_run),
        cmocka_unit_test(a_run_that_diverges_stops_and_says_where),
        cmocka_unit_test(a_network_that_diverged_in_its_last_step_is_not_saved),
        cmocka_unit_test(a_damaged_checkpoint_gives_one_clear_error),
        cmocka_unit_test(a_checkpoint_that_was_altered_is_refused),
        cmocka_unit_test(a_checkpoint_of_another_epoch_than_it_was_is_refused),
        cmocka_unit_test(another_kind_of_file_is_no_checkpoint),
    };

    return cmocka_run_group_tests_name("train", tests, open_all, fixture_close);
}
