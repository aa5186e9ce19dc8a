/* SPDX-License-Identifier: MIT */
/*
 * Training runs on a dataset of 64 samples. Every run is a process of its own, so that
 * it can be killed; it stops at a certain moment because this program's rename() is the
 * one that the library calls.
 */
#ifndef TRAIN_FIXTURE_H
#define TRAIN_FIXTURE_H

#include "cache_fixture.h"

#include "kd/cache_writer.h"
#include "kd/h5.h"
#include "kd/model.h"
#include "kd/npy.h"
#include "kd/recipe.h"
#include "kd/thread.h"
#include "kd/train.h"

#include "base/options_internal.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#define SAMPLES 64
#define SIDE    8
#define CLASSES 4

/* -- data ------------------------------------------------------------------- */

/* One quarter of the picture is brighter: its number is the class. */
static inline void draw_sample(uint64_t id, uint8_t *pixels)
{
    struct kd_random r = kd_random_at(5, KD_RANDOM_TEST, id, 0);

    for (size_t y = 0; y < SIDE; y++)
        for (size_t x = 0; x < SIDE; x++) {
            size_t quarter = y / (SIDE / 2) * 2 + x / (SIDE / 2);
            uint32_t base = quarter == id % CLASSES ? 120 : 40;
            pixels[y * SIDE + x] = (uint8_t)(base + kd_random_below(&r, 100));
        }
}

static inline void make_data(void)
{
    static uint8_t x[SAMPLES * SIDE * SIDE];
    const uint64_t shape[4] = {SAMPLES, 1, SIDE, SIDE};
    uint8_t y[SAMPLES];
    struct kd_h5 *file = NULL;

    for (size_t i = 0; i < SAMPLES; i++) {
        draw_sample(i, x + i * SIDE * SIDE);
        y[i] = (uint8_t)(i % CLASSES);
    }
    assert_int_equal(kd_npy_write(fixture_path("x.npy"), KD_U8, 4, shape, x), KD_OK);
    assert_int_equal(kd_npy_write(fixture_path("y.npy"), KD_U8, 1, shape, y), KD_OK);
    assert_int_equal(kd_h5_create(fixture_path("xy.h5"), &file), KD_OK);
    assert_int_equal(kd_h5_write(file, "x", KD_U8, 4, shape, x, NULL), KD_OK);
    assert_int_equal(kd_h5_write(file, "y", KD_U8, 1, shape, y, NULL), KD_OK);
    assert_int_equal(kd_h5_finish(file), KD_OK);
}

/* "npy:X,Y", "npy:X" where `labels` is false. */
static inline const char *data_name(bool labels)
{
    static char names[2][16384];

    if (labels)
        snprintf(names[1], sizeof names[1], "npy:%s,%s", fixture_path("x.npy"),
                 fixture_path("y.npy"));
    else
        snprintf(names[0], sizeof names[0], "npy:%s", fixture_path("x.npy"));
    return names[labels];
}

/* By how much the right logit is above the others in the caches that are made. */
static float fixture_lead = 2;

/* A cache of `data` by a teacher that knows the classes, at temperature 2; of the first
 * samples, if the identity has not all. */
static inline void make_cache_of(const char *name, const char *data_set,
                                 const char *augment, struct kd_identity *of)
{
    const uint32_t first = of->first_view, views = of->views;
    struct kd_shard_writer *writer = NULL;
    struct kd_dataset *data = NULL;
    char *path = NULL;

    assert_int_equal(kd_dataset_open(data_set, &data), KD_OK);
    of->dataset_digest = kd_dataset_facts(data)->digest;
    kd_dataset_close(data);
    assert_int_equal(kd_class_map_digest(NULL, CLASSES, &of->class_map_digest), KD_OK);
    of->temperature = 2;
    of->seed = strcmp(augment, "none") == 0 ? 0 : 77;
    snprintf(of->augment, sizeof of->augment, "%s", augment);
    assert_int_equal(kd_make_directory(fixture_path(name)), KD_OK);
    path = kd_cache_shard_path(fixture_path(name), 0);
    assert_int_equal(
        kd_shard_writer_open(path, of, of->num_samples * views, "test", &writer),
        KD_OK);
    for (uint64_t i = 0; i < of->num_samples * views; i++) {
        const uint64_t id = i / views;
        const uint32_t view = first + (uint32_t)(i % views);
        const int32_t label = (int32_t)(id % CLASSES);
        float scaled[CLASSES] = {0.1F * (float)view, 0, 0, -0.5F};
        scaled[label] += fixture_lead;
        assert_int_equal(
            kd_shard_writer_add(writer, &(struct kd_rows){.count = 1,
                                                          .id = &id,
                                                          .view = &view,
                                                          .label = &label,
                                                          .scaled = scaled}),
            KD_OK);
    }
    assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
    assert_int_equal(kd_cache_seal(fixture_path(name), &path, 1), KD_OK);
    free(path);
}

