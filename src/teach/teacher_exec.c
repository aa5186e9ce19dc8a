/* SPDX-License-Identifier: MIT */
/*
 * Child processes as teachers: agrees with them on what they get and give. Whatever the
 * number of children, batches are the same, and so are the rows.
 */
#include "teach/teacher_internal.h"

#include "kd/file.h"
#include "kd/log.h"
#include "kd/memory.h"
#include "teach/exec_internal.h"

#include <stdlib.h>
#include <string.h>

/* What is offered as a batch: large enough that pipes are busy, no more than 32 MiB of
 * samples as floats. */
#define BATCH        256
#define BATCH_FLOATS ((size_t)1 << 23)

#define TIMEOUT 300 /* seconds */

/* A batch must fit into memory several times over. */
#define BATCH_BYTES ((size_t)1 << 30)

struct exec_teacher {
    struct kd_exec *exec;
    struct kd_exec_answer answer; /* of the first child */
    char *name;                   /* "exec:COMMAND", for messages */
    char *short_name;             /* for people */
};

static void close_exec(void *state)
{
    struct exec_teacher *teacher = state;

    if (teacher == NULL)
        return;
    kd_exec_free(teacher->exec);
    kd_exec_answer_clear(&teacher->answer);
    free(teacher->name);
    free(teacher->short_name);
    free(teacher);
}

/* A function of the samples alone, so that rows are. */
static size_t choose_batch(struct kd_shape shape)
{
    size_t batch = BATCH;

    while (batch > 1 && kd_shape_size(shape) > BATCH_FLOATS / batch)
        batch /= 2;
    return batch;
}

/* The program of a command: "python3" of "exec /usr/bin/python3 teacher.py". */
static char *name_of(const char *command)
{
    static const char blanks[] = " \t\n";
    char *name = NULL, *base = NULL;

    command += strspn(command, blanks);
    if (strncmp(command, "exec ", 5) == 0)
        command += 5 + strspn(command + 5, blanks);
    name = kd_copy_string(command);
    if (name == NULL)
        return NULL;
    name[strcspn(name, blanks)] = '\0';
    base = kd_copy_string(kd_path_base(name));
    free(name);
    return base;
}

/* Reads what each child says, and insists that all say the same. */
static enum kd_status read_answers(struct exec_teacher *teacher, const char *command,
                                   const struct kd_exec_greeting *greeting, size_t jobs)
{
    enum kd_status status = KD_EBUG;
    struct kd_exec_answer other = {.name = NULL};
    const struct kd_exec_answer *first = &teacher->answer;

    for (size_t i = 0; i < jobs; i++) {
        status = kd_exec_read_answer(kd_exec_line(teacher->exec, i), command, greeting,
                                     i == 0 ? &teacher->answer : &other);
        if (status == KD_OK && i > 0 &&
            (!kd_digest_equal(&first->digest, &other.digest) ||
             first->batch != other.batch))
            status = kd_fail(KD_EDATA, "says other things of itself than child 1");
        kd_exec_answer_clear(&other);
        if (status == KD_EDATA)
            status = kd_exec_complain(teacher->exec, i);
        KD_TRY(status);
    }
out:
    return status;
}

/* How samples get the size that is wanted. Images of different sizes become samples of
 * it; samples that have it are taken as they are; others are resized once views are
 * drawn. */
static enum kd_status settle_size(struct exec_teacher *teacher,
                                  const struct kd_exec_greeting *greeting,
                                  struct kd_teacher_ask *ask,
                                  struct kd_teacher_facts *facts)
{
    const struct kd_exec_answer *answer = &teacher->answer;

    facts->shape = greeting->data->shape;
    facts->input = answer->input;
    if (!greeting->differ) {
        if (facts->shape.height == answer->height &&
            facts->shape.width == answer->width)
            facts->input.resize = (struct kd_resize){.side = 0};
        return KD_OK;
    }
    if (answer->height == 0)
        return kd_fail(
            KD_EDATA,
            "%s: images of different sizes, and the teacher wants none: give "
            "one, as folder:DIR,resize256,crop224",
            greeting->data->name);
    facts->shape.height = answer->height;
    facts->shape.width = answer->width;
    facts->input.resize = (struct kd_resize){.side = 0};
    ask->size = answer->input.resize;
    return KD_OK;
}

/* Names that are given are the class map; else it is the data's, if it has as many
 * classes; else numbers. */
static enum kd_status set_class_map(const struct kd_exec_answer *answer,
                                    const struct kd_dataset_facts *data,
                                    struct kd_digest *map)
{
    const char *const *names = (const char *const *)answer->class_name;

