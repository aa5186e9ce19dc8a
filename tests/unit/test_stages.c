/* SPDX-License-Identifier: MIT */
/* Runs in stages: what each trains on, what goes on between them, what is checked
 * before the first; ramps, annealing, and the virtual teacher. */
#include "train_fixture.h"

/* Caches of the clean view by two teachers: `two` is less sure than `one`. */
static int open_stages(void **state)
{
    struct kd_identity of;

    if (open_all(state) != 0)
        return -1;
    of = fixture_identity(CLASSES, SAMPLES, 1, KD_F32);
    make_cache_of("one", data_name(true), "none", &of);
    of = fixture_identity(CLASSES, SAMPLES, 1, KD_F32);
    fixture_digest(&of.teacher_digest, 9);
    fixture_lead = 0.5F;
    make_cache_of("two", data_name(true), "none", &of);
    fixture_lead = 2;
    return 0;
}

/* The option of a list of stages, in which @ is the fixture's directory. */
static const char *stages(const char *list)
{
    static char texts[8][16384];
    static unsigned next;
    char *text = texts[next++ % 8];
    size_t length = (size_t)sprintf(text, "--stages=");

    for (; *list != '\0'; list++) {
        if (*list == '@')
            length += (size_t)sprintf(text + length, "%s", fixture_path(""));
        else
            text[length++] = *list;
        assert_true(length < sizeof texts[0] - 4200);
    }
    text[length] = '\0';
    return text;
}

static struct kd_network *network_of(const char *name)
{
    struct kd_network *net = NULL;
    struct kd_model model;

    assert_int_equal(kd_model_open(in_run(name, "model.h5"), &model), KD_OK);
    assert_int_equal(kd_network_build(&model.arch, &model.sizes, 1, false, &net),
                     KD_OK);
    assert_int_equal(kd_model_load(in_run(name, "model.h5"), net->graph), KD_OK);
    return net;
}

/* By their weights: the files have the recipes in them. */
static void assert_same_network(const char *a, const char *b, bool same)
{
    struct kd_network *one = network_of(a), *two = network_of(b);
    bool equal = true;

    for (size_t i = 0; i < kd_graph_num_parameters(one->graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(one->graph, i);
        const struct kd_parameter *q = kd_graph_parameter(two->graph, i);
        equal &= memcmp(p->value, q->value, p->size * sizeof *p->value) == 0;
    }
    kd_network_free(one);
    kd_network_free(two);
    if (equal != same)
        fail_msg("%s and %s", a, b);
}

/* -- stages and runs ---------------------------------------------------------- */

static void one_stage_is_a_run_without_stages(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome a = TRAIN("plain", NULL, MLP, "--data", data, "--labels",
                             fixture_path("soft"), "-T2");
    struct outcome b = TRAIN("one-stage", NULL, MLP, "--data", data,
                             stages("[{labels: @soft, temperature: 2}]"));
    assert_done(&a);
    assert_done(&b);
    assert_same_network("plain", "one-stage", true);
    assert_true(isnan(metric("plain", 1, "stage")));
    assert_true(metric("one-stage", 3, "stage") == 1);
}

/* Cut in stages that carry everything over, a run is the same run. */
static void a_run_in_stages_that_carry_over_is_the_whole_run(void **state)
{
    static const char *const optimizers[] = {"--optimizer=sgd", "--optimizer=adam"};
    const char *data = data_name(true);

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char whole[16], kept[16], begun[16];
        snprintf(whole, sizeof whole, "uncut-%zu", i);
        snprintf(kept, sizeof kept, "kept-%zu", i);
        snprintf(begun, sizeof begun, "begun-%zu", i);
        struct outcome run =
            TRAIN(whole, NULL, MLP, "--data", data, "--labels", fixture_path("soft"),
                  "-T2", optimizers[i], "--ema=0.9");
        assert_done(&run);
        run = TRAIN(kept, NULL, MLP, "--data", data, "--labels", fixture_path("soft"),
                    "-T2", optimizers[i], "--ema=0.9", "--schedule-over=run",
                    stages("[{epochs: 1}, {epochs: 2, optimizer: keep}]"));
        assert_done(&run);
        assert_same_network(whole, kept, true);
        run = TRAIN(begun, NULL, MLP, "--data", data, "--labels", fixture_path("soft"),
                    "-T2", optimizers[i], "--ema=0.9", "--schedule-over=run",
                    stages("[{epochs: 1}, {epochs: 2}]"));
        assert_done(&run);
        assert_same_network(whole, begun, false);
        for (unsigned epoch = 1; epoch <= 3; epoch++)
            assert_true(metric(whole, epoch, "lr") == metric(begun, epoch, "lr"));
        assert_true(metric(whole, 1, "loss") == metric(begun, 1, "loss"));
        assert_true(metric(whole, 2, "loss") != metric(begun, 2, "loss"));
    }
}

