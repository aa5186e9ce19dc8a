/* SPDX-License-Identifier: MIT */
/* Every policy against a reference in plain double arithmetic over random rows; what
 * tells the means apart. */
#include "policy_fixture.h"

#define ROWS 1000

static void merge(const struct kd_merge_plan *plan, const struct teachers *t,
                  float *out, bool *answered)
{
    const struct kd_policy_row row = row_of(t);
    bool there = false;

    assert_int_equal(kd_merge_row(plan, &row, out, &there), KD_OK);
    if (answered != NULL)
        *answered = there;
    else
        assert_true(there);
}

static void scale(double *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i];
    for (size_t i = 0; i < n; i++)
        x[i] /= sum;
}

/* out are the logarithms of p. */
static void assert_log_of(const float *out, const double *p)
{
    for (size_t c = 0; c < C; c++) {
        const double should = p[c] > 0 ? log(p[c]) : -(double)FLT_MAX;

        if (fabs((double)out[c] - should) > 1e-5 * (1 + fabs(should)))
            fail_msg("class %zu: %.9g, not %.9g", c, (double)out[c], should);
    }
}

/* What a reference works on: p[m] at T, sharp[m] at temperature 1, and weights. */
struct reference {
    const struct kd_merge_plan *plan;
    const struct teachers *t;
    double p[M][C], sharp[M][C], w[M];
    size_t vote[M];
};

typedef void weighs(struct reference *r);

static struct reference refer(const struct kd_merge_plan *plan,
                              const struct teachers *t)
{
    struct reference r = {.plan = plan, .t = t};

    for (size_t m = 0; m < M; m++) {
        double z[C];

        for (size_t c = 0; c < C; c++) {
            z[c] = plan->temperature * t->u[m][c];
            r.vote[m] = t->u[m][c] > t->u[m][r.vote[m]] ? c : r.vote[m];
        }
        softmax(t->u[m], r.p[m]);
        softmax(z, r.sharp[m]);
        r.w[m] = plan->weights[m];
    }
    return r;
}

/* Checks a policy whose rows are sum_m w_m p_m with weights of the row. */
static void check_weighted(struct kd_merge_plan *plan, weighs *weigh)
{
    for (uint64_t id = 0; id < ROWS; id++) {
        const struct teachers t = draw(id);
        struct reference r = refer(plan, &t);
        double p[C] = {0};
        float out[C];

        merge(plan, &t, out, NULL);
        weigh(&r);
        scale(r.w, M);
        for (size_t m = 0; m < M; m++)
            for (size_t c = 0; c < C; c++)
                p[c] += r.w[m] * r.p[m][c];
        assert_log_of(out, p);
    }
    kd_merge_plan_clear(plan);
}

static void by_weight(struct reference *r)
{
    (void)r;
}

static void by_entropy(struct reference *r)
{
    double h[M] = {0}, sum = 0;

    for (size_t m = 0; m < M; m++) {
        for (size_t c = 0; c < C; c++)
            h[m] -= r->p[m][c] * log(r->p[m][c]);
        sum += h[m];
    }
    for (size_t m = 0; m < M; m++)
        r->w[m] *= 1 - h[m] / sum;
}

static void by_label_loss(struct reference *r)
{
    double loss[M], sum = 0;

    for (size_t m = 0; m < M; m++) {
        loss[m] = -log(r->sharp[m][r->t->label]);
        sum += exp(loss[m]);
    }
    for (size_t m = 0; m < M; m++)
        r->w[m] *= (1 - exp(loss[m]) / sum) / (M - 1);
}

static double greatest(const double *p, size_t but)
{
    double most = 0;

    for (size_t c = 0; c < C; c++)
        most = c != but && p[c] > most ? p[c] : most;
    return most;
}

static void by_max(struct reference *r)
{
    for (size_t m = 0; m < M; m++)
        r->w[m] *= greatest(r->p[m], C);
}

