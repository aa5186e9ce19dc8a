/* SPDX-License-Identifier: MIT */
/* Merges as a whole: the same bytes however the rows come, resumed, refused. */
#include "cache_fixture.h"

#include "kd/h5.h"
#include "kd/merge.h"
#include "kd/progress.h"
#include "kd/thread.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

/* The paths that a merge reported. */
static struct {
    size_t count;
    size_t maps; /* the most shards of inputs that were open then; of "many" alone */
    char last[8192];
    int signal_fd; /* a byte goes there with each path; -1: none */
} reported = {.signal_fd = -1};

/* Shards in a directory "many" that are mapped now. */
static size_t count_maps(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[8192];
    size_t count = 0;

    while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
        count += strstr(line, "/many/shard-") != NULL;
    if (maps != NULL)
        fclose(maps);
    return count;
}

static enum kd_status note_path(void *context, const char *path)
{
    const size_t maps = count_maps();

    (void)context;
    reported.maps = maps > reported.maps ? maps : reported.maps;
    assert_true(strcmp(path, reported.last) > 0); /* in the order of ids */
    snprintf(reported.last, sizeof reported.last, "%s", path);
    reported.count++;
    if (reported.signal_fd >= 0)
        assert_int_equal(write(reported.signal_fd, "x", 1), 1);
    return KD_OK;
}

static enum kd_status merge_as(struct kd_merge_plan plan, const char *const *inputs,
                               const char *to, uint64_t samples)
{
    struct kd_merge_options options = {.samples_a_shard = samples,
                                       .codec = {.dtype = KD_F16},
                                       .history = "a test of merging",
                                       .finished = note_path};

    reported.count = 0;
    reported.last[0] = '\0';
    return kd_merge_run(&plan, inputs, to, &options);
}

static enum kd_status merge(size_t teachers, const char *const *inputs, const char *to)
{
    return merge_as((struct kd_merge_plan){.teachers = teachers}, inputs, to, 16);
}

static struct kd_identity teacher_identity(int teacher)
{
    struct kd_identity of = fixture_identity(10, 50, 2, KD_F16);

    of.first_id = 10;
    snprintf(of.teacher_name, sizeof of.teacher_name, "t%d", teacher);
    fixture_digest(&of.teacher_digest, 100 + teacher);
    return of;
}

/* A cache of one of the teachers, in shards of `size` samples. */
static const char *make_teacher(const char *name, int teacher, uint64_t size)
{
    struct kd_identity of = teacher_identity(teacher);

    fixture_cache(fixture_path(name), &of, teacher, size);
    return fixture_path(name);
}

static void assert_same_cache(const char *a, const char *b)
{
    struct kd_cache_list list;

    assert_int_equal(kd_cache_list_read(&list, a), KD_OK);
    for (size_t i = 0; i < list.count; i++) {
        char *x = kd_path_join(a, list.entries[i].name);
        char *y = kd_path_join(b, list.entries[i].name);

        assert_same_file(x, y);
        free(x);
        free(y);
    }
    kd_cache_list_clear(&list);
    char *x = kd_path_join(a, "cache.json"), *y = kd_path_join(b, "cache.json");
    assert_same_file(x, y);
    free(x);
    free(y);
}

static void rows_are_merged_as_the_policy_says(void **state)
{
    const char *inputs[2] = {make_teacher("a", 1, 20), make_teacher("b", 2, 50)};
    struct kd_cache *merged = NULL;
    const uint64_t id = 37;
    const uint32_t view = 1;
    float u[2][10], values[10], log_z = 0;

    (void)state;
    assert_int_equal(merge(2, inputs, fixture_path("ab")), KD_OK);
    assert_int_equal(reported.count, 4); /* ids 10-15, 16-31, 32-47, 48-59 */
    assert_int_equal(kd_cache_open(fixture_path("ab"), &merged), KD_OK);
    assert_int_equal(kd_cache_whole(merged), KD_OK);
    assert_int_equal(kd_cache_num_shards(merged), 4);
    assert_int_equal(kd_shard_ids(kd_cache_shard(merged, 1))[0], 16);
    assert_int_equal(kd_shard_label(kd_cache_shard(merged, 2), 10),
                     fixture_label(37, 10));
    assert_int_equal(kd_cache_read(merged, &id, &view, 1, values, &log_z), KD_OK);
    fixture_row(1, id, view, 10, u[0]);
    fixture_row(2, id, view, 10, u[1]);
    for (size_t c = 0; c < 10; c++) {
        double p[2] = {0, 0}, sum[2] = {0, 0};

        for (size_t m = 0; m < 2; m++) {
            for (size_t d = 0; d < 10; d++)
                sum[m] += exp((double)u[m][d]);
            p[m] = exp((double)u[m][c]) / sum[m];
        }
        double q = exp((double)values[c] - (double)log_z), mean = (p[0] + p[1]) / 2;
        assert_true(fabs(q - mean) < 0.005 * mean);
    }
    kd_cache_close(merged);
}

