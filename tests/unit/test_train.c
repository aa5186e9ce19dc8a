/* SPDX-License-Identifier: MIT */
/*
 * Training runs on a dataset of 64 samples: their bytes, whatever happens to them on
 * the way. Every run is a process of its own, so that it can be killed; it stops at a
 * certain moment because this program's rename() is the one that the library calls.
 */
#include "cache_fixture.h"

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
static void draw_sample(uint64_t id, uint8_t *pixels)
{
    struct kd_random r = kd_random_at(5, KD_RANDOM_TEST, id, 0);

    for (size_t y = 0; y < SIDE; y++)
        for (size_t x = 0; x < SIDE; x++) {
            size_t quarter = y / (SIDE / 2) * 2 + x / (SIDE / 2);
            uint32_t base = quarter == id % CLASSES ? 120 : 40;
            pixels[y * SIDE + x] = (uint8_t)(base + kd_random_below(&r, 100));
        }
}

static void make_data(void)
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
static const char *data_name(bool labels)
{
    static char names[2][16384];

    if (labels)
        snprintf(names[1], sizeof names[1], "npy:%s,%s", fixture_path("x.npy"),
                 fixture_path("y.npy"));
    else
        snprintf(names[0], sizeof names[0], "npy:%s", fixture_path("x.npy"));
    return names[labels];
}

/* A cache of `data` by a teacher that knows the classes, views first to first+views-1,
 * at temperature 2. */
static void make_cache(const char *name, const char *data_set, const char *augment,
                       uint32_t first, uint32_t views)
{
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, views, KD_F32);
    struct kd_shard_writer *writer = NULL;
    struct kd_dataset *data = NULL;
    char *path = NULL;

    assert_int_equal(kd_dataset_open(data_set, &data), KD_OK);
    of.dataset_digest = kd_dataset_facts(data)->digest;
    kd_dataset_close(data);
    assert_int_equal(kd_class_map_digest(NULL, CLASSES, &of.class_map_digest), KD_OK);
    of.temperature = 2;
    of.first_view = first;
    of.seed = strcmp(augment, "none") == 0 ? 0 : 77;
    snprintf(of.augment, sizeof of.augment, "%s", augment);
    assert_int_equal(kd_make_directory(fixture_path(name)), KD_OK);
    path = kd_cache_shard_path(fixture_path(name), 0);
    assert_int_equal(
        kd_shard_writer_open(path, &of, SAMPLES * (uint64_t)views, "test", &writer),
        KD_OK);
    for (uint64_t i = 0; i < SAMPLES * (uint64_t)views; i++) {
        const uint64_t id = i / views;
        const uint32_t view = first + (uint32_t)(i % views);
        const int32_t label = (int32_t)(id % CLASSES);
        float scaled[CLASSES] = {0.1F * (float)view, 0, 0, -0.5F};
        scaled[label] += 2;
        assert_int_equal(kd_shard_writer_add(
                             writer, &(struct kd_rows){1, &id, &view, &label, scaled}),
                         KD_OK);
    }
    assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
    assert_int_equal(kd_cache_seal(fixture_path(name), &path, 1), KD_OK);
    free(path);
}

