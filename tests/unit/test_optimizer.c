/* SPDX-License-Identifier: MIT */
/* SGD against its formula in double, with gradients that change at every step. */
#include "kd/optimizer.h"

#include "kd/memory.h"
#include "kd/random.h"
#include "kd/thread.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STEPS 6
#define MOST  (20 * 16 * 9) /* values of the largest parameter */

/* Convolution, batch norm and a dense layer: every kind of parameter. */
static struct kd_graph *make(struct kd_tensor **logits)
{
    struct kd_graph *g = NULL;
    struct kd_tensor *x;

    assert_int_equal(kd_graph_new(2, true, &g), KD_OK);
    x = kd_graph_conv(g, kd_graph_input(g, 16, 4, 4), "conv",
                      &(struct kd_conv){20, 3, 1, 1});
    x = kd_graph_batch_norm(g, x, NULL, true, "bn");
    x = kd_graph_dense(g, kd_graph_average_pool(g, x), "fc", 5);
    kd_graph_output(g, x);
    assert_int_equal(kd_graph_plan(g), KD_OK);
    assert_int_equal(kd_graph_initialise(g, 1), KD_OK);
    *logits = x;
    return g;
}

static void put_gradient(struct kd_parameter *p, size_t index, int step, float *plain)
{
    struct kd_random r = kd_random_at(2, KD_RANDOM_TEST, index, (uint32_t)step);

    for (size_t i = 0; i < p->count; i++)
        plain[i] = (float)kd_random_normal(&r);
    kd_parameter_set(p, plain, p->gradient);
}

/* The header's formula, one step of one parameter. */
static void follow(const struct kd_sgd *sgd, double decay, double lr, bool first,
                   const float *gradient, size_t count, double *w, double *v)
{
    for (size_t i = 0; i < count; i++) {
        const double g = gradient[i] + decay * w[i];
        v[i] = first ? g : sgd->momentum * v[i] + g;
        w[i] -= lr * (sgd->nesterov ? g + sgd->momentum * v[i] : v[i]);
    }
}

static void compare(const struct kd_parameter *p, const float *layout,
                    const double *want, const char *what)
{
    static float got[MOST];

    kd_parameter_get(p, layout, got);
    for (size_t i = 0; i < p->count; i++)
        if (!(fabs(got[i] - want[i]) <= 2e-6 * (1 + fabs(want[i]))))
            fail_msg("%s of %s: %.9g, not %.9g", what, p->name, (double)got[i],
                     want[i]);
}

/* Runs STEPS steps of both; weights decay by `on_weights`, vectors by `on_vectors`. */
static void check(const struct kd_sgd *sgd, double on_weights, double on_vectors)
{
    static double w[8][MOST], v[8][MOST];
    static float plain[MOST];
    struct kd_optimizer *o = NULL;
    struct kd_tensor *logits;
    struct kd_graph *g = make(&logits);
    const size_t count = kd_graph_num_parameters(g);

    assert_int_equal(kd_optimizer_new(g, sgd, &o), KD_OK);
    assert_in_range(count, 1, 8);
    for (size_t k = 0; k < count; k++) {
        const struct kd_parameter *p = kd_graph_parameter(g, k);
        assert_in_range(p->count, 1, MOST);
        kd_parameter_get(p, p->value, plain);
        for (size_t i = 0; i < p->count; i++)
            w[k][i] = plain[i];
    }
    for (int step = 0; step < STEPS; step++) {
        const double lr = 0.1 / (1 + step);
        for (size_t k = 0; k < count; k++) {
            struct kd_parameter *p = kd_graph_parameter(g, k);
            if (p->gradient == NULL)
                continue;
            put_gradient(p, k, step, plain);
            follow(sgd, p->rank > 1 ? on_weights : on_vectors, lr, step == 0, plain,
                   p->count, w[k], v[k]);
        }
        kd_optimizer_step(o, lr);
        for (size_t k = 0; k < count; k++) {
            const struct kd_parameter *p = kd_graph_parameter(g, k);
            compare(p, p->value, w[k], "a value"); /* buffers stay as they are */
            if (p->gradient != NULL)
                compare(p, kd_optimizer_state(o, k), v[k], "velocity");
        }
    }
    kd_optimizer_free(o);
    kd_graph_free(g);
}