static void an_optimizer_loses_its_memory_once_a_stage(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome a = TRAIN("once", NULL, MLP, "--data", data, "--schedule-over=run",
                             stages("[{epochs: 1}, {epochs: 2}]"));
    struct outcome b =
        TRAIN("carried", NULL, MLP, "--data", data, "--schedule-over=run",
              stages("[{epochs: 1}, {epochs: 1},"
                     " {epochs: 1, optimizer: keep}]"));
    assert_done(&a);
    assert_done(&b);
    assert_same_network("once", "carried", true);
}

static void each_stage_has_its_own_schedule(void **state)
{
    const double due[6] = {0.1, 0.01, 0.001, 0.5, 0.5, 0.05};

    (void)state;
    struct outcome run =
        TRAIN("rates", NULL, MLP, "--data", data_name(true), "--schedule=multistep",
              "--milestones=[1, 2]", "--warmup=0",
              stages("[{}, {lr: 0.5, milestones: [2]}]"));
    assert_done(&run);
    assert_int_equal(count_lines("rates"), 6);
    for (unsigned i = 0; i < 6; i++) {
        assert_true(fabs(metric("rates", i + 1, "lr") - due[i]) < 1e-12);
        assert_true(metric("rates", i + 1, "stage") == 1 + i / 3);
    }
}

#define NO_NORM "--network={family: mlp, hidden: [16], batch-norm: false}"

/* By a bound so low that nothing moves. */
static void a_stage_may_bound_its_gradient(void **state)
{
    const char *data = data_name(true);
    struct outcome run;

    (void)state;
    run = TRAIN("bound", NULL, MLP, NO_NORM, "--data", data, "--weight-decay=0",
                stages("[{epochs: 1}, {epochs: 2, clip: 1e-30}]"));
    assert_done(&run);
    assert_true(near(metric("bound", 2, "loss"), metric("bound", 3, "loss")));
    assert_false(near(metric("bound", 1, "loss"), metric("bound", 2, "loss")));
    run = TRAIN("bound", NULL, MLP, NO_NORM, "--data", data, "--weight-decay=0",
                stages("[{epochs: 1}, {epochs: 2, clip: 2e-30}]"));
    assert_outcome(&run, KD_EUSAGE, "stage 2 clip: 1");
}

static void each_stage_trains_on_its_own_soft_labels(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run = TRAIN("walk", NULL, FROZEN, "--data", data, "-T2",
                               stages("[{labels: @one, epochs: 1},"
                                      " {labels: @sparse, epochs: 1, tail: bucket},"
                                      " {labels: @half, epochs: 1, missing: skip},"
                                      " {labels: none, epochs: 1},"
                                      " {labels: virtual, epochs: 1}]"));
    assert_done(&run);
    run = TRAIN("walk-1", NULL, FROZEN, "--data", data, "--labels", fixture_path("one"),
                "-T2");
    assert_done(&run);
    run = TRAIN("walk-2", NULL, FROZEN, "--data", data, "--labels",
                fixture_path("sparse"), "-T2", "--tail=bucket");
    assert_done(&run);
    run = TRAIN("walk-5", NULL, FROZEN, "--data", data, "--labels=virtual", "-T2");
    assert_done(&run);
    const unsigned epochs[] = {1, 2, 5};
    for (size_t i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "walk-%u", epochs[i]);
        assert_true(
            near(metric("walk", epochs[i], "soft_loss"), metric(name, 1, "soft_loss")));
    }
    assert_false(
        near(metric("walk-1", 1, "soft_loss"), metric("walk-2", 1, "soft_loss")));
    assert_true(isnan(metric("walk", 1, "rows")));
    assert_true(metric("walk", 3, "rows") == SAMPLES / 2);
    assert_true(isnan(metric("walk", 4, "soft_loss")));
    assert_true(near(metric("walk", 4, "loss"), metric("walk", 4, "hard_loss")));
}

