/* SPDX-License-Identifier: MIT */
/* Monitoring: rows against a naive reference, weights, the record's file, and runs that
 * are watched. */
#include "train_fixture.h"

#include "kd/loss.h"
#include "kd/monitor.h"

#include <cjson/cJSON.h>

/* -- rows ---------------------------------------------------------------------- */

#define MOST 7

static void a_row_has_the_figures_worked_out_by_hand(void **state)
{
    const float p[3] = {0.5F, 0.25F, 0.25F}, q[3] = {0.25F, 0.75F, 0};
    struct kd_monitor_row row;

    (void)state;
    kd_monitor_compare(p, q, 0, 3, 1, &row);
    assert_int_equal(row.student_best, 0);
    assert_int_equal(row.teacher_best, 1);
    assert_int_equal(row.flags, KD_MONITOR_LABELLED | KD_MONITOR_TEACHER_RIGHT);
    assert_true(row.student == 0.25 && row.teacher == 0.75);
    assert_true(near(row.loss, log(4)));
    assert_true(near(row.variation, (0.25 + 0.5 + 0.25) / 2));
    assert_true(near(row.kl, 0.25 * log(0.5) + 0.75 * log(3)));
    kd_monitor_compare(p, p, 0, 3, -1, &row);
    assert_int_equal(row.flags, KD_MONITOR_AGREES);
    assert_true(row.kl == 0 && row.variation == 0);
    assert_true(row.student == -1 && row.teacher == -1 && row.loss == -1);
}

static void a_bucket_is_one_class(void **state)
{
    const float p[4] = {0.5F, 0.25F, 0.125F, 0.125F}, q[4] = {-1, 0.5F, 0.25F, -1};
    struct kd_monitor_row row;

    (void)state;
    kd_monitor_compare(p, q, 0.25, 4, 0, &row);
    assert_int_equal(row.teacher_best, 1);
    assert_true(row.teacher == 0);
    assert_true(near(row.variation, (0.25 + 0.125 + 0.375) / 2));
    assert_true(near(row.kl, 0.5 * log(2) + 0.25 * log(2) + 0.25 * log(0.25 / 0.625)));
}

static void random_rows_are_those_of_the_formulas(void **state)
{
    struct kd_random r = kd_random_at(3, KD_RANDOM_TEST, 0, 0);
    struct kd_monitor_sums sums = {0};
    uint64_t due[4] = {0};

    (void)state;
    for (unsigned n = 0; n < 500; n++) {
        float p[MOST], q[MOST];
        const size_t classes = 2 + n % (MOST - 1);
        const int32_t label = (int32_t)kd_random_below(&r, (uint32_t)classes);
        size_t best_p = 0, best_q = 0;
        double kl = 0, apart = 0, sum_p = 0, sum_q = 0;
        struct kd_monitor_row row;
        for (size_t c = 0; c < classes; c++) {
            sum_p += (double)(p[c] = (float)(1 + kd_random_below(&r, 1000)));
            sum_q += (double)(q[c] = (float)(1 + kd_random_below(&r, 1000)));
        }
        for (size_t c = 0; c < classes; c++) {
            p[c] = (float)((double)p[c] / sum_p);
            q[c] = (float)((double)q[c] / sum_q);
            if (p[c] > p[best_p])
                best_p = c;
            if (q[c] > q[best_q])
                best_q = c;
            kl += (double)q[c] * (log((double)q[c]) - log((double)p[c]));
            apart += fabs((double)p[c] - (double)q[c]) / 2;
        }
        kd_monitor_compare(p, q, 0, classes, label, &row);
        assert_true(fabs(row.kl - kl) < 1e-9 && fabs(row.variation - apart) < 1e-9);
        assert_int_equal((row.flags & KD_MONITOR_AGREES) != 0, best_p == best_q);
        due[(best_p == (size_t)label) + 2 * (best_q == (size_t)label)]++;
        kd_monitor_add(&sums, &row);
    }
    assert_int_equal(sums.rows, 500);
    assert_int_equal(sums.both_wrong, due[0]);
    assert_int_equal(sums.outgrown, due[1]);
    assert_int_equal(sums.behind, due[2]);
    assert_int_equal(sums.both_right, due[3]);
    assert_true(due[0] > 0 && due[1] > 0 && due[2] > 0 && due[3] > 0);
}

/* -- weights in the loss ---------------------------------------------------------- */