static void the_merged_cache_says_where_it_comes_from(void **state)
{
    const char *inputs[2] = {make_teacher("ia", 1, 50), make_teacher("ib", 2, 50)};
    struct kd_merge_plan plan = {
        .policy = KD_POLICY_MEAN_LOGIT, .teachers = 2, .weights = {1, 3}};
    const struct kd_identity *of = NULL;
    struct kd_cache *merged = NULL;
    char parents[128];

    (void)state;
    assert_int_equal(merge_as(plan, inputs, fixture_path("iab"), 64), KD_OK);
    assert_int_equal(kd_cache_open(fixture_path("iab"), &merged), KD_OK);
    of = kd_cache_identity(merged);
    snprintf(parents, sizeof parents, "%032x,%032x", 101, 102);
    assert_string_equal(of->parents, parents);
    assert_string_equal(of->policy, "mean-logit");
    assert_string_equal(of->policy_parameters, "weights=0.25,0.75");
    assert_string_equal(of->teacher_name, "t1+t2");
    assert_int_equal(of->kind, KD_KIND_MERGED);
    assert_int_equal(of->value_kind, KD_VALUE_LOGITS);
    kd_cache_close(merged);
}

static void a_merged_cache_can_be_merged_again(void **state)
{
    const char *inputs[2] = {make_teacher("ma", 1, 50), make_teacher("mb", 2, 50)};
    const char *again[2] = {fixture_path("mab"), make_teacher("mc", 3, 50)};
    struct kd_cache *merged = NULL;
    char parents[128];

    (void)state;
    assert_int_equal(merge(2, inputs, fixture_path("mab")), KD_OK);
    assert_int_equal(merge(2, again, fixture_path("mabc")), KD_OK);
    assert_int_equal(kd_cache_open(fixture_path("mabc"), &merged), KD_OK);
    snprintf(parents, sizeof parents, "%032x,%032x,%032x", 101, 102, 103);
    assert_string_equal(kd_cache_identity(merged)->parents, parents);
    kd_cache_close(merged);

    struct kd_merge_plan plan = {.policy = KD_POLICY_MEAN_LOGIT, .teachers = 2};
    again[0] = fixture_path("mab");
    again[1] = fixture_path("mc");
    assert_int_equal(merge_as(plan, again, fixture_path("no"), 16), KD_EDATA);
    assert_says("holds log-probabilities, but mean-logit needs logits");
}

static void sharding_and_threads_do_not_matter(void **state)
{
    const char *coarse[2] = {make_teacher("sa", 1, 50), make_teacher("sb", 2, 60)};
    const char *fine[2] = {make_teacher("sc", 1, 1), make_teacher("sd", 2, 7)};

    (void)state;
    assert_int_equal(merge(2, coarse, fixture_path("s1")), KD_OK);
    kd_threads_set(3);
    assert_int_equal(merge(2, fine, fixture_path("s2")), KD_OK);
    kd_threads_set(1);
    assert_same_cache(fixture_path("s1"), fixture_path("s2"));
}

/* Hands the shards `first` to `last` of a directory, either way round, to a pipe. */
static void hand_over(int fd, const char *directory, int first, int last)
{
    for (int i = first, step = first <= last ? 1 : -1; i != last + step; i += step) {
        char *path = kd_cache_shard_path(directory, (uint64_t)i);
        char *line = kd_format("%s\n", path);

        assert_int_equal(write(fd, line, strlen(line)), (ssize_t)strlen(line));
        free(path);
        free(line);
    }
}