    if (names == NULL && answer->num_classes == data->num_classes) {
        *map = data->class_map_digest;
        return KD_OK;
    }
    return kd_class_map_digest(names, answer->num_classes, map);
}

static enum kd_status set_facts(struct exec_teacher *teacher,
                                const struct kd_exec_greeting *greeting,
                                struct kd_teacher_ask *ask,
                                struct kd_teacher_facts *facts)
{
    enum kd_status status = KD_EBUG;
    const struct kd_exec_answer *answer = &teacher->answer;
    struct kd_exec_terms terms = {.rank = 4};
    struct kd_shape wanted;
    size_t bytes = 0;

    KD_TRY(settle_size(teacher, greeting, ask, facts));
    KD_TRY(set_class_map(answer, greeting->data, &facts->class_map_digest));
    facts->name = answer->name != NULL ? answer->name : teacher->short_name;
    facts->num_classes = answer->num_classes;
    facts->in_flight = kd_exec_in_flight(teacher->exec);
    facts->digest = answer->digest;
    facts->bn_mode = "none";
    KD_TRY(kd_input_shape(&facts->input, facts->shape, &wanted, &terms.bytes));
    facts->batch = answer->batch > 0 ? answer->batch : choose_batch(wanted);
    if (answer->batch == 0 && facts->batch > greeting->batch)
        facts->batch = greeting->batch;
    if (!kd_multiply(facts->batch, terms.bytes, &bytes) || bytes > BATCH_BYTES)
        return kd_fail(KD_EDATA, "%s: wants batches of %zu, which are over 1 GiB each",
                       teacher->name, facts->batch);
    terms.type = facts->input.type;
    terms.classes = answer->num_classes;
    terms.values = answer->values;
    terms.shape[1] = wanted.channels;
    terms.shape[2] = wanted.height;
    terms.shape[3] = wanted.width;
    if (facts->input.channels_last) {
        terms.shape[1] = wanted.height;
        terms.shape[2] = wanted.width;
        terms.shape[3] = wanted.channels;
    }
    kd_exec_agree(teacher->exec, &terms);
    if (!answer->deterministic)
        kd_log(KD_LOG_INFO, "%s: is not deterministic: run again, its rows may differ",
               facts->name);
    status = KD_OK;
out:
    return status;
}

static enum kd_status greet(struct exec_teacher *teacher, const char *command,
                            struct kd_teacher_ask *ask, struct kd_teacher_facts *facts)
{
    enum kd_status status = KD_EBUG;
    const size_t jobs = ask->options->jobs > 0 ? ask->options->jobs : 1;
    const double timeout = ask->options->timeout > 0 ? ask->options->timeout : TIMEOUT;
    struct kd_exec_greeting greeting = {.data = kd_dataset_facts(ask->data)};
    const struct kd_shape photograph = {3, 224, 224}; /* most probably */
    char *line = NULL;

    KD_TRY(kd_dataset_sizes_differ(ask->data, &greeting.differ));
    greeting.batch = choose_batch(greeting.differ ? photograph : greeting.data->shape);
    KD_TRY(kd_exec_greet(&greeting, &line));
    KD_TRY(kd_exec_open(teacher->name, command, jobs, timeout, line, &teacher->exec));
    KD_TRY(read_answers(teacher, command, &greeting, jobs));
    KD_TRY(set_facts(teacher, &greeting, ask, facts));
    status = KD_OK;
out:
    free(line);
    return status;
}

static enum kd_status open_exec(const char *rest, struct kd_teacher_ask *ask,
                                struct kd_teacher_facts *facts, void **state)
{
    enum kd_status status = KD_EBUG;
    struct exec_teacher *made = NULL;

    if (ask->data == NULL)
        return kd_fail(KD_EUSAGE,
                       "exec:%s: a command is a teacher only where samples are given",
                       rest);
    KD_TRY(KD_NEW(made, 1));
    made->name = kd_format("exec:%s", rest);
    made->short_name = name_of(rest);
    KD_TRY(made->name != NULL && made->short_name != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(greet(made, rest, ask, facts));
    *state = made;
    made = NULL;
    status = KD_OK;
out:
    close_exec(made);
    return status;
}

static enum kd_status submit_exec(void *state, const void *input, size_t count,
                                  float *logits)
{
    struct exec_teacher *teacher = state;

    kd_exec_submit(teacher->exec, input, count, logits);
    return KD_OK;
}

static enum kd_status collect_exec(void *state)
{
    struct exec_teacher *teacher = state;

    return kd_exec_collect(teacher->exec);
}

const struct kd_teacher_calls kd_teacher_exec = {"exec", open_exec, submit_exec,
                                                 collect_exec, close_exec};
