/* SPDX-License-Identifier: MIT */
/* What a user calls a trained network, and the file that is meant. */
#include "kd/model.h"

#include "kd/file.h"
#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREFIX "model:"

char *kd_model_path(const char *name)
{
    char *inside = NULL;

    if (strncmp(name, PREFIX, strlen(PREFIX)) == 0)
        name += strlen(PREFIX);
    if (!kd_is_directory(name))
        return kd_copy_string(name);
    inside = kd_path_join(name, "model.h5");
    if (inside == NULL || access(inside, F_OK) == 0)
        return inside;
    free(inside);
    return kd_copy_string(name);
}
