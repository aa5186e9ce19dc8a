/* SPDX-License-Identifier: MIT */
/* Convolutions by Winograd's minimal filtering. */
#include "nn/winograd_internal.h"

#include "nn/winograd_lines_internal.h"

#include <string.h>

#define ROWS  16 /* tiles that a product takes at a time */
#define AHEAD 2  /* tiles, of that which is read or written */

/* -- tiles -------------------------------------------------------------- */

/* Where a tile lies. */
struct tile {
    size_t image;
    size_t row, column; /* of its first result */
};

static size_t tiles_across(size_t size)
{
    return (size + STEP - 1) / STEP;
}

static size_t tiles_of(const struct winograd *w)
{
    return tiles_across(w->height) * tiles_across(w->width);
}

static struct tile tile_at(const struct winograd *w, size_t index)
{
    const size_t across = tiles_across(w->width), all = tiles_of(w);

    return (struct tile){index / all, index % all / across * STEP,
                         index % across * STEP};
}

/* Copies side x side vectors of a plane, from (row, column) on, which may lie outside:
 * then they are 0. Each is chosen by its address, which costs less than branches. */
INLINE WIDE void cut(const struct winograd *w, const float *plane, ptrdiff_t row,
                     ptrdiff_t column, ptrdiff_t side, kd_lanes *to)
{
    static const kd_lanes nothing = {0};
    const ptrdiff_t height = (ptrdiff_t)w->height, width = (ptrdiff_t)w->width;

    for (ptrdiff_t i = row; i < row + side; i++, to += side)
        UNROLL for (ptrdiff_t j = 0; j < side; j++)
        {
            const bool inside =
                i >= 0 && i < height && column + j >= 0 && column + j < width;
            to[j] = *(inside ? &KD_CONST_AT(plane, i * width + column + j) : &nothing);
        }
}

static bool is_inside(const struct winograd *w, const struct tile *t)
{
    return t->row > 0 && t->column > 0 && t->row + STEP < w->height &&
           t->column + STEP < w->width;
}

/* The values that a tile reads, of one block of channels, at the points. */
WIDE static void values_at_points(const struct winograd *w, const float *plane,
                                  const struct tile *t, float *points, size_t apart)
{
    kd_lanes edge[POINTS], middle[POINTS];
    const kd_lanes *from = edge;
    size_t line = SIDE;

    if (is_inside(w, t)) {
        line = w->width;
        from = &KD_CONST_AT(plane, (t->row - 1) * line + t->column - 1);
    } else {
        cut(w, plane, (ptrdiff_t)t->row - 1, (ptrdiff_t)t->column - 1, SIDE, edge);
    }
    UNROLL for (size_t i = 0; i < SIDE; i++)
        values_line(from + i * line, 1, middle + i * SIDE, 1);
    UNROLL for (size_t j = 0; j < SIDE; j++)
        values_line(middle + j, SIDE, &KD_AT(points, j * apart), SIDE * apart);
}

/* The gradients of a tile's results at the points. */
WIDE static void gradients_at_points(const struct winograd *w, const float *plane,
                                     const struct tile *t, float *points, size_t apart)
{
    kd_lanes edge[STEP * STEP], middle[STEP * SIDE];
    const kd_lanes *from = edge;
    size_t line = STEP;

    if (t->row + STEP <= w->height && t->column + STEP <= w->width) {
        line = w->width;
        from = &KD_CONST_AT(plane, t->row * line + t->column);
    } else {
        cut(w, plane, (ptrdiff_t)t->row, (ptrdiff_t)t->column, STEP, edge);
    }
    UNROLL for (size_t i = 0; i < STEP; i++)
        gradients_line(from + i * line, 1, middle + i * SIDE, 1);
    UNROLL for (size_t j = 0; j < SIDE; j++)
        gradients_line(middle + j, SIDE, &KD_AT(points, j * apart), SIDE * apart);
}

