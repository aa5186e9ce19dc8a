/* SPDX-License-Identifier: MIT */
/*
 * The thread that keeps the children's pipes busy, so that they compute while this
 * process prepares what comes next. It alone touches the pipes while it runs; what it
 * shares with the caller is under one lock.
 *
 * A child must not be taken at its word: an answer too many would be taken for that of
 * the next batch, and all that follow would belong to other samples. So of a batch only
 * the first bytes are sent until the child has read them, and until then it must have
 * been silent: what it writes later is written in the knowledge of that batch.
 */
#include "teach/exec_internal.h"

#include "kd/log.h"
#include "kd/memory.h"
#include "kd/npy.h"
#include "kd/progress.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FIRST_BYTES 6         /* of a batch: too few to tell anything */
#define LINE_LIMIT  (1 << 26) /* bytes of the answer to the greeting */
#define POLLS_EACH  3         /* descriptors of a child */

/* Seconds: for a child to die that has closed a pipe; for the end of one that has done
 * its work; how often the caller looks whether it should stop. */
#define LAST_BREATH 0.5
#define FAREWELL    10.0
#define LOOK        0.1
#define LONG_SLEEP                                                                     \
    1000 /* milliseconds: of the thread, after which it looks for dead                 \
          */

enum job_state { JOB_WAITS, JOB_ASKED, JOB_DONE };

struct job {
    enum job_state state;
    const void *input;
    size_t count;
    float *logits;
    size_t child;              /* who has it */
    char *answer;              /* an array, header and all */
    size_t capacity;           /* of it */
    struct kd_array_info info; /* of it */
};

enum phase {
    CHILD_GREETED, /* its answer is awaited */
    CHILD_IDLE,
    CHILD_GATE,  /* the pipe must become empty */
    CHILD_FIRST, /* the first bytes have to be read */
    CHILD_ASKED  /* the rest is sent; the answer may come */
};

struct child {
    struct kd_exec_process process;
    char who[32]; /* "child", "child 2" */
    enum phase phase;
    struct job *job; /* NULL: none */
    double deadline; /* unless it is idle */
    struct kd_exec_words words;

    /* What it is sent: two pieces, of which so much is sent. */
    const char *head, *body;
    size_t head_size, body_size, sent;
    char header[256];

    /* The answer to the greeting. */
    char *line;
    size_t length, capacity;

    size_t received, due; /* bytes of the answer to a batch; due as far as is known */
};

struct kd_exec {
    const char *name;
    struct child *child; /* [children] */
    size_t children;
    double timeout;
    struct kd_exec_terms terms;
    struct pollfd *polls; /* [1 + POLLS_EACH * children] */

    pthread_t thread;
    bool running; /* the thread */
    int wake[2];  /* a pipe that ends its sleep */

    pthread_mutex_t lock; /* of all that follows, and of what children and jobs share */
    pthread_cond_t news;
    struct job *job; /* [jobs], a ring */
    size_t jobs, first, count;
    size_t greeted; /* children that have answered the greeting */
    bool changed;   /* something that the caller may wait for */
    bool stop;
    enum kd_status failure; /* KD_OK: none; then no child is left */
    char message[4096];
};

/* -- failures --------------------------------------------------------------- */

/* Takes what is left of a child's talk: what is there, and what comes within `seconds`.
 */
static void hear_out(struct child *child, double seconds)
{
    const double until = kd_seconds() + seconds;

    while (child->process.err >= 0) {
        struct pollfd one = {.fd = child->process.err, .events = POLLIN};
        const double left = until - kd_seconds();

        if (poll(&one, 1, left > 0 ? (int)(left * 1000) + 1 : 0) <= 0)
            break;
        if (!kd_exec_listen(&child->words, child->process.err, child->who))
            kd_exec_close(&child->process.err);
    }
}

static void end_all(struct kd_exec *exec)
{
    char how[KD_EXEC_HOW];
    bool clean = false;

    for (size_t i = 0; i < exec->children; i++)
        if (exec->child[i].process.pid != 0)
            kd_exec_reap(&exec->child[i].process, how, &clean);
}

