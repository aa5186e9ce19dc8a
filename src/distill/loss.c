/* SPDX-License-Identifier: MIT */
/* Losses of a batch and their gradients, in double within a row. */
#include "kd/loss.h"

#include <math.h>
#include <string.h>

const char *const kd_loss_kinds[] = {"kl", "ce", "mse", NULL};
const char *const kd_directions[] = {"forward", "reverse", NULL};
const char *const kd_reductions[] = {"batchmean", "elemmean", NULL};

static double largest(const float *z, size_t classes)
{
    double max = z[0];

    for (size_t c = 1; c < classes; c++)
        if (z[c] > max)
            max = z[c];
    return max;
}

/* log sum exp(z / T) */
static double log_sum_exp(const float *z, size_t classes, double temperature)
{
    const double max = largest(z, classes);
    double sum = 0;

    for (size_t c = 0; c < classes; c++)
        sum += exp((z[c] - max) / temperature);
    return max / temperature + log(sum);
}

double kd_softmax(const float *z, size_t classes, double temperature, float *p)
{
    const double norm = log_sum_exp(z, classes, temperature);

    for (size_t c = 0; c < classes; c++)
        p[c] = (float)exp(z[c] / temperature - norm);
    return norm;
}

/* Adds weight * d CE / dz to g; returns CE. */
static double hard_row(const float *z, size_t classes, size_t label, double weight,
                       float *g)
{
    const double norm = log_sum_exp(z, classes, 1);

    for (size_t c = 0; c < classes; c++) {
        const double p = exp(z[c] - norm);
        g[c] += (float)(weight * (p - (c == label ? 1 : 0)));
    }
    return norm - z[label];
}

/* log(q) where q is a probability that may have been rounded to 0. */
static double log_of(double q)
{
    return log(q > 1e-38 ? q : 1e-38);
}

static double forward_row(const struct kd_loss *loss, const float *z, const float *q,
                          size_t classes, double weight, float *g)
{
    const double t = loss->temperature, norm = log_sum_exp(z, classes, t);
    double sum = 0, mass = 0;

    for (size_t c = 0; c < classes; c++)
        mass += q[c];
    for (size_t c = 0; c < classes; c++) {
        const double log_p = z[c] / t - norm;
        g[c] += (float)(weight / t * (mass * exp(log_p) - q[c]));
        sum -= q[c] * log_p;
        if (loss->kind == KD_LOSS_KL && q[c] > 0)
            sum += q[c] * log(q[c]);
    }
    return sum;
}

static double reverse_row(const struct kd_loss *loss, const float *z, const float *q,
                          size_t classes, double weight, float *g)
{
    const double t = loss->temperature, norm = log_sum_exp(z, classes, t);
    double sum = 0;

    for (size_t c = 0; c < classes; c++) {
        const double log_p = z[c] / t - norm;
        sum += exp(log_p) * (log_p - log_of(q[c]));
    }
    for (size_t c = 0; c < classes; c++) {
        const double log_p = z[c] / t - norm;
        g[c] += (float)(weight / t * exp(log_p) * (log_p - log_of(q[c]) - sum));
    }
    return sum;
}

static double mse_row(const float *z, const float *u, size_t classes, double weight,
                      float *g)
{
    double sum = 0;

    for (size_t c = 0; c < classes; c++) {
        const double d = (double)z[c] - u[c];
        g[c] += (float)(weight * 2 * d / (double)classes);
        sum += d * d;
    }
    return sum / (double)classes;
}

static double soft_row(const struct kd_loss *loss, const float *z, const float *q,
                       size_t classes, double weight, float *g)
{
    if (loss->kind == KD_LOSS_MSE)
        return mse_row(z, q, classes, weight, g);
    if (loss->kind == KD_LOSS_KL && loss->direction == KD_REVERSE)
        return reverse_row(loss, z, q, classes, weight, g);
    return forward_row(loss, z, q, classes, weight, g);
}

/* What stands before D in the loss of one row. */
static double soft_scale(const struct kd_loss *loss, size_t classes)
{
    double scale = 1;

    if (loss->kind == KD_LOSS_MSE)
        return 1;
    if (loss->t_squared)
        scale *= loss->temperature * loss->temperature;
    if (loss->reduction == KD_ELEMMEAN)
        scale /= (double)classes;
    return scale;
}

/* Of equal logits the first one is the answer; a NaN answers nothing. */
static bool is_right(const float *z, size_t classes, size_t label)
{
    for (size_t c = 0; c < classes; c++)
        if (c != label && !(z[c] < z[label] || (z[c] == z[label] && c > label)))
            return false;
    return true;
}

void kd_loss_batch(const struct kd_loss *loss, size_t rows, size_t classes,
                   const float *logits, const int32_t *label, const float *soft,
                   float *gradient, struct kd_loss_sums *sums)
{
    const double scale = soft_scale(loss, classes), share = 1.0 / (double)rows;

    memset(gradient, 0, rows * classes * sizeof *gradient);
    for (size_t r = 0; r < rows; r++) {
        const float *z = logits + r * classes;
        float *g = gradient + r * classes;
        double hard = 0, distance = 0;
        if (label[r] >= 0) {
            hard = hard_row(z, classes, (size_t)label[r], loss->hard * share, g);
            sums->labelled++;
            sums->right += is_right(z, classes, (size_t)label[r]);
        }
        if (soft != NULL && loss->soft > 0)
            distance = scale * soft_row(loss, z, soft + r * classes, classes,
                                        loss->soft * scale * share, g);
        sums->hard += hard;
        sums->soft += distance;
        sums->total += loss->hard * hard + loss->soft * distance;
        sums->rows++;
    }
}