static int open_all(void **state)
{
    if (fixture_open(state) != 0)
        return -1;
    kd_threads_set(1); /* a process that has made threads must not be forked */
    make_data();
    make_cache("soft", data_name(true), "crop1", 1, 2);
    make_cache("soft-unlabelled", data_name(false), "none", 0, 1);
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

#define MAX_ARGUMENTS 24

/* The options of a run, copied: parsing writes into them. */
static int copy_arguments(const char *const *arguments, char **argv)
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
static enum kd_status train_here(const char *directory, const char *const *arguments)
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

static struct outcome train(const char *directory, const struct trap *at,
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
        if (at != NULL)
            trap = *at;
        outcome.status = (int)train_here(directory, arguments);
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

/* A run of 3 epochs of 4 steps in the fixture's directory `name`. */
#define COMMON "kd-train", "--quiet", "--epochs=3", "--batch=16", "--threads=1"
#define TRAIN(name, at, ...)                                                           \
    train(fixture_path(name), (at), (const char *const[]){COMMON, __VA_ARGS__, NULL})

static void assert_outcome(const struct outcome *outcome, enum kd_status status,
                           const char *words)
{
    if (outcome->status != (int)status || strstr(outcome->error, words) == NULL)
        fail_msg("status %d, '%s'", outcome->status, outcome->error);
    assert_null(strchr(outcome->error, '\n'));
}

static void assert_done(const struct outcome *outcome)
{
    if (outcome->status != KD_OK)
        fail_msg("status %d, '%s'", outcome->status, outcome->error);
}

static const char *in_run(const char *name, const char *file)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", name, file);
    return fixture_path(path);
}

static void assert_same_run(const char *a, const char *b)
{
    assert_same_file(in_run(a, "model.h5"), in_run(b, "model.h5"));
    assert_same_file(in_run(a, "metrics.jsonl"), in_run(b, "metrics.jsonl"));
    assert_same_file(in_run(a, "recipe.txt"), in_run(b, "recipe.txt"));
    assert_same_file(in_run(a, "checkpoint.h5"), in_run(b, "checkpoint.h5"));
}

static bool there(const char *name, const char *file)
{
    return access(in_run(name, file), F_OK) == 0;
}

static char *metrics_of(const char *name)
{
    size_t size = 0;

    return fixture_bytes(in_run(name, "metrics.jsonl"), &size);
}

static size_t count_lines(const char *name)
{
    char *text = metrics_of(name);
    size_t lines = 0;

    for (const char *c = text; *c != '\0'; c++)
        lines += *c == '\n';
    free(text);
    return lines;
}

/* The value of a key in the line of `epoch`; NaN where it has none, or null. */
static double metric(const char *name, unsigned epoch, const char *key)
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

/* -- the same run gives the same bytes --------------------------------------- */

#define MLP       "--network={family: mlp, hidden: [16]}"
#define TINY_NORM "--network={family: resnet, depth: 8, width: 4}"

static void the_same_run_gives_the_same_bytes(void **state)
{
    const char *const networks[] = {MLP, "--network=plain2", TINY_NORM};
    const char *data = data_name(true);

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char a[16], b[16];
        snprintf(a, sizeof a, "same-a%zu", i);
        snprintf(b, sizeof b, "same-b%zu", i);
        struct outcome first = TRAIN(a, NULL, networks[i], "--data", data, "--test",
                                     data, "--augment=crop1,flip", "--threads=1");
        struct outcome second = TRAIN(b, NULL, networks[i], "--data", data, "--test",
                                      data, "--augment=crop1,flip", "--threads=1");
        assert_done(&first);
        assert_done(&second);
        assert_same_run(a, b);
        assert_int_equal(count_lines(a), 3);
    }
}

/* Two steps alone: on a busy machine threads wait long for one another. */
static void the_same_number_of_threads_gives_the_same_bytes(void **state)
{
    (void)state;
    struct outcome a = TRAIN("threads-a", NULL, MLP, "--data", data_name(true),
                             "--threads=2", "--batch=32", "--epochs=1");
    struct outcome b = TRAIN("threads-b", NULL, MLP, "--data", data_name(true),
                             "--threads=2", "--batch=32", "--epochs=1");
    assert_done(&a);
    assert_done(&b);
    assert_same_run("threads-a", "threads-b");
}

static void data_in_another_container_give_the_same_network(void **state)
{
    char h5[16384];

    (void)state;
    snprintf(h5, sizeof h5, "hdf5:%s:/x,/y", fixture_path("xy.h5"));
    struct outcome a = TRAIN("npy", NULL, MLP, "--data", data_name(true));
    struct outcome b = TRAIN("hdf5", NULL, MLP, "--data", h5);
    assert_done(&a);
    assert_done(&b);
    assert_same_run("npy", "hdf5");
}

