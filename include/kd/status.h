/* SPDX-License-Identifier: MIT */
/*
 * Status and errors: what every function of the library returns, and how it
 * says why.
 *
 * A function that can fail returns an enum kd_status. When it is not KD_OK, a
 * message with the whole cause is left in a thread-local buffer; the program
 * prints it once, at its end. Nothing in the library prints or exits.
 *
 *     enum kd_status load(const char *path)
 *     {
 *         enum kd_status status = KD_EBUG;      (starts as failure)
 *         int fd = -1;
 *
 *         fd = open(path, O_RDONLY);
 *         if (fd < 0) {
 *             status = kd_fail_errno(KD_ENOINPUT, "%s: cannot open", path);
 *             goto out;
 *         }
 *         KD_TRY(read_header(fd, path));        (goes to out on failure)
 *         status = KD_OK;
 *     out:
 *         if (fd >= 0)
 *             close(fd);
 *         return status;
 *     }
 *
 * A message is one line without a full stop: "FILE: what is wrong: why". It
 * says what the user can do where there is something to do.
 */
#ifndef KD_STATUS_H
#define KD_STATUS_H

#include <stddef.h>

/* The value of a status is the exit code of a program that ends with it. */
#define KD_STATUS_TABLE(X)                                                             \
    X(KD_OK, 0, "done")                                                                \
    X(KD_WANTING, 1, "checked and found wanting")                                      \
    X(KD_EUSAGE, 64, "wrong usage")                                                    \
    X(KD_EDATA, 65, "bad data")                                                        \
    X(KD_ENOINPUT, 66, "no such input")                                                \
    X(KD_EBUG, 70, "a bug in the program")                                             \
    X(KD_EMEMORY, 71, "out of memory")                                                 \
    X(KD_ECREATE, 73, "cannot create an output")                                       \
    X(KD_EIO, 74, "input or output failed")                                            \
    X(KD_EINTERRUPTED, 75, "interrupted; run the same command again to go on")         \
    X(KD_ERECIPE, 78, "bad recipe or configuration")

#define KD_STATUS_ENUM(name, value, text) name = value,
enum kd_status { KD_STATUS_TABLE(KD_STATUS_ENUM) };
#undef KD_STATUS_ENUM

#define KD_CHECKED             __attribute__((warn_unused_result))
#define KD_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* Calls, and on failure leaves its status in `status` and goes to `out`. */
#define KD_TRY(call)                                                                   \
    do {                                                                               \
        status = (call);                                                               \
        if (status != KD_OK)                                                           \
            goto out;                                                                  \
    } while (0)

/* Sets this thread's message and returns `status`, for `return kd_fail(...)`. */
enum kd_status kd_fail(enum kd_status status, const char *format, ...) KD_PRINTF(2, 3);

/* The same, with ": " and the text of errno behind the message. */
enum kd_status kd_fail_errno(enum kd_status status, const char *format, ...)
    KD_PRINTF(2, 3);

/* Puts context in front of the message that is there: "a.h5: " + message. The ": "
 * is added where the format does not end in a space. */
void kd_error_prefix(const char *format, ...) KD_PRINTF(1, 2);

/* This thread's last message, "" if none. Valid until the next kd_fail. */
const char *kd_error(void);

/* A status's meaning in a few words, for help texts. Never NULL. */
const char *kd_status_text(enum kd_status status);

#endif
