/* SPDX-License-Identifier: MIT */
/* What the caller does with children: opens, submits, collects and closes. */
#include "teach/exec_pump_internal.h"

#include "kd/log.h"
#include "kd/memory.h"
#include "kd/progress.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Seconds: for the end of a child that has done its work; how often the caller looks
 * whether it should stop. */
#define FAREWELL 10.0
#define LOOK     0.1

/* Waits a moment for news; the lock is held. KD_EINTERRUPTED if it should stop. */
static enum kd_status wait_a_moment(struct kd_exec *exec)
{
    struct timespec until;

    if (kd_interrupted())
        return kd_fail_interrupted(exec->name);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(LOOK * 1e9);
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&exec->news, &exec->lock, &until);
    return KD_OK;
}

static enum kd_status failure_of(const struct kd_exec *exec)
{
    return exec->failure == KD_OK ? KD_OK : kd_fail(exec->failure, "%s", exec->message);
}

static enum kd_status wait_for_greetings(struct kd_exec *exec)
{
    enum kd_status status = KD_OK;

    pthread_mutex_lock(&exec->lock);
    while (status == KD_OK && exec->greeted < exec->children) {
        status = failure_of(exec);
        if (status == KD_OK)
            status = wait_a_moment(exec);
    }
    pthread_mutex_unlock(&exec->lock);
    return status;
}

static enum kd_status init_lock(struct kd_exec *exec)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&exec->lock, NULL);
    pthread_cond_init(&exec->news, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pipe(exec->wake) != 0) {
        exec->wake[0] = exec->wake[1] = -1;
        return kd_fail_errno(KD_EIO, "cannot make a pipe");
    }
    for (int i = 0; i < 2; i++)
        (void)fcntl(exec->wake[i], F_SETFD, FD_CLOEXEC);
    return KD_OK;
}

