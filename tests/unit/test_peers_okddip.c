/* SPDX-License-Identifier: MIT */
/* OKDDip: what peers and leader learn from, and what of it learns. */
#include "peers_runs.h"
#include "peers_slopes.h"

#define PEERS_AND_LEADER 4
#define PEER_COUNT       3
#define FEATURES         16
#define NARROW           2 /* FEATURES / 8 */
#define SMOOTH           "{family: mlp, hidden: [6, 16], batch-norm: false}"

enum constant { PREDICTIONS, NOTHING, TARGETS };
static const char *const constants[] = {"--okddip-detach=predictions",
                                        "--okddip-detach=nothing",
                                        "--okddip-detach=targets"};

/* What the reference needs besides the members' answers. */
struct setting {
    enum constant constant;
    bool logits, mean; /* mixed; weighed alike */
};
static struct setting setting;

typedef double table[PEER_COUNT][ROWS][PEER_COUNT];
static table alpha, alpha_before;

/* -- the reference in double --------------------------------------------- */

static struct kd_part *module_of(const struct bench *b)
{
    return b->p.learning->part[b->p.learning->num_parts - 1];
}

static void read_weights(const struct bench *b, const char *name, double *to)
{
    const struct kd_graph *g = module_of(b)->graph;
    float plain[NARROW * FEATURES];

    for (size_t i = 0; i < kd_graph_num_parameters(g); i++) {
        const struct kd_parameter *p = kd_graph_parameter(g, i);
        if (strcmp(p->name, name) != 0)
            continue;
        assert_int_equal(p->count, NARROW * FEATURES);
        kd_parameter_get(p, p->value, plain);
        for (size_t k = 0; k < p->count; k++)
            to[k] = (double)plain[k];
        return;
    }
    fail_msg("no %s", name);
}

static void project(const double *w, const float *h, double *to)
{
    for (size_t j = 0; j < NARROW; j++) {
        to[j] = 0;
        for (size_t i = 0; i < FEATURES; i++)
            to[j] += w[j * FEATURES + i] * (double)h[i];
    }
}

/* alpha[a][r][b], by definition. */
static void find_alpha(const struct bench *b, table to)
{
    double left[NARROW * FEATURES], right[NARROW * FEATURES], l[NARROW], e[NARROW];
    static float h[PEER_COUNT][ROWS * FEATURES];

    read_weights(b, "left.weight", left);
    read_weights(b, "right.weight", right);
    for (size_t a = 0; a < PEER_COUNT; a++)
        kd_tensor_get(b->p.learning->member[a].features, h[a], ROWS);
    for (size_t a = 0; a < PEER_COUNT; a++)
        for (size_t r = 0; r < ROWS; r++) {
            double sum = 0;
            project(left, h[a] + r * FEATURES, l);
            for (size_t o = 0; o < PEER_COUNT; o++) {
                project(right, h[o] + r * FEATURES, e);
                sum += to[a][r][o] = exp(l[0] * e[0] + l[1] * e[1]);
            }
            for (size_t o = 0; o < PEER_COUNT; o++)
                to[a][r][o] /= sum;
        }
}

/* t of a row from what the peers answer, by weights. */
static void mix(double (*z)[ROWS][CLASSES], size_t row, const double *weights, double t,
                double *target)
{
    double v[CLASSES];

    memset(target, 0, CLASSES * sizeof *target);
    for (size_t b = 0; b < PEER_COUNT; b++) {
        memcpy(v, z[b][row], sizeof v);
        if (!setting.logits)
            soften_row(v, t, v);
        for (size_t c = 0; c < CLASSES; c++)
            target[c] += weights[b] * v[c];
    }
    if (setting.logits)
        soften_row(target, t, target);
}

