/* SPDX-License-Identifier: MIT */
/* AFD: critics, and networks that learn to pass for their neighbours. */
#include "peers_runs.h"
#include "peers_slopes.h"

/* Maps of 2x2 places, of 8, 16 and 4 channels. */
#define UNLIKE                                                                         \
    "--networks=[{family: resnet, depth: 8, width: 2}, "                               \
    "{family: resnet, depth: 8, width: 4}, {family: resnet, depth: 8, width: 1}]"
#define ALIKE "--network={family: resnet, depth: 8, width: 4}", "--peers=2"

#define PAIR                                                                           \
    "--networks=[{family: resnet, depth: 8, width: 1}, "                               \
    "{family: resnet, depth: 8, width: 2}]"

/* Nothing moves. */
#define STILL "--feature-lr=0", "--feature-decay=0", "--clip=0"

#define BEGIN(b, ...) OPEN((b), "--data", data_name(true), "--method=afd", __VA_ARGS__)

static const struct kd_part *part_of(const struct bench *b, const char *kind, size_t k)
{
    char name[32];

    snprintf(name, sizeof name, "%s %zu", kind, k + 1);
    for (size_t i = 0; i < b->p.learning->num_parts; i++)
        if (strcmp(b->p.learning->part[i]->name, name) == 0)
            return b->p.learning->part[i];
    fail_msg("no %s", name);
    return NULL;
}

/* -- the losses ---------------------------------------------------------- */

static size_t judge; /* whose critic the losses are of */

/* The mean of (aim - D)^2 over a half of what the critic was shown. */
static double squares(const struct slopes *s, bool own, double aim)
{
    float scores[2 * ROWS];
    double sum = 0;

    kd_tensor_get(part_of(s->bench, "critic", judge)->out, scores, 2 * ROWS);
    for (size_t r = 0; r < ROWS; r++)
        sum += pow(aim - 1 / (1 + exp(-(double)scores[own ? ROWS + r : r])), 2);
    return sum / ROWS;
}

static double feature_loss(const struct slopes *s)
{
    return squares(s, true, 1);
}

static double critic_loss(const struct slopes *s)
{
    return squares(s, false, 1) + squares(s, true, 0);
}

/* Critics that are sure of themselves have slopes worth comparing. */
static void sharpen_critics(struct bench *b)
{
    for (size_t k = 0; k < b->p.learning->num_members; k++) {
        struct kd_graph *g = part_of(b, "critic", k)->graph;
        for (size_t i = 0; i < kd_graph_num_parameters(g); i++) {
            struct kd_parameter *p = kd_graph_parameter(g, i);
            for (size_t j = 0; j < p->size && strcmp(p->name, "fc.weight") == 0; j++)
                p->value[j] *= 10;
        }
        kd_graph_parameters_changed(g);
    }
}

/* Of all that was looked at in a part: single parameters of early layers may move many
 * a ReLU across its bend. */
struct judgement {
    const char *part;
    double off, slopes;
};

static void add_sums(struct judgement *all, const struct slope_sums *sums,
                     const char *parameter)
{
    const double floor = 2e-3 * sqrt((double)sums->count);

    if (!(sqrt(sums->off) <= 0.1 * sqrt(sums->slopes) + floor))
        fail_msg("%s, %s: gradients are off by %g of %g", all->part, parameter,
                 sqrt(sums->off), sqrt(sums->slopes));
    all->off += sums->off;
    all->slopes += sums->slopes;
}

static void assert_slopes(const struct judgement *all)
{
    if (!(sqrt(all->off) <= 6e-2 * sqrt(all->slopes) && all->slopes > 1e-4))
        fail_msg("%s: gradients are off by %g of %g", all->part, sqrt(all->off),
                 sqrt(all->slopes));
}

static void check_part(struct slopes *s, const struct kd_part *part)
{
    struct judgement all = {.part = part->name};

    for (size_t i = 0; i < kd_graph_num_parameters(part->graph); i++) {
        struct kd_parameter *p = kd_graph_parameter(part->graph, i);
        if (!p->trained)
            continue;
        const struct slope_sums sums = measure_slopes(s, part->graph, p, 3);
        add_sums(&all, &sums, p->name);
    }
    assert_slopes(&all);
}

/* Only what critic k says of its own network: not the loss of the logits, nor what the
 * other critic, to which these maps are its neighbour's, makes of them. */
