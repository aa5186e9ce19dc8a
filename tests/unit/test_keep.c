/* SPDX-License-Identifier: MIT */
/* The networks that a run keeps: a teacher's footsteps, and the best of a stage that
 * the next one begins from. */
#include "train_fixture.h"

static struct kd_network *network_of(const char *name, const char *file)
{
    struct kd_network *net = NULL;
    struct kd_model model;

    assert_int_equal(kd_model_open(in_run(name, file), &model), KD_OK);
    assert_int_equal(kd_network_build(&model.arch, &model.sizes, 1, false, &net),
                     KD_OK);
    assert_int_equal(kd_model_load(in_run(name, file), net->graph), KD_OK);
    return net;
}

/* Whether two files have the same weights. */
static bool same_weights(const char *name, const char *file, const char *other,
                         const char *other_file)
{
    struct kd_network *one = network_of(name, file);
    struct kd_network *two = network_of(other, other_file);
    bool equal = true;

    for (size_t i = 0; i < kd_graph_num_parameters(one->graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(one->graph, i);
        const struct kd_parameter *q = kd_graph_parameter(two->graph, i);
        equal &= memcmp(p->value, q->value, p->size * sizeof *p->value) == 0;
    }
    kd_network_free(one);
    kd_network_free(two);
    return equal;
}

static uint64_t epoch_of(const char *name, const char *file)
{
    struct kd_model model;

    assert_int_equal(kd_model_open(in_run(name, file), &model), KD_OK);
    return model.epoch;
}

/* -- footsteps ------------------------------------------------------------------ */

static void networks_of_the_epochs_asked_for_are_kept(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run = TRAIN("steps", NULL, MLP, "--data", data, "--epochs=5",
                               "--schedule=constant", "--keep-epochs=every 2");
    assert_done(&run);
    assert_false(there("steps", "epoch-001.h5"));
    assert_false(there("steps", "epoch-003.h5"));
    assert_false(there("steps", "epoch-005.h5"));
    assert_int_equal(epoch_of("steps", "epoch-002.h5"), 2);
    assert_int_equal(epoch_of("steps", "epoch-004.h5"), 4);
    run = TRAIN("listed", NULL, MLP, "--data", data, "--epochs=5",
                "--schedule=constant", "--keep-epochs=[1, 2, 5]");
    assert_done(&run);
    assert_false(there("listed", "epoch-004.h5"));
    assert_int_equal(epoch_of("listed", "epoch-001.h5"), 1);
    assert_true(same_weights("listed", "epoch-002.h5", "steps", "epoch-002.h5"));
    assert_false(same_weights("listed", "epoch-001.h5", "listed", "epoch-002.h5"));
    assert_true(same_weights("listed", "epoch-005.h5", "listed", "model.h5"));
    run = TRAIN("two", NULL, MLP, "--data", data, "--epochs=2", "--schedule=constant");
    assert_done(&run);
    assert_true(same_weights("listed", "epoch-002.h5", "two", "model.h5"));
    run = TRAIN("listed", NULL, MLP, "--data", data, "--epochs=5",
                "--schedule=constant", "--keep-epochs=[1, 2]");
    assert_outcome(&run, KD_EUSAGE, "keep-epochs: 1 2 5");
}

static void a_footstep_is_the_average_where_there_is_one(void **state)
{
    (void)state;
    struct outcome run = TRAIN("averaged", NULL, MLP, "--data", data_name(true),
                               "--ema=0.9", "--keep-epochs=[3]");
    assert_done(&run);
    assert_true(same_weights("averaged", "epoch-003.h5", "averaged", "model.h5"));
}

static void a_network_that_diverged_is_no_footstep(void **state)
{
    (void)state;
    for (unsigned epochs = 8; epochs <= 14; epochs++) {
        char name[16], every[32];
        snprintf(name, sizeof name, "gone-%u", epochs);
        snprintf(every, sizeof every, "--epochs=%u", epochs);
        struct outcome run =
            TRAIN(name, NULL, "--network={family: mlp, hidden: []}", "--data",
                  data_name(true), "--batch=64", every, "--lr=1000", "--warmup=0",
                  "--schedule=constant", "--momentum=0", "--no-nesterov",
                  "--weight-decay=1", "--keep-epochs=every 1");
        for (unsigned epoch = 1; epoch <= epochs; epoch++) {
            char file[32];
            snprintf(file, sizeof file, "epoch-%03u.h5", epoch);
            if (there(name, file))
                kd_network_free(network_of(name, file)); /* it is finite */
            else
                assert_outcome(&run, KD_EDATA, "lower the learning rate");
        }
    }
}

static void lists_that_mean_nothing_are_refused(void **state)
{
    static const char *const bad[][2] = {
        {"--keep-epochs=4", "must be 'every N' or a list"},
        {"--keep-epochs=every 0", "must be 'every N' or a list"},
        {"--keep-epochs=[]", "keep-epochs are a list of 1 to 256 epochs"},
        {"--keep-epochs=[2, 1]", "must ascend"},
        {"--keep-epochs=[1, 4]", "4"},
        {"--keep-epochs=every 4", "the run has but 3"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct outcome run =
            TRAIN("x", NULL, MLP, "--data", data_name(true), bad[i][0]);
        assert_outcome(&run, KD_ERECIPE, bad[i][1]);
        assert_int_not_equal(access(fixture_path("x"), F_OK), 0);
    }
}

/* -- the best of the stage before -------------------------------------------------- */

/* What is right of these labels is wrong of those that are trained on: the more a
 * network learns, the worse it does, so that the best epoch of a stage is its first. */
static const char *misleading(void)
{
    static char name[16384];
    const uint64_t shape[1] = {SAMPLES};
    uint8_t y[SAMPLES];

    for (size_t i = 0; i < SAMPLES; i++)
        y[i] = (uint8_t)((i + 1) % CLASSES);
    assert_int_equal(kd_npy_write(fixture_path("wrong.npy"), KD_U8, 1, shape, y),
                     KD_OK);
    snprintf(name, sizeof name, "npy:%s,%s", fixture_path("x.npy"),
             fixture_path("wrong.npy"));
    return name;
}

#define UNLEARN                                                                        \
    "--network={family: mlp, hidden: [16], batch-norm: false}", "--data",              \
        data_name(true), "--test", misleading(), "--select=test",                      \
        "--schedule=constant", "--warmup=0", "--momentum=0", "--no-nesterov"

/* The last stage moves nothing. */
#define AND_REST(start) "{epochs: 1, lr: 1e-9, " start "}]"

static void a_stage_begins_from_the_best_epoch_of_the_one_before(void **state)
{
    static const char *const averages[] = {"--ema=0", "--ema=0.5"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char name[16], last[16];
        snprintf(name, sizeof name, "best-%zu", i);
        snprintf(last, sizeof last, "last-%zu", i);
        struct outcome run = TRAIN(name, NULL, UNLEARN, averages[i],
                                   "--stages=[{epochs: 3}, " AND_REST("start: best"));
        assert_done(&run);
        run = TRAIN(last, NULL, UNLEARN, averages[i],
                    "--stages=[{epochs: 3}, " AND_REST("start: last"));
        assert_done(&run);
        assert_true(metric(name, 3, "test_nll") > metric(name, 1, "test_nll") + 0.1);
        assert_int_equal(epoch_of(name, "stage-1.h5"), 1);
        assert_true(near(metric(name, 4, "test_nll"), metric(name, 1, "test_nll")));
        assert_true(metric(last, 4, "test_nll") > metric(last, 1, "test_nll") + 0.1);
        assert_false(there(last, "stage-1.h5"));
        assert_false(there(name, "stage-2.h5"));
    }
}

/* Not the run's, which is better here. */
static void each_stage_has_its_own_best(void **state)
{
    (void)state;
    struct outcome run = TRAIN(
        "own", NULL, UNLEARN,
        "--stages=[{epochs: 1}, {epochs: 2, start: best}, " AND_REST("start: best"));
    assert_done(&run);
    assert_int_equal(epoch_of("own", "best.h5"), 1);
    assert_int_equal(epoch_of("own", "stage-2.h5"), 2);
    assert_true(near(metric("own", 4, "test_nll"), metric("own", 2, "test_nll")));
    assert_false(near(metric("own", 4, "test_nll"), metric("own", 1, "test_nll")));
}

#define STEPS                                                                          \
    "--stages=[{epochs: 2}, {epochs: 2, start: best}, {epochs: 1, start: best}]",      \
        "--keep-epochs=every 2", "--holdout=0.25", "--ema=0.5"

static void a_run_that_keeps_networks_goes_on_to_the_same_bytes(void **state)
{
    static const char *const files[] = {"checkpoint.h5", "stage-1.h5", "stage-2.h5",
                                        "epoch-002.h5"};
    const char *data = data_name(true);

    (void)state;
    struct outcome whole = TRAIN("kept", NULL, MLP, "--data", data, "--batch=8", STEPS);
    assert_done(&whole);
    for (int n = 0; n < 10; n++) {
        const struct trap at = {n < 5 ? files[0] : files[1 + (n - 5) % 3],
                                n < 5 ? n + 1 : 1, SIGKILL, n % 2 == 0};
        char name[16];
        snprintf(name, sizeof name, "kept-%d", n);
        struct outcome run = TRAIN(name, &at, MLP, "--data", data, "--batch=8", STEPS);
        assert_int_equal(run.status, -1);
        run = TRAIN(name, NULL, MLP, "--data", data, "--batch=8", STEPS);
        assert_done(&run);
        assert_same_run(name, "kept");
        for (size_t i = 1; i < sizeof files / sizeof files[0]; i++)
            assert_same_file(in_run(name, files[i]), in_run("kept", files[i]));
        assert_same_file(in_run(name, "epoch-004.h5"), in_run("kept", "epoch-004.h5"));
    }
}

static void a_stage_that_cannot_begin_from_the_best_is_refused(void **state)
{
    static const char *const bad[][2] = {
        {"--stages=[{start: best}, {}]", "no stage before the first"},
        {"--stages=[{}, {start: best, optimizer: keep}]", "leave one of them out"},
        {"--stages=[{}, {start: worst}]", "worst"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct outcome run = TRAIN("x", NULL, MLP, "--data", data_name(true),
                                   "--holdout=0.25", bad[i][0]);
        assert_outcome(&run, KD_ERECIPE, bad[i][1]);
    }
    struct outcome run = TRAIN("x", NULL, MLP, "--data", data_name(true),
                               "--stages=[{}, {start: best}]");
    assert_outcome(&run, KD_ERECIPE, "no samples to judge epochs by");
}

static void the_best_of_a_stage_that_is_another_is_refused(void **state)
{
    const struct trap at = {"checkpoint.h5", 2, SIGKILL, false};
    const char *data = data_name(true);

    (void)state;
    for (int missing = 0; missing < 2; missing++) {
        const char *name = missing ? "missing" : "foreign";
        struct outcome run = TRAIN(name, &at, MLP, "--data", data, "--batch=8", STEPS);
        assert_int_equal(run.status, -1);
        assert_int_equal(unlink(in_run(name, "stage-1.h5")), 0);
        if (!missing) {
            size_t size = 0;
            char *bytes = fixture_bytes(in_run("kept", "stage-2.h5"), &size);
            assert_int_equal(kd_file_write(in_run(name, "stage-1.h5"), bytes, size),
                             KD_OK);
            free(bytes);
        }
        run = TRAIN(name, NULL, MLP, "--data", data, "--batch=8", STEPS);
        assert_outcome(&run, missing ? KD_ENOINPUT : KD_EDATA, "stage-1.h5");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_of_the_epochs_asked_for_are_kept),
        cmocka_unit_test(a_footstep_is_the_average_where_there_is_one),
        cmocka_unit_test(a_network_that_diverged_is_no_footstep),
        cmocka_unit_test(lists_that_mean_nothing_are_refused),
        cmocka_unit_test(a_stage_begins_from_the_best_epoch_of_the_one_before),
        cmocka_unit_test(each_stage_has_its_own_best),
        cmocka_unit_test(a_run_that_keeps_networks_goes_on_to_the_same_bytes),
        cmocka_unit_test(a_stage_that_cannot_begin_from_the_best_is_refused),
        cmocka_unit_test(the_best_of_a_stage_that_is_another_is_refused),
    };

    return cmocka_run_group_tests_name("keep", tests, open_all, fixture_close);
}
