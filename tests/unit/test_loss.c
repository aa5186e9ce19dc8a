/* SPDX-License-Identifier: MIT */
/* Losses: gradients against finite differences of a loss written down anew, and the
 * identities that the methods rest on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kd/loss.h"
#include "kd/memory.h"
#include "kd/random.h"
#include "kd/thread.h"

#include <math.h>
#include <stdlib.h>
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
    const struct kd_targets targets = {.label = label, .soft = soft};
    struct kd_loss_sums sums = {0};

    assert_int_equal(kd_loss_batch(loss, ROWS, CLASSES, z, &targets, gradient, &sums),
                     KD_OK);
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
    double expected = reference_loss(loss, moved, labels, soft);
    assert_near(sums.total / ROWS, expected, 1e-6 * (1 + fabs(expected)));
    for (size_t i = 0; i < VALUES; i++) {
        moved[i] = (double)z[i] + step;
        double above = reference_loss(loss, moved, labels, soft);
        moved[i] = (double)z[i] - step;
        double below = reference_loss(loss, moved, labels, soft);
        moved[i] = (double)z[i];
        double slope = (above - below) / (2 * step);
        assert_near((double)gradient[i], slope, 4e-7 + 2e-6 * fabs(slope));
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
    assert_near(b.soft - a.soft, entropy, 1e-6);
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
    const struct kd_targets targets = {.label = labels, .soft = q};
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(
            kd_loss_batch(&loss, ROWS, CLASSES, z, &targets, gradient, &twice), KD_OK);
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
    assert_near(sums.soft, 25 * ROWS * log(CLASSES), 1e-5);
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
    assert_near(from_soft.soft, from_hard.hard, 1e-5);
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

/* -- the same arithmetic in double -------------------------------------------- */

/* A batch of any size, and what a row at a time, in double, makes of it. */
struct material {
    size_t rows, classes;
    float *z, *q, *tail, *ratio, *gradient;
    int32_t *label, *partner;
    bool *found;
    double *expected; /* [rows][classes] */
};

static void material_init(struct material *m, size_t rows, size_t classes,
                          uint64_t seed)
{
    struct kd_random r = kd_random_at(seed, KD_RANDOM_TEST, rows, (uint32_t)classes);
    const size_t values = rows * classes;

    *m = (struct material){.rows = rows, .classes = classes};
    assert_int_equal(KD_NEW(m->z, values), KD_OK);
    assert_int_equal(KD_NEW(m->q, values), KD_OK);
    assert_int_equal(KD_NEW(m->gradient, values), KD_OK);
    assert_int_equal(KD_NEW(m->expected, values), KD_OK);
    assert_int_equal(KD_NEW(m->tail, rows), KD_OK);
    assert_int_equal(KD_NEW(m->ratio, rows), KD_OK);
    assert_int_equal(KD_NEW(m->label, rows), KD_OK);
    assert_int_equal(KD_NEW(m->partner, rows), KD_OK);
    assert_int_equal(KD_NEW(m->found, rows), KD_OK);
    for (size_t i = 0; i < values; i++) {
        m->z[i] = (float)(4 * kd_random_normal(&r));
        m->q[i] = (float)(4 * kd_random_normal(&r));
    }
    for (size_t i = 0; i < rows; i++) {
        (void)kd_softmax(m->q + i * classes, classes, 2, m->q + i * classes);
        m->label[i] = (int32_t)kd_random_below(&r, (uint32_t)classes + 1) - 1;
        m->partner[i] = (int32_t)kd_random_below(&r, (uint32_t)classes + 1) - 1;
        m->ratio[i] = (float)kd_random_below(&r, 5) / 4;
        m->found[i] = kd_random_below(&r, 3) > 0;
    }
}

static void material_clear(struct material *m)
{
    free(m->z);
    free(m->q);
    free(m->gradient);
    free(m->expected);
    free(m->tail);
    free(m->ratio);
    free(m->label);
    free(m->partner);
    free(m->found);
}

/* Of each row all but the `kept` first classes, by a stride, into the bucket. */
static void make_buckets(struct material *m, size_t kept)
{
    for (size_t r = 0; r < m->rows; r++) {
        double rest = 0;
        for (size_t c = 0; c < m->classes; c++) {
            if ((c * 7 + r) % m->classes < kept)
                continue;
            rest += (double)m->q[r * m->classes + c];
            m->q[r * m->classes + c] = -1;
        }
        m->tail[r] = (float)rest;
    }
}