/* Rows of a weight are rows of a loss with that soft weight; a dropped one is one that
 * a cache lacks, under the rule hard-label. */
static void weights_and_dropped_rows_are_those_of_the_loss(void **state)
{
    const float z[6] = {1, 0, -1, 0.5F, 2, 0},
                q[6] = {0.7F, 0.2F, 0.1F, 0.1F, 0.1F, 0.8F};
    const int32_t label[2] = {0, 2};
    const float weight[2] = {0.25F, 1.75F};
    const bool dropped[2] = {false, true}, found[2] = {true, false};
    const struct kd_loss loss = {
        .hard = 0.3, .soft = 0.9, .temperature = 2, .t_squared = true};
    struct kd_targets targets = {.label = label, .soft = q, .weight = weight};
    struct kd_loss_sums both = {0};
    float gradient[6], alone[3];

    (void)state;
    assert_int_equal(kd_loss_batch(&loss, 2, 3, z, &targets, gradient, &both), KD_OK);
    double total = 0;
    for (size_t r = 0; r < 2; r++) {
        struct kd_loss one = loss;
        struct kd_loss_sums sums = {0};
        one.soft *= (double)weight[r];
        assert_int_equal(
            kd_loss_batch(&one, 1, 3, z + 3 * r,
                          &(struct kd_targets){.label = label + r, .soft = q + 3 * r},
                          alone, &sums),
            KD_OK);
        total += sums.total;
        for (size_t c = 0; c < 3; c++)
            assert_true(near((double)gradient[3 * r + c], (double)alone[c] / 2));
    }
    assert_true(near(both.total, total));

    struct kd_loss rule = loss;
    struct kd_loss_sums a = {0}, b = {0};
    float other[6];
    rule.missing = KD_MISSING_HARD_LABEL;
    targets = (struct kd_targets){.label = label, .soft = q, .dropped = dropped};
    assert_int_equal(kd_loss_batch(&loss, 2, 3, z, &targets, gradient, &a), KD_OK);
    targets = (struct kd_targets){.label = label, .soft = q, .found = found};
    assert_int_equal(kd_loss_batch(&rule, 2, 3, z, &targets, other, &b), KD_OK);
    assert_memory_equal(gradient, other, sizeof gradient);
    assert_memory_equal(&a, &b, sizeof a);
    assert_int_equal(a.softened, 1);
}

/* -- the record -------------------------------------------------------------------- */

static struct kd_record make_record(void)
{
    struct kd_record record = {.first = 100, .count = 5};

    fixture_digest(&record.dataset, 7);
    assert_int_equal(kd_record_init(&record), KD_OK);
    return record;
}

static void add(struct kd_record *record, uint64_t id, uint64_t epoch, double gap,
                unsigned flags)
{
    const struct kd_monitor_row row = {.label = 1,
                                       .flags = (uint8_t)flags,
                                       .student = 0.25,
                                       .teacher = 0.5,
                                       .loss = 1.5,
                                       .kl = 2 * gap,
                                       .variation = gap};

    kd_record_add(record, id, epoch, &row);
}

#define RIGHT KD_MONITOR_STUDENT_RIGHT
#define KNOWN KD_MONITOR_TEACHER_RIGHT

static void the_record_counts_what_happened(void **state)
{
    static const unsigned flags[] = {KNOWN, RIGHT | KNOWN, KNOWN, 0, RIGHT, RIGHT, 0};
    struct kd_record record = make_record();

    (void)state;
    for (unsigned i = 0; i < 7; i++)
        add(&record, 103, i + 1, 0.5, flags[i]);
    assert_int_equal(record.seen[3], 7);
    assert_int_equal(record.right[3], 3);
    assert_int_equal(record.behind[3], 2);
    assert_int_equal(record.forgotten[3], 2);
    assert_int_equal(record.epoch[3], 7);
    assert_int_equal(record.flags[3], 0);
    assert_int_equal(record.seen[2] + record.seen[4], 0);
    kd_record_clear(&record);
}

