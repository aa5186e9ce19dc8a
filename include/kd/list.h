/* SPDX-License-Identifier: MIT */
/*
 * Lists: several names in one argument, "a.h5,b.h5".
 *
 *     char **path = NULL;
 *     size_t count;
 *     KD_TRY(kd_list_paths(args->teachers, "teachers", &path, &count));
 *     ...
 *     kd_list_free(path);
 */
#ifndef KD_LIST_H
#define KD_LIST_H

#include "kd/status.h"

#include <stddef.h>

/* Splits at commas into a list on the heap, ended by NULL. An empty item is refused
 * with KD_EDATA; `what` names the text in the message. */
enum kd_status kd_list_split(const char *text, const char *what, char ***list,
                             size_t *count) KD_CHECKED;

/* The same of paths: a text that is the path of something is not split, for names may
 * have commas too. */
enum kd_status kd_list_paths(const char *text, const char *what, char ***list,
                             size_t *count) KD_CHECKED;

void kd_list_free(char **list); /* NULL is fine */

#endif