static void another_seed_gives_another_network(void **state)
{
    struct kd_model one, two;

    (void)state;
    struct outcome a = TRAIN("seed1", NULL, MLP, "--data", data_name(true));
    struct outcome b = TRAIN("seed2", NULL, MLP, "--data", data_name(true), "--seed=2");
    assert_done(&a);
    assert_done(&b);
    assert_int_equal(kd_model_open(in_run("seed1", "model.h5"), &one), KD_OK);
    assert_int_equal(kd_model_open(in_run("seed2", "model.h5"), &two), KD_OK);
    assert_false(kd_digest_equal(&one.digest, &two.digest));
    assert_true(metric("seed1", 1, "loss") != metric("seed2", 1, "loss"));
}

static void a_network_learns_the_classes(void **state)
{
    const char *data = data_name(true);
    struct kd_model model;

    (void)state;
    struct outcome run = TRAIN("learns", NULL, MLP, "--data", data, "--test", data,
                               "--epochs=8", "--lr=0.05");
    assert_done(&run);
    assert_true(metric("learns", 8, "loss") < 0.5 * metric("learns", 1, "loss"));
    assert_true(metric("learns", 8, "test_accuracy") > 0.95);
    assert_true(metric("learns", 8, "train_accuracy") > 0.95);
    assert_true(metric("learns", 8, "test_nll") < 0.5);
    assert_true(metric("learns", 8, "hard_loss") == metric("learns", 8, "loss"));
    assert_true(isnan(metric("learns", 8, "soft_loss")));
    assert_int_equal(kd_model_open(in_run("learns", "model.h5"), &model), KD_OK);
    assert_int_equal(model.epoch, 8);
    assert_int_equal(model.sizes.classes, CLASSES);
}

/* -- what a run trains on --------------------------------------------------- */

/* A network that stays as it was made: its losses tell what it was shown. */
#define FROZEN                                                                         \
    "--network={family: mlp, hidden: [16], batch-norm: false}", "--lr=1e-9",           \
        "--momentum=0", "--no-nesterov"

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-5;
}

static void an_epoch_shows_every_sample_once(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run =
        TRAIN("every", NULL, FROZEN, "--data", data, "--test", data, "--batch=8");
    assert_done(&run);
    for (unsigned epoch = 1; epoch <= 3; epoch++) {
        assert_true(near(metric("every", epoch, "hard_loss"),
                         metric("every", epoch, "test_nll")));
        assert_true(near(metric("every", epoch, "train_accuracy"),
                         metric("every", epoch, "test_accuracy")));
    }
}

/* 40 of 64 samples, others each time. */
static void the_order_is_another_one_in_every_epoch(void **state)
{
    (void)state;
    struct outcome run =
        TRAIN("order", NULL, FROZEN, "--data", data_name(true), "--batch=40");
    assert_done(&run);
    assert_false(near(metric("order", 1, "loss"), metric("order", 2, "loss")));
    assert_false(near(metric("order", 2, "loss"), metric("order", 3, "loss")));
    assert_false(near(metric("order", 1, "loss"), metric("order", 3, "loss")));
}

static void an_epoch_trains_on_the_view_of_its_number(void **state)
{
    (void)state;
    struct outcome run =
        TRAIN("views", NULL, FROZEN, "--data", data_name(true), "--augment=crop2,flip");
    assert_done(&run);
    assert_false(near(metric("views", 1, "loss"), metric("views", 2, "loss")));
    assert_false(near(metric("views", 1, "loss"), metric("views", 3, "loss")));
}

