/* SPDX-License-Identifier: MIT */
/* Children: whatever becomes of one, this process learns it and goes on. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "kd/child.h"

#include "kd/memory.h"
#include "kd/progress.h"
#include "kd/thread.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include <cmocka.h>

/* What became of up to 64 children. */
struct notes {
    int ended;
    struct {
        enum kd_child_end end;
        int signal;
        enum kd_status status;
        char error[256];
        char *data;
        size_t size;
    } of[64];
};

static enum kd_status note(void *context, size_t index,
                           const struct kd_child_result *result)
{
    struct notes *notes = context;

    assert_true(index < 64);
    notes->ended++;
    notes->of[index].end = result->end;
    notes->of[index].signal = result->signal;
    notes->of[index].status = result->status;
    snprintf(notes->of[index].error, sizeof notes->of[index].error, "%s",
             result->error);
    notes->of[index].data = malloc(result->size + 1);
    assert_non_null(notes->of[index].data);
    if (result->size > 0)
        memcpy(notes->of[index].data, result->data, result->size);
    notes->of[index].data[result->size] = '\0';
    notes->of[index].size = result->size;
    return KD_OK;
}

static void forget(struct notes *notes)
{
    for (size_t i = 0; i < 64; i++)
        free(notes->of[i].data);
    *notes = (struct notes){0};
}

static enum kd_status run(size_t count, size_t at_once,
                          enum kd_status (*body)(void *, size_t, struct kd_child *),
                          struct kd_child_limits limits, struct notes *notes)
{
    const struct kd_children children = {.what = "a test",
                                         .count = count,
                                         .at_once = at_once,
                                         .limits = limits,
                                         .body = body,
                                         .ended = note,
                                         .context = notes};

    return kd_children_run(&children);
}

/* Sends more the higher the index, far beyond what a pipe holds. */
static enum kd_status send_much(void *context, size_t index, struct kd_child *child)
{
    (void)context;
    for (size_t i = 0; i < index * 1000; i++) {
        const uint64_t value = index * 1000000 + i;
        enum kd_status status = kd_child_send(child, &value, sizeof value);
        if (status != KD_OK)
            return status;
    }
    return KD_OK;
}

static void what_they_send_arrives_whole(void **state)
{
    struct notes notes = {0};

    (void)state;
    for (size_t at_once = 0; at_once < 6; at_once++) {
        assert_int_equal(
            run(20, at_once, send_much, (struct kd_child_limits){0}, &notes), KD_OK);
        assert_int_equal(notes.ended, 20);
        for (size_t i = 0; i < 20; i++) {
            assert_int_equal(notes.of[i].end, KD_CHILD_RETURNED);
            assert_int_equal(notes.of[i].status, KD_OK);
            assert_string_equal(notes.of[i].error, "");
            assert_int_equal(notes.of[i].size, i * 8000);
            for (size_t j = 0; j < i * 1000; j++) {
                uint64_t value = 0;
                memcpy(&value, notes.of[i].data + 8 * j, 8);
                assert_int_equal(value, i * 1000000 + j);
            }
        }
        forget(&notes);
    }
    assert_int_equal(run(0, 3, send_much, (struct kd_child_limits){0}, &notes), KD_OK);
    assert_int_equal(notes.ended, 0);
}

static enum kd_status fail_in_words(void *context, size_t index, struct kd_child *child)
{
    (void)context;
    if (kd_child_send(child, "before", 6) != KD_OK)
        return KD_EBUG;
    return kd_fail(KD_EDATA, "number %zu is bad", index);
}

static void a_failure_arrives_with_its_message(void **state)
{
    struct notes notes = {0};

    (void)state;
    assert_int_equal(run(2, 1, fail_in_words, (struct kd_child_limits){0}, &notes),
                     KD_OK);
    assert_int_equal(notes.of[1].end, KD_CHILD_RETURNED);
    assert_int_equal(notes.of[1].status, KD_EDATA);
    assert_string_equal(notes.of[1].error, "number 1 is bad");
    assert_string_equal(notes.of[1].data, "before");
    assert_int_equal(notes.of[1].size, 6);
    forget(&notes);
}

static enum kd_status end_badly(void *context, size_t index, struct kd_child *child)
{
    const int signals[] = {SIGSEGV, SIGABRT, SIGFPE, SIGBUS, SIGKILL};

    (void)context;
    if (kd_child_send(child, "last words", 10) != KD_OK)
        return KD_EBUG;
    if (index < 5)
        raise(signals[index]);
    if (index == 5)
        _exit(0);
    if (index == 6) { /* an end that was not reached: a message of 2^32-1 bytes */
        if (kd_child_send(child, "\xff\xff\xff\xff", 4) != KD_OK)
            return KD_EBUG;
        _exit(0);
    }
    return KD_OK;
}