/* Rows enough for several threads, shares and stretches of a share. */
static void the_size_of_a_batch_does_not_matter(void **state)
{
    static const uint64_t sizes[] = {1000, 7};
    struct kd_identity of = fixture_identity(200, 400, 1, KD_F16);
    const char *inputs[2] = {fixture_path("wide-a"), fixture_path("wide-b")};
    static uint64_t id[400];
    static uint32_t view[400];
    static float values[2][400 * 200], log_z[2][400];

    (void)state;
    fixture_cache(inputs[0], &of, 1, 123);
    fixture_digest(&of.teacher_digest, 77);
    fixture_cache(inputs[1], &of, 2, 400);
    for (size_t i = 0; i < 400; i++)
        id[i] = i;
    for (size_t way = 0; way < 2; way++) {
        const char *to = fixture_path(way == 0 ? "wide-large" : "wide-small");
        struct kd_cache *merged = NULL;

        kd_threads_set(way == 0 ? 3 : 1);
        assert_int_equal(
            merge_as((struct kd_merge_plan){.teachers = 2}, inputs, to, sizes[way]),
            KD_OK);
        assert_int_equal(kd_cache_open(to, &merged), KD_OK);
        assert_int_equal(kd_cache_read(merged, id, view, 400, values[way], log_z[way]),
                         KD_OK);
        kd_cache_close(merged);
    }
    kd_threads_set(1);
    assert_memory_equal(values[0], values[1], sizeof values[0]);
    assert_memory_equal(log_z[0], log_z[1], sizeof log_z[0]);
}

static void finished_caches_are_opened_as_they_are_needed(void **state)
{
    const char *inputs[1] = {make_teacher("many", 1, 1)};

    (void)state;
    reported.maps = 0;
    assert_int_equal(merge_as((struct kd_merge_plan){.teachers = 1}, inputs,
                              fixture_path("few-open"), 2),
                     KD_OK);
    assert_int_equal(reported.count, 25);
    assert_in_range(reported.maps, 0, 4); /* of 50 */
}

static void a_shard_has_a_size_by_default(void **state)
{
    const char *inputs[1] = {make_teacher("default", 1, 5)};

    (void)state;
    assert_int_equal(merge_as((struct kd_merge_plan){.teachers = 1}, inputs,
                              fixture_path("one-shard"), 0),
                     KD_OK);
    assert_int_equal(reported.count, 1);
}

static void arrival_does_not_matter(void **state)
{
    const char *inputs[2] = {make_teacher("oa", 1, 10), make_teacher("ob", 2, 60)};
    const char *piped[2] = {NULL, inputs[1]};
    char name[32];
    int ends[2];

    (void)state;
    assert_int_equal(merge(2, inputs, fixture_path("o1")), KD_OK);
    assert_int_equal(pipe(ends), 0);
    hand_over(ends[1], fixture_path("oa"), 5, 1);
    close(ends[1]);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    piped[0] = name;
    assert_int_equal(merge(2, piped, fixture_path("o2")), KD_OK);
    close(ends[0]);
    assert_same_cache(fixture_path("o1"), fixture_path("o2"));
}

/* The producer hands over its last shards only once the first merged one is there:
 * who waits for everything first would wait for ever. */
static void stages_overlap(void **state)
{
    const char *inputs[2] = {NULL, make_teacher("vb", 2, 60)};
    const char *slow = make_teacher("va", 1, 16);
    char name[32], byte = 0;
    int ends[2], done[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(pipe(done), 0);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        close(done[1]);
        hand_over(ends[1], slow, 0, 1);
        ssize_t got = read(done[0], &byte, 1);
        hand_over(ends[1], slow, 3, 2);
        _exit(got == 1 ? 0 : 1);
    }
    close(ends[1]);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    inputs[0] = name;
    reported.signal_fd = done[1];
    assert_int_equal(merge(2, inputs, fixture_path("v")), KD_OK);
    reported.signal_fd = -1;
    int how = 0;
    waitpid(child, &how, 0);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    assert_int_equal(reported.count, 4);
    close(ends[0]);
    close(done[0]);
    close(done[1]);
}

/* Two producers at once. The second hands over all it has while the first has still to
 * come: a merge that looks only at the one it waits for would find the other ready at
 * once, for ever. */
static void pipes_of_different_speeds_do_not_starve_each_other(void **state)
{
    const char *plain[2] = {make_teacher("xa", 1, 16), make_teacher("xb", 2, 16)};
    char names[2][32];
    const char *inputs[2] = {names[0], names[1]};
    int ends[2][2];

    (void)state;
    assert_int_equal(merge(2, plain, fixture_path("x1")), KD_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe(ends[i]), 0);
        snprintf(names[i], sizeof names[i], "/dev/fd/%d", ends[i][0]);
    }
    pid_t child = fork();
    if (child == 0) {
        const struct timespec pause = {0, 20000000};
        hand_over(ends[0][1], plain[0], 0, 0);
        hand_over(ends[1][1], plain[1], 0, 1);
        nanosleep(&pause, NULL);
        hand_over(ends[1][1], plain[1], 2, 3);
        nanosleep(&pause, NULL);
        hand_over(ends[0][1], plain[0], 1, 3);
        _exit(0);
    }
    close(ends[0][1]);
    close(ends[1][1]);
    alarm(20);
    assert_int_equal(merge(2, inputs, fixture_path("x2")), KD_OK);
    alarm(0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(ends[0][0]);
    close(ends[1][0]);
    assert_same_cache(fixture_path("x1"), fixture_path("x2"));
}