static double lse(const float *z, size_t classes, double t, const float *q, bool bucket)
{
    double max = -INFINITY, sum = 0;

    for (size_t c = 0; c < classes; c++)
        if (!bucket || q[c] < 0)
            max = fmax(max, (double)z[c]);
    for (size_t c = 0; c < classes; c++)
        if (!bucket || q[c] < 0)
            sum += exp(((double)z[c] - max) / t);
    return max / t + log(sum);
}

/* -- one row as the methods are written down */

static double plain_hard(const struct kd_loss *l, const float *z, size_t classes,
                         const double *target, double weight, double *g)
{
    const double norm = lse(z, classes, 1, NULL, false);
    double sum = 0;

    for (size_t c = 0; c < classes; c++) {
        const double t =
            (1 - l->smoothing) * target[c] + l->smoothing / (double)classes;
        g[c] += weight * (exp((double)z[c] - norm) - t);
        sum -= t * ((double)z[c] - norm);
    }
    return sum;
}

static double plain_soft(const struct kd_loss *l, const float *z, const float *q,
                         double tail, size_t classes, double weight, double *g)
{
    const double t = l->temperature, norm = lse(z, classes, t, NULL, false);
    const bool reverse = l->kind == KD_LOSS_KL && l->direction == KD_REVERSE;
    double log_bucket = lse(z, classes, t, q, true) - norm, sum = 0, mass = tail;
    bool bucket = false;

    for (size_t c = 0; c < classes; c++) {
        const double log_p = (double)z[c] / t - norm, p = exp(log_p);
        const double target = (double)q[c];
        bucket = bucket || target < 0;
        if (target < 0)
            continue;
        mass += target;
        if (reverse)
            sum += p * (log_p - log(fmax(target, 2e-38)));
        else if (target > 0)
            sum += target * ((l->kind == KD_LOSS_KL ? log(target) : 0) - log_p);
    }
    if (bucket && reverse)
        sum += exp(log_bucket) * (log_bucket - log(fmax(tail, 2e-38)));
    else if (bucket && tail > 0)
        sum += tail * ((l->kind == KD_LOSS_KL ? log(tail) : 0) - log_bucket);
    for (size_t c = 0; c < classes; c++) {
        const double log_p = (double)z[c] / t - norm, p = exp(log_p);
        const bool in = q[c] < 0;
        const double excess = in ? log_bucket - log(fmax(tail, 2e-38))
                                 : log_p - log(fmax((double)q[c], 2e-38));
        if (reverse)
            g[c] += weight / t * p * (excess - sum);
        else
            g[c] += weight / t *
                    (mass * p - (in ? tail * exp(log_p - log_bucket) : (double)q[c]));
    }
    return sum;
}

static double plain_mse(const float *z, const float *u, size_t classes, double weight,
                        double *g)
{
    double sum = 0;

    for (size_t c = 0; c < classes; c++) {
        const double d = (double)z[c] - (double)u[c];
        g[c] += weight * 2 * d / (double)classes;
        sum += d * d / (double)classes;
    }
    return sum;
}

/* The sums of a batch, its gradient in m->expected. */
static struct kd_loss_sums plain_batch(const struct kd_loss *l,
                                       const struct material *m,
                                       const struct kd_targets *t)
{
    struct kd_loss_sums sums = {0};
    double scale = l->t_squared ? l->temperature * l->temperature : 1, counting = 0;
    double *target = calloc(m->classes, sizeof *target);

    if (l->reduction == KD_ELEMMEAN)
        scale /= (double)m->classes;
    if (l->kind == KD_LOSS_MSE)
        scale = 1;
    memset(m->expected, 0, m->rows * m->classes * sizeof *m->expected);
    for (size_t r = 0; r < m->rows; r++) {
        const bool soft = t->soft != NULL && (t->found == NULL || t->found[r]);
        counting += soft || t->soft == NULL ||
                    (l->missing == KD_MISSING_HARD_LABEL && t->label[r] >= 0);
    }
    for (size_t r = 0; r < m->rows; r++) {
        const bool soft = t->soft != NULL && (t->found == NULL || t->found[r]);
        const bool alone = t->soft != NULL && !soft;
        const float *z = m->z + r * m->classes;
        double *g = m->expected + r * m->classes, hard = 0, distance = 0;
        const double weight = l->hard + (alone ? l->soft : 0);
        const float ratio = t->partner != NULL ? t->ratio[r] : 1;
        if (alone && (l->missing == KD_MISSING_SKIP || t->label[r] < 0))
            continue;
        sums.rows++;
        if (t->label[r] >= 0 && (ratio == 1 || t->partner[r] >= 0)) {
            memset(target, 0, m->classes * sizeof *target);
            target[t->label[r]] += (double)ratio;
            if (ratio < 1)
                target[t->partner[r]] += 1 - (double)ratio;
            hard = plain_hard(l, z, m->classes, target, weight / counting, g);
            sums.labelled++;
        }
        const float *q = m->q + r * m->classes;
        if (soft && l->kind == KD_LOSS_MSE)
            distance = plain_mse(z, q, m->classes, l->soft / counting, g);
        else if (soft)
            distance = scale * plain_soft(l, z, q, (double)m->tail[r], m->classes,
                                          l->soft * scale / counting, g);
        sums.softened += soft;
        sums.hard += hard;
        sums.soft += distance;
        sums.total += weight * hard + l->soft * distance;
    }
    free(target);
    return sums;
}