/* A tile's results from the points. */
WIDE static void results_of_points(const struct winograd *w, const float *points,
                                   size_t apart, const struct tile *t,
                                   const float *bias, const struct winograd_end *end,
                                   float *plane)
{
    const size_t rows = w->height - t->row < STEP ? w->height - t->row : STEP;
    const size_t columns = w->width - t->column < STEP ? w->width - t->column : STEP;
    const kd_lanes shift = bias != NULL ? KD_CONST_AT(bias, 0) : (kd_lanes){0};
    kd_lanes middle[STEP * SIDE], result[STEP * STEP];

    UNROLL for (size_t j = 0; j < SIDE; j++)
        results_line(&KD_CONST_AT(points, j * apart), SIDE * apart, middle + j, SIDE);
    UNROLL for (size_t i = 0; i < STEP; i++)
        results_line(middle + i * SIDE, 1, result + i * STEP, 1);
    for (size_t i = 0; i < rows; i++) {
        kd_lanes *to = &KD_AT(plane, (t->row + i) * w->width + t->column);
        for (size_t j = 0; j < columns; j++) {
            kd_lanes v = result[i * STEP + j] + shift;
            if (end->sum)
                v += to[j];
            if (end->relu)
                v = KD_WHERE(~(v <= 0), v);
            to[j] = v;
        }
    }
}

/* -- products ----------------------------------------------------------- */

/* to[b][r] [+]= sum over k of from[r][k] * with[b][k]: `rows` scalars apart by
 * row_step, the next k behind k_step, and every LANES of them behind `apart`; vectors
 * of a block follow each other, blocks are `block` vectors apart. */
#define PRODUCT(rows, blocks, row_step, k_step)                                        \
    kd_lanes sum[blocks][rows];                                                        \
    UNROLL for (size_t b = 0; b < (blocks); b++)                                       \
        UNROLL for (size_t r = 0; r < (rows); r++) sum[b][r] =                         \
            add ? to[b * to_block + r] : (kd_lanes){0};                                \
    for (size_t k = 0; k < depth; k += LANES, from += apart)                           \
        for (size_t i = 0; i < LANES && k + i < depth; i++)                            \
            UNROLL for (size_t r = 0; r < (rows); r++)                                 \
                UNROLL for (size_t b = 0; b < (blocks); b++) sum[b][r] +=              \
                from[r * (row_step) + i * (k_step)] * with[b * block + k + i];         \
    UNROLL for (size_t b = 0; b < (blocks); b++)                                       \
        UNROLL for (size_t r = 0; r < (rows); r++) to[b * to_block + r] = sum[b][r];

#define PRODUCT_ARGUMENTS                                                              \
    const float *from, size_t apart, const kd_lanes *with, size_t block, size_t depth, \
        bool add, kd_lanes *to, size_t to_block

WIDE static void tiles_16_by_1(PRODUCT_ARGUMENTS){PRODUCT(16, 1, LANES, 1)}

WIDE static void tiles_8_by_2(PRODUCT_ARGUMENTS){PRODUCT(8, 2, LANES, 1)}

WIDE static void channels_16_by_1(PRODUCT_ARGUMENTS){PRODUCT(16, 1, 1, LANES)}

WIDE static void channels_8_by_2(PRODUCT_ARGUMENTS)
{
    PRODUCT(8, 2, 1, LANES)
}

/* -- groups of tiles ---------------------------------------------------- */

/* A thread's work space. */
struct space {
    size_t tiles;            /* of a group: a multiple of ROWS */
    size_t values_apart;     /* vectors from one point to the next, ... */
    size_t results_apart;    /* ... one more than there are: else all of a tile's would
                                share one place in the first cache */
    float *values, *results; /* [POINTS][blocks][tiles][LANES] */
    float *sums;             /* [POINTS][out / LANES][in][LANES] gradient alone */
};

/* So many that values and results stay in the second-level cache; or, where there are
 * more weights than that holds, that reading these again for each group is worth it. */
static size_t group_size(const struct winograd *w)
{
    const size_t fitting = 4096 / (w->in + w->out) / ROWS * ROWS, most = 4 * ROWS;

    if (w->in + w->out > 512 && w->in >= 64 && w->out >= 64)
        return 2 * ROWS;
    if (fitting > most || (w->in >= 64 && w->out >= 64))
        return most;
    return fitting > ROWS ? fitting : ROWS;
}

static size_t space_size(const struct winograd *w)
{
    const size_t tiles = group_size(w);

    return POINTS * (tiles * (w->in + w->out) + 2 * LANES) + kd_winograd_points(w);
}

static struct space space_of(const struct winograd *w, float *memory, size_t thread)
{
    struct space s = {.tiles = group_size(w)};