/* CE of all, and T^2 w KL(t || q); what is constant is as it was before. */
static double loss_of_okddip(const struct slopes *s)
{
    static const double even[] = {1.0 / 3, 1.0 / 3, 1.0 / 3};
    struct slopes *now = (struct slopes *)s;
    double(*z)[ROWS][CLASSES] = setting.constant == NOTHING ? now->z : now->before;
    double sum = 0, target[CLASSES], q[CLASSES];

    if (!setting.mean)
        find_alpha(s->bench, alpha);
    for (size_t a = 0; a < PEERS_AND_LEADER; a++) {
        double soft = 0;
        for (size_t r = 0; r < ROWS; r++) {
            const double *weights = a == PEER_COUNT || setting.mean ? even
                                    : setting.constant == TARGETS   ? alpha_before[a][r]
                                                                    : alpha[a][r];
            mix(z, r, weights, s->t, target);
            soften_row(now->z[a][r], s->t, q);
            soft += divergence_of(target, q);
        }
        sum += hard_loss(s, now->z[a]) + s->w * s->t * s->t * soft / ROWS;
    }
    return sum;
}

static void open_okddip(struct bench *b, enum constant constant, bool logits, bool mean,
                        bool branches)
{
    OPEN(b, "--data", data_name(true), "--method=okddip", "--network", SMOOTH,
         "--ramp=none", "--soft=0.7", "--schedule=constant", "--warmup=0",
         constants[constant], logits ? "--okddip-mix=logits" : "--no-nesterov",
         mean ? "--okddip-weights=mean" : "--okddip-weights=attention",
         branches ? "--okddip-branches" : "--no-okddip-branches");
}

static void check_okddip(enum constant constant, bool logits, bool mean, bool branches)
{
    struct slopes s = {.loss = loss_of_okddip};
    struct bench b;

    open_okddip(&b, constant, logits, mean, branches);
    setting = (struct setting){constant, logits, mean};
    begin_slopes(&s, &b);
    if (!mean)
        find_alpha(&b, alpha_before);
    check_all_slopes(&s, branches ? 6 : 3, 1e-2);
    close_bench(&b);
}

/* -- tests --------------------------------------------------------------- */

static void networks_have_the_gradients_of_their_loss(void **state)
{
    (void)state;
    check_okddip(PREDICTIONS, false, false, false);
    check_okddip(NOTHING, false, false, false);
    check_okddip(TARGETS, false, false, false);
    check_okddip(PREDICTIONS, true, false, false);
    check_okddip(NOTHING, true, false, false);
}

static void branches_have_the_gradients_of_their_loss(void **state)
{
    (void)state;
    check_okddip(PREDICTIONS, false, false, true);
    check_okddip(NOTHING, true, false, true);
}

static void peers_that_weigh_alike_have_the_gradients_of_their_loss(void **state)
{
    (void)state;
    check_okddip(PREDICTIONS, false, true, false);
    check_okddip(NOTHING, false, true, false);
    check_okddip(NOTHING, true, true, true);
}

/* t_a and t_m, and the mean alpha of a peer for itself. */
static void targets_are_those_of_the_paper(void **state)
{
    static const double even[] = {1.0 / 3, 1.0 / 3, 1.0 / 3};
    struct slopes s = {.loss = loss_of_okddip};
    double want[CLASSES], self = 0;
    struct bench b;

    (void)state;
    for (int logits = 0; logits < 2; logits++) {
        open_okddip(&b, TARGETS, logits, false, false);
        setting = (struct setting){TARGETS, logits, false};
        begin_slopes(&s, &b);
        find_alpha(&b, alpha);
        self = 0;
        for (size_t a = 0; a <= PEER_COUNT; a++)
            for (size_t r = 0; r < ROWS; r++) {
                const float *got =
                    (a < PEER_COUNT ? b.p.targets + a * ROWS * CLASSES : b.p.target) +
                    r * CLASSES;
                mix(s.z, r, a < PEER_COUNT ? alpha[a][r] : even, s.t, want);
                for (size_t c = 0; c < CLASSES; c++)
                    assert_true(fabs((double)got[c] - want[c]) < 1e-5);
                self += a < PEER_COUNT ? alpha[a][r][a] / (PEER_COUNT * ROWS) : 0;
            }
        assert_string_equal(b.own.now.note[0].name, "alpha_self");
        assert_true(fabs(b.own.now.note[0].sum / (double)b.own.now.note[0].count -
                         self) < 1e-5);
        close_bench(&b);
    }
}

