/* SPDX-License-Identifier: MIT */
/*
 * The product of dense layers, forward. Whatever the place of a sample in its batch,
 * the size of the batch, and the number of threads, its sums are taken by the same
 * instructions in the same order: one after the other over the inputs, sixteen
 * outputs at a time. So a sample's logits are the same bits whatever it is batched
 * with, which general matrix products do not promise.
 */
#define KD_WIDTH 16
#include "nn/dense_internal.h"
#include "nn/lanes_internal.h"

#include <string.h>

/* A product and its sum in one instruction, where the processor has it. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=fast")
#endif

#define LANES      16
#define MAX_ROWS   8
#define MAX_BLOCKS 2

/* What one processor register holds, or two where it is narrower. */
typedef float narrow __attribute__((vector_size(32)));

/* y[r][b] = sum over k of x[r][k] * w[b][k], in parts of CHUNK, for a vector type;
 * `rows` and `blocks` are constants, so that the sums of a part stay in registers.
 * Lanes of a block that is in two registers count as two blocks, `step` vectors
 * apart in w. */
#define CHUNK 64
#define TILE(type, rows, blocks, stride, step)                                         \
    for (size_t begin = 0; begin < in; begin += CHUNK) {                               \
        const size_t end = begin + CHUNK < in ? begin + CHUNK : in;                    \
        type sum[rows][blocks] = {0};                                                  \
        for (size_t k = begin; k < end; k++)                                           \
            UNROLL for (size_t r = 0; r < (rows); r++)                                 \
                UNROLL for (size_t b = 0; b < (blocks); b++) sum[r][b] +=              \
                x[r][k] * ((const type *)(const void *)w)[k * (stride) + b * (step)];  \
        UNROLL for (size_t r = 0; r < (rows); r++)                                     \
            UNROLL for (size_t b = 0; b < (blocks);                                    \
                        b++)((type *)(void *)y)[r * (blocks) + b] += sum[r][b];        \
    }
#define UNROLL _Pragma("GCC unroll 8")

KD_VECTOR
static void tile_8_by_2(const float *const *x, const float *w, size_t in,
                        float *y){TILE(kd_lanes, 8, 2, 1, in)}

KD_VECTOR static void tile_8_by_1(const float *const *x, const float *w, size_t in,
                                  float *y){TILE(kd_lanes, 8, 1, 1, 0)}

KD_VECTOR
    static void tile_6_by_1(const float *const *x, const float *w, size_t in, float *y)
{
    TILE(narrow, 6, 2, 2, 1)
}

/* Sums that the registers hold: 16 of 32 wide ones, or 12 of 16 half as wide. */
struct shape {
    size_t rows, blocks;
};

static struct shape best_shape(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx512f"))
        return (struct shape){8, 2};
#endif
    return (struct shape){6, 1};
}

struct product {
    struct shape shape;
    size_t batch, in, out, stride;
    bool relu;
    const float *x, *packed, *bias;
    float *y;
};

/* The sums of `rows` rows and a panel of blocks into the result. */
static void put(const struct product *p, const float *sums, size_t first, size_t rows,
                size_t column, size_t columns)
{
    for (size_t r = 0; r < rows; r++) {
        float *y = p->y + (first + r) * p->stride + column;
        for (size_t i = 0; i < columns && column + i < p->stride; i++)
            y[i] =
                column + i < p->out ? sums[r * columns + i] + p->bias[column + i] : 0;
        for (size_t i = 0; p->relu && i < columns && column + i < p->stride; i++)
            y[i] = y[i] <= 0 ? 0 : y[i]; /* a NaN stays one */
    }
}

/* Rows from `first` on times a panel of lane blocks. A last tile that is not full
 * repeats the last row. */