static void cached_views_are_trained_on_in_turn(void **state)
{
    (void)state;
    struct outcome run = TRAIN("turns", NULL, FROZEN, "--data", data_name(true),
                               "--labels", fixture_path("soft"), "-T2");
    assert_done(&run);
    assert_false(
        near(metric("turns", 1, "hard_loss"), metric("turns", 2, "hard_loss")));
    assert_false(
        near(metric("turns", 1, "soft_loss"), metric("turns", 2, "soft_loss")));
    assert_true(near(metric("turns", 1, "hard_loss"), metric("turns", 3, "hard_loss")));
    assert_true(near(metric("turns", 1, "soft_loss"), metric("turns", 3, "soft_loss")));
}

/* -- interruptions ---------------------------------------------------------- */

/* Runs `name` into the trap, then to its end: with the bytes of the whole run. */
static void check_stopped(const char *name, const char *whole, const struct trap *at,
                          const char *network)
{
    const char *data = data_name(true);
    struct outcome run = TRAIN(name, at, network, "--data", data, "--test", data,
                               "--labels", fixture_path("soft"), "-T2");

    if (at->signal == SIGTERM)
        assert_outcome(&run, KD_EINTERRUPTED, "run the same command again");
    else
        assert_int_equal(run.status, -1);
    assert_false(there(name, "model.h5"));
    run = TRAIN(name, NULL, network, "--data", data, "--test", data, "--labels",
                fixture_path("soft"), "-T2");
    assert_done(&run);
    assert_same_run(name, whole);
}

/* With batch norm, momentum, soft labels of views and a test set: all that a run has
 * to remember. */
static void a_stopped_run_goes_on_to_the_same_bytes(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome whole = TRAIN("whole", NULL, TINY_NORM, "--data", data, "--test",
                                 data, "--labels", fixture_path("soft"), "-T2");
    assert_done(&whole);
    check_stopped("term", "whole", &(struct trap){"checkpoint.h5", 1, SIGTERM, false},
                  TINY_NORM);
}

static void a_run_killed_at_any_file_goes_on_to_the_same_bytes(void **state)
{
    const struct trap traps[] = {
        {"recipe.txt", 1, SIGKILL, true},     {"metrics.jsonl", 2, SIGKILL, true},
        {"checkpoint.h5", 1, SIGKILL, true},  {"metrics.jsonl", 3, SIGKILL, false},
        {"checkpoint.h5", 2, SIGKILL, true},  {"checkpoint.h5", 3, SIGTERM, true},
        {"checkpoint.h5", 3, SIGKILL, false}, {"model.h5", 1, SIGKILL, true}};
    const char *data = data_name(true);

    (void)state;
    struct outcome whole = TRAIN("mlp-whole", NULL, MLP, "--data", data, "--test", data,
                                 "--labels", fixture_path("soft"), "-T2");
    assert_done(&whole);
    for (size_t i = 0; i < sizeof traps / sizeof traps[0]; i++) {
        char name[16];
        snprintf(name, sizeof name, "mlp-%zu", i);
        if (traps[i].signal == SIGKILL)
            check_stopped(name, "mlp-whole", &traps[i], MLP);
    }
}

/* Asked to stop when only the network is still to be saved, a run saves it. */
static void a_signal_behind_the_last_step_does_not_lose_the_network(void **state)
{
    const struct trap at = {"checkpoint.h5", 3, SIGTERM, true};

    (void)state;
    struct outcome run = TRAIN("late", &at, MLP, "--data", data_name(true));
    assert_done(&run);
    assert_true(there("late", "model.h5"));
}

static void an_interrupted_run_leaves_its_checkpoint_and_its_metrics(void **state)
{
    const struct trap at = {"checkpoint.h5", 2, SIGTERM, false};

    (void)state;
    struct outcome run = TRAIN("left", &at, MLP, "--data", data_name(true));
    assert_outcome(&run, KD_EINTERRUPTED, "training: interrupted");
    assert_int_equal(count_lines("left"), 2);
    assert_true(there("left", "checkpoint.h5"));
    assert_true(there("left", "recipe.txt"));
    assert_false(there("left", "model.h5"));
    assert_false(there("left", "model.h5.part"));
}

