/* SPDX-License-Identifier: MIT */
/*
 * A method is one file of this folder: how networks that learn together are built, and
 * what they do with a batch. Its `const struct kd_method kd_method_NAME` stands in the
 * table of methods.c, and nothing else knows it.
 *
 * Words. A *member* is a network that the run gives out. A *part* is a graph: that of
 * one member, or a trunk with the branches of several, or a module that a method has
 * besides (a gate, a discriminator); each part has optimisers of its own. A *team* is
 * all parts of a run: there are two, one that learns, with a training graph for each
 * part, and one for measuring, with inference graphs that the engine gives the learned
 * weights after each epoch. `build` is called for each of them and makes the same parts
 * with the same parameters in the same order; only still parts (below) are left out of
 * the one for measuring.
 *
 * Deep mutual learning with both predictions of one forward pass, whole:
 *
 *     static enum kd_status build(struct kd_peers *p, struct kd_team *team)
 *     {
 *         return kd_team_networks(p, team);         (a part for each member)
 *     }
 *
 *     static enum kd_status step(struct kd_peers *p)
 *     {
 *         struct kd_team *team = p->learning;
 *         enum kd_status status = KD_EBUG;
 *
 *         KD_TRY(kd_team_show(p, team));            (forward: member->z)
 *         for (size_t k = 0; k < team->num_members; k++) {
 *             kd_team_mean(p, team, k, p->target);  (q: the others' probabilities)
 *             KD_TRY(kd_member_learn(p, &team->member[k], p->target, 1));
 *         }
 *         for (size_t k = 0; k < team->num_members; k++)
 *             KD_TRY(kd_part_improve(p, team->member[k].part));
 *         status = KD_OK;
 *     out:
 *         return status;
 *     }
 *
 *     const struct kd_method kd_method_dml = {
 *         .name = "dml", .help = "...", .least = 2, .most = 8, .usual = 2,
 *         .build = build, .step = step};
 *
 * Without exchange (`independent`) the soft weight is 0, kd_member_learn takes no
 * notice of soft targets, and p->exchange is false: a method leaves out whatever else
 * passes between members, so that the members are what they would be alone.
 */
#ifndef KD_METHOD_INTERNAL_H
#define KD_METHOD_INTERNAL_H

#include "kd/batch.h"
#include "kd/graph.h"
#include "kd/hash.h"
#include "kd/loss.h"
#include "kd/network.h"
#include "kd/optimizer.h"
#include "kd/peers.h"
#include "kd/schedule.h"

#define KD_MAX_PARTS   24
#define KD_MAX_RULES   2  /* optimisers of a part */
#define KD_MAX_NOTES   16 /* figures of an epoch that are a method's own */
#define KD_MAX_TENSORS 8  /* of a module */
#define KD_MAX_MEMORY  16 /* numbers that a method keeps from step to step */

/* How a part learns. */
struct kd_rule {
    int optimizer;       /* enum kd_optimizer_kind */
    struct kd_sgd sgd;   /* of KD_SGD */
    struct kd_adam adam; /* of the others; complete, weight decay too */
    struct kd_schedule schedule;
    double clip; /* the largest norm of all gradients together; 0: any */
};

struct kd_part {
    char name[24]; /* in checkpoints; what it is called in messages */
    struct kd_graph *graph;
    bool still;                 /* an inference graph: nothing of it is learned */
    char *trained;              /* the file that its weights are from; else NULL */
    struct kd_digest digest;    /* of that file */
    struct kd_tensor *samples;  /* its input, by kd_part_samples; NULL without */
    struct kd_tensor *logits;   /* of a whole network that is still; else NULL */
    struct kd_tensor *in, *out; /* of a module, set by its method, if it likes */
    struct kd_tensor *tensor[KD_MAX_TENSORS]; /* the same, by the method's numbers */
    size_t num_rules; /* 0 in a team for measuring, and of still parts */
    struct kd_rule rule[KD_MAX_RULES];
    struct kd_optimizer *optimizer[KD_MAX_RULES]; /* made by the engine */
};

struct kd_member {
    const char *name; /* "peer1" */
    size_t index;
    struct kd_part *part;
    char prefix[32]; /* of the names of what is its own in the part's graph */
    struct kd_tensor *logits;
    struct kd_tensor *features; /* what the last layer reads */
    struct kd_tensor *map;      /* before the pooling; NULL where there is none */
    float *z;                   /* [batch][classes] logits, of the last kd_part_show */
    float *gradient;            /* [batch][classes] by kd_member_learn */
};

struct kd_team {
    bool learning; /* false: for measuring */
    size_t batch;
    size_t num_parts;
    struct kd_part *part[KD_MAX_PARTS];
    size_t num_members;
    struct kd_member member[KD_MAX_PEERS];
};

/* A run, as far as methods see it. */
struct kd_peers {
    const struct kd_peers_recipe *recipe;
    const void *settings; /* the values of the method's own options */
    struct kd_sizes sizes;
    bool exchange; /* false: independent */

    struct kd_team *learning;
    struct kd_team *measuring;

