/* SPDX-License-Identifier: MIT */
/*
 * The gradients that a method's step leaves in all parameters, of whatever part,
 * against slopes of the loss that the method is said to have, which the test computes
 * itself in double from what the networks answer. What is constant in that loss is what
 * it was before anything was moved.
 */
#ifndef PEERS_SLOPES_H
#define PEERS_SLOPES_H

#include "peers_fixture.h"

#include <math.h>

#define ROWS            16
#define MEMBERS_AT_MOST 4

struct slopes {
    struct bench *bench;
    /* The loss of what the team answers; `before` holds what stays constant. */
    double (*loss)(const struct slopes *s);
    /* What a gradient is of its slope, by the parameter's name; NULL: the same. */
    double (*share)(const char *name);
    double z[MEMBERS_AT_MOST][ROWS][CLASSES]; /* of the members, now */
    double before[MEMBERS_AT_MOST][ROWS][CLASSES];
    double extra[ROWS][CLASSES], extra_before[ROWS][CLASSES]; /* of `more` */
    const struct kd_tensor *more;                             /* NULL: none */
    double w, t; /* weight and temperature of the soft part */
};

/* -- distributions in double --------------------------------------------- */

static inline void soften_row(const double *z, double t, double *p)
{
    double most = z[0], sum = 0;

    for (size_t c = 1; c < CLASSES; c++)
        most = fmax(most, z[c]);
    for (size_t c = 0; c < CLASSES; c++)
        sum += p[c] = exp((z[c] - most) / t);
    for (size_t c = 0; c < CLASSES; c++)
        p[c] /= sum;
}

static inline double divergence_of(const double *p, const double *q)
{
    double sum = 0;

    for (size_t c = 0; c < CLASSES; c++)
        sum += p[c] > 0 ? p[c] * log(p[c] / q[c]) : 0;
    return sum;
}

/* The mean of CE(y, softmax(z)) over the batch. */
static inline double hard_loss(const struct slopes *s, double (*z)[CLASSES])
{
    const int32_t *label = s->bench->p.batch[0]->label;
    double p[CLASSES], sum = 0;

    for (size_t r = 0; r < ROWS; r++) {
        soften_row(z[r], 1, p);
        sum -= log(p[label[r]]);
    }
    return sum / ROWS;
}

/* w T^2 times the mean of KL(softmax(teacher / T) || softmax(z / T)). */
static inline double soft_loss(const struct slopes *s, double (*teacher)[CLASSES],
                               double (*z)[CLASSES])
{
    double p[CLASSES], q[CLASSES], sum = 0;

    for (size_t r = 0; r < ROWS; r++) {
        soften_row(teacher[r], s->t, p);
        soften_row(z[r], s->t, q);
        sum += divergence_of(p, q);
    }
    return s->w * s->t * s->t * sum / ROWS;
}

/* The mean over the first `count` but for `except`. */
static inline void mean_answer(double (*z)[ROWS][CLASSES], size_t count, size_t except,
                               double (*mean)[CLASSES])
{
    const double by = (double)(except < count ? count - 1 : count);

    memset(mean, 0, ROWS * sizeof *mean);
    for (size_t k = 0; k < count; k++)
        for (size_t r = 0; k != except && r < ROWS; r++)
            for (size_t c = 0; c < CLASSES; c++)
                mean[r][c] += z[k][r][c] / by;
}

/* -- slopes -------------------------------------------------------------- */

static inline void read_rows(const struct kd_tensor *tensor, double (*to)[CLASSES])
{
    float plain[ROWS * CLASSES];

    kd_tensor_get(tensor, plain, ROWS);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t c = 0; c < CLASSES; c++)
            to[r][c] = (double)plain[r * CLASSES + c];
}

/* The step with weights that stay, and what the members answered in it. */
static inline void answer(struct slopes *s)
{
    struct kd_peers *p = &s->bench->p;

    if (p->recipe->chosen->step(p) != KD_OK)
        fail_msg("%s", kd_error());
    for (size_t k = 0; k < p->learning->num_members; k++)
        read_rows(p->learning->member[k].logits, s->z[k]);
    if (s->more != NULL)
        read_rows(s->more, s->extra);
}

/* Makes the first step of an opened bench ready, with a rate of 0. */
static inline void begin_slopes(struct slopes *s, struct bench *b)
{
    struct kd_team *team = b->p.learning;

    s->bench = b;
    for (size_t i = 0; i < team->num_parts; i++)
        team->part[i]->rule[0].schedule.lr = 0;
    kd_peers_begin_epoch(&b->p);
    assert_int_equal(kd_peers_begin_step(&b->p, 0), KD_OK);
    s->w = b->p.loss.soft;
    s->t = b->p.loss.temperature;
    answer(s);
    memcpy(s->before, s->z, sizeof s->z);
    memcpy(s->extra_before, s->extra, sizeof s->extra);
}

static inline double slope_at(struct slopes *s, struct kd_graph *graph,
                              struct kd_parameter *p, float *plain, size_t i)
{
    const float kept = plain[i],
                step = 3e-4F; /* larger ones cross many a ReLU's bend */
    double loss[2];

    for (int up = 0; up < 2; up++) {
        plain[i] = up ? kept + step : kept - step;
        kd_parameter_set(p, plain, p->value);
        kd_graph_parameters_changed(graph);
        answer(s);
        loss[up] = s->loss(s);
    }
    plain[i] = kept;
    kd_parameter_set(p, plain, p->value);
    kd_graph_parameters_changed(graph);
    return (loss[1] - loss[0]) / (2.0 * (double)step);
}

/* Sums over the places of a parameter that were looked at. */
struct slope_sums {
    double off, slopes, gradients; /* of squares */
    size_t count;
};

static inline struct slope_sums measure_slopes(struct slopes *s, struct kd_graph *graph,
                                               struct kd_parameter *p, size_t places)
{
    struct slope_sums sums = {0};
    float *plain = kd_alloc(p->count, sizeof *plain),
          *gradient = kd_alloc(p->count, sizeof *gradient);
    const double share = s->share != NULL ? s->share(p->name) : 1;

    assert_true(plain != NULL && gradient != NULL);
    answer(s); /* the gradients of where it stands */
    kd_parameter_get(p, p->value, plain);
    kd_parameter_get(p, p->gradient, gradient);
    for (size_t i = 0; i < p->count; i += p->count / places + 1) {
        const double slope = share * slope_at(s, graph, p, plain, i);
        sums.off += pow(slope - (double)gradient[i], 2);
        sums.slopes += slope * slope;
        sums.gradients += pow((double)gradient[i], 2);
        sums.count++;
    }
    free(plain);
    free(gradient);
    return sums;
}

/* Of all parameters of all parts. */
static inline void check_all_slopes(struct slopes *s, size_t places, double tolerance)
{
    const struct kd_team *team = s->bench->p.learning;

    for (size_t i = 0; i < team->num_parts; i++) {
        struct kd_graph *g = team->part[i]->graph;
        for (size_t j = 0; j < kd_graph_num_parameters(g); j++) {
            struct kd_parameter *p = kd_graph_parameter(g, j);
            if (!p->trained)
                continue;
            const struct slope_sums sums = measure_slopes(s, g, p, places);
            if (!(sqrt(sums.off) <=
                  tolerance * (sqrt(sums.slopes) + 0.02 * sqrt((double)sums.count))))
                fail_msg("%s, %s: gradients are off by %g of %g", team->part[i]->name,
                         p->name, sqrt(sums.off), sqrt(sums.slopes));
        }
    }
}

#endif