static void a_finished_run_is_left_as_it_is(void **state)
{
    static const char *const files[] = {"model.h5", "metrics.jsonl", "run.jsonl",
                                        "recipe.txt", "checkpoint.h5"};
    struct stat before[5], after;

    (void)state;
    struct outcome run = TRAIN("finished", NULL, MLP, "--data", data_name(true));
    assert_done(&run);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(stat(in_run("finished", files[i]), &before[i]), 0);
    run = TRAIN("finished", NULL, MLP, "--data", data_name(true));
    assert_done(&run);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(stat(in_run("finished", files[i]), &after), 0);
        assert_int_equal(after.st_ino, before[i].st_ino);
        assert_int_equal(after.st_size, before[i].st_size);
        assert_memory_equal(&after.st_mtim, &before[i].st_mtim, sizeof after.st_mtim);
    }
}

static void a_network_that_was_removed_is_saved_again(void **state)
{
    (void)state;
    struct outcome run = TRAIN("removed", NULL, MLP, "--data", data_name(true));
    assert_done(&run);
    assert_int_equal(renameat(AT_FDCWD, in_run("removed", "model.h5"), AT_FDCWD,
                              fixture_path("kept.h5")),
                     0);
    run = TRAIN("removed", NULL, MLP, "--data", data_name(true));
    assert_done(&run);
    assert_same_file(in_run("removed", "model.h5"), fixture_path("kept.h5"));
}

static void another_recipe_in_the_same_directory_is_refused(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run = TRAIN("taken", NULL, MLP, "--data", data);
    assert_done(&run);
    run = TRAIN("taken", NULL, MLP, "--data", data, "--batch=8", "--lr=0.5");
    assert_outcome(&run, KD_EUSAGE, "'batch: 16' there, 'batch: 8' here");
    assert_non_null(strstr(run.error, "taken/checkpoint.h5"));
    assert_non_null(strstr(run.error, "choose another directory"));
    run = TRAIN("taken", NULL, MLP, "--data", data, "--hard=0.5");
    assert_outcome(&run, KD_EUSAGE, "'loss: hard 1 ");
    char *slice = kd_format("%s@0:48", data);
    run = TRAIN("taken", NULL, MLP, "--data", slice);
    assert_outcome(&run, KD_EUSAGE, "ids 0 to 47' here");
    free(slice);
    run = TRAIN("taken", NULL, MLP, "--data", data);
    assert_done(&run);
}

/* -- soft labels ------------------------------------------------------------ */

static void soft_labels_train_beside_hard_ones(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run = TRAIN("both", NULL, MLP, "--data", data, "--test", data,
                               "--labels", fixture_path("soft"), "-T2", "--epochs=8");
    assert_done(&run);
    assert_true(metric("both", 8, "soft_loss") < 0.5 * metric("both", 1, "soft_loss"));
    assert_true(metric("both", 8, "test_accuracy") > 0.9);
    double total =
        0.1 * metric("both", 3, "hard_loss") + 0.9 * metric("both", 3, "soft_loss");
    assert_true(fabs(metric("both", 3, "loss") - total) < 1e-9);
}

static void soft_labels_alone_train_on_data_without_labels(void **state)
{
    (void)state;
    struct outcome run = TRAIN("alone", NULL, MLP, "--data", data_name(false), "--test",
                               data_name(true), "--hard=0", "--soft=1", "--epochs=8",
                               "--labels", fixture_path("soft-unlabelled"), "-T2");
    assert_done(&run);
    assert_true(metric("alone", 8, "loss") < 0.5 * metric("alone", 1, "loss"));
    assert_true(metric("alone", 8, "loss") == metric("alone", 8, "soft_loss"));
    assert_true(isnan(metric("alone", 8, "hard_loss")));
    assert_true(metric("alone", 8, "test_accuracy") > 0.9);
}

