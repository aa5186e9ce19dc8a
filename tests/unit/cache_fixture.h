/* SPDX-License-Identifier: MIT */
/* What the tests of shards, caches and merges share: a directory, and rows that are
 * a function of (teacher, id, view, class). */
#ifndef KD_TESTS_CACHE_FIXTURE_H
#define KD_TESTS_CACHE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kd/cache.h"
#include "kd/file.h"
#include "kd/memory.h"
#include "kd/random.h"
#include "kd/shard.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char fixture_directory[4096];

static inline int fixture_open(void **state)
{
    const char *base = getenv("TMPDIR");

    (void)state;
    snprintf(fixture_directory, sizeof fixture_directory, "%s/kdcache-XXXXXX",
             base != NULL ? base : "/tmp");
    return mkdtemp(fixture_directory) != NULL ? 0 : -1;
}

static inline void fixture_remove(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry = NULL;

    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *inside = kd_path_join(path, entry->d_name);
        fixture_remove(inside);
        free(inside);
    }
    if (directory != NULL)
        closedir(directory);
    (void)remove(path);
}

static inline int fixture_close(void **state)
{
    (void)state;
    fixture_remove(fixture_directory);
    return 0;
}

/* A path in the directory; 64 live at a time. */
static inline const char *fixture_path(const char *name)
{
    static char paths[64][8192];
    static unsigned next;
    char *path = paths[next++ % 64];

    snprintf(path, sizeof paths[0], "%s/%s", fixture_directory, name);
    return path;
}

static inline void fixture_digest(struct kd_digest *digest, int n)
{
    snprintf(digest->hex, sizeof digest->hex, "%032x", (unsigned)n);
}

static inline struct kd_identity fixture_identity(uint32_t classes, uint64_t samples,
                                                  uint32_t views, enum kd_type dtype)
{
    struct kd_identity identity = {.kind = KD_KIND_TEACHER,
                                   .codec = {.dtype = dtype, .k = classes},
                                   .num_classes = classes,
                                   .temperature = 4,
                                   .num_samples = samples,
                                   .views = views,
                                   .seed = UINT64_MAX,
                                   .augment = "crop4,flip",
                                   .normalize = "mean=0.5 deviation=0.25",
                                   .teacher_name = "model:a.h5",
                                   .bn_mode = "eval"};

    fixture_digest(&identity.class_map_digest, 1);
    fixture_digest(&identity.dataset_digest, 2);
    fixture_digest(&identity.teacher_digest, 3);
    return identity;
}

/* z/T of one row. */
static inline void fixture_row(int teacher, uint64_t id, uint32_t view, size_t classes,
                               float *row)
{
    struct kd_random r = kd_random_at((uint64_t)teacher, KD_RANDOM_TEST, id, view);

    for (size_t c = 0; c < classes; c++)
        row[c] = (float)kd_random_between(&r, -8, 12);
}

static inline int32_t fixture_label(uint64_t id, size_t classes)
{
    return (int32_t)(id * 7 % classes);
}

/* Adds all views of the ids begin to end-1, `batch` rows at a time. */
static inline enum kd_status fixture_add(struct kd_shard_writer *writer,
                                         const struct kd_identity *of, int teacher,
                                         uint64_t begin, uint64_t end, size_t batch)
{
    enum kd_status status = KD_OK;
    uint64_t *id = calloc(batch, sizeof *id);
    uint32_t *view = calloc(batch, sizeof *view);
    int32_t *label = calloc(batch, sizeof *label);
    float *scaled = calloc(batch * of->num_classes, sizeof *scaled);
    size_t n = 0;

    for (uint64_t row = begin * of->views; row < end * of->views && status == KD_OK;
         row++) {
        id[n] = row / of->views;
        view[n] = of->first_view + (uint32_t)(row % of->views);
        label[n] = fixture_label(id[n], of->num_classes);
        fixture_row(teacher, id[n], view[n], of->num_classes,
                    scaled + n * of->num_classes);
        if (++n < batch && row + 1 < end * of->views)
            continue;
        status = kd_shard_writer_add(
            writer,
            &(struct kd_rows){
                .count = n, .id = id, .view = view, .label = label, .scaled = scaled});
        n = 0;
    }
    free(id);
    free(view);
    free(label);
    free(scaled);
    return status;
}

static inline void fixture_shard(const char *path, const struct kd_identity *of,
                                 int teacher, uint64_t begin, uint64_t end)
{
    struct kd_shard_writer *writer = NULL;

    assert_int_equal(kd_shard_writer_open(path, of, (end - begin) * of->views,
                                          "a test: its line of history", &writer),
                     KD_OK);
    assert_int_equal(fixture_add(writer, of, teacher, begin, end, 13), KD_OK);
    assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
}

/* A finished cache in shards of `size` samples. */
static inline void fixture_cache(const char *directory, const struct kd_identity *of,
                                 int teacher, uint64_t size)
{
    uint64_t end = of->first_id + of->num_samples;
    char *paths[256];
    size_t count = 0;

    assert_int_equal(kd_make_directory(directory), KD_OK);
    for (uint64_t n = of->first_id / size; n * size < end; n++) {
        uint64_t from = n * size < of->first_id ? of->first_id : n * size;
        uint64_t to = (n + 1) * size < end ? (n + 1) * size : end;

        assert_true(count < 256);
        paths[count] = kd_cache_shard_path(directory, n);
        fixture_shard(paths[count++], of, teacher, from, to);
    }
    assert_int_equal(kd_cache_seal(directory, paths, count), KD_OK);
    for (size_t i = 0; i < count; i++)
        free(paths[i]);
}

static inline char *fixture_bytes(const char *path, size_t *size)
{
    char *data = NULL;

    assert_int_equal(kd_file_read(path, 1 << 28, &data, size), KD_OK);
    return data;
}

static inline void assert_same_file(const char *a, const char *b)
{
    size_t size_a = 0, size_b = 0;
    char *bytes_a = fixture_bytes(a, &size_a), *bytes_b = fixture_bytes(b, &size_b);

    assert_int_equal(size_a, size_b);
    assert_memory_equal(bytes_a, bytes_b, size_a);
    free(bytes_a);
    free(bytes_b);
}

/* The last error says `words`. */
static inline void assert_says(const char *words)
{
    if (strstr(kd_error(), words) == NULL)
        fail_msg("'%s' does not say '%s'", kd_error(), words);
}

#endif
