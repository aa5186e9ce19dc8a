/* SPDX-License-Identifier: MIT */
/* The bar of progress, drawn by the chapter that owns stderr. */
#ifndef KD_LOG_INTERNAL_H
#define KD_LOG_INTERNAL_H

#include <stdbool.h>

/* Draws one line on the terminal in place of the bar that stands there. */
void kd_log_bar(const char *text);

/* Wipes the bar, if one stands there. */
void kd_log_bar_clear(void);

/* Whether stderr is a terminal that can redraw a line, and may have colours
 * (NO_COLOR unset). */
bool kd_log_terminal(void);
bool kd_log_colours(void);

/* The name that kd_log_open was given, "" before it. */
const char *kd_log_program(void);

/* Columns of the terminal, 80 where it does not say. */
int kd_log_columns(void);

#endif