static void every_distance_trains(void **state)
{
    static const char *const kinds[][2] = {
        {"kl", "reverse"}, {"ce", "forward"}, {"mse", "forward"}};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char name[16], kind[32], direction[32];
        snprintf(name, sizeof name, "by-%s", kinds[i][0]);
        snprintf(kind, sizeof kind, "--distance=%s", kinds[i][0]);
        snprintf(direction, sizeof direction, "--direction=%s", kinds[i][1]);
        struct outcome run =
            TRAIN(name, NULL, MLP, "--data", data_name(true), "--hard=0", "-T2",
                  "--labels", fixture_path("soft"), kind, direction, "--epochs=5");
        assert_done(&run);
        assert_true(metric(name, 5, "soft_loss") < 0.95 * metric(name, 1, "soft_loss"));
    }
}

static void the_student_must_see_the_teachers_pixels(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run = TRAIN("pixels", NULL, MLP, "--data", data, "--labels",
                               fixture_path("soft"), "-T2", "--augment=crop2,flip");
    assert_outcome(&run, KD_EUSAGE, "its views are 'crop1'");
    assert_non_null(strstr(run.error, "augmentation is 'crop2,flip'"));
    run = TRAIN("pixels", NULL, MLP, "--data", data, "--labels", fixture_path("soft"),
                "-T2", "--labels-view=clean");
    assert_outcome(&run, KD_EDATA, "no clean view");
    run = TRAIN("pixels", NULL, MLP, "--data", data_name(false), "--labels",
                fixture_path("soft-unlabelled"), "-T2", "--labels-view=clean",
                "--augment=crop2,flip", "--hard=0");
    assert_done(&run);
}

/* -- what cannot be trained on ---------------------------------------------- */

static void data_that_do_not_fit_are_refused(void **state)
{
    const char *data = data_name(true);
    char wide[16384];
    const uint64_t shape[2] = {4, 9};

    (void)state;
    struct outcome run = TRAIN("misfit", NULL, MLP, "--data", data, "--batch=65");
    assert_outcome(&run, KD_EUSAGE, "64 samples, fewer than a batch of 65");
    run = TRAIN("misfit", NULL, MLP, "--data", data_name(false), "--hard=1", "-T2",
                "--labels", fixture_path("soft-unlabelled"));
    assert_outcome(&run, KD_EDATA, "set loss.hard to 0");
    run = TRAIN("misfit", NULL, MLP, "--data", data_name(false));
    assert_outcome(&run, KD_EDATA, "x.npy");
    assert_int_equal(kd_npy_write(fixture_path("wide.npy"), KD_U8, 2, shape,
                                  "123456789"
                                  "123456789123456789123456789"),
                     KD_OK);
    snprintf(wide, sizeof wide, "npy:%s", fixture_path("wide.npy"));
    run = TRAIN("misfit", NULL, MLP, "--data", data, "--test", wide);
    assert_outcome(&run, KD_EDATA, "wide.npy: its samples or classes");
    run = TRAIN("misfit", NULL, MLP, "--data=npy:/no/such.npy");
    assert_outcome(&run, KD_ENOINPUT, "/no/such.npy");
    assert_false(there("misfit", "recipe.txt"));
}

/* -- divergence ------------------------------------------------------------- */

/* Weights grow a thousandfold a step. */
#define DIVERGING                                                                      \
    "--lr=1000", "--warmup=0", "--schedule=constant", "--momentum=0", "--no-nesterov", \
        "--weight-decay=1"
#define PLAIN_MLP "--network={family: mlp, hidden: [16], batch-norm: false}"

static void assert_finite_network(const char *path)
{
    struct kd_model model;
    struct kd_network *net = NULL;

    assert_int_equal(kd_model_open(path, &model), KD_OK);
    assert_int_equal(kd_network_build(&model.arch, &model.sizes, 1, false, &net),
                     KD_OK);
    assert_int_equal(kd_model_load(path, net->graph), KD_OK);
    kd_network_free(net);
}

