/* SPDX-License-Identifier: MIT */
/* Teachers: which kind a name stands for, and whether it fits the samples. */
#include "kd/teacher.h"

#include "kd/file.h"
#include "kd/log.h"
#include "kd/memory.h"
#include "teach/teacher_internal.h"

#include <stdlib.h>
#include <string.h>

struct kd_teacher {
    const struct kd_teacher_calls *calls;
    void *state; /* of the kind */
    struct kd_teacher_facts facts;
    size_t out; /* batches submitted, and not collected */
    char *name; /* as it was given, for messages; facts.name may point into it */
};

static const struct kd_teacher_calls *const kinds[] = {&kd_teacher_model,
                                                       &kd_teacher_exec};

#define NUM_KINDS (sizeof kinds / sizeof kinds[0])

/* The kind of a name; *rest is what stands behind its colon. */
static const struct kd_teacher_calls *find_kind(const char *name, const char **rest)
{
    const char *colon = strchr(name, ':');

    for (size_t i = 0; i < NUM_KINDS && colon != NULL; i++) {
        if (strlen(kinds[i]->prefix) == (size_t)(colon - name) &&
            strncmp(kinds[i]->prefix, name, (size_t)(colon - name)) == 0) {
            *rest = colon + 1;
            return kinds[i];
        }
    }
    return NULL;
}

static enum kd_status open_kind(const char *name, struct kd_teacher_ask *ask,
                                struct kd_teacher **teacher)
{
    enum kd_status status = KD_EBUG;
    struct kd_teacher *made = NULL;
    struct kd_shape wanted;
    const char *rest = NULL;

    *teacher = NULL;
    KD_TRY(KD_NEW(made, 1));
    made->name = kd_copy_string(name);
    KD_TRY(made->name != NULL ? KD_OK : KD_EMEMORY);
    made->calls = find_kind(made->name, &rest);
    if (made->calls == NULL || *rest == '\0') {
        status = kd_fail(
            KD_EUSAGE, "'%s': not a teacher: write model:FILE or 'exec:COMMAND'", name);
        goto out;
    }
    made->facts.name = kd_path_base(rest);
    KD_TRY(made->calls->open(rest, ask, &made->facts, &made->state));
    KD_TRY(kd_input_shape(&made->facts.input, made->facts.shape, &wanted,
                          &made->facts.input_bytes));
    *teacher = made;
    made = NULL;
    status = KD_OK;
out:
    kd_teacher_close(made);
    return status;
}

enum kd_status kd_teacher_open(const char *name, struct kd_teacher **teacher)
{
    const struct kd_teacher_options options = {.jobs = 0};
    struct kd_teacher_ask ask = {.options = &options};

    return open_kind(name, &ask, teacher);
}

/* Gives images of different sizes the one that a teacher wants. */
static enum kd_status give_size(const struct kd_resize *size, struct kd_dataset **data)
{
    struct kd_dataset *sized = NULL;
    const enum kd_status status = kd_dataset_open_sized(*data, size, &sized);

    if (status != KD_OK)
        return status;
    kd_log(KD_LOG_INFO,
           "%s: images of different sizes: taken as %s, which is what "
           "the teacher wants",
           kd_dataset_facts(*data)->name, kd_dataset_facts(sized)->name);
    kd_dataset_close(*data);
    *data = sized;
    return KD_OK;
}

enum kd_status kd_teacher_open_over(const char *name,
                                    const struct kd_teacher_options *options,
                                    struct kd_dataset **data,
                                    struct kd_teacher **teacher)
{
    enum kd_status status = KD_EBUG;
    const struct kd_teacher_options none = {.jobs = 0};
    struct kd_teacher_ask ask = {.options = options != NULL ? options : &none,
                                 .data = *data};

    KD_TRY(open_kind(name, &ask, teacher));
    if (kd_resize_does(&ask.size))
        KD_TRY(give_size(&ask.size, data));
    status = KD_OK;
out:
    if (status != KD_OK) {
        kd_teacher_close(*teacher);
        *teacher = NULL;
    }
    return status;
}

void kd_teacher_close(struct kd_teacher *teacher)
{
    if (teacher == NULL)
        return;
    if (teacher->calls != NULL)
        teacher->calls->close(teacher->state);
    free(teacher->name);
    free(teacher);
}

const struct kd_teacher_facts *kd_teacher_facts(const struct kd_teacher *teacher)
{
    return &teacher->facts;
}

enum kd_status kd_teacher_takes(const struct kd_teacher *teacher,
                                const struct kd_dataset_facts *data)
{
    const struct kd_shape a = teacher->facts.shape, b = data->shape;

    if (a.channels != b.channels || a.height != b.height || a.width != b.width)
        return kd_fail(
            KD_EDATA,
            "%s: takes samples of %zu x %zu x %zu (channels, height, width), "
            "those of %s are %zu x %zu x %zu",
            teacher->name, a.channels, a.height, a.width, data->name, b.channels,
            b.height, b.width);
    return KD_OK;
}

enum kd_status kd_teacher_fits(const struct kd_teacher *teacher,
                               const struct kd_dataset_facts *data)
{
    const struct kd_teacher_facts *facts = &teacher->facts;
    const enum kd_status status = kd_teacher_takes(teacher, data);

    if (status != KD_OK)
        return status;
    return kd_dataset_classes_fit(data, teacher->name, facts->num_classes,
                                  &facts->class_map_digest);
}

/* Rows that claim the dataset's class map would be merged as they are, so who says that
 * they have another one must not claim it. */
enum kd_status kd_teacher_check_classes(const struct kd_dataset_facts *data,
                                        const char *who, uint32_t classes,
                                        const struct kd_digest *map, bool other)
{
    enum kd_status status = KD_OK;

    if (other && data->num_classes > 0 && kd_digest_equal(map, &data->class_map_digest))
        return kd_fail(KD_EUSAGE,
                       "--other-classes: %s has those of %s, as far as is known: leave "
                       "it out, or give the names of its classes",
                       who, data->name);
    if (other)
        return KD_OK;
    status = kd_dataset_classes_fit(data, who, classes, map);
    if (status == KD_EDATA)
        status =
            kd_fail(KD_EDATA,
                    "%s; kd-dump and kd-import --other-classes cache such rows without "
                    "labels, for kd-merge --class-map",
                    kd_error());
    return status;
}

enum kd_status kd_teacher_submit(struct kd_teacher *teacher, const void *input,
                                 size_t count, float *logits)
{
    enum kd_status status = KD_EBUG;

    if (count == 0 || count > teacher->facts.batch)
        return kd_fail(KD_EBUG, "%s: %zu samples are no batch of up to %zu",
                       teacher->facts.name, count, teacher->facts.batch);
    if (teacher->out == teacher->facts.in_flight)
        return kd_fail(KD_EBUG, "%s: more than %zu batches in flight",
                       teacher->facts.name, teacher->out);
    KD_TRY(teacher->calls->submit(teacher->state, input, count, logits));
    teacher->out++;
out:
    return status;
}

enum kd_status kd_teacher_collect(struct kd_teacher *teacher)
{
    if (teacher->out == 0)
        return kd_fail(KD_EBUG, "%s: no batch is in flight", teacher->facts.name);
    teacher->out--;
    return teacher->calls->collect(teacher->state);
}

enum kd_status kd_teacher_run(struct kd_teacher *teacher, const void *input,
                              size_t count, float *logits)
{
    const enum kd_status status = kd_teacher_submit(teacher, input, count, logits);

    return status == KD_OK ? kd_teacher_collect(teacher) : status;
}
