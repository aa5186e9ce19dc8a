/* SPDX-License-Identifier: MIT */
/* Networks that only predict: members in eval mode or as they once were, and networks
 * that were trained before. They take a batch in pieces, as kd-dump does. */
#include "peers/engine_internal.h"

#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>

static void add_network(struct kd_peers *p, struct kd_part *part,
                        const struct kd_arch *arch)
{
    struct kd_tensor *x = kd_part_samples(p, part), *features = NULL;

    part->logits =
        kd_network_layers(part->graph, arch, p->sizes.classes, "", x, &features);
    kd_graph_output(part->graph, part->logits);
}

enum kd_status kd_team_add_copy(struct kd_peers *p, struct kd_team *team, size_t index,
                                const char *name)
{
    struct kd_part *part = NULL;
    const enum kd_status status =
        kd_team_add_still(p, team, name, kd_network_piece(team->batch), &part);

    if (status == KD_OK)
        add_network(p, part, &p->recipe->arch[index]);
    return status;
}

/* -- trained networks ------------------------------------------------------------ */

static bool reads_alike(const struct kd_model *model, const struct kd_normalize *n)
{
    const size_t size = model->num_normalize * sizeof *model->mean;

    return model->num_normalize == n->count &&
           memcmp(model->mean, n->mean, size) == 0 &&
           memcmp(model->deviation, n->deviation, size) == 0;
}

static enum kd_status check_trained(const struct kd_peers *p, const char *path,
                                    const struct kd_model *model)
{
    const struct kd_peers_private *own = p->private;
    const char *data = kd_dataset_facts(own->data)->name;

    if (memcmp(&model->sizes, &p->sizes, sizeof p->sizes) != 0 ||
        !kd_digest_equal(&model->class_map_digest, &own->class_map))
        return kd_fail(KD_EDATA,
                       "%s: was trained for samples or classes other than those of %s",
                       path, data);
    if (!reads_alike(model, &own->normalize))
        return kd_fail(KD_EDATA,
                       "%s: normalises its input otherwise than networks that are "
                       "trained on %s: let kd-dump run it, and kd-train learn from the "
                       "cache",
                       path, data);
    return KD_OK;
}

enum kd_status kd_team_add_trained(struct kd_peers *p, struct kd_team *team,
                                   const char *path, const char *name)
{
    enum kd_status status = KD_EBUG;
    char *file = kd_model_path(path);
    struct kd_part *part = NULL;
    struct kd_model model;

    KD_TRY(file != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_model_open(file, &model));
    KD_TRY(check_trained(p, path, &model));
    KD_TRY(kd_team_add_still(p, team, name, kd_network_piece(team->batch), &part));
    part->trained = file;
    file = NULL;
    part->digest = model.digest;
    add_network(p, part, &model.arch);
    status = KD_OK;
out:
    free(file);
    return status;
}

/* -- weights and predictions ----------------------------------------------------- */

enum kd_status kd_part_renew(struct kd_part *copy, const struct kd_part *of)
{
    return kd_graph_copy_parameters(copy->graph, of->graph);
}

enum kd_status kd_part_predict(struct kd_peers *p, struct kd_part *still, float *z)
{
    const struct kd_sizes *s = &p->sizes;
    const size_t sample = s->channels * s->height * s->width;
    const size_t piece = kd_graph_batch(still->graph), all = p->shown->size;

    for (size_t at = 0; at < all; at += piece) {
        const size_t count = all - at < piece ? all - at : piece;
        kd_tensor_set(still->samples, p->shown->input + at * sample, count);
        const enum kd_status status = kd_graph_forward(still->graph);
        if (status != KD_OK) {
            kd_error_prefix("%s", still->name);
            return status;
        }
        kd_tensor_get(still->logits, z + at * s->classes, count);
    }
    return KD_OK;
}
