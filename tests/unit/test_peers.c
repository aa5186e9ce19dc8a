/* SPDX-License-Identifier: MIT */
/* The engine of networks that learn together, and deep mutual learning, against small
 * networks in double precision. */
#include "peers_reference.h"

/* -- deep mutual learning ------------------------------------------------ */

enum update { GAUSS_SEIDEL, SIMULTANEOUS, ALTERNATING };

static void reference_step(struct net *nets, size_t count, enum update update,
                           const struct kd_batch *const *batch, double weight, double t)
{
    static struct net before[KD_MAX_PEERS];
    struct answers answers[KD_MAX_PEERS];

    memcpy(before, nets, count * sizeof *nets);
    for (size_t k = 0; k < count; k++) {
        const struct net *asked = update == SIMULTANEOUS ? before : nets;
        const size_t n = ask_others(asked, count, k, batch[k], t, answers);
        learn(&nets[k], batch[k], answers, n, 1, weight, t);
    }
}

static void check_dml(const char *update_text, enum update update, size_t count,
                      bool sum, double t, bool independent)
{
    static struct net nets[KD_MAX_PEERS];
    struct bench b;
    char peers[32], how[64], temperature[64];
    const double weight = independent ? 0 : 0.7 * (sum ? 1 : 1 / (double)(count - 1));

    snprintf(peers, sizeof peers, "--peers=%zu", count);
    snprintf(how, sizeof how, "--update=%s", update_text);
    snprintf(temperature, sizeof temperature, "--temperature=%g", t);
    OPEN(&b, "--data", data_name(true), "--network", TINY, peers, how, temperature,
         "--soft=0.7", PLAIN_SGD, sum ? "--sum-peers" : "--no-sum-peers",
         independent ? "--independent" : "--no-independent");
    for (size_t k = 0; k < count; k++)
        copy_net(b.p.learning->part[k]->graph, &nets[k]);
    for (int epoch = 0; epoch < 2; epoch++) {
        kd_peers_begin_epoch(&b.p);
        for (uint64_t step = 0; step < STEPS; step++) {
            take_step(&b, step);
            reference_step(nets, count, update, b.p.batch, weight, t);
        }
        b.own.done++;
    }
    for (size_t k = 0; k < count; k++)
        assert_like_net(b.p.learning->part[k]->graph, &nets[k]);
    close_bench(&b);
}

static void dml_is_the_algorithm_of_the_paper(void **state)
{
    (void)state;
    check_dml("gauss-seidel", GAUSS_SEIDEL, 2, false, 1, false);
    check_dml("gauss-seidel", GAUSS_SEIDEL, 3, false, 1, false);
    check_dml("simultaneous", SIMULTANEOUS, 2, false, 1, false);
    check_dml("alternating", ALTERNATING, 2, false, 1, false);
}

/* The target is the mean of the others' probabilities: the reference takes the
 * divergences from each of them. */
static void a_mean_of_divergences_is_one_from_the_mean(void **state)
{
    (void)state;
    check_dml("simultaneous", SIMULTANEOUS, 3, false, 3, false);
    check_dml("simultaneous", SIMULTANEOUS, 4, true, 2, false);
    check_dml("alternating", ALTERNATING, 3, true, 2, false);
}

static void without_exchange_each_learns_alone(void **state)
{
    (void)state;
    check_dml("gauss-seidel", GAUSS_SEIDEL, 3, false, 1, true);
    check_dml("alternating", ALTERNATING, 2, false, 1, true);
}

static void each_network_has_its_own_batches_where_they_alternate(void **state)
{
    struct bench b;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--network", TINY, "--update=alternating",
         "--holdout=0.2");
    kd_peers_begin_epoch(&b.p);
    assert_int_equal(kd_peers_begin_step(&b.p, 0), KD_OK);
    assert_memory_not_equal(b.p.batch[0]->id, b.p.batch[1]->id,
                            ROWS * sizeof b.p.batch[0]->id[0]);
    /* what is held out is the same for all */
    assert_int_equal(b.own.order[0].num_held, b.own.order[1].num_held);
    assert_memory_equal(b.own.order[0].held, b.own.order[1].held,
                        b.own.order[0].num_held * sizeof b.own.order[0].held[0]);
    close_bench(&b);
}

