/* SPDX-License-Identifier: MIT */
/* Errors: one message a thread, and the meaning of each status. */
#include "kd/status.h"

#include "base/text_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A path may take 4096 bytes, and a message says more than a path. */
#define MESSAGE_SIZE 6144

static _Thread_local char message[MESSAGE_SIZE];

/* Appends to a text of *length bytes; where it does not fit, ends it in "...". */
static void append(char *text, size_t *length, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

static void append(char *text, size_t *length, const char *format, va_list arguments)
{
    size_t room = MESSAGE_SIZE - *length;
    int written = vsnprintf(text + *length, room, format, arguments);

    if (written < 0) {
        text[*length] = '\0';
        return;
    }
    if ((size_t)written < room) {
        *length += (size_t)written;
        return;
    }
    *length = MESSAGE_SIZE - 1;
    memcpy(text + MESSAGE_SIZE - 4, "...", 4);
}

static void append_text(char *text, size_t *length, const char *format, ...)
    KD_PRINTF(3, 4);

static void append_text(char *text, size_t *length, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    append(text, length, format, arguments);
    va_end(arguments);
}

/* The new text is built aside: its arguments may point into the old one. */
static void replace_message(char *text)
{
    kd_text_one_line(text);
    memcpy(message, text, strlen(text) + 1);
}

enum kd_status kd_fail(enum kd_status status, const char *format, ...)
{
    char text[MESSAGE_SIZE] = "";
    size_t length = 0;
    va_list arguments;

    va_start(arguments, format);
    append(text, &length, format, arguments);
    va_end(arguments);
    replace_message(text);
    return status;
}

enum kd_status kd_fail_errno(enum kd_status status, const char *format, ...)
{
    int cause = errno;
    char text[MESSAGE_SIZE] = "";
    char reason[256] = "";
    size_t length = 0;
    va_list arguments;

    va_start(arguments, format);
    append(text, &length, format, arguments);
    va_end(arguments);
    if (strerror_r(cause, reason, sizeof reason) != 0)
        snprintf(reason, sizeof reason, "error %d", cause);
    append_text(text, &length, ": %s", reason);
    replace_message(text);
    errno = cause;
    return status;
}

void kd_error_prefix(const char *format, ...)
{
    char text[MESSAGE_SIZE] = "";
    size_t length = 0;
    va_list arguments;

    va_start(arguments, format);
    append(text, &length, format, arguments);
    va_end(arguments);
    if (length > 0 && text[length - 1] != ' ')
        append_text(text, &length, ": ");
    append_text(text, &length, "%s", message);
    replace_message(text);
}

const char *kd_error(void)
{
    return message;
}

const char *kd_status_text(enum kd_status status)
{
    switch (status) {
#define STATUS_CASE(name, value, text)                                                 \
    case name:                                                                         \
        return text;
        KD_STATUS_TABLE(STATUS_CASE)
#undef STATUS_CASE
    }
    return "an unknown status";
}
