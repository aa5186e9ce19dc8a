/* SPDX-License-Identifier: MIT */
/* Threads: OpenMP's pool, and loops over ranges that keep the first error. */
#define _GNU_SOURCE /* sched_getaffinity, CPU_ALLOC, program_invocation_name */
#include "kd/thread.h"

#include <errno.h>
#include <limits.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* OpenMP's own setting belongs to the thread that made it; this one to all. */
static atomic_size_t chosen; /* 0: not set yet */
static _Thread_local bool alone;

/* A sleeping thread takes 27 us to wake, so a waiting one first spins for a few us,
 * which most gaps within a step are shorter than: a ResNet-8 trains 10 % faster, and
 * two of them at once as fast as without. With 1000 both lose 7 %. */
#define SPINS "300"

/* How many of at most `limit` processors the process may run on; 0 if the
 * system has more of them. */
static size_t count_processors(size_t limit)
{
    cpu_set_t *set = CPU_ALLOC(limit);
    size_t size = CPU_ALLOC_SIZE(limit);
    size_t count = 0;

    if (set == NULL)
        return 0;
    CPU_ZERO_S(size, set);
    if (sched_getaffinity(0, size, set) == 0)
        count = (size_t)CPU_COUNT_S(size, set);
    CPU_FREE(set);
    return count;
}

static size_t usable_processors(void)
{
    for (size_t limit = 1024; limit <= (size_t)1 << 20; limit *= 2) {
        size_t count = count_processors(limit);
        if (count > 0)
            return count;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (size_t)online : 1;
}

void kd_threads_share(char **argv)
{
    char path[PATH_MAX];
    ssize_t length;

    if (argv[0] != program_invocation_name || getenv("OMP_WAIT_POLICY") != NULL ||
        getenv("GOMP_SPINCOUNT") != NULL)
        return;
    length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0 || setenv("OMP_WAIT_POLICY", "passive", 1) != 0 ||
        setenv("GOMP_SPINCOUNT", SPINS, 1) != 0 || setenv(KD_SHARES_CORES, "1", 1) != 0)
        return;
    path[length] = '\0';
    execv(path, argv);
    /* Where that is not possible, the program is only slower beside others. */
}

void kd_threads_set(size_t count)
{
    if (count == 0)
        count = usable_processors();
    if (count > INT_MAX)
        count = INT_MAX;
    atomic_store(&chosen, count);
    omp_set_num_threads((int)count);
}

size_t kd_threads(void)
{
    size_t count = alone ? 1 : atomic_load(&chosen);

    return count > 0 ? count : (size_t)omp_get_max_threads();
}

void kd_threads_alone(void)
{
    alone = true;
}

/* Whether threads sleep as soon as they wait. */
static bool threads_sleep(void)
{
    const char *spins = getenv("GOMP_SPINCOUNT"), *policy = getenv("OMP_WAIT_POLICY");

    if (spins != NULL)
        return strcmp(spins, "0") == 0;
    return policy != NULL && strcasecmp(policy, "passive") == 0;
}

size_t kd_threads_grain(double nanoseconds)
{
    static atomic_int answer; /* 0: not asked yet; 1: awake; 2: they sleep */

    if (atomic_load(&answer) == 0)
        atomic_store(&answer, threads_sleep() ? 2 : 1);
    /* Twice what waking an idle thread was measured to take; asleep, as long. */
    return (size_t)((atomic_load(&answer) == 2 ? 30e3 : 2.5e3) / nanoseconds) + 1;
}

/* The failure of the lowest range so far. */
struct failure {
    size_t range;
    enum kd_status status;
    char message[6144];
};

static void keep_failure(struct failure *kept, size_t range, enum kd_status status)
{
#pragma omp critical(kd_parallel_failure)
    if (kept->status == KD_OK || range < kept->range) {
        kept->range = range;
        kept->status = status;
        snprintf(kept->message, sizeof kept->message, "%s", kd_error());
    }
}

enum kd_status kd_parallel(size_t count, size_t grain,
                           enum kd_status (*body)(void *context, size_t begin,
                                                  size_t end),
                           void *context)
{
    size_t ranges = count / (grain > 0 ? grain : 1);
    struct failure failure = {.status = KD_OK};

    if (count == 0)
        return KD_OK;
    if (ranges > kd_threads())
        ranges = kd_threads();
    if (ranges <= 1)
        return body(context, 0, count);

    size_t size = count / ranges, larger = count % ranges;
#pragma omp parallel for num_threads((int)ranges) schedule(static, 1)
    for (size_t i = 0; i < ranges; i++) {
        size_t begin = i * size + (i < larger ? i : larger);
        size_t end = begin + size + (i < larger ? 1 : 0);
        enum kd_status status = body(context, begin, end);

        if (status != KD_OK)
            keep_failure(&failure, i, status);
    }
    if (failure.status != KD_OK)
        return kd_fail(failure.status, "%s", failure.message);
    return KD_OK;
}

/* Whether a range before this one has failed already: then its result is of no use. */
static bool is_behind_failure(struct failure *kept, size_t range)
{
    bool behind;

#pragma omp critical(kd_parallel_failure)
    behind = kept->status != KD_OK && kept->range < range;
    return behind;
}

enum kd_status kd_parallel_shares(size_t count, size_t share,
                                  enum kd_status (*body)(void *context, size_t worker,
                                                         size_t begin, size_t end),
                                  void *context)
{
    const size_t size = share > 0 ? share : 1,
                 ranges = count / size + (count % size > 0);
    const size_t threads = ranges < kd_threads() ? ranges : kd_threads();
    struct failure failure = {.status = KD_OK};

    if (count == 0)
        return KD_OK;
#pragma omp parallel for num_threads((int)threads) schedule(dynamic, 1) if (threads > 1)
    for (size_t i = 0; i < ranges; i++) {
        const size_t begin = i * size;
        const size_t end = count - begin < size ? count : begin + size;
        enum kd_status status = KD_OK;

        if (!is_behind_failure(&failure, i))
            status = body(context, (size_t)omp_get_thread_num(), begin, end);
        if (status != KD_OK)
            keep_failure(&failure, i, status);
    }
    if (failure.status != KD_OK)
        return kd_fail(failure.status, "%s", failure.message);
    return KD_OK;
}
