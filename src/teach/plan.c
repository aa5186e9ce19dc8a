/* SPDX-License-Identifier: MIT */
/* Plans: a shard's size from its layout, a dump's speed from a short one. */
#include "kd/plan.h"

#include "kd/batch.h"
#include "kd/file.h"
#include "kd/memory.h"
#include "kd/progress.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* -- bytes ------------------------------------------------------------------ */

/* Bytes of all shards of `samples` samples each. */
static enum kd_status add_shards(const struct kd_plan_ask *ask, uint64_t count,
                                 uint64_t samples, struct kd_plan *plan)
{
    enum kd_status status = KD_EBUG;
    const uint64_t rows = samples * ask->identity->views;
    const uint64_t values = (uint64_t)llround((double)rows * ask->kept);
    uint64_t bytes = 0;

    if (count == 0 || samples == 0)
        return KD_OK;
    KD_TRY(kd_shard_measure(ask->identity, rows, values, ask->history, &bytes));
    if (bytes > (UINT64_MAX - plan->bytes) / count)
        return kd_fail(KD_EUSAGE, "such a cache has more than 2^64 bytes");
    plan->shards += count;
    plan->bytes += count * bytes;
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_plan_bytes(const struct kd_plan_ask *ask, struct kd_plan *plan)
{
    enum kd_status status = KD_EBUG;
    const struct kd_identity *of = ask->identity;
    const uint64_t size = ask->samples_a_shard, end = of->first_id + of->num_samples;
    uint64_t first = of->first_id; /* of the shards that are full */

    *plan = (struct kd_plan){.exact = !kd_codec_is_ragged(&of->codec)};
    if (size == 0)
        return kd_fail(KD_EUSAGE, "a shard must have at least 1 sample");
    KD_TRY(kd_identity_check(of));
    plan->rows = of->num_samples * of->views;
    if (first % size != 0) {
        const uint64_t next = (first / size + 1) * size;

        KD_TRY(add_shards(ask, 1, (next < end ? next : end) - first, plan));
        first = next < end ? next : end;
    }
    KD_TRY(add_shards(ask, (end - first) / size, size, plan));
    KD_TRY(add_shards(ask, (end - first) % size > 0, (end - first) % size, plan));
    status = KD_OK;
out:
    return status;
}

/* -- time ------------------------------------------------------------------- */

struct trial {
    struct kd_teacher *teacher;
    const struct kd_dataset *data;
    const struct kd_view_spec *augment;
    struct kd_identity identity;
    struct kd_batch batch;
    void *input;         /* as the teacher wants it */
    float *logits;       /* [batch][classes] */
    char directory[256]; /* for a shard that nobody keeps */
    char *path;
};

/* Names the samples of batch `index` of `batches`, spread evenly over the dataset. */
static void name_rows(struct trial *trial, uint64_t index, uint64_t batches)
{
    const struct kd_identity *of = &trial->identity;
    struct kd_batch *batch = &trial->batch;

    batch->size =
        batch->capacity < of->num_samples ? batch->capacity : (size_t)of->num_samples;
    const uint64_t room = of->num_samples - batch->size;
    for (size_t i = 0; i < batch->size; i++) {
        batch->id[i] =
            of->first_id + room * index / (batches > 1 ? batches - 1 : 1) + i;
        batch->view[i] = of->first_view + of->views - 1;
    }
}

static enum kd_status run_batch(struct trial *trial)
{
    enum kd_status status = KD_EBUG;
    const struct kd_teacher_facts *by = kd_teacher_facts(trial->teacher);
    struct kd_batch *batch = &trial->batch;
    const size_t values = batch->size * by->num_classes;

    KD_TRY(
        kd_batch_fill_as(batch, trial->data, trial->augment, &by->input, trial->input));
    KD_TRY(kd_teacher_run(trial->teacher, trial->input, batch->size, trial->logits));
    for (size_t i = 0; i < values; i++)
        trial->logits[i] /= (float)trial->identity.temperature;
    for (size_t i = 0; i < batch->size; i++)
        batch->label[i] = -1; /* they may be of other classes, and cost the same */
    status = KD_OK;
out:
    return status;
}

static enum kd_status trial_init(struct trial *trial)
{
    enum kd_status status = KD_EBUG;
    const struct kd_teacher_facts *by = kd_teacher_facts(trial->teacher);
    const char *where = getenv("TMPDIR");
    size_t values = 0, bytes = 0;

    if (!kd_multiply(by->batch, by->num_classes, &values) ||
        !kd_multiply(by->batch, by->input_bytes, &bytes))
        return kd_fail(KD_EMEMORY, "%s: a batch is too large", by->name);
    snprintf(trial->directory, sizeof trial->directory, "%s/kd-plan-XXXXXX",
             where != NULL && where[0] != '\0' ? where : "/tmp");
    if (mkdtemp(trial->directory) == NULL) {
        status = kd_fail_errno(KD_ECREATE, "%s: cannot create", trial->directory);
        trial->directory[0] = '\0';
        goto out;
    }
    trial->path = kd_path_join(trial->directory, "shard.h5");
    KD_TRY(trial->path != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_batch_init(&trial->batch, trial->data, by->batch));
    trial->batch.beyond_slice = true;
    trial->input = kd_alloc(bytes, 1);
    KD_TRY(trial->input != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(KD_NEW(trial->logits, values));
    status = KD_OK;
out:
    return status;
}

static void trial_clear(struct trial *trial)
{
    if (trial->path != NULL)
        unlink(trial->path);
    if (trial->directory[0] != '\0')
        rmdir(trial->directory);
    free(trial->path);
    kd_batch_clear(&trial->batch);
    free(trial->input);
    free(trial->logits);
}

/* As many batches as fill `seconds`, by the time of one; none of them twice. */
static enum kd_status count_batches(struct trial *trial, double seconds,
                                    uint64_t *count)
{
    enum kd_status status = KD_EBUG;
    double started = 0;

    name_rows(trial, 0, 1);
    KD_TRY(run_batch(trial)); /* warms up */
    started = kd_seconds();
    KD_TRY(run_batch(trial));
    const double wanted = ceil(seconds / (kd_seconds() - started));
    const double most = (double)(trial->identity.num_samples / trial->batch.size);
    *count = (uint64_t)fmin(wanted, most);
    status = KD_OK;
out:
    return status;
}

/* A shard as a dump would write it. */
static enum kd_status dump_batches(struct trial *trial, uint64_t batches)
{
    enum kd_status status = KD_EBUG;
    const struct kd_batch *batch = &trial->batch;
    struct kd_rows rows = {.id = batch->id,
                           .view = batch->view,
                           .label = batch->label,
                           .scaled = trial->logits};
    struct kd_shard_writer *writer = NULL;

    KD_TRY(kd_shard_writer_open(trial->path, &trial->identity, batches * batch->size,
                                "kd-plan", &writer));
    for (uint64_t i = 0; i < batches; i++) {
        if (kd_interrupted()) {
            status = kd_fail_interrupted("trying the teacher");
            goto out;
        }
        name_rows(trial, i, batches);
        KD_TRY(run_batch(trial));
        rows.count = batch->size;
        KD_TRY(kd_shard_writer_add(writer, &rows));
    }
    status = kd_shard_writer_commit(writer);
    writer = NULL;
out:
    kd_shard_writer_abandon(writer);
    return status;
}

static enum kd_status measure(struct trial *trial, double seconds,
                              struct kd_plan_speed *speed)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard *shard = NULL;
    uint64_t batches = 0;
    double taken = 0;

    KD_TRY(count_batches(trial, seconds, &batches));
    taken = -kd_seconds();
    KD_TRY(dump_batches(trial, batches));
    taken += kd_seconds();
    KD_TRY(kd_shard_open(trial->path, &shard));
    speed->rows = kd_shard_rows(shard);
    speed->rows_a_second = (double)speed->rows / taken;
    speed->kept = (double)kd_shard_values(shard) / (double)speed->rows;
    status = KD_OK;
out:
    kd_shard_close(shard);
    return status;
}

enum kd_status kd_plan_time(struct kd_teacher *teacher, const struct kd_dataset *data,
                            const struct kd_view_spec *augment,
                            const struct kd_identity *identity, double seconds,
                            struct kd_plan_speed *speed)
{
    enum kd_status status = KD_EBUG;
    struct trial trial = {
        .teacher = teacher, .data = data, .augment = augment, .identity = *identity};

    *speed = (struct kd_plan_speed){0};
    KD_TRY(trial_init(&trial));
    KD_TRY(measure(&trial, seconds, speed));
    status = KD_OK;
out:
    trial_clear(&trial);
    return status;
}
