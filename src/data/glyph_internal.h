/* SPDX-License-Identifier: MIT */
/* The strokes that glyphs are made of. */
#ifndef KD_DATA_GLYPH_INTERNAL_H
#define KD_DATA_GLYPH_INTERNAL_H

#include "kd/glyph.h"

#define KD_GLYPH_VARIANTS 2
#define KD_GLYPH_WIDTH    8
#define KD_GLYPH_HEIGHT   12

/*
 * The ways each class is written. A glyph is a list of strokes with commas in
 * between, a stroke a list of points with spaces in between, a point two
 * hexadecimal digits: x from 0 to 8, y from 0 (top) to c. Behind a tilde the points
 * are the corners of a smooth curve; where the last is the first, it is closed.
 */
extern const char *const kd_glyph_strokes[KD_GLYPH_CLASSES][KD_GLYPH_VARIANTS];

#endif