static void networks_have_the_gradients_of_their_feature_loss(void **state)
{
    struct slopes s = {.loss = feature_loss};
    struct bench b;

    (void)state;
    BEGIN(&b, PAIR, STILL);
    sharpen_critics(&b);
    begin_slopes(&s, &b);
    for (judge = 0; judge < 2; judge++) {
        const struct kd_part *transfer = part_of(&b, "transfer", judge);
        const bool widest = judge == 1;
        assert_int_equal(kd_graph_num_parameters(transfer->graph) == 0, widest);
        check_part(&s, b.p.learning->member[judge].part);
        if (!widest)
            check_part(&s, transfer);
    }
    close_bench(&b);
}

/* What an optimiser steps on: a tenth of it is Adam's first moment, if that was 0. */
static void gradient_of_rule(struct slopes *s, const struct kd_part *part, size_t rule,
                             size_t index, float *plain)
{
    const struct kd_parameter *p = kd_graph_parameter(part->graph, index);
    float *moment = kd_optimizer_moment(part->optimizer[rule], index, 0);

    memset(moment, 0, p->size * sizeof *moment);
    answer(s);
    kd_parameter_get(p, moment, plain);
    for (size_t i = 0; i < p->count; i++)
        plain[i] *= 10;
}

#define MOST_VALUES (16 * 16 * 9)

static void critics_step_on_their_own_loss(void **state)
{
    static float plain[MOST_VALUES], gradient[MOST_VALUES];
    struct slopes s = {.loss = critic_loss};
    struct bench b;

    (void)state;
    BEGIN(&b, PAIR, STILL);
    sharpen_critics(&b);
    begin_slopes(&s, &b);
    for (judge = 0; judge < 2; judge++) {
        const struct kd_part *critic = part_of(&b, "critic", judge);
        struct judgement all = {.part = critic->name};
        for (size_t i = 0; i < kd_graph_num_parameters(critic->graph); i++) {
            struct kd_parameter *p = kd_graph_parameter(critic->graph, i);
            struct slope_sums sums = {0};
            if (!p->trained)
                continue;
            assert_true(p->count <= MOST_VALUES);
            gradient_of_rule(&s, critic, 0, i, gradient);
            kd_parameter_get(p, p->value, plain);
            for (size_t j = 0; j < p->count; j += p->count / 4 + 1) {
                const double slope = slope_at(&s, critic->graph, p, plain, j);
                sums.off += pow(slope - (double)gradient[j], 2);
                sums.slopes += slope * slope;
                sums.count++;
            }
            add_sums(&all, &sums, p->name);
        }
        assert_slopes(&all);
    }
    close_bench(&b);
}

/* A network's second optimiser sees what the critic says, and nothing else. */
static void networks_have_an_optimizer_for_each_loss(void **state)
{
    struct slopes s = {.loss = feature_loss};
    float seen[MOST_VALUES], left[MOST_VALUES];
    struct bench b;

    (void)state;
    BEGIN(&b, ALIKE, STILL);
    begin_slopes(&s, &b);
    for (size_t k = 0; k < 2; k++) {
        const struct kd_part *part = b.p.learning->member[k].part;
        assert_int_equal(part->num_rules, 2);
        for (size_t i = 0; i < kd_graph_num_parameters(part->graph); i++) {
            const struct kd_parameter *p = kd_graph_parameter(part->graph, i);
            if (!p->trained)
                continue;
            gradient_of_rule(&s, part, 1, i, seen);
            kd_parameter_get(p, p->gradient, left);
            for (size_t j = 0; j < p->count; j++)
                assert_true(fabsf(seen[j] - left[j]) <= 1e-5F * fabsf(left[j]) + 1e-9F);
        }
    }
    close_bench(&b);
}

/* -- what is shown to whom ----------------------------------------------- */

static void a_critic_sees_its_neighbours_maps_and_its_own(void **state)
{
    const size_t half = (size_t)ROWS * 16 * 2 * 2;
    float *shown, *maps;
    struct bench b;

    (void)state;
    BEGIN(&b, UNLIKE);
    shown = kd_alloc(2 * half, sizeof *shown);
    maps = kd_alloc(half, sizeof *maps);
    assert_true(shown != NULL && maps != NULL);
    kd_peers_begin_epoch(&b.p);
    take_step(&b, 0);
    for (size_t k = 0; k < 3; k++) {
        kd_tensor_get(part_of(&b, "critic", k)->in, shown, 2 * ROWS);
        kd_tensor_get(part_of(&b, "transfer", (k + 1) % 3)->out, maps, ROWS);
        assert_memory_equal(shown, maps, half * sizeof *maps);
        kd_tensor_get(part_of(&b, "transfer", k)->out, maps, ROWS);
        assert_memory_equal(shown + half, maps, half * sizeof *maps);
    }
    free(shown);
    free(maps);
    close_bench(&b);
}

