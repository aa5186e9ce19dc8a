/* SPDX-License-Identifier: MIT */
/* FFL: a classifier of fused feature maps that teaches and learns. */
#include "peers_runs.h"
#include "peers_slopes.h"

#define TINY   "{family: resnet, depth: 8, width: 4}"
#define OTHER  "{family: resnet, depth: 8, width: 6}"
#define TOKENS "{family: vit, patch: 2, width: 16, depth: 3, heads: 2}"

static struct kd_part *module_of(const struct bench *b)
{
    return b->p.learning->part[b->p.learning->num_parts - 1];
}

/* What the module adds to the loss: CE(y, p_f) + w T^2 KL(p_e || p_f). */
static double fused_loss(const struct slopes *s)
{
    struct slopes *now = (struct slopes *)s;
    const size_t count = s->bench->p.learning->num_members;
    double ensemble[ROWS][CLASSES];

    mean_answer(now->before, count, count, ensemble);
    return hard_loss(s, now->extra) + soft_loss(s, ensemble, now->extra);
}

static double loss_of_ffl(const struct slopes *s)
{
    struct slopes *now = (struct slopes *)s;
    double sum = fused_loss(s);

    for (size_t k = 0; k < s->bench->p.learning->num_members; k++)
        sum += hard_loss(s, now->z[k]) + soft_loss(s, now->extra_before, now->z[k]);
    return sum;
}

static void check_ffl(const char *networks, const char *option, size_t parts,
                      size_t places)
{
    struct slopes s = {.loss = loss_of_ffl};
    struct bench b;

    OPEN(&b, "--data", data_name(true), "--method=ffl", "--networks", networks, option,
         "--ramp=none", "--soft=0.7");
    assert_int_equal(b.p.learning->num_parts, parts);
    s.more = module_of(&b)->out;
    begin_slopes(&s, &b);
    check_all_slopes(&s, places, 8e-2);
    close_bench(&b);
}

static void ffl_has_the_gradients_of_its_loss(void **state)
{
    (void)state;
    check_ffl("[" TINY ", " TINY "]", "--no-ffl-separate", 2, 3);
    check_ffl("[" TINY ", " TINY "]", "--ffl-separate", 3, 2);
    check_ffl("[" OTHER ", " TOKENS "]", "--no-ffl-separate", 3, 1);
    check_ffl("[" TINY ", " TINY ", " TINY "]", "--no-ffl-separate", 2, 1);
}

/* One of the cases above has maps of two sizes. */
static void maps_may_be_of_unlike_sizes(void **state)
{
    const struct kd_tensor *a, *b;
    struct bench bench;

    (void)state;
    OPEN(&bench, "--data", data_name(true), "--method=ffl", "--networks",
         "[" OTHER ", " TOKENS "]");
    a = bench.p.learning->member[0].map;
    b = bench.p.learning->member[1].map;
    assert_int_equal(b->height, 2 * a->height);
    close_bench(&bench);
}

/* The loss of the fused classifier alone has slopes in the trunk, through maps that are
 * not constant, and they are part of the gradient there: without them that would be off
 * by as much. */
static void the_fused_loss_reaches_the_trunk(void **state)
{
    struct slopes s = {.loss = fused_loss};
    struct slope_sums fused, all;
    struct kd_graph *g;
    struct bench b;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--method=ffl", "--network", TINY, "--soft=1",
         "--ramp=none");
    s.more = module_of(&b)->out;
    begin_slopes(&s, &b);
    g = b.p.learning->part[0]->graph;
    assert_string_equal(kd_graph_parameter(g, 0)->name, "conv1.weight");
    fused = measure_slopes(&s, g, kd_graph_parameter(g, 0), 6);
    assert_true(fused.slopes > 1e-4);
    s.loss = loss_of_ffl;
    all = measure_slopes(&s, g, kd_graph_parameter(g, 0), 6);
    assert_true(sqrt(all.off) < 0.2 * sqrt(fused.slopes));
    close_bench(&b);
}