/* Keeps the first failure: what a child did, how it ended if it has, what it said
 * last. Ends all of them. */
static void fail_child(struct kd_exec *exec, struct child *child, enum kd_status status,
                       const char *format, ...) KD_PRINTF(4, 5);

static void fail_child(struct kd_exec *exec, struct child *child, enum kd_status status,
                       const char *format, ...)
{
    char what[1024], how[KD_EXEC_HOW] = "", last[KD_EXEC_LAST];
    const bool by_itself = kd_exec_has_ended(&child->process);
    bool clean = false;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    if (!by_itself)
        kd_exec_kill(&child->process);
    hear_out(child, 0);
    kd_exec_reap(&child->process, how, &clean);
    kd_exec_last_words(&child->words, last);
    exec->failure = status;
    exec->changed = true;
    snprintf(exec->message, sizeof exec->message, "%s: %s %s%s%s%s", exec->name,
             child->who, what, by_itself ? ": " : "", by_itself ? how : "", last);
    end_all(exec);
}

/* The beginning of what a child wrote, fit to be shown. */
#define QUOTE 81
static void quote(const char *bytes, size_t size, char text[QUOTE])
{
    size_t taken = size < QUOTE - 1 ? size : QUOTE - 1;

    if (taken > 0 && bytes[taken - 1] == '\n')
        taken--;
    for (size_t i = 0; i < taken; i++)
        text[i] = bytes[i] >= ' ' && bytes[i] <= '~' ? bytes[i] : '?';
    text[taken] = '\0';
}

/* A pipe of it is closed: it is dead, or about to die. */
static void fail_closed(struct kd_exec *exec, struct child *child, const char *what)
{
    const double until = kd_seconds() + LAST_BREATH;
    const struct timespec moment = {.tv_nsec = 1000000};
    char text[QUOTE];

    while (!kd_exec_has_ended(&child->process) && kd_seconds() < until)
        nanosleep(&moment, NULL);
    if (kd_exec_has_ended(&child->process))
        what = "died";
    quote(child->line, child->length, text);
    if (child->phase == CHILD_GREETED && child->length > 0)
        fail_child(exec, child, KD_EIO, "%s, the greeting answered with '%s'", what,
                   text);
    else if (child->phase == CHILD_GREETED)
        fail_child(exec, child, KD_EIO, "%s before it had answered the greeting", what);
    else if (child->job != NULL)
        fail_child(exec, child, KD_EIO, "%s with a batch of %zu unanswered", what,
                   child->job->count);
    else
        fail_child(exec, child, KD_EIO, "%s while it waited for a batch", what);
}

/* It wrote what nobody had asked for; some of it is quoted. */
static void fail_noise(struct kd_exec *exec, struct child *child, const char *bytes,
                       size_t size)
{
    char text[QUOTE];

    quote(bytes, size, text);
    fail_child(exec, child, KD_EDATA,
               "wrote '%s' where %s: what is for people belongs on stderr", text,
               child->phase == CHILD_ASKED ? "an array is due"
                                           : "nothing had been asked");
}

/* -- sending ---------------------------------------------------------------- */

static void send_to(struct child *child, const void *head, size_t head_size,
                    const void *body, size_t body_size)
{
    child->head = head;
    child->head_size = head_size;
    child->body = body;
    child->body_size = body_size;
    child->sent = 0;
}

static bool all_sent(const struct child *child)
{
    return child->sent == child->head_size + child->body_size;
}

/* Writes up to byte `end` of what it is sent, as much as goes. */
static void push(struct kd_exec *exec, struct child *child, size_t end)
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
            fail_closed(exec, child, "closed its input");
            return;
        }
    }
}

