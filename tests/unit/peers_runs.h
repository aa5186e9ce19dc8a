/* SPDX-License-Identifier: MIT */
/* Whole runs of networks that learn together, each in a process of its own. */
#ifndef PEERS_RUNS_H
#define PEERS_RUNS_H

#include "peers_fixture.h"

static inline enum kd_status count_path(void *context, const char *path)
{
    int *count = context;

    ++*count;
    return access(path, R_OK) == 0 ? KD_OK : kd_fail(KD_EBUG, "%s is not there", path);
}

/* What kd-peers does, in the child. */
static inline enum kd_status run_here(const char *directory,
                                      const char *const *arguments)
{
    struct bench b;
    enum kd_status status = parse_bench(&b, arguments);
    int count = 0;

    if (status == KD_OK)
        status = kd_peers_train(&b.recipe, directory, count_path, &count);
    if (status == KD_OK)
        assert_int_equal(count, b.recipe.count);
    close_bench(&b);
    return status;
}

#define RUN(name, at, ...)                                                             \
    run_apart(run_here, fixture_path(name), (at),                                      \
              (const char *const[]){PEERS, "--epochs=3", "--data", data_name(true),    \
                                    __VA_ARGS__, NULL})

/* Both runs left the same bytes in all of these files, ended by NULL. */
static inline void assert_same_files(const char *a, const char *b,
                                     const char *const *files)
{
    for (; *files != NULL; files++)
        assert_same_file(in_run(a, *files), in_run(b, *files));
}

/* What a run of two leaves. */
static const char *const files_of_two[] = {
    "peer1.h5", "peer2.h5", "metrics.jsonl", "recipe.txt", "checkpoint.h5", NULL};

/* Runs that are killed before and behind checkpoints go on to the bytes of one that was
 * not. The options are those of RUN. */
static inline void check_resume(const char *const *files, const char *const *arguments)
{
    static const struct trap traps[] = {{"checkpoint.h5", 1, SIGKILL, false},
                                        {"checkpoint.h5", 2, SIGKILL, true},
                                        {"checkpoint.h5", 2, SIGTERM, false}};
    static size_t calls = 0; /* each with directories of its own */
    char whole[32], name[32];
    struct outcome o;

    snprintf(whole, sizeof whole, "whole-%zu", ++calls);
    o = run_apart(run_here, fixture_path(whole), NULL, arguments);
    assert_done(&o);
    for (size_t i = 0; i < sizeof traps / sizeof traps[0]; i++) {
        snprintf(name, sizeof name, "broken-%zu-%zu", calls, i);
        o = run_apart(run_here, fixture_path(name), &traps[i], arguments);
        assert_int_equal(o.status,
                         traps[i].signal == SIGTERM ? (int)KD_EINTERRUPTED : -1);
        o = run_apart(run_here, fixture_path(name), NULL, arguments);
        assert_done(&o);
        assert_same_files(name, whole, files);
    }
}

/* Of three epochs. */
#define CHECK_RESUME(files, ...)                                                       \
    check_resume((files), (const char *const[]){PEERS, "--epochs=3", "--data",         \
                                                data_name(true), __VA_ARGS__, NULL})

#endif