static void weights_are_gaps_over_their_mean(void **state)
{
    struct kd_record record = make_record();
    float w[7];

    (void)state;
    kd_record_weights(&record, 100, 5, w);
    for (size_t i = 0; i < 5; i++)
        assert_true(w[i] == 1);
    add(&record, 100, 1, 0.25, 0);
    add(&record, 102, 1, 0.5, 0);
    add(&record, 104, 1, 0, 0);
    kd_record_weights(&record, 99, 7, w);
    const double due[7] = {1, 1, 1, 2, 1, 0, 1};
    for (size_t i = 0; i < 7; i++)
        assert_true(near((double)w[i], due[i]));
    add(&record, 100, 2, 0, 0);
    add(&record, 102, 2, 0, 0);
    kd_record_weights(&record, 100, 5, w);
    for (size_t i = 0; i < 5; i++)
        assert_true(w[i] == 1);
    kd_record_clear(&record);
}

static void a_record_is_read_as_it_was_written(void **state)
{
    struct kd_record record = make_record(), back;
    const char *path = fixture_path("monitor.h5");
    struct kd_h5 *file = NULL;

    (void)state;
    add(&record, 101, 3, 0.25, RIGHT);
    assert_int_equal(kd_record_save(&record, path, "test"), KD_OK);
    assert_int_equal(kd_record_load(path, &back), KD_OK);
    assert_true(kd_digest_equal(&back.dataset, &record.dataset));
    assert_int_equal(back.first, 100);
    assert_int_equal(back.count, 5);
    assert_memory_equal(back.gap, record.gap, 5 * sizeof *back.gap);
    assert_memory_equal(back.epoch, record.epoch, 5 * sizeof *back.epoch);
    assert_memory_equal(back.right, record.right, 5 * sizeof *back.right);
    assert_memory_equal(back.flags, record.flags, 5);
    kd_record_clear(&back);
    const uint64_t shape[1] = {5};
    assert_int_equal(kd_h5_open_rw(path, &file), KD_OK);
    record.gap[1] = 0.5F;
    assert_int_equal(kd_h5_write(file, "gap", KD_F32, 1, shape, record.gap, NULL),
                     KD_OK);
    assert_int_equal(kd_h5_finish(file), KD_OK);
    assert_int_equal(kd_record_load(path, &back), KD_EDATA);
    assert_says("its checksum is another");
    record.gap[1] = -1;
    assert_int_equal(kd_record_save(&record, path, "test"), KD_OK);
    assert_int_equal(kd_record_load(path, &back), KD_EDATA);
    assert_says("gap: sample 101 has -1");
    kd_record_clear(&record);
}

static void what_is_no_record_is_refused(void **state)
{
    struct kd_record record;

    (void)state;
    assert_int_equal(kd_record_load(fixture_path("xy.h5"), &record), KD_EDATA);
    assert_says("xy.h5");
    assert_int_equal(kd_record_load(fixture_path("none.h5"), &record), KD_ENOINPUT);
    assert_null(record.gap);
}

/* -- runs -------------------------------------------------------------------------- */

/* Caches of the clean view whose teachers are right, wrong about classes 0 and 1, and
 * wrong throughout. */