static void by_margin(struct reference *r)
{
    for (size_t m = 0; m < M; m++)
        r->w[m] *= greatest(r->p[m], C) - greatest(r->p[m], r->vote[m]);
}

static void by_label(struct reference *r)
{
    for (size_t m = 0; m < M; m++)
        r->w[m] *= r->p[m][r->t->label];
}

static void by_label_at_one(struct reference *r)
{
    for (size_t m = 0; m < M; m++)
        r->w[m] *= r->sharp[m][r->t->label];
}

static void all_but_the_fourth(struct reference *r)
{
    r->w[3] = 0;
}

static void only_the_likeliest(struct reference *r)
{
    size_t best = 0;

    for (size_t m = 1; m < M; m++)
        if (r->sharp[m][r->t->label] > r->sharp[best][r->t->label])
            best = m;
    for (size_t m = 0; m < M; m++)
        r->w[m] = m == best;
}

static void only_the_last(struct reference *r)
{
    for (size_t m = 0; m < M; m++)
        r->w[m] = m == M - 1;
}

static void weighted_policies_are_as_their_formulas_say(void **state)
{
    static const struct {
        enum kd_policy policy;
        weighs *weigh;
    } policies[] = {
        {KD_POLICY_MEAN_PROB, by_weight},
        {KD_POLICY_STACKED, by_weight},
        {KD_POLICY_GREEDY, by_weight},
        {KD_POLICY_ENTROPY, by_entropy},
        {KD_POLICY_LABEL_CONFIDENCE, by_label_loss},
        {KD_POLICY_CONFIDENCE, by_max},
        {KD_POLICY_CORRECT, by_label},
        {KD_POLICY_BEST_BY_LABEL, only_the_likeliest},
        {KD_POLICY_BEST_OVERALL, only_the_last},
    };

    (void)state;
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        struct kd_merge_plan plan = plan_of(policies[i].policy, M);

        check_weighted(&plan, policies[i].weigh);
    }
}

static void options_change_what_weights_are_measured_by(void **state)
{
    struct kd_merge_plan plan = plan_of(KD_POLICY_CONFIDENCE, M);

    (void)state;
    plan.confidence = KD_CONFIDENCE_MARGIN;
    check_weighted(&plan, by_margin);
    plan = plan_of(KD_POLICY_CORRECT, M);
    plan.weigh_at = 1;
    check_weighted(&plan, by_label_at_one);
    plan = plan_of(KD_POLICY_LEAVE_ONE_OUT, M);
    plan.left_out = 3;
    check_weighted(&plan, all_but_the_fourth);
}

/* Of the label, the teacher that a table names. */
static void by_route(struct reference *r)
{
    static const size_t route[C] = {1, 1, 1, 4, 0, 0, 0};

    for (size_t m = 0; m < M; m++)
        r->w[m] = m == route[r->t->label];
}

static void by_route_of_ids(struct reference *r)
{
    const uint64_t id = r->t->id;

    for (size_t m = 0; m < M; m++)
        r->w[m] = m == (id < 100 ? 2U : id < 900 ? 0U : 3U);
}

static void routes_lead_to_their_teacher(void **state)
{
    const char *labels = fixture_text(
        "labels.csv", "# by label\nlabel,teacher\r\n3,5\r\n\n0:3,2\n*,1\n");
    const char *ids = fixture_text("ids.csv", "id,teacher\n900:5000,4\n0:100,3\n*,1\n");
    struct kd_merge_plan plan = plan_of(KD_POLICY_ROUTE, M);

    (void)state;
    kd_route_free(plan.route);
    assert_int_equal(kd_route_load(labels, M, &plan.route), KD_OK);
    check_weighted(&plan, by_route);
    plan = plan_of(KD_POLICY_ROUTE, M);
    kd_route_free(plan.route);
    assert_int_equal(kd_route_load(ids, M, &plan.route), KD_OK);
    check_weighted(&plan, by_route_of_ids);
}