/* -- going on ------------------------------------------------------------------- */

/* Views of a cache, a virtual teacher, labels alone: feeds of all shapes. */
#define WALK                                                                           \
    "[{labels: @soft, temperature: 2, epochs: 2, scale: 2, anneal: 2},"                \
    " {labels: @sparse, temperature: 2, epochs: 1, tail: bucket, optimizer: keep},"    \
    " {labels: virtual, epochs: 2, ramp: sigmoid, ramp-epochs: 2, lr: 0.01},"          \
    " {labels: none, epochs: 1, optimizer: keep}]"

static void a_run_stopped_in_any_stage_goes_on_to_the_same_bytes(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome whole = TRAIN("stages", NULL, MLP, "--data", data,
                                 "--optimizer=adam", "--lr=0.01", stages(WALK));
    assert_done(&whole);
    for (int n = 1; n <= 6; n++) {
        const struct trap at = {"checkpoint.h5", n, SIGKILL, n % 2 == 0};
        char name[16];
        snprintf(name, sizeof name, "stages-%d", n);
        struct outcome run = TRAIN(name, &at, MLP, "--data", data, "--optimizer=adam",
                                   "--lr=0.01", stages(WALK));
        assert_int_equal(run.status, -1);
        run = TRAIN(name, NULL, MLP, "--data", data, "--optimizer=adam", "--lr=0.01",
                    stages(WALK));
        assert_done(&run);
        assert_same_run(name, "stages");
    }
}

/* A few steps alone: on a busy machine threads wait long for one another. */
static void stages_on_two_threads_give_the_same_bytes(void **state)
{
    const char *list = "[{labels: @soft, temperature: 2, epochs: 1},"
                       " {labels: virtual, epochs: 1}]";

    (void)state;
    struct outcome a = TRAIN("stages-a", NULL, MLP, "--data", data_name(true),
                             "--threads=2", "--batch=32", stages(list));
    struct outcome b = TRAIN("stages-b", NULL, MLP, "--data", data_name(true),
                             "--threads=2", "--batch=32", stages(list));
    assert_done(&a);
    assert_done(&b);
    assert_same_run("stages-a", "stages-b");
}

static void other_stages_in_the_same_directory_are_refused(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run = TRAIN("fixed", NULL, MLP, "--data", data, "-T2",
                               stages("[{labels: @one}, {}]"));
    assert_done(&run);
    run = TRAIN("fixed", NULL, MLP, "--data", data, "-T2",
                stages("[{labels: @one}, {lr: 0.5}]"));
    assert_outcome(&run, KD_EUSAGE, "stage 2 schedule: ");
    run = TRAIN("fixed", NULL, MLP, "--data", data, "-T2",
                stages("[{labels: @two}, {}]"));
    assert_outcome(&run, KD_EUSAGE, "stage 1 labels: ");
}

/* -- what is checked before the first step ----------------------------------------- */

static void labels_of_later_stages_are_checked_before_the_first_step(void **state)
{
    static const char *const bad[][2] = {
        {"[{}, {labels: @nowhere}]", "stage 2: "},
        {"[{}, {labels: @soft-unlabelled, temperature: 2}]", "another dataset"},
        {"[{}, {labels: @sparse, temperature: 3}]", "--temperature 2"},
        {"[{}, {labels: @sparse, temperature: 2, anneal: 2}]",
         "logits times 0.5, which is temperature 4"},
        {"[{}, {labels: @half, temperature: 2}]", "covers ids 0 to 31"},
        {"[{}, {labels: @sparse, distance: mse}]", "dense"},
        {"[{}, {labels: virtual, distance: mse}]", "take distance kl or ce"},
        {"[{}, {labels: @soft, labels-view: clean}]", "no clean view"}};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct outcome run =
            TRAIN("refused", NULL, MLP, "--data", data_name(true), stages(bad[i][0]));
        if (run.status == KD_OK || strncmp(run.error, "stage 2: ", 9) != 0 ||
            strstr(run.error, bad[i][1]) == NULL)
            fail_msg("%s: status %d, '%s'", bad[i][0], run.status, run.error);
        assert_int_not_equal(access(fixture_path("refused"), F_OK), 0);
    }
}

