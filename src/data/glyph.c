/* SPDX-License-Identifier: MIT */
/*
 * Glyphs: strokes become polylines, an affine map takes them to the canvas, and
 * the distance of each pixel to the nearest segment says how much ink it gets.
 *
 * Doubles are used only to draw the parameters of a sample, by operations whose
 * result IEEE 754 fixes; they are rounded to fixed point, and from there on all is
 * integer arithmetic. The order of draws never depends on the difficulty.
 */
#include "kd/glyph.h"

#include "data/glyph_internal.h"
#include "kd/random.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF /* gcc does not contract under -std=c17 */
#endif

#define MAX_SIZE   64
#define MAX_POINTS 64    /* of a stroke, once it is smooth */
#define UNIT       256   /* fixed point: parts of a pixel, and of a cell of the grid */
#define ONE        65536 /* fixed point of the map */

struct point {
    int64_t x, y;
};

struct stroke {
    struct point point[MAX_POINTS];
    size_t count;
};

/* Squared distance of each pixel's centre to the nearest segment so far. */
struct field {
    uint32_t size;
    int64_t square[MAX_SIZE * MAX_SIZE]; /* [size][size] in 1/UNIT^2 pixels */
};

/* x' = (a x + b y) / ONE + dx, and y' likewise: from the grid to the canvas. */
struct map {
    int64_t a, b, c, d, dx, dy;
};

/* Everything that is drawn at random for one sample but its noise. */
struct look {
    struct map map;
    int variant;
    int64_t wobble;           /* of the points of a stroke, most, in 1/UNIT cells */
    int64_t radius;           /* of a stroke, 1/UNIT pixels */
    int64_t paper, ink;       /* levels, 0 to 255 */
    int64_t slope_x, slope_y; /* of the paper's level over the canvas */
    int64_t bar_radius, bar_level;
    struct point bar[2];
    int64_t scratch_level; /* strokes that belong to nothing, below the glyph */
    struct point scratch[2][2];
    int64_t noise; /* deviation, in 1/UNIT levels */
};

static int64_t to_fixed(double x, double unit)
{
    double scaled = x * unit;

    return scaled < 0 ? -(int64_t)(0.5 - scaled) : (int64_t)(scaled + 0.5);
}

/* Uniform in [-range, range). */
static double spread(struct kd_random *r, double range)
{
    return (2 * kd_random_unit(r) - 1) * range;
}

/* Scale, shear, rotation and shift. The angle comes from the tangent of its half, by
 * which sine and cosine are rational. */
static struct map draw_map(struct kd_random *r, const struct kd_glyph_spec *spec)
{
    double d = spec->difficulty, cell = (double)spec->size / 19;
    double half = spread(r, 0.15 * d), norm = 1 + half * half;
    double cosine = (1 - half * half) / norm, sine = 2 * half / norm;
    double shear = spread(r, 0.25 * d);
    double width = cell * (1 - 0.05 * d + spread(r, 0.15 * d));
    double height = cell * (1 - 0.08 * d + spread(r, 0.12 * d));
    double shift_x = spread(r, 0.11 * d), shift_y = spread(r, 0.09 * d);
    double middle = (double)spec->size / 2;

    return (struct map){
        .a = to_fixed(cosine * width, ONE),
        .b = to_fixed((cosine * shear - sine) * height, ONE),
        .c = to_fixed(sine * width, ONE),
        .d = to_fixed((sine * shear + cosine) * height, ONE),
        .dx = to_fixed(middle + shift_x * spec->size, UNIT),
        .dy = to_fixed(middle + shift_y * spec->size, UNIT),
    };
}

/* A point of the canvas, or a little outside. */
static struct point draw_point(struct kd_random *r, uint32_t size)
{
    double x = kd_random_unit(r) * size, y = kd_random_unit(r) * size;

    return (struct point){to_fixed(x, UNIT), to_fixed(y, UNIT)};
}