static void make_teacher(const char *name, int wrong)
{
    struct kd_identity of = fixture_identity(CLASSES, SAMPLES, 1, KD_F32);
    struct kd_shard_writer *writer = NULL;
    struct kd_dataset *data = NULL;
    char *path = NULL;

    assert_int_equal(kd_dataset_open(data_name(true), &data), KD_OK);
    of.dataset_digest = kd_dataset_facts(data)->digest;
    kd_dataset_close(data);
    assert_int_equal(kd_class_map_digest(NULL, CLASSES, &of.class_map_digest), KD_OK);
    of.temperature = 2;
    of.seed = 0;
    snprintf(of.augment, sizeof of.augment, "none");
    assert_int_equal(kd_make_directory(fixture_path(name)), KD_OK);
    path = kd_cache_shard_path(fixture_path(name), 0);
    assert_int_equal(kd_shard_writer_open(path, &of, SAMPLES, "test", &writer), KD_OK);
    for (uint64_t id = 0; id < SAMPLES; id++) {
        const int32_t label = (int32_t)(id % CLASSES);
        const uint32_t view = 0;
        float scaled[CLASSES] = {0};
        scaled[label < wrong ? (label + 1) % CLASSES : label] = 2;
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

static int open_monitored(void **state)
{
    if (open_all(state) != 0)
        return -1;
    make_teacher("right", 0);
    make_teacher("mixed", 2);
    make_teacher("wrong", CLASSES);
    return 0;
}

#define TAUGHT(cache)                                                                  \
    MLP, "--data", data_name(true), "-T2", "--labels", fixture_path(cache)

static void load(const char *name, struct kd_record *record)
{
    assert_int_equal(kd_record_load(in_run(name, "monitor.h5"), record), KD_OK);
}

static void a_report_changes_no_bit_of_the_network(void **state)
{
    struct kd_record record;
    unsigned right = 0, seen = 0;

    (void)state;
    struct outcome run = TRAIN("plain", NULL, TAUGHT("mixed"));
    assert_done(&run);
    run = TRAIN("told", NULL, TAUGHT("mixed"), "--monitor=report");
    assert_done(&run);
    for (unsigned e = 1; e <= 3; e++) {
        const double sum = metric("told", e, "both_right") +
                           metric("told", e, "behind") + metric("told", e, "outgrown") +
                           metric("told", e, "both_wrong");
        assert_true(near(sum, 1));
        assert_true(metric("told", e, "loss") == metric("plain", e, "loss"));
        assert_true(
            near(metric("told", e, "both_right") + metric("told", e, "behind"), 0.5));
        assert_true(
            near(metric("told", e, "both_right") + metric("told", e, "outgrown"),
                 metric("told", e, "train_accuracy")));
        assert_true(
            near(metric("told", e, "fidelity_kl") * 4, metric("told", e, "soft_loss")));
    }
    assert_false(there("plain", "monitor.h5"));
    assert_true(isnan(metric("plain", 1, "agreement")));
    load("told", &record);
    assert_int_equal(record.count, SAMPLES);
    for (size_t i = 0; i < SAMPLES; i++) {
        const bool known = i % CLASSES >= 2;
        assert_int_equal((record.flags[i] & KNOWN) != 0, known);
        assert_int_equal(record.epoch[i], 3);
        assert_true(known == (record.teacher[i] > 0.5F));
        right += (record.flags[i] & RIGHT) != 0;
        seen += record.seen[i];
    }
    assert_int_equal(seen, 3 * SAMPLES);
    assert_true(near((double)right / SAMPLES, metric("told", 3, "train_accuracy")));
    kd_record_clear(&record);
}

static void what_was_not_shown_is_not_recorded(void **state)
{
    struct kd_record record;

    (void)state;
    struct outcome run =
        TRAIN("held", NULL, TAUGHT("right"), "--monitor=report", "--holdout=16:48");
    assert_done(&run);
    load("held", &record);
    for (size_t i = 0; i < SAMPLES; i++)
        assert_int_equal(record.seen[i], i < 16 || i >= 48 ? 3 : 0);
    kd_record_clear(&record);
    run = TRAIN("half-watched", NULL, TAUGHT("half"), "--monitor=report",
                "--missing=hard-label");
    assert_done(&run);
    load("half-watched", &record);
    for (size_t i = 0; i < SAMPLES; i++)
        assert_int_equal(record.seen[i], i < SAMPLES / 2 ? 3 : 0);
    kd_record_clear(&record);
}

static void soft_labels_that_are_wrong_are_dropped(void **state)
{
    (void)state;
    struct outcome a = TRAIN("dropped", NULL, TAUGHT("wrong"), "--monitor=correct-only",
                             "--hard=0.5", "--soft=0.5");
    struct outcome b = TRAIN("alone", NULL, MLP, "--data", data_name(true));
    assert_done(&a);
    assert_done(&b);
    for (unsigned e = 1; e <= 3; e++)
        assert_true(near(metric("dropped", e, "loss"), metric("alone", e, "loss")));
    a = TRAIN("kept", NULL, TAUGHT("right"), "--monitor=correct-only");
    b = TRAIN("as-ever", NULL, TAUGHT("right"));
    assert_done(&a);
    assert_done(&b);
    for (unsigned e = 1; e <= 3; e++)
        assert_true(metric("kept", e, "loss") == metric("as-ever", e, "loss"));
}

/* In the first epoch nothing is known yet; then the loss is that of the record. */
static void samples_are_weighed_by_their_gaps(void **state)
{
    struct kd_record record;
    double due = 0, gaps = 0;

    (void)state;
    struct outcome run =
        TRAIN("first", NULL, FROZEN, "--data", data_name(true), "--labels",
              fixture_path("mixed"), "-T2", "--monitor=report", "--hard=0", "--soft=1");
    assert_done(&run);
    run =
        TRAIN("weighed", NULL, FROZEN, "--data", data_name(true), "--labels",
              fixture_path("mixed"), "-T2", "--monitor=weigh", "--hard=0", "--soft=1");
    assert_done(&run);
    load("first", &record);
    for (size_t i = 0; i < SAMPLES; i++)
        gaps += (double)record.gap[i] / SAMPLES;
    for (size_t i = 0; i < SAMPLES; i++)
        due += (double)record.gap[i] / gaps * 4 * (double)record.kl[i] / SAMPLES;
    kd_record_clear(&record);
    assert_true(near(metric("weighed", 1, "loss"), metric("first", 1, "loss")));
    assert_true(fabs(metric("weighed", 2, "loss") - due) < 1e-4);
    assert_true(fabs(metric("weighed", 3, "loss") - due) < 1e-4);
    assert_false(fabs(due - metric("first", 1, "loss")) < 1e-3);
    run = TRAIN("later", NULL, FROZEN, "--data", data_name(true), "--labels",
                fixture_path("mixed"), "-T2", "--monitor=weigh", "--hard=0", "--soft=1",
                "--monitor-from", in_run("first", "monitor.h5"));
    assert_done(&run);
    assert_true(fabs(metric("later", 1, "loss") - due) < 1e-4);
}

static void a_record_of_other_data_is_no_record_to_weigh_by(void **state)
{
    struct kd_record record = make_record();
    const char *path = fixture_path("foreign.h5");

    (void)state;
    assert_int_equal(kd_record_save(&record, path, "test"), KD_OK);
    kd_record_clear(&record);
    struct outcome run =
        TRAIN("x", NULL, TAUGHT("mixed"), "--monitor=weigh", "--monitor-from", path);
    assert_outcome(&run, KD_EDATA, "foreign.h5: is of another dataset");
    run = TRAIN("x", NULL, TAUGHT("mixed"), "--monitor=report", "--monitor-from", path);
    assert_outcome(&run, KD_ERECIPE, "with monitor weigh");
    run = TRAIN("x", NULL, TAUGHT("mixed"), "--monitor=weigh", "--monitor-patience=2");
    assert_outcome(&run, KD_ERECIPE, "with monitor stop");
    run = TRAIN("x", NULL, TAUGHT("mixed"), "--monitor=weigh", "--monitor-from",
                in_run("first", "monitor.h5"));
    assert_done(&run);
    run = TRAIN("x", NULL, TAUGHT("mixed"), "--monitor=weigh", "--monitor-from",
                in_run("told", "monitor.h5"));
    assert_outcome(&run, KD_EUSAGE, "monitor-from: ");
}

/* A frozen network gains something in its first epoch alone. */
static void a_stage_ends_when_nothing_is_gained(void **state)
{
    const char *data = data_name(true);

    (void)state;
    struct outcome run = TRAIN("stopped", NULL, FROZEN, "--data", data, "--labels",
                               fixture_path("right"), "-T2", "--epochs=9",
                               "--monitor=stop", "--monitor-patience=2");
    assert_done(&run);
    assert_int_equal(count_lines("stopped"), 3);
    run = TRAIN("stopped", NULL, FROZEN, "--data", data, "--labels",
                fixture_path("right"), "-T2", "--epochs=9", "--monitor=stop",
                "--monitor-patience=2");
    assert_done(&run);
    assert_int_equal(count_lines("stopped"), 3);
    char stages[16384];
    snprintf(stages, sizeof stages,
             "--stages=[{labels: %s, epochs: 5, monitor: stop, monitor-patience: 1},"
             " {labels: none, epochs: 2}]",
             fixture_path("right"));
    run = TRAIN("skipping", NULL, FROZEN, "--data", data, "-T2", stages);
    assert_done(&run);
    assert_int_equal(count_lines("skipping"), 4);
    assert_true(metric("skipping", 2, "epoch") == 2);
    assert_true(metric("skipping", 3, "epoch") == 6);
    assert_true(metric("skipping", 3, "stage") == 2);
    assert_true(isnan(metric("skipping", 3, "agreement")));
}

/* A teacher that is wrong throughout is outgrown as soon as anything is right. */
static void an_outgrown_teacher_gives_nothing_more(void **state)
{
    (void)state;
    struct outcome run =
        TRAIN("outgrown", NULL, TAUGHT("wrong"), "--hard=1", "--soft=0.01",
              "--epochs=9", "--monitor=stop", "--monitor-patience=3", "--lr=0.3");
    assert_done(&run);
    assert_int_equal(count_lines("outgrown"), 3);
    assert_true(metric("outgrown", 3, "outgrown") > 0);
}

#define WATCHED                                                                        \
    "--stages=[{monitor: weigh, labels: %s, epochs: 2},"                               \
    " {monitor: correct-only, labels: %s, epochs: 1},"                                 \
    " {monitor: stop, monitor-patience: 1, labels: %s, lr: 1e-9, epochs: 4},"          \
    " {monitor: report, labels: virtual, epochs: 1}]"

static void a_watched_run_goes_on_to_the_same_bytes(void **state)
{
    const char *data = data_name(true);
    char stages[16384];

    (void)state;
    snprintf(stages, sizeof stages, WATCHED, fixture_path("mixed"),
             fixture_path("mixed"), fixture_path("right"));
    struct outcome run = TRAIN("watched", NULL, MLP, "--data", data, "-T2", stages);
    assert_done(&run);
    const size_t epochs = count_lines("watched");
    assert_true(epochs >= 6 && epochs < 8);
    for (int n = 1; n <= (int)epochs + 1; n++) {
        const bool last = n > (int)epochs;
        const struct trap at = {last ? "monitor.h5" : "checkpoint.h5", last ? 1 : n,
                                SIGKILL, n % 2 == 0};
        char name[24];
        snprintf(name, sizeof name, "watched-%d", n);
        run = TRAIN(name, &at, MLP, "--data", data, "-T2", stages);
        assert_int_equal(run.status, -1);
        run = TRAIN(name, NULL, MLP, "--data", data, "-T2", stages);
        assert_done(&run);
        assert_same_run(name, "watched");
        assert_same_file(in_run(name, "monitor.h5"), in_run("watched", "monitor.h5"));
    }
}

/* A few steps alone: on a busy machine threads wait long for one another. */
static void two_threads_give_the_same_bytes_each_time(void **state)
{
    struct kd_record one, two;

    (void)state;
    for (unsigned n = 0; n < 3; n++) {
        char name[16];
        snprintf(name, sizeof name, "threads-%u", n);
        struct outcome run =
            TRAIN(name, NULL, FROZEN, "--data", data_name(true), "--labels",
                  fixture_path("mixed"), "-T2", "--monitor=weigh", "--epochs=2",
                  "--batch=64", n == 0 ? "--threads=1" : "--threads=2");
        assert_done(&run);
    }
    assert_same_run("threads-1", "threads-2");
    assert_same_file(in_run("threads-1", "monitor.h5"),
                     in_run("threads-2", "monitor.h5"));
    load("threads-0", &one);
    load("threads-1", &two);
    assert_memory_equal(one.flags, two.flags, SAMPLES);
    for (size_t i = 0; i < SAMPLES; i++)
        assert_true(near((double)one.gap[i], (double)two.gap[i]));
    kd_record_clear(&one);
    kd_record_clear(&two);
}

static void every_kind_of_soft_labels_can_be_watched(void **state)
{
    static const char *const kinds[][2] = {{"--distance=mse", "--tail=spread"},
                                           {"--distance=ce", "--tail=spread"},
                                           {"--distance=kl", "--tail=bucket"}};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "kind-%zu", i);
        struct outcome run =
            TRAIN(name, NULL, FROZEN, "--data", data_name(true), "--labels",
                  fixture_path(i == 2 ? "sparse" : "right"), "-T2", kinds[i][0],
                  kinds[i][1], "--monitor=report", "--augment=none", "--epochs=1");
        assert_done(&run);
        assert_true(near(metric(name, 1, "both_right") + metric(name, 1, "behind"), 1));
        if (i == 2)
            assert_true(
                near(metric(name, 1, "fidelity_kl") * 4, metric(name, 1, "soft_loss")));
    }
    struct outcome run =
        TRAIN("mixing", NULL, MLP, "--data", data_name(true), "--labels=virtual",
              "--augment=mixup", "--monitor=correct-only", "--epochs=2");
    assert_done(&run);
    assert_true(metric("mixing", 2, "both_right") + metric("mixing", 2, "behind") >
                0.9);
}