static char away[2][8192], instead[2][8192];

/* While the run goes on: the cache of a later stage goes away, another one may come. */
static void swap_caches(int signal)
{
    (void)signal;
    if (renameat(AT_FDCWD, away[0], AT_FDCWD, away[1]) != 0 ||
        (instead[0][0] != '\0' &&
         renameat(AT_FDCWD, instead[0], AT_FDCWD, instead[1]) != 0))
        abort();
}

static void a_cache_that_is_another_when_its_stage_begins_is_refused(void **state)
{
    const struct trap at = {"checkpoint.h5", 1, SIGUSR1, false};
    const char *list = "[{epochs: 2}, {labels: @later}]";
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F32);

    (void)state;
    make_cache_of("later", data_name(true), "none", &of);
    snprintf(away[0], sizeof away[0], "%s", fixture_path("later"));
    snprintf(away[1], sizeof away[1], "%s", fixture_path("gone"));
    signal(SIGUSR1, swap_caches);
    struct outcome run =
        TRAIN("swapped", &at, MLP, "--data", data_name(true), "-T2", stages(list));
    assert_outcome(&run, KD_ENOINPUT, "later");
    assert_int_equal(rename(away[1], away[0]), 0);
    snprintf(instead[0], sizeof instead[0], "%s", fixture_path("two"));
    snprintf(instead[1], sizeof instead[1], "%s", fixture_path("later"));
    run = TRAIN("swapped-2", &at, MLP, "--data", data_name(true), "-T2", stages(list));
    assert_outcome(&run, KD_EDATA, "is another cache than the one that the run began");
    signal(SIGUSR1, SIG_DFL);
    assert_int_equal(rename(instead[1], instead[0]), 0);
}

/* -- ramps and annealing ---------------------------------------------------------- */

static void the_soft_weight_climbs_epoch_by_epoch(void **state)
{
    (void)state;
    struct outcome run = TRAIN("ramp", NULL, MLP, "--data", data_name(true), "--labels",
                               fixture_path("one"), "-T2", "--ramp=sigmoid",
                               "--ramp-epochs=2", "--soft=3");
    assert_done(&run);
    for (unsigned epoch = 1; epoch <= 3; epoch++) {
        const double t = epoch > 2 ? 1 : (epoch - 1) / 2.0;
        const double weight = 3 * exp(-5 * (1 - t) * (1 - t));
        assert_true(fabs(metric("ramp", epoch, "soft_weight") - weight) < 1e-12);
        assert_true(fabs(metric("ramp", epoch, "loss") -
                         0.1 * metric("ramp", epoch, "hard_loss") -
                         weight * metric("ramp", epoch, "soft_loss")) < 1e-9);
    }
}

/* mean (z - s u)^2 of a frozen network is a parabola of s: three points give it. */
static void the_teachers_logits_are_annealed(void **state)
{
    (void)state;
    struct outcome run =
        TRAIN("anneal", NULL, FROZEN, "--data", data_name(true), "--labels",
              fixture_path("one"), "--distance=mse", "--anneal=4", "--epochs=8");
    assert_done(&run);
    double loss[5];
    for (unsigned k = 1; k <= 4; k++) {
        loss[k] = metric("anneal", 2 * k, "soft_loss");
        assert_true(metric("anneal", 2 * k - 1, "scale") == k / 4.0);
        assert_true(near(metric("anneal", 2 * k - 1, "soft_loss"), loss[k]));
    }
    assert_false(near(loss[1], loss[2]));
    assert_true(near(loss[4] - 3 * loss[3] + 3 * loss[2] - loss[1], 0));
    run = TRAIN("unscaled", NULL, FROZEN, "--data", data_name(true), "--labels",
                fixture_path("one"), "--distance=mse");
    assert_done(&run);
    assert_true(near(metric("unscaled", 1, "soft_loss"), loss[4]));
    run = TRAIN("halved", NULL, FROZEN, "--data", data_name(true), "--labels",
                fixture_path("one"), "--distance=mse", "--scale=0.5");
    assert_done(&run);
    assert_true(near(metric("halved", 1, "soft_loss"), loss[2]));
}

/* -- several caches ---------------------------------------------------------------- */