static void class_weights_weigh_each_class(void **state)
{
    struct kd_merge_plan plan = plan_of(KD_POLICY_CLASS_WEIGHTS, M);

    (void)state;
    for (uint64_t id = 0; id < ROWS; id++) {
        const struct teachers t = draw(id);
        const struct reference r = refer(&plan, &t);
        double p[C] = {0};
        float out[C];

        merge(&plan, &t, out, NULL);
        for (size_t c = 0; c < C; c++)
            for (size_t m = 0; m < M; m++)
                p[c] += plan.weights[(m + c) % M] * r.p[m][c];
        scale(p, C);
        assert_log_of(out, p);
    }
    kd_merge_plan_clear(&plan);
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Class by class the mean of those that are left when `trim` are taken off each end. */
static void check_trimmed(struct kd_merge_plan *plan, size_t trim)
{
    for (uint64_t id = 0; id < ROWS; id++) {
        const struct teachers t = draw(id);
        const struct reference r = refer(plan, &t);
        const size_t n = plan->teachers;
        double p[C] = {0};
        float out[C];

        merge(plan, &t, out, NULL);
        for (size_t c = 0; c < C; c++) {
            double x[M];

            for (size_t m = 0; m < n; m++)
                x[m] = r.p[m][c];
            qsort(x, n, sizeof x[0], compare);
            for (size_t i = trim; i < n - trim; i++)
                p[c] += x[i] / (double)(n - 2 * trim);
        }
        scale(p, C);
        assert_log_of(out, p);
    }
    kd_merge_plan_clear(plan);
}

static void medians_and_trimmed_means_are_in_the_middle(void **state)
{
    struct kd_merge_plan plan = plan_of(KD_POLICY_MEDIAN, 5);

    (void)state;
    check_trimmed(&plan, 2);
    plan = plan_of(KD_POLICY_MEDIAN, 4);
    check_trimmed(&plan, 1);
    plan = plan_of(KD_POLICY_TRIMMED_MEAN, 5);
    assert_int_equal(plan.trim, 1);
    check_trimmed(&plan, 1);
    plan = plan_of(KD_POLICY_TRIMMED_MEAN, 5);
    plan.trim = 2;
    check_trimmed(&plan, 2);
}

static void mean_logit_is_the_weighted_mean_of_logits(void **state)
{
    struct kd_merge_plan plan = plan_of(KD_POLICY_MEAN_LOGIT, M);

    (void)state;
    for (uint64_t id = 0; id < ROWS; id++) {
        const struct teachers t = draw(id);
        float out[C];

        merge(&plan, &t, out, NULL);
        for (size_t c = 0; c < C; c++) {
            double mean = 0;

            for (size_t m = 0; m < M; m++)
                mean += plan.weights[m] * t.u[m][c];
            assert_true(fabs((double)out[c] - mean) < 2e-6);
        }
    }
}

static void mean_logit_is_the_renormalised_geometric_mean(void **state)
{
    struct kd_merge_plan plan = plan_of(KD_POLICY_MEAN_LOGIT, M);

    (void)state;
    for (uint64_t id = 0; id < ROWS; id++) {
        const struct teachers t = draw(id);
        const struct reference r = refer(&plan, &t);
        double geometric[C], u[C], merged[C];
        float out[C];

        merge(&plan, &t, out, NULL);
        for (size_t c = 0; c < C; c++) {
            geometric[c] = 1;
            for (size_t m = 0; m < M; m++)
                geometric[c] *= pow(r.p[m][c], plan.weights[m]);
            u[c] = (double)out[c];
        }
        scale(geometric, C);
        softmax(u, merged);
        for (size_t c = 0; c < C; c++)
            assert_true(fabs(merged[c] - geometric[c]) < 1e-6);
    }
}

/* The shares of votes, and the winner. */
static size_t count_votes(const struct reference *r, double *share)
{
    double mean[C] = {0};
    size_t best = 0;

    for (size_t c = 0; c < C; c++)
        share[c] = 0;
    for (size_t m = 0; m < M; m++) {
        share[r->vote[m]] += r->w[m];
        for (size_t c = 0; c < C; c++)
            mean[c] += r->w[m] * r->p[m][c];
    }
    for (size_t c = 1; c < C; c++)
        if (share[c] > share[best] + 1e-12 ||
            (fabs(share[c] - share[best]) < 1e-12 && mean[c] > mean[best]))
            best = c;
    return best;
}

static void votes_are_counted_by_weight(void **state)
{
    struct kd_merge_plan vote = plan_of(KD_POLICY_VOTE, M);
    struct kd_merge_plan share = plan_of(KD_POLICY_VOTE_SHARE, M);

    (void)state;
    for (uint64_t id = 0; id < ROWS; id++) {
        const struct teachers t = draw(id);
        const struct reference r = refer(&vote, &t);
        double shares[C], winner[C] = {0};
        float out[C];

        winner[count_votes(&r, shares)] = 1;
        merge(&vote, &t, out, NULL);
        assert_log_of(out, winner);
        merge(&share, &t, out, NULL);
        assert_log_of(out, shares);
    }
}

static void equal_votes_go_to_the_greater_mean(void **state)
{
    struct kd_merge_plan plan = {.policy = KD_POLICY_VOTE, .teachers = 4};
    struct teachers t = {.label = -1};
    float out[C];

    (void)state;
    assert_int_equal(kd_merge_plan_check(&plan), KD_OK);
    t.u[0][2] = t.u[1][2] = 2;
    t.u[2][5] = 2;
    t.u[3][5] = 3;
    store(&t);
    merge(&plan, &t, out, NULL);
    assert_true(out[5] == 0 && out[2] == -FLT_MAX);
    t.u[3][5] = 2;
    store(&t);
    merge(&plan, &t, out, NULL);
    assert_true(out[2] == 0 && out[5] == -FLT_MAX);
}

/* Whether the teachers agree, and the mean if they do. */
static void check_agreement(struct kd_merge_plan *plan, size_t *kept)
{
    for (uint64_t id = 0; id < ROWS; id++) {
        const struct teachers t = draw(id);
        const struct reference r = refer(plan, &t);
        double share[C], p[C] = {0}, js = 0;
        const size_t winner = count_votes(&r, share);
        bool answered = false, agree = false;
        float out[C];

        for (size_t m = 0; m < M; m++)
            for (size_t c = 0; c < C; c++)
                p[c] += r.w[m] * r.p[m][c];
        for (size_t m = 0; m < M; m++)
            for (size_t c = 0; c < C; c++)
                js += r.w[m] * r.p[m][c] * log(r.p[m][c] / p[c]);
        agree = plan->agree == KD_AGREE_JS ? js <= plan->threshold
                                           : share[winner] >= plan->threshold;
        merge(plan, &t, out, &answered);
        assert_int_equal(answered, agree);
        *kept += agree;
        for (size_t c = 0; c < C && !agree; c++)
            p[c] = c == (size_t)t.label;
        assert_log_of(out, p);
    }
}

static void rows_without_agreement_fall_back(void **state)
{
    struct kd_merge_plan plan = plan_of(KD_POLICY_AGREEMENT, M);
    struct teachers t = {.label = -1, .id = 17, .view = 2};
    struct kd_policy_row row;
    size_t votes = 0, js = 0;
    bool answered = true;
    float out[C];

    (void)state;
    check_agreement(&plan, &votes);
    plan.agree = KD_AGREE_JS;
    plan.threshold = 0.4;
    check_agreement(&plan, &js);
    assert_true(votes > 100 && votes < 900 && js > 100 && js < 900);

    for (size_t m = 0; m < M; m++)
        t.u[m][m] = 5;
    store(&t);
    row = row_of(&t);
    assert_int_equal(kd_merge_row(&plan, &row, out, &answered), KD_EDATA);
    assert_says("sample 17, view 2: the teachers give no answer");
    assert_says("--fallback uniform");
    plan.fallback = KD_FALLBACK_UNIFORM;
    merge(&plan, &t, out, &answered);
    assert_false(answered);
    for (size_t c = 0; c < C; c++)
        assert_true(out[c] == (float)log(1.0 / C));
}

static void a_random_teacher_depends_on_the_sample_alone(void **state)
{
    struct kd_merge_plan plan = plan_of(KD_POLICY_RANDOM, M);
    size_t taken[M] = {0}, moved = 0;

    (void)state;
    plan.keeps_logits = true;
    for (uint64_t id = 0; id < 20 * ROWS; id++) {
        struct teachers t = draw(id % 7);
        float out[C], again[C];
        size_t m = 0;

        t.id = id;
        merge(&plan, &t, out, NULL);
        while (m < M &&
               out[0] != (float)((double)t.values[m][0] + (double)t.row_max[m]))
            m++;
        assert_true(m < M);
        taken[m]++;
        merge(&plan, &t, again, NULL);
        assert_memory_equal(out, again, sizeof out);
        t.view++;
        merge(&plan, &t, again, NULL);
        moved += out[0] != again[0];
    }
    for (size_t m = 0; m < M; m++) /* five deviations of at most 71 */
        assert_true(fabs((double)taken[m] - plan.weights[m] * 20 * ROWS) < 355);
    assert_true(moved > 14 * ROWS);
}

/* -- votes with noise ------------------------------------------------------------- */

/* How often class 1 wins with 3 votes of 5 against 2, over fresh noise; and how often
 * there is an answer. */
static double win(const struct kd_noise *noise, double *answers)
{
    struct kd_merge_plan plan = plan_of(KD_POLICY_NOISY_VOTE, M);
    const uint64_t n = 40000;
    double wins = 0;

    plan.noise = *noise;
    *answers = 0;
    for (uint64_t id = 0; id < n; id++) {
        struct teachers t = {.id = id, .label = 0};
        struct kd_policy_row row;
        bool answered = false;
        float out[2];

        t.u[0][1] = t.u[1][1] = t.u[2][1] = t.u[3][0] = t.u[4][0] = 1;
        store(&t);
        row = row_of(&t);
        row.outcomes = row.classes = 2;
        assert_int_equal(kd_merge_row(&plan, &row, out, &answered), KD_OK);
        *answers += answered;
        wins += answered && out[1] == 0;
        assert_true(answered || out[0] == 0);
    }
    *answers /= (double)n;
    return wins / (double)n;
}

static double normal_below(double x)
{
    return erfc(-x / sqrt(2)) / 2;
}

static void noise_has_the_distribution_that_it_should(void **state)
{
    double answers = 0;

    (void)state;
    /* the difference of two normals has the deviation 2 sqrt 2 */
    double gnmax = win(&(struct kd_noise){KD_NOISE_GNMAX, .scale = 2}, &answers);
    assert_true(fabs(gnmax - normal_below(1 / sqrt(8))) < 0.01);
    assert_true(answers == 1);

    /* that of two Laplace ones is over d with probability e^(-d/b) (2 + d/b) / 4 */
    double lnmax = win(&(struct kd_noise){KD_NOISE_LNMAX, .scale = 2}, &answers);
    assert_true(fabs(lnmax - (1 - exp(-0.5) * 2.5 / 4)) < 0.01);
    assert_true(answers == 1);

    double both = win(&(struct kd_noise){KD_NOISE_CONFIDENT_GNMAX, .scale = 2,
                                         .check = 3, .threshold = 4},
                      &answers);
    assert_true(fabs(answers - normal_below(-1.0 / 3)) < 0.01);
    assert_true(fabs(both / answers - normal_below(1 / sqrt(8))) < 0.015);
}

static void noise_is_a_function_of_seed_sample_and_view(void **state)
{
    struct kd_merge_plan plan = plan_of(KD_POLICY_NOISY_VOTE, M);
    size_t by_view = 0, by_seed = 0;

    (void)state;
    plan.noise.scale = 10;
    for (uint64_t id = 0; id < 200; id++) {
        struct teachers t = draw(id);
        float out[C], again[C];

        merge(&plan, &t, out, NULL);
        merge(&plan, &t, again, NULL);
        assert_memory_equal(out, again, sizeof out);
        plan.seed++;
        merge(&plan, &t, again, NULL);
        by_seed += memcmp(out, again, sizeof out) != 0;
        plan.seed--;
        t.view++;
        merge(&plan, &t, again, NULL);
        by_view += memcmp(out, again, sizeof out) != 0;
    }
    assert_true(by_view > 100 && by_seed > 100);
}

/* -- what tells means apart -------------------------------------------------------- */

/* sum_m w_m KL(p_m || softmax(z)) */
static double mean_kl(const struct reference *r, const double *z)
{
    double loss = 0, lse = log_sum_exp(z, C);

    for (size_t m = 0; m < M; m++)
        for (size_t c = 0; c < C; c++)
            loss += r->w[m] * r->p[m][c] * (log(r->p[m][c]) - (z[c] - lse));
    return loss;
}

/* The largest difference between the gradients of the mean of KL losses, by finite
 * differences, and of one KL loss to the merged row: q - p. */
static double gradient_gap(const struct reference *r, const float *merged)
{
    double z[C], q[C], p[C], u[C], gap = 0;
    const double h = 1e-5;

    for (size_t c = 0; c < C; c++) {
        z[c] = sin((double)(3 * c + r->t->id));
        u[c] = (double)merged[c];
    }
    softmax(z, q);
    softmax(u, p);
    for (size_t c = 0; c < C; c++) {
        double at = z[c], up = 0, down = 0;

        z[c] = at + h;
        up = mean_kl(r, z);
        z[c] = at - h;
        down = mean_kl(r, z);
        z[c] = at;
        gap = fmax(gap, fabs((up - down) / (2 * h) - (q[c] - p[c])));
    }
    return gap;
}

static void training_on_mean_prob_is_training_on_the_mean_of_losses(void **state)
{
    struct kd_merge_plan prob = plan_of(KD_POLICY_MEAN_PROB, M);
    struct kd_merge_plan logit = plan_of(KD_POLICY_MEAN_LOGIT, M);

    (void)state;
    for (uint64_t id = 0; id < 5; id++) {
        const struct teachers t = draw(id);
        const struct reference r = refer(&prob, &t);
        float out[C];

        merge(&prob, &t, out, NULL);
        assert_true(gradient_gap(&r, out) < 1e-6);
        merge(&logit, &t, out, NULL); /* is something else */
        assert_true(gradient_gap(&r, out) > 1e-2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weighted_policies_are_as_their_formulas_say),
        cmocka_unit_test(options_change_what_weights_are_measured_by),
        cmocka_unit_test(routes_lead_to_their_teacher),
        cmocka_unit_test(class_weights_weigh_each_class),
        cmocka_unit_test(medians_and_trimmed_means_are_in_the_middle),
        cmocka_unit_test(mean_logit_is_the_weighted_mean_of_logits),
        cmocka_unit_test(mean_logit_is_the_renormalised_geometric_mean),
        cmocka_unit_test(votes_are_counted_by_weight),
        cmocka_unit_test(equal_votes_go_to_the_greater_mean),
        cmocka_unit_test(rows_without_agreement_fall_back),
        cmocka_unit_test(a_random_teacher_depends_on_the_sample_alone),
        cmocka_unit_test(noise_has_the_distribution_that_it_should),
        cmocka_unit_test(noise_is_a_function_of_seed_sample_and_view),
        cmocka_unit_test(training_on_mean_prob_is_training_on_the_mean_of_losses),
    };

    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
