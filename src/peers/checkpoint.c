/* SPDX-License-Identifier: MIT */
/* Checkpoints: all that a run needs to go on as if nothing had happened. */
#include "peers/engine_internal.h"

#include "kd/h5.h"
#include "kd/state.h"

#include <stdio.h>

#define FORMAT  "kdcache-peers-checkpoint"
#define VERSION 1

/* -- numbers ------------------------------------------------------------------- */

/* What is no array of a part: epochs done; of each member the best epoch, its accuracy
 * and negative log-likelihood; the method's memory; steps of each optimiser. */
#define MAX_NUMBERS (1 + 3 * KD_MAX_PEERS + KD_MAX_MEMORY + KD_MAX_PARTS * KD_MAX_RULES)

/* Takes the numbers from the run, or gives them to it; how many there are. */
static size_t move_numbers(struct kd_peers *p, double *numbers, bool save)
{
    struct kd_peers_private *own = p->private;
    size_t n = 0;

    for (size_t k = 0; k < p->recipe->count; k++, n += 3) {
        struct kd_peers_best *b = &own->best[k];
        if (save) {
            numbers[n] = (double)b->epoch;
            numbers[n + 1] = b->accuracy;
            numbers[n + 2] = b->nll;
        } else {
            *b = (struct kd_peers_best){(uint64_t)numbers[n], numbers[n + 1],
                                        numbers[n + 2]};
        }
    }
    for (size_t i = 0; i < KD_MAX_MEMORY; i++, n++)
        *(save ? &numbers[n] : &p->memory[i]) = save ? p->memory[i] : numbers[n];
    for (size_t i = 0; i < p->learning->num_parts; i++)
        for (size_t o = 0; o < p->learning->part[i]->num_rules; o++, n++) {
            struct kd_optimizer *optimizer = p->learning->part[i]->optimizer[o];
            if (save)
                numbers[n] = (double)kd_optimizer_steps(optimizer);
            else
                kd_optimizer_set_steps(optimizer, (uint64_t)numbers[n]);
        }
    if (save)
        numbers[n] = (double)own->done;
    else
        own->done = (uint64_t)numbers[n];
    return n + 1;
}

static enum kd_status write_numbers(struct kd_peers *p, struct kd_h5 *file)
{
    double numbers[MAX_NUMBERS];
    const uint64_t shape[1] = {move_numbers(p, numbers, true)};

    return kd_h5_write(file, "numbers", KD_F64, 1, shape, numbers, NULL);
}

static enum kd_status read_numbers(struct kd_peers *p, struct kd_h5 *file)
{
    double ours[MAX_NUMBERS], theirs[MAX_NUMBERS];
    const size_t count = move_numbers(p, ours, true);
    struct kd_array_info info;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_h5_info(file, "numbers", &info));
    if (info.type != KD_F64 || info.count != count) {
        status = kd_fail(KD_EDATA, "%s: numbers: not of this run", kd_h5_path(file));
        goto out;
    }
    KD_TRY(kd_h5_read(file, "numbers", &info, theirs));
    move_numbers(p, theirs, false);
    status = KD_OK;
out:
    return status;
}

/* -- parts --------------------------------------------------------------------- */

static enum kd_status move_moments(const struct kd_part *part, struct kd_h5 *file,
                                   size_t rule, bool save)
{
    const struct kd_optimizer *o = part->optimizer[rule];
    enum kd_status status = KD_OK;
    char group[128];

    for (size_t m = 0; m < kd_optimizer_moments(o); m++) {
        snprintf(group, sizeof group, "moments/%s/%zu/%zu", part->name, rule + 1,
                 m + 1);
        for (size_t i = 0; i < kd_graph_num_parameters(part->graph); i++) {
            float *moment = kd_optimizer_moment(o, i, m);
            if (moment != NULL && status == KD_OK)
                status = kd_state_move(file, group, kd_graph_parameter(part->graph, i),
                                       moment, save);
        }
    }
    return status;
}

static enum kd_status move_part(struct kd_part *part, struct kd_h5 *file, bool save)
{
    enum kd_status status = KD_EBUG;
    char group[64];

