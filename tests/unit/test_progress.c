/* SPDX-License-Identifier: MIT */
/* Progress: what a terminal and what a file gets to see, and what signals do. Each
 * run is a child process whose stderr is a pseudo terminal or a pipe. */
#define _XOPEN_SOURCE 700 /* posix_openpt */
#include "kd/progress.h"

#include "kd/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char seen[65536];

/* Reads what comes until the other end is closed; a terminal says EIO then. */
static void read_all(int fd)
{
    size_t length = 0;
    ssize_t got = 0;

    while ((got = read(fd, seen + length, sizeof seen - 1 - length)) > 0)
        length += (size_t)got;
    seen[length] = '\0';
    close(fd);
}

static int run_child(void (*body)(void), int reading, int writing)
{
    int status = 0;

    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (dup2(writing, STDERR_FILENO) < 0)
            _exit(98);
        close(reading);
        close(writing);
        body();
        _exit(0);
    }
    close(writing);
    read_all(reading);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static int on_terminal(void (*body)(void))
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);

    if (master < 0) {
        print_message("no pseudo terminal is to be had here\n");
        skip();
    }
    assert_int_equal(grantpt(master), 0);
    assert_int_equal(unlockpt(master), 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(slave >= 0);
    return run_child(body, master, slave);
}

static int on_pipe(void (*body)(void))
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    return run_child(body, ends[0], ends[1]);
}

static void assert_has(const char *part)
{
    if (strstr(seen, part) == NULL)
        fail_msg("expected \"%s\" in \"%s\"", part, seen);
}

static void assert_lacks(const char *part)
{
    if (strstr(seen, part) != NULL)
        fail_msg("did not expect \"%s\" in \"%s\"", part, seen);
}

/* 50,000 samples in 10,000 s: so slow that a busy machine changes no digit. */
static void go_far(void)
{
    struct kd_progress progress;

    kd_progress_open(&progress, "dumping", "samples", 50000);
    progress.started -= 10000;
    kd_progress_set(&progress, 49990);
    kd_log(KD_LOG_WARNING, "in between");
    progress.shown -= 1;
    kd_progress_set(&progress, 50000);
    kd_progress_close(&progress);
}

static void far(void)
{
    kd_log_open("kd-x", KD_LOG_DETAIL);
    go_far();
}

static void far_quietly(void)
{
    kd_log_open("kd-x", KD_LOG_ERROR);
    go_far();
}

static void a_terminal_shows_a_bar(void **state)
{
    (void)state;
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    assert_int_equal(on_terminal(far), 0);
    assert_has("\r\033[Kkd-x: dumping 99 % [\033[32m=");
    assert_has("49990/50000 samples, 5.00/s, 0:02 left");
    assert_has("\r\033[Kkd-x: in between\r\n"); /* not behind the bar */
    assert_has("dumping 100 %");
    assert_has("\r\033[Kkd-x: dumping: 50000 samples in 1000");
    assert_has(" s, 5.00/s\r\n");
}

static void colours_are_left_out_when_asked(void **state)
{
    (void)state;
    setenv("TERM", "xterm", 1);
    setenv("NO_COLOR", "1", 1);
    assert_int_equal(on_terminal(far), 0);
    unsetenv("NO_COLOR");
    assert_has("kd-x: dumping 99 % [=");
    assert_lacks("\033[32m");
    assert_lacks("\033[0m");
}

static void a_bar_fits_the_terminal(void **state)
{
    (void)state;
    setenv("TERM", "xterm", 1);
    setenv("NO_COLOR", "1", 1);
    assert_int_equal(on_terminal(far), 0);
    unsetenv("NO_COLOR");
    const char *bar = strstr(seen, "kd-x: dumping 99 %");
    assert_non_null(bar);
    assert_int_equal(strcspn(bar, "\r"), 79); /* of 80 columns */
}

static void a_dumb_terminal_shows_lines(void **state)
{
    (void)state;
    setenv("TERM", "dumb", 1);
    assert_int_equal(on_terminal(far), 0);
    assert_lacks("\033");
    assert_has("kd-x: dumping: 99 %, 49990/50000 samples, 5.00/s, 0:02 left\r\n");
}

static void a_file_gets_a_line_now_and_then(void **state)
{
    (void)state;
    assert_int_equal(on_pipe(far), 0);
    assert_has("kd-x: dumping: 99 %, 49990/50000 samples, 5.00/s, 0:02 left\n"
               "kd-x: in between\n"
               "kd-x: dumping: 50000 samples in 1000");
    assert_memory_equal(seen, "kd-x: dumping: 99", 17);
    assert_lacks("\033");
}

static void nothing_is_shown_when_quiet(void **state)
{
    (void)state;
    setenv("TERM", "xterm", 1);
    assert_int_equal(on_terminal(far_quietly), 0);
    assert_string_equal(seen, "");
    assert_int_equal(on_terminal(go_far), 0); /* the log was never opened */
    assert_string_equal(seen, "");
}

