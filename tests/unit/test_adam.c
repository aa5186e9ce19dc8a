/* SPDX-License-Identifier: MIT */
/* Optimisers against PyTorch's: tests/unit/data/make_torch_optimizers.py. */
#include "kd/optimizer.h"

#include "kd/h5.h"
#include "kd/memory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STEPS   6
#define COLUMNS 7
#define ROWS    5

static struct kd_h5 *file;

static int open_reference(void **state)
{
    const char *directory = getenv("KD_TEST_DATA");
    char path[4096];

    (void)state;
    snprintf(path, sizeof path, "%s/torch_optimizers.h5",
             directory != NULL ? directory : "tests/unit/data");
    if (kd_h5_open(path, &file) == KD_OK)
        return 0;
    print_error("%s\n", kd_error());
    return -1;
}

static int close_reference(void **state)
{
    (void)state;
    kd_h5_close(file);
    return 0;
}

/* GROUP/NAME, as the file has it. */
static void *array(const char *group, const char *name, size_t count)
{
    struct kd_array_info info;
    char path[256];
    void *data = NULL;

    snprintf(path, sizeof path, "%s%s%s", group, *group != '\0' ? "/" : "", name);
    if (kd_h5_info(file, path, &info) != KD_OK)
        fail_msg("%s", kd_error());
    assert_int_equal(info.count, count);
    data = kd_alloc(count, kd_type_size(info.type));
    assert_non_null(data);
    assert_int_equal(kd_h5_read(file, path, &info, data), KD_OK);
    return data;
}

/* fc.weight and fc.bias, with their first values. */
static struct kd_graph *make(void)
{
    static const char *const names[] = {"weight", "bias"};
    struct kd_graph *g = NULL;
    struct kd_tensor *y;

    assert_int_equal(kd_graph_new(1, true, &g), KD_OK);
    y = kd_graph_dense(g, kd_graph_input(g, 1, 1, COLUMNS), "fc", ROWS);
    kd_graph_output(g, y);
    assert_int_equal(kd_graph_plan(g), KD_OK);
    for (size_t i = 0; i < 2; i++) {
        struct kd_parameter *p = kd_graph_parameter(g, i);
        float *values = array("", names[i], p->count);
        kd_parameter_set(p, values, p->value);
        free(values);
    }
    return g;
}

static void put_gradients(struct kd_graph *g, int step)
{
    static const char *const names[] = {"weight", "bias"};

    for (size_t i = 0; i < 2; i++) {
        struct kd_parameter *p = kd_graph_parameter(g, i);
        float *all = array("gradient", names[i], STEPS * p->count);
        kd_parameter_set(p, all + (size_t)step * p->count, p->gradient);
        free(all);
    }
}

static void compare(const struct kd_graph *g, const char *name, int step)
{
    static const char *const names[] = {"weight", "bias"};
    float got[ROWS * COLUMNS];

    for (size_t i = 0; i < 2; i++) {
        const struct kd_parameter *p = kd_graph_parameter(g, i);
        double *want = array(name, names[i], STEPS * p->count);
        kd_parameter_get(p, p->value, got);
        for (size_t k = 0; k < p->count; k++) {
            const double w = want[(size_t)step * p->count + k];
            if (!(fabs(got[k] - w) <= 2e-6 * (1 + fabs(w))))
                fail_msg("%s, step %d: %s[%zu] is %.9g, not %.9g", name, step + 1,
                         p->name, k, (double)got[k], w);
        }
        free(want);
    }
}

/* Follows PyTorch through a case; with `resume`, in a new optimiser from step 3 on,
 * which is given the state of the first. */
static void follow(const char *name, const struct kd_sgd *sgd,
                   const struct kd_adam *adam, bool resume)
{
    struct kd_graph *g = make();
    struct kd_optimizer *o = NULL, *other = NULL;
    double *rate = array("", "rate", STEPS);

    for (int k = 0; k < 2; k++) {
        struct kd_optimizer **to = k == 0 ? &o : &other;
        assert_int_equal(adam != NULL ? kd_optimizer_new_adam(g, adam, to)
                                      : kd_optimizer_new(g, sgd, to),
                         KD_OK);
    }
    for (int step = 0; step < STEPS; step++) {
        if (resume && step == 3) {
            for (size_t m = 0; m < kd_optimizer_moments(o); m++)
                for (size_t i = 0; i < 2; i++)
                    memcpy(kd_optimizer_moment(other, i, m),
                           kd_optimizer_moment(o, i, m),
                           kd_graph_parameter(g, i)->size * sizeof(float));
            kd_optimizer_set_steps(other, kd_optimizer_steps(o));
        }
        put_gradients(g, step);
        kd_optimizer_step(resume && step >= 3 ? other : o, rate[step]);
        compare(g, name, step);
    }
    kd_optimizer_free(o);
    kd_optimizer_free(other);
    kd_graph_free(g);
    free(rate);
}

static void descent_is_pytorchs(void **state)
{
    const struct kd_sgd sgd = {.momentum = 0.9, .nesterov = true, .weight_decay = 0.01};

    (void)state;
    follow("sgd-nesterov", &sgd, NULL, false);
}

static const struct kd_adam plain = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8};

static void adam_is_pytorchs(void **state)
{
    const struct kd_adam betas = {.beta1 = 0.5, .beta2 = 0.9, .epsilon = 1e-3};

    (void)state;
    follow("adam", NULL, &plain, false);
    follow("adam-betas", NULL, &betas, false);
}

static void adams_decay_is_pytorchs_coupled_or_not(void **state)
{
    struct kd_adam adam = plain;

    (void)state;
    adam.weight_decay = 0.1;
    follow("adam-decay", NULL, &adam, false);
    adam.decoupled = true;
    follow("adamw", NULL, &adam, false);
}

static void decay_can_spare_biases(void **state)
{
    struct kd_adam adam = plain;

    (void)state;
    adam.weight_decay = 0.1;
    adam.decoupled = true;
    adam.decay_weights_only = true;
    follow("adamw-weights", NULL, &adam, false);
}

static void adam_goes_on_from_its_moments_and_steps(void **state)
{
    (void)state;
    follow("adam", NULL, &plain, true);
}

static void betas_of_one_and_more_are_refused(void **state)
{
    const double bad[] = {1, -0.1, NAN};
    struct kd_graph *g = make();
    struct kd_optimizer *o = NULL;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct kd_adam adam = plain;
        adam.beta1 = bad[i];
        assert_int_equal(kd_optimizer_new_adam(g, &adam, &o), KD_EUSAGE);
        adam = plain;
        adam.beta2 = bad[i];
        assert_int_equal(kd_optimizer_new_adam(g, &adam, &o), KD_EUSAGE);
    }
    assert_null(o);
    kd_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descent_is_pytorchs),
        cmocka_unit_test(adam_is_pytorchs),
        cmocka_unit_test(adams_decay_is_pytorchs_coupled_or_not),
        cmocka_unit_test(decay_can_spare_biases),
        cmocka_unit_test(adam_goes_on_from_its_moments_and_steps),
        cmocka_unit_test(betas_of_one_and_more_are_refused),
    };

    return cmocka_run_group_tests(tests, open_reference, close_reference);
}