static ino_t inode(const char *path)
{
    struct stat facts;

    assert_int_equal(stat(path, &facts), 0);
    return facts.st_ino;
}

static void finished_shards_are_kept(void **state)
{
    const char *inputs[2] = {make_teacher("ra", 1, 9), make_teacher("rb", 2, 60)};
    ino_t before[3];
    static const char *const names[] = {"r/shard-000000.h5", "r/shard-000002.h5",
                                        "r/shard-000003.h5"};

    (void)state;
    assert_int_equal(merge(2, inputs, fixture_path("r")), KD_OK);
    assert_int_equal(merge(2, inputs, fixture_path("whole")), KD_OK);
    for (size_t i = 0; i < 3; i++)
        before[i] = inode(fixture_path(names[i]));
    assert_int_equal(remove(fixture_path("r/shard-000001.h5")), 0);
    assert_int_equal(remove(fixture_path("r/cache.json")), 0);
    assert_int_equal(kd_file_write(fixture_path("r/shard-000001.h5.part"), "torn", 4),
                     KD_OK);
    assert_int_equal(merge(2, inputs, fixture_path("r")), KD_OK);
    assert_int_equal(reported.count, 4);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(before[i], inode(fixture_path(names[i])));
    assert_int_equal(access(fixture_path("r/shard-000001.h5.part"), F_OK), -1);
    assert_same_cache(fixture_path("whole"), fixture_path("r"));
}

static void a_finished_merge_is_left_alone(void **state)
{
    const char *inputs[2] = {make_teacher("na", 1, 9), make_teacher("nb", 2, 60)};
    ino_t before = 0;

    (void)state;
    assert_int_equal(merge(2, inputs, fixture_path("n")), KD_OK);
    before = inode(fixture_path("n/cache.json"));
    assert_int_equal(merge(2, inputs, fixture_path("n")), KD_OK);
    assert_int_equal(reported.count, 4);
    assert_int_equal(before, inode(fixture_path("n/cache.json")));
}

static void another_merges_directory_is_refused(void **state)
{
    const char *inputs[2] = {make_teacher("xa", 1, 20), make_teacher("xb", 2, 60)};
    struct kd_merge_plan other = {.teachers = 2, .weights = {1, 3}};
    struct kd_identity warm = teacher_identity(1);

    (void)state;
    assert_int_equal(merge(2, inputs, fixture_path("x")), KD_OK);
    assert_int_equal(merge_as(other, inputs, fixture_path("x"), 16), KD_EDATA);
    assert_says("x/shard-000000.h5: policy_parameters is 'weights=0.5,0.5', not "
                "'weights=0.25,0.75'; choose another directory");
    assert_int_equal(
        merge_as((struct kd_merge_plan){.teachers = 2}, inputs, fixture_path("x"), 20),
        KD_EDATA);
    assert_says("has 12 rows of samples 10 to 15, not 20 of 10 to 19");
    assert_int_equal(merge(2, inputs, fixture_path("xa")), KD_EDATA);
    assert_says("kind is teacher, not merged; choose another directory");

    warm.temperature = 2;
    fixture_cache(fixture_path("xw"), &warm, 1, 20);
    inputs[0] = fixture_path("xw");
    assert_int_equal(merge(1, inputs, fixture_path("x")), KD_EDATA);
    assert_says("x/shard-000000.h5: temperature is 4, not 2; choose another directory");
    assert_int_equal(access(fixture_path("x/shard-000000.h5"), F_OK), 0);
}

/* A merge with a teacher whose identity was changed is refused in these words. */
static void check_refused(const struct kd_identity *changed, const char *words)
{
    const char *inputs[2] = {make_teacher("ca", 1, 60), fixture_path("cb")};

    fixture_remove(fixture_path("cb"));
    fixture_cache(fixture_path("cb"), changed, 2, 60);
    assert_int_equal(merge(2, inputs, fixture_path("c")), KD_EDATA);
    assert_says("cb: cannot be merged with ");
    assert_says(words);
    assert_int_equal(access(fixture_path("c/shard-000000.h5"), F_OK), -1);
}