/* Two networks trained by themselves for a step at a time, each on the soft labels that
 * the other gave before: the rounds of a staged codistillation, a step long. */
static void rounds_of_one_step_are_simultaneous_learning(void **state)
{
    static const struct kd_loss loss = {
        .hard = 1, .soft = 1, .temperature = 3, .t_squared = true};
    static const struct kd_sgd sgd = {
        .momentum = 0.9, .nesterov = true, .weight_decay = DECAY};
    struct kd_network *nets[2];
    struct kd_optimizer *optimizers[2];
    struct kd_loss_sums sums = {0};
    float soft[2][ROWS * CLASSES], z[2][ROWS * CLASSES], gradient[ROWS * CLASSES];
    struct kd_arch arch;
    struct bench b;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--network", "resnet8", "--temperature=3",
         "--update=simultaneous", PLAIN_SGD);
    arch = b.recipe.arch[0];
    for (int k = 0; k < 2; k++) {
        assert_int_equal(kd_network_build(&arch, &b.p.sizes, ROWS, true, &nets[k]),
                         KD_OK);
        assert_int_equal(
            kd_graph_copy_parameters(nets[k]->graph, b.p.learning->part[k]->graph),
            KD_OK);
        assert_int_equal(kd_optimizer_new(nets[k]->graph, &sgd, &optimizers[k]), KD_OK);
    }
    kd_peers_begin_epoch(&b.p);
    for (uint64_t step = 0; step < STEPS; step++) {
        take_step(&b, step);
        for (int k = 0; k < 2; k++) {
            kd_tensor_set(nets[k]->input, b.p.batch[0]->input, ROWS);
            assert_int_equal(kd_graph_forward(nets[k]->graph), KD_OK);
            kd_tensor_get(nets[k]->logits, z[k], ROWS);
            for (size_t r = 0; r < ROWS; r++)
                (void)kd_softmax(z[k] + r * CLASSES, CLASSES, 3, soft[k] + r * CLASSES);
        }
        for (int k = 0; k < 2; k++) {
            const struct kd_targets targets = {.label = b.p.batch[0]->label,
                                               .soft = soft[1 - k]};
            assert_int_equal(
                kd_loss_batch(&loss, ROWS, CLASSES, z[k], &targets, gradient, &sums),
                KD_OK);
            kd_tensor_set_gradient(nets[k]->logits, gradient);
            assert_int_equal(kd_graph_backward(nets[k]->graph), KD_OK);
            kd_optimizer_step(optimizers[k], LR);
        }
    }
    for (int k = 0; k < 2; k++) {
        assert_same_weights(nets[k]->graph, b.p.learning->part[k]->graph);
        kd_optimizer_free(optimizers[k]);
        kd_network_free(nets[k]);
    }
    close_bench(&b);
}

/* -- first weights ------------------------------------------------------- */

static void members_begin_apart_and_each_seed_elsewhere(void **state)
{
    struct bench one, two;
    float *w[4];
    size_t n = 0;

    (void)state;
    OPEN(&one, "--data", data_name(true), "--network", TINY, "--seed=1");
    OPEN(&two, "--data", data_name(true), "--network", TINY, "--seed=2");
    for (int k = 0; k < 4; k++)
        w[k] = weights_of((k < 2 ? &one : &two)->p.learning->part[k % 2]->graph, &n);
    for (int k = 0; k < 4; k++)
        for (int l = 0; l < k; l++)
            assert_memory_not_equal(w[k], w[l], n * sizeof *w[k]);
    for (int k = 0; k < 4; k++)
        free(w[k]);
    close_bench(&one);
    close_bench(&two);
}

/* -- ensembles ----------------------------------------------------------- */