static void plain_descent_follows_the_gradient(void **state)
{
    (void)state;
    check(&(struct kd_sgd){0}, 0, 0);
}

static void momentum_gathers_gradients(void **state)
{
    (void)state;
    check(&(struct kd_sgd){.momentum = 0.9}, 0, 0);
}

static void nesterov_looks_ahead(void **state)
{
    (void)state;
    check(&(struct kd_sgd){.momentum = 0.9, .nesterov = true}, 0, 0);
}

static void weight_decay_pulls_on_everything(void **state)
{
    (void)state;
    check(&(struct kd_sgd){.weight_decay = 0.1}, 0.1, 0.1);
    check(&(struct kd_sgd){.momentum = 0.9, .nesterov = true, .weight_decay = 0.1}, 0.1,
          0.1);
}

static void weight_decay_can_spare_biases_and_norms(void **state)
{
    const struct kd_sgd sgd = {
        .momentum = 0.9, .weight_decay = 0.1, .decay_weights_only = true};

    (void)state;
    check(&sgd, 0.1, 0);
}

static void buffers_have_no_state(void **state)
{
    struct kd_optimizer *o = NULL;
    struct kd_tensor *logits;
    struct kd_graph *g = make(&logits);
    size_t buffers = 0;

    (void)state;
    assert_int_equal(kd_optimizer_new(g, &(struct kd_sgd){0}, &o), KD_OK);
    for (size_t i = 0; i < kd_graph_num_parameters(g); i++) {
        const bool trained = kd_graph_parameter(g, i)->trained;
        assert_true((kd_optimizer_state(o, i) != NULL) == trained);
        buffers += !trained;
    }
    assert_int_equal(buffers, 2); /* running mean and variance */
    kd_optimizer_free(o);
    kd_optimizer_free(NULL);
    kd_graph_free(g);
}

static void the_next_forward_pass_uses_the_new_values(void **state)
{
    struct kd_optimizer *o = NULL;
    struct kd_tensor *logits;
    struct kd_graph *g = make(&logits);
    float before[10], after[10], ones[10];

    (void)state;
    for (size_t i = 0; i < 10; i++)
        ones[i] = 1;
    assert_int_equal(kd_optimizer_new(g, &(struct kd_sgd){0}, &o), KD_OK);
    assert_int_equal(kd_graph_forward(g), KD_OK);
    kd_tensor_get(logits, before, 2);
    kd_tensor_set_gradient(logits, ones);
    assert_int_equal(kd_graph_backward(g), KD_OK);
    kd_optimizer_step(o, 0.5);
    assert_int_equal(kd_graph_forward(g), KD_OK);
    kd_tensor_get(logits, after, 2);
    for (size_t i = 0; i < 10; i++)
        assert_true(after[i] < before[i] - 0.5F); /* a bias alone falls by 1 */
    kd_optimizer_free(o);
    kd_graph_free(g);
}

