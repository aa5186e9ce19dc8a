/* SPDX-License-Identifier: MIT */
/* Losses: gradients against finite differences of a loss written down anew, and the
 * identities that the methods rest on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kd/loss.h"
#include "kd/random.h"

#include <math.h>
#include <string.h>

#define ROWS    4
#define CLASSES 5
#define VALUES  (ROWS * CLASSES)

/* -- the loss once more, in double ------------------------------------------ */

static void reference_softmax(const double *z, double t, double p[CLASSES])
{
    double sum = 0;

    for (size_t c = 0; c < CLASSES; c++)
        sum += p[c] = exp(z[c] / t);
    for (size_t c = 0; c < CLASSES; c++)
        p[c] /= sum;
}

static double reference_distance(const struct kd_loss *loss, const double *z,
                                 const float *q)
{
    double p[CLASSES], sum = 0;

    reference_softmax(z, loss->temperature, p);
    for (size_t c = 0; c < CLASSES; c++) {
        const double target = (double)q[c];
        if (loss->kind == KD_LOSS_MSE)
            sum += (z[c] - target) * (z[c] - target) / CLASSES;
        else if (loss->kind == KD_LOSS_CE)
            sum -= target * log(p[c]);
        else if (loss->direction == KD_FORWARD)
            sum += target * log(target / p[c]);
        else
            sum += p[c] * log(p[c] / target);
    }
    if (loss->kind == KD_LOSS_MSE)
        return sum;
    if (loss->t_squared)
        sum *= loss->temperature * loss->temperature;
    return loss->reduction == KD_ELEMMEAN ? sum / CLASSES : sum;
}

/* The mean loss of a batch. */
static double reference_loss(const struct kd_loss *loss, const double *z,
                             const int32_t *label, const float *soft)
{
    double total = 0, p[CLASSES];

    for (size_t r = 0; r < ROWS; r++) {
        reference_softmax(z + r * CLASSES, 1, p);
        if (label[r] >= 0)
            total -= loss->hard * log(p[label[r]]);
        if (soft != NULL)
            total += loss->soft *
                     reference_distance(loss, z + r * CLASSES, soft + r * CLASSES);
    }
    return total / ROWS;
}

/* -- material --------------------------------------------------------------- */

static const int32_t labels[ROWS] = {2, -1, 0, 4};

static void random_logits(uint64_t id, float z[VALUES])
{
    struct kd_random r = kd_random_at(1, KD_RANDOM_TEST, id, 0);

    for (size_t i = 0; i < VALUES; i++)
        z[i] = (float)kd_random_between(&r, -6, 6);
}

/* Probabilities at temperature t, of float precision. */
static void random_probabilities(uint64_t id, double t, float q[VALUES])
{
    random_logits(id, q);
    for (size_t r = 0; r < ROWS; r++)
        (void)kd_softmax(q + r * CLASSES, CLASSES, t, q + r * CLASSES);
}

static struct kd_loss_sums run(const struct kd_loss *loss, const float *z,
                               const int32_t *label, const float *soft,
                               float gradient[VALUES])
{
    struct kd_loss_sums sums = {0};

    kd_loss_batch(loss, ROWS, CLASSES, z, label, soft, gradient, &sums);
    return sums;
}

static void assert_near(double is, double expected, double error)
{
    if (!(fabs(is - expected) <= error))
        fail_msg("%.12g is not %.12g within %g", is, expected, error);
}

/* -- gradients -------------------------------------------------------------- */

static void check_gradient(const struct kd_loss *loss, const float *soft)
{
    const double step = 1e-5;
    float z[VALUES], gradient[VALUES];
    double moved[VALUES];

    random_logits(7, z);
    for (size_t i = 0; i < VALUES; i++)
        moved[i] = (double)z[i];
    struct kd_loss_sums sums = run(loss, z, labels, soft, gradient);
    assert_near(sums.total / ROWS, reference_loss(loss, moved, labels, soft), 1e-9);
    for (size_t i = 0; i < VALUES; i++) {
        moved[i] = (double)z[i] + step;
        double above = reference_loss(loss, moved, labels, soft);
        moved[i] = (double)z[i] - step;
        double below = reference_loss(loss, moved, labels, soft);
        moved[i] = (double)z[i];
        double slope = (above - below) / (2 * step);
        assert_near((double)gradient[i], slope, 1e-7 + 1e-6 * fabs(slope));
    }
}

