/* SPDX-License-Identifier: MIT */
/*
 * folder:DIR, class folders of PNG and JPEG files. Ids go through the classes in
 * the order of their names (of bytes), and in each through its files likewise. An
 * image is decoded each time it is read.
 */
#include "data/format_internal.h"
#include "kd/memory.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define DIGESTED 4096 /* bytes of each file that go into the digest */

/* Names on the heap, ended by NULL once they are sorted. */
struct names {
    char **name;
    size_t count, capacity;
};

/* The format's state. */
struct folder {
    char *root;
    struct names images; /* "CLASS/FILE", by id */
};

static enum kd_status add_name(struct names *names, char *name)
{
    if (name == NULL)
        return KD_EMEMORY;
    if (kd_grow(&names->name, &names->capacity, names->count + 2,
                sizeof *names->name) != KD_OK) {
        free(name);
        return KD_EMEMORY;
    }
    names->name[names->count++] = name;
    names->name[names->count] = NULL;
    return KD_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_image(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot != NULL &&
           (strcasecmp(dot, ".png") == 0 || strcasecmp(dot, ".jpg") == 0 ||
            strcasecmp(dot, ".jpeg") == 0);
}

/* Whether `name` in `directory` is a folder (or a file); links are followed. */
static bool is_kind(const char *directory, const char *name, bool folder)
{
    struct stat facts;
    char *path = kd_path_join(directory, name);
    bool found = path != NULL && stat(path, &facts) == 0 &&
                 (folder ? S_ISDIR(facts.st_mode) : S_ISREG(facts.st_mode));

    free(path);
    return found;
}

/* The folders in a directory, or its images, sorted; hidden ones are left out. */
static enum kd_status list_directory(const char *path, bool folders,
                                     struct names *names)
{
    enum kd_status status = KD_EBUG;
    const struct dirent *entry = NULL;
    DIR *directory = opendir(path);

    if (directory == NULL) {
        status = kd_fail_errno(KD_ENOINPUT, "%s: cannot open this folder", path);
        goto out;
    }
    while (errno = 0, (entry = readdir(directory)) != NULL) {
        const char *name = entry->d_name;
        if (name[0] != '.' && (folders || is_image(name)) &&
            is_kind(path, name, folders))
            KD_TRY(add_name(names, kd_copy_string(name)));
    }
    if (errno != 0) {
        status = kd_fail_errno(KD_EIO, "%s: cannot read this folder", path);
        goto out;
    }
    if (names->count > 0)
        qsort(names->name, names->count, sizeof *names->name, compare_names);
    status = KD_OK;
out:
    if (directory != NULL)
        closedir(directory);
    return status;
}

/* Adds the images of a class to those that are there. */
static enum kd_status add_class(struct folder *folder, const char *name)
{
    enum kd_status status = KD_EBUG;
    struct names files = {.count = 0};
    char *path = kd_path_join(folder->root, name);

    if (path == NULL)
        return KD_EMEMORY;
    KD_TRY(list_directory(path, false, &files));
    if (files.count == 0) {
        status = kd_fail(KD_EDATA,
                         "%s: a class without images; remove the folder, or put .png, "
                         ".jpg or .jpeg files into it",
                         path);
        goto out;
    }
    for (size_t i = 0; i < files.count; i++)
        KD_TRY(add_name(&folder->images, kd_path_join(name, files.name[i])));
    status = KD_OK;
out:
    kd_list_free(files.name);
    free(path);
    return status;
}

/* Lists all images and labels them. Takes over `classes`. */
static enum kd_status list_images(struct kd_dataset *data, struct names *classes)
{
    enum kd_status status = KD_EBUG;
    struct folder *folder = data->state;
    size_t *ends = NULL; /* [classes], ids */