/* Which of two caches each of `epochs` epochs of one batch has learned from: the
 * losses of a frozen network tell. */
static void check_turns(const char *name, const char *order, const char *labels,
                        unsigned epochs, char *turns)
{
    char option[32];

    snprintf(option, sizeof option, "--epochs=%u", epochs);
    struct outcome run =
        TRAIN(name, NULL, FROZEN, "--data", data_name(true), "-T2", "--labels", labels,
              "--labels-order", order, option, "--batch=64");
    assert_done(&run);
    const double one = metric("alone-one", 1, "soft_loss");
    const double two = metric("alone-two", 1, "soft_loss");
    assert_false(near(one, two));
    for (unsigned i = 0; i < epochs; i++) {
        const double loss = metric(name, i + 1, "soft_loss");
        assert_true(near(loss, one) || near(loss, two));
        turns[i] = near(loss, one) ? '1' : '2';
    }
    turns[epochs] = '\0';
}

static void several_caches_teach_in_turn_or_at_random(void **state)
{
    static const char *const names[] = {"one", "two"};
    char list[16384], turns[17], again[17];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char name[16];
        snprintf(name, sizeof name, "alone-%s", names[i]);
        struct outcome run = TRAIN(name, NULL, FROZEN, "--data", data_name(true), "-T2",
                                   "--labels", fixture_path(names[i]), "--batch=64");
        assert_done(&run);
    }
    snprintf(list, sizeof list, "%s,%s", fixture_path("one"), fixture_path("two"));
    check_turns("in-turn", "sequential", list, 4, turns);
    assert_string_equal(turns, "1212");
    check_turns("drawn", "random", list, 16, turns);
    assert_non_null(strchr(turns, '1'));
    assert_non_null(strchr(turns, '2'));
    assert_string_not_equal(turns, "1212121212121212");
    check_turns("drawn-again", "random", list, 16, again);
    assert_string_equal(turns, again);
    assert_same_run("drawn", "drawn-again");
}

static void caches_that_are_not_alike_do_not_teach_together(void **state)
{
    char list[16384];

    (void)state;
    snprintf(list, sizeof list, "%s,%s", fixture_path("one"), fixture_path("soft"));
    struct outcome run =
        TRAIN("unlike", NULL, MLP, "--data", data_name(true), "-T2", "--labels", list);
    assert_outcome(&run, KD_EDATA, "are not those of");
    snprintf(list, sizeof list, "%s,%s", fixture_path("one"), fixture_path("nowhere"));
    run =
        TRAIN("unlike", NULL, MLP, "--data", data_name(true), "-T2", "--labels", list);
    assert_outcome(&run, KD_ENOINPUT, "nowhere");
}

static void a_path_with_a_comma_is_one_cache(void **state)
{
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F32);

    (void)state;
    make_cache_of("this,that", data_name(true), "none", &of);
    struct outcome run = TRAIN("comma", NULL, MLP, "--data", data_name(true), "-T2",
                               "--labels", fixture_path("this,that"));
    assert_done(&run);
}

/* -- the virtual teacher ------------------------------------------------- */

/* At temperature 1 its cross-entropy is that of labels smoothed by (1 - a) C / (C - 1):
 * both give the right class a. */
static void a_virtual_teacher_at_temperature_1_smooths_labels(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome a =
        TRAIN("virtual", NULL, MLP, "--data", data, "--labels=virtual", "-T1",
              "--virtual-correct=0.85", "--hard=0", "--soft=1", "--distance=ce");
    struct outcome b =
        TRAIN("smoothed", NULL, MLP, "--data", data, "--label-smoothing=0.2");
    assert_done(&a);
    assert_done(&b);
    for (unsigned epoch = 1; epoch <= 3; epoch++)
        assert_true(fabs(metric("virtual", epoch, "soft_loss") -
                         metric("smoothed", epoch, "hard_loss")) < 1e-4);
}

static void a_virtual_teacher_sees_every_view_and_mixes(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run =
        TRAIN("mixed", NULL, MLP, "--data", data, "--labels=virtual",
              "--augment=crop1,flip,cutmix", "--test", data, "--epochs=8");
    assert_done(&run);
    assert_true(metric("mixed", 8, "soft_loss") < metric("mixed", 1, "soft_loss"));
}