static enum kd_status start_children(struct kd_exec *exec, const char *command,
                                     const char *greeting)
{
    enum kd_status status = KD_EBUG;

    for (size_t i = 0; i < exec->children; i++) {
        struct kd_exec_child *child = &exec->child[i];

        snprintf(child->who, sizeof child->who,
                 exec->children > 1 ? "child %zu" : "child", i + 1);
        KD_TRY(kd_exec_start(command, &child->process));
        kd_exec_send(child, greeting, strlen(greeting), NULL, 0);
    }
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_exec_open(const char *name, const char *command, size_t jobs,
                            double timeout, const char *greeting, struct kd_exec **exec)
{
    enum kd_status status = KD_EBUG;
    struct kd_exec *made = NULL;

    *exec = NULL;
    KD_TRY(KD_NEW(made, 1));
    made->name = name;
    made->timeout = timeout;
    KD_TRY(init_lock(made));
    KD_TRY(KD_NEW(made->child, jobs));
    KD_TRY(KD_NEW(made->polls, 1 + KD_EXEC_POLLS * jobs));
    KD_TRY(KD_NEW(made->job, 2 * jobs));
    made->jobs = 2 * jobs;
    made->children = jobs;
    KD_TRY(start_children(made, command, greeting));
    KD_TRY(kd_exec_start_thread(made));
    KD_TRY(wait_for_greetings(made));
    *exec = made;
    made = NULL;
    status = KD_OK;
out:
    kd_exec_free(made);
    return status;
}

/* Lets a child that has answered everything end by itself until then, and says if it
 * does not do so properly. */
static void bid_farewell(struct kd_exec *exec, struct kd_exec_child *child,
                         double until)
{
    char how[KD_EXEC_HOW], last[KD_EXEC_LAST];
    const struct timespec moment = {.tv_nsec = 1000000};
    size_t surplus = 0;
    bool ended = false, clean = false;

    kd_exec_hear_out(child, until - kd_seconds());
    while (!(ended = kd_exec_has_ended(&child->process)) && kd_seconds() < until)
        nanosleep(&moment, NULL);
    surplus = kd_exec_waiting(child->process.out);
    kd_exec_reap(&child->process, how, &clean);
    kd_exec_last_words(&child->words, last);
    if (surplus > 0)
        kd_log(KD_LOG_WARNING, "%s: %s wrote %zu bytes that nobody had asked for%s",
               exec->name, child->who, surplus, last);
    if (!ended)
        kd_log(KD_LOG_WARNING,
               "%s: %s did not end when its input was closed, and was killed%s",
               exec->name, child->who, last);
    else if (!clean)
        kd_log(KD_LOG_WARNING, "%s: %s had answered everything, and ended with %s%s",
               exec->name, child->who, how, last);
}

static void end_children(struct kd_exec *exec)
{
    bool done = exec->failure == KD_OK && exec->count == 0 && !kd_interrupted();
    const double until = kd_seconds() + FAREWELL;

    for (size_t i = 0; i < exec->children && done; i++)
        kd_exec_close(&exec->child[i].process.in);
    for (size_t i = 0; i < exec->children && done; i++)
        if (exec->child[i].process.pid != 0 && exec->child[i].phase == CHILD_IDLE)
            bid_farewell(exec, &exec->child[i], until);
    kd_exec_end_all(exec);
}

void kd_exec_free(struct kd_exec *exec)
{
    if (exec == NULL)
        return;
    if (exec->running) {
        pthread_mutex_lock(&exec->lock);
        exec->stop = true;
        pthread_mutex_unlock(&exec->lock);
        kd_exec_wake(exec);
        pthread_join(exec->thread, NULL);
    }
    end_children(exec);
    for (size_t i = 0; i < exec->children; i++)
        free(exec->child[i].line);
    for (size_t i = 0; i < exec->jobs; i++)
        free(exec->job[i].answer);
    free(exec->child);
    free(exec->polls);
    free(exec->job);
    kd_exec_close(&exec->wake[0]);
    kd_exec_close(&exec->wake[1]);
    pthread_cond_destroy(&exec->news);
    pthread_mutex_destroy(&exec->lock);
    free(exec);
}

const char *kd_exec_line(const struct kd_exec *exec, size_t child)
{
    return exec->child[child].line;
}

void kd_exec_agree(struct kd_exec *exec, const struct kd_exec_terms *terms)
{
    pthread_mutex_lock(&exec->lock);
    exec->terms = *terms;
    exec->agreed = true;
    pthread_mutex_unlock(&exec->lock);
}

size_t kd_exec_in_flight(const struct kd_exec *exec)
{
    return exec->jobs;
}

/* A child that has died since it answered the greeting wrongly: the answer, which
 * kd_error() judges, says more than its end. */
static void blame_answer(struct kd_exec *exec, const struct kd_exec_child *child)
{
    char last[KD_EXEC_LAST];

    kd_exec_last_words(&child->words, last);
    exec->failure = KD_EDATA;
    snprintf(exec->message, sizeof exec->message, "%s: %s %s%s", exec->name, child->who,
             kd_error(), last);
}

enum kd_status kd_exec_complain(struct kd_exec *exec, size_t child)
{
    enum kd_status status = KD_EBUG;

    pthread_mutex_lock(&exec->lock);
    if (exec->failure == KD_OK)
        kd_exec_fail_child(exec, &exec->child[child], KD_EDATA, "%s", kd_error());
    else if (!exec->agreed)
        blame_answer(exec, &exec->child[child]);
    status = failure_of(exec);
    pthread_mutex_unlock(&exec->lock);
    return status;
}

void kd_exec_submit(struct kd_exec *exec, const void *input, size_t count,
                    float *logits)
{
    struct kd_exec_job *job = NULL;

    pthread_mutex_lock(&exec->lock);
    assert(exec->count < exec->jobs);
    job = &exec->job[(exec->first + exec->count++) % exec->jobs];
    job->state = JOB_WAITS;
    job->input = input;
    job->count = count;
    job->logits = logits;
    job->info = (struct kd_array_info){.rank = 0};
    pthread_mutex_unlock(&exec->lock);
    kd_exec_wake(exec);
}

/* Waits until the oldest batch is answered. */
static enum kd_status wait_for_answer(struct kd_exec *exec,
                                      const struct kd_exec_job *job)
{
    enum kd_status status = KD_OK;

    pthread_mutex_lock(&exec->lock);
    while (status == KD_OK && job->state != JOB_DONE) {
        status = failure_of(exec);
        if (status == KD_OK)
            status = wait_a_moment(exec);
    }
    pthread_mutex_unlock(&exec->lock);
    return status;
}

enum kd_status kd_exec_collect(struct kd_exec *exec)
{
    enum kd_status status = KD_EBUG;
    const struct kd_exec_job *job = &exec->job[exec->first];

    KD_TRY(wait_for_answer(exec, job));
    status = kd_exec_convert(exec->terms.values, &job->info,
                             job->answer + job->info.offset, job->logits);
    if (status == KD_EDATA)
        status = kd_exec_complain(exec, job->child);
    KD_TRY(status);
    pthread_mutex_lock(&exec->lock);
    exec->first = (exec->first + 1) % exec->jobs;
    exec->count--;
    pthread_mutex_unlock(&exec->lock);
out:
    return status;
}