static void check_against_plain(const struct kd_loss *l, struct material *m,
                                const struct kd_targets *t)
{
    struct kd_loss_sums is = {0}, due = plain_batch(l, m, t);
    const double rows = (double)m->rows;

    assert_int_equal(kd_loss_batch(l, m->rows, m->classes, m->z, t, m->gradient, &is),
                     KD_OK);
    assert_int_equal(is.rows, due.rows);
    assert_int_equal(is.labelled, due.labelled);
    assert_int_equal(is.softened, due.softened);
    assert_near(is.hard / rows, due.hard / rows, 2e-6 * (1 + fabs(due.hard / rows)));
    assert_near(is.soft / rows, due.soft / rows, 2e-5 * (1 + fabs(due.soft / rows)));
    assert_near(is.total / rows, due.total / rows, 2e-5 * (1 + fabs(due.total / rows)));
    for (size_t i = 0; i < m->rows * m->classes; i++)
        assert_near((double)m->gradient[i], m->expected[i],
                    (1e-6 + 1e-5 * fabs(m->expected[i]) * rows) / rows);
}

static const struct {
    int kind, direction;
} distances[] = {{KD_LOSS_KL, KD_FORWARD},
                 {KD_LOSS_KL, KD_REVERSE},
                 {KD_LOSS_CE, KD_FORWARD},
                 {KD_LOSS_MSE, KD_FORWARD}};

static const size_t widths[] = {2, 3, 15, 16, 17, 100, 1000};

static void every_loss_of_any_width_is_the_same_in_double(void **state)
{
    (void)state;
    for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
        struct material m;
        material_init(&m, 37, widths[w], 1);
        const struct kd_targets t = {.label = m.label, .soft = m.q};
        for (unsigned i = 0; i < 16; i++) {
            const struct kd_loss l = {.hard = i / 8 == 0 ? 0.3 : 0,
                                      .soft = 0.7,
                                      .temperature = i / 4 % 2 == 0 ? 1 : 4,
                                      .kind = distances[i % 4].kind,
                                      .direction = distances[i % 4].direction,
                                      .smoothing = i / 8 == 0 ? 0.1 : 0,
                                      .t_squared = true};
            check_against_plain(&l, &m, &t);
        }
        material_clear(&m);
    }
}

static void it_does_not_matter_how_many_threads_there_are(void **state)
{
    const struct kd_loss l = {
        .hard = 0.3, .soft = 0.7, .temperature = 4, .t_squared = true};
    struct kd_loss_sums sums[3] = {{.hard = 0}};
    float *gradient[3];
    struct material m;

    (void)state;
    material_init(&m, 301, 1000, 2);
    const struct kd_targets t = {.label = m.label, .soft = m.q};
    for (size_t i = 0; i < 3; i++) {
        kd_threads_set(i + 1);
        assert_int_equal(KD_NEW(gradient[i], m.rows * m.classes), KD_OK);
        assert_int_equal(
            kd_loss_batch(&l, m.rows, m.classes, m.z, &t, gradient[i], &sums[i]),
            KD_OK);
        assert_memory_equal(gradient[i], gradient[0],
                            m.rows * m.classes * sizeof(float));
        assert_memory_equal(&sums[i], &sums[0], sizeof sums[0]);
    }
    for (size_t i = 0; i < 3; i++)
        free(gradient[i]);
    material_clear(&m);
    kd_threads_set(0);
}