    s.values_apart = s.tiles * w->in / LANES + 1;
    s.results_apart = s.tiles * w->out / LANES + 1;
    s.values = memory + thread * space_size(w);
    s.results = s.values + POINTS * s.values_apart * LANES;
    s.sums = s.results + POINTS * s.results_apart * LANES;
    return s;
}

size_t kd_winograd_space(const struct winograd *w)
{
    return w->threads * space_size(w);
}

size_t kd_winograd_points(const struct winograd *w)
{
    return POINTS * w->in * w->out;
}

/* Asks for what the tile AHEAD of `index` has of the planes at x, from `shift` rows and
 * columns behind its first result on: tiles lie so that the processor does not foresee
 * them. Asking for what lies outside does no harm. */
INLINE void fetch(const struct winograd *w, const float *x, size_t blocks, size_t index,
                  size_t shift, bool to_write)
{
    const struct tile t = tile_at(w, index + AHEAD);

    if (t.image >= w->batch)
        return;
    for (size_t b = 0; b < blocks; b++, x += w->height * w->width * LANES)
        for (size_t i = shift; i < STEP + shift; i++)
            for (size_t j = shift; j < STEP + shift; j++) {
                const size_t at =
                    (t.image * blocks * w->height + t.row + i) * w->width + t.column +
                    j;
                if (to_write)
                    __builtin_prefetch(x + at * LANES, 1);
                else
                    __builtin_prefetch(x + at * LANES, 0);
            }
}

static void read_values(const struct winograd *w, const struct space *s, const float *x,
                        size_t first, size_t count)
{
    const size_t blocks = w->in / LANES, plane = w->height * w->width * LANES;

    for (size_t i = 0; i < count; i++) {
        const struct tile t = tile_at(w, first + i);
        fetch(w, x, blocks, first + i, 1, false);
        for (size_t b = 0; b < blocks; b++)
            values_at_points(w, x + (t.image * blocks + b) * plane, &t,
                             s->values + (b * s->tiles + i) * LANES, s->values_apart);
    }
}

static void read_gradients(const struct winograd *w, const struct space *s,
                           const float *dy, size_t first, size_t count)
{
    const size_t blocks = w->out / LANES, plane = w->height * w->width * LANES;

    for (size_t i = 0; i < count; i++) {
        const struct tile t = tile_at(w, first + i);
        fetch(w, dy, blocks, first + i, 0, false);
        for (size_t b = 0; b < blocks; b++)
            gradients_at_points(w, dy + (t.image * blocks + b) * plane, &t,
                                s->results + (b * s->tiles + i) * LANES,
                                s->results_apart);
    }
}

static void write_results(const struct winograd *w, const struct space *s,
                          const struct winograd_end *end, float *y, size_t first,
                          size_t count)
{
    const size_t blocks = w->out / LANES, plane = w->height * w->width * LANES;

    for (size_t i = 0; i < count; i++) {
        const struct tile t = tile_at(w, first + i);
        fetch(w, y, blocks, first + i, 0, true);
        for (size_t b = 0; b < blocks; b++)
            results_of_points(w, s->results + (b * s->tiles + i) * LANES,
                              s->results_apart, &t,
                              end->bias != NULL ? end->bias + b * LANES : NULL, end,
                              y + (t.image * blocks + b) * plane);
    }
}

/* results = values times weights, at one point. What lies behind the last tile is
 * multiplied, too, and never read. */
static void multiply_values(const struct winograd *w, const struct space *s,
                            size_t point, const float *weights, size_t count)
{
    const size_t blocks = w->out / LANES, panel = w->in;
    const kd_lanes *with = &KD_CONST_AT(weights, point * blocks * panel);
    const float *values = s->values + point * s->values_apart * LANES;
    kd_lanes *results = &KD_AT(s->results, point * s->results_apart);
    size_t b = 0;

    for (; b + 2 <= blocks; b += 2)
        for (size_t i = 0; i < count; i += 8)
            tiles_8_by_2(values + i * LANES, s->tiles * LANES, with + b * panel, panel,
                         w->in, false, results + b * s->tiles + i, s->tiles);
    for (size_t i = 0; b < blocks && i < count; i += 16)
        tiles_16_by_1(values + i * LANES, s->tiles * LANES, with + b * panel, panel,
                      w->in, false, results + b * s->tiles + i, s->tiles);
}