static void gradients_of_every_loss_are_its_slopes(void **state)
{
    float q[VALUES], u[VALUES];

    (void)state;
    random_probabilities(8, 2.5, q);
    random_logits(9, u);
    for (unsigned i = 0; i < 48; i++) {
        struct kd_loss loss = {.hard = i % 2 == 0 ? 0 : 0.3,
                               .soft = 0.7,
                               .temperature = 2.5,
                               .kind = (int)(i / 2 % 3),
                               .direction = (int)(i / 6 % 2),
                               .reduction = (int)(i / 12 % 2),
                               .t_squared = i / 24 % 2 == 1};
        check_gradient(&loss, loss.kind == KD_LOSS_MSE ? u : q);
    }
}

static void gradient_of_the_cross_entropy_alone_is_its_slope(void **state)
{
    const struct kd_loss loss = {.hard = 1.5, .temperature = 1};

    (void)state;
    check_gradient(&loss, NULL);
}

static void forward_kl_times_t_squared_has_gradient_t_over_b_of_p_minus_q(void **state)
{
    const double t = 4;
    const struct kd_loss loss = {.soft = 1, .temperature = t, .t_squared = true};
    float z[VALUES], q[VALUES], p[VALUES], gradient[VALUES];

    (void)state;
    random_logits(1, z);
    random_probabilities(2, t, q);
    (void)run(&loss, z, labels, q, gradient);
    for (size_t r = 0; r < ROWS; r++)
        (void)kd_softmax(z + r * CLASSES, CLASSES, t, p + r * CLASSES);
    for (size_t i = 0; i < VALUES; i++)
        assert_near((double)gradient[i], t / ROWS * ((double)p[i] - (double)q[i]),
                    3e-7);
}

static void elemmean_is_batchmean_over_the_number_of_classes(void **state)
{
    struct kd_loss loss = {.soft = 1, .temperature = 3, .t_squared = true};
    float z[VALUES], q[VALUES], batch[VALUES], element[VALUES];

    (void)state;
    random_logits(1, z);
    random_probabilities(2, 3, q);
    for (loss.direction = KD_FORWARD; loss.direction <= KD_REVERSE; loss.direction++) {
        loss.reduction = KD_BATCHMEAN;
        struct kd_loss_sums a = run(&loss, z, labels, q, batch);
        loss.reduction = KD_ELEMMEAN;
        struct kd_loss_sums b = run(&loss, z, labels, q, element);
        assert_near(b.soft, a.soft / CLASSES, 1e-12 * a.soft);
        for (size_t i = 0; i < VALUES; i++)
            assert_near((double)element[i], (double)batch[i] / CLASSES, 1e-8);
    }
}

/* It is a mean over classes as it stands; dividing again would make it another. */
static void mse_is_the_same_under_both_reductions(void **state)
{
    struct kd_loss loss = {.soft = 1, .temperature = 9, .kind = KD_LOSS_MSE};
    float z[VALUES], u[VALUES], batch[VALUES], element[VALUES];

    (void)state;
    random_logits(1, z);
    random_logits(2, u);
    struct kd_loss_sums a = run(&loss, z, labels, u, batch);
    loss.reduction = KD_ELEMMEAN;
    loss.t_squared = true;
    struct kd_loss_sums b = run(&loss, z, labels, u, element);
    assert_true(a.soft == b.soft);
    assert_memory_equal(batch, element, sizeof batch);
    for (size_t i = 0; i < VALUES; i++)
        assert_near((double)batch[i], 2 * ((double)z[i] - (double)u[i]) / VALUES, 1e-7);
}

static void ce_and_kl_differ_by_the_entropy_of_the_soft_labels_alone(void **state)
{
    struct kd_loss loss = {.soft = 1, .temperature = 2};
    float z[VALUES], q[VALUES], kl[VALUES], ce[VALUES];
    double entropy = 0;

    (void)state;
    random_logits(1, z);
    random_probabilities(2, 2, q);
    for (size_t i = 0; i < VALUES; i++)
        entropy -= (double)q[i] * log((double)q[i]);
    struct kd_loss_sums a = run(&loss, z, labels, q, kl);
    loss.kind = KD_LOSS_CE;
    struct kd_loss_sums b = run(&loss, z, labels, q, ce);
    assert_near(b.soft - a.soft, entropy, 1e-9);
    assert_memory_equal(kl, ce, sizeof kl);
}

/* -- several teachers ------------------------------------------------------- */