static void draw_levels(struct kd_random *r, double d, struct look *look)
{
    double contrast = 255 - d * (65 + 105 * kd_random_unit(r));
    bool inverse = kd_random_unit(r) < 0.3 * d;

    if (contrast < 85)
        contrast = 85;
    double paper = kd_random_unit(r) * (255 - contrast);
    look->paper = to_fixed(inverse ? paper + contrast : paper, 1);
    look->ink = to_fixed(inverse ? paper : paper + contrast, 1);
    look->slope_x = to_fixed(spread(r, 40 * d), 1);
    look->slope_y = to_fixed(spread(r, 40 * d), 1);
    look->noise = to_fixed(36 * d / (1 + d), UNIT);
}

/* The bar goes through the middle part of the canvas. */
static void draw_bar(struct kd_random *r, const struct kd_glyph_spec *spec,
                     struct look *look)
{
    double d = spec->difficulty, size = spec->size;
    double radius = size / 20 * 0.9 * d * kd_random_unit(r);
    bool inked = kd_random_unit(r) < 0.5;
    struct point p = draw_point(r, spec->size), q = draw_point(r, spec->size);

    look->bar_radius = to_fixed(radius, UNIT);
    look->bar_level = inked ? look->ink : look->paper;
    look->bar[0] = p;
    look->bar[1] = q;
}

static void draw_scratches(struct kd_random *r, const struct kd_glyph_spec *spec,
                           struct look *look)
{
    double share = spec->difficulty * 0.7 * kd_random_unit(r);

    if (share > 1)
        share = 1;
    look->scratch_level =
        look->paper + to_fixed((double)(look->ink - look->paper) * share, 1);
    for (int i = 0; i < 2; i++) {
        look->scratch[i][0] = draw_point(r, spec->size);
        look->scratch[i][1] = draw_point(r, spec->size);
    }
}

static struct look draw_look(struct kd_random *r, const struct kd_glyph_spec *spec)
{
    struct look look = {.map = draw_map(r, spec)};
    double d = spec->difficulty, size = spec->size;

    look.variant = (int)kd_random_below(r, KD_GLYPH_VARIANTS);
    if (d == 0)
        look.variant = 0;
    look.wobble = to_fixed(0.7 * d, UNIT);
    look.radius = to_fixed(size / 20 * (0.85 + spread(r, 0.3 * d)), UNIT);
    if (look.radius < UNIT / 4)
        look.radius = UNIT / 4;
    draw_levels(r, d, &look);
    draw_bar(r, spec, &look);
    draw_scratches(r, spec, &look);
    return look;
}

/* floor(sqrt(x)) */
static int64_t square_root(int64_t x)
{
    int64_t root = 0;

    for (int64_t bit = INT64_C(1) << 30; bit > 0; bit >>= 1)
        if ((root + bit) * (root + bit) <= x)
            root += bit;
    return root;
}

/* Squared distance of p to the segment from a to b. */
static int64_t distance_to(struct point p, struct point a, struct point b)
{
    int64_t abx = b.x - a.x, aby = b.y - a.y;
    int64_t apx = p.x - a.x, apy = p.y - a.y, bpx = p.x - b.x, bpy = p.y - b.y;
    int64_t length = abx * abx + aby * aby;
    int64_t along = apx * abx + apy * aby;

    if (along <= 0)
        return apx * apx + apy * apy;
    if (along >= length)
        return bpx * bpx + bpy * bpy;
    int64_t cross = apx * aby - apy * abx;
    return cross * cross / length;
}

/* The pixels, 0 to size, in which a range of `reach` around two ends lies. */
static void find_range(int64_t a, int64_t b, int64_t reach, uint32_t size,
                       uint32_t range[2])
{
    int64_t low = ((a < b ? a : b) - reach) / UNIT;
    int64_t high = ((a < b ? b : a) + reach) / UNIT + 1;

    range[0] = low < 0 ? 0 : low > size ? size : (uint32_t)low;
    range[1] = high < 0 ? 0 : high > size ? size : (uint32_t)high;
}