static void count_often(void)
{
    struct kd_progress progress;

    kd_log_open("kd-x", KD_LOG_INFO);
    kd_progress_open(&progress, "counting", "rows", 0);
    for (uint64_t i = 1; i <= 10000; i++)
        kd_progress_set(&progress, i);
    kd_progress_close(&progress);
}

static void it_is_drawn_a_few_times_a_second(void **state)
{
    size_t drawn = 0;

    (void)state;
    setenv("TERM", "xterm", 1);
    assert_int_equal(on_terminal(count_often), 0);
    for (const char *c = seen; (c = strstr(c, "counting")) != NULL; c++)
        drawn++;
    assert_in_range(drawn, 1, 100); /* twenty seconds at the most */
    assert_lacks("%");              /* of an unknown total */
    assert_has("counting 1 rows");
    assert_int_equal(on_pipe(count_often), 0);
    assert_string_equal(seen, "");
}

static void go_on(void)
{
    struct kd_progress progress;

    kd_log_open("kd-x", KD_LOG_DETAIL);
    kd_progress_open(&progress, "dumping", "samples", 1000);
    kd_progress_resume(&progress, 900);
    progress.started -= 1000;
    kd_progress_set(&progress, 999);
    kd_progress_close(&progress);
}

static void what_was_done_before_does_not_count_for_the_rate(void **state)
{
    (void)state;
    assert_int_equal(on_pipe(go_on), 0);
    assert_has("99 %, 999/1000 samples, 0.099/s, 0:10 left");
    assert_has("dumping: 99 samples in 100");
}

static void wait_for_a_signal(void)
{
    kd_catch_signals();
    if (kd_interrupted())
        _exit(1);
    raise(SIGTERM);
    if (!kd_interrupted())
        _exit(2);
    if (kd_fail_interrupted("dumping") != KD_EINTERRUPTED)
        _exit(3);
    fprintf(stderr, "%s", kd_error());
}

static void a_signal_asks_the_program_to_stop(void **state)
{
    (void)state;
    assert_int_equal(on_pipe(wait_for_a_signal), 0);
    assert_string_equal(seen,
                        "dumping: interrupted; run the same command again to go on");
}

static void raise_twice(void)
{
    signal(SIGINT, SIG_DFL); /* a job in the background has it ignored */
    kd_catch_signals();
    raise(SIGINT);
    raise(SIGTERM);
    fprintf(stderr, "still here");
}

static void a_second_signal_ends_it(void **state)
{
    int status = on_pipe(raise_twice);

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
    assert_string_equal(seen, "");
}

static void raise_what_is_ignored(void)
{
    signal(SIGINT, SIG_IGN);
    kd_catch_signals();
    raise(SIGINT);
    raise(SIGINT);
    fputs(kd_interrupted() ? "interrupted" : "going on", stderr);
}

static void an_ignored_signal_stays_ignored(void **state)
{
    (void)state;
    assert_int_equal(on_pipe(raise_what_is_ignored), 0);
    assert_string_equal(seen, "going on");
}

static void write_to_nobody(void)
{
    int ends[2];

    signal(SIGPIPE, SIG_DFL);
    kd_catch_signals();
    if (pipe(ends) != 0)
        _exit(1);
    close(ends[0]);
    if (write(ends[1], "x", 1) != -1 || errno != EPIPE)
        _exit(2);
    execl("/bin/sh", "sh", "-c", "kill -s PIPE $$; echo ignored >&2", (char *)NULL);
    _exit(3);
}

static void a_broken_pipe_is_an_error_and_children_start_afresh(void **state)
{
    int status = on_pipe(write_to_nobody);

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGPIPE);
    assert_string_equal(seen, "");
}

static void the_clock_goes_forward(void **state)
{
    double before = kd_seconds();

    (void)state;
    for (int i = 0; i < 1000; i++) {
        double now = kd_seconds();
        assert_true(now >= before);
        before = now;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_terminal_shows_a_bar),
        cmocka_unit_test(colours_are_left_out_when_asked),
        cmocka_unit_test(a_bar_fits_the_terminal),
        cmocka_unit_test(a_dumb_terminal_shows_lines),
        cmocka_unit_test(a_file_gets_a_line_now_and_then),
        cmocka_unit_test(nothing_is_shown_when_quiet),
        cmocka_unit_test(it_is_drawn_a_few_times_a_second),
        cmocka_unit_test(what_was_done_before_does_not_count_for_the_rate),
        cmocka_unit_test(a_signal_asks_the_program_to_stop),
        cmocka_unit_test(a_second_signal_ends_it),
        cmocka_unit_test(an_ignored_signal_stays_ignored),
        cmocka_unit_test(a_broken_pipe_is_an_error_and_children_start_afresh),
        cmocka_unit_test(the_clock_goes_forward),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
