/* SPDX-License-Identifier: MIT */
/* Branches of one trunk: ONE's gate, and CL-ILR's gentle heads. */
#include "peers_runs.h"
#include "peers_slopes.h"

#define BRANCHES 3
#define DEEP     "--network={family: mlp, hidden: [8, 6]}"
#define SMOOTH   "{family: mlp, hidden: [6, 5], batch-norm: false}"
#define TINY     "{family: resnet, depth: 8, width: 4}"

static void set_plain(struct kd_graph *g, const char *name, const float *plain)
{
    for (size_t i = 0; i < kd_graph_num_parameters(g); i++) {
        struct kd_parameter *p = kd_graph_parameter(g, i);
        if (strcmp(p->name, name) != 0)
            continue;
        kd_parameter_set(p, plain, p->value);
        kd_graph_parameters_changed(g);
        return;
    }
    fail_msg("no %s", name);
}

/* -- ONE ----------------------------------------------------------------- */

static double loss_of_one(const struct slopes *s)
{
    struct slopes *now = (struct slopes *)s;
    double sum = hard_loss(s, now->extra);

    for (size_t i = 0; i < BRANCHES; i++)
        sum += hard_loss(s, now->z[i]) + soft_loss(s, now->extra_before, now->z[i]);
    return sum;
}

static void check_one(const char *network, size_t places, double tolerance)
{
    struct slopes s = {.loss = loss_of_one};
    struct bench b;

    OPEN(&b, "--data", data_name(true), "--method=one", "--network", network,
         "--ramp=none", "--soft=0.7");
    s.more = b.p.learning->part[0]->out;
    begin_slopes(&s, &b);
    assert_true(s.w == 0.7 && s.t == 3);
    check_all_slopes(&s, places, tolerance);
    close_bench(&b);
}

static void one_has_the_gradients_of_its_loss(void **state)
{
    (void)state;
    check_one(SMOOTH, 12, 1e-2);
    check_one(TINY, 3, 4e-2);
}

/* The gate that is given takes over: even odds, or the third branch alone. */
static void a_gate_weighs_its_branches(void **state)
{
    const float nothing[BRANCHES * 8] = {0}, third[BRANCHES] = {0, 0, 80};
    float got[ROWS * CLASSES], *z;
    struct bench b;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--method=one", "--network", TINY);
    struct kd_part *part = b.p.learning->part[0];
    kd_peers_begin_epoch(&b.p);
    assert_int_equal(kd_peers_begin_step(&b.p, 0), KD_OK);
    set_plain(part->graph, "gate.fc.weight", nothing);
    for (int even = 0; even < 2; even++) {
        set_plain(part->graph, "gate.bn.bias", even ? nothing : third);
        assert_int_equal(kd_team_show(&b.p, b.p.learning), KD_OK);
        kd_tensor_get(part->out, got, ROWS);
        for (size_t i = 0; i < ROWS * CLASSES; i++) {
            double want = 0;
            for (size_t k = 0; k < BRANCHES; k++) {
                z = b.p.learning->member[k].z;
                want += (double)z[i] * (even ? 1.0 / BRANCHES : k == 2 ? 1 : 0);
            }
            assert_true(fabs((double)got[i] - want) < 1e-5 * (1 + fabs(want)));
        }
    }
    close_bench(&b);
}

/* -- CL-ILR -------------------------------------------------------------- */

static double loss_of_heads(const struct slopes *s)
{
    struct slopes *now = (struct slopes *)s;
    double sum = 0, others[ROWS][CLASSES];

    for (size_t h = 0; h < BRANCHES; h++) {
        mean_answer(now->before, BRANCHES, h, others);
        sum += hard_loss(s, now->z[h]) + soft_loss(s, others, now->z[h]);
    }
    return sum;
}

static double share_of_trunk(const char *name)
{
    return strncmp(name, "peer", 4) == 0 ? 1 : 1.0 / BRANCHES;
}

