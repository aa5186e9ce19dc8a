/* SPDX-License-Identifier: MIT */
/* Runs of networks that learn together: files, interruptions, refusals. Each run is a
 * process of its own (train_fixture.h). */
#include "peers_runs.h"

#define TWO                                                                            \
    "--networks=[{family: mlp, hidden: [16]}, {family: resnet, depth: 8, "             \
    "width: 4}]"

static const char *const files[] = {"peer1.h5",      "peer2.h5",      "peer1-best.h5",
                                    "peer2-best.h5", "metrics.jsonl", "recipe.txt",
                                    "checkpoint.h5"};

static void assert_same_peers(const char *a, const char *b)
{
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        assert_same_file(in_run(a, files[i]), in_run(b, files[i]));
}

/* -- what is left -------------------------------------------------------- */

static void a_finished_run_is_left_as_it_is(void **state)
{
    struct outcome o = RUN("done", NULL, TWO, "--holdout=0.25", "--augment=crop1");
    struct stat before, after;

    (void)state;
    assert_done(&o);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (!there("done", files[i]))
            fail_msg("there is no %s", files[i]);
    assert_int_equal(count_lines("done"), 3);
    assert_int_equal(stat(in_run("done", "run.jsonl"), &before), 0);
    o = RUN("done", NULL, TWO, "--holdout=0.25", "--augment=crop1");
    assert_done(&o);
    assert_int_equal(stat(in_run("done", "run.jsonl"), &after), 0);
    assert_int_equal(before.st_size, after.st_size);
    o = RUN("done", NULL, TWO, "--holdout=0.25", "--augment=crop1",
            "--update=simultaneous");
    assert_outcome(&o, KD_EUSAGE,
                   "'method: dml update gauss-seidel sum-peers 0' there");
}

/* With an order for each network, too, and with an optimiser that counts its steps. */
static void interrupted_runs_end_with_the_same_bytes(void **state)
{
    static const char *const how[][2] = {{"--update=gauss-seidel", "--optimizer=sgd"},
                                         {"--update=alternating", "--optimizer=adam"}};
    static const struct trap traps[] = {
        {"checkpoint.h5", 1, SIGKILL, true},  {"checkpoint.h5", 2, SIGKILL, false},
        {"checkpoint.h5", 1, SIGTERM, false}, {"peer2-best.h5", 1, SIGKILL, false},
        {"peer2.h5", 1, SIGKILL, true},
    };

    (void)state;
    for (size_t u = 0; u < 2; u++) {
        const char *whole = u == 0 ? "whole-0" : "whole-1";
        struct outcome o =
            RUN(whole, NULL, TWO, how[u][0], how[u][1], "--holdout=0.25");
        assert_done(&o);
        for (size_t i = 0; i < sizeof traps / sizeof traps[0]; i++) {
            char name[32];
            snprintf(name, sizeof name, "broken-%zu-%zu", u, i);
            o = RUN(name, &traps[i], TWO, how[u][0], how[u][1], "--holdout=0.25");
            assert_int_equal(o.status,
                             traps[i].signal == SIGTERM ? (int)KD_EINTERRUPTED : -1);
            o = RUN(name, NULL, TWO, how[u][0], how[u][1], "--holdout=0.25");
            assert_done(&o);
            assert_same_peers(name, whole);
        }
    }
}

/* -- alone --------------------------------------------------------------- */

static void load(const char *path, struct kd_network **net)
{
    struct kd_model model;

    assert_int_equal(kd_model_open(path, &model), KD_OK);
    assert_int_equal(kd_network_build(&model.arch, &model.sizes, 1, false, net), KD_OK);
    assert_int_equal(kd_model_load(path, (*net)->graph), KD_OK);
}