static void a_run_that_diverges_stops_and_says_where(void **state)
{
    (void)state;
    struct outcome run = TRAIN("diverges", NULL, DIVERGING, PLAIN_MLP, "--data",
                               data_name(true), "--epochs=20");
    assert_outcome(&run, KD_EDATA, "the loss is not a finite number");
    assert_non_null(strstr(run.error, "epoch "));
    assert_non_null(strstr(run.error, ", step "));
    assert_non_null(strstr(run.error, "lower the learning rate (1000)"));
    assert_false(there("diverges", "model.h5"));
}

/* The step after which nothing is finite any more may be an epoch's or a run's last:
 * that must not leave a network that nobody can use. With an epoch a step, each of the
 * steps around the one that overflows is the last of a run. */
static void check_last_step(const char *name, unsigned epochs, const char *network,
                            bool tested)
{
    const char *data = data_name(true);
    char option[16];

    snprintf(option, sizeof option, "--epochs=%u", epochs);
    struct outcome run =
        TRAIN(name, NULL, DIVERGING, network, "--data", data, "--batch=64", option,
              tested ? "--test" : "--seed", tested ? data : "1");
    if (run.status == KD_OK && tested)
        assert_true(isfinite(metric(name, epochs, "test_nll")));
    if (run.status == KD_OK)
        assert_finite_network(in_run(name, "model.h5"));
    else
        assert_outcome(&run, KD_EDATA, "lower the learning rate");
    assert_int_equal(there(name, "model.h5"), run.status == KD_OK);
}

static void a_network_that_diverged_in_its_last_step_is_not_saved(void **state)
{
    (void)state;
    for (unsigned epochs = 5; epochs <= 8; epochs++) {
        char name[16];
        snprintf(name, sizeof name, "last-%u", epochs);
        check_last_step(name, epochs, PLAIN_MLP, true);
        snprintf(name, sizeof name, "untested-%u", epochs);
        check_last_step(name, epochs + 6, "--network={family: mlp, hidden: []}", false);
    }
}

/* -- damage ----------------------------------------------------------------- */

static const char *damaged_run(const char *name)
{
    const struct trap at = {"checkpoint.h5", 1, SIGTERM, false};
    struct outcome run = TRAIN(name, &at, MLP, "--data", data_name(true));

    assert_outcome(&run, KD_EINTERRUPTED, "");
    return in_run(name, "checkpoint.h5");
}

/* One line, naming the file; and nothing is begun anew over it. */
static void assert_damaged(const char *name, const char *words)
{
    struct outcome run = TRAIN(name, NULL, MLP, "--data", data_name(true));

    assert_outcome(&run, KD_EDATA, words);
    assert_non_null(strstr(run.error, in_run(name, "checkpoint.h5")));
    assert_false(there(name, "model.h5"));
}

static void a_damaged_checkpoint_gives_one_clear_error(void **state)
{
    const char *path = damaged_run("damaged");
    size_t size = 0;
    char *bytes = fixture_bytes(path, &size);

    (void)state;
    assert_int_equal(kd_file_write(path, bytes, size / 2), KD_OK);
    assert_damaged("damaged", "");
    assert_int_equal(kd_file_write(path, bytes, 0), KD_OK);
    assert_damaged("damaged", "");
    assert_int_equal(kd_file_write(path, "no HDF5 file at all", 19), KD_OK);
    assert_damaged("damaged", "");
    assert_int_equal(kd_file_write(path, bytes, size), KD_OK);
    struct outcome run = TRAIN("damaged", NULL, MLP, "--data", data_name(true));
    assert_done(&run);
    free(bytes);
}

static void write_floats(const char *path, const char *name, float value)
{
    struct kd_h5 *file = NULL;
    struct kd_array_info info;
    float *values = NULL;

    assert_int_equal(kd_h5_open_rw(path, &file), KD_OK);
    assert_int_equal(kd_h5_info(file, name, &info), KD_OK);
    assert_int_equal(KD_NEW(values, (size_t)info.count), KD_OK);
    values[info.count - 1] = value;
    assert_int_equal(
        kd_h5_write(file, name, KD_F32, info.rank, info.shape, values, NULL), KD_OK);
    assert_int_equal(kd_h5_finish(file), KD_OK);
    free(values);
}