static void cl_ilr_divides_what_heads_send_into_the_trunk(void **state)
{
    struct slopes s = {.loss = loss_of_heads, .share = share_of_trunk};
    struct bench b;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--method=cl-ilr", "--network", SMOOTH,
         "--peers=3", "--ramp=none", "--soft=0.7");
    begin_slopes(&s, &b);
    check_all_slopes(&s, 12, 1e-2);
    close_bench(&b);
}

/* -- both ---------------------------------------------------------------- */

/* Alone, members are whole networks: the first is what dml's first is alone. */
static void without_exchange_there_is_no_trunk(void **state)
{
    static const char *const methods[] = {"--method=one", "--method=cl-ilr"};
    struct bench b, dml;

    (void)state;
    for (int m = 0; m < 2; m++) {
        OPEN(&b, "--data", data_name(true), methods[m], "--network", TINY, "--peers=3",
             "--independent");
        OPEN(&dml, "--data", data_name(true), "--method=dml", "--network", TINY,
             "--peers=3", "--independent");
        assert_int_equal(b.p.learning->num_parts, 3);
        kd_peers_begin_epoch(&b.p);
        kd_peers_begin_epoch(&dml.p);
        for (uint64_t step = 0; step < 2; step++) {
            take_step(&b, step);
            take_step(&dml, step);
        }
        for (size_t k = 0; k < 3; k++)
            assert_same_weights(b.p.learning->part[k]->graph,
                                dml.p.learning->part[k]->graph);
        close_bench(&b);
        close_bench(&dml);
    }
}

static void the_ramp_and_the_temperature_are_those_of_the_paper(void **state)
{
    static const char *const methods[] = {"--method=one", "--method=cl-ilr",
                                          "--method=okddip", "--method=ffl"};
    struct bench b;

    (void)state;
    for (int m = 0; m < 4; m++) {
        OPEN(&b, "--data", data_name(true), methods[m], "--network", TINY);
        b.own.done = 40;
        kd_peers_begin_epoch(&b.p);
        assert_true(b.p.loss.temperature == 3 && b.p.loss.hard == 1);
        assert_true(fabs(b.p.loss.soft - exp(-5 * 0.25)) < 1e-12);
        close_bench(&b);
    }
}

static void branches_are_of_one_network(void **state)
{
    struct bench b;

    (void)state;
    assert_int_equal(PARSE(&b, "--data", data_name(true), "--method=one", "--networks",
                           "resnet8,resnet14,resnet8"),
                     KD_ERECIPE);
    assert_non_null(strstr(kd_error(), "one network"));
    close_bench(&b);
}

static void interrupted_runs_keep_trunk_and_gate(void **state)
{
    (void)state;
    CHECK_RESUME(files_of_two, "--method=one", "--peers=2", DEEP);
}

static void interrupted_runs_keep_trunk_and_heads(void **state)
{
    (void)state;
    CHECK_RESUME(files_of_two, "--method=cl-ilr", "--peers=2", DEEP);
}

static void networks_without_a_trunk_are_refused(void **state)
{
    (void)state;
    NOT_OPENED(KD_ERECIPE, "too shallow for a trunk", "--data", data_name(true),
               "--method=one", "--network={family: mlp, hidden: [6]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_has_the_gradients_of_its_loss),
        cmocka_unit_test(a_gate_weighs_its_branches),
        cmocka_unit_test(cl_ilr_divides_what_heads_send_into_the_trunk),
        cmocka_unit_test(without_exchange_there_is_no_trunk),
        cmocka_unit_test(the_ramp_and_the_temperature_are_those_of_the_paper),
        cmocka_unit_test(branches_are_of_one_network),
        cmocka_unit_test(networks_without_a_trunk_are_refused),
        cmocka_unit_test(interrupted_runs_keep_trunk_and_gate),
        cmocka_unit_test(interrupted_runs_keep_trunk_and_heads),
    };

    return cmocka_run_group_tests(tests, open_all, fixture_close);
}
