/* SPDX-License-Identifier: MIT */
/*
 * Children with limits, and a pipe home. What comes through the pipe is what the body
 * sent, and behind it, when the body has returned, its message and the message's size.
 * The status is the exit code.
 */
#include "kd/child.h"

#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* How much longer a child may take by the clock than on a processor of its own. */
#define CLOCK_FACTOR 10

/* How often a wait looks whether it should stop. */
#define WAIT_MS 200

struct kd_child {
    int fd;
};

/* A child that runs. */
struct slot {
    pid_t pid; /* 0: none */
    int fd;    /* -1: none */
    size_t index;
    char *data;
    size_t size, capacity;
};

/* -- in the child ----------------------------------------------------------- */

enum kd_status kd_child_send(struct kd_child *child, const void *data, size_t size)
{
    const char *at = data;

    while (size > 0) {
        ssize_t done = write(child->fd, at, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return kd_fail_errno(KD_EIO, "cannot send home");
        at += done;
        size -= (size_t)done;
    }
    return KD_OK;
}

/* Lowers a limit; a stricter one that is there already stays. */
static void limit(int what, uint64_t value)
{
    struct rlimit now;

    if (getrlimit(what, &now) != 0)
        return;
    if (now.rlim_cur == RLIM_INFINITY || now.rlim_cur > value)
        now.rlim_cur = (rlim_t)value;
    setrlimit(what, &now);
}

/* Bytes of address space that this process has; 0 where the system does not say. */
static uint64_t address_space(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    const long page = sysconf(_SC_PAGESIZE);

    if (file == NULL)
        return 0;
    if (fscanf(file, "%llu", &pages) != 1 || page <= 0)
        pages = 0;
    fclose(file);
    return pages * (uint64_t)page;
}

static void set_limits(const struct kd_child_limits *limits)
{
    const uint64_t has = address_space();

    limit(RLIMIT_CORE, 0);
    if (limits->seconds > 0) {
        limit(RLIMIT_CPU, limits->seconds);
        alarm((unsigned)(limits->seconds * CLOCK_FACTOR));
    }
    if (limits->memory > 0 && has > 0)
        limit(RLIMIT_AS, has + limits->memory);
}

/* Signals that end it end it, whatever this process does about them. */
static void reset_signals(void)
{
    const int mortal[] = {SIGALRM, SIGXCPU, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    sigset_t none;

    for (size_t i = 0; i < sizeof mortal / sizeof *mortal; i++)
        signal(mortal[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void be_child(const struct kd_children *children, size_t index, int fd)
{
    struct kd_child child = {fd};
    enum kd_status status = KD_EBUG;
    const char *message = NULL;
    uint32_t size = 0;

    reset_signals();
    set_limits(&children->limits);
    kd_threads_set(1);
    status = children->body(children->context, index, &child);
    message = status != KD_OK ? kd_error() : "";
    size = (uint32_t)strlen(message);
    if (kd_child_send(&child, message, size) != KD_OK ||
        kd_child_send(&child, &size, sizeof size) != KD_OK)
        status = KD_EIO;
    /* Not exit(): what this process has buffered is its own to write. */
    _exit((int)status);
}

/* -- in this process -------------------------------------------------------- */

static enum kd_status start(const struct kd_children *children, size_t index,
                            struct slot *slot)
{
    int ends[2];
    pid_t pid = -1;

    if (pipe(ends) != 0)
        return kd_fail_errno(KD_EIO, "cannot make a pipe");
    pid = fork();
    if (pid == 0) {
        close(ends[0]);
        be_child(children, index, ends[1]);
    }
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return kd_fail_errno(KD_EIO, "cannot start a process");
    }
    (void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    slot->pid = pid;
    slot->fd = ends[0];
    slot->index = index;
    slot->size = 0;
    return KD_OK;
}

/* Takes what has come. *over: the child's end is closed. */
static enum kd_status take(struct slot *slot, bool *over)
{
    ssize_t got = 0;

    if (kd_grow(&slot->data, &slot->capacity, slot->size + 65536, 1) != KD_OK)
        return KD_EMEMORY;
    got = read(slot->fd, slot->data + slot->size, slot->capacity - slot->size);
    if (got < 0 && errno == EINTR)
        return KD_OK;
    if (got < 0)
        return kd_fail_errno(KD_EIO, "cannot read what a child sends");
    slot->size += (size_t)got;
    *over = got == 0;
    return KD_OK;
}

/* Waits for the end of a child that has closed its pipe, or was killed. */
static int reap(struct slot *slot)
{
    int how = 0;

    while (waitpid(slot->pid, &how, 0) < 0 && errno == EINTR)
        ;
    close(slot->fd);
    slot->fd = -1;
    slot->pid = 0;
    return how;
}

/* Splits the message off what a child has sent: *size without it; false if there is
 * none. It is not to be relied on that the child was in its right mind. */
static bool split(const struct slot *slot, char *error, size_t room, size_t *size)
{
    uint32_t length = 0;
    size_t left = slot->size;

    if (left < sizeof length)
        return false;
    left -= sizeof length;
    memcpy(&length, slot->data + left, sizeof length);
    if (length > left || length >= room)
        return false;
    left -= length;
    memcpy(error, slot->data + left, length);
    error[length] = '\0';
    *size = left;
    return true;
}

static enum kd_status finish(const struct kd_children *children, struct slot *slot)
{
    char error[8192] = "";
    const int how = reap(slot);
    struct kd_child_result result = {
        .end = KD_CHILD_CRASHED, .status = KD_EBUG, .size = slot->size};

    if (WIFSIGNALED(how)) {
        result.signal = WTERMSIG(how);
        if (result.signal == SIGALRM || result.signal == SIGXCPU)
            result.end = KD_CHILD_SLOW;
    } else if (split(slot, error, sizeof error, &result.size)) {
        result.end = KD_CHILD_RETURNED;
        result.status = (enum kd_status)WEXITSTATUS(how);
    }
    result.error = error;
    result.data = slot->data;
    return children->ended(children->context, slot->index, &result);
}

static enum kd_status serve(const struct kd_children *children, struct slot *slot)
{
    enum kd_status status = KD_EBUG;
    bool over = false;

    KD_TRY(take(slot, &over));
    if (over)
        status = finish(children, slot);
out:
    return status;
}

/* Waits for news of those that run, and takes them in. */
static enum kd_status wait_for_news(const struct kd_children *children,
                                    struct slot *slots, struct pollfd *polls, size_t n)
{
    enum kd_status status = KD_OK;

    for (size_t i = 0; i < n; i++)
        polls[i] = (struct pollfd){.fd = slots[i].fd, .events = POLLIN};
    if (kd_interrupted())
        return kd_fail_interrupted(children->what);
    if (poll(polls, (nfds_t)n, WAIT_MS) <= 0)
        return KD_OK;
    for (size_t i = 0; i < n && status == KD_OK; i++)
        if (polls[i].revents != 0)
            status = serve(children, &slots[i]);
    return status;
}

/* Starts children in the free slots; *next is the first that was not started yet. */
static enum kd_status fill(const struct kd_children *children, struct slot *slots,
                           size_t n, size_t *next, size_t *running)
{
    enum kd_status status = KD_OK;

    *running = 0;
    for (size_t i = 0; i < n && status == KD_OK; i++) {
        if (slots[i].pid == 0 && *next < children->count)
            status = start(children, (*next)++, &slots[i]);
        *running += slots[i].pid != 0;
    }
    return status;
}

static void clear(struct slot *slots, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (slots[i].pid != 0) {
            kill(slots[i].pid, SIGKILL);
            (void)reap(&slots[i]);
        }
        free(slots[i].data);
    }
    free(slots);
}

enum kd_status kd_children_run(const struct kd_children *children)
{
    enum kd_status status = KD_EBUG;
    size_t n = children->at_once > 0 ? children->at_once : kd_threads();
    struct slot *slots = NULL;
    struct pollfd *polls = NULL;
    size_t next = 0, running = 0;

    n = n < children->count ? n : children->count;
    KD_TRY(KD_NEW(slots, n));
    KD_TRY(KD_NEW(polls, n));
    for (size_t i = 0; i < n; i++)
        slots[i].fd = -1;
    KD_TRY(fill(children, slots, n, &next, &running));
    while (running > 0) {
        KD_TRY(wait_for_news(children, slots, polls, n));
        KD_TRY(fill(children, slots, n, &next, &running));
    }
    status = KD_OK;
out:
    if (slots != NULL)
        clear(slots, n);
    free(polls);
    return status;
}
