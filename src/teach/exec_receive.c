/* SPDX-License-Identifier: MIT */
/* Answers on their way back: as much is read as is due, and judged as it comes. */
#include "teach/exec_pump_internal.h"

#include "kd/memory.h"
#include "kd/npy.h"

#include <string.h>
#include <unistd.h>

#define LINE_LIMIT (1 << 26) /* bytes of the answer to the greeting */

static void take_line(struct kd_exec *exec, struct kd_exec_child *child)
{
    char *end = NULL;
    ssize_t got = 0;

    if (kd_grow(&child->line, &child->capacity, child->length + 65536, 1) != KD_OK) {
        kd_exec_fail_child(exec, child, KD_EMEMORY, "cannot be listened to: %s",
                           kd_error());
        return;
    }
    got = read(child->process.out, child->line + child->length, 65535);
    if (got == 0)
        kd_exec_fail_closed(exec, child, "closed its output");
    if (got <= 0)
        return;
    child->length += (size_t)got;
    child->line[child->length] = '\0';
    end = memchr(child->line, '\n', child->length);
    if (end != NULL)
        kd_exec_push(exec, child,
                     child->head_size); /* it may be quicker than this thread */
    if (exec->failure != KD_OK)
        return;
    if (end == NULL && child->length > LINE_LIMIT) {
        kd_exec_fail_child(exec, child, KD_EDATA, "answered the greeting without end");
    } else if (end != NULL && !kd_exec_all_sent(child)) {
        kd_exec_fail_child(exec, child, KD_EDATA,
                           "answered before it had read the greeting");
    } else if (end != NULL && end + 1 < child->line + child->length) {
        child->phase = CHILD_IDLE;
        kd_exec_fail_noise(exec, child, end + 1,
                           (size_t)(child->line + child->length - end - 1));
    } else if (end != NULL) {
        *end = '\0';
        child->phase = CHILD_IDLE;
        exec->greeted++;
        exec->changed = true;
    }
}

/* Looks at an answer as far as it has come, and finds out how much of it is due. */
static void judge(struct kd_exec *exec, struct kd_exec_child *child)
{
    static const char magic[] = "\x93NUMPY";
    struct kd_exec_job *job = child->job;
    const size_t seen = child->received < 6 ? child->received : 6;

    if (memcmp(job->answer, magic, seen) != 0) {
        kd_exec_fail_noise(exec, child, job->answer, child->received);
        return;
    }
    if (child->received < child->due)
        return;
    if (job->info.rank == 0 &&
        kd_exec_check_header(job->answer, child->received, job->count,
                             exec->terms.classes, &job->info, &child->due) != KD_OK)
        kd_exec_fail_child(exec, child, KD_EDATA, "%s", kd_error());
}

/* Reads what is due of an answer, and not a byte more. */
static void take_answer(struct kd_exec *exec, struct kd_exec_child *child)
{
    struct kd_exec_job *job = child->job;
    ssize_t got = 0;

    if (kd_grow(&job->answer, &job->capacity, child->due, 1) != KD_OK) {
        kd_exec_fail_child(exec, child, KD_EMEMORY, "cannot be listened to: %s",
                           kd_error());
        return;
    }
    got = read(child->process.out, job->answer + child->received,
               child->due - child->received);
    if (got == 0)
        kd_exec_fail_closed(exec, child, "closed its output");
    if (got <= 0)
        return;
    child->received += (size_t)got;
    judge(exec, child);
}

void kd_exec_finish_job(struct kd_exec *exec, struct kd_exec_child *child)
{
    struct kd_exec_job *job = child->job;

    if (child->phase != CHILD_ASKED || !kd_exec_all_sent(child) ||
        job->info.rank == 0 || child->received < child->due)
        return;
    job->state = JOB_DONE;
    exec->changed = true;
    child->job = NULL;
    child->phase = CHILD_IDLE;
}

void kd_exec_receive(struct kd_exec *exec, struct kd_exec_child *child)
{
    char bytes[80];
    ssize_t got = 0;

    if (child->phase == CHILD_GREETED) {
        take_line(exec, child);
        return;
    }
    if (child->phase == CHILD_ASKED &&
        !(child->job->info.rank > 0 && child->received == child->due)) {
        take_answer(exec, child);
        return;
    }
    got = read(child->process.out, bytes, sizeof bytes);
    if (got == 0)
        kd_exec_fail_closed(exec, child, "closed its output");
    else if (got > 0)
        kd_exec_fail_noise(exec, child, bytes, (size_t)got);
}
