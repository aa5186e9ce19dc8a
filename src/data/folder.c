/* SPDX-License-Identifier: MIT */
/*
 * folder:DIR, class folders of PNG and JPEG files. Ids go through the classes in
 * the order of their names (of bytes), and in each through its files likewise;
 * unlabeled images that lie in no folder come first. An image is decoded, and resized
 * if the name says so, each time it is read.
 */
#include "data/format_internal.h"
#include "kd/list.h"
#include "kd/memory.h"
#include "kd/resize.h"
#include "kd/thread.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
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
    struct kd_resize resize;
    bool unlabeled;
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

/* Adds the images of a class to those that are there; NULL: those of the root. */
static enum kd_status add_class(struct folder *folder, const char *name)
{
    enum kd_status status = KD_EBUG;
    struct names files = {.count = 0};
    char *path =
        name != NULL ? kd_path_join(folder->root, name) : kd_copy_string(folder->root);

    if (path == NULL)
        return KD_EMEMORY;
    KD_TRY(list_directory(path, false, &files));
    if (files.count == 0 && !folder->unlabeled) {
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

/* Lists all images, of no class. */
static enum kd_status list_unlabeled(struct kd_dataset *data,
                                     const struct names *folders)
{
    enum kd_status status = KD_EBUG;
    struct folder *folder = data->state;

    KD_TRY(add_class(folder, NULL));
    for (size_t i = 0; i < folders->count; i++)
        KD_TRY(add_class(folder, folders->name[i]));
    data->facts.total = folder->images.count;
    if (data->facts.total == 0)
        status = kd_fail(KD_EDATA,
                         "%s: no .png, .jpg or .jpeg files in it, or in its "
                         "folders",
                         folder->root);
out:
    return status;
}

/* By what the file is, not by how it is called: many a .jpg is a PNG. */
static enum kd_status decode(const struct kd_map *file, const char *path,
                             struct kd_image_size wanted, uint8_t *planes,
                             struct kd_image_size *found)
{
    if (file->size >= 8 && memcmp(file->data, "\x89PNG\r\n\x1a\n", 8) == 0)
        return kd_png_read(file, path, wanted, planes, found);
    if (file->size >= 3 && memcmp(file->data, "\xff\xd8\xff", 3) == 0)
        return kd_jpeg_read(file, path, wanted, planes, found);
    return kd_fail(KD_EDATA, "%s: neither PNG nor JPEG, whatever its name", path);
}

/* The shape of image `id`, from its header. */
static enum kd_status measure_image(const struct folder *folder, size_t id,
                                    struct kd_shape *shape)
{
    enum kd_status status = KD_EBUG;
    const struct kd_image_size none = {0, 0};
    struct kd_image_size found = {0, 0};
    struct kd_map file = {.data = NULL};
    char *path = kd_path_join(folder->root, folder->images.name[id]);

    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_map_open(&file, path));
    KD_TRY(decode(&file, path, none, NULL, &found));
    *shape = (struct kd_shape){3, found.height, found.width};
    status = KD_OK;
out:
    kd_map_close(&file);
    free(path);
    return status;
}

static enum kd_status fail_image(const struct folder *folder, uint64_t id,
                                 enum kd_status status)
{
    kd_error_prefix("%s/%s", folder->root, folder->images.name[id]);
    return status;
}

/* The first image has the size that all must have, once they are resized. */
static enum kd_status measure_first(struct kd_dataset *data)
{
    const struct folder *folder = data->state;
    struct kd_shape first;
    enum kd_status status = measure_image(folder, 0, &first);

    data->facts.type = KD_U8;
    if (status != KD_OK)
        return status;
    status = kd_resize_shape(&folder->resize, first, &data->facts.shape);
    return status == KD_OK ? KD_OK : fail_image(folder, 0, status);
}

/* Cuts words off the end of "DIR,WORD,...". What is no word belongs to the name. */
static enum kd_status cut_words(const struct kd_dataset *data, struct folder *folder)
{
    char *comma = NULL;

    while ((comma = strrchr(folder->root, ',')) != NULL) {
        bool known = false;

        if (strcmp(comma + 1, "unlabeled") == 0)
            known = folder->unlabeled = true;
        else if (kd_resize_word(comma + 1, &folder->resize, &known) != KD_OK)
            return kd_fail(KD_EUSAGE, "%s: %s", data->name, kd_error());
        if (!known)
            break;
        *comma = '\0';
    }
    return folder->root[0] != '\0' ? KD_OK : kd_dataset_misnamed(data);
}

static enum kd_status open_folder(struct kd_dataset *data, const char *rest)
{
    enum kd_status status = KD_EBUG;
    struct names folders = {.count = 0};
    struct folder *folder = NULL;