static void mean_of_kls_has_the_gradient_of_kl_to_the_mean_probability(void **state)
{
    const double t = 2;
    const struct kd_loss loss = {.soft = 1, .temperature = t, .t_squared = true};
    float z[VALUES], q[VALUES], gradient[VALUES], mean_q[VALUES] = {0};
    float mean_z[VALUES] = {0};
    double mean_gradient[VALUES] = {0}, farthest = 0;

    (void)state;
    random_logits(1, z);
    for (uint64_t m = 0; m < 3; m++) {
        float u[VALUES];
        random_logits(20 + m, u);
        random_probabilities(20 + m, t, q);
        (void)run(&loss, z, labels, q, gradient);
        for (size_t i = 0; i < VALUES; i++) {
            mean_q[i] += q[i] / 3;
            mean_z[i] += u[i] / 3;
            mean_gradient[i] += (double)gradient[i] / 3;
        }
    }
    (void)run(&loss, z, labels, mean_q, gradient);
    for (size_t i = 0; i < VALUES; i++)
        assert_near((double)gradient[i], mean_gradient[i], 3e-7);

    for (size_t r = 0; r < ROWS; r++)
        (void)kd_softmax(mean_z + r * CLASSES, CLASSES, t, mean_z + r * CLASSES);
    (void)run(&loss, z, labels, mean_z, gradient);
    for (size_t i = 0; i < VALUES; i++)
        farthest = fmax(farthest, fabs((double)gradient[i] - mean_gradient[i]));
    assert_true(farthest > 0.01);
}

/* -- rows ------------------------------------------------------------------- */

static void an_unlabelled_row_has_no_hard_part(void **state)
{
    const struct kd_loss loss = {.hard = 1, .temperature = 1};
    const int32_t none[ROWS] = {-1, -1, -1, -1};
    const float zeros[VALUES] = {0};
    float z[VALUES], gradient[VALUES];

    (void)state;
    random_logits(1, z);
    struct kd_loss_sums sums = run(&loss, z, labels, NULL, gradient);
    assert_int_equal(sums.rows, ROWS);
    assert_int_equal(sums.labelled, 3);
    assert_memory_equal(gradient + CLASSES, zeros, CLASSES * sizeof(float));
    sums = run(&loss, z, none, NULL, gradient);
    assert_int_equal(sums.labelled, 0);
    assert_int_equal(sums.right, 0);
    assert_true(sums.hard == 0 && sums.total == 0);
    assert_memory_equal(gradient, zeros, sizeof zeros);
}

static void sums_grow_over_batches_and_are_unweighted_but_for_the_total(void **state)
{
    const struct kd_loss loss = {
        .hard = 0.25, .soft = 0.5, .temperature = 2, .t_squared = true};
    float z[VALUES], q[VALUES], gradient[VALUES];

    (void)state;
    random_logits(1, z);
    random_probabilities(2, 2, q);
    struct kd_loss_sums once = run(&loss, z, labels, q, gradient), twice = {0};
    kd_loss_batch(&loss, ROWS, CLASSES, z, labels, q, gradient, &twice);
    kd_loss_batch(&loss, ROWS, CLASSES, z, labels, q, gradient, &twice);
    assert_true(once.hard > 0 && once.soft > 0);
    assert_near(once.total, 0.25 * once.hard + 0.5 * once.soft, 1e-12);
    assert_near(twice.total, 2 * once.total, 1e-12);
    assert_near(twice.hard, 2 * once.hard, 1e-12);
    assert_near(twice.soft, 2 * once.soft, 1e-12);
    assert_int_equal(twice.rows, 2 * ROWS);
    assert_int_equal(twice.labelled, 6);
}

static void losses_of_equal_logits_are_known(void **state)
{
    const struct kd_loss loss = {
        .hard = 1, .soft = 1, .temperature = 5, .t_squared = true};
    const float z[VALUES] = {0};
    const float one_hot[VALUES] = {[0] = 1, [6] = 1, [12] = 1, [18] = 1};
    float gradient[VALUES];

    (void)state;
    struct kd_loss_sums sums = run(&loss, z, labels, one_hot, gradient);
    assert_near(sums.hard, 3 * log(CLASSES), 1e-12);
    assert_near(sums.soft, 25 * ROWS * log(CLASSES), 1e-12);
}

static void a_student_that_agrees_has_no_distance_and_no_gradient(void **state)
{
    struct kd_loss loss = {.soft = 1, .temperature = 2, .t_squared = true};
    float z[VALUES], q[VALUES], gradient[VALUES];

    (void)state;
    random_logits(3, z);
    random_probabilities(3, 2, q);
    for (loss.direction = KD_FORWARD; loss.direction <= KD_REVERSE; loss.direction++) {
        struct kd_loss_sums sums = run(&loss, z, labels, q, gradient);
        assert_near(sums.soft, 0, 1e-5);
        for (size_t i = 0; i < VALUES; i++)
            assert_near((double)gradient[i], 0, 1e-6);
    }
}

