/* SPDX-License-Identifier: MIT */
/*
 * Fuzz targets: readers of foreign files, given bytes that nobody wrote on purpose.
 * They may refuse them in any words; they may not crash, hang, or leak.
 *
 * A target is a file fuzz_NAME.c with the two functions below. It is linked with
 * libFuzzer, or with the main() of driver.c, which mutates seeds blindly but always in
 * the same way:
 *
 *     fuzz_NAME [-n RUNS] [-t SECONDS] [-s SEED]     (10,000 runs)
 *     fuzz_NAME FILE...                              (these inputs, once)
 *
 * If the environment has KD_FUZZ_SEEDS, the seeds are written to that directory first.
 */
#ifndef KD_TESTS_FUZZ_H
#define KD_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Gives one input to the code. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Calls kd_fuzz_seed for some small inputs that are as they should be. */
void kd_fuzz_seeds(void);

/* -- for targets ------------------------------------------------------------ */

/* Takes a copy of a seed. */
void kd_fuzz_seed(const void *data, size_t size);

/* Writes the bytes to a file of that name in a scratch directory, which is this
 * process' own and removed at its end; its path, good for as long as the process. */
const char *kd_fuzz_file(const char *name, const void *data, size_t size);

/* The path of that name in the scratch directory. */
const char *kd_fuzz_path(const char *name);

/* Ends the process, as a crash does, unless `fine`. */
void kd_fuzz_expect(int fine, const char *what);

#endif