/* sums += values' times gradients, at one point. */
static void multiply_gradients(const struct winograd *w, const struct space *s,
                               size_t point, size_t count)
{
    const size_t blocks = w->out / LANES, step = LANES * LANES;
    const float *values = s->values + point * s->values_apart * LANES;
    const kd_lanes *with = &KD_CONST_AT(s->results, point * s->results_apart);
    kd_lanes *sums = &KD_AT(s->sums, point * blocks * w->in);

    for (size_t c = 0; c < w->in; c += LANES) {
        const float *from = values + c * s->tiles;
        size_t b = 0;
        for (; b + 2 <= blocks; b += 2)
            for (size_t half = 0; half < LANES; half += 8)
                channels_8_by_2(from + half, step, with + b * s->tiles, s->tiles, count,
                                true, sums + b * w->in + c + half, w->in);
        if (b < blocks)
            channels_16_by_1(from, step, with + b * s->tiles, s->tiles, count, true,
                             sums + b * w->in + c, w->in);
    }
}

/* -- passes ------------------------------------------------------------- */

/* A thread's tiles. */
struct range {
    size_t begin, end;
};

static struct range share_of(const struct winograd *w, size_t thread)
{
    const size_t all = w->batch * tiles_of(w);
    const size_t unit = ROWS * w->threads, share = (all + unit - 1) / unit * ROWS;
    const size_t begin = thread * share < all ? thread * share : all;

    return (struct range){begin, all - begin < share ? all : begin + share};
}

void kd_winograd_values(const struct winograd *w, const float *x, const float *points,
                        const struct winograd_end *end, float *y, float *space)
{
#pragma omp parallel for num_threads((int)w->threads) schedule(static, 1)
    for (size_t t = 0; t < w->threads; t++) {
        const struct space s = space_of(w, space, t);
        const struct range r = share_of(w, t);
        for (size_t first = r.begin; first < r.end; first += s.tiles) {
            const size_t left = r.end - first, count = left < s.tiles ? left : s.tiles;
            read_values(w, &s, x, first, count);
            for (size_t point = 0; point < POINTS; point++)
                multiply_values(w, &s, point, points, count);
            write_results(w, &s, end, y, first, count);
        }
    }
}

/* From the sums at the points to the blocks of weights, for one channel in and a block
 * of channels out. */
WIDE static void kernel_of_points(const struct winograd *w, const float *space,
                                  size_t b, size_t channel, float *blocks)
{
    const size_t apart = w->out / LANES * w->in, at = b * w->in + channel;
    kd_lanes points[POINTS] = {{0}}, middle[3 * SIDE], kernel[9];
    float *to = blocks + (b * (w->in / LANES) + channel / LANES) * 9 * LANES * LANES +
                channel % LANES * LANES;

    for (size_t t = 0; t < w->threads; t++) {
        const struct space s = space_of(w, (float *)space, t);
        for (size_t p = 0; p < POINTS; p++)
            points[p] += KD_CONST_AT(s.sums, p * apart + at);
    }
    UNROLL for (size_t j = 0; j < SIDE; j++)
        kernel_line(points + j, SIDE, middle + j, SIDE);
    UNROLL for (size_t i = 0; i < 3; i++)
        kernel_line(middle + i * SIDE, 1, kernel + i * 3, 1);
    for (size_t i = 0; i < 9; i++)
        KD_AT(to, i * LANES) = kernel[i];
}

void kd_winograd_gradient(const struct winograd *w, const float *x, const float *dy,
                          float *blocks, float *space)
{
#pragma omp parallel for num_threads((int)w->threads) schedule(static, 1)
    for (size_t t = 0; t < w->threads; t++) {
        const struct space s = space_of(w, space, t);
        const struct range r = share_of(w, t);
        memset(s.sums, 0, kd_winograd_points(w) * sizeof *s.sums);
        for (size_t first = r.begin; first < r.end; first += s.tiles) {
            const size_t left = r.end - first, count = left < s.tiles ? left : s.tiles;
            read_values(w, &s, x, first, count);
            read_gradients(w, &s, dy, first, count);
            for (size_t point = 0; point < POINTS; point++)
                multiply_gradients(w, &s, point, count);
        }
    }
#pragma omp parallel for collapse(2) num_threads((int)w->threads)
    for (size_t b = 0; b < w->out / LANES; b++)
        for (size_t c = 0; c < w->in; c++)
            kernel_of_points(w, space, b, c, blocks);
}