/* Views first to first+views-1. */
static inline void make_cache(const char *name, const char *data_set,
                              const char *augment, uint32_t first, uint32_t views)
{
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, views, KD_F32);

    of.first_view = first;
    make_cache_of(name, data_set, augment, &of);
}

static inline int open_all(void **state)
{
    struct kd_identity of;

    if (fixture_open(state) != 0)
        return -1;
    kd_threads_set(1); /* a process that has made threads must not be forked */
    make_data();
    make_cache("soft", data_name(true), "crop1", 1, 2);
    make_cache("soft-unlabelled", data_name(false), "none", 0, 1);
    of = fixture_identity(CLASSES, SAMPLES / 2, 1, KD_F32);
    make_cache_of("half", data_name(true), "none", &of);
    of = fixture_identity(CLASSES, SAMPLES, 1, KD_F32);
    of.codec = (struct kd_codec){.encoding = KD_TOP_K, .dtype = KD_F32, .k = 2};
    make_cache_of("sparse", data_name(true), "none", &of);
    return 0;
}

/* -- stopping --------------------------------------------------------------- */

/* Where a run is hit by a signal: at the n-th file of that name that is about to
 * appear, or has just appeared. */
struct trap {
    const char *file; /* NULL: nowhere */
    int number;       /* from 1 */
    int signal;
    bool before;
};

static struct trap trap;

int rename(const char *from, const char *to)
{
    bool sprung = trap.file != NULL && strcmp(kd_path_base(to), trap.file) == 0 &&
                  --trap.number == 0;
    int result = 0;

    if (sprung && trap.before)
        raise(trap.signal);
    result = renameat(AT_FDCWD, from, AT_FDCWD, to);
    if (sprung && !trap.before)
        raise(trap.signal);
    return result;
}

/* Waiting for the disk is for power cuts; what is killed here does not need it. */
int fsync(int fd)
{
    (void)fd;
    return 0;
}

/* -- runs ------------------------------------------------------------------- */

struct outcome {
    int status; /* enum kd_status; -1: killed */
    char error[4096];
};

#define MAX_ARGUMENTS 40

/* The options of a run, copied: parsing writes into them. */
static inline int copy_arguments(const char *const *arguments, char **argv)
{
    static char texts[MAX_ARGUMENTS][16400];
    int argc = 0;

    for (; arguments[argc] != NULL; argc++) {
        assert_true(argc < MAX_ARGUMENTS);
        argv[argc] = texts[argc];
        snprintf(argv[argc], sizeof texts[0], "%s", arguments[argc]);
    }
    return argc;
}

/* What kd-train does, in the child. */
static inline enum kd_status train_here(const char *directory,
                                        const char *const *arguments)
{
    char *argv[MAX_ARGUMENTS + 1] = {NULL}, *model = NULL;
    struct kd_recipe recipe;
    struct kd_option options[KD_RECIPE_OPTIONS];
    struct kd_program program = {.name = "kd-train",
                                 .summary = "",
                                 .operands = "",
                                 .options = options,
                                 .common = KD_COMMON_ALL};
    enum kd_status status = KD_EBUG;

    kd_recipe_init(&recipe);
    recipe.epochs = 3; /* not by --epochs, which stages with their own would refuse */
    kd_recipe_options(&recipe, options);
    KD_TRY(kd_program_parse(&program, copy_arguments(arguments, argv), argv));
    KD_TRY(kd_recipe_check(&recipe, &program));
    KD_TRY(kd_train(&recipe, directory, &model));
    assert_string_equal(kd_path_base(model), "model.h5");
out:
    free(model);
    kd_options_close(&program);
    return status;
}

/* A run in `directory`, by a child. */
typedef enum kd_status run_call(const char *directory, const char *const *arguments);

