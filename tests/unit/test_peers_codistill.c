/* SPDX-License-Identifier: MIT */
/* Codistillation: what the others were at the last exchange, against small networks in
 * double precision. */
#include "peers_reference.h"
#include "peers_runs.h"

#define EPOCHS 3

struct variant {
    size_t count;
    uint64_t every, burn_in;
    bool own_batches;
    double t;
};

static void reference_step(struct net *nets, const struct net *stale,
                           const struct variant *v, bool learns,
                           const struct kd_batch *const *batch)
{
    struct answers answers[KD_MAX_PEERS];

    for (size_t k = 0; k < v->count; k++) {
        const size_t n =
            learns ? ask_others(stale, v->count, k, batch[k], v->t, answers) : 0;
        learn(&nets[k], batch[k], answers, n, 1, 0.7 / (double)(v->count - 1), v->t);
    }
}

static void check(const struct variant *v)
{
    static struct net nets[KD_MAX_PEERS], stale[KD_MAX_PEERS];
    char peers[32], every[48], burn_in[48], temperature[48];
    uint64_t since = 0;
    struct bench b;

    snprintf(peers, sizeof peers, "--peers=%zu", v->count);
    snprintf(every, sizeof every, "--exchange-every=%llu",
             (unsigned long long)v->every);
    snprintf(burn_in, sizeof burn_in, "--burn-in=%llu", (unsigned long long)v->burn_in);
    snprintf(temperature, sizeof temperature, "--temperature=%g", v->t);
    OPEN(&b, "--data", data_name(true), "--method=codistill", "--network", TINY, peers,
         every, burn_in, temperature, "--soft=0.7", PLAIN_SGD,
         v->own_batches ? "--own-batches" : "--no-own-batches");
    for (size_t k = 0; k < v->count; k++)
        copy_net(b.p.learning->part[k]->graph, &nets[k]);
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        const bool learns = epoch >= v->burn_in;
        kd_peers_begin_epoch(&b.p);
        for (uint64_t step = 0; step < STEPS; step++) {
            take_step(&b, step);
            assert_true((b.p.batch[0] != b.p.batch[1]) == v->own_batches);
            if (learns && since++ % v->every == 0)
                memcpy(stale, nets, sizeof stale);
            reference_step(nets, stale, v, learns, b.p.batch);
        }
        assert_int_equal(b.own.now.sums[0].softened, learns ? STEPS * ROWS : 0);
        b.own.done++;
    }
    for (size_t k = 0; k < v->count; k++)
        assert_like_net(b.p.learning->part[k]->graph, &nets[k]);
    close_bench(&b);
}

/* Exchanges of every 3 steps, where an epoch has 4, don't begin anew with an epoch. */
static void others_are_as_old_as_the_last_exchange(void **state)
{
    (void)state;
    check(&(struct variant){2, 3, 0, false, 1});
    check(&(struct variant){3, 5, 0, false, 2});
    check(&(struct variant){2, 1000, 0, false, 1});
}

static void at_first_there_are_labels_alone(void **state)
{
    (void)state;
    check(&(struct variant){2, 3, 1, false, 1});
    check(&(struct variant){2, 1, 2, false, 3});
    check(&(struct variant){2, 1, EPOCHS, false, 1});
}

static void others_are_asked_about_ones_own_batch(void **state)
{
    (void)state;
    check(&(struct variant){2, 3, 0, true, 1});
    check(&(struct variant){3, 2, 1, true, 1});
}

static void assert_near_weights(const struct kd_graph *a, const struct kd_graph *b)
{
    size_t n = 0, m = 0;
    float *x = weights_of(a, &n), *y = weights_of(b, &m);

    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(x[i] - y[i]) < 1e-6F);
    free(x);
    free(y);
}

static void an_exchange_at_every_step_is_mutual_learning(void **state)
{
    struct bench b, dml;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--method=codistill", "--network", TINY,
         "--peers=3", "--exchange-every=1", "--burn-in=0", PLAIN_SGD);
    OPEN(&dml, "--data", data_name(true), "--method=dml", "--network", TINY,
         "--peers=3", "--update=simultaneous", PLAIN_SGD);
    take_epochs(&b, 2);
    take_epochs(&dml, 2);
    for (size_t k = 0; k < 3; k++)
        assert_near_weights(b.p.learning->part[k]->graph,
                            dml.p.learning->part[k]->graph);
    close_bench(&b);
    close_bench(&dml);
}

/* The last target that was made is the second member's: what the first one was before
 * the step, with the statistics that it had gathered. */
static void the_others_answer_in_eval_mode(void **state)
{
    struct kd_network *before = NULL;
    float z[ROWS * CLASSES];
    struct bench b;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--method=codistill", TINY_NORM,
         "--exchange-every=1", "--burn-in=0");
    assert_int_equal(
        kd_network_build(&b.recipe.arch[0], &b.p.sizes, ROWS, false, &before), KD_OK);
    kd_peers_begin_epoch(&b.p);
    for (uint64_t step = 0; step < 3; step++) {
        assert_int_equal(
            kd_graph_copy_parameters(before->graph, b.p.learning->part[0]->graph),
            KD_OK);
        take_step(&b, step);
        kd_tensor_set(before->input, b.p.batch[1]->input, ROWS);
        assert_int_equal(kd_graph_forward(before->graph), KD_OK);
        kd_tensor_get(before->logits, z, ROWS);
        for (size_t r = 0; r < ROWS; r++)
            (void)kd_softmax(z + r * CLASSES, CLASSES, 1, z + r * CLASSES);
        assert_memory_equal(b.p.target, z, sizeof z);
    }
    kd_network_free(before);
    close_bench(&b);
}

static void without_exchange_each_learns_alone(void **state)
{
    static const char *const batches[] = {"--own-batches", "--no-own-batches"};
    static const char *const updates[] = {"--update=alternating",
                                          "--update=simultaneous"};
    struct bench b, dml;

    (void)state;
    for (int i = 0; i < 2; i++) {
        OPEN(&b, "--data", data_name(true), "--method=codistill", TINY_NORM,
             "--burn-in=0", "--independent", batches[i]);
        OPEN(&dml, "--data", data_name(true), "--method=dml", TINY_NORM,
             "--independent", updates[i]);
        assert_int_equal(b.p.learning->num_parts, 2);
        take_epochs(&b, 1);
        take_epochs(&dml, 1);
        for (size_t k = 0; k < 2; k++)
            assert_same_weights(b.p.learning->part[k]->graph,
                                dml.p.learning->part[k]->graph);
        close_bench(&b);
        close_bench(&dml);
    }
}

/* Two of the three epochs begin with the networks that an epoch before left behind. */
static void interrupted_runs_keep_what_the_others_were(void **state)
{
    (void)state;
    CHECK_RESUME(files_of_two, "--method=codistill",
                 "--networks=[{family: mlp, hidden: [16]}, {family: resnet, depth: 8, "
                 "width: 4}]",
                 "--exchange-every=3", "--burn-in=0", "--own-batches");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(others_are_as_old_as_the_last_exchange),
        cmocka_unit_test(at_first_there_are_labels_alone),
        cmocka_unit_test(others_are_asked_about_ones_own_batch),
        cmocka_unit_test(an_exchange_at_every_step_is_mutual_learning),
        cmocka_unit_test(the_others_answer_in_eval_mode),
        cmocka_unit_test(without_exchange_each_learns_alone),
        cmocka_unit_test(interrupted_runs_keep_what_the_others_were),
    };

    return cmocka_run_group_tests(tests, open_all, fixture_close);
}
