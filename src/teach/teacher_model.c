/* SPDX-License-Identifier: MIT */
/*
 * Networks as teachers. A batch goes through the graph in pieces; samples that do not
 * fill one are followed by zeros.
 */
#define _XOPEN_SOURCE 700 /* realpath */
#include "teach/teacher_internal.h"

#include "kd/file.h"
#include "kd/memory.h"
#include "kd/model.h"
#include "kd/network.h"

#include <stdlib.h>
#include <string.h>

/* Large enough to keep the matrix products busy, and with large samples no more than
 * 64 MiB of them. */
#define MOST_BATCH   256
#define BATCH_FLOATS ((size_t)1 << 24)

struct model_teacher {
    char *name;
    struct kd_network *network;
    size_t piece;  /* samples that the graph takes at a time */
    size_t sample; /* floats */
    float *padded; /* [piece][channels][height][width], for those that are not full */
};

static void close_model(void *state)
{
    struct model_teacher *teacher = state;

    if (teacher == NULL)
        return;
    kd_network_free(teacher->network);
    free(teacher->name);
    free(teacher->padded);
    free(teacher);
}

/* A function of the network alone, so that its rows are. */
static size_t choose_batch(size_t sample, size_t classes)
{
    size_t batch = MOST_BATCH;

    while (batch > 1 && (sample + classes) > BATCH_FLOATS / batch)
        batch /= 2;
    return batch;
}

static enum kd_status check_sizes(const char *path, const struct kd_sizes *sizes,
                                  size_t *sample)
{
    if (!kd_multiply(sizes->channels, sizes->height, sample) ||
        !kd_multiply(*sample, sizes->width, sample) || *sample > SIZE_MAX / 2)
        return kd_fail(KD_EDATA, "%s: samples of %zu x %zu x %zu are too large", path,
                       sizes->channels, sizes->height, sizes->width);
    return KD_OK;
}

static void set_facts(const struct kd_model *model, size_t batch,
                      struct kd_teacher_facts *facts)
{
    _Static_assert(KD_MAX_CHANNELS == KD_MAX_NORMALIZE, "a model's fit a dataset's");
    facts->shape = (struct kd_shape){model->sizes.channels, model->sizes.height,
                                     model->sizes.width};
    facts->num_classes = (uint32_t)model->sizes.classes;
    facts->batch = batch;
    facts->in_flight = 1;
    facts->input.type = KD_F32;
    facts->input.normalize.count = model->num_normalize;
    memcpy(facts->input.normalize.mean, model->mean, sizeof model->mean);
    memcpy(facts->input.normalize.deviation, model->deviation, sizeof model->deviation);
    facts->digest = model->digest;
    facts->class_map_digest = model->class_map_digest;
    facts->bn_mode = "eval";
}

/* Every run calls its network model.h5, so that its directory tells more. */
static char *name_of(const char *path)
{
    const char *base = kd_path_base(path);
    char *directory = NULL, *whole = NULL, *name = NULL;

    if (strcmp(base, "model.h5") != 0)
        return kd_copy_string(base);
    directory = kd_format("%.*s.", (int)(base - path), path);
    if (directory == NULL)
        return NULL;
    whole = realpath(directory, NULL);
    if (whole != NULL && *kd_path_base(whole) != '\0')
        base = kd_path_base(whole);
    name = kd_copy_string(base);
    free(directory);
    free(whole);
    return name;
}

static enum kd_status open_model(const char *rest, struct kd_teacher_ask *ask,
                                 struct kd_teacher_facts *facts, void **state)
{
    enum kd_status status = KD_EBUG;
    struct model_teacher *made = NULL;
    char *path = kd_model_path(rest);
    struct kd_model model;
    size_t batch;

    (void)ask;
    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(KD_NEW(made, 1));
    made->name = name_of(path);
    KD_TRY(made->name != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_model_open(path, &model));
    KD_TRY(check_sizes(path, &model.sizes, &made->sample));
    batch = choose_batch(made->sample, model.sizes.classes);
    made->piece = kd_network_piece(batch);
    KD_TRY(kd_network_build(&model.arch, &model.sizes, made->piece, false,
                            &made->network));
    KD_TRY(kd_model_load(path, made->network->graph));
    KD_TRY(KD_NEW(made->padded, made->piece * made->sample));
    set_facts(&model, batch, facts);
    facts->name = made->name;
    *state = made;
    made = NULL;
    status = KD_OK;
out:
    close_model(made);
    free(path);
    return status;
}

static enum kd_status run_piece(const struct model_teacher *teacher, const float *input,
                                size_t count, float *logits)
{
    enum kd_status status = KD_EBUG;
    const size_t taken = count * teacher->sample;

    if (count < teacher->piece) {
        memcpy(teacher->padded, input, taken * sizeof *input);
        memset(teacher->padded + taken, 0,
               (teacher->piece * teacher->sample - taken) * sizeof *input);
        input = teacher->padded;
    }
    kd_tensor_set(teacher->network->input, input, teacher->piece);
    KD_TRY(kd_graph_forward(teacher->network->graph));
    kd_tensor_get(teacher->network->logits, logits, count);
    status = KD_OK;
out:
    return status;
}

/* Computes at once: what is in flight is done already. */
static enum kd_status submit_model(void *state, const void *samples, size_t count,
                                   float *logits)
{
    const struct model_teacher *teacher = state;
    const float *input = samples;
    enum kd_status status = KD_OK;

    for (size_t at = 0; at < count && status == KD_OK; at += teacher->piece)
        status = run_piece(teacher, input + at * teacher->sample,
                           count - at < teacher->piece ? count - at : teacher->piece,
                           logits + at * teacher->network->sizes.classes);
    return status;
}

static enum kd_status collect_model(void *state)
{
    (void)state;
    return KD_OK;
}

const struct kd_teacher_calls kd_teacher_model = {"model", open_model, submit_model,
                                                  collect_model, close_model};
