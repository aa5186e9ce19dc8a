/* SPDX-License-Identifier: MIT */
/* Teachers: which kind a name stands for, and whether it fits the samples. */
#include "kd/teacher.h"

#include "kd/file.h"
#include "kd/memory.h"
#include "teach/teacher_internal.h"

#include <stdlib.h>
#include <string.h>

struct kd_teacher {
    const struct kd_teacher_calls *calls;
    void *state; /* of the kind */
    struct kd_teacher_facts facts;
    char *name; /* as it was given, for messages; facts.name points into it */
};

static const struct kd_teacher_calls *const kinds[] = {&kd_teacher_model};

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

enum kd_status kd_teacher_open(const char *name, struct kd_teacher **teacher)
{
    enum kd_status status = KD_EBUG;
    struct kd_teacher *made = NULL;
    const char *rest = NULL;

    *teacher = NULL;
    KD_TRY(KD_NEW(made, 1));
    made->name = kd_copy_string(name);
    KD_TRY(made->name != NULL ? KD_OK : KD_EMEMORY);
    made->calls = find_kind(made->name, &rest);
    if (made->calls == NULL || *rest == '\0') {
        status = kd_fail(KD_EUSAGE, "'%s': not a teacher: write model:FILE", name);
        goto out;
    }
    made->facts.name = kd_path_base(rest);
    KD_TRY(made->calls->open(rest, &made->facts, &made->state));
    *teacher = made;
    made = NULL;
    status = KD_OK;
out:
    kd_teacher_close(made);
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

enum kd_status kd_teacher_fits(const struct kd_teacher *teacher,
                               const struct kd_dataset_facts *data)
{
    const struct kd_teacher_facts *facts = &teacher->facts;
    const struct kd_shape a = facts->shape, b = data->shape;

    if (a.channels != b.channels || a.height != b.height || a.width != b.width)
        return kd_fail(
            KD_EDATA,
            "%s: takes samples of %zu x %zu x %zu (channels, height, width), "
            "those of %s are %zu x %zu x %zu",
            teacher->name, a.channels, a.height, a.width, data->name, b.channels,
            b.height, b.width);
    return kd_dataset_classes_fit(data, teacher->name, facts->num_classes,
                                  &facts->class_map_digest);
}

enum kd_status kd_teacher_run(struct kd_teacher *teacher, const float *input,
                              size_t count, float *logits)
{
    if (count > teacher->facts.batch)
        return kd_fail(KD_EBUG, "%s: %zu samples are more than a batch of %zu",
                       teacher->facts.name, count, teacher->facts.batch);
    return teacher->calls->run(teacher->state, input, count, logits);
}