    snprintf(group, sizeof group, "parts/%s", part->name);
    if (save)
        KD_TRY(kd_model_write_parameters(file, group, part->graph));
    else
        KD_TRY(kd_model_read_parameters(file, group, part->graph));
    for (size_t o = 0; o < part->num_rules; o++)
        KD_TRY(move_moments(part, file, o, save));
    status = KD_OK;
out:
    return status;
}

static enum kd_status move_parts(struct kd_peers *p, struct kd_h5 *file, bool save)
{
    enum kd_status status = KD_OK;

    for (size_t i = 0; i < p->learning->num_parts && status == KD_OK; i++)
        if (p->learning->part[i]->trained == NULL)
            status = move_part(p->learning->part[i], file, save);
    return status;
}

/* What has diverged is nothing to go on from. */
static enum kd_status check_part(const struct kd_peers *p, const struct kd_part *part)
{
    const struct kd_parameter *q = kd_graph_not_finite(part->graph);

    if (q == NULL)
        return KD_OK;
    return kd_fail(KD_EDATA,
                   "epoch %llu: %s of %s is not finite: lower the learning rate (%g)",
                   (unsigned long long)p->private->done, q->name, part->name,
                   p->recipe->base.schedule.lr);
}

/* -- the file -------------------------------------------------------------------- */

/* XXH3-128 of the recipe and of every array. */
static enum kd_status sum_up(const struct kd_peers *p, struct kd_h5 *file,
                             struct kd_digest *digest)
{
    enum kd_status status = KD_EBUG;
    struct kd_hash *hash = NULL;

    KD_TRY(kd_hash_new(&hash));
    kd_hash_add_string(hash, p->private->text);
    KD_TRY(kd_state_hash_arrays(file, hash));
    kd_hash_digest(hash, digest);
    status = KD_OK;
out:
    kd_hash_free(hash);
    return status;
}

/* Of the address of a run: what moves its state both ways takes no constant one. */
static enum kd_status write_all(const void *context, struct kd_h5 *file)
{
    struct kd_peers *p = *(struct kd_peers *const *)context;
    const struct kd_peers_private *own = p->private;
    const uint64_t shape[1] = {own->metrics_size};
    enum kd_status status = KD_EBUG;
    struct kd_digest digest;

    KD_TRY(kd_h5_set_string(file, "format", FORMAT));
    KD_TRY(kd_h5_set_u64(file, "format_version", VERSION));
    KD_TRY(kd_h5_set_string(file, "recipe", own->text));
    KD_TRY(kd_h5_write(file, "metrics", KD_U8, 1, shape, own->metrics, NULL));
    KD_TRY(write_numbers(p, file));
    KD_TRY(move_parts(p, file, true));
    KD_TRY(sum_up(p, file, &digest));
    KD_TRY(kd_h5_set_string(file, "check", digest.hex));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_peers_save(struct kd_peers *p)
{
    enum kd_status status = KD_EBUG;

    for (size_t i = 0; i < p->learning->num_parts; i++)
        KD_TRY(check_part(p, p->learning->part[i]));
    KD_TRY(kd_state_save(p->private->directory, write_all, &p));
out:
    return status;
}

static enum kd_status read_all(void *context, struct kd_h5 *file)
{
    struct kd_peers *p = context;
    struct kd_peers_private *own = p->private;
    enum kd_status status = KD_EBUG;
    struct kd_digest digest;

    KD_TRY(kd_h5_expect_format(file, FORMAT, VERSION, "a checkpoint of this version"));
    KD_TRY(kd_state_check_recipe(file, own->text));
    KD_TRY(sum_up(p, file, &digest));
    KD_TRY(kd_state_check_sum(file, &digest));
    KD_TRY(read_numbers(p, file));
    if (own->done > p->recipe->base.all_epochs) {
        status = kd_fail(KD_EDATA, "%s: damaged: it is of epoch %llu", kd_h5_path(file),
                         (unsigned long long)own->done);
        goto out;
    }
    KD_TRY(kd_state_read_metrics(file, &own->metrics, &own->metrics_size));
    KD_TRY(move_parts(p, file, false));
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_peers_load(struct kd_peers *p)
{
    return kd_state_load(p->private->directory, read_all, p);
}