/* -- a finished student -------------------------------------------------- */

/* The teacher `right` watches the "student" `mixed`: two classes of four are behind,
 * all by the same loss. */
static void a_finished_student_is_reported_on(void **state)
{
    const struct kd_monitor_options options = {NULL, 0, 20};
    struct kd_monitor_report *report = NULL;
    const double e2 = exp(2), right = e2 / (e2 + 3), wrong = 1 / (e2 + 3);

    (void)state;
    assert_int_equal(
        kd_monitor(fixture_path("right"), fixture_path("mixed"), &options, &report),
        KD_OK);
    assert_int_equal(report->all.rows, SAMPLES);
    assert_int_equal(report->all.behind, SAMPLES / 2);
    assert_int_equal(report->all.both_right, SAMPLES / 2);
    assert_int_equal(report->all.agreeing, SAMPLES / 2);
    assert_true(report->temperature == 2);
    assert_true(near(report->all.variation / SAMPLES, (right - wrong) / 2));
    assert_true(near(report->all.kl / SAMPLES, (right - wrong) * 2 / 2));
    assert_int_equal(report->each[0].behind, SAMPLES / CLASSES);
    assert_int_equal(report->each[2].behind, 0);
    assert_int_equal(report->listed, 20);
    for (size_t i = 0; i < 20; i++) {
        const struct kd_monitor_entry *e = &report->entries[i];
        assert_int_equal(e->id, i / 2 * CLASSES + i % 2);
        assert_int_equal(e->row.student_best, (e->row.label + 1) % CLASSES);
        assert_true(near(e->row.loss, 0 - log(wrong)));
    }
    kd_monitor_free(report);
    assert_int_equal(kd_monitor(fixture_path("right"), fixture_path("mixed"),
                                &(struct kd_monitor_options){NULL, 4, 0}, &report),
                     KD_OK);
    assert_true(report->temperature == 4 && report->listed == 0);
    kd_monitor_free(report);
}

