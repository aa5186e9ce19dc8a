/* SPDX-License-Identifier: MIT */
/*
 * Greetings and batches on their way to a child.
 *
 * A child must not be taken at its word: an answer too many would be taken for that of
 * the next batch, and all that follow would belong to other samples. So of a batch only
 * the first bytes are sent until the child has read them, and until then it must have
 * been silent: what it writes later is written in the knowledge of that batch.
 */
#include "teach/exec_pump_internal.h"

#include "kd/npy.h"
#include "kd/progress.h"

#include <errno.h>
#include <unistd.h>

#define FIRST_BYTES 6 /* of a batch: too few to tell anything */

void kd_exec_send(struct kd_exec_child *child, const void *head, size_t head_size,
                  const void *body, size_t body_size)
{
    child->head = head;
    child->head_size = head_size;
    child->body = body;
    child->body_size = body_size;
    child->sent = 0;
}

bool kd_exec_all_sent(const struct kd_exec_child *child)
{
    return child->sent == child->head_size + child->body_size;
}

void kd_exec_push(struct kd_exec *exec, struct kd_exec_child *child, size_t end)
{
    while (child->sent < end) {
        const bool in_head = child->sent < child->head_size;
        const char *from = in_head ? child->head + child->sent
                                   : child->body + (child->sent - child->head_size);
        const size_t limit = in_head && end > child->head_size ? child->head_size : end;
        const ssize_t done = write(child->process.in, from, limit - child->sent);

        if (done > 0)
            child->sent += (size_t)done;
        else if (done < 0 && errno == EAGAIN)
            return;
        else if (done < 0 && errno != EINTR) {
            kd_exec_fail_closed(exec, child, "closed its input");
            return;
        }
    }
}

/* Gives the oldest batch that waits to a child that is idle. */
static void give_work(struct kd_exec *exec, struct kd_exec_child *child)
{
    struct kd_exec_terms *terms = &exec->terms;

    for (size_t i = 0; i < exec->count && child->job == NULL; i++) {
        struct kd_exec_job *job = &exec->job[(exec->first + i) % exec->jobs];

        if (job->state != JOB_WAITS)
            continue;
        job->state = JOB_ASKED;
        job->child = (size_t)(child - exec->child);
        terms->shape[0] = job->count;
        kd_exec_send(
            child, child->header,
            kd_npy_header(terms->type, terms->rank, terms->shape, child->header),
            job->input, job->count * terms->bytes);
        child->job = job;
        child->phase = CHILD_GATE;
        child->received = 0;
        child->due = KD_NPY_PREFIX;
        child->deadline = kd_seconds() + exec->timeout;
    }
}

/* The first bytes have been read: nothing may have been written until then. */
static void open_gate(struct kd_exec *exec, struct kd_exec_child *child)
{
    char bytes[80];

    if (kd_exec_waiting(child->process.out) > 0) {
        const ssize_t got = read(child->process.out, bytes, sizeof bytes);

        kd_exec_fail_noise(exec, child, bytes, got > 0 ? (size_t)got : 0);
        return;
    }
    kd_exec_widen(child->process.in);
    child->phase = CHILD_ASKED;
    kd_exec_push(exec, child, child->head_size + child->body_size);
}

void kd_exec_send_more(struct kd_exec *exec, struct kd_exec_child *child, bool writable)
{
    if (child->phase == CHILD_IDLE)
        give_work(exec, child);
    if (child->phase == CHILD_GATE && kd_exec_narrow(child->process.in)) {
        child->phase = CHILD_FIRST;
        kd_exec_push(exec, child, FIRST_BYTES);
    } else if (child->phase == CHILD_FIRST && writable) {
        open_gate(exec, child);
    } else if (writable && !kd_exec_all_sent(child)) {
        kd_exec_push(exec, child, child->head_size + child->body_size);
    }
}