    /* of the step */
    uint64_t epoch;      /* from 1 */
    uint64_t step;       /* of the epoch, from 0 */
    uint64_t steps;      /* of an epoch */
    uint64_t steps_done; /* of the run */
    struct kd_loss loss; /* with the ramp's weight in `soft` */
    /* [members] what each learns from: one and the same, unless the method has a batch
     * for each (own_batches). */
    const struct kd_batch *batch[KD_MAX_PEERS];
    const struct kd_batch *shown; /* what kd_part_show gives to the team */

    /* For whatever the method likes: [rows][classes], and [members][rows][classes], of
     * as many rows as the larger team's batch has. */
    float *target, *spare;
    float *targets, *gradients;

    /* What a method remembers: zeros at first, kept in the checkpoint. */
    double memory[KD_MAX_MEMORY];

    struct kd_peers_private *private;
};

/* An option of a method's own; `at` is where in the settings its value is. Names are
 * unique among all methods. A method's own values are in the settings beforehand. */
struct kd_method_option {
    size_t at;
    struct kd_option option;
};

struct kd_method {
    const char *name;
    const char *help;          /* what it is, whose; at most 66 characters */
    size_t least, most, usual; /* members; `usual`: where the recipe does not say */
    bool one_network;          /* all members have one architecture */

    const void *settings; /* the defaults of its options: the paper's form */
    size_t settings_size; /* at most KD_PEERS_SETTINGS */
    const struct kd_method_option *options; /* ended by a NULL name; NULL: none */

    /* Sets what the method has other values for than hard 1, soft 1, temperature 1 and
     * no ramp; the user's values go before. NULL: nothing. */
    void (*defaults)(struct kd_recipe *base);
    /* Names member k of `count`; NULL: peer1, peer2, ... */
    void (*name_member)(size_t k, size_t count, char name[24]);
    /* Whether settings and networks that exchange something fit together, KD_ERECIPE;
     * NULL: always. */
    enum kd_status (*check)(const struct kd_peers_recipe *recipe, const void *settings);
    /* Whether each member has a batch of its own; NULL: never. */
    bool (*own_batches)(const void *settings);

    /* Adds parts and members to a team: graphs are being built, the engine plans them,
     * gives them their first weights and makes the optimisers. */
    enum kd_status (*build)(struct kd_peers *p, struct kd_team *team);
    /* What comes before the first step of a run, when p->learning has its first
     * weights; not when a run goes on. NULL: nothing. */
    enum kd_status (*begin)(struct kd_peers *p);
    /* Learns from p->batch. */
    enum kd_status (*step)(struct kd_peers *p);

    /* The method's own ensemble, by its name in the metrics; NULL: it has none, as none
     * has without exchange. When it is called all parts of `team` that take samples
     * have been shown p->shown. Fills logits [batch][classes]. */
    const char *ensemble_name;
    enum kd_status (*ensemble)(struct kd_peers *p, struct kd_team *team, float *logits);
};

/* -- building ---------------------------------------------------------------- */

/* Adds a part with an empty graph for `batch` samples, and one rule, that of the
 * recipe; the method may change it, and add another, before `build` returns. Names are
 * unique. */
enum kd_status kd_team_add(struct kd_peers *p, struct kd_team *team, const char *name,
                           size_t batch, struct kd_part **part) KD_CHECKED;

/* The same of an inference graph in a team that learns: a copy of another part, that
 * the method gives weights with kd_graph_copy_parameters (a target in eval mode, the
 * peers as they were). It is in the checkpoint, too. */
enum kd_status kd_team_add_still(struct kd_peers *p, struct kd_team *team,
                                 const char *name, size_t batch,
                                 struct kd_part **part) KD_CHECKED;

/* A still part that has the whole network of member `index`. */
enum kd_status kd_team_add_copy(struct kd_peers *p, struct kd_team *team, size_t index,
                                const char *name) KD_CHECKED;

/* A still part that has the network of a file (kd/model.h). KD_EDATA where it is of
 * other samples, classes or normalisation than the run. It is not in checkpoints: what
 * names it in recipe.txt is its digest. */
enum kd_status kd_team_add_trained(struct kd_peers *p, struct kd_team *team,
                                   const char *path, const char *name) KD_CHECKED;

/* Gives a copy the weights that a part has now. */
enum kd_status kd_part_renew(struct kd_part *copy, const struct kd_part *of) KD_CHECKED;

/* The input of a part for the batch's samples. */
struct kd_tensor *kd_part_samples(const struct kd_peers *p, struct kd_part *part);

/* An input for what comes out of another part, with a gradient that goes back there:
 * kd_tensor_copy and kd_tensor_add_gradient (kd/graph.h). */
struct kd_tensor *kd_part_input_like(struct kd_part *part,
                                     const struct kd_tensor *from);

/* Says which tensors are the team's next member, and marks them as outputs. `prefix`
 * stands before the names of its own parameters in the part's graph; those of a trunk
 * have none. */
struct kd_member *kd_team_member(struct kd_peers *p, struct kd_team *team,
                                 struct kd_part *part, const char *prefix,
                                 struct kd_tensor *logits, struct kd_tensor *features,
                                 struct kd_tensor *map);