/* Losses of any order, listed: the largest first, of equals the first id. */
static void the_largest_losses_come_first(void **state)
{
    const struct kd_monitor_options options = {data_name(true), 0, 1000};
    struct kd_monitor_report *report = NULL;

    (void)state;
    struct outcome run = TRAIN("student", NULL, TAUGHT("mixed"), "--epochs=1");
    assert_done(&run);
    assert_int_equal(kd_monitor(fixture_path("right"), in_run("student", "model.h5"),
                                &options, &report),
                     KD_OK);
    assert_int_equal(report->listed, report->all.behind);
    assert_true(report->listed > 4);
    for (size_t i = 1; i < report->listed; i++) {
        const struct kd_monitor_entry *a = &report->entries[i - 1], *b = a + 1;
        assert_true(a->row.loss > b->row.loss ||
                    (a->row.loss == b->row.loss && a->id < b->id));
    }
    const uint64_t worst = report->entries[0].id;
    kd_monitor_free(report);
    assert_int_equal(kd_monitor(fixture_path("right"), in_run("student", "model.h5"),
                                &(struct kd_monitor_options){data_name(true), 0, 3},
                                &report),
                     KD_OK);
    assert_int_equal(report->listed, 3);
    assert_int_equal(report->entries[0].id, worst);
    kd_monitor_free(report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_has_the_figures_worked_out_by_hand),
        cmocka_unit_test(a_bucket_is_one_class),
        cmocka_unit_test(random_rows_are_those_of_the_formulas),
        cmocka_unit_test(weights_and_dropped_rows_are_those_of_the_loss),
        cmocka_unit_test(the_record_counts_what_happened),
        cmocka_unit_test(weights_are_gaps_over_their_mean),
        cmocka_unit_test(a_record_is_read_as_it_was_written),
        cmocka_unit_test(what_is_no_record_is_refused),
        cmocka_unit_test(a_report_changes_no_bit_of_the_network),
        cmocka_unit_test(what_was_not_shown_is_not_recorded),
        cmocka_unit_test(soft_labels_that_are_wrong_are_dropped),
        cmocka_unit_test(samples_are_weighed_by_their_gaps),
        cmocka_unit_test(a_record_of_other_data_is_no_record_to_weigh_by),
        cmocka_unit_test(a_stage_ends_when_nothing_is_gained),
        cmocka_unit_test(an_outgrown_teacher_gives_nothing_more),
        cmocka_unit_test(a_watched_run_goes_on_to_the_same_bytes),
        cmocka_unit_test(two_threads_give_the_same_bytes_each_time),
        cmocka_unit_test(every_kind_of_soft_labels_can_be_watched),
        cmocka_unit_test(a_finished_student_is_reported_on),
        cmocka_unit_test(the_largest_losses_come_first),
    };

    return cmocka_run_group_tests_name("monitor", tests, open_monitored, fixture_close);
}