static inline struct outcome run_apart(run_call *run, const char *directory,
                                       const struct trap *at,
                                       const char *const *arguments)
{
    struct outcome outcome = {.status = -1};
    int ends[2], ended = 0;
    ssize_t got = 0;

    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        setenv("CMOCKA_TEST_ABORT", "1", 1); /* no test goes on in the child */
        if (at != NULL)
            trap = *at;
        outcome.status = (int)run(directory, arguments);
        snprintf(outcome.error, sizeof outcome.error, "%s", kd_error());
        bool told = write(ends[1], &outcome, sizeof outcome) == sizeof outcome;
        exit(told ? 0 : 1); /* a leak, under AddressSanitizer, is not 0 either */
    }
    close(ends[1]);
    got = read(ends[0], &outcome, sizeof outcome);
    close(ends[0]);
    assert_int_equal(waitpid(child, &ended, 0), child);
    if (got == sizeof outcome)
        assert_int_equal(ended, 0);
    else
        assert_true(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGKILL);
    return outcome;
}

static inline struct outcome train(const char *directory, const struct trap *at,
                                   const char *const *arguments)
{
    return run_apart(train_here, directory, at, arguments);
}

/* A run of 3 epochs of 4 steps in the fixture's directory `name`. */
#define COMMON "kd-train", "--quiet", "--batch=16", "--threads=1"
#define TRAIN(name, at, ...)                                                           \
    train(fixture_path(name), (at), (const char *const[]){COMMON, __VA_ARGS__, NULL})

static inline void assert_outcome(const struct outcome *outcome, enum kd_status status,
                                  const char *words)
{
    if (outcome->status != (int)status || strstr(outcome->error, words) == NULL)
        fail_msg("status %d, '%s'", outcome->status, outcome->error);
    assert_null(strchr(outcome->error, '\n'));
}

static inline void assert_done(const struct outcome *outcome)
{
    if (outcome->status != KD_OK)
        fail_msg("status %d, '%s'", outcome->status, outcome->error);
}

static inline const char *in_run(const char *name, const char *file)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", name, file);
    return fixture_path(path);
}

static inline void assert_same_run(const char *a, const char *b)
{
    assert_same_file(in_run(a, "model.h5"), in_run(b, "model.h5"));
    assert_same_file(in_run(a, "metrics.jsonl"), in_run(b, "metrics.jsonl"));
    assert_same_file(in_run(a, "recipe.txt"), in_run(b, "recipe.txt"));
    assert_same_file(in_run(a, "checkpoint.h5"), in_run(b, "checkpoint.h5"));
}

static inline bool there(const char *name, const char *file)
{
    return access(in_run(name, file), F_OK) == 0;
}

static inline char *metrics_of(const char *name)
{
    size_t size = 0;

    return fixture_bytes(in_run(name, "metrics.jsonl"), &size);
}

static inline size_t count_lines(const char *name)
{
    char *text = metrics_of(name);
    size_t lines = 0;

    for (const char *c = text; *c != '\0'; c++)
        lines += *c == '\n';
    free(text);
    return lines;
}

/* The value of a key in the line of `epoch`; NaN where it has none, or null. */
static inline double metric(const char *name, unsigned epoch, const char *key)
{
    char *text = metrics_of(name), *line = text, quoted[64];
    double value = NAN;

    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    while (line != NULL && epoch-- > 1)
        line = strchr(line, '\n') != NULL ? strchr(line, '\n') + 1 : NULL;
    if (line != NULL) {
        line[strcspn(line, "\n")] = '\0';
        const char *at = strstr(line, quoted);
        if (at != NULL && strncmp(at + strlen(quoted), "null", 4) != 0)
            value = strtod(at + strlen(quoted), NULL);
    }
    free(text);
    return value;
}

/* -- networks --------------------------------------------------------------- */

#define MLP       "--network={family: mlp, hidden: [16]}"
#define TINY_NORM "--network={family: resnet, depth: 8, width: 4}"

/* A network that stays as it was made: its losses tell what it was shown. */
#define FROZEN                                                                         \
    "--network={family: mlp, hidden: [16], batch-norm: false}", "--lr=1e-9",           \
        "--momentum=0", "--no-nesterov"

static inline bool near(double a, double b)
{
    return fabs(a - b) < 1e-5;
}

#endif
