/* SPDX-License-Identifier: MIT */
/* The history of a file, for people: read in a child process, and told. */
#include "base/h5_internal.h"

#include "kd/child.h"
#include "kd/memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST 65536 /* characters that are told */
#define SECONDS 10    /* that reading may take */

struct telling {
    const char *path;
    char *text; /* on the heap; NULL: there is none */
};

/* -- in the child ----------------------------------------------------------- */

static bool is_one_text(hid_t type, hid_t space)
{
    return type >= 0 && space >= 0 && H5Tis_variable_str(type) > 0 &&
           H5Sget_simple_extent_npoints(space) == 1;
}

static enum kd_status send_text(const struct kd_h5 *file, struct kd_child *child)
{
    enum kd_status status = KD_EDATA; /* nobody asks why */
    const hid_t attribute = H5Aopen(file->id, "history", H5P_DEFAULT);
    const hid_t type = attribute >= 0 ? H5Aget_type(attribute) : H5I_INVALID_HID;
    const hid_t space = attribute >= 0 ? H5Aget_space(attribute) : H5I_INVALID_HID;
    char *text = NULL;

    if (is_one_text(type, space) && H5Aread(attribute, type, &text) >= 0 &&
        text != NULL)
        status = kd_child_send(child, text, strnlen(text, LONGEST));
    H5free_memory(text);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    if (attribute >= 0)
        H5Aclose(attribute);
    return status;
}

static enum kd_status read_text(void *context, size_t index, struct kd_child *child)
{
    enum kd_status status = KD_EBUG;
    const struct telling *telling = context;
    struct kd_h5 *file = NULL;

    (void)index;
    KD_TRY(kd_h5_open(telling->path, &file));
    if (kd_h5_has_attribute(file, "history"))
        status = send_text(file, child);
    else
        status = KD_OK;
out:
    kd_h5_close(file);
    return status;
}

/* -- in this process -------------------------------------------------------- */

/* Nothing in it upsets a terminal. */
static char *copy_clean(const char *data, size_t size)
{
    char *text = kd_format("%.*s", (int)size, data);

    for (char *at = text; at != NULL && *at != '\0'; at++)
        if (((unsigned char)*at < ' ' && *at != '\n') || *at == 0x7f)
            *at = '?';
    return text;
}

static enum kd_status keep_text(void *context, size_t index,
                                const struct kd_child_result *result)
{
    struct telling *telling = context;
    const bool fine = result->end == KD_CHILD_RETURNED && result->status == KD_OK;

    (void)index;
    if (fine && result->size == 0)
        return KD_OK;
    telling->text = fine ? copy_clean(result->data, result->size)
                         : kd_copy_string("unreadable: damaged");
    return telling->text != NULL ? KD_OK : KD_EMEMORY;
}

static void write_lines(const char *text, FILE *to)
{
    const char *name = "history";

    while (*text != '\0') {
        const size_t length = strcspn(text, "\n");

        fprintf(to, "  %-18s %.*s\n", name, (int)length, text);
        name = "";
        text += length + (text[length] == '\n');
    }
}

enum kd_status kd_h5_tell_history(const char *path, struct kd_json *json, FILE *to)
{
    enum kd_status status = KD_EBUG;
    struct telling telling = {path, NULL};
    const struct kd_children children = {.what = path,
                                         .count = 1,
                                         .at_once = 1,
                                         .limits = {.seconds = SECONDS},
                                         .body = read_text,
                                         .ended = keep_text,
                                         .context = &telling};

    KD_TRY(kd_children_run(&children));
    if (telling.text != NULL && json != NULL)
        kd_json_string(json, "history", telling.text);
    else if (telling.text != NULL)
        write_lines(telling.text, to);
out:
    free(telling.text);
    return status;
}