/* Whether a step moves the projections. */
static bool projections_learn(enum constant constant)
{
    struct bench b;
    float *before, *after;
    size_t n = 0;
    bool moved;

    open_okddip(&b, constant, false, false, false);
    before = weights_of(module_of(&b)->graph, &n);
    assert_int_equal(n, 2 * NARROW * FEATURES);
    kd_peers_begin_epoch(&b.p);
    take_step(&b, 0);
    after = weights_of(module_of(&b)->graph, &n);
    moved = memcmp(before, after, n * sizeof *before) != 0;
    free(before);
    free(after);
    close_bench(&b);
    return moved;
}

static void constant_targets_leave_the_projections_as_they_were(void **state)
{
    (void)state;
    assert_true(projections_learn(PREDICTIONS));
    assert_true(projections_learn(NOTHING));
    assert_false(projections_learn(TARGETS));
}

/* So is what the recipe says by itself. */
static void by_default_the_projections_learn(void **state)
{
    const float zero = 0;
    struct bench b;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--method=okddip", "--network", SMOOTH);
    assert_int_equal(b.recipe.count, PEERS_AND_LEADER);
    assert_string_equal(b.p.learning->member[0].name, "peer1");
    assert_string_equal(b.p.learning->member[PEER_COUNT].name, "leader");
    kd_peers_begin_epoch(&b.p);
    take_step(&b, 0);
    for (size_t i = 0; i < 2; i++) {
        const struct kd_parameter *p = kd_graph_parameter(module_of(&b)->graph, i);
        bool any = false;
        for (size_t k = 0; k < p->size; k++)
            any = any || p->gradient[k] != zero;
        assert_true(any);
    }
    close_bench(&b);
}

static void what_cannot_be_is_refused(void **state)
{
    struct bench b;

    (void)state;
    assert_int_equal(PARSE(&b, "--data", data_name(true), "--method=okddip",
                           "--networks", "resnet8,resnet8,resnet14",
                           "--okddip-branches"),
                     KD_ERECIPE);
    assert_non_null(strstr(kd_error(), "share no trunk"));
    close_bench(&b);
    assert_int_equal(PARSE(&b, "--data", data_name(true), "--method=okddip",
                           "--network=resnet8", "--direction=reverse"),
                     KD_ERECIPE);
    close_bench(&b);
    assert_int_equal(PARSE(&b, "--data", data_name(true), "--method=okddip",
                           "--network=resnet8", "--peers=2"),
                     KD_ERECIPE);
    close_bench(&b);
    NOT_OPENED(KD_ERECIPE, "peer2 has features of 128 x 1 x 1", "--data",
               data_name(true), "--method=okddip", "--networks", "resnet8,mlp,resnet8");
    NOT_OPENED(KD_ERECIPE, "no hidden layer", "--data", data_name(true),
               "--method=okddip", "--network={family: mlp, hidden: []}");
}

/* The leader may be unlike its peers. */
static void a_leader_of_another_kind_learns(void **state)
{
    struct bench b;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--method=okddip", "--networks",
         "[" SMOOTH ", " SMOOTH ", {family: mlp, hidden: [9]}]");
    kd_peers_begin_epoch(&b.p);
    take_step(&b, 0);
    close_bench(&b);
}

static void interrupted_runs_keep_attention(void **state)
{
    static const char *const files[] = {
        "peer1.h5",   "peer2.h5",      "leader.h5", "metrics.jsonl",
        "recipe.txt", "checkpoint.h5", NULL};

    (void)state;
    CHECK_RESUME(files, "--method=okddip", "--peers=3", "--network", SMOOTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_have_the_gradients_of_their_loss),
        cmocka_unit_test(branches_have_the_gradients_of_their_loss),
        cmocka_unit_test(peers_that_weigh_alike_have_the_gradients_of_their_loss),
        cmocka_unit_test(targets_are_those_of_the_paper),
        cmocka_unit_test(constant_targets_leave_the_projections_as_they_were),
        cmocka_unit_test(by_default_the_projections_learn),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(a_leader_of_another_kind_learns),
        cmocka_unit_test(interrupted_runs_keep_attention),
    };

    return cmocka_run_group_tests(tests, open_all, fixture_close);
}
