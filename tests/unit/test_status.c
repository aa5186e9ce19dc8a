/* SPDX-License-Identifier: MIT */
/* Status: the message of a thread, and what exit codes mean. */
#include "kd/status.h"

#include "kd/version.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void a_failure_leaves_its_message(void **state)
{
    (void)state;
    assert_int_equal(kd_fail(KD_EDATA, "%s: row %d: not finite", "a.h5", 7), KD_EDATA);
    assert_string_equal(kd_error(), "a.h5: row 7: not finite");
}

static void the_text_of_errno_stands_behind(void **state)
{
    (void)state;
    errno = ENOSPC;
    assert_int_equal(kd_fail_errno(KD_EIO, "a.h5: cannot write"), KD_EIO);
    assert_string_equal(kd_error(), "a.h5: cannot write: No space left on device");
    assert_int_equal(errno, ENOSPC);
}

static void context_goes_in_front(void **state)
{
    (void)state;
    (void)kd_fail(KD_EDATA, "truncated");
    kd_error_prefix("row %d", 3);
    kd_error_prefix("%s: ", "a.h5");
    assert_string_equal(kd_error(), "a.h5: row 3: truncated");
}

static void a_message_may_quote_the_one_before(void **state)
{
    (void)state;
    (void)kd_fail(KD_EDATA, "inner");
    (void)kd_fail(KD_EDATA, "outer: %s", kd_error());
    assert_string_equal(kd_error(), "outer: inner");
}

static void a_message_is_one_printable_line(void **state)
{
    (void)state;
    (void)kd_fail(KD_EDATA, "a\nb\033[2Jc\x7f");
    assert_string_equal(kd_error(), "a b?[2Jc?");
}

static void a_message_that_is_too_long_ends_in_dots(void **state)
{
    char *text = malloc(20001);

    (void)state;
    assert_non_null(text);
    memset(text, 'x', 20000);
    text[20000] = '\0';
    (void)kd_fail(KD_EDATA, "%s", text);
    size_t length = strlen(kd_error());
    assert_in_range(length, 4096, 19999);
    assert_string_equal(kd_error() + length - 4, "x...");
    kd_error_prefix("more");
    assert_memory_equal(kd_error(), "more: xxx", 9);
    assert_string_equal(kd_error() + strlen(kd_error()) - 3, "...");
    free(text);
}

static void *fail_elsewhere(void *unused)
{
    (void)unused;
    if (*kd_error() != '\0')
        return (void *)"a new thread has a message";
    (void)kd_fail(KD_EIO, "theirs");
    return NULL;
}

static void each_thread_has_its_own(void **state)
{
    pthread_t thread;
    void *wrong = NULL;

    (void)state;
    (void)kd_fail(KD_EDATA, "ours");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    assert_int_equal(pthread_join(thread, &wrong), 0);
    assert_null(wrong);
    assert_string_equal(kd_error(), "ours");
}

static enum kd_status try_it(enum kd_status result, bool *reached)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(result);
    *reached = true;
    status = KD_OK;
out:
    return status;
}

static void try_goes_out_with_the_status(void **state)
{
    bool reached = false;

    (void)state;
    assert_int_equal(try_it(KD_EIO, &reached), KD_EIO);
    assert_false(reached);
    assert_int_equal(try_it(KD_OK, &reached), KD_OK);
    assert_true(reached);
}

static void every_status_has_a_meaning(void **state)
{
    (void)state;
    assert_string_equal(kd_status_text(KD_OK), "done");
    assert_string_equal(kd_status_text(KD_EDATA), "bad data");
    assert_non_null(strstr(kd_status_text(KD_EINTERRUPTED), "interrupted"));
    assert_string_equal(kd_status_text((enum kd_status)99), "an unknown status");
}

static void the_version_is_a_text(void **state)
{
    (void)state;
    assert_true(strlen(kd_version()) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_leaves_its_message),
        cmocka_unit_test(the_text_of_errno_stands_behind),
        cmocka_unit_test(context_goes_in_front),
        cmocka_unit_test(a_message_may_quote_the_one_before),
        cmocka_unit_test(a_message_is_one_printable_line),
        cmocka_unit_test(a_message_that_is_too_long_ends_in_dots),
        cmocka_unit_test(each_thread_has_its_own),
        cmocka_unit_test(try_goes_out_with_the_status),
        cmocka_unit_test(every_status_has_a_meaning),
        cmocka_unit_test(the_version_is_a_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
