/* SPDX-License-Identifier: MIT */
/* Names with commas between them. */
#include "kd/list.h"

#include "kd/memory.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void kd_list_free(char **list)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++)
        free(list[i]);
    free(list);
}

static size_t count_items(const char *text)
{
    size_t count = 1;

    for (; *text != '\0'; text++)
        count += *text == ',';
    return count;
}

/* Into `total` items, the last of them whatever is left. */
static enum kd_status split(const char *text, const char *what, size_t total,
                            char ***list)
{
    enum kd_status status = KD_EBUG;
    char **made = NULL;

    KD_TRY(KD_NEW(made, total + 1));
    for (size_t i = 0; i < total; i++) {
        const size_t length = i + 1 < total ? strcspn(text, ",") : strlen(text);
        if (length == 0) {
            status = kd_fail(KD_EDATA, "%s: a name between its commas is empty", what);
            goto out;
        }
        KD_TRY(KD_NEW(made[i], length + 1));
        memcpy(made[i], text, length);
        text += length + 1;
    }
    *list = made;
    made = NULL;
    status = KD_OK;
out:
    kd_list_free(made);
    return status;
}

enum kd_status kd_list_split(const char *text, const char *what, char ***list,
                             size_t *count)
{
    *count = count_items(text);
    return split(text, what, *count, list);
}

enum kd_status kd_list_paths(const char *text, const char *what, char ***list,
                             size_t *count)
{
    *count = access(text, F_OK) == 0 ? 1 : count_items(text);
    return split(text, what, *count, list);
}
