/* SPDX-License-Identifier: MIT */
/*
 * A teacher's bare forward passes: one batch, prepared once, run as often as there are
 * rows to label. What kd-dump takes longer than this is what a cache costs besides its
 * teacher.
 *
 *     bench_forward TEACHER DATASET ROWS THREADS      prints "seconds S"
 */
#include "kd/batch.h"
#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/teacher.h"
#include "kd/thread.h"

#include <stdio.h>
#include <stdlib.h>

static enum kd_status prepare(const struct kd_dataset *data,
                              const struct kd_teacher_facts *facts,
                              struct kd_batch *batch)
{
    enum kd_status status = KD_EBUG;
    struct kd_view_spec spec;

    KD_TRY(kd_view_parse("none", 0, &spec));
    KD_TRY(kd_batch_init(batch, data, facts->batch));
    batch->size = facts->batch;
    for (size_t i = 0; i < batch->size; i++) {
        batch->id[i] = kd_dataset_facts(data)->first + i;
        batch->view[i] = 0;
    }
    KD_TRY(kd_batch_fill(batch, data, &spec, &facts->input.normalize));
    status = KD_OK;
out:
    return status;
}

static enum kd_status measure(const char *teacher_name, const char *data_name,
                              uint64_t rows, double *seconds)
{
    enum kd_status status = KD_EBUG;
    struct kd_teacher *teacher = NULL;
    struct kd_dataset *data = NULL;
    struct kd_batch batch = {0};
    float *logits = NULL;

    KD_TRY(kd_teacher_open(teacher_name, &teacher));
    KD_TRY(kd_dataset_open(data_name, &data));
    const struct kd_teacher_facts *facts = kd_teacher_facts(teacher);
    KD_TRY(KD_NEW(logits, facts->batch * facts->num_classes));
    KD_TRY(prepare(data, facts, &batch));
    KD_TRY(kd_teacher_run(teacher, batch.input, batch.size, logits)); /* warm */
    *seconds = -kd_seconds();
    for (uint64_t done = 0; done < rows; done += batch.size)
        KD_TRY(kd_teacher_run(teacher, batch.input, batch.size, logits));
    *seconds += kd_seconds();
    status = KD_OK;
out:
    free(logits);
    kd_batch_clear(&batch);
    kd_dataset_close(data);
    kd_teacher_close(teacher);
    return status;
}

int main(int argc, char **argv)
{
    double seconds = 0;

    kd_threads_share(argv);
    if (argc != 5) {
        fprintf(stderr, "usage: bench_forward TEACHER DATASET ROWS THREADS\n");
        return 64;
    }
    kd_threads_set((size_t)strtoul(argv[4], NULL, 10));
    if (measure(argv[1], argv[2], strtoull(argv[3], NULL, 10), &seconds) != KD_OK) {
        fprintf(stderr, "bench_forward: %s\n", kd_error());
        return 1;
    }
    printf("seconds %.4f\n", seconds);
    return 0;
}