static void the_first_of_independent_networks_is_what_kd_train_makes(void **state)
{
    struct kd_network *a = NULL, *b = NULL;
    struct outcome o = RUN("alone", NULL, TWO, "--independent", "--augment=crop1",
                           "--label-smoothing=0.1", "--holdout=0.2", "--clip=1");

    (void)state;
    assert_done(&o);
    o = TRAIN("train", NULL, "--data", data_name(true), MLP, "--augment=crop1",
              "--label-smoothing=0.1", "--holdout=0.2", "--clip=1");
    assert_done(&o);
    load(in_run("alone", "peer1.h5"), &a);
    load(in_run("train", "model.h5"), &b);
    assert_same_weights(a->graph, b->graph);
    kd_network_free(a);
    kd_network_free(b);
    load(in_run("alone", "peer1-best.h5"), &a);
    load(in_run("train", "best.h5"), &b);
    assert_same_weights(a->graph, b->graph);
    kd_network_free(a);
    kd_network_free(b);
    char *text = metrics_of("alone");
    assert_null(strstr(text, "soft"));
    free(text);
}

static void mixed_samples_have_the_labels_of_both(void **state)
{
    struct kd_network *a = NULL, *b = NULL;
    struct outcome o = RUN("mixed", NULL, TWO, "--independent", "--augment=mixup");

    (void)state;
    assert_done(&o);
    o = TRAIN("train-mixed", NULL, "--data", data_name(true), MLP, "--augment=mixup");
    assert_done(&o);
    load(in_run("mixed", "peer1.h5"), &a);
    load(in_run("train-mixed", "model.h5"), &b);
    assert_same_weights(a->graph, b->graph);
    kd_network_free(a);
    kd_network_free(b);
}

/* -- what goes wrong ----------------------------------------------------- */

static void a_loss_that_is_no_number_names_member_and_step(void **state)
{
    const struct outcome o =
        RUN("diverged", NULL,
            "--networks=[{family: mlp, hidden: [16]}, {family: mlp, "
            "hidden: [16], batch-norm: false}]",
            "--lr=1000", "--warmup=0", "--clip=0", "--independent");

    (void)state;
    assert_int_equal(o.status, KD_EDATA);
    if (strstr(o.error, ", step ") == NULL ||
        strstr(o.error, "the loss of peer2 is not a finite number") == NULL)
        fail_msg("%s", o.error);
}

static void a_damaged_checkpoint_is_refused(void **state)
{
    struct outcome o = RUN("damaged", NULL, TWO);
    size_t size = 0;
    char *bytes;

    (void)state;
    assert_done(&o);
    bytes = fixture_bytes(in_run("damaged", "checkpoint.h5"), &size);
    for (size_t i = size / 2; i < size; i++)
        if (bytes[i] != 0) {
            bytes[i] ^= 1;
            break;
        }
    assert_int_equal(kd_file_write(in_run("damaged", "checkpoint.h5"), bytes, size),
                     KD_OK);
    free(bytes);
    o = RUN("damaged", NULL, TWO);
    assert_outcome(&o, KD_EDATA, "checkpoint.h5: ");
}

static void data_that_does_not_fit_is_refused(void **state)
{
    struct outcome o;

    (void)state;
    o = run_apart(run_here, fixture_path("unlabelled"), NULL,
                  (const char *const[]){PEERS, "--data", data_name(false), TWO, NULL});
    assert_outcome(&o, KD_EDATA, "fewer than two classes");
    o = RUN("few", NULL, TWO, "--batch=65");
    assert_outcome(&o, KD_EUSAGE, "64 samples, fewer than a batch of 65");
    o = RUN("soft", NULL, TWO);
    assert_outcome(&o, KD_EUSAGE, "cache");
    assert_false(there("unlabelled", ""));
    assert_false(there("few", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_finished_run_is_left_as_it_is),
        cmocka_unit_test(interrupted_runs_end_with_the_same_bytes),
        cmocka_unit_test(the_first_of_independent_networks_is_what_kd_train_makes),
        cmocka_unit_test(mixed_samples_have_the_labels_of_both),
        cmocka_unit_test(a_loss_that_is_no_number_names_member_and_step),
        cmocka_unit_test(a_damaged_checkpoint_is_refused),
        cmocka_unit_test(data_that_does_not_fit_is_refused),
    };

    return cmocka_run_group_tests(tests, open_all, fixture_close);
}