static void teachers_that_do_not_match_are_refused(void **state)
{
    struct kd_identity of = teacher_identity(2);

    (void)state;
    of.temperature = 2;
    check_refused(&of, "temperature is 2, not 4");
    of = teacher_identity(2);
    of.num_classes = of.codec.k = 11;
    check_refused(&of, "num_classes is 11, not 10");
    of = teacher_identity(2);
    fixture_digest(&of.dataset_digest, 77);
    check_refused(&of, "dataset_digest is ");
    of = teacher_identity(2);
    fixture_digest(&of.class_map_digest, 77);
    check_refused(&of, "class_map_digest is ");
    of = teacher_identity(2);
    of.views = 3;
    check_refused(&of, "views is 3, not 2");
    of = teacher_identity(2);
    of.seed = 3;
    check_refused(&of, "seed is 3, not 18446744073709551615");
    of = teacher_identity(2);
    of.num_samples = 49;
    check_refused(&of, "num_samples is 49, not 50");
}

static void the_same_teacher_twice_is_allowed(void **state)
{
    const char *inputs[2] = {make_teacher("ta", 1, 60), fixture_path("ta")};

    (void)state;
    assert_int_equal(merge(2, inputs, fixture_path("t")), KD_OK);
}

/* A cache of one shard with one view, all of whose labels are `label`. */
static const char *make_labelled(const char *name, int teacher, const int32_t label[3])
{
    struct kd_identity of = fixture_identity(4, 3, 1, KD_F32);
    const uint64_t id[3] = {0, 1, 2};
    const uint32_t view[3] = {0};
    const float scaled[12] = {1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4};
    struct kd_shard_writer *writer = NULL;

    fixture_digest(&of.teacher_digest, teacher);
    assert_int_equal(kd_shard_writer_open(fixture_path(name), &of, 3, "", &writer),
                     KD_OK);
    assert_int_equal(kd_shard_writer_add(writer, &(struct kd_rows){.count = 3,
                                                                   .id = id,
                                                                   .view = view,
                                                                   .label = label,
                                                                   .scaled = scaled}),
                     KD_OK);
    assert_int_equal(kd_shard_writer_commit(writer), KD_OK);
    return fixture_path(name);
}

static void unknown_labels_yield_to_known_ones(void **state)
{
    const char *inputs[2] = {make_labelled("la.h5", 1, (const int32_t[]){-1, 2, -1}),
                             make_labelled("lb.h5", 2, (const int32_t[]){3, 2, -1})};
    struct kd_cache *merged = NULL;

    (void)state;
    assert_int_equal(merge(2, inputs, fixture_path("l")), KD_OK);
    assert_int_equal(kd_cache_open(fixture_path("l"), &merged), KD_OK);
    assert_int_equal(kd_shard_label(kd_cache_shard(merged, 0), 0), 3);
    assert_int_equal(kd_shard_label(kd_cache_shard(merged, 0), 1), 2);
    assert_int_equal(kd_shard_label(kd_cache_shard(merged, 0), 2), -1);
    kd_cache_close(merged);
}

static void labels_that_disagree_are_refused(void **state)
{
    const char *inputs[2] = {make_labelled("da.h5", 1, (const int32_t[]){0, 1, 2}),
                             make_labelled("db.h5", 2, (const int32_t[]){0, 3, 2})};

    (void)state;
    assert_int_equal(merge(2, inputs, fixture_path("d")), KD_EDATA);
    assert_says("sample 1 has the label 1 in ");
    assert_says("da.h5 and 3 in ");
    assert_int_equal(access(fixture_path("d/shard-000000.h5"), F_OK), -1);
    assert_int_equal(access(fixture_path("d/shard-000000.h5.part"), F_OK), -1);
}

/* Merges with the shards first..last of a teacher of 5 shards, from a pipe. */
static enum kd_status merge_part(const char *teacher, int first, int last, bool twice,
                                 const char *to)
{
    enum kd_status status = KD_EBUG;
    const char *input = NULL;
    char name[32];
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    hand_over(ends[1], teacher, first, last);
    if (twice)
        hand_over(ends[1], teacher, first, first);
    close(ends[1]);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    input = name;
    status = merge(1, &input, to);
    close(ends[0]);
    return status;
}

static void an_input_that_ends_early_is_named(void **state)
{
    const char *teacher = make_teacher("ea", 1, 10);

    (void)state;
    assert_int_equal(merge_part(teacher, 1, 3, false, fixture_path("e")), KD_EDATA);
    assert_says("ended before sample 40, view 0 came");
    assert_int_equal(reported.count, 2); /* 10-15, 16-31 */
    assert_int_equal(access(fixture_path("e/cache.json"), F_OK), -1);
    assert_int_equal(merge_part(teacher, 1, 5, false, fixture_path("e")), KD_OK);
    assert_int_equal(merge_part(teacher, 2, 5, false, fixture_path("e2")), KD_EDATA);
    assert_says("ended before sample 10, view 0 came");
}