/* -- buckets ------------------------------------------------------------------ */

static void the_classes_of_a_bucket_are_one_class(void **state)
{
    (void)state;
    for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
        struct material m;
        material_init(&m, 11, widths[w], 3);
        make_buckets(&m, widths[w] / 3 + 1);
        m.tail[4] = 0; /* of a row that keeps all mass, or says so */
        const struct kd_targets t = {.label = m.label, .soft = m.q, .tail = m.tail};
        for (unsigned i = 0; i < 6; i++) {
            const struct kd_loss l = {.hard = i / 3 == 0 ? 0.3 : 0,
                                      .soft = 0.7,
                                      .temperature = i / 3 == 0 ? 1 : 4,
                                      .kind = distances[i % 3].kind,
                                      .direction = distances[i % 3].direction,
                                      .t_squared = true};
            check_against_plain(&l, &m, &t);
        }
        material_clear(&m);
    }
}

/* The slopes of the loss of a single row, from its own values: nothing is derived. */
static void gradients_with_a_bucket_are_slopes(void **state)
{
    const float q[CLASSES] = {0.5F, -1, 0.2F, -1, -1};
    const float tail = 0.3F;
    const int32_t none = -1;
    float z[VALUES], gradient[CLASSES], moved[CLASSES], unused[CLASSES];

    (void)state;
    random_logits(7, z);
    for (unsigned i = 0; i < 3; i++) {
        const struct kd_loss l = {.soft = 1,
                                  .temperature = 2.5,
                                  .kind = distances[i].kind,
                                  .direction = distances[i].direction};
        const struct kd_targets t = {.label = &none, .soft = q, .tail = &tail};
        struct kd_loss_sums sums = {0};
        assert_int_equal(kd_loss_batch(&l, 1, CLASSES, z, &t, gradient, &sums), KD_OK);
        for (size_t c = 0; c < CLASSES; c++) {
            struct kd_loss_sums above = {0}, below = {0};
            const float step = 0.03125F;
            memcpy(moved, z, sizeof moved);
            moved[c] = z[c] + step;
            assert_int_equal(kd_loss_batch(&l, 1, CLASSES, moved, &t, unused, &above),
                             KD_OK);
            moved[c] = z[c] - step;
            assert_int_equal(kd_loss_batch(&l, 1, CLASSES, moved, &t, unused, &below),
                             KD_OK);
            assert_near((double)gradient[c],
                        (above.soft - below.soft) / (2 * (double)step), 1e-4);
        }
    }
}

/* Its own probabilities sum to nothing in float, yet the bucket pulls on them. */
static void a_bucket_of_hopeless_classes_pulls_on_them_evenly(void **state)
{
    const struct kd_loss l = {.soft = 1, .temperature = 1};
    const float z[5] = {200, 0, 0, 0, 0}, q[5] = {0.5F, -1, -1, -1, -1}, tail = 0.5F;
    const struct kd_targets t = {.label = labels, .soft = q, .tail = &tail};
    struct kd_loss_sums sums = {0};
    float g[5];

    (void)state;
    assert_int_equal(kd_loss_batch(&l, 1, 5, z, &t, g, &sums), KD_OK);
    assert_near((double)g[0], 0.5, 1e-6);
    for (size_t c = 1; c < 5; c++)
        assert_near((double)g[c], -0.125, 1e-6);
    assert_near(sums.soft, log(0.5) + 0.5 * (200 - log(4)), 1e-4);
}

/* -- what a row's labels may be ------------------------------------------------- */

static void mixed_samples_have_both_labels(void **state)
{
    const struct kd_loss l = {.hard = 1, .temperature = 1, .smoothing = 0.2};
    struct material m;

    (void)state;
    material_init(&m, 60, 10, 4);
    const struct kd_targets t = {
        .label = m.label, .partner = m.partner, .ratio = m.ratio};
    check_against_plain(&l, &m, &t);
    material_clear(&m);
}

