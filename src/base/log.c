/* SPDX-License-Identifier: MIT */
/* Log: the one owner of stderr; lines of talk, and the bar below them. */
#define _DEFAULT_SOURCE /* TIOCGWINSZ */
#include "kd/log.h"

#include "base/log_internal.h"
#include "base/text_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WIPE_LINE "\r\033[K"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *program_name; /* NULL: nothing is printed */
static enum kd_log_level top_level = KD_LOG_INFO;
static bool bar_stands;

void kd_log_open(const char *program, enum kd_log_level level)
{
    pthread_mutex_lock(&lock);
    program_name = program;
    top_level = level;
    pthread_mutex_unlock(&lock);
}

bool kd_log_enabled(enum kd_log_level level)
{
    bool enabled = false;

    pthread_mutex_lock(&lock);
    enabled = program_name != NULL && level <= top_level;
    pthread_mutex_unlock(&lock);
    return enabled;
}

void kd_log(enum kd_log_level level, const char *format, ...)
{
    int cause = errno; /* a log line in between must not change what follows */
    char text[8192];
    va_list arguments;

    if (!kd_log_enabled(level))
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    kd_text_one_line(text);
    pthread_mutex_lock(&lock);
    fprintf(stderr, "%s%s: %s\n", bar_stands ? WIPE_LINE : "", program_name, text);
    bar_stands = false;
    fflush(stderr);
    pthread_mutex_unlock(&lock);
    errno = cause;
}

void kd_log_bar(const char *text)
{
    pthread_mutex_lock(&lock);
    fprintf(stderr, WIPE_LINE "%s", text);
    fflush(stderr);
    bar_stands = true;
    pthread_mutex_unlock(&lock);
}

void kd_log_bar_clear(void)
{
    pthread_mutex_lock(&lock);
    if (bar_stands) {
        fputs(WIPE_LINE, stderr);
        fflush(stderr);
    }
    bar_stands = false;
    pthread_mutex_unlock(&lock);
}

const char *kd_log_program(void)
{
    const char *name = NULL;

    pthread_mutex_lock(&lock);
    name = program_name;
    pthread_mutex_unlock(&lock);
    return name == NULL ? "" : name;
}

bool kd_log_terminal(void)
{
    const char *terminal = getenv("TERM");

    return isatty(STDERR_FILENO) && terminal != NULL && *terminal != '\0' &&
           strcmp(terminal, "dumb") != 0;
}

bool kd_log_colours(void)
{
    const char *refused = getenv("NO_COLOR");

    return kd_log_terminal() && (refused == NULL || *refused == '\0');
}

int kd_log_columns(void)
{
    struct winsize size = {0};

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return 80;
    return size.ws_col;
}