static void add_segment(struct field *field, struct point a, struct point b,
                        int64_t radius)
{
    uint32_t columns[2], rows[2];

    find_range(a.x, b.x, radius + UNIT, field->size, columns);
    find_range(a.y, b.y, radius + UNIT, field->size, rows);
    for (uint32_t y = rows[0]; y < rows[1]; y++)
        for (uint32_t x = columns[0]; x < columns[1]; x++) {
            struct point p = {(int64_t)x * UNIT + UNIT / 2,
                              (int64_t)y * UNIT + UNIT / 2};
            int64_t square = distance_to(p, a, b);
            if (square < field->square[y * field->size + x])
                field->square[y * field->size + x] = square;
        }
}

static void clear_field(struct field *field, uint32_t size)
{
    field->size = size;
    for (uint32_t i = 0; i < size * size; i++)
        field->square[i] = INT64_MAX;
}

/* Lays `level` over the canvas, where the field is nearer than `radius`. */
static void paint(const struct field *field, int64_t radius, int64_t level,
                  int64_t *canvas)
{
    int64_t reach = radius + UNIT / 2;

    for (uint32_t i = 0; i < field->size * field->size; i++) {
        if (field->square[i] >= reach * reach)
            continue;
        int64_t cover = reach - square_root(field->square[i]);
        if (cover > UNIT)
            cover = UNIT;
        canvas[i] += (level - canvas[i]) * cover / UNIT;
    }
}

static int64_t hex_digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Reads the points of a stroke up to the comma or the end; returns what follows. */
static const char *read_points(const char *text, struct stroke *stroke)
{
    stroke->count = 0;
    for (;;) {
        stroke->point[stroke->count++] =
            (struct point){hex_digit(text[0]) * UNIT - KD_GLYPH_WIDTH * UNIT / 2,
                           hex_digit(text[1]) * UNIT - KD_GLYPH_HEIGHT * UNIT / 2};
        text += 2;
        if (*text != ' ')
            return text;
        text++;
    }
}

/* Moves each point a little, the two ends of a closed stroke alike. */
static void wobble(struct stroke *stroke, int64_t most, bool closed,
                   struct kd_random *r)
{
    for (size_t i = 0; i < stroke->count; i++) {
        uint32_t bits = kd_random_u32(r);
        int64_t right = (int64_t)(bits & 0xffff) - 0x8000;
        int64_t down = (int64_t)(bits >> 16) - 0x8000;
        stroke->point[i].x += right * most / 0x8000;
        stroke->point[i].y += down * most / 0x8000;
    }
    if (closed)
        stroke->point[stroke->count - 1] = stroke->point[0];
}

/* A point a quarter of the way from a to b. */
static struct point quarter(struct point a, struct point b)
{
    return (struct point){(3 * a.x + b.x) / 4, (3 * a.y + b.y) / 4};
}

/* Cuts the corners off once (Chaikin 1974: towards a quadratic B-spline). The ends
 * of an open stroke stay. */
static void cut_corners(struct stroke *stroke, bool closed)
{
    struct stroke old = *stroke;
    size_t count = 0, last = old.count - 1;

    for (size_t i = 0; i < last; i++) {
        bool at_begin = i == 0 && !closed, at_end = i + 1 == last && !closed;
        struct point a = old.point[i], b = old.point[i + 1];
        stroke->point[count++] = at_begin ? a : quarter(a, b);
        stroke->point[count++] = at_end ? b : quarter(b, a);
    }
    if (closed)
        stroke->point[count++] = stroke->point[0];
    stroke->count = count;
}

static struct point apply_map(const struct map *map, struct point p)
{
    return (struct point){(map->a * p.x + map->b * p.y) / ONE + map->dx,
                          (map->c * p.x + map->d * p.y) / ONE + map->dy};
}

