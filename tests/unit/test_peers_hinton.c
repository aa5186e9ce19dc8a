/* SPDX-License-Identifier: MIT */
/* Trained teachers, run in every step: against small networks in double precision. */
#include "peers_reference.h"
#include "peers_runs.h"

#define T 3.0

/* Trains three networks for an epoch, and keeps them as peer1-NAME.h5, ... */
static void make_teachers(const char *suffix, const char *network)
{
    char ending[32];
    struct bench b;

    snprintf(ending, sizeof ending, "-%s", suffix);
    OPEN(&b, "--data", data_name(true), "--method=dml", "--network", network,
         "--peers=3", "--seed=9");
    take_epochs(&b, 1);
    for (size_t k = 0; k < 3; k++)
        assert_int_equal(kd_peers_keep(&b.p, &b.p.learning->member[k], ending), KD_OK);
    close_bench(&b);
}

/* "--teachers=A,B" of the first of those. */
static const char *teachers(const char *suffix, int count)
{
    static char text[16384];
    size_t length = (size_t)snprintf(text, sizeof text, "--teachers=");

    for (int k = 1; k <= count; k++) {
        char name[64];
        snprintf(name, sizeof name, "peer%d-%s.h5", k, suffix);
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%s",
                                   k > 1 ? "," : "", fixture_path(name));
    }
    return text;
}

static void check(size_t students, int count)
{
    static struct net nets[KD_MAX_PEERS], taught[KD_MAX_PEERS];
    struct answers answers[KD_MAX_PEERS];
    char peers[32];
    struct bench b;

    snprintf(peers, sizeof peers, "--peers=%zu", students);
    OPEN(&b, "--data", data_name(true), "--method=hinton", teachers("tiny", count),
         "--network", TINY, peers, "--temperature=3", "--hard=0.2", "--soft=0.7",
         PLAIN_SGD);
    assert_int_equal(b.p.learning->num_parts, students + (size_t)count);
    for (size_t k = 0; k < students; k++)
        copy_net(b.p.learning->part[k]->graph, &nets[k]);
    for (int k = 0; k < count; k++)
        copy_net(b.p.learning->part[students + (size_t)k]->graph, &taught[k]);
    for (uint64_t epoch = 0; epoch < 2; epoch++) {
        kd_peers_begin_epoch(&b.p);
        for (uint64_t step = 0; step < STEPS; step++) {
            take_step(&b, step);
            for (int k = 0; k < count; k++)
                answers[k] = ask(&taught[k], b.p.batch[0], T);
            for (size_t k = 0; k < students; k++)
                learn(&nets[k], b.p.batch[0], answers, (size_t)count, 0.2,
                      0.7 / (double)count, T);
        }
        b.own.done++;
    }
    for (size_t k = 0; k < students; k++)
        assert_like_net(b.p.learning->part[k]->graph, &nets[k]);
    for (int k = 0; k < count; k++) /* teachers stay as they are */
        assert_like_net(b.p.learning->part[students + (size_t)k]->graph, &taught[k]);
    close_bench(&b);
}

static void students_learn_from_the_mean_of_the_teachers(void **state)
{
    (void)state;
    make_teachers("tiny", TINY);
    check(1, 1);
    check(1, 3);
    check(3, 2);
}

static void defaults_are_those_of_the_recipe(void **state)
{
    struct bench b;

    (void)state;
    make_teachers("tiny", TINY);
    OPEN(&b, "--data", data_name(true), "--method=hinton", teachers("tiny", 1),
         "--network", TINY);
    assert_string_equal(b.recipe.name[0], "student");
    assert_float_equal(b.recipe.base.loss.hard, 0.1, 0);
    assert_float_equal(b.recipe.base.loss.soft, 0.9, 0);
    assert_float_equal(b.recipe.base.loss.temperature, 4, 0);
    close_bench(&b);
}

