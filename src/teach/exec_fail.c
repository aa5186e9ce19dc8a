/* SPDX-License-Identifier: MIT */
/* What a child did wrong: said with its last words, once; then all of them end. */
#include "teach/exec_pump_internal.h"

#include "kd/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Seconds for a child to die that has closed a pipe. */
#define LAST_BREATH 0.5

void kd_exec_hear_out(struct kd_exec_child *child, double seconds)
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

void kd_exec_end_all(struct kd_exec *exec)
{
    char how[KD_EXEC_HOW];
    bool clean = false;

    for (size_t i = 0; i < exec->children; i++)
        if (exec->child[i].process.pid != 0)
            kd_exec_reap(&exec->child[i].process, how, &clean);
}

void kd_exec_fail_child(struct kd_exec *exec, struct kd_exec_child *child,
                        enum kd_status status, const char *format, ...)
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
    kd_exec_hear_out(child, 0);
    kd_exec_reap(&child->process, how, &clean);
    kd_exec_last_words(&child->words, last);
    exec->failure = status;
    exec->changed = true;
    snprintf(exec->message, sizeof exec->message, "%s: %s %s%s%s%s", exec->name,
             child->who, what, by_itself ? ": " : "", by_itself ? how : "", last);
    kd_exec_end_all(exec);
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

void kd_exec_fail_closed(struct kd_exec *exec, struct kd_exec_child *child,
                         const char *what)
{
    const double until = kd_seconds() + LAST_BREATH;
    const struct timespec moment = {.tv_nsec = 1000000};
    char text[QUOTE];

    while (!kd_exec_has_ended(&child->process) && kd_seconds() < until)
        nanosleep(&moment, NULL);
    if (kd_exec_has_ended(&child->process))
        what = "died";
    quote(child->line, child->length > 0 ? strlen(child->line) : 0, text);
    if (child->phase == CHILD_GREETED && child->length == 0)
        kd_exec_fail_child(exec, child, KD_EIO,
                           "%s before it had answered the greeting", what);
    else if (child->phase == CHILD_GREETED || (!exec->agreed && child->line[0] != '{'))
        kd_exec_fail_child(exec, child, KD_EIO, "%s, the greeting answered with '%s'",
                           what, text);
    else if (child->job != NULL)
        kd_exec_fail_child(exec, child, KD_EIO, "%s with a batch of %zu unanswered",
                           what, child->job->count);
    else
        kd_exec_fail_child(exec, child, KD_EIO, "%s while it waited for a batch", what);
}

void kd_exec_fail_noise(struct kd_exec *exec, struct kd_exec_child *child,
                        const char *bytes, size_t size)
{
    char text[QUOTE];

    quote(bytes, size, text);
    kd_exec_fail_child(
        exec, child, KD_EDATA,
        "wrote '%s' where %s: what is for people belongs on stderr", text,
        child->phase == CHILD_ASKED ? "an array is due" : "nothing had been asked");
}
