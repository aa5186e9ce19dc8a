/* SPDX-License-Identifier: MIT */
/* A child process: starting it, listening to its talk, seeing it end. */
#define _GNU_SOURCE /* pipe2, F_SETPIPE_SZ */
#include "teach/exec_internal.h"

#include "kd/log.h"
#include "kd/memory.h"
#include "kd/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define NARROW 4096
#define WIDE   (1 << 20)

void kd_exec_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* -- starting --------------------------------------------------------------- */

/* A pipe whose ends are above stderr's number, so that the child can put its own where
 * they belong, and are closed in every other child. */
static enum kd_status make_pipe(int ends[2])
{
    int made[2];

    if (pipe2(made, O_CLOEXEC) != 0)
        return kd_fail_errno(KD_EIO, "cannot make a pipe");
    for (int i = 0; i < 2; i++) {
        ends[i] =
            made[i] > STDERR_FILENO ? made[i] : fcntl(made[i], F_DUPFD_CLOEXEC, 3);
        if (ends[i] != made[i])
            close(made[i]);
    }
    return ends[0] >= 0 && ends[1] >= 0 ? KD_OK
                                        : kd_fail_errno(KD_EIO, "cannot make a pipe");
}

/* Whether a variable is one that kd_threads_share has set. */
static bool is_ours(const char *variable)
{
    static const char *const names[] = {
        "OMP_WAIT_POLICY=", "GOMP_SPINCOUNT=", KD_SHARES_CORES "="};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(variable, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* The environment as the user made it. The list alone is to be freed. */
static char **environment(void)
{
    const bool shares = getenv(KD_SHARES_CORES) != NULL;
    size_t count = 0, kept = 0;
    char **list = NULL;

    while (environ[count] != NULL)
        count++;
    if (KD_NEW(list, count + 1) != KD_OK)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (!shares || !is_ours(environ[i]))
            list[kept++] = environ[i];
    return list;
}

/* The child's side of fork: only what a process with threads may do there. */
static _Noreturn void become(const char *command, char **variables, const int ends[3],
                             pid_t parent)
{
    sigset_t none;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127); /* it died before this could be told to the system */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int i = 0; i < 3; i++)
        if (dup2(ends[i], i) < 0)
            _exit(127);
    execle("/bin/sh", "sh", "-c", command, (char *)NULL, variables);
    _exit(127);
}

static void do_not_block(int fd)
{
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

enum kd_status kd_exec_start(const char *command, struct kd_exec_process *process)
{
    enum kd_status status = KD_EBUG;
    const pid_t parent = getpid();
    int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
    char **variables = environment();

    *process = (struct kd_exec_process){.in = -1, .out = -1, .err = -1};
    KD_TRY(variables != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(make_pipe(in));
    KD_TRY(make_pipe(out));
    KD_TRY(make_pipe(err));
    process->pid = fork();
    if (process->pid == 0)
        become(command, variables, (const int[]){in[0], out[1], err[1]}, parent);
    if (process->pid < 0) {
        process->pid = 0;
        status = kd_fail_errno(KD_EIO, "cannot start a process");
        goto out;
    }
    setpgid(process->pid, process->pid); /* whichever of the two comes first */
    process->in = in[1];
    process->out = out[0];
    process->err = err[0];
    in[1] = out[0] = err[0] = -1;
    do_not_block(process->in);
    do_not_block(process->out);
    do_not_block(process->err);
    kd_exec_widen(process->in);
    kd_exec_widen(process->out);
    status = KD_OK;
out:
    free(variables);
    for (int i = 0; i < 2; i++) {
        kd_exec_close(&in[i]);
        kd_exec_close(&out[i]);
        kd_exec_close(&err[i]);
    }
    return status;
}

/* -- pipes ------------------------------------------------------------------ */

/* A pipe has as many slots as pages; with one, it is full as soon as it is not empty.
 */
bool kd_exec_narrow(int fd)
{
    return kd_exec_waiting(fd) == 0 &&
           (fcntl(fd, F_SETPIPE_SZ, NARROW) >= 0 || errno != EBUSY);
}

/* The system may grant less, which is only slower. */
void kd_exec_widen(int fd)
{
    (void)fcntl(fd, F_SETPIPE_SZ, WIDE);
}

size_t kd_exec_waiting(int fd)
{
    int bytes = 0;

    return fd >= 0 && ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0 ? (size_t)bytes : 0;
}

/* -- ending ----------------------------------------------------------------- */

bool kd_exec_has_ended(const struct kd_exec_process *process)
{
    siginfo_t info = {.si_pid = 0};

    return waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == process->pid;
}

/* As long as the process itself has not been reaped, nobody else has its group. */
void kd_exec_kill(const struct kd_exec_process *process)
{
    kill(-process->pid, SIGKILL);
}

static void describe(int state, char how[KD_EXEC_HOW])
{
    if (WIFSIGNALED(state))
        snprintf(how, KD_EXEC_HOW, "killed by signal %d (%s)", WTERMSIG(state),
                 strsignal(WTERMSIG(state)));
    else
        snprintf(how, KD_EXEC_HOW, "exit code %d", WEXITSTATUS(state));
}

void kd_exec_reap(struct kd_exec_process *process, char how[KD_EXEC_HOW], bool *clean)
{
    int state = 0;

    kd_exec_kill(process);
    while (waitpid(process->pid, &state, 0) < 0 && errno == EINTR)
        ;
    process->pid = 0;
    kd_exec_close(&process->in);
    kd_exec_close(&process->out);
    kd_exec_close(&process->err);
    describe(state, how);
    *clean = WIFEXITED(state) && WEXITSTATUS(state) == 0;
}

/* -- talk ------------------------------------------------------------------- */

static void end_line(struct kd_exec_words *words, const char *who)
{
    char *line = words->line[words->count % KD_EXEC_LINES];

    if (words->length == 0)
        return;
    memcpy(line, words->partial, words->length);
    line[words->length] = '\0';
    words->length = 0;
    words->count++;
    kd_log(KD_LOG_ERROR, "%s: %s", who, line); /* its talk is not ours to silence */
}

/* Progress bars go back to the beginning of a line: each of their states is one. */
static void take(struct kd_exec_words *words, const char *bytes, size_t count,
                 const char *who)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] == '\n' || bytes[i] == '\r') {
            end_line(words, who);
            continue;
        }
        if (words->length == KD_EXEC_LINE - 1)
            end_line(words, who);
        words->partial[words->length++] = bytes[i] != '\0' ? bytes[i] : '?';
    }
}

bool kd_exec_listen(struct kd_exec_words *words, int fd, const char *who)
{
    char bytes[4096];
    ssize_t got = read(fd, bytes, sizeof bytes);

    if (got > 0)
        take(words, bytes, (size_t)got, who);
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
        return true;
    end_line(words, who);
    return false;
}

void kd_exec_last_words(const struct kd_exec_words *words, char text[KD_EXEC_LAST])
{
    const size_t first =
        words->count > KD_EXEC_LINES ? words->count - KD_EXEC_LINES : 0;
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = first; i < words->count; i++)
        used += (size_t)snprintf(text + used, KD_EXEC_LAST - used, "%s%s",
                                 i == first ? "; its last words: '" : " / ",
                                 words->line[i % KD_EXEC_LINES]);
    if (used > 0)
        snprintf(text + used, KD_EXEC_LAST - used, "'");
}