    KD_TRY(KD_NEW(ends, classes->count));
    for (size_t c = 0; c < classes->count; c++) {
        KD_TRY(add_class(folder, classes->name[c]));
        ends[c] = folder->images.count;
    }
    KD_TRY(KD_NEW(data->label, folder->images.count));
    for (size_t id = 0, c = 0; id < folder->images.count; id++) {
        c += id == ends[c];
        data->label[id] = (int32_t)c;
    }
    data->class_name = classes->name;
    classes->name = NULL;
    data->facts.num_classes = (uint32_t)classes->count;
    data->facts.total = folder->images.count;
    status = KD_OK;
out:
    free(ends);
    return status;
}

/* By what the file is, not by how it is called: many a .jpg is a PNG. */
static enum kd_status read_image(const char *path, struct kd_image_size wanted,
                                 uint8_t *planes, struct kd_image_size *found)
{
    enum kd_status status = KD_EBUG;
    struct kd_map file;

    KD_TRY(kd_map_open(&file, path));
    if (file.size >= 8 && memcmp(file.data, "\x89PNG\r\n\x1a\n", 8) == 0)
        status = kd_png_read(&file, path, wanted, planes, found);
    else if (file.size >= 3 && memcmp(file.data, "\xff\xd8\xff", 3) == 0)
        status = kd_jpeg_read(&file, path, wanted, planes, found);
    else
        status = kd_fail(KD_EDATA, "%s: neither PNG nor JPEG, whatever its name", path);
out:
    kd_map_close(&file);
    return status;
}

/* The first image has the size that all must have. */
static enum kd_status measure_first(struct kd_dataset *data)
{
    const struct folder *folder = data->state;
    struct kd_image_size size = {0, 0};
    char *path = kd_path_join(folder->root, folder->images.name[0]);

    if (path == NULL)
        return KD_EMEMORY;
    enum kd_status status = read_image(path, size, NULL, &size);
    data->facts.shape = (struct kd_shape){3, size.height, size.width};
    data->facts.type = KD_U8;
    free(path);
    return status;
}

static enum kd_status open_folder(struct kd_dataset *data, const char *rest)
{
    enum kd_status status = KD_EBUG;
    struct names classes = {.count = 0};
    struct folder *folder = NULL;

    if (rest[0] == '\0')
        return kd_dataset_misnamed(data);
    KD_TRY(KD_NEW(folder, 1));
    data->state = folder;
    folder->root = kd_copy_string(rest);
    if (folder->root == NULL) {
        status = KD_EMEMORY;
        goto out;
    }
    KD_TRY(list_directory(rest, true, &classes));
    if (classes.count == 0) {
        status = kd_fail(KD_EDATA,
                         "%s: no class folders in it; images belong into "
                         "DIR/CLASS/*.png",
                         rest);
        goto out;
    }
    KD_TRY(list_images(data, &classes));
    KD_TRY(measure_first(data));
    status = KD_OK;
out:
    kd_list_free(classes.name);
    return status;
}

static enum kd_status read_folder(const struct kd_dataset *data, uint64_t id,
                                  void *pixels)
{
    const struct folder *folder = data->state;
    struct kd_image_size wanted = {data->facts.shape.height, data->facts.shape.width};
    struct kd_image_size found = {0, 0};
    char *path = kd_path_join(folder->root, folder->images.name[id]);

    if (path == NULL)
        return KD_EMEMORY;
    enum kd_status status = read_image(path, wanted, pixels, &found);
    if (status == KD_OK &&
        (found.height != wanted.height || found.width != wanted.width))
        status = kd_fail(KD_EDATA,
                         "%s: %zu x %zu pixels (width x height), but %s/%s has "
                         "%zu x %zu; resize the images to one size",
                         path, found.width, found.height, folder->root,
                         folder->images.name[0], wanted.width, wanted.height);
    free(path);
    return status;
}

static enum kd_status add_file(struct kd_hash *hash, const struct folder *folder,
                               const char *name)
{
    enum kd_status status = KD_EBUG;
    struct kd_map file = {.data = NULL};
    char *path = kd_path_join(folder->root, name);

    if (path == NULL)
        return KD_EMEMORY;
    KD_TRY(kd_map_open(&file, path));
    kd_hash_add_string(hash, name);
    kd_hash_add_u64(hash, file.size);
    kd_hash_add(hash, file.data, file.size < DIGESTED ? file.size : DIGESTED);
    status = KD_OK;
out:
    kd_map_close(&file);
    free(path);
    return status;
}

static enum kd_status add_files(const struct kd_dataset *data, struct kd_hash *hash)
{
    const struct folder *folder = data->state;
    enum kd_status status = KD_OK;

    for (size_t id = 0; id < folder->images.count && status == KD_OK; id++)
        status = add_file(hash, folder, folder->images.name[id]);
    return status;
}

static void close_folder(struct kd_dataset *data)
{
    struct folder *folder = data->state;

    if (folder == NULL)
        return;
    kd_list_free(folder->images.name);
    free(folder->root);
    free(folder);
}

const struct kd_format kd_format_folder = {.scheme = "folder",
                                           .usage = "DIR",
                                           .open = open_folder,
                                           .read = read_folder,
                                           .add_content = add_files,
                                           .close = close_folder};
