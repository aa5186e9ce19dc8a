/* SPDX-License-Identifier: MIT */
/* ProKT: a teacher near its student, against small networks in double precision. */
#include "peers_reference.h"
#include "peers_runs.h"

enum { TEACHER, STUDENT };

#define EPOCHS 2

struct variant {
    double t, hard, soft;
    double lambda;
    bool dual, zero_heads;
    double epsilon, beta, rate;
};

static void open_begun(struct bench *b)
{
    open_bench(b);
    assert_int_equal(b->recipe.chosen->begin(&b->p), KD_OK);
}

/* As OPEN, with what comes before the first step. */
#define BEGIN(b, ...)                                                                  \
    do {                                                                               \
        if (PARSE(b, "--data", data_name(true), "--method=prokt", __VA_ARGS__) !=      \
            KD_OK)                                                                     \
            fail_msg("%s", kd_error());                                                \
        open_begun(b);                                                                 \
    } while (0)

/* -- the reference ------------------------------------------------------- */

static double mean_divergence(const struct answers *p, const struct answers *q)
{
    double sum = 0;

    for (size_t r = 0; r < ROWS; r++)
        for (size_t c = 0; c < CLASSES; c++)
            sum += p->p[r][c] * log(p->p[r][c] / q->p[r][c]);
    return sum / ROWS;
}

static void reference_step(struct net *nets, const struct variant *v, double *beta,
                           const struct kd_batch *batch)
{
    const double hard = v->dual ? 1 : 1 - v->lambda, soft = v->dual ? *beta : v->lambda;
    const struct answers before = ask(&nets[TEACHER], batch, v->t);
    struct answers q = ask(&nets[STUDENT], batch, v->t);

    learn(&nets[TEACHER], batch, &q, 1, v->hard * hard, v->soft * soft, v->t);
    *beta = fmax(0, *beta + v->rate * (mean_divergence(&q, &before) - v->epsilon));
    q = ask(&nets[TEACHER], batch, v->t);
    learn(&nets[STUDENT], batch, &q, 1, 0, v->soft, v->t);
}

/* A number as the value of an option. */
static const char *option(char *text, const char *name, double value)
{
    snprintf(text, 64, "--%s=%.17g", name, value);
    return text;
}

static void open_variant(struct bench *b, const struct variant *v)
{
    char text[7][64];

    BEGIN(b, "--network", TINY, PLAIN_SGD, option(text[0], "prokt-lambda", v->lambda),
          option(text[1], "prokt-dual-epsilon", v->epsilon),
          option(text[2], "prokt-dual-beta", v->beta),
          option(text[3], "prokt-dual-rate", v->rate),
          option(text[4], "temperature", v->t), option(text[5], "hard", v->hard),
          option(text[6], "soft", v->soft),
          v->dual ? "--prokt-dual" : "--no-prokt-dual",
          v->zero_heads ? "--prokt-zero-heads" : "--no-prokt-zero-heads");
}

static void check(const struct variant *v)
{
    static struct net nets[2];
    double beta = v->beta;
    struct bench b;

    open_variant(&b, v);
    for (size_t k = 0; k < 2; k++) {
        double heads = 0;
        copy_net(b.p.learning->part[k]->graph, &nets[k]);
        for (size_t i = 0; i < sizes[W2]; i++)
            heads += fabs(nets[k].w[W2][i]) + fabs(nets[k].w[B2][i % CLASSES]);
        assert_true((heads > 0) != v->zero_heads);
    }
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        kd_peers_begin_epoch(&b.p);
        for (uint64_t step = 0; step < STEPS; step++) {
            take_step(&b, step);
            reference_step(nets, v, &beta, b.p.batch[0]);
            if (v->dual)
                assert_true(fabs(b.p.memory[0] - beta) < 1e-4);
        }
        b.own.done++;
    }
    for (size_t k = 0; k < 2; k++)
        assert_like_net(b.p.learning->part[k]->graph, &nets[k]);
    close_bench(&b);
}

static void a_step_is_the_teachers_and_then_the_students(void **state)
{
    (void)state;
    check(&(struct variant){
        .t = 1, .hard = 1, .soft = 1, .lambda = 0.4, .zero_heads = true});
    check(&(struct variant){.t = 1, .hard = 1, .soft = 1, .lambda = 0.3});
    check(&(struct variant){.t = 1, .hard = 1, .soft = 1, .lambda = 0});
    check(&(struct variant){.t = 1, .hard = 1, .soft = 1, .lambda = 1});
}