static void a_checkpoint_that_is_not_finite_is_refused(void **state)
{
    (void)state;
    write_floats(damaged_run("nan-weight"), "state_dict/fc1.weight", NAN);
    assert_damaged("nan-weight", "state_dict/fc1.weight");
    write_floats(damaged_run("nan-velocity"), "velocity/fc1.weight", INFINITY);
    assert_damaged("nan-velocity", "velocity/fc1.weight");
}

static void a_checkpoint_of_an_epoch_beyond_the_last_is_refused(void **state)
{
    struct kd_h5 *file = NULL;

    (void)state;
    assert_int_equal(kd_h5_open_rw(damaged_run("beyond"), &file), KD_OK);
    assert_int_equal(kd_h5_set_u64(file, "epoch", 4), KD_OK);
    assert_int_equal(kd_h5_finish(file), KD_OK);
    assert_damaged("beyond", "epoch 4");
}

static void another_kind_of_file_is_no_checkpoint(void **state)
{
    const char *path = damaged_run("kind");
    size_t size = 0;

    (void)state;
    struct outcome run = TRAIN("kind-of", NULL, MLP, "--data", data_name(true));
    assert_done(&run);
    char *bytes = fixture_bytes(in_run("kind-of", "model.h5"), &size);
    assert_int_equal(kd_file_write(path, bytes, size), KD_OK);
    assert_damaged("kind", "not a checkpoint");
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_run_gives_the_same_bytes),
        cmocka_unit_test(the_same_number_of_threads_gives_the_same_bytes),
        cmocka_unit_test(data_in_another_container_give_the_same_network),
        cmocka_unit_test(another_seed_gives_another_network),
        cmocka_unit_test(a_network_learns_the_classes),
        cmocka_unit_test(an_epoch_shows_every_sample_once),
        cmocka_unit_test(the_order_is_another_one_in_every_epoch),
        cmocka_unit_test(an_epoch_trains_on_the_view_of_its_number),
        cmocka_unit_test(cached_views_are_trained_on_in_turn),
        cmocka_unit_test(a_stopped_run_goes_on_to_the_same_bytes),
        cmocka_unit_test(a_run_killed_at_any_file_goes_on_to_the_same_bytes),
        cmocka_unit_test(a_signal_behind_the_last_step_does_not_lose_the_network),
        cmocka_unit_test(an_interrupted_run_leaves_its_checkpoint_and_its_metrics),
        cmocka_unit_test(a_finished_run_is_left_as_it_is),
        cmocka_unit_test(a_network_that_was_removed_is_saved_again),
        cmocka_unit_test(another_recipe_in_the_same_directory_is_refused),
        cmocka_unit_test(soft_labels_train_beside_hard_ones),
        cmocka_unit_test(soft_labels_alone_train_on_data_without_labels),
        cmocka_unit_test(every_distance_trains),
        cmocka_unit_test(the_student_must_see_the_teachers_pixels),
        cmocka_unit_test(data_that_do_not_fit_are_refused),
        cmocka_unit_test(a_run_that_diverges_stops_and_says_where),
        cmocka_unit_test(a_network_that_diverged_in_its_last_step_is_not_saved),
        cmocka_unit_test(a_damaged_checkpoint_gives_one_clear_error),
        cmocka_unit_test(a_checkpoint_that_is_not_finite_is_refused),
        cmocka_unit_test(a_checkpoint_of_an_epoch_beyond_the_last_is_refused),
        cmocka_unit_test(another_kind_of_file_is_no_checkpoint),
    };

    return cmocka_run_group_tests_name("train", tests, open_all, fixture_close);
}
