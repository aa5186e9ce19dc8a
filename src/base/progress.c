/* SPDX-License-Identifier: MIT */
/* Progress and interruption: a bar or a line now and then, and three signals. */
#include "kd/progress.h"

#include "base/log_internal.h"
#include "kd/log.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Seconds between two drawings of the bar, and between two lines. */
#define BAR_PERIOD  0.2
#define FIRST_LINE  10
#define LINE_PERIOD 30

/* Below this many columns the bar itself is left out. */
#define LEAST_BAR 10
#define MOST_BAR  40

#define NEVER (-1.0)

static atomic_int asked_to_stop;

double kd_seconds(void)
{
    struct timespec now = {0};

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void kd_duration_text(double seconds, char text[KD_DURATION_TEXT])
{
    const unsigned long whole = (unsigned long)(seconds + 0.5);

    if (seconds < 60)
        snprintf(text, KD_DURATION_TEXT, "%.1f s", seconds);
    else if (seconds < 3600)
        snprintf(text, KD_DURATION_TEXT, "%lu min %02lu s", whole / 60, whole % 60);
    else
        snprintf(text, KD_DURATION_TEXT, "%lu h %02lu min", whole / 3600,
                 whole / 60 % 60);
}

void kd_progress_open(struct kd_progress *progress, const char *what, const char *unit,
                      uint64_t total)
{
    *progress = (struct kd_progress){.what = what,
                                     .unit = unit,
                                     .total = total,
                                     .started = kd_seconds(),
                                     .shown = NEVER};
}

void kd_progress_resume(struct kd_progress *progress, uint64_t done)
{
    progress->first = done;
    progress->done = done;
    progress->started = kd_seconds();
}

/* 0.512, 51.2, 512, 5.12k, 51.2M: three digits and a unit of thousands. */
static void format_count(double count, char text[16])
{
    static const char units[] = " kMGT";
    size_t unit = 0;
    int decimals = 0;

    while (count >= 999.5 && unit < 4) {
        count /= 1000;
        unit++;
    }
    if (floor(count) != count)
        decimals = count < 0.9995 ? 3 : count < 9.995 ? 2 : count < 99.95 ? 1 : 0;
    if (unit == 0)
        snprintf(text, 16, "%.*f", decimals, count);
    else
        snprintf(text, 16, "%.*f%c", decimals, count, units[unit]);
}

/* Counts are exact up to seven digits. */
static void format_whole(uint64_t count, char text[16])
{
    if (count < 10000000)
        snprintf(text, 16, "%" PRIu64, count);
    else
        format_count((double)count, text);
}

/* 0:07, 12:34, 1:02:03, and days where it is that bad. */
static void format_time(double seconds, char text[24])
{
    double most = 99.0 * 86400;
    uint64_t whole = (uint64_t)(seconds < most ? seconds + 0.5 : most);
    unsigned minutes = (unsigned)(whole / 60 % 60);
    unsigned hours = (unsigned)(whole / 3600 % 24);
    unsigned days = (unsigned)(whole / 86400);

    if (days > 0)
        snprintf(text, 24, "%ud %u:%02uh", days, hours, minutes);
    else if (hours > 0)
        snprintf(text, 24, "%u:%02u:%02u", hours, minutes, (unsigned)(whole % 60));
    else
        snprintf(text, 24, "%u:%02u", minutes, (unsigned)(whole % 60));
}

/* Units a second of this run; 0 as long as nothing can be said. */
static double rate_of(const struct kd_progress *progress, double now)
{
    double seconds = now - progress->started;

    if (progress->done <= progress->first || seconds <= 0)
        return 0;
    return (double)(progress->done - progress->first) / seconds;
}

static double fraction_of(const struct kd_progress *progress)
{
    if (progress->total == 0)
        return 0;
    if (progress->done >= progress->total)
        return 1;
    return (double)progress->done / (double)progress->total;
}

/* "21000/50000 samples, 3.2k/s, 0:09 left" */
static void format_state(const struct kd_progress *progress, double now, char *text,
                         size_t size)
{
    double rate = rate_of(progress, now);
    char done[16], total[18] = "", speed[24] = "", left[40] = "";

    format_whole(progress->done, done);
    if (progress->total > 0) {
        total[0] = '/';
        format_whole(progress->total, total + 1);
    }
    if (rate > 0) {
        memcpy(speed, ", ", 3);
        format_count(rate, speed + 2);
        memcpy(speed + strlen(speed), "/s", 3);
    }
    if (rate > 0 && progress->total > progress->done) {
        char time[24];
        format_time((double)(progress->total - progress->done) / rate, time);
        snprintf(left, sizeof left, ", %s left", time);
    }
    snprintf(text, size, "%s%s %s%s%s", done, total, progress->unit, speed, left);
}

/* " 42 %" where the total is known. */
static void format_percent(const struct kd_progress *progress, char text[16])
{
    text[0] = '\0';
    if (progress->total > 0) /* rounded down: 100 is for what is done */
        snprintf(text, 16, " %d %%", (int)(fraction_of(progress) * 100));
}

/* " [=====     ]", the filled part green where colours are welcome. */
static void format_bar(double fraction, size_t width, char *text, size_t size)
{
    static const char filled[] = "========================================";
    bool colours = kd_log_colours();
    int full = (int)(fraction * (double)width);
    int rest = (int)width - full;

    _Static_assert(sizeof filled == MOST_BAR + 1, "one character a column");
    snprintf(text, size, " [%s%.*s%s%*s]", colours ? "\033[32m" : "", full, filled,
             colours ? "\033[0m" : "", rest, "");
}

static void draw_bar(const struct kd_progress *progress, double now)
{
    char state[160], percent[16], bar[MOST_BAR + 32] = "", line[512];
    size_t columns = (size_t)kd_log_columns() - 1; /* the last one may wrap */
    size_t taken = 0;

    format_state(progress, now, state, sizeof state);
    format_percent(progress, percent);
    taken = strlen(kd_log_program()) + 2 + strlen(progress->what) + strlen(percent) +
            3 + 1 + strlen(state);
    if (progress->total > 0 && taken + LEAST_BAR <= columns) {
        size_t width = columns - taken < MOST_BAR ? columns - taken : MOST_BAR;
        format_bar(fraction_of(progress), width, bar, sizeof bar);
        columns += strlen(bar) - width - 3; /* colours take no room */
    }
    snprintf(line, sizeof line, "%s: %s%s%s %s", kd_log_program(), progress->what,
             percent, bar, state);
    if (strlen(line) > columns)
        line[columns] = '\0';
    kd_log_bar(line);
}

static void log_line(const struct kd_progress *progress, double now)
{
    char state[160], percent[16];

    format_state(progress, now, state, sizeof state);
    format_percent(progress, percent);
    kd_log(KD_LOG_INFO, "%s:%s%s %s", progress->what, percent, percent[0] ? "," : "",
           state);
}

void kd_progress_set(struct kd_progress *progress, uint64_t done)
{
    double now = kd_seconds();
    bool first = progress->shown < 0;

    progress->done = done;
    if (kd_log_terminal()) {
        if ((first || now - progress->shown >= BAR_PERIOD) &&
            kd_log_enabled(KD_LOG_INFO)) {
            draw_bar(progress, now);
            progress->shown = now;
        }
    } else if (first ? now - progress->started >= FIRST_LINE
                     : now - progress->shown >= LINE_PERIOD) {
        log_line(progress, now);
        progress->shown = now;
    }
}

void kd_progress_close(struct kd_progress *progress)
{
    double seconds = kd_seconds() - progress->started;
    double rate = rate_of(progress, progress->started + seconds);
    char speed[16];

    kd_log_bar_clear();
    format_count(rate, speed);
    kd_log(KD_LOG_DETAIL, "%s: %" PRIu64 " %s in %.1f s, %s/s", progress->what,
           progress->done - progress->first, progress->unit, seconds, speed);
}

/* The first asks the program to stop; the second does what the signal does. */
static void take_signal(int number)
{
    if (atomic_exchange(&asked_to_stop, 1) != 0) {
        signal(number, SIG_DFL);
        raise(number);
    }
}

/* Not SIG_IGN, which a child process would inherit. */
static void take_no_signal(int number)
{
    (void)number;
}

/* A signal that is ignored stays so: nohup, or a job in the background. */
static void catch_signal(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler}, old;

    sigemptyset(&action.sa_mask);
    if (sigaction(number, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
        sigaction(number, &action, NULL);
}

void kd_catch_signals(void)
{
    catch_signal(SIGINT, take_signal);
    catch_signal(SIGTERM, take_signal);
    catch_signal(SIGPIPE, take_no_signal);
}

bool kd_interrupted(void)
{
    return atomic_load(&asked_to_stop) != 0;
}

enum kd_status kd_fail_interrupted(const char *what)
{
    return kd_fail(KD_EINTERRUPTED,
                   "%s: interrupted; run the same command again to go on", what);
}
