/* SPDX-License-Identifier: MIT */
/* Runs that begin with the weights of another one's network. */
#include "train_fixture.h"

/* The network at `path`, as it is saved. */
static struct kd_network *network_at(const char *path, struct kd_model *model)
{
    struct kd_network *net = NULL;

    assert_int_equal(kd_model_open(path, model), KD_OK);
    assert_int_equal(kd_network_build(&model->arch, &model->sizes, 1, false, &net),
                     KD_OK);
    assert_int_equal(kd_model_load(path, net->graph), KD_OK);
    return net;
}

/* The largest difference of any weight of two runs' networks. */
static double distance(const char *a, const char *b)
{
    struct kd_model models[2];
    struct kd_network *one = network_at(in_run(a, "model.h5"), &models[0]);
    struct kd_network *two = network_at(in_run(b, "model.h5"), &models[1]);
    double most = 0;

    for (size_t i = 0; i < kd_graph_num_parameters(one->graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(one->graph, i);
        const struct kd_parameter *q = kd_graph_parameter(two->graph, i);
        for (size_t j = 0; j < p->size; j++)
            most = fmax(most, fabs((double)p->value[j] - (double)q->value[j]));
    }
    kd_network_free(one);
    kd_network_free(two);
    return most;
}

/* The option; `name` is a run that is done. */
static const char *start(const char *name)
{
    static char text[1024];

    snprintf(text, sizeof text, "--start=%s", in_run(name, "model.h5"));
    return text;
}

static const char *slice(const char *ids)
{
    static char text[20000];

    snprintf(text, sizeof text, "%s@%s", data_name(true), ids);
    return text;
}

static int open_runs(void **state)
{
    if (open_all(state) != 0)
        return -1;
    struct outcome a =
        TRAIN("first", NULL, FROZEN, "--lr=0.1", "--data", slice("0:32"));
    assert_done(&a);
    return 0;
}

static void a_run_begins_with_the_weights_that_it_is_given(void **state)
{
    (void)state;
    struct outcome a =
        TRAIN("going-on", NULL, FROZEN, "--data", slice("0:32"), start("first"));
    struct outcome b = TRAIN("anew", NULL, FROZEN, "--data", slice("0:32"));
    assert_done(&a);
    assert_done(&b);
    assert_true(distance("first", "going-on") < 1e-6);
    assert_true(distance("first", "anew") > 1e-3);
}

/* Other data would be normalised otherwise, which the weights do not know. */
static void its_input_is_normalised_as_the_network_is_used_to(void **state)
{
    struct kd_model first, second, anew;

    (void)state;
    struct outcome a =
        TRAIN("other-data", NULL, FROZEN, "--data", slice("32:64"), start("first"));
    struct outcome b = TRAIN("other-anew", NULL, FROZEN, "--data", slice("32:64"));
    assert_done(&a);
    assert_done(&b);
    assert_int_equal(kd_model_open(in_run("first", "model.h5"), &first), KD_OK);
    assert_int_equal(kd_model_open(in_run("other-data", "model.h5"), &second), KD_OK);
    assert_int_equal(kd_model_open(in_run("other-anew", "model.h5"), &anew), KD_OK);
    assert_int_equal(second.num_normalize, first.num_normalize);
    assert_true(second.mean[0] == first.mean[0]);
    assert_true(second.deviation[0] == first.deviation[0]);
    assert_true(anew.mean[0] != first.mean[0]);
}

static void a_run_that_was_stopped_goes_on_to_the_same_bytes(void **state)
{
    const struct trap at = {"checkpoint.h5", 2, SIGKILL, false};
    const char *data = data_name(true);

    (void)state;
    struct outcome whole = TRAIN("whole", NULL, FROZEN, "--lr=0.1", "--data", data,
                                 "--ema=0.9", start("first"));
    struct outcome half = TRAIN("stopped", &at, FROZEN, "--lr=0.1", "--data", data,
                                "--ema=0.9", start("first"));
    assert_int_equal(half.status, -1);
    half = TRAIN("stopped", NULL, FROZEN, "--lr=0.1", "--data", data, "--ema=0.9",
                 start("first"));
    assert_done(&whole);
    assert_done(&half);
    assert_same_run("whole", "stopped");
}

static void networks_of_another_kind_are_refused(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome a = TRAIN("kind", NULL, "--network={family: mlp, hidden: [8]}",
                             "--data", data, start("first"));
    assert_outcome(&a, KD_EDATA, "same architecture");
    assert_false(there("kind", "recipe.txt"));
    a = TRAIN("none", NULL, FROZEN, "--data", data, start("nowhere"));
    assert_outcome(&a, KD_ENOINPUT, "nowhere/model.h5");
    a = TRAIN("first", NULL, FROZEN, "--lr=0.1", "--data", slice("0:32"),
              start("going-on"));
    assert_outcome(&a, KD_EUSAGE, "another run");
}

/* Of three channels, where the data have one. */
static void networks_for_other_samples_are_refused(void **state)
{
    struct kd_model model;
    struct kd_network *net = network_at(in_run("first", "model.h5"), &model);
    const char *path = fixture_path("wide.h5");

    (void)state;
    kd_network_free(net);
    model.sizes.channels = 3;
    assert_int_equal(kd_network_build(&model.arch, &model.sizes, 1, false, &net),
                     KD_OK);
    assert_int_equal(kd_graph_initialise(net->graph, 1), KD_OK);
    assert_int_equal(kd_model_save(path, &model, net->graph, "test"), KD_OK);
    kd_network_free(net);
    struct outcome a = TRAIN("samples", NULL, FROZEN, "--data", data_name(true),
                             "--start", fixture_path("wide.h5"));
    assert_outcome(&a, KD_EDATA, "other than those of");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_begins_with_the_weights_that_it_is_given),
        cmocka_unit_test(its_input_is_normalised_as_the_network_is_used_to),
        cmocka_unit_test(a_run_that_was_stopped_goes_on_to_the_same_bytes),
        cmocka_unit_test(networks_of_another_kind_are_refused),
        cmocka_unit_test(networks_for_other_samples_are_refused),
    };

    return cmocka_run_group_tests_name("start", tests, open_runs, fixture_close);
}
