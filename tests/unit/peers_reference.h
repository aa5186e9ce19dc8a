/* SPDX-License-Identifier: MIT */
/* A small network in double precision, and what it learns in a step: to be compared
 * with members that begin with the same weights. */
#ifndef PEERS_REFERENCE_H
#define PEERS_REFERENCE_H

#include "peers_fixture.h"

#define TINY     "{family: mlp, hidden: [5], batch-norm: false}"
#define HIDDEN   5
#define FEATURES (SIDE * SIDE)
#define ROWS     16
#define STEPS    4 /* of an epoch */

#define PLAIN_SGD                                                                      \
    "--lr=0.1", "--schedule=constant", "--warmup=0", "--momentum=0.9",                 \
        "--weight-decay=0.001"
#define LR    0.1
#define DECAY 0.001

enum { W1, B1, W2, B2, NUM_ARRAYS };
static const char *const names[NUM_ARRAYS] = {"fc1.weight", "fc1.bias", "fc.weight",
                                              "fc.bias"};
static const size_t sizes[NUM_ARRAYS] = {HIDDEN * FEATURES, HIDDEN, CLASSES *HIDDEN,
                                         CLASSES};

struct net {
    double w[NUM_ARRAYS][HIDDEN * FEATURES], v[NUM_ARRAYS][HIDDEN * FEATURES];
};

static inline const struct kd_parameter *parameter(const struct kd_graph *g,
                                                   const char *name)
{
    for (size_t i = 0; i < kd_graph_num_parameters(g); i++)
        if (strcmp(kd_graph_parameter(g, i)->name, name) == 0)
            return kd_graph_parameter(g, i);
    fail_msg("no %s", name);
    return NULL;
}

static inline void copy_net(const struct kd_graph *g, struct net *net)
{
    float plain[HIDDEN * FEATURES];

    *net = (struct net){0};
    for (int a = 0; a < NUM_ARRAYS; a++) {
        const struct kd_parameter *p = parameter(g, names[a]);
        assert_int_equal(p->count, sizes[a]);
        kd_parameter_get(p, p->value, plain);
        for (size_t i = 0; i < sizes[a]; i++)
            net->w[a][i] = (double)plain[i];
    }
}

static inline void assert_like_net(const struct kd_graph *g, const struct net *net)
{
    float plain[HIDDEN * FEATURES];

    for (int a = 0; a < NUM_ARRAYS; a++) {
        const struct kd_parameter *p = parameter(g, names[a]);
        kd_parameter_get(p, p->value, plain);
        for (size_t i = 0; i < sizes[a]; i++)
            if (!(fabs((double)plain[i] - net->w[a][i]) < 2e-5))
                fail_msg("%s[%zu] is %.9g, not %.9g", names[a], i, (double)plain[i],
                         net->w[a][i]);
    }
}

static inline void forward(const struct net *n, const float *x, double *h, double *z)
{
    for (size_t j = 0; j < HIDDEN; j++) {
        h[j] = n->w[B1][j];
        for (size_t i = 0; i < FEATURES; i++)
            h[j] += n->w[W1][j * FEATURES + i] * (double)x[i];
        h[j] = fmax(h[j], 0);
    }
    for (size_t c = 0; c < CLASSES; c++) {
        z[c] = n->w[B2][c];
        for (size_t j = 0; j < HIDDEN; j++)
            z[c] += n->w[W2][c * HIDDEN + j] * h[j];
    }
}

static inline void soften(const double *z, double t, double *p)
{
    double sum = 0;

    for (size_t c = 0; c < CLASSES; c++)
        sum += p[c] = exp(z[c] / t);
    for (size_t c = 0; c < CLASSES; c++)
        p[c] /= sum;
}

/* What a batch is answered with at temperature t. */
struct answers {
    double p[ROWS][CLASSES];
};

static inline struct answers ask(const struct net *n, const struct kd_batch *b,
                                 double t)
{
    struct answers a;
    double h[HIDDEN], z[CLASSES];

    for (size_t r = 0; r < ROWS; r++) {
        forward(n, b->input + r * FEATURES, h, z);
        soften(z, t, a.p[r]);
    }
    return a;
}

/* One step of SGD with Nesterov's momentum on hard * CE + sum over the others of
 * weight * T^2 KL(p_l || p): each divergence by itself. */
static inline void learn(struct net *n, const struct kd_batch *b,
                         const struct answers *others, size_t count, double hard,
                         double weight, double t)
{
    static double g[NUM_ARRAYS][HIDDEN * FEATURES];

    memset(g, 0, sizeof g);
    for (size_t r = 0; r < ROWS; r++) {
        const float *x = b->input + r * FEATURES;
        double h[HIDDEN], z[CLASSES], p[CLASSES], soft[CLASSES], dz[CLASSES];
        forward(n, x, h, z);
        soften(z, 1, p);
        soften(z, t, soft);
        for (size_t c = 0; c < CLASSES; c++) {
            dz[c] = hard * (p[c] - ((int32_t)c == b->label[r] ? 1 : 0));
            for (size_t l = 0; l < count; l++)
                dz[c] += weight * t * (soft[c] - others[l].p[r][c]);
            dz[c] /= ROWS;
        }
        for (size_t j = 0; j < HIDDEN; j++) {
            double dh = 0;
            for (size_t c = 0; c < CLASSES; c++) {
                dh += dz[c] * n->w[W2][c * HIDDEN + j];
                g[W2][c * HIDDEN + j] += dz[c] * h[j];
            }
            dh = h[j] > 0 ? dh : 0;
            g[B1][j] += dh;
            for (size_t i = 0; i < FEATURES; i++)
                g[W1][j * FEATURES + i] += dh * (double)x[i];
        }
        for (size_t c = 0; c < CLASSES; c++)
            g[B2][c] += dz[c];
    }
    for (int a = 0; a < NUM_ARRAYS; a++)
        for (size_t i = 0; i < sizes[a]; i++) {
            const double d = g[a][i] + DECAY * n->w[a][i];
            n->v[a][i] = 0.9 * n->v[a][i] + d;
            n->w[a][i] -= LR * (d + 0.9 * n->v[a][i]);
        }
}

/* What all but one know of a batch. */
static inline size_t ask_others(const struct net *nets, size_t count, size_t except,
                                const struct kd_batch *b, double t,
                                struct answers *answers)
{
    size_t n = 0;

    for (size_t l = 0; l < count; l++)
        if (l != except)
            answers[n++] = ask(&nets[l], b, t);
    return n;
}

#endif