static void multiply(const struct product *p, size_t first, size_t panel)
{
    const size_t all = (p->out + LANES - 1) / LANES, block = panel * p->shape.blocks;
    const size_t blocks = all - block < p->shape.blocks ? all - block : p->shape.blocks;
    const size_t left = p->batch - first;
    const size_t rows = left < p->shape.rows ? left : p->shape.rows;
    const float *w = p->packed + block * p->in * LANES;
    const float *row[MAX_ROWS];
    _Alignas(64) float sums[MAX_ROWS * MAX_BLOCKS * LANES] = {0};

    for (size_t r = 0; r < MAX_ROWS; r++)
        row[r] = p->x + (first + (r < rows ? r : rows - 1)) * p->in;
    if (p->shape.rows == 6)
        tile_6_by_1(row, w, p->in, sums);
    else if (blocks == 2)
        tile_8_by_2(row, w, p->in, sums);
    else
        tile_8_by_1(row, w, p->in, sums);
    put(p, sums, first, rows, block * LANES, blocks * LANES);
}

void kd_dense_forward(const float *x, size_t batch, size_t in, const float *packed,
                      const float *bias, size_t out, bool relu, float *y, size_t stride)
{
    const struct product p = {best_shape(), batch, in,     out,  stride,
                              relu,         x,     packed, bias, y};
    const size_t blocks = (out + LANES - 1) / LANES;
    const size_t panels = (blocks + p.shape.blocks - 1) / p.shape.blocks;
    const size_t groups = (batch + p.shape.rows - 1) / p.shape.rows;

#pragma omp parallel for collapse(2)
    for (size_t panel = 0; panel < panels; panel++)
        for (size_t g = 0; g < groups; g++)
            multiply(&p, g * p.shape.rows, panel);
}

/* -- packing ---------------------------------------------------------------- */

/* to[k][lane] = from[lane][k], sixteen of each: four times the first half's values
 * and the second half's are dealt out in turn. */
KD_VECTOR
static void transpose(const float *const *from, float *to)
{
    kd_lanes a[LANES], b[LANES];

    for (size_t i = 0; i < LANES; i++)
        memcpy(&a[i], from[i], sizeof a[i]);
    for (int stage = 0; stage < 4; stage++) {
        for (size_t i = 0; i < LANES / 2; i++) {
            b[2 * i] = __builtin_shufflevector(a[i], a[i + 8], 0, 16, 1, 17, 2, 18, 3,
                                               19, 4, 20, 5, 21, 6, 22, 7, 23);
            b[2 * i + 1] =
                __builtin_shufflevector(a[i], a[i + 8], 8, 24, 9, 25, 10, 26, 11, 27,
                                        12, 28, 13, 29, 14, 30, 15, 31);
        }
        memcpy(a, b, sizeof a);
    }
    for (size_t i = 0; i < LANES; i++)
        KD_AT(to, i) = a[i];
}

static void pack_block(const float *weight, size_t rows, size_t in, float *packed)
{
    static const float zeros[LANES];
    const float *row[LANES];
    size_t k = 0;

    for (; k + LANES <= in; k += LANES) {
        for (size_t lane = 0; lane < LANES; lane++)
            row[lane] = lane < rows ? weight + lane * in + k : zeros;
        transpose(row, packed + k * LANES);
    }
    for (; k < in; k++)
        for (size_t lane = 0; lane < LANES; lane++)
            packed[k * LANES + lane] = lane < rows ? weight[lane * in + k] : 0;
}

size_t kd_dense_packed_size(size_t out, size_t in)
{
    return (out + LANES - 1) / LANES * LANES * in;
}

void kd_dense_scale(float *packed, size_t out, size_t in, const float *scale)
{
    for (size_t o = 0; o < out; o++)
        for (size_t k = 0; k < in; k++)
            packed[(o / LANES * in + k) * LANES + o % LANES] *= scale[o];
}

void kd_dense_pack(const float *weight, size_t out, size_t in, float *packed)
{
    const size_t blocks = (out + LANES - 1) / LANES;

#pragma omp parallel for
    for (size_t b = 0; b < blocks; b++) {
        const size_t first = b * LANES, left = out - first;
        pack_block(weight + first * in, left < LANES ? left : LANES, in,
                   packed + first * in);
    }
}