static void the_module_has_a_weight_decay_of_its_own(void **state)
{
    struct bench b;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--method=ffl", "--network", TINY,
         "--weight-decay=0.003");
    assert_true(module_of(&b)->rule[0].sgd.weight_decay == 1e-5);
    assert_true(b.p.learning->part[0]->rule[0].sgd.weight_decay == 0.003);
    close_bench(&b);
    OPEN(&b, "--data", data_name(true), "--method=ffl", "--network", TINY,
         "--optimizer=adam", "--ffl-fusion-decay=0.02");
    assert_true(module_of(&b)->rule[0].adam.weight_decay == 0.02);
    close_bench(&b);
}

static void the_module_learns(void **state)
{
    struct bench b;
    float before[16];
    size_t moved = 0;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--method=ffl", "--network", TINY,
         "--schedule=constant", "--warmup=0");
    const struct kd_graph *g = module_of(&b)->graph;
    const size_t count = kd_graph_num_parameters(g);
    for (size_t i = 0; i < count; i++)
        before[i] = kd_graph_parameter(g, i)->value[0];
    kd_peers_begin_epoch(&b.p);
    take_step(&b, 0);
    for (size_t i = 0; i < count; i++)
        moved += kd_graph_parameter(g, i)->trained &&
                 kd_graph_parameter(g, i)->value[0] != before[i];
    assert_int_equal(moved, 8); /* depthwise, pointwise, two norms, fc */
    close_bench(&b);
}

/* Measured on all samples, the module's answer is that of its own ensemble call. */
static void the_fused_classifier_is_measured(void **state)
{
    struct bench b;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--test", data_name(true), "--method=ffl",
         "--network", TINY);
    kd_peers_begin_epoch(&b.p);
    for (uint64_t step = 0; step < 4; step++)
        take_step(&b, step);
    b.own.done++;
    assert_int_equal(kd_peers_measure(&b.p), KD_OK);
    assert_int_equal(b.own.now.test[3].samples, SAMPLES);
    assert_true(b.own.now.test[3].nll > 0);
    assert_true(b.own.now.test[3].nll != b.own.now.test[2].nll);
    close_bench(&b);
}

static void alone_there_is_no_module(void **state)
{
    struct bench b;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--test", data_name(true), "--method=ffl",
         "--network", TINY, "--independent");
    assert_int_equal(b.p.learning->num_parts, 2);
    kd_peers_begin_epoch(&b.p);
    take_step(&b, 0);
    assert_int_equal(kd_peers_measure(&b.p), KD_OK);
    assert_int_equal(b.own.now.test[3].samples, 0);
    close_bench(&b);
}

static void networks_without_maps_are_refused(void **state)
{
    struct bench b;

    (void)state;
    assert_int_equal(PARSE(&b, "--data", data_name(true), "--method=ffl", "--networks",
                           "resnet8,mlp"),
                     KD_ERECIPE);
    assert_non_null(strstr(kd_error(), "peer2 is an mlp"));
    close_bench(&b);
}

static void interrupted_runs_keep_the_module(void **state)
{
    (void)state;
    CHECK_RESUME(files_of_two, "--method=ffl", "--network", TINY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ffl_has_the_gradients_of_its_loss),
        cmocka_unit_test(maps_may_be_of_unlike_sizes),
        cmocka_unit_test(the_fused_loss_reaches_the_trunk),
        cmocka_unit_test(the_module_has_a_weight_decay_of_its_own),
        cmocka_unit_test(the_module_learns),
        cmocka_unit_test(the_fused_classifier_is_measured),
        cmocka_unit_test(alone_there_is_no_module),
        cmocka_unit_test(networks_without_maps_are_refused),
        cmocka_unit_test(interrupted_runs_keep_the_module),
    };

    return cmocka_run_group_tests(tests, open_all, fixture_close);
}