/* Gives the oldest batch that waits to a child that is idle. */
static void give_work(struct kd_exec *exec, struct child *child)
{
    struct kd_exec_terms *terms = &exec->terms;

    for (size_t i = 0; i < exec->count && child->job == NULL; i++) {
        struct job *job = &exec->job[(exec->first + i) % exec->jobs];

        if (job->state != JOB_WAITS)
            continue;
        job->state = JOB_ASKED;
        job->child = (size_t)(child - exec->child);
        terms->shape[0] = job->count;
        send_to(child, child->header,
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
static void open_gate(struct kd_exec *exec, struct child *child)
{
    char bytes[80];

    if (kd_exec_waiting(child->process.out) > 0) {
        const ssize_t got = read(child->process.out, bytes, sizeof bytes);

        fail_noise(exec, child, bytes, got > 0 ? (size_t)got : 0);
        return;
    }
    kd_exec_widen(child->process.in);
    child->phase = CHILD_ASKED;
    push(exec, child, child->head_size + child->body_size);
}

/* Sends what can be sent now; `writable` says the pipe. */
static void send_more(struct kd_exec *exec, struct child *child, bool writable)
{
    if (child->phase == CHILD_IDLE)
        give_work(exec, child);
    if (child->phase == CHILD_GATE && kd_exec_narrow(child->process.in)) {
        child->phase = CHILD_FIRST;
        push(exec, child, FIRST_BYTES);
    } else if (child->phase == CHILD_FIRST && writable) {
        open_gate(exec, child);
    } else if (writable && !all_sent(child)) {
        push(exec, child, child->head_size + child->body_size);
    }
}

/* -- receiving -------------------------------------------------------------- */

static void take_line(struct kd_exec *exec, struct child *child)
{
    char *end = NULL;
    ssize_t got = 0;

    if (kd_grow(&child->line, &child->capacity, child->length + 65536, 1) != KD_OK) {
        fail_child(exec, child, KD_EMEMORY, "cannot be listened to: %s", kd_error());
        return;
    }
    got = read(child->process.out, child->line + child->length, 65535);
    if (got == 0)
        fail_closed(exec, child, "closed its output");
    if (got <= 0)
        return;
    child->length += (size_t)got;
    child->line[child->length] = '\0';
    end = memchr(child->line, '\n', child->length);
    if (end != NULL)
        push(exec, child, child->head_size); /* it may be quicker than this thread */
    if (exec->failure != KD_OK)
        return;
    if (end == NULL && child->length > LINE_LIMIT) {
        fail_child(exec, child, KD_EDATA, "answered the greeting without end");
    } else if (end != NULL && !all_sent(child)) {
        fail_child(exec, child, KD_EDATA, "answered before it had read the greeting");
    } else if (end != NULL && end + 1 < child->line + child->length) {
        child->phase = CHILD_IDLE;
        fail_noise(exec, child, end + 1,
                   (size_t)(child->line + child->length - end - 1));
    } else if (end != NULL) {
        *end = '\0';
        child->phase = CHILD_IDLE;
        exec->greeted++;
        exec->changed = true;
    }
}

/* Looks at an answer as far as it has come, and finds out how much of it is due. */
static void judge(struct kd_exec *exec, struct child *child)
{
    static const char magic[] = "\x93NUMPY";
    struct job *job = child->job;
    const size_t seen = child->received < 6 ? child->received : 6;

    if (memcmp(job->answer, magic, seen) != 0) {
        fail_noise(exec, child, job->answer, child->received);
        return;
    }
    if (child->received < child->due)
        return;
    if (job->info.rank == 0 &&
        kd_exec_check_header(job->answer, child->received, job->count,
                             exec->terms.classes, &job->info, &child->due) != KD_OK)
        fail_child(exec, child, KD_EDATA, "%s", kd_error());
}

/* Reads what is due of an answer, and not a byte more. */
static void take_answer(struct kd_exec *exec, struct child *child)
{
    struct job *job = child->job;
    ssize_t got = 0;

    if (kd_grow(&job->answer, &job->capacity, child->due, 1) != KD_OK) {
        fail_child(exec, child, KD_EMEMORY, "cannot be listened to: %s", kd_error());
        return;
    }
    got = read(child->process.out, job->answer + child->received,
               child->due - child->received);
    if (got == 0)
        fail_closed(exec, child, "closed its output");
    if (got <= 0)
        return;
    child->received += (size_t)got;
    judge(exec, child);
}

/* Whether all of an answer is there, and all of the batch was sent. */
static void finish_job(struct kd_exec *exec, struct child *child)
{
    struct job *job = child->job;

    if (child->phase != CHILD_ASKED || !all_sent(child) || job->info.rank == 0 ||
        child->received < child->due)
        return;
    job->state = JOB_DONE;
    exec->changed = true;
    child->job = NULL;
    child->phase = CHILD_IDLE;
}

static void receive(struct kd_exec *exec, struct child *child)
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
        fail_closed(exec, child, "closed its output");
    else if (got > 0)
        fail_noise(exec, child, bytes, (size_t)got);
}

/* -- the thread ------------------------------------------------------------- */

static bool wants_to_send(const struct child *child)
{
    return child->phase == CHILD_FIRST ||
           ((child->phase == CHILD_GREETED || child->phase == CHILD_ASKED) &&
            !all_sent(child));
}

/* Milliseconds until something is to be done even without news. */
static int choose_sleep(const struct kd_exec *exec)
{
    double least = INFINITY;
    bool hurried = false;

    for (size_t i = 0; i < exec->children; i++) {
        const struct child *child = &exec->child[i];

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
    for (size_t i = 0; i < exec->children; i++, at += POLLS_EACH) {
        const struct child *child = &exec->child[i];

        at[0] = (struct pollfd){.fd = child->job != NULL ? child->process.in : -1};
        if (wants_to_send(child))
            at[0] = (struct pollfd){.fd = child->process.in, .events = POLLOUT};
        at[1] = (struct pollfd){.fd = child->process.out, .events = POLLIN};
        at[2] = (struct pollfd){.fd = child->process.err, .events = POLLIN};
    }
}

/* Does for one child what there is to do. `polls` are its descriptors. */
static void serve(struct kd_exec *exec, struct child *child, const struct pollfd *polls)
{
    if (polls[2].revents != 0 &&
        !kd_exec_listen(&child->words, child->process.err, child->who))
        kd_exec_close(&child->process.err);
    if (polls[1].revents != 0)
        receive(exec, child);
    if (exec->failure == KD_OK)
        finish_job(exec, child);
    if (exec->failure == KD_OK)
        send_more(exec, child, polls[0].revents != 0);
    if (exec->failure == KD_OK)
        finish_job(exec, child);
    if (exec->failure == KD_OK && child->job != NULL && polls[0].revents & POLLERR &&
        kd_exec_waiting(child->process.out) == 0)
        fail_closed(exec, child, "closed its input");
    if (exec->failure != KD_OK || child->phase == CHILD_IDLE ||
        kd_seconds() < child->deadline)
        return;
    if (child->phase == CHILD_GREETED)
        fail_child(exec, child, KD_EIO,
                   "has not answered the greeting within %g s (--teacher-timeout)",
                   exec->timeout);
    else
        fail_child(exec, child, KD_EIO,
                   "has not answered a batch of %zu within %g s (--teacher-timeout)",
                   child->job->count, exec->timeout);
}

/* A child that is dead may have left others that keep its pipes open. */
static void look_for_dead(struct kd_exec *exec)
{
    for (size_t i = 0; i < exec->children && exec->failure == KD_OK; i++)
        if (kd_exec_has_ended(&exec->child[i].process) &&
            kd_exec_waiting(exec->child[i].process.out) == 0)
            fail_closed(exec, &exec->child[i], "died");
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
            poll(exec->polls, (nfds_t)(1 + POLLS_EACH * exec->children), sleep);
        pthread_mutex_lock(&exec->lock);
        if (news == 0 && sleep == LONG_SLEEP)
            look_for_dead(exec);
        take_wakes(exec);
        for (size_t i = 0; i < exec->children && exec->failure == KD_OK; i++)
            serve(exec, &exec->child[i], &exec->polls[1 + POLLS_EACH * i]);
        if (exec->changed)
            pthread_cond_broadcast(&exec->news);
        exec->changed = false;
    }
    pthread_mutex_unlock(&exec->lock);
    return NULL;
}

static void wake_up(struct kd_exec *exec)
{
    (void)!write(exec->wake[1], "", 1);
}

/* Signals are for the threads that ask for them; an error of write tells as much as
 * SIGPIPE. */
static enum kd_status start_thread(struct kd_exec *exec)
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

/* -- the caller ------------------------------------------------------------- */

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
        struct child *child = &exec->child[i];

        snprintf(child->who, sizeof child->who,
                 exec->children > 1 ? "child %zu" : "child", i + 1);
        KD_TRY(kd_exec_start(command, &child->process));
        send_to(child, greeting, strlen(greeting), NULL, 0);
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
    KD_TRY(KD_NEW(made->polls, 1 + POLLS_EACH * jobs));
    KD_TRY(KD_NEW(made->job, 2 * jobs));
    made->jobs = 2 * jobs;
    made->children = jobs;
    KD_TRY(start_children(made, command, greeting));
    KD_TRY(start_thread(made));
    KD_TRY(wait_for_greetings(made));
    *exec = made;
    made = NULL;
    status = KD_OK;
out:
    kd_exec_free(made);
    return status;
}

/* Lets a child that has answered everything end by itself, and says if it does not do
 * so properly. */
static void bid_farewell(struct kd_exec *exec, struct child *child)
{
    char how[KD_EXEC_HOW], last[KD_EXEC_LAST];
    const double until = kd_seconds() + FAREWELL;
    const struct timespec moment = {.tv_nsec = 1000000};
    size_t surplus = 0;
    bool ended = false, clean = false;

    hear_out(child, FAREWELL);
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

    for (size_t i = 0; i < exec->children && done; i++)
        kd_exec_close(&exec->child[i].process.in);
    for (size_t i = 0; i < exec->children && done; i++)
        if (exec->child[i].process.pid != 0 && exec->child[i].phase == CHILD_IDLE)
            bid_farewell(exec, &exec->child[i]);
    end_all(exec);
}

void kd_exec_free(struct kd_exec *exec)
{
    if (exec == NULL)
        return;
    if (exec->running) {
        pthread_mutex_lock(&exec->lock);
        exec->stop = true;
        pthread_mutex_unlock(&exec->lock);
        wake_up(exec);
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
    exec->terms = *terms; /* which the thread looks at when there is a batch */
}

size_t kd_exec_in_flight(const struct kd_exec *exec)
{
    return exec->jobs;
}

enum kd_status kd_exec_complain(struct kd_exec *exec, size_t child)
{
    enum kd_status status = KD_EBUG;

    pthread_mutex_lock(&exec->lock);
    if (exec->failure == KD_OK)
        fail_child(exec, &exec->child[child], KD_EDATA, "%s", kd_error());
    status = failure_of(exec);
    pthread_mutex_unlock(&exec->lock);
    return status;
}

void kd_exec_submit(struct kd_exec *exec, const void *input, size_t count,
                    float *logits)
{
    struct job *job = NULL;

    pthread_mutex_lock(&exec->lock);
    assert(exec->count < exec->jobs);
    job = &exec->job[(exec->first + exec->count++) % exec->jobs];
    job->state = JOB_WAITS;
    job->input = input;
    job->count = count;
    job->logits = logits;
    job->info = (struct kd_array_info){.rank = 0};
    pthread_mutex_unlock(&exec->lock);
    wake_up(exec);
}

/* Waits until the oldest batch is answered. */
static enum kd_status wait_for_answer(struct kd_exec *exec, const struct job *job)
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
    const struct job *job = &exec->job[exec->first];

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
