/* SPDX-License-Identifier: MIT */
/* A run of networks that learn together: what its loop, its loader, its checkpoints,
 * its measurements and its diary share, and methods do not see. */
#ifndef KD_ENGINE_INTERNAL_H
#define KD_ENGINE_INTERNAL_H

#include "peers/method_internal.h"

#include "kd/dataset.h"
#include "kd/hash.h"
#include "kd/loader.h"
#include "kd/model.h"
#include "kd/order.h"

/* What a step needs of the data: a batch for all, or one for each member. */
struct kd_peers_feed {
    struct kd_batch batch[KD_MAX_PEERS]; /* [num_orders] */
};

/* How good a network was, by the samples that it is judged by. */
struct kd_peers_best {
    uint64_t epoch; /* 0: not yet */
    double accuracy, nll;
};

/* What was measured on a set of samples. */
struct kd_peers_measure {
    uint64_t samples; /* labelled ones; 0: not measured */
    double accuracy, nll;
};

/* Those that are measured: the members, their mean, and the method's own ensemble. */
#define KD_MAX_MEASURED (KD_MAX_PEERS + 2)

struct kd_peers_note {
    char name[40];
    double sum;
    uint64_t count;
};

/* What is known of an epoch. */
struct kd_peers_epoch {
    struct kd_loss_sums sums[KD_MAX_PEERS];
    struct kd_peers_note note[KD_MAX_NOTES];
    size_t num_notes;
    double seconds;
    struct kd_peers_measure holdout[KD_MAX_MEASURED], test[KD_MAX_MEASURED];
};

struct kd_peers_private {
    const char *directory;
    char *text; /* what decides the bits */

    struct kd_dataset *data, *test; /* test: NULL if there is none */
    struct kd_digest class_map;
    struct kd_normalize normalize;
    struct kd_view_spec views;
    size_t num_orders; /* 1, or as many as members */
    struct kd_order order[KD_MAX_PEERS];
    struct kd_peers_feed feed[2];
    struct kd_loader *loader;

    uint64_t done; /* epochs finished */
    struct kd_peers_epoch now;
    struct kd_peers_best best[KD_MAX_PEERS];
    char *metrics; /* metrics.jsonl so far */
    size_t metrics_size;

    float *scratch; /* [larger batch][classes] */
};

/* -- settings.c --------------------------------------------------------------- */

/* The values that decide the bits, one a line; as kd_recipe_text. NULL on failure. */
char *kd_peers_text(const struct kd_peers_recipe *recipe, const char *data,
                    const char *test) KD_CHECKED;

/* -- team.c ------------------------------------------------------------------- */

/* Builds a team by the method, plans its graphs, gives them first weights, and the
 * optimisers if it learns. *team is freed by kd_team_free, which takes NULL. */
enum kd_status kd_team_new(struct kd_peers *p, bool learning, size_t batch,
                           struct kd_team **team) KD_CHECKED;
void kd_team_free(struct kd_team *team);

/* Gives the learned weights to the team for measuring. */
enum kd_status kd_team_refresh(struct kd_peers *p) KD_CHECKED;

/* Bytes of all graphs and of the optimisers' moments. */
size_t kd_team_memory(const struct kd_team *team);

/* -- learn.c ------------------------------------------------------------------ */

/* As kd_team_mean, at a temperature. */
void kd_team_mean_at(const struct kd_peers *p, const struct kd_team *team,
                     size_t except, double temperature, float *q);

/* -- run.c -------------------------------------------------------------------- */

/* Opens what the recipe names and builds the teams; `private` and the recipe are set.
 * kd_peers_close frees all of it, also after a failure. */
enum kd_status kd_peers_open(struct kd_peers *p) KD_CHECKED;
void kd_peers_close(struct kd_peers *p);

/* Builds the teams anew, with their first weights. */
enum kd_status kd_peers_renew(struct kd_peers *p) KD_CHECKED;

/* Makes ready for the epoch behind private->done, and for one of its steps: then the
 * method's `step` may be called. */
void kd_peers_begin_epoch(struct kd_peers *p);
enum kd_status kd_peers_begin_step(struct kd_peers *p, uint64_t step) KD_CHECKED;

/* -- measure.c ---------------------------------------------------------------- */

/* Measures members and ensembles on the samples held out and on the test set. */
enum kd_status kd_peers_measure(struct kd_peers *p) KD_CHECKED;

/* -- keep.c ------------------------------------------------------------------- */

/* DIRECTORY/NAME`suffix`.h5 of a member, on the heap; and writing it. */
char *kd_peers_path(const struct kd_peers *p, const struct kd_member *member,
                    const char *suffix) KD_CHECKED;
enum kd_status kd_peers_keep(const struct kd_peers *p, const struct kd_member *member,
                             const char *suffix) KD_CHECKED;

/* Keeps the members for which the epoch was the best. */
enum kd_status kd_peers_keep_best(struct kd_peers *p) KD_CHECKED;

/* -- checkpoint.c ------------------------------------------------------------- */

enum kd_status kd_peers_save(struct kd_peers *p) KD_CHECKED;

/* Goes on from a checkpoint if there is one, else leaves the run before epoch 1. */
enum kd_status kd_peers_load(struct kd_peers *p) KD_CHECKED;

/* -- diary.c ------------------------------------------------------------------ */

/* Adds the epoch's line to the metrics, and says how it was. */
enum kd_status kd_peers_tell(struct kd_peers *p) KD_CHECKED;

/* -- rehearse.c --------------------------------------------------------------- */

/* One line about memory and time, on the heap. Takes steps: kd_peers_renew is due. */
enum kd_status kd_peers_forecast(struct kd_peers *p, char **text) KD_CHECKED;

#endif