static void accuracy_goes_by_the_label_with_the_larger_share(void **state)
{
    const struct kd_loss l = {.hard = 1, .temperature = 1};
    const float z[VALUES] = {[0] = 1, [5] = 1, [10] = 1, [15] = 1};
    const int32_t own[ROWS] = {0, 0, 3, 3}, other[ROWS] = {3, 3, 0, 0};
    const float ratio[ROWS] = {0.75F, 0.25F, 0.25F, 0.5F};
    const struct kd_targets t = {.label = own, .partner = other, .ratio = ratio};
    struct kd_loss_sums sums = {0};
    float g[VALUES];

    (void)state;
    assert_int_equal(kd_loss_batch(&l, ROWS, CLASSES, z, &t, g, &sums), KD_OK);
    assert_int_equal(sums.labelled, 4);
    assert_int_equal(sums.right, 2); /* the first and the third */
}

static void rows_without_soft_labels_follow_their_rule(void **state)
{
    struct material m;

    (void)state;
    material_init(&m, 60, 10, 5);
    const struct kd_targets t = {.label = m.label, .soft = m.q, .found = m.found};
    for (int missing = KD_MISSING_HARD_LABEL; missing <= KD_MISSING_SKIP; missing++) {
        const struct kd_loss l = {.hard = 0.25,
                                  .soft = 0.5,
                                  .temperature = 2,
                                  .t_squared = true,
                                  .missing = missing};
        check_against_plain(&l, &m, &t);
    }
    material_clear(&m);
}

/* As if the others had been a batch of their own. */
static void skipped_rows_count_for_nothing(void **state)
{
    const struct kd_loss l = {.hard = 0.25,
                              .soft = 0.5,
                              .temperature = 2,
                              .t_squared = true,
                              .missing = KD_MISSING_SKIP};
    const bool found[ROWS] = {true, false, true, false}, none[ROWS] = {false};
    const int32_t label[2] = {2, 0};
    float z[VALUES], q[VALUES], g[VALUES], few_z[VALUES], few_q[VALUES], few[VALUES];
    const float zeros[VALUES] = {0};
    struct kd_targets all = {.label = labels, .soft = q, .found = found};
    const struct kd_targets some = {.label = label, .soft = few_q};
    struct kd_loss_sums a = {0}, b = {0}, c = {0};

    (void)state;
    random_logits(1, z);
    random_probabilities(2, 2, q);
    for (size_t i = 0; i < 2; i++) {
        memcpy(few_z + i * CLASSES, z + 2 * i * CLASSES, CLASSES * sizeof(float));
        memcpy(few_q + i * CLASSES, q + 2 * i * CLASSES, CLASSES * sizeof(float));
    }
    assert_int_equal(kd_loss_batch(&l, ROWS, CLASSES, z, &all, g, &a), KD_OK);
    assert_int_equal(kd_loss_batch(&l, 2, CLASSES, few_z, &some, few, &b), KD_OK);
    assert_memory_equal(&a, &b, sizeof a);
    assert_memory_equal(g, few, CLASSES * sizeof(float));
    assert_memory_equal(g + 2 * CLASSES, few + CLASSES, CLASSES * sizeof(float));
    assert_memory_equal(g + CLASSES, zeros, CLASSES * sizeof(float));
    all.found = none;
    assert_int_equal(kd_loss_batch(&l, ROWS, CLASSES, z, &all, g, &c), KD_OK);
    assert_int_equal(c.rows, 0);
    assert_memory_equal(g, zeros, sizeof zeros);
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
        cmocka_unit_test(every_loss_of_any_width_is_the_same_in_double),
        cmocka_unit_test(it_does_not_matter_how_many_threads_there_are),
        cmocka_unit_test(the_classes_of_a_bucket_are_one_class),
        cmocka_unit_test(gradients_with_a_bucket_are_slopes),
        cmocka_unit_test(a_bucket_of_hopeless_classes_pulls_on_them_evenly),
        cmocka_unit_test(mixed_samples_have_both_labels),
        cmocka_unit_test(accuracy_goes_by_the_label_with_the_larger_share),
        cmocka_unit_test(rows_without_soft_labels_follow_their_rule),
        cmocka_unit_test(skipped_rows_count_for_nothing),
        cmocka_unit_test(softmax_is_stable_and_shifts_do_not_matter),
        cmocka_unit_test(softmax_divides_by_the_temperature_and_works_in_place),
        cmocka_unit_test(of_equal_largest_logits_the_first_is_the_answer),
        cmocka_unit_test(an_answer_that_is_no_number_is_not_right),
        cmocka_unit_test(names_are_in_the_order_of_the_enums),
    };

    return cmocka_run_group_tests_name("loss", tests, NULL, NULL);
}