static void weights_and_temperature_are_the_recipes(void **state)
{
    (void)state;
    check(&(struct variant){.t = 3, .hard = 0.5, .soft = 0.7, .lambda = 0.4});
    check(&(struct variant){.t = 2,
                            .hard = 0.8,
                            .soft = 0.6,
                            .dual = true,
                            .epsilon = 0.01,
                            .beta = 1,
                            .rate = 2});
}

/* It climbs from 0.5; falls from 1; and stays at 0, for which a rate is chosen that is
 * far too large. */
static void the_multiplier_follows_the_divergence(void **state)
{
    const struct variant zero = {.t = 1,
                                 .hard = 1,
                                 .soft = 1,
                                 .dual = true,
                                 .epsilon = 100,
                                 .beta = 1,
                                 .rate = 1000};
    struct bench b;

    (void)state;
    check(&(struct variant){
        .t = 1, .hard = 1, .soft = 1, .dual = true, .beta = 0.5, .rate = 5});
    check(&(struct variant){.t = 1,
                            .hard = 1,
                            .soft = 1,
                            .dual = true,
                            .zero_heads = true,
                            .epsilon = 1,
                            .beta = 1,
                            .rate = 0.05});
    check(&zero);
    open_variant(&b, &zero);
    take_epochs(&b, 1);
    assert_true(b.p.memory[0] == 0);
    close_bench(&b);
}

/* -- what each learns from ----------------------------------------------- */

static void with_lambda_0_the_teacher_learns_alone(void **state)
{
    struct bench b, alone, dml;

    (void)state;
    BEGIN(&b, TINY_NORM, "--prokt-lambda=0", "--no-prokt-zero-heads");
    BEGIN(&alone, TINY_NORM, "--independent", "--prokt-teacher-rate=9");
    OPEN(&dml, "--data", data_name(true), TINY_NORM, "--method=dml", "--independent");
    assert_int_equal(alone.p.learning->num_parts, 2);
    take_epochs(&b, 2);
    take_epochs(&alone, 2);
    take_epochs(&dml, 2);
    assert_same_weights(b.p.learning->part[TEACHER]->graph,
                        alone.p.learning->part[TEACHER]->graph);
    assert_same_weights(alone.p.learning->part[TEACHER]->graph,
                        dml.p.learning->part[0]->graph);
    close_bench(&b);
    close_bench(&alone);
    close_bench(&dml);
}

static void the_teacher_may_have_another_rate(void **state)
{
    struct bench b, half;

    (void)state;
    BEGIN(&b, TINY_NORM, "--prokt-lambda=0", "--prokt-teacher-rate=0.5", "--lr=0.1");
    BEGIN(&half, TINY_NORM, "--prokt-lambda=0", "--lr=0.05");
    take_epochs(&b, 2);
    take_epochs(&half, 2);
    assert_same_weights(b.p.learning->part[TEACHER]->graph,
                        half.p.learning->part[TEACHER]->graph);
    close_bench(&b);
    close_bench(&half);
}

static void ask_still(struct kd_network *still, const struct kd_graph *of,
                      const struct kd_batch *batch, float *q)
{
    assert_int_equal(kd_graph_copy_parameters(still->graph, of), KD_OK);
    kd_tensor_set(still->input, batch->input, ROWS);
    assert_int_equal(kd_graph_forward(still->graph), KD_OK);
    kd_tensor_get(still->logits, q, ROWS);
    for (size_t r = 0; r < ROWS; r++)
        (void)kd_softmax(q + r * CLASSES, CLASSES, 1, q + r * CLASSES);
}

/* Of networks with batch norm. The student answers as it was before it saw the batch:
 * with lambda 1 the gradient of the teacher's logits, (p - q) / rows, tells what q was.
 * The teacher answers as it is behind its step. */