static void the_ensemble_is_the_mean_of_probabilities(void **state)
{
    struct bench b;
    size_t right = 0;
    double nll = 0;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--test", data_name(true), "--networks",
         "mlp,plain2,resnet8");
    kd_peers_begin_epoch(&b.p);
    for (uint64_t step = 0; step < STEPS; step++)
        take_step(&b, step);
    b.own.done++;
    assert_int_equal(kd_peers_measure(&b.p), KD_OK);
    for (size_t i = 0; i < SAMPLES; i++) {
        double mean[CLASSES] = {0}, p[CLASSES], z[CLASSES];
        size_t best = 0;
        for (int k = 0; k < 3; k++) {
            for (size_t c = 0; c < CLASSES; c++)
                z[c] = (double)b.p.measuring->member[k].z[i * CLASSES + c];
            soften(z, 1, p);
            for (size_t c = 0; c < CLASSES; c++)
                mean[c] += p[c] / 3;
        }
        for (size_t c = 1; c < CLASSES; c++)
            best = mean[c] > mean[best] ? c : best;
        right += best == i % CLASSES;
        nll -= log(mean[i % CLASSES]);
    }
    assert_int_equal(b.own.now.test[3].samples, SAMPLES);
    assert_true(near(b.own.now.test[3].accuracy, (double)right / SAMPLES));
    assert_true(near(b.own.now.test[3].nll, nll / SAMPLES));
    assert_int_equal(b.own.now.test[4].samples, 0); /* dml has no other ensemble */
    close_bench(&b);
}

/* -- branches ------------------------------------------------------------ */

static enum kd_status build_branches(struct kd_peers *p, struct kd_team *team)
{
    struct kd_tensor *trunk = NULL;

    return kd_team_branches(p, team, 1, &trunk);
}

static void a_branch_is_saved_as_a_network_with_its_trunk(void **state)
{
    struct bench b;
    struct kd_method branches;

    (void)state;
    assert_int_equal(PARSE(&b, "--data", data_name(true), "--test", data_name(true),
                           "--network", "resnet8", "--peers=3"),
                     KD_OK);
    branches = *b.recipe.chosen;
    branches.build = build_branches;
    b.recipe.chosen = &branches;
    open_bench(&b);
    kd_peers_begin_epoch(&b.p);
    for (uint64_t step = 0; step < 2; step++) { /* BN's statistics move, too */
        assert_int_equal(kd_peers_begin_step(&b.p, step), KD_OK);
        assert_int_equal(kd_team_show(&b.p, b.p.learning), KD_OK);
        for (size_t k = 0; k < 3; k++) {
            kd_team_mean(&b.p, b.p.learning, k, b.p.target);
            assert_int_equal(
                kd_member_learn(&b.p, &b.p.learning->member[k], b.p.target, 1), KD_OK);
        }
        assert_int_equal(kd_part_improve(&b.p, b.p.learning->part[0]), KD_OK);
    }
    b.own.done++;
    assert_int_equal(b.p.learning->num_parts, 1);
    assert_int_equal(kd_peers_measure(&b.p), KD_OK);
    for (size_t k = 0; k < 3; k++) {
        const struct kd_member *m = &b.p.learning->member[k];
        char *path = kd_peers_path(&b.p, m, "");
        struct kd_network *net = NULL;
        struct kd_model model;
        float z[ROWS * CLASSES];
        assert_int_equal(kd_peers_keep(&b.p, m, ""), KD_OK);
        assert_int_equal(kd_model_open(path, &model), KD_OK);
        assert_int_equal(model.epoch, 1);
        assert_int_equal(kd_network_build(&model.arch, &model.sizes, ROWS, false, &net),
                         KD_OK);
        assert_int_equal(kd_model_load(path, net->graph), KD_OK);
        b.p.batch[0] = &b.own.feed[0].batch[0];
        kd_tensor_set(net->input, b.p.batch[0]->input, ROWS);
        assert_int_equal(kd_graph_forward(net->graph), KD_OK);
        kd_tensor_get(net->logits, z, ROWS);
        assert_int_equal(kd_team_show(&b.p, b.p.measuring), KD_OK);
        for (size_t i = 0; i < ROWS * CLASSES; i++)
            assert_true(fabsf(z[i] - b.p.measuring->member[k].z[i]) < 1e-4F);
        kd_network_free(net);
        free(path);
    }
    close_bench(&b);
}

/* -- recipes ------------------------------------------------------------- */

static void no_two_options_have_one_name(void **state)
{
    struct kd_peers_recipe recipe;
    struct kd_option options[KD_PEERS_OPTIONS];

    (void)state;
    kd_peers_recipe_init(&recipe);
    kd_peers_recipe_options(&recipe, options);
    for (size_t i = 0; options[i].name != NULL; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(options[i].name, options[j].name) == 0)
                fail_msg("two options are named %s", options[i].name);
}

