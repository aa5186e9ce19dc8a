/* SPDX-License-Identifier: MIT */
/* Threads: ranges cover everything once, and the first failure is the one told. */
#include "kd/thread.h"

#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT 1000

struct visits {
    int seen[COUNT];
    int calls;
    size_t smallest;
};

static enum kd_status count_visits(void *context, size_t begin, size_t end)
{
    struct visits *visits = context;

    for (size_t i = begin; i < end; i++)
        visits->seen[i]++;
#pragma omp critical
    {
        visits->calls++;
        if (end - begin < visits->smallest)
            visits->smallest = end - begin;
    }
    return KD_OK;
}

static void every_index_is_visited_once(void **state)
{
    (void)state;
    for (size_t threads = 1; threads <= 7; threads++)
        for (size_t count = 0; count <= COUNT; count = count * 3 + 1) {
            struct visits visits = {.smallest = SIZE_MAX};
            kd_threads_set(threads);
            assert_int_equal(kd_parallel(count, 1, count_visits, &visits), KD_OK);
            for (size_t i = 0; i < COUNT; i++)
                assert_int_equal(visits.seen[i], i < count);
            assert_int_equal(visits.calls, count < threads ? count : threads);
        }
}

static void no_range_is_smaller_than_the_grain(void **state)
{
    (void)state;
    kd_threads_set(8);
    for (size_t grain = 0; grain < 1300; grain = grain * 2 + 1) {
        struct visits visits = {.smallest = SIZE_MAX};
        assert_int_equal(kd_parallel(COUNT, grain, count_visits, &visits), KD_OK);
        assert_true(visits.smallest >= (grain < COUNT ? grain : COUNT));
    }
}

static enum kd_status fail_from(void *context, size_t begin, size_t end)
{
    size_t first = *(size_t *)context;

    if (end <= first)
        return KD_OK;
    return kd_fail(begin <= first ? KD_EDATA : KD_EIO, "index %zu",
                   begin > first ? begin : first);
}

static void the_first_failure_in_order_is_told(void **state)
{
    (void)state;
    kd_threads_set(4);
    for (size_t first = 0; first < COUNT; first += 37) {
        assert_int_equal(kd_parallel(COUNT, 1, fail_from, &first), KD_EDATA);
        char text[32];
        snprintf(text, sizeof text, "index %zu", first);
        assert_string_equal(kd_error(), text);
    }
}

struct shares {
    struct visits visits;
    size_t largest;
    int busy[8]; /* calls that a worker is in */
};

static enum kd_status take_share(void *context, size_t worker, size_t begin, size_t end)
{
    struct shares *shares = context;

    assert_true(worker < kd_threads());
    assert_int_equal(shares->busy[worker]++, 0);
    for (size_t i = begin; i < end; i++)
        shares->visits.seen[i]++;
#pragma omp critical
    {
        shares->visits.calls++;
        shares->largest = end - begin > shares->largest ? end - begin : shares->largest;
    }
    shares->busy[worker]--;
    return KD_OK;
}

static void shares_cover_everything_once(void **state)
{
    static const size_t sizes[] = {0, 1, 7, 999, 1000, 5000};

    (void)state;
    for (size_t threads = 1; threads <= 7; threads += 3)
        for (size_t i = 0; i < 6; i++)
            for (size_t count = 0; count <= COUNT; count = count * 3 + 1) {
                const size_t size = sizes[i] > 0 ? sizes[i] : 1;
                struct shares shares = {.largest = 0};

                kd_threads_set(threads);
                assert_int_equal(
                    kd_parallel_shares(count, sizes[i], take_share, &shares), KD_OK);
                for (size_t j = 0; j < COUNT; j++)
                    assert_int_equal(shares.visits.seen[j], j < count);
                assert_int_equal(shares.visits.calls, (count + size - 1) / size);
                assert_true(shares.largest <= size);
            }
}

static enum kd_status fail_share(void *context, size_t worker, size_t begin, size_t end)
{
    (void)worker;
    return fail_from(context, begin, end);
}

static void the_first_share_that_fails_is_told(void **state)
{
    (void)state;
    kd_threads_set(4);
    for (size_t first = 0; first < COUNT; first += 37) {
        char text[32];

        assert_int_equal(kd_parallel_shares(COUNT, 10, fail_share, &first), KD_EDATA);
        snprintf(text, sizeof text, "index %zu", first);
        assert_string_equal(kd_error(), text);
    }
}

static enum kd_status go_deeper(void *context, size_t begin, size_t end)
{
    (void)begin;
    (void)end;
    return kd_parallel(COUNT, 1, fail_from, context);
}

static void loops_may_be_nested(void **state)
{
    size_t first = 500;

    (void)state;
    kd_threads_set(3);
    assert_int_equal(kd_parallel(3, 1, go_deeper, &first), KD_EDATA);
    assert_string_equal(kd_error(), "index 500");
}

static void the_number_is_what_was_set(void **state)
{
    (void)state;
    assert_true(kd_threads() >= 1);
    kd_threads_set(3);
    assert_int_equal(kd_threads(), 3);
    assert_int_equal(omp_get_max_threads(), 3);
    kd_threads_set(0);
    assert_in_range(kd_threads(), 1, (size_t)sysconf(_SC_NPROCESSORS_CONF));
    assert_int_equal(kd_threads(), omp_get_num_procs());
}

/* The answer holds for the process: threads that sleep are asked for in a child. */
static void sleeping_threads_are_given_more(void **state)
{
    const size_t short_work = kd_threads_grain(10), long_work = kd_threads_grain(1e9);
    int result = 0;

    (void)state;
    assert_int_equal(long_work, 1);
    assert_true(short_work > 100);
    pid_t child = fork();
    if (child == 0) {
        setenv("OMP_WAIT_POLICY", "PASSIVE", 1);
        unsetenv("GOMP_SPINCOUNT");
        execl("/proc/self/exe", "test_thread", "grain", (char *)NULL);
        _exit(2);
    }
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result) && WEXITSTATUS(result) == 0);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "grain") == 0)
        return kd_threads_grain(10) == 3001 ? 0 : 1;

    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sleeping_threads_are_given_more),
        cmocka_unit_test(the_number_is_what_was_set),
        cmocka_unit_test(every_index_is_visited_once),
        cmocka_unit_test(no_range_is_smaller_than_the_grain),
        cmocka_unit_test(the_first_failure_in_order_is_told),
        cmocka_unit_test(shares_cover_everything_once),
        cmocka_unit_test(the_first_share_that_fails_is_told),
        cmocka_unit_test(loops_may_be_nested),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