static void without_exchange_no_teacher_is_run(void **state)
{
    struct bench b, dml;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--method=hinton", "--network", TINY,
         "--independent", "--peers=2");
    OPEN(&dml, "--data", data_name(true), "--method=dml", "--network", TINY,
         "--independent", "--update=simultaneous", "--peers=2");
    assert_int_equal(b.p.learning->num_parts, 2);
    take_epochs(&b, 1);
    take_epochs(&dml, 1);
    assert_same_weights(b.p.learning->part[0]->graph, dml.p.learning->part[0]->graph);
    close_bench(&b);
    close_bench(&dml);
}

/* -- what is refused ------------------------------------------------------------ */

static void assert_not_opened(const char *words, const char *teacher, const char *data)
{
    char text[16384];

    snprintf(text, sizeof text, "--teachers=%s", fixture_path(teacher));
    NOT_OPENED(KD_EDATA, words, "--data", data, "--method=hinton", text, "--network",
               TINY);
}

static void teachers_of_other_data_are_refused(void **state)
{
    char part[20000];

    (void)state;
    REFUSED(KD_ERECIPE, "say which trained networks teach", "--data", data_name(true),
            "--method=hinton", "--network", TINY);
    make_teachers("tiny", TINY);
    /* Half of the samples have other means. */
    snprintf(part, sizeof part, "%s@0:33", data_name(true));
    assert_not_opened("normalises its input otherwise", "peer1-tiny.h5", part);
    assert_not_opened("x.npy", "x.npy", data_name(true));
}

static void a_teacher_of_other_classes_is_refused(void **state)
{
    struct bench b;

    (void)state;
    OPEN(&b, "--data", data_name(true), "--method=dml", "--network", TINY, "--peers=2");
    b.own.class_map.hex[0] ^= 1; /* another hexadecimal digit */
    assert_int_equal(kd_peers_keep(&b.p, &b.p.learning->member[0], "-classes"), KD_OK);
    close_bench(&b);
    assert_not_opened("samples or classes other than those of", "peer1-classes.h5",
                      data_name(true));
}

/* -- runs ----------------------------------------------------------------------- */

static void interrupted_runs_go_on(void **state)
{
    static const char *const files[] = {"student.h5", "metrics.jsonl", "recipe.txt",
                                        "checkpoint.h5", NULL};

    (void)state;
    make_teachers("resnet", "{family: resnet, depth: 8, width: 4}");
    CHECK_RESUME(files, "--method=hinton", teachers("resnet", 2),
                 "--network={family: mlp, hidden: [16]}");
}

/* The recipe tells a teacher by its digest: the file may move, not change. */
static void a_run_goes_on_with_the_same_teacher_alone(void **state)
{
    char before[4096];
    struct outcome o;

    (void)state;
    make_teachers("moved", TINY);
    o = RUN("same", NULL, "--method=hinton", teachers("moved", 1), "--network", TINY);
    assert_done(&o);
    snprintf(before, sizeof before, "%s", fixture_path("peer1-moved.h5"));
    assert_int_equal(rename(before, fixture_path("peer1-elsewhere.h5")), 0);
    o = RUN("same", NULL, "--method=hinton", teachers("elsewhere", 1), "--network",
            TINY);
    assert_done(&o);
    assert_int_equal(rename(fixture_path("peer2-moved.h5"), before), 0);
    o = RUN("same", NULL, "--method=hinton", teachers("moved", 1), "--network", TINY);
    assert_int_equal(o.status, KD_EUSAGE);
    assert_non_null(strstr(o.error, "teacher 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(students_learn_from_the_mean_of_the_teachers),
        cmocka_unit_test(defaults_are_those_of_the_recipe),
        cmocka_unit_test(without_exchange_no_teacher_is_run),
        cmocka_unit_test(teachers_of_other_data_are_refused),
        cmocka_unit_test(a_teacher_of_other_classes_is_refused),
        cmocka_unit_test(interrupted_runs_go_on),
        cmocka_unit_test(a_run_goes_on_with_the_same_teacher_alone),
    };

    return cmocka_run_group_tests(tests, open_all, fixture_close);
}