static void a_crash_is_a_result(void **state)
{
    struct notes notes = {0};

    (void)state;
    assert_int_equal(run(8, 3, end_badly, (struct kd_child_limits){0}, &notes), KD_OK);
    assert_int_equal(notes.ended, 8);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(notes.of[i].end, KD_CHILD_CRASHED);
        assert_int_equal(notes.of[i].status, KD_EBUG);
        assert_int_equal(strncmp(notes.of[i].data, "last words", 10), 0);
    }
    assert_int_equal(notes.of[0].signal, SIGSEGV);
    assert_int_equal(notes.of[1].signal, SIGABRT);
    assert_int_equal(notes.of[4].signal, SIGKILL);
    assert_int_equal(notes.of[5].signal, 0);
    assert_int_equal(notes.of[7].end, KD_CHILD_RETURNED);
    forget(&notes);
}

static enum kd_status take_forever(void *context, size_t index, struct kd_child *child)
{
    volatile uint64_t count = 0;

    (void)context;
    (void)child;
    while (index == 0)
        count++;
    return KD_OK;
}

static void one_that_hangs_is_ended(void **state)
{
    struct notes notes = {0};

    (void)state;
    assert_int_equal(
        run(2, 2, take_forever, (struct kd_child_limits){.seconds = 1}, &notes), KD_OK);
    assert_int_equal(notes.of[0].end, KD_CHILD_SLOW);
    assert_int_equal(notes.of[1].end, KD_CHILD_RETURNED);
    forget(&notes);
}

static enum kd_status take_room(void *context, size_t index, struct kd_child *child)
{
    const size_t size = index == 0 ? 1 << 20 : 1 << 28;
    void *room =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)context;
    (void)child;
    return room != MAP_FAILED ? KD_OK : kd_fail(KD_EMEMORY, "no room");
}

static void memory_has_its_limit(void **state)
{
    struct notes notes = {0};

    (void)state;
    assert_int_equal(
        run(2, 2, take_room, (struct kd_child_limits){.memory = 1 << 27}, &notes),
        KD_OK);
    assert_int_equal(notes.of[0].status, KD_OK);
    assert_int_equal(notes.of[1].status, KD_EMEMORY);
    forget(&notes);
}

static enum kd_status add_up(void *context, size_t begin, size_t end)
{
    *(size_t *)context += end - begin;
    return KD_OK;
}

/* The pool of threads does not survive a fork; a loop that used it would wait for
 * ever. */
static enum kd_status loop_in_parallel(void *context, size_t index,
                                       struct kd_child *child)
{
    size_t sum = 0;

    (void)context;
    (void)index;
    if (kd_parallel(1000, 1, add_up, &sum) != KD_OK || sum != 1000)
        return KD_EBUG;
    return kd_child_send(child, "", 0);
}

static void loops_work_in_children_of_a_parallel_process(void **state)
{
    static _Atomic size_t visited; /* so that the loop is not empty */
    struct notes notes = {0};
    size_t sum = 0;

    (void)state;
    kd_threads_set(1);
    assert_int_equal(kd_parallel(1000, 1, add_up, &sum), KD_OK);
    kd_threads_set(4);
#pragma omp parallel num_threads(4)
    visited++;
    assert_int_equal(
        run(3, 2, loop_in_parallel, (struct kd_child_limits){.seconds = 5}, &notes),
        KD_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(notes.of[i].end, KD_CHILD_RETURNED);
        assert_int_equal(notes.of[i].status, KD_OK);
    }
    forget(&notes);
}

static enum kd_status refuse(void *context, size_t index,
                             const struct kd_child_result *result)
{
    (void)result;
    ++*(int *)context;
    return kd_fail(KD_EIO, "not number %zu", index);
}

static void a_failure_of_the_receiver_ends_the_whole(void **state)
{
    int calls = 0;
    const struct kd_children children = {.what = "a test",
                                         .count = 50,
                                         .at_once = 1,
                                         .body = send_much,
                                         .ended = refuse,
                                         .context = &calls};

    (void)state;
    assert_int_equal(kd_children_run(&children), KD_EIO);
    assert_string_equal(kd_error(), "not number 0");
    assert_int_equal(calls, 1);
}

static enum kd_status wait_long(void *context, size_t index, struct kd_child *child)
{
    (void)context;
    (void)index;
    (void)child;
    kill(getppid(), SIGTERM);
    sleep(1000);
    return KD_OK;
}

/* Last, for the flag stays. */
static void a_signal_ends_the_whole(void **state)
{
    struct notes notes = {0};

    (void)state;
    kd_catch_signals();
    assert_int_equal(run(2, 1, wait_long, (struct kd_child_limits){0}, &notes),
                     KD_EINTERRUPTED);
    assert_string_equal(kd_error(),
                        "a test: interrupted; run the same command again to go on");
    assert_int_equal(notes.ended, 0);
    forget(&notes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_they_send_arrives_whole),
        cmocka_unit_test(a_failure_arrives_with_its_message),
        cmocka_unit_test(a_crash_is_a_result),
        cmocka_unit_test(one_that_hangs_is_ended),
        cmocka_unit_test(memory_has_its_limit),
        cmocka_unit_test(loops_work_in_children_of_a_parallel_process),
        cmocka_unit_test(a_failure_of_the_receiver_ends_the_whole),
        cmocka_unit_test(a_signal_ends_the_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
