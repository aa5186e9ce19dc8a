/* SPDX-License-Identifier: MIT */
/*
 * ProKT, Shi et al. 2021, "Learning from deep model via exploring local targets": the
 * teacher takes its step while it is kept near the student, and the student follows it.
 * With p_T and p_S the probabilities of teacher and student at temperature 1, for each
 * batch
 *
 *     q = p_S in eval mode
 *     the teacher steps on (1 - lambda) CE(y, p_T) + lambda KL(q || p_T)
 *     q = p_T in eval mode, of the teacher as it is now
 *     the student steps on KL(q || p_S), without labels
 *
 * The last layers of both begin at zero, so that both begin at even odds. As in the
 * authors' code; how their equations direct the divergences was not to be had. Their
 * recipes have a smaller learning rate for the (pretrained) teacher: that is
 * `prokt-teacher-rate`. The recipe's --hard and --soft multiply the two kinds of terms,
 * and another --temperature is that of all divergences.
 *
 * `prokt-dual` has CE(y, p_T) + beta (KL(q || p_T) - epsilon) instead, beta climbing
 * with rate `prokt-dual-rate` while the divergence is larger than epsilon, and falling,
 * to 0 at the least, while it is smaller.
 *
 * With lambda 0 the student follows a teacher that learns alone.
 */
#include "peers/method_internal.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { TEACHER, STUDENT };                 /* members, and their parts */
enum { STILL_TEACHER = 2, STILL_STUDENT }; /* parts */
enum { BETA };                             /* what is remembered */

struct settings {
    double lambda;
    bool dual, zero_heads;
    double epsilon, beta, rate;
    double teacher_rate;
};

static const struct settings paper = {.lambda = 0.4,
                                      .zero_heads = true,
                                      .epsilon = 1,
                                      .beta = 1,
                                      .rate = 1e-3,
                                      .teacher_rate = 1};

static const struct kd_method_option options[] = {
    {offsetof(struct settings, lambda),
     {.name = "prokt-lambda",
      .type = KD_OPTION_F64,
      .min = 0,
      .max = 1,
      .metavar = "X",
      .help = "prokt: how strongly the teacher is kept near the student"}},
    {offsetof(struct settings, zero_heads),
     {.name = "prokt-zero-heads",
      .type = KD_OPTION_FLAG,
      .help = "prokt: both last layers begin at zero"}},
    {offsetof(struct settings, teacher_rate),
     {.name = "prokt-teacher-rate",
      .type = KD_OPTION_F64,
      .min = 0,
      .max = 1000,
      .metavar = "X",
      .help = "prokt: the teacher's learning rate, over the student's"}},
    {offsetof(struct settings, dual),
     {.name = "prokt-dual",
      .type = KD_OPTION_FLAG,
      .help = "prokt: lambda becomes a multiplier that is learned"}},
    {offsetof(struct settings, epsilon),
     {.name = "prokt-dual-epsilon",
      .type = KD_OPTION_F64,
      .min = 0,
      .max = 1000,
      .metavar = "X",
      .help = "prokt-dual: the divergence that is allowed, in nats"}},
    {offsetof(struct settings, beta),
     {.name = "prokt-dual-beta",
      .type = KD_OPTION_F64,
      .min = 0,
      .max = 1000,
      .metavar = "X",
      .help = "prokt-dual: the multiplier at first"}},
    {offsetof(struct settings, rate),
     {.name = "prokt-dual-rate",
      .type = KD_OPTION_F64,
      .min = 0,
      .max = 1000,
      .metavar = "X",
      .help = "prokt-dual: how fast the multiplier changes"}},
    {0}};

static enum kd_status check(const struct kd_peers_recipe *recipe, const void *settings)
{
    (void)settings;
    if (recipe->base.ramp.kind == KD_RAMP_NONE)
        return KD_OK;
    return kd_fail(KD_ERECIPE,
                   "ramp: prokt's student learns from its teacher alone, and "
                   "would begin with nothing: leave it out");
}

static void name_member(size_t k, size_t count, char name[24])
{
    (void)count;
    strcpy(name, k == TEACHER ? "teacher" : "student");
}

static enum kd_status build(struct kd_peers *p, struct kd_team *team)
{
    const struct settings *s = p->settings;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_team_networks(p, team));
    if (team->learning && p->exchange) {
        team->part[TEACHER]->rule[0].schedule.lr *= s->teacher_rate;
        KD_TRY(kd_team_add_copy(p, team, TEACHER, "still teacher"));
        KD_TRY(kd_team_add_copy(p, team, STUDENT, "still student"));
    }
    status = KD_OK;