    KD_TRY(KD_NEW(folder, 1));
    data->state = folder;
    folder->root = kd_copy_string(rest);
    KD_TRY(folder->root != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(cut_words(data, folder));
    KD_TRY(list_directory(folder->root, true, &folders));
    if (folders.count == 0 && !folder->unlabeled) {
        status = kd_fail(KD_EDATA,
                         "%s: no class folders in it; images belong into "
                         "DIR/CLASS/*.png, or are unlabeled: folder:DIR,unlabeled",
                         folder->root);
        goto out;
    }
    KD_TRY(folder->unlabeled ? list_unlabeled(data, &folders)
                             : list_images(data, &folders));
    KD_TRY(measure_first(data));
    status = KD_OK;
out:
    kd_list_free(folders.name);
    return status;
}

static enum kd_status fail_size(const struct kd_dataset *data, uint64_t id,
                                struct kd_shape found)
{
    const struct folder *folder = data->state;
    const struct kd_shape due = data->facts.shape;

    return kd_fail(KD_EDATA,
                   "%s/%s: %s%zu x %zu pixels (width x height), but %s/%s has %zu x "
                   "%zu; resize them to one size, as folder:DIR,resize256,crop224",
                   folder->root, folder->images.name[id],
                   kd_resize_does(&folder->resize) ? "resized to " : "", found.width,
                   found.height, folder->root, folder->images.name[0], due.width,
                   due.height);
}

static bool same_size(struct kd_shape a, struct kd_shape b)
{
    return a.height == b.height && a.width == b.width;
}

static enum kd_status read_as_it_is(const struct kd_dataset *data, uint64_t id,
                                    const struct kd_map *file, const char *path,
                                    uint8_t *pixels)
{
    const struct kd_shape due = data->facts.shape;
    struct kd_image_size found = {0, 0};
    const enum kd_status status = decode(
        file, path, (struct kd_image_size){due.height, due.width}, pixels, &found);
    const struct kd_shape shape = {3, found.height, found.width};

    if (status == KD_OK && !same_size(shape, due))
        return fail_size(data, id, shape);
    return status;
}

static enum kd_status read_resized(const struct kd_dataset *data, uint64_t id,
                                   const struct kd_map *file, const char *path,
                                   uint8_t *pixels)
{
    enum kd_status status = KD_EBUG;
    const struct folder *folder = data->state;
    struct kd_image_size found = {0, 0};
    struct kd_shape image, becomes;
    uint8_t *planes = NULL;

    KD_TRY(decode(file, path, found, NULL, &found));
    image = (struct kd_shape){3, found.height, found.width};
    status = kd_resize_shape(&folder->resize, image, &becomes);
    if (status != KD_OK)
        return fail_image(folder, id, status);
    if (!same_size(becomes, data->facts.shape))
        return fail_size(data, id, becomes);
    KD_TRY(KD_NEW(planes, kd_shape_size(image)));
    KD_TRY(decode(file, path, found, planes, &found));
    KD_TRY(kd_resize_apply(&folder->resize, KD_U8, image, planes, pixels));
out:
    free(planes);
    return status;
}

static enum kd_status read_folder(const struct kd_dataset *data, uint64_t id,
                                  void *pixels)
{
    enum kd_status status = KD_EBUG;
    const struct folder *folder = data->state;
    struct kd_map file = {.data = NULL};
    char *path = kd_path_join(folder->root, folder->images.name[id]);

    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_map_open(&file, path));
    if (kd_resize_does(&folder->resize))
        status = read_resized(data, id, &file, path, pixels);
    else
        status = read_as_it_is(data, id, &file, path, pixels);
out:
    kd_map_close(&file);
    free(path);
    return status;
}

struct comparing {
    const struct folder *folder;
    struct kd_shape shape;
    atomic_bool differ;
};

static enum kd_status compare_range(void *context, size_t begin, size_t end)
{
    struct comparing *comparing = context;
    enum kd_status status = KD_OK;
    struct kd_shape shape;

    for (size_t id = begin; id < end && !atomic_load(&comparing->differ); id++) {
        KD_TRY(measure_image(comparing->folder, id, &shape));
        if (!same_size(shape, comparing->shape))
            atomic_store(&comparing->differ, true);
    }
out:
    return status;
}

static enum kd_status sizes_differ(const struct kd_dataset *data, bool *differ)
{
    const struct folder *folder = data->state;
    struct comparing comparing = {.folder = folder, .shape = data->facts.shape};
    enum kd_status status = KD_OK;

    if (!kd_resize_does(&folder->resize))
        status = kd_parallel(folder->images.count, 16, compare_range, &comparing);
    *differ = atomic_load(&comparing.differ);
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
    char words[KD_RESIZE_TEXT];

    kd_resize_text(&folder->resize, words);
    if (words[0] != '\0')
        kd_hash_add_string(hash, words);
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
                                           .usage = "DIR[,resizeN][,cropN]",
                                           .open = open_folder,
                                           .read = read_folder,
                                           .add_content = add_files,
                                           .sizes_differ = sizes_differ,
                                           .close = close_folder};
