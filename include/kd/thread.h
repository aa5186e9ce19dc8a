/* SPDX-License-Identifier: MIT */
/*
 * Threads: how many, and loops over ranges.
 *
 * There is one pool of compute threads in a process: OpenMP's, which oneDNN and
 * OpenBLAS use as well, so that they never fight over cores.
 */
#ifndef KD_THREAD_H
#define KD_THREAD_H

#include "kd/status.h"

#include <stddef.h>

/*
 * Makes waiting threads go to sleep after a moment instead of spinning, so that the
 * stages of a pipeline can share the cores: two programs that spin on the same two
 * cores run at a tenth of their speed. OpenMP reads its settings before main does
 * anything, so the program starts itself again with OMP_WAIT_POLICY=passive and a
 * small GOMP_SPINCOUNT, unless the user has set either. `argv` is main's; for any other
 * nothing is done.
 */
void kd_threads_share(char **argv);

/* Is in the environment then: these two are not the user's, and not meant for programs
 * of others that this one starts. */
#define KD_SHARES_CORES "KD_SHARES_CORES"

/* Sets how many threads compute; 0 stands for every processor that the process
 * may run on (its affinity mask, so a Slurm task takes its share). */
void kd_threads_set(size_t count);

/* How many compute. At least 1. */
size_t kd_threads(void);

/* From now on the calling thread computes by itself: for one that works beside the
 * compute threads, whose cores it would take. */
void kd_threads_alone(void);

/* How many things that take so many nanoseconds each are worth a thread, as the grain
 * of kd_parallel. To wake one takes a microsecond or two; where threads sleep between
 * loops (kd_threads_share), some thirty. At least 1. */
size_t kd_threads_grain(double nanoseconds);

/* Calls body(context, begin, end) for disjoint ranges that cover 0..count-1, on
 * the compute threads; `grain` is the least worth a thread. Ranges depend on the
 * thread count, so results must not depend on ranges. The first failure in the
 * order of ranges is returned, with its message. */
enum kd_status kd_parallel(size_t count, size_t grain,
                           enum kd_status (*body)(void *context, size_t begin,
                                                  size_t end),
                           void *context) KD_CHECKED;

/* The same in ranges of `share` (the last may be shorter), which threads take one after
 * another, so that one that is held up by other work leaves more to the others.
 * `worker` is less than kd_threads(), and no two calls with the same one overlap. */
enum kd_status kd_parallel_shares(size_t count, size_t share,
                                  enum kd_status (*body)(void *context, size_t worker,
                                                         size_t begin, size_t end),
                                  void *context) KD_CHECKED;

#endif