/* -- extremes --------------------------------------------------------------- */

static void assert_finite(const struct kd_loss_sums *sums, const float *gradient)
{
    assert_true(isfinite(sums->total) && isfinite(sums->hard) && isfinite(sums->soft));
    for (size_t i = 0; i < VALUES; i++)
        assert_true(isfinite(gradient[i]));
}

static void extreme_logits_and_soft_labels_stay_finite(void **state)
{
    const float z[VALUES] = {1e4F, -1e4F, 0, 0, 0,     -1e4F, -1e4F, -1e4F, -1e4F, 1e4F,
                             1e4F, 1e4F,  0, 0, -1e4F, 0,     0,     0,     0,     0};
    const float q[VALUES] = {0, 1,    0, 0, 0,    1, 0,      0, 0, 0,
                             0, 0.5F, 0, 0, 0.5F, 0, 1e-40F, 0, 1, 0};
    float gradient[VALUES];

    (void)state;
    for (unsigned i = 0; i < 12; i++) {
        struct kd_loss loss = {.hard = 1,
                               .soft = 1,
                               .temperature = i / 6 == 0 ? 1 : 0.01,
                               .kind = (int)(i % 3),
                               .direction = (int)(i / 3 % 2),
                               .t_squared = true};
        struct kd_loss_sums sums = run(&loss, z, labels, q, gradient);
        assert_finite(&sums, gradient);
        assert_true(sums.total > 0);
    }
}

static void one_hot_soft_labels_at_temperature_one_are_hard_labels(void **state)
{
    const struct kd_loss soft = {.soft = 1, .temperature = 1};
    const struct kd_loss hard = {.hard = 1, .temperature = 1};
    const int32_t label[ROWS] = {2, 1, 0, 4};
    float z[VALUES], one_hot[VALUES] = {0}, a[VALUES], b[VALUES];

    (void)state;
    random_logits(1, z);
    for (size_t r = 0; r < ROWS; r++)
        one_hot[r * CLASSES + (size_t)label[r]] = 1;
    struct kd_loss_sums from_soft = run(&soft, z, label, one_hot, a);
    struct kd_loss_sums from_hard = run(&hard, z, label, NULL, b);
    assert_near(from_soft.soft, from_hard.hard, 1e-12);
    for (size_t i = 0; i < VALUES; i++)
        assert_near((double)a[i], (double)b[i], 1e-7);
}

static void reverse_kl_pushes_away_from_classes_without_soft_label(void **state)
{
    const struct kd_loss loss = {
        .soft = 1, .temperature = 1, .direction = KD_REVERSE, .t_squared = true};
    const float z[VALUES] = {0};
    float q[VALUES] = {0}, gradient[VALUES];

    (void)state;
    for (size_t r = 0; r < ROWS; r++)
        q[r * CLASSES] = 1;
    struct kd_loss_sums sums = run(&loss, z, labels, q, gradient);
    assert_finite(&sums, gradient);
    for (size_t i = 0; i < VALUES; i++)
        assert_true(i % CLASSES == 0 ? gradient[i] < 0 : gradient[i] > 0);
}

static void a_logit_that_is_no_number_makes_the_total_none(void **state)
{
    const struct kd_loss hard = {.hard = 1, .temperature = 1};
    const struct kd_loss soft = {.soft = 1, .temperature = 4};
    const float bad[3] = {NAN, INFINITY, -INFINITY};
    float z[VALUES], q[VALUES], gradient[VALUES];

    (void)state;
    random_probabilities(2, 4, q);
    for (size_t i = 0; i < 3; i++) {
        random_logits(1, z);
        z[2] = bad[i];
        double from_hard = run(&hard, z, labels, NULL, gradient).total;
        double from_soft = run(&soft, z, labels, q, gradient).total;
        assert_true(!isfinite(from_hard) && !isfinite(from_soft));
    }
}

/* -- softmax and accuracy --------------------------------------------------- */

static void softmax_is_stable_and_shifts_do_not_matter(void **state)
{
    const float high[3] = {10000, 10001, 9990}, low[3] = {-10000, -9999, -10010};
    float p[3], q[3];

    (void)state;
    double norm = kd_softmax(high, 3, 1, p);
    assert_near(norm, 10001 + log(1 + exp(-1) + exp(-11)), 1e-9);
    assert_near(kd_softmax(low, 3, 1, q), norm - 20000, 1e-9);
    assert_memory_equal(p, q, sizeof p);
    assert_near((double)p[0] + (double)p[1] + (double)p[2], 1, 1e-6);
    assert_near((double)p[1], 1 / (1 + exp(-1) + exp(-11)), 1e-7);
}