/* What a checkpoint does: the state goes out and into another optimizer. */
static void a_state_that_is_copied_goes_on_the_same(void **state)
{
    const struct kd_sgd sgd = {.momentum = 0.9, .nesterov = true, .weight_decay = 1e-3};
    struct kd_optimizer *o[2] = {NULL, NULL};
    struct kd_tensor *logits;
    struct kd_graph *g[2] = {make(&logits), make(&logits)};
    static float plain[MOST];

    (void)state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(kd_optimizer_new(g[i], &sgd, &o[i]), KD_OK);
    for (int step = 0; step < 4; step++) {
        for (size_t k = 0; step == 2 && k < kd_graph_num_parameters(g[0]); k++) {
            const struct kd_parameter *p = kd_graph_parameter(g[0], k);
            memcpy(kd_graph_parameter(g[1], k)->value, p->value,
                   p->size * sizeof *p->value);
            if (p->gradient == NULL)
                continue;
            kd_parameter_get(p, kd_optimizer_state(o[0], k), plain);
            kd_parameter_set(p, plain, kd_optimizer_state(o[1], k));
        }
        for (int i = 0; i < 2; i++) {
            for (size_t k = 0; k < kd_graph_num_parameters(g[i]); k++) {
                struct kd_parameter *p = kd_graph_parameter(g[i], k);
                if (p->gradient != NULL) /* the second one's are wrong at first */
                    put_gradient(p, k, step < 2 ? step + 9 * i : step, plain);
            }
            kd_optimizer_step(o[i], 0.1);
        }
    }
    for (size_t k = 0; k < kd_graph_num_parameters(g[0]); k++) {
        const struct kd_parameter *p = kd_graph_parameter(g[0], k);
        assert_memory_equal(p->value, kd_graph_parameter(g[1], k)->value,
                            p->size * sizeof *p->value);
    }
    for (int i = 0; i < 2; i++) {
        kd_optimizer_free(o[i]);
        kd_graph_free(g[i]);
    }
}

/* Of two heads only one learns: the other stays, for all its decay. */
static void what_a_backward_pass_did_not_reach_stays(void **state)
{
    const struct kd_sgd sgd = {.momentum = 0.9, .weight_decay = 0.1};
    const float ones[2] = {1, 1};
    struct kd_optimizer *optimizer = NULL;
    struct kd_graph *g = NULL;
    float before[2][4], after[4];

    (void)state;
    assert_int_equal(kd_graph_new(1, true, &g), KD_OK);
    struct kd_tensor *x = kd_graph_input(g, 2, 1, 1);
    struct kd_tensor *one = kd_graph_dense(g, x, "one", 2);
    kd_graph_output(g, one);
    kd_graph_output(g, kd_graph_dense(g, x, "two", 2));
    assert_int_equal(kd_graph_plan(g), KD_OK);
    assert_int_equal(kd_graph_initialise(g, 1), KD_OK);
    assert_int_equal(kd_optimizer_new(g, &sgd, &optimizer), KD_OK);
    kd_tensor_set(x, ones, 1);
    assert_int_equal(kd_graph_forward(g), KD_OK);
    kd_tensor_set_gradient(one, ones);
    assert_int_equal(kd_graph_backward(g), KD_OK);
    for (size_t i = 0; i < 2; i++) { /* the weights of both */
        const struct kd_parameter *p = kd_graph_parameter(g, 2 * i);
        kd_parameter_get(p, p->value, before[i]);
    }
    kd_optimizer_step(optimizer, 0.1);
    kd_parameter_get(kd_graph_parameter(g, 0), kd_graph_parameter(g, 0)->value, after);
    for (size_t j = 0; j < 4; j++)
        assert_true(after[j] != before[0][j]);
    kd_parameter_get(kd_graph_parameter(g, 2), kd_graph_parameter(g, 2)->value, after);
    assert_memory_equal(after, before[1], sizeof after);
    kd_optimizer_free(optimizer);
    kd_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_descent_follows_the_gradient),
        cmocka_unit_test(momentum_gathers_gradients),
        cmocka_unit_test(nesterov_looks_ahead),
        cmocka_unit_test(weight_decay_pulls_on_everything),
        cmocka_unit_test(weight_decay_can_spare_biases_and_norms),
        cmocka_unit_test(buffers_have_no_state),
        cmocka_unit_test(the_next_forward_pass_uses_the_new_values),
        cmocka_unit_test(a_state_that_is_copied_goes_on_the_same),
        cmocka_unit_test(what_a_backward_pass_did_not_reach_stays),
    };

    kd_threads_set(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