out:
    return status;
}

/* A network's last layer is dense: its weights and biases were added last. */
static void zero_head(struct kd_graph *graph)
{
    const size_t count = kd_graph_num_parameters(graph);

    for (size_t i = count - 2; i < count; i++) {
        struct kd_parameter *parameter = kd_graph_parameter(graph, i);
        memset(parameter->value, 0, parameter->size * sizeof(float));
    }
    kd_graph_parameters_changed(graph);
}

static enum kd_status begin(struct kd_peers *p)
{
    const struct settings *s = p->settings;

    if (s->zero_heads && p->exchange) {
        zero_head(p->learning->part[TEACHER]->graph);
        zero_head(p->learning->part[STUDENT]->graph);
    }
    p->memory[BETA] = s->beta;
    return KD_OK;
}

/* How far the probabilities of logits z are from q, in nats: the batch's mean. */
static enum kd_status diverge(struct kd_peers *p, const float *z, const float *q,
                              double *apart)
{
    const struct kd_targets targets = {.label = p->shown->label, .soft = q};
    struct kd_loss_sums sums = {0};
    struct kd_loss loss = p->loss;
    enum kd_status status = KD_EBUG;

    loss.hard = 0;
    loss.soft = 1;
    loss.t_squared = false;
    loss.reduction = KD_BATCHMEAN;
    KD_TRY(kd_loss_batch(&loss, p->shown->size, p->sizes.classes, z, &targets, p->spare,
                         &sums));
    *apart = sums.soft / (double)sums.rows;
    status = KD_OK;
out:
    return status;
}

/* The member's step, on hard * CE + soft * KL(target || p). */
static enum kd_status improve(struct kd_peers *p, struct kd_member *member,
                              const float *target, double hard, double soft)
{
    const struct kd_loss loss = p->loss;
    enum kd_status status = KD_EBUG;

    p->loss.hard *= hard;
    p->loss.soft *= soft;
    KD_TRY(kd_member_learn(p, member, target, 1));
    KD_TRY(kd_part_improve(p, member->part));
    status = KD_OK;
out:
    p->loss = loss;
    return status;
}

static enum kd_status step_teacher(struct kd_peers *p, struct kd_member *teacher)
{
    const struct settings *s = p->settings;
    double *beta = &p->memory[BETA], apart = 0;
    enum kd_status status = KD_EBUG;

    if (!s->dual)
        return improve(p, teacher, p->target, 1 - s->lambda, s->lambda);
    KD_TRY(diverge(p, teacher->z, p->target, &apart));
    KD_TRY(improve(p, teacher, p->target, 1, *beta));
    *beta = fmax(0, *beta + s->rate * (apart - s->epsilon));
    kd_peers_note(p, "beta", *beta);
    status = KD_OK;
out:
    return status;
}

/* target = the probabilities of a member as it is, in eval mode. */
static enum kd_status predict(struct kd_peers *p, size_t copy, const struct kd_part *of)
{
    struct kd_part *still = p->learning->part[copy];
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_part_renew(still, of));
    KD_TRY(kd_part_predict(p, still, p->target));
    kd_peers_soften(p, p->target, p->loss.temperature, p->target);
    status = KD_OK;
out:
    return status;
}

static enum kd_status step(struct kd_peers *p)
{
    const struct settings *s = p->settings;
    struct kd_team *team = p->learning;
    struct kd_member *teacher = &team->member[TEACHER];
    struct kd_member *student = &team->member[STUDENT];
    enum kd_status status = KD_EBUG;
    double apart = 0;

    if (!p->exchange)
        return kd_team_learn_alone(p);
    if (s->dual || s->lambda > 0)
        KD_TRY(predict(p, STILL_STUDENT, student->part));
    KD_TRY(kd_part_show(p, team, teacher->part));
    KD_TRY(step_teacher(p, teacher));
    KD_TRY(predict(p, STILL_TEACHER, teacher->part));
    KD_TRY(kd_part_show(p, team, student->part));
    KD_TRY(diverge(p, student->z, p->target, &apart));
    kd_peers_note(p, "divergence", apart);
    KD_TRY(improve(p, student, p->target, 0, 1));
    status = KD_OK;
out:
    return status;
}

const struct kd_method kd_method_prokt = {
    .name = "prokt",
    .help = "a teacher that stays near its student (Shi et al. 2021)",
    .least = 2,
    .most = 2,
    .usual = 2,
    .settings = &paper,
    .settings_size = sizeof paper,
    .options = options,
    .name_member = name_member,
    .check = check,
    .build = build,
    .begin = begin,
    .step = step,
};
