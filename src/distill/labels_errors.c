/* SPDX-License-Identifier: MIT */
/* A merge's errors, in the words of a trainer's options. */
#include "distill/labels_internal.h"
#include "distill/recipe_internal.h"

#include "kd/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kd_status kd_fail_renamed(enum kd_status status)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);

    if (to == NULL)
        return status;
    for (const char *at = kd_error(); *at != '\0'; at++) {
        size_t length = strcspn(at, " ,:;");
        char option[32];

        if (strncmp(at, "--", 2) == 0 && length - 2 < sizeof option) {
            snprintf(option, sizeof option, "%.*s", (int)length - 2, at + 2);
            fprintf(to, "--%s", kd_merging_name(option));
            at += length - 1;
        } else {
            fputc(*at, to);
        }
    }
    if (fclose(to) == 0)
        status = kd_fail(status, "%s", text);
    free(text);
    return status;
}
