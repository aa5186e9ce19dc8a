/* SPDX-License-Identifier: MIT */
/*
 * The thread that keeps the children's pipes busy, so that they compute while this
 * process prepares what comes next; and minds that they answer in time.
 */
#include "teach/exec_pump_internal.h"

#include "kd/progress.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <unistd.h>

/* Milliseconds that it sleeps at most, after which it looks for dead. */
#define LONG_SLEEP 1000

static bool wants_to_send(const struct kd_exec_child *child)
{
    return child->phase == CHILD_FIRST ||
           ((child->phase == CHILD_GREETED || child->phase == CHILD_ASKED) &&
            !kd_exec_all_sent(child));
}

/* Milliseconds until something is to be done even without news. */
static int choose_sleep(const struct kd_exec *exec)
{
    double least = INFINITY;
    bool hurried = false;

    for (size_t i = 0; i < exec->children; i++) {
        const struct kd_exec_child *child = &exec->child[i];

        hurried = hurried || child->phase == CHILD_GATE;
        if (child->phase != CHILD_IDLE)
            least = fmin(least, child->deadline - kd_seconds());
    }
    if (hurried)
        return 1;
    return least < 0 ? 0 : (int)fmin(least * 1000 + 1, LONG_SLEEP);
}

static void set_polls(struct kd_exec *exec)
{
    struct pollfd *at = exec->polls;

    *at++ = (struct pollfd){.fd = exec->wake[0], .events = POLLIN};
    for (size_t i = 0; i < exec->children; i++, at += KD_EXEC_POLLS) {
        const struct kd_exec_child *child = &exec->child[i];

        at[0] = (struct pollfd){.fd = child->job != NULL ? child->process.in : -1};
        if (wants_to_send(child))
            at[0] = (struct pollfd){.fd = child->process.in, .events = POLLOUT};
        at[1] = (struct pollfd){.fd = child->process.out, .events = POLLIN};
        at[2] = (struct pollfd){.fd = child->process.err, .events = POLLIN};
    }
}

/* Does for one child what there is to do. `polls` are its descriptors. */
static void serve(struct kd_exec *exec, struct kd_exec_child *child,
                  const struct pollfd *polls)
{
    if (polls[2].revents != 0 &&
        !kd_exec_listen(&child->words, child->process.err, child->who))
        kd_exec_close(&child->process.err);
    if (polls[1].revents != 0)
        kd_exec_receive(exec, child);
    if (exec->failure == KD_OK)
        kd_exec_finish_job(exec, child);
    if (exec->failure == KD_OK)
        kd_exec_send_more(exec, child, polls[0].revents != 0);
    if (exec->failure == KD_OK)
        kd_exec_finish_job(exec, child);
    if (exec->failure == KD_OK && child->job != NULL && polls[0].revents & POLLERR &&
        kd_exec_waiting(child->process.out) == 0)
        kd_exec_fail_closed(exec, child, "closed its input");
    if (exec->failure != KD_OK || child->phase == CHILD_IDLE ||
        kd_seconds() < child->deadline)
        return;
    if (child->phase == CHILD_GREETED)
        kd_exec_fail_child(
            exec, child, KD_EIO,
            "has not answered the greeting within %g s (--teacher-timeout)",
            exec->timeout);
    else
        kd_exec_fail_child(
            exec, child, KD_EIO,
            "has not answered a batch of %zu within %g s (--teacher-timeout)",
            child->job->count, exec->timeout);
}

/* A child that is dead may have left others that keep its pipes open. */
static void look_for_dead(struct kd_exec *exec)
{
    for (size_t i = 0; i < exec->children && exec->failure == KD_OK; i++)
        if (kd_exec_has_ended(&exec->child[i].process) &&
            kd_exec_waiting(exec->child[i].process.out) == 0)
            kd_exec_fail_closed(exec, &exec->child[i], "died");
}

static void take_wakes(struct kd_exec *exec)
{
    char bytes[64];

    if (exec->polls[0].revents != 0)
        (void)!read(exec->wake[0], bytes, sizeof bytes);
}

static void *pump(void *context)
{
    struct kd_exec *exec = context;

    pthread_mutex_lock(&exec->lock);
    for (size_t i = 0; i < exec->children; i++)
        exec->child[i].deadline = kd_seconds() + exec->timeout;
    while (!exec->stop && exec->failure == KD_OK) {
        set_polls(exec);
        const int sleep = choose_sleep(exec);

        pthread_mutex_unlock(&exec->lock);
        const int news =
            poll(exec->polls, (nfds_t)(1 + KD_EXEC_POLLS * exec->children), sleep);
        pthread_mutex_lock(&exec->lock);
        if (news == 0 && sleep == LONG_SLEEP)
            look_for_dead(exec);
        take_wakes(exec);
        for (size_t i = 0; i < exec->children && exec->failure == KD_OK; i++)
            serve(exec, &exec->child[i], &exec->polls[1 + KD_EXEC_POLLS * i]);
        if (exec->changed)
            pthread_cond_broadcast(&exec->news);
        exec->changed = false;
    }
    pthread_mutex_unlock(&exec->lock);
    return NULL;
}

void kd_exec_wake(struct kd_exec *exec)
{
    (void)!write(exec->wake[1], "", 1);
}

/* Signals are for the threads that ask for them; an error of write tells as much as
 * SIGPIPE. */
enum kd_status kd_exec_start_thread(struct kd_exec *exec)
{
    sigset_t all, before;
    int error = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&exec->thread, NULL, pump, exec);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    exec->running = error == 0;
    return exec->running ? KD_OK : kd_fail_errno(KD_EIO, "cannot start a thread");
}
