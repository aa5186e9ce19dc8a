/* SPDX-License-Identifier: MIT */
/* All datasets of an HDF5 file, in the order of their names. */
#include "base/h5_internal.h"

#include "kd/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_LIMIT 32 /* groups in groups: a damaged file may have a circle */
#define COUNT_LIMIT 1000000

/* The names of all datasets, as they are found. */
struct listing {
    const struct kd_h5 *file;
    char **names; /* [count] */
    size_t count;
    size_t capacity;
    size_t seen; /* links, to bound the walk */
    size_t depth;
    char prefix[KD_H5_NAME_LIMIT]; /* the group we are in, "" or ending in a slash */
    enum kd_status status;
};

static enum kd_status list_name(struct listing *list, const char *name)
{
    if (kd_grow(&list->names, &list->capacity, list->count + 1, sizeof *list->names) !=
        KD_OK)
        return KD_EMEMORY;
    list->names[list->count] = kd_format("%s%s", list->prefix, name);
    if (list->names[list->count] == NULL)
        return KD_EMEMORY;
    list->count++;
    return KD_OK;
}

static enum kd_status list_group(struct listing *list, hid_t group);

/* Goes into a group and comes back. */
static enum kd_status list_below(struct listing *list, hid_t group, const char *name)
{
    size_t length = strlen(list->prefix);
    int added = snprintf(list->prefix + length, KD_H5_NAME_LIMIT - length, "%s/", name);

    if (added < 0 || (size_t)added >= KD_H5_NAME_LIMIT - length ||
        list->depth >= DEPTH_LIMIT)
        return kd_fail(KD_EDATA, "%s: groups nested too deeply at '%.64s...'",
                       list->file->path, list->prefix);
    list->depth++;
    enum kd_status status = list_group(list, group);
    list->depth--;
    list->prefix[length] = '\0';
    return status;
}

static enum kd_status list_object(struct listing *list, hid_t group, const char *name)
{
    enum kd_status status = KD_OK;
    hid_t id = H5Oopen(group, name, H5P_DEFAULT);

    if (id < 0)
        return kd_h5_fail(KD_EDATA, list->file, "'%s%s': cannot open", list->prefix,
                          name);
    H5I_type_t kind = H5Iget_type(id);
    if (kind == H5I_DATASET)
        status = list_name(list, name);
    else if (kind == H5I_GROUP)
        status = list_below(list, id, name);
    H5Oclose(id);
    return status;
}

static herr_t list_link(hid_t group, const char *name, const H5L_info_t *info,
                        void *context)
{
    struct listing *list = context;

    if (++list->seen > COUNT_LIMIT)
        list->status = kd_fail(KD_EDATA, "%s: more than %d links in it",
                               list->file->path, COUNT_LIMIT);
    else if (info->type == H5L_TYPE_HARD)
        list->status = list_object(list, group, name);
    return list->status == KD_OK ? 0 : -1;
}

static enum kd_status list_group(struct listing *list, hid_t group)
{
    herr_t result =
        H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, list_link, list);

    if (result < 0 && list->status == KD_OK)
        list->status =
            kd_h5_fail(KD_EDATA, list->file, "'%s': cannot list", list->prefix);
    return list->status;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum kd_status kd_h5_each(struct kd_h5 *file,
                          enum kd_status (*visit)(void *context, const char *name),
                          void *context)
{
    enum kd_status status = KD_EBUG;
    struct listing list = {.file = file, .status = KD_OK};

    kd_h5_quieten();
    KD_TRY(list_group(&list, file->id));
    if (list.count > 0)
        qsort(list.names, list.count, sizeof *list.names, compare_names);
    for (size_t i = 0; i < list.count; i++)
        KD_TRY(visit(context, list.names[i]));
out:
    for (size_t i = 0; i < list.count; i++)
        free(list.names[i]);
    free(list.names);
    return status;
}