static void recipes_that_cannot_be_are_refused(void **state)
{
    const char *data = data_name(true);

    (void)state;
    REFUSED(KD_EUSAGE, "which networks", "--data", data);
    REFUSED(KD_EUSAGE, "what to train on", "--network=mlp");
    REFUSED(KD_EUSAGE, "either --networks", "--data", data, "--networks=mlp,mlp",
            "--network=mlp");
    REFUSED(KD_EUSAGE, "either --networks", "--data", data, "--networks=mlp,mlp",
            "--peers=2");
    REFUSED(KD_ERECIPE, "at least 2, not 1", "--data", data, "--networks=mlp");
    REFUSED(KD_ERECIPE, "at most 8", "--data", data,
            "--networks=mlp,mlp,mlp,mlp,mlp,mlp,mlp,mlp,mlp");
    REFUSED(KD_ERECIPE, "6n+2", "--data", data, "--networks=mlp,resnet9");
    REFUSED(KD_ERECIPE, "are a list", "--data", data, "--networks={family: mlp}");
    REFUSED(KD_ERECIPE, "schedule step", "--data", data, "--network=mlp", "--every=3");
    REFUSED(KD_ERECIPE, "nothing to learn", "--data", data, "--network=mlp", "--hard=0",
            "--soft=0");
    REFUSED(KD_ERECIPE, "leaves independent networks nothing", "--data", data,
            "--network=mlp", "--hard=0", "--independent");
    REFUSED(KD_ERECIPE, "two networks, or forward", "--data", data, "--network=mlp",
            "--peers=3", "--direction=reverse");
    REFUSED(KD_ERECIPE, "learns from its teacher alone", "--data", data,
            "--network=mlp", "--method=prokt", "--ramp=linear", "--ramp-epochs=2");
    REFUSED(KD_EUSAGE, "labels", "--data", data, "--network=mlp", "--labels=soft");
}

static void the_recipe_takes_the_values_of_its_method(void **state)
{
    struct bench b;

    (void)state;
    assert_int_equal(PARSE(&b, "--data", data_name(true), "--network=mlp"), KD_OK);
    assert_int_equal(b.recipe.count, 2);
    assert_true(b.recipe.base.loss.hard == 1 && b.recipe.base.loss.soft == 1);
    assert_true(b.recipe.base.loss.temperature == 1);
    assert_int_equal(b.recipe.base.ramp.kind, KD_RAMP_NONE);
    assert_string_equal(b.recipe.name[1], "peer2");
    close_bench(&b);
    assert_int_equal(PARSE(&b, "--data", data_name(true), "--networks",
                           "[mlp, {family: plain, layers: 2}]", "--temperature=3",
                           "--ramp=sigmoid", "--soft=0.5"),
                     KD_OK);
    assert_true(b.recipe.base.loss.soft == 0.5);
    assert_true(b.recipe.base.loss.temperature == 3);
    assert_int_equal(b.recipe.base.ramp.epochs, 80);
    assert_int_equal(b.recipe.arch[1].family, KD_FAMILY_PLAIN);
    open_bench(&b);
    kd_peers_begin_epoch(&b.p);
    assert_true(near(b.p.loss.soft, 0.5 * exp(-5))); /* of the first epoch */
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dml_is_the_algorithm_of_the_paper),
        cmocka_unit_test(a_mean_of_divergences_is_one_from_the_mean),
        cmocka_unit_test(without_exchange_each_learns_alone),
        cmocka_unit_test(each_network_has_its_own_batches_where_they_alternate),
        cmocka_unit_test(rounds_of_one_step_are_simultaneous_learning),
        cmocka_unit_test(members_begin_apart_and_each_seed_elsewhere),
        cmocka_unit_test(the_ensemble_is_the_mean_of_probabilities),
        cmocka_unit_test(a_branch_is_saved_as_a_network_with_its_trunk),
        cmocka_unit_test(no_two_options_have_one_name),
        cmocka_unit_test(recipes_that_cannot_be_are_refused),
        cmocka_unit_test(the_recipe_takes_the_values_of_its_method),
    };

    return cmocka_run_group_tests(tests, open_all, fixture_close);
}
