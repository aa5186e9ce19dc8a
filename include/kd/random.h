/* SPDX-License-Identifier: MIT */
/*
 * Random numbers by counter: Philox4x32-10.
 *
 * A stream is named by (seed, purpose, id, view) and gives the same numbers in
 * every program, thread and machine, in any order of use: nothing is carried
 * from one sample to the next, so a view can be drawn again years later by
 * another program. Source: Salmon, Moraes, Dror, Shaw, "Parallel random
 * numbers: as easy as 1, 2, 3", SC 2011; checked against its known answers.
 *
 *     struct kd_random r = kd_random_at(seed, KD_RANDOM_VIEW, id, view);
 *     uint32_t dx = kd_random_below(&r, 9);
 *
 * A stream has 2^34 32-bit numbers.
 */
#ifndef KD_RANDOM_H
#define KD_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* What a stream is for; streams of different purposes are independent. The
 * numbers are part of the shard format: never renumber. */
enum kd_random_purpose {
    KD_RANDOM_VIEW = 1,    /* augmentation of (id, view) */
    KD_RANDOM_SHUFFLE = 2, /* order of an epoch: id is the epoch */
    KD_RANDOM_WEIGHTS = 3, /* initial weights: id is the hash of the name */
    KD_RANDOM_GLYPH = 4,   /* drawing of synthetic sample id */
    KD_RANDOM_DROPOUT = 5,
    KD_RANDOM_TEST = 6,
    KD_RANDOM_SAMPLE = 7,  /* which classes of (id, view) a sampled row keeps */
    KD_RANDOM_TEACHER = 8, /* whose row (id, view) becomes under the policy random */
    KD_RANDOM_NOISE = 9,   /* of private votes on (id, view) */
    KD_RANDOM_TURN = 10    /* which cache a batch learns from: id is the epoch, view the
                              step */
};

struct kd_random {
    uint32_t key[2];
    uint32_t counter[4]; /* block number, view, id low, id high */
    uint32_t block[4];   /* the numbers in hand */
    unsigned left;       /* how many of them are unused */
};

struct kd_random kd_random_at(uint64_t seed, enum kd_random_purpose purpose,
                              uint64_t id, uint32_t view);

uint32_t kd_random_u32(struct kd_random *r);

/* Uniform in 0 .. n-1 without bias (Lemire 2019); n > 0. */
uint32_t kd_random_below(struct kd_random *r, uint32_t n);

/* Uniform in [0, 1) with 53 bits. */
double kd_random_unit(struct kd_random *r);

/* Uniform in [low, high). */
double kd_random_between(struct kd_random *r, double low, double high);

/* Normal with mean 0 and deviation 1 (Box-Muller). */
double kd_random_normal(struct kd_random *r);

/* Beta(a, b) in [0, 1], for a and b from 0.001 up: x / (x + y) of two gamma deviates
 * (Marsaglia, Tsang 2000), in logarithms, as those of small a and b are below the
 * smallest double. */
double kd_random_beta(struct kd_random *r, double a, double b);

/* order[0..n-1] becomes a permutation of 0..n-1 that is a function of (seed,
 * epoch) alone. */
void kd_random_permutation(uint64_t seed, uint64_t epoch, uint32_t *order, uint32_t n);

/* One Philox4x32-10 block, the function everything above is made of. */
void kd_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#endif