/* -- logits -------------------------------------------------------------- */

/* Statistics apart, which see each batch twice. */
static void assert_same_trained(const struct kd_graph *a, const struct kd_graph *b)
{
    for (size_t i = 0; i < kd_graph_num_parameters(a); i++) {
        const struct kd_parameter *p = kd_graph_parameter(a, i);
        if (p->trained)
            assert_memory_equal(p->value, kd_graph_parameter(b, i)->value,
                                p->size * sizeof *p->value);
    }
}

static void without_maps_it_is_mutual_learning(void **state)
{
    static const char *const maps[] = {"--no-adversarial", "--feature-lr=0",
                                       "--independent"};
    struct bench b, dml;

    (void)state;
    for (int i = 0; i < 3; i++) {
        const char *both = i == 2 ? "--independent" : "--no-independent";
        BEGIN(&b, ALIKE, both, maps[i]);
        OPEN(&dml, "--data", data_name(true), "--method=dml", ALIKE, both,
             "--update=simultaneous", "--temperature=3");
        take_epochs(&b, 1);
        take_epochs(&dml, 1);
        assert_int_equal(b.p.learning->num_parts, i == 1 ? 6 : 2);
        for (size_t k = 0; k < 2; k++) {
            const struct kd_graph *got = b.p.learning->part[k]->graph,
                                  *due = dml.p.learning->part[k]->graph;
            assert_same_trained(got, due);
            if (i != 1)
                assert_same_weights(got, due);
        }
        close_bench(&b);
        close_bench(&dml);
    }
}

/* A first step of Adam is as long as its rate. */
static void the_feature_step_has_its_own_rate(void **state)
{
    struct bench b, logits;
    double most = 0;

    (void)state;
    BEGIN(&b, ALIKE, "--feature-lr=1e-3", "--feature-decay=0", "--schedule=constant",
          "--warmup=0");
    BEGIN(&logits, ALIKE, "--feature-lr=0", "--schedule=constant", "--warmup=0");
    kd_peers_begin_epoch(&b.p);
    kd_peers_begin_epoch(&logits.p);
    take_step(&b, 0);
    take_step(&logits, 0);
    for (size_t k = 0; k < 2; k++) {
        size_t n = 0;
        float *x = weights_of(b.p.learning->part[k]->graph, &n),
              *y = weights_of(logits.p.learning->part[k]->graph, &n);
        for (size_t i = 0; i < n; i++)
            most = fmax(most, fabs((double)x[i] - (double)y[i]));
        free(x);
        free(y);
    }
    assert_true(most > 0.99e-3 && most < 1.01e-3);
    close_bench(&b);
    close_bench(&logits);
}

/* -- runs
 * ------------------------------------------------------------------------------------
 */

static void networks_without_maps_of_one_size_are_refused(void **state)
{
    struct bench b;

    (void)state;
    NOT_OPENED(KD_ERECIPE, "peer2 has no feature map", "--data", data_name(true),
               "--method=afd", "--networks", "resnet8,mlp");
    NOT_OPENED(KD_ERECIPE, "maps of peer2 are 1x1, those of peer1 2x2", "--data",
               data_name(true), "--method=afd", "--networks",
               "[resnet8, {family: plain, layers: 6, set: cifar10}]");
    BEGIN(&b, "--networks=resnet8,mlp", "--no-adversarial");
    take_epochs(&b, 1);
    close_bench(&b);
}

static void interrupted_runs_keep_critics_and_moments(void **state)
{
    static const char *const files[] = {
        "peer1.h5",   "peer2.h5",      "peer3.h5", "metrics.jsonl",
        "recipe.txt", "checkpoint.h5", NULL};

    (void)state;
    CHECK_RESUME(files, "--method=afd", UNLIKE, "--feature-lr=1e-3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_have_the_gradients_of_their_feature_loss),
        cmocka_unit_test(critics_step_on_their_own_loss),
        cmocka_unit_test(networks_have_an_optimizer_for_each_loss),
        cmocka_unit_test(a_critic_sees_its_neighbours_maps_and_its_own),
        cmocka_unit_test(without_maps_it_is_mutual_learning),
        cmocka_unit_test(the_feature_step_has_its_own_rate),
        cmocka_unit_test(networks_without_maps_of_one_size_are_refused),
        cmocka_unit_test(interrupted_runs_keep_critics_and_moments),
    };

    return cmocka_run_group_tests(tests, open_all, fixture_close);
}