/* Whether all members have one architecture, and could share a trunk. */
bool kd_peers_alike(const struct kd_peers_recipe *recipe);

/* The two usual forms. A part for each member, of its name, with the whole network. */
enum kd_status kd_team_networks(struct kd_peers *p, struct kd_team *team) KD_CHECKED;

/* One part, "branches": the trunk of the first member's architecture and a branch for
 * each member, whose parameters are named "peer1.layer3.0.conv1.weight", ... *trunk is
 * what the branches read, to which a method may add layers (a gate); `scale` multiplies
 * the gradient that each branch sends into the trunk, 1 but for CL-ILR. */
enum kd_status kd_team_branches(struct kd_peers *p, struct kd_team *team, double scale,
                                struct kd_tensor **trunk) KD_CHECKED;

/* -- a step ------------------------------------------------------------------- */

/* Forward with p->shown (which kd_team_show sets to the first batch): the part, and the
 * logits of its members into member->z. */
enum kd_status kd_part_show(struct kd_peers *p, struct kd_team *team,
                            struct kd_part *part) KD_CHECKED;

/* Forward for all parts that take samples and are not still, with p->batch[0]. */
enum kd_status kd_team_show(struct kd_peers *p, struct kd_team *team) KD_CHECKED;

/* Forward with p->shown: the logits of a still network into z [batch][classes]. */
enum kd_status kd_part_predict(struct kd_peers *p, struct kd_part *still,
                               float *z) KD_CHECKED;

/* The same of `count` still networks: the mean of their probabilities, at the loss's
 * temperature, into q [batch][classes]. Uses p->spare. */
enum kd_status kd_parts_mean(struct kd_peers *p, struct kd_part *const *still,
                             size_t count, float *q) KD_CHECKED;

/* The member's loss, hard + factor * soft against `target` (probabilities at the
 * temperature, or NULL for the labels alone), with the labels of p->batch[its index]:
 * adds to the epoch's sums, puts the gradient of the mean loss with respect to its
 * logits into member->gradient and gives it to the logits' tensor. A method with other
 * losses besides adds to member->gradient and calls kd_tensor_set_gradient again.
 * KD_EDATA where the loss is no finite number. */
enum kd_status kd_member_learn(struct kd_peers *p, struct kd_member *member,
                               const float *target, double factor) KD_CHECKED;

/* The same for logits that are no member's (a gate's, a fused classifier's) and with a
 * loss of the method's own: `name` is what messages and the note of its mean (below)
 * call it, `gradient` [batch][classes]. */
enum kd_status kd_peers_loss(struct kd_peers *p, const char *name,
                             const struct kd_loss *loss, const float *logits,
                             const float *target, float *gradient) KD_CHECKED;

/* Backward with the gradients that outputs were given, clipped by rule 0. */
enum kd_status kd_part_backward(struct kd_peers *p, struct kd_part *part) KD_CHECKED;

/* A step of one of its optimisers at the schedule's rate. */
void kd_part_update(struct kd_peers *p, struct kd_part *part, size_t rule);

/* Both, with rule 0. */
enum kd_status kd_part_improve(struct kd_peers *p, struct kd_part *part) KD_CHECKED;

/* A step of a team of whole networks without exchange: each on its labels. */
enum kd_status kd_team_learn_alone(struct kd_peers *p) KD_CHECKED;

/* A whole step: each learns from the labels and from the mean of the others, of one
 * forward pass. */
enum kd_status kd_team_learn_mutually(struct kd_peers *p, double factor) KD_CHECKED;

/* -- targets ------------------------------------------------------------------- */

/* q [batch][classes] = softmax(z / temperature), row by row. */
void kd_peers_soften(const struct kd_peers *p, const float *z, double temperature,
                     float *q);

/* q [batch][classes] = the mean of all [count][batch][classes] but `except`. */
void kd_peers_mean(const struct kd_peers *p, const float *all, size_t count,
                   size_t except, float *q);

/* q = the mean of the probabilities, at the loss's temperature, of all members but
 * `except` (num_members: of all); z = the mean of their logits. */
void kd_team_mean(const struct kd_peers *p, const struct kd_team *team, size_t except,
                  float *q);
void kd_team_mean_logits(const struct kd_peers *p, const struct kd_team *team,
                         size_t except, float *z);

/* For `check`: a mean of divergences is that from the mean if they are forward ones. */
enum kd_status kd_peers_check_mutual(const struct kd_peers_recipe *recipe,
                                     const void *settings) KD_CHECKED;

/* What ONE, CL-ILR, FFL and OKDDip have instead of the usual values: temperature 3, and
 * a ramp of 80 epochs. */
void kd_peers_ramped(struct kd_recipe *base);

/* -- figures ------------------------------------------------------------------- */

/* Adds to a figure of the epoch: its mean over the calls stands in metrics.jsonl. */
void kd_peers_note(struct kd_peers *p, const char *name, double value);

/* The methods, ended by NULL. */
extern const struct kd_method *const kd_methods[KD_MAX_METHODS + 1];

#endif