static void a_shard_that_comes_twice_is_refused(void **state)
{
    const char *teacher = make_teacher("wa", 1, 10);

    (void)state;
    assert_int_equal(merge_part(teacher, 1, 5, true, fixture_path("w")), KD_EDATA);
    assert_says("overlap");
    assert_says("wa/shard-000001.h5");
}

static void a_damaged_row_stops_the_merge(void **state)
{
    const char *input = make_teacher("ga", 1, 60);
    struct kd_array_info info;
    struct kd_h5 *file = NULL;
    FILE *raw = NULL;

    (void)state;
    assert_int_equal(kd_h5_open(fixture_path("ga/shard-000000.h5"), &file), KD_OK);
    assert_int_equal(kd_h5_info(file, "logits", &info), KD_OK);
    kd_h5_close(file);
    raw = fopen(fixture_path("ga/shard-000000.h5"), "r+b");
    fseek(raw, (long)(info.offset + 20 * 45), SEEK_SET); /* row 45: id 32, view 1 */
    fputc(0xc3, raw);
    fclose(raw);
    assert_int_equal(merge(1, &input, fixture_path("g")), KD_EDATA);
    assert_says("ga/shard-000000.h5");
    assert_says("sample 32, view 1");
    assert_int_equal(access(fixture_path("g/shard-000001.h5"), F_OK), 0);
    assert_int_equal(access(fixture_path("g/shard-000002.h5"), F_OK), -1);
    assert_int_equal(access(fixture_path("g/shard-000002.h5.part"), F_OK), -1);
}