static void softmax_divides_by_the_temperature_and_works_in_place(void **state)
{
    float z[2] = {0, 3}, p[2];

    (void)state;
    assert_near(kd_softmax(z, 2, 3, p), log(1 + exp(1)), 1e-12);
    assert_near((double)p[1], exp(1) / (1 + exp(1)), 1e-7);
    (void)kd_softmax(z, 2, 3, z);
    assert_memory_equal(z, p, sizeof p);
}

/* As argmax() of NumPy and PyTorch does: a constant network is right about class 0
 * alone. */
static void of_equal_largest_logits_the_first_is_the_answer(void **state)
{
    const struct kd_loss loss = {.hard = 1, .temperature = 1};
    const float z[VALUES] = {1, 3, 3, 0, 0, /* 1, not 2 */
                             0, 0, 0, 0, 0, /* 0 */
                             5, 5, 5, 5, 6, /* 4 */
                             2, 2, 1, 0, 0 /* 0, not 1 */};
    const int32_t first[ROWS] = {1, 0, 4, 0}, later[ROWS] = {2, 3, 0, 1};
    float gradient[VALUES];

    (void)state;
    assert_int_equal(run(&loss, z, first, NULL, gradient).right, 4);
    assert_int_equal(run(&loss, z, later, NULL, gradient).right, 0);
}

/* A network that answers NaN is not right about everything. */
static void an_answer_that_is_no_number_is_not_right(void **state)
{
    const struct kd_loss loss = {.hard = 1, .temperature = 1};
    float z[VALUES], gradient[VALUES];

    (void)state;
    for (size_t i = 0; i < VALUES; i++)
        z[i] = NAN;
    assert_int_equal(run(&loss, z, labels, NULL, gradient).right, 0);
}

static void names_are_in_the_order_of_the_enums(void **state)
{
    (void)state;
    assert_string_equal(kd_loss_kinds[KD_LOSS_KL], "kl");
    assert_string_equal(kd_loss_kinds[KD_LOSS_CE], "ce");
    assert_string_equal(kd_loss_kinds[KD_LOSS_MSE], "mse");
    assert_string_equal(kd_directions[KD_FORWARD], "forward");
    assert_string_equal(kd_directions[KD_REVERSE], "reverse");
    assert_string_equal(kd_reductions[KD_BATCHMEAN], "batchmean");
    assert_string_equal(kd_reductions[KD_ELEMMEAN], "elemmean");
    assert_null(kd_loss_kinds[3]);
    assert_null(kd_directions[2]);
    assert_null(kd_reductions[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_every_loss_are_its_slopes),
        cmocka_unit_test(gradient_of_the_cross_entropy_alone_is_its_slope),
        cmocka_unit_test(forward_kl_times_t_squared_has_gradient_t_over_b_of_p_minus_q),
        cmocka_unit_test(elemmean_is_batchmean_over_the_number_of_classes),
        cmocka_unit_test(mse_is_the_same_under_both_reductions),
        cmocka_unit_test(ce_and_kl_differ_by_the_entropy_of_the_soft_labels_alone),
        cmocka_unit_test(mean_of_kls_has_the_gradient_of_kl_to_the_mean_probability),
        cmocka_unit_test(an_unlabelled_row_has_no_hard_part),
        cmocka_unit_test(sums_grow_over_batches_and_are_unweighted_but_for_the_total),
        cmocka_unit_test(losses_of_equal_logits_are_known),
        cmocka_unit_test(a_student_that_agrees_has_no_distance_and_no_gradient),
        cmocka_unit_test(extreme_logits_and_soft_labels_stay_finite),
        cmocka_unit_test(one_hot_soft_labels_at_temperature_one_are_hard_labels),
        cmocka_unit_test(reverse_kl_pushes_away_from_classes_without_soft_label),
        cmocka_unit_test(a_logit_that_is_no_number_makes_the_total_none),
        cmocka_unit_test(softmax_is_stable_and_shifts_do_not_matter),
        cmocka_unit_test(softmax_divides_by_the_temperature_and_works_in_place),
        cmocka_unit_test(of_equal_largest_logits_the_first_is_the_answer),
        cmocka_unit_test(an_answer_that_is_no_number_is_not_right),
        cmocka_unit_test(names_are_in_the_order_of_the_enums),
    };

    return cmocka_run_group_tests_name("loss", tests, NULL, NULL);
}