static bool same_point(struct point a, struct point b)
{
    return a.x == b.x && a.y == b.y;
}

/* Adds the stroke that begins at `text`; returns what follows it. */
static const char *add_stroke(const char *text, const struct look *look,
                              struct kd_random *r, struct field *field)
{
    struct stroke stroke;
    bool smooth = *text == '~';

    text = read_points(text + smooth, &stroke);
    bool closed = same_point(stroke.point[0], stroke.point[stroke.count - 1]);
    wobble(&stroke, look->wobble, closed, r);
    for (int i = 0; smooth && i < 2; i++)
        cut_corners(&stroke, closed);
    for (size_t i = 0; i < stroke.count; i++)
        stroke.point[i] = apply_map(&look->map, stroke.point[i]);
    for (size_t i = 0; i + 1 < stroke.count; i++)
        add_segment(field, stroke.point[i], stroke.point[i + 1], look->radius);
    return text;
}

static void paint_glyph(int32_t label, const struct look *look, struct kd_random *r,
                        struct field *field, int64_t *canvas)
{
    const char *text = kd_glyph_strokes[label][look->variant];

    clear_field(field, field->size);
    for (;;) {
        text = add_stroke(text, look, r, field);
        if (*text == '\0')
            break;
        text++; /* the comma */
    }
    paint(field, look->radius, look->ink, canvas);
}

static void paint_line(const struct point ends[2], int64_t radius, int64_t level,
                       struct field *field, int64_t *canvas)
{
    clear_field(field, field->size);
    add_segment(field, ends[0], ends[1], radius);
    paint(field, radius, level, canvas);
}

/* Light from one side, and noise: the sum of four bytes is nearly normal, with a
 * deviation of 147.8. */
static void finish(const struct look *look, uint32_t size, struct kd_random *r,
                   const int64_t *canvas, uint8_t *pixels)
{
    for (uint32_t i = 0; i < size * size; i++) {
        int64_t x = (int64_t)(i % size) * 2 - size, y = (int64_t)(i / size) * 2 - size;
        uint32_t bits = kd_random_u32(r);
        int64_t sum = (int64_t)(bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) +
                      (bits >> 24) - 510;
        int64_t level = canvas[i] +
                        (look->slope_x * x + look->slope_y * y) / (2 * (int64_t)size) +
                        sum * look->noise / (148 * UNIT);
        pixels[i] = (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
    }
}

/* A block of 36 ids has each class once, in an order of its own. */
static int32_t label_of(uint64_t seed, uint64_t id)
{
    struct kd_random r = kd_random_at(seed, KD_RANDOM_GLYPH, id / KD_GLYPH_CLASSES, 1);
    uint8_t order[KD_GLYPH_CLASSES] = {0};

    for (uint32_t i = 0; i < KD_GLYPH_CLASSES; i++) {
        uint32_t j = kd_random_below(&r, i + 1);
        order[i] = order[j];
        order[j] = (uint8_t)i;
    }
    return order[id % KD_GLYPH_CLASSES];
}

int32_t kd_glyph_draw(const struct kd_glyph_spec *spec, uint64_t id, uint8_t *pixels)
{
    struct kd_random r = kd_random_at(spec->seed, KD_RANDOM_GLYPH, id, 0);
    struct look look = draw_look(&r, spec);
    int64_t canvas[MAX_SIZE * MAX_SIZE];
    struct field field = {.size = spec->size};
    int32_t label = label_of(spec->seed, id);

    for (uint32_t i = 0; i < spec->size * spec->size; i++)
        canvas[i] = look.paper;
    for (int i = 0; i < 2; i++)
        paint_line(look.scratch[i], look.radius / 2, look.scratch_level, &field,
                   canvas);
    paint_glyph(label, &look, &r, &field, canvas);
    if (look.bar_radius > 0)
        paint_line(look.bar, look.bar_radius, look.bar_level, &field, canvas);
    finish(&look, spec->size, &r, canvas, pixels);
    return label;
}