static void targets_are_taken_in_eval_mode(void **state)
{
    float q[ROWS * CLASSES], p[ROWS * CLASSES];
    struct kd_network *still = NULL;
    struct bench b;

    (void)state;
    BEGIN(&b, TINY_NORM, "--prokt-lambda=1", "--no-prokt-zero-heads");
    const struct kd_team *team = b.p.learning;
    assert_int_equal(
        kd_network_build(&b.recipe.arch[0], &b.p.sizes, ROWS, false, &still), KD_OK);
    kd_peers_begin_epoch(&b.p);
    for (uint64_t step = 0; step < 3; step++) {
        assert_int_equal(kd_peers_begin_step(&b.p, step), KD_OK);
        ask_still(still, team->part[STUDENT]->graph, b.p.batch[0], q);
        assert_int_equal(b.recipe.chosen->step(&b.p), KD_OK);
        for (size_t r = 0; r < ROWS; r++)
            (void)kd_softmax(team->member[TEACHER].z + r * CLASSES, CLASSES, 1,
                             p + r * CLASSES);
        for (size_t i = 0; i < ROWS * CLASSES; i++)
            assert_true(fabsf(p[i] - ROWS * team->member[TEACHER].gradient[i] - q[i]) <
                        1e-5F);
        ask_still(still, team->part[TEACHER]->graph, b.p.batch[0], q);
        assert_memory_equal(b.p.target, q, sizeof q);
    }
    kd_network_free(still);
    close_bench(&b);
}

/* -- heads --------------------------------------------------------------- */

static void all_families_begin_at_even_odds(void **state)
{
    static const char *const networks[] = {
        "[{family: mlp, hidden: [6]}, {family: wrn, depth: 10, width: 1}]",
        "[{family: resnet, depth: 8, width: 4}, {family: plain, layers: 2}]",
        "[{family: densenet, depth: 7, growth: 4}, {family: shufflenetv2, width: 0.2}]",
        "[{family: mobilenetv2, width: 0.25}, {family: vgg, depth: 8}]",
        "[{family: vit, patch: 4, width: 16, heads: 2, depth: 1}, mlp]"};
    struct bench b;

    (void)state;
    for (size_t i = 0; i < sizeof networks / sizeof networks[0]; i++) {
        BEGIN(&b, "--networks", networks[i]);
        kd_peers_begin_epoch(&b.p);
        assert_int_equal(kd_peers_begin_step(&b.p, 0), KD_OK);
        assert_int_equal(kd_team_show(&b.p, b.p.learning), KD_OK);
        for (size_t k = 0; k < 2; k++)
            for (size_t j = 0; j < ROWS * CLASSES; j++)
                assert_true(b.p.learning->member[k].z[j] == 0);
        close_bench(&b);
    }
}

/* -- runs ---------------------------------------------------------------- */

static void interrupted_runs_keep_the_multiplier(void **state)
{
    static const char *const files[] = {"teacher.h5", "student.h5",    "metrics.jsonl",
                                        "recipe.txt", "checkpoint.h5", NULL};

    (void)state;
    CHECK_RESUME(files, "--method=prokt",
                 "--networks=[{family: resnet, depth: 8, width: 4}, {family: mlp, "
                 "hidden: [16]}]",
                 "--prokt-dual", "--prokt-dual-rate=0.1");
}

static void there_are_two_members(void **state)
{
    const char *data = data_name(true);

    (void)state;
    REFUSED(KD_ERECIPE, "at most 2", "--data", data, "--method=prokt", TINY_NORM,
            "--peers=3");
    REFUSED(KD_ERECIPE, "at least 2", "--data", data, "--method=prokt", TINY_NORM,
            "--peers=1");
    REFUSED(KD_ERECIPE, "an option of method prokt", "--data", data, "--method=dml",
            TINY_NORM, "--prokt-lambda=0.3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_the_teachers_and_then_the_students),
        cmocka_unit_test(weights_and_temperature_are_the_recipes),
        cmocka_unit_test(the_multiplier_follows_the_divergence),
        cmocka_unit_test(with_lambda_0_the_teacher_learns_alone),
        cmocka_unit_test(the_teacher_may_have_another_rate),
        cmocka_unit_test(targets_are_taken_in_eval_mode),
        cmocka_unit_test(all_families_begin_at_even_odds),
        cmocka_unit_test(interrupted_runs_keep_the_multiplier),
        cmocka_unit_test(there_are_two_members),
    };

    return cmocka_run_group_tests(tests, open_all, fixture_close);
}