/* What the merge in a child process ended with. */
static int merge_in_child(bool interrupted, const char *input, const char *to)
{
    int how = 0;
    pid_t child = fork();

    if (child == 0) {
        kd_catch_signals();
        if (interrupted)
            raise(SIGTERM);
        _exit((int)merge(1, &input, to));
    }
    waitpid(child, &how, 0);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

static void an_interrupted_merge_goes_on_later(void **state)
{
    const char *input = make_teacher("ka", 1, 60);

    (void)state;
    assert_int_equal(merge_in_child(true, input, fixture_path("k")), KD_EINTERRUPTED);
    assert_int_equal(access(fixture_path("k/shard-000000.h5.part"), F_OK), -1);
    assert_int_equal(access(fixture_path("k/cache.json"), F_OK), -1);
    assert_int_equal(merge_in_child(false, input, fixture_path("k")), KD_OK);
    assert_int_equal(access(fixture_path("k/cache.json"), F_OK), 0);
}

static void one_process_at_a_time_writes_a_directory(void **state)
{
    const char *input = make_teacher("pa", 1, 60);
    struct kd_lock lock;

    (void)state;
    assert_int_equal(kd_make_directory(fixture_path("p")), KD_OK);
    assert_int_equal(kd_lock_open(&lock, fixture_path("p")), KD_OK);
    assert_int_equal(merge_in_child(false, input, fixture_path("p")), KD_ECREATE);
    kd_lock_close(&lock);
    assert_int_equal(merge_in_child(false, input, fixture_path("p")), KD_OK);
}

static void stdin_can_be_only_one_input(void **state)
{
    const char *inputs[2] = {"-", "-"};

    (void)state;
    assert_int_equal(merge(2, inputs, fixture_path("stdin")), KD_EUSAGE);
    assert_says("only one cache can come from stdin");
}

/* -- what policies need of a run --------------------------------------------------- */

/* The merged row of (id, view) as log p, its greatest value, and what the cache is. */
static struct kd_identity read_row(const char *where, uint64_t id, uint32_t view,
                                   double *log_p, double *row_max)
{
    struct kd_cache *cache = NULL;
    struct kd_identity of;
    const struct kd_shard *shard = NULL;
    uint64_t row = 0;
    float values[10], log_z = 0;

    assert_int_equal(kd_cache_open(where, &cache), KD_OK);
    of = *kd_cache_identity(cache);
    assert_int_equal(kd_cache_read(cache, &id, &view, 1, values, &log_z), KD_OK);
    for (size_t c = 0; c < 10; c++)
        log_p[c] = (double)values[c] - (double)log_z;
    assert_true(kd_cache_find(cache, id, view, &shard, &row));
    *row_max = (double)kd_shard_row_max(shard, row);
    kd_cache_close(cache);
    return of;
}

/* log softmax(u / t) of a teacher's row. */
static void teacher_row(int teacher, uint64_t id, uint32_t view, double t,
                        double *log_p)
{
    float u[10];
    double sum = 0;

    fixture_row(teacher, id, view, 10, u);
    for (size_t c = 0; c < 10; c++)
        sum += exp((double)u[c] / t);
    for (size_t c = 0; c < 10; c++)
        log_p[c] = (double)u[c] / t - log(sum);
}

static void labels_reach_the_policy(void **state)
{
    const char *inputs[2] = {make_teacher("la1", 1, 20), make_teacher("la2", 2, 50)};
    const struct kd_merge_plan plan = {.policy = KD_POLICY_BEST_BY_LABEL,
                                       .teachers = 2};
    struct kd_identity of;
    size_t chosen[2] = {0};

    (void)state;
    assert_int_equal(merge_as(plan, inputs, fixture_path("la"), 16), KD_OK);
    for (uint64_t id = 10; id < 60; id++) {
        const size_t label = (size_t)fixture_label(id, 10);
        double is[10], own[2][10], cold[2][10], top = -INFINITY, row_max = 0;
        float u[10];
        size_t best = 0;

        for (int m = 0; m < 2; m++) {
            teacher_row(m + 1, id, 1, 1, own[m]);
            teacher_row(m + 1, id, 1, 0.25, cold[m]); /* at temperature 1: T is 4 */
        }
        best = cold[1][label] > cold[0][label];
        chosen[best]++;
        of = read_row(fixture_path("la"), id, 1, is, &row_max);
        fixture_row((int)best + 1, id, 1, 10, u);
        for (size_t c = 0; c < 10; c++) {
            assert_true(fabs(is[c] - own[best][c]) < 0.01);
            top = fmax(top, (double)u[c]);
        }
        assert_true(fabs(row_max - top) < 0.01); /* logits keep their level */
    }
    assert_true(chosen[0] > 10 && chosen[1] > 10);
    assert_int_equal(of.value_kind, KD_VALUE_LOGITS); /* one teacher's, as they are */
    assert_string_equal(of.policy_parameters, "weigh-at=1");
}

static void plans_are_fitted_before_anything_is_merged(void **state)
{
    const char *inputs[2] = {make_teacher("fa1", 1, 20), make_teacher("fa2", 2, 50)};
    struct kd_merge_plan plan = {.policy = KD_POLICY_STACKED,
                                 .teachers = 2,
                                 .calibrate = true,
                                 .holdout_begin = 30,
                                 .holdout_end = 50};
    struct kd_identity of;
    double is[10], p[2][10], weights[2], by[2], row_max = 0;

    (void)state;
    assert_int_equal(merge_as(plan, inputs, fixture_path("fa"), 16), KD_OK);
    of = read_row(fixture_path("fa"), 12, 1, is, &row_max);
    assert_int_equal(sscanf(of.policy_parameters,
                            "weights=%lf,%lf calibration=%lf,%lf holdout=30:50",
                            &weights[0], &weights[1], &by[0], &by[1]),
                     4);
    assert_true(by[0] > 1 && by[1] > 1); /* labels are no better than chance */
    for (int m = 0; m < 2; m++)
        teacher_row(m + 1, 12, 1, by[m], p[m]);
    for (size_t c = 0; c < 10; c++)
        assert_true(fabs(is[c] - log(weights[0] * exp(p[0][c]) +
                                     weights[1] * exp(p[1][c]))) < 0.01);

    /* the same again, of the same fit; other rows to fit on are another merge */
    assert_int_equal(merge_as(plan, inputs, fixture_path("fa"), 16), KD_OK);
    plan.holdout_end = 40;
    assert_int_equal(merge_as(plan, inputs, fixture_path("fa"), 16), KD_EDATA);
    assert_says("policy_parameters is");
    plan.holdout_end = 61;
    assert_int_equal(merge_as(plan, inputs, fixture_path("fb"), 16), KD_EUSAGE);
    assert_says("--holdout: the caches have the ids 10 to 59");
}

/* Held-out ids come last; shards of the first ones are kept open until then. */
static void held_out_ids_may_come_late(void **state)
{
    const char *inputs[2] = {make_teacher("ha1", 1, 10), make_teacher("ha2", 2, 60)};
    const char *piped[2] = {NULL, inputs[1]};
    const struct kd_merge_plan plan = {.policy = KD_POLICY_CLASS_WEIGHTS,
                                       .teachers = 2,
                                       .holdout_begin = 43,
                                       .holdout_end = 60};
    char name[32];
    int ends[2];

    (void)state;
    kd_threads_set(3);
    assert_int_equal(merge_as(plan, inputs, fixture_path("h1"), 16), KD_OK);
    kd_threads_set(1);
    assert_int_equal(pipe(ends), 0);
    hand_over(ends[1], fixture_path("ha1"), 1, 5);
    close(ends[1]);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    piped[0] = name;
    assert_int_equal(merge_as(plan, piped, fixture_path("h2"), 16), KD_OK);
    close(ends[0]);
    assert_same_cache(fixture_path("h1"), fixture_path("h2"));
}

static void fits_need_labels(void **state)
{
    const char *inputs[2] = {make_labelled("na.h5", 1, (const int32_t[]){3, -1, -1}),
                             make_labelled("nb.h5", 2, (const int32_t[]){-1, 2, -1})};
    struct kd_merge_plan plan = {
        .policy = KD_POLICY_GREEDY, .teachers = 2, .holdout_end = 3};

    (void)state;
    assert_int_equal(merge_as(plan, inputs, fixture_path("n0"), 16), KD_EDATA);
    assert_says("--holdout: sample 2 has no label");
    plan.holdout_end = 2;
    assert_int_equal(merge_as(plan, inputs, fixture_path("n1"), 16), KD_OK);
    plan = (struct kd_merge_plan){.policy = KD_POLICY_CORRECT, .teachers = 2};
    assert_int_equal(merge_as(plan, inputs, fixture_path("n2"), 16), KD_EDATA);
    assert_says("sample 2, view 0: it has no label");
}

static void what_a_private_vote_costs_is_written_down(void **state)
{
    const char *inputs[3] = {make_teacher("ya", 1, 50), make_teacher("yb", 2, 50),
                             make_teacher("yc", 3, 50)};
    const struct kd_merge_plan plan = {.policy = KD_POLICY_NOISY_VOTE,
                                       .teachers = 3,
                                       .noise = {KD_NOISE_GNMAX, .scale = 2},
                                       .seed = 11};
    const struct kd_privacy cost = kd_privacy_cost(&plan.noise, 100, 100, 1e-5);
    struct kd_identity of;
    double is[10], row_max = 0, epsilon = 0;

    (void)state;
    assert_int_equal(merge_as(plan, inputs, fixture_path("y"), 16), KD_OK);
    of = read_row(fixture_path("y"), 12, 1, is, &row_max);
    assert_int_equal(sscanf(of.policy_parameters,
                            "noise=gnmax noise-scale=2 questions=100 epsilon=%lf",
                            &epsilon),
                     1);
    assert_true(epsilon >= cost.epsilon && epsilon < cost.epsilon + 2e-6);
    for (size_t c = 0; c < 10; c++)
        assert_true(is[c] == 0 || is[c] < -60000);
    kd_threads_set(2);
    assert_int_equal(merge_as(plan, inputs, fixture_path("y2"), 16), KD_OK);
    kd_threads_set(1);
    assert_same_cache(fixture_path("y"), fixture_path("y2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_merged_as_the_policy_says),
        cmocka_unit_test(the_merged_cache_says_where_it_comes_from),
        cmocka_unit_test(a_merged_cache_can_be_merged_again),
        cmocka_unit_test(sharding_and_threads_do_not_matter),
        cmocka_unit_test(the_size_of_a_batch_does_not_matter),
        cmocka_unit_test(finished_caches_are_opened_as_they_are_needed),
        cmocka_unit_test(a_shard_has_a_size_by_default),
        cmocka_unit_test(arrival_does_not_matter),
        cmocka_unit_test(stages_overlap),
        cmocka_unit_test(pipes_of_different_speeds_do_not_starve_each_other),
        cmocka_unit_test(finished_shards_are_kept),
        cmocka_unit_test(a_finished_merge_is_left_alone),
        cmocka_unit_test(another_merges_directory_is_refused),
        cmocka_unit_test(teachers_that_do_not_match_are_refused),
        cmocka_unit_test(the_same_teacher_twice_is_allowed),
        cmocka_unit_test(unknown_labels_yield_to_known_ones),
        cmocka_unit_test(labels_that_disagree_are_refused),
        cmocka_unit_test(an_input_that_ends_early_is_named),
        cmocka_unit_test(a_shard_that_comes_twice_is_refused),
        cmocka_unit_test(a_damaged_row_stops_the_merge),
        cmocka_unit_test(an_interrupted_merge_goes_on_later),
        cmocka_unit_test(one_process_at_a_time_writes_a_directory),
        cmocka_unit_test(stdin_can_be_only_one_input),
        cmocka_unit_test(labels_reach_the_policy),
        cmocka_unit_test(plans_are_fitted_before_anything_is_merged),
        cmocka_unit_test(held_out_ids_may_come_late),
        cmocka_unit_test(fits_need_labels),
        cmocka_unit_test(what_a_private_vote_costs_is_written_down),
    };

    kd_threads_set(1);
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