static void samples_without_a_label_have_no_virtual_teacher(void **state)
{
    const uint64_t shape[1] = {SAMPLES};
    int32_t y[SAMPLES];
    char data[16384];

    (void)state;
    for (int32_t i = 0; i < SAMPLES; i++)
        y[i] = i % 4 == 2 ? -1 : i % CLASSES;
    assert_int_equal(kd_npy_write(fixture_path("gaps.npy"), KD_I32, 1, shape, y),
                     KD_OK);
    snprintf(data, sizeof data, "npy:%s,%s", fixture_path("x.npy"),
             fixture_path("gaps.npy"));
    struct outcome run =
        TRAIN("gaps", NULL, MLP, "--data", data, stages("[{}, {labels: virtual}]"));
    assert_outcome(&run, KD_EDATA, "stage 2: ");
    assert_non_null(strstr(run.error, "sample 2 has no label"));
    run =
        TRAIN("gaps", NULL, MLP, "--data", data, "--labels=virtual", "--missing=skip");
    assert_done(&run);
    assert_true(metric("gaps", 1, "rows") == SAMPLES / 4 * 3);
}

/* Of three classes that the data show, a cache may know a fourth. */
static void a_virtual_teacher_has_the_classes_of_the_caches_beside_it(void **state)
{
    static const char *const lists[] = {"[{labels: virtual}, {labels: @wide}]",
                                        "[{labels: @wide}, {labels: virtual}]",
                                        "[{labels: none}, {labels: @wide}]"};
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F32);
    const uint64_t shape[1] = {SAMPLES};
    uint8_t y[SAMPLES];
    char data[16384];

    (void)state;
    for (size_t i = 0; i < SAMPLES; i++)
        y[i] = (uint8_t)(i % 3);
    assert_int_equal(kd_npy_write(fixture_path("three.npy"), KD_U8, 1, shape, y),
                     KD_OK);
    snprintf(data, sizeof data, "npy:%s,%s", fixture_path("x.npy"),
             fixture_path("three.npy"));
    make_cache_of("wide", data, "none", &of);
    for (size_t i = 0; i < 3; i++) {
        char name[16];
        struct kd_model model;
        snprintf(name, sizeof name, "wide-%zu", i);
        struct outcome run =
            TRAIN(name, NULL, MLP, "--data", data, "-T2", stages(lists[i]));
        assert_done(&run);
        assert_int_equal(kd_model_open(in_run(name, "model.h5"), &model), KD_OK);
        assert_int_equal(model.sizes.classes, CLASSES);
        assert_true(kd_digest_equal(&model.class_map_digest, &of.class_map_digest));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_stage_is_a_run_without_stages),
        cmocka_unit_test(a_run_in_stages_that_carry_over_is_the_whole_run),
        cmocka_unit_test(an_optimizer_loses_its_memory_once_a_stage),
        cmocka_unit_test(each_stage_has_its_own_schedule),
        cmocka_unit_test(a_stage_may_bound_its_gradient),
        cmocka_unit_test(each_stage_trains_on_its_own_soft_labels),
        cmocka_unit_test(a_run_stopped_in_any_stage_goes_on_to_the_same_bytes),
        cmocka_unit_test(stages_on_two_threads_give_the_same_bytes),
        cmocka_unit_test(other_stages_in_the_same_directory_are_refused),
        cmocka_unit_test(labels_of_later_stages_are_checked_before_the_first_step),
        cmocka_unit_test(a_cache_that_is_another_when_its_stage_begins_is_refused),
        cmocka_unit_test(the_soft_weight_climbs_epoch_by_epoch),
        cmocka_unit_test(the_teachers_logits_are_annealed),
        cmocka_unit_test(several_caches_teach_in_turn_or_at_random),
        cmocka_unit_test(caches_that_are_not_alike_do_not_teach_together),
        cmocka_unit_test(a_path_with_a_comma_is_one_cache),
        cmocka_unit_test(a_virtual_teacher_at_temperature_1_smooths_labels),
        cmocka_unit_test(a_virtual_teacher_sees_every_view_and_mixes),
        cmocka_unit_test(samples_without_a_label_have_no_virtual_teacher),
        cmocka_unit_test(a_virtual_teacher_has_the_classes_of_the_caches_beside_it),
    };

    return cmocka_run_group_tests_name("stages", tests, open_stages, fixture_close);
}
